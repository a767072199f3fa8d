"""Bodies had from data holders over HTTP, and the signatures that settle a board in hash mode."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from authority.actions import NotReady, settle_poll
from chain.errors import BadSignature, ChainError
from chain.holding import AT_ONCE, Attestation, Holders, combine, held_bitmap
from chain.log import read_log
from chain.sign import sign_record
from protocol.attachments import Bitmap
from protocol.election import settled_records
from protocol.errors import BallotboardError, Malformed
from protocol.manifest import Manifest
from protocol.records import Kind, Settlement, ballot_hash, pack_bodies
from tests.chain.world import HANDS, World, address, ballots, new_board, role
from tests.protocol.test_documents import manifest_value

Answer = Callable[[list[bytes], list[bytes]], tuple[int, bytes]]


def honest(hashes: list[bytes], bodies: list[bytes]) -> tuple[int, bytes]:
    held = {ballot_hash(body): body for body in bodies}
    return 200, pack_bodies([held.get(digest, b"") for digest in hashes])


@contextmanager
def holder(bodies: list[bytes], answer: Answer = honest) -> Iterator[str]:
    """The URL of a server with these bodies."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = self.rfile.read(int(self.headers["content-length"]))
            status, data = answer([asked[i : i + 32] for i in range(0, len(asked), 32)], bodies)
            self.send_response(status)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


BODIES = ballots(5)
HASHES = [ballot_hash(body) for body in BODIES]


def test_what_one_holder_lacks_another_gives():
    with holder(BODIES[:2]) as one, holder(BODIES[1:4]) as two:
        found = Holders([one, "http://127.0.0.1:1", two]).fetch(HASHES)
    assert found == dict(zip(HASHES[:4], BODIES[:4], strict=True))


def test_more_than_one_request_holds_are_asked_in_several():
    bodies = ballots(AT_ONCE + 5, size=40)
    calls: list[int] = []

    def counted(hashes: list[bytes], held: list[bytes]) -> tuple[int, bytes]:
        calls.append(len(hashes))
        return honest(hashes[:700], held)  # a holder may answer a part

    with holder(bodies, counted) as url:
        assert len(Holders([url]).fetch(map(ballot_hash, bodies))) == len(bodies)
    assert calls == [AT_ONCE, 305]


@pytest.mark.parametrize(
    "answer",
    [
        lambda hashes, bodies: (200, pack_bodies([bytes([body[0] ^ 1]) + body[1:] for body in bodies])),
        lambda hashes, bodies: (200, pack_bodies([bodies[1], bodies[0]])),
        lambda hashes, bodies: (200, honest(hashes, bodies)[1][:-1]),
        lambda hashes, bodies: (500, honest(hashes, bodies)[1]),
        lambda hashes, bodies: (200, b""),
        lambda hashes, bodies: (200, pack_bodies([b"x" * 60_000] * 1100)),
    ],
    ids=["another body", "two exchanged", "cut off", "an error", "nothing", "more than was asked"],
)
def test_what_does_not_hash_to_its_name_is_not_taken(answer: Answer):
    with holder(BODIES[:2], answer) as lying, holder(BODIES[:2]) as other:
        assert Holders([lying]).fetch(HASHES[:2]) == {}
        assert Holders([lying, other]).fetch(HASHES[:2]) == dict(zip(HASHES[:2], BODIES[:2], strict=True))


# ---------------------------------------------------------------- the settlement


def hash_mode_manifest() -> Manifest:
    value = manifest_value()
    kinds = [
        ("authority", "authority"), ("registrar", "registrar"), ("cosigner", "cosigner"), ("trustee", "trustee"),
        ("relayer", "relayer"), ("relayer two", "relayer"), ("verifier", "verifier"), ("holder", "data-holder"),
    ]  # fmt: skip
    value["roles"] = [
        {"address": address(HANDS[name]).hex(), "key": "ab" * 32 if kind in ("relayer", "data-holder") else "", "kind": kind, "name": name}
        for name, kind in kinds
    ]  # fmt: skip
    value["rules"]["body_mode"] = "hash"
    value["thresholds"] |= {"trustees": 1, "data_holders": 1}
    return Manifest.build(value)


@pytest.fixture(scope="module")
def manifest() -> Manifest:
    return hash_mode_manifest()


@pytest.fixture
def closed(chain, manifest: Manifest) -> World:
    """A board in hash mode with five ballots, closed, at the time of the settlement."""
    world = new_board(chain, hash_mode=True, manifest=manifest.body).open()
    world.writer("relayer").append_ballot_hashes(0, HASHES)
    chain.advance_to(world.windows.close + 60)
    world.writer("outsider").close()
    chain.advance_to(world.windows.settle_not_before)
    return world


