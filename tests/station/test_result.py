"""From figures to the document and the sheet: what balances, what does not, and what it says then."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.attachments import Station, Unit
from protocol.manifest import Contest, Manifest, Rule
from protocol.paper import ContestCount, StationResult
from station.result import Counted, DoesNotBalance, build, contest_count, counted_of, parse_counts, sheet

MAYOR = Contest("mayor", "Mayor", Rule.ONE_OF_K, 0, ("Ann", "Bob, the younger", "blank"))
BOARD = Contest("board", "Board", Rule.APPROVAL, 0, ("x", "y"))
UNITS = [Unit("town", "Town", -1, -1), Unit("ward", "North", 0, 0)]
STATIONS = [Station(0, 1, (b"\x01" * 20, b"\x02" * 20), "School")]


@pytest.fixture
def manifest() -> Manifest:
    """As much of a manifest as results need."""
    found = object.__new__(Manifest)
    values = {"name": "Trial", "contests": (MAYOR, BOARD), "styles": ((0, 1),), "practice": False, "body": b"{}"}
    for name, value in values.items():
        object.__setattr__(found, name, value)
    return found


GOOD = Counted(100, 2, 1, 97, (ContestCount(0, (60, 30, 2), 0, 5), ContestCount(1, (50, 97), 0, 0)))


def make(manifest: Manifest, counted: Counted) -> StationResult:
    return build(counted, manifest, STATIONS, UNITS, 0, 1, "", b"\x03" * 32, b"\x04" * 32)


def test_what_balances_becomes_a_document_with_a_salt_of_its_own(manifest):
    first, second = make(manifest, GOOD), make(manifest, GOOD)
    assert StationResult.parse(first.body()) == first and counted_of(first) == GOOD
    assert first.salt != second.salt and first.document_hash() != second.document_hash()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"issued": 101}, "issued 101 is not counted 97 \\+ spoiled 2 \\+ unreturned 1"),
        ({"spoiled": 3}, "issued 100"),
        ({"unreturned": -1, "spoiled": 4}, "negative"),
        ({"in_box": 98, "issued": 101}, "contest mayor: .* add up to 97, not 98"),
        ({"contests": (ContestCount(0, (61, 30, 2), 0, 5), GOOD.contests[1])}, "add up to 98, not 97"),
        ({"contests": (ContestCount(0, (60, 30, 1), 1, 5), GOOD.contests[1])}, "belong to its blank option"),
        ({"contests": (GOOD.contests[0], ContestCount(1, (50, 98), 0, 0))}, "more marks than there are valid papers"),
        ({"contests": (GOOD.contests[0], ContestCount(1, (50, 97), 1, 0))}, "more marks than there are valid papers"),
        ({"contests": GOOD.contests[:1]}, "not those of the station's ballot style"),
    ],
)
def test_what_does_not_balance_is_refused_and_says_why(manifest, change, words):
    with pytest.raises(DoesNotBalance, match=words):
        make(manifest, replace(GOOD, **change))


@given(
    st.dictionaries(
        st.text(st.characters(blacklist_characters="=", blacklist_categories=("Cs", "Z", "Cc")), min_size=1).filter(
            lambda s: not s.startswith(",")
        ),
        st.integers(0, 10**9 - 1),
        min_size=1,
    )
)
def test_counts_are_read_as_written(counts):
    assert parse_counts(",".join(f"{name}={number}" for name, number in counts.items())) == counts


@pytest.mark.parametrize("text", ["", "Ann", "Ann=", "Ann=x", "Ann=1,Ann=2", "Ann=-1", "Ann=1,Bob", "=3", "Ann=1.5"])
def test_counts_that_cannot_be_read_are_refused(text):
    with pytest.raises(DoesNotBalance, match="cannot read the counts"):
        parse_counts(text)


def test_every_option_has_a_count_and_nothing_else_has():
    assert contest_count(0, MAYOR, parse_counts("Ann=1, Bob, the younger=0,blank=2,invalid=3")) == ContestCount(
        0, (1, 0, 2), 0, 3
    )
    assert contest_count(1, BOARD, {"x": 1, "y": 2, "blank": 4}) == ContestCount(1, (1, 2), 4, 0)
    with pytest.raises(DoesNotBalance, match="no count for Bob, the younger"):
        contest_count(0, MAYOR, {"Ann": 1, "blank": 0})
    with pytest.raises(DoesNotBalance, match="no option Carl"):
        contest_count(1, BOARD, {"x": 1, "y": 2, "Carl": 1})


def test_the_sheet_has_every_line_of_zero(manifest):
    zero = Counted(0, 0, 0, 0, (ContestCount(0, (0, 0, 0), 0, 0), ContestCount(1, (0, 0), 0, 0)))
    result = make(manifest, zero)
    lines = sheet(
        manifest, STATIONS, UNITS, replace(result, practice=True, reason="a try", revision=2), [b"\x05" * 20]
    ).splitlines()
    for name in (
        "Papers issued",
        "  counted",
        "  spoiled",
        "  not returned",
        "  Ann",
        "  Bob, the younger",
        "  blank",
        "  (invalid)",
        "  x",
        "  y",
        "  (blank)",
    ):
        assert any(line.startswith(name) and line.endswith(" 0") for line in lines), name
    text = "\n".join(lines)
    assert "*** PRACTICE ***" in text and "Revision 2, because: a try" in text and "0x" + "05" * 20 in text
    assert "NOT SIGNED YET" in sheet(manifest, STATIONS, UNITS, result, [])
