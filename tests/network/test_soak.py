"""Ten minutes of random kills under load; at the end every node has every block, and the same."""

from __future__ import annotations

import os
import random
import time
from threading import Event, Thread

import pytest

from chain.errors import ChainError
from chain.network.local import LocalNetwork
from tests.chain.world import World, ballots, new_board
from tests.network.conftest import head, same_chain, until

pytestmark = [pytest.mark.e2e, pytest.mark.soak]

DURATION = float(os.environ.get("BALLOTBOARD_SOAK", 600))
"""Seconds."""


def load(world: World, ended: Event, landed: list[int]) -> None:
    """Appends without a pause, as a relayer does: after a failure it asks the board what has landed."""
    relayer = world.writer("relayer")
    while not ended.is_set():
        try:
            sequence = world.board.sequences(relayer.sender.account.address)
            landed.append(relayer.append_ballots(sequence, ballots(100, first=100 * sequence)).block)
        except ChainError:
            time.sleep(0.5)


def test_random_kills_under_load_lose_and_change_nothing(network: LocalNetwork):
    seed = int(os.environ.get("BALLOTBOARD_SEED", time.time()))
    print(f"seed {seed}")
    rng, ended, landed = random.Random(seed), Event(), []
    world = new_board(network).open()
    loader = Thread(target=load, args=(world, ended, landed), daemon=True)
    loader.start()
    end = time.monotonic() + DURATION
    kills = 0
    while time.monotonic() < end:
        victims = network.nodes if rng.random() < 0.1 else [rng.choice(network.nodes)]
        for node in victims:
            for name in rng.choice([("validator",), ("geth",), ("validator", "geth")]):
                if node.processes[name].poll() is None:
                    node.processes[name].kill()
                    kills += 1
        pause = time.monotonic() + rng.uniform(2, 8)
        while time.monotonic() < pause:
            network.tend()
            time.sleep(0.1)
    ended.set()
    until(lambda: network.tend() or len({head(n) for n in network.nodes}) == 1, "all nodes to be in step", 120)
    loader.join(90)
    height = same_chain(network.nodes)
    records = [record for batch in world.reader.batches() for record in batch.records]  # compares roots, sizes and gaps
    assert kills > DURATION / 10 and height > DURATION / 10 and len(landed) > DURATION / 30
    bodies = [record.body for record in records[3:]]
    assert bodies == ballots(len(bodies)) and len(bodies) >= 100 * len(landed)
