"""What CometBFT signs, compared with CometBFT: data/comet_vectors.json is made and judged by it (chain/validator/vectors_test.go)."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import pytest

from chain.comet import Commit, check_commit, ordered, validators_hash
from chain.errors import BadEvidence
from chain.evidence import _commit, _header
from protocol.manifest import Validator

CASES = json.loads((Path(__file__).parent / "data" / "comet_vectors.json").read_text())


def lower(value):
    """CometBFT prints hashes in capitals."""
    if isinstance(value, dict):
        return {k: v if k == "chain_id" else lower(v) for k, v in value.items()}
    return [lower(v) for v in value] if isinstance(value, list) else value.lower() if isinstance(value, str) else value


def commit_of(case: dict, keep) -> Commit:
    votes = [{k: v for k, v in vote.items() if k != "nil"} for vote in case["commit"]["signatures"] if keep(vote)]
    return _commit(lower(case["commit"] | {"signatures": votes}))


@pytest.fixture(params=CASES, ids=lambda case: case["name"])
def case(request):
    return request.param


def members(case: dict) -> list[Validator]:
    return [Validator(bytes.fromhex(v["key"]), v["power"]) for v in case["validators"]]


def test_header_and_set_hash_as_in_cometbft(case):
    header = _header(lower(case["header"]))
    assert header.hash().hex() == case["header_hash"]
    assert validators_hash(members(case)) == header.validators_hash


def test_a_set_in_any_order_is_put_into_that_of_cometbft(case):
    mixed = members(case)
    Random(1).shuffle(mixed)
    assert ordered(mixed) == members(case)


def test_a_commit_is_enough_where_cometbft_says_so(case):
    header = _header(lower(case["header"]))
    commit = commit_of(case, lambda vote: not vote["nil"])
    if case["enough"]:
        power, total = check_commit(header, commit, "ballotboard-77001", members(case))
        assert 3 * power > 2 * total == 2 * sum(v.power for v in members(case))
    else:
        with pytest.raises(BadEvidence, match="more than 2/3 are needed"):
            check_commit(header, commit, "ballotboard-77001", members(case))


@pytest.mark.parametrize("case", [c for c in CASES if "for nil" in c["name"]], ids=lambda case: case["name"])
def test_a_vote_for_nil_is_no_signature_for_the_block(case):
    with pytest.raises(BadEvidence, match="did not sign this block"):
        check_commit(
            _header(lower(case["header"])), commit_of(case, lambda vote: True), "ballotboard-77001", members(case)
        )
