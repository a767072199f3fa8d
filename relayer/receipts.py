"""The log in memory: entries, and the tree over them that receipts take their inclusion proofs from.

A proof needs the roots of complete subtrees. Those of 8 records and more are kept; a smaller one is hashed again from its entries where a proof needs
it, which takes microseconds and spares seven eighths of the tree: 40 bytes for an entry and 8 for the tree, 48 MB for a million records.
"""

from __future__ import annotations

from protocol import engine
from protocol.merkle import node_hash, stored_frontier, stored_inclusion_proof

ENTRY = 40
"""Bytes of a log entry (docs/protocol.md, section 2)."""

LOWEST = 3
"""The lowest level whose roots are kept, 2^3 records each: a level less doubles the tree, one more doubles what a proof hashes."""


class Tree:
    """A growing RFC 9162 tree over entries. `_levels[i]` has, 32 bytes each, the roots of its complete subtrees of 2^(LOWEST + i) entries.

    One thread appends; others may ask for any size that was reached before they asked.
    """

    def __init__(self) -> None:
        self.size = 0
        self._entries = bytearray()
        self._levels = [bytearray()]

    def entry(self, position: int) -> bytes:
        """The entry at `position`, which is below `size`."""
        return bytes(self._entries[ENTRY * position : ENTRY * (position + 1)])

    def extend(self, entries: bytes) -> None:
        """Append entries, 40 bytes each."""
        self._entries += entries
        size = len(self._entries) // ENTRY
        for block in range(self.size >> LOWEST, size >> LOWEST):
            index, level, node = block, 0, self._hashed(LOWEST, block)
            self._levels[0] += node
            while index & 1:
                node = node_hash(self._stored(LOWEST + level, index - 1), node)
                index, level = index >> 1, level + 1
                if level == len(self._levels):
                    self._levels.append(bytearray())
                self._levels[level] += node
        self.size = size  # last: whoever sees it finds everything below it

    def cut(self, size: int) -> None:
        """Back to the first `size` entries."""
        self.size = size
        del self._entries[ENTRY * size :]
        for level, nodes in enumerate(self._levels, LOWEST):
            del nodes[32 * (size >> level) :]

    def root(self, size: int) -> bytes:
        """The root of the tree over the first `size` entries."""
        return stored_frontier(self._stored, 0, size).root()

    def proof(self, index: int, size: int) -> list[bytes]:
        """The inclusion proof of entry `index` in the tree of `size` entries. Raises IndexError outside it."""
        if size > self.size:
            raise IndexError(f"no tree of {size} leaves inside one of {self.size}")
        return stored_inclusion_proof(self._stored, index, size)

    def _stored(self, level: int, index: int) -> bytes:
        if level < LOWEST:
            return self._hashed(level, index)
        return bytes(self._levels[level - LOWEST][32 * index : 32 * index + 32])

    def _hashed(self, level: int, index: int) -> bytes:
        first, count = index << level, 1 << level
        return engine.row_root(bytes(self._entries[ENTRY * first : ENTRY * (first + count)]), ENTRY)
