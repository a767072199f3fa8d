"""The central picture: where every station stands, sums by unit up to the nation, and what looks wrong, by rules that are written down.

    known(log)                  what the record of a node says of stations      (a board keeps the same, as `Known`)
    picture(known, now, …)      stations, sums by unit, flags, as one JSON value
    flags(known, now, …)        the flags alone

A pure function of the record (and of published figures to compare with, where there are any): anybody can draw it. A flag is a question to ask and
no verdict; each carries the figures behind it. Before the embargo no figure of a station is on the record, so none is shown.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from chain.log import ElectionLog
from protocol import election, paper
from protocol.attachments import Station, Unit
from protocol.counting import CountedSet, RollState, count
from protocol.election import LogRecord
from protocol.errors import BallotboardError
from protocol.manifest import Manifest
from protocol.paper import StationResult
from protocol.records import CheckIns, Kind, StationHash

FORMAT = "ballotboard/picture/v1"

LATE, SILENT, HELD_BACK = 10 * 3600, 16 * 3600, 3600
"""Seconds: a station that reports later after the counting began is late (from 17:00: at 03:00), one that has not by then silent (09:00); so long
after the embargo a document may take to come."""

SUDDEN_SHARE, SUDDEN_VOTES = 0.05, 10
"""A revision is sudden if it moves an option by so many votes and by such a share of the papers counted: slips of the pen are smaller."""

DIGIT_STATIONS, DIGIT_LEAST, DIGIT_LIMIT = 100, 100, 27.88
"""Last digits are looked at over so many stations at least, in counts of 100 and more; the chi-square value with 9 degrees of freedom that equal digits
exceed once in a thousand."""

read_result = lru_cache(maxsize=2**15)(StationResult.parse)
"""StationResult.parse that knows what it has read: a board draws the picture again at every record, and reading a document takes a quarter of a millisecond."""

_PARSERS: dict[Kind, Any] = {
    Kind.CHECK_IN: CheckIns.parse, Kind.STATION_HASH: StationHash.parse, Kind.STATION_RESULT: read_result,
}  # fmt: skip

RULES: dict[str, tuple[str, str]] = {
    "silent": ("warning", "No result hash on the record 16 hours after counting began."),
    "late": ("hint", "The first result hash came more than 10 hours after counting began."),
    "unrevealed": ("warning", "The latest result hash has no document an hour after the embargo."),
    "arithmetic": ("error", "The document contradicts itself, so it is not counted until it is amended."),
    "turnout": ("error", "More papers were issued and online voters voted in a unit than its roll has voters (not in a practice election)."),
    "check-ins": ("error", "Papers issued are not as many as valid check-ins (not in a practice election)."),
    "revision": ("warning", "A revision moves an option by at least 10 votes and 5 % of the papers counted, or changes which option leads."),
    "conflict": ("error", "One voter was checked in twice. The first by station time counts; the returning officer decides what follows."),
    "void": ("warning", "Check-ins of rows that do not exist, are revoked or belong to another unit: they have no effect."),
    "official": ("error", "The stations' sum for a unit is not the published figure."),
    "serials": ("error", "The scanner met papers twice, of another station, or with a wrong code."),
    "digits": ("hint", "The last digits of an option's counts are not spread evenly (chi-square above 27.88). A hint only: honest counts do this too."),
}  # fmt: skip
"""Every rule by which something is flagged: its severity, and the rule in words."""


@dataclass(frozen=True)
class Revision:
    """One revision of a station: the document that two officers signed (its SHA-256) in the record `signed`, and once it is `revealed`, that record and the document."""

    number: int
    document: bytes
    signed: LogRecord
    revealed: LogRecord | None
    result: StationResult | None


@dataclass(frozen=True)
class Published:
    """Figures published elsewhere: unit name → votes per option of contest 0, None for an option that was not published."""

    source: str
    units: Mapping[str, Sequence[int | None]]


@dataclass(frozen=True)
class Known:
    """What the record says, as far as the picture needs it. `acts` are all records but the ballots, or with them; per unit, `registered` is the voters on
    the roll and `online` those of them who voted online and took no paper; `check_ins` is what counting says of the check-ins; `size` that of the log."""

    manifest: Manifest
    units: Sequence[Unit]
    stations: Sequence[Station]
    acts: Sequence[LogRecord]
    check_ins: CountedSet
    registered: Mapping[int, int]
    online: Mapping[int, int]
    size: int

    @cached_property
    def revisions(self) -> dict[int, list[Revision]]:
        """station → its revisions in order. What is said of a station that does not exist is nobody's."""
        documents = {record.entry.body_hash: (record, result) for record, result in self._of(Kind.STATION_RESULT)}
        found: dict[int, list[Revision]] = {}
        for record, signed in self._of(Kind.STATION_HASH):
            if signed.station >= len(self.stations):
                continue
            revealed = documents.get(signed.document, (None, None))
            found.setdefault(signed.station, []).append(Revision(signed.revision, signed.document, record, *revealed))
        return found

    @cached_property
    def standing(self) -> dict[int, StationResult]:
        """station → the document that counts: the last one's, if it is revealed, is what it says it is, and adds up."""
        last = {station: found[-1] for station, found in sorted(self.revisions.items())}
        return {
            s: revision.result for s, revision in last.items() if revision.result and not self.problems(s, revision)
        }

    def problems(self, station: int, revision: Revision) -> list[str]:
        """Why a revealed document is not counted (protocol.election.standing_results); empty if it is."""
        result = revision.result
        assert result
        if (result.station, result.revision) != (station, revision.number):
            return [f"the document is of station {result.station}, revision {result.revision}"]
        return list(paper.arithmetic(result, self.manifest, self.stations, self.units))

    @cached_property
    def check_in_stations(self) -> dict[int, int]:
        """Position of a check-in record → its station."""
        return {record.position: batch.station for record, batch in self._of(Kind.CHECK_IN)}

    def _of(self, kind: Kind) -> Iterator[tuple[LogRecord, Any]]:
        return election.readable(self.acts, kind, _PARSERS[kind])


