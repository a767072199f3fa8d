"""`ballotboard registrar`: the roll offline, its publication, and the replacement of a card; a thin layer over authority.registrar and its modules."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from authority.config import CONFIG_FILE, read_config
from authority.registrar import CARDS, publish_roll, read_cards, replace_card, replacement_part
from authority.registrar_hashes import make_hashes
from authority.registrar_roll import (
    KEYS_FILE,
    REQUEST_FILE,
    UNITS_FILE,
    RollError,
    Steps,
    combine_parts,
    make_first_part,
    make_roll,
    make_second_part,
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
from protocol.encoding import unhex
from protocol.errors import BallotboardError

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None,
    help="Turn the electoral roll into credentials.\n\nStart with: ballotboard registrar roll voters.csv --out roll",
)  # fmt: skip

KeyOption = Annotated[Path, typer.Option("--key", help="The registrar's key file.")]
ConfigOption = Annotated[Path, typer.Option("--config", help="The election's file, for the names of units.")]
SHOWN_UNITS = 30
"""Units whose voters are counted on the screen; a nation has 175,000."""

WorkersOption = Annotated[int, typer.Option("--workers", help="Processes; 0 is one for each core.")]
OutFolder = Annotated[Path, typer.Option("--out", help="A new folder for the roll and the cards.")]


@app.command()
def roll(
    voters: Annotated[Path, typer.Argument(help="CSV with a header: id,unit or id,unit,style. Ids say nothing to others; no names.")],
    out: OutFolder,
    config: ConfigOption = Path(CONFIG_FILE),
    workers: WorkersOption = 0,
    as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Make a secret code for every voter and the public roll of keys. Needs no network: do it on a machine that has none.

    Killed, it goes on where it was when run again. Example: ballotboard registrar roll voters.csv --config trial/election.toml --out trial/roll
    """
    election = read_config(config)
    with _steps() as steps, _listed(voters):
        summary = make_roll(voters, election, out, steps, workers)
    _show(summary, out, as_json)


@app.command()
def part(
    out: Annotated[Path, typer.Option("--out", help="A new folder for this registrar's part; it is secret.")],
    voters: Annotated[Path | None, typer.Option("--voters", help="The first of two registrars: the voters' list.")] = None,
    request: Annotated[Path | None, typer.Option("--request", help="The second: the first one's request.json.")] = None,
    config: ConfigOption = Path(CONFIG_FILE),
    workers: WorkersOption = 0,
    as_json: JsonOption = False,
) -> None:  # fmt: skip
    """With two registrars: make this one's part of every code, so that neither of them can vote for anybody.

    First registrar: ballotboard registrar part --voters voters.csv --config trial/election.toml --out first
    Example: ballotboard registrar part --request request.json --out second
    """
    if (voters is None) == (request is None):
        raise BallotboardError("give --voters if you are the first registrar, --request if you are the second")
    with _steps() as steps:
        if voters:
            election = read_config(config)
            with _listed(voters):
                made = make_first_part(voters, election, out, steps, workers)
        else:
            assert request
            made = make_second_part(request, out, steps, workers)
    if as_json:
        emit(made)
        return
    note(f"{made['count']:,} code parts; the SHA-256 of your public keys is")
    typer.echo(made["keys"])
    if voters:
        note(
            f"Next: give {out / REQUEST_FILE} to the second registrar, and note the SHA-256 that it names. Only then exchange {KEYS_FILE} and"
            f" {UNITS_FILE} for its {KEYS_FILE}, and both run: ballotboard registrar combine"
        )
    else:
        note(
            f"Next: tell the first registrar this number. Then exchange {out / KEYS_FILE} for its {KEYS_FILE} and {UNITS_FILE}, and both run: ballotboard registrar combine"
        )


