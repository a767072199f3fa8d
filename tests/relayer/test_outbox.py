import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from protocol.records import LogHead
from relayer.outbox import Outbox, OutboxError, State

HEAD = LogHead(7, bytes(range(32)))


def bodies(count: int, size: int = 100) -> list[tuple[bytes, bytes, int]]:
    """(hash, body, roll index): the outbox does not look into any of them."""
    return [(os.urandom(32), os.urandom(size), index) for index in range(count)]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "outbox.db"


@pytest.fixture
def outbox(file: Path) -> Iterator[Outbox]:
    box = Outbox(f"sqlite:///{file}")
    yield box
    box.close()


def waiting_hashes(outbox: Outbox) -> list[bytes]:
    return [ballot.hash for ballot in outbox.waiting(10**9, 10**6)[0]]


def submit(outbox: Outbox, sequence: int = 0, count: int = 10**6) -> int:
    ids = [ballot.id for ballot in outbox.waiting(10**9, count)[0]]
    return outbox.submit(sequence, 40 + sequence, b"raw", os.urandom(32), ids).id


def test_what_was_promised_is_there_after_reopening_with_what_the_promise_said(file: Path, outbox: Outbox) -> None:
    rows = bodies(3)
    outbox.promise(rows, 1000, 1060, HEAD)
    outbox.engine.dispose()
    again = Outbox(f"sqlite:///{file}")
    found = again.find([rows[1][0]])[rows[1][0]]
    assert (found.state, found.by, found.head, found.roll_index) == (State.PROMISED, 1060, HEAD, 1)
    assert again.depth == 3 and again.oldest() == 1000
    assert [(w.hash, w.body, w.roll_index) for w in again.waiting(10**9, 10**6)[0]] == rows


def test_every_commit_is_synced(outbox: Outbox) -> None:
    with outbox.engine.connect() as connection:
        assert connection.scalar(sa.text("PRAGMA synchronous")) == 2
        assert connection.scalar(sa.text("PRAGMA journal_mode")) == "wal"


def test_a_hash_is_stored_once_and_a_group_with_a_repetition_not_at_all(outbox: Outbox) -> None:
    rows = bodies(2)
    outbox.promise(rows[:1], 1000, 1060, HEAD)
    with pytest.raises(sa.exc.IntegrityError):
        outbox.promise([rows[1], rows[0]], 1000, 1060, HEAD)
    assert waiting_hashes(outbox) == [rows[0][0]] and outbox.depth == 1


def test_waiting_gives_the_oldest_that_fit_with_two_bytes_each(outbox: Outbox) -> None:
    rows = bodies(5)
    outbox.promise(rows, 1000, 1060, HEAD)
    taken, more = outbox.waiting(3 * 102, 10)
    assert [ballot.hash for ballot in taken] == [row[0] for row in rows[:3]] and more
    taken, more = outbox.waiting(3 * 102 - 1, 10)
    assert len(taken) == 2 and more
    assert [len(outbox.waiting(10**6, count)[0]) for count in (4, 5, 6)] == [4, 5, 5]
    assert [outbox.waiting(10**6, count)[1] for count in (4, 5, 6)] == [True, False, False]


def test_a_batch_is_kept_as_signed_until_it_lands(file: Path, outbox: Outbox) -> None:
    outbox.promise(bodies(3), 1000, 1060, HEAD)
    ids = [ballot.id for ballot in outbox.waiting(10**9, 2)[0]]
    outbox.submit(4, 9, b"signed bytes", b"h" * 32, ids)
    [batch] = Outbox(f"sqlite:///{file}").in_flight()
    assert (batch.sequence, batch.nonce, batch.raw, batch.hash, batch.count) == (4, 9, b"signed bytes", b"h" * 32, 2)
    assert outbox.counts[State.SUBMITTED] == 2 and outbox.counts[State.PROMISED] == 1
    outbox.landed(batch.id, [(ids[0], 71), (ids[1], 70)])
    assert outbox.in_flight() == [] and outbox.counts[State.FINAL] == 2


def test_ballots_of_a_reverted_batch_wait_at_their_old_place(outbox: Outbox) -> None:
    rows = bodies(4)
    outbox.promise(rows, 1000, 1060, HEAD)
    batch = submit(outbox, count=2)
    assert waiting_hashes(outbox) == [row[0] for row in rows[2:]]
    outbox.reverted(batch)
    assert waiting_hashes(outbox) == [row[0] for row in rows]
    assert outbox.in_flight() == [] and outbox.counts[State.PROMISED] == 4


def test_dead_letters_have_a_reason_and_can_wait_again(outbox: Outbox) -> None:
    rows = bodies(3)
    outbox.promise(rows, 1000, 1060, HEAD)
    first = outbox.waiting(10**9, 1)[0][0]
    assert outbox.bury([first.id], "too late") == 1
    [dead] = outbox.dead()
    assert (dead.hash, dead.reason, dead.state) == (rows[0][0], "too late", State.DEAD)
    assert outbox.depth == 2 and waiting_hashes(outbox) == [row[0] for row in rows[1:]]
    assert outbox.revive() == 1
    assert outbox.dead() == [] and waiting_hashes(outbox) == [row[0] for row in rows]


def test_burying_all_leaves_what_is_in_flight(outbox: Outbox) -> None:
    outbox.promise(bodies(3), 1000, 1060, HEAD)
    submit(outbox, count=1)
    assert outbox.bury(None, "closed") == 2
    assert (outbox.counts[State.SUBMITTED], outbox.counts[State.DEAD]) == (1, 2)


def test_counts_after_reopening_are_those_kept_in_memory(file: Path, outbox: Outbox) -> None:
    outbox.promise(bodies(9), 1000, 1060, HEAD)
    outbox.landed(submit(outbox, 0, 2), [(1, 5), (2, 6)])
    submit(outbox, 1, 3)
    outbox.seen([(6, 12)])
    outbox.bury([7], "x")
    assert +Outbox(f"sqlite:///{file}").counts == +outbox.counts
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
