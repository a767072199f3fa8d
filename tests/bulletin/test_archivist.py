"""The archive that a board offers: the bytes that anyone would make from a node, with ranges, and never half of one."""

from __future__ import annotations

import hashlib
import io
import json
import re
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from bulletin import archivist as archivist_module
from bulletin.app import create_app
from bulletin.archivist import Archivist
from bulletin.indexer import Indexer
from bulletin.mirror import mirror
from bulletin.store import Store
from chain.anvil import Anvil
from chain.console import Connection
from chain.process import free_port
from protocol import merkle
from tests.bulletin.conftest import held_on
from tests.bulletin.pages import Page
from tests.bulletin.servers import serving
from tests.tamper.on_chain import START, ChainElection
from verifier.cli import app as verify_app
from verifier.node import NodeSource

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def made(election, tmp_path_factory) -> Archivist:
    """Of a board that has read the whole election."""
    return board_of(election, tmp_path_factory.mktemp("archive"))


def board_of(election: ChainElection, folder: Path, make: bool = True) -> Archivist:
    connection = Connection(election.anvil.url, "0x" + election.contract.hex())
    store = Store(f"sqlite:///{folder}/board.sqlite")
    Indexer(store, election.web3, election.contract).step()
    found = Archivist(store, connection, folder)
    assert not make or found.step(), found.note.trouble
    return found


def web(found: Archivist) -> TestClient:
    return TestClient(create_app(found.store, found.connection, archives=found.archives), follow_redirects=False)


def url_of(found: Archivist) -> str:
    return f"/archive/{found.archives.election}.archive"


def test_it_is_byte_for_byte_what_anyone_makes_from_the_node_and_the_verifier_takes_it(election, made, tmp_path):
    out = io.BytesIO()
    record = NodeSource(election.anvil.url, "0x" + election.contract.hex()).write(out)
    answer = web(made).get(url_of(made))
    assert answer.content == out.getvalue() and made.note.held.record == record.hex()
    assert made.note.held.sha256 == hashlib.sha256(answer.content).hexdigest() and made.note.held.final
    file = tmp_path / "download.archive"
    file.write_bytes(answer.content)
    told = CliRunner().invoke(verify_app, ["tally", str(file), "--election", made.archives.election, "--json"])
    assert told.exit_code == 0 and json.loads(told.stdout)["verdict"] == "verified"
    again = board_of(election, tmp_path)
    assert again.note.held.sha256 == made.note.held.sha256  # another board


def test_it_is_served_with_ranges_as_downloads_ask_for_them(made):
    client, url, whole = web(made), url_of(made), made.archives.path(made.note.held).read_bytes()
    size, tag = len(whole), f'"{hashlib.sha256(whole).hexdigest()}"'
    head = client.head(url)
    assert (head.status_code, head.content, head.headers["content-length"], head.headers["etag"]) == (
        200,
        b"",
        str(size),
        tag,
    )
    assert head.headers["accept-ranges"] == "bytes" and made.archives.election in head.headers["content-disposition"]

    def part(value: str, **headers: str) -> httpx.Response:
        return client.get(url, headers={"range": value, **headers})

    for asked, first, last in (("bytes=0-99", 0, 99), ("bytes=100-", 100, size - 1), ("bytes=-7", size - 7, size - 1)):
        answer = part(asked)
        assert answer.status_code == 206 and answer.content == whole[first : last + 1]
        assert answer.headers["content-range"] == f"bytes {first}-{last}/{size}"
    assert part("bytes=5-9", **{"if-range": tag}).content == whole[5:10]
    changed = part("bytes=5-9", **{"if-range": '"another"'})  # the file is a newer one: all of it
    assert (changed.status_code, changed.content) == (200, whole)
    beyond = part(f"bytes={size}-")
    assert (beyond.status_code, beyond.headers["content-range"]) == (416, f"bytes */{size}")
    assert client.get(url, headers={"if-none-match": tag}).status_code == 304
    assert "content-security-policy" in head.headers
    assert client.get(f"/archive/{'0' * 64}.archive").status_code == 404


