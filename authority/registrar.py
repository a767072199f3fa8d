"""The registrar: an electoral roll becomes printed codes and a public list of keys, offline (docs/protocol.md, section 4).

    voters.csv (id, unit)  →  read_voters  →  make_roll  →  save_roll:  roll.bin, summary.json   public, for the chain
                                                                      cards.csv                secret, for the printing house
                                                                      handout.csv              ids; never leaves the registrar's room

A roll index and a serial say nothing about a person: rows are sorted by key, and serials are drawn by lot within a unit. Who holds both
cards.csv and handout.csv can vote for everyone, so the two are kept apart; with one registrar that is a matter of trust (threat model).
"""

from __future__ import annotations

import csv
import json
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

from eth_account.signers.local import LocalAccount
from web3 import Web3

from authority.config import Config
from chain.board import Board
from chain.contract import Phase, Refused
from chain.log import read_log
from chain.rpc import Address
from chain.writer import Writer
from protocol import election, engine
from protocol.attachments import Roll, Unit, roll_row, unit_counts_hash
from protocol.credential import new_code, print_code
from protocol.encoding import unhex
from protocol.errors import BallotboardError
from protocol.records import Kind, RollChange, RollRecord

ROLL_FILE, SUMMARY_FILE, CARDS_FILE, HANDOUT_FILE = "roll.bin", "summary.json", "cards.csv", "handout.csv"

NONCE_BYTES = 32
BATCH = 4096
"""Keys made between two steps of the progress bar: a few milliseconds of native work, a fifth of a second of the reference."""


