"""A board's database from an election that was held in memory (tests/tamper/builder.py): its records as the events of a chain."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

from bulletin.replica import Replica
from bulletin.store import Cursor, Store
from chain.reader import Ballots, Batch
from protocol.records import Kind
from tests.tamper import builder
from tests.tamper.builder import Election


def block_hash(number: int) -> bytes:
    return hashlib.sha256(b"block %d" % number).digest()


def events(held: Election) -> list[Batch]:
    """One event, in a block of its own, for each of the board's calls."""
    claims = held.claims()
    found, first = [], 0
    for number, (size, root) in enumerate(claims.roots):
        transaction = hashlib.sha256(b"transaction %d" % number).digest()
        found.append(Batch(first, claims.records[first:size], root, number, block_hash(number), transaction))
        first = size
    return found


def in_calls(event: Batch) -> Batch:
    """The event as a reader gives it: ballots as they stand in the call."""
    first = event.records[0]
    if first.kind != Kind.BALLOT:
        return event
    return replace(event, records=Ballots(event.first, event.entries, event.packed or b"", first.number))


def cursor(after: Batch) -> Cursor:
    return Cursor(after.block_number, after.block_hash, after.records[-1].entry.time)


def replica(folder: Path, held: Election, name: str = "board", at_once: int = 1000) -> Replica:
    """A copy that has taken in the whole election, `at_once` events at a time."""
    copy = Replica(Store(f"sqlite:///{folder / name}.sqlite"), held.manifest, builder.CONTRACT)
    copy.attach(held.files)
    feed(copy, events(held), at_once)
    return copy


def feed(copy: Replica, found: list[Batch], at_once: int = 1000) -> None:
    for start in range(0, len(found), at_once):
        part = found[start : start + at_once]
        copy.append(part, cursor(part[-1]))
        copy.derive()
