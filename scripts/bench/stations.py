"""A nation's polling stations: 13,000 result hashes and results onto the chain, scanning, and a station's journal.

`final.*`: from the first submit to the receipt of the last of 26,000 records, in batch calls from one account; everything is signed before. The baseline is
as many plain transactions of the same bytes to an account without code, on the same chain.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from eth_account import Account
from eth_account.signers.local import LocalAccount

from authority import actions as authority
from authority.config import new_config, parse_config
from chain.anvil import Anvil
from chain.board import Board, BoardRole
from chain.contract import MAX_GAS
from chain.deploy import Setup, deploy
from chain.network.local import LocalNetwork
from chain.rpc import address_bytes
from chain.sealed import LIGHT
from chain.sign import sign_record
from chain.transactions import Sender
from chain.writer import StationItem, Writer
from protocol.attachments import Roll, Station, Unit, roll_row, unit_counts_hash
from protocol.group import base, random_scalar
from protocol.manifest import Contest, Role, RoleKind, Rule, Windows
from protocol.merkle import leaf_hash
from protocol.paper import ContestCount, StationResult
from protocol.records import Kind, RollRecord, StationHash, ballot_hash, pack_bodies
from scripts.bench import row
from scripts.gas import AUTHORITY, OFFICERS, REGISTRAR, filler, key
from scripts.specimens import specimen
from station import actions, courier, papers
from station import scan as scanning
from station.folder import inclusion_proof, tree
from station.journal import Journal

STATIONS = 13_000
"""Polling stations of a country of some 25 million voters."""

VALIDATORS, CHAIN_ID = 4, 77_200
OPTIONS = 5
PAPERS = 300
"""Pictures scanned: three of four straight, every fourth turned a little, as a feeder does."""

ENTRIES = 5_000
"""Entries of the journal that is synced: check-ins of a large station's whole day."""

APPENDS = 500
DAY = 86_400
NO_CODE = b"\x99" * 20

Chain = Anvil | LocalNetwork


def run(quick: bool) -> list[dict[str, Any]]:
    stations, entries = (300, 200) if quick else (STATIONS, ENTRIES)
    rows = []
    with Anvil() as chain:
        rows += final(chain, stations, "final.13000")
    rows += network(100 if quick else stations)
    rows += scan(40 if quick else PAPERS)
    rows += journal(50 if quick else APPENDS)
    rows += sync(entries)
    return rows


def network(stations: int) -> list[dict[str, Any]]:
    root = Path(__file__).resolve().parents[2] / ".bin"
    if not all((root / name).exists() for name in ("validator", "geth")):
        return [row("final.13000.validators4_s", None, "not measured: no validator and geth here (make validator)")]
    with tempfile.TemporaryDirectory(prefix="ballotboard-stations-") as folder:
        with LocalNetwork(Path(folder), VALIDATORS, chain_id=CHAIN_ID) as chain:
            return final(chain, stations, "final.13000.validators4")


# ---------------------------------------------------------------- 13,000 stations


def final(chain: Chain, stations: int, name: str) -> list[dict[str, Any]]:
    carrier, plain = key("carrier"), key("plain")
    chain.fund([account.address for account in (carrier, plain, AUTHORITY, REGISTRAR)])
    rows = [
        Station(n, 1, tuple(address_bytes(o.address) for o in OFFICERS), f"School number {n}").row()
        for n in range(stations)
    ]
    levels = tree([leaf_hash(item) for item in rows])
    board = _board(chain, levels[-1][0], stations)
    documents, items = [], []
    for n in range(stations):
        result = StationResult(
            n, 1, False, "", 900, 890, 7, 3, (ContestCount(0, (300, 250, 200, 100, 30), 0, 10),), filler(32, f"open {n}"),
            filler(32, f"close {n}"), filler(32, f"salt {n}"),
        )  # fmt: skip
        documents.append(result.body())
        body = StationHash(n, 1, result.document_hash()).body()
        signed = [
            sign_record(o, board.chain_id, board.address, Kind.STATION_HASH, ballot_hash(body), 1) for o in OFFICERS
        ]
        items.append(StationItem(Kind.STATION_HASH, rows[n], inclusion_proof(levels, n), body, b"".join(signed)))
    writer, size = Writer(chain.web3, board.address, carrier), board.size()
    start = time.perf_counter()
    hashes = courier.carry(writer, items)
    results = courier.reveal(writer, documents)
    took = time.perf_counter() - start
    assert not hashes.refused and not results.refused, (hashes.refused or results.refused)[0][1]
    assert board.size() == size + 2 * stations, "not all records are in the log"

    calls = [
        b"".join(item.encode() for item in items[a:b]) for a, b in courier.batches([item.encode() for item in items])
    ]
    calls += [pack_bodies(documents[a:b]) for a, b in courier.batches(documents)]
    beside = _plain(Sender(chain.web3, plain), calls)
    gas, transactions = hashes.gas + results.gas, hashes.transactions + results.transactions
    return [
        row(f"{name}_s", took, f"s for {2 * stations:,} records in {transactions} transactions", "plain transactions, same bytes", beside),
        row(f"{name}_gas", gas, "gas in all", "gas of a transaction at most", MAX_GAS),
        row(f"{name}.records", 2 * stations / took, "records/s"),
    ]  # fmt: skip


