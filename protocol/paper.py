"""Polling stations' results: the document, its arithmetic, and the sums of paper (docs/protocol.md, section 9)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from protocol.attachments import Station, Unit
from protocol.encoding import canonical_json, members, parse_json, unhex
from protocol.errors import Malformed
from protocol.manifest import Manifest, Rule

FORMAT = "ballotboard/station-result/v1"


@dataclass(frozen=True, slots=True)
class ContestCount:
    """Paper counts of one contest: per option, blank (where no option is the blank one) and invalid papers."""

    contest: int
    counts: tuple[int, ...]
    blank: int
    invalid: int


@dataclass(frozen=True, slots=True)
class StationResult:
    """A station's result document. `opening` and `closing` are journal hashes, `salt` 32 random bytes."""

    station: int
    revision: int
    practice: bool
    reason: str
    issued: int
    counted: int
    spoiled: int
    unreturned: int
    contests: tuple[ContestCount, ...]
    opening: bytes
    closing: bytes
    salt: bytes

    def body(self) -> bytes:
        return canonical_json(
            {
                "accounting": {
                    "counted": self.counted, "issued": self.issued, "spoiled": self.spoiled, "unreturned": self.unreturned,
                },
                "contests": [
                    {"blank": c.blank, "contest": c.contest, "counts": list(c.counts), "invalid": c.invalid} for c in self.contests
                ],
                "format": FORMAT,
                "journal": {"closing": self.closing.hex(), "opening": self.opening.hex()},
                "practice": self.practice, "reason": self.reason, "revision": self.revision,
                "salt": self.salt.hex(), "station": self.station,
            }
        )  # fmt: skip

    def document_hash(self) -> bytes:
        return hashlib.sha256(self.body()).digest()

    @staticmethod
    def parse(body: bytes) -> StationResult:
        field = "station-result"
        value = members(
            parse_json(body, field), field, accounting=dict, contests=list, format=str, journal=dict, practice=bool, reason=str,
            revision=int, salt=str, station=int,
        )  # fmt: skip
        if value["format"] != FORMAT:
            raise Malformed(f"{field}.format", f"expected {FORMAT}")
        accounting = members(
            value["accounting"], f"{field}.accounting", counted=int, issued=int, spoiled=int, unreturned=int
        )
        journal = members(value["journal"], f"{field}.journal", closing=str, opening=str)
        return StationResult(
            station=value["station"], revision=value["revision"], practice=value["practice"], reason=value["reason"], **accounting,
            contests=tuple(_contest(item, f"{field}.contests[{i}]") for i, item in enumerate(value["contests"])),
            opening=unhex(journal["opening"], 32, f"{field}.opening"), closing=unhex(journal["closing"], 32, f"{field}.closing"),
            salt=unhex(value["salt"], 32, f"{field}.salt"),
        )  # fmt: skip


class Contradiction(str):
    """What does not add up, in words. `key` and `values` say the same to who has other words for it."""

    key: str
    values: dict[str, Any]

    def __new__(cls, words: str, key: str = "", **values: Any) -> Contradiction:
        found = super().__new__(cls, words)
        found.key, found.values = key, values
        return found


def arithmetic(
    result: StationResult, manifest: Manifest, stations: Sequence[Station], units: Sequence[Unit]
) -> list[Contradiction]:
    """What does not add up; empty when everything does. What a count on paper can get wrong has a key."""
    if not 0 <= result.station < len(stations):
        return [Contradiction(f"station {result.station} does not exist")]
    wrong = []
    if result.practice != manifest.practice:  # or a station could excuse itself from its check-ins
        wrong.append(
            Contradiction(
                f"practice is {str(result.practice).lower()}, and in the manifest {str(manifest.practice).lower()}"
            )
        )
    numbers = [result.issued, result.counted, result.spoiled, result.unreturned]
    numbers += [n for c in result.contests for n in (*c.counts, c.blank, c.invalid)]
    if min(numbers) < 0:
        wrong.append(Contradiction("a count is negative"))
    if result.issued != result.counted + result.spoiled + result.unreturned:
        parts = {
            "issued": result.issued,
            "counted": result.counted,
            "spoiled": result.spoiled,
            "unreturned": result.unreturned,
        }
        words = "issued {issued} is not counted {counted} + spoiled {spoiled} + unreturned {unreturned}"
        wrong.append(Contradiction(words.format(**parts), "papers", **parts))
    style = manifest.styles[units[stations[result.station].unit].style]
    if tuple(c.contest for c in result.contests) != style:
        return [*wrong, Contradiction("the contests are not those of the station's ballot style")]
    for count in result.contests:
        contest = manifest.contests[count.contest]
        marked = result.counted - count.blank - count.invalid
        if len(count.counts) != contest.k:
            wrong.append(Contradiction(f"contest {contest.id}: needs {contest.k} counts"))
        elif contest.blank is not None and count.blank:
            wrong.append(Contradiction(f"contest {contest.id}: blank papers belong to its blank option"))
        elif contest.rule == Rule.ONE_OF_K and sum(count.counts) != marked:
            found = sum(count.counts) + count.blank + count.invalid
            words = f"contest {contest.id}: the counts, blank and invalid add up to {found}, not {result.counted}"
            wrong.append(Contradiction(words, "sum", contest=contest.title, found=found, counted=result.counted))
        elif contest.rule != Rule.ONE_OF_K and max(count.counts) > marked:
            words = f"contest {contest.id}: an option has more marks than there are valid papers"
            wrong.append(Contradiction(words, "marks", contest=contest.title))
        elif contest.rule == Rule.UP_TO_L and sum(count.counts) > contest.limit * marked:
            words = f"contest {contest.id}: more marks than {contest.limit} per valid paper"
            wrong.append(Contradiction(words, "limit", contest=contest.title, limit=contest.limit))
    return wrong


def paper_totals(manifest: Manifest, results: Sequence[StationResult]) -> list[dict[str, Any]]:
    """The `paper` member of the result record: per contest of the manifest the sums over these standing results."""
    totals = []
    for index, contest in enumerate(manifest.contests):
        counts = [(result.counted, c) for result in results for c in result.contests if c.contest == index]
        totals.append(
            {
                "blank": sum(c.blank for _, c in counts),
                "counted": sum(counted for counted, _ in counts),
                "invalid": sum(c.invalid for _, c in counts),
                "totals": [sum(c.counts[option] for _, c in counts) for option in range(contest.k)],
            }
        )
    return totals


def _contest(value: Any, field: str) -> ContestCount:
    members(value, field, blank=int, contest=int, counts=list, invalid=int)
    if any(type(count) is not int for count in value["counts"]):
        raise Malformed(f"{field}.counts", "must be integers")
    return ContestCount(value["contest"], tuple(value["counts"]), value["blank"], value["invalid"])
