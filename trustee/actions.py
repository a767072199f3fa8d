"""What a trustee does, one function per act. Each reads and checks the whole record, does at most one thing, and says what comes next.

The ceremony (docs/protocol.md, section 6) has three rounds: `commit`, `reveal`, `confirm`. Whatever the others said is read from the chain every
time, so nothing but the keystore needs to survive, and a restored backup goes on where the record is. A message is made once: its bytes
and the secrets behind it are on the disk before it is sent, and what is on the record already is not sent again. So wherever the
machine dies, no round ever sees two different messages of one trustee. The others' signatures are checked before anything is sealed for
them, so a node that invents their messages learns nothing.

Every act takes a board, or an archive and an answer where the trustee's machine has no network (trustee.sneakernet).

`decrypt` (section 8) takes no ciphertext from anybody. It recomputes the sums from the record, and the one settlement it serves is
on the disk before the first share leaves: with two counted sets, the difference of two totals would open single ballots.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from web3 import Web3

from chain.board import Board
from chain.carrier import Carrier
from chain.rpc import Address, checksummed
from chain.writer import Writer
from protocol import ceremony, election, tally
from protocol.ceremony import CeremonyIncomplete, CeremonyVoid, JointKey, Setting, TrusteeSecret
from protocol.election import LogRecord, Progress
from protocol.errors import BallotboardError
from protocol.group import base
from protocol.manifest import Manifest
from protocol.records import Kind, LogHead, Settlement
from trustee.keystore import Attempt, Binding, Keystore
from trustee.sneakernet import Carried
from verifier import checks
from verifier.case import Case
from verifier.claims import Progress as CaseProgress
from verifier.claims import Source, silent
from verifier.node import NodeSource

ROUNDS = ("commit", "reveal", "confirm")
"""The commands of rounds 1, 2 and 3."""

LOG_CHECKS = ("C01", "C02", "A01", "A02", "A03", "A04", "A05", "K01", "K02", "I01", "I02")
"""The verifier's checks before any act: the contract, the tree, every role, signature and window."""

COUNT_CHECKS = (*LOG_CHECKS, "C03", "C04", "A06", "K03", "I04", "I05", "E01", "E04")
"""Those before the first share: all that decides the counted set. The others need the result, or, like I03, do not change it."""


class Online(Board):
    """A board with the URLs of those who help: relayers that carry what a trustee signs and pay for it (without one the keystore's account pays), and,
    where the chain has ballots' hashes only, data holders who have the ballots."""

    def __init__(self, web3: Web3, address: Address, relayers: Sequence[str] = (), holders: Sequence[str] = ()) -> None:
        super().__init__(web3, address)
        self.relayers, self.holders = relayers, holders


Place = Board | Carried
"""Where the record is read and written: a node, or an archive and the answer to it."""


class WrongRecord(BallotboardError):
    """The record is not one that this keystore may act on: another board, a rewritten log, another settlement, or secrets it does not hold."""


class NotDue(BallotboardError):
    """This act is not possible yet, or not any more."""


# ---------------------------------------------------------------- where the ceremony stands


@dataclass(frozen=True)
class Ceremony:
    """The last attempt on the record: three rounds of n bodies (None where absent), and what they give.

    `key` once all confirmed; else `void`, if something in it is wrong; else `waiting` has the trustees missing from round `round`.
    """

    setting: Setting
    messages: list[list[bytes | None]]
    key: JointKey | None = None
    void: CeremonyVoid | None = None
    waiting: tuple[int, ...] = ()

    @property
    def round(self) -> int:
        """The first round that lacks somebody; 4 when none does."""
        return next((number for number, bodies in enumerate(self.messages, 1) if None in bodies), 4)

    def said(self, number: int, trustee: int) -> bytes | None:
        return self.messages[number - 1][trustee - 1]

    def complete(self, number: int) -> list[bytes]:
        """All n bodies of a round; raises NotDue while somebody is missing."""
        missing = [j for j, body in enumerate(self.messages[number - 1], 1) if body is None]
        if missing:
            raise NotDue(f"round {number} ({ROUNDS[number - 1]}) still waits for {_numbered(missing)}")
        return [body for body in self.messages[number - 1] if body is not None]


def ceremony_of(manifest: Manifest, records: Sequence[LogRecord]) -> Ceremony:
    """The last attempt; attempt 0 with nothing said where nobody has begun."""
    attempts = election.ceremony_messages(manifest, records)
    attempt = max(attempts, default=0)
    setting = election.setting(manifest, attempt)
    messages = attempts.get(attempt, [[None] * setting.n for _ in ROUNDS])
    try:
        return Ceremony(setting, messages, key=ceremony.check_ceremony(setting, *messages))
    except CeremonyIncomplete as error:
        return Ceremony(setting, messages, waiting=error.culprits)
    except CeremonyVoid as error:
        return Ceremony(setting, messages, void=error)


