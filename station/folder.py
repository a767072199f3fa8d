"""A station's folder: all that it needs without a network, small enough for any USB stick.

    board.json, manifest.json, units, stations    public; checked against the election id each time it is opened
    journal                                        encrypted; everything that happened here, and nothing is known from elsewhere

What the station is, `State`, is a fold over the journal's entries: it is never stored, so it can never disagree with them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from chain.console import BOARD_FILE, Connection, connection
from chain.log import ElectionLog
from chain.sealed import STRONG, Cost
from chain.sign import sign_record
from chain.writer import StationItem
from protocol import merkle
from protocol.attachments import Station, Unit
from protocol.election import read_places
from protocol.errors import BallotboardError
from protocol.manifest import Manifest
from protocol.paper import StationResult
from protocol.records import CheckIns, Kind, StationHash, ballot_hash
from station.journal import Clock, Journal, JournalEntry, system_clock

MANIFEST, UNITS, STATIONS, JOURNAL = "manifest.json", "units", "stations", "journal"


class FolderError(BallotboardError):
    """A folder that is not a station's, or whose files are not those of its election."""


@dataclass
class Signed:
    """A check-in batch or result hash: kind, number (batch or revision), body, officer's address → signature, position on the chain once known."""

    kind: Kind
    number: int
    body: bytes
    signatures: dict[bytes, bytes] = field(default_factory=dict)
    position: int | None = None
    sent: bool = False

    @property
    def complete(self) -> bool:
        return len(self.signatures) >= 2


@dataclass
class Document(Signed):
    """A result hash with the document behind it."""

    result: StationResult = field(kw_only=True)
    revealed: bool = False


@dataclass
class RollPart:
    """The rows of the roll that may vote here: a range, and what roll changes added to and took from it."""

    first: int
    count: int
    added: tuple[int, ...] = ()
    revoked: tuple[int, ...] = ()

    def __contains__(self, index: int) -> bool:
        return (self.first <= index < self.first + self.count or index in self.added) and index not in self.revoked


@dataclass
class State:
    """What the journal says: entries of opening and closing, roll index → time of check-in, batches and documents in order."""

    station: int
    contract: bytes
    election: bytes
    opened: JournalEntry | None = None
    closed: JournalEntry | None = None
    roll: RollPart | None = None
    check_ins: dict[int, int] = field(default_factory=dict)
    batches: list[Signed] = field(default_factory=list)
    documents: list[Document] = field(default_factory=list)
    batched: int = 0
    recovered: int = 0

    @property
    def waiting(self) -> list[tuple[int, int]]:
        """The check-ins, in order, that are in no batch yet: (roll index, time)."""
        return list(self.check_ins.items())[self.batched :]


def fold(state: State | None, entries: list[JournalEntry]) -> State:
    """The state after further entries. The first entry of all is the one that `create` wrote, and begins a state."""
    if state is None:
        first, *entries = entries
        state = State(
            first.data["station"], bytes.fromhex(first.data["contract"]), bytes.fromhex(first.data["election"])
        )
    for entry in entries:
        data = entry.data
        match entry.kind:
            case "open":
                state.opened = entry
            case "close":
                state.closed = entry
            case "roll":
                state.roll = RollPart(data["first"], data["count"], tuple(data["added"]), tuple(data["revoked"]))
            case "check-in":
                state.check_ins[data["index"]] = entry.time
            case "batch":
                state.batches.append(Signed(Kind.CHECK_IN, len(state.batches), bytes.fromhex(data["body"])))
                state.batched += len(CheckIns.parse(state.batches[-1].body).entries)
            case "document":
                _add_document(state, StationResult.parse(data["document"].encode()))
            case "signature":
                _find(state, data["record"], data["number"]).signatures[bytes.fromhex(data["officer"])] = bytes.fromhex(
                    data["signature"]
                )
            case "sent":
                item = _find(state, data["record"], data["number"])
                item.sent, item.position = True, data["position"]
            case "revealed":
                state.documents[data["revision"] - 1].revealed = True
            case "recovered":
                state.recovered += 1
    return state


