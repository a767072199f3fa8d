import hashlib

from hypothesis import given, settings
from hypothesis import strategies as st

from relayer.index import HashIndex, Memory


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
