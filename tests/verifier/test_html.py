"""The report as a page, and as JSON that others can read by its schema."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

import jsonschema_rs
import pytest

from tests.tamper.judge import verified
from tests.tamper.recipes import RECIPES, honest
from verifier import report as report_module
from verifier.html import page
from verifier.report import Report
from verifier.run import verify_tally

HOSTILE = '<script>alert("x")</script>&\' --> </svg>'

EMPTY = {"meta", "br", "rect"}


class Page(HTMLParser):
    """Every tag with its attributes, the text, and whether tags are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@cache
def good() -> Report:
    return verify_tally(honest().source(), honest().manifest.election_id)


def test_the_page_says_what_the_report_says() -> None:
    text = "".join(Page(page(good())).texts)
    assert good().sentence() in text and good().sha256 in text and "VERIFIED" in text
    for check in good().value["checks"]:
        assert check["id"] in text and check["detail"] in text
    assert "Shall it be done?" in text


def test_the_page_needs_nothing_else_and_its_policy_lets_only_its_own_style_in() -> None:
    text = page(good())
    found = Page(text)
    assert not {tag for tag, _ in found.tags} & {"script", "link", "img", "iframe", "object", "embed", "base", "form"}
    for _, attributes in found.tags:
        assert not {name for name in attributes if name in ("style", "href", "src") or name.startswith("on")}
    (policy,) = (a["content"] for tag, a in found.tags if a.get("http-equiv") == "Content-Security-Policy")
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)
    assert style and policy
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'"


def test_the_bars_are_as_long_as_the_votes_are_many() -> None:
    bars = [a for tag, a in Page(page(good())).tags if tag == "rect" and a["height"] != "12"]
    question = [float(bar["width"] or 0) for bar in bars[:4]]  # yes 3 online and 1 on paper, no 1 and 1
    assert question[0] == pytest.approx(3 * question[1], abs=0.2)
    assert question[0] + question[1] == pytest.approx(2 * (question[2] + question[3]), abs=0.2)


def test_what_a_record_says_is_text_and_no_markup() -> None:
    value = good().value
    contest = value["contests"][0] | {"title": HOSTILE, "options": [HOSTILE, "no"]}
    check = value["checks"][0] | {"detail": HOSTILE}
    hostile = Report(value | {"name": HOSTILE, "contests": [contest], "checks": [check, *value["checks"][1:]]})
    text = page(hostile)
    assert "<script" not in text and "</svg>&" not in text
    assert "".join(Page(text).texts).count(HOSTILE) >= 4


def test_a_failure_is_marked_and_shows_no_totals() -> None:
    recipe = next(r for r in RECIPES if r.title == "an election whose result is not announced")
    text = page(verified(recipe.make()))
    assert 'class="verdict bad"' in text and "NOT VERIFIED" in text and 'class="fail">not run' in text


@pytest.mark.parametrize("title", ["", "an empty log", "a trustee alone", "a setup without a roll"])
def test_json_is_as_the_schema_says(title: str) -> None:
    schema = json.loads((Path(report_module.__file__).parent / "report.schema.json").read_text())
    jsonschema_rs.meta.validate(schema)
    right = jsonschema_rs.Draft202012Validator(schema)
    report = verified(next(r for r in RECIPES if r.title == title).make()) if title else good()
    value = json.loads(json.dumps(report.json()))
    right.validate(value)
    assert not right.is_valid(value | {"verdict": "fine"})
    assert not right.is_valid({k: v for k, v in value.items() if k != "checks"})
