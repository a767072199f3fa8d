"""The log as the verifier holds it: ballots as columns of numbers, every other record as it is.

A LogRecord of a ballot takes half a kilobyte of memory and some microseconds to make, and an election has a hundred times as many ballots
as other records. So what the checks need of a ballot stands in columns, 61 bytes each (of which 40 are the log entry), bodies stay
where they were read from, and ballots that share a block and a role are one `Run`.

Columns larger than a limit are in temporary files, of which the system keeps in memory what it has room for.
"""

from __future__ import annotations

import hashlib
import mmap
import tempfile
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import IO, Literal

from protocol import engine, merkle
from protocol.ballot import HEADER, VERSION, BallotRefused, read_header
from protocol.counting import NO_ROW
from protocol.election import LogRecord
from protocol.records import MAX_BODY, Entry, Kind, pack_bodies, unpack_bodies

ENTRY = 40
"""Bytes of a log entry."""

MEMORY = 256 * 2**20
"""Bytes that the columns may take in memory by default: those of four million ballots."""

LEAVES_AT_ONCE = 65_536
"""Leaf hashes made in one call: two megabytes."""

Typecode = Literal["B", "I", "Q"]
"""Of one, four and eight bytes."""

Part = tuple[int, int, int]
"""(ballots, offset, bytes): packed bodies as they stand somewhere."""


@dataclass(slots=True)
class Run:
    """Ballots that follow one another, by one role in one block: `count` from position `first`, which are ballots number `start` on."""

    first: int
    count: int
    start: int
    head: bytes
    number: int
    parts: list[Part] = field(default_factory=list)

    @property
    def time(self) -> int:
        return int.from_bytes(self.head[1:6], "big")

    @property
    def role(self) -> int:
        return int.from_bytes(self.head[6:], "big")

    @property
    def positions(self) -> range:
        return range(self.first, self.first + self.count)


@dataclass(slots=True)
class Chunk:
    """Ballots number `first` on, `count` of them, and where their bodies are."""

    first: int
    count: int
    parts: list[Part]


class Column:
    """Numbers of one type (or bytes), first appended, then read through `view`; beyond `limit` bytes in a temporary file."""

    def __init__(self, typecode: Typecode, limit: int) -> None:
        self.typecode, self._limit = typecode, limit
        self._buffer = bytearray()
        self._file: IO[bytes] | None = None

    def append(self, data: bytes | bytearray | array[int]) -> None:
        if self._file is None:
            self._buffer += memoryview(data).cast("B")
            if len(self._buffer) > self._limit:
                self._file = tempfile.TemporaryFile(prefix="ballotboard-")  # noqa: SIM115
                self._file.write(self._buffer)
                self._buffer = bytearray()
        else:
            self._file.write(memoryview(data).cast("B"))

    def view(self) -> memoryview:
        """All of it; nothing may be appended after this."""
        if self._file is None:
            return memoryview(self._buffer).cast(self.typecode)
        self._file.flush()
        return memoryview(mmap.mmap(self._file.fileno(), 0)).cast(self.typecode)


def zeros(typecode: Typecode, count: int, limit: int) -> memoryview:
    """So many zeros that can be written to; beyond `limit` bytes in a temporary file."""
    size = count * array(typecode).itemsize
    if size <= limit:
        return memoryview(bytearray(size)).cast(typecode)
    file = tempfile.TemporaryFile(prefix="ballotboard-")  # noqa: SIM115
    file.truncate(size)
    return memoryview(mmap.mmap(file.fileno(), size)).cast(typecode)


COLUMNS: tuple[Typecode, ...] = ("Q", "B", "I", "Q")


