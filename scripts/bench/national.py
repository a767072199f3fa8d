"""The national roll-up: 175,000 units from signed files on disk to the nation's sum, one unit's million ballots, replay and decryption.

A roll-up is timed as people run it: `ballotboard rollup run`, by the clock on the wall, from the start of the process to its end. Reading, parsing, hashing,
checking every signature, adding, signing and writing 3,204 sums and child lists is in it. Its memory is that of all its processes; *idle* is what
the same command takes for 100 units. Fixtures are made once, under build/. Rows `growth.*` are what `make bench-plots` draws.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from chain.sealed import LIGHT
from protocol import credential, engine, tally
from protocol.attachments import Roll, Unit, roll_row
from protocol.ballot import Ciphertext
from protocol.engine import CreateRequest
from protocol.group import BASE, random_scalar, scalar_bytes
from protocol.manifest import Contest, Rule
from protocol.records import pack_bodies
from rollup import keys
from rollup.groups import decrypt_partially, right_shares, totals
from rollup.inbox import sum_path
from rollup.log import UnitLog
from rollup.plan import Plan
from rollup.unit import open_roll, replay
from scripts.bench import _national_keys, row
from scripts.bench._watch import PASSPHRASE, watched
from scripts.national import County, Trustees, nation_units, write_unit_sums

FOLDER = Path("build/bench/rollup")

UNITS, GROWTH_UNITS = 175_000, (100, 1_000, 10_000, 100_000)
COUNTIES, STATES = 3_152, 51
BALLOTS_A_UNIT = (100, 10_000)
"""A unit's sum has the same size for any number of ballots; these two must not differ."""

UNIT_BALLOTS = (1_000, 10_000, 100_000, 1_000_000)
GROUPS, OPTIONS, GROUP_BALLOTS = (100, 1_000, 3_200), 5, 50_000
"""Decryption of every county, one of five."""

REFERENCE_GROUPS = 10
"""Groups that the reference decrypts for the baseline."""

CHUNK = 2_048


def run(quick: bool) -> list[dict[str, Any]]:
    """All figures; `quick` takes small sizes, to see that it runs."""
    sizes = (100, 1_000) if quick else (*GROWTH_UNITS, UNITS)
    ballots = (200, 1_000) if quick else UNIT_BALLOTS
    return [
        *roll_up(sizes),
        *one_unit(ballots),
        *decryption((40,) if quick else GROUPS),
        *_national_keys.rows(quick),
    ]


# ---------------------------------------------------------------- the tree


def roll_up(sizes: tuple[int, ...]) -> list[dict[str, Any]]:
    rows, idle = [], 0.0
    for units in sizes:
        seconds, peak = _measure(_nation(units, BALLOTS_A_UNIT[0]))
        idle = idle or peak
        rows.append(row(f"growth.units.{units}_s", seconds, "s, `rollup run` as a whole"))
        rows.append(row(f"growth.units.{units}_mb", peak / 1024, "MiB, all processes"))
    few = (peak - idle) / sizes[-1]
    many_seconds, many_peak = _measure(_nation(sizes[-1], BALLOTS_A_UNIT[1]))
    many = (many_peak - idle) / sizes[-1]
    name, bare = f"rollup.{sizes[-1]}_s", _bare(_nation(sizes[-1], BALLOTS_A_UNIT[0]))
    return [
        row(name, seconds, f"s, {os.cpu_count()} cores; goal 10", "opening, reading and hashing the files, 1 core", bare),
        row(f"{name[:-2]}.10000_ballots_s", many_seconds, "s, 10,000 ballots a unit", "100 ballots a unit", seconds),
        row("rollup.kb_per_unit", many, "kB above idle, 10,000 ballots a unit; goal 8", "100 ballots a unit", few),
        row("rollup.idle_mb", idle / 1024, "MB, all processes, 100 units"),
        *rows,
    ]  # fmt: skip


