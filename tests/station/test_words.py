"""What the page refuses, in both languages: no refusal that one of its buttons can lead to is left in the program's English, but for those of the disk."""

from __future__ import annotations

import ast
import errno
import os
import string
from functools import cache
from pathlib import Path

import pytest

from chain import contract
from protocol.errors import BallotboardError, Malformed
from protocol.paper import Contradiction
from station import actions, page, result, words
from station.actions import NotDue
from station.journal import JournalError
from station.result import DoesNotBalance
from station.words import BOARD, CONTRADICTIONS, KINDS, PROGRAM, REFUSALS, WORDS, Text, refusal

LATER = {"key": ("opens-later", "count-later"), "state_of": actions.REFUSED}
"""Keys that a function is given, or takes from what it has looked up, by the variable that holds them."""

NEVER = {"amend"}
"""What the page never asks for: an amendment is made on the command line."""


@cache
def functions() -> dict[str, ast.FunctionDef]:
    """Those of the page and what it calls, by name."""
    trees = (ast.parse(Path(module.__file__ or "").read_text()) for module in (result, actions, page))
    return {node.name: node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def called(node: ast.AST) -> set[str]:
    """Names that a function mentions, plainly or as a member of one of these modules."""
    plain = {found.id for found in ast.walk(node) if isinstance(found, ast.Name)}
    members = [found for found in ast.walk(node) if isinstance(found, ast.Attribute)]
    return plain | {found.attr for found in members if ast.unparse(found.value) in ("actions", "sheets")}


def reached() -> set[str]:
    """The functions that a button leads to."""
    known, found, left = functions(), set(), {"act", "look_up"}
    while left:
        name = left.pop()
        found.add(name)
        left |= (called(known[name]) & set(known)) - found - NEVER
    return found


def raised() -> list[tuple[str, set[str]]]:
    """(key, names of its values) of every refusal of the station's in those functions; the key is empty where there is none."""
    found = []
    for name in reached():
        for node in ast.walk(functions()[name]):
            if not isinstance(node, ast.Raise) or not isinstance(node.exc, ast.Call):
                continue
            assert ast.unparse(node.exc.func).rpartition(".")[2] in ("NotDue", "DoesNotBalance"), ast.unparse(node)
            given = [ast.unparse(argument) for argument in node.exc.args[1:]]
            named = given[0] if given else "''"
            keys = LATER[named] if named in LATER else (ast.literal_eval(named),)
            found += [(key, {str(value.arg) for value in node.exc.keywords}) for key in keys]
    return found


def fields(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def test_every_refusal_that_a_button_leads_to_has_words_in_both_languages_and_no_words_are_left_over() -> None:
    found = raised()
    assert {"act", "look_up", "check_in", "issue", "enter", "build", "sign", "sync", "_not_before"} <= reached()
    assert {key for key, _ in found} == set(REFUSALS)
    for key, values in found:
        assert fields(REFUSALS[key][0]) == fields(REFUSALS[key][1]) <= values, key


@pytest.mark.parametrize("table", [WORDS, REFUSALS, CONTRADICTIONS, BOARD, KINDS, {"": PROGRAM}])
def test_every_text_is_there_in_english_and_in_french(table: dict[object, Text]) -> None:
    for english, french in table.values():
        assert english.strip() and french.strip() and english != french
        assert fields(english) == fields(french)


def test_every_error_of_the_board_has_words() -> None:
    assert set(BOARD) == {entry["name"] for entry in contract.artifact().abi if entry["type"] == "error"}
    assert refusal(contract.Refused("TooLate", (0,)), 1).startswith("Il est trop tard")


def test_only_faults_of_this_machines_disk_are_shown_as_the_program_says_them() -> None:
    """Of all errors of the page's modules and of what they call."""

    def below(kind: type[BallotboardError]) -> set[type[BallotboardError]]:
        return {kind}.union(*map(below, kind.__subclasses__()))

    chain = {
        kind for kind in below(BallotboardError) if kind.__module__ in ("chain.errors", "chain.keys", "chain.contract")
    }
    record = {Malformed, words.MissingAttachment, words.MissingRecord}
    ours = ("station.actions", "station.folder", "station.journal", "station.page", "station.result")
    station = {kind for kind in below(BallotboardError) if kind.__module__ in ours}
    assert all(any(kind in KINDS for kind in error.__mro__) for error in chain | record)
    assert {kind.__name__ for kind in station - {NotDue, DoesNotBalance, result.StationRefusal}} == {
        "FolderError",  # when a folder is opened or made, never behind a button
        "JournalError",
    }
    assert refusal(JournalError("the disk is full"), 1) == "Le programme dit (en anglais) : the disk is full"


def test_figures_that_do_not_add_up_are_named_one_by_one() -> None:
    wrong = [
        Contradiction("…", "papers", issued=3, counted=1, spoiled=0, unreturned=0),
        Contradiction("…", "sum", contest="Maire", found=5, counted=1),
    ]
    assert refusal(DoesNotBalance("…", "no-balance", wrong=wrong), 1) == (
        "Les chiffres ne concordent pas. Rien n'a été enregistré ; recompter."
        " Remis 3 n'est pas dans l'urne 1 + abîmés 0 + non rendus 0. Maire : tous les chiffres ensemble font 5, et non 1."
    )


@pytest.mark.e2e
def test_a_day_of_mistakes_in_french(board, place, monkeypatch: pytest.MonkeyPatch) -> None:
    session = page.Session(place, lambda: board.board, "")

    def refused(path: str, **form: str) -> str:
        with pytest.raises(BallotboardError) as caught:
            if path == "/look-up":
                page.look_up(session, form["card"], 1)
            else:
                page.act(session, path, form, 1)
        return refusal(caught.value, 1)

    assert refused("/check-in", card="1") == "Le bureau n'est pas encore ouvert."
    page.act(session, "/open", {}, 1)
    assert refused("/look-up", card="Ana").startswith("« Ana » n'est pas un numéro de liste.")
    assert refused("/check-in", card="7") == "7 ne peut pas voter dans ce bureau. Personne n'a été émargé."
    page.act(session, "/check-in", {"card": "1"}, 1)
    assert refused("/check-in", card="1") == "1 a déjà émargé ici. Personne n'a été émargé maintenant."
    monkeypatch.setattr(os, "pwrite", disk_full)
    assert refused("/replace").startswith("Le programme dit (en anglais) : cannot write")


def disk_full(*_: object) -> int:
    raise OSError(errno.ENOSPC, "No space left on device")
