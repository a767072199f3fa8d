"""Making a roll of any size, offline: streaming, over processes, and resumed where it was killed (docs/registrar.md).

    read    the voters' list, line by line: every wrong line is named; good ones go to shards by a keyed hash of the id
    deal    per shard: serials by lot, codes, public keys; sorted as the roll is
    print   per part of the roll: its rows, the cards in that order, the handout
    join    roll.bin, the tree's root, counts per unit, checksums; then the folder appears, whole or not at all

All of it lies under OUT.part until then, and every step is a function of the list and the seed there, so whatever was not finished is made
again to the same bytes. Memory is that of a shard for each process, whatever the size of the list.

With two registrars each makes code parts (`make_first_part`, `make_second_part`), and after an exchange of public keys both run `combine_parts`.
"""

from __future__ import annotations

import csv
import fcntl
import hashlib
import io
import json
import multiprocessing
import os
import secrets
import shutil
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from itertools import accumulate
from pathlib import Path
from typing import Any

from authority import registrar_shards as shards
from authority.config import Config, unit_names
from authority.registrar_shards import Deal, Part
from protocol import engine, merkle
from protocol.attachments import ROLL_ROW, Unit, unit_counts_hash
from protocol.encoding import members, u32, u64, unhex
from protocol.errors import BallotboardError
from protocol.records import RollRecord

ROLL_FILE, SUMMARY_FILE, CHECKSUM_FILE = "roll.bin", "summary.json", "SHA256SUMS"
RUN_FILE, READ_FILE, NAMES_FILE, LOCK_FILE = "run.json", "read.json", "units.json", ".lock"
REQUEST_FILE, KEYS_FILE, UNITS_FILE = "request.json", "keys.bin", "units.bin"
REQUEST_FORMAT = "ballotboard/second-registrar/v1"

NONCE_BYTES = SEED_BYTES = 32
SHARD_BYTES = 4 << 20
"""Of the list in a shard: some 200,000 voters, for which a process takes about 100 MB."""
SHARD_VOTERS = 200_000
"""Cards in a shard of the second registrar, who has no list."""
MAX_SHARDS = 256
"""One byte chooses a shard. Beyond a list of 1 GB shards get larger instead."""
MAX_PROBLEMS = 100_000
"""Wrong lines after which reading stops and says so: it is the wrong file, or the wrong election."""
CHUNK = 1 << 16
"""Rows whose subtree is hashed at once: a power of two, so that their roots are nodes of the tree."""
REPORT = 1 << 14
"""Lines between two steps of the progress bar."""

Steps = Callable[[str, int, int], None]
"""Called with (what is being done, done, of how many)."""


