"""Evidence that the validators of a CometBFT network decided a board's head, or one of its records: one file, verified offline.

It is a chain of six steps, each checked by the function that is named:

1. more than 2/3 of the power of the validators signed CometBFT header h + 1 (chain.comet.check_commit). They are the manifest's, as long as
   their set has not changed; each change is a header that names the next set, and that more than 2/3 of the set before signed (`_signed`);
2. its app hash is keccak-256 of EVM header h (`_execution_header`);
3. under that header's state root lies the board's account, and its code is the manifest's (`_account`);
4. *head*: under the account's storage root lie size and root of the log (`_head`), or
5. *record*: under the header's receipts root lies an event of the board with size and root of the log after it (`_event`), and
6. the record's entry is in the tree of that size and root (`_record`).

Nothing of it needs a node or trusts one, and nothing is read that one of these hashes does not cover. What it rests on: the manifest, that
no more than a third of the power of any of these sets lies, and Ed25519, SHA-256 and keccak-256.

The file is canonical JSON (RFC 8785; hashes, keys and bytes in hex):

    {"format": "ballotboard/evidence/v2", "engine": "cometbft",
     "changes": [{"header", "commit": as below, "validators": the set after it, [{"key", "power"}, …] in CometBFT's order}, …],
     "header": {… the 14 fields of a CometBFT header …}, "commit": {"round", "block_id", "signatures": [{"validator", "time", "signature"}, …]},
     "execution": RLP of the EVM header, "nodes": [tree nodes of all proofs, each once, by ascending bytes],
     "subject": {"type": "head"}
              | {"type": "record", "transaction": index in the block, "log": index in its receipt,
                 "position": in the log, "entry": 40 bytes, "inclusion": [32 bytes, …]}}

The first validator set is not in the file, since it is the manifest's. anvil has no consensus, so there is no evidence of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import rlp
from eth_hash.auto import keccak
from rlp.exceptions import RLPException

from chain import trie
from chain.comet import BlockId, Commit, Header, Signature, Time, chain_name, check_commit, ordered, validators_hash
from chain.contract import artifact, topic, word
from chain.errors import BadEvidence, ChainError
from protocol import merkle
from protocol.encoding import canonical_json, members, parse_json
from protocol.errors import Malformed
from protocol.manifest import Manifest, Validator, unhex
from protocol.records import Entry, LogHead

FORMAT = "ballotboard/evidence/v2"

HEADER_FIELDS = (
    "parentHash", "sha3Uncles", "miner", "stateRoot", "transactionsRoot", "receiptsRoot", "logsBloom", "difficulty", "number", "gasLimit",
    "gasUsed", "timestamp", "extraData", "mixHash", "nonce", "baseFeePerGas", "withdrawalsRoot", "blobGasUsed", "excessBlobGas",
    "parentBeaconBlockRoot", "requestsHash",
)  # fmt: skip
"""An EVM header of the Prague and Osaka rules, in RLP order, as JSON-RPC names the fields."""

_HASHES = (
    "last_commit_hash", "data_hash", "validators_hash", "next_validators_hash", "consensus_hash", "app_hash",
    "last_results_hash", "evidence_hash",
)  # fmt: skip
_MAX_NANOS = 10**9 - 1


@dataclass(frozen=True)
class Subject:
    """What is proven of a record: the places of its event, its position and entry, and its inclusion proof in the log after that event."""

    transaction: int
    log: int
    position: int
    entry: bytes
    inclusion: tuple[bytes, ...]


@dataclass(frozen=True)
class SetChange:
    """A header whose next validator set is another, who signed it, and that set."""

    header: Header
    commit: Commit
    validators: tuple[Validator, ...]


@dataclass(frozen=True)
class Evidence:
    """A parsed evidence file; nothing in it is verified. `record` is None where the subject is the head."""

    header: Header
    commit: Commit
    execution: bytes
    nodes: tuple[bytes, ...]
    record: Subject | None
    changes: tuple[SetChange, ...] = ()

    def body(self) -> bytes:
        """The file's bytes."""
        subject: dict[str, Any] = {"type": "head"}
        if self.record:
            subject = vars(self.record) | {
                "type": "record",
                "entry": self.record.entry.hex(),
                "inclusion": [node.hex() for node in self.record.inclusion],
            }
        return canonical_json(
            {
                "format": FORMAT,
                "engine": "cometbft",
                "changes": [
                    {
                        "header": _header_value(change.header),
                        "commit": _commit_value(change.commit),
                        "validators": [{"key": v.key.hex(), "power": v.power} for v in change.validators],
                    }
                    for change in self.changes
                ],
                "header": _header_value(self.header),
                "commit": _commit_value(self.commit),
                "execution": self.execution.hex(),
                "nodes": [node.hex() for node in self.nodes],
                "subject": subject,
            }
        )

    @staticmethod
    def parse(data: bytes) -> Evidence:
        """Evidence from a file's bytes; raises Malformed naming the member that is wrong."""
        value = members(
            parse_json(data, "evidence"),
            "evidence",
            format=str, engine=str, changes=list, header=dict, commit=dict, execution=str, nodes=list, subject=dict,
        )  # fmt: skip
        if value["format"] != FORMAT:
            raise Malformed("evidence.format", f"expected {FORMAT}")
        if value["engine"] != "cometbft":
            raise Malformed("evidence.engine", "must be cometbft")
        nodes = tuple(_hex(node, f"evidence.nodes[{i}]") for i, node in enumerate(value["nodes"]))
        if list(nodes) != sorted(set(nodes)):
            raise Malformed("evidence.nodes", "must be distinct and ascending")
        return Evidence(
            changes=tuple(_change(item, f"evidence.changes[{i}]") for i, item in enumerate(value["changes"])),
            header=_header(value["header"]),
            commit=_commit(value["commit"]),
            execution=_hex(value["execution"], "evidence.execution"),
            nodes=nodes,
            record=_subject(value["subject"]),
        )


