"""Validators that propose what is wrong, whose clock is wrong, that join and that leave, in a network that goes on. They are of the test build
(`make .bin/validator-faults`, chain/validator/faults.go), which is wrong where it is told to be."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import subprocess
import time
from calendar import timegm
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import requests
from typer.testing import CliRunner

from chain.cli import app
from chain.comet import address, ordered
from chain.errors import BadEvidence
from chain.evidence import Evidence, verify
from chain.network import operator
from chain.network.changes import Change, addition, members, removal, vote
from chain.network.collect import head_evidence, validators_at
from chain.network.local import LocalNetwork
from chain.network.node import Node
from chain.network.operator import ACCOUNT_KEY, Ports
from chain.process import free_port
from chain.rpc import block, call
from protocol.manifest import Validator
from tests.chain.world import HANDS
from tests.network.conftest import head, same_chain, until
from tests.network.election import publish

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

FAULTS = Path(__file__).parents[2] / ".bin" / "validator-faults"

LIES = {
    "empty": "form", "twice": "form", "tail": "form", "number": "number", "parent": "parent", "time": "time", "prevrandao": "prevrandao",
    "coinbase": "coinbase", "beacon-root": "beacon-root", "gas-limit": "gas-limit", "money": "withdrawals", "state": "execution",
}  # fmt: skip
"""Every kind that the test build knows, and the name of the rule that it breaks."""

FEW = ("time", "state")
"""One that breaks a rule of ours, one that geth refuses. `make soak` tries all."""


@pytest.fixture(scope="module")
def network(binaries: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalNetwork]:
    """Four validators of the test build; in their second turns, when all have started, two of them lie."""
    if not FAULTS.exists():
        pytest.skip("no validators that can be wrong: run `make .bin/validator-faults`")
    network = LocalNetwork(tmp_path_factory.mktemp("network"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BALLOTBOARD_VALIDATOR", str(FAULTS))
        try:
            for node, kind in itertools.zip_longest(network.nodes, FEW, fillvalue=""):
                patch.setenv("VALIDATOR_LIES", f",{kind}")
                node.start()
            patch.delenv("VALIDATOR_LIES")
            network.web3 = network.nodes[0].web3()
            yield network
        finally:
            network.kill()


def grow(nodes: list[Node], by: int = 2) -> None:
    """Waits until all these nodes are `by` blocks above the highest of them now."""
    goal = max(head(node) for node in nodes) + by
    until(lambda: min(head(node) for node in nodes) >= goal, f"block {goal}")


def logged(node: Node, message: str) -> list[dict]:
    lines = (node.home / "logs/validator.log").read_text().splitlines()
    return [json.loads(line) for line in lines if f'"msg":"{message}"' in line]


def counted(node: Node) -> dict[str, int]:
    """The metric of refused proposals, by rule."""
    text = requests.get(f"http://127.0.0.1:{node.ports.metrics}/metrics", timeout=10).text
    found = re.findall(r'^validator_proposals_refused_total\{rule="(.+)"\} (\d+)$', text, re.M)
    return {rule: int(number) for rule, number in found}


def refused_by_name(nodes: list[Node], kinds: list[str]) -> None:
    """That these lies were told, and each was refused by everybody else for the rule that it breaks; and that the metric says so."""
    told = [(liar, lie) for liar in nodes for lie in logged(liar, "lies")]
    assert sorted(lie["kind"] for _, lie in told) == sorted(kinds)
    refused = [[(r["height"], r["proposer"], r["rule"]) for r in logged(node, "proposal refused")] for node in nodes]
    for liar, lie in told:
        saw = [(lie["height"], validator_address(liar), LIES[lie["kind"]]) in each for each in refused]
        assert sum(saw) >= 3, lie  # the fourth may have gone on to the next round before the proposal reached it


def validator_address(node: Node) -> str:
    """As CometBFT prints it."""
    return address(node.operator.validator_key).hex().upper()


def test_wrong_proposals_are_refused_by_name_and_counted_and_the_chain_goes_on(network):
    nodes = network.nodes
    until(lambda: sum(len(logged(node, "lies")) for node in nodes) == len(FEW), "all lies to be told")
    grow(nodes)
    refused_by_name(nodes, list(FEW))
    for node in nodes:
        assert counted(node) == Counter(r["rule"] for r in logged(node, "proposal refused"))
    same_chain(nodes)


@pytest.mark.soak
@pytest.mark.parametrize("minutes", [10, -10])
def test_block_time_stays_that_of_the_others_when_one_clock_is_wrong(network, monkeypatch, minutes):
    nodes = network.nodes
    nodes[1].kill("validator")
    monkeypatch.setenv("BALLOTBOARD_VALIDATOR", str(FAULTS))
    monkeypatch.setenv("VALIDATOR_CLOCK", f"{minutes}m")
    nodes[1].start_process("validator")
    name = validator_address(nodes[1])

    def away() -> float:
        """Seconds from the wrong clock to the header's, in the last commit that holds a vote of the wrong one."""
        signed = nodes[0].comet("commit", height=str(head(nodes[0]) - 1))["signed_header"]
        [vote] = [v for v in signed["commit"]["signatures"] if v["validator_address"] == name]
        times = (t[:19] for t in (vote["timestamp"], signed["header"]["time"]))
        voted, decided = (timegm(time.strptime(t, "%Y-%m-%dT%H:%M:%S")) for t in times)
        return voted - decided

    until(lambda: votes(nodes[0], name) and abs(away() - 60 * minutes) < 10, "votes with the wrong time")
    grow(nodes, 3)
    assert abs(int(block(nodes[0].web3(), "latest")["timestamp"], 16) - time.time()) < 30
    nodes[1].kill("validator")
    monkeypatch.delenv("VALIDATOR_CLOCK")
    nodes[1].start_process("validator")
    grow(nodes)


