"""A complaint, from its evidence to the record: what can be checked is checked before anything is signed.

The verifier's own code judges: a promise by check E06, a receipt by `verify receipt`, a refusal by verifying the ballot that was refused. Evidence
that proves nothing is refused, so that a complaint with a file of these classes was true for the node that its writer asked.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chain.board import Board
from chain.console import Connection, print_time, read_bytes
from chain.errors import ChainError
from chain.rpc import address_bytes
from protocol.ballot import Reason, read_header
from protocol.complaints import BadComplaint
from protocol.election import roll_state
from protocol.encoding import members, unhex
from protocol.receipt import Refusal, check_statement
from protocol.records import ballot_hash
from verifier import checks, receipts
from verifier.case import Case
from verifier.check import Result
from verifier.claims import Claims
from verifier.cli import read_promises
from verifier.node import NodeSource

REFUSED_BY = "the board takes complaints from the election's roles alone; officers of stations are none"


class NoEvidence(BadComplaint):
    """A file that does not show what is complained about."""


@dataclass(frozen=True, slots=True)
class Examined:
    """A file of evidence: its SHA-256, and in a sentence what was found in it; "" where nothing of it can be checked by a program."""

    sha256: bytes
    found: str


def check_place(board: Board, signer: str, about: int | None) -> None:
    """Raises BadComplaint unless the signer (0x…) holds a role of the board and the record that it is about is there."""
    if all(role.account != address_bytes(signer) for role in board.roles()):
        raise BadComplaint(f"{signer} holds no role in this election: {REFUSED_BY}")
    size = board.head().size
    if about is not None and not 0 <= about < size:
        raise BadComplaint(f"there is no record {about}: the log has the records 0 to {size - 1}")


def examine(cls: str, path: Path, where: Connection, now: int) -> Examined:
    """Look at a file that is to prove a complaint of this class; `now` is the chain's time. Raises NoEvidence, and BallotboardError where it is no such file."""
    digest = hashlib.sha256(read_bytes(path)).digest()
    judge = JUDGES.get(cls)
    if judge is None:
        return Examined(digest, "")
    claims = NodeSource(where.rpc, where.contract, holders=where.holders).read()
    if claims.contradiction:
        raise ChainError(f"the node contradicts itself: {claims.contradiction}; ask another one")
    return Examined(digest, judge(path, claims, now))


def _promise(path: Path, claims: Claims, now: int) -> str:
    """A promise is broken when its time is over: until then the ballot may still come."""
    promises = read_promises(path)
    if _kept(claims, promises).good:
        raise NoEvidence(f"{path} proves nothing: every promise in it was kept")
    signed = Case(claims, promises=promises).statements
    due = [value for value, promise in zip(promises, signed, strict=True) if promise.by < now]
    result = _kept(claims, due)
    if result.good:
        last = print_time(max(promise.by for promise in signed))
        raise NoEvidence(f"{path} proves nothing yet: a promise in it is due at {last} and not broken before")
    return result.detail


def _kept(claims: Claims, promises: Sequence[Any]) -> Result:
    """What check E06 says of these promises. Raises NoEvidence where the log itself is at fault, which says nothing about a promise."""
    [result] = checks.run(Case(claims, promises=promises), [checks.CHECKS["E06"]])
    if result.outcome == "not run":
        raise NoEvidence(
            f"the node's log does not stand, so nothing is judged by it: {result.detail}; ask another node"
        )
    return result


def _refusal(path: Path, claims: Claims, _now: int) -> str:
    """A refusal is wrong when the ballot is valid by the verifier's own judgement."""
    try:
        value = json.loads(read_bytes(path))
    except (ValueError, RecursionError) as error:
        raise NoEvidence(f"{path} is not JSON: give the evidence file that `ballotboard vote` wrote") from error
    members(value, "evidence", ballot=str, format=str, statements=list)
    case, body = Case(claims), unhex(value["ballot"], len(value["ballot"]) // 2, "evidence.ballot")
    refusals = [
        s for s in (check_statement(one, case.manifest) for one in value["statements"]) if isinstance(s, Refusal)
    ]
    here = (ballot_hash(body), claims.chain_id, claims.contract)
    if not refusals or any((one.ballot, one.chain, one.contract) != here for one in refusals):
        raise NoEvidence(f"{path} proves nothing: it holds no refusal, or one of another ballot or board")
    state = roll_state(case.open, case.records)
    [reason] = case.open.engine.verify([body], state.roll)
    if reason != Reason.VALID:
        raise NoEvidence(f"{path} proves nothing: the refusal is right, the ballot is not valid ({reason.text})")
    if read_header(body)[0] in state.revoked:
        raise NoEvidence(f"{path} proves nothing: the refusal is right, the ballot's card was revoked")
    said = ", ".join(f"{case.manifest.roles[one.relayer].name} ({one.reason})" for one in refusals)
    return f"the ballot {ballot_hash(body).hex()} is valid and was refused by {said}"


def _receipt(path: Path, claims: Claims, _now: int) -> str:
    """A receipt is evidence when it proves its ballot in a log of this election that this log does not extend."""
    case, receipt = Case(claims), receipts.read_file(read_bytes(path)).receipt
    receipts.offline(receipt)
    here = (claims.chain_id, claims.contract, case.manifest.election_id)
    if (receipt.chain_id, receipt.contract, receipt.election_id) != here:
        raise NoEvidence(f"{path} proves nothing: the receipt is of another election")
    [fate] = receipts.compare([receipt], case)
    if isinstance(fate, receipts.Fate):
        raise NoEvidence(
            f"{path} proves nothing: the log holds the receipt's ballot, record {receipt.position} ({fate.text})"
        )
    return str(fate)


JUDGES: dict[str, Callable[[Path, Claims, int], str]] = {"promise": _promise, "refusal": _refusal, "receipt": _receipt}
"""Class → what looks at its evidence. What the others' files show is for people to judge."""
