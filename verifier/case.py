"""What follows from claims, computed once and when it is first asked for.

Each property raises BallotboardError at the first thing that is wrong; the checks look at each thing by themselves, name all that
is wrong, and come in an order (`Check.needs`) in which a property is used only after the check of what it is made from.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import cached_property
from typing import Any

from protocol import ceremony, election, tally
from protocol.attachments import Bitmap, Roll, Station, Unit
from protocol.counting import RollState, Status
from protocol.election import LogRecord, OpenElection, SettledElection, Tally
from protocol.encoding import members, parse_json
from protocol.errors import BallotboardError, Malformed
from protocol.manifest import Manifest
from protocol.paper import StationResult
from protocol.receipt import Promise, check_statement
from protocol.records import (
    MAX_BODY,
    CheckIns,
    Extension,
    Kind,
    LogHead,
    Report,
    RollChange,
    RollRecord,
    Settlement,
    Statement,
    StationHash,
)
from verifier import ballots, count
from verifier.claims import Claims, Progress, WrongInput, silent
from verifier.count import CountedColumns
from verifier.log import Log

RULES = hashlib.sha256(b"ballotboard/rules/v1").digest()
"""The rule set of this version of the protocol."""


class Case:
    """One board's claims and everything that is recomputed from them."""

    def __init__(
        self, claims: Claims, election_id: bytes | None = None, promises: Sequence[Any] | None = None,
        progress: Progress = silent, processes: int = 0, work: ballots.Work | None = None,
        setup_report: dict[str, Any] | None = None,
    ) -> None:  # fmt: skip
        self.claims, self.election_id, self.promises = claims, election_id, promises
        self.progress, self.work = progress, work or ballots.Work(processes)
        self.setup_report = setup_report

    # ---- the log

    @cached_property
    def log(self) -> Log:
        """The log, with the ballots as columns."""
        return Log.of(self.claims.records)

    def roots(self, sizes: Iterable[int]) -> dict[int, bytes]:
        """The root of the log at each of these sizes, as far as the log reaches."""
        return self.log.find_roots(sizes)

    @cached_property
    def malformed(self) -> dict[int, str]:
        """Position → what is wrong, for every record whose body is not of its kind's form. Of ballots only the size is looked at here."""
        wrong = {}
        for record in self.log.others:
            if record.body is not None:
                try:
                    _parse(record.kind, record.body, self.manifest.body_mode == "hash")
                except BallotboardError as error:
                    wrong[record.position] = str(error)
        return wrong

    @cached_property
    def records(self) -> list[LogRecord]:
        """The records that have an effect, but for ballots, which `log` has: those that are not void and have a body. C02 and I03 name the
        others."""
        return [r for r in self.log.others if r.position not in self.malformed and r.body is not None]

    def of_kind(self, kind: Kind) -> list[LogRecord]:
        return election.of_kind(self.records, kind)

    def body(self, kind: Kind) -> bytes:
        """The body of the only record of a kind. Raises MissingRecord."""
        return election.only(self.records, kind).body or b""

    # ---- the setup

    @cached_property
    def manifest(self) -> Manifest:
        first = next(iter(self.claims.records), None)
        if first is None or first.position != 0 or first.kind != Kind.MANIFEST or first.body is None:
            raise election.MissingRecord("the log does not begin with a manifest")
        return Manifest.parse(first.body)

    @cached_property
    def roll_record(self) -> RollRecord:
        return RollRecord.parse(self.body(Kind.ROLL))

    @cached_property
    def places(self) -> tuple[list[Unit], list[Station]]:
        return election.read_places(self.manifest, self.claims.attachments)

    @cached_property
    def roll(self) -> Roll:
        return election.read_roll(self.roll_record, self.places[0], self.claims.attachments)

    @cached_property
    def setup(self) -> list[LogRecord]:
        """The records up to the open record, or all while there is none."""
        opened = self.of_kind(Kind.OPEN)
        return [record for record in self.records if not opened or record.position <= opened[0].position]

    @cached_property
    def joint(self) -> tuple[int, ceremony.JointKey]:
        return election.read_ceremony(self.manifest, self.setup)

    # ---- the poll

    @cached_property
    def open(self) -> OpenElection:
        opened = election.only(self.setup, Kind.OPEN)
        return election.opened_election(
            self.manifest, self.claims.contract, opened, self.places, self.roll_record, self.roll, self.joint
        )

    @cached_property
    def settlement(self) -> Settlement:
        return Settlement.parse(self.body(Kind.SETTLEMENT), self.manifest.body_mode == "hash")

    @cached_property
    def before(self) -> list[LogRecord]:
        """The records that the settlement fixes, but for ballots."""
        return [record for record in self.records if record.position < self.settlement.head.size]

    @cached_property
    def votes(self) -> int:
        """How many ballots the settlement fixes."""
        return self.log.ballots.below(self.settlement.head.size)

    @cached_property
    def bitmap(self) -> Bitmap:
        """In hash mode, for which ballots the data holders have signed. Raises Malformed, MissingAttachment."""
        bitmap = election.read_bitmap(self.settlement, self.claims.attachments)
        if len(bitmap) != sum(position in bitmap for position in self.log.ballots.positions[: self.votes]):
            raise Malformed("bitmap", "speaks of positions that are no ballots")
        return bitmap

    @cached_property
    def not_held(self) -> Collection[int]:
        """The numbers of the ballots that count for nothing since nobody vouches for their bodies: in hash mode those that the settlement's
        bitmap leaves out. Raises MissingBodies where one that it has is not to be had, Malformed, MissingAttachment."""
        held = self.log.ballots
        if self.manifest.body_mode != "hash":
            return {number for number in held.missing if number < self.votes}
        bitmap, positions = self.bitmap, held.positions[: self.votes]
        missing = [
            positions[number] for number in sorted(held.missing) if number < self.votes and positions[number] in bitmap
        ]
        if missing:
            raise election.MissingBodies(missing)
        return {number for number, position in enumerate(positions) if position not in bitmap}

    @cached_property
    def roll_state(self) -> RollState:
        """The roll with its changes before the settlement."""
        return election.roll_state(self.open, self.before)

    @cached_property
    def reasons(self) -> bytearray:
        """The engine's answer for each ballot that the settlement fixes."""
        size = self.settlement.head.size
        root = self.roots([size])[size]
        return ballots.reasons(self.open, self.roll_state.roll, self.log, self.votes, root, self.progress, self.work)

    def count_with(self, reasons: bytes | bytearray) -> CountedColumns:
        """The counted set, given these reasons."""
        check_ins = [(r.position, batch) for r, batch in election.readable(self.before, Kind.CHECK_IN, CheckIns.parse)]
        rules = count.Rules(self.roll_state, check_ins, self.open.stations, self.manifest.revote, self.manifest.channel)
        return count.count(self.log.ballots, reasons, rules, self.not_held)

    @cached_property
    def settled(self) -> SettledElection:
        record = election.only(self.records, Kind.SETTLEMENT)
        groups = count.group_sums(
            self.open, self.roll_state.roll, self.log, self.counted, self.progress, self.work.cores
        )
        return SettledElection(self.open, self.settlement, record, self.roll_state, self.counted, groups)

    @cached_property
    def counted(self) -> CountedColumns:
        """What became of every ballot that the settlement fixes."""
        return self.count_with(self.reasons)

    @cached_property
    def recounted(self) -> dict[str, Any]:
        """The `counted_set` that the result record must have."""
        counted = self.counted
        return {"counted": counted.tally()[Status.COUNTED], "root": counted.root().hex(), "size": len(counted.rows)}

    # ---- the result

    @cached_property
    def tally(self) -> Tally:
        return election.decrypt(self.settled, self.records)

    @cached_property
    def station_results(self) -> tuple[dict[int, StationResult], list[StationHash]]:
        """(station → its result that counts, last hashes of the stations that have none)."""
        return election.standing_results(self.open, self.records)

    @cached_property
    def documents(self) -> dict[bytes, StationResult]:
        """The revealed station documents by their hash, whether or not they count."""
        return {
            record.entry.body_hash: StationResult.parse(record.body or b"")
            for record in self.of_kind(Kind.STATION_RESULT)
        }

    @cached_property
    def announced(self) -> dict[str, Any]:
        """The result record's value, as it was announced."""
        return _parse_result(self.body(Kind.RESULT))

    @cached_property
    def recomputed(self) -> dict[str, Any]:
        """What the result record must say."""
        return parse_json(election.result_body(self.settled, self.tally, self.records))

    @cached_property
    def state(self) -> bytes:
        """The state that reports certify (docs/protocol.md, section 10)."""
        settlement, result = (election.only(self.records, kind).entry.leaf() for kind in (Kind.SETTLEMENT, Kind.RESULT))
        return hashlib.sha256(settlement + result + bytes.fromhex(self.recounted["root"]) + RULES).digest()

    # ---- what was given beside the record

    @cached_property
    def statements(self) -> list[Promise]:
        """The promises in the file that was given. Raises WrongInput for anything else in it: it would prove nothing."""
        promises = []
        for number, value in enumerate(self.promises or ()):
            try:
                promise = check_statement(value, self.manifest)
            except Malformed as error:
                raise WrongInput(f"promise {number} of the file proves nothing: {error}") from error
            if not isinstance(promise, Promise) or (promise.chain, promise.contract) != (
                self.claims.chain_id,
                self.claims.contract,
            ):
                raise WrongInput(f"promise {number} of the file is a refusal, or about another board")
            promises.append(promise)
        return promises

    def position_of(self, body: bytes) -> int | None:
        """The position of the record with this body."""
        digest = hashlib.sha256(body).digest()
        return next((record.position for record in self.records if record.entry.body_hash == digest), None)


