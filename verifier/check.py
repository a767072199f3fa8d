"""What a numbered check is, how checks are run, and how the table of them is told to people.

A check's function looks at a Case and returns what it `Found`: faults, each with a position where there is a record to name, and a note
for the reader when there are none. It raises NotApplicable where there is nothing to check, which is not the same as passing. `run` runs
checks in the order of their `needs`; one whose need has failed is *not run*, names what stopped it, and counts as a failure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from protocol.errors import BallotboardError
from verifier.case import Case, WrongInput

GROUPS = {
    "C": ("completeness", "Is everything there?"),
    "A": ("authenticity", "Does everything come from whom it claims to?"),
    "K": ("consistency", "Does everything agree with everything else?"),
    "I": ("integrity", "Is everything well formed?"),
    "E": ("evidence", "Are the cryptographic proofs right?"),
}


class Fault(NamedTuple):
    """One thing that is wrong: the position of the record, or None where it is not about a record, and a sentence."""

    position: int | None
    text: str


@dataclass(frozen=True)
class Found:
    """What a check found. `note` is a sentence for when there are no faults, `facts` positions that it speaks of."""

    faults: Sequence[Fault]
    note: str = ""
    facts: Sequence[int] = ()


class NotApplicable(Exception):
    """There is nothing here that this check could be about; the message says why."""


@dataclass(frozen=True)
class Check:
    """One numbered check. `config` is true where it can be decided before the poll opens."""

    id: str
    title: str
    needs: tuple[str, ...]
    proves: str
    failure: str
    remedy: str
    config: bool
    decide: Callable[[Case], Found]

    @property
    def group(self) -> str:
        return GROUPS[self.id[0]][0]


CHECKS: dict[str, Check] = {}
"""Every check by its id, in the order of the table."""


def check(id: str, title: str, *, needs: str = "", proves: str, failure: str, remedy: str, config: bool = False) -> Any:
    """Enter the decorated function into the table."""

    def enter(decide: Callable[[Case], Found]) -> Callable[[Case], Found]:
        if id in CHECKS:
            raise ValueError(f"two checks have the number {id}")
        CHECKS[id] = Check(id, title, tuple(needs.split()), proves, failure, remedy, config, decide)
        return decide

    return enter


# ---------------------------------------------------------------- running

PASS, FAIL, NOT_APPLICABLE, NOT_RUN = "pass", "fail", "not applicable", "not run"

MOST_SENTENCES = 20
"""Sentences in a result's detail; the positions are always all there."""


@dataclass(frozen=True)
class Result:
    """The outcome of one check: pass, fail, not applicable or not run; a detail in words; the positions of the records it is about."""

    check: Check
    outcome: str
    detail: str
    positions: list[int] = field(default_factory=list)

    @property
    def good(self) -> bool:
        return self.outcome in (PASS, NOT_APPLICABLE)


def run(case: Case, wanted: Iterable[Check]) -> list[Result]:
    """The results of these checks, in the order given. What they need is run too."""
    wanted = list(wanted)
    results: dict[str, Result] = {}
    stopped_by: dict[str, str] = {}

    def result_of(check: Check) -> Result:
        if check.id not in results:
            needs = [result_of(CHECKS[need]) for need in check.needs]
            stopper = next((need for need in needs if not need.good), None)
            if stopper:
                stopped_by[check.id] = stopped_by.get(stopper.check.id, stopper.check.id)
                results[check.id] = Result(check, NOT_RUN, f"could not run: {stopped_by[check.id]} failed")
            else:
                case.progress(f"{check.id} {check.title}", 0, 0)
                results[check.id] = _decide(check, case)
        return results[check.id]

    for check in wanted:
        result_of(check)
    return [results[check.id] for check in wanted]


def _decide(check: Check, case: Case) -> Result:
    try:
        found = check.decide(case)
    except WrongInput:
        raise
    except NotApplicable as reason:
        return Result(check, NOT_APPLICABLE, str(reason))
    except BallotboardError as error:
        return Result(check, FAIL, str(error))
    except Exception as error:  # a hostile record must not end the run, and what was not decided has not passed
        return Result(check, FAIL, f"could not be decided: {type(error).__name__}: {error}")
    if not found.faults:
        return Result(check, PASS, found.note, sorted(found.facts))
    sentences = [
        fault.text if fault.position is None else f"record {fault.position}: {fault.text}" for fault in found.faults
    ]
    more = len(sentences) - MOST_SENTENCES
    detail = "; ".join(sentences[:MOST_SENTENCES]) + (f"; and {more} more" if more > 0 else "")
    return Result(check, FAIL, detail, sorted({fault.position for fault in found.faults if fault.position is not None}))


# ---------------------------------------------------------------- telling


def explain(check: Check) -> str:
    """What a check is about, in words."""
    needs = (
        f"\nNeeds: {', '.join(check.needs)}; if one of them fails, this one is not run, which counts as a failure."
        if check.needs
        else ""
    )
    return (
        f"{check.id}  {check.title}  ({check.group})\n\nIt proves: {check.proves}\n\nIf it fails: {check.failure}\n\nWhat to do: {check.remedy}\n{needs}"
    ).rstrip()


def markdown() -> str:
    """docs/checks.md."""
    lines = [
        "# What the verifier checks",
        "",
        "Made from `verifier/checks.py` by `ballotboard verify checks --markdown`; do not edit. The numbers are stable: a number is never given to another check.",
        "",
        "Each check is **pass**, **fail** (with the position of every failing record), **not applicable** (with its reason) or **not run** (with the check that"
        " stopped it). *Not run* counts as a failure. The verdict is *verified* if every check passes or does not apply and the election id was given; without the"
        " id it is *consistent; compare this id*; else *not verified*. Exit status: 0, 0 and 1; 2 where the verifier could not run.",
        "",
        "`verify config` runs the checks marked ● before the poll opens, `verify tally` all of them. `verify explain ID` prints one."
        " `tests/tamper/` holds, for each check, three dishonest elections or more that it rejects, one of them alone, and `make mutation` shows that every"
        " rejecting branch of the verifier is needed for one of them.",
        "",
        "Complaints on the record (kind 13) are listed under the checks, with position, role, class and text, and as `complaints` in `--json`. They are information: a"
        " complaint never makes a verdict, in either direction, and does not enter the report's hash.",
    ]
    for letter, (group, question) in GROUPS.items():
        lines += [
            "",
            f"## {group.capitalize()}: {question[0].lower()}{question[1:]}",
            "",
            "| | | proves | if it fails | what to do | needs |",
            "|---|---|---|---|---|---|",
        ]
        lines += [
            f"| {check.id}{' ●' if check.config else ''} | {check.title} | {check.proves} | {check.failure} | {check.remedy} | {' '.join(check.needs)} |"
            for check in CHECKS.values()
            if check.id[0] == letter
        ]
    return "\n".join(lines) + "\n"
