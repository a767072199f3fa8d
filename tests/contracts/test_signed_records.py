"""Records that roles sign: whose signature, over which number, in which phase and window."""

import pytest

from tests.contracts import model as m
from tests.contracts.world import account, decode_error, encode_call

ORDER = m.ORDER


@pytest.fixture
def stages(make):
    """A board brought to the phase, at a time when every kind of that phase is allowed."""

    def at(phase: int):
        world = make()
        if phase > m.SETUP:
            (world.open, world.close, world.settle, world.finish)[phase - 1]()
        if phase == m.SETTLED:
            world.now = world.windows.decrypt_not_before
        return world

    return at


def body_of(world, kind: int) -> bytes:
    if kind == m.OPEN:
        return world.head_body()
    if kind == m.EXTENSION:
        return (world.windows.close + 1).to_bytes(5, "big")
    if kind == m.REPORT:
        return b"\0" + m.sha256(b"commitment")
    return b"{}"


def signers_of(world, kind: int):
    first = {
        m.TRUSTEE: world.trustees[1],
        m.REGISTRAR: world.registrar,
        m.AUTHORITY: world.authority,
        m.VERIFIER: world.verifiers[2],
        None: world.data_holders[0],
    }[m.SIGNED[kind][0]]
    return [first, world.cosigner] if m.SIGNED[kind][1] else [first]


# Phases in which each kind is taken, by docs/protocol.md, section 2.
PHASES = {
    m.CEREMONY: [m.SETUP],
    m.ROLL: [m.SETUP],
    m.OPEN: [m.SETUP],
    m.PARTIAL: [m.SETTLED],
    m.RESULT: [m.SETTLED],
    m.REPORT: [m.FINAL],
    m.COMPLAINT: [m.SETUP, m.OPENED, m.CLOSED, m.SETTLED, m.FINAL],
    m.EXTENSION: [m.OPENED],
    m.ROLL_CHANGE: [m.OPENED],
    m.DECISION: [m.OPENED, m.CLOSED],
}


@pytest.mark.parametrize("phase", range(5))
def test_a_kind_is_taken_in_its_phases_and_no_other(stages, phase):
    world = stages(phase)
    if phase == m.SETTLED:
        world.append(m.PARTIAL, b"{}", world.trustees[0])
    if phase == m.SETUP:
        world.record_roll()
        world.now = world.windows.open_not_before
    for kind in sorted(
        PHASES, key=lambda k: k in (m.OPEN, m.RESULT) and phase in PHASES[k]
    ):  # what ends the phase comes last
        body = body_of(world, kind)
        if (phase, kind) == (m.SETUP, m.ROLL):
            continue  # once; a test below
        if phase in PHASES[kind]:
            (event,) = world.append(kind, body, *signers_of(world, kind))
            assert event[0] == "Record" and event[1]["kind"] == kind and event[1]["body"] == body
        else:
            with world.reverts("NotInPhase", phase):
                world.append(kind, body, *signers_of(world, kind))


@pytest.mark.parametrize("kind", sorted(m.SIGNED))
def test_a_kind_is_taken_from_its_role_only(stages, kind):
    world = stages(PHASES[kind][0])
    everyone = [
        world.authority,
        world.registrar,
        world.cosigner,
        world.trustees[0],
        world.verifiers[0],
        world.data_holders[1],
    ]
    allowed, cosigned = m.SIGNED[kind]
    for key in [*everyone, account("stranger")]:
        role = next((k for k, a in world.roles if a == key.address), None)
        if role is not None and role == (allowed or role):
            continue
        # The board recovers with number 0, so it can name a signer that has not signed before.
        named = (key.address, kind) if world.model.numbers.get(key.address, 0) == 0 else ()
        with world.reverts("WrongRole", *named):
            world.append(kind, body_of(world, kind), *([key, world.cosigner] if cosigned else [key]))
    if cosigned:
        for key in [world.authority, world.registrar, world.verifiers[0], account("stranger")]:
            with world.reverts("WrongRole"):
                world.append(kind, body_of(world, kind), signers_of(world, kind)[0], key)


@pytest.mark.parametrize(
    "kind", [m.MANIFEST, m.BALLOT, m.CHECK_IN, m.RESULT_HASH, m.STATION_RESULT, m.CLOSE, m.SETTLEMENT, 17, 255]
)
def test_nobody_signs_the_other_kinds(world, kind):
    for key in [world.authority, account("stranger")]:
        with world.reverts("WrongRole", m.NOBODY, kind):
            world.append(kind, b"{}", key)