def attest(world: World, bitmap: Bitmap) -> Attestation:
    settlement = Settlement(world.board.head(), bitmap.sha256)
    digest = ballot_hash(settlement.body())
    signature = sign_record(HANDS["holder"], world.chain.chain_id, world.address, Kind.SETTLEMENT, digest, 0)
    return Attestation(world.chain.chain_id, world.address, settlement, role("holder"), 0, signature)


def test_the_settlement_carries_the_bitmap_that_the_holders_signed(closed: World, manifest: Manifest):
    log = read_log(closed.chain.web3, closed.address)
    bitmap = held_bitmap(log.records, {ballot_hash(body) for body in BODIES[:4]}.__contains__)
    attestation = Attestation.parse(attest(closed, bitmap).body())
    position = settle_poll(closed.chain.web3, closed.address, HANDS["authority"], [attestation], bitmap.data)

    log = read_log(closed.chain.web3, closed.address)
    assert (position, log.records[-1].kind) == (log.head.size - 1, Kind.SETTLEMENT)
    with pytest.raises(BallotboardError, match="4 ballots"):
        settled_records(manifest, log.records, log.attachments)
    with holder(BODIES) as url:
        log.read_bodies(Holders([url]))
    before = settled_records(manifest, log.records, log.attachments)
    assert [r.body for r in before if r.kind == Kind.BALLOT] == [*BODIES[:4], None]


def test_without_attestations_the_authority_is_told_whom_to_ask(closed: World):
    with pytest.raises(NotReady, match="relayer attest"):
        settle_poll(closed.chain.web3, closed.address, HANDS["authority"])


def test_the_bitmap_must_be_the_one_that_was_signed(closed: World):
    bitmap = Bitmap.of(closed.board.head().size, [3])
    with pytest.raises(BallotboardError, match="not the one that the data holders signed"):
        settle_poll(closed.chain.web3, closed.address, HANDS["authority"], [attest(closed, bitmap)], b"\x01")


def test_attestations_of_another_log_board_or_hand_are_refused(closed: World, manifest: Manifest):
    head, chain_id = closed.board.head(), closed.chain.chain_id
    good = attest(closed, Bitmap.of(head.size, [3]))
    assert combine(manifest, chain_id, closed.address, head, [good, good])[1] == good.signature
    longer = replace(head, size=head.size + 1)
    with pytest.raises(ChainError, match="attest` again"):
        combine(manifest, chain_id, closed.address, longer, [good])
    with pytest.raises(ChainError, match="another board"):
        combine(manifest, chain_id, bytes(20), head, [good])
    with pytest.raises(BadSignature, match="somebody else"):
        combine(manifest, chain_id, closed.address, head, [replace(good, number=1)])
    with pytest.raises(BadSignature, match="no data holder"):
        combine(manifest, chain_id, closed.address, head, [replace(good, role=role("relayer"))])
    with pytest.raises(ChainError, match="0 data holders"):
        combine(manifest, chain_id, closed.address, head, [])


def test_holders_who_attest_to_different_ballots_do_not_add_up(closed: World, manifest: Manifest):
    """Two holders, both needed: their signatures are of two bitmaps."""
    head, chain_id = closed.board.head(), closed.chain.chain_id
    other = role("verifier")
    roles = list(manifest.roles)
    roles[other] = replace(roles[role("holder")], address=address(HANDS["verifier"]), name="second holder")
    two = replace(manifest, roles=tuple(roles), data_holder_threshold=2)
    one = attest(closed, Bitmap.of(head.size, [3]))
    settlement = Settlement(head, hashlib.sha256(b"another").digest())
    signature = sign_record(
        HANDS["verifier"], chain_id, closed.address, Kind.SETTLEMENT, ballot_hash(settlement.body()), 0
    )
    with pytest.raises(ChainError, match="1 data holders attest"):
        combine(
            two,
            chain_id,
            closed.address,
            head,
            [one, replace(one, settlement=settlement, role=other, signature=signature)],
        )


def test_an_attestation_that_is_not_canonical_is_refused(closed: World):
    data = attest(closed, Bitmap.of(7, [3])).body()
    with pytest.raises(Malformed):
        Attestation.parse(data + b" ")
    with pytest.raises(Malformed):
        Attestation.parse(data.replace(b"attestation/v1", b"attestation/v2"))
