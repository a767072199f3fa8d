"""A printed result sheet against the record: is it what two officers signed, field by field? Anybody who can read its code may ask.

Before the embargo the record has the hash of the document and no figure: the hash is compared, and the figures are not revealed yet.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from protocol.paper import StationResult
from protocol.sheet import SheetCode, sheet_code
from verifier.picture import Known

PAPERS = ("issued", "counted", "spoiled", "unreturned")

STATES = {
    "same": "the sheet is what two officers signed on the record",
    "pending": "two officers signed this document; its figures are not revealed yet",
    "older": "the sheet is what two officers signed then; revision {latest} of this station stands now",
    "differs": "the sheet is not what two officers signed on the record",
    "unknown": "no revision {revision} of station {station} is on the record",
    "elsewhere": "the sheet is of another election",
}
"""What a sheet can be, in words. `older` is also `pending` where its document was not revealed."""


@dataclass(frozen=True)
class Field:
    """One thing that a sheet says. `name` is document, one of PAPERS, votes, blank or invalid, the last three of a `contest`, votes of an `option` of it.

    `same` is None where the record does not say yet; `sheet` or `record` is None where one of them has no such field.
    """

    name: str
    sheet: Any
    record: Any
    same: bool | None
    contest: int | None = None
    option: int | None = None


@dataclass(frozen=True)
class Comparison:
    """`state` is one of STATES, `latest` the station's last revision on the record (0 if none)."""

    code: SheetCode
    state: str
    latest: int
    fields: tuple[Field, ...] = ()

    @property
    def good(self) -> bool:
        """Nothing that is on the record contradicts the sheet."""
        return self.state in ("same", "pending", "older")

    @property
    def text(self) -> str:
        return STATES[self.state].format(latest=self.latest, revision=self.code.revision, station=self.code.station)

    @property
    def differences(self) -> list[str]:
        """In what the sheet differs, in words; empty if it is good."""
        if self.state != "differs":
            return [] if self.good else [self.text]
        return [_words(field) for field in self.fields if field.same is False]


def compare(known: Known, code: SheetCode) -> Comparison:
    """The sheet with this code against the record."""
    revisions = known.revisions.get(code.station, [])
    latest = max((revision.number for revision in revisions), default=0)
    if known.manifest.election_id[: len(code.election)] != code.election:
        return Comparison(code, "elsewhere", latest)
    found = next((revision for revision in revisions if revision.number == code.revision), None)
    if found is None:
        return Comparison(code, "unknown", latest)
    fields = (
        Field("document", code.document.hex(), found.document.hex(), code.document == found.document),
        *_figures(code, found.result),
    )
    marks = {field.same for field in fields}
    state = (
        "differs" if False in marks else "older" if latest > code.revision else "pending" if None in marks else "same"
    )
    return Comparison(code, state, latest, fields)


def _figures(code: SheetCode, result: StationResult | None) -> Iterator[Field]:
    right = sheet_code(result, code.election) if result else None

    def field(
        name: str, sheet: int | None, record: int | None, contest: int | None = None, option: int | None = None
    ) -> Field:
        return Field(name, sheet, record, sheet == record if right else None, contest, option)

    for number, name in enumerate(PAPERS):
        yield field(name, code.papers[number], right.papers[number] if right else None)
    sheet, record = ({row[0]: row[1:] for row in one.contests} if one else {} for one in (code, right))
    for contest in sorted({*sheet, *record}):
        told, known = sheet.get(contest, ()), record.get(contest, ())
        # Blank and invalid papers are the last two of either, however many options each has.
        for option in range(max(len(told), len(known)) - 2):
            yield field("votes", _at(told[:-2], option), _at(known[:-2], option), contest, option)
        for place, name in ((-2, "blank"), (-1, "invalid")):
            yield field(name, _at(told, place), _at(known, place), contest)


def _at(row: tuple[int, ...], place: int) -> int | None:
    return row[place] if -len(row) <= place < len(row) else None


def _words(field: Field) -> str:
    what = field.name if field.contest is None else f"contest {field.contest}, {field.name}"
    what += "" if field.option is None else f" of option {field.option}"
    sheet, record = ("nothing" if value is None else value for value in (field.sheet, field.record))
    return f"{what}: the record says {record}, the sheet says {sheet}"
