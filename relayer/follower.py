"""The relayer's copy of the log: what phase it is, who may vote, what has landed where.

Bodies of ballots are read, checked and forgotten: what stays of a ballot is its entry, its places in the tree and in the index of hashes, some
60 bytes, and a body that a receipt needs comes from the outbox or from the node.

One thread calls `poll`; every other thread reads `view`, which is replaced as a whole, `positions`, and proofs of sizes it got from a view.
"""

from __future__ import annotations

import hashlib
import time
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from web3 import Web3

from chain.contract import Phase, dynamic
from chain.errors import ChainError
from chain.reader import Batch, Reader
from chain.rpc import Address, block, call, readable_head, unhex
from protocol.attachments import Roll
from protocol.election import LogRecord, MissingAttachment, OpenElection, open_election, roll_state
from protocol.errors import BallotboardError
from protocol.records import Entry, Kind, LogHead, unpack_bodies
from relayer.index import HashIndex
from relayer.receipts import Tree

_HASH = slice(8, 40)
_PHASES = {Kind.OPEN: Phase.OPEN, Kind.CLOSE: Phase.CLOSED, Kind.SETTLEMENT: Phase.SETTLED, Kind.RESULT: Phase.FINAL}


@dataclass(frozen=True)
class View:
    """The election as of one look at the chain, at the end of `block`. Intake ends at `close`, appending at `last_append`; `election` and `roll` are there once it is open."""

    head: LogHead
    block: int
    phase: Phase
    close: int
    last_append: int
    election: OpenElection | None
    roll: Roll | None
    revoked: Mapping[int, int]
    block_time: int
    block_seen: float
    looked: float

    @property
    def now(self) -> int:
        """The chain's time: its latest block's, and the seconds since that block was first seen.

        A block's time is that of its making, and on a quiet chain without empty blocks it may be hours old. The local clock is used for the
        difference only, so a wrong one does no harm.
        """
        return self.block_time + int(time.monotonic() - self.block_seen)

    @property
    def age(self) -> float:
        """Seconds since the chain was looked at."""
        return time.monotonic() - self.looked


class Landed(NamedTuple):
    """A transaction of ballots in the log: whose (role index), which sequence, and its block's time."""

    role: int
    sequence: int
    time: int


class Place(NamedTuple):
    """Where an event of the log is: its first position, the block's number and hash, the transaction's hash."""

    first: int
    block: int
    block_hash: bytes
    transaction: bytes


