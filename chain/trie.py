"""The Merkle-Patricia tree of the EVM (Yellow Paper, appendix D): reading a value out of a proof, and making a tree.

A tree's nodes are RLP lists, named by their keccak-256, except that one of under 32 bytes stands inside its parent. Paths are nibbles.
State and storage trees have keccak-256 of the key as path, receipts the RLP of the index.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import rlp
from eth_hash.auto import keccak
from rlp.exceptions import RLPException

from chain.errors import BadEvidence

EMPTY_ROOT = keccak(b"\x80")
"""The root of a tree with nothing in it."""


class Nodes(Mapping[bytes, bytes]):
    """Nodes of one or several trees by their hash, and which of them were looked at: a proof holds no others."""

    def __init__(self, nodes: Iterable[bytes]) -> None:
        self._nodes = {keccak(node): node for node in nodes}
        self.used: set[bytes] = set()

    def __getitem__(self, digest: bytes) -> bytes:
        node = self._nodes[digest]
        self.used.add(digest)
        return node

    def __iter__(self) -> Any:
        return iter(self._nodes)

    def __len__(self) -> int:
        return len(self._nodes)


def get(root: bytes, key: bytes, nodes: Mapping[bytes, bytes]) -> bytes | None:
    """The value at `key` under `root`, or None if the nodes prove that there is none. Raises BadEvidence if they prove neither."""
    path, reference = _nibbles(key), root
    if root == EMPTY_ROOT:
        return None
    while True:
        node = _node(reference, nodes)
        if len(node) == 17:
            if not path:
                return _bytes(node[16]) or None
            reference, path = node[path[0]], path[1:]
            if reference == b"":
                return None
            continue
        ends, piece = _unpack(node[0])
        if path[: len(piece)] != piece:
            return None
        path = path[len(piece) :]
        if ends:
            return _bytes(node[1]) if not path else None
        reference = node[1]


class Tree:
    """A tree over key-value pairs: `root`, and `nodes` by their hash, in which `get` finds everything. Values are not empty."""

    def __init__(self, pairs: Mapping[bytes, bytes]) -> None:
        self.nodes: dict[bytes, bytes] = {}
        self.root = EMPTY_ROOT
        if pairs:
            node = self._make([(_nibbles(key), value) for key, value in pairs.items()])
            raw = rlp.encode(node)
            self.root = keccak(raw)
            self.nodes[self.root] = raw

    def proof(self, key: bytes) -> list[bytes]:
        """The nodes on the way to `key`, from the root: what `get` needs."""
        nodes = Nodes(self.nodes.values())
        get(self.root, key, nodes)
        return [raw for digest, raw in nodes._nodes.items() if digest in nodes.used]

    def _make(self, items: list[tuple[list[int], bytes]]) -> list[Any]:
        if len(items) == 1:
            path, value = items[0]
            return [_pack(path, True), value]
        shortest = min(len(path) for path, _ in items)
        first = items[0][0]
        common = next(
            (at for at in range(shortest) if any(path[at] != first[at] for path, _ in items)), shortest
        )  # fmt: skip
        if common:
            return [_pack(first[:common], False), self._reference([(path[common:], value) for path, value in items])]
        branch: list[Any] = []
        for nibble in range(16):
            below = [(path[1:], value) for path, value in items if path and path[0] == nibble]
            branch.append(self._reference(below) if below else b"")
        return [*branch, next((value for path, value in items if not path), b"")]

    def _reference(self, items: list[tuple[list[int], bytes]]) -> Any:
        node = self._make(items)
        raw = rlp.encode(node)
        if len(raw) < 32:
            return node
        digest = keccak(raw)
        self.nodes[digest] = raw
        return digest


def _node(reference: Any, nodes: Mapping[bytes, bytes]) -> list[Any]:
    """The node that a reference stands for: itself if it is embedded. A list of 2 or 17."""
    node = reference
    if isinstance(reference, bytes):
        if reference not in nodes:
            raise BadEvidence(f"the proof lacks the tree node {reference.hex()}")
        try:
            node = rlp.decode(nodes[reference])
        except RLPException as error:
            raise BadEvidence("a tree node of the proof is not RLP") from error
    if not isinstance(node, list) or len(node) not in (2, 17):
        raise BadEvidence("a tree node of the proof is neither branch, extension nor leaf")
    return node


def _bytes(value: Any) -> bytes:
    if not isinstance(value, bytes):
        raise BadEvidence("a tree node of the proof holds a list where a value must be")
    return value


def _nibbles(data: bytes) -> list[int]:
    return [nibble for byte in data for nibble in (byte >> 4, byte & 15)]


def _pack(path: list[int], ends: bool) -> bytes:
    """Hex-prefix encoding: a flag nibble (2: leaf, 1: odd length), and a zero nibble where it is even."""
    nibbles = [2 * ends + 1, *path] if len(path) % 2 else [2 * ends, 0, *path]
    return bytes(high << 4 | low for high, low in zip(nibbles[::2], nibbles[1::2], strict=True))


def _unpack(packed: Any) -> tuple[bool, list[int]]:
    nibbles = _nibbles(_bytes(packed))
    if not nibbles or nibbles[0] > 3 or (nibbles[0] in (0, 2) and nibbles[1] != 0):
        raise BadEvidence("a tree node of the proof has a malformed path")
    return nibbles[0] >= 2, nibbles[1:] if nibbles[0] & 1 else nibbles[2:]
