"""Archives of the elections in memory (tests/tamper/builder.py), as the recorder would have made them from a chain.

`python -m tests.verifier.archives` writes the one that is kept of the present version, once for each release (docs/verifying.md).
"""

from __future__ import annotations

import io
import json
import sys
import tomllib
from itertools import pairwise
from pathlib import Path

from chain.reader import Batch
from tests.tamper.builder import COUNTED_TOTALS, PAPER_TOTALS
from tests.tamper.recipes import honest
from verifier.claims import Claims
from verifier.run import verify_tally
from verifier.stored import ArchiveSource, Recorder

ROOT = Path(__file__).resolve().parents[2]
RELEASES = ROOT / "tests" / "data" / "archives"
"""One archive of every released version, each with what must be found in it."""


def this_version() -> str:
    return "v" + tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


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


def findings(path: Path, election: str) -> dict[str, object]:
    """What this verifier finds in a kept archive: record, report, the state that verifiers certify, totals. Fails unless it is verified."""
    source = ArchiveSource(path)
    report = verify_tally(source, bytes.fromhex(election))
    assert report.verdict == "verified", report.text()
    return {
        "election": report.value["election"], "record": source.record_digest.hex(), "report": report.sha256, "state": report.value["state"],
        "totals": {contest["id"]: contest["total"] for contest in report.value["contests"]},
    }  # fmt: skip


def release(path: Path) -> None:
    """Write an archive and, beside it, what must be found in it. The totals are those of the votes that went in, not the verifier's."""
    found = honest()
    with path.open("xb") as file:
        file.write(archive_of(found.claims()))
    totals = {
        name: [a + b for a, b in zip(COUNTED_TOTALS[name], PAPER_TOTALS[name], strict=True)] for name in COUNTED_TOTALS
    }
    expected = {**findings(path, found.manifest.election_id.hex()), "totals": totals}
    path.with_suffix(".json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    try:
        release(RELEASES / f"{this_version()}.archive")
    except FileExistsError:
        sys.exit(f"the archive of {this_version()} is kept as it is: set a new version in pyproject.toml first")
