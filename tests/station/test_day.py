"""Between opening and signing: who may vote, papers handed out and replaced, two counts that must agree, and papers that a scanner counts."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from chain.contract import Refused
from protocol.errors import BallotboardError
from protocol.paper import ContestCount
from scripts.specimens import specimen
from station import actions, courier
from station.actions import NotDue
from station.folder import StationFolder
from station.papers import new_paper
from station.printing import print_papers
from station.result import Counted, DoesNotBalance
from station.scan import page_of, scan
from tests.station.world import COUNTED, VOTERS, kinds, log_of, sender, signed, start, until_counted
from tests.trustee.boards import Election, publish

pytestmark = pytest.mark.e2e


def state_of(place: StationFolder, index: int) -> str:
    return str(actions.look_up(place, index).data["state"])


# ---------------------------------------------------------------- check-in


def test_after_a_sync_it_is_known_who_voted_online_and_that_paper_replaces_it(board, place):
    board.vote([0, 1])  # voters 0 and 1
    actions.open_station(place)
    assert state_of(place, 0) == "may-vote"
    actions.sync(place, board.board, sender(board))
    assert [state_of(place, index) for index in (0, 1, 2, VOTERS)] == [
        "replaces-online",
        "replaces-online",
        "may-vote",
        "not-here",
    ]
    outcome = actions.check_in(place, [1, 2])
    assert outcome.data["replaces_online"] == [1] and "1 voted online, which the paper replaces" in outcome.did
    assert state_of(place, 1) == "checked-in-here"


def test_a_voter_checked_in_elsewhere_is_refused_after_a_sync(chain, tmp_path):
    board = publish(chain, stations=4)
    board.record_roll(VOTERS)
    board.open()
    with start(board, tmp_path / "a", 0) as one, start(board, tmp_path / "b", 2) as other:
        actions.open_station(one)
        actions.check_in(one, [3])
        signed(board, one)
        actions.sync(one, board.board, sender(board))
        actions.open_station(other)
        actions.sync(other, board.board, sender(board))
        assert state_of(other, 3) == "checked-in-elsewhere"
        with pytest.raises(NotDue, match="was checked in at station 0 already; nobody was checked in now"):
            actions.check_in(other, [2, 3])
        actions.check_in(other, [2])


def test_a_torn_or_missing_file_of_what_was_seen_costs_nothing_but_the_hint(board, place):
    board.vote([0])
    actions.open_station(place)
    actions.sync(place, board.board, sender(board))
    assert state_of(place, 0) == "replaces-online"
    (place.path / "seen.json").write_text('{"elsewhere": [[')
    assert state_of(place, 0) == "may-vote"


# ---------------------------------------------------------------- papers


def test_no_more_papers_are_handed_out_than_voters_checked_in_and_papers_printed(board, place, tmp_path):
    with pytest.raises(NotDue, match="while the station is open"):
        actions.issue(place)
    actions.open_station(place)
    print_papers(place, 3, tmp_path / "papers.pdf")
    with pytest.raises(NotDue, match="check the voter in first"):
        actions.issue(place)
    with pytest.raises(NotDue, match="no more than that can be replaced"):
        actions.issue(place, replacing=True)
    actions.check_in(place, [0, 1], hand_out=True)
    assert actions.issue(place, replacing=True).data == {"issued": 2, "replaced": 1, "left": 0}
    actions.check_in(place, [2])
    with pytest.raises(NotDue, match="3 papers were printed, and all of them were handed out"):
        actions.issue(place)
    place.close()
    with StationFolder.open(place.path, "pass") as again:
        assert actions.status(again)["papers"] == {"issued": 2, "left": 0, "printed": 3, "replaced": 1, "scanned": 0}


def test_the_count_must_be_of_the_papers_noted_as_handed_out(board, place):
    actions.open_station(place)
    actions.check_in(place, [0, 2], hand_out=True)
    actions.check_in(place, [1])
    actions.close_station(place)
    board.chain.advance_to(board.manifest.windows.count_not_before)
    three = Counted(3, 0, 1, 2, COUNTED.contests)
    with pytest.raises(DoesNotBalance, match="3 papers were issued and 2 noted as handed out"):
        actions.count(place, three)
    actions.count(place, three, reason="one was handed out and not noted")


# ---------------------------------------------------------------- two counts


def test_a_result_is_made_when_two_people_counted_the_same(board, place):
    actions.open_station(place)
    actions.check_in(place, [0, 2])
    actions.close_station(place)
    board.chain.advance_to(board.manifest.windows.count_not_before)
    other = Counted(2, 0, 0, 2, (ContestCount(0, (0, 1, 1), 0, 0),))
    assert "first count, by Ana" in actions.enter(place, COUNTED, "Ana").did
    outcome = actions.enter(place, other, "Ben")
    assert outcome.data["differs"] == ["blank", "yes"] and "from Ana's in yes, blank" in outcome.did
    assert not any(digit in outcome.did for digit in "0123456789")
    assert not place.state.documents
    place.close()
    with StationFolder.open(place.path, "pass", board.board.now) as again:  # what was entered survives
        with pytest.raises(DoesNotBalance):
            actions.enter(again, Counted(2, 1, 0, 2, COUNTED.contests), "Ben")
        actions.enter(again, COUNTED, "Ben", board.board)
        assert again.state.documents[0].result.contests == COUNTED.contests and not again.state.entries
        signed(board, again)
        actions.enter(again, other, "Ana", amending=True)
        actions.enter(again, other, "Cid", reason="one was turned over", amending=True)
        assert [d.number for d in again.state.documents] == [1, 2]


def test_no_entry_is_taken_before_the_hour_of_counting_or_without_a_name(board, place):
    actions.open_station(place)
    actions.close_station(place)
    with pytest.raises(NotDue, match="counting begins at"):
        actions.enter(place, COUNTED, "Ana", board.board)
    board.chain.advance_to(board.manifest.windows.count_not_before)
    with pytest.raises(NotDue, match="say who counted"):
        actions.enter(place, COUNTED, " ")
    assert not place.state.entries


# ---------------------------------------------------------------- the scanner


def box(place: StationFolder, folder: Path, votes: list[set[int]], **change: bytes) -> None:
    """Pictures of papers in random order: one for each vote, with a code by this station's key, or by another."""
    folder.mkdir(exist_ok=True)
    page, key = page_of(place), change.get("key", place.state.paper_key)
    for marks in votes:
        code = new_paper(int(change.get("station", place.station.number)), 0).code(key, place.state.election)
        specimen(page, code, {(0, option) for option in marks}, dpi=110).save(
            folder / f"{random.getrandbits(64):016x}.png"
        )


