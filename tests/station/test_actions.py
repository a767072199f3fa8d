"""A station's day on a real board: hash, embargo, reveal, amendment; without a network, interrupted, twice, and wrongly."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from eth_account import Account

from chain.contract import Refused
from chain.rpc import call, checksummed
from chain.writer import Writer
from protocol import counting, election
from protocol.errors import Malformed
from protocol.group import base
from protocol.paper import ContestCount
from protocol.records import Kind, RollChange
from station import actions
from station.actions import NotDue
from station.folder import FolderError, StationFolder
from station.result import Counted, DoesNotBalance
from tests.station.world import (
    CORRECTED,
    COUNTED,
    VOTERS,
    kinds,
    log_of,
    sender,
    signed,
    standing,
    start,
    until_counted,
)
from tests.trustee.boards import publish

pytestmark = pytest.mark.e2e


# ---------------------------------------------------------------- the day


def test_hash_then_embargo_then_reveal_then_amendment(board, place):
    until_counted(board, place)
    signed(board, place)
    actions.submit(place, board.board, sender(board))
    assert kinds(board) == [Kind.CHECK_IN, Kind.STATION_HASH]
    with pytest.raises(NotDue, match="results are revealed at"):
        actions.reveal(place, board.board, sender(board))
    assert standing(board) == {}

    board.chain.advance_to(board.manifest.windows.reveal_not_before)
    actions.reveal(place, board.board, sender(board))
    first = standing(board)[0]
    assert (first.contests, first.revision, first.issued) == (COUNTED.contests, 1, 2)
    assert first.opening == place.state.opened.hash and first.closing == place.state.closed.hash

    actions.amend(place, CORRECTED, "a paper was on the wrong pile")
    signed(board, place)
    actions.submit(place, board.board, sender(board))
    actions.reveal(place, board.board, sender(board))
    second = standing(board)[0]
    assert (second.contests, second.revision, second.reason) == (CORRECTED.contests, 2, "a paper was on the wrong pile")
    assert kinds(board) == [
        Kind.CHECK_IN,
        Kind.STATION_HASH,
        Kind.STATION_RESULT,
        Kind.STATION_HASH,
        Kind.STATION_RESULT,
    ]
    assert actions.status(place, board.board)["chain"] | {"time": 0} == {
        "next_batch": 1, "phase": "open", "revealed": True, "revision": 2, "time": 0,
    }  # fmt: skip


def test_the_check_ins_on_the_record_are_those_of_the_journal_and_as_many_as_papers_issued(board, place):
    until_counted(board, place)
    signed(board, place)
    actions.submit(place, board.board, sender(board))
    log = log_of(board)
    [(_, batch)] = election.readable(log.records, Kind.CHECK_IN, counting.CheckIns.parse)
    times = [entry.time for entry in place.journal.find("check-in")]
    assert batch.entries == ((0, times[0]), (2, times[1]))


def test_an_offline_station_needs_nothing_until_it_syncs_and_syncing_twice_changes_nothing(board, place, monkeypatch):
    def no_network(*arguments: object) -> None:
        raise AssertionError("the network was used")

    with monkeypatch.context() as cut:
        cut.setattr("chain.rpc.call", no_network)
        cut.setattr(place.journal, "clock", lambda: board.manifest.windows.count_not_before)
        until_counted_offline(place)
        signed(board, place)
        actions.amend(place, CORRECTED, "counted again")
        signed(board, place)
    board.chain.advance_to(board.manifest.windows.reveal_not_before)
    actions.sync(place, board.board, sender(board))
    after = kinds(board)
    assert after == [Kind.CHECK_IN, Kind.STATION_HASH, Kind.STATION_RESULT, Kind.STATION_HASH, Kind.STATION_RESULT]
    assert standing(board)[0].contests == CORRECTED.contests
    assert "nothing to do" in actions.sync(place, board.board, sender(board)).did
    assert kinds(board) == after and actions.status(place)["next"].startswith("the station's work is done")


def until_counted_offline(place: StationFolder) -> None:
    actions.open_station(place)
    actions.check_in(place, [1, 3])
    actions.close_station(place)
    actions.count(place, COUNTED)


@pytest.mark.parametrize("call_", ["append_stations", "reveal"])
@pytest.mark.parametrize("moment", ["before", "after"])
def test_killed_before_or_after_something_is_sent_it_syncs_to_the_same_record(board, place, call_, moment):
    until_counted(board, place)
    signed(board, place)
    board.chain.advance_to(board.manifest.windows.reveal_not_before)
    path = place.path
    place.close()
    script = f"""
