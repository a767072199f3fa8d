"""The central picture: where every station stands, sums by unit up to the nation, and what looks wrong, by rules that are written down.

A pure function of the record (and of published figures to compare with, where there are any): anybody can draw it. A flag is a question to ask and
no verdict; each carries the figures behind it. Before the embargo only who has reported is known, and nothing else is shown.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from chain.log import ElectionLog
from protocol import election
from protocol.attachments import Unit
from protocol.counting import Conflict, count
from protocol.election import LogRecord, OpenElection
from protocol.errors import BallotboardError
from protocol.paper import StationResult, arithmetic
from protocol.records import CheckIns, Kind, StationHash
from station.result import read_sheet_code, sheet_code

FORMAT = "ballotboard/picture/v1"

LATE, SILENT, HELD_BACK = 10 * 3600, 16 * 3600, 3600
"""Seconds: a station that reports later after the counting began is late (from 17:00: at 03:00), one that has not by then silent (09:00); so long
after the embargo a document may take to come."""

SUDDEN_SHARE, SUDDEN_VOTES = 0.05, 10
"""A revision is sudden if it moves an option by so many votes and by such a share of the papers counted: slips of the pen are smaller."""

DIGIT_STATIONS, DIGIT_LEAST, DIGIT_LIMIT = 100, 100, 27.88
"""Last digits are looked at over so many stations at least, in counts of 100 and more; the chi-square value with 9 degrees of freedom that equal digits
exceed once in a thousand."""

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
    """One revision of a station: its hash record, and its document once revealed."""

    number: int
    record: LogRecord
    result: StationResult | None


@dataclass(frozen=True)
class Published:
    """Figures published elsewhere: unit name → votes per option of contest 0, None for an option that was not published."""

    source: str
    units: Mapping[str, Sequence[int | None]]


def picture(
    log: ElectionLog, now: int, published: Published | None = None, scans: Sequence[Mapping[str, Any]] = ()
) -> dict[str, Any]:
    """The picture as a JSON value (station/README.md, "Central picture"). `scans` are what `ballotboard station scan --json` printed at stations."""
    opened = log.open()
    revisions = _revisions(log)
    state = election.roll_state(opened, log.records)
    batches = [(r.position, batch) for r, batch in election.readable(log.records, Kind.CHECK_IN, CheckIns.parse)]
    counted = count(state, [], batches, opened.stations, opened.manifest.revote, opened.manifest.channel)
    standing = {number: _standing(opened, found[-1]) for number, found in revisions.items()}
    registered = Counter(dict(opened.roll.unit_counts()))
    units = _sum_up(opened, revisions, standing, registered)

    flags: list[dict[str, Any]] = []
    flags += _timing(opened, revisions, now)
    flags += _contents(opened, revisions, counted.check_ins)
    flags += _turnout(opened, standing, log, registered, {index for _, batch in batches for index, _ in batch.entries})
    flags += _check_in_flags(counted.conflicts, counted.void_check_ins, log)
    flags += _published(units, published) if published else []
    flags += _serials(opened, scans)
    flags += _digits(opened, standing)
    return {
        "at": now, "contests": [{"id": c.id, "options": list(c.options), "title": c.title} for c in opened.manifest.contests],
        "election": opened.manifest.election_id.hex(), "flags": flags, "format": FORMAT, "name": opened.manifest.name,
        "practice": opened.manifest.practice, "size": len(log.records),
        "stations": [_station(opened, number, revisions.get(number, []), counted.check_ins.get(number, 0)) for number in range(len(opened.stations))],
        "units": units,
    }  # fmt: skip


def check_sheet(log: ElectionLog, text: str) -> list[str]:
    """In what a printed sheet's code differs from the record, in words; empty if it is what two officers signed, and, once revealed, its very figures."""
    code = read_sheet_code(text)
    if not log.manifest.election_id.hex().startswith(code.election):
        return ["the sheet is of another election"]
    found = [r for r in _revisions(log).get(code.station, []) if r.number == code.revision]
    if not found:
        return [f"no revision {code.revision} of station {code.station} is on the record"]
    signed = StationHash.parse(found[0].record.body or b"").document.hex()
    if signed != code.document:
        return [f"the officers signed document {signed}, the sheet says {code.document}"]
    if found[0].result is None:
        return []
    right = sheet_code(found[0].result, log.manifest.election_id)
    wrong = (
        [f"papers are {right.accounting}, the sheet says {code.accounting}"]
        if right.accounting != code.accounting
        else []
    )
    return wrong + (
        [f"votes are {right.contests}, the sheet says {code.contests}"] if right.contests != code.contests else []
    )


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


