from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chain.anvil import Anvil
from tests.authority.world import PLAN, World


@pytest.fixture(scope="session")
def chain() -> Iterator[Anvil]:
    """One anvil for the session that mines each transaction at once. Its time only goes forward; elections take their windows from it."""
    with Anvil(block_time=0) as running:
        yield running


@pytest.fixture
def make_world(chain: Anvil, tmp_path: Path) -> Callable[..., World]:
    return lambda plan=PLAN: World(chain, tmp_path, plan)


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    """A published election: no ceremony and no roll yet."""
    return make_world()


@pytest.fixture
def polling(world: World) -> World:
    """An election whose poll is open, with six voters and no ballot."""
    world.ceremony()
    world.publish_roll()
    world.open_poll()
    return world
