"""One operator's folder: made here, on the operator's machine, which its keys never leave.

operator.json                     public: what the others need to know, see `Operator`
ports.json                        private: where programs of this machine find the node, see `Ports`
config/priv_validator_key.json    signs votes and blocks: whoever has it is this validator
config/node_key.json              proves the node id to the other validators
geth/geth/nodekey                 the same between the execution clients
config/account_key                the operator's account on the chain (secp256k1): votes on who may validate
jwt.hex                           secret between validator and geth
data/priv_validator_state.json    the last vote signed. NEVER copied or restored: an older one lets the validator sign two
                                  blocks of one height, which is the one thing that a validator can be convicted of
network.json, config/genesis.json, geth.toml, geth.genesis.json     from the network file (chain.network.genesis)
data/, geth/                      CometBFT's blocks and geth's chain
logs/                             validator.log, geth.log
"""

from __future__ import annotations

import base64
import json
import os
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from coincurve import PrivateKey
from eth_hash.auto import keccak
from nacl.signing import SigningKey

from chain.comet import address
from chain.errors import ChainError
from protocol.encoding import canonical_json, members, parse_json, unhex
from protocol.errors import Malformed

FORMAT = "ballotboard/operator/v1"

ACCOUNT_KEY = "config/account_key"

KEY_FILES = ("config/priv_validator_key.json", "config/node_key.json", "geth/geth/nodekey", ACCOUNT_KEY, "jwt.hex")

UNIQUE = ("name", "validator_key", "node_id", "execution_key", "account", "consensus_address", "execution_address")
"""What no two validators of a network share."""


@dataclass(frozen=True)
class Operator:
    """What an operator publishes: name, Ed25519 key of the validator (32 bytes), CometBFT node id (20), secp256k1 key of the execution
    client's node (64), address of the account that votes on who may validate (20), and where both listen for the other validators."""

    name: str
    validator_key: bytes
    node_id: bytes
    execution_key: bytes
    account: bytes
    host: str
    consensus_port: int
    execution_port: int

    def value(self) -> dict[str, Any]:
        """The JSON value of operator.json."""
        fields = {name: value.hex() if isinstance(value, bytes) else value for name, value in vars(self).items()}
        return {"format": FORMAT} | fields

    @property
    def consensus_address(self) -> str:
        return f"{self.host}:{self.consensus_port}"

    @property
    def execution_address(self) -> str:
        return f"{self.host}:{self.execution_port}"

    @property
    def listen(self) -> str:
        """The address to listen at: every one of the machine, unless all is on this machine."""
        return "127.0.0.1" if self.host == "127.0.0.1" else "0.0.0.0"

    @property
    def peer(self) -> str:
        """As CometBFT names a peer."""
        return f"{self.node_id.hex()}@{self.consensus_address}"

    @property
    def enode(self) -> str:
        """As geth names a peer."""
        return f"enode://{self.execution_key.hex()}@{self.execution_address}?discport=0"

    @staticmethod
    def of(value: Any, field: str = "operator") -> Operator:
        """An operator from its JSON value; raises Malformed."""
        members(
            value, field, format=str, name=str, validator_key=str, node_id=str, execution_key=str, account=str, host=str,
            consensus_port=int, execution_port=int,
        )  # fmt: skip
        if value["format"] != FORMAT:
            raise Malformed(f"{field}.format", f"expected {FORMAT}")
        for name in ("name", "host"):
            if not value[name] or any(c.isspace() or c in ",@/\"'" for c in value[name]):
                raise Malformed(f"{field}.{name}", "must be a word without spaces, commas, quotes, @ and /")
        for name in ("consensus_port", "execution_port"):
            if not 0 < value[name] < 65536:
                raise Malformed(f"{field}.{name}", "must be a port")
        return Operator(
            value["name"], unhex(value["validator_key"], 32, f"{field}.validator_key"),
            unhex(value["node_id"], 20, f"{field}.node_id"), unhex(value["execution_key"], 64, f"{field}.execution_key"),
            unhex(value["account"], 20, f"{field}.account"), value["host"], value["consensus_port"], value["execution_port"],
        )  # fmt: skip


