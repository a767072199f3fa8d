"""The booth: from a printed code and a choice to a ballot, a relayer's promise, and a receipt that proves the ballot is in the log.

    read_poll → find_voter → read_choices → fill → Filled.open, or Filled.cast → cast → await_receipt

Nothing that a relayer says is believed: promises and refusals are checked against the manifest's keys and kept as evidence, a receipt is
checked step by step, and its head is compared with the node's log. No choice, code or seed is kept, except the seed of an audited ballot.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from chain.console import print_time
from chain.log import ElectionLog
from protocol import merkle
from protocol.attachments import ROLL_ROW, Roll
from protocol.ballot import BallotRefused, Reason, create_unsigned, fingerprint, read_header, sign
from protocol.credential import SYMBOLS, read_code, secret_key
from protocol.election import OpenElection, of_kind, roll_state
from protocol.encoding import canonical_json, parse_json
from protocol.errors import BallotboardError
from protocol.group import ORDER, base
from protocol.manifest import Contest, Rule
from protocol.receipt import Promise, Receipt, ReceiptWrong, check_statement
from protocol.records import Kind, ballot_hash

AUDIT_FORMAT = "ballotboard/audited-ballot/v1"
STATEMENTS_FORMAT = "ballotboard/relayer-statements/v1"

TIMEOUT = 30.0
"""Seconds for one answer of a relayer before the next one is tried."""

POLL = 0.5
"""Seconds between questions whether a ballot is final: half of the shortest block time."""

CATCH_UP = 30.0
"""Seconds that our node may be behind the relayer's before its receipt is called wrong."""


class NotAccepted(BallotboardError):
    """No relayer has promised anything: the ballot is not cast."""


class PromiseBroken(BallotboardError):
    """The promised time has passed and the ballot is not in the log."""


@dataclass(frozen=True)
class Poll:
    """An open poll: the log as read, the election it opens, the roll with its changes, and which rows are revoked."""

    log: ElectionLog
    election: OpenElection
    roll: Roll
    revoked: Mapping[int, int]

    @property
    def seen(self) -> int:
        """The size of the log as the voter sees it, which goes into the ballot."""
        return self.log.head.size

    def contests(self, voter: Voter) -> tuple[Contest, ...]:
        return self.election.styles[voter.style]

    def earlier_ballots(self, voter: Voter) -> int:
        """Ballot records in the log that name this voter's row: if there are some that the voter did not send, the code is known to somebody."""
        return sum(_names(record.body, voter.roll_index) for record in of_kind(self.log.records, Kind.BALLOT))


@dataclass(frozen=True)
class Voter:
    """A row of the roll, and the credential's secret if the code was given (else 0: enough to audit, not to cast)."""

    roll_index: int
    unit: int
    style: int
    public_key: bytes
    secret: int = 0


# ---------------------------------------------------------------- who votes what


def read_poll(log: ElectionLog) -> Poll:
    """Raises MissingRecord before the poll has opened, BallotboardError once it is closed."""
    election = log.open()
    if of_kind(log.records, Kind.CLOSE):
        raise BallotboardError("the poll is closed")
    state = roll_state(election, log.records)
    return Poll(log, election, state.roll, state.revoked)


def read_card(text: str) -> tuple[int, bytes]:
    """(serial, code) of `SERIAL-XXXXXXXXX-XXXXXXXXX-XXXXXXXXX`; hyphens and spaces do not matter. Raises WrongCode, BallotboardError."""
    symbols = text.replace("-", "").replace(" ", "")
    serial, code = symbols[: -SYMBOLS - 1], symbols[-SYMBOLS - 1 :]
    if not serial.isascii() or not serial.isdecimal():
        raise BallotboardError(
            f"a card's code is its number, a hyphen, and {SYMBOLS + 1} symbols in three groups: type all of it, with the number in front"
        )
    return int(serial), read_code(code)


