"""The two engines through their one interface: whoever uses it asks nowhere which it has."""

from __future__ import annotations

import time

import pytest

from chain.anvil import Anvil
from chain.engine import Engine
from chain.evidence import verify
from chain.network.local import LocalNetwork
from chain.rpc import block
from tests.chain.world import HANDS
from tests.network.conftest import until
from tests.network.election import publish


def now(chain: Engine) -> int:
    return int(block(chain.web3, "latest")["timestamp"], 16)


def test_anvil_moves_its_clock_and_has_nobody_who_signs():
    with Anvil() as chain:
        engine: Engine = chain
        moment = now(engine) + 3600
        engine.wait_until(moment)
        assert engine.moves_clock and now(engine) >= moment
        assert (engine.name, engine.comet_url, engine.validators()) == ("anvil", "", [])
        assert engine.evidence(bytes(20)) is None
        assert engine.kill_one() is False
        engine.mend()
        engine.tend()


@pytest.mark.e2e
@pytest.mark.soak
def test_a_network_keeps_time_signs_and_goes_on_without_one(binaries, tmp_path):
    with LocalNetwork(tmp_path / "network", chain_id=77_004, fund=[HANDS["authority"].address]) as chain:
        engine: Engine = chain
        assert engine.name == "cometbft" and not engine.moves_clock and len(engine.validators()) == 4
        assert engine.kill_one() is True
        moment, left = now(engine) + 3, []
        engine.wait_until(moment, left.append)
        assert now(engine) >= moment and left and max(left) <= 3 and time.time() > moment - 2
        world, manifest = publish(engine, engine.web3, engine.validators())
        evidence = engine.evidence(world.address)
        assert evidence and verify(evidence.body(), manifest, world.address).signed_power == 3
        engine.mend()
        until(lambda: len(set(chain.heads())) == 1, "the killed one to be back")