@pytest.fixture
def counting(board: Election, place: StationFolder, tmp_path: Path) -> StationFolder:
    """A station that printed papers, has closed, and may count; nobody checked in, as papers are what matters here."""
    print_papers(place, 1, tmp_path / "papers.pdf")
    actions.open_station(place)
    actions.close_station(place)
    board.chain.advance_to(board.manifest.windows.count_not_before)
    return place


def test_a_box_of_papers_becomes_sums_and_a_set_of_serials_that_no_vote_hangs_on(counting, tmp_path):
    votes = [{0}] * 11 + [{1}] * 7 + [{2}] * 2 + [set()] + [{0, 1}] * 3
    box(counting, tmp_path / "box", votes)
    outcome = scan(counting, tmp_path / "box")
    assert outcome.data["papers"] == 24 and outcome.data["by_hand"] == 0
    scanned = counting.state.scanned
    # an empty paper is a vote for the blank option, two marks are none
    assert scanned and scanned.contests == (ContestCount(0, (11, 7, 3), 0, 3),) and len(scanned.serials) == 24
    [entry] = counting.journal.find("scan")
    assert entry.data["serials"] == sorted(entry.data["serials"])
    assert set(entry.data) == {"contests", "papers", "serials"}

    again = scan(counting, tmp_path / "box")
    assert again.data["duplicates"] == 24 and "nothing new" in again.did and counting.state.scanned == scanned
    with StationFolder.open(_closed(counting), "pass") as reopened:
        assert reopened.state.scanned == scanned


def _closed(place: StationFolder) -> Path:
    place.close()
    return place.path


def test_papers_of_other_stations_forged_ones_and_copies_are_told_apart(counting, tmp_path):
    box(counting, tmp_path / "box", [{0}] * 20)
    box(counting, tmp_path / "box", [{1}], key=b"\x01" * 32)
    box(counting, tmp_path / "box", [{1}] * 2, station=1)  # type: ignore[arg-type]
    first = min((tmp_path / "box").iterdir())
    (tmp_path / "box" / "copy.png").write_bytes(
        next(p for p in (tmp_path / "box").iterdir() if p != first).read_bytes()
    )
    (tmp_path / "box" / "white.png").write_bytes(
        (tmp_path / "none").read_bytes() if (tmp_path / "none").exists() else b""
    )
    data = scan(counting, tmp_path / "box").data
    assert (
        data["papers"] == 20 and data["unreadable"] == 1 and data["forged"] + data["foreign"] + data["duplicates"] == 4
    )
    assert counting.state.scanned and counting.state.scanned.contests[0].counts[0] == 20


