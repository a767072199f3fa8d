"""How much one client may ask of a board: a token bucket each, in memory, forgotten when the process ends. Nothing of it is logged.

A request takes as many tokens as it costs (`cost`); a bucket fills at `rate` tokens a second and holds BURST seconds of that. Who has too few is
answered 429 and told when to come again. A client is an IPv4 address, or an IPv6 network of 64 bits, which one subscriber has; thousands may share an
address behind a carrier's translation, so the default is generous: it is for programs that run wild, not for a flood, which is the proxy's to stop.

Behind a reverse proxy every request comes from the proxy's address: `proxies` says whose X-Forwarded-For is believed. It is read from its end, past
trusted proxies, up to the first address that is none: what a client writes into the header itself stands before that and is never reached.
"""

from __future__ import annotations

import ipaddress
import logging
import math
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from functools import lru_cache
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from protocol.errors import BallotboardError

RATE = 100.0
"""Tokens a second of one client in the long run: a page a second of a hundred people behind one address."""

BURST = 20
"""Seconds of tokens that may be spent at once: who opens a page asks for everything on it."""

MAX_CLIENTS = 100_000
"""Buckets held, some 25 MB. Beyond, the one that was quiet for longest is forgotten, and is full when its client comes back."""

MAX_LISTENERS = 50
"""Streams of events that one client may hold open."""

FREE = ("/static/", "/healthz", "/readyz", "/metrics")
"""What a page loads, and the operator's own."""

POST, DOWNLOAD, LIST = 20, 20, 10
"""Tokens of a receipt that is checked, of the archive, of a search, a list whose length the client names, or a code that is drawn. Everything else is 1."""

log = logging.getLogger("bulletin")

Answer = Callable[[Scope, int], Awaitable[ASGIApp]]
"""Makes the answer to a request that has to come again after so many seconds."""


class Limiter:
    """In front of `app`: answers with `refuse` what is too much of one client. `rate` as above."""

    def __init__(self, app: ASGIApp, rate: float, refuse: Answer, events: str) -> None:
        """`events` is the path of the stream of events."""
        self.app, self._refuse, self._events = app, refuse, events
        self._buckets = Buckets(rate)
        self._listening: dict[str, int] = {}
        self._told = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        client = name(scope)
        if wait := self._buckets.take(client, cost(scope)):
            self._tell(scope)
            await (await self._refuse(scope, wait))(scope, receive, send)
        elif scope["path"] == self._events:
            await self._listen(client, scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _listen(self, client: str, scope: Scope, receive: Receive, send: Send) -> None:
        if self._listening.get(client, 0) >= MAX_LISTENERS:
            await (await self._refuse(scope, BURST))(scope, receive, send)
            return
        self._listening[client] = self._listening.get(client, 0) + 1
        try:
            await self.app(scope, receive, send)
        finally:
            self._listening[client] -= 1
            if not self._listening[client]:
                del self._listening[client]

    def _tell(self, scope: Scope) -> None:
        """Once, where everybody may have been taken for one client."""
        if not self._told and any(header == b"x-forwarded-for" for header, _ in scope["headers"]):
            self._told = True
            log.warning(
                "a client is over the limit and names another in X-Forwarded-For: if that is your proxy, give its address as --trust-proxy"
            )


class Buckets:
    """The buckets of all clients. `take` says after how many whole seconds to come again, 0 if it is granted."""

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.rate, self._clock = rate, clock
        self._full = max(1.0, rate * BURST)
        self._held: OrderedDict[str, tuple[float, float]] = OrderedDict()  # tokens, at which time

    def __len__(self) -> int:
        return len(self._held)

    def take(self, client: str, tokens: int) -> int:
        if not tokens:
            return 0
        now = self._clock()
        left, then = self._held.pop(client, (self._full, now))
        left = min(self._full, left + (now - then) * self.rate)
        tokens = min(tokens, int(self._full))  # of a small bucket, all of it
        granted = left >= tokens
        self._held[client] = (left - tokens if granted else left, now)
        if len(self._held) > MAX_CLIENTS:
            self._held.popitem(last=False)
        return 0 if granted else max(1, math.ceil((tokens - left) / self.rate))


def cost(scope: Scope) -> int:
    """Tokens of a request."""
    path, query = scope["path"], scope["query_string"]
    if path.startswith(FREE):
        return 0
    if scope["method"] not in ("GET", "HEAD"):
        return POST
    if path.startswith("/archive/"):
        return DOWNLOAD
    return LIST if b"limit=" in query or b"q=" in query or path.endswith(".svg") else 1


def name(scope: Scope) -> str:
    """Who asks."""
    address = scope.get("client")
    host = address[0] if address else ""
    return _network(host) if ":" in host else host


@lru_cache(maxsize=4_096)
def _network(host: str) -> str:
    try:
        found = ipaddress.IPv6Address(host.partition("%")[0])
    except ValueError:
        return host
    return str(found.ipv4_mapped or ipaddress.IPv6Network((found, 64), strict=False))


def proxies(trusted: Sequence[str]) -> dict[str, Any]:
    """What uvicorn is told about the proxies at these addresses or networks. Raises BallotboardError for what is neither."""
    for one in trusted:
        try:
            ipaddress.ip_network(one)
        except ValueError as error:
            raise BallotboardError(
                f"--trust-proxy {one} is not an address, nor a network such as 10.0.0.0/8: {error}"
            ) from error
    return {"proxy_headers": bool(trusted), "forwarded_allow_ips": list(trusted)}
