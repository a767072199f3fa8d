"""The ballot: encryption, proofs, signature, and their verification (docs/protocol.md, section 5).

Every contest rule is a list of *disjunctions*. A disjunction with weights w and values u says: the weighted sum
(X, Y) = (Σ w_i·A_i, Σ w_i·B_i) of the contest's ciphertexts encrypts one of the values. Creation and verification
know only disjunctions; the rules differ in `disjunctions()` alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from protocol.attachments import Roll
from protocol.encoding import Reader, lp, u8, u16, u32, u64
from protocol.errors import BallotboardError, Malformed
from protocol.group import (
    BASE,
    IDENTITY,
    H,
    add,
    base,
    is_point,
    low128,
    mul,
    parse_scalar,
    reduce,
    scalar_bytes,
    sub,
    total,
)
from protocol.manifest import Contest, Rule

VERSION = 1
HEADER = 13
"""Bytes of `u8(version) || u32(roll index) || u64(seen)`."""
SIGNATURE = 64
MAX_BALLOT = 65_535
"""Most bytes of a ballot: those of any record."""
MASK = 2**128 - 1


class Reason(IntEnum):
    """Why a ballot is not valid, in the order in which it is tested; the first that applies."""

    VALID = 0
    MALFORMED_HEADER = 1
    UNKNOWN_CREDENTIAL = 2
    MALFORMED_LENGTH = 3
    MALFORMED_SCALAR = 4
    MALFORMED_POINT = 5
    BAD_PROOF = 6
    BAD_SIGNATURE = 7
    SEEN_TOO_HIGH = 8

    @property
    def text(self) -> str:
        return self.name.lower().replace("_", "-")


# ---------------------------------------------------------------- shapes


@dataclass(frozen=True, slots=True)
class Disjunction:
    """Weights over the contest's ciphertexts and the values one of which their weighted sum encrypts."""

    weights: tuple[int, ...]
    values: tuple[int, ...]


def ciphertext_count(contest: Contest) -> int:
    """n: how many ciphertexts are sent. For one-of-k the last option is implied."""
    return contest.k - 1 if contest.rule == Rule.ONE_OF_K else contest.k


def branch_counts(contest: Contest) -> list[int]:
    """m_d: the branches of each disjunction."""
    if contest.rule == Rule.ONE_OF_K:
        return [contest.k]
    bits = [2] * contest.k
    return bits if contest.rule == Rule.APPROVAL else [*bits, contest.limit + 1]


def disjunctions(contest: Contest, rho: Sequence[int]) -> list[Disjunction]:
    """What the contest proves; `rho` are the hashed weights of one-of-k, empty for the other rules."""
    if contest.rule == Rule.ONE_OF_K:
        return [Disjunction(tuple(rho), (*rho, 0))]
    n = contest.k
    bits = [Disjunction(tuple(int(i == d) for i in range(n)), (0, 1)) for d in range(n)]
    if contest.rule == Rule.APPROVAL:
        return bits
    return [*bits, Disjunction((1,) * n, tuple(range(contest.limit + 1)))]


def contest_size(contest: Contest) -> int:
    return 64 * ciphertext_count(contest) + sum(64 * m + 16 * (m - 1) + 32 * m for m in branch_counts(contest))


def ballot_size(contests: Sequence[Contest]) -> int:
    """Bytes of a ballot of a style."""
    return HEADER + sum(map(contest_size, contests)) + SIGNATURE


@dataclass(frozen=True)
class Ciphertext:
    """Exponential ElGamal: a = r·G, b = r·K + v·G. Canonical encodings; sums may be the identity."""

    a: bytes
    b: bytes

    def __add__(self, other: Ciphertext) -> Ciphertext:
        return Ciphertext(add(self.a, other.a), add(self.b, other.b))


ZERO = Ciphertext(IDENTITY, IDENTITY)


@dataclass(frozen=True)
class ContestBlock:
    """One contest of a ballot, parsed but not verified. `c` holds the sent challenges, the last of each disjunction is implied."""

    ciphertexts: list[Ciphertext]
    t: list[list[tuple[bytes, bytes]]]
    c: list[list[int]]
    z: list[list[int]]


