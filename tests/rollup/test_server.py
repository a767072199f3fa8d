"""Levels as processes of their own that exchange signed sums over HTTP, and the commands that people use."""

import json
import os
import signal
import subprocess
import sys
import time

import httpx
import pytest
import typer

from chain.sealed import LIGHT, WrongPassphrase
from protocol.attachments import Attachment, open_rows
from protocol.encoding import u32, u64
from protocol.errors import BallotboardError
from rollup import inbox, keys
from rollup.check import check_level
from rollup.cli import app
from rollup.run import run_tree
from rollup.server import Level, create_app, send
from rollup.tree import read_tree
from tests.rollup.test_sums import resigned, standing
from tests.rollup.world import KEYS, LEAVES, UNITS

COMMAND = [sys.executable, "-m", "scripts.cli", "rollup"]
ENVIRONMENT = {**os.environ, "BALLOTBOARD_PASSPHRASE": "for the tests"}


@pytest.fixture(scope="module")
def key_file(tmp_path_factory):
    """The tests' keys in a file."""
    path = tmp_path_factory.mktemp("keys") / "all.key"
    made, urandom = keys.os, keys.os.urandom
    try:
        made.urandom = lambda n: KEYS.seed if n == keys.SEED_BYTES else urandom(n)
        keys.create(path, "for the tests", LIGHT)
    finally:
        made.urandom = urandom
    return path


def run(capsys, *arguments, status=0):
    """A sub-command of `ballotboard rollup` in this process: what it printed."""
    capsys.readouterr()
    try:
        answer = typer.main.get_command(app)([str(argument) for argument in arguments], standalone_mode=False)
    except BallotboardError as error:
        assert status == 2, error
        return str(error)
    assert (answer or 0) == status
    return capsys.readouterr().out


class Served:
    """A level that runs until the end of the block; `url` is where it answers."""

    def __init__(self, *arguments):
        self.process = subprocess.Popen(
            [*COMMAND, "serve", *map(str, arguments)], stdout=subprocess.PIPE, text=True, env=ENVIRONMENT
        )

    def __enter__(self):
        self.url = json.loads(self.process.stdout.readline())["url"]
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()
        self.process.stdout.close()

    def status(self):
        return httpx.get(f"{self.url}/status", trust_env=False).json()

    def until(self, done, seconds=120):
        limit = time.monotonic() + seconds
        while not done(self.status()):
            assert time.monotonic() < limit, self.status()
            time.sleep(0.05)


@pytest.mark.slow
def test_levels_on_several_machines_agree_with_one_machine_through_kills_late_and_repeated_sums(
    state, counted, tmp_path, key_file
):
    expected = run_tree(state.plan, counted, KEYS, processes=1).sum
    top, county = tmp_path / "top", tmp_path / "county"
    for folder in (top, county):
        state.plan.save(folder)
    with Served(top, "--unit", 0, "--key", key_file, "--port", 0) as nation:
        arguments = (county, "--unit", "Ada", "--key", key_file, "--port", 0, "--forward", nation.url)
        with Served(*arguments) as ada:
            send(ada.url, 3, standing(state, counted, 3).data)
            nation.until(lambda status: status["leaves"] == 1)
            os.kill(ada.process.pid, signal.SIGKILL)
        # Late: Ada 2, after the county's process died and its first, partial sum had gone up.
        with Served(*arguments) as ada:
            assert send(ada.url, 4, standing(state, counted, 4).data).value == "new"
            assert send(ada.url, 4, standing(state, counted, 4).data).value == "duplicate"
            nation.until(lambda status: status["leaves"] == 2)
            assert ada.status()["revision"] == 2
        for unit in (2, 7, 2):
            send(nation.url, unit, standing(state, counted, unit).data)
        nation.until(lambda status: status["leaves"] == 5 and standing(state, top, 0).leaves == 5)
    made = standing(state, top, 0)
    assert made.contests == expected.contests and made.leaves == 5
    assert check_level(state.plan, top, 0) == []


def client(state, folder, unit=1):
    from starlette.testclient import TestClient

    return TestClient(create_app(Level(state.plan, folder, unit)))


