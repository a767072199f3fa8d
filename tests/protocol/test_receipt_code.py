"""A receipt's QR code: what is written is read, and whatever was changed in any part of it proves nothing."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import merkle
from protocol.errors import Malformed
from protocol.receipt import CHECKSUM, CODE_PREFIX, CompactReceipt, Receipt, ReceiptWrong
from protocol.records import Entry, Kind, LogHead

BALLOT = b"\x01" + bytes(12) + b"rest of a ballot"


def receipt(position: int = 3, size: int = 6) -> Receipt:
    entry = Entry(Kind.BALLOT, 150, 5, hashlib.sha256(BALLOT).digest())
    leaves = [merkle.leaf_hash(bytes([i])) for i in range(size)]
    leaves[position] = entry.leaf()
    return Receipt(
        BALLOT, 31337, b"\x0e" * 20, b"\x0b" * 32, 12, b"\x0f" * 32, entry, LogHead(size, merkle.root(leaves)), position,
        tuple(merkle.inclusion_proof(leaves, position)), None,
    )  # fmt: skip


def sealed(data: bytes) -> str:
    """The text of a code with this content and the checksum that belongs to it."""
    checksum = hashlib.sha256(b"ballotboard/v1/receipt-code" + data).digest()[:CHECKSUM]
    return CODE_PREFIX + base64.b32encode(data + checksum).decode().rstrip("=")


def content(code: str) -> bytes:
    digits = code.removeprefix(CODE_PREFIX)
    return base64.b32decode(digits + "=" * (-len(digits) % 8))[:-CHECKSUM]


@given(st.data())
def test_a_code_comes_back_as_it_was_and_proves_what_the_receipt_proves(data):
    size = data.draw(st.integers(1, 40))
    whole = receipt(data.draw(st.integers(0, size - 1)), size)
    code = whole.compact().code()
    found = CompactReceipt.read_code(code)
    found.check()
    assert found == whole.compact() and found.ballot_hash == whole.ballot_hash
    assert CompactReceipt.read_code(f" {code[:40].lower()}\r\n{code[40:]}\n") == found
    assert set(code) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567:") and sealed(content(code)) == code


@given(st.binary(min_size=20, max_size=20), st.binary(min_size=32, max_size=32), st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1),
       st.integers(0, 2**64 - 1), st.lists(st.binary(min_size=32, max_size=32), max_size=64))  # fmt: skip
def test_every_value_of_every_field_comes_back(contract, root, chain, size, position, proof):
    one = CompactReceipt(chain, contract, root[::-1], receipt().entry, LogHead(size, root), position, tuple(proof))
    assert CompactReceipt.read_code(one.code()) == one


PARTS = {
    "version": 0, "chain": 8, "contract": 20, "election": 40, "entry kind": 61, "entry time": 65, "entry role": 68, "ballot hash": 80,
    "position": 108, "size": 116, "root": 130, "proof": 160,
}  # fmt: skip
"""A byte of each part, by its place in the content."""

UNBOUND = ("chain", "contract", "election", "size")


@pytest.mark.parametrize("part", PARTS)
def test_one_changed_bit_is_a_misread_code(part):
    code = receipt().compact().code()
    data = bytearray(content(code))
    data[PARTS[part]] ^= 1
    with pytest.raises(Malformed, match="checksum"):
        CompactReceipt.read_code(CODE_PREFIX + base64.b32encode(bytes(data) + base64.b32decode(_padded(code))[-CHECKSUM:]).decode().rstrip("="))  # fmt: skip
    with pytest.raises(Malformed):
        CompactReceipt.read_code(code[:-1] + ("A" if code[-1] != "A" else "Q"))


@pytest.mark.parametrize("part", [part for part in PARTS if part not in UNBOUND])
def test_who_forges_one_bit_and_the_checksum_proves_nothing(part):
    data = bytearray(content(receipt().compact().code()))
    data[PARTS[part]] ^= 1
    with pytest.raises((Malformed, ReceiptWrong)):
        CompactReceipt.read_code(sealed(bytes(data))).check()


@pytest.mark.parametrize("part", UNBOUND)
def test_who_forges_where_it_is_from_has_a_receipt_of_elsewhere(part):
    """No proof binds these: they are compared with the election, and with the head of this size, that are known."""
    right = receipt().compact()
    data = bytearray(content(right.code()))
    data[PARTS[part]] ^= 1
    found = CompactReceipt.read_code(sealed(bytes(data)))
    assert (
        sum(getattr(found, name) != getattr(right, name) for name in ("chain_id", "contract", "election_id", "head"))
        == 1
    )


@pytest.mark.parametrize(
    "text",
    [
        "", "BBR:", "BBR:A", "BBR:0189", CODE_PREFIX + "A" * 4_000, "BBX:" + receipt().compact().code()[4:], receipt().compact().code() + "=",
        receipt().compact().code()[:-8], sealed(b""), sealed(b"\x02" + content(receipt().compact().code())[1:]), sealed(content(receipt().compact().code()) + b"x"),
    ],
)  # fmt: skip
def test_what_is_no_code_is_refused(text):
    with pytest.raises(Malformed):
        CompactReceipt.read_code(text)


def test_a_receipt_that_proves_nothing_has_no_code():
    for wrong in (
        replace(receipt(), ballot=BALLOT + b"x"),
        replace(receipt(), position=2),
        replace(receipt(), chain_id=-1),
    ):
        with pytest.raises(ReceiptWrong):
            wrong.compact()


def _padded(code: str) -> str:
    digits = code.removeprefix(CODE_PREFIX)
    return digits + "=" * (-len(digits) % 8)
