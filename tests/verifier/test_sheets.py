"""A printed sheet against the record: every field by itself, and what the whole is called."""

from __future__ import annotations

from dataclasses import replace

import pytest

from protocol import election
from protocol.paper import StationResult
from protocol.records import CheckIns, Kind
from protocol.sheet import SheetCode, sheet_code
from tests.tamper.builder import Election, hold
from verifier.picture import Known, count_check_ins
from verifier.sheets import Comparison, compare


def known_of(held: Election) -> Known:
    opened, records = held.open_election(), held.records()
    batches = list(election.readable(records, Kind.CHECK_IN, CheckIns.parse))
    check_ins = count_check_ins(opened.manifest, opened.stations, election.roll_state(opened, records), batches)
    units = dict(opened.roll.unit_counts())
    return Known(opened.manifest, opened.units, opened.stations, records, check_ins, units, {}, len(records))


@pytest.fixture(scope="module")
def revealed() -> Known:
    return known_of(hold(until="reveal"))


def code_of(known: Known, result: StationResult) -> SheetCode:
    return sheet_code(result, known.manifest.election_id)


def against(known: Known, station: int, **change) -> Comparison:
    [*_, last] = hold(until="reveal").documents[: station + 1]
    return compare(known, replace(code_of(known, last), **change))


def test_a_sheet_as_it_was_signed_is_the_same_in_every_field(revealed):
    for station in (0, 1):
        found = against(revealed, station)
        assert (found.state, found.good, found.differences) == ("same", True, [])
        assert {field.same for field in found.fields} == {True}
    assert [(f.name, f.contest, f.option, f.record) for f in against(revealed, 0).fields][5:9] == [
        ("votes", 0, 0, 1), ("votes", 0, 1, 0), ("blank", 0, None, 0), ("invalid", 0, None, 0),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        ({"document": bytes(32)}, {("document", None, None)}),
        ({"papers": (1, 1, 0, 1)}, {("unreturned", None, None)}),
        ({"contests": ((0, 0, 0, 0, 0), (1, 0, 0, 1, 0, 0, 0))}, {("votes", 0, 0)}),
        ({"contests": ((0, 1, 0, 1, 0), (1, 0, 0, 1, 0, 0, 0))}, {("blank", 0, None)}),
        ({"contests": ((0, 1, 0, 0, 0), (1, 0, 0, 1, 0, 0, 2))}, {("invalid", 1, None)}),
        ({"contests": ((0, 1, 0, 0, 0, 0), (1, 0, 0, 1, 0, 0, 0))}, {("votes", 0, 2)}),
        ({"contests": ((0, 1, 0, 0, 0),)}, {("votes", 1, n) for n in range(4)} | {("blank", 1, None), ("invalid", 1, None)}),
    ],
    ids=["document", "papers", "votes", "blank", "invalid", "one option more", "one contest less"],
)  # fmt: skip
def test_one_thing_changed_on_the_sheet_is_named(revealed, change, fields):
    found = against(revealed, 0, **change)
    assert (found.state, found.good) == ("differs", False)
    assert {(f.name, f.contest, f.option) for f in found.fields if f.same is False} == fields
    assert len(found.differences) == len(fields)


def test_a_sheet_of_another_election_or_of_no_such_revision_is_not_compared(revealed):
    assert against(revealed, 0, election=bytes(16)).state == "elsewhere"
    for change in ({"revision": 2}, {"station": 7}):
        found = compare(revealed, replace(code_of(revealed, hold().result_of(0)), **change))
        assert (found.state, found.good, found.fields) == ("unknown", False, ())


def test_before_the_embargo_the_hash_is_compared_and_no_figure():
    known = known_of(hold(until="report_stations"))
    found = against(known, 0)
    assert found.state == "pending" and [f.name for f in found.fields if f.same] == ["document"]
    assert {f.record for f in found.fields[1:]} == {None}
    # a made-up number on the right document is not noticed yet, and nothing says that it is right
    assert against(known, 0, papers=(5, 5, 0, 0)).state == "pending"
    assert against(known, 0, document=bytes(32)).state == "differs"


def test_an_older_revision_is_right_for_its_time_and_says_which_one_stands(revealed):
    first = code_of(revealed, hold().result_of(1))
    found = compare(revealed, first)
    assert (found.state, found.good, found.latest) == ("older", True, 2)
    assert compare(revealed, replace(first, document=bytes(32))).state == "differs"
