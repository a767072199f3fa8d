"""Ballots: who, in which order, when, and in which layout."""

import pytest

from tests.contracts import model as m
from tests.contracts.world import encode_call, send


@pytest.fixture
def world(world):
    world.open()
    return world


@pytest.fixture
def hashed(make):
    world = make(hash_mode=True)
    world.open()
    return world


def test_a_batch_appends_its_ballots_in_order(world):
    size, _ = world.view("head")
    (event,) = world.ballots(b"one", b"two", b"three")
    assert event[0] == "Ballots"
    assert event[1] == {"first": size, "role": 6, "sequence": 0, "count": 3, "root": world.view("head")[1]}
    assert world.view("head")[0] == size + 3


@pytest.mark.parametrize("lengths", [[1], [349] * 7, [1, 65535, 2], [40, 31, 32, 33, 64, 65]])
def test_bodies_of_any_length_up_to_the_limit_make_the_same_tree_as_the_model(world, lengths):
    world.ballots(*(bytes([i + 1]) * n for i, n in enumerate(lengths)))
    world.ballots(b"another")


def test_every_size_of_batch_meets_every_shape_of_tree(hashed):
    """Sizes 3 … 300 in steps of 1 to 17: every pattern of low bits, and carries over several levels."""
    for i, count in enumerate([*range(1, 18), 15, 16, 31, 1, 32, 33, 1, 64]):
        hashed.ballot_hashes(*(m.sha256(bytes([i, j])) for j in range(count)))


def test_hashes_give_the_same_tree_as_their_bodies(world, hashed):
    bodies = [b"one", b"two", b"three"]
    world.now = hashed.now  # one chain, one clock
    world.ballots(*bodies)
    hashed.now = world.now
    hashed.ballot_hashes(*map(m.sha256, bodies))
    assert [e[8:] for e in world.model.entries[-3:]] == [e[8:] for e in hashed.model.entries[-3:]]


def test_relayers_count_their_own_transactions(world):
    world.ballots(b"a", relayer=0)
    world.ballots(b"b", relayer=1)
    world.ballots(b"c", relayer=0)
    assert [world.view("sequences", r) for r in world.relayers] == [2, 1]


@pytest.mark.parametrize("sequence", [0, 2, 2**64 - 1])
def test_a_repeated_or_early_sequence_is_refused_with_the_one_expected(world, sequence):
    world.ballots(b"a")
    with world.reverts("WrongSequence", 1):
        world.ballots(b"b", sequence=sequence)


def test_only_a_relayer_may_append_ballots(world):
    for sender in (world.stranger, world.clerk):
        with world.reverts("WrongRole", sender, m.BALLOT):
            world.call("appendBallots", 0, b"\0\1a", sender=sender)


def test_ballots_wait_for_the_open_record(make):
    world = make()
    with world.reverts("NotInPhase", m.SETUP):
        world.ballots(b"a", at=world.windows.open_not_before)


def test_ballots_are_taken_up_to_the_end_of_the_grace_and_no_longer(world):
    end = world.windows.close + world.windows.append_grace
    world.ballots(b"a", at=end - 1)
    with world.reverts("TooLate", end):
        world.ballots(b"b", at=end)


def test_an_extension_moves_the_end(world):
    later = world.windows.close + 500
    world.append(m.EXTENSION, later.to_bytes(5, "big") + b"storm", world.authority)
    world.ballots(b"a", at=later + world.windows.append_grace - 1)
    with world.reverts("TooLate", later + world.windows.append_grace):
        world.ballots(b"b", at=later + world.windows.append_grace)


def test_a_closed_log_takes_no_ballot(world):
    world.close()
    with world.reverts("NotInPhase", m.CLOSED):
        world.ballots(b"a")


@pytest.mark.parametrize(
    "packed",
    [b"", b"\0", b"\0\0", b"\0\1", b"\0\2a", b"\0\1a\0", b"\0\1a\0\0", b"\0\1a\0\2b", b"\0\1a\xff\xffb"],
    ids=lambda p: p.hex() or "nothing",
)
def test_a_batch_whose_lengths_do_not_add_up_is_refused(world, packed):
    with world.reverts("BadBody"):
        world.call("appendBallots", 0, packed, sender=world.relayers[0])


@pytest.mark.parametrize("length", [0, 1, 31, 33, 63])
def test_hashes_come_in_wholes(hashed, length):
    with hashed.reverts("BadBody"):
        hashed.call("appendBallotHashes", 0, bytes(length), sender=hashed.relayers[0])


def test_a_board_takes_bodies_or_hashes_and_never_both(world, hashed):
    world.now = hashed.now
    with world.reverts("BadBody"):
        world.ballot_hashes(m.sha256(b"a"))
    hashed.now = world.now
    with hashed.reverts("BadBody"):
        hashed.ballots(b"a")


@pytest.mark.parametrize("hash_mode", [False, True])
def test_a_transaction_that_runs_out_of_gas_changes_nothing(make, hash_mode):
    """At whatever instruction the gas ends, in a precompile too: no root is ever made of a hash that failed."""
    world = make(hash_mode=hash_mode)
    world.open()
    if hash_mode:
        data = encode_call("appendBallotHashes", 0, bytes(range(32)) * 20)
    else:
        data = encode_call("appendBallots", 0, b"\x01\x00" + bytes(256) + b"\x02\x00" + bytes(512))
    head = world.view("head")
    transaction = {"from": world.relayers[0], "to": world.address, "data": "0x" + data.hex(), "gasPrice": "0x0"}
    needed = int(world.web3.provider.make_request("eth_estimateGas", [transaction])["result"], 16)
    for gas in range(needed // 2, needed, max(1, needed // 400)):
        answer = world.web3.provider.make_request("eth_call", [transaction | {"gas": hex(gas)}, "latest"])
        assert "error" in answer or gas > needed * 0.9, f"{gas} of {needed} was enough"
    send(world.web3, world.now + 1, {"from": world.relayers[0], "to": world.address}, data)
    assert world.view("head") != head
