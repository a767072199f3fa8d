"""An election on a real anvil, with everybody but the authority and the registrar acted out by protocol/ and chain/ directly."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from eth_account import Account
from eth_account.signers.local import LocalAccount
from nacl.signing import SigningKey

from authority import actions
from authority.config import Config, parse_config, parse_moment
from authority.plan import Plan, config_text
from authority.registrar import publish_roll, read_cards, read_handout
from authority.registrar_roll import make_roll
from chain.anvil import Anvil
from chain.board import Board
from chain.log import ElectionLog, read_log
from chain.sign import sign_record
from chain.writer import StationItem, Writer
from protocol import ceremony, election, merkle, tally
from protocol.ceremony import TrusteeSecret
from protocol.credential import secret_key
from protocol.engine import CreateRequest
from protocol.paper import ContestCount, StationResult
from protocol.records import CheckIns, Kind, StationHash

PLAN = Plan("Village", "Who?", ("Ann", "Ben", "blank"), units=("North", "South"), verifiers=0, stations=1)


def accounts_of(plan: Plan) -> dict[str, LocalAccount]:
    """An account for everyone in a plan, the same in every run."""
    names = [name for _, name in plan.role_names()] + plan.all_officers()
    return {name: Account.from_key(hashlib.sha256(name.encode()).digest()) for name in names}


def config_of(plan: Plan, accounts: dict[str, LocalAccount]) -> Config:
    hands = {
        name: (
            bytes.fromhex(account.address[2:]),
            bytes(SigningKey(bytes(account.key)).verify_key) if name.startswith("relayer") else b"",
        )
        for name, account in accounts.items()
    }
    return parse_config(config_text(plan, hands), 0)


class Dealt(NamedTuple):
    """A voter's card: `voter` is the place in the list, `unit` the number of the unit."""

    serial: int
    code: bytes
    roll_index: int
    unit: int
    voter: int


@dataclass(frozen=True)
class Issue:
    """A roll's nonce and its cards, in order of the voters."""

    nonce: bytes
    cards: list[Dealt]


def write_list(path: Path, config: Config, units: Sequence[int]) -> Path:
    """A voters' list: id-0, id-1, …, each in the unit of this number."""
    rows = [f"id-{voter},{config.units[unit].name}\n" for voter, unit in enumerate(units)]
    path.write_text("id,unit\n" + "".join(rows))
    return path


def deal(folder: Path, config: Config, units: Sequence[int], out: Path | None = None) -> Issue:
    """The roll of such a list, in `folder`/roll, and who has which card."""
    out = out or folder / "roll"
    summary = make_roll(write_list(folder / "voters.csv", config, units), config, out)
    cards = {card.serial: card for card in read_cards(out)}
    dealt = []
    for id, serial in read_handout(out):
        card, voter = cards[serial], int(id.removeprefix("id-"))
        dealt.append(Dealt(serial, card.code, card.roll_index, units[voter], voter))
    return Issue(bytes.fromhex(summary["nonce"]), sorted(dealt, key=lambda card: card.voter))


