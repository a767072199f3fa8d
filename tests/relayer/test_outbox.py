import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from protocol.records import LogHead
from relayer.outbox import REVISION, Ballot, Batch, Outbox, OutboxError, State, Waiting, _metadata

HEAD = LogHead(7, bytes(range(32)))


ACCOUNT = b"a" * 20


def ballots(count: int, size: int = 300) -> list[Ballot]:
    """The outbox does not look into any of them."""
    return [Ballot(os.urandom(32), os.urandom(size), index, 1) for index in range(count)]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "outbox.db"


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.e2e)])
def url(request: pytest.FixtureRequest, file: Path) -> str:
    return f"sqlite:///{file}" if request.param == "sqlite" else request.getfixturevalue("database")


@pytest.fixture
def outbox(url: str) -> Iterator[Outbox]:
    box = Outbox(url)
    yield box
    box.close()


def waiting(outbox: Outbox, size: int = 10**9, count: int = 10**6) -> tuple[list[Waiting], bool]:
    with outbox.claim(size, count) as claim:
        return claim.ballots, claim.more


def waiting_hashes(outbox: Outbox) -> list[bytes]:
    return [ballot.hash for ballot in waiting(outbox)[0]]


def submit(outbox: Outbox, sequence: int = 0, count: int = 10**6) -> Batch:
    with outbox.claim(10**9, count) as claim:
        return claim.submit(ACCOUNT, sequence, 40 + sequence, b"raw", os.urandom(32))


def test_what_was_promised_is_there_after_reopening_with_what_the_promise_said(url: str, outbox: Outbox) -> None:
    rows = ballots(3)
    outbox.promise(rows, 1000, 1060, HEAD)
    outbox.engine.dispose()
    again = Outbox(url)
    found = again.find([rows[1][0]])[rows[1][0]]
    assert (found.state, found.by, found.head, found.roll_index) == (State.PROMISED, 1060, HEAD, 1)
    assert again.depth == 3 and again.oldest() == 1000
    assert [(w.hash, w.body, w.roll_index) for w in waiting(again)[0]] == [row[:3] for row in rows]
    assert again.body(rows[1].hash) == rows[1].body and again.body(bytes(32)) is None


def test_every_commit_is_synced(outbox: Outbox) -> None:
    with outbox.engine.connect() as connection:
        if outbox.shared:
            assert connection.scalar(sa.text("SHOW synchronous_commit")) == "on"
        else:
            assert connection.scalar(sa.text("PRAGMA synchronous")) == 2
            assert connection.scalar(sa.text("PRAGMA journal_mode")) == "wal"


def schema(engine: sa.Engine) -> dict[str, Any]:
    """Columns and indexes of every table but alembic's."""
    found = sa.inspect(engine)
    return {
        table: (
            [(c["name"], str(c["type"]), c["nullable"], c.get("primary_key", 0)) for c in found.get_columns(table)],
            sorted(
                (
                    i["name"],
                    i["column_names"],
                    bool(i["unique"]),
                    sorted((k, str(v)) for k, v in i["dialect_options"].items()),
                )
                for i in found.get_indexes(table)
            ),
            found.get_unique_constraints(table),
        )
        for table in found.get_table_names()
        if table != "alembic_version"
    }


def test_a_migrated_database_is_what_the_tables_say(url: str, outbox: Outbox) -> None:
    migrated = schema(outbox.engine)
    with outbox.engine.begin() as connection:
        _metadata.drop_all(connection)
        _metadata.create_all(connection)
    created = schema(sa.create_engine(url))
    assert migrated == created and len(migrated["ballots"][0]) == 11


def test_a_new_database_is_at_the_newest_migration_and_is_not_migrated_twice(url: str, outbox: Outbox) -> None:
    with outbox.engine.connect() as connection:
        assert connection.scalar(sa.text("SELECT version_num FROM alembic_version")) == REVISION
    outbox.promise(ballots(1), 1000, 1060, HEAD)
    assert Outbox(url).depth == 1


def test_tables_of_a_version_without_migrations_are_left_alone(file: Path) -> None:
    engine = sa.create_engine(f"sqlite:///{file}")
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE ballots (id INTEGER)"))
    with pytest.raises(OutboxError, match="without migrations"):
        Outbox(f"sqlite:///{file}")


def test_a_claim_has_the_oldest_that_fit_with_two_bytes_each(outbox: Outbox) -> None:
    rows = ballots(5)
    outbox.promise(rows, 1000, 1060, HEAD)
    taken, more = waiting(outbox, 3 * 302, 10)
    assert [ballot.hash for ballot in taken] == [row[0] for row in rows[:3]] and more
    taken, more = waiting(outbox, 3 * 302 - 1, 10)
    assert len(taken) == 2 and more
    assert [len(waiting(outbox, 10**6, count)[0]) for count in (4, 5, 6)] == [4, 5, 5]
    assert [waiting(outbox, 10**6, count)[1] for count in (4, 5, 6)] == [True, False, False]


