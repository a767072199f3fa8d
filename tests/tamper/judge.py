"""Whether the verifier says of a case what it must: the one criterion of the tests here and of scripts/mutation.py."""

from __future__ import annotations

from tests.tamper.builder import PAPER_TOTALS, MemorySource
from tests.tamper.recipes import Recipe, Tampered
from verifier.check import FAIL
from verifier.report import Report
from verifier.run import verify_config, verify_tally


def verified(tampered: Tampered) -> Report:
    source = MemorySource(tampered.claims)
    if tampered.run == "config":
        return verify_config(source, tampered.election_id)
    return verify_tally(source, tampered.election_id, promises=tampered.promises, setup_report=tampered.setup_report)


def failing(report: Report) -> set[str]:
    return {check["id"] for check in report.value["checks"] if check["outcome"] == FAIL}


def wrong_with(recipe: Recipe, tampered: Tampered) -> str:
    """What the verifier says otherwise than it must of this case: failing checks, words, verdict and totals. Empty if nothing."""
    report = verified(tampered)
    words = " ".join(check["detail"] for check in report.value["checks"])
    totals = [{c["id"]: c[where] for c in report.value["contests"]} for where in ("online", "paper")]
    if failing(report) != recipe.fails:
        return f"fails {sorted(failing(report))}, not {sorted(recipe.fails)}\n{report.text()}"
    if unsaid := [sentence for sentence in recipe.says if sentence not in words]:
        return f"does not say {unsaid}\n{report.text()}"
    if (report.verdict, report.exit_status) != (("not verified", 1) if recipe.fails else ("verified", 0)):
        return f"verdict {report.verdict}, exit status {report.exit_status}"
    if (
        not recipe.fails
        and tampered.run == "tally"
        and (totals, report.value["accepted"]) != ([tampered.online, PAPER_TOTALS], tampered.accepted)
    ):
        return f"totals {totals}, {report.value['accepted']} accepted"
    return ""
