"""Services as processes of their own: started, waited for, and stopped with whoever started them."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO

import httpx

from chain.process import spawn
from protocol.errors import BallotboardError

START_TIMEOUT = 60.0
"""Seconds until a service must answer: reading a large database or importing on a busy machine takes a while."""

STOP_TIMEOUT = 20.0
"""Seconds that a service gets to finish its work before it is killed."""

COMMAND = (sys.executable, "-m", "scripts.cli")
"""The `ballotboard` command of this interpreter, wherever its console script is."""


class Service:
    """A `ballotboard` sub-command that serves HTTP; inside `with` it answers at `url`."""

    def __init__(
        self, arguments: Sequence[str], url: str, environment: Mapping[str, str], ready: str = "/readyz"
    ) -> None:
        self.arguments, self.url, self.environment, self.ready = list(arguments), url, dict(environment), ready
        self._process: subprocess.Popen[bytes] | None = None
        self._output: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the object)

    def __enter__(self) -> Service:
        try:
            self._start()
        except BaseException:  # ^C while it starts: nobody would call __exit__
            self.stop()
            raise
        return self

    def _start(self) -> None:
        root = Path(__file__).resolve().parents[1]
        environment = self.environment | {"PYTHONPATH": str(root)}
        self._process = spawn([*COMMAND, *self.arguments], self._output, environment)
        end = time.monotonic() + START_TIMEOUT
        while time.monotonic() < end:
            if self._process.poll() is not None:
                raise BallotboardError(f"`ballotboard {self.arguments[0]}` ended at once: {self._last_words()}")
            try:
                if httpx.get(self.url + self.ready, timeout=2).status_code == 200:
                    return
            except httpx.HTTPError:
                pass
            time.sleep(0.05)
        raise BallotboardError(f"`ballotboard {self.arguments[0]}` does not answer at {self.url}: {self._last_words()}")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Ask it to finish, and kill it if it does not."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _last_words(self) -> str:
        self._output.seek(0)
        lines = self._output.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"
