"""A fresh chain for each test: a test may move its time, stop its mining, or end its poll. And one PostgreSQL server for all."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from chain.anvil import Anvil
from tests.relayer import postgres
from tests.relayer.world import Parts, World, build


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The URL of a PostgreSQL database."""
    folder = postgres.binaries()
    if folder is None:
        pytest.skip("there is no PostgreSQL: install Debian's package postgresql")
    with postgres.server(folder) as url:
        yield url


@pytest.fixture
def database(server: str) -> str:
    """The same, empty."""
    postgres.empty(server)
    return server


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
