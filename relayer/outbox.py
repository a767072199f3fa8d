"""The outbox: what was promised, until it is final. A ballot is in it before its promise leaves this machine.

    received   in memory, being checked; a crash loses it, and nobody holds a promise for it
    promised   committed and synced (`promise`); from here on only `landed`, `seen` or `bury` ends it
    submitted  in a signed transaction whose bytes are committed and synced (`Claim.submit`), sent or about to be sent
    final      in the log, seen there by its hash
    dead       cannot be appended any more, for `reason`: a broken promise, counted in public

A ballot's row says which batch holds it, and the batch's row says how far it is: a batch that lands is one row changed, not hundreds.

SQLite (a write-ahead log, synchronous=FULL) or PostgreSQL (synchronous_commit): when a commit returns, its bytes have been synced, so a
transaction of one ballot costs as much as one of a thousand. On PostgreSQL several processes share one outbox. Each takes what waits with
FOR UPDATE SKIP LOCKED, signs it, and commits claim and signed bytes together: a process that dies before that commit held nothing, and
what it held after it any other process can send, since the bytes are there. Whatever ends a batch asks for its state first, so it ends once.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from protocol.errors import BallotboardError
from protocol.records import LogHead
from relayer.faults import point
from relayer.index import Memory

CHUNK = 500
"""Values in one IN list: below the limit of every database."""

SMALLEST = 250
"""Bytes of a ballot, at least: how many rows may be asked for to fill a batch."""

HASH = 32
"""Bytes of a ballot in a batch of hashes."""

REVISION = "0002"
"""The newest migration: what a database must be at."""

MIGRATION_LOCK = 0x62616C6C6F74
"""The advisory lock under which one process migrates a PostgreSQL database and the others wait ("ballot" in ASCII)."""


class State(IntEnum):
    """Where a stored ballot is."""

    PROMISED = 1
    SUBMITTED = 2
    FINAL = 3
    DEAD = 4

    @property
    def text(self) -> str:
        return self.name.lower()


class Flight(IntEnum):
    """Where a batch is. A reverted batch stays as history; its sequence is used again."""

    SIGNED = 1
    LANDED = 2
    REVERTED = 3


class Ballot(NamedTuple):
    """A checked ballot that is about to be promised."""

    hash: bytes
    body: bytes
    roll_index: int
    seen: int


class Stored(NamedTuple):
    """A ballot of the outbox, without its body. `by` and `head` are what its promise said."""

    id: int
    hash: bytes
    roll_index: int
    seen: int
    state: State
    by: int
    head: LogHead
    reason: str


class Waiting(NamedTuple):
    """A promised ballot that no batch holds."""

    id: int
    hash: bytes
    roll_index: int
    body: bytes


class Held(NamedTuple):
    """A ballot of a batch."""

    id: int
    hash: bytes
    by: int


class Record(NamedTuple):
    """A call of the board that somebody else has signed and that waits to be sent: SHA-256 of its input, and the input."""

    id: int
    hash: bytes
    call: bytes


class RecordState(NamedTuple):
    """What has become of a record's call. `transaction` is its hash once it is in one."""

    state: State
    transaction: bytes | None
    reason: str


@dataclass(slots=True)
class Batch:
    """A signed transaction: of ballots (`count` of them under the board's `sequence`), or of one record's call (`sequence` None).

    `raw` are its bytes and `hash` theirs; `replaced` are the hashes of earlier bytes for the same nonce, of which one may still land.
    """

    id: int
    account: bytes
    sequence: int | None
    nonce: int
    raw: bytes
    hash: bytes
    replaced: bytes
    count: int

    @property
    def hashes(self) -> list[bytes]:
        return [self.hash, *(self.replaced[i : i + 32] for i in range(0, len(self.replaced), 32))]


class OutboxError(BallotboardError):
    """The outbox cannot be used, or not for this board."""


_metadata = sa.MetaData()
# SQLite numbers rows by itself only for INTEGER PRIMARY KEY.
_id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

