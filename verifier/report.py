"""What the verifier says: as an object, as text, in one sentence to quote, and under one hash.

The hash is SHA-256 of the report in canonical JSON without what differs from one machine to another (engine, seconds), so two
observers who saw the same record and checked the same things hold the same hash. It leaves out the complaints too: they are told for information,
make no verdict, and the log's root, which is in the hash, fixes them.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from protocol import complaints, engine
from protocol.counting import Status
from protocol.encoding import canonical_json
from verifier.case import Case
from verifier.check import GROUPS, NOT_APPLICABLE, Result

FORMAT = "ballotboard/report/v1"
VERIFIED, CONSISTENT, NOT_VERIFIED = "verified", "consistent", "not verified"
NOT_HASHED = ("complaints", "engine", "seconds")
"""Members that do not enter the hash."""

COMPLAINTS = 20
"""Complaints in the report for people; JSON has them all."""

MARKS = {"pass": "ok", "fail": "FAIL", NOT_APPLICABLE: "n/a", "not run": "NOT RUN"}


@dataclass(frozen=True)
class Report:
    """The verdict with everything behind it. `value` is the JSON object."""

    value: dict[str, Any]

    @property
    def verdict(self) -> str:
        return self.value["verdict"]

    @property
    def exit_status(self) -> int:
        """0 if everything that applies has passed, else 1."""
        return 1 if self.verdict == NOT_VERIFIED else 0

    @property
    def sha256(self) -> str:
        """The report's hash, 64 hex digits."""
        return hashlib.sha256(canonical_json({k: v for k, v in self.value.items() if k not in NOT_HASHED})).hexdigest()

    def json(self) -> dict[str, Any]:
        """The object that `--json` prints: the value, its sentence and its hash."""
        return {**self.value, "sentence": self.sentence(), "report": self.sha256}

    def sentence(self) -> str:
        """One sentence that can be quoted."""
        value = self.value
        name = value["name"] or "this board"
        failed = [check for check in value["checks"] if check["outcome"] == "fail"]
        if self.verdict == NOT_VERIFIED:
            first = failed[0]
            others = f" and {len(failed) - 1} more" if len(failed) > 1 else ""
            return f"The public record of “{name}” does not verify: {first['id']} ({first['title'].lower()}) fails{others}."
        if value["run"] == "config":
            return f"The setup of “{name}” is on the record as its manifest says; nothing was found wrong."
        id = f" (if its election id is {value['election']})" if self.verdict == CONSISTENT else ""
        contests = value["contests"]
        totals = (
            ", ".join(f"{option} {votes}" for option, votes in (value["total"] or {}).items())
            or f"{len(contests)} contests"
        )
        evidence = next(c for c in value["checks"] if c["id"] == "E04")
        limits = f" One node showed this log ({evidence['detail']})." if evidence["outcome"] == NOT_APPLICABLE else ""
        practice = "practice election " if value["practice"] else ""
        return (
            f"The announced result of {practice}“{name}”{id} follows from its public record of {value['ballots']} ballots, {value['accepted']} of them counted,"
            f" as recomputed from the record alone: {totals}.{limits}"
        )

    def text(self) -> str:
        """The report for people."""
        value = self.value
        practice = " (PRACTICE)" if value["practice"] else ""
        lines = [f"{value['name'] or 'unknown election'}{practice}", f"  election id  {value['election'] or 'unknown'}"]
        lines += [f"  log          {value['head']['size']} records, root {value['head']['root']}"]
        for letter, (group, question) in GROUPS.items():
            checks = [check for check in value["checks"] if check["id"][0] == letter]
            lines += ["", f"{group.capitalize()}: {question}"] if checks else []
            for check in checks:
                lines.append(f"  {check['id']}  {MARKS[check['outcome']]:<8} {check['title']}")
                lines.append(f"                {check['detail']}")
        lines += ["", "Totals, as recomputed:"] if value["contests"] else []
        for contest in value["contests"]:
            width = max(map(len, [*contest["options"], "votes"]))
            lines += ["", f"{contest['id']:<{width + 2}}  {'online':>10} {'paper':>10} {'total':>10}"]
            rows = zip(contest["options"], contest["online"], contest["paper"], contest["total"], strict=True)
            lines += [f"  {option:<{width}}  {a:>10,} {b:>10,} {c:>10,}" for option, a, b, c in rows]
        lines += complaint_lines(value)
        counts = {outcome: sum(c["outcome"] == outcome for c in value["checks"]) for outcome in MARKS}
        lines += ["", ", ".join(f"{number} {outcome}" for outcome, number in counts.items() if number)]
        lines += [f"{value['engine']}, {value['seconds']:.1f} s", ""]
        if self.verdict == CONSISTENT:
            lines += [
                f"CONSISTENT. Compare this election id with the one printed on voters' cards: {value['election']}"
            ]
        else:
            lines += [self.verdict.upper()]
        return "\n".join([*lines, self.sentence(), f"report {self.sha256}"])


