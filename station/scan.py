"""Scanning paper ballots: a folder of pictures becomes a set of serials and, apart from it, totals.

What is kept is one journal entry per folder: the serials in ascending order, and sums. So nothing says which serial voted how, or in which order papers were
scanned; pictures are read and left where they are. A folder is counted whole or not at all, and only with MIN_BATCH papers or more: the sums of a single
paper would be its vote.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import zxingcpp
from PIL import Image, UnidentifiedImageError

from protocol.manifest import Rule
from protocol.paper import ContestCount
from station.actions import NotDue, Outcome, may_count
from station.folder import StationFolder
from station.papers import BadPaper, Corners, Layout, Paper, Reading, layout, read_boxes, read_code

PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")

MIN_BATCH = 20
"""Papers of one folder, at least: fewer would show how they were marked. A station that issued fewer scans all of them at once."""

MAX_BATCH = 40_000
"""Papers of one folder, at most: their serials fit a journal entry."""

AHEAD = 64
"""Pictures in memory at a time."""

Sheet = tuple[Paper | None, Reading | None, str]
"""A picture: the paper that it shows if its code is right, what its boxes say if they could be read, and else why not."""


@dataclass
class Scan:
    """What a folder holds. `by_hand` are pictures of good papers whose marks a person must read; these papers are not counted here."""

    counts: dict[tuple[int, int], int] = field(default_factory=dict)
    blank: Counter[int] = field(default_factory=Counter)
    invalid: Counter[int] = field(default_factory=Counter)
    serials: set[bytes] = field(default_factory=set)
    papers: int = 0
    duplicates: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    forged: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    by_hand: list[str] = field(default_factory=list)

    def value(self) -> dict[str, Any]:
        names = ("duplicates", "foreign", "forged", "unreadable", "by_hand")
        return {"papers": self.papers} | {name: len(getattr(self, name)) for name in names}


def page_of(folder: StationFolder) -> Layout:
    """The page of this station's papers."""
    unit = folder.units[folder.station.unit]
    contests = [(index, folder.manifest.contests[index]) for index in folder.manifest.styles[unit.style]]
    heading = [folder.manifest.name, f"{folder.station.name}", unit.name]
    return layout(contests, [*heading, *(["*** PRACTICE / EXERCICE ***"] if folder.manifest.practice else [])])


def scan(
    folder: StationFolder,
    pictures: Path,
    board: Any = None,
    progress: Callable[[int, int], None] | None = None,
    frames: bool = False,
) -> Outcome:
    """Count the papers in a folder of pictures. Refuses before the hour of counting, a batch too small to keep votes secret, and a folder without pictures.

    Pictures of the same paper count once, now and in later folders. With `frames` they are a camera's, with several of each paper and some of none: any clear one
    is taken, and a paper that reads otherwise in another frame is left to a person.
    """
    may_count(folder, board)
    if not folder.state.paper_key:
        raise NotDue("no papers were printed here: `ballotboard station papers N`, or count by hand")
    try:
        files = sorted(path for path in pictures.iterdir() if path.suffix.lower() in PICTURES)
    except OSError as error:
        raise NotDue(f"cannot read {pictures}: {error.strerror}") from error
    if not files or len(files) > MAX_BATCH:
        raise NotDue(
            f"{pictures} holds {len(files)} pictures ({', '.join(PICTURES)}): between 1 and {MAX_BATCH:,} are scanned at a time"
        )
    before = folder.state.scanned.serials if folder.state.scanned else frozenset()
    found = _count(folder, files, before, frames, progress)
    data = found.value() | {"station": folder.station.number}
    words = _words(found)
    if not found.papers:
        return Outcome(f"nothing new was counted: {words}", _next(found), data)
    whole = not before and found.papers >= max(1, folder.state.issued - len(found.by_hand))
    if found.papers < MIN_BATCH and not whole:
        raise NotDue(
            f"{found.papers} papers are too few to count by themselves, their sums would show how they were marked: scan at least {MIN_BATCH} at a time, or count these by hand"
        )
    contests = _contests(folder, found)
    folder.record(
        "scan", papers=found.papers, serials=sorted(serial.hex() for serial in found.serials),
        contests=[{"blank": c.blank, "contest": c.contest, "counts": list(c.counts), "invalid": c.invalid} for c in contests],
    )  # fmt: skip
    scanned = folder.state.scanned
    assert scanned
    data |= {"total": scanned.papers}
    return Outcome(f"{found.papers} papers counted, {scanned.papers} in all: {words}", _next(found), data)


