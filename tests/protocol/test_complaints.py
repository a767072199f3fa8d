"""What may be written as a complaint, and how any complaint on the record is read."""

from __future__ import annotations

import pytest

from protocol.complaints import CLASSES, MAX_TEXT, SHOWN, BadComplaint, Complaint, make, read
from protocol.election import LogRecord
from protocol.manifest import Role, RoleKind
from protocol.records import Entry, Kind, Statement, ballot_hash

ROLES = [Role(RoleKind.TRUSTEE, "Ann", bytes(20), b"")]


def record(body: bytes, role: int = 0, kind: Kind = Kind.COMPLAINT, position: int = 5) -> LogRecord:
    return LogRecord(position, Entry(kind, 900, role, ballot_hash(body)), body, 0)


def said(cls: str, text: str, reference: int) -> bytes:
    return Statement("ballotboard/complaint/v1", cls, reference, text).body()


@pytest.mark.parametrize(
    ("cls", "text", "why"),
    [
        ("anger", "it is wrong", "there is no class 'anger': take one of promise, refusal"),
        ("other", " ", "the text is empty"),
        ("other", "a" * (MAX_TEXT + 1), "2,001 characters"),
        *(
            ("other", f"one{bad}two", "control characters")
            for bad in ("\n", "\x00", "\x1b", "\u2028", "\udc80", "\x85")
        ),
    ],
)
def test_what_is_no_complaint_is_refused_before_it_is_signed(cls, text, why):
    with pytest.raises(BadComplaint, match=why):
        make(cls, text)


def test_a_complaint_names_its_record_and_the_hash_of_its_evidence_on_a_line_of_its_own():
    said = make("station", " papers differ ", 17, bytes(32))
    assert (said.cls, said.reference, said.text) == ("station", 17, f"papers differ\nevidence SHA-256 {'00' * 32}")
    assert Statement.parse(said.body(), Kind.COMPLAINT) == said
    assert make("other", "a" * MAX_TEXT).reference == -1


def test_complaints_are_read_with_their_role_and_what_is_no_complaint_is_passed_over():
    body = make("roll", "a row too many", 2).body()
    records = [record(body), record(b"junk"), record(body, kind=Kind.DECISION), record(body, role=7)]
    [first, second] = read(records, ROLES)
    assert first == Complaint(5, 900, "Ann", "roll", 2, "a row too many") == Complaint.of(first.value())
    assert (second.role, first.line()) == (
        "role 7",
        f"record 5, Ann: {CLASSES['roll']}, about record 2: a row too many",
    )


@pytest.mark.parametrize("reference", [-1, -2, 5, 6, 2**53 - 1])
def test_a_reference_to_what_is_no_earlier_record_is_about_none(reference):
    [found] = read([record(said("roll", "x", reference))], ROLES)
    assert found.about is None and "about" not in found.line()


def test_a_line_has_no_character_that_could_move_a_cursor_and_an_end():
    [found] = read([record(said("\x1b[2J", "one\ntwo\u202e\x9b" + "a" * 1000, 0))], ROLES)
    assert found.line().isprintable() and len(found.line()) == SHOWN
    assert found.line().startswith("record 5, Ann: another matter ( [2J), about record 0: one two a")
