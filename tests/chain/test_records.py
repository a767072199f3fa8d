"""Every kind of record on a real chain: what is written is what is read, and rebuilds the tree that the board has."""

from __future__ import annotations

import hashlib

import pytest

from chain.board import DocumentState, StationState
from chain.contract import MAX_PACKED, Phase, Refused, encode
from chain.errors import ChainError
from chain.sign import sign_record
from chain.writer import PART, Writer
from protocol.encoding import u40
from protocol.merkle import Frontier
from protocol.records import ANYONE, STATION_OFFICERS, CheckIns, Kind, LogHead, Report, StationHash, ballot_hash
from tests.chain.world import HANDS, HOUR, MANIFEST, OUTSIDER, World, address, ballots, role, roles


def rebuilt(world: World) -> list:
    """The records, read from the node; every emitted root and the head are those of the rebuilt tree."""
    frontier, records = Frontier(), []
    for batch in world.reader.batches():
        assert batch.first == len(records)
        records += batch.records
        frontier.extend(record.entry.leaf() for record in batch.records)
        assert frontier.root() == batch.root
    assert [record.position for record in records] == list(range(len(records)))
    assert world.board.head() == LogHead(frontier.size, frontier.root())
    return records


def test_a_whole_election_is_read_as_it_was_written(world):
    chain, board, relayer = world.chain, world.board, world.writer("relayer")
    written: list[tuple] = [(Kind.MANIFEST, ANYONE, 0, MANIFEST)]
    assert (board.phase(), board.certified(), board.windows()) == (Phase.SETUP, False, world.windows)
    assert board.roles() == roles()

    def append(kind: Kind, body: bytes, *signers: str, number: int = 0) -> None:
        assert world.append(kind, body, *signers) == len(written)
        written.append((kind, role(signers[0]), number, body))

    append(Kind.CEREMONY, b"round 1", "trustee")
    append(Kind.CEREMONY, b"round 2", "trustee", number=1)
    append(Kind.ROLL, b"roll", "registrar")
    append(Kind.OPEN, board.head().body(), "authority")
    assert board.phase() == Phase.OPEN

    bodies = [*ballots(3), b"short", b"x" * 65_535]
    landed = relayer.append_ballots(0, bodies[:3])
    assert landed.positions == (5, 6, 7)
    assert world.writer("relayer two").append_ballots(0, bodies[3:4]).positions == (8,)
    assert relayer.append_ballots(1, bodies[4:]).positions == (9,)
    written += [(Kind.BALLOT, role("relayer"), 0, body) for body in bodies[:3]]
    written += [(Kind.BALLOT, role("relayer two"), 0, bodies[3]), (Kind.BALLOT, role("relayer"), 1, bodies[4])]

    append(Kind.COMPLAINT, b"a complaint", "verifier")
    append(Kind.ROLL_CHANGE, b"a change", "registrar", "cosigner", number=1)
    append(Kind.DECISION, b"a decision", "authority", "cosigner", number=1)
    extension = u40(world.windows.close + 60) + b"the line was long"
    append(Kind.EXTENSION, extension, "authority", number=2)
    assert board.close_time() == world.windows.close + 60

    chain.advance_to(world.windows.count_not_before)
    document = b'{"a":"station result"}'
    check_ins = CheckIns(1, 0, ((4, 1_900_000_000), (9, 1_900_000_001)))
    station_hash = StationHash(2, 1, ballot_hash(document))
    items = [world.station_item(check_ins, 0), world.station_item(station_hash, 1)]
    assert world.writer("outsider").append_stations(items).positions == (14, 15)
    assert world.writer("outsider").append_stations(items).positions == ()
    written += [
        (Kind.CHECK_IN, STATION_OFFICERS, 0, check_ins.body()),
        (Kind.STATION_HASH, STATION_OFFICERS, 1, station_hash.body()),
    ]
    assert board.station(1) == StationState(1, 0, False)
    assert board.station(2) == StationState(0, 1, False)
    assert board.document(ballot_hash(document)) == DocumentState(15, False)

    chain.advance_to(world.windows.reveal_not_before)
    assert world.writer("outsider").reveal([document]).positions == (16,)
    assert world.writer("outsider").reveal([document]).positions == ()
    written.append((Kind.STATION_RESULT, ANYONE, 0, document))
    assert board.document(ballot_hash(document)) == DocumentState(15, True)
    assert board.document(bytes(32)) == DocumentState(None, False)

    for kind, time, act in (
        (Kind.CLOSE, board.close_time() + 60, world.writer("outsider").close),
        (Kind.SETTLEMENT, world.windows.settle_not_before, world.writer("outsider").settle),
    ):
        chain.advance_to(time)
        written.append((kind, ANYONE, 0, board.head().body()))
        assert act().positions == (len(written) - 1,)
    assert board.phase() == Phase.SETTLED

    chain.advance_to(world.windows.decrypt_not_before)
    append(Kind.PARTIAL_DECRYPTION, b"shares", "trustee", number=2)
    append(Kind.RESULT, b"result", "authority", number=3)
    report = Report(True, bytes(32), bytes(32), b"s" * 32)
    append(Kind.REPORT, report.commitment(), "verifier", number=1)
    append(Kind.REPORT, report.body(), "verifier", number=2)
    assert (board.phase(), board.certified()) == (Phase.FINAL, True)

    records = rebuilt(world)
    assert [(r.kind, r.entry.role, r.number, r.body) for r in records] == written
    assert all(record.entry.body_hash == ballot_hash(record.body) for record in records)
    signed = {record.kind: len(record.signatures) for record in records}
    assert signed == {kind: 65 for kind in Kind} | {
        Kind.MANIFEST: 0, Kind.BALLOT: 0, Kind.CLOSE: 0, Kind.SETTLEMENT: 0, Kind.STATION_RESULT: 0,
        Kind.CHECK_IN: 130, Kind.STATION_HASH: 130, Kind.ROLL_CHANGE: 130, Kind.DECISION: 130,
    }  # fmt: skip


