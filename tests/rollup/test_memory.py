"""A unit's process needs no more memory for its last ballot than for its first."""

import json
import os
import subprocess
import sys

import pytest

from scripts.bench import national

pytestmark = pytest.mark.slow

GOAL_KB = 500
"""What a million ballots may take; a seventh of the file of 10,000, so that a process which kept them would show there, too."""


@pytest.mark.parametrize("ballots", [10_000, pytest.param(1_000_000, marks=pytest.mark.soak)])
def test_a_unit_s_memory_does_not_grow_with_its_ballots(tmp_path, monkeypatch, ballots):
    monkeypatch.setattr(national, "FOLDER", tmp_path)
    folder = national._precinct(ballots)
    command = [sys.executable, "-m", "scripts.cli", "rollup", "run", folder, "--key", folder / "all.key", "--unit", "1"]
    done = subprocess.run(
        [*command, "--ballots", folder / f"{ballots}.ballots", "--json"], capture_output=True, text=True,
        env={**os.environ, "BALLOTBOARD_PASSPHRASE": national.PASSPHRASE},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["ballots"] == {"q": ballots} and found["refused"] == {}
    assert found["memory_growth_kb"] < GOAL_KB
