"""The central picture of real records: every rule flags what it is for, and nothing is shown before the embargo."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest

import station
from chain.rpc import call
from protocol import paper
from protocol.errors import BallotboardError
from protocol.paper import ContestCount
from protocol.sheet import sheet_code
from station import actions
from station.printing import report_csv, report_pdf, report_rows
from station.result import Counted
from tests.station.conftest import chain as chain
from tests.station.world import VOTERS, log_of, sender, signed, start
from tests.trustee.boards import publish
from verifier import picture, sheets

pytestmark = pytest.mark.e2e

TEN = Counted(4, 0, 0, 4, (ContestCount(0, (3, 1, 0), 0, 0),))
MOVED = Counted(4, 0, 0, 4, (ContestCount(0, (1, 3, 0), 0, 0),))


@pytest.fixture(scope="module")
def scene(chain, tmp_path_factory):
    """Four stations in two wards. 0 reports, reveals, and turns its result round; 2 checks in a voter of 0's again; 1 reports late and reveals nothing; 3 is silent."""
    before = call(chain.web3, "evm_snapshot")
    board = publish(chain, stations=4)
    board.make_key()
    board.record_roll(VOTERS)
    board.open()
    windows, pictures = board.manifest.windows, {}
    places = [start(board, tmp_path_factory.mktemp("s") / str(n), n) for n in range(3)]
    voters = {0: [0, 1, 2, 3], 1: [4], 2: [3]}
    for n, place in enumerate(places):
        actions.open_station(place)
        actions.check_in(place, voters[n])
        signed(board, place)
        actions.sync(place, board.board, sender(board)) if n == 0 else None
        actions.close_station(place)
    board.chain.advance_to(windows.count_not_before)
    for n in (0, 2):
        figures = TEN if n == 0 else Counted(2, 0, 0, 2, (ContestCount(0, (2, 0, 0), 0, 0),))
        actions.count(places[n], figures, reason="" if n == 0 else "a check-in was forgotten")
        signed(board, places[n])
        actions.submit(places[n], board.board, sender(board))
    pictures["evening"] = draw(board)
    board.chain.advance_to(windows.reveal_not_before)
    for n in (0, 2):
        actions.reveal(places[n], board.board, sender(board))
    actions.amend(places[0], MOVED, "two piles were swapped")
    signed(board, places[0])
    actions.sync(places[0], board.board, sender(board))
    board.chain.advance_to(windows.count_not_before + picture.LATE + 60)
    actions.count(places[1], Counted(1, 0, 0, 1, (ContestCount(0, (1, 0, 0), 0, 0),)))
    signed(board, places[1])
    actions.submit(places[1], board.board, sender(board))
    published = picture.Published("the gazette", {"North": (1, 3, 0), "South": (9, 9, None)})
    scans = [{"station": 0, "duplicates": 2, "foreign": 0, "forged": 1}]
    now = windows.count_not_before + picture.SILENT
    pictures["morning"] = picture.picture(picture.known(log_of(board)), now, published, scans)
    yield board, places, pictures
    for place in places:
        place.close()
    assert call(chain.web3, "evm_revert", before)


def draw(board) -> dict:
    return picture.picture(picture.known(log_of(board)), board.board.now())


def flags(drawn: dict, rule: str) -> list[dict]:
    return [flag for flag in drawn["flags"] if flag["rule"] == rule]


def test_before_the_embargo_only_who_has_reported_is_known(scene):
    _, _, pictures = scene
    evening = pictures["evening"]
    assert [station["state"] for station in evening["stations"]] == ["reported", "silent", "reported", "silent"]
    assert all("accounting" not in revision for station in evening["stations"] for revision in station["revisions"])
    assert evening["units"][0]["reported"] == 2 and evening["units"][0]["totals"] == [[0, 0, 0]]
    assert {flag["rule"] for flag in evening["flags"]} == {"conflict"}


