"""The board over HTTP: a JSON API under /api/v1 and pages that work without JavaScript. Read-only: it keeps nothing of who asks for what.

    create_app(store, connection, indexer)      the application; without an indexer it serves what the database holds

No page has an inline script or style or a cookie, and the policy in its headers allows none, so that text from a manifest can be nothing but text. What
scripts there are (static/) check receipts in the browser and refresh the big screen; everything can be read without them.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import parse_qs, urlsplit

from fastapi import APIRouter, FastAPI, HTTPException, Query, Request, Response
from fastapi import Path as PathParam
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, RedirectResponse, StreamingResponse
from fastapi.routing import APIRoute
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from nacl.signing import SigningKey
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, generate_latest
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException as AnyHTTPException
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bulletin import regions, uploads, views
from bulletin import stations as places
from bulletin.archivist import Archivist
from bulletin.archivist import value as archive_value
from bulletin.checkpoint import NoSuchTile, checkpoint, entries, origin, tile, verifier_key
from bulletin.feed import MAX_LISTENERS, Feed
from bulletin.indexer import Indexer
from bulletin.limits import Limiter
from bulletin.store import Cursor, Reading, Store, StoreError
from bulletin.views import Poll, Value
from bulletin.words import ENGLISH, LANGUAGES, Words, iso, negotiate
from chain.console import Connection
from chain.network.status import consensus
from chain.rpc import checksummed
from protocol.credential import SYMBOLS, WrongCode, read_code
from protocol.election import LogRecord
from protocol.encoding import canonical_json
from protocol.errors import BallotboardError
from protocol.paper import StationResult
from protocol.receipt import CODE_PREFIX, CompactReceipt, Receipt
from protocol.records import Kind
from protocol.sheet import BadSheetCode, read_sheet_code
from verifier import picture, sheets
from verifier import pictures as picture_files
from verifier.pictures import NoCode

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
    "content-security-policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'{boards}; form-action 'self';"
    " base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",  # a page's address names a ballot
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}

RECORDS = 50
"""Records on a page."""

BLOCKS = 20
"""Blocks with records on the page of the network."""

CONSENSUS_POLL = 5
"""Seconds for which a validator's answer is good: pages must not become load for it."""

STATIC = Path(__file__).parent / "static"

ASSETS = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(STATIC.iterdir())}
"""SHA-256 of every file that a page loads."""

PUBLIC = (API, "/checkpoint", "/tile", "/archive")
"""What the pages of other boards may read: what the record says, the same for everyone."""

FOREVER = "public, max-age=31536000, immutable"
"""For what is named by its own hash. Everything else may change with the next record, and is asked for again each time."""

Hash = Annotated[str, PathParam(pattern="^[0-9a-f]{64}$", description="SHA-256 in lower-case hex.")]
TilePath = Annotated[
    str,
    PathParam(
        pattern=r"^(x[0-9]{3}/){0,6}[0-9]{3}(\.p/[1-9][0-9]{0,2})?$", description="As C2SP tlog-tiles writes a number."
    ),
]
Start = Annotated[int, Query(alias="from", ge=0, le=MAX_POSITION, description="First position.")]
Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT, description="Most rows of the answer.")]
KindOption = Annotated[int | None, Query(ge=0, le=max(Kind), description="Records of this kind only.")]


def create_app(
    store: Store, connection: Connection, indexer: Indexer | None = None, key: SigningKey | None = None,
    archivist: Archivist | None = None, rate: float = 0,
) -> FastAPI:  # fmt: skip
    """The application over this database. `connection` says where an observer's verifier finds the chain, `key` signs checkpoints (else one
    that is drawn now), `archivist` keeps the archive; `rate` is what one client
    may ask for a second (bulletin.limits), 0 for no limit."""
    board = _Board(store, connection, indexer, key or SigningKey.generate(), archivist)
    app = FastAPI(
        title="Ballotboard bulletin board", version="1", docs_url=None, redoc_url=None, openapi_url=f"{API}/openapi.json",
        description="The public record of one election, as read from its chain. Nothing here has to be believed: `GET /api/v1/verify` says how to check it.",
    )  # fmt: skip
    app.add_middleware(_LookUp, board=board)
    if rate:
        app.add_middleware(Limiter, rate=rate, refuse=board.too_much, events=f"{API}/events")
    app.add_middleware(_Headers, boards=connection.boards)
    app.include_router(_api(board), prefix=API, tags=["record"])
    app.include_router(_tiles(board), tags=["transparency log"])
    app.include_router(_archive(board), tags=["archive"])
    app.include_router(_operation(board), tags=["operation"])
    pages = _pages(board)
    for language in LANGUAGES:
        app.include_router(pages, prefix=f"/{language}", include_in_schema=False)
    app.include_router(_negotiated(pages), include_in_schema=False)
    app.mount("/static", StaticFiles(directory=STATIC))
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

    @property
    def time(self) -> int:
        """Of the last block."""
        return (self.tx.cursor() or Cursor(0, b"", 0)).time

    @property
    def early(self) -> bool:
        """Whether the embargo on stations' figures has not ended yet."""
        return self.time < self.poll.manifest.windows.reveal_not_before


