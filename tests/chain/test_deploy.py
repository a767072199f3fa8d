"""Creating a board, and reading its creation back strictly."""

from __future__ import annotations

import eth_abi
import pytest
from eth_hash.auto import keccak
from hypothesis import given
from hypothesis import strategies as st

from chain.contract import MAX_INITCODE, Refused, artifact, constructor_types
from chain.deploy import constructor_arguments, creation_input, deploy, parse_creation
from chain.errors import ChainError
from protocol.attachments import Attachment
from protocol.manifest import Manifest
from protocol.records import Entry, LogHead, ballot_hash
from tests.chain.world import HANDS, MANIFEST, roles, setup

NOW = 1_900_000_000
INPUT = creation_input(MANIFEST, roles(), setup(NOW))
ROOM = (MAX_INITCODE - len(creation_input(b"", roles(), setup(NOW)))) // 32 * 32
"""Bytes of the longest manifest: the encoding is in whole words."""


@given(st.binary(max_size=2000), st.integers(0, 8), st.booleans())
def test_parse_creation_is_the_inverse_of_creation_input(manifest, count, hash_mode):
    arguments = (manifest, roles()[:count], setup(NOW, hash_mode))
    assert parse_creation(creation_input(*arguments)) == arguments


def test_another_contracts_creation_is_refused():
    code = len(artifact().creation_code)
    for position in (0, code // 2, code - 1):
        changed = INPUT[:position] + bytes([INPUT[position] ^ 1]) + INPUT[position + 1 :]
        with pytest.raises(ChainError, match="another contract"):
            parse_creation(changed)


@pytest.mark.parametrize("data", [INPUT + b"\x00", INPUT + bytes(32)], ids=["a byte", "a word"])
def test_bytes_after_the_arguments_are_refused(data):
    with pytest.raises(ChainError, match="re-encode"):
        parse_creation(data)


def test_arguments_in_another_layout_are_refused():
    code = artifact().creation_code
    arguments = INPUT[len(code) :]
    # the same manifest once more at the end, and the first offset pointing there
    moved = len(arguments).to_bytes(32, "big") + arguments[32:] + eth_abi.encode(["bytes"], [MANIFEST])[32:]
    assert eth_abi.decode(constructor_types(), moved)[0] == MANIFEST
    with pytest.raises(ChainError, match="re-encode"):
        parse_creation(code + moved)


def test_arguments_that_end_early_are_refused():
    with pytest.raises(ChainError, match="cannot be read"):
        parse_creation(INPUT[:-32])


def test_a_manifest_fits_up_to_the_limit_of_eip_3860_and_not_beyond():
    assert len(creation_input(bytes(ROOM), roles(), setup(NOW))) <= MAX_INITCODE
    with pytest.raises(ChainError, match="too long"):
        creation_input(bytes(ROOM + 1), roles(), setup(NOW))


def test_a_threshold_out_of_range_is_named_before_anything_is_sent():
    with pytest.raises(ChainError, match="out of range"):
        creation_input(MANIFEST, roles(), setup(NOW)._replace(verifiers=65_536))


def test_the_longest_manifest_is_deployed_and_is_record_0(chain, make_board):
    manifest = b"m" * ROOM
    world = make_board(manifest=manifest)
    [batch] = world.reader.batches()
    assert batch.records[0].body == manifest
    assert world.board.election_id() == ballot_hash(manifest)
    entry = Entry(0, batch.records[0].entry.time, 65_535, ballot_hash(manifest))
    assert batch.records[0].entry == entry
    assert world.board.head() == LogHead(1, entry.leaf())


def test_the_code_on_chain_is_the_artifacts_run_time_code(world):
    code = world.reader.runtime_code()
    assert code == artifact().runtime_code
    assert keccak(code) == artifact().code_hash


def test_contradicting_arguments_are_refused_by_the_board(chain, world):
    with pytest.raises(Refused, match="contradict") as refused:
        deploy(chain.web3, HANDS["authority"], MANIFEST, roles(), setup(NOW)._replace(verifiers=2))
    assert refused.value.name == "BadSetup"


def test_a_manifests_arguments_are_what_its_board_is_made_with(world):
    attachment = Attachment(bytes(32), bytes(range(32)), 3).value()
    names = ["open_not_before", "close", "close_not_after", "append_grace", "count_not_before", "reveal_not_before"]
    names += ["settle_not_before", "decrypt_not_before"]
    manifest = Manifest.build(
        {
            "format": "ballotboard/manifest/v1",
            "name": "a test",
            "chain": {"id": 31337, "engine": "anvil", "code_hash": artifact().code_hash.hex(), "validators": []},
            "contests": [{"id": "c", "title": "C", "rule": "one-of-k", "limit": 0, "options": ["yes", "no"]}],
            "styles": [[0]],
            "units": attachment,
            "stations": attachment,
            "roles": [
                {"kind": role.kind.text, "name": role.kind.text, "address": role.account.hex(), "key": "00" * 32}
                for role in roles()
            ],
            "thresholds": {"trustees": 1, "verifiers": 1, "data_holders": 1},
            "windows": {name: getattr(setup(NOW).windows, name) for name in names},
            "rules": {
                "revote": "last",
                "channel": "paper-precedence",
                "minimum_ballots": 1,
                "decrypt_level": 0,
                "body_mode": "hash",
            },
            "practice": False,
            "language": "en",
        }
    )
    expected = setup(NOW, hash_mode=True)._replace(stations_root=bytes(range(32)))
    assert constructor_arguments(manifest) == (roles(), expected)
