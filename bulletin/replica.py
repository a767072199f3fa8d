"""The board's copy of the log: takes only what continues it, and computes what anyone can compute from it. No network.

`append` checks the events of the chain against the copy: no gap, and after every event the root that the board emitted. Rows and cursor are
one transaction, and while the rows are written, the engine looks at the ballots: their reasons come into it too, as soon as the poll is known to be
open. Then `derive` follows (protocol.election): the reasons of ballots that have none yet; when the poll is settled, what became of each; and
once a result is announced, whether it is the one that the record gives. Each goes on where it stopped. What cannot be computed, because the
setup or the result is wrong, is a fact that the pages show. What does not fit the log is an Alarm.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import Any, NamedTuple

from bulletin.recount import Recount
from bulletin.store import MAX_SEEN, Answer, Cursor, Store, StoreError
from chain.reader import Ballots, Batch
from protocol import election, engine
from protocol.attachments import Roll
from protocol.ballot import Reason
from protocol.counting import NO_ROW
from protocol.election import LogRecord, OpenElection
from protocol.errors import BallotboardError
from protocol.manifest import Manifest
from protocol.merkle import Frontier
from protocol.records import Kind, LogHead, RollRecord, Settlement, pack_bodies
from verifier.log import ENTRY, headers

CHECK_RECORDS = 4_096
"""Records whose ballots are checked in one call of the engine: full batches, and a few MB."""

CHECKS_AT_ONCE = 16
"""Such calls in one transaction: a second of work."""


class Alarm(BallotboardError):
    """What the chain says contradicts itself, or what it said before. The board stops."""


class Replica:
    """The copy in `store` of the log of the board at `contract` (20 bytes), created with `manifest`. One thread uses it.

    `cursor` is the last block read; `alarm` why the board has stopped, "" if it has not.
    """

    alarm: str
    cursor: Cursor | None
    _acts: list[LogRecord]  # all records but ballots
    _attachments: dict[bytes, bytes]
    _frontier: Frontier
    _election: OpenElection | None
    _checks: (
        tuple[OpenElection, Roll] | None
    )  # what ballots are checked against, once the poll is open: the roll has the changes so far
    _derived: tuple[int, int] | None  # (records, files) of the last `derive`

    def __init__(self, store: Store, manifest: Manifest, contract: bytes) -> None:
        """Raises StoreError if the database holds another board or election."""
        self.store, self.manifest, self.contract = store, manifest, contract
        store.bind(manifest.chain_id, contract, manifest.election_id)
        self._load()

    @property
    def head(self) -> LogHead:
        return LogHead(self._frontier.size, self._frontier.root())

    def append(self, events: Sequence[Batch], cursor: Cursor, stored: LogHead | None = None) -> None:
        """These events, up to the block of `cursor`, where the contract's own head is `stored`. All of them, or none and Alarm or StoreError."""
        try:
            leaves = b"".join([self._extend(event) for event in events])
            others = (event.records for event in events if not isinstance(event.records, Ballots))
            acts = [record for records in others for record in records if record.kind != Kind.BALLOT]
            if stored not in (None, self.head):
                raise Alarm(
                    f"the log has {self.head.size} records with root {self.head.root.hex()}, and the board at block {cursor.number} says {stored.size}"
                    f" with root {stored.root.hex()}"
                )
            with ThreadPoolExecutor(1) as beside, self.store.write() as tx:
                if tx.cursor() != self.cursor:
                    raise StoreError(
                        "another process writes this database: end one of the two (a board that only serves has --no-follow)"
                    )
                answers, up_to_date = None, bool(events) and tx.fact("checked") == events[0].first
                if self._checks and up_to_date and not _has(acts, Kind.ROLL_CHANGE):
                    (opened, roll), fresh = self._checks, _of_events(events)
                    answers = beside.submit(opened.engine.verify_packed, fresh.packed, roll)
                tx.append(events, leaves)
                if answers:
                    tx.check(_verdicts(fresh, roll, answers.result()))
                    tx.set_fact("checked", self._frontier.size)
                tx.set_cursor(cursor)
        except BaseException:
            self._load()  # the tree in memory is ahead of the database
            raise
        self.cursor = cursor
        self._acts += acts

    def missing(self) -> list[bytes]:
        """The files that the record names and that are not here. They are no records, and may be published later than the record that names them."""
        rolls = election.readable(self._acts, Kind.ROLL, RollRecord.parse)
        named = {self.manifest.units.sha256, self.manifest.stations.sha256, *(roll.sha256 for _, roll in rolls)}
        if self.manifest.body_mode == "hash":
            settled = election.readable(self._acts, Kind.SETTLEMENT, lambda body: Settlement.parse(body, True))
            named |= {settlement.bitmap for _, settlement in settled}
        return sorted(named - self._attachments.keys())

    def without_body(self, limit: int) -> list[bytes]:
        """SHA-256 of ballots whose hash alone is on the chain and whose body is not here, at most `limit`, the newest first."""
        if self.manifest.body_mode != "hash":
            return []
        with self.store.read() as tx:
            return tx.without_body(limit)

    def supply(self, bodies: dict[bytes, bytes]) -> None:
        """Bodies of ballots by their SHA-256, which the caller has checked."""
        with self.store.write() as tx:
            end = tx.fact("checked") or 0
            checked = [(record.position, record.body) for record in tx.supply(bodies) if record.position < end]
            if self._election and checked:
                roll = election.roll_state(self._election, self._acts).roll
                tx.check_again(_checked(self._election, roll, _of_rows(checked)))
        self._derived = None

    def attach(self, files: dict[bytes, bytes]) -> None:
        """Files by their SHA-256, which the caller has checked."""
        with self.store.write() as tx:
            tx.attach(files)
        self._attachments |= files

    def derive(self) -> None:
        """What the log so far says of its ballots and its result."""
        state = (self._frontier.size, len(self._attachments))
        if self._derived == state:
            return
        if self._election is None and _has(self._acts, Kind.OPEN):
            self._open()
        if self._election:
            self._check_ballots(self._election)
            self._finish()
        self._derived = state

    def note(self, name: str, value: Any) -> None:
        """Stores a fact, if it is another than before."""
        with self.store.write() as tx:
            if tx.fact(name) != value:
                tx.set_fact(name, value)

    def stop(self, alarm: str) -> None:
        """From now on the board has stopped, whatever happens to this process."""
        self.alarm = alarm
        self.note("alarm", alarm)

    # ---- the log

    def _extend(self, event: Batch) -> bytes:
        """The leaves of an event's records, end to end, which must continue the log up to the root that the event names."""
        if event.first != self._frontier.size:
            raise Alarm(
                f"the log has {self._frontier.size} records and goes on at position {event.first} in block {event.block_number}"
            )
        if event.first == 0 and event.records[0].body != self.manifest.body:
            raise Alarm("record 0 is not the manifest that the board was created with")
        leaves = engine.row_leaves(event.entries, ENTRY)
        engine.extend(self._frontier, leaves)
        if self._frontier.root() != event.root:
            raise Alarm(
                f"the root emitted after position {event.size - 1} (block {event.block_number}) is {event.root.hex()}, and the records have the root"
                f" {self._frontier.root().hex()}"
            )
        return leaves

    def _load(self) -> None:
        """Everything in memory from the database."""
        with self.store.read() as tx:
            self.alarm = tx.fact("alarm") or ""
            self.cursor = tx.cursor()
            self._acts = tx.acts()
            self._frontier = tx.frontier(tx.head().size)
            self._attachments = {name: tx.attachment(name) or b"" for name in tx.attachment_names()}
        self._election = self._checks = self._derived = None

    # ---- what follows

    def _open(self) -> None:
        problem = ""
        try:
            self._election = election.open_election(self.manifest, self.contract, self._acts, self._attachments)
        except BallotboardError as error:
            problem = str(error)
        self.note("setup", problem)

    def _check_ballots(self, opened: OpenElection) -> None:
        """The engine's answer for the ballots that have none. A roll change may give an unknown roll index a row, so those are asked about again."""
        state = election.roll_state(opened, self._acts)
        roll = state.roll
        with self.store.read() as tx:
            checked, rows = tx.fact("checked") or 0, tx.fact("roll_rows")
        if rows != len(roll):
            with self.store.write() as tx:
                unknown = _of_rows((r.position, r.body) for r in tx.with_reason(Reason.UNKNOWN_CREDENTIAL))
                tx.check_again(_checked(opened, roll, unknown))
                tx.set_fact("roll_rows", len(roll))
                tx.set_fact("revoked", sorted(state.revoked))
        while checked < self._frontier.size:
            end = min(checked + CHECKS_AT_ONCE * CHECK_RECORDS, self._frontier.size)
            with self.store.write() as tx:
                for start in range(checked, end, CHECK_RECORDS):
                    rows = tx.bodies(start, min(start + CHECK_RECORDS, end))
                    part = _of_rows((position, body) for position, kind, body in rows if kind == Kind.BALLOT)
                    tx.check(_checked(opened, roll, part))
                tx.set_fact("checked", end)
            checked = end
        self._checks = opened, roll

    def _finish(self) -> None:
        """What became of each ballot, and whether the announced result is right, as far as they are due: from one reading of the log."""
        with self.store.read() as tx:
            known = tx.fact("result")
            settle = _has(self._acts, Kind.SETTLEMENT) and tx.fact("counted") is None
            compare = _has(self._acts, Kind.RESULT) and (known is None or (known == "" and not tx.groups()))
            if settle or compare:
                case = Recount(tx, self.manifest, self.contract, self._attachments)
                if settle:
                    self._settle(case)
                if compare:
                    self._compare_result(case)

    def _settle(self, case: Recount) -> None:
        try:
            counted = case.counted
        except BallotboardError:
            return  # a file or a body may still come; what stays wrong is said of the result
        with self.store.write() as tx:
            tx.settle(zip(case.log.ballots.positions, counted.status, counted.reference, strict=False))
            conflicts = [[conflict.roll_index, conflict.first, conflict.second] for conflict in counted.conflicts]
            statuses = {status.text: count for status, count in case.counted.tally().items()}
            value = {
                "conflicts": conflicts,
                "root": counted.root().hex(),
                "size": len(counted.rows),
                "statuses": statuses,
            }
            tx.set_fact("counted", value)

    def _compare_result(self, case: Recount) -> None:
        """Whether the announced result is the one that the record gives: sums, partial decryptions and stations, all computed again."""
        problem, groups = "", list[list[list[tuple[int, int]]]]()
        try:
            right = election.result_body(case.settled, case.tally, case.records)
            if case.body(Kind.RESULT) == right:
                voted = case.counted.per_unit(case.roll_state.roll)
                groups = [
                    [[(unit, voted[unit]) for unit in group.units] for group in found] for found in case.settled.groups
                ]
            else:
                problem = "the announced result is not the one that the record gives"
        except (election.MissingAttachment, election.MissingBodies):
            return  # not looked at yet, and the page says so
        except BallotboardError as error:
            problem = f"the result cannot be computed from the record: {error}"
        with self.store.write() as tx:
            tx.decrypted(groups)
            tx.set_fact("result", problem)


