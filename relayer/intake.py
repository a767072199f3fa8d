"""Intake: a ballot comes in, and leaves as a promise or a refusal, both signed.

    parse and window → duplicate → proofs → group commit → promise

Ballots that arrive while a micro-batch is being worked on are the next one, so batches grow with the load and a lone ballot waits for
nobody. One worker thread does all of it; the event loop only moves bytes. Nothing is signed as a promise before the outbox has
synced it to disk: a crash after the commit and before the answer leaves a ballot that will be in the log and whose voter,
asking again, is told so, with the same promise.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from typing import Any, NamedTuple

import structlog
from nacl.signing import SigningKey
from sqlalchemy.exc import DBAPIError

from chain.board import Board
from chain.contract import Phase
from chain.errors import ChainError
from protocol.ballot import BallotRefused, Reason, read_header
from protocol.receipt import Promise, Refusal, sign_statement, signed_json
from protocol.records import MAX_BODY, LogHead, ballot_hash
from relayer.config import Settings
from relayer.faults import point
from relayer.follower import Follower, View
from relayer.metrics import Metrics
from relayer.outbox import Ballot, Outbox, State, Stored

log = structlog.get_logger()


class Code(Enum):
    """Why a ballot is refused: the reason in the signed refusal, and the HTTP status."""

    MALFORMED = "malformed", 400
    UNKNOWN_CREDENTIAL = "unknown-credential", 403
    BAD_PROOF = "bad-proof", 422
    WRONG_ELECTION = "wrong-election", 422
    NOT_OPEN = "not-open", 403
    CLOSED = "closed", 410
    DUPLICATE = "duplicate", 409
    SUPERSEDED = "superseded", 409
    TOO_LARGE = "too-large", 413
    BUSY = "busy", 503
    RATE_LIMITED = "rate-limited", 429

    @property
    def text(self) -> str:
        return self.value[0]

    @property
    def status(self) -> int:
        return self.value[1]


_CODES = {
    Reason.MALFORMED_HEADER: (Code.MALFORMED, "the header is not that of a ballot"),
    Reason.UNKNOWN_CREDENTIAL: (Code.UNKNOWN_CREDENTIAL, "the roll has no valid row of this number"),
    Reason.MALFORMED_LENGTH: (Code.MALFORMED, "the length is not that of the voter's ballot style"),
    Reason.MALFORMED_SCALAR: (Code.MALFORMED, "a scalar is not below the group order"),
    Reason.MALFORMED_POINT: (Code.MALFORMED, "a point is not canonical, or the identity"),
    Reason.BAD_PROOF: (Code.BAD_PROOF, "a proof does not hold for this election and this credential"),
    Reason.BAD_SIGNATURE: (Code.BAD_PROOF, "the signature is not the credential's"),
}


class Answer(NamedTuple):
    """What one ballot gets: an HTTP status and a JSON object, as the bytes that are sent: a promise is encoded once, by whom it is signed."""

    status: int
    body: bytes

    @property
    def value(self) -> dict[str, Any]:
        return json.loads(self.body)


class Identity(NamedTuple):
    """Who signs: the relayer's role index, its Ed25519 key, the board (chain id, 20-byte address), the election id."""

    role: int
    key: SigningKey
    chain_id: int
    contract: bytes
    election: bytes


