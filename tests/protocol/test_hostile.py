"""Any bytes at all into any parser: a value, or an error of ours that names the field; never another exception."""

import json
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol import credential
from protocol.attachments import Attachment, Roll, open_rows
from protocol.encoding import canonical_json, parse_json
from protocol.errors import BallotboardError, Malformed
from protocol.receipt import Receipt
from protocol.records import unpack_bodies
from scripts import document_vectors as vectors
from verifier.receipts import read_audited

CASES = json.loads((Path(__file__).resolve().parents[1] / "vectors" / "documents.json").read_text())["cases"]
SOAK_EXAMPLES = 100_000
"""Some minutes."""


def test_every_document_of_the_vectors_is_taken_or_refused_at_its_field_and_offset():
    for case in CASES:
        parse, body = vectors.parser(case["parser"]), vectors.read(case)
        if "field" not in case:
            parse(body)
            continue
        with pytest.raises(Malformed) as error:
            parse(body)
        assert (error.value.field, error.value.offset) == (case["field"], case["offset"]), case["name"]


def test_every_parser_has_a_valid_vector_and_wrong_ones():
    everything = set(vectors.JSON | vectors.BINARY)
    for wrong in (True, False):
        assert {case["parser"] for case in CASES if ("field" in case) == wrong} == everything


OTHERS = {
    "audited ballot": read_audited,
    "packed bodies": unpack_bodies,
    "roll rows": lambda body: Roll(body, [0]).check(),
    "attachment": lambda body: open_rows(body, Attachment(bytes(32), bytes(32), 1), "rows"),
    "code": lambda body: credential.read_code(body.decode("latin-1")),
}
PARSERS = {name: parse for name, (parse, _) in (vectors.JSON | vectors.BINARY).items()} | OTHERS


def survives(name, body):
    """The parser answers; a value with a body re-encodes to what was read."""
    try:
        value = PARSERS[name](body)
        if isinstance(value, Receipt):
            value.check()
    except BallotboardError as error:
        assert str(error) and "\n" not in str(error)
        assert not isinstance(error, Malformed) or error.field
        return
    again = getattr(value, "body", None)
    if again is not None and name not in ("promise", "refusal"):
        assert (again() if callable(again) else again) == body


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**64)
    | st.text(max_size=8)
    | st.sampled_from(["00" * 32, "ff" * 20]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def edited_documents(draw):
    """(parser, body): a right document with some of its nodes replaced, or with changed bytes."""
    name = draw(st.sampled_from(sorted(vectors.JSON)))
    body = vectors.JSON[name][1]
    value = parse_json(body)
    for _ in range(draw(st.integers(1, 2))):
        node, key = value, draw(st.sampled_from(sorted(value)))
        while isinstance(node[key], dict | list) and node[key] and draw(st.booleans()):
            node = node[key]
            key = draw(st.sampled_from(sorted(node) if isinstance(node, dict) else range(len(node))))
        node[key] = draw(VALUES)
    with suppress(Malformed):  # an integer that is too large, which is another test's
        body = canonical_json(value)
    return name, body


@st.composite
def edited_bytes(draw):
    """(parser, body): a right body with bytes changed, removed or added; or any bytes."""
    name = draw(st.sampled_from(sorted(PARSERS)))
    known = (vectors.JSON | vectors.BINARY).get(name)
    if known is None or draw(st.integers(0, 3)) == 0:
        return name, draw(st.binary(max_size=120))
    body = bytearray(known[1])
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(body)))
        body[place : place + draw(st.integers(0, 2))] = draw(st.binary(max_size=2))
    return name, bytes(body)


@settings(deadline=None)
@given(edited_documents() | edited_bytes())
def test_no_parser_fails_otherwise_than_by_saying_what_is_wrong(case):
    survives(*case)


@pytest.mark.soak
@settings(deadline=None, max_examples=SOAK_EXAMPLES)
@given(edited_documents() | edited_bytes())
def test_no_parser_fails_otherwise_in_a_long_run(case):
    survives(*case)
