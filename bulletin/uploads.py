"""Files that visitors send: a receipt, or a picture of a code. Read within limits, looked at once, kept nowhere.

A form is taken apart here, by its boundary alone. A picture is read in a process of its own that the system stops at its limits (verifier.pictures): what a
stranger's file does to a decoder written in C, it does not do to the board.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.message import Message
from pathlib import Path
from threading import BoundedSemaphore

from starlette.requests import ClientDisconnect, Request

from protocol.errors import BallotboardError
from verifier import pictures
from verifier.pictures import MAX_BYTES, NoCode

MAX_FORM = MAX_BYTES + 2**14
"""Bytes of a form with a picture in it."""

MAX_UPLOADS = 16
"""Uploads that are read at a time: 128 MB at most."""

PATIENCE = 30.0
"""Seconds for an upload to arrive, so that slow ones do not hold the places of others."""

READERS = 2
"""Pictures that are decoded at a time; each takes a processor for half a second."""

DEADLINE = 15.0
"""Seconds after which the process that decodes is killed."""


class Busy(BallotboardError):
    """As many uploads are being read as we have room for."""


class TooLong(BallotboardError):
    """More bytes than were allowed."""


class Uploads:
    """The uploads that one board reads at a time."""

    def __init__(self) -> None:
        self._here, self._readers = 0, BoundedSemaphore(READERS)

    @asynccontextmanager
    async def body(self, request: Request, limit: int) -> AsyncIterator[bytes]:
        """The body of a request, of at most `limit` bytes. Raises TooLong, Busy; one that does not arrive in time is Busy, too."""
        if self._here >= MAX_UPLOADS:
            raise Busy("too many files are being read: try again in a moment")
        self._here += 1
        try:
            yield await self._read(request, limit)
        finally:
            self._here -= 1

    def texts(self, picture: bytes) -> list[str]:
        """The texts of the QR codes in a picture. Raises NoCode, Busy."""
        if pictures.is_drawing(picture):  # nothing is decoded
            return pictures.texts(picture)
        if not self._readers.acquire(timeout=DEADLINE):
            raise Busy("too many pictures are being read: try again in a moment")
        try:
            return _decode(picture)
        finally:
            self._readers.release()

    async def _read(self, request: Request, limit: int) -> bytes:
        found = bytearray()
        try:
            async with asyncio.timeout(PATIENCE):
                async for chunk in request.stream():
                    found += chunk
                    if len(found) > limit:
                        raise TooLong(f"more than {limit:,} bytes")
        except (TimeoutError, ClientDisconnect) as error:
            raise Busy("the file did not arrive: try again") from error
        return bytes(found)


def is_form(content_type: str) -> bool:
    return content_type.lower().startswith("multipart/form-data")


def field(content_type: str, body: bytes, name: str) -> bytes:
    """The content of one field of a form (RFC 7578); empty if it has none. A form that is none has no field."""
    boundary = _parameter("content-type", content_type, "boundary")
    if not boundary:
        return b""
    for part in (b"\r\n" + body).split(b"\r\n--" + boundary.encode("latin-1", "replace"), 9)[1:]:
        head, blank, content = part.partition(b"\r\n\r\n")
        for line in head.decode("latin-1").split("\r\n"):
            kind, _, value = line.partition(":")
            if kind.strip().lower() == "content-disposition" and _parameter(kind, value.strip(), "name") == name:
                return content if blank else b""
    return b""


def _parameter(header: str, value: str, name: str) -> str:
    message = Message()
    message[header] = value.replace("\r", " ").replace("\n", " ")
    found = message.get_param(name, "", header)
    return found if isinstance(found, str) else ""


def _decode(picture: bytes) -> list[str]:
    root = Path(pictures.__file__).parents[1]
    environment = {"PYTHONPATH": str(root), "PATH": os.environ.get("PATH", "")}
    command = [sys.executable, "-m", "verifier.pictures"]
    try:
        done = subprocess.run(command, input=picture, capture_output=True, timeout=DEADLINE, env=environment, cwd=root)
    except subprocess.TimeoutExpired as error:
        raise NoCode("the picture takes too long to read: make it smaller") from error
    if done.returncode:
        # Our own refusal is one line; what a decoder that broke says is of no use to a visitor.
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise NoCode(said[0] if done.returncode == 1 and len(said) == 1 else "this picture cannot be read")
    found = json.loads(done.stdout)
    return [str(text) for text in found]
