"""The counted set and the result computed from the database, as the verifier computes them: ballots as columns, bodies read when they are added up.

What the engine says of each ballot is in the database already; what is left is counting, the encrypted sums, and the trustees' parts.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from itertools import groupby

from bulletin.store import Reading
from protocol.election import LogRecord
from protocol.manifest import Manifest
from protocol.records import MAX_BODY, Kind, pack_bodies
from verifier.case import Case
from verifier.claims import Claims
from verifier.log import MEMORY, Log, Run, StoredRecords


class Recount(Case):
    """The verifier's case about the log of `tx`, which must stay open while it is asked."""

    def __init__(self, tx: Reading, manifest: Manifest, contract: bytes, attachments: Mapping[bytes, bytes]) -> None:
        log, self._reasons = _columns(tx)
        super().__init__(Claims(manifest.chain_id, contract, b"", b"", StoredRecords(log), [], tx.head(), attachments))

    @cached_property
    def reasons(self) -> bytearray:
        return self._reasons[: self.votes]


def _columns(tx: Reading) -> tuple[Log, bytearray]:
    """The log, and the engine's answer for each ballot: 0 where there is no body, which nobody counts."""
    held: dict[int, int] = {}  # first position of a run → ballots
    log = Log(lambda first, _: pack_bodies([body or b"" for body in tx.bodies(first, held[first])]), MEMORY)
    reasons = bytearray()
    for (is_ballot, *_), group in groupby(tx.answered(), _run):
        records, answers = zip(*group, strict=True)
        log.size += len(records)
        if not is_ballot:
            log.order += records
            continue
        if any(record.body is not None and answer is None for record, answer in zip(records, answers, strict=True)):
            raise RuntimeError("a ballot that nobody has looked at would count: this is a defect of the board")
        first, start = records[0], len(reasons)
        entries = [record.entry.encode() for record in records]
        packed = pack_bodies([record.body or b"" for record in records])
        held[first.position] = len(records)
        part = (len(records), first.position, len(packed))
        log.order.append(Run(first.position, len(records), start, entries[0][:8], first.number, [part]))
        log.ballots.missing.update(start + i for i, record in enumerate(records) if record.body is None)
        log.ballots.add(first.position, len(records), b"".join(entries), packed)
        reasons += bytes([answer or 0 for answer in answers])
    log.ballots.freeze()
    return log, reasons


def _run(answered: tuple[LogRecord, int | None]) -> tuple[bool, int, int, int]:
    """Alike for ballots that one role appended in one block. One of no bytes, or of more than a record has, is no ballot to the verifier."""
    record, _ = answered
    entry, body = record.entry, record.body
    is_ballot = entry.kind == Kind.BALLOT and (body is None or 1 <= len(body) <= MAX_BODY)
    return is_ballot, entry.time, entry.role, record.number