def complaint_lines(value: dict[str, Any]) -> list[str]:
    """What roles have complained of on the record, in a paragraph for a terminal or a file of text; no line where nobody has."""
    said = [complaints.Complaint.of(one).line() for one in value.get("complaints", ())]
    more = [f"  and {len(said) - COMPLAINTS} more: see --json"] if len(said) > COMPLAINTS else []
    head = f"Complaints on the record, {len(said)}. They are their writers' words and change no verdict:"
    return ["", head, *(f"  {line}" for line in said[:COMPLAINTS]), *more] if said else []


def make_report(run: str, case: Case, results: list[Result], seconds: float) -> Report:
    """The report of a run. Totals are this verifier's own, and only there if they could be recomputed."""
    checks = [
        {"id": r.check.id, "title": r.check.title, "outcome": r.outcome, "detail": r.detail, "positions": r.positions}
        for r in results
    ]
    by_id = {r.check.id: r for r in results}
    if not all(r.good for r in results):
        verdict = NOT_VERIFIED
    else:
        verdict = CONSISTENT if by_id["A02"].outcome == NOT_APPLICABLE else VERIFIED

    def passed(*ids: str) -> bool:
        return all(id in by_id and by_id[id].good for id in ids)

    manifest = case.manifest if passed("I01") else None
    statuses = case.counted.tally() if passed("E02") else dict.fromkeys(Status, 0)
    contests = _contests(case) if passed("E03", "I06") else []
    single = contests[0] if len(contests) == 1 else None
    value = {
        "format": FORMAT,
        "run": run,
        "verdict": verdict,
        "election": manifest.election_id.hex() if manifest else None,
        "name": manifest.name if manifest else None,
        "practice": manifest.practice if manifest else None,
        "chain": case.claims.chain_id,
        "contract": case.claims.contract.hex(),
        "head": {"size": case.claims.head.size, "root": case.claims.head.root.hex()},
        "settlement_root": case.settled.settlement.head.root.hex() if passed("E02") else None,
        "state": case.state.hex() if passed("K08") else None,
        "ballots": sum(statuses.values()),
        "accepted": statuses[Status.COUNTED],
        "attempts": {s.text: statuses[s] for s in Status if s != Status.COUNTED},
        "tally": _votes(single, "online"),
        "paper": _votes(single, "paper"),
        "total": _votes(single, "total"),
        "contests": contests,
        "checks": checks,
        "complaints": [one.value() for one in complaints.read(case.records, manifest.roles)]
        if manifest and passed("C01", "I03")
        else [],
        "engine": engine.name(),
        "seconds": round(seconds, 3),
    }
    return Report(value)


def _contests(case: Case) -> list[dict[str, Any]]:
    value = case.recomputed
    return [
        {
            "id": contest.id, "title": contest.title, "options": list(contest.options), "online": value["online"][i]["totals"],
            "paper": value["paper"][i]["totals"], "total": value["total"][i],
        }
        for i, contest in enumerate(case.manifest.contests)
    ]  # fmt: skip


def _votes(contest: dict[str, Any] | None, member: str) -> dict[str, int] | None:
    """{option: votes} where the election has a single contest, else None: see `contests`."""
    return dict(zip(contest["options"], contest[member], strict=True)) if contest else None
