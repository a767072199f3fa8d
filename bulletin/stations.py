"""One polling station, what there is to ask about (verifier.picture), and a printed sheet beside the record: as values, and flags in words.

A flag is a question to ask and no verdict. Before the embargo ends only who has reported is told: the rules that look at anything else wait.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from bulletin.store import Reading
from bulletin.views import Poll, Value
from bulletin.words import Words
from chain.errors import BadSignature
from chain.sign import SIGNATURE, recover_record
from protocol import election
from protocol.attachments import Roll
from protocol.counting import CountedSet, apply_roll_changes
from protocol.election import EMPTY_FILE, LogRecord
from protocol.manifest import Contest
from protocol.records import CheckIns, Kind, RollChange, RollRecord
from verifier import picture
from verifier.picture import RULES, Known
from verifier.sheets import Comparison, Field

TIMING = ("late", "silent")
"""Rules that look at nothing but who has reported, and when."""

OUTSIDE = ("official", "serials")
"""Rules that need what is not on the record: published figures, scanners' reports."""

RULES_HERE = {rule: severity for rule, (severity, _) in RULES.items() if rule not in OUTSIDE}

STATES = ("waiting", "reported", "revealed", "amended")
"""Of a station (bulletin.views.stations), in the order in which it goes through them."""

CELLS = 1_000
"""Cells of the map on one page, half a megabyte of HTML; where there are more, regions are listed and opened one by one."""

NOTE = "A flag is a question to ask and no verdict."


@dataclass(frozen=True)
class Places:
    """Where stations are. By number of the unit: `counts`, how many of each of STATES are in it and below; `under`, the regions right under it
    that have any; `own`, the stations that are right in it."""

    counts: list[list[int]]
    under: list[list[int]]
    own: list[list[int]]

    def within(self, unit: int) -> Iterator[int]:
        """Every station of a unit, region by region."""
        waiting = [unit]
        while waiting:
            unit = waiting.pop()
            yield from self.own[unit]
            waiting.extend(reversed(self.under[unit]))


def in_regions(poll: Poll, stations: Sequence[Value]) -> Places:
    """All of them, from the rows of bulletin.views.stations."""
    counts = [[0] * len(STATES) for _ in poll.units]
    own: list[list[int]] = [[] for _ in poll.units]
    for row in stations:
        own[row["unit"]].append(row["station"])
        counts[row["unit"]][STATES.index(row["state"])] += 1
    under: list[list[int]] = [[] for _ in poll.units]
    for number in range(len(poll.units) - 1, 0, -1):  # a unit comes after the one that it is in
        if any(counts[number]):
            parent = poll.units[number].parent
            under[parent].append(number)
            counts[parent] = [a + b for a, b in zip(counts[parent], counts[number], strict=True)]
    return Places(counts, [found[::-1] for found in under], own)


def grid(poll: Poll, stations: Sequence[Value], found: Places, unit: int, start: int = 0) -> Value:
    """The map of a unit, which is a region with regions under it: a cell for each station, grouped by those regions; a region with one station is no group of
    its own. Where that makes more than CELLS, `regions` to be opened one by one take the place of the groups, CELLS rows and cells from number `start`
    on; `next` is where to go on."""
    names, sums = poll.units, found.counts
    groups = [number for number in found.under[unit] if sum(sums[number]) > 1]
    single = [*found.own[unit]]
    for number in found.under[unit]:
        single += found.within(number) if sum(sums[number]) == 1 else ()
    single.sort()
    value: Value = {
        "unit": unit, "name": names[unit].name, "counts": dict(zip(STATES, sums[unit], strict=True)), "of": sum(sums[unit]),
        "above": [{"unit": number, "name": names[number].name} for number in _above(poll, unit)], "alone": not groups,
        "groups": [], "regions": [], "next": None, "start": start,
    }  # fmt: skip

    def head(number: int) -> Value:
        counts = dict(zip(STATES, sums[number], strict=True))
        return {"unit": number, "name": names[number].name, "counts": counts, "of": sum(sums[number])}

    if value["of"] <= CELLS:
        value["groups"] = [
            {**head(number), "cells": [stations[one] for one in found.within(number)]} for number in groups
        ]
    else:
        every = groups + single
        shown = every[start : start + CELLS]
        value["regions"] = [head(number) for number in shown[: max(0, len(groups) - start)]]
        single = shown[len(value["regions"]) :]
        value["next"] = start + CELLS if start + CELLS < len(every) else None
    if single:
        counts = Counter(stations[one]["state"] for one in single)
        rest = {"unit": None, "name": None, "counts": {state: counts[state] for state in STATES}, "of": len(single)}
        value["groups"].append({**rest, "cells": [stations[one] for one in single]})
    return value