@dataclass(frozen=True)
class Ballot:
    """A parsed ballot: all lengths, scalars and points are checked, nothing is verified."""

    body: bytes
    roll_index: int
    seen: int
    blocks: list[ContestBlock]
    commitment: bytes
    response: int

    @property
    def unsigned(self) -> bytes:
        return self.body[:-SIGNATURE]


@dataclass(frozen=True)
class BallotContext:
    """What every ballot of an election is bound to: the 64-byte context, the joint key K, and the contests of each style."""

    context: bytes
    key: bytes
    styles: tuple[tuple[Contest, ...], ...]


class BallotRefused(BallotboardError):
    """A ballot that is not valid, with the reason that verifiers give."""

    def __init__(self, reason: Reason, detail: str) -> None:
        self.reason = reason
        super().__init__(f"{reason.text}: {detail}")


# ---------------------------------------------------------------- transcripts


def statement(
    election: BallotContext, contest: Contest, roll_index: int, unit: int, style: int, public_key: bytes
) -> bytes:
    """S, the prefix of every hash of a contest: it binds election, voter and question."""
    return (
        election.context + u32(roll_index) + u32(unit) + u16(style) + lp(contest.id.encode())
        + u8(contest.rule) + u16(contest.k) + u16(contest.limit) + public_key
    )  # fmt: skip