@dataclass(frozen=True)
class Status:
    """What the record says to one trustee. `due` is the command that is its turn now, or empty; `next` says it in words."""

    manifest: Manifest
    trustee: int
    phase: str
    ceremony: Ceremony
    partials: dict[int, str]
    due: str
    next: str

    def name(self, trustee: int) -> str:
        return self.manifest.roles[self.manifest.trustees[trustee - 1]].name

    def value(self) -> dict[str, Any]:
        """The status as a JSON value: who has done what in which round."""
        state, everyone = self.ceremony, range(1, self.ceremony.setting.n + 1)
        return {
            "attempt": state.setting.attempt,
            "due": self.due,
            "election": self.manifest.election_id.hex(),
            "key": state.key.key.hex() if state.key else None,
            "next": self.next,
            "partials": {str(j): parts for j, parts in self.partials.items()},
            "phase": self.phase,
            "rounds": [
                {
                    "done": [j for j in everyone if state.said(number, j)], "missing": [j for j in everyone if not state.said(number, j)],
                    "name": name, "round": number,
                }
                for number, name in enumerate(ROUNDS, 1)
            ],
            "threshold": state.setting.t,
            "trustee": self.trustee,
            "trustees": [self.name(j) for j in everyone],
            "void": str(state.void) if state.void else None,
            "waiting_for": list(state.waiting),
        }  # fmt: skip


def status_of(manifest: Manifest, records: Sequence[LogRecord], trustee: int, now: int) -> Status:
    """The status of trustee number `trustee` at chain time `now`."""
    kinds = {record.kind for record in records}
    phase = "setup"
    for kind, name in (
        (Kind.OPEN, "open"),
        (Kind.CLOSE, "closed"),
        (Kind.SETTLEMENT, "settled"),
        (Kind.RESULT, "final"),
    ):
        phase = name if kind in kinds else phase
    state, partials = ceremony_of(manifest, records), _partials(manifest, records)
    due, words = _due(manifest, state, phase, partials, trustee, now)
    return Status(
        manifest, trustee, phase, state, {j: f"{len(s)} of {n}" for j, (s, n) in partials.items()}, due, words
    )


def _due(
    manifest: Manifest, state: Ceremony, phase: str, partials: dict[int, tuple[set[int], int]], trustee: int, now: int
) -> tuple[str, str]:
    if phase == "setup":
        if state.void:
            return (
                "",
                f"attempt {state.setting.attempt} is void: {state.void}. Talk to the others, then start anew with `ballotboard trustee commit`",
            )
        if state.key:
            return (
                "",
                "the key is confirmed: keep the keystore and its backup until the tally, then run `ballotboard trustee decrypt`",
            )
        if trustee in state.waiting:
            return ROUNDS[state.round - 1], f"it is your turn: `ballotboard trustee {ROUNDS[state.round - 1]}`"
        return "", f"round {state.round} ({ROUNDS[state.round - 1]}) waits for {_numbered(state.waiting)}"
    if phase in ("open", "closed"):
        return "", "wait for the settlement, then run `ballotboard trustee decrypt`"
    if phase == "final":
        return "", "the result is on the record: your work is done"
    if trustee in partials and len(partials[trustee][0]) == partials[trustee][1]:
        return (
            "",
            "your shares are on the record; the authority announces the result when enough trustees have done the same",
        )
    if now < manifest.windows.decrypt_not_before:
        return "", f"`ballotboard trustee decrypt` from {_time(manifest.windows.decrypt_not_before)}"
    return "decrypt", "it is your turn: `ballotboard trustee decrypt`"


def _partials(manifest: Manifest, records: Sequence[LogRecord]) -> dict[int, tuple[set[int], int]]:
    """Trustee → (parts of its partial decryption on the record, of how many). Whether they are right is for `election.valid_shares`."""
    found: dict[int, tuple[set[int], int]] = {}
    for record in election.of_kind(records, Kind.PARTIAL_DECRYPTION):
        try:
            partial = tally.parse_partial(record.body or b"")
        except BallotboardError:
            continue
        if record.entry.role in manifest.trustees:
            parts, _ = found.setdefault(manifest.trustees.index(record.entry.role) + 1, (set(), partial.parts))
            parts.add(partial.part)
    return found


