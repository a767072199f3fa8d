"""Promised ballots onto the chain: one account, one stream of nonces and sequences.

A batch is made in this order, and a crash between any two steps loses nothing and sends nothing twice:

    1. take the oldest waiting ballots, shuffle them, sign a transaction       crash: nothing happened
    2. commit the signed bytes and which ballots they hold (`Outbox.submit`)   crash: step 3 is taken after the restart
    3. send the bytes                                                         crash: they are sent again; a node knows them by their hash
    4. the log shows the sender's sequence: every ballot of the batch is       crash: the log is read again from its beginning
       looked up in it by its hash, and committed as final

The contract takes each sequence of a sender once, in order, so a batch that reverted (or whose nonce went to another transaction) takes all
batches behind it along. Nothing new is sent until every batch in flight has landed or reverted; then their ballots are sent
again, in smaller batches if the contract refused one for what was in it, down to the one ballot that cannot be appended.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from random import Random, SystemRandom

import structlog

from chain.contract import Phase, Refused
from chain.errors import ChainError, NodeUnreachable, RpcError
from chain.rpc import call
from chain.writer import Writer
from protocol.election import LogRecord
from protocol.records import Kind
from relayer.config import Settings
from relayer.follower import Follower
from relayer.metrics import Metrics
from relayer.outbox import Batch, Outbox, Waiting

log = structlog.get_logger()

NO_LIMIT = 2**20
"""Ballots in a batch when nothing has been refused: more than fit, so that the bytes decide."""

EVERYTHING = 2**62
"""Bytes beyond any outbox."""


def shuffled(waiting: Sequence[Waiting], random: Random | None = None) -> list[Waiting]:
    """A random order in which each credential's ballots keep theirs: arrival does not leak, and no revote is overtaken by what it replaces."""
    mixed = list(waiting)
    (random or SystemRandom()).shuffle(mixed)
    in_order: dict[int, list[Waiting]] = {}
    for ballot in waiting:
        in_order.setdefault(ballot.roll_index, []).append(ballot)
    queues = {index: iter(ballots) for index, ballots in in_order.items()}
    return [next(queues[ballot.roll_index]) for ballot in mixed]


