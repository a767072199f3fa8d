"""The archive: one election's whole record in one file, read and written as a stream (docs/protocol.md, section 14).

    file   = magic || block … block || u32(0) || record digest (32) || file digest (32)
    block  = u32(bytes of the frame) || u32(bytes of its content) || zstandard frame
    item   = u8(type) || u32(length) || payload             items end to end, cut into contents of 1 MiB

A digest is SHA-256 over the SHA-256 of each block's content. The record digest covers the blocks up to the end of the log, so whoever makes
an archive of the same log gets the same digest, with whatever release of zstandard; with the same release the same bytes. What follows the
end of the log is the validators' evidence.

Nothing in an archive is believed: it only claims, as a node does, and the checks decide. What this module refuses is a file that is not
one: cut short, changed, in another order, or made to exhaust whoever reads it. It holds one block and one item in memory.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

import zstandard

from protocol.encoding import canonical_json, members, parse_json, unhex
from protocol.errors import BallotboardError, Malformed
from verifier.claims import WrongInput

FORMAT = "ballotboard/archive/v1"
MAGIC = FORMAT.encode() + b"\n"

BLOCK = 2**20
"""Bytes of content in a block: some 3,000 yes/no ballots, so that reading one of them costs a millisecond and the index stays small."""

MAX_ITEM = 2**22
"""Bytes of the longest payload: a transaction of 16,777,216 gas (EIP-7825) carries at most 1.7 MB of zeros."""

LEVEL = 3
"""zstandard's default. Ballots are points and scalars, which no level makes smaller; the rest is small."""

MAX_FRAME = BLOCK + BLOCK // 128 + 1024
"""zstandard's own bound for a frame of incompressible content is below this."""

_HEAD = struct.Struct(">II")
_ITEM = struct.Struct(">BI")


class BadArchive(WrongInput):
    """Not an archive, or not all of one; the message says where."""


class Item(NamedTuple):
    """One item: its type, where its payload begins in the content, and the payload."""

    type: bytes
    offset: int
    payload: bytes


BOARD, CREATION, CODE, IN_BLOCK, RECORD = b"A", b"C", b"K", b"B", b"R"
BALLOTS, HASHES, BODIES, FILE, PART = b"V", b"H", b"D", b"F", b"P"
END, EVIDENCE = b"E", b"S"

FOLLOWS: dict[bytes, bytes] = {
    b"": BOARD,
    BOARD: CREATION,
    CREATION: CODE,
    CODE: IN_BLOCK + FILE + END,
    IN_BLOCK: RECORD + BALLOTS + HASHES,
    RECORD: IN_BLOCK + RECORD + BALLOTS + HASHES + FILE + END,
    BALLOTS: IN_BLOCK + RECORD + BALLOTS + HASHES + FILE + END,
    HASHES: IN_BLOCK + RECORD + BALLOTS + HASHES + BODIES + FILE + END,
    BODIES: IN_BLOCK + RECORD + BALLOTS + HASHES + BODIES + FILE + END,
    FILE: PART + FILE + END,
    PART: PART + FILE + END,
    END: EVIDENCE,
    EVIDENCE: b"",
}
"""Which item may come after which; an archive ends after `END` or `EVIDENCE`."""

LONGEST = {BOARD: 1_000, PART: BLOCK, EVIDENCE: BLOCK - 5}
"""Bytes of the longest payload of a type, where that is not MAX_ITEM. Evidence fills one block at most."""


# ---------------------------------------------------------------- writing


