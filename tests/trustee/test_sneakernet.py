"""A trustee without a network: archives in, answers out, by file or as QR codes; and carriers who change something on the way."""

from __future__ import annotations

import random
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chain.anvil import Anvil
from chain.contract import Refused
from chain.log import read_log
from chain.sealed import LIGHT
from protocol import election
from protocol.encoding import canonical_json, parse_json
from protocol.errors import BallotboardError
from protocol.records import Kind
from tests.trustee.boards import Election, publish
from trustee import actions, codes, sneakernet
from trustee.actions import NotDue, WrongRecord
from trustee.keystore import Keystore
from trustee.sneakernet import Carried
from verifier.node import NodeSource

VOTES = [0, 1, 0, 2]


# ---------------------------------------------------------------- codes


@given(st.binary(max_size=200))
def test_base45_gives_back_every_byte(data):
    assert codes.unbase45(codes.base45(data)) == data


def test_base45_is_that_of_the_rfc():
    assert (
        codes.base45(b"AB") == "BB8"
        and codes.base45(b"Hello!!") == "%69 VD92EX0"
        and codes.base45(b"base-45") == "UJCLQE7W581"
    )


@pytest.mark.parametrize("text", ["GGW", "A", "::", "ABCD", "a00"])
def test_what_is_no_base45_is_refused(text):
    with pytest.raises(ValueError):
        codes.unbase45(text)


DATA = random.Random(1).randbytes(5 * codes.PIECE)
TEXTS = codes.split(DATA)


@given(st.randoms(use_true_random=False), st.lists(st.integers(0, 5), max_size=4))
def test_codes_may_come_in_any_order_and_more_than_once(shuffler, again):
    texts = list(TEXTS)
    texts += [texts[i] for i in again if i < len(texts)]
    shuffler.shuffle(texts)
    assert codes.join(texts) == DATA


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda texts: texts[:2] + texts[3:], "1 of 6 codes are missing: 3"),
        (lambda texts: texts[:1] + codes.split(DATA[::-1])[1:], "codes of two files"),
        (lambda texts: [*texts[:-1], texts[-1][:-3] + texts[-1][-2:] + texts[-1][-3]], "misread|do not give"),
        (lambda texts: [*texts, texts[0][:-3] + texts[0][-2:] + texts[0][-3]], "came out differently"),
        (lambda texts: [*texts, "https://example.org"], "not one of these codes"),
        (lambda texts: [], "no code was found"),
    ],
)
def test_what_is_missing_mixed_or_misread_is_named(spoil, why):
    with pytest.raises(BallotboardError, match=why):
        codes.join(spoil(TEXTS))


def test_drawn_codes_are_read_back_from_pictures(tmp_path, monkeypatch):
    pytest.importorskip("zxingcpp", reason="zxing-cpp is not installed")
    monkeypatch.setattr(codes, "PIECE", 100)
    drawn = codes.draw(codes.split(DATA[:150]), tmp_path / "answer.png")
    assert [path.name for path in drawn] == ["answer-1.png", "answer-2.png"]
    assert codes.join(codes.scan(reversed(drawn))) == DATA[:150]


def test_a_scanner_that_types_is_enough(tmp_path):
    (tmp_path / "typed.txt").write_text("\r\n".join(TEXTS) + "\r\n")
    assert codes.join(codes.scan([tmp_path / "typed.txt"])) == DATA


def test_codes_are_drawn_as_pages_and_as_vector_pictures(tmp_path):
    texts = TEXTS[-2:]
    assert codes.draw(texts, tmp_path / "answer.pdf", "answer.json") == [tmp_path / "answer.pdf"]
    assert (tmp_path / "answer.pdf").read_bytes().startswith(b"%PDF")
    assert all(b"<svg" in path.read_bytes() for path in codes.draw(texts, tmp_path / "answer.svg"))
    with pytest.raises(BallotboardError, match="end the name in"):
        codes.draw(texts, tmp_path / "answer.gif")


# ---------------------------------------------------------------- an election with a machine that has no network


@pytest.fixture(scope="module")
def chain() -> Iterator[Anvil]:
    with Anvil(block_time=0) as chain:
        yield chain


@pytest.fixture
def board(chain) -> Election:
    return publish(chain)


class Courier:
    """Brings archives and posts answers."""

    def __init__(self, board: Election, folder: Path) -> None:
        self.board, self.folder, self.trips = board, folder, count()

    def fetch(self) -> Carried:
        trip = next(self.trips)
        archive = self.folder / f"{trip}.archive"
        with archive.open("wb") as file:
            NodeSource(self.board.chain.url, "0x" + self.board.board.address.hex()).write(file)
        return Carried(archive, self.folder / f"{trip}.json")

    def post(self, carried: Carried) -> list[int | None]:
        return sneakernet.post(self.board.writer("relayer"), carried.answer.read_bytes())


@pytest.fixture
def courier(board, tmp_path) -> Courier:
    return Courier(board, tmp_path)


@pytest.fixture
def stores(board, tmp_path) -> Iterator[list[Keystore]]:
    found = [
        Keystore.create(tmp_path / f"{j}.keystore", "pass", account, LIGHT)
        for j, account in enumerate(board.trustees, 1)
    ]
    yield found
    for store in found:
        store.close()


def socketless(monkeypatch) -> None:
    def refuse(*_, **__):
        raise AssertionError("a machine without a network tried to connect")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.mark.e2e
