"""`ballotboard station` as officers type it: a day in commands, and every mistake as one line and exit status 2."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chain.anvil import Anvil
from chain.console import Connection
from chain.log import read_log
from chain.rpc import checksummed
from chain.sealed import LIGHT
from protocol import election
from protocol.paper import StationResult
from protocol.records import Kind
from scripts.cli import main
from station import actions
from tests.trustee.boards import Election, publish, quick_key

pytestmark = pytest.mark.e2e

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def board(tmp_path, monkeypatch) -> Iterator[Election]:
    """An open election, a connection file, the keys of two officers, all under one passphrase."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BALLOTBOARD_PASSPHRASE", "pass")
    monkeypatch.setattr(actions, "init", functools.partial(actions.init, cost=LIGHT))
    with Anvil(block_time=0) as chain:
        board = publish(chain)
        board.record_roll(2)
        board.open()
        Connection(chain.url, checksummed(board.board.address)).save(tmp_path / "board.json")
        for name, account in zip(("ana.key", "ben.key"), board.officers[0], strict=False):
            quick_key(tmp_path / name, account, "pass")
        yield board


@pytest.fixture
def station(monkeypatch, capsys) -> Run:
    def run(*arguments: str, folder: bool = True) -> tuple[int, str, str]:
        where = ("--folder", "school") if folder else ()
        monkeypatch.setattr(sys, "argv", ["ballotboard", "station", *arguments, *where])
        with pytest.raises(SystemExit) as end:
            main()
        said = capsys.readouterr()
        return int(end.value.code or 0), said.out, said.err

    return run


def test_a_stations_day_from_the_readme(board, station):
    windows, figures = board.manifest.windows, ("--issued", "2", "--spoiled", "0", "--unreturned", "0")
    assert station("init", "school", "--station", "0", folder=False)[0] == 0
    for command in (("open",), ("check-in", "0", "1"), ("close",)):
        code, _, err = station(*command)
        assert code == 0 and "next: " in err, err
    board.chain.advance_to(windows.count_not_before)
    code, out, _ = station("count", "--counts", "yes=1,no=0,blank=1", *figures)
    assert code == 0 and "NOT SIGNED YET" in out
    for officer in ("ana.key", "ben.key"):
        code, out, _ = station("sign", "--officer", officer)
        assert code == 0 and "Papers issued" in out  # nobody signs what was not shown
    assert station("submit", "--key", "ana.key")[0] == 0
    board.chain.advance_to(windows.reveal_not_before)
    assert station("reveal", "--wait", "--key", "ana.key")[0] == 0
    assert station("amend", "--reason", "slip of the pen", "--counts", "yes=2,no=0,blank=0", *figures)[0] == 0
    for officer in ("ana.key", "ben.key"):
        station("sign", "--officer", officer)
    assert station("sync", "--key", "ben.key")[0] == 0

    code, out, _ = station("status", "--json")
    value = json.loads(out)
    assert [result["revealed"] for result in value["results"]] == [True, True] and value["chain"]["revision"] == 2
    records = read_log(board.chain.web3, board.board.address).records
    documents = [StationResult.parse(r.body or b"") for r in election.of_kind(records, Kind.STATION_RESULT)]
    assert [(d.revision, d.contests[0].counts) for d in documents] == [(1, (1, 0, 1)), (2, (2, 0, 0))]
    _, out, _ = station("print")
    assert documents[1].document_hash().hex() in out and "because: slip of the pen" in out
    _, out, _ = station("export")
    assert [json.loads(line)["number"] for line in out.splitlines()] == list(range(value["entries"]))


def test_a_station_without_a_network_works_and_says_so(board, station):
    station("init", "school", "--station", "0", folder=False)
    board.chain.stop()
    code, _, err = station("open")
    assert code == 0 and "without a network" in err
    assert station("check-in", "0")[0] == 0
    code, out, err = station("status", "--offline")
    assert code == 0 and "1 check-ins" in out and "network" not in err
    code, _, err = station("sync", "--key", "ana.key")
    assert code == 2 and "no answer from" in err


def test_the_count_asks_for_every_figure_that_was_not_given(board, station, monkeypatch):
    station("init", "school", "--station", "0", folder=False)
    for command in (("open",), ("check-in", "0", "1"), ("close",)):
        station(*command)
    board.chain.advance_to(board.manifest.windows.count_not_before)
    asked: list[str] = []

    def answer(text: str, **options: object) -> int:
        asked.append(text.strip())
        return {"papers issued": 2, "papers in the box": 2, "yes": 2}.get(text.strip(), 0)

    monkeypatch.setattr("typer.prompt", answer)
    code, out, err = station("count")
    assert code == 0, err
    assert asked == [
        "papers issued",
        "papers spoiled",
        "papers not returned",
        "papers in the box",
        "yes",
        "no",
        "blank",
        "invalid",
    ]


def test_mistakes_are_one_line_and_exit_status_2(board, station, tmp_path, monkeypatch):
    station("init", "school", "--station", "0", folder=False)

    def fails(words: str, *arguments: str, folder: bool = True) -> None:
        before = (tmp_path / "school" / "journal").read_bytes()
        code, _, err = station(*arguments, folder=folder)
        assert code == 2 and err.startswith("error: ") and words in err and err.count("\n") == 1, err
        assert (tmp_path / "school" / "journal").read_bytes() == before

    fails("is a station's folder already", "init", "school", "--station", "0", folder=False)
    fails("there is no station 7", "init", "other", "--station", "7", folder=False)
    fails("not open yet", "check-in", "0")
    fails("may not vote at this station", *(station("open") and ("check-in", "3")))
    fails("close the station first", "count", "--counts", "yes=1,no=0,blank=0", "--issued", "1")
    station("close")
    fails("counting begins", "count", "--counts", "yes=1,no=0,blank=0", "--issued", "1")
    board.chain.advance_to(board.manifest.windows.count_not_before)
    fails("no count for blank", "count", "--counts", "yes=1,no=0", "--issued", "1")
    fails("cannot read the counts", "count", "--counts", "yes", "--issued", "1")
    fails("do not add up", "count", "--counts", "yes=1,no=0,blank=0", "--issued", "2", "--reason", "x")
    fails("no result yet", "submit", "--key", "ana.key")
    fails("no result yet", "print")
    fails("cannot read the key file", "sign", "--officer", "none.key")
    monkeypatch.setenv("BALLOTBOARD_PASSPHRASE", "wrong")
    fails("the passphrase is wrong", "status", "--offline")
    (tmp_path / "pass").write_text("pass")
    fails(
        "does not open with this passphrase",
        "sign",
        "--officer",
        "ana.key",
        "--passphrase-file",
        "pass",
        "--key-passphrase-file",
        str(Path("board.json")),
    )
