"""A network cut in two: both halves halt at one head, and go on together when the cut heals. Validators talk through relays of ours."""

from __future__ import annotations

import socket
import threading
import time
from itertools import permutations
from pathlib import Path

import pytest

from chain.network.local import LocalNetwork
from chain.network.node import Node
from chain.network.operator import Operator
from tests.network.conftest import hashes, head, same_chain, until

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

FAULTS = Path(__file__).parents[2] / ".bin" / "validator-faults"

HALT = 6.0
"""Seconds without a block after which a network counts as halted: six intervals."""


class Relay:
    """Passes connections from its port on to `to`, until it is cut."""

    def __init__(self, to: int) -> None:
        self.to, self.open, self.ends = to, True, []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        self.open = False
        for end in self.ends:
            _close(end)
        self.ends.clear()

    def _accept(self) -> None:
        while True:
            near, _ = self.listener.accept()
            try:
                if not self.open:
                    raise OSError
                far = socket.create_connection(("127.0.0.1", self.to))
            except OSError:
                _close(near)
                continue
            self.ends += [near, far]
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=_pump, args=(source, sink), daemon=True).start()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            sink.sendall(data)
    except OSError:
        pass
    _close(source)
    _close(sink)


def _close(end: socket.socket) -> None:
    try:
        end.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass


class Relayed(Node):
    """A node of the test build that reaches each other validator through a relay of their own."""

    relays: dict[tuple[str, str], Relay]

    def through(self, other: Operator) -> int:
        return self.relays[self.operator.name, other.name].port

    def _validator_command(self, home: Path | None = None, validator: Path | None = None) -> list[str]:
        command = super()._validator_command(home, validator or FAULTS)
        at = command.index("-peers") + 1
        others = [other for other, _ in self.network.validators if other != self.operator]
        for other in others:
            command[at] = command[at].replace(f":{other.consensus_port}", f":{self.through(other)}")
        relays = " ".join(f"{other.consensus_port}={self.through(other)}" for other in others)
        return ["env", f"VALIDATOR_RELAYS={relays}", *command]


@pytest.mark.skipif(not FAULTS.exists(), reason="no validators of the test build: run `make .bin/validator-faults`")
def test_two_halves_halt_at_one_head_and_go_on_when_the_cut_heals(binaries, tmp_path: Path):
    network = LocalNetwork(tmp_path, chain_id=77_003)
    operators = [operator for operator, _ in network.network.validators]
    relays = {(a.name, b.name): Relay(b.consensus_port) for a, b in permutations(operators, 2)}
    network.nodes = [Relayed(node.home) for node in network.nodes]
    for node in network.nodes:
        node.relays = relays
    nodes = network.nodes
    with network:
        until(lambda: min(head(n) for n in nodes) >= 3, "blocks")
        halves = [{o.name for o in operators[:2]}, {o.name for o in operators[2:]}]
        across = [relay for pair, relay in relays.items() if not any(set(pair) <= half for half in halves)]
        assert len(across) == 8
        for relay in across:
            relay.cut()
        time.sleep(2)  # what was decided by then may still be committed
        halted = [head(n) for n in nodes]
        time.sleep(HALT)
        assert [head(n) for n in nodes] == halted
        before = hashes(nodes[0], same_chain(nodes))
        for relay in across:
            relay.open = True
        until(lambda: min(head(n) for n in nodes) > max(halted) + 1, "blocks on both sides")
        assert hashes(nodes[0], len(before) - 1) == before
        same_chain(nodes)
