"""QR codes as pictures, and back: `draw` a text, and the `texts` that a picture shows.

Pictures come from strangers, so there are limits on what one may ask for: bytes, points, and what a JPEG may unpack. A server reads them in a process of its
own, which the system stops at its limits: `python -m verifier.pictures` reads a picture from standard input and prints the texts as JSON.
"""

from __future__ import annotations

import io
import json
import re
import resource
import sys

from protocol.errors import BallotboardError

MAX_BYTES = 8 * 2**20
"""Of a picture: a photo of 50 million points has some 7 MB."""

MAX_POINTS = 52_000_000
"""Of a JPEG, which is unpacked at a fraction of its size."""

MAX_UNPACKED = 16_000_000
"""Points that are unpacked: a code needs a hundredth of them."""

MAX_SCANS = 40
"""Passes over the points that a progressive JPEG may ask for: encoders make a dozen, and each costs as much as the whole picture."""

FORMATS = ("PNG", "JPEG", "WEBP")

KINDS = ("svg", "png", "pdf")
"""What codes are drawn as. A PDF is for printing: it is not read back."""

INSTALL = "pip install 'ballotboard[station]'"

PROCESS_MEMORY, PROCESS_SECONDS = 2**30, 10
"""Bytes and seconds of processor after which the process that reads a stranger's picture is ended."""


class NoCode(BallotboardError):
    """A picture that is none that we read, is too large, or shows no QR code."""


def draw(text: str, kind: str, title: str) -> bytes:
    """A QR code as a file of one of KINDS; an SVG has `title` and the text in it. Raises BallotboardError where the package that draws is not installed."""
    try:
        import segno
    except ModuleNotFoundError as error:
        raise BallotboardError(f"drawing codes needs the package {error.name}: {INSTALL}") from error
    words = {"title": title, "desc": text} if kind == "svg" else {}
    out = io.BytesIO()
    segno.make(text, error="m", micro=False).save(
        out, kind=kind, scale=4, border=4, dark="black", light="white", **words
    )
    return out.getvalue()


def is_picture(data: bytes) -> bool:
    """Whether these bytes begin as a picture does that `texts` reads."""
    head = data[:1024].lstrip()
    return head.startswith((b"\x89PNG", b"\xff\xd8", b"RIFF")) or (head.startswith(b"<") and b"<svg" in head)


def is_drawing(data: bytes) -> bool:
    """Whether it is an SVG, as far as its beginning goes."""
    return data[:1024].lstrip().startswith(b"<")


def texts(data: bytes) -> list[str]:
    """The texts of the QR codes in a picture. Raises NoCode; and BallotboardError where the packages that read pictures are not installed.

    Of an SVG it is the text of a receipt's code, which stands in those that we draw: nothing else in it is looked at.
    """
    if len(data) > MAX_BYTES:
        raise NoCode(f"a picture of more than {MAX_BYTES:,} bytes is not read")
    if is_drawing(data):
        from protocol.receipt import CODE_PREFIX  # half of the time that a process takes to start

        found = {match.decode() for match in re.findall(rb"\b" + CODE_PREFIX.encode() + rb"[A-Z2-7]+", data)}
        return _some(sorted(found))
    try:
        import zxingcpp
        from PIL import Image
    except ModuleNotFoundError as error:
        raise BallotboardError(f"reading pictures needs the package {error.name}: {INSTALL}") from error
    # A JPEG's points never have these two bytes.
    if data.startswith(b"\xff\xd8") and data.count(b"\xff\xda") > MAX_SCANS:
        raise NoCode("the picture is made to be slow to read: take another")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > MAX_POINTS:
                raise NoCode(f"a picture of more than {MAX_POINTS:,} points is not read: make it smaller")
            image.draft("L", (2_000, 2_000))  # a JPEG only
            if image.width * image.height > MAX_UNPACKED:
                raise NoCode(f"a picture of more than {MAX_UNPACKED:,} points is not read: make it smaller")
            grey = image.convert("L")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise NoCode(f"this is no picture that can be read: give it as {', '.join(FORMATS)}, or our own SVG") from error
    return _some(
        [
            code.text
            for code in zxingcpp.read_barcodes(grey, formats=zxingcpp.BarcodeFormats(zxingcpp.BarcodeFormat.QRCode))
        ]
    )


def _some(found: list[str]) -> list[str]:
    if not found:
        raise NoCode("no QR code was found in this picture: take it again, straight and sharp")
    return found


def main() -> None:
    """Standard input is the picture; standard output the texts, or with exit status 1 why there are none."""
    import zxingcpp  # noqa: F401  (before there is little memory to load it)
    from PIL import JpegImagePlugin, PngImagePlugin, WebPImagePlugin  # noqa: F401

    resource.setrlimit(resource.RLIMIT_AS, (PROCESS_MEMORY, PROCESS_MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (PROCESS_SECONDS, PROCESS_SECONDS))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    try:
        json.dump(texts(sys.stdin.buffer.read(MAX_BYTES + 1)), sys.stdout)
    except (NoCode, MemoryError) as error:
        sys.exit(str(error) or "the picture is too large")


if __name__ == "__main__":
    main()
