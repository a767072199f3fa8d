"""The audit: each way to cheat at a level, with everything else put right again, is found by the check that is there for it."""

import hashlib

import pytest

from protocol.encoding import u32, u64
from rollup import inbox
from rollup.check import check_leaf, check_level, check_tree
from rollup.run import run_tree
from rollup.sums import child_list_root, child_row, complete, parse
from tests.rollup.test_sums import resigned, standing
from tests.rollup.world import KEYS, LEAVES


@pytest.fixture
def whole(state, counted):
    run_tree(state.plan, counted, KEYS, processes=1)
    return counted


def put(state, folder, unit, data):
    inbox.sum_path(folder, state.plan, unit).write_bytes(data)


def relist(state, folder, unit, rows):
    """The unit's sum signed again over another child list."""
    listed = b"".join(rows)
    (folder / str(unit) / "children").write_bytes(listed)
    own = standing(state, folder, unit)
    put(state, folder, unit, resigned(state, own, at45=u64(len(rows)), at53=child_list_root(listed)))


def rows(folder, unit):
    data = (folder / str(unit) / "children").read_bytes()
    return [data[i : i + 40] for i in range(0, len(data), 40)]


def found(problems):
    return {(problem.check, problem.unit) for problem in problems}


def test_an_honest_tree_checks_level_by_level_and_as_a_whole(state, whole):
    for unit in (0, 1, 2):
        assert check_level(state.plan, whole, unit) == []
    assert check_tree(state.plan, whole) == (3, [])
    assert check_tree(state.plan, whole, roll=state.roll) == (8, [])


def test_a_level_is_checked_from_its_own_files_alone(state, whole):
    keep = {whole / "0" / "1.sum", *(whole / "1").rglob("*")}
    for path in sorted(whole.rglob("*")):
        if path.is_file() and path not in keep:
            path.unlink()
    assert check_level(state.plan, whole, 1) == []


def test_check_1_a_sum_that_is_missing_malformed_or_not_signed(state, whole):
    own = standing(state, whole, 1)
    put(state, whole, 1, own.data[:-1] + bytes([own.data[-1] ^ 1]))
    assert found(check_level(state.plan, whole, 1)) == {(1, 1)}
    put(state, whole, 1, own.data[:-1])
    assert found(check_level(state.plan, whole, 1)) == {(1, 1)}
    inbox.sum_path(whole, state.plan, 1).unlink()
    assert found(check_level(state.plan, whole, 1)) == {(1, 1)}


def test_check_2_a_child_list_that_is_not_the_one_in_the_sum(state, whole):
    path = whole / "1" / "children"
    path.write_bytes(path.read_bytes()[:40])
    assert found(check_level(state.plan, whole, 1)) == {(2, 1)}
    path.unlink()
    assert found(check_level(state.plan, whole, 1)) == {(2, 1)}


def test_check_3_a_child_of_another_parent_is_named_as_counted_twice(state, whole):
    stolen = standing(state, whole, 5)
    relist(state, whole, 1, [*rows(whole, 1), stolen.child_row()])
    problems = check_level(state.plan, whole, 1)
    assert found(problems) == {(3, 1)}
    assert problems[0].reason == "lists unit 5, which is in unit 2: it would be counted twice"


def test_check_3_a_listed_sum_that_is_not_there_or_not_signed(state, whole):
    first, second = rows(whole, 1)
    relist(state, whole, 1, [first, child_row(4, 1, b"another sum")])
    assert (3, 4) in found(check_level(state.plan, whole, 1))
    forged = standing(state, whole, 4).data[:-64] + bytes(64)
    put(state, whole, 4, forged)
    relist(state, whole, 1, [first, child_row(4, 1, forged)])
    assert found(check_level(state.plan, whole, 1)) == {(3, 4)}
    assert second != child_row(4, 1, forged)


@pytest.mark.parametrize(("at", "data"), [(41, u32(3)), (87, u64(1_000)), (95, bytes(32))])
def test_check_4_a_sum_that_its_children_do_not_add_up_to(state, whole, at, data):
    put(state, whole, 1, resigned(state, standing(state, whole, 1), **{f"at{at}": data}))
    assert found(check_level(state.plan, whole, 1)) == {(4, 1)}


def test_check_5_a_child_that_signed_two_sums(state, whole):
    other = resigned(state, standing(state, whole, 3), at45=u64(99))
    inbox.receive(state.plan, whole, 3, other)
    assert found(check_level(state.plan, whole, 1)) == {(5, 3)}


def test_check_6_a_child_that_was_left_out_and_everything_signed_again(state, whole):
    inbox.sum_path(whole, state.plan, 4).rename(whole / "elsewhere")
    for unit in (0, 1):
        inbox.sum_path(whole, state.plan, unit).unlink()
    run_tree(state.plan, whole, KEYS, processes=1, partial=True)
    assert found(check_tree(state.plan, whole)[1]) == {(6, 4)}


def test_check_7_a_sum_that_is_not_that_of_the_unit_s_ballots(state, whole):
    own = standing(state, whole, 3)
    engine = state.plan.engine()
    assert check_leaf(state.plan, whole, 3, state.roll, engine) == []
    for at, data in ((45, u64(11)), (53, bytes(32)), (95, bytes(32)), (87, u64(11)), (41, u32(2))):
        put(state, whole, 3, resigned(state, own, **{f"at{at}": data}))
        assert found(check_leaf(state.plan, whole, 3, state.roll, engine)) == {(7, 3)}
    put(state, whole, 3, own.data)
    log = whole / "3" / "log"
    log.write_bytes(log.read_bytes()[:-1])
    assert found(check_leaf(state.plan, whole, 3, state.roll, engine)) == {(7, 3)}


def test_an_audit_of_an_earlier_sum_finds_the_children_that_were_replaced_since(state, whole):
    later = resigned(state, standing(state, whole, 3), at37=u32(2))
    inbox.receive(state.plan, whole, 3, later)
    assert check_level(state.plan, whole, 1) == []
    (whole / "1" / "superseded" / "3-1.sum").unlink()
    assert found(check_level(state.plan, whole, 1)) == {(3, 3), (4, 1), (6, 3)}


def test_a_crash_between_the_list_and_the_sum_leaves_a_level_that_checks(state, whole, monkeypatch):
    path = inbox.sum_path(whole, state.plan, 4)
    aside = path.read_bytes()
    path.unlink()
    for unit in (0, 1):
        inbox.sum_path(whole, state.plan, unit).unlink()
    run_tree(state.plan, whole, KEYS, processes=1, partial=True)
    path.write_bytes(aside)

    written = inbox.write

    def dies(path, data, sync=True):
        if path.name == "1.sum":
            raise KeyboardInterrupt
        written(path, data, sync)

    for _ in range(2):
        monkeypatch.setattr(inbox, "write", dies)
        with pytest.raises(KeyboardInterrupt):
            run_tree(state.plan, whole, KEYS, processes=1)
        assert found(check_level(state.plan, whole, 1)) == {(6, 4)}
    monkeypatch.setattr(inbox, "write", written)
    assert run_tree(state.plan, whole, KEYS, processes=1).sum.revision == 2
    assert check_tree(state.plan, whole) == (3, [])


def test_every_leaf_s_sum_names_its_log(state, whole):
    for unit in LEAVES:
        one = standing(state, whole, unit)
        assert one.parts == len(state.ballots[unit]) and one.source != bytes(32)
        body = one.data[:-64]
        assert parse(state.plan.id, unit, state.plan.layout(unit), complete(body, KEYS, unit, None)) == one
        assert hashlib.sha256(body).digest() == one.statement
