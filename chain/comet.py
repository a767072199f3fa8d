"""What a CometBFT validator signs, byte for byte, and when enough of them have: pure functions, no network.

Source: CometBFT v0.38, types/block.go (Header.Hash, Commit), types/validator_set.go (Hash, order), types/canonical.go and
proto/tendermint/types/canonical.proto (sign bytes). chain/validator/vectors_test.go compares with CometBFT itself.

Protobuf is written and never read: fields in ascending order, zero values left out, as CometBFT does. The trees are those of RFC 6962,
the same as the board's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from nacl.exceptions import CryptoError
from nacl.signing import VerifyKey

from chain.errors import BadEvidence
from protocol import merkle
from protocol.manifest import Validator

PRECOMMIT = 2
"""SIGNED_MSG_TYPE_PRECOMMIT."""


class Time(NamedTuple):
    """google.protobuf.Timestamp: seconds since 1970, and nanoseconds."""

    seconds: int
    nanos: int


class BlockId(NamedTuple):
    """A block's header hash, and number and root of the parts in which it is sent."""

    hash: bytes
    parts: int
    parts_hash: bytes


@dataclass(frozen=True)
class Header:
    """The 14 fields of a CometBFT header; hashes are 32 bytes or, where there is nothing yet, empty."""

    block_version: int
    app_version: int
    chain_id: str
    height: int
    time: Time
    last_block_id: BlockId
    last_commit_hash: bytes
    data_hash: bytes
    validators_hash: bytes
    next_validators_hash: bytes
    consensus_hash: bytes
    app_hash: bytes
    last_results_hash: bytes
    evidence_hash: bytes
    proposer_address: bytes

    def hash(self) -> bytes:
        """Root over the encoded fields."""
        return _root(
            [
                _integer(1, self.block_version) + _integer(2, self.app_version),
                _data(1, self.chain_id.encode()),
                _integer(1, self.height),
                _time(self.time),
                _block_id(self.last_block_id),
                _data(1, self.last_commit_hash),
                _data(1, self.data_hash),
                _data(1, self.validators_hash),
                _data(1, self.next_validators_hash),
                _data(1, self.consensus_hash),
                _data(1, self.app_hash),
                _data(1, self.last_results_hash),
                _data(1, self.evidence_hash),
                _data(1, self.proposer_address),
            ]
        )


class Signature(NamedTuple):
    """One validator's precommit: its place in the ordered set, its clock, and 64 bytes of Ed25519."""

    validator: int
    time: Time
    signature: bytes


@dataclass(frozen=True)
class Commit:
    """Precommits of one round for one block. `signatures` are by ascending validator, so none counts twice."""

    round: int
    block_id: BlockId
    signatures: tuple[Signature, ...]


def chain_name(chain_id: int) -> str:
    """CometBFT's chain id of the network whose EVM chain id this is. It is signed with every vote."""
    return f"ballotboard-{chain_id}"


def address(key: bytes) -> bytes:
    """A validator's address, or a node's id: 20 bytes from its Ed25519 key."""
    return hashlib.sha256(key).digest()[:20]


def ordered(validators: Sequence[Validator]) -> list[Validator]:
    """The order in which CometBFT keeps a set: most power first, then by address."""
    return sorted(validators, key=lambda v: (-v.power, address(v.key)))


def validators_hash(validators: Sequence[Validator]) -> bytes:
    """Root over (key, power) of a set, whose order here does not matter."""
    return _root([_message(1, _data(1, v.key)) + _integer(2, v.power) for v in ordered(validators)])


def sign_bytes(chain_id: str, height: int, commit: Commit, time: Time) -> bytes:
    """What a validator signs with a precommit for the commit's block: CanonicalVote, after its length."""
    vote = (
        _integer(1, PRECOMMIT)
        + _fixed(2, height)
        + _fixed(3, commit.round)
        + _message(4, _block_id(commit.block_id))
        + _message(5, _time(time))
        + _data(6, chain_id.encode())
    )
    return _varint(len(vote)) + vote


def check_commit(header: Header, commit: Commit, chain_id: str, validators: Sequence[Validator]) -> tuple[int, int]:
    """That more than 2/3 of the power of `validators` signed `header`: (power that signed, total power). Raises BadEvidence.

    1. The header is of this chain, and its validator set is this one.
    2. The commit's block is the header.
    3. Every signature is a precommit for that block by another validator of the set. One that is not makes the whole refused: an honest
       collector leaves votes for nil out.
    4. Three times the power that signed is more than twice the total. Exactly 2/3 is not enough: the other third and a liar in each part
       could sign another block.

    libsodium verifies: it refuses some signatures that CometBFT (ZIP-215) takes, of keys or nonces of small order, which no validator
    makes unless it has changed its program. Such a vote would be missing here and nothing more.
    """
    if header.chain_id != chain_id:
        raise BadEvidence(f"the header is of chain {header.chain_id!r}, not of {chain_id!r}")
    if not validators or len({v.key for v in validators}) != len(validators):
        raise BadEvidence("the validator set is empty or names a key twice")
    if header.validators_hash != validators_hash(validators):
        raise BadEvidence(
            "the header was signed by another validator set than is known here: the manifest's, after the changes that the evidence holds"
        )
    if commit.block_id.hash != header.hash():
        raise BadEvidence("the commit is for another block than this header")
    members, power, last = ordered(validators), 0, -1
    for signature in commit.signatures:
        if not last < signature.validator < len(members):
            raise BadEvidence("the commit's signatures are not by distinct validators of the set in ascending order")
        last = signature.validator
        signed = sign_bytes(chain_id, header.height, commit, signature.time)
        try:
            VerifyKey(members[last].key).verify(signed, signature.signature)
        except (CryptoError, ValueError) as error:
            raise BadEvidence(f"validator {last} did not sign this block") from error
        power += members[last].power
    total = sum(v.power for v in members)
    if not 3 * power > 2 * total:
        raise BadEvidence(f"validators with {power} of {total} power signed: more than 2/3 are needed")
    return power, total


# ---------------------------------------------------------------- protobuf


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def _integer(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value) if value else b""


def _fixed(field: int, value: int) -> bytes:
    return _varint(field << 3 | 1) + value.to_bytes(8, "little") if value else b""


def _message(field: int, value: bytes) -> bytes:
    """Kept even if empty: the fields that CometBFT declares not nullable."""
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _data(field: int, value: bytes) -> bytes:
    return _message(field, value) if value else b""


def _time(time: Time) -> bytes:
    return _integer(1, time.seconds) + _integer(2, time.nanos)


def _block_id(block: BlockId) -> bytes:
    return _data(1, block.hash) + _message(2, _integer(1, block.parts) + _data(2, block.parts_hash))


def _root(items: list[bytes]) -> bytes:
    return merkle.root([merkle.leaf_hash(item) for item in items])
