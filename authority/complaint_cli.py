"""`ballotboard complain`: any role says on the record what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from authority.actions import chain_time
from authority.complaint import check_place, examine
from chain.board import Board
from chain.carrier import Carrier
from chain.console import (
    BoardOption,
    ContractOption,
    JsonOption,
    PassphraseOption,
    RelayerOption,
    RpcOption,
    connection,
    emit,
    note,
    passphrase,
)
from chain.keys import address_of, load_account
from chain.rpc import checksummed, connect
from chain.writer import Writer
from protocol.complaints import CLASSES, make
from protocol.errors import BallotboardError
from protocol.records import Kind


def complain(
    cls: Annotated[
        str, typer.Argument(metavar="CLASS", help="; ".join(f"{name}: {words}" for name, words in CLASSES.items()) + ".")
    ],
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What is wrong, in one line. It is public, for ever: name no voter.")],
    key: Annotated[Path, typer.Option("--key", help="Key file of a role of the election.")],
    about: Annotated[int | None, typer.Option("--about", help="Position of the record that it is about.")] = None,
    evidence: Annotated[
        Path | None,
        typer.Option(
            "--evidence",
            help="A file that proves it: a promise, a refusal with its ballot, or a receipt is checked first. Its SHA-256 is recorded; keep the file.",
        ),
    ] = None,
    relayer: RelayerOption = None,
    pay: Annotated[bool, typer.Option("--pay", help="Pay from the key's own account, as where no relayer is named.")] = False,
    board: BoardOption = None, rpc: RpcOption = None, contract: ContractOption = None,
    passphrase_file: PassphraseOption = None, as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Put a complaint on the record, at any time. It changes no count and no verdict; everybody is shown it.

    Example: ballotboard complain promise "relayer-1 took my ballot and did not bring it" --key keys/trustee-1.json --evidence evidence-1a2b3c4d.json

    Of what a relayer has done, another one should carry it, or you pay: ballotboard complain station "counts differ from the sheet" --about 17 --key keys/verifier.json --pay
    """
    if relayer and pay:
        raise BallotboardError("--relayer has a relayer pay and --pay does not: give one of them")
    make(cls, text)  # what is wrong with the words is said before a network is asked
    where = connection(board, rpc, contract)
    web3 = connect(where.rpc)
    check_place(Board(web3, where.contract), checksummed(address_of(key)), about)
    examined = examine(cls, evidence, where, chain_time(web3)) if evidence else None
    body = make(cls, text, about, examined.sha256 if examined else b"").body()
    account = load_account(key, passphrase(passphrase_file))
    relayers = [] if pay else relayer or where.relayers
    writer = Carrier(web3, where.contract, relayers) if relayers else Writer(web3, where.contract, account)
    [position] = writer.append(Kind.COMPLAINT, body, [account]).positions
    if as_json:
        emit(
            {
                "position": position, "class": cls, "about": about, "evidence": examined.sha256.hex() if examined else None,
                "found": examined.found if examined else None,
            }
        )  # fmt: skip
        return
    if examined:
        note(examined.found or "no program can check this file: an observer has to look at it")
        note(f"keep {evidence}: the record has its SHA-256 alone, {examined.sha256.hex()}")
    note(f"complained (record {position})")