def known(log: ElectionLog) -> Known:
    """From a node's log. Raises MissingRecord before the poll is open."""
    opened = log.open()
    state = election.roll_state(opened, log.records)
    batches = list(election.readable(log.records, Kind.CHECK_IN, CheckIns.parse))
    voted = {int.from_bytes(r.body[1:5], "big") for r in election.of_kind(log.records, Kind.BALLOT) if r.body}
    on_paper = {index for _, batch in batches for index, _ in batch.entries}
    return Known(
        opened.manifest, opened.units, opened.stations, log.records, count_check_ins(opened.manifest, opened.stations, state, batches),
        dict(opened.roll.unit_counts()), Counter(opened.roll.row(index)[1] for index in voted - on_paper if index < len(opened.roll)),
        len(log.records),
    )  # fmt: skip


def count_check_ins(
    manifest: Manifest, stations: Sequence[Station], state: RollState, batches: Sequence[tuple[LogRecord, CheckIns]]
) -> CountedSet:
    """What counting says of check-ins by themselves: conflicts, valid ones per station, void ones."""
    return count(state, [], [(r.position, batch) for r, batch in batches], stations, manifest.revote, manifest.channel)


def picture(
    known: Known, now: int, published: Published | None = None, scans: Sequence[Mapping[str, Any]] = ()
) -> dict[str, Any]:
    """The picture as a JSON value (station/README.md, "The central picture"). `scans` are what `ballotboard station scan --json` printed at stations."""
    return {
        "at": now, "contests": [{"id": c.id, "options": list(c.options), "title": c.title} for c in known.manifest.contests],
        "election": known.manifest.election_id.hex(), "flags": flags(known, now, published, scans), "format": FORMAT,
        "name": known.manifest.name, "practice": known.manifest.practice, "size": known.size,
        "stations": [_station(known, number) for number in range(len(known.stations))], "units": sums(known),
    }  # fmt: skip


def flags(
    known: Known, now: int, published: Published | None = None, scans: Sequence[Mapping[str, Any]] = ()
) -> list[dict[str, Any]]:
    """What there is to ask about: `rule`, `severity`, `station` or `unit`, `text` in English, and the `figures` behind it."""
    return [
        *_timing(known, now), *_contents(known), *_turnout(known), *_check_in_flags(known),
        *(_published(sums(known), published) if published else ()), *_serials(known, scans), *_digits(known),
    ]  # fmt: skip


def read_published(path: Path) -> Published:
    """Published figures from a JSON file: `{"source": text, "units": {unit name: [votes or null per option of contest 0], …}}`."""
    value = _json(path)
    try:
        units = {name: [None if n is None else int(n) for n in numbers] for name, numbers in value["units"].items()}
        return Published(str(value["source"]), units)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BallotboardError(f'{path} needs "source", a text, and "units", lists of votes by unit name') from error


def read_scan(path: Path) -> Mapping[str, Any]:
    """What `ballotboard station scan --json` printed, from a file."""
    value = _json(path)
    if not isinstance(value, dict) or type(value.get("station")) is not int:
        raise BallotboardError(f"{path} is not what `ballotboard station scan --json` prints")
    return value


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise BallotboardError(f"cannot read {path}: {error}") from error


# ---------------------------------------------------------------- the rows


def _station(known: Known, number: int) -> dict[str, Any]:
    station, revisions = known.stations[number], known.revisions.get(number, [])
    last = revisions[-1] if revisions else None
    state = "silent" if last is None else "reported" if last.result is None else "revealed"
    return {
        "check_ins": known.check_ins.check_ins.get(number, 0), "name": station.name, "path": path(known.units, station.unit), "state": state,
        "revisions": [_revision(before, revision) for before, revision in zip([None, *revisions], revisions, strict=False)], "station": number,
    }  # fmt: skip


