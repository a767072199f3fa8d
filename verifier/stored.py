"""Claims from an archive, and an archive from a node: how one file stands for the chain (docs/protocol.md, section 14)."""

from __future__ import annotations

import hashlib
import struct
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from chain.errors import NodeContradiction
from protocol import engine, merkle
from protocol.attachments import Attachment
from protocol.election import EMPTY_FILE, LogRecord
from protocol.encoding import u16
from protocol.errors import BallotboardError, Malformed
from protocol.manifest import Manifest
from protocol.records import Entry, Kind, LogHead, RollRecord, Settlement, unpack_bodies
from verifier import archive
from verifier.archive import ArchiveFile, ArchiveWriter, BadArchive
from verifier.claims import Claims, Progress, silent
from verifier.log import MEMORY, Log, Run, StoredRecords

if TYPE_CHECKING:
    from chain.reader import Batch

_BLOCK = struct.Struct(">Q32s5s")
_RECORD = struct.Struct(">BHQ32sH")
_BATCH = struct.Struct(">HQ32sI")


class ArchiveSource:
    """The archive at `path`. Columns of the ballots take at most `memory` bytes of memory; the rest is on disk. `evidence` is taken instead of
    the archive's, if it is given."""

    def __init__(self, path: Path, memory: int = MEMORY, evidence: bytes = b"") -> None:
        self.path, self.memory, self.evidence = path, memory, evidence
        self.record_digest = b""

    def read(self, progress: Progress = silent) -> Claims:
        """What the archive claims. Raises BadArchive for what is no archive, or not all of one."""
        file = ArchiveFile(self.path, self.memory // 4)
        found = _Scan(file, self.memory)
        for item in file.items():
            found.take(item)
            progress("archive read", file.done, file.bytes)
        progress("archive read", file.bytes, file.bytes)
        self.record_digest = file.record_digest
        found.evidence = self.evidence or found.evidence
        return found.claims()


class _Scan:
    """Builds claims from the items of an archive, in the order that verifier.archive has made sure of."""

    def __init__(self, file: ArchiveFile, memory: int) -> None:
        self.file = file
        self.log = Log(file.read, memory)
        self.tree = merkle.Frontier()
        self.creation = self.code = self.evidence = b""
        self.roots: list[tuple[int, bytes]] = []
        self.blocks: list[tuple[int, int, bytes]] = []  # first position, number, hash
        self.time = b""
        self.files: dict[bytes, bytes] = {}
        self.name, self.length, self.parts = b"", 0, list[bytes]()
        self.hashes: Run | None = None  # the last batch of hashes, and how many of its bodies are still to come
        self.awaited = 0
        self.head = LogHead(0, merkle.EMPTY_ROOT)

    def take(self, item: archive.Item) -> None:
        if item.type != archive.PART and self.name:
            self._end_file()
        if item.type != archive.BODIES and self.hashes:
            self._end_bodies()
        try:
            self._TAKE[item.type](self, item)
        except (Malformed, ValueError, struct.error) as error:
            raise BadArchive(
                f"{self.file.path}: an item of type {item.type.decode()} is not what it should be: {error}"
            ) from error

    def claims(self) -> Claims:
        self.log.ballots.freeze()
        return Claims(
            chain_id=self.file.chain_id, contract=self.file.contract, creation=self.creation, runtime_code=self.code,
            records=StoredRecords(self.log), roots=self.roots, head=self.head, attachments=self.files,
            blocks=_Blocks(self.blocks, self.log.size), evidence=self.evidence,
        )  # fmt: skip

    # ---- one function for each type

    def _nothing(self, item: archive.Item) -> None:
        """The board's item was read with the file's header."""

    def _creation(self, item: archive.Item) -> None:
        self.creation = item.payload

    def _code(self, item: archive.Item) -> None:
        self.code = item.payload

    def _block(self, item: archive.Item) -> None:
        number, block_hash, self.time = _BLOCK.unpack(item.payload)
        if self.blocks and (number <= self.blocks[-1][1] or self.blocks[-1][0] == self.log.size):
            raise ValueError("blocks do not ascend, or one is empty")
        self.blocks.append((self.log.size, number, block_hash))

    def _record(self, item: archive.Item) -> None:
        kind, role, number, root, length = _RECORD.unpack_from(item.payload)
        rest = item.payload[_RECORD.size :]
        if kind == Kind.BALLOT or len(rest) < length:
            raise ValueError("it is a ballot outside of a batch, or cut short")
        signatures, body = rest[:length], rest[length:]
        entry = Entry(kind, int.from_bytes(self.time, "big"), role, hashlib.sha256(body).digest())
        self.log.order.append(LogRecord(self.log.size, entry, body, number, signatures))
        self._grow(entry.leaf(), root)

    def _ballots(self, item: archive.Item) -> None:
        role, sequence, root, count = _BATCH.unpack_from(item.payload)
        packed = item.payload[_BATCH.size :]
        if 2 * count > len(packed):  # before anything is made for as many
            raise ValueError(f"it has {len(packed)} bytes for {count} ballots")
        run = self._run(role, sequence, count)
        entries = engine.entries(run.head, packed, count)
        run.parts.append((count, item.offset + _BATCH.size, len(packed)))
        self.log.ballots.add(run.first, count, entries, packed)
        self._grow(engine.row_leaves(entries, 40), root)

    def _hashes(self, item: archive.Item) -> None:
        role, sequence, root, count = _BATCH.unpack_from(item.payload)
        hashes = item.payload[_BATCH.size :]
        if len(hashes) != 32 * count:
            raise ValueError(f"it has {len(hashes)} bytes for {count} hashes")
        run = self._run(role, sequence, count)
        entries = b"".join(run.head + hashes[i : i + 32] for i in range(0, len(hashes), 32))
        self.hashes, self.awaited, self.entries = run, count, entries
        self._grow(engine.row_leaves(entries, 40), root)

    def _bodies(self, item: archive.Item) -> None:
        if self.hashes is None:
            raise ValueError("there are no hashes before it")
        bodies = unpack_bodies(item.payload)
        done = self.hashes.count - self.awaited
        if not 0 < len(bodies) <= self.awaited:
            raise ValueError("it has more bodies than there are hashes, or none")
        entries = self.entries[40 * done : 40 * (done + len(bodies))]
        for i, body in enumerate(bodies):
            if not body:
                self.log.ballots.missing.add(self.hashes.start + done + i)
            elif hashlib.sha256(body).digest() != entries[40 * i + 8 : 40 * i + 40]:
                raise ValueError(f"the body of position {self.hashes.first + done + i} is not the one of its hash")
        self.hashes.parts.append((len(bodies), item.offset, len(item.payload)))
        self.log.ballots.add(self.hashes.first + done, len(bodies), entries, item.payload)
        self.awaited -= len(bodies)

    def _end_bodies(self) -> None:
        """All bodies of a batch of hashes are there, or none is."""
        run, self.hashes = self.hashes, None
        assert run
        if self.awaited == run.count:
            self.log.ballots.missing.update(range(run.start, run.start + run.count))
            self.log.ballots.add(run.first, run.count, self.entries, bytes(2 * run.count))
            run.parts.append((run.count, 0, 0))
        elif self.awaited:
            raise BadArchive(f"{self.file.path} has the bodies of {run.count - self.awaited} of {run.count} hashes")

    def _file(self, item: archive.Item) -> None:
        if len(item.payload) != 40 or (self.files and item.payload[:32] <= max(self.files)):
            raise ValueError("files do not ascend by hash")
        self.name, self.length, self.parts = item.payload[:32], int.from_bytes(item.payload[32:], "big"), []
        if not self.length:
            self._end_file()

    def _part(self, item: archive.Item) -> None:
        self.parts.append(item.payload)
        if not self.name or len(item.payload) != min(
            archive.BLOCK, self.length - archive.BLOCK * (len(self.parts) - 1)
        ):
            raise ValueError("the file has another length than it names")

    def _end_file(self) -> None:
        data = b"".join(self.parts)
        if len(data) != self.length or hashlib.sha256(data).digest() != self.name:
            raise BadArchive(f"{self.file.path}: the file {self.name.hex()} is not whole, or does not hash to its name")
        self.files[self.name] = data
        self.name, self.parts = b"", []

    def _end(self, item: archive.Item) -> None:
        self.head = LogHead.parse(item.payload)

    def _evidence(self, item: archive.Item) -> None:
        self.evidence = item.payload

    _TAKE: dict[bytes, Any] = {
        archive.BOARD: _nothing, archive.CREATION: _creation, archive.CODE: _code, archive.IN_BLOCK: _block, archive.RECORD: _record,
        archive.BALLOTS: _ballots, archive.HASHES: _hashes, archive.BODIES: _bodies, archive.FILE: _file, archive.PART: _part,
        archive.END: _end, archive.EVIDENCE: _evidence,
    }  # fmt: skip

    # ---- helpers

    def _run(self, role: int, sequence: int, count: int) -> Run:
        if not count:
            raise ValueError("a batch without ballots")
        head = bytes([Kind.BALLOT]) + self.time + u16(role)
        run = Run(self.log.size, count, len(self.log.ballots), head, sequence)
        self.log.order.append(run)
        return run

    def _grow(self, leaves: bytes, root: bytes) -> None:
        engine.extend(self.tree, leaves)
        self.log.size = self.tree.size
        self.log.roots[self.tree.size] = self.tree.root()
        self.roots.append((self.tree.size, root))


class _Blocks(Sequence[tuple[int, bytes]]):
    """(number, hash) of the block of every record."""

    def __init__(self, blocks: list[tuple[int, int, bytes]], size: int) -> None:
        self._blocks, self._size = blocks, size

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self._size))]
        position = range(self._size)[index]
        _, number, block_hash = self._blocks[bisect_right(self._blocks, position, key=lambda block: block[0]) - 1]
        return number, block_hash


