"""Close, settlement, partial decryptions and result; attachments."""

import pytest

from tests.contracts import model as m
from tests.contracts.world import account


@pytest.fixture
def hashed(make):
    """A closed board in hash mode, two of whose three data holders must sign, at the time of the settlement."""
    world = make(hash_mode=True)
    world.open()
    world.ballot_hashes(m.sha256(b"a"), m.sha256(b"b"))
    world.close()
    world.now = world.windows.settle_not_before
    return world


def test_anyone_closes_after_the_grace_and_fixes_the_head(world):
    world.open()
    world.ballots(b"a")
    end = world.windows.close + world.windows.append_grace
    body = world.head_body()
    with world.reverts("TooEarly", end):
        world.call("close", at=end - 1)
    ((_, record),) = world.call("close", at=end)
    assert (record["kind"], record["role"], record["body"]) == (m.CLOSE, 65535, body)
    assert world.view("phase") == m.CLOSED


@pytest.mark.parametrize("phase", [m.SETUP, m.CLOSED, m.SETTLED, m.FINAL])
def test_only_an_open_poll_is_closed(world, phase):
    if phase:
        (world.close, world.settle, world.finish)[phase - m.CLOSED]()
    with world.reverts("NotInPhase", phase):
        world.call("close")


def test_an_extension_puts_off_the_close(world):
    world.open()
    later = world.windows.close_not_after
    world.append(m.EXTENSION, later.to_bytes(5, "big"), world.authority)
    with world.reverts("TooEarly", later + world.windows.append_grace):
        world.call("close", at=later + world.windows.append_grace - 1)
    world.call("close", at=later + world.windows.append_grace)


def test_anyone_settles_a_closed_poll_in_its_time(world):
    world.close()
    body = world.head_body()
    with world.reverts("TooEarly", world.windows.settle_not_before):
        world.call("settle", bytes(32), b"", at=world.windows.settle_not_before - 1)
    ((_, record),) = world.call("settle", bytes(32), b"", at=world.windows.settle_not_before)
    assert (record["kind"], record["role"], record["body"]) == (m.SETTLEMENT, 65535, body)
    assert world.view("phase") == m.SETTLED


@pytest.mark.parametrize("phase", [m.SETUP, m.OPENED, m.SETTLED, m.FINAL])
def test_only_a_closed_poll_is_settled(world, phase):
    if phase:
        (world.open, world.close, world.settle, world.finish)[phase - 1]()
    with world.reverts("NotInPhase", phase):
        world.call("settle", bytes(32), b"", at=max(world.now + 1, world.windows.settle_not_before))


def test_with_bodies_on_the_chain_a_settlement_has_no_bitmap_and_no_signature(world):
    world.close()
    world.now = world.windows.settle_not_before
    with world.reverts("BadBody"):
        world.call("settle", m.sha256(b"bitmap"), b"")
    with world.reverts("BadSignature"):
        world.call("settle", bytes(32), world.sign(world.data_holders[0], m.SETTLEMENT, world.head_body()))


# ---- settlement in hash mode ----

BITMAP = m.sha256(b"bitmap")


@pytest.mark.parametrize("holders", [[0, 1], [0, 2], [1, 2], [0, 1, 2]])
def test_enough_data_holders_settle_with_their_bitmap(hashed, holders):
    body, signatures = hashed.head_body() + BITMAP, hashed.attestation(BITMAP, holders)
    ((_, record),) = hashed.call("settle", BITMAP, signatures)
    assert (record["body"], record["signatures"]) == (body, signatures)
    assert [hashed.view("numbers", h.address) for h in hashed.data_holders] == [int(i in holders) for i in range(3)]


@pytest.mark.parametrize("holders", [[], [0], [1, 0], [2, 1, 0], [0, 0], [0, 1, 1], [0, 2, 1]])
def test_too_few_data_holders_or_not_in_the_order_of_the_roles_are_refused(hashed, holders):
    with hashed.reverts("BadSignature"):
        hashed.call("settle", BITMAP, hashed.attestation(BITMAP, holders))


def test_only_data_holders_sign_a_settlement(hashed):
    body = hashed.head_body() + BITMAP
    for outsider in (hashed.authority, hashed.verifiers[0], account("stranger")):
        with hashed.reverts("BadSignature"):
            hashed.call(
                "settle", BITMAP, hashed.attestation(BITMAP, [0, 1]) + hashed.sign(outsider, m.SETTLEMENT, body)
            )
    with hashed.reverts("BadSignature"):  # in the order of the roles, and of the right number
        hashed.call(
            "settle", BITMAP, hashed.sign(hashed.authority, m.SETTLEMENT, body) + hashed.attestation(BITMAP, [0])
        )


