"""Reports: commit, then reveal; and the gate that they open."""

import pytest

from tests.contracts import model as m

GOOD, BAD = 1, 0
STATE, OTHER = m.sha256(b"state"), m.sha256(b"another state")


@pytest.fixture
def world(world):
    """The result is recorded; two of four verifiers must agree."""
    world.finish()
    return world


def reveal_of(who: int, verdict: int = GOOD, state: bytes = STATE, salt: int = 0) -> bytes:
    return bytes([1, verdict]) + state + m.sha256(b"report") + bytes([who, salt]) + bytes(30)


def commit(world, who: int, *args, **kwargs):
    return world.append(m.REPORT, b"\0" + m.sha256(reveal_of(who, *args, **kwargs)), world.verifiers[who])


def reveal(world, who: int, *args, **kwargs):
    return world.append(m.REPORT, reveal_of(who, *args, **kwargs), world.verifiers[who])


def report(world, who: int, *args, **kwargs):
    commit(world, who, *args, **kwargs)
    reveal(world, who, *args, **kwargs)


def agree(world, *who: int):
    for i in who:
        commit(world, i)
    for i in who:
        reveal(world, i)


def test_enough_good_verdicts_on_one_state_certify(world):
    commit(world, 0)
    commit(world, 1)
    reveal(world, 0)
    assert not world.view("certified")
    reveal(world, 1)
    assert world.view("certified")


def test_nobody_reveals_before_enough_have_committed(world):
    commit(world, 0)
    with world.reverts("NotInPhase", m.FINAL):
        reveal(world, 0)
    commit(world, 0, salt=1)  # the same verifier again is not a second one
    with world.reverts("NotInPhase", m.FINAL):
        reveal(world, 0, salt=1)
    commit(world, 1)
    reveal(world, 0, salt=1)


def test_a_reveal_needs_the_verifier_s_own_open_commitment(world):
    agree(world, 0, 1)
    with world.reverts("UnknownHash", m.sha256(reveal_of(2))):
        reveal(world, 2)
    with world.reverts("UnknownHash", m.sha256(reveal_of(0))):
        reveal(world, 0)  # used up
    commit(world, 2)
    with world.reverts("UnknownHash", m.sha256(reveal_of(2, BAD))):
        reveal(world, 2, BAD)


def test_a_commitment_cannot_be_copied(world):
    """A reveal does not name its verifier, so a copied commitment would be opened by the copied reveal."""
    commit(world, 0)
    with world.reverts("AlreadyDone"):
        world.append(m.REPORT, b"\0" + m.sha256(reveal_of(0)), world.verifiers[1])
    commit(world, 1)
    with world.reverts("UnknownHash"):
        world.append(m.REPORT, reveal_of(0), world.verifiers[1])


def test_a_new_commitment_replaces_the_open_one(world):
    commit(world, 0)
    commit(world, 0, BAD)
    commit(world, 1)
    with world.reverts("UnknownHash"):
        reveal(world, 0)
    reveal(world, 0, BAD)


def test_a_commitment_after_the_first_reveal_cannot_certify(world):
    commit(world, 0)
    commit(world, 1)
    reveal(world, 0)
    report(world, 2)
    report(world, 3)
    assert not world.view("certified")
    reveal(world, 1)
    assert world.view("certified")


def test_a_commitment_made_again_after_the_first_reveal_is_late(world):
    commit(world, 0)
    commit(world, 1)
    reveal(world, 0)
    commit(world, 1, salt=1)
    reveal(world, 1, salt=1)
    assert not world.view("certified")


def test_good_verdicts_on_different_states_do_not_add_up(world):
    commit(world, 0)
    commit(world, 1, state=OTHER)
    commit(world, 2)
    reveal(world, 0)
    reveal(world, 1, state=OTHER)
    assert not world.view("certified")
    reveal(world, 2)
    assert world.view("certified")


def test_two_states_that_are_both_agreed_on_certify_neither(world):
    states = [STATE, STATE, OTHER, OTHER]
    for i, state in enumerate(states):
        commit(world, i, state=state)
    seen = []
    for i, state in enumerate(states):
        reveal(world, i, state=state)
        seen.append(world.view("certified"))
    assert seen == [False, True, True, False]


def test_one_bad_verdict_keeps_the_gate_shut_until_it_is_replaced(world):
    for i, verdict in enumerate([GOOD, GOOD, BAD]):
        commit(world, i, verdict)
    reveal(world, 0)
    reveal(world, 1)
    assert world.view("certified")
    reveal(world, 2, BAD)
    assert not world.view("certified")
    report(world, 2, GOOD, salt=1)
    assert world.view("certified")


def test_a_late_bad_verdict_shuts_the_gate(world):
    agree(world, 0, 1)
    assert world.view("certified")
    report(world, 3, BAD)
    assert not world.view("certified")


def test_a_verifier_that_takes_its_verdict_back_no_longer_counts(world):
    agree(world, 0, 1)
    report(world, 0, BAD, salt=1)
    assert not world.view("certified")
    report(world, 0, GOOD, salt=2)
    assert not world.view("certified")  # no longer bad, but late


def test_a_bad_verdict_replaced_by_a_bad_one_is_one_bad_verdict(world):
    for i, verdict in enumerate([GOOD, GOOD, BAD]):
        commit(world, i, verdict)
    for i, verdict in enumerate([GOOD, GOOD, BAD]):
        reveal(world, i, verdict)
    report(world, 2, BAD, salt=1)
    report(world, 2, GOOD, salt=2)
    assert world.view("certified")


@pytest.mark.parametrize("verifiers", [1, 4])
def test_any_number_of_verifiers_up_to_all_can_be_asked_for(make, verifiers):
    world = make(verifiers=verifiers)
    world.finish()
    agree(world, *range(verifiers))
    assert world.view("certified")


def test_a_board_that_asks_for_no_verifier_is_never_certified(make):
    world = make(verifiers=0)
    world.finish()
    agree(world, 0, 1, 2, 3)
    assert not world.view("certified")


@pytest.mark.parametrize(
    "body",
    [
        b"\0",
        b"\0" + bytes(31),
        b"\0" + bytes(33),
        b"\1" + bytes(32),
        b"\2" + bytes(32),
        reveal_of(0)[:-1],
        reveal_of(0) + b"\0",
        b"\0" + reveal_of(0)[1:],
        b"\2" + reveal_of(0)[1:],
        reveal_of(0, 2),
    ],
    ids=[
        "1 byte",
        "hash short",
        "hash long",
        "reveal of 33",
        "third sort of 33",
        "reveal short",
        "reveal long",
        "commitment of 98",
        "third sort of 98",
        "verdict 2",
    ],
)
def test_a_report_of_another_layout_is_refused(world, body):
    with world.reverts("BadBody"):
        world.append(m.REPORT, body, world.verifiers[0])
