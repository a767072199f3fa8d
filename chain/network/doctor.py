"""What may be wrong with a node, and what to do about it. Looks at a node that runs and at one that does not."""

from __future__ import annotations

import json
import shutil
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from chain.comet import address
from chain.errors import ChainError
from chain.network.backup import is_restored
from chain.network.genesis import comet_genesis, evm_genesis_hash
from chain.network.node import Node, find_binary, geth_version, require_geth
from chain.network.operator import KEY_FILES, Operator
from chain.network.status import blocks_behind, count_signatures, members_of, operators_of
from chain.process import port_is_free
from chain.rpc import block, call
from protocol.encoding import canonical_json

CLOCK = 5
"""Seconds that the newest block may be away from this machine's clock: two blocks, and an honest difference between clocks."""

DISK = 10 * 2**30
"""Bytes that must be free: a full block is 8 MiB, twice (CometBFT and geth), so this is ten minutes of the worst case."""

CONNECT_TIMEOUT = 3.0
"""Seconds to reach another validator."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at; `remedy` is what to do where it is not ok."""

    name: str
    ok: bool
    detail: str
    remedy: str = ""


def examine(home: Path) -> list[Finding]:
    """All findings about the node in `home`. Raises ChainError where there is none."""
    node = Node(home)
    findings = [*_programs(), _keys(home), _genesis(node), _disk(home)]
    running = not port_is_free(node.ports.comet)
    if running:
        return [*findings, *_network(node)]
    return [
        *findings,
        *_ports(node),
        Finding("running", False, "the validator does not run", f"ballotboard chain start {home}"),
    ]


def _programs() -> Iterator[Finding]:
    for name, find in (("geth", require_geth), ("validator", lambda: find_binary("validator"))):
        try:
            binary = find()
            version = ".".join(map(str, geth_version(binary))) + " " if name == "geth" else ""
            yield Finding(name, True, f"{version}at {binary}")
        except ChainError as error:
            yield Finding(name, False, *str(error).split(": ", 1))


def _keys(home: Path) -> Finding:
    open_to_all = [path for path in KEY_FILES if (home / path).stat().st_mode & 0o077]
    return Finding(
        "keys", not open_to_all, f"{open_to_all[0]} can be read by others" if open_to_all else "readable by their owner only",
        f"chmod 600 {' '.join(str(home / path) for path in open_to_all)}",
    )  # fmt: skip


def _genesis(node: Node) -> Finding:
    remedy = "compare network.json with the other operators'; keep keys and signing state, and start in a new folder with the right one"
    try:
        written = (node.home / "config" / "genesis.json").read_bytes()
    except OSError:
        written = b""
    if not written or canonical_json(json.loads(written)) != canonical_json(comet_genesis(node.network)):
        return Finding("genesis", False, "config/genesis.json is not that of network.json", remedy)
    expected = evm_genesis_hash(node.network)
    if not port_is_free(node.ports.rpc) and block(node.web3(), 0)["hash"] != "0x" + expected.hex():
        return Finding("genesis", False, "wrong genesis: geth's first block is not the network's", remedy)
    return Finding("genesis", True, f"network {node.network.id.hex()[:16]}, chain id {node.network.chain_id}")


def _disk(home: Path) -> Finding:
    free = shutil.disk_usage(home).free
    return Finding(
        "disk",
        free >= DISK,
        f"{free / 2**30:.0f} GiB free",
        "make room before the disk is full: a validator that cannot write stops",
    )


def _ports(node: Node) -> Iterator[Finding]:
    ports = vars(node.ports) | {"consensus": node.operator.consensus_port, "execution": node.operator.execution_port}
    taken = [f"{name} {port}" for name, port in ports.items() if not port_is_free(port)]
    yield Finding(
        "ports",
        not taken,
        f"in use: {', '.join(taken)}" if taken else "all free",
        "stop what listens there (`ss -ltnp`)",
    )


