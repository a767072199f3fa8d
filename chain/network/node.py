"""One operator's node: a validator and its geth, two processes on this machine, from one folder (chain.network.operator).

`start` gives both; `tend`, called again and again, restarts what has ended, as systemd would. Any moment is safe for any of them to die:
chain/validator/app says why.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import requests
from web3 import Web3

from chain.errors import ChainError, NodeUnreachable
from chain.network import operator
from chain.network.genesis import GAS_LIMIT, Network, comet_genesis, evm_genesis
from chain.process import port_is_free, spawn
from chain.rpc import connect

START_TIMEOUT = 60.0
"""Seconds for geth to open a large chain."""

STOP_TIMEOUT = 60.0
"""Seconds for geth to write its caches at the end."""

POLL = 0.05
"""Seconds between looks at a process that starts or ends."""

FIRST_PAUSE, LAST_PAUSE = 1.0, 30.0
"""Seconds before a process that has ended is started again; doubled each time, until it has run for LAST_PAUSE."""

OLDEST_GETH = (1, 16)
"""The first with the Osaka rules."""

DIVERGED = 3
"""Exit status of a validator that found a decided block invalid: restarting would find the same."""

RPC_TIMEOUT = 10.0
"""Seconds for an answer of CometBFT's RPC."""

GETH_OPTIONS = (
    # Every state on disk and no unwritten layers: the path scheme goes back to genesis after a kill -9.
    "--state.scheme", "hash", "--gcmode", "archive", "--syncmode", "full", "--cache", "128",
    # The only peers are in geth.toml; they pass transactions on, blocks come from the validator.
    "--nodiscover", "--nat", "none",
    "--http", "--http.addr", "127.0.0.1", "--http.api", "eth,net,web3,txpool", "--authrpc.addr", "127.0.0.1",
    # Gas has no price worth naming: a tip of 1 wei is the least that the pool takes.
    "--miner.gaslimit", str(GAS_LIMIT), "--miner.gasprice", "1", "--txpool.pricelimit", "1", "--rpc.txfeecap", "0",
    # A relayer's burst waits in the pool; its transactions are 96 KiB each.
    "--txpool.accountslots", "1024", "--txpool.globalslots", "8192", "--txpool.accountqueue", "1024", "--txpool.globalqueue", "8192",
    "--miner.recommit", "500ms", "--verbosity", "2", "--log.format", "json",
)  # fmt: skip


