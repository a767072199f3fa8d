"""What one client may ask for, who a client is behind a proxy, and that neither lets anybody fill the memory."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulletin import limits
from bulletin.app import create_app
from bulletin.limits import BURST, DOWNLOAD, LIST, POST, Buckets, cost, name, proxies
from chain.console import Connection
from protocol.errors import BallotboardError
from tests.bulletin.boards import replica
from tests.bulletin.pages import Page
from tests.bulletin.servers import serving
from tests.tamper import builder
from tests.tamper.builder import hold

API = "/api/v1"


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    return replica(tmp_path_factory.mktemp("limits"), hold())


def application(copy, rate: float) -> Any:
    return create_app(copy.store, Connection("http://127.0.0.1:8545", "0x" + builder.CONTRACT.hex()), rate=rate)


@contextmanager
def board(copy, rate: float, *trusted: str) -> Iterator[httpx.Client]:
    with (
        serving(application(copy, rate), **proxies(trusted)) as url,
        httpx.Client(base_url=url, trust_env=False) as web,
    ):
        yield web


# ---- the bucket


@given(st.lists(st.tuples(st.floats(0, 5), st.integers(0, 30)), max_size=60), st.floats(0.1, 50))
def test_no_client_is_granted_more_than_a_full_bucket_and_what_has_come_in_since(asked, rate):
    now, granted = 0.0, 0
    buckets = Buckets(rate, lambda: now)
    for pause, tokens in asked:
        now += pause
        wait = buckets.take("client", tokens)
        assert wait >= 0
        granted += 0 if wait else min(tokens, int(max(1, rate * BURST)))
        assert granted <= max(1.0, rate * BURST) + now * rate + 1e-6


@given(st.floats(0.1, 100), st.integers(1, 30))
def test_who_comes_back_when_told_to_is_served(rate, tokens):
    now = 0.0
    buckets = Buckets(rate, lambda: now)
    while not (wait := buckets.take("client", tokens)):
        pass
    now += wait + 1e-6
    assert buckets.take("client", tokens) == 0


def test_a_client_that_asks_too_much_takes_nothing_from_another():
    buckets = Buckets(1, lambda: 0.0)
    assert [buckets.take("one", 1) for _ in range(BURST + 1)] == [0] * BURST + [1] and buckets.take("two", 1) == 0


def test_memory_is_bounded_however_many_addresses_ask(monkeypatch):
    monkeypatch.setattr(limits, "MAX_CLIENTS", 2_000)
    buckets = Buckets(1)
    held = []
    tracemalloc.start()
    for part in range(5):
        for number in range(4_000):
            buckets.take(f"2001:db8:{part}:{number:x}::", 1)
        held.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert len(buckets) == 2_000 and held[-1] < 1.1 * held[0] < 1_000_000


def request(path: str, method: str = "GET", query: bytes = b"", client: str = "192.0.2.1") -> dict[str, Any]:
    return {"type": "http", "path": path, "method": method, "query_string": query, "client": (client, 1), "headers": []}


def test_what_costs_the_board_more_costs_the_client_more():
    assert cost(request("/en/find", "POST")) == POST and cost(request("/archive/0.archive")) == DOWNLOAD
    assert cost(request(f"{API}/records", query=b"limit=1000")) == cost(request("/en/find", query=b"q=1")) == LIST
    assert cost(request(f"{API}/ballots/{'0' * 64}")) == 1
    assert cost(request("/static/board.css")) == cost(request("/healthz")) == 0


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.2", False), ("2001:db8::1", "2001:db8::ffff:2", True), ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True), ("fe80::1%eth0", "fe80::2%eth0", True), ("no address: at all", "x", False),
    ],
)  # fmt: skip
def test_a_client_is_an_address_or_a_subscribers_network(one, other, same):
    assert (name(request("/", client=one)) == name(request("/", client=other))) == same


# ---- the board


def test_who_asks_too_much_is_told_when_to_come_again_in_its_language(copy):
    with board(copy, 1) as web:
        assert web.get("/en/find").status_code == 200
        answers = [web.get(f"{API}/head") for _ in range(BURST)]
        assert answers[-1].status_code == 429 and answers[0].status_code == 200
        told = answers[-1]
        assert told.json()["error"] == 429 and int(told.headers["retry-after"]) >= 1
        for language, words in (("en", "Too many requests"), ("fr", "Trop de demandes")):
            answer = web.get(f"/{language}/find")
            assert answer.status_code == 429 and words in Page(answer.text).text and "retry-after" in answer.headers
            assert "content-security-policy" in answer.headers
        assert web.post("/en/find", data={"receipt": "x"}).status_code == 429
        assert web.get("/healthz").status_code == web.get("/static/board.css").status_code == 200


def test_the_quick_way_to_a_ballot_is_limited_too(copy):
    with copy.store.read() as tx:
        digest = next(tx.records(4)).entry.body_hash.hex()
    with board(copy, 1) as web:
        assert {web.get(f"{API}/ballots/{digest}").status_code for _ in range(BURST + 1)} == {200, 429}


def test_one_client_holds_open_so_many_streams_and_gets_them_back(copy, monkeypatch):
    monkeypatch.setattr(limits, "MAX_LISTENERS", 2)

    async def listen(url: str) -> None:
        async with httpx.AsyncClient(base_url=url, trust_env=False) as web:
            stream = [web.build_request("GET", f"{API}/events") for _ in range(3)]
            held = [await web.send(one, stream=True) for one in stream]
            assert [answer.status_code for answer in held] == [200, 200, 429]
            assert "retry-after" in held[2].headers
            for answer in held:
                await answer.aclose()
            for _ in range(100):
                async with web.stream("GET", f"{API}/events") as again:
                    if again.status_code == 200:
                        return
                await asyncio.sleep(0.02)
            raise AssertionError("the streams that ended still count")

    with serving(application(copy, 1_000)) as url:
        asyncio.run(asyncio.wait_for(listen(url), 20))


# ---- behind a proxy


def until_refused(web: httpx.Client, forwarded: str) -> int:
    """Requests that are answered for this X-Forwarded-For, at most twice as many as a bucket holds."""
    for number in range(2 * BURST):
        if web.get(f"{API}/head", headers={"x-forwarded-for": forwarded.format(number)}).status_code == 429:
            return number
    return 2 * BURST


def test_nobody_gets_more_by_naming_others_in_a_header(copy):
    with board(copy, 1) as web:
        assert until_refused(web, "192.0.2.{}") <= BURST + 2
    with board(copy, 1, "10.0.0.0/8") as web:  # the proxy is elsewhere, so this is no proxy
        assert until_refused(web, "192.0.2.{}") <= BURST + 2


def test_behind_a_proxy_each_client_is_counted_and_what_it_claims_is_not_believed(copy):
    with board(copy, 1, "127.0.0.1", "10.0.0.0/8") as web:
        assert until_refused(web, "198.51.100.7") <= BURST + 2
        assert until_refused(web, "192.0.2.{}, 198.51.100.7") == 0  # the proxy writes its client at the end
        assert until_refused(web, "192.0.2.{}, 198.51.100.7, 10.1.2.3") == 0  # and so does a second one
        assert web.get(f"{API}/head", headers={"x-forwarded-for": "198.51.100.8"}).status_code == 200


def test_what_is_no_address_is_no_proxy():
    for wrong in ("*", "localhost", "10.0.0.1/8", ""):
        with pytest.raises(BallotboardError, match="--trust-proxy"):
            proxies([wrong])


def test_a_board_that_takes_its_proxy_for_a_client_says_so_once(copy, caplog):
    with board(copy, 1) as web:
        for _ in range(3):
            until_refused(web, "192.0.2.{}")
    assert sum("--trust-proxy" in record.getMessage() for record in caplog.records) == 1
