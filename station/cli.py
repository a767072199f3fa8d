"""`ballotboard station`: a thin layer over station.actions. Each command says what happened and what comes next."""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from eth_account.signers.local import LocalAccount

from chain.board import Board
from chain.carrier import Carrier
from chain.console import (
    PASSPHRASE_VARIABLE,
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
    progress,
    read_bytes,
)
from chain.errors import NodeUnreachable
from chain.keys import load_account
from chain.log import ElectionLog, read_log
from chain.rpc import connect
from chain.writer import Writer
from protocol.errors import BallotboardError
from protocol.manifest import Contest, Rule
from protocol.paper import ContestCount
from protocol.sheet import read_sheet_code
from station import actions, courier, page
from station.actions import Outcome
from station.folder import StationFolder
from station.result import BLANK, INVALID, Counted, DoesNotBalance, add_counts, contest_count, parse_counts
from verifier import picture, sheets

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None,
    help="A polling station: check-ins, the paper count, a signed result. Works without a network.\n\n"
    "Start with: ballotboard station init school-3 --station 3; a station's day is in station/README.md",
)  # fmt: skip

WATCH = 10.0
"""Seconds between looks with --watch: a result is public that soon after the embargo, and a node hardly notices."""

FolderOption = Annotated[Path, typer.Option("--folder", help="The station's folder.")]
KeyOption = Annotated[
    Path | None,
    typer.Option(
        "--key",
        help="Key file of whoever sends it and pays for it: an officer, or anybody. Without it a relayer does both.",
    ),
]
KeyPassphraseOption = Annotated[
    Path | None, typer.Option("--key-passphrase-file", help="The key file's passphrase, if it is not the folder's.")
]
OfflineOption = Annotated[
    bool, typer.Option("--offline", help="Do not look for a network; the clock decides what is due.")
]
CountsOption = Annotated[
    list[str] | None,
    typer.Option(
        help="'Option=12,Other=3,invalid=1', every option once; with several contests one for each, as 'CONTEST:Option=12,…'."
    ),
]
IssuedOption = Annotated[int | None, typer.Option(help="Papers handed out.")]
SpoiledOption = Annotated[int | None, typer.Option(help="Papers spoiled and not replaced.")]
UnreturnedOption = Annotated[int | None, typer.Option(help="Papers that did not come back.")]
ByOption = Annotated[
    str | None,
    typer.Option("--by", help="Who counted: one of two independent entries; the result is made when both agree."),
]
InBoxOption = Annotated[
    int | None, typer.Option("--in-box", help="Papers found in the box; default: issued - spoiled - unreturned.")
]


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="A new folder.")],
    station: Annotated[int, typer.Option("--station", help="The station's number in the election.")],
    board: BoardOption = None, rpc: RpcOption = None, contract: ContractOption = None, passphrase_file: PassphraseOption = None,
    as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Make the station's folder, with all that it needs to work without a network from then on.

    Example: ballotboard station init school-3 --station 3
    """
    where = connection(board, rpc, contract)
    secret = passphrase(passphrase_file, confirm=True)
    with actions.init(folder, Board(connect(where.rpc), where.contract), station, secret, where) as made:
        election = made.manifest.election_id.hex()
        did = f"{folder}: station {station}, {made.station.name} ({made.units[made.station.unit].name}), election {election}"
        data = {"election": election, "folder": str(folder), "name": made.station.name, "station": station}
        _say(Outcome(did, f"in the morning `ballotboard station open --folder {folder}`", data), as_json)


@app.command("open")
def open_command(
    folder: FolderOption = Path("."),
    offline: OfflineOption = False,
    rpc: RpcOption = None,
    passphrase_file: PassphraseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Open the station: from here on voters are checked in.

    Example: ballotboard station open
    """
    with _folder(folder, passphrase_file) as place:
        _say(actions.open_station(place, _network(place, rpc, offline)), as_json)


