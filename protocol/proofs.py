"""The two generic proofs: knowledge of a discrete logarithm, and equality of two (docs/protocol.md, section 1).

Both are sent in commitment form, so that a verifier may check many as one random linear combination.
"""

from __future__ import annotations

from protocol.errors import Malformed
from protocol.group import H, add, base, low128, mul, parse_point, parse_scalar, random_scalar, scalar_bytes

POK_BYTES = 64
DLEQ_BYTES = 96


def prove_knowledge(name: str, statement: bytes, x: int) -> bytes:
    """`R || s`, 64 bytes: a proof of knowledge of x with X = x·G, bound to a name and a statement."""
    w = random_scalar()
    commitment = base(w)
    challenge = low128(H("pok/" + name, statement, base(x), commitment))
    return commitment + scalar_bytes(w + challenge * x)


def verify_knowledge(name: str, statement: bytes, public: bytes, proof: bytes) -> bool:
    """True if `proof` shows knowledge of log_G(public). Malformed bytes are simply false."""
    try:
        parse_point(public, "public")
        commitment, response = parse_point(proof[:32], "R"), parse_scalar(proof[32:], "s")
    except Malformed:
        return False
    challenge = low128(H("pok/" + name, statement, public, commitment))
    return base(response) == add(commitment, mul(challenge, public))


def prove_equality(name: str, statement: bytes, x: int, other: bytes) -> bytes:
    """`T1 || T2 || z`, 96 bytes: a proof that X = x·G and D = x·other have the same logarithm."""
    w = random_scalar()
    t1, t2 = base(w), mul(w, other)
    challenge = low128(H("dleq/" + name, statement, other, base(x), mul(x, other), t1, t2))
    return t1 + t2 + scalar_bytes(w + challenge * x)


def verify_equality(name: str, statement: bytes, public: bytes, other: bytes, image: bytes, proof: bytes) -> bool:
    """True if log_G(public) = log_other(image) is proven. Malformed bytes, and the identity anywhere, are false."""
    try:
        for point in (public, other, image):
            parse_point(point, "point")
        t1, t2 = parse_point(proof[:32], "T1"), parse_point(proof[32:64], "T2")
        response = parse_scalar(proof[64:], "z")
    except Malformed:
        return False
    challenge = low128(H("dleq/" + name, statement, other, public, image, t1, t2))
    return base(response) == add(t1, mul(challenge, public)) and mul(response, other) == add(t2, mul(challenge, image))
