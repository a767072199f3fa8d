"""The counted set: which ballot of whom counts, a pure function of the log (docs/protocol.md, section 7)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum

from protocol import merkle
from protocol.attachments import Roll, Station
from protocol.ballot import Reason
from protocol.encoding import Reader, u8, u32, u64
from protocol.errors import Malformed
from protocol.group import is_point
from protocol.records import CheckIns, RollChange

NO_ROW = 2**32 - 1
"""Roll index of a ballot whose own cannot be read."""


class Status(IntEnum):
    COUNTED = 0
    SUPERSEDED = 1
    REPLACED_BY_PAPER = 2
    REVOKED = 3
    DUPLICATE = 4
    INVALID = 5
    NOT_HELD = 6

    @property
    def text(self) -> str:
        return self.name.lower().replace("_", "-")


@dataclass(frozen=True, slots=True)
class CountedRow:
    """What became of the ballot at `position`: 21 bytes. `reference` is explained by the table of section 7."""

    position: int
    roll_index: int
    status: Status
    reference: int

    def encode(self) -> bytes:
        return u64(self.position) + u32(self.roll_index) + u8(self.status) + u64(self.reference)

    @staticmethod
    def parse(data: bytes) -> CountedRow:
        reader = Reader(data, "counted-row")
        position, index, status = (
            reader.integer(8, "position"),
            reader.integer(4, "roll_index"),
            reader.integer(1, "status"),
        )
        reference = reader.integer(8, "reference")
        reader.end()
        if status > max(Status):
            raise Malformed("counted-row.status", f"unknown status {status}", 12)
        return CountedRow(position, index, Status(status), reference)


@dataclass(frozen=True, slots=True)
class BallotFact:
    """What counting needs to know of one ballot record: the ballot's hash, roll index and `seen`, and its reason (1–7, 0 valid)."""

    position: int
    ballot_hash: bytes
    roll_index: int
    seen: int
    reason: Reason
    held: bool = True


@dataclass(frozen=True, slots=True)
class Conflict:
    """Two valid check-ins of one roll row: positions of the records, the first by station time first."""

    roll_index: int
    first: int
    second: int


@dataclass(frozen=True)
class CountedSet:
    """One row per ballot record, in log order; the check-in conflicts; the valid check-ins per station."""

    rows: list[CountedRow]
    conflicts: list[Conflict]
    check_ins: dict[int, int]
    void_check_ins: list[tuple[int, int]]

    def leaves(self) -> list[bytes]:
        return [merkle.leaf_hash(row.encode()) for row in self.rows]

    def root(self) -> bytes:
        return merkle.root(self.leaves())

    def counted(self) -> Iterable[CountedRow]:
        return (row for row in self.rows if row.status == Status.COUNTED)

    def total(self) -> int:
        """How many ballots are counted."""
        return sum(1 for _ in self.counted())


@dataclass(frozen=True)
class RollState:
    """The roll with its changes applied: extended rows, revoked rows (index → position of the change), refused changes."""

    roll: Roll
    revoked: dict[int, int]
    refused: list[tuple[int, str]]


def apply_roll_changes(roll: Roll, changes: Iterable[tuple[int, RollChange]]) -> RollState:
    """Apply changes (position, change) in log order; a change that contradicts the roll is refused, and said why."""
    changes = list(changes)
    keys = {row[:32] for row in roll.rows()} if changes else set()
    added: list[tuple[bytes, int]] = []
    revoked: dict[int, int] = {}
    refused: list[tuple[int, str]] = []
    for position, change in changes:
        known = 0 <= change.revoke < len(roll) + len(added)
        unit = (
            (roll.row(change.revoke) if change.revoke < len(roll) else added[change.revoke - len(roll)])[1]
            if known
            else -1
        )
        if not known or change.revoke in revoked:
            refused.append((position, "the revoked row does not exist or is revoked already"))
        elif unit != change.unit:
            refused.append((position, "the unit is not that of the revoked row"))
        elif change.add in keys or not is_point(change.add):
            refused.append((position, "the added key is on the roll already, or is no point"))
        else:
            revoked[change.revoke] = position
            keys.add(change.add)
            added.append((change.add, change.unit))
    return RollState(roll.extended(added), revoked, refused)


def count(
    state: RollState,
    ballots: Sequence[BallotFact],
    check_ins: Sequence[tuple[int, CheckIns]],
    stations: Sequence[Station],
    revote: str,
    channel: str,
) -> CountedSet:
    """The counted set of all ballots before the settlement.

    ballots in log order; check_ins as (position, batch); `revote` is "last" or "first", `channel` is
    "paper-precedence" or "online-precedence".
    """
    fate: dict[int, tuple[Status, int]] = {}
    seen_hashes: dict[bytes, int] = {}
    standing: dict[int, BallotFact] = {}
    for fact in ballots:
        reason = fact.reason or (Reason.SEEN_TOO_HIGH if fact.seen > fact.position else Reason.VALID)
        first = seen_hashes.setdefault(fact.ballot_hash, fact.position)
        if not fact.held:
            fate[fact.position] = (Status.NOT_HELD, 0)
        elif first != fact.position:
            fate[fact.position] = (Status.DUPLICATE, first)
        elif reason:
            fate[fact.position] = (Status.INVALID, reason)
        elif fact.roll_index in state.revoked:
            fate[fact.position] = (Status.REVOKED, state.revoked[fact.roll_index])
        else:
            other = standing.get(fact.roll_index)
            # Positions grow, so "last" keeps the newer unless an older `seen` shows a replay of an earlier ballot.
            if other is None or (revote == "last" and fact.seen >= other.seen):
                standing[fact.roll_index] = fact
            fate[fact.position] = (Status.SUPERSEDED, 0)
    paper, conflicts, per_station, void = _check_ins(state, check_ins, stations)
    for index, fact in standing.items():
        replaced = channel == "paper-precedence" and index in paper
        fate[fact.position] = (Status.REPLACED_BY_PAPER, paper[index]) if replaced else (Status.COUNTED, 0)
    rows = []
    for fact in ballots:
        status, reference = fate[fact.position]
        if status == Status.SUPERSEDED:
            reference = standing[fact.roll_index].position
        rows.append(CountedRow(fact.position, fact.roll_index, status, reference))
    return CountedSet(rows, conflicts, per_station, void)


def _check_ins(
    state: RollState, check_ins: Sequence[tuple[int, CheckIns]], stations: Sequence[Station]
) -> tuple[dict[int, int], list[Conflict], dict[int, int], list[tuple[int, int]]]:
    """Valid check-ins by row (position of the first by station time), conflicts, valid ones per station, void ones."""
    by_row: dict[int, list[tuple[int, int]]] = {}
    per_station: dict[int, int] = {}
    void: list[tuple[int, int]] = []
    for position, batch in check_ins:
        for index, time in batch.entries:
            valid = index < len(state.roll) and index not in state.revoked and batch.station < len(stations)
            if not valid or state.roll.row(index)[1] != stations[batch.station].unit:
                void.append((position, index))
                continue
            by_row.setdefault(index, []).append((time, position))
            per_station[batch.station] = per_station.get(batch.station, 0) + 1
    conflicts = []
    for index, found in sorted(by_row.items()):
        found.sort()
        conflicts += [Conflict(index, found[0][1], position) for _, position in found[1:]]
    return {index: found[0][1] for index, found in by_row.items()}, conflicts, per_station, void
