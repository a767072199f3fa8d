"""The two runs of the verifier: the setup before the poll opens, and everything after the result."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from verifier import checks
from verifier.case import Case
from verifier.claims import Progress, Source, silent
from verifier.report import Report, make_report


def verify_tally(
    source: Source,
    election_id: bytes | None = None,
    progress: Progress = silent,
    processes: int = 0,
    promises: Sequence[Any] | None = None,
) -> Report:
    """Every check. `promises` are signed promises as JSON values; `processes` 0 means all cores.

    Raises BallotboardError where the verifier could not run: no source, or a wrong file of promises.
    """
    return _verify("tally", list(checks.CHECKS.values()), source, election_id, progress, processes, promises)


def verify_config(source: Source, election_id: bytes | None = None, progress: Progress = silent) -> Report:
    """The checks that can be decided before the poll opens."""
    wanted = [check for check in checks.CHECKS.values() if check.config]
    return _verify("config", wanted, source, election_id, progress, 1, None)


def _verify(
    run: str, wanted: list[checks.Check], source: Source, election_id: bytes | None, progress: Progress, processes: int,
    promises: Sequence[Any] | None,
) -> Report:  # fmt: skip
    start = time.monotonic()
    case = Case(source.read(progress), election_id, promises, progress, processes)
    results = checks.run(case, wanted)
    return make_report(run, case, results, time.monotonic() - start)
