"""Attachments: the lists that grow with the election, named on the record by hash, root and count (docs/protocol.md, section 3).

A file is its rows, each `u16(length) || row`; the roll's rows are 36 bytes each without a length. A Merkle leaf is `leaf_hash(row)`.
The bitmap of a settlement in hash mode is the one file without rows.
"""

from __future__ import annotations

import hashlib
import re
import sys
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from operator import lt
from typing import Any

from protocol import merkle
from protocol.encoding import Reader, canonical_json, members, parse_json, u8, u16, u32, unhex
from protocol.errors import Malformed
from protocol.group import is_point

ROLL_ROW = 36
"""Bytes of a roll row: credential public key (32), unit (u32)."""

ROWS_AT_ONCE = 65_536
"""Rows looked at together: ten megabytes."""

ROWS_IN_A_SET = 2**20
"""Keys compared in one set: a hundred megabytes, whatever the size of the roll."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """How a record names a file: SHA-256 of the file, RFC 9162 root over its rows, number of rows."""

    sha256: bytes
    root: bytes
    count: int

    def value(self) -> dict[str, Any]:
        return {"count": self.count, "root": self.root.hex(), "sha256": self.sha256.hex()}

    @staticmethod
    def parse(value: Any, field: str) -> Attachment:
        members(value, field, count=int, root=str, sha256=str)
        if value["count"] < 0:
            raise Malformed(f"{field}.count", "is negative")
        return Attachment(
            unhex(value["sha256"], 32, f"{field}.sha256"), unhex(value["root"], 32, f"{field}.root"), value["count"]
        )


def pack(rows: Iterable[bytes]) -> bytes:
    """A file from its rows (each 0 … 65,535 bytes)."""
    return b"".join(u16(len(row)) + row for row in rows)


def unpack(data: bytes, field: str) -> list[bytes]:
    reader, rows = Reader(data, field), []
    while reader.left:
        rows.append(reader.take(reader.integer(2, "length"), "row"))
    return rows


def describe(rows: list[bytes]) -> Attachment:
    """The attachment of these rows."""
    return Attachment(hashlib.sha256(pack(rows)).digest(), merkle.root(map(merkle.leaf_hash, rows)), len(rows))


def open_rows(data: bytes, attachment: Attachment, field: str) -> list[bytes]:
    """The rows of a file; raises Malformed unless hash, root and count are those of the record."""
    if hashlib.sha256(data).digest() != attachment.sha256:
        raise Malformed(field, "the file's SHA-256 is not the one on the record")
    rows = unpack(data, field)
    if describe(rows) != attachment:
        raise Malformed(field, "the file's root or count is not the one on the record")
    return rows


# ---------------------------------------------------------------- units


@dataclass(frozen=True, slots=True)
class Unit:
    """A node of the unit tree. Its number is its row position; `parent` is an earlier one, −1 for the root; `style` −1 where nobody votes."""

    level: str
    name: str
    parent: int
    style: int

    def row(self) -> bytes:
        return canonical_json({"level": self.level, "name": self.name, "parent": self.parent, "style": self.style})


def parse_units(rows: list[bytes], styles: int) -> list[Unit]:
    """The unit tree. Raises Malformed, naming the unit, for a cycle, an orphan, a second root, a style on an inner unit, none on a leaf."""
    units: list[Unit] = []
    for number, row in enumerate(rows):
        field = f"units[{number}]"
        unit = _parse_unit(row, field)
        if (number == 0) != (unit.parent == -1) or not -1 <= unit.parent < number:
            raise Malformed(f"{field}.parent", f"{unit.name!r} {_wrong_parent(number, unit.parent, len(rows))}")
        if not -1 <= unit.style < styles:
            raise Malformed(f"{field}.style", f"{unit.name!r}: is not a style of the manifest")
        units.append(unit)
    if not units:
        raise Malformed("units", "needs at least one unit")
    inner = {unit.parent for unit in units}
    for number, unit in enumerate(units):
        if (number in inner) == (unit.style >= 0):
            raise Malformed(f"units[{number}].style", f"{unit.name!r}: leaf units have a style, inner units have −1")
    return units


_PLAIN_UNIT = re.compile(
    rb'\{"level":"([ !#-\[\]-~]*)","name":"([ !#-\[\]-~]*)","parent":(-1|0|[1-9][0-9]{0,8}),"style":(-1|0|[1-9][0-9]{0,8})\}'
)
"""A row of printable ASCII without escapes, which is canonical as it stands: a nation has 178,000 and nearly all are."""


def _parse_unit(row: bytes, field: str) -> Unit:
    if plain := _PLAIN_UNIT.fullmatch(row):
        level, name, parent, style = plain.groups()
        return Unit(level.decode(), name.decode(), int(parent), int(style))
    return Unit(**members(parse_json(row, field), field, level=str, name=str, parent=int, style=int))


def _wrong_parent(number: int, parent: int, count: int) -> str:
    if parent == -1:
        return "is a second root: only unit 0 has no parent"
    if number == 0:
        return "is unit 0, the root, and must have the parent −1"
    if parent == number:
        return "is its own parent: a cycle"
    if not 0 <= parent < count:
        return f"is an orphan: there is no unit {parent}"
    return f"has the later unit {parent} as parent: a cycle, or a row before its parent's"


# ---------------------------------------------------------------- stations


@dataclass(frozen=True, slots=True)
class Station:
    """A polling station: its number (row position), unit, officers' addresses (20 bytes each, at least two) and name."""

    number: int
    unit: int
    officers: tuple[bytes, ...]
    name: str

    def row(self) -> bytes:
        return u32(self.number) + u32(self.unit) + u8(len(self.officers)) + b"".join(self.officers) + self.name.encode()


