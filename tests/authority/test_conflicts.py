"""A voter who took paper twice: found, shown with stations and times, decided on the record, and counted by the rule all the same."""

from __future__ import annotations

import pytest

from authority.conflicts import decide, find_conflicts
from protocol.errors import BallotboardError
from protocol.records import Kind

pytestmark = pytest.mark.e2e


def test_a_conflict_names_stations_and_times_and_a_decision_stays_on_the_record(polling):
    web3, contract = polling.chain.web3, polling.contract
    first, second = (card.roll_index for card in polling.issue.cards[:2])
    polling.check_in(0, [first, second])
    assert find_conflicts(web3, contract) == []
    authority, cosigner = polling.accounts["authority"], polling.accounts["cosigner"]
    with pytest.raises(BallotboardError, match="was not checked in twice"):
        decide(web3, contract, authority, cosigner, first, "nothing")
    polling.check_in(1, [first])
    [found] = find_conflicts(web3, contract)
    assert (found.roll_index, found.first.station, found.decision) == (first, 0, None)
    assert found.first.record < found.second.record and found.first.time <= found.second.time
    with pytest.raises(BallotboardError, match="needs its reason"):
        decide(web3, contract, authority, cosigner, first, " ")
    position = decide(web3, contract, authority, cosigner, first, "the second paper was set aside")
    record = polling.log().records[position]
    assert record.kind == Kind.DECISION
    [again] = find_conflicts(web3, contract)
    assert again.decision == (position, "the second paper was set aside") and again.first == found.first