def test_a_claim_of_hashes_takes_32_bytes_a_ballot(outbox: Outbox) -> None:
    outbox.promise(ballots(500), 1000, 1060, HEAD)
    for size, taken in ((32 * 400, 400), (32 * 400 - 1, 399), (32 * 500, 500)):
        with outbox.claim(size, 10**6, hashes=True) as claim:
            assert (len(claim.ballots), claim.more) == (taken, taken < 500)


def test_bodies_of_others_are_kept_beside_those_of_promised_ballots(url: str, outbox: Outbox) -> None:
    mine, other, unknown = ballots(3)
    outbox.promise([mine], 1000, 1060, HEAD)
    hashes = [mine.hash, other.hash, unknown.hash]
    assert outbox.lacking(hashes) == hashes[1:]
    for _ in range(2):
        outbox.keep({other.hash: other.body})
    again = Outbox(url)
    assert again.lacking(hashes) == [unknown.hash] and again.depth == 1
    assert again.bodies(hashes) == {mine.hash: mine.body, other.hash: other.body}


def test_an_outbox_of_the_version_before_is_brought_up_to_date_with_its_ballots(url: str, outbox: Outbox) -> None:
    rows = ballots(2)
    outbox.promise(rows, 1000, 1060, HEAD)
    with outbox.engine.begin() as connection:
        connection.execute(sa.text("DROP TABLE bodies"))
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '0001'"))
    again = Outbox(url)
    again.keep({bytes(32): b"body"})
    assert again.bodies([rows[0].hash, bytes(32)]) == {rows[0].hash: rows[0].body, bytes(32): b"body"}


def test_a_batch_is_kept_as_signed_until_it_lands(url: str, outbox: Outbox) -> None:
    rows = ballots(3)
    outbox.promise(rows, 1000, 1060, HEAD)
    with outbox.claim(10**9, 2) as claim:
        made = claim.submit(ACCOUNT, 4, 9, b"signed bytes", b"h" * 32)
    [batch] = Outbox(url).in_flight(ACCOUNT)
    assert batch == made
    assert (batch.sequence, batch.nonce, batch.raw, batch.hashes, batch.count) == (
        4,
        9,
        b"signed bytes",
        [b"h" * 32],
        2,
    )
    assert outbox.in_flight(b"b" * 20) == []
    assert outbox.counts[State.SUBMITTED] == 2 and outbox.counts[State.PROMISED] == 1
    assert outbox.landed(batch) and not outbox.landed(batch) and not outbox.reverted(batch)
    assert outbox.in_flight() == [] and outbox.counts[State.FINAL] == 2
    assert {held.hash for held in outbox.held(batch.id)} == {row.hash for row in rows[:2]}


def test_a_replaced_transaction_keeps_the_hashes_of_all_that_may_land(outbox: Outbox) -> None:
    outbox.promise(ballots(1), 1000, 1060, HEAD)
    first = submit(outbox)
    second = outbox.replace(first, b"dearer", b"2" * 32)
    third = outbox.replace(second, b"dearest", b"3" * 32)
    assert outbox.in_flight() == [third] and third.hashes == [b"3" * 32, first.hash, b"2" * 32]
    assert not outbox.reverted(first)  # who has not heard of the replacement cannot give its ballots back
    assert outbox.reverted(third) and outbox.replace(third, b"late", b"4" * 32) is None


def test_ballots_of_a_reverted_batch_wait_at_their_old_place(outbox: Outbox) -> None:
    rows = ballots(4)
    outbox.promise(rows, 1000, 1060, HEAD)
    batch = submit(outbox, count=2)
    assert waiting_hashes(outbox) == [row[0] for row in rows[2:]]
    outbox.reverted(batch)
    assert waiting_hashes(outbox) == [row[0] for row in rows]
    assert outbox.in_flight() == [] and outbox.counts[State.PROMISED] == 4


def test_dead_letters_have_a_reason_and_can_wait_again(outbox: Outbox) -> None:
    rows = ballots(3)
    outbox.promise(rows, 1000, 1060, HEAD)
    first = waiting(outbox, count=1)[0][0]
    assert outbox.bury([first.id], "too late") == 1
    [dead] = outbox.dead()
    assert (dead.hash, dead.reason, dead.state) == (rows[0][0], "too late", State.DEAD)
    assert outbox.depth == 2 and waiting_hashes(outbox) == [row[0] for row in rows[1:]]
    assert outbox.revive() == 1
    assert outbox.dead() == [] and waiting_hashes(outbox) == [row[0] for row in rows]


def test_burying_all_leaves_what_is_in_flight(outbox: Outbox) -> None:
    outbox.promise(ballots(3), 1000, 1060, HEAD)
    submit(outbox, count=1)
    assert outbox.bury(None, "closed") == 2
    assert (outbox.counts[State.SUBMITTED], outbox.counts[State.DEAD]) == (1, 2)


def test_counts_after_reopening_are_those_kept_in_memory(url: str, outbox: Outbox) -> None:
    outbox.promise(ballots(9), 1000, 1060, HEAD)
    outbox.landed(submit(outbox, 0, 2))
    submit(outbox, 1, 3)
    outbox.seen([6])
    outbox.bury([7], "x")
    assert +Outbox(url).counts == +outbox.counts
    assert {state.text: count for state, count in outbox.counts.items()} == {
        "promised": 2, "submitted": 3, "final": 3, "dead": 1,
    }  # fmt: skip


