"""What the database is asked for one voter is found, not searched for."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from bulletin import store
from chain.reader import Batch
from protocol import merkle
from protocol.election import LogRecord
from protocol.records import Entry, Kind, ballot_hash

LACKING = "records_without_body"
"""The index of the ballots that have none: all of it is wanted."""

WITHIN = sa.and_(store._records.c.hash.between(b"a", b"b"), store._records.c.kind == Kind.BALLOT)


@pytest.mark.parametrize(
    ("statement", "key"),
    [
        (store.LOOK_UPS["positions"], "kind=? AND hash=?"), (store.LOOK_UPS["record"], "PRIMARY KEY (rowid=?)"),
        (store.LOOK_UPS["place"], "PRIMARY KEY (rowid>?)"), (store.LOOK_UPS["verdict"], "PRIMARY KEY (rowid=?)"),
        (store.LOOK_UPS["fate"], "PRIMARY KEY (rowid=?)"), (store.LOOK_UPS["valid of"], "roll_index=?"), (store.LOOK_UPS["attempts"], "roll_index=?"),
        (store.LOOK_UPS["tile"], "level=? AND number=?"),
        (store.ACTS, "kind<?"), (store.ACTS_BY_KIND, "kind<?"), (store.ACTS_SINCE, "rowid>?"), (store.WITHOUT_BODY, LACKING),
        (sa.select(store._records.c.hash).where(WITHIN).order_by(store._records.c.hash), "kind=? AND hash>? AND hash<?"),
    ],
)  # fmt: skip
def test_a_look_up_walks_through_nothing_however_long_the_log(statement, key):
    engine = sa.create_engine("sqlite://")
    store._metadata.create_all(engine)
    with engine.connect() as connection:
        text = str(statement.compile(engine, compile_kwargs={"render_postcompile": True}))
        plan = [row[-1] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", (None,) * text.count("?"))]
    assert not any(step.startswith("SCAN") and LACKING not in step for step in plan)
    assert any(key in step for step in plan)


def test_tiles_that_a_reader_remembers_are_not_those_of_a_database_that_was_emptied_since(tmp_path):
    def fill(what: bytes) -> None:
        """Three records that say this, of a log that begins anew."""
        log.bind(1, bytes(20), bytes(32))
        records = [LogRecord(n, Entry(Kind.BALLOT, 0, 0, ballot_hash(what)), what, 0, b"") for n in range(3)]
        leaves = [record.entry.leaf() for record in records]
        with log.write() as tx:
            tx.append([Batch(0, records, merkle.root(leaves), 1, bytes(32), bytes(32))], b"".join(leaves))

    log = store.Store(f"sqlite:///{tmp_path}/board.sqlite")
    served = store.Store(f"sqlite:///{tmp_path}/board.sqlite")  # of another process
    for what in (b"before", b"after"):
        fill(what)
        with served.read() as tx:
            record, head = tx.record(1), tx.head()
            assert record.body == what and tx.root(3) == head.root
            assert merkle.verify_inclusion(record.entry.leaf(), 1, 3, tx.proof(1, 3), head.root)
        log.reset()


def test_a_database_of_another_version_is_refused(tmp_path):
    log = store.Store(f"sqlite:///{tmp_path}/board.sqlite")
    log.bind(1, bytes(20), bytes(32))
    log.bind(1, bytes(20), bytes(32))
    with log.write() as tx:
        tx.set_fact("version", store.VERSION - 1)
    with pytest.raises(store.StoreError, match="board rebuild"):
        log.bind(1, bytes(20), bytes(32))
