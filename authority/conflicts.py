"""Voters who took paper at two stations: found in the check-ins on the record, decided by the returning officer, the decision itself a record.

Stations without a network cannot know of each other. The first check-in by station time counts, by rule and at the tally; that is never changed by a
decision. A decision says what the returning officer found and did, signed by the authority and a second institution, before the settlement.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from eth_account.signers.local import LocalAccount
from web3 import Web3

from authority.actions import check_in_conflicts
from chain.log import ElectionLog, read_log
from chain.rpc import Address
from chain.writer import Writer
from protocol import election
from protocol.errors import BallotboardError
from protocol.records import CheckIns, Kind, Statement

CLASS, FORMAT = "check-in-conflict", "ballotboard/decision/v1"
"""Class of the decision; its reference is the record of the second check-in."""


@dataclass(frozen=True, slots=True)
class CheckIn:
    """One of two check-ins: its record, station (number and name), and the station's time."""

    record: int
    station: int
    name: str
    time: int


@dataclass(frozen=True, slots=True)
class CheckInConflict:
    """A voter checked in twice. The first counts. `decision` is the position and text of the decision's record, if there is one."""

    roll_index: int
    first: CheckIn
    second: CheckIn
    decision: tuple[int, str] | None

    def value(self) -> dict[str, Any]:
        return asdict(self)


def find_conflicts(web3: Web3, contract: Address) -> list[CheckInConflict]:
    """All of them, in order of roll index, with what was decided."""
    log = read_log(web3, contract)
    decisions: dict[int, list[tuple[int, str]]] = {}
    for record, found in election.readable(
        log.records, Kind.DECISION, lambda body: Statement.parse(body, Kind.DECISION)
    ):
        if found.cls == CLASS:
            decisions.setdefault(found.reference, []).append((record.position, found.text))
    return [
        CheckInConflict(
            c.roll_index, _check_in(log, c.first, c.roll_index), _check_in(log, c.second, c.roll_index), _about(decisions, c.second, c.roll_index)
        )
        for c in check_in_conflicts(web3, contract)
    ]  # fmt: skip


def decide(
    web3: Web3, contract: Address, authority: LocalAccount, cosigner: LocalAccount, roll_index: int, text: str
) -> int:
    """Record a decision on the conflict of this voter; gives its position. Raises BallotboardError if there is none."""
    if not text.strip():
        raise BallotboardError("a decision needs its reason: --text TEXT")
    found = [c for c in find_conflicts(web3, contract) if c.roll_index == roll_index]
    if not found:
        raise BallotboardError(f"roll index {roll_index} was not checked in twice: there is nothing to decide")
    body = Statement(FORMAT, CLASS, found[-1].second.record, f"roll index {roll_index}: {text.strip()}").body()
    return Writer(web3, contract, authority).append(Kind.DECISION, body, [authority, cosigner]).positions[0]


def _check_in(log: ElectionLog, position: int, roll_index: int) -> CheckIn:
    batch = CheckIns.parse(log.records[position].body or b"")
    name = election.read_places(log.manifest, log.attachments)[1][batch.station].name
    return CheckIn(position, batch.station, name, min(time for index, time in batch.entries if index == roll_index))


def _about(decisions: dict[int, list[tuple[int, str]]], record: int, roll_index: int) -> tuple[int, str] | None:
    """The last decision on this voter: one record of check-ins can hold several conflicts."""
    begins = f"roll index {roll_index}: "
    found = [(position, text) for position, text in decisions.get(record, ()) if text.startswith(begins)]
    return (found[-1][0], found[-1][1].removeprefix(begins)) if found else None
