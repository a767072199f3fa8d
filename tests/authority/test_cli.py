"""The commands as people type them: what they print, and one clear line with exit status 2 for what is wrong."""

from __future__ import annotations

import importlib
import json
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from authority.config import CONFIG_FILE, read_config
from authority.plan import KEYS_FOLDER, Plan, new_election
from chain.anvil import Anvil
from chain.console import PASSPHRASE_VARIABLE
from chain.keys import address_of, load_account, save_account
from protocol.errors import BallotboardError
from relayer import keys as relayer_keys
from tests.authority.commands import fails
from tests.authority.test_config import TEXT
from tests.authority.world import PLAN, World

# ---------------------------------------------------------------- keys


def test_a_key_is_made_once_and_shown(run):
    status, out, _ = run("keys", "new", "--out", "my.key")
    assert status == 0 and out.strip() == load_account(Path("my.key"), "secret").address
    assert stat.S_IMODE(Path("my.key").stat().st_mode) == 0o600
    assert run("keys", "show", "my.key") == (0, out, "")
    assert "is not overwritten" in fails(run, "keys", "new", "--out", "my.key")
    assert json.loads(run("keys", "show", "my.key", "--json")[1]) == {"address": out.strip(), "file": "my.key"}


def test_a_key_without_a_passphrase_is_not_made(run, monkeypatch):
    monkeypatch.setenv(PASSPHRASE_VARIABLE, "")
    assert "the passphrase is empty" in fails(run, "keys", "new", "--out", "my.key")
    assert not Path("my.key").exists()


@pytest.mark.parametrize("content", [None, "", "{}", '{"version": 3}', "secret"])
def test_what_is_no_key_file_is_one_line(run, content):
    if content is not None:
        Path("my.key").write_text(content)
    assert "my.key" in fails(run, "keys", "show", "my.key")


# ---------------------------------------------------------------- new, check


def test_a_new_election_without_keys_names_what_is_to_be_filled_in(run):
    assert run("election", "new", "trial", "--no-keys", "--option", "A", "--option", "B")[0] == 0
    assert not Path("trial", KEYS_FOLDER).exists()
    status, out, err = run("election", "check", "--config", "trial/election.toml")
    assert (
        status == 2
        and 'roles "trustee-3": address' in out
        and err == "error: trial/election.toml: 11 things are wrong\n"
    )
    assert (
        json.loads(run("election", "check", "--config", "trial/election.toml", "--json")[1])["problems"]
        == out.splitlines()
    )


def test_a_new_election_s_units_may_come_from_a_file_and_a_wrong_line_of_it_is_named(run):
    Path("units.csv").write_text("id,parent,level,name\nland,,land,Land\nkent,land,county,Kent\nkent,,county,Kent\n")
    status, _, err = run("election", "new", "trial", "--no-keys", "--units-file", "units.csv")
    assert status == 2 and "units.csv, line 4: Kent (kent) has two parents: 'land' (line 3) and ''" in err
    assert not Path("trial").exists()
    Path("units.csv").write_text("id,parent,level,name\nland,,land,Land\nkent,land,county,Kent\n")
    assert run("election", "new", "trial", "--no-keys", "--units-file", "units.csv")[0] == 0
    assert Path("trial/units.csv").read_bytes() == Path("units.csv").read_bytes()
    assert 'units_file = "units.csv"' in Path("trial/election.toml").read_text()


@pytest.mark.usefixtures("quick_keys")
def test_a_new_election_has_keys_for_everyone_under_the_passphrase(tmp_path):
    plan = replace(PLAN, trustees=1, threshold=1, stations=1, units=())
    path = new_election(tmp_path / "trial", plan, "secret")
    keys = tmp_path / "trial" / KEYS_FOLDER
    config = read_config(path)
    assert stat.S_IMODE(keys.stat().st_mode) == 0o700
    for role in config.members["roles"]:
        if role["kind"] == "relayer":
            address, key = relayer_keys.public(keys / role["name"])
            assert key.hex() == role["key"]
        else:
            address = address_of(keys / f"{role['name']}.json")
        assert address[2:].lower() == role["address"]
    officers = [bytes.fromhex(address_of(keys / f"{name}.json")[2:]) for name in plan.officer_names(0)]
    assert list(config.stations[0].officers) == officers
    assert (
        load_account(keys / "trustee-1.json", "secret").address.lower() == "0x" + config.members["roles"][3]["address"]
    )
    with pytest.raises(BallotboardError, match="there is an election"):
        new_election(tmp_path / "trial", plan, "secret")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--threshold", "4"], "thresholds.trustees"),
        (["--option", "A"], "2 to 100 distinct options"),
        (["--option", "A", "--option", "A"], "2 to 100 distinct options"),
        (["--rule", "stv"], "no rule 'stv'"),
        (["--rule", "up-to-L"], "limit"),
        (["--voting-minutes", "0", "--setup-minutes", "0"], "windows"),
        (["--unit", "North", "--unit", "North"], "is taken"),
    ],
)
def test_a_plan_that_cannot_be_is_refused_before_anything_is_written(run, words, why):
    assert why in fails(run, "election", "new", "trial", *words)
    assert not Path("trial").exists()