def _nation(units: int, ballots: int) -> Path:
    """A folder with plan, key and every leaf unit's signed sum; made once."""
    folder = FOLDER / f"{units}-{ballots}"
    if (folder / "complete").exists():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    shape = min(COUNTIES, max(1, units // 50))
    counties = [County(f"State {i % STATES}", f"County {i}", (1, 1, 1)) for i in range(shape)]
    tree, _ = nation_units(counties, units)
    signer = keys.create(folder / "all.key", PASSPHRASE, LIGHT)
    contest = Contest("president", "President", Rule.ONE_OF_K, 0, ("a", "b", "c"))
    joint = engine.fixed_rows(BASE, scalar_bytes(random_scalar()))
    plan = Plan.build(
        bytes(32), bytes(64), joint, [contest], [[0]], 2, 30, ballots * units, tree, signer.public(range(len(tree)))
    )
    plan.save(folder)
    counts = {u: [ballots - 3, 2, 1] for u in range(len(tree)) if plan.is_leaf(u)}
    write_unit_sums(plan, folder, signer, counts)
    (folder / "complete").touch()
    return folder


def _measure(folder: Path) -> tuple[float, float]:
    """(seconds, peak kB of all processes) of a whole `rollup run` that has nothing made yet."""
    plan = Plan.open(folder)
    for unit in plan.inner_below(0):
        sum_path(folder, plan, unit).unlink(missing_ok=True)
        (folder / str(unit) / "children").unlink(missing_ok=True)
    output, seconds, peak = watched(["rollup", "run", folder, "--key", folder / "all.key", "--json"])
    found = json.loads(output)
    leaves = sum(plan.is_leaf(unit) for unit in range(len(plan.units)))
    assert found["leaves"] == leaves and not found["missing"], "the roll-up is not complete"
    return seconds, peak


def _bare(folder: Path) -> float:
    """Seconds to do no more than read and hash the leaf units' files."""
    plan = Plan.open(folder)
    paths = [str(sum_path(folder, plan, unit)) for unit in range(len(plan.units)) if plan.is_leaf(unit)]
    start = time.perf_counter()
    for path in paths:
        handle = os.open(path, os.O_RDONLY)
        hashlib.sha256(os.read(handle, 4096)).digest()
        os.close(handle)
    return time.perf_counter() - start


# ---------------------------------------------------------------- one unit


def one_unit(sizes: tuple[int, ...]) -> list[dict[str, Any]]:
    """A precinct as large as a city: the same roll, more and more ballots."""
    folder = _precinct(sizes[-1])
    plan = Plan.open(folder)
    roll, one = open_roll(folder / "roll", plan), plan.engine()
    rows: list[dict[str, Any]] = []
    for size in sizes:
        shutil.rmtree(folder / "1", ignore_errors=True)
        command: list[str | Path] = ["rollup", "run", folder, "--key", folder / "all.key", "--unit", "1", "--json"]
        output, seconds, _ = watched([*command, "--ballots", folder / f"{size}.ballots"])
        found = json.loads(output)
        assert found["ballots"] == {"q": size} and not found["refused"], "a ballot was refused"
        growth = found["memory_growth_kb"]
        again = _timed(lambda: replay(plan, folder, 1, roll, one))
        rows += [
            row(f"growth.ballots.{size}_s", seconds, "s, `rollup run` of one unit"),
            row(f"growth.ballots.{size}_kb", growth, "kB of growth after the first checkpoint"),
            row(f"growth.replay.{size}_s", again, "s, verified again from the log, 1 core"),
        ]
    with UnitLog.open(folder / "1" / "log", plan.id, 1, write=False) as log:
        read = _timed(lambda: sum(map(len, log.frames())))
        packed = [pack_bodies(bodies) for bodies in log.frames()]
    bare = _timed(lambda: [one.verify_packed(piece, roll, 1) for piece in packed])
    size = sizes[-1]
    shutil.rmtree(folder / "1")
    return [
        row("rollup.unit_growth_kb", growth, f"kB over {size:,} ballots; goal 500"),
        row("rollup.replay", size / again, "ballots/s from the log, verified again, 1 core", "verification alone, 1 core", size / bare),
        row("rollup.log_read", size / read, "ballots/s: unpacked, chain checked"),
        *rows,
    ]  # fmt: skip


def _precinct(voters: int) -> Path:
    """A folder with a plan of one precinct, its roll and its ballots; made once."""
    folder = FOLDER / f"precinct-{voters}"
    if (folder / "complete").exists():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    signer = keys.create(folder / "all.key", PASSPHRASE, LIGHT)
    contest = Contest("q", "Shall it be?", Rule.ONE_OF_K, 0, ("yes", "blank"))
    joint = engine.fixed_rows(BASE, scalar_bytes(random_scalar()))
    units = [Unit("town", "Benchfield", -1, -1), Unit("precinct", "All", 0, 0)]
    plan = Plan.build(bytes(32), bytes(64), joint, [contest], [[0]], 1, 1, voters, units, signer.public([0, 1]))
    plan.save(folder)
    codes = [os.urandom(16) for _ in range(voters)]
    people = sorted((public, i) for i, public in enumerate(engine.public_keys(codes, bytes(32), 1)))
    roll = Roll(b"".join(roll_row(public, 1) for public, _ in people), [-1, 0])
    (folder / "roll").write_bytes(roll.data)
    one, files = (
        plan.engine(),
        {size: (folder / f"{size}.ballots").open("wb") for size in (200, *UNIT_BALLOTS) if size <= voters},
    )
    for start in range(0, voters, CHUNK):
        requests = [
            CreateRequest(index, 0, 1, 0, credential.secret_key(codes[i], bytes(32), i + 1), os.urandom(32), [[index % 2, 1 - index % 2]])
            for index, (_, i) in enumerate(people[start : start + CHUNK], start)
        ]  # fmt: skip
        bodies = one.create(requests)
        for size, file in files.items():
            file.write(pack_bodies(bodies[: max(0, size - start)]))
    for file in files.values():
        file.close()
    (folder / "complete").touch()
    return folder


# ---------------------------------------------------------------- decryption


def decryption(counts: tuple[int, ...]) -> list[dict[str, Any]]:
    """Every county's totals by five trustees of nine, each share made, proven and checked."""
    trustees = Trustees.make(bytes(32))
    context, root = bytes(64), bytes(32)
    rows = []
    for count in counts:
        groups = _groups(trustees.joint.key, count)
        making, checking, adding = _decrypt(trustees, context, root, groups)
        rows.append(row(f"growth.groups.{count}_s", making + checking + adding, "s, five trustees one after another"))
    few = groups[:REFERENCE_GROUPS]
    reference = _timed(partial(tally.partial_decryption, context, root, few, 1, trustees.shares[0])) * count / len(few)
    name = f"decrypt.{count}x{OPTIONS}"
    return [
        row(f"{name}_s", making + checking + adding, "s, five trustees' shares made, all checked, totals found"),
        row(f"{name}.trustee_s", making / 5, "s, one trustee", "protocol/ (libsodium), 1 core, scaled", reference),
        row(f"{name}.check_s", checking / 5, "s, to check one trustee's"),
        row(f"{name}.totals_s", adding, f"s, to find {count * (OPTIONS - 1):,} logarithms up to {GROUP_BALLOTS:,}"),
        *rows,
    ]  # fmt: skip


def _decrypt(
    trustees: Trustees, context: bytes, root: bytes, groups: list[tally.GroupSum]
) -> tuple[float, float, float]:
    """Seconds in which five make their shares, in which these are checked, and in which the totals are found."""
    folder = FOLDER / "decrypt"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    right, making, checking = {}, 0.0, 0.0
    for j in (1, 3, 5, 7, 9):
        start = time.perf_counter()
        values = decrypt_partially(context, root, groups, j, trustees.shares[j - 1], folder / f"{j}")
        making += time.perf_counter() - start
        start = time.perf_counter()
        right[j] = right_shares(context, root, groups, j, trustees.joint.share_keys[j - 1], values)
        checking += time.perf_counter() - start
    contest = Contest("q", "Question", Rule.ONE_OF_K, 0, tuple("abcde"))
    start = time.perf_counter()
    found = totals(contest, groups, right, 5)
    adding = time.perf_counter() - start
    assert found == [_votes(i) for i in range(len(groups))], "the totals are not those that were encrypted"
    return making, checking, adding


def _votes(group: int) -> list[int]:
    first = [7_000 + group % 1_000, 11_000, 42 + group, 19_000]
    return [*first, GROUP_BALLOTS - sum(first)]


def _groups(key: bytes, count: int) -> list[tally.GroupSum]:
    values = [v for i in range(count) for v in _votes(i)[:-1]]
    randoms = [scalar_bytes(random_scalar()) for _ in values]
    a = engine.fixed_rows(BASE, b"".join(randoms))
    b = engine.fixed_rows(key + BASE, b"".join(r + scalar_bytes(v) for r, v in zip(randoms, values, strict=True)))
    pairs = [Ciphertext(a[i : i + 32], b[i : i + 32]) for i in range(0, len(a), 32)]
    n = OPTIONS - 1
    return [tally.GroupSum(0, i, (i,), GROUP_BALLOTS, tuple(pairs[n * i : n * (i + 1)])) for i in range(count)]


def _timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
