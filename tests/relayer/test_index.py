import hashlib
import tracemalloc

from hypothesis import given, settings
from hypothesis import strategies as st

from relayer.index import HashIndex, Memory
from relayer.receipts import Tree


def digests(numbers: list[int]) -> list[bytes]:
    """Distinct numbers, distinct hashes; many of them want the same slot, since only the last bits differ in few."""
    return [(number % 97).to_bytes(8, "big") + hashlib.sha256(str(number).encode()).digest()[:24] for number in numbers]


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(0, 2000), max_size=400), max_size=8))
def test_an_index_knows_the_first_number_of_every_hash_and_no_other(chunks: list[list[int]]) -> None:
    hashes: list[bytes] = []
    index, expected = HashIndex(lambda number: hashes[number]), {}
    for chunk in chunks:
        first, new = len(hashes), digests(chunk)
        hashes += new
        index.extend(first, new)
        for number, digest in enumerate(new, first):
            expected.setdefault(digest, number)
    assert {digest: index.get(digest) for digest in digests(list(range(2001)))} == {
        digest: expected.get(digest) for digest in digests(list(range(2001)))
    }


def test_memory_knows_what_each_credential_has_sent() -> None:
    memory = Memory()
    memory.extend(digests([1, 2, 3]), [(5, 10), (70_000, 0), (5, 7)])
    assert (memory.newest(5), memory.newest(70_000), memory.newest(6), memory.newest(10**9)) == (10, 0, None, None)
    assert (memory.attempts(5), memory.attempts(70_000), memory.attempts(6)) == (2, 1, 0)
    assert [memory.number(digest) for digest in digests([1, 2, 3, 4])] == [0, 1, 2, None]


def test_a_final_ballot_takes_little_more_than_a_hundred_bytes() -> None:
    """What the outbox and the follower keep of one, with both tables of hashes just doubled: eight million must fit into a small machine."""
    hashes = [hashlib.sha256(number.to_bytes(4, "big")).digest() for number in range(2**14 + 1)]
    tracemalloc.start()
    memory, tree = Memory(), Tree()
    positions = HashIndex(lambda position: tree.entry(position)[8:])
    for first in range(0, len(hashes), 500):
        some = hashes[first : first + 500]
        memory.extend(some, [(first + place, first) for place in range(len(some))])
        tree.extend(b"".join(bytes(8) + digest for digest in some))
        positions.extend(first, some)
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert positions.get(hashes[-1]) == memory.number(hashes[-1]) == 2**14
    assert taken / len(hashes) < 130
