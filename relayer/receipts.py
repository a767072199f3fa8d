"""The tree that receipts take their inclusion proofs from.

It keeps every complete subtree of the log, so that a proof is O(log n) look-ups: 64 bytes a record, 64 MB for a million.
"""

from __future__ import annotations

from collections.abc import Iterable

from protocol.merkle import node_hash, stored_frontier, stored_inclusion_proof


class Tree:
    """A growing RFC 9162 tree. Level l holds, 32 bytes each, the roots of its complete subtrees of 2^l leaves.

    One thread appends; others may ask for any size that was reached before they asked.
    """

    def __init__(self) -> None:
        self._levels = [bytearray()]

    @property
    def size(self) -> int:
        return len(self._levels[0]) // 32

    def extend(self, leaves: Iterable[bytes]) -> None:
        for leaf in leaves:
            index, level, node = self.size, 0, leaf
            # The leaf itself last: `size` counts it only when every subtree that it completes is there.
            while index & 1:
                node = node_hash(self._stored(level, index - 1), node)
                index, level = index >> 1, level + 1
                if level == len(self._levels):
                    self._levels.append(bytearray())
                self._levels[level] += node
            self._levels[0] += leaf

    def cut(self, size: int) -> None:
        """Back to the first `size` leaves."""
        for level, nodes in enumerate(self._levels):
            del nodes[32 * (size >> level) :]

    def root(self, size: int) -> bytes:
        """The root of the tree over the first `size` leaves."""
        return stored_frontier(self._stored, 0, size).root()

    def proof(self, index: int, size: int) -> list[bytes]:
        """The inclusion proof of leaf `index` in the tree of `size` leaves. Raises IndexError outside it."""
        if size > self.size:
            raise IndexError(f"no tree of {size} leaves inside one of {self.size}")
        return stored_inclusion_proof(self._stored, index, size)

    def _stored(self, level: int, index: int) -> bytes:
        return bytes(self._levels[level][32 * index : 32 * index + 32])
