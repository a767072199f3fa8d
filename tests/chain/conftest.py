from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from chain.anvil import Anvil
from tests.chain.world import World, new_board


@pytest.fixture(scope="session")
def chain() -> Iterator[Anvil]:
    """One anvil for the session that mines each transaction at once. Its time only goes forward; boards take their windows from it."""
    with Anvil(block_time=0) as running:
        yield running


@pytest.fixture
def make_board(chain: Anvil) -> Callable[..., World]:
    return lambda **options: new_board(chain, **options)


@pytest.fixture
def world(chain: Anvil) -> World:
    """A board in setup."""
    return new_board(chain)


@pytest.fixture
def polling(world: World) -> World:
    """A board whose poll is open."""
    return world.open()