def _revision(before: Revision | None, revision: Revision) -> dict[str, Any]:
    result = revision.result
    value: dict[str, Any] = {
        "document": revision.document.hex(), "position": revision.signed.position, "revision": revision.number, "time": revision.signed.entry.time,
    }  # fmt: skip
    if result is None:
        return value
    value |= {
        "accounting": {"counted": result.counted, "issued": result.issued, "spoiled": result.spoiled, "unreturned": result.unreturned},
        "contests": [{"blank": c.blank, "contest": c.contest, "counts": list(c.counts), "invalid": c.invalid} for c in result.contests],
        "reason": result.reason,
    }  # fmt: skip
    if before is not None and before.result is not None:
        value["difference"] = [
            [a - b for a, b in zip(new.counts, old.counts, strict=False)]
            for new, old in zip(result.contests, before.result.contests, strict=False)
        ]
    return value


def path(units: Sequence[Unit], unit: int) -> list[str]:
    """Names from the root down to this unit."""
    names: list[str] = []
    while unit >= 0:
        names.append(units[unit].name)
        unit = units[unit].parent
    return names[::-1]


def sums(known: Known) -> list[dict[str, Any]]:
    """Every unit with the sums of all stations in it; units come after their parents, so one pass from the end adds them up."""
    contests = known.manifest.contests
    rows: list[dict[str, Any]] = [
        {
            "blank": [0] * len(contests), "counted": 0, "invalid": [0] * len(contests), "issued": 0, "level": unit.level, "name": unit.name,
            "parent": unit.parent, "registered": known.registered.get(number, 0), "reported": 0, "revealed": 0, "stations": 0,
            "totals": [[0] * contest.k for contest in contests], "unit": number,
        }
        for number, unit in enumerate(known.units)
    ]  # fmt: skip
    for station in known.stations:
        row, result = rows[station.unit], known.standing.get(station.number)
        row["stations"] += 1
        row["reported"] += station.number in known.revisions
        if result is None:
            continue
        row["revealed"] += 1
        row["issued"] += result.issued
        row["counted"] += result.counted
        for found in result.contests:
            row["blank"][found.contest] += found.blank
            row["invalid"][found.contest] += found.invalid
            row["totals"][found.contest] = _add(row["totals"][found.contest], found.counts)
    for row in reversed(rows[1:]):
        parent = rows[row["parent"]]
        for name in ("counted", "issued", "registered", "reported", "revealed", "stations"):
            parent[name] += row[name]
        for name in ("blank", "invalid"):
            parent[name] = _add(parent[name], row[name])
        parent["totals"] = [_add(a, b) for a, b in zip(parent["totals"], row["totals"], strict=True)]
    return rows


def _add(one: Sequence[int], other: Sequence[int]) -> list[int]:
    return [a + b for a, b in zip(one, other, strict=True)]


# ---------------------------------------------------------------- the flags


def _flag(
    rule: str, text: str, figures: dict[str, Any], station: int | None = None, unit: int | None = None
) -> dict[str, Any]:
    return {
        "figures": figures,
        "rule": rule,
        "severity": RULES[rule][0],
        "station": station,
        "text": text,
        "unit": unit,
    }


def _timing(known: Known, now: int) -> Iterator[dict[str, Any]]:
    windows = known.manifest.windows
    for station in known.stations:
        found, number = known.revisions.get(station.number), station.number
        if not found:
            if now >= windows.count_not_before + SILENT:
                hours = (now - windows.count_not_before) // 3600
                yield _flag(
                    "silent", f"{station.name}: no result {hours} hours after counting began", {"hours": hours}, number
                )
            continue
        took = found[0].signed.entry.time - windows.count_not_before
        if took > LATE:
            yield _flag(
                "late", f"{station.name}: reported {took // 3600} hours after counting began", {"seconds": took}, number
            )
        if found[-1].result is None and now >= windows.reveal_not_before + HELD_BACK:
            since = now - windows.reveal_not_before
            text = (
                f"{station.name}: revision {found[-1].number} is not revealed {since // 3600} hours after the embargo"
            )
            yield _flag("unrevealed", text, {"revision": found[-1].number, "seconds": since}, number)


