"""A complaint from its evidence to those who are shown it, on a real chain: what proves nothing is refused and nothing lands."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from nacl.signing import SigningKey

from authority.actions import chain_time
from authority.complaint import NoEvidence, examine
from bulletin.app import create_app
from bulletin.cli import index_board
from bulletin.store import Store
from chain.console import connection
from chain.keys import save_account
from protocol import merkle
from protocol.complaints import CLASSES
from protocol.encoding import canonical_json
from protocol.errors import BallotboardError
from protocol.manifest import RoleKind
from protocol.receipt import Promise, Receipt, Refusal, sign_statement
from protocol.records import Kind, LogHead, Statement
from tests.authority.commands import fails
from tests.authority.world import World

HOSTILE = "<script>alert(1)</script> \x1b[2J\u202e&"


# ---------------------------------------------------------------- evidence


def relayer_of(polling: World) -> tuple[int, SigningKey]:
    [role] = polling.log().manifest.roles_of(RoleKind.RELAYER)[:1]
    return role, SigningKey(bytes(polling.accounts["relayer-1"].key))


def promise(polling: World, ballot: bytes, by: int) -> dict[str, Any]:
    role, key = relayer_of(polling)
    log = polling.log()
    said = Promise(hashlib.sha256(ballot).digest(), by, log.contract, polling.chain.chain_id, log.head, role)
    return sign_statement(said, key)


def refusal(polling: World, ballot: bytes, contract: bytes = b"") -> dict[str, Any]:
    role, key = relayer_of(polling)
    contract = contract or polling.log().contract
    said = Refusal(hashlib.sha256(ballot).digest(), contract, polling.chain.chain_id, "bad-proof", role, 5)
    return sign_statement(said, key)


def evidence(ballot: bytes, *statements: dict[str, Any]) -> Path:
    path = Path("evidence.json")
    value = {"ballot": ballot.hex(), "format": "ballotboard/relayer-statements/v1", "statements": list(statements)}
    path.write_bytes(canonical_json(value))
    return path


@pytest.fixture
def judge(polling: World, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Path], str]:
    """What is found in a file of evidence, by the chain as it is now."""
    monkeypatch.chdir(polling.folder)
    return lambda cls, path: examine(cls, path, connection(), chain_time(polling.chain.web3)).found


@pytest.mark.e2e
def test_evidence_that_proves_nothing_is_refused_and_what_proves_something_says_what(polling: World, judge):
    kept, lost = polling.ballots({0: 0, 1: 1})
    polling.vote({2: 0})
    now = chain_time(polling.chain.web3)
    with pytest.raises(NoEvidence, match="proves nothing yet: a promise in it is due at"):
        judge("promise", evidence(lost, promise(polling, lost, now + 600)))
    with pytest.raises(BallotboardError, match="promise 0 of the file proves nothing"):
        judge("promise", evidence(lost, promise(polling, lost, now) | {"signature": "00" * 64}))
    early = promise(polling, kept, now + 60)
    polling.writer("relayer-1").append_ballots(1, [kept])
    with pytest.raises(NoEvidence, match="every promise in it was kept"):
        judge("promise", evidence(kept, early))
    broken = promise(polling, lost, now - 1)
    assert "was promised by" in judge("promise", evidence(lost, broken))

    assert "is valid and was refused by relayer-1 (bad-proof)" in judge(
        "refusal", evidence(lost, refusal(polling, lost))
    )
    wrong = lost[:-1] + bytes([lost[-1] ^ 1])
    with pytest.raises(NoEvidence, match=r"the refusal is right, the ballot is not valid \(bad-signature\)"):
        judge("refusal", evidence(wrong, refusal(polling, wrong)))
    with pytest.raises(NoEvidence, match="no refusal, or one of another ballot or board"):
        judge("refusal", evidence(lost, refusal(polling, kept)))
    with pytest.raises(NoEvidence, match="no refusal, or one of another ballot or board"):
        judge("refusal", evidence(lost, refusal(polling, lost, os.urandom(20))))
    with pytest.raises(NoEvidence, match="no refusal"):
        judge("refusal", evidence(lost, broken))


@pytest.mark.e2e
def test_a_receipt_is_evidence_only_of_a_log_that_this_one_does_not_extend(polling: World, judge):
    polling.vote({0: 0})
    log = polling.log()
    at = len(log.records) - 1
    record, (number, block) = log.records[at], log.block_of(at)
    receipt = Receipt(
        record.body or b"", polling.chain.chain_id, log.contract, log.manifest.election_id, number, block, record.entry,
        log.head, at, tuple(merkle.inclusion_proof(log.leaves, at)), None,
    )  # fmt: skip
    path = Path("receipt.json")
    path.write_bytes(receipt.body())
    with pytest.raises(NoEvidence, match=f"the log holds the receipt's ballot, record {at}"):
        judge("receipt", path)
    path.write_bytes(replace(receipt, election_id=bytes(32)).body())
    with pytest.raises(NoEvidence, match="of another election"):
        judge("receipt", path)
    path.write_bytes(replace(receipt, proof=()).body())
    with pytest.raises(BallotboardError, match="the proof does not lead"):
        judge("receipt", path)
    leaves = [bytes(32), *log.leaves[1:]]
    shown = LogHead(len(leaves), merkle.root(leaves))
    path.write_bytes(replace(receipt, head=shown, proof=tuple(merkle.inclusion_proof(leaves, at))).body())
    assert "two logs have been shown" in judge("receipt", path)


# ---------------------------------------------------------------- the command, and who is shown it


@pytest.mark.e2e
@pytest.mark.usefixtures("quick_keys")
def test_a_broken_promise_is_complained_of_with_its_evidence_and_everybody_is_shown_it(run, polling: World):
    polling.vote({0: 0})
    [lost] = polling.ballots({1: 1})
    for name in ("trustee-1", polling.plan.officer_names(0)[0]):
        save_account(Path(f"{name}.json"), polling.accounts[name], "secret")
    key, before = ("--key", "trustee-1.json"), polling.log().head
    assert "there is no class 'anger'" in fails(run, "complain", "anger", "it is wrong", *key)
    assert "the text is empty" in fails(run, "complain", "promise", "", *key)
    for about in (-1, before.size):
        assert f"there is no record {about}" in fails(run, "complain", "promise", "late", *key, "--about", about)
    officer = ("--key", f"{polling.plan.officer_names(0)[0]}.json")
    assert "holds no role in this election" in fails(run, "complain", "station", "no ink", *officer)
    kept = evidence(b"", promise(polling, polling.log().records[-1].body or b"", 2**40))
    assert "was kept" in fails(run, "complain", "promise", "late", *key, "--evidence", kept)
    assert polling.log().head == before  # nothing of this has landed

    file = evidence(lost, promise(polling, lost, chain_time(polling.chain.web3) - 1))
    status, out, _ = run(
        "complain", "promise", "<b>relayer-1</b> dropped it", *key, "--about", 1, "--evidence", file, "--json"
    )
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    found = json.loads(out)
    assert status == 0 and (found["position"], found["evidence"]) == (before.size, digest)
    text = f"<b>relayer-1</b> dropped it\nevidence SHA-256 {digest}"
    at = found["position"]
    value = {"position": at, "role": "trustee-1", "class": "promise", "about": 1, "text": text}

    # a program that does not care about our limits
    polling.append(Kind.COMPLAINT, Statement("ballotboard/complaint/v1", HOSTILE, 10**9, HOSTILE).body(), "cosigner")
    polling.append(Kind.COMPLAINT, b"junk", "cosigner")

    status, out, _ = run("election", "status")
    assert f"record {at}, trustee-1: {CLASSES['promise']}, about record 1: <b>relayer-1</b> dropped it evidence" in out
    assert f"record {at + 1}, cosigner: another matter" in out and "\x1b" not in out and "\u202e" not in out
    [first, second] = json.loads(run("election", "status", "--json")[1])["complaints"]
    assert first.items() >= value.items() and (second["about"], second["text"]) == (None, HOSTILE)

    report = json.loads(run("verify", "config", "--json", "--html", "report.html")[1])
    assert report["complaints"] == [first, second]
    told = run("verify", "config")[1]
    assert "change no verdict:" in told and f"record {at}, trustee-1: " in told and "\x1b" not in told
    page = Path("report.html").read_text()
    assert "&lt;b&gt;relayer-1&lt;/b&gt;" in page and "<b>" not in page and "<script" not in page

    where = connection()
    index_board(where, "sqlite:///board.sqlite")
    web = TestClient(create_app(Store("sqlite:///board.sqlite"), where))
    for language, count, words, about in (
        ("en", "3 complaints are on the record", "A relayer broke a signed promise", "about record 1"),
        ("fr", "3 réclamations sont inscrites", "Un relais a rompu une promesse signée", "au sujet de l’inscription 1"),
    ):
        overview = web.get(f"/{language}/").text
        assert count in overview and f'href="/{language}/records?kind=complaint"' in overview
        assert count not in web.get(f"/{language}/display").text
        for path in (f"/{language}/records?kind=complaint", f"/{language}/records/{at}"):
            shown = web.get(path).text
            assert words in shown and about in shown and f'href="/{language}/records/1"' in shown
            assert "&lt;b&gt;relayer-1&lt;/b&gt;" in shown and "<b>" not in shown and "trustee-1" in shown
        for path in (
            f"/{language}/records?kind=complaint",
            f"/{language}/records/{at + 1}",
            f"/{language}/records/{at + 2}",
        ):
            shown = web.get(path).text
            assert "<script>alert" not in shown and '1000000000">' not in shown
    answer = web.get(f"/api/v1/records/{at}").json()["complaint"]
    assert answer == {
        "class": "promise",
        "words": "A relayer broke a signed promise",
        "about": 1,
        "text": value["text"],
    }
    listed = web.get("/api/v1/records?kind=13").json()["records"]
    assert [one["complaint"] and one["complaint"]["class"] for one in listed] == ["promise", HOSTILE, None]


@pytest.mark.e2e
@pytest.mark.usefixtures("quick_keys")
def test_a_complaint_goes_through_the_relayer_of_the_connection_file_or_is_paid_as_its_writer_says(run, polling: World):
    save_account(Path("cosigner.json"), polling.accounts["cosigner"], "secret")
    where = connection()
    where.relayers = ["http://127.0.0.1:9"]
    where.save(Path("board.json"))
    words = ("complain", "other", "the hall is locked", "--key", "cosigner.json")
    assert "no relayer takes the record (http://127.0.0.1:9" in fails(run, *words)
    assert "give one of them" in fails(run, *words, "--pay", "--relayer", "http://127.0.0.1:9")
    status, _, err = run(*words, "--pay")
    assert status == 0 and err == f"complained (record {polling.log().head.size - 1})\n"
