"""Points, proofs, logarithms, trees, hashes and credentials of `ballotboard_native`, against the reference."""

import json
from hashlib import sha256

import ballotboard_native as native
import pytest
from eth_utils import keccak
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol import credential, merkle, proofs
from protocol.encoding import u32
from protocol.group import IDENTITY, ORDER, add, base, mul, scalar_bytes, total
from protocol.records import Entry, Kind, pack_bodies
from tests.native.world import secret
from tests.shared_data import shared

POINTS = [base(secret(f"point {i}")) for i in range(7)]


def cut(data, width=32):
    return [data[i : i + width] for i in range(0, len(data), width)]


# ---------------------------------------------------------------- points


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 100])
def test_columns_of_points_are_added(count, plain):
    rows = [[POINTS[(i * j) % 7] if (i + j) % 5 else IDENTITY for j in range(3)] for i in range(count)]
    expected = [total([row[j] for row in rows]) for j in range(3)]
    for threads in (1, 2):
        assert cut(native.add_ciphertexts(3, b"".join(map(b"".join, rows)), threads, plain)) == expected


@pytest.mark.parametrize("plain", [False, True])
def test_every_invalid_encoding_of_rfc_9496_is_refused_in_every_lane(plain):
    invalid = json.loads(shared("vectors", "ristretto255", "rfc9496.json").read_text())["invalid_encodings"]
    for i, encoding in enumerate(bytes.fromhex(text) for texts in invalid.values() for text in texts):
        rows = POINTS + POINTS
        rows[i % 14] = encoding
        with pytest.raises(ValueError, match=f"row {i % 14}: not the canonical"):
            native.add_ciphertexts(1, b"".join(rows), 1, plain)


def test_points_are_multiplied_also_by_zero_and_summed_by_row():
    scalars = [0, 1, ORDER - 1, secret("x")]
    assert cut(native.mul_points(scalar_bytes(secret("x")), b"".join(POINTS))) == [mul(secret("x"), p) for p in POINTS]
    rows = [[POINTS[(i + j) % 7] for j in range(4)] for i in range(130)]
    expected = [total([mul(x, p) for x, p in zip(scalars, row, strict=True)]) for row in rows]
    packed = b"".join(map(b"".join, rows))
    assert cut(native.mul_points(b"".join(map(scalar_bytes, scalars)), packed, 2)) == expected


# ---------------------------------------------------------------- proofs of equality


def prove(x, statements, points):
    """(D, proof) of each point."""
    answer = native.dleq_prove_many("partial", pack_bodies(statements), scalar_bytes(x), b"".join(points), 2)
    return [(piece[:32], piece[32:]) for piece in cut(answer, 128)]


STATEMENTS = [b"", b"a", b"statement" * 100, b"b", b"c", b"d", b"e"]
X = secret("share")
PROVEN = prove(X, STATEMENTS, POINTS)


def check(public, statements, points, images, all_proofs, name="partial"):
    """The verdicts of a batch, the same in lanes and without."""
    packed = pack_bodies(statements), public, b"".join(points), b"".join(images), b"".join(all_proofs)
    answers = {native.dleq_verify_many(name, *packed, threads, plain) for threads in (1, 2) for plain in (False, True)}
    assert len(answers) == 1
    return list(answers.pop())


def test_the_reference_accepts_the_proofs_and_no_two_nonces_are_alike():
    for statement, point, (image, proof) in zip(STATEMENTS, POINTS, PROVEN, strict=True):
        assert image == mul(X, point)
        assert proofs.verify_equality("partial", statement, base(X), point, image, proof)
    assert len({proof[:32] for _, proof in PROVEN + prove(X, STATEMENTS, POINTS)}) == 14


def test_proofs_of_the_reference_are_accepted():
    made = [proofs.prove_equality("partial", s, X, p) for s, p in zip(STATEMENTS, POINTS, strict=True)]
    assert check(base(X), STATEMENTS, POINTS, [mul(X, p) for p in POINTS], made) == [1] * 7


