"""The sums on disk: each unit has an inbox with the newest sum of each unit below it.

    FOLDER/<unit>/<child>.sum         the standing sum of a child
    FOLDER/<unit>/children            the child list of the unit's own sum
    FOLDER/<unit>/superseded/…        sums and child lists that a later revision replaced
    FOLDER/<unit>/conflicts/…         two sums of one unit and revision that differ: evidence, kept as they came
    FOLDER/root/0.sum                 the sum of the whole tree

One machine may hold all inboxes or only its own: a sum is a file, and where it lies says nothing about it. Files are written beside their place,
synced and renamed, so that a crash leaves the old one or the new one. Sums may come late, twice or in any order:

    new revision             it stands, the earlier one is kept as superseded
    the same bytes again     a duplicate, nothing happens
    an earlier revision      late, nothing happens
    same revision, others    a conflict: the unit signed two sums; what stands stays until the unit sends a later revision
"""

from __future__ import annotations

import hashlib
import os
from enum import Enum
from pathlib import Path

from protocol.errors import BallotboardError
from rollup import keys
from rollup.plan import Plan
from rollup.sums import NotSigned, UnitSum, parse, size

ROOT = "root"
CHILDREN_FILE = "children"


class Receipt(Enum):
    """What became of a sum that arrived."""

    NEW = "new"
    REPLACED = "replaced"
    DUPLICATE = "duplicate"
    LATE = "late"
    CONFLICT = "conflict"


def inbox(folder: Path, unit: int) -> Path:
    return folder / (ROOT if unit < 0 else str(unit))


def sum_path(folder: Path, plan: Plan, unit: int) -> Path:
    """Where the standing sum of a unit is: in its parent's inbox."""
    return inbox(folder, plan.units[unit].parent) / f"{unit}.sum"


def receive(plan: Plan, folder: Path, unit: int, data: bytes) -> Receipt:
    """Take the sum of `unit` into its parent's inbox. Raises SumError for one that is malformed or not signed by the unit; it leaves no trace."""
    arrived = parse(plan.id, plan.check_unit(unit), plan.layout(unit), data)
    if not all(keys.verify([arrived.statement], plan.public_key(unit), arrived.signature, 1)):
        raise NotSigned(unit, f"the sum of unit {unit} ({plan.name(unit)}) is not signed with its key")
    path = sum_path(folder, plan, unit)
    standing = read(plan, folder, unit)
    if standing is None:
        write(path, data)
        return Receipt.NEW
    if standing.data == data:
        return Receipt.DUPLICATE
    if arrived.revision < standing.revision:
        return Receipt.LATE
    if arrived.revision == standing.revision:
        for one in (standing, arrived):
            name = f"{unit}-{one.revision}-{hashlib.sha256(one.data).hexdigest()[:16]}.sum"
            write(path.parent / "conflicts" / name, one.data)
        return Receipt.CONFLICT
    write(path.parent / "superseded" / f"{unit}-{standing.revision}.sum", standing.data)
    write(path, data)
    return Receipt.REPLACED


def read(plan: Plan, folder: Path, unit: int) -> UnitSum | None:
    """The standing sum of a unit, None if there is none; its signature is for the caller to check: files come from anywhere.

    Raises SumError where it is malformed.
    """
    layout = plan.layout(unit)
    # A nation has 175,000 of these: pathlib and open() would take longer than reading, hashing and verifying them.
    parent = plan.units[unit].parent
    path = f"{folder}/{parent if parent >= 0 else ROOT}/{unit}.sum"
    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BallotboardError(f"cannot read {path}: {error.strerror}") from error
    try:
        return parse(plan.id, unit, layout, os.read(handle, size(layout) + 1))
    finally:
        os.close(handle)


def stand(plan: Plan, folder: Path, unit: int, data: bytes, listed: bytes | None = None, sync: bool = True) -> UnitSum:
    """Puts a sum of our own in its place, with the child list that it was made from; what it replaces is kept.

    The list first: a sum that stands always has its list.
    """
    previous = read(plan, folder, unit)
    if previous is None or previous.data != data:
        path, own = sum_path(folder, plan, unit), inbox(folder, unit)
        if previous:
            write(path.parent / "superseded" / f"{unit}-{previous.revision}.sum", previous.data, sync)
        if previous and listed is not None:
            # One that is there already was put there by a run that died before it wrote the sum: then CHILDREN_FILE is no longer the earlier list.
            earlier = own / "superseded" / f"{CHILDREN_FILE}-{previous.revision}"
            if not earlier.exists():
                write(earlier, (own / CHILDREN_FILE).read_bytes(), sync)
        if listed is not None:
            write(own / CHILDREN_FILE, listed, sync)
        write(path, data, sync)
    return parse(plan.id, unit, plan.layout(unit), data)


def conflicts(folder: Path, unit: int) -> list[Path]:
    """The evidence of contradicting sums in a unit's inbox."""
    return sorted((inbox(folder, unit) / "conflicts").glob("*.sum"))


def write(path: Path, data: bytes, sync: bool = True) -> None:
    """Put a file in place, whole or not at all; `sync` false leaves it to the system when it reaches the disk."""
    # A new Path for each checkpoint would intern its name each time, until Python's table of interned strings is full and doubles: half a megabyte.
    beside = f"{path}.new"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(beside, "wb") as file:
            file.write(data)
            file.flush()
            if sync:
                os.fsync(file.fileno())
        os.replace(beside, path)
        if sync:
            handle = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
    except OSError as error:
        raise BallotboardError(f"cannot write {path}: {error.strerror}") from error