class Intake:
    """`submit` from the event loop. `closing` set means: nothing new, the relayer is about to stop."""

    def __init__(
        self, identity: Identity, outbox: Outbox, follower: Follower, board: Board, settings: Settings, metrics: Metrics
    ) -> None:
        self.identity, self.outbox, self.follower, self.board = identity, outbox, follower, board
        self.settings, self.metrics = settings, metrics
        self.closing = False
        self._worker = ThreadPoolExecutor(1, "intake")
        self._queue: list[tuple[Sequence[bytes], asyncio.Future[list[Answer]]]] = []
        self._queued = 0
        self._task: asyncio.Task[None] | None = None
        self._attempts: Counter[int] = Counter()
        self._attempts_since = time.monotonic()
        self._head_size = 0

    async def submit(self, bodies: Sequence[bytes], election: str = "") -> list[Answer]:
        """One answer for each ballot, in order. `election` is the election id the client means, in hex, if it says so."""
        if election and election != self.identity.election.hex():
            message = f"this relayer serves election {self.identity.election.hex()}"
            return [self.refuse(Code.WRONG_ELECTION, message, body) for body in bodies]
        if why := self.busy(len(bodies)):
            return [self.refuse(Code.BUSY, why, body) for body in bodies]
        future: asyncio.Future[list[Answer]] = asyncio.get_running_loop().create_future()
        self._queue.append((bodies, future))
        self._queued += len(bodies)
        if self._task is None:
            self._task = asyncio.create_task(self._work())
        return await future

    def busy(self, more: int = 0) -> str:
        """Why nothing can be promised now, or nothing: said before a promise, never after."""
        if self.closing:
            return "this relayer is about to stop: try another"
        if self.follower.view.age > self.settings.stale_after:
            return "this relayer does not see the chain at the moment: try another"
        if (
            self._queued + more > self.settings.max_waiting
            or self.outbox.depth + self._queued > self.settings.max_queue
        ):
            return "too many ballots are waiting: try again, or another relayer"
        return ""

    @property
    def idle(self) -> bool:
        """Whether nothing is being checked."""
        return not self._queued

    def refuse(self, code: Code, message: str, body: bytes | None, **more: Any) -> Answer:
        """A signed refusal; `body` None where what came in could not be read as a ballot at all, and nothing can be signed."""
        self.metrics.refused.labels(code.text).inc()
        signed: dict[str, Any] = {"refusal": None, "signature": None}
        if body is not None:
            who = self.identity
            refusal = Refusal(
                ballot_hash(body), who.contract, who.chain_id, code.text, who.role, self.follower.view.now
            )
            signed = sign_statement(refusal, who.key)
        value = {"reason": code.text, "message": message, **signed, **more}
        return Answer(code.status, json.dumps(value, ensure_ascii=False).encode())

    def promise(self, stored: Stored) -> dict[str, Any]:
        """The promise of a stored ballot: the same bytes every time, since Ed25519 is deterministic."""
        return json.loads(self._promise(stored.hash, stored.by, stored.head))

    def stop(self) -> None:
        self._worker.shutdown()

    # ---- the event loop's side

    async def _work(self) -> None:
        """Runs while there is work: takes what has come in, at most `verify_batch` ballots and at least one request."""
        loop = asyncio.get_running_loop()
        while self._queue:
            taken, count = 0, 0
            while taken < len(self._queue) and (
                not taken or count + len(self._queue[taken][0]) <= self.settings.verify_batch
            ):
                count += len(self._queue[taken][0])
                taken += 1
            requests, self._queue = self._queue[:taken], self._queue[taken:]
            bodies = [body for request, _ in requests for body in request]
            try:
                answers = await loop.run_in_executor(self._worker, self.process, bodies)
            except Exception:
                log.exception("intake failed")
                answers = [self.refuse(Code.BUSY, "this relayer has a fault: try another", body) for body in bodies]
            self._queued -= count
            start = 0
            for request, future in requests:
                if not future.done():
                    future.set_result(answers[start : start + len(request)])
                start += len(request)
        self._task = None

    # ---- the worker's side

    def process(self, bodies: Sequence[bytes]) -> list[Answer]:
        """Checks, commits and answers a micro-batch."""
        view = self.follower.view
        hashes = [ballot_hash(body) for body in bodies]
        answers: list[Answer | None] = [None] * len(bodies)

        # What needs no arithmetic.
        rows: dict[int, tuple[int, int]] = {}  # place in the micro-batch → roll index, log size seen
        for place, body in enumerate(bodies):
            looked_at = self._look(view, body)
            if isinstance(looked_at, Answer):
                answers[place] = looked_at
            else:
                rows[place] = looked_at
        places, later = self._distinct(hashes, rows)
        known, newest = self.outbox.earlier([hashes[place] for place in places], [rows[place][0] for place in places])
        for place in places:
            if hashes[place] in known or hashes[place] in self.follower.positions:
                answers[place] = self._duplicate(bodies[place], known.get(hashes[place]))

        # The proofs.
        places = [place for place in places if answers[place] is None]
        good: list[int] = []
        if places:
            assert view.election and view.roll
            with self.metrics.check.time():
                reasons = view.election.engine.verify(
                    [bodies[place] for place in places], view.roll, self.settings.threads
                )
            for place, reason in zip(places, reasons, strict=True):
                index, seen = rows[place]
                if reason != Reason.VALID:
                    answers[place] = self.refuse(*_CODES[reason], bodies[place])
                elif why := self._superseded(seen, newest.get(index)):
                    answers[place] = self.refuse(Code.SUPERSEDED, why, bodies[place])
                elif self._too_many(index):
                    answers[place] = self.refuse(
                        Code.RATE_LIMITED, "too many ballots of this credential in a minute", bodies[place]
                    )
                else:
                    self.metrics.attempts.inc(index in newest)
                    newest[index] = seen
                    good.append(place)

        # The commit, and only then the promises.
        by = min(view.now + self.settings.promise_seconds, view.last_append)
        ballots = [Ballot(hashes[place], bodies[place], *rows[place]) for place in good]
        try:
            with self.metrics.commit.time():
                stored_now = self.outbox.promise(ballots, view.now, by, view.head)
        except DBAPIError as error:
            log.error("nothing can be stored", error=str(error.orig))
            for place in good:
                answers[place] = self.refuse(
                    Code.BUSY, "nothing can be stored at the moment: try another", bodies[place]
                )
        else:
            faster = [place for place in good if hashes[place] not in stored_now]  # through another process
            known = self.outbox.find(hashes[place] for place in faster) if faster else {}
            for place in good:
                digest = hashes[place]
                answers[place] = (
                    Answer(202, self._promise(digest, by, view.head))
                    if digest in stored_now
                    else self._duplicate(bodies[place], known.get(digest))
                )
            self.metrics.promised.inc(len(stored_now))
            self.metrics.group.observe(len(stored_now))
            point("promise before answer")

        # Copies within the micro-batch are told of what has become of the first.
        known = self.outbox.find({hashes[place] for place in later}) if later else {}
        for place, first in later.items():
            stored_copy = known.get(hashes[place])
            answers[place] = self._duplicate(bodies[place], stored_copy) if stored_copy else answers[first]
        return answers  # type: ignore[return-value]

    def _look(self, view: View, body: bytes) -> tuple[int, int] | Answer:
        """Roll index and log size seen of what may be a ballot, here and now; or why it is none."""
        if len(body) > MAX_BODY:
            return self.refuse(Code.TOO_LARGE, f"no ballot has more than {MAX_BODY} bytes", body)
        try:
            index, seen = read_header(body)
        except BallotRefused as error:
            return self.refuse(Code.MALFORMED, str(error), body)
        if view.phase == Phase.SETUP:
            return self.refuse(Code.NOT_OPEN, "the poll has not opened", body)
        if view.phase > Phase.OPEN or view.now >= view.close:
            return self.refuse(
                Code.CLOSED, f"the poll closed at {view.close} (seconds since 1970, the chain's time)", body
            )
        if view.election is None or view.roll is None:
            return self.refuse(Code.BUSY, self.follower.problem or "the election is being read", body)
        if index >= len(view.roll) or index in view.revoked:
            return self.refuse(Code.UNKNOWN_CREDENTIAL, f"the roll has no valid row {index}", body)
        if seen > max(view.head.size, self._head_size):
            try:
                self._head_size = self.board.head().size
            except ChainError:
                return self.refuse(Code.BUSY, "this relayer does not see the chain at the moment: try another", body)
            if seen > self._head_size:
                message = f"it claims to have seen {seen} records, and the log has {self._head_size}"
                return self.refuse(Code.MALFORMED, message, body)
        return index, seen

    def _superseded(self, seen: int, newest: int | None) -> str:
        """Why a ballot can count no more, or nothing. `newest` is the largest log size that a promised ballot of the credential has seen."""
        if newest is None:
            return ""
        if self.follower.manifest.revote == "first":
            return "an earlier ballot of this credential was promised, and the first counts"
        if seen < newest:
            return f"a newer ballot of this credential was promised: it has seen {newest} records, and this one {seen}"
        return ""

    def _distinct(self, hashes: Sequence[bytes], rows: dict[int, tuple[int, int]]) -> tuple[list[int], dict[int, int]]:
        """Places of distinct ballots, and of copies with the place of the first."""
        first: dict[bytes, int] = {}
        copies = {place: first[hashes[place]] for place in rows if first.setdefault(hashes[place], place) != place}
        return list(first.values()), copies

    def _duplicate(self, body: bytes, stored: Stored | None) -> Answer:
        position = self.follower.positions.get(ballot_hash(body))
        state = State.FINAL if position is not None or stored is None else stored.state
        earlier = {"state": state.text, "position": position, "promise": self.promise(stored) if stored else None}
        return self.refuse(Code.DUPLICATE, f"this ballot came in before and is {state.text}", body, earlier=earlier)

    def _promise(self, digest: bytes, by: int, head: LogHead) -> bytes:
        """Signed by this relayer, whichever process of a shared outbox has stored the ballot: they all carry all of it."""
        who = self.identity
        return signed_json(Promise(digest, by, who.contract, who.chain_id, head, who.role), who.key)

    def _too_many(self, roll_index: int) -> bool:
        """Whether a credential has sent too many valid ballots this minute. Only valid ones count: anybody can write a number into a bad one."""
        if time.monotonic() - self._attempts_since > 60:
            self._attempts.clear()
            self._attempts_since = time.monotonic()
        self._attempts[roll_index] += 1
        return self._attempts[roll_index] > self.settings.credential_attempts
