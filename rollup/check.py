"""The audit: what anyone who has the files can check, one level at a time and without any key.

For an inner unit, from its sum, its child list and the sums of its children, and nothing else:
  1  its sum is there, well formed and signed by it,
  2  the child list is the one that the sum names: root and number of rows,
  3  each listed child is a unit right below; its sum is the listed one, signed by it,
  4  the children's sums add up to its own: points, ballots and leaf units,
  5  no child has signed two different sums of one revision,
  6  no child is missing.

For a leaf unit, from its sum, its log and the roll:
  1  as above,
  7  its log, replayed from the start, has the head and the number of ballots that the sum names, and gives its points and ballots.

What is then left open, and who answers it: that the ballots in the logs are the counted set of the record. The verifier recomputes the sums from the
record; `compare_groups` says whether they are these.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from protocol.attachments import Roll
from protocol.engine import Engine
from protocol.errors import BallotboardError, Malformed
from protocol.tally import GroupSum
from rollup import keys
from rollup.inbox import CHILDREN_FILE, conflicts, inbox, read
from rollup.plan import Plan
from rollup.sums import SumError, UnitSum, child_list_root, combine, parse, parse_child_list
from rollup.unit import replay

Progress = Callable[[int, int], None]

CHUNKED, CHUNK = 1_000, 16
"""From so many units on, a process takes several at a time: a level takes a few milliseconds."""


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong: which of the module's checks, at which unit, and how."""

    check: int
    unit: int
    reason: str


def check_level(plan: Plan, folder: Path, unit: int) -> list[Problem]:
    """Checks 1 to 6 of an inner unit."""
    problems: list[Problem] = []
    own = _own(plan, folder, unit, problems)
    if own is None:
        return problems
    listed = _listed(plan, folder, own)
    if listed is None:
        return [*problems, Problem(2, unit, "no child list is there that hashes to what the sum names")]
    below = set(plan.children(unit))
    children: list[UnitSum] = []
    for child, revision, digest in parse_child_list(listed):
        if child not in below:
            parent = plan.units[child].parent if child < len(plan.units) else None
            where = "not in the tree" if parent is None else f"in unit {parent}: it would be counted twice"
            problems.append(Problem(3, unit, f"lists unit {child}, which is {where}"))
            continue
        try:
            found = _version(plan, folder, unit, child, revision, digest)
        except SumError as error:
            problems.append(Problem(3, child, str(error)))
            continue
        if found is None:
            problems.append(Problem(3, child, f"its sum of revision {revision}, which the list names, is not there"))
        else:
            children.append(found)
    problems += [Problem(3, child.unit, "its sum is not signed with its key") for child in _unsigned(plan, children)]
    problems += _add_up(plan, own, children)
    twice = sorted({tuple(map(int, path.name.split("-")[:2])) for path in conflicts(folder, unit)})
    problems += [Problem(5, child, f"it has signed two sums of revision {revision}: conflicts/{child}-{revision}-*") for child, revision in twice]  # fmt: skip
    names = {child.unit for child in children}
    problems += [Problem(6, child, "its sum is not in the sum above") for child in sorted(below - names)]
    return problems


def check_leaf(plan: Plan, folder: Path, unit: int, roll: Roll, engine: Engine) -> list[Problem]:
    """Checks 1 and 7 of a leaf unit: all its ballots again."""
    problems: list[Problem] = []
    own = _own(plan, folder, unit, problems)
    if own is None:
        return problems
    problems += [Problem(1, unit, "its sum is not signed with its key") for _ in _unsigned(plan, [own])]
    try:
        tally, end = replay(plan, folder, unit, roll, engine)
    except (BallotboardError, OSError) as error:
        return [*problems, Problem(7, unit, f"its log cannot be replayed: {error}")]
    if (own.parts, own.source) != (end.ballots, end.head):
        problems.append(Problem(7, unit, f"the sum is of {own.parts:,} ballots, the log has {end.ballots:,} or others"))
    if own.contests != tuple(tally.contest_sums()) or own.leaves != 1:
        problems.append(Problem(7, unit, "the ballots in the log do not give the sum"))
    return problems


def check_tree(
    plan: Plan, folder: Path, top: int = 0, roll: Roll | None = None, progress: Progress | None = None, processes: int = 0
) -> tuple[int, list[Problem]]:  # fmt: skip
    """(units checked, problems): every inner unit from `top` down; with a roll also every leaf unit, from its ballots. `processes` 0 means all cores."""
    global _shared
    units = plan.inner_below(plan.check_unit(top))
    if not units and roll is None:
        raise BallotboardError(f"{plan.name(top)} is a leaf: what there is to check is its log, with --logs")
    if roll:
        units = units or [top]
        units += [child for unit in units for child in plan.children(unit) if plan.is_leaf(child)]
    plan.layout(top)  # computed here, once: the processes inherit it
    _shared = plan, folder, roll, plan.engine() if roll else None
    problems: list[Problem] = []
    with multiprocessing.get_context("fork").Pool(min(processes or os.cpu_count() or 1, len(units))) as pool:
        for done, found in enumerate(pool.imap(_check_unit, units, CHUNK if len(units) > CHUNKED else 1), 1):
            problems += found
            if progress:
                progress(done, len(units))
    return len(units), problems


