"""Reading from nodes that lie, lag or lose things: each lie changes one thing, and each gives a ChainError that says what."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import rlp
from eth_hash.auto import keccak

from chain import reader as reader_module
from chain.board import BoardRole
from chain.contract import MAX_GAS, encode, topic
from chain.deploy import deploy
from chain.errors import ChainError, NodeUnreachable
from chain.reader import Reader
from chain.rpc import connect
from chain.transactions import Sender
from chain.writer import PART
from protocol.manifest import RoleKind
from protocol.records import StationHash, pack_bodies
from tests.chain.hostile import Refuse, lying
from tests.chain.world import HANDS, MANIFEST, OUTSIDER, World, address, ballots, new_board, roles, setup

SIZE = 3 + 3 * 4


@pytest.fixture(scope="module")
def polled(chain) -> World:
    """An open poll with three batches of four ballots, each in a block of its own."""
    world = new_board(chain).open()
    for sequence in range(3):
        world.writer("relayer").append_ballots(sequence, ballots(4, first=4 * sequence))
    return world


def honest(method, params, result):
    return result


def read(world: World, lie, whole=lambda answers: answers, **options) -> list:
    with lying(world.chain.url, lie, whole) as web3:
        return [record for batch in Reader(web3, world.address).batches(**options) for record in batch.records]


def logs_of(method, result) -> list:
    """The lists of logs in an answer, to be changed in place: of eth_getLogs, and of each receipt."""
    if method == "eth_getLogs":
        return [result]
    if method == "eth_getBlockReceipts":
        return [receipt["logs"] for receipt in result]
    return []


def both(change):
    """A lie that changes logs wherever the node shows them, so that it does not contradict itself there."""

    def lie(method, params, result):
        for logs in logs_of(method, result):
            change(logs)
        return result

    return lie


def drop(first: int):
    """Takes out the event whose first position is `first`."""
    positions = (topic("Ballots"), topic("Record"))

    def change(logs):
        logs[:] = [log for log in logs if log["topics"][0] not in positions or int(log["topics"][1], 16) != first]

    return change


def test_through_an_honest_proxy_everything_is_read(polled):
    records = read(polled, honest)
    assert [record.position for record in records] == list(range(SIZE))
    assert [record.body for record in records[3:]] == ballots(12)


def test_an_event_left_out_of_a_block_contradicts_the_blocks_receipts(chain):
    world = new_board(chain).open()
    chain.advance_to(world.windows.count_not_before)
    hashes = [StationHash(station, 1, hashlib.sha256(bytes([station])).digest()) for station in range(2)]
    world.writer("outsider").append_stations(world.station_item(body, 1) for body in hashes)
    first = world.reader.creation().block_number

    def lie(method, params, result):
        return result[:-1] if method == "eth_getLogs" else result

    with pytest.raises(ChainError, match="2 in the block's receipts"):
        read(world, lie, first_block=first, position=0)


@pytest.mark.parametrize("first", [2, 3, 7])
def test_an_event_left_out_everywhere_leaves_a_gap_in_the_positions(polled, first):
    with pytest.raises(ChainError, match=f"jumps from position {first} to"):
        read(polled, both(drop(first)))


def test_a_log_that_ends_early_is_shorter_than_the_boards_head(polled):
    with pytest.raises(ChainError, match=f"ends at 11 records and the board's head at block .* has {SIZE}"):
        read(polled, both(drop(11)))


def test_a_range_that_lost_all_its_events_is_noticed_by_who_knows_its_size(polled):
    last = list(polled.reader.batches())[-1]
    options = {"first_block": last.block_number, "position": last.first}
    assert len(read(polled, honest, **options)) == 4
    with pytest.raises(ChainError, match="ends at 11 records"):
        read(polled, both(lambda logs: logs.clear()), **options)


def test_an_event_told_twice_is_out_of_order(polled):
    def lie(method, params, result):
        return result + result[-1:] if method == "eth_getLogs" else result

    with pytest.raises(ChainError, match="out of order"):
        read(polled, lie)


def test_events_in_another_order_are_refused(polled):
    def lie(method, params, result):
        return result[::-1] if method == "eth_getLogs" else result

    with pytest.raises(ChainError, match="out of order"):
        read(polled, lie)


def test_an_event_of_another_contract_is_refused(polled):
    def lie(method, params, result):
        if method == "eth_getLogs" and len(result) > 1:
            result[1]["address"] = "0x" + "11" * 20
        return result

    with pytest.raises(ChainError, match="not what was asked for"):
        read(polled, lie)


@pytest.mark.parametrize("place", [100, 600, 1000, -1], ids=["sequence", "ballot", "another ballot", "signature"])
def test_a_flipped_byte_of_a_transaction_is_noticed(polled, place):
    def lie(method, params, result):
        if method != "eth_getRawTransactionByHash":
            return result
        raw = bytearray.fromhex(result[2:])
        raw[place] ^= 1
        return "0x" + raw.hex()

    with pytest.raises(ChainError, match="do not hash"):
        read(polled, lie)


def test_another_transaction_in_place_of_the_one_asked_for_is_noticed(polled):
    wanted = [batch.transaction for batch in polled.reader.batches()]

    def lie(method, params, result):
        if method == "eth_getRawTransactionByHash" and params[0] == "0x" + wanted[-1].hex():
            return "0x" + polled.chain.web3.eth.get_raw_transaction(wanted[-2]).hex().removeprefix("0x")
        return result

    with pytest.raises(ChainError, match="do not hash"):
        read(polled, lie)


def test_a_transaction_that_the_node_has_lost_is_named(polled):
    def lie(method, params, result):
        return None if method == "eth_getRawTransactionByHash" else result

    with pytest.raises(ChainError, match="has no transaction 0x"):
        read(polled, lie)


def test_an_event_that_names_another_count_than_its_transaction_is_noticed(polled):
    def change(logs):
        for log in logs:
            if log["topics"][0] == topic("Ballots"):
                data = bytearray.fromhex(log["data"][2:])
                data[63] += 1
                log["data"] = "0x" + data.hex()

    with pytest.raises(ChainError, match="the event says sequence 0 and 5 ballots, the transaction 0 and 4"):
        read(polled, both(change))


def test_an_event_that_names_another_ballot_transaction_is_noticed(polled):
    names = ["0x" + batch.transaction.hex() for batch in polled.reader.batches()]

    def change(logs):
        for log in logs:
            if log["transactionHash"] == names[-1]:
                log["transactionHash"] = names[-2]

    with pytest.raises(ChainError, match="the event says sequence 2 and 4 ballots, the transaction 1 and 4"):
        read(polled, both(change))


@pytest.mark.parametrize(("topic_of", "value"), [(2, 2**16), (2, 2**255)])
def test_ballots_of_a_role_that_no_board_has_are_noticed(polled, topic_of, value):
    def change(logs):
        for log in logs:
            if log["topics"][0] == topic("Ballots"):
                log["topics"][topic_of] = f"0x{value:064x}"

    with pytest.raises(ChainError, match="no board emits such an event"):
        read(polled, both(change))


def test_a_changed_root_at_the_end_is_not_the_boards(polled):
    def change(logs):
        for log in logs:
            if log["topics"][0] == topic("Ballots") and int(log["topics"][1], 16) == 11:
                log["data"] = log["data"][:-2] + ("00" if log["data"][-2:] != "00" else "01")

    with pytest.raises(ChainError, match="its root is another"):
        read(polled, both(change))


def swap_block(method, params, result):
    if method == "eth_getBlockByNumber" and isinstance(result, dict):
        result["hash"] = "0x" + hashlib.sha256(result["hash"].encode()).hexdigest()
    return result


def test_a_block_that_is_not_the_one_of_its_logs_is_noticed(polled):
    with pytest.raises(ChainError, match="is not the one that its logs come from"):
        read(polled, swap_block)


def test_a_block_that_does_not_follow_its_parent_is_noticed(polled):
    number = [batch.block_number for batch in polled.reader.batches()][-1]

    def lie(method, params, result):
        if method == "eth_getBlockByNumber" and result and int(result["number"], 16) == number:
            result["parentHash"] = "0x" + "22" * 32
        return result

    with pytest.raises(ChainError, match=f"block {number} does not follow"):
        read(polled, lie)


def test_a_block_that_the_node_has_lost_is_noticed(polled):
    number = [batch.block_number for batch in polled.reader.batches()][1]

    def lie(method, params, result):
        return None if method == "eth_getBlockByNumber" and params[0] == hex(number) else result

    with pytest.raises(ChainError, match=f"has logs of block {number} and not the block"):
        read(polled, lie)


def test_a_chain_that_is_replaced_while_it_is_read_is_noticed(polled):
    last = list(polled.reader.batches())[-1].block_number
    asked = []

    def lie(method, params, result):
        if method == "eth_getBlockByNumber" and params[0] == hex(last):
            asked.append(last)
            if len(asked) == 3:  # once to fix the end, once with its logs, and then it is another
                result["hash"] = "0x" + "33" * 32
        return result

    with pytest.raises(ChainError, match=f"block {last} was replaced while it was read"):
        read(polled, lie, last_block=last)


def test_fewer_answers_than_questions_are_noticed(polled):
    with pytest.raises(ChainError, match="requests of a batch"):
        read(polled, honest, lambda answers: answers[:-1])


def test_a_node_that_refuses_long_ranges_is_read_in_short_ones(polled):
    refused = []

    def lie(method, params, result):
        if method == "eth_getLogs":
            first, last = (int(params[0][name], 16) for name in ("fromBlock", "toBlock"))
            if last - first >= 2:
                refused.append((first, last))
                raise Refuse("query returned more than 10000 results")
        return result

    first = polled.reader.creation().block_number
    assert len(read(polled, lie, first_block=first, position=0)) == SIZE
    assert refused


def test_a_node_that_refuses_every_range_is_an_error_and_not_an_empty_log(polled):
    def lie(method, params, result):
        if method == "eth_getLogs":
            raise Refuse("no logs today")
        return result

    with pytest.raises(ChainError, match="no logs today"):
        read(polled, lie)


def test_a_log_is_read_on_from_where_it_ended(polled):
    whole = list(polled.reader.batches())
    middle = whole[3]
    before = list(polled.reader.batches(first_block=0, last_block=middle.block_number, position=0))
    after = list(polled.reader.batches(first_block=middle.block_number + 1, position=middle.size))
    assert before + after == whole


@pytest.mark.parametrize("at_once", [1, 2, 5])
def test_however_many_transactions_are_asked_for_at_once_the_log_is_the_same(polled, monkeypatch, at_once):
    whole = list(polled.reader.batches())
    monkeypatch.setattr(reader_module, "TRANSACTIONS_AT_ONCE", at_once)
    assert list(polled.reader.batches()) == whole


def test_the_transactions_of_several_blocks_come_in_one_request(polled):
    asked: list[int] = []

    def whole(answers):
        asked.append(sum(isinstance(answer["result"], str) for answer in answers))
        return answers

    assert len(read(polled, honest, whole)) == SIZE
    assert [count for count in asked if count] == [1, 3]  # the creation, and three ballot transactions in three blocks


def test_ballots_as_they_stand_in_a_call_are_records_one_by_one(polled):
    [*_, last] = polled.reader.batches()
    records = list(last.records)
    assert [(r.position, r.number, r.signatures) for r in records] == [(last.first + i, 2, b"") for i in range(4)]
    assert [r.body for r in records] == ballots(4, first=8)
    assert all(r.entry.body_hash == hashlib.sha256(r.body).digest() for r in records)
    assert [last.records[i] for i in range(4)] == records == last.records[:] and last.records[-1:] == records[-1:]
    assert last.entries == b"".join(r.entry.encode() for r in records)
    assert last.packed == pack_bodies(r.body for r in records) == replace(last, records=records).packed
    assert replace(last, records=[replace(records[0], body=None), *records[1:]]).packed is None
    with pytest.raises(IndexError):
        last.records[4]


def test_an_older_end_is_compared_with_the_boards_state_then(polled):
    middle = list(polled.reader.batches())[3]
    with pytest.raises(ChainError, match="ends at"):
        read(polled, both(drop(middle.first)), last_block=middle.block_number)


def test_a_range_that_does_not_begin_where_it_should_is_noticed(polled):
    middle = list(polled.reader.batches())[3]
    with pytest.raises(ChainError, match=f"jumps from position {middle.size - 1} to {middle.size}"):
        list(polled.reader.batches(first_block=middle.block_number + 1, position=middle.size - 1))


# ---------------------------------------------------------------- the creation


def test_the_creation_is_found_and_gives_what_the_board_was_told(polled):
    creation = polled.reader.creation()
    manifest, board_roles, made_with = creation.arguments()
    assert (manifest, board_roles) == (MANIFEST, roles())
    assert made_with == setup(polled.windows.open_not_before)
    assert (creation.transaction, creation.sender) == (polled.creation, address(HANDS["authority"]))
    assert polled.reader.creation(hint=creation.block_number) == creation


def test_a_creation_is_not_found_where_it_is_not(polled):
    elsewhere = polled.reader.creation().block_number + 1
    with pytest.raises(ChainError, match="there is no board"):
        polled.reader.creation(hint=elsewhere)
    with pytest.raises(ChainError, match="check the contract address"):
        Reader(polled.chain.web3, address(OUTSIDER)).creation()


def test_another_boards_creation_is_not_taken_for_this_ones(chain, polled):
    other = new_board(chain)
    name = "0x" + other.creation.hex()

    def lie(method, params, result):
        if method == "eth_getLogs" and result and result[0]["topics"][1] == "0x" + "00" * 32:
            result[0]["transactionHash"] = name
        return result

    with lying(chain.url, lie) as web3, pytest.raises(ChainError, match="did not create"):
        Reader(web3, polled.address).creation()


# ---------------------------------------------------------------- transactions as relayers may send them


def test_calldata_in_another_layout_is_read_as_the_contract_read_it(polled):
    """A hostile relayer that leaves a gap and a tail hurts nobody: offset and length say what was hashed."""
    world = new_board(polled.chain).open()
    sender = world.writer("relayer").sender
    packed = pack_bodies(ballots(2))
    straight = encode("appendBallots", 0, packed)
    gap, tail = b"\xaa" * 32, b"\xbb" * 7
    moved = straight[:36] + (0x60).to_bytes(32, "big") + gap + straight[68:] + tail
    sender.send(world.address, moved)
    records = [record for batch in world.reader.batches() for record in batch.records]
    assert [record.body for record in records[3:]] == ballots(2)


def test_a_relayer_that_is_a_contract_cannot_hide_ballots(chain):
    """Its calldata is not the transaction's, so the bodies could not be had: the board takes none of them."""
    deployer, maker = HANDS["authority"], OUTSIDER
    chain.fund([deployer.address, maker.address])
    forwards = Sender(chain.web3, maker)
    forwarder = keccak(rlp.encode([address(maker), forwards.nonce()]))[12:]
    hands = [*roles(), BoardRole(RoleKind.RELAYER, forwarder)]
    now = int(chain.web3.eth.get_block("latest")["timestamp"])
    made = deploy(chain.web3, deployer, MANIFEST, hands, setup(now))
    # copies its input and calls the board with it
    code = bytes.fromhex("365f5f375f5f365f5f73") + made.address + bytes.fromhex("5af100")
    init = (
        bytes.fromhex("60")
        + bytes([len(code)])
        + bytes.fromhex("600a5f3960")
        + bytes([len(code)])
        + bytes.fromhex("5ff3")
    )
    assert len(init) == 10
    receipt = forwards.send(None, init + code)
    assert bytes.fromhex(receipt["contractAddress"][2:]) == forwarder
    world = World(chain, made.address, setup(now).windows, MANIFEST).open()
    # not by estimate: the forwarder swallows the board's failure, so too little gas would seem enough
    call = encode("appendBallots", 0, pack_bodies(ballots(2)))
    forwards.wait(forwards.broadcast(forwards.sign(forwarder, call, MAX_GAS, forwards.nonce()).raw))
    assert world.board.head().size == 3
    assert sum(len(batch.records) for batch in world.reader.batches()) == 3


