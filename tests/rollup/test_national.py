"""The demo's city and nation in small, from the same published files, and the roll-up as a Dask graph on a real cluster."""

import csv
import json
import shutil
from functools import partial

import pytest

from chain.process import free_port
from protocol.errors import BallotboardError
from rollup import inbox
from rollup import run as runs
from rollup.run import MissingSums, cluster, run_dask, run_tree
from rollup.sums import NotSigned
from scripts import national
from tests.rollup.test_sums import standing
from tests.rollup.world import KEYS
from tests.shared_data import shared

STATES = ["Delaware", "Hawaii", "Idaho"]
"""Two whose certified totals the county file agrees with, and one where it does not."""


@pytest.fixture(scope="module")
def three_states(tmp_path_factory):
    """The published files, cut down to three states."""
    folder = tmp_path_factory.mktemp("nation")
    source = shared("national", "us_2020", "county_president.csv")
    with source.open(newline="") as file, (folder / source.name).open("w", newline="") as out:
        reader = csv.DictReader(file)
        writer = csv.DictWriter(out, reader.fieldnames)
        writer.writeheader()
        writer.writerows(row for row in reader if row["state_name"] in STATES)
    expected = json.loads((source.parent / "expected.json").read_text())
    expected["states_matching"] = [name for name in expected["states_matching"] if name in STATES]
    (folder / "expected.json").write_text(json.dumps(expected))
    return folder


@pytest.mark.slow
def test_a_nation_of_three_states_decrypts_to_the_published_figures(three_states, tmp_path):
    found = national.nation(three_states, tmp_path / "nation", 300, quiet=True)
    assert (found["states"], found["precincts"], found["checked"]) == (3, 300, found["counties"] + 4)
    assert found["groups_right"] == found["groups"] > 40 and found["states_right"] == 3
    assert found["certified"] == {"agree": 2, "differ": 1} and found["not_certified"] == ["Idaho"]
    assert found["verified"] and found["votes"] == sum(found["totals"].values())


@pytest.mark.slow
def test_a_county_file_with_one_vote_more_shows(three_states, tmp_path):
    expected = json.loads((three_states / "expected.json").read_text())
    expected["states"]["Delaware"]["official_rep_dem"][0] += 1
    other = tmp_path / "data"
    other.mkdir()
    (other / "expected.json").write_text(json.dumps(expected))
    (other / "county_president.csv").write_bytes((three_states / "county_president.csv").read_bytes())
    found = national.nation(other, tmp_path / "nation", 60, quiet=True)
    assert not found["verified"] and found["not_certified"] == ["Delaware", "Idaho"] and found["states_right"] == 3


@pytest.mark.slow
def test_a_sample_of_minneapolis_goes_from_cards_to_the_totals_of_its_wards(tmp_path):
    data = shared("irv", "minneapolis_2017_mayor", "ballots.csv").parent
    found = national.minneapolis(data, tmp_path / "city", 700, quiet=True)
    assert (found["ballots"], found["refused"], found["precincts"]) == (700, 0, 132)
    assert found["verified"] and found["wards_right"] == len(found["wards"]) >= 10 and found["problems"] == 0
    assert sum(sum(row.values()) for row in found["wards"].values()) == 700


def test_precincts_share_out_every_vote_and_every_precinct_is_given_out():
    counties = [national.County("B", "Big", (70, 30, 1)), national.County("A", "Small", (1, 0, 0)), national.County("B", "Tiny", (0, 2, 0))]  # fmt: skip
    units, counts = national.nation_units(counties, 10)
    assert len(counts) == 10 and [sum(column) for column in zip(*counts.values(), strict=True)] == [71, 32, 1]
    assert [unit.name for unit in units if unit.level == "state"] == ["A", "B"]
    assert all(units[unit].style == 0 for unit in counts)


def test_a_city_s_precincts_are_in_their_wards():
    units, leaf_of = national.city_units(["M W-10 P-01", "M W-2 P-01", "M W-10 P-02"])
    assert [unit.name for unit in units] == ["Minneapolis", "M W-2", "M W-2 P-01", "M W-10", "M W-10 P-01", "M W-10 P-02"]  # fmt: skip
    assert leaf_of == [4, 2, 5] and [units[unit].parent for unit in leaf_of] == [3, 1, 3]


def test_data_that_is_missing_or_strange_says_which_file(tmp_path):
    with pytest.raises(BallotboardError, match=r"cannot read .*county_president.csv"):
        national.nation(tmp_path, tmp_path / "out")
    (tmp_path / "county_president.csv").write_text("state_name,county_name\nA,B\n")
    with pytest.raises(BallotboardError, match="is not the county file"):
        national.read_counties(tmp_path / "county_president.csv")


@pytest.mark.slow
def test_a_dask_graph_on_a_cluster_of_processes_gives_the_bytes_of_the_sequential_run(state, counted, tmp_path):
    other = tmp_path / "sequential"
    shutil.copytree(counted, other)
    with cluster("local") as client:
        for folder, work in (
            (counted, partial(run_dask, state.plan, counted, KEYS, client)),
            (other, partial(run_tree, state.plan, other, KEYS, processes=1)),
        ):
            path = inbox.sum_path(folder, state.plan, 5)
            path.rename(tmp_path / "late")
            with pytest.raises(MissingSums, match="Baker 1"):
                work()
            assert standing(state, folder, 2) is None
            assert work(partial=True).missing == (5,)
            (tmp_path / "late").rename(path)
            made = work().sum
            assert (made.revision, made.leaves) == (2, 5)
        assert files(counted) == files(other)
        path = inbox.sum_path(counted, state.plan, 3)
        path.write_bytes(path.read_bytes()[:-1] + b"\0")
        with pytest.raises(NotSigned, match="unit 3"):
            run_dask(state.plan, counted, KEYS, client)


def test_a_scheduler_that_is_not_there_is_one_clear_line(monkeypatch):
    monkeypatch.setattr(runs, "CONNECT_SECONDS", 0.3)
    for address in (f"tcp://127.0.0.1:{free_port()}", "nonsense://x"):
        with pytest.raises(BallotboardError, match=f"there is no Dask scheduler at {address}"):
            with cluster(address):
                pass


def files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_sample_is_spread_over_the_file():
    data = national.BallotData("n", "s", ("a", "blank"), ("u",), tuple((0, i) for i in range(10)))
    assert [option for _, option in national.sample(data, 5).votes] == [0, 2, 4, 6, 8]
    assert national.sample(data, 10) is data and national.sample(data, None) is data
