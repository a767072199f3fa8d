"""`ballotboard rollup demo`: a real city and a synthetic nation, rolled up, decrypted by five trustees of nine, and compared with what was published.

Minneapolis: the first choices of 2017 in their precincts. Each voter's card gives a ballot with its proofs, every precinct verifies and sums its own, and
the wards' totals are decrypted. The nation: the counties of 2020 as published, divided into 175,000 precincts; what a precinct would send is made
directly, since 158 million ballots would take a day, and from there on everything is as real as in the city.
"""

from __future__ import annotations

import csv
import hashlib
import json
import multiprocessing
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from chain.console import JsonOption, emit, note, progress, screen
from protocol import ceremony, credential, engine
from protocol.attachments import Unit, roll_row
from protocol.engine import CreateRequest
from protocol.errors import BallotboardError
from protocol.group import BASE, random_scalar, scalar_bytes
from protocol.manifest import Contest, Rule
from protocol.proofs import POK_BYTES
from protocol.records import pack_bodies
from protocol.tally import GroupSum
from rollup.check import check_tree
from rollup.cli import app
from rollup.groups import decrypt_partially, group_sums, right_shares, totals
from rollup.inbox import inbox, sum_path
from rollup.keys import Keys
from rollup.plan import Plan
from rollup.run import cluster, run_dask, run_tree
from rollup.sums import NO_SOURCE, ContestSum, encode
from rollup.unit import count_unit, open_roll, read_packed
from scripts.ballot_data import BallotData, read_ballots

TRUSTEES, THRESHOLD = 9, 5
PRECINCTS = 175_000
"""Election precincts of the United States, rounded: the Election Assistance Commission counted 176,933 in 2020."""

MINIMUM_BALLOTS = 30
"""No figure is decrypted for fewer ballots."""

NATION_OPTIONS = ("Republican", "Democrat", "other")
CREATE_CHUNK = 2_048
"""Ballots or encrypted sums made between two moves of a progress bar."""

DATA = Path("../shared/data")
MINNEAPOLIS, US_2020 = Path("irv/minneapolis_2017_mayor"), Path("national/us_2020")


class Place(StrEnum):
    minneapolis = "minneapolis"
    nation = "nation"


SOURCES = {Place.minneapolis: MINNEAPOLIS, Place.nation: US_2020}


