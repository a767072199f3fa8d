"""`ballotboard chain`: four operators with four folders, as in docs/operators.md, and a network for trying out."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from chain.anvil import Anvil
from chain.cli import app
from chain.comet import address
from chain.errors import ChainError, NodeUnreachable
from chain.evidence import verify
from chain.network import backup as archive
from chain.network.genesis import Network
from chain.network.node import Node, join
from chain.network.status import count_signatures
from chain.process import free_port
from chain.rpc import block, call, connect
from protocol.encoding import canonical_json
from protocol.errors import BallotboardError
from protocol.manifest import Validator
from scripts.cli import main
from tests.chain.world import HANDS
from tests.network.conftest import head, until
from tests.network.election import publish

ROOT = Path(__file__).parents[2]
AUTHORITY, RELAYER = HANDS["authority"].address, HANDS["relayer"].address


def run(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def done(*words: object) -> Result:
    result = run(*words)
    assert result.exit_code == 0, (result.output, result.exception)
    return result


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return tmp_path


def operators(count: int = 4) -> list[Path]:
    homes = [Path(f"o{number}") for number in range(count)]
    for home in homes:
        ports = [
            f"--{name}-port={free_port()}" for name in ("consensus", "execution", "rpc", "engine", "comet", "metrics")
        ]
        done("init", home, "--name", home, *ports)
    return homes


class Chain:
    """What tests.chain.world needs of a chain."""

    def __init__(self, url: str, chain_id: int) -> None:
        self.web3, self.url, self.chain_id = connect(url), url, chain_id

    def fund(self, accounts) -> None:
        assert all(int(call(self.web3, "eth_getBalance", a, "latest"), 16) for a in accounts)


# ---------------------------------------------------------------- four operators


@pytest.fixture(scope="module")
def running(binaries, tmp_path_factory):
    """Four operators' folders, made and started by the commands, in the current directory; and who their validators are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("operators"))
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("BALLOTBOARD_PASSPHRASE", "correct horse")
        homes = operators()
        files = [home / "operator.json" for home in homes]
        words = ["--chain-id", 77_001, "--fund", AUTHORITY, "--fund", RELAYER, "--json"]
        made = json.loads(done("genesis", *files, *words).stdout)
        assert made["sha256"] == hashlib.sha256(Path("network.json").read_bytes()).hexdigest()
        try:
            for home in homes:
                done("start", home, "--network", "network.json", "--detach")
                if home == homes[0]:
                    until(lambda: run("status", homes[0]).exit_code == 0, "the validator to answer beside its geth")
                    Path("alone.json").write_text(done("status", home, "--json").stdout)
            nodes = [Node(home) for home in homes]
            until(lambda: min(head(node) for node in nodes) >= 2, "blocks")
            yield homes
        finally:
            for home in homes:
                run("stop", home)
        with pytest.raises(NodeUnreachable):
            nodes[0].web3()
        assert not list(Path.cwd().glob("*/node.pid"))


@pytest.mark.e2e
@pytest.mark.slow
def test_four_operators_from_nothing_to_evidence(running):
    listed = json.loads(done("validators", "network.json", "--json").stdout)
    assert tomllib.loads(done("validators", "network.json").stdout)["chain"]["validators"] == listed
    validators = [Validator(bytes.fromhex(v["key"]), v["power"]) for v in listed]
    assert "is running" in str(run("start", running[0], "--detach").exception)

    chain = Chain(Node(running[0]).url, 77_001)
    world, manifest = publish(chain, chain.web3, validators)
    contract = "0x" + world.address.hex()
    where = ["--home", running[1], "--contract", contract]
    done("export-evidence", *where, "--out", "head.json")
    done("export-evidence", *where, "--record", 0, "--out", "record.json")
    assert verify(Path("head.json").read_bytes(), manifest, world.address).head.size == 1
    assert verify(Path("record.json").read_bytes(), manifest, world.address).position == 0
    board = json.loads(done("status", running[2], "--contract", contract, "--json").stdout)["board"]
    assert board["records"] == 1 and board["phase"] == "setup"


@pytest.mark.e2e
@pytest.mark.slow
def test_the_first_operator_to_start_is_told_who_is_missing(running):
    alone = json.loads(Path("alone.json").read_text())
    assert alone["block"] == alone["final_block"] == alone["consensus"]["height"] == 0
    missing = {each["name"]: each["connected"] for each in alone["consensus"]["members"]}
    assert missing == {str(home): None if home == running[0] else False for home in running}


