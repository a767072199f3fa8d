"""Evidence collected from a real network, and verified with nothing but a manifest."""

from __future__ import annotations

import time

import pytest

from chain.errors import BadEvidence, ChainError
from chain.evidence import verify
from chain.network.collect import head_evidence, record_evidence
from chain.network.genesis import evm_genesis_hash
from chain.reader import Reader
from chain.rpc import block, readable_head
from protocol.records import Kind
from tests.chain.world import HANDS, ballots
from tests.network.conftest import head, until
from tests.network.election import publish

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


@pytest.fixture(scope="module")
def election(network):
    """An open poll with three events of ballots, and other appends and transactions in between."""
    network.fund([HANDS[name].address for name in ("authority", "relayer")])
    world, manifest = publish(network, network.web3, network.network.manifest_validators())
    world.open()
    relayer = world.writer("relayer")
    for number, count in enumerate((1, 40, 7)):
        relayer.append_ballots(number, ballots(count, first=100 * number))
    return world, manifest


def test_geth_makes_the_first_block_that_the_network_file_says(network):
    for node in network.nodes:
        assert block(node.web3(), 0)["hash"] == "0x" + evm_genesis_hash(network.network).hex()


def test_the_head_of_any_node_is_proven_small_and_fast(network, election):
    world, manifest = election
    for node in network.nodes:
        until(lambda n=node: head(n) >= readable_head(network.web3) - 1, "the node")
        web3 = node.web3()
        body = head_evidence(web3, node.comet_url, world.address).body()
        proven = verify(body, manifest, world.address)
        assert proven.head == world.board.head()
        assert proven.block_hash.hex() == block(web3, proven.block)["hash"][2:]
        assert 3 * proven.signed_power > 2 * proven.total_power == 8
        assert len(body) <= 8192
    best = min(_time(lambda: verify(body, manifest, world.address)) for _ in range(20))
    assert best < 0.02  # 1 ms on an idle core


def _time(call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def test_an_earlier_head_is_proven_too(network, election):
    world, manifest = election
    landed = [b for b in Reader(network.web3, world.address).batches()]
    for batch in landed:
        body = head_evidence(network.web3, network.comet_url, world.address, at=batch.block_number).body()
        last = max(b.size for b in landed if b.block_number == batch.block_number)
        assert verify(body, manifest, world.address).head.size == last


def test_every_record_is_proven_at_its_position(network, election):
    world, manifest = election
    records = [record for batch in world.reader.batches() for record in batch.records]
    for position in (0, 1, 2, 3, 4, 20, 43, 44, len(records) - 1):
        body = record_evidence(network.web3, network.comet_url, world.address, position).body()
        proven = verify(body, manifest, world.address)
        assert (proven.position, proven.entry) == (position, records[position].entry)
        assert proven.entry.kind == (Kind.BALLOT if position > 2 else (Kind.MANIFEST, Kind.ROLL, Kind.OPEN)[position])
        if proven.entry.kind == Kind.BALLOT:  # the receipt of any other record holds its body
            assert len(body) <= 8192


def test_a_record_that_is_not_there_has_no_evidence(network, election):
    world, _ = election
    with pytest.raises(ChainError, match="none at position 4000"):
        record_evidence(network.web3, network.comet_url, world.address, 4000)


def test_evidence_of_one_board_proves_nothing_of_another(network, election):
    world, manifest = election
    other, _ = publish(network, network.web3, network.network.manifest_validators())
    body = head_evidence(network.web3, network.comet_url, other.address).body()
    assert verify(body, manifest, other.address).head.size == 1
    with pytest.raises(BadEvidence):
        verify(body, manifest, world.address)


def test_what_is_not_signed_yet_is_not_proven(network, election, monkeypatch):
    world, _ = election
    monkeypatch.setattr("chain.network.collect.NEXT_HEADER", 0.0)
    future = readable_head(network.web3) + 1000
    with pytest.raises(ChainError, match=f"header {future + 1}, which signs for block {future}, is not there"):
        head_evidence(network.web3, network.comet_url, world.address, at=future)
