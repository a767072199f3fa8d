import base64
import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import merkle
from tests.shared_data import shared

LEAVES = [merkle.leaf_hash(bytes([i])) for i in range(70)]


def rfc_root(leaves):
    """Section 2.1.1 word for word: the slow definition that the frontier is held against."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return merkle.node_hash(rfc_root(leaves[:k]), rfc_root(leaves[k:]))


def unb64(text):
    return base64.b64decode(text) if text else b""


def test_published_roots():
    data = json.loads(shared("vectors", "merkle", "rfc6962_roots.json").read_text())
    leaves = [merkle.leaf_hash(bytes.fromhex(leaf)) for leaf in data["leaf_inputs_hex"]]
    assert [merkle.root(leaves[:n]).hex() for n in range(len(leaves) + 1)] == data["root_hex_by_size"]


def test_published_inclusion_proofs_are_accepted_and_refused_as_expected():
    count = 0
    for line in shared("vectors", "merkle", "inclusion.jsonl").read_text().splitlines():
        case = json.loads(line)
        proof = [unb64(node) for node in case["proof"] or []]
        answer = merkle.verify_inclusion(
            unb64(case["leafHash"]), case["leafIdx"], case["treeSize"], proof, unb64(case["root"])
        )
        assert answer != case["wantErr"], case["file"]
        count += 1
    assert count > 40


def test_published_consistency_proofs_are_accepted_and_refused_as_expected():
    count = 0
    for line in shared("vectors", "merkle", "consistency.jsonl").read_text().splitlines():
        case = json.loads(line)
        if not case["size1"]:
            continue  # a proof from the empty tree says nothing: this product never asks for one
        proof = [unb64(node) for node in case["proof"] or []]
        answer = merkle.verify_consistency(
            case["size1"], unb64(case["root1"]), case["size2"], unb64(case["root2"]), proof
        )
        assert answer != case["wantErr"], case["file"]
        count += 1
    assert count > 40


@pytest.mark.parametrize("size", range(len(LEAVES)))
def test_the_frontier_gives_the_root_of_the_definition(size):
    assert merkle.root(LEAVES[:size]) == rfc_root(LEAVES[:size])


@given(st.integers(1, 70).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n - 1), st.integers(0, 69))))
def test_an_inclusion_proof_proves_its_leaf_and_no_other(case):
    size, index, other = case
    proof = merkle.inclusion_proof(LEAVES[:size], index)
    root = merkle.root(LEAVES[:size])
    assert merkle.verify_inclusion(LEAVES[index], index, size, proof, root)
    if other != index:
        assert not merkle.verify_inclusion(LEAVES[other], index, size, proof, root)
        assert not merkle.verify_inclusion(LEAVES[index], other, size, proof, root)
    assert not merkle.verify_inclusion(LEAVES[index], index, size, [*proof, proof[0] if proof else root], root)


@given(st.integers(1, 70).flatmap(lambda n: st.tuples(st.integers(1, n), st.just(n))))
def test_a_consistency_proof_proves_the_extension_and_nothing_else(case):
    old, new = case
    proof = merkle.consistency_proof(LEAVES[:new], old)
    roots = merkle.root(LEAVES[:old]), merkle.root(LEAVES[:new])
    assert merkle.verify_consistency(old, roots[0], new, roots[1], proof)
    if old < new:
        assert not merkle.verify_consistency(old, roots[1], new, roots[1], proof)
        assert not merkle.verify_consistency(old, roots[0], new, roots[0], proof)
