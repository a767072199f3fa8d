"""How a passphrase becomes the key of an encrypted file: Argon2id, its salt and cost in a header line that the key is bound to.

The header is one line of canonical JSON; whatever follows it is the file's own business. The key is a hash over the header and what
Argon2id gives, so a file whose header was changed, its cost lowered for instance, does not open at all.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from nacl.pwhash import argon2id
from nacl.secret import SecretBox

from protocol.encoding import canonical_json, members, parse_json, unhex
from protocol.errors import BallotboardError, Malformed
from protocol.group import H

MAX_HEADER = 512
"""Bytes within which a header line ends: four times what one takes."""


class WrongPassphrase(BallotboardError):
    """The passphrase is not the one, or the file was changed: authenticated encryption cannot tell which."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What one guess costs: passes over the memory, and bytes of memory."""

    operations: int
    memory: int


STRONG = Cost(argon2id.OPSLIMIT_MODERATE, argon2id.MEMLIMIT_MODERATE)
"""The default: 256 MiB and about half a second a guess, which any laptop of the last ten years has."""

LIGHT = Cost(argon2id.OPSLIMIT_MIN, argon2id.MEMLIMIT_MIN)
"""For tests and throw-away elections: a guess costs nothing."""

MOST = Cost(16, argon2id.MEMLIMIT_SENSITIVE)
"""What a header may ask of whoever opens the file; beyond it is an attack on the reader."""


def new_header(format: str, cost: Cost = STRONG) -> bytes:
    """A header line with a fresh salt."""
    value = {"format": format, "kdf": "argon2id", "memory": cost.memory, "operations": cost.operations}
    return canonical_json({**value, "salt": os.urandom(argon2id.SALTBYTES).hex()}) + b"\n"


def take_header(data: bytes, format: str, name: str) -> bytes:
    """The header line that `data` begins with; raises Malformed if there is none of this format."""
    line, newline, _ = data[:MAX_HEADER].partition(b"\n")
    try:
        value = parse_json(line, name)
        if not newline or value["format"] != format or value["kdf"] != "argon2id":
            raise TypeError
    except (Malformed, TypeError, KeyError) as error:
        raise Malformed(name, f"is no {format} file, or its first line was changed") from error
    members(value, name, format=str, kdf=str, memory=int, operations=int, salt=str)
    unhex(value["salt"], argon2id.SALTBYTES, f"{name}.salt")
    within = LIGHT.operations <= value["operations"] <= MOST.operations
    if not within or not LIGHT.memory <= value["memory"] <= MOST.memory:
        raise Malformed(name, "asks for more or less work than Argon2id may here; the header was changed")
    return line + newline


def open_box(header: bytes, passphrase: str, name: str) -> SecretBox:
    """The cipher of the file with this header. A wrong passphrase shows only when something is decrypted with it."""
    if not passphrase:
        raise WrongPassphrase(f"{name}: the passphrase is empty; choose one of several words")
    value = parse_json(header[:-1], name)
    salt = bytes.fromhex(value["salt"])
    stretched = argon2id.kdf(SecretBox.KEY_SIZE, passphrase.encode(), salt, value["operations"], value["memory"])
    return SecretBox(H("sealed-file", header, stretched)[: SecretBox.KEY_SIZE])
