"""The board's database: the log as rows, the tree as tiles, and how far each of two readers has come.

    records, heads, tiles   what the chain says, and `cursor`, the last block read: written together, in one transaction
    ballots, fates          what follows for each ballot (its reason, what became of it), and `checked`, how far that has come

Everything but the cursor's block is a function of the log, so the database may be deleted and rebuilt, and `export` gives the same bytes. SQLite by
default, in a write-ahead log that readers do not wait for; PostgreSQL by URL. One process writes. A reader sees one moment of it all: `read` is one
snapshot.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from itertools import islice
from typing import Any, NamedTuple

import sqlalchemy as sa

from bulletin import tiles
from protocol import merkle
from protocol.ballot import Reason
from protocol.counting import NO_ROW, CountedRow, Status
from protocol.election import LogRecord
from protocol.encoding import canonical_json
from protocol.errors import BallotboardError
from protocol.records import Entry, Kind, LogHead

EXPORT_FORMAT = "ballotboard/board-export/v1"

CONNECTIONS = 40
"""Connections to the database: as many as the server has threads, so that no request waits for another's."""

CHUNK = 2_000
"""Rows fetched at a time where all are read: a few MB."""

_STREAM = {"yield_per": CHUNK}

MAX_SEEN = 2**63 - 1
"""Largest `seen` that a database's integer holds. No log is as long, so a ballot that says more is invalid in any case."""


class StoreError(BallotboardError):
    """The database cannot be used, or is not this board's."""


class Cursor(NamedTuple):
    """The last block whose records are all here: number, hash, time."""

    number: int
    hash: bytes
    time: int


class Place(NamedTuple):
    """Where on the chain records are: the size and root of the log after the event that holds them, block number and hash, transaction hash."""

    size: int
    root: bytes
    block: int
    block_hash: bytes
    transaction: bytes


class Verdict(NamedTuple):
    """What the engine says of the ballot at `position`. `reason` is None where no body is held; `unit` is −1 where the card is unknown."""

    position: int
    roll_index: int
    unit: int
    seen: int
    reason: Reason | None


_metadata = sa.MetaData()

_Key = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
"""SQLite's INTEGER has 64 bits, and as a primary key it is the row's place itself, without an index beside."""

_facts = sa.Table(
    "facts", _metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),  # JSON
)  # fmt: skip

_records = sa.Table(
    "records", _metadata,
    sa.Column("position", _Key, primary_key=True, autoincrement=False),
    sa.Column("kind", sa.SmallInteger, nullable=False),
    sa.Column("time", sa.BigInteger, nullable=False),
    sa.Column("role", sa.Integer, nullable=False),
    sa.Column("number", sa.BigInteger, nullable=False),
    sa.Column("hash", sa.LargeBinary(32), nullable=False),
    sa.Column("body", sa.LargeBinary),
    sa.Column("signatures", sa.LargeBinary, nullable=False),
    sa.Index("records_by_kind", "kind", "position"),
    # Both columns: with the hash alone, a database may rather walk through all records of the kind.
    sa.Index("records_by_hash", "kind", "hash"),
)  # fmt: skip

# One row per event. A record lies in the first one whose size is above its position.
_heads = sa.Table(
    "heads", _metadata,
    sa.Column("size", _Key, primary_key=True, autoincrement=False),
    sa.Column("root", sa.LargeBinary(32), nullable=False),
    sa.Column("block", sa.BigInteger, nullable=False),
    sa.Column("block_hash", sa.LargeBinary(32), nullable=False),
    sa.Column("transaction", sa.LargeBinary(32), nullable=False),
)  # fmt: skip

_tiles = sa.Table(
    "tiles", _metadata,
    sa.Column("level", sa.SmallInteger, primary_key=True, autoincrement=False),
    sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("hashes", sa.LargeBinary, nullable=False),
)  # fmt: skip

