"""The board over HTTP: a JSON API under /api/v1 and pages that work without JavaScript. Read-only: it keeps nothing of who asks for what.

    create_app(store, connection, indexer)      the application; without an indexer it serves what the database holds

No page has a script, an inline style or a cookie, and the policy in its headers allows none, so that text from a manifest can be nothing but text.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import parse_qs

from fastapi import APIRouter, FastAPI, HTTPException, Query, Request, Response
from fastapi import Path as PathParam
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, generate_latest
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException as AnyHTTPException
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bulletin import views, words
from bulletin.indexer import Indexer
from bulletin.store import Reading, Store, StoreError
from bulletin.views import Poll, Value
from chain.console import Connection
from chain.rpc import checksummed
from protocol.credential import SYMBOLS, WrongCode, read_code
from protocol.election import LogRecord
from protocol.encoding import canonical_json
from protocol.errors import BallotboardError
from protocol.receipt import Receipt
from protocol.records import Kind

API = "/api/v1"

MAX_LIMIT = 1_000
"""Rows of one answer: half a megabyte of JSON."""

PAGE = 100
"""Rows of units or stations on a page, and of an answer that names no limit; the rest is to be had as data."""

BALLOTS = 20
"""Ballots on the overview: a screenful; older ones are on further pages."""

MAX_POSITION = 2**53 - 1
"""Largest position: every database, and JavaScript, takes it and the next as a number."""

MAX_RECEIPT = 400_000
"""Bytes of a pasted receipt, form-encoded: the largest ballot is 131,070 hex digits."""

MIN_PREFIX = 8
"""Hex digits of a ballot code that are looked up: with fewer, many ballots begin alike."""

MAX_DIGITS = 15
"""Digits of what is looked up as a number: below MAX_POSITION."""

FOUND = 20
"""Ballots listed that begin with the same digits, or come from one card."""

HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",  # a page's address names a ballot
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}

FOREVER = "public, max-age=31536000, immutable"
"""For what is named by its own hash. Everything else may change with the next record, and is asked for again each time."""

Hash = Annotated[str, PathParam(pattern="^[0-9a-f]{64}$", description="SHA-256 in lower-case hex.")]
Start = Annotated[int, Query(alias="from", ge=0, le=MAX_POSITION, description="First position.")]
Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT, description="Most rows of the answer.")]
KindOption = Annotated[int | None, Query(ge=0, le=max(Kind), description="Records of this kind only.")]


def create_app(store: Store, connection: Connection, indexer: Indexer | None = None) -> FastAPI:
    """The application over this database. `connection` says where an observer's verifier finds the chain."""
    board = _Board(store, connection, indexer)
    app = FastAPI(
        title="Ballotboard bulletin board", version="1", docs_url=None, redoc_url=None, openapi_url=f"{API}/openapi.json",
        description="The public record of one election, as read from its chain. Nothing here has to be believed: `GET /api/v1/verify` says how to check it.",
    )  # fmt: skip
    app.add_middleware(_Headers)
    app.include_router(_api(board), prefix=API, tags=["record"])
    app.include_router(_operation(board), tags=["operation"])
    app.include_router(_pages(board), include_in_schema=False)
    app.mount("/static", StaticFiles(directory=Path(__file__).parent / "static"))
    _errors(app, board)
    return app


# ---------------------------------------------------------------- what every request works with


@dataclass
class _Moment:
    """One snapshot of the database with what the log fixes."""

    tx: Reading
    poll: Poll
    acts: list[LogRecord]
    files: int


class NotYet(BallotboardError):
    """The log is not read, or the election has not come that far."""