_batches = sa.Table(
    "batches", _metadata,
    sa.Column("id", _id, primary_key=True),
    sa.Column("account", sa.LargeBinary(20), nullable=False),  # empty: a transaction of no account that we know
    sa.Column("sequence", sa.BigInteger),
    sa.Column("nonce", sa.BigInteger, nullable=False),
    sa.Column("raw", sa.LargeBinary, nullable=False),
    sa.Column("hash", sa.LargeBinary(32), nullable=False),
    sa.Column("replaced", sa.LargeBinary, nullable=False),
    sa.Column("count", sa.Integer, nullable=False),
    sa.Column("state", sa.SmallInteger, nullable=False, index=True),
)  # fmt: skip

_ballots = sa.Table(
    "ballots", _metadata,
    sa.Column("id", _id, primary_key=True),  # order of arrival
    sa.Column("hash", sa.LargeBinary(32), nullable=False),
    sa.Column("roll_index", sa.BigInteger, nullable=False),
    sa.Column("seen", sa.BigInteger, nullable=False),
    sa.Column("received", sa.BigInteger, nullable=False),  # chain time
    sa.Column("by", sa.BigInteger, nullable=False),
    sa.Column("head_size", sa.BigInteger, nullable=False),
    sa.Column("head_root", sa.LargeBinary(32), nullable=False),
    sa.Column("batch", sa.BigInteger),
    sa.Column("reason", sa.Text),  # of a dead letter
    sa.Column("body", sa.LargeBinary, nullable=False),
)  # fmt: skip

_records = sa.Table(
    "records", _metadata,
    sa.Column("id", _id, primary_key=True),
    sa.Column("hash", sa.LargeBinary(32), nullable=False, unique=True),
    sa.Column("call", sa.LargeBinary, nullable=False),
    sa.Column("received", sa.BigInteger, nullable=False),
    sa.Column("batch", sa.BigInteger),
    sa.Column("reason", sa.Text),
)  # fmt: skip

_bodies = sa.Table(
    "bodies", _metadata,
    sa.Column("hash", sa.LargeBinary(32), primary_key=True),
    sa.Column("body", sa.LargeBinary, nullable=False),
)  # fmt: skip
"""Ballots that other relayers put on the chain by their hashes (relayer.holder)."""

_facts = sa.Table(
    "facts", _metadata, sa.Column("name", sa.Text, primary_key=True), sa.Column("value", sa.Text, nullable=False)
)

# Where one process owns the outbox, relayer.index stands in for these two.
sa.Index("ballots_hash", _ballots.c.hash, unique=True).ddl_if(dialect="postgresql")
sa.Index("ballots_roll_index", _ballots.c.roll_index).ddl_if(dialect="postgresql")

# What is final is found by its batch or its hash: these hold only the few rows that something is still to be done with.
for _table in (_ballots, _records):
    for _name, _column, _where in (
        ("waiting", _table.c.id, _table.c.batch.is_(None) & _table.c.reason.is_(None)),
        ("dead", _table.c.id, _table.c.reason.is_not(None)),
        ("held", _table.c.batch, _table.c.batch.is_not(None)),
    ):
        sa.Index(f"{_table.name}_{_name}", _column, sqlite_where=_where, postgresql_where=_where)


