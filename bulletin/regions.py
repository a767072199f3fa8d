"""The results by region: turnout, stations, paper votes, and online votes as far as they were decrypted.

Online votes are decrypted for groups of units only (docs/protocol.md, section 8). The votes of a group are shown for every region that holds all
units of the group where anybody voted, and for no smaller one: there the page names the group instead. What is shown of a region is then a sum of
whole groups, and no figure is the difference of two that were not meant to be compared.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bulletin import views
from bulletin.store import Reading
from bulletin.views import Poll, Value
from protocol.attachments import Unit
from protocol.election import LogRecord
from protocol.paper import StationResult

COLUMNS = (
    "number", "level", "name", "in", "contest", "option", "online", "paper", "total", "online ballots", "paper ballots", "together with",
)  # fmt: skip
"""Of the file for reporters, one row for each region, contest and option."""

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""A spreadsheet takes a cell that begins with one of these for a formula (CWE-1236). Names come from the manifest, so it gets a ' in front."""


@dataclass(frozen=True)
class Group:
    """A decrypted group of a contest: counted ballots of each of its units, and the votes per option."""

    units: tuple[tuple[int, int], ...]
    totals: tuple[int, ...]

    @property
    def ballots(self) -> int:
        return sum(ballots for _, ballots in self.units)


Online = Sequence[Sequence[Group]]
"""Per contest its groups, in their order."""


def decrypted(tx: Reading, poll: Poll, acts: Sequence[LogRecord]) -> Online | None:
    """The groups with their votes, once a result is announced and this board has found it right; None before."""
    found, units = views.announced(poll.manifest, acts), tx.groups()
    if found is None or tx.fact("result") != "" or not units:
        return None
    online = found[1]["online"]
    return [
        [Group(tuple(held), tuple(group["totals"])) for held, group in zip(units.get(contest, []), part["groups"], strict=True)]
        for contest, part in enumerate(online)
    ]  # fmt: skip


def regions(poll: Poll, standing: Mapping[int, StationResult], turnout: Value, online: Online | None) -> list[Value]:
    """Every unit with all below it, by number: turnout online, stations, and per contest the paper votes so far (`on_paper`: ballots
    counted, and those that are blank or invalid) and `online`, which is None while nothing is decrypted (`online` is None) and else

        state     "shown"; "together" where only a larger region's votes are known; "none" where nobody votes on the contest
        ballots   counted online ballots of the region, which the record shows in any case
        votes     per option, None where they are not known; `total` with those on paper
        groups    the numbers of the groups that the region is only a part of
    """
    contests = poll.manifest.contests
    rows: list[Value] = [
        {
            "unit": number, "name": unit.name, "level": unit.level, "voters": 0 if poll.voters else None, "cards": 0,
            "stations": 0, "reported": 0, "papers": 0, "paper": [[0] * contest.k for contest in contests],
            "on_paper": [{"counted": 0, "blank": 0, "invalid": 0} for _ in contests],
            "online": None if online is None else [_votes_online(contest.k) for contest in contests],
        }
        for number, unit in enumerate(poll.units)
    ]  # fmt: skip
    for unit in turnout["units"]:
        for number in _upwards(poll.units, unit["unit"]):
            rows[number]["cards"] += unit["cards"]
            if unit["voters"] is not None:
                rows[number]["voters"] += unit["voters"]
    for station in poll.stations:
        result = standing.get(station.number)
        for number in _upwards(poll.units, station.unit):
            row = rows[number]
            row["stations"] += 1
            if result is not None:
                row["reported"] += 1
                row["papers"] += result.counted
                for counted in result.contests:
                    _add(row["paper"][counted.contest], counted.counts)
                    part = row["on_paper"][counted.contest]
                    for name, count in (
                        ("counted", result.counted),
                        ("blank", counted.blank),
                        ("invalid", counted.invalid),
                    ):
                        part[name] += count
    for contest, groups in enumerate(online or []):
        _add_online(poll.units, [row["online"][contest] for row in rows], groups)
        for row in rows:
            held = row["online"][contest]
            if held["state"] == "shown":
                held["total"] = [a + b for a, b in zip(held["votes"], row["paper"][contest], strict=True)]
    return rows


def region(poll: Poll, rows: Sequence[Value], number: int) -> Value:
    """One of them, with those `above` it, the `regions` right under it, and the stations that are its own."""
    above = [{"unit": unit, "name": poll.units[unit].name} for unit in _upwards(poll.units, number)][1:]
    under = [row for row, unit in zip(rows, poll.units, strict=True) if unit.parent == number]
    own = [{"station": station.number, "name": station.name} for station in poll.stations if station.unit == number]
    return {**rows[number], "above": above[::-1], "regions": under, "own_stations": own}


