"""`ballotboard verify`: recompute everything and believe nobody. Exit status 0 verified, 1 does not verify, 2 could not run."""

from __future__ import annotations

import json
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated, Any

import typer

from chain import console
from chain.console import (
    BoardOption,
    CometOption,
    ContractOption,
    HoldersOption,
    JsonOption,
    PassphraseOption,
    RpcOption,
    emit,
    read_bytes,
)
from chain.errors import NodeUnreachable
from protocol.encoding import unhex
from protocol.errors import BallotboardError
from protocol.receipt import CODE_PREFIX, RECEIPT_FORMAT, ReceiptWrong
from protocol.records import Kind
from verifier import certify, check, checks, diff, html, receipts, watch
from verifier.ballots import Work
from verifier.case import Case
from verifier.claims import Source
from verifier.log import MEMORY
from verifier.report import Report
from verifier.run import verify_config, verify_tally
from verifier.stored import ArchiveSource

MEGABYTES = MEMORY // 2**20

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Recompute everything and believe nobody. Exit status: 0 verified, 1 does not verify, 2 could not run.\n\n"
    "Example: ballotboard verify tally election.archive --election ID",
)

ElectionOption = Annotated[
    str | None, typer.Option("--election", help="Election id as printed on voters' cards: 64 hex digits.")
]
ArchiveArgument = Annotated[
    Path | None, typer.Argument(metavar="[ARCHIVE]", help="File of `ballotboard archive make`, instead of a node.")
]
ArchiveOption = Annotated[
    Path | None, typer.Option("--archive", help="File of `ballotboard archive make`, instead of a node.")
]
MemoryOption = Annotated[
    int,
    typer.Option(
        "--memory", min=1, help="Megabytes that the list of ballots may take; what is more goes to temporary files."
    ),
]
EvidenceOption = Annotated[
    Path | None, typer.Option("--evidence", help="File of `chain export-evidence`, instead of asking a validator.")
]
HtmlOption = Annotated[
    Path | None, typer.Option("--html", help="Write the report to this file too, as one page that needs nothing else.")
]
Files = Annotated[
    list[Path], typer.Argument(help="Receipt files, pictures of their QR codes, or the text of a code (BBR:…).")
]


@app.command()
def tally(
    archive: ArchiveArgument = None,
    board: BoardOption = None,
    rpc: RpcOption = None,
    contract: ContractOption = None,
    comet: CometOption = None,
    holders: HoldersOption = None,
    evidence: EvidenceOption = None,
    election: ElectionOption = None,
    promises: Annotated[
        list[Path] | None,
        typer.Option(help="File with signed promises, a voter's evidence file or a receipt; may be repeated."),
    ] = None,
    setup_report: Annotated[
        Path | None,
        typer.Option(
            "--config-report", help="What `verify config --json` printed before the poll: does the log extend that one?"
        ),
    ] = None,
    processes: Annotated[
        int,
        typer.Option(
            min=0, help="Threads for ballots, or processes where the native engine is not installed; 0: all cores."
        ),
    ] = 0,
    dask: Annotated[
        str,
        typer.Option(
            help="Address of a Dask scheduler, such as tcp://127.0.0.1:8786, whose workers verify the ballots."
        ),
    ] = "",
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            help="File that keeps what is done, so that a run that was killed can go on. It is worth something to this account only."
        ),
    ] = None,
    memory: MemoryOption = MEGABYTES,
    page: HtmlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Verify a finished election: every check of docs/checks.md, and the totals recomputed. An archive needs no network.

    Example: ballotboard verify tally election.archive --election ID

    Example: ballotboard verify tally --rpc http://127.0.0.1:8545 --contract 0x… --election ID
    """
    statements = [statement for path in promises for statement in read_promises(path)] if promises else None
    setup = _read_json(setup_report) if setup_report else None
    with Bars() as progress:
        source = _source(archive, board, rpc, contract, comet, evidence, memory, holders)
        work = Work(processes, dask, checkpoint)
        report = verify_tally(
            source, _election_id(election), progress, promises=statements, work=work, setup_report=setup
        )
    _end(report, as_json, page)


@app.command()
def config(
    archive: ArchiveArgument = None,
    board: BoardOption = None,
    rpc: RpcOption = None,
    contract: ContractOption = None,
    comet: CometOption = None,
    holders: HoldersOption = None,
    evidence: EvidenceOption = None,
    election: ElectionOption = None,
    page: HtmlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Verify the setup of an election before the poll opens. With --json it prints the report to which `verify tally --config-report` is bound.

    Example: ballotboard verify config --rpc http://127.0.0.1:8545 --contract 0x… --election ID
    """
    with Bars() as progress:
        report = verify_config(
            _source(archive, board, rpc, contract, comet, evidence, holders=holders), _election_id(election), progress
        )
    _end(report, as_json, page)