class _board:
    """A board of `stations` stations whose counting has begun and whose embargo is over."""

    def __init__(self, chain: Chain, stations_root: bytes, stations: int) -> None:
        now = Board(chain.web3, bytes(20)).now()
        windows = Windows(now, now + DAY, now + DAY, 60, now, now, now + 2 * DAY, now + 2 * DAY)
        kinds = [(RoleKind.AUTHORITY, AUTHORITY), (RoleKind.REGISTRAR, REGISTRAR), (RoleKind.TRUSTEE, key("trustee"))]
        roles = [BoardRole(kind, address_bytes(account.address)) for kind, account in kinds]
        setup = Setup(windows, stations_root, stations, False, 0, 0)
        self.address = deploy(chain.web3, AUTHORITY, filler(2_000, "manifest"), roles, setup).address
        self.chain_id, self._board = chain.chain_id, Board(chain.web3, self.address)
        writer = Writer(chain.web3, self.address, AUTHORITY)
        writer.append(Kind.ROLL, filler(200, "roll"), [REGISTRAR])
        writer.append(Kind.OPEN, self._board.head().body(), [AUTHORITY])

    def size(self) -> int:
        return self._board.head().size


def _plain(sender: Sender, calls: Sequence[bytes]) -> float:
    nonce = sender.nonce()
    start = time.perf_counter()
    sent = [sender.broadcast(sender.sign(NO_CODE, data, 6_000_000, nonce + i).raw) for i, data in enumerate(calls)]
    for transaction in sent:
        sender.wait(transaction)
    return time.perf_counter() - start


# ---------------------------------------------------------------- scanning


def scan(count: int) -> list[dict[str, Any]]:
    contest = Contest("question", "Which?", Rule.ONE_OF_K, 0, tuple(f"Option {i}" for i in range(OPTIONS)))
    page = papers.layout([(0, contest)], ["Bench", "School 7", "Ward"])
    secret, election = papers.new_key(), bytes(32)
    with tempfile.TemporaryDirectory(prefix="ballotboard-scan-") as folder:
        files = []
        for n in range(count):
            paper = papers.new_paper(7, 0)
            image = specimen(page, paper.code(secret, election), {(0, n % OPTIONS)})
            if n % 4 == 3:
                image = image.rotate(2.5, fillcolor=255, expand=True)
            files.append(Path(folder) / f"{n:05}.png")
            image.save(files[-1])
        start = time.perf_counter()
        found = list(scanning.in_order(lambda path: scanning.read_picture(path, page, secret, election, 7), files))
        rate = count / (time.perf_counter() - start)
    read = [reading for _, (_, reading, _) in found if reading is not None and not reading.unclear]
    assert len(read) == count, f"{count - len(read)} of {count} papers were not read"
    assert [reading.marked for reading in read] == [frozenset({(0, n % OPTIONS)}) for n in range(count)]
    return [row("scan.ballots", rate, f"ballots/s, code, MAC and {OPTIONS} boxes", "to reach", 20)]


# ---------------------------------------------------------------- the journal


def journal(appends: int) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory(prefix="ballotboard-journal-", dir="build") as folder:
        with Journal.create(Path(folder) / "journal", "pass", cost=LIGHT) as opened:
            opened.append("init")
            rate = _rate(lambda n: opened.append("check-in", index=n), appends)
        handle = os.open(Path(folder) / "plain", os.O_WRONLY | os.O_CREAT)
        try:
            beside = _rate(lambda n: _synced(handle, n), appends)
        finally:
            os.close(handle)
    return [row("journal.appends", rate, "appends/s, each synced", "write of 256 bytes and fsync", beside)]


