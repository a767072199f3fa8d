"""People's journeys in a real browser (Debian's Chromium, driven by Playwright) on a real server, and axe-core on every page."""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from bulletin.mirror import mirror
from bulletin.replica import Replica
from bulletin.store import Store
from bulletin.words import LANGUAGES
from protocol.encoding import canonical_json
from protocol.receipt import CompactReceipt
from protocol.records import Kind
from protocol.sheet import print_code, sheet_code
from tests.bulletin.boards import cursor, events, feed, replica
from tests.bulletin.servers import application, serving
from tests.bulletin.test_stations import check_in_twice
from tests.tamper import builder
from tests.tamper.builder import Election, hold
from verifier.pictures import draw, texts

CHROMIUM = shutil.which("chromium")
AXE = Path(__file__).parents[2] / "node_modules" / "axe-core" / "axe.min.js"
SCREENSHOTS = Path(__file__).parents[2] / "build" / "screenshots"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: apt-get install chromium"),
]

PAGES = ["/", "/find", "/results", "/results/1", "/stations", "/records", "/records/0", "/attempts", "/network", "/verify", "/display", "/nothing", "/stations/1"]  # fmt: skip


def sheets() -> dict[str, str]:
    """Addresses that the codes of station 1's sheets open, and what they are."""
    election = hold().manifest.election_id
    first, last = (sheet_code(one, election) for one in (hold().result_of(1), hold().documents[1]))
    found = {"good": last, "older": first, "wrong": replace(last, papers=(9, 9, 0, 0))}
    return {print_code(code, "/"): f"sheet-{name}" for name, code in found.items()} | {"/stations/1?x": "sheet-none"}


@pytest.fixture(scope="module")
def held() -> Election:
    return hold()


@pytest.fixture(scope="module")
def copy(held, tmp_path_factory) -> Replica:
    return replica(tmp_path_factory.mktemp("board"), held)


@pytest.fixture(scope="module")
def url(copy) -> Iterator[str]:
    with serving(application(copy)) as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def open_page(browser) -> Iterator[Callable[..., Page]]:
    """A page of a new visitor. What the browser itself complains about (a policy that is broken, a script that fails) is a failure."""
    contexts: list[Any] = []
    complaints: list[str] = []

    def opened(address: str, **options: Any) -> Page:
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "console", lambda line: complaints.append(line.text) if "Content Security Policy" in line.text else None
        )
        page.goto(address)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not complaints


def ballots(copy: Replica) -> list[dict[str, Any]]:
    """(hash, state) of every ballot."""
    with copy.store.read() as tx:
        found = list(tx.records(Kind.BALLOT))
        fates = tx.fates_of([record.position for record in found])
    return [{"hash": record.entry.body_hash.hex(), "state": fates[record.position].status.text} for record in found]


def receipt(page: Page, url: str, digest: str) -> dict[str, Any]:
    value: dict[str, Any] = page.request.get(f"{url}/api/v1/receipts/{digest}").json()
    return value


def give(page: Page, value: Any, name: str = "receipt.json") -> None:
    data = value if isinstance(value, bytes) else canonical_json(value)
    page.set_input_files("#receipt-file", {"name": name, "mimeType": "application/json", "buffer": data})


def outcome(page: Page) -> str:
    page.wait_for_selector("section.check[data-state]")
    return page.get_attribute("section.check", "data-state") or ""


def steps(page: Page) -> dict[str, str]:
    return {
        line.get_attribute("data-step"): line.get_attribute("class") for line in page.query_selector_all("[data-step]")
    }


# ---------------------------------------------------------------- the voter


