"""What the public is told, as values: the API sends them as JSON, the pages put them into words.

Every function looks at one moment of the database (`Reading`); none trusts what a record says about itself: text is text, numbers are checked, and a body
that is not of its kind's form is void, as everywhere (protocol.election.readable).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bulletin.store import Reading, Verdict
from bulletin.words import ENGLISH, Words
from protocol import complaints, election, paper
from protocol.attachments import Roll, Station, Unit
from protocol.ballot import Reason
from protocol.counting import CountedRow, Status
from protocol.election import LogRecord
from protocol.encoding import members, parse_json
from protocol.errors import BallotboardError, Malformed
from protocol.manifest import RULE_NAMES, WINDOW_NAMES, Manifest
from protocol.receipt import CompactReceipt, Receipt, ReceiptWrong
from protocol.records import (
    ANYONE,
    STATION_OFFICERS,
    CheckIns,
    Extension,
    Kind,
    LogHead,
    RollRecord,
    StationHash,
)
from verifier.picture import read_result

PHASES = ("setup", "open", "closing", "closed", "settled", "final")
"""In order. `closing` is after the close time and before the close record, while ballots that were taken in time are still being recorded."""

STEPS = (60, 300, 900, 1_800, 3_600, 2 * 3_600, 6 * 3_600, 12 * 3_600, 86_400, 7 * 86_400)
"""Seconds that one bar of the chart over time may stand for."""

BARS = 60
"""Most bars of that chart: with an hour a bar, two and a half days."""

Value = dict[str, Any]


@dataclass(frozen=True)
class Poll:
    """What the log fixes before the poll opens. `units` and `stations` are empty, `voters` too, while their files are not published.

    `voters` has the rows of the roll per unit.
    """

    manifest: Manifest
    contract: bytes
    units: list[Unit]
    stations: list[Station]
    voters: dict[int, int]


def read_poll(tx: Reading) -> Poll | None:
    """None while not even the manifest is there."""
    first, board = tx.record(0), tx.fact("board")
    if first is None or board is None:
        return None
    manifest = Manifest.parse(first.body or b"")
    files = {name: tx.attachment(name) or b"" for name in tx.attachment_names()}
    units: list[Unit] = []
    stations: list[Station] = []
    voters: dict[int, int] = {}
    try:
        units, stations = election.read_places(manifest, files)
        for _, record in election.readable(tx.acts(), Kind.ROLL, RollRecord.parse):
            if record.sha256 in files:
                voters = dict(Roll(files[record.sha256], [unit.style for unit in units]).unit_counts())
    except BallotboardError:
        pass  # the replica says what is wrong with the setup
    return Poll(manifest, bytes.fromhex(board["contract"]), units, stations, voters)


# ---------------------------------------------------------------- the election


def election_value(tx: Reading, poll: Poll, acts: Sequence[LogRecord]) -> Value:
    """The election in one object: manifest, phase, times, what comes next, head, figures, and what is wrong, if anything is."""
    manifest, cursor = poll.manifest, tx.cursor()
    assert cursor  # there is no record without it
    closes, counts = close_time(manifest, acts), tx.counts()
    found = phase(acts, closes, cursor.time)
    return {
        "id": manifest.election_id.hex(), "name": manifest.name, "practice": manifest.practice, "language": manifest.language,
        "chain": {"id": manifest.chain_id, "engine": manifest.engine}, "contract": poll.contract.hex(),
        "phase": found, "times": {**{name: getattr(manifest.windows, name) for name in WINDOW_NAMES}, "close": closes},
        "next": upcoming(manifest, found, closes, cursor.time), "head": head_value(tx),
        "records": {kind.text: counts[kind] for kind in Kind if kind in counts},
        "certified": tx.fact("certified") if manifest.verifier_threshold else None,
        "alarm": tx.fact("alarm"), "setup_problem": tx.fact("setup") or None, "result_problem": tx.fact("result") or None,
        "manifest": parse_json(manifest.body),
    }  # fmt: skip


def head_value(tx: Reading) -> Value:
    """Size and root of the log, and the last block read."""
    head, cursor = tx.head(), tx.cursor()
    block = {"number": cursor.number, "hash": cursor.hash.hex(), "time": cursor.time} if cursor else None
    return {"size": head.size, "root": head.root.hex(), "block": block}


def close_time(manifest: Manifest, acts: Sequence[LogRecord]) -> int:
    """The manifest's, or that of the last extension."""
    return max(
        [
            manifest.windows.close,
            *(change.close for _, change in election.readable(acts, Kind.EXTENSION, Extension.parse)),
        ]
    )


