"""Changes of the validator set: an operator votes, and more than 2/3 of the present power make the change.

A vote is a transaction from the operator's account to the Validators contract (contracts/IValidators.sol says what it refuses). What the
contract says in block h is in force from block h + FORCE on: chain/validator/app argues it, docs/network.md describes it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import eth_abi
import typer
from eth_account import Account
from eth_utils.abi import collapse_if_tuple, event_abi_to_log_topic, function_abi_to_4byte_selector
from web3 import Web3

import contracts
from chain.console import JsonOption, emit
from chain.errors import ChainError, RpcError
from chain.network.genesis import VALIDATORS, Network
from chain.network.node import Node, join
from chain.network.operator import ACCOUNT_KEY, UNIQUE, Operator
from chain.rpc import Address, block, call, checksummed, unhex
from chain.transactions import MIN_MAX_FEE, TIP, Sender
from protocol.encoding import canonical_json, parse_json
from protocol.errors import Malformed

FORCE = 3
"""Blocks from the one that changes the validators until a header is signed by the changed set; the header before that one names it."""

POLL = 0.2
"""Seconds between looks at a chain that a vote waits for."""

GRANT = 10**21
"""Wei for a newcomer's account: gas for a million votes."""

VOTE_GAS = 5_000_000
"""Gas of a vote. Not an estimate: votes that land in one block with it may leave it to this one to make the change, which stores up to 4,096 bytes."""

TRANSFER_GAS = 21_000


class Member(NamedTuple):
    """A present validator: key (32 bytes), its operator's account (20), power, and who the operator is; None if the voters let nonsense in."""

    key: bytes
    account: bytes
    power: int
    operator: Operator | None

    @property
    def name(self) -> str:
        return self.operator.name if self.operator else self.key.hex()[:16]


class Change(NamedTuple):
    """The arguments of a vote: `power` 0 removes `key`, and then the rest is empty."""

    key: bytes
    power: int
    account: bytes
    operator: bytes


@dataclass(frozen=True)
class Agreement:
    """How a change stands: power that agreed, of how much; once it is made, the first block that the new set signs, else None."""

    agreed: int
    total: int
    in_force: int | None = None

    @property
    def lacking(self) -> int:
        """Power that must still agree."""
        return 2 * self.total // 3 + 1 - self.agreed


def members(web3: Web3) -> list[Member]:
    """The present validators, as the contract says. Raises ChainError on a chain that has no such contract."""
    [found] = _view(web3, "members")
    return [Member(key, unhex(account), power, _operator(about)) for key, account, power, about in found]


def addition(present: Sequence[Member], operator: Operator, power: int) -> Change:
    """The change that lets an operator in. Raises ChainError if it shares something with a present one."""
    for member in present:
        if member.operator == operator:
            raise ChainError(f"{member.name} is a validator already")
        for name in UNIQUE:
            if member.operator and getattr(member.operator, name) == getattr(operator, name):
                raise ChainError(f"{member.name} is a validator with the same {name.replace('_', ' ')}")
    return Change(operator.validator_key, power, operator.account, canonical_json(operator.value()))


def removal(present: Sequence[Member], who: str) -> Change:
    """The change that ends a validator, given by its operator's name or its key in hex. Raises ChainError if there is none."""
    for member in present:
        if who in (member.name, member.key.hex()):
            return Change(member.key, 0, bytes(20), b"")
    raise ChainError(f"{who} is no validator's name or key; there are {', '.join(member.name for member in present)}")


def vote(web3: Web3, key: bytes, change: Change) -> Agreement:
    """Votes with an operator's account key; voting again changes nothing. Raises ChainError with the contract's reason.

    The vote that makes the change waits until the change before is in force. Whoever makes an addition gives the newcomer gas money.
    """
    sender = Sender(web3, Account.from_key(key))
    data = _input("vote", change)
    while True:
        try:
            sender.estimate(VALIDATORS, data)  # says why not, before anything is sent
            receipt = sender.wait(sender.broadcast(sender.sign(VALIDATORS, data, VOTE_GAS, sender.nonce()).raw))
            break
        except RpcError as error:
            name, values = _refusal(error)
            if name == "AlreadyVoted":
                [agreed, total] = _view(web3, "agreement", change)
                return Agreement(agreed, total)
            if name != "TooSoon":
                raise ChainError(f"the vote is refused with {name}: {_WORDS[name](*values)}") from error
            while int(block(web3, "latest")["number"], 16) < values[0]:  # geth estimates in the place of the last block
                time.sleep(POLL)
    _, agreed, total = eth_abi.decode(["uint64"] * 3, unhex(receipt["logs"][0]["data"]))
    made = len(receipt["logs"]) == 2
    if made and change.power:
        _endow(sender, change.account)
    return Agreement(agreed, total, int(receipt["blockNumber"], 16) + FORCE if made else None)


@cache
def changed_topic() -> str:
    """The first topic of the event of a change, as 0x hex."""
    abi: Any = next(each for each in contracts.artifact("Validators").abi if each.get("name") == "Changed")
    return "0x" + bytes(event_abi_to_log_topic(abi)).hex()


# ---------------------------------------------------------------- commands

_Home = Annotated[Path, typer.Argument(help="The voting operator's folder; its node must run.")]