def test_of_a_cameras_frames_any_clear_one_is_taken_and_papers_count_once(counting, tmp_path):
    page, key, frames = page_of(counting), counting.state.paper_key, tmp_path / "frames"
    frames.mkdir()
    for n in range(21):
        code = new_paper(0, 0).code(key, counting.state.election)
        picture = specimen(page, code, {(0, n % 3)}, dpi=110)
        torn = picture.copy()
        torn.paste(255, (0, picture.height * 3 // 4, picture.width, picture.height))  # a hand over the lower code
        torn.save(frames / f"{n:02}-a.png")
        if n:
            picture.save(frames / f"{n:02}-b.png")
            picture.rotate(2, fillcolor=255).save(frames / f"{n:02}-c.png")
        torn.paste(255, (0, 0, torn.width, torn.height))
        torn.save(frames / f"{n:02}-d.png")  # nothing there
    data = scan(counting, frames, frames=True).data
    assert (data["papers"], data["by_hand"], data["duplicates"], data["unreadable"]) == (20, 1, 0, 0)
    assert counting.state.scanned and counting.state.scanned.contests[0].counts == (6, 7, 7)


def test_a_few_papers_are_not_counted_by_themselves_for_their_sums_would_be_their_votes(counting, tmp_path):
    box(counting, tmp_path / "box", [{0}] * 20)
    scan(counting, tmp_path / "box")
    box(counting, tmp_path / "late", [{1}] * 3)
    before = len(counting.journal.entries)
    with pytest.raises(NotDue, match="3 papers are too few"):
        scan(counting, tmp_path / "late")
    assert len(counting.journal.entries) == before


def test_nothing_is_scanned_before_the_hour_or_without_papers_of_the_stations_own(board, place, tmp_path):
    actions.open_station(place)
    actions.close_station(place)
    with pytest.raises(NotDue, match="counting begins"):
        scan(place, tmp_path, board.board)
    board.chain.advance_to(board.manifest.windows.count_not_before)
    with pytest.raises(NotDue, match="no papers were printed here"):
        scan(place, tmp_path, board.board)


# ---------------------------------------------------------------- the courier


def test_a_courier_carries_many_and_what_the_board_refuses_is_named_and_holds_nothing_up(board, place, tmp_path):
    with start(board, tmp_path / "school-1", 1) as other:
        for one in (place, other):
            until_counted(board, one)
            signed(board, one)
        items = [one.item(item) for one in (place, other) for item in actions.signed_items(one)]
        bad = place.item(place.state.documents[0])
        bad = type(bad)(bad.kind, bad.row, bad.proof, other.item(other.state.documents[0]).body, bad.signatures)
        writer = actions.Writer(board.chain.web3, board.board.address, board.accounts["relayer"])
        delivery = courier.carry(writer, [items[0], bad, *items[1:]])
        [(place_, why)] = delivery.refused
        assert place_ == 1 and isinstance(why, Refused)
        assert kinds(board) == [5, 6, 5, 6]
        for one in (place, other):
            assert "on the chain already" in actions.submit(one, board.board, sender(board)).did
        assert courier.carry(writer, items).refused == [] and kinds(board) == [5, 6, 5, 6]
        board.chain.advance_to(board.manifest.windows.reveal_not_before)
        documents = [one.state.documents[0].result.body() for one in (place, other)]
        assert courier.reveal(writer, documents).refused == [] and kinds(board)[-2:] == [7, 7]
    assert len(log_of(board).records) == board.head().size


def test_a_pack_is_carried_by_anyone_and_holds_no_figures_before_the_embargo_ends(board, place):
    until_counted(board, place)
    signed(board, place)
    packed = courier.pack(place)
    assert courier.Pack.parse(packed.body(), "pack") == packed and packed.documents == () and len(packed.items) == 2
    writer = actions.Writer(board.chain.web3, board.board.address, board.accounts["relayer"])
    assert courier.deliver(writer, [packed])[0].refused == [] and kinds(board) == [5, 6]
    board.chain.advance_to(board.manifest.windows.reveal_not_before)
    again = courier.pack(place)
    courier.deliver(writer, [again, packed])
    assert len(again.documents) == 1 and kinds(board) == [5, 6, 7]
    assert "nothing to do" in actions.sync(place, board.board, sender(board)).did and place.state.documents[0].revealed
    with pytest.raises(BallotboardError, match="another election's board"):
        courier.deliver(writer, [courier.Pack(bytes(20), 0, packed.items, ())])
    with pytest.raises(BallotboardError):
        courier.Pack.parse(packed.body() + b" ", "pack")