@dataclass(frozen=True)
class Proven:
    """What evidence proves: at the end of EVM block `block` with `block_hash`, of time `time`, the log had `head`; or, where the subject is a
    record, `head` was the log's after the event of that block with which `entry` came to stand at `position`."""

    block: int
    block_hash: bytes
    time: int
    head: LogHead
    signed_power: int
    total_power: int
    position: int | None = None
    entry: Entry | None = None


def verify(data: bytes, manifest: Manifest, contract: bytes) -> Proven:
    """What an evidence file proves of the board at `contract` (20 bytes) under its manifest.

    Raises Malformed for what is no evidence file, BadEvidence for one that does not prove it, ChainError where the engine has none.
    """
    if manifest.engine != "cometbft":
        raise ChainError(f"{manifest.engine} has no consensus, so there is no evidence to verify")
    return verify_for(data, manifest.chain_id, manifest.validators, contract, manifest.code_hash)


def verify_for(
    data: bytes, chain_id: int, validators: Sequence[Validator], contract: bytes, code_hash: bytes
) -> Proven:
    """The same for a chain id, first validator set and code hash that the caller vouches for."""
    evidence = Evidence.parse(data)
    signed, total = _signed(evidence, chain_name(chain_id), validators)  # 1
    execution = _execution_header(evidence.execution, evidence.header)  # 2
    nodes = trie.Nodes(evidence.nodes)
    storage = _account(execution["stateRoot"], contract, code_hash, nodes)  # 3
    position = entry = None
    if evidence.record is None:
        head = _head(storage, nodes)  # 4
    else:
        first, head = _event(execution["receiptsRoot"], contract, evidence.record, nodes)  # 5
        position, entry = evidence.record.position, _record(evidence.record, first, head)  # 6
    if len(nodes.used) != len(nodes):
        raise BadEvidence("the evidence holds tree nodes that nothing needs")
    return Proven(
        block=_number(execution["number"]),
        block_hash=evidence.header.app_hash,
        time=_number(execution["timestamp"]),
        head=head,
        signed_power=signed,
        total_power=total,
        position=position,
        entry=entry,
    )


def storage_slots() -> tuple[bytes, bytes]:
    """The keys (32 bytes) of the storage slots that hold the log's root and, among others, its size."""
    places = artifact().storage
    return places["_root"][0].to_bytes(32, "big"), places["_size"][0].to_bytes(32, "big")


# ---------------------------------------------------------------- the steps


def _signed(evidence: Evidence, chain: str, validators: Sequence[Validator]) -> tuple[int, int]:
    """1. Power that signed the header, and all power, of the set to which the recorded changes lead from `validators`."""
    height = 0
    for number, change in enumerate(evidence.changes):
        try:
            check_commit(change.header, change.commit, chain, validators)
        except BadEvidence as error:
            raise BadEvidence(f"change {number} of the validator set: {error}") from error
        if change.header.height <= height:
            raise BadEvidence(f"change {number} of the validator set does not come after the one before")
        if change.header.next_validators_hash != validators_hash(change.validators):
            raise BadEvidence(f"change {number} of the validator set: its header names another next set")
        if change.header.next_validators_hash == change.header.validators_hash:
            raise BadEvidence(f"change {number} of the validator set changes nothing")
        height, validators = change.header.height, change.validators
    if evidence.header.height <= height:
        raise BadEvidence("the header does not come after the last change of the validator set")
    return check_commit(evidence.header, evidence.commit, chain, validators)


