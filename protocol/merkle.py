"""The tree of RFC 9162, section 2.1, with SHA-256: roots, inclusion and consistency proofs, and the frontier.

A tree of n leaves has as left subtree the largest power of two below n. All functions take leaf hashes (32 bytes),
`leaf_hash` makes one from an entry.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence

EMPTY_ROOT = hashlib.sha256(b"").digest()

Node = Callable[[int, int], bytes]
"""(level, index) → the root of the complete subtree over the leaves index·2^level … below (index + 1)·2^level, however it is stored."""


def leaf_hash(entry: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


class Frontier:
    """The roots of the complete subtrees of a growing tree, largest first: all that an append needs.

    It is an invariant that `len(self.peaks)` is the number of one bits of `self.size`.
    """

    def __init__(self) -> None:
        self.size = 0
        self.peaks: list[bytes] = []

    def append(self, leaf: bytes) -> None:
        self.append_subtree(leaf, 0)

    def append_subtree(self, node: bytes, level: int) -> None:
        """Append the root of a complete subtree of 2^level leaves; the size so far is a multiple of that."""
        carry = self.size >> level
        while carry & 1:
            node = node_hash(self.peaks.pop(), node)
            carry >>= 1
        self.peaks.append(node)
        self.size += 1 << level

    def extend(self, leaves: Iterable[bytes]) -> None:
        for leaf in leaves:
            self.append(leaf)

    def root(self) -> bytes:
        if not self.peaks:
            return EMPTY_ROOT
        node = self.peaks[-1]
        for peak in reversed(self.peaks[:-1]):
            node = node_hash(peak, node)
        return node


def root(leaves: Iterable[bytes]) -> bytes:
    """The root over leaf hashes; SHA-256 of nothing for none."""
    frontier = Frontier()
    frontier.extend(leaves)
    return frontier.root()


def inclusion_proof(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """The sibling hashes from the leaf up to the root (section 2.1.3.1). Raises IndexError outside the tree."""
    if not 0 <= index < len(leaves):
        raise IndexError(f"no leaf {index} in a tree of {len(leaves)}")
    proof: list[bytes] = []
    level, position = list(leaves), index
    # A level with an odd last node passes it up unchanged: the same tree, bottom up.
    while len(level) > 1:
        sibling = position ^ 1
        if sibling < len(level):
            proof.append(level[sibling])
        level = [node_hash(level[i], level[i + 1]) if i + 1 < len(level) else level[i] for i in range(0, len(level), 2)]
        position //= 2
    return proof


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], expected: bytes) -> bool:
    """Section 2.1.3.2: true if `leaf` is leaf number `index` of the tree of `size` leaves with root `expected`."""
    if not 0 <= index < size:
        return False
    position, last, node = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            return False
        if position & 1 or position == last:
            node = node_hash(sibling, node)
            while not position & 1 and position:
                position, last = position >> 1, last >> 1
        else:
            node = node_hash(node, sibling)
        position, last = position >> 1, last >> 1
    return last == 0 and node == expected


def stored_frontier(node: Node, low: int, high: int) -> Frontier:
    """The complete subtrees over the leaves low … high − 1; `low` is 0 or where a proof splits: a multiple of each of them."""
    found = Frontier()
    found.size = high - low
    while low < high:
        level = (high - low).bit_length() - 1
        found.peaks.append(node(level, low >> level))
        low += 1 << level
    return found


def stored_inclusion_proof(node: Node, index: int, size: int) -> list[bytes]:
    """`inclusion_proof` of leaf `index` in the tree over the first `size` leaves, in O(log² size) look-ups. Raises IndexError outside it."""
    if not 0 <= index < size:
        raise IndexError(f"no leaf {index} in a tree of {size}")
    proof, low, high = [], 0, size
    while high - low > 1:
        split = low + (1 << (high - low - 1).bit_length() - 1)
        if index < split:
            proof.append(stored_frontier(node, split, high).root())
            high = split
        else:
            level = (split - low).bit_length() - 1  # a left subtree is complete
            proof.append(node(level, low >> level))
            low = split
    return proof[::-1]


def consistency_proof(leaves: Sequence[bytes], old_size: int) -> list[bytes]:
    """Section 2.1.4.1: proof that the tree over all leaves extends that over the first `old_size` (1 ≤ old_size ≤ n)."""
    if not 1 <= old_size <= len(leaves):
        raise IndexError(f"no tree of {old_size} leaves inside one of {len(leaves)}")
    return _subproof(old_size, list(leaves), True)


def verify_consistency(old_size: int, old_root: bytes, size: int, new_root: bytes, proof: Sequence[bytes]) -> bool:
    """Section 2.1.4.2: true if the tree (size, new_root) extends (old_size, old_root). Sizes from 1."""
    if not 1 <= old_size <= size:
        return False
    if old_size == size:
        return not proof and old_root == new_root
    path = list(proof)
    if old_size & (old_size - 1) == 0:
        path.insert(0, old_root)
    if not path:
        return False
    position, last = old_size - 1, size - 1
    while position & 1:
        position, last = position >> 1, last >> 1
    old = new = path[0]
    for node in path[1:]:
        if last == 0:
            return False
        if position & 1 or position == last:
            old, new = node_hash(node, old), node_hash(node, new)
            while not position & 1 and position:
                position, last = position >> 1, last >> 1
        else:
            new = node_hash(new, node)
        position, last = position >> 1, last >> 1
    return last == 0 and old == old_root and new == new_root


def _subproof(m: int, leaves: list[bytes], complete: bool) -> list[bytes]:
    n = len(leaves)
    if m == n:
        return [] if complete else [root(leaves)]
    split = 1 << (n - 1).bit_length() - 1
    if m <= split:
        return [*_subproof(m, leaves[:split], complete), root(leaves[split:])]
    return [*_subproof(m - split, leaves[split:], False), root(leaves[:split])]