@pytest.mark.parametrize("language", sorted(LANGUAGES))
def test_a_voter_finds_the_ballot_and_the_browser_checks_it(open_page, url, copy, language):
    words = LANGUAGES[language]
    digest = next(ballot["hash"] for ballot in ballots(copy) if ballot["state"] == "counted")
    page = open_page(url, locale=f"{language}-CA")
    assert page.url == f"{url}/{language}/" and page.get_attribute("html", "lang") == language
    page.click(f"nav.pages >> text={words.say('page.find')}")
    page.fill("#q", digest[:20])
    page.press("#q", "Enter")
    assert page.url == f"{url}/{language}/ballots/{digest}"
    assert outcome(page) == "recorded"
    assert steps(page) == {name: "good" for name in ("ballot", "entry", "proof", "board", "head")} | {
        "mirrors": "skipped"
    }
    expect(page.locator("main")).to_contain_text(words.say("fate.counted"))
    expect(page.locator("#check")).to_contain_text(words.say("check.recorded"))
    page.screenshot(path=SCREENSHOTS / f"ballot-{language}.png", full_page=True)


@pytest.mark.parametrize("language", sorted(LANGUAGES))
def test_a_good_receipt_is_right_and_a_superseded_ballot_says_so(open_page, url, copy, language):
    words = LANGUAGES[language]
    superseded = next(ballot["hash"] for ballot in ballots(copy) if ballot["state"] == "superseded")
    page = open_page(f"{url}/{language}/find")
    give(page, receipt(page, url, superseded))
    assert outcome(page) == "good" and set(steps(page).values()) == {"good", "skipped"}
    # recorded is what the receipt proves; whether it counts is another thing, which the ballot's page says
    page.goto(f"{url}/{language}/ballots/{superseded}")
    expect(page.locator("main")).to_contain_text(words.say("state.superseded"))
    assert words.say("state.counted") not in [line.inner_text() for line in page.query_selector_all(".note .state")]


@pytest.mark.parametrize(
    ("change", "failing"),
    [
        (lambda value: value["proof"].__setitem__(0, "ab" * 32), {"proof"}),
        (lambda value: value["head"].__setitem__("root", "cd" * 32), {"proof", "head"}),
        (lambda value: value.__setitem__("position", value["position"] + 1), {"proof"}),
        (lambda value: value.__setitem__("ballot", value["ballot"][:-2] + ("00" if value["ballot"][-2:] != "00" else "01")), {"entry"}),
        (lambda value: value.__setitem__("entry", "05" + value["entry"][2:]), {"entry", "proof"}),
        (lambda value: value["proof"].pop(), {"proof"}),
    ],
    ids=["proof", "head", "position", "ballot", "kind", "short proof"],
)  # fmt: skip
def test_a_forged_receipt_shows_the_step_that_fails(open_page, url, copy, change, failing):
    page = open_page(f"{url}/en/find")
    value = receipt(page, url, ballots(copy)[0]["hash"])
    change(value)
    give(page, value)
    assert outcome(page) == "bad"
    assert {name for name, state in steps(page).items() if state == "bad"} == failing
    expect(page.locator("#check")).to_contain_text("show it to an observer")


def test_a_receipt_of_another_election_is_told_apart(open_page, url, copy):
    page = open_page(f"{url}/en/find")
    value = receipt(page, url, ballots(copy)[0]["hash"])
    value["board"]["election"] = "00" * 32
    give(page, value)
    assert outcome(page) == "elsewhere"


@pytest.mark.parametrize("kind", ["photo", "drawing"])
def test_the_code_of_a_receipt_is_checked_in_the_browser_as_its_file_is(open_page, url, copy, kind):
    page = open_page(f"{url}/en/find")
    superseded = next(ballot["hash"] for ballot in ballots(copy) if ballot["state"] == "superseded")
    drawn = page.request.get(f"{url}/api/v1/receipts/{superseded}.svg").body()
    [code] = texts(drawn)
    picture, mime = {"photo": (draw(code, "png", "x"), "image/png"), "drawing": (drawn, "image/svg+xml")}[kind]
    page.set_input_files("#receipt-file", {"name": "code", "mimeType": mime, "buffer": picture})
    assert outcome(page) == "good"
    assert steps(page) == {name: "good" for name in ("entry", "proof", "board", "head")} | {"ballot": "skipped", "mirrors": "skipped"}  # fmt: skip
    if kind == "drawing":  # and as text, which is easier to change
        right = CompactReceipt.read_code(code)
        for one, state in ((right, "good"), (replace(right, position=right.position + 1), "bad"), (replace(right, contract=bytes(20)), "elsewhere")):  # fmt: skip
            page.goto(f"{url}/en/find")
            give(page, one.code().encode())
            assert outcome(page) == state
        page.goto(f"{url}/en/find")
        give(page, (code[:-1] + ("A" if code[-1] != "A" else "Q")).encode())
        assert outcome(page) == "unreadable"


