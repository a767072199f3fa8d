"""A chain that we run ourselves, whichever engine makes its blocks: what the demo, the tests and `chain up` need of one.

`chain.anvil.Anvil` is one process without consensus, `chain.network.local.LocalNetwork` a network of validators on this machine. Whoever
uses one through this interface asks nowhere which it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Protocol

from web3 import Web3

from chain.evidence import Evidence
from chain.rpc import Address
from protocol.manifest import Validator


class Engine(Protocol):
    """Inside `with` it runs.

    name          "anvil" or "cometbft"
    moves_clock   whether `wait_until` moves the chain's time forward instead of waiting for it
    url, web3     a node's JSON-RPC
    comet_url     where validators' signatures are collected, for the connection file; empty where nobody signs
    """

    name: str
    moves_clock: bool
    chain_id: int
    web3: Web3

    @property
    def url(self) -> str: ...

    @property
    def comet_url(self) -> str: ...

    def validators(self) -> list[Validator]:
        """The set as a manifest lists it: empty where nobody signs."""

    def evidence(self, contract: Address) -> Evidence | None:
        """What the validators signed for the head of a board's log; None where nobody signs."""

    def fund(self, accounts: Iterable[Address]) -> None:
        """Gives accounts gas money, and returns when they have it."""

    def wait_until(self, moment: int, tick: Callable[[int], None] | None = None) -> None:
        """Returns when the chain's time has reached `moment`, in seconds since 1970; `tick` gets the seconds that are left."""

    def kill_one(self) -> bool:
        """kill -9 of one validator, if the chain can go on without it; False where there is none to spare."""

    def mend(self) -> None:
        """Starts again what `kill_one` has killed."""

    def tend(self) -> None:
        """To be called again and again: starts again what has ended by itself, or raises ChainError."""

    def __enter__(self) -> Engine: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
