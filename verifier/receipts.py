"""What a voter holds: receipts of ballots that were cast, and ballots that were opened instead (Benaloh's audit).

A receipt proves that a ballot is in the log; it never shows the choice. With a node's log it also says what became of the ballot.
An audited ballot shows a choice, and is never cast; it proves that the device encrypted what its voter chose.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from chain import evidence
from protocol import election
from protocol.ballot import BallotContext, create_unsigned, fingerprint, read_header
from protocol.counting import CountedRow, Status
from protocol.encoding import canonical_json, members, parse_json, unhex
from protocol.errors import BallotboardError, Malformed
from protocol.group import parse_point
from protocol.manifest import Contest, Manifest, parse_contest
from protocol.receipt import CODE_PREFIX, CompactReceipt, Receipt, ReceiptWrong, check_statement
from protocol.records import Kind
from verifier import checks, pictures
from verifier.case import Case

AUDIT_FORMAT = "ballotboard/audited-ballot/v1"

LOG_CHECKS = ("C01", "C02", "C03", "I01", "I02", "I04", "I05", "E01", "K02")
"""What must hold of a node's log before a receipt is compared with it, and before it is said what became of the ballot."""

FATES = {
    Status.COUNTED: "counted",
    Status.SUPERSEDED: "not counted: record {} of the same voter stands",
    Status.REPLACED_BY_PAPER: "not counted: the voter was checked in for paper, record {}",
    Status.REVOKED: "not counted: the card was revoked, record {}",
    Status.DUPLICATE: "not counted again: it is the same as record {}",
    Status.INVALID: "not counted: it is not valid, reason {} of docs/protocol.md, section 5",
    Status.NOT_HELD: "not counted: its body was not to be had",
}


@dataclass(frozen=True)
class Fate:
    """What a log says of a receipt's ballot: its row of the counted set (None before the settlement), and the ballots of that roll index."""

    row: CountedRow | None
    attempts: tuple[int, ...]

    @property
    def text(self) -> str:
        if self.row is None:
            return "recorded; whether it counts is fixed by the settlement"
        return FATES[self.row.status].format(self.row.reference)


AnyReceipt = Receipt | CompactReceipt
"""A receipt's file, or what its QR code holds of it."""


def roll_index(receipt: AnyReceipt) -> int | None:
    """The row of the roll that the receipt's ballot names. A code has only the ballot's hash: None."""
    return read_header(receipt.ballot)[0] if isinstance(receipt, Receipt) else None


def offline(receipt: AnyReceipt, others: Sequence[AnyReceipt] = ()) -> list[str]:
    """What the receipt proves by itself, in sentences. Raises ReceiptWrong where it proves nothing. `others` were given with it."""
    receipt.check()
    index = roll_index(receipt)
    same = Counter(map(roll_index, others))[index] if index is not None else 0
    lines = [
        f"Your ballot {receipt.ballot_hash.hex()} is record {receipt.position} of the log, unchanged.",
        f"The log is that of election {receipt.election_id.hex()}, contract 0x{receipt.contract.hex()} on chain {receipt.chain_id}.",
        f"It had {receipt.head.size} records under the root {receipt.head.root.hex()}: compare the root with the public board's or another voter's.",
        f"The roll index is {index}: compare it with your card. On another card, this receipt is not yours."
        if index is not None
        else "It is yours if this is the ballot's hash that you were shown when you voted: a code has not the ballot itself.",
        "It does not show your choice, to you or anybody, nor that the ballot counts: a later vote, or one on paper, may stand instead.",
    ]
    if same > 1:
        lines.append(f"{same} of these receipts have this roll index: at most one of them counts.")
    return lines


@dataclass(frozen=True)
class Held:
    """What is in a receipt's file: the receipt and, where they came with it, the validators' evidence and the manifest (else empty)."""

    receipt: AnyReceipt
    evidence: bytes = b""
    manifest: bytes = b""


def read_file(data: bytes) -> Held:
    """A receipt, or an object with a `receipt` and perhaps its `evidence` and `manifest`, as relayers give it; what else it has is not looked
    at. Or the text of a receipt's code, or a picture of it. Raises Malformed, NoCode."""
    if data.lstrip()[: len(CODE_PREFIX)].upper() == CODE_PREFIX.encode():
        return Held(CompactReceipt.read_code(data.decode(errors="replace")))
    if data.startswith(b"%PDF-"):
        raise pictures.NoCode(
            "a PDF is for printing: give the file, the .svg or .png, a photo of the print, or the code's text"
        )
    if pictures.is_picture(data):
        return Held(read_codes(pictures.texts(data)))
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Malformed("receipt", f"not JSON: {error}") from error
    if not isinstance(value, dict) or "receipt" not in value:
        return Held(Receipt.parse(data.strip()))
    parts = {name: canonical_json(value[name]) for name in ("evidence", "manifest") if value.get(name) is not None}
    return Held(Receipt.parse(canonical_json(value["receipt"])), **parts)