def votes(node: Node, name: str) -> bool:
    signed = node.comet("commit", height=str(head(node) - 1))["signed_header"]
    return name in [v["validator_address"] for v in signed["commit"]["signatures"]]


@pytest.mark.soak
def test_one_validator_that_lies_in_every_turn_is_refused_by_name(network, monkeypatch):
    nodes = network.nodes
    told = [lie["kind"] for node in nodes for lie in logged(node, "lies")]
    nodes[3].kill("validator")
    monkeypatch.setenv("BALLOTBOARD_VALIDATOR", str(FAULTS))
    monkeypatch.setenv("VALIDATOR_LIES", ",".join(LIES))
    nodes[3].start_process("validator")
    until(lambda: len(logged(nodes[3], "lies")) == len(LIES), "all lies to be told", 300)
    grow(nodes)
    refused_by_name(nodes, [*told, *LIES])
    same_chain(nodes)


@pytest.mark.soak
def test_a_node_whose_disk_is_full_stops_and_returns_when_there_is_room(network, tmp_path):
    """A tmpfs under one node's whole folder; geth begins with 36 MB. Which of the two ends is whoever writes first."""
    nodes, node = network.nodes, network.nodes[2]
    node.stop()
    small = tmp_path / "small"
    small.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=96m", "none", str(small)], capture_output=True, text=True
    )
    if made.returncode:
        node.start()
        pytest.skip(f"no small disk here: {made.stderr.strip() or 'mount fails'} (it takes root)")
    aside = node.home.rename(node.home.with_name("aside"))
    try:
        shutil.copytree(aside, small, dirs_exist_ok=True)
        node.home.symlink_to(small)
        node.start()
        grow(nodes)
        filler = small / "filler"
        with pytest.raises(OSError, match="No space left"), filler.open("wb") as file:
            while True:
                file.write(bytes(2**16))
                file.flush()
        others = [each for each in nodes if each is not node]
        until(lambda: any(process.poll() is not None for process in node.processes.values()), "the node to stop")
        grow(others, 6)
        filler.unlink()
        until(lambda: node.tend() or head(node) >= head(others[0]) - 1, "the node to return")
        same_chain(nodes)
    finally:
        node.kill()
        node.home.unlink(missing_ok=True)
        shutil.rmtree(aside)
        shutil.copytree(small, aside, ignore=shutil.ignore_patterns("*.ipc"))
        subprocess.run(["umount", str(small)], check=True)
        aside.rename(node.home)
    node.start()
    grow(nodes)