@dataclass(frozen=True)
class Ports:
    """Ports on 127.0.0.1: geth's JSON-RPC, its Engine API, CometBFT's RPC, and the validator's metrics. All below 32,768, from where on the
    kernel gives ports to outgoing connections."""

    rpc: int = 8545
    engine: int = 8551
    comet: int = 26657
    metrics: int = 26660


def init(
    home: Path,
    name: str,
    host: str,
    consensus_port: int = 26656,
    execution_port: int = 30303,
    ports: Ports | None = None,
) -> Operator:
    """Makes an operator's folder with fresh keys; gives what to publish. Raises ChainError where there are keys, and writes nothing then."""
    if any((home / path).exists() for path in (*KEY_FILES, "operator.json")):
        raise ChainError(f"{home} holds an operator's keys already: name another folder")
    validator, node, execution, account = SigningKey.generate(), SigningKey.generate(), PrivateKey(), PrivateKey()
    operator = Operator(
        name, bytes(validator.verify_key), address(bytes(node.verify_key)), execution.public_key.format(compressed=False)[1:],
        keccak(account.public_key.format(compressed=False)[1:])[12:], host, consensus_port, execution_port,
    )  # fmt: skip
    Operator.of(operator.value())
    for folder in ("config", "data", "geth/geth", "logs"):
        (home / folder).mkdir(parents=True, exist_ok=True)
    home.chmod(0o700)
    validator_key = {
        "address": address(operator.validator_key).hex().upper(),
        "pub_key": public_key(operator.validator_key),
        "priv_key": _private_key(validator),
    }
    _write(home / "config/priv_validator_key.json", json.dumps(validator_key))
    _write(home / "data/priv_validator_state.json", json.dumps({"height": "0", "round": 0, "step": 0}))
    _write(home / "config/node_key.json", json.dumps({"priv_key": _private_key(node)}))
    _write(home / "geth/geth/nodekey", execution.secret.hex())
    _write(home / ACCOUNT_KEY, account.secret.hex())
    _write(home / "jwt.hex", secrets.token_hex(32))
    _write(home / "ports.json", json.dumps(asdict(ports or Ports())) + "\n")
    _write(home / "operator.json", canonical_json(operator.value()).decode())
    return operator


def load(home: Path) -> tuple[Operator, Ports]:
    """The operator whose folder this is. Raises ChainError."""
    try:
        operator = Operator.of(parse_json((home / "operator.json").read_bytes(), "operator"))
        ports = Ports(**json.loads((home / "ports.json").read_text()))
    except FileNotFoundError as error:
        raise ChainError(f"{home} is not an operator's folder: make one with `chain init`") from error
    except (OSError, ValueError, TypeError) as error:
        raise ChainError(f"{home / 'ports.json'} cannot be read: {error}") from error
    missing = [path for path in KEY_FILES if not (home / path).exists()]
    if missing:
        raise ChainError(f"{home} lacks {missing[0]}: keys cannot be made again, only a new operator can")
    key = json.loads((home / "config/priv_validator_key.json").read_text())["pub_key"]["value"]
    if base64.b64decode(key) != operator.validator_key:
        raise ChainError(f"{home} holds another validator's key than operator.json says: do not mix folders")
    return operator, ports


def public_key(key: bytes) -> dict[str, str]:
    """An Ed25519 key as CometBFT writes it."""
    return {"type": "tendermint/PubKeyEd25519", "value": base64.b64encode(key).decode()}


def _private_key(key: SigningKey) -> dict[str, str]:
    return {
        "type": "tendermint/PrivKeyEd25519",
        "value": base64.b64encode(bytes(key) + bytes(key.verify_key)).decode(),
    }


def _write(path: Path, text: str) -> None:
    """A new file that only its owner reads."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