class RollError(BallotboardError):
    """A voters' list with lines that are wrong. `problems` has one line for each, with its line number; nothing was written."""

    def __init__(self, source: str, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        super().__init__(f"{source}: {problems[0]}{more}; nothing was written")


def silent(what: str, done: int, total: int) -> None:
    """Steps that say nothing."""


def make_roll(
    voters: Path, config: Config, out: Path, progress: Steps = silent, workers: int = 0, nonce: bytes | None = None
) -> dict[str, Any]:
    """The roll, cards and handout of a voters' list as a new folder `out`; gives the summary. `workers` 0 means one for each core.

    The list is CSV in UTF-8 with a header `id,unit` or `id,unit,style`; `nonce` (32 bytes) is the election's, default a fresh one.
    Raises RollError naming every line that is wrong, BallotboardError if `out` exists. Killed and called again with the same list, it goes on.
    """
    with _begin(out, "roll", voters, config.units, nonce) as run:
        voted = _read(run, voters, config, progress)
        with _workers(workers, len(voted.shards)) as each:
            summary = _make(run, voted, config.units, each, progress)
        _appear(run, out)
    return summary


def make_first_part(
    voters: Path, config: Config, out: Path, progress: Steps = silent, workers: int = 0
) -> dict[str, Any]:
    """The first of two registrars: code parts for a voters' list, kept in the new folder `out`; gives the request for the second registrar.

    request.json is for the second registrar at once; keys.bin and units.bin (public keys and units in order of serial) only after it has
    named the SHA-256 of its own keys.
    """
    with _begin(out, "first", voters, config.units, None) as run:
        found = _read(run, voters, config, progress)
        in_order = partial(shards.read_shard, run.work)
        _refuse(run, voters, [], [line for shard in range(run.shards) for line in shards.repeated(in_order(shard))])
        with _workers(workers, len(found.shards)) as each:
            keys = _write_keys(run, found.shards, each, progress)
        units = b"".join(u32(unit) for shard in range(run.shards) for _, unit, _ in in_order(shard))
        request = {
            "count": sum(found.shards), "format": REQUEST_FORMAT, "keys": keys, "nonce": run.nonce.hex(),
            "units": shards.put(run.work / UNITS_FILE, units),
        }  # fmt: skip
        shards.put(run.work / REQUEST_FILE, json.dumps(request, indent=2).encode() + b"\n")
        run.work.rename(out)
    return request


def make_second_part(request: Path, out: Path, progress: Steps = silent, workers: int = 0) -> dict[str, Any]:
    """The second registrar: as many code parts as the request asks for, knowing nobody's id or unit; gives the SHA-256 of its keys."""
    asked = read_request(request)
    with _begin(out, "second", request, (), bytes.fromhex(asked["nonce"])) as run:
        with _workers(workers, len(_even(asked["count"]))) as each:
            keys = _write_keys(run, _even(asked["count"]), each, progress)
        shards.put(run.work / REQUEST_FILE, request.read_bytes())
        run.work.rename(out)
    return {"count": asked["count"], "keys": keys}


def combine_parts(
    part: Path, keys: Path, config: Config, out: Path, commitment: str = "", units: Path | None = None,
    progress: Steps = silent, workers: int = 0,
) -> dict[str, Any]:  # fmt: skip
    """Roll and cards from one's own `part` folder and the other registrar's keys.bin: both get the same roll, and each the cards with its codes.

    `commitment` is the SHA-256 of the other's keys as it was named before the exchange; the second registrar has it in the request, and gets
    `units` from the first. Raises BallotboardError where a file is not the one that was named: keys chosen after seeing ours would let their
    maker vote for everybody.
    """
    if out.exists():
        raise _exists(out)
    run, asked = _Run.load(part), read_request(part / REQUEST_FILE)
    first, units = run.role == "first", units or part / UNITS_FILE
    commitment = commitment.lower() or ("" if first else asked["keys"])
    if not commitment:
        raise BallotboardError("give the SHA-256 that the other registrar named before it had your keys: --commitment")
    for file, expected, what in ((keys, commitment, "the keys"), (units, asked["units"], "the units")):
        if _digest(file) != expected:
            raise BallotboardError(
                f"{file} does not hold {what} whose SHA-256 was named first: do not go on, talk to the other registrar"
            )
    if first and run.units != _units_hash(config.units):
        raise BallotboardError(f"{part} was made for another election than this file's: its units are others")
    found = _Voters.load(run) if first else _Voters(_even(asked["count"]), _count_units(units, config.units))
    shards.put(part / NAMES_FILE, json.dumps([unit.name for unit in config.units]).encode())
    for folder in ("rows", "parts", "result"):  # of a run that died: the other's keys may have been others
        shutil.rmtree(part / folder, ignore_errors=True)
    with _workers(workers, len(found.shards)) as each:
        summary = _make(run, found, config.units, each, progress, keys, None if first else units)
    (part / "result").rename(out)
    for folder in ("rows", "parts"):
        shutil.rmtree(part / folder)
    return summary


def read_request(path: Path) -> dict[str, Any]:
    """The request for a second registrar: count, nonce, and the SHA-256 of the first one's keys and units."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise BallotboardError(f"cannot read {path}: it is the request.json of `ballotboard registrar part`") from error
    members(value, str(path), count=int, format=str, keys=str, nonce=str, units=str)
    if value["format"] != REQUEST_FORMAT or not 0 < value["count"] < 2**32:
        raise BallotboardError(f"{path} is no {REQUEST_FORMAT}")
    for name in ("keys", "nonce", "units"):
        unhex(value[name], 32, f"{path}: {name}")
    return value


# ---------------------------------------------------------------- a run, and what it was begun with


@dataclass(frozen=True)
class _Run:
    """What a folder OUT.part was begun with, in its run.json. `seed` gives the codes: whoever has it has them all."""

    work: Path
    role: str
    seed: bytes
    nonce: bytes
    shards: int
    source: str
    units: str

    @staticmethod
    def load(work: Path) -> _Run:
        try:
            value = json.loads((work / RUN_FILE).read_bytes())
            seed, nonce = bytes.fromhex(value["seed"]), bytes.fromhex(value["nonce"])
            return _Run(work, value["role"], seed, nonce, value["shards"], value["source"], value["units"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BallotboardError(
                f"{work} holds no registrar's work: `ballotboard registrar part` makes it"
            ) from error

    def save(self) -> None:
        value = asdict(self) | {"seed": self.seed.hex(), "nonce": self.nonce.hex()}
        del value["work"]
        shards.put(self.work / RUN_FILE, json.dumps(value).encode())


@dataclass(frozen=True)
class _Voters:
    """Voters of each shard, and of each unit."""

    shards: list[int]
    units: dict[int, int]

    @staticmethod
    def load(run: _Run) -> _Voters:
        value = json.loads((run.work / READ_FILE).read_bytes())
        return _Voters(value["shards"], {int(unit): count for unit, count in value["units"].items()})


@contextmanager
def _begin(out: Path, role: str, source: Path, units: Sequence[Unit], nonce: bytes | None) -> Iterator[_Run]:
    """The run under OUT.part, a new one or the one that was killed there; nobody else has it meanwhile."""
    if out.exists():
        raise _exists(out)
    work, digest, named = out.with_name(out.name + ".part"), _digest(source), _units_hash(units)
    try:
        work.mkdir(parents=True, exist_ok=True, mode=0o700)
        with (work / LOCK_FILE).open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise BallotboardError(f"another process is at work in {work}: wait for it, or stop it") from None
            if (work / RUN_FILE).exists():
                run = _Run.load(work)
                if (run.role, run.source, run.units) != (role, digest, named) or nonce not in (None, run.nonce):
                    raise BallotboardError(
                        f"{work} was begun with another list or another election: delete it, or choose another folder"
                    )
            else:
                _clear(work)  # of a run that was killed as it ended: without its seed nothing of it is of use
                count = min(MAX_SHARDS, -(-source.stat().st_size // SHARD_BYTES))
                fresh = secrets.token_bytes(SEED_BYTES)
                run = _Run(work, role, fresh, nonce or secrets.token_bytes(NONCE_BYTES), max(1, count), digest, named)
                run.save()
                shards.put(work / NAMES_FILE, json.dumps([unit.name for unit in units]).encode())
            yield run
    except OSError as error:
        raise BallotboardError(f"cannot write {error.filename or work}: {error.strerror}") from error


def _appear(run: _Run, out: Path) -> None:
    """The result in its place. What the codes follow from is gone first: from here on they are on the cards alone."""
    _clear(run.work, "result")
    (run.work / "result").rename(out)
    shutil.rmtree(run.work)


def _clear(work: Path, *kept: str) -> None:
    """Deletes what a run made, its seed first."""
    for entry in sorted(work.iterdir(), key=lambda entry: entry.name != RUN_FILE):
        if entry.name in (*kept, LOCK_FILE):
            continue
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


# ---------------------------------------------------------------- reading the list


def _read(run: _Run, path: Path, config: Config, progress: Steps) -> _Voters:
    """The list in shards under list/. Raises RollError with everything that is wrong; then the run is deleted."""
    if (run.work / READ_FILE).exists():
        return _Voters.load(run)
    shutil.rmtree(run.work / "list", ignore_errors=True)
    (run.work / "list").mkdir()
    size, sizes = path.stat().st_size, [0] * run.shards
    found = _List(config)
    with ExitStack() as opened:
        raw = opened.enter_context(path.open("rb"))
        # Bytes that are no UTF-8 become lone surrogates, which no name has and which are not printable: their lines are named.
        text = io.TextIOWrapper(raw, encoding="utf-8-sig", errors="surrogateescape", newline="")
        files = [
            opened.enter_context((run.work / f"list/{shard:04}").open("w", encoding="utf-8", newline=""))
            for shard in range(run.shards)
        ]
        for number, (line, unit, id) in enumerate(found.voters(text)):
            tag = shards.tag(run.seed, id)
            shard = tag[0] * run.shards >> 8
            files[shard].write(f"{tag.hex()} {line} {unit} {id}\n")
            sizes[shard] += 1
            if not number % REPORT:
                progress("reading the list, bytes", raw.tell(), size)
        for file in files:
            file.flush()
            os.fsync(file.fileno())
    progress("reading the list, bytes", size, size)
    if not sum(sizes) and not found.problems:
        found.problems.append((2, "there are no voters"))
    if found.problems:
        repeats = [line for shard in range(run.shards) for line in shards.repeated(shards.read_shard(run.work, shard))]
        _refuse(run, path, found.problems, repeats)
    units = {unit: count for unit, count in sorted(found.units.items())}
    shards.put(run.work / READ_FILE, json.dumps({"shards": sizes, "units": units}).encode())
    return _Voters(sizes, units)


def _refuse(run: _Run, path: Path, problems: list[tuple[int, str]], repeats: Sequence[tuple[int, int]]) -> None:
    """Raises RollError if anything is wrong, in order of lines, after deleting the run."""
    named = {line for line, _ in problems}
    problems = problems + [
        (line, f"this id is on line {first} already") for line, first in repeats if line not in named
    ]
    if problems:
        shutil.rmtree(run.work)
        raise RollError(str(path), [f"line {line}: {why}" for line, why in sorted(problems)])


class _List:
    """The lines of a voters' list as (line, unit, id), −1 for a unit that is wrong; `problems` has (line, why), `units` voters per unit."""

    def __init__(self, config: Config) -> None:
        self.config, self.names = config, unit_names(config.units)
        self.problems: list[tuple[int, str]] = []
        self.units: Counter[int] = Counter()

    def voters(self, text: io.TextIOWrapper) -> Iterator[tuple[int, int, str]]:
        rows = csv.reader(text, strict=True)
        columns = self._header(rows)
        if not columns:
            return
        at_id, at_unit, at_style = (
            columns.index("id"),
            columns.index("unit"),
            "style" in columns and columns.index("style"),
        )
        names, units, width = self.names, self.units, len(columns)
        while True:
            try:
                row = next(rows)
            except StopIteration:
                return
            except csv.Error as error:
                self._wrong(rows.line_num, str(error))
                continue
            if len(row) != width:
                self._wrong(rows.line_num, f"has {len(row)} fields, the header {width}")
                continue
            id, name = row[at_id].strip(), row[at_unit].strip()
            if not id or not id.isprintable():
                self._wrong(rows.line_num, "the id is empty or not readable text in UTF-8")
                continue
            unit = names.get(name, -1)
            if unit < 0:
                self._wrong(rows.line_num, self._no_unit(name))
            elif at_style and (why := self._no_style(unit, row[at_style].strip())):
                self._wrong(rows.line_num, why)
                unit = -1
            else:
                units[unit] += 1
            yield rows.line_num, unit, id
            if len(self.problems) >= MAX_PROBLEMS:
                self._wrong(rows.line_num + 1, "not read, nor what follows: there are too many wrong lines before it")
                return

    def _header(self, rows: Any) -> list[str]:
        try:
            columns = [name.strip() for name in next(rows, ())]
        except csv.Error as error:
            self._wrong(1, str(error))
            return []
        if unknown := sorted(set(columns) - {"id", "unit", "style"}):
            self._wrong(
                1,
                f"column {unknown[0]!r} is not used here; leave out what is not id, unit or style, personal data above all",
            )
        if not {"id", "unit"} <= set(columns) or len(set(columns)) != len(columns):
            self._wrong(1, "the first line must be id,unit or id,unit,style")
        return [] if self.problems else columns

    def _wrong(self, line: int, why: str) -> None:
        self.problems.append((line, why))

    @cached_property
    def _leaves(self) -> Counter[str]:
        """How many units where people vote have a name; 0 for a name of others alone."""
        found = Counter({unit.name: 0 for unit in self.config.units})
        found.update(unit.name for unit in self.config.units if unit.style >= 0)
        return found

    @cached_property
    def _examples(self) -> dict[str, str]:
        """How one of the units with a name may be written."""
        return {self.config.units[number].name: name for name, number in reversed(self.names.items())}

    def _no_unit(self, name: str) -> str:
        if self._leaves[name] > 1:
            example = self._examples.get(name, f"County/{name}")
            return f"there are {self._leaves[name]} units {name!r}; write what is above it too, as in {example!r}"
        if name in self._leaves:
            return f"nobody votes in {name!r}, which has units under it; write one of those"
        return f"there is no unit {name!r}; write its name as in the election's file"

    def _no_style(self, unit: int, style: str) -> str:
        right = self.config.style_names[self.config.units[unit].style]
        return (
            "" if style in ("", right) else f"the style of {self.config.units[unit].name!r} is {right!r}, not {style!r}"
        )


# ---------------------------------------------------------------- the steps


def _make(
    run: _Run, found: _Voters, units: Sequence[Unit], each: Each, progress: Steps, keys: Path | None = None, unit_file: Path | None = None,
) -> dict[str, Any]:  # fmt: skip
    """deal, print, join into result/ of the run's folder; gives the summary."""
    total, count = sum(found.shards), len(found.shards)
    for name in ("rows", "parts"):
        (run.work / name).mkdir(exist_ok=True)
    bounds, starts = _bounds(found.units, count), list(accumulate(found.shards, initial=1))
    jobs = [
        Deal(run.work, shard, starts[shard], found.shards[shard], run.seed, run.nonce, bounds, keys, unit_file)
        for shard in range(count)
        if not shards.is_dealt(run.work, shard)
    ]
    repeats: list[tuple[int, int]] = []
    done = total - sum(job.voters for job in jobs)
    for job, wrong in zip(jobs, each(shards.deal, jobs), strict=True):
        done += job.voters
        repeats += wrong
        progress("codes and keys", done, total)
    _refuse(run, Path("the list"), [], repeats)
    sizes = [
        sum(column) for column in zip(*(shards.part_counts(run.work, shard) for shard in range(count)), strict=True)
    ]
    firsts = list(accumulate(sizes, initial=0))
    parts = [
        Part(run.work, part, count, firsts[part], unit_file is None)
        for part in range(count)
        if not shards.is_printed(run.work, part)
    ]
    done = total - sum(sizes[part.part] for part in parts)
    for part, _ in zip(parts, each(shards.print_part, parts), strict=True):
        done += sizes[part.part]
        progress("cards", done, total)
    return _join(run, count, sorted(found.units.items()), units, progress)


def _bounds(units: Mapping[int, int], parts: int) -> list[bytes]:
    """Where the parts of the roll begin, as the first bytes of a row `u32(unit) || key`: parts of about one size, each of whole units but
    where a unit has more voters than a part. Keys are as good as random, so a fraction of them is below that fraction of all values."""
    numbers = sorted(units)
    ends = list(accumulate(units[unit] for unit in numbers))
    size, found = ends[-1] / parts, [b""]
    for part in range(1, parts):
        place = bisect_right(ends, size * part)
        unit = numbers[place]
        inside = (size * part - (ends[place] - units[unit])) / units[unit] if units[unit] > size else 0
        found.append(u32(unit) + u64(int(inside * 2**64)))
    return found


def _join(
    run: _Run, count: int, per_unit: list[tuple[int, int]], units: Sequence[Unit], progress: Steps
) -> dict[str, Any]:
    """roll.bin from its parts, its tree, the summary and checksums; cards and handout stay in parts, if there is more than one."""
    result = run.work / "result"
    shutil.rmtree(result, ignore_errors=True)
    result.mkdir()
    digest, frontier, rows, sums, rest = hashlib.sha256(), merkle.Frontier(), 0, [], b""
    width = len(str(count))
    with (result / ROLL_FILE).open("wb") as file:
        for part in range(count):
            folder = run.work / f"parts/{part:04}"
            data = (folder / "roll").read_bytes()
            file.write(data)
            digest.update(data)
            rows += len(data) // ROLL_ROW
            rest += data
            while len(rest) >= CHUNK * ROLL_ROW:
                frontier.append(roll_root(rest[: CHUNK * ROLL_ROW]))
                rest = rest[CHUNK * ROLL_ROW :]
            for name, sha256 in json.loads((folder / "sums.json").read_bytes()).items():
                if name != "roll":
                    target = f"{name}.csv" if count == 1 else f"{name}-{part + 1:0{width}}.csv"
                    os.link(folder / name, result / target)
                    sums.append((target, sha256))
            progress("joining", part + 1, count)
        file.flush()
        os.fsync(file.fileno())
    if rest:
        frontier.append(roll_root(rest))
    record = RollRecord(rows, run.nonce, frontier.root(), digest.digest(), unit_counts_hash(per_unit))
    summary = {
        "count": record.count, "nonce": record.nonce.hex(), "root": record.root.hex(), "sha256": record.sha256.hex(),
        "units": [{"unit": unit, "name": units[unit].name, "voters": voters} for unit, voters in per_unit],
    }  # fmt: skip
    text = (json.dumps(summary, indent=2, ensure_ascii=False) + "\n").encode()
    sums += [(ROLL_FILE, record.sha256.hex()), (SUMMARY_FILE, shards.put(result / SUMMARY_FILE, text))]
    shards.put(result / CHECKSUM_FILE, "".join(f"{sha256}  {name}\n" for name, sha256 in sorted(sums)).encode())
    os.chmod(result, 0o700)
    return summary


def roll_root(rows: bytes) -> bytes:
    """The RFC 9162 root over roll rows."""
    if engine.native:
        return engine.native.merkle_root(engine.native.leaf_hash_rows(rows, ROLL_ROW))
    return merkle.root(merkle.leaf_hash(rows[start : start + ROLL_ROW]) for start in range(0, len(rows), ROLL_ROW))


def _write_keys(run: _Run, counts: Sequence[int], each: Each, progress: Steps) -> str:
    """keys.bin: this registrar's public keys in order of serial; gives its SHA-256."""
    starts, digest, done = list(accumulate(counts, initial=1)), hashlib.sha256(), 0
    jobs = [Deal(run.work, shard, starts[shard], count, run.seed, run.nonce, ()) for shard, count in enumerate(counts)]
    with (run.work / KEYS_FILE).open("wb") as file:
        for keys in each(shards.shard_keys, jobs):
            data = b"".join(keys)
            file.write(data)
            digest.update(data)
            done += len(keys)
            progress("codes and keys", done, sum(counts))
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


# ---------------------------------------------------------------- helpers

Each = Callable[[Callable[[Any], Any], Sequence[Any]], Iterator[Any]]
"""Like `map`, over processes."""


@contextmanager
def _workers(count: int, jobs: int) -> Iterator[Each]:
    """`count` processes (0: one for each core), no more than there are jobs; for a single one, this process."""
    count = min(count or os.cpu_count() or 1, jobs)
    if count <= 1:
        yield map
        return
    context = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(count, context, initializer=shards.die_with, initargs=(os.getpid(),)) as pool:
            yield pool.map
    except BrokenProcessPool as error:
        raise BallotboardError("a worker process was ended; run the same command again, it goes on") from error


def _even(total: int) -> list[int]:
    """Shards of the second registrar."""
    return [min(SHARD_VOTERS, total - start) for start in range(0, total, SHARD_VOTERS)]


def _count_units(path: Path, units: Sequence[Unit]) -> dict[int, int]:
    found: Counter[int] = Counter()
    with path.open("rb") as file:
        while data := file.read(4 * CHUNK):
            found.update(int.from_bytes(data[start : start + 4], "big") for start in range(0, len(data), 4))
    if any(unit >= len(units) or units[unit].style < 0 for unit in found):
        raise BallotboardError(f"{path} names a unit where nobody votes: it is of another election")
    return dict(found)


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BallotboardError(f"cannot read {path}: {error.strerror}") from error


def _units_hash(units: Sequence[Unit]) -> str:
    return hashlib.sha256(b"".join(unit.row() for unit in units)).hexdigest()


def _exists(out: Path) -> BallotboardError:
    return BallotboardError(
        f"{out} exists and is not overwritten: its cards could not be made again; choose another folder"
    )
