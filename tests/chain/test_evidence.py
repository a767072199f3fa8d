"""Evidence: what it proves, and each thing that makes it prove nothing. All offline."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest
import rlp
from eth_hash.auto import keccak
from hypothesis import given, settings
from hypothesis import strategies as st

from chain import comet
from chain.errors import BadEvidence, ChainError
from chain.evidence import Evidence, SetChange, verify, verify_for
from protocol import merkle
from protocol.encoding import canonical_json
from protocol.errors import BallotboardError, Malformed
from protocol.manifest import Validator
from protocol.records import LogHead
from tests.chain.evidence_world import BOARD, CHAIN_ID, ENTRIES, LEAVES, NEIGHBOUR, World, joined, key

# ---------------------------------------------------------------- what it proves


def test_the_head_is_proven_with_its_block_and_the_power_that_signed():
    world = World()
    proven = world.verify(world.head())
    assert proven.head == world.expected_head
    assert (proven.block, proven.block_hash, proven.time) == (999, keccak(world.execution), 1_800_000_000)
    assert (proven.signed_power, proven.total_power, proven.entry, proven.position) == (4, 4, None, None)


@pytest.mark.parametrize("position", [6, 7, 8, 9])
def test_a_record_is_proven_with_its_position_and_entry(position):
    world = World()
    proven = world.verify(world.record(position))
    size = 10 if position == 9 else 9
    assert (proven.position, proven.entry) == (position, ENTRIES[position])
    assert proven.head == LogHead(size, merkle.root(LEAVES[:size]))


def test_a_file_is_read_back_to_itself():
    for evidence in (World().head(), World().record()):
        assert Evidence.parse(evidence.body()) == evidence
        assert Evidence.parse(evidence.body()).body() == evidence.body()


def test_a_later_round_and_missing_validators_do_not_matter():
    world = World(signers=[0, 1, 3])
    evidence = replace(world.head(), commit=world.commit(round=5))
    assert world.verify(evidence).signed_power == 3


def test_validators_may_be_named_in_any_order():
    world = World(powers=(3, 1, 2, 2))
    assert world.verify(world.head(), validators=world.validators[::-1]).signed_power == 8


DATA = json.loads((Path(__file__).parent / "data" / "evidence.json").read_text())


@pytest.mark.parametrize("subject", ["head", "record"])
def test_evidence_of_a_real_network_verifies(subject):
    validators = [Validator(bytes.fromhex(v), 1) for v in DATA["validators"]]
    proven = verify_for(
        canonical_json(DATA[subject]), DATA["chain_id"], validators, bytes.fromhex(DATA["contract"]), bytes.fromhex(DATA["code_hash"])
    )  # fmt: skip
    assert 3 * proven.signed_power > 2 * proven.total_power == 8
    assert proven.head.size == DATA["size"][subject]


# ---------------------------------------------------------------- more than 2/3


@pytest.mark.parametrize(("total", "enough"), [(1, 1), (2, 2), (3, 3), (4, 3), (5, 4), (6, 5), (7, 5), (10, 7)])
def test_more_than_two_thirds_are_needed(total, enough):
    powers = (1,) * total
    world = World(powers, signers=range(enough))
    assert world.verify(world.head()).signed_power == enough
    world = World(powers, signers=range(enough - 1))
    with pytest.raises(BadEvidence, match="more than 2/3 are needed"):
        world.verify(world.head())


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 2**40), min_size=1, max_size=9), st.data())
def test_power_counts_as_the_plain_definition_says(powers, data):
    signers = sorted(data.draw(st.sets(st.integers(0, len(powers) - 1))))
    world = World(tuple(powers), signers=signers)
    power = sum(comet.ordered(world.validators)[place].power for place in signers)
    if power * 3 > sum(powers) * 2:
        assert world.verify(world.head()).signed_power == power
    else:
        with pytest.raises(BadEvidence, match="more than 2/3 are needed"):
            world.verify(world.head())


# ---------------------------------------------------------------- signatures


def with_signatures(world: World, *signatures) -> Evidence:
    evidence = world.head()
    return replace(evidence, commit=replace(evidence.commit, signatures=signatures))


def refuse(world: World, evidence: Evidence | bytes, says: str, error: type[Exception] = BadEvidence, **other) -> None:
    with pytest.raises(error, match=says):
        world.verify(evidence, **other)


def test_a_signature_that_is_repeated_does_not_count_twice():
    world = World(signers=[0, 1])
    a, b = world.head().commit.signatures
    refuse(world, with_signatures(world, a, b, b), "distinct validators")


def test_a_signature_that_is_repeated_under_another_name_is_no_signature():
    world = World(signers=[0, 1])
    a, b = world.head().commit.signatures
    refuse(world, with_signatures(world, a, b, b._replace(validator=2)), "validator 2 did not sign")


def test_a_signature_of_somebody_outside_the_set_is_refused():
    world = World()
    outsider = world.sign(world.commit(), 3, by=key(99))
    refuse(world, with_signatures(world, *world.head().commit.signatures[:3], outsider), "validator 3 did not sign")
    appended = outsider._replace(validator=4)
    refuse(world, with_signatures(world, *world.head().commit.signatures, appended), "distinct validators")
    negative = outsider._replace(validator=-1)
    refuse(world, with_signatures(world, negative, *world.head().commit.signatures), "distinct validators")


def test_signatures_out_of_order_are_refused():
    world = World()
    a, b, c, d = world.head().commit.signatures
    refuse(world, with_signatures(world, b, a, c, d), "distinct validators")


def test_a_bad_signature_beside_enough_good_ones_is_refused():
    world = World()
    a, b, c, d = world.head().commit.signatures
    flipped = bytes([d.signature[0] ^ 1]) + d.signature[1:]
    refuse(world, with_signatures(world, a, b, c, d._replace(signature=flipped)), "validator 3 did not sign")


def test_a_signature_at_another_time_is_no_signature():
    world = World()
    a, b, c, d = world.head().commit.signatures
    refuse(world, with_signatures(world, a, b, c, d._replace(time=a.time)), "validator 3 did not sign")


def test_votes_of_another_round_are_refused():
    world = World()
    evidence = world.head()
    refuse(world, replace(evidence, commit=replace(evidence.commit, round=1)), "did not sign this block")


def test_votes_for_nil_are_refused():
    world = World()
    nil = replace(world.commit(), block_id=comet.BlockId(b"", 0, b""))
    votes = tuple(world.sign(nil, place) for place in range(4))
    refuse(world, with_signatures(world, *votes), "did not sign this block")


def test_prevotes_are_no_precommits(monkeypatch):
    world = World()
    monkeypatch.setattr(comet, "PRECOMMIT", 1)
    prevotes = world.head()
    monkeypatch.undo()
    refuse(world, prevotes, "did not sign this block")


def test_no_signature_at_all_is_refused():
    refuse(World(), with_signatures(World()), "more than 2/3")


# ---------------------------------------------------------------- set and chain


def test_a_set_of_other_keys_is_refused():
    world = World()
    other = [*world.validators[:3], Validator(bytes(key(9).verify_key), 1)]
    refuse(world, world.head(), "another validator set", validators=other)


def test_a_set_of_other_powers_is_refused():
    world = World()
    other = [replace(world.validators[0], power=2), *world.validators[1:]]
    refuse(world, world.head(), "another validator set", validators=other)


def test_a_set_that_lacks_one_is_refused():
    world = World()
    refuse(world, world.head(), "another validator set", validators=world.validators[:3])


def test_an_empty_set_proves_nothing():
    world = World()
    refuse(world, world.head(), "empty or names a key twice", validators=[])


def test_a_set_that_names_a_key_twice_proves_nothing():
    world = World()
    refuse(world, world.head(), "empty or names a key twice", validators=[*world.validators, world.validators[0]])


def test_validators_that_invent_a_set_of_their_own_are_refused():
    world, own = World(), World(powers=(5, 5))
    refuse(world, own.head(), "another validator set")


def test_the_same_keys_on_another_chain_prove_nothing_here():
    other = World(chain_id=CHAIN_ID + 1)
    refuse(World(), other.head(), "of chain 'ballotboard-77002'")


def test_a_header_whose_chain_was_renamed_is_refused():
    other = World(chain_id=CHAIN_ID + 1)
    renamed = replace(other.header, chain_id=comet.chain_name(CHAIN_ID))
    refuse(World(), replace(other.head(), header=renamed), "another block than this header")


# ---------------------------------------------------------------- header


@pytest.mark.parametrize(
    "change",
    [
        {"height": 999}, {"app_hash": b"\1" * 32}, {"time": comet.Time(1, 1)}, {"next_validators_hash": b"\1" * 32}, {"data_hash": b""},
        {"proposer_address": b"\1" * 20}, {"app_version": 2}, {"last_block_id": comet.BlockId(b"\1" * 32, 2, b"\2" * 32)},
    ],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
def test_a_header_with_any_field_changed_is_refused(change):
    world = World()
    refuse(world, replace(world.head(), header=replace(world.header, **change)), "another block than this header")


def test_the_commit_of_another_block_is_refused():
    world, other = World(), World(header_changes={"data_hash": b"\x44" * 32})
    refuse(world, replace(world.head(), commit=other.commit()), "another block than this header")


def test_the_header_of_the_block_itself_does_not_vouch_for_it():
    """The header of h carries the app hash of h − 1."""
    world = World()
    before = replace(world.header, height=world.height - 1, app_hash=b"\x77" * 32)
    evidence = replace(world.head(), header=before, commit=world.commit(before))
    refuse(world, evidence, "not the one whose hash the validators signed")


def test_a_block_at_another_height_is_refused():
    world = World(execution_changes={"number": b"\x05"})
    refuse(world, world.head(), "not one below the signed height")


# ---------------------------------------------------------------- changes of the set

SETS = [
    World(height=100),
    World((1, 1, 1, 1, 1), height=200),
    World((1, 1, 1, 1), first=1, height=300),
    World((2, 1, 1, 1), first=1, height=1000),
]
"""Four validators, a fifth joins, the first leaves, one gets more power: each world is a block of its set."""


def changes(*sets: World) -> tuple[SetChange, ...]:
    return tuple(before.change(after) for before, after in itertools.pairwise(sets))


def changed_to(world: World, *steps: SetChange) -> Evidence:
    return replace(world.head(), changes=steps)


def refuse_changes(evidence: Evidence, says: str) -> None:
    refuse(SETS[0], evidence, says)


def test_the_head_is_proven_through_every_change_from_the_manifests_set():
    for last in range(1, 5):
        evidence = changed_to(SETS[last - 1], *changes(*SETS[:last]))
        proven = SETS[0].verify(evidence)
        assert proven.head == SETS[0].expected_head
        assert proven.signed_power == proven.total_power == sum(SETS[last - 1].powers)
        assert Evidence.parse(evidence.body()) == evidence


def test_the_set_may_change_back():
    back = World(height=1000)
    assert SETS[0].verify(changed_to(back, *changes(*SETS[:2], back))).total_power == 4


def test_a_change_that_is_left_out_is_missed():
    steps = changes(*SETS)
    for number in range(3):
        refuse_changes(changed_to(SETS[3], *steps[:number], *steps[number + 1 :]), "another validator set")


def test_changes_in_another_order_are_refused():
    a, b, c = changes(*SETS)
    for order in ((b, a, c), (a, c, b), (c, b, a)):
        refuse_changes(changed_to(SETS[3], *order), "another validator set")


def test_a_change_before_the_one_before_is_refused():
    early = World((1, 1, 1, 1, 1), height=100)
    steps = (SETS[0].change(early), early.change(SETS[3]))
    refuse_changes(changed_to(SETS[3], *steps), "change 1 of the validator set does not come after")


def test_a_change_at_the_height_of_the_head_or_after_it_is_refused():
    for height in (200, 201):
        steps = (replace(SETS[0], height=height).change(SETS[1]),)
        refuse_changes(changed_to(SETS[1], *steps), "does not come after the last change")


def test_a_change_that_changes_nothing_is_refused():
    refuse_changes(changed_to(World(), SETS[0].change(World())), "change 0 of the validator set changes nothing")


def test_a_change_signed_by_exactly_two_thirds_is_refused():
    for signers, enough in (((0, 1), False), ((0, 1, 2), True)):
        before = World((1, 1, 1), signers=signers, height=100)
        evidence = changed_to(SETS[1], before.change(SETS[1]))
        if enough:
            assert before.verify(evidence).total_power == 5
        else:
            refuse(before, evidence, "change 0 .* 2 of 3 power signed: more than 2/3")


def test_a_change_that_only_the_new_set_signed_is_refused():
    own = World((5, 5), first=50, height=100)
    step = own.change(own, validators_hash=comet.validators_hash(SETS[0].validators))
    refuse_changes(changed_to(World((5, 5), first=50), step), "validator 0 did not sign")


def test_a_change_that_names_the_new_set_as_the_one_before_is_refused():
    own = World((5, 5), first=50, height=100)
    refuse_changes(changed_to(World((5, 5), first=50), own.change(World((6, 5), first=50))), "another validator set")


def test_a_change_on_another_chain_is_refused():
    other = World(chain_id=CHAIN_ID + 1, height=100)
    refuse_changes(changed_to(SETS[1], other.change(SETS[1])), "change 0 .* of chain 'ballotboard-77002'")


def forged(**change) -> Evidence:
    """The first change, with something of it put in another's place."""
    return changed_to(SETS[1], replace(SETS[0].change(SETS[1]), **change))


