"""A unit's log: the ballots that its sum was made from, append-only, hash-chained, compressed.

    header line: canonical JSON {"format": "ballotboard/unit-log/v1", "plan": hex32, "unit": int} and a newline, then frames:
    frame   = MARK (8) || u32(length) || zstd(content)
    content = head before (32) || u64(ballots before) || ballots, each u16(length) || body

The head of an empty log is SHA-256 of the header line; after a frame it is SHA-256 of its content. It is over what was compressed, not over the
compressed bytes, which may differ between versions of zstd. The log holds every ballot that was offered, also those refused: replaying it gives the
same answers again.

What a crash can leave. There is one writer (a lock), a frame is on the disk before the next is begun, so at most the last one is torn, and it was never
confirmed: opening takes it off. A frame that does not open with another one after it was damaged, and then the log is refused.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import zstandard

from protocol.encoding import canonical_json, u32, u64
from protocol.errors import BallotboardError, Malformed
from protocol.records import pack_bodies, unpack_bodies

FORMAT = "ballotboard/unit-log/v1"
MARK = bytes.fromhex("f742524c4f470d0a")
"""Eight bytes before each frame."""

OVERHEAD = len(MARK) + 4
MAX_CONTENT = 1 << 24
"""Bytes of a frame before compression; a reader allocates no more, whatever a frame announces."""

MAX_HEADER = 256
LEVEL = 3
"""Ballots are random points and nearly incompressible: a higher level takes longer for nothing."""


class LogError(BallotboardError):
    """A log that is missing, in use, damaged, or another unit's."""


@dataclass(frozen=True, slots=True)
class Position:
    """A place between two frames: the head there, the ballots before, the offset in the file."""

    head: bytes
    ballots: int
    offset: int


class UnitLog:
    """An open log. `end` is the place after the last confirmed frame that was read or written."""

    def __init__(self, path: Path, handle: int, start: Position) -> None:
        self.path, self.start, self.end = path, start, start
        self._handle = handle

    @classmethod
    def open(cls, path: Path, plan: bytes, unit: int, write: bool = True) -> UnitLog:
        """The log of a unit; with `write`, for this process alone, and made if there is none. `frames` has to be read to the end before `append`."""
        header = canonical_json({"format": FORMAT, "plan": plan.hex(), "unit": unit}) + b"\n"
        try:
            if write:
                path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_RDWR | os.O_CREAT if write else os.O_RDONLY, 0o644)
        except OSError as error:
            raise LogError(f"cannot open the log {path}: {error.strerror}") from error
        try:
            if write:
                _lock(handle, path)
            found = os.pread(handle, len(header), 0)
            if write and header.startswith(found):  # new, or killed while its header was written
                _write(handle, header, 0, path)
            elif found != header:
                raise LogError(f"{path} is not the log of unit {unit} in this plan")
            return cls(path, handle, Position(hashlib.sha256(header).digest(), 0, len(header)))
        except BaseException:
            os.close(handle)
            raise

    def frames(self) -> Iterator[list[bytes]]:
        """The ballots of each frame from the start, checked against the chain; `end` moves along. Raises LogError where the log is damaged."""
        self.end = self.start
        size = os.fstat(self._handle).st_size
        while self.end.offset < size:
            frame = self._frame(size)
            if frame is None:
                return
            content, length = frame
            if content[:32] != self.end.head or content[32:40] != u64(self.end.ballots):
                raise LogError(
                    f"{self.path} was changed: the frame at byte {self.end.offset} does not follow the one before"
                )
            try:
                bodies = unpack_bodies(content[40:])
            except Malformed as error:
                raise LogError(f"{self.path}: the frame at byte {self.end.offset} is malformed: {error}") from error
            self.end = Position(
                hashlib.sha256(content).digest(), self.end.ballots + len(bodies), self.end.offset + OVERHEAD + length
            )
            yield bodies

    def append(self, bodies: Sequence[bytes]) -> None:
        """Add a frame; when this returns it is on the disk. A torn frame that a crash left is overwritten."""
        content = self.end.head + u64(self.end.ballots) + pack_bodies(bodies)
        if len(content) > MAX_CONTENT:
            raise LogError(f"{len(bodies):,} ballots are too many for one frame of the log")
        packed = zstandard.ZstdCompressor(level=LEVEL).compress(content)
        os.ftruncate(self._handle, self.end.offset)
        _write(self._handle, MARK + u32(len(packed)) + packed, self.end.offset, self.path)
        self.end = Position(
            hashlib.sha256(content).digest(),
            self.end.ballots + len(bodies),
            self.end.offset + OVERHEAD + len(packed),
        )

    def close(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def __enter__(self) -> UnitLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _frame(self, size: int) -> tuple[bytes, int] | None:
        """(content, compressed length) of the frame at `end`; None for a torn one at the end of the file."""
        at = self.end.offset
        start = os.pread(self._handle, OVERHEAD, at)
        length = int.from_bytes(start[len(MARK) :], "big")
        if start[: len(MARK)] == MARK and len(start) == OVERHEAD and at + OVERHEAD + length <= size:
            try:
                packed = os.pread(self._handle, length, at + OVERHEAD)
                announced = zstandard.get_frame_parameters(packed).content_size
                if 40 <= announced <= MAX_CONTENT:
                    # extra data would let a frame swallow the mark of the next one
                    return zstandard.ZstdDecompressor().decompress(packed, allow_extra_data=False), length
            except zstandard.ZstdError:
                pass
        rest = size - at
        if rest > OVERHEAD + MAX_CONTENT + 4096 or MARK in os.pread(self._handle, rest, at + 1):
            raise LogError(f"{self.path} is damaged at byte {at}: keep this file and go back to a copy")
        return None


def _write(handle: int, data: bytes, offset: int, path: Path) -> None:
    try:
        written = 0
        while written < len(data):
            written += os.pwrite(handle, data[written:], offset + written)
        os.fsync(handle)
    except OSError as error:
        raise LogError(f"cannot write {path}: {error.strerror}; nothing was counted since") from error


def _lock(handle: int, path: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise LogError(f"{path} is in use by another process: wait for it, or stop it") from None
