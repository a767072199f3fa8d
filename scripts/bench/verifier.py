"""Whole elections, verified: from an archive and from a node, every check from the file's first byte to the verdict, and how much of it is cryptography.

100,000 yes/no ballots of as many voters, held on anvil to the result; the archive is kept in build/. On one core, a rate is in seconds of that
core, on all of them by the clock on the wall. `share_of_raw` is against batch verification of the same ballots in one call, in the same
process. Memory is of a process of its own that verifies an archive of 1,000,000 ballots. Belenios' tool stands beside, as in crypto.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from protocol.errors import BallotboardError
from scripts.bench import _belenios, row
from verifier.ballots import Work
from verifier.case import Case
from verifier.claims import Source
from verifier.report import NOT_VERIFIED
from verifier.run import verify_tally
from verifier.stored import ArchiveSource

KEPT = Path("build/bench/verifier")
"""Archives that were made before: they depend on the protocol and its formats alone."""

BALLOTS, MANY = 100_000, 1_000_000
PEER_BALLOTS = 300
REPEATS = 3
"""Other work on the machine only ever adds time: the best of a few is close to what the code costs."""

RAW = "batch verification of the same ballots, same process, 1 core"
MEMORY_LIMIT = 500.0
MEASURE = """
import json, sys
from pathlib import Path
from verifier.ballots import Work
from verifier.run import verify_tally
from verifier.stored import ArchiveSource
def most():  # not ru_maxrss, in which a child keeps what its parent had
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
start = most()
report = verify_tally(ArchiveSource(Path(sys.argv[1])), work=Work(int(sys.argv[2])))
end = most()
print(json.dumps({"verdict": report.verdict, "ballots": report.value["ballots"], "start": start / 1024, "end": end / 1024}))
"""


def run(quick: bool) -> list[dict[str, Any]]:
    """All figures; `quick` takes a fiftieth of everything, to see that it runs."""
    part = 50 if quick else 1
    rows = election(BALLOTS // part)
    rows += memory(MANY // part)
    return rows


def election(ballots: int) -> list[dict[str, Any]]:
    """Rates from archive and node."""
    from scripts.bench._held import held

    with held(ballots) as node:
        path = keep(ballots, lambda file: make(node, file))
        # each time from the beginning: reading, hashing, every check
        node_one = best(lambda: verify(node, 1), 1)
        node_all = best(lambda: verify(node, 0), 1)
    one = best(lambda: verify(ArchiveSource(path), 1))
    every = best(lambda: verify(ArchiveSource(path), 0))
    raw = raw_rate(path)
    peer = _belenios.measure(PEER_BALLOTS)
    beside = (peer.name, peer.rate) if peer else ("belenios-tool is not installed", None)
    elsewhere = _belenios.ELSEWHERE["one-of-2"][0]
    return [
        row("election.archive.1core", ballots / one[1], "ballots/s", RAW, raw),
        row("election.archive.all", ballots / every[0], "ballots/s", "1 core, by the wall", ballots / one[0]),
        row("election.node.1core", ballots / node_one[1], "ballots/s, without the node's own time", RAW, raw),
        row("election.node.all", ballots / node_all[0], "ballots/s, anvil on the same cores", "1 core, by the wall", ballots / node_one[0]),
        row("election.share_of_raw", ballots / one[1] / raw, "share on 1 core; the goal is 0.70", "goal", 0.70),
        row("election.peer", ballots / one[1], "ballots/s, 1 core", *beside),
        row("election.peer-ed25519", ballots / one[1], "ballots/s, 1 core", "Belenios with Ed25519, measured elsewhere on such a core", elsewhere),
        row("bytes.archive", path.stat().st_size / ballots, "bytes per ballot, with everything else", "bytes of a ballot", 349),
    ]  # fmt: skip


def memory(ballots: int) -> list[dict[str, Any]]:
    """The most that a process takes that verifies so many ballots on all cores."""
    from scripts.bench._held import held

    def fill(file: Path) -> None:
        with held(ballots) as node:
            make(node, file)

    path = keep(ballots, fill)
    found = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", MEASURE, str(path), "0"], capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
    )  # fmt: skip
    value = json.loads(found.stdout)
    if value["verdict"] == NOT_VERIFIED or value["ballots"] != ballots:
        raise SystemExit(f"the election in {path} does not verify: remove it and run again")
    return [
        row("memory_mb", value["end"], f"MiB at {ballots:,} ballots, all cores", "limit", MEMORY_LIMIT),
        row("memory_mb.start", value["start"], "MiB before the first byte is read", "at the end", value["end"]),
    ]


def verify(source: Source, processes: int) -> None:
    report = verify_tally(source, work=Work(processes))
    if report.verdict == NOT_VERIFIED:
        raise SystemExit(f"the benchmark's election does not verify: {report.sentence()}")


def best(work: Callable[[], None], repeats: int = REPEATS) -> tuple[float, float]:
    """(seconds by the wall, seconds of processor), the shortest of each."""
    walls, cpus = [], []
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return min(walls), min(cpus)


def raw_rate(path: Path) -> float:
    """Ballots a second of one core that does nothing but verify them, all in one call."""
    case = Case(ArchiveSource(path).read())
    [chunk] = case.log.chunks(case.votes, case.votes, 2**40)
    packed, roll, engine = case.log.bodies(chunk), case.roll_state.roll, case.open.engine

    def once() -> None:
        if any(engine.verify_packed(packed, roll, 1)):
            raise SystemExit("a ballot of the benchmark is invalid")

    return case.votes / best(once)[1]


def make(node: Any, path: Path) -> None:
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        node.write(file)
    part.replace(path)


def keep(ballots: int, fill: Callable[[Path], None]) -> Path:
    """The archive of an election of so many ballots, made by `fill` where it is not kept from before."""
    path = KEPT / f"{ballots}.archive"
    KEPT.mkdir(parents=True, exist_ok=True)
    if path.exists():
        try:
            verify(ArchiveSource(path), 0)
            return path
        except (SystemExit, BallotboardError):  # of an earlier version of the protocol
            path.unlink()
    fill(path)
    return path
