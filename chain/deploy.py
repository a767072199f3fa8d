"""One election, one board: creating it, and reading a creation transaction back strictly.

The input of the creation is the board's code followed by the ABI encoding of (manifest, roles, setup). An observer who has the input
has all that the board was told, and compares it with the manifest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple
from typing import TYPE_CHECKING, NamedTuple

import eth_abi
from eth_abi.exceptions import DecodingError, EncodingError

from chain.address import address_bytes, checksummed, unhex
from chain.contract import MAX_INITCODE, BoardRole, artifact, constructor_types
from chain.errors import ChainError
from protocol.manifest import Manifest, RoleKind, Windows

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount
    from web3 import Web3


class Setup(NamedTuple):
    """What the constructor takes beside manifest and roles, as in IBulletinBoard.sol."""

    windows: Windows
    stations_root: bytes
    stations_count: int
    hash_mode: bool
    verifiers: int
    data_holders: int


class Deployed(NamedTuple):
    """A new board: address (20 bytes), number of its block, hash of its creation transaction."""

    address: bytes
    block: int
    transaction: bytes


def deploy(web3: Web3, account: LocalAccount, manifest: bytes, roles: Sequence[BoardRole], setup: Setup) -> Deployed:
    """Creates a board and waits for it. Raises ChainError before sending what no node takes, Refused for BadSetup."""
    from chain.transactions import Sender  # not with the others: who only reads a creation has no node

    receipt = Sender(web3, account).send(None, creation_input(manifest, roles, setup))
    return Deployed(
        address_bytes(receipt["contractAddress"]), int(receipt["blockNumber"], 16), unhex(receipt["transactionHash"])
    )


def constructor_arguments(manifest: Manifest) -> tuple[list[BoardRole], Setup]:
    """The roles and setup that a manifest stands for: what an honest deployer passes, and an observer compares with."""
    roles = [BoardRole(role.kind, role.address) for role in manifest.roles]
    setup = Setup(
        windows=manifest.windows,
        stations_root=manifest.stations.root,
        stations_count=manifest.stations.count,
        hash_mode=manifest.body_mode == "hash",
        verifiers=manifest.verifier_threshold,
        data_holders=manifest.data_holder_threshold,
    )
    return roles, setup


def creation_input(manifest: bytes, roles: Sequence[BoardRole], setup: Setup) -> bytes:
    """The creation transaction's input. Raises ChainError if it is longer than EIP-3860 allows."""
    arguments = (
        manifest,
        [(int(role.kind), checksummed(role.account)) for role in roles],
        (astuple(setup.windows), *setup[1:]),
    )
    try:
        data = artifact().creation_code + eth_abi.encode(constructor_types(), arguments)
    except EncodingError as error:
        raise ChainError(f"an argument of the board's creation is out of range: {error}") from error
    if len(data) > MAX_INITCODE:
        raise ChainError(
            f"the manifest is {len(data) - MAX_INITCODE} bytes too long: with the board's code a creation takes at most"
            f" {MAX_INITCODE} bytes (EIP-3860); move lists into attachments"
        )
    return data


def parse_creation(data: bytes) -> tuple[bytes, list[BoardRole], Setup]:
    """Manifest, roles and setup of a creation input; the strict inverse of `creation_input`. Raises ChainError."""
    code = artifact().creation_code
    if not data.startswith(code):
        raise ChainError("the creation does not begin with the code of this version's board: it is another contract")
    try:
        manifest, roles, (windows, *rest) = eth_abi.decode(constructor_types(), data[len(code) :])
        parsed = [BoardRole(RoleKind(kind), address_bytes(account)) for kind, account in roles]
        setup = Setup(Windows(*windows), *rest)
    except (DecodingError, ValueError) as error:
        raise ChainError(f"the arguments of the board's creation cannot be read: {error}") from error
    if creation_input(manifest, parsed, setup) != data:
        raise ChainError("the arguments of the board's creation do not re-encode to themselves")
    return manifest, parsed, setup