# ---------------------------------------------------------------- attachments


def test_a_changed_part_is_never_taken_for_the_file(chain):
    world = new_board(chain)
    data = b"a" * PART + b"b"
    world.writer("authority").attach(data)

    def change(logs):
        for log in logs:
            if log["topics"][0] == topic("Attachment"):
                data = bytearray.fromhex(log["data"][2:])
                data[128] ^= 1
                log["data"] = "0x" + data.hex()

    with lying(chain.url, both(change)) as web3:
        assert Reader(web3, world.address).attachments() == {}
    assert world.reader.attachments() == {hashlib.sha256(data).digest(): data}


def test_a_part_left_out_makes_a_file_missing_and_never_wrong(chain):
    world = new_board(chain)
    world.writer("authority").attach(b"a" * PART + b"b")

    def change(logs):
        logs[:] = [log for log in logs if log["topics"][0] != topic("Attachment") or log["data"][2:66] != f"{1:064x}"]

    with lying(chain.url, both(change)) as web3:
        assert Reader(web3, world.address).attachments() == {}


# ---------------------------------------------------------------- no node


def test_no_node_is_said_in_one_line_with_its_url():
    with pytest.raises(NodeUnreachable, match=r"http://127\.0\.0\.1:1: is the node running"):
        connect("http://127.0.0.1:1")


@pytest.mark.parametrize("url", ["localhost:8545", "", "ftp://localhost"])
def test_what_is_no_url_is_said(url):
    with pytest.raises(NodeUnreachable, match="does not speak JSON-RPC"):
        connect(url)


def test_a_page_that_is_no_node_is_said():
    class Page(BaseHTTPRequestHandler):
        def do_POST(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>hello</html>")

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        with pytest.raises(NodeUnreachable, match="does not speak JSON-RPC"):
            connect(f"http://127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
        server.server_close()
