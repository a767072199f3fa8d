"""The journal: wherever a writer dies or a byte changes, nothing that was confirmed is lost, and nothing is repaired in silence."""

from __future__ import annotations

import hashlib
import json
import resource
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.sealed import LIGHT, WrongPassphrase
from protocol.errors import BallotboardError
from station import journal as module
from station.journal import MARK, Journal, JournalError

CLOCK = iter(range(10**6)).__next__


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "journal"


def make(path: Path, entries: int = 3) -> list[bytes]:
    """A journal of so many entries; gives their canonical bytes."""
    with Journal.create(path, "pass", CLOCK, LIGHT) as journal:
        for number in range(entries):
            journal.append("check-in", index=number, name="é" * number)
        return [entry.body for entry in journal.entries]


def reopened(path: Path) -> list[bytes]:
    with Journal.open(path, "pass", CLOCK) as journal:
        return [entry.body for entry in journal.entries]


def ends(path: Path) -> list[int]:
    """Where each record ends: at the next mark, or at the end of the file."""
    data = path.read_bytes()
    starts = [i for i in range(len(data)) if data.startswith(MARK, i)]
    return [*starts[1:], len(data)]


def test_entries_come_back_in_order_each_naming_the_hash_of_the_one_before(path):
    bodies = make(path)
    assert reopened(path) == bodies
    previous = hashlib.sha256(path.read_bytes().split(b"\n")[0] + b"\n").hexdigest()
    for number, body in enumerate(bodies):
        value = json.loads(body)
        assert (value["number"], value["previous"], value["data"]["index"]) == (number, previous, number)
        previous = hashlib.sha256(body).hexdigest()
    with Journal.open(path, "pass") as journal:
        assert journal.head.hex() == previous


def test_the_export_is_the_entries_a_line_each_so_that_anyone_can_follow_the_chain(path):
    bodies = make(path)
    with Journal.open(path, "pass") as journal:
        assert journal.export() == b"".join(body + b"\n" for body in bodies)


