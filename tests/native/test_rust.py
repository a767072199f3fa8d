"""The targets of native/tests/hostile.rs for a long time: any bytes into everything that reads bytes, no panic, no hang."""

import os
import subprocess
from pathlib import Path

import pytest

NATIVE = Path(__file__).resolve().parents[2] / "native"
CASES = 10_000
"""Inputs of each target: about six minutes, where `cargo test` gives 128."""
NO_CARGO = 3


@pytest.mark.soak
def test_the_targets_of_the_crate_hold_for_many_more_inputs():
    command = ["../tools/with-cargo", "cargo", "test", "--release", "--quiet", "--test", "hostile"]
    run = subprocess.run(
        command, cwd=NATIVE, env=os.environ | {"PROPTEST_CASES": str(CASES)}, capture_output=True, text=True
    )
    if run.returncode == NO_CARGO:
        pytest.skip(run.stderr.strip())
    assert run.returncode == 0, run.stdout + run.stderr
