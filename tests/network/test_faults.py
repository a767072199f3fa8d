"""Four validators and what may happen to them. The invariant of every test: no node ever has another block where it had one."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import time
from pathlib import Path

import pytest
import requests
from nacl.signing import SigningKey

from chain.comet import BlockId, Commit, Time, address, ordered, sign_bytes
from chain.errors import NodeUnreachable
from chain.network import operator
from chain.network.local import LocalNetwork
from chain.network.node import GETH_OPTIONS, Node, find_binary
from chain.process import free_port
from chain.rpc import block
from tests.chain.world import ballots, new_board
from tests.network.conftest import hash_at, hashes, head, same_chain, until

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

HALT = 6.0
"""Seconds without a block after which a network counts as halted: six intervals."""


@pytest.fixture
def nodes(network: LocalNetwork):
    """All four, in step before the test, and with the same blocks as before after it."""
    until(lambda: min(head(n) for n in network.nodes) >= 2, "blocks on all nodes")
    before = [(n, number := head(n), hash_at(n, number)) for n in network.nodes]
    yield network.nodes
    until(lambda: len({head(n) for n in network.nodes}) == 1, "all nodes to be in step")
    assert all(hash_at(n, number) == known for n, number, known in before)
    same_chain(network.nodes)


def restart(node: Node) -> None:
    if node.processes["geth"] is None:
        node.start_process("geth")
        node.await_geth()
    if node.processes["validator"] is None:
        node.start_process("validator")


def grow(nodes: list[Node], by: int = 2) -> float:
    """Waits until all these nodes are `by` blocks above the highest of them now."""
    goal = max(head(n) for n in nodes) + by
    return until(lambda: min(head(n) for n in nodes) >= goal, f"block {goal}")


def test_the_usual_deployment_and_appends_work_unchanged(network, nodes):
    world = new_board(network).open()
    world.writer("relayer").append_ballots(0, ballots(20))
    landed = world.writer("relayer").append_ballots(1, ballots(250, first=20))
    assert world.board.head().size == 273
    assert [r.body for b in world.reader.batches() for r in b.records][3:] == ballots(270)
    for node in nodes:  # final everywhere, at the same place
        until(lambda n=node: head(n) >= landed.block, "the block")
        assert block(node.web3(), landed.block)["hash"] == block(network.web3, landed.block)["hash"]
        assert int(block(node.web3(), "finalized")["number"], 16) >= landed.block


def test_time_follows_the_clock(nodes):
    grow(nodes)
    assert abs(int(block(nodes[0].web3(), "latest")["timestamp"], 16) - time.time()) < 5


def test_with_one_down_it_goes_on_and_the_one_catches_up(nodes):
    nodes[3].kill()
    grow(nodes[:3], 6)  # every turn of the dead one is among them
    with pytest.raises(NodeUnreachable):
        nodes[3].web3()
    restart(nodes[3])
    grow(nodes)


def test_with_two_down_it_halts_and_goes_on_when_one_returns(nodes):
    nodes[2].kill()
    nodes[3].kill()
    time.sleep(2)  # what was decided by then may still be committed
    halted = [head(n) for n in nodes[:2]]
    time.sleep(HALT)
    assert [head(n) for n in nodes[:2]] == halted
    assert hashes(nodes[0], min(halted)) == hashes(nodes[1], min(halted))
    restart(nodes[2])
    grow(nodes[:3])
    restart(nodes[3])
    grow(nodes)


def test_all_killed_and_restarted_it_goes_on_at_the_same_head(nodes):
    before = hashes(nodes[0], head(nodes[0]))
    for node in nodes:
        node.kill()
    for node in nodes:
        restart(node)
    until(lambda: min(head(n) for n in nodes) > len(before), "new blocks")
    assert hashes(nodes[0], len(before) - 1) == before


def test_an_execution_client_that_is_killed_returns(nodes):
    nodes[1].kill("geth")
    grow([nodes[0], *nodes[2:]], 3)
    restart(nodes[1])
    grow(nodes)
    assert nodes[1].processes["validator"].poll() is None


def test_an_execution_client_that_lost_its_data_gets_it_from_the_validator(nodes):
    known = hashes(nodes[1], head(nodes[1]))
    nodes[1].kill("geth")
    key = (nodes[1].home / "geth/geth/nodekey").read_bytes()
    shutil.rmtree(nodes[1].home / "geth")
    (nodes[1].home / "geth/geth").mkdir(parents=True)
    (nodes[1].home / "geth/geth/nodekey").write_bytes(key)
    subprocess.run(
        [find_binary("geth"), "--datadir", nodes[1].home / "geth", "--verbosity", "1", "init", *GETH_OPTIONS[:2], nodes[1].home / "geth.genesis.json"],
        check=True,
    )  # fmt: skip
    restart(nodes[1])
    grow(nodes)
    assert hashes(nodes[1], len(known) - 1) == known


def test_everything_listens_on_loopback_only(nodes):
    ports = {
        port for n in nodes for port in (*vars(n.ports).values(), n.operator.consensus_port, n.operator.execution_port)
    }
    for table, loopback in (("/proc/net/tcp", "0100007F"), ("/proc/net/tcp6", "00000000000000000000000001000000")):
        for line in Path(table).read_text().splitlines()[1:]:
            address, port = line.split()[1].split(":")
            if int(port, 16) in ports and line.split()[3] == "0A":  # listening
                assert address == loopback, int(port, 16)
                ports.discard(int(port, 16))
    assert not ports


def test_a_supervisor_restarts_what_ends(network, nodes):
    for name in ("validator", "geth"):
        nodes[2].processes[name].kill()
        nodes[2].processes[name].wait()
    until(lambda: network.tend() or all(p and p.poll() is None for p in nodes[2].processes.values()), "a restart")
    until(lambda: network.tend() or head(nodes[2]) >= head(nodes[0]) - 1, "the node to catch up")


def test_a_peer_that_is_not_listed_is_refused(network, nodes, tmp_path):
    """It has the right genesis and all addresses, and keys of its own."""
    home = tmp_path / "stranger"
    ports = operator.Ports(free_port(), free_port(), free_port(), free_port())
    made = operator.init(home, "stranger", "127.0.0.1", free_port(), free_port(), ports)
    for name in ("network.json", "geth.toml", "geth.genesis.json", "config/genesis.json"):
        shutil.copy(nodes[0].home / name, home / name)
    toml = (home / "geth.toml").read_text()
    (home / "geth.toml").write_text(
        toml.replace(f'1:{nodes[0].operator.execution_port}"', f'1:{made.execution_port}"', 1)
    )
    subprocess.run(
        [find_binary("geth"), "--datadir", home / "geth", "--verbosity", "1", "init", *GETH_OPTIONS[:2], home / "geth.genesis.json"],
        check=True,
    )  # fmt: skip
    stranger = Node(home)
    try:
        stranger.start()
        until(lambda: stranger.comet("status"), "the stranger to run")
        refused = f'"msg":"peer refused","module":"app","id":"{made.node_id.hex()}"'
        until(lambda: all(refused in (n.home / "logs/validator.log").read_text() for n in nodes), "refusals")
        grow(nodes)
        # it counts a connection itself until the other end has hung up, so not at every moment; the others never do
        until(lambda: stranger.comet("net_info")["n_peers"] == "0", "the stranger to be alone")
        known = [peer["node_info"]["id"] for n in nodes for peer in n.comet("net_info")["peers"]]
        assert made.node_id.hex() not in known
        assert head(stranger) == 0
    finally:
        stranger.kill()
    assert all(len(n.comet("net_info")["peers"]) == 3 for n in nodes)


# ---------------------------------------------------------------- a validator that misbehaves: the last test, since what is recorded stays


def vote(node, height: int, block: BlockId, index: int) -> dict:
    """A precommit of this node for a block, as CometBFT's RPC takes it."""
    secret = json.loads((node.home / "config/priv_validator_key.json").read_text())["priv_key"]["value"]
    key = SigningKey(base64.b64decode(secret)[:32])
    moment = int(time.time())
    signed = sign_bytes(f"ballotboard-{node.network.chain_id}", height, Commit(0, block, ()), Time(moment, 0))
    return {
        "type": 2, "height": str(height), "round": 0, "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment)),
        "block_id": {"hash": block.hash.hex().upper(), "parts": {"total": block.parts, "hash": block.parts_hash.hex().upper()}},
        "validator_address": address(bytes(key.verify_key)).hex().upper(), "validator_index": index,
        "signature": base64.b64encode(key.sign(signed).signature).decode(),
    }  # fmt: skip


