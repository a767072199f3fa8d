"""What voters hold, and what it proves: receipts offline and against a log, audited ballots."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from protocol import merkle
from protocol.encoding import canonical_json, parse_json
from protocol.errors import BallotboardError, Malformed
from protocol.group import base
from protocol.receipt import Receipt, ReceiptWrong
from protocol.records import Entry, LogHead
from tests.tamper.builder import CHOICES, COUNTED_TOTALS, Election, hold, reseal
from tests.tamper.recipes import changed, claims, honest
from verifier import receipts
from verifier.case import Case
from verifier.cli import app, read_promises
from verifier.receipts import Fate


def receipt_of(name: str, e: Election | None = None, size: int | None = None) -> Receipt:
    """The receipt of a ballot in the log of the first `size` records."""
    e = e or honest()
    found = e.claims()
    size = size or len(found.records)
    record = next(r for r in found.records if r.body == e.cast[name])
    leaves = [r.entry.leaf() for r in found.records[:size]]
    return Receipt(
        ballot=e.cast[name], chain_id=found.chain_id, contract=found.contract, election_id=e.manifest.election_id, block_number=0,
        block_hash=bytes(32), entry=record.entry, head=LogHead(size, merkle.root(leaves)), position=record.position,
        proof=tuple(merkle.inclusion_proof(leaves, record.position)), promise=None,
    )  # fmt: skip


def case_of(e: Election) -> Case:
    return Case(e.claims())


def fate(name: str, e: Election | None = None) -> Fate:
    [found] = receipts.compare([receipt_of(name, e)], case_of(e or honest()))
    assert isinstance(found, Fate), found
    return found


# ---------------------------------------------------------------- receipts by themselves


def test_a_receipt_proves_that_the_ballot_is_in_the_log_and_never_the_choice() -> None:
    lines = " ".join(receipts.offline(receipt_of("row 1")))
    assert honest().manifest.election_id.hex() in lines
    assert "roll index is 1" in lines
    assert "It does not show your choice" in lines


@pytest.mark.parametrize(
    "change",
    [
        lambda r: replace(r, ballot=honest().cast["row 0"]),
        lambda r: replace(r, entry=replace(r.entry, time=r.entry.time + 1)),
        lambda r: replace(r, entry=Entry(5, r.entry.time, r.entry.role, r.entry.body_hash)),
        lambda r: replace(r, position=r.position + 1),
        lambda r: replace(r, head=replace(r.head, size=r.head.size + 40)),
        lambda r: replace(r, head=replace(r.head, root=bytes(32))),
        lambda r: replace(r, proof=r.proof[:-1]),
    ],
)
def test_a_receipt_with_one_thing_changed_proves_nothing(change: Callable[[Receipt], Receipt]) -> None:
    with pytest.raises(ReceiptWrong):
        receipts.offline(change(receipt_of("row 1")))


def test_several_receipts_of_one_roll_index_are_pointed_out() -> None:
    both = [receipt_of("row 0, first"), receipt_of("row 0")]
    assert "2 of these receipts have this roll index" in receipts.offline(both[0], both)[-1]
    assert "these receipts" not in receipts.offline(receipt_of("row 1"), [receipt_of("row 1"), *both])[-1]


# ---------------------------------------------------------------- receipts against a log


def test_before_the_settlement_a_ballot_is_recorded_and_no_more() -> None:
    found = fate("row 1", hold(until="close"))
    assert found.row is None and found.text.startswith("recorded")


@pytest.mark.parametrize(
    "name, status, attempts",
    [
        ("row 1", "counted", 1),
        ("row 0, first", "superseded", 2),
        ("row 0", "counted", 2),
        ("row 4", "revoked", 1),
        ("row 5", "replaced-by-paper", 1),
        ("row 6", "counted", 1),
    ],
)
def test_after_the_settlement_it_says_what_became_of_the_ballot(name: str, status: str, attempts: int) -> None:
    found = fate(name)
    assert found.row and found.row.status.text == status
    assert len(found.attempts) == attempts


def test_the_fates_are_those_of_the_whole_counted_set() -> None:
    rows = {row.position: row for row in honest().settled().counted.rows}
    names = list(honest().cast)
    found = receipts.compare([receipt_of(name) for name in names], case_of(honest()))
    assert [f.row for f in found if isinstance(f, Fate)] == [rows[receipt_of(name).position] for name in names]


def test_a_receipt_of_another_log_is_proof_that_two_were_shown() -> None:
    other = hold(vote=lambda e: (Election.vote(e), e.append_ballots(2190, [e.cast["row 3"]])))
    [wrong] = receipts.compare([receipt_of("row 1", other)], case_of(honest()))
    assert isinstance(wrong, ReceiptWrong) and "two logs have been shown" in str(wrong)


def test_a_receipt_of_another_election_is_refused() -> None:
    [wrong] = receipts.compare([replace(receipt_of("row 1"), election_id=bytes(32))], case_of(honest()))
    assert isinstance(wrong, ReceiptWrong) and "another election" in str(wrong)


def test_a_receipt_that_names_another_block_is_refused() -> None:
    blocks = [(7, bytes(32))] * len(honest().drafts)
    [wrong] = receipts.compare([receipt_of("row 1")], Case(replace(honest().claims(), blocks=blocks)))
    assert isinstance(wrong, ReceiptWrong) and "another block" in str(wrong)


def test_a_receipt_with_a_promise_that_no_relayer_signed_is_refused() -> None:
    promise = {"promise": {}, "signature": "00" * 64}
    [wrong] = receipts.compare([replace(receipt_of("row 1"), promise=promise)], case_of(honest()))
    assert isinstance(wrong, ReceiptWrong) and "the promise in the receipt is none" in str(wrong)


def test_junk_among_the_ballots_is_nobodys_attempt() -> None:
    e = hold(vote=lambda e: (Election.vote(e), e.append_ballots(2190, [b"\x00"])))
    assert len(fate("row 1", e).attempts) == 1


def test_a_log_that_does_not_stand_says_nothing_of_a_receipt() -> None:
    broken = claims(reseal(changed(1, body=b"{}")))
    with pytest.raises(BallotboardError, match="the node's log does not stand: E01"):
        receipts.compare([receipt_of("row 1")], Case(broken))


# ---------------------------------------------------------------- audited ballots


def audited(**change: Any) -> bytes:
    """The file of row 1's ballot, opened; one member may be changed."""
    e, seed = honest(), bytes(31) + b"\x07"
    context = e.opened.engine.election
    choices = [list(choice) for choice in CHOICES[1]]
    unit, style = 1, 0
    key = e.opened.roll.row(1)[0]
    unsigned = receipts.create_unsigned(context, 1, 11, unit, key, style, seed, choices)
    contests = parse_json(e.manifest.body)["contests"]
    value = {
        "ballot": unsigned.hex(), "choices": choices, "context": context.context.hex(), "contests": contests[:2],
        "format": receipts.AUDIT_FORMAT, "key": context.key.hex(), "public_key": key.hex(), "roll_index": 1, "seed": seed.hex(),
        "seen": 11, "style": style, "unit": unit,
    }  # fmt: skip
    return canonical_json(value | change)


