"""The indexer: follows the chain into the board's copy of the log, and stops at the first thing that does not fit.

One look (`step`) at the chain reads the blocks after the cursor, and

1. the node still has the cursor's block, and every block up to its head names the one before it as its parent; else the chain was replaced;
2. events come from those blocks, and their records continue the log without a gap, each with the root that the board emitted (bulletin.replica);
3. at the node's head the log is the one whose size and root the contract stores;
4. where there are validators and one can be asked, more than two thirds of them have signed for that log (chain.evidence).

What contradicts this is an *alarm*: it is stored, nothing is read any more, by this process or the next, and every page shows it. Only `rebuild` takes
it away, with everything else. A node that does not answer, or is behind, is no alarm: it is asked again. How it is, `run` says in the database
(bulletin.watch), for those who serve from it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

from web3 import Web3

from bulletin.replica import Alarm, Replica
from bulletin.store import Cursor, Store, StoreError
from bulletin.watch import Watch
from chain.errors import BadEvidence, ChainError, NodeUnreachable, RpcError
from chain.evidence import verify
from chain.holding import Holders
from chain.network.collect import head_evidence
from chain.reader import Ballots, Batch, Reader
from chain.rpc import Address, batch, checksummed, readable_head, unhex
from protocol.errors import BallotboardError
from protocol.records import LogHead

COMMIT_RECORDS, COMMIT_BYTES = 65_536, 2**26
"""Records, or bytes of their bodies, after which a transaction ends, at the next block: two seconds of work. Hashes come in no order, so every
transaction writes their index anew, and small ones take twice the time."""

HEADERS_AT_ONCE = 200
"""Block headers in one HTTP request: 0.3 MB."""

POLL = 0.5
"""Seconds between looks at the chain: half of the shortest block time, so that a record is on a page within two seconds."""

BODIES = 4_000
"""Ballots that the data holders are asked for at a time: a few MB."""

ATTACHMENT_POLL = 3.0
"""Seconds between searches for a file that is named and not published: each looks through all blocks."""

SEAL_POLL = 5.0
"""Seconds between looks at the validators' signatures while the log grows: each takes a dozen questions."""

Progress = Callable[[int, int], None]
"""Called with (records indexed, of how many)."""

log = logging.getLogger("bulletin")


class Behind(BallotboardError):
    """The node's head is below the cursor. It may catch up."""


class Unsealed(BallotboardError):
    """The validators' signatures cannot be had just now, or not those of this node's chain."""


RETRIED = (NodeUnreachable, RpcError, Behind, Unsealed, StoreError)
"""What may be better at the next look."""


