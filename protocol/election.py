"""An election as a fold over its records: what anyone can compute from the log, in the order in which it becomes known.

    records up to the open record   →  open_election  →  OpenElection    (units, stations, roll, joint key, context)
    records up to the settlement    →  settle         →  SettledElection (counted set, groups, encrypted sums)
    partial decryptions             →  decrypt        →  Tally           (totals per group and contest)
    everything                      →  result_body    →  the bytes of the one right result record

The relayer, the board, the trustees and the verifier all call these functions, so there is one reading of the record. They
raise BallotboardError at the first thing that is wrong; the verifier's checks look at each thing by itself and name all.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, TypeVar

from protocol import ballot, ceremony, counting, paper, tally
from protocol.attachments import (
    ROLL_ROW,
    Bitmap,
    Roll,
    Station,
    Unit,
    open_rows,
    parse_stations,
    parse_units,
    unit_counts_hash,
)
from protocol.ballot import BallotContext, BallotRefused, Reason
from protocol.encoding import canonical_json
from protocol.engine import Engine, discrete_logs, row_root
from protocol.errors import BallotboardError, Malformed
from protocol.manifest import Manifest
from protocol.records import CheckIns, Entry, Kind, LogHead, RollChange, RollRecord, Settlement, StationHash

RESULT_FORMAT = "ballotboard/result/v1"

EMPTY_FILE = hashlib.sha256(b"").digest()
"""The name of a list without rows (an election without stations): there is nothing to publish, so it is never missing."""

NO_FILES: Mapping[bytes, bytes] = MappingProxyType({})
"""What `settle` needs where ballots are on the chain; in hash mode the bitmap must be among the attachments."""

Parsed = TypeVar("Parsed")


class MissingRecord(BallotboardError):
    """The log does not hold a record that this step needs: the election has not come that far, or it was left out."""


class MissingAttachment(BallotboardError):
    """A file that a record names is not to be had from where the record was read."""


class MissingBodies(MissingRecord):
    """Bodies that the data holders signed for are not to be had: `positions` of the ballots. Nothing can be counted without them."""

    def __init__(self, positions: Sequence[int]) -> None:
        super().__init__(
            f"the bodies of {len(positions):,} ballots that the data holders signed for are missing (first: position {positions[0]}):"
            " ask the data holders for them"
        )
        self.positions = positions


@dataclass(frozen=True, slots=True)
class LogRecord:
    """A record of the log: its entry, its body (None where only the hash is on chain and nobody holds the body), and what was signed with it."""

    position: int
    entry: Entry
    body: bytes | None
    number: int = 0
    signatures: bytes = b""

    @property
    def kind(self) -> int:
        return self.entry.kind


# ---------------------------------------------------------------- until the poll opens


@dataclass(frozen=True)
class OpenElection:
    """What is fixed when the poll opens. `context` binds every ballot; `engine` verifies them."""

    manifest: Manifest
    contract: bytes
    units: list[Unit]
    stations: list[Station]
    roll: Roll
    roll_record: RollRecord
    joint: ceremony.JointKey
    attempt: int
    open_record: LogRecord
    engine: Engine

    @property
    def context(self) -> bytes:
        return self.engine.election.context

    @property
    def styles(self) -> tuple[tuple[Any, ...], ...]:
        return self.engine.election.styles


def open_election(
    manifest: Manifest, contract: bytes, records: Sequence[LogRecord], attachments: Mapping[bytes, bytes]
) -> OpenElection:
    """Everything the open record fixes. `contract` is the board's address (20 bytes), `attachments` are files by SHA-256.

    Raises MissingRecord before the poll is open, MissingAttachment, Malformed, CeremonyVoid.
    """
    opened = only(records, Kind.OPEN)
    places = read_places(manifest, attachments)
    roll_record = RollRecord.parse(_body(only(records, Kind.ROLL)))
    roll = read_roll(roll_record, places[0], attachments)
    return opened_election(manifest, contract, opened, places, roll_record, roll, read_ceremony(manifest, records))


def opened_election(
    manifest: Manifest, contract: bytes, opened: LogRecord, places: tuple[list[Unit], list[Station]], roll_record: RollRecord,
    roll: Roll, ceremony_: tuple[int, ceremony.JointKey],
) -> OpenElection:  # fmt: skip
    """The same from parts that were read before."""
    (units, stations), (attempt, joint) = places, ceremony_
    context = manifest.context(contract, opened.entry.leaf())
    styles = tuple(manifest.style_contests(style) for style in range(len(manifest.styles)))
    engine = Engine(BallotContext(context, joint.key, styles), [unit.style for unit in units])
    return OpenElection(manifest, contract, units, stations, roll, roll_record, joint, attempt, opened, engine)


def read_places(manifest: Manifest, attachments: Mapping[bytes, bytes]) -> tuple[list[Unit], list[Station]]:
    """Units and stations from their attachments."""
    unit_rows = open_rows(_file(attachments, manifest.units.sha256, "units"), manifest.units, "units")
    station_rows = open_rows(_file(attachments, manifest.stations.sha256, "stations"), manifest.stations, "stations")
    units = parse_units(unit_rows, len(manifest.styles))
    return units, parse_stations(station_rows, units)


def read_roll(record: RollRecord, units: Sequence[Unit], attachments: Mapping[bytes, bytes]) -> Roll:
    """The roll whose hash, root and counts are those of the record. `Roll.check` looks at its rows."""
    roll = Roll(_file(attachments, record.sha256, "roll"), [unit.style for unit in units])
    described = hashlib.sha256(roll.data).digest(), row_root(roll.data, ROLL_ROW), len(roll)
    if described != (record.sha256, record.root, record.count):
        raise BallotboardError("the roll file's root or count is not the one on the record")
    if unit_counts_hash(roll.unit_counts()) != record.units:
        raise BallotboardError("the roll's counts per unit are not those on the record")
    return roll


def ceremony_messages(manifest: Manifest, records: Sequence[LogRecord]) -> dict[int, list[list[bytes | None]]]:
    """attempt → three lists (rounds) of n bodies (trustees), None where absent. Only a trustee's own first message of a round counts."""
    n = len(manifest.trustees)
    attempts: dict[int, list[list[bytes | None]]] = {}
    for record, (attempt, number, trustee) in readable(records, Kind.CEREMONY, ceremony.read_message):
        if not 1 <= trustee <= n or manifest.trustees[trustee - 1] != record.entry.role:
            continue  # a message in another trustee's name says nothing
        rounds = attempts.setdefault(attempt, [[None] * n for _ in range(3)])
        if rounds[number - 1][trustee - 1] is None:
            rounds[number - 1][trustee - 1] = record.body
    return attempts