def test_every_rule_flags_what_it_is_for_with_the_figures_behind_it(scene):
    board, places, pictures = scene
    morning = pictures["morning"]
    assert [flag["station"] for flag in flags(morning, "silent")] == [3]
    assert [flag["station"] for flag in flags(morning, "late")] == [1]
    assert [(f["station"], f["figures"]["revision"]) for f in flags(morning, "unrevealed")] == [(1, 1)]
    assert [(f["station"], f["figures"]) for f in flags(morning, "check-ins")] == [(2, {"check_ins": 1, "issued": 2})]
    [conflict] = flags(morning, "conflict")
    assert (conflict["figures"]["roll_index"], conflict["figures"]["stations"]) == (3, [0, 2])
    [turnout] = flags(morning, "turnout")
    assert turnout["figures"] == {"issued": 6, "online": 0, "registered": VOTERS} and turnout["unit"] == 1
    [revision] = flags(morning, "revision")
    assert (revision["figures"]["before"], revision["figures"]["after"]) == ([3, 1, 0], [1, 3, 0])
    [official] = flags(morning, "official")
    assert (
        official["figures"]["stations"] == [3, 3, 0] and official["unit"] == 1
    )  # South is not complete, so not compared
    [serials] = flags(morning, "serials")
    assert serials["figures"] == {"duplicates": 2, "forged": 1}
    assert not {"arithmetic", "digits", "void"} & {flag["rule"] for flag in morning["flags"]}
    assert all(flag["severity"] == picture.RULES[flag["rule"]][0] for flag in morning["flags"])


def test_sums_go_up_to_the_nation_and_both_revisions_stay_with_their_difference(scene):
    _, _, pictures = scene
    morning = pictures["morning"]
    north, town = morning["units"][1], morning["units"][0]
    assert north["totals"] == town["totals"] == [[3, 3, 0]] and (
        town["stations"],
        town["reported"],
        town["revealed"],
    ) == (4, 3, 2)
    first, second = morning["stations"][0]["revisions"]
    assert first["contests"][0]["counts"] == [3, 1, 0] and second["difference"] == [[-2, 2, 0]]
    assert second["reason"] == "two piles were swapped"


def test_reports_have_a_row_for_every_unit_and_station_or_for_one_level(scene):
    _, _, pictures = scene
    rows = list(csv.reader(io.StringIO(report_csv(pictures["morning"]))))
    assert [row[0] for row in rows] == ["level", "town", "ward", "ward", *["station"] * 4]
    assert rows[0][-3:] == ["question: yes", "question: no", "question: blank"]
    assert rows[1][-3:] == ["3", "3", "0"] and rows[4][-3:] == ["1", "3", "0"] and rows[7][-3:] == ["", "", ""]
    assert [row[0] for row in report_rows(pictures["morning"], "ward")[1]] == ["ward", "ward"]
    with pytest.raises(BallotboardError, match="choose station, town, ward"):
        report_rows(pictures["morning"], "county")
    assert report_pdf(pictures["morning"]).startswith(b"%PDF-")
    json.dumps(pictures["morning"])


def test_a_document_that_does_not_add_up_is_flagged_and_not_counted(scene, monkeypatch):
    board, places, _ = scene
    monkeypatch.setattr(paper, "arithmetic", lambda result, *rest: ["off by one"] if result.station == 0 else [])
    found = draw(board)
    assert [flag["figures"] for flag in flags(found, "arithmetic")] == [{"wrong": ["off by one"]}]
    assert found["units"][0]["revealed"] == 1


def test_last_digits_are_a_hint_only_where_they_are_many_and_uneven(scene):
    board, places, _ = scene
    result = places[0].state.documents[0].result

    def digits(numbers: list[int]) -> list[dict]:
        standing = {
            n: replace(result, contests=(ContestCount(0, (number, 0, 0), 0, 0),)) for n, number in enumerate(numbers)
        }
        known = picture.known(log_of(board))
        known.__dict__["standing"] = standing  # as if so many stations had reported
        return list(picture._digits(known))

    assert digits([100 + n for n in range(200)]) == []
    assert digits([150] * 99) == []  # too few stations
    assert digits([9] * 200) == []  # too small counts
    [flag] = digits([150] * 60 + [100 + n for n in range(100)])
    assert flag["severity"] == "hint" and flag["figures"]["digits"][0] == 70


def test_a_printed_sheet_is_compared_with_what_two_officers_signed(scene):
    board, places, _ = scene
    known = picture.known(log_of(board))
    first, second = (sheet_code(one.result, board.manifest.election_id) for one in places[0].state.documents)
    assert [sheets.compare(known, code).state for code in (first, second)] == ["older", "same"]
    pending = sheet_code(places[1].state.documents[0].result, board.manifest.election_id)
    assert sheets.compare(known, pending).state == "pending"
    wrong = sheets.compare(known, replace(second, contests=((0, 3, 1, 0, 0, 0),)))
    assert (wrong.state, wrong.good) == ("differs", False)
    assert wrong.differences == [
        "contest 0, votes of option 0: the record says 1, the sheet says 3",
        "contest 0, votes of option 1: the record says 3, the sheet says 1",
    ]


def test_the_readme_lists_every_rule_as_it_is():
    text = (Path(station.__file__).parent / "README.md").read_text()
    for name, (severity, words) in picture.RULES.items():
        assert f"| `{name}` | {severity} | {words} |" in text