class Node:
    """The node of the operator whose folder is `home`; the folder must have joined a network (`join`)."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.operator, self.ports = operator.load(home)
        self.network = _read_network(home / "network.json")
        self.processes: dict[str, subprocess.Popen[bytes] | None] = {"geth": None, "validator": None}
        self._started = dict.fromkeys(self.processes, 0.0)
        self._pause = dict.fromkeys(self.processes, FIRST_PAUSE)

    @property
    def url(self) -> str:
        """geth's JSON-RPC: what every tool connects to."""
        return f"http://127.0.0.1:{self.ports.rpc}"

    @property
    def comet_url(self) -> str:
        """CometBFT's RPC: what evidence is collected from."""
        return f"http://127.0.0.1:{self.ports.comet}"

    def web3(self) -> Web3:
        return connect(self.url)

    def start(self) -> None:
        """Starts geth, and the validator as soon as geth answers. Raises ChainError: a port in use, no binary, one too old, no answer."""
        ports = vars(self.ports) | {
            "consensus": self.operator.consensus_port,
            "execution": self.operator.execution_port,
        }
        for name, port in ports.items():
            if not port_is_free(port):
                raise ChainError(
                    f"the {name} port {port} is in use: stop what listens there, or change it in {self.home}"
                )
        require_geth()
        try:
            self.start_process("geth")
            self.await_geth()
            self.start_process("validator")
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """Ends both in good order, the validator first."""
        end([self], "validator")
        end([self], "geth")

    def kill(self, *names: str) -> None:
        """kill -9, of both or of the one that is named."""
        for name in names or self.processes:
            process = self.processes[name]
            if process is not None:
                process.send_signal(signal.SIGKILL)
                process.wait()
                self.processes[name] = None

    def tend(self) -> None:
        """Starts again what has ended, after a pause. Raises ChainError for a validator that must not be restarted."""
        now = time.monotonic()
        for name, process in self.processes.items():
            if process is None:
                continue
            status = process.poll()
            if status is None:
                if now - self._started[name] > LAST_PAUSE:
                    self._pause[name] = FIRST_PAUSE
                continue
            if name == "validator" and status == DIVERGED:
                raise ChainError(
                    f"the validator of {self.operator.name} refuses a block that the others decided: see {self.home / 'logs'}"
                    " and docs/operators.md"
                )
            if now - self._started[name] >= self._pause[name]:
                self._pause[name] = min(2 * self._pause[name], LAST_PAUSE)
                self.start_process(name)

    def start_process(self, name: str) -> None:
        """Starts geth or the validator and does not wait for it."""
        command = self._geth_command() if name == "geth" else self._validator_command()
        with (self.home / "logs" / f"{name}.log").open("ab") as log:
            self.processes[name] = spawn(command, log)
        self._started[name] = time.monotonic()

    def await_geth(self) -> None:
        """Returns when geth answers."""
        end = time.monotonic() + START_TIMEOUT
        process = self.processes["geth"]
        while process is not None and process.poll() is None and time.monotonic() < end:
            if not port_is_free(self.ports.rpc):
                try:
                    self.web3()
                    return
                except NodeUnreachable:
                    pass
            time.sleep(POLL)
        raise ChainError(f"geth does not answer: the end of {self.home / 'logs' / 'geth.log'} says why")

    def comet(self, method: str, **parameters: str) -> dict[str, Any]:
        """The result of a call to CometBFT's RPC. See `comet_call`."""
        return comet_call(self.comet_url, method, **parameters)

    def commands(self, home: Path, geth: Path, validator: Path) -> tuple[list[str], list[str]]:
        """What another supervisor runs as geth and as validator: the same, with the folder and the programs where that one sees them."""
        return self._geth_command(home, geth), self._validator_command(home, validator)

    def _geth_command(self, home: Path | None = None, geth: Path | None = None) -> list[str]:
        home, others = home or self.home, len(self.network.validators) - 1
        return [
            str(geth or find_binary("geth")), "--config", str(home / "geth.toml"), "--datadir", str(home / "geth"),
            "--networkid", str(self.network.chain_id), "--maxpeers", str(others),
            "--http.port", str(self.ports.rpc), "--authrpc.port", str(self.ports.engine), "--authrpc.jwtsecret", str(home / "jwt.hex"),
            *GETH_OPTIONS,
        ]  # fmt: skip

    def _validator_command(self, home: Path | None = None, validator: Path | None = None) -> list[str]:
        home = home or self.home
        peers = [other for other, _ in self.network.validators if other != self.operator]
        one_host = len({other.host for other, _ in self.network.validators}) < len(self.network.validators)
        return [
            str(validator or find_binary("validator")), "-home", str(home), "-engine", f"http://127.0.0.1:{self.ports.engine}",
            "-ipc", str(home / "geth" / "geth.ipc"), "-jwt", str(home / "jwt.hex"),
            "-p2p", f"tcp://{self.operator.listen}:{self.operator.consensus_port}", "-rpc", f"tcp://127.0.0.1:{self.ports.comet}",
            "-metrics", f"127.0.0.1:{self.ports.metrics}", "-peers", ",".join(other.peer for other in peers),
            *(["-one-host"] if one_host else []),
        ]  # fmt: skip


def end(nodes: Sequence[Node], name: str) -> None:
    """Ends the geths, or the validators, of some nodes together, in good order."""
    running = [process for node in nodes if (process := node.processes[name])]
    for process in running:
        process.terminate()
    for process in running:
        try:
            process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    for node in nodes:
        node.processes[name] = None


