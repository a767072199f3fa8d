"""Evidence from a node: asked for here, believed nowhere. What is collected is verified by chain.evidence before anybody relies on it.

The header that signs for block h is the next one, so the newest block that can be proven is the last but one.
"""

from __future__ import annotations

import base64
import time
from calendar import timegm
from typing import Any

import rlp
from eth_hash.auto import keccak
from web3 import Web3

from chain import trie
from chain.comet import BlockId, Commit, Header, Signature, Time, ordered
from chain.errors import ChainError, RpcError
from chain.evidence import HEADER_FIELDS, Evidence, SetChange, Subject, storage_slots
from chain.network.changes import FORCE, changed_topic
from chain.network.genesis import VALIDATORS
from chain.network.node import comet_call
from chain.reader import Reader
from chain.rpc import Address, address_bytes, block, call, checksummed, readable_head, unhex
from protocol import merkle
from protocol.manifest import Validator

NEXT_HEADER = 10.0
"""Seconds to wait for the next header to be signed: ten blocks; a network that halts cannot prove its last block."""

POLL = 0.1
"""Seconds between questions for it."""

PAGE = 100
"""Validators in an answer of CometBFT: the most it gives."""

_INTEGERS = frozenset(
    {"difficulty", "number", "gasLimit", "gasUsed", "timestamp", "baseFeePerGas", "blobGasUsed", "excessBlobGas"}
)
_FOR_BLOCK = 2  # BLOCK_ID_FLAG_COMMIT; the others are absent or for nil


def head_evidence(web3: Web3, comet_url: str, contract: Address, at: int | None = None) -> Evidence:
    """Evidence of the log's head at the end of block `at`, by default the last block. Waits for the next header. Raises ChainError."""
    number = readable_head(web3) if at is None else at
    slots = ["0x" + slot.hex() for slot in storage_slots()]
    header, commit, execution, nodes = _common(web3, comet_url, contract, number, slots)
    return Evidence(header, commit, execution, nodes, None, _changes(web3, comet_url, number))


def record_evidence(web3: Web3, comet_url: str, contract: Address, position: int) -> Evidence:
    """Evidence of the record at `position`. Reads the log up to it, for the inclusion proof. Raises ChainError if there is none."""
    reader, leaves = Reader(web3, contract), []
    for batch in reader.batches():
        leaves += [record.entry.leaf() for record in batch.records]
        if batch.first <= position < batch.size:
            break
    else:
        raise ChainError(f"the log has {len(leaves)} records and none at position {position}")
    header, commit, execution, nodes = _common(web3, comet_url, contract, batch.block_number, [])
    receipts = _rpc(web3, "eth_getBlockReceipts", hex(batch.block_number))
    tree = trie.Tree({rlp.encode(index): _receipt(receipt) for index, receipt in enumerate(receipts)})
    index = next(i for i, receipt in enumerate(receipts) if unhex(receipt["transactionHash"]) == batch.transaction)
    board, first = address_bytes(contract), batch.first
    log = next(
        number
        for number, entry in enumerate(receipts[index]["logs"])
        if unhex(entry["address"]) == board and len(entry["topics"]) > 1 and int(entry["topics"][1], 16) == first
    )
    entry = batch.records[position - first].entry.encode()
    subject = Subject(index, log, position, entry, tuple(merkle.inclusion_proof(leaves, position)))
    proof = sorted({*nodes, *tree.proof(rlp.encode(index))})
    return Evidence(header, commit, execution, tuple(proof), subject, _changes(web3, comet_url, batch.block_number))


def _common(
    web3: Web3, comet_url: str, contract: Address, number: int, slots: list[str]
) -> tuple[Header, Commit, bytes, tuple[bytes, ...]]:
    """Signed header, EVM header, and the nodes of the account's proof and of these storage slots', distinct and ascending."""
    header, commit = _signed_header(comet_url, number + 1)
    execution = rlp.encode([_field(name, value) for name, value in _fields(block(web3, number))])
    if keccak(execution) != header.app_hash:
        raise ChainError(f"execution client and validator disagree about block {number}: ask those of one operator")
    proof = _rpc(web3, "eth_getProof", checksummed(contract), slots, hex(number))
    raw = [*proof["accountProof"], *(node for slot in proof["storageProof"] for node in slot["proof"])]
    return header, commit, execution, tuple(sorted({unhex(node) for node in raw}))


