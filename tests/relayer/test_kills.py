"""kill -9 at every named step of the commit protocol: a chain of real processes on one outbox, each killed at the next step.

What a process leaves, the next one finds, before it is killed itself. The last one ends in good order: then every promise of every case must be in
the log, in time and exactly once, and the verifier is asked about the whole of it.
"""

from __future__ import annotations

import signal
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from chain.anvil import Anvil
from chain.rpc import call
from chain.writer import Writer
from protocol.records import Kind
from relayer.faults import POINTS
from relayer.outbox import Outbox
from tests.relayer.test_faults import QUICK, assert_sound, pending, promise_in, until
from tests.relayer.world import Process, World, build, hash_of

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

CASES = [name for name in POINTS if not name.startswith("bury")]
"""All steps of a ballot that can still be appended."""

SETTINGS = QUICK | {
    "CREDENTIAL_ATTEMPTS": "1000",
    "PROMISE_SECONDS": "600",  # on a busy machine a process takes long to start
    "REPLACE_AFTER": "0.3",
    "REBROADCAST_AFTER": "5",
}


@pytest.fixture(scope="module")
def chain() -> Iterator[Anvil]:
    with Anvil(block_time=0) as anvil:
        yield anvil


@pytest.fixture(scope="module")
def world(chain: Anvil) -> World:
    return build(chain, voters=2)


@pytest.fixture(scope="module")
def folder(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return world.relayer_folder(tmp_path_factory.mktemp("kills") / "relayer")


@pytest.fixture(scope="module")
def board(world: World, folder: Path) -> Path:
    return world.connection(folder / "board.json")


@pytest.fixture(scope="module")
def cases() -> dict[str, dict[bytes, dict[str, Any] | None]]:
    """By case: its ballots, each with the promise that was received, or None."""
    return defaultdict(dict)


def offer(world: World, relayer: Process, case: dict[bytes, dict[str, Any] | None]) -> None:
    """Sends every ballot that has no promise yet; one that the process died under has none still."""
    for body in [body for body, promise in case.items() if promise is None]:
        try:
            answer = relayer.post(body)
        except httpx.TransportError:
            continue
        assert answer.status_code in (202, 409), answer.text
        value = answer.json()
        assert promise_in(value, world.manifest).ballot == hash_of(body)
        case[body] = value["earlier"]["promise"] if "earlier" in value else value


@pytest.mark.parametrize("name", CASES)
def test_a_process_is_killed_there(
    chain: Anvil, world: World, folder: Path, board: Path, cases: dict[str, dict[bytes, Any]], name: str
) -> None:
    waits = name.startswith(("replace", "reverted"))
    call(chain.web3, "evm_setAutomine", not waits)
    with Process(folder, board, crash_at=name, **SETTINGS) as relayer:
        cases[name].update(dict.fromkeys(world.ballots(world.voters)))
        for case in list(cases.values()):
            offer(world, relayer, case)
        if waits:
            until(lambda: pending(chain) > 0 or relayer.process.poll() is not None)
        if relayer.process.poll() is not None:
            pass  # what the one before it has left brought it there
        elif name.startswith("replace"):
            make_stuck(chain)
        elif name.startswith("reverted"):
            take_its_nonce(chain, world)
        assert relayer.process.wait(30) == -9
    call(chain.web3, "anvil_setNextBlockBaseFeePerGas", "0x0")
    call(chain.web3, "evm_setAutomine", True)
    call(chain.web3, "evm_mine")


def make_stuck(chain: Anvil) -> None:
    """The chain asks for more than was offered: blocks are made, and the transaction stays in the pool."""
    for _ in range(5):
        call(chain.web3, "anvil_setNextBlockBaseFeePerGas", hex(10**12))
        call(chain.web3, "evm_mine")


def take_its_nonce(chain: Anvil, world: World) -> None:
    """Another process with the same account is faster: the batch in flight can never land."""
    writer = Writer(chain.web3, world.contract, world.accounts["relayer-1"])
    call(chain.web3, "anvil_dropAllTransactions")
    sequence = writer.board.sequences(writer.sender.account.address)
    writer.broadcast(writer.prepare_ballots(sequence, world.ballots(world.voters[:1]), writer.nonce()).raw)
    call(chain.web3, "evm_mine")


def test_the_last_process_has_every_ballot_final(
    world: World, folder: Path, board: Path, cases: dict[str, dict[bytes, Any]]
) -> None:
    assert list(cases) == CASES
    with Process(folder, board, **SETTINGS) as relayer:
        for case in cases.values():
            offer(world, relayer, case)
            relayer.wait_final(list(case))
        assert relayer.status()["ballots"]["dead"] == 0
        assert relayer.end(signal.SIGTERM) == 0
    outbox = Outbox(f"sqlite:///{folder / 'outbox.db'}")
    assert outbox.depth == 0 and outbox.in_flight() == []
    outbox.close()


@pytest.mark.parametrize("name", CASES)
def test_every_promise_of_a_killed_process_is_kept(world: World, cases: dict[str, dict[bytes, Any]], name: str) -> None:
    log = [(r.entry.body_hash, r.entry.time) for r in world.read().records if r.kind == Kind.BALLOT]
    for value in cases[name].values():
        promise = promise_in(value, world.manifest)
        [landed] = [time for digest, time in log if digest == promise.ballot]
        assert landed <= promise.by


def test_the_verifier_finds_nothing_wrong_with_the_ballots(world: World, cases: dict[str, dict[bytes, Any]]) -> None:
    promises = [value for case in cases.values() for value in case.values()]
    assert_sound(world.url, world.election, promises)


def test_killed_while_it_gives_up_it_gives_up_once(chain: Anvil, world: World, folder: Path, board: Path) -> None:
    """Beyond the append grace a promise is broken: two processes are killed at it, and the third counts it once."""
    late = world.ballots(world.voters)
    with Process(folder, board, MAX_DELAY="20", CREDENTIAL_ATTEMPTS="1000") as relayer:
        assert {relayer.post(body).status_code for body in late} == {202}
        relayer.kill()
    windows = world.manifest.windows
    chain.advance_to(windows.close + windows.append_grace)
    for name in ("bury before commit", "bury after commit"):
        with Process(folder, board, crash_at=name, **SETTINGS) as relayer:
            assert relayer.process.wait(30) == -9
    with Process(folder, board, **SETTINGS) as relayer:
        until(lambda: relayer.status()["queue"] == 0)
        assert relayer.status()["dead_letters"] == len(late)
        assert {relayer.state(body) for body in late} == {"dead"}
    assert not set(late) & set(world.log_ballots())