def read_codes(texts: Sequence[str]) -> CompactReceipt:
    """The receipt among the texts of the codes in a picture. Raises Malformed, NoCode."""
    found = sorted({text for text in texts if text.startswith(CODE_PREFIX)})
    if len(found) != 1:
        raise pictures.NoCode(f"the picture shows the codes of {len(found)} receipts: give a picture of one")
    return CompactReceipt.read_code(found[0])


def sealed(receipt: AnyReceipt, proof: bytes, manifest: bytes) -> str:
    """What the validators' evidence proves of a receipt, offline, in a sentence. Raises ReceiptWrong where it does not prove it.

    The manifest is the one whose hash is the election id; the evidence is of the receipt's head, or of its record.
    """
    if hashlib.sha256(manifest).digest() != receipt.election_id:
        raise ReceiptWrong("the manifest is not that of the receipt's election")
    try:
        known = Manifest.parse(manifest)
        proven = evidence.verify(proof, known, receipt.contract)
    except BallotboardError as error:
        raise ReceiptWrong(f"the validators' signatures do not show that it was recorded: {error}") from error
    if known.chain_id != receipt.chain_id:
        raise ReceiptWrong("the receipt is of another chain than the manifest")
    if proven.entry is None:
        if proven.head != receipt.head:
            raise ReceiptWrong("the validators signed for another log than the receipt's")
    elif (proven.position, proven.entry) != (receipt.position, receipt.entry):
        raise ReceiptWrong("the validators signed for another record than the receipt's")
    elif isinstance(receipt, Receipt) and (proven.block, proven.block_hash) != (
        receipt.block_number,
        receipt.block_hash,
    ):
        raise ReceiptWrong("the validators signed for another block than the receipt's")
    return f"Validators with {proven.signed_power} of {proven.total_power} power signed for it in block {proven.block}: no single node made it up."


def compare(receipts: Sequence[AnyReceipt], case: Case) -> list[Fate | ReceiptWrong]:
    """For each receipt, which passed `offline`, what the log says of it, or why it is not of this log.

    Raises BallotboardError where the log itself does not stand.
    """
    for result in checks.run(case, [checks.CHECKS[id] for id in LOG_CHECKS]):
        if not result.good:
            raise BallotboardError(
                f"the node's log does not stand: {result.check.id} ({result.check.title}): {result.detail}"
            )
    log = case.log

    def index_of(receipt: AnyReceipt) -> int | None:
        """The ballot's row; for a code, the one that the log's ballot at its place names (whether it is that ballot is asked below)."""
        if isinstance(receipt, Receipt):
            return roll_index(receipt)
        at = log.ballots.below(receipt.position)
        there = at < len(log.ballots.positions) and log.ballots.positions[at] == receipt.position
        return log.ballots.rows[at] if there else None

    wanted = {index_of(receipt) for receipt in receipts}
    mine = [number for number, row in enumerate(log.ballots.rows) if row in wanted]
    rows: dict[int, CountedRow] = {}
    if case.of_kind(Kind.SETTLEMENT):
        # Other voters' ballots cannot change what became of these: theirs need not be verified here.
        related = [number for number in mine if number < case.votes]
        reasons = bytearray(case.votes)
        for number, reason in zip(
            related, case.open.engine.verify(log.some(related), case.roll_state.roll), strict=True
        ):
            reasons[number] = reason
        counted = case.count_with(reasons)
        rows = {log.ballots.positions[number]: counted.row(number) for number in related}
    roots = case.roots(receipt.head.size for receipt in receipts)
    found: list[Fate | ReceiptWrong] = []
    for receipt in receipts:
        try:
            _same_log(receipt, case, roots)
            index = index_of(receipt)
            attempts = tuple(log.ballots.positions[number] for number in mine if log.ballots.rows[number] == index)
            found.append(Fate(rows.get(receipt.position), attempts))
        except ReceiptWrong as wrong:
            found.append(wrong)
    return found


