"""Records: kinds, log entries, and the bodies that are not ballots (docs/protocol.md, sections 2, 4, 9 and 10).

Each body class has `body()` and a strict `parse`, and parse(x).body() == x or parse raises Malformed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

from protocol import merkle
from protocol.encoding import Reader, canonical_json, members, parse_json, u8, u16, u32, u40, u64, unhex
from protocol.errors import Malformed
from protocol.manifest import RoleKind

MAX_BODY = 65_535
ANYONE = 65_535
"""Role index of records that anyone may append."""
STATION_OFFICERS = 65_534
"""Role index of records that two officers of a station signed."""
MAX_CHECK_INS = 1_000


class Kind(IntEnum):
    """What a record is. The value is the first byte of its entry."""

    MANIFEST = 0
    CEREMONY = 1
    ROLL = 2
    OPEN = 3
    BALLOT = 4
    CHECK_IN = 5
    STATION_HASH = 6
    STATION_RESULT = 7
    CLOSE = 8
    SETTLEMENT = 9
    PARTIAL_DECRYPTION = 10
    RESULT = 11
    REPORT = 12
    COMPLAINT = 13
    EXTENSION = 14
    ROLL_CHANGE = 15
    DECISION = 16

    @property
    def text(self) -> str:
        return self.name.lower().replace("_", "-")


SIGNER = {
    Kind.CEREMONY: RoleKind.TRUSTEE,
    Kind.ROLL: RoleKind.REGISTRAR,
    Kind.OPEN: RoleKind.AUTHORITY,
    Kind.PARTIAL_DECRYPTION: RoleKind.TRUSTEE,
    Kind.RESULT: RoleKind.AUTHORITY,
    Kind.REPORT: RoleKind.VERIFIER,
    Kind.EXTENSION: RoleKind.AUTHORITY,
    Kind.ROLL_CHANGE: RoleKind.REGISTRAR,
    Kind.DECISION: RoleKind.AUTHORITY,
}
"""The role that signs a kind. Complaints may be signed by any role."""

COSIGNED = (Kind.ROLL_CHANGE, Kind.DECISION)
"""Kinds that a cosigner signs too."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A log entry: 40 bytes, `kind || u40(time) || u16(role) || SHA-256(body)`."""

    kind: int
    time: int
    role: int
    body_hash: bytes

    def encode(self) -> bytes:
        return u8(self.kind) + u40(self.time) + u16(self.role) + self.body_hash

    def leaf(self) -> bytes:
        return merkle.leaf_hash(self.encode())

    @staticmethod
    def parse(data: bytes) -> Entry:
        reader = Reader(data, "entry")
        entry = Entry(
            reader.integer(1, "kind"),
            reader.integer(5, "time"),
            reader.integer(2, "role"),
            reader.take(32, "body_hash"),
        )
        reader.end()
        if entry.kind > max(Kind):
            raise Malformed("entry.kind", f"unknown kind {entry.kind}", 0)
        return entry


def ballot_hash(body: bytes) -> bytes:
    return hashlib.sha256(body).digest()


@dataclass(frozen=True, slots=True)
class LogHead:
    """`u64(size) || root`: the body of open and close, and the start of the settlement's."""

    size: int
    root: bytes

    def body(self) -> bytes:
        return u64(self.size) + self.root

    @staticmethod
    def parse(body: bytes) -> LogHead:
        reader = Reader(body, "head")
        head = LogHead(reader.integer(8, "size"), reader.take(32, "root"))
        reader.end()
        return head


@dataclass(frozen=True, slots=True)
class Settlement:
    """The settlement: the head it fixes and, in hash mode, the SHA-256 of the bitmap attachment (else empty)."""

    head: LogHead
    bitmap: bytes = b""

    def body(self) -> bytes:
        return self.head.body() + self.bitmap

    @staticmethod
    def parse(body: bytes, hash_mode: bool) -> Settlement:
        if len(body) != (72 if hash_mode else 40):
            raise Malformed("settlement", f"expected {72 if hash_mode else 40} bytes")
        return Settlement(LogHead.parse(body[:40]), body[40:])


@dataclass(frozen=True, slots=True)
class RollRecord:
    """The roll record: how many rows, their root and file hash, the election nonce, the hash of the counts per unit."""

    FORMAT = "ballotboard/roll/v1"
    count: int
    nonce: bytes
    root: bytes
    sha256: bytes
    units: bytes

    def body(self) -> bytes:
        hexed = {name: getattr(self, name).hex() for name in ("nonce", "root", "sha256", "units")}
        return canonical_json({"count": self.count, "format": self.FORMAT, **hexed})

    @staticmethod
    def parse(body: bytes) -> RollRecord:
        value = members(
            parse_json(body, "roll"), "roll", count=int, format=str, nonce=str, root=str, sha256=str, units=str
        )
        _format(value, "roll", RollRecord.FORMAT)
        if value["count"] < 1:
            raise Malformed("roll.count", "must be positive")
        hexed = {name: unhex(value[name], 32, f"roll.{name}") for name in ("nonce", "root", "sha256", "units")}
        return RollRecord(count=value["count"], **hexed)


