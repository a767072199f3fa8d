"""Complaints (kind 13): what any role may say on the record, at any time (docs/protocol.md, section 10).

A complaint is a claim by its role and never makes a verdict: no count, check or phase depends on one. What it is about is named by class and
position, and a file that proves it by its SHA-256; the file itself stays with who has it, and with the observers who were given it.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from protocol.election import LogRecord, readable
from protocol.errors import BallotboardError
from protocol.manifest import Role
from protocol.records import Kind, Statement

CLASSES = {
    "promise": "a relayer broke a signed promise",
    "refusal": "a relayer refused a valid ballot",
    "receipt": "a receipt is of another log than this one",
    "station": "a polling station's check-ins, papers or counts are wrong",
    "roll": "the roll lacks a voter, or has a row that it should not have",
    "validator": "a validator holds records back, or signed two logs",
    "other": "another matter",
}
"""Class → what it says. A record with a class that is not here is a complaint all the same, and is read as `other`."""

FORMAT = "ballotboard/complaint/v1"

NO_RECORD = -1
"""The reference of a complaint that is about no record."""

MAX_TEXT = 2_000
"""Characters that a complaint is written with: a page. What is more belongs into a file, which the text names by its hash."""

SHOWN = 300
"""Characters of a complaint's text in a line of a list."""


class BadComplaint(BallotboardError):
    """A complaint that is not to be put on the record, and why."""


@dataclass(frozen=True, slots=True)
class Complaint:
    """A complaint on the record: its position and time, its role's name, the earlier record that it is about (None if none), and its words."""

    position: int
    time: int
    role: str
    cls: str
    about: int | None
    text: str

    def value(self) -> dict[str, Any]:
        return {
            "position": self.position, "time": self.time, "role": self.role, "class": self.cls, "about": self.about, "text": self.text,
        }  # fmt: skip

    @staticmethod
    def of(value: dict[str, Any]) -> Complaint:
        """The inverse of `value`."""
        return Complaint(*(value[name] for name in ("position", "time", "role", "class", "about", "text")))

    def line(self) -> str:
        """For a terminal or a list: one line, with nothing in it that could move a cursor or hide what stands beside it."""
        about = "" if self.about is None else f", about record {self.about}"
        return _one_line(f"record {self.position}, {self.role}: {describe(self.cls)}{about}: {self.text}")


def make(cls: str, text: str, about: int | None = None, evidence: bytes = b"") -> Statement:
    """A complaint to be signed; `evidence` is the SHA-256 of a file (empty if there is none), `about` a position of the log.

    Raises BadComplaint for a class that is not in CLASSES, and for a text that is empty, longer than MAX_TEXT, or has control characters.
    """
    if cls not in CLASSES:
        raise BadComplaint(f"there is no class {cls!r}: take one of {', '.join(CLASSES)}")
    text = text.strip()
    if not text:
        raise BadComplaint("the text is empty: say in a sentence what is wrong")
    if len(text) > MAX_TEXT:
        raise BadComplaint(
            f"the text has {len(text):,} characters, and {MAX_TEXT:,} are allowed: put the rest into a file, as evidence"
        )
    if any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in text):
        raise BadComplaint("the text has control characters or line breaks: write it as one line")
    if evidence:
        text += f"\nevidence SHA-256 {evidence.hex()}"
    return Statement(FORMAT, cls, NO_RECORD if about is None else about, text)


def read(records: Iterable[LogRecord], roles: Sequence[Role]) -> list[Complaint]:
    """The complaints among these records, in their order. A record that is not in their form is void, as everywhere."""
    found = []
    for record, said in readable(records, Kind.COMPLAINT, lambda body: Statement.parse(body, Kind.COMPLAINT)):
        role = record.entry.role
        name = roles[role].name if role < len(roles) else f"role {role}"
        about = said.reference if 0 <= said.reference < record.position else None
        found.append(Complaint(record.position, record.entry.time, name, said.cls, about, said.text))
    return found


def describe(cls: str) -> str:
    """A class in words; one that is not ours with its own name."""
    return CLASSES.get(cls) or f"{CLASSES['other']} ({cls})"


def _one_line(text: str) -> str:
    shown = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return shown if len(shown) <= SHOWN else shown[: SHOWN - 1] + "…"
