"""Votes on the validator set: the contract of the genesis on a real node, by the functions that the commands use. No consensus here."""

from __future__ import annotations

import re
import time
from dataclasses import replace

import pytest
from typer.testing import CliRunner

import contracts
from chain.anvil import Anvil
from chain.cli import app
from chain.errors import ChainError
from chain.network import changes, operator
from chain.network.changes import FORCE, Change, addition, changed_topic, members, removal, vote
from chain.network.genesis import VALIDATORS, Network, validators_storage
from chain.network.node import Node, join
from chain.network.operator import ACCOUNT_KEY
from chain.rpc import call, checksummed

EMPTY = bytes(20)


class Set:
    """The contract as in a genesis, with validators of these powers."""

    def __init__(self, chain: Anvil, folder, powers) -> None:
        self.chain, self.web3, self.folder, self.made = chain, chain.web3, folder, len(powers)
        operators = [self._init(number) for number in range(self.made)]
        self.network = Network.build(chain.chain_id, 1, list(zip(operators, powers, strict=True)), [])
        self._call("anvil_setCode", "0x" + contracts.artifact("Validators").runtime_code.hex())
        for slot, value in validators_storage(self.network).items():
            self._call("anvil_setStorageAt", hex(slot), f"0x{value:064x}")
        slot = contracts.artifact("Validators").storage["round"][0]
        self._call("anvil_setStorageAt", hex(slot), "0x" + "00" * 32)
        chain.fund([each.account for each in operators])
        self.pause()

    def _init(self, number):
        return operator.init(self.folder / f"o{number}", f"o{number}", "127.0.0.1", 20_000 + number, 21_000 + number)

    def _call(self, method, *parameters):
        return call(self.web3, method, checksummed(VALIDATORS), *parameters)

    def new(self):
        self.made += 1
        return self._init(self.made - 1)

    def pause(self) -> None:
        call(self.web3, "anvil_mine", hex(FORCE))

    def key(self, number: int) -> bytes:
        return bytes.fromhex((self.folder / f"o{number}" / ACCOUNT_KEY).read_text())

    def vote(self, number: int, change: Change):
        return vote(self.web3, self.key(number), change)

    def add(self, newcomer, power: int = 1) -> Change:
        return addition(members(self.web3), newcomer, power)

    def remove(self, who: str) -> Change:
        return removal(members(self.web3), who)

    def names(self) -> dict[str, int]:
        return {member.name: member.power for member in members(self.web3)}


@pytest.fixture(scope="module")
def chain():
    with Anvil(block_time=0) as running:
        yield running


@pytest.fixture
def make(chain, tmp_path):
    before = call(chain.web3, "evm_snapshot")
    yield lambda *powers: Set(chain, tmp_path, powers)
    call(chain.web3, "evm_revert", before)


@pytest.fixture
def four(make):
    return make(1, 1, 1, 1)


def test_the_genesis_holds_the_set_of_the_network_file(four):
    assert members(four.web3) == [(o.validator_key, o.account, power, o) for o, power in four.network.validators]


def test_the_third_of_four_votes_adds_a_validator(four):
    newcomer = four.new()
    change = four.add(newcomer)
    assert [(four.vote(i, change).agreed, four.vote(i, change).in_force) for i in (0, 1)] == [(1, None), (2, None)]
    assert four.names() == {f"o{i}": 1 for i in range(4)}
    made = four.vote(2, change)
    head = int(call(four.web3, "eth_blockNumber"), 16)
    assert (made.agreed, made.total, made.in_force) == (
        3,
        4,
        head - 1 + FORCE,
    )  # the last block has the newcomer's gas money
    assert members(four.web3)[4] == (newcomer.validator_key, newcomer.account, 1, newcomer)
    assert int(call(four.web3, "eth_getBalance", checksummed(newcomer.account), "latest"), 16) > 0


def test_the_newcomer_votes_and_its_power_counts(four):
    change = four.add(four.new())
    for voter in range(3):
        four.vote(voter, change)
    leave = four.remove("o0")
    assert [four.vote(i, leave).in_force is None for i in (4, 1, 2)] == [True, True, True]  # 3 of 5 is too little
    assert four.vote(3, leave).in_force
    assert four.names() == {f"o{i}": 1 for i in (1, 2, 3, 4)}


def test_who_left_does_not_vote_any_more(four):
    leave = four.remove("o0")
    for voter in (0, 1, 2):
        four.vote(voter, leave)
    with pytest.raises(ChainError, match="is no present validator's account"):
        four.vote(0, four.remove("o1"))


def test_a_stranger_does_not_vote(four):
    newcomer = four.new()
    four.chain.fund([newcomer.account])
    with pytest.raises(ChainError, match="is no present validator's account"):
        four.vote(4, four.add(newcomer))


def test_voting_twice_does_not_count_twice(four):
    change = four.add(four.new())
    assert [four.vote(0, change).agreed for _ in range(3)] == [1, 1, 1]


def test_exactly_two_thirds_do_not_make_a_change(make):
    six = make(1, 1, 1, 1, 1, 1)
    change = six.add(six.new())
    assert [six.vote(i, change).in_force is None for i in range(4)] == [True] * 4
    assert six.vote(4, change).in_force


def test_votes_for_another_power_or_operator_are_votes_for_another_change(four):
    newcomer = four.new()
    one = four.add(newcomer)
    other = addition([], replace(newcomer, host="192.0.2.1"), 1)
    assert [four.vote(i, c).agreed for i, c in ((0, one), (1, other), (2, one._replace(account=b"\7" * 20)))] == [
        1,
        1,
        1,
    ]


