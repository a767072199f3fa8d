"""A static copy of a board, which any web server can show: pages in every language, their files, the record as data, and the log's tiles.

Pages become `…/index.html`, further pages of lists too (`/en/stations?from=100` is `/en/stations/from=100`), everything else a file of its own name. From
the overview on, link by link, so many pages are copied; beyond them, and for what needs a server (search, the big screen), links lead to the board that
was copied, and every page says so. The record itself is in the tiles and the data in any case, and a verifier needs no page.
"""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Callable
from html import escape, unescape
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urljoin, urlsplit

import httpx

from bulletin.board import API
from bulletin.tiles import WIDTH
from bulletin.words import ENGLISH, LANGUAGES
from protocol.errors import BallotboardError

TIMEOUT = 30.0
"""Seconds for one answer."""

PAGES = 10_000
"""Pages that are copied if nothing else is said: all of an election of some thousand ballots, some 150 MB, and a few minutes."""

TRIES, PATIENCE = 20, 60
"""How often a board is asked that finds that we ask too much, and the most seconds that it may have us wait each time."""

DATA = (
    "election",
    "head",
    "turnout",
    "timeline",
    "attempts",
    "stations",
    "flags",
    "result",
    "results.csv",
    "network",
    "verify",
    "openapi.json",
)
"""What of the API is one answer each."""

DYNAMIC = ("/find", "/display", f"{API}/events")

LISTS = re.compile(
    r"(from|before|in|map|state|rule|kind)=[a-z0-9-]+(&(from|before|in|map|state|rule|kind)=[a-z0-9-]+)*"
)
"""Queries of pages that can be copied: further pages of a list, and parts of one. What somebody looks for can be anything."""

LINK = re.compile(r'(href|src|action)="([^"]*)"')
"""A page's attributes, not its text: there, quotes are escaped."""

Progress = Callable[[int, int], None]


class Copied(NamedTuple):
    """How many files were written, and how many pages that were linked to are left out."""

    files: int
    left_out: int


def mirror(url: str, out: Path, progress: Progress | None = None, pages: int = PAGES) -> Copied:
    """Writes the copy of the board at `url` under `out`, of at most so many pages. Raises BallotboardError where the board does not answer."""
    base = url.rstrip("/")
    with httpx.Client(timeout=TIMEOUT, trust_env=False) as web:
        start = urlsplit(str(_get(web, base + "/", follow=True).url)).path
        size = _get(web, f"{base}{API}/head").json()["size"]
        copy = _Copy(base, size, pages)
        for path in (start, "/checkpoint", *(f"{API}/{name}" for name in DATA), *_tiles(size)):
            copy.add(path)
        files, needed = 0, set(copy.todo)
        while copy.todo:
            address = copy.todo.popleft()
            if address.startswith("/archive/"):  # the one file that may be larger than memory
                _fetch(web, base + address, _place(out, address))
                files += 1
                continue
            answer = _get(web, base + address, there=address in needed)
            if answer.status_code != 200:
                copy.left_out.add(address)
                continue
            place, content = _local(address), answer.content
            if answer.headers["content-type"].startswith("text/html"):
                content = copy.page(address, answer.text).encode()
                if address == start:
                    _write(out, "/index.html", content)
                    files += 1
                place += "/index.html"
            elif address.startswith(f"{API}/ballots/"):  # its page compares that head with this board's
                copy.add(f"{API}/heads/{answer.json()['head']['size']}")
            _write(out, place, content)
            files += 1
            if progress:
                progress(files, files + len(copy.todo))
    return Copied(files, len(copy.left_out))