@dataclass(frozen=True, slots=True)
class RollChange:
    """Revoke row `revoke`, add public key `add` in the same unit."""

    FORMAT = "ballotboard/roll-change/v1"
    add: bytes
    reason: str
    revoke: int
    unit: int

    def body(self) -> bytes:
        return canonical_json(
            {
                "add": self.add.hex(),
                "format": self.FORMAT,
                "reason": self.reason,
                "revoke": self.revoke,
                "unit": self.unit,
            }
        )

    @staticmethod
    def parse(body: bytes) -> RollChange:
        value = members(
            parse_json(body, "roll-change"), "roll-change", add=str, format=str, reason=str, revoke=int, unit=int
        )
        _format(value, "roll-change", RollChange.FORMAT)
        return RollChange(unhex(value["add"], 32, "roll-change.add"), value["reason"], value["revoke"], value["unit"])


@dataclass(frozen=True, slots=True)
class CheckIns:
    """A batch of a station: (roll index, station time) of voters who took a paper ballot."""

    station: int
    batch: int
    entries: tuple[tuple[int, int], ...]

    def body(self) -> bytes:
        return u32(self.station) + u32(self.batch) + b"".join(u32(index) + u40(time) for index, time in self.entries)

    @staticmethod
    def parse(body: bytes) -> CheckIns:
        reader = Reader(body, "check-in")
        station, batch = reader.integer(4, "station"), reader.integer(4, "batch")
        entries = []
        while reader.left:
            entries.append((reader.integer(4, "roll_index"), reader.integer(5, "time")))
        if not 1 <= len(entries) <= MAX_CHECK_INS:
            raise Malformed("check-in", f"needs 1 to {MAX_CHECK_INS} entries")
        return CheckIns(station, batch, tuple(entries))


@dataclass(frozen=True, slots=True)
class StationHash:
    """What two officers sign from 17:00: station, revision, SHA-256 of the result document."""

    station: int
    revision: int
    document: bytes

    def body(self) -> bytes:
        return u32(self.station) + u32(self.revision) + self.document

    @staticmethod
    def parse(body: bytes) -> StationHash:
        reader = Reader(body, "station-hash")
        record = StationHash(reader.integer(4, "station"), reader.integer(4, "revision"), reader.take(32, "document"))
        reader.end()
        if not record.revision:
            raise Malformed("station-hash.revision", "counts from 1", 4)
        return record


@dataclass(frozen=True, slots=True)
class Statement:
    """A complaint (kind 13) or a decision (kind 16): a class, the record it refers to, and a text."""

    format: str
    cls: str
    reference: int
    text: str

    def body(self) -> bytes:
        return canonical_json(
            {"class": self.cls, "format": self.format, "reference": self.reference, "text": self.text}
        )

    @staticmethod
    def parse(body: bytes, kind: Kind) -> Statement:
        field = kind.text
        names: dict[str, type] = {"class": str, "format": str, "reference": int, "text": str}
        value = members(parse_json(body, field), field, **names)
        _format(value, field, f"ballotboard/{field}/v1")
        return Statement(value["format"], value["class"], value["reference"], value["text"])


@dataclass(frozen=True, slots=True)
class Extension:
    """A later close time, with its reason."""

    close: int
    reason: str

    def body(self) -> bytes:
        return u40(self.close) + self.reason.encode()

    @staticmethod
    def parse(body: bytes) -> Extension:
        reader = Reader(body, "extension")
        close = reader.integer(5, "close")
        try:
            return Extension(close, reader.take(reader.left, "reason").decode())
        except UnicodeDecodeError as error:
            raise Malformed("extension.reason", "not UTF-8", 5) from error


@dataclass(frozen=True, slots=True)
class Report:
    """A verifier's verdict, revealed: good or bad, the state it certifies, the report's SHA-256, a salt (all 32 bytes)."""

    good: bool
    state: bytes
    report: bytes
    salt: bytes

    def body(self) -> bytes:
        return b"\x01" + u8(self.good) + self.state + self.report + self.salt

    def commitment(self) -> bytes:
        """The body of the record that commits to this report before any is revealed."""
        return b"\x00" + hashlib.sha256(self.body()).digest()

    @staticmethod
    def parse(body: bytes) -> Report | bytes:
        """A revealed report, or the 32-byte hash of a commitment."""
        reader = Reader(body, "report")
        revealed = reader.integer(1, "form")
        if revealed > 1:
            raise Malformed("report.form", "must be 0 or 1", 0)
        if not revealed:
            digest = reader.take(32, "commitment")
            reader.end()
            return digest
        good = reader.integer(1, "verdict")
        report = Report(bool(good), reader.take(32, "state"), reader.take(32, "report"), reader.take(32, "salt"))
        reader.end()
        if good > 1:
            raise Malformed("report.verdict", "must be 0 or 1", 1)
        return report


def pack_bodies(bodies: Iterable[bytes]) -> bytes:
    """`u16(length) || body` end to end: how ballots travel in calldata and across the native border."""
    return b"".join(u16(len(body)) + body for body in bodies)


def unpack_bodies(data: bytes) -> list[bytes]:
    reader, bodies = Reader(data, "bodies"), []
    while reader.left:
        bodies.append(reader.take(reader.integer(2, "length"), "body"))
    return bodies


def _format(value: dict, field: str, expected: str) -> None:
    if value["format"] != expected:
        raise Malformed(f"{field}.format", f"expected {expected}")
