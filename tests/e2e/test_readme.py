"""The README's own election, run as it is printed: what a stranger types must work."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from chain.process import free_port

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]
MARK = "<!-- A test runs this block as it stands. -->\n```bash\n"


def walk_through() -> str:
    text = (ROOT / "README.md").read_text()
    return text.split(MARK, 1)[1].split("```", 1)[0]


@pytest.fixture(scope="module")
def held(tmp_path_factory):
    """The block in a fresh folder, on free ports instead of the printed ones; stops what it started."""
    folder = tmp_path_factory.mktemp("readme")
    script = walk_through().replace("$PWD/.venv", str(ROOT / ".venv")).replace("build/trial", str(folder / "trial"))
    for port in ("8545", "8040", "8050"):
        script = script.replace(port, str(free_port()))
    script = "set -eu\ntrap 'kill $(jobs -p) 2>/dev/null; ballotboard chain down' EXIT\n" + script
    environment = {**os.environ, "PYTHONWARNINGS": "ignore", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["bash", "-c", script], cwd=folder, capture_output=True, text=True, timeout=400, env=environment
    )
    return done, folder / "trial"


def test_the_block_runs_to_its_end(held):
    done, _ = held
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def test_the_result_is_what_the_three_people_voted(held):
    done, _ = held
    rows = re.findall(r"^ +(Apple|Pear|blank) +(\d+) +(\d+) +(\d+)$", done.stdout, re.MULTILINE)
    assert rows == [("Apple", "2", "0", "2"), ("Pear", "0", "1", "1"), ("blank", "0", "0", "0")] * 2  # node and archive


def test_the_verifier_says_verified(held):
    done, _ = held
    assert "\nVERIFIED\n" in done.stdout


def test_every_receipt_is_in_the_log_and_says_what_became_of_the_ballot(held):
    done, _ = held
    said = dict(re.findall(r"^([\w-]+)\.json: RECORDED AS CAST\n((?:  .*\n)+)", done.stdout, re.MULTILINE))
    assert {name: text.count("In the node's log: counted.") for name, text in said.items()} == {
        "ann": 1, "bob": 0, "carol-1": 0, "carol-2": 1,
    }  # fmt: skip


def test_every_command_that_the_readme_names_exists(held):
    from scripts.cli import COMMANDS

    named = set(re.findall(r"^\s*(?:for [^;]+; do )?ballotboard (\w+)", walk_through(), re.MULTILINE))
    assert named <= set(COMMANDS)
    assert len(named) >= 8
