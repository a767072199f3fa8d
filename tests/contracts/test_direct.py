"""Ballots come straight from a plain account: readers take them from the transaction's input, and a contract in between would hide them."""

import pytest
import rlp
from eth_utils import keccak, to_checksum_address

from tests.contracts import model as m
from tests.contracts.world import encode_call, send

BALLOTS = (0, b"\0\1a\0\2bc")

# Both call the board and pass on its error. The first takes `board (32) || input` as its input, the second carries it behind its own code,
# and calls while it is being created: it has an address then, and no code.
COPY_INPUT = "6020 3603 6020 5f 37"  # size - 32, from 32, to 0: calldatacopy
COPY_CODE = "60{end:02x} 38 03 60{end:02x} 5f 39"  # size - end, from end, to 0: codecopy
CALL = "5f 5f {size} 5f 5f {board} 5a f1"  # call(gas, board, 0, 0, size, 0, 0)
PASS_ON = "60{stop:02x} 57 3d 5f 5f 3e 3d 5f fd 5b 00"  # if it failed, revert with what it returned; stop


def forwarder() -> bytes:
    start = bytes.fromhex(COPY_INPUT + CALL.format(size="6020 3603", board="5f 35"))
    return start + bytes.fromhex(PASS_ON.format(stop=len(start) + 10))


def creation_of(code: bytes) -> bytes:
    return bytes.fromhex(f"60{len(code):02x} 80 600a 5f 39 5f f3 00") + code


def calling_constructor(board: str, data: bytes) -> bytes:
    def code(end: int) -> bytes:
        call = CALL.format(size=f"60{end:02x} 38 03", board="73" + board[2:])
        start = bytes.fromhex(COPY_CODE.format(end=end) + call)
        return start + bytes.fromhex(PASS_ON.format(stop=len(start) + 10))

    return code(len(code(0))) + data


def through(world, sender: str, contract: str, function: str, *args):
    """The logs of a call that `contract` passes on to the board."""
    world.now += 1
    data = bytes(12) + bytes.fromhex(world.address[2:]) + encode_call(function, *args)
    return send(world.web3, world.now, {"from": sender, "to": contract}, data)["logs"]


def refused(world, call, *args):
    head = world.view("head")
    with world.reverts("NotDirect"):
        call(world, *args)
    assert world.view("head") == head and world.view("sequences", world.relayers[0]) == 0


@pytest.fixture
def contract(web3, senders):
    """The forwarder on the chain."""
    now = web3.eth.get_block("latest")["timestamp"] + 1
    return send(web3, now, {"from": senders[0]}, creation_of(forwarder()))["contractAddress"]


@pytest.mark.parametrize("hash_mode", [False, True])
def test_a_contract_that_is_a_relayer_appends_no_ballots(make, contract, hash_mode):
    world = make(relayers=[contract], hash_mode=hash_mode)
    world.open()
    ballots = ("appendBallotHashes", 0, bytes(32)) if hash_mode else ("appendBallots", *BALLOTS)
    assert through(world, world.stranger, contract, "attach", bytes(32), 0, 1, b"x"), (
        "it is a role, and reaches the board"
    )
    refused(world, through, world.stranger, contract, *ballots)


def test_a_contract_that_is_still_being_created_appends_no_ballots(make, web3, senders):
    """It has no code yet: only the transaction's origin gives it away."""
    creator, nonce = senders[2], web3.eth.get_transaction_count(senders[2])
    born = [to_checksum_address(keccak(rlp.encode([bytes.fromhex(creator[2:]), n]))[12:]) for n in (nonce, nonce + 1)]
    world = make(relayers=born)
    world.open()

    def create(world, function: str, *args):
        world.now += 1
        code = calling_constructor(world.address, encode_call(function, *args))
        return send(world.web3, world.now, {"from": creator}, code)

    receipt = create(world, "attach", bytes(32), 0, 1, b"x")
    assert receipt["contractAddress"] == born[0] and receipt["logs"], "it is a role, and reaches the board"
    refused(world, create, "appendBallots", *BALLOTS)


def test_an_account_that_delegates_to_code_appends_no_ballots_until_it_stops(make, contract):
    """EIP-7702: the account runs the forwarder's code, and is sender and origin of the call at once."""
    world = make()
    world.open()
    relayer = world.relayers[0]
    delegate(world, b"\xef\x01\x00" + bytes.fromhex(contract[2:]))
    assert through(world, world.stranger, relayer, "attach", bytes(32), 0, 1, b"x"), "it runs the code"
    refused(world, through, relayer, relayer, "appendBallots", *BALLOTS)
    refused(world, through, world.stranger, relayer, "appendBallots", *BALLOTS)

    def straight(world):
        world.now += 1
        send(world.web3, world.now, {"from": relayer, "to": world.address}, encode_call("appendBallots", *BALLOTS))

    refused(world, straight)  # nothing is hidden here, but the board cannot tell
    delegate(world, b"")
    assert world.call("appendBallots", *BALLOTS, sender=relayer)


def delegate(world, code: bytes):
    """The code of the first relayer's account, as a transaction with an authorization would set it."""
    answer = world.web3.provider.make_request("anvil_setCode", [world.relayers[0], "0x" + code.hex()])
    assert "error" not in answer, answer
    assert bytes(world.web3.eth.get_code(world.relayers[0])) == code


def test_signed_records_and_stations_may_come_through_a_contract_since_events_carry_their_bodies(make, contract):
    world = make()
    signature = world.sign(world.cosigner, m.COMPLAINT, b"{}")
    (log,) = through(world, world.stranger, contract, "append", m.COMPLAINT, b"{}", signature)
    assert log["address"] == world.address and world.view("head")[0] == 2
