"""The process that follows the chain, and those that serve beside it: either may die, and whoever looks at the board is told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from bulletin import watch
from bulletin.store import Store
from chain.anvil import Anvil
from chain.console import Connection
from tests.bulletin.conftest import held_on
from tests.relayer.test_faults import until
from tests.tamper.on_chain import START, ChainElection

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def going() -> Iterator[ChainElection]:
    """One that is set up, on which every test puts one record more."""
    with Anvil(block_time=0, timestamp=START) as anvil:
        yield held_on(anvil, "make_roll")


@pytest.fixture
def desk(going, tmp_path) -> Path:
    Connection(going.anvil.url, "0x" + going.contract.hex()).save(tmp_path / "board.json")
    return tmp_path


@contextmanager
def running(desk: Path, *words: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "scripts.cli", "board", *words],
        cwd=desk, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def ready(process: subprocess.Popen[str]) -> httpx.Client:
    return httpx.Client(base_url=json.loads(process.stdout.readline())["url"])


def followers(process: subprocess.Popen[str]) -> list[int]:
    """Its children; the follower is the only one."""
    threads = Path(f"/proc/{process.pid}/task").glob("*/children")
    return [int(child) for thread in threads for child in thread.read_text().split()]


def size(web: httpx.Client) -> int:
    return int(web.get("/api/v1/head").json()["size"])


def gone(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().rpartition(")")[2].split()[0] == "Z"


def test_a_follower_that_is_killed_is_started_again_and_nothing_is_missing(desk, going):
    with running(desk, "serve", "--port", "0") as board, ready(board) as web:
        before = size(web)
        [first] = followers(board)
        os.kill(first, signal.SIGKILL)
        going.open_poll()
        until(lambda: size(web) > before)
        assert followers(board) != [first] and web.get("/api/v1/head").json()["root"] == going.claims().head.root.hex()


def test_the_follower_does_not_outlive_a_board_that_is_killed(desk):
    with running(desk, "serve", "--port", "0") as board, ready(board):
        [follower] = followers(board)
        board.kill()
        until(lambda: gone(follower))


def test_one_process_follows_and_others_serve_what_it_reads(desk, going):
    with running(desk, "index", "--follow") as follower, running(desk, "serve", "--no-follow", "--port", "0") as board:
        with ready(board) as web:
            until(lambda: web.get("/readyz").status_code == 200)
            assert not followers(board)
            before = size(web)
            going.fill_ballots()
            going.append_ballots(1200, [going.cast["row 1"]])
            until(lambda: size(web) > before)
            follower.send_signal(signal.SIGTERM)
            assert follower.wait(20) == 0


def test_a_board_whose_follower_is_silent_says_so(tmp_path, monkeypatch):
    store = Store(f"sqlite:///{tmp_path}/board.sqlite")
    said = watch.Watch(store)
    with store.read() as tx:
        assert watch.followed(tx) == (False, "")
    said.tell(True, "")
    with store.read() as tx:
        assert watch.followed(tx) == (True, "")
    said.tell(True, "no answer")  # what is new is said at once
    with store.read() as tx:
        assert watch.followed(tx) == (True, "no answer")
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + watch.STALE + 5)
    with store.read() as tx:
        assert "nobody has looked at the chain" in watch.followed(tx).trouble
    watch.forget(store)
    with store.read() as tx:
        assert watch.followed(tx) == (False, "")
