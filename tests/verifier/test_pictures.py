"""Pictures of codes: what we draw is read again, and what was made to do harm is refused, in a process that has limits."""

from __future__ import annotations

import io
import json
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import zxingcpp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from protocol.receipt import CODE_PREFIX
from verifier import pictures
from verifier.pictures import NoCode, draw, is_picture, texts

CODE = CODE_PREFIX + "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567" * 35
"""As long as that of a receipt in a log of a million records."""


@cache
def photo(kind: str, side: int = 800) -> bytes:
    """The code as somebody photographs it: turned, on grey."""
    shown = Image.open(io.BytesIO(draw(CODE, "png", "x"))).convert("RGB").resize((side, side))
    out = io.BytesIO()
    shown.rotate(8, fillcolor="lightgrey", expand=True).save(out, kind)
    return out.getvalue()


def test_what_is_drawn_is_read_as_picture_and_as_drawing():
    assert texts(draw(CODE, "png", "x")) == texts(draw(CODE, "svg", "<x> & y")) == [CODE]
    assert b"<x>" not in draw(CODE, "svg", "<x> & y") and draw(CODE, "pdf", "x").startswith(b"%PDF-")


@pytest.mark.parametrize("kind", pictures.FORMATS)
def test_a_photo_is_read_and_known_for_one(kind):
    data = photo(kind)
    assert texts(data) == [CODE] and is_picture(data)
    assert not is_picture(b'{"format": 1}') and not is_picture(CODE.encode())


def test_a_large_picture_without_a_loss_is_not_taken_for_a_slow_one():
    """Noise beside the code, so that the file has every pair of bytes many times over, which counts in a JPEG only."""
    shown = Image.open(io.BytesIO(draw(CODE, "png", "x"))).convert("L")
    page = Image.effect_noise((1_800, 1_800), 90)
    page.paste(shown.resize((800, 800)), (50, 50))
    out = io.BytesIO()
    page.save(out, "PNG", compress_level=1)
    assert out.getvalue().count(b"\xff\xda") > pictures.MAX_SCANS
    assert texts(out.getvalue()) == [CODE]


def png(width: int, height: int, data: bytes = b"") -> bytes:
    """A PNG that says it has this size."""
    parts = ((b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)), (b"IDAT", data), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in parts
    )


HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "a million points a side": (lambda: png(10**6, 10**6), "no picture"), "unpacked too large": (lambda: png(5_000, 5_000), "points"),
    "cut short": (lambda: photo("PNG")[:5_000], "no picture|no QR"), "no code": (lambda: png(9, 9, zlib.compress(bytes(90))), "no QR code"),
    "junk": (lambda: b"\xff\xd8" + bytes(99), "no picture"), "too many bytes": (lambda: bytes(pictures.MAX_BYTES + 1), "bytes"),
    "a scan a byte": (lambda: photo("JPEG") + b"\xff\xda" * 99, "slow"), "a drawing of nothing": (lambda: b"<svg/>", "no QR code"),
    "another format": (lambda: b"GIF89a" + bytes(99), "no picture"),
    "an entity bomb": (lambda: b'<!DOCTYPE x [<!ENTITY a "&a;&a;">]><svg>&a;</svg>', "no QR code"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_picture_that_asks_for_too_much_or_shows_nothing_is_refused(name):
    make, why = HOSTILE[name]
    with pytest.raises(NoCode, match=why):
        texts(make())


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(pictures.FORMATS), st.data())
def test_no_damaged_picture_is_more_than_no_code(kind, data):
    """Whatever the reader makes of it, nothing but NoCode comes out, and no other code."""
    right = photo(kind, 500)
    at = data.draw(st.integers(0, len(right) - 1))
    wrong = right[:at] + data.draw(st.binary(max_size=9)) + right[at + data.draw(st.integers(0, 9)) :]
    try:
        assert texts(wrong) == [CODE]
    except NoCode:
        pass


def run(*arguments: str, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    root = Path(pictures.__file__).parents[1]
    return subprocess.run([sys.executable, *arguments], input=data, capture_output=True, cwd=root)


def test_the_process_for_strangers_pictures_answers_as_a_call_does():
    good, bad = (run("-m", "verifier.pictures", data=data) for data in (photo("JPEG"), b"\xff\xd8junk"))
    assert (good.returncode, json.loads(good.stdout)) == (0, [CODE])
    assert bad.returncode == 1 and b"no picture" in bad.stderr and not bad.stdout


@pytest.mark.parametrize("what", ["bytes(2**31)", "print('x', file=open('{file}', 'w'), flush=True)"])
def test_a_decoder_that_breaks_out_can_neither_grow_nor_write(tmp_path, what):
    """As if it did this instead of reading the picture."""
    file = tmp_path / "file"
    taken_over = f"from verifier import pictures as p; p.texts = lambda data: {what.format(file=file)}; p.main()"
    done = run("-c", taken_over)
    assert done.returncode and not done.stdout and (not file.exists() or not file.read_bytes())


def test_the_reader_is_the_one_that_phones_have():
    """A code that was drawn is read without our limits, too: the drawing is a plain QR code."""
    [found] = zxingcpp.read_barcodes(Image.open(io.BytesIO(draw(CODE, "png", "x"))))
    assert found.text == CODE
