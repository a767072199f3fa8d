"""The log's tree in tiles: how much of it has to be kept so that any proof against any past head is a few look-ups.

A tile is up to 256 hashes, 32 bytes each, end to end. Tiles of level 0 hold the leaf hashes; an entry of level L + 1 is the root over a full tile
of level L. Full tiles never change, and a log of n leaves has n/256 + n/65536 + … of them. (The arithmetic of C2SP tlog-tiles.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from protocol import merkle

WIDTH = 256
"""Hashes in a full tile: eight levels of the tree, 8 KB."""

FULL = 32 * WIDTH
"""Bytes of a full tile."""

DEPTH = WIDTH.bit_length() - 1

Load = Callable[[int, int], bytes]
"""(level, number) → the hashes of that tile."""


def grow(load: Load, size: int, leaves: Sequence[bytes]) -> dict[tuple[int, int], bytes]:
    """The tiles, by (level, number), that are new or longer once `leaves` are appended to the tree of `size`."""
    changed: dict[tuple[int, int], bytes] = {}
    level, start, hashes = 0, size, list(leaves)
    while hashes:
        number, filled = divmod(start, WIDTH)
        stream = (load(level, number) if filled else b"") + b"".join(hashes)
        hashes = []
        for offset in range(0, len(stream), FULL):
            tile = stream[offset : offset + FULL]
            changed[level, number] = tile
            if len(tile) == FULL:
                hashes.append(merkle.root(_hashes(tile)))
            number += 1
        level, start = level + 1, start // WIDTH
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
    return merkle.root(_hashes(load(tile_level, number)[32 * place : 32 * (place + (1 << rest))]))


def _hashes(data: bytes) -> list[bytes]:
    return [data[i : i + 32] for i in range(0, len(data), 32)]
