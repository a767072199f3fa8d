"""A leaf unit's sum from its ballots, one at a time and in constant memory.

    ballots  →  log (synced)  →  verified, added up  →  checkpoint (sealed)          every N ballots
                                                      →  sum (signed)                at the end

The log is the truth. It is on the disk before its ballots are counted, so whatever happens, counting its frames again gives the same bytes; a
checkpoint only shortens that, and one that is missing or does not open is passed over. It is sealed, because it says which rows have voted, and bound to
a place in the log: a log that ends before its checkpoint has lost ballots and is refused.

What goes in is the unit's part of the counted set (docs/protocol.md, section 7), where each credential has one ballot. A ballot that is not valid, is of
another unit, or is a row's second, is logged, counted as refused and left out of the sum.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from nacl.exceptions import CryptoError
from nacl.secret import SecretBox

from protocol.attachments import ROLL_ROW, Roll
from protocol.ballot import Reason, ballot_size, read_header
from protocol.encoding import Reader, u32, u64
from protocol.engine import NOT_COUNTED, Engine, add_sums
from protocol.errors import BallotboardError, Malformed
from protocol.records import pack_bodies
from rollup.inbox import inbox, read, stand, write
from rollup.keys import Keys
from rollup.log import Position, UnitLog
from rollup.plan import Plan
from rollup.sums import ContestSum, UnitSum, complete, encode

LOG_FILE, CHECKPOINT_FILE = "log", "checkpoint"

CHECKPOINT_EVERY = 100
"""Ballots between two checkpoints: a few seconds of a precinct's evening."""

FRAME = 128
"""Ballots in memory at a time, at most; more in a batch would verify a little faster, and take more memory."""

CHECKPOINT_SHARE = 10
"""A checkpoint grows with the roll (a bit a row). In a large unit it is made less often, so that checkpoints are at most a tenth of what is written."""

REPLAY_BATCH = 2_048
"""Ballots that an audit verifies at a time: frames are small, and many ballots are cheaper together."""

REFUSALS = [*(reason.text for reason in Reason), "other-unit", "repeated"]
"""What `UnitTally.fates` counts, in this order; the first are counted ballots."""
OTHER_UNIT, REPEATED = len(Reason), len(Reason) + 1

Progress = Callable[[int], None]
"""Called after each checkpoint with the ballots logged so far."""


