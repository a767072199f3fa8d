"""Fixtures of all tests of stations that need a chain."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from chain.anvil import Anvil
from chain.rpc import call
from station.folder import StationFolder
from tests.station.world import VOTERS, start
from tests.trustee.boards import Election, publish


@pytest.fixture(scope="module")
def chain() -> Iterator[Anvil]:
    with Anvil(block_time=0) as chain:
        yield chain


@pytest.fixture
def board(chain) -> Iterator[Election]:
    """An election whose poll is open; the chain's time goes back afterwards."""
    before = call(chain.web3, "evm_snapshot")
    board = publish(chain)
    board.make_key()
    board.record_roll(VOTERS)
    board.open()
    yield board
    assert call(chain.web3, "evm_revert", before)


@pytest.fixture
def place(board, tmp_path) -> Iterator[StationFolder]:
    """Station 0's folder, on a clock that shows the chain's time."""
    with start(board, tmp_path / "school-0", 0) as place:
        yield place