def test_a_phone_scans_the_code_with_its_camera(open_page, url, copy):
    desk = open_page(f"{url}/en/find")
    assert desk.is_visible("#receipt-file") and not desk.is_visible("#receipt-camera")
    phone = open_page(f"{url}/fr/find", has_touch=True, is_mobile=True, viewport={"width": 390, "height": 844})
    assert phone.is_visible("#receipt-camera") and phone.get_attribute("#receipt-camera", "capture") == "environment"
    [code] = texts(phone.request.get(f"{url}/api/v1/receipts/{ballots(copy)[0]['hash']}.svg").body())
    photo = {"name": "photo.png", "mimeType": "image/png", "buffer": draw(code, "png", "x")}
    phone.set_input_files("#receipt-camera", photo)
    assert outcome(phone) == "good"


def test_without_javascript_a_picture_is_sent_and_a_sheets_code_opens_its_page(open_page, url, copy):
    page = open_page(f"{url}/fr/find", java_script_enabled=False, color_scheme="dark")
    digest = ballots(copy)[0]["hash"]
    [code] = texts(page.request.get(f"{url}/api/v1/receipts/{digest}.svg").body())
    for text, words in ((code, LANGUAGES["fr"].say("receipt.good")), (next(iter(sheets())), LANGUAGES["fr"].say("sheet.says.same"))):  # fmt: skip
        page.goto(f"{url}/fr/find")
        page.click("details.find summary")
        page.set_input_files("#file", {"name": "p.png", "mimeType": "image/png", "buffer": draw(text, "png", "x")})
        page.click(f"text={LANGUAGES['fr'].say('find.file.button')}")
        expect(page.locator("main")).to_contain_text(words)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"format": 1}', b'"x"', b"\xff\xfe", b"null"])
def test_what_is_no_receipt_is_said_to_be_none(open_page, url, data):
    page = open_page(f"{url}/en/find")
    give(page, data)
    assert outcome(page) == "unreadable"


def test_a_board_that_serves_a_false_proof_convicts_itself(open_page, copy):
    """The server says that everything is well; the browser computes that it is not."""
    honest = application(copy)

    async def lying(scope: Any, receive: Any, send: Any) -> None:
        async def send_falsely(message: Any) -> None:
            if message["type"] == "http.response.body" and b'"proof":["' in message.get("body", b""):
                at = message["body"].index(b'"proof":["') + 10
                first = b"1" if message["body"][at : at + 1] == b"0" else b"0"
                message["body"] = message["body"][:at] + first + message["body"][at + 1 :]
            await send(message)

        await honest(scope, receive, send_falsely)

    with serving(lying) as url:
        page = open_page(f"{url}/en/ballots/{ballots(copy)[0]['hash']}")
        assert outcome(page) == "bad" and steps(page)["proof"] == "bad"
        expect(page.locator("#check")).to_contain_text("Do not rely on this board")


