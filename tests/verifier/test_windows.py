"""The contract's windows, replayed: for every kind the first second that is allowed, the last, and the seconds beside them."""

from __future__ import annotations

import pytest

from protocol.election import LogRecord
from protocol.records import Entry, Kind
from tests.tamper.recipes import honest
from verifier.windows import out_of_place

MANIFEST = honest().manifest
W = MANIFEST.windows
LONGER = (2500).to_bytes(5, "big")


def log(*records: tuple[Kind, int] | tuple[Kind, int, bytes]) -> list[LogRecord]:
    """A log that begins with a manifest; (kind, time) or (kind, time, body)."""
    all_records = [(Kind.MANIFEST, 0), *records]
    return [
        LogRecord(i, Entry(kind, time, 0, bytes(32)), body[0] if body else b"")
        for i, (kind, time, *body) in enumerate(all_records)
    ]


OPENED = ((Kind.ROLL, 1), (Kind.OPEN, W.open_not_before))
CLOSED = (*OPENED, (Kind.CLOSE, W.close + W.append_grace))
SETTLED = (*CLOSED, (Kind.SETTLEMENT, W.settle_not_before))
FINAL = (*SETTLED, (Kind.PARTIAL_DECRYPTION, W.decrypt_not_before), (Kind.RESULT, W.decrypt_not_before))
EXTENDED = (*OPENED, (Kind.EXTENSION, 1500, LONGER))

EDGES = [
    # before, kind, first second allowed, first second too late
    (OPENED[:1], Kind.OPEN, W.open_not_before, W.close),
    (OPENED, Kind.BALLOT, None, W.close + W.append_grace),
    (EXTENDED, Kind.BALLOT, None, 2500 + W.append_grace),
    (OPENED, Kind.CHECK_IN, None, W.settle_not_before),
    (OPENED, Kind.STATION_HASH, W.count_not_before, None),
    (OPENED, Kind.STATION_RESULT, W.reveal_not_before, None),
    (OPENED, Kind.CLOSE, W.close + W.append_grace, None),
    (EXTENDED, Kind.CLOSE, 2500 + W.append_grace, None),
    (CLOSED, Kind.SETTLEMENT, W.settle_not_before, None),
    (SETTLED, Kind.PARTIAL_DECRYPTION, W.decrypt_not_before, None),
    (OPENED, Kind.ROLL_CHANGE, None, W.close),
]


@pytest.mark.parametrize("before, kind, first, end", EDGES)
def test_the_edges_of_a_window(before: tuple, kind: Kind, first: int | None, end: int | None) -> None:
    def faults(time: int) -> list[tuple[int, str]]:
        return list(out_of_place(MANIFEST, log(*before, (kind, time))))

    if first is not None:
        assert not faults(first)
        assert [position for position, why in faults(first - 1) if "from" in why] == [len(before) + 1]
    if end is not None:
        assert not faults(end - 1)
        assert [position for position, why in faults(end) if "must come before" in why] == [len(before) + 1]


PHASES = {
    "setup": ((Kind.ROLL, 1),),
    "open": OPENED,
    "closed": CLOSED,
    "settled": SETTLED,
    "final": FINAL,
}
ALLOWED = {
    Kind.CEREMONY: {"setup"},
    Kind.OPEN: {"setup"},
    Kind.BALLOT: {"open"},
    Kind.CHECK_IN: {"open", "closed"},
    Kind.STATION_HASH: {"setup", "open", "closed", "settled"},
    Kind.STATION_RESULT: {"setup", "open", "closed", "settled"},
    Kind.CLOSE: {"open"},
    Kind.SETTLEMENT: {"closed"},
    Kind.PARTIAL_DECRYPTION: {"settled"},
    Kind.RESULT: {"settled"},
    Kind.REPORT: {"final"},
    Kind.COMPLAINT: set(PHASES),
    Kind.EXTENSION: {"open"},
    Kind.ROLL_CHANGE: {"open"},
    Kind.DECISION: {"open", "closed"},
}


@pytest.mark.parametrize("kind", ALLOWED, ids=lambda kind: kind.text)
@pytest.mark.parametrize("phase", PHASES)
def test_a_kind_has_its_phases(kind: Kind, phase: str) -> None:
    records = log(*PHASES[phase], (kind, 4000, LONGER))
    refused = any(
        position == len(records) - 1 and "in phase" in why for position, why in out_of_place(MANIFEST, records)
    )
    assert refused == (phase not in ALLOWED[kind])


def test_an_election_opens_on_one_roll() -> None:
    assert [position for position, _ in out_of_place(MANIFEST, log(OPENED[1]))] == [1]
    assert [position for position, _ in out_of_place(MANIFEST, log((Kind.ROLL, 1), *OPENED))] == [2]


def test_a_result_needs_a_decryption_before_it() -> None:
    assert [position for position, _ in out_of_place(MANIFEST, log(*SETTLED, (Kind.RESULT, 3400)))] == [5]


def test_the_manifest_is_the_first_record_alone() -> None:
    assert [position for position, _ in out_of_place(MANIFEST, log((Kind.MANIFEST, 1)))] == [1]
    without = [LogRecord(0, Entry(Kind.CEREMONY, 0, 0, bytes(32)), b"")]
    assert [position for position, _ in out_of_place(MANIFEST, without)] == [0]


def test_one_record_that_is_too_early_is_one_fault() -> None:
    early = (*OPENED[:1], (Kind.OPEN, W.open_not_before - 1), (Kind.BALLOT, W.open_not_before), *CLOSED[2:])
    assert [position for position, _ in out_of_place(MANIFEST, log(*early))] == [2]


@pytest.mark.parametrize("later, why", [(W.close, "extends"), (W.close_not_after + 1, "extends")])
def test_an_extension_is_later_and_not_too_late(later: int, why: str) -> None:
    faults = list(out_of_place(MANIFEST, log(*OPENED, (Kind.EXTENSION, 1500, later.to_bytes(5, "big")))))
    assert [position for position, text in faults if why in text] == [3]
    assert not list(out_of_place(MANIFEST, log(*OPENED, (Kind.EXTENSION, 1500, W.close_not_after.to_bytes(5, "big")))))
