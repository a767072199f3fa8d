"""What goes through a printer: ballot papers, the result sheet, the central picture's report. PDF by fpdf2."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fpdf import FPDF

from protocol.errors import BallotboardError
from protocol.sheet import print_code, sheet_code
from station.actions import NotDue, Outcome, latest, sheet, stock
from station.folder import StationFolder
from station.papers import HEIGHT, WIDTH, draw, draw_code, new_key, new_paper
from station.scan import page_of

FONTS = ("/usr/share/fonts/truetype/dejavu", "/usr/share/fonts/TTF", "/Library/Fonts", "C:/Windows/Fonts")
SANS, MONO = "DejaVuSans.ttf", "DejaVuSansMono.ttf"
"""A font for every alphabet where the machine has it; else PDF's own, which know the letters of Western Europe and print ? for others."""

MOST_PAPERS = 5_000
"""Papers in a file: what a printer takes at once."""

SHEET_CODE = 60.0
"""Side of the code on a result sheet in millimetres: its link has some 250 characters."""


def print_papers(
    folder: StationFolder, count: int, path: Path, progress: Callable[[int, int], None] | None = None
) -> Outcome:
    """A PDF of `count` fresh ballot papers, one a page. The journal notes how many, and the key of their codes; no serial is kept anywhere but on paper."""
    if not 1 <= count <= MOST_PAPERS:
        raise NotDue(f"between 1 and {MOST_PAPERS:,} papers go into a file")
    if folder.state.closed:
        raise NotDue("the station is closed: no more papers")
    key = folder.state.paper_key or new_key()
    page, style = page_of(folder), folder.units[folder.station.unit].style
    pdf = _pdf((WIDTH, HEIGHT))
    canvas = _Canvas(pdf)
    for done in range(1, count + 1):
        pdf.add_page()
        draw(canvas, page, new_paper(folder.station.number, style).code(key, folder.state.election))
        if progress:
            progress(done, count)
    folder.record(
        "papers", count=count, key=key.hex()
    )  # before the file is there: a printed paper is never of no batch
    _write(path, bytes(pdf.output()))
    return Outcome(
        f"{path}: {count} papers; {folder.state.printed} printed in all, {stock(folder)} not handed out yet",
        "print them once, shuffle the stack, and delete the file",
        {"file": str(path), "left": stock(folder), "printed": folder.state.printed},
    )


def print_sheet(folder: StationFolder, path: Path) -> str:
    """The result sheet of the latest revision as a PDF with its code, whose text is given back. Raises NotDue before there is a result."""
    text, result = sheet(folder), latest(folder).result
    boards = folder.connection.boards
    code = print_code(sheet_code(result, folder.manifest.election_id), boards[0] if boards else "")
    pdf = _pdf("A4")
    pdf.set_auto_page_break(True, 15)
    pdf.add_page()
    _font(pdf, 9, MONO)
    for line in text.splitlines():
        pdf.cell(0, 4.6, _known(pdf, line), new_x="LMARGIN", new_y="NEXT")
    if pdf.get_y() + SHEET_CODE + 25 > pdf.h - 15:
        pdf.add_page()
    y = pdf.get_y() + 5
    draw_code(_Canvas(pdf), code, pdf.l_margin, y, SHEET_CODE, error="l")
    _font(pdf, 8)
    pdf.set_xy(pdf.l_margin + SHEET_CODE + 6, y)
    pdf.multi_cell(0, 4, "Anyone can check this sheet: the code opens the public record of this station.\n"
                   "Chacun peut vérifier cette feuille : le code ouvre le registre public de ce bureau.\n\n\n"
                   "Officer / Membre du bureau: ______________________\n\n\nOfficer / Membre du bureau: ______________________")  # fmt: skip
    _write(path, bytes(pdf.output()))
    return code


# ---------------------------------------------------------------- the central picture

COLUMNS = (
    "level",
    "name",
    "stations",
    "reported",
    "revealed",
    "issued",
    "counted",
    "spoiled",
    "unreturned",
    "blank",
    "invalid",
)


def report_rows(picture: Mapping[str, Any], level: str = "") -> tuple[list[str], list[list[Any]]]:
    """Head and rows of a report: units from the nation down, then stations; only one level (`station`, `nation`, `region` … as the units call it) if given.

    What is not known yet is empty. Spoiled and not returned papers are known by station.
    """
    contests = picture["contests"]
    options = [
        (i, k, f"{contest['id']}: {option}")
        for i, contest in enumerate(contests)
        for k, option in enumerate(contest["options"])
    ]
    rows: list[list[Any]] = []
    for unit in sorted(picture["units"], key=lambda row: row["unit"]):
        known = unit["revealed"] > 0
        sums = (
            [unit["issued"], unit["counted"], "", "", sum(unit["blank"]), sum(unit["invalid"])] if known else [""] * 6
        )
        votes = [unit["totals"][i][k] if known else "" for i, k, _ in options]
        rows.append([unit["level"], unit["name"], unit["stations"], unit["reported"], unit["revealed"], *sums, *votes])
    for station in picture["stations"]:
        last = station["revisions"][-1] if station["revisions"] else {}
        found = {c["contest"]: c for c in last.get("contests", ())}
        papers = [last["accounting"][n] for n in ("issued", "counted", "spoiled", "unreturned")] if found else [""] * 4
        sums = [sum(c[n] for c in found.values()) for n in ("blank", "invalid")] if found else ["", ""]
        votes = [found[i]["counts"][k] if i in found else "" for i, k, _ in options]
        state = [1, int(bool(last)), int(bool(found))]
        rows.append(["station", station["name"], *state, *papers, *sums, *votes])
    if level:
        levels = sorted({row[0] for row in rows})
        if level not in levels:
            raise BallotboardError(f"there is no level {level!r}: choose {', '.join(levels)}")
        rows = [row for row in rows if row[0] == level]
    return [*COLUMNS, *(name for _, _, name in options)], rows


