"""The pages and the API over a real database: what they say of an election, and what they never do."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
import schemathesis
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.generation import GenerationMode

from bulletin import pages
from bulletin.app import HEADERS, create_app
from bulletin.replica import Replica
from bulletin.store import Cursor, Store
from bulletin.views import PHASES
from bulletin.words import ENGLISH
from chain.console import Connection
from protocol import credential, merkle
from protocol.ballot import Reason
from protocol.counting import Status
from protocol.encoding import canonical_json
from protocol.receipt import Receipt
from protocol.records import Entry, Kind
from tests.bulletin.boards import events, feed, replica
from tests.bulletin.pages import Page
from tests.tamper import builder
from tests.tamper.builder import COUNTED_TOTALS, PAPER_TOTALS, Election, hold

CSS = Path(pages.__file__).parent / "static" / "board.css"


NO_PAGES = ("/api", "/checkpoint", "/tile", "/static", "/colours.css", "/healthz", "/readyz", "/metrics", "/en", "/fr")


MIRROR = "https://board.example:8443"


class Browser(TestClient):
    """Reads the English pages, wherever no other language is named."""

    def request(self, method, url, **options):
        return super().request(method, url if str(url).startswith(NO_PAGES) else f"/en{url}", **options)


def client(copy: Replica) -> TestClient:
    connection = Connection("http://127.0.0.1:8545", "0x" + builder.CONTRACT.hex(), boards=[f"{MIRROR}/of/this"])
    return Browser(create_app(copy.store, connection), follow_redirects=False)


@pytest.fixture(scope="module")
def held() -> Election:
    return hold()


@pytest.fixture(scope="module")
def whole(held, tmp_path_factory) -> TestClient:
    """The board of an election that is over."""
    return client(replica(tmp_path_factory.mktemp("whole"), held))


@pytest.fixture
def board(tmp_path) -> Callable[..., TestClient]:
    """The board of an election that is held up to a step, or otherwise."""
    names = count()
    return lambda *kind, **steps: client(replica(tmp_path, hold(*kind, **steps), f"board {next(names)}"))


def page(web: TestClient, path: str, status: int = 200) -> Page:
    answer = web.get(path)
    assert answer.status_code == status, answer.text
    return Page(answer.text)


def ballots_of(web: TestClient) -> list[dict]:
    return web.get(f"/api/v1/records?kind={int(Kind.BALLOT)}").json()["records"]


def hash_of(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def announce_wrongly(e: Election) -> None:
    value = e.result_value()
    value["total"][0].reverse()
    e.append(Kind.RESULT, 3400, canonical_json(value), builder.AUTHORITY)


# ---------------------------------------------------------------- the overview


@pytest.mark.parametrize(
    ("until", "phase", "title"),
    [
        ("make_roll", "setup", "Not open yet"),
        ("open_poll", "open", "Voting is open"),
        ("close", "closed", "The polls are closed"),
        ("settle", "settled", "The counted ballots are fixed"),
        ("announce", "final", "The result is announced"),
    ],
)
def test_the_overview_says_where_the_election_is(board, until, phase, title):
    web = board(until=until)
    assert web.get("/api/v1/election").json()["phase"] == phase
    shown = page(web, "/")
    assert title in shown.text and "A small election" in shown.text
    [now] = [attrs for _, attrs in shown.elements if attrs.get("aria-current") == "step"]
    assert now["class"] == ("done" if phase == "final" else "now")


def test_after_the_close_time_voting_has_ended_though_nobody_closed_it_yet(tmp_path):
    held = hold(until="vote")
    copy = replica(tmp_path, held)
    web, size = client(copy), len(events(held))
    for time, phase in ((2199, "open"), (2200, "closing")):  # the poll was extended to 2200
        copy.append([], Cursor(size, bytes(32), time))
        assert web.get("/api/v1/election").json()["phase"] == phase
    assert "Voting has ended" in page(web, "/").text


def test_turnout_is_per_unit_and_leaves_out_a_card_that_was_replaced(whole):
    assert page(whole, "/").rows("Recorded ballots by unit") == [
        ["T", "66.7%", "2", "3", "3"],
        ["V", "100.0%", "3", "3", "4"],
        ["All units", "83.3%", "5", "6", "7"],
    ]
    value = whole.get("/api/v1/turnout").json()
    assert (value["ballots"], value["valid"], value["cards"], value["voters"], value["invalid"]) == (7, 7, 5, 6, {})


def test_without_the_roll_the_number_of_voters_is_unknown_and_not_zero_until_the_file_comes(tmp_path):
    held = hold(until="make_roll")
    copy = Replica(Store(f"sqlite:///{tmp_path}/board.sqlite"), held.manifest, builder.CONTRACT)
    roll = hashlib.sha256(b"".join(held.roll_rows())).digest()
    copy.attach({name: data for name, data in held.files.items() if name != roll})
    feed(copy, events(held))
    web = client(copy)
    assert web.get("/api/v1/turnout").json()["voters"] is None
    assert page(web, "/").rows("Recorded ballots by unit")[-1] == ["All units", "–", "0", "–", "0"]
    copy.attach({roll: held.files[roll]})
    assert web.get("/api/v1/turnout").json()["voters"] == 6


def test_ballots_are_listed_the_newest_first_with_their_state_and_older_ones_on_further_pages(whole, monkeypatch):
    monkeypatch.setattr(pages, "BALLOTS", 3)
    found, path = [], "/"
    while path:
        shown = page(whole, path)
        found += shown.rows("Recorded ballots")
        older = [link["href"] for link in shown.all("a") if link.get("rel") == "next"]
        path = older[0] if older else ""
    assert [(row[2], row[1]) for row in found] == [
        ("21", "Counted"), ("20", "Counted"), ("16", "Replaced by paper"), ("15", "Card replaced"), ("14", "Counted"), ("13", "Counted"),
        ("12", "Superseded"),
    ]  # fmt: skip


def test_stations_are_shown_as_far_as_they_are(board):
    def state(until: str) -> list[list[str]]:
        return [row[1:3] for row in page(board(until=until), "/stations").rows(ENGLISH.catalogue["stations.caption"])]

    assert state("vote") == [["Not yet", ""]] * 2
    assert state("report_stations") == [["Reported, under embargo", ""]] * 2
    assert state("reveal") == [["Revealed", "1"], ["Amended Revision 2 of 2: a sheet was turned over", "1"]]


def test_a_station_whose_counts_do_not_add_up_is_said_to_be_left_out(board):
    def reveal(e: Election) -> None:
        for document in e.documents:
            e.append(Kind.STATION_RESULT, 2600, document.body())

    class Wrong(Election):
        def result_of(self, station):
            right = super().result_of(station)
            return replace(right, issued=right.issued + 5) if station == 0 else right

    web = board(Wrong, until="reveal", reveal=reveal)
    [first, second] = page(web, "/stations").rows(ENGLISH.catalogue["stations.caption"])
    assert "is not counted" in first[1] and "is not counted" not in second[1]
    assert web.get("/api/v1/stations").json()[0]["revisions"][0]["problems"]
    assert page(web, "/").rows("Shall it be done?: votes") == [["no", "1", "100.0%"], ["yes", "0", "0.0%"]]


# ---------------------------------------------------------------- the result


def test_the_result_has_online_paper_and_total_apart(whole):
    shown = page(whole, "/")
    for contest in builder.CONTESTS:
        caption = f"{contest['title']}: votes"
        assert shown.head(caption) == ["Option", "Online", "Paper", "Total", "Share"]
        online, paper = COUNTED_TOTALS[contest["id"]], PAPER_TOTALS[contest["id"]]
        expected = {
            option: (str(a), str(b), str(a + b)) for option, a, b in zip(contest["options"], online, paper, strict=True)
        }
        rows = shown.rows(caption)
        assert {row[0]: tuple(row[1:4]) for row in rows} == expected
        assert [int(row[3]) for row in rows] == sorted((int(row[3]) for row in rows), reverse=True)
    assert shown.rows("Shall it be done?: votes")[0] == ["yes", "3", "1", "4", "66.7%"]
    assert "gets the same" in shown.text and shown.alerts == ""
    value = whole.get("/api/v1/result").json()
    assert (value["state"], value["problem"]) == ("final", "")
    assert value["contests"][0]["ballots"] == {"online": 4, "paper": 2}


def test_before_the_embargo_ends_there_is_no_figure_of_any_station(board):
    web = board(until="report_stations")
    assert web.get("/api/v1/result").json()["state"] == "none"
    assert all(r["document"] is None for s in web.get("/api/v1/stations").json() for r in s["revisions"])
    shown = page(web, "/")
    assert "There is no result yet" in shown.text and not [name for name in shown.tables if name.endswith(": votes")]


def test_what_is_known_on_paper_only_is_marked_as_partial_and_has_no_total(board):
    web = board(until="reveal")
    shown = page(web, "/")
    assert "Partial result" in shown.text and "This is not the result." in shown.text
    assert shown.head("Mayor: votes") == ["Option", "Paper", "Share"]
    assert {row[0]: row[1] for row in shown.rows("Mayor: votes")} == {"a": "0", "b": "0", "c": "1", "blank": "0"}
    value = web.get("/api/v1/result").json()
    assert value["state"] == "partial" and value["contests"][1]["ballots"] == {"online": None, "paper": 1}


def test_an_announced_result_that_the_record_does_not_give_is_an_alarm_on_every_page(board):
    web = board(announce=announce_wrongly, until="announce")
    assert web.get("/api/v1/result").json()["problem"] == "the announced result is not the one that the record gives"
    ballot = ballots_of(web)[0]["hash"]
    for path in ("/", f"/ballots/{ballot}"):
        assert "Do not rely on this result" in page(web, path).alerts
    assert "gets the same" not in page(web, "/").text


def test_a_practice_election_says_so_wherever_figures_of_paper_are(board):
    class Practice(Election):
        def manifest_value(self):
            return super().manifest_value() | {"practice": True}

        def result_of(self, station):
            return replace(super().result_of(station), practice=True)

    for until, head, ballots in (
        ("reveal", ["Option", "Paper (practice)", "Share"], "Practice papers so far: 2."),
        ("announce", ["Option", "Online", "Paper (practice)", "Total (with practice)", "Share"], "2 practice papers"),
    ):
        web = board(Practice, until=until)
        shown = page(web, "/")
        assert shown.head("Shall it be done?: votes") == head and ballots in shown.text
        assert "Practice papers counted" in page(web, "/stations").head(ENGLISH.catalogue["stations.caption"])
        assert "practice papers and nobody's votes" in shown.text and "Nothing here is a real vote" in shown.text
        assert web.get("/api/v1/result").json()["practice"] is True


def test_no_other_election_is_called_a_practice(whole):
    assert "ractice" not in page(whole, "/").text


def test_what_became_of_the_ballots_is_summed_up(whole, held):
    value = whole.get("/api/v1/counted-set").json()
    assert value["root"] == held.settled().counted.root().hex()
    assert {name: count for name, count in value["statuses"].items() if count} == {
        "counted": 4, "superseded": 1, "replaced-by-paper": 1, "revoked": 1,
    }  # fmt: skip
    assert "What became of the ballots recorded (7)" in page(whole, "/").text


# ---------------------------------------------------------------- a ballot


def test_every_ballot_page_says_in_words_whether_it_counts_and_why_not(whole, held):
    said = {
        Status.COUNTED: "This ballot is counted.",
        Status.SUPERSEDED: "Another ballot of the same card stands, the one at position 20.",
        Status.REPLACED_BY_PAPER: "At the polling station “station 1” a paper ballot was handed out for this card",
        Status.REVOKED: "Its card was revoked and replaced by another (record 17).",
    }
    records = held.records()
    for row in held.settled().counted.rows:
        text = page(whole, f"/ballots/{records[row.position].entry.body_hash.hex()}").text
        assert said[row.status] in text
        assert ("This ballot is not counted." in text) == (row.status != Status.COUNTED)


def test_before_the_settlement_no_ballot_is_called_counted(board):
    web = board(until="vote")
    for record in ballots_of(web):
        value = web.get(f"/api/v1/ballots/{record['hash']}").json()
        assert value["fate"]["state"] == "recorded" and value["settled"] is False
        assert "Whether it counts is fixed by the settlement" in page(web, f"/ballots/{record['hash']}").text


def test_a_voter_sees_that_the_card_was_used_more_than_once_or_on_paper(board):
    web = board(until="vote")
    ballots = ballots_of(web)
    texts = {value["position"]: page(web, f"/ballots/{value['hash']}").text for value in ballots}
    many = [position for position, text in texts.items() if "has cast 2 valid ballots" in text]
    assert many == [12, 20] and "Vote again" in texts[12]
    assert [position for position, text in texts.items() if "dispute it before the settlement" in text] == [16]


def test_a_ballot_that_cannot_count_says_why(board):
    web = board(vote=lambda e: e.append_ballots(1200, [b"junk"]), until="vote")
    text = page(web, f"/ballots/{hash_of(b'junk')}").text
    assert "cannot count, because it is not a ballot of this kind" in text and "Not valid" in text
    assert "not valid and belong to no unit: 1" in page(web, "/").text


def test_a_ballot_that_was_recorded_twice_names_the_copy(board):
    web = board(vote=lambda e: e.append_ballots(1200, [e.cast["row 1"], e.cast["row 1"]]), until="vote")
    value = ballots_of(web)
    assert value[0]["hash"] == value[1]["hash"]
    assert web.get(f"/api/v1/ballots/{value[0]['hash']}").json()["copies"] == [value[1]["position"]]
    assert "Also recorded at" in page(web, f"/ballots/{value[0]['hash']}").text


def test_every_outcome_has_its_words():
    """The pages look these up by name."""
    assert all(
        f"state.{status.text}" in ENGLISH.catalogue and f"fate.{status.text}" in ENGLISH.catalogue for status in Status
    )
    assert all(f"reason.{reason.text}" in ENGLISH.catalogue for reason in Reason if reason != Reason.VALID)
    assert all(f"phase.{phase}" in ENGLISH.catalogue and f"phase.{phase}.text" in ENGLISH.catalogue for phase in PHASES)


# ---------------------------------------------------------------- find my ballot


@pytest.mark.parametrize("spelling", ["{}", "{:.12}", "{:.8}", " 0x{} ", "{:.4} {:.0}"])
def test_a_ballot_is_found_by_its_code_or_the_beginning_of_it(whole, held, spelling):
    digest = hash_of(held.cast["row 3"])
    text = spelling.format(digest, "") if spelling != "{:.4} {:.0}" else f"{digest[:4].upper()} {digest[4:9].upper()}"
    answer = whole.get("/find", params={"q": text})
    assert (answer.status_code, answer.headers["location"]) == (303, f"/en/ballots/{digest}")


def test_a_number_finds_the_ballots_of_that_roll_index_and_the_one_at_that_position(whole):
    found = lambda q: [row[2:4] for row in page(whole, f"/find?q={q}").rows("Recorded ballots")]  # noqa: E731
    assert found("0") == [["20", "0"], ["12", "0"]]  # record 0 is the manifest
    assert found("3") == [["14", "3"]]
    assert found("12") == [["12", "0"]]  # a position; no card has this roll index
    assert "no valid ballot of the card" in page(whole, "/find?q=17", 404).text


def test_a_code_with_which_several_ballots_begin_gives_all_of_them(board):
    seen: dict[str, bytes] = {}
    for i in range(1_000_000):  # two of some 80,000 hashes have the same first 32 bits
        body = b"%d" % i
        if (start := hash_of(body)[:8]) in seen:
            break
        seen[start] = body
    web = board(vote=lambda e: e.append_ballots(1200, [seen[start], body]), until="vote")
    links = {link["href"] for link in page(web, f"/find?q={start}").all("a")}
    assert {f"/en/ballots/{hash_of(seen[start])}", f"/en/ballots/{hash_of(body)}"} <= links
    assert web.get(f"/find?q={hash_of(body)[:20]}").headers["location"] == f"/en/ballots/{hash_of(body)}"


@pytest.mark.parametrize(
    ("text", "status", "words"),
    [
        ("f" * 64, 404, "The log has no ballot with this code so far."),
        ("f" * 8, 404, "your promise is proof"),
        ("abcdef1", 400, "neither a ballot code"),
        ("f" * 65, 400, "neither a ballot code"),
        ("", 400, "neither a ballot code"),
        ("zażółć", 400, "neither a ballot code"),
        ("٣", 400, "neither a ballot code"),
        ("9" * 15, 404, "no ballot"),
    ],
)
def test_what_is_not_there_or_no_code_is_said_in_words(whole, text, status, words):
    answer = whole.get("/find", params={"q": text})
    assert answer.status_code == status and words in Page(answer.text).text


def test_who_enters_the_secret_code_of_a_card_is_warned_and_it_is_not_repeated(whole):
    code = credential.print_code(bytes(range(16)))
    for text in (code, code.lower().replace("-", " "), f"17 {code}"):
        for answer in (whole.get("/find", params={"q": text}), whole.post("/find", data={"receipt": text})):
            assert answer.status_code == 400 and "That was your voting code" in Page(answer.text).alerts + answer.text
            assert code[:9] not in answer.text and code[:9].lower() not in answer.text


# ---------------------------------------------------------------- a receipt


def receipt_of(web: TestClient, held: Election, name: str = "row 3") -> Receipt:
    answer = web.get(f"/api/v1/receipts/{hash_of(held.cast[name])}")
    assert answer.status_code == 200 and "attachment" in answer.headers["content-disposition"]
    return Receipt.parse(answer.content)


def paste(web: TestClient, text: str):
    return web.post("/find", data={"receipt": text})


def test_a_served_receipt_proves_the_ballot_without_the_board(whole, held):
    for name, body in held.cast.items():
        receipt = receipt_of(whole, held, name)
        receipt.check()
        assert receipt.ballot == body and receipt.head == held.claims().head
        assert receipt.election_id == held.manifest.election_id and receipt.contract == builder.CONTRACT


@pytest.mark.parametrize("form", [lambda b: b, lambda b: json.dumps(json.loads(b), indent=1).replace("\n", "\r\n")])
def test_a_pasted_receipt_that_is_right_shows_the_ballot_and_each_step(whole, held, form):
    answer = paste(whole, form(receipt_of(whole, held).body().decode()))
    shown = Page(answer.text)
    assert answer.status_code == 200 and "this ballot is in the log as the receipt says" in shown.text
    assert [attrs["class"] for attrs in shown.all("li") if attrs.get("class") in ("good", "bad", "skipped")] == [
        "good"
    ] * 4
    assert "This ballot is counted." in shown.text


def test_a_receipt_against_an_earlier_head_is_right_too(whole, held):
    size, root = next((s, r) for s, r in held.claims().roots if s > 17)
    receipt = receipt_of(whole, held)
    leaves = [record.entry.leaf() for record in held.records()[:size]]
    older = replace(
        receipt,
        head=replace(receipt.head, size=size, root=root),
        proof=tuple(merkle.inclusion_proof(leaves, receipt.position)),
    )
    assert paste(whole, older.body().decode()).status_code == 200


def forged_tree(receipt: Receipt, **change: int) -> Receipt:
    """A log of one's own, of one record, with a proof that is right in itself."""
    entry = replace(receipt.entry, **change)
    head = replace(receipt.head, size=receipt.position + 1, root=entry.leaf())
    leaves = [bytes(32)] * receipt.position + [entry.leaf()]
    return replace(
        receipt,
        entry=entry,
        head=replace(head, root=merkle.root(leaves)),
        proof=tuple(merkle.inclusion_proof(leaves, receipt.position)),
    )


