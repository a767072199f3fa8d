"""The embedded engine: it starts, keeps time, keeps its state, and always ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

import chain.anvil as anvil
from chain.anvil import Anvil
from chain.cli import app
from chain.contract import MAX_GAS
from chain.errors import ChainError, NodeUnreachable, RpcError
from chain.rpc import block, call, connect
from chain.transactions import Sender
from tests.chain.world import HANDS, ballots, new_board

PATIENCE = 20.0
"""Seconds for what takes one or two when the machine is idle."""


def until(condition, what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"waited {PATIENCE} s for {what}"
        time.sleep(0.02)


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


# ---------------------------------------------------------------- start and stop


def test_it_runs_inside_with_and_not_after(chain):
    with Anvil(block_time=0, chain_id=4242) as own:
        pid, url = own.pid, own.url
        assert runs(pid) and int(call(own.web3, "eth_chainId"), 16) == 4242
    assert not runs(pid)
    with pytest.raises(NodeUnreachable):
        connect(url)


def test_it_ends_when_its_block_raises():
    with pytest.raises(ZeroDivisionError), Anvil(block_time=0) as own:
        pid = own.pid
        raise ZeroDivisionError
    assert not runs(pid)


def test_a_port_in_use_is_one_clear_line(chain):
    with pytest.raises(ChainError, match=f"port {chain.port} is in use: choose another"):
        Anvil(port=chain.port).start()


def test_a_missing_binary_says_what_to_do(monkeypatch):
    monkeypatch.setenv("BALLOTBOARD_ANVIL", "/nowhere/anvil")
    with pytest.raises(ChainError, match="make setup"):
        Anvil().start()


def test_a_binary_that_fails_is_quoted(monkeypatch, tmp_path):
    broken = tmp_path / "anvil"
    broken.write_text("#!/bin/sh\necho 'no such option' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("BALLOTBOARD_ANVIL", str(broken))
    with pytest.raises(ChainError, match="anvil ended at once: no such option"):
        Anvil().start()


def test_a_transaction_over_the_gas_of_eip_7825_is_refused(chain):
    sender = Sender(chain.web3, HANDS["authority"])
    chain.fund([sender.account.address])
    over = sender.sign(bytes(20), b"", MAX_GAS + 1, sender.nonce())
    with pytest.raises(RpcError, match=r"(?i)gas"):
        sender.broadcast(over.raw)


STARTER = """
import sys, time
from chain.anvil import Anvil
with Anvil(block_time=0) as chain:
    print(chain.pid, chain.port, flush=True)
    time.sleep(60)
