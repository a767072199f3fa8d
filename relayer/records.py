"""Records that others have signed: check-ins, result hashes and results of stations, trustees' shares, the authority's acts.

    the input of a call of the board → the board asked whether it would take it now → stored and synced → carried before any ballot

The relayer adds nothing and can change nothing: the board checks the signatures in the input. It pays, and it sends again until the call is in a
block. `chain.carrier.Carrier` is the client.
"""

from __future__ import annotations

import hashlib
from typing import Any

from chain.contract import MAX_CALLDATA, selector
from chain.errors import ChainError, NodeUnreachable
from chain.transactions import Sender
from protocol.errors import BallotboardError, Malformed
from relayer.follower import Follower
from relayer.outbox import Outbox, State

CALLS = ("append", "appendStations", "reveal", "close", "settle")
"""The functions of the board that anyone may call for another: what matters in them is signed, or needs no signature."""


class RecordRefused(BallotboardError):
    """The board would not take this call now: its words."""


class Records:
    """`accept` and `status` may be called from any thread."""

    def __init__(self, outbox: Outbox, follower: Follower, sender: Sender) -> None:
        self.outbox, self.follower, self._sender = outbox, follower, sender
        self._selectors = {selector(name): name for name in CALLS}

    def accept(self, call: bytes) -> dict[str, Any]:
        """Stores a call and says what has become of it, so it may be posted twice. Raises Malformed, RecordRefused, or ChainError without a node."""
        digest = hashlib.sha256(call).digest()
        known = self.status(digest)
        if known and known["state"] != State.DEAD.text:
            return known
        if len(call) > MAX_CALLDATA:
            raise Malformed("call", f"has {len(call)} bytes, and a transaction carries {MAX_CALLDATA}")
        if call[:4] not in self._selectors:
            raise Malformed("call", f"must be the input of one of {', '.join(CALLS)}")
        try:
            self._sender.estimate(self.follower.contract, call)
        except NodeUnreachable:
            raise
        except ChainError as error:
            raise RecordRefused(str(error)) from error
        self.outbox.accept(call, digest, self.follower.view.now)
        return {"record": digest.hex(), "state": State.PROMISED.text}

    def status(self, digest: bytes) -> dict[str, Any] | None:
        """`{record, state, transaction?, reason?}` of a call by its SHA-256; None of one that never came in."""
        found = self.outbox.record(digest)
        if found is None:
            return None
        value = {"record": digest.hex(), "state": found.state.text}
        if found.transaction:
            value["transaction"] = found.transaction.hex()
        if found.reason:
            value["reason"] = found.reason
        return value
