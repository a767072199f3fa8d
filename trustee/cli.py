"""`ballotboard trustee`: a thin layer over trustee.actions. Each command says what happened and what comes next."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from chain.board import Board
from chain.console import (
    BoardOption,
    CometOption,
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
from chain.errors import NodeUnreachable
from chain.keys import load_account
from chain.rpc import connect
from protocol.encoding import unhex
from trustee import actions
from trustee.actions import Outcome, Status
from trustee.keystore import Keystore, KeystoreError

KEYSTORE = Path("trustee.keystore")
"""Where `init` leaves the keystore and every other command looks for it."""

POLL = 2.0
"""Seconds between looks at the chain with `--watch`: people take minutes, blocks a second."""

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None,
    help="A trustee: make the joint key with the others, and decrypt totals when the poll has closed.\n\n"
    "Start with: ballotboard trustee init, then: ballotboard trustee next --watch",
)  # fmt: skip

KeystoreOption = Annotated[Path, typer.Option("--keystore", help="The keystore file.")]


@app.command()
def init(
    keystore: KeystoreOption = KEYSTORE,
    from_key: Annotated[
        Path | None, typer.Option("--from-key", help="Take a role key made by `election new` or `keys new`.")
    ] = None,
    key_passphrase_file: Annotated[
        Path | None, typer.Option(help="Its passphrase, if it is not the keystore's.")
    ] = None,
    passphrase_file: PassphraseOption = None,
) -> None:
    """Make a keystore, with a new role key or one that is there, and print its address for the authority.

    Example: ballotboard trustee init --keystore anna.keystore --from-key keys/trustee-1.key
    """
    if keystore.exists():
        raise KeystoreError(f"{keystore} exists and is not overwritten: a lost keystore is a lost share")
    secret = passphrase(passphrase_file, confirm=not from_key)
    account = (
        load_account(from_key, passphrase(key_passphrase_file) if key_passphrase_file else secret) if from_key else None
    )
    with Keystore.create(keystore, secret, account) as store:
        note(f"{keystore}: keep it, and its passphrase, to yourself; nobody can make it again. Your address:")
        typer.echo(store.account.address)
    note(
        "next: the authority needs this address to publish; after that `ballotboard trustee join`, or `ballotboard trustee next --watch`"
    )


@app.command()
def join(
    keystore: KeystoreOption = KEYSTORE,
    election: Annotated[str, typer.Option("--election", help="Election id that the authority told you; else compare it yourself.")] = "",
    board: BoardOption = None, rpc: RpcOption = None, contract: ContractOption = None, passphrase_file: PassphraseOption = None,
) -> None:  # fmt: skip
    """Bind the keystore to a published election, once.

    Example: ballotboard trustee join --election 5f0c…
    """
    expected = unhex(election, 32, "--election") if election else b""
    with Keystore.open(keystore, passphrase(passphrase_file)) as store:
        _say(actions.join(_board(board, rpc, contract), store, expected))


@app.command()
def commit(
    keystore: KeystoreOption = KEYSTORE,
    new_attempt: Annotated[bool, typer.Option("--new-attempt", help="Give the present attempt up and begin the next, with fresh secrets.")] = False,
    board: BoardOption = None, rpc: RpcOption = None, contract: ContractOption = None, passphrase_file: PassphraseOption = None,
) -> None:  # fmt: skip
    """Round 1: draw your secrets and commit to them. Make a backup afterwards.

    Example: ballotboard trustee commit
    """
    with Keystore.open(keystore, passphrase(passphrase_file)) as store:
        _say(actions.commit(_board(board, rpc, contract), store, new_attempt))


@app.command()
def reveal(
    keystore: KeystoreOption = KEYSTORE,
    board: BoardOption = None, rpc: RpcOption = None, contract: ContractOption = None, passphrase_file: PassphraseOption = None,
) -> None:  # fmt: skip
    """Round 2, after everybody's round 1: open your commitments and seal a share for each of the others.

    Example: ballotboard trustee reveal
    """
    with Keystore.open(keystore, passphrase(passphrase_file)) as store:
        _say(actions.reveal(_board(board, rpc, contract), store))


@app.command()
def confirm(
    keystore: KeystoreOption = KEYSTORE,
    board: BoardOption = None, rpc: RpcOption = None, contract: ContractOption = None, passphrase_file: PassphraseOption = None,
) -> None:  # fmt: skip
    """Round 3, after everybody's round 2: confirm the joint key, or prove that a share is wrong.

    Example: ballotboard trustee confirm
    """
    with Keystore.open(keystore, passphrase(passphrase_file)) as store:
        _say(actions.confirm(_board(board, rpc, contract), store))


@app.command()
def complain(
    dealer: Annotated[int, typer.Argument(help="Number of the trustee whose share is wrong.")],
    keystore: KeystoreOption = KEYSTORE,
    board: BoardOption = None, rpc: RpcOption = None, contract: ContractOption = None, passphrase_file: PassphraseOption = None,
) -> None:  # fmt: skip
    """Prove that one trustee's share for you is wrong (`confirm` does so by itself). Refuses if it is right.

    Example: ballotboard trustee complain 3
    """
    with Keystore.open(keystore, passphrase(passphrase_file)) as store:
        _say(actions.complain(_board(board, rpc, contract), store, dealer))


@app.command()
def status(
    keystore: KeystoreOption = KEYSTORE,
    board: BoardOption = None, rpc: RpcOption = None, contract: ContractOption = None, passphrase_file: PassphraseOption = None,
    as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Who has done what in which round, who is waited for, and what comes next. Changes nothing.

    Example: ballotboard trustee status --json
    """
    found = actions.status(
        _board(board, rpc, contract), Keystore.open(keystore, passphrase(passphrase_file), write=False)
    )
    if as_json:
        emit(found.value())
    else:
        typer.echo(_text(found))