def test_an_outbox_belongs_to_one_board(outbox: Outbox) -> None:
    outbox.bind({"contract": "aa", "chain": "1"})
    outbox.bind({"contract": "aa", "chain": "1"})
    with pytest.raises(OutboxError, match="contract aa, not bb"):
        outbox.bind({"contract": "bb", "chain": "1"})


@pytest.mark.parametrize("url", ["nonsense", "nonsense://x", "sqlite:////no/such/folder/outbox.db"])
def test_a_database_that_cannot_be_used_is_one_clear_error(url: str) -> None:
    with pytest.raises(OutboxError):
        Outbox(url)


def test_a_file_that_is_no_database_is_one_clear_error(file: Path) -> None:
    file.write_bytes(b"not a database at all, but long enough to be looked at" * 100)
    with pytest.raises(OutboxError, match="cannot be opened"):
        Outbox(f"sqlite:///{file}")


def test_what_a_credential_has_sent_is_known_after_reopening_too(url: str, outbox: Outbox) -> None:
    first, second, other = (Ballot(os.urandom(32), b"x", index, seen) for index, seen in ((3, 7), (3, 5), (9, 1)))
    outbox.promise([first, second, other], 1000, 1060, HEAD)
    for box in (outbox, Outbox(url)):
        known, newest = box.earlier([first.hash, bytes(32)], [3, 4])
        assert first.hash in known and bytes(32) not in known and newest == {3: 7}
        assert (box.attempts(3), box.attempts(4), box.attempts(9)) == (2, 0, 1)


def test_a_record_is_stored_once_and_carried_with_its_state(outbox: Outbox) -> None:
    digest = os.urandom(32)
    outbox.accept(b"call", digest, 1000)
    outbox.accept(b"call", digest, 1001)
    assert outbox.records_waiting() == 1 and outbox.record(digest) == (State.PROMISED, None, "")
    with outbox.claim_record() as claim:
        assert (claim.record.hash, claim.record.call) == (digest, b"call")
        batch = claim.submit(ACCOUNT, 3, b"raw", b"h" * 32)
    assert outbox.record(digest) == (State.SUBMITTED, b"h" * 32, "") and outbox.records_waiting() == 0
    assert outbox.reverted(batch)
    assert outbox.records_waiting() == 1
    with outbox.claim_record() as claim:
        outbox.landed(claim.submit(ACCOUNT, 4, b"raw", b"i" * 32))
    assert outbox.record(digest) == (State.FINAL, b"i" * 32, "") and outbox.depth == 0
    assert outbox.record(bytes(32)) is None


def test_a_record_that_the_board_refuses_is_kept_with_its_reason(outbox: Outbox) -> None:
    digest = os.urandom(32)
    outbox.accept(b"call", digest, 1000)
    with outbox.claim_record() as claim:
        number = claim.record.id
    outbox.bury_record(number, "too early")
    assert outbox.record(digest) == (State.DEAD, None, "too early") and outbox.dead_records() == [(digest, "too early")]


# ---- several processes on one PostgreSQL database


@pytest.mark.e2e
def test_what_one_has_claimed_no_other_can_claim_until_it_lets_go(database: str) -> None:
    here, there = Outbox(database), Outbox(database)
    rows = ballots(5)
    here.promise(rows, 1000, 1060, HEAD)
    with here.claim(10**9, 1) as mine:
        with there.claim(10**9, 10) as others:
            assert not {b.hash for b in mine.ballots} & {b.hash for b in others.ballots}
            batch = others.submit(ACCOUNT, 0, 0, b"raw", b"h" * 32)
    assert mine.ballots[0].hash in waiting_hashes(there)
    assert batch.count + len(waiting_hashes(here)) == len(rows)


@pytest.mark.e2e
def test_of_one_ballot_at_two_processes_one_stores_it(database: str) -> None:
    here, there = Outbox(database), Outbox(database)
    rows = ballots(3)
    assert here.promise(rows[:2], 1000, 1060, HEAD) == {rows[0].hash, rows[1].hash}
    assert there.promise(rows[1:], 1000, 1060, HEAD) == {rows[2].hash}
    there.recount()
    assert there.depth == 3


@pytest.mark.e2e
def test_a_batch_ends_once_whoever_finds_out(database: str) -> None:
    here, there = Outbox(database), Outbox(database)
    here.promise(ballots(2), 1000, 1060, HEAD)
    batch = submit(here)
    [same] = there.in_flight()
    assert there.landed(same) and not here.reverted(batch) and not here.landed(batch)


@pytest.mark.e2e
def test_two_that_start_at_once_on_an_empty_database_make_it_once(database: str) -> None:
    with ThreadPoolExecutor(2) as pool:
        assert [box.depth for box in pool.map(Outbox, [database] * 2)] == [0, 0]


def test_a_password_is_in_no_error() -> None:
    with pytest.raises(OutboxError) as raised:
        Outbox("mysql+nothing://user:secret@host/name")
    assert "secret" not in str(raised.value)
