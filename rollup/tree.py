"""A unit tree from a file that people edit: CSV with the columns id, parent, level, name and, if there are several, style.

An `id` is any text that occurs once; `parent` is the id of another line, empty for the one root; lines may stand in any order. `style` is the ballot
style of a unit where people vote, by name or, where styles have none, by number (default: the first), and empty for the others. A file `*.jsonl` has a
JSON object with the same members, texts all, on each line. The units come out as the manifest's attachment wants them
(docs/protocol.md, section 3): each after its parent, children in the file's order.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from protocol.attachments import Unit
from protocol.errors import BallotboardError

COLUMNS = {"id", "parent", "level", "name"}
OPTIONAL = "style"


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


def read_tree(path: Path, styles: Sequence[str] = ()) -> tuple[list[Unit], dict[str, int]]:
    """(units, id → unit number); `styles` are the ballot styles' names, if they have some.

    Raises TreeError for a cycle, an orphan, a second parent or root, a style that there is not, naming line and unit.
    """
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
        units.append(Unit(line.level, line.name, numbers.get(line.parent, -1), _style(path, line, bool(below), styles)))
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


def _style(path: Path, line: _Line, inner: bool, styles: Sequence[str]) -> int:
    where = f"{path}, line {line.number}: {line.name} ({line.id})"
    if inner:
        if line.style:
            raise TreeError(f"{where} has units below it and a style: people vote in leaf units")
        return -1
    if len(styles) > 1 and not line.style:
        raise TreeError(f"{where} has no style: write one of {', '.join(styles)}")
    if not line.style:
        return 0
    if styles and line.style not in styles:
        raise TreeError(f"{where}: there is no style {line.style!r}: write one of {', '.join(styles)}")
    if not styles and not (line.style.isascii() and line.style.isdigit()):
        raise TreeError(f"{where}: the style {line.style!r} is not a number")
    return styles.index(line.style) if styles else int(line.style)


def _lines(path: Path) -> list[_Line]:
    found = []
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:  # a spreadsheet puts a byte order mark in front
            for number, row in _json_rows(path, file) if path.suffix == ".jsonl" else _csv_rows(path, file):
                line = _Line(number, *((row.get(key) or "").strip() for key in ("id", "parent", "level", "name", OPTIONAL)))  # fmt: skip
                if not line.id or not line.name:
                    raise TreeError(f"{path}, line {number}: a unit needs an id and a name")
                found.append(line)
    except OSError as error:
        raise BallotboardError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise TreeError(f"{path} is not UTF-8 at byte {error.start}") from error
    return found


def _csv_rows(path: Path, file: TextIO) -> Iterator[tuple[int, dict[str, str]]]:
    reader = csv.DictReader(file, strict=True)
    try:
        if missing := COLUMNS - set(reader.fieldnames or ()):
            raise TreeError(f"{path}: the header needs the columns {', '.join(sorted(missing))}")
        for row in reader:
            if None in row or None in row.values():
                raise TreeError(f"{path}, line {reader.line_num}: has not as many fields as the header")
            yield reader.line_num, row
    except csv.Error as error:
        raise TreeError(f"{path}, line {reader.reader.line_num}: {error}") from error


def _json_rows(path: Path, file: TextIO) -> Iterator[tuple[int, dict[str, str]]]:
    for number, text in enumerate(file, 1):
        try:
            row: Any = json.loads(text)
        except ValueError as error:
            raise TreeError(f"{path}, line {number}: is not JSON: {error}") from error
        if not isinstance(row, dict) or not all(isinstance(value, str) for value in row.values()):
            raise TreeError(f"{path}, line {number}: must be an object of texts")
        if missing := COLUMNS - {"parent"} - row.keys():
            raise TreeError(f"{path}, line {number}: lacks {', '.join(sorted(missing))}")
        yield number, row
