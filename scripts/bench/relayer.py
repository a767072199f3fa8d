"""A real relayer process on a real chain, one ballot a request over 64 kept-alive connections; beside it a plain FastAPI + SQLite insert.

Ballots and credentials are all distinct, every proof is checked, and a promise leaves after the sync to disk. Every connection sends its next
ballot when the last is answered. Driver, relayer and chain share this machine, so the rate is what they leave each other; the processor time
of a ballot is the relayer's own, of all its threads, from the first request until the last ballot is final.

`BALLOTBOARD_BENCH_SECONDS=60 make bench ONLY=relayer` sustains the load for a minute; `BALLOTBOARD_BENCH_QUEUE=1000000` queues so many ballots
to see what they take in memory (two minutes to prepare them, two to send, and as long until they are final).
"""

from __future__ import annotations

import json
import os
import random
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from chain.anvil import Anvil
from chain.board import Board
from chain.console import PASSPHRASE_VARIABLE
from chain.process import free_port
from chain.rpc import call
from protocol.receipt import Promise, check_statement
from protocol.records import ballot_hash, pack_bodies
from relayer.service import running
from scripts.bench import row
from scripts.bench._baseline import baseline
from scripts.bench._election import Poll, open_poll
from scripts.load import MANY, ONE, TOGETHER, post_all
from scripts.services import Service

CONNECTIONS = 64
PASSPHRASE = "bench"

SECONDS = float(os.environ.get("BALLOTBOARD_BENCH_SECONDS", "20"))
"""Of the sustained load. The other loads take a quarter of it."""

QUEUE = int(os.environ.get("BALLOTBOARD_BENCH_QUEUE", "0"))
"""Ballots that are queued while no blocks are made; 0 means as many as a quarter of SECONDS brings."""

AT_MOST = 8_000
"""Ballots a second that are prepared: a faster relayer ends the run early."""

CHECKED = 1_000
"""Promises, drawn from all, whose words and signature are checked afterwards."""

FINAL_TIMEOUT, FINAL_RATE = 120.0, 1_000
"""Seconds until everything must be final, and ballots a second beyond that."""

UNLIMITED = {"BALLOTBOARD_RELAYER_MAX_QUEUE": "100000000", "BALLOTBOARD_RELAYER_PROMISE_SECONDS": "86400"}
"""Settings: a queue for as many ballots as are sent, and promises for as long as no blocks are made."""

PLAIN = "FastAPI + SQLite insert of the same bytes"


def run(quick: bool) -> list[dict[str, Any]]:
    seconds = 2.0 if quick else SECONDS
    queue = 0 if quick else QUEUE
    count, more = int(AT_MOST * seconds), queue or int(AT_MOST * seconds / 2)
    with tempfile.TemporaryDirectory() as name, Anvil() as chain:
        folder = Path(name)
        poll = open_poll(chain, count + more, folder, PASSPHRASE)
        board = Board(chain.web3, poll.contract)
        size = board.head().size
        bodies = poll.ballots(0, count + more)
        with baseline("_plain", folder / "plain.db") as (url, pid):
            plain = load(url, pid, bodies[:count], seconds / 4)
            plain.stop(pid)
        with relayer(folder) as (url, pid):
            before = memory(pid)
            single = load(url, pid, bodies[:count], seconds)
            backlog = wait_final(url, single.ballots)
            single.stop(pid)
            growth = memory(pid) - before
            check(poll, bodies, single)
            call(chain.web3, "evm_setIntervalMining", 0)  # no blocks: what is promised waits in the outbox
            before = memory(pid)
            many = load(url, pid, bodies[count:], float("inf") if queue else seconds / 4, TOGETHER)
            queued = memory(pid) - before
            call(chain.web3, "evm_setIntervalMining", 1)
            wait_final(url, single.ballots + many.ballots)
            many.stop(pid)
        landed = board.head().size - size
        assert landed == single.ballots + many.ballots, f"{landed} ballots are in the log"
    return [
        row("intake.sustained", single.rate, f"ballots/s for {single.seconds:.0f} s", PLAIN, plain.rate),
        row("intake.peak", single.peak, "ballots/s, best second", PLAIN, plain.peak),
        row("intake.p50_ms", single.latency(50), "ms", PLAIN, plain.latency(50)),
        row("intake.p95_ms", single.latency(95), "ms", PLAIN, plain.latency(95)),
        row("intake.p99_ms", single.latency(99), "ms", PLAIN, plain.latency(99)),
        row("intake.cpu_ms", single.cpu_ms, "ms of processor a ballot, until final", PLAIN, plain.cpu_ms),
        row("intake.backlog_s", backlog, "s from the last promise to the last final"),
        row("intake.memory_queued_mb", queued / many.ballots, f"MB a million ballots queued ({many.ballots:,} were)"),
        row("intake.memory_final_mb", growth / single.ballots, f"MB a million ballots final ({single.ballots:,} were)"),
        row("intake.bulk", many.rate, f"ballots/s, {TOGETHER} a request, no blocks meanwhile", PLAIN, plain.rate),
        row("intake.bulk_cpu_ms", many.cpu_ms, "ms of processor a ballot, until final", PLAIN, plain.cpu_ms),
    ]


