"""`python -m scripts.gas`: what every call of the board costs, written into docs/contracts.md between its markers.

anvil runs as in the demo, with EIP-7623's floor on calldata and EIP-7825's cap on a transaction. Keys, bodies and block
times are fixed, so the same contract gives the same table.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from eth_account import Account
from eth_account.signers.local import LocalAccount

from chain.anvil import Anvil
from chain.board import Board, BoardRole
from chain.contract import MAX_PACKED, artifact, encode
from chain.deploy import Setup, creation_input
from chain.rpc import address_bytes, call, unhex
from chain.sign import sign_record
from chain.transactions import Sender
from chain.writer import StationItem
from protocol.attachments import Station
from protocol.manifest import RoleKind, Windows
from protocol.merkle import inclusion_proof, leaf_hash, root
from protocol.records import CheckIns, Kind, Settlement, pack_bodies

DOCUMENT = Path("docs/contracts.md")
BEGIN, END = "<!-- gas: made by python -m scripts.gas -->", "<!-- gas: end -->"

START = 1_800_000_000
"""Time of the first block; fixed, since a zero byte in a time or a root is cheaper."""

STATIONS = 13_000
"""As many as a nation has: a proof of 14 hashes."""

OLD_LOG = 2**23 - 1
"""Entries of a log in which an append reads and hashes the most: every subtree below eight million is full."""

STORAGE = artifact().storage

INTRINSIC = 21_000
"""Gas that every transaction pays before its first instruction."""


def key(name: str) -> LocalAccount:
    return Account.from_key(hashlib.sha256(name.encode()).digest())


def filler(length: int, seed: str) -> bytes:
    """Bytes as dense as ciphertexts: an input of zeros would be cheaper than any ballot."""
    return hashlib.shake_256(seed.encode()).digest(length)


AUTHORITY, REGISTRAR, RELAYER, TRUSTEE = key("authority"), key("registrar"), key("relayer"), key("trustee")
VERIFIERS, HOLDERS = [key(f"verifier {i}") for i in range(3)], [key(f"holder {i}") for i in range(5)]
OFFICERS = [key("officer 0"), key("officer 1")]


class Town:
    """A board of 12 roles on a chain of its own, and the calls that bring it through an election."""

    def __init__(self, chain: Anvil, *, hash_mode: bool = False, rows: list[bytes] | None = None) -> None:
        self.web3, self.now, self.hash_mode = chain.web3, START, hash_mode
        chain.fund([RELAYER.address])
        self.sender = Sender(self.web3, RELAYER)
        kinds = [(RoleKind.AUTHORITY, AUTHORITY), (RoleKind.REGISTRAR, REGISTRAR), (RoleKind.RELAYER, RELAYER)]
        kinds += [(RoleKind.COSIGNER, key("cosigner")), (RoleKind.TRUSTEE, TRUSTEE)]
        kinds += [(RoleKind.VERIFIER, v) for v in VERIFIERS] + [(RoleKind.DATA_HOLDER, h) for h in HOLDERS]
        day = 86_400
        self.windows = Windows(START, START + day, START + day, 60, START, START, START + 2 * day, START + 2 * day)
        leaves = [leaf_hash(row) for row in rows or []]
        setup = Setup(self.windows, root(leaves), len(leaves), hash_mode, verifiers=2, data_holders=3)
        roles = [BoardRole(kind, address_bytes(k.address)) for kind, k in kinds]
        self.creation = self._send(None, creation_input(filler(2_000, "manifest"), roles, setup))
        self.board = Board(self.web3, self.creation.contract)

    def send(self, function: str, *values: object) -> Cost:
        return self._send(self.board.address, encode(function, *values))

    def append(self, kind: Kind, body: bytes, *signers: LocalAccount) -> Cost:
        return self.send("append", kind, body, b"".join(self.sign(s, kind, body) for s in signers))

    def sign(self, signer: LocalAccount, kind: Kind, body: bytes, number: int | None = None) -> bytes:
        number = self.board.numbers(signer.address) if number is None else number
        return sign_record(
            signer, self.sender.chain_id, self.board.address, kind, hashlib.sha256(body).digest(), number
        )

    def open(self) -> None:
        self.append(Kind.ROLL, filler(200, "roll"), REGISTRAR)
        self.append(Kind.OPEN, self.board.head().body(), AUTHORITY)

    def close(self) -> Cost:
        self.now = self.windows.close + self.windows.append_grace
        return self.send("close")

    def settle(self) -> Cost:
        self.now = self.windows.settle_not_before
        bitmap = filler(32, "bitmap") if self.hash_mode else bytes(32)
        body = Settlement(self.board.head(), bitmap if self.hash_mode else b"").body()
        signers = HOLDERS[:3] if self.hash_mode else []
        return self.send("settle", bitmap, b"".join(self.sign(s, Kind.SETTLEMENT, body) for s in signers))

    def grow_old(self) -> None:
        """Give the log OLD_LOG entries by writing its size and frontier into the storage."""
        address = self.board.address.hex()
        slot = call(self.web3, "eth_getStorageAt", "0x" + address, hex(STORAGE["_size"][0]), "latest")
        self._store(STORAGE["_size"][0], unhex(slot)[:-8] + OLD_LOG.to_bytes(8, "big"))
        for level in range(OLD_LOG.bit_length()):
            self._store(STORAGE["_frontier"][0] + level, filler(32, f"level {level}"))

    def _store(self, slot: int, value: bytes) -> None:
        address = "0x" + self.board.address.hex()
        call(self.web3, "anvil_setStorageAt", address, "0x" + slot.to_bytes(32, "big").hex(), "0x" + value.hex())

    def _send(self, to: bytes | None, data: bytes) -> Cost:
        self.now += 1
        call(self.web3, "evm_setNextBlockTimestamp", self.now)
        receipt = self.sender.send(to, data)
        trace = call(self.web3, "trace_transaction", receipt["transactionHash"])
        paid, execution = int(receipt["gasUsed"], 16), int(trace[0]["result"]["gasUsed"], 16)
        return Cost(len(data), paid, execution, receipt["contractAddress"] or "")


@dataclass
class Cost:
    """Bytes of input, gas paid, and gas of the instructions alone; the address if it made a contract."""

    size: int
    paid: int
    execution: int
    contract: str = ""


def batch(town: Town, size: int, count: int | None = None) -> tuple[int, Cost]:
    """`count` ballots of `size` bytes, or as many as a transaction takes; their number and cost."""
    count = count or MAX_PACKED // (size + 2)
    sequence = town.board.sequences(RELAYER.address)
    packed = pack_bodies([filler(size, f"ballot {sequence} {i}") for i in range(count)])
    return count, town.send("appendBallots", sequence, packed)


def measure() -> Iterator[tuple[str, int, Cost]]:
    """(what, entries, cost) of every row."""
    rows = [
        Station(i, i, tuple(address_bytes(o.address) for o in OFFICERS), f"School {i}").row() for i in range(STATIONS)
    ]
    leaves = [leaf_hash(row) for row in rows]
    with Anvil(block_time=0, timestamp=START) as chain:
        town = Town(chain, rows=rows)
        yield "creation, manifest of 2,000 bytes, 13 roles", 1, town.creation
        yield "ceremony message, 10,000 bytes", 1, town.append(Kind.CEREMONY, filler(10_000, "round 2"), TRUSTEE)
        town.open()
        yield "one ballot of 349 bytes", *batch(town, 349, 1)
        for size in (349, 877, 2_000):
            yield f"batch of {MAX_PACKED // (size + 2)} ballots of {size:,} bytes", *batch(town, size)

        def item(kind: Kind, station: int, body: bytes, number: int) -> bytes:
            proof = inclusion_proof(leaves, station)
            signatures = b"".join(town.sign(o, kind, body, number) for o in OFFICERS)
            return StationItem(kind, rows[station], proof, body, signatures).encode()

        body = CheckIns(7, 0, tuple((i, START) for i in range(100))).body()
        yield "check-in of 100 voters", 1, town.send("appendStations", item(Kind.CHECK_IN, 7, body, 0))
        document = filler(1_200, "result")
        bodies = [
            (s, s.to_bytes(4, "big") + b"\0\0\0\1" + hashlib.sha256(document + bytes([s])).digest()) for s in range(100)
        ]
        one = item(Kind.STATION_HASH, *bodies[0], 1)
        yield "result hash of a station", 1, town.send("appendStations", one)
        many = b"".join(item(Kind.STATION_HASH, *b, 1) for b in bodies[1:])
        yield "result hashes of 99 stations in one call", 99, town.send("appendStations", many)
        yield "the same again: passed over", 99, town.send("appendStations", many)
        yield "station result, 1,201 bytes", 1, town.send("reveal", pack_bodies([document + b"\0"]))
        yield (
            "part of an attachment, 96 KiB less the call",
            1,
            town.send("attach", filler(32, "file"), 0, 2, filler(MAX_PACKED - 64, "part")),
        )
        town.close()
        yield "settlement", 1, town.settle()
        yield (
            "partial decryption, 60,000 bytes",
            1,
            town.append(Kind.PARTIAL_DECRYPTION, filler(60_000, "partial"), TRUSTEE),
        )
        yield "result, 20,000 bytes", 1, town.append(Kind.RESULT, filler(20_000, "result"), AUTHORITY)
        reports = [b"\1\1" + filler(32, "state") + filler(64, f"salt {i}") for i in range(2)]
        commits = [
            town.append(Kind.REPORT, b"\0" + hashlib.sha256(r).digest(), v)
            for r, v in zip(reports, VERIFIERS, strict=False)
        ]
        yield "report, commit", 1, commits[0]
        yield "report, reveal", 1, town.append(Kind.REPORT, reports[0], VERIFIERS[0])
        yield (
            "complaint by the last role, 500 bytes",
            1,
            town.append(Kind.COMPLAINT, filler(500, "complaint"), HOLDERS[4]),
        )
    with Anvil(block_time=0, timestamp=START) as chain:
        town = Town(chain, hash_mode=True)
        town.open()
        count = MAX_PACKED // 32
        yield (
            f"batch of {count:,} ballot hashes",
            count,
            town.send("appendBallotHashes", 0, filler(32 * count, "hashes")),
        )
        town.close()
        yield "settlement with 3 data holders", 1, town.settle()
    with Anvil(block_time=0, timestamp=START) as chain:
        town = Town(chain)
        town.open()
        town.grow_old()
        yield f"batch of {MAX_PACKED // 351} ballots of 349 bytes after {OLD_LOG:,} entries", *batch(town, 349)
        town.grow_old()
        yield f"one ballot of 349 bytes after {OLD_LOG:,} entries", *batch(town, 349, 1)


def table() -> str:
    lines = [
        "| call | entries | input bytes | gas paid | gas beyond calldata | per entry |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for what, entries, cost in measure():
        beyond = cost.execution + INTRINSIC
        lines.append(
            f"| {what} | {entries:,} | {cost.size:,} | {cost.paid:,} | {beyond:,} | {round(beyond / entries):,} |"
        )
    return "\n".join(lines)


def written() -> str:
    """The table that the document holds now."""
    return DOCUMENT.read_text().split(BEGIN)[1].split(END)[0].strip()


def main() -> None:
    before, rest = DOCUMENT.read_text().split(BEGIN)
    DOCUMENT.write_text(f"{before}{BEGIN}\n{table()}\n{END}{rest.split(END)[1]}")


if __name__ == "__main__":
    main()
