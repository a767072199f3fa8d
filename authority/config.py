"""`election.toml`: everything an authority decides about an election, in one commented file, and the manifest it stands for.

The file has the manifest's members (docs/protocol.md, section 3) under the same names, but people write names where the
manifest has numbers (a unit's parent and style, a station's unit, a style's contests) and may write times relative to
the moment of publication. A large unit tree stands in a file beside it, which `units_file` names (rollup/tree.py). `new_config` writes a file, `read_config` reads one and names everything that is wrong with it,
`Config.manifest` gives the manifest once chain, contract code and time are known.
"""

from __future__ import annotations

import json
import re
import time
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from eth_utils import is_checksum_address, to_checksum_address

from protocol.attachments import Station, Unit, describe, parse_stations, parse_units
from protocol.encoding import MAX_INTEGER
from protocol.errors import BallotboardError, Malformed
from protocol.manifest import FORMAT, RULE_NAMES, WINDOW_NAMES, Contest, Manifest, Role, RoleKind, Validator
from rollup.tree import TreeError, read_tree

CONFIG_FILE = "election.toml"
"""Where `election new` leaves the file and every other command looks for it."""


STYLE = "all"
"""Name of the only ballot style, where there is one."""

NEEDS_KEY = (RoleKind.RELAYER, RoleKind.DATA_HOLDER)
"""Roles that sign statements off the chain, with an Ed25519 key."""


