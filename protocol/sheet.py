"""The code on a printed result sheet: which station, revision and document it is of, and its figures (docs/protocol.md, section 9).

It is a link to the station's page on a public board, which compares the sheet with the record. There is one way to write each, and nothing else is read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from protocol.errors import BallotboardError
from protocol.paper import StationResult

SCHEME = "ballotboard:"
"""How the code begins where no public board is known; else with the board's address, so that any phone opens the right page."""

MAX_LENGTH = 8_000
"""Characters: more than the largest QR code holds."""


class BadSheetCode(BallotboardError):
    """What was read is not the code of a result sheet."""


@dataclass(frozen=True, slots=True)
class SheetCode:
    """What the code says: the first half of the election id (16 bytes), station, revision, the document that was signed (its SHA-256), its
    figures `papers` (issued, counted, spoiled, not returned), and `contests`, each (contest, votes of every option …, blank, invalid)."""

    election: bytes
    station: int
    revision: int
    document: bytes
    papers: tuple[int, int, int, int]
    contests: tuple[tuple[int, ...], ...]


def sheet_code(result: StationResult, election: bytes) -> SheetCode:
    """The code of a result in the election with this id (32 bytes)."""
    return SheetCode(
        election[:16], result.station, result.revision, result.document_hash(),
        (result.issued, result.counted, result.spoiled, result.unreturned),
        tuple((c.contest, *c.counts, c.blank, c.invalid) for c in result.contests),
    )  # fmt: skip


def print_code(code: SheetCode, board: str = "") -> str:
    """The text of the code: a link to the station's page on a public board, or the same without one."""
    base = f"{board.rstrip('/')}/" if board else SCHEME
    votes = "".join(f"&votes={_join(contest)}" for contest in code.contests)
    return (
        f"{base}stations/{code.station}?election={code.election.hex()}&revision={code.revision}&document={code.document.hex()}"
        f"&papers={_join(code.papers)}{votes}"
    )


def read_sheet_code(text: str) -> SheetCode:
    """The inverse of print_code, whatever the board. Raises BadSheetCode."""
    found = _CODE.search(text.strip()) if len(text) <= MAX_LENGTH else None
    if not found:
        raise BadSheetCode(
            "this is not the code of a result sheet: it does not name an election, station, revision, document and papers as we write them"
        )
    issued, counted, spoiled, unreturned = _split(found["papers"])
    contests = tuple(_split(votes) for votes in found["votes"].split("&votes=")[1:])
    if len({contest[0] for contest in contests}) < len(contests):
        raise BadSheetCode("the code of a result sheet names a contest twice")
    return SheetCode(
        bytes.fromhex(found["election"]), int(found["station"]), int(found["revision"]), bytes.fromhex(found["document"]),
        (issued, counted, spoiled, unreturned), contests,
    )  # fmt: skip


_N = "(?:0|[1-9][0-9]{0,9})"
"""A number as we write it: of ten digits at most, and without a zero in front."""

_CODE = re.compile(
    rf"(?:^{SCHEME}|/)stations/(?P<station>{_N})\?election=(?P<election>[0-9a-f]{{32}})&revision=(?P<revision>{_N})&document=(?P<document>[0-9a-f]{{64}})"
    rf"&papers=(?P<papers>{_N}(?:\.{_N}){{3}})(?P<votes>(?:&votes={_N}(?:\.{_N}){{2,}})*)$",
    re.ASCII,
)


def _join(numbers: tuple[int, ...]) -> str:
    return ".".join(map(str, numbers))


def _split(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(".")))
