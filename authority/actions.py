"""What the authority does to a board, one function per act; `authority.cli` and the demo call them with plain arguments.

    publish  →  (ceremony, roll)  →  open_poll  →  close_poll  →  settle_poll  →  (decryption, stations)  →  announce

Each act reads the record, refuses while something is missing, saying what, and appends one record. Times are the chain's: nothing here
looks at the local clock.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eth_account.signers.local import LocalAccount
from web3 import Web3

from authority.config import Config
from chain.anvil import BALANCE
from chain.board import Board
from chain.console import Connection, connection, print_time
from chain.contract import Phase, artifact
from chain.deploy import constructor_arguments, deploy
from chain.holding import Attestation, Holders, combine
from chain.log import ElectionLog, read_log
from chain.reader import Reader
from chain.rpc import Address, block, call, checksummed, is_anvil
from chain.writer import Writer
from protocol import election
from protocol.attachments import Station, describe, pack
from protocol.ceremony import CeremonyIncomplete, CeremonyVoid
from protocol.counting import Conflict, count
from protocol.election import MissingAttachment, MissingRecord, OpenElection, Progress
from protocol.encoding import parse_json
from protocol.errors import BallotboardError
from protocol.manifest import Manifest, RoleKind
from protocol.records import CheckIns, Extension, Kind, RollRecord
from protocol.tally import TooFewShares

PAUSE = 1.0
"""Longest pause in seconds between looks at the chain's clock while waiting for it: the time of a block."""


class NotReady(BallotboardError):
    """This act waits for somebody else's."""


def chain_time(web3: Web3) -> int:
    """The time that a record appended now would bear, at least. anvil may mine only when something is sent, and its clock goes on between."""
    return int(block(web3, "pending" if is_anvil(web3) else "latest")["timestamp"], 16)


def wait_until(web3: Web3, moment: Callable[[], int], tick: Callable[[int], None] | None = None) -> None:
    """Wait for a time of the chain, asked again at each look since an extension moves it; `tick` gets the seconds left."""
    while (left := moment() - chain_time(web3)) > 0:
        if tick:
            tick(left)
        time.sleep(min(left, PAUSE))


# ---------------------------------------------------------------- publishing


@dataclass(frozen=True)
class Published:
    """A published election. Its id, `manifest.election_id`, is printed on voters' cards."""

    connection: Connection
    manifest: Manifest


def publish(
    web3: Web3,
    rpc: str,
    config: Config,
    authority: LocalAccount,
    board_file: Path,
    force: bool = False,
    relayers: Sequence[str] = (),
    boards: Sequence[str] = (),
    comet: str = "",
    holders: Sequence[str] = (),
) -> Published:
    """Create the board, publish the lists of units and stations, and write the connection file.

    `rpc` is the URL written into the file, with those of the relayers, boards and data holders that will serve, and of a validator. On anvil every role and officer is given
    gas money. Where the file exists nothing is published again without `force`, but lists that a crash left out are.
    """
    _check_authority(config, authority)
    if board_file.exists() and not force:
        return _finish(web3, config, authority, board_file)
    anvil, engine = is_anvil(web3), config.members["chain"]["engine"]
    if anvil != (engine == "anvil"):
        raise BallotboardError(
            f"chain.engine is {engine!r} and the node {'is' if anvil else 'is not'} anvil: use another node, or change the file"
        )
    chain_id = int(call(web3, "eth_chainId"), 16)
    manifest = config.manifest(chain_id, artifact().code_hash, chain_time(web3))
    if anvil:
        for account in {
            *(role.address for role in manifest.roles),
            *(officer for s in config.stations for officer in s.officers),
        }:
            call(web3, "anvil_setBalance", checksummed(account), hex(BALANCE))
    deployed = deploy(web3, authority, manifest.body, *constructor_arguments(manifest))
    election_id = manifest.election_id.hex()
    found = Connection(
        rpc, checksummed(deployed.address), election_id, list(relayers), list(boards), comet, list(holders)
    )
    found.save(board_file)
    _publish_places(web3, found.contract, config, authority)
    return Published(found, manifest)


def _finish(web3: Web3, config: Config, authority: LocalAccount, board_file: Path) -> Published:
    """The election in the connection file, if it is this one and its lists were not all published; raises BallotboardError otherwise."""
    found = connection(board_file)
    refusal = f"{board_file} is about a published election ({found.election or 'id unknown'}): --force publishes another and replaces the file"
    try:
        log = read_log(web3, found.contract)
        same = (log.manifest.units, log.manifest.stations) == (
            describe(config.unit_rows),
            describe(config.station_rows),
        )
        if same and _publish_places(web3, found.contract, config, authority):
            return Published(found, log.manifest)
    except BallotboardError as error:
        raise BallotboardError(f"{refusal} ({error})") from error
    raise BallotboardError(refusal)