def test_an_audited_ballot_is_derived_again_byte_for_byte() -> None:
    found = receipts.read_audited(audited())
    assert found.same
    assert found.votes() == {"question": ["no"], "mayor": ["blank"]}
    assert receipts.differences(found, case_of(honest())) == []


def test_a_device_that_encrypted_another_choice_is_caught() -> None:
    other = receipts.read_audited(audited(choices=[[1, 0], [0, 0, 0, 1]]))
    assert not other.same


@pytest.mark.parametrize(
    "member, value, named",
    [
        ("key", base(7).hex(), "election key"),
        ("context", "00" * 64, "context"),
        ("roll_index", 0, "row of the roll"),
        ("roll_index", 99, "row of the roll"),
        ("unit", 2, "style of the unit"),
    ],
)
def test_a_device_that_used_another_election_is_caught_by_the_record(member: str, value: Any, named: str) -> None:
    assert named in receipts.differences(receipts.read_audited(audited(**{member: value})), case_of(honest()))


@pytest.mark.parametrize(
    "change",
    [
        {"format": "ballotboard/audited-ballot/v2"},
        {"choices": [[1, 1], [0, 0, 0, 1]]},
        {"choices": [[1, 0]]},
        {"choices": [1, 2]},
        {"choices": [[1, True], [0, 0, 0, 1]]},
        {"style": 70_000},
        {"roll_index": -1},
        {"seed": "00"},
        {"key": "00" * 32},
        {"public_key": "ff" * 32},
        {"contests": []},
        {"extra": 1},
    ],
)
def test_a_file_that_is_no_audited_ballot_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(Malformed):
        receipts.read_audited(audited(**change))


