"""`ballotboard demo --mixed` as a process: paper and online in one election, with four stations that have a bad day."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.places import read_place
from tests.shared_data import SHARED, shared

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]


def demo(*arguments: str) -> dict:
    command = [sys.executable, "-W", "ignore", "-m", "scripts.cli", "demo", "--mixed", *arguments, "--json"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr[-3000:]
    return json.loads(found.stdout)


def test_the_paper_is_the_published_figures_whatever_happened_to_stations_on_the_way():
    summary, place = demo("--place", "uk", "--limit", "40"), read_place("uk", None)
    assert summary["verified"] and summary["receipt_ok"] and summary["paper_is_published"]
    assert summary["paper"] == place.totals == {"Remain": 16_141_241, "Leave": 17_410_742}
    assert sum(summary["tally"].values()) == summary["accepted"] == 40
    assert summary["total"] == {name: summary["paper"][name] + summary["tally"][name] for name in summary["paper"]}
    assert summary["regions"] == place.region_totals() and summary["stations"] == 12
    assert (len(summary["offline"]), len(summary["killed"])) == (2, 1)
    # the wrong figure was found out by the sum of its region, and of the whole, and is gone after the amendment
    assert [flag["rule"] for flag in summary["flags_before_amendment"]] == ["official", "official"]
    assert summary["flags"] == [] and summary["amended"]["before"][0] == summary["amended"]["after"][0] + 100
    assert not [check for check in summary["checks"] if check["outcome"] not in ("pass", "not applicable")]


@pytest.mark.soak
@pytest.mark.parametrize(("key", "stations"), [("sd", 693), ("uk", 382), ("us", 3_152)])
def test_every_precinct_area_and_county_adds_up_to_what_was_published(key, stations):
    shared("precinct")
    summary, place = demo("--place", key, "--data", str(SHARED)), read_place(key, SHARED)
    assert summary["verified"] and summary["stations"] == stations and summary["paper"] == place.totals
    assert summary["regions_differing"] == sorted(place.differing)
    assert len(summary["regions_differing"]) == (12 if key == "us" else 0)
