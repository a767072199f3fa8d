"""`ballotboard receipt`: a receipt in a form that fits on paper or a phone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from chain.console import JsonOption, emit, note, read_bytes
from protocol.errors import BallotboardError
from protocol.receipt import CompactReceipt
from verifier import pictures, receipts

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="A voter's receipt in a form that fits on paper or a phone."
)


@app.callback()
def root() -> None:
    """A voter's receipt in a form that fits on paper or a phone."""


@app.command()
def qr(
    file: Annotated[Path, typer.Argument(help="The receipt.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="Picture to write: .svg, .png or .pdf; default: the code as text.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Draw a receipt as a QR code. It proves as much as the file without holding the ballot, and never shows a choice.

    Example: ballotboard receipt qr receipt.json --out receipt.svg
    """
    receipt = receipts.read_file(read_bytes(file)).receipt
    receipt.check()
    code = (receipt if isinstance(receipt, CompactReceipt) else receipt.compact()).code()
    if out:
        kind = out.suffix.lower().removeprefix(".")
        if kind not in pictures.KINDS:
            raise BallotboardError(f"{out}: end the name in .{', .'.join(pictures.KINDS)}")
        try:
            out.write_bytes(pictures.draw(code, kind, f"Receipt of ballot {receipt.ballot_hash.hex()}"))
        except OSError as error:
            raise BallotboardError(f"cannot write {out}: {error.strerror}") from error
        note(f'{out}: check it with `ballotboard verify receipt`, or on any bulletin board under "Find my ballot"')
    if as_json:
        emit({"ballot": receipt.ballot_hash.hex(), "code": code, "file": str(out) if out else None})
    elif not out:
        typer.echo(code)
