"""Ballots made and judged by `ballotboard_native`, against the reference: same bytes, same reasons."""

import json
import mmap
from hashlib import sha256
from pathlib import Path

import ballotboard_native as native
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol import ballot
from protocol.ballot import Reason
from protocol.engine import NOT_COUNTED
from protocol.group import IDENTITY, base, total
from protocol.manifest import Rule
from protocol.records import pack_bodies, unpack_bodies
from tests.native.world import BOARD, COUNCIL, MAYOR, STYLES, YES_NO, choices, contest, contests, secret, world

WORLD = world()
CHOICES = [[[0, 1]], [[0, 0, 0, 1, 0, 0]], [[1, 0, 1]], [[0, 0, 1, 1]], [[0, 0, 0, 0, 0, 1], [0, 0, 0, 0], [1, 0]], []]
REQUESTS = [WORLD.request(i, sha256(b"%d" % i).digest(), CHOICES[i % len(STYLES)]) for i in range(12)]
BALLOTS = unpack_bodies(WORLD.engine.create(b"".join(request.encode() for request in REQUESTS)))
VECTORS = json.loads((Path(__file__).resolve().parents[1] / "vectors" / "ballots.json").read_text())


def reasons(bodies, roll=WORLD.roll, engine=WORLD.engine):
    """The reasons of a batch, which are the same in lanes and without, on any number of threads."""
    packed = pack_bodies(bodies)
    answers = {engine.verify(packed, roll.data, threads, plain) for threads in (1, 2) for plain in (False, True)}
    assert len(answers) == 1
    return list(answers.pop())