def report_csv(picture: Mapping[str, Any], level: str = "") -> str:
    """The rows as CSV (RFC 4180)."""
    head, rows = report_rows(picture, level)
    text = io.StringIO()
    csv.writer(text).writerows([head, *rows])
    return text.getvalue()


def report_pdf(picture: Mapping[str, Any], level: str = "") -> bytes:
    """The rows and the flags as a PDF."""
    head, rows = report_rows(picture, level)
    pdf = _pdf("A4", "landscape")
    pdf.set_auto_page_break(True, 12)
    pdf.add_page()
    _line(pdf, 14, picture["name"] + (" (PRACTICE)" if picture["practice"] else ""))
    when = f"{datetime.fromtimestamp(picture['at'], UTC):%Y-%m-%d %H:%M:%S} UTC"
    _line(pdf, 8, f"By the record of {picture['size']:,} entries at {when}; election {picture['election']}")
    widths = [max(len(str(row[i])) for row in [head, *rows]) for i in range(len(head))]
    shown = [i for i in range(len(head)) if any(str(row[i]) not in ("", "0") for row in rows) or i < 2]
    total = sum(min(widths[i], 40) + 1 for i in shown)
    size = max(3.5, min(8.0, 8.0 * 150 / total))
    _font(pdf, size)
    full = pdf.w - pdf.l_margin - pdf.r_margin
    for row in [head, *rows]:
        for i in shown:
            text, align = (f"{row[i]:,}", "R") if isinstance(row[i], int) else (str(row[i])[:40], "L")
            pdf.cell(full * (min(widths[i], 40) + 1) / total, size * 0.5, _known(pdf, text), align=align)
        pdf.ln()
    pdf.ln(4)
    _line(pdf, 11, f"{len(picture['flags'])} things to ask about" if picture["flags"] else "Nothing to ask about")
    for flag in picture["flags"]:
        _font(pdf, 8)
        pdf.multi_cell(
            0, 4, _known(pdf, f"{flag['severity']}, {flag['rule']}: {flag['text']}"), new_x="LMARGIN", new_y="NEXT"
        )
    return bytes(pdf.output())


# ---------------------------------------------------------------- helpers


class _Canvas:
    """A canvas (station.papers) that is a page of a PDF."""

    def __init__(self, pdf: FPDF) -> None:
        self.pdf = pdf

    def fill(self, x: float, y: float, width: float, height: float) -> None:
        self.pdf.rect(x, y, width, height, style="F")

    def frame(self, x: float, y: float, side: float) -> None:
        self.pdf.set_line_width(0.3)
        self.pdf.rect(x, y, side, side)

    def text(self, x: float, y: float, points: float, text: str) -> None:
        _font(self.pdf, points)
        self.pdf.text(x, y + points * 0.3, _known(self.pdf, text))


def _pdf(size: Any, orientation: Any = "portrait") -> FPDF:
    pdf = FPDF(orientation=orientation, unit="mm", format=size)
    pdf.set_auto_page_break(False)
    pdf.set_fill_color(0)
    for file in (SANS, MONO):
        found = next((path for folder in FONTS if (path := Path(folder) / file).exists()), None)
        if found:
            pdf.add_font(file, fname=found)
    return pdf


def _font(pdf: FPDF, points: float, file: str = SANS) -> None:
    if file.lower() in pdf.fonts:
        pdf.set_font(file, size=points)
    else:
        pdf.set_font("helvetica" if file == SANS else "courier", size=points)


def _known(pdf: FPDF, text: str) -> str:
    """The text in letters that the font has."""
    return text if pdf.is_ttf_font else text.encode("latin-1", "replace").decode("latin-1")


def _line(pdf: FPDF, points: float, text: str) -> None:
    _font(pdf, points)
    pdf.cell(0, points * 0.6, _known(pdf, text), new_x="LMARGIN", new_y="NEXT")


def _write(path: Path, data: bytes) -> None:
    try:
        path.write_bytes(data)
    except OSError as error:
        raise BallotboardError(f"cannot write {path}: {error.strerror}") from error