class _Copy:
    """What is still to be copied, `todo`, what is known, and what is left out, by its address: path and query."""

    def __init__(self, base: str, size: int, pages: int) -> None:
        self.base, self.size, self.pages = base, size, pages
        self.todo: deque[str] = deque()
        self.seen: set[str] = set()
        self.left_out: set[str] = set()

    def add(self, address: str) -> bool:
        """Whether it is, or will be, in the copy."""
        path, _, query = address.partition("?")
        if path.endswith(DYNAMIC) or (query and not LISTS.fullmatch(query)):
            return False
        if address not in self.seen:
            if address in self.left_out or (self._is_page(path) and self.pages == 0):
                self.left_out.add(address)
                return False
            self.pages -= self._is_page(path)
            self.seen.add(address)
            self.todo.append(address)
        return True

    def page(self, address: str, text: str) -> str:
        """A page of the copy: with links that lead to where things are now, and with what it is said first."""

        def link(found: re.Match[str]) -> str:
            value = unescape(found[2])
            try:
                parts = urlsplit(urljoin(self.base + address, value))
            except ValueError:  # no address at all
                return found[0]
            if value.startswith("#") or f"{parts.scheme}://{parts.netloc}" != self.base:
                return found[0]
            there = parts.path + (f"?{parts.query}" if parts.query else "")
            inside = found[1] != "action" and self.add(there)
            new = (_local(there) if inside else self.base + there) + (f"#{parts.fragment}" if parts.fragment else "")
            return f'{found[1]}="{escape(new)}"'

        words = LANGUAGES.get(address.split("/")[1], ENGLISH)
        banner = f'<div class="banner trouble" role="status">{escape(words.say("copy.text", url=self.base, size=self.size))}</div>\n'
        # The check in the browser then asks the board that was copied, too, and does not take a head that is not here for a false one.
        text = text.replace('data-boards="', f'data-copy data-boards="{escape(self.base)} ', 1)
        return LINK.sub(link, text).replace('<header class="site">', banner + '<header class="site">', 1)

    def _is_page(self, path: str) -> bool:
        return path.split("/")[1] in LANGUAGES


def _local(address: str) -> str:
    """Where the copy has it: a query is a folder."""
    path, _, query = address.partition("?")
    return f"{path.rstrip('/')}/{query}" if query else path


def _tiles(size: int) -> list[str]:
    """The paths of all tiles of a log of `size` records, of every level, and of the entries."""
    found, level = [], 0
    while size:
        for number in range((size + WIDTH - 1) // WIDTH):
            width = min(WIDTH, size - number * WIDTH)
            groups = f"{number:0{(len(str(number)) + 2) // 3 * 3}d}"
            name = "/".join(f"x{groups[i : i + 3]}" for i in range(0, len(groups), 3))
            name = name[: name.rindex("x")] + name[name.rindex("x") + 1 :] + (f".p/{width}" if width < WIDTH else "")
            found += [f"/tile/{level}/{name}"] + ([f"/tile/entries/{name}"] if level == 0 else [])
        size, level = size // WIDTH, level + 1
    return found


def _get(web: httpx.Client, url: str, follow: bool = False, there: bool = True) -> httpx.Response:
    """The answer, after waiting where the board asks for it. `there` says that it must be 200, else it may be 404."""
    try:
        for _ in range(TRIES):
            answer = web.get(url, follow_redirects=follow)
            if answer.status_code != 429:
                break
            wait = answer.headers.get("retry-after", "")
            time.sleep(min(int(wait) if wait.isdecimal() else 1, PATIENCE))
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise BallotboardError(f"{url} does not answer: {error}") from error
    if answer.status_code != 200 and (there or answer.status_code != 404):
        raise BallotboardError(f"{url} answers {answer.status_code}: is this a board that has read its log?")
    return answer


def _fetch(web: httpx.Client, url: str, target: Path) -> None:
    """Writes what is at `url` to the file `target`, piece by piece."""
    try:
        with web.stream("GET", url) as answer, target.open("wb") as file:
            if answer.status_code != 200:
                raise BallotboardError(f"{url} answers {answer.status_code}: is this a board that has read its log?")
            for piece in answer.iter_bytes():
                file.write(piece)
    except httpx.HTTPError as error:
        raise BallotboardError(f"{url} does not answer: {error}") from error
    except OSError as error:
        raise BallotboardError(f"cannot write {target}: {error.strerror}") from error


def _write(out: Path, path: str, content: bytes) -> None:
    target = _place(out, path)
    try:
        target.write_bytes(content)
    except OSError as error:
        raise BallotboardError(f"cannot write {target}: {error.strerror}") from error


def _place(out: Path, path: str) -> Path:
    """The file of a path of the board, in a folder that is there."""
    # Paths come from the board: none may lead out of the folder.
    target = (out / path.lstrip("/")).resolve()
    if not target.is_relative_to(out.resolve()):
        raise BallotboardError(f"the board links to {path}, which is no place in the copy")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BallotboardError(f"cannot write {target}: {error.strerror}") from error
    return target
