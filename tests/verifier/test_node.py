"""An archive stands for the chain that it was made of: the same bytes again, and the same report as from the node."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from chain.anvil import Anvil
from chain.rpc import call
from protocol.errors import BallotboardError
from tests.tamper.builder import hold, prepared, preparing
from tests.tamper.on_chain import START, ChainElection
from verifier.archive_cli import app
from verifier.cli import app as verify_app
from verifier.node import NodeSource
from verifier.stored import ArchiveSource

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def held() -> Iterator[ChainElection]:
    with Anvil(block_time=0, timestamp=START) as anvil:
        election = prepared(ChainElection(anvil))
        with preparing(election.copy):
            hold()
        yield election


def run(command: Any, *arguments: object) -> Any:
    return CliRunner().invoke(command, [*map(str, arguments)])


def where(held: ChainElection) -> list[str]:
    return ["--rpc", held.anvil.url, "--contract", "0x" + held.contract.hex()]


def report(*arguments: object) -> dict[str, Any]:
    found = run(verify_app, "tally", *arguments, "--json")
    assert found.exit_code == 0, found.stdout
    return {name: value for name, value in json.loads(found.stdout).items() if name != "seconds"}


def test_the_report_from_the_archive_is_the_report_from_the_node(held: ChainElection, tmp_path: Path) -> None:
    one, other = tmp_path / "one.archive", tmp_path / "other.archive"
    made = run(app, "make", one, *where(held), "--json")
    assert made.exit_code == 0 and json.loads(made.stdout)["ok"], made.output
    election = ["--election", held.manifest.election_id.hex()]
    assert report(one, *election) == report(*where(held), *election)
    # what happens on the chain beside the record changes no byte
    call(held.web3, "anvil_mine", hex(5))
    assert run(app, "make", other, *where(held)).exit_code == 0
    assert one.read_bytes() == other.read_bytes()


def test_an_archive_that_is_there_is_not_written_over(held: ChainElection, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"mine")
    assert "is there already" in str(run(app, "make", path, *where(held)).exception)
    assert path.read_bytes() == b"mine" and list(tmp_path.iterdir()) == [path]


def test_nothing_is_left_where_the_node_does_not_answer(tmp_path: Path) -> None:
    found = run(app, "make", tmp_path / "a", "--rpc", "http://127.0.0.1:1", "--contract", "0x" + "00" * 20)
    assert isinstance(found.exception, BallotboardError)
    assert not list(tmp_path.iterdir())


def test_claims_of_the_node_and_of_its_archive_are_the_same(held: ChainElection, tmp_path: Path) -> None:
    node = NodeSource(held.anvil.url, "0x" + held.contract.hex())
    claims = node.read()
    with (tmp_path / "a").open("wb") as file:
        digest = node.write(file)
    source = ArchiveSource(tmp_path / "a")
    found = source.read()
    assert digest == source.record_digest == node.record_digest
    assert list(found.records) == list(claims.records) and list(found.blocks) == list(claims.blocks)
    assert (found.head, list(found.roots), found.creation) == (claims.head, list(claims.roots), claims.creation)
