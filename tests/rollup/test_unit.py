"""A leaf unit's count: constant in memory, the same bytes whenever and wherever it is interrupted, and a log that shows what was changed."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest
import zstandard
from nacl.secret import SecretBox

from protocol.attachments import Roll
from protocol.encoding import u16, u32
from protocol.engine import CreateRequest
from protocol.errors import BallotboardError
from protocol.group import base
from protocol.records import pack_bodies
from rollup import inbox
from rollup.log import MARK, LogError, UnitLog
from rollup.unit import (
    CHECKPOINT_EVERY,
    UnitTally,
    _frames,
    _interval,
    count_unit,
    open_roll,
    read_packed,
    replay,
    roll_range,
)
from tests.protocol.worlds import secret
from tests.rollup.world import KEYS, VOTERS, choice, state

UNIT = 3


def run(some, folder, ballots=None, every=0):
    return count_unit(some.plan, folder, UNIT, KEYS, some.roll, some.ballots[UNIT] if ballots is None else ballots, every)  # fmt: skip


def stop_after(ballots, count):
    """Offers `count` ballots, then is interrupted."""
    yield from ballots[:count]
    raise KeyboardInterrupt


@pytest.mark.parametrize("every", [1, 5, 0])
def test_interrupted_anywhere_and_started_again_the_sum_is_the_same_bytes(state, tmp_path, every):
    straight = run(state, tmp_path / "straight", every=every)
    for count in (0, 1, 4, 5, 6, VOTERS):
        folder = tmp_path / f"after-{count}"
        with pytest.raises(KeyboardInterrupt):
            run(state, folder, stop_after(state.ballots[UNIT], count), every)
        assert inbox.read(state.plan, folder, UNIT) is None
        again = run(state, folder, every=every)
        assert again.sum.contests == straight.sum.contests
        if every:
            assert again.sum == straight.sum


def test_a_checkpoint_spares_the_frames_before_it_and_nothing_depends_on_it(state, tmp_path):
    for name in ("with", "without", "spoiled"):
        folder = tmp_path / name
        with pytest.raises(KeyboardInterrupt):
            run(state, folder, stop_after(state.ballots[UNIT], 10), 5)
        checkpoint = folder / str(UNIT) / "checkpoint"
        if name == "without":
            checkpoint.unlink()
        if name == "spoiled":
            checkpoint.write_bytes(checkpoint.read_bytes()[:-1])
    results = {name: run(state, tmp_path / name, every=5) for name in ("with", "without", "spoiled")}
    assert {name: one.replayed for name, one in results.items()} == {"with": 0, "without": 10, "spoiled": 10}
    assert len({one.sum.data for one in results.values()}) == 1


def test_replaying_the_log_gives_the_state_of_the_checkpoint_byte_for_byte(state, tmp_path):
    run(state, tmp_path, every=5)
    tally, end = replay(state.plan, tmp_path, UNIT, state.roll)
    box = SecretBox(KEYS.checkpoint_key(state.plan.id, UNIT))
    sealed = (tmp_path / str(UNIT) / "checkpoint").read_bytes()
    assert box.decrypt(sealed) == tally.state(end)
    assert tally.state(end) not in sealed


def test_a_log_that_ends_before_its_checkpoint_has_lost_ballots_and_is_refused(state, tmp_path):
    run(state, tmp_path, every=5)
    log = tmp_path / str(UNIT) / "log"
    data = log.read_bytes()
    log.write_bytes(data[: data.rindex(MARK)])
    with pytest.raises(BallotboardError, match="has lost ballots: its checkpoint was made after 12"):
        run(state, tmp_path, every=5)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda b: [*b[:5], b[6], b[5], *b[7:]], "ballot 5 is not the one that the log holds"),
        (lambda b: b[:7], "the log holds more ballots than were offered, which end after 7"),
    ],
)
def test_other_ballots_than_the_log_s_are_refused(state, tmp_path, change, reason):
    run(state, tmp_path, every=5)
    with pytest.raises(BallotboardError, match=reason):
        run(state, tmp_path, change(state.ballots[UNIT]), every=5)


def test_more_ballots_give_the_next_revision(state, tmp_path):
    first = run(state, tmp_path, state.ballots[UNIT][:8], 4).sum
    second = run(state, tmp_path, every=4).sum
    assert (first.revision, first.parts, second.revision, second.parts) == (1, 8, 2, 12)


def test_what_is_not_valid_or_not_here_or_twice_is_logged_and_left_out(state, tmp_path):
    good = state.ballots[UNIT]
    strange = [good[0], state.ballots[5][0], good[0][:-1], good[1][:-1] + bytes([good[1][-1] ^ 1]), b""]
    mixed = [*good, *strange]
    found = run(state, tmp_path, mixed, 6)
    assert found.fates == {
        "valid": 12, "malformed-header": 1, "malformed-length": 1, "bad-signature": 1, "other-unit": 1, "repeated": 1,
    }  # fmt: skip
    assert found.sum.contests == run(state, tmp_path / "clean").sum.contests
    assert found.sum.parts == len(mixed)
    tally, _ = replay(state.plan, tmp_path, UNIT, state.roll)
    assert tally.counted == 12


def test_checkpoints_are_a_tenth_of_what_is_written_however_long_the_roll(state):
    small = UnitTally(state.plan, UNIT, state.roll, state.plan.engine())
    assert _interval(small) == CHECKPOINT_EVERY
    small.voted = bytearray(125_000)  # a roll of a million
    assert 900 < _interval(small) < 1_300
    assert [_frames(every) for every in (1, 100, 128, 129, 3_583)] == [(1, 1), (100, 1), (128, 1), (65, 2), (128, 28)]


def test_a_unit_with_a_long_roll_writes_several_frames_to_a_checkpoint(state, tmp_path, monkeypatch):
    monkeypatch.setattr("rollup.unit.FRAME", 2)
    with pytest.raises(KeyboardInterrupt):
        run(state, tmp_path, stop_after(state.ballots[UNIT], 10), 6)
    again = run(state, tmp_path, every=6)
    assert again.replayed == 4 and again.sum == run(state, tmp_path / "straight", every=6).sum
    tally, end = replay(state.plan, tmp_path, UNIT, state.roll)
    box = SecretBox(KEYS.checkpoint_key(state.plan.id, UNIT))
    assert box.decrypt((tmp_path / str(UNIT) / "checkpoint").read_bytes()) == tally.state(end)


def test_a_unit_s_rows_are_found_in_a_mapped_roll(state, tmp_path):
    path = tmp_path / "roll"
    path.write_bytes(state.roll.data)
    roll = open_roll(path, state.plan)
    assert [roll_range(roll, unit, 60) for unit in (2, 3, 4, 7, 8)] == [(0, 0), (0, 12), (12, 12), (48, 12), (60, 0)]
    path.write_bytes(b"\0" * 37)
    with pytest.raises(BallotboardError, match="is no roll"):
        open_roll(path, state.plan)
    with pytest.raises(BallotboardError, match="cannot read the roll"):
        open_roll(tmp_path / "nowhere", state.plan)


def test_a_credential_that_a_roll_change_added_votes_in_its_unit(state, tmp_path):
    x = secret("replaced")
    roll = state.roll.extended([(base(x), 5), (base(x), UNIT)])
    requests = [CreateRequest(61, 0, UNIT, 0, x, bytes([i]) * 32, [[1, 0], choice(0, 5)]) for i in range(2)]
    elsewhere = CreateRequest(60, 0, 5, 0, x, bytes(32), [[1, 0], choice(0, 5)])
    bodies = [*state.ballots[UNIT], *state.plan.engine().create([*requests, elsewhere])]
    found = count_unit(state.plan, tmp_path, UNIT, KEYS, roll, bodies, 4)
    assert found.fates == {"valid": 13, "repeated": 1, "other-unit": 1}
    assert count_unit(state.plan, tmp_path, UNIT, KEYS, roll, bodies, 4).sum == found.sum
    shorter = Roll(state.roll.data[:-36], state.roll.unit_styles)
    with pytest.raises(BallotboardError, match="the roll has 59 rows, the plan 60"):
        count_unit(state.plan, tmp_path / "other", UNIT, KEYS, shorter, [], 4)


def test_a_file_of_ballots_that_is_cut_short_says_where(tmp_path):
    path = tmp_path / "ballots"
    for data in (pack_bodies([b"one", b"two"])[:-1], pack_bodies([b"one"]) + b"\0"):
        path.write_bytes(data)
        with pytest.raises(BallotboardError, match="ends in the middle of ballot 1"):
            list(read_packed(path))


# ---------------------------------------------------------------- the log


def log_of(state, folder, frames):
    with UnitLog.open(folder / "log", state.plan.id, UNIT) as log:
        list(log.frames())
        for bodies in frames:
            log.append(bodies)
        return log.end


FRAMES = [[b"a" * 400, b"b"], [b"c"], [b"d" * 400]]


def read(state, folder):
    with UnitLog.open(folder / "log", state.plan.id, UNIT, write=False) as log:
        return list(log.frames()), log.end


def test_a_log_is_read_back_as_it_was_written_and_is_compressed(state, tmp_path):
    end = log_of(state, tmp_path, FRAMES)
    assert read(state, tmp_path) == (FRAMES, end)
    assert (tmp_path / "log").stat().st_size < 800


@pytest.mark.parametrize("cut", [1, 5, 12, 20])
def test_a_torn_last_frame_is_taken_off_and_written_over(state, tmp_path, cut):
    before = log_of(state, tmp_path, FRAMES[:2])
    size = (tmp_path / "log").stat().st_size
    log_of(state, tmp_path, FRAMES[2:])
    data = (tmp_path / "log").read_bytes()
    (tmp_path / "log").write_bytes(data[: size + cut])
    assert read(state, tmp_path) == (FRAMES[:2], before)
    log_of(state, tmp_path, FRAMES[2:])
    assert (tmp_path / "log").read_bytes() == data


def test_a_changed_bit_in_the_middle_is_refused_or_says_nothing(state, tmp_path):
    end = log_of(state, tmp_path, FRAMES)
    data = (tmp_path / "log").read_bytes()
    refused = 0
    for place in range(data.index(MARK), data.rindex(MARK)):
        changed = bytearray(data)
        changed[place] ^= 1
        (tmp_path / "log").write_bytes(changed)
        try:
            # zstd ignores a bit of each frame's header: then it unpacks to the same ballots
            assert read(state, tmp_path) == (FRAMES, end)
        except LogError as error:
            assert any(word in str(error) for word in ("damaged", "was changed", "malformed"))
            refused += 1
    assert refused >= data.rindex(MARK) - data.index(MARK) - 2


def test_a_frame_that_was_made_again_with_other_ballots_breaks_the_chain(state, tmp_path):
    log_of(state, tmp_path, FRAMES)
    other = tmp_path / "other"
    other.mkdir()
    log_of(state, other, [[b"x" * 400, b"b"], *FRAMES[1:]])
    data, wrong = (tmp_path / "log").read_bytes(), (other / "log").read_bytes()
    mixed = wrong[: wrong.index(MARK, wrong.index(MARK) + 1)] + data[data.index(MARK, data.index(MARK) + 1) :]
    (tmp_path / "log").write_bytes(mixed)
    with pytest.raises(LogError, match="does not follow the one before"):
        read(state, tmp_path)


def test_a_bomb_is_refused_without_being_unpacked(state, tmp_path):
    log_of(state, tmp_path, [])
    packed = zstandard.ZstdCompressor().compress(bytes(1 << 28))
    for bomb in (packed, packed[:4] + b"\0" + packed[5:]):
        with (tmp_path / "log").open("ab") as file:
            file.write(MARK + u32(len(bomb)) + bomb + MARK)
        with pytest.raises(LogError, match="damaged"):
            read(state, tmp_path)


def test_a_log_is_one_unit_s_and_one_process_s(state, tmp_path):
    log_of(state, tmp_path, FRAMES)
    with pytest.raises(LogError, match="is not the log of unit 4"):
        UnitLog.open(tmp_path / "log", state.plan.id, 4)
    with UnitLog.open(tmp_path / "log", state.plan.id, UNIT):
        with pytest.raises(LogError, match="in use by another process"):
            UnitLog.open(tmp_path / "log", state.plan.id, UNIT)
    with pytest.raises(LogError, match="cannot open"):
        UnitLog.open(tmp_path / "nowhere" / "log", state.plan.id, UNIT, write=False)


# ---------------------------------------------------------------- kill -9

CHILD = """
import sys
from pathlib import Path
from rollup.plan import Plan
from rollup.unit import count_unit, open_roll, read_packed
from tests.rollup.world import KEYS
folder = Path(sys.argv[1])
plan = Plan.open(folder)
count_unit(plan, folder, 3, KEYS, open_roll(folder / "roll", plan), read_packed(folder / "3" / "counted.ballots"), 7,
           progress=lambda done: print(done, flush=True))
"""


@pytest.mark.slow
def test_killed_at_random_moments_it_ends_with_the_same_bytes(tmp_path):
    many = state(voters=250)
    many.save(tmp_path)
    expected = run(many, tmp_path / "straight", every=7).sum
    dice = random.Random(9)
    log, kills, sizes = tmp_path / "3" / "log", 0, []
    for _ in range(4):
        child = subprocess.Popen([sys.executable, "-c", CHILD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        for _ in range(dice.randrange(1, 9)):  # it has counted some more when it dies
            if not child.stdout.readline():
                break
        time.sleep(dice.random() / 500)
        kills += child.poll() is None
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        sizes.append(log.stat().st_size)
    assert kills >= 3 and sizes == sorted(sizes) and sizes[-1] > sizes[0]
    subprocess.run([sys.executable, "-c", CHILD, str(tmp_path)], check=True, stdout=subprocess.DEVNULL)
    assert inbox.read(many.plan, tmp_path, UNIT) == expected


def test_ballot_lengths_are_written_as_the_wire_has_them(tmp_path):
    path = tmp_path / "ballots"
    path.write_bytes(u16(3) + b"abc" + u16(0))
    assert list(read_packed(path)) == [b"abc", b""]
