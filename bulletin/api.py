"""What programs read: the record as JSON under /api/v1, the log as C2SP tlog-tiles, the archive, and how the board itself is."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, HTTPException, Query, Request, Response
from fastapi import Path as PathParam
from fastapi.responses import FileResponse, JSONResponse, StreamingResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, generate_latest

from bulletin import stations as places
from bulletin import views
from bulletin.archives import NOTHING
from bulletin.board import MAX_DIGITS, MAX_POSITION, PAGE, Board, Moment, or_404
from bulletin.checkpoint import NoSuchTile, checkpoint, entries, origin, tile
from bulletin.feed import MAX_LISTENERS
from bulletin.store import Reading
from bulletin.views import Value
from protocol.records import Kind
from verifier import pictures as picture_files

MAX_LIMIT = 1_000
"""Rows of one answer: half a megabyte of JSON."""

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


# ---------------------------------------------------------------- the API


def record(board: Board) -> APIRouter:
    api = APIRouter()

    @api.get("/election")
    def election() -> Value:
        """The election: manifest, phase, times (seconds since 1970 UTC), what comes next, head, records by kind, and `alarm` if the board has stopped."""
        with board.moment() as now:
            return board.election(now)

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
            return or_404(views.record(now.tx, now.poll, position), "the log has no record at this position")

    @api.get("/ballots/{ballot_hash}", responses={404: {"description": "not in the log"}}, response_model=None)
    def ballot(ballot_hash: Hash) -> Response:
        """A ballot by its SHA-256: its record, its fate in words, and its inclusion proof. Never a choice: only totals are ever decrypted."""
        with board.moment() as now:
            return or_404(ballot_answer(board, now, ballot_hash), "the log has no such ballot")

    @api.get("/receipts/{ballot_hash}.svg", responses={404: {"description": "not in the log"}}, response_model=None)
    def receipt_code(ballot_hash: Hash) -> Response:
        """The same as a QR code (docs/protocol.md, section 11): without the ballot, which is not needed to prove that it is recorded."""
        with board.moment() as now:
            found = or_404(
                views.compact_receipt(now.tx, now.poll, bytes.fromhex(ballot_hash)), "the log has no such ballot"
            )
        drawn = picture_files.draw(found.code(), "svg", f"Receipt of ballot {ballot_hash}")
        name = {"content-disposition": f'inline; filename="receipt-{ballot_hash[:16]}.svg"'}
        return Response(drawn, headers=name, media_type="image/svg+xml")

    @api.get("/receipts/{ballot_hash}", responses={404: {"description": "not in the log"}}, response_model=None)
    def receipt(ballot_hash: Hash) -> Response:
        """A receipt file (docs/protocol.md, section 11) against the present head, for `ballotboard verify receipt`."""
        with board.moment() as now:
            return or_404(receipt_answer(board, now, ballot_hash), "the log has no such ballot, or not its content")

    @api.get("/counted-set", responses={404: {"description": "not settled"}})
    def counted_set(start: Start = 0, limit: Limit = PAGE) -> Value:
        """What became of every ballot, from position `from` on: root, counts by status, rows. There is none before the settlement."""
        with board.moment() as now:
            return or_404(
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
            return or_404(board.station(now, number), "the list of stations has no such number")

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
            data = or_404(tx.attachment(bytes.fromhex(sha256)), "no file of this name is published")
        headers = {"etag": f'"{sha256}"', "cache-control": FOREVER}
        if unchanged := _unchanged(request, headers):
            return unchanged
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
            return or_404(board.region(now, unit), "the list of units has no such number")

    @api.get("/results.csv", response_model=None)
    def table(request: Request) -> Response:
        """The results by region, contest and option as CSV, for a spreadsheet. Empty cells are what is not known."""
        with board.moment() as now:
            data, name = board.table(now), f"results-{now.poll.manifest.election_id.hex()[:16]}.csv"
        headers = {"etag": f'"{hashlib.sha256(data).hexdigest()}"'} | _named(name)
        if unchanged := _unchanged(request, headers):
            return unchanged
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


def ballot_answer(board: Board, now: Moment, ballot_hash: str) -> Response | None:
    """None for what the log has not."""
    found = board.ballot(now, ballot_hash)
    return None if found is None else JSONResponse(found)


def receipt_answer(board: Board, now: Moment, ballot_hash: str) -> Response | None:
    """None for what the log has not, or not the body of."""
    found = views.receipt(now.tx, now.poll, bytes.fromhex(ballot_hash))
    name = f"receipt-{ballot_hash[:16]}.json"
    return None if found is None else Response(found.body(), headers=_named(name), media_type="application/json")


LOOK_UPS = {"ballots": ballot_answer, "receipts": receipt_answer}
"""What is asked for most, by the first part of its path under API."""


def tiles(board: Board) -> APIRouter:
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


def archive(board: Board) -> APIRouter:
    router = APIRouter()

    @router.head("/archive/{election}.archive", include_in_schema=False)
    @router.get(
        "/archive/{election}.archive", response_model=None,
        responses={206: {"description": "the range that was asked for"}, 404: {"description": "there is none"}, 416: {"description": "no such range"}},
    )  # fmt: skip
    def archive(request: Request, election: Hash) -> Response:
        """The whole record in one file, for `ballotboard verify tally`; with ranges, so that a download can go on where it stopped. Its ETag is its SHA-256."""
        archives = board.archives
        note = archives.note() if archives and archives.election == election else NOTHING
        if archives is None or note.held is None:
            raise HTTPException(404, note.trouble or "there is no archive here yet")
        held = note.held
        headers = {"etag": f'"{held.sha256}"'}
        if unchanged := _unchanged(request, headers):
            return unchanged
        path = archives.path(held)
        headers |= _named(f"{election}.archive")
        return FileResponse(path, headers=headers, media_type="application/octet-stream", stat_result=path.stat())

    return router


def _unchanged(request: Request, headers: dict[str, str]) -> Response | None:
    """304 for who has what the etag names; else None."""
    held = request.headers.get("if-none-match") == headers["etag"]
    return Response(status_code=304, headers=headers) if held else None


def _named(file: str) -> dict[str, str]:
    """What a browser calls the file that it keeps."""
    return {"content-disposition": f'attachment; filename="{file}"'}


# ---------------------------------------------------------------- operation


def operation(board: Board) -> APIRouter:
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
        held = board.archives.note().held if board.archives else None
        archive.set(held.size if held else 0)
        block.set(cursor.number if cursor else 0)
        time.set(cursor.time if cursor else 0)
        ready.set(not board.problem)
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return router
