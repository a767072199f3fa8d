"""The roll-up: the sums of children become the sum of the unit above, for one unit, for a whole tree on several processes, or as a Dask graph.

All three call `node_sum` for each inner unit and give the same bytes. Nothing is decrypted on the way.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from protocol.errors import BallotboardError
from rollup import keys as signatures
from rollup.inbox import inbox, read, stand
from rollup.keys import Keys
from rollup.plan import Layout, Plan
from rollup.sums import NotSigned, UnitSum, combine, complete, parse

PARTS_PER_PROCESS = 4
"""Subtrees for each process: enough that none idles while another works through the largest state."""

CONNECT_SECONDS = 10
"""Until a Dask scheduler must answer."""

NAMED = 3
"""How many missing units an error names."""

Progress = Callable[[int, int], None]


class MissingSums(BallotboardError):
    """Units whose sums are not there; the roll-up was not asked to do without them."""

    def __init__(self, plan: Plan, units: Sequence[int]) -> None:
        self.units = tuple(units)
        names = "; ".join(f"{plan.name(unit)} ({unit})" for unit in units[:NAMED])
        more = f"; and {len(units) - NAMED:,} more" if len(units) > NAMED else ""
        super().__init__(f"{len(units):,} sums are missing: {names}{more}; wait for them, or use --partial")


@dataclass(frozen=True)
class Outcome:
    """The sum that was made, and the units right below some level that sent none."""

    sum: UnitSum
    missing: tuple[int, ...]


def run_unit(plan: Plan, folder: Path, unit: int, keys: Keys, partial: bool = False) -> Outcome:
    """The sum of one inner unit from its inbox, where other machines left what is below. It stands in the parent's inbox of `folder`.

    Running again gives the same sum while nothing new has come, and the next revision when something has. Raises MissingSums, SumError.
    """
    _inner(plan, unit)
    found = {child: read(plan, folder, child) for child in plan.children(unit)}
    missing = [child for child, one in found.items() if one is None]
    children = [one for one in found.values() if one is not None]
    if missing and not (partial and children):
        raise MissingSums(plan, missing)
    _check_signatures(plan, children)
    return Outcome(_level(plan, folder, unit, keys, children, sync=True), tuple(missing))


def run_tree(
    plan: Plan, folder: Path, keys: Keys, top: int = 0, processes: int = 0, partial: bool = False,
    progress: Progress | None = None,
) -> Outcome:  # fmt: skip
    """The sums of `top` and of every inner unit below it, from the leaves' sums on disk; `processes` 0 means all cores.

    One operator, one machine: `keys` signs for all inner units. Raises MissingSums, SumError.
    """
    _inner(plan, top)
    plan.leaves(top)  # computed here, once: the processes inherit it
    processes = processes or os.cpu_count() or 1
    cut, upper = _cut(plan, top, processes)
    known: dict[int, UnitSum] = {}
    missing: list[int] = []
    done = 0
    for unit, data, below in _map_subtrees(plan, folder, keys, cut, processes, top, partial):
        missing += below
        if data:
            known[unit] = parse(plan.id, unit, plan.layout(unit), data)
        done += plan.leaves(unit)
        if progress:
            progress(done, plan.leaves(top))
    direct = [child for unit in upper for child in plan.children(unit) if plan.is_leaf(child)]
    known |= _read_leaves(plan, folder, direct)
    missing += [child for child in direct if child not in known]
    if missing and not partial:
        raise MissingSums(plan, sorted(missing))
    _levels(plan, folder, upper, keys, known, last=top)
    if top not in known:
        raise MissingSums(plan, sorted(missing))
    return Outcome(known[top], tuple(sorted(missing)))


def run_dask(plan: Plan, folder: Path, keys: Keys, client: Any, top: int = 0, partial: bool = False) -> Outcome:
    """The same on a Dask cluster: a task for each inner unit, which reads its leaves' sums from `folder`, that all workers see.

    The workers get the keys they sign with: use a cluster of one operator, and TLS between its machines.
    """
    from dask import delayed

    task = delayed(_node_task)
    known: dict[int, Any] = {}
    _inner(plan, top)
    inner = plan.inner_below(top)
    for unit in inner:
        leaves = [(child, plan.layout(child), plan.public_key(child)) for child in plan.children(unit) if plan.is_leaf(child)]  # fmt: skip
        above = [(child, plan.layout(child)) for child in plan.children(unit) if not plan.is_leaf(child)]
        previous = read(plan, folder, unit)
        known[unit] = task(
            plan.id, unit, plan.layout(unit), keys, str(inbox(folder, unit)), leaves, above,
            [known[child] for child, _ in above], previous.data if previous else b"", dask_key_name=f"unit-{unit}",
        )  # fmt: skip
    results = dict(zip(inner, client.gather(client.compute([known[unit] for unit in inner])), strict=True))
    missing = sorted(child for _, _, below in results.values() for child in below)
    if missing and not partial:
        raise MissingSums(plan, missing)
    last = None
    for unit in inner:
        data, listed, _ = results[unit]
        if data:
            last = stand(plan, folder, unit, data, listed, sync=unit == top)
    if last is None:
        raise MissingSums(plan, missing)
    return Outcome(last, tuple(missing))


@contextmanager
def cluster(address: str) -> Iterator[Any]:
    """A client of the Dask scheduler at this address, or of a cluster of processes on this machine for as long as it lasts."""
    try:
        from dask.distributed import Client, LocalCluster
    except ModuleNotFoundError as error:
        raise BallotboardError("a Dask graph needs the package dask: pip install 'ballotboard[dask]'") from error
    if address != "local":
        try:
            client = Client(address, timeout=CONNECT_SECONDS)
        except (OSError, ValueError) as error:
            raise BallotboardError(f"there is no Dask scheduler at {address}: {error}") from error
        with client:
            yield client
        return
    with (
        LocalCluster(processes=True, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        yield client


# ---------------------------------------------------------------- one unit


def node_sum(
    plan: bytes, unit: int, layout: Layout, keys: Keys, children: Sequence[UnitSum], previous: UnitSum | None
) -> tuple[bytes, bytes]:
    """(sum, child list) of an inner unit over checked children. What has not changed since `previous` keeps its revision, and so its bytes."""
    body, listed = combine(plan, unit, layout, children)
    return complete(body, keys, unit, previous), listed


def _level(plan: Plan, folder: Path, unit: int, keys: Keys, children: Sequence[UnitSum], sync: bool) -> UnitSum:
    made = node_sum(plan.id, unit, plan.layout(unit), keys, children, read(plan, folder, unit))
    return stand(plan, folder, unit, *made, sync=sync)


def _inner(plan: Plan, unit: int) -> None:
    if plan.is_leaf(plan.check_unit(unit)):
        raise BallotboardError(f"{plan.name(unit)} is a leaf: its sum is made from ballots, with --unit {unit}")


def _check_signatures(plan: Plan, sums: Sequence[UnitSum], threads: int = 1) -> None:
    """Raises SumError naming the first sum that its unit did not sign."""
    valid = signatures.verify(
        [one.statement for one in sums], b"".join(plan.public_key(one.unit) for one in sums),
        b"".join(one.signature for one in sums), threads,
    )  # fmt: skip
    for one, good in zip(sums, valid, strict=True):
        if not good:
            raise NotSigned(one.unit, f"the sum of unit {one.unit} ({plan.name(one.unit)}) is not signed with its key")


# ---------------------------------------------------------------- a tree on several processes


_shared: tuple[Plan, Path, Keys, int, bool]
"""What a forked process works on; set by `_map_subtrees` before it forks, so that 178,000 units are not sent to each."""


def _map_subtrees(
    plan: Plan, folder: Path, keys: Keys, tops: list[int], processes: int, last: int, partial: bool
) -> Iterable[tuple[int, bytes, list[int]]]:
    global _shared
    _shared = (plan, folder, keys, last, partial)
    if processes == 1 or len(tops) < 2:
        yield from map(_subtree, tops)
        return
    with multiprocessing.get_context("fork").Pool(min(processes, len(tops))) as pool:
        yield from pool.imap_unordered(_subtree, tops)


def _subtree(top: int) -> tuple[int, bytes, list[int]]:
    """(top, its sum or nothing if no sum below it is there, leaves without a sum)."""
    plan, folder, keys, last, partial = _shared
    inner = plan.inner_below(top)
    leaves = [child for unit in inner for child in plan.children(unit) if plan.is_leaf(child)]
    known = _read_leaves(plan, folder, leaves)
    missing = [leaf for leaf in leaves if leaf not in known]
    if missing and not partial:
        return top, b"", missing
    _levels(plan, folder, inner, keys, known, last)
    return top, known[top].data if top in known else b"", missing


def _levels(plan: Plan, folder: Path, units: Sequence[int], keys: Keys, known: dict[int, UnitSum], last: int) -> None:
    """Makes the sums of these units, children before parents, of the sums `known`. Only the `last` one leaves this machine, so only it is synced."""
    for unit in units:
        children = [known.pop(child) for child in plan.children(unit) if child in known]
        if children:
            known[unit] = _level(plan, folder, unit, keys, children, sync=unit == last)


def _read_leaves(plan: Plan, folder: Path, units: Sequence[int]) -> dict[int, UnitSum]:
    """The sums that are there, all signatures checked in one batch."""
    found = {unit: one for unit in units if (one := read(plan, folder, unit)) is not None}
    _check_signatures(plan, list(found.values()))
    return found


def _cut(plan: Plan, top: int, processes: int) -> tuple[list[int], list[int]]:
    """(subtrees to give to processes, largest first; the inner units above them, children before parents)."""
    limit = max(1, plan.leaves(top) // (PARTS_PER_PROCESS * processes))
    cut, upper, queue = [], [], [top]
    while queue:
        unit = queue.pop()
        below = [child for child in plan.children(unit) if not plan.is_leaf(child)]
        if plan.leaves(unit) <= limit or not below:
            cut.append(unit)
        else:
            upper.append(unit)
            queue += below
    return sorted(cut, key=plan.leaves, reverse=True), upper[::-1]


# ---------------------------------------------------------------- a task of the Dask graph


def _node_task(
    plan: bytes, unit: int, layout: Layout, keys: Keys, folder: str, leaves: list[tuple[int, Layout, bytes]],
    above: list[tuple[int, Layout]], made: list[tuple[bytes, bytes, list[int]]], previous: bytes,
) -> tuple[bytes, bytes, list[int]]:  # fmt: skip
    """(sum or nothing, child list, leaves without a sum) of one unit, from its leaves' files and the tasks of its inner children."""
    children, missing, publics = [], [], []
    for child, leaf_layout, public in leaves:
        try:
            children.append(parse(plan, child, leaf_layout, Path(folder, f"{child}.sum").read_bytes()))
            publics.append(public)
        except FileNotFoundError:
            missing.append(child)
    valid = signatures.verify(
        [c.statement for c in children], b"".join(publics), b"".join(c.signature for c in children), 1
    )
    if 0 in valid:
        wrong = children[valid.index(0)].unit
        raise NotSigned(wrong, f"the sum of unit {wrong} is not signed with its key")
    children += [parse(plan, child, inner, data) for (child, inner), (data, _, _) in zip(above, made, strict=True) if data]  # fmt: skip
    if not children:
        return b"", b"", missing
    children.sort(key=lambda one: one.unit)
    before = parse(plan, unit, layout, previous) if previous else None
    return *node_sum(plan, unit, layout, keys, children, before), missing
