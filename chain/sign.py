"""EIP-712 signatures of records, under the same rules as the contract (docs/protocol.md, section 2).

    Record(uint8 kind, bytes32 bodyHash, uint64 number)    domain: "Ballotboard", "1", chain id, board

libsecp256k1 (coincurve) does the curve: 45 times faster than the pure Python that eth-account falls back to.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from coincurve import PrivateKey, PublicKey
from eth_hash.auto import keccak

from chain.address import Address, address_bytes
from chain.errors import BadSignature

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount

SIGNATURE = 65
"""Bytes of a signature: `r (32) || s (32) || v`."""

HALF_ORDER = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0
"""Largest s that is accepted: half the order of secp256k1. (r, n − s) would be a second form of the same signature."""

_DOMAIN = keccak(b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)")
_RECORD = keccak(b"Record(uint8 kind,bytes32 bodyHash,uint64 number)")
_NAME, _VERSION = keccak(b"Ballotboard"), keccak(b"1")


def record_digest(chain_id: int, contract: Address, kind: int, body_hash: bytes, number: int) -> bytes:
    """The 32 bytes that are signed. `body_hash` is SHA-256 of the body, `number` the signer's next number."""
    record = keccak(_RECORD + kind.to_bytes(32, "big") + body_hash + number.to_bytes(32, "big"))
    return keccak(b"\x19\x01" + _domain(chain_id, address_bytes(contract)) + record)


def sign_record(
    key: LocalAccount | bytes, chain_id: int, contract: Address, kind: int, body_hash: bytes, number: int
) -> bytes:
    """65 bytes `r || s || v` by an account or its 32-byte key; deterministic (RFC 6979), low s, v 27 or 28."""
    secret = key if isinstance(key, bytes) else bytes(key.key)
    digest = record_digest(chain_id, contract, kind, body_hash, number)
    signature = PrivateKey(secret).sign_recoverable(digest, hasher=None)
    return signature[:64] + bytes([27 + signature[64]])


def recover_record(
    chain_id: int, contract: Address, kind: int, body_hash: bytes, number: int, signature: bytes
) -> bytes:
    """The address (20 bytes) that signed. Raises BadSignature where the contract would."""
    if len(signature) != SIGNATURE or signature[64] not in (27, 28):
        raise BadSignature("a signature is 65 bytes and ends in 27 or 28")
    if int.from_bytes(signature[32:64], "big") > HALF_ORDER:
        raise BadSignature("s is in the upper half: a second form of a signature is refused")
    digest = record_digest(chain_id, contract, kind, body_hash, number)
    recoverable = signature[:64] + bytes([signature[64] - 27])
    try:
        public = PublicKey.from_signature_and_message(recoverable, digest, hasher=None)
    except Exception as error:  # coincurve raises bare Exception
        raise BadSignature("no key has made this signature") from error
    return keccak(public.format(compressed=False)[1:])[12:]


@lru_cache(maxsize=16)
def _domain(chain_id: int, contract: bytes) -> bytes:
    return keccak(_DOMAIN + _NAME + _VERSION + chain_id.to_bytes(32, "big") + bytes(12) + contract)
