import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import group, tally
from protocol.attachments import Unit
from protocol.ballot import Ciphertext
from protocol.errors import BallotboardError
from protocol.tally import (
    GroupSum,
    TooFewShares,
    combine,
    discrete_logs,
    lagrange,
    parse_partial,
    partial_decryption,
    partition,
    verify_partial,
)
from tests.protocol.worlds import APPROVAL_3, CONTEXT, ONE_OF_5, secret

# nation(0) > county(1): precincts 3 4 5; county(2): precincts 6 7
UNITS = [Unit("nation", "N", -1, -1), Unit("county", "A", 0, -1), Unit("county", "B", 0, -1)] + [
    Unit("precinct", f"P{i}", parent, 0) for i, parent in enumerate((1, 1, 1, 2, 2))
]
POLYNOMIAL = [secret("a0"), secret("a1")]
SHARES = {j: (POLYNOMIAL[0] + POLYNOMIAL[1] * j) % group.ORDER for j in (1, 2, 3)}
KEY = group.base(POLYNOMIAL[0])
ROOT = b"\x05" * 32


def encrypted(*values):
    randomness = secret("r")
    return tuple(
        Ciphertext(group.base(randomness + v), group.add(group.mul(randomness + v, KEY), group.base(v))) for v in values
    )


def test_level_0_gives_one_group_of_everything():
    assert partition(UNITS, {3: 1, 4: 0, 5: 2, 6: 9, 7: 0}, 0, 5) == [(3, 4, 5, 6, 7)]


def test_groups_stay_within_a_county_where_there_are_enough_ballots():
    assert partition(UNITS, {3: 6, 4: 6, 5: 3, 6: 6, 7: 6}, 2, 5) == [(3,), (4, 5), (6,), (7,)]


def test_a_county_with_too_few_ballots_goes_upward():
    assert partition(UNITS, {3: 6, 4: 6, 5: 3, 6: 1, 7: 2}, 2, 5) == [(3,), (4, 5, 6, 7)]


def test_an_election_with_too_few_ballots_still_has_its_total():
    assert partition(UNITS, {3: 1, 4: 0, 5: 0, 6: 0, 7: 0}, 2, 5) == [(3, 4, 5, 6, 7)]


def test_units_that_do_not_vote_on_the_contest_are_in_no_group():
    assert partition(UNITS, {3: 9, 7: 9}, 1, 5) == [(3,), (7,)]


@given(st.lists(st.integers(0, 12), min_size=5, max_size=5), st.integers(0, 4), st.integers(0, 8))
def test_groups_partition_the_units_and_are_large_enough(counts, level, minimum):
    ballots = dict(zip(range(3, 8), counts, strict=True))
    groups = partition(UNITS, ballots, level, minimum)
    assert sorted(unit for g in groups for unit in g) == list(range(3, 8))
    if len(groups) > 1:
        assert all(sum(ballots[unit] for unit in g) >= max(minimum, 1) for g in groups)


@pytest.mark.parametrize("quorum", list(itertools.combinations((1, 2, 3), 2)))
def test_any_quorum_gives_the_same_totals(quorum):
    sums = GroupSum(0, 0, (3,), 20, encrypted(3, 0, 9, 2))
    share_keys = {j: group.base(x) for j, x in SHARES.items()}
    shares = {}
    for j in quorum:
        partial = parse_partial(partial_decryption(CONTEXT, ROOT, [sums], j, SHARES[j])[0])
        values = partial.shares[0, 0]
        assert verify_partial(CONTEXT, ROOT, sums, j, share_keys[j], values)
        shares[j] = [d for d, _ in values]
    assert combine(ONE_OF_5, sums, shares, 2) == [3, 0, 9, 2, 6]


def test_too_few_shares_are_a_clear_stop():
    sums = GroupSum(0, 0, (3,), 20, encrypted(3, 0, 9, 2))
    with pytest.raises(TooFewShares, match="1 of 2"):
        combine(ONE_OF_5, sums, {1: [group.mul(SHARES[1], ct.a) for ct in sums.sums]}, 2)