# ---------------------------------------------------------------- the acts


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an act did, and what comes next, in words."""

    did: str
    next: str


def join(board: Place, store: Keystore, expected: bytes = b"") -> Outcome:
    """Bind a keystore to a board, once: its account must be a trustee there. `expected` is the election id from another source, if there is one."""
    case = _checked(board, expected or None, LOG_CHECKS)
    manifest = case.manifest
    role = manifest.role_index(bytes.fromhex(store.account.address[2:]))
    if role not in manifest.trustees:
        raise WrongRecord(
            f"{store.account.address} is not a trustee of this election: give this address to the authority before it publishes"
        )
    binding = Binding(board.address, manifest.election_id, manifest.trustees.index(role) + 1)
    if store.binding not in (None, binding):
        raise WrongRecord("this keystore serves another election: one keystore, one election")
    store.binding, store.head = binding, _extended(store, case)
    store.save()
    return Outcome(
        f"joined {manifest.name!r} as trustee {binding.trustee} of {len(manifest.trustees)}, {manifest.trustee_threshold} of whom can decrypt;"
        f" compare the election id {binding.election.hex()} with what the authority publishes",
        status_of(manifest, case.records, binding.trustee, board.now()).next,
    )


def status(board: Place, store: Keystore) -> Status:
    """Where the election is for this trustee. Changes nothing, and works on a keystore that was opened for reading."""
    case = _read(board, store)
    return status_of(case.manifest, case.records, _number(store), board.now())


def commit(board: Place, store: Keystore, new_attempt: bool = False) -> Outcome:
    """Round 1: draw secrets and commit to them. After a void attempt, or with `new_attempt`, begin the next one with fresh secrets."""
    case = _look(board, store)
    state, me = _setup(case), _number(store)
    if new_attempt or state.void:
        state = Ceremony(
            election.setting(case.manifest, state.setting.attempt + 1), [[None] * state.setting.n for _ in ROUNDS]
        )
    attempt = state.setting.attempt
    if not state.said(1, me) and attempt not in store.attempts:
        secret = TrusteeSecret.draw(me, state.setting.t)
        store.attempts[attempt] = Attempt(secret, {1: ceremony.round1(state.setting, secret)})
        store.save()  # before the commitment leaves: what it commits to must be there after any crash
    _ours(store, state)
    return _say(board, store, case.manifest, state, 1, lambda: store.attempts[attempt].messages[1])


def reveal(board: Place, store: Keystore) -> Outcome:
    """Round 2: open the commitments and seal a share for every other trustee. Only after all of round 1."""
    case = _look(board, store)
    state = _setup(case)
    first, ours = state.complete(1), _ours(store, state)
    ceremony.check_dealing(state.setting, first, [])  # names whoever said something wrong in round 1
    return _say(board, store, case.manifest, state, 2, lambda: ceremony.round2(state.setting, ours.secret, first))


def confirm(board: Place, store: Keystore) -> Outcome:
    """Round 3: check every share and confirm the key; if a dealer's share is wrong, the complaint that proves it. Only after all of round 2."""
    case = _look(board, store)
    state = _setup(case)
    first, second, ours = state.complete(1), state.complete(2), _ours(store, state)
    return _say(
        board, store, case.manifest, state, 3, lambda: ceremony.round3(state.setting, ours.secret, first, second)
    )


def complain(board: Place, store: Keystore, dealer: int) -> Outcome:
    """Round 3 against one dealer. Refuses if that dealer's share is right: the complaint would open it and void the ceremony at our fault."""
    case, me = _look(board, store), _number(store)
    state = _setup(case)
    first, second, ours = state.complete(1), state.complete(2), _ours(store, state)
    if not 1 <= dealer <= state.setting.n or dealer == me:
        raise NotDue(f"there is no other trustee {dealer}")
    body = ceremony.complaint(state.setting, ours.secret, dealer, ceremony.check_dealing(state.setting, first, second))
    alone: list[bytes | None] = [body if j == me else None for j in range(1, state.setting.n + 1)]
    try:
        ceremony.check_ceremony(state.setting, list(first), list(second), alone)
    except CeremonyVoid as error:
        if error.culprits != (dealer,):
            raise NotDue(f"trustee {dealer}'s share for you is right: there is nothing to complain about") from error
    return _say(board, store, case.manifest, state, 3, lambda: body)