@pytest.mark.slow
def test_a_trustee_without_a_network_takes_part_from_join_to_decryption(board, stores, courier, monkeypatch):
    *online, offline = stores
    for store in online:
        actions.join(board.board, store)
    for act in (actions.join, actions.commit, actions.reveal, actions.confirm):
        for store in online if act is not actions.join else []:
            act(board.board, store)
        place = courier.fetch()
        with monkeypatch.context() as patch:
            socketless(patch)
            outcome = act(place, offline)
        if act is not actions.join:
            assert "signed into" in outcome.did and "trustee post" in outcome.next
            assert len(courier.post(place)) == 1 and courier.post(place) == [None]  # twice does no harm
    assert actions.status(board.board, offline).ceremony.key
    board.record_roll(2)
    board.open()
    board.vote(VOTES)
    board.settle()
    with pytest.raises(NotDue, match="decryption begins"):
        actions.decrypt(courier.fetch(), offline)  # the carrier has no say in what time it is
    board.chain.advance_to(board.manifest.windows.decrypt_not_before)
    actions.decrypt(board.board, online[0])  # this record's time is on the log, and the archive brings it
    place = courier.fetch()
    with monkeypatch.context() as patch:
        socketless(patch)
        assert "4 counted ballots" in actions.decrypt(place, offline).did
    assert len(courier.post(place)) == 1
    log = read_log(board.chain.web3, board.board.address)
    opened = log.open()
    ballots = election.of_kind(log.records, Kind.BALLOT)
    settled = election.settle(opened, log.records, election.verify_ballots(opened, opened.roll, ballots))
    assert election.decrypt(settled, log.records).totals == [[[1, 1, 0], [1, 0, 1]]]


@pytest.mark.e2e
def test_an_archive_that_was_changed_or_lacks_what_was_seen_is_refused(board, stores, courier):
    for store in stores[:2]:
        actions.join(board.board, store)
    early = courier.fetch()
    actions.commit(board.board, stores[1])
    actions.commit(courier.fetch(), stores[0])
    with pytest.raises(WrongRecord, match="has seen 2"):
        actions.status(Carried(early.archive, early.answer), stores[0])
    spoiled = courier.fetch()
    data = bytearray(spoiled.archive.read_bytes())
    data[len(data) // 2] ^= 1
    spoiled.archive.write_bytes(data)
    with pytest.raises(BallotboardError):
        actions.status(spoiled, stores[0])


@pytest.mark.e2e
def test_an_answer_cannot_be_changed_and_is_not_lost_to_a_second_one(board, stores, courier):
    actions.join(board.board, stores[0])
    place = courier.fetch()
    actions.commit(place, stores[0])
    value = parse_json(place.answer.read_bytes())
    body = bytearray.fromhex(value["records"][0]["body"])
    body[-3] ^= 1
    value["records"][0]["body"] = body.hex()
    with pytest.raises(Refused):
        sneakernet.post(board.writer("relayer"), canonical_json(value))
    with pytest.raises(BallotboardError, match="may not be posted yet"):
        actions.commit(Carried(place.archive, place.answer), stores[0])
    again = Carried(place.archive, place.answer.with_name("again.json"))
    actions.commit(again, stores[0])
    assert again.answer.read_bytes() == place.answer.read_bytes()  # the same message, and the same signature
    assert len(courier.post(place)) == 1
    other = publish(board.chain)
    with pytest.raises(BallotboardError, match="not for this one"):
        sneakernet.post(other.writer("relayer"), place.answer.read_bytes())


# ---------------------------------------------------------------- a token


@pytest.fixture
def token(tmp_path, monkeypatch):
    """A SoftHSM token of its own, with the PIN 1234."""
    pytest.importorskip("pkcs11", reason="python-pkcs11 is not installed")
    tool = shutil.which("softhsm2-util")
    if not tool:
        pytest.skip("SoftHSM (Debian package softhsm2) is not installed")
    (tmp_path / "tokens").mkdir()
    (tmp_path / "softhsm2.conf").write_text(
        f"directories.tokendir = {tmp_path / 'tokens'}\nobjectstore.backend = file\n"
    )
    monkeypatch.setenv("SOFTHSM2_CONF", str(tmp_path / "softhsm2.conf"))
    command = [tool, "--init-token", "--free", "--label", "anna", "--so-pin", "87654321", "--pin", "1234"]
    subprocess.run(command, check=True, capture_output=True)
    return "anna"


TOKEN_SCRIPT = """
import sys
from pathlib import Path
from chain.sealed import LIGHT
from protocol.ceremony import TrusteeSecret
from protocol.errors import BallotboardError
from trustee.keystore import Attempt, Keystore
from trustee.token import Token
path, label = Path(sys.argv[1]), sys.argv[2]
with Keystore.create(path, "1234", token=Token(label)) as store:
    store.attempts[0] = Attempt(TrusteeSecret(1, 5, [6]), {1: b"body"})
    store.save()
assert Keystore.open(path, "1234", write=False).attempts == store.attempts
before = path.read_bytes()
for pin, data in (("9999", before), ("", before), ("1234", before[:60] + bytes([before[60] ^ 1]) + before[61:])):
    path.write_bytes(data)
    try:
        Keystore.open(path, pin)
    except BallotboardError as error:
        print(type(error).__name__)
    else:
        raise SystemExit("it opened")
path.write_bytes(before)
Keystore.open(path, "1234", write=False).backup(path.with_name("copy"), "other words", LIGHT)
assert Keystore.open(path.with_name("copy"), "other words", write=False).attempts == store.attempts
"""


@pytest.mark.slow
def test_a_token_opens_the_keystore_and_nothing_else_does(token, tmp_path):
    """In a process of its own: a token's library reads its configuration once."""
    done = subprocess.run(
        [sys.executable, "-c", TOKEN_SCRIPT, str(tmp_path / "k"), token],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[:2] == ["WrongPassphrase", "WrongPassphrase"] and len(done.stdout.split()) == 3
    assert (5).to_bytes(32, "little") not in (tmp_path / "k").read_bytes()
