"""A whole election in memory, with every key in hand: what the dishonest runs tamper with.

`hold()` holds an honest one; each of its steps is a method of `Election` that a dishonest run overrides or follows with something else.
It has every kind of record and every contest rule, six voters in two units and two stations:

    row 0   votes twice: the first ballot is superseded        unit 1, contests question, mayor
    row 1   votes once
    row 2   votes on paper only, at station 0
    row 3   votes once                                          unit 2, contests question, board, council
    row 4   votes, then its card is lost: revoked, and row 6 is added, which votes
    row 5   votes online, then on paper at station 1: replaced

Trustees 1 to 3, any two of whom can decrypt. `HashElection` is the same in hash mode. Nothing here is random: within `seeded`, proofs' nonces and the ceremony's shares come from a text.
"""

from __future__ import annotations

import copy
import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from types import SimpleNamespace
from typing import Any

from eth_account import Account

from chain.contract import artifact
from chain.deploy import constructor_arguments, creation_input
from chain.holding import held_bitmap
from chain.sign import sign_record
from protocol import attachments, ceremony, election, group, merkle, tally
from protocol.attachments import Attachment, Bitmap, Station, Unit, roll_row, unit_counts_hash
from protocol.election import LogRecord, OpenElection, SettledElection
from protocol.encoding import canonical_json, parse_json
from protocol.engine import CreateRequest
from protocol.group import base, reduce
from protocol.manifest import Manifest
from protocol.paper import ContestCount, StationResult
from protocol.records import (
    ANYONE,
    COSIGNED,
    SIGNER,
    STATION_OFFICERS,
    CheckIns,
    Entry,
    Extension,
    Kind,
    LogHead,
    Report,
    RollChange,
    RollRecord,
    Settlement,
    Statement,
    StationHash,
    ballot_hash,
)
from verifier.claims import Claims, Progress, silent

CHAIN_ID = 31337
CONTRACT = bytes.fromhex("b0a4d000000000000000000000000000000b0a4d")
THRESHOLD = 2

ROLES = ("authority", "registrar", "cosigner", "trustee 1", "trustee 2", "trustee 3", "relayer", "verifier")
AUTHORITY, REGISTRAR, COSIGNER, TRUSTEE_1, TRUSTEE_2, TRUSTEE_3, RELAYER, VERIFIER = range(8)

HOLDERS = ("data-holder 1", "data-holder 2", "data-holder 3")
"""The roles after these in hash mode."""
HOLDERS_NEEDED = 2
OUTSIDE = "row 1"
"""In hash mode, the ballot that nobody kept."""

WINDOWS = {
    "open_not_before": 1000, "close": 2000, "close_not_after": 3000, "append_grace": 100, "count_not_before": 1700,
    "reveal_not_before": 2500, "settle_not_before": 3200, "decrypt_not_before": 3300,
}  # fmt: skip

CONTESTS = [
    {"id": "question", "title": "Shall it be done?", "rule": "one-of-k", "limit": 0, "options": ["yes", "no"]},
    {"id": "mayor", "title": "Mayor", "rule": "one-of-k", "limit": 0, "options": ["a", "b", "c", "blank"]},
    {"id": "board", "title": "Board", "rule": "approval", "limit": 0, "options": ["x", "y", "z"]},
    {"id": "council", "title": "Council", "rule": "up-to-L", "limit": 2, "options": ["p", "q", "r"]},
]
STYLES = [[0, 1], [0, 2, 3]]
UNITS = [Unit("nation", "N", -1, -1), Unit("town", "T", 0, 0), Unit("village", "V", 0, 1)]
UNIT_OF_ROW = (1, 1, 1, 2, 2, 2, 2)

CHOICES: dict[int, Sequence[Sequence[int]]] = {
    0: [[1, 0], [0, 1, 0, 0]],
    1: [[0, 1], [0, 0, 0, 1]],
    3: [[1, 0], [1, 0, 1], [0, 1, 1]],
    4: [[0, 1], [1, 1, 1], [0, 0, 0]],
    5: [[0, 1], [0, 0, 0], [1, 0, 0]],
    6: [[1, 0], [0, 1, 0], [1, 1, 0]],
}
FIRST_VOTE_OF_ROW_0 = [[0, 1], [1, 0, 0, 0]]

