"""Every ballot's proofs and signature: the native engine's threads where it is installed, else the reference over processes."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor

from protocol import engine
from protocol.attachments import Roll
from protocol.ballot import BallotContext, Reason
from protocol.election import LogRecord, OpenElection, verify_ballots
from verifier.claims import Progress

CHUNK = 50
"""Ballots that a process takes at a time: about a second of the reference, so that the bar moves and no process idles at the end."""

WORTH_PROCESSES = 4 * CHUNK
"""Below this many ballots, starting processes takes longer than verifying."""


def reasons(
    election: OpenElection, roll: Roll, ballots: Sequence[LogRecord], progress: Progress, processes: int = 0
) -> dict[int, Reason]:
    """The reason (0 valid, 1–7) of every ballot with a body, by position. `roll` has the roll changes; `processes` 0 means all cores."""
    processes = processes or os.cpu_count() or 1
    what = "ballots verified"
    if engine.native or processes == 1 or len(ballots) < WORTH_PROCESSES:
        return verify_ballots(
            election,
            roll,
            ballots,
            lambda done, total: progress(what, done, total),
            CHUNK if not engine.native else 2048,
        )

    held = [(record.position, record.body) for record in ballots if record.body is not None]
    chunks = [held[i : i + CHUNK] for i in range(0, len(held), CHUNK)]
    # spawn: a fork would copy whatever threads and connections the caller has
    context = multiprocessing.get_context("spawn")
    arguments = (election.engine.election, election.engine.unit_styles, roll.data)
    found: dict[int, Reason] = {}
    with ProcessPoolExecutor(min(processes, len(chunks)), context, _start, arguments) as pool:
        for chunk, answers in zip(
            chunks, pool.map(_verify, [[body for _, body in chunk] for chunk in chunks]), strict=True
        ):
            found.update(zip((position for position, _ in chunk), answers, strict=True))
            progress(what, len(found), len(held))
    return found


_worker: tuple[engine.Engine, Roll]
"""What a worker process was started with; set once by `_start`, in that process only."""


def _start(context: BallotContext, unit_styles: list[int], roll: bytes) -> None:
    global _worker
    _worker = engine.Engine(context, unit_styles), Roll(roll, unit_styles)


def _verify(bodies: list[bytes]) -> list[Reason]:
    verifier, roll = _worker
    return verifier.verify(bodies, roll)
