"""Online votes by region: never a wrong sum, and nothing finer than what was decrypted."""

from __future__ import annotations

import csv
import io
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulletin import pages, regions
from bulletin.regions import Group
from protocol import tally
from protocol.attachments import Station, Unit
from protocol.encoding import canonical_json
from protocol.records import Kind
from tests.bulletin.boards import replica
from tests.bulletin.pages import Page
from tests.bulletin.test_app import client, page
from tests.bulletin.test_replica import export
from tests.tamper import builder
from tests.tamper.builder import AUTHORITY, COUNTED_TOTALS, Election, address, hold, officers

API = "/api/v1"

UNITS = [
    Unit("nation", "N", -1, -1), Unit("region", "A", 0, -1), Unit("town", "T", 1, 0), Unit("town", "S", 1, 0),
    Unit("village", "=V", 0, 1),
]  # fmt: skip


class Regions(Election):
    """Rows 0 and 1 vote in the two towns of the region A, one in each; two ballots are counted in the village."""

    minimum = 2

    def stations(self) -> list[bytes]:
        return [Station(n, unit, tuple(map(address, officers(n))), f"s{n}").row() for n, unit in enumerate((3, 4))]

    def manifest_value(self):
        value = super().manifest_value()
        value["rules"] |= {"minimum_ballots": self.minimum, "decrypt_level": 2}
        return value


class Larger(Regions):
    minimum = 3


@pytest.fixture(scope="module")
def places():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(builder, "UNITS", UNITS)
        patch.setattr(builder, "UNIT_OF_ROW", (2, 3, 3, 4, 4, 4, 4))
        yield


@pytest.fixture(scope="module")
def held(places) -> Election:
    return hold(Regions)


@pytest.fixture(scope="module")
def web(held, tmp_path_factory):
    return client(replica(tmp_path_factory.mktemp("regions"), held))


def region(web, unit: int) -> dict:
    return web.get(f"{API}/regions/{unit}").json()


def votes(web, unit: int, contest: int = 0) -> tuple:
    online = region(web, unit)["online"][contest]
    return online["state"], online["ballots"], online["votes"]


def test_a_region_that_is_a_group_or_several_has_its_online_votes_and_the_sums_are_those_of_the_result(web):
    assert votes(web, 0) == ("shown", 4, COUNTED_TOTALS["question"])
    assert votes(web, 1) == ("shown", 2, [1, 1])  # rows 0 and 1
    assert votes(web, 4) == ("shown", 2, [2, 0])  # rows 3 and 6
    result = web.get(f"{API}/result").json()
    for number, contest in enumerate(result["contests"]):
        online, totals = COUNTED_TOTALS[contest["id"]], [option["total"] for option in contest["options"]]
        assert [sum(column) for column in zip(*(g["totals"] for g in contest["groups"]), strict=True)] == online
        assert region(web, 0)["online"][number]["votes"] == online
        assert region(web, 0)["online"][number]["total"] == totals


def test_a_region_that_is_smaller_than_its_group_says_with_whom_it_was_decrypted(web):
    for unit in (2, 3):
        assert votes(web, unit) == ("together", 1, None)
        [group] = region(web, unit)["online"][0]["groups"]
        found = web.get(f"{API}/result").json()["contests"][0]["groups"][group]
        assert found == {"group": group, "ballots": 2, "totals": [1, 1], "regions": [{"unit": 1, "name": "A"}]}
        assert region(web, unit)["online"][0]["total"] is None
        mayor = region(web, unit)["online"][1]["groups"]  # on which no village votes
        assert [web.get(f"{API}/result").json()["contests"][1]["groups"][one]["regions"] for one in mayor] == [
            [{"unit": 1, "name": "A"}]
        ]
    assert (
        votes(web, 4, 1)[0] == votes(web, 2, 2)[0] == "none"
    )  # the village does not elect the mayor, the town no board