COUNTED_TOTALS = {
    "question": [3, 1],
    "mayor": [0, 1, 0, 1],
    "board": [1, 1, 1],
    "council": [1, 2, 1],
}
"""Online totals of rows 0, 1, 3 and 6."""

HASH_TOTALS = COUNTED_TOTALS | {"question": [3, 0], "mayor": [0, 1, 0, 0]}
"""The same without row 1, in hash mode."""

PAPER_TOTALS = {"question": [1, 1], "mayor": [0, 0, 1, 0], "board": [0, 0, 1], "council": [1, 0, 0]}


def key(name: str) -> bytes:
    """The chain key of a role or an officer."""
    return hashlib.sha256(f"key of {name}".encode()).digest()


def address(name: str) -> bytes:
    return bytes.fromhex(Account.from_key(key(name)).address[2:])


def officers(station: int) -> tuple[str, str, str]:
    return f"officer {station}a", f"officer {station}b", f"officer {station}c"


def credential(row: int) -> int:
    """The secret of a voter: rows are in the order of their public keys within a unit, as the roll demands."""
    return _credentials()[row]


@cache
def _credentials() -> list[int]:
    secrets = [reduce(hashlib.sha512(f"voter {i}".encode()).digest()) for i in range(6)]
    town, village = sorted(secrets[:3], key=base), sorted(secrets[3:], key=base)
    return [*town, *village, reduce(hashlib.sha512(b"voter 6").digest())]


@dataclass(frozen=True)
class Draft:
    """A record as it is being made. `joined` puts it into the same event as the record before it."""

    kind: int
    time: int
    role: int
    body: bytes | None
    number: int = 0
    signatures: bytes = b""
    joined: bool = False
    body_hash: bytes | None = None
    """What the entry says, where that is not the hash of the body."""

    def entry(self) -> Entry:
        return Entry(self.kind, self.time, self.role, self.body_hash or hashlib.sha256(self.body or b"").digest())


class MemorySource:
    """Claims that are already there."""

    def __init__(self, claims: Claims) -> None:
        self.claims = claims

    def read(self, progress: Progress = silent) -> Claims:
        return self.claims


def claims_of(drafts: Sequence[Draft], files: dict[bytes, bytes], creation: bytes) -> Claims:
    """What a board would say that had taken in these records: positions, entries and roots are made for them."""
    records = [LogRecord(i, d.entry(), d.body, d.number, d.signatures) for i, d in enumerate(drafts)]
    tree, roots = merkle.Frontier(), []
    for i, record in enumerate(records):
        tree.append(record.entry.leaf())
        if i + 1 == len(drafts) or not drafts[i + 1].joined:
            roots.append((tree.size, tree.root()))
    return Claims(
        CHAIN_ID,
        CONTRACT,
        creation,
        artifact().runtime_code,
        records,
        roots,
        LogHead(tree.size, tree.root()),
        dict(files),
    )


def head_of(drafts: Sequence[Draft]) -> LogHead:
    return LogHead(len(drafts), merkle.root(d.entry().leaf() for d in drafts))


def reseal(drafts: Sequence[Draft], *kinds: Kind) -> list[Draft]:
    """The same records with the heads in close and settlement made right again: what a node can do that holds no key."""
    done: list[Draft] = []
    for draft in drafts:
        done.append(
            replace(draft, body=head_of(done).body())
            if draft.kind in (kinds or (Kind.CLOSE, Kind.SETTLEMENT))
            else draft
        )
    return done


