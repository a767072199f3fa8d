"""`ballotboard trustee`: a thin layer over trustee.actions. Each command says what happened and what comes next."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from chain.board import Board
from chain.carrier import Carrier
from chain.console import (
    BoardOption,
    CometOption,
    ContractOption,
    HoldersOption,
    JsonOption,
    PassphraseOption,
    RelayerOption,
    RpcOption,
    connection,
    emit,
    note,
    passphrase,
    progress,
    read_bytes,
)
from chain.errors import NodeUnreachable, RpcError, Undelivered
from chain.keys import load_account
from chain.rpc import connect
from chain.writer import Writer
from protocol.encoding import unhex
from protocol.errors import BallotboardError
from trustee import actions, codes, sneakernet
from trustee.actions import Outcome, Place, Status
from trustee.keystore import Keystore, KeystoreError
from trustee.sneakernet import Carried
from trustee.token import Token

KEYSTORE = Path("trustee.keystore")
"""Where `init` leaves the keystore and every other command looks for it."""

POLL = 2.0
"""Seconds between looks at the chain with `--watch`: people take minutes, blocks a second."""

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None,
    help="A trustee: make the joint key with the others, and decrypt totals when the poll has closed.\n\n"
    "Start with: ballotboard trustee init, then: ballotboard trustee next --watch",
)  # fmt: skip

ANSWER = Path("answer.json")
"""Where a machine without a network leaves what is to be carried to one that has."""

OfflineOption = Annotated[
    Path | None,
    typer.Option("--offline", help="No network here: an archive that somebody brought (`ballotboard archive make`)."),
]
AnswerOption = Annotated[Path, typer.Option("--answer", help="With --offline: the new file to carry back and post.")]

PayOption = Annotated[
    bool,
    typer.Option(
        "--pay", help="Send it straight to the node and pay from the keystore's account, as where no relayer is named."
    ),
]

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
    token: Annotated[
        str, typer.Option("--token", help="Label of a PKCS#11 token that is to open it; the passphrase is its PIN.")
    ] = "",
    token_module: Annotated[
        str, typer.Option("--token-module", help="The token's shared library; default: SoftHSM's or OpenSC's.")
    ] = "",
    passphrase_file: PassphraseOption = None,
) -> None:
    """Make a keystore, with a new role key or one that is there, and print its address for the authority.

    Example: ballotboard trustee init --keystore anna.keystore --from-key keys/trustee-1.key
    """
    if keystore.exists():
        raise KeystoreError(f"{keystore} exists and is not overwritten: a lost keystore is a lost share")
    secret = passphrase(passphrase_file, confirm=not from_key and not token)
    account = (
        load_account(from_key, passphrase(key_passphrase_file) if key_passphrase_file else secret) if from_key else None
    )
    with Keystore.create(keystore, secret, account, token=Token(token, token_module) if token else None) as store:
        note(f"{keystore}: keep it, and its passphrase, to yourself; nobody can make it again. Your address:")
        typer.echo(store.account.address)
    note(
        "next: the authority needs this address to publish; after that `ballotboard trustee join`, or `ballotboard trustee next --watch`"
    )


@app.command()
def join(
    keystore: KeystoreOption = KEYSTORE,
    election: Annotated[str, typer.Option("--election", help="Election id that the authority told you; else compare it yourself.")] = "",
    board: BoardOption = None, rpc: RpcOption = None, contract: ContractOption = None, offline: OfflineOption = None,
    answer: AnswerOption = ANSWER, passphrase_file: PassphraseOption = None,
    as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Bind the keystore to a published election, once.

    Example: ballotboard trustee join --election 5f0c…
    """
    expected = unhex(election, 32, "--election") if election else b""
    with Keystore.open(keystore, passphrase(passphrase_file)) as store:
        _say(actions.join(_place(board, rpc, contract, offline, answer), store, expected), as_json)


