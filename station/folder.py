"""A station's folder: all that it needs without a network, small enough for any USB stick.

    board.json, manifest.json, units, stations    public; checked against the election id each time it is opened
    seen.json                                      public; who has voted online or taken paper elsewhere, as of the last sync; a convenience, never relied on
    journal                                        encrypted; everything that happened here, and nothing is known from elsewhere

What the station is, `State`, is a fold over the journal's entries: it is never stored, so it can never disagree with them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any

from chain.console import BOARD_FILE, Connection, connection
from chain.log import ElectionLog
from chain.sealed import STRONG, Cost
from chain.sign import sign_record
from chain.writer import StationItem
from protocol import merkle
from protocol.attachments import Station, Unit, unpack
from protocol.election import read_places
from protocol.errors import BallotboardError
from protocol.manifest import Manifest
from protocol.paper import ContestCount, StationResult
from protocol.records import CheckIns, Kind, StationHash, ballot_hash
from station.journal import Clock, Journal, JournalEntry, system_clock
from station.result import add_counts

MANIFEST, UNITS, STATIONS, JOURNAL, SEEN = "manifest.json", "units", "stations", "journal", "seen.json"


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


@dataclass(frozen=True)
class Scanned:
    """What the scanner has counted: the serials seen (8 bytes each), and apart from them the papers and, per contest, its counts."""

    serials: frozenset[bytes]
    papers: int
    contests: tuple[ContestCount, ...]


@dataclass(frozen=True)
class Seen:
    """What the record said at the last sync of this station's voters: log size, those who voted online, roll index → station that checked in."""

    size: int = 0
    online: frozenset[int] = frozenset()
    elsewhere: dict[int, int] = field(default_factory=dict)


@dataclass
class State:
    """What the journal says: entries of opening and closing, roll index → time of check-in, batches and documents in order.

    Papers: how many were printed here and the key of their codes, how many were handed out, and how many of those against a spoiled one.
    `entries` are the latest figures that each person has entered by hand for the next document, by name.
    """

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
    paper_key: bytes = b""
    printed: int = 0
    issued: int = 0
    replaced: int = 0
    scanned: Scanned | None = None
    entries: dict[str, dict[str, Any]] = field(default_factory=dict)

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
            case "papers":
                state.paper_key = bytes.fromhex(data["key"])
                state.printed += data["count"]
            case "issue":
                state.issued += data["count"]
                state.replaced += data["replaced"]
            case "scan":
                state.scanned = _add_scan(state.scanned, data)
            case "entry":
                state.entries[data["by"]] = data["figures"]
            case "document":
                state.entries = {}
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
        self.manifest, self.units, self.stations, self._tree = _public(path)
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
        manifest = log.manifest
        files = [_attachment(log, named.sha256) for named in (manifest.units, manifest.stations)]
        _, _, stations, _ = _parse_public(manifest.body, *files)
        if not 0 <= number < len(stations):
            raise FolderError(f"there is no station {number}: this election has {len(stations)}, from 0")
        if (path / JOURNAL).exists():
            raise FolderError(f"{path} is a station's folder already, and is not overwritten")
        try:
            path.mkdir(parents=True, exist_ok=True)
            where.save(path / BOARD_FILE)
            for name, data in zip((MANIFEST, UNITS, STATIONS), (manifest.body, *files), strict=True):
                (path / name).write_bytes(data)
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
        proof = inclusion_proof(self._tree, self.station.number)
        signatures = b"".join(list(signed.signatures.values())[:2])
        return StationItem(signed.kind, self.station.row(), proof, signed.body, signatures)

    def seen(self) -> Seen:
        """What the last sync learnt of this station's voters; nothing if there was none, or its file cannot be read."""
        try:
            value = json.loads((self.path / SEEN).read_text())
            elsewhere = {int(index): int(station) for index, station in value["elsewhere"]}
            return Seen(int(value["size"]), frozenset(map(int, value["online"])), elsewhere)
        except (OSError, ValueError, TypeError, KeyError):
            return Seen()

    def keep_seen(self, seen: Seen) -> None:
        value = {"elsewhere": sorted(seen.elsewhere.items()), "online": sorted(seen.online), "size": seen.size}
        part = self.path / f"{SEEN}.part"
        part.write_text(json.dumps(value) + "\n")
        part.replace(self.path / SEEN)

    def close(self) -> None:
        self.journal.close()

    def __enter__(self) -> StationFolder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


Tree = Sequence[Sequence[bytes]]
"""A Merkle tree by levels, leaves first; a level with an odd last node passes it up unchanged."""


def tree(leaves: Sequence[bytes]) -> Tree:
    """All levels over leaf hashes: what makes the proofs of all 13,000 stations of a nation cheap."""
    levels = [list(leaves)]
    while len(levels[-1]) > 1:
        below = levels[-1]
        pairs = [merkle.node_hash(below[i], below[i + 1]) for i in range(0, len(below) - 1, 2)]
        levels.append(pairs + below[len(below) - len(below) % 2 :])
    return levels


def inclusion_proof(levels: Tree, index: int) -> list[bytes]:
    """The same proof as protocol.merkle's, from a tree that is there already."""
    proof = []
    for level in levels[:-1]:
        if index ^ 1 < len(level):
            proof.append(level[index ^ 1])
        index //= 2
    return proof


def _public(path: Path) -> tuple[Manifest, list[Unit], list[Station], Tree]:
    try:
        return _parse_public(*((path / name).read_bytes() for name in (MANIFEST, UNITS, STATIONS)))
    except OSError as error:
        raise FolderError(f"cannot read {error.filename}: {error.strerror}") from error


def _attachment(log: ElectionLog, sha256: bytes) -> bytes:
    if sha256 not in log.attachments:
        raise FolderError(f"the list of units or stations ({sha256.hex()}) is not on the chain yet: try again later")
    return log.attachments[sha256]


@lru_cache(maxsize=2)
def _parse_public(body: bytes, units: bytes, stations: bytes) -> tuple[Manifest, list[Unit], list[Station], Tree]:
    # Cached by content: whoever opens one station's folder after another shares the lists of the election.
    manifest = Manifest.parse(body)
    places = read_places(manifest, {manifest.units.sha256: units, manifest.stations.sha256: stations})
    return manifest, *places, tree([merkle.leaf_hash(row) for row in unpack(stations, STATIONS)])


def _add_scan(before: Scanned | None, data: dict[str, Any]) -> Scanned:
    new = [ContestCount(c["contest"], tuple(c["counts"]), c["blank"], c["invalid"]) for c in data["contests"]]
    serials = frozenset(bytes.fromhex(serial) for serial in data["serials"])
    if before is None:
        return Scanned(serials, data["papers"], tuple(new))
    contests = [add_counts(a, b) for a, b in zip(before.contests, new, strict=True)]
    return Scanned(before.serials | serials, before.papers + data["papers"], tuple(contests))


def _add_document(state: State, result: StationResult) -> None:
    body = StationHash(result.station, result.revision, result.document_hash()).body()
    document = Document(Kind.STATION_HASH, result.revision, body, result=result)
    state.documents[result.revision - 1 :] = [document]  # a recount before anybody signed takes the place of the first


def _find(state: State, kind: int, number: int) -> Signed:
    return state.batches[number] if kind == Kind.CHECK_IN else state.documents[number - 1]
