import hashlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from protocol import ballot, group
from protocol.attachments import Roll, roll_row
from protocol.ballot import HEADER, Reason
from protocol.encoding import u32, u64
from protocol.errors import Malformed
from protocol.manifest import Contest, Rule
from tests.protocol.worlds import CHOICES, ELECTION, ONE_OF_2, ONE_OF_5, ROLL, SEED, UP_TO_2_OF_4, VOTER

STYLES = range(5)


def make(style, choices=None, seen=7, seed=SEED, secret=VOTER, roll_index=None):
    index = style if roll_index is None else roll_index
    return ballot.create(ELECTION, index, seen, style, style, secret, seed, choices or CHOICES[style])


def resign(body, style, secret=VOTER):
    """What a cheat would do after changing a ballot that is his own: sign it again."""
    return ballot.sign(ELECTION, style, style, secret, SEED, body[: -ballot.SIGNATURE])


@pytest.mark.parametrize("style", STYLES)
def test_a_ballot_of_every_rule_is_valid_and_has_the_size_of_its_style(style):
    body = make(style)
    assert ballot.verify(ELECTION, ROLL, body) == Reason.VALID
    assert len(body) == ballot.ballot_size(ELECTION.styles[style])


def test_sizes_are_those_of_the_specification():
    assert ballot.ballot_size((ONE_OF_2,)) == 349
    assert ballot.ballot_size((ONE_OF_5,)) == 877


@pytest.mark.parametrize("k", [2, 3, 4, 5, 6, 9, 10, 100])
def test_one_of_k_works_for_every_choice_of_small_and_the_largest_k(k):
    contest = Contest("c", "", Rule.ONE_OF_K, 0, tuple(map(str, range(k))))
    election = ballot.BallotContext(ELECTION.context, ELECTION.key, ((contest,),))
    roll = Roll(roll_row(group.base(VOTER), 0), [0])
    for choice in range(k) if k <= 6 else (0, k - 1):
        body = ballot.create(election, 0, 0, 0, 0, VOTER, SEED, [[int(i == choice) for i in range(k)]])
        assert ballot.verify(election, roll, body) == Reason.VALID
        assert len(body) < 65_535


@pytest.mark.parametrize("style", STYLES)
def test_every_changed_byte_makes_a_ballot_invalid(style):
    body = make(style)
    for place in range(0, len(body), 1 if style == 0 else 29):
        changed = bytearray(body)
        changed[place] ^= 1
        assert ballot.verify(ELECTION, ROLL, bytes(changed)) != Reason.VALID, place


@pytest.mark.parametrize("style", STYLES)
def test_the_same_seed_and_choices_give_the_same_ballot_and_others_another(style):
    assert make(style) == make(style)
    unsigned = make(style)[: -ballot.SIGNATURE]
    derived = ballot.create_unsigned(ELECTION, style, 7, style, group.base(VOTER), style, SEED, CHOICES[style])
    assert derived == unsigned
    other = make(style, seed=hashlib.sha256(b"other").digest())
    assert other[HEADER : HEADER + 32] != unsigned[HEADER : HEADER + 32]


def test_two_choices_under_one_seed_share_no_ciphertext():
    one, two = make(0, [[1, 0]]), make(0, [[0, 1]])
    assert one[HEADER : HEADER + 32] != two[HEADER : HEADER + 32]


REASONS = {
    Reason.MALFORMED_HEADER: lambda body: b"\x02" + body[1:],
    Reason.UNKNOWN_CREDENTIAL: lambda body: body[:1] + u32(5) + body[5:],
    Reason.MALFORMED_LENGTH: lambda body: body + b"\x00",
    Reason.MALFORMED_SCALAR: lambda body: body[:-32] + group.ORDER.to_bytes(32, "little"),
    Reason.MALFORMED_POINT: lambda body: body[:HEADER] + b"\x01" + bytes(31) + body[HEADER + 32 :],
    Reason.BAD_PROOF: lambda body: resign(body[:5] + body[5:HEADER] + body[HEADER + 32 : HEADER + 64] + body[HEADER : HEADER + 32] + body[HEADER + 64 :], 0),
    Reason.BAD_SIGNATURE: lambda body: body[:-32] + (1).to_bytes(32, "little"),
}  # fmt: skip


@pytest.mark.parametrize("reason", REASONS, ids=lambda reason: reason.text)
def test_each_reason_has_a_ballot_that_is_wrong_in_just_that_way(reason):
    assert ballot.verify(ELECTION, ROLL, REASONS[reason](make(0))) == reason


@pytest.mark.parametrize("place", [HEADER, HEADER + 32, HEADER + 64, HEADER + 96, 349 - 64])
def test_the_identity_is_refused_in_every_point_that_is_sent(place):
    body = make(0)
    assert ballot.verify(ELECTION, ROLL, body[:place] + bytes(32) + body[place + 32 :]) == Reason.MALFORMED_POINT


