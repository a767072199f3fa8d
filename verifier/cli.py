"""`ballotboard verify`: recompute everything and believe nobody. Exit status 0 verified, 1 does not verify, 2 could not run."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated, Any

import typer

from chain import console
from chain.console import BoardOption, CometOption, ContractOption, JsonOption, RpcOption, emit
from protocol.encoding import unhex
from protocol.errors import BallotboardError
from protocol.receipt import RECEIPT_FORMAT, Receipt, ReceiptWrong
from verifier import check, checks, receipts
from verifier.case import Case
from verifier.node import NodeSource
from verifier.report import Report
from verifier.run import verify_config, verify_tally

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Recompute everything and believe nobody. Exit status: 0 verified, 1 does not verify, 2 could not run.\n\n"
    "Example: ballotboard verify tally --rpc http://127.0.0.1:8545 --contract 0x… --election ID",
)

ElectionOption = Annotated[
    str | None, typer.Option("--election", help="Election id as printed on voters' cards: 64 hex digits.")
]
EvidenceOption = Annotated[
    Path | None, typer.Option("--evidence", help="File of `chain export-evidence`, instead of asking a validator.")
]
Files = Annotated[list[Path], typer.Argument(help="Receipt files.")]


@app.command()
def tally(
    board: BoardOption = None,
    rpc: RpcOption = None,
    contract: ContractOption = None,
    comet: CometOption = None,
    evidence: EvidenceOption = None,
    election: ElectionOption = None,
    promises: Annotated[
        list[Path] | None,
        typer.Option(help="File with signed promises, a voter's evidence file or a receipt; may be repeated."),
    ] = None,
    processes: Annotated[
        int, typer.Option(help="Processes for ballots where the native engine is not installed; 0: all cores.")
    ] = 0,
    as_json: JsonOption = False,
) -> None:
    """Verify a finished election: every check of docs/checks.md, and the totals recomputed.

    Example: ballotboard verify tally --rpc http://127.0.0.1:8545 --contract 0x… --election ID
    """
    statements = [statement for path in promises for statement in read_promises(path)] if promises else None
    with _Bars() as progress:
        report = verify_tally(
            _source(board, rpc, contract, comet, evidence), _election_id(election), progress, processes, statements
        )
    _end(report, as_json)


@app.command()
def config(
    board: BoardOption = None,
    rpc: RpcOption = None,
    contract: ContractOption = None,
    comet: CometOption = None,
    evidence: EvidenceOption = None,
    election: ElectionOption = None,
    as_json: JsonOption = False,
) -> None:
    """Verify the setup of an election before the poll opens.

    Example: ballotboard verify config --rpc http://127.0.0.1:8545 --contract 0x… --election ID
    """
    with _Bars() as progress:
        report = verify_config(_source(board, rpc, contract, comet, evidence), _election_id(election), progress)
    _end(report, as_json)


@app.command()
def receipt(
    files: Files,
    board: BoardOption = None,
    rpc: RpcOption = None,
    contract: ContractOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check receipts, offline; with a node (--rpc and --contract, or --board) also against its log, and what became of the ballots.

    Example: ballotboard verify receipt receipt.json
    """
    found = [Receipt.parse(_read(path).strip()) for path in files]
    values: list[dict[str, Any]] = []
    for path, one in zip(files, found, strict=True):
        value: dict[str, Any] = {
            "file": str(path),
            "ballot": one.ballot_hash.hex(),
            "position": one.position,
            "roll_index": receipts.roll_index(one),
        }
        try:
            value |= {"ok": True, "status": "recorded", "attempts": None, "detail": receipts.offline(one, found)}
        except ReceiptWrong as wrong:
            value |= {"ok": False, "status": None, "attempts": None, "detail": [str(wrong)]}
        values.append(value)
    if board or rpc or contract:
        with _Bars() as progress:
            case = Case(_source(board, rpc, contract).read(progress), progress=progress)
            good = [i for i, value in enumerate(values) if value["ok"]]
            for i, fate in zip(good, receipts.compare([found[i] for i in good], case), strict=True):
                values[i] |= _with_log(fate, values[i]["detail"])
    if as_json:
        emit(values)
    else:
        for value in values:
            typer.echo(f"{value['file']}: {'RECORDED AS CAST' if value['ok'] else 'DOES NOT VERIFY'}")
            typer.echo("".join(f"  {line}\n" for line in value["detail"]))
    raise typer.Exit(0 if all(value["ok"] for value in values) else 1)


@app.command("audited-ballot")
def audited_ballot(
    file: Annotated[Path, typer.Argument(help="The file that the booth handed out.")],
    board: BoardOption = None,
    rpc: RpcOption = None,
    contract: ContractOption = None,
    as_json: JsonOption = False,
) -> None:
    """Derive an audited ballot again from its seed and choices: did the device encrypt what was chosen?

    Do it on another device than the one that made it, and with a node, which shows that the key is the election's.
    Example: ballotboard verify audited-ballot audited.json --rpc http://127.0.0.1:8545 --contract 0x…
    """
    found = receipts.read_audited(_read(file).strip())
    value = receipts.describe(found)
    value["differs"] = None
    if board or rpc or contract:
        with _Bars() as progress:
            value["differs"] = receipts.differences(found, Case(_source(board, rpc, contract).read(progress)))
        value["ok"] = value["ok"] and not value["differs"]
    if as_json:
        emit(value)
    else:
        typer.echo("\n".join(_audit_words(value)))
    raise typer.Exit(0 if value["ok"] else 1)