@pytest.mark.parametrize(
    ("change", "steps", "words"),
    [
        (lambda r: replace(r, ballot=r.ballot[:-1] + bytes([r.ballot[-1] ^ 1])), "no skipped skipped skipped", "evidence"),
        (lambda r: replace(r, proof=r.proof[:-1]), "no skipped skipped skipped", "evidence"),
        (lambda r: replace(r, election_id=bytes(32)), "yes no skipped skipped", "another election"),
        (lambda r: replace(r, contract=bytes(20)), "yes no skipped skipped", "another board"),
        (lambda r: replace(r, chain_id=1), "yes no skipped skipped", "another board"),
        (lambda r: forged_tree(r, time=5), "yes yes no skipped", "evidence"),
        (lambda r: forged_tree(r), "yes yes yes no", "evidence"),
    ],
)  # fmt: skip
def test_a_receipt_that_is_not_of_this_log_shows_the_step_that_fails(whole, held, change, steps, words):
    answer = paste(whole, change(receipt_of(whole, held)).body().decode())
    shown = Page(answer.text)
    classes = {"good": "yes", "bad": "no", "skipped": "skipped"}
    found = [classes[attrs["class"]] for attrs in shown.all("li") if attrs.get("class") in classes]
    assert answer.status_code == 409 and found == steps.split() and words in shown.alerts
    assert "This ballot is counted." not in shown.text


