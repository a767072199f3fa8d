"""A static copy of a board, which any web server can show: pages in every language, their files, the record as data, and the log's tiles.

Pages become `…/index.html`, everything else a file of its own name. What needs a server is left out (search, events), and so are lists from
the second page on: the record itself is in the tiles and the data, and a verifier needs neither.
"""

from __future__ import annotations

from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import httpx

from bulletin.board import API
from bulletin.tiles import WIDTH
from protocol.errors import BallotboardError

TIMEOUT = 30.0
"""Seconds for one answer."""

DATA = (
    "election",
    "head",
    "turnout",
    "timeline",
    "attempts",
    "stations",
    "result",
    "results.csv",
    "network",
    "verify",
    "openapi.json",
)
"""What of the API is one answer each."""

DYNAMIC = ("/find", "/display", f"{API}/events")

Progress = Callable[[int, int], None]


class _Links(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag in ("a", "link", "script"):
            self.found += [value for name in ("href", "src") if (value := values.get(name))]


def mirror(url: str, out: Path, progress: Progress | None = None) -> int:
    """Writes the copy of the board at `url` under `out`; gives how many files. Raises BallotboardError where the board does not answer."""
    base = url.rstrip("/")
    with httpx.Client(timeout=TIMEOUT, trust_env=False) as web:
        start = _get(web, base + "/", follow=True)
        size = _get(web, f"{base}{API}/head").json()["size"]
        todo = [urlsplit(str(start.url)).path, "/checkpoint", *(f"{API}/{name}" for name in DATA), *_tiles(size)]
        seen, done = set(todo), 0
        while todo:
            path = todo.pop(0)
            if path.startswith("/archive/"):  # the one file that may be larger than memory
                _fetch(web, base + path, _place(out, path))
                done += 1
                continue
            answer = _get(web, base + path)
            page = answer.headers["content-type"].startswith("text/html")
            _write(out, path + ("/index.html" if page else ""), answer.content)
            done += 1
            if page:
                for link in _Links(answer.text).found:
                    target = urlsplit(urljoin(base + path, link))
                    inside = f"{target.scheme}://{target.netloc}" == base and not target.query
                    if inside and target.path not in seen and not target.path.endswith(DYNAMIC):
                        seen.add(target.path)
                        todo.append(target.path)
            if progress:
                progress(done, done + len(todo))
    return done


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


def _get(web: httpx.Client, url: str, follow: bool = False) -> httpx.Response:
    try:
        answer = web.get(url, follow_redirects=follow)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise BallotboardError(f"{url} does not answer: {error}") from error
    if answer.status_code != 200:
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
