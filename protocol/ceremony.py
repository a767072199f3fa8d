"""The key ceremony: t-of-n Pedersen DKG, every message a record (docs/protocol.md, section 6).

`TrusteeSecret` holds what one trustee must keep; `round1`, `round2`, `round3` make its messages from the messages of the
others; `check_ceremony` is what anybody computes from the record: the joint key, the share keys, or who is at fault.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from nacl.exceptions import CryptoError
from nacl.secret import SecretBox

from protocol.encoding import canonical_json, lp, members, parse_json, u16, u32, unhex
from protocol.errors import BallotboardError, Malformed
from protocol.group import (
    IDENTITY,
    ORDER,
    H,
    add,
    base,
    mul,
    parse_point,
    parse_scalar,
    random_scalar,
    scalar_bytes,
    total,
)
from protocol.proofs import DLEQ_BYTES, POK_BYTES, prove_equality, prove_knowledge, verify_equality, verify_knowledge

FORMAT = "ballotboard/ceremony/v1"
BOX_BYTES = 48
"""A sealed share: 32 bytes and SecretBox's 16-byte tag. The nonce is zero, each key is used once."""


class CeremonyVoid(BallotboardError):
    """This attempt gives no key. `culprits` are trustee numbers; a new attempt starts with fresh keys."""

    def __init__(self, reason: str, culprits: Sequence[int] = ()) -> None:
        self.culprits = tuple(culprits)
        super().__init__(reason)


class CeremonyIncomplete(CeremonyVoid):
    """Not over yet: `culprits` are missing from the first round that lacks somebody, and nothing before it is wrong."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What a ceremony is about: election id (32 bytes), attempt, n trustees, threshold t."""

    election_id: bytes
    attempt: int
    n: int
    t: int

    @property
    def id(self) -> bytes:
        return hashlib.sha256(lp(b"ballotboard/v1/ceremony") + self.election_id + u32(self.attempt)).digest()


@dataclass
class TrusteeSecret:
    """What trustee `number` keeps until the tally: the decryption key q of its shares, its polynomial, and at the end its share x."""

    number: int
    q: int
    polynomial: list[int] = field(repr=False)

    @staticmethod
    def draw(number: int, threshold: int) -> TrusteeSecret:
        return TrusteeSecret(number, random_scalar(), [random_scalar() for _ in range(threshold)])

    def share_for(self, other: int) -> int:
        return sum(a * pow(other, m, ORDER) for m, a in enumerate(self.polynomial)) % ORDER


@dataclass(frozen=True)
class JointKey:
    """The result of a ceremony: K, and the share key X_j of each trustee (index j − 1)."""

    key: bytes
    share_keys: tuple[bytes, ...]


# ---------------------------------------------------------------- messages


def round1(setting: Setting, secret: TrusteeSecret) -> bytes:
    """The body that commits to the polynomial and names the encryption key."""
    commitments = [base(a) for a in secret.polynomial]
    statement = setting.id + u16(secret.number)
    return _body(
        setting, 1, secret.number,
        commitment=_commitment(setting, secret.number, commitments).hex(),
        encryption_key=base(secret.q).hex(),
        proof=prove_knowledge("encryption-key", statement, secret.q).hex(),
    )  # fmt: skip


def round2(setting: Setting, secret: TrusteeSecret, first: Sequence[bytes]) -> bytes:
    """The body that opens the commitments and seals a share for every other trustee. `first` are all n round-1 bodies."""
    keys = [_read1(setting, j, body)[1] for j, body in enumerate(first, 1)]
    shares = []
    for j in range(1, setting.n + 1):
        if j == secret.number:
            continue
        ephemeral = random_scalar()
        e = base(ephemeral)
        box = _box(setting, secret.number, j, e, keys[j - 1], mul(ephemeral, keys[j - 1]))
        sealed = box.encrypt(scalar_bytes(secret.share_for(j)), bytes(SecretBox.NONCE_SIZE)).ciphertext
        proof = prove_knowledge("share", _share_statement(setting, secret.number, j, keys[j - 1]), ephemeral)
        shares.append({"box": sealed.hex(), "e": e.hex(), "proof": proof.hex(), "to": j})
    return _body(
        setting, 2, secret.number,
        commitments=[base(a).hex() for a in secret.polynomial],
        proof=prove_knowledge("round-2", _possession(setting, secret.number, first), secret.polynomial[0]).hex(),
        shares=shares,
    )  # fmt: skip