@pytest.mark.parametrize(
    "text", ["{", '{"format": 1}', "{" * 100_000, '{"a": 1e400}', '{"\\ud800": 1}', "{" + "9" * 5_000, "{" + "x" * 400_000]
)  # fmt: skip
def test_what_is_no_receipt_is_said_to_be_unreadable(whole, text):
    answer = paste(whole, text)
    assert answer.status_code == 400 and "neither a ballot code nor a receipt" in Page(answer.text).text


# ---------------------------------------------------------------- the API


def test_the_pages_of_the_record_are_the_whole_log_with_proofs_against_its_head(whole, held):
    found, start = [], 0
    while start is not None:
        value = whole.get(f"/api/v1/records?from={start}&limit=7").json()
        found += value["records"]
        start = value["next"]
    head = held.claims().head
    assert [bytes.fromhex(r["entry"]) for r in found] == [r.entry.encode() for r in held.records()]
    for record in held.records():
        value = whole.get(f"/api/v1/records/{record.position}").json()
        assert (value["body"], value["signatures"]) == (record.body.hex(), record.signatures.hex())
        proof = [bytes.fromhex(node) for node in value["proof"]]
        assert value["head"] == {"size": head.size, "root": head.root.hex()}
        leaf = Entry.parse(bytes.fromhex(value["entry"])).leaf()
        assert merkle.verify_inclusion(leaf, record.position, head.size, proof, head.root)


