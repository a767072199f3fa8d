"""What the verifier says, and the hash under which it says it."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from typing import Any

from protocol.records import Kind
from tests.tamper import builder
from tests.tamper.builder import Election, MemorySource, hold
from tests.tamper.recipes import honest
from verifier.report import NOT_HASHED, Report
from verifier.run import verify_config, verify_tally


@cache
def verified(with_id: bool = True) -> Report:
    return verify_tally(honest().source(), honest().manifest.election_id if with_id else None)


def test_the_hash_does_not_depend_on_the_machine() -> None:
    slower = Report({**verified().value, "engine": "another", "seconds": 99.9})
    assert slower.sha256 == verified().sha256
    for name in set(verified().value) - set(NOT_HASHED):
        assert Report({**verified().value, name: "changed"}).sha256 != verified().sha256


def test_the_same_record_gives_the_same_hash_again() -> None:
    assert verify_tally(honest().source(), honest().manifest.election_id, processes=1).sha256 == verified().sha256


def test_json_has_what_others_read() -> None:
    value = json.loads(json.dumps(verified().json()))
    assert value["verdict"] == "verified"
    assert value["election"] == honest().manifest.election_id.hex()
    assert value["head"]["size"] == len(honest().drafts)
    assert (value["ballots"], value["accepted"]) == (7, 4)
    assert value["attempts"] == {
        "superseded": 1, "replaced-by-paper": 1, "revoked": 1, "duplicate": 0, "invalid": 0, "not-held": 0,
    }  # fmt: skip
    assert value["state"] == honest().state().hex()
    settlement = next(d for d in honest().drafts if d.kind == Kind.SETTLEMENT)
    assert value["settlement_root"] == (settlement.body or b"")[8:].hex()
    assert value["contests"][0] == {
        "id": "question", "title": "Shall it be done?", "options": ["yes", "no"], "online": [3, 1], "paper": [1, 1], "total": [4, 2],
    }  # fmt: skip
    assert (value["tally"], value["paper"], value["total"]) == (None, None, None)
    assert {check["outcome"] for check in value["checks"]} == {"pass", "not applicable"}
    assert value["report"] == verified().sha256 and value["sentence"] == verified().sentence()


def test_an_election_with_one_contest_has_its_votes_by_option() -> None:
    class Single(Election):
        def manifest_value(self) -> dict[str, Any]:
            return super().manifest_value() | {
                "contests": builder.CONTESTS[:1],
                "styles": [[0]],
                "stations": self.attach([]).value(),
            }

        def units(self) -> list[bytes]:
            return [replace(unit, style=min(unit.style, 0)).row() for unit in builder.UNITS]

        def ballot(self, row: int, choices: Any, seen: int, seed: str = "") -> bytes:
            request = builder.CreateRequest(
                row, seen, builder.UNIT_OF_ROW[row], 0, builder.credential(row), bytes([row]) * 32, choices[:1]
            )
            return self.opened.engine.create([request])[0]

        def check_in(self, *arguments: Any) -> None:
            """There are no stations."""

        def report_stations(self) -> None:
            self.documents = []

    e = hold(Single)
    report = verify_tally(e.source(), e.manifest.election_id)
    assert report.verdict == "verified", report.text()
    # rows 0 and 3 and 6 say yes; row 1 no; row 5, whom no paper replaces here, no
    assert report.value["tally"] == {"yes": 3, "no": 2}
    assert report.value["paper"] == {"yes": 0, "no": 0}
    assert report.value["total"] == {"yes": 3, "no": 2}
    assert "5 of them counted" in report.sentence() and "yes 3, no 2" in report.sentence()
    outcomes = {check["id"]: check["outcome"] for check in report.value["checks"]}
    assert [outcomes[id] for id in ("C06", "A06", "K03", "K09", "I06")] == ["not applicable"] * 5


def test_without_an_election_id_the_verdict_says_what_to_compare() -> None:
    report = verified(with_id=False)
    assert (report.verdict, report.exit_status) == ("consistent", 0)
    id = honest().manifest.election_id.hex()
    assert f"Compare this election id with the one printed on voters' cards: {id}" in report.text()
    assert f"if its election id is {id}" in report.sentence()


def test_on_anvil_the_sentence_says_that_nobody_vouches_for_the_log() -> None:
    assert "anvil: one process, no consensus evidence" in verified().sentence()


def test_the_text_names_every_check_and_ends_with_the_sentence_and_the_hash() -> None:
    lines = verified().text().splitlines()
    assert lines[-1] == f"report {verified().sha256}" and lines[-2] == verified().sentence() and lines[-3] == "VERIFIED"
    for check in verified().value["checks"]:
        mark = {"pass": "ok", "not applicable": "n/a"}[check["outcome"]]
        assert any(line.split()[:2] == [check["id"], mark] for line in lines)


def test_complaints_are_listed_and_change_neither_verdict_nor_hash() -> None:
    at = next(number for number, draft in enumerate(honest().drafts) if draft.kind == Kind.COMPLAINT)
    [complaint] = verified().value["complaints"]
    assert complaint == {
        "position": at, "time": 1360, "role": "verifier", "class": "slow", "about": 0, "text": "in words",
    }  # fmt: skip
    assert f"record {at}, verifier: another matter (slow), about record 0: in words" in verified().text()
    many = Report({**verified().value, "complaints": [complaint] * 30})
    assert many.sha256 == verified().sha256 and "and 10 more: see --json" in many.text()
    assert "Complaints" not in Report({**verified().value, "complaints": []}).text()


def test_a_failure_is_told_with_the_check_that_fails_and_no_totals_of_the_authority() -> None:
    drafts = [draft for draft in honest().drafts if draft.kind != Kind.RESULT]
    claims = builder.claims_of(drafts, honest().files, honest().claims().creation)
    report = verify_tally(MemorySource(claims), honest().manifest.election_id)
    assert "NOT VERIFIED" in report.text()
    assert "C05 (the election came to its end) fails" in report.sentence()
    assert report.value["contests"] == [] and report.value["state"] is None
    assert report.text().count("NOT RUN") == sum(check["outcome"] == "not run" for check in report.value["checks"])


def test_the_setup_alone_is_told_as_such() -> None:
    e = hold(until="fill_ballots")
    report = verify_config(e.source(), e.manifest.election_id)
    assert report.verdict == "verified", report.text()
    assert report.value["run"] == "config"
    assert report.sentence().startswith("The setup of “A small election”")
