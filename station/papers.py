"""Paper ballots: what is printed on them, and how a picture of one is read. Pure: no file, no network, no clock.

Each paper carries the same code twice, above and below its boxes: CBOR [format, station, style, serial, MAC] in base45. The serial is random and the MAC is the
station's, so a paper that the station did not print, or that another did, is told apart, and one scanned twice counts once. Nothing on the paper, and
nothing that is kept, leads from a voter to a serial: papers are handed out from a shuffled stack, and the journal notes how many, never which.

The two codes also say where the boxes are: their eight corners give the map from millimetres on the paper to the points of a picture, whatever its size,
turn or tilt. The boxes stand in the column between them, where the map errs least.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import cbor2
import segno

from protocol.encoding import u16, u32
from protocol.errors import BallotboardError
from protocol.manifest import Contest, Rule

VERSION = 1
SERIAL, MAC = 8, 16
"""Bytes: of two serials in a batch of a million, two are the same once in 40 million batches; a MAC is guessed once in 2^128."""

WIDTH, HEIGHT = 148.0, 210.0
"""Millimetres: A5, upright."""

MARGIN, CODE, LINE, BOX = 10.0, 30.0, 8.0, 5.0
"""Millimetres: white border, side of a code (without its quiet zone, which is the border), line height, side of a box."""

FILLED, EMPTY = 0.10, 0.03
"""Share of dark points in a box's inside from which it is marked, and up to which it is empty: a cross covers about 0.2. What lies between is for people."""

GRID = 14
"""Points looked at per side of a box's inside."""

INSET = 0.2
"""Share of a box's side left out at each edge, so that its printed border is not taken for a mark."""


class BadPaper(BallotboardError):
    """A code that is none of ours: not in form, or its MAC is wrong."""


@dataclass(frozen=True, slots=True)
class Paper:
    """What a paper's code says: the station and style that it is for, and its random serial (8 bytes)."""

    station: int
    style: int
    serial: bytes

    def code(self, key: bytes, election: bytes) -> str:
        """The text of the code: base45 over CBOR."""
        return base45(cbor2.dumps([VERSION, self.station, self.style, self.serial, _mac(self, key, election)]))


def new_paper(station: int, style: int) -> Paper:
    return Paper(station, style, secrets.token_bytes(SERIAL))


def new_key() -> bytes:
    """A station's key for the codes of its papers, 32 bytes; it lives in the journal."""
    return secrets.token_bytes(32)


def read_code(text: str, key: bytes, election: bytes, station: int) -> Paper:
    """The paper of a code. Raises BadPaper: no code of a paper, or a wrong MAC. One of another station is given back as it claims to be, for the caller to refuse."""
    try:
        value = cbor2.loads(unbase45(text))
        version, number, style, serial, mac = value
        paper = Paper(number, style, serial)
        numbers = all(type(n) is int and 0 <= n < 2**32 for n in (number, style))
        if version != VERSION or not numbers or style >= 2**16 or len(serial) != SERIAL or not isinstance(mac, bytes):
            raise ValueError
        if cbor2.dumps(value) != unbase45(text):
            raise ValueError
    except (ValueError, TypeError, cbor2.CBORDecodeError) as error:
        raise BadPaper("is no code of a ballot paper") from error
    if number == station and not hmac.compare_digest(mac, _mac(paper, key, election)):
        raise BadPaper("the code was not made by this station: its MAC is wrong")
    return paper


def _mac(paper: Paper, key: bytes, election: bytes) -> bytes:
    message = b"ballotboard/v1/paper" + election + u32(paper.station) + u16(paper.style) + paper.serial
    return hmac.digest(key, message, "sha256")[:MAC]


# ---------------------------------------------------------------- base45 (RFC 9285)

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:"


def base45(data: bytes) -> str:
    """Two bytes as three symbols, the least significant first: what a QR code's alphanumeric mode packs best."""
    text = []
    for start in range(0, len(data), 2):
        pair = data[start : start + 2]
        value = int.from_bytes(pair, "big")
        for _ in range(len(pair) + 1):
            value, digit = divmod(value, 45)
            text.append(ALPHABET[digit])
    return "".join(text)


