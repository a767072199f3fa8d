"""A validator that signs two blocks of one height is convicted by its signatures, and the chain goes on."""

from __future__ import annotations

import base64
import json
import time

import pytest
import requests
from nacl.signing import SigningKey

from chain.comet import BlockId, Commit, Time, address, ordered, sign_bytes
from tests.network.conftest import head, until

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


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


def test_two_votes_at_one_height_are_recorded_and_the_chain_goes_on(network):
    nodes = network.nodes
    until(lambda: min(head(n) for n in nodes) >= 3, "blocks")
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