@pytest.mark.e2e
@pytest.mark.slow
def test_an_operator_gives_gas_money_to_whom_the_genesis_does_not_name(running):
    account = "0x" + os.urandom(20).hex()
    paid = json.loads(done("fund", running[1], account, RELAYER, "--json").stdout)["paid"]
    assert [each.lower() for each in paid] == [account]
    assert int(call(Node(running[0]).web3(), "eth_getBalance", account, "latest"), 16) == 10**24
    assert "they have gas money already" in done("fund", running[1], account).stdout


@pytest.mark.e2e
@pytest.mark.slow
def test_status_shows_who_validates_who_signed_and_who_is_connected(running):
    def seen_by_o2() -> dict:
        return json.loads(done("status", running[2], "--json").stdout)

    until(lambda: all(each["signed"] for each in seen_by_o2()["consensus"]["members"]), "everyone to sign")
    found = seen_by_o2()
    seen = found["consensus"]
    assert (found["engine"], found["chain_id"], seen["peers"], seen["behind"]) == ("cometbft", 77_001, 3, 0)
    assert {each["name"]: each["connected"] for each in seen["members"]} == {
        "o0": True,
        "o1": True,
        "o2": None,
        "o3": True,
    }
    assert all(each["signed"] <= seen["window"] and each["power"] == 1 for each in seen["members"])
    node = Node(running[2])
    text = done("status", "--rpc", node.url, "--comet", node.comet_url).stdout
    assert "validators   4 with power 4; more than 2/3 are 3\n" in text
    assert re.search(r"^  o0 +power 1 +signed \d+ of the last \d+ blocks  connected$", text, re.M)
    assert "not asked: say --comet" in done("status", "--rpc", node.url).stdout


@pytest.mark.e2e
@pytest.mark.slow
def test_the_doctor_finds_nothing_wrong_and_then_a_missing_peer(running):
    healthy = done("doctor", running[2], "--json")
    names = [finding["name"] for finding in json.loads(healthy.stdout)["findings"]]
    assert names.count("peer") == 3
    assert {
        "geth",
        "validator",
        "genesis",
        "geth peers",
        "versions",
        "blocks",
        "clock",
        "signing",
        "disk",
        "keys",
    } <= set(names)
    done("stop", running[3])
    until(lambda: run("doctor", running[2]).exit_code == 1, "the doctor to miss a peer")
    ill = run("doctor", running[2])
    assert "BAD  peer       o3 cannot be reached" in ill.output and "check both firewalls" in ill.output
    assert "committed" in done("logs", running[2], "--lines", 5).stdout


@pytest.mark.e2e
@pytest.mark.slow
def test_a_lost_machine_is_restored_and_signs_only_where_it_cannot_have_signed(running, monkeypatch):
    home = running[3]
    run("stop", home)
    done("backup", home, "o3.backup")
    signed = json.loads((home / archive.STATE).read_text())["height"]
    shutil.rmtree(home)
    assert "never sign with one key" in str(run("restore", "o3.backup", home).exception) and not home.exists()
    done("restore", "o3.backup", home, "--i-know-the-old-machine-is-dead")
    monkeypatch.setattr(archive, "QUIET", 2)
    with pytest.raises(ChainError, match="its key is in use elsewhere"):  # as of a machine that somebody still runs
        archive.watch_silence(Node(running[0]))

    done("start", home, "--detach")
    node, own = Node(home), address(Node(home).operator.validator_key)
    until(lambda: head(node) > int(signed) + 2, "the restored node to catch up")
    assert archive.is_restored(home)
    above = json.loads(done("rejoin", home, "--json").stdout)["signs_above"]
    done("stop", home)
    done("start", home, "--detach")
    until(lambda: count_signatures(node.comet_url, range(above + 1, head(node))).get(own), "its signature")
    assert own not in count_signatures(node.comet_url, range(int(signed) + 1, above + 1))
    assert "there is nothing to do" in str(run("rejoin", home).exception)


# ---------------------------------------------------------------- trying out


