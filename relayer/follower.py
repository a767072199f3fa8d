"""The relayer's copy of the log: what phase it is, who may vote, what has landed where.

One thread calls `poll`; every other thread reads `view`, which is replaced as a whole, `positions`, and proofs of sizes it got from a view.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from web3 import Web3

from chain.contract import Phase
from chain.errors import ChainError
from chain.log import read_log
from chain.rpc import Address, block
from protocol.attachments import Roll
from protocol.election import LogRecord, MissingAttachment, OpenElection, roll_state
from protocol.errors import BallotboardError
from protocol.records import Kind, LogHead
from relayer.receipts import Tree

_PHASES = {Kind.OPEN: Phase.OPEN, Kind.CLOSE: Phase.CLOSED, Kind.SETTLEMENT: Phase.SETTLED, Kind.RESULT: Phase.FINAL}


@dataclass(frozen=True)
class View:
    """The election as of one look at the chain. Intake ends at `close`, appending at `last_append`; `election` and `roll` are there once it is open."""

    head: LogHead
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


class Follower:
    """Follows one board. `positions` has the first position of every ballot hash in the log; `problem` says why no ballot can be checked."""

    def __init__(self, web3: Web3, contract: Address) -> None:
        """Reads the whole log. Raises ChainError where there is no board, NodeUnreachable where there is no node."""
        self.log = read_log(web3, contract, attachments=False)
        self.manifest = self.log.manifest
        self.tree = Tree()
        self.positions: dict[bytes, int] = {}
        self.problem = ""
        self._web3 = web3
        self._phase, self._close = Phase.SETUP, self.manifest.windows.close
        self._election: OpenElection | None = None
        self._unreadable = False
        self._roll: Roll | None = None
        self._revoked: Mapping[int, int] = {}
        self._changes: list[LogRecord] = []
        self._block: tuple[str, int, float] | None = None
        self.view = self._look(self.log.records, self._clock())

    def poll(self) -> list[LogRecord]:
        """Reads on; gives the new records. Raises ChainError, NodeUnreachable; the view stays as it was then."""
        clock = self._clock()
        new = self.log.extend()
        # From here on nothing fails: what was read is handed on, or a batch that landed would be missed.
        self.view = self._look(new, clock)
        return new

    def _look(self, new: list[LogRecord], clock: tuple[int, float]) -> View:
        self.tree.extend(self.log.leaves[self.tree.size :])
        for record in new:
            self._apply(record)
        if self._phase == Phase.OPEN and self._election is None and not self._unreadable:
            self._open()
        return View(
            self.log.head, self._phase, self._close, self._close + self.manifest.windows.append_grace, self._election, self._roll,
            self._revoked, *clock, time.monotonic(),
        )  # fmt: skip

    def _apply(self, record: LogRecord) -> None:
        if record.kind == Kind.BALLOT:
            self.positions.setdefault(record.entry.body_hash, record.position)
        elif record.kind in _PHASES:
            self._phase = _PHASES[Kind(record.kind)]
        elif record.kind == Kind.EXTENSION:
            self._close = int.from_bytes((record.body or b"")[:5], "big")  # the contract reads no more of it either
        elif record.kind == Kind.ROLL_CHANGE:
            self._changes.append(record)
            self._change_roll()

    def _open(self) -> None:
        """The election, once its files are to be had: they may come later than the records that name them."""
        try:
            self.log.read_attachments()
            self._election = self.log.open()
            self._roll, self.problem = self._election.roll, ""
            self._change_roll()
        except BallotboardError as error:
            self.problem = f"no ballot can be checked: {error}"
            self._unreadable = not isinstance(error, (MissingAttachment, ChainError))

    def _change_roll(self) -> None:
        if self._election and self._changes:
            try:
                state = roll_state(self._election, self._changes)
            except BallotboardError as error:
                self.problem = f"the roll stays as it was: {error}"
                return
            self._roll, self._revoked = state.roll, state.revoked

    def _clock(self) -> tuple[int, float]:
        """The time of the chain's latest block, and when it was first seen here."""
        latest = block(self._web3, "latest")
        if self._block is None and self.manifest.engine == "anvil":
            # The first look may find a block that is hours old; anvil tells what time the next one will have.
            latest["timestamp"] = block(self._web3, "pending")["timestamp"]
        if self._block is None or latest["hash"] != self._block[0]:
            self._block = latest["hash"], int(latest["timestamp"], 16), time.monotonic()
        return self._block[1:]
