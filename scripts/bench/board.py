"""The bulletin board with a whole election of yes/no ballots: read from a node into committed rows, and then asked.

`index.*` is one run of the indexer on an empty database: every block and event read, the tree rebuilt, every root compared, every proof and
signature checked, the counted set and the result computed again. Look-ups come over 64 kept-alive connections from this machine, at full speed and at
RATE a second, each for a ballot drawn at random; beside them the plainest look-up there is, a FastAPI route over one SQLite table of the same bodies.
They begin when the archive for download is made, which takes the machine once per election and is not what a look-up takes. `shown.*` is how soon a page has what is final, on a board that follows an open poll.

`BALLOTBOARD_BENCH_BALLOTS=1000000 make bench ONLY=board` has a million ballots.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from bulletin.store import Store
from chain.anvil import Anvil
from chain.console import Connection
from chain.process import free_port
from chain.writer import Writer
from protocol.errors import BallotboardError
from protocol.records import Kind, ballot_hash
from relayer import keys
from scripts.bench import row
from scripts.bench._baseline import baseline
from scripts.bench._election import open_poll
from scripts.bench._held import PASSPHRASE, held
from scripts.services import Service

BALLOTS = int(os.environ.get("BALLOTBOARD_BENCH_BALLOTS", "200000"))

CONNECTIONS = 64
SECONDS = 10.0
RATE = 1_000
"""Look-ups a second at which the 99th percentile is to be small."""

DRAWN = 5_000
"""Different ballots that are looked up."""

SHOWN = 50
"""Ballots that are waited for, one after the other."""

PATIENCE = 60.0
"""Seconds after which a ballot that does not appear is a defect."""

ARCHIVED = 600.0
"""The same of the archive of a million."""

PLAIN = "FastAPI + SQLite look-up of the same ballots"


def run(quick: bool) -> list[dict[str, Any]]:
    ballots, seconds = (2_000, 1.0) if quick else (BALLOTS, SECONDS)
    with tempfile.TemporaryDirectory() as name, held(ballots) as source:
        folder = Path(name)
        board = folder / "board.json"
        Connection(source.rpc, source.contract).save(board)
        database = f"sqlite:///{folder / 'bulletin.sqlite'}"
        start = time.perf_counter()
        memory = index(board, database)
        indexed = time.perf_counter() - start
        with Store(database).read() as tx:
            assert tx.counts()[Kind.BALLOT] == ballots and tx.fact("result") == "", (
                "the board did not compute the result"
            )
            every = [record.entry.body_hash for record in tx.records(Kind.BALLOT)]
        drawn = [digest.hex() for digest in random.Random(1).sample(every, min(DRAWN, ballots))]
        rows = [
            row(
                "index.ballots", ballots / indexed, f"ballots/s to committed rows and a recomputed result ({ballots:,})"
            ),
            row("index.memory_mb", memory, f"MB of the indexing process at its peak ({ballots:,} ballots)"),
        ]
        with plain(folder, database) as url:
            free = asyncio.run(ask(url, [f"/ballots/{digest}" for digest in drawn], seconds))
            paced = asyncio.run(ask(url, [f"/ballots/{digest}" for digest in drawn], seconds, RATE))
        with serving(board, database) as url:
            archived(url)
            for what, paths in (
                ("lookup", [f"/api/v1/ballots/{digest}" for digest in drawn]),
                ("receipt", [f"/api/v1/receipts/{digest}" for digest in drawn]),
                ("overview", ["/en/"]),
            ):
                found = asyncio.run(ask(url, paths, seconds))
                rows.append(row(f"{what}.requests", len(found) / seconds, "requests/s", PLAIN, len(free) / seconds))
                at_rate = asyncio.run(ask(url, paths, seconds, RATE if what != "overview" else RATE // 10))
                unit = f"ms at {len(at_rate) / seconds:.0f} requests/s"
                rows.append(row(f"{what}.p99_ms", percentile(at_rate, 99), unit, PLAIN, percentile(paced, 99)))
            rows.append(row("receipt.browser_ms", *browser(url, drawn[0])))
    taken = fresh(5 if quick else SHOWN)
    rows.append(row("shown.p50_s", percentile(taken, 50) / 1000, "s from an append's receipt to the ballot's page"))
    rows.append(row("shown.max_s", max(taken), f"s, the longest of {len(taken)}"))
    return rows


def archived(url: str) -> None:
    """Returns when the archive is there."""
    end = time.monotonic() + ARCHIVED
    while not httpx.get(f"{url}/api/v1/verify").json()["archive"]["file"]:
        if time.monotonic() > end:
            raise BallotboardError(f"no archive was made within {ARCHIVED:.0f} s")
        time.sleep(0.5)


def fresh(count: int) -> list[float]:
    """Seconds from the moment that a ballot's append is in a block until its page is there, of a board that follows an open poll."""
    taken = []
    with tempfile.TemporaryDirectory() as name, Anvil(block_time=0) as chain:
        folder = Path(name)
        poll = open_poll(chain, count, folder, PASSPHRASE)
        account, _ = keys.load(folder / "relayer", PASSPHRASE)
        chain.fund([account.address])
        writer = Writer(chain.web3, poll.contract, account)
        with serving(folder / "board.json", f"sqlite:///{folder / 'bulletin.sqlite'}") as url, httpx.Client() as client:
            for sequence, body in enumerate(poll.ballots(0, count)):
                writer.append_ballots(sequence, [body])
                start = time.perf_counter()
                while client.get(f"{url}/en/ballots/{ballot_hash(body).hex()}").status_code != 200:
                    if time.perf_counter() - start > PATIENCE:
                        raise BallotboardError(f"a final ballot was not shown within {PATIENCE:.0f} s")
                    time.sleep(0.01)
                taken.append(time.perf_counter() - start)
    return taken


