"""The roll-up beside the record: from a settled election on a node to sums that are those which the verifier recomputes."""

import json

import pytest

from chain.sealed import LIGHT
from protocol.errors import BallotboardError
from protocol.group import base
from protocol.records import unpack_bodies
from rollup import keys
from rollup.cli import _read_keys
from scripts.bench._held import held
from tests.rollup import world
from tests.rollup.test_server import run


@pytest.mark.e2e
def test_the_sums_of_a_settled_election_s_ballots_are_those_of_its_record(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("BALLOTBOARD_PASSPHRASE", "for the tests")
    monkeypatch.setattr(keys.create, "__defaults__", (LIGHT,))
    folder, key, lines = tmp_path / "rollup", tmp_path / "city.key", tmp_path / "keys.csv"
    lines.write_text(run(capsys, "key", key, "--units", "0"))
    with held(12) as node:
        board = ["--rpc", node.rpc, "--contract", node.contract]
        made = json.loads(run(capsys, "plan", folder, "--keys", lines, *board, "--json"))
        assert made["units"] == 1
        assert json.loads(run(capsys, "ballots", folder, *board, "--json")) == {"ballots": 12, "units": 1}
        assert len(unpack_bodies((folder / "0" / "counted.ballots").read_bytes())) == 12
        counted = json.loads(run(capsys, "run", folder, "--key", key, "--unit", 0, "--json"))
        assert counted["ballots"] == {"q": 12} and counted["refused"] == {}
        checked = json.loads(run(capsys, "check", folder, "--unit", 0, *board, "--json"))
        assert checked == {"verified": True, "checked": 1, "record": [], "problems": []}
        assert json.loads(run(capsys, "check", folder, "--logs", *board, "--json")) == checked
        assert "what there is to check is its log" in run(capsys, "check", folder, *board, status=2)
        # A unit that leaves one ballot out and signs what it has: its own files are in order, the record is not.
        for name in ("log", "checkpoint"):
            (folder / "0" / name).unlink()
        packed = (folder / "0" / "counted.ballots").read_bytes()
        (folder / "0" / "counted.ballots").write_bytes(packed[: 11 * (2 + 349)])
        run(capsys, "run", folder, "--key", key, "--unit", 0)
        assert json.loads(run(capsys, "check", folder, "--unit", 0, "--json"))["verified"]
        checked = json.loads(run(capsys, "check", folder, "--unit", 0, *board, "--json", status=1))
        assert checked["problems"] == [] and checked["record"] == ["contest 0: group 0 is another"]
        world.plan().save(tmp_path / "another")
        wrong = run(capsys, "ballots", tmp_path / "another", *board, status=2)
        assert wrong == "the plan is of another election than the record"
    assert "is a leaf" in run(capsys, "run", folder, "--key", key, status=2)


def test_a_list_of_keys_says_which_line_is_wrong(tmp_path):
    path = tmp_path / "keys.csv"
    public = [base(5), base(6)]
    good = [f"{unit},{key.hex()}" for unit, key in enumerate(public)]
    path.write_text("\n".join(good))
    assert _read_keys(path, 2) == b"".join(public)
    for lines, reason in (
        ([*good, "2," + base(7).hex()], "line 3: expected"), ([good[0]], "no key for 1 units"), ([*good, good[0]], "line 3: unit 0 has a key"),
        ([good[0], "1,xy"], "line 2: expected 32 bytes"), ([good[0], "one"], "line 2: expected"), ([good[0], "1," + "ff" * 32], "line 2: not the canonical"),
    ):  # fmt: skip
        path.write_text("\n".join(lines))
        with pytest.raises(BallotboardError, match=reason):
            _read_keys(path, 2)