def _has(records: Sequence[LogRecord], kind: Kind) -> bool:
    return any(record.kind == kind for record in records)


class Unchecked(NamedTuple):
    """Ballots: the positions of those whose body is here, these bodies packed, and the positions of the others."""

    held: list[int]
    packed: bytes
    missing: list[int]


def _of_events(events: Sequence[Batch]) -> Unchecked:
    found = list[Unchecked]()
    for event in events:
        if isinstance(calls := event.records, Ballots):
            places = list(range(event.first, event.size))
            found.append(Unchecked(places, calls.packed, []) if calls.packed else Unchecked([], b"", places))
        else:
            found.append(_of_rows((r.position, r.body) for r in event.records if r.kind == Kind.BALLOT))
    held, packed, missing = zip(*found, strict=True)
    return Unchecked(list(chain.from_iterable(held)), b"".join(packed), list(chain.from_iterable(missing)))


def _of_rows(ballots: Iterable[tuple[int, bytes | None]]) -> Unchecked:
    """From (position, body)."""
    rows = list(ballots)
    held = [(position, body) for position, body in rows if body is not None]
    missing = [position for position, body in rows if body is None]
    return Unchecked([position for position, _ in held], pack_bodies(body for _, body in held), missing)


def _checked(opened: OpenElection, roll: Roll, ballots: Unchecked) -> Iterator[Answer]:
    return _verdicts(ballots, roll, opened.engine.verify_packed(ballots.packed, roll))


def _verdicts(ballots: Unchecked, roll: Roll, answers: bytes) -> Iterator[Answer]:
    """What is to be said of these ballots, given the engine's answers for those whose body is here, against the roll with its changes."""
    yield from ((position, NO_ROW, -1, 0, None) for position in ballots.missing)
    known, too_high = len(roll), int(Reason.SEEN_TOO_HIGH)
    said = headers(ballots.packed, len(ballots.held))
    for position, row, seen, reason in zip(ballots.held, *said, answers, strict=True):
        unit = roll.row(row)[1] if row < known else -1
        yield position, row, unit, min(seen, MAX_SEEN), reason or (too_high if seen > position else 0)
