"""Make tests/vectors/*.json, and section 15 of docs/protocol.md: what another implementation is held against.

`python -m scripts.vectors` writes them; a test regenerates and compares. Every wrong ballot is wrong in one thing, and everything
else is made right again (re-hashed, re-signed), so an implementation that skips that one check accepts it.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

from protocol import ballot, ceremony, credential, group, merkle, proofs, tally
from protocol.attachments import Roll, Station, roll_row
from protocol.ballot import HEADER, SIGNATURE, BallotContext, Ciphertext, Reason
from protocol.counting import BallotFact, CountedRow, Status, apply_roll_changes, count
from protocol.encoding import canonical_json, parse_json, u32, u64
from protocol.manifest import Contest, Rule
from protocol.records import CheckIns, Entry, Kind, RollChange
from scripts.document_vectors import documents

SPECIFICATION = Path(__file__).resolve().parents[1] / "docs" / "protocol.md"
EXAMPLES = "## 15. Worked examples\n\nMade by `python -m scripts.vectors`, as everything in `tests/vectors/`. Hexadecimal, by 32 bytes a line.\n\n"
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
UNIT_STYLES = [*range(len(STYLES)), -1]
ROWS = [(group.base(VOTER), unit) for unit in range(len(STYLES))]
"""Roll index = unit = style, all of them the same credential."""
WRONG_ROWS = {
    "a row whose unit has no style": (group.base(VOTER), len(STYLES)),
    "a row whose unit does not exist": (group.base(VOTER), len(STYLES) + 1),
    "a row that is the identity": (bytes(32), 0),
    "a row that is no point": (b"\xff" * 32, 0),
    "a row with bit 255 set": (bytes.fromhex(NOT_POINTS["bit 255 set"]), 0),
}
ROLL = Roll(b"".join(roll_row(*row) for row in [*ROWS, *WRONG_ROWS.values()]), UNIT_STYLES)

HONEST = [[[1, 0]], [[0, 0, 1]], [[0, 0, 0, 1, 0, 0, 0]], [[1, 0, 1]], [[0, 1, 1]], [[0, 1], [0, 0, 0]]]


OTHER_ELECTIONS = {
    "a ballot of another context": replace(ELECTION, context=hashlib.sha512(b"another context").digest()),
    "a ballot for another key": replace(ELECTION, key=group.base(KEY_SECRET + 1)),
    "a ballot for a contest with another id": replace(
        ELECTION, styles=((replace(CONTESTS["one-of-2"], id="no-yes"),), *ELECTION.styles[1:])
    ),
}


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
    good = make(0, HONEST[0])
    for index, name in enumerate(WRONG_ROWS, len(ROWS)):
        case(name, 0, splice(good, 1, u32(index)), Reason.UNKNOWN_CREDENTIAL)
    last = u32(len(ROLL) - 1)
    case(
        "a row that is no point comes before a wrong length",
        0,
        splice(good, 1, last) + b"\x00",
        Reason.UNKNOWN_CREDENTIAL,
    )
    case(
        "a row that is no point comes before a wrong scalar",
        0,
        splice(splice(good, 1, last), len(good) - 32, b"\xff" * 32),
        Reason.UNKNOWN_CREDENTIAL,
    )
    case(
        "a wrong scalar comes before a wrong point",
        0,
        splice(splice(good, HEADER, bytes(32)), len(good) - 32, b"\xff" * 32),
        Reason.MALFORMED_SCALAR,
    )
    case(
        "a wrong point comes before a wrong proof",
        0,
        splice(splice(good, HEADER, bytes(32)), len(good) - 96, bytes(32)),
        Reason.MALFORMED_POINT,
    )
    case(
        "a wrong proof comes before a wrong signature",
        0,
        splice(splice(good, len(good) - 96, bytes(32)), len(good) - 32, bytes(32)),
        Reason.BAD_PROOF,
    )
    for name, elsewhere in OTHER_ELECTIONS.items():
        with patch(f"{__name__}.ELECTION", elsewhere):
            body = make(0, HONEST[0])
        case(name, 0, body, Reason.BAD_PROOF)
    fresh, twice = hashlib.sha256(b"seed").digest(), replace(ELECTION, styles=(*ELECTION.styles, ELECTION.styles[0]))
    case(
        "a ballot of another style with the same contests",
        0,
        ballot.create(twice, 0, 7, 0, len(STYLES), VOTER, fresh, HONEST[0]),
        Reason.BAD_PROOF,
    )
    case("a ballot of another unit", 0, ballot.create(ELECTION, 0, 7, 1, 0, VOTER, fresh, HONEST[0]), Reason.BAD_PROOF)
    for style, choices, name in FORBIDDEN:
        case(f"{'+'.join(STYLES[style])}: {name}", style, with_forbidden_choice(style, choices), Reason.BAD_PROOF)
    case("empty body", 0, b"", Reason.MALFORMED_HEADER)
    case("twelve bytes", 0, b"\x01" + bytes(11), Reason.MALFORMED_HEADER)
    return {
        "about": "docs/protocol.md, section 5: reason 0 is valid. Roll index = unit = style, all rows one credential; the last rows of the roll are wrong ones.",
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


def key_ceremony() -> dict[str, Any]:
    """An honest 2-of-3 ceremony, and for each rule one message instead, with the trustees at fault. Each case replaces messages of the
    honest ceremony; what comes after them is not made again, since the first fault decides."""
    numbers = itertools.count()

    def draw() -> int:
        return scalar(f"ceremony {next(numbers)}")

    setting = ceremony.Setting(b"\x11" * 32, 0, 3, 2)
    with patch.object(ceremony, "random_scalar", draw), patch.object(proofs, "random_scalar", draw):
        secrets = [ceremony.TrusteeSecret.draw(j, 2) for j in (1, 2, 3)]
        first = [ceremony.round1(setting, secret) for secret in secrets]
        second = [ceremony.round2(setting, secret, first) for secret in secrets]
        third = [ceremony.round3(setting, secret, first, second) for secret in secrets]
        honest = {1: first, 2: second, 3: third}
        accused = _edited(second[1], lambda v: v["shares"][0].update(box=_flipped(v["shares"][0]["box"])))
        upheld = ceremony.round3(setting, secrets[0], first, [second[0], accused, second[2]])
        dealt = ceremony.check_dealing(setting, first, second)
        closed = [first[0], _edited(first[1], lambda v: v.update(commitment="11" * 32)), first[2]]
        opened = [ceremony.round2(setting, secret, closed) for secret in secrets]
        refuted = ceremony.complaint(setting, secrets[0], 2, dealt)
    joint = ceremony.check_ceremony(setting, first, second, third)
    other = group.base(9).hex()
    edits: list[tuple[str, int, Callable[[dict[str, Any]], object]]] = [
        # what trustee 2 does, in which round
        ("proof of the encryption key", 1, lambda v: v.update(proof=_flipped(v["proof"]))),
        ("encryption key is the identity", 1, lambda v: v.update(encryption_key="00" * 32)),
        ("encryption key not canonical", 1, lambda v: v.update(encryption_key=NOT_POINTS["bit 255 set"])),
        ("message of another attempt", 1, lambda v: v.update(attempt=1)),
        ("message of another trustee", 1, lambda v: v.update(trustee=1)),
        ("commitments other than committed to", 2, lambda v: v["commitments"].__setitem__(0, other)),
        ("a commitment too few", 2, lambda v: v["commitments"].pop()),
        ("a commitment that is the identity", 2, lambda v: v["commitments"].__setitem__(1, "00" * 32)),
        ("proof of possession", 2, lambda v: v.update(proof=_flipped(v["proof"]))),
        ("a share too few", 2, lambda v: v["shares"].pop()),
        ("shares in another order", 2, lambda v: v["shares"].reverse()),
        ("proof of a share", 2, lambda v: v["shares"][0].update(proof=_flipped(v["shares"][0]["proof"]))),
        ("another key confirmed", 3, lambda v: v.update(key=other)),
        ("another round 2 confirmed", 3, lambda v: v.update(round2="11" * 32)),
    ]
    changes = [(name, [(number, 2, _edited(honest[number][1], edit))]) for name, number, edit in edits]
    changes += [(f"no message in round {number}", [(number, 2, b"")]) for number in honest]
    changes += [("a box that does not open, with a complaint", [(2, 2, accused), (3, 1, upheld)])]
    changes += [("a complaint about a share that is right", [(3, 1, refuted)])]
    changes += [("a commitment to other polynomials", [(1, 2, closed[1]), *((2, j, opened[j - 1]) for j in (1, 2, 3))])]
    cases = []
    for name, messages in changes:
        rounds: dict[int, list[bytes | None]] = {number: list(bodies) for number, bodies in honest.items()}
        for number, j, body in messages:
            rounds[number][j - 1] = body or None
        try:
            ceremony.check_ceremony(setting, rounds[1], rounds[2], rounds[3])
        except ceremony.CeremonyVoid as void:
            replaced = [{"round": number, "trustee": j, "body": body.decode() or None} for number, j, body in messages]
            cases.append({"name": name, "messages": replaced, "culprits": list(void.culprits)})
        else:
            raise AssertionError(f"ceremony: {name} is accepted")
    return {
        "about": "docs/protocol.md, section 6. A case replaces messages of the honest rounds; a body of null means none was sent.",
        "election": setting.election_id.hex(), "attempt": 0, "n": 3, "t": 2, "rounds": [[body.decode() for body in honest[number]] for number in honest],
        "key": joint.key.hex(), "share_keys": [key.hex() for key in joint.share_keys],
        "shares": [group.scalar_bytes(ceremony.share_secret(setting, secret, first, second)).hex() for secret in secrets],
        "cases": cases,
    }  # fmt: skip


def _edited(body: bytes, edit: Callable[[dict[str, Any]], object]) -> bytes:
    value = parse_json(body)
    edit(value)
    return canonical_json(value)


def _flipped(text: str) -> str:
    return _flip(bytes.fromhex(text), len(text) // 2 - 1).hex()


COUNTED_BALLOTS = [
    # position, body, roll index, seen, reason of section 5, held
    (10, "a", 0, 9, 0, True), (11, "b", 0, 11, 0, True), (12, "c", 0, 10, 0, True), (13, "b", 0, 11, 0, True), (14, "d", 1, 15, 0, True),
    (15, "e", 1, 14, 6, True), (16, "f", 1, 14, 0, True), (17, "g", 2, 14, 0, True), (18, "h", 3, 14, 0, True), (19, "i", 2**32 - 1, 0, 1, True),
    (20, "j", 2**32 - 1, 0, 0, False), (21, "k", 6, 20, 0, True), (22, "l", 4, 20, 0, True),
]  # fmt: skip
COUNTED_CHECK_INS = [
    # position, station, (roll index, station time) …
    (30, 0, [(2, 700)]), (31, 0, [(2, 600), (4, 600), (3, 600), (99, 600)]),
]  # fmt: skip


def counting() -> dict[str, Any]:
    """Every fate of a ballot under every combination of the rules: rows 0–2 vote in unit 0, rows 3–5 in unit 1; station s is in unit s."""
    roll = Roll(b"".join(roll_row(group.base(i + 1), i // 3) for i in range(6)), [0, 0])
    changes = [(25, RollChange(group.base(7), "lost", 3, 1)), (26, RollChange(group.base(8), "again", 3, 1))]
    stations = [Station(s, s, (bytes([s + 1]) * 20, bytes([s + 9]) * 20), "") for s in (0, 1)]
    facts = [
        BallotFact(p, hashlib.sha256(body.encode()).digest(), row, seen, Reason(reason), held)
        for p, body, row, seen, reason, held in COUNTED_BALLOTS
    ]
    check_ins = [(p, CheckIns(station, 0, tuple(entries))) for p, station, entries in COUNTED_CHECK_INS]
    state = apply_roll_changes(roll, changes)
    cases = []
    for revote, channel in itertools.product(("last", "first"), ("paper-precedence", "online-precedence")):
        found = count(state, facts, check_ins, stations, revote, channel)
        rows = [row.encode().hex() for row in found.rows]
        cases.append({"revote": revote, "channel": channel, "rows": rows, "root": found.root().hex(),
                      "conflicts": [[c.roll_index, c.first, c.second] for c in found.conflicts], "void_check_ins": found.void_check_ins})  # fmt: skip
    return {
        "about": "docs/protocol.md, section 7. Ballots: position, body (text), roll index, seen, reason of section 5, held.",
        "roll": roll.data.hex(), "unit_styles": roll.unit_styles, "station_units": [0, 1],
        "roll_changes": [{"position": p, "body": change.body().decode()} for p, change in changes],
        "refused_changes": [p for p, _ in state.refused], "ballots": COUNTED_BALLOTS, "check_ins": COUNTED_CHECK_INS, "cases": cases,
    }  # fmt: skip


FILES: dict[str, Callable[[], dict[str, Any]]] = {
    "ballots": ballots,
    "primitives": primitives,
    "decryption": decryption,
    "documents": documents,
    "ceremony": key_ceremony,
    "counting": counting,
}


def examples() -> str:
    """Section 14 of docs/protocol.md: the smallest ballot taken apart, and one of each other encoding."""
    body, voter = make(0, HONEST[0]), group.base(VOTER)
    contest = ELECTION.styles[0][0]
    statement = ballot.statement(ELECTION, contest, 0, 0, 0, voter)
    commitments, sent = body[HEADER + 64 : HEADER + 192], body[HEADER + 192 : HEADER + 208]
    (challenge,) = ballot.challenges(statement, body[HEADER : HEADER + 64], [1], commitments, 1)
    signature = ballot.signature_challenge(ELECTION, 0, 0, voter, body[-64:-32], body[:-64])
    fields = [
        "version 1",
        "roll index 0",
        "seen 7",
        "A_0",
        "B_0",
        "T1_0,0",
        "T2_0,0",
        "T1_0,1",
        "T2_0,1",
        "c_0,0",
        "z_0,0",
        "z_0,1",
        "R",
        "s",
    ]
    sizes = [1, 4, 8, *[32] * 6, 16, *[32] * 4]
    code, nonce = bytes(range(16)), hashlib.sha256(b"election nonce").digest()
    secret = credential.secret_key(code, nonce, 1)
    entry = Entry(Kind.BALLOT, 1_800_000_000, 3, hashlib.sha256(body).digest())
    other = Entry(Kind.CLOSE, 1_800_000_100, 65_535, hashlib.sha256(b"").digest())
    lines = [
        "Hashes and credentials", "",
        *_named('H("weights", "ab", "c")', group.H("weights", b"ab", b"c")),
        *_named("code", code), f"    {'printed':<26}{credential.print_code(code)}",
        *_named("election nonce", nonce), *_named("sk of card serial 1", group.scalar_bytes(secret)), *_named("P", group.base(secret)),
        "", "A ballot for the first option of a contest `yes-no`, one-of-2, the first case of `tests/vectors/ballots.json`; roll index, unit and style are 0", "",
        *_named("context", ELECTION.context), *_named("K", ELECTION.key), *_named("sk", group.scalar_bytes(VOTER)), *_named("P", voter),
        *_named("seed", hashlib.sha256(b"seed").digest()), *_named("S", statement),
        *_named("e_0", challenge.to_bytes(16, "little")), *_named("c_0,1 = e_0 − c_0,0", ((challenge - group.low128(sent)) % 2**128).to_bytes(16, "little")),
        *_named("c of the signature", signature.to_bytes(16, "little")), "",
    ]  # fmt: skip
    place = 0
    for name, size in zip(fields, sizes, strict=True):
        lines += _named(f"{place:>3}  {name}", body[place : place + size])
        place += size
    lines += [
        "", "It in the log, before a close record with an empty body; and as the row of the counted set that says: superseded by position 12", "",
        *_named("SHA-256(body)", entry.body_hash), *_named("entry", entry.encode()), *_named("leaf", entry.leaf()), *_named("leaf of the close", other.leaf()),
        *_named("root", merkle.root([entry.leaf(), other.leaf()])), *_named("row", CountedRow(0, 0, Status.SUPERSEDED, 12).encode()),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _named(name: str, data: bytes) -> list[str]:
    """Lines of a code block: the name, then the bytes by 32."""
    pieces = [data[i : i + 32].hex() for i in range(0, len(data), 32)]
    return [f"    {label:<26}{piece}" for label, piece in zip([name] + [""] * len(pieces), pieces, strict=False)]


def text(name: str) -> str:
    return json.dumps(FILES[name](), indent=1, ensure_ascii=False) + "\n"


def main() -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        (OUT / f"{name}.json").write_text(text(name))
    before, _, _ = SPECIFICATION.read_text().partition(EXAMPLES)
    SPECIFICATION.write_text(before + EXAMPLES + examples())


def _flip(data: bytes, place: int) -> bytes:
    return splice(data, place, bytes([data[place] ^ 1]))


if __name__ == "__main__":
    main()
