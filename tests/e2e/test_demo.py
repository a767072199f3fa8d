"""The whole product as a stranger meets it: `ballotboard demo` as a process, and what happens when it is interrupted."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest

from chain.errors import ChainError
from chain.network.node import find_binary
from scripts.ballot_data import read_ballots
from scripts.cli import main
from tests.shared_data import shared

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-W", "ignore", "-m", "scripts.cli"]


def ballotboard(*arguments, **options):
    options = {"timeout": 300} | options
    return subprocess.run([*COMMAND, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True, **options)


@pytest.fixture(scope="module")
def san_francisco():
    """300 ballots of a real election with precincts, held and verified: (what the demo printed, the published data)."""
    folder = shared("irv", "sf_2016_d7")
    contest, ballots = folder / "contest.json", folder / "ballots.csv"
    found = ballotboard("demo", "--contest", contest, "--ballots", ballots, "--limit", 300, "--json")
    assert found.returncode == 0, found.stderr
    return json.loads(found.stdout.splitlines()[-1]), read_ballots(contest, ballots).first(300)


def test_an_election_from_files_is_held_and_verified_with_its_published_totals(san_francisco):
    summary, data = san_francisco
    assert summary["verified"] is True
    assert summary["receipt_ok"] is True
    assert summary["ballots"] == summary["accepted"] == 300
    assert summary["tally"] == data.totals()


def test_paper_is_reported_beside_the_online_vote_and_the_total_is_their_sum(san_francisco):
    summary, data = san_francisco
    assert sum(summary["paper"].values()) > 0
    assert summary["total"] == {option: summary["tally"][option] + summary["paper"][option] for option in data.options}


def test_every_check_of_the_verifier_ran_and_passed_or_says_why_it_does_not_apply(san_francisco):
    summary, _ = san_francisco
    assert len(summary["checks"]) > 20
    assert {check["outcome"] for check in summary["checks"]} <= {"pass", "not applicable"}
    assert all(check["detail"] for check in summary["checks"])


def test_the_json_has_what_other_programs_read(san_francisco):
    summary, _ = san_francisco
    assert {
        "election",
        "ballots",
        "accepted",
        "tally",
        "paper",
        "total",
        "verified",
        "checks",
        "head",
        "network",
        "seconds",
        "receipt_ok",
    } <= set(summary)
    assert set(summary["head"]) == {"size", "root"}
    assert summary["network"] == {"engine": "anvil", "validators": 0}
    assert set(summary["seconds"]) == {"encrypt", "intake", "chain", "index", "tally", "verify"}


@pytest.mark.soak
def test_four_validators_keep_the_record_although_one_is_killed_and_sign_for_all_of_it():
    try:
        find_binary("geth"), find_binary("validator")
    except ChainError as error:
        pytest.skip(f"no network without its programs: {error}")
    found = ballotboard("demo", "--network", 4, "--limit", 500, "--json", timeout=900)
    assert found.returncode == 0, found.stderr
    summary = json.loads(found.stdout.splitlines()[-1])
    assert summary["verified"] is True and summary["receipt_ok"] is True
    network = summary["network"]
    assert (network["engine"], network["validators"], network["killed"]) == ("cometbft", 4, 1)
    evidence = network["evidence"]
    assert evidence["verified"] is True
    assert 3 * evidence["signed_power"] > 2 * evidence["total_power"] == 8
    assert next(check for check in summary["checks"] if check["id"] == "E04")["outcome"] == "pass"


def descendants_of(pid):
    found = subprocess.run(
        ["ps", "-ww", "-eo", "pid,ppid,args"], capture_output=True, text=True, check=True
    ).stdout.splitlines()[1:]
    rows, family = [line.split(None, 2) for line in found], {pid: ""}
    for _ in range(3):  # generations
        family |= {int(child): args for child, parent, args in rows if int(parent) in family}
    return family


def test_control_c_stops_every_process_that_was_started(tmp_path):
    said = tmp_path / "output"
    with said.open("w") as output:
        demo = subprocess.Popen([*COMMAND, "demo", "--limit", "50", "--keep"], cwd=ROOT, stdout=output, stderr=output)
    try:
        started: dict[int, str] = {}
        end = time.monotonic() + 60
        while len(started) < 4 and time.monotonic() < end:  # chain, relayer, board, and who follows for it
            assert demo.poll() is None, said.read_text()
            found = descendants_of(demo.pid).items()
            kinds = r"anvil|relayer run|board serve|bulletin index"
            started |= {pid: args for pid, args in found if re.search(kinds, args)}
            time.sleep(0.1)
        assert len(started) >= 4, (started, said.read_text())
        demo.send_signal(signal.SIGINT)
        assert demo.wait(60) == 130, said.read_text()
    finally:
        demo.kill()
    time.sleep(0.5)
    alive = [args for pid, args in started.items() if Path(f"/proc/{pid}").exists()]
    assert not alive


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["demo", "--contest", "x.json"], "belong together"),
        (["demo", "--contest", "no.json", "--ballots", "no.csv"], "no.json"),
        (["demo", "--limit", "0"], "--limit"),
        (["verify", "tally", "--rpc", "http://127.0.0.1:9", "--contract", "0x" + "11" * 20], "127.0.0.1:9"),
        (["verify", "tally", "--rpc", "http://127.0.0.1:9", "--contract", "0x11"], "contract"),
        (["verify", "receipt", str(Path(__file__))], "receipt"),
        (["verify", "tally"], "--rpc"),
        (["election", "check", "--config", "no-such-folder"], "no-such-folder"),
        (
            [
                "relayer",
                "run",
                "--dir",
                "no-such-folder",
                "--rpc",
                "http://127.0.0.1:9",
                "--contract",
                "0x" + "11" * 20,
            ],
            "no-such-folder",
        ),
        (["keys", "show", "no-such-file"], "no-such-file"),
    ],
)
def test_a_wrong_file_or_address_is_one_clear_line_and_status_2(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BALLOTBOARD_PASSPHRASE", "x")
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)  # which the command sets
    monkeypatch.setattr(sys, "argv", ["ballotboard", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    said = capsys.readouterr()
    assert end.value.code == 2, said
    lines = [line for line in said.err.splitlines() if line.startswith("error:")]
    assert len(lines) == 1
    assert message in lines[0]