def round3(setting: Setting, secret: TrusteeSecret, first: Sequence[bytes], second: Sequence[bytes]) -> bytes:
    """The body that confirms the joint key, or the complaint that proves a dealer's share wrong."""
    dealt = check_dealing(setting, first, second)
    for dealer in range(1, setting.n + 1):
        if dealer != secret.number and _open_share(setting, secret, dealer, first, dealt) is None:
            return complaint(setting, secret, dealer, dealt)
    return _body(
        setting,
        3,
        secret.number,
        key=_joint(setting, dealt).key.hex(),
        round2=_round2_hash(second).hex(),
        verdict="confirm",
    )


def complaint(setting: Setting, secret: TrusteeSecret, dealer: int, dealt: Sequence[_Dealing]) -> bytes:
    """A complaint against a dealer: it opens the shared secret of that one share, which anyone can then check."""
    e = dealt[dealer - 1].shares[secret.number][0]
    statement = setting.id + u16(dealer) + u16(secret.number)
    return _body(
        setting, 3, secret.number, dealer=dealer,
        proof=prove_equality("complaint", statement, secret.q, e).hex(),
        shared=mul(secret.q, e).hex(), verdict="complain",
    )  # fmt: skip


def share_secret(setting: Setting, secret: TrusteeSecret, first: Sequence[bytes], second: Sequence[bytes]) -> int:
    """x_j, the trustee's share of the joint secret. Raises CeremonyVoid if a dealer's share does not open."""
    dealt = check_dealing(setting, first, second)
    x = secret.share_for(secret.number)
    for dealer in range(1, setting.n + 1):
        if dealer != secret.number:
            share = _open_share(setting, secret, dealer, first, dealt)
            if share is None:
                raise CeremonyVoid(f"the share of trustee {dealer} for trustee {secret.number} does not open", [dealer])
            x += share
    return x % ORDER


# ---------------------------------------------------------------- what anybody checks


def read_message(body: bytes) -> tuple[int, int, int]:
    """(attempt, round, trustee) of a ceremony record; raises Malformed."""
    value = parse_json(body, "ceremony")
    if not isinstance(value, dict) or any(type(value.get(name)) is not int for name in ("attempt", "round", "trustee")):
        raise Malformed("ceremony", "needs integers attempt, round and trustee")
    if value.get("format") != FORMAT or not 0 <= value["attempt"] < 2**32 or value["round"] not in (1, 2, 3):
        raise Malformed("ceremony", f"needs format {FORMAT}, attempt from 0 and a round from 1 to 3")
    return value["attempt"], value["round"], value["trustee"]


def check_ceremony(
    setting: Setting, first: Sequence[bytes | None], second: Sequence[bytes | None], third: Sequence[bytes | None]
) -> JointKey:
    """The joint key of a complete ceremony; each list has the body of trustee j at j − 1, or None where absent.

    Raises CeremonyVoid naming who is absent, wrong, or rightly or wrongly accused.
    """
    for number, bodies in enumerate((first, second, third), 1):
        absent = [j for j, body in enumerate(bodies, 1) if body is None]
        if number < 3 and absent:
            raise CeremonyIncomplete(f"round {number} is missing from trustees {absent}", absent)
    dealt = check_dealing(setting, first, second)  # type: ignore[arg-type]
    joint = _joint(setting, dealt)
    for j, body in enumerate(third, 1):
        if body is not None:
            _check_round3(setting, j, body, joint, first, second, dealt)  # type: ignore[arg-type]
    absent = [j for j, body in enumerate(third, 1) if body is None]
    if absent:
        raise CeremonyIncomplete(f"round 3 is missing from trustees {absent}", absent)
    return joint


@dataclass(frozen=True)
class _Dealing:
    """Round 2 of one dealer, checked: commitments, and per recipient (E, box)."""

    commitments: list[bytes]
    shares: dict[int, tuple[bytes, bytes]]


