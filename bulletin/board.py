"""What every request of the board works with: a moment of the database, what is remembered between requests, and pages from templates."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import HTTPException, Request, Response
from fastapi.responses import JSONResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from nacl.signing import SigningKey
from starlette.types import Scope

from bulletin import regions, uploads, views
from bulletin import stations as places
from bulletin.archives import Archives
from bulletin.archives import value as archive_value
from bulletin.checkpoint import origin, verifier_key
from bulletin.feed import Feed
from bulletin.store import Cursor, Reading, Store, StoreError
from bulletin.views import Poll, Value
from bulletin.watch import Followed, followed
from bulletin.words import ENGLISH, LANGUAGES, Words, iso, negotiate
from chain.console import Connection
from chain.network.status import consensus
from chain.rpc import checksummed
from protocol.election import LogRecord
from protocol.errors import BallotboardError
from protocol.paper import StationResult
from protocol.records import Kind
from verifier import picture

API = "/api/v1"

PAGE = 100
"""Rows of units or stations on a page, and of an answer that names no limit; the rest is to be had as data."""

MAX_POSITION = 2**53 - 1
"""Largest position: every database, and JavaScript, takes it and the next as a number."""

MAX_DIGITS = 15
"""Digits of what is looked up as a number: below MAX_POSITION."""

LONG = 0.5
"""Seconds of a computation that is not made again with every record."""

SHARE = 4
"""How many times as long what it found will do."""

BLOCKS = 20
"""Blocks with records on the page of the network."""

CONSENSUS_POLL = 5
"""Seconds for which a validator's answer is good: pages must not become load for it."""

STATIC = Path(__file__).parent / "static"

COLOURS = "/colours.css"
"""The address of the options' colours, where there are any."""

ASSETS = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(STATIC.iterdir())}
"""SHA-256 of every file that a page loads."""


@dataclass(frozen=True)
class Acts:
    """All records but the ballots of the first `size` of the log in the database `name`, and whose cards were checked in on paper (views.papers)."""

    name: str | None
    size: int
    records: list[LogRecord]
    papers: dict[int, tuple[int, int]]


@dataclass(frozen=True)
class Moment:
    """One snapshot of the database with what the log fixes."""

    tx: Reading
    poll: Poll
    acts: list[LogRecord]
    papers: dict[int, tuple[int, int]]
    files: int

    @property
    def time(self) -> int:
        """Of the last block."""
        return (self.tx.cursor() or Cursor(0, b"", 0)).time

    @property
    def early(self) -> bool:
        """Whether the embargo on stations' figures has not ended yet."""
        return self.time < self.poll.manifest.windows.reveal_not_before


@dataclass(frozen=True)
class Remembered:
    """A value, what it was computed for, and until when (monotonic seconds) it will do for something newer: 0 if never."""

    key: tuple[Any, ...]
    value: Any
    good: float

    def fits(self, key: tuple[Any, ...]) -> bool:
        return self.key == key or (self.lasts(key) and time.monotonic() < self.good)

    def lasts(self, key: tuple[Any, ...]) -> bool:
        """Whether it is of the same database, and nothing to be computed often."""
        return self.good > 0 and self.key[0] == key[0]


class NotYet(BallotboardError):
    """The log is not read, or the election has not come that far."""


