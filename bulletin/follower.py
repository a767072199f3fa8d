"""The process that follows the chain into the database, beside those that serve from it: reading a busy chain never keeps a voter waiting.

follow(…)       what that process does: the indexer, and the archivist in a thread beside it
Follower(…)     keeps such a process running, as `board serve` does
"""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from types import TracebackType

from bulletin.archivist import Archivist
from bulletin.indexer import Indexer
from bulletin.store import Store, StoreError
from bulletin.watch import followed, forget
from chain.process import spawn

GRACE = 5.0
"""Seconds that the process has for the end of its transaction. What is lost by killing it is read again."""

AGAIN = 2.0
"""Seconds until one that ended by itself is started again, and between looks whether an alarm was taken away."""

POLL = 0.1
"""Seconds between looks whether the log is read."""

log = logging.getLogger("bulletin")


def follow(indexer: Indexer, archivist: Archivist | None) -> None:
    """Follows the chain until SIGTERM, then returns; ^C raises KeyboardInterrupt. Raises Alarm if there is one."""
    stop = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: stop.set())
    if archivist:
        threading.Thread(target=archivist.run, args=(stop,), name="archivist", daemon=True).start()
    try:
        indexer.run(stop)
    finally:
        stop.set()
        signal.signal(signal.SIGTERM, before)


class Follower:
    """`ballotboard board index --follow` with these words as a process of ours, inside `with`. It is started again should it end, but not while there
    is an alarm. `synced` is called when it has read the log to its head for the first time."""

    def __init__(self, store: Store, words: Sequence[str], synced: Callable[[], None]) -> None:
        self._store, self._synced = store, synced
        self._command = [sys.executable, "-m", "bulletin", "index", "--follow", *words]
        self._stop = threading.Event()
        # The process ends with the thread that started it.
        self._thread = threading.Thread(target=self._keep, name="follower", daemon=True)

    def __enter__(self) -> Follower:
        forget(self._store)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(2 * GRACE)

    def _keep(self) -> None:
        told = False
        while not self._stop.is_set():
            if self._stopped_for_good():
                self._stop.wait(AGAIN)
                continue
            process = spawn(self._command, sys.stderr.buffer)
            while process.poll() is None and not self._stop.wait(AGAIN if told else POLL):
                if not told and self._read_to_its_head():
                    told = True
                    self._synced()
            if self._stop.is_set():
                _end(process)
            else:
                log.error("the process that follows the chain has ended with status %d", process.returncode)
                self._stop.wait(AGAIN)

    def _stopped_for_good(self) -> bool:
        try:
            with self._store.read() as tx:
                return bool(tx.fact("alarm"))
        except StoreError:
            return False

    def _read_to_its_head(self) -> bool:
        try:
            with self._store.read() as tx:
                return followed(tx).synced
        except StoreError:
            return False


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