class Outbox:
    """See the module's text. Every method is one transaction, durable when it returns, and may be called from any thread.

    `counts` has the ballots by state: kept in memory where one process owns the outbox, and brought up to date by `recount` where several do.
    """

    def __init__(self, url: str) -> None:
        try:
            self.engine = sa.create_engine(url)
        except (sa.exc.ArgumentError, sa.exc.NoSuchModuleError, ImportError) as error:
            raise OutboxError(f"the database {_shown(url)} cannot be used: {error}") from error
        self.shared = self.engine.dialect.name != "sqlite"
        if self.shared and self.engine.dialect.name != "postgresql":
            raise OutboxError(f"the outbox is kept in SQLite or PostgreSQL, not {self.engine.dialect.name}")
        sa.event.listen(self.engine, "connect", _durable_postgresql if self.shared else _durable_sqlite)
        self._lock = threading.Lock()
        self._insert = (postgresql if self.shared else sqlite).insert
        self.counts: Counter[State] = Counter()
        self._memory = Memory()
        try:
            self._migrate()
            self.recount()
            if not self.shared:
                self._remember()
        except sa.exc.DBAPIError as error:
            raise OutboxError(f"the outbox cannot be opened: {' '.join(str(error.orig).split())}") from error

    def close(self) -> None:
        self.engine.dispose()

    def bind(self, facts: dict[str, str]) -> None:
        """Ties a new outbox to its board; raises OutboxError if it belongs to another."""
        with self._write() as connection:
            rows = [{"name": name, "value": value} for name, value in facts.items()]
            connection.execute(self._insert(_facts).on_conflict_do_nothing(), rows)
            for name, value in connection.execute(sa.select(_facts.c.name, _facts.c.value)).all():
                if facts.get(name, value) != value:
                    raise OutboxError(
                        f"this outbox belongs to {name} {value}, not {facts[name]}: use another folder or database"
                    )

    # ---- intake

    def promise(self, ballots: Sequence[Ballot], received: int, by: int, head: LogHead) -> set[bytes]:
        """The group commit of ballots that are about to be promised, all distinct. Gives the hashes that it stores: another process was faster
        with the others, or, in an outbox of one process, they have to be new."""
        if not ballots:
            return set()
        hashes: set[bytes] = set()
        try:
            with self._write() as connection:
                for start in range(0, len(ballots), CHUNK):
                    values = [
                        (ballot.hash, ballot.roll_index, ballot.seen, received, by, head.size, head.root, ballot.body)
                        for ballot in ballots[start : start + CHUNK]
                    ]
                    if self.shared:
                        hashes.update(
                            _insert(connection, "%s", values, " ON CONFLICT (hash) DO NOTHING RETURNING hash")
                        )
                    else:
                        _insert(connection, "?", values)
                point("promise before commit")
        except sa.exc.DBAPIError:
            if not self.shared:
                self._remember()  # a commit may fail and be done all the same
            raise
        point("promise after commit")
        if not self.shared:
            hashes.update(ballot.hash for ballot in ballots)
            self._memory.extend(
                [ballot.hash for ballot in ballots], [(ballot.roll_index, ballot.seen) for ballot in ballots]
            )
        self._count(State.PROMISED, len(hashes))
        return hashes

    def earlier(
        self, hashes: Sequence[bytes], roll_indices: Iterable[int]
    ) -> tuple[dict[bytes, Stored], dict[int, int]]:
        """What is stored of these ballots, by hash, and the largest log size that a stored ballot of these credentials has seen, by roll index."""
        newest: dict[int, int] = {}
        if self.shared:
            stored = {}
            for ballot in self._stored(_ballots.c.roll_index, set(roll_indices)):
                stored[ballot.hash] = ballot
                newest[ballot.roll_index] = max(ballot.seen, newest.get(ballot.roll_index, 0))
            return stored, newest
        for index in roll_indices:
            if (seen := self._memory.newest(index)) is not None:
                newest[index] = seen
        return self.find(hashes), newest

    def find(self, hashes: Iterable[bytes]) -> dict[bytes, Stored]:
        """What is stored of these ballots."""
        if self.shared:
            return {stored.hash: stored for stored in self._stored(_ballots.c.hash, hashes)}
        return {stored.hash: stored for stored in self._stored(_ballots.c.id, self._ids(hashes))}

    def attempts(self, roll_index: int) -> int:
        """How many ballots of a credential were promised here."""
        if not self.shared:
            return self._memory.attempts(roll_index)
        with self.engine.connect() as connection:
            query = sa.select(sa.func.count()).where(_ballots.c.roll_index == roll_index)
            return connection.scalar(query) or 0

    # ---- bodies, of ballots that were promised here and of those that others keep too

    def body(self, ballot_hash: bytes) -> bytes | None:
        return self.bodies([ballot_hash]).get(ballot_hash)

    def bodies(self, hashes: Sequence[bytes]) -> dict[bytes, bytes]:
        """The bodies that are here, by ballot hash."""
        found = dict(self._by_hash(_bodies, hashes, _bodies.c.body))
        if self.shared:
            return found | dict(self._by_hash(_ballots, hashes, _ballots.c.body))
        ids = self._ids(hashes)
        with self.engine.connect() as connection:
            for start in range(0, len(ids), CHUNK):
                query = sa.select(_ballots.c.hash, _ballots.c.body).where(_ballots.c.id.in_(ids[start : start + CHUNK]))
                found.update((row.hash, row.body) for row in connection.execute(query))
        return found

    def lacking(self, hashes: Sequence[bytes]) -> list[bytes]:
        """Those of these ballots whose bodies are not here."""
        if self.shared:
            here = {row[0] for row in self._by_hash(_ballots, hashes)}
        else:
            here = {digest for digest in hashes if self._memory.number(digest) is not None}
        left = [digest for digest in hashes if digest not in here]
        kept = {row[0] for row in self._by_hash(_bodies, left)}
        return [digest for digest in left if digest not in kept]

    def keep(self, bodies: dict[bytes, bytes]) -> None:
        """Bodies of ballots by their hashes, which the caller has checked."""
        if bodies:
            rows = [{"hash": digest, "body": body} for digest, body in bodies.items()]
            with self._write() as connection:
                connection.execute(self._insert(_bodies).on_conflict_do_nothing(), rows)

    # ---- batches

    def claim(self, max_bytes: int, max_count: int, hashes: bool = False) -> Claim:
        """To be used in `with`: the oldest promised ballots that pack (with two bytes each; or their `hashes`) into `max_bytes`, at most `max_count`.

        They are this process's until the end of the block. Those that were not submitted then wait again.
        """
        return Claim(self, max_bytes, max_count, hashes)

    def claim_record(self) -> RecordClaim:
        """The same for the oldest record."""
        return RecordClaim(self)

    def waiting(self, after: int, limit: int) -> list[tuple[int, bytes]]:
        """(id, hash) of the promised ballots that no batch holds, from the one after id `after` on."""
        query = sa.select(_ballots.c.id, _ballots.c.hash).where(_is_waiting(_ballots) & (_ballots.c.id > after))
        with self.engine.connect() as connection:
            return [(row.id, row.hash) for row in connection.execute(query.order_by(_ballots.c.id).limit(limit))]

    def in_flight(self, account: bytes | None = None) -> list[Batch]:
        """Batches that were signed and are neither landed nor reverted, of one account or of all, in order of nonce."""
        query = sa.select(*_BATCH).where(_batches.c.state == Flight.SIGNED).order_by(_batches.c.nonce)
        if account is not None:
            query = query.where(_batches.c.account == account)
        with self.engine.connect() as connection:
            return [Batch(*row) for row in connection.execute(query)]

    def held(self, batch: int) -> list[Held]:
        """The ballots of a batch."""
        with self.engine.connect() as connection:
            query = sa.select(_ballots.c.id, _ballots.c.hash, _ballots.c.by).where(_ballots.c.batch == batch)
            return [Held(*row) for row in connection.execute(query)]

    def landed(self, batch: Batch) -> bool:
        """A batch is in the log with all that it holds. False if that was known, or another process gave its ballots back."""
        with self._write() as connection:
            point("landed before commit")
            done = _end(connection, batch.id, Flight.LANDED)
        point("landed after commit")
        if done and batch.sequence is not None:
            self._move(State.SUBMITTED, State.FINAL, batch.count)
        return done

    def replace(self, batch: Batch, raw: bytes, transaction: bytes) -> Batch | None:
        """Other signed bytes for a batch's nonce, before they are sent. None if the batch has ended."""
        values = {"raw": raw, "hash": transaction, "replaced": batch.replaced + batch.hash}
        which = (_batches.c.id == batch.id) & (_batches.c.state == Flight.SIGNED)
        with self._write() as connection:
            if not connection.execute(sa.update(_batches).where(which).values(values)).rowcount:
                return None
            point("replace before commit")
        point("replace after commit")
        return Batch(batch.id, batch.account, batch.sequence, batch.nonce, **values, count=batch.count)

    def seen(self, ballots: Sequence[int]) -> None:
        """Waiting ballots that a transaction we know nothing of has brought into the log."""
        with self._write() as connection:
            number = _insert_batch(
                connection, account=b"", sequence=-1, nonce=-1, raw=b"", hash=b"", state=Flight.LANDED
            )
            moved = 0
            for start in range(0, len(ballots), CHUNK):
                moved += _put(connection, _ballots, ballots[start : start + CHUNK], number)
            connection.execute(sa.update(_batches).where(_batches.c.id == number).values(count=moved))
        self._move(State.PROMISED, State.FINAL, moved)

    def reverted(self, batch: Batch) -> bool:
        """A batch changed nothing on the chain: its ballots wait again, at their old place in the order. False if that was known."""
        with self._write() as connection:
            # Its hash too: bytes that have replaced these may be in the log.
            done = _end(connection, batch.id, Flight.REVERTED, _batches.c.hash == batch.hash)
            if done:
                for table in (_ballots, _records):
                    connection.execute(sa.update(table).where(table.c.batch == batch.id).values(batch=None))
            point("reverted before commit")
        point("reverted after commit")
        if done and batch.sequence is not None:
            self._move(State.SUBMITTED, State.PROMISED, batch.count)
        return done

    # ---- records: calls of the board that others have signed

    def accept(self, call: bytes, call_hash: bytes, received: int) -> None:
        """Stores a record's call, once. One that the board has refused waits again: `close()` is the same call whenever it comes."""
        with self._write() as connection:
            insert = self._insert(_records).values(hash=call_hash, call=call, received=received)
            connection.execute(insert.on_conflict_do_update(index_elements=["hash"], set_={"reason": None}))

    def record(self, call_hash: bytes) -> RecordState | None:
        """What has become of a record's call, None of one that never came in."""
        query = (
            sa.select(_records.c.reason, _batches.c.state, _batches.c.hash)
            .select_from(_records.outerjoin(_batches, _records.c.batch == _batches.c.id))
            .where(_records.c.hash == call_hash)
        )
        with self.engine.connect() as connection:
            row = connection.execute(query).one_or_none()
        return row and RecordState(_state(row.reason, row.state), row.hash, row.reason or "")

    def records_waiting(self) -> int:
        """Records that are in no transaction yet."""
        with self.engine.connect() as connection:
            return connection.scalar(sa.select(sa.func.count()).select_from(_records).where(_is_waiting(_records))) or 0

    def records_held(self, batch: int) -> list[Record]:
        with self.engine.connect() as connection:
            query = sa.select(_records.c.id, _records.c.hash, _records.c.call).where(_records.c.batch == batch)
            return [Record(*row) for row in connection.execute(query)]

    def bury_record(self, record: int, reason: str) -> None:
        with self._write() as connection:
            which = (_records.c.id == record) & _is_waiting(_records)
            connection.execute(sa.update(_records).where(which).values(reason=reason))

    def dead_records(self) -> list[tuple[bytes, str]]:
        """(SHA-256 of the call, reason)."""
        with self.engine.connect() as connection:
            query = sa.select(_records.c.hash, _records.c.reason).where(_records.c.reason.is_not(None))
            return [(row.hash, row.reason) for row in connection.execute(query.order_by(_records.c.id))]

    # ---- dead letters

    def bury(self, ids: Sequence[int] | None, reason: str) -> int:
        """These waiting ballots, or all (None), cannot be appended any more. How many there were."""
        which: sa.ColumnElement[bool] = _is_waiting(_ballots)
        if ids is not None:
            which &= _ballots.c.id.in_(ids)
        with self._write() as connection:
            dead = connection.execute(sa.update(_ballots).where(which).values(reason=reason)).rowcount
            point("bury before commit")
        point("bury after commit")
        self._move(State.PROMISED, State.DEAD, dead)
        return dead

    def revive(self, ballots: Sequence[bytes] | None = None) -> int:
        """These dead letters by ballot hash, or all (None), wait again: what a person does after removing the cause. How many there were."""
        which: sa.ColumnElement[bool] = _ballots.c.reason.is_not(None)
        if ballots is not None:
            which &= _ballots.c.id.in_([stored.id for stored in self.find(ballots).values()])
        with self._write() as connection:
            alive = connection.execute(sa.update(_ballots).where(which).values(reason=None)).rowcount
        self._move(State.DEAD, State.PROMISED, alive)
        return alive

    def dead(self) -> list[Stored]:
        with self.engine.connect() as connection:
            query = _STORED.where(_ballots.c.reason.is_not(None)).order_by(_ballots.c.id)
            return [_row(row) for row in connection.execute(query)]

    # ---- figures

    @property
    def depth(self) -> int:
        """Ballots promised and not final."""
        return self.counts[State.PROMISED] + self.counts[State.SUBMITTED]

    def oldest(self) -> int | None:
        """Chain time at which the oldest promised ballot that is not final came in."""
        waiting = sa.select(_ballots.c.received).where(_is_waiting(_ballots)).order_by(_ballots.c.id).limit(1)
        flying = sa.select(_batches.c.id).where(_batches.c.state == Flight.SIGNED)
        with self.engine.connect() as connection:
            times = [connection.scalar(waiting)]
            for batch in connection.scalars(flying).all():
                times.append(
                    connection.scalar(sa.select(sa.func.min(_ballots.c.received)).where(_ballots.c.batch == batch))
                )
        return min((time for time in times if time is not None), default=None)

    def checkpoint(self) -> None:
        """Moves what SQLite's write-ahead log has gathered into its file, beside those who write; nothing where there is no such log."""
        if not self.shared:
            with self.engine.connect() as connection:
                connection.execute(sa.text("PRAGMA wal_checkpoint(PASSIVE)"))

    def recount(self) -> None:
        """`counts` from the tables: for an outbox that other processes write to."""
        flying = sa.select(_batches.c.state, sa.func.sum(_batches.c.count)).where(_batches.c.sequence.is_not(None))
        with self.engine.connect() as connection:
            by_flight = {row[0]: row[1] for row in connection.execute(flying.group_by(_batches.c.state))}
            waiting, dead = (
                connection.scalar(sa.select(sa.func.count()).select_from(_ballots).where(which)) or 0
                for which in (_is_waiting(_ballots), _ballots.c.reason.is_not(None))
            )
        counts = (waiting, by_flight.get(Flight.SIGNED, 0), by_flight.get(Flight.LANDED, 0), dead)
        with self._lock:
            self.counts = Counter({state: int(count) for state, count in zip(State, counts, strict=True)})

    # ---- helpers

    def _remember(self) -> None:
        """Into memory what is stored and not there yet."""
        query = sa.select(_ballots.c.id, _ballots.c.hash, _ballots.c.roll_index, _ballots.c.seen).order_by(
            _ballots.c.id
        )
        with self.engine.connect() as connection:
            for rows in connection.execute(query.where(_ballots.c.id > len(self._memory))).partitions(10 * CHUNK):
                if rows[-1].id != len(self._memory) + len(rows):
                    raise OutboxError("ballots have been deleted from this outbox: it cannot say what it has promised")
                self._memory.extend([row.hash for row in rows], [(row.roll_index, row.seen) for row in rows])

    def _ids(self, hashes: Iterable[bytes]) -> list[int]:
        """Row ids of stored ballots. SQLite numbers rows from 1, and none is ever deleted."""
        numbers = (self._memory.number(digest) for digest in hashes)
        return [number + 1 for number in numbers if number is not None]

    def _by_hash(self, table: sa.Table, hashes: Sequence[bytes], *columns: sa.Column[Any]) -> Iterator[Any]:
        """(hash, and these columns) of the rows with these hashes."""
        with self.engine.connect() as connection:
            for start in range(0, len(hashes), CHUNK):
                query = sa.select(table.c.hash, *columns).where(table.c.hash.in_(hashes[start : start + CHUNK]))
                yield from connection.execute(query).all()

    def _stored(self, column: sa.ColumnElement[Any], values: Iterable[Any]) -> Iterator[Stored]:
        wanted = list(values)
        with self.engine.connect() as connection:
            for start in range(0, len(wanted), CHUNK):
                for row in connection.execute(_STORED.where(column.in_(wanted[start : start + CHUNK]))).all():
                    yield _row(row)

    @contextmanager
    def _write(self) -> Iterator[sa.Connection]:
        # One writer at a time inside a process: SQLite's own waiting is a sleep of milliseconds.
        with self._lock, self.engine.begin() as connection:
            yield connection

    def _count(self, state: State, number: int) -> None:
        with self._lock:
            self.counts[state] += number

    def _move(self, source: State, target: State, number: int) -> None:
        with self._lock:
            self.counts[source] -= number
            self.counts[target] += number

    def _migrate(self) -> None:
        """Brings the tables to REVISION, under a lock where several processes may start at once."""
        with self.engine.connect() as connection:
            if self.shared:
                connection.execute(sa.select(sa.func.pg_advisory_lock(MIGRATION_LOCK)))
                connection.commit()
            try:
                inspector = sa.inspect(connection)
                known = inspector.has_table("alembic_version")
                at = connection.scalar(sa.text("SELECT version_num FROM alembic_version")) if known else None
                if not known and inspector.has_table("ballots"):
                    raise OutboxError(
                        "this outbox was made by a version without migrations: drain it with that version, and use another folder"
                    )
                connection.rollback()
                if at != REVISION:
                    migrate(connection)
                    connection.commit()
            finally:
                if self.shared:
                    connection.execute(sa.select(sa.func.pg_advisory_unlock(MIGRATION_LOCK)))
                    connection.commit()