def check_dealing(setting: Setting, first: Sequence[bytes], second: Sequence[bytes]) -> list[_Dealing]:
    """All round-1 and round-2 bodies, checked against each other. Raises CeremonyVoid naming the trustee at fault."""
    keys, hashes = [], []
    for j, body in enumerate(first, 1):
        digest, key = _blame(j, _read1, setting, j, body)
        hashes.append(digest)
        keys.append(key)
    return [_blame(j, _read2, setting, j, body, first, hashes[j - 1], keys) for j, body in enumerate(second, 1)]


def _blame(j: int, read: Any, *arguments: Any) -> Any:
    try:
        return read(*arguments)
    except Malformed as error:
        raise CeremonyVoid(f"trustee {j}: {error}", [j]) from error


def _read1(setting: Setting, j: int, body: bytes) -> tuple[bytes, bytes]:
    value = _value(setting, 1, j, body, commitment=str, encryption_key=str, proof=str)
    key = parse_point(unhex(value["encryption_key"], 32, "encryption_key"), "encryption_key")
    if not verify_knowledge("encryption-key", setting.id + u16(j), key, unhex(value["proof"], POK_BYTES, "proof")):
        raise Malformed("ceremony.proof", "the encryption key's proof of knowledge fails")
    return unhex(value["commitment"], 32, "commitment"), key


def _read2(setting: Setting, j: int, body: bytes, first: Sequence[bytes], digest: bytes, keys: list[bytes]) -> _Dealing:
    value = _value(setting, 2, j, body, commitments=list, proof=str, shares=list)
    if len(value["commitments"]) != setting.t:
        raise Malformed("ceremony.commitments", f"needs {setting.t}")
    commitments = [parse_point(unhex(c, 32, "commitments"), "commitments") for c in value["commitments"]]
    if _commitment(setting, j, commitments) != digest:
        raise Malformed("ceremony.commitments", "are not those of round 1")
    if not verify_knowledge(
        "round-2", _possession(setting, j, first), commitments[0], unhex(value["proof"], POK_BYTES, "proof")
    ):
        raise Malformed("ceremony.proof", "the proof of possession fails")
    shares: dict[int, tuple[bytes, bytes]] = {}
    for item in value["shares"]:
        members(item, "shares", box=str, e=str, proof=str, to=int)
        e = parse_point(unhex(item["e"], 32, "shares.e"), "shares.e")
        to = item["to"]
        if not 1 <= to <= setting.n or to == j or (shares and to <= max(shares)):
            raise Malformed("ceremony.shares", "must be one for each other trustee, ascending")
        if not verify_knowledge(
            "share", _share_statement(setting, j, to, keys[to - 1]), e, unhex(item["proof"], POK_BYTES, "shares.proof")
        ):
            raise Malformed("ceremony.shares", f"the proof of the share for trustee {to} fails")
        shares[to] = (e, unhex(item["box"], BOX_BYTES, "shares.box"))
    if len(shares) != setting.n - 1:
        raise Malformed("ceremony.shares", "must be one for each other trustee")
    return _Dealing(commitments, shares)


def _check_round3(
    setting: Setting,
    j: int,
    body: bytes,
    joint: JointKey,
    first: Sequence[bytes],
    second: Sequence[bytes],
    dealt: list[_Dealing],
) -> None:
    verdict = _blame(j, parse_json, body).get("verdict")
    if verdict == "confirm":
        value = _blame(j, _value, setting, 3, j, body, {"key": str, "round2": str, "verdict": str})
        if value["key"] != joint.key.hex() or value["round2"] != _round2_hash(second).hex():
            raise CeremonyVoid(f"trustee {j} confirms another key than the record gives", [j])
        return
    value = _blame(j, _value, setting, 3, j, body, {"dealer": int, "proof": str, "shared": str, "verdict": str})
    dealer = value["dealer"]
    if value["verdict"] != "complain" or not 1 <= dealer <= setting.n or dealer == j:
        raise CeremonyVoid(f"trustee {j}: the verdict is neither a confirmation nor a complaint against another", [j])
    e, sealed = dealt[dealer - 1].shares[j]
    _, key = _read1(setting, j, first[j - 1])
    shared, proof = (
        _blame(j, unhex, value["shared"], 32, "shared"),
        _blame(j, unhex, value["proof"], DLEQ_BYTES, "proof"),
    )
    if not verify_equality("complaint", setting.id + u16(dealer) + u16(j), key, e, shared, proof):
        raise CeremonyVoid(f"trustee {j} complains without proof", [j])
    if _unseal(_box(setting, dealer, j, e, key, shared), sealed, j, dealt[dealer - 1]) is None:
        raise CeremonyVoid(f"trustee {dealer} dealt a wrong share to trustee {j}, as proven by its complaint", [dealer])
    raise CeremonyVoid(f"trustee {j} complains about a share of trustee {dealer} that is right", [j])


