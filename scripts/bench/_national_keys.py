"""Part of `national`: credentials and hashes for a state's register, and a ceremony of nine trustees of whom five can decrypt.

Credentials are timed as people make them: `ballotboard registrar roll`, from a CSV list on disk to the finished folder: reading, checking, codes, keys,
sorting, cards, handout and checksums, all of it on disk and synced; their memory is that of all its processes. The ceremony is every trustee's every act with the verifier's checks before it, one after another on this machine.
"""

from __future__ import annotations

import hashlib
import secrets
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from eth_account import Account

from authority import actions as authority
from authority.config import CONFIG_FILE, parse_config
from authority.plan import Plan, config_text
from authority.registrar_hashes import make_hashes
from chain.anvil import Anvil
from chain.board import Board
from chain.sealed import LIGHT
from chain.writer import Writer
from protocol import engine
from protocol.encoding import u32
from scripts.bench import row
from scripts.bench._watch import watched
from trustee import actions, sneakernet
from trustee.keystore import Keystore
from trustee.sneakernet import Carried
from verifier.node import NodeSource

FOLDER = Path("build/bench/national-keys")
VOTERS, QUICK_VOTERS = 8_000_000, 40_000
UNITS = 4_000
"""Precincts of a large state."""
GROWTH = (1_000, 10_000, 100_000, 1_000_000)
HASHES, QUICK_HASHES = 2_000_000, 50_000
SAMPLE = 0.5
"""Seconds between two samples of the registrar's memory: its processes are large, and looking at them often would slow them down."""
KEYS = 500_000
"""Bare keys for the baseline."""
TRUSTEES, THRESHOLD = 9, 5

ACTS: tuple[Callable[..., Any], ...] = (actions.commit, actions.reveal, actions.confirm)


