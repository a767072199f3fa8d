"""The page for poll workers, by a browser's requests: a day in buttons, two languages, and nobody else's business."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator

import httpx
import pytest

from station import actions
from station.page import WORDS, server
from tests.station.world import sender
from tests.trustee.boards import quick_key

pytestmark = pytest.mark.e2e


@pytest.fixture
def browser(board, place, tmp_path) -> Iterator[httpx.Client]:
    """A browser that has opened the link; the station has a network."""
    for name, account in zip(("ana", "ben"), board.officers[0], strict=False):
        quick_key(tmp_path / name, account, "pass")
    with server(place, 0, lambda: board.board) as (httpd, link):
        thread = threading.Thread(target=httpd.serve_forever, daemon=True)
        thread.start()
        try:
            with httpx.Client(base_url=link.partition("/?")[0], follow_redirects=True) as client:
                assert client.get(link).status_code == 200
                yield client
        finally:
            httpd.shutdown()
            thread.join()


def said(answer: httpx.Response) -> str:
    found = re.search(r'<p class="note[^>]*>(.*?)</p>', answer.text)
    return found[1] if found else ""


def test_a_day_in_buttons(board, place, browser, tmp_path):
    assert "Open the station" in browser.get("/").text
    assert said(browser.post("/open")) == "The station is open."
    answer = browser.post("/look-up", data={"card": "1"})
    assert said(answer) == "1 may vote on paper." and 'action="/check-in"' in answer.text
    assert said(browser.post("/check-in", data={"card": "1"})) == "1: Checked in. Hand out one paper."
    answer = browser.post("/look-up", data={"card": "1"})
    assert said(answer) == "1 was checked in here already." and 'action="/check-in"' not in answer.text
    browser.post("/check-in", data={"card": "0"})
    assert said(browser.post("/replace")) == "One spoiled paper replaced."
    assert "has the last voter left?" in said(browser.post("/close")) and not place.state.closed
    assert said(browser.post("/close", data={"sure": "1"})) == "The station is closed. Count."

    figures = {
        "issued": "2",
        "spoiled": "0",
        "unreturned": "0",
        "in_box": "2",
        "c0.0": "2",
        "c0.1": "0",
        "c0.2": "0",
        "c0.3": "0",
    }
    assert "Counting begins at" in said(browser.post("/count", data=figures | {"by": "Ana"}))
    board.chain.advance_to(board.manifest.windows.count_not_before)
    assert "The figure “Shall it be?: (invalid)” is missing" in said(
        browser.post("/count", data=figures | {"by": "Ana", "c0.3": ""})
    )
    answer = browser.post("/count", data=figures | {"by": "Ana", "in_box": "1"})  # what was typed is not lost
    assert (
        answer.status_code == 409
        and 'name="in_box" value="1"' in answer.text
        and 'name="by" value="Ana"' in answer.text
    )
    assert "First count noted" in said(browser.post("/count", data=figures | {"by": "Ana"}))
    assert "The counts differ. Both count again: no, yes" in said(
        browser.post("/count", data=figures | {"by": "Ben", "c0.0": "1", "c0.1": "1"})
    )
    answer = browser.post("/count", data=figures | {"by": "Ben"})
    assert "Both counts agree" in said(answer) and "NOT SIGNED YET" in answer.text
    assert "The key file does not open" in said(
        browser.post("/sign", data={"key": str(tmp_path / "ana"), "passphrase": "no"})
    )
    for name in ("ana", "ben"):
        assert said(browser.post("/sign", data={"key": str(tmp_path / name), "passphrase": "pass"})) == "Signed."
    assert "No relayer is known here" in said(browser.post("/sync"))
    assert "In step with the public record" in said(
        browser.post("/sync", data={"key": str(tmp_path / "ana"), "passphrase": "pass"})
    )
    assert [document.sent for document in place.state.documents] == [True]
    assert actions.sync(place, board.board, sender(board)).did.startswith("in step")


def test_the_page_speaks_french_where_it_is_wanted_and_has_every_text_in_both_languages(browser):
    assert '<html lang="en">' in browser.get("/").text
    french = browser.get("/?lang=fr").text
    assert '<html lang="fr">' in french and "Ouvrir le bureau" in french and "Open the station" not in french
    assert said(browser.post("/check-in", data={"card": "1"})).startswith("<strong>Refusé :</strong>")
    browser.post("/open")
    assert said(browser.post("/look-up", data={"card": "1"})) == "1 peut voter sur papier."
    browser.cookies.delete("lang")
    assert '<html lang="fr">' in browser.get("/", headers={"Accept-Language": "fr-CH, en;q=0.5"}).text
    assert all(len(texts) == 2 and all(texts) for texts in WORDS.values())


def test_every_field_has_a_label_and_buttons_are_large_enough_for_a_finger(browser):
    browser.post("/open")
    text = browser.get("/").text
    inputs = re.findall(r'<input name="\w+"', text)
    assert inputs and len(re.findall(r"<label>[^<]+<input", text)) == len(inputs)
    assert "min-height:3.6rem" in text and "<script" not in text and "http" not in text.replace("http-equiv", "")


def test_nobody_without_the_link_sees_or_does_anything(board, place, browser):
    base = str(browser.base_url)
    stranger = httpx.Client(base_url=base)
    assert stranger.get("/").status_code == stranger.post("/open").status_code == 403
    assert stranger.get("/?key=wrong").status_code == 403
    assert browser.post("/open", headers={"Host": "evil.example"}).status_code == 403
    assert browser.post("/open", headers={"Origin": "https://evil.example"}).status_code == 403
    assert not place.state.opened
    assert browser.get("/other").status_code == 404
    assert browser.post("/open", content=b"x" * 200_000).status_code == 413
    headers = browser.get("/").headers
    assert "default-src 'none'" in headers["content-security-policy"] and headers["cache-control"] == "no-store"


def test_what_a_person_types_is_shown_as_text_and_not_as_markup(browser):
    browser.post("/open")
    answer = browser.post("/look-up", data={"card": "<script>alert(1)</script>"})
    assert answer.status_code == 409 and "<script" not in answer.text and "&lt;script&gt;" in answer.text
