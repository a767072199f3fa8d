"""Commands that go on in the background: started in a session of their own, found again by a pid file, and ended through it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from chain.errors import ChainError

POLL = 0.1
"""Seconds between looks at a process that starts or ends."""


def detach(pid_file: Path, words: Sequence[str], timeout: float) -> dict[str, Any]:
    """Runs `ballotboard chain WORDS --pid-file PID_FILE` in the background and waits until it has written the file; gives its content.

    Raises ChainError if one runs already, or with what the command said when it ended.
    """
    if pid_file.exists() and _is_chain(read_pid_file(pid_file)["pid"]):
        raise ChainError(
            f"{pid_file} says that a chain is running: end it with `chain down`, or name another --pid-file"
        )
    pid_file.unlink(missing_ok=True)
    command = [sys.executable, "-m", "chain.cli", *words, "--pid-file", str(pid_file)]
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
        end = time.monotonic() + timeout
        while not pid_file.exists():
            if process.poll() is not None or time.monotonic() > end:
                process.terminate()
                output.seek(0)
                raise ChainError(
                    output.read().decode(errors="replace").strip().removeprefix("error: ") or "the chain did not start"
                )
            time.sleep(POLL)
    return read_pid_file(pid_file)


def end(pid_file: Path, timeout: float) -> None:
    """Ends what `detach` has started. Raises ChainError if nothing runs, or if it does not end."""
    pid = read_pid_file(pid_file)["pid"]
    if not _is_chain(pid):
        pid_file.unlink()
        raise ChainError(f"the chain of {pid_file} is not running any more; the file is removed")
    os.kill(pid, signal.SIGTERM)
    limit = time.monotonic() + timeout
    while _is_chain(pid):
        if time.monotonic() > limit:
            raise ChainError(f"process {pid} does not end; look at it, or kill it")
        time.sleep(POLL)


def write_pid_file(path: Path, url: str, chain_id: int) -> None:
    """At once or not at all: its reader waits for it to appear."""
    temporary = path.with_name(path.name + ".new")
    temporary.write_text(json.dumps({"pid": os.getpid(), "url": url, "chain_id": chain_id}) + "\n")
    temporary.replace(path)


def read_pid_file(path: Path) -> dict[str, Any]:
    """`pid`, `url` and `chain_id`. Raises ChainError."""
    try:
        content = json.loads(path.read_text())
        return {"pid": int(content["pid"]), "url": str(content["url"]), "chain_id": int(content["chain_id"])}
    except FileNotFoundError as error:
        raise ChainError(f"there is no {path}: nothing was started here with --detach") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ChainError(f"{path} is not a pid file of `chain up --detach`") from error


def _is_chain(pid: int) -> bool:
    """Whether this process is a `chain up` or `chain start`: a number in a file may be another process's by now."""
    try:
        return re.search(rb"\0chain(\.cli)?\0(up|start)\0", Path(f"/proc/{pid}/cmdline").read_bytes()) is not None
    except OSError:
        return False
