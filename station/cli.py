"""`ballotboard station`: a thin layer over station.actions. Each command says what happened and what comes next."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from eth_account.signers.local import LocalAccount

from chain.board import Board
from chain.console import (
    PASSPHRASE_VARIABLE,
    BoardOption,
    ContractOption,
    JsonOption,
    PassphraseOption,
    RpcOption,
    connection,
    emit,
    note,
    passphrase,
)
from chain.errors import NodeUnreachable
from chain.keys import load_account
from chain.rpc import connect
from protocol.manifest import Contest, Rule
from protocol.paper import ContestCount
from station import actions
from station.actions import Outcome
from station.folder import StationFolder
from station.result import BLANK, INVALID, Counted, DoesNotBalance, contest_count, parse_counts

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None,
    help="A polling station: check-ins, the paper count, a signed result. Works without a network.\n\n"
    "Start with: ballotboard station init school-3 --station 3; a station's day is in station/README.md",
)  # fmt: skip

FolderOption = Annotated[Path, typer.Option("--folder", help="The station's folder.")]
KeyOption = Annotated[
    Path, typer.Option("--key", help="Key file of whoever sends it and pays for it: an officer, or anybody.")
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
SpoiledOption = Annotated[int | None, typer.Option(help="Papers spoiled and replaced.")]
UnreturnedOption = Annotated[int | None, typer.Option(help="Papers that did not come back.")]
InBoxOption = Annotated[
    int | None, typer.Option("--in-box", help="Papers found in the box; default: issued - spoiled - unreturned.")
]


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="A new folder.")],
    station: Annotated[int, typer.Option("--station", help="The station's number in the election.")],
    board: BoardOption = None, rpc: RpcOption = None, contract: ContractOption = None, passphrase_file: PassphraseOption = None,
) -> None:  # fmt: skip
    """Make the station's folder, with all that it needs to work without a network from then on.

    Example: ballotboard station init school-3 --station 3
    """
    where = connection(board, rpc, contract)
    secret = passphrase(passphrase_file, confirm=True)
    with actions.init(folder, Board(connect(where.rpc), where.contract), station, secret, where) as made:
        note(
            f"{folder}: station {station}, {made.station.name} ({made.units[made.station.unit].name}), election {made.manifest.election_id.hex()}"
        )
        note(f"next: in the morning `ballotboard station open --folder {folder}`")


@app.command("open")
def open_command(
    folder: FolderOption = Path("."),
    offline: OfflineOption = False,
    rpc: RpcOption = None,
    passphrase_file: PassphraseOption = None,
) -> None:
    """Open the station: from here on voters are checked in.

    Example: ballotboard station open
    """
    with _folder(folder, passphrase_file) as place:
        _say(actions.open_station(place, _network(place, rpc, offline)))


@app.command("check-in")
def check_in(
    indices: Annotated[list[int], typer.Argument(help="Roll indices, from the public code on the voters' cards.")],
    folder: FolderOption = Path("."), passphrase_file: PassphraseOption = None,
) -> None:  # fmt: skip
    """Check in voters who take a paper ballot.

    Example: ballotboard station check-in 1204 1377
    """
    with _folder(folder, passphrase_file) as place:
        _say(actions.check_in(place, indices))


@app.command("close")
def close_command(folder: FolderOption = Path("."), passphrase_file: PassphraseOption = None) -> None:
    """Close the station: no more check-ins.

    Example: ballotboard station close
    """
    with _folder(folder, passphrase_file) as place:
        _say(actions.close_station(place))


@app.command()
def count(
    counts: CountsOption = None, issued: IssuedOption = None, spoiled: SpoiledOption = None, unreturned: UnreturnedOption = None,
    in_box: InBoxOption = None,
    reason: Annotated[str, typer.Option(help="Why papers issued and voters checked in differ, if they do and stay so.")] = "",
    folder: FolderOption = Path("."), offline: OfflineOption = False, rpc: RpcOption = None, passphrase_file: PassphraseOption = None,
) -> None:  # fmt: skip
    """Enter the count; asks for every figure that is not given. Refuses before the time, and what does not balance.

    Example: ballotboard station count --counts "Yes=61,No=34,blank=2" --issued 100 --spoiled 2 --unreturned 1
    """
    with _folder(folder, passphrase_file) as place:
        network = _network(place, rpc, offline)
        counted = _counted(place, counts, issued, spoiled, unreturned, in_box)
        _say(actions.count(place, counted, network, reason))
        typer.echo(actions.sheet(place))


@app.command()
def sign(
    officer: Annotated[Path, typer.Option("--officer", help="Key file of an officer of this station.")],
    folder: FolderOption = Path("."), passphrase_file: PassphraseOption = None, key_passphrase_file: KeyPassphraseOption = None,
) -> None:  # fmt: skip
    """Sign what waits: check-ins and the result. Two officers do it, one after the other; no network is needed.

    Example: ballotboard station sign --officer keys/ana.key
    """
    with _folder(folder, passphrase_file) as place:
        if place.state.documents:
            typer.echo(actions.sheet(place))
        _say(actions.sign(place, _account(officer, key_passphrase_file or passphrase_file)))


@app.command()
def submit(
    key: KeyOption, folder: FolderOption = Path("."), rpc: RpcOption = None, passphrase_file: PassphraseOption = None,
    key_passphrase_file: KeyPassphraseOption = None,
) -> None:  # fmt: skip
    """Send the signed check-ins and the signed result hash to the chain.

    Example: ballotboard station submit --key keys/ana.key
    """
    with _folder(folder, passphrase_file) as place:
        _say(actions.submit(place, _online(place, rpc), _account(key, key_passphrase_file or passphrase_file)))


@app.command()
def reveal(
    key: KeyOption,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the embargo ends by the chain's time.")] = False,
    folder: FolderOption = Path("."), rpc: RpcOption = None, passphrase_file: PassphraseOption = None,
    key_passphrase_file: KeyPassphraseOption = None,
) -> None:  # fmt: skip
    """Publish the result itself, once the embargo is over.

    Example: ballotboard station reveal --wait --key keys/ana.key
    """
    with _folder(folder, passphrase_file) as place:
        account = _account(key, key_passphrase_file or passphrase_file)
        _say(actions.reveal(place, _online(place, rpc), account, wait))


@app.command()
def amend(
    reason: Annotated[str, typer.Option(help="Why the result is corrected; it is published.")],
    counts: CountsOption = None, issued: IssuedOption = None, spoiled: SpoiledOption = None, unreturned: UnreturnedOption = None,
    in_box: InBoxOption = None, folder: FolderOption = Path("."), passphrase_file: PassphraseOption = None,
) -> None:  # fmt: skip
    """Enter a corrected count as a new revision; the one before stays on the record. Then sign, submit and reveal it like the first.

    Example: ballotboard station amend --reason "a bundle of 10 was counted twice" --counts "Yes=51,No=34" --issued 87
    """
    with _folder(folder, passphrase_file) as place:
        _say(actions.amend(place, _counted(place, counts, issued, spoiled, unreturned, in_box), reason))
        typer.echo(actions.sheet(place))


@app.command()
def sync(
    key: KeyOption, folder: FolderOption = Path("."), rpc: RpcOption = None, passphrase_file: PassphraseOption = None,
    key_passphrase_file: KeyPassphraseOption = None,
) -> None:  # fmt: skip
    """With a network: send all that is signed, reveal what may be revealed, learn what is new. Twice is as good as once.

    Example: ballotboard station sync --key keys/ana.key
    """
    with _folder(folder, passphrase_file) as place:
        _say(actions.sync(place, _online(place, rpc), _account(key, key_passphrase_file or passphrase_file)))


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
def print_command(folder: FolderOption = Path("."), passphrase_file: PassphraseOption = None) -> None:
    """Print the result sheet as text, every zero included.

    Example: ballotboard station print > sheet.txt
    """
    with _folder(folder, passphrase_file) as place:
        typer.echo(actions.sheet(place), nl=False)


@app.command()
def export(folder: FolderOption = Path("."), passphrase_file: PassphraseOption = None) -> None:
    """Print the journal in the clear for an audit: a JSON object a line, each with the SHA-256 of the line before.

    Example: ballotboard station export > journal.jsonl
    """
    with _folder(folder, passphrase_file) as place:
        typer.echo(place.journal.export().decode(), nl=False)


def _folder(path: Path, passphrase_file: Path | None) -> StationFolder:
    return StationFolder.open(path, _secret(passphrase_file, path))


def _account(key: Path, passphrase_file: Path | None) -> LocalAccount:
    return load_account(key, _secret(passphrase_file, key))


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
) -> Counted:
    """The figures from the options; what is missing is asked for, and papers in the box then too."""
    ask = not texts
    issued = _number("papers issued", issued)
    spoiled = _number("papers spoiled", spoiled) if ask or spoiled is not None else 0
    unreturned = _number("papers not returned", unreturned) if ask or unreturned is not None else 0
    if in_box is None:
        in_box = _number("papers in the box", None) if ask else issued - spoiled - unreturned
    style = place.manifest.styles[place.units[place.station.unit].style]
    rows = [_row(index, place.manifest.contests[index], texts, len(style)) for index in style]
    return Counted(issued, spoiled, unreturned, in_box, tuple(rows))


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


def _say(outcome: Outcome) -> None:
    note(outcome.did)
    note(f"next: {outcome.next}")
