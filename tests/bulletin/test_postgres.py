"""The board on a real PostgreSQL: the same export and the same answers as from SQLite."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from bulletin.app import create_app
from bulletin.archivist import Archivist
from bulletin.board import API
from bulletin.cli import app
from bulletin.store import Store, StoreError
from chain.console import Connection
from protocol.records import Kind
from tests.relayer import postgres

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

PATHS = (
    "election", "head", "turnout", "timeline", "attempts", "stations", "result", "results.csv", "network", "verify", "records?limit=1000", "records?from=3&limit=2",
    "counted-set?limit=1000", "records/0", "regions/0", "regions/2", "heads/3", "records/9999",
)  # fmt: skip
PAGES = ("", "find?q=1", "results", "results/1", "stations", "records", "attempts", "network", "verify", "display")


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    if not (folder := postgres.binaries()):
        pytest.skip("there is no PostgreSQL on this machine: install it to run the board on it")
    with postgres.server(folder) as url:
        yield url


@pytest.fixture(scope="module")
def databases(election, database, tmp_path_factory) -> tuple[Path, str, str]:
    """The folder of the connection file, and the two databases, both indexed by the command."""
    folder = tmp_path_factory.mktemp("postgres")
    Connection(election.anvil.url, "0x" + election.contract.hex()).save(folder / "board.json")
    both = f"sqlite:///{folder / 'board.sqlite'}", database
    for url in both:
        board("index", folder, url)
    return folder, *both


def board(command: str, folder: Path, url: str, *words: str) -> bytes:
    found = CliRunner().invoke(
        app, [command, *words, "--board", str(folder / "board.json"), "--database", url], catch_exceptions=False
    )
    assert found.exit_code == 0, found.output
    return found.stdout_bytes


def web(folder: Path, url: str) -> TestClient:
    connection = Connection(**json.loads((folder / "board.json").read_text()))
    store = Store(url)
    archivist = Archivist(store, connection, folder)
    assert archivist.step(), archivist.note.trouble
    return TestClient(create_app(store, connection, archives=archivist.archives), follow_redirects=False)


def test_the_export_is_the_same_and_so_it_is_after_a_rebuild(databases, election):
    folder, sqlite, database = databases
    one = board("export", folder, sqlite, "-")
    assert one.count(b'"entry"') == len(election.drafts) and one == board("export", folder, database, "-")
    assert json.loads(board("rebuild", folder, database, "--json")) == json.loads(
        board("index", folder, sqlite, "--json")
    )
    assert board("export", folder, database, "-") == one


def test_every_answer_of_the_api_and_every_page_is_the_same(databases):
    folder, sqlite, database = databases
    one, two = web(folder, sqlite), web(folder, database)
    key = [client.get(f"{API}/verify").json()["checkpoint_key"] for client in (one, two)]
    paths = [f"{API}/{path}" for path in PATHS] + [f"/fr/{page}" for page in PAGES]
    for record in one.get(f"{API}/records?kind={int(Kind.BALLOT)}&limit=1000").json()["records"]:
        paths += [
            f"{API}/ballots/{record['hash']}",
            f"{API}/receipts/{record['hash']}",
            f"/en/find?q={record['hash'][:12]}",
        ]
    size = one.get(f"{API}/head").json()["size"]
    paths += [f"/tile/0/000.p/{size}", f"/tile/entries/000.p/{size}"]
    paths.append(one.get(f"{API}/verify").json()["archive"]["file"]["url"])
    for path in paths:
        answers = [client.get(path) for client in (one, two)]
        assert answers[0].status_code == answers[1].status_code < 500, path
        assert answers[0].content.replace(key[0].encode(), b"") == answers[1].content.replace(key[1].encode(), b""), (
            path
        )


def test_a_database_of_another_board_and_a_server_that_is_gone_are_said_in_a_line(databases, database):
    store = Store(database)
    with pytest.raises(StoreError, match="holds the election"):
        store.bind(1, bytes(20), bytes(32))
    with pytest.raises(StoreError, match="cannot be opened"):
        Store("postgresql+psycopg://postgres@127.0.0.1:1/postgres?connect_timeout=1")