def test_another_set_than_the_header_names_is_refused():
    own = World((5, 5), first=50)
    evidence = replace(
        own.head(), changes=(replace(SETS[0].change(SETS[1]), validators=tuple(comet.ordered(own.validators))),)
    )
    refuse_changes(evidence, "its header names another next set")


def test_a_set_put_into_the_header_afterwards_is_refused():
    own = World((5, 5), first=50)
    step = SETS[0].change(SETS[1])
    header = replace(step.header, next_validators_hash=comet.validators_hash(own.validators))
    evidence = replace(
        own.head(), changes=(replace(step, header=header, validators=tuple(comet.ordered(own.validators))),)
    )
    refuse_changes(evidence, "change 0 .* another block than this header")


@pytest.mark.parametrize("powers", [(2, 1, 1, 1, 1), (1, 1, 1, 1), (1, 1, 1, 1, 1, 1)])
def test_a_set_with_another_power_one_less_or_one_more_is_refused(powers):
    others = tuple(comet.ordered(World(powers).validators))
    refuse_changes(forged(validators=others), "its header names another next set")


def test_the_commit_of_another_change_is_refused():
    refuse_changes(forged(commit=SETS[0].change(SETS[2]).commit), "another block than this header")


def test_a_repeated_signature_in_a_change_does_not_count_twice():
    before = replace(SETS[0], signers=(0, 1))
    step = before.change(SETS[1])
    a, b = step.commit.signatures
    evidence = changed_to(SETS[1], replace(step, commit=replace(step.commit, signatures=(a, b, b))))
    refuse_changes(evidence, "change 0 .* distinct validators")