@app.command()
def receipt(
    files: Files,
    evidence: Annotated[
        Path | None,
        typer.Option("--evidence", help="The validators' evidence of the receipts' head, where it is not in the file."),
    ] = None,
    manifest: Annotated[
        Path | None,
        typer.Option(
            "--manifest", help="The election's manifest, which names the validators; its hash is the election id."
        ),
    ] = None,
    archive: ArchiveOption = None,
    board: BoardOption = None,
    rpc: RpcOption = None,
    contract: ContractOption = None,
    holders: HoldersOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check receipts, offline; with an archive or a node (--rpc and --contract, or --board) also against its log, and what became of the ballots.

    A file may hold, beside the receipt, the validators' evidence and the manifest: {"receipt": …, "evidence": …, "manifest": …}.
    It may also be a picture of the receipt's QR code, which `ballotboard receipt qr` draws.

    Example: ballotboard verify receipt receipt.json photo.jpg --archive election.archive
    """
    held = [receipts.read_file(str(path).encode() if _is_code(path) else read_bytes(path)) for path in files]
    found = [one.receipt for one in held]
    proof, body = (read_bytes(path) if path else b"" for path in (evidence, manifest))
    values: list[dict[str, Any]] = []
    for path, one, given in zip(files, found, held, strict=True):
        value: dict[str, Any] = {
            "file": f"{str(path)[:12]}…" if _is_code(path) else str(path),
            "ballot": one.ballot_hash.hex(),
            "position": one.position,
            "roll_index": receipts.roll_index(one),
        }
        try:
            lines = receipts.offline(one, found)
            signed = _signed(one, proof or given.evidence, body or given.manifest)
            value |= {
                "ok": True,
                "status": "recorded",
                "attempts": None,
                "signed": signed[0],
                "detail": [*lines, signed[1]],
            }
        except ReceiptWrong as wrong:
            value |= {"ok": False, "status": None, "attempts": None, "signed": None, "detail": [str(wrong)]}
        values.append(value)
    if archive or board or rpc or contract:
        with Bars() as progress:
            source = _source(archive, board, rpc, contract, holders=holders)
            case = Case(source.read(progress), progress=progress)
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
    archive: ArchiveOption = None,
    board: BoardOption = None,
    rpc: RpcOption = None,
    contract: ContractOption = None,
    as_json: JsonOption = False,
) -> None:
    """Derive an audited ballot again from its seed and choices: did the device encrypt what was chosen?

    Do it on another device than the one that made it, and with a node, which shows that the key is the election's.
    Example: ballotboard verify audited-ballot audited.json --rpc http://127.0.0.1:8545 --contract 0x…
    """
    found = receipts.read_audited(read_bytes(file).strip())
    value = receipts.describe(found)
    value["differs"] = None
    if archive or board or rpc or contract:
        with Bars() as progress:
            value["differs"] = receipts.differences(found, Case(_source(archive, board, rpc, contract).read(progress)))
        value["ok"] = value["ok"] and not value["differs"]
    if as_json:
        emit(value)
    else:
        typer.echo("\n".join(_audit_words(value)))
    raise typer.Exit(0 if value["ok"] else 1)


@app.command("certify")
def certifying(
    file: Annotated[Path, typer.Argument(metavar="REPORT", help="What `verify tally --json` printed.")],
    key: Annotated[Path, typer.Option("--key", help="Key file of a verifier that the manifest names.")],
    reveal: Annotated[
        bool, typer.Option("--reveal", help="Reveal what was committed to, once the others have committed.")
    ] = False,
    board: BoardOption = None,
    rpc: RpcOption = None,
    contract: ContractOption = None,
    passphrase_file: PassphraseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Sign a report and put it on the record, as a registered verifier: a commitment first, then with --reveal what it was to.

    What will be revealed is kept in REPORT.reveal; do not lose it.
    Example: ballotboard verify certify report.json --key keys/verifier.json
    """
    from chain.contract import Refused
    from chain.keys import load_account  # as below: not with the others, for its weight
    from chain.rpc import connect
    from chain.writer import Writer

    report, secret = certify.read_report(read_bytes(file)), file.with_name(file.name + ".reveal")
    where = console.connection(board, rpc, contract)
    said = certify.kept(secret, report) if reveal else certify.statement(report)
    account = load_account(key, console.passphrase(passphrase_file))
    if not reveal:
        certify.keep(said, secret)
    try:
        writer = Writer(connect(where.rpc), where.contract, account)
        (position,) = writer.append(Kind.REPORT, said.body() if reveal else said.commitment(), [account]).positions
    except Refused:
        if not reveal:
            secret.unlink()  # nothing was sent, so nothing is committed to
        raise
    value = {"position": position, "revealed": reveal, "report": report.sha256, "good": said.good}
    if as_json:
        emit(value)
    else:
        typer.echo(
            f"record {position}: {'revealed' if reveal else 'committed to'} report {report.sha256}, {'good' if said.good else 'bad'}"
        )


@app.command("diff")
def difference(
    old: Annotated[Path, typer.Argument(metavar="OLD", help="The earlier archive.")],
    new: Annotated[
        Path | None, typer.Argument(metavar="[NEW]", help="The later archive; else a node is asked.")
    ] = None,
    board: BoardOption = None,
    rpc: RpcOption = None,
    contract: ContractOption = None,
    as_json: JsonOption = False,
) -> None:
    """Does a later copy of a log extend an earlier one, record for record? If not, name the first record that is another.

    Example: ballotboard verify diff monday.archive tuesday.archive
    """
    with Bars() as progress:
        later = _source(new, board, rpc, contract).read(progress)
        found = diff.compare(Case(ArchiveSource(old).read(progress)), Case(later))
    if as_json:
        emit(found.json())
    else:
        kinds = "".join(f"  {number:>7,} {kind}\n" for kind, number in sorted(found.added.items()))
        typer.echo(f"{'EXTENDS' if found.extends else 'DOES NOT EXTEND'}\n{found.detail}\n{kinds}".rstrip())
    raise typer.Exit(0 if found.extends else 1)


@app.command("watch")
def watching(
    state: Annotated[
        Path, typer.Argument(metavar="STATE", help="File that keeps every head seen; made by the first look.")
    ],
    archive: ArchiveOption = None,
    board: BoardOption = None,
    rpc: RpcOption = None,
    contract: ContractOption = None,
    comet: CometOption = None,
    holders: HoldersOption = None,
    election: ElectionOption = None,
    interval: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks.")] = watch.INTERVAL,
    once: Annotated[bool, typer.Option("--once", help="Look once: for a timer of your own.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Watch a board: pull, check what is new, keep every head seen, and stop with exit status 1 when history changes or a check fails.

    A node that cannot be reached is said and asked again (with --once: exit status 2). With --json one line a look.
    Example: ballotboard verify watch board.heads --rpc http://127.0.0.1:8545 --contract 0x… --election ID
    """
    source, id = _source(archive, board, rpc, contract, comet, holders=holders), _election_id(election)
    while True:
        try:
            found, after = watch.look(Case(source.read(), id), watch.State.load(state))
        except NodeUnreachable as error:
            if once:
                raise
            console.note(f"no look: {error}")
        else:
            after.save(state)
            line = f"{'ok' if found.ok else 'ALARM'}  {found.head.size} {found.head.root.hex()}  {found.detail}"
            typer.echo(json.dumps(found.json()) if as_json else line)
            if once or not found.ok:
                raise typer.Exit(0 if found.ok else 1)
        time.sleep(interval)


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
    value = _read_json(path)
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
    archive: Path | None,
    board: Path | None,
    rpc: str | None,
    contract: str | None,
    comet: str | None = None,
    evidence: Path | None = None,
    memory: int = MEGABYTES,
    holders: list[str] | None = None,
) -> Source:
    given = read_bytes(evidence) if evidence else b""
    if archive:
        if board or rpc or contract or comet or holders:
            raise BallotboardError("name an archive or a node, not both")
        return ArchiveSource(archive, memory * 2**20, given)
    found = console.connection(board, rpc, contract, comet, holders)
    from verifier.node import NodeSource  # not with the others: what talks to a node takes half a second to import

    return NodeSource(found.rpc, found.contract, found.comet, given, memory * 2**20, found.holders)


def _is_code(path: Path) -> bool:
    """Whether what was given for a file is the text of a code itself."""
    return str(path).upper().startswith(CODE_PREFIX)


def _signed(receipt: receipts.AnyReceipt, proof: bytes, manifest: bytes) -> tuple[bool | None, str]:
    """(whether the validators' signatures were checked and hold, in words); what was not checked says so. Raises ReceiptWrong."""
    if not proof:
        return None, "It came without the validators' signatures, so nothing shows yet that they recorded it."
    if not manifest:
        return (
            None,
            "The validators' signatures that came with it were NOT CHECKED: name the election's manifest with --manifest.",
        )
    return True, receipts.sealed(receipt, proof, manifest)


def _election_id(text: str | None) -> bytes | None:
    return unhex(text.lower().removeprefix("0x"), 32, "--election") if text is not None else None


def _read_json(path: Path) -> Any:
    try:
        return json.loads(read_bytes(path))
    except (ValueError, RecursionError) as error:
        raise BallotboardError(f"{path} is not JSON: {error}") from error


def _end(report: Report, as_json: bool, page: Path | None) -> None:
    if page:
        try:
            page.write_text(html.page(report), encoding="utf-8")
        except OSError as error:
            raise BallotboardError(f"cannot write {page}: {error.strerror}") from error
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


class Bars(AbstractContextManager["Bars"]):
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