def _above(poll: Poll, unit: int) -> list[int]:
    """The units that a unit is in, from the root on."""
    found = []
    while (unit := poll.units[unit].parent) >= 0:
        found.append(unit)
    return found[::-1]


def known(tx: Reading, poll: Poll, acts: Sequence[LogRecord], turnout: Value, early: bool) -> Known | None:
    """What the picture is drawn from. None while the lists of units, stations or voters are not there. `early`, before the embargo ends, nobody is told of
    check-ins, so they are not looked at: there may be millions, and a new head with every block."""
    roll = next((found for _, found in election.readable(acts, Kind.ROLL, RollRecord.parse)), None)
    if not poll.stations or roll is None or roll.sha256 not in (EMPTY_FILE, *tx.attachment_names()):
        return None
    batches = [] if early else list(election.readable(acts, Kind.CHECK_IN, CheckIns.parse))
    check_ins = CountedSet([], [], {}, [])
    if batches:  # else nobody is looked up, and the roll may be large
        rows = Roll(tx.attachment(roll.sha256) or b"", [unit.style for unit in poll.units])
        changes = [(r.position, change) for r, change in election.readable(acts, Kind.ROLL_CHANGE, RollChange.parse)]
        check_ins = picture.count_check_ins(poll.manifest, poll.stations, apply_roll_changes(rows, changes), batches)
    on_paper = {index for _, batch in batches for index, _ in batch.entries} - set(tx.fact("revoked") or ())
    online = Counter({unit["unit"]: unit["cards"] for unit in turnout["units"]})
    online.subtract(tx.voters_of(sorted(on_paper)))
    return Known(poll.manifest, poll.units, poll.stations, acts, check_ins, poll.voters, online, tx.head().size)


def flags(known: Known, now: int) -> list[Value]:
    """What there is to ask about at this time of the chain; before the embargo ends, only about who has reported."""
    early = now < known.manifest.windows.reveal_not_before
    return [flag for flag in picture.flags(known, now) if not early or flag["rule"] in TIMING]


def of_station(flags: Sequence[Value], number: int) -> list[Value]:
    """Those that name this station; a voter who was checked in twice is a question to both."""
    return [
        flag for flag in flags
        if number == flag["station"] or (flag["rule"] == "conflict" and number in flag["figures"]["stations"])
    ]  # fmt: skip


def by_station(flags: Sequence[Value]) -> Counter[int]:
    """station → how many flags name it first."""
    return Counter(flag["station"] for flag in flags if flag["station"] is not None)


def station(poll: Poll, row: Value, known: Known | None, flags: Sequence[Value], early: bool) -> Value:
    """A station's row with its valid check-ins, who may sign and who signed, where each revision was revealed, and its flags. `early`: the embargo has not ended."""
    number = row["station"]
    place = poll.stations[number]
    own = known.revisions.get(number, []) if known else []
    valid = known.check_ins.check_ins.get(number, 0) if known and not early else None
    by_number = {revision.number: revision for revision in own}
    revisions = []
    for value in row["revisions"]:
        found = by_number.get(value["revision"])
        revealed = found.revealed.position if found and found.revealed else None
        signed = _signers(poll, found.signed) if found else []
        revisions.append({**value, "signed_by": signed, "revealed_position": revealed})
    return {
        **row, "check_ins": None if early else row["check_ins"], "valid_check_ins": valid, "path": picture.path(poll.units, place.unit), "revisions": revisions,
        "officers": [officer.hex() for officer in place.officers], "note": NOTE, "flags": of_station(flags, number),
    }  # fmt: skip