def test_check_shows_times_and_roles(run):
    Path(CONFIG_FILE).write_text(TEXT)
    status, out, err = run("election", "check")
    assert (status, err) == (0, "")
    assert "if published now" in out and "trustee-3" in out and "Ann, Ben, blank" in out
    assert json.loads(run("election", "check", "--json")[1])["windows"]["close"] == {"after_publication": 600}


def test_a_check_of_no_file_or_a_wrong_one_is_one_line(run):
    assert "election new" in fails(run, "election", "check")
    Path(CONFIG_FILE).write_text("name = ")
    assert "1 thing is wrong" in fails(run, "election", "check")


# ---------------------------------------------------------------- on a chain


@pytest.mark.e2e
@pytest.mark.usefixtures("quick_keys")
def test_the_commands_up_to_an_open_poll(run, chain: Anvil):
    plan = Plan("Trial", "Tea?", ("yes", "no"), trustees=1, threshold=1, stations=0, verifiers=0)
    new_election(Path("trial"), plan, "secret")
    keys = Path("trial", KEYS_FOLDER)
    status, out, _ = run(
        "election",
        "publish",
        "--config",
        "trial/election.toml",
        "--key",
        keys / "authority.json",
        "--rpc",
        chain.url,
        "--relayer",
        "http://r",
    )
    board = json.loads(Path("board.json").read_text())
    assert (status, out.strip()) == (0, board["election"]) and board["relayers"] == ["http://r"]
    assert "--force" in fails(
        run,
        "election",
        "publish",
        "--config",
        "trial/election.toml",
        "--key",
        keys / "authority.json",
        "--rpc",
        chain.url,
    )

    Path("voters.csv").write_text("id,unit\nanna,Trial\nben,Trial\n")
    status, out, _ = run("registrar", "roll", "voters.csv", "--config", "trial/election.toml", "--out", "roll")
    assert status == 0 and "2  voters; root" in out
    status, out, _ = run("registrar", "publish", "roll", "--key", keys / "registrar.json", "--json")
    assert status == 0 and json.loads(out)["count"] == 2

    assert "the key ceremony has not begun: trustee-1" in fails(
        run, "election", "open", "--key", keys / "authority.json"
    )
    status, out, _ = run("election", "status")
    assert status == 0 and "Trial: setup" in out and "next         setup: the key ceremony has not begun" in out
    assert json.loads(run("election", "status", "--json")[1])["counts"] == {"manifest": 1, "roll": 1}


@pytest.mark.e2e
@pytest.mark.usefixtures("quick_keys")
def test_the_commands_from_an_open_poll_to_the_result(run, polling: World):
    save_account(Path("authority.json"), polling.accounts["authority"], "secret")
    board = ("--board", polling.folder / "board.json")
    polling.vote({0: 0, 1: 1})
    assert json.loads(run("election", "conflicts", *board, "--json")[1]) == []
    assert "can only move" in fails(
        run, "election", "extend", *board, "--key", "authority.json", "--to", "+10m", "--reason", "storm"
    )
    assert "--to: write a time" in fails(
        run, "election", "extend", *board, "--key", "authority.json", "--to", "noon", "--reason", "storm"
    )
    assert "TooEarly" in fails(run, "election", "close", *board, "--key", "authority.json")
    polling.advance("close")
    assert run("election", "close", *board, "--key", "authority.json", "--wait")[0] == 0
    document = polling.count_paper((0, 0, 0), issued=0)
    polling.advance("settle_not_before")
    assert "position" in json.loads(run("election", "settle", *board, "--key", "authority.json", "--json")[1])
    assert "is not revealed" in fails(run, "election", "announce", *board, "--key", "authority.json")
    polling.reveal(document)
    polling.decrypt(1)
    polling.decrypt(2)
    status, out, err = run("election", "announce", *board, "--key", "authority.json")
    assert status == 0 and "1  Ann" in out and "1  Ben" in out and "0  blank" in out
    assert "ballotboard verify" in run("election", "status", *board)[1]