@pytest.mark.parametrize("wrong", ["share", "settlement", "group", "trustee", "option order", "count", "proof"])
def test_a_partial_decryption_that_is_wrong_in_one_thing_is_refused(wrong):
    sums = GroupSum(0, 0, (3,), 20, encrypted(3, 1, 9))
    share = SHARES[1] + (wrong == "share")
    values = parse_partial(partial_decryption(CONTEXT, ROOT, [sums], 1, share)[0]).shares[0, 0]
    values = {"option order": [values[1], values[0], values[2]], "count": values[:2]}.get(wrong, values)
    if wrong == "proof":
        d, proof = values[0]
        values = [(d, proof[:64] + bytes([proof[64] ^ 1]) + proof[65:]), *values[1:]]
    checked = GroupSum(0, 1, (3,), 20, sums.sums) if wrong == "group" else sums
    root = b"\x06" * 32 if wrong == "settlement" else ROOT
    trustee = 2 if wrong == "trustee" else 1
    assert not verify_partial(CONTEXT, root, checked, trustee, group.base(SHARES[1]), values)


def test_many_groups_are_decrypted_in_several_records_that_each_fit():
    groups = [GroupSum(0, g, (3,), 1, encrypted(*[1] * 9)) for g in range(40)]
    bodies = partial_decryption(CONTEXT, ROOT, groups, 1, SHARES[1])
    assert len(bodies) > 1
    assert all(len(body) < 65_535 for body in bodies)
    found = [parse_partial(body) for body in bodies]
    assert [partial.part for partial in found] == list(range(len(bodies)))
    assert sorted(place for partial in found for place in partial.shares) == [(0, g) for g in range(40)]


def test_a_group_without_ballots_needs_no_shares():
    assert combine(APPROVAL_3, GroupSum(0, 0, (3,), 0, ()), {}, 2) == [0, 0, 0]


def test_sums_that_are_the_identity_decrypt_to_zero_without_a_proof():
    identity = GroupSum(0, 0, (3,), 2, (Ciphertext(group.IDENTITY, group.base(2)), *encrypted(1, 0)))
    values = parse_partial(partial_decryption(CONTEXT, ROOT, [identity], 1, SHARES[1])[0]).shares[0, 0]
    assert verify_partial(CONTEXT, ROOT, identity, 1, group.base(SHARES[1]), values)
    assert not verify_partial(CONTEXT, ROOT, identity, 1, group.base(SHARES[1]), [(group.BASE, b""), *values[1:]])


@pytest.mark.parametrize("maximum", [0, 1, 2, 9, 10, 99, 1000])
def test_discrete_logs_are_found_up_to_the_maximum_and_not_beyond(maximum):
    wanted = sorted({0, 1, maximum // 2, maximum})
    wanted = [m for m in wanted if m <= maximum]
    assert discrete_logs([group.base(m) for m in wanted], maximum) == wanted
    assert discrete_logs([group.base(maximum + 1), group.base(-1)], maximum) == [None, None]


def test_totals_above_the_ballots_are_an_error_not_a_result():
    sums = GroupSum(0, 0, (3,), 20, encrypted(12, 12, 0, 0))
    shares = {j: [group.mul(x, ct.a) for ct in sums.sums] for j, x in SHARES.items()}
    with pytest.raises(BallotboardError, match="exceed"):
        combine(ONE_OF_5, sums, shares, 2)


def test_lagrange_coefficients_interpolate_at_zero():
    for numbers in ([1, 2], [1, 3], [2, 3, 9]):
        value = [(7 + 5 * j * (len(numbers) > 1) + 11 * j * j * (len(numbers) > 2)) for j in numbers]
        assert sum(c * v for c, v in zip(lagrange(numbers), value, strict=True)) % group.ORDER == 7


def test_the_statement_of_a_partial_decryption_names_everything():
    sums = GroupSum(1, 2, (3,), 20, encrypted(3, 1))
    one = tally.partial_statement(CONTEXT, ROOT, sums, 0, 1)
    assert (
        len(
            {
                one,
                tally.partial_statement(CONTEXT, ROOT, sums, 1, 1),
                tally.partial_statement(CONTEXT, ROOT, sums, 0, 2),
            }
        )
        == 3
    )