@app.command("next")
def next_command(
    keystore: KeystoreOption = KEYSTORE,
    watch: Annotated[bool, typer.Option("--watch", help="Wait for the others and go on, until the key is confirmed.")] = False,
    board: BoardOption = None, rpc: RpcOption = None, contract: ContractOption = None, passphrase_file: PassphraseOption = None,
) -> None:  # fmt: skip
    """Do whatever is your turn: join, commit, reveal, confirm, decrypt.

    Example: ballotboard trustee next --watch
    """
    where = _board(board, rpc, contract)
    with Keystore.open(keystore, passphrase(passphrase_file)) as store:
        if watch:
            _watch(where, store)
        elif outcome := actions.next_step(where, store):
            _say(outcome)
        else:
            note(f"nothing is due: {actions.status(where, store).next}")


@app.command()
def backup(
    target: Annotated[Path, typer.Argument(help="A new file, best on another medium.")],
    keystore: KeystoreOption = KEYSTORE,
    passphrase_file: PassphraseOption = None,
) -> None:
    """Copy the keystore, encrypted as it is, after checking that it opens.

    Example: ballotboard trustee backup /media/usb/trustee.keystore
    """
    Keystore.open(keystore, passphrase(passphrase_file), write=False).backup(target)
    note(f"{target}: opens with the same passphrase. Keep it apart from {keystore}")
    note("next: make another one after each round of the ceremony; it goes on from wherever the record is")


@app.command()
def decrypt(
    keystore: KeystoreOption = KEYSTORE,
    board: BoardOption = None, rpc: RpcOption = None, contract: ContractOption = None, comet: CometOption = None,
    passphrase_file: PassphraseOption = None,
) -> None:  # fmt: skip
    """Verify the record up to the settlement, recompute the encrypted totals, and publish your shares of them.

    Example: ballotboard trustee decrypt
    """
    where = connection(board, rpc, contract, comet)
    with Keystore.open(keystore, passphrase(passphrase_file)) as store:
        with progress("record read and verified", None) as advance:
            outcome = actions.decrypt(Board(connect(where.rpc), where.contract), store, advance, where.comet)
        _say(outcome)


def _watch(board: Board, store: Keystore) -> None:
    """Do what is due each time the log has grown, until the key is confirmed. A node that does not answer is waited for too."""
    seen, said = None, ""
    while True:
        try:
            head = board.head()
            if head != seen:
                while outcome := actions.next_step(board, store):
                    _say(outcome)
                    said = outcome.next
                found = actions.status(board, store)
                if found.next != said:
                    said = found.next
                    note(f"next: {said}")
                if found.phase != "setup" or found.ceremony.key:
                    return
                seen = head
        except NodeUnreachable as error:
            if said != str(error):
                said = str(error)
                note(f"{said} Trying again")
        time.sleep(POLL)


def _board(file: Path | None, rpc: str | None, contract: str | None) -> Board:
    found = connection(file, rpc, contract)
    return Board(connect(found.rpc), found.contract)


def _say(outcome: Outcome) -> None:
    note(outcome.did)
    note(f"next: {outcome.next}")


def _text(found: Status) -> str:
    """The status as lines for a terminal."""
    state = found.ceremony
    everyone = range(1, state.setting.n + 1)
    lines = [
        f"{found.manifest.name}, election {found.manifest.election_id.hex()}",
        f"you are trustee {found.trustee} of {state.setting.n}; {state.setting.t} can decrypt; phase: {found.phase}", "",
    ]  # fmt: skip
    width = max(len(found.name(j)) for j in everyone)
    lines.append(
        f"{'attempt ' + str(state.setting.attempt):{width + 8}}{'commit':10}{'reveal':10}{'confirm':10}decrypt"
    )
    for j in everyone:
        done = "".join(f"{'done' if state.said(number, j) else '-':10}" for number in (1, 2, 3))
        lines.append(f"  {j:2}  {found.name(j):{width}}  {done}{found.partials.get(j, '-')}")
    if state.key:
        lines += ["", f"key {state.key.key.hex()}"]
    return "\n".join([*lines, "", f"next: {found.next}"])
