"""A second verifier, written from docs/protocol.md and the table in docs/checks.md alone: slow, plain, and of nothing the product is made of.

    python tests/second/checker.py DIRECTORY          a record in the form of tests/tamper/README.md

It imports the standard library and libsodium. Keccak-256, the recovery of a secp256k1 signer, RFC 8785 and RFC 9162 are
written out below. Where the product is fast this is direct: one equation at a time, everything in memory, no tables, no batches.

It gives the failing checks by their number in docs/checks.md. `NOT_COVERED` names those that it leaves to the first verifier. A result
that counts an invalid ballot, which the first names E02, it finds as a wrong counted set, K04. Exit status: 0 verified, 1 not, 2 not a record.

Sections: 1 primitives · 2 documents · 3 the counted set, groups and sums · 4 the checks, in order · 5 the command.
"""

from __future__ import annotations

import argparse
import ctypes
import ctypes.util
import hashlib
import json
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

NOT_COVERED = {
    "A01": "the contract's code: it is compared with the artifact that the product ships",
    "A03": "the constructor's arguments: their layout is Solidity's, not the protocol's",
    "E04": "the validators' signatures: evidence of the chain, not of the record",
}
CONFIG = ("C01", "C02", "C03", "C04", "A02", "A04", "A05", "K01", "K02", "I01", "I02", "I03", "I04", "I05", "E01")
"""The checks that are made before the poll opens (● in docs/checks.md)."""

ANYONE, OFFICERS = 65535, 65534
(MANIFEST, CEREMONY, ROLL, OPEN, BALLOT, CHECK_IN, HASH, DOCUMENT, CLOSE, SETTLEMENT, PARTIAL, RESULT, REPORT, COMPLAINT,
 EXTENSION, CHANGE, DECISION) = range(17)  # fmt: skip
ROLE_OF_KIND = {
    CEREMONY: "trustee", ROLL: "registrar", OPEN: "authority", BALLOT: "relayer", PARTIAL: "trustee", RESULT: "authority",
    REPORT: "verifier", EXTENSION: "authority", CHANGE: "registrar", DECISION: "authority",
}  # fmt: skip
SIGNED = (CEREMONY, ROLL, OPEN, PARTIAL, RESULT, REPORT, COMPLAINT, EXTENSION, CHANGE, DECISION)
MAX_BODY = 65_535


class Invalid(Exception):
    """A document or a record is not what the protocol says."""


def need(condition: object, why: str) -> None:
    if not condition:
        raise Invalid(why)


# ---- 1 primitives


def _load_sodium() -> Any:
    name = ctypes.util.find_library("sodium")
    if name:
        return ctypes.CDLL(name)
    from rbcl._sodium import _sodium  # a wheel that carries the library, where the system has none

    return _sodium


SODIUM = _load_sodium()
need(SODIUM.sodium_init() >= 0, "libsodium does not start")
ORDER = 2**252 + 27742317777372353535851937790883648493
ZERO = bytes(32)


def is_point(p: bytes) -> bool:
    """Canonical, bit 255 zero, and not the identity (section 1)."""
    return len(p) == 32 and p[31] < 128 and p != ZERO and SODIUM.crypto_core_ristretto255_is_valid_point(p) == 1


def add(p: bytes, q: bytes) -> bytes:
    out = ctypes.create_string_buffer(32)
    need(SODIUM.crypto_core_ristretto255_add(out, p, q) == 0, "not a point")
    return out.raw


def sub(p: bytes, q: bytes) -> bytes:
    out = ctypes.create_string_buffer(32)
    need(SODIUM.crypto_core_ristretto255_sub(out, p, q) == 0, "not a point")
    return out.raw


@lru_cache(2**16)
def mul(n: int, p: bytes) -> bytes:
    n %= ORDER
    if n == 0 or p == ZERO:
        return ZERO
    out = ctypes.create_string_buffer(32)
    need(SODIUM.crypto_scalarmult_ristretto255(out, n.to_bytes(32, "little"), p) == 0, "not a point")
    return out.raw


@lru_cache(2**16)
def base(n: int) -> bytes:
    n %= ORDER
    out = ctypes.create_string_buffer(32)
    if n:
        SODIUM.crypto_scalarmult_ristretto255_base(out, n.to_bytes(32, "little"))
    return out.raw


def sum_points(points: Sequence[bytes]) -> bytes:
    total = ZERO
    for p in points:
        total = add(total, p)
    return total


def scalar(data: bytes) -> int:
    value = int.from_bytes(data, "little")
    need(value < ORDER, "a scalar is not below the group's order")
    return value