@app.command()
def combine(
    folder: Annotated[Path, typer.Argument(help="The folder that `registrar part` made.")],
    keys: Annotated[Path, typer.Argument(help="The other registrar's keys.bin.")],
    out: OutFolder,
    commitment: Annotated[str, typer.Option("--commitment", help="First registrar: the SHA-256 that the second one named before the exchange.")] = "",
    units: Annotated[Path | None, typer.Option("--units", help="Second registrar: the first one's units.bin.")] = None,
    config: ConfigOption = Path(CONFIG_FILE),
    workers: WorkersOption = 0,
    as_json: JsonOption = False,
) -> None:  # fmt: skip
    """With two registrars: the roll from both parts, and the cards with one's own. Both get the same roll.

    Second registrar: ballotboard registrar combine second keys.bin --units units.bin --out roll
    Example: ballotboard registrar combine first keys.bin --commitment 3f0c… --out roll
    """
    election = read_config(config)
    with _steps() as steps:
        summary = combine_parts(folder, keys, election, out, commitment, units, steps, workers)
    _show(summary, out, as_json)


@app.command("print")
def print_command(
    folder: Annotated[Path, typer.Argument(help="The folder with cards*.csv, or one such file.")],
    out: Annotated[Path, typer.Option("--out", help="A new file, .pdf or .csv (for a printing house).")],
    election: Annotated[str, typer.Option("--election", help="Election id; default: that of the connection file.")] = "",
    name: Annotated[str, typer.Option("--name", help="Name of the election, for the PDF.")] = "",
    language: Annotated[str, typer.Option("--language", help="en, fr, or en,fr.")] = "en,fr",
    part: Annotated[int, typer.Option("--part", help="1 or 2 where two registrars print.", min=0, max=2)] = 0,
    font: Annotated[Path | None, typer.Option("--font", help="TrueType font for names that the built-in one lacks.")] = None,
    config: ConfigOption = Path(CONFIG_FILE),
    board: BoardOption = None,
    as_json: JsonOption = False,
) -> None:  # fmt: skip
    """The cards: three to a page, to be folded over the code, or a table with what goes into both QR codes.

    Example: ballotboard registrar print trial/roll --out cards.pdf --election 5f0c… --config trial/election.toml
    """
    try:
        from authority.registrar_cards import (
            WORDS,
            print_pdf,
            print_table,
        )  # the only command that needs fpdf2 and segno
    except ModuleNotFoundError as error:
        raise BallotboardError(
            f"printing needs the package {error.name}: pip install 'ballotboard[station]'"
        ) from error

    languages = tuple(language.split(","))
    if not set(languages) <= set(WORDS):
        raise BallotboardError(f"--language: write {' or '.join(WORDS)}, or several with commas")
    id = unhex(election or connection(board).election, 32, "--election")
    pdf = out.suffix.lower() == ".pdf"
    if not pdf and out.suffix.lower() != ".csv":
        raise BallotboardError(f"{out}: end the name in .pdf or .csv")
    title = name or (str(read_config(config).members["name"]) if pdf else "")
    cards, total = (read_cards(folder), sum(1 for _ in read_cards(folder)))
    with progress("cards", total) as advance:
        counted = _counted(cards, advance)
        count = print_pdf(counted, id, title, out, languages, part, font) if pdf else print_table(counted, id, out)
    if as_json:
        emit({"cards": count, "file": str(out)})
        return
    note(f"{out}: {count:,} cards in order of the roll. It holds the codes: print it, and destroy it")


