"""A registered verifier puts its report on the record: first a commitment, then, once the others have committed too, what was committed to.

Nobody can wait for another's verdict and copy it: the board takes a reveal only when enough verifiers have committed (kind 12 of
docs/protocol.md, section 10). What will be revealed holds a fresh salt, so it is written to a file before the commitment is sent: were
the file lost, the commitment could never be opened, and had to be replaced by another.
"""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path
from typing import Any

from protocol import records
from protocol.encoding import unhex
from protocol.errors import BallotboardError, Malformed
from verifier.report import NOT_VERIFIED, Report

SALT = 32
"""Bytes: a commitment to one of two verdicts could be guessed otherwise."""


def read_report(data: bytes) -> Report:
    """The report in a file of `verify tally --json`. Raises BallotboardError unless it is one, unchanged since, with a state to certify."""
    try:
        value = json.loads(data)
        told = (value.pop("report"), value.pop("sentence"))
        report = Report(value)
        unchanged = told == (report.sha256, report.sentence())
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, StopIteration, Malformed) as error:
        raise BallotboardError("this is no report: make it with `ballotboard verify tally --json`") from error
    if not unchanged:
        raise BallotboardError("this report was changed after it was made: its hash or sentence is another")
    if value["run"] != "tally" or value["state"] is None:
        raise BallotboardError("this report recomputed no state, so there is nothing to certify")
    return report


def statement(report: Report) -> records.Report:
    """What a verifier says of a report on the record, with a fresh salt."""
    state, digest = unhex(report.value["state"], 32, "state"), unhex(report.sha256, 32, "report")
    return records.Report(report.verdict != NOT_VERIFIED, state, digest, secrets.token_bytes(SALT))


def keep(said: records.Report, path: Path) -> None:
    """Write what will be revealed to a new file, for its owner only. Raises BallotboardError where there is one already."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise BallotboardError(f"{path} is there: this report was committed to; reveal it with --reveal") from None
    except OSError as error:
        raise BallotboardError(f"cannot write {path}: {error.strerror}") from error
    with os.fdopen(handle, "w") as file:
        file.write(said.body().hex() + "\n")
        file.flush()
        os.fsync(file.fileno())


def kept(path: Path, report: Report) -> records.Report:
    """What was written by `keep`. Raises BallotboardError unless it is about this report."""
    try:
        said: Any = records.Report.parse(bytes.fromhex(path.read_text().strip()))
    except FileNotFoundError:
        raise BallotboardError(f"{path} is missing: commit first, without --reveal") from None
    except (OSError, ValueError, Malformed) as error:
        raise BallotboardError(f"cannot read {path}: {error}") from error
    if not isinstance(said, records.Report) or said.report.hex() != report.sha256:
        raise BallotboardError(f"{path} is about another report")
    return said