@app.command()
def explain(id: Annotated[str, typer.Argument(metavar="CHECK", help="The number of a check, such as E02.")]) -> None:
    """What a check proves, what its failure means and what to do then.

    Example: ballotboard verify explain E02
    """
    if id.upper() not in checks.CHECKS:
        raise BallotboardError(f"there is no check {id}; the checks are {', '.join(checks.CHECKS)}")
    typer.echo(check.explain(checks.CHECKS[id.upper()]))


@app.command("checks")
def list_checks(markdown: Annotated[bool, typer.Option("--markdown", help="Print docs/checks.md.")] = False) -> None:
    """The numbered checks.

    Example: ballotboard verify checks
    """
    if markdown:
        typer.echo(check.markdown(), nl=False)
        return
    for one in checks.CHECKS.values():
        typer.echo(f"{one.id}  {one.group:<13} {one.title}")


# ---------------------------------------------------------------- helpers


def read_promises(path: Path) -> list[Any]:
    """Signed promises from a file: one, a list of them, a voter's evidence file, or a receipt that holds one. Refusals are left out."""
    try:
        value = json.loads(_read(path))
    except ValueError as error:
        raise BallotboardError(f"{path} is not JSON: {error}") from error
    if isinstance(value, dict) and value.get("format") == RECEIPT_FORMAT:
        value = value.get("promise")
    if isinstance(value, dict) and isinstance(value.get("statements"), list):
        value = value["statements"]
    statements = value if isinstance(value, list) else [value]
    promises = [statement for statement in statements if not (isinstance(statement, dict) and "refusal" in statement)]
    if not promises or None in promises:
        raise BallotboardError(f"{path} holds no promise")
    if len(promises) < len(statements):
        console.note(f"{path}: {len(statements) - len(promises)} refusals are not judged here")
    return promises


def _source(
    board: Path | None,
    rpc: str | None,
    contract: str | None,
    comet: str | None = None,
    evidence: Path | None = None,
) -> NodeSource:
    found = console.connection(board, rpc, contract, comet)
    return NodeSource(found.rpc, found.contract, found.comet, _read(evidence) if evidence else b"")


def _election_id(text: str | None) -> bytes | None:
    return unhex(text.lower().removeprefix("0x"), 32, "--election") if text is not None else None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BallotboardError(f"cannot read {path}: {error.strerror}") from error


def _end(report: Report, as_json: bool) -> None:
    if as_json:
        emit(report.json())
    else:
        typer.echo(report.text())
    raise typer.Exit(report.exit_status)


def _with_log(fate: receipts.Fate | ReceiptWrong, detail: list[str]) -> dict[str, Any]:
    """What a node's log adds to a receipt's line."""
    if isinstance(fate, ReceiptWrong):
        return {"ok": False, "status": None, "detail": [str(fate)]}
    lines = [f"In the node's log: {fate.text}."]
    if len(fate.attempts) > 1:
        positions = ", ".join(map(str, fate.attempts))
        lines.append(
            f"{len(fate.attempts)} ballots name this roll index, records {positions}. If you did not cast them all, report it."
        )
    status = fate.row.status.text if fate.row else "recorded"
    return {"status": status, "attempts": list(fate.attempts), "detail": detail + lines}


def _audit_words(value: dict[str, Any]) -> list[str]:
    if value["given"] != value["fingerprint"]:
        return [
            f"DOES NOT VERIFY: the seed and choices give a ballot with the fingerprint {value['fingerprint']},",
            f"and the device handed out {value['given']}.",
            "The device did not encrypt what it says: do not vote on it, and report it.",
        ]
    lines = [f"{contest}: {', '.join(options) or 'nothing'}" for contest, options in value["votes"].items()]
    lines = [
        "The ballot holds exactly this:",
        *(f"  {line}" for line in lines),
        f"Its fingerprint is {value['fingerprint']}.",
    ]
    lines.append(
        "It must be the one that the device showed before it knew that you would audit. This ballot can never be cast."
    )
    if value["differs"] is None:
        lines.append(
            f"Whether its key, {value['key']}, is the election's is not known offline: run this with --rpc and --contract."
        )
    elif value["differs"]:
        lines.append(
            f"DOES NOT VERIFY: it is not a ballot of this election, its {' and '.join(value['differs'])} differs. Do not vote on that device."
        )
    else:
        lines.append("Its key, context, contests and credential are those of the election on the record.")
    return lines


class _Bars(AbstractContextManager["_Bars"]):
    """Progress on standard error: one bar for each thing that is being done."""

    def __init__(self) -> None:
        self.what = ""
        self.bar: Any = None

    def __call__(self, what: str, done: int, total: int) -> None:
        if not total:
            return
        if what != self.what:
            self._close()
            self.what, self.bar = what, console.progress(what, total)
            self.advance = self.bar.__enter__()
        self.advance(done, total)

    def __exit__(self, *exception: Any) -> None:
        self._close()

    def _close(self) -> None:
        if self.bar:
            self.bar.__exit__(None, None, None)
            self.bar = None
