"""The operator's folder and the network file: what they hold, and what is refused before anything is written."""

from __future__ import annotations

import base64
import json
import socket
from dataclasses import replace
from pathlib import Path

import pytest
from nacl.signing import SigningKey

from chain import comet
from chain.errors import ChainError
from chain.network import operator
from chain.network.genesis import Network, comet_genesis, evm_genesis, evm_genesis_hash
from chain.network.node import Node, join
from chain.network.operator import KEY_FILES, Operator
from protocol.encoding import canonical_json
from protocol.errors import Malformed

TIME = 1_800_000_000


def make(home: Path, count: int = 4) -> list[Operator]:
    return [
        operator.init(home / f"o{number}", f"o{number}", "127.0.0.1", 20_000 + number, 21_000 + number)
        for number in range(count)
    ]


def network(operators: list[Operator], chain_id: int = 77_001) -> Network:
    return Network.build(chain_id, TIME, [(each, 1) for each in operators], [b"\1" * 20])


# ---------------------------------------------------------------- an operator


def test_keys_are_fresh_and_for_their_owner_only(tmp_path):
    a, b = make(tmp_path, 2)
    assert {a.validator_key, a.node_id, a.execution_key}.isdisjoint({b.validator_key, b.node_id, b.execution_key})
    for path in KEY_FILES:
        assert (tmp_path / "o0" / path).stat().st_mode & 0o777 == 0o600
        assert (tmp_path / "o0" / path).read_bytes() != (tmp_path / "o1" / path).read_bytes()
    assert (tmp_path / "o0").stat().st_mode & 0o777 == 0o700
    assert operator.load(tmp_path / "o0")[0] == a


def test_the_public_file_holds_no_secret(tmp_path):
    [made] = make(tmp_path, 1)
    public = (tmp_path / "o0/operator.json").read_text()
    assert Operator.of(json.loads(public)) == made
    key = json.loads((tmp_path / "o0/config/priv_validator_key.json").read_text())
    assert key["priv_key"]["value"] not in public
    assert all((tmp_path / "o0" / path).read_text() not in public for path in ("jwt.hex", "geth/geth/nodekey"))


def test_the_keys_are_those_that_the_public_file_names(tmp_path):
    [made] = make(tmp_path, 1)
    for path, expected in (("priv_validator_key", made.validator_key), ("node_key", None)):
        secret = base64.b64decode(json.loads((tmp_path / f"o0/config/{path}.json").read_text())["priv_key"]["value"])
        public = bytes(SigningKey(secret[:32]).verify_key)
        assert secret[32:] == public and (public == expected or comet.address(public) == made.node_id)


def test_keys_are_never_overwritten(tmp_path):
    make(tmp_path, 1)
    before = {path: (tmp_path / "o0" / path).read_bytes() for path in KEY_FILES}
    with pytest.raises(ChainError, match="holds an operator's keys already"):
        make(tmp_path, 1)
    assert before == {path: (tmp_path / "o0" / path).read_bytes() for path in KEY_FILES}


def test_a_folder_with_another_validators_key_is_refused(tmp_path):
    make(tmp_path, 2)
    (tmp_path / "o1/config/priv_validator_key.json").rename(tmp_path / "o0/config/priv_validator_key.json")
    with pytest.raises(ChainError, match="another validator's key"):
        operator.load(tmp_path / "o0")


def test_a_folder_that_lost_a_key_is_refused(tmp_path):
    make(tmp_path, 1)
    (tmp_path / "o0/config/node_key.json").unlink()
    with pytest.raises(ChainError, match=r"lacks config/node_key\.json"):
        operator.load(tmp_path / "o0")


@pytest.mark.parametrize("name", ["", "two words", "a,b", "a@b", "a/b", 'a"b'])
def test_a_name_that_would_break_a_list_is_refused(tmp_path, name):
    with pytest.raises(Malformed, match=r"operator\.name"):
        operator.init(tmp_path / "o", name, "127.0.0.1")
    assert not (tmp_path / "o").exists()


# ---------------------------------------------------------------- the network file


def test_a_network_is_read_back_to_itself(tmp_path):
    made = network(make(tmp_path))
    assert Network.parse(made.body) == made


@pytest.mark.parametrize("same", ["name", "validator_key", "node_id", "execution_key"])
def test_two_validators_that_share_something_are_refused(tmp_path, same):
    operators = make(tmp_path)
    operators[3] = replace(operators[3], **{same: getattr(operators[0], same)})
    with pytest.raises(Malformed, match="two of them have the same " + same.replace("_", " ")):
        network(operators)


