"""Backups of an operator's folder: what is in them, what never is, and what makes one not open."""

from __future__ import annotations

import json
import socket
import stat
import tarfile
from pathlib import Path

import pytest

from chain.errors import ChainError
from chain.network import backup as archive
from chain.network import operator
from chain.network.backup import NEVER, STATE, backup, is_restored, rejoin, restore, write_signing_state
from chain.network.genesis import Network
from chain.network.node import Node, join
from chain.network.operator import KEY_FILES, Ports
from chain.process import free_port
from chain.sealed import LIGHT, Cost, WrongPassphrase, open_box, take_header

PASSPHRASE = "correct horse"


@pytest.fixture(scope="module")
def made(binaries, tmp_path_factory) -> Path:
    """A folder of a network of one, which has signed up to height 41."""
    home = tmp_path_factory.mktemp("made") / "node"
    ports = Ports(free_port(), free_port(), free_port(), free_port())
    own = operator.init(home, "archives", "127.0.0.1", free_port(), free_port(), ports)
    join(home, Network.build(5, 1_800_000_000, [(own, 1)], []))
    write_signing_state(home, 41)
    (home / "data/cs.wal").mkdir()
    (home / "data/cs.wal/wal").write_bytes(b"what was going to be signed")
    (home / "data/state.db").mkdir()
    (home / "data/state.db/000001.log").write_bytes(bytes(range(256)) * 100)
    return home


@pytest.fixture
def home(made, monkeypatch) -> Path:
    monkeypatch.setattr(archive, "PIECE", 8192)  # a few pieces instead of one or two
    return made


def names(path: Path) -> set[str]:
    with path.open("rb") as file:
        header = take_header(file.readline(), archive.FORMAT, "test")
        unsealed = archive._Unsealed(file, open_box(header, PASSPHRASE, "test"), path)
        with tarfile.open(fileobj=unsealed, mode="r|") as tar:
            return {member.name for member in tar}


def test_a_restored_folder_has_all_keys_and_may_sign_at_no_height(home, tmp_path):
    backup(home, tmp_path / "b", PASSPHRASE, cost=LIGHT)
    node = restore(tmp_path / "b", tmp_path / "deep" / "new", PASSPHRASE)
    for name in (*KEY_FILES, "operator.json", "ports.json", "network.json", "data/state.db/000001.log"):
        assert (node.home / name).read_bytes() == (home / name).read_bytes()
    assert all(stat.S_IMODE((node.home / name).stat().st_mode) == 0o600 for name in (*KEY_FILES, STATE))
    assert stat.S_IMODE(node.home.stat().st_mode) == 0o700
    assert json.loads((node.home / STATE).read_text())["height"] == str(NEVER)
    assert is_restored(node.home) and not is_restored(home)
    assert Node(node.home).network == Node(home).network


def test_what_was_signed_last_is_not_in_a_backup(home, tmp_path):
    backup(home, tmp_path / "b", PASSPHRASE, cost=LIGHT)
    found = names(tmp_path / "b")
    assert {*archive.FILES, "data/state.db/000001.log"} < found
    assert any(name.startswith("geth/geth/chaindata/") for name in found)
    assert not [name for name in found if "priv_validator_state" in name or "wal" in name or "logs" in name]


def test_keys_only_leaves_the_chain_out_and_needs_no_stopped_node(home, tmp_path):
    with socket.create_server(("127.0.0.1", Node(home).ports.comet)):
        with pytest.raises(ChainError, match="runs: stop it first"):
            backup(home, tmp_path / "b", PASSPHRASE, cost=LIGHT)
        assert not (tmp_path / "b").exists()
        backup(home, tmp_path / "b", PASSPHRASE, keys_only=True, cost=LIGHT)
    assert names(tmp_path / "b") == set(archive.FILES)
    assert is_restored(restore(tmp_path / "b", tmp_path / "new", PASSPHRASE).home)


def test_a_file_is_not_overwritten(home, tmp_path):
    (tmp_path / "b").write_text("mine")
    with pytest.raises(ChainError, match="exists and is not overwritten"):
        backup(home, tmp_path / "b", PASSPHRASE, cost=LIGHT)
    assert (tmp_path / "b").read_text() == "mine"


def test_a_folder_that_holds_anything_is_not_touched(home, tmp_path):
    backup(home, tmp_path / "b", PASSPHRASE, keys_only=True, cost=LIGHT)
    (tmp_path / "new").mkdir()
    (tmp_path / "new/mine").write_text("mine")
    with pytest.raises(ChainError, match="is not empty and is not overwritten"):
        restore(tmp_path / "b", tmp_path / "new", PASSPHRASE)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["b", "mine", "new"]


def damaged(whole: bytes) -> dict[str, bytes]:
    """Backups that differ from a good one in one thing. A piece takes 8,192 bytes and 16 of its tag, after the header line."""
    start, piece = whole.index(b"\n") + 1, 8192 + 16
    header, pieces = whole[:start], [whole[at : at + piece] for at in range(start, len(whole), piece)]
    assert len(pieces) > 3
    return {
        "a flipped bit": whole[:-1] + bytes([whole[-1] ^ 1]),
        "another salt": header[:-5] + (b"00" if header[-5:-3] != b"00" else b"11") + header[-3:] + whole[start:],
        "a lower cost": header.replace(b'"operations":2', b'"operations":1') + whole[start:],
        "the last piece cut off": header + b"".join(pieces[:-1]),
        "half a piece cut off": whole[: -len(pieces[-1]) // 2],
        "a piece left out": header + b"".join(pieces[:1] + pieces[2:]),
        "two pieces exchanged": header + b"".join([pieces[1], pieces[0], *pieces[2:]]),
        "a piece twice": header + b"".join(pieces + pieces[-1:]),
        "nothing after the header": header,
    }


@pytest.mark.parametrize("what", damaged(b"\n" + bytes(40_000)))
def test_a_changed_backup_does_not_open_and_leaves_nothing(home, tmp_path, what):
    backup(home, tmp_path / "b", PASSPHRASE, cost=Cost(2, LIGHT.memory))
    (tmp_path / "b").write_bytes(damaged((tmp_path / "b").read_bytes())[what])
    with pytest.raises(WrongPassphrase, match="does not open: the passphrase is wrong, or the file was damaged"):
        restore(tmp_path / "b", tmp_path / "new", PASSPHRASE)
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_another_passphrase_does_not_open_it(home, tmp_path):
    backup(home, tmp_path / "b", PASSPHRASE, cost=LIGHT)
    with pytest.raises(WrongPassphrase, match="does not open"):
        restore(tmp_path / "b", tmp_path / "new", PASSPHRASE + "s")
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_only_a_restored_node_rejoins(home):
    with pytest.raises(ChainError, match="does not come from a backup"):
        rejoin(home)
    assert json.loads((home / STATE).read_text())["height"] == "41"
