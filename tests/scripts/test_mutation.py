"""The mutation score is of the corpus, not of the tool: a branch is found, switched off, noticed, and put back."""

from __future__ import annotations

import ast

import pytest

from scripts.mutation import (
    MODULES,
    OUTSIDE,
    Branches,
    Corpus,
    Program,
    caught,
    caught_check,
    left_out,
    mutants,
    taken_by,
)
from tests.tamper.dump import HONEST
from tests.tamper.recipes import RECIPES

SOURCE = """
def f(x):
    if x > 1 or x < 0:
        raise Malformed("x", "is wrong")
    if not (x != 5 and x != 6):
        wrong.append("x")
    try:
        g(x)
    except KeyError as error:
        raise Malformed("x", "is no key") from error
    if x == 9:
        raise NotApplicable("nothing to check")
    return Found([Fault(x, "bad") for x in y if x > 3])

def ok(x) -> bool:
    return x > 1 and x < 9
"""


def found(off: int | None = None) -> tuple[list[str], str]:
    visitor = Branches(off)
    tree = visitor.visit(ast.parse(SOURCE))
    return [text for _, _, text in visitor.found], ast.unparse(ast.fix_missing_locations(tree))


def test_every_way_to_reject_is_a_branch_and_what_rejects_nothing_is_none() -> None:
    assert found()[0] == [
        "x > 1", "x < 0", "x != 5", "x != 6", "raise Malformed('x', 'is no key') from error", "x > 3", "x > 1", "x < 9",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "number, text",
    [
        (0, "if False or x < 0:"),
        (3, "if not (x != 5 and True):"),
        (4, "except KeyError as error:\n        pass"),
        (5, "for x in y if False"),
        (7, "return x > 1 and True"),
    ],
)
def test_one_branch_is_switched_off_and_the_others_stay(number: int, text: str) -> None:
    assert text in found(number)[1]
    assert found(number)[0] == found()[0]


def test_a_branch_that_is_switched_off_is_noticed_by_the_corpus_and_then_put_back() -> None:
    backwards = next(recipe for recipe in RECIPES if recipe.title == "time that runs backwards")
    program, corpus = Program("verifier.windows"), Corpus([HONEST, backwards])
    (mutant,) = (m for m in program.branches() if m.text == "time < before")
    places = taken_by({program.name: program}, corpus)
    assert places[mutant.module, mutant.number] == [1]
    assert caught(mutant, program, corpus, [0]) is None
    assert caught(mutant, program, corpus, [0, 1]) == 1
    assert corpus.right(1)
    assert caught_check("K01", corpus) == 1 and corpus.right(1)
    assert caught_check("K02", corpus) is None


def test_every_reason_to_leave_a_branch_out_is_of_a_place_that_there_is() -> None:
    named = {left_out(mutant) for mutant in mutants({name: Program(name) for name in MODULES})}
    assert {place for place in OUTSIDE if ":" in place} <= named
    assert {place for place in OUTSIDE if ":" not in place} <= set(MODULES)