class Election:
    """One election. Each step appends its records; `hold` takes them all in order."""

    contract = CONTRACT

    def __init__(self) -> None:
        self.drafts: list[Draft] = []
        self.files: dict[bytes, bytes] = {}
        self.numbers = dict.fromkeys(range(len(ROLES)), 0)
        self.batches = [0, 0]
        self.manifest: Manifest
        self.secrets: list[ceremony.TrusteeSecret] = []
        self.shares: list[int] = []
        self.opened: OpenElection
        self.cast: dict[str, bytes] = {}

    def copy(self) -> Election:
        """Another that can go on in another way. What is in the lists is never changed, only replaced."""
        other = copy.copy(self)
        for name, value in vars(self).items():
            if isinstance(value, (list, dict)):
                setattr(other, name, value.copy())
        return other

    # ---- appending

    def records(self) -> list[LogRecord]:
        return claims_of(self.drafts, {}, b"").records

    def claims(self) -> Claims:
        creation = creation_input(self.manifest.body, *constructor_arguments(self.manifest))
        return claims_of(self.drafts, self.files, creation)

    def source(self) -> MemorySource:
        return MemorySource(self.claims())

    def append(self, kind: Kind, time: int, body: bytes, role: int = ANYONE) -> int:
        """A record with the signatures that its kind needs; gives its position."""
        signers = [role] if kind in SIGNER or kind == Kind.COMPLAINT else []
        signers += [COSIGNER] if kind in COSIGNED else []
        number, signatures = self.numbers.get(role, 0) if signers else 0, b""
        for signer in signers:
            signatures += self.sign(kind, body, self.numbers[signer], ROLES[signer])
            self.numbers[signer] += 1
        self.drafts.append(Draft(kind, time, role, body, number, signatures))
        return len(self.drafts) - 1

    def append_station(
        self, kind: Kind, time: int, body: bytes, number: int, station: int, by: Sequence[str] = ()
    ) -> int:
        signatures = b"".join(self.sign(kind, body, number, name) for name in by or officers(station)[:2])
        self.drafts.append(Draft(kind, time, STATION_OFFICERS, body, number, signatures))
        return len(self.drafts) - 1

    def append_ballots(self, time: int, bodies: Iterable[bytes], role: int = RELAYER) -> None:
        for i, body in enumerate(bodies):
            self.drafts.append(Draft(Kind.BALLOT, time, role, body, joined=i > 0))

    def sign(self, kind: int, body: bytes, number: int, name: str) -> bytes:
        return sign_record(key(name), CHAIN_ID, self.contract, kind, hashlib.sha256(body).digest(), number)

    # ---- setup

    def units(self) -> list[bytes]:
        return [unit.row() for unit in UNITS]

    def stations(self) -> list[bytes]:
        return [
            Station(n, unit, tuple(map(address, officers(n))), f"station {n}").row() for n, unit in enumerate((1, 2))
        ]

    def manifest_value(self) -> dict[str, Any]:
        return {
            "format": "ballotboard/manifest/v1", "name": "A small election",
            "chain": {"id": CHAIN_ID, "engine": "anvil", "code_hash": artifact().code_hash.hex(), "validators": []},
            "contests": CONTESTS, "styles": STYLES,
            "units": self.attach(self.units()).value(), "stations": self.attach(self.stations()).value(),
            "roles": [
                {"kind": name.split()[0], "name": name, "address": address(name).hex(), "key": key(name).hex() if name == "relayer" else ""}
                for name in ROLES
            ],
            "thresholds": {"trustees": THRESHOLD, "verifiers": 1, "data_holders": 0},
            "windows": WINDOWS,
            "rules": {
                "revote": "last", "channel": "paper-precedence", "minimum_ballots": 0, "decrypt_level": 0, "body_mode": "calldata",
            },
            "practice": False, "language": "en",
        }  # fmt: skip

    def attach(self, rows: list[bytes]) -> Attachment:
        found = attachments.describe(rows)
        self.files[found.sha256] = attachments.pack(rows)
        return found

    def publish(self) -> None:
        self.manifest = Manifest.build(self.manifest_value())
        self.append(Kind.MANIFEST, 900, self.manifest.body)

    def setting(self) -> ceremony.Setting:
        return ceremony.Setting(self.manifest.election_id, 0, 3, THRESHOLD)

    def make_key(self) -> None:
        setting = self.setting()
        self.secrets = [ceremony.TrusteeSecret.draw(j, THRESHOLD) for j in (1, 2, 3)]
        first = [ceremony.round1(setting, secret) for secret in self.secrets]
        second = [ceremony.round2(setting, secret, first) for secret in self.secrets]
        third = [ceremony.round3(setting, secret, first, second) for secret in self.secrets]
        self.shares = [ceremony.share_secret(setting, secret, first, second) for secret in self.secrets]
        for bodies in (first, second, self.confirmations(third)):
            for role, body in zip((TRUSTEE_1, TRUSTEE_2, TRUSTEE_3), bodies, strict=False):
                self.append(Kind.CEREMONY, 910, body, role)

    def confirmations(self, bodies: list[bytes]) -> list[bytes]:
        return bodies

    def roll_rows(self) -> list[bytes]:
        return [roll_row(base(credential(row)), UNIT_OF_ROW[row]) for row in range(6)]

    def make_roll(self) -> None:
        data = b"".join(self.roll_rows())
        roll = attachments.Roll(data, [unit.style for unit in UNITS])
        found = roll.describe()
        self.files[found.sha256] = data
        nonce = hashlib.sha256(b"nonce").digest()
        body = RollRecord(found.count, nonce, found.root, found.sha256, unit_counts_hash(roll.unit_counts())).body()
        self.append(Kind.ROLL, 950, body, REGISTRAR)

    def open_poll(self) -> None:
        self.append(Kind.OPEN, 1100, head_of(self.drafts).body(), AUTHORITY)
        self.opened = self.open_election()

    def open_election(self) -> OpenElection:
        return election.open_election(self.manifest, self.contract, self.records(), self.files)

    # ---- the poll

    def ballot(self, row: int, choices: Sequence[Sequence[int]], seen: int, seed: str = "") -> bytes:
        unit = UNIT_OF_ROW[row]
        request = CreateRequest(
            row,
            seen,
            unit,
            UNITS[unit].style,
            credential(row),
            hashlib.sha256(f"seed {row} {seed}".encode()).digest(),
            choices,
        )
        return self.opened.engine.create([request])[0]

    def fill_ballots(self) -> None:
        """All ballots that will be cast, by name. `seen` is the log's size at opening, later for those cast later."""
        seen = len(self.drafts)
        self.cast = {f"row {row}": self.ballot(row, CHOICES[row], seen) for row in (1, 3, 4, 5)}
        self.cast["row 0, first"] = self.ballot(0, FIRST_VOTE_OF_ROW_0, seen, "first")
        self.cast["row 0"] = self.ballot(0, CHOICES[0], seen + 5)
        self.cast["row 6"] = self.ballot(6, CHOICES[6], seen + 5)

    def vote(self) -> None:
        self.append_ballots(1200, [self.cast[name] for name in ("row 0, first", "row 1", "row 3", "row 4", "row 5")])
        change = RollChange(base(credential(6)), "card lost", 4, UNIT_OF_ROW[4])
        self.append(Kind.ROLL_CHANGE, 1300, change.body(), REGISTRAR)
        self.append(Kind.EXTENSION, 1350, Extension(2200, "long queues").body(), AUTHORITY)
        self.append(Kind.COMPLAINT, 1360, statement(Kind.COMPLAINT, "slow", 0), VERIFIER)
        self.append_ballots(2100, [self.cast["row 0"], self.cast["row 6"]])
        self.check_in(0, 2, 1800)
        self.check_in(1, 5, 1900)

    def check_in(self, station: int, row: int, station_time: int, time: int = 2150) -> None:
        batch = CheckIns(station, self.batches[station], ((row, station_time),))
        self.append_station(Kind.CHECK_IN, time, batch.body(), batch.batch, station)
        self.batches[station] += 1

    def close(self) -> None:
        self.append(Kind.CLOSE, 2300, head_of(self.drafts).body())

    # ---- paper

    def result_of(self, station: int) -> StationResult:
        counts = [
            [ContestCount(0, (1, 0), 0, 0), ContestCount(1, (0, 0, 1, 0), 0, 0)],
            [ContestCount(0, (0, 1), 0, 0), ContestCount(2, (0, 0, 1), 0, 0), ContestCount(3, (1, 0, 0), 0, 0)],
        ][station]
        return StationResult(
            station, 1, False, "", issued=1, counted=1, spoiled=0, unreturned=0, contests=tuple(counts),
            opening=bytes(32), closing=bytes(31) + b"\x01", salt=hashlib.sha256(b"salt %d" % station).digest(),
        )  # fmt: skip

    def amended(self, result: StationResult) -> StationResult:
        return replace(result, revision=2, reason="a sheet was turned over")

    def report_stations(self) -> None:
        """Both stations report; station 1 amends its result before the reveal."""
        self.documents = [self.result_of(0), self.amended(self.result_of(1))]
        for document, time in ((self.documents[0], 2350), (self.result_of(1), 2350), (self.documents[1], 2360)):
            self.append_hash(document, time)

    def append_hash(self, document: StationResult, time: int) -> None:
        body = StationHash(document.station, document.revision, document.document_hash()).body()
        self.append_station(Kind.STATION_HASH, time, body, document.revision, document.station)

    def reveal(self) -> None:
        for document in self.documents:
            self.append(Kind.STATION_RESULT, 2600, document.body())

    def decide(self) -> None:
        self.append(Kind.DECISION, 2700, statement(Kind.DECISION, "noted", 0), AUTHORITY)

    # ---- the result

    def settle(self) -> None:
        self.append(Kind.SETTLEMENT, 3200, Settlement(head_of(self.drafts)).body())

    def settled(self) -> SettledElection:
        records = self.records()
        before = election.settled_records(self.manifest, records, self.files)
        state = election.roll_state(self.opened, before)
        held = [record for record in election.of_kind(before, Kind.BALLOT) if record.body is not None]
        reasons = election.verify_ballots(self.opened, state.roll, held)
        return election.settle(self.opened, records, reasons, self.files)

    def partials(self, settled: SettledElection) -> list[bytes]:
        """The honest partial decryption of each trustee."""
        groups = [group for groups in settled.groups for group in groups]
        root = settled.settlement.head.root
        return [
            tally.partial_decryption(self.opened.context, root, groups, j, x)[0] for j, x in enumerate(self.shares, 1)
        ]

    def decrypt(self) -> None:
        for role, body in zip(
            (TRUSTEE_1, TRUSTEE_2, TRUSTEE_3), self.published(self.partials(self.settled())), strict=False
        ):
            self.append(Kind.PARTIAL_DECRYPTION, 3300, body, role)

    def published(self, partials: list[bytes]) -> list[bytes]:
        return partials

    def result_value(self) -> dict[str, Any]:
        """The right result, whatever the trustees have published."""
        settled, records = self.settled(), [r for r in self.records() if r.kind != Kind.PARTIAL_DECRYPTION]
        roles = (TRUSTEE_1, TRUSTEE_2, TRUSTEE_3)
        honest = [
            LogRecord(0, Entry(Kind.PARTIAL_DECRYPTION, 0, role, bytes(32)), body)
            for role, body in zip(roles, self.partials(settled), strict=True)
        ]
        return parse_json(election.result_body(settled, election.decrypt(settled, honest), records))

    def announce(self) -> None:
        self.append(Kind.RESULT, 3400, canonical_json(self.result_value()), AUTHORITY)

    def certify(self) -> None:
        report = Report(True, self.state(), hashlib.sha256(b"report").digest(), hashlib.sha256(b"salt").digest())
        self.append(Kind.REPORT, 3500, report.commitment(), VERIFIER)
        self.append(Kind.REPORT, 3510, report.body(), VERIFIER)

    def state(self) -> bytes:
        records = self.records()
        leaves = [election.only(records, kind).entry.leaf() for kind in (Kind.SETTLEMENT, Kind.RESULT)]
        rules = hashlib.sha256(b"ballotboard/rules/v1").digest()
        return hashlib.sha256(b"".join(leaves) + self.settled().counted.root() + rules).digest()


