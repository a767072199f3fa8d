"""What `shuffled` promises: any order between credentials, never another one within a credential."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from relayer.batcher import shuffled
from relayer.outbox import Waiting


def ballots(credentials: list[int]) -> list[Waiting]:
    return [Waiting(number, bytes([number]), index, b"") for number, index in enumerate(credentials)]


@given(st.lists(st.integers(0, 5), max_size=60), st.integers())
def test_a_shuffle_keeps_every_ballot_and_each_credentials_order(credentials: list[int], seed: int) -> None:
    waiting = ballots(credentials)
    mixed = shuffled(waiting, Random(seed))
    assert sorted(mixed, key=lambda ballot: ballot.id) == waiting
    for credential in set(credentials):
        own = [ballot.id for ballot in mixed if ballot.roll_index == credential]
        assert own == sorted(own)


def test_every_order_between_credentials_occurs_about_equally_often() -> None:
    random, seen = Random(1), {}
    for _ in range(6000):
        order = tuple(ballot.id for ballot in shuffled(ballots([0, 1, 2]), random))
        seen[order] = seen.get(order, 0) + 1
    assert len(seen) == 6 and min(seen.values()) > 850


def test_a_credential_with_many_ballots_can_stand_anywhere_among_the_others() -> None:
    random = Random(2)
    last = {shuffled(ballots([0, 0, 1]), random)[-1].id for _ in range(200)}
    assert last == {1, 2}
