"""The group: ristretto255 (RFC 9496) on libsodium through rbcl, and the hash into scalars.

Points are 32-byte canonical encodings, scalars are Python integers in [0, ORDER). libsodium raises where the
mathematics gives the identity; these functions return it. Secrets pass through Python integers here, which is not
constant time: the reference is for reading and checking, `native/` is for voting machines.
"""

from __future__ import annotations

import hashlib
import secrets

import rbcl

from protocol.encoding import lp
from protocol.errors import Malformed

ORDER = 2**252 + 27742317777372353535851937790883648493
"""ℓ, the prime order of the group."""

IDENTITY = bytes(32)

BASE = bytes.fromhex("e2f2ae0a6abc4e71a884a961c500515f58e30b6aa582dd8db6a65945e08d2d76")
"""G, the canonical generator (RFC 9496, section 4)."""

CHALLENGE_BYTES = 16
"""Challenges and batch weights are 128 bits: a forgery succeeds with probability 2^-128 per hash query."""


def H(tag: str, *parts: bytes) -> bytes:
    """SHA-512 over the length-prefixed domain tag and parts (docs/protocol.md, section 1); 64 bytes."""
    digest = hashlib.sha512(lp(b"ballotboard/v1/" + tag.encode()))
    for part in parts:
        digest.update(lp(part))
    return digest.digest()


def reduce(data: bytes) -> int:
    """64 bytes as a little-endian integer modulo the order."""
    return int.from_bytes(data, "little") % ORDER


def low128(data: bytes) -> int:
    """The first 16 bytes as a little-endian integer: a challenge or a weight."""
    return int.from_bytes(data[:CHALLENGE_BYTES], "little")


def random_scalar() -> int:
    """A uniform nonzero scalar from the operating system."""
    return secrets.randbelow(ORDER - 1) + 1


def scalar_bytes(x: int) -> bytes:
    return (x % ORDER).to_bytes(32, "little")


def parse_scalar(data: bytes, field: str, offset: int = -1) -> int:
    """A scalar that was sent; refused unless below the order (libsodium would accept more)."""
    x = int.from_bytes(data, "little")
    if len(data) != 32 or x >= ORDER:
        raise Malformed(field, "scalar is not below the group order", offset)
    return x


def is_point(data: bytes) -> bool:
    """True for the canonical encoding of a point other than the identity."""
    # libsodium ignores bit 255, which RFC 9496 (section 4.3.1) refuses: without this, every point would have two encodings.
    canonical = len(data) == 32 and data[31] < 128 and data != IDENTITY
    return canonical and bool(rbcl.crypto_core_ristretto255_is_valid_point(data))


def parse_point(data: bytes, field: str, offset: int = -1) -> bytes:
    """A point that was sent; refused unless canonical and not the identity."""
    if data == IDENTITY:
        raise Malformed(field, "point is the identity", offset)
    if not is_point(data):
        raise Malformed(field, "not the canonical encoding of a ristretto255 point", offset)
    return data


def add(p: bytes, q: bytes) -> bytes:
    return rbcl.crypto_core_ristretto255_add(p, q)


def sub(p: bytes, q: bytes) -> bytes:
    return rbcl.crypto_core_ristretto255_sub(p, q)


def neg(p: bytes) -> bytes:
    return rbcl.crypto_core_ristretto255_sub(IDENTITY, p)


def mul(x: int, p: bytes) -> bytes:
    """x·p, with 0·p and x·identity the identity."""
    x %= ORDER
    if x == 0 or p == IDENTITY:
        return IDENTITY
    return rbcl.crypto_scalarmult_ristretto255(x.to_bytes(32, "little"), p)


def base(x: int) -> bytes:
    """x·G, with 0·G the identity."""
    x %= ORDER
    return IDENTITY if x == 0 else rbcl.crypto_scalarmult_ristretto255_base(x.to_bytes(32, "little"))


def total(points: list[bytes]) -> bytes:
    """The sum of points; the identity for none."""
    result = IDENTITY
    for point in points:
        result = add(result, point)
    return result
