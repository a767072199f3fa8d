"""What the board says of one station, what there is to ask about, and the page that a printed sheet's code opens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import count

import pytest
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st

from bulletin import stations as places
from bulletin.stations import OUTSIDE, RULES_HERE
from bulletin.store import Cursor
from bulletin.views import Poll
from bulletin.words import ENGLISH, LANGUAGES
from protocol.attachments import Unit
from protocol.paper import ContestCount, StationResult
from protocol.records import CheckIns, Kind, StationHash
from protocol.sheet import SheetCode, print_code, sheet_code
from tests.bulletin.boards import events, replica
from tests.bulletin.test_app import HOSTILE, Hostile, assert_only_our_elements, client, page
from tests.tamper import builder
from tests.tamper.builder import WINDOWS, Election, hold
from verifier.picture import HELD_BACK, LATE, RULES, SILENT

FLAGS = "/api/v1/flags"


@pytest.fixture
def board(tmp_path) -> Callable[..., TestClient]:
    """The board of an election that is held up to a step, as it is at a time of the chain."""
    names = count()

    def make(*kind: type[Election], at: int = 0, **steps) -> TestClient:
        held = hold(*kind, **steps)
        copy = replica(tmp_path, held, f"board {next(names)}")
        if at:
            copy.append([], Cursor(len(events(held)), bytes(32), at))
        return client(copy)

    return make


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> TestClient:
    return client(replica(tmp_path_factory.mktemp("whole"), hold()))


def rules(web: TestClient) -> list[tuple[str, int | None]]:
    return [(flag["rule"], flag["station"]) for flag in web.get(FLAGS).json()["flags"]]


# ---------------------------------------------------------------- one station


def test_a_station_has_every_revision_with_who_signed_it_and_where_it_was_revealed(whole):
    value = whole.get("/api/v1/stations/1").json()
    first, second = value["revisions"]
    signers = [builder.address(name).hex() for name in builder.officers(1)]
    assert value["officers"] == signers and first["signed_by"] == second["signed_by"] == signers[:2]
    assert (first["revealed_position"], first["document"]) == (None, None)
    revealed = whole.get(f"/api/v1/records/{second['revealed_position']}").json()
    assert revealed["hash"] == second["hash"] and revealed["kind"] == Kind.STATION_RESULT
    assert (value["path"], value["check_ins"], value["state"]) == (["N", "V"], 1, "amended")
    shown = page(whole, "/stations/1")
    for text in ("station 1", "a sheet was turned over", "0x" + signers[0], second["hash"], first["hash"], "not yet"):
        assert text in shown.text
    assert shown.rows("Ballot papers") == [
        ["Papers issued", "1"], ["Papers counted", "1"], ["Papers spoiled", "0"], ["Papers not returned", "0"], ["Valid check-ins of voters", "1"],
    ]  # fmt: skip
    assert shown.rows("Board: votes on paper at this station") == [["x", "0"], ["y", "0"], ["z", "1"], ["Blank papers", "0"], ["Invalid papers", "0"]]  # fmt: skip
    assert ENGLISH.say("flags.none.here") in shown.text and ENGLISH.say("flags.text") in shown.text


def test_before_the_embargo_ends_a_station_shows_that_it_reported_and_no_figure(board):
    web = board(until="report_stations", at=WINDOWS["reveal_not_before"] - 1)
    value = web.get("/api/v1/stations/0").json()
    assert value["check_ins"] is value["valid_check_ins"] is None and value["revisions"][0]["document"] is None
    assert [one["check_ins"] for one in web.get("/api/v1/stations").json()] == [None, None]
    shown = page(web, "/stations/0")
    assert not shown.tables and "not revealed yet" in shown.text and ENGLISH.say("flags.early") in shown.text


@pytest.mark.parametrize("path", ["/stations/2", "/stations/9007199254740991"])
def test_there_is_no_page_of_a_station_that_is_not_there(whole, path):
    page(whole, path, 404)
    assert whole.get(f"/api/v1{path}").status_code == 404


# ---------------------------------------------------------------- the map

NATION = [
    Unit("nation", "Nation", -1, -1),
    Unit("state", "A", 0, -1),
    Unit("state", "B", 0, -1),
    Unit("state", "C", 0, -1),
]
PRECINCTS = [
    Unit("precinct", f"{NATION[parent].name}{number}", parent, 0)
    for parent, number in ((1, 1), (2, 1), (2, 2), (1, 2), (3, 1), (1, 3))
]


def grid(units: list[Unit], states: str, unit: int = 0, start: int = 0, more: tuple[int, ...] = ()) -> dict:
    """The map of a unit: a station in every precinct, one more in each of `more`, with these states by their first letter (a for amended, v for revealed)."""
    where = [number for number, one in enumerate(units) if one.style == 0] + list(more)
    names = {"w": "waiting", "r": "reported", "v": "revealed", "a": "amended"}
    rows = [{"station": n, "name": f"S{n}", "unit": u, "state": names[states[n]]} for n, u in enumerate(where)]
    poll = Poll(None, b"", units, [], {})
    return places.grid(poll, rows, places.in_regions(poll, rows), unit, start)


def cells(group: dict) -> list[int]:
    return [one["station"] for one in group["cells"]]


def test_the_map_has_a_cell_for_every_station_by_region_and_one_alone_is_no_group():
    found = grid(NATION + PRECINCTS, "wrvarv")
    assert [(group["name"], cells(group)) for group in found["groups"]] == [
        ("A", [0, 3, 5]),
        ("B", [1, 2]),
        (None, [4]),
    ]
    assert found["counts"] == {"waiting": 1, "reported": 2, "revealed": 2, "amended": 1} and found["of"] == 6
    assert found["groups"][0]["counts"] == {"waiting": 1, "reported": 0, "revealed": 1, "amended": 1}
    assert (found["regions"], found["next"], found["above"]) == ([], None, [])
    inside = grid(NATION + PRECINCTS, "wrvarv", 1)
    assert [cells(group) for group in inside["groups"]] == [[0, 3, 5]] and inside["alone"]
    assert inside["above"] == [{"unit": 0, "name": "Nation"}]
    school = grid(NATION + PRECINCTS, "wrvarvw", 1, more=(4,))  # two in A1
    assert [(group["name"], cells(group)) for group in school["groups"]] == [("A1", [0, 6]), (None, [3, 5])]


def test_of_too_many_stations_regions_are_listed_and_opened_one_by_one(monkeypatch):
    monkeypatch.setattr(places, "CELLS", 2)
    first = grid(NATION + PRECINCTS, "wrvarv")
    assert [(row["name"], row["of"], row["counts"]["waiting"]) for row in first["regions"]] == [
        ("A", 3, 1),
        ("B", 2, 0),
    ]
    assert (first["groups"], first["next"]) == ([], 2)
    second = grid(NATION + PRECINCTS, "wrvarv", start=2)
    assert second["regions"] == [] and [cells(group) for group in second["groups"]] == [[4]] and second["next"] is None
    flat = [grid(NATION + PRECINCTS, "wrvarv", 1, start) for start in (0, 2)]
    assert [(cells(one["groups"][0]), one["next"]) for one in flat] == [([0, 3], 2), ([5], None)]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=40), st.integers(1, 12), st.data())
def test_whoever_opens_every_region_sees_every_station_once(draws, at_once, data):
    units = [Unit("u", "0", -1, -1)]
    for number, draw in enumerate(draws, 1):  # any tree: a parent is an earlier unit
        units.append(Unit("u", f"{number}", draw % number, -1))
    inner = {unit.parent for unit in units}
    units = [replace(unit, style=-1 if number in inner else 0) for number, unit in enumerate(units)]
    more = tuple(data.draw(st.lists(st.sampled_from([n for n, u in enumerate(units) if u.style == 0]), max_size=9)))
    states = data.draw(st.text("wrva", min_size=60, max_size=60))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(places, "CELLS", at_once)
        seen, todo = [], [(0, 0)]
        while todo:
            found = grid(units, states, *todo.pop(), more=more)
            assert sum(len(group["cells"]) for group in found["groups"]) + len(found["regions"]) <= at_once
            seen += [number for group in found["groups"] for number in cells(group)]
            todo += [(row["unit"], 0) for row in found["regions"]]
            todo += [(found["unit"], found["next"])] if found["next"] else []
    assert sorted(seen) == list(range(sum(unit.style == 0 for unit in units) + len(more)))


def test_a_cell_is_a_link_with_a_name_and_the_state_in_words(whole):
    shown = page(whole, "/stations")
    links = [attrs for _, attrs in shown.elements if "cell" in attrs.get("class", "").split() and "href" in attrs]
    assert links == [
        {"class": f"cell {state}", "href": f"/en/stations/{n}"} for n, state in enumerate(("revealed", "amended"))
    ]
    text = " ".join(shown.text.split())
    assert (
        "station 0, Revealed" in text and "station 1, Amended" in text and "Not yet 0" in text and "Revealed 1" in text
    )
    region = page(whole, "/stations?in=1")
    assert [row[0] for row in region.rows(ENGLISH.catalogue["stations.caption"])] == ["station 0T"]
    assert "station 0, Revealed" in region.text and "station 1" not in region.text
    assert (
        "station 0, Revealed" not in page(whole, "/stations?state=revealed").text
    )  # who looks for stations gets the list
    page(whole, "/stations?in=3", 404)


# ---------------------------------------------------------------- questions to ask


def check_in_twice(e: Election) -> None:
    Election.vote(e)
    e.check_in(0, 2, 1900)
    e.check_in(0, 5, 1901)


def test_flags_carry_their_figures_their_rule_and_that_they_are_no_verdict(board):
    web = board(vote=check_in_twice, until="reveal", at=WINDOWS["reveal_not_before"])
    value = web.get(FLAGS).json()
    assert value["note"] == ENGLISH.say("flags.text").split(":")[0] + "." and value["next"] is None
    found = {flag["rule"]: flag for flag in value["flags"]}
    assert found.keys() == {"check-ins", "conflict", "void"} == value["counts"].keys()
    assert found["check-ins"]["figures"] == {"check_ins": 2, "issued": 1} and found["check-ins"]["station"] == 0
    assert (found["conflict"]["figures"]["roll_index"], found["void"]["figures"]["roll_index"]) == (2, 5)
    assert all(value["rules"][rule]["text"] == RULES[rule][1] for rule in found)
    shown = page(web, "/stations/0")
    for words in ("papers issued: 1, valid check-ins: 2", "roll index 2 was checked in twice", RULES["conflict"][1]):
        assert words in " ".join(shown.text.split())
    [first, second] = page(web, "/stations").rows(ENGLISH.catalogue["stations.caption"])
    assert "Questions to ask: 3" in first[1] and "Questions" not in second[1]
    assert "3" in page(web, "/display").text and ENGLISH.say("display.flags", count=3) in page(web, "/display").text
    assert [flag["rule"] for flag in web.get(f"{FLAGS}?rule=void").json()["flags"]] == ["void"]
    assert web.get(f"{FLAGS}?limit=2").json()["next"] == 2
    assert len(web.get(f"{FLAGS}?from=2").json()["flags"]) == 1


def test_before_the_embargo_ends_only_who_has_reported_is_asked_about(board):
    early = board(vote=check_in_twice, until="report_stations", at=WINDOWS["reveal_not_before"] - 1)
    assert rules(early) == []
    assert ENGLISH.say("flags.early") in page(early, "/flags").text


def test_who_is_late_silent_or_holds_back_is_told_when_the_time_of_the_chain_has_come(board):
    counting, embargo = WINDOWS["count_not_before"], WINDOWS["reveal_not_before"]
    assert rules(board(until="vote", at=counting + SILENT - 60)) == []
    silent = board(until="vote", at=counting + SILENT)
    assert rules(silent) == [("silent", 0), ("silent", 1)]
    assert "no result 16 hours after counting began" in page(silent, "/flags?rule=silent").text
    assert rules(board(until="report_stations", at=embargo + HELD_BACK)) == [("unrevealed", 0), ("unrevealed", 1)]

    def report_late(e: Election) -> None:
        e.documents = [e.result_of(0)]
        e.append_hash(e.documents[0], counting + LATE + 60)

    late = board(report_stations=report_late, until="reveal")
    assert ("late", 0) in rules(late) and "reported 10 hours after counting began" in page(late, "/stations/0").text


def test_a_document_that_contradicts_itself_or_turns_the_result_round_is_asked_about(board):
    class Wrong(Election):
        def result_of(self, station):
            right = super().result_of(station)
            return replace(right, issued=9) if station == 0 else right

        def amended(self, result):
            turned = (replace(result.contests[0], counts=(1, 0)), *result.contests[1:])
            return replace(super().amended(result), contests=turned)

        def reveal(self):
            self.documents.insert(1, self.result_of(1))
            super().reveal()

    web = board(Wrong, until="reveal")
    assert {("arithmetic", 0), ("revision", 1)} <= set(rules(web))
    assert "issued 9 is not counted 1" in page(web, "/stations/0").text
    assert "revision 2 makes yes 1, no 0 out of yes 0, no 1" in page(web, "/stations/1").text


def test_more_papers_and_online_voters_than_cards_is_asked_about_and_who_took_paper_counts_once(board):
    """Rows 0 and 1 voted online in T; in V row 5 voted online and took a paper, row 4 was replaced by row 6, and both of these voted."""

    class Crowded(Election):
        def result_of(self, station):
            right, more = super().result_of(station), (1, 8)[station]
            return replace(right, issued=right.issued + more, spoiled=more)

    web = board(Crowded, until="reveal")
    found = {flag["unit"]: flag["figures"] for flag in web.get(f"{FLAGS}?rule=turnout").json()["flags"]}
    assert found == {1: {"issued": 2, "online": 2, "registered": 3}, 2: {"issued": 9, "online": 2, "registered": 3}}
    assert "papers issued: 9, voters online: 2, voters on the roll: 3" in page(web, "/flags").text


def test_every_rule_that_the_board_can_see_has_its_words_and_english_is_the_rules_own():
    assert RULES_HERE.keys() | set(OUTSIDE) == RULES.keys()
    for rule, severity in RULES_HERE.items():
        assert ENGLISH.catalogue[f"flag.rule.{rule}"] == RULES[rule][1] and f"flag.{rule}" in ENGLISH.catalogue
        assert f"severity.{severity}" in ENGLISH.catalogue


ODD = [
    (ContestCount(99, (1,), 0, 0),), (ContestCount(-1, (), -5, 2**53 - 1),), (), (ContestCount(0, (), 0, 0), ContestCount(0, (1,) * 9, 0, 0)),
    (ContestCount(0, (50, 0), 0, 0), ContestCount(3, (0, 99), 7, 0)),
]  # fmt: skip


def test_what_two_officers_may_sign_breaks_no_page(board):
    """Documents that are no result of anything, one revision after the other, and records of stations that do not exist."""

    class Odd(Election):
        def report_stations(self):
            right = self.result_of(1)
            self.documents = [
                replace(right, revision=n, contests=contests, station=n % 3) for n, contests in enumerate(ODD, 1)
            ]
            for n, document in enumerate(self.documents, 1):
                body = StationHash(1, n, document.document_hash()).body()
                self.append_station(Kind.STATION_HASH, 2350 + n, body, n, 1)
            body = StationHash(77, 1, self.documents[0].document_hash()).body()
            self.append_station(Kind.STATION_HASH, 2360, body, 1, 1)
            self.append_station(Kind.CHECK_IN, 2361, CheckIns(88, 0, ((1, 1900), (2**32 - 1, 0))).body(), 0, 1)

    web = board(Odd, until="reveal")
    assert {"arithmetic", "void"} <= {rule for rule, _ in rules(web)}
    for path in ("/", "/stations", "/stations/0", "/stations/1", "/flags", "/flags?rule=void", "/display", "/results"):
        page(web, path)
    assert len(web.get("/api/v1/stations/1").json()["revisions"]) == len(ODD)
    for n, document in enumerate(hold(Odd, until="reveal").documents, 1):
        code = print_code(code_of(document, station=1, revision=n), "/")
        assert web.get(code).status_code in (200, 400, 409), code


# ---------------------------------------------------------------- a printed sheet


def code_of(result: StationResult, held: Election | None = None, **change) -> SheetCode:
    return replace(sheet_code(result, (held or hold()).manifest.election_id), **change)


def sheet(web: TestClient, code: SheetCode, status: int, language: str = "en"):
    path = print_code(code, f"/{language}")
    return page(web, path, status)


def marks(shown) -> list[str]:
    return [row[-1] for rows in shown.tables.values() for row in rows[1:]]


@pytest.mark.parametrize("language", sorted(LANGUAGES))
def test_the_code_of_a_good_sheet_opens_a_page_that_finds_every_field_the_same(whole, language):
    words = LANGUAGES[language]
    shown = sheet(whole, code_of(hold().result_of(0)), 200, language)
    assert words.say("sheet.says.same") in shown.text and set(marks(shown)) == {words.say("sheet.yes")}
    assert shown.all("html")[0]["lang"] == language and "station 0" in shown.text


def test_a_phone_is_led_from_the_code_to_the_page_in_its_language(whole):
    code = print_code(code_of(hold().result_of(0)), "http://testserver/")
    answer = TestClient(whole.app).get(code, headers={"accept-language": "fr"})
    assert answer.status_code == 200 and LANGUAGES["fr"].say("sheet.says.same") in answer.text


def test_a_changed_number_is_the_one_field_that_differs(whole):
    right = code_of(hold().result_of(0))
    shown = sheet(whole, replace(right, contests=((0, 0, 1, 0, 0), right.contests[1])), 409)
    assert ENGLISH.say("sheet.says.differs") in shown.alerts and marks(shown).count("differs") == 2
    assert shown.rows("Shall it be done?: votes on paper at this station")[:2] == [["yes", "0", "1", "differs"], ["no", "1", "0", "differs"]]  # fmt: skip
    assert marks(sheet(whole, replace(right, document=bytes(32)), 409)).count("differs") == 1


def test_a_sheet_of_another_election_an_older_revision_or_none_is_called_that(whole):
    other = sheet(whole, code_of(hold().result_of(0), election=bytes(16)), 409)
    assert ENGLISH.say("sheet.says.elsewhere") in other.alerts and not other.tables
    older = sheet(whole, code_of(hold().result_of(1)), 200)
    assert ENGLISH.say("sheet.says.older", revision=1, latest=2) in older.text
    assert (
        ENGLISH.say("sheet.says.unknown", revision=7)
        in sheet(whole, code_of(hold().result_of(0), revision=7), 409).alerts
    )


def test_before_the_embargo_ends_the_sheet_is_compared_by_its_hash_alone(board):
    web = board(until="report_stations")
    shown = sheet(web, code_of(hold().result_of(0)), 200)
    assert ENGLISH.say("sheet.says.pending") in shown.text
    assert marks(shown)[0] == "matches" and set(marks(shown)[1:]) == {"not revealed yet"}
    assert not [row for rows in shown.tables.values() for row in rows[2:] if row[2] != "–"]


@pytest.mark.parametrize(
    "query", ["x=1", "election=00", "election=" + "0" * 32 + "&revision=1&document=&papers=1.1.0.0"]
)
def test_a_code_that_is_none_is_said_to_be_none(whole, query):
    shown = page(whole, f"/stations/0?{query}", 400)
    assert ENGLISH.say("sheet.bad") in shown.alerts
    assert "traceback" not in shown.text.lower()


def test_text_from_the_record_is_text_on_these_pages_too(board):
    held = hold(Hostile)
    web = board(Hostile, vote=check_in_twice)
    shown = [page(web, path) for path in ("/stations/0", "/stations/1", "/flags", "/stations")]
    shown.append(sheet(web, code_of(held.documents[0], held), 200))
    assert "reason " + HOSTILE in shown[1].text and "yes " + HOSTILE in shown[4].text
    for each in shown:
        assert_only_our_elements(each)