def test_records_of_one_kind_are_those_and_no_others(whole, held):
    for kind in Kind:
        got = whole.get(f"/api/v1/records?kind={int(kind)}").json()["records"]
        assert [r["position"] for r in got] == [r.position for r in held.records() if r.kind == kind]


def test_the_counted_set_comes_in_pages(whole, held):
    rows, start = [], 0
    while start is not None:
        value = whole.get(f"/api/v1/counted-set?from={start}&limit=2").json()
        rows += [(r["position"], r["roll_index"], r["status"], r["reference"]) for r in value["rows"]]
        start = value["next"]
    assert rows == [(r.position, r.roll_index, r.status.text, r.reference) for r in held.settled().counted.rows]


def test_the_head_and_the_command_are_this_elections(whole, held):
    head = held.claims().head
    assert whole.get("/api/v1/head").json()["root"] == head.root.hex()
    command = whole.get("/api/v1/verify").json()["command"]
    assert command in page(whole, "/").text and held.manifest.election_id.hex() in command


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/records/38", 404, "no record at this position"),
        ("/records/-1", 422, "position"),
        ("/records/9007199254740993", 422, "position"),
        ("/records/x", 422, "position"),
        ("/records?limit=1001", 422, "limit"),
        ("/records?limit=0", 422, "limit"),
        ("/records?from=-1", 422, "from"),
        ("/records?kind=99", 422, "kind"),
        ("/ballots/" + "0" * 64, 404, "no such ballot"),
        ("/ballots/" + "A" * 64, 422, "ballot_hash"),
        ("/ballots/0", 422, "ballot_hash"),
        ("/receipts/" + "0" * 64, 404, "no such ballot"),
        ("/attachments/" + "0" * 64, 404, "no file"),
        ("/nothing", 404, "Not Found"),
    ],
)
def test_what_the_api_cannot_answer_it_says_in_words(whole, path, status, words):
    answer = whole.get("/api/v1" + path)
    assert answer.status_code == status and answer.json()["error"] == status and words in answer.json()["detail"]


