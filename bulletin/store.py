"""The board's database: the log as rows, the tree as tiles, and how far each of two readers has come.

    records, heads, tiles   what the chain says, and `cursor`, the last block read: written together, in one transaction
    ballots, fates          what follows for each ballot (its reason, what became of it), and `checked`, how far that has come

Everything but the cursor's block is a function of the log, so the database may be deleted and rebuilt, and `export` gives the same bytes. SQLite by
default, in a write-ahead log that readers do not wait for; PostgreSQL by URL. One process writes. A reader sees one moment of it all: `read` is one
snapshot.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from itertools import islice, repeat
from typing import Any, NamedTuple

import sqlalchemy as sa

from bulletin import tiles
from chain.reader import Ballots, Batch
from protocol import merkle
from protocol.ballot import Reason
from protocol.counting import NO_ROW, CountedRow, Status
from protocol.election import LogRecord
from protocol.encoding import canonical_json
from protocol.errors import BallotboardError
from protocol.records import Entry, Kind, LogHead

EXPORT_FORMAT = "ballotboard/board-export/v1"

VERSION = 2
"""Of tables and facts. A database of another is read from the chain again, not converted."""

CONNECTIONS = 40
"""Connections to the database: as many as the server has threads, so that no request waits for another's."""

CHUNK = 2_000
"""Rows fetched at a time where all are read: a few MB."""

_STREAM = {"yield_per": CHUNK}

Row = dict[str, Any]
"""Values by the name that a statement has for them."""

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


Answer = tuple[int, int, int, int, int | None]
"""A verdict as the database has it: `seen` is at most MAX_SEEN."""


class Answered(NamedTuple):
    """A record without its body, of which `length` bytes are held (None: nothing), and the columns of its verdict, None where there is none."""

    position: int
    kind: int
    time: int
    role: int
    number: int
    hash: bytes
    length: int | None
    roll_index: int | None
    seen: int | None
    reason: int | None


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
    sa.Index("records_without_body", "position", sqlite_where=sa.text("body IS NULL"), postgresql_where=sa.text("body IS NULL")),
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
    sa.Column("status", sa.SmallInteger, nullable=False),
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
"""Tiles kept in memory, 17 KB each with the nodes above: 70 MB, the lowest level of a million records."""

_Held = dict[tuple[str | None, int, int, int], tiles.Tile]
"""(database's name, level, number, hashes) → tile: what a log that only grows never changes."""


class Store:
    """The database at a SQLAlchemy URL. Raises StoreError if it cannot be used. `embedded` says that it is a file, which nobody has to be waited for."""

    def __init__(self, url: str) -> None:
        try:
            parsed = sa.make_url(url)
            sqlite = parsed.get_backend_name() == "sqlite"
            isolation: Any = {} if sqlite else {"isolation_level": "REPEATABLE READ"}
            self._engine = sa.create_engine(parsed, pool_size=CONNECTIONS, **isolation)
            if sqlite:
                sa.event.listen(self._engine, "connect", _sqlite)
                sa.event.listen(self._engine, "begin", lambda connection: _driver(connection).execute("BEGIN"))
            _metadata.create_all(self._engine)
            self.embedded = sqlite
            self._texts = {name: _text(statement, self._engine.dialect) for name, statement in LOOK_UPS.items()}
            self._errors = (sa.exc.DatabaseError, self._engine.dialect.loaded_dbapi.Error)
            self._tiles: _Held = {}
        except (sa.exc.ArgumentError, sa.exc.NoSuchModuleError, ImportError) as error:
            raise StoreError(f"the database {url} cannot be used: {error}") from error
        except sa.exc.DatabaseError as error:
            raise StoreError(f"the database {parsed.render_as_string()} cannot be opened: {_line(error)}") from error

    def close(self) -> None:
        self._engine.dispose()

    def reset(self) -> None:
        """Throws everything away."""
        try:
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
            if stored is None:
                log.set_fact("name", secrets.token_hex(8))
                log.set_fact("version", VERSION)
            elif log.fact("version") != VERSION:
                raise StoreError(
                    "this database was made by another version: read the chain again with `ballotboard board rebuild`"
                )

    @contextmanager
    def read(self) -> Iterator[Reading]:
        """One moment of the database."""
        try:
            with self._engine.connect() as connection, connection.begin():
                yield Reading(connection, self._texts, self._tiles)
        except self._errors as error:
            raise StoreError(f"the database cannot be read: {_line(error)}") from error

    @contextmanager
    def write(self) -> Iterator[Writing]:
        """One transaction: all of it is kept at the end of the block, or nothing."""
        try:
            with self._engine.begin() as connection:
                yield Writing(connection, self._texts, {})
        except self._errors as error:
            raise StoreError(f"the database cannot be written: {_line(error)}") from error


