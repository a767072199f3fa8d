"""`ballotboard rollup`: sums from units to the nation, where the ballots are, checked at any level."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Annotated, Any

import typer

from chain import console
from chain.console import BoardOption, ContractOption, JsonOption, PassphraseOption, RpcOption, emit, note, progress
from protocol.attachments import describe, pack
from protocol.encoding import unhex
from protocol.errors import BallotboardError
from protocol.group import parse_point
from rollup import inbox, keys
from rollup.plan import Plan
from rollup.tree import read_tree

ROLL_FILE = "roll"
BALLOTS_SUFFIX = ".ballots"

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Sums from units to the nation: encrypted, signed, checked at any level. Exit status: 0 done, 1 does not check, 2 could not run.\n\n"
    "Example: ballotboard rollup demo --places nation --data DIR",
)

Folder = Annotated[
    Path, typer.Argument(metavar="DIR", help="Folder with the plan and the inboxes, from `rollup plan`.")
]
Unit = Annotated[str, typer.Option("--unit", help="The unit: its number, or its name where only one has it.")]
KeyOption = Annotated[Path, typer.Option("--key", help="Key file that signs for the unit, from `rollup key`.")]
PartialOption = Annotated[bool, typer.Option("--partial", help="Do without the sums that are missing.")]
CHECK_OK, CHECK_FAILED = 0, 1


@app.command()
def tree(
    file: Annotated[Path, typer.Argument(help="CSV: id, parent (empty for the root), level, name, and style if several.")],
    out: Annotated[Path | None, typer.Option(help="Write the manifest's `units` attachment here.")] = None,
    styles: Annotated[int, typer.Option(min=1, help="Number of ballot styles.")] = 1,
    as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Read a unit tree of any depth; a cycle, an orphan or a second parent is refused by name.

    Example: ballotboard rollup tree units.csv --out units
    """
    from protocol.attachments import parse_units

    units, numbers = read_tree(file)
    rows = [unit.row() for unit in units]
    parse_units(rows, styles)
    if out:
        out.write_bytes(pack(rows))
    value = {"units": len(units), "attachment": describe(rows).value(), "numbers": numbers}
    if as_json:
        emit(value)
    else:
        typer.echo(f"{len(units):,} units\nsha256  {describe(rows).sha256.hex()}")


@app.command()
def key(
    file: Annotated[Path, typer.Argument(help="Key file; made if it is not there.")],
    units: Annotated[
        str, typer.Option(help="Units whose public keys to print, as 0,5-9; one file may sign for many.")
    ] = "0",
    passphrase_file: PassphraseOption = None,
) -> None:
    """Make a key file, and print `unit,public key` for the plan.

    Example: ballotboard rollup key county.key --units 52,53-60 >> keys.csv
    """
    numbers = _numbers(units)
    there = file.exists()
    passphrase = console.passphrase(passphrase_file, confirm=not there)
    found = keys.load(file, passphrase) if there else keys.create(file, passphrase)
    public = found.public(numbers)
    for i, number in enumerate(numbers):
        typer.echo(f"{number},{public[32 * i : 32 * i + 32].hex()}")


@app.command()
def plan(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to make.")],
    keys_file: Annotated[Path, typer.Option("--keys", help="Lines `unit,public key` for every unit, from `rollup key`.")],
    board: BoardOption = None,
    rpc: RpcOption = None,
    contract: ContractOption = None,
    as_json: JsonOption = False,
) -> None:  # fmt: skip
    """The plan of an election whose poll is open: what all levels of a roll-up share. Writes the roll beside it.

    Example: ballotboard rollup plan rollup --keys keys.csv --board board.json
    """
    election = _log(board, rpc, contract).open()
    signers = _read_keys(keys_file, len(election.units))
    made = Plan.of_election(election, signers)
    made.save(folder)
    (folder / ROLL_FILE).write_bytes(election.roll.data)
    value = {"plan": made.id.hex(), "units": len(made.units), "folder": str(folder)}
    if as_json:
        emit(value)
    else:
        typer.echo(f"plan {made.id.hex()}, {len(made.units):,} units, in {folder}")


