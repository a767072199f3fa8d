"""Sums on their way up: what they add up to, who signed them, and what arrives late, twice, or contradicts itself."""

import dataclasses
import hashlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from protocol import engine
from protocol.encoding import u32
from protocol.group import BASE, IDENTITY
from rollup import inbox, keys
from rollup.inbox import Receipt, receive
from rollup.keys import Keys
from rollup.run import MissingSums, run_tree, run_unit
from rollup.sums import NotSigned, SumError, child_list_root, combine, complete, parse, parse_child_list
from tests.rollup.world import KEYS, LEAVES, VOTERS


def standing(state, folder, unit):
    return inbox.read(state.plan, folder, unit)


def resigned(state, one, keys=KEYS, **change):
    """The same sum with other bytes at `change` (offset → bytes), signed again."""
    body = bytearray(one.data[:-64])
    for at, data in change.items():
        start = int(at[2:])
        body[start : start + len(data)] = data
    return bytes(body) + keys.sign(one.unit, hashlib.sha256(body).digest())


def test_the_sum_of_the_state_is_the_sum_over_all_ballots(state, counted):
    made = run_tree(state.plan, counted, KEYS, processes=1).sum
    everything = [body for unit in LEAVES for body in state.ballots[unit]]
    for part in made.contests:
        contest = state.plan.contests[part.contest]
        voting = [body for unit in LEAVES for body in state.ballots[unit] if part.contest in state.plan.styles[state.plan.units[unit].style]]  # fmt: skip
        found = state.plan.engine().sums(contest, voting, state.roll, [0] * len(voting), 1)[0]
        assert part.points == b"".join(c.a + c.b for c in found) and part.ballots == len(voting)
    assert made.leaves == len(LEAVES) and len(everything) == VOTERS * len(LEAVES)


def test_level_by_level_on_machines_of_their_own_gives_the_same_bytes(state, counted, tmp_path):
    whole = run_tree(state.plan, counted, KEYS, processes=2).sum
    machines = {unit: tmp_path / f"machine-{unit}" for unit in (0, 1, 2)}
    for leaf in LEAVES:
        parent = state.plan.units[leaf].parent
        assert receive(state.plan, machines[parent], leaf, standing(state, counted, leaf).data) == Receipt.NEW
    for unit in (1, 2):
        made = run_unit(state.plan, machines[unit], unit, KEYS).sum
        assert receive(state.plan, machines[0], unit, made.data) == Receipt.NEW
    assert run_unit(state.plan, machines[0], 0, KEYS).sum == whole
    # A county's machine knows nothing of another county, and the state's nothing of a precinct.
    assert not (machines[1] / "2").exists() and not (machines[0] / "1").exists()


def test_running_again_changes_no_byte(state, counted):
    run_tree(state.plan, counted, KEYS, processes=1)
    before = {path: path.read_bytes() for path in sorted(counted.rglob("*")) if path.is_file()}
    run_tree(state.plan, counted, KEYS, processes=2)
    assert {path: path.read_bytes() for path in sorted(counted.rglob("*")) if path.is_file()} == before


def test_without_native_the_bytes_are_the_same(state, counted, monkeypatch, tmp_path):
    if engine.native is None:
        pytest.skip("ballotboard-native is not built")
    whole = run_tree(state.plan, counted, KEYS, processes=1).sum
    for unit in (0, 1, 2):
        inbox.sum_path(counted, state.plan, unit).unlink()
    monkeypatch.setattr(engine, "native", None)
    monkeypatch.setattr("rollup.sums.native", None)
    assert run_tree(state.plan, counted, KEYS, processes=1).sum == whole


def test_missing_sums_are_named_and_what_comes_late_is_in_the_next_revision(state, counted):
    path = inbox.sum_path(counted, state.plan, 4)
    late = path.read_bytes()
    path.unlink()
    with pytest.raises(MissingSums, match=r"1 sums are missing: Ada 2, Ada \(4\)"):
        run_tree(state.plan, counted, KEYS, processes=1)
    assert standing(state, counted, 1) is None, "nothing is made of a level that is not complete"
    first = run_tree(state.plan, counted, KEYS, processes=1, partial=True)
    assert (first.missing, first.sum.leaves, first.sum.revision) == ((4,), 4, 1)
    assert receive(state.plan, counted, 4, late) == Receipt.NEW
    second = run_tree(state.plan, counted, KEYS, processes=1).sum
    assert (second.leaves, second.revision) == (5, 2)
    assert [standing(state, counted, unit).revision for unit in (1, 2)] == [2, 1]
    kept = parse(state.plan.id, 0, state.plan.layout(0), (counted / "root" / "superseded" / "0-1.sum").read_bytes())
    assert kept == first.sum


