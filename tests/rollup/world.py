"""A small state to roll up: three counties with precincts, two styles, real ballots, and keys from a fixed seed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from protocol.attachments import Roll, Unit, roll_row
from protocol.engine import CreateRequest
from protocol.group import base
from protocol.records import pack_bodies
from rollup.inbox import inbox
from rollup.keys import Keys
from rollup.plan import Plan
from rollup.unit import count_unit
from tests.protocol.worlds import CONTEXT, KEY_SECRET, ONE_OF_2, ONE_OF_5, secret

UNITS = [
    Unit("state", "Cascadia", -1, -1),
    Unit("county", "Ada", 0, -1),
    Unit("county", "Baker", 0, -1),
    Unit("precinct", "Ada 1", 1, 0),
    Unit("precinct", "Ada 2", 1, 1),
    Unit("precinct", "Baker 1", 2, 0),
    Unit("precinct", "Baker 2", 2, 0),
    Unit("county", "Crook", 0, 0),
]
"""Crook is a county in which people vote: a leaf above the others."""

LEAVES = [3, 4, 5, 6, 7]
KEYS = Keys(hashlib.sha256(b"keys of the tests").digest())
VOTERS = 12
"""Voters in each leaf unit."""


def plan(decrypt_level: int = 1, minimum: int = 5, voters: int = VOTERS) -> Plan:
    """Style 0 has both contests, style 1 the second alone."""
    return Plan.build(
        hashlib.sha256(b"election").digest(), CONTEXT, base(KEY_SECRET), [ONE_OF_2, ONE_OF_5], [[0, 1], [1]],
        decrypt_level, minimum, voters * len(LEAVES), UNITS, KEYS.public(range(len(UNITS))),
    )  # fmt: skip


@dataclass(frozen=True)
class State:
    """A plan, the roll of its voters, and their ballots by leaf unit."""

    plan: Plan
    roll: Roll
    ballots: dict[int, list[bytes]]

    def count(self, folder: Path, units: Sequence[int] = tuple(LEAVES), every: int = 0) -> None:
        """Every leaf unit counts its ballots."""
        for unit in units:
            count_unit(self.plan, folder, unit, KEYS, self.roll, self.ballots[unit], every)

    def save(self, folder: Path) -> None:
        """Plan, roll and each leaf unit's ballots as the command wants them."""
        self.plan.save(folder)
        (folder / "roll").write_bytes(self.roll.data)
        for unit, bodies in self.ballots.items():
            inbox(folder, unit).mkdir(exist_ok=True)
            (inbox(folder, unit) / "counted.ballots").write_bytes(pack_bodies(bodies))


def state(made: Plan | None = None, voters: int = VOTERS) -> State:
    """Voter number i of a unit takes option i modulo k in each contest."""
    made = made or plan(voters=voters)
    people = sorted(
        (made_unit, base(secret(f"voter {made_unit} {i}")), secret(f"voter {made_unit} {i}"), i)
        for made_unit in LEAVES
        for i in range(voters)
    )
    roll = Roll(b"".join(roll_row(key, unit) for unit, key, _, _ in people), [unit.style for unit in made.units])
    requests = []
    for index, (unit, _, x, i) in enumerate(people):
        style = made.units[unit].style
        choices = [choice(i % made.contests[c].k, made.contests[c].k) for c in made.styles[style]]
        seed = hashlib.sha256(b"seed %d" % index).digest()
        requests.append(CreateRequest(index, 0, unit, style, x, seed, choices))
    ballots: dict[int, list[bytes]] = {unit: [] for unit in LEAVES}
    for request, body in zip(requests, made.engine().create(requests), strict=True):
        ballots[request.unit].append(body)
    return State(made, roll, ballots)


def choice(place: int, k: int) -> list[int]:
    return [int(i == place) for i in range(k)]


def totals_of(voters: int, k: int) -> list[int]:
    """What one leaf unit's ballots add up to."""
    return [sum(1 for i in range(voters) if i % k == place) for place in range(k)]