def _same_log(receipt: AnyReceipt, case: Case, roots: dict[int, bytes]) -> None:
    manifest, claims = case.manifest, case.claims
    if (receipt.chain_id, receipt.contract, receipt.election_id) != (
        manifest.chain_id,
        claims.contract,
        manifest.election_id,
    ):
        raise ReceiptWrong("the receipt is of another election than the node's")
    if roots.get(receipt.head.size) != receipt.head.root:
        raise ReceiptWrong(
            "the node's log does not extend the receipt's: two logs have been shown; keep the receipt, it is proof"
        )
    if isinstance(receipt, CompactReceipt):
        return
    if claims.blocks and claims.blocks[receipt.position] != (receipt.block_number, receipt.block_hash):
        raise ReceiptWrong("the record is in another block than the receipt says")
    if receipt.promise is not None:
        try:
            check_statement(receipt.promise, manifest)
        except Malformed as error:
            raise ReceiptWrong(f"the promise in the receipt is none: {error}") from error


# ---------------------------------------------------------------- audited ballots


@dataclass(frozen=True)
class Audited:
    """A ballot that was opened: what the device handed out, and what its seed and choices give."""

    given: bytes
    derived: bytes
    context: BallotContext
    contests: tuple[Contest, ...]
    choices: list[list[int]]
    roll_index: int
    unit: int
    style: int
    public_key: bytes

    @property
    def same(self) -> bool:
        return self.given == self.derived

    @property
    def fingerprint(self) -> bytes:
        """What the device must have shown before it knew whether it would be audited."""
        return fingerprint(self.derived)

    def votes(self) -> dict[str, list[str]]:
        """Contest id → the options chosen."""
        return {
            contest.id: [option for option, chosen in zip(contest.options, choice, strict=True) if chosen]
            for contest, choice in zip(self.contests, self.choices, strict=True)
        }


def read_audited(body: bytes) -> Audited:
    """Parse an audited ballot and derive it again. Raises Malformed for anything that is not one."""
    field = "audited-ballot"
    value = members(
        parse_json(body, field), field, ballot=str, choices=list, context=str, contests=list, format=str, key=str, public_key=str,
        roll_index=int, seed=str, seen=int, style=int, unit=int,
    )  # fmt: skip
    if value["format"] != AUDIT_FORMAT:
        raise Malformed(f"{field}.format", f"expected {AUDIT_FORMAT}")
    for name, bits in (("roll_index", 32), ("seen", 64), ("style", 16), ("unit", 32)):
        if not 0 <= value[name] < 2**bits:
            raise Malformed(f"{field}.{name}", f"needs {bits} bits")
    if not all(isinstance(choice, list) and all(type(v) is int for v in choice) for choice in value["choices"]):
        raise Malformed(f"{field}.choices", "must be lists of 0 and 1")
    contests = tuple(parse_contest(item, f"{field}.contests[{i}]") for i, item in enumerate(value["contests"]))
    style = value["style"]
    public_key, key = (
        parse_point(unhex(value[name], 32, f"{field}.{name}"), f"{field}.{name}") for name in ("public_key", "key")
    )
    context = BallotContext(unhex(value["context"], 64, f"{field}.context"), key, ((),) * style + (contests,))
    seed, given = (
        unhex(value["seed"], 32, f"{field}.seed"),
        unhex(value["ballot"], len(value["ballot"]) // 2, f"{field}.ballot"),
    )
    derived = create_unsigned(
        context, value["roll_index"], value["seen"], value["unit"], public_key, style, seed, value["choices"]
    )
    return Audited(
        given, derived, context, contests, value["choices"], value["roll_index"], value["unit"], style, public_key
    )


def differences(audited: Audited, case: Case) -> list[str]:
    """In what the audited ballot is not one of this board's election; empty when in nothing.

    A device that cheats could open a ballot made for a key of its own, so an audit is complete only with this.
    """
    opened = case.open
    roll = election.roll_state(opened, case.records).roll
    in_roll = audited.roll_index < len(roll)
    right = {
        "context": (audited.context.context, opened.context),
        "election key": (audited.context.key, opened.joint.key),
        "contests": (audited.contests, opened.styles[audited.style] if audited.style < len(opened.styles) else None),
        "style of the unit": (audited.style, roll.style(audited.unit)),
        "row of the roll": ((audited.public_key, audited.unit), roll.row(audited.roll_index) if in_roll else None),
    }
    return [name for name, (found, expected) in right.items() if found != expected]


def describe(audited: Audited) -> dict[str, Any]:
    """The audited ballot as a JSON object for people and programs."""
    return {
        "ok": audited.same, "fingerprint": audited.fingerprint.hex(), "given": fingerprint(audited.given).hex(), "votes": audited.votes(),
        "roll_index": audited.roll_index, "context": audited.context.context.hex(), "key": audited.context.key.hex(),
    }  # fmt: skip
