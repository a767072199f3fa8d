"""What a visitor may give to be looked at: a receipt's code as text, file or picture, and a result sheet's. Nothing of it is kept, and nothing breaks the board."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from bulletin import uploads
from bulletin.uploads import MAX_FORM, MAX_UPLOADS, READERS, field
from bulletin.words import ENGLISH
from protocol.receipt import CompactReceipt
from protocol.sheet import print_code, sheet_code
from tests.bulletin.boards import replica
from tests.bulletin.pages import Page
from tests.bulletin.test_app import client, forged_tree, receipt_of
from tests.tamper.builder import Election, hold
from verifier.pictures import MAX_BYTES, draw, texts


@pytest.fixture(scope="module")
def held() -> Election:
    return hold()


@pytest.fixture(scope="module")
def web(held, tmp_path_factory) -> TestClient:
    return client(replica(tmp_path_factory.mktemp("uploads"), held))


@pytest.fixture(scope="module")
def code(web, held) -> str:
    return receipt_of(web, held).compact().code()


def photo(code: str) -> bytes:
    """As a phone takes it: large, turned, a JPEG."""
    out = io.BytesIO()
    shown = Image.open(io.BytesIO(draw(code, "png", "x"))).convert("RGB").resize((700, 700))
    shown.rotate(6, fillcolor="white", expand=True).save(out, "JPEG")
    return out.getvalue()


def upload(web: TestClient, data: bytes, name: str = "file"):
    return web.post("/find", files={name: ("receipt", data, "application/octet-stream")})


def classes(shown: Page) -> list[str]:
    return [attrs["class"] for attrs in shown.all("li") if attrs.get("class") in ("good", "bad", "skipped")]


def test_the_board_draws_the_code_of_every_ballot_and_it_proves_the_ballot_without_the_board(web, held):
    for name in held.cast:
        receipt = receipt_of(web, held, name)
        answer = web.get(f"/api/v1/receipts/{receipt.ballot_hash.hex()}.svg")
        assert answer.headers["content-type"] == "image/svg+xml" and "script" not in answer.text
        [text] = texts(answer.content)
        assert CompactReceipt.read_code(text) == receipt.compact()
    assert web.get(f"/api/v1/receipts/{'0' * 64}.svg").status_code == 404
    shown = Page(web.get(f"/ballots/{receipt.ballot_hash.hex()}").text)
    assert f"/api/v1/receipts/{receipt.ballot_hash.hex()}.svg" in [attrs.get("href") for attrs in shown.all("a")]


@pytest.mark.parametrize("way", ["pasted", "pasted in lines", "looked up", "file", "text file", "drawing", "photo"])
def test_a_receipt_is_checked_however_it_is_given(web, held, code, way):
    receipt = receipt_of(web, held)
    answer = {
        "pasted": lambda: web.post("/find", data={"receipt": code}),
        "pasted in lines": lambda: web.post("/find", data={"receipt": f"{code[:50]}\r\n{code[50:].lower()}\r\n"}),
        "looked up": lambda: web.get("/find", params={"q": code}), "file": lambda: upload(web, receipt.body()),
        "text file": lambda: upload(web, code.encode() + b"\n"), "drawing": lambda: upload(web, draw(code, "svg", "x")), "photo": lambda: upload(web, photo(code)),
    }[way]()  # fmt: skip
    shown = Page(answer.text)
    assert answer.status_code == 200 and classes(shown) == ["good"] * 4
    assert receipt.ballot_hash.hex() in shown.text and "This ballot is counted." in shown.text


def test_a_code_of_another_log_shows_the_step_that_fails_and_a_misread_one_is_unreadable(web, held, code):
    right = receipt_of(web, held)
    for wrong, steps, words in (
        (replace(right.compact(), position=right.position + 1), ["bad", "skipped", "skipped", "skipped"], "evidence"),
        (replace(right.compact(), election_id=bytes(32)), ["good", "bad", "skipped", "skipped"], "another election"),
        (forged_tree(right, time=5).compact(), ["good", "good", "bad", "skipped"], "evidence"),
    ):
        answer = web.post("/find", data={"receipt": wrong.code()})
        shown = Page(answer.text)
        assert (answer.status_code, classes(shown)) == (409, steps) and words in shown.alerts
    answer = web.post("/find", data={"receipt": code[:-1] + ("A" if code[-1] != "A" else "Q")})
    assert answer.status_code == 400 and "misread" in Page(answer.text).alerts


def test_the_code_of_a_result_sheet_is_known_in_the_same_place(web, held):
    text = print_code(sheet_code(held.documents[0], held.manifest.election_id))
    for answer in (web.get("/find", params={"q": text}), upload(web, photo(text))):
        assert answer.status_code == 200 and ENGLISH.say("sheet.says.same") in Page(answer.text).text


def test_browsers_that_cannot_read_codes_are_told_what_a_picture_says(web, code):
    assert web.post("/find/code", content=photo(code)).json() == {"texts": [code]}
    answer = web.post("/find/code", content=b"\xff\xd8junk")
    assert answer.status_code == 400 and answer.json()["error"] == 400


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (bytes(MAX_FORM), 400), (b"\x89PNG\r\n\x1a\n" + bytes(99), 400), (b"<svg>" + b"<g>" * 10_000, 400), (b"", 400), (b"\xff\xd8" + b"\xff\xda" * 9_999, 400),
        (b"{" * 100_000, 400), (bytes(1_000_000), 400), (b"BBR:" + b"A" * 10_000, 400),
    ],
    ids=["too long", "broken", "a drawing of nothing", "nothing", "slow", "deep", "zeros", "a code of nothing"],
)  # fmt: skip
def test_a_file_that_is_none_or_asks_for_too_much_is_refused_on_a_page(web, data, status):
    answer = upload(web, data)
    assert answer.status_code == status and Page(answer.text).all("main")


def test_more_than_there_is_room_for_is_asked_to_come_again(web, code, monkeypatch):
    monkeypatch.setattr(uploads, "MAX_UPLOADS", 0)
    for answer in (upload(web, code.encode()), web.post("/find/code", content=b"x")):
        assert answer.status_code == 503 and answer.headers["retry-after"] and "try again" in answer.text
    monkeypatch.undo()
    assert MAX_UPLOADS > READERS > 0
    for _ in range(MAX_UPLOADS + 1):  # the place is given back whatever the file was
        assert web.post("/find/code", content=bytes(MAX_BYTES + 1)).status_code == 400
    assert upload(web, code.encode()).status_code == 200


def test_a_form_without_our_field_or_without_an_end_has_nothing_in_it(web, code):
    assert upload(web, code.encode(), "other").status_code == 400
    for kind in ("multipart/form-data", "multipart/form-data; boundary=", 'multipart/form-data; boundary="x'):
        answer = web.post("/find", content=b"--x\r\n\r\n", headers={"content-type": kind})
        assert answer.status_code == 400, kind


@given(st.binary(max_size=200), st.binary(max_size=50))
def test_a_field_is_taken_out_of_a_form_byte_for_byte(data, other):
    import httpx

    files = {"other": ("a", other), "file": ("b.png", data, "image/png")}
    request = httpx.Request("POST", "http://board", data={"q": "1"}, files=files)
    body = request.read()
    assert field(request.headers["content-type"], body, "file") == data
    assert field(request.headers["content-type"], body, "q") == b"1"
    assert field(request.headers["content-type"], body[: len(body) // 3], "none") == b""


@given(st.text(max_size=40), st.binary(max_size=100))
def test_no_junk_in_a_form_breaks_it(kind, body):
    assert isinstance(field(f"multipart/form-data; boundary={kind}", body, "file"), bytes)