class Indexer:
    """Follows the board at `contract` into `store`. One thread uses it; others may read `synced`: whether the chain's head was reached."""

    def __init__(
        self,
        store: Store,
        web3: Web3,
        contract: Address,
        election_id: bytes | None = None,
        holders: Sequence[str] = (),
        comet: str = "",
    ) -> None:
        """`holders` are the URLs of the data holders, where the chain has ballots' hashes only; `comet` is that of a validator, whose chain's signatures are then checked. Raises ChainError where there is no board of ours, BallotboardError where it is another election's, or the database another board's."""
        self.web3, self.reader = web3, Reader(web3, contract)
        self.synced, self._watch = False, Watch(store)
        self._look_again = self._ask_again = self._seal_again = 0.0
        self._comet = comet
        self._holders = Holders(holders)
        manifest = self.reader.creation().manifest()
        if election_id not in (None, manifest.election_id):
            raise BallotboardError(
                f"the board {checksummed(contract)} holds the election {manifest.election_id.hex()}, not {election_id.hex()}: check the contract address"
            )
        self.replica = Replica(store, manifest, self.reader.address)

    def run(self, stop: threading.Event) -> None:
        """Looks at the chain until `stop` is set. Raises Alarm if there is one."""
        trouble = ""
        self._watch.tell(self.synced, trouble)
        while not stop.is_set():
            try:
                self.step(stop=stop)
                trouble, self.synced = "", self.synced or not stop.is_set()
            except Alarm as error:
                log.error("alarm: %s", error)
                raise
            except RETRIED as error:
                if trouble != str(error):
                    log.warning("%s", error)
                trouble = str(error)
            except Exception as error:
                # A bug, or a node whose answers make no sense at all. Going on could hide a gap.
                log.exception("the indexer failed")
                alarm = f"the indexer failed: {type(error).__name__}: {error}"
                self.replica.stop(alarm)
                raise Alarm(alarm) from error
            self._watch.tell(self.synced, trouble)
            stop.wait(POLL)

    def step(self, progress: Progress | None = None, stop: threading.Event | None = None) -> LogHead:
        """Reads on to the chain's head; gives the log's. With `stop` set, returns at the end of a transaction.

        Raises Alarm (of now or before), and NodeUnreachable, RpcError, Behind, Unsealed, StoreError, after which it may be called again.
        """
        if self.replica.alarm:
            raise Alarm(self.replica.alarm)
        try:
            self._follow(progress or (lambda done, of: None), stop or threading.Event())
            self._check_seals()
            return self.replica.head
        except RETRIED:
            raise
        except BallotboardError as error:
            self.replica.stop(str(error))
            raise Alarm(str(error)) from error

    def _follow(self, progress: Progress, stop: threading.Event) -> None:
        cursor, last = self.replica.cursor, readable_head(self.web3)
        if cursor and last < cursor.number:
            raise Behind(
                f"the node is at block {last}, and block {cursor.number} was read before: it is behind, or its chain was replaced"
            )
        if cursor and last == cursor.number:
            self._blocks(last)
            self._derive()
            return
        stored = self.reader.board.head(at=last)
        pending: list[Batch] = []
        records = size = 0
        for event in self.reader.batches(cursor.number + 1 if cursor else self.reader.creation().block_number, last):
            full = records >= COMMIT_RECORDS or size >= COMMIT_BYTES
            if full and event.block_number > pending[-1].block_number:
                self._commit(pending, pending[-1].block_number)
                self._derive()
                progress(self.replica.head.size, stored.size)
                pending, records, size = [], 0, 0
                if stop.is_set():
                    return
            pending.append(event)
            records, size = records + len(event.records), size + _bytes(event)
        self._commit(pending, last, stored)
        self._derive()
        if self.replica.manifest.verifier_threshold:
            self.replica.note("certified", self.reader.board.certified())
        progress(self.replica.head.size, stored.size)

    def _commit(self, events: list[Batch], last: int, stored: LogHead | None = None) -> None:
        """These events, and the cursor at block `last`; `stored` is the head that the contract has there."""
        cursor, hashes = self._blocks(last)
        for event in events:
            if hashes[event.block_number] != event.block_hash:
                raise Alarm(f"block {event.block_number} was replaced while it was read")
        self.replica.append(events, cursor, stored)

    def _blocks(self, last: int) -> tuple[Cursor, dict[int, bytes]]:
        """The cursor at block `last`, and the hashes of the blocks from the present cursor to there, each the parent of the next."""
        cursor = self.replica.cursor
        hashes: dict[int, bytes] = {}
        for start in range(cursor.number if cursor else self.reader.creation().block_number, last + 1, HEADERS_AT_ONCE):
            numbers = range(start, min(start + HEADERS_AT_ONCE, last + 1))
            for number, header in zip(
                numbers, batch(self.web3, [("eth_getBlockByNumber", [hex(n), False]) for n in numbers]), strict=True
            ):
                if header is None:
                    raise Behind(f"the node has no block {number} yet")
                digest = unhex(header["hash"])
                if cursor and number == cursor.number and digest != cursor.hash:
                    raise Alarm(
                        f"block {number} was {cursor.hash.hex()} and is now {digest.hex()}: the chain was replaced"
                    )
                if number - 1 in hashes and unhex(header["parentHash"]) != hashes[number - 1]:
                    raise Alarm(
                        f"block {number} does not follow block {number - 1}: the chain was replaced while it was read"
                    )
                hashes[number] = digest
        return Cursor(last, hashes[last], int(header["timestamp"], 16)), hashes

    def _check_seals(self) -> None:
        """Whether more than two thirds of the validators have signed for the log as it stands here (chain.evidence): now and then while it grows.

        The header that signs for a block is the next one, so it is the last block but one that is asked about.
        """
        cursor, manifest = self.replica.cursor, self.replica.manifest
        if not self._comet or manifest.engine != "cometbft" or not cursor or time.monotonic() < self._seal_again:
            return
        with self.replica.store.read() as tx:
            place, sealed = tx.last_event(cursor.number - 1), tx.fact("sealed")
        if place is None or (sealed and sealed["size"] == place.size):
            return
        self._seal_again = time.monotonic() + SEAL_POLL
        try:
            evidence = head_evidence(self.web3, self._comet, self.reader.address, at=cursor.number - 1)
        except ChainError as error:
            raise Unsealed(f"the validators' signatures cannot be had from {self._comet}: {error}") from error
        try:
            proven = verify(evidence.body(), manifest, self.reader.address)
        except BadEvidence as error:
            raise Alarm(
                f"the validators have not signed for block {cursor.number - 1} as it was read: {error}"
            ) from error
        if proven.head != LogHead(place.size, place.root):
            raise Alarm(
                f"the validators have signed for a log of {proven.head.size} records with root {proven.head.root.hex()} at block {proven.block}, and"
                f" what was read has {place.size} with root {place.root.hex()}"
            )
        self.replica.note(
            "sealed",
            {"size": place.size, "block": proven.block, "signed": proven.signed_power, "total": proven.total_power},
        )

    def _derive(self) -> None:
        """What follows from the log so far, with the files that it names, as far as they are published."""
        if (missing := self.replica.missing()) and time.monotonic() >= self._look_again:
            found = self.reader.attachments(missing)
            self.replica.attach(found)
            self._look_again = time.monotonic() + (ATTACHMENT_POLL if len(found) < len(missing) else 0)
        if self._holders.urls and time.monotonic() >= self._ask_again and (wanted := self.replica.without_body(BODIES)):
            if found := self._holders.fetch(wanted):  # some stay away for good: nothing is derived again for those
                self.replica.supply(found)
            self._ask_again = time.monotonic() + (0 if len(found) == BODIES else ATTACHMENT_POLL)
        self.replica.derive()


def _bytes(event: Batch) -> int:
    """Bytes of the bodies."""
    found = event.records
    return len(found.packed) if isinstance(found, Ballots) else sum(len(record.body or b"") for record in found)