class Reading:
    """What the database holds, in one transaction. `texts` are LOOK_UPS for its driver; every reader of a store shares the tiles that it `held`."""

    def __init__(self, connection: sa.Connection, texts: Mapping[str, tuple[str, Row]], held: _Held) -> None:
        self._connection, self._driver, self._texts, self._tiles = connection, _driver(connection), texts, held

    def fact(self, name: str) -> Any:
        """A fact's JSON value, None if it is not known."""
        text = self._facts.get(name)
        return None if text is None else json.loads(text)

    def facts(self) -> tuple[tuple[str, str], ...]:
        """All of them, as JSON, for comparing."""
        return tuple(sorted(self._facts.items()))

    @cached_property
    def _facts(self) -> dict[str, str]:
        """All facts, which are a handful: a page asks for most of them."""
        return dict(self._ask("facts").fetchall())

    def _ask(self, look_up: str, **values: Any) -> Any:
        """The driver's cursor with the answer to one of LOOK_UPS."""
        text, fixed = self._texts[look_up]
        return self._driver.execute(text, fixed | values)

    def cursor(self) -> Cursor | None:
        value = self.fact("cursor")
        return None if value is None else Cursor(value[0], bytes.fromhex(value[1]), value[2])

    # ---- the log

    def name(self) -> str | None:
        """Drawn when the database was begun: one that was emptied has another."""
        found = self.fact("name")
        return None if found is None else str(found)

    def head(self) -> LogHead:
        return self._state[0]

    def files(self) -> int:
        """How many files are published here."""
        return self._state[1]

    @cached_property
    def _state(self) -> tuple[LogHead, int]:
        size, root, files = self._ask("state").fetchone()
        return LogHead(size, root) if size else LogHead(0, merkle.EMPTY_ROOT), files

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

    def acts(self, start: int = 0) -> list[LogRecord]:
        """All records but the ballots from `start` on, in log order."""
        rows = self._connection.execute(ACTS_SINCE, {"start": start}) if start else self._connection.execute(ACTS)
        return sorted(map(_record, rows), key=lambda record: record.position)

    def record(self, position: int) -> LogRecord | None:
        row = self._ask("record", position=position).fetchone()
        return _record(row) if row else None

    def positions(self, digest: bytes, kind: int) -> list[int]:
        """Where the records of a kind are whose body has this SHA-256."""
        return sorted(position for (position,) in self._ask("positions", digest=digest, wanted=int(kind)))

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
        return list(self._connection.scalars(WITHOUT_BODY.limit(limit)))

    def lacking(self) -> int:
        """How many ballots have no body here."""
        query = sa.select(sa.func.count()).select_from(_records).where(_records.c.body.is_(None))
        return self._connection.scalar(query) or 0

    def place(self, position: int) -> Place:
        """Where on the chain a record of the log is."""
        return Place(*self._ask("place", position=position).fetchone())

    def last_event(self, block: int) -> Place | None:
        """The last event in the blocks up to this one."""
        query = sa.select(_heads).where(_heads.c.block <= block).order_by(_heads.c.size.desc()).limit(1)
        row = self._connection.execute(query).first()
        return Place(*row) if row else None

    def counts(self) -> dict[int, int]:
        """Records by kind. The ballots are what is left: they are not counted, there may be millions."""
        found = {kind: count for kind, count in self._connection.execute(ACTS_BY_KIND)}
        ballots = self.head().size - sum(found.values())
        return found | ({int(Kind.BALLOT): ballots} if ballots else {})

    # ---- the tree

    def tile(self, level: int, number: int) -> tiles.Tile:
        """An empty one where the log does not reach."""
        width = tiles.width(level, number, self.head().size)
        place = (self._facts.get("name"), level, number, width)
        held = self._tiles.get(place) if width else tiles.NOTHING
        if held is None:
            held = self._stored_tile(level, number)
            if len(self._tiles) >= TILES_HELD:
                self._tiles.clear()
            self._tiles[place] = held
        return held

    def _stored_tile(self, level: int, number: int) -> tiles.Tile:
        row = self._ask("tile", place=level, at=number).fetchone()
        return tiles.Tile(row[0]) if row else tiles.NOTHING

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
        row = self._ask("verdict", at=position).fetchone()
        return _verdict(row) if row else None

    def verdicts(self, positions: Sequence[int]) -> dict[int, Verdict]:
        query = sa.select(_ballots).where(_ballots.c.position.in_(positions))
        return {row.position: _verdict(row) for row in self._connection.execute(query)}

    def reasons(self) -> dict[int, Reason]:
        """The reason of every ballot with a body, by position."""
        query = sa.select(_ballots.c.position, _ballots.c.reason).where(_ballots.c.reason.is_not(None))
        return {position: Reason(reason) for position, reason in self._connection.execute(query)}

    def bodies(self, start: int, before: int) -> list[tuple[int, int, bytes | None]]:
        """(position, kind, body) of the records at start … before − 1."""
        return list(self._ask("bodies", start=start, before=before))

    def answered(self, start: int, before: int) -> list[Answered]:
        """The records at start … before − 1 without their bodies, with what the engine says of those that are ballots."""
        return list(map(Answered._make, self._ask("answered", start=start, before=before)))

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
        return [position for (position,) in self._ask("valid of", card=roll_index)]

    def attempts(self, roll_index: int) -> int:
        """How many valid ballots of a roll row there are."""
        [count] = self._ask("attempts", card=roll_index).fetchone()
        return int(count)

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
        row = self._ask("fate", at=position).fetchone()
        return _counted(row) if row else None

    def fates_of(self, positions: Sequence[int]) -> dict[int, CountedRow]:
        query = _COUNTED.where(_fates.c.position.in_(positions))
        return {row.position: _counted(row) for row in self._connection.execute(query)}

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
        self.__dict__.pop("_facts", None)
        return super().fact(name)

    def head(self) -> LogHead:
        self.__dict__.pop("_state", None)
        return super().head()

    def tile(self, level: int, number: int) -> tiles.Tile:
        return self._stored_tile(level, number)

    def set_fact(self, name: str, value: Any) -> None:
        self._connection.execute(sa.delete(_facts).where(_facts.c.name == name))
        self._connection.execute(sa.insert(_facts).values(name=name, value=json.dumps(value)))

    def set_cursor(self, cursor: Cursor) -> None:
        self.set_fact("cursor", [cursor.number, cursor.hash.hex(), cursor.time])

    def append(self, events: Sequence[Batch], leaves: bytes) -> None:
        """Events at the end of the log, with the leaf hashes of their records end to end."""
        if not events:
            return
        changed = tiles.grow(self.tile, events[0].first, leaves)
        before = sa.delete(_tiles).where(_tiles.c.level == sa.bindparam("place"), _tiles.c.number == sa.bindparam("at"))
        self._connection.execute(before, [{"place": level, "at": number} for level, number in changed])
        self._insert(_tiles, ((*place, hashes) for place, hashes in changed.items()))
        self._insert(_heads, ((e.size, e.root, e.block_number, e.block_hash, e.transaction) for e in events))
        self._insert(_records, (row for event in events for row in _rows(event)))

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

    def check(self, verdicts: Iterable[Answer]) -> None:
        """What the engine says of ballots that were not checked before."""
        self._insert(_ballots, verdicts)

    def check_again(self, verdicts: Iterable[Answer]) -> None:
        """The same for ballots that were."""
        for verdict in verdicts:
            self._connection.execute(sa.delete(_ballots).where(_ballots.c.position == verdict[0]))
            self.check([verdict])

    def settle(self, rows: Iterable[tuple[int, int, int]]) -> None:
        """The counted set: positions, each with a status and a reference."""
        self._insert(_fates, rows)

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


