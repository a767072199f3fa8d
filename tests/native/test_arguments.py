"""Arguments that are not of the form described: a ValueError that says where, never a panic."""

import ballotboard_native as native
import pytest

from protocol.group import ORDER, base, scalar_bytes
from protocol.records import pack_bodies
from tests.native.world import STYLES, world

WORLD = world()
ROLL = WORLD.roll.data
REQUEST = WORLD.request(0, bytes(32), [[1, 0]])
BODY = WORLD.reference_ballot(REQUEST)
POINT = base(5)


def request(secret=None, style=0, choices=b"\1\0"):
    """A request of style 0 with one thing changed."""
    head = REQUEST.encode()[:16] + style.to_bytes(2, "big")
    return head + (secret or scalar_bytes(REQUEST.secret)) + bytes(32) + choices


def election(key=POINT, styles=((("a", 1, 2, 0),),), units=b"\0\0"):
    return native.Election(bytes(64), key, [list(style) for style in styles], units)


def test_what_the_tests_below_spoil_is_accepted_as_it_is():
    election()
    assert WORLD.engine.create(request()) == pack_bodies([BODY])


@pytest.mark.parametrize("key", [bytes(32), b"\xff" * 32, POINT[:31] + bytes([POINT[31] | 128])])
def test_a_key_that_is_no_point_or_the_identity(key):
    with pytest.raises(ValueError, match="key"):
        election(key)


@pytest.mark.parametrize(
    ("contest", "message"),
    [
        (("a", 0, 2, 0), "no rule 0"),
        (("a", 4, 2, 0), "no rule 4"),
        (("a", -1, 2, 0), "no rule -1"),
        (("a", 1, 1, 0), "1 options"),
        (("a", 1, 101, 0), "101 options"),
        (("a", 2, -2, 0), "-2 options"),
        (("a", 1, 2, 1), "limit 1"),
        (("a", 2, 3, 1), "limit 1"),
        (("a", 3, 3, 0), "limit 0 is not between 1 and 2"),
        (("a", 3, 3, 3), "limit 3 is not between 1 and 2"),
    ],
)
def test_a_contest_that_the_manifest_could_not_have(contest, message):
    with pytest.raises(ValueError, match=message):
        election(styles=[[contest]])


def test_a_contest_that_differs_between_styles_or_stands_twice_on_a_ballot():
    with pytest.raises(ValueError, match=r"differs between styles 0 and 1"):
        election(styles=[[("a", 1, 2, 0)], [("a", 1, 3, 0)]])
    with pytest.raises(ValueError, match=r"style 0: contest \"a\" occurs twice"):
        election(styles=[[("a", 1, 2, 0), ("a", 1, 2, 0)]])


def test_a_style_whose_ballot_would_not_fit_a_record():
    contests = [(f"contest {i}", 1, 100, 0) for i in range(4)]
    with pytest.raises(ValueError, match="a record holds 65535"):
        election(styles=[contests])
    election(styles=[contests[:3]])


@pytest.mark.parametrize("units", [b"\0", b"\0\1", b"\xff\xfe"])
def test_unit_styles_that_are_cut_or_name_no_style(units):
    with pytest.raises(ValueError, match="unit_styles"):
        election(units=units)


@pytest.mark.parametrize(
    ("packed", "message"),
    [
        (b"\0", r"packed\[0\]: 1 bytes where a length"),
        (pack_bodies([BODY, BODY])[:-1], r"packed\[1\]: 349 bytes announced, 348"),
    ],
)
def test_packed_bodies_that_are_cut(packed, message):
    with pytest.raises(ValueError, match=message):
        WORLD.engine.verify(packed, ROLL)