def _revisions(log: ElectionLog) -> dict[int, list[Revision]]:
    documents = {
        record.entry.body_hash: result
        for record, result in election.readable(log.records, Kind.STATION_RESULT, StationResult.parse)
    }
    found: dict[int, list[Revision]] = {}
    for record, signed in election.readable(log.records, Kind.STATION_HASH, StationHash.parse):
        revision = Revision(signed.revision, record, documents.get(signed.document))
        found.setdefault(signed.station, []).append(revision)
    return found


def _standing(opened: OpenElection, last: Revision) -> StationResult | None:
    """The document that counts: the last one's, if it is revealed, is what it says it is, and adds up."""
    result = last.result
    if result is None or arithmetic(result, opened.manifest, opened.stations, opened.units):
        return None
    return result if result.revision == last.number else None


def _station(opened: OpenElection, number: int, revisions: Sequence[Revision], check_ins: int) -> dict[str, Any]:
    station = opened.stations[number]
    last = revisions[-1] if revisions else None
    state = "silent" if last is None else "reported" if last.result is None else "revealed"
    return {
        "check_ins": check_ins, "name": station.name, "path": _path(opened.units, station.unit), "state": state, "station": number,
        "revisions": [_revision(opened, before, revision) for before, revision in zip([None, *revisions], revisions, strict=False)],
    }  # fmt: skip