@pytest.mark.parametrize(
    "part", ["statement", "point", "image", "t1", "t2", "z", "z of the order", "identity", "no point"]
)
def test_one_wrong_proof_is_named_and_the_reference_agrees(part):
    statements, points = list(STATEMENTS), list(POINTS)
    images, made = (list(column) for column in zip(*PROVEN, strict=True))
    proof = made[3]
    match part:
        case "statement":
            statements[3] = b"other"
        case "point":
            points[3] = POINTS[2]
        case "image":
            images[3] = add(images[3], POINTS[0])
        case "t1":
            made[3] = add(proof[:32], POINTS[0]) + proof[32:]
        case "t2":
            made[3] = proof[:32] + add(proof[32:64], POINTS[0]) + proof[64:]
        case "z":
            made[3] = proof[:64] + scalar_bytes(int.from_bytes(proof[64:], "little") + 1)
        case "z of the order":
            made[3] = proof[:64] + (int.from_bytes(proof[64:], "little") + ORDER).to_bytes(32, "little")
        case "identity":
            images[3] = IDENTITY
        case "no point":
            made[3] = b"\xff" * 32 + proof[32:]
    expected = [
        proofs.verify_equality("partial", s, base(X), p, d, proof)
        for s, p, d, proof in zip(statements, points, images, made, strict=True)
    ]
    assert expected == [i != 3 for i in range(7)]
    assert check(base(X), statements, points, images, made) == expected


def test_proofs_for_another_name_or_key_are_refused():
    images, made = zip(*PROVEN, strict=True)
    assert check(base(X), STATEMENTS, POINTS, images, made, "complaint") == [0] * 7
    for public in (base(X + 1), IDENTITY, b"\xff" * 32):
        assert check(public, STATEMENTS, POINTS, images, made) == [0] * 7


# ---------------------------------------------------------------- logarithms


