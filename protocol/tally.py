"""Groups, encrypted sums, partial decryptions and totals (docs/protocol.md, section 8)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from protocol.attachments import Unit
from protocol.ballot import Ciphertext, ciphertext_count
from protocol.encoding import canonical_json, members, parse_json, u16, u32, unhex
from protocol.errors import BallotboardError, Malformed
from protocol.group import IDENTITY, ORDER, add, base, mul, sub
from protocol.manifest import Contest, Rule
from protocol.proofs import DLEQ_BYTES, prove_equality, verify_equality

FORMAT = "ballotboard/partial/v1"
VALUES_PER_PART = 150
"""Decrypted values in one record: 150 × 265 characters of JSON stay under the 65,535 bytes of a body."""

Logarithms = Callable[[Sequence[bytes], int], "list[int | None]"]
"""(points, maximum) → the m of each m·G with 0 ≤ m ≤ maximum, None where there is none."""


class TooFewShares(BallotboardError):
    """Fewer valid partial decryptions than the threshold."""


# ---------------------------------------------------------------- groups


def partition(
    units: Sequence[Unit], ballots: Mapping[int, int], decrypt_level: int, minimum: int
) -> list[tuple[int, ...]]:
    """The groups of one contest: tuples of leaf unit numbers, in group order.

    `ballots` counts the contest's counted ballots per leaf unit; leaf units absent from it do not vote on the contest.
    """
    children: list[list[int]] = [[] for _ in units]
    for number, unit in enumerate(units[1:], 1):
        children[unit.parent].append(number)

    def leaves(node: int) -> list[int]:
        return [node] if not children[node] else [leaf for child in children[node] for leaf in leaves(child)]

    def gather(node: int, depth: int) -> tuple[list[list[int]], list[int]]:
        if depth == decrypt_level or not children[node]:
            return [], [leaf for leaf in leaves(node) if leaf in ballots]
        groups: list[list[int]] = []
        pool: list[int] = []
        for child in children[node]:
            below, remainder = gather(child, depth + 1)
            groups += below
            pool += remainder
            if sum(ballots[leaf] for leaf in pool) >= max(minimum, 1):
                groups.append(pool)
                pool = []
        if pool and groups:
            groups[-1] = groups[-1] + pool
            pool = []
        return groups, pool

    groups, rest = gather(0, 0)
    if rest and groups:
        groups[-1] = groups[-1] + rest
    elif rest:
        groups = [rest]
    return [tuple(group) for group in groups]


@dataclass(frozen=True)
class GroupSum:
    """The encrypted sum of one group: contest index, group number, leaf units, counted ballots, one ciphertext per sent one."""

    contest: int
    group: int
    units: tuple[int, ...]
    ballots: int
    sums: tuple[Ciphertext, ...]


# ---------------------------------------------------------------- partial decryptions


def partial_statement(context: bytes, settlement_root: bytes, group: GroupSum, option: int, trustee: int) -> bytes:
    return (
        context
        + settlement_root
        + u16(group.contest)
        + u32(group.group)
        + u16(option)
        + group.sums[option].b
        + u16(trustee)
    )


def partial_decryption(
    context: bytes, settlement_root: bytes, groups: Sequence[GroupSum], trustee: int, x: int
) -> list[bytes]:
    """The kind 10 bodies of a trustee with share x, in as many parts as they need."""
    shares: list[dict[str, Any]] = []
    parts: list[list[dict[str, Any]]] = []
    size = 0
    for group in groups:
        if not group.ballots:
            continue
        values = []
        for option, ciphertext in enumerate(group.sums):
            statement = partial_statement(context, settlement_root, group, option, trustee)
            proof = b"" if ciphertext.a == IDENTITY else prove_equality("partial", statement, x, ciphertext.a)
            values.append({"d": mul(x, ciphertext.a).hex(), "proof": proof.hex()})
        if shares and size + len(values) > VALUES_PER_PART:
            parts.append(shares)
            shares, size = [], 0
        shares.append({"contest": group.contest, "group": group.group, "values": values})
        size += len(values)
    parts.append(shares)
    return [
        canonical_json(
            {
                "format": FORMAT,
                "part": i,
                "parts": len(parts),
                "settlement": settlement_root.hex(),
                "shares": part,
                "trustee": trustee,
            }
        )
        for i, part in enumerate(parts)
    ]


@dataclass(frozen=True)
class Partial:
    """A parsed kind 10 body: trustee, part of parts, and per (contest, group) the values (D, proof)."""

    trustee: int
    part: int
    parts: int
    settlement: bytes
    shares: dict[tuple[int, int], list[tuple[bytes, bytes]]]


def parse_partial(body: bytes) -> Partial:
    value = members(
        parse_json(body, "partial"),
        "partial",
        format=str,
        part=int,
        parts=int,
        settlement=str,
        shares=list,
        trustee=int,
    )
    if value["format"] != FORMAT or not 0 <= value["part"] < value["parts"]:
        raise Malformed("partial", f"needs format {FORMAT} and part below parts")
    shares: dict[tuple[int, int], list[tuple[bytes, bytes]]] = {}
    for item in value["shares"]:
        members(item, "partial.shares", contest=int, group=int, values=list)
        place = (item["contest"], item["group"])
        if shares and place <= max(shares):
            raise Malformed("partial.shares", "must ascend by (contest, group)")
        shares[place] = []
        for pair in item["values"]:
            members(pair, "partial.values", d=str, proof=str)
            proof = unhex(pair["proof"], DLEQ_BYTES, "partial.proof") if pair["proof"] else b""
            shares[place].append((unhex(pair["d"], 32, "partial.d"), proof))
    return Partial(
        value["trustee"], value["part"], value["parts"], unhex(value["settlement"], 32, "partial.settlement"), shares
    )


def verify_partial(
    context: bytes,
    settlement_root: bytes,
    group: GroupSum,
    trustee: int,
    share_key: bytes,
    values: Sequence[tuple[bytes, bytes]],
) -> bool:
    """True if every value of the group is x_j·A with a valid proof (docs/protocol.md, section 8)."""
    if len(values) != len(group.sums):
        return False
    for option, (ciphertext, (d, proof)) in enumerate(zip(group.sums, values, strict=True)):
        if ciphertext.a == IDENTITY:
            if d != IDENTITY or proof:
                return False
            continue
        statement = partial_statement(context, settlement_root, group, option, trustee)
        if not verify_equality("partial", statement, share_key, ciphertext.a, d, proof):
            return False
    return True


# ---------------------------------------------------------------- totals


def lagrange(numbers: Sequence[int]) -> list[int]:
    """The coefficients at 0 over these distinct trustee numbers, modulo the order."""
    result = []
    for j in numbers:
        numerator = denominator = 1
        for i in numbers:
            if i != j:
                numerator, denominator = numerator * i % ORDER, denominator * (i - j) % ORDER
        result.append(numerator * pow(denominator, -1, ORDER) % ORDER)
    return result


def combine(
    contest: Contest,
    group: GroupSum,
    shares: Mapping[int, Sequence[bytes]],
    threshold: int,
    logarithms: Logarithms | None = None,
) -> list[int]:
    """Totals per option of a group, from valid shares {trustee: [D per sent ciphertext]}; `logarithms` defaults to the reference.

    Raises TooFewShares, and BallotboardError if a total is outside 0 … ballots, which valid ballots cannot give.
    """
    if not group.ballots:
        return [0] * contest.k
    if len(shares) < threshold:
        raise TooFewShares(
            f"{len(shares)} of {threshold} partial decryptions are there for contest {contest.id}, group {group.group}"
        )
    numbers = sorted(shares)[:threshold]
    coefficients = lagrange(numbers)
    points = []
    for option in range(ciphertext_count(contest)):
        message = group.sums[option].b
        for j, coefficient in zip(numbers, coefficients, strict=True):
            message = sub(message, mul(coefficient, shares[j][option]))
        points.append(message)
    found = (logarithms or discrete_logs)(points, group.ballots)
    if None in found:
        raise BallotboardError(
            f"contest {contest.id}, group {group.group}: a total is not between 0 and {group.ballots}"
        )
    totals = [m for m in found if m is not None]
    if contest.rule == Rule.ONE_OF_K:
        totals.append(group.ballots - sum(totals))
        if totals[-1] < 0:
            raise BallotboardError(
                f"contest {contest.id}, group {group.group}: the totals exceed the {group.ballots} ballots"
            )
    return totals


def discrete_logs(points: Sequence[bytes], maximum: int) -> list[int | None]:
    """m with point = m·G and 0 ≤ m ≤ maximum, by baby-step giant-step; None where there is none."""
    width = max(1, int((maximum + 1) ** 0.5))
    table: dict[bytes, int] = {}
    step = IDENTITY
    for i in range(width):
        table[step] = i
        step = add(step, base(1))
    giant = base(-width)
    result: list[int | None] = []
    for point in points:
        answer = None
        for i in range(maximum // width + 1):
            if point in table:
                m = i * width + table[point]
                answer = m if m <= maximum else None
                break
            point = add(point, giant)
        result.append(answer)
    return result


def result_value(contest: Contest, groups: Sequence[tuple[int, list[int]]]) -> dict[str, Any]:
    """The `online` member of the result record for a contest, from (ballots, totals) per group."""
    totals = [sum(column) for column in zip(*(t for _, t in groups), strict=True)] if groups else [0] * contest.k
    return {
        "ballots": sum(ballots for ballots, _ in groups),
        "groups": [{"ballots": ballots, "totals": list(t)} for ballots, t in groups],
        "totals": totals,
    }