def _network(node: Node) -> Iterator[Finding]:
    peers = {peer["node_info"]["id"]: peer["node_info"] for peer in node.comet("net_info")["peers"]}
    if port_is_free(node.ports.rpc):
        yield Finding(
            "running", False, "the validator runs, and its geth does not answer",
            "see `chain logs --process geth`; a supervisor should have restarted it",
        )  # fmt: skip
        return
    operators = operators_of(node.web3(), node.network)
    others = [other for other in operators if other != node.operator]
    for other in others:
        yield _peer(other, other.node_id.hex() in peers)
    status = node.comet("status")
    own, before = status["node_info"]["version"], int(status["sync_info"]["latest_block_height"])
    differing = sorted({peer["version"] for peer in peers.values()} - {own})
    yield Finding(
        "versions", not differing, f"CometBFT {own}" + (f"; others run {', '.join(differing)}" if differing else ", as the others"),
        "during an upgrade this is so until the last has done it; else ask the others which version is agreed",
    )  # fmt: skip
    executing = int(call(node.web3(), "net_peerCount"), 16)
    yield Finding(
        "geth peers", executing > 0 or not peers, f"{executing} of {len(others)}",
        "transactions sent here reach no other geth: let the others' addresses through to the execution port, in both firewalls",
    )  # fmt: skip
    time.sleep(CLOCK)
    height = int(node.comet("status")["sync_info"]["latest_block_height"])
    behind = blocks_behind(node.comet_url, height) if height == before else 0
    yield Finding(
        "blocks", height > before, f"height {height}, {height - before} in {CLOCK} s" + (f", {behind} behind" if behind else ""),
        "this node lags: see `chain logs`, disk and memory" if behind else
        "no new blocks: more than 2/3 of the power must be connected; see the peers above and `chain logs`",
    )  # fmt: skip
    if height > before:  # a network that stands still says nothing about clocks
        away = int(block(node.web3(), "latest")["timestamp"], 16) - time.time()
        yield Finding(
            "clock", abs(away) <= CLOCK, f"the newest block is {abs(away):.0f} s {'ahead of' if away > 0 else 'behind'} this clock",
            "set the clock by NTP; a validator whose clock is wrong moves the network's time",
        )  # fmt: skip
    if height > 1:
        yield _signing(node, operators, height - 1)


def _peer(other: Operator, connected: bool) -> Finding:
    if connected:
        return Finding("peer", True, f"{other.name} is connected")
    if _reachable(other.host, other.consensus_port):
        return Finding(
            "peer", False, f"{other.name} answers at {other.host}:{other.consensus_port} and is not connected",
            "compare network.json with its operator's: another key there, or another network",
        )  # fmt: skip
    return Finding(
        "peer", False, f"{other.name} cannot be reached at {other.host}:{other.consensus_port}",
        "ask its operator whether it runs; check both firewalls",
    )  # fmt: skip


def _signing(node: Node, operators: list[Operator], height: int) -> Finding:
    signed = count_signatures(node.comet_url, range(height, height + 1))
    members = members_of(node.comet_url, operators, height)
    absent = [name for name, key, _ in members if address(key) not in signed]
    if is_restored(node.home):
        remedy = f"it comes from a backup and signs nothing yet: ballotboard chain rejoin {node.home}"
    elif node.operator.validator_key not in {key for _, key, _ in members}:
        remedy = "it is not in the validator set: the others must vote for it (`chain add-validator`)"
    else:
        remedy = "this validator does not sign: see `chain logs`; just after a start this is normal"
    return Finding(
        "signing", address(node.operator.validator_key) in signed,
        f"{len(members) - len(absent)} of {len(members)} signed block {height}" + (f"; not {', '.join(absent)}" if absent else ""),
        remedy,
    )  # fmt: skip


def _reachable(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), CONNECT_TIMEOUT).close()
        return True
    except OSError:
        return False
