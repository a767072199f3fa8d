"""What several modules need once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from chain.anvil import Anvil
from tests.tamper.builder import STEPS
from tests.tamper.on_chain import START, ChainElection


def held_on(anvil: Anvil, until: str = "certify") -> ChainElection:
    election = ChainElection(anvil)
    for step in STEPS[: STEPS.index(until) + 1]:
        getattr(election, step)()
    return election


@pytest.fixture(scope="session")
def election() -> Iterator[ChainElection]:
    """A whole one on a chain, for tests that only read."""
    with Anvil(block_time=0, timestamp=START) as anvil:
        yield held_on(anvil)
