from hypothesis import given
from hypothesis import strategies as st

from protocol import group
from protocol.attachments import Roll, Station, roll_row
from protocol.ballot import Reason
from protocol.counting import NO_ROW, BallotFact, CountedRow, RollState, Status, apply_roll_changes, count
from protocol.records import CheckIns, RollChange

KEYS = [group.base(i + 1) for i in range(6)]
ROLL = Roll(b"".join(roll_row(key, i // 3) for i, key in enumerate(KEYS)), [0, 0])
STATIONS = [Station(0, 0, (b"\x01" * 20, b"\x02" * 20), "A"), Station(1, 1, (b"\x03" * 20, b"\x04" * 20), "B")]
STATE = RollState(ROLL, {}, [])


def fact(position, row, seen=None, reason=Reason.VALID, name=None):
    return BallotFact(
        position, (name or f"ballot {position}").encode(), row, position if seen is None else seen, reason
    )


def statuses(facts, check_ins=(), state=STATE, revote="last", channel="paper-precedence"):
    return [(row.status, row.reference) for row in count(state, facts, check_ins, STATIONS, revote, channel).rows]


def test_the_last_ballot_of_a_credential_counts():
    assert statuses([fact(5, 0), fact(6, 1), fact(7, 0)]) == [
        (Status.SUPERSEDED, 7),
        (Status.COUNTED, 0),
        (Status.COUNTED, 0),
    ]


def test_under_the_rule_first_the_first_ballot_counts():
    assert statuses([fact(5, 0), fact(7, 0)], revote="first") == [(Status.COUNTED, 0), (Status.SUPERSEDED, 5)]


def test_an_older_ballot_held_back_and_posted_after_a_newer_one_does_not_displace_it():
    assert statuses([fact(5, 0, seen=5), fact(9, 0, seen=3)]) == [(Status.COUNTED, 0), (Status.SUPERSEDED, 5)]


def test_the_same_bytes_twice_count_once_at_the_first_position():
    facts = [fact(5, 0, name="x"), fact(6, 0, seen=5, name="x")]
    assert statuses(facts) == [(Status.COUNTED, 0), (Status.DUPLICATE, 5)]


def test_an_invalid_ballot_that_names_a_row_displaces_nobody():
    facts = [
        fact(5, 0),
        fact(6, 0, reason=Reason.BAD_SIGNATURE),
        fact(7, NO_ROW, seen=0, reason=Reason.MALFORMED_HEADER),
    ]
    assert statuses(facts) == [
        (Status.COUNTED, 0),
        (Status.INVALID, Reason.BAD_SIGNATURE),
        (Status.INVALID, Reason.MALFORMED_HEADER),
    ]


def test_a_ballot_from_the_future_is_invalid_and_does_not_block_later_ones():
    assert statuses([fact(5, 0, seen=6), fact(7, 0)]) == [(Status.INVALID, Reason.SEEN_TOO_HIGH), (Status.COUNTED, 0)]


def test_paper_replaces_the_online_ballot_in_whichever_order_they_arrive():
    for position in (4, 9):
        check_ins = [(position, CheckIns(0, 0, ((0, 100),)))]
        assert statuses([fact(5, 0)], check_ins) == [(Status.REPLACED_BY_PAPER, position)]
        assert statuses([fact(5, 0)], check_ins, channel="online-precedence") == [(Status.COUNTED, 0)]


def test_a_check_in_at_a_station_of_another_unit_is_void_and_reported():
    found = count(STATE, [fact(5, 0)], [(6, CheckIns(1, 0, ((0, 100),)))], STATIONS, "last", "paper-precedence")
    assert found.rows[0].status == Status.COUNTED
    assert found.void_check_ins == [(6, 0)]
    assert found.check_ins == {}


def test_two_check_ins_of_one_row_are_a_conflict_that_the_earlier_station_time_wins():
    check_ins = [(6, CheckIns(0, 0, ((0, 200),))), (8, CheckIns(0, 1, ((0, 100), (1, 100))))]
    found = count(STATE, [fact(5, 0)], check_ins, STATIONS, "last", "paper-precedence")
    assert (found.rows[0].status, found.rows[0].reference) == (Status.REPLACED_BY_PAPER, 8)
    assert [(c.roll_index, c.first, c.second) for c in found.conflicts] == [(0, 8, 6)]
    assert found.check_ins == {0: 3}


def test_a_body_that_nobody_holds_is_void():
    lost = BallotFact(5, b"h", NO_ROW, 0, Reason.VALID, held=False)
    assert statuses([lost, fact(6, 0)]) == [(Status.NOT_HELD, 0), (Status.COUNTED, 0)]


def test_a_revoked_row_loses_its_ballots_and_the_added_row_votes():
    change = RollChange(group.base(99), "lost card", 0, 0)
    state = apply_roll_changes(ROLL, [(6, change)])
    assert state.roll.row(6) == (group.base(99), 0)
    assert statuses([fact(5, 0), fact(7, 0), fact(8, 6)], state=state) == [
        (Status.REVOKED, 6), (Status.REVOKED, 6), (Status.COUNTED, 0),
    ]  # fmt: skip


def test_roll_changes_that_contradict_the_roll_are_refused_and_change_nothing():
    new = group.base(99)
    changes = [
        (1, RollChange(new, "", 6, 0)), (2, RollChange(new, "", -1, 0)), (3, RollChange(new, "", 0, 1)),
        (4, RollChange(KEYS[2], "", 0, 0)), (5, RollChange(bytes(32), "", 0, 0)), (6, RollChange(new, "", 0, 0)),
        (7, RollChange(group.base(98), "", 0, 0)), (8, RollChange(new, "", 1, 0)),
    ]  # fmt: skip
    state = apply_roll_changes(ROLL, changes)
    assert [position for position, _ in state.refused] == [1, 2, 3, 4, 5, 7, 8]
    assert state.revoked == {0: 6}
    assert len(state.roll) == 7


rows = st.integers(0, 3)


@given(
    st.lists(
        st.tuples(rows, st.integers(0, 12), st.sampled_from([Reason.VALID, Reason.BAD_PROOF]), st.integers(0, 8)),
        max_size=12,
    )
)
def test_at_most_one_ballot_of_a_row_counts_and_every_ballot_has_one_fate(drawn):
    facts = [fact(i, row, seen, reason, f"{name}") for i, (row, seen, reason, name) in enumerate(drawn)]
    found = count(STATE, facts, [], STATIONS, "last", "paper-precedence")
    assert [row.position for row in found.rows] == list(range(len(facts)))
    counted = [row.roll_index for row in found.counted()]
    assert len(counted) == len(set(counted))
    eligible = {
        f.roll_index
        for i, f in enumerate(facts)
        if f.reason == 0 and f.seen <= i and f.ballot_hash not in {g.ballot_hash for g in facts[:i]}
    }
    assert set(counted) == eligible
    for row in found.rows:
        assert CountedRow.parse(row.encode()) == row
