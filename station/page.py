"""The page for poll workers: the station's commands as large buttons in this machine's browser, in English and French, with or without a network.

Nothing is decided here: each button calls one function of station.actions, and what it refuses is shown in the page's language (station.words). The server listens on loopback only, needs no file
but this one, and sends neither script nor anything from elsewhere. Who opens the page must have the link that `serve` prints: its key goes into a cookie.
Requests are served one after the other, as the journal has one writer.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from http.cookies import SimpleCookie
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from chain.board import Board
from chain.carrier import Carrier
from chain.keys import load_account
from protocol.errors import BallotboardError
from protocol.manifest import Contest
from protocol.paper import ContestCount
from station import actions
from station.folder import StationFolder
from station.result import BLANK, INVALID, Counted, contest_count
from station.words import BOARD, WORDS, Speaker, both, refusal, speaker

MAX_BODY = 100_000
"""Bytes of a form: a hundred options in ten contests take a tenth of it."""

PAPERS = ("issued", "spoiled", "unreturned", "in_box")
"""The figures of a count that are of no contest."""

Network = Callable[[], Board | None]

STYLE = """
*{box-sizing:border-box}body{font:1.25rem/1.5 system-ui,sans-serif;margin:0 auto;max-width:44rem;padding:1rem;color:#111;background:#fff}
h1{font-size:1.6rem;margin:.2rem 0}h2{font-size:1.3rem;margin:1.5rem 0 .3rem}section{border-top:2px solid #999}
label{display:block;margin:.6rem 0 .2rem}input{font:inherit;width:100%;min-height:3rem;padding:.4rem .6rem;border:2px solid #555;border-radius:.4rem}
input[type=checkbox]{width:2rem;height:2rem;min-height:0;vertical-align:middle}
button,a.b{font:inherit;font-weight:600;display:block;width:100%;min-height:3.6rem;margin:.8rem 0;padding:.6rem;border:0;border-radius:.5rem;
background:#0b4f9e;color:#fff;text-align:center;text-decoration:none}button.quiet{background:#555}
:focus-visible{outline:4px solid #f90;outline-offset:2px}.note{padding:.8rem;border-left:.5rem solid #1a7f37;background:#eaf6ec}
.bad{border-color:#b00020;background:#fdecee}table{width:100%}td{text-align:right}th{text-align:left;font-weight:400}pre{font-size:.85rem;overflow:auto}
nav{text-align:right}@media(prefers-color-scheme:dark){body{background:#111;color:#eee}input{background:#222;color:#eee}
.note{background:#12301a}.bad{background:#3a1218}}
"""


@dataclass
class Session:
    """One page: the folder it works on, how to find the network, and the key that the browser must show."""

    folder: StationFolder
    network: Network
    key: str


def serve(folder: StationFolder, port: int, network: Network, say: Callable[[str], None]) -> None:
    """Serve the page until ^C; `say` is told its link. Raises BallotboardError if the port is taken."""
    with server(folder, port, network) as (httpd, link):
        say(f"open this link in a browser on this machine: {link}")
        say("^C ends it")
        httpd.serve_forever()


@contextmanager
def server(folder: StationFolder, port: int, network: Network) -> Iterator[tuple[HTTPServer, str]]:
    """An HTTP server on loopback and the link to its page; port 0 takes a free one."""
    session = Session(folder, network, secrets.token_urlsafe(24))
    try:
        httpd = HTTPServer(("127.0.0.1", port), _handler(session))
    except OSError as error:
        raise BallotboardError(f"cannot listen on port {port}: {error.strerror}; choose another with --port") from error
    try:
        yield httpd, f"http://127.0.0.1:{httpd.server_address[1]}/?key={session.key}"
    finally:
        httpd.server_close()


# ---------------------------------------------------------------- what the buttons do

Form = Mapping[str, str]


def act(session: Session, path: str, form: Form, language: int) -> str:
    """Do what a button says; gives the message for the person, as HTML. Raises BallotboardError."""
    folder, board, t = session.folder, None, speaker(language)
    if path in ("/open", "/count", "/sync"):
        board = session.network()
    if path == "/open":
        actions.open_station(folder, board)
        return t("opened")
    if path == "/check-in":
        actions.check_in(folder, [actions.read_card(folder, form.get("card", ""))], hand_out=True)
        return f"{escape(form['card'])}: {t('checked-in')}"
    if path == "/replace":
        actions.issue(folder, replacing=True)
        return t("replaced")
    if path == "/close":
        if not form.get("sure"):
            raise actions.NotDue("confirm that the last voter has left", "not-sure")
        actions.close_station(folder)
        return t("closed")
    if path == "/count":
        done = actions.enter(folder, _figures(folder, form, t), form.get("by", ""), board, form.get("reason", ""))
        if "differs" not in done.data:
            return t("agreed")
        names = ", ".join(
            t(name.replace(" ", "_")) if name.replace(" ", "_") in WORDS else name for name in done.data["differs"]
        )
        return f"{t('differs')} {escape(names)}" if names else t("first")
    if path in ("/sign", "/sync"):
        name = form.get("key", "")
        account = load_account(Path(name), form.get("passphrase", "")) if name or path == "/sign" else None
        if account and path == "/sign":
            actions.sign(folder, account)
            return t("signed")
        if board is None:
            return t("offline")
        relayers = folder.connection.relayers
        if not account and not relayers:
            raise actions.NotDue("no relayer is known here: name a key file of an account that can pay", "no-sender")
        sender = account or Carrier(board.web3, board.address, relayers)
        refused = actions.sync(folder, board, sender).data["refused"]
        return f"{t('partly')} {BOARD[refused][language]}" if refused else t("synced")
    raise actions.NotDue(f"there is no page {path}", "no-page", path=path)


def look_up(session: Session, card: str, language: int) -> str:
    """What to tell the voter, and the button that checks in if they may vote."""
    folder, t = session.folder, speaker(language)
    found = actions.look_up(folder, actions.read_card(folder, card)).data
    good, index = found["may_vote"], found["index"]
    text = f'<p class="note{"" if good else " bad"}" role="status">{index} {t(found["state"])}</p>'
    return text + (_form("/check-in", t("check-in"), f'<input type="hidden" name="card" value="{index}">', focus=True) if good else "")  # fmt: skip


def _figures(folder: StationFolder, form: Form, t: Speaker) -> Counted:
    issued, spoiled, unreturned, in_box = (_number(form, name, t(name)) for name in PAPERS)
    rows: list[ContestCount] = []
    for index in _style(folder):
        contest = folder.manifest.contests[index]
        labels = _labels(contest, t)
        counts = {name: _number(form, f"c{index}.{place}", labels[place]) for place, name in enumerate(_names(contest))}
        rows.append(contest_count(index, contest, counts))
    return Counted(issued, spoiled, unreturned, in_box, tuple(rows))


def _number(form: Form, name: str, label: str) -> int:
    text = form.get(name, "").strip()
    if not text.isdecimal() or len(text) > 9:
        raise actions.NotDue(
            f"a figure is missing or is no number: {label}; write 0 where there is none", "no-figure", name=label
        )
    return int(text)


def _names(contest: Contest) -> list[str]:
    return [*contest.options, *([BLANK] if contest.blank is None else []), INVALID]


def _labels(contest: Contest, t: Speaker) -> list[str]:
    """What stands beside the fields of a contest's count."""
    words = {BLANK: t("blank") if contest.blank is None else BLANK, INVALID: t("invalid")}
    return [f"{contest.title}: {words.get(name, name)}" for name in _names(contest)]


def _style(folder: StationFolder) -> tuple[int, ...]:
    return tuple(folder.manifest.styles[folder.units[folder.station.unit].style])


# ---------------------------------------------------------------- what it looks like


def page(
    session: Session, language: int, message: str = "", bad: bool = False, below: str = "", typed: Form | None = None
) -> str:
    """The whole page: where the station is, the last message, and the buttons that make sense now; `typed` fills the count again that was refused."""
    folder, t = session.folder, speaker(language)
    state, status = folder.state, actions.status(folder)
    rows = [("check-ins", status["check_ins"]), ("papers", status["papers"]["issued"])]
    rows += [("left", status["papers"]["left"])] if status["papers"]["left"] is not None else []
    unsigned = sum(not item.complete for item in (*state.batches, *state.documents))
    rows += [("waiting", unsigned + bool(status["unbatched"]))] if unsigned or status["unbatched"] else []
    body = "".join(f"<tr><th scope=row>{t(name)}</th><td>{number}</td></tr>" for name, number in rows)
    practice = f" · {t('practice')}" if folder.manifest.practice else ""
    note = (
        f'<p class="note{" bad" if bad else ""}" role="{"alert" if bad else "status"}">{message}</p>' if message else ""
    )
    return (
        f'<!doctype html><html lang="{("en", "fr")[language]}"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{escape(folder.station.name)}: {t('title')}</title><style>{STYLE}</style>"
        f'<nav><a href="/?lang={("fr", "en")[language]}" lang="{("fr", "en")[language]}">{t("other")}</a></nav>'
        f"<main><h1>{t('title')} {folder.station.number}: {escape(folder.station.name)}{practice}</h1>"
        f"{note}{below}<table>{body}</table>{_sections(session, t, typed or {})}</main></html>"
    )


def _sections(session: Session, t: Speaker, typed: Form) -> str:
    folder = session.folder
    state = folder.state
    parts: list[str] = []
    if not state.opened:
        parts.append(_form("/open", t("open")))
    elif not state.closed:
        field = _field("card", t("card"), "autofocus autocomplete=off")
        parts.append(_form("/look-up", t("look-up"), f"{field}<p><strong>{t('never')}</strong></p>"))
        parts.append(_form("/replace", t("replace"), quiet=True))
    elif not state.documents:
        fields = _field("by", t("by"), "autocomplete=off", typed)
        numbers = [(name, t(name)) for name in PAPERS]
        for index in _style(folder):
            contest = folder.manifest.contests[index]
            numbers += [(f"c{index}.{place}", escape(label)) for place, label in enumerate(_labels(contest, t))]
        digits = "inputmode=numeric pattern='[0-9]{1,9}' autocomplete=off"
        fields += "".join(_field(name, label, digits, typed) for name, label in numbers)
        fields += _field("reason", t("reason"), "", typed, required=False)
        parts.append(f"<h2>{t('count')}</h2><p>{t('two')}</p>" + _form("/count", t("enter"), fields))
    else:
        parts.append(f"<pre>{escape(actions.sheet(folder))}</pre>")
    if state.opened:
        for act, quiet in (("sign", False), ("sync", True)):
            key = _field("key", t("key"), required=not quiet)
            key += _field("passphrase", t("passphrase"), "type=password autocomplete=off", required=not quiet)
            note = f"<p>{t('relayed')}</p>" if quiet else ""
            parts.append(f"<h2>{t(act)}</h2>{note}" + _form(f"/{act}", t(act), key, quiet=quiet))
    if state.opened and not state.closed:
        sure = f'<label><input type="checkbox" name="sure" value="1"> {t("sure")}</label>'
        parts.append(_form("/close", t("close"), sure, quiet=True))
    return "".join(f"<section>{part}</section>" for part in parts)


def _form(path: str, button: str, fields: str = "", focus: bool = False, quiet: bool = False) -> str:
    extra = " autofocus" if focus else ""
    return f'<form method="post" action="{path}">{fields}<button{extra} class="{"quiet" if quiet else ""}">{button}</button></form>'


def _field(name: str, label: str, attributes: str = "", typed: Form | None = None, required: bool = True) -> str:
    value = escape((typed or {}).get(name, ""))
    return f'<label>{label}<input name="{name}" value="{value}" {"required" if required else ""} {attributes}></label>'


# ---------------------------------------------------------------- HTTP


def _handler(session: Session) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = 30

        def do_GET(self) -> None:
            query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
            if hmac.compare_digest(query.get("key", "").encode(), session.key.encode()):
                self._redirect([f"key={session.key}"])  # the link's key leaves the address bar
            elif not self._known():
                self._answer(403, both("link"))
            elif query.get("lang") in ("en", "fr"):
                self._redirect([f"lang={query['lang']}"])
            elif urlsplit(self.path).path != "/":
                self._answer(404, both("nothing"))
            else:
                self._answer(200, page(session, self._language()))

        def do_POST(self) -> None:
            length = self.headers.get("Content-Length", "")
            if not length.isdecimal() or int(length) > MAX_BODY:
                self.close_connection = True
                self._answer(413, both("form"))
                return
            body = self.rfile.read(int(length)).decode("utf-8", "replace")
            if not self._known() or not self._own():
                self._answer(403, both("link"))
                return
            form = {name: values[0] for name, values in parse_qs(body).items()}
            language = self._language()
            try:
                if self.path == "/look-up":
                    text = page(session, language, below=look_up(session, form.get("card", ""), language))
                else:
                    text = page(session, language, act(session, self.path, form, language))
                self._answer(200, text)
            except BallotboardError as error:
                why = f"<strong>{WORDS['refused'][language]}</strong> {escape(refusal(error, language))}"
                self._answer(409, page(session, language, why, True, typed=form if self.path == "/count" else None))

        def _cookies(self) -> dict[str, str]:
            return {name: found.value for name, found in SimpleCookie(self.headers.get("Cookie", "")).items()}

        def _known(self) -> bool:
            """Whether the browser has the key, and asks for this machine by its address: a page elsewhere cannot make it do so."""
            host = self.headers.get("Host", "").partition(":")[0]
            return host in ("127.0.0.1", "localhost") and hmac.compare_digest(
                self._cookies().get("key", "").encode(), session.key.encode()
            )

        def _own(self) -> bool:
            origin = self.headers.get("Origin")
            return origin in (None, f"http://{self.headers.get('Host', '')}")

        def _language(self) -> int:
            chosen = self._cookies().get("lang") or self.headers.get("Accept-Language") or ""
            return int(chosen.startswith("fr"))

        def _redirect(self, cookies: list[str]) -> None:
            self.send_response(303)
            self.send_header("Location", "/")
            for cookie in cookies:
                self.send_header("Set-Cookie", f"{cookie}; HttpOnly; SameSite=Strict; Path=/")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def _answer(self, status: int, text: str) -> None:
            data = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", f"text/{'html' if text.startswith('<') else 'plain'}; charset=utf-8")
            self.send_header("Content-Length", str(len(data)))
            self.send_header("Cache-Control", "no-store")
            self.send_header(
                "Content-Security-Policy",
                "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'",
            )
            self.send_header("Referrer-Policy", "same-origin")
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *arguments: object) -> None:
            """Nothing: roll indices do not belong into a log."""

    return Handler
