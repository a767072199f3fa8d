"""A station's day, one function per act: each looks at the folder, does one thing, writes it into the journal, and says what comes next.

What must not be lost is in the journal before anything depends on it; what went to the chain is asked of the chain and not remembered only, so
every act may be repeated after a crash, and syncing twice, or half, changes nothing. `board` is None where there is no network: then
the clock decides what the chain's time decides otherwise, and the contract judges again when the station is back.
"""

from __future__ import annotations

import re
import time
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
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
from protocol.credential import WrongCode, read_code
from protocol.records import MAX_CHECK_INS, CheckIns, Kind, RollChange, RollRecord
from station import result as sheets
from station.folder import Document, Seen, Signed, StationFolder
from station.journal import Clock, system_clock
from station.result import Counted, DoesNotBalance, StationRefusal

POLL = 1.0
"""Seconds between looks at the chain's time while waiting for the embargo to end: blocks come once a second."""


Payer = LocalAccount | Writer
"""Who sends to the chain: an account that pays, or a Writer, like the `chain.carrier.Carrier` that has relayers do it."""


class NotDue(StationRefusal):
    """This act is not possible yet, or not any more."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an act did, and what comes next, in words; `data` is the same for machines."""

    did: str
    next: str
    data: dict[str, Any] = field(default_factory=dict)

    def value(self) -> dict[str, Any]:
        return {"did": self.did, "next": self.next, **self.data}


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
    return make(path, _log(board), number, passphrase, where, clock, cost)


def make(
    path: Path,
    log: ElectionLog,
    number: int,
    passphrase: str,
    where: Connection,
    clock: Clock = system_clock,
    cost: Cost = STRONG,
) -> StationFolder:
    """The same from a log that is read already: who prepares many stations reads it once."""
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
    _not_before(folder, board, folder.manifest.windows.open_not_before, "the poll opens", "opens-later")
    if board and state.roll is None:
        _learn_roll(folder, _log(board))
    if folder.state.roll is None:
        raise NotDue(
            "the electoral roll is not known here yet: connect once and run `ballotboard station sync`", "no-roll"
        )
    entry = folder.record("open")
    return Outcome(
        f"station {folder.station.number} ({folder.station.name}) is open; opening hash {entry.hash.hex()}",
        "check voters in: `ballotboard station check-in ROLL_INDEX`",
    )


MAY_VOTE, REPLACES = "may-vote", "replaces-online"
REFUSED = ("online-stands", "checked-in-here", "checked-in-elsewhere", "not-here")
"""What `look_up` answers: the first two get a paper, the others do not."""

CARD = re.compile(r"BALLOTBOARD:1:([0-9A-F]{64}):([0-9]{1,10})")
"""The public code of a card as authority.registrar_cards prints it: election id, roll index."""


def read_card(folder: StationFolder, text: str) -> int:
    """The roll index of a card: typed, or its public code as the reader gives it, which holds the election id and the index and nothing else.

    Refuses the covered code: who has that can vote online, so it must not be shown, typed or stored here.
    """
    try:
        secret = bool(read_code(text.strip().partition("-")[2] if text.count("-") > 2 else text))
    except WrongCode:
        secret = False
    if secret:
        raise NotDue(
            "this is the card's covered code, which nobody may see: use the public code or the roll index", "covered"
        )
    typed = text.strip()
    if typed.isascii() and typed.isdecimal() and len(typed) <= 10:
        return int(typed)
    found = CARD.fullmatch(typed.upper())
    if not found:
        raise NotDue(
            f"no roll index in {text[:80]!r}: scan the card's public code, or type the number beside it",
            "no-index",
            text=text[:80],
        )
    if found[1].lower() != folder.manifest.election_id.hex():
        raise NotDue("this card is of another election", "other-card")
    return int(found[2])


