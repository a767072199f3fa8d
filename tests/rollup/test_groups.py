"""Groups from the sums of their atoms are those that the record gives, and each is decrypted once."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol import engine, tally
from protocol.attachments import Unit
from protocol.ballot import Ciphertext
from protocol.ceremony import Setting, TrusteeSecret, check_ceremony, round1, round2, round3, share_secret
from protocol.errors import BallotboardError
from protocol.group import BASE, base, random_scalar, scalar_bytes
from protocol.tally import TooFewShares, partition
from rollup import inbox
from rollup.groups import atoms, decrypt_partially, group_sums, right_shares, totals
from rollup.keys import Keys
from rollup.plan import Plan
from rollup.run import MissingSums, run_tree
from rollup.sums import ContestSum, complete, encode
from tests.protocol.worlds import CONTEXT, ONE_OF_2, ONE_OF_5
from tests.rollup import world
from tests.rollup.world import KEYS, LEAVES, VOTERS

ROOT = b"\x07" * 32


def expected_groups(some):
    """What `protocol.election.contest_sums` computes from the ballots themselves."""
    found = []
    for number, contest in enumerate(some.plan.contests):
        voting = [u for u in LEAVES if number in some.plan.styles[some.plan.units[u].style]]
        ballots = {u: len(some.ballots[u]) for u in voting}
        groups = partition(some.plan.units, ballots, some.plan.decrypt_level, some.plan.minimum_ballots)
        numbers = [g for u in voting for _ in some.ballots[u] for g, group in enumerate(groups) if u in group]
        bodies = [body for u in voting for body in some.ballots[u]]
        sums = some.plan.engine().sums(contest, bodies, some.roll, numbers, len(groups))
        found.append([tally.GroupSum(number, g, group, sum(ballots[u] for u in group), tuple(sums[g])) for g, group in enumerate(groups)])  # fmt: skip
    return found


@pytest.mark.parametrize(("level", "minimum"), [(0, 1), (1, 5), (1, 20), (1, 30), (2, 5), (2, 13), (5, 1)])
def test_groups_are_those_of_the_ballots_in_number_members_and_bytes(tmp_path, level, minimum):
    some = world.state(world.plan(level, minimum))
    some.count(tmp_path)
    run_tree(some.plan, tmp_path, KEYS, processes=1)
    assert group_sums(some.plan, tmp_path) == expected_groups(some)


@st.composite
def trees(draw):
    """(units, ballots per leaf) of a random tree whose leaves have one of two styles."""
    parents = [-1, *(draw(st.integers(0, i)) for i in range(draw(st.integers(1, 14))))]
    inner = set(parents)
    units = [Unit("u", str(i), p, -1 if i in inner else draw(st.integers(0, 1))) for i, p in enumerate(parents)]
    return units, {i: draw(st.integers(0, 9)) for i, unit in enumerate(units) if unit.style >= 0}


@settings(max_examples=40, deadline=None)
@given(trees(), st.integers(0, 4), st.integers(0, 12))
def test_the_partition_of_any_tree_needs_nothing_below_its_atoms(tmp_path_factory, made, level, minimum):
    units, ballots = made
    folder = tmp_path_factory.mktemp("tree")
    signers = Keys(bytes(32))
    plan = Plan.build(
        bytes(32), CONTEXT, BASE, [ONE_OF_2, ONE_OF_5], [[0, 1], [1]], level, minimum, 0, units, signers.public(range(len(units)))
    )  # fmt: skip
    for unit, count in ballots.items():
        parts = [ContestSum(c, count, base(unit + 1) * 2 * n) for c, n in plan.layout(unit)]
        inbox.write(inbox.sum_path(folder, plan, unit), complete(encode(plan.id, unit, 1, 0, bytes(32), parts), signers, unit, None), sync=False)  # fmt: skip
    if units[0].style < 0:
        run_tree(plan, folder, signers, processes=1)
    wanted = set(atoms(plan))
    for unit in range(len(units)):
        if unit not in wanted:
            inbox.sum_path(folder, plan, unit).unlink(missing_ok=True)
    found = group_sums(plan, folder)
    for contest in (0, 1):
        voting = {u: n for u, n in ballots.items() if contest in plan.styles[units[u].style]}
        groups = partition(units, voting, level, minimum)
        assert [group.units for group in found[contest]] == groups
        for group, one in zip(groups, found[contest], strict=True):
            assert one.ballots == sum(voting[u] for u in group)
            assert one.sums[0].a == base(sum(u + 1 for u in group))


def test_groups_wait_until_every_leaf_is_in(state, counted):
    inbox.sum_path(counted, state.plan, 4).unlink()
    run_tree(state.plan, counted, KEYS, processes=1, partial=True)
    with pytest.raises(MissingSums, match="Ada"):
        group_sums(state.plan, counted)


# ---------------------------------------------------------------- decryption


@pytest.fixture(scope="module")
def trustees():
    setting = Setting(bytes(32), 0, 4, 3)
    people = [TrusteeSecret.draw(j, 3) for j in range(1, 5)]
    first = [round1(setting, one) for one in people]
    second = [round2(setting, one, first) for one in people]
    third = [round3(setting, one, first, second) for one in people]
    joint = check_ceremony(setting, first, second, third)
    return joint, [share_secret(setting, one, first, second) for one in people]


def groups_under(key, rows):
    """A group for each row of totals per option of ONE_OF_5."""
    found = []
    for number, row in enumerate(rows):
        pairs = []
        for v in row[:-1]:
            r = random_scalar() if sum(row) else 0
            pairs.append(Ciphertext(base(r), engine.fixed_rows(key + BASE, scalar_bytes(r) + scalar_bytes(v))))
        found.append(tally.GroupSum(1, number, (number,), sum(row), tuple(pairs)))
    return found


ROWS = [[1, 2, 3, 4, 5], [0, 0, 0, 0, 0], [0, 0, 0, 0, 7], [9, 0, 0, 0, 0]]


def decrypted(trustees, groups, tmp_path, numbers=(1, 2, 3, 4)):
    joint, shares = trustees
    right = {}
    for j in numbers:
        values = decrypt_partially(CONTEXT, ROOT, groups, j, shares[j - 1], tmp_path / f"trustee-{j}")
        right[j] = right_shares(CONTEXT, ROOT, groups, j, joint.share_keys[j - 1], values)
    return right


@pytest.mark.parametrize("native", [True, False])
def test_many_groups_at_once_give_what_one_at_a_time_gives(trustees, tmp_path, monkeypatch, native):
    if not native:
        monkeypatch.setattr(engine, "native", None)
    groups = groups_under(trustees[0].key, ROWS)
    right = decrypted(trustees, groups, tmp_path)
    assert totals(ONE_OF_5, groups, right, 3) == ROWS
    for j, shares in right.items():
        for group in groups:
            if group.ballots:
                values = decrypt_partially(CONTEXT, ROOT, [group], j, trustees[1][j - 1], tmp_path / f"trustee-{j}")
                assert tally.verify_partial(CONTEXT, ROOT, group, j, trustees[0].share_keys[j - 1], values[1, group.group])  # fmt: skip
                assert [d for d, _ in values[1, group.group]] == shares[1, group.group]
    one_by_one = [tally.combine(ONE_OF_5, g, {j: right[j][1, g.group] for j in right} if g.ballots else {}, 3) for g in groups]  # fmt: skip
    assert one_by_one == ROWS


def test_each_group_takes_the_trustees_whose_shares_are_right(trustees, tmp_path):
    groups = groups_under(trustees[0].key, ROWS)
    right = decrypted(trustees, groups, tmp_path)
    del right[1][1, 0], right[2][1, 2]
    assert totals(ONE_OF_5, groups, right, 3) == ROWS
    del right[2][1, 0]
    with pytest.raises(TooFewShares, match="2 of 3 partial decryptions are there for contest mayor, group 0"):
        totals(ONE_OF_5, groups, right, 3)


@pytest.mark.parametrize("spoil", ["image", "proof", "short", "missing", "other trustee"])
def test_a_wrong_share_is_left_out_and_the_others_stand(trustees, tmp_path, spoil):
    joint, shares = trustees
    groups = groups_under(joint.key, ROWS)
    values = decrypt_partially(CONTEXT, ROOT, groups, 1, shares[0], tmp_path / "once")
    d, proof = values[1, 2][3]
    key = joint.share_keys[0]
    if spoil == "image":
        values[1, 2][3] = (base(5), proof)
    elif spoil == "proof":
        values[1, 2][3] = (d, proof[:-1] + bytes([proof[-1] ^ 1]))
    elif spoil == "short":
        values[1, 2][3] = (d, proof[:-1])
    elif spoil == "missing":
        values[1, 2].pop()
    else:
        key = joint.share_keys[1]
    found = right_shares(CONTEXT, ROOT, groups, 1, key, values)
    assert set(found) == (set() if spoil == "other trustee" else {(1, 0), (1, 3)})


def test_totals_that_valid_ballots_cannot_give_are_refused(trustees, tmp_path):
    wrong = groups_under(trustees[0].key, [[3, 3, 0, 0, 0]])
    for ballots in (5, 2):
        groups = [tally.GroupSum(1, 0, (0,), ballots, wrong[0].sums)]
        with pytest.raises(BallotboardError, match=f"not those of {ballots} valid ballots"):
            totals(ONE_OF_5, groups, decrypted(trustees, groups, tmp_path), 3)


def test_nothing_is_decrypted_twice(trustees, tmp_path):
    groups = groups_under(trustees[0].key, ROWS)
    once = tmp_path / "once"
    decrypt_partially(CONTEXT, ROOT, groups, 1, trustees[1][0], once)
    decrypt_partially(CONTEXT, ROOT, groups, 1, trustees[1][0], once)
    with pytest.raises(BallotboardError, match="another roll-up was decrypted already"):
        decrypt_partially(CONTEXT, bytes(32), groups, 1, trustees[1][0], once)


def test_a_rolled_up_state_decrypts_to_what_its_voters_chose(tmp_path, trustees):
    joint, _ = trustees
    base_plan = world.plan()
    made = Plan.build(base_plan.election, CONTEXT, joint.key, base_plan.contests, base_plan.styles, 1, 5, base_plan.voters, base_plan.units, base_plan.keys)  # fmt: skip
    some = world.state(made)
    some.count(tmp_path)
    run_tree(made, tmp_path, KEYS, processes=1)
    for contest, groups in zip(made.contests, group_sums(made, tmp_path), strict=True):
        found = totals(contest, groups, decrypted(trustees, groups, tmp_path, (2, 3, 4)), 3)
        for group, row in zip(groups, found, strict=True):
            assert row == [len(group.units) * n for n in world.totals_of(VOTERS, contest.k)]
