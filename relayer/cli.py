"""`ballotboard relayer`: make its keys, run it, look at it, empty it."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, TextIO, cast

import structlog
import typer

from chain import console
from chain.board import Board
from chain.console import BoardOption, ContractOption, JsonOption, PassphraseOption, RpcOption, emit, note
from chain.holding import Holders, bitmap_path
from chain.keys import load_account
from chain.log import read_log
from chain.rpc import connect
from protocol.errors import BallotboardError
from protocol.records import Kind
from relayer import config, holder, keys
from relayer.outbox import Outbox, State
from relayer.service import OUTBOX_FILE, Relayer, facts, lock, running, serve

SETTINGS_FILE = "relayer.toml"

MOST_NAMED = 20
"""Positions of missing ballots in one line; `--json` has them all."""

app = typer.Typer(
    no_args_is_help=True, help="Take ballots in, promise them, and get them onto the chain.", rich_markup_mode=None
)

FolderOption = Annotated[Path, typer.Option("--dir", help="The relayer's folder, from `relayer init`.")]


@app.command()
def init(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder for keys, settings and outbox; made if need be.")
    ],
    passphrase_file: PassphraseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a relayer's keys and settings file; prints what the manifest needs.

    Example: ballotboard relayer init relayer-1
    """
    address, key = keys.create(folder, console.passphrase(passphrase_file, confirm=True))
    (folder / SETTINGS_FILE).write_text(config.example())
    if as_json:
        emit({"address": address, "key": key.hex()})
    else:
        typer.echo(f"address  {address}\nkey      {key.hex()}")
        note(f"give both to the authority for the manifest; settings are in {folder / SETTINGS_FILE}")


@app.command()
def run(
    folder: FolderOption,
    board: BoardOption = None,
    rpc: RpcOption = None,
    contract: ContractOption = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on, instead of the settings'.")] = None,
    port: Annotated[int | None, typer.Option(help="Port, instead of the settings'; 0 takes a free one.")] = None,
    passphrase_file: PassphraseOption = None,
) -> None:
    """Run a relayer. When it answers it prints one line of JSON with its URL. SIGTERM refuses new ballots and ends when all are final; ^C ends at once; neither loses any.

    Example: ballotboard relayer run --dir relayer-1 --board board.json
    """
    _log_to_stderr()
    found = console.connection(board, rpc, contract)
    settings = _settings(folder, host, port)
    account, key = keys.load(folder, console.passphrase(passphrase_file))
    with lock(folder) as write_url:
        relayer = Relayer(
            connect(found.rpc),
            found.contract_bytes,
            account,
            key,
            settings,
            Outbox(_database(folder, settings)),
            found.comet,
            _peers(settings, found),
        )
        if found.election and found.election != relayer.identity.election.hex():
            raise BallotboardError(f"the board is of election {relayer.identity.election.hex()}, not {found.election}")
        if relayer.replicator and not _peers(settings, found):
            note(
                "warning: the chain has ballots' hashes only, and no other data holder is named (peers in the settings, or holders in the"
                " connection file): ballots that are taken elsewhere will not be kept here"
            )
        from relayer.app import create_app  # FastAPI is a second's import that no other command needs

        def ready(url: str) -> None:
            write_url(url)
            emit({"ready": True, "url": url, "relayer": relayer.identity.role, "pid": os.getpid()})
            sys.stdout.flush()

        serve(relayer, create_app(relayer), ready)


@app.command()
def status(folder: FolderOption, as_json: JsonOption = False) -> None:
    """What a relayer's outbox holds, and what the relayer says of itself if it runs.

    Example: ballotboard relayer status --dir relayer-1
    """
    process = running(folder)
    if process and process["url"]:
        value = {"running": True, **_get(process["url"] + "/v1/status")}
    else:
        outbox = _outbox(folder)
        value = {
            "running": False,
            "queue": outbox.depth,
            "ballots": {state.text: outbox.counts[state] for state in State},
        }
    if as_json:
        emit(value)
    else:
        for name, item in value.items():
            typer.echo(f"{name.replace('_', ' '):<18} {json.dumps(item) if isinstance(item, dict) else item}")