def read_picture(path: Path, page: Layout, key: bytes, election: bytes, station: int) -> Sheet:
    """One picture. Never raises for what a picture may hold."""
    try:
        with Image.open(path) as opened:
            image = opened.convert("L")
    except (OSError, UnidentifiedImageError, ValueError, Image.DecompressionBombError):
        return None, None, "unreadable"
    found = [
        code
        for code in zxingcpp.read_barcodes(image, formats=zxingcpp.BarcodeFormats(zxingcpp.BarcodeFormat.QRCode))
        if code.text
    ]
    papers: dict[Paper, list[Corners]] = {}
    forged = foreign = False
    for code in found:
        try:
            paper = read_code(code.text, key, election, station)
        except BadPaper:
            forged = True
            continue
        foreign = foreign or paper.station != station
        papers.setdefault(paper, []).append(_corners(code.position))
    if len(papers) != 1 or forged or foreign:
        return None, None, "forged" if forged else "foreign" if foreign else "unreadable"
    [(paper, corners)] = papers.items()
    pixels = image.load()
    assert pixels
    reading = read_boxes(page, corners, lambda x, y: pixels[x, y], image.width, image.height)  # type: ignore[arg-type, return-value]
    return paper, reading, ""


# ---------------------------------------------------------------- helpers


def _count(
    folder: StationFolder, files: Sequence[Path], before: frozenset[bytes], frames: bool, progress: Callable[[int, int], None] | None
) -> Scan:  # fmt: skip
    page, found = page_of(folder), Scan()
    state, style = folder.state, folder.units[folder.station.unit].style
    papers: dict[
        bytes, tuple[str, Reading | None]
    ] = {}  # by serial, in memory alone: the first picture's name, and what is clear
    unsure: set[bytes] = set()

    def read(path: Path) -> Sheet:
        return read_picture(path, page, state.paper_key, state.election, folder.station.number)

    for done, (path, (paper, reading, why)) in enumerate(in_order(read, files), 1):
        clear = None if reading is None or reading.unclear else reading
        if paper is None:
            if why != "unreadable" or not frames:  # between two papers a camera sees none
                getattr(found, why).append(path.name)
        elif paper.style != style:
            found.foreign.append(path.name)
        elif paper.serial not in papers and paper.serial not in before:
            papers[paper.serial] = (path.name, clear)
        elif not frames:
            found.duplicates.append(path.name)
        elif paper.serial in papers:
            name, other = papers[paper.serial]
            papers[paper.serial] = (name, other or clear)
            if other and clear and other.marked != clear.marked:
                unsure.add(paper.serial)
        elif paper.serial not in unsure:  # scanned in an earlier folder: said once, not for every frame
            unsure.add(paper.serial)
            found.duplicates.append(path.name)
        if progress:
            progress(done, len(files))
    for serial, (name, reading) in papers.items():
        if reading is None or serial in unsure:
            found.by_hand.append(name)
        else:
            found.serials.add(serial)
            _add(folder, found, reading)
    return found


def in_order(read: Callable[[Path], Sheet], files: Sequence[Path]) -> Iterator[tuple[Path, Sheet]]:
    """Pictures on every core; decoding leaves Python's lock, so threads are enough."""
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        for start in range(0, len(files), AHEAD):
            part = files[start : start + AHEAD]
            yield from zip(part, pool.map(read, part), strict=True)


def _add(folder: StationFolder, found: Scan, reading: Reading) -> None:
    found.papers += 1
    for index in folder.manifest.styles[folder.units[folder.station.unit].style]:
        contest = folder.manifest.contests[index]
        marks = [option for where, option in reading.marked if where == index]
        most = {Rule.ONE_OF_K: 1, Rule.UP_TO_L: contest.limit}.get(contest.rule, contest.k)
        blank = contest.blank
        if not marks and blank is not None and contest.rule == Rule.ONE_OF_K:
            marks = [blank]
        if not marks and blank is None:
            found.blank[index] += 1
        elif not marks or len(marks) > most:
            found.invalid[index] += 1
        else:
            for option in marks:
                found.counts[index, option] = found.counts.get((index, option), 0) + 1


def _contests(folder: StationFolder, found: Scan) -> list[ContestCount]:
    style = folder.manifest.styles[folder.units[folder.station.unit].style]
    return [
        ContestCount(
            index,
            tuple(found.counts.get((index, option), 0) for option in range(folder.manifest.contests[index].k)),
            found.blank[index],
            found.invalid[index],
        )
        for index in style
    ]


def _corners(position: Any) -> Corners:
    points = (position.top_left, position.top_right, position.bottom_right, position.bottom_left)
    return tuple((float(point.x), float(point.y)) for point in points)  # type: ignore[return-value]


def _words(found: Scan) -> str:
    notes = [
        (found.by_hand, "must be read by a person"),
        (found.duplicates, "were scanned before"),
        (found.foreign, "are of another station or ballot"),
        (found.forged, "have a code that this station did not make"),
        (found.unreadable, "show no code of a paper, or several"),
    ]
    return "; ".join(f"{len(names)} {words} ({', '.join(names[:5])}{' …' if len(names) > 5 else ''})" for names, words in notes if names) or "all in order"  # fmt: skip


def _next(found: Scan) -> str:
    more = "read these by hand and add them: " if found.by_hand else ""
    return f"{more}`ballotboard station count --from-scan`"