@pytest.mark.e2e
@pytest.mark.slow
def test_a_network_for_trying_out_is_started_stopped_and_started_again(folder, binaries):
    up = ["up", "--validators", 2, "--detach", "--port", 0, "--chain-id", 77_002, "--fund", RELAYER]
    done(*up)
    try:
        started = json.loads(Path("chain.pid").read_text())
        web3 = connect(started["url"])
        assert int(call(web3, "eth_getBalance", RELAYER, "latest"), 16) > 10**24
        before = block(web3, 1)["hash"]
        status = json.loads(done("status", "--rpc", started["url"], "--json").stdout)
        assert status["chain_id"] == 77_002 and status["client"].startswith("Geth") and status["final_block"] >= 1
        assert "only anvil's time" in str(run("advance", "--to", 2_000_000_000, "--rpc", started["url"]).exception)
    finally:
        done("down")
    with pytest.raises(NodeUnreachable):
        connect(started["url"])
    done(*up)
    try:
        assert block(connect(started["url"]), 1)["hash"] == before
    finally:
        done("down")
    assert [path.name for path in folder.iterdir()] == ["network"]
    assert sorted(path.name for path in (folder / "network").glob("node*")) == ["node0", "node1"]


def test_the_roles_and_officers_of_an_election_get_gas_money(folder):
    operators(1)
    roles = "".join(f'[[roles]]\nkind = "trustee"\naddress = "{each}"\n' for each in (AUTHORITY, RELAYER))
    Path("election.toml").write_text(f'{roles}[[stations]]\nname = "s"\nofficers = ["0x{"11" * 20}"]\n')
    done("genesis", "o0/operator.json", "--chain-id", 5, "--election", "election.toml", "--fund", "0x" + "22" * 20)
    accounts = json.loads(Path("network.json").read_text())["accounts"]
    assert accounts == sorted([AUTHORITY[2:].lower(), RELAYER[2:].lower(), "11" * 20, "22" * 20])


