"""A monitor that keeps every head, and stops when one of them is no longer in the log."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from protocol.errors import BallotboardError
from protocol.records import LogHead
from tests.tamper.builder import Draft, claims_of
from tests.tamper.recipes import RECIPES, changed, honest, reseal
from verifier.case import Case
from verifier.watch import State, look

DRAFTS = tuple(honest().drafts)
ID = honest().manifest.election_id


def case(drafts: Sequence[Draft]) -> Case:
    return Case(claims_of(drafts, honest().files, honest().claims().creation), ID)


def watched(*sizes: int) -> State:
    state = None
    for size in sizes:
        found, state = look(case(DRAFTS[:size]), state)
        assert found.ok, found.detail
    assert state
    return state


def test_it_follows_an_election_from_its_manifest_to_its_reports() -> None:
    state = watched(1, 4, 11, 12, 15, 25, 31, 36, len(DRAFTS))
    assert [head.size for head in state.heads] == [1, 4, 11, 12, 15, 25, 31, 36, len(DRAFTS)]
    assert state.election == ID.hex()


def test_nothing_new_is_said_and_no_head_is_added() -> None:
    found, state = look(case(DRAFTS[:15]), watched(15))
    assert found.ok and found.new == 0 and "nothing new" in found.detail
    assert len(state.heads) == 1


def test_a_record_changed_and_sealed_again_is_noticed_from_an_old_head() -> None:
    seen = watched(13, 14, 15)
    found, state = look(case(reseal(changed(13, time=1201))[:25]), seen)
    assert not found.ok and "History has changed: at 14 records" in found.detail
    assert state.heads == seen.heads


def test_a_log_that_has_become_shorter_is_noticed() -> None:
    found, state = look(case(DRAFTS[:14]), watched(15))
    assert not found.ok and "had 15 when it was last seen" in found.detail
    assert [head.size for head in state.heads] == [15]


def test_another_board_is_noticed() -> None:
    other = case(DRAFTS[:15])
    found, _ = look(Case(replace(other.claims, contract=bytes(20)), ID), watched(15))
    assert not found.ok and "another board" in found.detail


def test_a_new_record_that_fails_a_check_is_noticed_and_its_head_not_kept() -> None:
    forged = changed(19, signatures=bytes(65))
    found, state = look(case(forged[:25]), watched(15))
    assert not found.ok and found.detail.startswith("A05") and "record 19" in found.detail
    assert [head.size for head in state.heads] == [15]


def test_a_wrong_result_is_noticed() -> None:
    recipe = next(r for r in RECIPES if r.title == "a result with two totals exchanged")
    found, _ = look(Case(recipe.make().claims, ID), None)
    assert not found.ok and found.detail.startswith("K06")


def test_a_node_that_contradicts_itself_is_noticed() -> None:
    claims = replace(case(DRAFTS[:15]).claims, contradiction="two answers")
    found, _ = look(Case(claims, ID), None)
    assert not found.ok and "two answers" in found.detail


def test_the_state_is_what_was_saved(tmp_path: Path) -> None:
    state = watched(12, 15)
    state.save(tmp_path / "heads")
    assert State.load(tmp_path / "heads") == state
    assert State.load(tmp_path / "none") is None
    assert [path.name for path in tmp_path.iterdir()] == ["heads"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": "x"}', json.dumps({"format": "ballotboard/watch/v1", "chain": 1, "contract": "", "election": "", "heads": [{"size": 1, "root": "zz"}]})])  # fmt: skip
def test_a_file_that_is_no_state_is_refused_and_not_begun_anew(tmp_path: Path, text: str) -> None:
    (tmp_path / "heads").write_text(text)
    with pytest.raises(BallotboardError, match="is no state of a watch"):
        State.load(tmp_path / "heads")


def test_a_state_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(BallotboardError, match="cannot write"):
        State(1, "", "", [LogHead(1, bytes(32))]).save(tmp_path / "nowhere" / "heads")
