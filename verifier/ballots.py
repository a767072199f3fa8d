"""Every ballot's proofs and signature, a chunk at a time, over threads, processes or a Dask cluster; and what a killed run has done already.

The native engine's work runs in threads, which it lets run side by side; the reference needs processes. However it is split, the answers
are those of one process: an answer per ballot never depends on its neighbours.

A checkpoint spares a run the ballots that an earlier one has verified. It is trusted as far as this account on this machine is: each entry
carries a MAC under a key that is made here, once, and readable by this account alone, and is bound to the log, the election, the roll and the
engine. So nobody can hand over a checkpoint that passes a ballot; who can write that key could as well replace the verifier. A Dask
cluster's answers are believed: run it on machines that are yours.
"""

from __future__ import annotations

import hashlib
import hmac
import multiprocessing
import os
import secrets
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from protocol import engine
from protocol.attachments import Roll
from protocol.ballot import BallotContext
from protocol.election import OpenElection
from protocol.encoding import u64
from verifier.claims import Progress, WrongInput
from verifier.log import Chunk, Log

CHUNK = 16_384
"""Ballots in a chunk of the native engine: half a second of a core, and full batches."""

CHUNK_BYTES = 2**23
"""Bytes of bodies in a chunk, where ballots are large: what each core holds in memory."""

REFERENCE_CHUNK = 50
"""Ballots in a chunk of the reference: about a second, so that the bar moves and no process idles at the end."""

WORTH_PROCESSES = 4 * REFERENCE_CHUNK
"""Below this many ballots, starting processes takes longer than verifying."""

AHEAD = 2
"""Chunks that wait for each worker, so that none idles while the next is read."""

CLUSTER_TIMEOUT = 10
"""Seconds until a scheduler must have answered."""

UNVERIFIED = 0xFF
"""No reason: an answer is awaited. Nothing is valid because nobody looked at it."""

WHAT = "ballots verified"

CHECKPOINT = b"ballotboard/checkpoint/v1\n"

KEY_FILE = Path("ballotboard") / "checkpoint.key"
"""Where the key of this account's checkpoints is, under XDG_STATE_HOME or ~/.local/state."""

Verify = Callable[[bytes], bytes]
"""Packed bodies → one reason per byte."""


@dataclass(frozen=True)
class Work:
    """How the work is done: processes (or threads; 0 means all cores), the address of a Dask scheduler instead, and a checkpoint's file."""

    processes: int = 0
    dask: str = ""
    checkpoint: Path | None = None

    @property
    def cores(self) -> int:
        return self.processes or os.cpu_count() or 1


def reasons(
    election: OpenElection, roll: Roll, log: Log, end: int, root: bytes, progress: Progress, work: Work
) -> bytearray:
    """The reason (0 valid, 1–7) of each ballot below number `end`. `roll` has the roll changes, `root` is that of the log that holds them.

    Raises WrongInput for a checkpoint that is not this machine's, or a cluster that cannot be reached.
    """
    found = bytearray([UNVERIFIED]) * end
    chunks = list(log.chunks(end, CHUNK if engine.native else REFERENCE_CHUNK, CHUNK_BYTES))
    with ExitStack() as stack:
        done: set[int] = set()
        checkpoint = None
        if work.checkpoint:
            missing = hashlib.sha256(b"".join(map(u64, sorted(log.ballots.missing)))).digest()
            bound = hashlib.sha256(
                election.context
                + election.joint.key
                + hashlib.sha256(roll.data).digest()
                + root
                + missing
                + engine.name().encode()
            ).digest()
            checkpoint = stack.enter_context(Checkpoint(work.checkpoint, bound))
            for first, answers in checkpoint.answers:
                found[first : first + len(answers)] = answers
                done |= {chunk.first for chunk in chunks if (chunk.first, chunk.count) == (first, len(answers))}
        left = [chunk for chunk in chunks if chunk.first not in done]
        finished = sum(chunk.count for chunk in chunks) - sum(chunk.count for chunk in left)
        for chunk, answers in _verified(election, roll, log, left, work, stack):
            if len(answers) != chunk.count:
                raise WrongInput(
                    f"{len(answers)} answers came for {chunk.count} ballots: the engine or the cluster is broken"
                )
            found[chunk.first : chunk.first + chunk.count] = answers
            if checkpoint:
                checkpoint.add(chunk.first, answers)
            finished += chunk.count
            progress(WHAT, finished, end)
    if UNVERIFIED in found:
        raise WrongInput(
            f"ballot {found.index(UNVERIFIED)} of the log was given to nobody to verify: this is a defect of the verifier"
        )
    return found


def _verified(
    election: OpenElection, roll: Roll, log: Log, chunks: list[Chunk], work: Work, stack: ExitStack
) -> Iterator[tuple[Chunk, bytes]]:
    """The answers for these chunks, in order."""
    ballots, cores = sum(chunk.count for chunk in chunks), min(work.cores, len(chunks))
    submit: Callable[[bytes], Any]
    if work.dask and chunks:
        submit, cores = _cluster(work.dask, election, roll, stack)
    elif cores > 1 and engine.native:
        threads = stack.enter_context(ThreadPoolExecutor(cores))
        submit = lambda packed: threads.submit(election.engine.verify_packed, packed, roll, 1)  # noqa: E731
    elif cores > 1 and ballots >= WORTH_PROCESSES:
        # spawn: a fork would copy whatever threads and connections the caller has
        arguments = (election.engine.election, election.engine.unit_styles, bytes(roll.data))
        context = multiprocessing.get_context("spawn")
        pool = stack.enter_context(ProcessPoolExecutor(cores, context, _start, arguments))
        submit = lambda packed: pool.submit(_verify, packed)  # noqa: E731
    else:
        for chunk in chunks:
            yield chunk, election.engine.verify_packed(log.bodies(chunk), roll, work.cores)
        return
    waiting: deque[tuple[Chunk, Any]] = deque()
    for chunk in chunks:
        waiting.append((chunk, submit(log.bodies(chunk))))
        if len(waiting) > AHEAD * cores:
            first, answer = waiting.popleft()
            yield first, _result(answer)
    for first, answer in waiting:
        yield first, _result(answer)


