"""A stranger with the wheel and an archive: an environment of its own, one command, a verdict. No server comes along."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ARCHIVE = ROOT / "tests" / "data" / "archives" / "v0.1.0.archive"
UV = ROOT / ".tools" / "bin" / "uv"

SERVERS = ("fastapi", "uvicorn", "sqlalchemy", "psycopg", "granian", "jinja2", "distributed", "pytest")


def run(*command: object, **options: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "UV_SYSTEM_CERTS": "1", "UV_PYTHON_DOWNLOADS": "never"}
    environment.pop("PYTHONPATH", None)
    found = subprocess.run(
        [*map(str, command)], capture_output=True, text=True, env=environment, check=False, **options
    )  # type: ignore[call-overload]
    assert found.returncode == 0, found.stderr[-2000:]
    return found


@pytest.mark.slow
@pytest.mark.e2e
@pytest.mark.skipif(not UV.exists(), reason="uv is not there: run `make setup`")
def test_a_stranger_gets_from_the_wheel_to_a_verdict_in_one_command(tmp_path: Path) -> None:
    run(UV, "build", "--quiet", "--no-build-isolation", "--python", sys.executable, "--out-dir", tmp_path, ROOT)
    [wheel] = tmp_path.glob("*.whl")
    run(UV, "venv", "--quiet", "--python", sys.executable, tmp_path / "own")
    locked = [
        line for line in (ROOT / "requirements" / "main.lock").read_text().splitlines() if not line.startswith(" ")
    ]
    (tmp_path / "constraints").write_text("\n".join(line.removesuffix("\\") for line in locked) + "\n")
    python = tmp_path / "own" / "bin" / "python"
    run(UV, "pip", "install", "--quiet", "--python", python, "--constraints", tmp_path / "constraints", wheel)

    found = run(
        tmp_path / "own" / "bin" / "ballotboard", "verify", "tally", ARCHIVE, "--json",
        "--election", json.loads(ARCHIVE.with_suffix(".json").read_text())["election"], cwd=tmp_path,
    )  # fmt: skip
    report = json.loads(found.stdout)
    assert report["verdict"] == "verified"
    assert report["engine"] == "reference (libsodium)", "the wheel alone, without the native engine"
    probe = "import importlib.util, sys; print([n for n in sys.argv[1:] if importlib.util.find_spec(n)])"
    assert run(python, "-c", probe, *SERVERS, cwd=tmp_path).stdout.strip() == "[]"
