"""Elections of every contest rule, for holding `ballotboard_native` against the reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha512

import ballotboard_native as native
from hypothesis import strategies as st

from protocol import ballot
from protocol.attachments import Roll, roll_row
from protocol.ballot import BallotContext
from protocol.engine import CreateRequest
from protocol.group import base, reduce
from protocol.manifest import Contest, Rule


def secret(name: str) -> int:
    """A scalar that is the same in every run."""
    return reduce(sha512(name.encode()).digest())


def contest(name: str, rule: Rule, k: int, limit: int = 0) -> Contest:
    return Contest(name, name, rule, limit, tuple(f"option {i}" for i in range(k)))


YES_NO = contest("yes-no", Rule.ONE_OF_K, 2)
MAYOR = contest("mayor", Rule.ONE_OF_K, 6)
BOARD = contest("bureau élu", Rule.APPROVAL, 3)
COUNCIL = contest("council", Rule.UP_TO_L, 4, 2)
STYLES = ((YES_NO,), (MAYOR,), (BOARD,), (COUNCIL,), (MAYOR, COUNCIL, YES_NO), ())


@dataclass(frozen=True)
class World:
    """One election, in both implementations. Unit 0 has no style, unit s + 1 has style s; roll index i is of unit i mod units."""

    context: BallotContext
    roll: Roll
    engine: native.Election

    def voter(self, index: int) -> tuple[int, int, int]:
        """(secret key, unit, style) of a roll index."""
        unit = self.roll.row(index)[1]
        return secret(f"voter {index}"), unit, self.roll.style(unit)

    def request(self, index: int, seed: bytes, choices: Sequence[Sequence[int]], seen: int = 5) -> CreateRequest:
        sk, unit, style = self.voter(index)
        return CreateRequest(index, seen, unit, style, sk, seed, choices)

    def reference_ballot(self, request: CreateRequest) -> bytes:
        r = request
        return ballot.create(self.context, r.roll_index, r.seen, r.unit, r.style, r.secret, r.seed, r.choices)


def world(styles: Sequence[Sequence[Contest]] = STYLES, voters: int = 12) -> World:
    context = BallotContext(sha512(b"context").digest(), base(secret("joint key")), tuple(map(tuple, styles)))
    unit_styles = [-1, *range(len(styles))]
    rows = (roll_row(base(secret(f"voter {i}")), 1 + i % len(styles)) for i in range(voters))
    shapes = [[(c.id, int(c.rule), c.k, c.limit) for c in contests] for contests in styles]
    packed = b"".join(style.to_bytes(2, "big", signed=True) for style in unit_styles)
    engine = native.Election(context.context, context.key, shapes, packed)
    return World(context, Roll(b"".join(rows), unit_styles), engine)


@st.composite
def contests(draw: st.DrawFn, name: str) -> Contest:
    rule = draw(st.sampled_from(Rule))
    k = draw(st.integers(2, 7))
    return contest(name, rule, k, draw(st.integers(1, k - 1)) if rule == Rule.UP_TO_L else 0)


@st.composite
def choices(draw: st.DrawFn, of: Contest) -> list[int]:
    """A vector that the contest's rule allows."""
    most = {Rule.ONE_OF_K: 1, Rule.APPROVAL: of.k, Rule.UP_TO_L: of.limit}[of.rule]
    least = 1 if of.rule == Rule.ONE_OF_K else 0
    chosen = draw(st.sets(st.integers(0, of.k - 1), min_size=least, max_size=most))
    return [int(i in chosen) for i in range(of.k)]
