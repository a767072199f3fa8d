"""A PostgreSQL server of its own for tests: Debian's, on loopback, in a folder that goes with it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from chain.process import free_port

USER = "postgres"
"""PostgreSQL refuses to run as root; Debian's package makes this user."""


def binaries() -> Path | None:
    """The folder of `initdb` and `postgres`, None if there is none."""
    places = [Path(path).parent for path in [shutil.which("initdb")] if path]
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((place for place in places if (place / "initdb").exists() and (place / "postgres").exists()), None)


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """The URL of a database `postgres` on a new server."""
    user = USER if os.geteuid() == 0 else None
    port, data = free_port(), Path(tempfile.mkdtemp(prefix="ballotboard-pg-"))
    if user:
        shutil.chown(data, user)
    options = ["-p", str(port), "-h", "127.0.0.1", "-k", str(data)]
    with (data / "log").open("wb") as log:
        initdb = [str(folder / "initdb"), "-D", str(data / "d"), "-A", "trust", "-U", USER, "--no-sync"]
        subprocess.run(initdb, user=user, stdout=log, stderr=log, check=True, cwd=data)
        process = subprocess.Popen(
            [str(folder / "postgres"), "-D", str(data / "d"), *options], user=user, stdout=log, stderr=log, cwd=data
        )
        try:
            _await(port, process)
            yield f"postgresql+psycopg://{USER}@127.0.0.1:{port}/postgres"
        finally:
            process.send_signal(signal.SIGINT)  # does not wait for those who are connected
            process.wait(30)
            shutil.rmtree(data, ignore_errors=True)


def empty(url: str) -> None:
    """Drops all tables."""
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")


def _await(port: int, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 60
    while True:
        try:
            psycopg.connect(f"host=127.0.0.1 port={port} user={USER} dbname=postgres", connect_timeout=5).close()
            return
        except psycopg.OperationalError:
            assert process.poll() is None and time.monotonic() < end, "PostgreSQL does not start"
            time.sleep(0.05)
