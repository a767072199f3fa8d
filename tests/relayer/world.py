"""A real election on a real anvil, opened and ready for ballots, made with chain/ and protocol/ alone."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from eth_account import Account
from eth_account.signers.local import LocalAccount
from nacl.signing import SigningKey
from web3 import Web3

from chain.console import PASSPHRASE_VARIABLE, Connection
from chain.contract import artifact
from chain.deploy import constructor_arguments, deploy
from chain.engine import Engine
from chain.log import ElectionLog, read_log
from chain.rpc import block, checksummed
from chain.sealed import LIGHT
from chain.writer import Writer
from protocol import ceremony
from protocol.attachments import Attachment, Roll, Station, Unit, describe, pack, roll_row, unit_counts_hash
from protocol.credential import new_code, print_code, secret_key
from protocol.election import OpenElection
from protocol.engine import CreateRequest
from protocol.group import base
from protocol.manifest import Manifest
from protocol.records import Kind, RollRecord
from relayer import keys
from relayer.config import PREFIX, Settings
from relayer.faults import VARIABLE
from relayer.outbox import Outbox
from relayer.service import Relayer

CONTESTS = [
    {"id": "mayor", "title": "Mayor", "rule": "one-of-k", "limit": 0, "options": ["Ada", "Ben", "blank"]},
    {"id": "council", "title": "Council", "rule": "up-to-L", "limit": 2, "options": ["Red", "Green", "Blue"]},
    {"id": "parks", "title": "Which parks?", "rule": "approval", "limit": 0, "options": ["North", "South"]},
]
STYLES = [[0], [0, 1, 2]]
UNITS = [Unit("city", "Testville", -1, -1), Unit("ward", "West", 0, 0), Unit("ward", "East", 0, 1)]
PASSPHRASE = "correct horse"


@dataclass
class Voter:
    """A voter's card and row. `code` is the printed one."""

    code: str
    secret: int
    unit: int
    row: int = -1


@dataclass
class World:
    """An election: its chain, board, hands and voters (in order of their cards, not of the roll)."""

    web3: Web3
    url: str
    manifest: Manifest
    contract: bytes
    accounts: dict[str, LocalAccount]
    promise_keys: dict[str, SigningKey]
    voters: list[Voter]
    election: OpenElection | None = None
    comet: str = ""
    writer: Writer = field(init=False)

    def __post_init__(self) -> None:
        self.writer = Writer(self.web3, self.contract, self.accounts["authority"])

    def ballots(
        self, voters: Sequence[Voter], choices: Sequence[Sequence[int]] | None = None, seen: int = 1
    ) -> list[bytes]:
        """A fresh ballot of each voter; the default is the first option of every contest."""
        assert self.election
        requests = []
        for voter in voters:
            style = UNITS[voter.unit].style
            wanted = choices or [[int(i == 0) for i in range(c.k)] for c in self.election.styles[style]]
            requests.append(
                CreateRequest(voter.row, seen, voter.unit, style, voter.secret, secrets.token_bytes(32), wanted)
            )
        return self.election.engine.create(requests)

    def connection(self, path: Path, relayers: Sequence[str] = (), holders: Sequence[str] = ()) -> Path:
        id = self.manifest.election_id.hex()
        found = Connection(
            self.url, checksummed(self.contract), id, list(relayers), comet=self.comet, holders=list(holders)
        )
        found.save(path)
        return path

    def key_file(self, path: Path, name: str) -> Path:
        """A role's chain key as a file."""
        return key_file(path, self.accounts[name])

    def relayer_folder(self, path: Path, name: str = "relayer-1") -> Path:
        """A folder as `relayer init` leaves it, with this relayer's keys."""
        return relayer_folder(path, self.accounts[name], self.promise_keys[name])

    def read(self) -> ElectionLog:
        """The log as the node has it."""
        return read_log(self.web3, self.contract)

    def log_ballots(self) -> list[bytes]:
        """Bodies of the ballots in the log, in order."""
        return [r.body or b"" for r in self.read().records if r.kind == Kind.BALLOT]


def key_file(path: Path, account: LocalAccount) -> Path:
    """A chain key as a file; stretching the passphrase costs as little as a file may ask for."""
    path.write_text(json.dumps(Account.encrypt(account.key, PASSPHRASE, kdf="pbkdf2", iterations=2)))
    return path


