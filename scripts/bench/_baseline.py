"""The baselines that are servers of their own: started, waited for, and ended."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from chain.process import free_port


@contextmanager
def baseline(module: str, file: Path) -> Iterator[tuple[str, int]]:
    """URL and process id of `python -m scripts.bench.MODULE PORT FILE`, once it answers."""
    port = free_port()
    command = [sys.executable, "-m", f"scripts.bench.{module}", str(port), str(file)]
    with subprocess.Popen(command) as process:
        url = f"http://127.0.0.1:{port}"
        try:
            while process.poll() is None:
                try:
                    httpx.get(url)
                    break
                except httpx.TransportError:
                    time.sleep(0.05)
            yield url, process.pid
        finally:
            process.terminate()
