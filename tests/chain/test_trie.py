"""The Merkle-Patricia tree: every key is found, every absence proven, and nothing else."""

from __future__ import annotations

import pytest
import rlp
from eth_hash.auto import keccak
from hypothesis import given
from hypothesis import strategies as st

from chain import trie
from chain.errors import BadEvidence

keys = st.binary(min_size=1, max_size=5) | st.integers(0, 300).map(rlp.encode)
values = st.binary(min_size=1, max_size=60)


def fixed(pairs: dict[bytes, bytes]) -> dict[bytes, bytes]:
    """As the EVM has it: no key is the beginning of another."""
    return {keccak(key): value for key, value in pairs.items()}


def test_known_roots():
    # the first from the Yellow Paper, the others from ethereum/tests, trieanyorder.json
    assert trie.Tree({}).root.hex() == "56e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421"
    dogs = {b"doe": b"reindeer", b"dog": b"puppy", b"dogglesworth": b"cat"}
    assert trie.Tree(dogs).root.hex() == "8aad789dff2f538bca5d8ea56e8abe10f4c7ba3a5dea95fea4cd6e7c3a1168d3"
    puppy = {b"do": b"verb", b"horse": b"stallion", b"doge": b"coin", b"dog": b"puppy"}
    assert trie.Tree(puppy).root.hex() == "5991bb8c6514148a29db676a14ac506cd2cd5775ace63c30a4fe457715e9ac84"


@given(st.dictionaries(keys, values, max_size=40), keys)
def test_what_is_there_is_found_and_what_is_not_is_proven_absent(pairs, other):
    tree = trie.Tree(pairs)
    for key, value in pairs.items():
        assert trie.get(tree.root, key, trie.Nodes(tree.proof(key))) == value
    assert trie.get(tree.root, other, trie.Nodes(tree.proof(other))) == pairs.get(other)


@given(st.dictionaries(keys, values, min_size=1, max_size=40), st.data())
def test_without_one_of_its_nodes_a_proof_proves_nothing(pairs, data):
    tree = trie.Tree(fixed(pairs))
    key = data.draw(st.sampled_from(sorted(fixed(pairs))))
    proof = tree.proof(key)
    proof.pop(data.draw(st.integers(0, len(proof) - 1)))
    with pytest.raises(BadEvidence, match="lacks the tree node"):
        trie.get(tree.root, key, trie.Nodes(proof))


@given(st.dictionaries(keys, values, min_size=1, max_size=20), st.data())
def test_a_flipped_bit_anywhere_in_a_proof_is_noticed(pairs, data):
    tree = trie.Tree(fixed(pairs))
    key = data.draw(st.sampled_from(sorted(fixed(pairs))))
    proof = tree.proof(key)
    number = data.draw(st.integers(0, len(proof) - 1))
    bit = data.draw(st.integers(0, 8 * len(proof[number]) - 1))
    changed = bytearray(proof[number])
    changed[bit // 8] ^= 1 << bit % 8
    proof[number] = bytes(changed)
    with pytest.raises(BadEvidence, match="lacks the tree node"):
        trie.get(tree.root, key, trie.Nodes(proof))


@pytest.mark.parametrize(
    ("node", "says"),
    [
        (b"\xff", "not RLP"),
        (rlp.encode(b"text"), "neither branch"),
        (rlp.encode([b"\x20", b"a", b"b"]), "neither branch"),
        (rlp.encode([b"\x40", b"value"]), "malformed path"),
        (rlp.encode([b"\x01", b"value"]), "malformed path"),
        (rlp.encode([b"", b"value"]), "malformed path"),
        (rlp.encode([[b"\x20"], b"value"]), "a list where a value must be"),
        (rlp.encode([b"\x20", [b"value"]]), "a list where a value must be"),
    ],
    ids=["no RLP", "a string", "three items", "unknown flag", "padding", "no path", "path a list", "value a list"],
)
def test_a_malformed_node_is_refused_even_under_the_right_hash(node, says):
    with pytest.raises(BadEvidence, match=says):
        trie.get(keccak(node), b"", {keccak(node): node})
