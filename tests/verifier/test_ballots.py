"""Ballots over processes give the answers that one process gives."""

from __future__ import annotations

import pytest

from protocol import engine
from protocol.ballot import Reason
from protocol.election import LogRecord
from protocol.records import Entry, Kind
from tests.tamper.recipes import flip, honest
from verifier import ballots


def records(count: int) -> list[LogRecord]:
    """Honest ballots, every third of them flipped in its signature, the last without a body."""
    cast = list(honest().cast.values())
    bodies: list[bytes | None] = [cast[i % len(cast)] for i in range(count - 1)]
    bodies = [flip(body, len(body) - 20) if body and i % 3 == 0 else body for i, body in enumerate(bodies)]
    return [LogRecord(i, Entry(Kind.BALLOT, 0, 0, bytes(32)), body) for i, body in enumerate([*bodies, None])]


def test_processes_give_the_same_answers_in_the_same_places(monkeypatch: pytest.MonkeyPatch) -> None:
    state_roll = honest().settled().roll_state.roll
    log = records(24)
    told: list[tuple[int, int]] = []
    alone = ballots.reasons(honest().opened, state_roll, log, lambda what, done, total: None, processes=1)
    monkeypatch.setattr(engine, "native", None)
    monkeypatch.setattr(ballots, "CHUNK", 5)
    monkeypatch.setattr(ballots, "WORTH_PROCESSES", 10)
    several = ballots.reasons(
        honest().opened, state_roll, log, lambda what, done, total: told.append((done, total)), processes=2
    )
    assert several == alone
    assert set(several) == set(range(23)), "a body that is not held has no answer"
    assert {several[i] for i in range(0, 23, 3)} == {Reason.BAD_SIGNATURE}
    assert several[1] == Reason.VALID
    assert told == [(5, 23), (10, 23), (15, 23), (20, 23), (23, 23)]


def test_few_ballots_start_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "native", None)
    monkeypatch.setattr(ballots, "ProcessPoolExecutor", None)
    assert len(ballots.reasons(honest().opened, honest().settled().roll_state.roll, records(4), lambda *_: None)) == 3