@app.command()
def drain(folder: FolderOption) -> None:
    """Tell the running relayer to take no more ballots, get the promised ones into the log, and end; waits for that.

    Example: ballotboard relayer drain --dir relayer-1
    """
    process = running(folder)
    if process is None:
        left = _outbox(folder).depth
        note(
            f"no relayer runs in {folder}; {left} promised ballots are not final"
            + (": start it once more" if left else "")
        )
        raise typer.Exit(1 if left else 0)
    os.kill(process["pid"], signal.SIGTERM)
    with console.progress("draining", None) as advance:
        while running(folder):
            advance(0)
            time.sleep(0.2)
    outbox = _outbox(folder)
    if outbox.shared:
        note(f"drained; {outbox.depth} ballots of this database are not final, for the relayers that share it")
    elif left := outbox.depth:
        raise BallotboardError(f"the relayer has ended with {left} ballots that are not final: start it again")
    else:
        note("drained: every promised ballot is final")


@app.command("dead-letters")
def dead_letters(
    folder: FolderOption,
    ballots: Annotated[
        list[str] | None, typer.Argument(metavar="BALLOT…", help="Hashes of the ballots to retry; none means all.")
    ] = None,
    retry: Annotated[
        bool,
        typer.Option("--retry", help="Put them back into the queue. On SQLite only while the relayer is stopped."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Ballots that were promised and could not be appended: broken promises, each with its reason; and records that the board refused.

    Example: ballotboard relayer dead-letters --dir relayer-1
    """
    if retry:
        again = _retry(folder, [_ballot_hash(text) for text in ballots] if ballots else None)
        if as_json:
            emit({"retried": again})
        else:
            note(f"{again} ballots wait again")
        return
    if ballots:
        raise BallotboardError(
            "say --retry to put these ballots back into the queue; without it all dead letters are listed"
        )
    outbox = _outbox(folder)
    dead = [{"ballot": s.hash.hex(), "roll_index": s.roll_index, "by": s.by, "reason": s.reason} for s in outbox.dead()]
    records = [{"record": digest.hex(), "reason": reason} for digest, reason in outbox.dead_records()]
    if as_json:
        emit({"dead_letters": dead, "dead_records": records})
        return
    for item in dead:
        typer.echo(f"{item['ballot']}  promised by {item['by']}  {item['reason']}")
    for record in records:
        typer.echo(f"{record['record']}  record  {record['reason']}")
    note(f"{len(dead)} dead letters, {len(records)} refused records")


@app.command()
def attest(
    folder: FolderOption,
    key: Annotated[Path, typer.Option("--key", help="Key file of the data holder whose bodies this relayer keeps.")],
    out: Annotated[
        Path, typer.Option("--out", help="File to write; the list of ballots goes beside it, with the ending .bitmap.")
    ],
    board: BoardOption = None,
    rpc: RpcOption = None,
    contract: ContractOption = None,
    require_all: Annotated[
        bool,
        typer.Option("--require-all", help="Sign nothing, and exit with status 1, where any ballot's body is missing."),
    ] = False,
    passphrase_file: PassphraseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Where the chain has ballots' hashes only: after the close, fetch what is missing from the other data holders, and sign which ballots are kept here.

    The authority settles with the files of enough holders. All must have signed the same ballots of the same log: run it again when one of them, or
    the log, has got more.

    Example: ballotboard relayer attest --dir relayer-1 --key keys/archive.json --out archive.attestation.json
    """
    settings = _settings(folder, None, None)
    found = console.connection(board, rpc, contract)
    if bitmap_path(out) == out:
        raise BallotboardError(f"{out} is where the list of ballots would go: give the attestation another ending")
    account, web3 = load_account(key, console.passphrase(passphrase_file)), connect(found.rpc)
    election = read_log(web3, found.contract_bytes, attachments=False)
    role = holder.ready_to_attest(web3, election.contract, election.manifest, account)
    outbox = _outbox(folder)
    outbox.bind(facts(election.manifest, election.contract))
    lacking = outbox.lacking([r.entry.body_hash for r in election.records if r.kind == Kind.BALLOT])
    if lacking:
        with console.progress("bodies from peers", len(lacking)) as advance:
            holder.replicate(outbox, lacking, Holders(_peers(settings, found)), advance)
    signed = holder.attest(web3, election, account, role, outbox)
    held, missing = signed.ballots - len(signed.missing), signed.missing
    if missing:
        named = ", ".join(map(str, missing[:MOST_NAMED])) + (" …" if len(missing) > MOST_NAMED else "")
        note(
            f"warning: nobody who answered has the bodies of {len(missing)} ballots, at positions {named}; if no holder signs for them they do not count"
        )
    if not (missing and require_all):
        _write(out, signed.attestation.body())
        _write(bitmap_path(out), signed.bitmap.data)
    if as_json:
        emit(
            {
                "ballots": signed.ballots,
                "held": held,
                "missing": missing,
                "size": election.head.size,
                "root": election.head.root.hex(),
                "bitmap": signed.bitmap.sha256.hex(),
            }
        )
    if missing and require_all:
        note(f"{held} of {signed.ballots} ballots are held: nothing was signed")
        raise typer.Exit(1)
    if not as_json:
        typer.echo(
            f"{held} of {signed.ballots} ballots held, log of {election.head.size} records: {out}, {bitmap_path(out)}"
        )
    opens = Board(web3, election.contract).windows().settle_not_before
    if Board(web3, election.contract).now() < opens:
        note(f"check-ins may come until {console.print_time(opens)}, and make the log longer: then attest again")


def _peers(settings: config.Settings, found: console.Connection) -> list[str]:
    return settings.peers.split() or found.holders


def _write(path: Path, data: bytes) -> None:
    try:
        path.write_bytes(data)
    except OSError as error:
        raise BallotboardError(f"cannot write {path}: {error.strerror}") from error


def _retry(folder: Path, ballots: list[bytes] | None) -> int:
    outbox = _outbox(folder)
    if outbox.shared:
        return outbox.revive(ballots)
    with lock(folder):
        return outbox.revive(ballots)


def _ballot_hash(text: str) -> bytes:
    try:
        digest = bytes.fromhex(text)
    except ValueError:
        digest = b""
    if len(digest) != 32:
        raise BallotboardError(f"{text} is not a ballot hash: expected 64 hex digits")
    return digest


def _settings(folder: Path, host: str | None, port: int | None) -> config.Settings:
    path = folder / SETTINGS_FILE
    settings = config.load(path if path.exists() else None)
    given: dict[str, Any] = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    return replace(settings, **given)


def _database(folder: Path, settings: config.Settings) -> str:
    return settings.database or f"sqlite:///{folder / OUTBOX_FILE}"


def _outbox(folder: Path) -> Outbox:
    settings = _settings(folder, None, None)
    if not settings.database and not (folder / OUTBOX_FILE).exists():
        raise BallotboardError(f"{folder} holds no outbox: no relayer has run there")
    return Outbox(_database(folder, settings))


def _get(url: str) -> dict[str, Any]:
    import httpx

    try:
        return httpx.get(url, timeout=5).json()
    except (httpx.HTTPError, ValueError) as error:
        raise BallotboardError(f"the relayer does not answer at {url}: {error}") from error


def _log_to_stderr() -> None:
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(cast(TextIO, _Stderr())),
    )


class _Stderr(io.TextIOBase):
    """Standard error, which may be a file on a disk that is full: a line that cannot be written is lost, and no thread ends for it."""

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            sys.stderr.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            sys.stderr.flush()