class RollError(BallotboardError):
    """A voters' list with lines that are wrong. `problems` has one line for each, with its line number; nothing was written."""

    def __init__(self, source: str, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        super().__init__(f"{source}: {problems[0]}{more}; nothing was written")


class Voter(NamedTuple):
    """A line of the register: an opaque id, and the number of the unit where this person votes."""

    id: str
    unit: int


class Card(NamedTuple):
    """What is printed for a voter: serial, code (16 bytes), roll index, unit number. `voter` is the place in the voters' list."""

    serial: int
    code: bytes
    roll_index: int
    unit: int
    voter: int

    @property
    def text(self) -> str:
        """What the voter types: serial and code."""
        return f"{self.serial}-{print_code(self.code)}"


@dataclass(frozen=True)
class Issue:
    """A roll and its cards, cards in order of serial (from 1)."""

    roll: Roll
    nonce: bytes
    cards: list[Card]

    def record(self) -> RollRecord:
        return roll_record(self.roll, self.nonce)


# ---------------------------------------------------------------- offline


def read_voters(path: Path, config: Config) -> list[Voter]:
    """The voters' list: CSV with a header `id,unit` or `id,unit,style`, in UTF-8.

    Raises RollError naming every line that is wrong; a list with one wrong line gives no voters at all.
    """
    try:
        # Bytes that are no UTF-8 become lone surrogates, which no name has and which are not printable: their lines are named.
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            problems: list[str] = []
            voters = list(_voters(file, config, problems))
    except OSError as error:
        raise BallotboardError(f"cannot read {path}: {error.strerror}") from error
    if not voters and not problems:
        problems.append("line 2: there are no voters")
    if problems:
        raise RollError(str(path), problems)
    return voters


def make_roll(
    voters: Sequence[Voter],
    units: Sequence[Unit],
    nonce: bytes | None = None,
    progress: election.Progress | None = None,
) -> Issue:
    """Fresh codes and keys for these voters. `nonce` is the election nonce (32 bytes), default a fresh one."""
    nonce = nonce or secrets.token_bytes(NONCE_BYTES)
    lot = list(range(len(voters)))
    secrets.SystemRandom().shuffle(lot)
    lot.sort(
        key=lambda voter: voters[voter].unit
    )  # stable: by lot within a unit, so that a unit's cards are handed out together
    codes = [new_code() for _ in lot]
    keys: list[bytes] = []
    for start in range(0, len(codes), BATCH):
        keys += engine.public_keys(codes[start : start + BATCH], nonce, start + 1)
        if progress:
            progress(len(keys), len(codes))
    order = sorted(range(len(lot)), key=lambda card: (voters[lot[card]].unit, keys[card]))
    index_of = {card: index for index, card in enumerate(order)}
    roll = Roll(
        b"".join(roll_row(keys[card], voters[lot[card]].unit) for card in order), [unit.style for unit in units]
    )
    roll.check()
    cards = [Card(card + 1, codes[card], index_of[card], voters[voter].unit, voter) for card, voter in enumerate(lot)]
    return Issue(roll, nonce, cards)


def roll_record(roll: Roll, nonce: bytes) -> RollRecord:
    described = roll.describe()
    return RollRecord(described.count, nonce, described.root, described.sha256, unit_counts_hash(roll.unit_counts()))


def save_roll(issue: Issue, voters: Sequence[Voter], units: Sequence[Unit], out: Path) -> dict[str, Any]:
    """Write the four files into a new folder `out`, which appears whole or not at all; gives the summary. Raises BallotboardError if `out` exists."""
    if out.exists():
        raise BallotboardError(
            f"{out} exists and is not overwritten: its cards could not be made again; choose another folder"
        )
    part = out.with_name(out.name + ".part")
    summary = _summary(issue, units)
    try:
        shutil.rmtree(part, ignore_errors=True)  # what a run that died left behind: nobody was handed anything of it
        part.mkdir(parents=True, mode=0o700)
        write_cards(part / CARDS_FILE, issue.cards, units)
        handout = sorted((voters[card.voter].id, card.serial) for card in issue.cards)
        _write_secret(part / HANDOUT_FILE, ("id", "serial"), handout)
        (part / ROLL_FILE).write_bytes(issue.roll.data)
        (part / SUMMARY_FILE).write_text(json.dumps(summary, indent=2, ensure_ascii=False) + "\n")
        part.rename(out)
    except OSError as error:
        raise BallotboardError(f"cannot write {out}: {error.strerror}") from error
    return summary


def write_cards(path: Path, cards: Sequence[Card], units: Sequence[Unit]) -> None:
    """The printing house's file, a new one: no id, no name."""
    rows = ((card.serial, card.text, card.roll_index, units[card.unit].name) for card in cards)
    _write_secret(path, ("serial", "code", "roll_index", "unit"), rows)


def load_roll(folder: Path, units: Sequence[Unit]) -> tuple[Roll, RollRecord]:
    """roll.bin and the record it stands for. Raises BallotboardError where the files contradict each other or the units."""
    try:
        summary = json.loads((folder / SUMMARY_FILE).read_text())
        roll = Roll((folder / ROLL_FILE).read_bytes(), [unit.style for unit in units])
        record = roll_record(roll, unhex(summary["nonce"], NONCE_BYTES, f"{SUMMARY_FILE}.nonce"))
        stated = summary["sha256"]
    except OSError as error:
        raise BallotboardError(
            f"cannot read {error.filename}: {error.strerror} (`ballotboard registrar roll` makes it)"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise BallotboardError(f"{folder / SUMMARY_FILE} is not the summary of a roll") from error
    if record.sha256.hex() != stated:
        raise BallotboardError(
            f"{folder / ROLL_FILE} is not the file that {SUMMARY_FILE} describes: take both from the same run"
        )
    roll.check()
    return roll, record


# ---------------------------------------------------------------- on the chain


def publish_roll(web3: Web3, contract: Address, registrar: LocalAccount, folder: Path) -> tuple[RollRecord, int]:
    """Attach roll.bin and append the roll record; gives the record and its position. Run again after a crash, it goes on where it was."""
    log = read_log(web3, contract)
    units, _ = election.read_places(log.manifest, log.attachments)
    roll, record = load_roll(folder, units)
    for found in election.of_kind(log.records, Kind.ROLL):
        if found.body != record.body():
            raise BallotboardError(
                "another roll is on the record: an election has one, changes go through `ballotboard registrar replace`"
            )
    if not election.of_kind(log.records, Kind.ROLL) and Board(web3, contract).phase() != Phase.SETUP:
        raise BallotboardError("the poll has been opened: a roll belongs before that")
    writer = Writer(web3, contract, registrar)
    if record.sha256 not in log.attachments:
        writer.attach(roll.data)
    for found in election.of_kind(log.records, Kind.ROLL):
        return record, found.position
    return record, writer.append(Kind.ROLL, record.body(), [registrar]).positions[0]


def replace_card(
    web3: Web3,
    contract: Address,
    registrar: LocalAccount,
    cosigner: LocalAccount,
    roll_index: int,
    reason: str,
    out: Path,
) -> Card:
    """Revoke a row and put a fresh credential of the same unit in its place; the new card is written to `out` first (cards.csv's columns).

    A lost card, or one that somebody else has seen. Ballots of the revoked row do not count, whenever they came.
    """
    log = read_log(web3, contract)
    opened = log.open()
    state = election.roll_state(opened, log.records)
    if not 0 <= roll_index < len(state.roll) or roll_index in state.revoked:
        raise BallotboardError(
            f"roll index {roll_index} is not on the roll, or is revoked already: read it from the card or the roll"
        )
    unit = state.roll.row(roll_index)[1]
    index = len(state.roll)
    # Serials of the roll are 1 … count, so that of the row at `index` is the next one.
    card = Card(index + 1, new_code(), index, unit, -1)
    key = engine.public_keys([card.code], opened.roll_record.nonce, card.serial)[0]
    try:
        write_cards(out, [card], opened.units)
    except OSError as error:
        raise BallotboardError(f"cannot write {out}: {error.strerror}; the card was not replaced") from error
    try:
        change = RollChange(key, reason, roll_index, unit)
        Writer(web3, contract, registrar).append(Kind.ROLL_CHANGE, change.body(), [registrar, cosigner])
    except Refused:
        out.unlink()  # a card that never came to be; after any other error the record may have landed, and the file stays
        raise
    log.extend()
    state = election.roll_state(opened, log.records)
    if index >= len(state.roll) or state.roll.row(index)[0] != key:
        raise BallotboardError(
            f"another roll change came in between: the card in {out} has the wrong roll index, replace it once more"
        )
    return card


# ---------------------------------------------------------------- helpers


def _voters(file: IO[str], config: Config, problems: list[str]) -> Iterator[Voter]:
    """The voters of good lines, in order; what is wrong with the others goes to `problems`."""
    rows = csv.reader(file, strict=True)
    try:
        header = [name.strip() for name in next(rows, ())]
    except csv.Error as error:
        problems.append(f"line 1: {error}")
        return
    unknown = set(header) - {"id", "unit", "style"}
    if unknown:
        problems.append(
            f"line 1: column {sorted(unknown)[0]!r} is not used here; leave out what is not id, unit or style, personal data above all"
        )
    if not {"id", "unit"} <= set(header) or len(set(header)) != len(header):
        problems.append("line 1: the first line must be id,unit or id,unit,style")
    if problems:
        return
    unit_of = {unit.name: number for number, unit in enumerate(config.units)}
    lines: dict[str, int] = {}
    while True:
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            problems.append(f"line {rows.line_num}: {error}")
            continue
        line = f"line {rows.line_num}"
        if len(row) != len(header):
            problems.append(f"{line}: has {len(row)} fields, the header {len(header)}")
            continue
        value = dict(zip(header, map(str.strip, row), strict=True))
        id, unit = value["id"], unit_of.get(value["unit"], -1)
        if not id or not id.isprintable():
            problems.append(f"{line}: the id is empty or not readable text in UTF-8")
        elif id in lines:
            problems.append(f"{line}: this id is on line {lines[id]} already")
        elif unit < 0:
            problems.append(f"{line}: there is no unit {value['unit']!r}; write its name as in the election's file")
        elif config.units[unit].style < 0:
            problems.append(f"{line}: nobody votes in {value['unit']!r}, which has units under it; write one of those")
        elif value.get("style", "") not in ("", config.style_names[config.units[unit].style]):
            problems.append(
                f"{line}: the style of {value['unit']!r} is {config.style_names[config.units[unit].style]!r}, not {value['style']!r}"
            )
        else:
            yield Voter(id, unit)
        lines.setdefault(id, rows.line_num)


def _summary(issue: Issue, units: Sequence[Unit]) -> dict[str, Any]:
    record = issue.record()
    return {
        "count": record.count, "nonce": record.nonce.hex(), "root": record.root.hex(), "sha256": record.sha256.hex(),
        "units": [{"unit": unit, "name": units[unit].name, "voters": rows} for unit, rows in issue.roll.unit_counts()],
    }  # fmt: skip


def _write_secret(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A new CSV file that only its owner can read, synced: once the roll is on the record, its codes cannot be made again. Raises OSError."""
    with os.fdopen(
        os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8", newline=""
    ) as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])
        file.flush()
        os.fsync(file.fileno())
