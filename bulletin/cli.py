"""`ballotboard board`: index the chain, serve the public pages, rebuild, export."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer
import uvicorn
from fastapi import FastAPI
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from bulletin.app import create_app
from bulletin.archives import Archives
from bulletin.archivist import Archivist
from bulletin.checkpoint import read_key
from bulletin.colours import style
from bulletin.follower import Follower
from bulletin.follower import follow as run_follower
from bulletin.indexer import Indexer, Progress
from bulletin.limits import RATE, proxies
from bulletin.mirror import PAGES
from bulletin.mirror import mirror as copy_board
from bulletin.store import Store
from chain import console
from chain.console import BOARD_FILE, BoardOption, Connection, ContractOption, JsonOption, RpcOption, emit, note
from chain.reader import Reader
from chain.rpc import connect
from protocol.encoding import unhex
from protocol.errors import BallotboardError
from protocol.records import LogHead

DATABASE_FILE = "bulletin.sqlite"
"""The database beside the connection file, where no other is named."""

KEY_FILE = "bulletin.key"
"""The key of the board's checkpoints, beside the connection file; made when it is first needed."""

PORT = 8050
"""Beside the relayer's 8040."""

GRACE = 3
"""Seconds that a stop waits for answers that are being sent: each takes milliseconds."""

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="The public bulletin board: follow the chain and serve what it says.",
)

DatabaseOption = Annotated[
    str | None,
    typer.Option(
        "--database",
        help=f"SQLAlchemy URL: sqlite:///FILE or postgresql+psycopg://…; default: {DATABASE_FILE} beside board.json.",
    ),
]


@app.command()
def serve(
    board: BoardOption = None,
    rpc: RpcOption = None,
    contract: ContractOption = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; TLS and the public address belong to a reverse proxy.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.")] = PORT,
    database: DatabaseOption = None,
    archives: Annotated[
        Path | None,
        typer.Option(help="Folder for the archive that is offered for download; default: beside the database."),
    ] = None,
    rate: Annotated[
        float, typer.Option(min=0, help="Requests a second that one client is answered in the long run; 0: no limit.")
    ] = RATE,
    trust_proxy: Annotated[
        list[str] | None,
        typer.Option(
            help="Address or network of a reverse proxy in front (repeat it), whose X-Forwarded-For names the client."
        ),
    ] = None,
    colours: Annotated[
        Path | None, typer.Option(help="CSV file of the options' colours: contest,option,colour,dark (docs/board.md).")
    ] = None,
    follow: Annotated[
        bool,
        typer.Option(help="Follow the chain, in a process beside. Without: `board index --follow` does, elsewhere."),
    ] = True,
) -> None:
    """Follow the chain and serve pages and API. Prints one line of JSON with the URL once the log is read to its head. SIGTERM and ^C end it.

    Any number may serve from one database: one follows, the others have --no-follow.

    Example: ballotboard board serve --board board.json --port 8050 --trust-proxy 127.0.0.1
    """
    _log_to_stderr()
    behind, listener = proxies(trust_proxy or []), _listen(host, port)
    where = _database(board, database)
    folder = archives or _beside(where, board)
    connection = console.connection(board, rpc, contract)
    store = open_indexer(connection, where).replica.store if follow else Store(where)
    key = read_key((board or Path(BOARD_FILE)).parent / KEY_FILE)
    sheet = style(colours, _reader(connection).creation().manifest()) if colours else b""
    web = create_app(store, connection, key, follows=True, archives=Archives(store, folder), rate=rate, colours=sheet)
    url = f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"

    def ready() -> None:
        emit({"ready": True, "url": url, "pid": os.getpid()})
        sys.stdout.flush()

    given = {"--board": board, "--rpc": rpc, "--contract": contract, "--database": where, "--archives": folder}
    words = [f"{option}={value}" for option, value in given.items() if value is not None]
    with Follower(store, words, ready) if follow else nullcontext():
        if not follow:
            ready()
        serve_pages(web, listener, behind)
    store.close()