def _execution_header(raw: bytes, header: Header) -> dict[str, bytes]:
    """2. The EVM header whose hash the CometBFT header carries, by field."""
    if keccak(raw) != header.app_hash:
        raise BadEvidence("the EVM header is not the one whose hash the validators signed")
    fields = _list(raw, len(HEADER_FIELDS), "the EVM header")
    found = dict(zip(HEADER_FIELDS, fields, strict=True))
    if _number(found["number"]) != header.height - 1:
        raise BadEvidence("the EVM header's number is not one below the signed height")
    return found


def _account(state_root: bytes, contract: bytes, code_hash: bytes, nodes: trie.Nodes) -> bytes:
    """3. The storage root of the board's account, whose code has this hash."""
    raw = trie.get(state_root, keccak(contract), nodes)
    if raw is None:
        raise BadEvidence(f"there is no contract at 0x{contract.hex()} in this block")
    _, _, storage_root, code = _list(raw, 4, "the account")
    if code != code_hash:
        raise BadEvidence("the contract's code is not the one whose hash the manifest names")
    return storage_root


def _head(storage_root: bytes, nodes: trie.Nodes) -> LogHead:
    """4. Size and root of the log, from two storage slots."""
    root, size = (_slot(storage_root, key, nodes) for key in storage_slots())
    offset = artifact().storage["_size"][1]
    return LogHead(size >> 8 * offset & 2**64 - 1, root.to_bytes(32, "big"))


def _event(receipts_root: bytes, contract: bytes, record: Subject, nodes: trie.Nodes) -> tuple[int, LogHead]:
    """5. First position of an event of the board, and the log's head after it."""
    raw = trie.get(receipts_root, rlp.encode(record.transaction), nodes)
    if raw is None:
        raise BadEvidence(f"the block has no transaction {record.transaction}")
    # EIP-2718: receipts of a type other than 0 begin with the type, below 0x80, and a list never does
    receipt = _list(raw[1:] if raw[0] < 0x80 else raw, 4, "the receipt")
    if not isinstance(receipt[3], list) or record.log >= len(receipt[3]):
        raise BadEvidence(f"the transaction has no log {record.log}")
    emitter, topics, values = receipt[3][record.log]
    name = "0x" + topics[0].hex() if topics else ""
    if emitter != contract or name not in (topic("Record"), topic("Ballots")):
        raise BadEvidence("the log is not one of this board that adds to the record")
    first = _number(topics[1])
    count, root = (1, values[32:64]) if name == topic("Record") else (word(values, 1), values[64:96])
    return first, LogHead(first + count, root)


def _record(record: Subject, first: int, head: LogHead) -> Entry:
    """6. The entry at a position that the event has added."""
    if not first <= record.position < head.size:
        raise BadEvidence(f"the event adds positions {first} to {head.size - 1}, not {record.position}")
    if not merkle.verify_inclusion(
        merkle.leaf_hash(record.entry), record.position, head.size, record.inclusion, head.root
    ):
        raise BadEvidence(f"the entry is not at position {record.position} of the log that was decided")
    return Entry.parse(record.entry)


def _slot(storage_root: bytes, key: bytes, nodes: trie.Nodes) -> int:
    raw = trie.get(storage_root, keccak(key), nodes)
    if raw is None:
        return 0  # the EVM does not store zeros
    return _number(_decoded(raw, "a storage slot"))


def _list(raw: bytes, length: int, what: str) -> list[Any]:
    value = _decoded(raw, what)
    if not isinstance(value, list) or len(value) != length:
        raise BadEvidence(f"{what} is not a list of {length}")
    return value


def _decoded(raw: bytes, what: str) -> Any:
    try:
        return rlp.decode(raw)
    except RLPException as error:
        raise BadEvidence(f"{what} is not RLP") from error


def _number(data: bytes) -> int:
    return int.from_bytes(data, "big")


# ---------------------------------------------------------------- the file


