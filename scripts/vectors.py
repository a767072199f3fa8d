"""Make tests/vectors/*.json: what another implementation is held against.

`python -m scripts.vectors` writes them; a test regenerates and compares. Every wrong ballot is wrong in one thing, and everything
else is made right again (re-hashed, re-signed), so an implementation that skips that one check accepts it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

from protocol import ballot, ceremony, credential, group, merkle, proofs, tally
from protocol.attachments import Roll, roll_row
from protocol.ballot import HEADER, SIGNATURE, BallotContext, Ciphertext, Reason
from protocol.counting import CountedRow, Status
from protocol.encoding import u32, u64
from protocol.manifest import Contest, Rule
from protocol.records import Entry, Kind

OUT = Path(__file__).resolve().parents[1] / "tests" / "vectors"

NOT_POINTS = {
    # RFC 9496, section A.2: one encoding of each kind that must be refused.
    "non-canonical field element": "f3ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "negative field element": "0100000000000000000000000000000000000000000000000000000000000000",
    "non-square x^2": "26948d35ca62e643e26a83177332e6b6afeb9d08e4268b650f1f5bbd8d81d371",
    "negative x*y": "3eb858e78f5a7254d8c9731174a94f76755fd3941c0ac93735c07ba14579630e",
    "s = -1": "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "identity": "00" * 32,
    # 12345·G with bit 255 set, which libsodium ignores.
    "bit 255 set": (int.from_bytes(group.base(12345), "little") | 1 << 255).to_bytes(32, "little").hex(),
}


def scalar(name: str) -> int:
    """A scalar that is the same in every run."""
    return group.reduce(hashlib.sha512(name.encode()).digest())


CONTESTS = {
    "one-of-2": Contest("yes-no", "Yes or no?", Rule.ONE_OF_K, 0, ("yes", "no")),
    "one-of-3": Contest("three", "Three", Rule.ONE_OF_K, 0, ("a", "b", "blank")),
    "one-of-7": Contest("mayor", "Mayor", Rule.ONE_OF_K, 0, tuple("abcdefg")),
    "approval-3": Contest("board", "Board", Rule.APPROVAL, 0, ("x", "y", "z")),
    "up-to-2-of-3": Contest("council", "Council", Rule.UP_TO_L, 2, ("p", "q", "r")),
}
STYLES = [*([name] for name in CONTESTS), ["one-of-2", "approval-3"]]
KEY_SECRET, VOTER, OTHER_VOTER = scalar("joint key"), scalar("voter"), scalar("other voter")
ELECTION = BallotContext(
    hashlib.sha512(b"context of the vectors").digest(),
    group.base(KEY_SECRET),
    tuple(tuple(CONTESTS[name] for name in style) for style in STYLES),
)
UNIT_STYLES = list(range(len(STYLES)))
ROLL = Roll(b"".join(roll_row(group.base(VOTER), unit) for unit in UNIT_STYLES), UNIT_STYLES)
"""Roll index = unit = style, all of them the same credential."""

HONEST = [[[1, 0]], [[0, 0, 1]], [[0, 0, 0, 1, 0, 0, 0]], [[1, 0, 1]], [[0, 1, 1]], [[0, 1], [0, 0, 0]]]


# ---------------------------------------------------------------- ballots


def make(style: int, choices: Sequence[Sequence[int]], seed: str = "seed", seen: int = 7) -> bytes:
    return ballot.create(ELECTION, style, seen, style, style, VOTER, hashlib.sha256(seed.encode()).digest(), choices)


def resign(style: int, unsigned: bytes, secret: int = VOTER) -> bytes:
    return ballot.sign(ELECTION, style, style, secret, hashlib.sha256(b"again").digest(), unsigned)


def splice(data: bytes, place: int, piece: bytes) -> bytes:
    return data[:place] + piece + data[place + len(piece) :]


def with_wrong_commitment(style: int, which: int) -> bytes:
    """A ballot whose commitment number `which` (of the first contest) is off by G; the challenges are hashed over the wrong one, so
    exactly one equation fails: the one that holds this commitment."""
    contest = ELECTION.styles[style][0]
    start = HEADER + 64 * ballot.ciphertext_count(contest)
    honest = ballot.challenges
    wrong = b""

    def over_wrong(
        statement: bytes, ciphertexts: bytes, rho: Sequence[int], commitments: bytes, count: int
    ) -> list[int]:
        nonlocal wrong
        if wrong:  # only the first contest is changed
            return honest(statement, ciphertexts, rho, commitments, count)
        wrong = group.add(commitments[32 * which : 32 * which + 32], group.BASE)
        return honest(statement, ciphertexts, rho, splice(commitments, 32 * which, wrong), count)

    with patch.object(ballot, "challenges", over_wrong):
        body = make(style, HONEST[style])
    return resign(style, splice(body, start + 32 * which, wrong)[:-SIGNATURE])


def with_forbidden_choice(style: int, choices: Sequence[Sequence[int]]) -> bytes:
    """A ballot for a choice that the rule forbids, by a prover who treats the first branch as the true one."""

    class Pretending(tuple):
        def index(self, value: Any, *_: Any) -> int:
            return super().index(value) if value in self else 0

    honest = ballot.disjunctions

    def pretending(contest: Contest, rho: Sequence[int]) -> list[ballot.Disjunction]:
        return [ballot.Disjunction(d.weights, Pretending(d.values)) for d in honest(contest, rho)]

    with patch.object(ballot, "disjunctions", pretending), patch.object(ballot, "check_choices", lambda *_: None):
        return make(style, choices)


def point_places(style: int) -> Iterator[tuple[str, int]]:
    place = HEADER
    for contest in ELECTION.styles[style]:
        for i in range(ballot.ciphertext_count(contest)):
            yield f"{contest.id} A_{i}", place
            yield f"{contest.id} B_{i}", place + 32
            place += 64
        branches = ballot.branch_counts(contest)
        for d, m in enumerate(branches):
            for j in range(m):
                yield f"{contest.id} T1_{d},{j}", place
                yield f"{contest.id} T2_{d},{j}", place + 32
                place += 64
        place += sum(16 * (m - 1) + 32 * m for m in branches)
    yield "R", place


def challenge_places(style: int) -> Iterator[tuple[str, int]]:
    place = HEADER
    for contest in ELECTION.styles[style]:
        branches = ballot.branch_counts(contest)
        place += 64 * ballot.ciphertext_count(contest) + 64 * sum(branches)
        for d, m in enumerate(branches):
            for j in range(m - 1):
                yield f"{contest.id} c_{d},{j}", place
                place += 16
        place += 32 * sum(branches)


def scalar_places(style: int) -> Iterator[tuple[str, int]]:
    place = HEADER
    for contest in ELECTION.styles[style]:
        branches = ballot.branch_counts(contest)
        place += 64 * ballot.ciphertext_count(contest) + 64 * sum(branches) + 16 * sum(m - 1 for m in branches)
        for d, m in enumerate(branches):
            for j in range(m):
                yield f"{contest.id} z_{d},{j}", place
                place += 32
    yield "s", len(make(style, HONEST[style])) - 32


def wrong_ballots(style: int) -> Iterator[tuple[str, Reason, bytes]]:
    """(what is wrong, reason, body) for one style."""
    good = make(style, HONEST[style])
    contest = ELECTION.styles[style][0]
    yield "version 2", Reason.MALFORMED_HEADER, b"\x02" + good[1:]
    yield "roll index outside the roll", Reason.UNKNOWN_CREDENTIAL, splice(good, 1, u32(len(ROLL)))
    yield "one byte short", Reason.MALFORMED_LENGTH, good[:-1]
    yield "one trailing byte", Reason.MALFORMED_LENGTH, good + b"\x00"
    for name, place in scalar_places(style):
        value = int.from_bytes(good[place : place + 32], "little")
        yield (
            f"{name} plus the order",
            Reason.MALFORMED_SCALAR,
            splice(good, place, (value + group.ORDER).to_bytes(32, "little")),
        )
        changed = splice(good, place, group.scalar_bytes(value + 1))
        if name == "s":
            yield "s plus 1", Reason.BAD_SIGNATURE, changed
        else:
            yield f"{name} plus 1", Reason.BAD_PROOF, resign(style, changed[:-SIGNATURE])
    for name, place in point_places(style):
        yield f"{name} is the identity", Reason.MALFORMED_POINT, splice(good, place, bytes(32))
    for name, encoding in NOT_POINTS.items():
        yield f"first point: {name}", Reason.MALFORMED_POINT, splice(good, HEADER, bytes.fromhex(encoding))
    for which in range(2 * sum(ballot.branch_counts(contest))):
        yield f"{contest.id} equation {which} alone fails", Reason.BAD_PROOF, with_wrong_commitment(style, which)
    for name, place in challenge_places(style):
        value = (int.from_bytes(good[place : place + 16], "little") + 1) % 2**128
        yield (
            f"{name} plus 1",
            Reason.BAD_PROOF,
            resign(style, splice(good, place, value.to_bytes(16, "little"))[:-SIGNATURE]),
        )
    for i in range(ballot.ciphertext_count(contest)):
        place = HEADER + 64 * i + 32
        shifted = splice(good, place, group.add(good[place : place + 32], group.BASE))
        yield f"{contest.id} B_{i} plus G", Reason.BAD_PROOF, resign(style, shifted[:-SIGNATURE])
    yield "signed by another credential", Reason.BAD_SIGNATURE, resign(style, good[:-SIGNATURE], OTHER_VOTER)
    yield "seen changed after signing", Reason.BAD_SIGNATURE, splice(good, 5, u64(8))
    other = make((style + 1) % len(STYLES), HONEST[(style + 1) % len(STYLES)])
    if len(other) == len(good):
        yield "a ballot of another row", Reason.BAD_PROOF, splice(other, 1, u32(style))


FORBIDDEN = [
    (0, [[2, 0]], "two votes for one option"), (1, [[1, 1, 0]], "two options"), (1, [[2, 0, 0]], "two votes for one option"),
    (2, [[1, 1, 0, 0, 0, 0, 0]], "two options"), (3, [[2, 0, 0]], "two votes for one option"), (4, [[1, 1, 1]], "three options of two"),
    (4, [[2, 0, 0]], "two votes for one option"),
]  # fmt: skip


def ballots() -> dict[str, Any]:
    cases: list[dict[str, Any]] = []

    def case(name: str, style: int, body: bytes, reason: Reason, **more: Any) -> None:
        answer = ballot.verify(ELECTION, ROLL, body)
        if answer != reason:
            raise AssertionError(f"{name}: the reference says {answer.text}, expected {reason.text}")
        cases.append({"name": name, "style": style, "body": body.hex(), "reason": int(reason), **more})

    for style, choices in enumerate(HONEST):
        seed = hashlib.sha256(b"seed").digest().hex()
        case(
            f"valid {'+'.join(STYLES[style])}",
            style,
            make(style, choices),
            Reason.VALID,
            seed=seed,
            choices=choices,
            seen=7,
        )
    for style in range(len(STYLES)):
        for name, reason, body in wrong_ballots(style):
            case(f"{'+'.join(STYLES[style])}: {name}", style, body, reason)
    for style, choices, name in FORBIDDEN:
        case(f"{'+'.join(STYLES[style])}: {name}", style, with_forbidden_choice(style, choices), Reason.BAD_PROOF)
    case("empty body", 0, b"", Reason.MALFORMED_HEADER)
    case("twelve bytes", 0, b"\x01" + bytes(11), Reason.MALFORMED_HEADER)
    return {
        "about": "docs/protocol.md, section 5: reason 0 is valid. Roll index = unit = style; all rows are one credential.",
        "context": ELECTION.context.hex(), "key": ELECTION.key.hex(), "roll": ROLL.data.hex(), "unit_styles": UNIT_STYLES,
        "styles": [[{"id": c.id, "rule": int(c.rule), "k": c.k, "limit": c.limit} for c in style] for style in ELECTION.styles],
        "secret": group.scalar_bytes(VOTER).hex(), "cases": cases,
    }  # fmt: skip


# ---------------------------------------------------------------- the other primitives


def primitives() -> dict[str, Any]:
    with patch.object(proofs, "random_scalar", lambda: scalar("nonce")):
        x, other = scalar("x"), group.base(scalar("A"))
        knowledge = proofs.prove_knowledge("share", b"statement", x)
        equality = proofs.prove_equality("partial", b"statement", x, other)
    codes = [bytes(16), bytes(range(16)), b"\xff" * 16]
    nonce = hashlib.sha256(b"election nonce").digest()
    entry = Entry(Kind.BALLOT, 1_800_000_000, 3, hashlib.sha256(b"body").digest())
    row = CountedRow(9, 4, Status.SUPERSEDED, 12)
    leaves = [merkle.leaf_hash(bytes([i])) for i in range(7)]
    return {
        "H": [{"tag": tag, "parts": [p.hex() for p in parts], "hash": group.H(tag, *parts).hex()} for tag, parts in [("t", []), ("t", [b""]), ("weights", [b"ab", b"c"])]],
        "knowledge": {"name": "share", "statement": b"statement".hex(), "public": group.base(x).hex(), "proof": knowledge.hex(),
                      "wrong": [_flip(knowledge, i).hex() for i in (0, 32, 63)]},
        "equality": {"name": "partial", "statement": b"statement".hex(), "public": group.base(x).hex(), "other": other.hex(), "image": group.mul(x, other).hex(),
                     "proof": equality.hex(), "wrong": [_flip(equality, i).hex() for i in (0, 32, 64, 95)]},
        "credentials": [
            {"code": code.hex(), "text": credential.print_code(code), "serial": serial, "nonce": nonce.hex(),
             "secret": group.scalar_bytes(credential.secret_key(code, nonce, serial)).hex(),
             "public": group.base(credential.secret_key(code, nonce, serial)).hex()}
            for serial, code in enumerate(codes)
        ],
        "entry": {"kind": 4, "time": entry.time, "role": 3, "body_hash": entry.body_hash.hex(), "entry": entry.encode().hex(), "leaf": entry.leaf().hex()},
        "counted_row": {"position": 9, "roll_index": 4, "status": 1, "reference": 12, "row": row.encode().hex()},
        "merkle": {"leaves": [leaf.hex() for leaf in leaves], "roots": [merkle.root(leaves[:n]).hex() for n in range(8)],
                   "inclusion": [[node.hex() for node in merkle.inclusion_proof(leaves, i)] for i in range(7)],
                   "consistency": [[node.hex() for node in merkle.consistency_proof(leaves, n)] for n in range(1, 8)]},
        "ceremony_id": {"election": "11" * 32, "attempt": 2, "id": ceremony.Setting(b"\x11" * 32, 2, 3, 2).id.hex()},
    }  # fmt: skip


def decryption() -> dict[str, Any]:
    """A 2-of-3 key with its polynomial, one group of a one-of-3 contest, three partial decryptions, the totals."""
    polynomial = [scalar("a0"), scalar("a1")]
    shares = {j: (polynomial[0] + j * polynomial[1]) % group.ORDER for j in (1, 2, 3)}
    key, r = group.base(polynomial[0]), scalar("r")
    sums = tuple(Ciphertext(group.base(r + v), group.add(group.mul(r + v, key), group.base(v))) for v in (3, 12))
    sums_group = tally.GroupSum(1, 4, (2, 5), 20, sums)
    context, root = hashlib.sha512(b"context").digest(), hashlib.sha256(b"settlement").digest()
    with patch.object(proofs, "random_scalar", lambda: scalar("nonce")):
        bodies = {j: tally.partial_decryption(context, root, [sums_group], j, x) for j, x in shares.items()}
    ds = {j: [d for d, _ in tally.parse_partial(body[0]).shares[1, 4]] for j, body in bodies.items()}
    return {
        "context": context.hex(), "settlement_root": root.hex(), "key": key.hex(), "share_keys": [group.base(x).hex() for x in shares.values()],
        "contest": {"id": "three", "rule": 1, "k": 3, "index": 1}, "group": 4, "ballots": 20, "sums": [[c.a.hex(), c.b.hex()] for c in sums],
        "partials": [body[0].decode() for body in bodies.values()],
        "totals": tally.combine(CONTESTS["one-of-3"], sums_group, ds, 2),
    }  # fmt: skip


FILES: dict[str, Callable[[], dict[str, Any]]] = {
    "ballots": ballots,
    "primitives": primitives,
    "decryption": decryption,
}


def text(name: str) -> str:
    return json.dumps(FILES[name](), indent=1, ensure_ascii=False) + "\n"


def main() -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        (OUT / f"{name}.json").write_text(text(name))


def _flip(data: bytes, place: int) -> bytes:
    return splice(data, place, bytes([data[place] ^ 1]))


if __name__ == "__main__":
    main()