class ArchiveWriter:
    """Writes one archive to `file`, item by item, and nothing before the last: `finish` makes it whole."""

    def __init__(self, file: IO[bytes], chain_id: int, contract: bytes) -> None:
        self._file, self._buffer = file, bytearray()
        self._compressor = zstandard.ZstdCompressor(level=LEVEL)
        self._digests = hashlib.sha256()
        self.record_digest = b""
        self._file.write(MAGIC)
        self._item(BOARD, canonical_json({"chain": chain_id, "contract": contract.hex(), "format": FORMAT}))

    def contract(self, creation: bytes, runtime_code: bytes) -> None:
        """The input of the creation transaction, and the code at the address."""
        self._item(CREATION, creation)
        self._item(CODE, runtime_code)

    def block(self, number: int, block_hash: bytes, time: int) -> None:
        """The block of the chain that the records after this are in."""
        self._item(IN_BLOCK, number.to_bytes(8, "big") + block_hash + time.to_bytes(5, "big"))

    def record(self, kind: int, role: int, number: int, root: bytes, signatures: bytes, body: bytes) -> None:
        """A record other than a ballot, with the root that the board announced after it."""
        head = struct.pack(">BHQ32sH", kind, role, number, root, len(signatures))
        self._item(RECORD, head + signatures + body)

    def ballots(self, role: int, sequence: int, root: bytes, count: int, packed: bytes) -> None:
        """A batch of ballots, packed with u16, and the root after the last."""
        self._item(BALLOTS, struct.pack(">HQ32sI", role, sequence, root, count) + packed)

    def hashes(self, role: int, sequence: int, root: bytes, hashes: bytes, bodies: Iterator[bytes | None]) -> None:
        """A batch of ballots' hashes, with the bodies that the data holders keep; None where there is none."""
        self._item(HASHES, struct.pack(">HQ32sI", role, sequence, root, len(hashes) // 32) + hashes)
        pieces = [b"" if body is None else body for body in bodies]
        if any(pieces):
            packed = bytearray()
            for body in pieces:
                if len(packed) + 2 + len(body) > BLOCK:
                    self._item(BODIES, bytes(packed))
                    packed.clear()
                packed += len(body).to_bytes(2, "big") + body
            self._item(BODIES, bytes(packed))

    def file(self, sha256: bytes, data: bytes) -> None:
        """A file that a record names. They come in the order of their hashes."""
        self._item(FILE, sha256 + len(data).to_bytes(8, "big"))
        for start in range(0, len(data), BLOCK):
            self._item(PART, bytes(data[start : start + BLOCK]))

    def finish(self, size: int, root: bytes, evidence: bytes = b"") -> bytes:
        """The board's own head, the evidence if there is any, and the digests. Gives the record digest."""
        self._item(END, size.to_bytes(8, "big") + root)
        self._flush()
        self.record_digest = self._digests.digest()
        if evidence:
            self._item(EVIDENCE, evidence)
            self._flush()
        self._file.write(bytes(4) + self.record_digest + self._digests.digest())
        self._file.flush()
        return self.record_digest

    def _item(self, type: bytes, payload: bytes) -> None:
        if len(payload) > LONGEST.get(type, MAX_ITEM):
            raise BallotboardError(
                f"an item of {len(payload):,} bytes is more than an archive holds ({MAX_ITEM:,}): one of the board's"
                " transactions is larger than any network takes"
            )
        self._buffer += _ITEM.pack(type[0], len(payload)) + payload
        while len(self._buffer) >= BLOCK:
            self._block(bytes(self._buffer[:BLOCK]))
            del self._buffer[:BLOCK]

    def _flush(self) -> None:
        if self._buffer:
            self._block(bytes(self._buffer))
            self._buffer.clear()

    def _block(self, content: bytes) -> None:
        frame = self._compressor.compress(content)
        self._digests.update(hashlib.sha256(content).digest())
        self._file.write(_HEAD.pack(len(frame), len(content)) + frame)


# ---------------------------------------------------------------- reading


class ArchiveFile:
    """An archive on disk: first `items`, all of it in order and checked as the module says, then `read`, any part of the content again.

    What `read` gives has the digest that the first reading saw, so a file that is exchanged in between is noticed.
    """

    def __init__(self, path: Path, keep: int = 0) -> None:
        """Contents of the first blocks are kept in memory, up to `keep` bytes of them; the others are read again when they are needed."""
        self.path, self._keep = path, keep
        try:
            self._file = path.open("rb")
            self.bytes = os.fstat(self._file.fileno()).st_size
        except OSError as error:
            raise BallotboardError(f"cannot read {path}: {error.strerror}") from error
        self._decompressor = zstandard.ZstdDecompressor(max_window_size=2 * BLOCK)
        self._places: list[tuple[int, int, int]] = []  # per block: where its frame is, its length, that of the content
        self._digests: list[bytes] = []
        self._kept: list[bytes] = []
        self._recent: dict[int, bytes] = {}
        self.chain_id, self.contract = 0, b""
        self.record_digest = b""
        self.done = 0

    def close(self) -> None:
        self._file.close()

    def items(self) -> Iterator[Item]:
        """Every item in order. Raises BadArchive at the first thing that is wrong, BallotboardError where the file cannot be read."""
        contents, before = self._contents(), b""
        buffer, start = bytearray(), 0  # what is read and not yet used, and where in the content it begins
        while True:
            while len(buffer) < _ITEM.size:
                content = next(contents, None)
                if content is None:
                    if buffer:
                        raise self._bad("ends inside an item")
                    if before not in (END, EVIDENCE):
                        raise self._bad("ends before the end of the log")
                    return
                buffer += content
            code, length = _ITEM.unpack_from(buffer)
            type = bytes([code])
            if type not in FOLLOWS[before]:
                raise self._bad(f"has an item of type {code} where none may be")
            if length > LONGEST.get(type, MAX_ITEM):
                raise self._bad(f"has an item of type {type.decode()} and {length:,} bytes, more than there may be")
            while len(buffer) < _ITEM.size + length:
                content = next(contents, None)
                if content is None:
                    raise self._bad("ends inside an item")
                buffer += content
            payload = bytes(memoryview(buffer)[_ITEM.size : _ITEM.size + length])
            if type == BOARD:
                self._read_board(payload)
            del buffer[: _ITEM.size + length]
            yield Item(type, start + _ITEM.size, payload)
            start += _ITEM.size + length
            if type == END:
                if buffer:
                    raise self._bad("goes on in the block in which the log ends")
                self.record_digest = hashlib.sha256(b"".join(self._digests)).digest()
            before = type

    def read(self, offset: int, length: int) -> bytes:
        """So many bytes of the content before the end of the log, from `offset`, as the first reading saw them. Raises BadArchive."""
        first, last = offset // BLOCK, (offset + length - 1) // BLOCK
        content = b"".join([self._again(number) for number in range(first, last + 1)])
        start = offset - first * BLOCK
        return content[start : start + length]

    # ---- blocks

    def _contents(self) -> Iterator[bytes]:
        """The contents of the blocks; then the digests must be right and the file must end."""
        if self._take(len(MAGIC), "the header") != MAGIC:
            raise self._bad("does not begin as an archive of this version does (" + FORMAT + ")")
        short = ended = False
        while True:
            size = int.from_bytes(self._take(4, "a block's length"), "big")
            if not size:
                break
            length = int.from_bytes(self._take(4, "a block's length"), "big")
            # only the block in which the log ends is short, and at most one follows it, with the evidence
            if size > MAX_FRAME or not 0 < length <= BLOCK or ended or (short and not self.record_digest):
                raise self._bad(f"has a block of {size:,} bytes for {length:,} where none may be")
            short, ended = length < BLOCK, bool(self.record_digest)
            place = self._file.tell()
            content = self._decompress(self._take(size, "a block"), length)
            self._places.append((place, size, length))
            self._digests.append(hashlib.sha256(content).digest())
            self.done = place + size
            if len(self._kept) + 1 == len(self._places) and self.done <= self._keep:
                self._kept.append(content)
            yield content
        digests = self._take(64, "the digests")
        if digests != self.record_digest + hashlib.sha256(b"".join(self._digests)).digest():
            raise self._bad("has other digests than its content: it was changed")
        if self._file.read(1):
            raise self._bad("goes on after its end")
        self.done = self.bytes

    def _decompress(self, frame: bytes, length: int) -> bytes:
        # the size that the frame names is looked at first, since that much memory is taken before anything is unpacked
        try:
            if zstandard.frame_content_size(frame) != length:
                raise self._bad("has a block that names another length than its frame")
            content = self._decompressor.decompress(frame, max_output_size=length, allow_extra_data=False)
        except zstandard.ZstdError as error:
            raise self._bad(f"has a block that cannot be unpacked: {error}") from error
        if len(content) != length:
            raise self._bad("has a block of another length than it names")
        return content

    def _again(self, number: int) -> bytes:
        content = self._kept[number] if number < len(self._kept) else self._recent.get(number)
        if content is None:
            place, size, length = self._places[number]
            content = self._decompress(os.pread(self._file.fileno(), size, place), length)
            if hashlib.sha256(content).digest() != self._digests[number]:
                raise BadArchive(f"{self.path} was changed while it was read")
            if len(self._recent) > 1:
                self._recent.pop(next(iter(self._recent)))
            self._recent[number] = content
        return content

    def _take(self, length: int, what: str) -> bytes:
        try:
            data = self._file.read(length)
        except OSError as error:
            raise BallotboardError(f"cannot read {self.path}: {error.strerror}") from error
        if len(data) != length:
            raise self._bad(f"ends inside {what}: it was cut short")
        return data

    def _read_board(self, payload: bytes) -> None:
        try:
            value = members(parse_json(payload, "archive"), "archive", chain=int, contract=str, format=str)
            self.chain_id, self.contract = value["chain"], unhex(value["contract"], 20, "archive.contract")
        except Malformed as error:
            raise self._bad(str(error)) from error
        if value["format"] != FORMAT:
            raise self._bad(f"is of the format {value['format']!r}; this version reads {FORMAT}")

    def _bad(self, what: str) -> BadArchive:
        return BadArchive(f"{self.path} {what} (byte {self._file.tell():,} of {self.bytes:,})")