def look_up(folder: StationFolder, index: int) -> Outcome:
    """What the station knows of a voter: may vote on paper or why not. Who voted online or elsewhere is as of the last sync; `data` says the state."""
    state, seen = folder.state, folder.seen()
    if state.roll is None:
        raise NotDue(
            "the electoral roll is not known here yet: connect once and run `ballotboard station sync`", "no-roll"
        )
    paper_rules = folder.manifest.channel == "paper-precedence"
    if index not in state.roll:
        found, words = "not-here", "may not vote at this station: it is of another unit, revoked, or not on the roll"
    elif index in state.check_ins:
        found, words = "checked-in-here", f"was checked in here at {_time(state.check_ins[index])} already"
    elif index in seen.elsewhere:
        found, words = "checked-in-elsewhere", f"was checked in at station {seen.elsewhere[index]} already"
    elif index in seen.online and paper_rules:
        found, words = REPLACES, "may vote on paper; has voted online, and the paper ballot will replace it"
    elif index in seen.online:
        found, words = "online-stands", "has voted online, and by the election's rule that ballot stands: no paper"
    else:
        found, words = MAY_VOTE, "may vote on paper"
    data = {"index": index, "may_vote": found not in REFUSED, "state": found, "synced_to": seen.size}
    next_ = f"`ballotboard station check-in {index}`" if data["may_vote"] else "no paper for this voter"
    return Outcome(f"roll index {index} {words}", next_, data)


def check_in(folder: StationFolder, indices: Sequence[int], hand_out: bool = False) -> Outcome:
    """Check voters in who take a paper ballot, by roll index. All of them or, if one may not vote here, none; with `hand_out` the papers are noted too."""
    state = folder.state
    if not state.opened or state.closed or state.roll is None:
        if state.closed:
            raise NotDue("the station is closed", "is-closed")
        raise NotDue("the station is not open yet: `ballotboard station open`", "not-open")
    looked_up = []
    for place, index in enumerate(indices):
        looked_up.append(look_up(folder, index))
        if not looked_up[-1].data["may_vote"]:
            state_of = looked_up[-1].data["state"]
            raise NotDue(f"{looked_up[-1].did}; nobody was checked in now", state_of, index=index)
        if index in indices[:place]:
            raise NotDue(f"roll index {index} is there twice; nobody was checked in", "twice", index=index)
    for index in indices:
        folder.record("check-in", index=index)
    if hand_out:
        issue(folder, len(indices))
    replaces = [found.data["index"] for found in looked_up if found.data["state"] == REPLACES]
    return Outcome(
        f"checked in {', '.join(map(str, indices))}: one paper ballot each; {len(folder.state.check_ins)} so far"
        + (f"; {', '.join(map(str, replaces))} voted online, which the paper replaces" if replaces else ""),
        "the next voter, or `ballotboard station sign --officer KEY` by two officers and `ballotboard station sync` now and then",
        {"checked_in": list(indices), "check_ins": len(folder.state.check_ins), "replaces_online": replaces},
    )


def issue(folder: StationFolder, count: int = 1, replacing: bool = False) -> Outcome:
    """Note that papers were handed out: how many, never which. With `replacing`, against spoiled ones that were given back and destroyed."""
    state = folder.state
    if not state.opened or state.closed:
        raise NotDue("papers are handed out while the station is open", "no-papers-now")
    if count < 1:
        raise NotDue("a paper is handed out at least: write a number from 1", "no-number")
    if not replacing and state.issued + count > len(state.check_ins) and not folder.manifest.practice:
        raise NotDue(
            f"{len(state.check_ins)} voters are checked in and {state.issued} papers were handed out: check the voter in first",
            "check-in-first", checked_in=len(state.check_ins), issued=state.issued,
        )  # fmt: skip
    if replacing and state.replaced + count > state.issued:
        raise NotDue(
            f"{state.issued} papers were handed out, so no more than that can be replaced",
            "nothing-to-replace",
            issued=state.issued,
        )
    if state.printed and state.issued + state.replaced + count > state.printed:
        raise NotDue(
            f"{state.printed} papers were printed, and all of them were handed out: print more, or count again",
            "no-papers-left",
            printed=state.printed,
        )
    folder.record("issue", count=0 if replacing else count, replaced=count if replacing else 0)
    state = folder.state
    data = {"issued": state.issued, "replaced": state.replaced, "left": stock(folder)}
    left = "" if stock(folder) is None else f"; {stock(folder)} are left"
    return Outcome(
        f"{state.issued} papers handed out, {state.replaced} spoiled ones replaced{left}", "the next voter", data
    )


