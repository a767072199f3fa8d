"""The inner steps of making a roll: each takes one shard of the voters or one part of the roll, in the memory of one worker process.

    list/S  lines `tag line unit id`, in any order            →  deal        →  rows/S  rows in order of the roll, their ids, an index
    rows/*  the ranges of part Q of the roll                  →  print_part  →  parts/Q  roll rows, cards.csv, handout.csv

A voter's tag is a keyed hash of the id under the run's seed. It says which shard the voter is in, and the order of tags is the lot by which
serials are drawn; two lines with one id meet in one shard, side by side. Codes follow from the seed too, so a step that was killed is
made again to the same bytes. The seed is as secret as all codes together, and is deleted with the run's folder.
"""

from __future__ import annotations

import csv
import ctypes
import hashlib
import io
import json
import os
import signal
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from struct import Struct
from typing import Any, NamedTuple

from protocol import engine
from protocol.credential import CODE_BYTES, print_code
from protocol.encoding import u32
from protocol.errors import BallotboardError
from protocol.group import add, is_point

ROW = Struct(">I32sQ16s")
"""unit, public key, serial, code: these bytes sort as the roll does."""

TAG_BYTES = 8
"""Of a voter's tag: its first byte chooses the shard, all of it the order there. Two equal ones of two ids do no harm."""

CARD_COLUMNS = ("serial", "code", "roll_index", "unit")
HANDOUT_COLUMNS = ("id", "serial")

_PR_SET_PDEATHSIG = 1


class Deal(NamedTuple):
    """One shard: its voters get serials first, first + 1, …; `bounds` are where the parts of the roll begin, as the first bytes of a row."""

    work: Path
    shard: int
    first: int
    voters: int
    seed: bytes
    nonce: bytes
    bounds: Sequence[bytes]
    keys: Path | None = None
    """The other registrar's keys in order of serial (32 bytes each), to be added."""
    units: Path | None = None
    """In place of a list: unit numbers in order of serial (4 bytes each); there are no ids then."""


class Part(NamedTuple):
    """One part of the roll: its rows are roll indices first, first + 1, …"""

    work: Path
    part: int
    shards: int
    first: int
    handout: bool


def tag(seed: bytes, id: str) -> bytes:
    return hashlib.blake2b(id.encode(), digest_size=TAG_BYTES, key=seed).digest()


def draw_codes(seed: bytes, shard: int, count: int) -> list[bytes]:
    """The codes of a shard: 16 bytes each from SHAKE256 over the seed."""
    stream = hashlib.shake_256(b"ballotboard/v1/codes" + seed + u32(shard)).digest(CODE_BYTES * count)
    return [stream[start : start + CODE_BYTES] for start in range(0, len(stream), CODE_BYTES)]


def shard_keys(job: Deal) -> list[bytes]:
    """This registrar's public keys of a shard, in order of serial."""
    return engine.public_keys(draw_codes(job.seed, job.shard, job.voters), job.nonce, job.first)


def read_shard(work: Path, shard: int) -> list[tuple[int, int, str]]:
    """(line, unit, id) in the order of the lot, which is that of serials."""
    lines = (work / f"list/{shard:04}").read_text(encoding="utf-8").split("\n")[:-1]
    lines.sort()
    return [(int(line), int(unit), id) for _, line, unit, id in (text.split(" ", 3) for text in lines)]


def repeated(voters: Sequence[tuple[int, int, str]]) -> list[tuple[int, int]]:
    """(line, line of the same id before it) for every line whose id was there already."""
    found, at = [], 0
    while at < len(voters):
        end = at + 1
        while end < len(voters) and voters[end][2] == voters[at][2]:
            end += 1
        if end > at + 1:
            same = sorted(line for line, _, _ in voters[at:end])
            found += [(line, same[0]) for line in same[1:]]
        at = end
    return found


def deal(job: Deal) -> list[tuple[int, int]]:
    """Serials, codes and keys of one shard, in order of the roll, under rows/. Gives the lines whose id was there already; then nothing is written."""
    voters = _voters(job)
    if again := repeated(voters) if job.units is None else []:
        return again
    codes, keys = draw_codes(job.seed, job.shard, job.voters), shard_keys(job)
    if job.keys:
        keys = _sums(keys, _slice(job.keys, 32, job), job.first)
    rows = (ROW.pack(voters[i][1], keys[i], job.first + i, codes[i]) for i in range(job.voters))
    ordered = sorted(zip(rows, (id for _, _, id in voters), strict=True))
    index, ids, start = [], [], 0
    for bound in [*job.bounds[1:], None]:
        end = len(ordered) if bound is None else bisect_left(ordered, (bound,))
        ids.append("\n".join(id for _, id in ordered[start:end]).encode())
        index.append([start, end, len(ids[-1])])
        start = end
    folder = job.work / "rows"
    put(folder / f"{job.shard:04}.rows", b"".join(row for row, _ in ordered))
    put(folder / f"{job.shard:04}.ids", b"".join(ids))
    put(folder / f"{job.shard:04}.json", json.dumps(index).encode())  # the last: with it the shard is done
    return []


