"""Networks of real processes: validators and geths of `make validator`, on loopback."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
from web3 import Web3

from chain.errors import ChainError
from chain.network.local import LocalNetwork
from chain.network.node import Node, find_binary
from chain.rpc import block, connect

PATIENCE = 60.0
"""Seconds for what takes one to five when the machine is idle."""

PAUSE = 0.2
"""Seconds between two looks: a fifth of a block, so that looking costs the nodes little."""


def until(condition: Callable[[], object], what: str, patience: float = PATIENCE) -> float:
    """Waits; gives how long."""
    start = time.monotonic()
    while True:
        try:
            if condition():
                return time.monotonic() - start
        except ChainError:  # a node that starts, or is down
            pass
        assert time.monotonic() - start < patience, f"waited {patience:.0f} s for {what}"
        time.sleep(PAUSE)


@cache
def connection(url: str) -> Web3:
    """Making one takes longer than what is asked."""
    return connect(url)


def head(node: Node) -> int:
    return int(block(connection(node.url), "latest")["number"], 16)


def hash_at(node: Node, number: int) -> str:
    """Of a block, and with it of all before it: each names its parent."""
    return block(connection(node.url), number)["hash"]


def hashes(node: Node, last: int) -> list[str]:
    """Of blocks 0 … last, as the node has them."""
    web3 = node.web3()
    return [block(web3, number)["hash"] for number in range(last + 1)]


def same_chain(nodes: list[Node]) -> int:
    """That all nodes have the same blocks up to the lowest head; gives it."""
    low = min(head(node) for node in nodes)
    assert len({hash_at(node, low) for node in nodes}) == 1
    return low


@pytest.fixture(scope="session")
def binaries() -> None:
    try:
        find_binary("geth"), find_binary("validator")
    except ChainError as error:
        pytest.skip(f"no network without its programs: {error}")


@pytest.fixture(scope="module")
def network(binaries: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalNetwork]:
    """Four validators for the tests of one file. Each leaves them running and in step."""
    home: Path = tmp_path_factory.mktemp("network")
    with LocalNetwork(home) as running:
        yield running
