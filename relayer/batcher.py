"""Promised ballots onto the chain: one account, one stream of nonces and sequences.

A batch is made in this order, and a crash between any two steps loses nothing and sends nothing twice:

    1. take the oldest waiting ballots, shuffle them, sign a transaction       crash: nothing happened
    2. commit the signed bytes and which ballots they hold (`Claim.submit`)    crash: step 3 is taken after the restart
    3. send the bytes                                                         crash: they are sent again; a node knows them by their hash
    4. the log shows the sender's sequence: every ballot of the batch is       crash: the log is read again from its beginning
       looked up in it by its hash, and committed as final

Records that others have signed go before ballots, one in a transaction, through the same steps and the same nonces; they have no sequence, and
what became of one is read from its receipt.

The contract takes each sequence of a sender once, in order, so a batch that reverted (or whose nonce went to another transaction) takes all
batches behind it along. Nothing new is sent until every batch in flight has landed or reverted; then their ballots are sent
again, in smaller batches if the contract refused one for what was in it, down to the one ballot that cannot be appended.

A transaction that stays in no block while blocks are made is replaced: the same nonce and the same input at higher fees, so at most one of the
two can land, and both hashes are kept until one has. Where several processes share an outbox, each also looks after batches of the others that
have been in flight for long: it sends their stored bytes again, and finds out what became of them. It never signs their ballots anew while
the old bytes could still land.
"""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from collections.abc import Sequence
from random import Random, SystemRandom

import structlog
from eth_account.typed_transactions.typed_transaction import TypedTransaction
from hexbytes import HexBytes

from chain.contract import MAX_GAS, Phase, Refused
from chain.errors import ChainError, NodeUnreachable, RpcError
from chain.rpc import batch as ask
from chain.rpc import block, call, checksummed
from chain.transactions import SignedTransaction
from chain.writer import Writer
from relayer.config import Settings
from relayer.faults import point
from relayer.follower import Follower, Landed
from relayer.metrics import Metrics
from relayer.outbox import CHUNK, Batch, Claim, Outbox, Waiting

log = structlog.get_logger()

NO_LIMIT = 2**20
"""Ballots in a batch when nothing has been refused: more than fit, so that the bytes decide."""

STUCK_BLOCKS = 3
"""Blocks that must have been made without a transaction before it counts as stuck: a chain that stands still takes none, at any fee."""


def shuffled(waiting: Sequence[Waiting], random: Random | None = None) -> list[Waiting]:
    """A random order in which each credential's ballots keep theirs: arrival does not leak, and no revote is overtaken by what it replaces."""
    keys = (random or SystemRandom()).randbytes(8 * len(waiting))
    mixed = sorted(range(len(waiting)), key=lambda place: keys[8 * place : 8 * place + 8])
    in_order: dict[int, list[Waiting]] = {}
    for ballot in waiting:
        in_order.setdefault(ballot.roll_index, []).append(ballot)
    queues = {index: iter(ballots) for index, ballots in in_order.items()}
    return [next(queues[waiting[place].roll_index]) for place in mixed]


