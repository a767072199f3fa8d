"""Rolls keyed by a hash: `SHA-256(id|CODE|ballot)` in place of a national id, as other systems name their voters.

CODE is in upper case, the three are joined by `|` in UTF-8, and the digest is 64 lower-case hex digits. The result is a voters' list like any
other (`registrar roll` takes it), in which nobody finds an id who does not have the code that belongs to it.
"""

from __future__ import annotations

import csv
import hashlib
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

from authority.registrar_roll import MAX_PROBLEMS, REPORT, RollError, Steps, silent
from protocol.credential import CODE_BYTES, print_code
from protocol.errors import BallotboardError

SEPARATOR = "|"
"""A field that has one is refused: `a|b` and `c` would hash like `a` and `b|c`."""

CODES_AT_ONCE = 4096
"""Codes drawn in one call of the operating system."""


def voter_hash(id: str, code: str, ballot: str) -> str:
    """SHA-256(id|CODE|ballot) as 64 hex digits."""
    return hashlib.sha256(f"{id}|{code.upper()}|{ballot}".encode()).hexdigest()


def make_hashes(people: Path, out: Path, codes: Path | None = None, progress: Steps = silent) -> int:
    """A voters' list whose ids are hashes; gives the number of lines.

    `people` is CSV in UTF-8 with columns id, code and ballot, and maybe unit and style, which are kept. Without a column `code` one is drawn
    for each line, and the new file `codes` gets (id, code): it is secret. Raises RollError naming every line that is wrong; then nothing is
    written. That an id is there once is for whoever keeps the register: two lines of one id with two codes have two hashes.
    """
    for path in (out, codes):
        if path and path.exists():
            raise BallotboardError(f"{path} exists and is not overwritten: choose another file")
    targets = [path for path in (out, codes) if path]
    asides = [path.with_name(path.name + ".part") for path in targets]
    problems: list[str] = []
    try:
        with ExitStack() as opened:
            source = opened.enter_context(people.open(encoding="utf-8-sig", errors="surrogateescape", newline=""))
            files = [opened.enter_context(_new(aside)) for aside in asides]
            count = _hash_all(source, people.stat().st_size, files, problems, progress)
            for file in files:
                file.flush()
                os.fsync(file.fileno())
        if problems:
            raise RollError(str(people), problems)
        for aside, target in zip(asides, targets, strict=True):
            aside.rename(target)
        return count
    except OSError as error:
        raise BallotboardError(f"cannot read or write {error.filename}: {error.strerror}") from error
    finally:
        for aside in asides:
            aside.unlink(missing_ok=True)


def _hash_all(source: IO[str], size: int, files: Sequence[IO[str]], problems: list[str], progress: Steps) -> int:
    rows = csv.reader(source, strict=True)
    columns = [name.strip() for name in next(rows, ())]
    drawn = "code" not in columns
    if not {"id", "ballot"} <= set(columns) <= {"id", "code", "ballot", "unit", "style"} or len(set(columns)) != len(
        columns
    ):
        problems.append(
            "line 1: the first line must name the columns id, code and ballot, and maybe unit and style, each once"
        )
    elif drawn != (len(files) == 2):
        problems.append(
            "line 1: there is no column code, so codes are drawn: say where to write them (--codes)"
            if drawn
            else "line 1: there is a column code already: codes are drawn (--codes) where there is none"
        )
    if problems:
        return 0
    tables: list[Any] = [csv.writer(file, lineterminator="\n") for file in files]
    kept = [columns.index(name) for name in ("unit", "style") if name in columns]
    tables[0].writerow(["id", *(columns[place] for place in kept)])
    if drawn:
        tables[1].writerow(["id", "code"])
    at_id, at_ballot, at_code = columns.index("id"), columns.index("ballot"), -1 if drawn else columns.index("code")
    codes, count, sha256 = _codes(), 0, hashlib.sha256
    while True:
        try:
            row = next(rows)
        except StopIteration:
            break
        except csv.Error as error:
            problems.append(f"line {rows.line_num}: {error}")
            continue
        if len(row) != len(columns):
            problems.append(f"line {rows.line_num}: has {len(row)} fields, the header {len(columns)}")
        else:
            id, ballot = row[at_id].strip(), row[at_ballot].strip()
            code = next(codes) if drawn else row[at_code].strip().upper()
            joined = f"{id}|{code}|{ballot}"
            if not (id and code and ballot and joined.isprintable()) or joined.count(SEPARATOR) != 2:
                problems.append(
                    f"line {rows.line_num}: id, code and ballot must be readable text in UTF-8 without {SEPARATOR}"
                )
            else:
                count += 1
                tables[0].writerow([sha256(joined.encode()).hexdigest(), *[row[place] for place in kept]])
                if drawn:
                    tables[1].writerow([id, code])
        if len(problems) >= MAX_PROBLEMS:
            problems.append(
                f"line {rows.line_num + 1}: not read, nor what follows: there are too many wrong lines before it"
            )
            break
        if not rows.line_num % REPORT:
            progress("hashes", count, 0)
    if not count and not problems:
        problems.append("line 2: there is nobody")
    progress("hashes", count, count)
    return count


def _codes() -> Iterator[str]:
    """Fresh codes, without end."""
    while True:
        data = secrets.token_bytes(CODE_BYTES * CODES_AT_ONCE)
        for start in range(0, len(data), CODE_BYTES):
            yield print_code(data[start : start + CODE_BYTES])


def _new(path: Path) -> IO[str]:
    """A file that only its owner can read."""
    opener: Callable[[str, int], int] = lambda name, flags: os.open(name, flags, 0o600)  # noqa: E731
    return open(path, "w", encoding="utf-8", newline="", opener=opener)