# ---------------------------------------------------------------- the commands


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments))


def test_receipt_files_are_checked_offline(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    good.write_bytes(receipt_of("row 1").body())
    bad.write_bytes(replace(receipt_of("row 0"), position=3).body() + b"\n")
    assert run("receipt", str(good)).exit_code == 0
    found = run("receipt", str(good), str(bad), "--json")
    assert found.exit_code == 1
    assert [(value["ok"], value["status"]) for value in json.loads(found.stdout)] == [(True, "recorded"), (False, None)]
    text = run("receipt", str(good), str(bad)).stdout
    assert "good.json: RECORDED AS CAST" in text and "bad.json: DOES NOT VERIFY" in text


@pytest.mark.parametrize("content", [b"", b"{}", b"not json", b"\xff", b'{"format":"ballotboard/receipt/v2"}'])
@pytest.mark.parametrize("command", ["receipt", "audited-ballot"])
def test_a_wrong_file_cannot_run(tmp_path: Path, content: bytes, command: str) -> None:
    path = tmp_path / "wrong.json"
    path.write_bytes(content)
    assert isinstance(run(command, str(path)).exception, BallotboardError)


def test_an_audited_ballot_on_the_command_line(tmp_path: Path) -> None:
    path = tmp_path / "audited.json"
    path.write_bytes(audited())
    found = run("audited-ballot", str(path))
    assert found.exit_code == 0
    assert "question: no" in found.stdout and "is not known offline" in found.stdout
    path.write_bytes(audited(choices=[[1, 0], [0, 0, 0, 1]]))
    found = run("audited-ballot", str(path))
    assert found.exit_code == 1 and "DOES NOT VERIFY" in found.stdout


def test_promises_are_taken_from_all_files_that_hold_them(tmp_path: Path) -> None:
    path, promise = tmp_path / "file.json", {"promise": {"ballot": "00"}, "signature": "00"}
    evidence = {"format": "ballotboard/evidence/v1", "statements": [promise, {"refusal": {}, "signature": "00"}]}
    for value in (promise, [promise], evidence, {"format": "ballotboard/receipt/v1", "promise": promise}):
        path.write_text(json.dumps(value))
        assert read_promises(path) == [promise]


@pytest.mark.parametrize(
    "text", ["", "[]", "null", '{"format":"ballotboard/receipt/v1","promise":null}', '{"statements":[]}']
)
def test_a_file_without_a_promise_cannot_run(tmp_path: Path, text: str) -> None:
    path = tmp_path / "file.json"
    path.write_text(text)
    with pytest.raises(BallotboardError):
        read_promises(path)


def test_checks_can_be_listed_and_explained() -> None:
    assert "E02  evidence" in run("checks").stdout
    assert "It proves" in run("explain", "e02").stdout
    assert isinstance(run("explain", "X99").exception, BallotboardError)


def test_the_totals_that_the_fixture_promises_are_those_of_its_choices() -> None:
    counted = [CHOICES[row] for row in (0, 1, 3, 6)]
    question = [sum(choices[0][option] for choices in counted) for option in (0, 1)]
    assert question == COUNTED_TOTALS["question"]