def unbase45(text: str) -> bytes:
    """The inverse; raises ValueError for what is no base45."""
    data = bytearray()
    for start in range(0, len(text), 3):
        digits = [ALPHABET.index(symbol) for symbol in text[start : start + 3]]
        value, size = sum(digit * 45**place for place, digit in enumerate(digits)), len(digits) - 1
        if not size or value >= 256**size:
            raise ValueError("not base45")
        data += value.to_bytes(size, "big")
    return bytes(data)


# ---------------------------------------------------------------- the page


@dataclass(frozen=True, slots=True)
class Box:
    """A box to mark: contest (its index in the manifest), option, left and top edge in millimetres."""

    contest: int
    option: int
    x: float
    y: float


@dataclass(frozen=True)
class Layout:
    """Where everything is on a paper: the corners of both codes (left, top), the boxes, and lines of text (x, y, size in points, text)."""

    codes: tuple[tuple[float, float], tuple[float, float]]
    boxes: tuple[Box, ...]
    lines: tuple[tuple[float, float, float, str], ...]


def layout(contests: Sequence[tuple[int, Contest]], heading: Sequence[str]) -> Layout:
    """The page of a style: contests with their indices, headings above. Raises BallotboardError where it does not fit on one page."""
    first, second = (MARGIN, MARGIN), (MARGIN, HEIGHT - MARGIN - CODE)
    lines = [(MARGIN + CODE + 5, MARGIN + 6 * row, 11.0 if row == 0 else 8.0, text) for row, text in enumerate(heading)]
    boxes, y = [], MARGIN + CODE + 6
    for index, contest in contests:
        lines.append((MARGIN, y, 11.0, contest.title))
        lines.append((MARGIN, y + 5.5, 7.5, _instruction(contest)))
        y += 5.5 + LINE
        for option, text in enumerate(contest.options):
            boxes.append(Box(index, option, MARGIN, y))
            lines.append((MARGIN + BOX + 4, y + 0.7, 10.0, text))
            y += LINE
        y += LINE / 2
    if y > HEIGHT - MARGIN - CODE - 4:
        raise BallotboardError(
            f"the ballot takes {y:.0f} mm and a page has {HEIGHT - MARGIN - CODE - 4:.0f}: print papers of your own, and count by hand"
        )
    return Layout((first, second), tuple(boxes), tuple(lines))


def _instruction(contest: Contest) -> str:
    if contest.rule == Rule.ONE_OF_K:
        return "Mark one box / Cocher une case"
    if contest.rule == Rule.UP_TO_L:
        return f"Mark up to {contest.limit} boxes / Cocher {contest.limit} cases au plus"
    return "Mark any number of boxes / Cocher autant de cases que voulu"


class Canvas(Protocol):
    """Something to draw a page on, in millimetres from the top left."""

    def fill(self, x: float, y: float, width: float, height: float) -> None: ...

    def frame(self, x: float, y: float, side: float) -> None: ...

    def text(self, x: float, y: float, points: float, text: str) -> None: ...


def draw(canvas: Canvas, page: Layout, code: str) -> None:
    """A paper: text, boxes, and the code at both places."""
    for x, y, points, text in page.lines:
        canvas.text(x, y, points, text)
    for box in page.boxes:
        canvas.frame(box.x, box.y, BOX)
    for x, y in page.codes:
        draw_code(canvas, code, x, y, CODE)


def draw_code(canvas: Canvas, text: str, x: float, y: float, side: float, error: str = "m") -> None:
    """A QR code whose dark modules fill a square from (x, y); runs in a row are one rectangle."""
    rows = list(segno.make_qr(text, error=error, boost_error=False).matrix)
    module = side / len(rows)
    for r, row in enumerate(rows):
        start = 0
        while start < len(row):
            end = start
            while end < len(row) and row[end]:
                end += 1
            if end > start:
                canvas.fill(x + start * module, y + r * module, (end - start) * module, module)
            start = max(end, start + 1)


# ---------------------------------------------------------------- reading a picture

Point = tuple[float, float]
Grey = Callable[[int, int], int]
"""The brightness, 0 black to 255 white, of a point of the picture (column, row)."""

Corners = tuple[Point, Point, Point, Point]
"""Of a code in the picture: top left, top right, bottom right, bottom left, as the code itself is turned."""