@app.command()
def index(
    board: BoardOption = None,
    rpc: RpcOption = None,
    contract: ContractOption = None,
    database: DatabaseOption = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on with what the chain records, until SIGTERM or ^C.")
    ] = False,
    archives: Annotated[
        Path | None, typer.Option(help="With --follow: folder in which to keep the archive for download.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Read the chain up to its head.

    Example: ballotboard board index --board board.json
    """
    if follow:
        _log_to_stderr()
        connection = console.connection(board, rpc, contract)
        indexer = open_indexer(connection, _database(board, database))
        store = indexer.replica.store
        run_follower(indexer, Archivist(store, connection, archives, lambda: indexer.synced) if archives else None)
        store.close()
        return
    _index(console.connection(board, rpc, contract), _database(board, database), as_json)


@app.command()
def rebuild(
    board: BoardOption = None,
    rpc: RpcOption = None,
    contract: ContractOption = None,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Throw the database away, with its alarm if there is one, and read the chain again from the first block.

    Example: ballotboard board rebuild --board board.json
    """
    connection = console.connection(board, rpc, contract)
    _reader(connection).creation()  # nothing is thrown away while there is nothing to read
    Store(_database(board, database)).reset()
    _index(connection, _database(board, database), as_json)


@app.command()
def export(
    out: Annotated[Path, typer.Argument(help="File to write; - for standard output.")],
    board: BoardOption = None,
    database: DatabaseOption = None,
) -> None:
    """Write everything that follows from the log as lines of canonical JSON: the same bytes from every board that has read as far.

    Example: ballotboard board export board.jsonl --board board.json
    """
    with Store(_database(board, database)).read() as log:
        if not log.head().size:
            raise BallotboardError(
                "this database holds no log yet: run `ballotboard board index` first, or name another with --database"
            )
        if str(out) == "-":
            sys.stdout.buffer.writelines(log.export())
            return
        try:
            with out.open("wb") as file:
                file.writelines(log.export())
        except OSError as error:
            raise BallotboardError(f"cannot write {out}: {error.strerror}") from error
    note(f"wrote {out}")


@app.command()
def mirror(
    url: Annotated[str, typer.Argument(help="Address of a board.")],
    out: Annotated[Path, typer.Argument(help="Folder to write; what is in it already is written over.")],
    pages: Annotated[
        int, typer.Option(min=1, help="Pages to copy; links to any further ones lead to the board itself.")
    ] = PAGES,
    as_json: JsonOption = False,
) -> None:
    """Copy a board into a folder that any web server can show: pages, data, and the log as tiles.

    Example: ballotboard board mirror http://127.0.0.1:8050 public/
    """
    with console.progress("files", None, quiet=as_json) as advance:
        copied = copy_board(url, out, advance, pages)
    if as_json:
        emit({**copied._asdict(), "out": str(out)})
        return
    left = f"; {copied.left_out} pages are left out, links to them lead to {url}" if copied.left_out else ""
    note(f"wrote {copied.files} files under {out}{left}")


# ---------------------------------------------------------------- what the commands do


def open_indexer(connection: Connection, database: str) -> Indexer:
    """An indexer of the connection's board into the database at this URL. Raises BallotboardError where the two do not fit."""
    election_id = unhex(connection.election, 32, "the connection file's election id") if connection.election else None
    return Indexer(
        Store(database),
        connect(connection.rpc),
        connection.contract_bytes,
        election_id,
        connection.holders,
        connection.comet,
    )


def index_board(connection: Connection, database: str, progress: Progress | None = None) -> LogHead:
    """Reads the chain up to its head; gives the log's. Raises Alarm where it does not fit."""
    return _read_on(open_indexer(connection, database), progress)


def serve_pages(web: FastAPI, listener: socket.socket, behind: dict[str, Any]) -> None:
    """Serves on this socket until SIGTERM, then returns; ^C raises KeyboardInterrupt. `behind` is what uvicorn is told of proxies."""
    config = uvicorn.Config(
        web, lifespan="off", access_log=False, log_level="warning", server_header=False, timeout_graceful_shutdown=GRACE, **behind
    )  # fmt: skip
    # uvicorn ends on both signals and raises them again: SIGTERM is a normal end, ^C an interrupt.
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        uvicorn.Server(config).run(sockets=[listener])
    finally:
        signal.signal(signal.SIGTERM, before)


def _index(connection: Connection, database: str, as_json: bool) -> None:
    indexer = open_indexer(connection, database)  # what is refused here comes before there is a bar
    with console.progress("records indexed", None, quiet=as_json) as advance:
        head = _read_on(indexer, advance)
    if as_json:
        emit({"size": head.size, "root": head.root.hex()})
    else:
        typer.echo(f"{head.size} records, root {head.root.hex()}")


def _read_on(indexer: Indexer, progress: Progress | None) -> LogHead:
    try:
        return indexer.step(progress)
    finally:
        indexer.replica.store.close()


def _reader(connection: Connection) -> Reader:
    return Reader(connect(connection.rpc), connection.contract_bytes)


def _database(board: Path | None, database: str | None) -> str:
    return database or f"sqlite:///{(board or Path(BOARD_FILE)).parent / DATABASE_FILE}"


def _beside(database: str, board: Path | None) -> Path:
    """The folder of an SQLite database, else that of the connection file."""
    try:
        url = make_url(database)
        file = url.database if url.get_backend_name() == "sqlite" else None
    except ArgumentError:
        file = None  # whoever opens it says so
    return (Path(file) if file else board or Path(BOARD_FILE)).parent


def _log_to_stderr() -> None:
    logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.INFO)


def _listen(host: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen()  # who connects before the server runs waits, and is not refused
    except (OSError, OverflowError) as error:
        raise BallotboardError(
            f"cannot listen on {host}:{port}: {error.strerror if isinstance(error, OSError) else error}; choose another --port"
        ) from error
    return listener
