"""A voter's final receipt on a network of validators: their signatures for the receipt's head come with it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from chain.errors import ChainError
from chain.evidence import verify
from chain.network.local import LocalNetwork
from protocol.encoding import canonical_json
from protocol.receipt import Receipt
from tests.relayer.test_faults import QUICK, promise
from tests.relayer.world import Process, build, hash_of

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


def test_the_last_event_has_a_receipt_and_what_the_validators_signed_for_its_head(tmp_path: Path) -> None:
    try:
        network = LocalNetwork(tmp_path / "network", validators=1)
    except ChainError as error:
        pytest.skip(f"no network without its programs: {error}")
    with network:
        world = build(network, voters=1)
        folder, board = world.relayer_folder(tmp_path / "relayer"), world.connection(tmp_path / "board.json")
        [body, _] = world.ballots(world.voters)
        with Process(folder, board, **QUICK) as relayer:
            promise(world, relayer, body)
            text = relayer.http.get(f"/v1/ballots/{hash_of(body).hex()}/events", timeout=60).text
    last = json.loads(text.rpartition("data: ")[2])
    assert last["state"] == "final"
    receipt = Receipt.parse(canonical_json(last["receipt"]))
    receipt.check()
    assert receipt.ballot == body
    proven = verify(canonical_json(last["evidence"]), world.manifest, world.contract)
    assert proven.head == receipt.head and proven.block >= receipt.block_number
