"""Reading the record from a node that may lie, lag or lose things: what observers use.

What a node returns is compared with itself wherever it says a thing twice, so that a fault is a ChainError and never a silent gap:

- logs come in strict order, from the board only, inside the range asked for; a page that fails is halved;
- a block's header has the hash that the logs name, follows its neighbour by parent hash, and the block's receipts hold the same logs;
- transactions are read as signed bytes, which must hash to their name, so not a byte of a ballot can be changed on the way;
- positions have no gap and no repetition, and at the end they are as many as the board's state says, under the same root.

Nothing of this is evidence of consensus: a node can invent a whole chain. The verifier rebuilds the tree and, where the engine
signs blocks, checks the signatures.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice, pairwise
from typing import Any, NamedTuple

import rlp
from eth_account import Account
from eth_hash.auto import keccak
from web3 import Web3

from chain.board import Board, BoardRole
from chain.contract import dynamic, selector, topic, word
from chain.deploy import Setup, parse_creation
from chain.errors import ChainError, NodeContradiction, RpcError
from chain.rpc import Address, batch, block, call, checksummed, readable_head, unhex
from protocol import engine
from protocol.election import LogRecord
from protocol.encoding import u16, u40
from protocol.manifest import Manifest
from protocol.records import Entry, Kind, pack_bodies

LOG_PAGE = 1_000
"""Blocks in one eth_getLogs: under the 5,000 that Besu answers, a quarter of an hour of blocks."""

BLOCKS_AT_ONCE = 16
"""Blocks whose header and receipts are asked for in one HTTP request."""

TRANSACTIONS_AT_ONCE = 16
"""Ballot transactions in one HTTP request: 3 MB of hex, which every engine answers."""

ENTRY = 40
"""Bytes of a log entry."""

# Where an RLP transaction of each type holds the recipient and the input (EIPs 2718, 2930, 1559, 4844, 7702).
_TO_AND_DATA = {0: (3, 5), 1: (4, 6), 2: (5, 7), 3: (5, 7), 4: (5, 7)}
_NONCE = {0: 0, 1: 1, 2: 1, 3: 1, 4: 1}


@dataclass(frozen=True, slots=True)
class Ballots(Sequence[LogRecord]):
    """The ballots of one call as they stand in it, each made a record when it is asked for: their entries from position `first` on, their bodies in
    the form of `records.pack_bodies` (none where the chain has hashes only), and the call's sequence number."""

    first: int
    entries: bytes
    packed: bytes
    number: int

    def __len__(self) -> int:
        return len(self.entries) // ENTRY

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        numbers, bodies = range(len(self))[index], self.bodies()[index]
        return list(map(self._made, numbers, bodies)) if isinstance(index, slice) else self._made(numbers, bodies)

    def __iter__(self) -> Iterator[LogRecord]:
        return map(self._made, range(len(self)), self.bodies())

    @property
    def time(self) -> int:
        return int.from_bytes(self.entries[1:6], "big")

    @property
    def role(self) -> int:
        return int.from_bytes(self.entries[6:8], "big")

    def hashes(self) -> list[bytes]:
        return [self.entries[i : i + 32] for i in range(8, len(self.entries), ENTRY)]

    def bodies(self) -> Sequence[bytes | None]:
        return _unpack(self.packed) if self.packed else [None] * len(self)

    def _made(self, index: int, body: bytes | None) -> LogRecord:
        digest = self.entries[ENTRY * index + 8 : ENTRY * (index + 1)]
        return LogRecord(self.first + index, Entry(Kind.BALLOT, self.time, self.role, digest), body, self.number)


@dataclass(frozen=True, slots=True)
class Batch:
    """One event of the board: the records at `first`, `first + 1`, …, the root after the last of them, and where it is on the chain."""

    first: int
    records: Sequence[LogRecord]
    root: bytes
    block_number: int
    block_hash: bytes
    transaction: bytes

    @property
    def size(self) -> int:
        """The size of the log after it."""
        return self.first + len(self.records)

    @property
    def entries(self) -> bytes:
        """The log entries of the records, end to end."""
        if isinstance(self.records, Ballots):
            return self.records.entries
        return b"".join([record.entry.encode() for record in self.records])

    @property
    def packed(self) -> bytes | None:
        """The bodies in the form of `records.pack_bodies`, None where one is not here."""
        if isinstance(self.records, Ballots):
            return self.records.packed or None
        bodies = [record.body for record in self.records if record.body is not None]
        return pack_bodies(bodies) if len(bodies) == len(self.records) else None


