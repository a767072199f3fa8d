"""Every dishonest run, and that every check is needed: there is a run that this check alone rejects."""

from __future__ import annotations

from functools import cache

import pytest

from tests.tamper.builder import COUNTED_TOTALS, PAPER_TOTALS, MemorySource, hold
from tests.tamper.recipes import RECIPES, Recipe, honest
from verifier.check import FAIL
from verifier.checks import CHECKS
from verifier.report import Report
from verifier.run import verify_config, verify_tally


@cache
def verified(recipe: Recipe) -> Report:
    tampered = recipe.make()
    source = MemorySource(tampered.claims)
    if tampered.run == "config":
        return verify_config(source, tampered.election_id)
    return verify_tally(source, tampered.election_id, promises=tampered.promises)


def failing(report: Report) -> set[str]:
    return {check["id"] for check in report.value["checks"] if check["outcome"] == FAIL}


def words(report: Report) -> str:
    return " ".join(check["detail"] for check in report.value["checks"])


def test_the_honest_election_verifies_with_the_totals_that_were_cast() -> None:
    report = verify_tally(honest().source(), honest().manifest.election_id)
    assert report.verdict == "verified", report.text()
    assert {c["id"]: c["online"] for c in report.value["contests"]} == COUNTED_TOTALS
    assert {c["id"]: c["paper"] for c in report.value["contests"]} == PAPER_TOTALS
    assert {c["id"] for c in report.value["checks"] if c["outcome"] != "pass"} == {"E04", "E06"}


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.title)
def test_exactly_the_right_checks_fail_and_say_what(recipe: Recipe) -> None:
    report = verified(recipe)
    assert failing(report) == recipe.fails, report.text()
    for sentence in recipe.says:
        assert sentence in words(report), report.text()
    assert (report.verdict, report.exit_status) == (("not verified", 1) if recipe.fails else ("verified", 0))


@pytest.mark.parametrize("recipe", [r for r in RECIPES if not r.fails], ids=lambda recipe: recipe.title)
def test_a_harmless_attack_changes_no_total(recipe: Recipe) -> None:
    report = verified(recipe)
    assert {c["id"]: c["online"] for c in report.value["contests"]} == COUNTED_TOTALS
    assert {c["id"]: c["paper"] for c in report.value["contests"]} == PAPER_TOTALS
    assert report.value["accepted"] == 4


@pytest.mark.parametrize("id", CHECKS)
def test_there_is_a_run_that_this_check_alone_rejects(id: str) -> None:
    assert any(recipe.fails == {id} for recipe in RECIPES)


def test_the_dishonest_elections_do_not_leak_into_the_honest_one() -> None:
    assert [d.body for d in hold().drafts[:11]] == [d.body for d in honest().drafts[:11]]