def test_a_change_to_a_set_that_names_a_key_twice_proves_nothing():
    twice = World((1, 1), height=200)
    twice.validators, twice.keys = [twice.validators[0]] * 2, [key(0)] * 2
    evidence = changed_to(SETS[3], SETS[0].change(twice), twice.change(SETS[3]))
    refuse_changes(evidence, "change 1 .* names a key twice")


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(st.integers(1, 2**40), min_size=1, max_size=5), min_size=2, max_size=3), st.data())
def test_each_set_of_a_chain_needs_more_than_two_thirds_as_the_plain_definition_says(sets, data):
    worlds = [
        World(tuple(powers), data.draw(st.lists(st.integers(0, len(powers) - 1), unique=True).map(sorted)), height=100 * (i + 1), first=5 * i)
        for i, powers in enumerate(sets)
    ]  # fmt: skip
    power = [sum(comet.ordered(world.validators)[place].power for place in world.signers) for world in worlds]
    evidence = changed_to(worlds[-1], *changes(*worlds))
    if all(3 * signed > 2 * sum(world.powers) for signed, world in zip(power, worlds, strict=True)):
        assert worlds[0].verify(evidence).signed_power == power[-1]
    else:
        refuse(worlds[0], evidence, "more than 2/3 are needed")


# ---------------------------------------------------------------- execution header and account


