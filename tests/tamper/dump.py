"""The corpus for other people's verifiers: any case written out as plain files, with what a verifier must find (README.md has the format).

python -m tests.tamper.dump --list
python -m tests.tamper.dump DIRECTORY [CASE …]          all cases, or those named, each in a folder of its own
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from tests.tamper.builder import PAPER_TOTALS
from tests.tamper.recipes import RECIPES, Recipe, Tampered, honest, made

FORMAT = "ballotboard/dump/v1"

HONEST = Recipe(
    "the honest election", frozenset(), (), lambda: Tampered(honest().claims(), honest().manifest.election_id)
)
"""The case that nothing was done to."""


def name_of(recipe: Recipe) -> str:
    """A recipe's title as the name of a folder."""
    return recipe.title.replace(" ", "-").replace("'", "")


def write(recipe: Recipe, folder: Path) -> None:
    """One case as files: what a verifier is given, and `expected.json`. The folder is made; files in it are replaced."""
    tampered = made(recipe)
    claims = tampered.claims
    log = {
        "format": FORMAT,
        "run": tampered.run,
        "election_id": tampered.election_id.hex(),
        "chain": claims.chain_id,
        "contract": claims.contract.hex(),
        "head": {"size": claims.head.size, "root": claims.head.root.hex()},
        "roots": [{"size": size, "root": root.hex()} for size, root in claims.roots],
        "creation": claims.creation.hex(),
        "runtime_code": claims.runtime_code.hex(),
    }
    records = [
        {
            "position": record.position, "kind": record.entry.kind, "time": record.entry.time, "role": record.entry.role,
            "body_hash": record.entry.body_hash.hex(), "body": None if record.body is None else record.body.hex(),
            "number": record.number, "signatures": record.signatures.hex(),
        }
        for record in claims.records
    ]  # fmt: skip
    expected: dict[str, Any] = {
        "title": recipe.title,
        "verdict": "not verified" if recipe.fails else "verified",
        "fails": sorted(recipe.fails),
        "totals": None
        if recipe.fails or tampered.run == "config"
        else {"online": tampered.online, "paper": PAPER_TOTALS},
    }
    (folder / "files").mkdir(parents=True, exist_ok=True)
    (folder / "log.json").write_text(json.dumps(log, indent=1))
    (folder / "records.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    (folder / "expected.json").write_text(json.dumps(expected, indent=1))
    if tampered.promises is not None:
        (folder / "promises.json").write_text(json.dumps(list(tampered.promises)))
    if tampered.setup_report is not None:
        (folder / "setup.json").write_text(json.dumps(tampered.setup_report))
    if claims.evidence:
        (folder / "evidence.json").write_bytes(claims.evidence)
    for digest, data in claims.attachments.items():
        (folder / "files" / digest.hex()).write_bytes(data)


def main() -> None:
    cases = {name_of(recipe): recipe for recipe in (HONEST, *RECIPES)}
    parser = argparse.ArgumentParser(description="write cases of the tamper corpus to disk")
    parser.add_argument("folder", nargs="?", type=Path, help="where to write them")
    parser.add_argument("cases", nargs="*", help="names of cases; all if none is given")
    parser.add_argument("--list", action="store_true", help="name every case and the checks that must fail")
    given = parser.parse_args()
    unknown = [name for name in given.cases if name not in cases]
    if unknown:
        parser.error(f"there is no case {unknown[0]}; --list names them")
    if given.list or given.folder is None:
        for name, recipe in cases.items():
            print(f"{' '.join(sorted(recipe.fails)) or 'verified':<12} {name}")
        return
    for name in given.cases or cases:
        write(cases[name], given.folder / name)
        print(given.folder / name)


if __name__ == "__main__":
    main()
