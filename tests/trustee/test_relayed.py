"""Trustees without gas money: they sign, and a real relayer process brings every kind of record of theirs onto the chain and pays for it."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from eth_account import Account
from typer.testing import CliRunner

from chain.anvil import Anvil
from chain.console import Connection
from chain.errors import ChainError, RpcError, Undelivered
from chain.keys import save_account
from chain.log import read_log
from chain.process import free_port
from chain.rpc import call
from chain.sealed import LIGHT
from protocol import complaints, election, tally
from protocol.ceremony import TrusteeSecret
from protocol.encoding import canonical_json, parse_json
from protocol.errors import BallotboardError
from protocol.group import ORDER
from protocol.records import Kind
from scripts.cli import main
from tests.relayer.test_faults import QUICK
from tests.relayer.world import Process, relayer_folder
from tests.trustee.boards import Election, publish
from trustee.actions import ROUNDS
from trustee.cli import app
from trustee.keystore import Keystore
from verifier.node import NodeSource

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

TRUSTEES = (1, 2)


@pytest.fixture(scope="module")
def chain() -> Iterator[Anvil]:
    with Anvil(block_time=0) as chain:
        yield chain


@pytest.fixture
def board(chain: Anvil, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Election:
    """An election whose trustees have a keystore and no money. The working directory has what their commands look for."""
    board = publish(chain, len(TRUSTEES), len(TRUSTEES), stations=0)
    chain.fund([account.address for account in board.trustees], 0)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pass").write_text("pass")
    relayer_folder(tmp_path / "relayer", board.accounts["relayer"], board.promise_key)
    for j, account in enumerate(board.trustees, 1):
        Keystore.create(tmp_path / f"{j}.keystore", "pass", account, LIGHT).close()
    connect(board, f"http://127.0.0.1:{free_port()}")
    for j in TRUSTEES:
        trustee(j, "join")
    return board


def connect(board: Election, relayer: str) -> None:
    Connection(board.chain.url, "0x" + board.board.address.hex(), relayers=[relayer]).save(Path("board.json"))


def start(crash_at: str = "") -> Process:
    """The relayer, where board.json says."""
    url = json.loads(Path("board.json").read_text())["relayers"][0]
    return Process(Path("relayer").absolute(), Path("board.json").absolute(), crash_at, url.rpartition(":")[2], **QUICK)


def trustee(j: int, *arguments: str) -> str:
    """`ballotboard trustee …` with the keystore of trustee j; gives what it did, raises what it fails with."""
    where = ["--keystore", f"{j}.keystore", "--passphrase-file", "pass", "--json"]
    done = CliRunner().invoke(app, [*arguments, *where], catch_exceptions=False)
    return json.loads(done.stdout)["did"]


def complain(board: Election, j: int, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`ballotboard complain` with a key file of trustee j's, which has no money either."""
    with monkeypatch.context() as patch:
        patch.setattr(Account, "encrypt", partial(Account.encrypt, kdf="pbkdf2", iterations=2))
        save_account(Path("role.key"), board.trustees[j - 1], "pass")
        words = ["complain", "other", text, "--key", "role.key", "--passphrase-file", "pass"]
        patch.setattr(sys, "argv", ["ballotboard", *words])
        with pytest.raises(SystemExit) as ended:
            main()
    assert not ended.value.code


def carried(board: Election, j: int, act: str) -> None:
    """What trustee j signs on a machine without a network: answer.json; and changed.json, with a broken signature."""
    with Path("election.archive").open("wb") as file:
        NodeSource(board.chain.url, "0x" + board.board.address.hex()).write(file)
    trustee(j, act, "--offline", "election.archive")
    answer = parse_json(Path("answer.json").read_bytes())
    answer["records"][0]["signature"] = "00" * 65
    Path("changed.json").write_bytes(canonical_json(answer))


def post(file: str) -> list[int | None]:
    done = CliRunner().invoke(app, ["post", file, "--json"], catch_exceptions=False)
    return json.loads(done.stdout)["positions"]


def test_every_record_of_trustees_without_money_goes_through_a_relayer_even_one_that_is_killed_before_it_sends(
    board: Election, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest, said = TrusteeSecret.share_for, []
    monkeypatch.setattr(tally, "VALUES_PER_PART", 2)  # two units, two ciphertexts each: two records
    with start(crash_at="submit before commit") as relayer:
        waiting = threading.Thread(target=lambda: said.append(trustee(1, "commit")))
        waiting.start()
        assert relayer.process.wait(30) == -9
    assert not said and board.head().size == 1
    with start() as relayer:
        waiting.join(30)
        assert said == ["commit: record 1 (attempt 0, round 1)"] and board.head().size == 2
        trustee(2, "commit")
        with monkeypatch.context() as patch:
            patch.setattr(TrusteeSecret, "share_for", lambda self, other: (honest(self, other) + 1) % ORDER)
            trustee(1, "reveal")
        trustee(2, "reveal")
        assert trustee(2, "complain", "1").startswith("complain: record ")
        complain(board, 2, "trustee 1 dealt me a wrong share", monkeypatch)
        for number, act in enumerate(ROUNDS, 1):
            assert trustee(1, act).endswith(f"(attempt 1, round {number})")
            if act != "reveal":
                trustee(2, act)
                continue
            carried(board, 2, act)
            with pytest.raises(ChainError, match="the board refuses with BadSignature"):
                post("changed.json")
            assert [post("answer.json")[0] is None for _ in range(2)] == [False, True]  # twice does no harm
        board.record_roll(2)
        board.open()
        board.vote([0, 0, 1, 2])
        board.settle()
        board.chain.advance_to(board.manifest.windows.decrypt_not_before)
        assert [trustee(j, "decrypt").rpartition(": ")[2] for j in TRUSTEES] == ["2 of 2 records sent"] * 2
        assert relayer.status()["dead_records"] == relayer.status()["records_waiting"] == 0
    log = read_log(board.chain.web3, board.board.address)
    kinds = [record.kind for record in log.records]
    assert (kinds.count(Kind.CEREMONY), kinds.count(Kind.PARTIAL_DECRYPTION)) == (5 + 6, 4)
    [complaint] = complaints.read(log.records, log.manifest.roles)
    assert (complaint.role, complaint.text) == ("trustee-2", "trustee 1 dealt me a wrong share")
    opened = log.open()
    ballots = election.of_kind(log.records, Kind.BALLOT)
    settled = election.settle(opened, log.records, election.verify_ballots(opened, opened.roll, ballots))
    assert election.decrypt(settled, log.records).totals == [[[2, 0, 0], [0, 1, 1]]]
    for account in board.trustees:
        assert int(call(board.chain.web3, "eth_getTransactionCount", account.address, "latest"), 16) == 0


def test_who_pays_is_said_where_nobody_does(board: Election) -> None:
    with pytest.raises(Undelivered, match=r"no relayer takes the record \(http.*: name another with --relayer, or pay"):
        trustee(1, "commit")
    with pytest.raises(RpcError, match=r"(?i)insufficient funds"):
        trustee(1, "commit", "--pay")
    with pytest.raises(BallotboardError, match="give one of them"):
        trustee(1, "commit", "--pay", "--relayer", "http://127.0.0.1:9")
    board.chain.fund([board.trustees[0].address])
    assert trustee(1, "commit", "--pay") == "commit: record 1 (attempt 0, round 1)"
