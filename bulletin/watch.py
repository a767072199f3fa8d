"""How the process that follows the chain is, told by it in the database, and read there by every process that serves from it."""

from __future__ import annotations

import logging
import time
from typing import NamedTuple

from bulletin.store import Reading, Store, StoreError

BEAT = 5.0
"""Seconds after which the follower says again what it said before: that it lives."""

STALE = 30
"""Seconds of silence after which it is taken for dead. Clocks of different machines may be some seconds apart."""

_FACT = "follower"

log = logging.getLogger("bulletin")


class Followed(NamedTuple):
    """`synced` is true once the chain's head was reached; `trouble` says why the last look failed, "" if it did not."""

    synced: bool
    trouble: str


class Watch:
    """What the follower says. One thread uses it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._said: tuple[Followed, float] | None = None

    def tell(self, synced: bool, trouble: str) -> None:
        """Where the database cannot be written, silence says it."""
        now, told = time.monotonic(), Followed(synced, trouble)
        if self._said and self._said[0] == told and now - self._said[1] < BEAT:
            return
        try:
            with self._store.write() as tx:
                tx.set_fact(_FACT, [synced, trouble, int(time.time())])
            self._said = told, now
        except StoreError as error:
            log.warning("%s", error)


def followed(tx: Reading) -> Followed:
    """What was said last, if that was lately."""
    said = tx.fact(_FACT)
    if said is None:
        return Followed(False, "")
    synced, trouble, at = said
    silent = int(time.time()) - at
    if silent > STALE:
        trouble = f"nobody has looked at the chain for {silent} s: the process that follows it has ended, or cannot write the database"
    return Followed(synced, trouble)


def forget(store: Store) -> None:
    """Before another process follows: what the last one said is no word of its. Raises StoreError."""
    with store.write() as tx:
        tx.set_fact(_FACT, None)