def weights(contest: Contest, statement_: bytes, ciphertexts: bytes) -> list[int]:
    """ρ_0 … ρ_{k−2} of one-of-k, hashed from all ciphertexts; (1) for k = 2; empty for the other rules."""
    if contest.rule != Rule.ONE_OF_K:
        return []
    if contest.k == 2:
        return [1]
    seed = H("weights", statement_, ciphertexts)
    blocks = b"".join(H("weights-block", seed, u32(i)) for i in range((contest.k + 2) // 4))
    return [low128(blocks[16 * i :]) for i in range(contest.k - 1)]


def challenges(statement_: bytes, ciphertexts: bytes, rho: Sequence[int], commitments: bytes, count: int) -> list[int]:
    """e_d for each disjunction: one hash of the whole contest, then one per index."""
    whole = H("challenge", statement_, ciphertexts, b"".join(x.to_bytes(16, "little") for x in rho), commitments)
    return [low128(H("branch", whole, u16(d))) for d in range(count)]


def signature_challenge(
    election: BallotContext, unit: int, style: int, key: bytes, commitment: bytes, unsigned: bytes
) -> int:
    return low128(H("ballot-signature", election.context, u32(unit), u16(style), key, commitment, unsigned))


# ---------------------------------------------------------------- creation


def create_unsigned(
    election: BallotContext,
    roll_index: int,
    seen: int,
    unit: int,
    public_key: bytes,
    style: int,
    seed: bytes,
    choices: Sequence[Sequence[int]],
) -> bytes:
    """The unsigned ballot that `seed` (32 bytes) and choices (0/1 per option, per contest of the style) determine.

    Raises Malformed for choices that the rule does not allow. This is also what re-derives an audited ballot.
    """
    contests = election.styles[style]
    check_choices(contests, choices)
    header = u8(VERSION) + u32(roll_index) + u64(seen)
    flat = b"".join(bytes(choice) for choice in choices)
    root = H("ballot-seed", seed, election.context, public_key, header, flat)
    body = header
    for c, (contest, choice) in enumerate(zip(contests, choices, strict=True)):
        statement_ = statement(election, contest, roll_index, unit, style, public_key)
        body += _create_contest(election, contest, statement_, choice, root, c)
    return body


def sign(election: BallotContext, unit: int, style: int, secret: int, seed: bytes, unsigned: bytes) -> bytes:
    """The ballot: `unsigned` with the credential's Schnorr signature; the nonce is hedged with the ballot's seed."""
    nonce = reduce(H("ballot-nonce", scalar_bytes(secret), seed, unsigned))
    commitment = base(nonce)
    challenge = signature_challenge(election, unit, style, base(secret), commitment, unsigned)
    return unsigned + commitment + scalar_bytes(nonce + challenge * secret)


def create(
    election: BallotContext,
    roll_index: int,
    seen: int,
    unit: int,
    style: int,
    secret: int,
    seed: bytes,
    choices: Sequence[Sequence[int]],
) -> bytes:
    """A signed ballot. `seed` is fresh for every ballot and erased after casting."""
    unsigned = create_unsigned(election, roll_index, seen, unit, base(secret), style, seed, choices)
    return sign(election, unit, style, secret, seed, unsigned)


def check_choices(contests: Sequence[Contest], choices: Sequence[Sequence[int]]) -> None:
    """Raises Malformed unless there is one allowed choice vector per contest."""
    if len(choices) != len(contests):
        raise Malformed("choices", f"the ballot has {len(contests)} contests, {len(choices)} answered")
    for contest, choice in zip(contests, choices, strict=True):
        if len(choice) != contest.k or any(v not in (0, 1) for v in choice):
            raise Malformed(f"choices.{contest.id}", f"needs {contest.k} values 0 or 1")
        if contest.rule == Rule.ONE_OF_K and sum(choice) != 1:
            raise Malformed(f"choices.{contest.id}", "exactly one option must be chosen")
        if contest.rule == Rule.UP_TO_L and sum(choice) > contest.limit:
            raise Malformed(f"choices.{contest.id}", f"at most {contest.limit} options may be chosen")


def _create_contest(
    election: BallotContext, contest: Contest, statement_: bytes, choice: Sequence[int], root: bytes, c: int
) -> bytes:
    def draw(purpose: int, d: int, j: int) -> bytes:
        return H("ballot-random", root, u8(purpose), u16(c), u16(d), u16(j))

    n = ciphertext_count(contest)
    r = [reduce(draw(0, 0, i)) for i in range(n)]
    ciphertexts = b"".join(base(r[i]) + add(mul(r[i], election.key), base(choice[i])) for i in range(n))
    rho = weights(contest, statement_, ciphertexts)
    proofs = disjunctions(contest, rho)

    # Simulated branches choose challenge and response first; their commitments are what the equations give.
    commitments, sent, responses, true_branches = b"", [], [], []
    for d, proof in enumerate(proofs):
        plain = sum(w * v for w, v in zip(proof.weights, choice, strict=False))
        secret = sum(w * x for w, x in zip(proof.weights, r, strict=True))
        true = proof.values.index(plain)
        cs, zs = [0] * len(proof.values), [0] * len(proof.values)
        for j, value in enumerate(proof.values):
            if j == true:
                w = reduce(draw(1, d, 0))
                commitments += base(w) + mul(w, election.key)
                continue
            cs[j], zs[j] = low128(draw(2, d, j)), reduce(draw(3, d, j))
            # z·G − c·X = (z − c·secret)·G, and z·K − c·(Y − u·G) = (z − c·secret)·K − c·(plain − u)·G
            x = zs[j] - cs[j] * secret
            commitments += base(x) + add(mul(x, election.key), base(-cs[j] * (plain - value)))
        sent.append(cs)
        responses.append(zs)
        true_branches.append((true, w, secret))

    for d, e in enumerate(challenges(statement_, ciphertexts, rho, commitments, len(proofs))):
        true, w, secret = true_branches[d]
        sent[d][true] = (e - sum(sent[d])) & MASK
        responses[d][true] = w + sent[d][true] * secret
    return (
        ciphertexts + commitments
        + b"".join(x.to_bytes(16, "little") for cs in sent for x in cs[:-1])
        + b"".join(scalar_bytes(z) for zs in responses for z in zs)
    )  # fmt: skip


# ---------------------------------------------------------------- parsing and verification


def read_header(body: bytes) -> tuple[int, int]:
    """(roll index, seen); raises BallotRefused(MALFORMED_HEADER)."""
    if len(body) < HEADER or body[0] != VERSION:
        raise BallotRefused(
            Reason.MALFORMED_HEADER, f"a ballot starts with {HEADER} bytes, the first of them {VERSION}"
        )
    return int.from_bytes(body[1:5], "big"), int.from_bytes(body[5:13], "big")


def parse(contests: Sequence[Contest], body: bytes) -> Ballot:
    """A ballot of the style with these contests. Raises BallotRefused with reason 1, 3, 4 or 5 and the offset."""
    roll_index, seen = read_header(body)
    if len(body) != ballot_size(contests):
        raise BallotRefused(Reason.MALFORMED_LENGTH, f"{len(body)} bytes, the style has {ballot_size(contests)}")
    reader = Reader(body, "ballot")
    reader.offset = HEADER
    points: list[tuple[bytes, int]] = []

    def point() -> bytes:
        points.append((reader.take(32, "point"), reader.offset - 32))
        return points[-1][0]

    def scalar() -> int:
        try:
            return parse_scalar(reader.take(32, "scalar"), "scalar", reader.offset - 32)
        except Malformed as error:
            raise BallotRefused(Reason.MALFORMED_SCALAR, str(error)) from error

    blocks = []
    for contest in contests:
        branches = branch_counts(contest)
        ciphertexts = [Ciphertext(point(), point()) for _ in range(ciphertext_count(contest))]
        t = [[(point(), point()) for _ in range(m)] for m in branches]
        c = [[int.from_bytes(reader.take(16, "challenge"), "little") for _ in range(m - 1)] for m in branches]
        z = [[scalar() for _ in range(m)] for m in branches]
        blocks.append(ContestBlock(ciphertexts, t, c, z))
    commitment, response = point(), scalar()
    for data, offset in points:  # after all scalars: the order of reasons
        if not is_point(data):
            raise BallotRefused(Reason.MALFORMED_POINT, f"byte {offset}: identity, or no canonical ristretto255 point")
    return Ballot(body, roll_index, seen, blocks, commitment, response)


def verify(election: BallotContext, roll: Roll, body: bytes) -> Reason:
    """Why the ballot is not valid, or VALID: reasons 1 to 7, which need no position."""
    try:
        roll_index, _ = read_header(body)
        if roll_index >= len(roll):
            return Reason.UNKNOWN_CREDENTIAL
        public_key, unit = roll.row(roll_index)
        style = roll.style(unit)
        if style < 0 or not is_point(public_key):
            return Reason.UNKNOWN_CREDENTIAL
        contests = election.styles[style]
        ballot = parse(contests, body)
    except BallotRefused as refused:
        return refused.reason
    for contest, block in zip(contests, ballot.blocks, strict=True):
        if not verify_contest(
            election, contest, statement(election, contest, roll_index, unit, style, public_key), block
        ):
            return Reason.BAD_PROOF
    challenge = signature_challenge(election, unit, style, public_key, ballot.commitment, ballot.unsigned)
    if base(ballot.response) != add(ballot.commitment, mul(challenge, public_key)):
        return Reason.BAD_SIGNATURE
    return Reason.VALID


def verify_contest(election: BallotContext, contest: Contest, statement_: bytes, block: ContestBlock) -> bool:
    """True if every branch equation of every disjunction holds."""
    ciphertexts = b"".join(ciphertext.a + ciphertext.b for ciphertext in block.ciphertexts)
    commitments = b"".join(t1 + t2 for row in block.t for t1, t2 in row)
    rho = weights(contest, statement_, ciphertexts)
    proofs = disjunctions(contest, rho)
    for d, e in enumerate(challenges(statement_, ciphertexts, rho, commitments, len(proofs))):
        x = total([mul(w, ct.a) for w, ct in zip(proofs[d].weights, block.ciphertexts, strict=True) if w])
        y = total([mul(w, ct.b) for w, ct in zip(proofs[d].weights, block.ciphertexts, strict=True) if w])
        cs = [*block.c[d], (e - sum(block.c[d])) & MASK]
        for value, (t1, t2), c, z in zip(proofs[d].values, block.t[d], cs, block.z[d], strict=True):
            if base(z) != add(t1, mul(c, x)) or mul(z, election.key) != add(t2, mul(c, sub(y, mul(value, BASE)))):
                return False
    return True


def fingerprint(unsigned: bytes) -> bytes:
    """SHA-256 of the unsigned ballot: what the booth shows before the voter decides to cast or to audit."""
    return hashlib.sha256(unsigned).digest()
