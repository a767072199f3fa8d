"""What goes wrong around a relayer: its node, its disk, the clocks. A real process on a real chain, and after each fault every promise is kept, once."""

import json
import os
import random
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from web3 import Web3

from chain.anvil import Anvil
from chain.log import read_log
from chain.rpc import call, checksummed, connect
from protocol.ballot import Reason
from protocol.election import OpenElection
from protocol.errors import BallotboardError
from protocol.manifest import Manifest
from protocol.receipt import Promise, check_statement
from protocol.records import Kind
from scripts.bench._election import open_poll
from scripts.load import post_all
from tests.relayer.world import PASSPHRASE, Parts, Process, World, build, hash_of
from verifier.node import NodeSource
from verifier.run import verify_tally

pytestmark = pytest.mark.e2e
QUICK = {"MAX_DELAY": "0.1", "POLL_INTERVAL": "0.05", "REBROADCAST_AFTER": "0.3"}

SOAK_BALLOTS = int(os.environ.get("BALLOTBOARD_SOAK_BALLOTS", "100000"))
SOAK_PACE = 40_000
"""Ballots of the whole load for each second that a process lives at most: the kills are spread over it."""
KILLS = 20


def until(true: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def pending(chain: Anvil) -> int:
    return int(call(chain.web3, "txpool_status")["pending"], 16)


def promise(world: World, relayer: Process, body: bytes) -> Promise:
    answer = relayer.post(body)
    assert answer.status_code == 202, answer.text
    found = promise_in(answer.json(), world.manifest)
    assert found.ballot == hash_of(body)
    return found


def promise_in(answer: dict[str, Any], manifest: Manifest) -> Promise:
    """The promise that an answer carries, or, of a ballot that had come in before, the first one's; its signature is the relayer's."""
    statement = check_statement(answer["earlier"]["promise"] if "earlier" in answer else answer, manifest)
    assert isinstance(statement, Promise), answer
    return statement


def kept(web3: Web3, contract: bytes, promises: Iterable[Promise]) -> bool:
    """Whether every promised ballot is in the log exactly once and in time, and no other is."""
    landed = [r.entry for r in read_log(web3, contract).records if r.kind == Kind.BALLOT]
    by = {p.ballot: p.by for p in promises}
    return sorted(by) == sorted(e.body_hash for e in landed) and all(e.time <= by[e.body_hash] for e in landed)


def assert_sound(url: str, election: OpenElection, promises: list[dict[str, Any]]) -> None:
    """The verifier finds nothing wrong but that the election is not over, whatever can be decided before is good, and every ballot's proofs hold."""
    source = NodeSource(url, checksummed(election.contract))
    report = verify_tally(source, election.manifest.election_id, promises=promises)
    checks = {check["id"]: check for check in report.value["checks"]}
    failed = [id for id, check in checks.items() if check["outcome"] == "fail"]
    waiting = {check["detail"] for check in checks.values() if check["outcome"] == "not run"}
    assert failed == ["C05"] and waiting == {"could not run: C05 failed"}, report.text()
    assert "no close record" in checks["C05"]["detail"]
    assert (checks["E06"]["outcome"], checks["E06"]["detail"]) == ("pass", f"{len(promises)} promises")
    bodies = [r.body or b"" for r in read_log(connect(url), election.contract).records if r.kind == Kind.BALLOT]
    assert len(bodies) >= len(promises)
    assert set(election.engine.verify(bodies, election.roll)) == {Reason.VALID}


def test_a_node_that_forgets_what_it_has_not_mined_gets_it_again(chain: Anvil, world: World, tmp_path: Path) -> None:
    folder, board = world.relayer_folder(tmp_path / "relayer"), world.connection(tmp_path / "board.json")
    call(chain.web3, "evm_setAutomine", False)
    bodies = world.ballots(world.voters)
    with Process(folder, board, **QUICK | {"REBROADCAST_AFTER": "2"}) as relayer:
        promises = [promise(world, relayer, body) for body in bodies]
        until(lambda: pending(chain) > 0 and relayer.status()["ballots"]["promised"] == 0)
        call(chain.web3, "anvil_dropAllTransactions")
        assert pending(chain) == 0 and world.log_ballots() == []
        until(lambda: pending(chain) > 0)
        call(chain.web3, "evm_setAutomine", True)
        call(chain.web3, "evm_mine")
        relayer.wait_final(bodies)
    assert kept(world.web3, world.contract, promises)


def test_a_node_that_comes_back_with_its_chain_and_without_its_pool_gets_the_rest_again(tmp_path: Path) -> None:
    state = tmp_path / "chain.json"
    with Anvil(block_time=0, state=state) as chain:
        world = build(chain)
        folder, board = world.relayer_folder(tmp_path / "relayer"), world.connection(tmp_path / "board.json")
        first, second, late = world.ballots(world.voters[:3])
        with Process(folder, board, STALE_AFTER="1", **QUICK) as relayer:
            promises = [promise(world, relayer, first)]
            relayer.wait_final([first])
            call(chain.web3, "evm_setAutomine", False)
            promises.append(promise(world, relayer, second))
            until(lambda: relayer.state(second) == "submitted")
            chain.stop()
            until(lambda: bool(relayer.status()["busy"]))
            assert relayer.http.get("/readyz").status_code == 503 and relayer.post(late).status_code == 503
            with Anvil(block_time=0, port=chain.port, state=state) as again:
                until(lambda: relayer.http.get("/readyz").status_code == 200)
                world.web3 = again.web3
                promises.append(promise(world, relayer, late))
                relayer.wait_final([first, second, late])
                assert kept(world.web3, world.contract, promises)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small file system needs the right to mount")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_promises_nothing_and_what_was_promised_before_is_sent_once_there_is_room(
    chain: Anvil, world: World, tmp_path: Path, small_disk: Path
) -> None:
    folder, board = world.relayer_folder(small_disk / "relayer"), world.connection(tmp_path / "board.json")
    before, *bodies = [body for _ in range(50) for body in world.ballots(world.voters)]
    call(chain.web3, "evm_setAutomine", False)
    with Process(folder, board, **QUICK | {"MAX_DELAY": "1", "CREDENTIAL_ATTEMPTS": "1000"}) as relayer:
        promises = [promise(world, relayer, before)]
        fill(small_disk / "full")
        kept_before = [before]
        # What the write-ahead log has room for already is promised, and kept.
        while (answer := relayer.post(during := bodies.pop())).status_code == 202:
            promises.append(promise_in(answer.json(), world.manifest))
            kept_before.append(during)
        assert (answer.status_code, answer.json()["reason"]) == (503, "busy") and "Retry-After" in answer.headers
        assert relayer.state(before) != "final" and relayer.http.get("/healthz").status_code == 200
        assert relayer.http.get(f"/v1/ballots/{hash_of(during).hex()}").status_code == 404
        (small_disk / "full").unlink()
        promises += [promise(world, relayer, body) for body in (during, bodies[0])]
        call(chain.web3, "evm_setAutomine", True)
        call(chain.web3, "evm_mine")
        relayer.wait_final([*kept_before, during, bodies[0]])
    assert kept(world.web3, world.contract, promises)


