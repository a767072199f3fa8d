"""`ballotboard keys`: a role's key, made where it is used."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from chain.console import JsonOption, PassphraseOption, emit, note, passphrase
from chain.keys import address_of, new_account
from chain.rpc import checksummed
from protocol.errors import BallotboardError

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Make and show role keys.")


@app.command()
def new(
    out: Annotated[Path, typer.Option("--out", help="A new file for the key.")],
    passphrase_file: PassphraseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a key, encrypted with a passphrase, and print its address: all that the authority needs.

    Example: ballotboard keys new --out my.key
    """
    secret = passphrase(passphrase_file, confirm=True)
    if not secret:
        raise BallotboardError("the passphrase is empty: choose one of several words")
    address = new_account(out, secret).address
    if as_json:
        emit({"address": address, "file": str(out)})
        return
    note(f"{out}: keep it, and its passphrase, to yourself. The address, to be sent to the authority:")
    typer.echo(address)


@app.command()
def show(file: Annotated[Path, typer.Argument(help="A key file.")], as_json: JsonOption = False) -> None:
    """Print the address of a key file.

    Example: ballotboard keys show my.key
    """
    address = checksummed(address_of(file))
    if as_json:
        emit({"address": address, "file": str(file)})
    else:
        typer.echo(address)
