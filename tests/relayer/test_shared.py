"""Two real relayer processes on one PostgreSQL outbox, each with its own account: one is killed, and the other keeps its promises."""

from __future__ import annotations

from pathlib import Path

import pytest

from chain.anvil import Anvil
from chain.rpc import call
from protocol.receipt import Promise
from relayer.outbox import Outbox
from tests.relayer.test_faults import QUICK, kept, pending, promise, promise_in, until
from tests.relayer.world import Process, World

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

SETTINGS = QUICK | {
    "TAKEOVER_AFTER": "0.5",
    "REBROADCAST_AFTER": "60",
    "PROMISE_SECONDS": "600",
    "CREDENTIAL_ATTEMPTS": "100",
}


@pytest.fixture
def folders(world: World, tmp_path: Path) -> list[Path]:
    world.connection(tmp_path / "board.json")
    return [world.relayer_folder(tmp_path / name, name) for name in ("relayer-1", "relayer-2")]


def start(folder: Path, database: str, crash_at: str = "", **settings: str) -> Process:
    return Process(folder, folder.parent / "board.json", crash_at, **SETTINGS | {"DATABASE": database} | settings)


def sequences(world: World) -> list[int]:
    return [world.writer.board.sequences(world.accounts[name].address) for name in ("relayer-1", "relayer-2")]


def test_what_a_killed_process_had_signed_its_neighbour_sends_as_it_is(
    chain: Anvil, world: World, folders: list[Path], database: str
) -> None:
    """Its bytes are stored and may be in a pool somewhere: signed anew by another account, its ballots could land twice."""
    bodies = world.ballots(world.voters)
    call(chain.web3, "evm_setAutomine", False)
    with start(folders[1], database, MAX_DELAY="60") as second:
        with start(folders[0], database) as first:
            promises = [promise(world, first, body) for body in bodies[:4]]
            until(lambda: pending(chain) > 0 and first.status()["ballots"]["promised"] == 0)
            first.kill()
        stored = Outbox(database).in_flight()
        call(chain.web3, "anvil_dropAllTransactions")
        assert pending(chain) == 0 and world.log_ballots() == []
        until(lambda: pending(chain) == len(stored))
        call(chain.web3, "evm_setAutomine", True)
        call(chain.web3, "evm_mine")
        second.wait_final(bodies[:4])
        until(lambda: second.status()["ballots"]["submitted"] == 0)
    assert kept(world.web3, world.contract, promises)
    assert sequences(world) == [len(stored), 0]
    assert all(call(chain.web3, "eth_getTransactionByHash", "0x" + batch.hash.hex()) for batch in stored)


def test_what_a_killed_process_had_claimed_and_not_signed_its_neighbour_signs(
    world: World, folders: list[Path], database: str
) -> None:
    bodies = world.ballots(world.voters[:3])
    with start(folders[0], database, crash_at="submit before commit") as first:
        promises = [promise(world, first, bodies[0])]
        assert first.process.wait(20) == -9
    with start(folders[1], database) as second:
        second.wait_final(bodies[:1])
        promises += [promise(world, second, body) for body in bodies[1:]]
        second.wait_final(bodies)
    assert kept(world.web3, world.contract, promises)
    assert sequences(world)[0] == 0


def test_both_carry_what_either_has_promised_and_know_each_others_ballots(
    world: World, folders: list[Path], database: str
) -> None:
    bodies, promises = list[bytes](), list[Promise]()
    with start(folders[0], database) as first, start(folders[1], database) as second:
        while not all(sequences(world)):  # whoever looks first takes what waits, and that is each of them at times
            assert len(bodies) < 50 * len(world.voters)
            bodies += (fresh := world.ballots(world.voters))
            promises += [promise(world, (first, second)[n % 2], body) for n, body in enumerate(fresh)]
            again = second.post(fresh[0])
            assert again.status_code == 409 and again.json()["earlier"]["state"] in ("promised", "submitted", "final")
            assert promise_in(again.json(), world.manifest).relayer != promises[0].relayer
            second.wait_final(fresh)
        for relayer in (first, second):
            until(lambda relayer=relayer: relayer.status()["ballots"]["final"] == len(bodies))
            assert relayer.status()["database"] == "postgresql"
    assert kept(world.web3, world.contract, promises)
