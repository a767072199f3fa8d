"""Real elections as input of the demo: the first choices of ranked ballots, per unit.

Two forms: published totals that are part of the product (scripts/data/*.json), and a folder of two files, `contest.json` with
`candidates` and `ballots.csv` with one row per ballot pattern: optional `precinct`, `count`, `rank1`, `rank2`, …
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from protocol.errors import BallotboardError
from protocol.manifest import BLANK, MAX_OPTIONS

NOBODY = ("", "overvote", "undervote")
"""First ranks that choose nobody; so does one that joins candidates by `|`."""

DEFAULT_UNIT = "all"


@dataclass(frozen=True)
class BallotData:
    """An election as it was held: options (the last is "blank"), unit names, and the votes in file order as (unit, option)."""

    name: str
    source: str
    options: tuple[str, ...]
    units: tuple[str, ...]
    votes: tuple[tuple[int, int], ...]

    def totals(self) -> dict[str, int]:
        counts = Counter(option for _, option in self.votes)
        return {name: counts[place] for place, name in enumerate(self.options)}

    def first(self, limit: int | None) -> BallotData:
        """The first `limit` ballots in file order; units that lose all their ballots are kept."""
        if limit is not None and limit < 1:
            raise BallotboardError("--limit must be at least 1")
        return BallotData(self.name, self.source, self.options, self.units, self.votes[:limit])


def burlington() -> BallotData:
    """Burlington 2009, from the totals that the city published."""
    value = json.loads((Path(__file__).parent / "data" / "burlington_2009.json").read_text())
    options = tuple(value["totals"])
    votes = [(0, place) for place, name in enumerate(options) for _ in range(value["totals"][name])]
    Random(2009).shuffle(
        votes
    )  # totals have no order: this one is the same in every run, and a part of it is a fair sample
    return BallotData(value["name"], value["source"], options, (value["unit"],), tuple(votes))


def read_ballots(contest: Path, ballots: Path) -> BallotData:
    """The election in these two files. Raises BallotboardError naming the file, and the line of what is wrong in it."""
    description = _json(contest)
    candidates = description.get("candidates") if isinstance(description, dict) else None
    if not isinstance(candidates, list) or not candidates or not all(isinstance(c, str) and c for c in candidates):
        raise BallotboardError(f'{contest} needs "candidates", a list of names')
    if len(set(candidates)) != len(candidates) or BLANK in candidates or len(candidates) >= MAX_OPTIONS:
        raise BallotboardError(
            f"{contest}: candidates must be distinct, at most {MAX_OPTIONS - 1}, and none of them named {BLANK}"
        )
    options = (*candidates, BLANK)
    place = {name: i for i, name in enumerate(options)}
    units: dict[str, int] = {}
    votes: list[tuple[int, int]] = []
    for line, row in _rows(ballots):
        try:
            count = int(row["count"])
        except ValueError:
            count = -1
        if count < 0:
            raise BallotboardError(f"{ballots}, line {line}: count {row['count']!r} is not a number of ballots")
        first = row["rank1"]
        option = BLANK if first in NOBODY or "|" in first else first
        if option not in place:
            raise BallotboardError(f"{ballots}, line {line}: {first!r} is not a candidate in {contest}")
        unit = units.setdefault(row.get("precinct") or DEFAULT_UNIT, len(units))
        votes += [(unit, place[option])] * count
    if not votes:
        raise BallotboardError(f"{ballots} holds no ballots")
    name, source = str(description.get("name", contest.parent.name)), str(description.get("source", ballots.name))
    return BallotData(name, source, options, tuple(units), tuple(votes))


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except OSError as error:
        raise BallotboardError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise BallotboardError(f"{path} is not JSON: {error}") from error


def _rows(path: Path) -> Sequence[tuple[int, dict[str, str]]]:
    try:
        with path.open(newline="") as file:
            reader = csv.DictReader(file)
            missing = {"count", "rank1"} - set(reader.fieldnames or ())
            if missing:
                raise BallotboardError(f"{path}: the header needs columns {', '.join(sorted(missing))}")
            return [(reader.line_num, {k: v or "" for k, v in row.items() if k}) for row in reader]
    except OSError as error:
        raise BallotboardError(f"cannot read {path}: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise BallotboardError(f"{path} is not a CSV file: {error}") from error
