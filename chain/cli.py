"""`ballotboard chain`: a chain of one process to try things out on, and what a node says of itself."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from web3 import Web3

from chain.anvil import BLOCK_TIME, CHAIN_ID, START_TIMEOUT, STOP_TIMEOUT, Anvil, advance_to
from chain.background import detach as run_in_background
from chain.background import end, write_pid_file
from chain.board import Board
from chain.console import BoardOption, ContractOption, JsonOption, RpcOption, connection, emit, print_time
from chain.engine import Engine
from chain.errors import ChainError
from chain.network.cli import COMMANDS
from chain.network.local import FIRST_BLOCK, LocalNetwork
from chain.network.node import Node
from chain.network.status import consensus, operators_of
from chain.rpc import block, call, checksummed, connect, is_anvil, readable_head
from protocol.errors import BallotboardError
from protocol.manifest import WINDOW_NAMES

PORT = 8545
"""Where every tool expects a node."""

NETWORK = Path("network")
"""Where `up --validators` keeps its folders."""

PID_FILE = Path("chain.pid")
"""Where `up --detach` says what it started, and `down` looks."""

MOMENTS = tuple(name for name in WINDOW_NAMES if name != "append_grace")
"""Windows of an election that are moments; the grace is a duration."""

POLL = 0.1
"""Seconds between looks at a process that starts or ends."""

app = typer.Typer(
    no_args_is_help=True, help="Run a chain to try things out on, and look at any chain.", rich_markup_mode=None
)

PidOption = Annotated[
    Path | None, typer.Option("--pid-file", help="Write process, URL and chain id here as JSON; removed at the end.")
]


@app.command()
def up(
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1; 0 takes a free one.")] = PORT,
    state: Annotated[
        Path | None,
        typer.Option(
            help=f"File that keeps anvil's chain from one run to the next; or the validators' folder ({NETWORK})."
        ),
    ] = None,
    validators: Annotated[
        int, typer.Option(min=0, help="Run a network of this many validators instead; 4 go on without one.")
    ] = 0,
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
    """Run anvil, or a network of validators on this machine, until ^C, or in the background.

    Example: ballotboard chain up --validators 4 --detach
    """
    if detach:
        pid_file = pid_file or PID_FILE
        words = _words(
            port=port, state=state, block_time=block_time, timestamp=timestamp, chain_id=chain_id, fund=fund, validators=validators or None
        )  # fmt: skip
        started = run_in_background(pid_file, ["up", *words], START_TIMEOUT + FIRST_BLOCK)
        _say(
            f"{started['url']}  chain id {started['chain_id']}  (end it with: ballotboard chain down --pid-file {pid_file})"
        )
        return
    engine: Engine
    if validators:
        if timestamp is not None or block_time != BLOCK_TIME:
            raise ChainError("validators keep the real time and their own pace: leave --timestamp and --block-time out")
        engine = LocalNetwork(state or NETWORK, validators, chain_id=chain_id, port=port, fund=fund or ())
    else:
        engine = Anvil(port=port, chain_id=chain_id, block_time=block_time, timestamp=timestamp, state=state)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # both end it in good order
    try:
        with engine as chain:
            chain.fund(fund or ())
            _say(f"{chain.url}  chain id {chain_id}  (^C ends it)")
            if pid_file:
                write_pid_file(pid_file, chain.url, chain_id)
            while True:
                chain.tend()
                time.sleep(POLL)
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
    end(pid_file, STOP_TIMEOUT)


@app.command()
def status(
    home: Annotated[Path | None, typer.Argument(help="An operator's folder, instead of --rpc and --comet.")] = None,
    rpc: Annotated[str | None, typer.Option("--rpc", help=f"URL of a node; default port {PORT} here.")] = None,
    comet: Annotated[str | None, typer.Option("--comet", help="URL of a validator's CometBFT RPC.")] = None,
    contract: ContractOption = None,
    as_json: JsonOption = False,
) -> None:
    """What a node says of itself, of the validators, and of a board.

    Example: ballotboard chain status node --contract 0x5FbDB2315678afecb367f032d93F642f64180aa3
    """
    node = Node(home) if home else None
    if node and (rpc or comet):
        raise ChainError(f"{home} says where its node is: leave --rpc and --comet out")
    web3 = connect(node.url if node else rpc or f"http://127.0.0.1:{PORT}")
    found = _chain_status(web3)
    comet = node.comet_url if node else comet
    if comet:
        found["consensus"] = consensus(comet, operators_of(web3, node.network if node else None)).value()
    elif is_anvil(web3):
        found["consensus"] = None
    if contract:
        found["board"] = _board_status(Board(web3, contract))
    if as_json:
        emit(found)
    else:
        _print_status(found)


@app.command()
def advance(
    to: Annotated[str, typer.Option(help=f"Seconds since 1970, or a window of the election: {', '.join(MOMENTS)}.")],
    board: BoardOption = None,
    rpc: RpcOption = None,
    contract: ContractOption = None,
) -> None:
    """Move the time of an anvil chain forward, to try out what an election does later.

    Example: ballotboard chain advance --to close
    """
    if to.isdecimal():
        web3, moment = connect(rpc or f"http://127.0.0.1:{PORT}"), int(to)
    elif to in MOMENTS:
        where = connection(board, rpc, contract)
        web3 = connect(where.rpc)
        seen = Board(web3, where.contract)
        moment = seen.close_time() if to == "close" else getattr(seen.windows(), to)
    else:
        raise ChainError(f"--to {to}: give seconds since 1970, or one of {', '.join(MOMENTS)}")
    advance_to(web3, moment)
    _say(f"the chain's time is {print_time(int(block(web3, 'latest')['timestamp'], 16))}")


for command in COMMANDS:
    app.command()(command)


def _chain_status(web3: Web3) -> dict[str, Any]:
    latest = block(web3, "latest")
    return {
        "engine": "anvil" if is_anvil(web3) else "cometbft",
        "client": call(web3, "web3_clientVersion"),
        "chain_id": int(call(web3, "eth_chainId"), 16),
        "block": int(latest["number"], 16),
        "final_block": readable_head(web3),
        "time": int(latest["timestamp"], 16),
    }


def _board_status(board: Board) -> dict[str, Any]:
    head = board.head()
    return {
        "contract": checksummed(board.address),
        "election": board.election_id().hex(),
        "phase": board.phase().name.lower(),
        "records": head.size,
        "root": head.root.hex(),
        "close_time": board.close_time(),
        "certified": board.certified(),
    }


def _print_status(found: dict[str, Any]) -> None:
    lines = {name: value for name, value in found.items() if name not in ("consensus", "board")}
    seen = found.get("consensus", "unknown")
    members: list[dict[str, Any]] = []
    if seen is None:
        lines["validators"] = "none: anvil is one process without consensus, and nobody signs"
    elif seen == "unknown":
        lines["validators"] = "not asked: say --comet URL, or an operator's folder"
    else:
        members, total = seen["members"], seen["total_power"]
        lines["consensus"] = f"CometBFT {seen['version']}" + (", catching up" if seen["catching_up"] else "")
        lines["last block"] = f"{seen['height']}, {seen['age']:.0f} s ago; {seen['behind']} blocks behind the others"
        lines["peers"] = seen["peers"]
        lines["validators"] = f"{len(members)} with power {total}; more than 2/3 are {2 * total // 3 + 1}"
    for name, value in (lines | found.get("board", {})).items():
        typer.echo(f"{name.replace('_', ' '):<12} {value}")
    for each in members:
        link = {True: "connected", False: "not connected", None: ""}[each["connected"]]
        signed = f"signed {each['signed']} of the last {seen['window']} blocks"
        typer.echo(f"  {each['name']:<16} power {each['power']:<4} {signed}  {link}".rstrip())


def _say(text: str) -> None:
    """One line on standard error, never wrapped."""
    typer.echo(text, err=True)


def _words(**options: Any) -> list[str]:
    """Options as they are typed; those that are None are left out, lists repeated."""
    found = []
    for name, value in options.items():
        for item in value if isinstance(value, list) else [] if value is None else [value]:
            found += [f"--{name.replace('_', '-')}", str(item)]
    return found


if __name__ == "__main__":
    try:
        app()
    except BallotboardError as error:
        _say(f"error: {error}")
        sys.exit(2)
