"""`ballotboard archive`: one election's whole record in one file, from a node, checked, and taken apart."""

from __future__ import annotations

import json
import os
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any

import typer

from chain import console
from chain.console import BoardOption, CometOption, ContractOption, HoldersOption, JsonOption, RpcOption, emit
from protocol.errors import BallotboardError
from protocol.records import ballot_hash
from verifier import checks
from verifier.case import Case
from verifier.claims import Claims, Progress
from verifier.cli import Bars
from verifier.stored import ArchiveSource

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="One election's whole record in one file. Exit status: 0 done, 1 does not verify, 2 could not run.\n\n"
    "Example: ballotboard archive make election.archive --rpc http://127.0.0.1:8545 --contract 0x…",
)

DUMP = "ballotboard/dump/v1"
"""The form of the plain files, in which other people's verifiers read cases (tests/tamper/README.md)."""

CHECKS = ("C01", "C02", "C03", "I01", "I02", "K02")
"""What makes the content of an archive one log: nothing is missing, and every root is the one that its records give."""

ArchiveFile = Annotated[Path, typer.Argument(metavar="ARCHIVE", help="The archive.")]


@app.command()
def make(
    file: Annotated[Path, typer.Argument(metavar="ARCHIVE", help="The file to write; it must not be there yet.")],
    board: BoardOption = None,
    rpc: RpcOption = None,
    contract: ContractOption = None,
    comet: CometOption = None,
    holders: HoldersOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write everything that is on the record to one file: records, roll and other lists, and the validators' evidence if a validator is named.

    The same log gives the same record digest, whoever makes the archive.
    Example: ballotboard archive make election.archive --rpc http://127.0.0.1:8545 --contract 0x…
    """
    from verifier.node import NodeSource

    found = console.connection(board, rpc, contract, comet, holders)
    source = NodeSource(found.rpc, found.contract, found.comet, holders=found.holders)
    if file.exists():
        raise BallotboardError(f"{file} is there already: name another file")
    part = file.with_name(file.name + ".part")
    try:
        with part.open("wb") as out, Bars() as progress:
            source.write(out, progress)
            os.fsync(out.fileno())
        os.replace(part, file)
    except OSError as error:
        raise BallotboardError(f"cannot write {file}: {error.strerror}") from error
    finally:
        part.unlink(missing_ok=True)
    _tell(_check(file), as_json)


@app.command("check")
def check_archive(file: ArchiveFile, as_json: JsonOption = False) -> None:
    """Is it whole, unchanged, and one log? This says nothing of the election: `ballotboard verify tally ARCHIVE` does.

    Example: ballotboard archive check election.archive
    """
    _tell(_check(file), as_json)


@app.command()
def extract(
    file: ArchiveFile,
    folder: Annotated[Path, typer.Argument(help="Folder to make, with the plain files.")],
    as_json: JsonOption = False,
) -> None:
    """Take an archive apart into plain files: log.json, records.jsonl, blocks.jsonl, files/ by SHA-256, evidence.json.

    It is the form that the second verifier reads (tests/tamper/README.md).
    Example: ballotboard archive extract election.archive record/
    """
    with Bars() as progress:
        source = ArchiveSource(file)
        claims = source.read(progress)
        try:
            folder.mkdir(parents=True)
            _write(claims, folder, progress)
        except FileExistsError as error:
            raise BallotboardError(f"{folder} is there already: name another folder") from error
        except OSError as error:
            raise BallotboardError(f"cannot write to {folder}: {error.strerror}") from error
    value = {
        "folder": str(folder),
        "records": len(claims.records),
        "files": len(claims.attachments),
        "record": source.record_digest.hex(),
    }
    if as_json:
        emit(value)
    else:
        typer.echo(f"{folder}: {len(claims.records):,} records and {len(claims.attachments)} files")


# ---------------------------------------------------------------- helpers


def _check(file: Path) -> dict[str, Any]:
    """What is in the archive, and what is wrong with it."""
    with Bars() as progress:
        source = ArchiveSource(file)
        case = Case(source.read(progress), progress=progress)
        results = checks.run(case, [checks.CHECKS[id] for id in CHECKS])
    wrong = [{"id": r.check.id, "title": r.check.title, "detail": r.detail} for r in results if not r.good]
    manifest = case.manifest if results[CHECKS.index("I01")].good else None
    return {
        "archive": str(file), "ok": not wrong, "wrong": wrong, "election": manifest.election_id.hex() if manifest else None,
        "name": manifest.name if manifest else None, "chain": case.claims.chain_id, "contract": case.claims.contract.hex(),
        "records": case.log.size, "ballots": len(case.log.ballots), "files": len(case.claims.attachments),
        "root": case.claims.head.root.hex(), "evidence": bool(case.claims.evidence), "record": source.record_digest.hex(),
        "bytes": file.stat().st_size,
    }  # fmt: skip


def _tell(value: dict[str, Any], as_json: bool) -> None:
    if as_json:
        emit(value)
    else:
        typer.echo(f"{value['name'] or 'unknown election'}\n  election id    {value['election'] or 'unknown'}")
        typer.echo(f"  contract       0x{value['contract']} on chain {value['chain']}")
        typer.echo(
            f"  log            {value['records']:,} records, {value['ballots']:,} of them ballots; root {value['root']}"
        )
        typer.echo(f"  files          {value['files']}; validators' evidence: {'yes' if value['evidence'] else 'none'}")
        typer.echo(f"  {value['archive']:<14} {value['bytes']:,} bytes; record digest {value['record']}")
        for fault in value["wrong"]:
            typer.echo(f"DOES NOT VERIFY: {fault['id']} ({fault['title'].lower()}): {fault['detail']}")
        if value["ok"]:
            typer.echo(
                f"whole and unchanged; what it says of the election is for: ballotboard verify tally {value['archive']}"
            )
    raise typer.Exit(0 if value["ok"] else 1)


def _write(claims: Claims, folder: Path, progress: Progress) -> None:
    """The dump of these claims, record by record."""
    manifest = next((record.body for record in claims.records if record.kind == 0), None) or b""
    log = {
        "format": DUMP, "run": "tally", "election_id": ballot_hash(manifest).hex(), "chain": claims.chain_id,
        "contract": claims.contract.hex(), "head": {"size": claims.head.size, "root": claims.head.root.hex()},
        "roots": [{"size": size, "root": root.hex()} for size, root in claims.roots],
        "creation": claims.creation.hex(), "runtime_code": claims.runtime_code.hex(),
    }  # fmt: skip
    (folder / "log.json").write_text(json.dumps(log, indent=1))
    with (folder / "records.jsonl").open("w") as out:
        for number, record in enumerate(claims.records, 1):
            value = {
                "position": record.position, "kind": record.entry.kind, "time": record.entry.time, "role": record.entry.role,
                "body_hash": record.entry.body_hash.hex(), "body": None if record.body is None else record.body.hex(),
                "number": record.number, "signatures": record.signatures.hex(),
            }  # fmt: skip
            out.write(json.dumps(value) + "\n")
            progress("records written", number, len(claims.records))
    with (folder / "blocks.jsonl").open("w") as out:
        first = 0
        for (number, block_hash), records in groupby(claims.blocks):
            out.write(json.dumps({"position": first, "number": number, "hash": block_hash.hex()}) + "\n")
            first += len(list(records))
    (folder / "files").mkdir()
    for digest, data in claims.attachments.items():
        (folder / "files" / digest.hex()).write_bytes(data)
    if claims.evidence:
        (folder / "evidence.json").write_bytes(claims.evidence)