_COUNTED = sa.select(_fates, _ballots.c.roll_index).outerjoin(_ballots, _ballots.c.position == _fates.c.position)
_FILES = sa.select(sa.func.count().label("files")).select_from(_attachments).subquery()
_LAST_HEAD = sa.select(_heads.c.size, _heads.c.root).order_by(_heads.c.size.desc()).limit(1).subquery()
_OF_CARD = sa.and_(_ballots.c.roll_index == sa.bindparam("card"), _ballots.c.reason == int(Reason.VALID))
_RANGE = sa.and_(_records.c.position >= sa.bindparam("start"), _records.c.position < sa.bindparam("before"))

_BEFORE_AND_AFTER = (_records.c.kind < int(Kind.BALLOT), _records.c.kind > int(Kind.BALLOT))
"""What is no ballot, in two ranges of an index: a database that is told "not equal", or both in one, walks through all ballots."""

ACTS = sa.union_all(*(sa.select(_records).where(kinds) for kinds in _BEFORE_AND_AFTER))
ACTS_BY_KIND = sa.union_all(
    *(sa.select(_records.c.kind, sa.func.count()).where(kinds).group_by(_records.c.kind) for kinds in _BEFORE_AND_AFTER)
)
ACTS_SINCE = sa.select(_records).where(
    _records.c.position >= sa.bindparam("start"), _records.c.kind != int(Kind.BALLOT)
)
WITHOUT_BODY = sa.select(_records.c.hash).where(_records.c.body.is_(None)).order_by(_records.c.position.desc())

