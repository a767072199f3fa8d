"""The pages, which anyone can read without JavaScript, in every language under its own address."""

from __future__ import annotations

import json
import time
from typing import Annotated
from urllib.parse import parse_qs, urlsplit

from fastapi import APIRouter, HTTPException, Query, Request, Response
from fastapi import Path as PathParam
from fastapi.responses import JSONResponse, RedirectResponse
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool

from bulletin import stations as places
from bulletin import uploads, views
from bulletin.api import Start
from bulletin.board import COLOURS, MAX_DIGITS, MAX_POSITION, PAGE, Board, Moment, NotYet, language, or_404
from bulletin.store import Cursor
from bulletin.views import Value
from protocol.credential import SYMBOLS, WrongCode, read_code
from protocol.encoding import canonical_json
from protocol.errors import BallotboardError
from protocol.receipt import CODE_PREFIX, CompactReceipt, Receipt
from protocol.records import Kind
from protocol.sheet import BadSheetCode, read_sheet_code
from verifier import pictures as picture_files
from verifier import sheets
from verifier.pictures import NoCode

BALLOTS = 20
"""Ballots on the overview: a screenful; older ones are on further pages."""

MAX_RECEIPT = 400_000
"""Bytes of a pasted receipt, form-encoded: the largest ballot is 131,070 hex digits."""

MIN_PREFIX = 8
"""Hex digits of a ballot code that are looked up: with fewer, many ballots begin alike."""

SUMMARY = 20
"""Units on the overview; where there are more, it has the largest regions, and the page of the results has the rest."""

FOUND = 20
"""Ballots listed that begin with the same digits, or come from one card."""

RECORDS = 50
"""Records on a page."""

From = Annotated[int, Query(alias="from", ge=0, le=MAX_POSITION)]
"""How many rows of a list come before those of a page."""


# ---------------------------------------------------------------- the pages


