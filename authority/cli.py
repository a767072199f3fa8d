"""`ballotboard election`: the authority's commands, a thin layer over authority.plan, authority.actions and authority.status."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from web3 import Web3

from authority import actions
from authority.config import CONFIG_FILE, Config, ConfigError, Moment, parse_moment, read_config
from authority.conflicts import decide as record_decision
from authority.conflicts import find_conflicts
from authority.plan import KEYS_FOLDER, Plan, new_election
from authority.status import read_status
from chain.board import Board
from chain.console import (
    BOARD_FILE,
    BoardOption,
    CometOption,
    ContractOption,
    HoldersOption,
    JsonOption,
    PassphraseOption,
    RpcOption,
    connection,
    emit,
    note,
    passphrase,
    print_time,
    progress,
    read_bytes,
    screen,
)
from chain.holding import Attestation, bitmap_path
from chain.keys import load_account
from chain.rpc import connect
from protocol.errors import BallotboardError
from protocol.manifest import RULE_NAMES

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None,
    help="Make, publish, open, close, settle and announce an election.\n\nStart with: ballotboard election new trial",
)  # fmt: skip

ConfigOption = Annotated[Path, typer.Option("--config", help="The election's file.")]
KeyOption = Annotated[
    Path, typer.Option("--key", help="Key file: of the authority, or for close and settle of anybody with gas money.")
]
WaitOption = Annotated[bool, typer.Option("--wait", help="Wait until the chain's time has come.")]


@app.command()
def new(
    folder: Annotated[Path, typer.Argument(help="A new folder for the election.")],
    name: Annotated[str, typer.Option(help="The election's name.")] = "Trial election",
    title: Annotated[str, typer.Option(help="The question.")] = "Do you agree?",
    option: Annotated[
        list[str] | None,
        typer.Option(help="An option; give it for each. Default: yes and no. One called blank is the blank vote."),
    ] = None,
    rule: Annotated[str, typer.Option(help=f"One of {', '.join(RULE_NAMES)}.")] = "one-of-k",
    limit: Annotated[int, typer.Option(help="For up-to-L: how many options a voter may mark.")] = 0,
    unit: Annotated[
        list[str] | None, typer.Option(help="A unit, such as a ward; give it for each. Default: one for all voters.")
    ] = None,
    units_file: Annotated[
        Path | None,
        typer.Option(help="A unit tree of any depth instead: CSV id,parent,level,name,style, or the same as *.jsonl."),
    ] = None,
    trustees: Annotated[int, typer.Option(help="Trustees who hold a share of the key.")] = 3,
    threshold: Annotated[int, typer.Option(help="How many of them it takes to decrypt.")] = 2,
    stations: Annotated[int, typer.Option(help="Polling stations with paper, two officers each.")] = 1,
    setup_minutes: Annotated[int, typer.Option(help="Minutes for the ceremony and the roll, after publication.")] = 5,
    voting_minutes: Annotated[int, typer.Option(help="Minutes for which the poll is open at least.")] = 5,
    practice: Annotated[
        bool, typer.Option("--practice", help="A rehearsal: station results are marked as meaning nothing.")
    ] = False,
    keys: Annotated[bool, typer.Option(help="Make a key file for every role, for trying out on one machine.")] = True,
    passphrase_file: PassphraseOption = None,
) -> None:
    """Write an election.toml, and for trying out a key file for every role.

    Example: ballotboard election new trial --title "Best fruit?" --option Apple --option Pear --voting-minutes 3
    """
    plan = Plan(
        name, title, tuple(option or ("yes", "no")), rule, limit, tuple(unit or ()), units_file, trustees, threshold,
        stations=stations, setup_minutes=setup_minutes, voting_minutes=voting_minutes, practice=practice,
    )  # fmt: skip
    secret = passphrase(passphrase_file, confirm=True) if keys else None
    with progress("keys", None, quiet=not keys) as advance:
        path = new_election(folder, plan, secret, advance)
    note(f"{path}: look through it, then: ballotboard election check --config {path}")
    if keys:
        note(
            f"{folder / KEYS_FOLDER} holds the keys of everyone, under one passphrase, for trying out. In a real election each person runs"
            " `ballotboard keys new` on their own machine and sends only the address."
        )
    else:
        note(
            "Each person runs `ballotboard keys new` on their own machine and sends the address that it prints, to be written into the file."
        )


@app.command()
def check(config: ConfigOption = Path(CONFIG_FILE), as_json: JsonOption = False) -> None:
    """Read the election's file, list everything that is wrong, and show its times and roles.

    Example: ballotboard election check --config trial/election.toml
    """
    try:
        found = read_config(config)
    except ConfigError as error:
        if as_json:
            emit({"problems": list(error.problems)})
        else:
            for problem in error.problems:
                typer.echo(problem)
        raise BallotboardError(f"{config}: {_things(len(error.problems))} wrong") from error
    if as_json:
        emit(
            {
                "problems": [],
                "roles": found.members["roles"],
                "windows": {name: _moment(moment) for name, moment in found.windows.items()},
            }
        )
        return
    for line in _summary(found):
        typer.echo(line)


@app.command()
def publish(
    key: KeyOption,
    config: ConfigOption = Path(CONFIG_FILE),
    board: Annotated[Path, typer.Option("--board", help="Connection file to write, for every other command.")] = Path(
        BOARD_FILE
    ),
    rpc: Annotated[str, typer.Option("--rpc", help="URL of a node.")] = "http://127.0.0.1:8545",
    relayer: Annotated[
        list[str] | None, typer.Option(help="URL of a relayer, for the connection file; may be repeated.")
    ] = None,
    public_board: Annotated[
        list[str] | None, typer.Option(help="URL of a bulletin board, for the connection file; may be repeated.")
    ] = None,
    holder: HoldersOption = None,
    comet: CometOption = None,
    force: Annotated[
        bool, typer.Option("--force", help="Publish a new election although the connection file names one.")
    ] = False,
    passphrase_file: PassphraseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Create the election's board on the chain and write the connection file. Nothing in the file can be changed afterwards.

    Example: ballotboard election publish --config trial/election.toml --key trial/keys/authority.json
    """
    found = read_config(config)
    account = load_account(key, passphrase(passphrase_file))
    published = actions.publish(
        connect(rpc), rpc, found, account, board, force, relayer or (), public_board or (), comet or "", holder or ()
    )
    if as_json:
        emit(
            {"election": published.connection.election, "contract": published.connection.contract, "board": str(board)}
        )
        return
    note(f"published at {published.connection.contract}; {board} is for every other command")
    note("the election id, to be printed on voters' cards:")
    typer.echo(published.connection.election)


