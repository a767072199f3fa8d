"""The same election on a real anvil: every record is appended to the contract, in blocks of the very times that the steps ask for.

The contract does no cryptography on ballots, keys and totals, so whoever holds a role's key can append there what the verifier must catch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from eth_account import Account
from eth_account.signers.local import LocalAccount

from chain.anvil import Anvil
from chain.board import Board
from chain.deploy import constructor_arguments, deploy
from chain.rpc import block, call
from chain.writer import Landed, StationItem, Writer
from protocol import merkle
from protocol.records import ANYONE, STATION_OFFICERS, Kind
from tests.tamper.builder import ROLES, Draft, Election, key

START = 800
"""Chain time before anything happens."""


def account(name: str) -> LocalAccount:
    return Account.from_key(key(name))


class ChainElection(Election):
    """`anvil` mines each transaction at once. A record's time is what was asked for, or a second after the block before it."""

    def __init__(self, anvil: Anvil) -> None:
        super().__init__()
        self.anvil, self.web3 = anvil, anvil.web3
        anvil.fund([account(name).address for name in ROLES])
        self.rows: list[bytes] = []

    def publish(self) -> None:
        super().publish()
        self.rows = self.stations()
        self._at(self.drafts[0].time)
        deployed = deploy(self.web3, account("authority"), self.manifest.body, *constructor_arguments(self.manifest))
        self.contract = deployed.address
        self.drafts[0] = replace(self.drafts[0], time=self._time(deployed.block))
        self._attach()

    def make_roll(self) -> None:
        super().make_roll()
        self._attach()

    def append(self, kind: Kind, time: int, body: bytes, role: int = ANYONE) -> int:
        at = super().append(kind, time, body, role)
        if kind != Kind.MANIFEST:
            self.send(self.drafts[at:])
        return at

    def append_station(
        self, kind: Kind, time: int, body: bytes, number: int, station: int, by: Sequence[str] = ()
    ) -> int:
        at = super().append_station(kind, time, body, number, station, by)
        self.send(self.drafts[at:])
        return at

    def append_ballots(self, time: int, bodies: Iterable[bytes], role: int = 6) -> None:
        at = len(self.drafts)
        super().append_ballots(time, bodies, role)
        self.send(self.drafts[at:])

    def send(self, drafts: Sequence[Draft]) -> None:
        """Append to the contract what was just drafted, in one transaction, and take over the time of its block."""
        self._at(drafts[0].time)
        landed = self._transact(drafts)
        assert len(landed.positions) == len(drafts)
        self.drafts[landed.positions[0] : landed.positions[-1] + 1] = [
            replace(draft, time=self._time(landed.block)) for draft in drafts
        ]

    def _transact(self, drafts: Sequence[Draft]) -> Landed:
        first, writer = drafts[0], Writer(self.web3, self.contract, account("relayer"))
        body = first.body or b""
        if first.kind == Kind.BALLOT:
            return writer.append_ballots(
                writer.board.sequences(account("relayer").address), [d.body or b"" for d in drafts]
            )
        if first.kind == Kind.CLOSE:
            return writer.close()
        if first.kind == Kind.SETTLEMENT:
            return writer.settle()
        if first.kind == Kind.STATION_RESULT:
            return writer.reveal([body])
        if first.role == STATION_OFFICERS:
            number = int.from_bytes(body[:4], "big")
            proof = merkle.inclusion_proof([merkle.leaf_hash(row) for row in self.rows], number)
            return writer.append_stations([StationItem(first.kind, self.rows[number], proof, body, first.signatures)])
        return writer.append_signed(first.kind, body, first.signatures)

    def _attach(self) -> None:
        writer = Writer(self.web3, self.contract, account("relayer"))
        for data in self.files.values():
            writer.attach(data)

    def _at(self, time: int) -> None:
        """The next block has this time, or the earliest that the chain allows."""
        now = int(block(self.web3, "latest")["timestamp"], 16)
        call(self.web3, "evm_setNextBlockTimestamp", max(time, now + 1))

    def _time(self, number: int) -> int:
        return int(block(self.web3, number)["timestamp"], 16)


def head(e: ChainElection) -> object:
    return Board(e.web3, e.contract).head()
