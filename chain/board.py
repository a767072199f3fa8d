"""The board's present state, asked of a node. The node's word is taken; observers rebuild the log instead (`chain.reader`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from web3 import Web3

from chain.contract import BoardRole, Phase, decode, encode, refusal
from chain.errors import RpcError
from chain.rpc import Address, address_bytes, batch, block, call, checksummed
from protocol.manifest import RoleKind, Windows
from protocol.records import LogHead


@dataclass(frozen=True, slots=True)
class StationState:
    """What the board expects next of a station: check-in batch, and its latest revision (0 if none) and whether that is revealed."""

    next_batch: int
    revision: int
    revealed: bool


@dataclass(frozen=True, slots=True)
class DocumentState:
    """A result document's hash record (position, None if never recorded) and whether the document was revealed."""

    position: int | None
    revealed: bool


class Board:
    """Views of the board at `address`. Each raises ChainError where there is no board, NodeUnreachable where there is no node.

    `at` is a block number; the default is the latest block.
    """

    def __init__(self, web3: Web3, address: Address) -> None:
        self.web3, self.address = web3, address_bytes(address)

    def head(self, at: int | None = None) -> LogHead:
        """Size and root of the log."""
        return LogHead(*self._view("head", at=at))

    def phase(self) -> Phase:
        return Phase(self._view("phase"))

    def windows(self) -> Windows:
        """The windows of creation; `close_time` is the present close time."""
        return Windows(*self._view("windows"))

    def close_time(self) -> int:
        """The manifest's close time, or that of the last extension."""
        return self._view("closeTime")

    def election_id(self) -> bytes:
        return self._view("electionId")

    def roles(self) -> list[BoardRole]:
        """All roles; a role's index is its place."""
        count = self._view("roleCount")
        answers = batch(self.web3, [("eth_call", self._call("roleAt", (index,), None)) for index in range(count)])
        pairs = (decode("roleAt", bytes.fromhex(answer[2:])) for answer in answers)
        return [BoardRole(RoleKind(kind), address_bytes(account)) for kind, account in pairs]

    def numbers(self, signer: Address) -> int:
        """The number that this signer's next record must carry."""
        return self._view("numbers", checksummed(signer))

    def sequences(self, relayer: Address) -> int:
        """The sequence that this relayer's next ballot transaction must carry."""
        return self._view("sequences", checksummed(relayer))

    def station(self, station: int) -> StationState:
        return StationState(*self._view("station", station))

    def document(self, document_hash: bytes) -> DocumentState:
        index_plus_one, revealed = self._view("document", document_hash)
        return DocumentState(index_plus_one - 1 if index_plus_one else None, revealed)

    def certified(self) -> bool:
        return self._view("certified")

    def now(self) -> int:
        """The chain's time: that of its latest block, in seconds since 1970-01-01 UTC."""
        return int(block(self.web3, "latest")["timestamp"], 16)

    def _view(self, function: str, *values: Any, at: int | None = None) -> Any:
        try:
            answer = call(self.web3, "eth_call", *self._call(function, values, at))
        except RpcError as error:
            raise refusal(error) from error
        return decode(function, bytes.fromhex(answer[2:]))

    def _call(self, function: str, values: tuple[Any, ...], at: int | None) -> list[Any]:
        data = encode(function, *values)
        tag = "latest" if at is None else hex(at)
        return [{"to": checksummed(self.address), "data": "0x" + data.hex()}, tag]