@app.command("look-up")
def look_up(
    card: Annotated[str, typer.Argument(help="Roll index, or the text of the card's public code.")],
    folder: FolderOption = Path("."), passphrase_file: PassphraseOption = None, as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Whether a voter may vote on paper here, as of the last sync. Notes nothing; exit status 1 if not.

    Example: ballotboard station look-up 1204
    """
    with _folder(folder, passphrase_file) as place:
        found = actions.look_up(place, actions.read_card(place, card))
    _say(found, as_json)
    if not found.data["may_vote"]:
        raise typer.Exit(1)


@app.command("check-in")
def check_in(
    cards: Annotated[list[str], typer.Argument(help="Roll indices, or the public codes of the voters' cards as a reader gives them.")],
    hand_out: Annotated[bool, typer.Option("--issue", help="Note the papers as handed out, too.")] = False,
    folder: FolderOption = Path("."), passphrase_file: PassphraseOption = None, as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Check in voters who take a paper ballot. Never ask for the covered code of a card.

    Example: ballotboard station check-in 1204 1377 --issue
    """
    with _folder(folder, passphrase_file) as place:
        _say(actions.check_in(place, [actions.read_card(place, card) for card in cards], hand_out), as_json)


@app.command()
def issue(
    count: Annotated[int, typer.Argument(help="Papers handed out.")] = 1,
    replacing: Annotated[bool, typer.Option("--replacing", help="Against spoiled papers that were given back and destroyed.")] = False,
    folder: FolderOption = Path("."), passphrase_file: PassphraseOption = None, as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Note that papers were handed out: how many, never which or to whom.

    Example: ballotboard station issue --replacing
    """
    with _folder(folder, passphrase_file) as place:
        _say(actions.issue(place, count, replacing), as_json)


@app.command()
def papers(
    count: Annotated[int, typer.Argument(help="Ballot papers to print.")],
    out: Annotated[Path, typer.Option("--out", help="The PDF to write.")] = Path("papers.pdf"),
    folder: FolderOption = Path("."), passphrase_file: PassphraseOption = None, as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Make a PDF of fresh ballot papers with this station's codes, which `scan` can count.

    Example: ballotboard station papers 300 --out papers.pdf
    """
    printing = _part("printing")
    with _folder(folder, passphrase_file) as place, progress("papers", count, quiet=as_json) as advance:
        outcome = printing.print_papers(place, count, out, advance)
    _say(outcome, as_json)


@app.command()
def scan(
    pictures: Annotated[Path, typer.Argument(help="A folder of pictures from a scanner or camera, one paper each.")],
    frames: Annotated[bool, typer.Option("--frames", help="Recorded frames of a camera: several of each paper are no duplicates.")] = False,
    folder: FolderOption = Path("."), offline: OfflineOption = False, rpc: RpcOption = None, passphrase_file: PassphraseOption = None,
    as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Count a folder of pictures of this station's papers; what a person must read is listed. Exit status 1 if there is such.

    Example: ballotboard station scan box-1/
    """
    scanning = _part("scan")
    with _folder(folder, passphrase_file) as place:
        network = _network(place, rpc, offline)
        with progress("papers", None, quiet=as_json) as advance:
            outcome = scanning.scan(place, pictures, network, advance, frames)
    _say(outcome, as_json)
    if any(outcome.data[name] for name in ("by_hand", "duplicates", "foreign", "forged", "unreadable")):
        raise typer.Exit(1)


@app.command("close")
def close_command(
    folder: FolderOption = Path("."), passphrase_file: PassphraseOption = None, as_json: JsonOption = False
) -> None:
    """Close the station: no more check-ins.

    Example: ballotboard station close
    """
    with _folder(folder, passphrase_file) as place:
        _say(actions.close_station(place), as_json)


@app.command()
def count(
    counts: CountsOption = None, issued: IssuedOption = None, spoiled: SpoiledOption = None, unreturned: UnreturnedOption = None,
    in_box: InBoxOption = None,
    by: ByOption = None,
    from_scan: Annotated[bool, typer.Option("--from-scan", help="Take the scanner's totals; --counts then has what was read by hand beside.")] = False,
    reason: Annotated[str, typer.Option(help="Why papers issued and voters checked in differ, if they do and stay so.")] = "",
    folder: FolderOption = Path("."), offline: OfflineOption = False, rpc: RpcOption = None, passphrase_file: PassphraseOption = None,
    as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Enter the count. Refuses before the time, and what does not balance.

    Without --counts it asks for every figure, and then a second person for every figure again, who has not seen the first entry: both must agree. Two people at
    two times: each with --by NAME. With --counts the figures come from tally sheets on which two people agree already.

    Example: ballotboard station count --counts "Yes=61,No=34,blank=2" --issued 100 --spoiled 2 --unreturned 1
    """
    with _folder(folder, passphrase_file) as place:
        network = _network(place, rpc, offline)
        actions.may_count(place, network)
        counted = _counted(place, counts, issued, spoiled, unreturned, in_box, from_scan)
        if by:
            outcome = actions.enter(place, counted, by, network, reason)
        else:
            if not counts and not from_scan:
                _again(place, counted)
            outcome = actions.count(place, counted, network, reason)
        _say(outcome, as_json)
        _show(place, as_json)


@app.command()
def sign(
    officer: Annotated[Path, typer.Option("--officer", help="Key file of an officer of this station.")],
    folder: FolderOption = Path("."), passphrase_file: PassphraseOption = None, key_passphrase_file: KeyPassphraseOption = None,
    as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Sign what waits: check-ins and the result. Two officers do it, one after the other; no network is needed.

    Example: ballotboard station sign --officer keys/ana.key
    """
    with _folder(folder, passphrase_file) as place:
        _show(place, as_json)
        _say(actions.sign(place, _account(officer, key_passphrase_file or passphrase_file)), as_json)


@app.command()
def submit(
    key: KeyOption = None, relayer: RelayerOption = None, folder: FolderOption = Path("."), rpc: RpcOption = None,
    passphrase_file: PassphraseOption = None, key_passphrase_file: KeyPassphraseOption = None, as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Send the signed check-ins and the signed result hash to the chain.

    Example: ballotboard station submit

    From an account that has gas money, straight to the node: ballotboard station submit --key keys/ana.key
    """
    with _folder(folder, passphrase_file) as place:
        board = _online(place, rpc)
        _say(
            actions.submit(place, board, _payer(place, board, key, relayer, key_passphrase_file or passphrase_file)),
            as_json,
        )


@app.command()
def reveal(
    key: KeyOption = None, relayer: RelayerOption = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the embargo ends by the chain's time.")] = False,
    folder: FolderOption = Path("."), rpc: RpcOption = None, passphrase_file: PassphraseOption = None,
    key_passphrase_file: KeyPassphraseOption = None, as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Publish the result itself, once the embargo is over.

    Example: ballotboard station reveal --wait
    """
    with _folder(folder, passphrase_file) as place:
        board = _online(place, rpc)
        payer = _payer(place, board, key, relayer, key_passphrase_file or passphrase_file)
        _say(actions.reveal(place, board, payer, wait), as_json)


@app.command()
def amend(
    reason: Annotated[str, typer.Option(help="Why the result is corrected; it is published.")],
    counts: CountsOption = None, issued: IssuedOption = None, spoiled: SpoiledOption = None, unreturned: UnreturnedOption = None,
    in_box: InBoxOption = None, by: ByOption = None, folder: FolderOption = Path("."), passphrase_file: PassphraseOption = None,
    as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Enter a corrected count as a new revision; the one before stays on the record. Then sign, submit and reveal it like the first.

    Example: ballotboard station amend --reason "a bundle of 10 was counted twice" --counts "Yes=51,No=34" --issued 87
    """
    with _folder(folder, passphrase_file) as place:
        counted = _counted(place, counts, issued, spoiled, unreturned, in_box)
        if by:
            outcome = actions.enter(place, counted, by, reason=reason, amending=True)
        else:
            if not counts:
                _again(place, counted)
            outcome = actions.amend(place, counted, reason)
        _say(outcome, as_json)
        _show(place, as_json)


@app.command()
def sync(
    key: KeyOption = None, relayer: RelayerOption = None,
    watch: Annotated[bool, typer.Option("--watch", help="Go on until the result is revealed, with and without a network; ^C ends it.")] = False,
    folder: FolderOption = Path("."), rpc: RpcOption = None, passphrase_file: PassphraseOption = None,
    key_passphrase_file: KeyPassphraseOption = None, as_json: JsonOption = False,
) -> None:  # fmt: skip
    """With a network: send all that is signed, reveal what may be revealed, learn what is new. Twice is as good as once.

    Example: ballotboard station sync

    Overnight: --watch reveals the result by itself once the embargo is over, as soon as there is a network. It holds the journal until then.
    """
    with _folder(folder, passphrase_file) as place:
        account = (
            _account(key, key_passphrase_file or passphrase_file) if key else None
        )  # asked for once, before the night

        def synced() -> Outcome:
            board = _online(place, rpc)
            return actions.sync(place, board, account or _carrier(place, board, relayer))

        if not watch:
            _say(synced(), as_json)
            return
        before = ""
        while True:
            try:
                outcome = synced()
            except NodeUnreachable as error:
                outcome = Outcome(f"no network now ({error})", "nothing: it is tried again")
            if outcome.did != before:
                _say(outcome, as_json)
            before = outcome.did
            if actions.finished(place):
                return
            time.sleep(WATCH)


@app.command("pack")
def pack_command(
    out: Annotated[Path, typer.Option("--out", help="The file to write.")] = Path("station.pack"),
    folder: FolderOption = Path("."), offline: OfflineOption = False, rpc: RpcOption = None, passphrase_file: PassphraseOption = None,
    as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Write what two officers have signed into a file that somebody else can carry to a network: no journal, no key, no figures before the embargo ends.

    Example: ballotboard station pack --out school-3.pack
    """
    with _folder(folder, passphrase_file) as place:
        network = _network(place, rpc, offline)
        packed = courier.pack(place, network.now() if network else None)
    try:
        out.write_bytes(packed.body())
    except OSError as error:
        raise BallotboardError(f"cannot write {out}: {error.strerror}") from error
    data = {"documents": len(packed.documents), "file": str(out), "items": len(packed.items)}
    did = f"{out}: {len(packed.items)} signed records and {len(packed.documents)} documents"
    _say(Outcome(did, f"whoever has a network: `ballotboard station carry {out}`", data), as_json)


@app.command()
def carry(
    packs: Annotated[list[Path], typer.Argument(help="Files that `pack` wrote, of any stations of this election.")],
    key: KeyOption = None, relayer: RelayerOption = None,
    board: BoardOption = None, rpc: RpcOption = None, contract: ContractOption = None, key_passphrase_file: KeyPassphraseOption = None,
    as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Send packs of stations to the chain. Anyone may; exit status 1 if the board refused something in them.

    Example: ballotboard station carry school-3.pack school-4.pack

    From an account of your own: ballotboard station carry school-3.pack --key keys/courier.key
    """
    where = connection(board, rpc, contract)
    web3 = connect(where.rpc)
    writer = (
        Writer(web3, where.contract, _account(key, key_passphrase_file))
        if key
        else Carrier(web3, where.contract, relayer or where.relayers)
    )
    items, documents = courier.deliver(writer, [_read_pack(path) for path in packs])
    refused = [str(error) for _, error in (*items.refused, *documents.refused)]
    data = {"refused": refused, "transactions": items.transactions + documents.transactions}
    did = f"{len(packs)} packs carried in {data['transactions']} transactions" + "".join(
        f"; refused: {why}" for why in refused
    )
    _say(Outcome(did, "the stations see it at their next `ballotboard station sync`", data), as_json)
    if refused:
        raise typer.Exit(1)


@app.command()
def status(
    folder: FolderOption = Path("."), offline: OfflineOption = False, rpc: RpcOption = None, passphrase_file: PassphraseOption = None,
    as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Where the station is, and what comes next.

    Example: ballotboard station status --json
    """
    with _folder(folder, passphrase_file) as place:
        value = actions.status(place, _network(place, rpc, offline))
    if as_json:
        emit(value)
        return
    lines = [f"station {value['station']}: {value['name']} ({value['unit']}), election {value['election']}"]
    lines.append("not open yet" if not value["opened"] else "closed" if value["closed"] else "open")
    lines.append(f"{value['check_ins']} check-ins, {value['unbatched']} of them in no batch yet")
    lines += [f"check-in batch {_item(batch)}" for batch in value["batches"]]
    lines += [
        f"result, revision {_item(result)}{', revealed' if result['revealed'] else ''}" for result in value["results"]
    ]
    lines.append(f"journal {value['entries']} entries, hash {value['journal']}")
    if value["recovered"]:
        lines.append(
            f"journal {value['recovered']} times recovered from an interrupted write; nothing confirmed was lost"
        )
    if chain := value.get("chain"):
        lines.append(
            f"chain   {chain['phase']}; revision {chain['revision']}{' revealed' if chain['revealed'] else ''}, {chain['next_batch']} batches"
        )
    typer.echo("\n".join([*lines, f"next: {value['next']}"]))


@app.command("print")
def print_command(
    pdf: Annotated[Path | None, typer.Option("--pdf", help="Write a PDF with a code that anyone can check, instead of text.")] = None,
    folder: FolderOption = Path("."), passphrase_file: PassphraseOption = None, as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Print the result sheet, every zero included.

    Example: ballotboard station print --pdf sheet.pdf
    """
    with _folder(folder, passphrase_file) as place:
        if pdf is None:
            if as_json:
                emit({"sheet": actions.sheet(place)})
            else:
                typer.echo(actions.sheet(place), nl=False)
            return
        code = _part("printing").print_sheet(place, pdf)
    next_ = "sign it on paper, hang it out; `ballotboard station check-sheet CODE` compares it with the record"
    _say(Outcome(f"{pdf}: its code says {code}", next_, {"code": code, "file": str(pdf)}), as_json)


@app.command("check-sheet")
def check_sheet(
    code: Annotated[str, typer.Argument(help="The text of the code on a printed result sheet.")],
    board: BoardOption = None, rpc: RpcOption = None, contract: ContractOption = None, as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Compare a printed result sheet with the record, as anyone may. Exit status 1 if it differs.

    Example: ballotboard station check-sheet "ballotboard:stations/3?election=…"
    """
    wanted = read_sheet_code(code)
    found = sheets.compare(picture.known(_log(board, rpc, contract)), wanted)
    if as_json:
        emit({"differences": found.differences, "latest": found.latest, "same": found.good, "state": found.state})
    else:
        typer.echo("\n".join(found.differences or [found.text]))
    raise typer.Exit(0 if found.good else 1)


@app.command()
def report(
    form: Annotated[str, typer.Option("--form", help="json, csv or pdf.")] = "json",
    out: Annotated[Path | None, typer.Option("--out", help="File to write; default standard output (json, csv).")] = None,
    level: Annotated[str, typer.Option(help="Only this level in csv and pdf: station, or a level of the units, such as nation.")] = "",
    official: Annotated[
        Path | None, typer.Option(help='Published figures to compare with: {"source": text, "units": {"NAME": [votes or null, …], …}}.')
    ] = None,
    scans: Annotated[list[Path] | None, typer.Option(help="What `station scan --json` printed; may be repeated.")] = None,
    board: BoardOption = None, rpc: RpcOption = None, contract: ContractOption = None,
) -> None:  # fmt: skip
    """The central picture of all stations, from the record: who has reported, sums up to the nation, and what to ask about.

    Example: ballotboard station report --form pdf --out report.pdf
    """
    printing = _part("printing")
    log = _log(board, rpc, contract)
    published = picture.read_published(official) if official else None
    now = Board(log.reader.web3, log.contract).now()
    drawn = picture.picture(picture.known(log), now, published, [picture.read_scan(path) for path in scans or ()])
    data = {
        "csv": lambda: printing.report_csv(drawn, level).encode(), "json": lambda: (json.dumps(drawn, ensure_ascii=False) + "\n").encode(),
        "pdf": lambda: printing.report_pdf(drawn, level),
    }  # fmt: skip
    if form not in data or (form == "pdf" and out is None):
        raise BallotboardError("--form is json, csv or pdf, and a pdf needs --out FILE")
    if out is None:
        typer.echo(data[form]().decode(), nl=False)
        return
    try:
        out.write_bytes(data[form]())
    except OSError as error:
        raise BallotboardError(f"cannot write {out}: {error.strerror}") from error
    note(f"{out}: {len(drawn['stations'])} stations, {len(drawn['flags'])} things to ask about")


@app.command()
def serve(
    folder: FolderOption = Path("."),
    port: Annotated[int, typer.Option(help="Port on this machine alone.")] = 8470,
    offline: OfflineOption = False, rpc: RpcOption = None, passphrase_file: PassphraseOption = None,
) -> None:  # fmt: skip
    """A page for poll workers in this machine's browser: touch-sized, English and French, works without a network. Ends on ^C.

    Example: ballotboard station serve --folder school-3
    """
    with _folder(folder, passphrase_file) as place:
        page.serve(place, port, lambda: _network(place, rpc, offline), note)


@app.command()
def export(folder: FolderOption = Path("."), passphrase_file: PassphraseOption = None) -> None:
    """Print the journal in the clear for an audit: a JSON object a line, each with the SHA-256 of the line before.

    Example: ballotboard station export > journal.jsonl
    """
    with _folder(folder, passphrase_file) as place:
        typer.echo(place.journal.export().decode(), nl=False)


def _folder(path: Path, passphrase_file: Path | None) -> StationFolder:
    return StationFolder.open(path, _secret(passphrase_file, path))


def _part(name: str) -> Any:
    """A module that needs a printer's or a scanner's packages, loaded when it is asked for: a counting laptop may be without."""
    try:
        return importlib.import_module(f"station.{name}")
    except ModuleNotFoundError as error:
        raise BallotboardError(f"this needs the package {error.name}: pip install 'ballotboard[station]'") from error


def _read_pack(path: Path) -> courier.Pack:
    return courier.Pack.parse(read_bytes(path), str(path))


def _log(board: Path | None, rpc: str | None, contract: str | None) -> ElectionLog:
    where = connection(board, rpc, contract)
    return read_log(connect(where.rpc), where.contract)


def _account(key: Path, passphrase_file: Path | None) -> LocalAccount:
    return load_account(key, _secret(passphrase_file, key))


def _payer(
    place: StationFolder, board: Board, key: Path | None, relayers: list[str] | None, passphrase_file: Path | None
) -> actions.Payer:
    return _account(key, passphrase_file) if key else _carrier(place, board, relayers)


def _carrier(place: StationFolder, board: Board, relayers: list[str] | None) -> Carrier:
    """The relayers that were named, or those of the folder's connection file."""
    return Carrier(board.web3, board.address, relayers or place.connection.relayers)


def _secret(file: Path | None, what: Path) -> str:
    if file is None and PASSPHRASE_VARIABLE not in os.environ:
        note(f"{what}:")  # two are asked for, one after the other
    return passphrase(file)


def _online(place: StationFolder, rpc: str | None) -> Board:
    return Board(connect(rpc or place.connection.rpc), place.contract)


def _network(place: StationFolder, rpc: str | None, offline: bool) -> Board | None:
    if offline:
        return None
    try:
        return _online(place, rpc)
    except NodeUnreachable as error:
        note(f"working without a network ({error})")
        return None


def _counted(
    place: StationFolder,
    texts: list[str] | None,
    issued: int | None,
    spoiled: int | None,
    unreturned: int | None,
    in_box: int | None,
    from_scan: bool = False,
) -> Counted:
    """The figures from the options; what is missing is asked for, and papers in the box then too. With `from_scan` the scanner's are added."""
    ask = not texts and not from_scan
    issued = _number("papers issued", issued)
    spoiled = _number("papers spoiled", spoiled) if ask or spoiled is not None else 0
    unreturned = _number("papers not returned", unreturned) if ask or unreturned is not None else 0
    if in_box is None:
        in_box = _number("papers in the box", None) if ask else issued - spoiled - unreturned
    style = place.manifest.styles[place.units[place.station.unit].style]
    if not from_scan:
        rows = [_row(index, place.manifest.contests[index], texts, len(style)) for index in style]
        return Counted(issued, spoiled, unreturned, in_box, tuple(rows))
    scanned = place.state.scanned
    if scanned is None:
        raise DoesNotBalance("nothing was scanned: `ballotboard station scan FOLDER`")
    rows = list(scanned.contests)
    if texts:
        by_hand = [_row(index, place.manifest.contests[index], texts, len(style)) for index in style]
        rows = [add_counts(a, b) for a, b in zip(rows, by_hand, strict=True)]
    return Counted(issued, spoiled, unreturned, in_box, tuple(rows))


def _again(place: StationFolder, first: Counted) -> None:
    """The second entry, by another person who has not seen the first. Raises DoesNotBalance naming what differs, not by how much."""
    if sys.stderr.isatty():
        typer.echo("\033[2J\033[H", nl=False, err=True)  # the first entry leaves the screen
    note("and now a second person, who has not seen these figures, enters them all again")
    second = _counted(place, None, None, None, None, None)
    if different := actions.differences(place, first, second):
        raise DoesNotBalance(
            f"the two entries differ in {', '.join(different)}: count these again. Nothing was recorded"
        )


def _row(index: int, contest: Contest, texts: list[str] | None, contests: int) -> ContestCount:
    if texts:
        own = [
            text.removeprefix(f"{contest.id}:") for text in texts if contests == 1 or text.startswith(f"{contest.id}:")
        ]
        if len(own) != 1:
            raise DoesNotBalance(
                f"contest {contest.id}: expected one --counts '{contest.id}:Option=12,…', found {len(own)}"
            )
        return contest_count(index, contest, parse_counts(own[0]))
    note(contest.title + ("" if contest.rule == Rule.ONE_OF_K else " (marks for each option)"))
    names = [*contest.options, *([BLANK] if contest.blank is None else []), INVALID]
    return contest_count(index, contest, {name: _number(f"  {name}", None) for name in names})


def _number(what: str, given: int | None) -> int:
    return given if given is not None else int(typer.prompt(what, type=int, err=True))


def _item(item: dict) -> str:
    where = (
        f", record {item['position']}"
        if item["position"] is not None
        else ", on the chain"
        if item["sent"]
        else ", not sent"
    )
    return f"{item['number']}: {len(item['signed_by'])} of 2 signatures{where}"


def _say(outcome: Outcome, as_json: bool = False) -> None:
    if as_json:
        emit(outcome.value())
        return
    note(outcome.did)
    note(f"next: {outcome.next}")


def _show(place: StationFolder, as_json: bool) -> None:
    """The result sheet: nobody signs what was not shown."""
    if place.state.documents and not as_json:
        typer.echo(actions.sheet(place))
