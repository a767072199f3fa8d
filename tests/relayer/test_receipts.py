import hashlib
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import engine, merkle
from relayer.receipts import Tree

ENTRIES = [bytes(8) + hashlib.sha256(bytes([n])).digest() for n in range(130)]
LEAVES = [merkle.leaf_hash(entry) for entry in ENTRIES]


@given(st.data())
def test_root_and_proof_of_any_size_are_those_of_the_reference(data: st.DataObject) -> None:
    total = data.draw(st.integers(1, len(LEAVES)))
    size = data.draw(st.integers(1, total))
    index = data.draw(st.integers(0, size - 1))
    tree = Tree()
    cut = data.draw(st.integers(0, total))
    tree.extend(b"".join(ENTRIES[:cut]))
    tree.extend(b"".join(ENTRIES[cut:total]))
    assert tree.size == total and tree.entry(index) == ENTRIES[index]
    assert tree.root(size) == merkle.root(LEAVES[:size])
    assert tree.proof(index, size) == merkle.inclusion_proof(LEAVES[:size], index)


def test_an_empty_tree_has_the_empty_root() -> None:
    assert Tree().root(0) == merkle.EMPTY_ROOT


@pytest.mark.parametrize(("index", "size"), [(0, 0), (3, 3), (-1, 3), (0, 6)])
def test_there_is_no_proof_outside_the_tree(index: int, size: int) -> None:
    tree = Tree()
    tree.extend(b"".join(ENTRIES[:5]))
    with pytest.raises(IndexError):
        tree.proof(index, size)


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=5))
def test_a_tree_that_was_cut_grows_again_as_if_nothing_had_been(steps: list[tuple[int, int]]) -> None:
    tree = Tree()
    for more, less in steps:
        tree.extend(b"".join(ENTRIES[tree.size : min(tree.size + more, len(ENTRIES))]))
        tree.cut(max(0, tree.size - less))
        assert tree.root(tree.size) == merkle.root(LEAVES[: tree.size])


def test_a_proof_hashes_no_more_than_the_height_of_the_tree_and_the_eight_records_around(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tree = Tree()
    tree.extend(b"".join(ENTRIES[:127]))
    hashed = 0

    def counting(rows: bytes, width: int) -> bytes:
        nonlocal hashed
        hashed += len(rows) // width
        return engine.row_root(rows, width)

    monkeypatch.setattr("relayer.receipts.engine", SimpleNamespace(row_root=counting))
    for index in range(127):
        hashed = 0
        tree.proof(index, 127)
        assert hashed <= 2 * 7
