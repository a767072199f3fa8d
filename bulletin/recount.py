"""The counted set and the result computed from the database, as the verifier computes them: ballots as columns, bodies read when they are added up.

What the engine says of each ballot is in the database already; what is left is counting, the encrypted sums, and the trustees' parts.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from functools import cached_property
from itertools import groupby

from bulletin.store import Answered, Reading
from protocol.encoding import u16, u40
from protocol.manifest import Manifest
from protocol.records import MAX_BODY, Kind, pack_bodies
from verifier.case import Case
from verifier.claims import Claims
from verifier.log import MEMORY, Log, Run, StoredRecords

AT_ONCE = 65_536
"""Records read at a time: some 40 MB."""


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
    log = Log(lambda first, _: pack_bodies(body or b"" for *_, body in tx.bodies(first, first + held[first])), MEMORY)
    reasons, end = bytearray(), tx.head().size
    records = (record for start in range(0, end, AT_ONCE) for record in tx.answered(start, min(start + AT_ONCE, end)))
    for run, group in groupby(records, _run):
        found = list(group)
        log.size += len(found)
        if run is None:
            log.order += [record for one in found if (record := tx.record(one.position))]
            continue
        positions, _, _, _, _, hashes, lengths, rows, seen, answers = zip(*found, strict=True)
        if any(
            row is None or (answer is None) is not (length is None)
            for row, answer, length in zip(rows, answers, lengths, strict=True)
        ):
            raise RuntimeError("a ballot that nobody has looked at would count: this is a defect of the board")
        first, start, (time, role, number) = positions[0], len(reasons), run
        head = bytes([Kind.BALLOT]) + u40(time) + u16(role)
        held[first] = len(found)
        size = sum(length or 0 for length in lengths)
        log.order.append(Run(first, len(found), start, head, number, [(len(found), first, size + 2 * len(found))]))
        log.ballots.missing.update(start + i for i, length in enumerate(lengths) if length is None)
        entries = b"".join([head + digest for digest in hashes])
        log.ballots.add_known(first, entries, array("I", rows), array("Q", seen), size)
        reasons += bytes([answer or 0 for answer in answers])
    log.ballots.freeze()
    return log, reasons


def _run(record: Answered) -> tuple[int, int, int] | None:
    """Alike for ballots that one role appended in one block. One of no bytes, or of more than a record has, is no ballot to the verifier."""
    if record.kind != Kind.BALLOT or not (record.length is None or 1 <= record.length <= MAX_BODY):
        return None
    return record.time, record.role, record.number
