"""Two verifiers that share nothing but docs/protocol.md give one verdict on every case of the tamper corpus."""

from __future__ import annotations

import ast
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from eth_account import Account
from eth_utils import keccak

from tests.second import checker
from tests.tamper.dump import HONEST, name_of, write
from tests.tamper.recipes import RECIPES, Recipe
from verifier.checks import CHECKS

NAMED_OTHERWISE = {"E02": "K04"}
"""The second verifier cannot tell why a result counts a ballot that has no valid proofs, only that its counted set is wrong."""


@pytest.mark.slow
@pytest.mark.parametrize("recipe", (HONEST, *RECIPES), ids=lambda recipe: recipe.title)
def test_both_verifiers_agree(recipe: Recipe, tmp_path: Path) -> None:
    write(recipe, tmp_path)
    expected = json.loads((tmp_path / "expected.json").read_text())
    found = checker.verify(checker.load(tmp_path))
    covered = recipe.fails - set(checker.NOT_COVERED)
    assert {NAMED_OTHERWISE.get(id, id) for id in covered} <= set(found.fails), found
    if "E02" not in recipe.fails:
        assert set(found.fails) == covered, found
    if not recipe.fails:
        assert found.verified
        assert expected["totals"] in (None, {"online": found.online, "paper": found.paper})


def test_what_the_second_verifier_leaves_out_is_what_it_says() -> None:
    assert set(checker.CHECKS) | set(checker.NOT_COVERED) | set(NAMED_OTHERWISE) == set(CHECKS)
    assert not set(checker.CHECKS) & set(checker.NOT_COVERED)
    assert {id for id, check in CHECKS.items() if check.config} - set(checker.NOT_COVERED) == set(checker.CONFIG)


def test_the_second_verifier_imports_nothing_of_the_product() -> None:
    tree = ast.parse(Path(checker.__file__).read_text())
    imported = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    allowed = {"rbcl._sodium", *sys.stdlib_module_names}
    assert {name for name in imported if name.split(".")[0] not in allowed and name not in allowed} == set()


def test_its_keccak_and_its_recovery_are_ethereums() -> None:
    for size in (0, 1, 135, 136, 137, 500):
        assert checker.keccak256(bytes(range(256)) * 2 if size == 500 else bytes(size)) == keccak(
            bytes(range(256)) * 2 if size == 500 else bytes(size)
        )
    for number in range(8):
        digest = hashlib.sha256(bytes([number])).digest()
        account = Account.from_key(hashlib.sha256(b"key %d" % number).digest())
        signature = account.unsafe_sign_hash(digest).signature
        assert checker.recover(digest, bytes(signature)) == bytes.fromhex(account.address[2:])
        assert checker.recover(digest, bytes(signature[:64]) + bytes([55 - signature[64]])) != bytes.fromhex(
            account.address[2:]
        )


def test_it_runs_as_a_program_with_an_exit_status(tmp_path: Path) -> None:
    recipe = next(recipe for recipe in RECIPES if recipe.title == "a result whose total is not online and paper")
    for one, status in ((HONEST, 0), (recipe, 1)):
        write(one, tmp_path / name_of(one))
        command = [sys.executable, checker.__file__, str(tmp_path / name_of(one))]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert ran.returncode == status, ran.stderr
        assert json.loads(ran.stdout)["verified"] is (status == 0)


def test_it_compares_the_id_that_the_observer_has(tmp_path: Path) -> None:
    write(HONEST, tmp_path)
    command = [sys.executable, checker.__file__, str(tmp_path), "--election", "00" * 32]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 1 and set(json.loads(ran.stdout)["fails"]) == {"A02"}


def test_a_folder_that_is_no_record_is_refused_in_one_line(tmp_path: Path) -> None:
    ran = subprocess.run([sys.executable, checker.__file__, str(tmp_path)], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 2
    assert len(ran.stderr.splitlines()) == 1