def join(home: Path, network: Network, listed: bool = True) -> None:
    """Gives an operator's folder its network: writes what follows from the network file, and initialises geth.

    Doing it again with the same network changes nothing. Raises ChainError, and writes nothing, if the operator is not a validator of it
    (unless it need not be `listed`, since it will be voted in: chain.network.changes), or the folder belongs to another network.
    """
    own, _ = operator.load(home)
    if listed and own not in [validator for validator, _ in network.validators]:
        raise ChainError(
            f"the network does not list {own.name} with the keys and addresses of {home}: compare operator.json with what was collected;"
            " where the others vote you in later, begin with `chain join-network`"
        )
    path = home / "network.json"
    if path.exists():
        if path.read_bytes() != network.body:
            raise ChainError(
                f"wrong genesis: {home} belongs to network {_read_network(path).id.hex()[:16]}, and this is {network.id.hex()[:16]};"
                " compare the network files"
            )
        return
    geth = require_geth()
    enodes = json.dumps([other.enode for other, _ in network.validators if other != own])
    listen = f'ListenAddr = "{own.listen}:{own.execution_port}"'  # --port would listen everywhere
    peers = f"DialRatio = 1\nStaticNodes = {enodes}\nTrustedNodes = {enodes}\n"
    (home / "geth.toml").write_text(f"[Node.P2P]\n{listen}\n{peers}")
    (home / "geth.genesis.json").write_text(json.dumps(evm_genesis(network), indent=1))
    (home / "config" / "genesis.json").write_text(json.dumps(comet_genesis(network), indent=1))
    done = subprocess.run(
        [str(geth), "--datadir", str(home / "geth"), "--verbosity", "1", "init", "--state.scheme", "hash", str(home / "geth.genesis.json")],
        capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
        raise ChainError(f"geth refuses the genesis: {' '.join(done.stderr.split())[:200]}")
    path.write_bytes(network.body)  # last: its being there means that all of the above was done


def find_binary(name: str) -> Path:
    """geth or the validator: `BALLOTBOARD_GETH` or `BALLOTBOARD_VALIDATOR`, else the checkout's .bin, else PATH. Raises ChainError."""
    variable = f"BALLOTBOARD_{name.upper()}"
    named = os.environ.get(variable)
    candidates = [named] if named else [str(Path(__file__).parents[2] / ".bin" / name), name]
    for candidate in candidates:
        if found := shutil.which(candidate):
            return Path(found)
    raise ChainError(f"there is no {name} here: run `make validator` in the checkout, or name one in {variable}")


def require_geth() -> Path:
    """geth, if it is one and new enough. Raises ChainError."""
    binary = find_binary("geth")
    if geth_version(binary)[:2] < OLDEST_GETH:
        found = ".".join(map(str, geth_version(binary)))
        raise ChainError(
            f"geth {found} is too old, it lacks the Osaka rules: install {OLDEST_GETH[0]}.{OLDEST_GETH[1]} or later"
        )
    return binary


def geth_version(binary: Path) -> tuple[int, ...]:
    """Three numbers, from geth itself. Raises ChainError if it is none."""
    try:
        said = subprocess.run([str(binary), "version"], capture_output=True, text=True).stdout
    except OSError:
        said = ""
    found = re.search(r"^Version: (\d+)\.(\d+)\.(\d+)", said, re.M)
    if not found:
        raise ChainError(f"{binary} is no geth: run `make validator`, or name one in BALLOTBOARD_GETH")
    return tuple(int(number) for number in found.groups())


def comet_call(url: str, method: str, **parameters: str) -> dict[str, Any]:
    """The result of one call to a CometBFT RPC. Raises NodeUnreachable without an answer, ChainError for an error answer."""
    try:
        answer = requests.get(f"{url}/{method}", params=parameters, timeout=RPC_TIMEOUT).json()
    except (requests.RequestException, ValueError) as error:
        raise NodeUnreachable(f"no answer from {url}: is the validator running?") from error
    if not isinstance(answer, dict) or "result" not in answer:
        why = answer.get("error", {}) if isinstance(answer, dict) else {}
        raise ChainError(f"the validator refuses {method}: {why.get('data') or why.get('message') or 'without a word'}")
    return answer["result"]


def _read_network(path: Path) -> Network:
    try:
        return Network.parse(path.read_bytes())
    except FileNotFoundError as error:
        raise ChainError(f"{path.parent} belongs to no network yet: start it with --network FILE") from error