def test_another_execution_header_is_refused():
    world, other = World(), World(execution_changes={"gasUsed": b"\1"})
    refuse(world, replace(world.head(), execution=other.execution), "not the one whose hash")


@pytest.mark.parametrize("raw", [b"", b"\xff\xff", rlp.encode(b"text"), rlp.encode([b""] * 20)])
def test_what_is_no_header_is_refused_even_when_it_is_signed(raw):
    world = World()
    world.execution = raw
    refuse(world, world.head(), "the EVM header is not")


def test_another_contract_is_not_proven():
    world = World()
    refuse(world, world.head(), "lacks the tree node|no contract", contract=NEIGHBOUR)


def test_an_address_without_a_contract_is_not_proven():
    world = World()
    nothing = b"\x99" * 20
    evidence = replace(world.head(), nodes=joined(world.state.proof(keccak(nothing))))
    refuse(world, evidence, "no contract at 0x9999", contract=nothing)


def test_another_code_is_not_the_board():
    world = World()
    refuse(world, world.head(), "code is not the one", code_hash=bytes(32))


def test_a_missing_tree_node_is_refused():
    world = World()
    for node in world.head().nodes:
        fewer = tuple(n for n in world.head().nodes if n != node)
        refuse(world, replace(world.head(), nodes=fewer), "lacks the tree node")


