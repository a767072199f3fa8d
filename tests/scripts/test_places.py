"""Real places as stations: both depths say the same, and it is what was published."""

from __future__ import annotations

import json

import pytest

from protocol.errors import BallotboardError
from scripts.places import TABLE, online_part, read_place
from tests.shared_data import SHARED, shared

DEPTHS = {"sd": (66, 693), "uk": (12, 382), "us": (51, 3_152)}
DIFFERING = [
    "Alabama",
    "Alaska",
    "California",
    "Connecticut",
    "Idaho",
    "Indiana",
    "Kansas",
    "Maine",
    "New York",
    "Pennsylvania",
    "Rhode Island",
    "Wisconsin",
]


@pytest.mark.parametrize("key", ["sd", "uk", "us"])
def test_the_small_table_has_the_sums_of_the_published_files(key):
    shared("precinct")
    table, files = read_place(key, None), read_place(key, SHARED)
    assert (len(table.areas), len(files.areas)) == DEPTHS[key]
    assert table.region_totals() == files.region_totals() and table.totals == files.totals
    assert sum(area.rejected for area in table.areas) == sum(area.rejected for area in files.areas)
    assert table.regions == files.regions or sorted(table.regions) == sorted(files.regions)


def test_the_totals_are_the_official_ones():
    sd = json.loads(shared("precinct", "sd_2020", "expected.json").read_text())["president"]
    uk = json.loads(shared("referendum", "uk_2016", "expected.json").read_text())["official"]
    assert read_place("sd", SHARED).totals == sd["state_total"]
    found = read_place("uk", SHARED)
    assert found.totals == {"Remain": uk["Remain"], "Leave": uk["Leave"]}
    assert sum(area.rejected for area in found.areas) == uk["Rejected_Ballots"]


@pytest.mark.parametrize("data", [None, SHARED])
def test_exactly_the_twelve_states_whose_counties_do_not_add_up_are_found(data):
    if data:
        shared("national")
    assert read_place("us", data).differing == DIFFERING
    assert read_place("sd", None).differing == read_place("uk", None).differing == []


def test_the_online_part_is_the_same_in_every_run_and_no_larger_than_asked():
    place = read_place("uk", None)
    first, second = online_part(place, 100, 12), online_part(place, 100, 12)
    assert first.votes == second.votes and len(first.votes) == 100
    assert {unit for unit, _ in first.votes} <= set(range(12, 24))


def test_what_is_no_place_or_no_published_file_is_said(tmp_path):
    with pytest.raises(BallotboardError, match="choose sd, uk, us"):
        read_place("fr", None)
    with pytest.raises(BallotboardError, match=r"cannot read .*precinct\.csv"):
        read_place("sd", tmp_path)
    (tmp_path / "precinct" / "sd_2020").mkdir(parents=True)
    (tmp_path / "precinct" / "sd_2020" / "precinct.csv").write_text("a,b\n1,2\n")
    with pytest.raises(BallotboardError, match="is not the published file"):
        read_place("sd", tmp_path)


def test_no_area_counts_less_than_nothing():
    for key in json.loads(TABLE.read_text()):
        assert all(min(area.votes) >= 0 and area.rejected >= 0 for area in read_place(key, None).areas)