def stock(folder: StationFolder) -> int | None:
    """Printed papers that must be in the drawer, None if none were printed here."""
    state = folder.state
    return state.printed - state.issued - state.replaced if state.printed else None


def close_station(folder: StationFolder) -> Outcome:
    """Close the station: no more check-ins, and the closing hash of the journal is fixed."""
    state = folder.state
    if not state.opened:
        raise NotDue("the station is not open yet: `ballotboard station open`", "not-open")
    if state.closed:
        return Outcome(f"closed since {_time(state.closed.time)} already", "count: `ballotboard station count`")
    entry = folder.record("close")
    return Outcome(
        f"station {folder.station.number} is closed with {len(state.check_ins)} check-ins; closing hash {entry.hash.hex()}",
        "count: `ballotboard station count`",
    )


# ---------------------------------------------------------------- the count


def may_count(folder: StationFolder, board: Board | None = None) -> None:
    """Raises NotDue while nothing may be counted: the station is open, or the hour has not come (by the chain's time; without a network by the clock)."""
    if not folder.state.closed:
        raise NotDue("close the station first: `ballotboard station close`", "close-first")
    _not_before(folder, board, folder.manifest.windows.count_not_before, "counting begins", "count-later")


def count(folder: StationFolder, counted: Counted, board: Board | None = None, reason: str = "") -> Outcome:
    """The first result. Refuses before `count_not_before` and what does not balance.

    Papers issued must be as many as voters checked in, except in a practice election, and as were handed out by the journal; where they are not and stay so, a
    `reason` is needed. Entering the same figures again changes nothing; other figures replace them until an officer has signed.
    """
    may_count(folder, board)
    state = folder.state
    if state.documents and (state.documents[0].signatures or len(state.documents) > 1):
        raise NotDue(
            "an officer has signed the result already: correct it with `ballotboard station amend --reason TEXT`",
            "signed-already",
        )
    if counted.issued != len(state.check_ins) and not folder.manifest.practice and not reason:
        raise DoesNotBalance(
            f"{counted.issued} papers were issued and {len(state.check_ins)} voters checked in: count again, or say why with --reason",
            "not-the-check-ins", issued=counted.issued, checked_in=len(state.check_ins),
        )  # fmt: skip
    if state.issued and counted.issued != state.issued and not reason:
        raise DoesNotBalance(
            f"{counted.issued} papers were issued and {state.issued} noted as handed out: count again, or say why with --reason",
            "not-the-papers", issued=counted.issued, noted=state.issued,
        )  # fmt: skip
    return _record(folder, counted, 1, reason)


def enter(
    folder: StationFolder, counted: Counted, by: str, board: Board | None = None, reason: str = "", amending: bool = False
) -> Outcome:  # fmt: skip
    """One of two hand counts, made and entered without seeing the other: the result (or amendment) is made when two people's figures are the same.

    A person's later entry replaces the earlier one. What differs is named, not by how much, so that nobody counts towards a figure.
    """
    may_count(folder, board)
    by = by.strip()
    if not by:
        raise NotDue("say who counted: --by NAME", "nobody-counted")
    figures = asdict(counted)
    sheets.build(
        counted, folder.manifest, folder.stations, folder.units, folder.station.number, 1, "", bytes(32), bytes(32)
    )  # what contradicts itself is no entry
    others = {name: found for name, found in folder.state.entries.items() if name.casefold() != by.casefold()}
    wanted = _plain(figures)
    if wanted in others.values():
        return amend(folder, counted, reason) if amending else count(folder, counted, board, reason)
    folder.record("entry", by=by, figures=wanted)
    command = "amend" if amending else "count"
    data = {"entries": sorted(folder.state.entries), "differs": []}
    if not others:
        return Outcome(
            f"first count, by {by}, is noted", f"somebody else counts: `ballotboard station {command} --by NAME`", data
        )
    differs = {name: _differences(folder, wanted, found) for name, found in others.items()}
    data["differs"] = sorted({what for found in differs.values() for what in found})
    words = "; ".join(f"from {name}'s in {', '.join(found)}" for name, found in differs.items())
    return Outcome(f"the count by {by} differs {words}", "both count these again and enter all figures again", data)


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
        raise NotDue(
            f"{officer.address} is not an officer of station {folder.station.number}",
            "no-officer",
            address=officer.address,
        )
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