class NotYet(BallotboardError):
    """The log is not read, or the election has not come that far."""


class _Board:
    """The database and what is remembered between requests."""

    def __init__(
        self, store: Store, connection: Connection, indexer: Indexer | None, key: SigningKey, archivist: Archivist | None = None
    ) -> None:  # fmt: skip
        self.store, self.connection, self.indexer, self.key, self.archivist = store, connection, indexer, key, archivist
        self.feed, self.uploads = Feed(store), uploads.Uploads()
        self._remembered: dict[str, tuple[Any, Any]] = {}
        self._templates = {language: _templates(words) for language, words in LANGUAGES.items()}

    @contextmanager
    def moment(self) -> Iterator[_Moment]:
        """Raises NotYet before record 0 is read."""
        with self.store.read() as tx:
            size, files = tx.head().size, len(tx.attachment_names())
            poll = self.remember("poll", (bool(size), files), lambda: views.read_poll(tx))
            if poll is None:
                raise NotYet
            yield _Moment(tx, poll, self.remember("acts", size, tx.acts), files)

    def remember(self, name: str, key: Any, compute: Callable[[], Any]) -> Any:
        """The value of `name`, computed once as long as `key` stays. Two threads may both compute it."""
        held = self._remembered.get(name)
        if held is None or held[0] != key:
            held = self._remembered[name] = (key, compute())
        return held[1]

    def per_head(self, now: _Moment, name: str, compute: Callable[[], Any], *more: Any) -> Any:
        """A value that only new records, new files, or new answers of the engine can change, or `more` that it depends on."""
        tx = now.tx
        key = (tx.head().size, tx.fact("checked"), tx.fact("result"), now.files, *more)
        return self.remember(name, key, compute)

    def stations(self, now: _Moment) -> list[Value]:
        return self.per_head(now, "stations", lambda: views.stations(now.poll, now.acts))

    def result(self, now: _Moment) -> Value:
        """With the groups of each contest, once they are decrypted."""

        def compute() -> Value:
            value, online = views.result(now.tx, now.poll, now.acts, self.standing(now)), self.online(now)
            for number, contest in enumerate(value["contests"]):
                contest["groups"] = None if online is None else regions.group_values(now.poll.units, online[number])
            return value

        return self.per_head(now, "result", compute)

    def online(self, now: _Moment) -> regions.Online | None:
        return self.per_head(now, "online", lambda: regions.decrypted(now.tx, now.poll, now.acts))

    def known(self, now: _Moment) -> picture.Known | None:
        """What the central picture is drawn from; None while a list that it needs is not published."""
        return self.per_head(
            now, "known", lambda: places.known(now.tx, now.poll, now.acts, self.turnout(now), now.early), now.early
        )

    def flags(self, now: _Moment) -> list[Value]:
        """What there is to ask about. Some of it comes with time alone, so it is looked at again every minute of the chain's clock."""
        known = self.known(now)
        when = (now.time // 60, now.early)
        return self.per_head(now, "flags", lambda: places.flags(known, now.time) if known else [], when)

    def station(self, now: _Moment, number: int) -> Value | None:
        """None for what is no station."""
        if number >= len(now.poll.stations):
            return None
        return places.station(now.poll, self.stations(now)[number], self.known(now), self.flags(now), now.early)

    def turnout(self, now: _Moment) -> Value:
        return self.per_head(now, "turnout", lambda: views.turnout(now.tx, now.poll))

    def ballot(self, now: _Moment, digest: str, words: Words = ENGLISH) -> Value | None:
        return views.ballot(now.tx, now.poll, bytes.fromhex(digest), self.papers(now), words)

    def papers(self, now: _Moment) -> dict[int, tuple[int, int]]:
        return self.per_head(now, "papers", lambda: views.papers(now.acts))

    def timeline(self, now: _Moment) -> Value:
        return self.per_head(now, "timeline", lambda: views.timeline(now.tx))

    def attempts(self, now: _Moment) -> Value:
        return self.per_head(now, "attempts", lambda: views.attempts(now.tx, len(self.papers(now))))

    def standing(self, now: _Moment) -> dict[int, StationResult]:
        known = self.known(now)
        return known.standing if known else self.per_head(now, "standing", lambda: views.standing(now.poll, now.acts))

    def region(self, now: _Moment, unit: int) -> Value | None:
        """None for what is no unit."""
        return regions.region(now.poll, self.regions(now), unit) if unit < len(now.poll.units) else None

    def regions(self, now: _Moment) -> list[Value]:
        standing, turnout, online = self.standing(now), self.turnout(now), self.online(now)
        return self.per_head(now, "regions", lambda: regions.regions(now.poll, standing, turnout, online))

    def table(self, now: _Moment) -> bytes:
        """The results by region, for a spreadsheet."""
        return self.per_head(now, "table", lambda: regions.table(now.poll, self.regions(now), self.result(now)))

    def network(self, now: _Moment) -> Value:
        """The validators of the manifest, the latest blocks with records, and who signed lately if there is a validator to ask."""
        consensus = None
        if now.poll.manifest.validators and self.connection.comet:
            consensus = self.remember("consensus", int(time.monotonic() / CONSENSUS_POLL), self._ask_validator)
        signed = {member["key"]: member for member in consensus["members"]} if consensus else {}
        return {
            "engine": now.poll.manifest.engine, "asked": bool(self.connection.comet), "consensus": consensus,
            "validators": [
                {"key": v.key.hex(), "power": v.power, "signed": signed[v.key.hex()]["signed"] if v.key.hex() in signed else None}
                for v in now.poll.manifest.validators
            ],
            "blocks": [
                {"number": place.block, "hash": place.block_hash.hex(), "size": place.size, "root": place.root.hex()}
                for place in now.tx.latest(BLOCKS)
            ],
        }  # fmt: skip

    def _ask_validator(self) -> Value | None:
        try:
            return consensus(self.connection.comet).value()
        except BallotboardError:
            return None

    def verify(self, now: _Moment) -> Value:
        """The commands by which anyone checks everything, with this election's values."""
        where = f"--rpc {self.connection.rpc} --contract {checksummed(now.poll.contract)}"
        election_id = now.poll.manifest.election_id.hex()
        return {
            "command": f"ballotboard verify tally {where} --election {election_id}",
            "before_the_result": f"ballotboard verify config {where} --election {election_id}",
            "receipt": f"ballotboard verify receipt FILE {where}",
            "receipt_offline": "ballotboard verify receipt FILE",
            "rpc": self.connection.rpc, "contract": now.poll.contract.hex(), "election": election_id, "assets": ASSETS,
            "boards": self.connection.boards, "archive": archive_value(self.archivist, Kind.CLOSE in {act.kind for act in now.acts}),
            "archive_command": f"ballotboard verify tally {election_id}.archive --election {election_id}",
            "checkpoint_key": verifier_key(origin(now.poll.manifest.election_id), self.key),
        }  # fmt: skip

    async def too_much(self, scope: Scope, wait: int) -> Response:
        """To who asks too much: to come again in `wait` seconds. Asks nothing of the database."""
        request, headers = Request(scope), {"retry-after": f"{wait}"}
        words, _ = _language(request)
        text = words.say("error.429", seconds=wait)
        if _for_programs(request):
            return JSONResponse({"error": 429, "detail": text}, 429, headers)
        answer = self.page(request, "error.html", 429, now=None, number=429, detail=text)
        answer.headers.update(headers)
        return answer

    @property
    def problem(self) -> str:
        """Why this board is not to be relied on just now, "" if it is."""
        with self.store.read() as tx:
            if alarm := tx.fact("alarm"):
                return alarm
        if self.indexer is None:
            return ""
        return self.indexer.trouble or ("" if self.indexer.synced else "the log is still being read")

    def page(self, request: Request, template: str, status: int = 200, **values: Any) -> Response:
        """A page in the language of the request, with the banner that the state of the board calls for. Opens its own moment for the frame
        if none is given. `here` is the address of the page in other languages, if not that of the request."""
        if "now" not in values:
            try:
                with self.moment() as now:
                    return self.page(request, template, status, now=now, **values)
            except (NotYet, StoreError):
                values["now"] = None
        now = values.pop("now")
        words, here = _language(request)
        here = values.pop("here", here)
        frame: Value = {
            "election": views.election_value(now.tx, now.poll, now.acts) if now else None, "trouble": self.indexer.trouble if self.indexer else "",
            "reading": bool(self.indexer and not self.indexer.synced and not self.indexer.trouble), "practice": bool(now and now.poll.manifest.practice),
            "here": here, "page": here.partition("?")[0].split("/")[1],
        }  # fmt: skip
        found = self._templates[words.language].get_template(template)
        text = found.render(frame=frame, poll=now.poll if now else None, **values)
        return Response(
            text, status, headers={"content-language": words.language}, media_type="text/html; charset=utf-8"
        )


def _templates(words: Words) -> Environment:
    """The pages in one language. `link` makes an address of this board from a path: the same page of the same language."""
    found = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.globals |= {
        "say": words.say, "delay": words.delay, "span": words.span, "share": words.share, "language": words.language, "languages": LANGUAGES, "severities": places.RULES_HERE,
        "link": lambda path: f"/{words.language}{path}",
    }  # fmt: skip
    found.filters |= {"when": words.when, "iso": iso, "number": words.number}
    return found


def _language(request: Request) -> tuple[Words, str]:
    """The language that the address names, else the browser's, and the rest of the address."""
    first, _, rest = request.url.path.removeprefix("/").partition("/")
    query = f"?{request.url.query}" if request.url.query else ""
    if first in LANGUAGES:
        return LANGUAGES[first], f"/{rest}{query}"
    return LANGUAGES[negotiate(request.headers.get("accept-language", ""))], request.url.path + query


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

    @api.get("/receipts/{ballot_hash}.svg", responses={404: {"description": "not in the log"}}, response_model=None)
    def receipt_code(ballot_hash: Hash) -> Response:
        """The same as a QR code (docs/protocol.md, section 11): without the ballot, which is not needed to prove that it is recorded."""
        with board.moment() as now:
            found = _found(
                views.compact_receipt(now.tx, now.poll, bytes.fromhex(ballot_hash)), "the log has no such ballot"
            )
        drawn = picture_files.draw(found.code(), "svg", f"Receipt of ballot {ballot_hash}")
        name = {"content-disposition": f'inline; filename="receipt-{ballot_hash[:16]}.svg"'}
        return Response(drawn, headers=name, media_type="image/svg+xml")

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
        """Every polling station: state, and its revisions with their documents once they are revealed. Check-ins are told once the embargo ends."""
        with board.moment() as now:
            return [{**one, "check_ins": None} for one in board.stations(now)] if now.early else board.stations(now)

    @api.get("/stations/{number}", responses={404: {"description": "no such station"}})
    def station(number: Annotated[int, PathParam(ge=0, le=MAX_POSITION)]) -> Value:
        """One polling station: its officers, its revisions with who signed them (addresses recovered from the signatures), and what there is to ask about.
        Check-ins are told once the embargo ends."""
        with board.moment() as now:
            return _found(board.station(now, number), "the list of stations has no such number")

    @api.get("/flags")
    def flags(
        start: Annotated[int, Query(alias="from", ge=0, le=MAX_POSITION, description="Number of the first flag.")] = 0,
        limit: Limit = PAGE,
        rule: Annotated[str, Query(pattern="^[a-z-]*$", max_length=20, description="Flags of this rule only.")] = "",
    ) -> Value:
        """What there is to ask about, each with the figures behind it. A flag is a question to ask and no verdict. Before the embargo ends, only about who has reported."""
        with board.moment() as now:
            return {"at": now.time, **places.page_of_flags(board.flags(now), start, limit, rule)}

    @api.get("/result")
    def result() -> Value:
        """Votes per contest and option. `state` is none, partial or final. `groups` are those that the online votes were decrypted for, with the regions
        that make them up; None before a result that this board has found right."""
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

    @api.get("/timeline")
    def timeline() -> Value:
        """Ballots recorded over time: their counts in steps of `step` seconds from `start`."""
        with board.moment() as now:
            return board.timeline(now)

    @api.get("/attempts")
    def attempts() -> Value:
        """What was tried, in numbers: ballots that are not valid, copies, cards by their number of valid ballots, cards checked in on paper."""
        with board.moment() as now:
            return board.attempts(now)

    @api.get("/regions/{unit}", responses={404: {"description": "no such unit"}})
    def region(unit: Annotated[int, PathParam(ge=0, le=MAX_POSITION)]) -> Value:
        """A unit and the units right under it: turnout online, stations, the paper votes of the stations that were revealed, and the online votes, as far as
        they were decrypted for this region: else `state` is "together", and `groups` names the groups of the result."""
        with board.moment() as now:
            return _found(board.region(now, unit), "the list of units has no such number")

    @api.get("/results.csv", response_model=None)
    def table(request: Request) -> Response:
        """The results by region, contest and option as CSV, for a spreadsheet. Empty cells are what is not known."""
        with board.moment() as now:
            data, name = board.table(now), f"results-{now.poll.manifest.election_id.hex()[:16]}.csv"
        headers = {"etag": f'"{hashlib.sha256(data).hexdigest()}"'} | _named(name)
        if request.headers.get("if-none-match") == headers["etag"]:
            return Response(status_code=304, headers=headers)
        return Response(data, headers=headers, media_type="text/csv; charset=utf-8")

    @api.get("/network")
    def network() -> Value:
        """The validators, who of them signed the latest blocks, and the blocks with the latest records."""
        with board.moment() as now:
            return board.network(now)

    @api.get("/heads/{size}", responses={404: {"description": "the log is not that long yet"}}, response_model=None)
    def head_at(size: Annotated[int, PathParam(ge=1, le=MAX_POSITION)]) -> Response:
        """The root that the log had with its first `size` records: for comparing boards. It never changes."""
        with board.store.read() as tx:
            if size > tx.head().size:
                raise HTTPException(404, "the log is not that long yet")
            return JSONResponse({"size": size, "root": tx.root(size).hex()}, headers={"cache-control": FOREVER})

    @api.get("/events", responses={503: {"description": "too many listen"}}, response_model=None)
    async def events(request: Request) -> Response:
        """Server-sent events: `head`, `ballots` and `stations` when there is something new; the id is the size of the log."""
        if board.feed.listeners >= MAX_LISTENERS:
            raise HTTPException(503, "too many listen to this board: ask again later", {"retry-after": "5"})
        last = request.headers.get("last-event-id", "")
        stream = board.feed.events(
            int(last) if last.isascii() and last.isdecimal() and len(last) <= MAX_DIGITS else None
        )
        return StreamingResponse(stream, media_type="text/event-stream", headers={"cache-control": "no-store"})

    @api.get("/verify")
    def verify() -> Value:
        """The commands to run, so that this board need not be believed, and the archive: its file's address, SHA-256 and what log it holds."""
        with board.moment() as now:
            return board.verify(now)

    return api


def _tiles(board: _Board) -> APIRouter:
    """C2SP tlog-tiles."""
    router = APIRouter()
    not_there: dict[int | str, Value] = {404: {"description": "no such tile, or the log is not that long yet"}}

    @router.get("/checkpoint", response_model=None)
    def signed_head() -> Response:
        """The head of the log as this board shows it, signed (C2SP tlog-checkpoint)."""
        with board.moment() as now:
            note = checkpoint(origin(now.poll.manifest.election_id), now.tx.head(), board.key)
        return Response(note, media_type="text/plain; charset=utf-8")

    def answer(read: Callable[[Reading], bytes]) -> Response:
        with board.store.read() as tx:
            try:
                return Response(read(tx), headers={"cache-control": FOREVER}, media_type="application/octet-stream")
            except NoSuchTile as error:
                raise HTTPException(404, str(error)) from error

    @router.get("/tile/entries/{path:path}", responses=not_there, response_model=None)
    def entry_bundle(path: TilePath) -> Response:
        """Log entries, 40 bytes each behind a u16 length."""
        return answer(lambda tx: entries(tx, path))

    @router.get("/tile/{level}/{path:path}", responses=not_there, response_model=None)
    def hash_tile(level: Annotated[int, PathParam(ge=0, le=7)], path: TilePath) -> Response:
        """Hashes of the tree, 256 in a full tile."""
        return answer(lambda tx: tile(tx, level, path))

    return router


def _archive(board: _Board) -> APIRouter:
    router = APIRouter()

    @router.head("/archive/{election}.archive", include_in_schema=False)
    @router.get(
        "/archive/{election}.archive", response_model=None,
        responses={206: {"description": "the range that was asked for"}, 404: {"description": "there is none"}, 416: {"description": "no such range"}},
    )  # fmt: skip
    def archive(request: Request, election: Hash) -> Response:
        """The whole record in one file, for `ballotboard verify tally`; with ranges, so that a download can go on where it stopped. Its ETag is its SHA-256."""
        keeper = board.archivist
        held = keeper.held if keeper and keeper.election == election else None
        if keeper is None or held is None:
            raise HTTPException(404, (keeper.trouble if keeper else "") or "there is no archive here yet")
        headers = {"etag": f'"{held.sha256}"'}
        if request.headers.get("if-none-match") == headers["etag"]:
            return Response(status_code=304, headers=headers)
        path = keeper.path(held)
        headers |= _named(f"{election}.archive")
        return FileResponse(path, headers=headers, media_type="application/octet-stream", stat_result=path.stat())

    return router


def _named(file: str) -> dict[str, str]:
    """What a browser calls the file that it keeps."""
    return {"content-disposition": f'attachment; filename="{file}"'}


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

    archive = gauge("archive_records", "Records in the archive that is offered, 0 if there is none")

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
        held = board.archivist.held if board.archivist else None
        archive.set(held.size if held else 0)
        block.set(cursor.number if cursor else 0)
        time.set(cursor.time if cursor else 0)
        ready.set(not board.problem)
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return router


# ---------------------------------------------------------------- the pages


def _pages(board: _Board) -> APIRouter:
    pages = APIRouter()

    @pages.get("/")
    def overview(request: Request, before: Annotated[int | None, Query(ge=0, le=MAX_POSITION)] = None) -> Response:
        with board.moment() as now:
            return board.page(
                request, "overview.html", now=now, result=board.result(now), turnout=board.turnout(now), stations=board.stations(now), timeline=board.timeline(now),
                ballots=views.ballot_lines(now.tx, before, BALLOTS), before=before, counted=views.counted_set(now.tx, 0, 1), verify=board.verify(now), limit=PAGE,
            )  # fmt: skip

    @pages.get("/ballots/{ballot_hash}")
    def ballot(request: Request, ballot_hash: str) -> Response:
        return show(request, ballot_hash) or board.page(request, "not-found.html", 404, reason="find.none")

    @pages.get("/results")
    def results(request: Request) -> Response:
        return of_region(request, 0)

    @pages.get("/results/{unit}")
    def of_region(request: Request, unit: Annotated[int, PathParam(ge=0, le=MAX_POSITION)]) -> Response:
        with board.moment() as now:
            region = board.region(now, unit) if now.poll.units else None
            if region is None and unit:
                raise HTTPException(404, "the list of units has no such number")
            return board.page(
                request, "results.html", now=now, result=board.result(now), stations=board.stations(now), region=region,
                counted=views.counted_set(now.tx, 0, 1), turnout=board.turnout(now),
            )  # fmt: skip

    @pages.get("/stations")
    def stations(
        request: Request,
        q: str = "",
        state: str = "",
        start: Annotated[int, Query(alias="from", ge=0, le=MAX_POSITION)] = 0,
    ) -> Response:
        with board.moment() as now:
            every = board.stations(now)
            wanted = q.casefold().strip()
            found = [
                one for one in every
                if state in ("", one["state"]) and (wanted in one["name"].casefold() or wanted in one["unit_name"].casefold())
            ]  # fmt: skip
            return board.page(
                request, "stations.html", now=now, stations=found[start : start + PAGE], of=len(every), found=len(found), q=q[:100], state=state, start=start,
                step=PAGE, result=board.result(now), counts=places.page_of_flags(board.flags(now), 0, 0)["counts"], asked=places.by_station(board.flags(now)), early=now.early,
            )  # fmt: skip

    @pages.get("/stations/{number}")
    def station(request: Request, number: Annotated[int, PathParam(ge=0, le=MAX_POSITION)]) -> Response:
        """The page of a station or, with the code of a printed sheet behind it, of that sheet."""
        if request.url.query:
            return sheet(request, f"/stations/{number}?{request.url.query}")
        with board.moment() as now:
            found = _found(board.station(now, number), "the list of stations has no such number")
            lines = [places.flag_line(flag, now.poll, _language(request)[0]) for flag in found["flags"]]
            return board.page(request, "station.html", now=now, station=found, flags=lines, early=now.early)

    def sheet(request: Request, text: str) -> Response:
        """A printed result sheet against the record. 400 for what is no code of one, 409 for a sheet that is not what was signed."""
        try:
            code = read_sheet_code(text)
        except BadSheetCode:
            return board.page(request, "sheet.html", 400, found=None, here="/stations")
        with board.moment() as now:
            known = board.known(now)
            if known is None:
                raise NotYet
            found = sheets.compare(known, code)
            name = now.poll.stations[code.station].name if code.station < len(now.poll.stations) else None
            return board.page(
                request, "sheet.html", 200 if found.good else 409, now=now, found=found, name=name, parts_of_sheet=places.sheet_parts(now.poll, found)
            )  # fmt: skip

    @pages.get("/flags")
    def flags(
        request: Request, rule: str = "", start: Annotated[int, Query(alias="from", ge=0, le=MAX_POSITION)] = 0
    ) -> Response:
        with board.moment() as now:
            return board.page(
                request,
                "flags.html",
                now=now,
                flags=flag_page(request, now, rule, start),
                rule=rule,
                start=start,
                step=PAGE,
                early=now.early,
            )

    def flag_page(request: Request, now: _Moment, rule: str = "", start: int = 0) -> Value:
        """Flags in words, PAGE of them, with their rules and numbers."""
        found, words = places.page_of_flags(board.flags(now), start, PAGE, rule), _language(request)[0]
        return {**found, "flags": [places.flag_line(flag, now.poll, words) for flag in found["flags"]]}

    @pages.get("/records")
    def records(request: Request, start: Start = 0, kind: str = "") -> Response:
        number = next((int(one) for one in Kind if one.text == kind), None)
        with board.moment() as now:
            found = views.records(now.tx, now.poll, start, RECORDS, number)
            return board.page(
                request, "records.html", now=now, found=found, kind=kind, kinds=[one.text for one in Kind], start=start
            )

    @pages.get("/records/{position}")
    def record(request: Request, position: Annotated[int, PathParam(ge=0, le=MAX_POSITION)]) -> Response:
        with board.moment() as now:
            found = _found(views.record(now.tx, now.poll, position), "the log has no record at this position")
            return board.page(request, "record.html", now=now, record=found)

    @pages.get("/attempts")
    def attempts(request: Request) -> Response:
        with board.moment() as now:
            return board.page(request, "attempts.html", now=now, attempts=board.attempts(now))

    @pages.get("/network")
    def network(request: Request) -> Response:
        with board.moment() as now:
            age = max(0, int(time.time()) - (now.tx.cursor() or Cursor(0, b"", 0)).time)
            return board.page(request, "network.html", now=now, network=board.network(now), age=age)

    @pages.get("/verify")
    def verify(request: Request) -> Response:
        with board.moment() as now:
            found = board.verify(now)
            others = [url for url in found["boards"] if urlsplit(url).netloc != request.url.netloc]
            return board.page(request, "verify.html", now=now, verify=found, others=others)

    @pages.get("/display")
    def display(request: Request) -> Response:
        with board.moment() as now:
            return board.page(
                request, "display.html", now=now, result=board.result(now), turnout=board.turnout(now), stations=board.stations(now),
                flags=board.flags(now),
            )  # fmt: skip

    @pages.get("/find")
    def find(request: Request, q: str | None = None) -> Response:
        if q is not None:
            return search(request, q)
        with board.moment() as now:
            return board.page(request, "find.html", now=now, verify=board.verify(now))

    @pages.post("/find")
    async def check(request: Request) -> Response:
        """A pasted receipt or code, or a file: a receipt, or a picture of a code. Looked at and not kept."""
        kind = request.headers.get("content-type", "")
        form = uploads.is_form(kind)
        try:
            async with board.uploads.body(request, uploads.MAX_FORM if form else MAX_RECEIPT) as body:
                if form:
                    return await run_in_threadpool(look_at, request, uploads.field(kind, body, "file"))
                given = parse_qs(body.decode(errors="replace")).get("receipt", [""])[0]
                return await run_in_threadpool(search, request, given)
        except uploads.TooLong:
            return await run_in_threadpool(unreadable, request, _language(request)[0].say("find.too-long"))

    @pages.post("/find/code")
    async def codes(request: Request) -> Response:
        """What the codes in a picture say, for browsers that cannot read them: static/receipt.js checks it."""
        try:
            async with board.uploads.body(request, uploads.MAX_BYTES) as body:
                return JSONResponse({"texts": await run_in_threadpool(board.uploads.texts, body)})
        except (uploads.TooLong, NoCode) as error:
            return JSONResponse({"error": 400, "detail": str(error)}, 400)

    def look_at(request: Request, data: bytes) -> Response:
        """A file that somebody chose."""
        if not picture_files.is_picture(data):
            return search(request, data[:MAX_RECEIPT].decode(errors="replace"))
        try:
            found = board.uploads.texts(data)
        except NoCode as error:
            return unreadable(request, str(error))
        return search(request, next((text for text in found if text.startswith(CODE_PREFIX)), found[0]))

    def unreadable(request: Request, problem: str) -> Response:
        return board.page(request, "not-found.html", 400, reason="find.bad", problem=problem)

    def show(request: Request, digest: str, steps: list[tuple[str, bool | None]] | None = None) -> Response | None:
        """The page of a ballot, with the steps of a receipt's check if one was given. None if there is no such ballot."""
        if len(digest) != 64 or not _is_hex(digest):
            return None
        with board.moment() as now:
            found = board.ballot(now, digest, _language(request)[0])
            if found is None:
                return None
            return board.page(request, "ballot.html", now=now, ballot=found, steps=steps, verify=board.verify(now))

    def search(request: Request, text: str) -> Response:
        """By all digits of a ballot code or the first of them, by position, or by the roll index of a card. A receipt or its code is compared with
        the log, and the code of a result sheet leads to its page."""
        if "{" in text or text.lstrip()[: len(CODE_PREFIX)].upper() == CODE_PREFIX:
            return compare(request, text)
        if "stations/" in text:
            return sheet(request, text)
        text = "".join(text.split()).replace(",", "").lower().removeprefix("0x")
        if not _is_hex(text) and _is_code(text):
            return board.page(request, "not-found.html", 400, reason="find.is-secret", here="/find")
        number = text.isascii() and text.isdecimal() and len(text) <= MAX_DIGITS
        prefix = MIN_PREFIX <= len(text) <= 64 and _is_hex(text)
        with board.moment() as now:
            if not (number or prefix):
                return board.page(request, "not-found.html", 400, now=now, reason="find.unknown")
            numbered = views.by_number(now.tx, int(text), FOUND) if number else []
            begun = views.by_prefix(now.tx, text, FOUND) if prefix else []
            if len(begun) == 1 and not numbered:
                return RedirectResponse(f"/{_language(request)[0].language}/ballots/{begun[0]['hash']}", 303)
            if numbered or begun:
                return board.page(request, "several.html", now=now, lines=numbered + begun)
            reason = "find.none" if prefix else "find.none.number"
            return board.page(request, "not-found.html", 404, now=now, reason=reason)

    def compare(request: Request, text: str) -> Response:
        """A receipt, or the text of its code, against this log."""
        given: Receipt | CompactReceipt
        try:
            if "{" in text:
                given = Receipt.parse(canonical_json(json.loads(text)))  # a mail program may have broken its lines
            else:
                given = CompactReceipt.read_code(text)
        except (BallotboardError, ValueError, RecursionError) as error:
            return unreadable(request, " ".join(str(error).split())[:200])
        with board.moment() as now:
            steps = views.check_receipt(now.tx, now.poll, given)
        if all(ok for _, ok in steps) and (shown := show(request, given.ballot_hash.hex(), steps)):
            return shown
        return board.page(request, "receipt.html", 409, steps=steps)

    return pages


def _negotiated(pages: APIRouter) -> APIRouter:
    """The same addresses without a language: they lead to the browser's."""
    router = APIRouter()

    def lead(request: Request) -> Response:
        words, here = _language(request)
        return RedirectResponse(f"/{words.language}{here}", 307, headers={"vary": "accept-language"})

    for path in {route.path for route in pages.routes if isinstance(route, APIRoute)}:
        router.add_api_route(path, lead, methods=["GET", "POST"])
    return router


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


def _for_programs(request: Request) -> bool:
    return request.url.path.startswith((API, "/healthz", "/readyz", "/metrics"))


def _errors(app: FastAPI, board: _Board) -> None:
    """Errors as JSON `{"error", "detail"}` under the API, as pages elsewhere."""

    def answer(request: Request, status: int, detail: str) -> Response:
        if _for_programs(request):
            return JSONResponse({"error": status, "detail": detail}, status)
        return board.page(request, "error.html", status, number=status, detail=detail)

    @app.exception_handler(AnyHTTPException)
    def http(request: Request, error: AnyHTTPException) -> Response:
        return answer(request, error.status_code, str(error.detail))

    @app.exception_handler(RequestValidationError)
    def invalid(request: Request, error: RequestValidationError) -> Response:
        return answer(request, 422, "; ".join(f"{one['loc'][-1]}: {one['msg']}" for one in error.errors()))

    @app.exception_handler(NotYet)
    def not_yet(request: Request, error: NotYet) -> Response:
        found = answer(request, 503, _language(request)[0].say("empty.text"))
        found.headers["retry-after"] = "2"
        return found

    @app.exception_handler(uploads.Busy)
    def busy(request: Request, error: uploads.Busy) -> Response:
        found = answer(request, 503, str(error))
        found.headers["retry-after"] = "5"
        return found

    @app.exception_handler(StoreError)
    def store(request: Request, error: StoreError) -> Response:
        return answer(request, 503, str(error))


class _LookUp:
    """Answers `GET /api/v1/ballots/HASH`, what voters ask for, in front of the framework: half of the time is the framework's. What it does not
    find, or cannot say, is left to the route of the same address."""

    def __init__(self, app: ASGIApp, board: _Board) -> None:
        self.app, self.board = app, board

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "GET" and (match := _LOOK_UP.fullmatch(scope["path"])):
            try:
                with self.board.moment() as now:
                    found = self.board.ballot(now, match[1])
            except (NotYet, StoreError):
                found = None
            if found is not None:
                await JSONResponse(found)(scope, receive, send)
                return
        await self.app(scope, receive, send)


_LOOK_UP = re.compile(re.escape(API) + "/ballots/([0-9a-f]{64})")


def _origin(url: str) -> str:
    """Scheme, host and port of a board's address; raises BallotboardError for what no policy could name."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not re.fullmatch(r"[A-Za-z0-9.:\[\]-]+", parts.netloc):
        raise BallotboardError(f"{url} is not the address of a board: http(s)://HOST[:PORT]")
    return f"{parts.scheme}://{parts.netloc}"


class _Headers:
    """Puts the security headers on every answer, and how long it may be kept on those that do not say."""

    def __init__(self, app: ASGIApp, boards: list[str]) -> None:
        self.app = app
        origins = "".join(f" {origin}" for origin in sorted({_origin(url) for url in boards}))
        self.headers = [(name.encode(), value.replace("{boards}", origins).encode()) for name, value in HEADERS.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        public = scope["path"].startswith(PUBLIC)
        asked = next((value for name, value in scope["headers"] if name == b"if-none-match"), b"")
        start: Message = {}

        async def send_with_headers(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *self.headers]
                names = {name for name, _ in message["headers"]}
                if b"cache-control" not in names:
                    message["headers"].append((b"cache-control", b"no-cache"))
                if public:
                    message["headers"].append((b"access-control-allow-origin", b"*"))
                tagged = scope["method"] == "GET" and message["status"] == 200 and b"etag" not in names
                if tagged and dict(message["headers"]).get(b"content-type") == b"application/json":
                    start = message  # until the body is known
                    return
            elif start:
                message, start = self._tagged(start, message, asked), {}
                await send(message)
                message = {"type": "http.response.body", "body": message.pop("content")}
            await send(message)

        await self.app(scope, receive, send_with_headers)

    def _tagged(self, start: Message, body: Message, asked: bytes) -> Message:
        """The start of a JSON answer (one that is sent in one piece) with its ETag, and its content: none if the client has it."""
        tag = b'"' + hashlib.sha256(body.get("body", b"")).hexdigest()[:32].encode() + b'"'
        start["headers"].append((b"etag", tag))
        held = tag in [one.strip() for one in asked.split(b",")]
        if held:
            start["status"] = 304
            start["headers"] = [(name, value) for name, value in start["headers"] if name != b"content-length"]
        return {**start, "content": b"" if held else body.get("body", b"")}
