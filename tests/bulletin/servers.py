"""A board on a real server."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from bulletin.app import create_app
from bulletin.replica import Replica
from chain.console import Connection
from chain.process import free_port
from tests.tamper import builder


@contextmanager
def serving(app: Any, **options: Any) -> Iterator[str]:
    """The URL of a server with this application; `options` are uvicorn's."""
    port = free_port()
    server = uvicorn.Server(
        uvicorn.Config(app, port=port, lifespan="off", log_level="error", timeout_graceful_shutdown=1, **options)
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(5)


def application(copy: Replica, boards: list[str] | None = None) -> Any:
    return create_app(
        copy.store, Connection("http://127.0.0.1:8545", "0x" + builder.CONTRACT.hex(), boards=boards or [])
    )
