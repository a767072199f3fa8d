"""anvil, the embedded engine: one process, no consensus; for the demo, the tests, and trying things out.

    with Anvil() as chain:
        chain.fund([account.address])
        board = deploy(chain.web3, account, …)

The process ends with its starter, whatever happens to that: at `stop`, on ^C, and, by the kernel's parent-death signal, even after a
kill -9. That signal follows the *thread* that started the process, so start it from one that lives as long as the chain should.

anvil writes its state file in place, and one that dies while writing leaves half a file (6 of 15 kills with 160 MB of state). So it writes
`STATE.part`, which is renamed twice: to `STATE.next`, so that anvil cannot open it again, and, once it is seen to be complete, to `STATE`.
It is an invariant that `STATE` is a whole dump. After a kill -9 at most STATE_INTERVAL and the time of one dump are lost.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import IO

from web3 import Web3

from chain.errors import ChainError, NodeUnreachable
from chain.evidence import Evidence
from chain.process import free_port, port_is_free, spawn
from chain.rpc import Address, block, call, checksummed, connect, is_anvil
from protocol.manifest import Validator

CHAIN_ID = 31_337
"""anvil's own default: every wallet knows it as a local chain, so nothing signed here is good anywhere else."""

BLOCK_TIME = 1.0
"""Seconds between blocks: chain time follows the clock, and an append is final within a second."""

GAS_LIMIT = 1_000_000_000
"""Gas of a block, as on a network of validators: a block of 8 MiB of ballots fits."""

HARDFORK = "osaka"
"""The newest rules that every supported engine runs; EIP-7825's cap on a transaction's gas is part of it."""

HISTORY = 256
"""Blocks whose state anvil keeps. It would otherwise write every state to the home directory; readers ask for the head's only."""

STATE_INTERVAL = 5
"""Seconds between dumps of the state file: one of 100,000 ballots has 400 MB and takes a second or two of one core."""

START_TIMEOUT, STOP_TIMEOUT = 30.0, 60.0
"""Seconds for reading a state file of a few hundred MB at the start, and for writing it at the end."""

POLL = 0.02
"""Seconds between looks at a process that starts (it takes 30 ms)."""

BALANCE = 10**24
"""Wei for a funded account: a million ether, gas for more transactions than a chain can hold."""

_COMPLETE = b'"historical_states":null}'
"""How a whole dump of anvil 1.7 ends."""


class Anvil:
    """One anvil process on loopback. `url` and `web3` are there after `start`, or inside `with`.

    port         0 takes a free one
    block_time   seconds, or 0 to mine each transaction at once (tests)
    timestamp    time of the first block, in seconds since 1970; default now
    state        a file that keeps the chain from one run to the next

    It is a chain.engine.Engine.
    """

    name, moves_clock, comet_url = "anvil", True, ""

    def __init__(
        self,
        *,
        port: int = 0,
        chain_id: int = CHAIN_ID,
        block_time: float = BLOCK_TIME,
        timestamp: int | None = None,
        state: Path | None = None,
    ) -> None:
        self.port, self.chain_id, self.block_time, self.timestamp, self.state = (
            port,
            chain_id,
            block_time,
            timestamp,
            state,
        )
        self._process: subprocess.Popen[bytes] | None = None
        self._keeper: _StateKeeper | None = None
        self.web3: Web3

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def start(self) -> Anvil:
        """Starts the process and returns when it answers. Raises ChainError: no binary, port in use, unreadable state."""
        binary = find_binary()
        if not self.port:
            self.port = free_port()
        elif not port_is_free(self.port):
            raise ChainError(f"port {self.port} is in use: choose another with --port, or stop what listens there")
        command = [str(binary), *self._options()]
        with tempfile.TemporaryFile() as output:
            self._process = spawn(command, output)
            try:
                self._await(output)
            except BaseException:
                self._process.kill()
                self._process.wait()
                raise
        if self.state:
            self._keeper = _StateKeeper(self.state)
            self._keeper.start()
        return self

    def stop(self) -> None:
        """Ends the process and, with a state file, keeps the chain up to the last block. Does nothing if it has ended."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None
        if self._keeper:
            self._keeper.finish()
            self._keeper = None

    def tend(self) -> None:
        """Raises ChainError if the process has ended by itself."""
        if not self.pid:
            raise ChainError("anvil has ended by itself; start it again")

    def fund(self, accounts: Iterable[Address], wei: int = BALANCE) -> None:
        """Sets the balance of accounts."""
        for account in accounts:
            call(self.web3, "anvil_setBalance", checksummed(account), hex(wei))

    def advance_to(self, timestamp: int) -> None:
        """See `advance_to`."""
        advance_to(self.web3, timestamp)

    def wait_until(self, moment: int, tick: Callable[[int], None] | None = None) -> None:
        """Moves the clock there."""
        self.advance_to(moment)

    def validators(self) -> list[Validator]:
        """None: one process, and nobody signs."""
        return []

    def evidence(self, contract: Address) -> Evidence | None:
        return None

    def kill_one(self) -> bool:
        return False

    def mend(self) -> None:
        pass

    def __enter__(self) -> Anvil:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _options(self) -> list[str]:
        options: dict[str, object] = {
            "--host": "127.0.0.1", "--port": self.port, "--chain-id": self.chain_id, "--accounts": 0, "--hardfork": HARDFORK,
            "--gas-limit": GAS_LIMIT, "--base-fee": 0, "--order": "fifo", "--prune-history": HISTORY,
        }  # fmt: skip
        if self.block_time:
            options["--block-time"] = f"{self.block_time:g}"
        timestamp = self.timestamp
        if self.state:
            self.state.parent.mkdir(parents=True, exist_ok=True)
            _recover(self.state)
            if self.state.exists():
                options["--load-state"] = self.state
                timestamp = self._resume_at(_state_time(self.state))
            options |= {"--dump-state": _beside(self.state, ".part"), "--state-interval": STATE_INTERVAL}
        if timestamp is not None:
            options["--timestamp"] = timestamp
        return ["--quiet", "--enable-tx-gas-limit", *(str(word) for option in options.items() for word in option)]

    def _resume_at(self, saved: int) -> int:
        # Left to itself, anvil continues at the clock's time, and a chain that was advanced would go back in time.
        if self.timestamp is not None and self.timestamp < saved:
            raise ChainError(f"{self.state} ends at time {saved}: a chain cannot go back to {self.timestamp}")
        return max(saved, self.timestamp or int(time.time()))

    def _await(self, output: IO[bytes]) -> None:
        end = time.monotonic() + START_TIMEOUT
        assert self._process
        while True:
            if self._process.poll() is not None:
                raise ChainError(_why(output, self.port))
            if not port_is_free(self.port):
                try:
                    self.web3 = connect(self.url)
                    return
                except NodeUnreachable:
                    pass
            if time.monotonic() > end:
                raise ChainError(f"anvil does not answer on port {self.port} after {START_TIMEOUT:.0f} s")
            time.sleep(POLL)


def advance_to(web3: Web3, timestamp: int) -> None:
    """Moves the chain's time forward: a block with this time is mined and later ones go on from there. A time that has passed changes nothing.

    Raises ChainError on any other engine: only anvil's time can be set.
    """
    if not is_anvil(web3):
        raise ChainError("only anvil's time can be advanced; on this chain wait for the time to come")
    if int(block(web3, "latest")["timestamp"], 16) >= timestamp:
        return
    call(web3, "evm_setNextBlockTimestamp", timestamp)
    call(web3, "evm_mine")


def find_binary() -> Path:
    """anvil: `BALLOTBOARD_ANVIL`, else the checkout's .bin, else PATH. Raises ChainError."""
    named = os.environ.get("BALLOTBOARD_ANVIL")
    candidates = [named] if named else [str(Path(__file__).parent.parent / ".bin" / "anvil"), "anvil"]
    for candidate in candidates:
        if found := shutil.which(candidate):
            return Path(found)
    where = f"at {named} (BALLOTBOARD_ANVIL)" if named else "here"
    raise ChainError(f"there is no anvil {where}: run `make setup` in the checkout, or name one in BALLOTBOARD_ANVIL")


