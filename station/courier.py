"""Carrying what stations have signed: many stations' records in few transactions, from one account, none waiting for the one before; or through a relayer.

Officers' signatures are what counts, so anybody may carry: a regional office, or somebody with a stick full of folders. The board takes a
transaction whole or not at all; where it refuses one, the carrier halves it until what is refused is alone, and everything else is in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from chain.carrier import Carrier
from chain.contract import MAX_CALLDATA, MAX_GAS, Refused, encode
from chain.errors import ChainError
from chain.writer import StationItem, Writer
from protocol.encoding import canonical_json, members, parse_json, unhex
from protocol.errors import BallotboardError, Malformed
from protocol.records import pack_bodies
from station.folder import StationFolder

MAX_ITEMS = 120
"""Records in a transaction: each takes about 95,000 gas (docs/contracts.md), and more in an old log; together well below MAX_GAS."""

ROOM = MAX_CALLDATA - 192
"""Bytes of records in a transaction, beside selector, offset and length in whole words."""


@dataclass
class Delivery:
    """What became of a delivery: transactions, gas they took, and (place in the list, why) of what the board refused."""

    transactions: int = 0
    gas: int = 0
    refused: list[tuple[int, Refused]] = field(default_factory=list)


def carry(writer: Writer, items: Sequence[StationItem]) -> Delivery:
    """Send check-in batches and result hashes; a station's own must be in their order. Returns when the last is in a block."""
    return _carry(writer, "appendStations", [item.encode() for item in items], b"".join)


def reveal(writer: Writer, documents: Sequence[bytes]) -> Delivery:
    """Send result documents whose hashes are on the chain."""
    return _carry(writer, "reveal", documents, pack_bodies)


# ---------------------------------------------------------------- packs: what a stick carries without the journal

FORMAT = "ballotboard/station-pack/v1"


@dataclass(frozen=True)
class Pack:
    """What two officers signed at a station, for anyone to carry: the board (20 bytes), encoded items, and documents once the embargo is over."""

    contract: bytes
    station: int
    items: tuple[bytes, ...]
    documents: tuple[bytes, ...]

    def body(self) -> bytes:
        return canonical_json(
            {
                "contract": self.contract.hex(), "documents": [part.hex() for part in self.documents], "format": FORMAT,
                "items": [part.hex() for part in self.items], "station": self.station,
            }
        )  # fmt: skip

    @staticmethod
    def parse(body: bytes, field: str) -> Pack:
        value = members(
            parse_json(body, field), field, contract=str, documents=list, format=str, items=list, station=int
        )
        if value["format"] != FORMAT or not all(
            isinstance(part, str) for part in (*value["items"], *value["documents"])
        ):
            raise Malformed(f"{field}.format", f"expected {FORMAT}")
        try:
            parts = [tuple(bytes.fromhex(part) for part in value[name]) for name in ("items", "documents")]
        except ValueError as error:
            raise Malformed(field, "holds what is not hexadecimal") from error
        return Pack(unhex(value["contract"], 20, f"{field}.contract"), value["station"], parts[0], parts[1])


def pack(folder: StationFolder, now: int | None = None) -> Pack:
    """All that two officers have signed, sent already or not: carrying it twice changes nothing. Documents only once the embargo is over, by `now` or else
    the station's clock."""
    state = folder.state
    public = (folder.journal.clock() if now is None else now) >= folder.manifest.windows.reveal_not_before
    items = tuple(folder.item(item).encode() for item in (*state.batches, *state.documents) if item.complete)
    documents = tuple(document.result.body() for document in state.documents if document.complete and public)
    return Pack(folder.contract, folder.station.number, items, documents)


def deliver(writer: Writer, packs: Sequence[Pack]) -> tuple[Delivery, Delivery]:
    """Carry packs: what became of the items, and of the documents. Raises BallotboardError for a pack of another board, before anything is sent."""
    if strange := [pack.station for pack in packs if pack.contract != writer.board.address]:
        raise BallotboardError(f"the pack of station {strange[0]} is of another election's board")
    items = _carry(writer, "appendStations", [item for pack in packs for item in pack.items], b"".join)
    documents = [document for pack in packs for document in pack.documents]
    return items, _carry(writer, "reveal", documents, pack_bodies)


# ---------------------------------------------------------------- helpers


def _carry(writer: Writer, function: str, parts: Sequence[bytes], pack: Callable[[Any], bytes]) -> Delivery:
    delivery, waiting = Delivery(), batches(parts)
    if not isinstance(writer, Carrier):  # a relayer has its own order, and answers for each before it is given the next
        waiting = _send_all(writer, function, [(part, pack(parts[slice(*part)])) for part in waiting], delivery)
    while waiting:
        first, end = waiting.pop(0)
        try:
            landed = writer.send(function, pack(parts[first:end]))
            delivery.gas += landed.gas
            delivery.transactions += 1
        except Refused as error:
            if end - first == 1:
                delivery.refused.append((first, error))
            else:
                middle = (first + end) // 2
                waiting[:0] = [(first, middle), (middle, end)]
    return delivery


def _send_all(
    writer: Writer, function: str, calls: Sequence[tuple[tuple[int, int], bytes]], delivery: Delivery
) -> list[tuple[int, int]]:
    """Send all before the first is waited for. What failed is to be looked at piece by piece: refused, or out of gas."""
    nonce, sent, failed = writer.nonce(), [], []
    for offset, (part, content) in enumerate(calls):
        raw = writer.sender.sign(writer.board.address, encode(function, content), MAX_GAS, nonce + offset).raw
        sent.append((part, writer.broadcast(raw)))
    for part, transaction in sent:
        try:
            delivery.gas += int(writer.sender.wait(transaction)["gasUsed"], 16)
            delivery.transactions += 1
        except ChainError:
            failed.append(part)
    return failed


def batches(parts: Sequence[bytes]) -> list[tuple[int, int]]:
    """[first, end) of each transaction."""
    batches, first, size = [], 0, 0
    for place, part in enumerate(parts):
        length = len(part) + 2
        if place > first and (size + length > ROOM or place - first == MAX_ITEMS):
            batches.append((first, place))
            first, size = place, 0
        size += length
    return [*batches, (first, len(parts))] if parts else []