@dataclass(frozen=True, slots=True)
class Creation:
    """The board's creation: its transaction's input, where it is, and who sent it (20 bytes)."""

    input: bytes
    sender: bytes
    block_number: int
    block_hash: bytes
    transaction: bytes

    def arguments(self) -> tuple[bytes, list[BoardRole], Setup]:
        """Manifest, roles and setup; raises ChainError where the input is not that of this version's board."""
        return parse_creation(self.input)

    def manifest(self) -> Manifest:
        """Record 0; raises ChainError, Malformed."""
        return Manifest.parse(self.arguments()[0])


class Transaction(NamedTuple):
    """What a reader needs of a transaction: recipient (empty for a creation), input, nonce, and all its bytes."""

    to: bytes
    data: bytes
    nonce: int
    raw: bytes


class Reader:
    """Reads the board at `address` from the node behind `web3`."""

    def __init__(self, web3: Web3, address: Address) -> None:
        self.web3, self.board = web3, Board(web3, address)
        self.address = self.board.address
        self._creation: Creation | None = None

    def creation(self, hint: int | None = None) -> Creation:
        """The creation transaction, found by its event of record 0, in block `hint` if given.

        A contract's address is the hash of its creator and the creator's nonce, so the signed bytes prove that this input is what made this
        address. Raises ChainError if the board is not there, or was made by another contract.
        """
        if self._creation is None:
            self._creation = self._find_creation(hint)
        return self._creation

    def runtime_code(self) -> bytes:
        """The code at the address now."""
        return unhex(call(self.web3, "eth_getCode", checksummed(self.address), "latest"))

    def batches(
        self, first_block: int | None = None, last_block: int | None = None, position: int | None = None
    ) -> Iterator[Batch]:
        """All records in blocks first_block … last_block, by event, in log order; then the end is compared with the board's state there.

        Without `first_block` from the creation and position 0; without `last_block` up to the head that cannot change. Who reads on from an
        earlier run gives the size so far as `position`, or else a gap at the start of the range goes unseen.
        """
        last = readable_head(self.web3) if last_block is None else last_block
        end, head = block(self.web3, last), self.board.head(at=last)
        if first_block is None:
            first_block, position = self.creation().block_number, 0
        root = None
        blocks = self._blocks([topic("Record"), topic("Ballots")], first_block, last)
        for found in self._decode((log, header) for logs, header in blocks for log in logs):
            if position is not None and found.first != position:
                raise NodeContradiction(
                    f"the node's log jumps from position {position} to {found.first} in block {found.block_number}:"
                    " records are missing or repeated; use another node"
                )
            position, root = found.size, found.root
            yield found
        if position not in (None, head.size) or root not in (None, head.root):
            raise NodeContradiction(
                f"the node's log ends at {position} records and the board's head at block {last} has {head.size}, or its"
                " root is another: records are missing; use another node"
            )
        if block(self.web3, last)["hash"] != end["hash"]:
            raise ChainError(f"block {last} was replaced while it was read: start again")

    def attachments(self, files: Iterable[bytes] | None = None) -> dict[bytes, bytes]:
        """Published files by SHA-256, of all or of `files`: those that one role published in full and that hash to their name."""
        found: dict[bytes, bytes] = {}
        for (name, _, count), parts in self.parts(*(files or ())).items():
            if len(parts) == count and name not in found:
                data = b"".join(parts[number] for number in range(count))
                if hashlib.sha256(data).digest() == name:
                    found[name] = data
        return found

    def parts(self, *files: bytes) -> dict[tuple[bytes, int, int], dict[int, bytes]]:
        """Published parts by number, per (SHA-256, role, number of parts): a role can spoil its own files only, and repair them."""
        topics: list[Any] = [topic("Attachment")]
        found: dict[tuple[bytes, int, int], dict[int, bytes]] = {}
        start, last = self.creation().block_number, readable_head(self.web3)
        for logs, _ in self._blocks(topics, start, last, ["0x" + name.hex() for name in files]):
            for log in logs:
                name, role, data = unhex(log["topics"][1]), int(log["topics"][2], 16), unhex(log["data"])
                found.setdefault((name, role, word(data, 1)), {})[word(data, 0)] = dynamic(data, 2)
        return found

    # ---- events to records ----

    def _decode(self, logs: Iterator[tuple[dict[str, Any], dict[str, Any]]]) -> Iterator[Batch]:
        """The batches of these logs, each with its block's header. Signed bytes of ballot transactions are fetched in groups."""
        while group := list(islice(logs, TRANSACTIONS_AT_ONCE)):
            wanted = [log["transactionHash"] for log, _ in group if log["topics"][0] == topic("Ballots")]
            transactions = iter(self._transactions(wanted))
            for log, header in group:
                time, block_hash = int(header["timestamp"], 16), unhex(header["hash"])
                if log["topics"][0] == topic("Ballots"):
                    yield self._ballots(log, next(transactions), time, block_hash)
                else:
                    yield _record(log, time, block_hash)

    def _ballots(self, log: dict[str, Any], transaction: Transaction, time: int, block_hash: bytes) -> Batch:
        first, role, data = int(log["topics"][1], 16), int(log["topics"][2], 16), unhex(log["data"])
        sequence, count, root = word(data, 0), word(data, 1), data[64:96]
        where = f"the ballots at position {first} (transaction {log['transactionHash']})"
        if transaction.to != self.address:
            raise NodeContradiction(
                f"{where}: role {role} sent them through {checksummed(transaction.to) if transaction.to else 'a creation'}, not straight to the"
                " board, so their bodies are not in the transaction's input"
            )
        function, arguments = transaction.data[:4], transaction.data[4:]
        packed = dynamic(arguments, 1)
        try:
            head = bytes([Kind.BALLOT]) + u40(time) + u16(role)
        except OverflowError as error:
            raise NodeContradiction(f"{where}: no board emits such an event ({error}); use another node") from error
        if function == selector("appendBallots"):
            entries = engine.entries(head, packed, len(_unpack(packed)))
        elif function == selector("appendBallotHashes"):
            entries = b"".join(head + packed[i : i + 32] for i in range(0, len(packed), 32))
            packed = b""
        else:
            raise NodeContradiction(f"{where}: the transaction calls another function of the board")
        records = Ballots(first, entries, packed, sequence)
        if (word(arguments, 0), len(records)) != (sequence, count):
            raise NodeContradiction(
                f"{where}: the event says sequence {sequence} and {count} ballots, the transaction {word(arguments, 0)} and {len(records)}; use another node"
            )
        return Batch(first, records, root, int(log["blockNumber"], 16), block_hash, unhex(log["transactionHash"]))

    # ---- what a node says, compared with itself ----

    def _blocks(
        self, events: list[str], first: int, last: int, files: list[str] | None = None
    ) -> Iterator[tuple[list[dict[str, Any]], dict[str, Any]]]:
        """The board's logs of these events block by block, each with its header, checked as the module says."""
        previous: dict[str, Any] | None = None
        for logs in self._pages(events, first, last, files):
            by_block = [
                (int(number, 16), list(group)) for number, group in groupby(logs, key=lambda log: log["blockNumber"])
            ]
            for start in range(0, len(by_block), BLOCKS_AT_ONCE):
                group = by_block[start : start + BLOCKS_AT_ONCE]
                numbers = [hex(number) for number, _ in group]
                headers = batch(self.web3, [("eth_getBlockByNumber", [number, False]) for number in numbers])
                receipts = batch(self.web3, [("eth_getBlockReceipts", [number]) for number in numbers])
                for (number, in_block), header, held in zip(group, headers, receipts, strict=True):
                    self._check_block(number, in_block, header, held, events, files)
                    if (
                        previous
                        and int(previous["number"], 16) + 1 == number
                        and header["parentHash"] != previous["hash"]
                    ):
                        raise NodeContradiction(
                            f"block {number} does not follow the node's block {number - 1}; use another node"
                        )
                    previous = header
                    yield in_block, header

    def _check_block(
        self,
        number: int,
        logs: list[dict[str, Any]],
        header: Any,
        receipts: Any,
        events: list[str],
        files: list[str] | None,
    ) -> None:
        if not header or not receipts:
            raise NodeContradiction(f"the node has logs of block {number} and not the block; use another node")
        if int(header["number"], 16) != number or any(log["blockHash"] != header["hash"] for log in logs):
            raise NodeContradiction(
                f"the node's block {number} is not the one that its logs come from; use another node"
            )
        held = [log for receipt in receipts for log in receipt["logs"] if self._is_ours(log, events, files)]
        if [_identity(log) for log in held] != [_identity(log) for log in logs]:
            raise NodeContradiction(
                f"the node gives {len(logs)} events of the board in block {number} and {len(held)} in the block's receipts, or others; use another node"
            )

    def _is_ours(self, log: dict[str, Any], events: list[str], files: list[str] | None) -> bool:
        topics = log["topics"]
        return (
            unhex(log["address"]) == self.address
            and bool(topics)
            and topics[0] in events
            and (not files or topics[1] in files)
        )

    def _pages(
        self, events: list[str], first: int, last: int, files: list[str] | None
    ) -> Iterator[list[dict[str, Any]]]:
        for start in range(first, last + 1, LOG_PAGE):
            yield from self._page([events, files or None], start, min(start + LOG_PAGE - 1, last))

    def _page(self, topics: list[Any], first: int, last: int) -> Iterator[list[dict[str, Any]]]:
        """The logs of blocks first … last; a range that the node refuses is halved."""
        query = {"address": checksummed(self.address), "fromBlock": hex(first), "toBlock": hex(last), "topics": topics}
        try:
            logs = call(self.web3, "eth_getLogs", query)
        except RpcError:
            if first == last:
                raise
            middle = (first + last) // 2
            yield from self._page(topics, first, middle)
            yield from self._page(topics, middle + 1, last)
            return
        places = [(int(log["blockNumber"], 16), int(log["logIndex"], 16)) for log in logs]
        in_order = all(a < b for a, b in pairwise(places))
        if not in_order or any(not first <= number <= last for number, _ in places):
            raise NodeContradiction(
                f"the node's logs of blocks {first} to {last} are out of order or of other blocks; use another node"
            )
        if any(unhex(log["address"]) != self.address or log["topics"][0] not in topics[0] for log in logs):
            raise NodeContradiction(
                f"the node's logs of blocks {first} to {last} are not what was asked for; use another node"
            )
        yield logs

    def _transactions(self, hashes: Sequence[str]) -> list[Transaction]:
        answers = batch(self.web3, [("eth_getRawTransactionByHash", [name]) for name in hashes])
        return [_transaction(name, answer) for name, answer in zip(hashes, answers, strict=True)]

    def _find_creation(self, hint: int | None) -> Creation:
        first, last = (0, readable_head(self.web3)) if hint is None else (hint, hint)
        topics = [[topic("Record")], ["0x" + "00" * 32]]
        logs = [log for page in self._page(topics, first, last) for log in page]
        if len(logs) != 1:
            where = f"blocks {first} to {last}"
            raise ChainError(
                f"there is no board at {checksummed(self.address)} in {where}: check the contract address and the node's URL"
            )
        [transaction] = self._transactions([logs[0]["transactionHash"]])
        sender = bytes.fromhex(Account.recover_transaction(transaction.raw)[2:])
        if transaction.to or keccak(rlp.encode([sender, transaction.nonce]))[12:] != self.address:
            raise ChainError(
                f"transaction {logs[0]['transactionHash']} did not create {checksummed(self.address)}: it was made by another contract, and"
                " its creation cannot be read"
            )
        log = logs[0]
        return Creation(
            transaction.data,
            sender,
            int(log["blockNumber"], 16),
            unhex(log["blockHash"]),
            unhex(log["transactionHash"]),
        )


