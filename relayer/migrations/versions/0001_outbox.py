"""The outbox: ballots, records, the batches that carry them, and the board that all belongs to."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "batches",
        sa.Column("id", _id, primary_key=True),
        sa.Column("account", sa.LargeBinary(20), nullable=False),
        sa.Column("sequence", sa.BigInteger),
        sa.Column("nonce", sa.BigInteger, nullable=False),
        sa.Column("raw", sa.LargeBinary, nullable=False),
        sa.Column("hash", sa.LargeBinary(32), nullable=False),
        sa.Column("replaced", sa.LargeBinary, nullable=False),
        sa.Column("count", sa.Integer, nullable=False),
        sa.Column("state", sa.SmallInteger, nullable=False),
    )
    op.create_index("ix_batches_state", "batches", ["state"])
    op.create_table(
        "ballots",
        sa.Column("id", _id, primary_key=True),
        sa.Column("hash", sa.LargeBinary(32), nullable=False),
        sa.Column("roll_index", sa.BigInteger, nullable=False),
        sa.Column("seen", sa.BigInteger, nullable=False),
        sa.Column("received", sa.BigInteger, nullable=False),
        sa.Column("by", sa.BigInteger, nullable=False),
        sa.Column("head_size", sa.BigInteger, nullable=False),
        sa.Column("head_root", sa.LargeBinary(32), nullable=False),
        sa.Column("batch", sa.BigInteger),
        sa.Column("reason", sa.Text),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )
    if op.get_bind().dialect.name == "postgresql":
        op.create_index("ballots_hash", "ballots", ["hash"], unique=True)
        op.create_index("ballots_roll_index", "ballots", ["roll_index"])
    op.create_table(
        "records",
        sa.Column("id", _id, primary_key=True),
        sa.Column("hash", sa.LargeBinary(32), nullable=False, unique=True),
        sa.Column("call", sa.LargeBinary, nullable=False),
        sa.Column("received", sa.BigInteger, nullable=False),
        sa.Column("batch", sa.BigInteger),
        sa.Column("reason", sa.Text),
    )
    op.create_table("facts", sa.Column("name", sa.Text, primary_key=True), sa.Column("value", sa.Text, nullable=False))
    for table in ("ballots", "records"):
        for name, column, where in (
            ("waiting", "id", "batch IS NULL AND reason IS NULL"),
            ("dead", "id", "reason IS NOT NULL"),
            ("held", "batch", "batch IS NOT NULL"),
        ):
            op.create_index(
                f"{table}_{name}", table, [column], sqlite_where=sa.text(where), postgresql_where=sa.text(where)
            )
