"""The groups of a roll-up, which alone are decrypted, each once (docs/protocol.md, section 8), and their decryption many at a time.

The partition needs the sums of its atoms, the units at `decrypt_level`, and nothing below them: whoever decrypts need not see a precinct's sum.
`group_sums` gives the same groups, with the same numbers and bytes, as `protocol.election.settle` from the record.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from protocol import engine
from protocol.attachments import Unit
from protocol.ballot import Ciphertext, ciphertext_count
from protocol.errors import BallotboardError
from protocol.group import IDENTITY, sub
from protocol.manifest import Contest, Rule
from protocol.proofs import DLEQ_BYTES
from protocol.tally import GroupSum, TooFewShares, lagrange, partial_statement, partition
from rollup.inbox import read
from rollup.plan import Plan
from rollup.run import MissingSums
from rollup.sums import UnitSum

Values = dict[tuple[int, int], list[tuple[bytes, bytes]]]
"""(contest, group) → (D, proof) per ciphertext: what a partial decryption says (protocol.tally.Partial.shares)."""


def atoms(plan: Plan) -> list[int]:
    """The units whose sums make the groups: those at `decrypt_level`, and leaf units above it."""
    depth, found = [0] * len(plan.units), []
    for number, unit in enumerate(plan.units):
        if number:
            depth[number] = depth[unit.parent] + 1
        if depth[number] == plan.decrypt_level or (plan.is_leaf(number) and depth[number] < plan.decrypt_level):
            found.append(number)
    return found


def group_sums(plan: Plan, folder: Path) -> list[list[GroupSum]]:
    """Per contest the groups of §8 with their encrypted sums, from the standing sums of the atoms. Raises MissingSums unless these are complete:
    groups depend on every ballot, and are decrypted once."""
    sums = {unit: one for unit in atoms(plan) if (one := read(plan, folder, unit)) is not None}
    missing = [unit for unit in atoms(plan) if unit not in sums or sums[unit].leaves != plan.leaves(unit)]
    if missing:
        raise MissingSums(plan, missing)
    return [_contest_groups(plan, sums, contest) for contest in range(len(plan.contests))]


def _contest_groups(plan: Plan, sums: Mapping[int, UnitSum], contest: int) -> list[GroupSum]:
    # The tree cut off at the atoms has the same groups: an atom's leaf units are never apart.
    kept = sorted(sums.keys() | {above for unit in sums for above in _ancestors(plan, unit)})
    place = {unit: number for number, unit in enumerate(kept)}
    cut = [
        Unit(plan.units[u].level, plan.units[u].name, place.get(plan.units[u].parent, -1), 0 if u in sums else -1)
        for u in kept
    ]
    parts = {unit: part for unit, one in sums.items() for part in one.contests if part.contest == contest}
    ballots = {place[unit]: part.ballots for unit, part in sorted(parts.items())}
    groups = []
    n = ciphertext_count(plan.contests[contest])
    for number, group in enumerate(partition(cut, ballots, plan.decrypt_level, plan.minimum_ballots)):
        members = [kept[i] for i in group]
        points = engine.add_sums(2 * n, b"".join(parts[unit].points for unit in members), 1)
        leaves = tuple(leaf for unit in members for leaf in _leaves(plan, unit, contest))
        cut_points = [points[i : i + 32] for i in range(0, len(points), 32)]
        pairs = tuple(Ciphertext(a, b) for a, b in zip(cut_points[::2], cut_points[1::2], strict=True))
        groups.append(GroupSum(contest, number, leaves, sum(parts[unit].ballots for unit in members), pairs))
    return groups


def _ancestors(plan: Plan, unit: int) -> list[int]:
    found = []
    while (unit := plan.units[unit].parent) >= 0:
        found.append(unit)
    return found


def _leaves(plan: Plan, top: int, contest: int) -> list[int]:
    """The leaf units below `top` that vote on the contest, in the order of the tree."""
    found, stack = [], [top]
    while stack:
        unit = stack.pop()
        if plan.is_leaf(unit):
            if contest in plan.styles[plan.units[unit].style]:
                found.append(unit)
        else:
            stack += reversed(plan.children(unit))
    return found


# ---------------------------------------------------------------- decryption


def decrypt_partially(
    context: bytes, root: bytes, groups: Sequence[GroupSum], trustee: int, x: int, once: Path
) -> Values:
    """The partial decryptions of trustee number `trustee` with share x. `root` (32 bytes) is what the trustees agreed to decrypt.

    The file `once` gets the root before the first share is made, and refuses every other root from then on: of two sets of groups, differences
    could be computed that belong to single units.
    """
    _commit(once, root)
    wanted = [
        (group, i, c) for group in groups if group.ballots for i, c in enumerate(group.sums) if c.a != IDENTITY
    ]  # fmt: skip
    statements = [partial_statement(context, root, group, i, trustee) for group, i, _ in wanted]
    data = engine.prove_equalities("partial", statements, x, b"".join(c.a for _, _, c in wanted))
    width = 32 + DLEQ_BYTES
    shares = {(g.contest, g.group): [(IDENTITY, b"")] * len(g.sums) for g in groups if g.ballots}
    for number, (group, i, _) in enumerate(wanted):
        at = number * width
        shares[group.contest, group.group][i] = (data[at : at + 32], data[at + 32 : at + width])
    return shares


def right_shares(
    context: bytes, root: bytes, groups: Sequence[GroupSum], trustee: int, share_key: bytes, values: Values
) -> dict[tuple[int, int], list[bytes]]:
    """(contest, group) → [D per ciphertext], of the groups for which every proof of this trustee holds."""
    places: list[tuple[int, int]] = []
    statements: list[bytes] = []
    points, images, proofs = bytearray(), bytearray(), bytearray()
    wrong: set[tuple[int, int]] = set()
    for group in groups:
        place = (group.contest, group.group)
        found = values.get(place, [])
        if len(found) != len(group.sums):
            wrong.add(place)
            continue
        for i, (c, (d, proof)) in enumerate(zip(group.sums, found, strict=True)):
            if c.a == IDENTITY or len(proof) != DLEQ_BYTES:
                if c.a != IDENTITY or d != IDENTITY or proof:
                    wrong.add(place)
                continue
            places.append(place)
            statements.append(partial_statement(context, root, group, i, trustee))
            points += c.a
            images += d
            proofs += proof
    valid = engine.verify_equalities("partial", statements, share_key, bytes(points), bytes(images), bytes(proofs))
    wrong |= {place for place, good in zip(places, valid, strict=True) if not good}
    return {place: [d for d, _ in found] for place, found in values.items() if place not in wrong}


def totals(
    contest: Contest, groups: Sequence[GroupSum], shares: Mapping[int, Mapping[tuple[int, int], list[bytes]]], threshold: int
) -> list[list[int]]:  # fmt: skip
    """Totals per group and option of one contest, from right shares {trustee: …}; as protocol.tally.combine, many groups at a time.

    Raises TooFewShares, and BallotboardError for a total that valid ballots cannot give.
    """
    by_trustees: dict[tuple[int, ...], list[GroupSum]] = {}
    for group in groups:
        if group.ballots:
            able = sorted(j for j in shares if (group.contest, group.group) in shares[j])
            if len(able) < threshold:
                raise TooFewShares(
                    f"{len(able)} of {threshold} partial decryptions are there for contest {contest.id}, group {group.group}"
                )
            by_trustees.setdefault(tuple(able[:threshold]), []).append(group)
    messages: dict[tuple[int, int], bytes] = {}
    for numbers, some in by_trustees.items():
        places = [(group, i) for group in some for i in range(len(group.sums))]
        rows = b"".join(shares[j][group.contest, group.group][i] for group, i in places for j in numbers)
        masks = engine.mul_points(lagrange(numbers), rows)
        for number, (group, i) in enumerate(places):
            messages[group.group, i] = sub(group.sums[i].b, masks[32 * number : 32 * number + 32])
    found = engine.discrete_logs(list(messages.values()), max((group.ballots for group in groups), default=0))
    values = dict(zip(messages, found, strict=True))
    return [_group_totals(contest, group, values) for group in groups]


def _group_totals(contest: Contest, group: GroupSum, values: Mapping[tuple[int, int], int | None]) -> list[int]:
    if not group.ballots:
        return [0] * contest.k
    found = [values[group.group, i] for i in range(len(group.sums))]
    known = [m for m in found if m is not None and m <= group.ballots]
    if contest.rule == Rule.ONE_OF_K:
        known.append(group.ballots - sum(known))
    if len(known) != contest.k or min(known) < 0:
        raise BallotboardError(
            f"contest {contest.id}, group {group.group}: its totals are not those of {group.ballots} valid ballots"
        )
    return known


def _commit(once: Path, root: bytes) -> None:
    try:
        handle = os.open(once, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        if once.read_text().strip() != root.hex():
            raise BallotboardError(
                f"{once}: another roll-up was decrypted already; nothing is decrypted twice"
            ) from None
        return
    with os.fdopen(handle, "w") as file:
        file.write(root.hex() + "\n")
        file.flush()
        os.fsync(file.fileno())