# ---------------------------------------------------------------- the state file


class _StateKeeper(threading.Thread):
    """Promotes anvil's dumps while it runs."""

    def __init__(self, state: Path) -> None:
        super().__init__(name="anvil-state", daemon=True)
        self._state, self._ended = state, threading.Event()

    def run(self) -> None:
        while not self._ended.wait(STATE_INTERVAL / 10):
            _promote(self._state)

    def finish(self) -> None:
        """Promotes the last dump, after the process has ended."""
        self._ended.set()
        self.join()
        if not _recover(self._state):
            raise ChainError(
                f"anvil's last dump is not whole: {self._state} holds the chain as it was some seconds before its end"
            )


def _promote(state: Path) -> None:
    """Makes a complete dump the state file while anvil runs; harmless at any moment.

    A dump that anvil had open when it was renamed becomes complete later, and is looked at again.
    """
    part, following = _beside(state, ".part"), _beside(state, ".next")
    if not following.exists() and part.exists():
        part.replace(following)
    if following.exists() and _is_complete(following):
        following.replace(state)


def _recover(state: Path) -> bool:
    """The same when no anvil runs: the newest whole dump becomes the state file, half ones go. False if the newest was a half one."""
    whole = True
    for dump in (_beside(state, ".next"), _beside(state, ".part")):  # the older first
        if dump.exists():
            whole = _is_complete(dump)
            if whole:
                dump.replace(state)
            else:
                dump.unlink()
    return whole


def _beside(state: Path, suffix: str) -> Path:
    return state.with_name(state.name + suffix)


def _is_complete(dump: Path) -> bool:
    with dump.open("rb") as file:
        if file.seek(0, os.SEEK_END) < len(_COMPLETE):
            return False
        file.seek(-len(_COMPLETE), os.SEEK_END)
        return file.read() == _COMPLETE


def _state_time(state: Path) -> int:
    """The time of the last block, which a dump holds in its first lines."""
    with state.open("rb") as file:
        found = re.search(rb'"timestamp":"0x([0-9a-f]+)"', file.read(4096))
    if not found:
        raise ChainError(f"{state} is not a state file of anvil: name another, or remove it to begin a new chain")
    return int(found[1], 16)


# ---------------------------------------------------------------- the process


def _why(output: IO[bytes], port: int) -> str:
    """One line from what anvil wrote before it ended."""
    output.seek(0)
    text = " ".join(output.read().decode(errors="replace").split())
    if "in use" in text:
        return f"port {port} is in use: choose another with --port, or stop what listens there"
    return f"anvil ended at once: {text[:200] or 'without a word'}"
