"""The checks where the chain has ballots' hashes only: which bodies must be there is what the data holders signed, and each way to cheat with that fails."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from chain.holding import held_bitmap
from protocol import election
from protocol.attachments import Bitmap
from protocol.counting import NO_ROW, Status
from protocol.election import SettledElection
from protocol.records import ANYONE, Kind, Settlement, ballot_hash
from tests.tamper import builder
from tests.tamper.builder import ROLES, Draft, Election, MemorySource, head_of, hold
from tests.verifier.archives import archive_of
from verifier.case import Case
from verifier.checks import CHECKS, run
from verifier.claims import Claims
from verifier.run import verify_tally
from verifier.stored import ArchiveSource
from verifier.watch import look

HOLDERS = ("data-holder 1", "data-holder 2", "data-holder 3")
FIRST_HOLDER = len(ROLES)
NEEDED = 2


class HashElection(Election):
    """The election of tests/tamper in hash mode. Nobody keeps the first ballot of row 1, and two of three data holders sign."""

    outside = "row 1"
    signers: tuple[int, ...] = (0, 2)
    number = 0

    def manifest_value(self) -> dict[str, Any]:
        value = super().manifest_value()
        value["rules"]["body_mode"] = "hash"
        value["thresholds"]["data_holders"] = NEEDED
        value["roles"] += [
            {"kind": "data-holder", "name": name, "address": builder.address(name).hex(), "key": "ab" * 32}
            for name in HOLDERS
        ]
        return value

    def bitmap(self) -> Bitmap:
        lost = ballot_hash(self.cast[self.outside]) if self.outside else b""
        return held_bitmap(self.records(), lambda digest: digest != lost)

    def settle(self) -> None:
        bitmap = self.bitmap()
        self.files[bitmap.sha256] = bitmap.data
        body = Settlement(head_of(self.drafts), bitmap.sha256).body()
        signatures = b"".join(self.sign(Kind.SETTLEMENT, body, self.number, HOLDERS[n]) for n in self.signers)
        self.drafts.append(Draft(Kind.SETTLEMENT, 3200, ANYONE, body, 0, signatures))

    def settled(self) -> SettledElection:
        records = self.records()
        before = election.settled_records(self.manifest, records, self.files)
        state = election.roll_state(self.opened, before)
        held = [record for record in election.of_kind(before, Kind.BALLOT) if record.body is not None]
        reasons = election.verify_ballots(self.opened, state.roll, held)
        return election.settle(self.opened, records, reasons, self.files)

    def position(self, name: str) -> int:
        digest = ballot_hash(self.cast[name])
        return next(record.position for record in self.records() if record.entry.body_hash == digest)


def held(until: str = "certify", **differences: Any) -> HashElection:
    """The same, but for some of its members."""
    found = hold(type("Other", (HashElection,), differences), until)
    assert isinstance(found, HashElection)
    return found


@cache
def honest() -> HashElection:
    return held()


def without(claims: Claims, *positions: int) -> Claims:
    """The same where these bodies are not to be had."""
    records = [replace(r, body=None) if r.position in positions else r for r in claims.records]
    return replace(claims, records=records)


def checked(found: Election, claims: Claims | None = None) -> dict[str, Any]:
    """The outcome and the words of each check that is not good."""
    report = verify_tally(MemorySource(claims or found.claims()), found.manifest.election_id)
    return {check["id"]: check["detail"] for check in report.value["checks"] if check["outcome"] in ("fail", "not run")}


def test_a_ballot_outside_the_bitmap_counts_for_nothing_whoever_has_its_body(tmp_path) -> None:
    found = honest()
    lost = found.position("row 1")
    reports = []
    for claims in (found.claims(), without(found.claims(), lost)):
        report = verify_tally(MemorySource(claims), found.manifest.election_id)
        assert report.verdict == "verified", report.text()
        reports.append(report.value)
        case = Case(claims)
        [row] = [row for row in case.counted.rows if row.status == Status.NOT_HELD]
        assert (row.position, row.roll_index, row.reference) == (lost, NO_ROW, 0)
        assert case.counted.root() == found.settled().counted.root()
        (tmp_path / "a").write_bytes(archive_of(claims))
        archived = verify_tally(ArchiveSource(tmp_path / "a"), found.manifest.election_id)
        assert archived.verdict == "verified", archived.text()
    assert [report["attempts"][Status.NOT_HELD.text] for report in reports] == [1, 1]
    c02 = next(check for check in reports[1]["checks"] if check["id"] == "C02")
    assert c02["positions"] == [lost] and f"1 ballots are not held and count for nothing: {lost}" in c02["detail"]


def test_a_body_for_which_holders_signed_must_be_shown_and_they_are_named() -> None:
    found = honest()
    position, settlement = found.position("row 3"), next(r for r in found.records() if r.kind == Kind.SETTLEMENT)
    wrong = checked(found, without(found.claims(), position, found.position("row 1")))
    digest = ballot_hash(found.cast["row 3"]).hex()
    assert wrong.pop("C02") == (
        f"record {position}: the body of {digest} is not to be had, for which data-holder 1, data-holder 3 signed in record"
        f" {settlement.position}"
    )
    assert all("C02 failed" in why for why in wrong.values())


def test_only_a_ballots_body_may_be_missing() -> None:
    found = honest()
    claims = found.claims()
    complaint = next(r.position for r in claims.records if r.kind == Kind.COMPLAINT)
    assert checked(found, without(claims, complaint))["C02"].endswith("is not to be had")


def test_before_the_settlement_nobody_has_signed_for_a_body() -> None:
    found = held("close")
    claims = without(found.claims(), found.position("row 1"), found.position("row 3"))
    [result] = run(Case(claims), [CHECKS["C02"]])
    assert result.outcome == "pass" and "2 ballots are not to be had yet" in result.detail
    assert look(Case(claims), None)[0].ok


def test_the_bitmap_must_be_there_and_speak_of_ballots_alone() -> None:
    found = honest()
    claims = found.claims()
    [name] = [Settlement.parse(r.body or b"", True).bitmap for r in claims.records if r.kind == Kind.SETTLEMENT]
    files = {digest: data for digest, data in claims.attachments.items() if digest != name}
    assert (
        f"the file of the bitmap, {name.hex()}, is missing" in checked(found, replace(claims, attachments=files))["C03"]
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: data + b"\0", "not that of a log"),
        (lambda data: data[:-1], "not that of a log"),
        (lambda data: data[:-1] + bytes([data[-1] | 0x80]), "not that of a log"),
        (lambda data: b"\x01" + data[1:], "no ballots"),
    ],
)
def test_a_bitmap_of_another_length_or_with_what_is_no_ballot_is_refused(
    change: Callable[[bytes], bytes], words: str
) -> None:
    def bitmap(self: HashElection) -> Bitmap:
        right = HashElection.bitmap(self)
        return Bitmap(right.size, change(right.data))

    assert words in checked(held("settle", bitmap=bitmap))["C02"]


SETTLEMENTS: dict[str, tuple[dict[str, Any], str]] = {
    "too few": ({"signers": (1,)}, "by 1 data holders"),
    "one twice": ({"signers": (0, 0)}, "by 1 data holders"),
    "another order": ({"signers": (2, 0)}, "in the order of their roles"),
    "an old number": ({"number": 1}, "no data holder's"),
    "nobody": ({"signers": ()}, "by 0 data holders"),
    "a stranger": ({"sign": lambda self, kind, body, number, name: Election.sign(self, kind, body, number, "x" if kind == Kind.SETTLEMENT else name)}, "no data holder's"),
    "a stump": ({"sign": lambda self, kind, body, number, name: Election.sign(self, kind, body, number, name)[: 64 if kind == Kind.SETTLEMENT else 65]}, "no data holder's"),
}  # fmt: skip


@pytest.mark.parametrize("title", SETTLEMENTS)
def test_enough_data_holders_must_have_signed_the_settlement(title: str) -> None:
    differences, words = SETTLEMENTS[title]
    wrong = checked(held(**differences))
    assert words in wrong.pop("A05") and not wrong


def test_a_complaint_of_a_data_holder_uses_a_number_before_and_after_it_signed() -> None:
    def complain(self: Election, time: int) -> None:
        body = builder.statement(Kind.COMPLAINT, "slow", 0)
        number = sum(d.role == FIRST_HOLDER for d in self.drafts) + any(d.kind == Kind.SETTLEMENT for d in self.drafts)
        self.drafts.append(Draft(Kind.COMPLAINT, time, FIRST_HOLDER, body, number, self.sign(Kind.COMPLAINT, body, number, HOLDERS[0])))  # fmt: skip

    def step(name: str, time: int) -> Callable[[Election], None]:
        def both(self: Election) -> None:
            complain(self, time)
            getattr(HashElection, name)(self)

        return both

    found = held(decide=step("decide", 2700), signers=(0, 1), decrypt=step("decrypt", 3250))
    assert "no data holder's" in checked(found)["A05"]  # it signed as if it had not complained

    def sign(self: Election, kind: int, body: bytes, number: int, name: str) -> bytes:
        return Election.sign(self, kind, body, number + (kind == Kind.SETTLEMENT and name == HOLDERS[0]), name)

    assert not checked(held(decide=step("decide", 2700), signers=(0, 1), decrypt=step("decrypt", 3250), sign=sign))
