"""How checks are run and told: what did not run can never print as passed."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from nacl.signing import SigningKey

from protocol.errors import BallotboardError
from protocol.receipt import Promise, Refusal, sign_statement
from protocol.records import LogHead
from tests.tamper import builder
from tests.tamper.recipes import honest, promised
from verifier import check, checks
from verifier.case import Case, WrongInput
from verifier.check import FAIL, NOT_APPLICABLE, NOT_RUN, PASS, Check, Fault, Found, NotApplicable
from verifier.report import make_report
from verifier.run import verify_config, verify_tally

DOCS = Path(__file__).resolve().parents[2] / "docs" / "checks.md"


@pytest.fixture
def case() -> Case:
    return Case(honest().claims(), honest().manifest.election_id)


def deciding(decide: Any, id: str = "C01", needs: tuple[str, ...] = ()) -> Check:
    return replace(checks.CHECKS[id], needs=needs, decide=decide)


def raising(error: Exception) -> Any:
    def decide(case: Case) -> Found:
        raise error

    return decide


def test_the_documented_table_is_that_of_the_code() -> None:
    assert DOCS.read_text() == check.markdown(), "run: ballotboard verify checks --markdown > docs/checks.md"


def test_numbers_are_never_given_to_another_check() -> None:
    assert " ".join(checks.CHECKS) == (
        "C01 C02 C03 C04 C05 C06 A01 A02 A03 A04 A05 A06 K01 K02 K03 K04 K05 K06 K07 K08 K09 K10 I01 I02 I03 I04 I05 I06 E01 E02 E03 E04 E05 E06"
    )
    with pytest.raises(ValueError, match="C01"):
        check.check("C01", "another", proves="", failure="", remedy="")(lambda case: Found([]))


@pytest.mark.parametrize("one", checks.CHECKS.values(), ids=lambda one: one.id)
def test_what_a_check_needs_exists_and_can_be_decided_as_early(one: Check) -> None:
    for need in one.needs:
        assert need != one.id
        assert checks.CHECKS[need].config or not one.config


@pytest.mark.parametrize("id", checks.CHECKS)
def test_a_check_that_does_not_run_is_never_passed_and_stops_what_needs_it(
    id: str, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(checks.CHECKS, id, deciding(raising(BallotboardError("broken")), id))
    results = {result.check.id: result for result in checks.run(case, checks.CHECKS.values())}
    assert results[id].outcome == FAIL
    for one in checks.CHECKS.values():
        outcome = results[one.id].outcome
        if any(results[need].outcome in (FAIL, NOT_RUN) for need in one.needs):
            assert outcome == NOT_RUN
            assert results[one.id].detail == f"could not run: {id} failed"
        elif one.id != id:
            assert outcome in (PASS, NOT_APPLICABLE)
    report = make_report("tally", case, list(results.values()), 0.0)
    assert (report.verdict, report.exit_status) == ("not verified", 1)


def test_a_check_that_breaks_on_a_hostile_record_fails(case: Case) -> None:
    [result] = checks.run(case, [deciding(raising(IndexError("list index out of range")))])
    assert result.outcome == FAIL
    assert "could not be decided: IndexError" in result.detail


def test_a_wrong_file_of_the_observers_own_is_no_verdict(case: Case) -> None:
    with pytest.raises(WrongInput):
        checks.run(case, [deciding(raising(WrongInput("promise 0 proves nothing")))])


@pytest.mark.parametrize("change", ["signature", "relayer", "board", "refusal"])
def test_a_promise_that_proves_nothing_is_no_verdict(change: str) -> None:
    honest_case = promised(b"row 1", 1200)
    value = copy.deepcopy((honest_case.promises or [])[0])
    if change == "signature":
        value["signature"] = "00" * 64
    elif change == "relayer":
        value["promise"]["relayer"] = 0
    else:
        key = SigningKey(builder.key("relayer"))
        about = (bytes(32), bytes(20) if change == "board" else builder.CONTRACT, builder.CHAIN_ID)
        head = LogHead(0, bytes(32))
        board = Promise(about[0], 1200, about[1], about[2], head, builder.RELAYER)
        refusal = Refusal(about[0], about[1], about[2], "bad-proof", builder.RELAYER, 1200)
        value = sign_statement(board if change == "board" else refusal, key)
    case = Case(honest_case.claims, honest_case.election_id, [value])
    with pytest.raises(WrongInput, match="promise 0 of the file"):
        checks.run(case, [checks.CHECKS["E06"]])


def test_not_applicable_says_why_and_is_not_passed(case: Case) -> None:
    [result] = checks.run(case, [deciding(raising(NotApplicable("there are no stations")))])
    assert (result.outcome, result.detail, result.good) == (NOT_APPLICABLE, "there are no stations", True)


def test_every_failing_position_is_there_even_where_the_sentences_are_too_many(case: Case) -> None:
    faults = [Fault(position, "is wrong") for position in range(500)]
    [result] = checks.run(case, [deciding(lambda case: Found(faults))])
    assert result.positions == list(range(500))
    assert result.detail.endswith("; and 480 more")


def test_each_check_can_be_explained() -> None:
    for one in checks.CHECKS.values():
        text = check.explain(one)
        assert text.startswith(one.id) and "What to do" in text


@pytest.mark.parametrize(
    "change",
    [
        {"head": {"size": 1, "root": "00" * 32}},
        {"run": "tally"},
        {"verdict": "not verified"},
        {"report": "00" * 32},
        {"head": None},
        {"report": None},
    ],
    ids=str,
)  # fmt: skip
def test_what_is_no_report_of_a_good_setup_binds_nothing_and_is_no_verdict(change: dict[str, Any]) -> None:
    e = honest()
    report = verify_config(e.source(), e.manifest.election_id).json()
    assert verify_tally(e.source(), e.manifest.election_id, setup_report=report).verdict == "verified"
    with pytest.raises(WrongInput):
        verify_tally(e.source(), e.manifest.election_id, setup_report={**report, **change})


def test_a_setup_that_did_not_verify_binds_nothing_even_with_a_hash_of_its_own() -> None:
    e = honest()
    report = verify_config(e.source(), bytes(32))
    assert report.verdict == "not verified"
    with pytest.raises(WrongInput, match="in which nothing was found wrong"):
        verify_tally(e.source(), e.manifest.election_id, setup_report=report.json())
    with pytest.raises(WrongInput, match="in which nothing was found wrong"):
        tally = verify_tally(e.source(), e.manifest.election_id).json()
        verify_tally(e.source(), e.manifest.election_id, setup_report=tally)