def parse_stations(rows: list[bytes], units: list[Unit]) -> list[Station]:
    stations: list[Station] = []
    for position, row in enumerate(rows):
        field = f"stations[{position}]"
        reader = Reader(row, field)
        number, unit = reader.integer(4, "station"), reader.integer(4, "unit")
        officers = tuple(reader.take(20, "officer") for _ in range(reader.integer(1, "officers")))
        try:
            name = reader.take(reader.left, "name").decode()
        except UnicodeDecodeError as error:
            raise Malformed(f"{field}.name", "not UTF-8") from error
        if number != position:
            raise Malformed(f"{field}.station", "must be the row position", 0)
        if unit >= len(units) or units[unit].style < 0:
            raise Malformed(f"{field}.unit", "must be a leaf unit", 4)
        if len(set(officers)) != len(officers) or len(officers) < 2:
            raise Malformed(f"{field}.officers", "needs at least two distinct officers", 8)
        stations.append(Station(number, unit, officers, name))
    return stations


# ---------------------------------------------------------------- roll


class Roll:
    """The electoral roll as credentials: rows `public key (32) || u32(unit)`, 36 bytes, strictly ascending by (unit, key).

    `data` holds the rows end to end; the roll index is the row's position. Rows added by roll changes follow in log order.
    """

    def __init__(self, data: bytes, unit_styles: list[int]) -> None:
        if len(data) % ROLL_ROW:
            raise Malformed("roll", f"its length is not a multiple of {ROLL_ROW}")
        self.data = data
        self.unit_styles = unit_styles

    def __len__(self) -> int:
        return len(self.data) // ROLL_ROW

    def row(self, index: int) -> tuple[bytes, int]:
        """(public key, unit) of a roll index."""
        start = index * ROLL_ROW
        return self.data[start : start + 32], int.from_bytes(self.data[start + 32 : start + 36], "big")

    def rows(self) -> Iterator[bytes]:
        for start in range(0, len(self.data), ROLL_ROW):
            yield self.data[start : start + ROLL_ROW]

    def style(self, unit: int) -> int:
        """The style of a unit, −1 where nobody votes or there is no such unit."""
        return self.unit_styles[unit] if unit < len(self.unit_styles) else -1

    def extended(self, rows: list[tuple[bytes, int]]) -> Roll:
        return Roll(b"".join([self.data, *(roll_row(*row) for row in rows)]), self.unit_styles) if rows else self

    def describe(self) -> Attachment:
        return Attachment(
            hashlib.sha256(self.data).digest(), merkle.root(merkle.leaf_hash(row) for row in self.rows()), len(self)
        )

    def units(self) -> array[int]:
        """The unit of each row."""
        units = array("I", memoryview(self.data).cast("B").cast("I")[8 :: ROLL_ROW // 4].tolist())
        if sys.byteorder == "little":  # as this machine keeps them, and in the file they are big-endian
            units.byteswap()
        return units

    def unit_counts(self) -> list[tuple[int, int]]:
        """(unit, rows) for every unit with rows, ascending."""
        return sorted(Counter(self.units()).items())

    def check(self, are_points: Callable[[bytes], bool] | None = None) -> None:
        """Raises Malformed naming the first row that is out of order, repeated, no point, or in a unit where nobody votes.

        `are_points` answers for many keys end to end; without it they are looked at one by one.
        """
        units, before = self.units(), (-1, b"")
        for start in range(0, len(self), ROWS_AT_ONCE):
            part = units[start : start + ROWS_AT_ONCE]
            here = self.data[start * ROLL_ROW : (start + len(part)) * ROLL_ROW]
            keys = [here[i : i + 32] for i in range(0, len(here), ROLL_ROW)]
            last = (part[-1], keys[-1])
            if part.count(part[0]) == len(part):
                ascending = all(map(lt, keys, keys[1:]))
            else:
                rows = list(zip(part, keys, strict=True))
                ascending = all(map(lt, rows, rows[1:]))
            ascending = ascending and before < (part[0], keys[0])
            points = are_points(b"".join(keys)) if are_points else all(map(is_point, keys))
            if not (ascending and points and all(self.style(unit) >= 0 for unit in set(part))):
                self._name_wrong_row(start, before)
            before = last
        if units and units[0] != units[-1]:  # within a unit the order shows it
            repeated = _repeated(self.data, len(self))
            if repeated is not None:
                raise Malformed(f"roll[{repeated}].key", "repeats a key", repeated * ROLL_ROW)

    def _name_wrong_row(self, start: int, before: tuple[int, bytes]) -> None:
        """Raises for the first wrong row from `start` on, before which stands `before`."""
        for index in range(start, len(self)):
            key, unit = self.row(index)
            if (unit, key) <= before:
                raise Malformed(f"roll[{index}]", "rows are not strictly ascending by (unit, key)", index * ROLL_ROW)
            if self.style(unit) < 0:
                raise Malformed(f"roll[{index}].unit", "is not a unit where people vote", index * ROLL_ROW + 32)
            if not is_point(key):
                raise Malformed(f"roll[{index}].key", "is no point", index * ROLL_ROW)
            before = (unit, key)
        raise Malformed("roll", "holds a row that cannot vote")


def _repeated(data: bytes, rows: int) -> int | None:
    """The first row whose key stands in an earlier one too. Eight bytes of the keys are compared first, a range of them at a time."""
    words = memoryview(data).cast("B").cast("I")
    buckets = rows // ROWS_IN_A_SET + 1
    for bucket in range(buckets):
        heads = (a << 32 | b for a, b in zip(words[0::9], words[1::9], strict=True) if a % buckets == bucket)
        met: set[int] = set()
        twice: set[int] = set()
        for head in heads:
            (twice if head in met else met).add(head)
        if twice:
            keys: set[bytes] = set()
            for index, (a, b) in enumerate(zip(words[0::9], words[1::9], strict=True)):
                if a << 32 | b in twice:
                    key = data[index * ROLL_ROW : index * ROLL_ROW + 32]
                    if key in keys:
                        return index
                    keys.add(key)
    return None


def roll_row(key: bytes, unit: int) -> bytes:
    return key + u32(unit)


def unit_counts_hash(counts: list[tuple[int, int]]) -> bytes:
    """The `units` member of the roll record: SHA-256 of `u32(unit) || u32(rows)`, ascending."""
    return hashlib.sha256(b"".join(u32(unit) + u32(rows) for unit, rows in counts)).digest()


# ---------------------------------------------------------------- bodies held, in hash mode


@dataclass(frozen=True, slots=True)
class Bitmap:
    """Which ballots' bodies the data holders keep: bit p & 7 (0 is the least significant) of byte p >> 3 speaks of position p, below `size`."""

    size: int
    data: bytes

    @staticmethod
    def of(size: int, held: Iterable[int]) -> Bitmap:
        """The bitmap of a log of `size` records in which the bodies at these positions are held."""
        data = bytearray((size + 7) // 8)
        for position in held:
            data[position >> 3] |= 1 << (position & 7)
        return Bitmap(size, bytes(data))

    @staticmethod
    def parse(data: bytes, size: int) -> Bitmap:
        """Raises Malformed unless it is as long as the log needs, with nothing after the last position."""
        if len(data) != (size + 7) // 8 or (size % 8 and data[-1] >> size % 8):
            raise Malformed("bitmap", f"is not that of a log of {size} records")
        return Bitmap(size, data)

    def __contains__(self, position: int) -> bool:
        return position < self.size and bool(self.data[position >> 3] >> (position & 7) & 1)

    def __len__(self) -> int:
        """How many bodies are held."""
        return int.from_bytes(self.data, "big").bit_count()

    @property
    def sha256(self) -> bytes:
        return hashlib.sha256(self.data).digest()