def u(bits: int, x: int) -> bytes:
    return x.to_bytes(bits // 8, "big")


def read(data: bytes) -> int:
    return int.from_bytes(data, "big")


def lp(x: bytes) -> bytes:
    return u(32, len(x)) + x


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def H(tag: str, *parts: bytes) -> bytes:
    return hashlib.sha512(lp(b"ballotboard/v1/" + tag.encode()) + b"".join(map(lp, parts))).digest()


def H128(tag: str, *parts: bytes) -> int:
    return int.from_bytes(H(tag, *parts)[:16], "little")


def knows(name: str, statement: bytes, X: bytes, proof: bytes) -> bool:
    """A proof of knowledge of the discrete logarithm of X (section 1)."""
    R, s = proof[:32], scalar(proof[32:])
    need(is_point(R) and is_point(X), "not a point")
    return base(s) == add(R, mul(H128("pok/" + name, statement, X, R), X))


def equal_logs(name: str, statement: bytes, A: bytes, X: bytes, D: bytes, proof: bytes) -> bool:
    """A proof that X = x·G and D = x·A for one x (section 1)."""
    T1, T2, z = proof[:32], proof[32:64], scalar(proof[64:])
    need(all(map(is_point, (T1, T2, A, X, D))), "not a point")
    c = H128("dleq/" + name, statement, A, X, D, T1, T2)
    return base(z) == add(T1, mul(c, X)) and mul(z, A) == add(T2, mul(c, D))


def tree_root(leaves: Sequence[bytes]) -> bytes:
    """RFC 9162, section 2.1.1, over leaf hashes."""
    if not leaves:
        return sha256(b"")
    if len(leaves) == 1:
        return leaves[0]
    k = 1 << (len(leaves) - 1).bit_length() - 1
    return sha256(b"\x01" + tree_root(leaves[:k]) + tree_root(leaves[k:]))


def root_of_rows(rows: Sequence[bytes]) -> bytes:
    return tree_root([sha256(b"\x00" + row) for row in rows])


_ROTATIONS = ((0, 36, 3, 41, 18), (1, 44, 10, 45, 2), (62, 6, 43, 15, 61), (28, 55, 25, 21, 56), (27, 20, 39, 8, 14))
_M64 = 2**64 - 1


def _round_constants() -> list[int]:
    constants, lfsr = [], 1
    for _ in range(24):
        value = 0
        for j in range(7):
            if lfsr & 1:
                value |= 1 << (1 << j) - 1
            lfsr = (lfsr << 1) ^ (0x171 if lfsr & 0x80 else 0)
        constants.append(value)
    return constants


_CONSTANTS = _round_constants()


def _rotate(x: int, n: int) -> int:
    return ((x << n) | (x >> (64 - n))) & _M64


@cache
def keccak256(data: bytes) -> bytes:
    """Keccak with rate 136 and the padding of 2011, as Ethereum has it (not SHA3-256)."""
    data += b"\x01" + bytes(-(len(data) + 1) % 136)
    data = data[:-1] + bytes([data[-1] | 0x80])
    a = [[0] * 5 for _ in range(5)]
    for at in range(0, len(data), 136):
        for i in range(17):
            a[i % 5][i // 5] ^= int.from_bytes(data[at + 8 * i : at + 8 * i + 8], "little")
        for constant in _CONSTANTS:
            c = [a[x][0] ^ a[x][1] ^ a[x][2] ^ a[x][3] ^ a[x][4] for x in range(5)]
            d = [c[x - 1] ^ _rotate(c[(x + 1) % 5], 1) for x in range(5)]
            b = [[0] * 5 for _ in range(5)]
            for x in range(5):
                for y in range(5):
                    b[y][(2 * x + 3 * y) % 5] = _rotate(a[x][y] ^ d[x], _ROTATIONS[x][y])
            a = [[b[x][y] ^ (~b[(x + 1) % 5][y] & b[(x + 2) % 5][y]) for y in range(5)] for x in range(5)]
            a[0][0] ^= constant
    return b"".join(a[i % 5][i // 5].to_bytes(8, "little") for i in range(4))


_P = 2**256 - 2**32 - 977
_N = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
_G = (
    0x79BE667EF9DCBBAC55A06295CE870B07029BFCDB2DCE28D959F2815B16F81798,
    0x483ADA7726A3C4655DA4FBFC0E1108A8FD17B448A68554199C47D08FFB10D4B8,
    1,
)
_Jacobian = tuple[int, int, int]


def _double(p: _Jacobian) -> _Jacobian:
    x, y, z = p
    s, m = 4 * x * y * y % _P, 3 * x * x % _P
    x3 = (m * m - 2 * s) % _P
    return x3, (m * (s - x3) - 8 * pow(y, 4, _P)) % _P, 2 * y * z % _P


def _add(p: _Jacobian, q: _Jacobian) -> _Jacobian:
    if not p[2] or not q[2]:
        return q if not p[2] else p
    (x1, y1, z1), (x2, y2, z2) = p, q
    u1, u2 = x1 * z2 * z2 % _P, x2 * z1 * z1 % _P
    s1, s2 = y1 * pow(z2, 3, _P) % _P, y2 * pow(z1, 3, _P) % _P
    if u1 == u2:
        return _double(p) if s1 == s2 else (1, 1, 0)
    h, r = u2 - u1, s2 - s1
    x3 = (r * r - h**3 - 2 * u1 * h * h) % _P
    return x3, (r * (u1 * h * h - x3) - s1 * h**3) % _P, h * z1 * z2 % _P


@cache
def recover(digest: bytes, signature: bytes) -> bytes | None:
    """The Ethereum address that made `r || s || v`, None where the signature is malformed or s is in the upper half."""
    if len(signature) != 65:
        return None
    r, s, v = read(signature[:32]), read(signature[32:64]), signature[64]
    if v not in (27, 28) or not 0 < r < _N or not 0 < s <= _N // 2:
        return None
    y = pow(r**3 + 7, (_P + 1) // 4, _P)
    if (y * y - r**3 - 7) % _P:
        return None
    R, inverse = (r, y if y % 2 == v - 27 else _P - y, 1), pow(r, -1, _N)
    a, b = -read(digest) * inverse % _N, s * inverse % _N
    both, total = _add(_G, R), (1, 1, 0)
    for i in range(255, -1, -1):
        total = _double(total) if total[2] else total
        bits = (a >> i & 1, b >> i & 1)
        if any(bits):
            total = _add(total, {(1, 0): _G, (0, 1): R, (1, 1): both}[bits])
    if not total[2]:
        return None
    z = pow(total[2], -1, _P)
    return keccak256(u(256, total[0] * z * z % _P) + u(256, total[1] * z**3 % _P))[12:]


@cache
def signing_digest(chain: int, contract: bytes, kind: int, body_hash: bytes, number: int) -> bytes:
    """EIP-712 of Record(uint8 kind,bytes32 bodyHash,uint64 number) (section 2)."""
    domain = keccak256(
        keccak256(b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)")
        + keccak256(b"Ballotboard") + keccak256(b"1") + u(256, chain) + bytes(12) + contract
    )  # fmt: skip
    record = keccak256(
        keccak256(b"Record(uint8 kind,bytes32 bodyHash,uint64 number)") + u(256, kind) + body_hash + u(256, number)
    )
    return keccak256(b"\x19\x01" + domain + record)


def ed25519(key: bytes, message: bytes, signature: bytes) -> bool:
    return SODIUM.crypto_sign_verify_detached(signature, message, ctypes.c_ulonglong(len(message)), key) == 0


# ---- 2 documents


def canonical(value: Any) -> bytes:
    """RFC 8785: members in the order of their names in UTF-16, nothing but the needful escapes."""
    if isinstance(value, dict):
        names = sorted(value, key=lambda name: name.encode("utf-16-be"))
        return b"{" + b",".join(canonical(n) + b":" + canonical(value[n]) for n in names) + b"}"
    if isinstance(value, list):
        return b"[" + b",".join(map(canonical, value)) + b"]"
    return json.dumps(value, ensure_ascii=False).encode()


def depth(value: Any) -> int:
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max(map(depth, children), default=-1)


@cache
def parse(body: bytes) -> Any:
    """The value of canonical JSON. Nobody changes it: it is kept for the next that asks."""
    try:
        value = json.loads(body.decode())
        need(depth(value) <= 32 and canonical(value) == body, "not canonical JSON")
    except (ValueError, RecursionError) as error:
        raise Invalid("not canonical JSON") from error
    return value


INT, TEXT, BOOL, LIST, OBJECT = int, str, bool, list, dict


def hexed(size: int) -> re.Pattern[str]:
    return re.compile(f"[0-9a-f]{{{2 * size}}}")


def conforms(value: Any, form: Any) -> bool:
    """Whether a value has a form: an object with exactly these members, a list of one form, a literal, or a kind of value."""
    if form is INT:
        return type(value) is int and abs(value) < 2**53
    if isinstance(form, type):
        return type(value) is form
    if isinstance(form, re.Pattern):
        return type(value) is str and form.fullmatch(value) is not None
    if isinstance(form, dict):
        return type(value) is dict and value.keys() == form.keys() and all(conforms(value[k], form[k]) for k in form)
    if isinstance(form, list):
        return type(value) is list and all(conforms(v, form[0]) for v in value)
    if isinstance(form, tuple):
        return any(conforms(value, one) for one in form)
    return type(value) is type(form) and bool(value == form)


def document(body: bytes, form: Any) -> Any:
    value = parse(body)
    need(conforms(value, form), "the document has not its kind's members")
    return value


HEX20, HEX32 = hexed(20), hexed(32)
ATTACHMENT = {"sha256": HEX32, "root": HEX32, "count": INT}
MANIFEST_FORM = {
    "format": "ballotboard/manifest/v1", "name": TEXT,
    "chain": {"id": INT, "engine": ("anvil", "cometbft"), "code_hash": HEX32, "validators": [{"key": HEX32, "power": INT}]},
    "contests": [{"id": TEXT, "title": TEXT, "rule": ("one-of-k", "approval", "up-to-L"), "limit": INT, "options": [TEXT]}],
    "styles": [[INT]], "units": ATTACHMENT, "stations": ATTACHMENT,
    "roles": [{
        "kind": ("authority", "registrar", "cosigner", "trustee", "relayer", "verifier", "data-holder"),
        "name": TEXT, "address": HEX20, "key": (HEX32, ""),
    }],
    "thresholds": {"trustees": INT, "verifiers": INT, "data_holders": INT},
    "windows": dict.fromkeys(("open_not_before", "close", "close_not_after", "append_grace", "count_not_before",
                              "reveal_not_before", "settle_not_before", "decrypt_not_before"), INT),
    "rules": {"revote": ("last", "first"), "channel": ("paper-precedence", "online-precedence"), "minimum_ballots": INT,
              "decrypt_level": INT, "body_mode": ("calldata", "hash")},
    "practice": BOOL, "language": TEXT,
}  # fmt: skip
ROLL_FORM = {
    "count": INT,
    "format": "ballotboard/roll/v1",
    "nonce": HEX32,
    "root": HEX32,
    "sha256": HEX32,
    "units": HEX32,
}
CHANGE_FORM = {"add": HEX32, "format": "ballotboard/roll-change/v1", "reason": TEXT, "revoke": INT, "unit": INT}
PARTIAL_FORM = {
    "format": "ballotboard/partial/v1", "part": INT, "parts": INT, "settlement": HEX32, "trustee": INT,
    "shares": [{"contest": INT, "group": INT, "values": [{"d": HEX32, "proof": (hexed(96), "")}]}],
}  # fmt: skip
PAPER_FORM = {
    "accounting": dict.fromkeys(("counted", "issued", "spoiled", "unreturned"), INT),
    "contests": [{"blank": INT, "contest": INT, "counts": [INT], "invalid": INT}],
    "format": "ballotboard/station-result/v1", "journal": {"closing": HEX32, "opening": HEX32},
    "practice": BOOL, "reason": TEXT, "revision": INT, "salt": HEX32, "station": INT,
}  # fmt: skip
RESULT_FORM = {
    "counted_set": OBJECT, "format": "ballotboard/result/v1", "settlement": TEXT,
    "online": LIST, "paper": LIST, "total": LIST,
}  # fmt: skip
CONTEST_FORM = {"ballots": INT, "groups": [{"ballots": INT, "totals": [INT]}], "totals": [INT]}
STATEMENT = {"class": TEXT, "reference": INT, "text": TEXT}
_MESSAGE = {"attempt": INT, "format": "ballotboard/ceremony/v1", "trustee": INT}
ROUND_FORMS: dict[int, tuple[dict[str, Any], ...]] = {
    1: ({**_MESSAGE, "round": 1, "commitment": HEX32, "encryption_key": HEX32, "proof": hexed(64)},),
    2: ({**_MESSAGE, "round": 2, "commitments": [HEX32], "proof": hexed(64),
         "shares": [{"box": hexed(48), "e": HEX32, "proof": hexed(64), "to": INT}]},),
    3: ({**_MESSAGE, "round": 3, "verdict": "confirm", "key": HEX32, "round2": HEX32},
        {**_MESSAGE, "round": 3, "verdict": "complain", "dealer": INT, "shared": HEX32, "proof": hexed(96)}),
}  # fmt: skip
PROMISE_FORM = {
    "ballot": HEX32, "by": INT, "contract": HEX20, "chain": INT, "format": "ballotboard/promise/v1",
    "head": {"root": HEX32, "size": INT}, "relayer": INT,
}  # fmt: skip


@dataclass
class Contest:
    id: str
    rule: int
    k: int
    limit: int

    @property
    def n(self) -> int:
        return self.k - 1 if self.rule == 1 else self.k

    def branches(self) -> list[int]:
        """m_d of each disjunction (section 5)."""
        if self.rule == 1:
            return [self.k]
        return [2] * self.k + ([self.limit + 1] if self.rule == 3 else [])

    def size(self) -> int:
        return 64 * self.n + sum(64 * m + 16 * (m - 1) + 32 * m for m in self.branches())


def parse_manifest(body: bytes) -> dict[str, Any]:
    m = document(body, MANIFEST_FORM)
    need(m["chain"]["id"] > 0 and all(v["power"] > 0 for v in m["chain"]["validators"]), "chain")
    need(min(m["rules"]["minimum_ballots"], m["rules"]["decrypt_level"]) >= 0, "rules")
    need(m["contests"] and m["styles"] and all(m["styles"]), "contests and styles")
    need(len({c["id"] for c in m["contests"]} - {""}) == len(m["contests"]), "ids of contests")
    need(min(m["units"]["count"], m["stations"]["count"]) >= 0, "rows of an attachment")
    for c in m["contests"]:
        need(len(set(c["options"]) - {""}) == len(c["options"]), "options")
        need(2 <= len(c["options"]) <= 100, "options")
        need(1 <= c["limit"] < len(c["options"]) if c["rule"] == "up-to-L" else c["limit"] == 0, "limit")
    contests = contests_of(m)
    for style in m["styles"]:
        need(len(set(style)) == len(style) and all(0 <= c < len(contests) for c in style), "a style's contests")
        need(13 + 64 + sum(contests[c].size() for c in style) <= MAX_BODY, "a ballot is too long")
    w = m["windows"]
    need(all(0 <= x < 2**40 for x in w.values()), "a time")
    need(w["open_not_before"] < w["close"] <= w["close_not_after"], "windows")
    need(w["close_not_after"] + w["append_grace"] <= w["settle_not_before"] <= w["decrypt_not_before"], "windows")
    need(w["count_not_before"] <= w["reveal_not_before"] <= w["decrypt_not_before"], "windows")
    of_kind = lambda kind: sum(role["kind"] == kind for role in m["roles"])  # noqa: E731
    t = m["thresholds"]
    need(1 <= t["trustees"] <= of_kind("trustee"), "threshold of trustees")
    need(0 <= t["verifiers"] <= of_kind("verifier"), "threshold of verifiers")
    need(
        (m["rules"]["body_mode"] == "hash") <= t["data_holders"] <= of_kind("data-holder"), "threshold of data holders"
    )
    need(all(map(of_kind, ("authority", "registrar", "trustee", "relayer"))), "a role is missing")
    need(len({role["address"] for role in m["roles"]} - {"00" * 20}) == len(m["roles"]), "an account has one role")
    need(len(m["roles"]) < OFFICERS, "too many roles")
    need(all(role["key"] for role in m["roles"] if role["kind"] in ("relayer", "data-holder")), "a role's key")
    return m


def contests_of(m: dict[str, Any]) -> list[Contest]:
    code = {"one-of-k": 1, "approval": 2, "up-to-L": 3}
    return [Contest(c["id"], code[c["rule"]], len(c["options"]), c["limit"]) for c in m["contests"]]


@dataclass
class Row:
    """A line of the log as it was handed out."""

    position: int
    kind: int
    time: int
    role: int
    body_hash: bytes
    body: bytes | None
    number: int
    signatures: list[bytes]

    def leaf(self) -> bytes:
        return sha256(b"\x00" + u(8, self.kind) + u(40, self.time) + u(16, self.role) + self.body_hash)


@dataclass
class Dump:
    chain: int
    contract: bytes
    election_id: bytes | None
    run: str
    size: int
    root: bytes
    roots: list[tuple[int, bytes]]
    rows: list[Row]
    files: dict[bytes, bytes]
    promises: list[Any] | None
    setup: dict[str, Any] | None


def load(folder: Path) -> Dump:
    log = json.loads((folder / "log.json").read_text())
    rows = []
    for line in (folder / "records.jsonl").read_text().splitlines():
        r = json.loads(line)
        signatures = bytes.fromhex(r["signatures"])
        rows.append(Row(
            r["position"], r["kind"], r["time"], r["role"], bytes.fromhex(r["body_hash"]),
            None if r["body"] is None else bytes.fromhex(r["body"]), r["number"],
            [signatures[i : i + 65] for i in range(0, len(signatures), 65)],
        ))  # fmt: skip
    promises, before = folder / "promises.json", folder / "setup.json"
    return Dump(
        log["chain"], bytes.fromhex(log["contract"]), bytes.fromhex(log["election_id"]) if log["election_id"] else None,
        log["run"], log["head"]["size"], bytes.fromhex(log["head"]["root"]),
        [(r["size"], bytes.fromhex(r["root"])) for r in log["roots"]], rows,
        {bytes.fromhex(path.name): path.read_bytes() for path in sorted((folder / "files").iterdir())},
        json.loads(promises.read_text()) if promises.exists() else None,
        json.loads(before.read_text()) if before.exists() else None,
    )  # fmt: skip


# ---- 3 the ballot, the counted set, groups and sums


def ballot_reason(m: Model, body: bytes, position: int) -> int:
    """0 for a valid ballot, else the number of the first reason of section 5 that applies."""
    if len(body) < 13 or body[0] != 1:
        return 1
    index, seen = read(body[1:5]), read(body[5:13])
    if index >= len(m.credentials):
        return 2
    P, unit = m.credentials[index]
    style = m.style(unit)
    if not is_point(P) or style is None:
        return 2
    contests = [m.contests[c] for c in m.manifest["styles"][style]]
    if len(body) != 13 + sum(c.size() for c in contests) + 64:
        return 3
    points, scalars, blocks, at = [], [], [], 13
    for contest in contests:
        cipher, commitments, challenges, responses = [], [], [], []
        for _ in range(contest.n):
            cipher.append((body[at : at + 32], body[at + 32 : at + 64]))
            at += 64
        for m_d in contest.branches():
            commitments.append(
                [(body[at + 64 * j : at + 64 * j + 32], body[at + 64 * j + 32 : at + 64 * j + 64]) for j in range(m_d)]
            )
            at += 64 * m_d
        for m_d in contest.branches():
            challenges.append([int.from_bytes(body[at + 16 * j : at + 16 * j + 16], "little") for j in range(m_d - 1)])
            at += 16 * (m_d - 1)
        for m_d in contest.branches():
            responses.append([int.from_bytes(body[at + 32 * j : at + 32 * j + 32], "little") for j in range(m_d)])
            at += 32 * m_d
        points += [p for pair in cipher for p in pair] + [p for d in commitments for pair in d for p in pair]
        scalars += [z for d in responses for z in d]
        blocks.append((contest, cipher, commitments, challenges, responses))
    R, s = body[at : at + 32], int.from_bytes(body[at + 32 : at + 64], "little")
    if any(z >= ORDER for z in [*scalars, s]):
        return 4
    if not all(map(is_point, [*points, R])):
        return 5
    for block in blocks:
        if not contest_holds(m, index, unit, style, P, *block):
            return 6
    c = H128("ballot-signature", m.context, u(32, unit), u(16, style), P, R, body[:at])
    if base(s) != add(R, mul(c, P)):
        return 7
    return 8 if seen > position else 0


def contest_holds(m: Model, index: int, unit: int, style: int, P: bytes, contest: Contest, cipher: Any, commitments: Any,
                  challenges: Any, responses: Any) -> bool:  # fmt: skip
    S = (m.context + u(32, index) + u(32, unit) + u(16, style) + lp(contest.id.encode()) + u(8, contest.rule)
         + u(16, contest.k) + u(16, contest.limit) + P)  # fmt: skip
    ciphertexts = b"".join(a + b for a, b in cipher)
    rho: list[int] = []
    if contest.rule == 1:
        seed = H("weights", S, ciphertexts)
        for i in range(contest.n):
            block = H("weights-block", seed, u(32, i // 4))
            rho.append(int.from_bytes(block[16 * (i % 4) : 16 * (i % 4) + 16], "little"))
        if contest.k == 2:
            rho = [1]
        disjunctions = [(rho, [*rho, 0])]
    else:
        disjunctions = [([int(i == d) for i in range(contest.k)], [0, 1]) for d in range(contest.k)]
        if contest.rule == 3:
            disjunctions.append(([1] * contest.k, list(range(contest.limit + 1))))
    T = b"".join(t1 + t2 for d in commitments for t1, t2 in d)
    E = H("challenge", S, ciphertexts, b"".join(r.to_bytes(16, "little") for r in rho), T)
    for d, (weights, values) in enumerate(disjunctions):
        X = sum_points([mul(w, a) for w, (a, _) in zip(weights, cipher, strict=True)])
        Y = sum_points([mul(w, b) for w, (_, b) in zip(weights, cipher, strict=True)])
        last = (H128("branch", E, u(16, d)) - sum(challenges[d])) % 2**128
        for value, (T1, T2), c, z in zip(values, commitments[d], [*challenges[d], last], responses[d], strict=True):
            if base(z) != add(T1, mul(c, X)) or mul(z, m.key) != add(T2, mul(c, sub(Y, base(value)))):
                return False
    return True


@dataclass
class Counted:
    position: int
    unit: int
    body: bytes


def groups_of(m: Model, n: dict[int, int]) -> list[list[int]]:
    """The partition of the units into groups for one contest, each as a list of atoms (section 8)."""
    level, minimum = m.manifest["rules"]["decrypt_level"], m.manifest["rules"]["minimum_ballots"]
    weight = {}
    for unit in reversed(range(len(m.units))):
        weight[unit] = n.get(unit, 0) + sum(weight[child] for child in m.children[unit])

    def gather(node: int, deep: int) -> tuple[list[list[int]], list[int]]:
        if deep == level or not m.children[node]:
            return [], [node]
        groups: list[list[int]] = []
        pool: list[int] = []
        for child in m.children[node]:
            found, rest = gather(child, deep + 1)
            groups += found
            pool += rest
            ballots = sum(weight[atom] for atom in pool)
            if ballots >= minimum and ballots >= 1:
                groups, pool = [*groups, pool], []
        if pool and groups:
            groups[-1] = groups[-1] + pool
            pool = []
        return groups, pool

    groups, rest = gather(0, 0)
    if rest and groups:
        groups[-1] = groups[-1] + rest
    elif rest:
        groups = [rest]
    return groups


def leaves_below(m: Model, unit: int) -> list[int]:
    return [unit] + [leaf for child in m.children[unit] for leaf in leaves_below(m, child)]


# ---- 4 the checks


class Model:
    """What the record says, filled in by one check after the other."""

    def __init__(self, dump: Dump) -> None:
        self.dump, self.rows = dump, dump.rows
        self.manifest: dict[str, Any] = {}
        self.contests: list[Contest] = []
        self.roles: list[dict[str, Any]] = []
        self.units: list[dict[str, Any]] = []
        self.children: dict[int, list[int]] = {}
        self.stations: list[tuple[int, list[bytes]]] = []
        self.credentials: list[tuple[bytes, int]] = []
        self.key = self.context = b""
        self.share_keys: dict[int, bytes] = {}

    def style(self, unit: int) -> int | None:
        return self.units[unit]["style"] if unit < len(self.units) and self.units[unit]["style"] >= 0 else None

    def of(self, kind: int) -> list[Row]:
        """The records of a kind that are not void."""
        return [row for row in self.rows if row.kind == kind and row.body is not None and not self.void(row)]

    def void(self, row: Row) -> bool:
        try:
            self.form(row)
        except Invalid:
            return True
        return False

    def form(self, row: Row) -> Any:
        """The document in a record, for the kinds that have a form of their own (section 10)."""
        body, kind = row.body or b"", row.kind
        if kind == CEREMONY:
            value = parse(body)
            need(
                type(value) is dict and all(type(value.get(name)) is int for name in ("attempt", "round", "trustee")),
                "a message",
            )
            need(value.get("format") == "ballotboard/ceremony/v1" and 0 <= value["attempt"] < 2**32, "a message")
            need(value["round"] in ROUND_FORMS, "a message")
            return value
        if kind == ROLL:
            value = document(body, ROLL_FORM)
            need(value["count"] >= 1, "an empty roll")
            return value
        if kind == CHANGE:
            return document(body, CHANGE_FORM)
        if kind == PARTIAL:
            value = document(body, PARTIAL_FORM)
            need(0 <= value["part"] < value["parts"], "parts")
            places = [(s["contest"], s["group"]) for s in value["shares"]]
            need(all(a < b for a, b in pairwise(places)), "shares do not ascend")
            return value
        if kind == DOCUMENT:
            return document(body, PAPER_FORM)
        if kind == RESULT:
            return document(body, RESULT_FORM)
        if kind in (COMPLAINT, DECISION):
            name = "complaint" if kind == COMPLAINT else "decision"
            return document(body, {**STATEMENT, "format": f"ballotboard/{name}/v1"})
        if kind == EXTENSION:
            try:
                return body[5:].decode()
            except UnicodeDecodeError as error:
                raise Invalid("not UTF-8") from error
        need(self.laid_out(row), "not its kind's layout")
        return body

    def laid_out(self, row: Row) -> bool:
        """Whether a record of the kinds with a binary layout has it, and any other from 1 to 65,535 bytes."""
        body, kind = row.body or b"", row.kind
        if kind in (OPEN, HASH, CLOSE, SETTLEMENT):
            with_bitmap = kind == SETTLEMENT and self.hash_mode
            return len(body) == (72 if with_bitmap else 40) and (kind != HASH or read(body[4:8]) > 0)
        if kind == CHECK_IN:
            return (len(body) - 8) % 9 == 0 and 1 <= (len(body) - 8) // 9 <= 1000
        if kind == REPORT:
            return (len(body) == 33 and body[0] == 0) or (len(body) == 98 and body[0] == 1 and body[1] <= 1)
        return kind <= DECISION and 1 <= len(body) <= MAX_BODY

    def trustee(self, role: int) -> int | None:
        trustees = [i for i, r in enumerate(self.roles) if r["kind"] == "trustee"]
        return trustees.index(role) + 1 if role in trustees else None

    @property
    def hash_mode(self) -> bool:
        """False too where there is no manifest that says."""
        return bool(self.manifest) and self.manifest["rules"]["body_mode"] == "hash"

    def not_held(self) -> set[int]:
        """In hash mode, the positions of the ballots that the settlement's bitmap leaves out (sections 3 and 7); before it, of all."""
        if not self.hash_mode:
            return set()
        ballots = {row.position for row in self.rows if row.kind == BALLOT}
        if not self.of(SETTLEMENT):
            return ballots
        (size, _), bitmap = self.settlement, self.dump.files.get(self.bitmap_hash, b"")
        need(len(bitmap) == (size + 7) // 8, "the bitmap is missing or not as long as the log needs")
        held = {p for p in range(8 * len(bitmap)) if bitmap[p // 8] >> p % 8 & 1}
        need(all(p < size and p in ballots for p in held), "the bitmap speaks of what is no ballot")
        return {p for p in ballots if p < size} - held

    @property
    def bitmap_hash(self) -> bytes:
        return (self.of(SETTLEMENT)[0].body or b"")[40:]

    @property
    def settlement(self) -> tuple[int, bytes]:
        body = self.of(SETTLEMENT)[0].body or b""
        return read(body[:8]), body[8:40]

    @property
    def result(self) -> Any:
        return self.form(self.of(RESULT)[0])


CHECKS: dict[str, tuple[tuple[str, ...], Callable[[Model], list[Any]]]] = {}


def check(id: str, *needs: str) -> Callable[[Callable[[Model], list[Any]]], Callable[[Model], list[Any]]]:
    """A check gives what is wrong, an empty list where nothing is. It is not run where one that it needs was not passed."""

    def register(function: Callable[[Model], list[Any]]) -> Callable[[Model], list[Any]]:
        CHECKS[id] = needs, function
        return function

    return register


@check("I01")
def manifest(m: Model) -> list[Any]:
    first = m.rows[0] if m.rows else None
    need(first and first.position == 0 and first.kind == MANIFEST and first.body is not None, "there is no manifest")
    m.manifest = parse_manifest(m.rows[0].body or b"")
    m.contests, m.roles = contests_of(m.manifest), m.manifest["roles"]
    return []


@check("C01")
def no_gap(m: Model) -> list[Any]:
    return [i for i, row in enumerate(m.rows) if row.position != i] or ([] if m.rows else ["an empty log"])


@check("C02")
def bodies(m: Model) -> list[Any]:
    not_held = m.not_held()
    missing = [row.position for row in m.rows if row.body is None and row.position not in not_held]
    return missing or ([] if m.rows else ["an empty log"])


@check("C03", "I01")
def files(m: Model) -> list[Any]:
    named = [m.manifest["units"]["sha256"], m.manifest["stations"]["sha256"]] + [
        m.form(r)["sha256"] for r in m.of(ROLL)[:1]
    ]
    named += [m.bitmap_hash.hex()] if m.hash_mode and m.of(SETTLEMENT) else []
    return [name for name in named if sha256(m.dump.files.get(bytes.fromhex(name), b"")).hex() != name]


@check("C04", "I01")
def setup(m: Model) -> list[Any]:
    return [kind for kind in (ROLL, CEREMONY) if not m.of(kind)]


@check("C05", "I01")
def ended(m: Model) -> list[Any]:
    return [kind for kind in (OPEN, CLOSE, SETTLEMENT, RESULT) if not m.of(kind)]


@check("A02", "I01")
def election_id(m: Model) -> list[Any]:
    return ["another election"] if m.dump.election_id not in (None, sha256(m.rows[0].body or b"")) else []


@check("A04", "I01")
def roles(m: Model) -> list[Any]:
    wrong = []
    for row in m.rows:
        kind = m.roles[row.role]["kind"] if row.role < len(m.roles) else None
        if row.kind in (MANIFEST, DOCUMENT, CLOSE, SETTLEMENT):
            right = row.role == ANYONE
        elif row.kind in (CHECK_IN, HASH):
            right = row.role == OFFICERS
        elif row.kind == COMPLAINT or row.kind > DECISION:
            right = kind is not None
        else:
            right = kind is not None and kind == ROLE_OF_KIND.get(row.kind)
        if not right:
            wrong.append(row.position)
    return wrong


@check("A05", "I01", "C01", "A04")
def signatures(m: Model) -> list[Any]:
    numbers: dict[int, int] = defaultdict(int)
    wrong = []

    def by(row: Row, signature: bytes, role: int) -> bool:
        digest = signing_digest(m.dump.chain, m.dump.contract, row.kind, row.body_hash, numbers[role])
        return recover(digest, signature) == bytes.fromhex(m.roles[role]["address"])

    for row in m.rows:
        signers: list[int] = []
        if row.kind in (CHECK_IN, HASH):
            continue
        if row.kind in SIGNED:
            right = row.number == numbers[row.role] and len(row.signatures) == (
                2 if row.kind in (CHANGE, DECISION) else 1
            )
            right = right and by(row, row.signatures[0], row.role)
            signers = [row.role]
            if right and row.kind in (CHANGE, DECISION):
                cosigners = [
                    i for i, r in enumerate(m.roles) if r["kind"] == "cosigner" and by(row, row.signatures[1], i)
                ]
                right, signers = bool(cosigners), signers + cosigners
        elif row.kind == SETTLEMENT and m.hash_mode:
            holders = [i for i, r in enumerate(m.roles) if r["kind"] == "data-holder"]
            signers = [next((i for i in holders if by(row, s, i)), -1) for s in row.signatures]
            right = -1 not in signers and all(a < b for a, b in pairwise(signers))
            right = right and len(signers) >= m.manifest["thresholds"]["data_holders"]
        else:
            right = not row.signatures
        if not right:
            wrong.append(row.position)
        for role in signers:
            numbers[role] += 1
    return wrong


@check("I03", "I01")
def layouts(m: Model) -> list[Any]:
    return [row.position for row in m.rows if row.body is not None and not m.laid_out(row)]


@check("I02", "C01")
def tree(m: Model) -> list[Any]:
    wrong = [row.position for row in m.rows if row.body is not None and sha256(row.body) != row.body_hash]
    leaves = [row.leaf() for row in m.rows]
    sizes = [size for size, _ in m.dump.roots]
    wrong += [
        size - 1 for size, root in m.dump.roots if not 0 <= size <= len(leaves) or tree_root(leaves[:size]) != root
    ]
    if sizes != sorted(set(sizes)) or sizes[-1:] != [len(leaves)]:
        wrong.append("the roots do not lead to the head")
    if (m.dump.size, m.dump.root) != (len(leaves), tree_root(leaves)):
        wrong.append("head")
    return wrong


@check("K01", "I01", "C01")
def windows(m: Model) -> list[Any]:
    w, phase, close, rolls, last = m.manifest["windows"], "setup", m.manifest["windows"]["close"], 0, 0
    partials, wrong = 0, []
    grace = w["append_grace"]
    for row in m.rows:
        t, k = row.time, row.kind
        right = {
            MANIFEST: row.position == 0,
            CEREMONY: phase == "setup",
            ROLL: phase == "setup" and not rolls,
            OPEN: phase == "setup" and rolls and w["open_not_before"] <= t < close,
            BALLOT: phase == "open" and t < close + grace,
            CHECK_IN: phase in ("open", "closed") and t < w["settle_not_before"],
            HASH: phase != "final" and t >= w["count_not_before"],
            DOCUMENT: phase != "final" and t >= w["reveal_not_before"],
            CLOSE: phase == "open" and t >= close + grace,
            SETTLEMENT: phase == "closed" and t >= w["settle_not_before"],
            PARTIAL: phase == "settled" and t >= w["decrypt_not_before"],
            RESULT: phase == "settled" and partials,
            REPORT: phase == "final",
            COMPLAINT: True,
            EXTENSION: phase == "open" and t < close,
            CHANGE: phase == "open" and t < close,
            DECISION: phase in ("open", "closed"),
        }.get(k, True)
        if k == EXTENSION and row.body is not None and len(row.body) >= 5:
            later = read(row.body[:5])
            right = right and close < later <= w["close_not_after"]
            close = later if right else close
        if not right or t < last:
            wrong.append(row.position)
        last = max(last, t)
        rolls += k == ROLL
        partials += k == PARTIAL
        phase = (
            {OPEN: "open", CLOSE: "closed", SETTLEMENT: "settled", RESULT: "final"}.get(k, phase) if right else phase
        )
    return wrong


@check("K02", "C01", "I01")
def heads(m: Model) -> list[Any]:
    leaves = [row.leaf() for row in m.rows]
    return [
        row.position for i, row in enumerate(m.rows)
        if row.kind in (OPEN, CLOSE, SETTLEMENT) and row.body is not None
        and row.body[:40] != u(64, i) + tree_root(leaves[:i])
    ]  # fmt: skip


def split_rows(data: bytes) -> list[bytes]:
    rows, at = [], 0
    while at < len(data):
        need(at + 2 <= len(data), "a row's length is cut off")
        size = read(data[at : at + 2])
        need(at + 2 + size <= len(data), "a row is cut off")
        rows.append(data[at + 2 : at + 2 + size])
        at += 2 + size
    return rows


@check("I04", "I01", "C03")
def places(m: Model) -> list[Any]:
    tables = []
    for name in ("units", "stations"):
        a = m.manifest[name]
        rows = split_rows(m.dump.files.get(bytes.fromhex(a["sha256"]), b""))
        need((root_of_rows(rows).hex(), len(rows)) == (a["root"], a["count"]), f"{name}: another root or count")
        tables.append(rows)
    m.units = [document(row, {"level": TEXT, "name": TEXT, "parent": INT, "style": INT}) for row in tables[0]]
    m.children = {i: [] for i in range(len(m.units))}
    need(m.units and m.units[0]["parent"] == -1, "row 0 is not the root")
    for i, unit in enumerate(m.units):
        need(i == 0 or 0 <= unit["parent"] < i, "a parent is not an earlier row")
        need(-1 <= unit["style"] < len(m.manifest["styles"]), "an unknown style")
        if i:
            m.children[unit["parent"]].append(i)
    for i, unit in enumerate(m.units):
        need((unit["style"] >= 0) == (not m.children[i]), "leaf units have a style, others none")
    for i, row in enumerate(tables[1]):
        need(len(row) >= 9 and read(row[:4]) == i, "a station's number is not its position")
        unit, n = read(row[4:8]), row[8]
        officers = [row[9 + 20 * j : 29 + 20 * j] for j in range(n)]
        need(len(set(officers)) == n >= 2 and len(row) >= 9 + 20 * n and m.style(unit) is not None, "a station")
        try:
            row[9 + 20 * n :].decode()
        except UnicodeDecodeError as error:
            raise Invalid("a station's name") from error
        m.stations.append((unit, officers))
    return []


@check("I05", "C04", "I04")
def roll(m: Model) -> list[Any]:
    record = m.form(m.of(ROLL)[0])
    data = m.dump.files[bytes.fromhex(record["sha256"])]
    need(len(data) % 36 == 0, "a row is cut off")
    rows = [data[i : i + 36] for i in range(0, len(data), 36)]
    m.credentials = [(row[:32], read(row[32:])) for row in rows]
    need((root_of_rows(rows).hex(), len(rows)) == (record["root"], record["count"]), "another root or count")
    per_unit: dict[int, int] = defaultdict(int)
    for _, unit in m.credentials:
        per_unit[unit] += 1
    need(sha256(b"".join(u(32, k) + u(32, v) for k, v in sorted(per_unit.items()))).hex() == record["units"], "units")
    order = [(unit, P) for P, unit in m.credentials]
    wrong = [i + 1 for i, (a, b) in enumerate(pairwise(order)) if a >= b]
    wrong += [i for i, (P, unit) in enumerate(m.credentials) if not is_point(P) or m.style(unit) is None]
    return wrong or (
        [] if len({P for P, _ in m.credentials}) == len(m.credentials) else ["a credential is there twice"]
    )


@check("E01", "I01", "C04")
def ceremony(m: Model) -> list[Any]:
    trustees, t = [i for i, r in enumerate(m.roles) if r["kind"] == "trustee"], m.manifest["thresholds"]["trustees"]
    n, opened = len(trustees), next((row.position for row in m.of(OPEN)), len(m.rows))
    messages = [(row, m.form(row)) for row in m.of(CEREMONY) if row.position <= opened]
    messages = [(row, value) for row, value in messages if value["trustee"] == m.trustee(row.role)]
    attempt = max((value["attempt"] for _, value in messages), default=0)
    rounds: dict[int, dict[int, Row]] = {1: {}, 2: {}, 3: {}}
    for row, value in messages:
        if value["attempt"] == attempt:
            rounds[value["round"]].setdefault(value["trustee"], row)
    for number, found in rounds.items():
        for row in found.values():
            need(any(conforms(m.form(row), form) for form in ROUND_FORMS[number]), "an invalid message")
    need(all(len(found) == n for found in rounds.values()), "not every trustee has confirmed")
    ceremony_id = sha256(lp(b"ballotboard/v1/ceremony") + sha256(m.rows[0].body or b"") + u(32, attempt))
    first, second, third = ({j: m.form(row) for j, row in sorted(rounds[r].items())} for r in (1, 2, 3))
    x = bytes.fromhex
    digest = b"".join(sha256(rounds[1][j].body or b"") for j in range(1, n + 1))
    for j in range(1, n + 1):
        statement = ceremony_id + u(16, j)
        need(knows("encryption-key", statement, x(first[j]["encryption_key"]), x(first[j]["proof"])), "round 1")
        C = [x(c) for c in second[j]["commitments"]]
        need(len(C) == t and all(map(is_point, C)), "round 2: commitments")
        opening = sha256(lp(b"ballotboard/v1/commitments") + statement + b"".join(C))
        need(opening.hex() == first[j]["commitment"], "round 2: not what was committed to")
        need(knows("round-2", statement + digest, C[0], x(second[j]["proof"])), "round 2: proof")
        need([s["to"] for s in second[j]["shares"]] == [i for i in range(1, n + 1) if i != j], "round 2: receivers")
        for s in second[j]["shares"]:
            about = statement + u(16, s["to"]) + x(first[s["to"]]["encryption_key"])
            need(knows("share", about, x(s["e"]), x(s["proof"])), "round 2: a share's proof")
    commitments = {j: [x(c) for c in second[j]["commitments"]] for j in second}
    m.key = sum_points([C[0] for C in commitments.values()])
    need(m.key != ZERO, "the key is the identity")
    for j in range(1, n + 1):
        m.share_keys[j] = sum_points([mul(j**e, c) for C in commitments.values() for e, c in enumerate(C)])
    agreed = sha256(b"".join(sha256(rounds[2][j].body or b"") for j in range(1, n + 1))).hex()
    need(ZERO not in m.share_keys.values(), "a share key is the identity")
    for message in third.values():
        need(message["verdict"] == "confirm", "a trustee complains")
        need((message["key"], message["round2"]) == (m.key.hex(), agreed), "a trustee confirms another key")
    return []


@check("A06", "I04", "C01")
def officers(m: Model) -> list[Any]:
    wrong = []
    for row in m.rows:
        if row.kind in (CHECK_IN, HASH) and row.body is not None and not m.void(row):
            station, number = read(row.body[:4]), read(row.body[4:8])
            digest = signing_digest(m.dump.chain, m.dump.contract, row.kind, row.body_hash, number)
            by = {recover(digest, s) for s in row.signatures}
            named = m.stations[station][1] if station < len(m.stations) else []
            if row.number != number or len(row.signatures) != 2 or len(by) != 2 or not by <= set(named):
                wrong.append(row.position)
    return wrong


@check("K03", "C01", "I01")
def stations_follow(m: Model) -> list[Any]:
    batches: dict[int, int] = defaultdict(int)
    revisions: dict[int, int] = defaultdict(int)
    hashes: dict[bytes, tuple[int, int]] = {}
    latest: dict[int, bytes] = {}
    revealed: set[bytes] = set()
    wrong = []
    for row in m.rows:
        if row.body is None or (row.kind != DOCUMENT and m.void(row)):
            continue
        if row.kind == CHECK_IN:
            station, batch = read(row.body[:4]), read(row.body[4:8])
            right = batch == batches[station]
            batches[station] += 1
        elif row.kind == HASH:
            station, revision, digest = read(row.body[:4]), read(row.body[4:8]), row.body[8:40]
            right = revision == revisions[station] + 1 and digest not in hashes
            if row.time >= m.manifest["windows"]["reveal_not_before"] and revisions[station]:
                right = right and latest[station] in revealed
            revisions[station] += 1
            hashes[digest], latest[station] = (station, revision), digest
        elif row.kind == DOCUMENT:
            digest = sha256(row.body)
            right = digest in hashes and digest not in revealed
            if right and not m.void(row):
                right = (m.form(row)["station"], m.form(row)["revision"]) == hashes[digest]
            revealed.add(digest)
        else:
            continue
        if not right:
            wrong.append(row.position)
    return wrong


def standing(m: Model) -> dict[int, tuple[int, dict[str, Any] | None]]:
    """Of each station its last revision, and the document, None where it is not revealed or void."""
    said: dict[int, tuple[int, bytes]] = {}
    for row in m.of(HASH):
        body = row.body or b""
        said[read(body[:4])] = max(said.get(read(body[:4]), (0, b"")), (read(body[4:8]), body[8:40]))
    shown = {sha256(row.body or b""): m.form(row) for row in m.of(DOCUMENT)}
    return {station: (revision, shown.get(digest)) for station, (revision, digest) in said.items()}


def adds_up(m: Model, station: int, revision: int, d: dict[str, Any]) -> bool:
    """Section 9: names this station and revision, and agrees with itself."""
    a, unit = d["accounting"], m.stations[station][0]
    style = m.manifest["styles"][m.units[unit]["style"]]
    if (d["station"], d["revision"], d["practice"]) != (station, revision, m.manifest["practice"]):
        return False
    if min(a.values()) < 0 or a["issued"] != a["counted"] + a["spoiled"] + a["unreturned"]:
        return False
    if [c["contest"] for c in d["contests"]] != style:
        return False
    for c in d["contests"]:
        contest, options = m.contests[c["contest"]], m.manifest["contests"][c["contest"]]["options"]
        if len(c["counts"]) != contest.k or min([*c["counts"], c["blank"], c["invalid"]]) < 0:
            return False
        valid = a["counted"] - c["blank"] - c["invalid"]
        if ("blank" in options and c["blank"]) or valid < 0:
            return False
        if contest.rule == 1 and sum(c["counts"]) != valid:
            return False
        if contest.rule != 1 and max(c["counts"]) > valid:
            return False
        if contest.rule == 3 and sum(c["counts"]) > contest.limit * valid:
            return False
    return True


@check("C06", "E01", "I05", "C05")
def stations_reported(m: Model) -> list[Any]:
    found = standing(m)
    return [station for station in range(len(m.stations)) if found.get(station, (0, None))[1] is None]


@check("I06", "K03", "E01", "I05", "C05")
def sheets(m: Model) -> list[Any]:
    return [s for s, (revision, d) in standing(m).items() if d is not None and not adds_up(m, s, revision, d)]


def paper_results(m: Model) -> dict[int, dict[str, Any]]:
    return {s: d for s, (revision, d) in standing(m).items() if d is not None and adds_up(m, s, revision, d)}


@check("E02", "C01", "C02", "C05", "I04", "I05", "E01", "K02")
def ballots(m: Model) -> list[Any]:
    """Gives every ballot its status and collects those that count. What it finds is compared by K04."""
    m.context = H("context", u(64, m.manifest["chain"]["id"]), m.dump.contract, m.of(OPEN)[0].leaf())
    size, _ = m.settlement
    revoked: dict[int, int] = {}
    for row in m.of(CHANGE):
        c = m.form(row)
        live = 0 <= c["revoke"] < len(m.credentials) and c["revoke"] not in revoked
        new = bytes.fromhex(c["add"]) not in {P for P, _ in m.credentials} and is_point(bytes.fromhex(c["add"]))
        if row.position < size and live and new and c["unit"] == m.credentials[c["revoke"]][1]:
            revoked[c["revoke"]] = row.position
            m.credentials.append((bytes.fromhex(c["add"]), c["unit"]))
    status: dict[int, tuple[int, int]] = {}
    first: dict[bytes, int] = {}
    valid: dict[int, list[tuple[int, int]]] = defaultdict(list)
    not_held = m.not_held()
    for row in m.rows[:size]:
        if row.kind != BALLOT:
            continue
        body, p = row.body or b"", row.position
        earlier = first.setdefault(row.body_hash, p)
        if p in not_held:
            status[p] = 6, 0
            continue
        if earlier != p:
            status[p] = 4, earlier
            continue
        reason = ballot_reason(m, body, p)
        if reason:
            status[p] = 5, reason
        elif read(body[1:5]) in revoked:
            status[p] = 3, revoked[read(body[1:5])]
        else:
            valid[read(body[1:5])].append((read(body[5:13]), p))
    papers: dict[int, tuple[int, int]] = {}
    m.checked_in = defaultdict(int)  # type: ignore[attr-defined]
    entries = []
    for row in m.of(CHECK_IN):
        body = row.body or b""
        for at in range(8, len(body), 9) if row.position < size else ():
            entries.append((read(body[at + 4 : at + 9]), row.position, read(body[:4]), read(body[at : at + 4])))
    for time, position, station, index in sorted(entries, key=lambda e: e[:2]):
        if index < len(m.credentials) and index not in revoked and station < len(m.stations):
            if m.credentials[index][1] == m.stations[station][0]:
                papers.setdefault(index, (time, position))
                m.checked_in[station] += 1  # type: ignore[attr-defined]
    m.counted = []  # type: ignore[attr-defined]
    rules = m.manifest["rules"]
    for index, cast in valid.items():
        stands = max(cast)[1] if rules["revote"] == "last" else min(p for _, p in cast)
        for _, p in cast:
            status[p] = 1, stands
        if index in papers and rules["channel"] == "paper-precedence":
            status[stands] = 2, papers[index][1]
        else:
            status[stands] = 0, 0
            m.counted.append(Counted(stands, m.credentials[index][1], m.rows[stands].body or b""))  # type: ignore[attr-defined]
    table = []
    for p, (s, reference) in sorted(status.items()):
        body = m.rows[p].body or b""
        index = read(body[1:5]) if len(body) >= 13 and body[0] == 1 and s != 6 else 2**32 - 1
        table.append(u(64, p) + u(32, index) + u(8, s) + u(64, reference))
    m.attempts = len(table)  # type: ignore[attr-defined]
    m.counted_root = root_of_rows(table)  # type: ignore[attr-defined]
    return []


@check("K04", "C05", "E02")
def counted_set(m: Model) -> list[Any]:
    found = {"counted": len(m.counted), "root": m.counted_root.hex(), "size": m.attempts}  # type: ignore[attr-defined]
    return [] if m.result["counted_set"] == found else ["the counted set"]


@check("K05", "C05", "E02")
def groups(m: Model) -> list[Any]:
    m.groups, wrong = [], []  # type: ignore[attr-defined]
    for c, contest in enumerate(m.contests):
        of_unit: dict[int, list[Counted]] = defaultdict(list)
        for ballot in m.counted:  # type: ignore[attr-defined]
            if c in m.manifest["styles"][m.style(ballot.unit)]:
                of_unit[ballot.unit].append(ballot)
        found = []
        for atoms in groups_of(m, {unit: len(b) for unit, b in of_unit.items()}):
            members = [b for atom in atoms for unit in leaves_below(m, atom) for b in of_unit.get(unit, [])]
            sums = [(ZERO, ZERO)] * contest.n
            for ballot in members:
                style = m.manifest["styles"][m.style(ballot.unit)]
                at = 13 + sum(m.contests[e].size() for e in style[: style.index(c)])
                pairs = [
                    (ballot.body[at + 64 * i : at + 64 * i + 32], ballot.body[at + 64 * i + 32 : at + 64 * i + 64])
                    for i in range(contest.n)
                ]
                sums = [(add(a, x), add(b, y)) for (a, b), (x, y) in zip(sums, pairs, strict=True)]
            found.append((len(members), sums))
        m.groups.append(found)  # type: ignore[attr-defined]
        online = m.result["online"][c] if c < len(m.result["online"]) else None
        if not conforms(online, CONTEST_FORM) or [g["ballots"] for g in online["groups"]] != [n for n, _ in found]:
            wrong.append(c)
    return wrong + (["contests"] if len(m.result["online"]) != len(m.contests) else [])


@check("E03", "E02")
def decryptions(m: Model) -> list[Any]:
    if not hasattr(m, "groups"):
        groups(m)
    root, t = m.settlement[1], m.manifest["thresholds"]["trustees"]
    shares: dict[tuple[int, int], dict[int, list[bytes]]] = defaultdict(dict)
    for row in m.of(PARTIAL):
        value = m.form(row)
        mine = value["settlement"] == root.hex() and value["trustee"] == m.trustee(row.role)
        for share in value["shares"] if mine else ():
            place = share["contest"], share["group"]
            try:
                need(0 <= place[0] < len(m.contests) and 0 <= place[1] < len(m.groups[place[0]]), "no such group")  # type: ignore[attr-defined]
                ballots_, sums = m.groups[place[0]][place[1]]  # type: ignore[attr-defined]
                need(ballots_ and len(share["values"]) == len(sums), "not the group's values")
                j = value["trustee"]
                for i, (v, (A, B)) in enumerate(zip(share["values"], sums, strict=True)):
                    about = m.context + root + u(16, place[0]) + u(32, place[1]) + u(16, i) + B + u(16, j)
                    D, proof = bytes.fromhex(v["d"]), bytes.fromhex(v["proof"])
                    if A == ZERO:
                        need(D == ZERO and not proof, "the identity")
                    else:
                        need(proof and equal_logs("partial", about, A, m.share_keys[j], D, proof), "a proof")
                shares[place].setdefault(j, [bytes.fromhex(v["d"]) for v in share["values"]])
            except Invalid:
                continue
    m.totals, wrong = [], []  # type: ignore[attr-defined]
    for c, found in enumerate(m.groups):  # type: ignore[attr-defined]
        rows = []
        for g, (count, sums) in enumerate(found):
            values = [0] * len(sums)
            chosen = sorted(shares[c, g].items())[:t]
            if count and len(chosen) < t:
                wrong.append((c, g))
            elif count:
                for i, (_, B) in enumerate(sums):
                    M = B
                    for j, D in chosen:
                        weight = 1
                        for other, _ in chosen:
                            if other != j:
                                weight = weight * other * pow(other - j, -1, ORDER) % ORDER
                        M = sub(M, mul(weight, D[i]))
                    values[i] = next((x for x in range(count + 1) if base(x) == M), -1)
                    if values[i] < 0:
                        wrong.append((c, g, i))
            if m.contests[c].rule == 1:
                values.append(count - sum(values))
                wrong += [(c, g)] if values[-1] < 0 else []
            rows.append({"ballots": count, "totals": values})
        totals = [sum(row["totals"][i] for row in rows) for i in range(m.contests[c].k)]
        m.totals.append({"ballots": sum(n for n, _ in found), "groups": rows, "totals": totals})  # type: ignore[attr-defined]
    return wrong


@check("K06", "K05", "E03")
def online_totals(m: Model) -> list[Any]:
    return [c for c, found in enumerate(m.totals) if m.result["online"][c] != found]  # type: ignore[attr-defined]


@check("K07", "C05", "E01", "I05")
def paper_totals(m: Model) -> list[Any]:
    m.paper = []  # type: ignore[attr-defined]
    for c, contest in enumerate(m.contests):
        sheet = {"blank": 0, "counted": 0, "invalid": 0, "totals": [0] * contest.k}
        for d in paper_results(m).values():
            for e in d["contests"]:
                if e["contest"] == c:
                    sheet["blank"] += e["blank"]
                    sheet["invalid"] += e["invalid"]
                    sheet["counted"] += d["accounting"]["counted"]
                    sheet["totals"] = [a + b for a, b in zip(sheet["totals"], e["counts"], strict=True)]
        m.paper.append(sheet)  # type: ignore[attr-defined]
    return [] if m.result["paper"] == m.paper else ["paper"]  # type: ignore[attr-defined]


@check("K08", "K04", "K05", "K06", "K07")
def result_record(m: Model) -> list[Any]:
    right = {
        "counted_set": {"counted": len(m.counted), "root": m.counted_root.hex(), "size": m.attempts},  # type: ignore[attr-defined]
        "format": "ballotboard/result/v1", "online": m.totals, "paper": m.paper,  # type: ignore[attr-defined]
        "settlement": m.of(SETTLEMENT)[0].leaf().hex(),
        "total": [[a + b for a, b in zip(o["totals"], p["totals"], strict=True)] for o, p in zip(m.totals, m.paper, strict=True)],  # type: ignore[attr-defined]
    }  # fmt: skip
    return [] if canonical(right) == m.of(RESULT)[0].body else ["the result"]


@check("K09", "C06", "I06", "K03", "E02")
def reconciliation(m: Model) -> list[Any]:
    if m.manifest["practice"]:
        return []
    issued = {s: d["accounting"]["issued"] for s, d in paper_results(m).items()}
    return [s for s in range(len(m.stations)) if issued.get(s, 0) != m.checked_in[s]]  # type: ignore[attr-defined]


@check("E05", "K04")
def reports(m: Model) -> list[Any]:
    settlement, result = m.of(SETTLEMENT)[0].leaf(), m.of(RESULT)[0].leaf()
    state = sha256(settlement + result + m.counted_root + sha256(b"ballotboard/rules/v1"))  # type: ignore[attr-defined]
    committed: dict[int, bytes] = {}
    last: dict[int, tuple[bool, bytes]] = {}
    wrong = []
    for row in m.of(REPORT):
        body = row.body or b""
        if body[0] == 0:
            committed[row.role] = body[1:]
        elif committed.get(row.role) != sha256(body):
            wrong.append(row.position)
        else:
            last[row.role] = bool(body[1]), body[2:34]
    others: dict[bytes, int] = defaultdict(int)
    for good, said in last.values():
        others[said] += good and said != state
    enough = max(1, m.manifest["thresholds"]["verifiers"])
    return wrong + [said.hex() for said, count in others.items() if count >= enough]


@check("K10", "C01", "I01")
def setup_seen_before(m: Model) -> list[Any]:
    seen = m.dump.setup
    if seen is None:
        return []
    if (seen["election"], seen["chain"], seen["contract"]) != (
        sha256(m.rows[0].body or b"").hex(),
        m.dump.chain,
        m.dump.contract.hex(),
    ):
        return ["another board"]
    size, leaves = seen["head"]["size"], [row.leaf() for row in m.rows]
    return [] if size <= len(leaves) and tree_root(leaves[:size]).hex() == seen["head"]["root"] else ["another log"]


@check("E06", "I01", "C01")
def promises(m: Model) -> list[Any]:
    wrong = []
    leaves = [row.leaf() for row in m.rows]
    for i, signed in enumerate(m.dump.promises or []):
        try:
            need(conforms(signed, {"promise": PROMISE_FORM, "signature": hexed(64)}), "not a promise")
            p = signed["promise"]
            need((p["chain"], p["contract"]) == (m.dump.chain, m.dump.contract.hex()), "another board")
            need(0 <= p["relayer"] < len(m.roles) and m.roles[p["relayer"]]["kind"] == "relayer", "not a relayer")
            key = bytes.fromhex(m.roles[p["relayer"]]["key"])
            need(
                ed25519(key, b"ballotboard/v1/promise" + canonical(p), bytes.fromhex(signed["signature"])), "signature"
            )
            need(
                any(r.kind == BALLOT and r.body_hash.hex() == p["ballot"] and r.time <= p["by"] for r in m.rows),
                "not kept",
            )
            size = p["head"]["size"]
            need(0 <= size <= len(leaves) and tree_root(leaves[:size]).hex() == p["head"]["root"], "another log")
        except Invalid as error:
            wrong.append((i, str(error)))
    return wrong


# ---- 5 the command


@dataclass
class Verdict:
    verified: bool
    fails: dict[str, list[Any]]
    not_run: list[str]
    online: dict[str, list[int]]
    paper: dict[str, list[int]]


def verify(dump: Dump) -> Verdict:
    m, fails, not_run, passed = Model(dump), {}, [], set()  # type: tuple[Model, dict[str, list[Any]], list[str], set[str]]
    for id, (needs, function) in CHECKS.items():
        if dump.run == "config" and id not in CONFIG:
            continue
        if not passed.issuperset(needs):
            not_run.append(id)
            continue
        try:
            wrong = function(m)
        except Invalid as error:
            wrong = [str(error)]
        if wrong:
            fails[id] = wrong
        else:
            passed.add(id)
    ids = [contest.id for contest in m.contests]
    online = [c["totals"] for c in m.totals] if "E03" in passed else []  # type: ignore[attr-defined]
    paper = [c["totals"] for c in getattr(m, "paper", [])]
    return Verdict(
        not fails and not not_run,
        fails,
        not_run,
        dict(zip(ids, online, strict=False)),
        dict(zip(ids, paper, strict=False)),
    )


def main() -> int:
    parser = argparse.ArgumentParser(description="verify a record of a Ballotboard election")
    parser.add_argument("folder", type=Path, help="a folder with log.json, records.jsonl and files/")
    parser.add_argument("--election", help="election id as printed on voters' cards, instead of the one in log.json")
    given = parser.parse_args()
    try:
        dump = load(given.folder)
        dump.election_id = bytes.fromhex(given.election) if given.election else dump.election_id
        found = verify(dump)
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"cannot read this record: {error!r}", file=sys.stderr)
        return 2
    print(json.dumps(vars(found), indent=1, default=str))
    return 0 if found.verified else 1


if __name__ == "__main__":
    sys.exit(main())