def test_tree_nodes_that_nothing_needs_are_refused():
    world = World()
    more = joined(list(world.head().nodes), [b"\xc0"])
    refuse(world, replace(world.head(), nodes=more), "nothing needs")


# ---------------------------------------------------------------- record


def changed(world: World, **subject) -> Evidence:
    evidence = world.record()
    return replace(evidence, record=replace(evidence.record, **subject))


def test_another_entry_is_refused():
    world = World()
    refuse(world, changed(world, entry=ENTRIES[8].encode()), "the entry is not at position 7")


def test_another_position_is_refused():
    world = World()
    refuse(world, changed(world, position=8), "the entry is not at position 8")


@pytest.mark.parametrize("position", [5, 9])
def test_a_position_that_the_event_does_not_add_is_refused(position):
    world = World()
    inclusion = tuple(merkle.inclusion_proof(LEAVES[:9], min(position, 8)))
    evidence = changed(world, position=position, entry=ENTRIES[position].encode(), inclusion=inclusion)
    refuse(world, evidence, "adds positions 6 to 8")


def test_a_shorter_or_longer_inclusion_proof_is_refused():
    world = World()
    inclusion = world.record().record.inclusion
    refuse(world, changed(world, inclusion=inclusion[:-1]), "the entry is not at")
    refuse(world, changed(world, inclusion=(*inclusion, bytes(32))), "the entry is not at")


def test_an_event_of_another_contract_is_refused():
    world = World()
    refuse(world, changed(world, log=0), "not one of this board")


def test_another_event_of_the_board_is_refused():
    world = World()
    refuse(world, changed(world, log=1), "not one of this board")


def test_a_log_that_is_not_there_is_refused():
    world = World()
    refuse(world, changed(world, log=3), "has no log 3")


def test_a_log_without_topics_is_refused():
    world = World()
    proof = joined(world.state.proof(keccak(BOARD)), world.receipts.proof(rlp.encode(130)))
    refuse(world, replace(changed(world, transaction=130, log=0), nodes=proof), "not one of this board")


def test_a_transaction_that_is_not_there_is_refused():
    world = World()
    proof = joined(world.state.proof(keccak(BOARD)), world.receipts.proof(rlp.encode(200)))
    refuse(world, replace(changed(world, transaction=200), nodes=proof), "has no transaction 200")