class HashElection(Election):
    """The same in hash mode: the log has ballots' hashes, and three data holders keep the bodies. Nobody kept that of row 1, which is
    *outside* the settlement's bitmap; the first and the third holder sign, and two are enough.
    """

    def manifest_value(self) -> dict[str, Any]:
        value = super().manifest_value()
        value["rules"]["body_mode"] = "hash"
        value["thresholds"]["data_holders"] = HOLDERS_NEEDED
        value["roles"] += [
            {"kind": "data-holder", "name": name, "address": address(name).hex(), "key": key(name).hex()}
            for name in HOLDERS
        ]
        return value

    def position(self, name: str) -> int:
        """Of the first record of this ballot."""
        return next(i for i, draft in enumerate(self.drafts) if draft.body == self.cast[name])

    def bitmap(self, *outside: str) -> Bitmap:
        """The bitmap of the log as it is, in which these ballots are not held."""
        lost = {ballot_hash(self.cast[name]) for name in outside}
        return held_bitmap(self.records(), lambda digest: digest not in lost)

    def settle(self) -> None:
        self.settle_with(self.bitmap(OUTSIDE))

    def settle_with(
        self, bitmap: Bitmap, signers: Sequence[str] = (HOLDERS[0], HOLDERS[2]), number: int = 0, signed: bytes = b""
    ) -> None:
        """The settlement with this bitmap; `number` and `signed` are the number and, if it is another, the body that the signatures are of."""
        self.files[bitmap.sha256] = bitmap.data
        body = Settlement(head_of(self.drafts), bitmap.sha256).body()
        signatures = b"".join(self.sign(Kind.SETTLEMENT, signed or body, number, name) for name in signers)
        self.drafts.append(Draft(Kind.SETTLEMENT, 3200, ANYONE, body, 0, signatures))