def _result(answer: Any) -> bytes:
    """The answer of a worker. One that died has said nothing about the ballots."""
    try:
        return answer.result()
    except Exception as error:
        raise WrongInput(f"a worker that verifies ballots has failed: {type(error).__name__}: {error}") from error


# ---------------------------------------------------------------- in another process, on another machine

_worker: tuple[engine.Engine, Roll]
"""What a worker process was started with; set once by `_start`, in that process only."""


def _start(context: BallotContext, unit_styles: list[int], roll: bytes) -> None:
    global _worker
    _worker = engine.Engine(context, unit_styles), Roll(roll, unit_styles)


def _verify(packed: bytes) -> bytes:
    verifier, roll = _worker
    return verifier.verify_packed(packed, roll, 1)


def _cluster(address: str, election: OpenElection, roll: Roll, stack: ExitStack) -> tuple[Callable[[bytes], Any], int]:
    """(submit, workers) of the Dask cluster behind the scheduler at `address`."""
    try:
        from distributed import Client
    except ModuleNotFoundError as error:
        raise WrongInput("--dask needs the package distributed: pip install 'ballotboard[dask]'") from error
    try:
        client = stack.enter_context(Client(address, timeout=CLUSTER_TIMEOUT))
        cores = sum(client.nthreads().values())
        if not cores:
            raise WrongInput(f"the Dask scheduler at {address} has no workers: start some with `dask worker {address}`")
        setup = client.scatter(
            (election.engine.election, election.engine.unit_styles, bytes(roll.data)), broadcast=True, hash=False
        )
    except (OSError, ValueError) as error:
        raise WrongInput(f"there is no Dask scheduler at {address}: {error}") from error
    return lambda packed: client.submit(_verify_for, setup, packed, pure=False), cores


def _verify_for(setup: tuple[BallotContext, list[int], bytes], packed: bytes) -> bytes:
    context, unit_styles, roll = setup
    return engine.Engine(context, unit_styles).verify_packed(packed, Roll(roll, unit_styles), 1)


# ---------------------------------------------------------------- checkpoints


class Checkpoint:
    """A file of answers: magic, what it is bound to (32 bytes), then per chunk `u64(first) || u64(count) || reasons || MAC (32)`.

    `answers` are those of earlier runs. An entry that was being written when the run was killed is cut off.
    """

    def __init__(self, path: Path, bound: bytes) -> None:
        self.path, self._bound, self._key = path, bound, _key()
        self.answers: list[tuple[int, bytes]] = []
        self._file: BinaryIO

    def __enter__(self) -> Checkpoint:
        try:
            self._file = self.path.open("r+b") if self.path.exists() else self.path.open("x+b")
            end = self._read(self._file.read())
            self._file.seek(end)
            self._file.truncate()
            if not end:
                self._file.write(CHECKPOINT + self._bound)
        except OSError as error:
            raise WrongInput(f"cannot use the checkpoint {self.path}: {error.strerror}") from error
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()

    def add(self, first: int, answers: bytes) -> None:
        """Keep the answers of the ballots from number `first` on."""
        entry = u64(first) + u64(len(answers)) + answers
        self._file.write(entry + self._mac(entry))
        self._file.flush()

    def _read(self, data: bytes) -> int:
        """Takes what is there; gives where the last whole entry ends."""
        start = len(CHECKPOINT) + 32
        if len(data) < start:
            if not (CHECKPOINT + self._bound).startswith(data):
                raise WrongInput(f"{self.path} is no checkpoint of this version: name another file")
            return 0
        if data[: len(CHECKPOINT)] != CHECKPOINT:
            raise WrongInput(f"{self.path} is no checkpoint of this version: name another file")
        if data[len(CHECKPOINT) : start] != self._bound:
            raise WrongInput(
                f"the checkpoint {self.path} is of another log, election or engine: remove it, or name another file"
            )
        while len(data) >= start + 16:
            first, count = (int.from_bytes(data[start + i : start + i + 8], "big") for i in (0, 8))
            end = start + 16 + count
            if len(data) < end + 32:
                break
            if not hmac.compare_digest(self._mac(data[start:end]), data[end : end + 32]):
                raise WrongInput(f"the checkpoint {self.path} was changed, or was not made by this account: remove it")
            self.answers.append((first, data[start + 16 : end]))
            start = end + 32
        return start

    def _mac(self, entry: bytes) -> bytes:
        return hmac.digest(self._key, self._bound + entry, "sha256")


def _key() -> bytes:
    """The key of this account's checkpoints, made when it is first needed."""
    path = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / KEY_FILE
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(secrets.token_bytes(32))
        except FileExistsError:
            pass
        key = path.read_bytes()
    except OSError as error:
        raise WrongInput(f"cannot keep the checkpoints' key at {path}: {error.strerror}") from error
    if len(key) != 32:
        raise WrongInput(f"{path} is no key of 32 bytes: remove it, and the checkpoints made with it")
    return key
