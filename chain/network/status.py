"""Who the validators are, who of them signed the last blocks, and whether a node is behind: what a CometBFT RPC says of itself.

A node is asked here and believed; evidence (chain.evidence) is what convinces others.
"""

from __future__ import annotations

import base64
import time
from calendar import timegm
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from web3 import Web3

from chain.comet import address
from chain.errors import ChainError, NodeUnreachable
from chain.network.changes import members
from chain.network.genesis import Network
from chain.network.node import comet_call
from chain.network.operator import Operator

WINDOW = 20
"""Blocks of which the signatures are counted: twenty seconds, so a validator that restarts shows."""

FRESH = 5.0
"""Seconds that the newest block of a network that goes on may be old: two intervals and a round that failed."""

SIGNED = 2
"""BLOCK_ID_FLAG_COMMIT: signed for the block; the others are absent or signed for none."""


@dataclass(frozen=True)
class Member:
    """One validator: its power, how many of the window's blocks carry its signature, and whether this node is connected to it (None: it is
    this node, or its node id is not known here)."""

    name: str
    key: str
    power: int
    signed: int
    connected: bool | None


@dataclass(frozen=True)
class Consensus:
    """What one validator sees. `version` of CometBFT; `age` of the newest block in seconds; `behind` in blocks; `window` as above."""

    version: str
    height: int
    age: float
    behind: int
    catching_up: bool
    peers: int
    window: int
    total_power: int
    members: tuple[Member, ...]

    def value(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def consensus(comet_url: str, operators: Sequence[Operator] = ()) -> Consensus:
    """Asks the validator at this URL; `operators` give names to keys (`operators_of`). Raises ChainError, NodeUnreachable."""
    status = comet_call(comet_url, "status")
    height = int(status["sync_info"]["latest_block_height"])
    age = max(0.0, time.time() - _seconds(status["sync_info"]["latest_block_time"])) if height else 0.0
    peers = connected_ids(comet_url)
    found, window = members_of(comet_url, operators, height), min(WINDOW, height)
    signed = count_signatures(comet_url, range(height - window + 1, height + 1))
    known = {operator.validator_key: operator for operator in operators}
    own = status["node_info"]["id"]

    def connected(key: bytes) -> bool | None:
        operator = known.get(key)
        return operator.node_id.hex() in peers if operator and operator.node_id.hex() != own else None

    return Consensus(
        status["node_info"]["version"], height, age, blocks_behind(comet_url, height) if age > FRESH else 0,
        status["sync_info"]["catching_up"], len(peers), window, sum(power for _, _, power in found),
        tuple(Member(name, key.hex(), power, signed.get(address(key), 0), connected(key)) for name, key, power in found),
    )  # fmt: skip


def operators_of(web3: Web3, network: Network | None = None) -> list[Operator]:
    """Who the validators are now: what their contract says, or the network file of a chain that has no such contract."""
    try:
        return [member.operator for member in members(web3) if member.operator]
    except NodeUnreachable:
        raise
    except ChainError:
        return [operator for operator, _ in network.validators] if network else []


def members_of(comet_url: str, operators: Sequence[Operator], height: int) -> list[tuple[str, bytes, int]]:
    """Name, key and power of each validator of the set at a height, 0 for the genesis; the name is the address where no operator has the key."""
    names = {operator.validator_key: operator.name for operator in operators}
    if height:
        found = comet_call(comet_url, "validators", height=str(height), per_page="100")["validators"]
    else:  # before the first block a node that still looks for the others has its genesis and no set
        genesis = comet_call(comet_url, "genesis")["genesis"]
        found = [each | {"voting_power": each["power"]} for each in genesis["validators"]]
    keys = [(base64.b64decode(each["pub_key"]["value"]), int(each["voting_power"])) for each in found]
    return [(names.get(key, address(key).hex()), key, power) for key, power in keys]


def count_signatures(comet_url: str, heights: range) -> Mapping[bytes, int]:
    """How many of these blocks carry the signature of each address (20 bytes)."""
    found: dict[bytes, int] = {}
    for height in heights:
        for vote in comet_call(comet_url, "commit", height=str(height))["signed_header"]["commit"]["signatures"]:
            if vote["block_id_flag"] == SIGNED:
                signer = bytes.fromhex(vote["validator_address"])
                found[signer] = found.get(signer, 0) + 1
    return found


def block_time(comet_url: str, height: int) -> float:
    """A block's own time, in seconds since 1970."""
    return _seconds(comet_call(comet_url, "commit", height=str(height))["signed_header"]["header"]["time"])


def connected_ids(comet_url: str) -> set[str]:
    """Node ids of the validators that this one is connected to."""
    return {peer["node_info"]["id"] for peer in comet_call(comet_url, "net_info")["peers"]}


def blocks_behind(comet_url: str, height: int) -> int:
    """How many blocks the connected validators have decided that this one has not."""
    peers = comet_call(comet_url, "dump_consensus_state")["peers"]
    return max([0, *(int(peer["peer_state"]["round_state"]["height"]) - 1 - height for peer in peers)])


def _seconds(text: str) -> float:
    """RFC 3339 in UTC, with up to nine decimals."""
    whole, _, fraction = text.removesuffix("Z").partition(".")
    return timegm(time.strptime(whole, "%Y-%m-%dT%H:%M:%S")) + float(f"0.{fraction or 0}")
