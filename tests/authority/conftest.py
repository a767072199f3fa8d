from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from eth_account import Account

from chain.anvil import Anvil
from chain.console import PASSPHRASE_VARIABLE
from scripts.cli import main
from tests.authority.commands import Run
from tests.authority.world import PLAN, World


@pytest.fixture(scope="session")
def chain() -> Iterator[Anvil]:
    """One anvil for the session that mines each transaction at once. Its time only goes forward; elections take their windows from it."""
    with Anvil(block_time=0) as running:
        yield running


@pytest.fixture
def make_world(chain: Anvil, tmp_path: Path) -> Callable[..., World]:
    return lambda plan=PLAN: World(chain, tmp_path, plan)


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    """A published election: no ceremony and no roll yet."""
    return make_world()


@pytest.fixture
def polling(world: World) -> World:
    """An election whose poll is open, with six voters and no ballot."""
    world.ceremony()
    world.publish_roll()
    world.open_poll()
    return world


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Runs `ballotboard WORDS` in an empty folder; gives (exit status, standard output, standard error)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(PASSPHRASE_VARIABLE, "secret")

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["ballotboard", *map(str, words)])
        status = 0
        try:
            main()
        except SystemExit as end:
            status = int(end.code or 0)
        return status, *capsys.readouterr()

    return run


@pytest.fixture
def quick_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Key files are made as weak as a file may be: with care, making or opening one takes most of a second."""
    monkeypatch.setattr(Account, "encrypt", partial(Account.encrypt, kdf="pbkdf2", iterations=2))