class _Board:
    """The database and what is remembered between requests."""

    def __init__(self, store: Store, connection: Connection, indexer: Indexer | None) -> None:
        self.store, self.connection, self.indexer = store, connection, indexer
        self._remembered: dict[str, tuple[Any, Any]] = {}
        templates = Environment(
            loader=FileSystemLoader(Path(__file__).parent / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        templates.globals |= {"say": words.say, "language": words.LANGUAGE, "delay": words.delay, "share": words.share}
        templates.filters |= {"when": words.when, "iso": words.iso, "number": words.number}
        self._templates = templates

    @contextmanager
    def moment(self) -> Iterator[_Moment]:
        """Raises NotYet before record 0 is read."""
        with self.store.read() as tx:
            size, files = tx.head().size, len(tx.attachment_names())
            poll = self.remember("poll", (bool(size), files), lambda: views.read_poll(tx))
            if poll is None:
                raise NotYet(words.say("empty.text"))
            yield _Moment(tx, poll, self.remember("acts", size, tx.acts), files)

    def remember(self, name: str, key: Any, compute: Callable[[], Any]) -> Any:
        """The value of `name`, computed once as long as `key` stays. Two threads may both compute it."""
        held = self._remembered.get(name)
        if held is None or held[0] != key:
            held = self._remembered[name] = (key, compute())
        return held[1]

    def per_head(self, now: _Moment, name: str, compute: Callable[[], Any]) -> Any:
        """A value that only new records, new files, or new answers of the engine can change."""
        tx = now.tx
        key = (tx.head().size, tx.fact("checked"), tx.fact("result"), now.files)
        return self.remember(name, key, compute)

    def stations(self, now: _Moment) -> list[Value]:
        return self.per_head(now, "stations", lambda: views.stations(now.poll, now.acts))

    def result(self, now: _Moment) -> Value:
        return self.per_head(now, "result", lambda: views.result(now.tx, now.poll, now.acts))

    def turnout(self, now: _Moment) -> Value:
        return self.per_head(now, "turnout", lambda: views.turnout(now.tx, now.poll))

    def ballot(self, now: _Moment, digest: str) -> Value | None:
        return views.ballot(
            now.tx, now.poll, bytes.fromhex(digest), self.per_head(now, "papers", lambda: views.papers(now.acts))
        )

    def verify(self, now: _Moment) -> Value:
        """The commands by which anyone checks everything, with this election's values."""
        where = f"--rpc {self.connection.rpc} --contract {checksummed(now.poll.contract)}"
        election_id = now.poll.manifest.election_id.hex()
        return {
            "command": f"ballotboard verify tally {where} --election {election_id}",
            "before_the_result": f"ballotboard verify config {where} --election {election_id}",
            "receipt": f"ballotboard verify receipt FILE {where}",
            "receipt_offline": "ballotboard verify receipt FILE",
            "rpc": self.connection.rpc, "contract": now.poll.contract.hex(), "election": election_id,
        }  # fmt: skip

    @property
    def problem(self) -> str:
        """Why this board is not to be relied on just now, "" if it is."""
        with self.store.read() as tx:
            if alarm := tx.fact("alarm"):
                return alarm
        if self.indexer is None:
            return ""
        return self.indexer.trouble or ("" if self.indexer.synced else "the log is still being read")

    def page(self, template: str, status: int = 200, **values: Any) -> Response:
        """A page with the banner that the state of the board calls for. Opens its own moment for the frame if none is given."""
        if "now" not in values:
            try:
                with self.moment() as now:
                    return self.page(template, status, now=now, **values)
            except (NotYet, StoreError):
                values["now"] = None
        now = values.pop("now")
        frame: Value = {
            "election": views.election_value(now.tx, now.poll, now.acts) if now else None, "trouble": self.indexer.trouble if self.indexer else "",
            "reading": bool(self.indexer and not self.indexer.synced and not self.indexer.trouble), "practice": bool(now and now.poll.manifest.practice),
        }  # fmt: skip
        text = self._templates.get_template(template).render(frame=frame, poll=now.poll if now else None, **values)
        return Response(text, status, media_type="text/html; charset=utf-8")


# ---------------------------------------------------------------- the API


def _api(board: _Board) -> APIRouter:
    api = APIRouter()

    @api.get("/election")
    def election() -> Value:
        """The election: manifest, phase, times (seconds since 1970 UTC), what comes next, head, records by kind, and `alarm` if the board has stopped."""
        with board.moment() as now:
            return views.election_value(now.tx, now.poll, now.acts)

    @api.get("/head")
    def head() -> Value:
        """Size and root of the log, and the last block read."""
        with board.store.read() as tx:
            return views.head_value(tx)

    @api.get("/turnout")
    def turnout() -> Value:
        """Cards on the roll, valid ballots and the cards that they come from, per unit and in all."""
        with board.moment() as now:
            return board.turnout(now)

    @api.get("/records")
    def records(start: Start = 0, limit: Limit = PAGE, kind: KindOption = None) -> Value:
        """Records in log order, without bodies; `next` is the next `from`."""
        with board.moment() as now:
            return views.records(now.tx, now.poll, start, limit, kind)

    @api.get("/records/{position}", responses={404: {"description": "not in the log"}})
    def record(position: Annotated[int, PathParam(ge=0, le=MAX_POSITION)]) -> Value:
        """All of one record: body, signatures, and its inclusion proof against the head."""
        with board.moment() as now:
            return _found(views.record(now.tx, now.poll, position), "the log has no record at this position")

    @api.get("/ballots/{ballot_hash}", responses={404: {"description": "not in the log"}})
    def ballot(ballot_hash: Hash) -> Value:
        """A ballot by its SHA-256: its record, its fate in words, and its inclusion proof. Never a choice: only totals are ever decrypted."""
        with board.moment() as now:
            return _found(board.ballot(now, ballot_hash), "the log has no such ballot")

    @api.get("/receipts/{ballot_hash}", responses={404: {"description": "not in the log"}}, response_model=None)
    def receipt(ballot_hash: Hash) -> Response:
        """A receipt file (docs/protocol.md, section 11) against the present head, for `ballotboard verify receipt`."""
        with board.moment() as now:
            found = _found(
                views.receipt(now.tx, now.poll, bytes.fromhex(ballot_hash)),
                "the log has no such ballot, or not its content",
            )
        name = {"content-disposition": f'attachment; filename="receipt-{ballot_hash[:16]}.json"'}
        return Response(found.body(), headers=name, media_type="application/json")

    @api.get("/counted-set", responses={404: {"description": "not settled"}})
    def counted_set(start: Start = 0, limit: Limit = PAGE) -> Value:
        """What became of every ballot, from position `from` on: root, counts by status, rows. There is none before the settlement."""
        with board.moment() as now:
            return _found(
                views.counted_set(now.tx, start, limit),
                "the counted set is fixed by the settlement, which is not recorded yet",
            )

    @api.get("/stations")
    def stations() -> list[Value]:
        """Every polling station: state, check-ins, and its revisions with their documents once they are revealed."""
        with board.moment() as now:
            return board.stations(now)

    @api.get("/result")
    def result() -> Value:
        """Votes per contest and option. `state` is none, partial or final."""
        with board.moment() as now:
            return board.result(now)

    @api.get("/attachments/{sha256}", responses={404: {"description": "not here"}}, response_model=None)
    def attachment(sha256: Hash, request: Request) -> Response:
        """A file that the record names: units, stations, roll."""
        with board.store.read() as tx:
            data = _found(tx.attachment(bytes.fromhex(sha256)), "no file of this name is published")
        headers = {"etag": f'"{sha256}"', "cache-control": FOREVER}
        if request.headers.get("if-none-match") == headers["etag"]:
            return Response(status_code=304, headers=headers)
        return Response(data, headers=headers, media_type="application/octet-stream")

    @api.get("/verify")
    def verify() -> Value:
        """The commands to run, so that this board need not be believed."""
        with board.moment() as now:
            return board.verify(now)

    return api


def _found(value: Any, otherwise: str) -> Any:
    if value is None:
        raise HTTPException(404, otherwise)
    return value


# ---------------------------------------------------------------- operation


def _operation(board: _Board) -> APIRouter:
    router = APIRouter()
    registry = CollectorRegistry()

    def gauge(name: str, what: str) -> Gauge:
        return Gauge(f"ballotboard_board_{name}", what, registry=registry)

    records, checked = (
        gauge("records", "Records of the log that are indexed"),
        gauge("checked", "Positions up to which ballots are checked"),
    )
    block, time = (
        gauge("block", "Number of the last block read"),
        gauge("block_time_seconds", "Chain time of the last block read"),
    )
    alarm, ready = (
        gauge("alarm", "1 when the board has stopped"),
        gauge("ready", "1 when the board is at the head of a chain that answers"),
    )

    @router.get("/healthz")
    def healthz() -> Value:
        """200 while the process lives."""
        return {"alive": True}

    @router.get("/readyz", responses={503: {"description": "and why"}}, response_model=None)
    def readyz() -> Response:
        """200 when the log is read to the chain's head and nothing is wrong; else 503 and why. A board with an alarm goes on serving its pages, which show it."""
        return JSONResponse({"ready": not board.problem, "problem": board.problem}, 503 if board.problem else 200)

    @router.get("/metrics", response_model=None)
    def metrics() -> Response:
        """For Prometheus."""
        with board.store.read() as tx:
            cursor = tx.cursor()
            records.set(tx.head().size)
            checked.set(tx.fact("checked") or 0)
            alarm.set(bool(tx.fact("alarm")))
        block.set(cursor.number if cursor else 0)
        time.set(cursor.time if cursor else 0)
        ready.set(not board.problem)
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return router


# ---------------------------------------------------------------- the pages


def _pages(board: _Board) -> APIRouter:
    pages = APIRouter()

    @pages.get("/")
    def overview(before: Annotated[int | None, Query(ge=0, le=MAX_POSITION)] = None) -> Response:
        with board.moment() as now:
            return board.page(
                "overview.html", now=now, result=board.result(now), turnout=board.turnout(now), stations=board.stations(now),
                ballots=views.ballot_lines(now.tx, before, BALLOTS), before=before, counted=views.counted_set(now.tx, 0, 1), verify=board.verify(now), limit=PAGE,
            )  # fmt: skip

    @pages.get("/ballots/{ballot_hash}")
    def ballot(ballot_hash: str) -> Response:
        return show(ballot_hash) or board.page("not-found.html", 404, reason="find.none")

    @pages.get("/find")
    def find(q: str = "") -> Response:
        return search(q)

    @pages.post("/find")
    async def check(request: Request) -> Response:
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_RECEIPT:
                return await run_in_threadpool(unreadable, words.say("find.too-long"))
        fields = parse_qs(body.decode(errors="replace"))
        given = fields.get("receipt", [""])[0]
        return await run_in_threadpool(compare if "{" in given else search, given)

    def unreadable(problem: str) -> Response:
        return board.page("not-found.html", 400, reason="find.bad", problem=problem)

    def show(digest: str, steps: list[tuple[str, bool | None]] | None = None) -> Response | None:
        """The page of a ballot, with the steps of a receipt's check if one was given. None if there is no such ballot."""
        if len(digest) != 64 or not _is_hex(digest):
            return None
        with board.moment() as now:
            found = board.ballot(now, digest)
            return (
                board.page("ballot.html", now=now, ballot=found, steps=steps, verify=board.verify(now))
                if found
                else None
            )

    def search(text: str) -> Response:
        """By all digits of a ballot code or the first of them, by position, or by the roll index of a card."""
        text = "".join(text.split()).replace(",", "").lower().removeprefix("0x")
        if not _is_hex(text) and _is_code(text):
            return board.page("not-found.html", 400, reason="find.is-secret")
        number = text.isascii() and text.isdecimal() and len(text) <= MAX_DIGITS
        prefix = MIN_PREFIX <= len(text) <= 64 and _is_hex(text)
        with board.moment() as now:
            if not (number or prefix):
                return board.page("not-found.html", 400, now=now, reason="find.unknown")
            numbered = views.by_number(now.tx, int(text), FOUND) if number else []
            begun = views.by_prefix(now.tx, text, FOUND) if prefix else []
            if len(begun) == 1 and not numbered:
                return RedirectResponse(f"/ballots/{begun[0]['hash']}", 303)
            if numbered or begun:
                return board.page("several.html", now=now, lines=numbered + begun)
            return board.page("not-found.html", 404, now=now, reason="find.none" if prefix else "find.none.number")

    def compare(text: str) -> Response:
        """A pasted receipt against this log."""
        try:
            given = Receipt.parse(canonical_json(json.loads(text)))  # a mail program may have broken its lines
        except (BallotboardError, ValueError, RecursionError) as error:
            return unreadable(" ".join(str(error).split())[:200])
        with board.moment() as now:
            steps = views.check_receipt(now.tx, now.poll, given)
        if all(ok for _, ok in steps) and (shown := show(given.ballot_hash.hex(), steps)):
            return shown
        return board.page("receipt.html", 409, steps=steps)

    return pages


def _is_hex(text: str) -> bool:
    return all(digit in "0123456789abcdef" for digit in text)


def _is_code(text: str) -> bool:
    """Whether it is a voting code, with or without the card's serial in front."""
    try:
        read_code(text.replace("-", "")[-SYMBOLS - 1 :])
    except WrongCode:
        return False
    return True


# ---------------------------------------------------------------- errors and headers


def _errors(app: FastAPI, board: _Board) -> None:
    """Errors as JSON `{"error", "detail"}` under the API, as pages elsewhere."""

    def answer(request: Request, status: int, detail: str) -> Response:
        if request.url.path.startswith((API, "/healthz", "/readyz", "/metrics")):
            return JSONResponse({"error": status, "detail": detail}, status)
        return board.page("error.html", status, number=status, detail=detail)

    @app.exception_handler(AnyHTTPException)
    def http(request: Request, error: AnyHTTPException) -> Response:
        return answer(request, error.status_code, str(error.detail))

    @app.exception_handler(RequestValidationError)
    def invalid(request: Request, error: RequestValidationError) -> Response:
        return answer(request, 422, "; ".join(f"{one['loc'][-1]}: {one['msg']}" for one in error.errors()))

    @app.exception_handler(NotYet)
    def not_yet(request: Request, error: NotYet) -> Response:
        found = answer(request, 503, str(error))
        found.headers["retry-after"] = "2"
        return found

    @app.exception_handler(StoreError)
    def store(request: Request, error: StoreError) -> Response:
        return answer(request, 503, str(error))


class _Headers:
    """Puts the security headers on every answer, and how long it may be kept on those that do not say."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.headers = [(name.encode(), value.encode()) for name, value in HEADERS.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *self.headers]
                if all(name != b"cache-control" for name, _ in message["headers"]):
                    message["headers"].append((b"cache-control", b"no-cache"))
            await send(message)

        await self.app(scope, receive, send_with_headers)