def routes(board: Board) -> APIRouter:
    pages = APIRouter()

    @pages.get("/")
    def overview(request: Request, before: Annotated[int | None, Query(ge=0, le=MAX_POSITION)] = None) -> Response:
        with board.moment() as now:
            return board.kept(request, now, lambda: first_page(request, now, before))

    def first_page(request: Request, now: Moment, before: int | None) -> Response:
        turnout, stations = board.turnout(now), board.stations(now)
        return board.page(
            request, "overview.html", now=now, result=board.result(now), turnout=turnout, stations=stations, timeline=board.timeline(now),
            ballots=views.ballot_lines(now.tx, before, BALLOTS), before=before, counted=views.counted_set(now.tx, 0, 1), verify=board.verify(now),
            region=board.region(now, 0) if len(turnout["units"]) > SUMMARY else None, limit=SUMMARY,
            map=places.grid(now.poll, stations, in_regions(now), 0) if stations else None,
        )  # fmt: skip

    @pages.get("/ballots/{ballot_hash}")
    def ballot(request: Request, ballot_hash: str) -> Response:
        return show(request, ballot_hash) or board.page(request, "not-found.html", 404, reason="find.none")

    @pages.get("/results")
    def results(request: Request, start: From = 0) -> Response:
        with board.moment() as now:
            return board.kept(request, now, lambda: of_region(request, 0, start))

    @pages.get("/results/{unit}")
    def of_region(
        request: Request, unit: Annotated[int, PathParam(ge=0, le=MAX_POSITION)], start: From = 0
    ) -> Response:
        with board.moment() as now:
            region = board.region(now, unit) if now.poll.units else None
            if region is None and unit:
                raise HTTPException(404, "the list of units has no such number")
            return board.page(
                request, "results.html", now=now, result=board.result(now), stations=board.stations(now), region=region,
                counted=views.counted_set(now.tx, 0, 1), turnout=board.turnout(now), start=start, step=PAGE,
            )  # fmt: skip

    @pages.get("/stations")
    def stations(
        request: Request,
        q: str = "",
        state: str = "",
        start: From = 0,
        unit: Annotated[int, Query(alias="in", ge=0, le=MAX_POSITION)] = 0,
        cell: Annotated[int, Query(alias="map", ge=0, le=MAX_POSITION)] = 0,
    ) -> Response:
        """The map of a region and, under it, the list; who looks for stations gets the list alone."""
        with board.moment() as now:
            every = board.stations(now)
            if unit and unit >= len(now.poll.units):
                raise HTTPException(404, "the list of units has no such number")
            where = in_regions(now) if every else None
            inside = [every[number] for number in sorted(where.within(unit))] if where and unit else every
            wanted = q.casefold().strip()
            found = [
                one for one in inside
                if state in ("", one["state"]) and (wanted in one["name"].casefold() or wanted in one["unit_name"].casefold())
            ]  # fmt: skip
            return board.page(
                request, "stations.html", now=now, stations=found[start : start + PAGE], of=len(inside), found=len(found), q=q[:100], state=state, start=start,
                step=PAGE, result=board.result(now), counts=places.page_of_flags(board.flags(now), 0, 0)["counts"], asked=places.by_station(board.flags(now)), early=now.early,
                map=places.grid(now.poll, every, where, unit, cell) if where else None, looking=bool(q or state or start),
            )  # fmt: skip

    def in_regions(now: Moment) -> places.Places:
        return board.per_head(now, "places", lambda: places.in_regions(now.poll, board.stations(now)))

    @pages.get("/stations/{number}")
    def station(request: Request, number: Annotated[int, PathParam(ge=0, le=MAX_POSITION)]) -> Response:
        """The page of a station or, with the code of a printed sheet behind it, of that sheet."""
        if request.url.query:
            return sheet(request, f"/stations/{number}?{request.url.query}")
        with board.moment() as now:
            found = or_404(board.station(now, number), "the list of stations has no such number")
            lines = [places.flag_line(flag, now.poll, language(request)[0]) for flag in found["flags"]]
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
    def flags(request: Request, rule: str = "", start: From = 0) -> Response:
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

    def flag_page(request: Request, now: Moment, rule: str = "", start: int = 0) -> Value:
        """Flags in words, PAGE of them, with their rules and numbers."""
        found, words = places.page_of_flags(board.flags(now), start, PAGE, rule), language(request)[0]
        return {**found, "flags": [places.flag_line(flag, now.poll, words) for flag in found["flags"]]}

    @pages.get("/records")
    def records(request: Request, start: Start = 0, kind: str = "") -> Response:
        number = next((int(one) for one in Kind if one.text == kind), None)
        with board.moment() as now:
            found = views.records(now.tx, now.poll, start, RECORDS, number, language(request)[0])
            return board.page(
                request, "records.html", now=now, found=found, kind=kind, kinds=[one.text for one in Kind], start=start
            )

    @pages.get("/records/{position}")
    def record(request: Request, position: Annotated[int, PathParam(ge=0, le=MAX_POSITION)]) -> Response:
        with board.moment() as now:
            found = or_404(
                views.record(now.tx, now.poll, position, language(request)[0]), "the log has no record at this position"
            )
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
            return board.kept(request, now, lambda: board.page(
                request, "display.html", now=now, result=board.result(now), turnout=board.turnout(now), stations=board.stations(now),
                flags=board.flags(now),
            ))  # fmt: skip

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
            return await run_in_threadpool(unreadable, request, language(request)[0].say("find.too-long"))

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
            found = board.ballot(now, digest, language(request)[0])
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
                return RedirectResponse(f"/{language(request)[0].language}/ballots/{begun[0]['hash']}", 303)
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


def style(board: Board) -> APIRouter:
    """The options' colours, if whoever runs the board gave them any."""
    router = APIRouter()

    @router.get(COLOURS)
    def colours(request: Request) -> Response:
        if not board.colours:
            raise HTTPException(404, "this board has no colours of its own")
        headers = {"etag": f'"{board.assets[COLOURS]}"'}
        if request.headers.get("if-none-match") == headers["etag"]:
            return Response(status_code=304, headers=headers)
        return Response(board.colours, headers=headers, media_type="text/css; charset=utf-8")

    return router


def negotiated(pages: APIRouter) -> APIRouter:
    """The same addresses without a language: they lead to the browser's."""
    router = APIRouter()

    def lead(request: Request) -> Response:
        words, here = language(request)
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