def decrypt(board: Place, store: Keystore, progress: Progress | None = None, comet: str = "") -> Outcome:
    """Recompute the encrypted sums from the record and publish this trustee's shares of them. What is on the record already is not sent again.

    `progress` is called with (done, of how many), first of the records that are read, then of the ballots that are verified. `comet` is the URL of
    a validator's CometBFT RPC, where the chain has validators.
    """

    def tell(what: str, done: int, total: int) -> None:
        if progress and total:
            progress(done, total)

    case = _look(board, store, COUNT_CHECKS, tell, comet)
    me, fixed = _number(store), _settlement(case, board.now())
    if store.settlement not in (None, fixed):
        raise WrongRecord(
            f"this keystore has decrypted the settlement of {store.settlement.size} records with root {store.settlement.root.hex()}, and serves no"
            f" other: a second one would open single ballots. The record now shows {fixed.root.hex()}"
        )
    x = _share(store, case)
    settled = case.settled  # every proof and signature of a ballot is checked here
    store.settlement = fixed
    store.save()  # before the first share leaves: from here on no other root
    groups = [group for groups in settled.groups for group in groups]
    valid, _ = election.valid_shares(settled, case.records)
    role = case.manifest.trustees[me - 1]
    mine = [record for record in case.of_kind(Kind.PARTIAL_DECRYPTION) if record.entry.role == role]
    sent = 0
    bodies = tally.partial_decryption(case.open.context, fixed.root, groups, me, x)
    for body in bodies:
        places = tally.parse_partial(body).shares
        if all(me in valid[place] for place in places) if places else mine:
            continue
        _send(board, store, case.manifest, Kind.PARTIAL_DECRYPTION, body)
        sent += 1
    done = (
        f"{sent} of {len(bodies)} records {'signed' if isinstance(board, Carried) else 'sent'}"
        if sent
        else "everything was on the record already"
    )
    return Outcome(
        f"decrypted the totals of {sum(1 for _ in settled.counted.counted())} counted ballots in {len(groups)} groups, settlement {fixed.root.hex()}: {done}",
        _carry(board)
        if sent and isinstance(board, Carried)
        else f"the authority announces the result when {case.manifest.trustee_threshold} trustees have done the same",
    )


STEPS: dict[str, Callable[[Place, Keystore], Outcome]] = {
    "commit": commit, "reveal": reveal, "confirm": confirm, "decrypt": decrypt,
}  # fmt: skip


def next_step(board: Place, store: Keystore) -> Outcome | None:
    """Do whatever is due; None while others are waited for. Raises CeremonyVoid where people must talk before anything goes on."""
    if store.binding is None:
        return join(board, store)
    now = status(board, store)
    if now.phase == "setup" and now.ceremony.void:
        raise now.ceremony.void
    return STEPS[now.due](board, store) if now.due else None


# ---------------------------------------------------------------- guards


def _number(store: Keystore) -> int:
    if store.binding is None:
        raise NotDue("this keystore has not joined an election: `ballotboard trustee join`")
    return store.binding.trustee


def _checked(
    board: Place, election_id: bytes | None, wanted: Sequence[str], progress: CaseProgress = silent, comet: str = ""
) -> Case:
    """The record from the node, if it stands these checks of the verifier. Raises WrongRecord with the first that fails."""
    case = Case(_source(board, comet).read(progress), election_id, progress=progress)
    failed = next(
        (result for result in checks.run(case, [checks.CHECKS[id] for id in wanted]) if not result.good), None
    )
    if failed:
        raise WrongRecord(
            f"the record does not verify, so nothing was done: {failed.check.id} ({failed.check.title.lower()}): {failed.detail}"
        )
    return case


def _source(place: Place, comet: str) -> Source:
    if isinstance(place, Carried):
        return place
    url = place.web3.provider.endpoint_uri  # type: ignore[attr-defined, union-attr]
    return NodeSource(
        url, checksummed(place.address), comet, holders=place.holders if isinstance(place, Online) else ()
    )


def _send(place: Place, store: Keystore, manifest: Manifest, kind: Kind, body: bytes) -> str:
    """Append a record, or sign it into the answer; says where it is."""
    if isinstance(place, Carried):
        address = bytes.fromhex(store.account.address[2:])
        place.append(kind, body, store.account, [i for i, role in enumerate(manifest.roles) if role.address == address])
        return f"signed into {place.answer}"
    if isinstance(place, Online) and place.relayers:
        writer: Writer = Carrier(place.web3, place.address, place.relayers)
    else:
        writer = Writer(place.web3, place.address, store.account)
    return f"record {writer.append(kind, body, [store.account]).positions[0]}"


