"""However the work on ballots is split, resumed or sent away, the answers are those of one process."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from protocol import engine
from protocol.ballot import Reason
from protocol.election import LogRecord
from protocol.errors import BallotboardError
from protocol.records import Entry, Kind, ballot_hash
from tests.tamper.recipes import flip, honest
from verifier import ballots
from verifier.ballots import Work
from verifier.claims import Progress, WrongInput, silent
from verifier.log import Log
from verifier.run import verify_tally

ROOT = bytes(32)


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The key of checkpoints is kept in a folder of the test's own; chunks are small."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(ballots, "CHUNK", 5)
    return tmp_path


def log(count: int = 24) -> Log:
    """Honest ballots, every third of them flipped in its signature, the last without a body."""
    cast = list(honest().cast.values())
    bodies = [cast[i % len(cast)] for i in range(count)]
    bodies = [flip(body, len(body) - 20) if i % 3 == 0 else body for i, body in enumerate(bodies)]
    return Log.of(
        [
            LogRecord(i, Entry(Kind.BALLOT, 0, 0, ballot_hash(body)), body if i < count - 1 else None)
            for i, body in enumerate(bodies)
        ]
    )


def reasons(work: Work, found: Log | None = None, progress: Progress = silent, root: bytes = ROOT) -> bytearray:
    found = found or log()
    roll = honest().settled().roll_state.roll
    return ballots.reasons(honest().opened, roll, found, len(found.ballots), root, progress, work)


def test_threads_and_processes_give_the_same_answers_in_the_same_places(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[int, int]] = []
    alone = reasons(Work(1))
    assert {alone[i] for i in range(0, 23, 3)} == {Reason.BAD_SIGNATURE}
    assert alone[1] == Reason.VALID
    assert reasons(Work(2), progress=lambda what, done, total: told.append((done, total))) == alone
    assert told == [(5, 24), (10, 24), (15, 24), (20, 24), (24, 24)]
    monkeypatch.setattr(engine, "native", None)
    monkeypatch.setattr(ballots, "REFERENCE_CHUNK", 5)
    monkeypatch.setattr(ballots, "WORTH_PROCESSES", 10)
    assert reasons(Work(2)) == alone


def test_few_ballots_start_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "native", None)
    monkeypatch.setattr(ballots, "ProcessPoolExecutor", None)
    assert len(reasons(Work(2), log(4))) == 4


def test_a_ballot_that_nobody_looked_at_is_never_valid() -> None:
    """Chunks that leave out a part of the log, wherever the gap is from."""
    whole = log()

    class Gap(Log):
        def chunks(self, end, ballots, size):  # type: ignore[no-untyped-def]
            return [chunk for chunk in whole.chunks(end, ballots, size) if chunk.first != 10]

    gap = log()
    gap.__class__ = Gap
    with pytest.raises(WrongInput, match="ballot 10 of the log was given to nobody"):
        reasons(Work(1), gap)


# ---------------------------------------------------------------- checkpoints


class Killed(Exception):
    """The run ends here."""


def killed_after(ballots_done: int, path: Path) -> None:
    def progress(what: str, done: int, total: int) -> None:
        if done >= ballots_done:
            raise Killed

    with pytest.raises(Killed):
        reasons(Work(1, checkpoint=path), progress=progress)


def test_a_killed_run_goes_on_where_it_was(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, verified = state / "checkpoint", []
    killed_after(10, path)
    path.write_bytes(path.read_bytes() + b"an entry that was being written")
    real = engine.Engine.verify_packed
    monkeypatch.setattr(
        engine.Engine, "verify_packed", lambda self, *rest: verified.append(real(self, *rest)) or verified[-1]
    )
    assert reasons(Work(1, checkpoint=path)) == reasons(Work(1))
    assert [len(answers) for answers in verified] == [5, 5, 4, 5, 5, 5, 5, 4], "three chunks were left, then all five"
    verified.clear()
    reasons(Work(1, checkpoint=path))
    assert not verified, "nothing is left to do"


def test_a_checkpoint_never_makes_a_bad_ballot_good(state: Path) -> None:
    path = state / "checkpoint"
    killed_after(10, path)
    data = path.read_bytes()
    bad = data.index(bytes([Reason.BAD_SIGNATURE]), len(ballots.CHECKPOINT) + 32 + 16)
    path.write_bytes(data[:bad] + b"\0" + data[bad + 1 :])
    with pytest.raises(BallotboardError, match="was changed, or was not made by this account"):
        reasons(Work(1, checkpoint=path))


def test_a_checkpoint_of_somebody_else_is_refused(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = state / "checkpoint"
    killed_after(10, path)
    monkeypatch.setenv("XDG_STATE_HOME", str(state / "of another account"))
    with pytest.raises(BallotboardError, match="not made by this account"):
        reasons(Work(1, checkpoint=path))


def test_a_checkpoint_of_another_log_is_refused(state: Path) -> None:
    path = state / "checkpoint"
    killed_after(10, path)
    with pytest.raises(BallotboardError, match="of another log"):
        reasons(Work(1, checkpoint=path), root=bytes(31) + b"\x01")


@pytest.mark.parametrize(
    "content", [b"x", b"ballotboard/checkpoint/v2\n" + bytes(99), ballots.CHECKPOINT + bytes(31) + b"x"]
)
def test_what_is_no_checkpoint_is_not_written_over(state: Path, content: bytes) -> None:
    path = state / "checkpoint"
    path.write_bytes(content)
    with pytest.raises(BallotboardError, match=r"no checkpoint|another log"):
        reasons(Work(1, checkpoint=path))
    assert path.read_bytes() == content


def test_the_key_of_checkpoints_is_for_this_account_alone(state: Path) -> None:
    reasons(Work(1, checkpoint=state / "checkpoint"))
    key = state / "state" / ballots.KEY_FILE
    assert (key.stat().st_mode & 0o777, len(key.read_bytes())) == (0o600, 32)
    key.write_bytes(b"short")
    with pytest.raises(BallotboardError, match="no key of 32 bytes"):
        reasons(Work(1, checkpoint=state / "checkpoint"))


def test_the_report_with_a_checkpoint_is_the_report_without(state: Path) -> None:
    id = honest().manifest.election_id
    expected = verify_tally(honest().source(), id).sha256
    for _ in range(2):
        assert verify_tally(honest().source(), id, work=Work(1, checkpoint=state / "checkpoint")).sha256 == expected


def test_what_the_verifier_works_with_is_no_verdict_when_it_breaks(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    id, path = honest().manifest.election_id, state / "checkpoint"
    path.write_bytes(b"another file")
    with pytest.raises(WrongInput):
        verify_tally(honest().source(), id, work=Work(1, checkpoint=path))

    def dies(*rest: object) -> bytes:
        raise MemoryError

    monkeypatch.setattr(engine.Engine, "verify_packed", dies)
    with pytest.raises(WrongInput, match="a worker that verifies ballots has failed: MemoryError"):
        verify_tally(honest().source(), id, work=Work(2))
    monkeypatch.setattr(engine.Engine, "verify_packed", lambda self, *rest: b"")
    with pytest.raises(WrongInput, match="0 answers came for"):
        verify_tally(honest().source(), id, work=Work(1))


# ---------------------------------------------------------------- a cluster


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A scheduler and two workers, each a process of its own."""
    folder = tmp_path_factory.mktemp("dask")
    file = folder / "scheduler.json"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": Path(__file__).resolve().parents[2]}
    command = [sys.executable, "-W", "ignore", "-m"]
    scheduler = [*command, "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
    worker = [*command, "distributed.cli.dask_worker", "--nthreads", "1", "--no-dashboard", "--no-nanny"]
    started = [subprocess.Popen([*scheduler, "--scheduler-file", str(file)], **quiet)]
    try:
        end = time.monotonic() + 60
        while not file.exists() or not file.read_text():
            assert started[0].poll() is None and time.monotonic() < end
            time.sleep(0.1)
        options = ["--scheduler-file", str(file), "--host", "127.0.0.1", "--local-directory", str(folder)]
        started += [subprocess.Popen([*worker, *options], **quiet) for _ in range(2)]

        address = json.loads(file.read_text())["address"]
        from distributed import Client

        with Client(address, timeout=60) as client:
            client.wait_for_workers(2, timeout=60)
        yield address
    finally:
        for process in reversed(started):
            process.terminate()
        for process in started:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


@pytest.mark.slow
def test_a_cluster_gives_the_same_answers_and_the_same_report(cluster: str) -> None:
    assert reasons(Work(dask=cluster)) == reasons(Work(1))
    id = honest().manifest.election_id
    assert (
        verify_tally(honest().source(), id, work=Work(dask=cluster)).sha256
        == verify_tally(honest().source(), id).sha256
    )


@pytest.mark.slow
def test_where_there_is_no_cluster_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ballots, "CLUSTER_TIMEOUT", 1)
    with pytest.raises(BallotboardError, match=r"no Dask scheduler at tcp://127\.0\.0\.1:1"):
        reasons(Work(dask="tcp://127.0.0.1:1"))
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(BallotboardError, match="pip install"):
        reasons(Work(dask="tcp://127.0.0.1:1"))
