"""Which implementation does the heavy work: `native/` where it is installed, else the reference of this package.

Both give the same answers on every vector; callers import from here and never ask which one it was, except to say so.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence

from protocol import ballot, credential, merkle, tally
from protocol.attachments import Roll
from protocol.ballot import BallotContext, Ciphertext, Reason
from protocol.encoding import u16, u32, u64
from protocol.group import base, scalar_bytes, total
from protocol.manifest import Contest
from protocol.records import pack_bodies, unpack_bodies

try:
    import ballotboard_native as native
except ImportError:
    native = None  # type: ignore[assignment]
    warnings.warn(
        "ballotboard-native is not installed: the Python reference runs, about a hundred times slower (see native/README.md)",
        stacklevel=1,
    )

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
            data = self._native.sums(pack_bodies(bodies), roll.data, contest.id, packed, group_count, 0)
            points = [data[i : i + 32] for i in range(0, len(data), 32)]
            return [
                [Ciphertext(points[2 * (g * n + i)], points[2 * (g * n + i) + 1]) for i in range(n)]
                for g in range(group_count)
            ]
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


def public_keys(codes: Sequence[bytes], nonce: bytes, first_serial: int) -> list[bytes]:
    """Public keys of consecutive cards (docs/protocol.md, section 4)."""
    if native:
        data = native.credentials(b"".join(codes), nonce, first_serial, 0)
        return [data[i : i + 32] for i in range(0, len(data), 32)]
    return [base(credential.secret_key(code, nonce, first_serial + i)) for i, code in enumerate(codes)]