@dataclass(frozen=True)
class Reading:
    """What the boxes of a paper say: (contest, option) of the marked ones, and of those that a person must look at."""

    marked: frozenset[tuple[int, int]]
    unclear: frozenset[tuple[int, int]]


def read_boxes(page: Layout, codes: Sequence[Corners], grey: Grey, width: int, height: int) -> Reading | None:
    """The marks of a paper in a picture that shows both of its codes; None where it does not show them or cuts boxes off.

    The picture may be turned by any angle, so which of the two is the upper one is found by trying both: the right one maps the page onto the picture.
    """
    if len(codes) != 2:
        return None
    for pair in (codes, codes[::-1]):
        to_picture = _perspective(_corners_on_page(page), [point for code in pair for point in code])
        if to_picture is not None:
            return _look(page, to_picture, grey, width, height)
    return None


def _look(page: Layout, to_picture: Callable[[Point], Point], grey: Grey, width: int, height: int) -> Reading | None:
    samples: dict[tuple[int, int], list[int]] = {}
    white = 0
    for box in page.boxes:
        found = []
        for i in range(GRID):
            for j in range(GRID):
                inner = BOX * (1 - 2 * INSET)
                x, y = to_picture(
                    (box.x + BOX * INSET + inner * (i + 0.5) / GRID, box.y + BOX * INSET + inner * (j + 0.5) / GRID)
                )
                if not (0 <= x < width and 0 <= y < height):
                    return None
                found.append(grey(int(x), int(y)))
        beside = to_picture((box.x + BOX + 2, box.y + BOX / 2))
        if 0 <= beside[0] < width and 0 <= beside[1] < height:
            white = max(white, grey(int(beside[0]), int(beside[1])))
        samples[box.contest, box.option] = found
    dark = white * 0.6
    share = {place: sum(value < dark for value in found) / len(found) for place, found in samples.items()}
    marked = frozenset(place for place, part in share.items() if part >= FILLED)
    return Reading(marked, frozenset(place for place, part in share.items() if EMPTY < part < FILLED))


def _corners_on_page(page: Layout) -> list[Point]:
    return [(x + dx, y + dy) for x, y in page.codes for dx, dy in ((0.0, 0.0), (CODE, 0.0), (CODE, CODE), (0.0, CODE))]


TOLERANCE = 0.04
"""How far a corner may lie from where the map puts it, as a share of the code's side in the picture: beyond it the two codes are swapped, or paper is bent."""


def _perspective(page: Sequence[Point], picture: Sequence[Point]) -> Callable[[Point], Point] | None:
    """The projective map that takes the page's points to the picture's, by least squares; None if there is none that fits."""
    rows: list[list[float]] = []
    for (x, y), (u, v) in zip(page, picture, strict=True):
        rows.append([x, y, 1, 0, 0, 0, -u * x, -u * y, u])
        rows.append([0, 0, 0, x, y, 1, -v * x, -v * y, v])
    normal = [[sum(row[i] * row[j] for row in rows) for j in range(9)] for i in range(8)]
    solved = _solve(normal)
    if solved is None:
        return None
    a, b, c, d, e, f, g, h = solved

    def to_picture(point: Point) -> Point:
        x, y = point
        w = g * x + h * y + 1
        return (a * x + b * y + c) / w, (d * x + e * y + f) / w

    (x0, y0), (x1, y1) = picture[0], picture[1]
    allowed = TOLERANCE * ((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5
    for before, after in zip(page, picture, strict=True):
        x, y = to_picture(before)
        if abs(x - after[0]) > allowed or abs(y - after[1]) > allowed:
            return None
    return to_picture


def _solve(rows: list[list[float]]) -> list[float] | None:
    """Eight equations with eight unknowns, by elimination with pivots; None if they are not independent."""
    size = len(rows)
    rows = [list(row) for row in rows]
    for column in range(size):
        pivot = max(range(column, size), key=lambda r: abs(rows[r][column]))
        if abs(rows[pivot][column]) < 1e-9:
            return None
        rows[column], rows[pivot] = rows[pivot], rows[column]
        for r in range(size):
            if r != column:
                factor = rows[r][column] / rows[column][column]
                rows[r] = [a - factor * b for a, b in zip(rows[r], rows[column], strict=True)]
    return [rows[i][size] / rows[i][i] for i in range(size)]