# ---------------------------------------------------------------- what is wrong is said in one line


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["genesis", "o0/operator.json"], "say which chain id"),
        (["genesis", "o0/operator.json", "o0/operator.json", "--chain-id", "5"], "two of them have the same name"),
        (["genesis", "o0/jwt.hex", "--chain-id", "5"], "o0/jwt.hex: "),
        (["genesis", "float.json", "--chain-id", "5"], "float.json: "),
        (["genesis", "nothing.json", "--chain-id", "5"], "cannot read nothing.json"),
        (["genesis", "o0/operator.json", "--chain-id", "5", "--fund", "0x12"], "is not an address"),
        (["genesis", "o0/operator.json", "--chain-id", "5", "--out", "o0/operator.json"], "exists"),
        (
            ["genesis", "o0/operator.json", "--chain-id", "5", "--election", "float.json"],
            "float.json is not an election's file",
        ),
        (["fund", "o0", "0x12"], "is not an address"),
        (["validators", "o0/operator.json"], "network"),
        (["init", "o0", "--name", "again"], "holds an operator's keys already"),
        (["start", "nowhere"], "make one with `chain init`"),
        (["start", "o0"], "start it with --network"),
        (["stop", "o0"], "nothing was started"),
        (["logs", "o0"], "was never started"),
        (["doctor", "o0"], "start it with --network"),
        (["up", "--validators", "4", "--timestamp", "5"], "leave --timestamp and --block-time out"),
        (["status", "o0"], "start it with --network"),
        (["backup", "o0", "o0.backup"], "start it with --network"),
        (["restore", "o0/jwt.hex", "new"], "two machines must never sign with one key"),
        (["restore", "o0/jwt.hex", "new", "--i-know-the-old-machine-is-dead"], "is no ballotboard/node-backup/v1 file"),
        (["rejoin", "o0"], "start it with --network"),
        (["files", "o0", "deploy"], "start it with --network"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_wrong_is_said_in_one_line_and_nothing_is_written(folder, monkeypatch, words, says):
    operators(1)
    monkeypatch.setenv("BALLOTBOARD_PASSPHRASE", "correct horse")
    (folder / "float.json").write_text("9e19")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    failed = run(*words)
    assert isinstance(failed.exception, BallotboardError), failed.output
    assert says in str(failed.exception) and "\n" not in str(failed.exception)
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_missing_programs_are_said_with_exit_status_2(folder, monkeypatch):
    operators(1)
    done("genesis", "o0/operator.json", "--chain-id", 5)
    words = [sys.executable, "-m", "chain.cli", "start", "o0", "--network", "network.json"]
    environment = os.environ | {"BALLOTBOARD_GETH": "/nowhere/geth"}
    failed = subprocess.run(words, capture_output=True, text=True, env=environment)
    assert (failed.returncode, failed.stdout) == (2, "")
    assert (
        failed.stderr
        == "error: there is no geth here: run `make validator` in the checkout, or name one in BALLOTBOARD_GETH\n"
    )
    assert not Path("o0/network.json").exists()
    monkeypatch.setenv("BALLOTBOARD_GETH", "/nowhere/geth")
    assert "there is no geth here" in str(run("up", "--validators", "4").exception)
    assert not Path("network").exists()


def refused(capsys, monkeypatch, *words: object) -> str:
    """The one line that the command says; checks that its status is 2 and that no file changes."""
    before = {path: path.read_bytes() for path in Path.cwd().rglob("*") if path.is_file()}
    monkeypatch.setattr(sys, "argv", ["ballotboard", "chain", *map(str, words)])
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr()
    assert (ended.value.code, said.out, said.err.count("\n")) == (2, "", 1)
    assert before == {path: path.read_bytes() for path in Path.cwd().rglob("*") if path.is_file()}
    return said.err.removeprefix("error: ")


@pytest.fixture
def joined(folder, binaries):
    """One operator's folder that has joined the network of network.json."""
    [home] = operators(1)
    done("genesis", home / "operator.json", "--chain-id", 5)
    join(home, Network.parse(Path("network.json").read_bytes()))
    return home


def test_a_genesis_that_does_not_match_is_refused(joined, capsys, monkeypatch):
    done("genesis", joined / "operator.json", "--chain-id", 6, "--out", "other.json")
    said = refused(capsys, monkeypatch, "start", joined, "--network", "other.json")
    assert said.startswith("wrong genesis: o0 belongs to network") and "compare the network files" in said


def test_keys_of_another_chain_are_refused(joined, capsys, monkeypatch):
    done("init", "o1", "--name", "o1")
    said = refused(capsys, monkeypatch, "start", "o1", "--network", "network.json")
    assert said.startswith("the network does not list o1 with the keys and addresses of o1")


def test_a_key_file_of_another_operator_is_refused(joined, capsys, monkeypatch):
    done("init", "o1", "--name", "o1")
    shutil.copy("o1/config/priv_validator_key.json", joined / "config")
    said = refused(capsys, monkeypatch, "start", joined)
    assert said == "o0 holds another validator's key than operator.json says: do not mix folders\n"


def test_a_port_in_use_is_refused(joined, capsys, monkeypatch):
    port = Node(joined).ports.rpc
    with socket.create_server(("127.0.0.1", port)):
        said = refused(capsys, monkeypatch, "start", joined)
    assert said == f"the rpc port {port} is in use: stop what listens there, or change it in o0\n"


def test_a_list_that_names_a_validator_twice_is_refused(folder, capsys, monkeypatch):
    operators(1)
    again = json.loads(Path("o0/operator.json").read_text()) | {"name": "another"}
    Path("again.json").write_bytes(canonical_json(again))
    said = refused(capsys, monkeypatch, "genesis", "o0/operator.json", "again.json", "--chain-id", 5)
    assert said == "network.validators: two of them have the same validator key\n"


def test_an_engine_that_is_too_old_is_refused_the_first_time_and_later(joined, capsys, monkeypatch):
    old = Path("old-geth")
    old.write_text("#!/bin/sh\nprintf 'Geth\\nVersion: 1.15.11-stable\\n'\n")
    old.chmod(0o755)
    monkeypatch.setenv("BALLOTBOARD_GETH", str(old.absolute()))
    says = "geth 1.15.11 is too old, it lacks the Osaka rules: install 1.16 or later\n"
    assert refused(capsys, monkeypatch, "start", joined) == says
    Path(joined, "network.json").unlink()
    assert refused(capsys, monkeypatch, "start", joined, "--network", "network.json") == says


def test_the_status_of_anvil_says_that_nobody_signs():
    with Anvil() as chain:
        assert "validators   none: anvil is one process" in done("status", "--rpc", chain.url).stdout
        found = json.loads(done("status", "--rpc", chain.url, "--json").stdout)
        assert found["engine"] == "anvil" and found["consensus"] is None