def test_before_the_settlement_there_is_no_counted_set(board):
    answer = board(until="reveal").get("/api/v1/counted-set")
    assert answer.status_code == 404 and "settlement" in answer.json()["detail"]


@pytest.mark.parametrize(("path", "status"), [("/nothing", 404), ("/ballots/0", 404), ("/?before=x", 422), ("/?before=-1", 422)])  # fmt: skip
def test_what_there_is_no_page_for_is_a_page_that_says_so(whole, path, status):
    shown = page(whole, path, status)
    assert "/en/" in [link["href"] for link in shown.all("a")] and shown.headings[0] == 1


# ---------------------------------------------------------------- what may be kept


def test_a_file_named_by_its_hash_may_be_kept_for_ever_and_nothing_else(whole, held):
    for name, data in held.files.items():
        path = f"/api/v1/attachments/{name.hex()}"
        answer = whole.get(path)
        assert answer.content == data and "immutable" in answer.headers["cache-control"]
        again = whole.get(path, headers={"if-none-match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        assert whole.get(path, headers={"if-none-match": '"other"'}).status_code == 200
    for path in ("/", "/api/v1/head", "/api/v1/records/0", "/nothing", "/static/board.css"):
        assert whole.get(path).headers["cache-control"] == "no-cache"
    style = whole.get("/static/board.css")
    assert whole.get("/static/board.css", headers={"if-none-match": style.headers["etag"]}).status_code == 304


# ---------------------------------------------------------------- security


EVERYWHERE = (
    "/", "/?before=20", "/stations?in=1&state=waiting&q=x&from=1", "/find?q=0", "/find?q=x", "/ballots/{}", "/nothing", "/static/board.css", "/static/nothing", "/api/v1/election", "/api/v1/nothing",
    "/api/v1/records?limit=0", "/api/v1/attachments/{}", "/api/v1/openapi.json", "/healthz", "/readyz", "/metrics",
)  # fmt: skip


def test_every_answer_forbids_scripts_frames_and_guessing_and_sets_no_cookie(whole, held):
    digest = hash_of(held.cast["row 3"])
    answers = [whole.get(path.format(digest)) for path in EVERYWHERE]
    answers += [paste(whole, "{"), whole.post("/"), whole.get(f"/find?q={digest}")]
    for answer in answers:
        policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
        assert policy["default-src"] == policy["base-uri"] == policy["frame-ancestors"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == "'self'" and policy["connect-src"] == f"'self' {MIRROR}"
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert all(answer.headers[name] == value for name, value in HEADERS.items() if "{" not in value)
        assert "set-cookie" not in answer.headers
    assert {answer.status_code for answer in answers} == {200, 303, 400, 404, 405, 422}


HOSTILE = "<script>alert(1)</script>"


class Hostile(Election):
    """Every text that somebody may choose is markup."""

    def units(self):
        return [replace(u, name=f"unit {HOSTILE}").row() for u in builder.UNITS]

    def stations(self):
        names = (f"station {HOSTILE}", '"><img src=x onerror=alert(1)>')
        officers = [tuple(map(builder.address, builder.officers(n))) for n in range(2)]
        return [builder.Station(n, unit, officers[n], names[n]).row() for n, unit in enumerate((1, 2))]

    def manifest_value(self):
        value = super().manifest_value()
        contests = [
            {
                **contest,
                "title": f"title {HOSTILE}{i}",
                "options": [f"{option} {HOSTILE}" for option in contest["options"]],
            }
            for i, contest in enumerate(value["contests"])
        ]
        roles = [role | {"name": f"{role['name']} {HOSTILE}"} for role in value["roles"]]
        return value | {
            "name": f"</title>{HOSTILE}' onload='x",
            "contests": contests,
            "roles": roles,
            "language": 'en" onload="x',
        }

    def amended(self, result):
        return replace(super().amended(result), reason=f"reason {HOSTILE}")


def assert_only_our_elements(shown: Page) -> None:
    assert not {tag for tag, _ in shown.elements} & {"img", "style", "iframe", "object", "base"}
    assert all(script["src"].startswith("/static/") for script in shown.all("script")) and not shown.inline
    for _, attrs in shown.elements:
        assert not [name for name in attrs if name.startswith("on") or name == "style"], attrs
        assert attrs.get("href", "/").startswith(("/", "#", MIRROR))


def test_text_from_the_record_is_text_and_never_markup(board):
    web = board(Hostile)
    overview = page(web, "/")
    for text in ("unit ", "station ", "title ", "yes "):
        assert text + HOSTILE in overview.text
    assert "reason " + HOSTILE in page(web, "/stations").text
    assert '"><img src=x onerror=alert(1)>' in overview.text
    records = ballots_of(web)
    shown = [overview, page(web, "/find?q=0"), page(web, "/nothing", 404)]
    shown += [page(web, f"/ballots/{record['hash']}") for record in records]
    assert any("station " + HOSTILE in each.text or "onerror" in each.text for each in shown[3:])
    assert "relayer " + HOSTILE in shown[-1].text
    for each in shown:
        assert_only_our_elements(each)
    assert web.get("/api/v1/election").headers["content-type"] == "application/json"


def test_what_a_visitor_sends_is_never_markup_either(whole):
    for answer in (
        paste(whole, '{"<script>alert(1)</script>": 1}'),
        paste(whole, json.dumps({"format": HOSTILE})),
        whole.get("/find", params={"q": HOSTILE}),
        whole.get("/?before=" + HOSTILE),
        whole.get("/" + HOSTILE),
    ):
        assert 400 <= answer.status_code < 500
        assert_only_our_elements(Page(answer.text))


JUNK = st.one_of(
    st.text(max_size=80),
    st.text("0123456789abcdefx ,-", max_size=80),
    st.text(credential.ALPHABET + "-", min_size=20, max_size=40),
)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(JUNK, st.binary(max_size=200))
def test_no_junk_that_is_looked_up_or_posted_is_a_server_error(whole, text, body):
    assert whole.get("/find", params={"q": text}).status_code in (200, 303, 400, 404)
    assert whole.get("/", params={"before": text}).status_code in (200, 422)
    assert paste(whole, "{" + text).status_code in (200, 400, 409)
    assert whole.post("/find", content=body).status_code in (200, 303, 400, 404)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_receipt_with_a_changed_member_is_a_server_error_or_taken_for_right(whole, held, data):
    right = receipt_of(whole, held)
    value = json.loads(right.body())
    place = data.draw(st.sampled_from([value, value["board"], value["block"], value["head"]]))
    name = data.draw(st.sampled_from(sorted(place)))
    place[name] = data.draw(
        st.one_of(
            st.integers(), st.just(2**64), st.just(-1), st.text(max_size=9), st.none(), st.just([]), st.just("00" * 40)
        )
    )
    answer = paste(whole, json.dumps(value))
    unbound = ("number", "hash") if place is value.get("block") else ("promise",)
    assert answer.status_code in (400, 409) or name in unbound or value == json.loads(right.body())


@pytest.mark.parametrize(("mode", "usual"), [(GenerationMode.POSITIVE, 200), (GenerationMode.NEGATIVE, 422)])
def test_no_request_to_the_api_is_a_server_error(whole, mode, usual):
    """Requests made from the API's own description, and such as it forbids."""
    seen: set[int] = set()
    for operation in schemathesis.openapi.from_asgi("/api/v1/openapi.json", whole.app).get_all_operations():
        if operation.ok().path == "/api/v1/events":
            continue  # it never ends; it has a test of its own
        if mode == GenerationMode.NEGATIVE and not list(operation.ok().iter_parameters()):
            continue  # nothing about it can be wrong

        @settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck))
        @given(case=operation.ok().as_strategy(generation_mode=mode))
        def ask(case):
            answer = case.call(base_url="http://testserver", session=whole)
            seen.add(answer.status_code)
            assert answer.status_code < 500 or (case.path, answer.status_code) == ("/readyz", 503)

        ask()
    assert usual in seen


# ---------------------------------------------------------------- operation


def test_before_anything_is_read_the_process_is_alive_and_the_pages_say_to_wait(tmp_path, held):
    web = client(Replica(Store(f"sqlite:///{tmp_path}/board.sqlite"), held.manifest, builder.CONTRACT))
    assert web.get("/healthz").json() == {"alive": True}
    assert web.get("/api/v1/head").json()["size"] == 0
    for path in ("/", "/api/v1/election", "/find?q=0"):
        answer = web.get(path)
        assert (
            answer.status_code == 503 and answer.headers["retry-after"] and "Nothing has been read yet" in answer.text
        )


def test_a_stopped_board_shows_it_on_every_page_and_is_not_ready(tmp_path, held):
    copy = replica(tmp_path, held)
    web = client(copy)
    assert web.get("/readyz").status_code == 200 and "ballotboard_board_alarm 0.0" in web.get("/metrics").text
    copy.stop("block 7 was replaced <script>")
    for path in ("/", f"/ballots/{hash_of(held.cast['row 3'])}", "/find?q=0"):
        shown = page(web, path)
        assert "This board has stopped" in shown.alerts and "block 7 was replaced <script>" in shown.alerts
        assert "Nothing after record 37 is shown" in shown.alerts
    assert web.get("/api/v1/election").json()["alarm"] == "block 7 was replaced <script>"
    answer = web.get("/readyz")
    assert answer.status_code == 503 and answer.json()["problem"] == "block 7 was replaced <script>"
    metrics = web.get("/metrics").text
    assert "ballotboard_board_alarm 1.0" in metrics and "ballotboard_board_ready 0.0" in metrics
    assert "ballotboard_board_records 38.0" in metrics


def test_a_setup_that_does_not_hold_is_an_alarm_on_the_page(tmp_path):
    held = hold(until="vote")
    copy = Replica(Store(f"sqlite:///{tmp_path}/board.sqlite"), held.manifest, builder.CONTRACT)
    feed(copy, events(held))  # and not one file
    assert "The setup of this election does not hold" in page(client(copy), "/").alerts


# ---------------------------------------------------------------- for everybody


def every_page(web: TestClient, held: Election) -> list[Page]:
    paths = ["/", f"/ballots/{hash_of(held.cast['row 3'])}", "/find?q=0"]
    receipts = [receipt_of(web, held), replace(receipt_of(web, held), chain_id=1)]
    return [
        *(page(web, path) for path in paths), page(web, "/find?q=x", 400), page(web, "/nothing", 404),
        *(Page(paste(web, receipt.body().decode()).text) for receipt in receipts),
    ]  # fmt: skip


def test_pages_are_made_for_screen_readers_and_keyboards(whole, held):
    for shown in every_page(whole, held):
        assert shown.all("html")[0]["lang"] == "en" and len(shown.all("main")) == len(shown.all("footer")) == 1
        assert shown.headings[0] == 1 and shown.headings.count(1) == 1
        assert all(after - before <= 1 for before, after in zip(shown.headings, shown.headings[1:], strict=False))
        ids = [attrs["id"] for _, attrs in shown.elements if "id" in attrs]
        assert len(ids) == len(set(ids))
        for _, attrs in shown.elements:
            for name in ("aria-labelledby", "aria-describedby"):
                assert attrs.get(name, ids[0]) in ids
            assert attrs.get("href", "/")[0] != "#" or attrs["href"][1:] in ids
        for attrs in shown.all("input") + shown.all("textarea"):
            assert shown.labels[attrs["id"]]
        assert all(caption and head and all(row[0] for row in rows) for caption, (head, *rows) in shown.tables.items())
        assert all(attrs.get("scope") in ("col", "row") for attrs in shown.all("th"))
        assert all(attrs.get("aria-hidden") == "true" for attrs in shown.all("svg"))
        for _, attrs in shown.elements:  # what scrolls can be reached and has a name
            assert attrs.get("class") != "scroll" or (attrs["tabindex"], attrs["role"]) == ("0", "group")


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


@pytest.mark.parametrize("scheme", [0, 1])
def test_text_has_contrast_in_the_light_and_in_the_dark(scheme):
    """WCAG 2.2, 1.4.3: 4.5 to 1."""
    blocks = re.findall(r":root \{(.*?)\}", CSS.read_text(), re.DOTALL)
    colours = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", blocks[scheme]))
    pairs = [(text, under) for text in ("ink", "soft", "blue", "good", "open", "bad") for under in ("paper", "sheet")]
    pairs += [("on-blue", "blue"), ("good", "good-sheet"), ("open", "open-sheet"), ("bad", "bad-sheet")]
    for text, under in pairs:
        light, dark = sorted((luminance(colours[text]), luminance(colours[under])), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, (text, under)
