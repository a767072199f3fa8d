"""`python -m scripts.bench._plain_lookup PORT FILE`: what anybody would write first, a FastAPI route that reads a body by its hash from SQLite."""

from __future__ import annotations

import sqlite3
import sys

import uvicorn
from fastapi import FastAPI, HTTPException


def create_app(file: str) -> FastAPI:
    app = FastAPI()
    database = sqlite3.connect(file)

    @app.get("/ballots/{ballot_hash}")
    async def ballot(ballot_hash: str) -> dict[str, str]:
        found = database.execute("SELECT body FROM ballots WHERE hash = ?", (ballot_hash,)).fetchone()
        if found is None:
            raise HTTPException(404)
        return {"ballot": found[0].hex()}

    return app


if __name__ == "__main__":
    uvicorn.run(create_app(sys.argv[2]), host="127.0.0.1", port=int(sys.argv[1]), access_log=False, log_level="warning")
