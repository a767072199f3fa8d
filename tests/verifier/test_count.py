"""Columns give what the reference gives: the counted set, the sums, the roots, on random logs."""

from __future__ import annotations

import random
from mmap import mmap
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol import counting, election, engine, merkle
from protocol.attachments import Roll, Station, roll_row
from protocol.ballot import Reason
from protocol.counting import RollState
from protocol.election import LogRecord
from protocol.encoding import u32, u64
from protocol.errors import Malformed
from protocol.group import base
from protocol.records import CheckIns, Entry, Kind, ballot_hash
from tests.tamper.recipes import honest
from tests.verifier.archives import archive_of
from verifier import count, log
from verifier.case import Case
from verifier.log import Log, Run
from verifier.stored import ArchiveSource

ROWS = 6


def body(row: int, seen: int, salt: int) -> bytes:
    """A ballot as far as counting reads one; a third of them have another length, which is the slow way."""
    return b"\x01" + u32(row) + u64(seen) + bytes([salt]) * (20 + salt % 3 // 2)


ballots = st.lists(
    st.tuples(
        st.integers(0, ROWS - 1),
        st.integers(0, 40),
        st.integers(0, 3),
        st.sampled_from([0, 0, 0, 0, 6, 7]),
        st.booleans(),
    ),
    max_size=30,
)
entries = st.lists(st.tuples(st.integers(0, 1), st.integers(0, ROWS + 1), st.integers(0, 9)), max_size=6)


@settings(max_examples=200, deadline=None)
@given(
    ballots,
    entries,
    st.sets(st.integers(0, ROWS - 1), max_size=2),
    st.sampled_from(["last", "first"]),
    st.booleans(),
    st.booleans(),
)
def test_the_counted_set_is_the_reference_s(
    cast: list[tuple[int, int, int, int, bool]], papers: list[tuple[int, int, int]], revoked: set[int], revote: str,
    paper_first: bool, blind: bool,
) -> None:  # fmt: skip
    records, reasons = [], bytearray()
    for i, (row, seen, salt, reason, held) in enumerate(cast):
        found = body(row, seen, salt) if salt != 3 or not reason else b"junk"
        records.append(
            LogRecord(i, Entry(Kind.BALLOT, i // 4, 0, ballot_hash(found)), found if held or i % 5 else None)
        )
        reasons.append(0 if blind else reason)
    roll = Roll(b"".join(roll_row(base(row + 1), row % 2) for row in range(ROWS)), [0, 0])
    state = RollState(roll, {row: 100 + row for row in revoked}, [])
    stations = [Station(n, n, (), "") for n in (0, 1)]
    check_ins = [(50 + i, CheckIns(station, i, ((row, time),))) for i, (station, row, time) in enumerate(papers)]
    channel = "paper-precedence" if paper_first else "online-precedence"
    facts = [election.ballot_fact(record, Reason(reason)) for record, reason in zip(records, reasons, strict=True)]
    expected = counting.count(state, facts, check_ins, stations, revote, channel)

    found = Log.of(records)
    rules = count.Rules(state, check_ins, stations, revote, channel)
    columns = count.count(found.ballots, reasons, rules, found.ballots.missing)
    assert list(columns.rows) == expected.rows
    assert columns.root() == expected.root()
    assert list(columns.counted()) == list(expected.counted())
    assert columns.total() == expected.total()
    assert (columns.conflicts, columns.check_ins, columns.void_check_ins) == (
        expected.conflicts, expected.check_ins, expected.void_check_ins,
    )  # fmt: skip


def test_columns_larger_than_their_limit_are_in_files_and_say_the_same(tmp_path: Path) -> None:
    path = tmp_path / "election.archive"
    path.write_bytes(archive_of(honest().claims()))
    found = Case(ArchiveSource(path, memory=16).read())
    assert isinstance(found.log.ballots.entries.obj, mmap) and isinstance(found.counted.reference.obj, mmap)
    expected = Case(ArchiveSource(path).read())
    assert isinstance(expected.log.ballots.entries.obj, bytearray)
    assert list(found.settled.counted.rows) == list(expected.settled.counted.rows)
    assert found.settled.groups == expected.settled.groups
    assert list(found.claims.records) == list(expected.claims.records)


def test_the_sums_are_the_reference_s() -> None:
    assert Case(honest().claims()).settled.groups == honest().settled().groups


def test_the_same_hash_is_found_however_many_buckets_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    bodies = [body(i % 7, 0, i % 11) for i in range(200)]
    records = [LogRecord(i, Entry(Kind.BALLOT, 0, 0, ballot_hash(b)), b) for i, b in enumerate(bodies)]
    expected = {i: bodies.index(b) for i, b in enumerate(bodies) if bodies.index(b) != i}
    for bucket in (2**20, 16, 1):
        monkeypatch.setattr(count, "BUCKET", bucket)
        assert count.duplicates(Log.of(records).ballots, 200) == expected
        assert count.duplicates(Log.of(records).ballots, 80) == {i: j for i, j in expected.items() if i < 80}


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([0, 4, 4, 4, 13]), st.integers(0, 2)), max_size=40), st.lists(st.integers(0, 45))
)
def test_the_roots_are_those_of_the_entries(kinds: list[tuple[int, int]], sizes: list[int]) -> None:
    records = [
        LogRecord(i, Entry(kind, time, 7, ballot_hash(b"x%d" % i)), b"x%d" % i) for i, (kind, time) in enumerate(kinds)
    ]
    found = Log.of(records)
    leaves = [record.entry.leaf() for record in records]
    assert found.find_roots(sizes) == {size: merkle.root(leaves[:size]) for size in sizes if size <= len(records)}
    assert sum(len(log.positions(item)) for item in found.order) == len(records) == found.size
    for item in found.order:
        assert isinstance(item, Run) == (item.kind == Kind.BALLOT if isinstance(item, LogRecord) else True)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 70), st.lists(st.integers(1, 33), max_size=6))
