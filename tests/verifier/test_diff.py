"""Two copies of a log: the later extends the earlier, or the first record that differs is named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from protocol.errors import BallotboardError
from protocol.records import Kind
from tests.tamper.builder import Draft, claims_of
from tests.tamper.recipes import changed, honest
from verifier.case import Case
from verifier.diff import compare


def case(drafts: Sequence[Draft]) -> Case:
    return Case(claims_of(drafts, honest().files, honest().claims().creation))


DRAFTS = tuple(honest().drafts)


def test_a_log_that_has_grown_extends_the_earlier_one_and_what_came_is_counted() -> None:
    found = compare(case(DRAFTS[:30]), case(DRAFTS))
    assert found.extends and found.position is None
    assert (found.old.size, found.new.size) == (30, len(DRAFTS))
    assert sum(found.added.values()) == len(DRAFTS) - 30 and found.added["result"] == 1


def test_a_log_extends_itself() -> None:
    found = compare(case(DRAFTS), case(DRAFTS))
    assert found.extends and found.added == {} and "the same" in found.detail


@pytest.mark.parametrize("position", [0, 1, 12, 28, 29])
def test_the_first_record_that_is_another_is_named(position: int) -> None:
    found = compare(case(DRAFTS[:30]), case(changed(position, time=DRAFTS[position].time + 1)))
    assert not found.extends and found.position == position
    assert f"record {position} is" in found.detail


def test_a_log_that_lost_records_does_not_extend() -> None:
    found = compare(case(DRAFTS), case(DRAFTS[:20]))
    assert not found.extends and found.position == 20


def test_a_record_left_out_shifts_the_rest_and_is_named() -> None:
    found = compare(case(DRAFTS), case([*DRAFTS[:19], *DRAFTS[20:]]))
    assert not found.extends and found.position == 19


def test_two_boards_are_not_compared() -> None:
    other = case(DRAFTS)
    with pytest.raises(BallotboardError, match="two boards"):
        compare(case(DRAFTS), Case(replace(other.claims, contract=bytes(20))))


def test_a_copy_whose_root_is_not_its_records_is_no_log() -> None:
    claims = case(DRAFTS).claims
    with pytest.raises(BallotboardError, match="the later copy is no log: I02"):
        compare(case(DRAFTS), Case(replace(claims, head=replace(claims.head, root=bytes(32)))))


def test_a_body_that_was_exchanged_under_its_hash_is_no_log() -> None:
    at = next(i for i, draft in enumerate(DRAFTS) if draft.kind == Kind.COMPLAINT)
    hidden = changed(at, body=b"{}", body_hash=DRAFTS[at].entry().body_hash)
    with pytest.raises(BallotboardError, match="I02"):
        compare(case(DRAFTS), case(hidden))
