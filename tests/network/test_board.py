"""The bulletin board on a real network: it shows what the validators have signed, and stops at what they have not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bulletin import indexer as bulletin_indexer
from bulletin.indexer import Indexer, Unsealed
from bulletin.replica import Alarm
from bulletin.store import Store
from chain.network.collect import head_evidence
from chain.rpc import readable_head
from tests.chain.world import HANDS, ballots
from tests.network.conftest import until
from tests.network.election import publish

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


@pytest.fixture(scope="module")
def world(network):
    network.fund([HANDS[name].address for name in ("authority", "relayer")])
    found, _ = publish(network, network.web3, network.network.manifest_validators())
    found.open()
    last = found.writer("relayer").append_ballots(0, ballots(5))
    until(lambda: readable_head(network.web3) > last.block, "the block after the ballots")
    return found


def test_signatures_are_checked_for_the_log_that_was_read(network, world, tmp_path):
    store = Store(f"sqlite:///{tmp_path / 'board.db'}")
    head = Indexer(store, network.web3, world.address, comet=network.comet_url).step()
    with store.read() as tx:
        sealed = tx.fact("sealed")
    assert sealed["size"] == head.size and 3 * sealed["signed"] > 2 * sealed["total"] == 8


def test_a_validator_that_does_not_answer_is_no_alarm(network, world, tmp_path):
    indexer = Indexer(
        Store(f"sqlite:///{tmp_path / 'board.db'}"), network.web3, world.address, comet="http://127.0.0.1:1"
    )
    with pytest.raises(Unsealed, match="signatures cannot be had"):
        indexer.step()
    assert not indexer.replica.alarm and indexer.replica.head == world.board.head()


def test_a_signature_that_is_none_stops_the_board(network, world, tmp_path, monkeypatch):
    def forged(*arguments, **options):
        evidence = head_evidence(*arguments, **options)
        signatures = [
            signed._replace(signature=bytes(64)) if signed else signed for signed in evidence.commit.signatures
        ]
        return replace(evidence, commit=replace(evidence.commit, signatures=tuple(signatures)))

    monkeypatch.setattr(bulletin_indexer, "head_evidence", forged)
    indexer = Indexer(Store(f"sqlite:///{tmp_path / 'board.db'}"), network.web3, world.address, comet=network.comet_url)
    with pytest.raises(Alarm, match="validators have not signed"):
        indexer.step()
    assert indexer.replica.alarm


def test_evidence_of_a_shorter_log_stops_the_board(network, world, tmp_path, monkeypatch):
    first = world.reader.creation().block_number
    monkeypatch.setattr(bulletin_indexer, "head_evidence", lambda *found, at: head_evidence(*found, at=first))
    indexer = Indexer(Store(f"sqlite:///{tmp_path / 'board.db'}"), network.web3, world.address, comet=network.comet_url)
    with pytest.raises(Alarm, match="signed for a log of 1 records"):
        indexer.step()