def _read(
    board: Place, store: Keystore, wanted: Sequence[str] = LOG_CHECKS, progress: CaseProgress = silent, comet: str = ""
) -> Case:
    """The record, if it is the one this keystore serves and goes on from every head it has seen."""
    if store.binding is None:
        raise NotDue("this keystore has not joined an election: `ballotboard trustee join`")
    if board.address != store.binding.contract:
        raise WrongRecord(
            f"this keystore serves the board {checksummed(store.binding.contract)}, not {checksummed(board.address)}"
        )
    case = _checked(board, store.binding.election, wanted, progress, comet)
    _extended(store, case)
    return case


def _look(
    board: Place, store: Keystore, wanted: Sequence[str] = LOG_CHECKS, progress: CaseProgress = silent, comet: str = ""
) -> Case:
    """The same, and remember its head."""
    case = _read(board, store, wanted, progress, comet)
    if case.claims.head != store.head:
        store.head = case.claims.head
        store.save()
    return case


def _extended(store: Keystore, case: Case) -> LogHead:
    """The head of the record. Raises WrongRecord unless it extends the last head seen, which extended all before it."""
    seen, head = store.head, case.claims.head
    if seen and head.size < seen.size:
        raise WrongRecord(
            f"the node shows {head.size} records and this keystore has seen {seen.size}: the node lags, or hides some; use another"
        )
    if seen and case.roots([seen.size])[seen.size] != seen.root:
        raise WrongRecord(
            f"the record was rewritten: its first {seen.size} records no longer have the root {seen.root.hex()} that this keystore has"
            " seen. Do nothing, keep the keystore, tell the other trustees"
        )
    return head


def _setup(case: Case) -> Ceremony:
    if case.of_kind(Kind.OPEN):
        raise NotDue("the poll has been opened: the ceremony is over")
    return ceremony_of(case.manifest, case.records)


def _ours(store: Keystore, state: Ceremony) -> Attempt:
    """Our part of this attempt, if the record's round 1 of ours is the one that this keystore made."""
    ours, said = store.attempts.get(state.setting.attempt), state.said(1, _number(store))
    if said is not None and (ours is None or ours.messages[1] != said):
        raise WrongRecord(
            f"the record holds a round 1 of yours in attempt {state.setting.attempt} that this keystore did not make: restore the newest"
            " backup, or begin a new attempt with `ballotboard trustee commit --new-attempt`"
        )
    if ours is None:
        raise NotDue("you have not committed yet: `ballotboard trustee commit`")
    return ours


def _say(
    board: Place, store: Keystore, manifest: Manifest, state: Ceremony, number: int, make: Callable[[], bytes]
) -> Outcome:
    """Send our message of a round, unless it is on the record. It is made once, and stored before it is sent."""
    name = ROUNDS[number - 1]
    if state.said(number, _number(store)) is not None:
        return Outcome(f"{name}: done already, nothing was sent", status(board, store).next)
    if state.void:
        raise state.void
    messages = store.attempts[state.setting.attempt].messages
    if number not in messages:
        messages[number] = make()
        store.save()
    where = _send(board, store, manifest, Kind.CEREMONY, messages[number])
    what = "complain" if b'"verdict":"complain"' in messages[number] else name
    did = f"{what}: {where} (attempt {state.setting.attempt}, round {number})"
    return Outcome(did, _carry(board) if isinstance(board, Carried) else status(board, store).next)


def _carry(place: Carried) -> str:
    return (
        f"carry {place.answer} to a machine with a network: `ballotboard trustee post {place.answer}`; then bring a new archive:"
        " `ballotboard archive make`"
    )


def _settlement(case: Case, now: int) -> LogHead:
    """The head that the settlement fixes, if it is time; that it is the log's own is K02."""
    settled = case.of_kind(Kind.SETTLEMENT)
    if not settled:
        raise NotDue("there is no settlement yet: the authority closes and settles the poll first")
    if now < case.manifest.windows.decrypt_not_before:
        raise NotDue(f"decryption begins at {_time(case.manifest.windows.decrypt_not_before)} by the chain's time")
    return Settlement.parse(settled[0].body or b"", case.manifest.body_mode == "hash").head


def _share(store: Keystore, case: Case) -> int:
    """x_j, checked against the share key on the record."""
    opened = case.open
    messages = election.ceremony_messages(case.manifest, case.setup)[opened.attempt]
    state = Ceremony(election.setting(case.manifest, opened.attempt), messages, key=opened.joint)
    x = ceremony.share_secret(state.setting, _ours(store, state).secret, state.complete(1), state.complete(2))
    if base(x) != opened.joint.share_keys[_number(store) - 1]:
        raise WrongRecord("this keystore's share is not the one whose key is on the record")
    return x


def _numbered(trustees: Sequence[int]) -> str:
    return ("trustee " if len(trustees) == 1 else "trustees ") + ", ".join(map(str, trustees))


def _time(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"