class Batcher:
    """Called by one thread: `observe` what the log has gained, then `step`. `problem` is why the node took no batch the last time, if it did not."""

    def __init__(
        self, outbox: Outbox, follower: Follower, writer: Writer, role: int, settings: Settings, metrics: Metrics
    ) -> None:
        """`writer` sends from the account of role `role`."""
        self.outbox, self.follower, self.writer, self.role = outbox, follower, writer, role
        self.settings, self.metrics = settings, metrics
        self.flight = outbox.in_flight()
        self.problem = ""
        self._account = writer.sender.account.address
        self._landed: set[int] = set()
        self._largest = NO_LIMIT
        self._blocked = False
        self._waiting_since: float | None = None
        self._sent = float("-inf")
        self._first_sent: dict[int, float] = {}

    def observe(self, records: Sequence[LogRecord]) -> None:
        """Step 4. `records` are new in the log."""
        self._landed.update(r.number for r in records if r.kind == Kind.BALLOT and r.entry.role == self.role)
        while self.flight and self.flight[0].sequence in self._landed:
            batch = self.flight[0]
            places = [(ballot, self.follower.positions.get(digest)) for ballot, digest in self.outbox.held(batch.id)]
            found = [(ballot, position) for ballot, position in places if position is not None]
            if len(found) < len(places):
                self._give_back(batch, "another process sends from this account: stop it")
                continue
            self.outbox.landed(batch.id, found)
            self.flight.pop(0)
            self._largest = min(2 * self._largest, NO_LIMIT)
            if batch.id in self._first_sent:
                self.metrics.landing.observe(time.monotonic() - self._first_sent.pop(batch.id))
            log.info("batch landed", sequence=batch.sequence, ballots=batch.count)
        if not self.flight:
            self._landed.clear()

    def step(self, hurry: bool = False) -> None:
        """Looks after what is in flight and sends what is due; with `hurry` everything is due. Raises NodeUnreachable and other ChainErrors."""
        self._check_flight()
        if self._blocked and self.flight:
            return
        self._blocked = False
        if self.follower.view.phase > Phase.OPEN:
            self._bury_all("the poll was closed before it was appended")
        while len(self.flight) < self.settings.max_in_flight:
            waiting, full = self.outbox.waiting(self.settings.max_batch_bytes, self._largest)
            if self._recognise(waiting):
                continue
            if waiting and (full or hurry or self._due()):
                self._submit(waiting)
            else:
                if not waiting:
                    self._waiting_since = None
                return

    # ---- steps 1 to 3

    def _submit(self, waiting: Sequence[Waiting]) -> None:
        ballots = shuffled(waiting)
        if self.flight:
            sequence, nonce = self.flight[-1].sequence + 1, self.flight[-1].nonce + 1
        else:
            sequence, nonce = self.writer.board.sequences(self._account), self.writer.nonce()
        signed = self.writer.prepare_ballots(sequence, [ballot.body for ballot in ballots], nonce)
        batch = self.outbox.submit(sequence, nonce, signed.raw, signed.hash, [ballot.id for ballot in ballots])
        self.flight.append(batch)
        self._waiting_since = None
        self._first_sent[batch.id] = time.monotonic()
        self.metrics.batch.observe(batch.count)
        self._send(batch)
        log.info("batch sent", sequence=sequence, ballots=batch.count, bytes=len(signed.raw))

    def _send(self, batch: Batch) -> None:
        self._sent = time.monotonic()
        try:
            self.writer.broadcast(batch.raw)
            self.problem = ""
        except RpcError as error:
            # Not lost: it is sent again after `rebroadcast_after`, and given back if its nonce is gone.
            self.problem = str(error)
            log.warning("batch not taken", sequence=batch.sequence, error=self.problem)

    def _due(self) -> bool:
        """Whether ballots have waited for `max_delay` since they were first seen waiting."""
        if self._waiting_since is None:
            self._waiting_since = time.monotonic()
        return time.monotonic() - self._waiting_since >= self.settings.max_delay

    # ---- what did not land

    def _check_flight(self) -> None:
        """Gives back the ballots of batches that can land no more; sends again what a node may have forgotten."""
        while self.flight:
            batch = self.flight[0]
            # In this order: a nonce that is used up before a look that finds no receipt was used by another transaction.
            used = int(call(self.writer.sender.web3, "eth_getTransactionCount", self._account, "latest"), 16)
            receipt = call(self.writer.sender.web3, "eth_getTransactionReceipt", "0x" + batch.hash.hex())
            if receipt is None and used <= batch.nonce:
                if time.monotonic() - self._sent >= self.settings.rebroadcast_after:
                    for again in self.flight:
                        self._send(again)
                return
            if receipt is None:
                self._give_back(batch, "another transaction has used its nonce")
            elif int(receipt["status"], 16) == 1:
                return  # its event comes with the log
            else:
                self._reverted(batch)

    def _reverted(self, batch: Batch) -> None:
        """What follows from the reason. Batches behind one that reverted fail with WrongSequence, which says nothing about them."""
        why = self._why(batch)
        held = self.outbox.held(batch.id)
        self._give_back(batch, str(why))
        if isinstance(why, Refused) and why.name == "TooLate":
            self._bury_all(f"it was not appended in time: {why}")
        elif not isinstance(why, Refused) or why.name == "BadBody":
            # Something in it, or its gas: half of it next time, down to the one ballot that no batch can carry.
            self._largest = max(1, batch.count // 2)
            if batch.count == 1:
                self._bury([ballot for ballot, _ in held], f"the board refuses it: {why}")

    def _give_back(self, batch: Batch, why: str) -> None:
        """The ballots of a batch that can land no more wait again; nothing is sent until all in flight are settled."""
        log.warning("batch given back", sequence=batch.sequence, ballots=batch.count, error=why)
        self.metrics.given_back.inc()
        self.outbox.reverted(batch.id)
        self.flight.remove(batch)
        self._first_sent.pop(batch.id, None)
        self._blocked = True

    def _why(self, batch: Batch) -> ChainError:
        """Why a transaction reverted. Raises NodeUnreachable and RpcError where the node does not say: it is asked again."""
        try:
            self.writer.receipt(batch.hash)
        except (NodeUnreachable, RpcError):
            raise
        except ChainError as error:
            return error
        raise ChainError("the node says that a transaction reverted and that it did not; use another node")

    def _bury_all(self, reason: str) -> None:
        self._recognise(self.outbox.waiting(EVERYTHING, NO_LIMIT)[0])
        self._bury(None, reason)

    def _bury(self, ballots: Sequence[int] | None, reason: str) -> None:
        if dead := self.outbox.bury(ballots, reason):
            log.error("promise broken", ballots=dead, reason=reason)

    def _recognise(self, waiting: Sequence[Waiting]) -> bool:
        """Whether some of these are in the log already, through another relayer. They are final then."""
        positions = self.follower.positions
        known = [(ballot.id, positions[ballot.hash]) for ballot in waiting if ballot.hash in positions]
        if known:
            self.outbox.seen(known)
        return bool(known)