def test_what_is_not_a_child_s_signed_sum_is_refused_and_says_why(state, counted):
    one, other = standing(state, counted, 3), standing(state, counted, 5)
    contradiction = resigned(state, one, at45=u64(99))
    with client(state, counted) as http:
        answers = {
            "another unit's": http.post("/sums/5", content=other.data),
            "another's name": http.post("/sums/4", content=standing(state, counted, 4).data[:-1]),
            "unsigned": http.post("/sums/3", content=one.data[:-64] + bytes(64)),
            "long": http.post("/sums/3", content=one.data + b"\0"),
            "contradiction": http.post("/sums/3", content=contradiction),
            "again": http.post("/sums/3", content=one.data),
            "replaced": http.post("/sums/3", content=resigned(state, one, at37=u32(2))),
            "no number": http.post("/sums/x", content=b""),
        }
        assert {name: answer.status_code for name, answer in answers.items()} == {
            "another unit's": 404, "another's name": 400, "unsigned": 403, "long": 413, "contradiction": 409, "again": 200,
            "replaced": 201, "no number": 422,
        }  # fmt: skip
        assert "not signed with its key" in answers["unsigned"].json()["detail"]
        assert http.get("/sums/3").content == standing(state, counted, 3).data
        assert http.get("/sums/7").status_code == 404 and http.get("/children").content == b""
        assert http.get("/status").json() | {"plan": ""} == {
            "unit": 1, "name": "Ada", "plan": "", "children": 2, "missing": [], "leaves": 2, "of": 2, "revision": 0, "sent": 0,
        }  # fmt: skip
    assert len(inbox.conflicts(counted, 1)) == 2


# ---------------------------------------------------------------- commands


def test_a_precinct_a_county_and_the_state_with_the_commands(state, tmp_path, key_file, monkeypatch, capsys):
    monkeypatch.setenv("BALLOTBOARD_PASSPHRASE", "for the tests")
    state.save(tmp_path)
    found = json.loads(run(capsys, "run", tmp_path, "--key", key_file, "--unit", "Ada 1", "--json"))
    assert (found["unit"], found["ballots"], found["refused"]) == (3, {"yes-no": 12, "mayor": 12}, {})
    assert "wait for them, or use --partial" in run(capsys, "run", tmp_path, "--key", key_file, status=2)
    state.count(tmp_path, LEAVES[1:])
    whole = json.loads(run(capsys, "run", tmp_path, "--key", key_file, "--processes", 1, "--json"))
    assert (whole["leaves"], whole["of"], whole["revision"], whole["missing"]) == (5, 5, 1, [])
    assert json.loads(run(capsys, "check", tmp_path, "--logs", "--json"))["checked"] == 8
    sent = tmp_path / "3.sum"
    sent.write_bytes(resigned(state, standing(state, tmp_path, 3), at45=u64(99)))
    assert json.loads(run(capsys, "receive", tmp_path, sent, "--json", status=1)) == {str(sent): "conflict"}
    problems = json.loads(run(capsys, "check", tmp_path, "--unit", "Ada", "--json", status=1))["problems"]
    assert [(problem["check"], problem["unit"]) for problem in problems] == [(5, 3)]
    assert "does not verify: 1 units checked" in run(capsys, "check", tmp_path, "--unit", "1", status=1)
    for wrong, reason in ((["--unit", "Ada 9"], "no units are called"), (["--unit", "99"], "there is no unit 99")):
        assert reason in run(capsys, "check", tmp_path, *wrong, status=2)


def test_keys_and_trees_with_the_commands(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("BALLOTBOARD_PASSPHRASE", "for the tests")
    monkeypatch.setattr(keys.create, "__defaults__", (LIGHT,))
    path = tmp_path / "one.key"
    made, read = (run(capsys, "key", path, "--units", "0,2-3").split() for _ in range(2))
    assert made == read and [line.partition(",")[0] for line in made] == ["0", "2", "3"]
    assert bytes.fromhex(made[1].partition(",")[2]) == keys.load(path, "for the tests").public([2])
    with pytest.raises(WrongPassphrase):
        keys.load(path, "another")
    with pytest.raises(BallotboardError, match="exists and is not overwritten"):
        keys.create(path, "for the tests")
    tree = tmp_path / "units.csv"
    tree.write_text("id,parent,level,name\n" + "".join(f"{i},{u.parent if i else ''},{u.level},{u.name}\n" for i, u in enumerate(UNITS)))  # fmt: skip
    value = json.loads(run(capsys, "tree", tree, "--out", tmp_path / "units", "--json"))
    assert value["units"] == len(UNITS) == len(read_tree(tree)[0])
    rows = open_rows((tmp_path / "units").read_bytes(), Attachment.parse(value["attachment"], "units"), "units")
    assert len(rows) == len(UNITS)
