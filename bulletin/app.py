"""The board over HTTP: a JSON API under /api/v1 and pages that work without JavaScript. Read-only: it keeps nothing of who asks for what.

    create_app(store, connection)      the application over what the database holds

No page has an inline script or style or a cookie, and the policy in its headers allows none, so that text from a manifest can be nothing but text. What
scripts there are (static/) check receipts in the browser and refresh the big screen; everything can be read without them.
"""

from __future__ import annotations

import hashlib
import re
from urllib.parse import urlsplit

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from nacl.signing import SigningKey
from starlette.exceptions import HTTPException as AnyHTTPException
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bulletin import api, pages, uploads
from bulletin.archives import Archives
from bulletin.board import API, STATIC, Board, NotYet, for_programs, language
from bulletin.limits import Limiter
from bulletin.store import Store, StoreError
from bulletin.words import LANGUAGES
from chain.console import Connection
from protocol.errors import BallotboardError

HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'{boards}; form-action 'self';"
    " base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",  # a page's address names a ballot
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}

PUBLIC = (API, "/checkpoint", "/tile", "/archive")
"""What the pages of other boards may read: what the record says, the same for everyone."""


def create_app(
    store: Store, connection: Connection, key: SigningKey | None = None, follows: bool = False, archives: Archives | None = None, rate: float = 0,
    colours: bytes = b"",
) -> FastAPI:  # fmt: skip
    """The application over this database. `connection` says where an observer's verifier finds the chain, `key` signs checkpoints (else one
    that is drawn now), `follows` says that a process follows the chain into the database, or should; `rate` is what one client
    may ask for a second (bulletin.limits), 0 for no limit; `colours` is the options' style sheet (bulletin.colours)."""
    board = Board(store, connection, key or SigningKey.generate(), follows, archives, colours)
    app = FastAPI(
        title="Ballotboard bulletin board", version="1", docs_url=None, redoc_url=None, openapi_url=f"{API}/openapi.json",
        description="The public record of one election, as read from its chain. Nothing here has to be believed: `GET /api/v1/verify` says how to check it.",
    )  # fmt: skip
    if store.embedded:
        app.add_middleware(_LookUp, board=board)
    if rate:
        app.add_middleware(Limiter, rate=rate, refuse=board.too_much, events=f"{API}/events")
    app.add_middleware(_Headers, boards=connection.boards)
    app.include_router(api.record(board), prefix=API, tags=["record"])
    app.include_router(api.tiles(board), tags=["transparency log"])
    app.include_router(api.archive(board), tags=["archive"])
    app.include_router(api.operation(board), tags=["operation"])
    every = pages.routes(board)
    for short in LANGUAGES:
        app.include_router(every, prefix=f"/{short}", include_in_schema=False)
    app.include_router(pages.negotiated(every), include_in_schema=False)
    app.include_router(pages.style(board), include_in_schema=False)
    app.mount("/static", StaticFiles(directory=STATIC))
    _errors(app, board)
    return app


# ---------------------------------------------------------------- errors and headers


def _errors(app: FastAPI, board: Board) -> None:
    """Errors as JSON `{"error", "detail"}` under the API, as pages elsewhere."""

    def answer(request: Request, status: int, detail: str) -> Response:
        if for_programs(request):
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
        found = answer(request, 503, language(request)[0].say("empty.text"))
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
    """Answers what voters ask for, a ballot or a receipt by its hash, in front of the framework and its threads, which take more time than a database
    that is a file. What it does not find, or cannot say, is left to the route of the same address."""

    def __init__(self, app: ASGIApp, board: Board) -> None:
        self.app, self.board = app, board

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "GET" and (match := _LOOK_UP.fullmatch(scope["path"])):
            try:
                with self.board.moment() as now:
                    found = api.LOOK_UPS[match[1]](self.board, now, match[2])
            except (NotYet, StoreError):
                found = None
            if found is not None:
                await found(scope, receive, send)
                return
        await self.app(scope, receive, send)


_LOOK_UP = re.compile(re.escape(API) + f"/({'|'.join(api.LOOK_UPS)})/([0-9a-f]{{64}})")


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
