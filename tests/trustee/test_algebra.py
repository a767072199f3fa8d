"""The algebra behind the ceremony: any t shares are as good as any other t, and t − 1 are worth nothing."""

from __future__ import annotations

from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.ceremony import TrusteeSecret
from protocol.group import ORDER, add, base, mul, random_scalar, sub, total
from protocol.tally import lagrange

scalars = st.integers(0, ORDER - 1)
sizes = st.integers(1, 9).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n)))


def dealt(n: int, secrets: list[TrusteeSecret]) -> list[int]:
    """x_j of every trustee: the sum of what each dealer gives it."""
    return [sum(dealer.share_for(j) for dealer in secrets) % ORDER for j in range(1, n + 1)]


def joined(shares: list[int], quorum: tuple[int, ...]) -> int:
    return sum(c * shares[j - 1] for c, j in zip(lagrange(quorum), quorum, strict=True)) % ORDER


@st.composite
def ceremonies(draw):
    n, t = draw(sizes)
    polynomials = draw(st.lists(st.lists(scalars, min_size=t, max_size=t), min_size=n, max_size=n))
    return n, t, [TrusteeSecret(j, 1, polynomial) for j, polynomial in enumerate(polynomials, 1)]


@settings(max_examples=30, deadline=None)
@given(ceremonies())
def test_every_quorum_has_the_sum_of_the_dealers_secrets(made):
    n, t, secrets = made
    shares = dealt(n, secrets)
    whole = sum(dealer.polynomial[0] for dealer in secrets) % ORDER
    for size in (t, n):
        assert {joined(shares, quorum) for quorum in combinations(range(1, n + 1), size)} == {whole}


@settings(max_examples=30, deadline=None)
@given(ceremonies(), scalars)
def test_fewer_than_t_shares_fit_every_secret(made, wanted):
    """For whatever secret you like there are dealings in which t − 1 trustees see just what they see now."""
    n, t, secrets = made
    shares = dealt(n, secrets)
    few = tuple(range(1, t))
    # The polynomial through (0, difference) and zero at the few: adding it to a dealer's changes the secret and none of their shares.
    difference = (wanted - joined(shares, tuple(range(1, t + 1)))) % ORDER
    polynomial = [difference]
    for j in few:  # multiply by (1 − x/j)
        inverse = pow(-j, -1, ORDER)
        polynomial = [(a + b * inverse) % ORDER for a, b in zip([*polynomial, 0], [0, *polynomial], strict=True)]
    other = TrusteeSecret(1, 1, [(a + b) % ORDER for a, b in zip(secrets[0].polynomial, polynomial, strict=True)])
    changed = dealt(n, [other, *secrets[1:]])
    assert [changed[j - 1] for j in few] == [shares[j - 1] for j in few]
    assert joined(changed, tuple(range(1, t + 1))) == wanted


@given(st.sets(st.integers(1, 200), min_size=1, max_size=9), st.lists(scalars, min_size=1, max_size=9))
def test_lagrange_at_zero_is_the_value_at_zero_of_every_polynomial_below_its_degree(points, coefficients):
    quorum = tuple(sorted(points))
    coefficients = coefficients[: len(quorum)]
    values = [sum(c * j**m for m, c in enumerate(coefficients)) for j in quorum]
    assert sum(c * v for c, v in zip(lagrange(quorum), values, strict=True)) % ORDER == coefficients[0]


def test_any_five_of_nine_decrypt_to_the_same_and_one_wrong_share_changes_it():
    secrets = [TrusteeSecret.draw(j, 5) for j in range(1, 10)]
    shares = dealt(9, secrets)
    key = total([base(dealer.polynomial[0]) for dealer in secrets])
    r, votes = random_scalar(), 158_433
    a, b = base(r), add(mul(r, key), base(votes))
    partial = {j: mul(shares[j - 1], a) for j in range(1, 10)}

    def decrypt(quorum: tuple[int, ...], shares: dict[int, bytes]) -> bytes:
        return sub(b, total([mul(c, shares[j]) for c, j in zip(lagrange(quorum), quorum, strict=True)]))

    quorums = list(combinations(range(1, 10), 5))
    assert len(quorums) == 126 and {decrypt(quorum, partial) for quorum in quorums} == {base(votes)}
    wrong = partial | {4: mul(shares[3] + 1, a)}
    assert {quorum for quorum in quorums if decrypt(quorum, wrong) != base(votes)} == {q for q in quorums if 4 in q}