def rows(quick: bool) -> list[dict[str, Any]]:
    """The rows; `quick` takes small sizes, to see that it runs."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    return [*credentials(quick), *hashes(quick), *ceremony(quick)]


def credentials(quick: bool) -> list[dict[str, Any]]:
    count = QUICK_VOTERS if quick else VOTERS
    bare = _timed(lambda: engine.public_keys([secrets.token_bytes(16)] * KEYS, bytes(32), 1)) / KEYS
    found = []
    for size in (*(size for size in GROWTH if size < count), count):
        seconds, peak = _roll(size)
        if size == count:
            found.append(
                row(f"credentials.{count}_s", seconds, "s, all cores; goal 120", "the keys alone, 1 core", bare * size)
            )
        found.append(row(f"growth.credentials.{size}_s", seconds, "s, `registrar roll` as a whole"))
        found.append(row(f"growth.credentials.{size}_mb", peak / 1024, "MiB, all processes"))
    return found


def hashes(quick: bool) -> list[dict[str, Any]]:
    count = QUICK_HASHES if quick else HASHES
    found = []
    for size in (*(size for size in GROWTH if size < count), count):
        seconds = _hash(size)
        found.append(row(f"growth.hashes.{size}_s", seconds, "s, CSV to CSV, 1 core"))
    lines = [b"%011d|%09d|B1" % (n, n) for n in range(count // 4)]
    alone = len(lines) / _timed(lambda: [hashlib.sha256(line).hexdigest() for line in lines], time.process_time)
    rate = count / seconds
    return [
        row("credentials.hashes", rate, "lines/s, CSV to CSV, 1 core; goal 200,000", "hashlib alone", alone),
        *found,
    ]


def _hash(count: int) -> float:
    people, out = FOLDER / f"people-{count}.csv", FOLDER / "hashed.csv"
    if not people.exists():
        with people.open("w") as file:
            file.write("id,code,ballot,unit\n")
            file.writelines(f"{n:011},{n * 7919 % 10**9:09},B{n % 90},Precinct {n % UNITS}\n" for n in range(count))
    out.unlink(missing_ok=True)
    return _timed(lambda: make_hashes(people, out), time.process_time)


def ceremony(quick: bool) -> list[dict[str, Any]]:
    """Three rounds by nine trustees over HTTP, and by nine machines without a network: one archive a round, nine answers posted."""
    del quick
    with Anvil(block_time=0) as chain:
        online, offline = _Trustees(chain, "http"), _Trustees(chain, "files")
        http = _timed(online.over_http)
        files = _timed(offline.over_files)
        assert online.key() and offline.key()
    name = f"ceremony.{THRESHOLD}of{TRUSTEES}"
    return [
        row(f"{name}.http_s", http, "s, nine after another"),
        row(f"{name}.files_s", files, "s, nine after another", "over HTTP", http),
    ]


class _Trustees:
    """A published election and its trustees' keystores, joined."""

    def __init__(self, chain: Anvil, name: str) -> None:
        plan = Plan("Nation", "Who?", ("Ann", "Ben"), trustees=TRUSTEES, threshold=THRESHOLD, verifiers=0, stations=0)
        accounts = {role: Account.create() for _, role in plan.role_names()}
        chain.fund([account.address for account in accounts.values()])
        hands = {
            role: (bytes.fromhex(account.address[2:]), secrets.token_bytes(32) if role.startswith("relayer") else b"")
            for role, account in accounts.items()
        }
        folder = FOLDER / f"ceremony-{name}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        config = parse_config(config_text(plan, hands), 0)
        published = authority.publish(chain.web3, chain.url, config, accounts["authority"], folder / "board.json")
        self.contract, self.folder, self.payer = published.connection.contract, folder, accounts["authority"]
        self.board = Board(chain.web3, self.contract)
        self.url = chain.url
        self.stores = []
        for number in range(1, TRUSTEES + 1):
            account = accounts[f"trustee-{number}"]
            store = Keystore.create(folder / f"{number}.keystore", "only a benchmark", account, LIGHT)
            actions.join(self.board, store)
            self.stores.append(store)

    def over_http(self) -> None:
        for act in ACTS:
            for store in self.stores:
                act(self.board, store)

    def over_files(self) -> None:
        for number, act in enumerate(ACTS):
            archive = self.folder / f"{number}.archive"
            with archive.open("wb") as file:
                NodeSource(self.url, self.contract).write(file)
            places = [Carried(archive, self.folder / f"{number}-{j}.json") for j in range(TRUSTEES)]
            for place, store in zip(places, self.stores, strict=True):
                act(place, store)
            for place in places:
                sneakernet.post(Writer(self.board.web3, self.contract, self.payer), place.answer.read_bytes())

    def key(self) -> bool:
        return actions.status(self.board, self.stores[0]).ceremony.key is not None


# ---------------------------------------------------------------- helpers


def _roll(voters: int) -> tuple[float, float]:
    """(seconds, peak kB of all processes) from a list of so many voters to the folder."""
    path, out = FOLDER / f"voters-{voters}.csv", FOLDER / "roll"
    if not path.exists():
        with path.open("w") as file:
            file.write("id,unit\n")
            file.writelines(f"voter-{n:09},Precinct {n * 7919 % UNITS}\n" for n in range(voters))
    for folder in (out, out.with_name("roll.part")):
        shutil.rmtree(folder, ignore_errors=True)
    _, seconds, peak = watched(["registrar", "roll", path, "--config", _state(), "--out", out, "--json"], SAMPLE)
    shutil.rmtree(out)
    return seconds, peak


def _state() -> Path:
    """The election.toml of a state of so many precincts."""
    path, tree = FOLDER / CONFIG_FILE, FOLDER / "units.csv"
    lines = (f"{n},state,precinct,Precinct {n}\n" for n in range(UNITS))
    tree.write_text("id,parent,level,name\nstate,,state,State\n" + "".join(lines))
    plan = Plan("State", "Who?", ("Ann", "Ben"), units_file=tree, stations=0, verifiers=0)
    hands = {role: (bytes(16) + u32(n), bytes(32)) for n, (_, role) in enumerate(plan.role_names(), 1)}
    path.write_text(config_text(plan, hands))
    return path


def _timed(work: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    start = clock()
    work()
    return clock() - start
