"""A station's day, one function per act: each looks at the folder, does one thing, writes it into the journal, and says what comes next.

What must not be lost is in the journal before anything depends on it; what went to the chain is asked of the chain and not remembered only, so
every act may be repeated after a crash, and syncing twice, or half, changes nothing. `board` is None where there is no network: then
the clock decides what the chain's time decides otherwise, and the contract judges again when the station is back.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from eth_account.signers.local import LocalAccount

from chain.board import Board
from chain.console import Connection
from chain.contract import Refused
from chain.log import ElectionLog, read_log
from chain.rpc import checksummed
from chain.sealed import STRONG, Cost
from chain.writer import Writer
from protocol import election
from protocol.attachments import Roll
from protocol.counting import apply_roll_changes
from protocol.errors import BallotboardError
from protocol.records import MAX_CHECK_INS, CheckIns, Kind, RollChange, RollRecord
from station import result as sheets
from station.folder import Document, Signed, StationFolder
from station.journal import Clock, system_clock
from station.result import Counted, DoesNotBalance

POLL = 1.0
"""Seconds between looks at the chain's time while waiting for the embargo to end: blocks come once a second."""


class NotDue(BallotboardError):
    """This act is not possible yet, or not any more."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an act did, and what comes next, in words."""

    did: str
    next: str


# ---------------------------------------------------------------- before and during the poll


def init(
    path: Path,
    board: Board,
    number: int,
    passphrase: str,
    where: Connection,
    clock: Clock = system_clock,
    cost: Cost = STRONG,
) -> StationFolder:
    """A folder for station `number`, with all that it needs to work without a network from here on. Close it after use."""
    log = _log(board)
    folder = StationFolder.create(path, log, number, passphrase, where, clock, cost)
    _learn_roll(folder, log)
    return folder


def open_station(folder: StationFolder, board: Board | None = None) -> Outcome:
    """Open the station: its journal's opening hash is fixed here and goes into the result."""
    state = folder.state
    if state.opened:
        return Outcome(
            f"open since {_time(state.opened.time)} already",
            "check voters in: `ballotboard station check-in ROLL_INDEX`",
        )
    _not_before(folder, board, folder.manifest.windows.open_not_before, "the poll opens")
    if board and state.roll is None:
        _learn_roll(folder, _log(board))
    if folder.state.roll is None:
        raise NotDue("the electoral roll is not known here yet: connect once and run `ballotboard station sync`")
    entry = folder.record("open")
    return Outcome(
        f"station {folder.station.number} ({folder.station.name}) is open; opening hash {entry.hash.hex()}",
        "check voters in: `ballotboard station check-in ROLL_INDEX`",
    )


def check_in(folder: StationFolder, indices: Sequence[int]) -> Outcome:
    """Check voters in who take a paper ballot, by roll index. All of them or, if one may not vote here, none."""
    state = folder.state
    if not state.opened or state.closed or state.roll is None:
        raise NotDue(
            "the station is closed" if state.closed else "the station is not open yet: `ballotboard station open`"
        )
    for place, index in enumerate(indices):
        if index not in state.roll:
            raise NotDue(
                f"roll index {index} may not vote at this station: it is of another unit, revoked, or not on the roll; nobody was checked in"
            )
        if index in state.check_ins:
            raise NotDue(
                f"roll index {index} was checked in here at {_time(state.check_ins[index])} already; nobody was checked in now"
            )
        if index in indices[:place]:
            raise NotDue(f"roll index {index} is there twice; nobody was checked in")
    for index in indices:
        folder.record("check-in", index=index)
    return Outcome(
        f"checked in {', '.join(map(str, indices))}: one paper ballot each; {len(folder.state.check_ins)} so far",
        "the next voter, or `ballotboard station sign --officer KEY` by two officers and `ballotboard station sync` now and then",
    )


def close_station(folder: StationFolder) -> Outcome:
    """Close the station: no more check-ins, and the closing hash of the journal is fixed."""
    state = folder.state
    if not state.opened:
        raise NotDue("the station is not open yet: `ballotboard station open`")
    if state.closed:
        return Outcome(f"closed since {_time(state.closed.time)} already", "count: `ballotboard station count`")
    entry = folder.record("close")
    return Outcome(
        f"station {folder.station.number} is closed with {len(state.check_ins)} check-ins; closing hash {entry.hash.hex()}",
        "count: `ballotboard station count`",
    )


# ---------------------------------------------------------------- the count


