"""A unit tree from a file that people edit: CSV with the columns id, parent, level, name and, if there are several, style.

An `id` is any text that occurs once; `parent` is the id of another line, empty for the one root; lines may stand in any order. `style` is the
number of a ballot style for a unit where people vote (default 0), empty for the others. The units come out as the manifest's attachment wants them
(docs/protocol.md, section 3): each after its parent, children in the file's order.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from protocol.attachments import Unit
from protocol.errors import BallotboardError

COLUMNS = {"id", "parent", "level", "name"}


class TreeError(BallotboardError):
    """A file that is no tree; the message names the file, the line and the unit."""


@dataclass(frozen=True, slots=True)
class _Line:
    number: int
    id: str
    parent: str
    level: str
    name: str
    style: str


def read_tree(path: Path) -> tuple[list[Unit], dict[str, int]]:
    """(units, id → unit number). Raises TreeError for a cycle, an orphan, a second parent or root, naming the unit."""
    lines = _lines(path)
    by_id: dict[str, _Line] = {}
    for line in lines:
        if other := by_id.get(line.id):
            both = f"{other.parent!r} (line {other.number}) and {line.parent!r}"
            why = f"has two parents: {both}" if other.parent != line.parent else f"is in line {other.number} already"
            raise TreeError(f"{path}, line {line.number}: {line.name} ({line.id}) {why}")
        by_id[line.id] = line
    children: dict[str, list[_Line]] = {line.id: [] for line in lines}
    roots = []
    for line in lines:
        if not line.parent:
            roots.append(line)
        elif line.parent not in by_id:
            raise TreeError(
                f"{path}, line {line.number}: {line.name} ({line.id}) is an orphan: no line has the id {line.parent!r}"
            )
        else:
            children[line.parent].append(line)
    if len(roots) != 1:
        _check_cycle(path, lines, by_id)
        which = f"line {roots[1].number}: {roots[1].name} ({roots[1].id}) is a second root" if roots else "no units"
        raise TreeError(f"{path}, {which}")
    units: list[Unit] = []
    numbers: dict[str, int] = {}
    stack = [roots[0]]
    while stack:
        line = stack.pop()
        below = children[line.id]
        numbers[line.id] = len(units)
        units.append(Unit(line.level, line.name, numbers.get(line.parent, -1), _style(path, line, bool(below))))
        stack += reversed(below)
    if len(units) < len(lines):
        _check_cycle(path, lines, by_id)
    return units, numbers


def _check_cycle(path: Path, lines: list[_Line], by_id: dict[str, _Line]) -> None:
    """Raises TreeError if going up from some line comes back to a line that it passed."""
    reached: set[str] = set()
    for line in lines:
        way: dict[str, None] = {}
        at: _Line | None = line
        while at and at.id not in reached:
            if at.id in way:
                ids = list(way)
                circle = [by_id[id].name for id in ids[ids.index(at.id) :]]
                raise TreeError(
                    f"{path}, line {at.number}: {at.name} ({at.id}) is its own ancestor: {' → '.join([*circle, at.name])}"
                )
            way[at.id] = None
            at = by_id.get(at.parent)
        reached |= way.keys()


def _style(path: Path, line: _Line, inner: bool) -> int:
    if inner:
        if line.style:
            raise TreeError(
                f"{path}, line {line.number}: {line.name} ({line.id}) has units below it and a style: people vote in leaf units"
            )
        return -1
    if line.style and not (line.style.isascii() and line.style.isdigit()):
        raise TreeError(f"{path}, line {line.number}: the style {line.style!r} of {line.name} is not a number")
    return int(line.style or 0)


def _lines(path: Path) -> list[_Line]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            if missing := COLUMNS - set(reader.fieldnames or ()):
                raise TreeError(f"{path}: the header needs the columns {', '.join(sorted(missing))}")
            found = []
            for row in reader:
                line = _Line(reader.line_num, *((row.get(key) or "").strip() for key in ("id", "parent", "level", "name", "style")))  # fmt: skip
                if not line.id or not line.name:
                    raise TreeError(f"{path}, line {line.number}: a unit needs an id and a name")
                found.append(line)
            return found
    except OSError as error:
        raise BallotboardError(f"cannot read {path}: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise TreeError(f"{path} is not a CSV file: {error}") from error
