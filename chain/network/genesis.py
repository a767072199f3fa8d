"""The network file: the one thing that all operators share. Everything that validators must agree on follows from it, so comparing
its SHA-256 is comparing everything; the EVM genesis block carries that hash in its extra data, and so in its own hash.

Canonical JSON:

    {"format": "ballotboard/network/v1", "chain_id": int, "time": seconds since 1970,
     "validators": [{"operator": as in operator.json, "power": int}, …], "accounts": [hex20 of who has gas money, …]}
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from importlib.resources import files
from typing import Any

import rlp
from eth_hash.auto import keccak

import contracts
from chain import comet, trie
from chain.network.operator import UNIQUE, Operator, public_key
from protocol.encoding import canonical_json, members, parse_json, unhex
from protocol.errors import Malformed
from protocol.manifest import Validator

FORMAT = "ballotboard/network/v1"

GAS_LIMIT = 1_000_000_000
"""Gas of a block: a full one of 8 MiB (EIP-7934) stays under half of it, so the base fee stays 0."""

BALANCE = 10**27
"""Wei of each funded account: gas for more transactions than a chain can hold."""

MAX_BLOCK = 10 * 1024 * 1024
"""Bytes of a CometBFT block: an EVM block of 8 MiB and what is around it."""

VALIDATORS = (0x1000).to_bytes(20, "big")
"""Address of the contract by whose votes the validator set changes (contracts/IValidators.sol): beyond all precompiles, and known to
chain/validator/app."""

_FORKS = (
    "homestead", "eip150", "eip155", "eip158", "byzantium", "constantinople", "petersburg", "istanbul", "berlin", "london",
)  # fmt: skip
_TIMED_FORKS = ("shanghai", "cancun", "prague", "osaka")
_BLOBS = {"target": 3, "max": 6, "baseFeeUpdateFraction": 3338477}  # geth wants a schedule; validators refuse blobs


@dataclass(frozen=True)
class Network:
    """A network file. `accounts` are 20 bytes each, ascending."""

    chain_id: int
    time: int
    validators: tuple[tuple[Operator, int], ...]
    accounts: tuple[bytes, ...]

    @cached_property
    def body(self) -> bytes:
        """The file's bytes."""
        validators = [{"operator": operator.value(), "power": power} for operator, power in self.validators]
        accounts = [account.hex() for account in self.accounts]
        return canonical_json(
            {"format": FORMAT, "chain_id": self.chain_id, "time": self.time, "validators": validators, "accounts": accounts}
        )  # fmt: skip

    @property
    def id(self) -> bytes:
        """SHA-256 of the file, which operators compare."""
        return hashlib.sha256(self.body).digest()

    def manifest_validators(self) -> list[Validator]:
        """The set as a manifest lists it."""
        return [Validator(operator.validator_key, power) for operator, power in self.validators]

    @staticmethod
    def build(
        chain_id: int, time: int, validators: Sequence[tuple[Operator, int]], accounts: Sequence[bytes]
    ) -> Network:
        """A network; raises Malformed for what no network can be, above all two validators that share something."""
        return Network.parse(Network(chain_id, time, tuple(validators), tuple(sorted(set(accounts)))).body)

    @staticmethod
    def parse(body: bytes) -> Network:
        """A network from its file's bytes; raises Malformed."""
        value = members(
            parse_json(body, "network"), "network", format=str, chain_id=int, time=int, validators=list, accounts=list
        )
        if value["format"] != FORMAT:
            raise Malformed("network.format", f"expected {FORMAT}")
        if not 0 < value["chain_id"] < 2**53 or not 0 < value["time"] < 2**40:
            raise Malformed("network", "chain_id and time must be positive")
        validators = []
        for number, item in enumerate(value["validators"]):
            members(item, f"network.validators[{number}]", operator=dict, power=int)
            if not 0 < item["power"] < 2**32:
                raise Malformed(f"network.validators[{number}].power", "must be positive, below 2^32")
            validators.append((Operator.of(item["operator"], f"network.validators[{number}].operator"), item["power"]))
        if not validators:
            raise Malformed("network.validators", "needs at least one")
        operators = [operator for operator, _ in validators]
        for name in UNIQUE:
            if len({getattr(operator, name) for operator in operators}) != len(operators):
                raise Malformed("network.validators", f"two of them have the same {name.replace('_', ' ')}")
        accounts = [unhex(account, 20, f"network.accounts[{i}]") for i, account in enumerate(value["accounts"])]
        if accounts != sorted(set(accounts)):
            raise Malformed("network.accounts", "must be distinct and ascending")
        return Network(value["chain_id"], value["time"], tuple(validators), tuple(accounts))


def system_contracts() -> dict[bytes, bytes]:
    """Address and code of the contracts that Cancun and Prague expect (EIPs 4788, 2935, 7002, 7251), as in geth's params package."""
    raw = json.loads(files(__package__).joinpath("system_contracts.json").read_text())
    return {bytes.fromhex(account[2:]): bytes.fromhex(code[2:]) for account, code in raw.items()}