def relayer_folder(path: Path, account: LocalAccount, promise_key: SigningKey) -> Path:
    """A folder as `relayer init` leaves it; stretching the passphrase costs as little as a file may ask for."""
    path.mkdir(mode=0o700)
    header = keys.new_header(keys.FORMAT, LIGHT)
    box = keys.open_box(header, PASSPHRASE, "key")
    (path / keys.PROMISE_FILE).write_bytes(header + box.encrypt(promise_key.encode()))
    key_file(path / keys.ACCOUNT_FILE, account)
    return path


def build(
    chain: Engine, voters: int = 4, opened: bool = True, close_in: int = 3600, grace: int = 600, revote: str = "last",
    holders: int = 0, make_key: Callable[[World], None] | None = None,
) -> World:  # fmt: skip
    """An election with `voters` in each of its two wards, one trustee, two relayers; `close_in` seconds of chain time until it closes.

    With `holders` the chain has ballots' hashes only, and as many data holders must sign; there is a third relayer, and no polling station.
    `make_key` holds the ceremony instead of a trustee who forgets the secret.
    """
    web3 = chain.web3
    names = ["authority", "registrar", "cosigner", "trustee", "relayer-1", "relayer-2"]
    names += ["relayer-3", *(f"data-holder-{n}" for n in range(1, holders + 1))] if holders else []
    accounts = {name: Account.create() for name in names}
    promise_keys = {name: SigningKey.generate() for name in names if name.startswith(("relayer", "data-holder"))}
    chain.fund(account.address for account in accounts.values())
    now = int(block(web3, "pending")["timestamp"], 16)
    unit_rows = [unit.row() for unit in UNITS]
    station_rows = [] if holders else [Station(0, 1, (b"\x01" * 20, b"\x02" * 20), "School").row()]
    manifest = Manifest.build(
        {
            "format": "ballotboard/manifest/v1", "name": "Test", "practice": True, "language": "en",
            "chain": {"id": chain.chain_id, "engine": chain.name, "code_hash": artifact().code_hash.hex(), "validators": [{"key": v.key.hex(), "power": v.power} for v in chain.validators()]},
            "contests": CONTESTS, "styles": STYLES,
            "units": describe(unit_rows).value(), "stations": describe(station_rows).value(),
            "roles": [
                {
                    "kind": name.rstrip("-0123456789"), "name": name, "address": account.address[2:].lower(),
                    "key": promise_keys[name].verify_key.encode().hex() if name in promise_keys else "",
                }
                for name, account in accounts.items()
            ],
            "thresholds": {"trustees": 1, "verifiers": 0, "data_holders": holders},
            "windows": {
                "open_not_before": now - 60, "close": now + close_in, "close_not_after": now + close_in + 3600,
                "append_grace": grace, "count_not_before": now, "reveal_not_before": now + close_in,
                "settle_not_before": now + close_in + 3600 + grace, "decrypt_not_before": now + close_in + 3600 + grace,
            },
            "rules": {
                "revote": revote, "channel": "paper-precedence", "minimum_ballots": 1, "decrypt_level": 0,
                "body_mode": "hash" if holders else "calldata",
            },
        }
    )  # fmt: skip
    board = deploy(web3, accounts["authority"], manifest.body, *constructor_arguments(manifest))
    nonce = secrets.token_bytes(32)
    people = []
    for serial in range(2 * voters):
        code = new_code()
        people.append(Voter(f"{serial}-{print_code(code)}", secret_key(code, nonce, serial), 1 + serial % 2))
    world = World(web3, chain.url, manifest, board.address, accounts, promise_keys, people, comet=chain.comet_url)
    if opened:
        record_roll(world, nonce, unit_rows, station_rows)
        (make_key or _make_key)(world)
        world.writer.append(Kind.OPEN, world.writer.board.head().body(), [world.accounts["authority"]])
        world.election = read_log(world.web3, world.contract).open()
    return world


def record_roll(world: World, nonce: bytes, unit_rows: list[bytes], station_rows: list[bytes]) -> None:
    """The files, and the roll record."""
    rows = sorted((voter.unit, base(voter.secret)) for voter in world.voters)
    for voter in world.voters:
        voter.row = rows.index((voter.unit, base(voter.secret)))
    roll = Roll(b"".join(roll_row(key, unit) for unit, key in rows), [unit.style for unit in UNITS])
    found: Attachment = roll.describe()
    for file in filter(None, (pack(unit_rows), pack(station_rows), roll.data)):
        world.writer.attach(file)
    record = RollRecord(len(rows), nonce, found.root, found.sha256, unit_counts_hash(roll.unit_counts()))
    world.writer.append(Kind.ROLL, record.body(), [world.accounts["registrar"]])


