import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import merkle
from relayer.receipts import Tree

LEAVES = [hashlib.sha256(bytes([n])).digest() for n in range(130)]


@given(st.data())
def test_root_and_proof_of_any_size_are_those_of_the_reference(data: st.DataObject) -> None:
    total = data.draw(st.integers(1, len(LEAVES)))
    size = data.draw(st.integers(1, total))
    index = data.draw(st.integers(0, size - 1))
    tree = Tree()
    cut = data.draw(st.integers(0, total))
    tree.extend(LEAVES[:cut])
    tree.extend(LEAVES[cut:total])
    assert tree.size == total
    assert tree.root(size) == merkle.root(LEAVES[:size])
    assert tree.proof(index, size) == merkle.inclusion_proof(LEAVES[:size], index)


def test_an_empty_tree_has_the_empty_root() -> None:
    assert Tree().root(0) == merkle.EMPTY_ROOT


@pytest.mark.parametrize(("index", "size"), [(0, 0), (3, 3), (-1, 3), (0, 6)])
def test_there_is_no_proof_outside_the_tree(index: int, size: int) -> None:
    tree = Tree()
    tree.extend(LEAVES[:5])
    with pytest.raises(IndexError):
        tree.proof(index, size)


def test_a_proof_hashes_no_more_than_the_height_of_the_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    tree = Tree()
    tree.extend(LEAVES[:127])
    count = 0

    def counting(left: bytes, right: bytes) -> bytes:
        nonlocal count
        count += 1
        return merkle.node_hash(left, right)

    monkeypatch.setattr("relayer.receipts.node_hash", counting)
    for index in range(127):
        count = 0
        tree.proof(index, 127)
        assert count <= 7