_ballots = sa.Table(
    "ballots", _metadata,
    sa.Column("position", _Key, primary_key=True, autoincrement=False),
    sa.Column("roll_index", sa.BigInteger, nullable=False, index=True),
    sa.Column("unit", sa.BigInteger, nullable=False),
    sa.Column("seen", sa.BigInteger, nullable=False),
    sa.Column("reason", sa.SmallInteger),
)  # fmt: skip

_fates = sa.Table(
    "fates", _metadata,
    sa.Column("position", _Key, primary_key=True, autoincrement=False),
    sa.Column("status", sa.SmallInteger, nullable=False, index=True),
    sa.Column("reference", sa.BigInteger, nullable=False),
)  # fmt: skip

_attachments = sa.Table(
    "attachments", _metadata,
    sa.Column("sha256", sa.LargeBinary(32), primary_key=True),
    sa.Column("data", sa.LargeBinary, nullable=False),
)  # fmt: skip

# The groups that online votes were decrypted for, once the result was found right. No fact: every request reads all facts.
_groups = sa.Table(
    "online_groups", _metadata,
    sa.Column("contest", sa.SmallInteger, primary_key=True, autoincrement=False),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("units", sa.Text, nullable=False),  # JSON: [unit, its counted ballots], …
)  # fmt: skip


TILES_HELD = 4_096
"""Full tiles kept in memory: 32 MB, the lowest level of a million records."""


