"""Server-sent events: what is new on the log, to every listener, from one look at the database at a time.

    event: head       data: {"size", "root", "block"}      whenever a block with records was read
    event: ballots    data: {"ballots"}                    whenever ballots were recorded
    event: stations   data: {"records"}                    whenever a station reported, or its result was revealed

The id of an event is the size of the log, so a client that comes back (Last-Event-ID) is told at once if it has missed something.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from starlette.concurrency import run_in_threadpool

from bulletin import views
from bulletin.store import Store, StoreError
from protocol.records import Kind

POLL = 0.5
"""Seconds between looks at the database, however many listen."""

ALIVE = 15.0
"""Seconds after which a line without meaning keeps a quiet connection open through proxies."""

MAX_LISTENERS = 1_000
"""Connections that are held open; who comes after is told to ask again."""

STATION_KINDS = (Kind.STATION_HASH, Kind.STATION_RESULT, Kind.CHECK_IN)


class Feed:
    """What the listeners of one board share."""

    def __init__(self, store: Store) -> None:
        self._store, self._state, self._grown = store, {"size": -1}, asyncio.Condition()
        self._watcher: asyncio.Task[None] | None = None
        self.listeners = 0

    async def events(self, last: int | None) -> AsyncIterator[bytes]:
        """The stream of one listener, who has seen the log of `last` records, if any."""
        self.listeners += 1
        try:
            state = await run_in_threadpool(self._look)
            seen: dict[str, Any] = {} if last != state["size"] else state
            while True:
                for name, data in _news(seen, state):
                    yield f"id: {state['size']}\nevent: {name}\ndata: {json.dumps(data)}\n\n".encode()
                seen = state
                state = await self._next(seen)
                if state is seen:
                    yield b": alive\n\n"
        finally:
            self.listeners -= 1
            if not self.listeners and self._watcher:
                self._watcher.cancel()
                self._watcher = None

    async def _next(self, seen: dict[str, Any]) -> dict[str, Any]:
        """The state once it is another than `seen`, or `seen` itself after ALIVE seconds."""
        if self._watcher is None or self._watcher.done():
            self._watcher = asyncio.get_running_loop().create_task(self._watch())
        try:
            async with asyncio.timeout(ALIVE), self._grown:
                await self._grown.wait_for(lambda: self._state["size"] > seen["size"])
                return self._state
        except TimeoutError:
            return seen

    async def _watch(self) -> None:
        while True:
            try:
                state = await run_in_threadpool(self._look)
            except StoreError:
                state = self._state  # the pages say so
            if state["size"] != self._state["size"]:
                async with self._grown:
                    self._state = state
                    self._grown.notify_all()
            await asyncio.sleep(POLL)

    def _look(self) -> dict[str, Any]:
        with self._store.read() as tx:
            head, counts = views.head_value(tx), tx.counts()
        reported = sum(counts.get(kind, 0) for kind in STATION_KINDS)
        return {"size": head["size"], "head": head, "ballots": counts.get(Kind.BALLOT, 0), "stations": reported}


def _news(seen: dict[str, Any], state: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    found = []
    if seen.get("size") != state["size"]:
        found.append(("head", state["head"]))
    if seen.get("ballots") != state["ballots"]:
        found.append(("ballots", {"ballots": state["ballots"]}))
    if seen.get("stations") != state["stations"]:
        found.append(("stations", {"records": state["stations"]}))
    return found