@pytest.mark.e2e
@pytest.mark.usefixtures("quick_keys")
def test_a_wrong_passphrase_changes_nothing(run, world: World, monkeypatch):
    save_account(Path("authority.json"), world.accounts["authority"], "secret")
    monkeypatch.setenv(PASSPHRASE_VARIABLE, "wrong")
    before = world.log().head
    assert "does not open with this passphrase" in fails(
        run, "election", "open", "--board", world.folder / "board.json", "--key", "authority.json"
    )
    assert world.log().head == before


def test_a_roll_with_wrong_lines_lists_them_and_writes_nothing(run):
    Path(CONFIG_FILE).write_text(TEXT)
    Path("voters.csv").write_text("id,unit\na,North\nb,East\na,South\n")
    status, out, err = run("registrar", "roll", "voters.csv", "--out", "roll")
    assert status == 2 and out.splitlines() == [
        "line 3: there is no unit 'East'; write its name as in the election's file",
        "line 4: this id is on line 2 already",
    ]
    assert err.endswith("\nerror: voters.csv: 2 lines are wrong; nothing was written\n")
    assert sorted(path.name for path in Path().iterdir()) == [CONFIG_FILE, "voters.csv"]


def test_two_registrars_and_their_cards_from_the_command_line(run):
    Path(CONFIG_FILE).write_text(TEXT)
    Path("people.csv").write_text("id,ballot,unit\n1,B,North\n2,B,South\n")
    assert (
        json.loads(run("registrar", "hashes", "people.csv", "--out", "v.csv", "--codes", "c.csv", "--json")[1])["lines"]
        == 2
    )
    assert "--voters if you are the first" in fails(run, "registrar", "part", "--out", "a")
    status, out, err = run("registrar", "part", "--voters", "v.csv", "--out", "a")
    assert status == 0 and out.strip() == json.loads(Path("a/request.json").read_text())["keys"]
    assert "Only then exchange keys.bin and units.bin" in err.replace("\n", " ")
    status, said, _ = run("registrar", "part", "--request", "a/request.json", "--out", "b")
    assert "--commitment" in fails(run, "registrar", "combine", "a", "b/keys.bin", "--out", "roll")
    combined = run("registrar", "combine", "a", "b/keys.bin", "--commitment", said.strip(), "--out", "roll", "--json")
    assert json.loads(combined[1])["count"] == 2
    assert run("registrar", "combine", "b", "a/keys.bin", "--units", "a/units.bin", "--out", "roll-b")[0] == 0
    assert Path("roll/roll.bin").read_bytes() == Path("roll-b/roll.bin").read_bytes()
    where = ("--election", "ab" * 32, "--out")
    assert json.loads(run("registrar", "print", "roll", *where, "cards.csv", "--json")[1]) == {
        "cards": 2,
        "file": "cards.csv",
    }
    assert run("registrar", "print", "roll-b", *where, "cards.pdf", "--part", "2")[0] == 0
    assert Path("cards.pdf").read_bytes().startswith(b"%PDF")
    assert "end the name in" in fails(run, "registrar", "print", "roll", *where, "cards.txt")
    assert "--language" in fails(run, "registrar", "print", "roll", *where, "x.pdf", "--language", "de")


def test_a_command_without_a_board_says_which_options_name_one(run):
    for words in (["status"], ["conflicts"], ["open", "--key", "k"]):
        assert "--rpc URL --contract ADDRESS" in fails(run, "election", *words)


def test_a_node_that_is_not_there_is_one_line(run):
    where = ("--rpc", "http://127.0.0.1:9", "--contract", "0x" + "11" * 20)
    assert "no answer from http://127.0.0.1:9" in fails(run, "election", "status", *where)


@pytest.mark.parametrize("group", ["election", "registrar", "keys"])
def test_help_has_an_example_for_every_command(run, group):
    app = importlib.import_module(
        {"election": "authority.cli", "registrar": "authority.registrar_cli", "keys": "authority.keys_cli"}[group]
    ).app
    for command in app.registered_commands:
        assert f"Example: ballotboard {group} " in (command.callback.__doc__ or ""), command.callback