def count(folder: StationFolder, counted: Counted, board: Board | None = None, reason: str = "") -> Outcome:
    """The first result. Refuses before `count_not_before` and what does not balance.

    Papers issued must be as many as voters checked in, except in a practice election; where they are not and stay so, a `reason` is needed. Entering the same figures again changes nothing; other figures replace them until an officer has signed.
    """
    state = folder.state
    if not state.closed:
        raise NotDue("close the station first: `ballotboard station close`")
    _not_before(folder, board, folder.manifest.windows.count_not_before, "counting begins")
    if state.documents and (state.documents[0].signatures or len(state.documents) > 1):
        raise NotDue(
            "an officer has signed the result already: correct it with `ballotboard station amend --reason TEXT`"
        )
    if counted.issued != len(state.check_ins) and not folder.manifest.practice and not reason:
        raise DoesNotBalance(
            f"{counted.issued} papers were issued and {len(state.check_ins)} voters checked in: count again, or say why with --reason"
        )
    return _record(folder, counted, 1, reason)


def amend(folder: StationFolder, counted: Counted, reason: str) -> Outcome:
    """A new revision with its reason. The one before must be signed by two officers; both stay on the record, with the difference."""
    state = folder.state
    if not state.documents:
        raise NotDue("there is no result to amend: `ballotboard station count`")
    last = state.documents[-1]
    if not last.signatures and last.number > 1:
        revision = last.number  # nobody signed this amendment yet, so it is corrected in place
    elif not last.complete:
        raise NotDue(f"revision {last.number} has {len(last.signatures)} of 2 signatures: sign it first, then amend it")
    else:
        revision = last.number + 1
    if not reason.strip():
        raise DoesNotBalance("an amendment needs a reason: --reason TEXT")
    return _record(folder, counted, revision, reason)


def sign(folder: StationFolder, officer: LocalAccount) -> Outcome:
    """One officer signs all that waits: check-in batches, and the result hash. Needs no network; two distinct officers must do it.

    Check-ins that are in no batch are put into one, unless one waits for its second signature.
    """
    address = bytes.fromhex(officer.address[2:])
    if address not in folder.station.officers:
        raise NotDue(f"{officer.address} is not an officer of station {folder.station.number}")
    if all(batch.complete for batch in folder.state.batches):
        _batch(folder)
    state = folder.state
    open_items = [item for item in (*state.batches, *state.documents) if not item.complete]
    mine = [item for item in open_items if address not in item.signatures]
    for item in mine:
        signature = folder.signature(officer, item)
        folder.record(
            "signature", record=int(item.kind), number=item.number, officer=address.hex(), signature=signature.hex()
        )
    if not mine:
        done = "you have signed all that waits" if open_items else "nothing waits for a signature"
        return Outcome(
            done,
            "another officer: `ballotboard station sign --officer KEY`"
            if open_items
            else "send what is signed: `ballotboard station submit`",
        )
    short = not all(item.complete for item in open_items)
    return Outcome(
        f"signed {_names(mine)} as {officer.address}",
        "a second officer: `ballotboard station sign --officer KEY`"
        if short
        else "send what is signed: `ballotboard station submit`, when there is a network",
    )


# ---------------------------------------------------------------- to the chain


def submit(folder: StationFolder, board: Board, sender: LocalAccount) -> Outcome:
    """Send the signed check-in batches and the signed result hash; what the chain has is passed over. `sender` pays, and may be anybody.

    A batch that the board refuses, for being late for instance, does not hold up the result; it is said, and stays in the journal.
    """
    state = folder.state
    if not state.documents:
        raise NotDue(
            "there is no result yet: `ballotboard station count` (check-ins alone: `ballotboard station sync`)"
        )
    last = state.documents[-1]
    if not last.complete:
        raise NotDue(
            f"revision {last.number} has {len(last.signatures)} of 2 signatures: `ballotboard station sign --officer KEY`"
        )
    done = _send_batches(folder, board, sender)
    done += [
        _name(document)
        for document in signed_items(folder)
        if document.kind == Kind.STATION_HASH and _put(folder, board, sender, document)
    ]
    return Outcome(
        f"on the chain now: {', '.join(done)}" if done else "everything was on the chain already", _next(folder)
    )


def reveal(folder: StationFolder, board: Board, sender: LocalAccount, wait: bool = False) -> Outcome:
    """Publish the document behind each hash on the chain, from `reveal_not_before` by the chain's time; with `wait`, wait for it."""
    start = folder.manifest.windows.reveal_not_before
    documents = [document for document in folder.state.documents if document.complete]
    if not documents:
        raise NotDue(
            "there is no result that two officers have signed: `ballotboard station count`, then `ballotboard station sign`"
        )
    while wait and board.now() < start:
        time.sleep(POLL)
    _not_before(folder, board, start, "results are revealed")
    revealed = [f"revision {document.number}" for document in documents if _show(folder, board, sender, document)]
    if not documents[-1].revealed:
        raise NotDue(f"the hash of revision {documents[-1].number} is not on the chain: `ballotboard station submit`")
    return Outcome(f"revealed {', '.join(revealed)}" if revealed else "revealed already", _next(folder))