def test_hash_mode_writes_hashes_and_a_settlement_that_data_holders_signed(make_board):
    world = make_board(hash_mode=True).open()
    hashes = [ballot_hash(body) for body in ballots(5)]
    assert world.writer("relayer").append_ballot_hashes(0, hashes).positions == (3, 4, 5, 6, 7)
    with pytest.raises(Refused) as refused:
        world.writer("relayer").append_ballots(1, ballots(1))
    assert refused.value.name == "BadBody"

    world.chain.advance_to(world.windows.close + 60)
    world.writer("outsider").close()
    world.chain.advance_to(world.windows.settle_not_before)
    bitmap = hashlib.sha256(b"bitmap").digest()
    body = world.board.head().body() + bitmap
    signature = sign_record(HANDS["holder"], world.chain.chain_id, world.address, Kind.SETTLEMENT, ballot_hash(body), 0)
    with pytest.raises(Refused, match="sign again"):
        world.writer("outsider").settle(bitmap)
    world.writer("outsider").settle(bitmap, signature)

    records = rebuilt(world)
    assert [(r.body, r.entry.body_hash) for r in records if r.kind == Kind.BALLOT] == [
        (None, digest) for digest in hashes
    ]
    assert (records[-1].kind, records[-1].body, records[-1].signatures) == (Kind.SETTLEMENT, body, signature)


