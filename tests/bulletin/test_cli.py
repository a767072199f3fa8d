"""`ballotboard board` as people run it."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from bulletin.cli import app
from chain.console import Connection
from protocol.errors import BallotboardError
from scripts import cli
from tests.bulletin.pages import Page
from tests.relayer.test_faults import until

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).parents[2]


@pytest.fixture
def desk(election, tmp_path, monkeypatch) -> Path:
    """A folder with the connection file, where the commands are typed."""
    connection = Connection(election.anvil.url, "0x" + election.contract.hex(), election.manifest.election_id.hex())
    connection.save(tmp_path / "board.json")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def board(*words: str) -> str:
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(capsys, *words: str) -> str:
    """The one line that a person reads."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["ballotboard", "board", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
    assert ended.value.code == 2
    caught = capsys.readouterr()
    assert caught.err.startswith("error: ") and caught.err.count("\n") == 1 and caught.out == ""
    return caught.err


@contextmanager
def served(desk: Path, *words: str) -> Iterator[tuple[subprocess.Popen[str], dict]]:
    """`board serve` as a process of its own, once it says that it is ready."""
    with (desk / "log").open("ab") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "scripts.cli", "board", "serve", "--port", "0", *words],
            cwd=desk, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, stderr=errors, text=True,
        )  # fmt: skip
    try:
        line = process.stdout.readline()
        assert line, (desk / "log").read_text()
        yield process, json.loads(line)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_index_reads_to_the_head_and_says_which(desk, election):
    head = election.claims().head
    expected = {"size": head.size, "root": head.root.hex()}
    assert json.loads(board("index", "--json")) == expected
    assert json.loads(board("index", "--json")) == expected  # again, from the database
    assert board("index") == f"{head.size} records, root {head.root.hex()}\n"
    assert (desk / "bulletin.sqlite").exists()


def test_a_database_that_is_dropped_and_rebuilt_exports_the_same_bytes(desk, election):
    board("index")
    board("export", "one.jsonl")
    for path in desk.glob("bulletin.sqlite*"):
        path.unlink()
    board("index")
    board("export", "two.jsonl")
    board("rebuild", "--json")
    board("export", "three.jsonl")
    one = (desk / "one.jsonl").read_bytes()
    assert one == (desk / "two.jsonl").read_bytes() == (desk / "three.jsonl").read_bytes()
    lines = [json.loads(line) for line in one.splitlines()]
    assert lines[0]["head"]["size"] == len([line for line in lines if "entry" in line]) == len(election.drafts)
    out = CliRunner().invoke(app, ["export", "-"])
    assert out.stdout_bytes == one


def test_serve_shows_the_election_and_ends_cleanly_on_sigterm(desk, election):
    (desk / "colours.csv").write_text("contest,option,colour\nmayor,a,#7a7a7a\n")
    with served(desk, "--colours", "colours.csv") as (process, ready):
        web = httpx.Client(base_url=ready["url"], follow_redirects=True)
        assert ready["ready"] is True and ready["pid"] == process.pid
        assert web.get("/readyz").json() == {"ready": True, "problem": ""}
        overview = web.get("/")
        assert "The result is announced" in Page(overview.text).text and "gets the same" in overview.text
        assert "default-src 'none'" in overview.headers["content-security-policy"]
        assert 'href="/colours.css"' in overview.text and "#7a7a7a" in web.get("/colours.css").text
        assert "server" not in overview.headers and "set-cookie" not in overview.headers
        ballot = web.get("/api/v1/ballots/" + election.claims().records[14].entry.body_hash.hex()).json()
        assert (
            ballot["fate"]["state"] == "counted"
            and "This ballot is counted." in web.get(f"/ballots/{ballot['hash']}").text
        )
        command = web.get("/api/v1/verify").json()["command"].split()[1:]
        until(lambda: web.get("/api/v1/verify").json()["archive"]["file"])
        file = web.get("/api/v1/verify").json()["archive"]["file"]
        first = web.get(file["url"], headers={"range": "bytes=0-9"})
        assert first.status_code == 206 and first.headers["content-range"] == f"bytes 0-9/{file['bytes']}"
        assert hashlib.sha256(web.get(file["url"]).content).hexdigest() == file["sha256"]
        [kept] = desk.glob("*.archive")  # beside the database
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    assert "Traceback" not in (desk / "log").read_text()
    verified = subprocess.run(
        [sys.executable, "-m", "scripts.cli", *command], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert verified.returncode == 0, verified.stdout + verified.stderr  # the command on the page is right
    assert hashlib.sha256(kept.read_bytes()).hexdigest() == file["sha256"]


def test_a_proxy_that_is_no_address_is_refused_before_anything_is_read(desk, capsys):
    assert "--trust-proxy nginx is not an address" in refused(capsys, "serve", "--port", "0", "--trust-proxy", "nginx")


def test_colours_of_another_election_are_refused_by_their_line(desk, capsys):
    (desk / "colours.csv").write_text("contest,option,colour\nmayor,nobody,#7a7a7a\n")
    told = refused(capsys, "serve", "--port", "0", "--colours", "colours.csv")
    assert "colours.csv line 2: no option 'nobody' in the contest 'mayor'" in told


def test_an_interrupt_ends_it_with_status_130_and_no_traceback(desk):
    with served(desk) as (process, _):
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
    assert "Traceback" not in (desk / "log").read_text()


def test_what_cannot_be_done_is_one_line(desk, election, capsys, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    assert "not a connection file" in refused(capsys, "index", "--board", __file__)
    assert "no file" in refused(capsys, "index", "--board", "nothing.json")
    assert "holds no log yet" in refused(capsys, "export", "out", "--database", f"sqlite:///{other}/new.sqlite")
    assert "cannot be used" in refused(capsys, "index", "--database", "nonsense")
    assert "cannot be opened" in refused(capsys, "index", "--database", f"sqlite:///{other}/no/folder.sqlite")
    assert refused(capsys, "index", "--rpc", "http://127.0.0.1:1")
    assert refused(capsys, "index", "--contract", "0x" + "00" * 19 + "01")
    board("index")
    assert "cannot write" in refused(capsys, "export", str(other))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert "choose another --port" in refused(capsys, "serve", "--port", str(taken.getsockname()[1]))
    assert "choose another --port" in refused(capsys, "serve", "--port", "99999")


def test_nothing_is_thrown_away_while_there_is_nothing_to_read(desk, election):
    board("index")
    board("export", "one.jsonl")
    with pytest.raises(BallotboardError):
        CliRunner().invoke(app, ["rebuild", "--rpc", "http://127.0.0.1:1"], catch_exceptions=False)
    board("export", "two.jsonl")
    assert (desk / "one.jsonl").read_bytes() == (desk / "two.jsonl").read_bytes()


def test_a_file_with_the_election_id_of_another_is_refused(desk, election, capsys):
    Connection(election.anvil.url, "0x" + election.contract.hex(), "00" * 32).save(desk / "board.json")
    assert "check the contract address" in refused(capsys, "index")