"""


@pytest.mark.slow
@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=lambda ending: ending.name)
def test_it_ends_with_the_process_that_started_it(ending):
    starter = subprocess.Popen(
        [sys.executable, "-c", STARTER], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    pid, port = map(int, starter.stdout.readline().split())
    assert runs(pid) and listens(port)
    starter.send_signal(ending)
    starter.wait(PATIENCE)
    until(lambda: not runs(pid), "anvil to end with its starter")
    until(lambda: not listens(port), "its port to be free")  # the last thread may end after the first


# ---------------------------------------------------------------- time


def test_blocks_come_by_themselves_and_their_time_follows_the_clock():
    with Anvil(block_time=1) as own:
        until(lambda: int(block(own.web3, "latest")["number"], 16) >= 2, "two blocks")
        assert abs(int(block(own.web3, "latest")["timestamp"], 16) - time.time()) < 3


def test_a_chain_can_begin_at_another_time():
    with Anvil(block_time=0, timestamp=1_700_000_000) as own:
        call(own.web3, "evm_mine")
        assert 0 <= int(block(own.web3, "latest")["timestamp"], 16) - 1_700_000_000 < 10


def test_time_that_was_advanced_goes_on_from_there():
    with Anvil(block_time=1) as own:
        there = int(time.time()) + 500_000
        own.advance_to(there)
        now = int(block(own.web3, "latest")["timestamp"], 16)
        assert there <= now < there + 3
        until(lambda: int(block(own.web3, "latest")["timestamp"], 16) > now, "another block")
        assert int(block(own.web3, "latest")["timestamp"], 16) < there + 20


# ---------------------------------------------------------------- state


def chain_of(own: Anvil, number: int) -> list[str]:
    return [block(own.web3, height)["hash"] for height in range(number + 1)]


def test_a_stopped_chain_goes_on_where_it_was(tmp_path):
    state = tmp_path / "election" / "chain.state"
    with Anvil(block_time=0, state=state) as own:
        world = new_board(own).open()
        world.writer("relayer").append_ballots(0, ballots(3))
        head, before = world.board.head(), chain_of(own, 4)
    with Anvil(block_time=0, state=state) as own:
        world.chain = own
        assert (world.board.head(), chain_of(own, 4)) == (head, before)
        assert [r.body for b in world.reader.batches() for r in b.records][3:] == ballots(3)
        world.writers.clear()
        world.writer("relayer").append_ballots(1, ballots(1))
        assert world.board.head().size == 7
    assert sorted(path.name for path in state.parent.iterdir()) == ["chain.state"]


@pytest.mark.slow
def test_a_chain_that_was_killed_goes_on_with_what_it_had_dumped(tmp_path, monkeypatch):
    monkeypatch.setattr(anvil, "STATE_INTERVAL", 1)
    state = tmp_path / "chain.state"
    own = Anvil(block_time=0, state=state).start()
    world = new_board(own).open()
    relayer = world.writer("relayer")
    for sequence in range(4):
        relayer.append_ballots(sequence, ballots(270))
    size, dumped = world.board.head().size, time.time()
    until(lambda: state.exists() and state.stat().st_mtime > dumped + 0.1, "the next dump")
    os.kill(own.pid, signal.SIGKILL)
    own._process.wait()
    with Anvil(block_time=0, state=state) as again:
        world.chain = again
        assert world.board.head().size == size
        assert len([r for b in world.reader.batches() for r in b.records]) == size


@pytest.mark.parametrize("suffix", [".part", ".next"])
def test_half_a_dump_is_never_taken_for_the_state(tmp_path, suffix):
    state = tmp_path / "chain.state"
    with Anvil(block_time=0, state=state) as own:
        world = new_board(own)
    whole = state.read_bytes()
    half = state.with_name(state.name + suffix)
    half.write_bytes(whole[: len(whole) // 2])
    with Anvil(block_time=0, state=state) as own:
        world.chain = own
        assert world.board.head().size == 1
    assert not half.exists()


@pytest.mark.parametrize("suffix", [".part", ".next"])
def test_a_whole_dump_that_a_dead_starter_left_is_taken(tmp_path, suffix):
    state = tmp_path / "chain.state"
    with Anvil(block_time=0, state=state) as own:
        world = new_board(own)
    state.rename(state.with_name(state.name + suffix))
    with Anvil(block_time=0, state=state) as own:
        world.chain = own
        assert world.board.head().size == 1


def test_time_never_goes_back_over_a_restart(tmp_path):
    state = tmp_path / "chain.state"
    with Anvil(block_time=1, state=state) as own:
        there = int(time.time()) + 500_000
        own.advance_to(there)
    with Anvil(block_time=1, state=state) as own:
        number = int(block(own.web3, "latest")["number"], 16)
        until(lambda: int(block(own.web3, "latest")["number"], 16) > number, "another block")
        times = [int(block(own.web3, height)["timestamp"], 16) for height in range(number, number + 2)]
        assert there <= times[0] <= times[1] < there + 20


def test_a_chain_cannot_be_sent_back_by_an_option(tmp_path):
    state = tmp_path / "chain.state"
    with Anvil(block_time=0, state=state) as own:
        call(own.web3, "evm_mine")
    with pytest.raises(ChainError, match="cannot go back"):
        Anvil(block_time=0, state=state, timestamp=1000).start()


def test_a_file_that_is_no_state_is_not_overwritten(tmp_path):
    state = tmp_path / "notes.txt"
    state.write_text("my notes")
    with pytest.raises(ChainError, match="not a state file"):
        Anvil(block_time=0, state=state).start()
    assert state.read_text() == "my notes"


# ---------------------------------------------------------------- the command


def run(*words: str) -> Result:
    return CliRunner().invoke(app, words)


@pytest.mark.slow
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM], ids=lambda ending: ending.name)
def test_chain_up_runs_until_it_is_interrupted_and_leaves_nothing_running(tmp_path, ending):
    pid_file = tmp_path / "chain.pid"
    words = [sys.executable, "-m", "chain.cli", "up", "--port", "0", "--pid-file", str(pid_file)]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    until(pid_file.exists, "the chain to be up")
    url = json.loads(pid_file.read_text())["url"]
    connect(url)
    process.send_signal(ending)
    assert process.wait(PATIENCE) == 0
    assert url in process.stderr.read()
    assert not pid_file.exists()
    with pytest.raises(NodeUnreachable):
        connect(url)


@pytest.mark.slow
def test_a_chain_in_the_background_is_looked_at_advanced_and_ended(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    monkeypatch.chdir(tmp_path)
    account = HANDS["authority"].address
    up = run("up", "--detach", "--port", "0", "--state", "my.chain", "--block-time", "0", "--fund", account)
    assert up.exit_code == 0, up.exception
    url = json.loads(Path("chain.pid").read_text())["url"]
    try:
        assert int(call(connect(url), "eth_getBalance", account, "latest"), 16) > 0
        assert "is running" in str(run("up", "--detach", "--port", "0").exception)
        there = int(time.time()) + 100_000
        assert run("advance", "--to", str(there), "--rpc", url).exit_code == 0
        found = json.loads(run("status", "--rpc", url, "--json").stdout)
        assert found["time"] >= there and found["block"] == 1 and found["chain_id"] == 31_337
    finally:
        down = run("down")
    assert down.exit_code == 0, down.exception
    assert [path.name for path in tmp_path.iterdir()] == ["my.chain"]
    with pytest.raises(NodeUnreachable):
        connect(url)


def test_chain_status_shows_a_board(world):
    words = ["status", "--rpc", world.chain.url, "--contract", "0x" + world.address.hex()]
    board, head = json.loads(run(*words, "--json").stdout)["board"], world.board.head()
    assert (board["phase"], board["records"], board["root"]) == ("setup", head.size, head.root.hex())
    text = run(*words).stdout
    assert "setup" in text and head.root.hex() in text


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["status", "--rpc", "http://127.0.0.1:1"], "is the node running"),
        (["status", "--rpc", "URL", "--contract", "0x" + "11" * 20], "check the contract address"),
        (["status", "--rpc", "URL", "--contract", "0x11"], "is not an address"),
        (["down"], "there is no chain.pid"),
    ],
    ids=["no node", "no board", "no address", "nothing to end"],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path, monkeypatch, chain, words, says):
    monkeypatch.chdir(tmp_path)
    failed = run(*(word.replace("URL", chain.url) for word in words))
    assert isinstance(failed.exception, ChainError)
    assert says in str(failed.exception) and "\n" not in str(failed.exception)
    assert failed.stdout == ""


@pytest.mark.slow
def test_a_chain_that_does_not_start_in_the_background_says_why_with_exit_status_2(tmp_path, chain):
    words = ["up", "--detach", "--port", str(chain.port)]
    failed = subprocess.run(
        [sys.executable, "-m", "chain.cli", *words], cwd=tmp_path, capture_output=True, text=True, timeout=60,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert (failed.returncode, failed.stdout) == (2, "")
    assert failed.stderr.startswith(f"error: port {chain.port} is in use") and failed.stderr.count("\n") == 1


def test_a_stale_pid_file_ends_no_other_process(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("chain.pid").write_text(json.dumps({"pid": os.getpid(), "url": "http://127.0.0.1:1", "chain_id": 1}))
    assert "not running any more" in str(run("down").exception)
