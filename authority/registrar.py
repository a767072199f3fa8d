"""The registrar: an electoral roll becomes printed codes and a public list of keys, offline, then a record (docs/protocol.md, section 4).

    voters.csv (id, unit)  →  registrar_roll.make_roll  →  roll.bin, summary.json   public, for the chain
                                                           cards.csv                secret, for the printing house
                                                           handout.csv              ids; never leaves the registrar's room

A roll index and a serial say nothing about a person: rows are sorted by key, and serials are drawn by lot. Who holds both cards.csv and
handout.csv can vote for everyone, so the two are kept apart; with one registrar that is a matter of trust (threat model), with two each
has one part of every code.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from eth_account.signers.local import LocalAccount
from web3 import Web3

from authority.registrar_roll import NONCE_BYTES, ROLL_FILE, SUMMARY_FILE
from authority.registrar_shards import CARD_COLUMNS, put_csv
from chain.board import Board
from chain.contract import Phase, Refused
from chain.log import ElectionLog, read_log
from chain.rpc import Address
from chain.writer import Writer
from protocol import election, engine
from protocol.attachments import Roll, Unit, unit_counts_hash
from protocol.credential import new_code, print_code, read_code
from protocol.encoding import unhex
from protocol.errors import BallotboardError
from protocol.group import IDENTITY, add, parse_point
from protocol.records import Kind, RollChange, RollRecord

CARDS, HANDOUT = "cards*.csv", "handout*.csv"
"""The files of cards and ids in a roll's folder: one, or for a large roll numbered parts of whole units."""


class Card(NamedTuple):
    """What is printed for a voter: serial, code (16 bytes; with two registrars this one's part), roll index, the unit's name."""

    serial: int
    code: bytes
    roll_index: int
    unit: str

    @property
    def text(self) -> str:
        """What the voter types: serial and code."""
        return f"{self.serial}-{print_code(self.code)}"


# ---------------------------------------------------------------- the files of a roll


def read_cards(folder: Path) -> Iterator[Card]:
    """The cards of a roll's folder, in order of the roll; or of one such file."""
    for row in _tables(folder, CARDS):
        serial, code = row["code"].split("-", 1)
        yield Card(int(serial), read_code(code), int(row["roll_index"]), row["unit"])


def read_handout(folder: Path) -> Iterator[tuple[str, int]]:
    """(id, serial) of every voter, in order of the roll."""
    for row in _tables(folder, HANDOUT):
        yield row["id"], int(row["serial"])


def load_roll(folder: Path, units: Sequence[Unit]) -> tuple[Roll, RollRecord]:
    """roll.bin and the record it stands for. Raises BallotboardError where the files contradict each other or the units."""
    try:
        summary = json.loads((folder / SUMMARY_FILE).read_text())
        roll = Roll((folder / ROLL_FILE).read_bytes(), [unit.style for unit in units])
        record = _record(roll, unhex(summary["nonce"], NONCE_BYTES, f"{SUMMARY_FILE}.nonce"))
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
    plus: bytes = b"",
) -> Card:
    """Revoke a row and put a fresh credential of the same unit in its place; the new card is written to `out` first (cards.csv's columns).

    A lost card, or one that somebody else has seen. Ballots of the revoked row do not count, whenever they came. `plus` is the second
    registrar's key (32 bytes) of its part of the new card, where there are two.
    """
    log = read_log(web3, contract)
    opened = log.open()
    other = parse_point(plus, "the second registrar's key") if plus else IDENTITY
    card, key = _new_card(log, roll_index, out)
    key = add(key, other)
    change = RollChange(key, reason, roll_index, election.roll_state(opened, log.records).roll.row(roll_index)[1])
    try:
        Writer(web3, contract, registrar).append(Kind.ROLL_CHANGE, change.body(), [registrar, cosigner])
    except Refused:
        out.unlink()  # a card that never came to be; after any other error the record may have landed, and the file stays
        raise
    log.extend()
    state = election.roll_state(opened, log.records)
    if card.roll_index >= len(state.roll) or state.roll.row(card.roll_index)[0] != key:
        raise BallotboardError(
            f"another roll change came in between: the card in {out} has the wrong roll index, replace it once more"
        )
    return card


def replacement_part(web3: Web3, contract: Address, roll_index: int, out: Path) -> tuple[Card, bytes]:
    """The second registrar's part of a new card, written to `out`, and its public key, which the first one adds to its own."""
    return _new_card(read_log(web3, contract), roll_index, out)


# ---------------------------------------------------------------- helpers


def _new_card(log: ElectionLog, roll_index: int, out: Path) -> tuple[Card, bytes]:
    """A card for the row that the next roll change adds, in the new file `out`, and its public key."""
    opened = log.open()
    state = election.roll_state(opened, log.records)
    if not 0 <= roll_index < len(state.roll) or roll_index in state.revoked:
        raise BallotboardError(
            f"roll index {roll_index} is not on the roll, or is revoked already: read it from the card or the roll"
        )
    index, unit = len(state.roll), state.roll.row(roll_index)[1]
    # Serials of the roll are 1 … count, so that of the row at `index` is the next one.
    card = Card(index + 1, new_code(), index, opened.units[unit].name)
    if out.exists():
        raise BallotboardError(f"{out} exists and is not overwritten: the card was not replaced")
    try:
        put_csv(out, CARD_COLUMNS, [(card.serial, card.text, index, card.unit)])
    except OSError as error:
        raise BallotboardError(f"cannot write {out}: {error.strerror}; the card was not replaced") from error
    return card, engine.public_keys([card.code], opened.roll_record.nonce, card.serial)[0]


def _record(roll: Roll, nonce: bytes) -> RollRecord:
    described = roll.describe()
    return RollRecord(described.count, nonce, described.root, described.sha256, unit_counts_hash(roll.unit_counts()))


def _tables(folder: Path, pattern: str) -> Iterator[dict[str, str]]:
    paths = [folder] if folder.is_file() else sorted(folder.glob(pattern))
    if not paths:
        raise BallotboardError(f"there is no {pattern} in {folder}: `ballotboard registrar roll` makes it")
    for path in paths:
        with path.open(encoding="utf-8", newline="") as file:
            yield from csv.DictReader(file)
