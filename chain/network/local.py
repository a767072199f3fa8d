"""A whole network on this machine, for trying out and for tests: what `ballotboard chain up --validators 4` runs.

    with LocalNetwork(Path("network"), validators=4) as chain:
        chain.fund([account.address])
        board = deploy(chain.web3, account, …)

Each node is a folder as an operator would have it, made by the same functions. What no real network has: all keys are in one place, and a
faucet whose key lies beside them. Everything listens on 127.0.0.1.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType

from eth_account import Account
from web3 import Web3

from chain.anvil import BALANCE, CHAIN_ID
from chain.errors import ChainError, NodeUnreachable
from chain.evidence import Evidence
from chain.network import operator
from chain.network.collect import head_evidence
from chain.network.genesis import Network
from chain.network.node import Node, end, find_binary, join, require_geth
from chain.network.operator import Ports
from chain.process import free_port
from chain.rpc import Address, address_bytes, block
from chain.transactions import Sender
from protocol.manifest import Validator

VALIDATORS = 4
"""The least that goes on without one."""

FIRST_BLOCK = 60.0
"""Seconds until the first block: 3 s for four validators on idle cores."""

POLL = 0.05
"""Seconds between looks at a network that starts."""

PAUSE = 1.0
"""Seconds between looks at the chain's time: a block."""


class LocalNetwork:
    """Validators on loopback in folders `home`/node0 …, made on the first start and kept for the next. `url` and `web3` are node 0's.

    port       of node 0's JSON-RPC; 0 takes a free one. Only for the first start: a network keeps its ports
    fund       accounts that the genesis gives gas money, only for the first start

    It is a chain.engine.Engine.
    """

    name, moves_clock = "cometbft", False

    def __init__(
        self,
        home: Path,
        validators: int = VALIDATORS,
        *,
        chain_id: int = CHAIN_ID,
        port: int = 0,
        fund: Iterable[Address] = (),
    ) -> None:
        require_geth()
        find_binary("validator")
        self.home = home.absolute()
        homes = [self.home / f"node{number}" for number in range(validators)]
        if not (self.home / "network.json").exists():
            _make(self.home, homes, chain_id, port, [address_bytes(account) for account in fund])
        network = Network.parse((self.home / "network.json").read_bytes())
        if len(network.validators) != validators or network.chain_id != chain_id:
            raise ChainError(
                f"{home} holds a network of {len(network.validators)} validators with chain id {network.chain_id}: start that, or name another folder"
            )
        self.network, self.chain_id = network, chain_id
        for each in homes:
            join(each, network)
        self.nodes = [Node(each) for each in homes]
        self.web3: Web3

    @property
    def url(self) -> str:
        return self.nodes[0].url

    @property
    def comet_url(self) -> str:
        return self.nodes[0].comet_url

    def start(self) -> LocalNetwork:
        """Starts all nodes and returns when each has a final block: before that, one that is killed may leave half a database.

        Raises ChainError, with nothing left running.
        """
        try:
            for node in self.nodes:
                node.start()
            self.web3 = self.nodes[0].web3()
            end = time.monotonic() + FIRST_BLOCK
            while not all(self.heads()):
                if time.monotonic() > end:
                    raise ChainError(
                        f"there is no block after {FIRST_BLOCK:.0f} s: see the logs in {self.home}/node*/logs"
                    )
                time.sleep(POLL)
        except BaseException:
            self.kill()
            raise
        return self

    def stop(self) -> None:
        """Ends all nodes in good order."""
        end(self.nodes, "validator")
        end(self.nodes, "geth")

    def kill(self) -> None:
        """kill -9 of everything."""
        for node in self.nodes:
            node.kill()

    def tend(self) -> None:
        """Starts again what has ended. See Node.tend."""
        for node in self.nodes:
            node.tend()

    def fund(self, accounts: Iterable[Address], wei: int = BALANCE) -> None:
        """Sends gas money from the faucet to accounts that have less, and waits until they have it."""
        Sender(self.web3, Account.from_key((self.home / "faucet.key").read_text())).pay(accounts, wei)

    def wait_until(self, moment: int, tick: Callable[[int], None] | None = None) -> None:
        """Waits: nobody can move the clock of a network."""
        while (left := moment - int(block(self.web3, "latest")["timestamp"], 16)) > 0:
            if tick:
                tick(left)
            time.sleep(min(left, PAUSE))

    def validators(self) -> list[Validator]:
        return self.network.manifest_validators()

    def evidence(self, contract: Address) -> Evidence | None:
        return head_evidence(self.web3, self.comet_url, contract)

    def kill_one(self) -> bool:
        """The last: node 0 is the one that tools are connected to."""
        if len(self.nodes) < VALIDATORS:
            return False
        self.nodes[-1].kill()
        return True

    def mend(self) -> None:
        """Starts the nodes whose processes were killed."""
        for node in self.nodes:
            if not any(node.processes.values()):
                node.start()

    def heads(self) -> list[int | None]:
        """The last block of each node; None for one that does not answer."""
        found: list[int | None] = []
        for node in self.nodes:
            try:
                found.append(int(block(node.web3(), "latest")["number"], 16))
            except NodeUnreachable:
                found.append(None)
        return found

    def __enter__(self) -> LocalNetwork:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _make(home: Path, homes: list[Path], chain_id: int, port: int, accounts: list[bytes]) -> None:
    home.mkdir(parents=True, exist_ok=True)
    faucet = Account.create()
    operators = []
    for number, each in enumerate(homes):
        ports = Ports(port if port and not number else free_port(), free_port(), free_port(), free_port())
        operators.append(operator.init(each, f"node{number}", "127.0.0.1", free_port(), free_port(), ports))
    network = Network.build(
        chain_id, int(time.time()), [(each, 1) for each in operators], [address_bytes(faucet.address), *accounts]
    )
    with open(os.open(home / "faucet.key", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(faucet.key.hex())
    (home / "network.json").write_bytes(network.body)
