"""The keystore file: what it keeps, what it refuses, and what is left of it wherever a writer dies."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from eth_account import Account
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chain.sealed import LIGHT, WrongPassphrase
from protocol.ceremony import TrusteeSecret
from protocol.errors import BallotboardError
from protocol.group import ORDER
from protocol.records import LogHead
from trustee import keystore
from trustee.keystore import Attempt, Binding, Keystore, KeystoreError

scalars = st.integers(0, ORDER - 1)
attempts = st.builds(
    lambda number, q, polynomial, messages: Attempt(TrusteeSecret(number, q, polynomial), messages),
    st.integers(1, 9), scalars, st.lists(scalars, min_size=1, max_size=5), st.dictionaries(st.integers(1, 3), st.binary(max_size=200)),
)  # fmt: skip
heads = st.builds(LogHead, st.integers(0, 2**53 - 1), st.binary(min_size=32, max_size=32))


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "trustee.keystore"


def files(path: Path) -> list[str]:
    return sorted(name for name in os.listdir(path.parent) if not name.endswith(".lock"))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    held=st.dictionaries(st.integers(0, 2**32 - 1), attempts, max_size=3),
    head=st.none() | heads,
    settlement=st.none() | heads,
)
def test_what_is_saved_is_what_is_opened(tmp_path_factory, held, head, settlement):
    path = tmp_path_factory.mktemp("k") / "k"
    binding = Binding(b"\x01" * 20, b"\x02" * 32, 3)
    with Keystore.create(path, "a passphrase", cost=LIGHT) as store:
        store.attempts, store.head, store.settlement, store.binding = held, head, settlement, binding
        store.save()
    with Keystore.open(path, "a passphrase") as again:
        assert (again.attempts, again.head, again.settlement, again.binding) == (held, head, settlement, binding)
        assert again.account.key == store.account.key


def test_the_file_is_for_its_owner_alone_and_shows_no_secret(path):
    account = Account.create()
    with Keystore.create(path, "pass", account, cost=LIGHT) as store:
        store.attempts[0] = Attempt(TrusteeSecret(1, 5, [6]), {1: b"body"})
        store.save()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert bytes(account.key).hex().encode() not in path.read_bytes() and bytes(account.key) not in path.read_bytes()
    assert files(path) == [path.name]


def test_a_wrong_passphrase_says_so_and_changes_nothing(path):
    Keystore.create(path, "right", cost=LIGHT).close()
    before, times = path.read_bytes(), path.stat().st_mtime_ns
    with pytest.raises(WrongPassphrase, match="the passphrase is wrong"):
        Keystore.open(path, "wrong")
    assert (path.read_bytes(), path.stat().st_mtime_ns) == (before, times)
    Keystore.open(path, "right").close()


def test_an_empty_passphrase_is_refused(path):
    with pytest.raises(WrongPassphrase, match="empty"):
        Keystore.create(path, "", cost=LIGHT)
    assert not path.exists()


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_a_flipped_bit_anywhere_is_refused(tmp_path_factory, place, bit):
    path = tmp_path_factory.mktemp("k") / "k"
    Keystore.create(path, "pass", cost=LIGHT).close()
    data = bytearray(path.read_bytes())
    data[place % len(data)] ^= 1 << bit
    path.write_bytes(data)
    with pytest.raises(BallotboardError):
        Keystore.open(path, "pass")


def test_a_lowered_cost_in_the_header_does_not_open(path):
    from chain.sealed import Cost

    Keystore.create(path, "pass", cost=Cost(2, LIGHT.memory)).close()
    data = path.read_bytes()
    assert b'"operations":2' in data
    path.write_bytes(data.replace(b'"operations":2', b'"operations":1', 1))
    with pytest.raises(WrongPassphrase):
        Keystore.open(path, "pass")


def test_a_header_that_asks_for_too_much_memory_is_refused_before_it_is_spent(path):
    Keystore.create(path, "pass", cost=LIGHT).close()
    data = path.read_bytes()
    path.write_bytes(data.replace(b'"memory":8192', b'"memory":8192000000000', 1))
    with pytest.raises(BallotboardError, match="more or less work"):
        Keystore.open(path, "pass")


def test_a_keystore_is_never_overwritten(path):
    Keystore.create(path, "pass", cost=LIGHT).close()
    before = path.read_bytes()
    with pytest.raises(KeystoreError, match="exists"):
        Keystore.create(path, "pass", cost=LIGHT)
    assert path.read_bytes() == before


def test_a_missing_keystore_says_so(path):
    with pytest.raises(KeystoreError, match="cannot read the keystore"):
        Keystore.open(path, "pass")
    assert files(path) == []


def test_a_second_process_may_read_it_and_not_write_it(path):
    with Keystore.create(path, "pass", cost=LIGHT) as store:
        with pytest.raises(KeystoreError, match="in use"):
            Keystore.open(path, "pass")
        reader = Keystore.open(path, "pass", write=False)
        with pytest.raises(KeystoreError, match="reading only"):
            reader.save()
        store.save()
    Keystore.open(path, "pass").close()


def test_the_lock_of_a_killed_process_is_gone(path):
    Keystore.create(path, "pass", cost=LIGHT).close()
    script = (
        "import os, signal, sys; from pathlib import Path; from trustee.keystore import Keystore\n"
        "Keystore.open(Path(sys.argv[1]), 'pass'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", script, path], cwd=Path(__file__).parents[2]).returncode == -9
    Keystore.open(path, "pass").close()


@pytest.mark.parametrize("call", ["write", "fsync", "replace"])
def test_a_process_killed_during_a_save_leaves_the_old_keystore_or_the_new(path, call):
    Keystore.create(path, "pass", cost=LIGHT).close()
    script = f"""
import os, signal, sys
from pathlib import Path
from protocol.records import LogHead
from trustee import keystore
store = keystore.Keystore.open(Path(sys.argv[1]), "pass")
store.head = LogHead(7, bytes(32))
def die(*arguments, **options):
    os.kill(os.getpid(), signal.SIGKILL)
if {call!r} == "write":
    fdopen = os.fdopen
    class Half:
        def __init__(self, *a): self.file = fdopen(*a)
        def __enter__(self): return self
        def __exit__(self, *a): pass
        def write(self, data):
            self.file.write(data[: len(data) // 2]); self.file.flush(); die()
    os.fdopen = Half
else:
    setattr(os, {call!r}, die)
store.save()
"""
    assert subprocess.run([sys.executable, "-c", script, path], cwd=Path(__file__).parents[2]).returncode == -9
    with Keystore.open(path, "pass") as store:
        assert store.head is None
        store.head = LogHead(8, bytes(32))
        store.save()  # what the dead writer left beside it is no obstacle
    assert files(path) == [path.name]


def test_a_save_that_fails_keeps_the_old_keystore(path, monkeypatch):
    with Keystore.create(path, "pass", cost=LIGHT) as store:
        before = path.read_bytes()

        def full(handle: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(keystore.os, "fsync", full)
        with pytest.raises(KeystoreError, match="No space left"):
            store.save()
        assert path.read_bytes() == before


def test_a_backup_opens_like_the_keystore_and_is_never_overwritten(path, tmp_path):
    with Keystore.create(path, "pass", cost=LIGHT) as store:
        store.attempts[0] = Attempt(TrusteeSecret(1, 5, [6]), {1: b"body"})
        store.save()
        store.backup(tmp_path / "copy")
        with pytest.raises(KeystoreError, match="exists"):
            store.backup(tmp_path / "copy")
    with Keystore.open(tmp_path / "copy", "pass") as copy:
        assert copy.attempts == store.attempts and copy.account.key == store.account.key
