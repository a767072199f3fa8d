"""The archives that a board offers for download, as those see them who serve them: files in a folder, and beside them a note of what there is.

    ID-DIGEST.archive       the whole record of the election ID in one file (docs/protocol.md, section 14)
    ID.archive.json         Note: which of them is offered, what is being made, and why there is no newer one

bulletin.archivist writes both, in another process.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bulletin.store import Store


@dataclass(frozen=True)
class Held:
    """A finished archive: of a log with `size` records and this root; `missing` ballots have no body here, `files` are published; `final` says whether
    it has a result; `sha256` and `bytes` are of the file `name`, and `record` is its record digest."""

    name: str
    size: int
    root: str
    missing: int
    files: int
    final: bool
    sha256: str
    bytes: int
    record: str


@dataclass(frozen=True)
class Note:
    """The archive that is offered, records done of how many of the one that is being made, and why the last one could not be, "" if it could."""

    held: Held | None
    making: tuple[int, int] | None
    trouble: str


NOTHING = Note(None, None, "")


class Archives:
    """Those of the log in `store` under `folder`."""

    def __init__(self, store: Store, folder: Path) -> None:
        self.folder, self._store, self._election = folder, store, ""

    @property
    def election(self) -> str:
        """Its id in hex, "" while the database is nobody's."""
        if not self._election:
            with self._store.read() as tx:
                self._election = (tx.fact("board") or {}).get("election", "")
        return self._election

    def path(self, held: Held) -> Path:
        return self.folder / held.name

    def note(self) -> Note:
        """What is there. An archive that is not whole is not."""
        try:
            value = json.loads(self._file.read_text())
            held = Held(**value["held"]) if value["held"] else None
            if held and self.path(held).stat().st_size != held.bytes:
                return NOTHING
            return Note(held, tuple(value["making"]) if value["making"] else None, value["trouble"])
        except (OSError, ValueError, TypeError, KeyError):
            return NOTHING

    def write(self, note: Note) -> None:
        """Whole, or not at all. Raises OSError."""
        part = self._file.with_name(self._file.name + ".part")
        part.write_text(json.dumps(asdict(note)))
        os.replace(part, self._file)

    @property
    def _file(self) -> Path:
        return self.folder / f"{self.election}.archive.json"


def value(archives: Archives | None, closed: bool) -> dict[str, Any]:
    """What the API and the page say: `state` is ready (a file is there), making, or none, and `problem` why there is none, or no newer one."""
    note = archives.note() if archives else Note(None, None, "this board has no node to make one from")
    held, making = note.held, note.making
    return {
        "state": "ready" if held else "making" if making else "none",
        "making": {"records": making[0], "of": making[1]} if making else None, "problem": note.trouble,
        "file": {
            "url": f"/archive/{archives.election}.archive", "size": held.size, "root": held.root, "sha256": held.sha256, "bytes": held.bytes,
            "record": held.record, "final": held.final,
        } if archives and held else None,
        "closed": closed,
    }  # fmt: skip
