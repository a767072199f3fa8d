"""The engine without native/: it says so once, and gives the same answers."""

import subprocess
import sys

import pytest

from protocol import engine, group
from protocol.engine import NOT_COUNTED, CreateRequest, Engine
from protocol.merkle import leaf_hash
from tests.protocol.worlds import CHOICES, ELECTION, ROLL, SEED, VOTER

WITHOUT = (
    "import sys; sys.modules['ballotboard_native'] = None; import protocol.engine as e, verifier.cli; print(e.name())"
)


def test_where_native_is_not_installed_the_reference_runs_and_says_so_once():
    run = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=True)
    assert run.stdout == "reference (libsodium)\n"
    assert run.stderr.count("ballotboard-native is not installed") == 1


def answers():
    """What each function of the engine says of ballots of every style, one of them wrong."""
    one = Engine(ELECTION, ROLL.unit_styles)
    requests = [CreateRequest(i, 3, i, i, VOTER, SEED, choices) for i, choices in enumerate(CHOICES)]
    ballots = one.create(requests)
    reasons = one.verify([*ballots, ballots[0][:-1]], ROLL)
    contest = ELECTION.styles[0][0]
    sums = one.sums(contest, [ballots[0], ballots[4], ballots[0]], ROLL, [1, 1, NOT_COUNTED], 2)
    logs = engine.discrete_logs([group.base(m) for m in (0, 5, 9)], 8)
    keys = engine.public_keys([bytes(16), b"\x01" * 16], bytes(32), 7)
    return ballots, reasons, sums, logs, keys, engine.leaf_hashes([bytes(40), b"\x01" * 40])


def test_it_gives_the_same_answers_without_native(monkeypatch):
    if engine.native is None:
        pytest.skip("ballotboard-native is not built")
    with_native = answers()
    monkeypatch.setattr(engine, "native", None)
    assert answers() == with_native
    assert with_native[3] == [0, 5, None] and with_native[5][0] == leaf_hash(bytes(40))