@pytest.mark.parametrize("maximum", [0, 1, 2, 1000, 10**6, 10**9])
def test_logarithms_up_to_the_maximum_are_found_and_none_beyond(maximum):
    numbers = sorted({0, 1, 7, maximum // 2, maximum - 1, maximum, maximum + 1, maximum + 2, ORDER - 1} - {-1})
    found = native.discrete_logs(b"".join(map(base, numbers)), maximum, 2)
    assert found == [m if m <= maximum else None for m in numbers]


def test_every_small_logarithm_is_found():
    assert native.discrete_logs(b"".join(map(base, range(300))), 299) == list(range(300))


# ---------------------------------------------------------------- trees


@pytest.mark.parametrize("size", [*range(18), 31, 32, 33, 100])
def test_roots_and_inclusion_proofs_are_those_of_the_reference(size):
    leaves = [merkle.leaf_hash(b"%d" % i) for i in range(size)]
    packed = b"".join(leaves)
    assert native.merkle_root(packed) == merkle.root(leaves)
    for index in range(size):
        assert cut(native.inclusion_proof(packed, index)) == merkle.inclusion_proof(leaves, index)


def test_entries_and_their_leaves_are_those_of_the_reference():
    bodies = [b"", b"body", b"x" * 65535]
    made = [
        Entry(Kind.BALLOT, 1_800_000_000 + i, 3 + i, sha256(body).digest()).encode() for i, body in enumerate(bodies)
    ]
    entries = native.entries(b"".join(entry[:8] for entry in made), pack_bodies(bodies))
    assert cut(entries, 40) == made
    assert cut(native.leaf_hashes(entries)) == [merkle.leaf_hash(entry) for entry in made]
    assert native.leaf_hash_rows(entries, 40) == native.leaf_hashes(entries)
    assert cut(native.leaf_hash_rows(entries, 20)) == [merkle.leaf_hash(row) for row in cut(entries, 20)]


# ---------------------------------------------------------------- hashes and credentials


@given(st.lists(st.binary(max_size=300)))
def test_hashes_of_many_pieces_are_the_hashes_of_each(pieces):
    assert cut(native.sha256_many(pack_bodies(pieces))) == [sha256(piece).digest() for piece in pieces]
    packed = b"".join(u32(len(piece)) + piece for piece in pieces)
    assert cut(native.keccak256_many(packed)) == [keccak(piece) for piece in pieces]


@settings(deadline=None, max_examples=20)
@given(st.lists(st.binary(min_size=16, max_size=16), max_size=5), st.integers(0, 2**64 - 10))
def test_keys_of_consecutive_cards_are_those_of_the_reference(codes, serial):
    nonce = sha256(b"nonce").digest()
    secrets = [credential.secret_key(code, nonce, serial + i) for i, code in enumerate(codes)]
    for plain in (False, True):
        keys = native.credentials(b"".join(codes), nonce, serial, 1, plain)
        assert cut(keys) == [base(sk) for sk in secrets]
    for i, (code, sk) in enumerate(zip(codes, secrets, strict=True)):
        assert native.credential_secret(code, nonce, serial + i) == scalar_bytes(sk)


def test_more_cards_than_a_batch_keep_their_serials():
    codes = [sha256(b"%d" % i).digest()[:16] for i in range(1000)]
    together = native.credentials(b"".join(codes), bytes(32), 5, 2)
    assert together == b"".join(native.credentials(code, bytes(32), 5 + i) for i, code in enumerate(codes))


# ---------------------------------------------------------------- proofs of knowledge, multiples of fixed points


def test_proofs_of_knowledge_are_accepted_and_each_fault_is_named_in_its_place():
    secrets = [secret(f"signer {i}") for i in range(19)]
    statements = [b"statement %d" % i * i for i in range(19)]
    public = [base(x) for x in secrets]
    found = [proofs.prove_knowledge("unit-sum", s, x) for s, x in zip(statements, secrets, strict=True)]
    high = (int.from_bytes(found[0][32:], "little") + ORDER).to_bytes(32, "little")
    wrong = {
        1: {"proof": found[2]}, 3: {"statement": b"another"}, 5: {"public": public[6]}, 7: {"public": IDENTITY},
        9: {"proof": IDENTITY + found[9][32:]}, 11: {"proof": found[11][:32] + b"\xff" * 32}, 13: {"public": b"\xff" * 32},
        15: {"proof": found[15][:31] + bytes([found[15][31] | 128]) + found[15][32:]}, 0: {"proof": found[0][:32] + high},
    }  # fmt: skip
    claims = [{"statement": s, "public": p, "proof": f} for s, p, f in zip(statements, public, found, strict=True)]
    for changes in ({}, wrong):
        changed = [claim | changes.get(i, {}) for i, claim in enumerate(claims)]
        expected = bytes(proofs.verify_knowledge("unit-sum", c["statement"], c["public"], c["proof"]) for c in changed)
        assert expected == bytes(i not in changes for i in range(19))
        packed = pack_bodies(c["statement"] for c in changed), *(b"".join(c[n] for c in changed) for n in ("public", "proof"))  # fmt: skip
        for threads in (1, 2):
            for plain in (False, True):
                assert native.knowledge_verify_many("unit-sum", *packed, threads, plain) == expected
        assert not any(native.knowledge_verify_many("another-name", *packed))


def test_lists_of_proofs_and_statements_must_be_of_one_length():
    for wrong in (
        (b"", POINTS[0], bytes(64)),
        (pack_bodies([b""]), b"", bytes(64)),
        (pack_bodies([b""]), POINTS[0], b""),
    ):
        with pytest.raises(ValueError, match=r"for [01] statements"):
            native.knowledge_verify_many("unit-sum", *wrong)


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("count", [0, 1, 7, 8, 300])
def test_multiples_of_fixed_points_are_summed_by_row(count, plain):
    fixed = POINTS[:2]
    scalars = [[(0, 1, ORDER - 1, secret(f"s {i} {j}"))[(i + j) % 4] for j in range(2)] for i in range(count)]
    expected = [total([mul(x, p) for x, p in zip(row, fixed, strict=True)]) for row in scalars]
    packed = b"".join(scalar_bytes(x) for row in scalars for x in row)
    for threads in (1, 2):
        assert cut(native.fixed_rows(b"".join(fixed), packed, threads, plain)) == expected


def test_fixed_points_and_scalars_that_are_none_are_named():
    one = scalar_bytes(1)
    with pytest.raises(ValueError, match=r"points\[1\]: not the canonical"):
        native.fixed_rows(POINTS[0] + b"\xff" * 32, one * 2)
    with pytest.raises(ValueError, match=r"scalars\[601\]: not below the group order"):
        native.fixed_rows(POINTS[0] + POINTS[1], one * 601 + b"\xff" * 32)
    with pytest.raises(ValueError, match="are no rows for 2 points"):
        native.fixed_rows(POINTS[0] + POINTS[1], one)
    with pytest.raises(ValueError, match="are no rows for 0 points"):
        native.fixed_rows(b"", one)
