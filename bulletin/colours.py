"""Party colours: a file of whoever runs the board, as a style sheet.

A manifest names options and no colours, so a board that is told nothing takes a palette by the options' order. A CSV file gives options their own:

    contest,option,colour,dark
    president,Ann Party,#b3122b,#f0707f

`contest` is the id in the manifest, `option` its text; `dark` is for the dark theme, and where it is empty `colour` is for both. Colours help to find an
option again and say nothing by themselves: its name and its figures stand beside every bar. A bar is seen by its colour all the same, so one that
cannot be told from the empty bar behind it is refused, and the nearest shade that can is named.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from protocol.errors import BallotboardError
from protocol.manifest import Manifest

COLUMNS = ["contest", "option", "colour", "dark"]

LEAST = 3.0
"""Contrast of what is drawn with what is beside it (WCAG 2.2, 1.4.11)."""

LIGHT, DARK = re.findall(r"--track: (#[0-9a-f]{6});", (Path(__file__).parent / "static" / "board.css").read_text())
"""The empty bar in both themes. The page behind the keys is further away from any colour that may stand on it."""


@dataclass(frozen=True)
class Colour:
    """A line of the file, its number for whoever has to correct it."""

    line: int
    contest: str
    option: str
    light: str
    dark: str


def style(path: Path, manifest: Manifest) -> bytes:
    """The style sheet for an election: `.pCONTEST-OPTION`, by their numbers in the manifest. Raises BallotboardError, naming the line, for a file that is
    not of this form or this election, and for a colour that is not seen in both themes."""
    rules: dict[str, Colour] = {}
    for colour in _read(path):
        where = f"{path} line {colour.line}"
        contests = [contest.id for contest in manifest.contests]
        if colour.contest not in contests:
            raise BallotboardError(f"{where}: no contest {colour.contest!r} in this election: {_listed(contests)}")
        contest = contests.index(colour.contest)
        options = manifest.contests[contest].options
        if colour.option not in options:
            raise BallotboardError(
                f"{where}: no option {colour.option!r} in the contest {colour.contest!r}: {_listed(options)}"
            )
        name = f".p{contest}-{options.index(colour.option)}"
        if name in rules:
            raise BallotboardError(f"{where}: {colour.option!r} has its colour from line {rules[name].line} already")
        _seen(where, "light", colour.light, LIGHT, "#000000")
        _seen(where, "dark", colour.dark, DARK, "#ffffff")
        rules[name] = colour
    light = [f"{name} {{ fill: {one.light}; background: {one.light}; }}" for name, one in rules.items()]
    dark = [f"  {name} {{ fill: {one.dark}; background: {one.dark}; }}" for name, one in rules.items()]
    return "\n".join([*light, "@media (prefers-color-scheme: dark) {", *dark, "}", ""]).encode()


def contrast(one: str, other: str) -> float:
    """Of two colours, #rrggbb: from 1 to 21 (WCAG 2.2, contrast ratio)."""
    low, high = sorted(map(_luminance, (one, other)))
    return (high + 0.05) / (low + 0.05)


# ---------------------------------------------------------------- helpers


def _read(path: Path) -> Iterator[Colour]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:  # a spreadsheet's byte order mark
            lines = csv.reader(file)
            head = next(lines, [])
            if head not in (COLUMNS, COLUMNS[:3]):
                raise BallotboardError(f"{path} line 1: the columns are {','.join(COLUMNS)}, the last may be left out")
            for row in lines:
                if row:
                    yield _colour(f"{path} line {lines.line_num}", lines.line_num, [cell.strip() for cell in row])
    except (OSError, UnicodeError, csv.Error) as error:
        raise BallotboardError(f"cannot read {path}: {error}") from error


def _colour(where: str, line: int, row: list[str]) -> Colour:
    if not 3 <= len(row) <= len(COLUMNS):
        raise BallotboardError(
            f"{where}: has {len(row)} cells, not {','.join(COLUMNS)}: put a text with a comma in quotes"
        )
    contest, option, light, dark = [*row, ""][:4]
    for value in filter(None, (light, dark)):
        if not re.fullmatch("#[0-9a-fA-F]{6}", value):
            raise BallotboardError(f"{where}: {value!r} is no colour: # and six hexadecimal digits, as in #b3122b")
    if not light:
        raise BallotboardError(f"{where}: has no colour: # and six hexadecimal digits, as in #b3122b")
    return Colour(line, contest, option, light.lower(), (dark or light).lower())


def _seen(where: str, theme: str, colour: str, behind: str, towards: str) -> None:
    if (found := contrast(colour, behind)) >= LEAST:
        return
    shades = (_mixed(colour, towards, part) for part in range(1, 101))
    nearest = next(shade for shade in shades if contrast(shade, behind) >= LEAST)
    column = "a `dark` of its own" if theme == "dark" else "a darker `colour`"
    raise BallotboardError(
        f"{where}: {colour} is hardly seen in the {theme} theme (contrast {found:.1f} of at least {LEAST:.0f}): give {column}, as {nearest}"
    )


def _mixed(one: str, other: str, part: int) -> str:
    """One colour with so many hundredths of the other."""
    return "#" + "".join(
        f"{(a * (100 - part) + b * part) // 100:02x}" for a, b in zip(_rgb(one), _rgb(other), strict=True)
    )


def _luminance(colour: str) -> float:
    linear = [
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (part / 255 for part in _rgb(colour))
    ]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def _rgb(colour: str) -> bytes:
    return bytes.fromhex(colour[1:])


def _listed(names: Sequence[str]) -> str:
    return "it has " + ", ".join(repr(name) for name in names[:10]) + (" …" if len(names) > 10 else "")
