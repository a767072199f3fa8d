"""Does a later copy of a log extend an earlier one? If not, where do they part?

Both copies are read whole and their trees rebuilt, so what is compared is what the records say and not what a node says about them.
Where one extends the other the root of the later at the earlier's size is the earlier's root; else the first record that differs is found
by halving, since two logs have one root at a size exactly if they agree up to it (RFC 9162, section 2.1).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from protocol.errors import BallotboardError
from protocol.records import Kind, LogHead
from verifier import checks
from verifier.case import Case

WELL_FORMED = ("C01", "I02")
"""The checks that a copy must pass to be a log at all."""


@dataclass(frozen=True)
class Difference:
    """`extends` with what was `added` (kind → records), or the `position` of the first record that is another, with `detail` in words."""

    extends: bool
    old: LogHead
    new: LogHead
    added: dict[str, int]
    position: int | None
    detail: str

    def json(self) -> dict[str, Any]:
        heads = {
            name: {"size": head.size, "root": head.root.hex()} for name, head in (("old", self.old), ("new", self.new))
        }
        return asdict(self) | heads


def compare(old: Case, new: Case) -> Difference:
    """What became of `old` in `new`. Raises BallotboardError where one of them is no log, or they are two boards'."""
    for name, case in (("the earlier", old), ("the later", new)):
        for result in checks.run(case, [checks.CHECKS[id] for id in WELL_FORMED]):
            if not result.good:
                raise BallotboardError(f"{name} copy is no log: {result.check.id} fails: {result.detail}")
    if (old.claims.chain_id, old.claims.contract) != (new.claims.chain_id, new.claims.contract):
        raise BallotboardError("the two copies are of two boards")
    a, b = old.claims.head, new.claims.head
    parted = parting(old, new)
    if parted == a.size:
        added = Counter(_kind(record.kind) for record in new.claims.records[a.size :])
        words = (
            f"the log has grown from {a.size} to {b.size} records" if b.size > a.size else "the two logs are the same"
        )
        return Difference(True, a, b, dict(added), None, f"Every earlier record is still there, unchanged: {words}.")
    if parted == b.size:
        return Difference(
            False, a, b, {}, parted, f"The later copy ends before record {parted}; the earlier has {a.size} records."
        )
    first, second = old.claims.records[parted], new.claims.records[parted]
    words = " and ".join(
        f"a {_kind(r.kind)} record of time {r.entry.time} with hash {r.entry.body_hash.hex()} in the {which}"
        for r, which in ((first, "earlier"), (second, "later"))
    )
    return Difference(False, a, b, {}, parted, f"History has changed: record {parted} is {words}.")


def parting(old: Case, new: Case) -> int:
    """How many records from the first on are the same in both."""
    low, high = 0, min(old.claims.head.size, new.claims.head.size)
    if old.roots([high])[high] == new.roots([high])[high]:
        return high
    while high - low > 1:  # the same up to `low`, not up to `high`
        middle = (low + high) // 2
        if old.roots([middle])[middle] == new.roots([middle])[middle]:
            low = middle
        else:
            high = middle
    return low


def _kind(kind: int) -> str:
    return Kind(kind).text if kind in set(Kind) else f"kind {kind}"