def test_a_roll_that_is_cut():
    with pytest.raises(ValueError, match="roll: 35 bytes, not a multiple of 36"):
        WORLD.engine.verify(pack_bodies([BODY]), ROLL[:35])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (request()[:-1], "needs 84 bytes, 83 left"),
        (request()[:10], "cut short"),
        (request(style=len(STYLES)), "no style"),
        (request(bytes(32)), "secret key"),
        (request(ORDER.to_bytes(32, "little")), "secret key"),
        (request(choices=b"\1\1"), "choices of contest"),
        (request(choices=b"\0\0"), "choices of contest"),
        (request(choices=b"\2\0"), "choices of contest"),
        (request(choices=b"\xff\2"), "choices of contest"),
        (request(style=3, choices=b"\1\1\1\0"), "choices of contest"),
    ],
)
def test_a_request_that_makes_no_ballot_is_named(wrong, message):
    with pytest.raises(ValueError, match=rf"requests\[1\]: .*{message}"):
        WORLD.engine.create(request() + wrong, 2)


@pytest.mark.parametrize("choices", [b"", b"\1", b"\1\0\0", b"\1\1"])
def test_choices_of_an_audit_that_do_not_fit_the_style(choices):
    with pytest.raises(ValueError, match="choices"):
        WORLD.engine.unsigned(0, 0, 1, 0, POINT, bytes(32), choices)


@pytest.mark.parametrize(
    ("contest", "groups", "count", "message"),
    [
        ("mayor", bytes(4), 1, "ballot 0: not of a style with contest"),
        ("nothing", bytes(4), 1, "no contest"),
        ("yes-no", bytes(8), 1, "2 numbers for 1 ballots"),
        ("yes-no", bytes(3), 1, "not a multiple of 4"),
        ("yes-no", b"\0\0\0\1", 1, "ballot 0: group 1 of 1"),
        ("yes-no", bytes(4), 2**63, "too large"),
    ],
)
def test_sums_over_groups_or_contests_that_are_not_there(contest, groups, count, message):
    with pytest.raises(ValueError, match=message):
        WORLD.engine.sums(pack_bodies([BODY]), ROLL, contest, groups, count)


def test_points_scalars_and_counts_of_the_functions():
    with pytest.raises(ValueError, match="no rows of 2"):
        native.add_ciphertexts(2, POINT)
    with pytest.raises(ValueError, match="no rows of 0"):
        native.add_ciphertexts(0, b"")
    with pytest.raises(ValueError, match=r"scalars\[0\]"):
        native.mul_points(ORDER.to_bytes(32, "little"), POINT)
    with pytest.raises(ValueError, match="no rows of 0"):
        native.mul_points(b"", POINT)
    with pytest.raises(ValueError, match="row 70: not the canonical"):
        native.mul_points(scalar_bytes(1), POINT * 70 + b"\xff" * 32)
    with pytest.raises(ValueError, match=r"points\[0\]: the identity"):
        native.dleq_prove_many("partial", pack_bodies([b""]), scalar_bytes(1), bytes(32))
    with pytest.raises(ValueError, match="secret: zero"):
        native.dleq_prove_many("partial", pack_bodies([b""]), bytes(32), POINT)
    with pytest.raises(ValueError, match="points: 1 for 0 statements"):
        native.dleq_prove_many("partial", b"", scalar_bytes(1), POINT)
    with pytest.raises(ValueError, match="proofs: 0 for 1 statements"):
        native.dleq_verify_many("partial", pack_bodies([b""]), POINT, POINT, POINT, b"")
    with pytest.raises(ValueError, match=r"points\[1\]"):
        native.discrete_logs(POINT + b"\xff" * 32, 10)
    with pytest.raises(ValueError, match="maximum"):
        native.discrete_logs(POINT, 2**64 - 1)
    with pytest.raises(ValueError, match="no leaf 0 in a tree of 0"):
        native.inclusion_proof(b"", 0)
    with pytest.raises(ValueError, match="no rows of 0"):
        native.leaf_hash_rows(b"", 0)
    with pytest.raises(ValueError, match="heads: 1 for 0 bodies"):
        native.entries(bytes(8), b"")
    with pytest.raises(ValueError, match="leaves no serials"):
        native.credentials(bytes(16), bytes(32), 2**64 - 1)


def test_a_buffer_with_gaps_is_refused():
    with pytest.raises((ValueError, BufferError)):
        native.merkle_root(memoryview(bytes(128))[::2])
