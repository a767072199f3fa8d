"""Where an election stands and who must do what next, from its log and the chain's time."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from web3 import Web3

from authority.actions import chain_time, missing_for_open, missing_results
from chain.board import Board
from chain.contract import Phase
from chain.log import ElectionLog, read_log
from chain.rpc import Address, checksummed
from protocol import complaints, election
from protocol.complaints import Complaint
from protocol.election import OpenElection
from protocol.manifest import Manifest
from protocol.records import Kind


@dataclass(frozen=True, slots=True)
class Step:
    """Something to do: by whom, what, and from which time of the chain on (0: now)."""

    who: str
    what: str
    not_before: int = 0


@dataclass(frozen=True)
class Status:
    """`times` are the manifest's windows, with the present close time; `counts` is the number of records by kind; `key` is K once the poll was opened."""

    manifest: Manifest
    contract: bytes
    phase: Phase
    now: int
    times: dict[str, int]
    counts: dict[str, int]
    key: bytes
    certified: bool
    next: list[Step]
    complaints: list[Complaint]

    def value(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "name": self.manifest.name, "election": self.manifest.election_id.hex(), "contract": checksummed(self.contract),
            "phase": self.phase.name.lower(), "now": self.now, "times": self.times, "counts": self.counts, "key": self.key.hex(),
            "certified": self.certified, "next": [asdict(step) for step in self.next],
            "complaints": [one.value() for one in self.complaints],
        }  # fmt: skip


def read_status(web3: Web3, contract: Address) -> Status:
    log, board = read_log(web3, contract), Board(web3, contract)
    phase, now, close = board.phase(), chain_time(web3), board.close_time()
    opened = log.open() if phase != Phase.SETUP else None
    windows = log.manifest.windows
    times = {name: getattr(windows, name) for name in windows.__slots__} | {"close": close}
    counts = Counter(Kind(record.kind).text for record in log.records)
    return Status(
        log.manifest, log.contract, phase, now, times, dict(counts), opened.joint.key if opened else b"", board.certified(),
        next_steps(log, opened, phase, now, close), complaints.read(log.records, log.manifest.roles),
    )  # fmt: skip


def next_steps(log: ElectionLog, opened: OpenElection | None, phase: Phase, now: int, close: int) -> list[Step]:
    """What can or must be done next, in order. `opened` is None in setup; `close` is the present close time."""
    windows = log.manifest.windows
    if opened is None:
        if missing := missing_for_open(log):
            return [Step("setup", line) for line in missing]
        return [Step("authority", "ballotboard election open", windows.open_not_before)]
    if phase == Phase.FINAL:
        return [Step("anyone", "ballotboard verify")]
    steps = []
    if phase == Phase.OPEN and now < close:
        steps.append(Step("voters", "ballotboard vote"))
    for result in missing_results(opened, log):
        command = "reveal" if result.revision else "submit"
        when = windows.reveal_not_before if result.revision else windows.count_not_before
        steps.append(Step(result.station.name, f"ballotboard station {command}: {result}", when))
    if phase == Phase.OPEN:
        steps.append(Step("anyone", "ballotboard election close", close + windows.append_grace))
    elif phase == Phase.CLOSED:
        steps.append(Step("anyone", "ballotboard election settle", windows.settle_not_before))
    else:
        steps += _after_settlement(log, bool(steps))
    return steps


def _after_settlement(log: ElectionLog, waits_for_stations: bool) -> list[Step]:
    manifest = log.manifest
    sent = {record.entry.role for record in election.of_kind(log.records, Kind.PARTIAL_DECRYPTION)}
    rest = [manifest.roles[index].name for index in manifest.trustees if index not in sent]
    needed = manifest.trustee_threshold - len(sent)
    if needed > 0:
        who = f"{needed} of {', '.join(rest)}" if needed < len(rest) else ", ".join(rest)
        return [Step(who, "ballotboard trustee decrypt", manifest.windows.decrypt_not_before)]
    return [] if waits_for_stations else [Step("authority", "ballotboard election announce")]
