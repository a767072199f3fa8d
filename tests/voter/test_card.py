"""Cards and choices: what a person types."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.credential import WrongCode, print_code
from protocol.errors import BallotboardError
from protocol.manifest import Contest, Rule
from voter.booth import read_card, read_choices

MAYOR = Contest("mayor", "Who is to be mayor?", Rule.ONE_OF_K, 0, ("Ada", "Ben=Bob", "blank"))
COUNCIL = Contest("council", "Council", Rule.UP_TO_L, 2, ("Red", "Green", "Blue"))
PARKS = Contest("parks", "Parks", Rule.APPROVAL, 0, ("North", "South"))
CODE = bytes(range(16))


@given(st.integers(0, 2**63), st.binary(min_size=16, max_size=16))
def test_a_printed_card_is_read_back_with_or_without_hyphens_and_in_any_case(serial: int, code: bytes) -> None:
    printed = f"{serial}-{print_code(code)}"
    for typed in (printed, printed.lower(), printed.replace("-", " "), f" {printed} "):
        assert read_card(typed) == (serial, code)


def test_a_code_without_its_number_is_asked_for_all_of_it() -> None:
    with pytest.raises(BallotboardError, match="with the number in front"):
        read_card(print_code(CODE))


@pytest.mark.parametrize("serial", ["x", "1x", "-", "²", "１"])  # the last two are digits to Python
def test_a_number_that_is_none_is_refused(serial: str) -> None:
    with pytest.raises(BallotboardError):
        read_card(f"{serial}-{print_code(CODE)}")


def test_a_mistyped_symbol_is_noticed() -> None:
    printed = print_code(CODE)
    with pytest.raises(WrongCode):
        read_card("7-" + ("Z" if printed[3] != "Z" else "Y").join([printed[:3], printed[4:]]))


def test_a_choice_names_contest_by_id_or_title_and_its_option_may_hold_an_equals_sign() -> None:
    wanted = ["Who is to be mayor?=Ben=Bob", "council=Red", "council=Blue"]
    assert read_choices((MAYOR, COUNCIL, PARKS), wanted) == [[0, 1, 0], [1, 0, 1], [0, 0]]


def test_with_one_contest_the_option_is_enough() -> None:
    assert read_choices((MAYOR,), ["Ben=Bob"]) == [[0, 1, 0]]
    assert read_choices((MAYOR,), ["mayor=Ada"]) == [[1, 0, 0]]
    assert read_choices((PARKS,), ["North", "South"]) == [[1, 1]]


@pytest.mark.parametrize(
    ("contests", "wanted", "named"),
    [
        ((MAYOR,), ["Adam"], "Ada, Ben=Bob, blank"),
        ((MAYOR,), [], "exactly one of: Ada, Ben=Bob, blank"),
        ((MAYOR,), ["Ada", "blank"], "exactly one"),
        ((MAYOR, PARKS), ["Ada"], "the contests are: mayor, parks"),
        ((MAYOR, PARKS), ["major=Ada"], "the contests are: mayor, parks"),
        ((COUNCIL,), ["Red", "Green", "Blue"], "at most 2 of: Red, Green, Blue"),
    ],
)
def test_a_choice_that_the_ballot_does_not_allow_is_refused_with_what_it_allows(
    contests: tuple[Contest, ...], wanted: list[str], named: str
) -> None:
    with pytest.raises(BallotboardError, match=named.replace("?", r"\?")):
        read_choices(contests, wanted)
