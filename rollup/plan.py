"""What everyone who takes part in a roll-up agrees on: the election, its unit tree, and who signs for each unit.

A folder with three files. `plan.json` is canonical JSON,

    {"context": hex64, "contests": [as in the manifest, …], "decrypt_level": int, "election": hex32, "format": "ballotboard/rollup-plan/v1",
     "key": hex32 (K), "keys": attachment, "minimum_ballots": int, "styles": [[contest index, …], …], "units": attachment, "voters": int}

`units` is the manifest's attachment of that name (docs/protocol.md, section 3), `keys` has a row of 32 bytes for each unit, the public key that
its sum is signed with. `voters` is the number of rows of the roll when the poll opened: those that roll changes added come after them. The *plan id* is SHA-256 of plan.json; every sum names it, so sums of different elections, trees or signers never mix.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from protocol import merkle
from protocol.attachments import Attachment, Unit, describe, open_rows, pack, parse_units
from protocol.ballot import BallotContext, ciphertext_count
from protocol.election import OpenElection
from protocol.encoding import canonical_json, members, parse_json, unhex
from protocol.engine import Engine
from protocol.errors import BallotboardError, Malformed
from protocol.group import parse_point
from protocol.manifest import Contest, parse_contest, parse_style

FORMAT = "ballotboard/rollup-plan/v1"
PLAN_FILE, UNITS_FILE, KEYS_FILE = "plan.json", "units", "keys"
KEY = 32

Layout = tuple[tuple[int, int], ...]
"""The contests of a unit's sum, ascending: (contest index, ciphertexts)."""