def _publish_places(web3: Web3, contract: Address, config: Config, authority: LocalAccount) -> int:
    """Publish what is missing of the lists of units and stations; gives how many parts were sent."""
    writer = Writer(web3, contract, authority)
    return sum(writer.attach(pack(rows)) for rows in (config.unit_rows, config.station_rows))


def _check_authority(config: Config, account: LocalAccount) -> None:
    addresses = [role["address"] for role in config.members["roles"] if role["kind"] == RoleKind.AUTHORITY.text]
    if account.address[2:].lower() not in addresses:
        raise BallotboardError(
            f"{account.address} is no authority of this election: use the key file of 0x{addresses[0]}"
        )


# ---------------------------------------------------------------- the poll


@dataclass(frozen=True)
class Opened:
    """An open poll: position of the open record, the joint key K (32 bytes), number of rows on the roll."""

    position: int
    key: bytes
    voters: int


def missing_for_open(log: ElectionLog) -> list[str]:
    """What the poll cannot open without, one line each, saying who must act; empty when everything is there and right."""
    missing = []
    for look in (_joint_key, _roll_size):
        try:
            look(log)
        except BallotboardError as error:
            missing.append(str(error))
    return missing


def open_poll(web3: Web3, contract: Address, authority: LocalAccount) -> Opened:
    """Append the open record over a complete setup. Raises NotReady naming all that is missing, Refused when it is too early or too late."""
    log = read_log(web3, contract)
    _require(web3, contract, Phase.SETUP, "the poll has been opened")
    if missing := missing_for_open(log):
        raise NotReady("; ".join(missing))
    landed = Writer(web3, contract, authority).append(Kind.OPEN, log.head.body(), [authority])
    return Opened(landed.positions[0], _joint_key(log), _roll_size(log))


def extend_poll(web3: Web3, contract: Address, authority: LocalAccount, close: int, reason: str) -> int:
    """Move the close to a later time (seconds since 1970), at most `close_not_after`; gives the record's position."""
    board = Board(web3, contract)
    current, latest = board.close_time(), board.windows().close_not_after
    if not current < close <= latest:
        raise BallotboardError(
            f"the close can only move from {print_time(current)} to a later time, at most {print_time(latest)} (close_not_after in the manifest)"
        )
    return (
        Writer(web3, contract, authority)
        .append(Kind.EXTENSION, Extension(close, reason).body(), [authority])
        .positions[0]
    )


def close_time(web3: Web3, contract: Address) -> int:
    """From when the close record may be appended: the present close time and the relayers' grace."""
    board = Board(web3, contract)
    return board.close_time() + board.windows().append_grace


def close_poll(web3: Web3, contract: Address, account: LocalAccount) -> int:
    """Append the close record, from any account; gives its position."""
    _require(web3, contract, Phase.OPEN, "the poll is closed already")
    return Writer(web3, contract, account).close().positions[0]


def settle_poll(
    web3: Web3, contract: Address, account: LocalAccount, attestations: Sequence[Attestation] = (), bitmap: bytes = b""
) -> int:
    """Append the settlement, from any account; gives its position. From then on which ballots count is fixed.

    In hash mode it needs the data holders' attestations and the bitmap's file; the bitmap is published first, which takes an account with a role.
    """
    _require(web3, contract, Phase.CLOSED, "the counted set is settled already")
    writer = Writer(web3, contract, account)
    manifest = Reader(web3, contract).creation().manifest()
    if manifest.body_mode != "hash":
        return writer.settle().positions[0]
    if not attestations:
        raise NotReady(
            "ballots are with the data holders: let each run `ballotboard relayer attest`, and give their files with --attestation"
        )
    name, signatures = combine(manifest, writer.sender.chain_id, contract, writer.board.head(), attestations)
    if hashlib.sha256(bitmap).digest() != name:
        raise BallotboardError(
            "the bitmap is not the one that the data holders signed: give the file that lies beside an attestation"
        )
    writer.attach(bitmap)
    return writer.settle(name, signatures).positions[0]


def check_in_conflicts(web3: Web3, contract: Address) -> list[Conflict]:
    """Voters who took paper twice, by the check-ins on the record so far."""
    log = read_log(web3, contract)
    opened = log.open()
    batches = [
        (record.position, batch) for record, batch in election.readable(log.records, Kind.CHECK_IN, CheckIns.parse)
    ]
    state = election.roll_state(opened, log.records)
    return count(state, [], batches, opened.stations, log.manifest.revote, log.manifest.channel).conflicts


# ---------------------------------------------------------------- the result