def test_the_page_of_a_region_shows_the_votes_or_says_why_not(web):
    shown = page(web, "/results/1")
    assert shown.rows("Shall it be done?: votes in this region") == [
        ["yes", "1", "1", "2", "66.7%"], ["no", "1", "0", "1", "33.3%"],
    ]  # fmt: skip
    assert "2 online and 1 on paper" in " ".join(shown.text.split())
    for language, few in (("en", "Fewer than 2 people voted online here (1)"), ("fr", "Moins de 2 personnes ont voté")):
        text = " ".join(Page(web.get(f"/{language}/results/2").text).text.split())
        assert few in text and "A" in text
    alone = page(web, "/results/3")
    assert alone.head("Shall it be done?: votes in this region") == ["Option", "Paper", "Share"]
    assert alone.rows("Shall it be done?: online ballots of this group (2)") == [
        ["yes", "1", "50.0%"],
        ["no", "1", "50.0%"],
    ]
    assert ["T", "–", "1 not shown alone", "0"] in page(web, "/results/1").rows(
        "Shall it be done?: most votes by region"
    )
    assert page(web, "/results").rows("Shall it be done?: votes by region") == [["A", "2", "1"], ["=V", "2", "1"]]
    assert page(web, "/results").rows("Mayor: most votes by region") == [["A", "Tie 33.3%", "2", "1"]]
    village = page(web, "/results/4")
    assert "Mayor" not in village.text and "/en/stations/1" in [link.get("href") for link in village.all("a")]


def test_many_regions_come_on_several_pages_and_the_overview_has_the_largest(web, held, tmp_path, monkeypatch):
    units = "Recorded ballots by unit"
    assert [row[0] for row in page(web, "/").rows(units)] == ["T", "S", "=V", "All units"]
    monkeypatch.setattr(pages, "PAGE", 1)
    monkeypatch.setattr(pages, "SUMMARY", 2)
    many = client(replica(tmp_path, held))
    first, second, overview = page(many, "/results"), page(many, "/results?from=1"), page(many, "/")
    assert [row[0] for row in first.rows("Regions")] == ["A"] and [row[0] for row in second.rows("Regions")] == ["=V"]
    assert "Regions 1 to 1 of 2" in first.text and "Regions 2 to 2 of 2" in second.text
    assert "/en/results/0?from=1#regions" in [link.get("href") for link in first.all("a")]
    assert overview.head(units) == ["Unit", "Turnout", "Cards with a ballot", "Cards on the roll"]
    assert [row[0] for row in overview.rows(units)] == ["A", "=V", "All units"]


def test_the_file_for_reporters_has_every_region_and_leaves_empty_what_is_not_known(web):
    answer = web.get(f"{API}/results.csv")
    assert (
        answer.headers["content-type"] == "text/csv; charset=utf-8"
        and "attachment" in answer.headers["content-disposition"]
    )
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert tuple(rows[0]) == regions.COLUMNS and len(rows) == len(UNITS) * sum(
        len(c["options"]) for c in builder.CONTESTS
    )
    found = {(row["number"], row["contest"], row["option"]): row for row in rows}
    assert [found["0", "question", name]["total"] for name in ("yes", "no")] == ["4", "2"]
    assert (found["2", "question", "yes"]["online"], found["2", "question", "yes"]["together with"]) == ("", "A")
    assert found["4", "question", "yes"]["name"] == "'=V"  # no formula
    assert web.get(f"{API}/results.csv", headers={"if-none-match": answer.headers["etag"]}).status_code == 304


def test_a_larger_minimum_shows_the_whole_election_alone(places, tmp_path):
    web = client(replica(tmp_path, hold(Larger)))
    assert [votes(web, unit)[0] for unit in range(5)] == ["shown", *["together"] * 4]
    [group] = web.get(f"{API}/result").json()["contests"][0]["groups"]
    assert group["regions"] == [{"unit": 0, "name": "N"}] and group["totals"] == COUNTED_TOTALS["question"]


