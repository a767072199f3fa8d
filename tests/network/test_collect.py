"""Evidence collected from a real network, and verified with nothing but a manifest: by hand, by the verifier, and by a bulletin board as it reads."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bulletin import indexer as bulletin_indexer
from bulletin.indexer import Indexer, Unsealed
from bulletin.replica import Alarm
from bulletin.store import Store
from chain.errors import BadEvidence, ChainError
from chain.evidence import verify
from chain.network.collect import head_evidence, record_evidence
from chain.network.genesis import evm_genesis_hash
from chain.reader import Reader
from chain.rpc import block, readable_head
from protocol.encoding import canonical_json, parse_json
from protocol.records import Kind
from tests.chain.world import HANDS, ballots
from tests.network.conftest import head, until
from tests.network.election import publish
from verifier import checks
from verifier.case import Case
from verifier.node import NodeSource

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


def test_the_head_of_any_node_is_proven_in_a_small_file(network, election):
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


# ---------------------------------------------------------------- the verifier's check E04


def consensus(claims) -> checks.Result:
    case = Case(claims)
    return checks.run(case, [checks.CHECKS["I01"], checks.CHECKS["E04"]])[-1]


@pytest.fixture(scope="module")
def claims(network, election):
    """Of an observer who asks one node for the record, and another for the signatures."""
    world, _ = election
    contract = "0x" + world.address.hex()
    return NodeSource(network.url, contract, network.nodes[1].comet_url).read()


def test_the_verifier_finds_that_the_validators_signed_for_the_whole_log(claims):
    found = consensus(claims)
    assert found.outcome == "pass" and "of 4 signed block" in found.detail


def test_without_evidence_the_check_fails_and_says_what_to_give(claims):
    found = consensus(replace(claims, evidence=b""))
    assert found.outcome == "fail" and "--comet" in found.detail


def test_evidence_of_an_earlier_head_does_not_cover_the_log(network, election, claims):
    world, _ = election
    first = next(iter(Reader(network.web3, world.address).batches()))
    earlier = head_evidence(network.web3, network.comet_url, world.address, at=first.block_number).body()
    found = consensus(replace(claims, evidence=earlier))
    assert found.outcome == "fail" and "and this one has" in found.detail


def test_a_log_with_another_record_is_not_what_the_validators_signed_for(claims):
    last = claims.records[-1]
    other = replace(last, entry=replace(last.entry, body_hash=bytes(32)))
    found = consensus(replace(claims, records=[*claims.records[:-1], other]))
    assert found.outcome == "fail" and "not this log's" in found.detail


def test_a_signature_less_is_named(claims):
    value = parse_json(claims.evidence)
    value["commit"]["signatures"] = value["commit"]["signatures"][:1]
    found = consensus(replace(claims, evidence=canonical_json(value)))
    assert found.outcome == "fail" and "power" in found.detail


# ---------------------------------------------------------------- a bulletin board


@pytest.fixture
def board(network, election, tmp_path):
    """Makes a board that reads the election for the first time."""
    world, _ = election

    def make(comet=network.comet_url):
        return Indexer(Store(f"sqlite:///{tmp_path / 'board.db'}"), network.web3, world.address, comet=comet)

    return make


def test_signatures_are_checked_for_the_log_that_was_read(board):
    indexer = board()
    found = indexer.step()
    with indexer.replica.store.read() as tx:
        sealed = tx.fact("sealed")
    assert sealed["size"] == found.size and 3 * sealed["signed"] > 2 * sealed["total"] == 8


def test_a_validator_that_does_not_answer_is_no_alarm(election, board):
    indexer = board(comet="http://127.0.0.1:1")
    with pytest.raises(Unsealed, match="signatures cannot be had"):
        indexer.step()
    assert not indexer.replica.alarm and indexer.replica.head == election[0].board.head()


def test_a_signature_that_is_none_stops_the_board(board, monkeypatch):
    def forged(*arguments, **options):
        evidence = head_evidence(*arguments, **options)
        signatures = [
            signed._replace(signature=bytes(64)) if signed else signed for signed in evidence.commit.signatures
        ]
        return replace(evidence, commit=replace(evidence.commit, signatures=tuple(signatures)))

    monkeypatch.setattr(bulletin_indexer, "head_evidence", forged)
    indexer = board()
    with pytest.raises(Alarm, match="validators have not signed"):
        indexer.step()
    assert indexer.replica.alarm


def test_evidence_of_a_shorter_log_stops_the_board(election, board, monkeypatch):
    first = election[0].reader.creation().block_number
    monkeypatch.setattr(bulletin_indexer, "head_evidence", lambda *found, at: head_evidence(*found, at=first))
    with pytest.raises(Alarm, match="signed for a log of 1 records"):
        board().step()