@dataclass(frozen=True)
class Announced:
    """The result on the record: its position, its value (docs/protocol.md, section 10), and partial decryptions that were wrong, (position, why)."""

    manifest: Manifest
    position: int
    result: dict[str, Any]
    faults: list[tuple[int, str]]


def announce(
    web3: Web3,
    contract: Address,
    authority: LocalAccount,
    progress: Progress | None = None,
    holders: Sequence[str] = (),
) -> Announced:
    """Recompute the result from the record and append it; `holders` are the URLs of the data holders, in hash mode.

    Raises NotReady naming the stations, or the decryptions, that are missing.
    """
    log = read_log(web3, contract)
    log.read_bodies(Holders(holders))
    _require(web3, contract, Phase.SETTLED, "the result is announced already")
    opened = log.open()
    if missing := missing_results(opened, log):
        raise NotReady("; ".join(map(str, missing)))
    before = election.settled_records(log.manifest, log.records, log.attachments)
    roll = election.roll_state(opened, before).roll
    reasons = election.verify_ballots(opened, roll, election.of_kind(before, Kind.BALLOT), progress)
    settled = election.settle(opened, log.records, reasons, log.attachments)
    try:
        found = election.decrypt(settled, log.records)
    except TooFewShares as error:
        _, faults = election.valid_shares(settled, log.records)
        wrong = "".join(f"; record {position} does not count: {why}" for position, why in faults)
        raise NotReady(f"{error}: more trustees must run `ballotboard trustee decrypt`{wrong}") from error
    body = election.result_body(settled, found, log.records)
    landed = Writer(web3, contract, authority).append(Kind.RESULT, body, [authority])
    return Announced(log.manifest, landed.positions[0], parse_json(body), found.faults)


@dataclass(frozen=True, slots=True)
class MissingResult:
    """A station whose result cannot be counted: nothing is recorded (revision 0), or this revision is not revealed or does not add up."""

    station: Station
    revision: int

    def __str__(self) -> str:
        what = (
            f"revision {self.revision} is not revealed or does not add up" if self.revision else "no result is recorded"
        )
        return f"station {self.station.number} ({self.station.name}): {what}"


def missing_results(opened: OpenElection, log: ElectionLog) -> list[MissingResult]:
    """The stations whose result is not on the record, whole."""
    standing, unrevealed = election.standing_results(opened, log.records)
    revisions = {found.station: found.revision for found in unrevealed}
    return [MissingResult(s, revisions.get(s.number, 0)) for s in opened.stations if s.number not in standing]


# ---------------------------------------------------------------- helpers


_LATER = {
    Phase.SETUP: "the poll has not been opened: `ballotboard election open` comes first",
    Phase.OPEN: "the poll is open: `ballotboard election close` comes first",
    Phase.CLOSED: "the counted set is not settled: `ballotboard election settle` comes first",
}


def _require(web3: Web3, contract: Address, wanted: Phase, later: str) -> None:
    """Raises NotReady unless the board is in this phase; `later` says what it means that it is in a later one."""
    phase = Board(web3, contract).phase()
    if phase > wanted:
        raise NotReady(later)
    if phase < wanted:
        raise NotReady(_LATER[phase])


def _joint_key(log: ElectionLog) -> bytes:
    """The key of a complete ceremony; raises NotReady naming the trustees that are waited for or at fault."""
    names = [log.manifest.roles[index].name for index in log.manifest.trustees]
    try:
        return election.read_ceremony(log.manifest, log.records)[1].key
    except MissingRecord as error:
        raise NotReady(
            f"the key ceremony has not begun: {', '.join(names)} must run `ballotboard trustee next --watch`"
        ) from error
    except CeremonyIncomplete as error:
        absent = ", ".join(names[number - 1] for number in error.culprits)
        raise NotReady(f"the key ceremony waits for {absent}: {error}") from error
    except CeremonyVoid as error:
        raise NotReady(f"the key ceremony failed and must begin again: {error}") from error


def _roll_size(log: ElectionLog) -> int:
    """The number of rows of a roll that is there and right; raises NotReady, Malformed."""
    try:
        units, _ = election.read_places(log.manifest, log.attachments)
    except MissingAttachment as error:
        raise NotReady(f"run `ballotboard election publish` again, it was cut short: {error}") from error
    rolls = election.of_kind(log.records, Kind.ROLL)
    if not rolls:
        raise NotReady("there is no roll: the registrar must run `ballotboard registrar publish`")
    try:
        roll = election.read_roll(RollRecord.parse(rolls[0].body or b""), units, log.attachments)
    except MissingAttachment as error:
        raise NotReady(
            f"the registrar must run `ballotboard registrar publish` again, it was cut short: {error}"
        ) from error
    roll.check()
    return len(roll)
