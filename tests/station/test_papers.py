"""Ballot papers: the code on them, and reading their pictures however they lie."""

from __future__ import annotations

import random

import pytest
import zxingcpp
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import BallotboardError
from protocol.manifest import Contest, Rule
from scripts.specimens import Picture, specimen
from station.papers import (
    BOX,
    BadPaper,
    Paper,
    base45,
    draw,
    layout,
    new_key,
    new_paper,
    read_boxes,
    read_code,
    unbase45,
)
from station.scan import read_picture

KEY, ELECTION = new_key(), bytes(range(32))
CONTEST = Contest("question", "Shall it be?", Rule.ONE_OF_K, 0, ("yes", "no", "maybe", "blank"))
PAGE = layout([(0, CONTEST)], ["Trial", "School", "Ward"])


@pytest.mark.parametrize(
    ("data", "text"), [(b"AB", "BB8"), (b"Hello!!", "%69 VD92EX0"), (b"base-45", "UJCLQE7W581"), (b"ietf!", "QED8WEX0")]
)
def test_base45_gives_the_examples_of_rfc_9285(data, text):
    assert base45(data) == text and unbase45(text) == data


@given(st.binary(max_size=80))
def test_base45_comes_back(data):
    assert unbase45(base45(data)) == data


@given(st.text("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:ab", max_size=12))
def test_what_is_no_base45_is_refused_and_nothing_has_two_forms(text):
    try:
        assert base45(unbase45(text)) == text
    except ValueError:
        pass


def test_a_code_says_station_style_and_serial_to_the_station_that_made_it():
    paper = new_paper(7, 2)
    assert read_code(paper.code(KEY, ELECTION), KEY, ELECTION, 7) == paper
    assert new_paper(7, 2).serial != paper.serial


@pytest.mark.parametrize("change", ["key", "election", "serial", "style"])
def test_a_code_that_the_station_did_not_make_is_forged(change):
    paper, key, election = new_paper(7, 2), KEY, ELECTION
    if change in ("serial", "style"):
        honest = paper.code(KEY, ELECTION)
        claimed = Paper(7, 2, bytes(8)) if change == "serial" else Paper(7, 3, paper.serial)
        text = _with(claimed, honest)
    else:
        text = paper.code(new_key() if change == "key" else key, bytes(32) if change == "election" else election)
    with pytest.raises(BadPaper, match="MAC is wrong"):
        read_code(text, KEY, ELECTION, 7)


def _with(claimed: Paper, honest: str) -> str:
    """A code that claims this paper under the MAC of another."""
    import cbor2

    *_, mac = cbor2.loads(unbase45(honest))
    return base45(cbor2.dumps([1, claimed.station, claimed.style, claimed.serial, mac]))


@pytest.mark.parametrize(
    "text", ["", "hello", "BB8", base45(b"\x85\x01\x02\x03"), "https://example.org", base45(b"\xff" * 30)]
)
def test_other_codes_are_no_papers(text):
    with pytest.raises(BadPaper):
        read_code(text, KEY, ELECTION, 7)


@pytest.mark.parametrize("turn", [0, 3, -7, 90, 180, 184, 270])
def test_marks_are_read_however_the_paper_lies(tmp_path, turn):
    paper = new_paper(7, 0)
    for option in (0, 3):
        image = specimen(PAGE, paper.code(KEY, ELECTION), {(0, option)}).rotate(
            turn, fillcolor=255, expand=True, resample=3
        )
        image.save(tmp_path / "paper.png")
        found, reading, _ = read_picture(tmp_path / "paper.png", PAGE, KEY, ELECTION, 7)
        assert found == paper and reading and reading.marked == {(0, option)} and not reading.unclear


def test_marks_are_read_from_a_camera_that_looks_from_aside_in_poor_light(tmp_path):
    from PIL import Image

    paper, chance = new_paper(7, 0), random.Random(1)
    image = specimen(PAGE, paper.code(KEY, ELECTION), {(0, 1)}, dpi=200)
    w, h = image.size
    corners = (0.04 * w, 0.03 * h, 0.0, h, w, 0.97 * h, 0.93 * w, 0.0)
    tilted = image.transform((w, h), Image.Transform.QUAD, tuple(corners), resample=3, fillcolor=200)
    dark = tilted.point(lambda value: int(value * 0.6 + 20))
    noise = Image.frombytes("L", dark.size, bytes(chance.randrange(256) for _ in range(w * h)))
    Image.blend(dark, noise, 0.06).save(tmp_path / "frame.jpg", quality=80)
    found, reading, why = read_picture(tmp_path / "frame.jpg", PAGE, KEY, ELECTION, 7)
    assert found == paper and reading and reading.marked == {(0, 1)}, why


def test_a_faint_mark_is_left_to_a_person(tmp_path):
    picture = Picture()
    draw(picture, PAGE, new_paper(7, 0).code(KEY, ELECTION))
    box = PAGE.boxes[2]
    picture.fill(box.x + 0.4 * BOX, box.y + 0.4 * BOX, 0.9, 0.5)
    picture.image.save(tmp_path / "paper.png")
    _, reading, _ = read_picture(tmp_path / "paper.png", PAGE, KEY, ELECTION, 7)
    assert reading and not reading.marked and reading.unclear == {(0, 2)}


def test_a_paper_of_which_one_code_is_hidden_is_left_to_a_person(tmp_path):
    paper = new_paper(7, 0)
    image = specimen(PAGE, paper.code(KEY, ELECTION), {(0, 1)})
    image.paste(255, (0, image.height * 3 // 4, image.width, image.height))
    image.save(tmp_path / "paper.png")
    found, reading, _ = read_picture(tmp_path / "paper.png", PAGE, KEY, ELECTION, 7)
    assert found == paper and reading is None


def test_two_papers_in_one_picture_are_not_read(tmp_path):
    from PIL import Image

    images = [specimen(PAGE, new_paper(7, 0).code(KEY, ELECTION), set()) for _ in range(2)]
    both = Image.new("L", (2 * images[0].width, images[0].height), 255)
    for place, image in enumerate(images):
        both.paste(image, (place * image.width, 0))
    both.save(tmp_path / "both.png")
    assert len(zxingcpp.read_barcodes(both)) == 4
    assert read_picture(tmp_path / "both.png", PAGE, KEY, ELECTION, 7) == (None, None, "unreadable")


def test_a_file_that_is_no_picture_is_unreadable(tmp_path):
    (tmp_path / "paper.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert read_picture(tmp_path / "paper.png", PAGE, KEY, ELECTION, 7)[2] == "unreadable"


def test_codes_that_are_nowhere_near_a_page_give_no_reading():
    square = ((0.0, 0.0), (10.0, 0.0), (10.0, 10.0), (0.0, 10.0))
    beside = tuple((x + 500, y) for x, y in square)
    assert read_boxes(PAGE, [square, beside], lambda x, y: 255, 1000, 1000) is None  # type: ignore[list-item]
    assert read_boxes(PAGE, [square, square], lambda x, y: 255, 1000, 1000) is None


def test_a_ballot_that_does_not_fit_on_a_page_is_refused():
    many = Contest("many", "Many", Rule.ONE_OF_K, 0, tuple(map(str, range(30))))
    with pytest.raises(BallotboardError, match="a page has"):
        layout([(0, many)], [])
