"""`ballotboard chain`: a chain of one process to try things out on, and what a node says of itself."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from chain.anvil import BLOCK_TIME, CHAIN_ID, START_TIMEOUT, STOP_TIMEOUT, Anvil, advance_to
from chain.board import Board
from chain.console import ContractOption, JsonOption, emit
from chain.errors import ChainError
from chain.rpc import block, call, checksummed, connect, readable_head
from protocol.errors import BallotboardError

PORT = 8545
"""Where every tool expects a node."""

PID_FILE = Path("chain.pid")
"""Where `up --detach` says what it started, and `down` looks."""

POLL = 0.1
"""Seconds between looks at a process that starts or ends."""

app = typer.Typer(
    no_args_is_help=True, help="Run a chain to try things out on, and look at any chain.", rich_markup_mode=None
)

UrlOption = Annotated[str, typer.Option("--rpc", help="URL of a node.")]
PidOption = Annotated[
    Path | None, typer.Option("--pid-file", help="Write process, URL and chain id here as JSON; removed at the end.")
]


@app.command()
def up(
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1; 0 takes a free one.")] = PORT,
    state: Annotated[Path | None, typer.Option(help="File that keeps the chain from one run to the next.")] = None,
    block_time: Annotated[
        float, typer.Option(min=0, help="Seconds between blocks; 0 mines each transaction at once.")
    ] = BLOCK_TIME,
    timestamp: Annotated[
        int | None, typer.Option(help="Time of the first block, in seconds since 1970; default now.")
    ] = None,
    chain_id: Annotated[int, typer.Option(help="Chain id.")] = CHAIN_ID,
    fund: Annotated[list[str] | None, typer.Option(help="Account that gets gas money; may be repeated.")] = None,
    detach: Annotated[
        bool,
        typer.Option("--detach", help=f"Return when the chain answers, leaving {PID_FILE}; end it with `chain down`."),
    ] = False,
    pid_file: PidOption = None,
) -> None:
    """Run anvil until ^C, or in the background.

    Example: ballotboard chain up --state election.chain --detach
    """
    if detach:
        pid_file = pid_file or PID_FILE
        started = _detach(
            pid_file, port=port, state=state, block_time=block_time, timestamp=timestamp, chain_id=chain_id, fund=fund
        )
        _say(
            f"{started['url']}  chain id {started['chain_id']}  (end it with: ballotboard chain down --pid-file {pid_file})"
        )
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # both end it in good order
    try:
        with Anvil(port=port, chain_id=chain_id, block_time=block_time, timestamp=timestamp, state=state) as chain:
            chain.fund(fund or ())
            _say(f"{chain.url}  chain id {chain_id}  (^C ends it)")
            if pid_file:
                _write_pid_file(pid_file, {"pid": os.getpid(), "url": chain.url, "chain_id": chain_id})
            while chain.pid:
                time.sleep(POLL)
            raise ChainError("anvil has ended by itself; start it again")
    except KeyboardInterrupt:
        pass
    finally:
        if pid_file:
            pid_file.unlink(missing_ok=True)


@app.command()
def down(
    pid_file: Annotated[Path, typer.Option(help="The file that `up` has left.")] = PID_FILE,
) -> None:
    """End a chain that runs in the background.

    Example: ballotboard chain down
    """
    pid = _read_pid_file(pid_file)["pid"]
    if not _is_chain(pid):
        pid_file.unlink()
        raise ChainError(f"the chain of {pid_file} is not running any more; the file is removed")
    os.kill(pid, signal.SIGTERM)
    end = time.monotonic() + STOP_TIMEOUT
    while _is_chain(pid):
        if time.monotonic() > end:
            raise ChainError(f"process {pid} does not end; look at it, or kill it")
        time.sleep(POLL)


@app.command()
def status(
    rpc: UrlOption = f"http://127.0.0.1:{PORT}", contract: ContractOption = None, as_json: JsonOption = False
) -> None:
    """What a node says of itself, and of a board.

    Example: ballotboard chain status --rpc http://127.0.0.1:8545 --contract 0x5FbDB2315678afecb367f032d93F642f64180aa3
    """
    web3 = connect(rpc)
    latest = block(web3, "latest")
    found: dict[str, Any] = {
        "client": call(web3, "web3_clientVersion"),
        "chain_id": int(call(web3, "eth_chainId"), 16),
        "block": int(latest["number"], 16),
        "final_block": readable_head(web3),
        "time": int(latest["timestamp"], 16),
    }
    if contract:
        board = Board(web3, contract)
        head = board.head()
        found["board"] = {
            "contract": checksummed(contract),
            "election": board.election_id().hex(),
            "phase": board.phase().name.lower(),
            "records": head.size,
            "root": head.root.hex(),
            "close_time": board.close_time(),
            "certified": board.certified(),
        }
    if as_json:
        emit(found)
        return
    for name, value in (found | found.pop("board", {})).items():
        typer.echo(f"{name.replace('_', ' '):<12} {value}")


@app.command()
def advance(
    to: Annotated[int, typer.Option(help="Time that the next block shall have, in seconds since 1970.")],
    rpc: UrlOption = f"http://127.0.0.1:{PORT}",
) -> None:
    """Move the time of an anvil chain forward, to try out what an election does later.

    Example: ballotboard chain advance --to 1900000000
    """
    web3 = connect(rpc)
    advance_to(web3, to)
    _say(f"the chain's time is {int(block(web3, 'latest')['timestamp'], 16)}")


def _say(text: str) -> None:
    """One line on standard error, never wrapped."""
    typer.echo(text, err=True)


# ---------------------------------------------------------------- in the background


def _detach(pid_file: Path, **options: Any) -> dict[str, Any]:
    """Starts `chain up` in a session of its own and waits until it has written the pid file."""
    if pid_file.exists() and _is_chain(_read_pid_file(pid_file)["pid"]):
        raise ChainError(
            f"{pid_file} says that a chain is running: end it with `chain down`, or name another --pid-file"
        )
    pid_file.unlink(missing_ok=True)
    words = [sys.executable, "-m", "chain.cli", "up", "--pid-file", str(pid_file)]
    for account in options.pop("fund") or ():
        words += ["--fund", account]
    for name, value in options.items():
        if value is not None:
            words += [f"--{name.replace('_', '-')}", str(value)]
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
        end = time.monotonic() + START_TIMEOUT
        while not pid_file.exists():
            if process.poll() is not None or time.monotonic() > end:
                process.terminate()
                output.seek(0)
                raise ChainError(
                    output.read().decode(errors="replace").strip().removeprefix("error: ") or "the chain did not start"
                )
            time.sleep(POLL)
    return _read_pid_file(pid_file)


def _write_pid_file(path: Path, content: dict[str, Any]) -> None:
    """At once or not at all: its reader waits for it to appear."""
    temporary = path.with_name(path.name + ".new")
    temporary.write_text(json.dumps(content) + "\n")
    temporary.replace(path)


def _read_pid_file(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
        return {"pid": int(content["pid"]), "url": str(content["url"]), "chain_id": int(content["chain_id"])}
    except FileNotFoundError as error:
        raise ChainError(f"there is no {path}: nothing was started here with --detach") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ChainError(f"{path} is not a pid file of `chain up --detach`") from error


def _is_chain(pid: int) -> bool:
    """Whether this process is a `chain up`: a number in a file may be another process's by now."""
    try:
        return re.search(rb"\0chain(\.cli)?\0up\0", Path(f"/proc/{pid}/cmdline").read_bytes()) is not None
    except OSError:
        return False


if __name__ == "__main__":
    try:
        app()
    except BallotboardError as error:
        _say(f"error: {error}")
        sys.exit(2)
