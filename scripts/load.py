"""The load driver: many voters' ballots to a relayer over HTTP, on kept-alive connections, one ballot or several a request.

It speaks just enough HTTP/1.1 by itself, since it shares the machine with what it measures: 20 µs of processor a request, where an HTTP
client takes 500 (httpx 0.28). Real deployments, with TLS and from other machines, are loaded with scripts/locustfile.py.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import uvloop

from protocol.errors import BallotboardError
from protocol.records import pack_bodies

CONNECTIONS = 16
"""Kept-alive connections: enough that the relayer always has a batch to check while others are answered."""

TOGETHER = 32
"""Ballots a request, as a booth server or a polling place would send them; a single voter's request has one."""

RETRIES = 20
"""Times that ballots are offered again to a relayer that is busy, each after the wait it asks for."""

ONE = "application/octet-stream"
MANY = "application/vnd.ballotboard.ballots"

Answered = Callable[[int, int, bytes, float], None]
"""Place of the request, HTTP status, body, seconds from its first byte out to the last byte in (with all retries)."""


@dataclass
class Answers:
    """What the relayer said: promises by place of the ballot, and refusals (place, reason)."""

    promises: dict[int, dict[str, Any]] = field(default_factory=dict)
    refusals: list[tuple[int, str]] = field(default_factory=list)


def send_ballots(
    relayer: str,
    bodies: Sequence[bytes],
    progress: Callable[[int, int], None] | None = None,
    together: int = TOGETHER,
) -> Answers:
    """Send the bodies to `relayer` (a URL), `together` a request. Raises BallotboardError if it stops answering."""
    answers = Answers()

    def answered(number: int, status: int, body: bytes, _: float) -> None:
        start = number * together
        found = json.loads(body)
        if not isinstance(found, list):
            found = [found] * len(bodies[start : start + together])
        for place, answer in enumerate(found, start):
            if "promise" in answer:
                answers.promises[place] = answer
            else:
                answers.refusals.append((place, str(answer.get("reason", status))))
        if progress:
            progress(len(answers.promises) + len(answers.refusals), len(bodies))

    chunks = (pack_bodies(bodies[i : i + together]) for i in range(0, len(bodies), together))
    post_all(relayer, chunks, answered, kind=MANY)
    return answers


def post_all(
    relayer: str, contents: Iterator[bytes], answered: Answered, connections: int = CONNECTIONS, kind: str = ONE
) -> None:
    """Post each of `contents` to the relayer's ballots, on every connection the next as soon as the last is answered.

    Raises BallotboardError if the relayer stops answering.
    """
    uvloop.run(_post_all(relayer, contents, answered, connections, kind))


async def _post_all(relayer: str, contents: Iterator[bytes], answered: Answered, connections: int, kind: str) -> None:
    loop, url = asyncio.get_running_loop(), urlsplit(relayer)
    head = f"POST /v1/ballots HTTP/1.1\r\nhost: {url.netloc}\r\ncontent-type: {kind}\r\ncontent-length: ".encode()
    work, ended = enumerate(contents), []
    try:
        for _ in range(connections):
            ended.append(loop.create_future())
            await loop.create_connection(
                lambda: _Connection(head, work, answered, ended[-1]), url.hostname or "", url.port or 80
            )
        await asyncio.gather(*ended)
    except OSError as error:
        raise BallotboardError(f"the relayer at {relayer} does not answer: {error or 'it hung up'}") from error


class _Connection(asyncio.Protocol):
    """One kept-alive connection, one request at a time; `ended` is set when there is no more work, or the peer hangs up before that."""

    def __init__(
        self, head: bytes, work: Iterator[tuple[int, bytes]], answered: Answered, ended: asyncio.Future[None]
    ) -> None:
        self._head, self._work, self._answered, self._ended = head, work, answered, ended
        self._buffer = b""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._next()

    def connection_lost(self, error: Exception | None) -> None:
        if not self._ended.done():
            self._ended.set_exception(error or ConnectionResetError("it hung up"))

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        headers = self._buffer[:end].lower()
        length = int(_header(headers, b"content-length") or 0)
        if len(self._buffer) < end + 4 + length:
            return
        status, body, self._buffer = int(headers[9:12]), self._buffer[end + 4 :], b""
        if status in (429, 503) and self._tries < RETRIES:
            wait = float(_header(headers, b"retry-after") or 1)
            asyncio.get_running_loop().call_later(wait, self._send)
            return
        try:
            self._answered(self._number, status, body, time.perf_counter() - self._start)
        except Exception as error:
            self._ended.set_exception(error)
            self._transport.close()
            return
        self._next()

    def _next(self) -> None:
        found = next(self._work, None)
        if found is None:
            self._ended.set_result(None)
            self._transport.close()
            return
        self._number, content = found
        self._request = b"%b%d\r\n\r\n%b" % (self._head, len(content), content)
        self._tries, self._start = 0, time.perf_counter()
        self._send()

    def _send(self) -> None:
        self._tries += 1
        self._transport.write(self._request)


def _header(headers: bytes, name: bytes) -> bytes | None:
    """The value of a header; `headers` in lower case, from the status line on."""
    _, found, rest = headers.partition(b"\r\n" + name + b":")
    return rest.partition(b"\r\n")[0].strip() if found else None