def _synced(handle: int, n: int) -> None:
    os.pwrite(handle, bytes(256), 256 * n)
    os.fsync(handle)


def _rate(act: Callable[[int], object], times: int) -> float:
    start = time.perf_counter()
    for n in range(times):
        act(n)
    return times / (time.perf_counter() - start)


def sync(entries: int) -> list[dict[str, Any]]:
    """A station that was without a network all day: its journal opens, and everything goes to the chain."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ballotboard-sync-")))
        chain = stack.enter_context(Anvil(block_time=0))
        accounts = {name: Account.create() for name in ("authority", "registrar", "trustee", "relayer", "ana", "ben")}
        chain.fund(account.address for account in accounts.values())
        now = Board(chain.web3, bytes(20)).now()
        address = {name: bytes.fromhex(account.address[2:]) for name, account in accounts.items()}
        kinds = [("authority", RoleKind.AUTHORITY), ("registrar", RoleKind.REGISTRAR), ("trustee", RoleKind.TRUSTEE)]
        roles = [Role(kind, name, address[name], b"") for name, kind in kinds]
        roles.append(Role(RoleKind.RELAYER, "relayer", address["relayer"], bytes(range(32))))
        times = {"open_not_before": 0, "close": 3600, "close_not_after": 3600, "count_not_before": 3600, "reveal_not_before": 3600,
                 "settle_not_before": 3700, "decrypt_not_before": 3700}  # fmt: skip
        windows = {name: datetime.fromtimestamp(now + seconds, UTC).isoformat() for name, seconds in times.items()}
        text = new_config(
            name="Sync", contests=[Contest("question", "Shall it be?", Rule.ONE_OF_K, 0, ("yes", "no"))],
            units=[Unit("town", "Town", -1, 0)], stations=[Station(0, 0, (address["ana"], address["ben"]), "School")], roles=roles,
            windows=windows | {"append_grace": "10s"}, trustees=1,
        )  # fmt: skip
        config = parse_config(text, now)
        published = authority.publish(chain.web3, chain.url, config, accounts["authority"], folder / "board.json")
        contract = published.connection.contract
        board = Board(chain.web3, contract)
        _record_roll(Writer(chain.web3, contract, accounts["registrar"]), accounts["registrar"], entries)
        Writer(chain.web3, contract, accounts["authority"]).append(
            Kind.OPEN, board.head().body(), [accounts["authority"]]
        )
        clock = [now]
        with actions.init(folder / "school", board, 0, "pass", published.connection, lambda: clock[0], LIGHT) as place:
            actions.open_station(place)
            actions.check_in(place, range(entries))
            actions.close_station(place)
            clock[0] = now + 3600
            votes = ContestCount(0, (entries, 0), 0, 0)
            actions.count(place, actions.Counted(entries, 0, 0, entries, (votes,)))
            for officer in ("ana", "ben"):
                actions.sign(place, accounts[officer])
        chain.advance_to(now + 3601)
        start = time.perf_counter()
        with actions.StationFolder.open(folder / "school", "pass") as place:
            opened = time.perf_counter() - start
            actions.sync(place, board, accounts["ana"])
            took = time.perf_counter() - start
            assert place.state.documents[0].revealed and all(batch.sent for batch in place.state.batches)
            start = time.perf_counter()
            assert "nothing to do" in actions.sync(place, board, accounts["ana"]).did
            again = time.perf_counter() - start
    return [
        row("sync.5000_s", took, f"s to open a journal of {entries:,} check-ins and send it all", "the same again: nothing to do", again),
        row("journal.open_5000_s", opened, "s of that to open it"),
    ]  # fmt: skip


def _record_roll(writer: Writer, registrar: LocalAccount, voters: int) -> None:
    """A roll of fresh keys in unit 0, published and recorded."""
    keys = sorted(base(random_scalar()) for _ in range(voters))
    roll = Roll(b"".join(roll_row(public, 0) for public in keys), [0])
    writer.attach(roll.data)
    named = roll.describe()
    units = unit_counts_hash(roll.unit_counts())
    writer.append(Kind.ROLL, RollRecord(named.count, bytes(32), named.root, named.sha256, units).body(), [registrar])
