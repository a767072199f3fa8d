"""The options' own colours: a file's lines are right or refused by their number, and pages use them without any style of their own."""

from __future__ import annotations

import re

import pytest

from bulletin.app import create_app
from bulletin.board import STATIC
from bulletin.colours import DARK, LEAST, LIGHT, contrast, style
from chain.console import Connection
from protocol.errors import BallotboardError
from tests.bulletin.boards import replica
from tests.bulletin.pages import Page
from tests.bulletin.test_app import Browser
from tests.tamper import builder
from tests.tamper.builder import hold

HEAD = "contest,option,colour,dark\n"


@pytest.fixture(scope="module")
def held():
    return hold()


@pytest.fixture
def sheet(held, tmp_path):
    def of(text: str) -> str:
        path = tmp_path / "colours.csv"
        path.write_bytes(text.encode())
        return style(path, held.manifest).decode()

    return of


def test_contrast_is_that_of_the_guideline():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.478, abs=0.001)  # WCAG's own example of almost 4.5
    assert contrast("#ff0000", "#00ff00") == contrast("#00ff00", "#ff0000")


def test_the_palette_is_seen_in_both_themes():
    css = (STATIC / "board.css").read_text()
    for behind, palette in zip((LIGHT, DARK), re.findall(r"--c0: .*", css), strict=True):
        colours = re.findall(r"--c\d: (#[0-9a-f]{6})", palette)
        assert len(colours) == 8 and all(contrast(colour, behind) >= LEAST for colour in colours)


def test_a_line_gives_an_option_its_colour_in_each_theme(sheet, held):
    contest = held.manifest.contests[1]
    found = sheet(
        "\ufeff"
        + HEAD
        + f"{contest.id}, {contest.options[2]} ,#C8102E,#ef5a6f\n\n{contest.id},{contest.options[0]},#7a7a7a,\n"
    )
    light, dark = found.split("@media (prefers-color-scheme: dark) {")
    assert (
        ".p1-2 { fill: #c8102e; background: #c8102e; }" in light
        and ".p1-2 { fill: #ef5a6f; background: #ef5a6f; }" in dark
    )
    assert ".p1-0 { fill: #7a7a7a;" in light and ".p1-0 { fill: #7a7a7a;" in dark
    assert sheet(f"contest,option,colour\n{contest.id},{contest.options[0]},#7a7a7a\n") == sheet(
        HEAD + f"{contest.id},{contest.options[0]},#7a7a7a,#7a7a7a\n"
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("party,colour\n", "line 1: the columns are contest,option,colour,dark"),
        ("", "line 1: the columns are"),
        (HEAD + "\nnobody,a,#7a7a7a,\n", "line 3: no contest 'nobody' in this election: it has 'question'"),
        (HEAD + "mayor,z,#7a7a7a,\n", "line 2: no option 'z' in the contest 'mayor': it has 'a', 'b', 'c'"),
        (HEAD + "mayor,a,red,\n", "line 2: 'red' is no colour: # and six hexadecimal digits"),
        (HEAD + "mayor,a,#7a7a7a,url(x)\n", "line 2: 'url"),
        (HEAD + "mayor,a,,#7a7a7a\n", "line 2: has no colour"),
        (HEAD + "mayor,a\n", "line 2: has 2 cells"),
        (HEAD + "mayor,Smith, Ann,#7a7a7a,#7a7a7a\n", "line 2: has 5 cells"),
        (HEAD + "mayor,a,#7a7a7a,\nmayor,a,#7a7a7a,\n", "line 3: 'a' has its colour from line 2 already"),
    ],
)  # fmt: skip
def test_a_line_that_is_wrong_is_refused_by_its_number(sheet, text, words):
    with pytest.raises(BallotboardError, match=re.escape(words)):
        sheet(text)


@pytest.mark.parametrize(
    ("line", "theme", "shade"),
    [("#ffd700,", "light", "darker"), ("#005ea5,", "dark", "`dark` of its own"), ("#c8102e,#400000", "dark", "`dark` of its own")],
)  # fmt: skip
def test_a_colour_that_is_hardly_seen_is_refused_and_the_shade_that_is_named_is_taken(sheet, held, line, theme, shade):
    contest = held.manifest.contests[1]
    with pytest.raises(BallotboardError, match=f"line 2: #.* is hardly seen in the {theme} theme.*{shade}") as refused:
        sheet(HEAD + f"{contest.id},a,{line}")
    better = str(refused.value).rsplit(" ", 1)[1]
    colours = f"{better},#7a7a7a" if theme == "light" else f"{line.split(',')[0]},{better}"
    assert better in sheet(HEAD + f"{contest.id},a,{colours}")


def test_a_file_that_cannot_be_read_is_named(held, tmp_path):
    with pytest.raises(BallotboardError, match="cannot read"):
        style(tmp_path / "nowhere.csv", held.manifest)


@pytest.mark.slow
def test_pages_take_the_colours_from_a_sheet_of_their_own_whose_hash_is_on_the_page_of_verifying(sheet, held, tmp_path):
    contest = held.manifest.contests[1]
    given = sheet(HEAD + f"{contest.id},a,#7a7a7a,").encode()
    store, connection = (
        replica(tmp_path, held).store,
        Connection("http://127.0.0.1:8545", "0x" + builder.CONTRACT.hex()),
    )
    plain, coloured = (Browser(create_app(store, connection, colours=colours)) for colours in (b"", given))
    answer = coloured.get("/colours.css")
    assert answer.content == given and answer.headers["content-type"].startswith("text/css")
    assert "style-src 'self'" in answer.headers["content-security-policy"]
    tag = {"if-none-match": answer.headers["etag"]}
    assert coloured.get("/colours.css", headers=tag).status_code == 304
    assert answer.headers["etag"].strip('"') in coloured.get("/verify").text
    for path in ("/", "/results", "/results/1", "/display"):
        shown = Page(coloured.get(path).text)
        assert {"rel": "stylesheet", "href": "/colours.css"} in shown.all("link")
        assert "p1-0" in " ".join(attrs.get("class", "") for _, attrs in shown.elements)
    assert "/colours.css" not in plain.get("/").text
    assert plain.get("/colours.css").status_code == 404