import os, signal, sys
from pathlib import Path
from eth_account import Account
from chain.board import Board
from chain.rpc import connect
from chain.writer import Writer
from station import actions
from station.folder import StationFolder
send = Writer.{call_}
def die(self, items):
    if {moment!r} == "after":
        send(self, items)
    os.kill(os.getpid(), signal.SIGKILL)
Writer.{call_} = die
actions.sync(StationFolder.open(Path(sys.argv[3]), "pass"), Board(connect(sys.argv[1]), sys.argv[2]), Account.from_key(sys.argv[4]))
"""
    arguments = [board.chain.url, checksummed(board.board.address), str(path), bytes(sender(board).key).hex()]
    child = subprocess.run(
        [sys.executable, "-c", script, *arguments], cwd=Path(__file__).parents[2], capture_output=True, text=True
    )
    assert child.returncode == -9, child.stderr
    with StationFolder.open(path, "pass") as again:
        actions.sync(again, board.board, sender(board))
        assert kinds(board) == [Kind.CHECK_IN, Kind.STATION_HASH, Kind.STATION_RESULT]
        assert standing(board)[0].contests == COUNTED.contests
        assert "nothing to do" in actions.sync(again, board.board, sender(board)).did


def test_the_practice_election_counts_papers_without_check_ins_and_says_practice(chain, tmp_path):
    before = call(chain.web3, "evm_snapshot")
    board = publish(chain, practice=True)
    board.make_key()
    board.record_roll(VOTERS)
    board.open()
    with start(board, tmp_path / "school-0", 0) as place:
        actions.open_station(place)
        actions.close_station(place)
        board.chain.advance_to(board.manifest.windows.count_not_before)
        assert "(practice)" in actions.count(place, COUNTED, board.board).did
        assert place.state.documents[0].result.practice and "PRACTICE" in actions.sheet(place)
    assert call(chain.web3, "evm_revert", before)


# ---------------------------------------------------------------- what it refuses


def test_nothing_is_counted_before_its_time_by_the_chain_or_by_the_clock(board, place):
    actions.open_station(place)
    actions.close_station(place)
    for where in (board.board, None):
        with pytest.raises(
            NotDue, match="counting begins at .* by the chain's time" if where else "by this machine's clock"
        ):
            actions.count(place, COUNTED, where, reason="x")
    place.journal.clock = lambda: (
        board.manifest.windows.count_not_before
    )  # a clock that runs ahead does not help online
    with pytest.raises(NotDue, match="by the chain's time"):
        actions.count(place, COUNTED, board.board, reason="x")
    assert not place.state.documents


def test_what_does_not_balance_leaves_no_trace_in_the_journal(board, place):
    until_counted(board, place)
    entries = len(place.journal.entries)
    for counted, words in (
        (replace(COUNTED, spoiled=1), "issued 2 is not counted 2"),
        (Counted(3, 0, 0, 3, (ContestCount(0, (1, 1, 1), 0, 0),)), "3 papers were issued and 2 voters checked in"),
    ):
        with pytest.raises(DoesNotBalance, match=words):
            actions.count(place, counted)
    assert len(place.journal.entries) == entries
    actions.count(place, Counted(3, 0, 0, 3, (ContestCount(0, (1, 1, 1), 0, 0),)), reason="a check-in was forgotten")


def test_one_officer_is_not_enough_and_a_stranger_is_none(board, place):
    until_counted(board, place)
    ana, ben = board.officers[0][:2]
    assert "a second officer" in actions.sign(place, ana).next
    assert "you have signed" in actions.sign(place, ana).did
    with pytest.raises(NotDue, match="1 of 2 signatures"):
        actions.submit(place, board.board, ana)
    for stranger in (Account.create(), board.officers[1][0]):
        with pytest.raises(NotDue, match="not an officer"):
            actions.sign(place, stranger)
    assert "nothing to do" in actions.sync(place, board.board, ana).did and kinds(board) == []
    assert "station submit" in actions.sign(place, ben).next
    assert "nothing waits" in actions.sign(place, board.officers[0][2]).did


def test_a_result_that_an_officer_has_signed_is_only_amended(board, place):
    until_counted(board, place)
    same = place.state.documents[0].body
    actions.count(place, COUNTED)
    assert place.state.documents[0].body == same
    actions.count(place, CORRECTED)
    assert len(place.state.documents) == 1 and place.state.documents[0].body != same
    actions.sign(place, board.officers[0][0])
    with pytest.raises(NotDue, match="has signed the result already"):
        actions.count(place, COUNTED)
    with pytest.raises(NotDue, match="sign it first"):
        actions.amend(place, COUNTED, "why")
    actions.sign(place, board.officers[0][2])
    with pytest.raises(DoesNotBalance, match="needs a reason"):
        actions.amend(place, COUNTED, " ")
    actions.amend(place, COUNTED, "why")
    actions.amend(place, CORRECTED, "why, more clearly")  # nobody has signed it yet
    assert [d.number for d in place.state.documents] == [1, 2]


def test_voters_are_checked_in_once_here_while_it_is_open_and_only_if_they_vote_here(board, place):
    with pytest.raises(NotDue, match="not open yet"):
        actions.check_in(place, [0])
    actions.open_station(place)
    for indices, words in (
        ([0, 4], "roll index 4 may not"),
        ([99], "may not"),
        ([-1], "may not"),
        ([1, 1], "there twice"),
    ):
        with pytest.raises(NotDue, match=words):
            actions.check_in(place, indices)
    assert not place.state.check_ins
    actions.check_in(place, [0])
    with pytest.raises(NotDue, match="was checked in here at"):
        actions.check_in(place, [1, 0])
    actions.close_station(place)
    with pytest.raises(NotDue, match="is closed"):
        actions.check_in(place, [1])
    assert list(place.state.check_ins) == [0]


def test_a_roll_change_is_learnt_by_syncing(board, place):
    actions.open_station(place)
    change = RollChange(base(7), "lost card", 2, 1)
    cosigned = [board.accounts["registrar"], board.accounts["cosigner"]]
    board.writer("registrar").append(Kind.ROLL_CHANGE, change.body(), cosigned)
    assert "the roll" in actions.sync(place, board.board, sender(board)).did
    with pytest.raises(NotDue, match="roll index 2 may not"):
        actions.check_in(place, [2])
    actions.check_in(place, [2 * VOTERS, 3])
    assert "nothing to do" in actions.sync(place, board.board, sender(board)).did


def test_check_ins_go_out_in_batches_two_officers_each(board, place):
    actions.open_station(place)
    actions.check_in(place, [0])
    signed(board, place)
    actions.check_in(place, [1])
    actions.sign(place, board.officers[0][0])
    actions.check_in(place, [3])
    actions.sign(place, board.officers[0][1])  # completes the batch that waits, and begins none
    actions.sync(place, board.board, sender(board))
    assert [b.complete for b in place.state.batches] == [True, True] and len(place.state.waiting) == 1
    log = log_of(board)
    found = [batch for _, batch in election.readable(log.records, Kind.CHECK_IN, counting.CheckIns.parse)]
    assert [[index for index, _ in batch.entries] for batch in found] == [[0], [1]]


def test_a_late_check_in_batch_does_not_hold_up_the_result(board, place):
    until_counted(board, place)
    signed(board, place)
    board.chain.advance_to(board.manifest.windows.settle_not_before)
    assert "NOT check-in batch 0" in actions.submit(place, board.board, sender(board)).did
    outcome = actions.sync(place, board.board, sender(board))
    assert "NOT check-in batch 0" in outcome.did and kinds(board) == [Kind.STATION_HASH, Kind.STATION_RESULT]
    assert not place.state.batches[0].sent


def test_a_second_copy_of_the_folder_cannot_pass_off_its_own_batch_as_sent(board, place, tmp_path):
    """Two laptops from one stick: the board has the batch of one, and the other is told."""
    actions.open_station(place)
    place.close()
    shutil.copytree(place.path, tmp_path / "copy")
    for path, index in ((place.path, 0), (tmp_path / "copy", 1)):
        with StationFolder.open(path, "pass") as one:
            actions.check_in(one, [index])
            signed(board, one)
            outcome = actions.sync(one, board.board, sender(board))
    assert "NOT check-in batch 0 (the board refuses with WrongNumber" in outcome.did and kinds(board) == [Kind.CHECK_IN]


def test_after_the_embargo_an_amendment_waits_for_the_document_before_it(board, place):
    until_counted(board, place)
    signed(board, place)
    actions.submit(place, board.board, sender(board))
    actions.amend(place, CORRECTED, "why")
    board.chain.advance_to(board.manifest.windows.reveal_not_before)
    signed(board, place)
    with pytest.raises(Refused, match="UnrevealedRevision"):
        actions.submit(place, board.board, sender(board))
    actions.sync(place, board.board, sender(board))
    assert standing(board)[0].contests == CORRECTED.contests


# ---------------------------------------------------------------- the folder


def test_a_folder_is_made_once_and_for_a_station_that_exists(board, place):
    with pytest.raises(FolderError, match="already"):
        start(board, place.path, 0)
    with pytest.raises(FolderError, match="no station 2"):
        start(board, place.path.parent / "other", 2)
    with pytest.raises(FolderError, match="not a station's folder"):
        StationFolder.open(place.path.parent / "other", "pass")


@pytest.mark.parametrize("name", ["units", "stations"])
def test_a_changed_public_file_is_noticed_at_the_next_opening(place, name):
    place.close()
    file = place.path / name
    file.write_bytes(file.read_bytes().replace(b"o", b"0", 1))
    with pytest.raises(Malformed, match=name):
        StationFolder.open(place.path, "pass")


def test_another_elections_files_are_noticed(board, place, tmp_path):
    other = publish(board.chain)
    with start(other, tmp_path / "other", 0):
        pass
    place.close()
    for name in ("manifest.json", "units", "stations"):
        shutil.copy(tmp_path / "other" / name, place.path / name)
    with pytest.raises(FolderError, match="not the manifest of the election"):
        StationFolder.open(place.path, "pass")


def test_a_folder_whose_making_was_interrupted_is_made_again(board, place, tmp_path):
    half = tmp_path / "half"
    half.mkdir()
    shutil.copy(place.path / "manifest.json", half / "manifest.json")
    with start(board, half, 1) as made:
        assert made.station.number == 1 and 4 in made.state.roll and 0 not in made.state.roll


def test_what_reopens_is_what_was_closed(board, place):
    until_counted(board, place)
    actions.sign(place, board.officers[0][0])
    before = actions.status(place)
    place.close()
    with StationFolder.open(place.path, "pass", board.board.now) as again:
        assert actions.status(again) == before


def test_two_stations_of_one_election_do_not_mix(board, place, tmp_path):
    with start(board, tmp_path / "school-1", 1) as other:
        until_counted(board, place)
        actions.open_station(other)
        actions.check_in(other, [4, 5])
        actions.close_station(other)
        actions.count(other, CORRECTED)
        for one in (place, other):
            signed(board, one)
            actions.submit(one, board.board, sender(board))
        with pytest.raises(NotDue, match="not an officer"):
            actions.sign(other, board.officers[0][0])
        board.chain.advance_to(board.manifest.windows.reveal_not_before)
        assert "revealed" in actions.reveal(other, board.board, sender(board)).did
        assert {n: r.contests for n, r in standing(board).items()} == {1: CORRECTED.contests}


def test_anyone_who_pays_may_carry_what_two_officers_signed(board, place):
    until_counted(board, place)
    signed(board, place)
    items = [place.item(item) for item in actions.signed_items(place)]
    landed = Writer(board.chain.web3, board.board.address, board.accounts["relayer"]).append_stations(items)
    assert len(landed.positions) == 2
    actions.submit(place, board.board, sender(board))
    assert kinds(board) == [Kind.CHECK_IN, Kind.STATION_HASH] and not actions.signed_items(place)