@app.command()
def hashes(
    people: Annotated[Path, typer.Argument(help="CSV with columns id, code, ballot, and maybe unit and style.")],
    out: Annotated[Path, typer.Option("--out", help="A new voters' list whose ids are SHA-256(id|CODE|ballot).")],
    codes: Annotated[Path | None, typer.Option("--codes", help="Draw the codes: a new file for id,code.")] = None,
    as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Replace national ids by hashes of id, code and ballot, for rolls that are keyed so. The result is a list for `registrar roll`.

    Example: ballotboard registrar hashes people.csv --out voters.csv
    """
    with _steps() as steps, _listed(people):
        count = make_hashes(people, out, codes, steps)
    if as_json:
        emit({"lines": count, "file": str(out)})
        return
    note(f"{out}: {count:,} lines. Next: ballotboard registrar roll {out}")


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
    plus: Annotated[str, typer.Option("--plus", help="With two registrars: the key that `replace-part` printed at the other.")] = "",
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
    other = unhex(plus, 32, "--plus") if plus else b""
    card = replace_card(connect(found.rpc), found.contract, first, second, roll_index, reason, out, other)
    if as_json:
        emit({"roll_index": card.roll_index, "serial": card.serial, "revoked": roll_index})
        return
    note(f"row {roll_index} is revoked; {out} holds the new card, serial {card.serial}, roll index {card.roll_index}")


@app.command("replace-part")
def replace_part(
    roll_index: Annotated[int, typer.Argument(help="The roll index on the lost card.")],
    out: Annotated[Path, typer.Option("--out", help="A new file for this part of the new card.")],
    board: BoardOption = None, rpc: RpcOption = None, contract: ContractOption = None, as_json: JsonOption = False,
) -> None:  # fmt: skip
    """With two registrars, at the second one: its part of a new card, and the key that the first one needs for `replace --plus`.

    Example: ballotboard registrar replace-part 17 --out card-2.csv
    """
    found = connection(board, rpc, contract)
    card, key = replacement_part(connect(found.rpc), found.contract, roll_index, out)
    if as_json:
        emit({"key": key.hex(), "roll_index": card.roll_index, "serial": card.serial})
        return
    note(
        f"{out} holds your part of the card, serial {card.serial}. Next, at the first registrar: ballotboard registrar replace {roll_index} --plus"
    )
    typer.echo(key.hex())


# ---------------------------------------------------------------- helpers


@contextmanager
def _steps() -> Iterator[Steps]:
    """Progress bars one after the other, a new one for each step."""
    with ExitStack() as bars:
        shown: dict[str, Any] = {}

        def advance(what: str, done: int, total: int) -> None:
            if what not in shown:
                bars.pop_all().close()
                shown[what] = bars.enter_context(progress(what, total or None))
            shown[what](done, total or None)

        yield advance


@contextmanager
def _listed(source: Path) -> Iterator[None]:
    """Every wrong line on standard output, and one error line."""
    try:
        yield
    except RollError as error:
        for problem in error.problems:
            typer.echo(problem)
        raise BallotboardError(f"{source}: {len(error.problems)} lines are wrong; nothing was written") from error


def _counted(cards: Iterator[Any], advance: Any) -> Iterator[Any]:
    for number, card in enumerate(cards, 1):
        yield card
        advance(number)


def _show(summary: dict[str, Any], out: Path, as_json: bool) -> None:
    if as_json:
        emit(summary)
        return
    units = summary["units"]
    for unit in units[:SHOWN_UNITS]:
        typer.echo(f"{unit['voters']:>9,}  {unit['name']}")
    if len(units) > SHOWN_UNITS:
        typer.echo(
            f"{sum(unit['voters'] for unit in units[SHOWN_UNITS:]):>9,}  in {len(units) - SHOWN_UNITS:,} other units: summary.json"
        )
    typer.echo(f"{summary['count']:>9,}  voters; root {summary['root']}")
    files = sorted(path.name for path in out.iterdir())
    note(f"{out}: {', '.join(files[:8])}{' …' if len(files) > 8 else ''}")
    handed = any(name.startswith("handout") for name in files)
    note(
        f"roll.bin and summary.json are public. {CARDS} holds the codes: for the printing house (`registrar print`), then destroyed. "
        + (
            "handout*.csv says whose card is whose: it stays in this room. Next: ballotboard registrar publish"
            if handed
            else "Next: see that both are the first registrar's, byte for byte; the first one publishes them"
        )
    )