def fill(file: Path) -> None:
    with file.open("wb", buffering=0) as out:
        for size in (65_536, 4_096, 1):
            try:
                while True:
                    out.write(bytes(size))
            except OSError:
                pass


@pytest.mark.parametrize("jump", [86_400, -86_400])
def test_a_jump_of_this_machines_clock_moves_no_promise_and_closes_nothing(
    parts: Parts, monkeypatch: pytest.MonkeyPatch, jump: int
) -> None:
    first, second = parts.world.ballots(parts.world.voters[:2])
    [before] = parts.intake.process([first])
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + jump)
    parts.look()
    [after] = parts.intake.process([second])
    assert (before.status, after.status) == (202, 202)
    assert 0 <= after.value["promise"]["by"] - before.value["promise"]["by"] <= 10
    parts.settle()
    assert sorted(parts.world.log_ballots()) == sorted([first, second])


def test_a_jump_of_the_chains_clock_counts_for_what_comes_after_it(chain: Anvil, world: World, tmp_path: Path) -> None:
    folder, board = world.relayer_folder(tmp_path / "relayer"), world.connection(tmp_path / "board.json")
    first, second = world.ballots(world.voters[:2])
    with Process(folder, board, **QUICK) as relayer:
        promises = [promise(world, relayer, first)]
        relayer.wait_final([first])
        chain.advance_to(world.manifest.windows.close - 30)
        until(lambda: relayer.status()["now"] >= world.manifest.windows.close - 30)
        promises.append(promise(world, relayer, second))
        assert promises[1].by >= world.manifest.windows.close
        relayer.wait_final([second])
        chain.advance_to(world.manifest.windows.close)
        until(lambda: relayer.post(second + b"x").json()["reason"] == "closed")
    assert kept(world.web3, world.contract, promises)


@pytest.mark.soak
def test_a_relayer_killed_twenty_times_under_load_keeps_every_promise(tmp_path: Path) -> None:
    """Who was not answered sends again to the next process, and is promised then, or told of the promise that was lost on the way."""
    answers: dict[int, bytes] = {}
    with Anvil() as chain:
        poll = open_poll(chain, SOAK_BALLOTS, tmp_path, PASSPHRASE)
        bodies = poll.ballots(0, SOAK_BALLOTS)
        for kills_left in range(KILLS, -1, -1):
            left = [place for place in range(SOAK_BALLOTS) if place not in answers]
            with Process(tmp_path / "relayer", tmp_path / "board.json") as relayer:
                if kills_left:
                    killer = threading.Timer(random.uniform(0.1, SOAK_BALLOTS / SOAK_PACE), relayer.process.kill)
                    killer.start()
                try:
                    post_all(
                        relayer.url, (bodies[place] for place in left),
                        lambda number, status, body, _, left=left: answers.__setitem__(left[number], body), connections=64,
                    )  # fmt: skip
                except BallotboardError:
                    assert kills_left, "nobody has killed it"
                if kills_left:
                    killer.join()
                    continue
                until(lambda relayer=relayer: relayer.status()["ballots"]["final"] == SOAK_BALLOTS, 120)
        values = [json.loads(answers[place]) for place in range(SOAK_BALLOTS)]
        promises = [promise_in(value, poll.manifest) for value in values]
        assert [p.ballot for p in promises] == [hash_of(body) for body in bodies]
        assert kept(chain.web3, poll.contract, promises)
        signed = [value["earlier"]["promise"] if "earlier" in value else value for value in values]
        assert_sound(chain.url, poll.election, signed)