def read_ceremony(manifest: Manifest, records: Sequence[LogRecord]) -> tuple[int, ceremony.JointKey]:
    """(attempt, joint key) of the last attempt. Raises CeremonyVoid if it is not complete and right."""
    attempts = ceremony_messages(manifest, records)
    if not attempts:
        raise MissingRecord("no ceremony record: the trustees have not begun")
    attempt = max(attempts)
    return attempt, ceremony.check_ceremony(setting(manifest, attempt), *attempts[attempt])


def setting(manifest: Manifest, attempt: int) -> ceremony.Setting:
    return ceremony.Setting(manifest.election_id, attempt, len(manifest.trustees), manifest.trustee_threshold)


# ---------------------------------------------------------------- until the settlement


@dataclass(frozen=True)
class SettledElection:
    """What the settlement fixes: the counted set, and per contest the groups with their encrypted sums."""

    election: OpenElection
    settlement: Settlement
    settlement_record: LogRecord
    roll_state: counting.RollState
    counted: counting.CountedSet
    groups: list[list[tally.GroupSum]]


def settled_records(
    manifest: Manifest, records: Sequence[LogRecord], attachments: Mapping[bytes, bytes] = NO_FILES
) -> list[LogRecord]:
    """The records that the settlement fixes. In hash mode a ballot has its body exactly where the bitmap says that it is held, whoever
    else may have it. Raises MissingRecord, MissingAttachment, Malformed, MissingBodies."""
    hash_mode = manifest.body_mode == "hash"
    settlement = Settlement.parse(_body(only(records, Kind.SETTLEMENT)), hash_mode)
    before = [record for record in records if record.position < settlement.head.size]
    if not hash_mode:
        return before
    bitmap = read_bitmap(settlement, attachments)
    ballots = [record for record in before if record.kind == Kind.BALLOT]
    if len(bitmap) != sum(record.position in bitmap for record in ballots):
        raise Malformed("bitmap", "speaks of positions that are no ballots")
    if missing := [record.position for record in ballots if record.position in bitmap and record.body is None]:
        raise MissingBodies(missing)
    return [
        replace(record, body=None) if record.kind == Kind.BALLOT and record.position not in bitmap else record
        for record in before
    ]