class Board:
    """The database and what is remembered between requests."""

    def __init__(
        self, store: Store, connection: Connection, key: SigningKey, follows: bool = False, archives: Archives | None = None, colours: bytes = b""
    ) -> None:  # fmt: skip
        """`follows` says that a process follows the chain into this database, or should; `colours` is the options' style sheet (bulletin.colours)."""
        self.store, self.connection, self.key, self.archives, self._follows = store, connection, key, archives, follows
        self.colours = colours
        self.assets = {f"/static/{name}": digest for name, digest in ASSETS.items()}
        if colours:
            self.assets[COLOURS] = hashlib.sha256(colours).hexdigest()
        self.feed, self.uploads = Feed(store), uploads.Uploads()
        self._remembered: dict[str, Remembered] = {}
        self._acts = Acts(None, 0, [], {})
        self._computing: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._templates = {language: _templates(words) for language, words in LANGUAGES.items()}

    @contextmanager
    def moment(self) -> Iterator[Moment]:
        """Raises NotYet before record 0 is read."""
        with self.store.read() as tx:
            size, files = tx.head().size, tx.files()
            poll = self.remember("poll", (tx.name(), bool(size), files), lambda: views.read_poll(tx))
            if poll is None:
                raise NotYet
            acts = self._acts_of(tx)
            yield Moment(tx, poll, acts.records, acts.papers, files)

    def remember(self, name: str, key: tuple[Any, ...], compute: Callable[[], Any]) -> Any:
        """The value of `name`, computed once as long as `key` stays: by one thread, while the others that want it wait.

        What takes long, as everything does that looks at all ballots of a nation, is not computed again with every record: for SHARE times as long as
        it took, what there is will do, if it is of the same database (the first of `key`); and so it will for those who would wait for another to compute it.
        """
        held, lock = self._remembered.get(name), self._computing[name]
        if held and held.fits(key):
            return held.value
        if not lock.acquire(blocking=not (held and held.lasts(key))):
            assert held
            return held.value
        try:
            held = self._remembered.get(name)
            if held is None or not held.fits(key):
                began = time.monotonic()
                value = compute()
                taken = time.monotonic() - began
                good = began + taken + SHARE * taken if taken > LONG else 0.0
                held = self._remembered[name] = Remembered(key, value, good)
            return held.value
        finally:
            lock.release()

    def per_head(self, now: Moment, name: str, compute: Callable[[], Any], *more: Any) -> Any:
        """A value that only new records, new files, or new answers of the engine can change, or `more` that it depends on."""
        tx = now.tx
        key = (tx.name(), tx.head().size, tx.fact("checked"), tx.fact("result"), now.files, *more)
        return self.remember(name, key, compute)

    def kept(self, request: Request, now: Moment, make: Callable[[], Response]) -> Response:
        """A page that everybody wants on election night: made once as long as nothing is new that it could show."""
        if request.url.query:
            return make()
        tx, note = now.tx, self.archives.note() if self.archives else None
        banner = (tx.name(), tx.fact("alarm"), self._followed(tx))  # never one of before, however long the page takes
        state = (banner, tx.head().size, tx.facts(), now.files, note)
        page: Response = self.remember(f"page {request.url.path}", state, make)
        return page

    def _acts_of(self, tx: Reading) -> Acts:
        """What was not read before is added: a nation's stations are not read again for every ballot."""
        place, held = (tx.name(), tx.head().size), self._acts
        if (held.name, held.size) == place:
            return held
        with self._computing["acts"]:
            name, size = place
            held = self._acts if self._acts.name == name else Acts(name, 0, [], {})
            if held.size > size:  # another moment was faster
                papers = {card: found for card, found in held.papers.items() if found[0] < size}
                return Acts(name, size, [act for act in held.records if act.position < size], papers)
            new = tx.acts(held.size)
            self._acts = Acts(name, size, held.records + new, views.papers(new, held.papers))
            return self._acts

    def election(self, now: Moment) -> Value:
        tx = now.tx
        changing = (
            (tx.name(), tx.fact("alarm")),
            tx.head().size,
            tx.cursor(),
            *(tx.fact(name) for name in ("certified", "setup", "result")),
        )
        return self.remember("election", changing, lambda: views.election_value(tx, now.poll, now.acts))

    def stations(self, now: Moment) -> list[Value]:
        return self.per_head(now, "stations", lambda: views.stations(now.poll, now.acts))

    def result(self, now: Moment) -> Value:
        """With the groups of each contest, once they are decrypted."""

        def compute() -> Value:
            value, online = views.result(now.tx, now.poll, now.acts, self.standing(now)), self.online(now)
            for number, contest in enumerate(value["contests"]):
                contest["groups"] = None if online is None else regions.group_values(now.poll.units, online[number])
            return value

        return self.per_head(now, "result", compute)

    def online(self, now: Moment) -> regions.Online | None:
        return self.per_head(now, "online", lambda: regions.decrypted(now.tx, now.poll, now.acts))

    def known(self, now: Moment) -> picture.Known | None:
        """What the central picture is drawn from; None while a list that it needs is not published."""
        return self.per_head(
            now, "known", lambda: places.known(now.tx, now.poll, now.acts, self.turnout(now), now.early), now.early
        )

    def flags(self, now: Moment) -> list[Value]:
        """What there is to ask about. Some of it comes with time alone, so it is looked at again every minute of the chain's clock."""
        known = self.known(now)
        when = (now.time // 60, now.early)
        return self.per_head(now, "flags", lambda: places.flags(known, now.time) if known else [], when)

    def station(self, now: Moment, number: int) -> Value | None:
        """None for what is no station."""
        if number >= len(now.poll.stations):
            return None
        return places.station(now.poll, self.stations(now)[number], self.known(now), self.flags(now), now.early)

    def turnout(self, now: Moment) -> Value:
        return self.per_head(now, "turnout", lambda: views.turnout(now.tx, now.poll))

    def ballot(self, now: Moment, digest: str, words: Words = ENGLISH) -> Value | None:
        return views.ballot(now.tx, now.poll, bytes.fromhex(digest), now.papers, words)

    def timeline(self, now: Moment) -> Value:
        return self.per_head(now, "timeline", lambda: views.timeline(now.tx))

    def attempts(self, now: Moment) -> Value:
        return self.per_head(now, "attempts", lambda: views.attempts(now.tx, len(now.papers)))

    def standing(self, now: Moment) -> dict[int, StationResult]:
        known = self.known(now)
        return known.standing if known else self.per_head(now, "standing", lambda: views.standing(now.poll, now.acts))

    def region(self, now: Moment, unit: int) -> Value | None:
        """None for what is no unit."""
        return regions.region(now.poll, self.regions(now), unit) if unit < len(now.poll.units) else None

    def regions(self, now: Moment) -> list[Value]:
        standing, turnout, online = self.standing(now), self.turnout(now), self.online(now)
        return self.per_head(now, "regions", lambda: regions.regions(now.poll, standing, turnout, online))

    def table(self, now: Moment) -> bytes:
        """The results by region, for a spreadsheet."""
        return self.per_head(now, "table", lambda: regions.table(now.poll, self.regions(now), self.result(now)))

    def network(self, now: Moment) -> Value:
        """The validators of the manifest, the latest blocks with records, and who signed lately if there is a validator to ask."""
        consensus = None
        if now.poll.manifest.validators and self.connection.comet:
            consensus = self.remember("consensus", (int(time.monotonic() / CONSENSUS_POLL),), self._ask_validator)
        signed = {member["key"]: member for member in consensus["members"]} if consensus else {}
        return {
            "engine": now.poll.manifest.engine, "sealed": now.tx.fact("sealed"), "asked": bool(self.connection.comet), "consensus": consensus,
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

    def verify(self, now: Moment) -> Value:
        """The commands by which anyone checks everything, with this election's values."""
        where = f"--rpc {self.connection.rpc} --contract {checksummed(now.poll.contract)}"
        election_id = now.poll.manifest.election_id.hex()
        return {
            "command": f"ballotboard verify tally {where} --election {election_id}",
            "before_the_result": f"ballotboard verify config {where} --election {election_id}",
            "receipt": f"ballotboard verify receipt FILE {where}",
            "receipt_offline": "ballotboard verify receipt FILE",
            "rpc": self.connection.rpc, "contract": now.poll.contract.hex(), "election": election_id, "assets": self.assets,
            "boards": self.connection.boards, "archive": archive_value(self.archives, Kind.CLOSE in {act.kind for act in now.acts}),
            "archive_command": f"ballotboard verify tally {election_id}.archive --election {election_id}",
            "checkpoint_key": verifier_key(origin(now.poll.manifest.election_id), self.key),
        }  # fmt: skip

    async def too_much(self, scope: Scope, wait: int) -> Response:
        """To who asks too much: to come again in `wait` seconds. Asks nothing of the database."""
        request, headers = Request(scope), {"retry-after": f"{wait}"}
        words, _ = language(request)
        text = words.say("error.429", seconds=wait)
        if for_programs(request):
            return JSONResponse({"error": 429, "detail": text}, 429, headers)
        answer = self.page(request, "error.html", 429, now=None, number=429, detail=text)
        answer.headers.update(headers)
        return answer

    @property
    def problem(self) -> str:
        """Why this board is not to be relied on just now, "" if it is."""
        with self.store.read() as tx:
            if alarm := tx.fact("alarm"):
                return str(alarm)
            told = self._followed(tx)
        return told.trouble or ("" if told.synced else "the log is still being read")

    def _followed(self, tx: Reading) -> Followed:
        return followed(tx) if self._follows else Followed(True, "")

    def page(self, request: Request, template: str, status: int = 200, **values: Any) -> Response:
        """A page in the language of the request, with the banner that the state of the board calls for. Opens its own moment for the frame
        if none is given. `here` is the address of the page in other languages, if not that of the request."""
        if "now" not in values:
            try:
                with self.moment() as now:
                    return self.page(request, template, status, now=now, **values)
            except NotYet:
                with self.store.read() as tx:
                    values |= {"now": None, "told": self._followed(tx)}
            except StoreError as error:
                values |= {"now": None, "told": Followed(False, str(error))}
        now = values.pop("now")
        told = values.pop("told", self._followed(now.tx) if now else Followed(True, ""))
        words, here = language(request)
        here = values.pop("here", here)
        frame: Value = {
            "election": self.election(now) if now else None, "trouble": told.trouble,
            "reading": not told.synced and not told.trouble, "practice": bool(now and now.poll.manifest.practice),
            "style": COLOURS if self.colours else "", "here": here, "page": here.partition("?")[0].split("/")[1],
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


def language(request: Request) -> tuple[Words, str]:
    """The language that the address names, else the browser's, and the rest of the address."""
    first, _, rest = request.url.path.removeprefix("/").partition("/")
    query = f"?{request.url.query}" if request.url.query else ""
    if first in LANGUAGES:
        return LANGUAGES[first], f"/{rest}{query}"
    return LANGUAGES[negotiate(request.headers.get("accept-language", ""))], request.url.path + query


def for_programs(request: Request) -> bool:
    return request.url.path.startswith((API, "/healthz", "/readyz", "/metrics"))


def or_404(value: Any, otherwise: str) -> Any:
    if value is None:
        raise HTTPException(404, otherwise)
    return value