class StationFolder:
    """An open folder. `manifest`, `units`, `stations` and `station` are the election's; `journal` is this station's, and `state` what it says."""

    def __init__(self, path: Path, journal: Journal) -> None:
        self.path, self.journal = path, journal
        self.manifest, self.units, self.stations = _public(path)
        self.state = fold(None, journal.entries)
        if self.state.election != self.manifest.election_id:
            raise FolderError(f"{path / MANIFEST} is not the manifest of the election that this folder was made for")
        self.contract, self.station = self.state.contract, self.stations[self.state.station]

    @classmethod
    def create(
        cls, path: Path, log: ElectionLog, number: int, passphrase: str, where: Connection,
        clock: Clock = system_clock, cost: Cost = STRONG,
    ) -> StationFolder:  # fmt: skip
        """A new folder for station `number` of the election in `log`. Refuses one that has a journal; after an interruption, call it again."""
        _, stations = read_places(log.manifest, log.attachments)
        if not 0 <= number < len(stations):
            raise FolderError(f"there is no station {number}: this election has {len(stations)}, from 0")
        if (path / JOURNAL).exists():
            raise FolderError(f"{path} is a station's folder already, and is not overwritten")
        try:
            path.mkdir(parents=True, exist_ok=True)
            where.save(path / BOARD_FILE)
            (path / MANIFEST).write_bytes(log.manifest.body)
            (path / UNITS).write_bytes(log.attachments[log.manifest.units.sha256])
            (path / STATIONS).write_bytes(log.attachments[log.manifest.stations.sha256])
        except OSError as error:
            raise FolderError(f"cannot write {path}: {error.strerror}") from error
        journal = Journal.create(path / JOURNAL, passphrase, clock, cost)
        journal.append("init", contract=log.contract.hex(), election=log.manifest.election_id.hex(), station=number)
        return cls(path, journal)

    @classmethod
    def open(cls, path: Path, passphrase: str, clock: Clock = system_clock) -> StationFolder:
        """Raises FolderError, JournalError, WrongPassphrase."""
        if not (path / JOURNAL).exists():
            raise FolderError(
                f"{path} is not a station's folder: make one with `ballotboard station init {path} --station N`"
            )
        journal = Journal.open(path / JOURNAL, passphrase, clock)
        try:
            return cls(path, journal)
        except BaseException:
            journal.close()
            raise

    def record(self, kind: str, **data: Any) -> JournalEntry:
        """Write an entry into the journal and take it into the state; on the disk when this returns."""
        entry = self.journal.append(kind, **data)
        self.state = fold(self.state, [entry])
        return entry

    @property
    def connection(self) -> Connection:
        return connection(self.path / BOARD_FILE)

    def signature(self, key: object, item: Signed) -> bytes:
        """An officer's signature of a batch or result hash. Needs no network: chain id and contract are in the folder."""
        return sign_record(key, self.manifest.chain_id, self.contract, item.kind, ballot_hash(item.body), item.number)  # type: ignore[arg-type]

    def item(self, signed: Signed) -> StationItem:
        """What goes to the board: the station's row with its inclusion proof, the body, and two signatures."""
        leaves = [merkle.leaf_hash(station.row()) for station in self.stations]
        proof = merkle.inclusion_proof(leaves, self.station.number)
        return StationItem(
            signed.kind, self.station.row(), proof, signed.body, b"".join(list(signed.signatures.values())[:2])
        )

    def close(self) -> None:
        self.journal.close()

    def __enter__(self) -> StationFolder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _public(path: Path) -> tuple[Manifest, list[Unit], list[Station]]:
    try:
        manifest = Manifest.parse((path / MANIFEST).read_bytes())
        files = {
            manifest.units.sha256: (path / UNITS).read_bytes(),
            manifest.stations.sha256: (path / STATIONS).read_bytes(),
        }
    except OSError as error:
        raise FolderError(f"cannot read {error.filename}: {error.strerror}") from error
    return manifest, *read_places(manifest, files)


def _add_document(state: State, result: StationResult) -> None:
    body = StationHash(result.station, result.revision, result.document_hash()).body()
    document = Document(Kind.STATION_HASH, result.revision, body, result=result)
    state.documents[result.revision - 1 :] = [document]  # a recount before anybody signed takes the place of the first


def _find(state: State, kind: int, number: int) -> Signed:
    return state.batches[number] if kind == Kind.CHECK_IN else state.documents[number - 1]