class Batcher:
    """Called by one thread: `observe` what the log has gained, then `step`. `problem` is why the node took no batch the last time, if it did not.

    `changes` grows whenever something became of a ballot or a record.
    """

    def __init__(
        self, outbox: Outbox, follower: Follower, writer: Writer, role: int, settings: Settings, metrics: Metrics
    ) -> None:
        """`writer` sends from the account of role `role`."""
        self.outbox, self.follower, self.writer, self.role = outbox, follower, writer, role
        self.settings, self.metrics = settings, metrics
        self._account = bytes.fromhex(writer.sender.account.address[2:])
        self._hashes = follower.manifest.body_mode == "hash"
        self.flight = outbox.in_flight(self._account)
        self.problem = ""
        self.changes = 0
        self._landed: defaultdict[int | None, int] = defaultdict(lambda: -1)  # role → its highest sequence in the log
        self._largest = NO_LIMIT
        self._blocked = False
        self._unsure = False  # a commit failed, or seemed to: what is in flight is what the outbox says
        self._waiting_since: float | None = None
        self._sent = float("-inf")
        self._first_sent: dict[int, tuple[float, int]] = {}  # batch → when, and the block read last
        self._others: set[int] = set()
        self._others_looked = time.monotonic()

    def observe(self, news: Sequence[Landed]) -> None:
        """Step 4. `news` are the ballot transactions that are new in the log."""
        times = {(landed.role, landed.sequence): landed.time for landed in news}
        for landed in news:
            self._landed[landed.role] = max(self._landed[landed.role], landed.sequence)
        ended = []
        while self.flight and self._in_log(self.flight[0]):
            batch = self.flight.pop(0)
            if self._finish(batch, times.get((self.role, batch.sequence or 0))):
                self._largest = min(2 * self._largest, NO_LIMIT)
                ended.append(batch)
        if ended:
            self._count_gas(ended)

    def step(self, hurry: bool = False) -> None:
        """Looks after what is in flight and sends what is due; with `hurry` everything is due. Raises NodeUnreachable and other ChainErrors."""
        if self._unsure:
            self.outbox.recount()
            self.flight, self._unsure = self.outbox.in_flight(self._account), False
        self._check(self.flight)
        self._look_after_others()
        while len(self.flight) < self.settings.max_in_flight and self._submit_record():
            pass
        if self._blocked and self.flight:
            return
        self._blocked = False
        if self.follower.view.phase > Phase.OPEN:
            self._bury_all("the poll was closed before it was appended")
        while len(self.flight) < self.settings.max_in_flight:
            batch = None
            with self.outbox.claim(self.settings.max_batch_bytes, self._largest, self._hashes) as claim:
                known = [ballot.id for ballot in claim.ballots if ballot.hash in self.follower.positions]
                if not known and claim.ballots and (claim.more or hurry or self._due()):
                    batch = self._submit(claim)
            if known:
                self._already_there(known)
            elif batch:
                self._launch(batch)
            else:
                if not claim.ballots:
                    self._waiting_since = None
                return

    # ---- steps 1 to 3

    def _submit(self, claim: Claim) -> Batch:
        sequences = [batch.sequence for batch in self.flight if batch.sequence is not None]
        sequence = sequences[-1] + 1 if sequences else self.writer.board.sequences(self._account)
        ballots = shuffled(claim.ballots)
        nonce = self._nonce()
        if self._hashes:
            signed = self.writer.prepare_ballot_hashes(sequence, [ballot.hash for ballot in ballots], nonce)
        else:
            signed = self.writer.prepare_ballots(sequence, [ballot.body for ballot in ballots], nonce)
        self._unsure = True
        batch = claim.submit(self._account, sequence, nonce, signed.raw, signed.hash)
        self._unsure = False
        self._waiting_since = None
        self.metrics.batch.observe(batch.count)
        return batch

    def _submit_record(self) -> bool:
        with self.outbox.claim_record() as claim:
            if claim.record is None:
                return False
            signed = self.writer.sender.sign(
                self.writer.board.address, claim.record.call, MAX_GAS, nonce := self._nonce()
            )
            self._unsure = True
            batch = claim.submit(self._account, nonce, signed.raw, signed.hash)
            self._unsure = False
        self._launch(batch)
        return True

    def _nonce(self) -> int:
        return self.flight[-1].nonce + 1 if self.flight else self.writer.nonce()

    def _launch(self, batch: Batch) -> None:
        self.flight.append(batch)
        self.changes += 1
        self._send(batch)
        log.info("batch sent", sequence=batch.sequence, nonce=batch.nonce, count=batch.count, bytes=len(batch.raw))

    def _send(self, batch: Batch) -> None:
        self._sent = time.monotonic()
        self._first_sent.setdefault(batch.id, (self._sent, self.follower.block))
        point("send before")
        try:
            self.writer.broadcast(batch.raw)
            self.problem = ""
        except RpcError as error:
            # Not lost: it is sent again after `rebroadcast_after`, and given back if its nonce is gone.
            self.problem = str(error)
            log.warning("batch not taken", sequence=batch.sequence, nonce=batch.nonce, error=self.problem)
        point("send after")

    def _due(self) -> bool:
        """Whether ballots have waited for `max_delay` since they were first seen waiting."""
        if self._waiting_since is None:
            self._waiting_since = time.monotonic()
        return time.monotonic() - self._waiting_since >= self.settings.max_delay

    # ---- what landed

    def _in_log(self, batch: Batch) -> bool:
        role = self.role if batch.account == self._account else self.follower.manifest.role_index(batch.account)
        return batch.sequence is not None and batch.sequence <= self._landed[role]

    def _finish(self, batch: Batch, time_landed: int | None) -> bool:
        """A batch whose sequence is in the log is final, if its ballots are what is there."""
        held = self.outbox.held(batch.id)
        if any(ballot.hash not in self.follower.positions for ballot in held):
            self._give_back(batch, "another process sends from this account: stop it")
            return False
        if self.outbox.landed(batch):
            self.changes += 1
            if time_landed is not None:
                self.metrics.slack.observe(min(ballot.by for ballot in held) - time_landed)
            log.info("batch landed", sequence=batch.sequence, ballots=batch.count)
        first = self._first_sent.pop(batch.id, None)
        if first:
            self.metrics.landing.observe(time.monotonic() - first[0])
        return True

    def _count_gas(self, batches: Sequence[Batch]) -> None:
        """For the metrics alone: a node that fails here is asked something that matters soon enough."""
        with contextlib.suppress(ChainError):
            reads = [("eth_getTransactionReceipt", ["0x" + h.hex()]) for batch in batches for h in batch.hashes]
            for receipt in ask(self.writer.sender.web3, reads):
                if receipt:
                    self.metrics.gas.inc(int(receipt["gasUsed"], 16))

    def _already_there(self, ballots: Sequence[int]) -> None:
        """Waiting ballots that are in the log through another relayer are final."""
        self.outbox.seen(ballots)
        self.changes += 1

    # ---- what did not land

    def _check(self, flight: list[Batch]) -> None:
        """Gives back the ballots of an account's batches that can land no more; sends again what a node may have forgotten."""
        web3, mine = self.writer.sender.web3, flight is self.flight
        if mine:
            self.metrics.nonce_gap.set(0)
        while flight:
            batch = flight[0]
            # In this order: a nonce that is used up before a look that finds no receipt was used by another transaction.
            used = int(call(web3, "eth_getTransactionCount", checksummed(batch.account), "latest"), 16)
            if mine:
                self.metrics.nonce_gap.set(max(0, flight[-1].nonce + 1 - used))
            receipts = ask(web3, [("eth_getTransactionReceipt", ["0x" + h.hex()]) for h in batch.hashes])
            receipt = next((found for found in receipts if found), None)
            if receipt is None and used <= batch.nonce:
                if mine and self._is_stuck(batch):
                    self._replace(batch)
                elif not mine or time.monotonic() - self._sent >= self.settings.rebroadcast_after:
                    for again in flight:
                        self._send(again)
                return
            if receipt is None:
                self._give_back(batch, "another transaction has used its nonce")
                flight.remove(batch)
            elif int(receipt["status"], 16) != 1:
                self._reverted(batch, bytes.fromhex(receipt["transactionHash"][2:]))
                flight.remove(batch)
            elif batch.sequence is not None:
                return  # its event comes with the log
            else:
                flight.remove(batch)
                if self.outbox.landed(batch):
                    self.metrics.gas.inc(int(receipt["gasUsed"], 16))
                    self.changes += 1
                    log.info("record landed", nonce=batch.nonce)
                self._first_sent.pop(batch.id, None)

    def _look_after_others(self) -> None:
        """Batches of other processes that were in flight a whole `takeover_after` ago: their process may be gone, and their bytes are here."""
        now = time.monotonic()
        if not self.outbox.shared or now - self._others_looked < self.settings.takeover_after:
            return
        self._others_looked = now
        flights: dict[bytes, list[Batch]] = {}
        for batch in self.outbox.in_flight():
            if batch.account != self._account:
                flights.setdefault(batch.account, []).append(batch)
        before, self._others = self._others, {batch.id for flight in flights.values() for batch in flight}
        for flight in flights.values():
            while flight and flight[0].id in before and self._in_log(flight[0]):
                self._finish(flight.pop(0), None)
            if flight and flight[0].id in before:
                log.warning("looking after another process's batches", batches=len(flight))
                self._check(flight)

    def _is_stuck(self, batch: Batch) -> bool:
        since, at_block = self._first_sent.setdefault(batch.id, (time.monotonic(), self.follower.block))
        waited = time.monotonic() - since >= self.settings.replace_after
        return waited and self.follower.block >= at_block + STUCK_BLOCKS

    def _replace(self, batch: Batch) -> None:
        """The same nonce and input at twice the fees, and what the chain asks for now: a pool takes nothing that pays less than a tenth more."""
        web3, account = self.writer.sender.web3, self.writer.sender.account
        fields = TypedTransaction.from_bytes(HexBytes(batch.raw)).as_dict()
        tip = 2 * int(fields["maxPriorityFeePerGas"])
        fee = max(2 * int(fields["maxFeePerGas"]), 2 * int(block(web3, "latest")["baseFeePerGas"], 16) + tip)
        unsigned = {name: value for name, value in fields.items() if name not in ("v", "r", "s", "accessList")}
        made = account.sign_transaction(unsigned | {"maxPriorityFeePerGas": tip, "maxFeePerGas": fee})
        signed = SignedTransaction(bytes(made.raw_transaction), bytes(made.hash))
        self._unsure = True
        replaced = self.outbox.replace(batch, signed.raw, signed.hash)
        self._unsure = False
        if replaced is None:  # another process has found out what became of it
            self.flight.remove(batch)
            return
        self.flight[self.flight.index(batch)] = replaced
        self._first_sent[batch.id] = time.monotonic(), self.follower.block
        self.metrics.replaced.inc()
        log.warning("stuck transaction replaced", sequence=batch.sequence, nonce=batch.nonce, max_fee=fee)
        self._send(replaced)

    def _reverted(self, batch: Batch, transaction: bytes) -> None:
        """What follows from the reason. Batches behind one that reverted fail with WrongSequence, which says nothing about them."""
        why = self._why(transaction)
        held, records = self.outbox.held(batch.id), self.outbox.records_held(batch.id)
        if batch.sequence is None:
            self.outbox.reverted(batch)
            for record in records:
                self.outbox.bury_record(record.id, str(why))
                log.warning("record refused", error=str(why))
            self.changes += 1
            return
        self._give_back(batch, str(why))
        if isinstance(why, Refused) and why.name == "TooLate":
            self._bury_all(f"it was not appended in time: {why}")
        elif not isinstance(why, Refused) or why.name == "BadBody":
            # Something in it, or its gas: half of it next time, down to the one ballot that no batch can carry.
            self._largest = max(1, batch.count // 2)
            if batch.count == 1:
                self._bury([ballot.id for ballot in held], f"the board refuses it: {why}")

    def _give_back(self, batch: Batch, why: str) -> None:
        """The ballots of a batch that can land no more wait again; nothing is sent until all in flight are settled."""
        log.warning("batch given back", sequence=batch.sequence, nonce=batch.nonce, count=batch.count, error=why)
        self.metrics.given_back.inc()
        self.outbox.reverted(batch)
        self._first_sent.pop(batch.id, None)
        self._blocked |= batch.account == self._account and batch.sequence is not None
        self.changes += 1

    def _why(self, transaction: bytes) -> ChainError:
        """Why a transaction reverted. Raises NodeUnreachable and RpcError where the node does not say: it is asked again."""
        try:
            self.writer.receipt(transaction)
        except (NodeUnreachable, RpcError):
            raise
        except ChainError as error:
            return error
        raise ChainError("the node says that a transaction reverted and that it did not; use another node")

    def _bury_all(self, reason: str) -> None:
        last = 0
        while waiting := self.outbox.waiting(last, CHUNK):
            last = waiting[-1][0]
            if known := [ballot for ballot, digest in waiting if digest in self.follower.positions]:
                self._already_there(known)
        self._bury(None, reason)

    def _bury(self, ballots: Sequence[int] | None, reason: str) -> None:
        if dead := self.outbox.bury(ballots, reason):
            self.changes += 1
            log.error("promise broken", ballots=dead, reason=reason)
