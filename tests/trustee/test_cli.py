"""`ballotboard trustee` as people run it: a process for each trustee, at the same time, with nothing between them but the chain."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import pytest

from chain.anvil import Anvil
from chain.console import Connection
from chain.log import read_log
from chain.rpc import call
from chain.sealed import LIGHT
from protocol import election
from protocol.encoding import parse_json
from protocol.records import Kind
from scripts.cli import main
from tests.trustee.boards import Election, publish, quick_key
from trustee.keystore import Keystore

pytestmark = pytest.mark.e2e

PASSPHRASE = "correct horse battery staple"
PATIENCE = 120
"""Seconds for a process that shares two cores with everybody."""


@pytest.fixture
def desk(tmp_path) -> Path:
    """A folder with a passphrase file."""
    (tmp_path / "pass").write_text(PASSPHRASE + "\n")
    return tmp_path


def start(desk: Path, *arguments: str, script: str = "", group: str = "trustee") -> subprocess.Popen[str]:
    """A command of the trustee's in a process of its own, or of `script`, which is a program that takes the same arguments."""
    program = ["-c", script] if script else ["-m", "scripts.cli", group]
    command = [sys.executable, *program, *arguments, "--passphrase-file", "pass"]
    path = {"PYTHONPATH": str(Path(__file__).parents[2]), "PATH": "/usr/bin:/bin", "HOME": str(desk)}
    return subprocess.Popen(command, cwd=desk, env=path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run(desk: Path, *arguments: str, status: int = 0) -> tuple[str, str]:
    process = start(desk, *arguments)
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == status, err
    return out, err


def publish_to(desk: Path, chain: Anvil, trustees: int = 3, threshold: int = 2) -> Election:
    board = publish(chain, trustees, threshold, stations=0)
    Connection(chain.url, "0x" + board.board.address.hex()).save(desk / "board.json")
    for j, account in enumerate(board.trustees, 1):
        quick_key(desk / f"{j}.key", account, PASSPHRASE)
    return board


def test_three_people_in_three_places_make_a_key_and_two_of_them_decrypt(desk):
    with Anvil(block_time=0.5) as chain:
        board = publish_to(desk, chain)
        for j in (1, 2, 3):
            out, _ = run(desk, "init", "--keystore", f"{j}.keystore", "--from-key", f"{j}.key")
            assert out.strip() == board.trustees[j - 1].address
        watching = [start(desk, "next", "--watch", "--keystore", f"{j}.keystore") for j in (1, 2, 3)]
        for process in watching:
            _, err = process.communicate(timeout=PATIENCE)
            assert process.returncode == 0 and "the key is confirmed" in err, err
        run(desk, "backup", "copy.keystore", "--keystore", "3.keystore")
        out, _ = run(desk, "status", "--keystore", "copy.keystore", "--json")
        value = json.loads(out)
        assert [entry["done"] for entry in value["rounds"]] == [[1, 2, 3]] * 3 and value["trustee"] == 3
        log = read_log(chain.web3, board.board.address)
        assert value["key"] == election.read_ceremony(log.manifest, log.records)[1].key.hex()

        board.record_roll(2)
        board.open()
        board.vote([0, 0, 1, 2])
        board.settle()
        chain.advance_to(board.manifest.windows.decrypt_not_before)
        decrypting = [start(desk, "decrypt", "--keystore", name) for name in ("1.keystore", "copy.keystore")]
        for process in decrypting:
            _, err = process.communicate(timeout=PATIENCE)
            assert process.returncode == 0 and "4 counted ballots" in err, err
        out, _ = run(desk, "status", "--keystore", "1.keystore")
        assert "next: your shares are on the record" in out

        log = read_log(chain.web3, board.board.address)
        opened = log.open()
        ballots = election.of_kind(log.records, Kind.BALLOT)
        settled = election.settle(opened, log.records, election.verify_ballots(opened, opened.roll, ballots))
        assert election.decrypt(settled, log.records).totals == [[[2, 0, 0], [0, 1, 1]]]


CHEAT = """
import sys
from protocol.ceremony import TrusteeSecret
from protocol.group import ORDER
from scripts.cli import main
honest = TrusteeSecret.share_for
TrusteeSecret.share_for = lambda self, other: (honest(self, other) + (other == 3)) % ORDER
sys.argv = ["ballotboard", "trustee", *sys.argv[1:]]
main()
"""
"""A trustee whose program deals a wrong share to trustee 3."""


@pytest.mark.slow
def test_a_malicious_trustee_is_proven_and_named_to_everybody(desk):
    with Anvil(block_time=0.5) as chain:
        board = publish_to(desk, chain)
        for j, account in enumerate(board.trustees, 1):
            Keystore.create(desk / f"{j}.keystore", PASSPHRASE, account, LIGHT).close()
        watching = [start(desk, "next", "--watch", "--keystore", f"{j}.keystore") for j in (2, 3)]
        watching.append(start(desk, "next", "--watch", "--keystore", "1.keystore", script=CHEAT))
        for process in watching:
            _, err = process.communicate(timeout=PATIENCE)
            assert process.returncode == 2
            assert "error: trustee 1 dealt a wrong share to trustee 3, as proven by its complaint" in err
        out, _ = run(desk, "status", "--keystore", "2.keystore")
        assert "attempt 0 is void: trustee 1 dealt a wrong share to trustee 3" in out


@pytest.mark.soak
@pytest.mark.parametrize(("trustees", "threshold"), [(3, 2), (4, 3), (5, 3)])
def test_every_subset_of_honest_trustees_decrypts_alike_or_stops_clearly(desk, trustees, threshold):
    """Every trustee is a process of its own; the others of a subset have lost their laptops."""
    with Anvil(block_time=0.5) as chain:
        board = publish_to(desk, chain, trustees, threshold)
        quick_key(desk / "authority.key", board.accounts["authority"], PASSPHRASE)
        for j, account in enumerate(board.trustees, 1):
            Keystore.create(desk / f"{j}.keystore", PASSPHRASE, account, LIGHT).close()
        everybody = range(1, trustees + 1)
        for process in [start(desk, "next", "--watch", "--keystore", f"{j}.keystore") for j in everybody]:
            assert process.communicate(timeout=PATIENCE) and process.returncode == 0
        board.record_roll(2)
        board.open()
        board.vote([0, 0, 1, 2])
        board.settle()
        chain.advance_to(board.manifest.windows.decrypt_not_before)
        for size in range(trustees + 1):
            for subset in combinations(everybody, size):
                before = call(chain.web3, "evm_snapshot")
                for j in subset:
                    shutil.copy(desk / f"{j}.keystore", desk / f"{j}.copy")
                for process in [start(desk, "decrypt", "--keystore", f"{j}.copy") for j in subset]:
                    _, err = process.communicate(timeout=PATIENCE)
                    assert process.returncode == 0, err
                announced = start(desk, "announce", "--key", "authority.key", group="election")
                _, err = announced.communicate(timeout=PATIENCE)
                if size < threshold:
                    assert announced.returncode == 2 and f"{size} of {threshold}" in err, (subset, err)
                else:
                    assert announced.returncode == 0, (subset, err)
                    log = read_log(chain.web3, board.board.address)
                    result = parse_json(election.only(log.records, Kind.RESULT).body or b"")
                    assert result["online"][0]["totals"] == [2, 1, 1], subset
                assert call(chain.web3, "evm_revert", before)


def test_mistakes_are_one_line_and_exit_status_2(desk, monkeypatch, capsys):
    monkeypatch.chdir(desk)

    def fails(words: str, *arguments: str) -> None:
        monkeypatch.setattr(sys, "argv", ["ballotboard", "trustee", *arguments])
        with pytest.raises(SystemExit) as end:
            main()
        err = capsys.readouterr().err
        assert end.value.code == 2 and err.startswith("error: ") and words in err and err.count("\n") == 1, err

    (desk / "wrong").write_text("wrong")
    with Anvil(block_time=0) as chain:
        board = publish_to(desk, chain)
        Keystore.create(desk / "k", PASSPHRASE, board.trustees[0], LIGHT).close()
        before = (desk / "k").read_bytes()
        mine, right = ("--keystore", "k"), ("--passphrase-file", "pass")
        fails("has not joined an election", "commit", *mine, *right)
        fails("is not overwritten", "init", *mine, *right)
        fails("cannot read the keystore", "commit", "--keystore", "none", *right)
        fails("the passphrase is wrong", "commit", *mine, "--passphrase-file", "wrong")
        fails("cannot read the passphrase file", "commit", *mine, "--passphrase-file", "none")
        fails("expected 32 bytes", "join", *mine, *right, "--election", "ab")
        fails("is not a connection file", "join", *mine, *right, "--board", "1.key")
        fails("no answer from", "join", *mine, *right, "--rpc", "http://127.0.0.1:1")
        fails("is no ballotboard/keystore/v1 file", "status", "--keystore", "board.json", *right)
        assert (desk / "k").read_bytes() == before
