"""`python -m scripts.bench._plain PORT FILE`: what anybody would write first, a FastAPI route that inserts the body into SQLite and commits.

As durable as the relayer's outbox (a write-ahead log, synced at every commit), and nothing is checked, promised or carried on.
"""

from __future__ import annotations

import sqlite3
import sys

import uvicorn
from fastapi import FastAPI, Request, Response


def create_app(file: str) -> FastAPI:
    app = FastAPI()
    database = sqlite3.connect(file)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    database.execute("CREATE TABLE ballots (id INTEGER PRIMARY KEY, body BLOB NOT NULL)")

    @app.post("/v1/ballots", status_code=202)
    async def insert(request: Request) -> Response:
        with database:
            database.execute("INSERT INTO ballots (body) VALUES (?)", (await request.body(),))
        return Response(b"{}", 202, media_type="application/json")

    return app


if __name__ == "__main__":
    uvicorn.run(create_app(sys.argv[2]), host="127.0.0.1", port=int(sys.argv[1]), access_log=False, log_level="warning")