def accuse(node, liar, height: int, blocks: tuple[BlockId, BlockId]) -> dict:
    """Shows two votes of `liar` at one height to `node`; its answer."""
    validators = ordered(node.network.manifest_validators())
    index = [v.key for v in validators].index(liar.operator.validator_key)
    first, second = (vote(liar, height, block, index) for block in blocks)
    evidence = {
        "vote_a": first, "vote_b": second, "TotalVotingPower": "4", "ValidatorPower": "1",
        "Timestamp": node.comet("block", height=str(height))["block"]["header"]["time"],
    }  # fmt: skip
    request = {
        "jsonrpc": "2.0", "id": 1, "method": "broadcast_evidence",
        "params": {"evidence": {"type": "tendermint/DuplicateVoteEvidence", "value": evidence}},
    }  # fmt: skip
    return requests.post(node.comet_url, json=request, timeout=10).json()


def test_who_signs_two_blocks_of_one_height_is_convicted_by_the_signatures_and_the_chain_goes_on(nodes):
    height = head(nodes[0])
    blocks = (BlockId(b"\1" * 32, 1, b"\2" * 32), BlockId(b"\3" * 32, 1, b"\4" * 32))
    same = accuse(nodes[0], nodes[3], height, (blocks[0], blocks[0]))
    assert "error" in same  # one vote shown twice convicts nobody
    answer = accuse(nodes[0], nodes[3], height, blocks)
    assert "error" not in answer, answer

    def recorded() -> list[dict]:
        last = head(nodes[1])
        found = [nodes[1].comet("block", height=str(n))["block"] for n in range(height + 1, last + 1)]
        return [e for block in found for e in block["evidence"]["evidence"]]

    until(recorded, "the evidence in a block")
    assert (
        recorded()[0]["value"]["vote_a"]["validator_address"] == address(nodes[3].operator.validator_key).hex().upper()
    )
    goal = max(head(n) for n in nodes) + 2
    until(lambda: min(head(n) for n in nodes) >= goal, "blocks after it")
    for node in nodes:
        assert "signed two blocks of one height" in (node.home / "logs/validator.log").read_text()
