import json

import pytest

from protocol import group
from protocol.errors import Malformed
from tests.shared_data import shared


@pytest.fixture(scope="module")
def rfc9496():
    return json.loads(shared("vectors", "ristretto255", "rfc9496.json").read_text())


def test_multiples_of_the_generator_are_those_of_rfc_9496(rfc9496):
    for n, encoding in enumerate(rfc9496["multiples_of_generator"]):
        assert group.base(n).hex() == encoding
        assert group.mul(n, group.BASE).hex() == encoding
        assert group.total([group.BASE] * n).hex() == encoding


def test_every_invalid_encoding_of_rfc_9496_is_refused(rfc9496):
    seen = 0
    for encodings in rfc9496["invalid_encodings"].values():
        for encoding in encodings:
            seen += 1
            with pytest.raises(Malformed):
                group.parse_point(bytes.fromhex(encoding), "point")
    assert seen > 10


def test_a_point_with_bit_255_set_is_refused_where_libsodium_accepts_it():
    point = group.base(12345)
    assert group.is_point(point)
    assert not group.is_point(point[:31] + bytes([point[31] | 0x80]))


def test_the_identity_is_refused_as_a_sent_point_but_is_a_sum():
    with pytest.raises(Malformed, match="identity"):
        group.parse_point(group.IDENTITY, "point")
    assert group.add(group.BASE, group.neg(group.BASE)) == group.IDENTITY
    assert group.mul(5, group.IDENTITY) == group.IDENTITY


def test_zero_times_a_point_is_the_identity_where_libsodium_raises():
    assert group.base(0) == group.IDENTITY
    assert group.mul(0, group.BASE) == group.IDENTITY
    assert group.mul(group.ORDER, group.BASE) == group.IDENTITY


@pytest.mark.parametrize("value", [group.ORDER, group.ORDER + 1, 2**253, 2**256 - 1])
def test_a_scalar_at_or_above_the_order_is_refused_where_libsodium_accepts_it(value):
    with pytest.raises(Malformed, match="order"):
        group.parse_scalar(value.to_bytes(32, "little"), "scalar")


def test_the_largest_and_the_zero_scalar_are_legal():
    assert group.parse_scalar(bytes(32), "scalar") == 0
    assert group.parse_scalar((group.ORDER - 1).to_bytes(32, "little"), "scalar") == group.ORDER - 1


def test_hash_parts_cannot_be_shifted_into_one_another():
    assert group.H("t", b"ab", b"c") != group.H("t", b"a", b"bc")
    assert group.H("t", b"ab") != group.H("ta", b"b")
    assert group.H("t") != group.H("t", b"")