def test_a_batch_of_the_largest_size_lands_and_a_larger_one_is_not_sent(polling):
    relayer = polling.writer("relayer")
    bodies = ballots(MAX_PACKED // 351)
    bodies.append(bytes(MAX_PACKED - 351 * len(bodies) - 2))
    assert len(relayer.append_ballots(0, bodies).positions) == len(bodies)
    bodies[-1] += b"\x00"
    with pytest.raises(ChainError, match="98304"):
        relayer.append_ballots(1, bodies)
    assert polling.board.sequences(HANDS["relayer"].address) == 1
    assert len(rebuilt(polling)) == 3 + len(bodies)


def test_the_most_ballots_that_fit_stay_under_the_gas_of_a_transaction(polling):
    relayer = polling.writer("relayer")
    bodies = [bytes([number % 251]) for number in range(MAX_PACKED // 3)]
    # 32,725 one-byte ballots: no honest batch has so many leaves, and the estimate says that it does not fit
    with pytest.raises(ChainError, match="gas"):
        relayer.append_ballots(0, bodies)
    smallest = ballots(MAX_PACKED // 15, size=13)
    assert len(relayer.append_ballots(0, smallest).positions) == len(smallest)


def test_a_relayers_transaction_can_be_signed_stored_sent_twice_and_looked_up(polling):
    relayer = polling.writer("relayer")
    first = relayer.prepare_ballots(0, ballots(2), relayer.nonce())
    second = relayer.prepare_ballots(1, ballots(2, first=2), relayer.nonce() + 1)
    assert relayer.receipt(first.hash) is None
    assert relayer.broadcast(second.raw) == second.hash  # its predecessor is missing: it waits in the pool
    assert relayer.receipt(second.hash) is None
    assert relayer.broadcast(first.raw) == first.hash
    assert relayer.broadcast(first.raw) == first.hash
    assert relayer.sender.wait(second.hash)
    assert relayer.receipt(first.hash).positions == (3, 4)
    assert relayer.receipt(second.hash).positions == (5, 6)
    assert len(rebuilt(polling)) == 7


def test_a_transaction_that_reverted_in_its_block_says_what_the_board_said(polling):
    relayer = polling.writer("relayer")
    repeated = relayer.prepare_ballots(0, ballots(2), relayer.nonce() + 1)
    relayer.append_ballots(0, ballots(2))
    relayer.broadcast(repeated.raw)
    with pytest.raises(Refused, match="send number 1 next") as refused:
        relayer.sender.wait(repeated.hash)
    assert (refused.value.name, refused.value.values) == ("WrongSequence", (1,))


def test_a_nonce_that_is_used_up_is_an_error_of_the_node(polling):
    relayer = polling.writer("relayer")
    late = relayer.prepare_ballots(0, ballots(1), relayer.nonce())
    relayer.append_ballots(0, ballots(2))
    with pytest.raises(ChainError, match="nonce"):
        relayer.broadcast(late.raw)


@pytest.mark.parametrize("others", range(1, 5))
def test_a_record_lands_at_every_depth_although_others_came_first_after_the_estimate(world, others):
    """Three trustees act in one block: each estimated against a shallower tree."""
    trustee, verifier = world.writer("trustee"), world.writer("verifier")
    hand = HANDS["trustee"]
    for turn in range(12):
        signature = sign_record(
            hand,
            trustee.sender.chain_id,
            world.address,
            Kind.CEREMONY,
            ballot_hash(bytes([turn])),
            world.board.numbers(hand.address),
        )
        call = encode("append", Kind.CEREMONY, bytes([turn]), signature)
        gas = trustee.sender.estimate(world.address, call)
        for _ in range(others):
            verifier.append(Kind.COMPLAINT, b"mine came first", [HANDS["verifier"]])
        trustee.sender.wait(trustee.broadcast(trustee.sender.sign(world.address, call, gas, trustee.nonce()).raw))


def test_an_account_without_funds_is_told_so(polling):
    poor = Writer(polling.chain.web3, polling.address, HANDS["relayer two"])
    polling.chain.fund([HANDS["relayer two"].address], wei=0)
    with pytest.raises(ChainError, match=r"(?i)fund|gas"):
        poor.append_ballots(0, ballots(1))
    assert polling.board.head().size == 3


REFUSALS = [
    ("WrongRole", "may not append ballot", lambda w: w.writer("outsider").append_ballots(0, ballots(1))),
    ("WrongRole", "may not append roll", lambda w: w.append(Kind.ROLL, b"roll", "trustee")),
    ("NotInPhase", "in phase setup", lambda w: w.writer("relayer").append_ballots(0, ballots(1))),
    ("BadBody", "empty", lambda w: w.append(Kind.CEREMONY, b"", "trustee")),
    ("BadSignature", "sign again", lambda w: w.writer("outsider").append_signed(Kind.CEREMONY, b"x", bytes(64))),
    ("UnknownHash", "never recorded", lambda w: w.writer("outsider").reveal([b"document"])),
    ("TooEarly", "wait until", lambda w: w.writer("outsider").append_stations([w.station_item(StationHash(0, 1, bytes(32)), 1)])),
    ("WrongNumber", "is 1", lambda w: w.writer("outsider").append_stations([w.station_item(StationHash(0, 2, bytes(32)), 2)])),
]  # fmt: skip


@pytest.mark.parametrize(("name", "words", "act"), REFUSALS, ids=[f"{name}: {words}" for name, words, _ in REFUSALS])
def test_what_the_board_refuses_is_named_in_words_and_changes_nothing(world, name, words, act):
    with pytest.raises(Refused, match=words) as refused:
        act(world)
    assert refused.value.name == name
    assert "\n" not in str(refused.value)
    assert world.board.head().size == 1


def test_every_error_of_the_contract_has_words(world):
    from chain.contract import _WORDS, artifact

    assert set(_WORDS) == {entry["name"] for entry in artifact().abi if entry["type"] == "error"}


def test_a_file_is_published_in_parts_and_only_once(world):
    data = (bytes(range(256)) * PART)[: 3 * PART] + b"the end"
    authority = world.writer("authority")
    assert (authority.attach(data), authority.attach(data)) == (4, 0)
    assert world.reader.attachments() == {hashlib.sha256(data).digest(): data}


def test_an_interrupted_publication_sends_what_is_missing(world):
    data = b"a" * PART + b"b" * PART + b"c"
    digest, authority = hashlib.sha256(data).digest(), world.writer("authority")
    authority.sender.send(world.address, encode("attach", digest, 1, 3, b"b" * PART))
    assert world.reader.attachments() == {}
    assert authority.attach(data) == 2
    assert world.reader.attachments([digest]) == {digest: data}


def test_another_roles_parts_neither_spoil_nor_complete_a_file(world):
    data = b"a" * PART + b"b"
    digest = hashlib.sha256(data).digest()
    trustee, authority = world.writer("trustee"), world.writer("authority")
    trustee.sender.send(world.address, encode("attach", digest, 0, 2, b"junk"))
    trustee.sender.send(world.address, encode("attach", digest, 1, 2, b"junk"))
    assert world.reader.attachments() == {}
    assert authority.attach(data) == 2
    trustee.sender.send(world.address, encode("attach", digest, 0, 2, b"junk again"))
    assert world.reader.attachments() == {digest: data}
    assert world.reader.attachments([bytes(32)]) == {}


def test_who_holds_no_role_publishes_nothing(world):
    with pytest.raises(Refused) as refused:
        world.writer("outsider").attach(b"anything")
    assert refused.value.name == "WrongRole"


def test_views_of_an_address_without_a_board_say_so(world):
    from chain.board import Board

    for ask in (Board.head, Board.phase, Board.roles):
        with pytest.raises(ChainError, match="check the contract address"):
            ask(Board(world.chain.web3, address(OUTSIDER)))


def test_now_is_the_time_of_the_latest_block(world):
    before = world.board.now()
    world.chain.advance_to(before + HOUR)
    assert world.board.now() >= before + HOUR
    world.chain.advance_to(before)  # has passed: nothing happens
    assert world.board.now() >= before + HOUR