def test_an_account_s_numbers_run_over_all_its_kinds(world):
    trustee = world.trustees[0]
    numbers = [world.append(kind, b"{}", trustee)[0][1]["number"] for kind in (m.CEREMONY, m.COMPLAINT, m.CEREMONY)]
    assert numbers == [0, 1, 2] and world.view("numbers", trustee.address) == 3


def test_a_cosigner_s_number_is_used_up_too(world):
    world.open()
    world.append(m.ROLL_CHANGE, b"{}", world.registrar, world.cosigner)
    world.append(m.DECISION, b"{}", world.authority, world.cosigner)
    assert world.view("numbers", world.cosigner.address) == 2


def test_the_entry_names_the_signer_and_not_the_sender(world):
    signature = world.sign(world.trustees[2], m.CEREMONY, b"{}")
    ((_, record),) = world.call("append", m.CEREMONY, b"{}", signature, sender=world.relayers[0])
    assert record["role"] == 5
    assert world.model.entries[-1][6:8] == (5).to_bytes(2, "big")


def test_a_record_cannot_be_replayed(world):
    signature = world.sign(world.trustees[0], m.CEREMONY, b"{}")
    world.call("append", m.CEREMONY, b"{}", signature)
    with world.reverts("WrongRole"):
        world.call("append", m.CEREMONY, b"{}", signature)


def test_records_of_a_signer_come_in_order(world):
    first, second = (world.sign(world.trustees[0], m.CEREMONY, body, n) for n, body in enumerate([b"1", b"2"]))
    with world.reverts("WrongRole"):
        world.call("append", m.CEREMONY, b"2", second)
    world.call("append", m.CEREMONY, b"1", first)
    world.call("append", m.CEREMONY, b"2", second)


@pytest.mark.parametrize(
    "elsewhere", [{"chain_id": 1}, {"board": "0x" + 20 * "ab"}], ids=["another chain", "another election"]
)
def test_a_signature_is_for_this_board_on_this_chain(world, elsewhere):
    with world.reverts("WrongRole"):
        world.call("append", m.CEREMONY, b"{}", world.sign(world.trustees[0], m.CEREMONY, b"{}", **elsewhere))


def test_a_copy_of_the_chain_under_another_id_takes_no_signature_of_the_first(world):
    """The domain is made anew in each call, and not kept from the creation."""

    def answer(chain_id: int) -> dict:
        signature = world.sign(world.trustees[0], m.CEREMONY, b"{}", chain_id=chain_id)
        data = "0x" + encode_call("append", m.CEREMONY, b"{}", signature).hex()
        return world.web3.provider.make_request("eth_call", [{"to": world.address, "data": data}, "latest"])

    try:
        world.web3.provider.make_request("anvil_setChainId", [999])
        refusal, accepted = answer(world.chain_id), answer(999)
    finally:
        world.web3.provider.make_request("anvil_setChainId", [world.chain_id])
    assert decode_error(bytes.fromhex(refusal["error"]["data"][2:])).args[0] == "WrongRole"
    assert accepted["result"] == "0x"


def test_a_signature_is_for_its_kind_and_body(world):
    signature = world.sign(world.trustees[0], m.CEREMONY, b"{}")
    with world.reverts("WrongRole"):
        world.call("append", m.CEREMONY, b"{ }", signature)
    with world.reverts("WrongRole"):
        world.call("append", m.COMPLAINT, b"{}", signature)


def altered(signature: bytes, **change: bytes) -> bytes:
    parts = {"r": signature[:32], "s": signature[32:64], "v": signature[64:]} | change
    return parts["r"] + parts["s"] + parts["v"]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda g: altered(g, s=(ORDER - int.from_bytes(g[32:64], "big")).to_bytes(32, "big"), v=bytes([55 - g[64]])),
        lambda g: altered(g, s=(ORDER // 2 + 1).to_bytes(32, "big")),
        lambda g: altered(g, v=bytes([g[64] - 27])),
        lambda g: altered(g, v=b"\x1d"),
        lambda g: altered(g, r=bytes(32)),
        lambda g: altered(g, s=bytes(32)),
        lambda g: altered(g, r=ORDER.to_bytes(32, "big")),
        lambda g: altered(g, r=(5).to_bytes(32, "big")),  # no point of the curve has this x
        lambda g: g[:-1],
        lambda g: g + b"\0",
        lambda g: g + g,
        lambda g: b"",
    ],
    ids=[
        "other half of s",
        "s just above the half",
        "v of 0 or 1",
        "v 29",
        "r 0",
        "s 0",
        "r the order",
        "r on no point",
        "64 bytes",
        "66 bytes",
        "two",
        "none",
    ],
)
def test_a_signature_has_one_form(world, spoil):
    signature = world.sign(world.trustees[0], m.CEREMONY, b"{}")
    with world.reverts("BadSignature"):
        world.call("append", m.CEREMONY, b"{}", spoil(signature))
    world.call("append", m.CEREMONY, b"{}", signature)