def test_data_holders_sign_this_bitmap_and_this_head(hashed):
    signatures = hashed.attestation(BITMAP, [0, 1])
    with hashed.reverts("BadSignature"):
        hashed.call("settle", m.sha256(b"other"), signatures)
    hashed.append(m.COMPLAINT, b"{}", hashed.cosigner)
    with hashed.reverts("BadSignature"):
        hashed.call("settle", BITMAP, signatures)


def test_a_data_holder_s_number_counts_in_a_settlement(hashed):
    signatures = hashed.attestation(BITMAP, [0, 1])
    hashed.append(m.COMPLAINT, b"{}", hashed.data_holders[0])
    with hashed.reverts("BadSignature"):
        hashed.call("settle", BITMAP, signatures)
    hashed.call("settle", BITMAP, hashed.attestation(BITMAP, [0, 1]))


@pytest.mark.parametrize("elsewhere", [{"chain_id": 1}, {"board": "0x" + 20 * "ab"}], ids=["chain", "election"])
def test_an_attestation_from_another_chain_or_election_is_refused(hashed, elsewhere):
    body = hashed.head_body() + BITMAP
    foreign = b"".join(hashed.sign(h, m.SETTLEMENT, body, **elsewhere) for h in hashed.data_holders)
    with hashed.reverts("BadSignature"):
        hashed.call("settle", BITMAP, foreign)


def other_half(signature: bytes) -> bytes:
    """The second form that ecrecover takes of a signature."""
    s = m.ORDER - int.from_bytes(signature[32:64], "big")
    return signature[:32] + s.to_bytes(32, "big") + bytes([55 - signature[64]])


@pytest.mark.parametrize(
    "spoil",
    [
        lambda g: g[:-1],
        lambda g: g + b"\0",
        lambda g: g[:64] + b"\x1d" + g[65:],
        lambda g: other_half(g[:65]) + g[65:],
        lambda g: g[:65] + other_half(g[65:]),
    ],
    ids=["short", "long", "v", "first malleable", "second malleable"],
)
def test_a_malformed_list_of_signatures_is_refused(hashed, spoil):
    with hashed.reverts("BadSignature"):
        hashed.call("settle", BITMAP, spoil(hashed.attestation(BITMAP, [0, 1])))


# ---- decryption and result ----


def test_trustees_decrypt_from_their_time_on_in_any_number_of_parts(world):
    world.settle()
    start = world.windows.decrypt_not_before
    with world.reverts("TooEarly", start):
        world.append(m.PARTIAL, b"{}", world.trustees[0], at=start - 1)
    world.append(m.PARTIAL, b"1", world.trustees[0], at=start)
    world.append(m.PARTIAL, b"2", world.trustees[0])
    world.append(m.PARTIAL, b"3", world.trustees[2])


def test_the_result_comes_once_and_after_a_partial_decryption(world):
    world.settle()
    world.now = world.windows.decrypt_not_before
    with world.reverts("NotInPhase", m.SETTLED):
        world.append(m.RESULT, b"{}", world.authority)
    world.append(m.PARTIAL, b"{}", world.trustees[0])
    world.append(m.RESULT, b"{}", world.authority)
    assert world.view("phase") == m.FINAL
    with world.reverts("NotInPhase", m.FINAL):
        world.append(m.RESULT, b"{}", world.authority)
    with world.reverts("NotInPhase", m.FINAL):
        world.append(m.PARTIAL, b"{}", world.trustees[1])


# ---- attachments ----


def test_a_role_publishes_parts_of_a_file_and_the_log_stays_as_it_is(world):
    head = world.view("head")
    file = m.sha256(b"rows")
    for sender, role in ((world.relayers[1], 7), (world.clerk, 15)):
        events = world.call("attach", file, 1, 2, b"ws", sender=sender)
        assert events == [("Attachment", {"file": file, "role": role, "part": 1, "parts": 2, "data": b"ws"})]
    assert world.view("head") == head


def test_a_stranger_publishes_no_attachment(world):
    with world.reverts("WrongRole", world.stranger, 0):
        world.call("attach", bytes(32), 0, 1, b"x")


@pytest.mark.parametrize("part, parts, data", [(1, 1, b"x"), (0, 0, b"x"), (0, 1, b"")])
def test_a_part_has_its_place_and_its_bytes(world, part, parts, data):
    with world.reverts("BadBody"):
        world.call("attach", bytes(32), part, parts, data, sender=world.relayers[0])