def read_bitmap(settlement: Settlement, attachments: Mapping[bytes, bytes]) -> Bitmap:
    """Which bodies the data holders keep, in hash mode. Raises MissingAttachment, Malformed."""
    return Bitmap.parse(_file(attachments, settlement.bitmap, "bitmap"), settlement.head.size)


def settle(
    election: OpenElection,
    records: Sequence[LogRecord],
    reasons: Mapping[int, Reason],
    attachments: Mapping[bytes, bytes] = NO_FILES,
) -> SettledElection:
    """The counted set and the encrypted sums. `reasons` has the engine's answer for every ballot with a body in `settled_records`."""
    record = only(records, Kind.SETTLEMENT)
    settlement = Settlement.parse(_body(record), election.manifest.body_mode == "hash")
    before = settled_records(election.manifest, records, attachments)
    state, counted = counted_set(election, before, reasons)
    bodies = {r.position: _body(r) for r in before if r.kind == Kind.BALLOT and r.body is not None}
    groups = [
        contest_sums(election, state.roll, counted, bodies, contest)
        for contest in range(len(election.manifest.contests))
    ]
    return SettledElection(election, settlement, record, state, counted, groups)


def counted_set(
    election: OpenElection, before: Sequence[LogRecord], reasons: Mapping[int, Reason]
) -> tuple[counting.RollState, counting.CountedSet]:
    """The roll with its changes, and the counted set, of the records `before` the settlement (or so far)."""
    state = roll_state(election, before)
    facts = [ballot_fact(r, reasons.get(r.position, Reason.VALID)) for r in before if r.kind == Kind.BALLOT]
    check_ins = [(r.position, batch) for r, batch in readable(before, Kind.CHECK_IN, CheckIns.parse)]
    rules = election.manifest
    return state, counting.count(state, facts, check_ins, election.stations, rules.revote, rules.channel)


def roll_state(election: OpenElection, records: Sequence[LogRecord]) -> counting.RollState:
    changes = [(r.position, change) for r, change in readable(records, Kind.ROLL_CHANGE, RollChange.parse)]
    return counting.apply_roll_changes(election.roll, changes)


def ballot_fact(record: LogRecord, reason: Reason) -> counting.BallotFact:
    """What counting needs of a ballot record; a body that is not held leaves its row unknown."""
    if record.body is None:
        return counting.BallotFact(
            record.position, record.entry.body_hash, counting.NO_ROW, 0, Reason.VALID, held=False
        )
    try:
        index, seen = ballot.read_header(record.body)
    except BallotRefused:
        index, seen = counting.NO_ROW, 0
    return counting.BallotFact(record.position, record.entry.body_hash, index, seen, reason)


@dataclass(frozen=True)
class Partition:
    """The groups of a contest: `groups` holds the leaf units of each, `ballots` the counted ballots per unit that votes on the contest."""

    contest: int
    groups: list[tuple[int, ...]]
    ballots: dict[int, int]

    def group_of(self) -> dict[int, int]:
        """The group of each unit that votes on the contest."""
        return {unit: number for number, group in enumerate(self.groups) for unit in group}

    def sums(self, sums: Sequence[Sequence[ballot.Ciphertext]]) -> list[tally.GroupSum]:
        """The groups with these encrypted sums."""
        return [
            tally.GroupSum(self.contest, number, group, sum(self.ballots[unit] for unit in group), tuple(sums[number]))
            for number, group in enumerate(self.groups)
        ]