def page_of_flags(found: Sequence[Value], start: int, limit: int, rule: str = "") -> Value:
    """Flags from number `start` on, of one rule or all; `next` is where to go on, `counts` how many of each rule there are in all."""
    wanted = [flag for flag in found if rule in ("", flag["rule"])]
    counts = Counter(flag["rule"] for flag in found)
    return {
        "note": NOTE, "rules": {name: {"severity": severity, "text": RULES[name][1]} for name, severity in RULES_HERE.items()},
        "counts": {name: counts[name] for name in RULES_HERE if counts[name]}, "flags": wanted[start : start + limit],
        "next": start + limit if start + limit < len(wanted) else None,
    }  # fmt: skip


def flag_line(flag: Value, poll: Poll, words: Words) -> Value:
    """A flag in words: where, the sentence with its figures, and what the record says in its own words (a reason, a contradiction), "" if nothing."""
    figures, rule = flag["figures"], flag["rule"]
    values, quote = dict(figures), ""
    if "seconds" in figures:
        values["hours"] = figures["seconds"] // 3600
    if rule == "arithmetic":
        quote = "; ".join(figures["wrong"])
    elif rule == "revision":
        contest = poll.manifest.contests[figures["contest"]]
        quote = figures["reason"]
        values |= {name: _votes(contest.options, figures[name], words) for name in ("before", "after")}
    elif rule == "conflict":
        values |= {name: str(figures[name]) for name in ("roll_index", "first", "second")}
        values["stations"] = " / ".join(poll.stations[number].name for number in figures["stations"])
    elif rule == "void":
        values = {name: str(value) for name, value in figures.items()}
    elif rule == "digits":
        contest = poll.manifest.contests[figures["contest"]]
        values["option"] = f"{contest.title}, {contest.options[figures['option']]}"
        values["digits"] = ", ".join(words.number(count) for count in figures["digits"])
        values["square"] = words.number(round(figures["chi_square_milli"] / 1000))
    station, unit = flag["station"], flag["unit"]
    if station is not None and station >= len(poll.stations):  # a void check-in may name any
        station = None
    where = poll.stations[station].name if station is not None else poll.units[unit].name if unit is not None else ""
    return {
        "rule": rule, "severity": flag["severity"], "station": station, "where": where, "text": words.say(f"flag.{rule}", **values), "quote": quote,
    }  # fmt: skip


def sheet_parts(poll: Poll, found: Comparison) -> list[Value]:
    """The fields of a sheet for the page, by what they belong to: `title` of a contest, None for the document and the papers. A field's `label` is a key of
    the words; where it has `text`, that is the option's own name."""
    parts = []
    for number, fields in groupby(found.fields, key=lambda field: field.contest):
        contest = (
            poll.manifest.contests[number] if number is not None and 0 <= number < len(poll.manifest.contests) else None
        )
        title = None if number is None else contest.title if contest else f"{number}"
        parts.append({"title": title, "rows": [_sheet_row(field, contest) for field in fields]})
    return parts


def _sheet_row(field: Field, contest: Contest | None) -> Value:
    text = None
    if field.option is not None:
        text = contest.options[field.option] if contest and field.option < contest.k else f"{field.option}"
    return {"label": field.name, "text": text, "sheet": field.sheet, "record": field.record, "same": field.same}


def _signers(poll: Poll, record: LogRecord) -> list[str]:
    """The addresses whose signatures the record carries, recovered from them."""
    parts = [record.signatures[at : at + SIGNATURE] for at in range(0, len(record.signatures), SIGNATURE)]
    found = []
    for part in parts:
        try:
            signer = recover_record(
                poll.manifest.chain_id, poll.contract, record.kind, record.entry.body_hash, record.number, part
            )
            found.append(signer.hex())
        except BadSignature:  # the contract would have refused it: this is for the verifier to say
            found.append("")
    return found


def _votes(options: Sequence[str], counts: Sequence[int], words: Words) -> str:
    return ", ".join(f"{option} {words.number(count)}" for option, count in zip(options, counts, strict=False))
