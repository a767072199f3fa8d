"""A station's result: from what the officers counted to the document of docs/protocol.md, section 9, and to a sheet of paper. No file, no network."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from protocol.attachments import Station, Unit
from protocol.errors import BallotboardError
from protocol.manifest import Contest, Manifest
from protocol.paper import ContestCount, StationResult, arithmetic

BLANK, INVALID = "blank", "invalid"
"""What papers without a valid choice are counted under. Where a contest has an option `blank`, blank papers are counted there."""


class StationRefusal(BallotboardError):
    """What a station does not do. `key` names the reason, and `values` fill it in, for a page that has words of its own (station.words)."""

    def __init__(self, message: str, key: str = "", **values: Any) -> None:
        super().__init__(message)
        self.key, self.values = key, values


class DoesNotBalance(StationRefusal):
    """The figures contradict each other; the message has every contradiction."""


@dataclass(frozen=True, slots=True)
class Counted:
    """What the officers found: papers issued, spoiled and not returned, papers in the box, and per contest index its counts."""

    issued: int
    spoiled: int
    unreturned: int
    in_box: int
    contests: tuple[ContestCount, ...]


def build(
    counted: Counted, manifest: Manifest, stations: Sequence[Station], units: Sequence[Unit], station: int,
    revision: int, reason: str, opening: bytes, closing: bytes,
) -> StationResult:  # fmt: skip
    """The document with a fresh random salt (its hash is public before it is, and counts alone could be guessed from it).

    `opening` and `closing` are journal hashes. Raises DoesNotBalance.
    """
    result = StationResult(
        station=station, revision=revision, practice=manifest.practice, reason=reason, issued=counted.issued, counted=counted.in_box,
        spoiled=counted.spoiled, unreturned=counted.unreturned, contests=counted.contests, opening=opening, closing=closing,
        salt=secrets.token_bytes(32),
    )  # fmt: skip
    wrong = arithmetic(result, manifest, stations, units)
    if wrong:
        raise DoesNotBalance(
            f"the figures do not add up: {'; '.join(wrong)}. Nothing was recorded: count again",
            "no-balance",
            wrong=wrong,
        )
    return result


def counted_of(result: StationResult) -> Counted:
    """What the officers had found: the inverse of `build`."""
    return Counted(result.issued, result.spoiled, result.unreturned, result.counted, result.contests)


def contest_count(index: int, contest: Contest, counts: Mapping[str, int]) -> ContestCount:
    """Counts by name as one contest's row. Every option must have a count, be it 0; `blank` and `invalid` may be left out."""
    left = dict(counts)
    missing = [option for option in contest.options if option not in left]
    if missing:
        raise DoesNotBalance(
            f"contest {contest.id}: no count for {', '.join(missing)}; write 0 where there is none",
            "no-figure",
            name=", ".join(missing),
        )
    row = tuple(left.pop(option) for option in contest.options)
    blank, invalid = left.pop(BLANK, 0), left.pop(INVALID, 0)
    if left:
        raise DoesNotBalance(
            f"contest {contest.id}: there is no option {', '.join(left)}; the options are {', '.join(contest.options)}",
            "no-option",
            name=", ".join(left),
        )
    return ContestCount(index, row, blank, invalid)


def add_counts(one: ContestCount, other: ContestCount) -> ContestCount:
    """The sum of two parts of one contest's papers."""
    counts = tuple(a + b for a, b in zip(one.counts, other.counts, strict=True))
    return ContestCount(one.contest, counts, one.blank + other.blank, one.invalid + other.invalid)


def parse_counts(text: str) -> dict[str, int]:
    """`Name=12,Name, with comma=3` as counts by name. Raises DoesNotBalance where it cannot be read or names one twice."""
    counts: dict[str, int] = {}
    place = 0
    for match in re.finditer(r"\s*(.+?)\s*=\s*(\d{1,9})\s*(?:,|$)", text):
        name = match[1]
        if match.start() != place or name in counts:
            break
        counts[name], place = int(match[2]), match.end()
    if place != len(text) or not counts:
        raise DoesNotBalance(
            f"cannot read the counts from {text[place:]!r} on: write Option=12,Other=3, each option once"
        )
    return counts


def sheet(
    manifest: Manifest,
    stations: Sequence[Station],
    units: Sequence[Unit],
    result: StationResult,
    officers: Sequence[bytes],
) -> str:
    """The result sheet as plain text, every line of zero included. `officers` are the addresses that signed."""
    station = stations[result.station]
    lines = [
        manifest.name, f"Result of polling station {station.number}: {station.name} ({units[station.unit].name})",
        *(["*** PRACTICE ***"] if result.practice else []),
        f"Revision {result.revision}" + (f", because: {result.reason}" if result.reason else ""), "",
    ]  # fmt: skip
    rows = [("Papers issued", result.issued), ("  counted", result.counted), ("  spoiled", result.spoiled)]
    rows.append(("  not returned", result.unreturned))
    for count in result.contests:
        contest = manifest.contests[count.contest]
        rows += [("", None), (contest.title, None)]  # type: ignore[list-item]
        rows += [(f"  {option}", number) for option, number in zip(contest.options, count.counts, strict=True)]
        rows += [("  (blank)", count.blank)] if contest.blank is None else []
        rows.append(("  (invalid)", count.invalid))
    width = max(len(name) for name, _ in rows) + 2
    lines += [name if number is None else f"{name:{width}}{number:>9}" for name, number in rows]
    lines += ["", f"Election    {manifest.election_id.hex()}", f"Document    {result.document_hash().hex()}"]
    lines += [f"Journal     {result.opening.hex()} (opening)", f"            {result.closing.hex()} (closing)"]
    lines += [f"Signed by   0x{officer.hex()}" for officer in officers] or ["NOT SIGNED YET"]
    return "\n".join(lines) + "\n"