def is_dealt(work: Path, shard: int) -> bool:
    return (work / f"rows/{shard:04}.json").exists()


def part_counts(work: Path, shard: int) -> list[int]:
    """Rows of a dealt shard in each part of the roll."""
    return [end - start for start, end, _ in json.loads((work / f"rows/{shard:04}.json").read_bytes())]


def print_part(job: Part) -> None:
    """The roll's rows, the cards and the handout of one part, under parts/, in order of the roll, with their checksums."""
    pairs: list[tuple[bytes, str]] = []
    for shard in range(job.shards):
        pairs += _range(job.work, shard, job.part)
    pairs.sort()
    names = _unit_names(job.work)
    folder = job.work / f"parts/{job.part:04}"
    folder.mkdir(exist_ok=True)
    sums = {}
    sums["roll"] = put(folder / "roll", b"".join([row[4:36] + row[:4] for row, _ in pairs]))
    unpacked = ROW.iter_unpack(b"".join([row for row, _ in pairs]))
    cards = (
        (serial, f"{serial}-{print_code(code)}", index, names[unit])
        for index, (unit, _, serial, code) in enumerate(unpacked, job.first)
    )
    sums["cards"] = put_csv(folder / "cards", CARD_COLUMNS, cards)
    if job.handout:
        rows = ((id, int.from_bytes(row[36:44], "big")) for row, id in pairs)
        sums["handout"] = put_csv(folder / "handout", HANDOUT_COLUMNS, rows)
    put(folder / "sums.json", json.dumps(sums).encode())  # the last: with it the part is done


def is_printed(work: Path, part: int) -> bool:
    return (work / f"parts/{part:04}/sums.json").exists()


# ---------------------------------------------------------------- files


def put(path: Path, data: bytes) -> str:
    """A new file for its owner alone, on the disk and in place when this returns; gives its SHA-256."""
    aside = path.with_name(path.name + ".new")
    aside.unlink(missing_ok=True)
    with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)
    return hashlib.sha256(data).hexdigest()


def put_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """The same for a table, which is in memory at once: that of a part."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return put(path, text.getvalue().encode())


def die_with(parent: int) -> None:
    """Ends this process when its parent does, however that ends: an orphan would go on writing beside the run that resumes."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if os.getppid() != parent:
        os._exit(1)


# ---------------------------------------------------------------- helpers


def _voters(job: Deal) -> list[tuple[int, int, str]]:
    if job.units is None:
        return read_shard(job.work, job.shard)
    return [(0, int.from_bytes(unit, "big"), "") for unit in _slice(job.units, 4, job)]


def _slice(path: Path, width: int, job: Deal) -> list[bytes]:
    """The fixed-width fields of a shard's serials, which count from 1."""
    with path.open("rb") as file:
        file.seek(width * (job.first - 1))
        data = file.read(width * job.voters)
    return [data[start : start + width] for start in range(0, len(data), width)]


def _sums(ours: list[bytes], theirs: list[bytes], first: int) -> list[bytes]:
    """P_a + P_b of each card."""
    for offset, key in enumerate(theirs):
        if not is_point(key):
            raise BallotboardError(
                f"the other registrar's key of card {first + offset} is no point: ask for the file again"
            )
    if engine.native:
        data = engine.native.add_ciphertexts(len(ours), b"".join(ours) + b"".join(theirs), 1)
        return [data[start : start + 32] for start in range(0, len(data), 32)]
    return [add(a, b) for a, b in zip(ours, theirs, strict=True)]


def _range(work: Path, shard: int, part: int) -> list[tuple[bytes, str]]:
    """The (row, id) of a shard that belong to a part of the roll."""
    index = json.loads((work / f"rows/{shard:04}.json").read_bytes())
    start, end, length = index[part]
    if start == end:
        return []
    with (work / f"rows/{shard:04}.rows").open("rb") as file:
        file.seek(start * ROW.size)
        data = file.read((end - start) * ROW.size)
    with (work / f"rows/{shard:04}.ids").open("rb") as file:
        file.seek(sum(entry[2] for entry in index[:part]))
        ids = file.read(length).decode().split("\n")
    return [(data[ROW.size * i : ROW.size * (i + 1)], id) for i, id in enumerate(ids)]


@lru_cache(maxsize=1)
def _unit_names(work: Path) -> list[str]:
    names: list[str] = json.loads((work / "units.json").read_bytes())
    return names