def test_a_sum_that_comes_twice_or_late_changes_nothing_and_one_that_contradicts_is_kept_as_evidence(state, counted):
    old = standing(state, counted, 3)
    new = resigned(state, old, at37=u32(2))
    other = resigned(state, old, at45=bytes(7) + b"\x63")
    assert receive(state.plan, counted, 3, old.data) == Receipt.DUPLICATE
    assert receive(state.plan, counted, 3, other) == Receipt.CONFLICT
    assert standing(state, counted, 3) == old
    assert sorted(path.read_bytes() for path in inbox.conflicts(counted, 1)) == sorted([old.data, other])
    assert receive(state.plan, counted, 3, new) == Receipt.REPLACED
    assert receive(state.plan, counted, 3, old.data) == Receipt.LATE
    assert standing(state, counted, 3).data == new


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"at0": b"\x02"}, "another version or plan"), ({"at1": b"\0"}, "another version or plan"), ({"at33": u32(4)}, "is that of unit 4"),
        ({"at37": u32(0)}, "revision 0"), ({"at85": b"\0\1"}, "not of contest 0"),
    ],
)  # fmt: skip
def test_a_sum_of_another_plan_unit_or_form_is_refused_though_it_is_signed(state, counted, change, reason):
    with pytest.raises(SumError, match=reason):
        receive(state.plan, counted, 3, resigned(state, standing(state, counted, 3), **change))


def test_a_sum_that_is_not_signed_by_its_unit_is_refused_wherever_it_comes_from(state, counted):
    one = standing(state, counted, 3)
    forged = resigned(state, one, keys=Keys(bytes(32)), at37=u32(2))
    for data in (forged, one.data[:-1] + bytes([one.data[-1] ^ 1]), resigned(state, one)[:-64] + bytes(64)):
        with pytest.raises(NotSigned, match=r"unit 3 \(Ada 1, Ada\)"):
            receive(state.plan, counted, 3, data)
    inbox.sum_path(counted, state.plan, 3).write_bytes(forged)  # as if copied there by hand
    with pytest.raises(NotSigned, match="unit 3"):
        run_tree(state.plan, counted, KEYS, processes=1)
    with pytest.raises(SumError, match="bytes, not"):
        receive(state.plan, counted, 3, one.data + b"\0")


@pytest.mark.parametrize("encoding", [b"\xff" * 32, BASE[:31] + bytes([BASE[31] | 128])])
def test_a_point_that_is_none_is_refused_by_the_level_above_and_by_name(state, counted, encoding, monkeypatch):
    one = standing(state, counted, 3)
    wrong = parse(state.plan.id, 3, state.plan.layout(3), resigned(state, one, at95=encoding))
    children = [wrong, standing(state, counted, 4)]
    for implementation in {engine.native, None}:
        monkeypatch.setattr(engine, "native", implementation)
        monkeypatch.setattr("rollup.sums.native", implementation)
        with pytest.raises(SumError, match="the sum of unit 3 holds a point that is none"):
            combine(state.plan.id, 1, state.plan.layout(1), children)


def test_the_sum_of_nothing_is_the_identity_and_may_travel(state, counted, tmp_path):
    empty = dataclasses.replace(state, ballots={unit: [] for unit in LEAVES})
    empty.count(tmp_path)
    made = run_tree(state.plan, tmp_path, KEYS, processes=1).sum
    assert all(set(part.points) == {0} and part.ballots == 0 for part in made.contests) and made.leaves == 5
    assert made.contests[0].points[:32] == IDENTITY


def test_signatures_come_out_the_same_alone_or_in_a_batch_and_hold_for_one_statement_alone(state):
    statements = [hashlib.sha256(b"%d" % i).digest() for i in range(9)]
    units = list(range(9))
    batch = KEYS.sign_many(units, statements)
    assert batch == b"".join(KEYS.sign(unit, statement) for unit, statement in zip(units, statements, strict=True))
    public = KEYS.public(units)
    assert keys.verify(statements, public, batch) == b"\1" * 9
    swapped = [statements[1], statements[0], *statements[2:]]
    assert keys.verify(swapped, public, batch) == b"\0\0" + b"\1" * 7


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
@given(data=st.data())
def test_a_flipped_bit_anywhere_in_a_sum_is_refused(state, counted, data):
    one = standing(state, counted, 3)
    bit = data.draw(st.integers(0, 8 * len(one.data) - 1))
    flipped = bytearray(one.data)
    flipped[bit // 8] ^= 1 << bit % 8
    with pytest.raises(SumError):
        receive(state.plan, counted, 3, bytes(flipped))
    assert standing(state, counted, 3) == one


def test_a_child_list_names_each_child_once_in_order(state, counted):
    made = run_tree(state.plan, counted, KEYS, processes=1).sum
    data = (counted / "0" / "children").read_bytes()
    assert [unit for unit, _, _ in parse_child_list(data)] == [1, 2, 7] and child_list_root(data) == made.source
    for wrong in (data[40:80] + data[:40], data[:40] * 2, data[:-1]):
        with pytest.raises(Exception, match="child-list"):
            parse_child_list(wrong)


def test_what_has_not_changed_keeps_its_revision(state, counted):
    one = standing(state, counted, 3)
    assert complete(one.data[:-64], KEYS, 3, one) == one.data
    changed = one.data[:45] + bytes(8) + one.data[53:-64]
    again = parse(state.plan.id, 3, state.plan.layout(3), complete(changed, KEYS, 3, one))
    assert (again.revision, again.parts) == (2, 0)