class Ballots:
    """Columns over all ballots, in log order: position, entry, roll index and `seen` as the ballot says them (NO_ROW and 0 where it says
    nothing), and the numbers of those whose body is not there. After `freeze` they are read, and nothing is added."""

    def __init__(self, limit: int) -> None:
        self._columns = [Column(typecode, limit // 4) for typecode in COLUMNS]
        self.limit = limit
        self.missing: set[int] = set()
        self.bytes = self.count = 0
        self.positions, self.entries, self.rows, self.seen = (memoryview(b"").cast(typecode) for typecode in COLUMNS)

    def freeze(self) -> None:
        self.positions, self.entries, self.rows, self.seen = (column.view() for column in self._columns)

    def __len__(self) -> int:
        return self.count

    def hash(self, number: int) -> bytes:
        return bytes(self.entries[ENTRY * number + 8 : ENTRY * (number + 1)])

    def entry(self, number: int) -> Entry:
        return Entry.parse(bytes(self.entries[ENTRY * number : ENTRY * (number + 1)]))

    def below(self, position: int) -> int:
        """How many ballots stand before this position of the log."""
        return bisect_left(self.positions, position)

    def add(self, first: int, count: int, entries: bytes, packed: bytes) -> None:
        """`count` ballots from position `first`; `packed` has a body of no bytes where there is none."""
        self.add_known(first, entries, *headers(packed, count), len(packed) - 2 * count)

    def add_known(self, first: int, entries: bytes, rows: array[int], seen: array[int], size: int) -> None:
        """The same where it is known what the ballots say, whose bodies have `size` bytes together."""
        positions, entry, row, number = self._columns
        positions.append(array("Q", range(first, first + len(rows))))
        entry.append(entries)
        row.append(rows)
        number.append(seen)
        self.count += len(rows)
        self.bytes += size


def headers(packed: bytes, count: int) -> tuple[array[int], array[int]]:
    """(roll indexes, `seen`) as `count` packed ballots say them: NO_ROW and 0 where one says nothing."""
    width = int.from_bytes(packed[:2], "big")
    stride = 2 + width
    if (
        width >= HEADER
        and len(packed) == stride * count
        and packed[0::stride] == packed[:1] * count
        and packed[1::stride] == packed[1:2] * count
        and packed[2::stride] == bytes([VERSION]) * count
    ):  # all of one length and version, as ballots of one style are: their headers are cut out without a look at each
        return _cut(packed, 3, stride, "I", count), _cut(packed, 7, stride, "Q", count)
    found = [header(body) for body in unpack_bodies(packed)]
    return array("I", [row for row, _ in found]), array("Q", [seen for _, seen in found])


def _cut(packed: bytes, start: int, stride: int, typecode: str, count: int) -> array[int]:
    """The big-endian number at `start` of each piece of `stride` bytes."""
    values = array(typecode)
    gathered = bytearray(values.itemsize * count)
    for i in range(values.itemsize):
        gathered[i :: values.itemsize] = packed[start + i :: stride]
    values.frombytes(bytes(gathered))
    if engine.LITTLE_ENDIAN:
        values.byteswap()
    return values


def header(body: bytes) -> tuple[int, int]:
    """(roll index, seen) as a body says them; (NO_ROW, 0) where it does not."""
    try:
        return read_header(body)
    except BallotRefused:
        return NO_ROW, 0


Item = LogRecord | Run


def positions(item: Item) -> range:
    """The positions of a run or of one record."""
    return item.positions if isinstance(item, Run) else range(item.position, item.position + 1)


class Log:
    """One log: `order` holds runs of ballots and other records as they stand, `ballots` the columns.

    A ballot of no bytes, or of more than a record has, is among the other records. `read` gives the bytes of a part; `mismatched` are
    positions of bodies that do not hash to what the log says. `roots` are those that are known already, by size.
    """

    def __init__(self, read: Callable[[int, int], bytes], limit: int = MEMORY) -> None:
        self.order: list[Item] = []
        self.ballots = Ballots(limit)
        self.size = 0
        self.mismatched: list[int] = []
        self.roots: dict[int, bytes] = {0: merkle.EMPTY_ROOT}
        self.read = read

    @staticmethod
    def of(records: Sequence[LogRecord]) -> Log:
        """The log of these records, whatever they are."""
        if isinstance(records, StoredRecords):
            return records.log
        bodies: list[bytes] = []
        log = Log(lambda start, length: pack_bodies(bodies[start : start + length]))
        for record in records:
            log.size += 1
            if record.body is not None and hashlib.sha256(record.body).digest() != record.entry.body_hash:
                log.mismatched.append(record.position)
            if record.kind != Kind.BALLOT or (record.body is not None and not 1 <= len(record.body) <= MAX_BODY):
                log.order.append(record)
                continue
            number, encoded = len(bodies), record.entry.encode()
            bodies.append(record.body or b"")
            log.ballots.add(record.position, 1, encoded, pack_bodies(bodies[-1:]))
            if record.body is None:
                log.ballots.missing.add(number)
            last = log.order[-1] if log.order else None
            if (
                isinstance(last, Run)
                and (last.head, last.number) == (encoded[:8], record.number)
                and last.first + last.count == record.position
            ):
                last.count += 1
            else:
                last = Run(record.position, 1, number, encoded[:8], record.number)
                log.order.append(last)
            last.parts.append((1, number, 1))
        log.ballots.freeze()
        return log

    @property
    def others(self) -> list[LogRecord]:
        """The records that are no ballots, or none that can be one."""
        return [item for item in self.order if isinstance(item, LogRecord)]

    @property
    def runs(self) -> list[Run]:
        return [item for item in self.order if isinstance(item, Run)]

    def parts(self, end: int) -> Iterator[tuple[int, Part]]:
        """(number of the first ballot, part) for the ballots below number `end`."""
        for run in self.runs:
            number = run.start
            for part in run.parts or [(run.count, 0, 0)]:
                if number >= end:
                    return
                yield number, part
                number += part[0]

    def chunks(self, end: int, ballots: int, size: int) -> Iterator[Chunk]:
        """The ballots below number `end`, about so many, or so many bytes of bodies, at a time: always the same for the same log."""
        found, held = Chunk(0, 0, []), 0
        for number, part in self.parts(end):
            found.parts.append(part)
            found.count = min(number + part[0], end) - found.first
            held += part[2]
            if found.count >= ballots or held >= size:
                yield found
                found, held = Chunk(found.first + found.count, 0, []), 0
        if found.count:
            yield found

    def bodies(self, chunk: Chunk) -> bytes:
        """The packed bodies of a chunk. One that is not there has no bytes."""
        packed = b"".join(
            self.read(offset, length) if length else bytes(2 * held) for held, offset, length in chunk.parts
        )
        if sum(held for held, _, _ in chunk.parts) > chunk.count:  # cut inside a part
            return pack_bodies(unpack_bodies(packed)[: chunk.count])
        return packed

    def some(self, numbers: Sequence[int]) -> list[bytes]:
        """The bodies of these ballots, which ascend."""
        found, wanted = list[bytes](), iter(numbers)
        number = next(wanted, None)
        for first, (held, offset, length) in self.parts(len(self.ballots)):
            if number is None:
                break
            if first <= number < first + held:
                bodies = unpack_bodies(self.read(offset, length)) if length else [b""] * held
                while number is not None and number < first + held:
                    found.append(bodies[number - first])
                    number = next(wanted, None)
        return found

    def find(self, hashes: Collection[bytes]) -> dict[bytes, tuple[int, int]]:
        """(position, time) of the first ballot with each of these hashes, as far as there is one."""
        found: dict[bytes, tuple[int, int]] = {}
        for number in range(len(self.ballots)) if hashes else ():
            digest = self.ballots.hash(number)
            if digest in hashes and digest not in found:
                found[digest] = self.ballots.positions[number], self.ballots.entry(number).time
        return found

    def find_roots(self, sizes: Iterable[int]) -> dict[int, bytes]:
        """The root at each of these sizes, as far as the log reaches."""
        wanted = {size for size in sizes if size <= self.size}
        missing = sorted(wanted - self.roots.keys())
        if missing:
            tree = merkle.Frontier()
            for leaves in self._leaves():
                while missing and missing[0] <= tree.size + len(leaves) // 32:
                    cut = 32 * (missing[0] - tree.size)
                    engine.extend(tree, leaves[:cut])
                    leaves = leaves[cut:]
                    self.roots[missing.pop(0)] = tree.root()
                if not missing:
                    break
                engine.extend(tree, leaves)
        return {size: self.roots[size] for size in wanted}

    def _leaves(self) -> Iterator[bytes]:
        for item in self.order:
            if isinstance(item, LogRecord):
                yield item.entry.leaf()
                continue
            for start in range(item.start, item.start + item.count, LEAVES_AT_ONCE):
                end = min(start + LEAVES_AT_ONCE, item.start + item.count)
                yield engine.row_leaves(bytes(self.ballots.entries[ENTRY * start : ENTRY * end]), ENTRY)


class StoredRecords(Sequence[LogRecord]):
    """The records of a log that is not in memory, each made when it is asked for."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self._starts = [0]
        for item in log.order:
            self._starts.append(self._starts[-1] + (item.count if isinstance(item, Run) else 1))

    def __len__(self) -> int:
        return self.log.size

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        index = range(len(self))[index]
        place = bisect_right(self._starts, index) - 1
        item = self.log.order[place]
        return item if isinstance(item, LogRecord) else self._ballot(item, index - self._starts[place])

    def __iter__(self) -> Iterator[LogRecord]:
        for item in self.log.order:
            if isinstance(item, LogRecord):
                yield item
                continue
            done = 0
            for held, offset, length in item.parts or [(item.count, 0, 0)]:
                bodies = unpack_bodies(self.log.read(offset, length)) if length else [b""] * held
                for i, body in enumerate(bodies):
                    yield self._made(item, done + i, body)
                done += held

    def _ballot(self, run: Run, offset: int) -> LogRecord:
        return self._made(run, offset, self.log.some([run.start + offset])[0])

    def _made(self, run: Run, offset: int, body: bytes) -> LogRecord:
        number = run.start + offset
        held = None if number in self.log.ballots.missing else body
        return LogRecord(run.first + offset, self.log.ballots.entry(number), held, run.number)