class Store:
    """The database at a SQLAlchemy URL. Raises StoreError if it cannot be used."""

    def __init__(self, url: str) -> None:
        try:
            parsed = sa.make_url(url)
            sqlite = parsed.get_backend_name() == "sqlite"
            isolation: Any = {} if sqlite else {"isolation_level": "REPEATABLE READ"}
            self._engine = sa.create_engine(parsed, pool_size=CONNECTIONS, **isolation)
            if sqlite:
                sa.event.listen(self._engine, "connect", _sqlite)
                sa.event.listen(self._engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
            _metadata.create_all(self._engine)
            self._full_tiles: dict[tuple[int, int], bytes] = {}
        except (sa.exc.ArgumentError, sa.exc.NoSuchModuleError, ImportError) as error:
            raise StoreError(f"the database {url} cannot be used: {error}") from error
        except sa.exc.DatabaseError as error:
            raise StoreError(f"the database {parsed.render_as_string()} cannot be opened: {_line(error)}") from error

    def close(self) -> None:
        self._engine.dispose()

    def reset(self) -> None:
        """Throws everything away."""
        try:
            self._full_tiles.clear()
            _metadata.drop_all(self._engine)
            _metadata.create_all(self._engine)
        except sa.exc.DatabaseError as error:
            raise StoreError(f"the database cannot be emptied: {_line(error)}") from error

    def bind(self, chain: int, contract: bytes, election: bytes) -> None:
        """Ties a new database to its board and election id; raises StoreError if it holds another. (A chain that was started anew gives the same addresses.)"""
        board = {"chain": chain, "contract": contract.hex(), "election": election.hex()}
        with self.write() as log:
            stored = log.fact("board")
            if stored not in (None, board):
                raise StoreError(
                    f"this database holds the election {stored['election']} at 0x{stored['contract']} of chain {stored['chain']}: name another with --database, or"
                    " empty it with `ballotboard board rebuild`"
                )
            log.set_fact("board", board)

    @contextmanager
    def read(self) -> Iterator[Reading]:
        """One moment of the database."""
        try:
            with self._engine.connect() as connection:
                yield Reading(connection, self._full_tiles)
        except sa.exc.DatabaseError as error:
            raise StoreError(f"the database cannot be read: {_line(error)}") from error

    @contextmanager
    def write(self) -> Iterator[Writing]:
        """One transaction: all of it is kept at the end of the block, or nothing."""
        try:
            with self._engine.begin() as connection:
                yield Writing(connection, {})
        except sa.exc.DatabaseError as error:
            raise StoreError(f"the database cannot be written: {_line(error)}") from error


class Reading:
    """What the database holds, in one transaction. Full `tiles` never change, so every reader of a store shares them."""

    def __init__(self, connection: sa.Connection, held: dict[tuple[int, int], bytes]) -> None:
        self._connection, self._tiles = connection, held

    def fact(self, name: str) -> Any:
        """A fact's JSON value, None if it is not known."""
        text = self._texts.get(name)
        return None if text is None else json.loads(text)

    @cached_property
    def _texts(self) -> dict[str, str]:
        """All facts, which are a handful: a page asks for most of them."""
        return {name: text for name, text in self._connection.execute(_ALL_FACTS)}

    def cursor(self) -> Cursor | None:
        value = self.fact("cursor")
        return None if value is None else Cursor(value[0], bytes.fromhex(value[1]), value[2])

    # ---- the log

    def head(self) -> LogHead:
        return self._head

    @cached_property
    def _head(self) -> LogHead:
        row = self._connection.execute(_LAST_HEAD).first()
        return LogHead(row.size, row.root) if row else LogHead(0, merkle.EMPTY_ROOT)

    def records(
        self,
        kind: int | None = None,
        start: int = 0,
        before: int | None = None,
        limit: int | None = None,
        newest: bool = False,
    ) -> Iterator[LogRecord]:
        """The records at start … before − 1, of one kind or all; ascending, or the newest first."""
        order = _records.c.position.desc() if newest else _records.c.position
        query = sa.select(_records).where(_records.c.position >= start).order_by(order).limit(limit)
        if before is not None:
            query = query.where(_records.c.position < before)
        if kind is not None:
            query = query.where(_records.c.kind == kind)
        return map(_record, self._connection.execute(query, execution_options=_STREAM))

    def acts(self) -> list[LogRecord]:
        """All records but the ballots, in log order."""
        query = sa.select(_records).where(_records.c.kind != Kind.BALLOT).order_by(_records.c.position)
        return [_record(row) for row in self._connection.execute(query)]

    def record(self, position: int) -> LogRecord | None:
        row = self._connection.execute(_RECORD, {"position": position}).first()
        return _record(row) if row else None

    def positions(self, digest: bytes, kind: int) -> list[int]:
        """Where the records of a kind are whose body has this SHA-256."""
        return sorted(self._connection.scalars(_POSITIONS, {"digest": digest, "wanted": kind}))

    def hashes(self, low: bytes, high: bytes, kind: int, limit: int) -> list[bytes]:
        """Distinct SHA-256 from `low` to `high` of bodies of a kind."""
        within = sa.and_(_records.c.hash.between(low, high), _records.c.kind == kind)
        return list(
            self._connection.scalars(
                sa.select(_records.c.hash).where(within).distinct().order_by(_records.c.hash).limit(limit)
            )
        )

    def without_body(self, limit: int) -> list[bytes]:
        """SHA-256 of ballots that have no body here, the newest first."""
        lacking = sa.and_(_records.c.kind == Kind.BALLOT, _records.c.body.is_(None))
        query = sa.select(_records.c.hash).where(lacking).order_by(_records.c.position.desc()).limit(limit)
        return list(self._connection.scalars(query))

    def lacking(self) -> int:
        """How many ballots have no body here."""
        query = sa.select(sa.func.count()).where(_records.c.kind == Kind.BALLOT, _records.c.body.is_(None))
        return self._connection.scalar(query) or 0

    def place(self, position: int) -> Place:
        """Where on the chain a record of the log is."""
        return Place(*self._connection.execute(_PLACE, {"position": position}).one())

    def last_event(self, block: int) -> Place | None:
        """The last event in the blocks up to this one."""
        query = sa.select(_heads).where(_heads.c.block <= block).order_by(_heads.c.size.desc()).limit(1)
        row = self._connection.execute(query).first()
        return Place(*row) if row else None

    def counts(self) -> dict[int, int]:
        """Records by kind."""
        query = sa.select(_records.c.kind, sa.func.count()).group_by(_records.c.kind)
        return {kind: count for kind, count in self._connection.execute(query)}

    # ---- the tree

    def tile(self, level: int, number: int) -> bytes:
        held = self._tiles.get((level, number))
        if held is None:
            held = self._connection.scalar(_TILE, {"place": level, "at": number}) or b""
            if len(held) == tiles.FULL:
                if len(self._tiles) >= TILES_HELD:
                    self._tiles.clear()
                self._tiles[level, number] = held
        return held

    def root(self, size: int) -> bytes:
        """The root of the log's first `size` records, at most as many as there are."""
        return self.frontier(size).root()

    def frontier(self, size: int) -> merkle.Frontier:
        return tiles.frontier(self.tile, size)

    def proof(self, position: int, size: int) -> list[bytes]:
        return tiles.inclusion_proof(self.tile, position, size)

    # ---- what follows for ballots

    def verdict(self, position: int) -> Verdict | None:
        """None while the ballot is not checked."""
        row = self._connection.execute(_VERDICT, {"at": position}).first()
        return _verdict(row) if row else None

    def verdicts(self, positions: Sequence[int]) -> dict[int, Verdict]:
        query = sa.select(_ballots).where(_ballots.c.position.in_(positions))
        return {row.position: _verdict(row) for row in self._connection.execute(query)}

    def reasons(self) -> dict[int, Reason]:
        """The reason of every ballot with a body, by position."""
        query = sa.select(_ballots.c.position, _ballots.c.reason).where(_ballots.c.reason.is_not(None))
        return {position: Reason(reason) for position, reason in self._connection.execute(query)}

    def answered(self) -> Iterator[tuple[LogRecord, int | None]]:
        """Every record, in log order, with the engine's answer: None for what is no ballot, or has no body."""
        query = sa.select(_records, _ballots.c.reason).outerjoin(_ballots, _ballots.c.position == _records.c.position)
        rows = self._connection.execute(query.order_by(_records.c.position), execution_options=_STREAM)
        return ((_record(row), row[-1]) for row in rows)

    def bodies(self, first: int, count: int) -> list[bytes | None]:
        """The bodies of so many records from `first` on."""
        return list(self._connection.scalars(_BODIES, {"first": first, "end": first + count}))

    def with_reason(self, reason: Reason) -> list[LogRecord]:
        """The ballots that are not valid for this reason."""
        query = (
            sa.select(_records)
            .join(_ballots, _ballots.c.position == _records.c.position)
            .where(_ballots.c.reason == reason)
        )
        return [_record(row) for row in self._connection.execute(query.order_by(_records.c.position))]

    def by_reason(self) -> dict[int | None, int]:
        """Checked ballots by reason."""
        query = sa.select(_ballots.c.reason, sa.func.count()).group_by(_ballots.c.reason)
        return {reason: count for reason, count in self._connection.execute(query)}

    def by_unit(self) -> dict[int, tuple[int, int]]:
        """unit → (valid ballots, distinct roll rows that they come from)."""
        query = sa.select(_ballots.c.unit, sa.func.count(), sa.func.count(_ballots.c.roll_index.distinct()))
        query = query.where(_ballots.c.reason == Reason.VALID).group_by(_ballots.c.unit)
        return {unit: (ballots, cards) for unit, ballots, cards in self._connection.execute(query)}

    def per_card(self) -> dict[int, int]:
        """Valid ballots of a card → how many cards have as many."""
        valid = sa.select(sa.func.count().label("ballots")).where(_ballots.c.reason == Reason.VALID)
        cards = valid.group_by(_ballots.c.roll_index).subquery()
        query = sa.select(cards.c.ballots, sa.func.count()).group_by(cards.c.ballots).order_by(cards.c.ballots)
        return {ballots: count for ballots, count in self._connection.execute(query)}

    def copies(self) -> int:
        """Ballots that are, byte for byte, ballots recorded before."""
        ballots = sa.select(sa.func.count(), sa.func.count(_records.c.hash.distinct()))
        every, distinct = self._connection.execute(ballots.where(_records.c.kind == Kind.BALLOT)).one()
        return int(every - distinct)

    def span(self) -> tuple[int, int] | None:
        """Times of the first and the last ballot, None while there is none."""
        query = sa.select(sa.func.min(_records.c.time), sa.func.max(_records.c.time))
        first, last = self._connection.execute(query.where(_records.c.kind == Kind.BALLOT)).one()
        return None if first is None else (first, last)

    def by_time(self, start: int, step: int) -> dict[int, int]:
        """n → ballots recorded from `start + n·step` on, for `step` seconds."""
        place = (_records.c.time - start) // step
        query = sa.select(place, sa.func.count()).where(_records.c.kind == Kind.BALLOT).group_by(place)
        return {number: count for number, count in self._connection.execute(query)}

    def places(self) -> Iterator[Place]:
        """Where all events are, in log order."""
        query = sa.select(_heads).order_by(_heads.c.size)
        return (Place(*row) for row in self._connection.execute(query, execution_options=_STREAM))

    def latest(self, limit: int) -> list[Place]:
        """Where the latest events are, the newest first."""
        query = sa.select(_heads).order_by(_heads.c.size.desc()).limit(limit)
        return [Place(*row) for row in self._connection.execute(query)]

    def valid_of(self, roll_index: int) -> list[int]:
        """Positions of the valid ballots of a roll row."""
        return list(self._connection.scalars(_VALID_OF, {"card": roll_index}))

    def voters_of(self, rows: Sequence[int]) -> dict[int, int]:
        """unit → how many of these roll rows have a valid ballot."""
        found: dict[int, int] = {}
        for start in range(0, len(rows), CHUNK):
            query = sa.select(_ballots.c.unit, sa.func.count(_ballots.c.roll_index.distinct())).group_by(
                _ballots.c.unit
            )
            within = _ballots.c.roll_index.in_(rows[start : start + CHUNK])
            for unit, count in self._connection.execute(query.where(within, _ballots.c.reason == Reason.VALID)):
                found[unit] = found.get(unit, 0) + count
        return found

    def fates(self, start: int = 0, limit: int | None = None) -> list[CountedRow]:
        """The counted set from a position on; empty before the settlement."""
        query = _COUNTED.where(_fates.c.position >= start).order_by(_fates.c.position).limit(limit)
        return [_counted(row) for row in self._connection.execute(query)]

    def fate(self, position: int) -> CountedRow | None:
        """What became of a ballot; None before the settlement."""
        row = self._connection.execute(_FATE, {"at": position}).first()
        return _counted(row) if row else None

    def fates_of(self, positions: Sequence[int]) -> dict[int, CountedRow]:
        query = _COUNTED.where(_fates.c.position.in_(positions))
        return {row.position: _counted(row) for row in self._connection.execute(query)}

    def by_status(self) -> dict[int, int]:
        query = sa.select(_fates.c.status, sa.func.count()).group_by(_fates.c.status)
        return {status: count for status, count in self._connection.execute(query)}

    def groups(self) -> dict[int, list[list[tuple[int, int]]]]:
        """contest → per group of online votes its units with their counted ballots. Empty before a right result."""
        found: dict[int, list[list[tuple[int, int]]]] = {}
        for row in self._connection.execute(sa.select(_groups).order_by(_groups.c.contest, _groups.c.number)):
            found.setdefault(row.contest, []).append([(unit, ballots) for unit, ballots in json.loads(row.units)])
        return found

    # ---- files

    def attachment(self, sha256: bytes) -> bytes | None:
        return self._connection.scalar(sa.select(_attachments.c.data).where(_attachments.c.sha256 == sha256))

    def attachment_names(self) -> list[bytes]:
        return list(self._connection.scalars(sa.select(_attachments.c.sha256).order_by(_attachments.c.sha256)))

    # ---- everything

    def export(self) -> Iterator[bytes]:
        """Everything that follows from the log, as lines of canonical JSON: the same bytes from every database of the same log."""
        board, head = self.fact("board") or {}, self.head()
        yield _json_line({"format": EXPORT_FORMAT, "head": {"root": head.root.hex(), "size": head.size}, **board})
        places = self.places()
        place: Place | None = None
        columns = (_ballots.c.roll_index, _ballots.c.unit, _ballots.c.reason, _fates.c.status, _fates.c.reference)
        joined = _records.outerjoin(_ballots, _ballots.c.position == _records.c.position).outerjoin(
            _fates, _fates.c.position == _records.c.position
        )
        query = sa.select(_records, *columns).select_from(joined).order_by(_records.c.position)
        for row in self._connection.execute(query, execution_options=_STREAM):
            while place is None or place.size <= row.position:
                place = next(places)
            record = _record(row)
            yield _json_line(
                {
                    "block": {"hash": place.block_hash.hex(), "number": place.block}, "body": None if row.body is None else row.body.hex(),
                    "entry": record.entry.encode().hex(), "number": row.number, "position": row.position, "reason": row.reason,
                    "reference": row.reference, "roll_index": row.roll_index, "signatures": row.signatures.hex(), "status": row.status,
                    "transaction": place.transaction.hex(), "unit": row.unit,
                }
            )  # fmt: skip
        for sha256 in self.attachment_names():
            yield _json_line({"attachment": sha256.hex(), "bytes": len(self.attachment(sha256) or b"")})
        for contest, groups in self.groups().items():
            yield _json_line({"contest": contest, "groups": groups})
        for name in ("setup", "counted", "result"):
            yield _json_line({"fact": name, "value": self.fact(name)})


class Writing(Reading):
    """What is added in one transaction. What it reads, it reads again each time."""

    def fact(self, name: str) -> Any:
        self.__dict__.pop("_texts", None)
        return super().fact(name)

    def head(self) -> LogHead:
        self.__dict__.pop("_head", None)
        return super().head()

    def tile(self, level: int, number: int) -> bytes:
        self._tiles.clear()
        return super().tile(level, number)

    def set_fact(self, name: str, value: Any) -> None:
        self._connection.execute(sa.delete(_facts).where(_facts.c.name == name))
        self._connection.execute(sa.insert(_facts).values(name=name, value=json.dumps(value)))

    def set_cursor(self, cursor: Cursor) -> None:
        self.set_fact("cursor", [cursor.number, cursor.hash.hex(), cursor.time])

    def append(self, records: Sequence[LogRecord], leaves: Sequence[bytes], places: Sequence[Place]) -> None:
        """Records at the end of the log, with their leaf hashes, and the events that hold them."""
        if not records:
            return
        for (level, number), hashes in tiles.grow(self.tile, records[0].position, leaves).items():
            self._connection.execute(sa.delete(_tiles).where(_tiles.c.level == level, _tiles.c.number == number))
            self._connection.execute(sa.insert(_tiles).values(level=level, number=number, hashes=hashes))
        self._insert(_heads, places)
        self._insert(
            _records,
            (
                (
                    r.position,
                    r.entry.kind,
                    r.entry.time,
                    r.entry.role,
                    r.number,
                    r.entry.body_hash,
                    r.body,
                    r.signatures,
                )
                for r in records
            ),
        )

    def supply(self, bodies: dict[bytes, bytes]) -> list[LogRecord]:
        """Puts bodies to the ballots that have these hashes and none; gives the records."""
        lacking = sa.and_(_records.c.hash.in_(bodies), _records.c.kind == Kind.BALLOT, _records.c.body.is_(None))
        positions = list(self._connection.scalars(sa.select(_records.c.position).where(lacking)))
        query = sa.select(_records).where(_records.c.position.in_(positions)).order_by(_records.c.position)
        found = []
        for record in [_record(row) for row in self._connection.execute(query)]:
            body = bodies[record.entry.body_hash]
            change = sa.update(_records).where(_records.c.position == record.position).values(body=body)
            self._connection.execute(change)
            found.append(replace(record, body=body))
        return found

    def check(self, verdicts: Iterable[Verdict]) -> None:
        """What the engine says of ballots that were not checked before."""
        self._insert(_ballots, (v._replace(seen=min(v.seen, MAX_SEEN)) for v in verdicts))

    def check_again(self, verdicts: Iterable[Verdict]) -> None:
        """The same for ballots that were."""
        for verdict in verdicts:
            self._connection.execute(sa.delete(_ballots).where(_ballots.c.position == verdict.position))
            self.check([verdict])

    def settle(self, rows: Iterable[CountedRow]) -> None:
        self._insert(_fates, ((row.position, row.status, row.reference) for row in rows))

    def decrypted(self, groups: Sequence[Sequence[Sequence[tuple[int, int]]]]) -> None:
        """Per contest and group of online votes, the units with their counted ballots."""
        self._insert(
            _groups,
            (
                (contest, number, json.dumps(units))
                for contest, found in enumerate(groups)
                for number, units in enumerate(found)
            ),
        )

    def attach(self, files: dict[bytes, bytes]) -> None:
        self._insert(_attachments, files.items())

    def _insert(self, table: sa.Table, rows: Iterable[tuple[Any, ...]]) -> None:
        """Rows with every column, in order, as the driver takes them: looking at each value once more would take longer than the database."""
        quote = self._connection.dialect.identifier_preparer.quote
        mark = "?" if self._connection.dialect.paramstyle == "qmark" else "%s"
        marks = ", ".join([mark] * len(table.columns))
        statement = (
            f"INSERT INTO {quote(table.name)} ({', '.join(quote(c.name) for c in table.columns)}) VALUES ({marks})"
        )
        left = iter(rows)
        while some := list(islice(left, CHUNK)):
            self._connection.exec_driver_sql(statement, some)


# What a look-up asks, made once: putting a statement together takes longer than running it.
_ALL_FACTS = sa.select(_facts.c.name, _facts.c.value)
_LAST_HEAD = sa.select(_heads.c.size, _heads.c.root).order_by(_heads.c.size.desc()).limit(1)
_RECORD = sa.select(_records).where(_records.c.position == sa.bindparam("position"))
_BODIES = (
    sa.select(_records.c.body)
    .where(_records.c.position >= sa.bindparam("first"), _records.c.position < sa.bindparam("end"))
    .order_by(_records.c.position)
)
_POSITIONS = sa.select(_records.c.position).where(
    _records.c.hash == sa.bindparam("digest"), _records.c.kind == sa.bindparam("wanted")
)
_PLACE = sa.select(_heads).where(_heads.c.size > sa.bindparam("position")).order_by(_heads.c.size).limit(1)
_TILE = sa.select(_tiles.c.hashes).where(_tiles.c.level == sa.bindparam("place"), _tiles.c.number == sa.bindparam("at"))
_VERDICT = sa.select(_ballots).where(_ballots.c.position == sa.bindparam("at"))
_VALID_OF = (
    sa.select(_ballots.c.position)
    .where(_ballots.c.roll_index == sa.bindparam("card"), _ballots.c.reason == Reason.VALID)
    .order_by(_ballots.c.position)
)
_COUNTED = sa.select(_fates, _ballots.c.roll_index).outerjoin(_ballots, _ballots.c.position == _fates.c.position)
_FATE = _COUNTED.where(_fates.c.position == sa.bindparam("at"))


def _record(row: sa.Row) -> LogRecord:
    position, kind, time, role, number, digest, body, signatures, *_ = row
    return LogRecord(position, Entry(kind, time, role, digest), body, number, signatures)


def _verdict(row: sa.Row) -> Verdict:
    return Verdict(row.position, row.roll_index, row.unit, row.seen, None if row.reason is None else Reason(row.reason))


def _counted(row: sa.Row) -> CountedRow:
    return CountedRow(
        row.position, NO_ROW if row.roll_index is None else row.roll_index, Status(row.status), row.reference
    )


def _json_line(value: Any) -> bytes:
    return canonical_json(value) + b"\n"


def _line(error: sa.exc.DatabaseError) -> str:
    return " ".join(str(error.orig).split())


def _sqlite(connection: Any, _: Any) -> None:
    # The driver begins no transaction for a SELECT, so it is left to SQLAlchemy's "begin": a snapshot needs one.
    connection.isolation_level = None
    # What a power cut takes from the end is read from the chain again.
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