@dataclass
class UnitTally:
    """The running sum of one leaf unit: ballots by fate (REFUSALS), Σ A_i || Σ B_i per contest, and a bit for each roll row that has voted."""

    plan: Plan
    unit: int
    roll: Roll
    engine: Engine
    threads: int = 1
    fates: list[int] = field(default_factory=lambda: [0] * len(REFUSALS))

    def __post_init__(self) -> None:
        style = self.plan.units[self.unit].style
        self.contests = [(i, self.plan.contests[i]) for i in sorted(self.plan.styles[style])]
        self.points = [bytes(64 * n) for _, n in self.plan.layout(self.unit)]
        if len(self.roll) < self.plan.voters:
            raise BallotboardError(
                f"the roll has {len(self.roll):,} rows, the plan {self.plan.voters:,}: it is another one"
            )
        self.first, self.rows = roll_range(self.roll, self.unit, self.plan.voters)
        tail = range(self.plan.voters, len(self.roll))
        self.added = {index: n for n, index in enumerate(i for i in tail if self.roll.row(i)[1] == self.unit)}
        self.voted = bytearray((self.rows + len(self.added) + 7) // 8)

    @property
    def counted(self) -> int:
        return self.fates[0]

    def add(self, bodies: list[bytes]) -> None:
        """Count these ballots."""
        packed = pack_bodies(bodies)
        groups = bytearray()
        for body, reason in zip(bodies, self.engine.verify_packed(packed, self.roll, self.threads), strict=True):
            fate = int(reason) or self._fate(read_header(body)[0])
            self.fates[fate] += 1
            groups += u32(NOT_COUNTED if fate else 0)
        for i, (_, contest) in enumerate(self.contests):
            found = self.engine.sums_packed(contest, packed, self.roll, bytes(groups), 1, self.threads)
            self.points[i] = add_sums(len(found) // 32, self.points[i] + found, 1)
        if isinstance(self.roll.data, mmap.mmap):
            # Pages of the roll that were read stay mapped, one after the other until all are: give them back to the system's cache.
            self.roll.data.madvise(mmap.MADV_DONTNEED)

    def _fate(self, index: int) -> int:
        place = self.rows + self.added[index] if index in self.added else index - self.first
        if not (index in self.added or 0 <= place < self.rows):
            return OTHER_UNIT
        bit = 1 << (place & 7)
        if self.voted[place >> 3] & bit:
            return REPEATED
        self.voted[place >> 3] |= bit
        return 0

    def contest_sums(self) -> list[ContestSum]:
        return [ContestSum(i, self.counted, points) for (i, _), points in zip(self.contests, self.points, strict=True)]

    def state(self, at: Position) -> bytes:
        """Everything that counting has changed, with the place in the log that it stands for."""
        numbers = b"".join(map(u64, [at.ballots, at.offset, *self.fates]))
        return b"".join(
            [at.head, numbers, *self.points, self.voted]
        )  # in one go: a long roll's bits are not copied thrice

    def restore(self, state: bytes) -> Position:
        """The inverse of `state`. Raises Malformed for the state of another unit or plan."""
        reader = Reader(state, "checkpoint")
        head = reader.take(32, "head")
        ballots, offset = reader.integer(8, "ballots"), reader.integer(8, "offset")
        fates = [reader.integer(8, "fates") for _ in REFUSALS]
        points = [reader.take(len(points), "points") for points in self.points]
        voted = bytearray(reader.take(len(self.voted), "voted"))
        reader.end()
        self.fates, self.points, self.voted = fates, points, voted
        return Position(head, ballots, offset)


@dataclass(frozen=True)
class Counted:
    """What counting a unit gave: its sum, and the ballots by fate that are not zero."""

    sum: UnitSum
    fates: dict[str, int]
    replayed: int


def count_unit(
    plan: Plan, folder: Path, unit: int, keys: Keys, roll: Roll, ballots: Iterable[bytes], every: int = 0,
    engine: Engine | None = None, threads: int = 1, progress: Progress | None = None,
) -> Counted:  # fmt: skip
    """Counts the ballots of a leaf unit and signs its sum. Killed at any moment and started again with the same ballots, it goes on, with the same bytes in the end.

    `every` is the number of ballots between checkpoints, 0 chooses it; `folder`/<unit> holds log and checkpoint. Raises BallotboardError if the
    log holds other ballots than these.
    """
    if not plan.is_leaf(plan.check_unit(unit)):
        raise BallotboardError(
            f"{plan.name(unit)} is no leaf: its sum is made from those of its {len(plan.children(unit))} units"
        )
    tally = UnitTally(plan, unit, roll, engine or plan.engine(), threads)
    box = SecretBox(keys.checkpoint_key(plan.id, unit))
    source = iter(ballots)
    with UnitLog.open(inbox(folder, unit) / LOG_FILE, plan.id, unit) as log:
        checkpoint = inbox(folder, unit) / CHECKPOINT_FILE
        replayed = _resume(tally, log, _load(checkpoint, box, tally), source)
        frame, frames = _frames(every or _interval(tally))
        number = 0
        while batch := list(islice(source, frame)):
            log.append(batch)
            tally.add(batch)
            number += 1
            if number % frames == 0:
                # Not synced: a checkpoint that a power cut spoils does not open, and the log is counted from its start.
                write(checkpoint, box.encrypt(tally.state(log.end)), sync=False)
                if progress:
                    progress(log.end.ballots)
            batch.clear()  # before the next is read, or there are two at a time
        if number % frames:
            write(checkpoint, box.encrypt(tally.state(log.end)), sync=False)
        body = encode(plan.id, unit, 1, log.end.ballots, log.end.head, tally.contest_sums())
        made = stand(plan, folder, unit, complete(body, keys, unit, read(plan, folder, unit)))
    return Counted(made, _fates(tally), replayed)


def replay(
    plan: Plan, folder: Path, unit: int, roll: Roll, engine: Engine | None = None, threads: int = 1
) -> tuple[UnitTally, Position]:
    """Counts a unit's log from its start, believing no checkpoint; for audits."""
    tally = UnitTally(plan, unit, roll, engine or plan.engine(), threads)
    with UnitLog.open(inbox(folder, unit) / LOG_FILE, plan.id, unit, write=False) as log:
        pending: list[bytes] = []
        for bodies in log.frames():
            pending += bodies
            if len(pending) >= REPLAY_BATCH:
                tally.add(pending)
                pending = []
        tally.add(pending)
        return tally, log.end


def roll_range(roll: Roll, unit: int, voters: int) -> tuple[int, int]:
    """(first roll index, number of rows) of a unit among the first `voters` rows, which ascend by unit."""

    def first(wanted: int) -> int:
        low, high = 0, voters
        while low < high:
            middle = (low + high) // 2
            low, high = (middle + 1, high) if roll.row(middle)[1] < wanted else (low, middle)
        return low

    start = first(unit)
    return start, first(unit + 1) - start


def open_roll(path: Path, plan: Plan) -> Roll:
    """A roll file, mapped: a process touches the pages of its own unit alone."""
    try:
        with path.open("rb") as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if path.stat().st_size else b""
    except OSError as error:
        raise BallotboardError(f"cannot read the roll {path}: {error.strerror}") from error
    if len(data) % ROLL_ROW:
        raise BallotboardError(f"{path} is no roll: its length is not a multiple of {ROLL_ROW}")
    return Roll(data, [unit.style for unit in plan.units])  # type: ignore[arg-type]  # anything that slices into bytes will do


def read_packed(path: Path) -> Iterator[bytes]:
    """The ballots of a file, each `u16(length) || body`, a block at a time; `-` is standard input. Raises BallotboardError where it is cut short."""
    try:
        with open(0, "rb", closefd=False) if str(path) == "-" else path.open("rb") as file:
            number = 0
            while head := file.read(2):
                body = file.read(int.from_bytes(head, "big"))
                if len(head) < 2 or len(body) < int.from_bytes(head, "big"):
                    raise BallotboardError(f"{path} ends in the middle of ballot {number}")
                number += 1
                yield body
    except OSError as error:
        raise BallotboardError(f"cannot read the ballots {path}: {error.strerror}") from error


# ---------------------------------------------------------------- helpers


def _resume(tally: UnitTally, log: UnitLog, at: Position, source: Iterator[bytes]) -> int:
    """Reads the log to its end beside `source`; counts the frames after `at`. Returns how many ballots were counted so."""
    replayed, seen = 0, at.ballots == 0
    for bodies in log.frames():
        before = log.end.ballots - len(bodies)
        for i, body in enumerate(bodies):
            offered = next(source, None)
            if offered is None:
                raise BallotboardError(f"the log holds more ballots than were offered, which end after {before + i:,}")
            if offered != body:
                raise BallotboardError(f"ballot {before + i:,} is not the one that the log holds there")
        if before >= at.ballots:
            tally.add(bodies)
            replayed += len(bodies)
        seen = seen or log.end == at
    if not seen:
        raise BallotboardError(
            f"{log.path} has lost ballots: its checkpoint was made after {at.ballots:,}; go back to a copy"
        )
    return replayed


def _load(path: Path, box: SecretBox, tally: UnitTally) -> Position:
    try:
        return tally.restore(box.decrypt(path.read_bytes()))
    except (OSError, CryptoError, ValueError, Malformed):
        return Position(b"", 0, 0)


def _interval(tally: UnitTally) -> int:
    body = ballot_size([contest for _, contest in tally.contests])
    state = len(tally.voted) + sum(map(len, tally.points))
    return max(CHECKPOINT_EVERY, CHECKPOINT_SHARE * state // body)


def _frames(every: int) -> tuple[int, int]:
    """(ballots in a frame of the log, frames between checkpoints) for a checkpoint every so many ballots."""
    frames = -(-every // FRAME)
    return -(-every // frames), frames


def _fates(tally: UnitTally) -> dict[str, int]:
    return {name: count for name, count in zip(REFUSALS, tally.fates, strict=True) if count}