def test_other_boards_are_asked_and_one_that_has_seen_another_log_is_noticed(open_page, held, copy, tmp_path):
    short = replica(tmp_path, held, "honest mirror")
    other = replica(tmp_path, hold(until="settle"), "other log")
    digest = ballots(copy)[0]["hash"]
    with serving(application(short)) as agrees, serving(application(other)) as differs:
        with serving(application(copy, [agrees, "http://127.0.0.1:9"])) as url:
            page = open_page(f"{url}/en/ballots/{digest}")
            assert outcome(page) == "recorded" and steps(page)["mirrors"] == "good"
            expect(page.locator("[data-step=mirrors]")).to_contain_text("1 of 1 agree")
        with copy.store.read() as tx:
            size = tx.head().size
        with other.store.read() as tx:
            assert tx.head().size < size  # it does not answer for a head that it has not
        with serving(application(copy, [agrees, differs])) as url:
            page = open_page(f"{url}/en/ballots/{digest}")
            assert outcome(page) == "recorded" and "1 of 1 agree" in page.inner_text("[data-step=mirrors]")

    wrong = application(short)

    async def forked(scope: Any, receive: Any, send: Any) -> None:
        async def send_other(message: Any) -> None:
            if message["type"] == "http.response.body" and message.get("body", b"").startswith(b'{"size":'):
                value = json.loads(message["body"])
                message["body"] = json.dumps(value | {"root": value["root"][::-1]}, separators=(",", ":")).encode()
            await send(message)

        await wrong(scope, receive, send_other)

    with serving(forked) as fork, serving(application(copy, [fork])) as url:
        page = open_page(f"{url}/en/ballots/{digest}")
        assert outcome(page) == "bad" and steps(page)["mirrors"] == "bad"


@pytest.mark.soak
def test_a_static_copy_checks_a_ballot_and_asks_the_board_that_was_copied(open_page, url, copy, tmp_path):
    mirror(url, tmp_path, pages=60)
    handler = partial(SimpleHTTPRequestHandler, directory=tmp_path)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        there = f"http://127.0.0.1:{server.server_port}"
        page = open_page(f"{there}/en/ballots/{ballots(copy)[0]['hash']}/")
        assert outcome(page) == "recorded" and set(steps(page).values()) == {"good"}
        expect(page.locator("[data-step=mirrors]")).to_contain_text("1 of 1 agree")
        page.goto(f"{there}/fr/verify/")
        value = receipt(page, url, ballots(copy)[0]["hash"])
        give(page, value | {"head": value["head"] | {"root": "cd" * 32}})  # the board that was copied knows better
        assert outcome(page) == "bad"
        server.shutdown()


def test_a_station_is_found_on_the_map_by_keyboard_and_its_name_is_shown(open_page, url):
    page = open_page(f"{url}/en/stations", java_script_enabled=False)
    cell = page.locator(".cells a.amended")
    assert cell.locator("span").bounding_box()["width"] < 2
    cell.focus()
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Tab")
    assert cell.locator("span").bounding_box()["width"] > 100
    expect(page.get_by_role("link", name="station 1, Amended")).to_be_focused()
    page.keyboard.press("Enter")
    page.wait_for_url("**/en/stations/1")


# ---------------------------------------------------------------- the observer


def test_an_observer_goes_from_the_result_to_the_command(open_page, url, held):
    page = open_page(f"{url}/en/")
    page.click("nav.pages >> text=Results")
    expect(page.locator("#result")).to_contain_text("gets the same")
    page.get_by_role("link", name="T", exact=True).first.click()
    assert page.url.endswith("/en/results/1#regions")
    page.click("nav.pages >> text=Verify")
    command = page.inner_text("pre code >> nth=0")
    assert command.startswith("ballotboard verify tally --rpc") and held.manifest.election_id.hex() in command
    for row in page.query_selector_all("#assets-title ~ .scroll tbody tr"):
        name, digest = row.inner_text().split()
        served = page.request.get(f"{url}{name}").body()
        assert hashlib.sha256(served).hexdigest() == digest


def test_without_javascript_everything_can_be_read(open_page, url, copy):
    page = open_page(f"{url}/en/", java_script_enabled=False)
    expect(page.locator("#result")).to_contain_text("gets the same")
    page.goto(f"{url}/en/ballots/{ballots(copy)[0]['hash']}")
    assert "needs JavaScript" in page.content()
    assert not page.is_visible(".outcome")