def test_before_the_result_and_under_a_wrong_one_nothing_is_said_of_online_votes(places, tmp_path):
    def wrongly(e: Election) -> None:
        value = e.result_value()
        value["online"][0]["groups"][0]["totals"].reverse()
        value["online"][0]["groups"][1]["totals"].reverse()
        e.append(Kind.RESULT, 3400, canonical_json(value), AUTHORITY)

    for name, election in (("early", hold(Regions, until="reveal")), ("wrong", hold(Regions, announce=wrongly))):
        web = client(replica(tmp_path, election, name))
        assert region(web, 0)["online"] is None and web.get(f"{API}/result").json()["contests"][0]["groups"] is None
        rows = list(csv.DictReader(io.StringIO(web.get(f"{API}/results.csv").text)))
        assert {row["online"] for row in rows} == {""} and [row["paper"] for row in rows[:2]] == ["1", "1"]
        assert page(web, "/results/1").rows("Shall it be done?: votes in this region")[0] == ["yes", "1", "100.0%"]


def test_groups_are_part_of_the_export_and_the_same_from_every_board(held, tmp_path):
    one, two = replica(tmp_path, held, "one"), replica(tmp_path, held, "two", at_once=2)
    assert export(one) == export(two) and b'"groups":[[[2,1],[3,1]],[[4,2]]]' in export(one)


# ---------------------------------------------------------------- any tree


@st.composite
def elections(draw):
    """A tree of units, and votes of each leaf that votes."""
    units = [Unit("0", "root", -1, -1)]
    for number in range(1, draw(st.integers(1, 14))):
        units.append(Unit("x", f"{number}", draw(st.integers(0, number - 1)), -1))
    leaves = [n for n in range(len(units)) if not any(unit.parent == n for unit in units)]
    voting = draw(st.lists(st.sampled_from(leaves), unique=True, min_size=1))
    cast = {leaf: draw(st.tuples(st.integers(0, 4), st.integers(0, 4))) for leaf in sorted(voting)}
    return units, cast, draw(st.integers(0, 3)), draw(st.integers(0, 8))


@given(elections())
def test_what_is_shown_is_right_in_any_tree_and_each_region_is_told_apart_from_its_group(found):
    units, cast, level, minimum = found
    ballots = {leaf: sum(votes) for leaf, votes in cast.items()}
    groups = [
        Group(
            tuple((leaf, ballots[leaf]) for leaf in group),
            tuple(sum(cast[leaf][option] for leaf in group) for option in range(2)),
        )
        for group in tally.partition(units, ballots, level, minimum)
    ]
    contest = SimpleNamespace(k=2)
    poll = SimpleNamespace(units=units, stations=[], voters={}, manifest=SimpleNamespace(contests=[contest]))
    rows = regions.regions(poll, {}, {"units": []}, [groups])
    for number, row in enumerate(rows):
        below = [leaf for leaf in cast if number in list(regions._upwards(units, leaf))]
        online, voters = row["online"][0], {leaf for leaf in below if ballots[leaf]}
        parts = [{leaf for leaf, count in group.units if count} for group in groups]
        split = [n for n, part in enumerate(parts) if part & voters and part - voters]
        assert online["ballots"] == sum(ballots[leaf] for leaf in below) and online["groups"] == split
        assert online["state"] == ("together" if split else "shown" if below else "none")
        if online["state"] == "shown":
            assert (
                online["votes"] == online["total"] == [sum(cast[leaf][option] for leaf in below) for option in range(2)]
            )
    for value, group in zip(regions.group_values(units, groups), groups, strict=True):
        covered = [
            leaf for leaf in cast if {one["unit"] for one in value["regions"]} & set(regions._upwards(units, leaf))
        ]
        assert sorted(covered) == sorted(leaf for leaf, _ in group.units)
