"""The report as one page that needs nothing else: no script, no font, no picture from anywhere, and a policy that forbids them.

What comes from a record is text between tags or a number in an attribute, always escaped. The chart is SVG in the page, drawn with
attributes alone, since the policy lets no style but the one whose hash it names take effect.
"""

from __future__ import annotations

import base64
import hashlib
from html import escape
from typing import Any

from verifier.check import GROUPS, NOT_APPLICABLE
from verifier.report import CONSISTENT, NOT_VERIFIED, Report, complaint_lines

WIDTH, ROW = 720, 26
"""Of a chart, in pixels: as wide as the text, and a row that two lines of it fit in."""

LABEL, NUMBER = 200, 70
"""Pixels for an option's name, and for its number at the end."""

ONLINE, PAPER = "#1f5fa8", "#c9791b"
"""Colours that stay apart in every common form of colour blindness, and in grey."""

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 45rem; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a; background: #fff; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
.verdict { border-left: .4rem solid #1b7a3d; padding: .5rem 1rem; background: #eef7f0; }
.verdict.bad { border-color: #b3261e; background: #fbeceb; } .verdict.open { border-color: #8a6100; background: #fdf6e3; }
table { border-collapse: collapse; width: 100%; } td, th { text-align: left; vertical-align: top; padding: .25rem .5rem; border-bottom: 1px solid #ddd; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; } .fail { color: #b3261e; font-weight: bold; }
code { overflow-wrap: anywhere; font-size: .9em; } td { overflow-wrap: anywhere; } svg { max-width: 100%; height: auto; }
@media print { body { margin: 0; max-width: none; } }
"""


def page(report: Report) -> str:
    """The whole page."""
    value = report.json()
    name = value["name"] or "unknown election"
    digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    kind = {NOT_VERIFIED: " bad", CONSISTENT: " open"}.get(report.verdict, "")
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        f"<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'sha256-{digest}'\">",
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(name)}: {escape(report.verdict)}</title><style>{STYLE}</style></head><body>",
        f"<h1>{escape(name)}{' (practice)' if value['practice'] else ''}</h1>",
        f'<div class="verdict{kind}"><strong>{escape(report.verdict.upper())}</strong><p>{escape(value["sentence"])}</p></div>',
        _facts(value),
    ]
    parts += [_contest(contest) for contest in value["contests"]]
    parts.append("<h2>Checks</h2>")
    for letter, (_, question) in GROUPS.items():
        checks = [check for check in value["checks"] if check["id"][0] == letter]
        parts += [_checks(question, checks)] if checks else []
    if said := complaint_lines(value):
        rows = "".join(f"<li>{escape(line.strip())}</li>" for line in said[2:])
        parts.append(f"<h2>Complaints</h2><p>{escape(said[1])}</p><ul>{rows}</ul>")
    parts.append(f"<p>report <code>{value['report']}</code></p></body></html>\n")
    return "\n".join(parts)


def _facts(value: dict[str, Any]) -> str:
    rows = {
        "election id": value["election"] or "unknown",
        "board": f"chain {value['chain']}, 0x{value['contract']}",
        "log": f"{value['head']['size']} records, root {value['head']['root']}",
        "ballots": f"{value['ballots']} on the record, {value['accepted']} counted",
        **{name: str(number) for name, number in value["attempts"].items() if number},
    }
    cells = "".join(f"<tr><th>{escape(k)}</th><td><code>{escape(v)}</code></td></tr>" for k, v in rows.items())
    return f"<table>{cells}</table>"


def _contest(contest: dict[str, Any]) -> str:
    """A contest's table of votes, and the same as bars: online, then paper."""
    rows = list(zip(contest["options"], contest["online"], contest["paper"], contest["total"], strict=True))
    cells = "".join(
        f'<tr><td>{escape(option)}</td><td class="n">{a}</td><td class="n">{b}</td><td class="n">{c}</td></tr>'
        for option, a, b, c in rows
    )
    head = '<tr><th>option</th><th class="n">online</th><th class="n">paper</th><th class="n">total</th></tr>'
    return f"<h2>{escape(contest['title'] or contest['id'])}</h2>\n{chart(rows)}\n<table>{head}{cells}</table>"


def chart(rows: list[tuple[str, int, int, int]]) -> str:
    """Bars for (option, online, paper, total), the longest as wide as there is room."""
    room, most = WIDTH - LABEL - NUMBER, max([total for *_, total in rows] + [1])
    drawn = []
    for number, (option, online, paper, total) in enumerate(rows):
        top, first, second = number * ROW, room * online / most, room * paper / most
        shown = option if len(option) <= 26 else option[:25] + "…"
        drawn.append(
            f'<text x="{LABEL - 8}" y="{top + 17}" text-anchor="end">{escape(shown)}</text>'
            f'<rect x="{LABEL}" y="{top + 4}" width="{first:.1f}" height="{ROW - 8}" fill="{ONLINE}"/>'
            f'<rect x="{LABEL + first:.1f}" y="{top + 4}" width="{second:.1f}" height="{ROW - 8}" fill="{PAPER}"/>'
            f'<text x="{LABEL + first + second + 6:.1f}" y="{top + 17}">{total}</text>'
        )
    key = len(rows) * ROW + 18
    drawn.append(
        f'<rect x="{LABEL}" y="{key - 11}" width="12" height="12" fill="{ONLINE}"/><text x="{LABEL + 18}" y="{key}">online</text>'
        f'<rect x="{LABEL + 90}" y="{key - 11}" width="12" height="12" fill="{PAPER}"/><text x="{LABEL + 108}" y="{key}">paper</text>'
    )
    words = "; ".join(f"{option}: {online} online, {paper} on paper" for option, online, paper, _ in rows)
    height = key + 8
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" font-size="14" role="img">'
        f"<title>{escape(words)}</title>{''.join(drawn)}</svg>"
    )


def _checks(question: str, checks: list[dict[str, Any]]) -> str:
    rows = ""
    for check in checks:
        bad = "" if check["outcome"] in ("pass", NOT_APPLICABLE) else ' class="fail"'
        rows += (
            f"<tr><td>{check['id']}</td><td{bad}>{escape(check['outcome'])}</td>"
            f"<td>{escape(check['title'])}<br><small>{escape(check['detail'])}</small></td></tr>"
        )
    return f"<h3>{escape(question)}</h3><table>{rows}</table>"
