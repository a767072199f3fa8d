import json

import pytest

from protocol.errors import BallotboardError
from scripts.ballot_data import burlington, read_ballots
from tests.shared_data import shared


def files(tmp_path, ballots, candidates=("Ann", "Bob")):
    contest, rows = tmp_path / "contest.json", tmp_path / "ballots.csv"
    contest.write_text(json.dumps({"candidates": list(candidates)}))
    rows.write_text(ballots)
    return contest, rows


def test_the_built_in_burlington_totals_are_those_of_its_published_ballots():
    folder = shared("irv", "burlington_2009")
    published = read_ballots(folder / "contest.json", folder / "ballots.csv")
    assert burlington().totals() == published.totals()
    assert len(burlington().votes) == 8980


def test_san_francisco_gives_its_first_ranks_precinct_by_precinct():
    folder = shared("irv", "sf_2016_d7")
    data = read_ballots(folder / "contest.json", folder / "ballots.csv")
    # Ranked counting moves skipped first ranks up; a first-choice election does not, so each candidate has a little less.
    rounds = json.loads((folder / "contest.json").read_text())["expected"]["rounds"][0]
    assert sum(data.totals().values()) == sum(rounds["tally"].values()) + rounds["inactive_total"] == len(data.votes)
    assert all(0 <= rounds["tally"][name] - data.totals()[name] < 30 for name in rounds["tally"])
    assert data.totals()["NORMAN YEE"] == 14154
    assert data.units[0] == "Pct 7701"


def test_a_first_rank_that_is_empty_overvoted_or_joined_is_blank_and_precincts_are_units(tmp_path):
    data = read_ballots(
        *files(tmp_path, "precinct,count,rank1,rank2\nP1,2,Ann,Bob\nP2,1,,Ann\nP1,1,overvote,\nP1,1,Ann|Bob,\n")
    )
    assert data.units == ("P1", "P2")
    assert data.totals() == {"Ann": 2, "Bob": 0, "blank": 3}
    assert data.first(3).totals() == {"Ann": 2, "Bob": 0, "blank": 1}


@pytest.mark.parametrize(
    ("ballots", "message"),
    [
        ("count,rank1\n1,Eve\n", "line 2: 'Eve' is not a candidate"),
        ("count,rank1\n1,Ann\nx,Ann\n", "line 3: count 'x'"),
        ("count,rank1\n-1,Ann\n", "line 2: count '-1'"),
        ("count,first\n1,Ann\n", "columns rank1"),
        ("count,rank1\n", "no ballots"),
        ("", "columns count, rank1"),
    ],
)
def test_a_wrong_ballot_file_is_named_with_its_line(tmp_path, ballots, message):
    with pytest.raises(BallotboardError, match=message):
        read_ballots(*files(tmp_path, ballots))


@pytest.mark.parametrize("candidates", [[], ["Ann", "Ann"], ["Ann", "blank"], [str(i) for i in range(100)], [1]])
def test_a_wrong_contest_file_is_named(tmp_path, candidates):
    with pytest.raises(BallotboardError, match=r"contest\.json"):
        read_ballots(*files(tmp_path, "count,rank1\n1,Ann\n", candidates))


def test_missing_files_and_files_of_another_kind_are_named(tmp_path):
    contest, rows = files(tmp_path, "count,rank1\n1,Ann\n")
    for pair in ((tmp_path / "no.json", rows), (contest, tmp_path / "no.csv"), (rows, rows)):
        with pytest.raises(BallotboardError, match=str(tmp_path)):
            read_ballots(*pair)
