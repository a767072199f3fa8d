"""`ballotboard demo`: a whole election on this machine, from an empty chain to a verified result.

Everything is real: the chain, the contract, every encryption and proof, the HTTP between the parts. Only the clock is scaled: the
embedded chain's time is moved forward where a real election waits for it. Each step calls the functions behind the commands that people
use; the verifier runs as a process of its own that is told nothing but a node, an address and the election id.

With `--network N` the chain is N validators, whose clock nobody can move: the day then passes in minutes, one validator is killed while
ballots arrive and started again, and the verifier checks what the validators have signed.
"""

from __future__ import annotations

import csv
import json
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from eth_account import Account
from eth_account.signers.local import LocalAccount
from rich.table import Table

from authority import actions as authority
from authority.config import new_config, parse_config
from authority.registrar import publish_roll, read_cards, read_handout
from authority.registrar_roll import make_roll
from bulletin.cli import index_board
from chain.anvil import Anvil
from chain.board import Board
from chain.console import JsonOption, emit, note, progress, screen
from chain.engine import Engine
from chain.evidence import verify as verify_evidence
from chain.log import read_log
from chain.network.local import LocalNetwork
from chain.process import free_port
from chain.sealed import Cost
from protocol import credential, engine
from protocol.attachments import Station, Unit
from protocol.encoding import canonical_json
from protocol.engine import CreateRequest
from protocol.errors import BallotboardError
from protocol.manifest import Contest, Role, RoleKind, Rule
from protocol.paper import ContestCount
from protocol.receipt import Receipt
from protocol.records import Kind, Report, ballot_hash
from relayer import keys as relayer_keys
from scripts.ballot_data import BallotData, burlington, read_ballots
from scripts.load import send_ballots
from scripts.services import COMMAND, Service
from station import actions as station
from station.result import Counted
from trustee import actions as trustee
from trustee.keystore import Keystore

TRUSTEES, THRESHOLD, STATIONS = 3, 2, 3

MORNING, EVENING, EMBARGO, NIGHT = 9, 17, 20, 21
"""The demo's day (hours UTC): the poll opens, closes and is counted, paper results are public, totals are decrypted."""

EARLY = 600
"""Seconds before the opening at which the chain begins: time for the setup."""

APPEND_GRACE = 60
"""Seconds after the close in which promised ballots still land."""

NETWORK_DAY = {MORNING: 60, EVENING: 150, EMBARGO: 220, NIGHT: 220}
"""The same hours in seconds from the start where nobody can move the clock: time for the key and the roll, for the vote, and for the stations."""

NETWORK_RATE, NETWORK_GRACE = 200, 15
"""Ballots a second for which the vote is kept open beyond that, a fraction of what four validators on two cores take; and its append grace."""

MINIMUM_BALLOTS = 30
"""No figure is decrypted for fewer ballots, unless the whole election has fewer."""

CREATE_CHUNK = 512
"""Ballots made between two moves of the progress bar."""

PRACTICE_PAPERS = 40
"""Practice papers issued at a station of the demo."""

QUICK = Cost(1, 8 * 1024 * 1024)
"""Cost of the demo's passphrases, which are thrown away with it. Real keystores take chain.sealed.STRONG."""


