"""The vectors that other implementations are held against: regenerated, and answered by reference and native engine alike."""

import json
from pathlib import Path

import pytest

from protocol import ballot, ceremony, engine, group, merkle, proofs, tally
from protocol.attachments import Roll
from protocol.ballot import BallotContext, Reason
from protocol.counting import CountedRow, Status
from protocol.manifest import Contest, Rule
from scripts import vectors

FILES = Path(__file__).resolve().parents[1] / "vectors"
BALLOTS = json.loads((FILES / "ballots.json").read_text())
ELECTION = BallotContext(
    bytes.fromhex(BALLOTS["context"]),
    bytes.fromhex(BALLOTS["key"]),
    tuple(
        tuple(Contest(c["id"], "", Rule(c["rule"]), c["limit"], tuple(map(str, range(c["k"])))) for c in style)
        for style in BALLOTS["styles"]
    ),
)
ROLL = Roll(bytes.fromhex(BALLOTS["roll"]), BALLOTS["unit_styles"])
CASES = BALLOTS["cases"]
BODIES = [bytes.fromhex(case["body"]) for case in CASES]
EXPECTED = [Reason(case["reason"]) for case in CASES]


@pytest.mark.parametrize("name", vectors.FILES)
def test_the_vectors_in_the_tree_are_those_that_the_reference_makes(name):
    assert (FILES / f"{name}.json").read_text() == vectors.text(name)


def test_the_worked_examples_of_the_specification_are_those_that_the_reference_makes():
    specification = vectors.SPECIFICATION.read_text()
    assert specification.endswith(vectors.EXAMPLES + vectors.examples())


def test_every_reason_that_needs_no_position_has_a_vector():
    assert set(EXPECTED) == set(Reason) - {Reason.SEEN_TOO_HIGH}


def test_the_reference_gives_the_expected_reason_of_every_ballot():
    wrong = [
        c["name"]
        for c, body, reason in zip(CASES, BODIES, EXPECTED, strict=True)
        if ballot.verify(ELECTION, ROLL, body) != reason
    ]
    assert not wrong


@pytest.fixture(scope="module")
def native():
    if engine.native is None:
        pytest.skip("ballotboard-native is not built")
    return engine.Engine(ELECTION, BALLOTS["unit_styles"])


def test_the_native_engine_gives_the_expected_reason_of_every_ballot_in_one_batch(native):
    answers = native.verify(BODIES, ROLL)
    assert [c["name"] for c, got, want in zip(CASES, answers, EXPECTED, strict=True) if got != want] == []


def test_the_native_engine_gives_the_expected_reason_of_every_ballot_by_itself(native):
    answers = [native.verify([body], ROLL, 1)[0] for body in BODIES]
    assert [c["name"] for c, got, want in zip(CASES, answers, EXPECTED, strict=True) if got != want] == []


def test_the_native_engine_makes_the_bytes_of_the_valid_vectors(native):
    secret = int.from_bytes(bytes.fromhex(BALLOTS["secret"]), "little")
    for case in CASES:
        if "seed" in case:
            style = case["style"]
            request = engine.CreateRequest(
                style, case["seen"], style, style, secret, bytes.fromhex(case["seed"]), case["choices"]
            )
            assert native.create([request])[0].hex() == case["body"]


PRIMITIVES = json.loads((FILES / "primitives.json").read_text())


def test_changed_proofs_of_the_vectors_are_refused():
    known = PRIMITIVES["knowledge"]
    statement, public = bytes.fromhex(known["statement"]), bytes.fromhex(known["public"])
    assert proofs.verify_knowledge(known["name"], statement, public, bytes.fromhex(known["proof"]))
    assert not any(
        proofs.verify_knowledge(known["name"], statement, public, bytes.fromhex(wrong)) for wrong in known["wrong"]
    )
    equal = PRIMITIVES["equality"]
    points = [bytes.fromhex(equal[name]) for name in ("public", "other", "image")]
    assert proofs.verify_equality(equal["name"], statement, *points, bytes.fromhex(equal["proof"]))
    assert not any(
        proofs.verify_equality(equal["name"], statement, *points, bytes.fromhex(wrong)) for wrong in equal["wrong"]
    )
    assert not proofs.verify_equality(
        equal["name"], statement, points[0], points[1], group.base(3), bytes.fromhex(equal["proof"])
    )


def test_merkle_proofs_of_the_vectors_lead_to_their_roots():
    tree = PRIMITIVES["merkle"]
    leaves, roots = [bytes.fromhex(x) for x in tree["leaves"]], [bytes.fromhex(x) for x in tree["roots"]]
    for index, proof in enumerate(tree["inclusion"]):
        assert merkle.verify_inclusion(leaves[index], index, 7, [bytes.fromhex(x) for x in proof], roots[7])
    for size, proof in enumerate(tree["consistency"], 1):
        assert merkle.verify_consistency(size, roots[size], 7, roots[7], [bytes.fromhex(x) for x in proof])


def test_each_case_of_the_ceremony_vector_blames_whom_it_says():
    case = json.loads((FILES / "ceremony.json").read_text())
    setting = ceremony.Setting(bytes.fromhex(case["election"]), case["attempt"], case["n"], case["t"])
    rounds = [[body.encode() for body in bodies] for bodies in case["rounds"]]
    joint = ceremony.check_ceremony(setting, *rounds)
    assert (joint.key.hex(), [key.hex() for key in joint.share_keys]) == (case["key"], case["share_keys"])
    assert [group.base(int.from_bytes(bytes.fromhex(x), "little")).hex() for x in case["shares"]] == case["share_keys"]
    for wrong in case["cases"]:
        changed = [list(bodies) for bodies in rounds]
        for message in wrong["messages"]:
            body = message["body"]
            changed[message["round"] - 1][message["trustee"] - 1] = None if body is None else body.encode()
        with pytest.raises(ceremony.CeremonyVoid) as void:
            ceremony.check_ceremony(setting, *changed)
        assert list(void.value.culprits) == wrong["culprits"] != [], wrong["name"]


def test_the_counting_vector_has_every_fate_of_a_ballot():
    cases = json.loads((FILES / "counting.json").read_text())["cases"]
    rows = [[CountedRow.parse(bytes.fromhex(row)) for row in case["rows"]] for case in cases]
    assert {row.status for case in rows for row in case} == set(Status)
    assert len({case["root"] for case in cases}) == 4


def test_the_decryption_vector_gives_its_totals_with_any_two_trustees():
    case = json.loads((FILES / "decryption.json").read_text())
    sums = tuple(ballot.Ciphertext(bytes.fromhex(a), bytes.fromhex(b)) for a, b in case["sums"])
    sum_group = tally.GroupSum(1, 4, (2, 5), case["ballots"], sums)
    contest = Contest("three", "", Rule.ONE_OF_K, 0, ("a", "b", "c"))
    shares = {}
    for j, (body, key) in enumerate(zip(case["partials"], case["share_keys"], strict=True), 1):
        values = tally.parse_partial(body.encode()).shares[1, 4]
        assert tally.verify_partial(
            bytes.fromhex(case["context"]),
            bytes.fromhex(case["settlement_root"]),
            sum_group,
            j,
            bytes.fromhex(key),
            values,
        )
        shares[j] = [d for d, _ in values]
    for left_out in shares:
        quorum = {j: d for j, d in shares.items() if j != left_out}
        assert tally.combine(contest, sum_group, quorum, 2, engine.discrete_logs) == case["totals"]
