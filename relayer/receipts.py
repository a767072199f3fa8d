"""Receipts of final ballots: the log entry, and its inclusion proof against a recent head.

`Tree` keeps every complete subtree of the log, so that a proof is O(log n) look-ups: 64 bytes a record, 64 MB for a million.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from chain.log import ElectionLog
from protocol.merkle import EMPTY_ROOT, node_hash
from protocol.receipt import Receipt
from protocol.records import LogHead


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

    def root(self, size: int) -> bytes:
        """The root of the tree over the first `size` leaves."""
        return self._node((size - 1).bit_length(), 0, size) if size else EMPTY_ROOT

    def proof(self, index: int, size: int) -> list[bytes]:
        """The inclusion proof of leaf `index` in the tree of `size` leaves (section 2.1.3.1). Raises IndexError outside it."""
        if not 0 <= index < size <= self.size:
            raise IndexError(f"no leaf {index} in a tree of {size} inside one of {self.size}")
        proof, level = [], 0
        while size > 1 << level:
            sibling = index >> level ^ 1
            if sibling << level < size:
                proof.append(self._node(level, sibling, size))
            level += 1
        return proof

    def _node(self, level: int, index: int, size: int) -> bytes:
        """The root of leaves index·2^level … below (index + 1)·2^level, cut at `size`. Only one child can be cut: O(level)."""
        if index + 1 << level <= size:
            return self._stored(level, index)
        left = self._node(level - 1, 2 * index, size)
        if 2 * index + 1 << level - 1 >= size:
            return left  # an odd last node passes up unchanged
        return node_hash(left, self._node(level - 1, 2 * index + 1, size))

    def _stored(self, level: int, index: int) -> bytes:
        return bytes(self._levels[level][32 * index : 32 * index + 32])


def receipt(log: ElectionLog, tree: Tree, position: int, head: LogHead, promise: dict[str, Any] | None) -> Receipt:
    """The receipt of the ballot at `position` against `head`, a head of this log with more than `position` records."""
    record, (number, block_hash) = log.records[position], log.block_of(position)
    assert record.body is not None
    return Receipt(
        ballot=record.body, chain_id=log.manifest.chain_id, contract=log.contract, election_id=log.manifest.election_id,
        block_number=number, block_hash=block_hash, entry=record.entry, head=head, position=position,
        proof=tuple(tree.proof(position, head.size)), promise=promise,
    )  # fmt: skip
