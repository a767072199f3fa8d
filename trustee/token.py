"""A keystore that opens with a token: PKCS#11, SoftHSM for instance, or a smart card.

No token computes in ristretto255, so the share itself cannot stay inside: what stays inside is an AES key, not extractable, that encrypts the
keystore's key. The file is worthless without the token and its PIN, which most tokens let nobody guess (they lock themselves), and the share
is in memory while a command runs. Needs the package python-pkcs11 (extra `token`) and the token's module (a shared library).
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from nacl.secret import SecretBox

from chain.sealed import MAX_HEADER, WrongPassphrase
from protocol.encoding import canonical_json, members, parse_json, unhex
from protocol.errors import BallotboardError, Malformed
from protocol.group import H

KDF = "pkcs11"
MODULE_VARIABLE = "BALLOTBOARD_PKCS11_MODULE"
MODULES = ("/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/x86_64-linux-gnu/opensc-pkcs11.so")
"""Where Debian puts SoftHSM's module and OpenSC's, which knows most smart cards."""

BLOCK = 16
"""Bytes of an AES block: the initialisation vector of CBC."""


class TokenError(BallotboardError):
    """The token, its module or its key is not there."""


@dataclass(frozen=True, slots=True)
class Token:
    """A token by its label, and the shared library that speaks to it; empty: the environment's, else the first of MODULES that is there."""

    label: str
    module: str = ""


def new_header(format: str, token: Token, pin: str) -> tuple[bytes, SecretBox]:
    """Makes an AES-256 key in the token; gives a header line and the box that only this key opens. Raises TokenError, WrongPassphrase."""
    name, inner, iv = (
        f"ballotboard-{secrets.token_hex(4)}",
        secrets.token_bytes(SecretBox.KEY_SIZE),
        secrets.token_bytes(BLOCK),
    )
    with _session(token, pin, write=True) as session:
        import pkcs11

        attributes = {pkcs11.Attribute.SENSITIVE: True, pkcs11.Attribute.EXTRACTABLE: False}
        key = session.generate_key(pkcs11.KeyType.AES, 256, label=name, store=True, template=attributes)
        wrapped = key.encrypt(inner, mechanism=pkcs11.Mechanism.AES_CBC_PAD, mechanism_param=iv)
    value = {"format": format, "iv": iv.hex(), "kdf": KDF, "key": name, "token": token.label, "wrapped": wrapped.hex()}
    header = canonical_json(value) + b"\n"
    return header, _box(header, inner)


def take_header(data: bytes, format: str, name: str) -> bytes:
    """The header line of a keystore that a token opens; empty where `data` begins with something else. Raises Malformed."""
    line, newline, _ = data[: 2 * MAX_HEADER].partition(b"\n")
    try:
        value = parse_json(line, name)
        if value["kdf"] != KDF:
            return b""
    except (Malformed, TypeError, KeyError):
        return b""
    members(value, name, format=str, iv=str, kdf=str, key=str, token=str, wrapped=str)
    unhex(value["iv"], BLOCK, f"{name}.iv")
    if not newline or value["format"] != format:
        raise Malformed(name, f"is no {format} file, or its first line was changed")
    return line + newline


def open_box(header: bytes, pin: str, name: str, module: str = "") -> SecretBox:
    """The box, whose key the token decrypts. Raises TokenError, WrongPassphrase."""
    value = parse_json(header[:-1], name)
    with _session(Token(value["token"], module), pin) as session:
        import pkcs11

        try:
            key = session.get_key(label=value["key"], object_class=pkcs11.ObjectClass.SECRET_KEY)
            inner = key.decrypt(
                bytes.fromhex(value["wrapped"]),
                mechanism=pkcs11.Mechanism.AES_CBC_PAD,
                mechanism_param=bytes.fromhex(value["iv"]),
            )
        except (pkcs11.exceptions.PKCS11Error, ValueError) as error:
            raise TokenError(
                f"the token {value['token']!r} does not open {name}: it lacks the key {value['key']}, or the file was changed"
            ) from error
    return _box(header, inner)


def _box(header: bytes, inner: bytes) -> SecretBox:
    return SecretBox(H("sealed-file", header, inner)[: SecretBox.KEY_SIZE])


@contextmanager
def _session(token: Token, pin: str, write: bool = False) -> Iterator[Any]:
    try:
        import pkcs11
    except ModuleNotFoundError as error:
        raise TokenError("a token needs the package python-pkcs11: pip install 'ballotboard[token]'") from error
    path = token.module or os.environ.get(MODULE_VARIABLE) or next(filter(os.path.exists, MODULES), "")
    if not path:
        raise TokenError(f"no module of a token is known: name its shared library in {MODULE_VARIABLE}")
    if not pin:
        raise WrongPassphrase(f"token {token.label!r}: the PIN is empty")
    try:
        found = pkcs11.lib(path).get_token(token_label=token.label)
        with found.open(user_pin=pin, rw=write) as session:
            yield session
    except pkcs11.exceptions.PinIncorrect as error:
        raise WrongPassphrase(
            f"token {token.label!r}: the PIN is wrong; most tokens lock themselves after a few tries"
        ) from error
    except pkcs11.exceptions.PinLocked as error:
        raise TokenError(f"token {token.label!r} is locked: its security officer can unlock it") from error
    except (pkcs11.exceptions.PKCS11Error, RuntimeError) as error:
        raise TokenError(f"token {token.label!r} in {path}: {type(error).__name__} {error}".rstrip()) from error
