"""A citizen's monitor: look at a board again and again, and keep every head that it ever showed.

A log that only grows has, at every size that was once its head, the very root that it had then. So a small file of heads is enough to
notice any change of history, by whatever node and however much later. Each look also runs the checks that the phase of the election allows:
before the poll those that need no roll and no key, then those of `verify config`, and all of them once there is a result.

The state file (JSON) holds the board, the election id and the heads. It is written before a look is reported, whole or not at all; a head
is added and never taken away.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from protocol.encoding import members, unhex
from protocol.errors import BallotboardError, Malformed
from protocol.records import Kind, LogHead
from verifier import checks
from verifier.case import Case

FORMAT = "ballotboard/watch/v1"

INTERVAL = 60
"""Seconds between two looks: a node is not burdened, and a change is known long before anybody acts on it."""

BEFORE_THE_POLL = ("I01", "C01", "C02", "A02", "A04", "A05", "K01", "K02", "I02", "I03")
"""What can be checked of any log, however little is on it."""


@dataclass
class State:
    """The heads seen of one board, by ascending size. `election` is the id (hex) that the first look found."""

    chain: int
    contract: str
    election: str
    heads: list[LogHead] = field(default_factory=list)

    def save(self, path: Path) -> None:
        """Replace the file. Raises BallotboardError where it cannot be written."""
        value = {
            "format": FORMAT, "chain": self.chain, "contract": self.contract, "election": self.election,
            "heads": [{"size": head.size, "root": head.root.hex()} for head in self.heads],
        }  # fmt: skip
        part = path.with_name(path.name + ".part")
        try:
            with part.open("w") as out:
                json.dump(value, out, indent=1)
                out.flush()
                os.fsync(out.fileno())
            os.replace(part, path)
        except OSError as error:
            raise BallotboardError(f"cannot write {path}: {error.strerror}") from error

    @staticmethod
    def load(path: Path) -> State | None:
        """The state in a file, None where there is none yet. Raises BallotboardError for anything else in it."""
        try:
            value = json.loads(path.read_bytes())
            members(value, "watch", format=str, chain=int, contract=str, election=str, heads=list)
            if value["format"] != FORMAT:
                raise Malformed("watch.format", f"expected {FORMAT}")
            heads = [LogHead(head["size"], unhex(head["root"], 32, "watch.heads")) for head in value["heads"]]
        except FileNotFoundError:
            return None
        except OSError as error:
            raise BallotboardError(f"cannot read {path}: {error.strerror}") from error
        except (ValueError, KeyError, TypeError, Malformed) as error:
            raise BallotboardError(f"{path} is no state of a watch: {error}; move it away to begin anew") from error
        return State(value["chain"], value["contract"], value["election"], heads)


@dataclass(frozen=True)
class Look:
    """What one look found: whether all is well, the head, how many records are new, and why not in words."""

    ok: bool
    head: LogHead
    new: int
    checks: int
    detail: str

    def json(self) -> dict[str, Any]:
        head = {"size": self.head.size, "root": self.head.root.hex()}
        return {"ok": self.ok, "head": head, "new": self.new, "checks": self.checks, "detail": self.detail}


def look(case: Case, before: State | None) -> tuple[Look, State]:
    """One look at what a node claims, and the state after it, in which the new head stands only where all is well."""
    claims = case.claims
    head, found = claims.head, State(claims.chain_id, claims.contract.hex(), "", [])
    state = before or found

    def bad(detail: str, ran: int = 0) -> tuple[Look, State]:
        return Look(False, head, 0, ran, detail), state

    if (state.chain, state.contract) != (found.chain, found.contract):
        return bad(f"This is another board than the one watched so far, 0x{state.contract} on chain {state.chain}.")
    if claims.contradiction:
        return bad(f"The node contradicts itself: {claims.contradiction}")
    last = state.heads[-1] if state.heads else LogHead(0, b"")
    if head.size < last.size:
        return bad(f"History has changed: the log has {head.size} records, and had {last.size} when it was last seen.")
    roots = case.roots(seen.size for seen in state.heads)
    for seen in state.heads:
        if roots.get(seen.size) != seen.root:
            return bad(
                f"History has changed: at {seen.size} records the log once had the root {seen.root.hex()},"
                f" and those records now give {roots[seen.size].hex() if seen.size in roots else 'none'}."
            )
    wanted = phase_checks(case)
    results = checks.run(case, wanted)
    failed = [result for result in results if not result.good]
    if failed:
        first = next((result for result in failed if result.outcome == "fail"), failed[0])
        return bad(f"{first.check.id} ({first.check.title.lower()}) fails: {first.detail}", len(wanted))
    election = case.manifest.election_id.hex()
    if state.election not in ("", election):
        return bad(f"The election id has changed from {state.election} to {election}.", len(wanted))
    heads = state.heads if state.heads and head.size == last.size else [*state.heads, head]
    new = head.size - last.size
    words = f"{new} new records" if new else "nothing new"
    return (
        Look(True, head, new, len(wanted), f"{words}; {head.size} in all, and everything seen before is unchanged."),
        State(state.chain, state.contract, election, heads),
    )


def phase_checks(case: Case) -> list[checks.Check]:
    """The checks that can be decided of a log as far as it has come."""
    kinds = {record.kind for record in case.claims.records}
    if Kind.RESULT in kinds:
        return list(checks.CHECKS.values())
    if Kind.OPEN in kinds:
        return [check for check in checks.CHECKS.values() if check.config and check.id not in ("E04", "E06")]
    return [checks.CHECKS[id] for id in BEFORE_THE_POLL]