_shared: tuple[Plan, Path, Roll | None, Engine | None]
"""What a forked process checks; set by `check_tree` before it forks."""


def _check_unit(unit: int) -> list[Problem]:
    plan, folder, roll, engine = _shared
    if roll is None or engine is None or not plan.is_leaf(unit):
        return check_level(plan, folder, unit)
    return check_leaf(plan, folder, unit, roll, engine)


def compare_groups(found: Sequence[Sequence[GroupSum]], record: Sequence[Sequence[GroupSum]]) -> list[str]:
    """Where the roll-up's groups differ from those of a settled election (`protocol.election.settle`), one line for each contest."""
    different = []
    for contest, (ours, theirs) in enumerate(zip(found, record, strict=True)):
        wrong = [b.group for a, b in zip(ours, theirs, strict=False) if a != b]
        if wrong or len(ours) != len(theirs):
            which = f"group {wrong[0]} is another" if wrong else f"{len(ours)} groups instead of {len(theirs)}"
            different.append(f"contest {contest}: {which}")
    return different


# ---------------------------------------------------------------- helpers


def _own(plan: Plan, folder: Path, unit: int, problems: list[Problem]) -> UnitSum | None:
    """The unit's sum; its signature is checked here, its absence or malformation noted."""
    try:
        own = read(plan, folder, unit)
    except SumError as error:
        problems.append(Problem(1, unit, str(error)))
        return None
    if own is None:
        problems.append(Problem(1, unit, "its sum is not there"))
    elif not plan.is_leaf(unit):
        problems += [Problem(1, unit, "its sum is not signed with its key") for _ in _unsigned(plan, [own])]
    return own


def _listed(plan: Plan, folder: Path, own: UnitSum) -> bytes | None:
    """The child list with the root that the sum names: the standing one or, after a crash between the two files, the one before."""
    place = inbox(folder, own.unit)
    for path in (place / CHILDREN_FILE, place / "superseded" / f"{CHILDREN_FILE}-{own.revision}"):
        try:
            data = path.read_bytes()
            if child_list_root(data) == own.source and len(parse_child_list(data)) == own.parts:
                return data
        except (FileNotFoundError, Malformed):
            continue
    return None


def _version(plan: Plan, folder: Path, unit: int, child: int, revision: int, digest: bytes) -> UnitSum | None:
    """The child's sum with this hash: the standing one, or one that a later revision has replaced since."""
    standing = read(plan, folder, child)
    if standing and hashlib.sha256(standing.data).digest() == digest:
        return standing if standing.revision == revision else None
    try:
        data = (inbox(folder, unit) / "superseded" / f"{child}-{revision}.sum").read_bytes()
    except FileNotFoundError:
        return None
    if hashlib.sha256(data).digest() != digest:
        return None
    found = parse(plan.id, child, plan.layout(child), data)
    return found if found.revision == revision else None


def _unsigned(plan: Plan, sums: Sequence[UnitSum]) -> Iterable[UnitSum]:
    valid = keys.verify(
        [one.statement for one in sums], b"".join(plan.public_key(one.unit) for one in sums),
        b"".join(one.signature for one in sums), 1,
    )  # fmt: skip
    return [one for one, good in zip(sums, valid, strict=True) if not good]


def _add_up(plan: Plan, own: UnitSum, children: Sequence[UnitSum]) -> list[Problem]:
    try:
        body, _ = combine(plan.id, own.unit, plan.layout(own.unit), children)
    except SumError as error:
        return [Problem(4, error.unit, str(error))]
    again = parse(plan.id, own.unit, plan.layout(own.unit), body + own.signature)
    problems = []
    for ours, right in zip(own.contests, again.contests, strict=True):
        name = plan.contests[ours.contest].id
        if ours.points != right.points:
            problems.append(Problem(4, own.unit, f"contest {name}: the children's sums do not add up to it"))
        if ours.ballots != right.ballots:
            problems.append(
                Problem(4, own.unit, f"contest {name}: {ours.ballots:,} ballots, the children have {right.ballots:,}")
            )
    if own.leaves != again.leaves:
        problems.append(
            Problem(4, own.unit, f"says that {own.leaves:,} leaf units are in it; the children have {again.leaves:,}")
        )
    return problems
