"""Addresses and hex, without what talks to a node: that takes half a second to import, and an observer with an archive needs none of it."""

from __future__ import annotations

from eth_utils import to_checksum_address

from chain.errors import ChainError

Address = bytes | str
"""20 bytes, or their hex with or without 0x."""


def address_bytes(address: Address) -> bytes:
    """The 20 bytes of an address; raises ChainError."""
    try:
        raw = address if isinstance(address, bytes) else bytes.fromhex(address.removeprefix("0x"))
    except ValueError:
        raw = b""
    if len(raw) != 20:
        raise ChainError(f"{address!r} is not an address: expected 0x and 40 hex digits")
    return bytes(raw)


def checksummed(address: Address) -> str:
    """The 0x form with EIP-55 capitals, for people and for web3."""
    return to_checksum_address(address_bytes(address))


def unhex(text: str) -> bytes:
    """Bytes of a node's 0x hex."""
    return bytes.fromhex(text[2:])
