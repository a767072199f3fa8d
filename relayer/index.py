"""Where a hash was first seen, and what a credential has sent: compact tables in memory, over what is stored elsewhere.

They stand in for database indexes. A hash goes to a random place of an index, so each ballot of a group commit would write and sync a page of its
own: with 150,000 ballots stored that was half of the relayer's processor time (docs/relayer.md).
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence


class HashIndex:
    """Hash → the number under which it first came: an open hash table of 4 bytes a slot, at most half full, where a dict takes twenty times as much.

    It holds numbers only and compares through `hash_at`. One thread adds; others may look up meanwhile, and find what was there before or what
    is there after.
    """

    def __init__(self, hash_at: Callable[[int], bytes]) -> None:
        self._hash_at = hash_at
        self._slots = array("I", bytes(4 * 1024))  # number + 1; 0 is a free slot
        self._used = 0

    def extend(self, first: int, hashes: Sequence[bytes]) -> None:
        """Hashes numbered `first`, `first + 1`, …, which `hash_at` knows already. Of equal ones the first stays."""
        while 2 * (self._used + len(hashes)) > len(self._slots):
            self._grow()
        for number, digest in enumerate(hashes, first):
            slot = self._find(self._slots, digest)
            if not self._slots[slot]:
                self._slots[slot] = number + 1
                self._used += 1

    def get(self, digest: bytes) -> int | None:
        slots = self._slots
        found = slots[self._find(slots, digest)]
        return found - 1 if found else None

    def __contains__(self, digest: bytes) -> bool:
        return self.get(digest) is not None

    def _find(self, slots: array[int], digest: bytes) -> int:
        """The slot that holds this hash, or the free one where it belongs."""
        mask = len(slots) - 1
        slot = int.from_bytes(digest[:8], "big") & mask
        while (found := slots[slot]) and self._hash_at(found - 1) != digest:
            slot = (slot + 1) & mask
        return slot

    def _grow(self) -> None:
        slots, mask = array("I", bytes(8 * len(self._slots))), 2 * len(self._slots) - 1
        for found in self._slots:
            if found:
                slot = int.from_bytes(self._hash_at(found - 1)[:8], "big") & mask
                while slots[slot]:
                    slot = (slot + 1) & mask
                slots[slot] = found
        self._slots = slots


SHORT = 16
"""Bytes of a ballot's hash that are kept in memory: it takes 2^64 ballots to find two that agree in them, and the outbox has the whole hash."""


class Memory:
    """What one process that owns an outbox knows of its ballots: 32 bytes each or less, and 8 a row of the roll. One thread adds."""

    def __init__(self) -> None:
        self._hashes = bytearray()
        self._numbers = HashIndex(lambda number: bytes(self._hashes[SHORT * number : SHORT * (number + 1)]))
        self._newest = array("I")  # by roll index: 1 + the largest log size that a ballot has seen
        self._attempts = array("I")

    def __len__(self) -> int:
        return len(self._hashes) // SHORT

    def extend(self, hashes: Sequence[bytes], rows: Sequence[tuple[int, int]]) -> None:
        """The next ballots: hash, and (roll index, log size seen)."""
        first, short = len(self), [digest[:SHORT] for digest in hashes]
        self._hashes += b"".join(short)
        self._numbers.extend(first, short)
        missing = max((index for index, _ in rows), default=-1) + 1 - len(self._newest)
        if missing > 0:
            missing += len(self._newest) // 2
            self._attempts.extend(array("I", bytes(4 * missing)))
            self._newest.extend(array("I", bytes(4 * missing)))
        for index, seen in rows:
            self._newest[index] = max(self._newest[index], seen + 1)
            self._attempts[index] += 1

    def number(self, digest: bytes) -> int | None:
        """How many ballots came before the one with this hash."""
        return self._numbers.get(digest[:SHORT])

    def newest(self, roll_index: int) -> int | None:
        """The largest log size that a ballot of this credential has seen; None if it has sent none."""
        return self._newest[roll_index] - 1 if roll_index < len(self._newest) and self._newest[roll_index] else None

    def attempts(self, roll_index: int) -> int:
        return self._attempts[roll_index] if roll_index < len(self._attempts) else 0