def test_the_page_says_what_the_file_is_and_the_one_command(made):
    client = web(made)
    value = client.get("/api/v1/verify").json()
    assert value["archive"]["file"]["sha256"] == made.note.held.sha256 and value["archive"]["state"] == "ready"
    for language in ("en", "fr"):
        shown = Page(client.get(f"/{language}/verify").text)
        assert (
            value["archive_command"] in shown.text
            and made.note.held.sha256 in shown.text
            and made.note.held.record in shown.text
        )
        assert url_of(made) in [link.get("href") for link in shown.all("a")]


@pytest.mark.slow
def test_a_static_copy_has_every_page_the_whole_log_and_the_archive(made, tmp_path):
    with serving(create_app(made.store, made.connection, archives=made.archives)) as url:
        copied = mirror(url, tmp_path)
    assert copied.left_out == 0
    assert copied.files == sum(path.is_file() for path in tmp_path.rglob("*")) > 40
    assert (tmp_path / url_of(made)[1:]).read_bytes() == made.archives.path(made.note.held).read_bytes()
    for name in ("en/verify", "fr", "en/results/1"):
        assert (tmp_path / name / "index.html").read_text().startswith("<!doctype html>")
    head = json.loads((tmp_path / "api/v1/head").read_bytes())
    hashes = (tmp_path / f"tile/0/000.p/{head['size']}").read_bytes()
    assert merkle.root([hashes[i : i + 32] for i in range(0, len(hashes), 32)]).hex() == head["root"]
    for page in tmp_path.rglob("index.html"):  # what a page needs to be shown is there
        for link in re.findall(r'(?:src|href)="(/static/[^"]+)"', page.read_text()):
            assert (tmp_path / link[1:]).exists()


def test_it_grows_with_the_log_and_a_new_process_goes_on_with_the_file_that_is_there(tmp_path, monkeypatch):
    for name in ("POLL", "QUIET", "SHARE"):
        monkeypatch.setattr(archivist_module, name, 0)
    with Anvil(block_time=0, timestamp=START) as anvil:
        election = held_on(anvil, "vote")
        found = board_of(election, tmp_path, make=False)
        client = web(found)
        assert client.get(url_of(found)).status_code == 404
        assert "It will be made" in client.get("/en/verify").text
        assert found._due() and found.step() and not found._due()
        first = found.note.held
        text = client.get("/en/verify").text
        assert not first.final and "cannot be counted" in text and "verify diff" in text
        election.close()
        Indexer(found.store, election.web3, election.contract).step()
        assert "records since then: 1" in client.get("/en/verify").text
        assert found._due() and found.step()
        assert found.note.held.size == first.size + 1 and found.note.held.sha256 != first.sha256
        assert len(list(tmp_path.glob("*.archive"))) == 2  # who is downloading the first goes on
        found.step()
        assert [path.name for path in tmp_path.glob("*.archive")] == [found.note.held.name]
        later = Archivist(found.store, found.connection, tmp_path)
        assert later.note.held == found.note.held and not later._due()
        found.archives.path(found.note.held).write_bytes(b"cut")
        assert Archivist(found.store, found.connection, tmp_path).note.held is None


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """No file of this process may grow beyond so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_where_the_disk_is_full_the_archive_that_was_there_stays_and_the_page_says_why(election, made, tmp_path):
    found = board_of(election, tmp_path)
    before = found.archives.path(found.note.held).read_bytes()
    with full_disk(4_000):
        assert not found.step()
    assert "cannot write" in found.note.trouble and not list(tmp_path.glob("*.part"))
    client = web(found)
    assert client.get(url_of(found)).content == before
    assert "cannot write" in client.get("/en/verify").text
    assert found.step() and found.note.trouble == ""


def test_without_a_node_a_board_says_that_it_has_none(election, made, tmp_path):
    connection = Connection(f"http://127.0.0.1:{free_port()}", "0x" + election.contract.hex())
    found = Archivist(made.store, connection, tmp_path)
    assert not found.step() and found.note.trouble
    assert found.note.trouble in Page(web(found).get("/en/verify").text).text
    nobody = TestClient(create_app(made.store, connection))
    assert nobody.get("/api/v1/verify").json()["archive"]["state"] == "none"
    assert nobody.get(url_of(made)).status_code == 404
