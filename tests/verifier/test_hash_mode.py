"""Hash mode where the tamper corpus does not go: archives of it, what becomes of each ballot, and the time before the settlement.

Each way to cheat is in tests/tamper/hash_mode.py.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from protocol.counting import NO_ROW, Status
from tests.tamper.builder import OUTSIDE, MemorySource
from tests.tamper.hash_mode import HELD, held, honest
from tests.verifier.archives import archive_of
from verifier.case import Case
from verifier.checks import CHECKS, run
from verifier.claims import Claims
from verifier.run import verify_tally
from verifier.stored import ArchiveSource
from verifier.watch import look


def without(claims: Claims, *positions: int) -> Claims:
    """The same where these bodies are not to be had."""
    records = [replace(r, body=None) if r.position in positions else r for r in claims.records]
    return replace(claims, records=records)


def test_a_ballot_outside_the_bitmap_counts_for_nothing_whoever_has_its_body(tmp_path: Path) -> None:
    found = honest()
    lost = found.position(OUTSIDE)
    reports = []
    for claims in (found.claims(), without(found.claims(), lost)):
        report = verify_tally(MemorySource(claims), found.manifest.election_id)
        assert report.verdict == "verified", report.text()
        reports.append(report.value)
        case = Case(claims)
        [row] = [row for row in case.counted.rows if row.status == Status.NOT_HELD]
        assert (row.position, row.roll_index, row.reference) == (lost, NO_ROW, 0)
        assert case.counted.root() == found.settled().counted.root()
        (tmp_path / "a").write_bytes(archive_of(claims))
        archived = verify_tally(ArchiveSource(tmp_path / "a"), found.manifest.election_id)
        assert archived.verdict == "verified", archived.text()
    assert [report["attempts"][Status.NOT_HELD.text] for report in reports] == [1, 1]
    c02 = next(check for check in reports[1]["checks"] if check["id"] == "C02")
    assert c02["positions"] == [lost] and f"1 ballots are not held and count for nothing: {lost}" in c02["detail"]


def test_before_the_settlement_nobody_has_signed_for_a_body() -> None:
    found = held("close")
    claims = without(found.claims(), found.position(OUTSIDE), found.position(HELD))
    [result] = run(Case(claims), [CHECKS["C02"]])
    assert result.outcome == "pass" and "2 ballots are not to be had yet" in result.detail
    assert look(Case(claims), None)[0].ok
