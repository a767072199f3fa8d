"""A small election's hands and stations, and a board for them on a real anvil."""

from __future__ import annotations

from dataclasses import dataclass, field

from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_hash.auto import keccak

from chain.anvil import Anvil
from chain.board import Board, BoardRole
from chain.deploy import Setup, deploy
from chain.reader import Reader
from chain.sign import sign_record
from chain.writer import StationItem, Writer
from protocol import merkle
from protocol.attachments import Station
from protocol.encoding import u32
from protocol.manifest import RoleKind, Windows
from protocol.records import CheckIns, Kind, StationHash, ballot_hash

MANIFEST = b'{"any":"bytes"}'
HOUR = 3600


def account(name: str) -> LocalAccount:
    """The same account in every run."""
    return Account.from_key(keccak(name.encode()))


def address(of: LocalAccount) -> bytes:
    return bytes.fromhex(of.address[2:])


ROLES = {
    "authority": RoleKind.AUTHORITY,
    "registrar": RoleKind.REGISTRAR,
    "cosigner": RoleKind.COSIGNER,
    "trustee": RoleKind.TRUSTEE,
    "relayer": RoleKind.RELAYER,
    "relayer two": RoleKind.RELAYER,
    "verifier": RoleKind.VERIFIER,
    "holder": RoleKind.DATA_HOLDER,
}
HANDS = {name: account(name) for name in ROLES}
OFFICERS = [account("officer one"), account("officer two")]
OUTSIDER = account("outsider")
STATIONS = [
    Station(number, 1, tuple(address(officer) for officer in OFFICERS), f"school {number}") for number in range(3)
]
LEAVES = [merkle.leaf_hash(station.row()) for station in STATIONS]


def role(name: str) -> int:
    return list(ROLES).index(name)


def roles() -> list[BoardRole]:
    return [BoardRole(kind, address(HANDS[name])) for name, kind in ROLES.items()]


def windows(now: int) -> Windows:
    """Open at once for an hour; paper from half past; results after two; settlement after three; decryption after four."""
    return Windows(now, now + HOUR, now + 2 * HOUR, 60, now + HOUR // 2, now + 2 * HOUR, now + 3 * HOUR, now + 4 * HOUR)


def setup(now: int, hash_mode: bool = False) -> Setup:
    return Setup(windows(now), merkle.root(LEAVES), len(STATIONS), hash_mode, 1, 1)


@dataclass
class World:
    """A board, and who writes to it. Writers send from a role's own account."""

    chain: Anvil
    address: bytes
    windows: Windows
    manifest: bytes
    creation: bytes = b""
    writers: dict[str, Writer] = field(default_factory=dict)

    @property
    def board(self) -> Board:
        return Board(self.chain.web3, self.address)

    @property
    def reader(self) -> Reader:
        return Reader(self.chain.web3, self.address)

    def writer(self, name: str) -> Writer:
        if name not in self.writers:
            sender = HANDS.get(name, OUTSIDER)
            self.chain.fund([sender.address])
            self.writers[name] = Writer(self.chain.web3, self.address, sender)
        return self.writers[name]

    def append(self, kind: Kind, body: bytes, *signers: str) -> int:
        """Appends a signed record, carried by somebody without a role; gives its position."""
        [position] = self.writer("outsider").append(kind, body, [HANDS[name] for name in signers]).positions
        return position

    def open(self) -> World:
        self.append(Kind.ROLL, b"roll", "registrar")
        self.append(Kind.OPEN, self.board.head().body(), "authority")
        return self

    def station_item(self, body: CheckIns | StationHash, number: int) -> StationItem:
        """An item with both officers' signatures; `number` is the batch or the revision."""
        kind = Kind.CHECK_IN if isinstance(body, CheckIns) else Kind.STATION_HASH
        digest, chain_id = ballot_hash(body.body()), self.chain.chain_id
        signatures = [sign_record(officer, chain_id, self.address, kind, digest, number) for officer in OFFICERS]
        proof = merkle.inclusion_proof(LEAVES, body.station)
        return StationItem(kind, STATIONS[body.station].row(), proof, body.body(), b"".join(signatures))


def new_board(chain: Anvil, hash_mode: bool = False, manifest: bytes = MANIFEST) -> World:
    deployer = HANDS["authority"]
    chain.fund([deployer.address])
    now = int(chain.web3.eth.get_block("latest")["timestamp"])
    made = deploy(chain.web3, deployer, manifest, roles(), setup(now, hash_mode))
    return World(chain, made.address, windows(now), manifest, made.transaction)


def ballots(count: int, size: int = 349, first: int = 0) -> list[bytes]:
    """Bodies that differ: the board never looks inside."""
    return [u32(first + number) + bytes(size - 4) for number in range(count)]