@pytest.mark.parametrize("port", ["consensus_port", "execution_port"])
def test_two_validators_at_one_address_are_refused(tmp_path, port):
    operators = make(tmp_path)
    operators[3] = replace(operators[3], **{port: getattr(operators[0], port)})
    with pytest.raises(Malformed, match=f"two of them have the same {port[:-5]} address"):
        network(operators)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda v: v.update(format="x"), "network.format"),
        (lambda v: v.update(validators=[]), "needs at least one"),
        (lambda v: v["validators"][0].update(power=0), r"validators\[0\].power"),
        (lambda v: v.update(chain_id=0), "must be positive"),
        (lambda v: v.update(accounts=["01" * 20, "01" * 20]), "distinct and ascending"),
        (lambda v: v["validators"][1]["operator"].update(consensus_port=70_000), "consensus_port"),
        (lambda v: v.update(extra=1), "unexpected"),
    ],
)
def test_a_malformed_network_file_is_refused_by_name(tmp_path, change, says):
    value = json.loads(network(make(tmp_path)).body)
    change(value)
    with pytest.raises(Malformed, match=says):
        Network.parse(canonical_json(value))


def test_the_first_blocks_hash_depends_on_everything_in_the_file(tmp_path):
    operators = make(tmp_path)
    base = network(operators)
    others = [
        replace(base, chain_id=77_002),
        replace(base, time=TIME + 1),
        replace(base, accounts=(b"\2" * 20,)),
        replace(base, validators=tuple((o, 2) for o, _ in base.validators)),
        replace(base, validators=base.validators[:3]),
    ]
    assert len({evm_genesis_hash(each) for each in (base, *others)}) == len(others) + 1


def test_cometbfts_genesis_names_the_first_block_and_the_set(tmp_path):
    made = network(make(tmp_path))
    genesis = comet_genesis(made)
    assert genesis["app_state"]["evm_genesis"] == "0x" + evm_genesis_hash(made).hex()
    assert genesis["chain_id"] == "ballotboard-77001"
    assert [v["name"] for v in genesis["validators"]] == ["o0", "o1", "o2", "o3"]
    assert evm_genesis(made)["extraData"] == "0x" + made.id.hex()


# ---------------------------------------------------------------- joining


def test_a_network_that_does_not_list_the_operator_is_refused(tmp_path):
    operators = make(tmp_path)
    with pytest.raises(ChainError, match="does not list o3"):
        join(tmp_path / "o3", network(operators[:3]))
    assert not (tmp_path / "o3/network.json").exists() and not (tmp_path / "o3/config/genesis.json").exists()


def test_a_network_that_lists_another_key_or_address_is_refused(tmp_path):
    operators = make(tmp_path)
    for change in ({"validator_key": bytes(32)}, {"host": "192.0.2.1"}):
        with pytest.raises(ChainError, match="does not list o0"):
            join(tmp_path / "o0", network([replace(operators[0], **change), *operators[1:]]))


def test_a_folder_of_another_network_is_refused(tmp_path, binaries):
    operators = make(tmp_path)
    join(tmp_path / "o0", network(operators))
    join(tmp_path / "o0", network(operators))  # again: nothing to do
    before = sorted((path, path.read_bytes()) for path in (tmp_path / "o0").rglob("*") if path.is_file())
    with pytest.raises(ChainError, match="wrong genesis"):
        join(tmp_path / "o0", network(operators, chain_id=77_002))
    assert before == sorted((path, path.read_bytes()) for path in (tmp_path / "o0").rglob("*") if path.is_file())


def test_a_node_without_a_network_says_how_to_get_one(tmp_path):
    make(tmp_path, 1)
    with pytest.raises(ChainError, match="start it with --network"):
        Node(tmp_path / "o0")


def test_a_node_whose_port_is_in_use_says_which(tmp_path, binaries):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ports = operator.Ports(engine=taken.getsockname()[1])
        made = operator.init(tmp_path / "o", "o", "127.0.0.1", ports=ports)
        join(tmp_path / "o", network([made]))
        node = Node(tmp_path / "o")
        with pytest.raises(ChainError, match=f"port {taken.getsockname()[1]} is in use"):
            node.start()
    assert node.processes == {"geth": None, "validator": None}


def program(path: Path, script: str) -> str:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("says", "error"), [("Version: 1.13.15-stable", "geth 1.13.15 is too old"), ("bottles of beer: 99", "is no geth")]
)
def test_an_execution_client_that_is_too_old_is_refused_before_anything_is_written(tmp_path, monkeypatch, says, error):
    [made] = make(tmp_path, 1)
    monkeypatch.setenv("BALLOTBOARD_GETH", program(tmp_path / "geth", f"echo '{says}'"))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ChainError, match=error):
        join(tmp_path / "o0", network([made]))
    assert sorted(tmp_path.rglob("*")) == before


def test_a_validator_that_has_diverged_is_not_restarted(tmp_path, monkeypatch, binaries):
    [made] = make(tmp_path, 1)
    join(tmp_path / "o0", network([made]))
    node = Node(tmp_path / "o0")
    for status, again in ((1, True), (3, False)):
        monkeypatch.setenv("BALLOTBOARD_VALIDATOR", program(tmp_path / "validator", f"exit {status}"))
        node._pause["validator"] = 0.0
        node.start_process("validator")
        first = node.processes["validator"]
        first.wait()
        if again:
            node.tend()
            assert node.processes["validator"] is not first
            node.processes["validator"].wait()
        else:
            with pytest.raises(ChainError, match="refuses a block that the others decided"):
                node.tend()
            assert node.processes["validator"] is first
