"""Four validators with their geths on this machine, the client beside them: how soon an append is final, how much gets through.

Sustained load: four relayers, each through its own node, send full transactions signed beforehand; the clock runs from the first send to
the decided block that holds the last. The same transactions on anvil, in the same run, are the baseline: one process without consensus.
"""

from __future__ import annotations

import itertools
import os
import random
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

from eth_account.signers.local import LocalAccount
from web3 import Web3

from chain.anvil import Anvil
from chain.board import BoardRole
from chain.contract import MAX_PACKED, artifact, encode
from chain.deploy import Setup, deploy
from chain.evidence import verify_for
from chain.network.collect import head_evidence
from chain.network.local import LocalNetwork
from chain.rpc import address_bytes, block, call, connect
from chain.transactions import MIN_MAX_FEE, TIP, Sender
from chain.writer import Writer
from protocol.manifest import RoleKind, Windows
from protocol.merkle import EMPTY_ROOT
from protocol.records import Kind, pack_bodies
from scripts.bench import row
from scripts.gas import AUTHORITY, REGISTRAR, filler, key

BALLOT = 349
"""Bytes of a yes/no ballot."""

CHAIN_ID = 77_100
VALIDATORS, RELAYERS = 4, 4

TRANSACTIONS = 160
"""Full transactions of the sustained load: 15 MB, two blocks of 8 MiB; with hashes a quarter of them."""

SAMPLES = 30
"""Single appends whose finality is timed, at random moments of the block interval."""

LOAD = 1_000
"""Ballots a second under which finality is timed again."""

GAS = 5_500_000
"""Of a transaction of 96 KiB: 3.95 million by EIP-7623, or what 3,000 leaves cost."""

RELAYER_KEYS = [key(f"relayer {number}") for number in range(RELAYERS)]
DAY = 86_400

Chain = Anvil | LocalNetwork


