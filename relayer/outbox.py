"""The outbox: what was promised, until it is final. A ballot is in it before its promise leaves this machine.

    received   in memory, being checked; a crash loses it, and nobody holds a promise for it
    promised   committed and synced (`promise`); from here on only `landed` or `bury` ends it
    submitted  in a signed transaction whose bytes are committed and synced (`submit`), sent or about to be sent
    final      in the log at `position`, seen there by its hash (`landed`, `seen`)
    dead       cannot be appended any more, for `reason`: a broken promise, counted in public

SQLite with a write-ahead log and synchronous=FULL: when a commit returns, its bytes have been synced, so a transaction of one ballot costs
as much as one of a thousand. Two threads write, intake and the chain's; one lock keeps them from waiting inside SQLite. One process
owns an outbox: its nonces and sequences are one stream.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import sqlalchemy as sa

from protocol.errors import BallotboardError
from protocol.records import LogHead

CHUNK = 500
"""Values in one IN list: below the limit of every database."""


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


@dataclass(frozen=True, slots=True)
class Stored:
    """A ballot of the outbox, without its body. `by` and `head` are what its promise said."""

    id: int
    hash: bytes
    roll_index: int
    state: State
    by: int
    head: LogHead
    position: int | None
    reason: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """A promised ballot that no batch holds."""

    id: int
    hash: bytes
    roll_index: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Batch:
    """A signed transaction of ballots: the board's sequence, the account's nonce, its bytes and hash."""

    id: int
    sequence: int
    nonce: int
    raw: bytes
    hash: bytes
    count: int


class OutboxError(BallotboardError):
    """The outbox cannot be used, or not for this board."""


_metadata = sa.MetaData()
# SQLite numbers rows by itself only for INTEGER PRIMARY KEY.
_id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

_batches = sa.Table(
    "batches", _metadata,
    sa.Column("id", _id, primary_key=True),
    sa.Column("sequence", sa.BigInteger, nullable=False),
    sa.Column("nonce", sa.BigInteger, nullable=False),
    sa.Column("raw", sa.LargeBinary, nullable=False),
    sa.Column("hash", sa.LargeBinary(32), nullable=False),
    sa.Column("count", sa.Integer, nullable=False),
    sa.Column("state", sa.SmallInteger, nullable=False, index=True),
)  # fmt: skip

_ballots = sa.Table(
    "ballots", _metadata,
    sa.Column("id", _id, primary_key=True),  # order of arrival
    sa.Column("hash", sa.LargeBinary(32), nullable=False, unique=True),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Column("roll_index", sa.BigInteger, nullable=False),
    sa.Column("received", sa.BigInteger, nullable=False),  # chain time
    sa.Column("by", sa.BigInteger, nullable=False),
    sa.Column("head_size", sa.BigInteger, nullable=False),
    sa.Column("head_root", sa.LargeBinary(32), nullable=False),
    sa.Column("state", sa.SmallInteger, nullable=False),
    sa.Column("batch", sa.ForeignKey("batches.id"), index=True),
    sa.Column("position", sa.BigInteger),
    sa.Column("reason", sa.Text, nullable=False, server_default=""),
    sa.Index("ballots_by_state", "state", "id"),
)  # fmt: skip

_facts = sa.Table(
    "facts", _metadata, sa.Column("name", sa.Text, primary_key=True), sa.Column("value", sa.Text, nullable=False)
)


class Outbox:
    """See the module's text. Every method is one transaction, durable when it returns, and may be called from any thread."""

    def __init__(self, url: str) -> None:
        try:
            self.engine = sa.create_engine(url)
        except (sa.exc.ArgumentError, sa.exc.NoSuchModuleError, ImportError) as error:
            raise OutboxError(f"the database {url} cannot be used: {error}") from error
        if self.engine.dialect.name == "sqlite":
            sa.event.listen(self.engine, "connect", _durable)
        self._lock = threading.Lock()
        try:
            _metadata.create_all(self.engine)
            with self.engine.connect() as connection:
                rows = connection.execute(sa.select(_ballots.c.state, sa.func.count()).group_by(_ballots.c.state))
                self.counts = Counter({State(state): count for state, count in rows})
        except sa.exc.DatabaseError as error:
            raise OutboxError(f"the outbox cannot be opened: {error.orig}") from error

    def close(self) -> None:
        self.engine.dispose()

    def bind(self, facts: dict[str, str]) -> None:
        """Ties a new outbox to its board and account; raises OutboxError if it belongs to another."""
        with self._write() as connection:
            stored = {name: value for name, value in connection.execute(sa.select(_facts.c.name, _facts.c.value))}
            for name, value in facts.items():
                if stored.setdefault(name, value) != value:
                    raise OutboxError(f"this outbox belongs to {name} {stored[name]}, not {value}: use another folder")
                connection.execute(sa.delete(_facts).where(_facts.c.name == name))
                connection.execute(sa.insert(_facts).values(name=name, value=value))

    # ---- intake

    def promise(self, bodies: Sequence[tuple[bytes, bytes, int]], received: int, by: int, head: LogHead) -> None:
        """The group commit: (hash, body, roll index) of ballots that are about to be promised. None may be stored already."""
        if not bodies:
            return
        common = {
            "received": received,
            "by": by,
            "head_size": head.size,
            "head_root": head.root,
            "state": State.PROMISED,
        }
        rows = [{"hash": digest, "body": body, "roll_index": index, **common} for digest, body, index in bodies]
        with self._write() as connection:
            connection.execute(sa.insert(_ballots), rows)
        self._count(State.PROMISED, len(rows))

    def find(self, hashes: Iterable[bytes]) -> dict[bytes, Stored]:
        """What is stored of these ballots."""
        wanted, found = list(hashes), {}
        with self.engine.connect() as connection:
            for start in range(0, len(wanted), CHUNK):
                query = _STORED.where(_ballots.c.hash.in_(wanted[start : start + CHUNK]))
                found.update({row.hash: _stored(row) for row in connection.execute(query)})
        return found

    def body(self, ballot_hash: bytes) -> bytes | None:
        with self.engine.connect() as connection:
            return connection.scalar(sa.select(_ballots.c.body).where(_ballots.c.hash == ballot_hash))

    # ---- batches

    def waiting(self, max_bytes: int, max_count: int) -> tuple[list[Waiting], bool]:
        """The oldest promised ballots that pack (with two bytes each) into `max_bytes`, at most `max_count`; and whether there were more."""
        query = (
            sa.select(_ballots.c.id, _ballots.c.hash, _ballots.c.roll_index, _ballots.c.body)
            .where(_ballots.c.state == State.PROMISED)
            .order_by(_ballots.c.id)
            .limit(max_count + 1)
        )
        taken: list[Waiting] = []
        size = 0
        with self.engine.connect() as connection:
            for row in connection.execution_options(yield_per=CHUNK).execute(query):
                size += 2 + len(row.body)
                if size > max_bytes or len(taken) == max_count:
                    return taken, True
                taken.append(Waiting(row.id, row.hash, row.roll_index, row.body))
        return taken, False

    def submit(self, sequence: int, nonce: int, raw: bytes, transaction: bytes, ids: Sequence[int]) -> Batch:
        """The signed bytes, and which ballots they hold, before anything is sent."""
        values = {"sequence": sequence, "nonce": nonce, "raw": raw, "hash": transaction, "count": len(ids)}
        with self._write() as connection:
            number = connection.execute(
                sa.insert(_batches).values(**values, state=Flight.SIGNED).returning(_batches.c.id)
            ).scalar_one()
            update = (
                sa.update(_ballots)
                .where(_ballots.c.id == sa.bindparam("ballot"))
                .values(state=State.SUBMITTED, batch=number)
            )
            connection.execute(update, [{"ballot": ballot} for ballot in ids])
        self._move(State.PROMISED, State.SUBMITTED, len(ids))
        return Batch(number, sequence, nonce, raw, transaction, len(ids))

    def in_flight(self) -> list[Batch]:
        """Batches that were signed and are neither landed nor reverted, in order of sequence."""
        names = ("id", "sequence", "nonce", "raw", "hash", "count")
        query = (
            sa.select(*(_batches.c[name] for name in names))
            .where(_batches.c.state == Flight.SIGNED)
            .order_by(_batches.c.sequence)
        )
        with self.engine.connect() as connection:
            return [Batch(*row) for row in connection.execute(query)]

    def held(self, batch: int) -> list[tuple[int, bytes]]:
        """(id, hash) of the ballots of a batch."""
        with self.engine.connect() as connection:
            query = sa.select(_ballots.c.id, _ballots.c.hash).where(_ballots.c.batch == batch)
            return [(row.id, row.hash) for row in connection.execute(query)]

    def landed(self, batch: int, places: Sequence[tuple[int, int]]) -> None:
        """A batch is in the log: (id, position) of its ballots."""
        with self._write() as connection:
            connection.execute(sa.update(_batches).where(_batches.c.id == batch).values(state=Flight.LANDED))
            _finish(connection, places)
        self._move(State.SUBMITTED, State.FINAL, len(places))

    def seen(self, places: Sequence[tuple[int, int]]) -> None:
        """(id, position) of waiting ballots that another relayer has brought into the log."""
        with self._write() as connection:
            _finish(connection, places)
        self._move(State.PROMISED, State.FINAL, len(places))

    def reverted(self, batch: int) -> None:
        """A batch changed nothing on the chain: its ballots wait again, at their old place in the order."""
        with self._write() as connection:
            connection.execute(sa.update(_batches).where(_batches.c.id == batch).values(state=Flight.REVERTED))
            again = {"state": State.PROMISED, "batch": None}
            moved = connection.execute(sa.update(_ballots).where(_ballots.c.batch == batch).values(again)).rowcount
        self._move(State.SUBMITTED, State.PROMISED, moved)

    # ---- dead letters

    def bury(self, ids: Sequence[int] | None, reason: str) -> int:
        """These waiting ballots, or all (None), cannot be appended any more. How many there were."""
        which = _ballots.c.state == State.PROMISED
        if ids is not None:
            which &= _ballots.c.id.in_(ids)
        with self._write() as connection:
            dead = connection.execute(sa.update(_ballots).where(which).values(state=State.DEAD, reason=reason)).rowcount
        self._move(State.PROMISED, State.DEAD, dead)
        return dead

    def revive(self) -> int:
        """Every dead letter waits again: what a person does after removing the cause."""
        with self._write() as connection:
            again = sa.update(_ballots).where(_ballots.c.state == State.DEAD).values(state=State.PROMISED, reason="")
            alive = connection.execute(again).rowcount
        self._move(State.DEAD, State.PROMISED, alive)
        return alive

    def dead(self) -> list[Stored]:
        with self.engine.connect() as connection:
            return [_stored(row) for row in connection.execute(_STORED.where(_ballots.c.state == State.DEAD))]

    # ---- figures

    @property
    def depth(self) -> int:
        """Ballots promised and not final."""
        return self.counts[State.PROMISED] + self.counts[State.SUBMITTED]

    def oldest(self) -> int | None:
        """Chain time at which the oldest promised ballot that is not final came in."""
        waiting = [
            sa.select(_ballots.c.received).where(_ballots.c.state == state).order_by(_ballots.c.id).limit(1)
            for state in (State.PROMISED, State.SUBMITTED)
        ]
        with self.engine.connect() as connection:
            return min((time for query in waiting if (time := connection.scalar(query)) is not None), default=None)

    # ---- helpers

    @contextmanager
    def _write(self) -> Iterator[sa.Connection]:
        with self._lock, self.engine.begin() as connection:
            yield connection

    def _count(self, state: State, number: int) -> None:
        with self._lock:
            self.counts[state] += number

    def _move(self, source: State, target: State, number: int) -> None:
        with self._lock:
            self.counts[source] -= number
            self.counts[target] += number


def _finish(connection: sa.Connection, places: Sequence[tuple[int, int]]) -> None:
    update = sa.update(_ballots).where(_ballots.c.id == sa.bindparam("ballot"))
    update = update.values(state=State.FINAL, position=sa.bindparam("at"))
    connection.execute(update, [{"ballot": ballot, "at": position} for ballot, position in places])


def _stored(row: sa.Row) -> Stored:
    head = LogHead(row.head_size, row.head_root)
    return Stored(row.id, row.hash, row.roll_index, State(row.state), row.by, head, row.position, row.reason)


_STORED = sa.select(
    *(
        _ballots.c[name]
        for name in ("id", "hash", "roll_index", "state", "by", "head_size", "head_root", "position", "reason")
    )
)


def _durable(connection: Any, _: Any) -> None:
    """synchronous=FULL syncs the write-ahead log at every commit; with NORMAL a promise could be lost with the power."""
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA busy_timeout=10000")