# ---------------------------------------------------------------- writing


class Recorder:
    """Writes what a reader reads into an archive, event by event."""

    def __init__(self, file: IO[bytes], chain_id: int, contract: bytes, creation: bytes, runtime_code: bytes) -> None:
        self.writer = ArchiveWriter(file, chain_id, contract)
        self.writer.contract(creation, runtime_code)
        self.size = 0
        self.block = -1
        self.named: set[bytes] = set()

    def batch(self, batch: Batch) -> None:
        """The records of one event, in log order. Raises NodeContradiction for what the published contract cannot have emitted."""
        try:
            self._batch(batch)
        except (OverflowError, IndexError, struct.error) as error:
            raise NodeContradiction(
                f"the node shows an event at position {batch.first} that no board emits ({error}); use another node"
            ) from error

    def _batch(self, batch: Batch) -> None:
        first = batch.records[0]
        if batch.block_number != self.block:
            self.writer.block(batch.block_number, batch.block_hash, first.entry.time)
            self.block = batch.block_number
        self.size = batch.size
        if first.kind != Kind.BALLOT:
            body = first.body or b""
            self.writer.record(first.kind, first.entry.role, first.number, batch.root, first.signatures, body)
            self.named |= set(named_files(first))
        elif first.signatures:
            raise NodeContradiction(
                f"the node shows a ballot that was appended alone, at position {first.position}; use another node"
            )
        elif (packed := batch.packed) is None:
            hashes = b"".join(record.entry.body_hash for record in batch.records)
            self.writer.hashes(
                first.entry.role, first.number, batch.root, hashes, (record.body for record in batch.records)
            )
        else:
            self.writer.ballots(first.entry.role, first.number, batch.root, len(batch.records), packed)

    def finish(self, head: LogHead, files: dict[bytes, bytes], evidence: bytes) -> bytes:
        """The files that the records name, as far as they are there, the head and the evidence. Gives the record digest."""
        for name in sorted(self.named & files.keys()):
            self.writer.file(name, files[name])
        return self.writer.finish(head.size, head.root, evidence)


def named_files(record: LogRecord) -> Iterator[bytes]:
    """The SHA-256 of the files that a record names, none for one that is void."""
    body = record.body or b""
    try:
        if record.kind == Kind.MANIFEST:
            manifest = Manifest.parse(body)
            named: tuple[Attachment, ...] = (manifest.units, manifest.stations)
            yield from (one.sha256 for one in named if one.sha256 != EMPTY_FILE)
        elif record.kind == Kind.ROLL:
            yield RollRecord.parse(body).sha256
        elif record.kind == Kind.SETTLEMENT and len(body) == 72:
            yield Settlement.parse(body, True).bitmap
    except BallotboardError:
        return
