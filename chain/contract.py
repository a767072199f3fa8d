"""The board as bytes: what is sent to it, what comes back, and its named errors in words. No network.

Everything is derived from the artifact's ABI, so contracts/IBulletinBoard.sol is the only place where it is written down.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from enum import IntEnum
from functools import cache
from typing import Any, NamedTuple

import eth_abi
from eth_abi.exceptions import DecodingError
from eth_utils.abi import collapse_if_tuple, event_abi_to_log_topic, function_abi_to_4byte_selector

import contracts
from chain.errors import ChainError, RpcError
from protocol.manifest import RoleKind
from protocol.records import Kind

MAX_CALLDATA = 96 * 1024
"""Bytes of a transaction's input. geth's pool takes 128 KiB with everything; this leaves room on every engine."""

MAX_GAS = 16_777_216
"""Gas of a transaction (EIP-7825)."""

MAX_INITCODE = 49_152
"""Bytes of a creation transaction's input (EIP-3860)."""

MAX_PACKED = MAX_CALLDATA - 128
"""Bytes that a call with a number and one list carries (`appendBallots`): after the selector and three words, in whole words."""


class BoardRole(NamedTuple):
    """A hand that may append, as the contract knows it: its kind, and its account (20 bytes)."""

    kind: RoleKind
    account: bytes


class Phase(IntEnum):
    """Where the election is, as in IBulletinBoard.sol."""

    SETUP = 0
    OPEN = 1
    CLOSED = 2
    SETTLED = 3
    FINAL = 4


class Refused(ChainError):
    """The board reverted with a named error: `name` as in IBulletinBoard.sol, `values` in its order."""

    def __init__(self, name: str, values: tuple[Any, ...] = ()) -> None:
        self.name, self.values = name, values
        super().__init__(f"the board refuses with {name}: {_WORDS[name](*values)}")


@cache
def artifact() -> contracts.Artifact:
    """The compiled board, read once."""
    return contracts.artifact()


def encode(function: str, *values: Any) -> bytes:
    """The input of a call: selector and arguments. Raises ChainError if they are longer than a transaction may carry."""
    abi = _named("function", function)
    data = function_abi_to_4byte_selector(abi) + eth_abi.encode(_types(abi["inputs"]), values)
    if len(data) > MAX_CALLDATA:
        raise ChainError(
            f"{function} would take {len(data)} bytes, and a transaction carries {MAX_CALLDATA}: send it in parts"
        )
    return data


def decode(function: str, data: bytes) -> Any:
    """What a view returned: the value, or a tuple of several."""
    try:
        values = eth_abi.decode(_types(_named("function", function)["outputs"]), data)
    except DecodingError as error:
        raise ChainError(f"no board answers {function}(): check the contract address and the node's URL") from error
    return values[0] if len(values) == 1 else values


@cache
def selector(function: str) -> bytes:
    """The 4 bytes that name a function in calldata."""
    return bytes(function_abi_to_4byte_selector(_named("function", function)))


@cache
def topic(event: str) -> str:
    """The first topic of an event, as 0x hex."""
    return "0x" + bytes(event_abi_to_log_topic(_named("event", event))).hex()


def constructor_types() -> list[str]:
    """ABI types of the constructor's arguments: manifest, roles, setup."""
    return _types(next(entry for entry in artifact().abi if entry["type"] == "constructor")["inputs"])


def word(data: bytes, index: int) -> int:
    """The unsigned integer in 32-byte word `index`. Raises ChainError beyond the end."""
    piece = data[32 * index : 32 * index + 32]
    if len(piece) != 32:
        raise ChainError("ABI data ends early")
    return int.from_bytes(piece, "big")


def dynamic(data: bytes, index: int) -> bytes:
    """The `bytes` whose offset is in word `index`, cut out as the EVM does it.

    A sender may put the bytes anywhere and leave a tail: what the contract hashed is what the offset and length say, so exactly that
    is returned. Refusing other layouts would let one hostile relayer make the whole record unreadable. Raises ChainError beyond the end.
    """
    offset = word(data, index)
    if offset + 32 > len(data):
        raise ChainError("ABI data ends early")
    length = int.from_bytes(data[offset : offset + 32], "big")
    piece = data[offset + 32 : offset + 32 + length]
    if len(piece) != length:
        raise ChainError("ABI data ends early")
    return piece


def refusal(error: RpcError) -> ChainError:
    """The board's named error inside a node's error answer; the answer itself if there is none."""
    abi = _errors().get(error.data[:4])
    if abi is None:
        return error
    try:
        return Refused(abi["name"], eth_abi.decode(_types(abi["inputs"]), error.data[4:]))
    except DecodingError:
        return error


@cache
def _named(kind: str, name: str) -> Any:
    return next(entry for entry in artifact().abi if entry["type"] == kind and entry["name"] == name)


@cache
def _errors() -> dict[bytes, Any]:
    errors: list[Any] = [entry for entry in artifact().abi if entry["type"] == "error"]
    return {bytes(function_abi_to_4byte_selector(entry | {"type": "function"})): entry for entry in errors}


def _types(parameters: list[Any]) -> list[str]:
    return [collapse_if_tuple(parameter) for parameter in parameters]


def _kind(kind: int) -> str:
    return f"{Kind(kind).text} (kind {kind})" if kind in tuple(Kind) else f"kind {kind}"


def _time(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC ({seconds})"


_WORDS: dict[str, Callable[..., str]] = {
    "NotInPhase": lambda phase: f"the board is in phase {Phase(phase).name.lower()}, and this belongs to another",
    "TooEarly": lambda time: f"wait until the chain's time is {_time(time)}",
    "TooLate": lambda time: f"it was possible before {_time(time)} only",
    "WrongRole": lambda signer, kind: (
        f"{signer} may not append {_kind(kind)}, or signed an old number: sign again, with the account of the right role"
    ),
    "NotDirect": lambda: (
        "ballots are taken from a plain account that sends its transaction straight to the board: use no contract, and no account with delegated code"
    ),
    "WrongSequence": lambda expected: f"send number {expected} next; what came before it has landed",
    "WrongNumber": lambda expected: f"the station's next batch or revision is {expected}",
    "BadSignature": lambda: "sign again: a signature is malformed, missing, repeated or one too many",
    "BadInclusion": lambda: "the station row is not in the manifest's list of stations; use the published file",
    "BadBody": lambda: (
        "the body is empty, over 65,535 bytes, not of the layout of its kind, or not for this board's ballot mode"
    ),
    "BadSetup": lambda: "roles, windows or thresholds of the manifest contradict each other",
    "UnknownHash": lambda digest: f"{digest.hex()} was never recorded; append that hash first",
    "UnrevealedRevision": lambda station: f"reveal the present result of station {station} before amending it",
    "AlreadyDone": lambda: "this record exists once, and it exists",
}