def phase(acts: Sequence[LogRecord], closes: int, now: int) -> str:
    """One of PHASES, from the records and, for `closing` alone, the chain's time."""
    kinds = {record.kind for record in acts}
    for kind, name in ((Kind.RESULT, "final"), (Kind.SETTLEMENT, "settled"), (Kind.CLOSE, "closed")):
        if kind in kinds:
            return name
    if Kind.OPEN not in kinds:
        return "setup"
    return "open" if now < closes else "closing"


def upcoming(manifest: Manifest, found: str, closes: int, now: int) -> Value:
    """What comes next (a key of the words) and from when, None where no time is set for it."""
    windows = manifest.windows
    what, at = {
        "setup": ("open", windows.open_not_before),
        "open": ("close", closes),
        "closing": ("closed", closes + windows.append_grace),
        "closed": ("settle", windows.settle_not_before),
        "settled": ("decrypt", windows.decrypt_not_before),
        "final": ("nothing", None),
    }[found]
    if found == "settled" and at is not None and now >= at:
        return {"what": "result", "at": None}
    return {"what": what, "at": at}


def turnout(tx: Reading, poll: Poll) -> Value:
    """Per unit where people vote: cards on the roll, valid ballots recorded, cards that they come from, not counting those that were replaced. Then the sums.

    `voters` is None before the roll is published.
    """
    recorded, reasons = tx.by_unit(), tx.by_reason()
    for index in tx.fact("revoked") or []:
        if positions := tx.valid_of(index):
            unit_number = tx.verdicts(positions[:1])[positions[0]].unit
            ballots, cards = recorded[unit_number]
            recorded[unit_number] = (ballots, cards - 1)
    units = []
    for number, unit in enumerate(poll.units):
        if unit.style >= 0:
            ballots, cards = recorded.get(number, (0, 0))
            value = {
                "unit": number,
                "level": unit.level,
                "name": unit.name,
                "voters": poll.voters.get(number, 0) if poll.voters else None,
            }
            units.append({**value, "ballots": ballots, "cards": cards})
    return {
        "ballots": tx.counts().get(Kind.BALLOT, 0),
        "invalid": {reason.text: reasons[reason] for reason in Reason if reason and reason in reasons},
        "voters": sum(poll.voters.values()) if poll.voters else None,
        "cards": sum(cards for _, cards in recorded.values()),
        "valid": sum(ballots for ballots, _ in recorded.values()),
        "units": units,
    }