def partition(election: OpenElection, contest_index: int, per_unit: Mapping[int, int]) -> Partition:
    """The groups of a contest, from the counted ballots per unit."""
    manifest = election.manifest
    voting = [
        number
        for number, unit in enumerate(election.units)
        if unit.style >= 0 and contest_index in manifest.styles[unit.style]
    ]
    ballots = {unit: per_unit.get(unit, 0) for unit in voting}
    groups = tally.partition(election.units, ballots, manifest.decrypt_level, manifest.minimum_ballots)
    return Partition(contest_index, groups, ballots)


def contest_sums(
    election: OpenElection, roll: Roll, counted: counting.CountedSet, bodies: Mapping[int, bytes], contest_index: int
) -> list[tally.GroupSum]:
    """The groups of a contest with their encrypted sums."""
    rows = [(row, roll.row(row.roll_index)[1]) for row in counted.counted()]
    found = partition(election, contest_index, Counter(unit for _, unit in rows))
    group_of = found.group_of()
    voted = [(bodies[row.position], group_of[unit]) for row, unit in rows if unit in found.ballots]
    contest = election.manifest.contests[contest_index]
    return found.sums(
        election.engine.sums(
            contest, [body for body, _ in voted], roll, [group for _, group in voted], len(found.groups)
        )
    )


# ---------------------------------------------------------------- decryption and result


@dataclass(frozen=True)
class Tally:
    """Totals: per contest, per group, per option. `faults` names partial decryptions that were ignored, (position, why)."""

    totals: list[list[list[int]]]
    faults: list[tuple[int, str]]


def decrypt(settled: SettledElection, records: Sequence[LogRecord]) -> Tally:
    """The totals from the partial decryptions on the record. A wrong one is named and ignored.

    Raises tally.TooFewShares where fewer than the threshold are right.
    """
    shares, faults = valid_shares(settled, records)
    threshold = settled.election.manifest.trustee_threshold
    totals = [
        [
            tally.combine(
                settled.election.manifest.contests[group.contest],
                group,
                shares[group.contest, group.group],
                threshold,
                discrete_logs,
            )
            for group in groups
        ]
        for groups in settled.groups
    ]
    return Tally(totals, faults)


def valid_shares(
    settled: SettledElection, records: Sequence[LogRecord]
) -> tuple[dict[tuple[int, int], dict[int, list[bytes]]], list[tuple[int, str]]]:
    """((contest, group) → trustee → [D per ciphertext]) of all valid partial decryptions, and the faults (position, why)."""
    election = settled.election
    wanted = {(group.contest, group.group): group for groups in settled.groups for group in groups}
    shares: dict[tuple[int, int], dict[int, list[bytes]]] = {place: {} for place in wanted}
    faults: list[tuple[int, str]] = []
    for record in records:
        if record.kind != Kind.PARTIAL_DECRYPTION:
            continue
        try:
            partial = tally.parse_partial(_body(record))
            if (
                not 1 <= partial.trustee <= len(election.joint.share_keys)
                or election.manifest.trustees[partial.trustee - 1] != record.entry.role
            ):
                raise BallotboardError(f"is signed by role {record.entry.role}, not by trustee {partial.trustee}")
            if partial.settlement != settled.settlement.head.root:
                raise BallotboardError("is for another settlement")
        except BallotboardError as error:
            faults.append((record.position, str(error)))
            continue
        key = election.joint.share_keys[partial.trustee - 1]
        for place, values in partial.shares.items():
            group = wanted.get(place)
            if group is None or not group.ballots:
                faults.append(
                    (
                        record.position,
                        f"trustee {partial.trustee}: there is nothing to decrypt in contest {place[0]}, group {place[1]}",
                    )
                )
            elif not tally.verify_partial(
                election.context, settled.settlement.head.root, group, partial.trustee, key, values
            ):
                faults.append(
                    (
                        record.position,
                        f"trustee {partial.trustee}: the proof for contest {place[0]}, group {place[1]} fails",
                    )
                )
            else:
                shares[place].setdefault(partial.trustee, [d for d, _ in values])
    return shares, faults