class ConfigError(BallotboardError):
    """A file that is no election. `problems` has one line for each thing that is wrong, naming the TOML key."""

    def __init__(self, source: str, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        more = f"; and {len(problems) - 3} more" if len(problems) > 3 else ""
        super().__init__(f"{source}: {'; '.join(problems[:3])}{more}")


@dataclass(frozen=True, slots=True)
class Moment:
    """A time of the file: seconds since 1970, or, if `relative`, seconds after publication."""

    seconds: int
    relative: bool

    def at(self, published: int) -> int:
        return self.seconds + published if self.relative else self.seconds


@dataclass(frozen=True)
class Config:
    """A checked file. `members` are the manifest's, without windows, units, stations, chain id and code hash."""

    members: dict[str, Any]
    windows: dict[str, Moment]
    append_grace: int
    style_names: tuple[str, ...]
    units: tuple[Unit, ...]
    stations: tuple[Station, ...]

    @cached_property  # a nation has 178,000
    def unit_rows(self) -> list[bytes]:
        return [unit.row() for unit in self.units]

    @property
    def station_rows(self) -> list[bytes]:
        return [station.row() for station in self.stations]

    def manifest(self, chain_id: int, code_hash: bytes, published: int) -> Manifest:
        """The manifest, with relative times counted from `published` (chain time). Raises Malformed where the windows contradict each other then."""
        return Manifest.build(self.value(chain_id, code_hash, published))

    def value(self, chain_id: int, code_hash: bytes, published: int) -> dict[str, Any]:
        windows = {name: moment.at(published) for name, moment in self.windows.items()}
        return self.members | {
            "chain": self.members["chain"] | {"id": chain_id, "code_hash": code_hash.hex()},
            "units": describe(self.unit_rows).value(),
            "stations": describe(self.station_rows).value(),
            "windows": windows | {"append_grace": self.append_grace},
        }


# ---------------------------------------------------------------- reading


def read_config(path: Path) -> Config:
    """The election of a file. Raises ConfigError."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise BallotboardError(
            f"cannot read {path}: {error.strerror} (`ballotboard election new` makes one)"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(str(path), [f"is not UTF-8 at byte {error.start}"]) from error
    return parse_config(text, int(time.time()), str(path), path.parent)


def parse_config(text: str, now: int, source: str = CONFIG_FILE, folder: Path = Path()) -> Config:
    """The election of a text; `now` is when relative windows are tried, together with absolute ones, and `folder` where a units_file is looked for.

    Raises ConfigError naming all that is wrong.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(source, [f"is not TOML: {error}"]) from error
    problems: list[str] = []
    config = _translate(document, problems, folder)
    if not problems:
        problems += _contradictions(config, now)
    if problems:
        raise ConfigError(source, problems)
    return config


_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", re.ASCII)


def parse_duration(text: str) -> int:
    """Seconds of "1d2h30m15s" (any part may be left out, not all). Raises ValueError."""
    match = _DURATION.fullmatch(text)
    if not match or not text:
        raise ValueError(f"{text!r} is not a duration like 10m or 1h30m")
    return sum(int(part or 0) * unit for part, unit in zip(match.groups(), (86400, 3600, 60, 1), strict=True))


def print_duration(seconds: int) -> str:
    """The shortest text that `parse_duration` reads as this."""
    parts = []
    for name, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, seconds = divmod(seconds, size)
        parts += [f"{count}{name}"] if count else []
    return "".join(parts) or "0s"


def parse_moment(value: Any) -> Moment:
    """A TOML date-time with its zone, the same as text, or "+duration". Raises ValueError."""
    if isinstance(value, str) and value.startswith("+"):
        return Moment(parse_duration(value[1:]), relative=True)
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    if not isinstance(value, datetime) or value.tzinfo is None or value.microsecond:
        raise ValueError("not a time in whole seconds with its zone")
    seconds = int(value.timestamp())
    if seconds < 0:
        raise ValueError("before 1970")
    return Moment(seconds, relative=False)


class _Table:
    """A TOML table that notes what is wrong with it instead of raising, so that one run names everything."""

    def __init__(self, value: Any, where: str, problems: list[str]) -> None:
        self.where, self.problems, self.known = where, problems, set[str]()
        self.values = value if isinstance(value, dict) else {}
        if not isinstance(value, dict):
            self.wrong("", "must be a table")

    def wrong(self, key: str, why: str) -> None:
        self.problems.append(": ".join(part for part in (self.where, key, why) if part))

    def take(self, key: str, kind: type, hint: str, default: Any = None) -> Any:
        """The value of a key if it is of this type; notes it as wrong and gives an empty one if it is not. No default: required."""
        self.known.add(key)
        if key not in self.values:
            if default is None:
                self.wrong(key, f"is missing: write {hint}")
            return kind() if default is None else default
        value = self.values[key]
        if type(value) is not kind:
            self.wrong(key, f"must be {hint}")
            return kind()
        if isinstance(value, int) and abs(value) > MAX_INTEGER:
            self.wrong(key, f"is too large: at most {MAX_INTEGER:,}")
            return 0
        return value

    def texts(self, key: str, hint: str) -> list[str]:
        value = self.take(key, list, hint)
        if all(isinstance(item, str) for item in value):
            return value
        self.wrong(key, f"must be {hint}")
        return []

    def tables(self, key: str, default: Any = None) -> list[_Table]:
        items = self.take(key, list, f"at least one [[{key}]]", default)
        return [_Table(item, _label(key, i, item), self.problems) for i, item in enumerate(items)]

    def table(self, key: str) -> _Table:
        return _Table(self.take(key, dict, f"a section [{key}]"), key, self.problems)

    def done(self) -> None:
        for key in self.values:
            if key not in self.known:
                self.wrong(key, f"is not known here: the keys are {', '.join(sorted(self.known))}")


def _label(section: str, index: int, item: Any) -> str:
    """How a problem names an item of a list: by its id or name, else by its place, from 1."""
    name = (item.get("id") or item.get("name")) if isinstance(item, dict) else None
    return f'{section} "{name}"' if isinstance(name, str) else f"{section} {index + 1}"


def _translate(document: dict[str, Any], problems: list[str], folder: Path) -> Config:
    """The file's names and times as the manifest's numbers; what cannot be is noted in `problems`."""
    top = _Table(document, "", problems)
    members: dict[str, Any] = {
        "format": FORMAT,
        "name": top.take("name", str, 'the election\'s name, like "Mayor of Springfield 2026"'),
        "language": top.take("language", str, 'a language tag like "en" or "fr"'),
        "practice": top.take("practice", bool, "true or false"),
    }
    chain = top.table("chain")
    validators = chain.tables("validators", [])
    members["chain"] = {
        "engine": chain.take("engine", str, '"anvil" or "cometbft"'),
        "validators": [
            {"key": v.take("key", str, "64 hex digits"), "power": v.take("power", int, "a positive integer")}
            for v in validators
        ],
    }
    contests = top.tables("contests")
    members["contests"] = [
        {
            "id": c.take("id", str, "a short name that never changes"),
            "title": c.take("title", str, "the question as voters read it"),
            "rule": c.take("rule", str, f"one of {', '.join(RULE_NAMES)}"),
            "limit": c.take("limit", int, "the most options a voter may mark (only for up-to-L)", 0),
            "options": c.texts("options", "a list of texts"),
        }
        for c in contests
    ]
    contest_ids = [contest["id"] for contest in members["contests"]]
    styles = top.tables("styles")
    style_names = _unique(styles, "a name for units to refer to")
    members["styles"] = [
        [_index(s, "contests", id, contest_ids, "contest id") for id in s.texts("contests", "a list of contest ids")]
        for s in styles
    ]
    units_file = top.take("units_file", str, 'the name of a file, like "units.csv"', "")
    unit_tables: list[_Table] = []
    if units_file:
        units = _units_of_file(top, folder / units_file, style_names)
        places = unit_names(units) if "stations" in document else {}
    else:
        unit_tables = top.tables("units")
        units, places = _units_of_tables(unit_tables, style_names)
    stations, station_tables = [], top.tables("stations", [])
    for number, s in enumerate(station_tables):
        place = s.take("unit", str, "the name of a unit")
        unit = _index(s, "unit", place, places, "unit where people vote" if units_file else "unit") if units else 0
        officers = [
            _address(s, "officers", officer) for officer in s.texts("officers", "a list of at least two addresses")
        ]
        stations.append(Station(number, unit, tuple(officers), s.take("name", str, "the station's name")))
    roles = top.tables("roles")
    members["roles"] = [
        {
            "kind": r.take("kind", str, f"one of {', '.join(kind.text for kind in RoleKind)}"),
            "name": r.take("name", str, "who this is, as the public will read it"),
            "address": _address(
                r, "address", r.take("address", str, "the address that `ballotboard keys show` prints")
            ).hex(),
            "key": r.take("key", str, "64 hex digits of an Ed25519 public key", ""),
        }
        for r in roles
    ]
    for table, role in zip(roles, members["roles"], strict=True):
        if not role["key"] and role["kind"] in {kind.text for kind in NEEDS_KEY}:
            table.wrong("key", "is missing: write the key that `ballotboard relayer init` prints, 64 hex digits")
    thresholds = top.table("thresholds")
    members["thresholds"] = {
        "trustees": thresholds.take("trustees", int, "how many trustees it takes to decrypt"),
        "verifiers": thresholds.take("verifiers", int, "how many verifiers must agree", 0),
        "data_holders": thresholds.take("data_holders", int, "how many data holders must sign", 0),
    }
    windows = top.table("windows")
    moments = {name: _moment(windows, name) for name in WINDOW_NAMES if name != "append_grace"}
    grace = _grace(windows)
    rules = top.table("rules")
    members["rules"] = {
        "revote": rules.take("revote", str, '"last" or "first"'),
        "channel": rules.take("channel", str, '"paper-precedence" or "online-precedence"'),
        "minimum_ballots": rules.take("minimum_ballots", int, "how many ballots a published figure covers at least"),
        "decrypt_level": rules.take("decrypt_level", int, "0 for the whole, 1 for units under it, and so on"),
        "body_mode": rules.take("body_mode", str, '"calldata" or "hash"', "calldata"),
    }
    for table in (
        top,
        chain,
        *validators,
        *contests,
        *styles,
        *unit_tables,
        *station_tables,
        *roles,
        thresholds,
        windows,
        rules,
    ):
        table.done()
    return Config(members, moments, grace, tuple(style_names), tuple(units), tuple(stations))


def _units_of_tables(tables: list[_Table], style_names: list[str]) -> tuple[list[Unit], dict[str, int]]:
    """(the units of [[units]], name → number)."""
    units: list[Unit] = []
    names = _unique(tables, "a name")
    for number, u in enumerate(tables):
        level = u.take("level", str, 'what it is, like "city" or "ward"')
        parent, style = (
            u.take("parent", str, "the name of an earlier unit", ""),
            u.take("style", str, "the name of a style", ""),
        )
        if not parent and number:
            u.wrong("parent", "is missing: only the first unit has none, write the name of an earlier unit")
        units.append(
            Unit(
                level, names[number],
                _index(u, "parent", parent, names[:number], "earlier unit") if parent else -1,
                _index(u, "style", style, style_names, "style") if style else -1,
            )
        )  # fmt: skip
    return units, {name: number for number, name in enumerate(names)}


def _units_of_file(top: _Table, path: Path, style_names: list[str]) -> list[Unit]:
    if "units" in top.values:
        top.known.add("units")
        top.wrong("units", "stand in units_file already: take out one of the two")
    try:
        return read_tree(path, style_names)[0]
    except TreeError as error:
        top.wrong("units_file", str(error))
    except BallotboardError as error:  # its system's error, with the path
        top.wrong("units_file", f"{error}: it is looked for in the folder of this file")
    return []


def unit_names(units: Sequence[Unit]) -> dict[str, int]:
    """How people name a unit where people vote: by its name, or by that with names above it (`County/Ward 1`), if only one unit has it."""
    found: dict[str, int] = {}
    several = set()
    for number, unit in enumerate(units):
        if unit.style < 0:
            continue
        name, above = unit.name, unit.parent
        while True:
            if found.setdefault(name, number) != number:
                several.add(name)
            if above < 0:
                break
            name, above = f"{units[above].name}/{name}", units[above].parent
    return {name: number for name, number in found.items() if name not in several}


def _unique(tables: list[_Table], hint: str) -> list[str]:
    """The `name` of each table; a repeated one is noted, since others refer to it by name."""
    names: list[str] = []
    for table in tables:
        name = table.take("name", str, hint)
        if name and name in names:
            table.wrong("name", f"{name!r} is taken: write a fuller name")
        names.append(name)
    return names


def _index(table: _Table, key: str, name: str, names: Sequence[str] | Mapping[str, int], what: str) -> int:
    """The number that a name stands for, or its place in a list; noted as wrong, and −1, where there is none."""
    if name in names:
        return names[name] if isinstance(names, Mapping) else names.index(name)
    if name or table.values.get(key) == "":  # what is missing, or no text, is noted already
        table.wrong(
            key,
            f"{name!r} is no {what}: write one of {', '.join(list(names)[:5]) or 'those above (there is none)'}{', …' if len(names) > 5 else ''}",
        )
    return -1


def _address(table: _Table, key: str, text: str) -> bytes:
    digits = text.removeprefix("0x")
    if len(digits) == 40 and all(c in "0123456789abcdefABCDEF" for c in digits):
        # Mixed case is a checksum (EIP-55): it catches a mistyped address.
        if digits in (digits.lower(), digits.upper()) or is_checksum_address("0x" + digits):
            return bytes.fromhex(digits)
        table.wrong(key, f"{text} is mistyped, its checksum (EIP-55) does not fit: copy it again")
    elif text or key in table.values:
        table.wrong(
            key, f"{text!r} is no address: write what `ballotboard keys show FILE` prints, 0x and 40 hex digits"
        )
    return bytes(20)


def _moment(table: _Table, key: str) -> Moment:
    hint = 'a time with its zone like 2026-11-03T20:00:00-05:00, or one after publication like "+1h30m"'
    table.known.add(key)
    if key not in table.values:
        table.wrong(key, f"is missing: write {hint}")
        return Moment(0, relative=True)
    try:
        return parse_moment(table.values[key])
    except (ValueError, OverflowError):
        table.wrong(key, f"must be {hint}")
        return Moment(0, relative=True)


def _grace(table: _Table) -> int:
    hint = 'a duration like "10m"'
    text = table.take("append_grace", str, hint)
    try:
        return parse_duration(text) if text else 0
    except ValueError:
        table.wrong("append_grace", f"must be {hint}")
        return 0


# ---------------------------------------------------------------- what the protocol says of it


def _contradictions(config: Config, now: int) -> list[str]:
    """What the protocol's own parsers refuse, all of it: what was refused is replaced by something right, and the rest is tried again."""
    problems: list[str] = []
    value = config.value(chain_id=1, code_hash=bytes(32), published=now)
    while True:
        try:
            manifest = Manifest.build(value)
            break
        except Malformed as error:
            problems.append(_problem(error, value))
            _repair(value, error.field)
    try:
        parse_stations(config.station_rows, parse_units(config.unit_rows, len(manifest.styles)))
    except Malformed as error:
        problems.append(
            _problem(
                error,
                {
                    "units": [{"name": u.name} for u in config.units],
                    "stations": [{"name": s.name} for s in config.stations],
                },
            )
        )
    return problems


_ITEM = re.compile(r"(?:manifest\.)?(\w+)\[(\d+)\](?:\.(.+))?")


def _problem(error: Malformed, value: Mapping[str, Any]) -> str:
    match = _ITEM.fullmatch(error.field)
    if not match:
        return f"{error.field.removeprefix('manifest.')}: {error.reason}"
    section, index, key = match[1], int(match[2]), match[3]
    return ": ".join(part for part in (_label(section, index, value[section][index]), key, error.reason) if part)


def _repair(value: dict[str, Any], field: str) -> None:
    """Put something right in the place of the member that was refused, so that the parser comes to what is after it."""
    match = _ITEM.fullmatch(field)
    section = match[1] if match else field.removeprefix("manifest.").split(".")[0]
    if match and section == "contests":
        place = int(match[2])
        value["contests"][place] = _CONTEST | {"id": value["contests"][place]["id"] or f"\0{place}"}
    elif match and section == "roles":
        role = value["roles"][int(match[2])]
        kind = role["kind"] if role["kind"] in {kind.text for kind in RoleKind} else RoleKind.VERIFIER.text
        value["roles"][int(match[2])] = {
            "kind": kind,
            "name": "",
            "address": f"{0xFACE << 64 | int(match[2]):040x}",
            "key": "00" * 32,
        }
    elif match and section == "styles":
        value["styles"][int(match[2])] = [0]
    elif section == "contests":
        value["contests"], value["styles"] = [_CONTEST], [[0]] * len(value["styles"])
    elif section == "chain":
        value["chain"] |= {"engine": "anvil", "validators": []}
    elif section in ("roles", "thresholds"):
        kinds = (RoleKind.AUTHORITY, RoleKind.REGISTRAR, RoleKind.TRUSTEE, RoleKind.RELAYER, RoleKind.DATA_HOLDER)
        value["roles"] = [
            {"kind": kind.text, "name": "", "address": f"{kind:040x}", "key": "00" * 32} for kind in kinds
        ]
        value["thresholds"] = {"trustees": 1, "verifiers": 0, "data_holders": 1}
    else:
        value[section] = {
            "styles": [[0]],
            "windows": dict(zip(WINDOW_NAMES, (0, 1, 1, 0, 0, 0, 1, 1), strict=True)),
            "rules": {"revote": "last", "channel": "paper-precedence", "minimum_ballots": 0, "decrypt_level": 0, "body_mode": "calldata"},
        }[section]  # fmt: skip


_CONTEST = {"id": "\0", "title": "", "rule": "one-of-k", "limit": 0, "options": ["0", "1"]}


# ---------------------------------------------------------------- writing

MINIMUM_BALLOTS = 10
"""Default of `minimum_ballots`: small enough for a village, large enough that a published figure is nobody's vote."""


def new_config(
    name: str,
    contests: Sequence[Contest],
    units: Sequence[Unit],
    stations: Sequence[Station],
    roles: Sequence[Role],
    windows: Mapping[str, str],
    trustees: int,
    verifiers: int = 0,
    styles: Sequence[Sequence[int]] = (),
    minimum_ballots: int = MINIMUM_BALLOTS,
    decrypt_level: int = 0,
    revote: str = "last",
    channel: str = "paper-precedence",
    practice: bool = False,
    language: str = "en",
    validators: Sequence[Validator] = (),
    units_file: str = "",
) -> str:
    """The text of an election.toml with every key explained.

    `styles` lists contest indices, default one style with all contests; `trustees` and `verifiers` are thresholds; `windows` has the texts
    of all WINDOW_NAMES as the file has them. With `validators` the chain is theirs, else it is anvil's. With `units_file`, `units` are what it holds. An address of 20 zero bytes is written as an empty one, to be filled in.
    """
    chosen: Sequence[Sequence[int]] = styles if styles else [range(len(contests))]
    style_names = [f"style {i + 1}" for i in range(len(chosen))] if len(chosen) > 1 else [STYLE]
    places = [unit.name for unit in units]
    if units_file:
        for place, number in reversed(unit_names(units).items()):  # the shortest of each comes first there
            places[number] = place
    blocks: dict[str, list[dict[str, Any]]] = {
        "chain.validators": [{"key": v.key.hex(), "power": v.power} for v in validators],
        "contests": [
            {"id": c.id, "title": c.title, "rule": next(n for n, rule in RULE_NAMES.items() if rule == c.rule)}
            | ({"limit": c.limit} if c.limit else {}) | {"options": list(c.options)}
            for c in contests
        ],
        "styles": [{"name": n, "contests": [contests[i].id for i in style]} for n, style in zip(style_names, chosen, strict=True)],
        "units": [
            {"level": u.level, "name": u.name} | ({"parent": units[u.parent].name} if u.parent >= 0 else {})
            | ({"style": style_names[u.style]} if u.style >= 0 else {})
            for u in ([] if units_file else units)
        ],
        "stations": [
            {"name": s.name, "unit": places[s.unit], "officers": [_print_address(officer) for officer in s.officers]} for s in stations
        ],
        "roles": [
            {"kind": r.kind.text, "name": r.name, "address": _print_address(r.address)}
            | ({"key": r.key.hex()} if r.key or r.kind in NEEDS_KEY else {})
            for r in roles
        ],
    }  # fmt: skip
    return _TEMPLATE.format(
        name=_toml(name), language=_toml(language), practice=_toml(practice), engine=_toml("cometbft" if validators else "anvil"), trustees=trustees, verifiers=verifiers,
        minimum_ballots=minimum_ballots, decrypt_level=decrypt_level, revote=_toml(revote), channel=_toml(channel),
        units_file=f"units_file = {_toml(units_file)}" if units_file else '# units_file = "units.csv"',
        **{
            section.replace(".", "_"): "\n\n".join(_block(section, item) for item in items) for section, items in blocks.items()
        },
        **{window: _toml(windows[window]) for window in WINDOW_NAMES},
    )  # fmt: skip


def _block(section: str, item: dict[str, Any]) -> str:
    return f"[[{section}]]\n" + "\n".join(f"{key} = {_toml(value)}" for key, value in item.items())


def _print_address(address: bytes) -> str:
    return to_checksum_address(address) if any(address) else ""


def _toml(value: Any) -> str:
    """A TOML value: JSON's strings, arrays, integers and booleans are TOML's but for DEL, which TOML wants escaped."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


_TEMPLATE = """\
# An election, as `ballotboard election publish` will put it on the record. From then on nothing here can be changed.
# `ballotboard election check` reads this file and says what is wrong with it.

name = {name}
# The language of what is printed for voters: "en" or "fr".
language = {language}
# true: a rehearsal. Station results are marked as practice and mean nothing.
practice = {practice}
# The unit tree, where it is too long for [[units]] below: a file in this folder, CSV with a header id,parent,level,name,style.
{units_file}


[chain]
# What keeps the record: "anvil" (one process on this machine, for trying out) or "cometbft" (a network of validators).
engine = {engine}
# For cometbft, every validator:  [[chain.validators]]  key = "…64 hex digits (Ed25519)…"  power = 1
# (`ballotboard chain validators` prints them from the network file.)

{chain_validators}


# ---- What is voted on ----
# id       a short name that never changes and that nobody translates
# title    the question as voters read it
# rule     "one-of-k": exactly one option. "approval": any number. "up-to-L": at most `limit`.
# options  2 to 100 texts. An option called "blank" is the blank vote; put it in if blank votes are to be counted.

{contests}


# ---- Ballot styles: which contests are on the same ballot ----

{styles}


# ---- Where people vote: a tree, from the whole down ----
# level   what it is: "city", "ward", "precinct"
# parent  the name of a unit above it in this file; the first unit has none
# style   the ballot style of those who vote here; only for units that have no units under them

{units}


# ---- Polling stations (leave out for an election without paper) ----
# unit      voters of this unit can take paper here
# officers  addresses of at least two people, two of whom sign every result. Each runs `ballotboard keys new` on a machine of their own.

{stations}


# ---- Who may do what ----
# kind     authority (opens, announces), registrar (makes the roll), cosigner (a second institution: signs roll changes and decisions),
#          trustee (holds a share of the key), relayer (brings ballots in), verifier (certifies), data-holder (keeps bodies in hash mode)
# address  what `ballotboard keys show FILE` prints. Each person runs `ballotboard keys new` alone and sends only the address.
# key      for a relayer and a data holder: the Ed25519 public key it signs promises with

{roles}


[thresholds]
# How many trustees it takes to decrypt the totals. Fewer learn nothing; one more than the rest may lose their share.
trustees = {trustees}
# How many verifiers must agree before the result counts as certified. 0: nobody certifies.
verifiers = {verifiers}
# In hash mode: how many data holders must sign that they keep the ballots.
data_holders = 0


# Times by the clock of the chain: with a zone, like 2026-11-03T20:00:00-05:00, or after publication, like "+1h30m".
# Required: open_not_before < close <= close_not_after; close_not_after + append_grace <= settle_not_before <= decrypt_not_before;
# count_not_before <= reveal_not_before <= decrypt_not_before.
[windows]
# The authority may open the poll from here on, once the trustees have made the key and the registrar the roll.
open_not_before = {open_not_before}
# No vote is taken in from here on.
close = {close}
# The latest time to which `ballotboard election extend` may move the close.
close_not_after = {close_not_after}
# How long relayers may still append what they took in before the close. A duration; in a real election "10m" or more.
append_grace = {append_grace}
# Stations count paper and record the hashes of their results from here on ...
count_not_before = {count_not_before}
# ... and reveal the results from here on.
reveal_not_before = {reveal_not_before}
# From here on anyone may settle which ballots count. Until then offline stations can still bring check-ins.
settle_not_before = {settle_not_before}
# Trustees decrypt from here on.
decrypt_not_before = {decrypt_not_before}


[rules]
# Of several ballots of one voter the "last" counts, or the "first".
revote = {revote}
# Who takes paper has voted on paper ("paper-precedence"), or the online ballot stands ("online-precedence").
channel = {channel}
# Online totals are decrypted only for groups of units with at least this many ballots (or for the whole).
minimum_ballots = {minimum_ballots}
# How fine these groups may be: 0 only the whole, 1 the units right under it, and so on.
decrypt_level = {decrypt_level}
# "calldata": ballots are on the chain. "hash": only their hashes, and data holders keep them.
body_mode = "calldata"
"""