# ---------------------------------------------------------------- the file


def edited(change) -> bytes:
    value = json.loads(replace(World().record(), changes=changes(*SETS[:2])).body())
    change(value)
    return canonical_json(value)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda v: v.update(format="ballotboard/evidence/v1"), "evidence.format"),
        (lambda v: v.update(engine="qbft"), "evidence.engine"),
        (lambda v: v.update(note="trust me"), "unexpected"),
        (lambda v: v.pop("commit"), "missing"),
        (lambda v: v.pop("changes"), "missing"),
        (lambda v: v["changes"].append(7), r"evidence.changes\[1\]"),
        (lambda v: v["changes"][0].pop("commit"), r"changes\[0\].*missing"),
        (lambda v: v["changes"][0]["header"].update(height=-1), r"changes\[0\].header.height"),
        (lambda v: v["changes"][0]["commit"].update(round=-1), r"changes\[0\].commit.round"),
        (lambda v: v["changes"][0]["validators"].reverse(), r"changes\[0\].validators: must be in CometBFT's order"),
        (lambda v: v["changes"][0]["validators"][4].update(power=0), r"validators\[4\].power"),
        (lambda v: v["changes"][0]["validators"][0].update(key="00"), r"validators\[0\].key"),
        (lambda v: v["header"].update(height=-1), "evidence.header.height"),
        (lambda v: v["header"].update(app_hash="AB" * 32), "evidence.header.app_hash"),
        (lambda v: v["header"]["time"].update(nanos=10**9), "nanos"),
        (lambda v: v["commit"].update(round=-1), "evidence.commit.round"),
        (lambda v: v["commit"]["signatures"][0].update(signature="00"), r"signatures\[0\].signature"),
        (lambda v: v["commit"]["signatures"].append(7), r"signatures\[4\]"),
        (lambda v: v["nodes"].reverse(), "distinct and ascending"),
        (lambda v: v["nodes"].append(v["nodes"][-1]), "distinct and ascending"),
        (lambda v: v["nodes"].append(7), r"nodes\[\d+\]"),
        (lambda v: v["subject"].update(type="tail"), "evidence.subject.type"),
        (lambda v: v["subject"].update(log=-1), "evidence.subject.log"),
        (lambda v: v["subject"].update(inclusion=["00"]), r"inclusion\[0\]"),
        (lambda v: v.update(subject={"type": "head", "size": 5}), "unexpected"),
    ],
)
def test_a_malformed_file_is_refused_by_name(change, says):
    with pytest.raises(Malformed, match=says):
        World().verify(edited(change))


def test_only_canonical_json_is_read():
    pretty = json.dumps(json.loads(World().head().body()), indent=1).encode()
    with pytest.raises(Malformed, match="canonical"):
        World().verify(pretty)


@cache
def whole() -> tuple[World, list[bytes]]:
    """A world, and a file of each kind that verifies there."""
    world = World()
    there_and_back = changes(World(height=100), World((1, 1, 1), height=200), world)
    files = [world.head(), world.record(), changed_to(world, *there_and_back)]
    assert all(world.verify(each) for each in files)
    return world, [each.body() for each in files]


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_flipped_bit_anywhere_in_the_file_is_refused(data):
    world, bodies = whole()
    body = bytearray(data.draw(st.sampled_from(bodies)))
    bit = data.draw(st.integers(0, 8 * len(body) - 1))
    body[bit // 8] ^= 1 << bit % 8
    with pytest.raises(BallotboardError):
        world.verify(bytes(body))


def test_an_engine_without_consensus_has_no_evidence():
    with pytest.raises(ChainError, match="anvil has no consensus"):
        verify(World().head().body(), SimpleNamespace(engine="anvil"), BOARD)


def test_verification_needs_no_client_library():
    program = "import chain.evidence, sys; print({'web3', 'requests', 'httpx', 'eth_account'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=Path(__file__).parents[2]
    )
    assert done.stdout == "set()\n", done.stderr