@app.command()
def demo(
    data: Annotated[Path, typer.Option(help=f"Folder with {MINNEAPOLIS} and {US_2020}.")] = DATA,
    places: Annotated[list[Place] | None, typer.Option(help="Which; may be repeated. Default: both.")] = None,
    precincts: Annotated[int, typer.Option(min=3_152, help="Precincts of the nation.")] = PRECINCTS,
    limit: Annotated[int | None, typer.Option(min=1, help="Only so many ballots of the city, from all its precincts.")] = None,
    dask: Annotated[bool, typer.Option("--dask", help="Roll the nation up once more as a Dask graph on a local cluster, and compare.")] = False,
    out: Annotated[Path | None, typer.Option(help="Folder for all sums and logs; default: a temporary one.")] = None,
    as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Roll up Minneapolis 2017 from its ballots and a nation of 175,000 precincts, decrypt with 5 of 9 trustees, compare with the published figures.

    Example: ballotboard rollup demo --places nation --json
    """
    if out is not None and out.exists() and any(out.iterdir()):
        raise BallotboardError(f"{out} is not empty: choose another folder for the demo")
    folder = out or Path(tempfile.mkdtemp(prefix="ballotboard-rollup-"))
    results = {}
    try:
        for place in places or list(Place):
            if not (source := data / SOURCES[place]).is_dir():
                raise BallotboardError(f"there is no folder {source}: --data names the one with the published data")
            if place == Place.minneapolis:
                results[place.value] = minneapolis(source, folder / place.value, limit, as_json)
            else:
                results[place.value] = nation(source, folder / place.value, precincts, dask, as_json)
        if as_json:
            emit(results)
    finally:
        if out is None:
            shutil.rmtree(folder, ignore_errors=True)
    if not all(result["verified"] for result in results.values()):
        raise typer.Exit(1)


# ---------------------------------------------------------------- the city


def minneapolis(data: Path, folder: Path, limit: int | None = None, quiet: bool = False) -> dict[str, Any]:
    """City, wards and precincts, from each voter's card to the totals of each ward."""
    found = sample(read_ballots(data / "contest.json", data / "ballots.csv"), limit)
    clock = Clock()
    note(
        f"{found.name}: {len(found.votes):,} first choices in {len(found.units)} precincts, {len(found.options)} options"
    )
    units, leaf_of = city_units(found.units)
    contest = Contest("mayor", found.name, Rule.ONE_OF_K, 0, found.options)
    with clock("ceremony"):
        trustees = Trustees.make(hashlib.sha256(found.name.encode()).digest())
    with clock("cards"):
        nonce = os.urandom(32)
        codes = [credential.new_code() for _ in found.votes]
        public = engine.public_keys(codes, nonce, 1)
        # the roll is sorted by (unit, key): a row's place says nothing about whose it is
        order = sorted(range(len(codes)), key=lambda i: (leaf_of[found.votes[i][0]], public[i]))
        folder.mkdir(parents=True)
        roll_file = folder / "roll"
        roll_file.write_bytes(b"".join(roll_row(public[i], leaf_of[found.votes[i][0]]) for i in order))
    keys = Keys(os.urandom(32))
    plan = _plan(f"{found.name} in precincts", trustees, contest, len(order), units, 1, keys)
    plan.save(folder)
    with clock("ballots"), progress(f"Voters encrypt ({engine.name()})", len(order), quiet) as advance:
        _encrypt(plan, folder, order, found.votes, leaf_of, codes, nonce, advance)
    with clock("count"), progress("Precincts verify and sum their ballots", len(order), quiet) as advance:
        largest_first = sorted(leaf_of, key=lambda unit: -_size(folder, unit))
        counted, refused = _count_precincts(plan, folder, keys, roll_file, largest_first, advance)
    with clock("roll_up"):
        run_tree(plan, folder, keys)
    with clock("audit"), progress("Levels checked, every ballot again", None, quiet) as advance:
        checked, problems = check_tree(plan, folder, 0, open_roll(roll_file, plan), advance)
    groups = group_sums(plan, folder)[0]
    result = trustees.decrypt(plan, folder, contest, groups, clock)
    expected: dict[int, list[int]] = {unit: [0] * contest.k for unit in leaf_of}
    for place, option in found.votes:
        expected[leaf_of[place]][option] += 1
    wards = _by_ancestor(plan, groups, result, 1)
    published = _by_ancestor(plan, groups, [_add_up(expected, group) for group in groups], 1)
    right = {name: published[name] == row for name, row in wards.items()}
    if not quiet:
        _print_rows("Ward", [*found.options[:4], "others"], [(n, [*row[:4], sum(row[4:])], right[n]) for n, row in wards.items()])  # fmt: skip
    summary = {
        "election": found.name, "source": found.source, "ballots": counted, "refused": refused, "precincts": len(leaf_of),
        "groups": len(groups), "wards": {name: dict(zip(found.options, row, strict=True)) for name, row in wards.items()},
        "wards_right": sum(right.values()), "checked": checked, "problems": len(problems),
        "verified": all(right.values()) and not problems and counted == len(found.votes),
        "seconds": clock.seconds,
    }  # fmt: skip
    _print_end(summary)
    return summary


def sample(data: BallotData, limit: int | None) -> BallotData:
    """At most `limit` of the ballots, spread evenly over the file, which is sorted by precinct."""
    total = len(data.votes)
    if limit is None or limit >= total:
        return data
    return replace(data, votes=tuple(data.votes[i * total // limit] for i in range(limit)))


def city_units(precincts: Sequence[str]) -> tuple[list[Unit], list[int]]:
    """(units, unit number of each precinct) of names like `MINNEAPOLIS W-1 P-01`: city, ward, precinct."""
    wards: dict[str, list[int]] = {}
    for i, name in enumerate(precincts):
        wards.setdefault(name.rpartition(" ")[0], []).append(i)
    units, leaf_of = [Unit("city", "Minneapolis", -1, -1)], [0] * len(precincts)
    for name in sorted(wards, key=lambda ward: int(ward.rpartition("-")[2])):
        ward = len(units)
        units.append(Unit("ward", name, 0, -1))
        for i in wards[name]:
            leaf_of[i] = len(units)
            units.append(Unit("precinct", precincts[i], ward, 0))
    return units, leaf_of


def _encrypt(
    plan: Plan, folder: Path, order: Sequence[int], votes: Sequence[tuple[int, int]], leaf_of: Sequence[int],
    codes: Sequence[bytes], nonce: bytes, advance: Any,
) -> None:  # fmt: skip
    """Every voter's ballot, in the file of the precinct: from the code on the card, as the booth does it."""
    one, k = plan.engine(), plan.contests[0].k
    for unit in leaf_of:
        inbox(folder, unit).mkdir(exist_ok=True)
    for start in range(0, len(order), CREATE_CHUNK):
        requests = []
        for index in range(start, min(start + CREATE_CHUNK, len(order))):
            i = order[index]
            unit, option = leaf_of[votes[i][0]], votes[i][1]
            secret = credential.secret_key(codes[i], nonce, i + 1)
            choice = [int(place == option) for place in range(k)]
            requests.append(CreateRequest(index, 0, unit, 0, secret, os.urandom(32), [choice]))
        by_unit: dict[int, list[bytes]] = {}
        for request, body in zip(requests, one.create(requests), strict=True):
            by_unit.setdefault(request.unit, []).append(body)
        for unit, bodies in by_unit.items():
            with _ballots(folder, unit).open("ab") as file:
                file.write(pack_bodies(bodies))
        advance(start + len(requests))


def _count_precincts(
    plan: Plan, folder: Path, keys: Keys, roll: Path, leaves: Sequence[int], advance: Any
) -> tuple[int, int]:
    """(counted, refused) ballots; each precinct is counted by one process, as many at a time as there are cores."""
    counted = refused = 0
    work = partial(_count_precinct, plan, folder, keys, roll)
    with multiprocessing.get_context("fork").Pool(os.cpu_count()) as pool:
        for fates in pool.imap_unordered(work, leaves):
            counted += fates.pop("valid", 0)
            refused += sum(fates.values())
            advance(counted + refused)
    return counted, refused


def _count_precinct(plan: Plan, folder: Path, keys: Keys, roll: Path, unit: int) -> dict[str, int]:
    ballots = read_packed(_ballots(folder, unit)) if _ballots(folder, unit).exists() else iter(())
    return count_unit(plan, folder, unit, keys, open_roll(roll, plan), ballots).fates


def _ballots(folder: Path, unit: int) -> Path:
    return inbox(folder, unit) / "counted.ballots"


def _size(folder: Path, unit: int) -> int:
    return _ballots(folder, unit).stat().st_size if _ballots(folder, unit).exists() else 0


# ---------------------------------------------------------------- the nation


@dataclass(frozen=True)
class County:
    state: str
    name: str
    votes: tuple[int, int, int]


def nation(
    data: Path, folder: Path, precincts: int = PRECINCTS, dask: bool = False, quiet: bool = False
) -> dict[str, Any]:
    """Nation, states, counties and synthetic precincts, from encrypted precinct sums to decrypted groups of counties."""
    counties = read_counties(data / "county_president.csv")
    expected = json.loads((data / "expected.json").read_text())
    clock = Clock()
    votes = sum(sum(county.votes) for county in counties)
    note(f"The United States 2020: {votes:,} votes, {len(counties):,} counties, {precincts:,} synthetic precincts")
    units, counts = nation_units(counties, precincts)
    contest = Contest("president", "President 2020", Rule.ONE_OF_K, 0, NATION_OPTIONS)
    with clock("ceremony"):
        trustees = Trustees.make(hashlib.sha256(b"a synthetic nation").digest())
    keys = Keys(os.urandom(32))
    with clock("plan"):
        plan = _plan("synthetic nation", trustees, contest, votes, units, 2, keys)
        plan.save(folder)
    with clock("precinct_sums"), progress("Precincts' sums are encrypted and signed", len(counts), quiet) as advance:
        write_unit_sums(plan, folder, keys, counts, advance)
    with clock("roll_up"):
        made = run_tree(plan, folder, keys).sum
    if dask:
        _again_with_dask(plan, folder, keys, made.data, clock)
    with clock("audit"), progress("Levels checked", None, quiet) as advance:
        checked, problems = check_tree(plan, folder, 0, progress=advance)
    groups = group_sums(plan, folder)[0]
    result = trustees.decrypt(plan, folder, contest, groups, clock)
    states = _by_ancestor(plan, groups, result, 1)
    file_sums: dict[str, list[int]] = {}
    for county in counties:
        row = file_sums.setdefault(county.state, [0, 0, 0])
        row[:] = [a + b for a, b in zip(row, county.votes, strict=True)]
    right = {name: file_sums[name] == row for name, row in states.items()}
    by_county = sum(row == _add_up(counts, group) for group, row in zip(groups, result, strict=True))
    certified = _certified(states, expected)
    total = [sum(column) for column in zip(*result, strict=True)]
    if not quiet:
        _print_rows("State", NATION_OPTIONS, [(n, row, right[n]) for n, row in states.items()])
    note(f"The certified totals of {len(certified['agree'])} states; not those of {', '.join(certified['differ']) or 'none'}")  # fmt: skip
    summary = {
        "votes": sum(total), "totals": dict(zip(NATION_OPTIONS, total, strict=True)), "precincts": len(counts), "counties": len(counties),
        "states": len(states), "groups": len(groups), "groups_right": by_county, "states_right": sum(right.values()),
        "certified": {name: len(some) for name, some in certified.items()}, "not_certified": certified["differ"],
        "dask_same_bytes": True if dask else None, "checked": checked, "problems": len(problems),
        "verified": all(right.values()) and right.keys() == file_sums.keys() and by_county == len(groups) and sum(total) == votes
        and not problems and sorted(certified["agree"]) == sorted(expected["states_matching"]),
        "seconds": clock.seconds,
    }  # fmt: skip
    _print_end(summary)
    return summary


def read_counties(path: Path) -> list[County]:
    """The rows of the published file. Raises BallotboardError where it is not what it should be."""
    try:
        with path.open(newline="") as file:
            return [
                County(r["state_name"], r["county_name"], (int(r["votes_gop"]), int(r["votes_dem"]), int(r["total_votes"]) - int(r["votes_gop"]) - int(r["votes_dem"])))
                for r in csv.DictReader(file)
            ]  # fmt: skip
    except OSError as error:
        raise BallotboardError(f"cannot read {path}: {error.strerror} (--data names the folder)") from error
    except (KeyError, ValueError) as error:
        raise BallotboardError(f"{path} is not the county file: {error}") from error


def nation_units(counties: Sequence[County], precincts: int) -> tuple[list[Unit], dict[int, list[int]]]:
    """(units, leaf unit → votes per option): precincts shared out by votes, at least one a county, a county's votes evenly over its own."""
    spare, total = precincts - len(counties), sum(sum(county.votes) for county in counties)
    units, counts = [Unit("nation", "United States", -1, -1)], {}
    state, states, given, seen = -1, set[str](), 0, 0
    for county in sorted(counties, key=lambda county: county.state):
        if county.state not in states:
            states.add(county.state)
            state = len(units)
            units.append(Unit("state", county.state, 0, -1))
        seen += sum(county.votes)
        share = spare * seen // total - given  # cumulative, so that all are given out in the end
        given += share
        number = len(units)
        units.append(Unit("county", county.name, state, -1))
        for i in range(share + 1):
            counts[len(units)] = [v * (i + 1) // (share + 1) - v * i // (share + 1) for v in county.votes]
            units.append(Unit("precinct", f"{county.name} precinct {i + 1}", number, 0))
    return units, counts


def write_unit_sums(plan: Plan, folder: Path, keys: Keys, counts: dict[int, list[int]], advance: Any = None) -> None:
    """A signed sum for each leaf unit: each option's total encrypted, as the sum of its ballots would be. One-of-k, one contest."""
    n = plan.contests[0].k - 1
    made: set[Path] = set()
    for start in range(0, len(counts), CREATE_CHUNK):
        some = list(counts.items())[start : start + CREATE_CHUNK]
        randoms = [scalar_bytes(random_scalar()) for _ in range(n * len(some))]
        values = [scalar_bytes(v) for _, row in some for v in row[:n]]
        a = engine.fixed_rows(BASE, b"".join(randoms))
        b = engine.fixed_rows(plan.key + BASE, b"".join(r + v for r, v in zip(randoms, values, strict=True)))
        pairs = [a[i : i + 32] + b[i : i + 32] for i in range(0, len(a), 32)]
        bodies = []
        for place, (unit, row) in enumerate(some):
            points = b"".join(pairs[n * place : n * (place + 1)])
            bodies.append(encode(plan.id, unit, 1, 0, NO_SOURCE, [ContestSum(0, sum(row), points)]))
        signed = keys.sign_many([unit for unit, _ in some], [hashlib.sha256(body).digest() for body in bodies])
        for place, (unit, _) in enumerate(some):
            if (parent := inbox(folder, plan.units[unit].parent)) not in made:
                parent.mkdir(exist_ok=True)
                made.add(parent)
            with open(f"{parent}/{unit}.sum", "wb", buffering=0) as file:
                file.write(bodies[place] + signed[POK_BYTES * place : POK_BYTES * (place + 1)])
        if advance:
            advance(start + len(some))


def _again_with_dask(plan: Plan, folder: Path, keys: Keys, sequential: bytes, clock: Clock) -> None:
    """Takes the inner units' sums away, makes them again on a cluster, and compares every file."""
    inner = plan.inner_below(0)
    before = {unit: sum_path(folder, plan, unit).read_bytes() for unit in inner}
    for unit in inner:
        sum_path(folder, plan, unit).unlink()
    with clock("roll_up_dask"), cluster("local") as client:
        made = run_dask(plan, folder, keys, client).sum
    different = [unit for unit in inner if sum_path(folder, plan, unit).read_bytes() != before[unit]]
    if different or made.data != sequential:
        raise BallotboardError(
            f"the Dask graph gives other sums for {len(different)} units than the sequential roll-up"
        )
    note(f"the Dask graph gives the same {len(inner):,} sums, byte for byte")


def _certified(states: dict[str, list[int]], expected: dict[str, Any]) -> dict[str, list[str]]:
    """Names of states whose two large totals are the certified ones, and of those that are not."""
    found: dict[str, list[str]] = {"agree": [], "differ": []}
    for name, row in states.items():
        found["agree" if row[:2] == expected["states"][name]["official_rep_dem"] else "differ"].append(name)
    return found


def _add_up(counts: dict[int, list[int]], group: GroupSum) -> list[int]:
    """What the source says that a group decrypts to."""
    return [sum(column) for column in zip(*(counts[unit] for unit in group.units), strict=True)]


# ---------------------------------------------------------------- trustees


@dataclass(frozen=True)
class Trustees:
    """Nine trustees after their ceremony. In a real election they are nine people in nine places (`ballotboard trustee`)."""

    joint: ceremony.JointKey
    shares: list[int] = field(repr=False)

    @staticmethod
    def make(election: bytes) -> Trustees:
        setting = ceremony.Setting(election, 0, TRUSTEES, THRESHOLD)
        people = [ceremony.TrusteeSecret.draw(j, THRESHOLD) for j in range(1, TRUSTEES + 1)]
        first = [ceremony.round1(setting, one) for one in people]
        second = [ceremony.round2(setting, one, first) for one in people]
        third = [ceremony.round3(setting, one, first, second) for one in people]
        joint = ceremony.check_ceremony(setting, first, second, third)
        return Trustees(joint, [ceremony.share_secret(setting, one, first, second) for one in people])

    def decrypt(self, plan: Plan, folder: Path, contest: Contest, groups: Sequence[GroupSum], clock: Clock) -> list[list[int]]:  # fmt: skip
        """Totals of each group by five of the nine, every partial decryption checked."""
        root = hashlib.sha256(sum_path(folder, plan, 0).read_bytes()).digest()
        right = {}
        with clock("decrypt"):
            for j in (1, 3, 4, 7, 9):
                values = decrypt_partially(
                    plan.context, root, groups, j, self.shares[j - 1], folder / f"trustee-{j}.decrypted"
                )
                right[j] = right_shares(plan.context, root, groups, j, self.joint.share_keys[j - 1], values)
            return totals(contest, groups, right, THRESHOLD)


# ---------------------------------------------------------------- helpers


class Clock:
    """Seconds by step."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - start, 3)


def _plan(name: str, trustees: Trustees, contest: Contest, voters: int, units: Sequence[Unit], level: int, keys: Keys) -> Plan:  # fmt: skip
    election = hashlib.sha256(name.encode()).digest()
    context = hashlib.sha512(election + trustees.joint.key).digest()
    public = keys.public(range(len(units)))
    return Plan.build(
        election, context, trustees.joint.key, [contest], [[0]], level, MINIMUM_BALLOTS, voters, units, public
    )


def _by_ancestor(plan: Plan, groups: Sequence[GroupSum], result: Sequence[Sequence[int]], depth: int) -> dict[str, list[int]]:  # fmt: skip
    """Totals per unit at this depth; a group that lies in several is named for all of them."""
    found: dict[str, list[int]] = {}
    for group, row in zip(groups, result, strict=True):
        above: dict[int, None] = {}
        for unit in group.units:
            way = [unit]
            while plan.units[way[-1]].parent >= 0:
                way.append(plan.units[way[-1]].parent)
            above[way[-1 - depth]] = None
        total = found.setdefault(" + ".join(plan.units[unit].name for unit in above), [0] * len(row))
        total[:] = [a + b for a, b in zip(total, row, strict=True)]
    return found


def _print_rows(what: str, columns: Sequence[str], rows: Sequence[tuple[str, Sequence[int], bool]]) -> None:
    table = Table(title="Decrypted totals, and whether they are those of the file")
    table.add_column(what, no_wrap=True)
    for column in [*columns, "right"]:
        table.add_column(column, justify="right", overflow="fold")
    for name, row, right in rows:
        table.add_row(name, *(f"{n:,}" for n in row), "yes" if right else "NO")
    screen.print(table)


def _print_end(summary: dict[str, Any]) -> None:
    seconds = ", ".join(f"{name.replace('_', ' ')} {value:,.1f}" for name, value in summary["seconds"].items())
    note(f"{'verified' if summary['verified'] else 'DOES NOT VERIFY'}; seconds: {seconds}\n")