@app.command()
def ballots(
    folder: Folder,
    board: BoardOption = None,
    rpc: RpcOption = None,
    contract: ContractOption = None,
    as_json: JsonOption = False,
) -> None:
    """The counted ballots of each leaf unit of a settled election, one file a unit, for `rollup run`.

    Example: ballotboard rollup ballots rollup --board board.json
    """
    from protocol.records import pack_bodies

    made = Plan.open(folder)
    settled, bodies = _settled(board, rpc, contract)
    _same_election(made, settled.election.manifest.election_id)
    (folder / ROLL_FILE).write_bytes(settled.roll_state.roll.data)
    by_unit: dict[int, list[bytes]] = {number: [] for number in range(len(made.units)) if made.is_leaf(number)}
    for row in settled.counted.counted():
        by_unit[settled.roll_state.roll.row(row.roll_index)[1]].append(bodies[row.position])
    for unit, some in by_unit.items():
        inbox.write(folder / str(unit) / f"counted{BALLOTS_SUFFIX}", pack_bodies(some), sync=False)
    value = {"ballots": sum(map(len, by_unit.values())), "units": len(by_unit)}
    if as_json:
        emit(value)
    else:
        typer.echo(
            f"{value['ballots']:,} counted ballots of {value['units']:,} units are in {folder}/UNIT/counted{BALLOTS_SUFFIX}"
        )