def _contents(known: Known) -> Iterator[dict[str, Any]]:
    for number, found in sorted(known.revisions.items()):
        name, last = known.stations[number].name, found[-1].result
        for before, after in pairwise(found):
            if before.result is not None and after.result is not None:
                yield from _sudden(known, before.result, after.result, name)
        if last is None:
            continue
        if number not in known.standing:
            wrong = known.problems(number, found[-1])
            yield _flag("arithmetic", f"{name}: {'; '.join(wrong)}", {"wrong": wrong}, number)
        valid = known.check_ins.check_ins.get(number, 0)
        if valid != last.issued and not known.manifest.practice:
            text = f"{name}: {last.issued} papers issued, {valid} valid check-ins"
            yield _flag("check-ins", text, {"check_ins": valid, "issued": last.issued}, number)


def _sudden(known: Known, before: StationResult, after: StationResult, name: str) -> Iterator[dict[str, Any]]:
    for old, new in zip(before.contests, after.contests, strict=False):
        if old.contest != new.contest or not 0 <= new.contest < len(known.manifest.contests):
            continue  # it is flagged for its arithmetic
        moved = [b - a for a, b in zip(old.counts, new.counts, strict=False)]
        most = max(map(abs, moved), default=0)
        large = most >= SUDDEN_VOTES and most >= SUDDEN_SHARE * max(before.counted, after.counted)
        if large or _leader(old.counts) != _leader(new.counts):
            figures = {
                "after": list(new.counts),
                "before": list(old.counts),
                "contest": new.contest,
                "reason": after.reason,
                "revision": after.revision,
            }
            text = f"{name}: revision {after.revision} moves an option by {most} of {before.counted} papers ({after.reason})"
            yield _flag("revision", text, figures, after.station)


def _leader(counts: Sequence[int]) -> int:
    return max(range(len(counts)), key=counts.__getitem__, default=-1)


def _turnout(known: Known) -> Iterator[dict[str, Any]]:
    if known.manifest.practice:
        return
    issued: Counter[int] = Counter()
    for number, result in known.standing.items():
        issued[known.stations[number].unit] += result.issued
    for unit in sorted(issued):
        online, registered = known.online.get(unit, 0), known.registered.get(unit, 0)
        if issued[unit] + online > registered:
            text = f"{known.units[unit].name}: {issued[unit]} papers and {online} online voters, of {registered} on the roll"
            yield _flag(
                "turnout", text, {"issued": issued[unit], "online": online, "registered": registered}, unit=unit
            )


def _check_in_flags(known: Known) -> Iterator[dict[str, Any]]:
    for found in known.check_ins.conflicts:
        where = [known.check_in_stations[position] for position in (found.first, found.second)]
        figures = {"first": found.first, "roll_index": found.roll_index, "second": found.second, "stations": where}
        text = f"roll index {found.roll_index} was checked in at station {where[0]} (record {found.first}) and at station {where[1]} (record {found.second})"
        yield _flag("conflict", text, figures, where[1])
    for position, index in known.check_ins.void_check_ins:
        text = f"record {position}: the check-in of roll index {index} is void"
        yield _flag("void", text, {"position": position, "roll_index": index}, known.check_in_stations[position])


def _published(units: Sequence[Mapping[str, Any]], published: Published) -> Iterator[dict[str, Any]]:
    for row in units:
        official = published.units.get(row["name"])
        if official is None or row["revealed"] < row["stations"]:
            continue
        found = row["totals"][0]
        if len(official) != len(found):
            raise BallotboardError(f"{row['name']}: {len(official)} published figures for {len(found)} options")
        if any(number is not None and number != have for number, have in zip(official, found, strict=True)):
            figures = {"published": list(official), "source": published.source, "stations": found}
            text = f"{row['name']}: the stations add up to {found}, published is {list(official)}"
            yield _flag("official", text, figures, unit=row["unit"])


def _serials(known: Known, scans: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    for scan in scans:
        figures = {name: scan[name] for name in ("duplicates", "foreign", "forged") if scan.get(name)}
        if figures:
            station = int(scan["station"])
            words = ", ".join(f"{number} {name}" for name, number in figures.items())
            yield _flag("serials", f"{known.stations[station].name}: {words}", figures, station)


def _digits(known: Known) -> Iterator[dict[str, Any]]:
    for index, contest in enumerate(known.manifest.contests):
        for option, name in enumerate(contest.options):
            counts = [
                c.counts[option] for result in known.standing.values() for c in result.contests if c.contest == index
            ]
            digits = Counter(number % 10 for number in counts if number >= DIGIT_LEAST)
            stations = digits.total()
            if stations < DIGIT_STATIONS:
                continue
            expected = stations / 10
            value = sum((digits[digit] - expected) ** 2 / expected for digit in range(10))
            if value > DIGIT_LIMIT:
                spread = [digits[digit] for digit in range(10)]
                text = (
                    f"{contest.id}, {name}: last digits over {stations} stations are {spread}, chi-square {value:.1f}"
                )
                figures = {
                    "chi_square_milli": round(1000 * value),
                    "contest": index,
                    "digits": spread,
                    "option": option,
                }
                yield _flag("digits", text, figures | {"stations": stations})