class Claim:
    """Waiting ballots that only this process can submit until the `with` block ends. `ballots` are they, `more` says whether others wait."""

    def __init__(self, outbox: Outbox, max_bytes: int, max_count: int, hashes: bool = False) -> None:
        self._outbox, self._max_bytes, self._max_count, self._hashes = outbox, max_bytes, max_count, hashes
        self.ballots: list[Waiting] = []
        self.more = False

    def __enter__(self) -> Claim:
        self._connection = self._outbox.engine.connect()
        limit = min(self._max_count, self._max_bytes // (HASH if self._hashes else SMALLEST)) + 1
        query = (
            sa.select(_ballots.c.id, _ballots.c.hash, _ballots.c.roll_index, _ballots.c.body)
            .where(_is_waiting(_ballots)).order_by(_ballots.c.id).limit(limit).with_for_update(skip_locked=True)
        )  # fmt: skip
        try:
            rows = self._connection.execute(query).all()
        except BaseException:
            self._connection.close()
            raise
        size, self.more = 0, len(rows) == limit
        for row in rows:
            size += HASH if self._hashes else 2 + len(row.body)
            if size > self._max_bytes or len(self.ballots) == self._max_count:
                self.more = True
                break
            self.ballots.append(Waiting(*row))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def submit(self, account: bytes, sequence: int, nonce: int, raw: bytes, transaction: bytes) -> Batch:
        """The signed bytes, and which ballots they hold, before anything is sent."""
        outbox, count = self._outbox, len(self.ballots)
        with outbox._lock:
            number = _insert_batch(
                self._connection,
                account=account,
                sequence=sequence,
                nonce=nonce,
                raw=raw,
                hash=transaction,
                count=count,
            )
            for start in range(0, count, CHUNK):
                _put(self._connection, _ballots, [ballot.id for ballot in self.ballots[start : start + CHUNK]], number)
            point("submit before commit")
            self._connection.commit()
        point("submit after commit")
        outbox._move(State.PROMISED, State.SUBMITTED, count)
        return Batch(number, account, sequence, nonce, raw, transaction, b"", count)


class RecordClaim:
    """The same for the oldest waiting record, `record`, which is None if none waits."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self.record: Record | None = None

    def __enter__(self) -> RecordClaim:
        self._connection = self._outbox.engine.connect()
        query = (
            sa.select(_records.c.id, _records.c.hash, _records.c.call)
            .where(_is_waiting(_records)).order_by(_records.c.id).limit(1).with_for_update(skip_locked=True)
        )  # fmt: skip
        try:
            row = self._connection.execute(query).one_or_none()
        except BaseException:
            self._connection.close()
            raise
        self.record = Record(*row) if row else None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def submit(self, account: bytes, nonce: int, raw: bytes, transaction: bytes) -> Batch:
        assert self.record
        with self._outbox._lock:
            number = _insert_batch(self._connection, account=account, nonce=nonce, raw=raw, hash=transaction, count=1)
            _put(self._connection, _records, [self.record.id], number)
            point("submit before commit")
            self._connection.commit()
        point("submit after commit")
        return Batch(number, account, None, nonce, raw, transaction, b"", 1)


def migrate(connection: sa.Connection, revision: str = "head") -> None:
    """Runs the migrations up to `revision` on a connection, whose transaction is the caller's."""
    # A third of a second's import, for the first start of an outbox only.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def _insert(connection: sa.Connection, mark: str, values: list[tuple[Any, ...]], more: str = "") -> list[bytes]:
    """Ballots, and what `more` returns. One statement, which lets go of the interpreter once, where one for each row would hand it over each time."""
    row = "(" + ",".join([mark] * len(values[0])) + ")"
    flat = tuple(value for line in values for value in line)
    found = connection.exec_driver_sql(f"{_INSERT_BALLOTS} {','.join([row] * len(values))}{more}", flat)
    return [row[0] for row in found.all()] if more else []


_INSERT_BALLOTS = 'INSERT INTO ballots (hash, roll_index, seen, received, "by", head_size, head_root, body) VALUES'
_BATCH = [_batches.c[name] for name in ("id", "account", "sequence", "nonce", "raw", "hash", "replaced", "count")]
_STORED = sa.select(
    *(_ballots.c[name] for name in ("id", "hash", "roll_index", "seen", "by", "head_size", "head_root", "reason")),
    _batches.c.state,
).select_from(_ballots.outerjoin(_batches, _ballots.c.batch == _batches.c.id))


def _row(row: Any) -> Stored:
    id, hash, roll_index, seen, by, size, root, reason, flight = row
    return Stored(id, hash, roll_index, seen, _state(reason, flight), by, LogHead(size, root), reason or "")


def _state(reason: str | None, flight: int | None) -> State:
    if reason is not None:
        return State.DEAD
    if flight is None:
        return State.PROMISED
    return State.SUBMITTED if flight == Flight.SIGNED else State.FINAL


def _is_waiting(table: sa.Table) -> sa.ColumnElement[bool]:
    return table.c.batch.is_(None) & table.c.reason.is_(None)


def _insert_batch(connection: sa.Connection, **values: Any) -> int:
    row = {"sequence": None, "replaced": b"", "count": 0, "state": Flight.SIGNED} | values
    return connection.execute(sa.insert(_batches).values(row).returning(_batches.c.id)).scalar_one()


def _put(connection: sa.Connection, table: sa.Table, ids: Sequence[int], batch: int) -> int:
    """Puts waiting rows into a batch; how many there were."""
    which = table.c.id.in_(ids) & table.c.batch.is_(None)
    return connection.execute(sa.update(table).where(which).values(batch=batch)).rowcount


def _end(connection: sa.Connection, batch: int, state: Flight, *more: sa.ColumnElement[bool]) -> bool:
    """Whether the batch was still in flight: it ends once, whoever asks."""
    which = sa.and_(_batches.c.id == batch, _batches.c.state == Flight.SIGNED, *more)
    return bool(connection.execute(sa.update(_batches).where(which).values(state=state)).rowcount)


def _shown(url: str) -> str:
    """A database URL without its password."""
    try:
        return sa.make_url(url).render_as_string()
    except sa.exc.ArgumentError:
        return url


def _durable_sqlite(connection: Any, _: Any) -> None:
    """synchronous=FULL syncs the write-ahead log at every commit; with NORMAL a promise could be lost with the power."""
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA busy_timeout=10000")
    connection.execute("PRAGMA wal_autocheckpoint=0")  # a promise must not wait for it: `Outbox.checkpoint`


def _durable_postgresql(connection: Any, _: Any) -> None:
    """A server may be set up to answer before it has synced; for a promise it must not."""
    connection.execute("SET synchronous_commit = on")
    connection.commit()
