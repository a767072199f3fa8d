import itertools
import json

import pytest

from protocol import group
from protocol.ceremony import (
    CeremonyVoid,
    Setting,
    TrusteeSecret,
    check_ceremony,
    check_dealing,
    complaint,
    round1,
    round2,
    round3,
    share_secret,
)
from protocol.encoding import canonical_json
from protocol.tally import lagrange

N, T = 4, 3
SETTING = Setting(b"\x11" * 32, 0, N, T)


@pytest.fixture(scope="module")
def honest():
    secrets = [TrusteeSecret.draw(j, T) for j in range(1, N + 1)]
    first = [round1(SETTING, secret) for secret in secrets]
    second = [round2(SETTING, secret, first) for secret in secrets]
    third = [round3(SETTING, secret, first, second) for secret in secrets]
    return secrets, first, second, third


def changed(body, **fields):
    return canonical_json(json.loads(body) | fields)


def swap(bodies, j, body):
    return [*bodies[: j - 1], body, *bodies[j:]]


def test_every_quorum_of_shares_has_the_secret_of_the_joint_key(honest):
    secrets, first, second, third = honest
    joint = check_ceremony(SETTING, first, second, third)
    shares = [share_secret(SETTING, secret, first, second) for secret in secrets]
    assert [group.base(x) for x in shares] == list(joint.share_keys)
    for quorum in itertools.combinations(range(1, N + 1), T):
        coefficients = lagrange(quorum)
        assert group.base(sum(c * shares[j - 1] for c, j in zip(coefficients, quorum, strict=True))) == joint.key
    for few in itertools.combinations(range(1, N + 1), T - 1):
        coefficients = lagrange(few)
        assert group.base(sum(c * shares[j - 1] for c, j in zip(coefficients, few, strict=True))) != joint.key


@pytest.mark.parametrize("number", [1, 2, 3])
def test_an_absent_trustee_voids_the_ceremony_and_is_named(honest, number):
    rounds = [list(honest[i]) for i in (1, 2, 3)]
    rounds[number - 1][1] = None
    with pytest.raises(CeremonyVoid) as void:
        check_ceremony(SETTING, *rounds)
    assert void.value.culprits == (2,)


def test_a_dealer_who_opens_other_commitments_than_it_hashed_is_named(honest):
    secrets, first, second, _ = honest
    other = TrusteeSecret(2, secrets[1].q, TrusteeSecret.draw(2, T).polynomial)
    with pytest.raises(CeremonyVoid, match="not those of round 1") as void:
        check_dealing(SETTING, first, swap(second, 2, round2(SETTING, other, first)))
    assert void.value.culprits == (2,)


def test_a_round_2_made_before_all_of_round_1_was_seen_is_refused(honest):
    secrets, first, second, _ = honest
    stale = swap(first, 3, round1(SETTING, TrusteeSecret.draw(3, T)))
    with pytest.raises(CeremonyVoid, match="possession") as void:
        check_dealing(SETTING, first, swap(second, 1, round2(SETTING, secrets[0], stale)))
    assert void.value.culprits == (1,)


def test_a_wrong_share_is_proven_by_the_complaint_and_the_dealer_is_named(honest, monkeypatch):
    secrets, first, second, third = honest
    with monkeypatch.context() as patch:
        patch.setattr(TrusteeSecret, "share_for", lambda self, other: 7)
        bad = round2(SETTING, secrets[1], first)
    second = swap(second, 2, bad)
    bodies = [round3(SETTING, secret, first, second) for secret in secrets]
    assert [json.loads(body)["verdict"] for body in bodies] == ["complain", "confirm", "complain", "complain"]
    with pytest.raises(CeremonyVoid, match="wrong share") as void:
        check_ceremony(SETTING, first, second, bodies)
    assert void.value.culprits == (2,)
    with pytest.raises(CeremonyVoid, match="does not open"):
        share_secret(SETTING, secrets[0], first, second)
    del third


def test_a_complaint_about_a_right_share_accuses_its_author(honest):
    secrets, first, second, third = honest
    false = complaint(SETTING, secrets[0], 2, check_dealing(SETTING, first, second))
    with pytest.raises(CeremonyVoid, match="that is right") as void:
        check_ceremony(SETTING, first, second, swap(third, 1, false))
    assert void.value.culprits == (1,)


def test_a_complaint_with_a_made_up_secret_proves_nothing(honest):
    secrets, first, second, third = honest
    false = complaint(SETTING, secrets[0], 2, check_dealing(SETTING, first, second))
    false = changed(false, shared=group.base(5).hex())
    with pytest.raises(CeremonyVoid, match="without proof") as void:
        check_ceremony(SETTING, first, second, swap(third, 1, false))
    assert void.value.culprits == (1,)


def test_a_confirmation_of_another_key_is_named(honest):
    _, first, second, third = honest
    with pytest.raises(CeremonyVoid, match="another key") as void:
        check_ceremony(SETTING, first, second, swap(third, 4, changed(third[3], key=group.base(5).hex())))
    assert void.value.culprits == (4,)


@pytest.mark.parametrize(
    "fields",
    [
        {"attempt": 1}, {"trustee": 2}, {"round": 2}, {"encryption_key": "00" * 32}, {"encryption_key": "ff" * 32},
        {"encryption_key": group.BASE.hex()}, {"proof": "00" * 64}, {"commitment": "00"}, {"extra": 1},
    ],
    ids=lambda fields: next(iter(fields)),
)  # fmt: skip
def test_each_wrong_field_of_round_1_is_refused_and_its_author_named(honest, fields):
    _, first, second, third = honest
    with pytest.raises(CeremonyVoid) as void:
        check_ceremony(SETTING, swap(first, 1, changed(first[0], **fields)), second, third)
    assert void.value.culprits == (1,)


def test_commitments_that_hold_the_identity_are_refused(honest):
    _, first, second, third = honest
    commitments = json.loads(second[0])["commitments"]
    with pytest.raises(CeremonyVoid, match="identity"):
        check_ceremony(
            SETTING, first, swap(second, 1, changed(second[0], commitments=[*commitments[:2], "00" * 32])), third
        )


def test_a_share_left_out_is_noticed_by_everybody(honest):
    _, first, second, third = honest
    with pytest.raises(CeremonyVoid, match="each other trustee"):
        check_ceremony(
            SETTING, first, swap(second, 1, changed(second[0], shares=json.loads(second[0])["shares"][1:])), third
        )


def test_another_attempt_or_election_takes_none_of_these_messages(honest):
    _, first, second, third = honest
    for other in (Setting(b"\x11" * 32, 1, N, T), Setting(b"\x12" * 32, 0, N, T)):
        with pytest.raises(CeremonyVoid):
            check_ceremony(other, first, second, third)