def test_two_signatures_are_those_of_the_role_then_the_cosigner(world):
    world.open()
    role, cosigner = (world.sign(k, m.DECISION, b"{}") for k in (world.authority, world.cosigner))
    for wrong in (role, role + cosigner + cosigner):
        with world.reverts("BadSignature"):
            world.call("append", m.DECISION, b"{}", wrong)
    for wrong in (cosigner + role, role + role):
        with world.reverts("WrongRole"):
            world.call("append", m.DECISION, b"{}", wrong)
    world.call("append", m.DECISION, b"{}", role + cosigner)


@pytest.mark.parametrize("length", [0, 65536])
def test_a_body_has_1_to_65535_bytes(world, length):
    with world.reverts("BadBody"):
        world.append(m.COMPLAINT, bytes(length), world.cosigner)


def test_the_largest_body_is_taken(world):
    world.append(m.COMPLAINT, bytes(65535), world.cosigner)


def test_there_is_one_roll(world):
    world.record_roll()
    with world.reverts("AlreadyDone"):
        world.record_roll()


# ---- open ----


def test_the_poll_opens_on_the_head_just_before(world):
    world.record_roll()
    world.append(m.OPEN, world.head_body(), world.authority, at=world.windows.open_not_before)
    assert world.view("phase") == m.OPENED


def test_the_poll_does_not_open_without_a_roll(world):
    with world.reverts("NotInPhase", m.SETUP):
        world.append(m.OPEN, world.head_body(), world.authority, at=world.windows.open_not_before)


def test_the_poll_opens_in_its_window(world):
    world.record_roll()
    with world.reverts("TooEarly", world.windows.open_not_before):
        world.append(m.OPEN, world.head_body(), world.authority, at=world.windows.open_not_before - 1)
    with world.reverts("TooLate", world.windows.close):
        world.append(m.OPEN, world.head_body(), world.authority, at=world.windows.close)


@pytest.mark.parametrize(
    "spoil",
    [lambda b: b[:-1], lambda b: b + b"\0", lambda b: bytes([b[0] ^ 1]) + b[1:], lambda b: b[:-1] + bytes([b[-1] ^ 1])],
    ids=["short", "long", "size", "root"],
)
def test_an_open_record_over_another_head_is_refused(world, spoil):
    world.record_roll()
    with world.reverts("BadBody"):
        world.append(m.OPEN, spoil(world.head_body()), world.authority, at=world.windows.open_not_before)


def test_a_record_that_slips_in_before_makes_the_open_record_stale(world):
    world.record_roll()
    stale = world.head_body()
    world.append(m.COMPLAINT, b"{}", world.cosigner)
    with world.reverts("BadBody"):
        world.append(m.OPEN, stale, world.authority, at=world.windows.open_not_before)


# ---- extension and roll change ----


def extension(time: int, reason: bytes = b"storm") -> bytes:
    return time.to_bytes(5, "big") + reason


def test_the_close_time_can_only_grow_up_to_its_limit(world):
    world.open()
    last = world.windows.close_not_after
    for bad in (world.windows.close, world.windows.close - 1, last + 1, 0, 2**40 - 1):
        with world.reverts("BadBody"):
            world.append(m.EXTENSION, extension(bad), world.authority)
    world.append(m.EXTENSION, extension(last - 1), world.authority)
    assert world.view("closeTime") == last - 1
    with world.reverts("BadBody"):
        world.append(m.EXTENSION, extension(last - 1), world.authority)
    world.append(m.EXTENSION, extension(last, b""), world.authority)
    assert world.view("closeTime") == last
    assert world.view("windows")[1] == world.windows.close


def test_an_extension_has_a_time(world):
    world.open()
    with world.reverts("BadBody"):
        world.append(m.EXTENSION, extension(world.windows.close + 1)[:4], world.authority)


def test_a_poll_is_extended_and_a_roll_changed_before_the_close_time(world):
    world.open()
    world.append(m.EXTENSION, extension(world.windows.close + 100), world.authority, at=world.windows.close - 1)
    world.append(m.ROLL_CHANGE, b"{}", world.registrar, world.cosigner, at=world.windows.close + 99)
    with world.reverts("TooLate", world.windows.close + 100):
        world.append(m.EXTENSION, extension(world.windows.close + 200), world.authority, at=world.windows.close + 100)
    with world.reverts("TooLate", world.windows.close + 100):
        world.append(m.ROLL_CHANGE, b"{}", world.registrar, world.cosigner, at=world.windows.close + 100)