def test_a_point_that_is_not_canonical_is_refused_in_a_roll_row():
    roll = Roll(roll_row(b"\xff" * 32, 0), [0])
    assert ballot.verify(ELECTION, roll, make(0)) == Reason.UNKNOWN_CREDENTIAL


@pytest.mark.parametrize("body", [b"", b"\x01", b"\x01" + bytes(11), bytes(13), b"\x00" * 349])
def test_short_and_empty_bodies_have_a_malformed_header(body):
    assert ballot.verify(ELECTION, ROLL, body) == Reason.MALFORMED_HEADER


@given(st.binary(max_size=400))
def test_any_bytes_at_all_get_a_reason_and_never_an_error(body):
    assert ballot.verify(ELECTION, ROLL, body) in set(Reason)
    assert ballot.verify(ELECTION, ROLL, b"\x01" + u32(0) + u64(0) + body) in set(Reason)


def test_a_ballot_copied_under_another_credential_is_refused_even_when_signed_by_it():
    thief = 12345
    roll = Roll(ROLL.data[:36] + roll_row(group.base(thief), 0), [0])
    body = make(0)
    copied = body[:1] + u32(1) + body[5 : -ballot.SIGNATURE]
    signed = ballot.sign(ELECTION, 0, 0, thief, SEED, copied)
    assert ballot.verify(ELECTION, roll, signed) == Reason.BAD_PROOF


def test_a_ballot_that_names_another_row_is_refused():
    roll = Roll(ROLL.data[:36] + roll_row(group.base(12345), 0), [0])
    assert ballot.verify(ELECTION, roll, make(0, roll_index=1)) in (Reason.BAD_PROOF, Reason.BAD_SIGNATURE)


def test_a_ballot_of_another_election_is_refused():
    other = ballot.BallotContext(hashlib.sha512(b"other election").digest(), ELECTION.key, ELECTION.styles)
    assert ballot.verify(other, ROLL, make(0)) == Reason.BAD_PROOF


@pytest.mark.parametrize(
    ("style", "choices"),
    [
        (0, [[2, 0]]),
        (1, [[1, 1, 0, 0, 0]]),
        (1, [[2, 0, 0, 0, 0]]),
        (2, [[2, 0, 0]]),
        (3, [[1, 1, 1, 0]]),
        (3, [[0, 0, 3, 0]]),
    ],
)
def test_a_prover_who_skips_the_check_of_choices_has_no_true_branch(style, choices, monkeypatch):
    monkeypatch.setattr(ballot, "check_choices", lambda contests, choices: None)
    with pytest.raises(ValueError, match="not in tuple"):
        make(style, choices)


@pytest.mark.parametrize(
    ("style", "choices"), [(0, [[2, 0]]), (0, [[5, 0]]), (1, [[1, 1, 0, 0, 0]]), (2, [[2, 0, 0]]), (3, [[1, 1, 1, 0]])]
)
def test_a_prover_who_pretends_that_the_first_branch_is_true_convinces_nobody(style, choices, monkeypatch):
    monkeypatch.setattr(ballot, "check_choices", lambda contests, choices: None)

    class Pretending(tuple):
        def index(self, value, *rest):
            return super().index(value) if value in self else 0

    honest = ballot.disjunctions
    monkeypatch.setattr(
        ballot,
        "disjunctions",
        lambda contest, rho: [ballot.Disjunction(d.weights, Pretending(d.values)) for d in honest(contest, rho)],
    )
    body = make(style, choices)
    monkeypatch.setattr(ballot, "disjunctions", honest)
    assert ballot.verify(ELECTION, ROLL, body) == Reason.BAD_PROOF


@pytest.mark.parametrize("choices", [[[1, 1]], [[0, 0]], [[1]], [[1, 0, 0]], [[1, 0], [1, 0]], [], [[2, -1]]])
def test_choices_that_the_rule_does_not_allow_are_refused_before_anything_is_made(choices):
    with pytest.raises(Malformed):
        make(0, choices or [[]])


def test_up_to_l_allows_l_and_refuses_one_more():
    ballot.check_choices((UP_TO_2_OF_4,), [[1, 1, 0, 0]])
    with pytest.raises(Malformed, match="at most 2"):
        ballot.check_choices((UP_TO_2_OF_4,), [[1, 1, 1, 0]])


@settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    st.lists(st.integers(0, 1), min_size=3, max_size=3), st.binary(min_size=32, max_size=32), st.integers(0, 2**64 - 1)
)
def test_any_approval_any_seed_any_seen_makes_a_valid_ballot_whose_sums_decrypt(choice, seed, seen):
    body = make(2, [choice], seen=seen, seed=seed)
    assert ballot.verify(ELECTION, ROLL, body) == Reason.VALID
    block = ballot.parse(ELECTION.styles[2], body).blocks[0]
    from tests.protocol.worlds import KEY_SECRET

    plain = [group.sub(ct.b, group.mul(KEY_SECRET, ct.a)) for ct in block.ciphertexts]
    assert plain == [group.base(v) for v in choice]
