"""`ballotboard vote`: fill a ballot, cast or audit it, keep the receipt."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from chain import console
from chain.console import BoardOption, ContractOption, JsonOption, RpcOption, emit, note, print_time
from chain.log import read_log
from chain.rpc import connect
from protocol.errors import BallotboardError
from protocol.records import ballot_hash
from voter import booth

SHORT = 8
"""Hex digits of a ballot's hash in file names: enough to tell one voter's files apart."""


def vote(
    choice: Annotated[
        list[str] | None, typer.Option(help="CONTEST=Option, or just Option if there is one contest; may be repeated.")
    ] = None,
    code: Annotated[
        str | None,
        typer.Option(
            help="The code of the card, with its number in front (of two cards both, with + between); asked for if not given."
        ),
    ] = None,
    roll_index: Annotated[
        int | None, typer.Option(help="With --audit: the card's roll index instead of the secret code.")
    ] = None,
    board: BoardOption = None,
    rpc: RpcOption = None,
    contract: ContractOption = None,
    relayer: Annotated[
        list[str] | None, typer.Option(help="URL of a relayer, tried in turn; default: the connection file's.")
    ] = None,
    receipt: Annotated[
        Path | None, typer.Option(help="Where to write the receipt; default receipt-XXXXXXXX.json here.")
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Wait until the ballot is in the log, and write the receipt.")
    ] = True,
    audit: Annotated[
        bool | None,
        typer.Option(
            "--audit/--cast",
            help="Open the ballot instead of casting it, to check that it holds your choice. Better say neither: at a terminal you are asked once the"
            " ballot is fixed, so that a program that cheats cannot know.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Encrypt a choice, cast it, wait until it is in the log, and write a receipt.

    Example: ballotboard vote --code 17-ABCDEFGHJ-KMNPQRSTV-WXYZ01234 --choice Yes

    With several contests: --choice "mayor=Ada" --choice "council=Red" --choice "council=Blue"
    """
    if roll_index is not None and not audit:
        raise BallotboardError("--roll-index is for --audit only: casting needs the code")
    found = console.connection(board, rpc, contract)
    note("reading the record of the election")
    poll = booth.read_poll(read_log(connect(found.rpc), found.contract_bytes))
    election = poll.election.manifest.election_id.hex()
    if found.election and found.election != election:
        raise BallotboardError(f"the node shows election {election}, and the connection file means {found.election}")
    note(f"{poll.election.manifest.name} (election {election}: compare it with your card)")
    if roll_index is not None:
        voter = booth.voter_of_row(poll, roll_index)
    else:
        voter = booth.find_voter(
            poll,
            code or typer.prompt("code of the card (of two cards both, with + between)", hide_input=True, err=True),
        )
    choices = booth.read_choices(poll.contests(voter), choice or [])
    ballot = booth.fill(poll, voter, choices)
    note(f"fingerprint of the encrypted ballot: {ballot.fingerprint.hex()}")
    if audit is None:
        audit = sys.stdin.isatty() and not as_json and _wants_audit()
    result = _audit(ballot) if audit else _cast(ballot, relayer or found.relayers, receipt, wait)
    if as_json:
        emit(result)


def _wants_audit() -> bool:
    note(
        "This ballot is fixed now. Note the fingerprint down. Cast it, or audit it to see on another device that it holds your choice?"
    )
    while (answer := typer.prompt("cast or audit", default="cast", err=True)) not in ("cast", "audit"):
        note("type cast or audit")
    return bool(answer == "audit")


def _audit(ballot: booth.Filled) -> dict[str, Any]:
    digest = ballot.fingerprint
    path = Path(f"audited-{digest.hex()[:SHORT]}.json")
    _write(path, ballot.open())
    note(
        f"This ballot was NOT cast, and cannot be: {path} opens it. Check it on another device with: ballotboard verify audited-ballot {path}\n"
        "If the fingerprint comes out the same there, this program has encrypted what you chose. Then vote: a new ballot is made for that."
    )
    return {
        "state": "audited",
        "fingerprint": digest.hex(),
        "roll_index": ballot.voter.roll_index,
        "audited_ballot": str(path),
    }


def _cast(ballot: booth.Filled, relayers: list[str], path: Path | None, wait: bool) -> dict[str, Any]:
    poll, voter = ballot.poll, ballot.voter
    earlier = poll.earlier_ballots(voter)
    if earlier:
        counts = "the last one counts" if poll.election.manifest.revote == "last" else "the first valid one counts"
        note(
            f"the log has {earlier} earlier ballot{'s' * (earlier > 1)} of this card; {counts}. If none is yours, somebody else knows the code"
        )
    body = ballot.cast()
    digest = ballot_hash(body).hex()
    path = path or Path(f"receipt-{digest[:SHORT]}.json")
    if path.exists() or not path.parent.is_dir():
        raise BallotboardError(f"{path} exists, or its folder does not: name another file for the receipt")
    evidence = booth.Evidence(Path(f"evidence-{digest[:SHORT]}.json"), body)
    accepted = booth.cast(poll, body, relayers, evidence)
    note(
        f"{accepted.relayer} promises a place in the log by {print_time(accepted.promise.by)}; the signed promise is in {evidence.path}"
    )
    result = {
        "state": "promised", "ballot": digest, "fingerprint": ballot.fingerprint.hex(), "roll_index": voter.roll_index,
        "earlier_ballots": earlier, "relayer": accepted.relayer, "by": accepted.promise.by, "evidence": str(evidence.path),
    }  # fmt: skip
    if not wait:
        note(f"Promised, not yet in the log. Look for it under its hash {digest}")
        return result
    receipt = booth.await_receipt(poll, body, accepted)
    _write(path, receipt.body())
    note(
        f"Cast: your ballot is record {receipt.position} of the log, and {path} proves it.\n"
        "The receipt proves that this ballot is on the record, unchanged. It does not show how you voted, to anybody. Whether it counts is fixed when"
        " the poll is settled: a later ballot or a paper ballot of yours may replace it. Keep it, and check it then: ballotboard verify receipt, or any bulletin board. For paper or a phone: ballotboard receipt qr."
    )
    return {**result, "state": "final", "position": receipt.position, "receipt": str(path)}


def _write(path: Path, data: bytes) -> None:
    try:
        path.write_bytes(data)
    except OSError as error:
        raise BallotboardError(f"cannot write {path}: {error.strerror}") from error
