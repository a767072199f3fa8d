"""Pictures of marked ballot papers, as a scanner would make them: for the tests and the benchmark of scanning. Not one of them is anybody's vote."""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from station.papers import BOX, HEIGHT, WIDTH, Layout, draw

DPI = 150
"""Points an inch of an office scanner's quickest sensible setting."""


class Picture:
    """A canvas (station.papers) that is a grey picture."""

    def __init__(self, dpi: int = DPI) -> None:
        self.scale = dpi / 25.4
        self.image = Image.new("L", (round(WIDTH * self.scale), round(HEIGHT * self.scale)), 255)
        self._draw = ImageDraw.Draw(self.image)

    def fill(self, x: float, y: float, width: float, height: float) -> None:
        s = self.scale
        self._draw.rectangle(
            (round(x * s), round(y * s), round((x + width) * s) - 1, round((y + height) * s) - 1), fill=0
        )

    def frame(self, x: float, y: float, side: float) -> None:
        s = self.scale
        self._draw.rectangle((x * s, y * s, (x + side) * s, (y + side) * s), outline=0, width=max(1, round(0.3 * s)))

    def text(self, x: float, y: float, points: float, text: str) -> None:
        self._draw.text((x * self.scale, y * self.scale), text, fill=0, font=_font(round(points * self.scale * 0.35)))

    def cross(self, x: float, y: float, strokes: int = 2) -> None:
        """A cross in the box at (x, y), or with one stroke half of one."""
        s, width = self.scale, max(1, round(0.6 * self.scale))
        ends = [
            ((x + 0.5, y + 0.5), (x + BOX - 0.5, y + BOX - 0.5)),
            ((x + BOX - 0.5, y + 0.5), (x + 0.5, y + BOX - 0.5)),
        ]
        for (x0, y0), (x1, y1) in ends[:strokes]:
            self._draw.line((x0 * s, y0 * s, x1 * s, y1 * s), fill=40, width=width)


def specimen(page: Layout, code: str, marks: Collection[tuple[int, int]], dpi: int = DPI) -> Image.Image:
    """A paper with crosses in these boxes, (contest, option) each."""
    picture = Picture(dpi)
    draw(picture, page, code)
    for box in page.boxes:
        if (box.contest, box.option) in marks:
            picture.cross(box.x, box.y)
    return picture.image


@lru_cache(maxsize=8)
def _font(size: int) -> Any:
    return ImageFont.load_default(size)
