"""Credentials: the printed code and the key derived from it (docs/protocol.md, section 4)."""

from __future__ import annotations

import hashlib
import hmac
import secrets

from protocol.encoding import u64
from protocol.errors import BallotboardError
from protocol.group import reduce

CODE_BYTES = 16
ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
CHECK_SYMBOLS = ALPHABET + "*~$=U"
SYMBOLS = 26
"""Symbols of 128 bits in base32 (two zero bits at the end), without the check symbol."""
GROUP = 9
"""Symbols between hyphens when a code is printed: three groups of nine are 26 symbols and the check symbol."""


_PAIRS = [first + second for first in ALPHABET for second in ALPHABET]
_SHIFTS = range(5 * (SYMBOLS - 2), -1, -10)
"""Two symbols at a time: three times as fast, which counts where millions are printed."""


class WrongCode(BallotboardError):
    """A code that cannot have been printed: mistyped, most likely."""


def new_code() -> bytes:
    return secrets.token_bytes(CODE_BYTES)


def print_code(code: bytes) -> str:
    """The code as a person reads it: three groups of nine symbols, the last one a check symbol."""
    value = int.from_bytes(code, "big")
    text = "".join([_PAIRS[value << 2 >> shift & 1023] for shift in _SHIFTS]) + CHECK_SYMBOLS[value % 37]
    return f"{text[:GROUP]}-{text[GROUP : 2 * GROUP]}-{text[2 * GROUP :]}"


def read_code(text: str) -> bytes:
    """The 16 bytes of a typed code. Case, hyphens and spaces do not matter; I and L read as 1, O as 0. Raises WrongCode."""
    symbols = text.upper().replace("-", "").replace(" ", "").translate(str.maketrans("ILO", "110"))
    if len(symbols) != SYMBOLS + 1:
        raise WrongCode(f"a code has {SYMBOLS + 1} symbols, this one {len(symbols)}: compare it with the card")
    value = 0
    for place, symbol in enumerate(symbols[:-1], 1):
        if symbol not in ALPHABET:
            raise WrongCode(f"symbol {place}, {symbol!r}, is never printed on a card: compare it with the card")
        value = value << 5 | ALPHABET.index(symbol)
    if value & 3 or CHECK_SYMBOLS[(value >> 2) % 37] != symbols[-1]:
        raise WrongCode("the check symbol does not fit: one symbol is mistyped, compare it with the card")
    return (value >> 2).to_bytes(CODE_BYTES, "big")


def secret_key(code: bytes, nonce: bytes, serial: int) -> int:
    """sk = HKDF-SHA512(code, salt = nonce || u64(serial)), 64 bytes little-endian mod ℓ (RFC 5869). Zero raises WrongCode."""
    pseudorandom = hmac.digest(nonce + u64(serial), code, hashlib.sha512)
    expanded = hmac.digest(pseudorandom, b"ballotboard/v1/credential\x01", hashlib.sha512)
    secret = reduce(expanded)
    if not secret:
        raise WrongCode("this code gives no key: draw another")
    return secret