def _change(value: Any, field: str) -> SetChange:
    members(value, field, header=dict, commit=dict, validators=list)
    validators = []
    for number, item in enumerate(value["validators"]):
        where = f"{field}.validators[{number}]"
        members(item, where, key=str, power=int)
        if item["power"] < 1:
            raise Malformed(f"{where}.power", "must be positive")
        validators.append(Validator(unhex(item["key"], 32, f"{where}.key"), item["power"]))
    if validators != ordered(validators):
        raise Malformed(f"{field}.validators", "must be in CometBFT's order: most power first, then by address")
    return SetChange(
        _header(value["header"], f"{field}.header"), _commit(value["commit"], f"{field}.commit"), tuple(validators)
    )


def _header_value(header: Header) -> dict[str, Any]:
    value: dict[str, Any] = vars(header) | {
        "time": _time_value(header.time),
        "last_block_id": _block_id_value(header.last_block_id),
        "proposer_address": header.proposer_address.hex(),
    }
    return value | {name: getattr(header, name).hex() for name in _HASHES}


def _commit_value(commit: Commit) -> dict[str, Any]:
    signatures = [
        {"validator": s.validator, "time": _time_value(s.time), "signature": s.signature.hex()}
        for s in commit.signatures
    ]
    return {"round": commit.round, "block_id": _block_id_value(commit.block_id), "signatures": signatures}


def _header(value: dict[str, Any], field: str = "evidence.header") -> Header:
    members(
        value, field, block_version=int, app_version=int, chain_id=str, height=int, time=dict, last_block_id=dict,
        proposer_address=str, **dict.fromkeys(_HASHES, str),
    )  # fmt: skip
    _natural(value, field, "block_version", "app_version", "height")
    return Header(
        block_version=value["block_version"],
        app_version=value["app_version"],
        chain_id=value["chain_id"],
        height=value["height"],
        time=_time(value["time"], f"{field}.time"),
        last_block_id=_block_id(value["last_block_id"], f"{field}.last_block_id"),
        proposer_address=unhex(value["proposer_address"], 20, f"{field}.proposer_address"),
        **{name: _hex(value[name], f"{field}.{name}") for name in _HASHES},
    )


def _commit(value: dict[str, Any], field: str = "evidence.commit") -> Commit:
    members(value, field, round=int, block_id=dict, signatures=list)
    _natural(value, field, "round")
    signatures = []
    for number, item in enumerate(value["signatures"]):
        where = f"{field}.signatures[{number}]"
        members(item, where, validator=int, time=dict, signature=str)
        signatures.append(
            Signature(
                item["validator"],
                _time(item["time"], f"{where}.time"),
                unhex(item["signature"], 64, f"{where}.signature"),
            )
        )
    return Commit(value["round"], _block_id(value["block_id"], f"{field}.block_id"), tuple(signatures))


def _subject(value: dict[str, Any]) -> Subject | None:
    field = "evidence.subject"
    if value.get("type") == "head":
        members(value, field, type=str)
        return None
    members(value, field, type=str, transaction=int, log=int, position=int, entry=str, inclusion=list)
    if value["type"] != "record":
        raise Malformed(f"{field}.type", "must be head or record")
    _natural(value, field, "transaction", "log", "position")
    inclusion = tuple(unhex(node, 32, f"{field}.inclusion[{i}]") for i, node in enumerate(value["inclusion"]))
    return Subject(
        value["transaction"], value["log"], value["position"], _hex(value["entry"], f"{field}.entry"), inclusion
    )


def _block_id(value: Any, field: str) -> BlockId:
    members(value, field, hash=str, parts=int, parts_hash=str)
    _natural(value, field, "parts")
    return BlockId(
        _hex(value["hash"], f"{field}.hash"), value["parts"], _hex(value["parts_hash"], f"{field}.parts_hash")
    )


def _block_id_value(block: BlockId) -> dict[str, Any]:
    return {"hash": block.hash.hex(), "parts": block.parts, "parts_hash": block.parts_hash.hex()}


def _time(value: Any, field: str) -> Time:
    members(value, field, seconds=int, nanos=int)
    _natural(value, field, "seconds", "nanos")
    if value["nanos"] > _MAX_NANOS:
        raise Malformed(f"{field}.nanos", f"must be at most {_MAX_NANOS}")
    return Time(value["seconds"], value["nanos"])


def _time_value(time: Time) -> dict[str, int]:
    return {"seconds": time.seconds, "nanos": time.nanos}


def _natural(value: dict[str, Any], field: str, *names: str) -> None:
    for name in names:
        if value[name] < 0:
            raise Malformed(f"{field}.{name}", "must not be negative")


def _hex(value: Any, field: str) -> bytes:
    """Bytes of any length in lower-case hex."""
    return unhex(value, len(value) // 2 if isinstance(value, str) else 0, field)
