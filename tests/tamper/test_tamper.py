"""Every dishonest run, and that every check is needed: there is a run that this check alone rejects."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.tamper.builder import COUNTED_TOTALS, PAPER_TOTALS, hold
from tests.tamper.dump import name_of, write
from tests.tamper.judge import wrong_with
from tests.tamper.recipes import RECIPES, Recipe, honest, made
from verifier.checks import CHECKS
from verifier.run import verify_tally


def test_the_honest_election_verifies_with_the_totals_that_were_cast() -> None:
    report = verify_tally(honest().source(), honest().manifest.election_id)
    assert report.verdict == "verified", report.text()
    assert {c["id"]: c["online"] for c in report.value["contests"]} == COUNTED_TOTALS
    assert {c["id"]: c["paper"] for c in report.value["contests"]} == PAPER_TOTALS
    assert {c["id"] for c in report.value["checks"] if c["outcome"] != "pass"} == {"K10", "E04", "E06"}


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.title)
def test_exactly_the_right_checks_fail_and_say_what_and_a_harmless_attack_changes_nothing(recipe: Recipe) -> None:
    assert not wrong_with(recipe, made(recipe))


@pytest.mark.parametrize("id", CHECKS)
def test_there_is_a_run_that_this_check_alone_rejects(id: str) -> None:
    assert any(recipe.fails == {id} for recipe in RECIPES)


def test_the_dishonest_elections_do_not_leak_into_the_honest_one() -> None:
    assert [d.body for d in hold().drafts[:11]] == [d.body for d in honest().drafts[:11]]


@pytest.mark.parametrize("id", CHECKS)
def test_there_are_three_ways_to_fail_every_check(id: str) -> None:
    assert sum(id in recipe.fails for recipe in RECIPES) >= 3


def test_a_case_is_the_same_bytes_whenever_it_is_made() -> None:
    for title in ("a trustee alone", "trustees whose key is the identity", "evidence of three of four validators"):
        make = next(recipe for recipe in RECIPES if recipe.title == title).make
        assert make() == make()


def test_every_case_can_be_written_for_other_peoples_verifiers(tmp_path: Path) -> None:
    names = {name_of(recipe) for recipe in RECIPES}
    assert len(names) == len(RECIPES) and all(re.fullmatch("[a-zA-Z0-9,-]+", name) for name in names)
    recipe = next(recipe for recipe in RECIPES if recipe.title == "a promised ballot that never came")
    write(recipe, tmp_path / "case")
    assert {path.name for path in (tmp_path / "case").iterdir()} == {
        "log.json",
        "records.jsonl",
        "files",
        "promises.json",
        "expected.json",
    }
    assert json.loads((tmp_path / "case" / "expected.json").read_text())["fails"] == ["E06"]
