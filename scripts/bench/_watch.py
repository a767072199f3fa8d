"""Part of `national`: a command as people run it, by the clock on the wall and with the memory of all its processes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

PASSPHRASE = "bench"
"""Of every key file that a benchmark makes."""

SAMPLE = 0.05
"""Seconds between two samples of memory: looking costs a millisecond or two of each process."""


def watched(arguments: Sequence[str | Path], every: float = SAMPLE) -> tuple[bytes, float, float]:
    """(output, seconds, peak memory in kB) of a `ballotboard` command and whatever it starts, from the start of the process to its end.

    The memory is the proportional set size of all its processes, sampled `every` so many seconds, so that what they share counts once.
    """
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "scripts.cli", *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        env={**os.environ, "BALLOTBOARD_PASSPHRASE": PASSPHRASE},
    )  # fmt: skip
    peak, over = 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not over.wait(every):
            peak = max(peak, sum(map(_pss, _family(process.pid))))

    watcher = threading.Thread(target=watch)
    watcher.start()
    output = process.communicate()[0]
    seconds = time.perf_counter() - start
    over.set()
    watcher.join()
    assert process.returncode == 0, f"`{' '.join(map(str, arguments[:2]))}` failed"
    return output, seconds, float(peak)


def _family(pid: int) -> list[int]:
    """A process and all below it."""
    found = [pid]
    for one in found:
        try:
            for task in Path(f"/proc/{one}/task").iterdir():
                found += map(int, (task / "children").read_text().split())
        except OSError:
            continue
    return found


def _pss(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:  # it has ended
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)
