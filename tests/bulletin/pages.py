"""What a page says, taken out of its HTML."""

from __future__ import annotations

from html.parser import HTMLParser

VOID = {"meta", "link", "input", "rect", "br"}


class Page(HTMLParser):
    """`text`, `tables` (caption → rows of cells), `headings` (levels), `inline` (scripts in the page itself), and every element as (tag, attributes) in `elements`.

    Whatever is not closed, or closed and not open, is an AssertionError: text from a record that broke out of its place would do that.
    """

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text, self.alerts, self.inline = "", "", ""
        self.tables: dict[str, list[list[str]]] = {}
        self.headings: list[int] = []
        self.labels: dict[str, str] = {}
        self._open: list[tuple[str, dict[str, str]]] = []
        self._rows: list[list[str]] = []
        self._caption = ""
        self.feed(html)
        self.close()
        assert not self._open, self._open

    def handle_starttag(self, tag, attrs):
        values = {name: value or "" for name, value in attrs}
        self.elements.append((tag, values))
        if tag == "table":
            self._rows, self._caption = [], ""
        elif tag == "tr":
            self._rows.append([])
        elif tag in ("td", "th"):
            self._rows[-1].append("")
        elif tag[0] == "h" and tag[1:].isdigit():
            self.headings.append(int(tag[1]))
        if tag not in VOID:
            self._open.append((tag, values))

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag):
        assert self._open and self._open[-1][0] == tag, (tag, self._open)
        self._open.pop()
        if tag == "table":
            self.tables[self._caption] = [[" ".join(cell.split()) for cell in row] for row in self._rows]

    def handle_data(self, data):
        tags = [tag for tag, _ in self._open]
        if "script" in tags:
            self.inline += data.strip()
        self.text += data
        if any(attrs.get("role") == "alert" for _, attrs in self._open):
            self.alerts += data
        if "caption" in tags:
            self._caption += data
        elif "td" in tags or "th" in tags:
            self._rows[-1][-1] += data
        if tags and tags[-1] == "label":
            self.labels[self._open[-1][1]["for"]] = data

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attrs for name, attrs in self.elements if name == tag]

    def rows(self, caption: str) -> list[list[str]]:
        """The cells of a table below its head, without the column of bars."""
        head, *rows = self.tables[caption]
        return [[cell for name, cell in zip(head, row, strict=True) if name] for row in rows]

    def head(self, caption: str) -> list[str]:
        return [name for name in self.tables[caption][0] if name]