def test_a_whole_journey_by_keyboard(open_page, url, copy):
    digest = ballots(copy)[0]["hash"]
    page = open_page(f"{url}/en/")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "q":
            break
    page.keyboard.type(digest[:16])
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/ballots/{digest}")
    for _ in range(60):
        page.keyboard.press("Tab")
        if "receipts" in (page.evaluate("document.activeElement.getAttribute('href')") or ""):
            break
    with page.expect_download() as download:
        page.keyboard.press("Enter")
    assert json.loads(download.value.path().read_bytes())["format"] == "ballotboard/receipt/v1"


# ---------------------------------------------------------------- election night


def test_the_big_screen_updates_by_itself(open_page, tmp_path, held):
    copy = Replica(Store(f"sqlite:///{tmp_path}/live.sqlite"), held.manifest, builder.CONTRACT)
    copy.attach(held.files)
    log = events(held)
    feed(copy, log[:5])
    with serving(application(copy)) as url:
        page = open_page(f"{url}/en/display")
        expect(page.locator("h1")).to_have_text("Not open yet")
        for event in log[5:]:
            copy.append([event], cursor(event))
        copy.derive()
        expect(page.locator("h1")).to_have_text("The result is announced", timeout=5_000)
        page.screenshot(path=SCREENSHOTS / "display.png")


# ---------------------------------------------------------------- accessibility


EVERY = [(language, scheme) for language in sorted(LANGUAGES) for scheme in ("light", "dark")]

TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


def violations(page: Page, url: str, language: str, scheme: str, addresses: dict[str, str]) -> dict[str, Any]:
    """What axe finds on these pages, by address; a screenshot of each, named as the value says, or for its address."""
    if not AXE.exists():
        pytest.skip("axe-core is not installed: make setup")
    found = {}
    for address, name in addresses.items():
        page.goto(f"{url}/{language}{address}")
        page.add_script_tag(path=AXE)
        result = page.evaluate("tags => axe.run(document, {runOnly: tags})", TAGS)
        if result["violations"]:
            found[address] = [
                (one["id"], [node["html"][:150] for node in one["nodes"]][:3]) for one in result["violations"]
            ]
        name = name or address.strip("/").split("?")[0].replace("/", "-")[:20] or "overview"
        page.screenshot(path=SCREENSHOTS / f"{name}-{language}-{scheme}.png", full_page=True)
    return found


@pytest.mark.parametrize(
    ("language", "scheme"),
    [pytest.param(*one, marks=() if one in EVERY[:1] else pytest.mark.soak) for one in EVERY],
)
def test_axe_finds_nothing_on_any_page(open_page, url, copy, language, scheme):
    """WCAG 2.2 AA, as far as a machine can tell."""
    addresses = dict.fromkeys([*PAGES, *(f"/ballots/{ballot['hash']}" for ballot in ballots(copy)[:3]), "/find?q=3"], "")  # fmt: skip
    page = open_page(f"{url}/{language}/", color_scheme=scheme, bypass_csp=True)
    assert not violations(page, url, language, scheme, addresses)


@pytest.mark.soak
@pytest.mark.parametrize(("language", "scheme"), EVERY)
def test_axe_finds_nothing_on_pages_of_stations_and_sheets_with_and_without_questions(
    open_page, url, tmp_path, language, scheme
):
    page = open_page(f"{url}/{language}/", color_scheme=scheme, bypass_csp=True)
    quiet = {"/stations/0": "", "/flags": ""} | sheets()
    assert not violations(page, url, language, scheme, quiet)
    asked = {"/stations": "asked-stations", "/stations/0": "asked-station", "/flags": "asked-flags", "/display": "asked-display"}  # fmt: skip
    with serving(application(replica(tmp_path, hold(vote=check_in_twice, until="reveal")))) as other:
        assert not violations(page, other, language, scheme, asked)
