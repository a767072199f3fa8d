"""`ballotboard registrar`: the roll offline, its publication, and the replacement of a card; a thin layer over authority.registrar."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from authority.config import CONFIG_FILE, read_config
from authority.registrar import (
    CARDS_FILE,
    HANDOUT_FILE,
    ROLL_FILE,
    RollError,
    make_roll,
    publish_roll,
    read_voters,
    replace_card,
    save_roll,
)
from chain.console import (
    BoardOption,
    ContractOption,
    JsonOption,
    PassphraseOption,
    RpcOption,
    connection,
    emit,
    note,
    passphrase,
    progress,
)
from chain.keys import load_account
from chain.rpc import connect
from protocol.errors import BallotboardError

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None,
    help="Turn the electoral roll into credentials.\n\nStart with: ballotboard registrar roll voters.csv --out roll",
)  # fmt: skip

KeyOption = Annotated[Path, typer.Option("--key", help="The registrar's key file.")]


@app.command()
def roll(
    voters: Annotated[
        Path, typer.Argument(help="CSV with a header: id,unit or id,unit,style. Ids say nothing to others; no names.")
    ],
    out: Annotated[Path, typer.Option("--out", help="A new folder for the roll and the cards.")],
    config: Annotated[Path, typer.Option("--config", help="The election's file, for the names of units.")] = Path(
        CONFIG_FILE
    ),
    as_json: JsonOption = False,
) -> None:
    """Make a secret code for every voter and the public roll of keys. Needs no network: do it on a machine that has none.

    Example: ballotboard registrar roll voters.csv --config trial/election.toml --out trial/roll
    """
    election = read_config(config)
    try:
        found = read_voters(voters, election)
    except RollError as error:
        for problem in error.problems:
            typer.echo(problem)
        raise BallotboardError(f"{voters}: {len(error.problems)} lines are wrong; nothing was written") from error
    with progress("credentials", len(found)) as advance:
        issue = make_roll(found, election.units, progress=advance)
    summary = save_roll(issue, found, election.units, out)
    if as_json:
        emit(summary)
        return
    for unit in summary["units"]:
        typer.echo(f"{unit['voters']:>9,}  {unit['name']}")
    typer.echo(f"{summary['count']:>9,}  voters; root {summary['root']}")
    note(
        f"{out / ROLL_FILE} is public. {out / CARDS_FILE} holds the codes: for the printing house, then destroyed. {out / HANDOUT_FILE} says whose"
        " card is whose: it stays in this room. Next: ballotboard registrar publish"
    )


@app.command()
def publish(
    folder: Annotated[Path, typer.Argument(help="The folder that `registrar roll` made.")],
    key: KeyOption,
    board: BoardOption = None, rpc: RpcOption = None, contract: ContractOption = None,
    passphrase_file: PassphraseOption = None, as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Publish roll.bin and put the roll on the record. After a crash, run it again.

    Example: ballotboard registrar publish trial/roll --key trial/keys/registrar.json
    """
    found = connection(board, rpc, contract)
    account = load_account(key, passphrase(passphrase_file))
    record, position = publish_roll(connect(found.rpc), found.contract, account, folder)
    if as_json:
        emit({"position": position, "count": record.count, "root": record.root.hex(), "sha256": record.sha256.hex()})
        return
    note(f"{record.count:,} voters are on the record (record {position}); root {record.root.hex()}")


@app.command()
def replace(
    roll_index: Annotated[int, typer.Argument(help="The roll index on the lost card.")],
    key: KeyOption,
    cosigner: Annotated[Path, typer.Option(help="The cosigner's key file: a second institution agrees to every change of the roll.")],
    reason: Annotated[str, typer.Option(help="Why; it goes on the record, so no names.")],
    out: Annotated[Path, typer.Option("--out", help="A new file for the new card.")],
    board: BoardOption = None, rpc: RpcOption = None, contract: ContractOption = None,
    passphrase_file: PassphraseOption = None,
    cosigner_passphrase_file: Annotated[Path | None, typer.Option(help="The same for the cosigner's key; default: as for the registrar's.")] = None,
    as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Revoke a lost card and make a new one. Ballots of the old card do not count any more.

    Example: ballotboard registrar replace 17 --key registrar.json --cosigner cosigner.json --reason "card lost" --out card.csv
    """
    found = connection(board, rpc, contract)
    first = load_account(key, passphrase(passphrase_file))
    second = load_account(cosigner, passphrase(cosigner_passphrase_file or passphrase_file))
    card = replace_card(connect(found.rpc), found.contract, first, second, roll_index, reason, out)
    if as_json:
        emit({"roll_index": card.roll_index, "serial": card.serial, "revoked": roll_index})
        return
    note(f"row {roll_index} is revoked; {out} holds the new card, serial {card.serial}, roll index {card.roll_index}")
