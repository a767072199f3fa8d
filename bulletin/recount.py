"""The counted set and the result computed from the database, as the verifier computes them: ballots as columns, bodies read when they are added up.

What the engine says of each ballot is in the database already; what is left is counting, the encrypted sums, and the trustees' parts.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from itertools import groupby
from typing import Any

from bulletin.store import Reading
from protocol.election import LogRecord
from protocol.manifest import Manifest
from protocol.records import MAX_BODY, Entry, Kind, pack_bodies
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
        rows = list(group)
        log.size += len(rows)
        if not is_ballot:
            log.order += [
                LogRecord(
                    row.position, Entry(row.kind, row.time, row.role, row.hash), row.body, row.number, row.signatures
                )
                for row in rows
            ]
            continue
        row, start = rows[0], len(reasons)
        head = Entry(row.kind, row.time, row.role, row.hash).encode()[:8]
        packed = pack_bodies([row.body or b"" for row in rows])
        held[row.position] = len(rows)
        log.order.append(
            Run(row.position, len(rows), start, head, row.number, [(len(rows), row.position, len(packed))])
        )
        log.ballots.missing.update(start + i for i, row in enumerate(rows) if row.body is None)
        log.ballots.add(row.position, len(rows), b"".join([head + row.hash for row in rows]), packed)
        reasons += bytes([row.reason or 0 for row in rows])
    log.ballots.freeze()
    return log, reasons


def _run(row: Any) -> tuple[bool, int, int, int]:
    """Alike for ballots that one role appended in one block. One of no bytes, or of more than a record has, is no ballot to the verifier."""
    is_ballot = row.kind == Kind.BALLOT and (row.body is None or 1 <= len(row.body) <= MAX_BODY)
    return is_ballot, row.time, row.role, row.number