@dataclass(frozen=True)
class Plan:
    """A checked plan. `body` are the bytes of plan.json, `keys` the units' public keys end to end."""

    body: bytes
    election: bytes
    context: bytes
    key: bytes
    contests: tuple[Contest, ...]
    styles: tuple[tuple[int, ...], ...]
    decrypt_level: int
    minimum_ballots: int
    voters: int
    units: list[Unit]
    keys: bytes

    @staticmethod
    def build(
        election: bytes,
        context: bytes,
        key: bytes,
        contests: Sequence[Contest],
        styles: Sequence[Sequence[int]],
        decrypt_level: int,
        minimum_ballots: int,
        voters: int,
        units: Sequence[Unit],
        keys: bytes,
    ) -> Plan:
        """A plan from its parts: election id (32 bytes), ballot context (64), joint key K (32), a public key of 32 bytes for each unit."""
        body = canonical_json(
            {
                "format": FORMAT, "election": election.hex(), "context": context.hex(), "key": key.hex(),
                "contests": [contest.value() for contest in contests], "styles": [list(style) for style in styles],
                "decrypt_level": decrypt_level, "minimum_ballots": minimum_ballots, "voters": voters,
                "units": describe([unit.row() for unit in units]).value(), "keys": _describe_keys(keys).value(),
            }
        )  # fmt: skip
        return Plan.parse(body, pack(unit.row() for unit in units), keys)

    @staticmethod
    def of_election(election: OpenElection, keys: bytes) -> Plan:
        """The plan for an election on the record, once its poll is open."""
        manifest = election.manifest
        return Plan.build(
            manifest.election_id, election.context, election.joint.key, manifest.contests, manifest.styles, manifest.decrypt_level,
            manifest.minimum_ballots, len(election.roll), election.units, keys,
        )  # fmt: skip

    @staticmethod
    def parse(body: bytes, units_file: bytes, keys: bytes) -> Plan:
        """Raises Malformed naming what is wrong with it, or with a file that is not the one it names."""
        value = members(
            parse_json(body, "plan"), "plan", format=str, election=str, context=str, key=str, contests=list, styles=list,
            decrypt_level=int, minimum_ballots=int, voters=int, units=dict, keys=dict,
        )  # fmt: skip
        if value["format"] != FORMAT:
            raise Malformed("plan.format", f"expected {FORMAT}")
        if min(value["decrypt_level"], value["minimum_ballots"], value["voters"]) < 0:
            raise Malformed("plan", "minimum_ballots, decrypt_level and voters are not negative")
        contests = tuple(parse_contest(item, f"plan.contests[{i}]") for i, item in enumerate(value["contests"]))
        styles = tuple(parse_style(item, len(contests), f"plan.styles[{i}]") for i, item in enumerate(value["styles"]))
        rows = open_rows(units_file, Attachment.parse(value["units"], "plan.units"), "units")
        units = parse_units(rows, len(styles))
        if Attachment.parse(value["keys"], "plan.keys") != _describe_keys(keys) or len(keys) != KEY * len(units):
            raise Malformed("keys", f"the file is not the one that the plan names, with {KEY} bytes for each unit")
        return Plan(
            body, unhex(value["election"], 32, "plan.election"), unhex(value["context"], 64, "plan.context"),
            parse_point(unhex(value["key"], 32, "plan.key"), "plan.key"), contests, styles,
            value["decrypt_level"], value["minimum_ballots"], value["voters"], units, keys,
        )  # fmt: skip

    @staticmethod
    def open(folder: Path) -> Plan:
        """The plan of a folder. Raises BallotboardError, Malformed."""
        try:
            files = [(folder / name).read_bytes() for name in (PLAN_FILE, UNITS_FILE, KEYS_FILE)]
        except OSError as error:
            raise BallotboardError(f"{folder} holds no plan: cannot read {error.filename}: {error.strerror}") from error
        return Plan.parse(*files)

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / UNITS_FILE).write_bytes(pack(unit.row() for unit in self.units))
        (folder / KEYS_FILE).write_bytes(self.keys)
        (folder / PLAN_FILE).write_bytes(self.body)

    @cached_property
    def id(self) -> bytes:
        return hashlib.sha256(self.body).digest()

    def public_key(self, unit: int) -> bytes:
        return self.keys[KEY * unit : KEY * (unit + 1)]

    def name(self, unit: int) -> str:
        """A unit for people: its name and those above it, without the root's."""
        names: list[str] = []
        while unit > 0 or not names:
            names.append(self.units[unit].name)
            unit = self.units[unit].parent
        return ", ".join(names)

    def check_unit(self, unit: int) -> int:
        if not 0 <= unit < len(self.units):
            raise BallotboardError(f"there is no unit {unit}: the tree has {len(self.units):,}, from 0")
        return unit

    def unit(self, text: str) -> int:
        """The number of a unit given as number, or as its name where only one has it."""
        if text.isascii() and text.isdigit():
            return self.check_unit(int(text))
        found = [number for number, unit in enumerate(self.units) if unit.name == text]
        if len(found) != 1:
            raise BallotboardError(
                f"{len(found) or 'no'} units are called {text!r}: give its number"
                + (f", such as {found[0]} for {self.name(found[0])}" if found else "")
            )
        return found[0]

    # ---- the tree. Arrays, not lists of objects: a nation has 178,000 units and every process holds them

    @cached_property
    def _order(self) -> tuple[array[int], array[int]]:
        """(units by parent, where each unit's children begin)."""
        starts = array("I", bytes(4 * (len(self.units) + 1)))
        for unit in self.units[1:]:
            starts[unit.parent + 1] += 1
        for i in range(1, len(starts)):
            starts[i] += starts[i - 1]
        places, order = array("I", starts), array("I", bytes(4 * (len(self.units) - 1)))
        for number, unit in enumerate(self.units[1:], 1):
            order[places[unit.parent]] = number
            places[unit.parent] += 1
        return order, starts

    def children(self, unit: int) -> array[int]:
        """The units right below, ascending."""
        order, starts = self._order
        return order[starts[unit] : starts[unit + 1]]

    def is_leaf(self, unit: int) -> bool:
        return self.units[unit].style >= 0

    @cached_property
    def _below(self) -> tuple[array[int], list[int]]:
        """(leaf units below each unit, itself included; contests below it as bits)."""
        leaves = array("I", bytes(4 * len(self.units)))
        contests = [0] * len(self.units)
        for number in range(len(self.units) - 1, -1, -1):
            unit = self.units[number]
            if unit.style >= 0:
                leaves[number] = 1
                contests[number] = sum(1 << contest for contest in self.styles[unit.style])
            if number:
                leaves[unit.parent] += leaves[number]
                contests[unit.parent] |= contests[number]
        return leaves, contests

    def leaves(self, unit: int) -> int:
        """How many leaf units there are below a unit, itself included."""
        return self._below[0][unit]

    def layout(self, unit: int) -> Layout:
        """The contests that are voted on in or below a unit."""
        bits = self._below[1][unit]
        if bits not in self._layouts:
            self._layouts[bits] = tuple(
                (i, ciphertext_count(contest)) for i, contest in enumerate(self.contests) if bits >> i & 1
            )
        return self._layouts[bits]

    @cached_property
    def _layouts(self) -> dict[int, Layout]:
        return {}

    def inner_below(self, unit: int) -> list[int]:
        """The inner units in the subtree of `unit`, itself included, children before parents."""
        found, at = [], 0
        if not self.is_leaf(unit):
            found.append(unit)
        while at < len(found):
            found += [child for child in self.children(found[at]) if not self.is_leaf(child)]
            at += 1
        return found[::-1]

    def engine(self) -> Engine:
        """What verifies and sums the ballots of this election."""
        styles = tuple(tuple(self.contests[contest] for contest in style) for style in self.styles)
        return Engine(BallotContext(self.context, self.key, styles), [unit.style for unit in self.units])


def _describe_keys(keys: bytes) -> Attachment:
    rows = (keys[i : i + KEY] for i in range(0, len(keys), KEY))
    return Attachment(hashlib.sha256(keys).digest(), merkle.root(map(merkle.leaf_hash, rows)), len(keys) // KEY)