@dataclass
class World:
    """A published election and the people around it."""

    chain: Anvil
    folder: Path
    plan: Plan = PLAN
    windows: dict[str, str] = field(default_factory=dict)
    secrets: list[TrusteeSecret] = field(default_factory=list)
    issue: Issue | None = None

    def __post_init__(self) -> None:
        self.accounts = accounts_of(self.plan)
        config = config_of(self.plan, self.accounts)
        self.config = replace(
            config, windows=config.windows | {name: parse_moment(text) for name, text in self.windows.items()}
        )
        self.publish = partial(
            actions.publish,
            self.chain.web3,
            self.chain.url,
            self.config,
            self.accounts["authority"],
            self.folder / "board.json",
        )
        self.contract = self.publish().connection.contract
        self.board = Board(self.chain.web3, self.contract)
        for act in (actions.open_poll, actions.announce):
            setattr(self, act.__name__, partial(act, self.chain.web3, self.contract, self.accounts["authority"]))
        for act in (actions.close_poll, actions.settle_poll):
            setattr(self, act.__name__, partial(act, self.chain.web3, self.contract, self.accounts["relayer-1"]))

    def log(self) -> ElectionLog:
        return read_log(self.chain.web3, self.contract)

    def writer(self, name: str) -> Writer:
        return Writer(self.chain.web3, self.contract, self.accounts[name])

    def append(self, kind: Kind, body: bytes, name: str) -> None:
        self.writer(name).append(kind, body, [self.accounts[name]])

    # ---- trustees

    def ceremony(self, rounds: int = 3, silent: int = 0) -> None:
        """Rounds of the ceremony by all trustees; in the last of them the last `silent` trustees say nothing."""
        setting = election.setting(self.log().manifest, 0)
        self.secrets = [TrusteeSecret.draw(number, setting.t) for number in range(1, setting.n + 1)]
        said: list[list[bytes]] = []
        for number, make in enumerate((ceremony.round1, ceremony.round2, ceremony.round3)[:rounds], 1):
            said.append([make(setting, secret, *said) for secret in self.secrets])
            speakers = said[-1][: setting.n - silent] if number == rounds else said[-1]
            for trustee, body in enumerate(speakers, 1):
                self.append(Kind.CEREMONY, body, f"trustee-{trustee}")
        self.said = said

    def decrypt(self, trustee: int, wrong: bool = False) -> None:
        """A trustee's partial decryption; a `wrong` one is made with another share."""
        log = self.log()
        opened = log.open()
        before = log.records[: election.only(log.records, Kind.SETTLEMENT).position]
        reasons = election.verify_ballots(
            opened, election.roll_state(opened, before).roll, election.of_kind(before, Kind.BALLOT)
        )
        settled = election.settle(opened, log.records, reasons)
        setting = election.setting(log.manifest, opened.attempt)
        share = ceremony.share_secret(setting, self.secrets[trustee - 1], self.said[0], self.said[1])
        groups = [group for contest in settled.groups for group in contest]
        [body] = tally.partial_decryption(opened.context, settled.settlement.head.root, groups, trustee, share + wrong)
        self.append(Kind.PARTIAL_DECRYPTION, body, f"trustee-{trustee}")

    # ---- registrar and voters

    def publish_roll(self, count: int = 6) -> None:
        """Voters 0 … count − 1 in turn in the two units."""
        self.issue = deal(self.folder, self.config, [1 + number % 2 for number in range(count)])
        publish_roll(self.chain.web3, self.contract, self.accounts["registrar"], self.folder / "roll")

    def vote(self, votes: dict[int, int]) -> None:
        """Ballots {voter: option}, appended as one batch by the relayer."""
        bodies = self.ballots(votes)
        relayer = self.accounts["relayer-1"]
        self.writer("relayer-1").append_ballots(self.board.sequences(relayer.address), bodies)

    def ballots(self, votes: dict[int, int]) -> list[bytes]:
        """The same ballots, with whoever cast them."""
        assert self.issue
        log = self.log()
        opened = log.open()
        cards = {card.voter: card for card in self.issue.cards}
        return opened.engine.create(
            CreateRequest(
                cards[voter].roll_index, len(log.records), cards[voter].unit, 0,
                secret_key(cards[voter].code, self.issue.nonce, cards[voter].serial), os.urandom(32),
                [[int(option == choice) for choice in range(len(self.plan.options))]],
            )
            for voter, option in votes.items()
        )  # fmt: skip

    # ---- the station

    def check_in(self, batch: int, indices: list[int]) -> None:
        body = CheckIns(0, batch, tuple((index, 1000 + batch) for index in indices)).body()
        self._station_item(Kind.CHECK_IN, body, batch)

    def count_paper(self, counts: tuple[int, ...], issued: int) -> bytes:
        """Records the hash of the station's result; gives the document, to be revealed."""
        document = StationResult(
            station=0, revision=1, practice=False, reason="", issued=issued, counted=sum(counts), spoiled=issued - sum(counts), unreturned=0,
            contests=(ContestCount(0, counts, 0, 0),), opening=bytes(32), closing=bytes(32), salt=os.urandom(32),
        )  # fmt: skip
        self._station_item(Kind.STATION_HASH, StationHash(0, 1, document.document_hash()).body(), 1)
        return document.body()

    def reveal(self, document: bytes) -> None:
        self.writer("relayer-1").reveal([document])

    def _station_item(self, kind: Kind, body: bytes, number: int) -> None:
        rows = self.config.station_rows
        chain_id, digest = self.chain.chain_id, hashlib.sha256(body).digest()
        officers = [self.accounts[name] for name in self.plan.officer_names(0)]
        signatures = b"".join(
            sign_record(officer, chain_id, self.contract, kind, digest, number) for officer in officers
        )
        proof = merkle.inclusion_proof([merkle.leaf_hash(row) for row in rows], 0)
        self.writer("relayer-1").append_stations([StationItem(kind, rows[0], proof, body, signatures)])

    # ---- time

    def advance(self, window: str) -> None:
        """Go to a window of the manifest; `close` is when the close record may come."""
        windows = self.board.windows()
        self.chain.advance_to(
            actions.close_time(self.chain.web3, self.contract) if window == "close" else getattr(windows, window)
        )