def _revision(opened: OpenElection, before: Revision | None, revision: Revision) -> dict[str, Any]:
    result = revision.result
    value: dict[str, Any] = {
        "document": StationHash.parse(revision.record.body or b"").document.hex(), "position": revision.record.position,
        "revision": revision.number, "time": revision.record.entry.time,
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


def _path(units: Sequence[Unit], unit: int) -> list[str]:
    """Names from the root down to this unit."""
    names: list[str] = []
    while unit >= 0:
        names.append(units[unit].name)
        unit = units[unit].parent
    return names[::-1]


def _sum_up(
    opened: OpenElection, revisions: Mapping[int, Sequence[Revision]], standing: Mapping[int, StationResult | None], registered: Counter[int]
) -> list[dict[str, Any]]:  # fmt: skip
    """Every unit with the sums of all stations in it; units come after their parents, so one pass from the end adds them up."""
    contests = opened.manifest.contests
    rows: list[dict[str, Any]] = [
        {
            "blank": [0] * len(contests), "counted": 0, "invalid": [0] * len(contests), "issued": 0, "level": unit.level, "name": unit.name,
            "parent": unit.parent, "registered": registered[number], "reported": 0, "revealed": 0, "stations": 0,
            "totals": [[0] * contest.k for contest in contests], "unit": number,
        }
        for number, unit in enumerate(opened.units)
    ]  # fmt: skip
    for station in opened.stations:
        row, result = rows[station.unit], standing.get(station.number)
        row["stations"] += 1
        row["reported"] += station.number in revisions
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


def _timing(opened: OpenElection, revisions: Mapping[int, Sequence[Revision]], now: int) -> Iterator[dict[str, Any]]:
    windows = opened.manifest.windows
    for station in opened.stations:
        found, number = revisions.get(station.number), station.number
        if not found:
            if now >= windows.count_not_before + SILENT:
                hours = (now - windows.count_not_before) // 3600
                yield _flag(
                    "silent", f"{station.name}: no result {hours} hours after counting began", {"hours": hours}, number
                )
            continue
        took = found[0].record.entry.time - windows.count_not_before
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


def _contents(
    opened: OpenElection, revisions: Mapping[int, Sequence[Revision]], check_ins: Mapping[int, int]
) -> Iterator[dict[str, Any]]:
    for number, found in sorted(revisions.items()):
        name, last = opened.stations[number].name, found[-1].result
        for before, after in pairwise(found):
            if before.result is not None and after.result is not None:
                yield from _sudden(opened, before.result, after.result, name)
        if last is None:
            continue
        if wrong := arithmetic(last, opened.manifest, opened.stations, opened.units):
            yield _flag("arithmetic", f"{name}: {'; '.join(wrong)}", {"wrong": wrong}, number)
        valid = check_ins.get(number, 0)
        if valid != last.issued and not opened.manifest.practice:
            text = f"{name}: {last.issued} papers issued, {valid} valid check-ins"
            yield _flag("check-ins", text, {"check_ins": valid, "issued": last.issued}, number)


def _sudden(opened: OpenElection, before: StationResult, after: StationResult, name: str) -> Iterator[dict[str, Any]]:
    for old, new in zip(before.contests, after.contests, strict=False):
        moved = [b - a for a, b in zip(old.counts, new.counts, strict=False)]
        most = max(map(abs, moved), default=0)
        large = most >= SUDDEN_VOTES and most >= SUDDEN_SHARE * max(before.counted, after.counted)
        if large or _leader(old.counts) != _leader(new.counts):
            figures = {
                "after": list(new.counts),
                "before": list(old.counts),
                "contest": new.contest,
                "reason": after.reason,
            }
            text = f"{name}: revision {after.revision} moves an option by {most} of {before.counted} papers ({after.reason})"
            yield _flag("revision", text, figures, after.station)


def _leader(counts: Sequence[int]) -> int:
    return max(range(len(counts)), key=counts.__getitem__, default=-1)


def _turnout(
    opened: OpenElection, standing: Mapping[int, StationResult | None], log: ElectionLog, registered: Counter[int], on_paper: set[int]
) -> Iterator[dict[str, Any]]:  # fmt: skip
    if opened.manifest.practice:
        return
    online = Counter(
        opened.roll.row(index)[1]
        for index in {
            int.from_bytes(record.body[1:5], "big")
            for record in election.of_kind(log.records, Kind.BALLOT)
            if record.body
        }
        if index < len(opened.roll) and index not in on_paper
    )
    issued: Counter[int] = Counter()
    for number, result in standing.items():
        issued[opened.stations[number].unit] += result.issued if result else 0
    for unit in sorted(issued):
        if issued[unit] + online[unit] > registered[unit]:
            name = opened.units[unit].name
            figures = {"issued": issued[unit], "online": online[unit], "registered": registered[unit]}
            text = f"{name}: {issued[unit]} papers and {online[unit]} online voters, of {registered[unit]} on the roll"
            yield _flag("turnout", text, figures, unit=unit)


def _check_in_flags(
    conflicts: Sequence[Conflict], void: Sequence[tuple[int, int]], log: ElectionLog
) -> Iterator[dict[str, Any]]:
    stations = {r.position: batch.station for r, batch in election.readable(log.records, Kind.CHECK_IN, CheckIns.parse)}
    for found in conflicts:
        where = (stations[found.first], stations[found.second])
        figures = {
            "first": found.first,
            "roll_index": found.roll_index,
            "second": found.second,
            "stations": list(where),
        }
        text = f"roll index {found.roll_index} was checked in at station {where[0]} (record {found.first}) and at station {where[1]} (record {found.second})"
        yield _flag("conflict", text, figures, where[1])
    for position, index in void:
        text = f"record {position}: the check-in of roll index {index} is void"
        yield _flag("void", text, {"position": position, "roll_index": index}, stations[position])


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


def _serials(opened: OpenElection, scans: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    for scan in scans:
        figures = {name: scan[name] for name in ("duplicates", "foreign", "forged") if scan.get(name)}
        if figures:
            station = int(scan["station"])
            words = ", ".join(f"{number} {name}" for name, number in figures.items())
            yield _flag("serials", f"{opened.stations[station].name}: {words}", figures, station)


def _digits(opened: OpenElection, standing: Mapping[int, StationResult | None]) -> Iterator[dict[str, Any]]:
    for index, contest in enumerate(opened.manifest.contests):
        for option, name in enumerate(contest.options):
            counts = [
                c.counts[option]
                for result in standing.values()
                if result
                for c in result.contests
                if c.contest == index
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
                yield _flag(
                    "digits", text, {"chi_square_milli": round(1000 * value), "digits": spread, "stations": stations}
                )
