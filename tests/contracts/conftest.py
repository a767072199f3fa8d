"""Fixtures of the contract tests. ape starts the node and isolates tests; the bytes under test are those of the shipped artifact."""

import os
import tempfile

import pytest

from tests.contracts.world import World

# anvil writes the state of every block under the home directory and leaves it there, 100 MB a run; ape cannot tell it otherwise.
HOME = tempfile.TemporaryDirectory(prefix="anvil-", ignore_cleanup_errors=True)
os.environ["HOME"] = HOME.name


@pytest.fixture
def web3(networks):
    return networks.provider.web3


@pytest.fixture
def senders(accounts):
    """Accounts of the node: their transactions need no key."""
    return [a.address for a in accounts[:4]]


@pytest.fixture
def make(web3, senders):
    """A board with these things different from the usual one."""
    return lambda **different: World(web3, senders, **different)


@pytest.fixture
def world(make):
    """A board in setup: three trustees, two relayers, four verifiers of which two certify, five stations."""
    return make()