STEPS: tuple[str, ...] = (
    "publish", "make_key", "make_roll", "open_poll", "fill_ballots", "vote", "close", "report_stations", "reveal", "decide", "settle", "decrypt",
    "announce", "certify",
)  # fmt: skip


def hold(
    kind: type[Election] = Election,
    until: str = "certify",
    **steps: Callable[[Election], None],
) -> Election:
    """An election held up to and including step `until`; a step given as a keyword is taken instead of the honest one.

    What is the same in all of them, up to the filled ballots, is made once, by `prepared` or whoever `preparing` names.
    """
    assert set(steps) <= set(STEPS), set(steps) - set(STEPS)
    shared = kind is Election and not set(steps) & set(STEPS[:5]) and until not in STEPS[:5]
    found = _prepare() if shared else kind()
    for step in STEPS[5 if shared else 0 : STEPS.index(until) + 1]:
        steps[step](found) if step in steps else getattr(found, step)()
    return found


def prepared(found: Election) -> Election:
    """The same with the steps up to the filled ballots taken."""
    for step in STEPS[:5]:
        getattr(found, step)()
    return found


@cache
def _in_memory() -> Election:
    return prepared(Election())


def in_memory() -> Election:
    """One prepared election, the same for all, on no chain."""
    return _in_memory().copy()


_prepare: Callable[[], Election] = in_memory


@contextmanager
def seeded(text: str) -> Iterator[None]:
    """Within it, `protocol.group.random_scalar` draws from this text, so that an election is the same in every run."""
    count = itertools.count()

    def randbelow(bound: int) -> int:
        return int.from_bytes(hashlib.sha512(f"{text} {next(count)}".encode()).digest(), "big") % bound

    before, group.secrets = group.secrets, SimpleNamespace(randbelow=randbelow)  # type: ignore[assignment]
    try:
        yield
    finally:
        group.secrets = before


@contextmanager
def preparing(make: Callable[[], Election]) -> Iterator[None]:
    """Within it, `hold` goes on from the elections that `make` gives, which may be on a chain."""
    global _prepare
    before, _prepare = _prepare, make
    try:
        yield
    finally:
        _prepare = before


def statement(kind: Kind, cls: str, reference: int) -> bytes:
    return Statement(f"ballotboard/{kind.text}/v1", cls, reference, "in words").body()
