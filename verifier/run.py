"""The two runs of the verifier: the setup before the poll opens, and everything after the result."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from verifier import checks
from verifier.ballots import Work
from verifier.case import Case
from verifier.claims import Progress, Source, silent
from verifier.report import Report, make_report


def verify_tally(
    source: Source,
    election_id: bytes | None = None,
    progress: Progress = silent,
    processes: int = 0,
    promises: Sequence[Any] | None = None,
    work: Work | None = None,
    setup_report: dict[str, Any] | None = None,
) -> Report:
    """Every check. `promises` are signed promises as JSON values; `processes` 0 means all cores, and `work` says more; `setup_report` is the
    object that an earlier `verify config --json` printed.

    Raises BallotboardError where the verifier could not run: no source, or a wrong file of promises.
    """
    wanted = list(checks.CHECKS.values())
    return _verify("tally", wanted, source, election_id, progress, work or Work(processes), promises, setup_report)


def verify_config(source: Source, election_id: bytes | None = None, progress: Progress = silent) -> Report:
    """The checks that can be decided before the poll opens."""
    wanted = [check for check in checks.CHECKS.values() if check.config]
    return _verify("config", wanted, source, election_id, progress, Work(1), None)


def _verify(
    run: str, wanted: list[checks.Check], source: Source, election_id: bytes | None, progress: Progress, work: Work,
    promises: Sequence[Any] | None, setup_report: dict[str, Any] | None = None,
) -> Report:  # fmt: skip
    start = time.monotonic()
    case = Case(source.read(progress), election_id, promises, progress, work=work, setup_report=setup_report)
    results = checks.run(case, wanted)
    if [result.check for result in results] != wanted or not wanted:
        raise AssertionError("a check has no result")  # what did not run must not be missing from the report either
    return make_report(run, case, results, time.monotonic() - start)