def test_a_tree_that_grows_by_subtrees_is_the_tree_that_grows_by_leaves(first: int, parts: list[int]) -> None:
    one, other = merkle.Frontier(), merkle.Frontier()
    number = 0
    for part in [first, *parts]:
        leaves = [merkle.leaf_hash(b"%d" % (number + i)) for i in range(part)]
        number += part
        one.extend(leaves)
        engine.extend(other, b"".join(leaves))
        assert (one.size, one.peaks, one.root()) == (other.size, other.peaks, other.root())


@pytest.mark.parametrize("with_native", [True, False])
def test_a_roll_with_one_thing_wrong_is_refused_by_its_row(with_native: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not with_native:
        monkeypatch.setattr(engine, "native", None)
    monkeypatch.setattr("protocol.attachments.ROWS_AT_ONCE", 3)
    keys = sorted(base(i + 1) for i in range(8))
    rows = [(key, 0) for key in keys[:5]] + [(key, 1) for key in keys[5:]]

    def check(rows: list[tuple[bytes, int]]) -> None:
        Roll(b"".join(roll_row(*row) for row in rows), [0, 0, -1]).check(engine.are_points)

    check(rows)
    swapped = [rows[0], rows[2], rows[1], *rows[3:]]
    for wrong, row, why in (
        (swapped, 2, "ascending"),
        ([*rows[:3], rows[2], *rows[3:]], 3, "ascending"),
        ([*rows[:5], (keys[5], 0), (keys[5], 1), *rows[6:]], 6, "repeats a key"),
        ([*rows[:7], (keys[7], 2)], 7, "where people vote"),
        ([*rows[:7], (b"\xff" * 32, 1)], 7, "no point"),
        ([(bytes(32), 0), *rows], 0, "no point"),
    ):
        with pytest.raises(Malformed, match=why) as refused:
            check(wrong)
        assert f"roll[{row}]" in str(refused.value)


def test_bodies_are_cut_in_chunks_that_together_are_all_of_them() -> None:
    rng = random.Random(1)
    records = [
        LogRecord(i, Entry(rng.choice([4, 4, 4, 13]), i // 3, 0, ballot_hash(b"b%d" % i)), b"b%d" % i)
        for i in range(60)
    ]
    found = Log.of(records)
    bodies = [r.body for r in records if r.kind == Kind.BALLOT]
    for end in (0, 1, 17, len(bodies)):
        for size in (1, 4, 1000):
            chunks = list(found.chunks(end, size, 2**20))
            assert [chunk.first for chunk in chunks] == [sum(c.count for c in chunks[:i]) for i in range(len(chunks))]
            packed = b"".join(found.bodies(chunk) for chunk in chunks)
            assert log.unpack_bodies(packed) == bodies[:end]
    assert found.some([0, 5, 6, 20]) == [bodies[i] for i in (0, 5, 6, 20)]


def test_numbers_are_read_as_the_bodies_say_them() -> None:
    bodies = [body(5, 2**40 + 1, 0), body(2**32 - 2, 7, 1), b"\x02" + bytes(30), b"\x01short"]
    records = [LogRecord(i, Entry(Kind.BALLOT, 0, 0, ballot_hash(b)), b) for i, b in enumerate(bodies)]
    columns = Log.of(records).ballots
    assert list(zip(columns.rows, columns.seen, strict=True)) == [log.header(b) for b in bodies]
    together = log.Ballots(2**20)
    together.add(0, 2, bytes(80), log.pack_bodies([bodies[0], bodies[0]]))
    together.freeze()
    assert list(together.rows) == [5, 5] and list(together.seen) == [2**40 + 1] * 2
    assert list(together.positions) == [0, 1]
