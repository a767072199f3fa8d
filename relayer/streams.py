"""Voters who wait: what becomes of a ballot, told as it happens.

One task looks at all ballots that are waited for, in one query, whenever the chain thread has changed something: a thousand voters cost as much
as one. Everything here belongs to the event loop.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

State = dict[str, Any]

BEAT = 15.0
"""Seconds after which a line is sent although nothing has happened: proxies close what is silent for a minute."""


class Streams:
    """`changes` counts the changes so far, `states` gives what there is to say of these ballots (called in a thread), `pause` is in seconds."""

    def __init__(
        self, changes: Callable[[], int], states: Callable[[Iterable[bytes]], dict[bytes, State]], pause: float
    ) -> None:
        self._changes, self._states, self._pause = changes, states, pause
        self._waited: Counter[bytes] = Counter()
        self._latest: dict[bytes, State] = {}
        self._turn = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def listeners(self) -> int:
        return self._waited.total()

    async def follow(self, ballot_hash: bytes) -> AsyncIterator[State | None]:
        """The ballot's state now and after every change, until it is final, dead or unknown; None every BEAT seconds without one."""
        self._waited[ballot_hash] += 1
        try:
            state = (await asyncio.to_thread(self._states, [ballot_hash]))[ballot_hash]
            yield state
            while state["state"] in ("promised", "submitted"):
                if self._task is None or self._task.done():
                    self._task = asyncio.create_task(self._watch())
                turn = self._turn
                try:
                    await asyncio.wait_for(turn.wait(), BEAT)
                except TimeoutError:
                    yield None
                found = self._latest.get(ballot_hash, state)
                if found["state"] != state["state"]:
                    state = found
                    yield state
        finally:
            self._waited[ballot_hash] -= 1
            if not self._waited[ballot_hash]:
                del self._waited[ballot_hash]
                self._latest.pop(ballot_hash, None)

    async def _watch(self) -> None:
        seen = -1
        while self._waited:
            if (changes := self._changes()) != seen:
                self._latest = await asyncio.to_thread(self._states, list(self._waited))
                seen = changes
                self._turn.set()
                self._turn = asyncio.Event()
            await asyncio.sleep(self._pause)