def validators_storage(network: Network) -> dict[int, int]:
    """Storage of the Validators contract at genesis, by slot: `_members` holds the set, everything else is zero.

    Solidity's layout: a list's length is in its slot p, its items follow from keccak-256(p) on, three slots each (key; account below power;
    operator). Bytes of 32 or more have 2 · length + 1 in their slot q, and stand from keccak-256(q) on.
    """
    slot = contracts.artifact("Validators").storage["_members"][0]
    storage = {slot: len(network.validators)}
    for number, (operator, power) in enumerate(network.validators):
        at = _place(slot) + 3 * number
        about = canonical_json(operator.value())
        storage[at] = int.from_bytes(operator.validator_key, "big")
        storage[at + 1] = power << 160 | int.from_bytes(operator.account, "big")
        storage[at + 2] = 2 * len(about) + 1
        for offset in range(0, len(about), 32):
            storage[_place(at + 2) + offset // 32] = int.from_bytes(about[offset : offset + 32].ljust(32, b"\0"), "big")
    return storage


def evm_genesis(network: Network) -> dict[str, Any]:
    """What `geth init` reads: every fork up to Osaka from the start, base fee 0, gas money for the accounts and the operators."""
    config: dict[str, Any] = {
        "chainId": network.chain_id, "terminalTotalDifficulty": 0, "depositContractAddress": "0x" + "00" * 20,
        "blobSchedule": {fork: _BLOBS for fork in _TIMED_FORKS[1:]},
    }  # fmt: skip
    config |= {f"{fork}Block": 0 for fork in _FORKS} | {f"{fork}Time": 0 for fork in _TIMED_FORKS}
    alloc: dict[str, Any] = {
        "0x" + account.hex(): {"balance": "0x0", "nonce": "0x1", "code": "0x" + code.hex()}
        for account, code in system_contracts().items()
    }
    storage = {f"0x{slot:064x}": f"0x{value:064x}" for slot, value in validators_storage(network).items()}
    alloc["0x" + VALIDATORS.hex()] = {
        "balance": "0x0",
        "nonce": "0x1",
        "code": "0x" + _code().hex(),
        "storage": storage,
    }
    alloc |= {"0x" + account.hex(): {"balance": hex(BALANCE)} for account in _funded(network)}
    return {
        "config": config, "nonce": "0x0", "timestamp": hex(network.time), "extraData": "0x" + network.id.hex(),
        "gasLimit": hex(GAS_LIMIT), "difficulty": "0x0", "mixHash": "0x" + "00" * 32, "coinbase": "0x" + "00" * 20,
        "baseFeePerGas": "0x0", "alloc": alloc,
    }  # fmt: skip


def evm_genesis_hash(network: Network) -> bytes:
    """The hash of that block, computed here; geth must come to the same, or the validator refuses to start."""
    system = {a: _account(1, 0, keccak(code)) for a, code in system_contracts().items()}
    slots = trie.Tree({keccak(_word(k)): rlp.encode(_number(v)) for k, v in validators_storage(network).items() if v})
    system[VALIDATORS] = _account(1, 0, keccak(_code()), slots.root)
    people = {a: _account(0, BALANCE, keccak(b"")) for a in _funded(network)}
    state = trie.Tree({keccak(a): account for a, account in (people | system).items()})
    header = [
        bytes(32), keccak(rlp.encode([])), bytes(20), state.root, trie.EMPTY_ROOT, trie.EMPTY_ROOT, bytes(256), b"", b"",
        _number(GAS_LIMIT), b"", _number(network.time), network.id, bytes(32), bytes(8), b"",
        trie.EMPTY_ROOT, b"", b"", bytes(32), hashlib.sha256(b"").digest(),
    ]  # fmt: skip
    return keccak(rlp.encode(header))


def comet_genesis(network: Network) -> dict[str, Any]:
    """CometBFT's genesis.json."""
    return {
        "genesis_time": f"{datetime.fromtimestamp(network.time, UTC):%Y-%m-%dT%H:%M:%SZ}",
        "chain_id": comet.chain_name(network.chain_id),
        "initial_height": "1",
        "consensus_params": {
            "block": {"max_bytes": str(MAX_BLOCK), "max_gas": "-1"},
            # Proof of a double vote is taken for 2 days and 100,000 blocks, CometBFT's defaults.
            "evidence": {"max_age_num_blocks": "100000", "max_age_duration": "172800000000000", "max_bytes": "1048576"},
            "validator": {"pub_key_types": ["ed25519"]},
            "version": {"app": "1"},
            "abci": {"vote_extensions_enable_height": "0"},
        },
        "validators": [
            {
                "address": comet.address(operator.validator_key).hex().upper(),
                "pub_key": public_key(operator.validator_key),
                "power": str(power),
                "name": operator.name,
            }
            for operator, power in network.validators
        ],
        "app_hash": "",
        "app_state": {"evm_genesis": "0x" + evm_genesis_hash(network).hex()},
    }


def _funded(network: Network) -> list[bytes]:
    return sorted({*network.accounts, *(operator.account for operator, _ in network.validators)})


def _code() -> bytes:
    return contracts.artifact("Validators").runtime_code


def _account(nonce: int, balance: int, code_hash: bytes, storage: bytes = trie.EMPTY_ROOT) -> bytes:
    """As it stands in the state tree."""
    return rlp.encode([_number(nonce), _number(balance), storage, code_hash])


def _word(value: int) -> bytes:
    return value.to_bytes(32, "big")


def _place(slot: int) -> int:
    """Where what belongs to a slot of a list or of bytes begins."""
    return int.from_bytes(keccak(_word(slot)), "big")


def _number(value: int) -> bytes:
    return value.to_bytes((value.bit_length() + 7) // 8, "big")
