"""`ballotboard station` as officers type it: a day in commands, and every mistake as one line and exit status 2."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

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
        board.make_key()
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


def test_watching_reveals_by_itself_once_there_is_a_network_and_the_embargo_is_over(board, station, monkeypatch):
    station("init", "school", "--station", "0", folder=False)
    for command in (("open",), ("check-in", "0", "1"), ("close",)):
        station(*command)
    board.chain.advance_to(board.manifest.windows.count_not_before)
    station("count", "--counts", "yes=1,no=0,blank=1", "--issued", "2")
    for officer in ("ana.key", "ben.key"):
        station("sign", "--officer", officer)
    url, waits = board.chain.url, iter(["no network", "embargo", "over"])
    where = Path("school/board.json")
    text = where.read_text()

    def wait(seconds: float) -> None:
        step = next(waits)
        where.write_text(text)
        if step == "embargo":
            board.chain.advance_to(board.manifest.windows.reveal_not_before)

    monkeypatch.setattr("station.cli.time", SimpleNamespace(sleep=wait))
    where.write_text(text.replace(url, "http://127.0.0.1:9"))
    code, _, err = station("sync", "--watch", "--key", "ana.key")
    assert code == 0 and "no network now" in err and "the document of revision 1" in err
    assert next(waits) == "over"


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
    figures = [
        "papers issued",
        "papers spoiled",
        "papers not returned",
        "papers in the box",
        "yes",
        "no",
        "blank",
        "invalid",
    ]
    assert asked == figures * 2 and "a second person" in err


def test_two_entries_that_differ_make_no_result_and_say_where_but_not_by_how_much(
    board, station, monkeypatch, tmp_path
):
    station("init", "school", "--station", "0", folder=False)
    for command in (("open",), ("check-in", "0", "1"), ("close",)):
        station(*command)
    board.chain.advance_to(board.manifest.windows.count_not_before)
    before = (tmp_path / "school" / "journal").read_bytes()
    asked: list[str] = []

    def answer(text: str, **options: object) -> int:
        asked.append(text.strip())
        first = len(asked) <= 8
        return {"papers issued": 2, "papers in the box": 2, "yes": 2 if first else 1, "no": 0 if first else 1}.get(
            asked[-1], 0
        )

    monkeypatch.setattr("typer.prompt", answer)
    code, _, err = station("count")
    assert code == 2 and "the two entries differ in yes, no: count these again" in err
    assert (tmp_path / "school" / "journal").read_bytes() == before


def test_two_people_enter_the_count_at_two_times_and_machines_can_read_every_answer(board, station):
    station("init", "school", "--station", "0", folder=False)
    for command in (("open",), ("check-in", "0", "1", "--issue"), ("close",)):
        code, out, err = station(*command, "--json")
        assert code == 0 and set(json.loads(out)) >= {"did", "next"} and not err
    board.chain.advance_to(board.manifest.windows.count_not_before)
    figures = ("--counts", "yes=2,no=0,blank=0", "--issued", "2", "--json")
    code, out, _ = station("count", "--by", "Ana", *figures)
    assert (code, json.loads(out)["entries"]) == (0, ["Ana"])
    assert "first count" in json.loads(station("count", "--by", "ana ", *figures)[1])["did"]  # the same person again
    code, out, _ = station("count", "--by", "Ben", *figures)
    assert code == 0 and "revision 1 balances" in json.loads(out)["did"]
    code, out, _ = station("print", "--pdf", "sheet.pdf", "--json")
    assert code == 0 and json.loads(out)["code"].startswith("ballotboard:stations/0?election=")
    code, out, _ = station("check-sheet", json.loads(out)["code"], folder=False)
    assert code == 1 and "no revision 1 of station 0 is on the record" in out


def test_whoever_may_not_vote_on_paper_is_said_with_exit_status_1_and_the_covered_code_is_never_taken(board, station):
    station("init", "school", "--station", "0", folder=False)
    election = board.manifest.election_id.hex()
    assert station("look-up", "1")[0] == 0
    assert station("look-up", f"BALLOTBOARD:1:{election.upper()}:1")[0] == 0
    code, out, err = station("look-up", "3", "--json")
    assert code == 1 and json.loads(out)["state"] == "not-here" and not err
    for text, words in (
        (f"BALLOTBOARD:1:{'0' * 64}:1", "of another election"),
        ("000G40R40-M30E20918-5GR38E1W6", "covered code, which nobody may see"),
        ("7-000G40R40-M30E20918-5GR38E1W6", "covered code, which nobody may see"),
        ("school", "no roll index in"),
    ):
        code, _, err = station("look-up", text)
        assert code == 2 and words in err, err


def test_killed_between_two_voters_it_opens_with_every_check_in_that_was_confirmed(board, station, tmp_path):
    """Real processes: each says it has checked a voter in, or it has not."""
    station("init", "school", "--station", "0", folder=False)
    station("open")
    script = (
        "import os, signal, sys; from pathlib import Path; from station import actions; from station.folder import StationFolder\n"
        "place = StationFolder.open(Path('school'), 'pass')\n"
        "print(actions.check_in(place, [0]).did, flush=True)\n"
        "write = os.pwrite\n"
        "os.pwrite = lambda handle, data, at: (write(handle, data[:50], at), os.kill(os.getpid(), signal.SIGKILL))\n"
        "print(actions.check_in(place, [1]).did, flush=True)"
    )
    root = {"PYTHONPATH": str(Path(__file__).parents[2]), "PATH": os.environ["PATH"]}
    child = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=root, capture_output=True, text=True)
    assert child.returncode == -9 and child.stdout.count("checked in") == 1, child.stderr
    value = json.loads(station("status", "--offline", "--json")[1])
    assert (value["check_ins"], value["recovered"]) == (1, 1)
    assert station("check-in", "1")[0] == 0


def test_on_a_full_disk_nothing_is_confirmed_and_when_there_is_room_it_goes_on(board, station, tmp_path):
    station("init", "school", "--station", "0", folder=False)
    station("open")
    journal = tmp_path / "school" / "journal"
    before = journal.read_bytes()
    root = Path(__file__).parents[2]
    script = (
        "import resource, signal, sys, station.cli; from scripts.cli import main; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({len(before) + 40},) * 2)\n"
        "sys.argv = ['ballotboard', 'station', 'check-in', '0', '--folder', 'school']; main()"
    )
    environment = {
        **os.environ,
        "PYTHONPATH": str(root),
        "BALLOTBOARD_PASSPHRASE": "pass",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    child = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert child.returncode == 2 and "nothing was recorded" in child.stderr, child.stderr
    assert journal.read_bytes() == before
    assert station("check-in", "0")[0] == 0


def test_a_pack_is_carried_and_the_report_shows_the_station_beside_published_figures(board, station, tmp_path):
    station("init", "school", "--station", "0", folder=False)
    for command in (("open",), ("check-in", "0"), ("close",)):
        station(*command)
    board.chain.advance_to(board.manifest.windows.count_not_before)
    station("count", "--counts", "yes=1,no=0,blank=0", "--issued", "1")
    for officer in ("ana.key", "ben.key"):
        station("sign", "--officer", officer)
    board.chain.advance_to(board.manifest.windows.reveal_not_before)
    code, out, _ = station("pack", "--out", "school.pack", "--json")
    assert (code, json.loads(out)["items"]) == (0, 2)
    code, _, err = station("carry", "school.pack", "--key", "ana.key", folder=False)
    assert code == 0 and "1 packs carried" in err, err
    code, _, err = station("carry", "board.json", "--key", "ana.key", folder=False)
    assert code == 2 and "error: " in err
    (tmp_path / "official.json").write_text('{"source": "gazette", "units": {"North": [2, 0, 0]}}')
    (tmp_path / "scan.json").write_text('{"station": 0, "duplicates": 1, "foreign": 0, "forged": 0}')
    found = ("report", "--official", "official.json", "--scans", "scan.json")
    code, out, err = station(*found, folder=False)
    assert code == 0, err
    assert {flag["rule"] for flag in json.loads(out)["flags"]} == {"official", "serials"}
    code, out, _ = station(*found, "--form", "csv", "--level", "station", folder=False)
    assert code == 0 and out.splitlines()[1].startswith("station,School 0,1,1,")
    assert station(*found, "--form", "pdf", "--out", "report.pdf", folder=False)[0] == 0
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF-")
    code, _, err = station(*found, "--form", "pdf", folder=False)
    assert code == 2 and "a pdf needs --out FILE" in err
    (tmp_path / "official.json").write_text('{"source": "gazette", "units": {"North": [2]}}')
    code, _, err = station(*found, folder=False)
    assert code == 2 and "1 published figures for 3 options" in err


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