def _make_key(world: World) -> None:
    setting = ceremony.Setting(world.manifest.election_id, 0, 1, 1)
    secret = ceremony.TrusteeSecret.draw(1, 1)
    first = [ceremony.round1(setting, secret)]
    second = [ceremony.round2(setting, secret, first)]
    for body in (first[0], second[0], ceremony.round3(setting, secret, first, second)):
        world.writer.append(Kind.CEREMONY, body, [world.accounts["trustee"]])


def hash_of(body: bytes) -> bytes:
    return hashlib.sha256(body).digest()


class Parts:
    """A relayer taken apart: what its threads do, done by hand."""

    def __init__(
        self, world: World, database: Path, name: str = "relayer-1", peers: Sequence[str] = (), **settings: Any
    ) -> None:
        self.world = world
        self.relayer = Relayer(
            world.web3, world.contract, world.accounts[name], world.promise_keys[name],
            Settings(**{"rebroadcast_after": 0.01, **settings}), Outbox(f"sqlite:///{database}"), peers=peers,
        )  # fmt: skip
        self.outbox, self.intake, self.batcher = self.relayer.outbox, self.relayer.intake, self.relayer.batcher

    def __enter__(self) -> Parts:
        return self

    def __exit__(self, *_: object) -> None:
        self.relayer.stop()

    def look(self) -> None:
        self.batcher.observe(self.relayer.follower.poll())

    def turn(self) -> None:
        """One turn of the chain thread with everything due."""
        self.look()
        self.batcher.step(hurry=True)

    def settle(self) -> None:
        """Turns until nothing is left to do; fails after more than any test needs."""
        for _ in range(40):
            self.turn()
            if not self.outbox.depth:
                return
        raise AssertionError(f"not empty after 40 turns: {self.outbox.counts}")

    def promise(self, bodies: Sequence[bytes]) -> None:
        """Takes ballots in; every one must be promised."""
        answers = self.intake.process(bodies)
        assert [answer.status for answer in answers] == [202] * len(bodies), answers


class Process:
    """`ballotboard relayer run` as a process of its own, with settings such as `MAX_DELAY="5"`; it kills itself at the point `crash_at`."""

    def __init__(self, folder: Path, board: Path, crash_at: str = "", port: str = "0", **settings: str) -> None:
        command = [sys.executable, "-m", "scripts.cli", "relayer", "run"]
        command += ["--dir", str(folder), "--board", str(board), "--port", port]
        self.errors = (folder / "log").open("ab")
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=self.errors, cwd=Path(__file__).parents[2], text=True,
            env=os.environ | {PASSPHRASE_VARIABLE: PASSPHRASE, VARIABLE: crash_at} | {PREFIX + name: value for name, value in settings.items()},
        )  # fmt: skip
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line and crash_at:
            line = '{"url": "http://127.0.0.1:9"}'  # it got there before it was ready
        assert line, (folder / "log").read_text()
        self.ready = json.loads(line)
        self.url: str = self.ready["url"]
        self.http = httpx.Client(base_url=self.url, timeout=30)

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def kill(self) -> None:
        """kill -9, at whatever instruction it is."""
        self.end(signal.SIGKILL)

    def end(self, number: int) -> int:
        """Sends a signal and waits; the exit status."""
        self.process.send_signal(number)
        status = self.process.wait(60)
        self.http.close()
        self.errors.close()
        return status

    def post(self, body: bytes) -> httpx.Response:
        return self.http.post("/v1/ballots", content=body, headers={"Content-Type": "application/octet-stream"})

    def status(self) -> dict[str, Any]:
        return self.http.get("/v1/status").json()

    def state(self, body: bytes) -> str:
        return self.http.get(f"/v1/ballots/{hash_of(body).hex()}").json()["state"]

    def wait_final(self, bodies: Sequence[bytes], seconds: float = 30) -> None:
        end = time.monotonic() + seconds
        while states := {state for body in bodies if (state := self.state(body)) != "final"}:
            assert time.monotonic() < end, states
            time.sleep(0.1)
