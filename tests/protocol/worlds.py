"""Small honest things to tamper with: contests of every rule, an election's ballot context, a roll of one."""

from __future__ import annotations

import hashlib

from protocol.attachments import Roll, roll_row
from protocol.ballot import BallotContext
from protocol.group import base, reduce
from protocol.manifest import Contest, Rule

ONE_OF_2 = Contest("yes-no", "Yes or no?", Rule.ONE_OF_K, 0, ("yes", "no"))
ONE_OF_5 = Contest("mayor", "Mayor", Rule.ONE_OF_K, 0, ("a", "b", "c", "d", "blank"))
APPROVAL_3 = Contest("board", "Board", Rule.APPROVAL, 0, ("x", "y", "z"))
UP_TO_2_OF_4 = Contest("council", "Council", Rule.UP_TO_L, 2, ("p", "q", "r", "s"))


def secret(name: str) -> int:
    """A scalar that is the same in every run."""
    return reduce(hashlib.sha512(name.encode()).digest()) or 1


KEY_SECRET = secret("joint key")
VOTER = secret("voter")
CONTEXT = hashlib.sha512(b"context of the tests").digest()

ELECTION = BallotContext(
    CONTEXT,
    base(KEY_SECRET),
    ((ONE_OF_2,), (ONE_OF_5,), (APPROVAL_3,), (UP_TO_2_OF_4,), (ONE_OF_2, ONE_OF_5, APPROVAL_3, UP_TO_2_OF_4)),
)
"""One style per rule, then one with all of them. Unit number = style number."""

ROLL = Roll(b"".join(roll_row(base(VOTER), unit) for unit in range(5)), list(range(5)))
"""The same voter in every unit: roll index = unit = style."""

CHOICES = [
    [[1, 0]],
    [[0, 0, 1, 0, 0]],
    [[1, 0, 1]],
    [[0, 1, 0, 1]],
    [[0, 1], [0, 0, 0, 0, 1], [0, 0, 0], [0, 0, 0, 0]],
]
SEED = hashlib.sha256(b"seed of the tests").digest()
