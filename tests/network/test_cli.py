"""`ballotboard chain`: four operators with four folders, as in docs/operators.md, and a network for trying out."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from chain.cli import app
from chain.errors import NodeUnreachable
from chain.evidence import verify
from chain.network.node import Node
from chain.process import free_port
from chain.rpc import block, call, connect
from protocol.errors import BallotboardError
from protocol.manifest import Validator
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


@pytest.mark.e2e
@pytest.mark.slow
def test_four_operators_from_nothing_to_evidence(folder, binaries):
    homes = operators()
    files = [home / "operator.json" for home in homes]
    made = json.loads(
        done("genesis", *files, "--chain-id", 77_001, "--fund", AUTHORITY, "--fund", RELAYER, "--json").stdout
    )
    assert made["sha256"] == hashlib.sha256(Path("network.json").read_bytes()).hexdigest()
    listed = json.loads(done("validators", "network.json", "--json").stdout)
    assert tomllib.loads(done("validators", "network.json").stdout)["chain"]["validators"] == listed
    validators = [Validator(bytes.fromhex(v["key"]), v["power"]) for v in listed]
    try:
        for home in homes:
            done("start", home, "--network", "network.json", "--detach")
        nodes = [Node(home) for home in homes]
        until(lambda: min(head(node) for node in nodes) >= 2, "blocks")
        assert "is running" in str(run("start", homes[0], "--detach").exception)

        chain = Chain(nodes[0].url, 77_001)
        world, manifest = publish(chain, chain.web3, validators)
        where = ["--home", homes[1], "--contract", "0x" + world.address.hex()]
        done("export-evidence", *where, "--out", "head.json")
        done("export-evidence", *where, "--record", 0, "--out", "record.json")
        assert verify(Path("head.json").read_bytes(), manifest, world.address).head.size == 1
        assert verify(Path("record.json").read_bytes(), manifest, world.address).position == 0

        healthy = done("doctor", homes[2], "--json")
        names = [finding["name"] for finding in json.loads(healthy.stdout)["findings"]]
        assert names.count("peer") == 3 and {"geth", "genesis", "blocks", "clock", "signing", "disk", "keys"} <= set(
            names
        )

        done("stop", homes[3])
        until(lambda: run("doctor", homes[2]).exit_code == 1, "the doctor to miss a peer")
        ill = run("doctor", homes[2])
        assert "BAD  peer       o3 cannot be reached" in ill.output and "check both firewalls" in ill.output
        assert "committed" in done("logs", homes[2], "--lines", 5).stdout
    finally:
        for home in homes:
            run("stop", home)
    with pytest.raises(NodeUnreachable):
        nodes[0].web3()
    assert not list(folder.glob("*/node.pid"))


# ---------------------------------------------------------------- trying out


@pytest.mark.e2e
@pytest.mark.slow
def test_a_network_for_trying_out_is_started_stopped_and_started_again(folder, binaries):
    up = ["up", "--validators", 4, "--detach", "--port", 0, "--chain-id", 77_002, "--fund", RELAYER]
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
    assert sorted(path.name for path in folder.iterdir()) == ["network"]


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
        (["validators", "o0/operator.json"], "network"),
        (["init", "o0", "--name", "again"], "holds an operator's keys already"),
        (["start", "nowhere"], "make one with `chain init`"),
        (["start", "o0"], "start it with --network"),
        (["stop", "o0"], "nothing was started"),
        (["logs", "o0"], "was never started"),
        (["doctor", "o0"], "start it with --network"),
        (["up", "--validators", "4", "--timestamp", "5"], "leave --timestamp and --block-time out"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_wrong_is_said_in_one_line_and_nothing_is_written(folder, words, says):
    operators(1)
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