def find_voter(poll: Poll, card: str) -> Voter:
    """The voter whose card this is; of two registrars both cards, with + between. Raises BallotboardError where the roll has no such key, or it was revoked."""
    secret = card_secret(card, poll.election.roll_record.nonce)
    key = base(secret)
    start = poll.roll.data.find(key)
    while start >= 0 and start % ROLL_ROW:
        start = poll.roll.data.find(key, start + 1)
    if start < 0:
        raise BallotboardError(
            "no row of the roll has this card's key: the card is of another election, its number is mistyped, or it is one of two parts"
            " (type both, with + between)"
        )
    return voter_of_row(poll, start // ROLL_ROW, secret)


def card_secret(card: str, nonce: bytes) -> int:
    """sk of a card, or sk_a + sk_b of its two parts `SERIAL-CODE+SERIAL-CODE` (docs/protocol.md, section 4). Raises WrongCode, BallotboardError."""
    parts = [read_card(part) for part in card.split("+")]
    if len(parts) > 2 or len({serial for serial, _ in parts}) > 1 or len(set(parts)) < len(parts):
        raise BallotboardError("the two parts of a code have one number and different codes: one is on each card")
    return sum(secret_key(code, nonce, serial) for serial, code in parts) % ORDER


def voter_of_row(poll: Poll, roll_index: int, secret: int = 0) -> Voter:
    """The voter of a row of the roll; the number is on the card's public part."""
    if not 0 <= roll_index < len(poll.roll):
        raise BallotboardError(f"the roll has {len(poll.roll)} rows, and no row {roll_index}")
    if roll_index in poll.revoked:
        raise BallotboardError("this card was revoked, its ballots do not count: ask the registrar for the new one")
    key, unit = poll.roll.row(roll_index)
    return Voter(roll_index, unit, poll.roll.style(unit), key, secret)


def read_choices(contests: Sequence[Contest], wanted: Sequence[str]) -> list[list[int]]:
    """0/1 per option, per contest, from texts `contest=Option`; with one contest just `Option`. A contest is named by id or title.

    Raises BallotboardError naming the options, or what the rule allows.
    """
    choices = [[0] * contest.k for contest in contests]
    for text in wanted:
        place, option = _contest(contests, text)
        contest = contests[place]
        if option not in contest.options:
            raise BallotboardError(
                f"{contest.id} has no option {option!r}; the options are: {', '.join(contest.options)}"
            )
        choices[place][contest.options.index(option)] = 1
    for contest, choice in zip(contests, choices, strict=True):
        options = ", ".join(contest.options)
        if contest.rule == Rule.ONE_OF_K and sum(choice) != 1:
            raise BallotboardError(f"{contest.id}: choose exactly one of: {options}")
        if contest.rule == Rule.UP_TO_L and sum(choice) > contest.limit:
            raise BallotboardError(f"{contest.id}: choose at most {contest.limit} of: {options}")
    return choices


# ---------------------------------------------------------------- the ballot


@dataclass(frozen=True)
class Filled:
    """An encrypted ballot that is fixed, and neither cast nor opened: its fingerprint is shown before the voter says which (Benaloh).

    A ballot that was opened must not be signed: whoever has the seed can prove how it was filled.
    """

    poll: Poll
    voter: Voter
    choices: Sequence[Sequence[int]]
    seed: bytes
    seen: int
    unsigned: bytes

    @property
    def fingerprint(self) -> bytes:
        """SHA-256 of the unsigned ballot: what an audit re-derives."""
        return fingerprint(self.unsigned)

    def cast(self) -> bytes:
        """The signed ballot, to be sent."""
        context = self.poll.election.engine.election
        return sign(context, self.voter.unit, self.voter.style, self.voter.secret, self.seed, self.unsigned)

    def open(self) -> bytes:
        """The audited ballot: canonical JSON with all that re-derives it elsewhere. It is never signed, so it cannot be cast."""
        context, voter = self.poll.election.engine.election, self.voter
        contests = parse_json(self.poll.election.manifest.body)["contests"]
        return canonical_json(
            {
                "ballot": self.unsigned.hex(), "choices": self.choices, "context": context.context.hex(),
                "contests": [contests[place] for place in self.poll.election.manifest.styles[voter.style]],
                "format": AUDIT_FORMAT, "key": context.key.hex(), "public_key": voter.public_key.hex(), "roll_index": voter.roll_index,
                "seed": self.seed.hex(), "seen": self.seen, "style": voter.style, "unit": voter.unit,
            }
        )  # fmt: skip


def fill(poll: Poll, voter: Voter, choices: Sequence[Sequence[int]]) -> Filled:
    """A ballot from a fresh seed."""
    context, seed, seen = poll.election.engine.election, secrets.token_bytes(32), poll.seen
    unsigned = create_unsigned(
        context, voter.roll_index, seen, voter.unit, voter.public_key, voter.style, seed, choices
    )
    return Filled(poll, voter, choices, seed, seen, unsigned)


# ---------------------------------------------------------------- casting


class Evidence:
    """A file with a ballot and everything that relayers signed about it: proof, if a promise is broken or a refusal was wrong.

    It is written before the ballot is sent, so that nothing is sent whose promise could not be kept; `forget` removes it if nobody signed anything.
    """

    def __init__(self, path: Path, ballot: bytes) -> None:
        self.path, self.ballot = path, ballot
        self.statements: list[dict[str, Any]] = []
        self._write()

    def add(self, statement: dict[str, Any]) -> None:
        self.statements.append(statement)
        self._write()

    def forget(self) -> None:
        if not self.statements:
            self.path.unlink()

    def _write(self) -> None:
        value = {"ballot": self.ballot.hex(), "format": STATEMENTS_FORMAT, "statements": self.statements}
        try:
            self.path.write_bytes(canonical_json(value))
        except OSError as error:
            raise BallotboardError(f"cannot write {self.path}: {error.strerror}") from error


@dataclass(frozen=True)
class Accepted:
    """A relayer has promised: where, what, and the promise as it was signed."""

    relayer: str
    promise: Promise
    signed: dict[str, Any]


def cast(poll: Poll, body: bytes, relayers: Sequence[str], evidence: Evidence) -> Accepted:
    """Sends the ballot to the relayers in turn until one promises. Every signed statement is checked and kept.

    Raises NotAccepted with what each of them said.
    """
    said = []
    for relayer in relayers:
        try:
            return _offer(poll, body, relayer, evidence)
        except BallotboardError as error:
            said.append(f"{relayer}: {error}")
    evidence.forget()
    if not said:
        raise NotAccepted("your ballot is not cast: no relayer is known, name one with --relayer URL")
    raise NotAccepted("your ballot is not cast. " + "; ".join(said))


def await_receipt(poll: Poll, body: bytes, accepted: Accepted) -> Receipt:
    """Waits until the ballot is in the log, and gives a checked receipt: the relayer's, or one made from the node's log if that relayer is silent.

    Raises PromiseBroken, or ReceiptWrong if the relayer's receipt is not.
    """
    log, digest, by = poll.log, ballot_hash(body), accepted.promise.by
    board = log.reader.board
    end = time.monotonic() + max(0, by - board.now()) + CATCH_UP
    while True:
        answer = _ask(accepted.relayer, digest)
        if answer and answer.get("state") == "final" and answer.get("receipt"):
            receipt = Receipt.parse(canonical_json(answer["receipt"]))
            check_receipt(log, body, receipt)
            return receipt
        late = board.now() > by
        if late or answer is None:
            log.extend()
            position = next((record.position for record in log.records if record.entry.body_hash == digest), None)
            if position is not None:
                return receipt_from_log(log, position, accepted.signed)
        if late:
            raise PromiseBroken(
                f"{accepted.relayer} promised this ballot a place in the log by {print_time(by)}, and it is not there: the evidence file"
                " proves it. Vote again, through another relayer"
            )
        if time.monotonic() > end:
            raise BallotboardError(
                "the chain's time stands still: the ballot is promised and not in the log, look for it later"
            )
        time.sleep(POLL)


def check_receipt(log: ElectionLog, body: bytes, receipt: Receipt) -> None:
    """Raises ReceiptWrong unless the receipt proves that `body` is in the log that our node shows."""
    manifest = log.manifest
    board = (manifest.chain_id, log.contract, manifest.election_id)
    if (receipt.chain_id, receipt.contract, receipt.election_id) != board:
        raise ReceiptWrong("the receipt is of another election")
    if receipt.ballot != body:
        raise ReceiptWrong("the receipt is of another ballot")
    if receipt.promise is not None:
        check_statement(receipt.promise, manifest)
    receipt.check()
    end = time.monotonic() + CATCH_UP
    while len(log.records) < receipt.head.size:
        if time.monotonic() > end:
            raise ReceiptWrong(
                f"the receipt's head has {receipt.head.size} records and the node's log {len(log.records)}"
            )
        log.extend()
        time.sleep(POLL)
    if merkle.root(log.leaves[: receipt.head.size]) != receipt.head.root:
        raise ReceiptWrong(
            "the receipt's head is not that of the node's log: the relayer shows you another log than the node"
        )
    if log.block_of(receipt.position) != (receipt.block_number, receipt.block_hash):
        raise ReceiptWrong("the receipt names another block than the node")


def receipt_from_log(log: ElectionLog, position: int, promise: dict[str, Any] | None) -> Receipt:
    """A receipt of the ballot at `position`, made without any relayer."""
    record, (number, block_hash) = log.records[position], log.block_of(position)
    assert record.body is not None
    return Receipt(
        ballot=record.body, chain_id=log.manifest.chain_id, contract=log.contract, election_id=log.manifest.election_id,
        block_number=number, block_hash=block_hash, entry=record.entry, head=log.head, position=position,
        proof=tuple(merkle.inclusion_proof(log.leaves, position)), promise=promise,
    )  # fmt: skip


# ---------------------------------------------------------------- helpers


def _contest(contests: Sequence[Contest], text: str) -> tuple[int, str]:
    """(place of the contest, option) that a choice names."""
    for place, contest in enumerate(contests):
        for name in (contest.id, contest.title):
            if text.startswith(name + "="):
                return place, text[len(name) + 1 :]
    if len(contests) == 1:
        return 0, text
    names = ", ".join(contest.id for contest in contests)
    raise BallotboardError(f"{text!r} names no contest of this ballot: write CONTEST=Option; the contests are: {names}")


def _offer(poll: Poll, body: bytes, relayer: str, evidence: Evidence) -> Accepted:
    """One relayer's promise; raises BallotboardError saying why there is none."""
    election = poll.election.manifest.election_id.hex()
    headers = {"Content-Type": "application/octet-stream", "Ballotboard-Election": election}
    try:
        answer = httpx.post(f"{relayer.rstrip('/')}/v1/ballots", content=body, headers=headers, timeout=TIMEOUT)
        value = answer.json()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise BallotboardError(f"no answer ({error})") from error
    if not isinstance(value, dict):
        raise BallotboardError(f"an answer that is none ({answer.status_code})")
    if answer.status_code != 202:
        if value.get("refusal"):
            _check_signed(poll, body, {"refusal": value["refusal"], "signature": value.get("signature")}, evidence)
        earlier = value.get("earlier")
        if value.get("reason") != "duplicate" or not isinstance(earlier, dict) or not earlier.get("promise"):
            raise BallotboardError(
                f"{value.get('reason', answer.status_code)}: {value.get('message', '')}{_judge(poll, body, value)}"
            )
        value = earlier["promise"]  # our first answer got lost on the way
    signed = {"promise": value.get("promise"), "signature": value.get("signature")}
    promise = _check_signed(poll, body, signed, evidence)
    windows = poll.election.manifest.windows
    if not isinstance(promise, Promise) or promise.by > windows.close_not_after + windows.append_grace:
        raise BallotboardError("what it promises is not a place in this log")
    return Accepted(relayer.rstrip("/"), promise, signed)


def _check_signed(poll: Poll, body: bytes, signed: dict[str, Any], evidence: Evidence) -> Any:
    """A statement about this ballot on this board, signed by a relayer of the manifest; kept. Raises BallotboardError."""
    statement = check_statement(signed, poll.election.manifest)
    about = (statement.ballot, statement.contract, statement.chain)
    if about != (ballot_hash(body), poll.log.contract, poll.election.manifest.chain_id):
        raise BallotboardError("what it signed is about another ballot or another board")
    evidence.add(signed)
    return statement


def _judge(poll: Poll, body: bytes, refused: dict[str, Any]) -> str:
    """What we know of a refusal that can be judged here."""
    if refused.get("reason") not in ("bad-proof", "malformed", "unknown-credential"):
        return ""
    if poll.election.engine.verify([body], poll.roll) == [Reason.VALID]:
        return " (the ballot is valid: the evidence file proves that the refusal is wrong)"
    return ""


def _ask(relayer: str, digest: bytes) -> dict[str, Any] | None:
    """What the relayer says of a ballot; None if it says nothing."""
    try:
        answer = httpx.get(f"{relayer}/v1/ballots/{digest.hex()}", timeout=TIMEOUT)
        value = answer.json()
    except (httpx.HTTPError, ValueError):
        return None
    return value if answer.status_code == 200 and isinstance(value, dict) else None


def _names(body: bytes | None, roll_index: int) -> bool:
    try:
        return body is not None and read_header(body)[0] == roll_index
    except BallotRefused:
        return False
