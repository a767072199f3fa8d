"""Cards for paper: a PDF to fold, or a table for a printing house, in English and French.

A card is a third of an A4 page in three panels. What is public is on the left: unit, roll index, and a QR code for the polling station. The
code is in the middle, and the right panel, hatched, folds over it. No name and no id is on it: handout.csv says who gets which.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import IO

import segno
from fpdf import FPDF

from authority.registrar import Card
from protocol.errors import BallotboardError

PUBLIC_QR = "BALLOTBOARD:1:"
"""Then the election id in upper-case hex, a colon, and the roll index: all of it in the symbols that make the smallest QR code."""

TABLE_COLUMNS = ("serial", "unit", "roll_index", "public_qr", "secret_qr", "code")

PAGE_CARDS = 3
WIDTH, HEIGHT, PANEL = 210.0, 99.0, 70.0
"""Millimetres of a card (a third of A4) and of each panel."""
MARGIN, QR_SIDE = 6.0, 30.0
HATCH = 1.1
"""Millimetres between the lines printed on the cover, so that the code cannot be read against the light."""

WORDS = {
    "en": {
        "station": "At the polling station, show this side only.",
        "online": "To vote online, open the card and type the code in it.",
        "secret": "Secret code",
        "part": "Part {part} of 2: you need both cards.",
        "warning": "Whoever has this code can vote for you. Nobody will ever ask you for it.",
        "fold": "Fold here and glue",
        "number": "Number",
    },
    "fr": {
        "station": "Au bureau de vote, ne montrez que ce côté.",
        "online": "Pour voter en ligne, ouvrez la carte et saisissez le code.",
        "secret": "Code secret",
        "part": "Partie {part} sur 2 : il vous faut les deux cartes.",
        "warning": "Qui a ce code peut voter à votre place. Personne ne vous le demandera jamais.",
        "fold": "Plier ici et coller",
        "number": "Numéro",
    },
}


def public_qr(election: bytes, roll_index: int) -> str:
    """What a polling station scans: election id and roll index."""
    return f"{PUBLIC_QR}{election.hex().upper()}:{roll_index}"


def read_public_qr(text: str) -> tuple[bytes, int]:
    """(election id, roll index) of a scanned card. Raises BallotboardError for anything else."""
    id, _, index = text.strip().upper().removeprefix(PUBLIC_QR).partition(":")
    try:
        election = bytes.fromhex(id)
        if (
            not text.strip().upper().startswith(PUBLIC_QR)
            or len(election) != 32
            or not (index.isascii() and index.isdecimal())
        ):
            raise ValueError
    except ValueError:
        raise BallotboardError("this is not the public code of a voter's card: scan the one on the outside") from None
    return election, int(index)


def print_table(cards: Iterable[Card], election: bytes, out: Path) -> int:
    """The printing house's table, a new file that only its owner can read: every text and both QR codes' contents; gives the cards."""
    count = 0
    with _new(out) as handle, open(handle.fileno(), "w", encoding="utf-8", newline="", closefd=False) as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(TABLE_COLUMNS)
        for card in cards:
            qr = public_qr(election, card.roll_index)
            table.writerow((card.serial, card.unit, card.roll_index, qr, card.text, card.text))
            count += 1
    return count


def print_pdf(
    cards: Iterable[Card], election: bytes, name: str, out: Path, languages: tuple[str, ...] = ("en", "fr"), part: int = 0, font: Path | None = None,
) -> int:  # fmt: skip
    """A PDF, three cards a page, a new file; gives the cards. `name` is the election's, `part` 1 or 2 where two registrars print.

    `font` is a TrueType file for names that Latin-1 cannot write; without it such a name raises BallotboardError.
    """
    pdf = FPDF(unit="mm", format="A4")
    pdf.set_auto_page_break(False)
    pdf.set_title(name)
    family = "Helvetica"
    if font:
        try:
            pdf.add_font("Card", "", str(font))
            pdf.add_font("Card", "B", str(font))
        except Exception as error:  # fpdf raises what its parser does
            raise BallotboardError(f"{font} is not a TrueType font: {error}") from error
        family = "Card"
    count = 0
    for page in _pages(cards):
        pdf.add_page()
        for place, card in enumerate(page):
            _draw(pdf, family, card, election, name, place * HEIGHT, languages, part)
            count += 1
    if not count:
        raise BallotboardError("there is no card to print")
    with _new(out) as file:
        file.write(bytes(pdf.output()))
    return count


# ---------------------------------------------------------------- helpers


def _draw(
    pdf: FPDF, family: str, card: Card, election: bytes, name: str, top: float, languages: tuple[str, ...], part: int
) -> None:
    left, middle, right = MARGIN, PANEL + MARGIN, 2 * PANEL
    inner = PANEL - 2 * MARGIN
    words = [WORDS[language] for language in languages]
    pdf.set_draw_color(0)
    pdf.set_fill_color(0)

    def text(x: float, y: float, size: float, line: str, style: str = "") -> None:
        pdf.set_font(family, style, size)
        pdf.set_xy(x, top + y)
        try:
            pdf.multi_cell(inner, size * 0.42, line, align="L")
        except Exception as error:
            raise BallotboardError(
                f"{line!r} cannot be written with the built-in font: give a TrueType font with --font"
            ) from error

    # public, to the left
    text(left, 6, 10, name, "B")
    text(left, 16, 9, card.unit)
    _qr(pdf, public_qr(election, card.roll_index), left, top + 26, QR_SIDE)
    label = " / ".join(word["number"] for word in words)
    text(left + QR_SIDE + 2, 28, 8, f"{label}\n{card.roll_index}".replace(" / ", "\n"))
    text(left, 59, 7.5, "\n".join(f"{word['station']} {word['online']}" for word in words))
    text(left, 88, 5, f"{election.hex()[:32]}\n{election.hex()[32:]}")
    # secret, in the middle
    text(middle, 6, 10, " / ".join(word["secret"] for word in words), "B")
    serial, *groups = card.text.split("-")
    text(middle, 14, 12, "\n".join([f"{serial}-", *[f"{group}-" for group in groups[:-1]], groups[-1]]))
    _qr(pdf, card.text, middle, top + 38, QR_SIDE)
    if part:
        text(middle, 70, 7.5, "\n".join(word["part"].format(part=part) for word in words), "B")
    text(middle, 78, 7, "\n".join(word["warning"] for word in words))
    # the cover, to the right
    pdf.set_line_width(0.35)
    x = right + 1.0
    while x < right + PANEL - 1:
        pdf.line(x, top + 1, x, top + HEIGHT - 8)
        x += HATCH
    y = top + 1
    while y < top + HEIGHT - 8:
        pdf.line(right + 1, y, right + PANEL - 1, y)
        y += HATCH
    pdf.set_font(family, "", 7)
    pdf.set_xy(right + MARGIN, top + HEIGHT - 6.5)
    pdf.cell(inner, 4, " / ".join(word["fold"] for word in words))
    # where to fold and to cut
    pdf.set_line_width(0.2)
    pdf.set_dash_pattern(dash=2, gap=2)
    pdf.line(right, top, right, top + HEIGHT)
    pdf.line(0, top + HEIGHT, WIDTH, top + HEIGHT)
    pdf.set_dash_pattern()


def _qr(pdf: FPDF, content: str, x: float, y: float, side: float) -> None:
    """A QR code (error correction M, quiet zone of 4 modules) as filled rectangles, one for each run of dark modules."""
    matrix = [bytes(row) for row in segno.make(content, error="m", micro=False).matrix_iter(border=4)]
    module = side / len(matrix)
    for number, row in enumerate(matrix):
        start = 0
        while (start := row.find(1, start)) >= 0:
            end = row.find(0, start)
            pdf.rect(x + start * module, y + number * module, (end - start) * module, module, style="F")
            start = end


def _pages(cards: Iterable[Card]) -> Iterator[list[Card]]:
    rest = iter(cards)
    while page := list(islice(rest, PAGE_CARDS)):
        yield page


def _new(path: Path) -> IO[bytes]:
    """A file that only its owner can read, and that was not there."""
    try:
        return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
    except OSError as error:
        raise BallotboardError(f"cannot write {path}: {error.strerror}; choose a new file") from error