def run(*words: object) -> dict:
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, (result.output, result.exception)
    return json.loads(result.stdout) if "--json" in words else {}


def agree(voters: list[Node], change: Change) -> None:
    """Their votes, at once."""
    with ThreadPoolExecutor() as pool:
        stands = list(
            pool.map(lambda n: vote(n.web3(), bytes.fromhex((n.home / ACCOUNT_KEY).read_text()), change), voters)
        )
    assert all(each.in_force is None for each in stands)


def signers(node: Node) -> list[bytes]:
    """Keys of those who signed the last header that a node can show."""
    height = head(node) - 1
    signatures = node.comet("commit", height=str(height))["signed_header"]["commit"]["signatures"]
    present = ordered(validators_at(node.comet_url, height))
    return [v.key for v, signature in zip(present, signatures, strict=True) if signature["block_id_flag"] == 2]


def test_a_fifth_joins_one_leaves_and_evidence_follows_from_the_first_set(network, tmp_path):
    nodes = list(network.nodes)
    network.fund([HANDS["authority"].address])
    world, manifest = publish(network, network.web3, network.network.manifest_validators())

    home = tmp_path / "node4"
    ports = Ports(*(free_port() for _ in range(4)))
    newcomer = operator.init(home, "node4", "127.0.0.1", free_port(), free_port(), ports)
    run("join-network", home, network.home / "network.json")
    fifth = Node(home)
    try:
        fifth.start()  # nobody lets it in yet
        agree(nodes[:2], addition([], newcomer, 1))
        said = run("add-validator", nodes[2].home, home / "operator.json", "--json")
        assert (said["agreed"], said["total"]) == (3, 4)
        until(lambda: head(fifth) >= said["in_force"], "the fifth to catch up")
        for height, count in ((said["in_force"] - 1, 4), (said["in_force"], 5)):
            assert len(validators_at(fifth.comet_url, height)) == count
        until(lambda: newcomer.validator_key in signers(nodes[0]), "the fifth to sign")
        until(lambda: int(call(fifth.web3(), "net_peerCount"), 16), "its geth to be let in by one")  # all do in 30 s

        agree(nodes[:3], removal(members(network.web3), "node3"))
        said = run("remove-validator", fifth.home, "node3", "--json")
        assert (said["agreed"], said["total"]) == (4, 5)
        until(lambda: head(nodes[0]) >= said["in_force"], "the removal to be in force")
        nodes[3].kill()
        grow([*nodes[:3], fifth])
        left = head_evidence(fifth.web3(), fifth.comet_url, world.address)
        assert Evidence.parse(left.body()) == left
        proven = verify(left.body(), manifest, world.address)
        assert proven.head.size == 1 and 3 * proven.signed_power > 2 * proven.total_power == 8
        assert [len(change.validators) for change in left.changes] == [5, 4]
        assert Validator(newcomer.validator_key, 1) in left.changes[1].validators
        for changes in ((), left.changes[:1], left.changes[1:], left.changes[::-1]):
            with pytest.raises(BadEvidence):
                verify(replace(left, changes=changes).body(), manifest, world.address)

        nodes[0].kill()  # with it down three of four go on; restarted, it knows the set
        nodes[0].start()
        grow([*nodes[:3], fifth])
        same_chain([*nodes[:3], fifth])
    finally:
        fifth.kill()