@app.command()
def run(
    folder: Folder,
    key_file: KeyOption,
    unit: Annotated[str, typer.Option("--unit", help="One unit, by number or name; default: the whole tree, from its leaves' sums.")] = "",
    ballots: Annotated[Path | None, typer.Option(help="A leaf unit's counted ballots; - reads standard input; default: DIR/UNIT/counted.ballots.")] = None,
    roll: Annotated[Path | None, typer.Option(help="The roll; default: DIR/roll.")] = None,
    checkpoint_every: Annotated[int, typer.Option(min=0, help="Ballots between checkpoints of a leaf unit; 0: 100, and more where the roll is long.")] = 0,
    partial: PartialOption = False,
    processes: Annotated[int, typer.Option(min=0, help="For the whole tree; 0: all cores.")] = 0,
    dask: Annotated[str, typer.Option(help="Run the whole tree on this Dask scheduler; `local` starts a cluster of processes here.")] = "",
    passphrase_file: PassphraseOption = None,
    as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Make sums: a leaf unit's from its ballots, an inner unit's from its inbox, or those of the whole tree. Running again changes nothing.

    Example: ballotboard rollup run rollup --key precinct.key --unit 57 --ballots counted.ballots
    """
    made, secret = Plan.open(folder), keys.load(key_file, console.passphrase(passphrase_file))
    value: dict[str, Any]
    if unit and made.is_leaf(made.unit(unit)):
        value = _run_leaf(made, folder, made.unit(unit), secret, ballots, roll or folder / ROLL_FILE, checkpoint_every)
    else:
        from rollup import run as runs

        if unit:
            outcome = runs.run_unit(made, folder, made.unit(unit), secret, partial)
        elif dask:
            with runs.cluster(dask) as client:
                outcome = runs.run_dask(made, folder, secret, client, partial=partial)
        else:
            outcome = runs.run_tree(made, folder, secret, processes=processes, partial=partial)
        value = _describe(made, outcome.sum) | {"missing": list(outcome.missing)}
    value["file"] = str(inbox.sum_path(folder, made, value["unit"]))
    if as_json:
        emit(value)
        return
    typer.echo(
        f"{value['name']}: revision {value['revision']}, {value['leaves']:,} of {value['of']:,} leaf units,"
        f" ballots {', '.join(f'{n:,}' for n in value['ballots'].values())}; {value['file']}"
    )
    for name, count in value.get("refused", {}).items():
        note(f"refused as {name}: {count:,}")


@app.command()
def receive(folder: Folder, files: Annotated[list[Path], typer.Argument(help="Sums, as UNIT.sum.")], as_json: JsonOption = False) -> None:  # fmt: skip
    """Take sums that came as files into the inbox above them. A duplicate or a late one changes nothing; one that contradicts another is kept as evidence.

    Example: ballotboard rollup receive rollup 57.sum 58.sum
    """
    made = Plan.open(folder)
    found = {}
    for file in files:
        if not file.stem.isdigit():
            raise BallotboardError(f"{file} is not named UNIT.sum")
        try:
            data = file.read_bytes()
        except OSError as error:
            raise BallotboardError(f"cannot read {file}: {error.strerror}") from error
        found[str(file)] = inbox.receive(made, folder, int(file.stem), data).value
    if as_json:
        emit(found)
    else:
        for name, receipt in found.items():
            typer.echo(f"{name}: {receipt}")
    if inbox.Receipt.CONFLICT.value in found.values():
        raise typer.Exit(CHECK_FAILED)


@app.command()
def send(folder: Folder, unit: Unit, to: Annotated[str, typer.Option(help="URL of the level above, from `rollup serve`.")]) -> None:  # fmt: skip
    """Send a unit's standing sum to the level above. Sending again is harmless.

    Example: ballotboard rollup send rollup --unit 57 --to http://127.0.0.1:8060
    """
    from rollup import server

    made = Plan.open(folder)
    found = inbox.read(made, folder, made.unit(unit))
    if found is None:
        raise BallotboardError(f"unit {unit} has no sum yet: ballotboard rollup run")
    typer.echo(server.send(to, found.unit, found.data).value)


@app.command()
def serve(
    folder: Folder,
    unit: Unit,
    key_file: Annotated[Path | None, typer.Option("--key", help="Key file of the unit; without it, sums are only collected.")] = None,
    forward: Annotated[str, typer.Option(help="URL of the level above, which gets each new revision.")] = "",
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.")] = 8060,
    passphrase_file: PassphraseOption = None,
) -> None:  # fmt: skip
    """Be one level: take sums from the units below over HTTP, and send their sum on. When it answers it prints one line of JSON with its URL.

    Example: ballotboard rollup serve rollup --unit 1 --key state.key --forward http://127.0.0.1:8061
    """
    import uvicorn

    from chain.process import free_port
    from rollup.server import Level, create_app

    made = Plan.open(folder)
    secret = keys.load(key_file, console.passphrase(passphrase_file)) if key_file else None
    level = Level(made, folder, made.unit(unit), secret, forward, note)
    port = port or free_port()
    config = uvicorn.Config(create_app(level), host=host, port=port, log_level="warning", access_log=False)

    class Server(uvicorn.Server):
        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets)
            emit({"url": f"http://{host}:{port}", "unit": level.unit})

    level.start()
    try:
        Server(config).run()
    finally:
        level.stop()


@app.command()
def check(
    folder: Folder,
    unit: Annotated[str, typer.Option("--unit", help="Check this level alone, or this leaf unit's log; default: the whole tree.")] = "",
    logs: Annotated[bool, typer.Option("--logs", help="Of the whole tree, verify every ballot in the leaf units' logs again.")] = False,
    roll: Annotated[Path | None, typer.Option(help="The roll; default: DIR/roll.")] = None,
    partial: PartialOption = False,
    board: BoardOption = None,
    rpc: RpcOption = None,
    contract: ContractOption = None,
    as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Audit: signatures, child lists, sums, logs. With a node or --board, also whether the groups are those that the record gives.

    Example: ballotboard rollup check rollup --unit 1
    """
    from rollup import check as checks
    from rollup.unit import open_roll

    made = Plan.open(folder)
    number = made.unit(unit) if unit else 0
    rows = open_roll(roll or folder / ROLL_FILE, made) if logs or made.is_leaf(number) else None
    if not unit:
        with progress("Levels checked", None, quiet=as_json) as advance:
            checked, problems = checks.check_tree(made, folder, 0, rows if logs else None, advance)
    elif made.is_leaf(number):
        assert rows is not None
        checked, problems = 1, checks.check_leaf(made, folder, number, rows, made.engine())
    else:
        checked, problems = 1, checks.check_level(made, folder, number)
    if partial:
        problems = [problem for problem in problems if problem.check != 6]
    different: list[str] = []
    if board or rpc or contract:
        from rollup.groups import group_sums

        settled, _ = _settled(board, rpc, contract)
        _same_election(made, settled.election.manifest.election_id)
        different = checks.compare_groups(group_sums(made, folder), settled.groups)
    good = not problems and not different
    if as_json:
        emit(
            {
                "verified": good, "checked": checked, "record": different,
                "problems": [{"check": p.check, "unit": p.unit, "reason": p.reason} for p in problems],
            }
        )  # fmt: skip
    else:
        for problem in problems:
            typer.echo(
                f"check {problem.check}: {made.name(problem.unit) if problem.unit < len(made.units) else ''} ({problem.unit}): {problem.reason}"
            )
        for line in different:
            typer.echo(f"the record: {line}")
        typer.echo(f"{'verified' if good else 'does not verify'}: {checked:,} units checked")
    raise typer.Exit(CHECK_OK if good else CHECK_FAILED)


# ---------------------------------------------------------------- helpers


def _run_leaf(
    made: Plan, folder: Path, unit: int, secret: keys.Keys, source: Path | None, roll: Path, every: int
) -> dict[str, Any]:
    from rollup.unit import count_unit, open_roll, read_packed

    held: list[int] = []  # kB after the first checkpoint, and the most after any

    def sample(_: int) -> None:
        now = _memory_kb()
        held[:] = [held[0], max(held[1], now)] if held else [now, now]

    found = count_unit(
        made, folder, unit, secret, open_roll(roll, made),
        read_packed(source or folder / str(unit) / f"counted{BALLOTS_SUFFIX}"), every, progress=sample,
    )  # fmt: skip
    refused = {name: count for name, count in found.fates.items() if name != "valid"}
    value = _describe(made, found.sum) | {"refused": refused, "replayed": found.replayed}
    return value | {"memory_growth_kb": held[1] - held[0] if held else 0}


def _memory_kb() -> int:
    """The memory that this process alone holds, at this moment: its own pages, without those of files, which the system takes back at will."""
    try:
        with open("/proc/self/status") as file:
            return next((int(line.split()[1]) for line in file if line.startswith("RssAnon:")), 0)
    except OSError:  # no Linux
        return 0


def _describe(made: Plan, found: Any) -> dict[str, Any]:
    return {
        "unit": found.unit, "name": made.name(found.unit), "revision": found.revision, "leaves": found.leaves,
        "of": made.leaves(found.unit), "ballots": {made.contests[c.contest].id: c.ballots for c in found.contests},
    }  # fmt: skip


def _numbers(text: str) -> list[int]:
    found: list[int] = []
    for part in text.split(","):
        low, dash, high = part.strip().partition("-")
        if not low.isdigit() or (dash and not high.isdigit()):
            raise BallotboardError(f"--units {text!r} is not like 0,5-9")
        found += range(int(low), int(high or low) + 1)
    return found


def _read_keys(path: Path, units: int) -> bytes:
    found: dict[int, bytes] = {}
    try:
        with path.open(newline="") as file:
            for number, row in enumerate(csv.reader(file), 1):
                if len(row) != 2 or not row[0].isdigit() or not int(row[0]) < units:
                    raise BallotboardError(
                        f"{path}, line {number}: expected `unit,public key` for one of {units:,} units, from 0"
                    )
                if int(row[0]) in found:
                    raise BallotboardError(f"{path}, line {number}: unit {row[0]} has a key already")
                where = f"{path}, line {number}"
                found[int(row[0])] = parse_point(unhex(row[1].strip(), 32, where), where)
    except OSError as error:
        raise BallotboardError(f"cannot read {path}: {error.strerror}") from error
    if missing := [unit for unit in range(units) if unit not in found]:
        raise BallotboardError(f"{path} has no key for {len(missing):,} units (first: {missing[0]})")
    return b"".join(found[unit] for unit in range(units))


def _log(board: Path | None, rpc: str | None, contract: str | None) -> Any:
    from chain.log import read_log
    from chain.rpc import connect

    found = console.connection(board, rpc, contract)
    return read_log(connect(found.rpc), found.contract_bytes)


def _settled(board: Path | None, rpc: str | None, contract: str | None) -> tuple[Any, dict[int, bytes]]:
    """(the settled election of a node's log, bodies of its ballots by position): every ballot verified again."""
    from protocol.election import of_kind, roll_state, settle, settled_records, verify_ballots
    from protocol.records import Kind

    log = _log(board, rpc, contract)
    election = log.open()
    before = settled_records(election.manifest, log.records, log.attachments)
    ballots = of_kind(before, Kind.BALLOT)
    with progress("Ballots verified", len(ballots)) as advance:
        reasons = verify_ballots(election, roll_state(election, before).roll, ballots, advance)
    bodies = {record.position: record.body for record in ballots if record.body is not None}
    return settle(election, log.records, reasons, log.attachments), bodies


def _same_election(made: Plan, election: bytes) -> None:
    if made.election != election:
        raise BallotboardError("the plan is of another election than the record")