def index(board: Path, database: str) -> float:
    """Indexes in a process of its own; gives its peak of memory in MB."""
    code = (
        "import sys; from pathlib import Path; from bulletin.cli import index_board; from chain.console import connection;"
        " index_board(connection(Path(sys.argv[1])), sys.argv[2]);"
        " print(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])"  # getrusage counts the parent, too
    )
    found = subprocess.run(
        [sys.executable, "-c", code, str(board), database], capture_output=True, text=True, check=True
    )
    return int(found.stdout) / 1024


async def ask(url: str, paths: Sequence[str], seconds: float, rate: int = 0) -> list[float]:
    """Seconds that each answer took, counted from when it was due where there is a rate: who waits for a connection waits, too.

    HTTP by hand: a client library takes as much of this machine as the board.
    """
    taken: list[float] = []
    host, port = url.removeprefix("http://").split(":")
    start = time.perf_counter()
    numbers = iter(range(10**9))

    async def connection() -> None:
        reader, writer = await asyncio.open_connection(host, int(port))
        for number in numbers:
            due = start + number / rate if rate else time.perf_counter()
            if due >= start + seconds:
                break
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            writer.write(f"GET {paths[number % len(paths)]} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200"), head
            length = head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]
            await reader.readexactly(int(length))
            taken.append(time.perf_counter() - due)
        writer.close()

    await asyncio.gather(*(connection() for _ in range(CONNECTIONS)))
    return taken


def percentile(taken: Sequence[float], percent: int) -> float:
    return 1000 * sorted(taken)[len(taken) * percent // 100]


def browser(url: str, digest: str) -> tuple[float | None, str]:
    """Milliseconds in which a page checks a ballot's proof in Chromium, the median of nine; its requests are not in them."""
    chromium = shutil.which("chromium")
    if chromium is None:
        return None, "not measured: Chromium is not installed"
    from playwright.sync_api import sync_playwright

    script = """async ([digest]) => {
        const { check } = await import("/static/receipt.js");
        const value = await (await fetch(`/api/v1/ballots/${digest}`)).json();
        const given = { hash: value.hash, entry: value.entry, position: value.position, proof: value.proof, ...value.head };
        const page = { election: "", contract: "", ballot: value.hash, boards: [] };
        const fetched = window.fetch;
        window.fetch = async () => new Response(JSON.stringify({ size: value.head.size, root: value.head.root }));
        const taken = [];
        for (let i = 0; i < 9; i++) {
            const start = performance.now();
            const found = await check(given, page);
            if (Object.values(found.steps).includes(false)) throw new Error(JSON.stringify(found));
            taken.push(performance.now() - start);
        }
        window.fetch = fetched;
        return taken.sort((a, b) => a - b)[4];
    }"""
    with sync_playwright() as playwright:
        page = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"]).new_page()
        page.goto(f"{url}/en/ballots/{digest}")
        return float(page.evaluate(script, [digest])), "ms in Chromium, the board's answers at hand"


@contextmanager
def serving(board: Path, database: str) -> Iterator[str]:
    url = f"http://127.0.0.1:{free_port()}"
    words = ["--board", str(board), "--port", url.rpartition(":")[2], "--database", database]
    words += ["--rate", "1e6"]  # one client asks for everybody; the limiter runs, and lets it
    with Service(["board", "serve", *words], url, dict(os.environ)):
        yield url


@contextmanager
def plain(folder: Path, database: str) -> Iterator[str]:
    """The baseline: body by hash, from a table of its own."""
    file = folder / "plain.sqlite"
    with sqlite3.connect(file) as table:
        table.execute("CREATE TABLE ballots (hash TEXT PRIMARY KEY, body BLOB NOT NULL)")
        with Store(database).read() as tx:
            table.executemany(
                "INSERT OR IGNORE INTO ballots VALUES (?, ?)",
                ((record.entry.body_hash.hex(), record.body) for record in tx.records(Kind.BALLOT)),
            )
    with baseline("_plain_lookup", file) as (url, _):
        yield url