def run(quick: bool) -> list[dict[str, Any]]:
    transactions, samples = (16, 5) if quick else (TRANSACTIONS, SAMPLES)
    with Anvil(block_time=1, chain_id=CHAIN_ID) as anvil:
        base_ballots, _ = sustained(anvil, [anvil.url], False, transactions)
        base_leaves, _ = sustained(anvil, [anvil.url], True, transactions // 4)
    with tempfile.TemporaryDirectory() as folder, LocalNetwork(Path(folder), VALIDATORS, chain_id=CHAIN_ID) as network:
        urls = [node.url for node in network.nodes]
        interval = idle_interval(network.web3, samples)
        finality, evidence, size, verification = appends(network, samples)
        loaded, _, _, _ = appends(network, samples, LOAD)
        ballots, cores = sustained(network, urls, False, transactions)
        leaves, _ = sustained(network, urls, True, transactions // 4)
        resident = memory(network) / VALIDATORS
    return [
        row("block_interval_s", interval, "s, idle"),
        row("finality_s", statistics.median(finality), "s, p50"),
        row("finality_p95_s", sorted(finality)[int(0.95 * len(finality))], "s"),
        row("finality_loaded_s", statistics.median(loaded), f"s, p50, beside {LOAD:,} ballots/s"),
        row("evidence_s", statistics.median(evidence), "s, p50, after finality"),
        row("append.ballots", ballots, "ballots/s", "anvil, same transactions", base_ballots),
        row("append.leaves", leaves, "leaves/s", "anvil, same transactions", base_leaves),
        row("append.mb", ballots * (BALLOT + 2) / 1e6, "MB/s of ballots"),
        row("cpu_under_load", cores / VALIDATORS, "cores a validator with its geth"),
        row("memory_mb", resident, "MB a validator with its geth"),
        row("evidence_bytes", size, "bytes"),
        row("evidence_ms", verification, "ms to verify"),
    ]


def board(chain: Chain, hash_mode: bool) -> Writer:
    """An open poll whose relayers have gas money; the writer is the first relayer's."""
    chain.fund([account.address for account in (AUTHORITY, *RELAYER_KEYS)])
    now = int(block(chain.web3, "latest")["timestamp"], 16)
    windows = Windows(now, now + DAY, now + DAY, 60, now, now, now + 2 * DAY, now + 2 * DAY)
    kinds = [(RoleKind.AUTHORITY, AUTHORITY), (RoleKind.REGISTRAR, REGISTRAR), (RoleKind.TRUSTEE, key("trustee"))]
    kinds += [(RoleKind.RELAYER, k) for k in RELAYER_KEYS] + [(RoleKind.DATA_HOLDER, key("holder 0"))]
    roles = [BoardRole(kind, address_bytes(k.address)) for kind, k in kinds]
    setup = Setup(windows, EMPTY_ROOT, 0, hash_mode, 0, int(hash_mode))
    made = deploy(chain.web3, AUTHORITY, filler(2_000, "manifest"), roles, setup)
    writer = Writer(chain.web3, made.address, AUTHORITY)
    writer.append(Kind.ROLL, filler(200, "roll"), [REGISTRAR])
    writer.append(Kind.OPEN, writer.board.head().body(), [AUTHORITY])
    return Writer(chain.web3, made.address, RELAYER_KEYS[0])


def sustained(chain: Chain, urls: list[str], hash_mode: bool, transactions: int) -> tuple[float, float]:
    """Entries a second from the first send to the block that holds the last, and the cores that a network's nodes used meanwhile."""
    writer = board(chain, hash_mode)
    count = MAX_PACKED // (32 if hash_mode else BALLOT + 2)
    work = []
    for number, account in enumerate(RELAYER_KEYS):
        nonce = int(call(chain.web3, "eth_getTransactionCount", account.address, "latest"), 16)
        inputs = [call_data(hash_mode, count, f"{number} {i}", i) for i in range(transactions // RELAYERS)]
        signed = [sign(account, writer.board.address, data, nonce + i) for i, data in enumerate(inputs)]
        work.append((connect(urls[number % len(urls)]), signed))
    entries = count * (transactions // RELAYERS) * RELAYERS
    before, start = cpu(chain), time.monotonic()
    with ThreadPoolExecutor(RELAYERS) as pool:
        list(pool.map(lambda job: [call(job[0], "eth_sendRawTransaction", raw) for raw in job[1]], work))
    while writer.board.head().size < 3 + entries:
        assert time.monotonic() - start < 600, f"{writer.board.head().size} of {entries} entries after ten minutes"
        time.sleep(0.05)
    elapsed = time.monotonic() - start
    return entries / elapsed, (cpu(chain) - before) / elapsed


def call_data(hash_mode: bool, count: int, seed: str, sequence: int) -> bytes:
    if hash_mode:
        return encode("appendBallotHashes", sequence, filler(32 * count, seed))
    bodies = filler(BALLOT * count, seed)
    return encode("appendBallots", sequence, pack_bodies([bodies[i * BALLOT : (i + 1) * BALLOT] for i in range(count)]))


def sign(account: LocalAccount, to: bytes, data: bytes, nonce: int) -> str:
    transaction: dict[str, Any] = {
        "type": 2, "chainId": CHAIN_ID, "nonce": nonce, "to": to, "value": 0, "data": data, "gas": GAS,
        "maxFeePerGas": MIN_MAX_FEE, "maxPriorityFeePerGas": TIP,
    }  # fmt: skip
    return "0x" + bytes(account.sign_transaction(transaction).raw_transaction).hex()


def appends(network: LocalNetwork, samples: int, load: int = 0) -> tuple[list[float], list[float], int, float]:
    """Of single appends: seconds from sending to the receipt, from there to verified evidence; size and milliseconds of the last.

    With `load`, another relayer appends so many ballots a second meanwhile, through another node.
    """
    writer = board(network, False)
    with ThreadPoolExecutor(1) as pool:
        ended = Event()
        loading = pool.submit(steady, network, writer.board.address, load, ended) if load else None
        try:
            return _appends(network, writer, samples)
        finally:
            ended.set()
            if loading:
                loading.result()


def steady(network: LocalNetwork, contract: bytes, load: int, ended: Event) -> None:
    """Full transactions of one relayer at a steady rate, each signed when its time has come."""
    node, account = network.nodes[1].web3(), RELAYER_KEYS[1]
    count, start = MAX_PACKED // (BALLOT + 2), time.monotonic()
    nonce = int(call(network.web3, "eth_getTransactionCount", account.address, "latest"), 16)
    for number in itertools.count():
        if ended.wait(max(0.0, start + number * count / load - time.monotonic())):
            return
        data = call_data(False, count, f"load {number}", number)
        call(node, "eth_sendRawTransaction", sign(account, contract, data, nonce + number))


def _appends(network: LocalNetwork, writer: Writer, samples: int) -> tuple[list[float], list[float], int, float]:
    sender = Sender(network.web3, RELAYER_KEYS[0])
    validators, contract = network.network.manifest_validators(), writer.board.address
    finality, evidence = [], []
    for number in range(samples):
        signed = writer.prepare_ballots(number, [filler(BALLOT, f"single {number}")], sender.nonce())
        time.sleep(random.random())
        start = time.monotonic()
        writer.broadcast(signed.raw)
        while (landed := writer.receipt(signed.hash)) is None:
            time.sleep(0.02)
        finality.append(time.monotonic() - start)
        body = head_evidence(network.web3, network.comet_url, contract, landed.block).body()
        evidence.append(time.monotonic() - start - finality[-1])
    begin = time.perf_counter()
    for _ in range(50):
        verify_for(body, CHAIN_ID, validators, contract, artifact().code_hash)
    return finality, evidence, len(body), (time.perf_counter() - begin) / 50 * 1000


def idle_interval(web3: Web3, blocks: int) -> float:
    first, start = int(call(web3, "eth_blockNumber"), 16), time.monotonic()
    while int(call(web3, "eth_blockNumber"), 16) < first + blocks:
        time.sleep(0.01)
    return (time.monotonic() - start) / blocks


def _pids(network: LocalNetwork) -> list[int]:
    return [process.pid for node in network.nodes for process in node.processes.values() if process]


def cpu(chain: Chain) -> float:
    """Seconds of processor that all nodes of a network have used."""
    if isinstance(chain, Anvil):
        return 0.0
    stats = [Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split() for pid in _pids(chain)]
    return sum(int(fields[11]) + int(fields[12]) for fields in stats) / os.sysconf("SC_CLK_TCK")


def memory(network: LocalNetwork) -> float:
    """Resident megabytes of all nodes."""
    pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in _pids(network))
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
