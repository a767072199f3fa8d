"""Promises, refusals and receipts (docs/protocol.md, section 11)."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from typing import Any

from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from protocol import merkle
from protocol.ballot import read_header
from protocol.encoding import Reader, canonical_json, members, parse_json, u8, u64, unhex
from protocol.errors import BallotboardError, Malformed
from protocol.manifest import Manifest, RoleKind
from protocol.records import Entry, Kind, LogHead

RECEIPT_FORMAT = "ballotboard/receipt/v1"
PROMISE_FORMAT = "ballotboard/promise/v1"
REFUSAL_FORMAT = "ballotboard/refusal/v1"

CODE_PREFIX = "BBR:"
"""How the text of a receipt's code begins."""

CODE_VERSION = 1
"""The first byte of what is in a code."""

CHECKSUM = 4
"""Bytes of SHA-256 at the end of a code: a misread one is told from a forged one, with one chance in 2^32 to err."""

MAX_CODE = 3_522
"""Digits after the prefix: of 64 proof nodes, more than a log of 2^64 records needs, and less than the largest QR code holds."""


class ReceiptWrong(BallotboardError):
    """A receipt that proves nothing, and which step fails."""


@dataclass(frozen=True, slots=True)
class Promise:
    """A relayer's word: the ballot with this hash will be in the log by `by`. `head` is the log it saw."""

    ballot: bytes
    by: int
    contract: bytes
    chain: int
    head: LogHead
    relayer: int

    def body(self) -> bytes:
        return canonical_json(
            {
                "ballot": self.ballot.hex(), "by": self.by, "chain": self.chain, "contract": self.contract.hex(),
                "format": PROMISE_FORMAT, "head": {"root": self.head.root.hex(), "size": self.head.size}, "relayer": self.relayer,
            }
        )  # fmt: skip

    @staticmethod
    def parse(value: Any) -> Promise:
        members(value, "promise", ballot=str, by=int, chain=int, contract=str, format=str, head=dict, relayer=int)
        if value["format"] != PROMISE_FORMAT:
            raise Malformed("promise.format", f"expected {PROMISE_FORMAT}")
        return Promise(
            unhex(value["ballot"], 32, "promise.ballot"), value["by"], unhex(value["contract"], 20, "promise.contract"),
            value["chain"], parse_head(value["head"], "promise.head"), value["relayer"],
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Refusal:
    """A relayer's signed no: `bad-proof` on a ballot that is valid is evidence against the relayer."""

    ballot: bytes
    contract: bytes
    chain: int
    reason: str
    relayer: int
    time: int

    def body(self) -> bytes:
        return canonical_json(
            {
                "ballot": self.ballot.hex(), "chain": self.chain, "contract": self.contract.hex(), "format": REFUSAL_FORMAT,
                "reason": self.reason, "relayer": self.relayer, "time": self.time,
            }
        )  # fmt: skip

    @staticmethod
    def parse(value: Any) -> Refusal:
        members(value, "refusal", ballot=str, chain=int, contract=str, format=str, reason=str, relayer=int, time=int)
        if value["format"] != REFUSAL_FORMAT:
            raise Malformed("refusal.format", f"expected {REFUSAL_FORMAT}")
        return Refusal(
            unhex(value["ballot"], 32, "refusal.ballot"), unhex(value["contract"], 20, "refusal.contract"),
            value["chain"], value["reason"], value["relayer"], value["time"],
        )  # fmt: skip


def signed_json(statement: Promise | Refusal, key: SigningKey) -> bytes:
    """JSON `{"promise": …, "signature": …}` or `{"refusal": …, "signature": …}`; the statement in it is byte for byte what is signed."""
    name = "promise" if isinstance(statement, Promise) else "refusal"
    body = statement.body()
    return b'{"%b":%b,"signature":"%b"}' % (name.encode(), body, key.sign(_tag(name) + body).signature.hex().encode())


def sign_statement(statement: Promise | Refusal, key: SigningKey) -> dict[str, Any]:
    """The value of `signed_json`."""
    return json.loads(signed_json(statement, key))


def check_statement(value: Any, manifest: Manifest) -> Promise | Refusal:
    """The promise or refusal in `value`, its signature checked against the manifest's relayer. Raises Malformed."""
    name = "promise" if isinstance(value, dict) and "promise" in value else "refusal"
    members(value, "statement", **{name: dict, "signature": str})
    statement = Promise.parse(value["promise"]) if name == "promise" else Refusal.parse(value["refusal"])
    if not 0 <= statement.relayer < len(manifest.roles) or manifest.roles[statement.relayer].kind != RoleKind.RELAYER:
        raise Malformed(f"{name}.relayer", "is no relayer of the manifest")
    try:
        key = VerifyKey(manifest.roles[statement.relayer].key)
        key.verify(_tag(name) + statement.body(), unhex(value["signature"], 64, f"{name}.signature"))
    except BadSignatureError as error:
        raise Malformed(f"{name}.signature", "is not the relayer's") from error
    return statement


@dataclass(frozen=True)
class CompactReceipt:
    """What of a receipt fits into a QR code: the log entry, which names the ballot by its hash, and the proof that it is in the tree of `head`."""

    chain_id: int
    contract: bytes
    election_id: bytes
    entry: Entry
    head: LogHead
    position: int
    proof: tuple[bytes, ...]

    @property
    def ballot_hash(self) -> bytes:
        return self.entry.body_hash

    def check(self) -> None:
        """Raises ReceiptWrong at the first step that fails: entry → inclusion → head."""
        _check_inclusion(self)

    def code(self) -> str:
        """The text of the QR code: CODE_PREFIX and base32, all of it in the alphabet that QR codes pack tightly."""
        data = u8(CODE_VERSION) + u64(self.chain_id) + self.contract + self.election_id + self.entry.encode()
        data += u64(self.position) + self.head.body() + b"".join(self.proof)
        return CODE_PREFIX + base64.b32encode(data + _checksum(data)).decode().rstrip("=")

    @staticmethod
    def read_code(text: str) -> CompactReceipt:
        """The inverse of `code`; white space and lower case, which mail and keyboards bring in, do not matter. Raises Malformed."""
        field, text = "receipt-code", "".join(text.split()).upper()
        if not text.startswith(CODE_PREFIX):
            raise Malformed(field, f"does not begin with {CODE_PREFIX}")
        digits = text.removeprefix(CODE_PREFIX)
        if len(digits) > MAX_CODE:
            raise Malformed(field, "is longer than any")
        try:
            data = base64.b32decode(digits + "=" * (-len(digits) % 8))
        except ValueError as error:
            raise Malformed(field, "has characters that no code has, or was cut short") from error
        reader, proven = Reader(data[:-CHECKSUM], field), data[:-CHECKSUM]
        if data[-CHECKSUM:] != _checksum(proven):
            raise Malformed(field, "was misread or cut short: its checksum is wrong")
        if reader.integer(1, "version") != CODE_VERSION:
            raise Malformed(f"{field}.version", f"expected {CODE_VERSION}: a newer program may read it")
        receipt = CompactReceipt(
            chain_id=reader.integer(8, "chain"), contract=reader.take(20, "contract"), election_id=reader.take(32, "election"),
            entry=Entry.parse(reader.take(40, "entry")), position=reader.integer(8, "position"),
            head=LogHead(reader.integer(8, "size"), reader.take(32, "root")), proof=_nodes(reader),
        )  # fmt: skip
        if receipt.code() != text:
            raise Malformed(field, "is not the one way to write it")
        return receipt


@dataclass(frozen=True)
class Receipt:
    """A voter's receipt: the ballot, its log entry, and the proof that the entry is in the tree of `head`."""

    ballot: bytes
    chain_id: int
    contract: bytes
    election_id: bytes
    block_number: int
    block_hash: bytes
    entry: Entry
    head: LogHead
    position: int
    proof: tuple[bytes, ...]
    promise: dict[str, Any] | None

    @property
    def ballot_hash(self) -> bytes:
        return hashlib.sha256(self.ballot).digest()

    def body(self) -> bytes:
        return canonical_json(
            {
                "ballot": self.ballot.hex(),
                "block": {"hash": self.block_hash.hex(), "number": self.block_number},
                "board": {"chain": self.chain_id, "contract": self.contract.hex(), "election": self.election_id.hex()},
                "entry": self.entry.encode().hex(), "format": RECEIPT_FORMAT,
                "head": {"root": self.head.root.hex(), "size": self.head.size},
                "position": self.position, "promise": self.promise, "proof": [node.hex() for node in self.proof],
                "roll_index": read_header(self.ballot)[0],
            }
        )  # fmt: skip

    @staticmethod
    def parse(body: bytes) -> Receipt:
        value = members(
            parse_json(body, "receipt"), "receipt", ballot=str, block=dict, board=dict, entry=str, format=str, head=dict, position=int,
            promise=(dict, type(None)), proof=list, roll_index=int,
        )  # fmt: skip
        if value["format"] != RECEIPT_FORMAT:
            raise Malformed("receipt.format", f"expected {RECEIPT_FORMAT}")
        board = members(value["board"], "receipt.board", chain=int, contract=str, election=str)
        block = members(value["block"], "receipt.block", hash=str, number=int)
        receipt = Receipt(
            ballot=unhex(value["ballot"], len(value["ballot"]) // 2, "receipt.ballot"),
            chain_id=board["chain"], contract=unhex(board["contract"], 20, "receipt.board.contract"),
            election_id=unhex(board["election"], 32, "receipt.board.election"),
            block_number=block["number"], block_hash=unhex(block["hash"], 32, "receipt.block.hash"),
            entry=Entry.parse(unhex(value["entry"], 40, "receipt.entry")), head=parse_head(value["head"], "receipt.head"),
            position=value["position"], promise=value["promise"],
            proof=tuple(unhex(node, 32, "receipt.proof") for node in value["proof"]),
        )  # fmt: skip
        if read_header(receipt.ballot)[0] != value["roll_index"]:
            raise Malformed("receipt.roll_index", "is not the ballot's")
        return receipt

    def check(self) -> None:
        """Raises ReceiptWrong at the first step that fails: ballot → entry → inclusion → head."""
        if self.entry.body_hash != self.ballot_hash:
            raise ReceiptWrong("the ballot's hash is not the one in the log entry: this is another ballot")
        _check_inclusion(self)

    def compact(self) -> CompactReceipt:
        """What of it fits into a QR code. Raises ReceiptWrong where it proves nothing."""
        self.check()
        if not 0 <= self.chain_id < 2**64:
            raise ReceiptWrong(f"there is no chain {self.chain_id}")
        return CompactReceipt(
            self.chain_id, self.contract, self.election_id, self.entry, self.head, self.position, self.proof
        )


def parse_head(value: Any, field: str) -> LogHead:
    members(value, field, root=str, size=int)
    return LogHead(value["size"], unhex(value["root"], 32, f"{field}.root"))


def _tag(name: str) -> bytes:
    return f"ballotboard/v1/{name}".encode()


def _check_inclusion(receipt: Receipt | CompactReceipt) -> None:
    if receipt.entry.kind != Kind.BALLOT:
        raise ReceiptWrong("the entry is not a ballot's")
    if not merkle.verify_inclusion(
        receipt.entry.leaf(), receipt.position, receipt.head.size, receipt.proof, receipt.head.root
    ):
        raise ReceiptWrong(
            "the proof does not lead from the log entry to the head: the entry is not shown to be in this log"
        )


def _checksum(data: bytes) -> bytes:
    return hashlib.sha256(_tag("receipt-code") + data).digest()[:CHECKSUM]


def _nodes(reader: Reader) -> tuple[bytes, ...]:
    nodes = []
    while reader.left:
        nodes.append(reader.take(32, "proof"))
    return tuple(nodes)
