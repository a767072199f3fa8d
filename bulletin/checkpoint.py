"""The log as C2SP tlog-tiles with a signed checkpoint, so that the clients of transparency logs can read it.

    checkpoint                     C2SP tlog-checkpoint: origin, size, root, signed by this board (signed-note, Ed25519)
    tile/L/N, tile/L/N.p/W         hashes of level L, full tiles or the first W of the last one
    tile/entries/N, …N.p/W         the 40-byte log entries under a tile of level 0, each with its u16 length

The board's key vouches for nothing but "this is what I have shown"; the validators' signatures and the verifier are the evidence.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from pathlib import Path

from nacl.signing import SigningKey

from bulletin.store import Reading
from bulletin.tiles import WIDTH
from protocol.encoding import u16, unhex
from protocol.errors import BallotboardError, Malformed
from protocol.records import LogHead

_ED25519 = b"\x01"
"""The signature type of C2SP signed-note."""

_PATH = re.compile(r"((?:x[0-9]{3}/){0,6})([0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?")


class NoSuchTile(BallotboardError):
    """The path is not a tile's, or the log is not that long."""


def origin(election_id: bytes) -> str:
    """The name of the log in its checkpoints."""
    return f"ballotboard/{election_id.hex()}"


def verifier_key(name: str, key: SigningKey) -> str:
    """The public key as signed-note writes it: name, key id, base64 of type and key."""
    public = _ED25519 + bytes(key.verify_key)
    return f"{name}+{_key_id(name, key).hex()}+{base64.b64encode(public).decode()}"


def checkpoint(name: str, head: LogHead, key: SigningKey) -> bytes:
    """The signed note of a head."""
    text = f"{name}\n{head.size}\n{base64.b64encode(head.root).decode()}\n"
    signature = _key_id(name, key) + key.sign(text.encode()).signature
    return f"{text}\n\u2014 {name} {base64.b64encode(signature).decode()}\n".encode()


def tile(tx: Reading, level: int, path: str) -> bytes:
    """The hashes of a tile, which are the same for ever. Raises NoSuchTile."""
    number, width = _parse(path)
    hashes = tx.tile(level, number).hashes[: 32 * width]
    if len(hashes) < 32 * width:
        raise NoSuchTile("the log is not that long yet")
    return hashes


def entries(tx: Reading, path: str) -> bytes:
    """The entries under a tile of level 0. Raises NoSuchTile."""
    number, width = _parse(path)
    start = number * WIDTH
    found = [record.entry.encode() for record in tx.records(start=start, before=start + width)]
    if len(found) < width:
        raise NoSuchTile("the log is not that long yet")
    return b"".join(u16(len(entry)) + entry for entry in found)


def read_key(path: Path) -> SigningKey:
    """The board's key in this file (hex of the seed); made where there is none, for the owner's eyes only."""
    try:
        return SigningKey(unhex(path.read_text().strip(), 32, str(path)))
    except FileNotFoundError:
        key = SigningKey.generate()
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(bytes(key).hex() + "\n")
        return key
    except (OSError, Malformed, UnicodeDecodeError) as error:
        raise BallotboardError(f"{path} does not hold a board's key: {error}") from error


def _parse(path: str) -> tuple[int, int]:
    """(number, width) of a tile's path: the number in groups of three digits, all but the last behind an x."""
    match = _PATH.fullmatch(path)
    width = int(match[3] or WIDTH) if match else 0
    if not match or width > WIDTH or (match[3] and width == WIDTH) or match[1].startswith("x000/"):
        raise NoSuchTile("this is not the path of a tile")
    return int((match[1] + match[2]).replace("x", "").replace("/", "")), width


def _key_id(name: str, key: SigningKey) -> bytes:
    return hashlib.sha256(name.encode() + b"\n" + _ED25519 + bytes(key.verify_key)).digest()[:4]