@app.command("open")
def open_(
    key: KeyOption, board: BoardOption = None, rpc: RpcOption = None, contract: ContractOption = None, wait: WaitOption = False,
    passphrase_file: PassphraseOption = None, as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Open the poll, once the trustees have made the key and the roll is published.

    Example: ballotboard election open --key keys/authority.json --wait
    """
    web3, address = _connect(board, rpc, contract)
    account = load_account(key, passphrase(passphrase_file))
    _wait(wait, web3, lambda: Board(web3, address).windows().open_not_before, "the poll may open")
    opened = actions.open_poll(web3, address, account)
    if as_json:
        emit({"position": opened.position, "key": opened.key.hex(), "voters": opened.voters})
        return
    note(
        f"the poll is open for {opened.voters} voters until {print_time(Board(web3, address).close_time())} (record {opened.position}); the joint key K:"
    )
    typer.echo(opened.key.hex())


@app.command()
def close(
    key: KeyOption, board: BoardOption = None, rpc: RpcOption = None, contract: ContractOption = None, wait: WaitOption = False,
    passphrase_file: PassphraseOption = None, as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Append the close record, after the close and the relayers' grace. Anyone may.

    Example: ballotboard election close --key keys/authority.json --wait
    """
    web3, address = _connect(board, rpc, contract)
    account = load_account(key, passphrase(passphrase_file))
    _wait(wait, web3, lambda: actions.close_time(web3, address), "the poll may be closed")
    _landed("closed", actions.close_poll(web3, address, account), as_json)


@app.command()
def settle(
    key: KeyOption, board: BoardOption = None, rpc: RpcOption = None, contract: ContractOption = None, wait: WaitOption = False,
    attestation: Annotated[
        list[Path] | None,
        typer.Option(help="What a data holder wrote with `ballotboard relayer attest`; repeat it. Where only hashes are on the chain."),
    ] = None,
    passphrase_file: PassphraseOption = None, as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Append the settlement: from then on which ballots count is fixed. Anyone may.

    Example: ballotboard election settle --key keys/authority.json --wait
    """
    web3, address = _connect(board, rpc, contract)
    account = load_account(key, passphrase(passphrase_file))
    attestations = [Attestation.parse(read_bytes(path)) for path in attestation or ()]
    bitmap = read_bytes(bitmap_path(attestation[0])) if attestation else b""
    _wait(wait, web3, lambda: Board(web3, address).windows().settle_not_before, "the counted set may be settled")
    _landed("settled", actions.settle_poll(web3, address, account, attestations, bitmap), as_json)


@app.command()
def announce(
    key: KeyOption, board: BoardOption = None, rpc: RpcOption = None, contract: ContractOption = None, holder: HoldersOption = None,
    passphrase_file: PassphraseOption = None, as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Recompute the result from the record and put it there. Anyone can check that it is the right one.

    Example: ballotboard election announce --key keys/authority.json
    """
    where = connection(board, rpc, contract, holders=holder)
    account = load_account(key, passphrase(passphrase_file))
    with progress("ballots", None) as advance:
        announced = actions.announce(connect(where.rpc), where.contract, account, advance, where.holders)
    if as_json:
        emit({"position": announced.position, "result": announced.result, "faults": announced.faults})
        return
    for position, why in announced.faults:
        note(f"record {position} does not count: {why}")
    note(f"announced (record {announced.position}); anyone can check it: ballotboard verify")
    for contest, total in zip(announced.manifest.contests, announced.result["total"], strict=True):
        typer.echo(contest.title)
        for text, votes in zip(contest.options, total, strict=True):
            typer.echo(f"  {votes:>9,}  {text}")


@app.command()
def status(
    board: BoardOption = None, rpc: RpcOption = None, contract: ContractOption = None, as_json: JsonOption = False
) -> None:
    """Where the election stands, and who must do what next.

    Example: ballotboard election status
    """
    web3, address = _connect(board, rpc, contract)
    found = read_status(web3, address)
    if as_json:
        emit(found.value())
        return
    typer.echo(f"{found.manifest.name}: {found.phase.name.lower()}{', certified' if found.certified else ''}")
    typer.echo(f"election id  {found.manifest.election_id.hex()}")
    if found.key:
        typer.echo(f"joint key K  {found.key.hex()}")
    typer.echo(f"now          {print_time(found.now)}")
    for name, seconds in found.times.items():
        if name != "append_grace":
            typer.echo(
                f"  {name.replace('_', ' '):<19} {print_time(seconds)}{'  (passed)' if seconds <= found.now else ''}"
            )
    typer.echo("records      " + ", ".join(f"{count:,} {kind}" for kind, count in found.counts.items()))
    for complaint in found.complaints:
        typer.echo(f"complaint    {complaint.line()}")
    for step in found.next:
        when = f", from {print_time(step.not_before)} on" if step.not_before > found.now else ""
        typer.echo(f"next         {step.who}: {step.what}{when}")


@app.command()
def extend(
    key: KeyOption,
    to: Annotated[str, typer.Option("--to", help='The new close: a time with its zone, or "+10m" after the present close.')],
    reason: Annotated[str, typer.Option(help="Why; it goes on the record.")],
    board: BoardOption = None, rpc: RpcOption = None, contract: ContractOption = None,
    passphrase_file: PassphraseOption = None, as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Move the close of the poll to a later time, at most the manifest's close_not_after.

    Example: ballotboard election extend --key keys/authority.json --to +10m --reason "power cut at the town hall"
    """
    web3, address = _connect(board, rpc, contract)
    try:
        moment = parse_moment(to).at(Board(web3, address).close_time())
    except ValueError as error:
        raise BallotboardError(
            "--to: write a time with its zone like 2026-11-03T20:00:00-05:00, or +10m after the present close"
        ) from error
    account = load_account(key, passphrase(passphrase_file))
    position = actions.extend_poll(web3, address, account, moment, reason)
    if not as_json:
        note(f"the poll now closes at {print_time(moment)}")
    _landed("extended", position, as_json)


@app.command()
def conflicts(
    board: BoardOption = None, rpc: RpcOption = None, contract: ContractOption = None, as_json: JsonOption = False
) -> None:
    """Voters who took paper twice, by the check-ins on the record, and what was decided about each.

    Example: ballotboard election conflicts
    """
    web3, address = _connect(board, rpc, contract)
    found = find_conflicts(web3, address)
    if as_json:
        emit([conflict.value() for conflict in found])
        return
    for c in found:
        first, second = (
            f"{x.name} (station {x.station}, {print_time(x.time)}, record {x.record})" for x in (c.first, c.second)
        )
        typer.echo(f"roll index {c.roll_index}: first at {first}, which counts; again at {second}")
        typer.echo(f"  {f'decided in record {c.decision[0]}: {c.decision[1]}' if c.decision else 'not decided'}")
    undecided = sum(c.decision is None for c in found)
    note(
        f"{len(found)} conflicts, {undecided} of them not decided"
        + (": `ballotboard election decide`" if undecided else "")
    )


@app.command()
def decide(
    roll_index: Annotated[int, typer.Argument(help="The voter who was checked in twice.")],
    text: Annotated[str, typer.Option("--text", help="What was found and decided; it goes on the record.")],
    key: KeyOption,
    cosigner: Annotated[Path, typer.Option("--cosigner", help="Key file of the second institution.")],
    board: BoardOption = None, rpc: RpcOption = None, contract: ContractOption = None,
    passphrase_file: PassphraseOption = None, as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Put a decision on a conflict on the record, signed by the authority and a second institution, before the settlement. What counts stays the rule's.

    Example: ballotboard election decide 17 --text "two papers found; the second was set aside" --key keys/authority.json --cosigner keys/cosigner.json
    """
    web3, address = _connect(board, rpc, contract)
    secret = passphrase(passphrase_file)
    accounts = [load_account(path, secret) for path in (key, cosigner)]
    _landed("decided", record_decision(web3, address, accounts[0], accounts[1], roll_index, text), as_json)


# ---------------------------------------------------------------- helpers


def _connect(board: Path | None, rpc: str | None, contract: str | None) -> tuple[Web3, str]:
    found = connection(board, rpc, contract)
    return connect(found.rpc), found.contract


def _wait(wait: bool, web3: Web3, moment: Callable[[], int], what: str) -> None:
    """With --wait, a countdown until the chain's time has come; without, nothing: the board refuses what is early, saying until when."""
    if not wait:
        return
    with screen.status("") as line:
        actions.wait_until(web3, moment, lambda left: line.update(f"{what} in {left // 60}:{left % 60:02}"))


def _landed(what: str, position: int, as_json: bool) -> None:
    if as_json:
        emit({"position": position})
    else:
        note(f"{what} (record {position})")


def _things(count: int) -> str:
    return "1 thing is" if count == 1 else f"{count} things are"


def _moment(moment: Moment) -> Any:
    return {"after_publication": moment.seconds} if moment.relative else moment.seconds


def _summary(config: Config) -> list[str]:
    """The election for people: contests, places, times in this machine's zone (relative ones as if published now), roles."""
    now = int(time.time())
    relative = any(moment.relative for moment in config.windows.values())
    lines = [config.members["name"]]
    lines += [f"contest  {c['title']}: {', '.join(c['options'])} ({c['rule']})" for c in config.members["contests"]]
    lines.append(f"places   {len(config.units)} units, {len(config.stations)} stations")
    lines.append("times" + ("    if published now" if relative else ""))
    lines += [f"  {name.replace('_', ' '):<19} {print_time(moment.at(now))}" for name, moment in config.windows.items()]
    lines.append(f"  {'append grace':<19} {config.append_grace} s")
    lines.append(f"roles    {config.members['thresholds']['trustees']} trustees decrypt")
    lines += [f"  {role['kind']:<12} 0x{role['address']}  {role['name']}" for role in config.members["roles"]]
    return lines