def test_the_file_is_for_its_owner_alone_and_shows_nothing_of_its_entries(path):
    make(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert b"check-in" not in path.read_bytes() and b"index" not in path.read_bytes()


@pytest.mark.parametrize("entries", [1, 3])
def test_a_wrong_passphrase_says_so_and_changes_nothing(path, entries):
    make(path, entries)
    before = path.read_bytes()
    with pytest.raises(WrongPassphrase, match="the passphrase is wrong"):
        Journal.open(path, "wrong")
    assert path.read_bytes() == before
    assert len(reopened(path)) == entries


def test_truncated_at_every_byte_of_the_last_entry_it_opens_with_all_the_others(path, tmp_path):
    bodies = make(path)
    whole, cut = path.read_bytes(), tmp_path / "cut"
    *_, start, end = ends(path)
    for length in range(start, end):
        cut.write_bytes(whole[:length])
        found = reopened(cut)
        assert found[:2] == bodies[:2]
        if length == start:
            assert len(found) == 2
        else:
            [recovered] = [json.loads(body) for body in found[2:]]
            assert (recovered["kind"], recovered["data"]["torn"]) == ("recovered", whole[start:length].hex())
        assert reopened(cut) == found  # and it stays so
        cut.unlink()


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_changed_byte_is_refused_or_kept_aside_and_costs_no_other_entry(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("j") / "journal"
    bodies = make(path)
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    original = ends_of(bodies, content)
    if place >= original[-2]:  # in the last record: as if it were torn
        found = reopened(path)
        assert found[:2] == bodies[:2] and json.loads(found[2])["data"]["torn"] == bytes(content[original[-2] :]).hex()
    else:
        with pytest.raises(BallotboardError):
            Journal.open(path, "pass")
        assert path.read_bytes() == content


def ends_of(bodies: list[bytes], content: bytes) -> list[int]:
    """The same as `ends` from the lengths alone, for content in which a mark may be the thing that was changed."""
    overhead = module.OVERHEAD + 24 + 16
    header = len(content) - sum(len(body) + overhead for body in bodies)
    places = [header]
    for body in bodies:
        places.append(places[-1] + len(body) + overhead)
    return places[1:]


def test_zeros_that_a_power_cut_left_for_the_last_entry_are_kept_aside(path):
    bodies = make(path)
    whole = path.read_bytes()
    *_, start, end = ends(path)
    path.write_bytes(whole[:start] + bytes(4096))
    found = reopened(path)
    assert found[:2] == bodies[:2] and len(found) == 3


@pytest.mark.parametrize("entry", [0, 1])
def test_an_entry_taken_out_of_the_middle_is_noticed(path, entry):
    make(path)
    whole, places = path.read_bytes(), [path.read_bytes().index(MARK), *ends(path)]
    path.write_bytes(whole[: places[entry]] + whole[places[entry + 1] :])
    with pytest.raises(JournalError, match="was changed"):
        Journal.open(path, "pass")


def test_two_entries_that_changed_places_are_noticed(path):
    make(path)
    whole, places = path.read_bytes(), [path.read_bytes().index(MARK), *ends(path)]
    path.write_bytes(whole[: places[1]] + whole[places[2] :] + whole[places[1] : places[2]])
    with pytest.raises(JournalError, match="was changed"):
        Journal.open(path, "pass")


def test_a_journal_whose_making_was_interrupted_is_refused(path):
    make(path, 1)
    header = path.read_bytes().index(b"\n") + 1
    for length in (0, header // 2, header, header + 5, header + 40):
        torn = path.with_name(f"torn{length}")
        torn.write_bytes(path.read_bytes()[:length])
        with pytest.raises(BallotboardError):
            Journal.open(torn, "pass")


def test_one_writer_at_a_time(path):
    make(path)
    with Journal.open(path, "pass"):
        with pytest.raises(JournalError, match="in use"):
            Journal.open(path, "pass")
    Journal.open(path, "pass").close()


def test_a_journal_is_never_overwritten(path):
    bodies = make(path)
    with pytest.raises(JournalError, match="exists"):
        Journal.create(path, "pass", CLOCK, LIGHT)
    assert reopened(path) == bodies


def test_every_entry_confirmed_before_a_kill_is_there(path):
    """The child says a number only when `append` has returned; whatever it said must be in the file."""
    make(path, 1)
    script = (
        "import sys; from pathlib import Path; from station.journal import Journal\n"
        "journal = Journal.open(Path(sys.argv[1]), 'pass')\n"
        "while True: print(journal.append('check-in', index=1).number, flush=True)"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", script, path], cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout
    confirmed = [int(child.stdout.readline()) for _ in range(40)]
    child.kill()
    confirmed += [int(line) for line in child.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
    child.wait()
    assert len(reopened(path)) > confirmed[-1] >= 40


def test_a_full_disk_records_nothing_and_the_journal_goes_on_when_there_is_room(path):
    bodies = make(path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Journal.open(path, "pass", CLOCK) as journal:
        size = path.stat().st_size
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size + 50, hard))  # room for a part of the record
            with pytest.raises(JournalError, match="nothing was recorded"):
                journal.append("check-in", index=3)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert path.stat().st_size == size and len(journal.entries) == 3
        journal.append("check-in", index=4)
    found = reopened(path)
    assert found[:3] == bodies and json.loads(found[3])["data"] == {"index": 4}


def test_after_a_sync_that_failed_and_could_not_be_undone_it_must_be_opened_again(path, monkeypatch):
    make(path)
    with Journal.open(path, "pass", CLOCK) as journal:

        def fail(handle: int) -> None:
            raise OSError(5, "Input/output error")

        monkeypatch.setattr(module.os, "fsync", fail)
        with pytest.raises(JournalError, match="Input/output error"):
            journal.append("check-in", index=3)
        monkeypatch.undo()
        with pytest.raises(JournalError, match="opened again"):
            journal.append("check-in", index=4)
    assert len(reopened(path)) == 3