@dataclass
class Load:
    """What one load saw: its ballots, each answer's moment and latency in seconds, the answers; `cpu` are the server's seconds of processor."""

    cpu: float
    together: int
    ballots: int = 0
    moments: list[float] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    answers: dict[int, bytes] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        return self.moments[-1]

    @property
    def rate(self) -> float:
        return self.ballots / self.seconds

    @property
    def peak(self) -> int:
        return self.together * max(Counter(map(int, self.moments)).values())

    @property
    def cpu_ms(self) -> float:
        return 1000 * self.cpu / self.ballots

    def latency(self, percent: int) -> float:
        """This percentile, in milliseconds."""
        return 1000 * sorted(self.latencies)[len(self.latencies) * percent // 100]

    def stop(self, pid: int) -> None:
        self.cpu = cpu(pid) - self.cpu


def load(url: str, pid: int, bodies: Sequence[bytes], seconds: float, together: int = 1) -> Load:
    """Sends ballots for so long; every one must be taken. The caller says when the processor time ends."""
    found = Load(cpu(pid), together)
    start = time.perf_counter()

    def contents() -> Iterator[bytes]:
        while found.ballots < len(bodies) and time.perf_counter() < start + seconds:
            chunk = bodies[found.ballots : found.ballots + together]
            found.ballots += len(chunk)
            yield chunk[0] if together == 1 else pack_bodies(chunk)

    def answered(number: int, status: int, body: bytes, latency: float) -> None:
        assert status == 202 and b'"reason"' not in body, body
        found.moments.append(time.perf_counter() - start)
        found.latencies.append(latency)
        found.answers[number] = body

    post_all(url, contents(), answered, CONNECTIONS, ONE if together == 1 else MANY)
    return found


def check(poll: Poll, bodies: Sequence[bytes], single: Load) -> None:
    """Every answer is a promise of the ballot that was sent, signed by the relayer."""
    for number in random.Random(1).sample(sorted(single.answers), min(CHECKED, single.ballots)):
        promise = check_statement(json.loads(single.answers[number]), poll.manifest)
        assert isinstance(promise, Promise) and promise.ballot == ballot_hash(bodies[number])


def wait_final(url: str, ballots: int) -> float:
    """Seconds until so many are final."""
    start = time.monotonic()
    while (counts := httpx.get(url + "/v1/status", timeout=60).json()["ballots"])["final"] < ballots:
        assert time.monotonic() < start + FINAL_TIMEOUT + ballots / FINAL_RATE and not counts["dead"], counts
        time.sleep(0.1)
    return time.monotonic() - start


@contextmanager
def relayer(folder: Path) -> Iterator[tuple[str, int]]:
    """`ballotboard relayer run`: its URL and process id."""
    url, home = f"http://127.0.0.1:{free_port()}", folder / "relayer"
    words = ["--dir", str(home), "--board", str(folder / "board.json"), "--port", url.rpartition(":")[2]]
    with Service(["relayer", "run", *words], url, os.environ | {PASSPHRASE_VARIABLE: PASSPHRASE} | UNLIMITED):
        process = running(home)
        assert process
        yield url, process["pid"]


def cpu(pid: int) -> float:
    """Seconds of processor that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory(pid: int) -> int:
    """Resident bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
