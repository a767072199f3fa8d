"""Signed transactions from one account: made, sent, waited for. Each step can be taken alone.

A relayer stores a signed transaction's bytes before it sends them; everybody else calls `send`. One account is used by one process at
a time, and sends through one node: two would give one nonce to two transactions.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from eth_account.signers.local import LocalAccount
from eth_hash.auto import keccak
from web3 import Web3

from chain.contract import MAX_GAS, refusal
from chain.errors import ChainError, RpcError
from chain.rpc import Address, block, call, checksummed

TIP = 1
"""Priority fee in wei: the least that geth's pool takes. There is nobody to outbid on a permissioned chain."""

MIN_MAX_FEE = 10**9
"""Most wei per gas that a transaction offers where the base fee is 0, as it is on our chains: room for it to rise while the transaction waits."""

TRANSFER_GAS = 21_000
"""What a payment to a person's account takes."""

GAS_MARGIN = 1.2
GAS_ROOM = 150_000
"""An estimate times the margin, and this on top: others may append first, and then a record that was estimated to write one slot of the tree's
frontier walks up all of its 40 levels and writes two new ones (40 · 2,400 + 2 · 22,100). Unused gas costs nothing."""

WAIT = 60.0
"""Seconds to wait for a receipt: many times the slowest block of four validators with one of them down (4.5 s)."""

FIRST_POLL, LAST_POLL = 0.01, 0.25
"""Seconds between questions for a receipt, doubled from the first to the last: automine answers at once, others once a second."""


@dataclass(frozen=True, slots=True)
class SignedTransaction:
    """A transaction as it is sent, and its hash (32 bytes)."""

    raw: bytes
    hash: bytes


class Sender:
    """Transactions of one account on one node."""

    def __init__(self, web3: Web3, account: LocalAccount) -> None:
        self.web3, self.account = web3, account
        self.chain_id = int(call(web3, "eth_chainId"), 16)

    def nonce(self) -> int:
        """The account's next nonce, counting what waits in the node's pool."""
        return int(call(self.web3, "eth_getTransactionCount", self.account.address, "pending"), 16)

    def estimate(self, to: bytes | None, data: bytes) -> int:
        """A gas limit for this call now. Raises Refused if the board would refuse it, ChainError above MAX_GAS."""
        transaction = {"from": self.account.address, "data": "0x" + data.hex()}
        if to is not None:
            transaction["to"] = checksummed(to)
        try:
            gas = int(call(self.web3, "eth_estimateGas", transaction), 16)
        except RpcError as error:
            raise refusal(error) from error
        if gas > MAX_GAS:
            raise ChainError(f"this takes {gas} gas and a transaction may take {MAX_GAS}: send it in parts")
        return min(int(gas * GAS_MARGIN) + GAS_ROOM, MAX_GAS)

    def sign(self, to: bytes | None, data: bytes, gas: int, nonce: int) -> SignedTransaction:
        """An EIP-1559 transaction; `to` None creates a contract."""
        base_fee = int(block(self.web3, "latest")["baseFeePerGas"], 16)
        transaction: dict[str, Any] = {
            "type": 2, "chainId": self.chain_id, "nonce": nonce, "gas": gas, "value": 0, "data": data,
            "maxPriorityFeePerGas": TIP, "maxFeePerGas": max(MIN_MAX_FEE, 2 * base_fee + TIP),
        }  # fmt: skip
        if to is not None:
            transaction["to"] = to
        signed = self.account.sign_transaction(transaction)
        return SignedTransaction(bytes(signed.raw_transaction), bytes(signed.hash))

    def broadcast(self, raw: bytes) -> bytes:
        """Sends signed bytes; gives their hash. Sending what the node has already is no error. Raises RpcError, NodeUnreachable."""
        digest = keccak(raw)
        try:
            call(self.web3, "eth_sendRawTransaction", "0x" + raw.hex())
        except RpcError:
            # Nodes word "already known" and "nonce too low" differently: what counts is whether the node has it.
            if call(self.web3, "eth_getTransactionByHash", "0x" + digest.hex()) is None:
                raise
        return digest

    def receipt(self, transaction: bytes) -> dict[str, Any] | None:
        """The raw receipt once the transaction is in a block, else None. Raises Refused or ChainError if it reverted there."""
        receipt = call(self.web3, "eth_getTransactionReceipt", "0x" + transaction.hex())
        if receipt is None or receipt.get("blockNumber") is None:
            return None
        if int(receipt["status"], 16) != 1:
            raise self._why(transaction, receipt)
        return receipt

    def wait(self, transaction: bytes, timeout: float = WAIT) -> dict[str, Any]:
        """The receipt, waited for. Raises ChainError after `timeout` seconds."""
        end, pause = time.monotonic() + timeout, FIRST_POLL
        while (receipt := self.receipt(transaction)) is None:
            if time.monotonic() > end:
                raise ChainError(
                    f"transaction 0x{transaction.hex()} is in no block after {timeout:.0f} s; it may still land: look before sending again"
                )
            time.sleep(pause)
            pause = min(2 * pause, LAST_POLL)
        return receipt

    def send(self, to: bytes | None, data: bytes) -> dict[str, Any]:
        """Estimates, signs, sends and waits: the receipt of a transaction that succeeded."""
        gas = self.estimate(to, data)
        return self.wait(self.broadcast(self.sign(to, data, gas, self.nonce()).raw))

    def pay(self, accounts: Iterable[Address], wei: int) -> list[Address]:
        """Sends `wei` to each account that has less, and waits until they have it; gives those."""
        poor = [a for a in accounts if int(call(self.web3, "eth_getBalance", checksummed(a), "latest"), 16) < wei]
        nonce, sent = self.nonce() if poor else 0, []
        for offset, account in enumerate(poor):
            transfer: dict[str, Any] = {
                "type": 2, "chainId": self.chain_id, "nonce": nonce + offset, "to": checksummed(account), "value": wei,
                "gas": TRANSFER_GAS, "maxFeePerGas": MIN_MAX_FEE, "maxPriorityFeePerGas": TIP,
            }  # fmt: skip
            sent.append(self.broadcast(bytes(self.account.sign_transaction(transfer).raw_transaction)))
        for transaction in sent:
            self.wait(transaction)
        return poor

    def _why(self, transaction: bytes, receipt: dict[str, Any]) -> ChainError:
        """Why a transaction reverted: asked by running it again on top of its block."""
        found = call(self.web3, "eth_getTransactionByHash", "0x" + transaction.hex())
        try:
            replay = {name: found[name] for name in ("from", "to", "input") if found.get(name)}
            call(self.web3, "eth_call", replay, receipt["blockNumber"])
        except RpcError as error:
            if error.data:
                return refusal(error)
        out_of_gas = int(found["gas"], 16) == int(receipt["gasUsed"], 16)
        return ChainError(f"transaction 0x{transaction.hex()} reverted" + (": it ran out of gas" if out_of_gas else ""))
