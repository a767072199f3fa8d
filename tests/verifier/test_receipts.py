"""What voters hold, and what it proves: receipts offline and against a log, audited ballots."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from chain.evidence import verify
from protocol import merkle
from protocol.encoding import canonical_json, parse_json
from protocol.errors import BallotboardError, Malformed
from protocol.group import base
from protocol.receipt import CompactReceipt, Receipt, ReceiptWrong
from protocol.records import Entry, LogHead
from tests.chain import evidence_world
from tests.tamper.builder import CHAIN_ID, CHOICES, CONTRACT, COUNTED_TOTALS, Election, hold, reseal
from tests.tamper.recipes import changed, claims, honest
from verifier import receipts
from verifier.case import Case
from verifier.cli import app, read_promises
from verifier.receipts import Fate
from voter.receipt_cli import app as receipt_app


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


# ---------------------------------------------------------------- receipts as codes


def test_a_code_says_of_a_ballot_what_the_file_says_offline_and_against_a_log() -> None:
    names = list(honest().cast)
    codes = [CompactReceipt.read_code(receipt_of(name).compact().code()) for name in names]
    assert receipts.compare(codes, case_of(honest())) == [fate(name) for name in names]
    lines = " ".join(receipts.offline(codes[0], codes))
    assert codes[0].ballot_hash.hex() in lines and codes[0].head.root.hex() in lines and "roll index is" not in lines
    for wrong, why in (
        (receipt_of("row 1", hold(vote=lambda e: (Election.vote(e), e.append_ballots(2190, [e.cast["row 3"]])))).compact(), "two logs"),
        (replace(codes[0], election_id=bytes(32)), "another election"),
    ):  # fmt: skip
        [found] = receipts.compare([wrong], case_of(honest()))
        assert isinstance(found, ReceiptWrong) and why in str(found)


def test_validators_evidence_goes_with_a_code_as_with_the_file(network: Signed) -> None:
    e, world = network
    one = receipt_of("row 1", e).compact()
    assert "Validators with 4 of 4" in receipts.sealed(one, world.head().body(), e.manifest.body)
    with pytest.raises(ReceiptWrong, match="another log"):
        receipts.sealed(receipt_of("row 1", e, 20).compact(), world.head().body(), e.manifest.body)


def test_a_file_a_drawing_a_picture_and_the_text_of_its_code_verify_alike(tmp_path: Path) -> None:
    path = tmp_path / "receipt.json"
    path.write_bytes(receipt_of("row 1").body())
    drawn = [tmp_path / f"receipt.{kind}" for kind in ("svg", "png")]
    for one in drawn:
        made = CliRunner().invoke(receipt_app, ["qr", str(path), "--out", str(one), "--json"])
        assert made.exit_code == 0, made.output
    code = json.loads(made.stdout)["code"]
    typed = tmp_path / "code.txt"
    typed.write_text("\n".join(code[i : i + 60] for i in range(0, len(code), 60)).lower())
    assert CliRunner().invoke(receipt_app, ["qr", str(path)]).stdout.strip() == code
    found = run("receipt", str(path), *map(str, drawn), code, str(typed), "--json")
    values = json.loads(found.stdout)
    assert found.exit_code == 0 and {value["ok"] for value in values} == {True}
    assert len({(value["ballot"], value["position"]) for value in values}) == 1
    assert [value["roll_index"] for value in values] == [1, None, None, None, None]
    forged = replace(receipt_of("row 1").compact(), position=3).code()
    assert run("receipt", forged).exit_code == 1


def test_what_cannot_be_drawn_or_read_is_said(tmp_path: Path) -> None:
    path = tmp_path / "receipt.json"
    path.write_bytes(receipt_of("row 1").body())
    for arguments, why in ((["qr", str(path), "--out", "x.gif"], "end the name in .svg, .png, .pdf"), (["qr", str(tmp_path / "none")], "cannot read")):  # fmt: skip
        assert why in str(CliRunner().invoke(receipt_app, arguments).exception)
    two = tmp_path / "two.svg"
    two.write_text(
        f"<svg><desc>{receipt_of('row 1').compact().code()} {receipt_of('row 3').compact().code()}</desc></svg>"
    )
    two.with_suffix(".pdf").write_bytes(b"%PDF-1.7")
    assert "for printing" in str(run("receipt", str(two.with_suffix(".pdf"))).exception)
    assert "the codes of 2 receipts" in str(run("receipt", str(two)).exception)


# ---------------------------------------------------------------- receipts with the validators' signatures


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> tuple[Election, evidence_world.World]:
    """An election on four validators up to its close, and the block with its head that they sign."""
    validators = evidence_world.World().validators

    class Network(Election):
        def manifest_value(self) -> dict[str, Any]:
            value = super().manifest_value()
            named = [{"key": v.key.hex(), "power": v.power} for v in validators]
            value["chain"] |= {"engine": "cometbft", "validators": named}
            return value

    e = hold(Network, until="close")
    monkeypatch.setattr(evidence_world, "BOARD", CONTRACT)
    monkeypatch.setattr(evidence_world, "LEAVES", [record.entry.leaf() for record in e.records()])
    return e, evidence_world.World(chain_id=CHAIN_ID, size=len(e.drafts))


Signed = tuple[Election, evidence_world.World]


def test_signatures_of_the_validators_are_checked_offline(network: Signed, tmp_path: Path) -> None:
    e, world = network
    one, proof, manifest = receipt_of("row 1", e), world.head().body(), e.manifest.body
    assert "Validators with 4 of 4 power signed for it in block 999" in receipts.sealed(one, proof, manifest)
    whole, alone = tmp_path / "whole.json", tmp_path / "alone.json"
    parts = {
        name: json.loads(data) for name, data in (("receipt", one.body()), ("evidence", proof), ("manifest", manifest))
    }
    whole.write_text(json.dumps({"state": "final", **parts}, indent=1))
    alone.write_bytes(one.body())
    (tmp_path / "proof").write_bytes(proof)
    (tmp_path / "manifest").write_bytes(manifest)
    more = ["--evidence", str(tmp_path / "proof"), "--manifest", str(tmp_path / "manifest")]
    for arguments in ([str(whole)], [str(alone), *more], [str(alone), str(whole), *more]):
        found = run("receipt", *arguments, "--json")
        assert found.exit_code == 0
        assert {value["signed"] for value in json.loads(found.stdout)} == {True}


def test_signatures_that_were_not_checked_are_never_said_to_hold(network: Signed, tmp_path: Path) -> None:
    e, world = network
    path = tmp_path / "receipt.json"
    path.write_bytes(
        canonical_json(
            {"receipt": parse_json(receipt_of("row 1", e).body()), "evidence": parse_json(world.head().body())}
        )
    )
    [value] = json.loads(run("receipt", str(path), "--json").stdout)
    assert value["signed"] is None and "NOT CHECKED" in value["detail"][-1]
    path.write_bytes(receipt_of("row 1", e).body())
    [value] = json.loads(run("receipt", str(path), "--json").stdout)
    assert value["signed"] is None and "came without the validators' signatures" in value["detail"][-1]


@pytest.mark.parametrize(
    "change, why",
    [
        (lambda e, world: (receipt_of("row 1", e, 20), world.head().body(), e.manifest.body), "another log"),
        (lambda e, world: (receipt_of("row 1", e), replace(world, signers=(0, 1)).head().body(), e.manifest.body), "more than 2/3"),
        (lambda e, world: (receipt_of("row 1", e), world.head().body(), honest().manifest.body), "the manifest is not that"),
        (lambda e, world: (replace(receipt_of("row 1", e), contract=bytes(20)), world.head().body(), e.manifest.body), "the proof lacks"),
        (lambda e, world: (replace(receipt_of("row 1", e), chain_id=1), world.head().body(), e.manifest.body), "another chain"),
        (lambda e, world: (receipt_of("row 1", e), b"{}", e.manifest.body), "do not show"),
    ],
)  # fmt: skip
def test_signatures_with_one_thing_wrong_prove_nothing(network: Signed, change: Any, why: str) -> None:
    with pytest.raises(ReceiptWrong, match=why):
        receipts.sealed(*change(*network))


def test_evidence_of_a_record_is_for_that_record_in_that_block(
    network: Signed, monkeypatch: pytest.MonkeyPatch
) -> None:
    e, world = network
    record = next(r for r in e.records() if r.body == e.cast["row 1"])
    monkeypatch.setattr(evidence_world, "FIRST", record.position)
    monkeypatch.setattr(evidence_world, "ENTRIES", [r.entry for r in e.records()])
    proof = world.record(record.position).body()
    found = verify(proof, e.manifest, CONTRACT)
    one = replace(receipt_of("row 1", e), block_number=found.block, block_hash=found.block_hash)
    assert "Validators with 4 of 4 power" in receipts.sealed(one, proof, e.manifest.body)
    for other, why in (
        (replace(one, position=one.position + 1), "another record"),
        (replace(one, block_number=7), "another block"),
    ):
        with pytest.raises(ReceiptWrong, match=why):
            receipts.sealed(other, proof, e.manifest.body)


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
    evidence = {
        "format": "ballotboard/relayer-statements/v1",
        "statements": [promise, {"refusal": {}, "signature": "00"}],
    }
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
