"""A level's inbox over HTTP: the units below send their sums, and what they give together is sent on to the level above.

    POST /sums/{unit}      body: the sum    201 new or replaced, 200 duplicate or late, 409 contradicts what the unit sent before, 400, 403, 404, 413
    GET  /sums/{unit}      the standing sum of a unit right below, or of this unit
    GET  /children         this unit's child list
    GET  /status           JSON: what has come, what is missing, what was sent on

A sum proves itself by its signature, so there are no sessions and no passwords; run it behind TLS all the same. Units that come late are in the next
revision of this unit's sum, which goes up as soon as it is made; the level above answers a repetition with *duplicate*.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse

from protocol.errors import BallotboardError
from rollup.inbox import CHILDREN_FILE, Receipt, inbox, read, receive
from rollup.keys import Keys
from rollup.plan import Plan
from rollup.run import MissingSums, run_unit
from rollup.sums import NotSigned, SumError, size

SETTLE = 0.5
"""Seconds without a new sum after which the level's own is made: an evening's sums arrive in bursts."""

RETRY = 5.0
"""Seconds after which a level above that could not be reached is tried again."""

TIMEOUT = 10.0
"""Seconds for one request to the level above."""

STATUS = {Receipt.NEW: 201, Receipt.REPLACED: 201, Receipt.DUPLICATE: 200, Receipt.LATE: 200, Receipt.CONFLICT: 409}


def send(url: str, unit: int, data: bytes) -> Receipt:
    """Send a sum to the level above. Raises BallotboardError with its reason where it is refused or not reached."""
    try:
        answer = httpx.post(f"{url.rstrip('/')}/sums/{unit}", content=data, timeout=TIMEOUT, trust_env=False)
        value = answer.json()
    except (httpx.HTTPError, ValueError) as error:
        raise BallotboardError(f"cannot send to {url}: {error}") from error
    if answer.status_code not in (200, 201):
        reason = (
            value.get("detail") or "it has another one of this revision, signed by the same key; both are kept there"
        )
        raise BallotboardError(f"{url} refuses the sum of unit {unit}: {reason}")
    return Receipt(value["receipt"])


class Level:
    """One inner unit's process: its inbox, and, with keys, its own sum kept up to date and sent to `forward`."""

    def __init__(
        self, plan: Plan, folder: Path, unit: int, keys: Keys | None = None, forward: str = "", log: Callable[[str], None] = print
    ) -> None:  # fmt: skip
        self.plan, self.folder, self.unit, self.keys, self.forward, self.log = plan, folder, unit, keys, forward, log
        self.sent = 0
        self._arrived = threading.Event()
        self._stop = threading.Event()
        self._lock = threading.Lock()
        """Held while the inbox is written, or read for a sum."""
        self._worker = threading.Thread(target=self._work, daemon=True)

    def take(self, unit: int, data: bytes) -> Receipt:
        with self._lock:
            receipt = receive(self.plan, self.folder, unit, data)
        if receipt in (Receipt.NEW, Receipt.REPLACED):
            self._arrived.set()
        return receipt

    def status(self) -> dict[str, Any]:
        children = self.plan.children(self.unit)
        with self._lock:
            found = {child: read(self.plan, self.folder, child) for child in children}
            own = read(self.plan, self.folder, self.unit)
        return {
            "unit": self.unit, "name": self.plan.name(self.unit), "plan": self.plan.id.hex(),
            "children": len(children), "missing": [child for child, one in found.items() if one is None],
            "leaves": sum(one.leaves for one in found.values() if one), "of": self.plan.leaves(self.unit),
            "revision": own.revision if own else 0, "sent": self.sent,
        }  # fmt: skip

    def start(self) -> None:
        if self.keys:
            self._arrived.set()  # what came before a restart
            self._worker.start()

    def stop(self) -> None:
        self._stop.set()
        self._arrived.set()
        if self._worker.is_alive():
            self._worker.join()

    def _work(self) -> None:
        """Makes a sum of what is there whenever something has come, and sends it until it has arrived."""
        assert self.keys is not None
        while not self._stop.is_set():
            self._arrived.wait()
            while not self._stop.is_set() and self._arrived.is_set():
                self._arrived.clear()
                self._stop.wait(SETTLE)
            if self._stop.is_set():
                return
            try:
                with self._lock:
                    made = run_unit(self.plan, self.folder, self.unit, self.keys, partial=True).sum
                if self.forward and made.revision != self.sent and made.leaves:
                    send(self.forward, self.unit, made.data)
                    self.sent = made.revision
                    self.log(f"revision {made.revision}, {made.leaves:,} of {self.plan.leaves(self.unit):,} leaf units, is at {self.forward}")  # fmt: skip
            except MissingSums:
                continue  # nothing has come yet
            except BallotboardError as error:
                self.log(str(error))
                self._stop.wait(RETRY)
                self._arrived.set()


def create_app(level: Level) -> FastAPI:
    """The HTTP interface of one level."""
    app = FastAPI(title="Ballotboard roll-up", docs_url=None, redoc_url=None)
    below = set(level.plan.children(level.unit))

    @app.post("/sums/{unit}")
    async def post(unit: int, request: Request) -> Response:
        if unit not in below:
            return _error(404, f"unit {unit} is not right below unit {level.unit}")
        limit = size(level.plan.layout(unit))
        data = bytearray()
        async for chunk in request.stream():
            data += chunk
            if len(data) > limit:
                return _error(413, f"a sum of unit {unit} has {limit} bytes")
        try:
            receipt = await run_in_threadpool(level.take, unit, bytes(data))
        except SumError as error:
            return _error(403 if isinstance(error, NotSigned) else 400, str(error))
        return JSONResponse({"receipt": receipt.value}, STATUS[receipt])

    @app.get("/sums/{unit}")
    def get(unit: int) -> Response:
        found = read(level.plan, level.folder, unit) if unit in below or unit == level.unit else None
        if found is None:
            return _error(404, f"there is no sum of unit {unit} here")
        return Response(found.data, media_type="application/octet-stream")

    @app.get("/children")
    def children() -> Response:
        path = inbox(level.folder, level.unit) / CHILDREN_FILE
        return Response(path.read_bytes() if path.exists() else b"", media_type="application/octet-stream")

    @app.get("/status")
    def status() -> dict[str, Any]:
        return level.status()

    return app


def _error(status: int, detail: str) -> Response:
    return JSONResponse({"detail": detail}, status)