def _changes(web3: Web3, comet_url: str, number: int) -> tuple[SetChange, ...]:
    """The changes of the validator set that are in force in header `number` + 1: those made up to block `number` + 1 - FORCE."""
    last = number + 1 - FORCE
    if last < 0:
        return ()
    changed = {"address": checksummed(VALIDATORS), "topics": [changed_topic()]}
    logs = _rpc(web3, "eth_getLogs", changed | {"fromBlock": "0x0", "toBlock": hex(last)})
    changes = []
    for made in sorted(int(log["blockNumber"], 16) for log in logs):
        header, commit = _signed_header(comet_url, made + FORCE - 1)
        changes.append(SetChange(header, commit, tuple(ordered(validators_at(comet_url, made + FORCE)))))
    return tuple(changes)


def validators_at(comet_url: str, height: int) -> list[Validator]:
    """The set that signs at a height, as a node says. Raises ChainError."""
    found: list[Validator] = []
    while True:
        page = comet_call(
            comet_url, "validators", height=str(height), per_page=str(PAGE), page=str(len(found) // PAGE + 1)
        )
        for item in page["validators"]:
            key = base64.b64decode(item["pub_key"]["value"])
            found.append(Validator(key, int(item["voting_power"])))
        if len(found) >= int(page["total"]):
            return found


def _signed_header(comet_url: str, height: int) -> tuple[Header, Commit]:
    end = time.monotonic() + NEXT_HEADER
    while True:
        try:
            found = comet_call(comet_url, "commit", height=str(height))["signed_header"]
            return _header(found["header"]), _commit(found["commit"])
        except ChainError as error:
            if time.monotonic() > end:
                raise ChainError(
                    f"header {height}, which signs for block {height - 1}, is not there: {error}"
                ) from error
            time.sleep(POLL)


def _header(value: dict[str, Any]) -> Header:
    hashes = {
        name: bytes.fromhex(value[name])
        for name in (
            "last_commit_hash", "data_hash", "validators_hash", "next_validators_hash", "consensus_hash", "app_hash",
            "last_results_hash", "evidence_hash", "proposer_address",
        )
    }  # fmt: skip
    return Header(
        block_version=int(value["version"]["block"]),
        app_version=int(value["version"].get("app", 0)),
        chain_id=value["chain_id"],
        height=int(value["height"]),
        time=_time(value["time"]),
        last_block_id=_block_id(value["last_block_id"]),
        **hashes,
    )


def _commit(value: dict[str, Any]) -> Commit:
    signatures = [
        Signature(number, _time(vote["timestamp"]), base64.b64decode(vote["signature"]))
        for number, vote in enumerate(value["signatures"])
        if vote["block_id_flag"] == _FOR_BLOCK
    ]
    return Commit(int(value["round"]), _block_id(value["block_id"]), tuple(signatures))


def _block_id(value: dict[str, Any]) -> BlockId:
    return BlockId(bytes.fromhex(value["hash"]), int(value["parts"]["total"]), bytes.fromhex(value["parts"]["hash"]))


def _time(text: str) -> Time:
    """RFC 3339 in UTC, with up to nine decimals."""
    whole, _, fraction = text.removesuffix("Z").partition(".")
    return Time(timegm(time.strptime(whole, "%Y-%m-%dT%H:%M:%S")), int(fraction.ljust(9, "0")))


def _fields(found: dict[str, Any]) -> list[tuple[str, str]]:
    return [(name, found[name]) for name in HEADER_FIELDS]


def _field(name: str, value: str) -> bytes:
    return _integer(value) if name in _INTEGERS else unhex(value)


def _receipt(receipt: dict[str, Any]) -> bytes:
    """A receipt as it stands in the tree: EIP-2718."""
    logs = [[unhex(x["address"]), [unhex(t) for t in x["topics"]], unhex(x["data"])] for x in receipt["logs"]]
    fields = [_integer(receipt["status"]), _integer(receipt["cumulativeGasUsed"]), unhex(receipt["logsBloom"]), logs]
    kind = int(receipt["type"], 16)
    return (bytes([kind]) if kind else b"") + rlp.encode(fields)


def _integer(value: str) -> bytes:
    number = int(value, 16)
    return number.to_bytes((number.bit_length() + 7) // 8, "big")


def _rpc(web3: Web3, method: str, *parameters: Any) -> Any:
    try:
        return call(web3, method, *parameters)
    except RpcError as error:
        raise ChainError(
            f"the node cannot prove this block (it must keep all states, `--gcmode archive`): {error}"
        ) from error
