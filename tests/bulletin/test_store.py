"""What the database is asked for one voter is found, not searched for."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from bulletin import store
from protocol.records import Kind

WITHIN = sa.and_(store._records.c.hash.between(b"a", b"b"), store._records.c.kind == Kind.BALLOT)


@pytest.mark.parametrize(
    ("statement", "key"),
    [
        (store._POSITIONS, "kind=? AND hash=?"), (store._RECORD, "PRIMARY KEY (rowid=?)"), (store._PLACE, "PRIMARY KEY (rowid>?)"),
        (store._VERDICT, "PRIMARY KEY (rowid=?)"), (store._FATE, "PRIMARY KEY (rowid=?)"), (store._VALID_OF, "roll_index=?"), (store._TILE, "level=? AND number=?"),
        (sa.select(store._records.c.hash).where(WITHIN).order_by(store._records.c.hash), "kind=? AND hash>? AND hash<?"),
    ],
)  # fmt: skip
def test_a_look_up_walks_through_nothing_however_long_the_log(statement, key):
    engine = sa.create_engine("sqlite://")
    store._metadata.create_all(engine)
    with engine.connect() as connection:
        text = str(statement.compile(engine, compile_kwargs={"render_postcompile": True}))
        plan = [row[-1] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", (None,) * text.count("?"))]
    assert not any(step.startswith("SCAN") for step in plan)
    assert key in plan[0]
