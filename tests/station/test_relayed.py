"""Stations without gas money: what two officers signed goes through a real relayer process, and what the board refuses of it holds nothing else up."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from chain.carrier import Carrier
from chain.console import Connection
from chain.rpc import checksummed
from station import actions, courier
from station.cli import app
from tests.relayer.test_faults import QUICK
from tests.relayer.world import Process, relayer_folder
from tests.station.world import kinds, signed, start, until_counted

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


def test_through_a_relayer_too_a_late_check_in_batch_does_not_hold_up_the_result(
    board, place, tmp_path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    board.chain.fund([officer.address for group in board.officers for officer in group], 0)
    with start(board, tmp_path / "school-1", 1) as other:
        for one in (place, other):
            until_counted(board, one)
            signed(board, one)
        board.chain.advance_to(board.manifest.windows.settle_not_before)
        Path("school-1.pack").write_bytes(courier.pack(other).body())
    folder = relayer_folder(tmp_path / "relayer", board.accounts["relayer"], board.promise_key)
    where = Connection(board.chain.url, checksummed(board.board.address))
    where.save(Path("board.json"))

    def carry(*arguments: str) -> tuple[int, dict]:
        done = CliRunner().invoke(app, ["carry", "school-1.pack", "--json", *arguments])
        return done.exit_code, json.loads(done.stdout)

    with Process(folder, tmp_path / "board.json", **QUICK) as relayer:
        outcome = actions.sync(place, board.board, Carrier(board.chain.web3, board.board.address, [relayer.url]))
        assert "NOT check-in batch 0 (the board refuses with TooLate" in outcome.did
        assert outcome.data["refused"] == "TooLate" and kinds(board) == [6, 7]
        code, data = carry("--relayer", relayer.url)
        assert code == 1 and ["TooLate" in why for why in data["refused"]] == [True] and data["transactions"] == 2
        where.relayers = [relayer.url]
        where.save(Path("board.json"))
        assert carry()[1]["refused"] == data["refused"] and kinds(board) == [6, 7, 6, 7]  # twice does no harm