def submit(folder: StationFolder, board: Board, sender: Payer) -> Outcome:
    """Send the signed check-in batches and the signed result hash; what the chain has is passed over. `sender` pays, and may be anybody, a relayer too.

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
    done, _ = _send_batches(folder, board, sender)
    done += [
        _name(document)
        for document in signed_items(folder)
        if document.kind == Kind.STATION_HASH and _put(folder, board, sender, document)
    ]
    return Outcome(
        f"on the chain now: {', '.join(done)}" if done else "everything was on the chain already", _next(folder)
    )


def reveal(folder: StationFolder, board: Board, sender: Payer, wait: bool = False) -> Outcome:
    """Publish the document behind each hash on the chain, from `reveal_not_before` by the chain's time; with `wait`, wait for it."""
    start = folder.manifest.windows.reveal_not_before
    documents = [document for document in folder.state.documents if document.complete]
    if not documents:
        raise NotDue(
            "there is no result that two officers have signed: `ballotboard station count`, then `ballotboard station sign`"
        )
    while wait and board.now() < start:
        time.sleep(POLL)
    _not_before(folder, board, start, "results are revealed", "reveal-later")
    revealed = [f"revision {document.number}" for document in documents if _show(folder, board, sender, document)]
    if not documents[-1].revealed:
        raise NotDue(f"the hash of revision {documents[-1].number} is not on the chain: `ballotboard station submit`")
    return Outcome(f"revealed {', '.join(revealed)}" if revealed else "revealed already", _next(folder))


def sync(folder: StationFolder, board: Board, sender: Payer) -> Outcome:
    """All that can be done with a network: learn roll changes, send what is signed, reveal what may be revealed. Twice is as good as once.

    `data["refused"]` is the name of the board's error, where it refused a batch of check-ins.
    """
    log = _log(board)
    done = ["the roll"] if _learn_roll(folder, log) else []
    _look_around(folder, log)
    embargo_over = board.now() >= folder.manifest.windows.reveal_not_before
    sent, refused = _send_batches(folder, board, sender)
    done += sent
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
        {"refused": refused},
    )


