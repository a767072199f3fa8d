"""How fast a board on anvil takes ballots and hashes, beside transactions of the same bytes to an account without code.

Both kinds are signed beforehand and sent over one connection, in turn, in the same run; the clock stops at the last receipt.
anvil records a trace of every call, also of those to the SHA-256 precompile (three a ballot, two a hash): that, not the
hashing, is most of what the board costs here, and an engine without a tracer does not pay it.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

from chain.anvil import Anvil
from chain.contract import MAX_PACKED, encode
from chain.rpc import call
from protocol.records import pack_bodies
from scripts.bench import row
from scripts.gas import RELAYER, Town, filler, key

BALLOT = 349
"""Bytes of a yes/no ballot."""

TRANSACTIONS, ROUNDS = 60, 5
"""Transactions of 96 KiB sent in one go, 6 MB; and how often. The median of the rounds is the figure."""

GAS = 4_500_000
"""For either kind: 96 KiB at 40 gas a byte (EIP-7623) is 3.95 million."""

PLAIN = key("plain")
NO_CODE = b"\x99" * 20


def run(quick: bool) -> list[dict[str, Any]]:
    transactions, rounds = (6, 1) if quick else (TRANSACTIONS, ROUNDS)
    ballots, ballots_plain = measure(False, transactions, rounds)
    leaves, leaves_plain = measure(True, transactions, rounds)
    return [
        row("append.ballots", ballots, "ballots/s", "plain transactions, same bytes", ballots_plain),
        row("append.leaves", leaves, "leaves/s", "plain transactions, same bytes", leaves_plain),
        row("append.share_of_engine", ballots / ballots_plain, "of the engine's rate for the bytes of ballots"),
    ]


def measure(hash_mode: bool, transactions: int, rounds: int) -> tuple[float, float]:
    """Entries a second into a board, and of as many bytes into nothing: medians."""
    with Anvil(block_time=0) as chain:
        chain.fund([PLAIN.address])
        town = Town(chain, hash_mode=hash_mode)
        town.open()
        function = "appendBallotHashes" if hash_mode else "appendBallots"
        count = MAX_PACKED // (32 if hash_mode else BALLOT + 2)
        rates: dict[bytes, list[float]] = {town.board.address: [], NO_CODE: []}
        for number in range(rounds):
            inputs = [
                encode(function, number * transactions + i, payload(hash_mode, count, f"{number} {i}"))
                for i in range(transactions)
            ]
            for to, account in ((town.board.address, RELAYER), (NO_CODE, PLAIN)):
                nonce = int(call(chain.web3, "eth_getTransactionCount", account.address, "latest"), 16)
                signed = [
                    bytes(
                        account.sign_transaction(
                            {
                                "to": to,
                                "data": data,
                                "nonce": nonce + i,
                                "gas": GAS,
                                "gasPrice": 10**9,
                                "chainId": chain.chain_id,
                            }
                        ).raw_transaction
                    )
                    for i, data in enumerate(inputs)
                ]
                rates[to].append(count * transactions / seconds(chain, signed))
        size = town.board.head().size
        assert size == 3 + count * transactions * rounds, f"the log has {size} entries"
        return statistics.median(rates[town.board.address]), statistics.median(rates[NO_CODE])


def payload(hash_mode: bool, count: int, seed: str) -> bytes:
    data = filler(count * (32 if hash_mode else BALLOT), seed)
    return data if hash_mode else pack_bodies(data[i : i + BALLOT] for i in range(0, len(data), BALLOT))


def seconds(chain: Anvil, signed: list[bytes]) -> float:
    """From the first transaction sent to the receipt of the last."""
    raw = ["0x" + transaction.hex() for transaction in signed]
    start = time.perf_counter()
    for transaction in raw:
        last = call(chain.web3, "eth_sendRawTransaction", transaction)
    while (receipt := call(chain.web3, "eth_getTransactionReceipt", last)) is None:
        time.sleep(0.002)
    elapsed = time.perf_counter() - start
    assert receipt["status"] == "0x1", "the last transaction reverted"
    return elapsed
