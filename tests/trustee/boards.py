"""A small election on a real anvil, published, opened, voted in and settled by its own accounts: what trustees and stations work on."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from eth_account import Account
from eth_account.signers.local import LocalAccount
from nacl.signing import SigningKey

from chain.anvil import Anvil
from chain.board import Board
from chain.contract import artifact
from chain.deploy import constructor_arguments, deploy
from chain.log import read_log
from chain.writer import Writer
from protocol import ceremony, election
from protocol.attachments import Roll, Station, Unit, describe, pack, roll_row, unit_counts_hash
from protocol.ceremony import TrusteeSecret
from protocol.engine import CreateRequest
from protocol.group import base, random_scalar
from protocol.manifest import FORMAT, Manifest, RoleKind
from protocol.records import Kind, LogHead, RollRecord

UNITS = [Unit("town", "Town", -1, -1), Unit("ward", "North", 0, 0), Unit("ward", "South", 0, 0)]
OPTIONS = ("yes", "no", "blank")
DAY = 86_400


def quick_key(path: Path, account: LocalAccount, passphrase: str) -> None:
    """A key file that costs nothing to open: chain.keys makes them slow on purpose."""
    path.write_text(json.dumps(Account.encrypt(account.key, passphrase, kdf="scrypt", iterations=2)))


@dataclass
class Election:
    """A published election: its chain, board, manifest and everybody's account. Times are seconds after publication."""

    chain: Anvil
    board: Board
    manifest: Manifest
    accounts: dict[str, LocalAccount]
    officers: list[list[LocalAccount]]
    promise_key: SigningKey
    """The relayer's."""
    voters: list[tuple[int, int, int]] = field(default_factory=list)
    """(roll index, unit, secret)"""

    @property
    def trustees(self) -> list[LocalAccount]:
        return [self.accounts[role.name] for role in self.manifest.roles if role.kind == RoleKind.TRUSTEE]

    def writer(self, name: str) -> Writer:
        return Writer(self.chain.web3, self.board.address, self.accounts[name])

    def append(self, name: str, kind: Kind, body: bytes) -> int:
        return self.writer(name).append(kind, body, [self.accounts[name]]).positions[0]

    def make_key(self) -> None:
        """The ceremony, all trustees in one hand: for tests that are about something else."""
        names = [self.manifest.roles[index].name for index in self.manifest.trustees]
        setting = election.setting(self.manifest, 0)
        secrets_ = [TrusteeSecret.draw(j, setting.t) for j in range(1, setting.n + 1)]
        rounds: list[list[bytes]] = []
        for make in (ceremony.round1, ceremony.round2, ceremony.round3):
            rounds.append([make(setting, secret, *rounds) for secret in secrets_])  # type: ignore[operator]
            for name, body in zip(names, rounds[-1], strict=True):
                self.append(name, Kind.CEREMONY, body)

    def record_roll(self, voters_per_unit: int) -> None:
        """The roll, published and recorded."""
        rows = sorted((unit, base(x), x) for unit in (1, 2) for x in (random_scalar() for _ in range(voters_per_unit)))
        roll = Roll(b"".join(roll_row(key, unit) for unit, key, _ in rows), [unit.style for unit in UNITS])
        self.voters = [(index, unit, x) for index, (unit, _, x) in enumerate(rows)]
        named = roll.describe()
        self.writer("registrar").attach(roll.data)
        record = RollRecord(
            named.count, secrets.token_bytes(32), named.root, named.sha256, unit_counts_hash(roll.unit_counts())
        )
        self.append("registrar", Kind.ROLL, record.body())

    def open(self) -> None:
        self.chain.advance_to(self.manifest.windows.open_not_before)
        self.append("authority", Kind.OPEN, self.board.head().body())

    def vote(self, options: Sequence[int]) -> None:
        """Voter i chooses option number options[i]."""
        opened = read_log(self.chain.web3, self.board.address).open()
        seen = self.board.head().size
        requests = [
            CreateRequest(
                index, seen, unit, 0, x, secrets.token_bytes(32), [[int(option == i) for i in range(len(OPTIONS))]]
            )
            for (index, unit, x), option in zip(self.voters, options, strict=False)
        ]
        relayer = self.accounts["relayer"]
        self.writer("relayer").append_ballots(self.board.sequences(relayer.address), opened.engine.create(requests))

    def settle(self) -> None:
        windows = self.manifest.windows
        self.chain.advance_to(windows.close + windows.append_grace)
        self.writer("authority").close()
        self.chain.advance_to(windows.settle_not_before)
        self.writer("authority").settle()

    def head(self) -> LogHead:
        return self.board.head()


def publish(
    chain: Anvil, trustees: int = 3, threshold: int = 2, stations: int = 2, practice: bool = False, reveal: int = 3_000
) -> Election:
    """Create the board with the manifest and publish its files. The poll may open at once, counting begins after 1,000 s,
    the embargo ends after `reveal`."""
    names = ["authority", "registrar", *(f"trustee-{j}" for j in range(1, trustees + 1)), "relayer", "cosigner"]
    accounts: dict[str, LocalAccount] = {name: Account.create() for name in names}
    promise_key = SigningKey.generate()
    officers: list[list[LocalAccount]] = [[Account.create() for _ in range(3)] for _ in range(stations)]
    rows = [
        Station(
            number,
            1 + number % 2,
            tuple(bytes.fromhex(officer.address[2:]) for officer in officers[number]),
            f"School {number}",
        ).row()
        for number in range(stations)
    ]
    unit_rows = [unit.row() for unit in UNITS]
    chain.fund([account.address for account in (*accounts.values(), *(o for group in officers for o in group))])
    kinds = ["authority", "registrar", *["trustee"] * trustees, "relayer", "cosigner"]
    start = Board(chain.web3, bytes(20)).now()
    manifest = Manifest.build(
        {
            "format": FORMAT, "name": "Test of the town", "language": "en", "practice": practice,
            "chain": {"id": chain.chain_id, "engine": "anvil", "code_hash": artifact().code_hash.hex(), "validators": []},
            "contests": [{"id": "question", "title": "Shall it be?", "rule": "one-of-k", "limit": 0, "options": list(OPTIONS)}],
            "styles": [[0]], "units": describe(unit_rows).value(), "stations": describe(rows).value(),
            "roles": [
                {"kind": kind, "name": name, "address": accounts[name].address[2:].lower(), "key": promise_key.verify_key.encode().hex() if kind == "relayer" else ""}
                for kind, name in zip(kinds, names, strict=True)
            ],
            "thresholds": {"trustees": threshold, "verifiers": 0, "data_holders": 0},
            "windows": {
                "open_not_before": start, "close": start + 2_000, "close_not_after": start + 2_000, "append_grace": 10,
                "count_not_before": start + 1_000, "reveal_not_before": start + reveal, "settle_not_before": start + 4_000,
                "decrypt_not_before": start + 5_000,
            },
            "rules": {"revote": "last", "channel": "paper-precedence", "minimum_ballots": 1, "decrypt_level": 1, "body_mode": "calldata"},
        }
    )  # fmt: skip
    created = deploy(chain.web3, accounts["authority"], manifest.body, *constructor_arguments(manifest))
    published = Election(chain, Board(chain.web3, created.address), manifest, accounts, officers, promise_key)
    for file in (pack(unit_rows), pack(rows)):
        published.writer("authority").attach(file)
    return published