def group_values(units: Sequence[Unit], groups: Sequence[Group]) -> list[Value]:
    """The groups of a contest with the largest regions that make them up; of those that differ only in regions where nobody votes on it, the smallest."""
    under: list[list[int]] = [[] for _ in units]
    for number, place in enumerate(units[1:], 1):
        under[place.parent].append(number)
    voting = [0] * len(units)
    for group in groups:
        for unit, _ in group.units:
            for number in _upwards(units, unit):
                voting[number] += 1
    found = []
    for number, group in enumerate(groups):
        held: dict[int, int] = {}
        for unit, _ in group.units:
            for above in _upwards(units, unit):
                held[above] = held.get(above, 0) + 1
        whole = {unit for unit, count in held.items() if count == voting[unit]}
        largest = (unit for unit in sorted(whole) if units[unit].parent not in whole)
        names = [{"unit": unit, "name": units[unit].name} for unit in (_down(under, voting, one) for one in largest)]
        found.append({"group": number, "ballots": group.ballots, "totals": list(group.totals), "regions": names})
    return found


def table(poll: Poll, rows: Sequence[Value], result: Value) -> bytes:
    """The results by region as CSV (RFC 4180, UTF-8). What is not known is an empty cell; `together with` then names the group."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(COLUMNS)
    writer.writerows(_lines(poll, rows, result))
    return out.getvalue().encode()


# ---------------------------------------------------------------- helpers


def _votes_online(options: int) -> Value:
    return {"state": "none", "ballots": 0, "votes": None, "total": None, "groups": [], "sum": [0] * options}


def _add_online(units: Sequence[Unit], held: Sequence[Value], groups: Sequence[Group]) -> None:
    """Adds the groups to what is held of each region, by number. A group's votes belong to the lowest region that holds all its voters."""
    for number, group in enumerate(groups):
        voted = [unit for unit, ballots in group.units if ballots]
        for unit, ballots in group.units:
            for above in _upwards(units, unit):
                held[above]["state"] = "shown"
                held[above]["ballots"] += ballots
        reached: dict[int, int] = {}
        for unit in voted:
            for above in _upwards(units, unit):
                reached[above] = reached.get(above, 0) + 1
        for above, count in reached.items():
            if count == len(voted):
                _add(held[above]["sum"], group.totals)
            else:
                held[above]["groups"].append(number)
    for one in held:
        votes = one.pop("sum")
        if one["groups"]:
            one["state"] = "together"
        elif one["state"] == "shown":
            one["votes"] = votes


def _down(under: Sequence[Sequence[int]], voting: Sequence[int], unit: int) -> int:
    """This region, or the one of several under it in which all of its votes are."""
    while len(under[unit]) > 1 and len(some := [one for one in under[unit] if voting[one]]) == 1:
        unit = some[0]
    return unit


def _upwards(units: Sequence[Unit], number: int) -> Iterator[int]:
    """A unit and those that it is in, up to the root."""
    while number >= 0:
        yield number
        number = units[number].parent


def _add(sums: list[int], counts: Sequence[int]) -> None:
    for place, count in enumerate(counts):
        sums[place] += count


def _lines(poll: Poll, rows: Sequence[Value], result: Value) -> Iterator[list[Any]]:
    for row, unit in zip(rows, poll.units, strict=True):
        where = [
            row["unit"],
            row["level"],
            _cell(row["name"]),
            _cell(poll.units[unit.parent].name) if unit.parent >= 0 else "",
        ]
        for number, contest in enumerate(result["contests"]):
            paper, online = row["paper"][number], row["online"][number] if row["online"] else None
            votes, totals = (online["votes"], online["total"]) if online else (None, None)
            names = "; ".join(
                _cell(named["name"]) for group in (online["groups"] if online else []) for named in contest["groups"][group]["regions"]
            )  # fmt: skip
            for place, option in enumerate(contest["options"]):
                yield [
                    *where, contest["id"], _cell(option["text"]), votes[place] if votes else "", paper[place], totals[place] if totals else "",
                    online["ballots"] if online else "", row["on_paper"][number]["counted"], names,
                ]  # fmt: skip


def _cell(text: str) -> str:
    return "'" + text if text.startswith(FORMULA) else text
