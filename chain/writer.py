"""Writing records: one method for each call of the board, each sent, waited for, and answered with where it landed.

A relayer, which must know what it sent after a crash, uses `prepare_ballots`, stores the bytes, and then `broadcast` and `receipt`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from eth_account.signers.local import LocalAccount
from web3 import Web3

from chain.board import Board
from chain.contract import MAX_CALLDATA, MAX_GAS, encode, topic
from chain.reader import Reader
from chain.rpc import Address, unhex
from chain.sign import sign_record
from chain.transactions import Sender, SignedTransaction
from protocol.encoding import u8
from protocol.records import ANYONE, ballot_hash, pack_bodies

PART = MAX_CALLDATA - 192
"""Bytes of an attachment in one transaction: selector and five words go before them, in whole words."""


@dataclass(frozen=True, slots=True)
class Landed:
    """Where records are: their positions in the log, the block's number, the transaction's hash and the gas that it took."""

    positions: tuple[int, ...]
    block: int
    transaction: bytes
    gas: int


@dataclass(frozen=True, slots=True)
class StationItem:
    """A check-in (5) or result hash (6): station row, its inclusion proof in the manifest's stations, body, two officers' signatures (130 bytes)."""

    kind: int
    row: bytes
    proof: Sequence[bytes]
    body: bytes
    signatures: bytes

    def encode(self) -> bytes:
        return b"".join(
            [
                u8(self.kind),
                pack_bodies([self.row]),
                u8(len(self.proof)),
                *self.proof,
                pack_bodies([self.body]),
                self.signatures,
            ]
        )


class Writer:
    """Appends to the board at `address`, paying from `account`. Every method raises Refused when the board refuses, and sends nothing then."""

    def __init__(self, web3: Web3, address: Address, account: LocalAccount) -> None:
        self.board = Board(web3, address)
        self.sender = Sender(web3, account)
        self.chain_id = self.sender.chain_id
        self.broadcast, self.nonce = self.sender.broadcast, self.sender.nonce

    # ---- ballots: the account must be a relayer's ----

    def append_ballots(self, sequence: int, bodies: Sequence[bytes]) -> Landed:
        """Ballots with their bodies, at most MAX_PACKED bytes of `u16 length || body`; `sequence` is `board.sequences(relayer)`."""
        return self.send("appendBallots", sequence, pack_bodies(bodies))

    def append_ballot_hashes(self, sequence: int, hashes: Sequence[bytes]) -> Landed:
        """SHA-256 of ballots, for a board in hash mode."""
        return self.send("appendBallotHashes", sequence, b"".join(hashes))

    def prepare_ballots(self, sequence: int, bodies: Sequence[bytes], nonce: int) -> SignedTransaction:
        """The same as bytes that are not sent yet. Asks the board nothing, so several can be prepared one after the other."""
        return self._prepare(nonce, "appendBallots", sequence, pack_bodies(bodies))

    def prepare_ballot_hashes(self, sequence: int, hashes: Sequence[bytes], nonce: int) -> SignedTransaction:
        return self._prepare(nonce, "appendBallotHashes", sequence, b"".join(hashes))

    def receipt(self, transaction: bytes) -> Landed | None:
        """Where a broadcast transaction landed; None while it is in no block. Raises Refused if it reverted there."""
        receipt = self.sender.receipt(transaction)
        return None if receipt is None else self._landed(receipt)

    # ---- signed records: anyone may carry them ----

    def append(self, kind: int, body: bytes, signers: Sequence[LocalAccount]) -> Landed:
        """A record signed here and now by `signers`: the role's account, and for kinds 15 and 16 the cosigner's after it."""
        signatures = [
            sign_record(
                signer,
                self.chain_id,
                self.board.address,
                kind,
                ballot_hash(body),
                self.board.numbers(signer.address),
            )
            for signer in signers
        ]
        return self.append_signed(kind, body, b"".join(signatures))

    def append_signed(self, kind: int, body: bytes, signatures: bytes) -> Landed:
        """A record with signatures made elsewhere, 65 bytes each (chain.sign)."""
        return self.send("append", kind, body, signatures)

    def append_stations(self, items: Iterable[StationItem]) -> Landed:
        """Check-ins and result hashes in one transaction. What is recorded already is passed over and has no position here."""
        return self.send("appendStations", b"".join(item.encode() for item in items))

    def reveal(self, documents: Iterable[bytes]) -> Landed:
        """Result documents in one transaction; revealed ones are passed over."""
        return self.send("reveal", pack_bodies(documents))

    # ---- the end of the poll ----

    def close(self) -> Landed:
        return self.send("close")

    def settle(self, bitmap: bytes = bytes(32), signatures: bytes = b"") -> Landed:
        """In hash mode with the SHA-256 of the bitmap attachment and the data holders' signatures in order of role."""
        return self.send("settle", bitmap, signatures)

    # ---- attachments: the account must hold a role ----

    def attach(self, data: bytes) -> int:
        """Publishes a file in parts, those that are not on chain from this account; gives how many were sent.

        All parts are sent before the first is waited for. After a crash, call it again.
        """
        digest = hashlib.sha256(data).digest()
        account = bytes.fromhex(self.sender.account.address[2:])
        role = next((index for index, role in enumerate(self.board.roles()) if role.account == account), ANYONE)
        parts = [data[start : start + PART] for start in range(0, len(data), PART)]
        on_chain = Reader(self.sender.web3, self.board.address).parts(digest).get((digest, role, len(parts)), {})
        missing = [number for number, part in enumerate(parts) if on_chain.get(number) != part]
        nonce, sent = self.nonce(), []
        for offset, number in enumerate(missing):
            call = encode("attach", digest, number, len(parts), parts[number])
            gas = self.sender.estimate(self.board.address, call)
            sent.append(self.broadcast(self.sender.sign(self.board.address, call, gas, nonce + offset).raw))
        for transaction in sent:
            self.sender.wait(transaction)
        return len(sent)

    def _prepare(self, nonce: int, function: str, *values: Any) -> SignedTransaction:
        # The cap and no estimate: an estimate fails while the transaction before it is not in a block.
        return self.sender.sign(self.board.address, encode(function, *values), MAX_GAS, nonce)

    def send(self, function: str, *values: Any) -> Landed:
        """A call of the board by its name in IBulletinBoard.sol, for what has no method here."""
        return self._landed(self.sender.send(self.board.address, encode(function, *values)))

    def _landed(self, receipt: dict[str, Any]) -> Landed:
        positions: list[int] = []
        for log in receipt["logs"]:
            if unhex(log["address"]) != self.board.address:
                continue
            first = int(log["topics"][1], 16)
            if log["topics"][0] == topic("Record"):
                positions.append(first)
            elif log["topics"][0] == topic("Ballots"):
                count = int(log["data"][2 + 64 : 2 + 128], 16)
                positions.extend(range(first, first + count))
        block, transaction = int(receipt["blockNumber"], 16), unhex(receipt["transactionHash"])
        return Landed(tuple(positions), block, transaction, int(receipt["gasUsed"], 16))
