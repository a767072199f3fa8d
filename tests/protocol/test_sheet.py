"""The code of a result sheet: what is printed is what is read, and nothing else is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.sheet import BadSheetCode, SheetCode, print_code, read_sheet_code

NUMBER = st.integers(0, 10**10 - 1)
VOTES = st.lists(st.tuples(NUMBER, NUMBER, NUMBER), max_size=3, unique_by=lambda row: row[0]).map(tuple)
CODES = st.builds(
    SheetCode, st.binary(min_size=16, max_size=16), NUMBER, NUMBER, st.binary(min_size=32, max_size=32),
    st.tuples(NUMBER, NUMBER, NUMBER, NUMBER), VOTES,
)  # fmt: skip
BOARDS = st.sampled_from(["", "https://board.example", "https://board.example/of/a/town/", "http://127.0.0.1:8050"])
CODE = print_code(SheetCode(bytes(16), 3, 1, bytes(32), (100, 97, 2, 1), ((0, 61, 34, 2, 0, 0),)))


@given(CODES, BOARDS)
def test_what_is_printed_is_read_whatever_the_board(code, board):
    assert read_sheet_code(print_code(code, board)) == code


@pytest.mark.parametrize(
    "text",
    [
        "", "https://example.org/stations/3", CODE.replace("stations/3", "stations/-3"), CODE.replace("&revision=1", ""), CODE.replace("&revision=1", "&revision=01"),
        CODE.replace("100.97", "100.97.5"), CODE.replace("100.97", "1e2.97"), CODE.replace("election=00", "election=0g"), CODE + "&votes=0.1.2.3", CODE + "&x=1",
        CODE.replace("votes=0.61", "votes=0.٦1"), CODE.replace("votes=0.61", "votes=0.99999999999"), CODE + "x" * 9_000, "x" + CODE,
    ],
)  # fmt: skip
def test_nothing_else_is_read(text):
    with pytest.raises(BadSheetCode):
        read_sheet_code(text)
