"""What every command shares: how it finds the board, shows progress, prints, and fails.

A command raises BallotboardError for anything a person can act on; `scripts.cli.main` prints it as one line and exits 2.
Human output goes to standard error through `note`, results to standard output, so that `--json` can be piped.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from protocol.errors import BallotboardError

BOARD_FILE = "board.json"
"""Where `election publish` leaves the connection and every other command looks for it."""

PASSPHRASE_VARIABLE = "BALLOTBOARD_PASSPHRASE"

screen = Console(stderr=True, highlight=False)

BoardOption = Annotated[Path | None, typer.Option("--board", help="Connection file; default: board.json here.")]
RpcOption = Annotated[str | None, typer.Option("--rpc", help="URL of a node, instead of the connection file's.")]
ContractOption = Annotated[str | None, typer.Option("--contract", help="Address of the board contract.")]
CometOption = Annotated[
    str | None, typer.Option("--comet", help="URL of a validator's CometBFT RPC, instead of the connection file's.")
]
HoldersOption = Annotated[
    list[str] | None,
    typer.Option("--holder", help="URL of a data holder (repeat it), for ballots whose hashes alone are on the chain."),
]
RelayerOption = Annotated[
    list[str] | None,
    typer.Option(
        "--relayer",
        help="URL of a relayer (repeat it) that sends it and pays; default: those of the connection file.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]
PassphraseOption = Annotated[
    Path | None,
    typer.Option("--passphrase-file", help=f"File with the passphrase; else {PASSPHRASE_VARIABLE}, else it is asked."),
]


@dataclass
class Connection:
    """Where a board is: node URL, contract address (0x…), election id (hex, may be empty), relayer and board URLs; where the chain has
    validators the URL of a CometBFT RPC, for their signatures; where it has ballots' hashes only the URLs of data holders, for the ballots."""

    rpc: str
    contract: str
    election: str = ""
    relayers: list[str] = field(default_factory=list)
    boards: list[str] = field(default_factory=list)
    comet: str = ""
    holders: list[str] = field(default_factory=list)

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), indent=2) + "\n")

    @property
    def contract_bytes(self) -> bytes:
        return bytes.fromhex(self.contract.removeprefix("0x"))


def connection(
    board: Path | None = None,
    rpc: str | None = None,
    contract: str | None = None,
    comet: str | None = None,
    holders: list[str] | None = None,
) -> Connection:
    """The connection from a file, with the given parts replaced. Raises BallotboardError when a part is missing."""
    path = board or Path(BOARD_FILE)
    found = Connection(rpc="", contract="")
    if path.exists():
        try:
            found = Connection(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError) as error:
            raise BallotboardError(f"{path} is not a connection file: {error}") from error
    elif board:
        raise BallotboardError(f"there is no file {board}")
    found.rpc, found.contract, found.comet = rpc or found.rpc, contract or found.contract, comet or found.comet
    found.holders = holders or found.holders
    if not found.rpc or not found.contract:
        raise BallotboardError(
            f"say which board: --rpc URL --contract ADDRESS, or --board FILE (default ./{BOARD_FILE})"
        )
    address = found.contract.removeprefix("0x")
    if len(address) != 40 or any(c not in "0123456789abcdefABCDEF" for c in address):
        raise BallotboardError(f"{found.contract} is not a contract address: 0x and 40 hex digits")
    return found


def passphrase(file: Path | None, confirm: bool = False) -> str:
    """The passphrase from a file, the environment, or the keyboard."""
    if file:
        try:
            return file.read_text().rstrip("\n")
        except OSError as error:
            raise BallotboardError(f"cannot read the passphrase file {file}: {error.strerror}") from error
    if PASSPHRASE_VARIABLE in os.environ:
        return os.environ[PASSPHRASE_VARIABLE]
    return str(typer.prompt("passphrase", hide_input=True, confirmation_prompt=confirm, err=True))


def read_bytes(path: Path) -> bytes:
    """A file that a person named. Raises BallotboardError where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise BallotboardError(f"cannot read {path}: {error.strerror}") from error


def note(text: str) -> None:
    """A line for the person at the terminal, on standard error."""
    screen.print(text, markup=False, soft_wrap=True)


def print_time(seconds: int) -> str:
    """A time of the chain in this machine's zone, for people."""
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")


def emit(value: Any) -> None:
    """The result of a command as one JSON object, on standard output."""
    typer.echo(json.dumps(value, ensure_ascii=False))


@contextmanager
def progress(title: str, total: int | None, quiet: bool = False) -> Iterator[Any]:
    """A progress bar on standard error; yields `advance(done)` taking the absolute number done so far."""
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(bar_width=14), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(), TimeRemainingColumn(), console=screen, disable=quiet, transient=False,
    )  # fmt: skip
    with bar:
        task = bar.add_task(title, total=total, rate="")

        def advance(done: int, of: int | None = None) -> None:
            elapsed = bar.tasks[0].elapsed or 0
            bar.update(
                task, completed=done, total=of or total, rate=f"{done / elapsed:,.0f}/s" if elapsed > 0.2 else ""
            )

        yield advance
