"""The log's tree in tiles: how much of it has to be kept so that any proof against any past head is a few look-ups.

A tile is up to 256 hashes, 32 bytes each, end to end. Tiles of level 0 hold the leaf hashes; an entry of level L + 1 is the root over a full tile
of level L. Full tiles never change, and a log of n leaves has n/256 + n/65536 + … of them. (The arithmetic of C2SP tlog-tiles.)
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from protocol import engine, merkle

WIDTH = 256
"""Hashes in a full tile: eight levels of the tree, 8 KB."""

FULL = 32 * WIDTH
"""Bytes of a full tile."""

DEPTH = WIDTH.bit_length() - 1


class Tile:
    """`hashes` end to end, and the roots over its complete subtrees, all made when the first of them is asked for."""

    def __init__(self, hashes: bytes) -> None:
        self.hashes = hashes
        self._above: list[bytes] = []

    def node(self, level: int, index: int) -> bytes:
        """The root over the hashes index·2^level … below (index + 1)·2^level, all of which must be there."""
        if level and not self._above:
            self._above = _above(self.hashes)
        layer = self._above[level - 1] if level else self.hashes
        return layer[32 * index : 32 * index + 32]


NOTHING = Tile(b"")

Load = Callable[[int, int], Tile]
"""(level, number) → that tile."""


def width(level: int, number: int, size: int) -> int:
    """How many hashes this tile has in a log of `size` records, 0 if there is none."""
    return max(0, min(WIDTH, (size >> DEPTH * level) - WIDTH * number))


def grow(load: Load, size: int, leaves: bytes) -> dict[tuple[int, int], bytes]:
    """The tiles, by (level, number), that are new or longer once `leaves`, hashes end to end, are appended to the tree of `size`."""
    changed: dict[tuple[int, int], bytes] = {}
    level, start, stream = 0, size, leaves
    while stream:
        number, filled = divmod(start, WIDTH)
        stream = (load(level, number).hashes if filled else b"") + stream
        hashes = []
        for offset in range(0, len(stream), FULL):
            tile = stream[offset : offset + FULL]
            changed[level, number] = tile
            if len(tile) == FULL:
                hashes.append(_root(tile))
            number += 1
        level, start, stream = level + 1, start // WIDTH, b"".join(hashes)
    return changed


def frontier(load: Load, size: int) -> merkle.Frontier:
    """What appending to the tree over the first `size` leaves needs; its `root()` is that tree's."""
    return merkle.stored_frontier(partial(_node, load), 0, size)


def inclusion_proof(load: Load, index: int, size: int) -> list[bytes]:
    """The proof of leaf `index` in the tree over the first `size` leaves. Raises IndexError outside it."""
    return merkle.stored_inclusion_proof(partial(_node, load), index, size)


def _node(load: Load, level: int, index: int) -> bytes:
    """A merkle.Node."""
    tile_level, rest = divmod(level, DEPTH)
    number, place = divmod(index << rest, WIDTH)
    return load(tile_level, number).node(rest, place >> rest)


def _above(hashes: bytes) -> list[bytes]:
    """The layers of complete subtrees above these hashes, from two leaves each upwards; none for fewer than two."""
    layers, below = [], hashes
    while len(below) >= 64:
        pairs = range(0, len(below) - 63, 64)
        below = b"".join([merkle.node_hash(below[i : i + 32], below[i + 32 : i + 64]) for i in pairs])
        layers.append(below)
    return layers


def _root(hashes: bytes) -> bytes:
    tree = merkle.Frontier()
    engine.extend(tree, hashes)
    return tree.root()
