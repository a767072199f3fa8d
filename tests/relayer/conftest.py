"""A fresh chain for each test: a test may move its time, stop its mining, or end its poll."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from chain.anvil import Anvil
from tests.relayer.world import Parts, World, build


@pytest.fixture
def chain() -> Iterator[Anvil]:
    with Anvil(block_time=0) as anvil:
        yield anvil


@pytest.fixture
def world(chain: Anvil) -> World:
    return build(chain)


@pytest.fixture
def parts(world: World, tmp_path) -> Iterator[Parts]:
    """A relayer's parts without its threads and its server: the test says when the chain is looked at and when a batch is due."""
    with Parts(world, tmp_path / "outbox.db") as found:
        yield found
