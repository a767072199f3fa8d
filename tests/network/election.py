"""A board with a manifest of the validators that keep it."""

from __future__ import annotations

from web3 import Web3

from chain.deploy import constructor_arguments, deploy
from chain.rpc import block
from contracts import artifact
from protocol import merkle
from protocol.attachments import Attachment
from protocol.manifest import WINDOW_NAMES, Manifest, Validator
from tests.chain.world import HANDS, LEAVES, STATIONS, World, roles, windows


def manifest(chain_id: int, validators: list[Validator], now: int) -> Manifest:
    stations = Attachment(bytes(32), merkle.root(LEAVES), len(STATIONS)).value()
    return Manifest.build(
        {
            "format": "ballotboard/manifest/v1", "name": "a test", "practice": True, "language": "en",
            "chain": {
                "id": chain_id, "engine": "cometbft", "code_hash": artifact().code_hash.hex(),
                "validators": [{"key": v.key.hex(), "power": v.power} for v in validators],
            },
            "contests": [{"id": "c", "title": "C", "rule": "one-of-k", "limit": 0, "options": ["yes", "no"]}],
            "styles": [[0]], "units": Attachment(bytes(32), bytes(32), 1).value(), "stations": stations,
            "roles": [
                {"kind": role.kind.text, "name": role.kind.text, "address": role.account.hex(), "key": "00" * 32} for role in roles()
            ],
            "thresholds": {"trustees": 1, "verifiers": 1, "data_holders": 1},
            "windows": {name: getattr(windows(now), name) for name in WINDOW_NAMES},
            "rules": {"revote": "last", "channel": "paper-precedence", "minimum_ballots": 1, "decrypt_level": 0, "body_mode": "calldata"},
        }
    )  # fmt: skip


def publish(chain, web3: Web3, validators: list[Validator]) -> tuple[World, Manifest]:
    """A board in setup; its hands have gas money."""
    now = int(block(web3, "latest")["timestamp"], 16)
    made = manifest(chain.chain_id, validators, now)
    landed = deploy(web3, HANDS["authority"], made.body, *constructor_arguments(made))
    return World(chain, landed.address, windows(now), made.body, landed.transaction), made