def _record(log: dict[str, Any], time: int, block_hash: bytes) -> Batch:
    """A Record event: number, root, body and signatures are its data."""
    position, kind, role = (int(value, 16) for value in log["topics"][1:4])
    data = unhex(log["data"])
    body = dynamic(data, 2)
    entry = Entry(kind, time, role, hashlib.sha256(body).digest())
    record = LogRecord(position, entry, body, word(data, 0), dynamic(data, 3))
    return Batch(
        position, [record], data[32:64], int(log["blockNumber"], 16), block_hash, unhex(log["transactionHash"])
    )


def _unpack(packed: bytes) -> list[bytes]:
    """The bodies of `u16(length) || body`, as the contract reads them. `protocol.records.unpack_bodies` for the inner loop of reading."""
    bodies, offset, end = [], 0, len(packed)
    while offset < end:
        start = offset + 2
        offset = start + int.from_bytes(packed[offset:start], "big")
        bodies.append(packed[start:offset])
    if offset != end:
        raise NodeContradiction("a ballot batch ends inside a ballot; use another node")
    return bodies


def _transaction(name: str, answer: Any) -> Transaction:
    """A transaction from its signed bytes, if they hash to its name."""
    if answer is None:
        raise ChainError(f"the node has no transaction {name}; use another node")
    raw = unhex(answer)
    if keccak(raw) != unhex(name):
        raise NodeContradiction(
            f"the node's bytes of transaction {name} do not hash to that: they were changed; use another node"
        )
    kind = raw[0] if raw[0] < 0xC0 else 0
    fields = rlp.decode(raw[1:] if kind else raw)
    to, data = _TO_AND_DATA[kind]
    return Transaction(bytes(fields[to]), bytes(fields[data]), int.from_bytes(fields[_NONCE[kind]], "big"), raw)


def _identity(log: dict[str, Any]) -> tuple[Any, ...]:
    return log["transactionHash"], int(log["logIndex"], 16), log["topics"], log["data"]