def timeline(tx: Reading) -> Value:
    """Ballots recorded over time, in at most BARS steps of `step` seconds (one of STEPS) from `start`: their counts in order. No steps without a ballot."""
    span = tx.span()
    if span is None:
        return {"start": None, "step": None, "counts": []}
    first, last = span
    step = next((step for step in STEPS if (last // step) - (first // step) < BARS), STEPS[-1])
    start = first - first % step
    found = tx.by_time(start, step)
    return {"start": start, "step": step, "counts": [found.get(n, 0) for n in range((last - start) // step + 1)]}


def attempts(tx: Reading, papers: int) -> Value:
    """What was tried, in numbers: ballots by what the engine says of them, cards by their valid ballots, copies, and cards checked in on paper."""
    reasons, ballots = tx.by_reason(), tx.counts().get(Kind.BALLOT, 0)
    checked = sum(count for reason, count in reasons.items() if reason is not None)
    return {
        "ballots": ballots, "valid": reasons.get(Reason.VALID, 0), "unchecked": ballots - checked, "copies": tx.copies(), "papers": papers,
        "invalid": {reason.text: reasons[reason] for reason in Reason if reason and reason in reasons},
        "cards": [{"ballots": ballots, "cards": cards} for ballots, cards in tx.per_card().items()],
    }  # fmt: skip


def standing(poll: Poll, acts: Sequence[LogRecord]) -> dict[int, paper.StationResult]:
    """station → its result that counts, as far as results are revealed."""
    # reads the manifest, units and stations of what is otherwise an OpenElection
    found, _ = election.standing_results(poll, acts)  # type: ignore[arg-type]
    return found


# ---------------------------------------------------------------- records


def record_line(tx: Reading, poll: Poll, record: LogRecord) -> Value:
    """A record without its body."""
    place = tx.place(record.position)
    entry = record.entry
    kind = Kind(entry.kind).text if entry.kind in tuple(Kind) else None
    return {
        "position": record.position, "kind": entry.kind, "name": kind, "time": entry.time, "role": entry.role, "role_name": role_name(poll, entry.role),
        "number": record.number, "hash": entry.body_hash.hex(), "bytes": None if record.body is None else len(record.body),
        "entry": entry.encode().hex(), "leaf": entry.leaf().hex(), "block": {"number": place.block, "hash": place.block_hash.hex()},
        "transaction": place.transaction.hex(),
    }  # fmt: skip


def complaint(poll: Poll, record: LogRecord, words: Words = ENGLISH) -> Value | None:
    """What a complaint says, with its class in words; None for any other record, and for one that has not a complaint's form."""
    for found in complaints.read([record] if record.body else [], poll.manifest.roles):
        known = found.cls in complaints.CLASSES
        said = words.say(f"complaint.{found.cls}") if known else words.say("complaint.unknown", name=found.cls)
        return {"class": found.cls, "words": said, "about": found.about, "text": found.text}
    return None


def records(tx: Reading, poll: Poll, start: int, limit: int, kind: int | None = None, words: Words = ENGLISH) -> Value:
    """Records from position `start` on, with what complaints say; `next` is where to go on, None at the end."""
    found = list(tx.records(kind, start, limit=limit + 1))
    following = found[limit].position if len(found) > limit else None
    return {
        "head": head_value(tx),
        "records": [{**record_line(tx, poll, one), "complaint": complaint(poll, one, words)} for one in found[:limit]],
        "next": following,
    }


def record(tx: Reading, poll: Poll, position: int, words: Words = ENGLISH) -> Value | None:
    """All of one record: with its body, its value where that is JSON, its signatures, and its inclusion proof against the head."""
    found = tx.record(position)
    if found is None:
        return None
    return {
        **record_line(tx, poll, found), "complaint": complaint(poll, found, words), "body": None if found.body is None else found.body.hex(), "value": _json(found.body),
        "signatures": found.signatures.hex(), **_proof(tx, position),
    }  # fmt: skip


def role_name(poll: Poll, role: int) -> str:
    if role in (ANYONE, STATION_OFFICERS):
        return "anyone" if role == ANYONE else "station officers"
    return poll.manifest.roles[role].name if role < len(poll.manifest.roles) else f"role {role}"


# ---------------------------------------------------------------- ballots


def papers(
    acts: Sequence[LogRecord], before: Mapping[int, tuple[int, int]] | None = None
) -> dict[int, tuple[int, int]]:
    """roll index → (position of its check-in record, station): who took a paper ballot, for the voter to dispute before the settlement. `before` has those of
    earlier records."""
    found = dict(before or {})
    for made, batch in election.readable(acts, Kind.CHECK_IN, CheckIns.parse):
        for index, _ in batch.entries:
            found.setdefault(index, (made.position, batch.station))
    return found


def ballot(
    tx: Reading, poll: Poll, digest: bytes, papers: Mapping[int, tuple[int, int]], words: Words = ENGLISH
) -> Value | None:
    """A ballot by its SHA-256: where it is, what it proves with, and its fate in words. None if the log does not hold it."""
    positions = tx.positions(digest, Kind.BALLOT)
    found = tx.record(positions[0]) if positions else None
    if found is None:
        return None
    verdict, fate = tx.verdict(found.position), tx.fate(found.position)
    known = verdict is not None and verdict.unit >= 0
    settled, check_in = tx.fact("counted") is not None, None
    if (
        verdict
        and known
        and not settled
        and poll.manifest.channel == "paper-precedence"
        and verdict.roll_index in papers
    ):
        position, station = papers[verdict.roll_index]
        if station < len(poll.stations) and poll.stations[station].unit == verdict.unit:
            check_in = {"position": position, "station": poll.stations[station].name}
    return {
        **record_line(tx, poll, found), **_proof(tx, found.position), "fate": fate_value(tx, poll, found, verdict, fate, words), "settled": settled, "check_in": check_in,
        "copies": positions[1:], "roll_index": verdict.roll_index if verdict and known else None,
        "unit": poll.units[verdict.unit].name if verdict and known and verdict.unit < len(poll.units) else None,
        "attempts": tx.attempts(verdict.roll_index) if verdict and verdict.reason == Reason.VALID else None,
    }  # fmt: skip


def fate_value(
    tx: Reading, poll: Poll, record: LogRecord, verdict: Verdict | None, row: CountedRow | None, words: Words = ENGLISH
) -> Value:  # fmt: skip
    """What became of a ballot: `state` (recorded, not-checked, not-here where only its hash is, or a status of the counted set), reference and reason, and
    the sentence for the voter."""
    reason = verdict.reason if verdict else None
    if row and row.status == Status.INVALID:
        reason = Reason(row.reference)
    value: Value = {
        "state": row.status.text if row else "recorded",
        "reference": None,
        "reason": reason.text if reason else None,
    }
    say = words.say
    because = say(f"reason.{reason.text}") if reason else ""
    if row is None:
        if reason is None:
            value["state"] = "not-here" if record.body is None else "not-checked"
        return value | {"text": say("fate.recorded.invalid" if reason else f"fate.{value['state']}", reason=because)}
    if row.status not in (Status.COUNTED, Status.INVALID, Status.NOT_HELD):
        value["reference"] = row.reference
    station = _station_of(tx, poll, row.reference) if row.status == Status.REPLACED_BY_PAPER else ""
    return value | {"text": say(f"fate.{row.status.text}", reason=because, reference=row.reference, station=station)}


def ballot_lines(tx: Reading, before: int | None, limit: int) -> Value:
    """The newest ballots below position `before`: position, time, hash and state; `older` is what to go on before, None at the end."""
    found = list(tx.records(Kind.BALLOT, before=before, limit=limit + 1, newest=True))
    older = found[limit - 1].position if len(found) > limit else None
    return {"ballots": _lines(tx, found[:limit]), "older": older}


def by_prefix(tx: Reading, prefix: str, limit: int) -> list[Value]:
    """Lines of ballots whose hash begins with these hex digits, each hash once."""
    low, high = bytes.fromhex(prefix.ljust(64, "0")), bytes.fromhex(prefix.ljust(64, "f"))
    first = [tx.positions(digest, Kind.BALLOT)[0] for digest in tx.hashes(low, high, Kind.BALLOT, limit)]
    return _lines(tx, [found for position in first if (found := tx.record(position))])


def by_number(tx: Reading, number: int, limit: int) -> list[Value]:
    """Lines of the ballot at this position, if there is one, and of the newest valid ballots of this roll index."""
    positions = dict.fromkeys([number, *tx.valid_of(number)[: -limit - 1 : -1]])
    found = [tx.record(position) for position in positions]
    return _lines(tx, [one for one in found if one and one.kind == Kind.BALLOT])


def _lines(tx: Reading, found: Sequence[LogRecord]) -> list[Value]:
    shown = [record.position for record in found]
    verdicts, fates = tx.verdicts(shown), tx.fates_of(shown)
    lines = []
    for one in found:
        verdict, fate = verdicts.get(one.position), fates.get(one.position)
        if fate:
            state = fate.status.text
        elif verdict is None or verdict.reason is None:
            state = "not-here" if one.body is None else "not-checked"
        else:
            state = "invalid" if verdict.reason else "recorded"
        value = {"position": one.position, "time": one.entry.time, "hash": one.entry.body_hash.hex(), "state": state}
        lines.append({**value, "roll_index": verdict.roll_index if verdict and verdict.unit >= 0 else None})
    return lines


def receipt(tx: Reading, poll: Poll, digest: bytes) -> Receipt | None:
    """The receipt of a ballot against the present head; None if the log does not hold it, or not its body."""
    positions = tx.positions(digest, Kind.BALLOT)
    found = tx.record(positions[0]) if positions else None
    if found is None or found.body is None:
        return None
    head, place = tx.head(), tx.place(found.position)
    return Receipt(
        ballot=found.body, chain_id=poll.manifest.chain_id, contract=poll.contract, election_id=poll.manifest.election_id,
        block_number=place.block, block_hash=place.block_hash, entry=found.entry, head=head, position=found.position,
        proof=tuple(tx.proof(found.position, head.size)), promise=None,
    )  # fmt: skip


def compact_receipt(tx: Reading, poll: Poll, digest: bytes) -> CompactReceipt | None:
    """What a QR code holds of a ballot's receipt; None if the log does not hold the ballot."""
    positions = tx.positions(digest, Kind.BALLOT)
    found = tx.record(positions[0]) if positions else None
    if found is None:
        return None
    head = tx.head()
    return CompactReceipt(
        poll.manifest.chain_id, poll.contract, poll.manifest.election_id, found.entry, head, found.position, tuple(tx.proof(found.position, head.size))
    )  # fmt: skip


def check_receipt(tx: Reading, poll: Poll, given: Receipt | CompactReceipt) -> list[tuple[str, bool | None]]:
    """The steps of a receipt's check and whether each holds; None for those after one that does not."""

    def proven() -> bool:
        try:
            given.check()
        except ReceiptWrong:
            return False
        return True

    def ours() -> bool:
        return (given.chain_id, given.contract, given.election_id) == (
            poll.manifest.chain_id,
            poll.contract,
            poll.manifest.election_id,
        )

    def entered() -> bool:
        found = tx.record(given.position) if given.position < tx.head().size else None
        return found is not None and found.entry == given.entry

    def passed() -> bool:
        return given.head.size <= tx.head().size and tx.root(given.head.size) == given.head.root

    checks: list[tuple[str, Callable[[], bool]]] = [
        ("proof", proven),
        ("board", ours),
        ("entry", entered),
        ("head", passed),
    ]
    steps: list[tuple[str, bool | None]] = []
    for name, check in checks:
        steps.append((name, check() if all(ok for _, ok in steps) else None))
    return steps


def counted_set(tx: Reading, start: int, limit: int) -> Value | None:
    """The counted set's root, how many ballots have each status, and its rows from position `start` on. None before the settlement."""
    fact = tx.fact("counted")
    if fact is None:
        return None
    rows = tx.fates(start, limit + 1)
    return {
        **fact,
        "rows": [{"position": r.position, "roll_index": r.roll_index, "status": r.status.text, "reference": r.reference} for r in rows[:limit]],
        "next": rows[limit].position if len(rows) > limit else None,
    }  # fmt: skip


# ---------------------------------------------------------------- stations


def stations(poll: Poll, acts: Sequence[LogRecord]) -> list[Value]:
    """Each station with its revisions. `state` is waiting, reported (a hash that has no document yet), revealed, or amended (revealed, not the first).

    A revision's `document` is there once it is revealed; `problems` says why a revealed one is not counted.
    """
    documents = {r.entry.body_hash: (r, d) for r, d in election.readable(acts, Kind.STATION_RESULT, read_result)}
    checked: dict[int, int] = {}
    for _, batch in election.readable(acts, Kind.CHECK_IN, CheckIns.parse):
        checked[batch.station] = checked.get(batch.station, 0) + len(batch.entries)
    revisions: dict[int, list[Value]] = {}
    for made, hashed in election.readable(acts, Kind.STATION_HASH, StationHash.parse):
        revealed = documents.get(hashed.document)
        revisions.setdefault(hashed.station, []).append(
            {
                "revision": hashed.revision, "hash": hashed.document.hex(), "position": made.position, "time": made.entry.time,
                "revealed_at": revealed[0].entry.time if revealed else None,
                "document": json.loads(revealed[0].body or b"") if revealed else None,
                "problems": _problems(poll, hashed, revealed[1]) if revealed else [],
            }
        )  # fmt: skip
    found = []
    for station in poll.stations:
        own = sorted(revisions.get(station.number, []), key=lambda revision: revision["revision"])
        state = "waiting"
        if own:
            state = "reported" if own[-1]["document"] is None else "amended" if len(own) > 1 else "revealed"
        found.append(
            {
                "station": station.number, "name": station.name, "unit": station.unit, "unit_name": poll.units[station.unit].name, "state": state,
                "check_ins": checked.get(station.number, 0), "revisions": own,
            }
        )  # fmt: skip
    return found


def _problems(poll: Poll, hashed: StationHash, document: paper.StationResult) -> list[str]:
    if (document.station, document.revision) != (hashed.station, hashed.revision):
        return [f"the document is of station {document.station}, revision {document.revision}"]
    return list(paper.arithmetic(document, poll.manifest, poll.stations, poll.units))


# ---------------------------------------------------------------- result


def result(tx: Reading, poll: Poll, acts: Sequence[LogRecord], standing: Mapping[int, paper.StationResult]) -> Value:
    """`state` is none, partial (paper of the stations that were revealed, nothing online) or final (the announced record).

    Per contest the votes per option: online, paper, total, with what is not known yet as None. `problem` says what this board finds wrong with a final one,
    "" if nothing, None while it has not looked.
    """
    manifest = poll.manifest
    of_stations = stations(poll, acts)
    value: Value = {
        "state": "none", "position": None, "problem": None, "practice": manifest.practice,
        "stations": {
            "of": len(of_stations), "reported": sum(s["state"] != "waiting" for s in of_stations),
            "revealed": sum(s["state"] in ("revealed", "amended") for s in of_stations),
        },
    }  # fmt: skip
    found = announced(manifest, acts)
    if found:
        value |= {"state": "final", "position": found[0].position, "problem": tx.fact("result")}
        online, papers, totals = found[1]["online"], found[1]["paper"], found[1]["total"]
    else:
        papers = paper.paper_totals(manifest, list(standing.values()))
        online, totals = [None] * len(papers), [part["totals"] for part in papers]
        if standing:
            value["state"] = "partial"
    value["contests"] = [_contest(*each) for each in zip(manifest.contests, online, papers, totals, strict=True)]
    return value


def announced(manifest: Manifest, acts: Sequence[LogRecord]) -> tuple[LogRecord, Value] | None:
    """The result record and its value; whether its figures are right is another question."""
    return next(election.readable(acts, Kind.RESULT, lambda body: _announced(body, manifest)), None)


def _contest(contest: Any, online: Value | None, papers: Value, totals: list[int]) -> Value:
    rule = next(name for name, rule in RULE_NAMES.items() if rule == contest.rule)
    options = [
        {
            "text": text,
            "online": online["totals"][i] if online else None,
            "paper": papers["totals"][i],
            "total": totals[i],
        }
        for i, text in enumerate(contest.options)
    ]
    return {
        "id": contest.id, "title": contest.title, "rule": rule, "limit": contest.limit, "blank": contest.blank, "options": options,
        "ballots": {"online": online["ballots"] if online else None, "paper": papers["counted"]},
        "paper": {"blank": papers["blank"], "invalid": papers["invalid"]},
    }  # fmt: skip


def _announced(body: bytes, manifest: Manifest) -> Value:
    """A result record's value if it has its form; whether its figures are right is another question. Raises Malformed."""
    value = members(
        parse_json(body, "result"),
        "result",
        counted_set=dict,
        format=str,
        online=list,
        paper=list,
        settlement=str,
        total=list,
    )
    if value["format"] != election.RESULT_FORMAT or not len(value["online"]) == len(value["paper"]) == len(
        value["total"]
    ) == len(manifest.contests):
        raise Malformed("result", "is not of this format and these contests")
    for contest, online, papers, total in zip(
        manifest.contests, value["online"], value["paper"], value["total"], strict=True
    ):
        members(online, "result.online", ballots=int, groups=list, totals=list)
        members(papers, "result.paper", blank=int, counted=int, invalid=int, totals=list)
        for totals in (online["totals"], papers["totals"], total):
            if (
                not isinstance(totals, list)
                or len(totals) != contest.k
                or any(type(count) is not int or count < 0 for count in totals)
            ):
                raise Malformed("result", f"needs {contest.k} counts for {contest.id}")
    return value


# ---------------------------------------------------------------- helpers


def _proof(tx: Reading, position: int) -> Value:
    head = tx.head()
    return {"head": _head(head), "proof": [node.hex() for node in tx.proof(position, head.size)]}


def _head(head: LogHead) -> Value:
    return {"size": head.size, "root": head.root.hex()}


def _station_of(tx: Reading, poll: Poll, position: int) -> str:
    """The name of the station whose check-in is the record at `position`."""
    found = tx.record(position)
    number = CheckIns.parse(found.body or b"").station if found else len(poll.stations)
    return poll.stations[number].name if number < len(poll.stations) else f"{number}"


def _json(body: bytes | None) -> Any:
    """The value of a canonical JSON body, None for any other."""
    try:
        return parse_json(body or b"")
    except Malformed:
        return None
