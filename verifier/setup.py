"""The report of `verify config`, as the later `verify tally` is bound to it: which board it was about, and which log it saw."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from protocol.encoding import canonical_json, unhex
from protocol.errors import Malformed
from protocol.records import LogHead
from verifier.claims import WrongInput

OF_THE_HASH = ("complaints", "sentence", "report", "engine", "seconds")
"""Members that do not enter a report's hash (verifier/report.py): the sentence follows from the others, `report` is the hash."""


@dataclass(frozen=True)
class SetupReport:
    """What binds: the report's hash, the board (election id, chain, contract), and the head of the log that was verified."""

    name: str
    board: tuple[str, int, str]
    head: LogHead


def read_setup_report(value: Any) -> SetupReport:
    """The report in the object that `verify config --json` prints. Raises WrongInput for anything that is not one, whole and good."""
    try:
        hashed = {name: member for name, member in value.items() if name not in OF_THE_HASH}
        if hashlib.sha256(canonical_json(hashed)).hexdigest() != value["report"]:
            raise WrongInput("the report of `verify config` was changed: its hash is another")
        if value["run"] != "config" or value["verdict"] not in ("verified", "consistent"):
            raise WrongInput("the report given is not one of a `verify config` in which nothing was found wrong")
        head = LogHead(value["head"]["size"], unhex(value["head"]["root"], 32, "head.root"))
        return SetupReport(value["report"], (value["election"], value["chain"], value["contract"]), head)
    except (AttributeError, KeyError, TypeError, Malformed) as error:
        raise WrongInput(f"the file given is no report of `verify config --json`: {error}") from error
