"""The relayer's HTTP API. The interactive description is at /docs, its OpenAPI at /openapi.json.

Everything that is decided is decided in `relayer.intake`; here bytes become calls, and answers JSON. `POST /v1/ballots` is plain ASGI in front of
FastAPI, since every ballot passes it: a third of the framework's cost (0.05 instead of 0.16 ms a request, measured side by side).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from itertools import accumulate
from typing import Any

from fastapi import FastAPI, HTTPException, Path, Request, Response
from fastapi.responses import StreamingResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from sqlalchemy.exc import DBAPIError

from chain import holding
from chain.errors import ChainError
from protocol.encoding import unhex
from protocol.errors import Malformed
from protocol.records import pack_bodies, unpack_bodies
from relayer.intake import Answer, Code, Intake
from relayer.outbox import State
from relayer.records import RecordRefused
from relayer.service import Relayer
from relayer.streams import Streams

PATH = "/v1/ballots"
ONE = "application/octet-stream"
MANY = "application/vnd.ballotboard.ballots"
JSON = "application/json"

MOST_BODIES = 2**20
"""Bytes of ballots after which an answer with bodies ends: a thousand large ones, or the longest ballot alone."""


def create_app(relayer: Relayer) -> Any:
    """The ASGI application of one relayer."""
    api = _api(relayer)
    settings = relayer.settings
    retry = (b"retry-after", str(settings.retry_after).encode())

    async def application(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["path"] != PATH or scope["method"] != "POST":
            await api(scope, receive, send)
            return
        headers = dict(scope["headers"])
        status, data = await _post(relayer.intake, headers, receive, settings.max_request_bytes)
        answer = [(b"content-type", JSON.encode()), (b"content-length", str(len(data)).encode())]
        if status in (Code.BUSY.status, Code.RATE_LIMITED.status):
            answer.append(retry)
        await send({"type": "http.response.start", "status": status, "headers": answer})
        await send({"type": "http.response.body", "body": data})

    return application


async def _post(intake: Intake, headers: dict[bytes, bytes], receive: Any, limit: int) -> Answer:
    """The answer to a request to `POST /v1/ballots`; what it takes and gives is described in `_POST`."""
    body = await _read(headers, receive, limit)
    if body is None:
        return intake.refuse(Code.TOO_LARGE, f"a request has at most {limit} bytes", None)
    kind = headers.get(b"content-type", ONE.encode()).partition(b";")[0].strip().lower().decode("latin-1")
    election = headers.get(b"ballotboard-election", b"").decode("latin-1")
    try:
        if kind == MANY:
            return await _many(intake, unpack_bodies(body), election)
        if kind == JSON:
            body = _from_json(body)
        elif kind != ONE:
            raise Malformed("content-type", f"must be {ONE}, {MANY} or {JSON}")
    except Malformed as error:
        return intake.refuse(Code.MALFORMED, str(error), None)
    [answer] = await intake.submit([body], election)
    return answer


async def _many(intake: Intake, bodies: list[bytes], election: str) -> Answer:
    if why := intake.busy(len(bodies)):
        return intake.refuse(Code.BUSY, why, None)
    answers = await intake.submit(bodies, election)
    # Each is a JSON object with members already: its status goes before them.
    return Answer(202, b"[" + b",".join(b'{"status":%d,%b' % (status, data[1:]) for status, data in answers) + b"]")


async def _read(headers: dict[bytes, bytes], receive: Any, limit: int) -> bytes | None:
    """The body of a request, None if it is larger than `limit` bytes: then the rest is not read."""
    if int(headers.get(b"content-length", b"0")) > limit:
        return None
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > limit:
            return None
        if not message.get("more_body", False):
            return body


def _from_json(body: bytes) -> bytes:
    """The ballot in `{"ballot": hex}`; raises Malformed. The request need not be canonical: nobody hashes it."""
    try:
        text = json.loads(body)["ballot"]
    except (ValueError, RecursionError, TypeError, KeyError) as error:
        raise Malformed("request", 'expected {"ballot": hex}') from error
    return unhex(text, len(text) // 2 if isinstance(text, str) else 0, "request.ballot")


# ---------------------------------------------------------------- everything that is not in a hurry


def _api(relayer: Relayer) -> FastAPI:
    app = FastAPI(
        title="Ballotboard relayer", version="1",
        description="Takes ballots in, promises them a place in the log, and says when they have it.",
    )  # fmt: skip

    streams = Streams(lambda: relayer.batcher.changes, relayer.states, relayer.settings.poll_interval)
    name = Path(pattern="^[0-9a-f]{64}$", description="SHA-256 of the ballot, in hex.")

    @app.get(PATH + "/{ballot_hash}", responses={404: {"description": "never seen here"}}, response_model=None)
    def ballot(ballot_hash: str = name, evidence: bool = False) -> Response:
        """What has become of a ballot: `state` is promised, submitted, final or dead (with `reason`), `attempts` are the ballots promised to its
        credential. A final one has its `position` and its `receipt`, and with `?evidence=true` what the validators signed for the receipt's head."""
        digest = bytes.fromhex(ballot_hash)
        state = relayer.states([digest])[digest]
        if state["state"] == State.FINAL.text:
            state = relayer.final(state, evidence)
        return _json(404 if state["state"] == "unknown" else 200, state)

    @app.get(PATH + "/{ballot_hash}/events", response_model=None)
    async def events(ballot_hash: str = name) -> Response:
        """The same as server-sent events, one at once and one at each change; the last is final, with receipt and evidence, or dead, or unknown."""
        if streams.listeners >= relayer.settings.max_streams:
            raise HTTPException(503, "too many voters are waiting: ask for the state instead")

        async def lines() -> AsyncIterator[bytes]:
            async for state in streams.follow(bytes.fromhex(ballot_hash)):
                if state is None:
                    yield b": still there\n\n"
                    continue
                if state["state"] == State.FINAL.text:
                    state = await asyncio.to_thread(relayer.final, state, True)
                yield b"event: %b\ndata: %b\n\n" % (state["state"].encode(), json.dumps(state).encode())

        headers = {
            "Cache-Control": "no-store",
            "X-Accel-Buffering": "no",
        }  # a proxy must not collect what is told as it happens
        return StreamingResponse(lines(), media_type="text/event-stream", headers=headers)

    @app.post("/v1/records", status_code=202, response_model=None, openapi_extra=_RECORD)
    async def post_record(request: Request) -> Response:
        """Hand in the input of a call of the board (append, appendStations, reveal, close, settle), signed by its role. It is stored, and carried
        before any ballot. The answer names it by the SHA-256 of the input; the same input again is answered with what has become of it."""
        if relayer.intake.closing:
            return _json(503, {"reason": Code.BUSY.text, "message": "this relayer is about to stop: try another"})
        call = await _read(dict(request.scope["headers"]), request.receive, relayer.settings.max_request_bytes)
        if call is None:
            return _json(413, {"reason": Code.TOO_LARGE.text, "message": "a call has at most 96 KiB"})
        try:
            return _json(202, await asyncio.to_thread(relayer.records.accept, call))
        except Malformed as error:
            return _json(400, {"reason": Code.MALFORMED.text, "message": str(error)})
        except RecordRefused as error:
            return _json(422, {"reason": "refused", "message": str(error)})
        except (ChainError, DBAPIError):
            return _json(503, {"reason": Code.BUSY.text, "message": "nothing can be stored now: try another relayer"})

    @app.get("/v1/records/{record}", responses={404: {"description": "never seen here"}}, response_model=None)
    def record(
        record: str = Path(pattern="^[0-9a-f]{64}$", description="SHA-256 of the call's input, in hex."),
    ) -> Response:
        """What has become of a record: `state` as for ballots, `transaction` once it is in one, `reason` if the board refused it."""
        state = relayer.records.status(bytes.fromhex(record))
        return _json(200, state) if state else _json(404, {"record": record, "state": "unknown"})

    @app.get("/v1/status", response_model=None)
    def status() -> Response:
        """Phase, chain time, head, queue, counts by state, dead letters, and what is wrong, if anything is."""
        return _json(200, relayer.status())

    @app.get(holding.PATH + "/{ballot_hash}", responses={404: {"description": "not held here"}}, response_model=None)
    def body(ballot_hash: str = name) -> Response:
        """The ballot with this hash. In hash mode nobody but the data holders has it."""
        found = relayer.outbox.body(bytes.fromhex(ballot_hash))
        return Response(found or b"", 404 if found is None else 200, media_type=ONE)

    @app.post(holding.PATH, response_model=None, openapi_extra=_BODIES)
    async def bodies(request: Request) -> Response:
        """Ballots by their hashes. For each hash `u16 length || ballot`, in order; length 0 is one that is not held here. The answer may be of the
        first hashes only: ask for the others again."""
        hashes = await _read(dict(request.scope["headers"]), request.receive, 32 * holding.AT_ONCE)
        if not hashes or len(hashes) % 32:
            return _json(
                413 if hashes is None else 422, {"message": f"expected 1 to {holding.AT_ONCE} hashes of 32 bytes"}
            )
        wanted = [hashes[i : i + 32] for i in range(0, len(hashes), 32)]
        found = await asyncio.to_thread(relayer.outbox.bodies, wanted)
        held = [found.get(digest, b"") for digest in wanted]
        first = next((n for n, size in enumerate(accumulate(map(len, held))) if size > MOST_BODIES), len(held))
        return Response(pack_bodies(held[: max(1, first)]), media_type=MANY)

    @app.get("/healthz", response_model=None)
    def health() -> Response:
        """200 while the process lives."""
        return _json(200, {"alive": True})

    @app.get("/readyz", response_model=None)
    def ready() -> Response:
        """200 when the chain is seen and ballots could be taken, poll open or not; else 503 and why."""
        why = relayer.intake.busy() or relayer.problem or relayer.follower.problem
        return _json(503 if why else 200, {"ready": not why, "problem": why})

    @app.get("/metrics", response_model=None)
    def metrics() -> Response:
        """For Prometheus."""
        view, oldest = relayer.follower.view, relayer.outbox.oldest()
        relayer.metrics.chain_age.set(view.age)
        relayer.metrics.lacking.set(relayer.bodies_lacking)
        relayer.metrics.oldest.set(0 if oldest is None else max(0, view.now - oldest))
        return Response(generate_latest(relayer.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    described = app.openapi

    def openapi() -> dict[str, Any]:
        schema = described()
        schema["paths"].setdefault(PATH, {"post": _POST})
        return schema

    app.openapi = openapi  # type: ignore[method-assign]
    return app


def _json(status: int, value: Any) -> Response:
    return Response(json.dumps(value, ensure_ascii=False).encode(), status, media_type=JSON)


_RECORD: dict[str, Any] = {
    "requestBody": {"required": True, "content": {ONE: {"schema": {"type": "string", "format": "binary"}}}},
    "responses": {"422": {"description": "The board would refuse it now; `message` has its words."}},
}
_BINARY = {"type": "string", "format": "binary"}
_BODIES = {
    "requestBody": {
        "required": True,
        "content": {ONE: {"schema": {**_BINARY, "description": "Hashes, 32 bytes each."}}},
    },
    "responses": {"200": {"content": {MANY: {"schema": _BINARY}}}},
}
_POST = {
    "summary": "Send a ballot, or many in one body.",
    "description": "One ballot is answered with its promise or its refusal. Many are answered 202 with a list of the same objects in order, each with"
    " its `status`. `refusal` and `signature` are null where what came in could not be read as a ballot.",
    "parameters": [
        {
            "name": "Ballotboard-Election", "in": "header", "required": False, "schema": {"type": "string"},
            "description": "The election id that the client means; if it is another one, ballots are refused as wrong-election.",
        }
    ],
    "requestBody": {
        "required": True,
        "content": {
            ONE: {"schema": {**_BINARY, "description": "One ballot."}},
            MANY: {"schema": {**_BINARY, "description": "Many ballots: u16 length || ballot, one after the other."}},
            JSON: {
                "schema": {
                    "type": "object", "required": ["ballot"],
                    "properties": {"ballot": {"type": "string", "description": "One ballot in lower-case hex."}},
                }
            },
        },
    },
    "responses": {
        "202": {"description": "`{promise, signature}`: stored, synced, and promised a place in the log."},
        **{
            str(status): {
                "description": "`{reason, message, refusal, signature}` with reason "
                + " or ".join(code.text for code in Code if code.status == status)
                + ("; `earlier` has the state and the promise of the first" if status == Code.DUPLICATE.status else "")
                + ("; Retry-After says when to try again" if status in (Code.BUSY.status, Code.RATE_LIMITED.status) else "")
            }
            for status in sorted({code.status for code in Code})
        },
    },
}  # fmt: skip