def add_validator(
    home: _Home,
    operator: Annotated[Path, typer.Argument(help="The newcomer's operator.json.")],
    power: Annotated[int, typer.Option(min=1, help="Its power; a third of the present total at most.")] = 1,
    as_json: JsonOption = False,
) -> None:
    """Vote to let a validator in. More than 2/3 of the present power must: each operator runs this. Running it again shows how it stands.

    Example: ballotboard chain add-validator node newcomer/operator.json
    """
    try:
        newcomer = Operator.of(parse_json(operator.read_bytes(), "operator"))
    except OSError as error:
        raise ChainError(f"cannot read {operator}: {error.strerror}") from error
    except Malformed as error:
        raise ChainError(f"{operator}: {error}") from error
    _vote(home, lambda present: addition(present, newcomer, power), newcomer.name, "joins", as_json)


def remove_validator(
    home: _Home,
    who: Annotated[str, typer.Argument(help="Its operator's name, or its validator key in hex.")],
    as_json: JsonOption = False,
) -> None:
    """Vote to end a validator. More than 2/3 of the present power must, its own included: each operator runs this.

    Example: ballotboard chain remove-validator node archives
    """
    _vote(home, lambda present: removal(present, who), who, "leaves", as_json)


def join_network(
    home: Annotated[Path, typer.Argument(help="The new operator's folder, made by `chain init`.")],
    network: Annotated[Path, typer.Argument(help="The network file of the running network.")],
) -> None:
    """Prepare a new operator's folder for a network that began without it. Then `chain start` it: it is let in when the others have voted.

    Example: ballotboard chain join-network newcomer network.json
    """
    try:
        join(home, Network.parse(network.read_bytes()), listed=False)
    except OSError as error:
        raise ChainError(f"cannot read {network}: {error.strerror}") from error
    except Malformed as error:
        raise ChainError(f"{network}: {error}") from error
    typer.echo(f"{home} is ready: ballotboard chain start {home}", err=True)


def _vote(home: Path, make: Callable[[Sequence[Member]], Change], name: str, does: str, as_json: bool) -> None:
    node = Node(home)
    web3 = node.web3()
    change = make(members(web3))
    stands = vote(web3, bytes.fromhex((home / ACCOUNT_KEY).read_text()), change)
    if as_json:
        emit(
            {"key": change.key.hex(), "power": change.power, "agreed": stands.agreed, "total": stands.total, "in_force": stands.in_force}
        )  # fmt: skip
        return
    typer.echo(f"{name} {does}: {stands.agreed} of {stands.total} power agrees")
    if stands.in_force is None:
        typer.echo(f"{stands.lacking} more of it must: other operators run the same command", err=True)
    else:
        typer.echo(
            f"{name} {does} with block {stands.in_force}; `chain export-evidence` proves it from now on", err=True
        )


# ---------------------------------------------------------------- the contract


def _view(web3: Web3, function: str, change: Change | None = None) -> tuple[Any, ...]:
    asked = {"to": checksummed(VALIDATORS), "data": "0x" + _input(function, change).hex()}
    output = unhex(call(web3, "eth_call", asked, "latest"))
    if not output:
        raise ChainError("this chain has no contract of validators: its set cannot change")
    return eth_abi.decode([collapse_if_tuple(each) for each in _function(function)["outputs"]], output)


def _input(function: str, change: Change | None) -> bytes:
    abi = _function(function)
    types = [collapse_if_tuple(each) for each in abi["inputs"]]
    return function_abi_to_4byte_selector(abi) + eth_abi.encode(types, _arguments(change))


def _arguments(change: Change | None) -> tuple[Any, ...]:
    return (change.key, change.power, checksummed(change.account), change.operator) if change else ()


@cache
def _function(name: str) -> Any:
    return next(
        each for each in contracts.artifact("Validators").abi if each["type"] == "function" and each["name"] == name
    )


def _refusal(error: RpcError) -> tuple[str, tuple[Any, ...]]:
    """The contract's named error in a node's answer, with its values; the answer itself, raised again, if there is none."""
    errors: list[Any] = contracts.artifact("Validators").abi
    for abi in errors:
        if abi["type"] == "error" and function_abi_to_4byte_selector(abi | {"type": "function"}) == error.data[:4]:
            return abi["name"], eth_abi.decode([collapse_if_tuple(each) for each in abi["inputs"]], error.data[4:])
    raise error


def _operator(about: bytes) -> Operator | None:
    try:
        return Operator.of(parse_json(about, "operator"))
    except Malformed:
        return None


def _endow(sender: Sender, account: Address) -> None:
    transfer: dict[str, Any] = {
        "type": 2, "chainId": sender.chain_id, "nonce": sender.nonce(), "to": checksummed(account), "value": GRANT,
        "gas": TRANSFER_GAS, "maxFeePerGas": MIN_MAX_FEE, "maxPriorityFeePerGas": TIP,
    }  # fmt: skip
    sender.wait(sender.broadcast(bytes(sender.account.sign_transaction(transfer).raw_transaction)))


_WORDS: dict[str, Callable[..., str]] = {
    "NotMember": lambda account: f"{account} is no present validator's account: vote from a folder of one",
    "AlreadyMember": lambda: "a validator has this key or account; to change its power, remove it and add it again",
    "UnknownKey": lambda: "no validator has this key",
    "TooMuch": lambda total: f"a change moves at most a third of the power, which is {total} in all",
    "BadChange": lambda: "a removal names a key alone, an addition an account and up to 4,096 bytes about its operator",
}
