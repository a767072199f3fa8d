"""A static copy: every link leads to a file that is there or to the board that was copied, and what is left out is said."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from bulletin import pages
from bulletin.mirror import mirror
from bulletin.words import LANGUAGES
from tests.bulletin.boards import replica
from tests.bulletin.pages import Page
from tests.bulletin.servers import application, serving
from tests.tamper.builder import hold


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    return replica(tmp_path_factory.mktemp("board"), hold(until="vote"))


def links(out: Path) -> set[str]:
    """Of all pages."""
    found = {
        link
        for page in out.rglob("index.html")
        for link in re.findall(r'(?:href|src|action)="([^"]*)"', page.read_text())
    }
    return {html.unescape(link) for link in found}


def is_there(out: Path, link: str) -> bool:
    path = out / urlsplit(link).path.lstrip("/")
    return path.is_file() or (path / "index.html").is_file()


@pytest.mark.soak
def test_every_page_of_every_list_is_in_the_copy_and_search_leads_to_the_board(copy, tmp_path, monkeypatch):
    monkeypatch.setattr(pages, "RECORDS", 10)
    monkeypatch.setattr(pages, "BALLOTS", 3)
    with serving(application(copy)) as url:
        copied = mirror(url, tmp_path)
    assert copied == (sum(path.is_file() for path in tmp_path.rglob("*")), 0)
    found = links(tmp_path)
    assert not [link for link in found if link.startswith("/") and not is_there(tmp_path, link)]
    outside = {link for link in found if not link.startswith(("/", "#"))}
    assert {
        f"{url}/en/find",
        f"{url}/fr/find",
        f"{url}/en/display",
    } <= outside  # and forms, which are of no use in a copy
    assert all(re.fullmatch(rf"{url}/(en|fr)/(find.*|display|records|stations(#list)?)", link) for link in outside)
    with copy.store.read() as tx:
        size, ballots = tx.head().size, [record.entry.body_hash.hex() for record in tx.records(4)]
    assert f"/en/records/from={10 * (size // 10)}" in found
    for language, words in LANGUAGES.items():
        assert all((tmp_path / language / "ballots" / digest / "index.html").exists() for digest in ballots)
        assert words.say("copy.text", url=url, size=size) in Page((tmp_path / language / "index.html").read_text()).text
    head = json.loads((tmp_path / f"api/v1/heads/{size}").read_bytes())
    assert head["root"] == copy.head.root.hex()


def test_beyond_so_many_pages_links_lead_to_the_board(copy, tmp_path):
    with serving(application(copy)) as url:
        copied = mirror(url, tmp_path, pages=25)
    assert len(list(tmp_path.glob("*/**/index.html"))) == 25 and copied.left_out > 10
    found = links(tmp_path)
    assert {"/en/stations/state=waiting#list", f"{url}/en/find"} <= found
    assert (
        LANGUAGES["fr"].say("copy.text", url=url, size=copy.head.size)
        in Page((tmp_path / "fr/index.html").read_text()).text
    )
    assert not [link for link in found if link.startswith("/") and not is_there(tmp_path, link)]
    assert (tmp_path / "index.html").exists()


def test_a_board_that_asks_for_patience_is_given_some(copy, tmp_path):
    honest, refused = application(copy), []

    async def busy(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] in ("/en/", "/checkpoint") and scope["path"] not in refused:
            refused.append(scope["path"])
            await send({"type": "http.response.start", "status": 429, "headers": [(b"retry-after", b"0")]})
            await send({"type": "http.response.body", "body": b""})
            return
        await honest(scope, receive, send)

    with serving(busy) as url:
        mirror(url, tmp_path, pages=1)
    assert refused == ["/en/", "/checkpoint"] and (tmp_path / "checkpoint").read_text().startswith("ballotboard/")