def standing_results(
    election: OpenElection, records: Sequence[LogRecord]
) -> tuple[dict[int, paper.StationResult], list[StationHash]]:
    """(station → the document of its highest revision, hashes of highest revisions that have none to count).

    A document that is not revealed, is another station's or revision's, or does not add up, is not counted: the station has to amend it.
    """
    last: dict[int, StationHash] = {}
    for _, found in readable(records, Kind.STATION_HASH, StationHash.parse):
        if found.station not in last or found.revision > last[found.station].revision:
            last[found.station] = found
    documents = {
        r.entry.body_hash: result for r, result in readable(records, Kind.STATION_RESULT, paper.StationResult.parse)
    }
    standing: dict[int, paper.StationResult] = {}
    missing: list[StationHash] = []
    for station, found in sorted(last.items()):
        result = documents.get(found.document)
        if (
            result is None
            or (result.station, result.revision) != (found.station, found.revision)
            or paper.arithmetic(result, election.manifest, election.stations, election.units)
        ):
            missing.append(found)
        else:
            standing[station] = result
    return standing, missing


def result_body(settled: SettledElection, found: Tally, records: Sequence[LogRecord]) -> bytes:
    """The one right body of the result record, from everything before it."""
    election = settled.election
    contests = election.manifest.contests
    online = [
        tally.result_value(
            contest, [(group.ballots, totals) for group, totals in zip(settled.groups[i], found.totals[i], strict=True)]
        )
        for i, contest in enumerate(contests)
    ]
    standing, _ = standing_results(election, records)
    on_paper = paper.paper_totals(election.manifest, list(standing.values()))
    return canonical_json(
        {
            "counted_set": {
                "counted": settled.counted.total(), "root": settled.counted.root().hex(), "size": len(settled.counted.rows),
            },
            "format": RESULT_FORMAT, "online": online, "paper": on_paper,
            "settlement": settled.settlement_record.entry.leaf().hex(),
            "total": [[a + b for a, b in zip(online[i]["totals"], on_paper[i]["totals"], strict=True)] for i in range(len(contests))],
        }
    )  # fmt: skip


# ---------------------------------------------------------------- helpers


def of_kind(records: Sequence[LogRecord], kind: Kind) -> list[LogRecord]:
    return [record for record in records if record.kind == kind]


def readable(
    records: Iterable[LogRecord], kind: Kind, parse: Callable[[bytes], Parsed]
) -> Iterator[tuple[LogRecord, Parsed]]:
    """The records of a kind with their parsed bodies. A body that is not of its kind's form is void: whoever may append could otherwise
    stop the count with one line of junk. The verifier lists the void ones."""
    for record in records:
        if record.kind == kind:
            try:
                parsed = parse(_body(record))
            except Malformed:
                continue
            yield record, parsed


def only(records: Sequence[LogRecord], kind: Kind) -> LogRecord:
    """The first record of a kind that occurs once. Raises MissingRecord."""
    for record in records:
        if record.kind == kind:
            return record
    raise MissingRecord(f"the log holds no {kind.text} record")


def log_head(records: Sequence[LogRecord]) -> LogHead:
    """The head over these records, which start at position 0."""
    from protocol import engine, merkle

    return LogHead(len(records), merkle.root(engine.leaf_hashes([record.entry.encode() for record in records])))


def _body(record: LogRecord) -> bytes:
    if record.body is None:
        raise MissingRecord(f"the body of record {record.position} is not to be had")
    return record.body


def _file(attachments: Mapping[bytes, bytes], sha256: bytes, name: str) -> bytes:
    if sha256 == EMPTY_FILE:
        return b""
    if sha256 not in attachments:
        raise MissingAttachment(f"the attachment {name} ({sha256.hex()}) is not on the chain and no mirror was given")
    return attachments[sha256]


Progress = Callable[[int, int], None]
"""Called with (done, of how many)."""


def verify_ballots(
    election: OpenElection,
    roll: Roll,
    ballots: Sequence[LogRecord],
    progress: Progress | None = None,
    batch: int = 2048,
    threads: int = 0,
) -> dict[int, Reason]:
    """The engine's answer for every ballot record that has a body: position → reason (1–7, 0 valid)."""
    held = [record for record in ballots if record.body is not None]
    reasons: dict[int, Reason] = {}
    for start in range(0, len(held), batch):
        part = held[start : start + batch]
        answers = election.engine.verify([_body(record) for record in part], roll, threads)
        reasons.update(zip((record.position for record in part), answers, strict=True))
        if progress:
            progress(start + len(part), len(held))
    return reasons
