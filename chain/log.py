"""The whole record of an election, read from a node and checked against itself: what every role starts from.

`read_log` once; `ElectionLog.extend` to follow the chain from there. Positions without a gap and every emitted root equal to the rebuilt
one are invariants of an ElectionLog; whether the records mean anything is for protocol.election and the verifier.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field

from web3 import Web3

from chain.errors import ChainError
from chain.holding import Holders, Progress, with_bodies
from chain.reader import ENTRY, Batch, Creation, Reader
from chain.rpc import Address, readable_head
from protocol import engine
from protocol.election import LogRecord, OpenElection, open_election
from protocol.manifest import Manifest
from protocol.merkle import Frontier
from protocol.records import LogHead


@dataclass
class ElectionLog:
    """Manifest, records and attachments of the board at `contract` (20 bytes), up to block `block`.

    `leaves` are the leaf hashes of the records; `places` has (first position, block number, block hash) per event, ascending.
    """

    reader: Reader
    manifest: Manifest
    creation: Creation
    contract: bytes
    records: list[LogRecord] = field(default_factory=list)
    leaves: list[bytes] = field(default_factory=list)
    places: list[tuple[int, int, bytes]] = field(default_factory=list)
    attachments: dict[bytes, bytes] = field(default_factory=dict)
    block: int = -1
    _frontier: Frontier = field(default_factory=Frontier)

    @property
    def head(self) -> LogHead:
        return LogHead(self._frontier.size, self._frontier.root())

    def open(self) -> OpenElection:
        """What the open record fixes; raises MissingRecord while the poll has not been opened."""
        return open_election(self.manifest, self.contract, self.records, self.attachments)

    def block_of(self, position: int) -> tuple[int, bytes]:
        """(number, hash) of the block that holds a record."""
        _, number, digest = self.places[bisect_right(self.places, position, key=lambda place: place[0]) - 1]
        return number, digest

    def extend(self) -> list[LogRecord]:
        """Read on to the chain's readable head; gives the new records. Raises ChainError when they do not continue the log."""
        last = readable_head(self.reader.web3)
        if last <= self.block:
            return []
        before = len(self.records)
        # All of it before any of it: a node that fails half-way leaves the log as it was, to be read again.
        for batch in list(self.reader.batches(max(self.block + 1, self.creation.block_number), last, position=before)):
            self._add(batch)
        self.block = last
        return self.records[before:]

    def read_attachments(self) -> None:
        """Read the published files again: they are no records, and may come later than the record that names them."""
        self.attachments.update(self.reader.attachments())

    def read_bodies(self, holders: Holders, progress: Progress | None = None) -> None:
        """Ask the data holders for the ballots whose hashes alone are on the chain. What none of them has stays without a body."""
        self.records = with_bodies(self.records, holders, progress)

    def _add(self, batch: Batch) -> None:
        if batch.first != len(self.records):
            raise ChainError(
                f"the node's log jumps from position {len(self.records)} to {batch.first} in block {batch.block_number}; use another node"
            )
        data = batch.entries
        leaves = engine.leaf_hashes([data[i : i + ENTRY] for i in range(0, len(data), ENTRY)])
        self._frontier.extend(leaves)
        if self._frontier.root() != batch.root:
            raise ChainError(
                f"the root emitted after position {batch.size - 1} is not that of the records; use another node"
            )
        self.records += batch.records
        self.leaves += leaves
        self.places.append((batch.first, batch.block_number, batch.block_hash))


def read_log(web3: Web3, contract: Address, attachments: bool = True) -> ElectionLog:
    """The log of a board up to the chain's readable head, with its published files.

    Raises ChainError where the node contradicts itself or there is no board, NodeUnreachable without an answer.
    """
    reader = Reader(web3, contract)
    creation = reader.creation()
    log = ElectionLog(reader, creation.manifest(), creation, reader.address)
    log.extend()
    if attachments:
        log.read_attachments()
    return log