def sync(folder: StationFolder, board: Board, sender: LocalAccount) -> Outcome:
    """All that can be done with a network: learn roll changes, send what is signed, reveal what may be revealed. Twice is as good as once."""
    done = ["the roll"] if _learn_roll(folder, _log(board)) else []
    embargo_over = board.now() >= folder.manifest.windows.reveal_not_before
    done += _send_batches(folder, board, sender)
    for document in folder.state.documents:
        if document.complete and _put(folder, board, sender, document):
            done.append(_name(document))
        # one after the other: after the embargo the board takes a revision only when the one before is revealed
        if embargo_over and _show(folder, board, sender, document):
            done.append(f"the document of revision {document.number}")
    unsigned = [item for item in (*folder.state.batches, *folder.state.documents) if not item.complete]
    return Outcome(
        f"synced: {', '.join(done)}" if done else "in step with the chain: nothing to do",
        f"{_names(unsigned)}: two signatures are needed, `ballotboard station sign --officer KEY`"
        if unsigned
        else _next(folder),
    )


def signed_items(folder: StationFolder) -> list[Signed]:
    """What two officers have signed and this folder has not seen on the chain, in the order in which the board takes it."""
    return [item for item in (*folder.state.batches, *folder.state.documents) if item.complete and not item.sent]


# ---------------------------------------------------------------- to look at


def status(folder: StationFolder, board: Board | None = None) -> dict[str, Any]:
    """Where the station is, as a JSON value; with `board`, also what the chain says of it. Changes nothing."""
    state = folder.state
    value: dict[str, Any] = {
        "batches": [_item_value(batch) for batch in state.batches],
        "check_ins": len(state.check_ins),
        "closed": state.closed.time if state.closed else None,
        "election": state.election.hex(),
        "entries": len(folder.journal.entries),
        "journal": folder.journal.head.hex(),
        "name": folder.station.name,
        "next": _next(folder),
        "opened": state.opened.time if state.opened else None,
        "recovered": state.recovered,
        "results": [
            {**_item_value(document), "document": document.result.document_hash().hex(), "revealed": document.revealed} for document in state.documents
        ],
        "station": folder.station.number,
        "unbatched": len(state.waiting),
        "unit": folder.units[folder.station.unit].name,
    }  # fmt: skip
    if board:
        seen = board.station(folder.station.number)
        value["chain"] = {
            "next_batch": seen.next_batch, "phase": board.phase().name.lower(), "revealed": seen.revealed, "revision": seen.revision,
            "time": board.now(),
        }  # fmt: skip
    return value


def sheet(folder: StationFolder) -> str:
    """The result sheet of the latest revision, as text to print and hang out. Raises NotDue before there is one."""
    if not folder.state.documents:
        raise NotDue("there is no result yet: `ballotboard station count`")
    last = folder.state.documents[-1]
    return sheets.sheet(folder.manifest, folder.stations, folder.units, last.result, list(last.signatures))


# ---------------------------------------------------------------- helpers


def _log(board: Board) -> ElectionLog:
    return read_log(board.web3, checksummed(board.address))


def _not_before(folder: StationFolder, board: Board | None, start: int, what: str) -> None:
    now = board.now() if board else folder.journal.clock()
    if now < start:
        whose = "the chain's time" if board else "this machine's clock"
        raise NotDue(f"{what} at {_time(start)}; by {whose} it is {_time(now)}")


def _learn_roll(folder: StationFolder, log: ElectionLog) -> bool:
    """Note which rows may vote here, as far as the record goes; true if that is news."""
    if log.manifest.election_id != folder.manifest.election_id or log.contract != folder.contract:
        raise NotDue("this is another board: the folder belongs to another election")
    if not election.of_kind(log.records, Kind.ROLL):
        return False
    record = RollRecord.parse(election.only(log.records, Kind.ROLL).body or b"")
    base = election.read_roll(record, folder.units, log.attachments)
    changes = election.readable(log.records, Kind.ROLL_CHANGE, RollChange.parse)
    state = apply_roll_changes(base, [(record.position, change) for record, change in changes])
    unit = folder.station.unit
    first, end = _rows_of(base, unit), _rows_of(base, unit + 1)
    added = [index for index in range(len(base), len(state.roll)) if state.roll.row(index)[1] == unit]
    revoked = sorted(index for index in state.revoked if state.roll.row(index)[1] == unit)
    known = folder.state.roll
    if known and (known.first, known.count, list(known.added), list(known.revoked)) == (
        first,
        end - first,
        added,
        revoked,
    ):
        return False
    folder.record("roll", first=first, count=end - first, added=added, revoked=revoked)
    return True


