"""What the printer gets: the codes in the very bytes of the PDF are read back by a reader of bar codes."""

from __future__ import annotations

import re
import zlib
from pathlib import Path

import pytest
import zxingcpp
from PIL import Image, ImageDraw

from protocol.sheet import print_code, sheet_code
from station import actions
from station.actions import NotDue
from station.folder import StationFolder
from station.papers import read_code
from station.printing import print_papers, print_sheet
from tests.station.world import until_counted

pytestmark = pytest.mark.e2e

POINT = 2
"""Points of the picture per point of the page."""


def pages(path: Path) -> list[Image.Image]:
    """The pages of a PDF as far as filled rectangles go, which is what codes are made of."""
    data, found = path.read_bytes(), []
    for stream in re.findall(rb"stream\n(.*?)\nendstream", data, re.DOTALL):
        try:
            content = zlib.decompress(stream).decode("latin-1")
        except zlib.error:
            continue
        boxes = re.findall(r"([\d.-]+) ([\d.-]+) ([\d.-]+) ([\d.-]+) re f", content)
        if not boxes:
            continue
        image = Image.new("L", (600 * POINT, 850 * POINT), 255)
        for x, y, w, h in (tuple(map(float, box)) for box in boxes):
            top, bottom = sorted((850 - y, 850 - y - h))
            ImageDraw.Draw(image).rectangle([round(v * POINT) for v in (x, top, x + w, bottom)], fill=0)
        found.append(image)
    return found


def test_every_paper_has_its_code_twice_and_no_two_papers_the_same(place, tmp_path):
    outcome = print_papers(place, 3, tmp_path / "papers.pdf")
    assert outcome.data["printed"] == 3
    serials = set()
    for page in pages(tmp_path / "papers.pdf"):
        codes = [found.text for found in zxingcpp.read_barcodes(page)]
        assert len(codes) == 2 and len(set(codes)) == 1
        paper = read_code(codes[0], place.state.paper_key, place.state.election, 0)
        assert (paper.station, paper.style) == (0, 0)
        serials.add(paper.serial)
    assert len(serials) == 3
    [entry] = place.journal.find("papers")
    assert set(entry.data) == {"count", "key"} and not any(serial.hex() in str(entry.data) for serial in serials)
    key = place.state.paper_key
    print_papers(place, 1, tmp_path / "more.pdf")
    assert place.state.paper_key == key and place.state.printed == 4


def test_papers_are_printed_before_the_station_closes(place, tmp_path):
    actions.open_station(place)
    actions.close_station(place)
    with pytest.raises(NotDue, match="no more papers"):
        print_papers(place, 1, tmp_path / "papers.pdf")
    assert not (tmp_path / "papers.pdf").exists()


def test_the_sheets_code_holds_the_hash_that_is_signed_and_the_totals(board, place, tmp_path):
    with pytest.raises(NotDue, match="no result yet"):
        print_sheet(place, tmp_path / "sheet.pdf")
    until_counted(board, place)
    code = print_sheet(place, tmp_path / "sheet.pdf")
    result = place.state.documents[0].result
    assert code == print_code(sheet_code(result, board.manifest.election_id)) and result.document_hash().hex() in code
    [page] = pages(tmp_path / "sheet.pdf")
    assert [found.text for found in zxingcpp.read_barcodes(page)] == [code]


def test_where_a_public_board_is_known_the_code_is_a_link_to_it(board, place, tmp_path):
    until_counted(board, place)
    where = place.connection
    where.boards = ["https://board.example"]
    where.save(place.path / "board.json")
    assert print_sheet(place, tmp_path / "sheet.pdf").startswith("https://board.example/stations/0?election=")


def test_names_in_any_alphabet_are_printed_or_replaced_but_never_stop_the_printer(place, tmp_path, monkeypatch):
    from station import printing

    monkeypatch.setattr(printing, "FONTS", ())
    object.__setattr__(place.station, "name", "Школа № 3 — Łódź")
    print_papers(place, 1, tmp_path / "papers.pdf")
    assert isinstance(place, StationFolder) and pages(tmp_path / "papers.pdf")
