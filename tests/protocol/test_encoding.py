import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.encoding import MAX_INTEGER, canonical_json, lp, members, parse_json, unhex
from protocol.errors import Malformed

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-MAX_INTEGER, MAX_INTEGER) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)


@given(values)
def test_canonical_json_is_read_back_as_the_same_value(value):
    body = canonical_json(value)
    assert parse_json(body) == value
    assert json.loads(body) == value


@given(values, values)
def test_different_values_have_different_bytes(one, two):
    def typed(value):  # Python thinks that True == 1
        return json.dumps(value, sort_keys=True)

    assert (canonical_json(one) == canonical_json(two)) == (typed(one) == typed(two))


@pytest.mark.parametrize(
    "body",
    [
        b'{"b":1,"a":2}', b'{"a":1,"a":1}', b'{"a": 1}', b"[1,2] ", b"1.0", b"1e3", b"-0", b"01", b"NaN", b"Infinity",
        b"9007199254740992", b"-9007199254740992", b'"\\u0061"', b'"\\/"', b"\xff", b"", b"{", b'"\\ud800"', b"\xef\xbb\xbf1",
        b"[" * 100_000, b"9" * 100_000,
    ],
)  # fmt: skip
def test_json_that_does_not_re_encode_to_itself_is_refused(body):
    with pytest.raises(Malformed):
        parse_json(body)


def test_keys_are_ordered_by_utf_16_code_units_as_rfc_8785_says():
    # U+1F600 is above U+FB33 as a code point and below it in UTF-16.
    assert canonical_json({"\ufb33": 1, "\U0001f600": 2}) == '{"\U0001f600":2,"\ufb33":1}'.encode()


@given(st.lists(st.binary(max_size=5), max_size=4), st.lists(st.binary(max_size=5), max_size=4))
def test_length_prefixed_parts_concatenate_without_ambiguity(one, two):
    assert (b"".join(map(lp, one)) == b"".join(map(lp, two))) == (one == two)


@pytest.mark.parametrize("text", ["AA", "a", "abc", "zz", "0x", 5, None, "aaaa"])
def test_hex_is_lower_case_and_of_the_right_length(text):
    with pytest.raises(Malformed):
        unhex(text, 1, "field")


@pytest.mark.parametrize(
    "value", [{"a": 1}, {"a": 1, "b": "x", "c": 0}, {"a": True, "b": "x"}, {"a": "1", "b": "x"}, [], None]
)
def test_an_object_has_exactly_the_members_and_types_it_should(value):
    with pytest.raises(Malformed):
        members(value, "field", a=int, b=str)