def test_a_change_voids_the_votes_for_any_other(four):
    stays, leaves = four.add(four.new()), four.remove("o3")
    for voter in (0, 1):
        four.vote(voter, stays)
    for voter in (0, 1, 2):
        four.vote(voter, leaves)
    assert four.vote(2, stays).agreed == 1


def test_the_next_change_waits_until_the_last_is_in_force(make, monkeypatch):
    world = make(1, 1, 1, 20)  # the last decides alone
    first = world.vote(3, world.remove("o0")).in_force
    waited = []

    def sleep(seconds, really=time.sleep):
        if seconds == changes.POLL:  # else it is a receipt that is waited for
            waited.append(call(world.web3, "anvil_mine", "0x1"))
        really(seconds)

    monkeypatch.setattr(changes.time, "sleep", sleep)
    assert world.vote(3, world.remove("o1")).in_force == first + FORCE + 1
    assert len(waited) == FORCE


def test_a_validator_that_is_there_is_not_added(four):
    present = four.network.validators[1][0]
    with pytest.raises(ChainError, match="o1 is a validator already"):
        four.add(present)
    change = addition([], present, 1)
    for same in (change, change._replace(key=b"\7" * 32), change._replace(account=b"\7" * 20)):
        with pytest.raises(ChainError, match="AlreadyMember"):
            four.vote(0, same)


@pytest.mark.parametrize("shared", ["name", "node_id", "execution_key", "account", "host"])
def test_an_operator_that_shares_something_is_refused_before_a_vote(four, shared):
    newcomer = four.new()
    old = four.network.validators[2][0]
    changes = {shared: getattr(old, shared)} if shared != "host" else {"consensus_port": old.consensus_port}
    with pytest.raises(ChainError, match="o2 is a validator with the same"):
        four.add(replace(newcomer, **changes))


def test_who_is_not_there_is_not_removed(four):
    with pytest.raises(ChainError, match="nobody is no validator's name or key; there are o0, o1, o2, o3"):
        four.remove("nobody")
    with pytest.raises(ChainError, match="UnknownKey"):
        four.vote(0, Change(b"\7" * 32, 0, EMPTY, b""))


def test_a_validator_is_removed_by_its_key_too(four):
    key = four.network.validators[3][0].validator_key
    assert four.remove(key.hex()) == four.remove("o3") == Change(key, 0, EMPTY, b"")


@pytest.mark.parametrize(
    "wrong",
    [
        lambda c: c._replace(account=EMPTY), lambda c: c._replace(operator=b""), lambda c: c._replace(operator=b"x" * 4097),
        lambda c: c._replace(power=0),
    ],
)  # fmt: skip
def test_a_malformed_change_is_refused(four, wrong):
    with pytest.raises(ChainError, match=r"BadChange|UnknownKey"):
        four.vote(0, wrong(four.add(four.new())))


def test_a_removal_that_names_more_than_a_key_is_refused(four):
    leave = four.remove("o3")
    for more in (leave._replace(account=b"\7" * 20), leave._replace(operator=b"x")):
        with pytest.raises(ChainError, match="BadChange"):
            four.vote(0, more)


def test_a_change_of_more_than_a_third_is_refused(make):
    world = make(2, 2, 2)
    assert world.vote(0, world.add(world.new(), 2)).agreed == 2
    for change in (world.add(world.new(), 3), world.add(world.new(), 2**64 - 1)):
        with pytest.raises(ChainError, match="a third of the power, which is 6 in all"):
            world.vote(0, change)
    assert world.vote(0, world.remove("o1")).agreed == 2


@pytest.mark.parametrize("powers", [(1,), (1, 1), (5, 1)])
def test_the_last_validators_stay(make, powers):
    world = make(*powers)
    with pytest.raises(ChainError, match="TooMuch"):
        world.vote(0, world.remove("o0"))


def test_a_change_is_one_event_with_key_and_power(four):
    leave = four.remove("o2")
    for voter in range(3):
        four.vote(voter, leave)
    [log] = call(
        four.web3, "eth_getLogs", {"address": checksummed(VALIDATORS), "topics": [changed_topic()], "fromBlock": "0x0"}
    )
    assert (log["topics"][1:], int(log["data"], 16)) == ([f"0x{0:064x}", "0x" + leave.key.hex()], 0)


# ---------------------------------------------------------------- the commands


def test_a_file_that_is_no_operators_is_refused_before_anything_is_asked(tmp_path):
    wrong = tmp_path / "operator.json"
    wrong.write_text('{"format":"x"}')
    for words, says in (
        (("add-validator", tmp_path, tmp_path / "none.json"), "cannot read .*none.json: No such file"),
        (("add-validator", tmp_path, wrong), "operator.json: operator"),
        (("join-network", tmp_path, tmp_path / "none.json"), "cannot read .*none.json: No such file"),
        (("join-network", tmp_path, wrong), "operator.json: network"),
    ):
        result = CliRunner().invoke(app, [str(word) for word in words])
        assert isinstance(result.exception, ChainError) and re.search(says, str(result.exception)), result.exception


def test_who_is_not_in_the_network_file_joins_only_when_asked_to(binaries, tmp_path):
    old, new = (operator.init(tmp_path / f"o{n}", f"o{n}", "127.0.0.1", 20_000 + n, 21_000 + n) for n in range(2))
    network = Network.build(77_001, 1, [(old, 1)], [])
    with pytest.raises(ChainError, match=r"does not list o1 .* begin with `chain join-network`"):
        join(tmp_path / "o1", network)
    join(tmp_path / "o1", network, listed=False)
    node = Node(tmp_path / "o1")
    assert node.network == network and node.operator == new
