"""A station's journal: an append-only, hash-chained, encrypted file that reopens where it was, whatever happened to power or network.

    header line (chain.sealed), then records:  MARK (8) || u32(length) || SecretBox(entry), nonce first
    entry = canonical JSON {"data", "kind", "number", "previous", "time"}         hash = SHA-256(entry)

`previous` is the hash of the entry before, in entry 0 the hash of the header, so one hash stands for everything up to it; the opening and closing
hashes of a station's result are such. `append` returns when its record is on the disk, and not before; that is what *confirmed* means.

What a crash can leave. There is one writer (a lock) and each record is synced before the next is begun, so at most the last record is torn, and it
was never confirmed. On opening, a last record that is short or does not open is taken out of the file and kept, as hex, in an entry of kind
`recovered`: nothing is dropped in silence. No mark may follow it. One that follows shows that a record in the middle was changed, and then nothing
is repaired: the file is refused. What no file can tell by itself is that whole records are missing at its end; the hashes in the signed
result, and the batches on the chain, do.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from nacl.exceptions import CryptoError
from nacl.secret import SecretBox

from chain.sealed import STRONG, Cost, WrongPassphrase, new_header, open_box, take_header
from protocol.encoding import canonical_json, members, parse_json, u32, unhex
from protocol.errors import BallotboardError

FORMAT = "ballotboard/journal/v1"
MARK = bytes.fromhex("f7424a524e4c0d0a")
"""Eight bytes before each record. Ciphertext holds them by chance once in 2^64 places."""

OVERHEAD = len(MARK) + 4
MAX_ENTRY = 1 << 20
"""Bytes of one entry: fifteen times the largest record body, so that a document fits as hex with room."""

MODE = 0o600

Clock = Callable[[], int]
"""Seconds since 1970-01-01 UTC."""


def system_clock() -> int:
    return int(time.time())


class JournalError(BallotboardError):
    """A journal that is missing, in use, damaged, or cannot be written."""


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """A confirmed entry: its place, station time (seconds), kind, data, the hash of the entry before, and its canonical bytes."""

    number: int
    time: int
    kind: str
    data: dict[str, Any]
    previous: bytes
    body: bytes

    @property
    def hash(self) -> bytes:
        return hashlib.sha256(self.body).digest()


class Journal:
    """An open journal, held for this process alone. `entries` are the confirmed ones; `head` is the hash of the last."""

    def __init__(self, path: Path, handle: int, header: bytes, box: SecretBox, clock: Clock) -> None:
        self.path, self.clock = path, clock
        self.entries: list[JournalEntry] = []
        self.head = hashlib.sha256(header).digest()
        self._handle, self._box, self._end = handle, box, len(header)
        self._broken = False

    @classmethod
    def create(cls, path: Path, passphrase: str, clock: Clock = system_clock, cost: Cost = STRONG) -> Journal:
        """A new, empty journal. Refuses to overwrite a file."""
        header = new_header(FORMAT, cost)
        box = open_box(header, passphrase, str(path))
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, MODE)
        except FileExistsError:
            raise JournalError(f"{path} exists and is not overwritten") from None
        except OSError as error:
            raise JournalError(f"cannot write {path}: {error.strerror}") from error
        journal = cls(path, handle, header, box, clock)
        try:
            _lock(handle, path)
            journal._write(header, 0)
            _sync_directory(path.parent)
        except BaseException:
            os.close(handle)
            path.unlink()
            raise
        return journal

    @classmethod
    def open(cls, path: Path, passphrase: str, clock: Clock = system_clock) -> Journal:
        """The journal in a file, recovered from a crash if there was one.

        Raises JournalError if it is in use or damaged, WrongPassphrase; the file is then as it was.
        """
        try:
            handle = os.open(path, os.O_RDWR)
        except OSError as error:
            raise JournalError(f"cannot open the journal {path}: {error.strerror}") from error
        try:
            _lock(handle, path)
            data = _read(handle)
            header = take_header(data, FORMAT, str(path))
            journal = cls(path, handle, header, open_box(header, passphrase, str(path)), clock)
            torn = journal._replay(data)
            if not journal.entries:  # nor could a wrong passphrase be told from the right one
                raise JournalError(f"{path} has no entry: whoever made it was interrupted; remove it and make it again")
            if torn:
                os.ftruncate(handle, journal._end)
                journal.append("recovered", torn=torn.hex())
        except BaseException:
            os.close(handle)
            raise
        return journal

    def append(self, kind: str, **data: Any) -> JournalEntry:
        """Add an entry; when this returns it is on the disk.

        Raises JournalError if it cannot be written. The file is then as before, or, if not even that can be said, the journal refuses
        everything until it is opened again.
        """
        number, now = len(self.entries), self.clock()
        body = canonical_json({"data": data, "kind": kind, "number": number, "previous": self.head.hex(), "time": now})
        if len(body) > MAX_ENTRY:
            raise JournalError(f"an entry of {len(body)} bytes is too large for a journal")
        sealed = self._box.encrypt(body)
        self._write(MARK + u32(len(sealed)) + sealed, self._end)
        return self._confirm(JournalEntry(number, now, kind, data, self.head, body), OVERHEAD + len(sealed))

    def find(self, kind: str) -> list[JournalEntry]:
        """The entries of a kind, in order."""
        return [entry for entry in self.entries if entry.kind == kind]

    def export(self) -> bytes:
        """The entries in the clear, one canonical JSON object a line: each names the SHA-256 of the one before."""
        return b"".join(entry.body + b"\n" for entry in self.entries)

    def close(self) -> None:
        """Let other processes have it. Closing twice is harmless."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ---- the file

    def _write(self, data: bytes, offset: int) -> None:
        if self._broken or self._handle < 0:
            raise JournalError(f"the journal {self.path} must be opened again")
        try:
            written = 0
            while written < len(data):  # a nearly full disk takes a part, then says so
                written += os.pwrite(self._handle, data[written:], offset + written)
            os.fsync(self._handle)
        except OSError as error:
            self._take_back(offset)
            raise JournalError(f"cannot write {self.path}: {error.strerror}; nothing was recorded") from error
        except BaseException:  # ^C between write and sync: not confirmed, so not there
            self._take_back(offset)
            raise

    def _take_back(self, offset: int) -> None:
        # After a failed sync nobody knows what the disk holds; the next opening reads it and decides.
        self._broken = True
        try:
            os.ftruncate(self._handle, offset)
            os.fsync(self._handle)
            self._broken = False
        except OSError:
            pass

    def _confirm(self, entry: JournalEntry, length: int) -> JournalEntry:
        self.entries.append(entry)
        self.head = entry.hash
        self._end += length
        return entry

    def _replay(self, data: bytes) -> bytes:
        """Read every record; returns the bytes of a torn last one."""
        while self._end < len(data):
            entry, length = self._entry(data, self._end)
            if entry is None:
                return self._torn(data)
            self._confirm(entry, length)
        return b""

    def _entry(self, data: bytes, offset: int) -> tuple[JournalEntry | None, int]:
        start = offset + OVERHEAD
        length = int.from_bytes(data[offset + len(MARK) : start], "big")
        sealed = data[start : start + length]
        if data[offset : offset + len(MARK)] != MARK or len(sealed) != length:
            return None, 0
        try:
            body = self._box.decrypt(sealed)
        except (CryptoError, ValueError):
            return None, 0
        value = parse_json(body, f"{self.path} at byte {offset}")
        members(value, str(self.path), data=dict, kind=str, number=int, previous=str, time=int)
        previous = unhex(value["previous"], 32, f"{self.path}.previous")
        if (value["number"], previous) != (len(self.entries), self.head):
            raise JournalError(
                f"{self.path} was changed: entry {value['number']} at byte {offset} does not follow the one before"
            )
        return JournalEntry(
            value["number"], value["time"], value["kind"], value["data"], previous, body
        ), OVERHEAD + length

    def _torn(self, data: bytes) -> bytes:
        torn = data[self._end :]
        more = torn.find(MARK, 1) >= 0
        if self.entries and more:
            raise JournalError(f"{self.path} is damaged at byte {self._end}: keep this file and go back to a copy")
        if not self.entries and (more or len(torn) == OVERHEAD + int.from_bytes(torn[len(MARK) : OVERHEAD], "big")):
            # not one record opens, so it is rather the key than the record that is wrong
            raise WrongPassphrase(f"{self.path} does not open: the passphrase is wrong, or the file was damaged")
        return torn


def _read(handle: int) -> bytes:
    with os.fdopen(os.dup(handle), "rb") as file:
        file.seek(0)
        return file.read()


def _lock(handle: int, path: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise JournalError(f"{path} is in use by another process: wait for it, or stop it") from None


def _sync_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
