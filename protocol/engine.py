"""Which implementation does the heavy work: `native/` where it is installed, else the reference of this package.

Both give the same answers on every vector; callers import from here and never ask which one it was, except to say so.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable, Sequence

from protocol import ballot, credential, merkle, proofs, tally
from protocol.attachments import ROWS_AT_ONCE, Roll
from protocol.ballot import BallotContext, Ciphertext, Reason
from protocol.encoding import u16, u32, u64
from protocol.group import IDENTITY, base, is_point, mul, scalar_bytes, total
from protocol.manifest import Contest
from protocol.proofs import DLEQ_BYTES, POK_BYTES
from protocol.records import ballot_hash, pack_bodies, unpack_bodies

try:
    import ballotboard_native as native
except ImportError:
    native = None  # type: ignore[assignment]
    warnings.warn(
        "ballotboard-native is not installed: the Python reference runs, about a hundred times slower (see native/README.md)",
        stacklevel=1,
    )

LITTLE_ENDIAN = sys.byteorder == "little"
"""How this machine keeps numbers in memory: what is cut out of big-endian bytes all at once must be turned."""

NOT_COUNTED = 2**32 - 1
"""Group number of a ballot that takes no part in a sum."""


def name() -> str:
    """The implementation in use, for reports."""
    return f"native ({native.backend()})" if native else "reference (libsodium)"


class Engine:
    """Verification, creation and sums of the ballots of one election."""

    def __init__(self, election: BallotContext, unit_styles: Sequence[int]) -> None:
        """`unit_styles` is the style of each unit number, −1 where nobody votes."""
        self.election = election
        self.unit_styles = list(unit_styles)
        self._native = None
        if native:
            styles = [[(c.id, int(c.rule), c.k, c.limit) for c in contests] for contests in election.styles]
            packed = b"".join(style.to_bytes(2, "big", signed=True) for style in unit_styles)
            self._native = native.Election(election.context, election.key, styles, packed)

    def verify(self, bodies: Sequence[bytes], roll: Roll, threads: int = 0) -> list[Reason]:
        """The reason (0 valid, 1–7) of each ballot; `threads` 0 means all cores."""
        if self._native:
            return [Reason(r) for r in self._native.verify(pack_bodies(bodies), roll.data, threads)]
        return [ballot.verify(self.election, roll, body) for body in bodies]

    def verify_packed(self, packed: bytes, roll: Roll, threads: int = 0) -> bytes:
        """The same for bodies in the form of `records.pack_bodies`: one reason per byte."""
        if self._native:
            return self._native.verify(packed, roll.data, threads)
        return bytes(ballot.verify(self.election, roll, body) for body in unpack_bodies(packed))

    def create(self, requests: Iterable[CreateRequest], threads: int = 0) -> list[bytes]:
        """Signed ballots. Raises Malformed for choices that the rule does not allow."""
        requests = list(requests)
        for request in requests:
            ballot.check_choices(self.election.styles[request.style], request.choices)
        if self._native:
            return unpack_bodies(self._native.create(b"".join(r.encode() for r in requests), threads))
        return [
            ballot.create(self.election, r.roll_index, r.seen, r.unit, r.style, r.secret, r.seed, r.choices)
            for r in requests
        ]

    def sums(
        self, contest: Contest, bodies: Sequence[bytes], roll: Roll, groups: Sequence[int], group_count: int
    ) -> list[list[Ciphertext]]:
        """Encrypted sums per group of one contest over verified ballots; `groups` has a group number, or NOT_COUNTED, per ballot."""
        n = ballot.ciphertext_count(contest)
        if self._native:
            packed = b"".join(map(u32, groups))
            return self.split_sums(contest, self.sums_packed(contest, pack_bodies(bodies), roll, packed, group_count))
        columns: list[list[list[Ciphertext]]] = [[[] for _ in range(n)] for _ in range(group_count)]
        for body, group in zip(bodies, groups, strict=True):
            if group == NOT_COUNTED:
                continue
            contests = self.election.styles[roll.style(roll.row(ballot.read_header(body)[0])[1])]
            block = ballot.parse(contests, body).blocks[contests.index(contest)]
            for i, ciphertext in enumerate(block.ciphertexts):
                columns[group][i].append(ciphertext)
        return [
            [Ciphertext(total([c.a for c in column]), total([c.b for c in column])) for column in group]
            for group in columns
        ]

    def sums_packed(
        self, contest: Contest, packed: bytes, roll: Roll, groups: bytes, group_count: int, threads: int = 0
    ) -> bytes:
        """The same for packed bodies and packed u32 groups, as points of 32 bytes: Σ A_i || Σ B_i per group and ciphertext. `add_sums`
        adds such sums up."""
        if self._native:
            return self._native.sums(packed, roll.data, contest.id, groups, group_count, threads)
        numbers = [int.from_bytes(groups[i : i + 4], "big") for i in range(0, len(groups), 4)]
        found = self.sums(contest, unpack_bodies(packed), roll, numbers, group_count)
        return b"".join(ciphertext.a + ciphertext.b for group in found for ciphertext in group)

    def split_sums(self, contest: Contest, data: bytes) -> list[list[Ciphertext]]:
        """Per group, the ciphertexts in what `sums_packed` gives."""
        width = 64 * ballot.ciphertext_count(contest)
        return [
            [Ciphertext(data[i : i + 32], data[i + 32 : i + 64]) for i in range(start, start + width, 64)]
            for start in range(0, len(data), width)
        ]


class CreateRequest:
    """One ballot to create: who votes what, with which seed (32 fresh bytes)."""

    __slots__ = ("choices", "roll_index", "secret", "seed", "seen", "style", "unit")

    def __init__(
        self,
        roll_index: int,
        seen: int,
        unit: int,
        style: int,
        secret: int,
        seed: bytes,
        choices: Sequence[Sequence[int]],
    ) -> None:
        self.roll_index, self.seen, self.unit, self.style = roll_index, seen, unit, style
        self.secret, self.seed, self.choices = secret, seed, choices

    def encode(self) -> bytes:
        """The packed form that crosses the native border."""
        header = u32(self.roll_index) + u64(self.seen) + u32(self.unit) + u16(self.style)
        return header + scalar_bytes(self.secret) + self.seed + b"".join(bytes(choice) for choice in self.choices)


def discrete_logs(points: Sequence[bytes], maximum: int) -> list[int | None]:
    if native:
        return native.discrete_logs(b"".join(points), maximum, 0)
    return tally.discrete_logs(points, maximum)


def leaf_hashes(entries: Sequence[bytes]) -> list[bytes]:
    """RFC 9162 leaf hashes of 40-byte entries."""
    if native:
        data = native.leaf_hashes(b"".join(entries))
        return [data[i : i + 32] for i in range(0, len(data), 32)]
    return [merkle.leaf_hash(entry) for entry in entries]


# ---------------------------------------------------------------- many things in one buffer


def entries(head: bytes, packed: bytes, count: int) -> bytes:
    """The 40-byte log entries of so many packed bodies that share `head`, the first 8 bytes of an entry. Raises ValueError for another number."""
    if native:
        return native.entries(head * count, packed)
    bodies = unpack_bodies(packed)
    if len(bodies) != count:
        raise ValueError(f"heads: {count} for {len(bodies)} bodies")
    return b"".join(head + ballot_hash(body) for body in bodies)


def row_leaves(rows: bytes, width: int) -> bytes:
    """RFC 9162 leaf hashes, end to end, of rows of `width` bytes."""
    if native:
        return native.leaf_hash_rows(rows, width)
    return b"".join(merkle.leaf_hash(bytes(rows[i : i + width])) for i in range(0, len(rows), width))


def row_root(rows: bytes, width: int) -> bytes:
    """The root over rows of `width` bytes."""
    tree = merkle.Frontier()
    for start in range(0, len(rows), width * ROWS_AT_ONCE):
        extend(tree, row_leaves(rows[start : start + width * ROWS_AT_ONCE], width))
    return tree.root()


def extend(frontier: merkle.Frontier, leaves: bytes) -> None:
    """Append leaf hashes, end to end, to a tree: as few and as large complete subtrees as there are in them."""
    at, count = 0, len(leaves) // 32
    while at < count:
        level = (count - at).bit_length() - 1
        if frontier.size:
            level = min(level, (frontier.size & -frontier.size).bit_length() - 1)
        part = leaves[32 * at : 32 * (at + (1 << level))]
        if native:
            node = native.merkle_root(part)
        else:
            node = merkle.root(part[i : i + 32] for i in range(0, len(part), 32))
        frontier.append_subtree(node, level)
        at += 1 << level


def are_points(points: bytes) -> bool:
    """True if each 32 bytes are a point that may be sent: canonical, and not the identity."""
    if IDENTITY in points and any(points[i : i + 32] == IDENTITY for i in range(0, len(points), 32)):
        return False
    if native:
        try:
            native.add_ciphertexts(1, points)  # decodes every one, in eight lanes; the sum is of no interest
        except ValueError:
            return False
        return True
    return all(is_point(points[i : i + 32]) for i in range(0, len(points), 32))


def add_sums(columns: int, rows: bytes, threads: int = 0) -> bytes:
    """The sum of each of `columns` points over rows of as many; the identity is allowed."""
    if native:
        return native.add_ciphertexts(columns, rows, threads)
    points = [rows[i : i + 32] for i in range(0, len(rows), 32)]
    return b"".join(total(points[column::columns]) for column in range(columns))


def public_keys(codes: Sequence[bytes], nonce: bytes, first_serial: int) -> list[bytes]:
    """Public keys of consecutive cards (docs/protocol.md, section 4)."""
    if native:
        data = native.credentials(b"".join(codes), nonce, first_serial, 0)
        return [data[i : i + 32] for i in range(0, len(data), 32)]
    return [base(credential.secret_key(code, nonce, first_serial + i)) for i, code in enumerate(codes)]


# ---------------------------------------------------------------- proofs and multiples, many at a time


def fixed_rows(points: bytes, scalars: bytes, threads: int = 0) -> bytes:
    """Σ scalar_j·point_j for each row of as many secret scalars (32 bytes each) as there are points, which are few."""
    if native:
        return native.fixed_rows(points, scalars, threads)
    return _rows(points, scalars, len(points))


def mul_points(scalars: Sequence[int], points: bytes, threads: int = 0) -> bytes:
    """Σ scalar_j·point_j for each row of as many points as there are scalars."""
    packed = b"".join(map(scalar_bytes, scalars))
    if native:
        return native.mul_points(packed, points, threads)
    return _rows(packed, points, len(packed), swapped=True)


def verify_knowledge(
    name: str, statements: Sequence[bytes], publics: bytes, signatures: bytes, threads: int = 0
) -> bytes:
    """1 for each proof of knowledge (64 bytes) of the logarithm of a public key (32 bytes) that holds, else 0."""
    if native:
        return native.knowledge_verify_many(name, pack_bodies(statements), publics, signatures, threads)
    return bytes(
        proofs.verify_knowledge(
            name, statement, publics[32 * i : 32 * i + 32], signatures[POK_BYTES * i : POK_BYTES * (i + 1)]
        )
        for i, statement in enumerate(statements)
    )


def prove_equalities(name: str, statements: Sequence[bytes], x: int, points: bytes, threads: int = 0) -> bytes:
    """`D || proof` (128 bytes) for each point A, none the identity: D = x·A, and that log_G(x·G) = log_A(D)."""
    if native:
        return native.dleq_prove_many(name, pack_bodies(statements), scalar_bytes(x), points, threads)
    cut = [points[i : i + 32] for i in range(0, len(points), 32)]
    return b"".join(mul(x, a) + proofs.prove_equality(name, s, x, a) for s, a in zip(statements, cut, strict=True))


def verify_equalities(
    name: str, statements: Sequence[bytes], public: bytes, points: bytes, images: bytes, found: bytes, threads: int = 0
) -> bytes:
    """1 for each A (of `points`), D (of `images`) and proof (96 bytes) that shows log_G(public) = log_A(D), else 0."""
    if native:
        return native.dleq_verify_many(name, pack_bodies(statements), public, points, images, found, threads)
    return bytes(
        proofs.verify_equality(
            name, statement, public, points[32 * i : 32 * i + 32], images[32 * i : 32 * i + 32],
            found[DLEQ_BYTES * i : DLEQ_BYTES * (i + 1)],
        )
        for i, statement in enumerate(statements)
    )  # fmt: skip


def _rows(fixed: bytes, varying: bytes, width: int, swapped: bool = False) -> bytes:
    """Σ over each row of `width` bytes of `varying` against `fixed`: scalars against points, or, if swapped, the other way round."""
    out = []
    for start in range(0, len(varying), width):
        pairs = [(fixed[i : i + 32], varying[start + i : start + i + 32]) for i in range(0, width, 32)]
        terms = [(s, p) if swapped else (p, s) for s, p in pairs]
        out.append(total([mul(int.from_bytes(s, "little"), p) for s, p in terms]))
    return b"".join(out)
