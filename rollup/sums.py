"""A unit's sum as it travels up the tree, and how sums become the sum of the unit above: pure functions over bytes.

    sum   = body || signature (64)
    body  = u8(1) || plan id (32) || u32(unit) || u32(revision) || u32(leaf units) || u64(parts) || source (32) || contest … contest
    contest = u16(contest index) || u64(ballots) || n · (Σ A_i (32) || Σ B_i (32))

with one contest block for each contest that is voted on in or below the unit, ascending, so that the length follows from the plan. The signature is
the unit's (`rollup.keys`) over SHA-256(body). `ballots` are those counted in the contest, `leaf units` says how many leaf units are in the sum: it is
partial while there are fewer than the tree has. The identity, 32 zero bytes, is the sum of nothing.

Where it comes from. For an inner unit `parts` is the number of children in its *child list*, rows `u32(unit) || u32(revision) || SHA-256(sum)`
of 40 bytes, strictly ascending by unit, and `source` the RFC 9162 root over these rows: one level can be checked without any other. For a leaf unit,
`parts` is the number of ballots in its log and `source` the log's head (`rollup.log`).

Revisions start at 1. A later revision replaces an earlier one; two sums of one unit and revision that differ contradict each other, and are evidence.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

from protocol import merkle
from protocol.encoding import u8, u16, u32, u64
from protocol.engine import add_sums, are_points, native
from protocol.errors import BallotboardError, Malformed
from protocol.group import IDENTITY
from protocol.proofs import POK_BYTES
from rollup.keys import Keys
from rollup.plan import Layout

VERSION = 1
HEADER = 1 + 32 + 4 + 4 + 4 + 8 + 32
REVISION = slice(37, 41)
"""Where the revision is in a body."""
CHILD_ROW = 40
NO_SOURCE = bytes(32)
"""Source of a leaf's sum that was not made from ballots (a synthetic nation)."""


_NUMBERS = struct.Struct(">IIIQ32s")


class SumError(BallotboardError):
    """A sum that is not what it should be; `unit` is whose."""

    def __init__(self, unit: int, reason: str) -> None:
        self.unit = unit
        super().__init__(reason)


class NotSigned(SumError):
    """A sum whose signature is not its unit's."""


@dataclass(frozen=True, slots=True)
class ContestSum:
    """Counted ballots of one contest, and Σ A_i || Σ B_i of its ciphertexts end to end."""

    contest: int
    ballots: int
    points: bytes


@dataclass(frozen=True, slots=True)
class UnitSum:
    """A parsed sum; the module docstring explains its members. `data` is all of it, signature included."""

    unit: int
    revision: int
    leaves: int
    parts: int
    source: bytes
    contests: tuple[ContestSum, ...]
    data: bytes

    @property
    def statement(self) -> bytes:
        return hashlib.sha256(self.data[:-POK_BYTES]).digest()

    @property
    def signature(self) -> bytes:
        return self.data[-POK_BYTES:]

    def child_row(self) -> bytes:
        return child_row(self.unit, self.revision, self.data)


@cache
def size(layout: Layout) -> int:
    """Bytes of a sum with these contests, signature included."""
    return HEADER + sum(2 + 8 + 64 * n for _, n in layout) + POK_BYTES


def encode(plan: bytes, unit: int, leaves: int, parts: int, source: bytes, contests: Sequence[ContestSum]) -> bytes:
    """The body of a first revision; `complete` makes a sum of it."""
    header = u8(VERSION) + plan + u32(unit) + u32(1) + u32(leaves) + u64(parts) + source
    return header + b"".join(u16(c.contest) + u64(c.ballots) + c.points for c in contests)