class Follower:
    """Follows one board. `positions` has the first position of every ballot hash in the log; `problem` says why no ballot can be checked."""

    def __init__(self, web3: Web3, contract: Address) -> None:
        """Raises ChainError where there is no board, NodeUnreachable where there is no node. Nothing but the manifest is read before `poll`."""
        self._reader = Reader(web3, contract)
        creation = self._reader.creation()
        self.manifest = creation.manifest()
        self.contract = self._reader.address
        self.tree = Tree()
        self.positions = HashIndex(self._hash_at)
        self.problem = ""
        self._web3 = web3
        self._places: list[Place] = []
        self._records: list[LogRecord] = []  # all but ballots
        self._news: list[Landed] = []
        self._first_block, self._block = creation.block_number, -1
        self._phase, self._close = Phase.SETUP, self.manifest.windows.close
        self._election: OpenElection | None = None
        self._unreadable = False
        self._roll: Roll | None = None
        self._revoked: Mapping[int, int] = {}
        self._clock: tuple[str, int, float] | None = None
        self.view = self._look(self._time())

    @property
    def block(self) -> int:
        """The block up to which the log was read."""
        return self._block

    def poll(self) -> list[Landed]:
        """Reads on; gives the ballot transactions that are new. Raises ChainError, NodeUnreachable; the view stays as it was then."""
        clock, last = self._time(), readable_head(self._web3)
        if last > self._block:
            self._read(last)
            self._block = last
        # From here on nothing fails: what was read is handed on, or a batch that landed would be missed.
        self.view = self._look(clock)
        news, self._news = self._news, []
        return news

    def entry(self, position: int) -> Entry:
        return Entry.parse(self.tree.entry(position))

    def ballot_hashes(self, first: int, end: int) -> list[bytes]:
        """The hashes of the ballots at positions `first` up to `end`."""
        return [entry[_HASH] for entry in map(self.tree.entry, range(first, end)) if entry[0] == Kind.BALLOT]

    def place(self, position: int) -> Place:
        """Where a record is on the chain."""
        return self._places[bisect_right(self._places, position, key=lambda place: place.first) - 1]

    def ballot(self, position: int) -> bytes:
        """The body of the ballot at `position`, read again from the node. Raises ChainError if the node has another one, or never has one."""
        if self.manifest.body_mode == "hash":
            raise ChainError(
                "the chain has this ballot's hash alone, and no data holder has given its body yet: ask again"
            )
        place = self.place(position)
        found = call(self._web3, "eth_getTransactionByHash", "0x" + place.transaction.hex())
        body = unpack_bodies(dynamic(unhex(found["input"])[4:], 1))[position - place.first] if found else b""
        if hashlib.sha256(body).digest() != self._hash_at(position):
            raise ChainError(f"the node has not the ballot at position {position} any more; use another node")
        return body

    # ---- reading

    def _read(self, last: int) -> None:
        """All events up to block `last`. What was read before a failure stays, and is passed over the next time."""
        first, position = self._first_block, 0
        if self._block >= first:
            first, position = self._block + 1, self.tree.size
        if self._places and self._places[-1].block >= first:  # the last time failed half-way
            first = self._places[-1].block
            position = next(place.first for place in self._places if place.block == first)
        for batch in self._reader.batches(first, last, position=position):
            if batch.size > self.tree.size:
                self._add(batch)

    def _add(self, batch: Batch) -> None:
        size = self.tree.size
        self.tree.extend(batch.entries)
        if self.tree.root(batch.size) != batch.root:
            self.tree.cut(size)
            raise ChainError(
                f"the root emitted after position {batch.size - 1} is not that of the records; use another node"
            )
        self._places.append(Place(batch.first, batch.block_number, batch.block_hash, batch.transaction))
        if batch.records[0].kind == Kind.BALLOT:
            first = batch.records[0]
            self.positions.extend(batch.first, [record.entry.body_hash for record in batch.records])
            self._news.append(Landed(first.entry.role, first.number, first.entry.time))
        else:
            for record in batch.records:
                self._apply(record)

    def _look(self, clock: tuple[int, float]) -> View:
        if self._phase == Phase.OPEN and self._election is None and not self._unreadable:
            self._open()
        head = LogHead(self.tree.size, self.tree.root(self.tree.size))
        return View(
            head, self._block, self._phase, self._close, self._close + self.manifest.windows.append_grace, self._election, self._roll, self._revoked,
            *clock, time.monotonic(),
        )  # fmt: skip

    def _apply(self, record: LogRecord) -> None:
        self._records.append(record)
        if record.kind in _PHASES:
            self._phase = _PHASES[Kind(record.kind)]
        elif record.kind == Kind.EXTENSION:
            self._close = int.from_bytes((record.body or b"")[:5], "big")  # the contract reads no more of it either
        elif record.kind == Kind.ROLL_CHANGE:
            self._change_roll()

    def _open(self) -> None:
        """The election, once its files are to be had: they may come later than the records that name them."""
        try:
            self._election = open_election(self.manifest, self.contract, self._records, self._reader.attachments())
            self._roll, self.problem = self._election.roll, ""
            self._change_roll()
        except BallotboardError as error:
            self.problem = f"no ballot can be checked: {error}"
            self._unreadable = not isinstance(error, (MissingAttachment, ChainError))

    def _change_roll(self) -> None:
        changes = [record for record in self._records if record.kind == Kind.ROLL_CHANGE]
        if self._election and changes:
            try:
                state = roll_state(self._election, changes)
            except BallotboardError as error:
                self.problem = f"the roll stays as it was: {error}"
                return
            self._roll, self._revoked = state.roll, state.revoked

    def _hash_at(self, position: int) -> bytes:
        return self.tree.entry(position)[_HASH]

    def _time(self) -> tuple[int, float]:
        """The time of the chain's latest block, and when it was first seen here."""
        latest = block(self._web3, "latest")
        if self._clock is None and self.manifest.engine == "anvil":
            # The first look may find a block that is hours old; anvil tells what time the next one will have.
            latest["timestamp"] = block(self._web3, "pending")["timestamp"]
        if self._clock is None or latest["hash"] != self._clock[0]:
            self._clock = latest["hash"], int(latest["timestamp"], 16), time.monotonic()
        return self._clock[1:]