# ---------------------------------------------------------------- helpers


def _joint(setting: Setting, dealt: Sequence[_Dealing]) -> JointKey:
    key = total([dealing.commitments[0] for dealing in dealt])
    if key == IDENTITY:
        raise CeremonyVoid("the joint key is the identity", range(1, setting.n + 1))
    shares = [total([_evaluate(dealing.commitments, j) for dealing in dealt]) for j in range(1, setting.n + 1)]
    if IDENTITY in shares:
        raise CeremonyVoid("a share key is the identity", [shares.index(IDENTITY) + 1])
    return JointKey(key, tuple(shares))


def _evaluate(commitments: Sequence[bytes], j: int) -> bytes:
    """Σ j^m·C_m by Horner's rule."""
    result = IDENTITY
    for commitment in reversed(commitments):
        result = add(mul(j, result), commitment)
    return result


def _open_share(
    setting: Setting, secret: TrusteeSecret, dealer: int, first: Sequence[bytes], dealt: Sequence[_Dealing]
) -> int | None:
    e, sealed = dealt[dealer - 1].shares[secret.number]
    box = _box(setting, dealer, secret.number, e, base(secret.q), mul(secret.q, e))
    return _unseal(box, sealed, secret.number, dealt[dealer - 1])


def _unseal(box: SecretBox, sealed: bytes, j: int, dealing: _Dealing) -> int | None:
    try:
        share = parse_scalar(box.decrypt(sealed, bytes(SecretBox.NONCE_SIZE)), "share")
    except (CryptoError, Malformed):
        return None
    return share if base(share) == _evaluate(dealing.commitments, j) else None


def _box(setting: Setting, dealer: int, recipient: int, e: bytes, key: bytes, shared: bytes) -> SecretBox:
    return SecretBox(H("share-key", setting.id, u16(dealer), u16(recipient), e, key, shared)[:32])


def _commitment(setting: Setting, j: int, commitments: Sequence[bytes]) -> bytes:
    return hashlib.sha256(lp(b"ballotboard/v1/commitments") + setting.id + u16(j) + b"".join(commitments)).digest()


def _possession(setting: Setting, j: int, first: Sequence[bytes]) -> bytes:
    return setting.id + u16(j) + b"".join(hashlib.sha256(body).digest() for body in first)


def _share_statement(setting: Setting, dealer: int, recipient: int, key: bytes) -> bytes:
    return setting.id + u16(dealer) + u16(recipient) + key


def _round2_hash(second: Sequence[bytes]) -> bytes:
    return hashlib.sha256(b"".join(hashlib.sha256(body).digest() for body in second)).digest()


def _body(setting: Setting, number: int, trustee: int, **fields: Any) -> bytes:
    return canonical_json({"attempt": setting.attempt, "format": FORMAT, "round": number, "trustee": trustee, **fields})


def _value(
    setting: Setting, number: int, trustee: int, body: bytes, types: dict[str, type] | None = None, **more: type
) -> dict[str, Any]:
    value = members(
        parse_json(body, "ceremony"),
        "ceremony",
        attempt=int,
        format=str,
        round=int,
        trustee=int,
        **(types or {}),
        **more,
    )
    if (value["attempt"], value["format"], value["round"], value["trustee"]) != (
        setting.attempt,
        FORMAT,
        number,
        trustee,
    ):
        raise Malformed("ceremony", f"is not round {number} of trustee {trustee} in attempt {setting.attempt}")
    return value
