"""A file as QR codes on paper or a screen, and back: how an air-gapped machine reads and answers without a stick.

Each code is `BB:` and the file's first 8 hex digits of SHA-256, `:`, its number, `/`, how many there are, `:`, and a piece of the compressed
file in base45 (RFC 9285): all of it in the alphabet that QR codes pack tightest. Codes may be scanned in any order and more than once.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Iterable
from pathlib import Path

from protocol.errors import BallotboardError

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:"
PIECE = 800
"""Bytes in a code: about 1,220 symbols, a code of 105 modules, which a phone's camera reads from a screen."""
MAX_FILE = 2**26
"""Bytes that codes may unpack to: a bound on what a hostile stack of codes can ask for."""

_CODE = re.compile(r"BB:([0-9A-F]{8}):(\d{1,5})/(\d{1,5}):([0-9A-Z $%*+\-./:]+)")


def base45(data: bytes) -> str:
    """Two bytes are three symbols, a last single one two."""
    found = []
    for start in range(0, len(data), 2):
        pair = data[start : start + 2]
        value = int.from_bytes(pair, "big")
        found += [
            ALPHABET[value % 45],
            ALPHABET[value // 45 % 45],
            *([ALPHABET[value // 2025]] if len(pair) == 2 else []),
        ]
    return "".join(found)


def unbase45(text: str) -> bytes:
    """Raises ValueError for what is no base45."""
    found = b""
    for start in range(0, len(text), 3):
        values = [ALPHABET.index(symbol) for symbol in text[start : start + 3]]
        value = sum(digit * 45**place for place, digit in enumerate(values))
        if len(values) == 1 or value >= 256 ** (len(values) - 1):
            raise ValueError("no base45")
        found += value.to_bytes(len(values) - 1, "big")
    return found


def split(data: bytes) -> list[str]:
    """The texts of the codes."""
    packed, name = zlib.compress(data, 9), hashlib.sha256(data).hexdigest()[:8].upper()
    pieces = [packed[start : start + PIECE] for start in range(0, len(packed), PIECE)]
    return [f"BB:{name}:{number}/{len(pieces)}:{base45(piece)}" for number, piece in enumerate(pieces, 1)]


def join(texts: Iterable[str]) -> bytes:
    """The file. Raises BallotboardError naming the codes that are missing, or saying that two files are mixed or a code was misread."""
    pieces: dict[int, str] = {}
    name = count = None
    for text in texts:
        found = _CODE.fullmatch(text.strip("\r\n"))
        if not found:
            raise BallotboardError(f"{text[:30]!r} is not one of these codes")
        if (name, count) not in ((None, None), (found[1], int(found[3]))):
            raise BallotboardError("these are codes of two files: scan one file at a time")
        name, count = found[1], int(found[3])
        if pieces.setdefault(int(found[2]), found[4]) != found[4]:
            raise BallotboardError(f"code {found[2]} was scanned twice and came out differently: scan it again")
    if not name or not count:
        raise BallotboardError("no code was found")
    missing = sorted(set(range(1, count + 1)) - set(pieces))
    if missing:
        raise BallotboardError(f"{len(missing)} of {count} codes are missing: {', '.join(map(str, missing[:20]))}")
    try:
        unpack = zlib.decompressobj()
        data = unpack.decompress(b"".join(unbase45(pieces[number]) for number in range(1, count + 1)), MAX_FILE)
    except (ValueError, zlib.error) as error:
        raise BallotboardError("a code was misread: scan them again") from error
    if hashlib.sha256(data).hexdigest()[:8].upper() != name:
        raise BallotboardError("the codes do not give the file that they name: scan them again")
    return data


def draw(texts: list[str], out: Path, title: str = "") -> list[Path]:
    """The codes as files: one .pdf with two on a page, or an .svg or .png for each (`NAME-01.svg`). Needs segno, and fpdf2 for a PDF."""
    try:
        import segno
        from fpdf import FPDF
    except ModuleNotFoundError as error:
        raise BallotboardError(f"QR codes need the package {error.name}: pip install 'ballotboard[station]'") from error

    suffix = out.suffix.lower()
    try:
        if suffix in (".svg", ".png"):
            width = len(str(len(texts)))
            paths = [out.with_name(f"{out.stem}-{number:0{width}}{suffix}") for number in range(1, len(texts) + 1)]
            for path, text in zip(paths, texts, strict=True):
                segno.make(text, error="m", micro=False).save(str(path), scale=4, border=4)
            return paths
        if suffix != ".pdf":
            raise BallotboardError(f"{out}: end the name in .pdf, .svg or .png")
        pdf = FPDF(unit="mm", format="A4")
        pdf.set_auto_page_break(False)
        pdf.set_font("Helvetica", size=9)
        for number, text in enumerate(texts):
            if number % 2 == 0:
                pdf.add_page()
            top = 12 + 142 * (number % 2)
            pdf.text(
                40, top, f"{title[:60]}  {number + 1} / {len(texts)}".encode("latin-1", "replace").decode("latin-1")
            )
            rows = [bytes(row) for row in segno.make(text, error="m", micro=False).matrix_iter(border=4)]
            module = 130 / len(rows)
            for y, row in enumerate(rows):
                start = 0
                while (start := row.find(1, start)) >= 0:
                    end = row.find(0, start)
                    pdf.rect(40 + start * module, top + 2 + y * module, (end - start) * module, module, style="F")
                    start = end
        out.write_bytes(bytes(pdf.output()))
        return [out]
    except OSError as error:
        raise BallotboardError(f"cannot write {out}: {error.strerror}") from error


def scan(paths: Iterable[Path]) -> list[str]:
    """The texts in files: lines that a scanner typed, or pictures, for which zxing-cpp and Pillow are needed. Raises BallotboardError."""
    found: list[str] = []
    for path in paths:
        try:
            if path.suffix.lower() == ".txt":
                found += [line.strip("\r") for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
                continue
            import zxingcpp
            from PIL import Image

            with Image.open(path) as image:
                read = [code.text for code in zxingcpp.read_barcodes(image) if code.text.startswith("BB:")]
        except ModuleNotFoundError as error:
            raise BallotboardError(
                f"reading pictures needs the package {error.name}; a scanner that types into a .txt file does not"
            ) from error
        except (OSError, ValueError) as error:
            raise BallotboardError(f"cannot read {path}: {error}") from error
        if not read:
            raise BallotboardError(f"{path}: no code was found in this picture")
        found += read
    return found
