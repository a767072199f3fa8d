"""docs/operators.md: the rehearsal's blocks as they are printed, in one shell. What an operator types must work."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from chain.process import PORTS, port_is_free
from scripts.cli import COMMANDS

ROOT = Path(__file__).parents[2]
MARK = "<!-- Tests run the blocks of this section as they stand"
TIMEOUT = 900
"""Seconds for what takes five minutes."""


def rehearsal() -> str:
    section = (ROOT / "docs/operators.md").read_text().split(MARK, 1)[1].split("\n## ", 1)[0]
    return "\n".join(re.findall(r"^```bash\n(.*?)^```$", section, re.M | re.S))


def free_prefix() -> str:
    """Two digits such that the ports of all five nodes, prefix ‖ node ‖ 01 … 06, are free, and below those that other tests draw from."""
    for prefix in range(11, PORTS.start // 1000):
        if all(port_is_free(prefix * 1000 + node * 100 + port) for node in range(1, 6) for port in range(1, 7)):
            return str(prefix)
    pytest.skip("no thirty free ports")


@pytest.mark.soak
@pytest.mark.e2e
def test_the_rehearsal_runs_to_its_end_as_it_is_printed(binaries, tmp_path):
    script = re.sub(r"\b21(?=\$\{1\}\d\d|\d{3}\b)", free_prefix(), rehearsal())
    stop = "for i in 1 2 3 4 5; do ballotboard chain stop org$i || true; done"
    path = f"{ROOT / '.venv/bin'}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        ["bash", "-c", f"set -eu\ntrap '{stop}' EXIT\n{script}"], cwd=tmp_path, capture_output=True, text=True, timeout=TIMEOUT, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "signed by 3 of 4" in done.stderr and "org4 will sign above height" in done.stdout
    assert "org4 leaves: 4 of 5 power agrees" in done.stdout
    last = done.stdout[done.stdout.rindex("validators   ") :]
    assert last.startswith("validators   4 with power 4") and "org5" in last and "org4" not in last


def test_every_command_that_the_page_names_exists():
    text = (ROOT / "docs/operators.md").read_text()
    named = set(re.findall(r"\b(?:ballotboard|`)(?: |)chain ([a-z][a-z-]+)", text))
    from chain.cli import app

    known = {
        command.name or command.callback.__name__.replace("_", "-")
        for command in app.registered_commands
        if command.callback
    }
    assert named <= known, named - known
    assert len(named) > 12 and "chain" in COMMANDS