def _rows_of(roll: Roll, unit: int) -> int:
    """The first roll index of a unit, or where it would be: rows ascend by unit."""
    return bisect_left(range(len(roll)), unit, key=lambda index: roll.row(index)[1])


def _record(folder: StationFolder, counted: Counted, revision: int, reason: str) -> Outcome:
    state = folder.state
    assert state.opened and state.closed
    result = sheets.build(
        counted, folder.manifest, folder.stations, folder.units, folder.station.number, revision, reason,
        state.opened.hash, state.closed.hash,
    )  # fmt: skip
    same = next((d for d in state.documents if d.number == revision), None)
    if same and (sheets.counted_of(same.result), same.result.reason) == (counted, reason):
        result = same.result
    else:
        folder.record("document", document=result.body().decode())
    return Outcome(
        f"revision {revision}{' (practice)' if result.practice else ''} balances: {counted.issued} issued, {counted.in_box} counted; document {result.document_hash().hex()}",
        "two officers, one after the other: `ballotboard station sign --officer KEY`",
    )


def _batch(folder: StationFolder) -> None:
    waiting = folder.state.waiting
    for start in range(0, len(waiting), MAX_CHECK_INS):
        number = len(folder.state.batches)
        batch = CheckIns(folder.station.number, number, tuple(waiting[start : start + MAX_CHECK_INS]))
        folder.record("batch", body=batch.body().hex())


def _send_batches(folder: StationFolder, board: Board, sender: LocalAccount) -> list[str]:
    """Send the signed check-in batches; what was sent, and what the board refused, in words."""
    done = []
    for batch in [item for item in signed_items(folder) if item.kind == Kind.CHECK_IN]:
        try:
            done += [_name(batch)] if _put(folder, board, sender, batch) else []
        except Refused as error:
            return [*done, f"NOT {_name(batch)} ({error})"]  # a later batch cannot come before this one
    return done


def _put(folder: StationFolder, board: Board, sender: LocalAccount, item: Signed) -> bool:
    """Send an item unless the chain has it; true if it was sent. Raises Refused."""
    if item.sent:
        return False
    position = board.document(item.result.document_hash()).position if isinstance(item, Document) else None
    known = position is not None
    if not known:  # the board passes over a batch that it has, byte for byte, and refuses another of the same number
        landed = Writer(board.web3, board.address, sender).append_stations([folder.item(item)])
        position = next(iter(landed.positions), None)
    folder.record("sent", record=int(item.kind), number=item.number, position=position)
    return not known


def _show(folder: StationFolder, board: Board, sender: LocalAccount, document: Document) -> bool:
    """Reveal a document whose hash is on the chain, unless it was revealed; true if it was sent."""
    if document.revealed:
        return False
    found = board.document(document.result.document_hash())
    if found.position is None:
        return False
    if not found.revealed:
        Writer(board.web3, board.address, sender).reveal([document.result.body()])
    folder.record("revealed", revision=document.number)
    return not found.revealed


def _next(folder: StationFolder) -> str:
    state = folder.state
    if not state.opened:
        return "open the station: `ballotboard station open`"
    if not state.closed:
        return "check voters in: `ballotboard station check-in ROLL_INDEX`; in the evening `ballotboard station close`"
    if not state.documents:
        return f"count, from {_time(folder.manifest.windows.count_not_before)}: `ballotboard station count`"
    last = state.documents[-1]
    if not last.complete:
        return f"revision {last.number} has {len(last.signatures)} of 2 signatures: `ballotboard station sign --officer KEY`"
    if not last.sent:
        return "send it: `ballotboard station submit`"
    if not last.revealed:
        return f"reveal it, from {_time(folder.manifest.windows.reveal_not_before)}: `ballotboard station reveal`"
    return "the station's work is done; a correction is `ballotboard station amend --reason TEXT`"


def _item_value(item: Signed) -> dict[str, Any]:
    return {
        "number": item.number, "position": item.position, "sent": item.sent, "signed_by": ["0x" + officer.hex() for officer in item.signatures],
    }  # fmt: skip


def _name(item: Signed) -> str:
    return f"result hash of revision {item.number}" if isinstance(item, Document) else f"check-in batch {item.number}"


def _names(items: Sequence[Signed]) -> str:
    return ", ".join(map(_name, items))


def _time(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"