def parse(plan: bytes, unit: int, layout: Layout, data: bytes) -> UnitSum:
    """The sum of this unit of the plan with this id. Its points are looked at when they are added, its signature by `keys.verify`.

    Raises SumError naming what differs.
    """
    if len(data) != size(layout):
        raise SumError(unit, f"the sum of unit {unit} has {len(data)} bytes, not {size(layout)}")
    if data[0] != VERSION or data[1:33] != plan:
        raise SumError(unit, f"the sum of unit {unit} is of another version or plan")
    named, revision, leaves, parts, source = _NUMBERS.unpack_from(data, 33)
    if named != unit:
        raise SumError(unit, f"the sum of unit {unit} is that of unit {named}")
    if not revision:
        raise SumError(unit, f"the sum of unit {unit} has revision 0: they start at 1")
    contests, at = [], HEADER
    for contest, n in layout:
        end = at + 10 + 64 * n
        if data[at : at + 2] != u16(contest):
            raise SumError(unit, f"the sum of unit {unit} is not of contest {contest} where it should be")
        contests.append(ContestSum(contest, int.from_bytes(data[at + 2 : at + 10], "big"), data[at + 10 : end]))
        at = end
    return UnitSum(unit, revision, leaves, parts, source, tuple(contests), data)


def child_row(unit: int, revision: int, data: bytes) -> bytes:
    return u32(unit) + u32(revision) + hashlib.sha256(data).digest()


def parse_child_list(data: bytes) -> list[tuple[int, int, bytes]]:
    """(unit, revision, SHA-256 of the sum) for each row. Raises Malformed unless the units ascend."""
    if len(data) % CHILD_ROW:
        raise Malformed("child-list", f"its length is not a multiple of {CHILD_ROW}")
    rows = [data[i : i + CHILD_ROW] for i in range(0, len(data), CHILD_ROW)]
    found = [(int.from_bytes(row[:4], "big"), int.from_bytes(row[4:8], "big"), row[8:]) for row in rows]
    if any(a[0] >= b[0] for a, b in pairwise(found)):
        raise Malformed("child-list", "units must ascend strictly")
    return found


def child_list_root(data: bytes) -> bytes:
    return merkle.root(merkle.leaf_hash(data[i : i + CHILD_ROW]) for i in range(0, len(data), CHILD_ROW))


def combine(
    plan: bytes, unit: int, layout: Layout, children: Sequence[UnitSum], threads: int = 1
) -> tuple[bytes, bytes]:
    """(body, child list) of an inner unit's sum, over its children's, whose signatures are right, ascending by unit.

    Raises SumError naming the child with a point that is none.
    """
    contests = []
    for contest, n in layout:
        found = [(child.unit, part) for child in children for part in child.contests if part.contest == contest]
        rows = b"".join(part.points for _, part in found)
        try:
            # native/ looks at every point as it adds; libsodium does not see bit 255 (protocol.group)
            if native is None and not _are_points(rows):
                raise ValueError
            points = add_sums(2 * n, rows, threads)
        except ValueError:
            culprit = next(u for u, part in found if not _are_points(part.points))
            raise SumError(culprit, f"the sum of unit {culprit} holds a point that is none") from None
        contests.append(ContestSum(contest, sum(part.ballots for _, part in found), points))
    listed = b"".join(child.child_row() for child in children)
    leaves = sum(child.leaves for child in children)
    return encode(plan, unit, leaves, len(children), child_list_root(listed), contests), listed


def complete(body: bytes, keys: Keys, unit: int, previous: UnitSum | None) -> bytes:
    """A sum from its body: with the revision that follows `previous`, signed. What has not changed stays as it was, revision, signature and all."""
    for revision in (previous.revision, previous.revision + 1) if previous else (1,):
        body = body[: REVISION.start] + u32(revision) + body[REVISION.stop :]
        if previous and body == previous.data[:-POK_BYTES]:
            return previous.data
    return body + keys.sign(unit, hashlib.sha256(body).digest())


def _are_points(points: bytes) -> bool:
    """True if each 32 bytes are a point; the identity is one here."""
    encodings = {points[i : i + 32] for i in range(0, len(points), 32)} - {IDENTITY}
    return are_points(b"".join(encodings))