def demo(
    contest: Annotated[
        Path | None, typer.Option(help="contest.json of another election; default: Burlington 2009.")
    ] = None,
    ballots: Annotated[Path | None, typer.Option(help="Its ballots.csv.")] = None,
    limit: Annotated[int | None, typer.Option(help="Only the first N ballots, in file order.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for everything the demo writes; default: a temporary one.")
    ] = None,
    network: Annotated[
        int | None,
        typer.Option(
            min=4, help="Keep the record on so many validators instead of one process (needs `make validator`)."
        ),
    ] = None,
    mixed: Annotated[
        bool,
        typer.Option("--mixed", help="Paper and online together: the published figures of a place as its stations."),
    ] = False,
    place: Annotated[
        str, typer.Option(help="With --mixed: sd (South Dakota 2020), uk (referendum 2016) or us (2020).")
    ] = "sd",
    published: Annotated[
        Path | None, typer.Option("--data", help="With --mixed: folder of the published files, down to precincts.")
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave the services running until ^C, and print their addresses.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Hold a real election on this machine and verify it: Burlington, Vermont, mayor 2009, or another from files.

    Example: ballotboard demo --contest contest.json --ballots ballots.csv --limit 3000 --json

    With stations: ballotboard demo --mixed --place uk
    """
    if (contest is None) != (ballots is None):
        raise BallotboardError("--contest and --ballots belong together: give both, or none for Burlington 2009")
    if mixed and (contest or network):
        raise BallotboardError("--mixed brings its own election and runs on the embedded chain: leave the others away")
    if published and not mixed:
        raise BallotboardError("--data belongs to --mixed")
    data = read_ballots(contest, ballots) if contest and ballots else burlington()
    data = data.first(limit)
    if out is not None and out.exists() and any(out.iterdir()):
        raise BallotboardError(f"{out} is not empty: choose another folder for the demo")
    signal.signal(signal.SIGTERM, lambda *_: _interrupt())
    folder = out or Path(tempfile.mkdtemp(prefix="ballotboard-demo-"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as services:
            if mixed:
                from scripts import demo_mixed  # which is made from this one

                summary = demo_mixed.mixed(place, published, limit, folder.resolve(), services).run()
            else:
                summary = Demo(data, folder.resolve(), services, network or 0).run()
            if as_json:
                emit(summary)
            elif mixed:
                demo_mixed.print_summary(summary, folder if out or keep else None)
            else:
                _print_summary(summary, data, folder if out or keep else None)
            if keep:
                note("\nThe services run until you press ^C.")
                threading.Event().wait()
    finally:
        if out is None:
            shutil.rmtree(folder, ignore_errors=True)
    if not summary["verified"] or not summary["receipt_ok"]:
        raise typer.Exit(1)


@dataclass
class People:
    """Everyone with a key. In a real election these are different people on different machines."""

    authority: LocalAccount
    registrar: LocalAccount
    cosigner: LocalAccount
    trustees: list[LocalAccount]
    verifier: LocalAccount
    officers: list[tuple[LocalAccount, LocalAccount]]

    @staticmethod
    def draw() -> People:
        new = Account.create
        return People(
            new(), new(), new(), [new() for _ in range(TRUSTEES)], new(), [(new(), new()) for _ in range(STATIONS)]
        )


@dataclass
class Demo:
    """One run. Each method is one step of an election, in order; `run` tells the story."""

    data: BallotData
    folder: Path
    services: ExitStack
    validators: int = 0
    people: People = field(default_factory=People.draw)
    seconds: dict[str, float] = field(default_factory=dict)
    passphrase: str = field(default_factory=lambda: secrets.token_hex(16))

    def run(self) -> dict[str, Any]:
        note(f"{self.data.name}: {len(self.data.votes):,} ballots, {len(self.data.options)} options")
        note(f"Source: {self.data.source}\n")
        self.start_chain()
        self.publish()
        self.make_joint_key()
        self.make_roll()
        self.open()
        self.start_services()
        bodies = self.encrypt()
        accepted = self.cast(bodies)
        self.index()
        self.count_paper()
        self.close_and_settle()
        self.reveal_paper()
        self.decrypt_and_announce()
        report = self.verify()
        receipt_ok = self.check_receipt()
        self.certify(report)
        return {
            "election": self.data.name, "ballots": len(bodies), "accepted": accepted,
            "tally": report["tally"], "paper": report["paper"], "total": report["total"],
            "verified": report["verdict"] == "verified" and report["tally"] == self.data.totals(),
            "checks": report["checks"], "head": report["head"],
            "network": self.network_summary(report),
            "seconds": {name: round(value, 3) for name, value in self.seconds.items()},
            "receipt_ok": receipt_ok, "election_id": report["election"], "implementation": report["engine"],
            "rpc": self.chain.url, "contract": self.contract, "board": self.board_url, "relayer": self.relayer_url,
        }  # fmt: skip

    # ---- setup

    def start_chain(self) -> None:
        self.chain: Engine
        self.killed = 0
        now = datetime.now(UTC)
        if self.validators:
            self.day = now
            self.chain = self.services.enter_context(LocalNetwork(self.folder / "network", self.validators))
            note(
                f"A network of {self.validators} validators runs (CometBFT and geth, Byzantine consensus); node 0 is at {self.chain.url}"
            )
        else:
            self.day = now.replace(hour=0, minute=0, second=0, microsecond=0)
            morning = int(self.day.timestamp()) + 3600 * MORNING
            self.chain = self.services.enter_context(Anvil(timestamp=morning - EARLY))
            note(f"A chain runs (anvil, one process, a block a second) at {self.chain.url}")
        self.chain.fund(a.address for a in _flat(vars(self.people).values()))

    def publish(self) -> None:
        self.relayer_port, self.board_port = free_port(), free_port()
        self.relayer_url, self.board_url = (
            f"http://127.0.0.1:{self.relayer_port}",
            f"http://127.0.0.1:{self.board_port}",
        )
        self.relayer_folder = self.folder / "relayer"
        self.relayer_address, self.relayer_key = relayer_keys.create(self.relayer_folder, self.passphrase, QUICK)
        self.chain.fund([self.relayer_address])
        config_file = self.folder / "election.toml"
        config_file.write_text(self._config_text())
        self.config = parse_config(config_file.read_text(), self._start(), str(config_file))
        self.board_file = self.folder / "board.json"
        published = authority.publish(
            self.chain.web3, self.chain.url, self.config, self.people.authority, self.board_file,
            relayers=[self.relayer_url], boards=[self.board_url], comet=self.chain.comet_url,
        )  # fmt: skip
        self.contract, self.manifest = published.connection.contract, published.manifest
        note(
            f"The authority deploys the contract {self.contract} with the manifest as record 0; election id {self.manifest.election_id.hex()[:16]}…"
        )

    def make_joint_key(self) -> None:
        self.keystores = [
            self.services.enter_context(
                Keystore.create(self.folder / f"trustee-{j}.keystore", self.passphrase, account, QUICK)
            )
            for j, account in enumerate(self.people.trustees, 1)
        ]
        for store in self.keystores:
            trustee.join(self._board(), store, self.manifest.election_id)
        with progress(f"{TRUSTEES} trustees make a joint key, {THRESHOLD} of them needed", 3) as advance:
            for number, act in enumerate((trustee.commit, trustee.reveal, trustee.confirm), 1):
                self._together(partial(self._trustee, act), self.keystores)
                advance(number)

    def _trustee(self, act: Callable[[Board, Keystore], object], store: Keystore) -> object:
        return act(self._board(), store)

    def make_roll(self) -> None:
        first = 1 if len(self.config.units) > 1 else 0
        self.voting_units = [first + unit for unit, _ in self.data.votes]
        voters, folder = self.folder / "voters.csv", self.folder / "roll"
        with voters.open("w", encoding="utf-8", newline="") as file:
            names = (self.config.units[unit].name for unit in self.voting_units)
            csv.writer(file).writerows([("id", "unit"), *enumerate(names)])
        with progress("The registrar makes the roll", len(self.voting_units)) as advance:
            summary = make_roll(voters, self.config, folder, lambda _, done, total: advance(done, total))
        self.nonce = bytes.fromhex(summary["nonce"])
        voter_of = {serial: int(id) for id, serial in read_handout(folder)}
        self.cards = [(voter_of[card.serial], card) for card in read_cards(folder)]
        publish_roll(self.chain.web3, self.contract, self.people.registrar, folder)

    def open(self) -> None:
        self._until(MORNING)
        opened = authority.open_poll(self.chain.web3, self.contract, self.people.authority)
        note(f"09:00: the poll opens; joint key {opened.key.hex()[:16]}…, {opened.voters:,} voters")
        self.election = read_log(self.chain.web3, self.contract).open()

    def start_services(self) -> None:
        environment = {**os.environ, "BALLOTBOARD_PASSPHRASE": self.passphrase, "PYTHONWARNINGS": "ignore"}
        board = str(self.board_file)
        relayer = ["relayer", "run", "--board", board, "--port", str(self.relayer_port)]
        relayer += ["--dir", str(self.relayer_folder)]
        bulletin = ["board", "serve", "--board", board, "--port", str(self.board_port)]
        bulletin += ["--database", f"sqlite:///{self.folder / 'board.db'}", *self.board_options()]
        self.services.enter_context(Service(relayer, self.relayer_url, environment))
        self.services.enter_context(Service(bulletin, self.board_url, environment, "/healthz"))
        note(f"A relayer takes ballots at {self.relayer_url}, the public board is at {self.board_url}")

    def board_options(self) -> list[str]:
        """What else the board is told."""
        return []

    # ---- the online vote

    def encrypt(self) -> list[bytes]:
        seen = self._board().head().size
        requests = []
        for voter, card in self.cards:
            option = self.data.votes[voter][1]
            choice = [int(place == option) for place in range(len(self.data.options))]
            secret = credential.secret_key(card.code, self.nonce, card.serial)
            unit = self.voting_units[voter]
            requests.append(CreateRequest(card.roll_index, seen, unit, 0, secret, secrets.token_bytes(32), [choice]))
        bodies: list[bytes] = []
        with self._timed("encrypt"), progress(f"Voters encrypt ({engine.name()})", len(requests)) as advance:
            for start in range(0, len(requests), CREATE_CHUNK):
                bodies += self.election.engine.create(requests[start : start + CREATE_CHUNK])
                advance(len(bodies))
        self.voters_ballot = bodies[len(bodies) // 2]
        return bodies

    def cast(self, bodies: list[bytes]) -> int:
        order = list(bodies)
        secrets.SystemRandom().shuffle(order)
        with self._timed("intake"), progress("Ballots are sent, checked and promised", len(order)) as advance:

            def sent(done: int, total: int) -> None:
                advance(done, total)
                if not self.killed and 2 * done >= len(order):
                    self.killed = int(self.chain.kill_one())

            answers = send_ballots(self.relayer_url, order, sent)
        if answers.refusals:
            raise BallotboardError(
                f"the relayer refused {len(answers.refusals)} ballots, the first as {answers.refusals[0][1]}"
            )
        with self._timed("chain"), progress("Promised ballots become final", len(order)) as advance:
            self._follow(len(order), lambda: self._get(self.relayer_url, "/v1/status")["ballots"]["final"], advance)
        if self.killed:
            self.chain.mend()
            note(
                f"Validator {self.validators - 1} was killed when half of the ballots were in, and the chain went on; now it is back"
            )
        return len(answers.promises)

    def network_summary(self, report: dict[str, Any]) -> dict[str, Any]:
        summary: dict[str, Any] = {"engine": self.chain.name, "validators": len(self.chain.validators())}
        if found := self.chain.evidence(self.contract):
            proven = verify_evidence(found.body(), self.manifest, bytes.fromhex(self.contract[2:]))
            signed = next(check for check in report["checks"] if check["id"] == "E04")
            evidence = {
                "signed_power": proven.signed_power, "total_power": proven.total_power, "verified": signed["outcome"] == "pass",
            }  # fmt: skip
            summary |= {"killed": self.killed, "evidence": evidence}
        return summary

    def index(self) -> None:
        size = self._board().head().size
        with progress("The public board has followed", size) as advance:
            self._follow(size, lambda: self._get(self.board_url, "/api/v1/head")["size"], advance)
        with self._timed("index"), progress("A second board indexes from nothing", size) as advance:
            head = index_board(
                self._connection(), f"sqlite:///{self.folder / 'second-board.db'}", lambda done, _: advance(done)
            )
        if head.root.hex() != self._get(self.board_url, "/api/v1/head")["root"]:
            raise BallotboardError("two boards that followed the same chain show different heads")

    # ---- paper

    def count_paper(self) -> None:
        self._until(EVENING)
        self.stations = [
            self.services.enter_context(
                station.init(
                    self.folder / f"station-{n}", self._board(), n, self.passphrase, self._connection(), cost=QUICK
                )
            )
            for n in range(STATIONS)
        ]
        with progress(f"17:00: {STATIONS} stations count practice papers and sign hashes", STATIONS) as advance:
            self._together(self._count_station, range(STATIONS))
            advance(STATIONS)

    def _count_station(self, n: int) -> None:
        folder, officers = self.stations[n], self.people.officers[n]
        station.open_station(folder, self._board())
        station.close_station(folder)
        station.count(folder, self._practice(n), self._board())
        for officer in officers:
            station.sign(folder, officer)
        station.submit(folder, self._board(), officers[0])

    def reveal_paper(self) -> None:
        self._until(EMBARGO)
        with progress("20:00: the embargo ends, stations reveal their results", STATIONS) as advance:
            self._together(
                lambda n: station.reveal(self.stations[n], self._board(), self.people.officers[n][0]), range(STATIONS)
            )
            advance(STATIONS)

    # ---- the result

    def close_and_settle(self) -> None:
        self._until_time(authority.close_time(self.chain.web3, self.contract), "the last promised ballots to land")
        authority.close_poll(self.chain.web3, self.contract, self.people.authority)
        self._until(EMBARGO)
        authority.settle_poll(self.chain.web3, self.contract, self.people.authority)
        note("The poll is closed and settled: from here on the counted set is fixed")

    def decrypt_and_announce(self) -> None:
        self._until(NIGHT)
        with self._timed("tally"):
            for j, store in enumerate(self.keystores[:THRESHOLD], 1):
                with progress(
                    f"21:00: trustee {j} verifies the record and decrypts totals", len(self.data.votes)
                ) as advance:
                    trustee.decrypt(self._board(), store, advance, self._connection().comet)
            with progress("The authority recomputes and announces", len(self.data.votes)) as advance:
                authority.announce(self.chain.web3, self.contract, self.people.authority, advance)

    def verify(self) -> dict[str, Any]:
        arguments = ["verify", "tally", "--rpc", self.chain.url, "--contract", self.contract]
        arguments += ["--election", self.manifest.election_id.hex()]
        if self.chain.comet_url:
            arguments += ["--comet", self.chain.comet_url]
        note("An observer verifies, in a process that trusts nobody:\n     ballotboard " + " ".join(arguments))
        with self._timed("verify"):
            found = self._ballotboard(*arguments, "--json")
        if found.returncode not in (0, 1) or not found.stdout:
            raise BallotboardError(f"the verifier could not run: {found.stderr.strip()[-500:]}")
        report = json.loads(found.stdout)
        outcomes = Counter(check["outcome"] for check in report["checks"])
        note(f"     {', '.join(f'{number} checks {outcome}' for outcome, number in outcomes.items())}")
        note(f"     {report['verdict']}. {report['sentence']}")
        return report

    def check_receipt(self) -> bool:
        answer = self._get(self.relayer_url, f"/v1/ballots/{ballot_hash(self.voters_ballot).hex()}")
        path = self.folder / "receipt.json"
        path.write_bytes(Receipt.parse(canonical_json(answer["receipt"])).body())
        found = self._ballotboard("verify", "receipt", str(path), "--rpc", self.chain.url, "--contract", self.contract)
        note(f"One voter checks a receipt: {'it is in the log' if found.returncode == 0 else 'IT DOES NOT VERIFY'}")
        return found.returncode == 0

    def certify(self, report: dict[str, Any]) -> None:
        """The registered verifier commits to its verdict, then reveals it; with one of one agreeing the board is certified."""
        if report["state"] is None:
            return
        verdict = Report(
            report["verdict"] == "verified",
            bytes.fromhex(report["state"]),
            bytes.fromhex(report["report"]),
            secrets.token_bytes(32),
        )
        writer = authority.Writer(self.chain.web3, self.contract, self.people.verifier)
        for body in (verdict.commitment(), verdict.body()):
            writer.append(Kind.REPORT, body, [self.people.verifier])
        note(f"The registered verifier puts its report on the record; certified: {self._board().certified()}")

    # ---- helpers

    def _config_text(self) -> str:
        data, people = self.data, self.people
        leaves = list(range(1, len(data.units) + 1)) if len(data.units) > 1 else [0]
        units = [Unit("city", data.name if len(data.units) > 1 else data.units[0], -1, 0 if leaves == [0] else -1)]
        units += [Unit("precinct", name, 0, 0) for name in data.units] if leaves != [0] else []
        stations = [
            Station(
                n,
                leaves[n % len(leaves)],
                tuple(bytes.fromhex(officer.address[2:]) for officer in officers),
                f"Practice station {n}",
            )
            for n, officers in enumerate(people.officers)
        ]
        roles = [
            (RoleKind.AUTHORITY, "authority", people.authority), (RoleKind.REGISTRAR, "registrar", people.registrar),
            (RoleKind.COSIGNER, "cosigner", people.cosigner), (RoleKind.VERIFIER, "observer", people.verifier),
            *((RoleKind.TRUSTEE, f"trustee {j}", account) for j, account in enumerate(people.trustees, 1)),
        ]  # fmt: skip
        hours = {
            "open_not_before": MORNING, "close": EVENING, "close_not_after": EVENING, "count_not_before": EVENING,
            "reveal_not_before": EMBARGO, "settle_not_before": EMBARGO, "decrypt_not_before": NIGHT,
        }  # fmt: skip
        windows = {name: datetime.fromtimestamp(self._hour(hour), UTC).isoformat() for name, hour in hours.items()}
        windows["append_grace"] = f"{APPEND_GRACE if self.chain.moves_clock else NETWORK_GRACE}s"
        return new_config(
            name=data.name, practice=True,
            contests=[Contest("mayor", data.name, Rule.ONE_OF_K, 0, data.options)],
            units=units, stations=stations, windows=windows, trustees=THRESHOLD, verifiers=1,
            roles=[
                *(Role(kind, name, bytes.fromhex(account.address[2:]), b"") for kind, name, account in roles),
                Role(RoleKind.RELAYER, "relayer", bytes.fromhex(self.relayer_address[2:]), self.relayer_key),
            ],
            minimum_ballots=MINIMUM_BALLOTS, decrypt_level=1,
            validators=self.chain.validators(),
        )  # fmt: skip

    def _practice(self, n: int) -> Counted:
        """Practice figures: no election, just numbers that add up. Every option gets a vote in turn."""
        options = self.data.options
        spoiled, invalid = n, 1
        marked = PRACTICE_PAPERS - spoiled - invalid
        counts = [marked // len(options) + (place < marked % len(options)) for place in range(len(options))]
        return Counted(
            PRACTICE_PAPERS, spoiled, 0, PRACTICE_PAPERS - spoiled, (ContestCount(0, tuple(counts), 0, invalid),)
        )

    def _start(self) -> int:
        """When the demo begins, by the chain's time."""
        return self._hour(MORNING) - EARLY if self.chain.moves_clock else int(self.day.timestamp())

    def _hour(self, hour: int) -> int:
        """The chain's time at this hour of the demo's day."""
        if self.chain.moves_clock:
            return int(self.day.timestamp()) + 3600 * hour
        vote = len(self.data.votes) // NETWORK_RATE if hour > MORNING else 0
        return int(self.day.timestamp()) + NETWORK_DAY[hour] + vote

    def _until(self, hour: int) -> None:
        self._until_time(self._hour(hour), f"{hour:02}:00")

    def _until_time(self, moment: int, what: str) -> None:
        """Move the chain's clock where one process has one, else wait for it."""
        if self.chain.moves_clock:
            self.chain.wait_until(moment)
            return
        total = moment - authority.chain_time(self.chain.web3)
        if total > 0:
            with progress(f"Waiting for {what}", total) as advance:
                self.chain.wait_until(moment, lambda left: advance(total - left))

    def _board(self) -> Board:
        return Board(self.chain.web3, self.contract)

    def _connection(self) -> Any:
        return authority.connection(self.board_file)

    def _ballotboard(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        root = str(Path(__file__).resolve().parents[1])
        environment = {**os.environ, "PYTHONPATH": root, "PYTHONWARNINGS": "ignore"}
        return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, env=environment, check=False)

    def _get(self, base: str, path: str) -> Any:
        answer = httpx.get(base + path, timeout=30)
        if answer.status_code != 200:
            raise BallotboardError(f"{base}{path} answers {answer.status_code}: {answer.text[:200]}")
        return answer.json()

    def _follow(self, goal: int, done: Callable[[], int], advance: Callable[[int], None]) -> None:
        while (now := done()) < goal:
            advance(now)
            time.sleep(0.2)
        advance(goal)

    def _together(self, act: Callable[[Any], Any], whom: Iterable[Any]) -> None:
        """Let people act at the same time, as they do, each on a machine of their own."""
        with ThreadPoolExecutor(max_workers=8) as pool:
            list(pool.map(act, whom))

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        start = time.monotonic()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - start


def _print_summary(summary: dict[str, Any], data: BallotData, folder: Path | None) -> None:
    table = Table(title=f"\n{data.name}")
    for column in ("option", "online", "published", "practice paper", "total"):
        table.add_column(column, justify="left" if column == "option" else "right")
    published = data.totals()
    for option in data.options:
        votes = (
            [summary["tally"][option], published[option], summary["paper"][option], summary["total"][option]]
            if summary["tally"]
            else []
        )
        table.add_row(option, *(f"{number:,}" for number in votes))
    screen.print(table)
    rates = Table()
    for column in ("step", "how many", "seconds", "rate"):
        rates.add_column(column, justify="left" if column == "step" else "right")
    for name, taken in summary["seconds"].items():
        rates.add_row(
            name, f"{summary['ballots']:,}", f"{taken:.1f}", f"{summary['ballots'] / max(taken, 0.001):,.0f}/s"
        )
    screen.print(rates)
    network = summary["network"]
    engine = "anvil (no consensus evidence)"
    if network["validators"]:
        evidence = network["evidence"]
        engine = f"{network['validators']} validators, {network['killed']} killed on the way; power {evidence['signed_power']} of {evidence['total_power']} signed"
    note(f"implementation: {summary['implementation']}; engine: {engine}")
    verdict = "[bold green]verified[/bold green]" if summary["verified"] else "[bold red]NOT VERIFIED[/bold red]"
    screen.print(
        f"{summary['accepted']:,} of {summary['ballots']:,} ballots accepted, receipt {'ok' if summary['receipt_ok'] else 'WRONG'}: {verdict}\n"
    )
    if folder:
        screen.print(
            f"  node      {summary['rpc']}\n  contract  {summary['contract']}\n  board     {summary['board']}\n  relayer   {summary['relayer']}\n  files     {folder}"
        )
    note("Next: ballotboard demo --keep      look at the public board, and run the verifier by hand")
    note("      ballotboard verify checks    what was checked just now")
    note("      README.md                    hold an election of your own in ten minutes")


def _flat(values: Iterable[Any]) -> Iterator[LocalAccount]:
    """The accounts in nested lists and tuples."""
    for value in values:
        if isinstance(value, (list, tuple)):
            yield from _flat(value)
        else:
            yield value


def _interrupt() -> None:
    raise KeyboardInterrupt