@app.command()
def commit(
    keystore: KeystoreOption = KEYSTORE,
    new_attempt: Annotated[bool, typer.Option("--new-attempt", help="Give the present attempt up and begin the next, with fresh secrets.")] = False,
    board: BoardOption = None, rpc: RpcOption = None, contract: ContractOption = None, offline: OfflineOption = None,
    answer: AnswerOption = ANSWER, relayer: RelayerOption = None, pay: PayOption = False,
    passphrase_file: PassphraseOption = None,
    as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Round 1: draw your secrets and commit to them. Make a backup afterwards.

    Example: ballotboard trustee commit

    You sign and a relayer pays, one of the connection file's or yours: ballotboard trustee commit --relayer https://relayer.example
    """
    with Keystore.open(keystore, passphrase(passphrase_file)) as store:
        _say(actions.commit(_place(board, rpc, contract, offline, answer, relayer, pay), store, new_attempt), as_json)


@app.command()
def reveal(
    keystore: KeystoreOption = KEYSTORE,
    board: BoardOption = None, rpc: RpcOption = None, contract: ContractOption = None, offline: OfflineOption = None,
    answer: AnswerOption = ANSWER, relayer: RelayerOption = None, pay: PayOption = False,
    passphrase_file: PassphraseOption = None,
    as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Round 2, after everybody's round 1: open your commitments and seal a share for each of the others.

    Example: ballotboard trustee reveal
    """
    with Keystore.open(keystore, passphrase(passphrase_file)) as store:
        _say(actions.reveal(_place(board, rpc, contract, offline, answer, relayer, pay), store), as_json)


@app.command()
def confirm(
    keystore: KeystoreOption = KEYSTORE,
    board: BoardOption = None, rpc: RpcOption = None, contract: ContractOption = None, offline: OfflineOption = None,
    answer: AnswerOption = ANSWER, relayer: RelayerOption = None, pay: PayOption = False,
    passphrase_file: PassphraseOption = None,
    as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Round 3, after everybody's round 2: confirm the joint key, or prove that a share is wrong.

    Example: ballotboard trustee confirm
    """
    with Keystore.open(keystore, passphrase(passphrase_file)) as store:
        _say(actions.confirm(_place(board, rpc, contract, offline, answer, relayer, pay), store), as_json)


@app.command()
def complain(
    dealer: Annotated[int, typer.Argument(help="Number of the trustee whose share is wrong.")],
    keystore: KeystoreOption = KEYSTORE,
    board: BoardOption = None, rpc: RpcOption = None, contract: ContractOption = None, offline: OfflineOption = None,
    answer: AnswerOption = ANSWER, relayer: RelayerOption = None, pay: PayOption = False,
    passphrase_file: PassphraseOption = None,
    as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Prove that one trustee's share for you is wrong (`confirm` does so by itself). Refuses if it is right.

    Example: ballotboard trustee complain 3
    """
    with Keystore.open(keystore, passphrase(passphrase_file)) as store:
        _say(actions.complain(_place(board, rpc, contract, offline, answer, relayer, pay), store, dealer), as_json)


@app.command()
def status(
    keystore: KeystoreOption = KEYSTORE,
    board: BoardOption = None, rpc: RpcOption = None, contract: ContractOption = None, offline: OfflineOption = None,
    answer: AnswerOption = ANSWER, passphrase_file: PassphraseOption = None,
    as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Who has done what in which round, who is waited for, and what comes next. Changes nothing.

    Example: ballotboard trustee status --json
    """
    found = actions.status(
        _place(board, rpc, contract, offline, answer), Keystore.open(keystore, passphrase(passphrase_file), write=False)
    )
    if as_json:
        emit(found.value())
    else:
        typer.echo(_text(found))


@app.command("next")
def next_command(
    keystore: KeystoreOption = KEYSTORE,
    watch: Annotated[bool, typer.Option("--watch", help="Wait for the others and go on, until the key is confirmed.")] = False,
    board: BoardOption = None, rpc: RpcOption = None, contract: ContractOption = None, offline: OfflineOption = None,
    answer: AnswerOption = ANSWER, relayer: RelayerOption = None, pay: PayOption = False,
    passphrase_file: PassphraseOption = None,
) -> None:  # fmt: skip
    """Do whatever is your turn: join, commit, reveal, confirm, decrypt.

    Example: ballotboard trustee next --watch
    """
    where = _place(board, rpc, contract, offline, answer, relayer, pay)
    with Keystore.open(keystore, passphrase(passphrase_file)) as store:
        if watch:
            if isinstance(where, Carried):
                raise BallotboardError("--watch needs a network: with --offline, bring a new archive for each round")
            _watch(where, store)
        elif outcome := actions.next_step(where, store):
            _say(outcome)
        else:
            note(f"nothing is due: {actions.status(where, store).next}")


@app.command()
def backup(
    target: Annotated[Path, typer.Argument(help="A new file, best on another medium.")],
    keystore: KeystoreOption = KEYSTORE,
    new_passphrase_file: Annotated[
        Path | None,
        typer.Option(
            help="Another passphrase for the copy; a token's keystore should have one, or the copy needs the token too."
        ),
    ] = None,
    passphrase_file: PassphraseOption = None,
) -> None:
    """Copy the keystore, encrypted as it is or under another passphrase, after checking that it opens.

    Example: ballotboard trustee backup /media/usb/trustee.keystore
    """
    another = passphrase(new_passphrase_file) if new_passphrase_file else ""
    Keystore.open(keystore, passphrase(passphrase_file), write=False).backup(target, another)
    note(
        f"{target}: opens {'with its own passphrase' if another else 'as this keystore does'}. Keep it apart from {keystore}"
    )
    note("next: make another one after each round of the ceremony; it goes on from wherever the record is")


@app.command()
def decrypt(
    keystore: KeystoreOption = KEYSTORE,
    board: BoardOption = None, rpc: RpcOption = None, contract: ContractOption = None, comet: CometOption = None,
    holder: HoldersOption = None, relayer: RelayerOption = None, pay: PayOption = False,
    offline: OfflineOption = None, answer: AnswerOption = ANSWER, passphrase_file: PassphraseOption = None,
    as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Verify the record up to the settlement, recompute the encrypted totals, and publish your shares of them, in as many records as it takes.

    Example: ballotboard trustee decrypt

    Without a relayer, from an account that has gas money: ballotboard trustee decrypt --pay
    """
    comet = None if offline else connection(board, rpc, contract, comet).comet
    place = _place(board, rpc, contract, offline, answer, relayer, pay, holder)
    with Keystore.open(keystore, passphrase(passphrase_file)) as store:
        with progress("record read and verified", None) as advance:
            outcome = actions.decrypt(place, store, advance, comet or "")
        _say(outcome, as_json)


@app.command()
def post(
    answer: Annotated[Path, typer.Argument(help="What a trustee's machine without a network has signed.")],
    key: Annotated[Path | None, typer.Option("--key", help="Key file of any account that can pay; it gains nothing and can change nothing. Without it a relayer pays.")] = None,
    relayer: RelayerOption = None,
    board: BoardOption = None, rpc: RpcOption = None, contract: ContractOption = None, passphrase_file: PassphraseOption = None,
    as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Put a trustee's signed records on the chain. Twice does no harm.

    Example: ballotboard trustee post answer.json
    """
    found = connection(board, rpc, contract)
    web3 = connect(found.rpc)
    writer = (
        Writer(web3, found.contract, load_account(key, passphrase(passphrase_file)))
        if key
        else Carrier(web3, found.contract, relayer or found.relayers)
    )
    positions = sneakernet.post(writer, read_bytes(answer), str(answer))
    if as_json:
        emit({"positions": positions})
        return
    for position in positions:
        note("on the record already" if position is None else f"record {position}")
    note("next: bring the trustee a new archive: ballotboard archive make")


@app.command()
def qr(
    file: Annotated[Path, typer.Argument(help="An archive, or an answer.")],
    out: Annotated[Path, typer.Option("--out", help="A .pdf, or .svg or .png (one file for each code).")],
) -> None:
    """A file as QR codes, for a machine that takes nothing but paper and a camera.

    Example: ballotboard trustee qr answer.json --out answer.pdf
    """
    texts = codes.split(read_bytes(file))
    paths = codes.draw(texts, out, file.name)
    note(f"{len(texts)} codes in {paths[0]}{f' … {paths[-1].name}' if len(paths) > 1 else ''}")
    note("next, on the other machine: ballotboard trustee scan PICTURES --out FILE")


@app.command()
def scan(
    pictures: Annotated[
        list[Path], typer.Argument(help="Pictures of the codes, or .txt files with what a scanner typed.")
    ],
    out: Annotated[Path, typer.Option("--out", help="The file that comes of them; a new one.")],
) -> None:
    """A file from its QR codes, in any order. Says which are missing.

    Example: ballotboard trustee scan page-1.png page-2.png --out answer.json
    """
    data = codes.join(codes.scan(pictures))
    try:
        with out.open("xb") as file:
            file.write(data)
    except OSError as error:
        raise BallotboardError(f"cannot write {out}: {error.strerror}; name a new file") from error
    note(f"{out}: {len(data):,} bytes, and the codes agree with it")


def _watch(board: Board, store: Keystore) -> None:
    """Do what is due each time the log has grown, until the key is confirmed. A node or relayer that does not answer, or cannot just now, is waited for
    too."""
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
        except (NodeUnreachable, RpcError, Undelivered) as error:
            if said != str(error):
                said = str(error)
                note(f"{said}; trying again")
        time.sleep(POLL)


def _place(
    file: Path | None, rpc: str | None, contract: str | None, offline: Path | None, answer: Path,
    relayers: list[str] | None = None, pay: bool = False, holders: list[str] | None = None,
) -> Place:  # fmt: skip
    if offline:
        return Carried(offline, answer)
    if relayers and pay:
        raise BallotboardError("--relayer has a relayer pay and --pay does not: give one of them")
    found = connection(file, rpc, contract, holders=holders)
    return actions.Online(connect(found.rpc), found.contract, [] if pay else relayers or found.relayers, found.holders)


def _say(outcome: Outcome, as_json: bool = False) -> None:
    if as_json:
        emit({"did": outcome.did, "next": outcome.next})
        return
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