def finished(folder: StationFolder) -> bool:
    """Whether everything is on the chain: all check-ins in signed batches, the latest result signed and revealed."""
    state = folder.state
    return (
        bool(state.documents)
        and state.documents[-1].revealed
        and not state.waiting
        and all(b.sent for b in state.batches)
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
        "counts": sorted(state.entries),
        "papers": {
            "issued": state.issued, "left": stock(folder), "printed": state.printed, "replaced": state.replaced,
            "scanned": state.scanned.papers if state.scanned else 0,
        },
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


def latest(folder: StationFolder) -> Document:
    """The latest revision. Raises NotDue before there is one."""
    if not folder.state.documents:
        raise NotDue("there is no result yet: `ballotboard station count`")
    return folder.state.documents[-1]


def sheet(folder: StationFolder) -> str:
    """The result sheet of the latest revision, as text to print and hang out. Raises NotDue before there is one."""
    last = latest(folder)
    return sheets.sheet(folder.manifest, folder.stations, folder.units, last.result, list(last.signatures))


# ---------------------------------------------------------------- helpers


def _log(board: Board) -> ElectionLog:
    return read_log(board.web3, checksummed(board.address))


def _not_before(folder: StationFolder, board: Board | None, start: int, what: str, key: str) -> None:
    now = board.now() if board else folder.journal.clock()
    if now < start:
        whose = "the chain's time" if board else "this machine's clock"
        raise NotDue(
            f"{what} at {_time(start)}; by {whose} it is {_time(now)}", key, start=_time(start), now=_time(now)
        )


def _learn_roll(folder: StationFolder, log: ElectionLog) -> bool:
    """Note which rows may vote here, as far as the record goes; true if that is news."""
    if log.manifest.election_id != folder.manifest.election_id or log.contract != folder.contract:
        raise NotDue("this is another board: the folder belongs to another election", "other-board")
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


def _look_around(folder: StationFolder, log: ElectionLog) -> None:
    """Keep who of this station's voters has a ballot on the record, or was checked in elsewhere. Ballots are not verified for this: it is a hint."""
    roll = folder.state.roll
    if roll is None:
        return
    online = {
        int.from_bytes(record.body[1:5], "big") for record in election.of_kind(log.records, Kind.BALLOT) if record.body
    }
    elsewhere: dict[int, int] = {}
    for _, batch in election.readable(log.records, Kind.CHECK_IN, CheckIns.parse):
        if batch.station != folder.station.number:
            elsewhere |= {index: batch.station for index, _ in batch.entries if index in roll}
    folder.keep_seen(Seen(len(log.records), frozenset(index for index in online if index in roll), elsewhere))


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


def _plain(figures: dict[str, Any]) -> dict[str, Any]:
    """Figures as the journal gives them back: lists for tuples."""
    contests = [{**found, "counts": list(found["counts"])} for found in figures["contests"]]
    return {**figures, "contests": contests}


def differences(folder: StationFolder, one: Counted, other: Counted) -> list[str]:
    """The names of the figures in which two counts differ."""
    return _differences(folder, asdict(one), asdict(other))


def _differences(folder: StationFolder, one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    names = [
        name.replace("_", " ") for name in ("issued", "spoiled", "unreturned", "in_box") if one[name] != other[name]
    ]
    for a, b in zip(one["contests"], other["contests"], strict=True):
        contest = folder.manifest.contests[a["contest"]]
        pairs = zip((*contest.options, sheets.BLANK, sheets.INVALID), (*a["counts"], a["blank"], a["invalid"]),
                    (*b["counts"], b["blank"], b["invalid"]), strict=True)  # fmt: skip
        names += [option for option, x, y in pairs if x != y]
    return names


def _batch(folder: StationFolder) -> None:
    waiting = folder.state.waiting
    for start in range(0, len(waiting), MAX_CHECK_INS):
        number = len(folder.state.batches)
        batch = CheckIns(folder.station.number, number, tuple(waiting[start : start + MAX_CHECK_INS]))
        folder.record("batch", body=batch.body().hex())


def _send_batches(folder: StationFolder, board: Board, sender: Payer) -> tuple[list[str], str]:
    """Send the signed check-in batches; what was sent, and what the board refused, in words, and the name of its error."""
    done: list[str] = []
    for batch in [item for item in signed_items(folder) if item.kind == Kind.CHECK_IN]:
        try:
            done += [_name(batch)] if _put(folder, board, sender, batch) else []
        except Refused as error:
            return [*done, f"NOT {_name(batch)} ({error})"], error.name  # a later batch cannot come before this one
    return done, ""


def _put(folder: StationFolder, board: Board, sender: Payer, item: Signed) -> bool:
    """Send an item unless the chain has it; true if it was news there. Raises Refused."""
    if item.sent:
        return False
    position = board.document(item.result.document_hash()).position if isinstance(item, Document) else None
    landed: tuple[int, ...] = ()
    if (
        position is None
    ):  # the board passes over a batch that it has, byte for byte, and refuses another of the same number
        landed = _writer(board, sender).append_stations([folder.item(item)]).positions
        position = next(iter(landed), None)
    folder.record("sent", record=int(item.kind), number=item.number, position=position)
    return bool(landed)


def _show(folder: StationFolder, board: Board, sender: Payer, document: Document) -> bool:
    """Reveal a document whose hash is on the chain, unless it was revealed; true if it was sent."""
    if document.revealed:
        return False
    found = board.document(document.result.document_hash())
    if found.position is None:
        return False
    if not found.revealed:
        _writer(board, sender).reveal([document.result.body()])
    folder.record("revealed", revision=document.number)
    return not found.revealed


def _writer(board: Board, sender: Payer) -> Writer:
    return sender if isinstance(sender, Writer) else Writer(board.web3, board.address, sender)


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
