"""The indexer on a real anvil: it takes in a whole election, goes on where it stopped, and stops at whatever does not fit."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from eth_account import Account
from fastapi.testclient import TestClient

from bulletin import indexer as indexer_module
from bulletin.app import create_app
from bulletin.indexer import Behind, Indexer
from bulletin.replica import Alarm
from bulletin.store import Store, StoreError
from chain.anvil import Anvil
from chain.console import Connection
from chain.contract import topic
from chain.errors import NodeUnreachable
from chain.rpc import call, connect
from protocol.errors import BallotboardError
from protocol.records import LogHead
from tests.bulletin.conftest import held_on
from tests.chain.hostile import lying
from tests.relayer.test_faults import until
from tests.tamper.builder import COUNTED_TOTALS, PAPER_TOTALS, STEPS
from tests.tamper.on_chain import START, ChainElection

pytestmark = pytest.mark.e2e


@pytest.fixture
def going() -> Iterator[ChainElection]:
    """One that is set up, for tests that go on with it."""
    with Anvil(block_time=0, timestamp=START) as anvil:
        yield held_on(anvil, "make_roll")


def open_store(folder: Path, name: str = "board") -> Store:
    return Store(f"sqlite:///{folder / name}.sqlite")


def export(store: Store) -> bytes:
    with store.read() as tx:
        return b"".join(tx.export())


def head_of(election: ChainElection) -> LogHead:
    return election.claims().head


def test_a_whole_election_is_read_from_the_node_and_its_result_is_recomputed(election, tmp_path):
    store = open_store(tmp_path)
    seen: list[tuple[int, int]] = []
    head = Indexer(store, election.web3, election.contract).step(lambda done, of: seen.append((done, of)))
    assert head == head_of(election) and seen[-1] == (head.size, head.size)
    with store.read() as tx:
        assert [(r.entry, r.body) for r in tx.records()] == [(r.entry, r.body) for r in election.records()]
        assert tx.fact("counted")["root"] == election.settled().counted.root().hex()
        assert tx.fact("result") == "" and tx.fact("certified") is True
        assert {name: tx.attachment(name) for name in tx.attachment_names()} == election.files
    web = TestClient(create_app(store, Connection(election.anvil.url, "0x" + election.contract.hex())))
    [question, *_] = web.get("/api/v1/result").json()["contests"]
    assert [[option["online"], option["paper"]] for option in question["options"]] == [
        list(pair) for pair in zip(COUNTED_TOTALS["question"], PAPER_TOTALS["question"], strict=True)
    ]


def test_a_database_that_is_rebuilt_in_other_steps_exports_the_same_bytes(election, tmp_path, monkeypatch):
    Indexer(one := open_store(tmp_path, "one"), election.web3, election.contract).step()
    monkeypatch.setattr(indexer_module, "COMMIT_RECORDS", 3)
    monkeypatch.setattr(indexer_module, "HEADERS_AT_ONCE", 2)
    Indexer(two := open_store(tmp_path, "two"), election.web3, election.contract).step()
    assert export(one) == export(two)
    one.reset()
    Indexer(one, election.web3, election.contract).step()
    assert export(one) == export(two)


def test_a_transaction_ends_for_the_size_of_its_bodies_too(election, tmp_path, monkeypatch):
    Indexer(one := open_store(tmp_path, "one"), election.web3, election.contract).step()
    monkeypatch.setattr(indexer_module, "COMMIT_BYTES", 500)
    seen: list[int] = []
    Indexer(two := open_store(tmp_path, "two"), election.web3, election.contract).step(
        lambda done, of: seen.append(done)
    )
    assert len(seen) > 5 and export(one) == export(two)


def test_it_stops_between_transactions_and_the_next_process_goes_on_there(election, tmp_path, monkeypatch):
    monkeypatch.setattr(indexer_module, "COMMIT_RECORDS", 3)
    stop = threading.Event()
    stop.set()
    sizes = []
    while not sizes or sizes[-1] < head_of(election).size:
        store = open_store(tmp_path)
        sizes.append(Indexer(store, election.web3, election.contract).step(stop=stop).size)
        store.close()
    assert len(sizes) > 5 and sizes == sorted(sizes)
    Indexer(whole := open_store(tmp_path, "whole"), election.web3, election.contract).step()
    assert export(open_store(tmp_path)) == export(whole)


def test_records_and_files_that_come_later_are_taken_in_at_the_next_look(going, tmp_path, monkeypatch):
    monkeypatch.setattr(indexer_module, "ATTACHMENT_POLL", 0)
    indexer = Indexer(open_store(tmp_path), going.web3, going.contract)
    assert indexer.step() == indexer.step() == head_of(going)
    for step in STEPS[STEPS.index("open_poll") :]:
        getattr(going, step)()
        assert indexer.step() == head_of(going)
    Indexer(whole := open_store(tmp_path, "whole"), going.web3, going.contract).step()
    assert export(indexer.replica.store) == export(whole)


def test_a_record_is_on_the_page_by_itself_soon_after_it_landed(going, tmp_path):
    store, stop = open_store(tmp_path), threading.Event()
    indexer = Indexer(store, connect(going.anvil.url), going.contract)
    web = TestClient(create_app(store, Connection(going.anvil.url, "0x" + going.contract.hex()), follows=True))
    answer = web.get("/readyz")
    assert answer.status_code == 503 and answer.json()["problem"] == "the log is still being read"
    thread = threading.Thread(target=indexer.run, args=(stop,))
    thread.start()
    try:
        until(lambda: web.get("/readyz").status_code == 200)
        going.open_poll()
        going.fill_ballots()
        going.append_ballots(1200, [going.cast["row 1"]])
        landed = time.monotonic()
        page = f"/ballots/{hashlib.sha256(going.cast['row 1']).hexdigest()}"
        while "its proofs and signature are right" not in web.get(page).text:
            assert time.monotonic() - landed < 10  # usually half a second; the machine may be busy
            time.sleep(0.05)
    finally:
        stop.set()
        thread.join()


# ---- what it refuses


def test_a_database_of_another_board_or_of_a_chain_that_began_anew_is_refused(going, tmp_path):
    Indexer(open_store(tmp_path), going.web3, going.contract).step()
    second = ChainElection(going.anvil)
    second.publish()
    assert second.contract != going.contract
    with pytest.raises(StoreError, match="this database holds the election"):
        Indexer(open_store(tmp_path), going.web3, second.contract)

    class Other(ChainElection):
        def manifest_value(self):
            return super().manifest_value() | {"name": "Another election"}

    with Anvil(block_time=0, timestamp=START) as anvil:
        other = Other(anvil)
        other.publish()
        assert other.contract == going.contract  # the same account's first contract
        with pytest.raises(StoreError, match="this database holds the election"):
            Indexer(open_store(tmp_path), other.web3, other.contract)


def test_a_contract_that_holds_another_election_than_the_connection_says_is_refused(election, tmp_path):
    Indexer(open_store(tmp_path), election.web3, election.contract, election.manifest.election_id)
    with pytest.raises(BallotboardError, match=r"holds the election .*, not 0000"):
        Indexer(open_store(tmp_path), election.web3, election.contract, bytes(32))


def test_an_address_without_a_board_is_refused(election, tmp_path):
    with pytest.raises(BallotboardError):
        Indexer(open_store(tmp_path), election.web3, Account.create().address)


def stopped(election: ChainElection, folder: Path, lie, match: str) -> None:
    """A node that tells this lie stops the board, which stays stopped when the node is honest again, until it is rebuilt."""
    store = open_store(folder)
    with lying(election.anvil.url, lie) as web3:
        indexer = Indexer(store, web3, election.contract)
        with pytest.raises(Alarm, match=match):
            indexer.step()
    web = TestClient(create_app(store, Connection(election.anvil.url, "0x" + election.contract.hex()), follows=True))
    assert web.get("/readyz").status_code == 503 and web.get("/api/v1/head").json()["size"] == 0
    again = Indexer(store, election.web3, election.contract)
    with pytest.raises(Alarm, match=match):
        again.step()
    store.reset()
    assert Indexer(store, election.web3, election.contract).step() == head_of(election)


def test_a_root_that_does_not_match_the_records_stops_the_board(election, tmp_path):
    """Logs and receipts say the same: only who rebuilds the tree notices."""
    ballots = topic("Ballots")

    def other_root(log):
        if log["topics"][0] != ballots:
            return log
        data = log["data"]
        return log | {"data": data[: 2 + 128] + "00" * 32 + data[2 + 192 :]}

    def lie(method, params, result):
        if method == "eth_getLogs":
            return [other_root(log) for log in result]
        if method == "eth_getBlockReceipts":
            return [receipt | {"logs": [other_root(log) for log in receipt["logs"]]} for receipt in result]
        return result

    stopped(election, tmp_path, lie, "the root emitted after position")


def test_a_left_out_event_stops_the_board(election, tmp_path):
    ballots = topic("Ballots")

    def lie(method, params, result):
        if method == "eth_getLogs":
            return [log for log in result if log["topics"][0] != ballots]
        if method == "eth_getBlockReceipts":
            return [r | {"logs": [log for log in r["logs"] if log["topics"][0] != ballots]} for r in result]
        return result

    stopped(election, tmp_path, lie, "position")


def test_a_chain_that_was_replaced_below_what_was_read_stops_the_board(going, tmp_path):
    indexer = Indexer(open_store(tmp_path), going.web3, going.contract)
    snapshot = call(going.web3, "evm_snapshot")
    going.open_poll()
    indexer.step()
    before = export(indexer.replica.store)
    call(going.web3, "evm_revert", snapshot)
    with pytest.raises(Behind, match="behind, or its chain was replaced"):
        indexer.step()
    call(going.web3, "anvil_mine", hex(3), hex(7))
    with pytest.raises(Alarm, match=r"was .* and is now"):
        indexer.step()
    assert export(indexer.replica.store) == before
    with pytest.raises(Alarm):
        Indexer(indexer.replica.store, going.web3, going.contract).step()


def test_a_node_that_is_away_is_trouble_and_no_alarm(tmp_path):
    with Anvil(block_time=0, timestamp=START) as anvil:
        election = held_on(anvil, "make_roll")
        store = open_store(tmp_path)
        indexer = Indexer(store, election.web3, election.contract)
        indexer.step()
    with pytest.raises(NodeUnreachable):
        indexer.step()
    stop = threading.Event()
    thread = threading.Thread(target=indexer.run, args=(stop,))
    thread.start()
    web = TestClient(create_app(store, Connection(anvil.url, "0x" + election.contract.hex()), follows=True))
    until(lambda: "no answer" in web.get("/readyz").json()["problem"])
    stop.set()
    thread.join()
    assert web.get("/readyz").status_code == 503 and indexer.replica.alarm == ""
    page = web.get("/").text
    assert "The chain does not answer at the moment" in page and "This board has stopped" not in page
