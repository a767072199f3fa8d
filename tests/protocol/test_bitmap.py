"""The bitmap of a settlement in hash mode, and what the settlement fixes by it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.attachments import Bitmap
from protocol.election import LogRecord, MissingAttachment, MissingBodies, settled_records
from protocol.errors import Malformed
from protocol.manifest import Manifest
from protocol.records import ANYONE, Entry, Kind, LogHead, Settlement, ballot_hash
from tests.protocol.test_documents import MANIFEST

BODIES = [b"ballot %d" % number for number in range(5)]
SIZE = 7
"""Manifest, five ballots, close; the settlement is at position 7."""


@given(st.sets(st.integers(0, 199)), st.integers(200, 300))
def test_a_bitmap_reads_back_what_it_was_made_of(held: set[int], size: int) -> None:
    bitmap = Bitmap.of(size, held)
    again = Bitmap.parse(bitmap.data, size)
    assert {position for position in range(size + 16) if position in again} == held
    assert len(again) == len(held)


@pytest.mark.parametrize(
    "data", [b"", b"\x00\x00", b"\x80"], ids=["too short", "too long", "a bit after the last position"]
)
def test_a_bitmap_of_another_length_is_refused(data: bytes) -> None:
    with pytest.raises(Malformed, match="bitmap"):
        Bitmap.parse(data, 7)


def test_its_bits_are_where_the_specification_has_them() -> None:
    assert Bitmap.of(10, [0, 2, 9]).data == bytes([0b101, 0b10])


@pytest.fixture
def manifest() -> Manifest:
    return replace(MANIFEST, body_mode="hash")


def log(bitmap: Bitmap, held: set[int]) -> list[LogRecord]:
    """A log whose settlement names this bitmap, as one who has the bodies of the ballots `held` (1 … 5) sees it."""

    def record(position: int, kind: Kind, body: bytes, has: bool = True) -> LogRecord:
        return LogRecord(position, Entry(kind, 100, ANYONE, ballot_hash(body)), body if has else None)

    ballots = [record(n, Kind.BALLOT, body, n in held) for n, body in enumerate(BODIES, 1)]
    settlement = Settlement(LogHead(SIZE, bytes(32)), bitmap.sha256).body()
    return [
        record(0, Kind.MANIFEST, b"manifest"), *ballots, record(6, Kind.CLOSE, b"close"),
        record(7, Kind.SETTLEMENT, settlement), record(8, Kind.RESULT, b"result"),
    ]  # fmt: skip


def fixed(manifest: Manifest, bitmap: Bitmap, held: set[int]) -> list[bytes | None]:
    records = settled_records(manifest, log(bitmap, held), {bitmap.sha256: bitmap.data})
    assert [record.position for record in records] == list(range(SIZE))
    return [record.body for record in records[1:6]]


def test_every_body_that_is_attested_is_counted(manifest: Manifest) -> None:
    assert fixed(manifest, Bitmap.of(SIZE, range(1, 6)), {1, 2, 3, 4, 5}) == BODIES


def test_a_body_outside_the_bitmap_is_void_even_for_those_who_have_it(manifest: Manifest) -> None:
    bitmap = Bitmap.of(SIZE, [1, 3])
    seen = [fixed(manifest, bitmap, held) for held in ({1, 3}, {1, 2, 3, 4, 5})]
    assert seen == [[BODIES[0], None, BODIES[2], None, None]] * 2


def test_a_body_that_was_attested_and_is_missing_stops_the_count_by_name(manifest: Manifest) -> None:
    bitmap = Bitmap.of(SIZE, [1, 2, 4])
    with pytest.raises(MissingBodies, match="2 ballots") as missing:
        fixed(manifest, bitmap, {1})
    assert missing.value.positions == [2, 4]


def test_a_bitmap_that_speaks_of_other_records_is_refused(manifest: Manifest) -> None:
    with pytest.raises(Malformed, match="no ballots"):
        fixed(manifest, Bitmap.of(SIZE, [1, 6]), {1})


def test_without_the_bitmap_nothing_is_counted(manifest: Manifest) -> None:
    with pytest.raises(MissingAttachment, match="bitmap"):
        settled_records(manifest, log(Bitmap.of(SIZE, [1]), {1}), {})