def _parse_result(body: bytes) -> dict[str, Any]:
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
    if value["format"] != election.RESULT_FORMAT:
        raise Malformed("result.format", f"expected {election.RESULT_FORMAT}")
    return value


PARSERS: dict[int, Callable[[bytes], Any]] = {
    Kind.MANIFEST: Manifest.parse,
    Kind.CEREMONY: ceremony.read_message,
    Kind.ROLL: RollRecord.parse,
    Kind.OPEN: LogHead.parse,
    Kind.BALLOT: lambda body: None,
    Kind.CHECK_IN: CheckIns.parse,
    Kind.STATION_HASH: StationHash.parse,
    Kind.STATION_RESULT: StationResult.parse,
    Kind.CLOSE: LogHead.parse,
    Kind.PARTIAL_DECRYPTION: tally.parse_partial,
    Kind.RESULT: _parse_result,
    Kind.REPORT: Report.parse,
    Kind.COMPLAINT: lambda body: Statement.parse(body, Kind.COMPLAINT),
    Kind.EXTENSION: Extension.parse,
    Kind.ROLL_CHANGE: RollChange.parse,
    Kind.DECISION: lambda body: Statement.parse(body, Kind.DECISION),
}
"""Every kind's strict reader; the settlement's needs to know the ballot mode."""


def _parse(kind: int, body: bytes, hash_mode: bool) -> None:
    if not 1 <= len(body) <= MAX_BODY:
        raise Malformed("body", f"{len(body)} bytes; a record has 1 to {MAX_BODY}")
    if kind == Kind.SETTLEMENT:
        Settlement.parse(body, hash_mode)
    elif kind in PARSERS:
        PARSERS[kind](body)
    else:
        raise Malformed("kind", f"there is no kind {kind}")
