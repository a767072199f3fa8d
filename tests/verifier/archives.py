"""Archives of the elections in memory (tests/tamper/builder.py), as the recorder would have made them from a chain."""

from __future__ import annotations

import io
import json
from itertools import pairwise
from pathlib import Path

from chain.reader import Batch
from tests.tamper.builder import COUNTED_TOTALS, PAPER_TOTALS
from tests.tamper.recipes import honest
from verifier.claims import Claims
from verifier.stored import Recorder


def batches(claims: Claims) -> list[Batch]:
    """One for each event: they end where the announced roots stand. Each time of the chain is a block."""
    ends = [0, *(size for size, _ in claims.roots)]
    roots = dict(claims.roots)
    times = sorted({record.entry.time for record in claims.records})
    found = []
    for first, end in pairwise(ends):
        records = list(claims.records[first:end])
        time = records[0].entry.time
        found.append(Batch(first, records, roots[end], times.index(time), bytes(31) + bytes([times.index(time)]), b""))
    return found


def archive_of(claims: Claims) -> bytes:
    file = io.BytesIO()
    recorder = Recorder(file, claims.chain_id, claims.contract, claims.creation, claims.runtime_code)
    for batch in batches(claims):
        recorder.batch(batch)
    recorder.finish(claims.head, dict(claims.attachments), claims.evidence)
    return file.getvalue()


def release(folder: Path, version: str) -> None:
    """Write the archive that is kept of a version, and what must be found in it.

    `python -c "from tests.verifier.archives import release; release('tests/data/archives', 'v0.2.0')"`, once for each release.
    """
    found = honest()
    data = archive_of(found.claims())
    Path(folder, f"{version}.archive").write_bytes(data)
    totals = {
        name: [a + b for a, b in zip(COUNTED_TOTALS[name], PAPER_TOTALS[name], strict=True)] for name in COUNTED_TOTALS
    }
    expected = {"election": found.manifest.election_id.hex(), "record": data[-64:-32].hex(), "totals": totals}
    Path(folder, f"{version}.json").write_text(json.dumps(expected, indent=1) + "\n")
