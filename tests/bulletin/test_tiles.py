"""Tiles give the roots and proofs of protocol.merkle, however the tree grew."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bulletin import tiles
from protocol import merkle

LEAVES = [hashlib.sha256(i.to_bytes(4, "big")).digest() for i in range(70_000)]


def grown(*sizes: int) -> dict[tuple[int, int], bytes]:
    """The tiles of a tree that had each of these sizes in turn."""
    held: dict[tuple[int, int], bytes] = {}
    before = 0
    for size in sizes:
        held |= tiles.grow(loader(held), before, b"".join(LEAVES[before:size]))
        before = size
    return held


def loader(held):
    return lambda level, number: tiles.Tile(held[level, number])


@pytest.mark.parametrize("size", [1, 2, 3, 255, 256, 257, 511, 512, 65_535, 65_536, 65_537, 70_000])
def test_the_root_is_that_of_the_plain_tree(size):
    assert tiles.frontier(loader(grown(size)), size).root() == merkle.root(LEAVES[:size])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 1500), min_size=1, max_size=6, unique=True), st.data())
def test_a_proof_against_any_past_head_is_that_of_the_plain_tree(sizes, data):
    sizes.sort()
    load = loader(grown(*sizes))
    size = data.draw(st.integers(1, sizes[-1]))
    index = data.draw(st.integers(0, size - 1))
    proof = tiles.inclusion_proof(load, index, size)
    assert proof == merkle.inclusion_proof(LEAVES[:size], index)
    assert merkle.verify_inclusion(LEAVES[index], index, size, proof, tiles.frontier(load, size).root())


def test_a_tree_that_grew_in_steps_has_the_tiles_of_one_that_grew_at_once():
    assert grown(1, 2, 255, 256, 300, 66_000, 70_000) == grown(70_000)


def test_a_frontier_from_tiles_goes_on_like_one_that_never_stopped():
    frontier = tiles.frontier(loader(grown(777)), 777)
    frontier.extend(LEAVES[777:1000])
    assert frontier.root() == merkle.root(LEAVES[:1000])


@pytest.mark.parametrize(("index", "size"), [(0, 0), (5, 5), (-1, 5)])
def test_there_is_no_proof_outside_the_tree(index, size):
    with pytest.raises(IndexError):
        tiles.inclusion_proof(loader(grown(5)), index, size)