LOOK_UPS = {
    "facts": sa.select(_facts.c.name, _facts.c.value),
    "state": sa.select(_LAST_HEAD.c.size, _LAST_HEAD.c.root, _FILES.c.files).select_from(_FILES.outerjoin(_LAST_HEAD, sa.true())),
    "record": sa.select(_records).where(_records.c.position == sa.bindparam("position")),
    "positions": sa.select(_records.c.position).where(_records.c.hash == sa.bindparam("digest"), _records.c.kind == sa.bindparam("wanted")),
    "place": sa.select(_heads).where(_heads.c.size > sa.bindparam("position")).order_by(_heads.c.size).limit(1),
    "tile": sa.select(_tiles.c.hashes).where(_tiles.c.level == sa.bindparam("place"), _tiles.c.number == sa.bindparam("at")),
    "verdict": sa.select(_ballots).where(_ballots.c.position == sa.bindparam("at")),
    "fate": _COUNTED.where(_fates.c.position == sa.bindparam("at")),
    "valid of": sa.select(_ballots.c.position).where(_OF_CARD).order_by(_ballots.c.position),
    "attempts": sa.select(sa.func.count()).select_from(_ballots).where(_OF_CARD),
    "bodies": sa.select(_records.c.position, _records.c.kind, _records.c.body).where(_RANGE).order_by(_records.c.position),
    "answered": sa.select(
        _records.c.position, _records.c.kind, _records.c.time, _records.c.role, _records.c.number, _records.c.hash,
        sa.func.length(_records.c.body), _ballots.c.roll_index, _ballots.c.seen, _ballots.c.reason,
    ).outerjoin(_ballots, _ballots.c.position == _records.c.position).where(_RANGE).order_by(_records.c.position),
}  # fmt: skip
"""What is asked for one voter. Put into words once, and given to the driver: SQLAlchemy's part of a small question takes seven times as long as the database's."""


def _text(statement: sa.Select[Any], dialect: sa.Dialect) -> tuple[str, Row]:
    """The statement as the driver takes it, with values by name, and the values that are part of it."""
    named: sa.Dialect = type(dialect)(**{"paramstyle": "named"}) if dialect.paramstyle == "qmark" else dialect
    compiled = statement.compile(dialect=named)
    return str(compiled), {name: value for name, value in compiled.params.items() if value is not None}


def _driver(connection: sa.Connection) -> Any:
    """The connection of the database's driver: sqlite3's or psycopg's."""
    return connection.connection.driver_connection


def _rows(event: Batch) -> Iterable[tuple[Any, ...]]:
    """The rows of an event's records: for ballots put together from columns, without a record of each."""
    if isinstance(found := event.records, Ballots):
        same = map(repeat, (int(Kind.BALLOT), found.time, found.role, found.number))
        return zip(range(found.first, event.size), *same, found.hashes(), found.bodies(), repeat(b""))
    return (
        (r.position, r.kind, r.entry.time, r.entry.role, r.number, r.entry.body_hash, r.body, r.signatures)
        for r in found
    )


def _record(row: Sequence[Any]) -> LogRecord:
    position, kind, time, role, number, digest, body, signatures, *_ = row
    return LogRecord(position, Entry(kind, time, role, digest), body, number, signatures)


def _verdict(row: Sequence[Any]) -> Verdict:
    position, roll_index, unit, seen, reason = row
    return Verdict(position, roll_index, unit, seen, None if reason is None else Reason(reason))


def _counted(row: Sequence[Any]) -> CountedRow:
    position, status, reference, roll_index = row
    return CountedRow(position, NO_ROW if roll_index is None else roll_index, Status(status), reference)


def _json_line(value: Any) -> bytes:
    return canonical_json(value) + b"\n"


def _line(error: Exception) -> str:
    return " ".join(str(getattr(error, "orig", error)).split())


def _sqlite(connection: Any, _: Any) -> None:
    # The driver begins no transaction for a SELECT, so it is left to SQLAlchemy's "begin": a snapshot needs one.
    connection.isolation_level = None
    # What a power cut takes from the end is read from the chain again.
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