@st.composite
def mutations(draw, ballots=tuple(BALLOTS)):
    """A ballot with a few bytes replaced, a point or scalar taken from elsewhere, or a cut."""
    body = bytearray(draw(st.sampled_from(ballots)))
    for _ in range(draw(st.integers(1, 2))):
        kind = draw(st.sampled_from(["flip", "splice", "header", "cut", "extend"]))
        if kind == "flip" and body:
            body[draw(st.integers(0, len(body) - 1))] ^= 1 << draw(st.integers(0, 7))
        elif kind == "splice" and len(body) >= 64:
            place = len(body) - 32 * draw(st.integers(1, len(body) // 32))
            source = draw(st.sampled_from(ballots))
            start = draw(st.integers(0, len(source) - 32))
            body[place : place + 32] = draw(
                st.sampled_from([source[start : start + 32], source[-32:], source[-64:-32], IDENTITY])
            )
        elif kind == "header" and len(body) >= 5:
            body[draw(st.integers(0, 4))] = draw(st.integers(0, 12))
        elif kind == "cut":
            del body[draw(st.integers(0, len(body))) :]
        else:
            body += draw(st.binary(max_size=33))
    return bytes(body)


# ---------------------------------------------------------------- creation


@pytest.mark.parametrize("plain", [False, True])
def test_ballots_of_every_rule_are_the_bytes_that_the_reference_makes(plain):
    packed = b"".join(request.encode() for request in REQUESTS)
    assert WORLD.engine.create(packed, 1, plain) == pack_bodies([WORLD.reference_ballot(r) for r in REQUESTS])


@pytest.mark.parametrize("rule", Rule)
def test_the_largest_contest_makes_the_bytes_and_the_verdicts_of_the_reference(rule):
    largest = contest("largest", rule, 100, 40 if rule == Rule.UP_TO_L else 0)
    one = world([[largest]], voters=1)
    request = one.request(0, bytes(32), [[int(i == 77) for i in range(100)]])
    body = one.reference_ballot(request)
    assert unpack_bodies(one.engine.create(request.encode())) == [body]
    wrong = body[:-65] + bytes([body[-65] ^ 1]) + body[-64:]
    for made in (body, wrong):
        assert reasons([made], one.roll, one.engine) == [ballot.verify(one.context, one.roll, made)]


def test_a_ballot_has_the_size_of_its_style():
    sizes = [WORLD.engine.size(style) for style in range(len(STYLES))]
    assert sizes == [ballot.ballot_size(contests) for contests in STYLES]
    assert [len(body) for body in BALLOTS[: len(STYLES)]] == sizes


def test_one_of_2_makes_349_bytes_and_one_of_5_makes_877():
    shapes = [[("a", 1, 2, 0)], [("b", 1, 5, 0)]]
    engine = native.Election(bytes(64), base(1), shapes, b"")
    assert [engine.size(0), engine.size(1)] == [349, 877]


def agree_on_any_style(data, seed, seen):
    """Any choices on any style give the bytes of the reference, and these and what is made of them its verdicts."""
    count = data.draw(st.integers(0, 3), "contests")
    style = tuple(data.draw(contests(f"contest {i}")) for i in range(count))
    one = world([style], voters=1)
    request = one.request(0, seed, [data.draw(choices(c)) for c in style], seen)
    (body,) = unpack_bodies(one.engine.create(request.encode()))
    assert body == one.reference_ballot(request)
    assert unpack_bodies(one.engine.create(request.encode(), 1, plain=True)) == [body]
    assert ballot.verify(one.context, one.roll, body) == Reason.VALID
    assert reasons([body], one.roll, one.engine) == [Reason.VALID]
    mutated = data.draw(mutations((body, BALLOTS[4])))
    assert reasons([mutated], one.roll, one.engine) == [ballot.verify(one.context, one.roll, mutated)]


SEEDS, SEEN = st.binary(min_size=32, max_size=32), st.integers(0, 2**64 - 1)


@settings(deadline=None, max_examples=40)
@given(data=st.data(), seed=SEEDS, seen=SEEN)
def test_any_choices_on_any_style_and_what_becomes_of_them_agree_with_the_reference(data, seed, seen):
    agree_on_any_style(data, seed, seen)


@pytest.mark.soak
@settings(deadline=None, max_examples=20_000)
@given(data=st.data(), seed=SEEDS, seen=SEEN)
def test_any_choices_on_any_style_agree_in_a_long_run(data, seed, seen):
    agree_on_any_style(data, seed, seen)


def test_creation_on_two_threads_keeps_the_order_of_the_requests():
    packed = b"".join(request.encode() for request in REQUESTS * 10)
    assert unpack_bodies(WORLD.engine.create(packed, 2)) == BALLOTS * 10


@pytest.mark.parametrize("index", range(len(STYLES)))
def test_seed_and_choices_derive_the_unsigned_ballot_for_an_audit(index):
    r = REQUESTS[index]
    flat = b"".join(bytes(choice) for choice in r.choices)
    unsigned = WORLD.engine.unsigned(r.roll_index, r.seen, r.unit, r.style, base(r.secret), r.seed, flat)
    assert unsigned == BALLOTS[index][:-64]


# ---------------------------------------------------------------- verification


@pytest.mark.parametrize("plain", [False, True])
def test_every_vector_has_its_reason_alone_and_among_the_others(plain):
    shapes = [[(c["id"], c["rule"], c["k"], c["limit"]) for c in style] for style in VECTORS["styles"]]
    units = b"".join(style.to_bytes(2, "big", signed=True) for style in VECTORS["unit_styles"])
    engine = native.Election(bytes.fromhex(VECTORS["context"]), bytes.fromhex(VECTORS["key"]), shapes, units)
    roll = bytes.fromhex(VECTORS["roll"])
    bodies = [bytes.fromhex(case["body"]) for case in VECTORS["cases"]]
    expected = [case["reason"] for case in VECTORS["cases"]]
    assert list(engine.verify(pack_bodies(bodies), roll, 1, plain)) == expected
    assert [engine.verify(pack_bodies([body]), roll, 1, plain)[0] for body in bodies] == expected


def agree_whatever_the_neighbours(bodies):
    expected = [ballot.verify(WORLD.context, WORLD.roll, body) for body in bodies]
    assert reasons(bodies) == expected
    assert reasons([*BALLOTS, *bodies]) == [*[Reason.VALID] * len(BALLOTS), *expected]


@settings(deadline=None, max_examples=60)
@given(st.lists(mutations(), min_size=1, max_size=4))
def test_any_mutated_ballot_has_the_reason_that_the_reference_gives_whatever_its_neighbours(bodies):
    agree_whatever_the_neighbours(bodies)


@pytest.mark.soak
@settings(deadline=None, max_examples=20_000)
@given(st.lists(mutations(), min_size=1, max_size=4))
def test_any_mutated_ballot_has_the_reason_that_the_reference_gives_in_a_long_run(bodies):
    agree_whatever_the_neighbours(bodies)


@settings(deadline=None)
@given(st.binary(max_size=400))
def test_any_bytes_have_the_reason_that_the_reference_gives(body):
    assert reasons([body, body[:5].ljust(5, b"\0") + body[5:], b"\1\0\0\0\0" + body])[0] == ballot.verify(
        WORLD.context, WORLD.roll, body
    )


def test_a_row_added_by_a_roll_change_votes():
    extended = WORLD.roll.extended([(base(secret("voter 12")), 1)])
    body = world(voters=13).reference_ballot(world(voters=13).request(12, bytes(32), [[1, 0]]))
    assert reasons([body]) == [Reason.UNKNOWN_CREDENTIAL]
    assert reasons([body], extended) == [Reason.VALID]


def test_a_mapped_file_and_other_buffers_are_read_in_place(tmp_path):
    packed = pack_bodies(BALLOTS)
    (tmp_path / "bodies").write_bytes(packed)
    with (tmp_path / "bodies").open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        for buffer in (mapped, bytearray(packed), memoryview(packed)):
            assert WORLD.engine.verify(buffer, WORLD.roll.data) == bytes(len(BALLOTS))


# ---------------------------------------------------------------- sums


def expected_sums(contest, bodies, groups, count):
    """Σ A || Σ B per group and ciphertext, by the reference."""
    points = [[[] for _ in range(2 * ballot.ciphertext_count(contest))] for _ in range(count)]
    for body, group in zip(bodies, groups, strict=True):
        if group == NOT_COUNTED:
            continue
        style = STYLES[WORLD.voter(ballot.read_header(body)[0])[2]]
        block = ballot.parse(style, body).blocks[style.index(contest)]
        for column, point in enumerate(p for c in block.ciphertexts for p in (c.a, c.b)):
            points[group][column].append(point)
    return b"".join(total(column) for group in points for column in group)


@settings(deadline=None, max_examples=30)
@given(data=st.data(), contest=st.sampled_from([YES_NO, MAYOR, BOARD, COUNCIL]), count=st.integers(1, 4))
def test_sums_by_group_are_those_of_the_reference(data, contest, count):
    bodies = [b for b, r in zip(BALLOTS, REQUESTS, strict=True) if contest in STYLES[r.style]]
    bodies = data.draw(st.lists(st.sampled_from(bodies), max_size=12))
    group = st.one_of(st.integers(0, count - 1), st.just(NOT_COUNTED))
    groups = data.draw(st.lists(group, min_size=len(bodies), max_size=len(bodies)))
    packed = b"".join(number.to_bytes(4, "big") for number in groups)
    expected = expected_sums(contest, bodies, groups, count)
    for threads, plain in ((1, False), (1, True), (2, False)):
        got = WORLD.engine.sums(pack_bodies(bodies), WORLD.roll.data, contest.id, packed, count, threads, plain)
        assert got == expected


def test_sums_of_more_points_than_fit_a_block_are_right():
    body, count = BALLOTS[1], 5000  # 10 points each
    once = WORLD.engine.sums(pack_bodies([body]), WORLD.roll.data, MAYOR.id, bytes(4), 1)
    many = WORLD.engine.sums(pack_bodies([body]) * count, WORLD.roll.data, MAYOR.id, bytes(4 * count), 1, 2)
    assert many == native.mul_points(count.to_bytes(32, "little"), once)


@pytest.mark.parametrize("plain", [False, True])
def test_a_point_that_is_none_is_named_by_its_ballot(plain):
    wrong = BALLOTS[0][:13] + b"\xff" * 32 + BALLOTS[0][45:]
    with pytest.raises(ValueError, match="ballot 1"):
        bodies = pack_bodies([BALLOTS[0], wrong])
        WORLD.engine.sums(bodies, WORLD.roll.data, YES_NO.id, bytes(8), 1, 1, plain)
