"""Polling stations: check-ins and result hashes by two officers of the manifest's row, and results that match their hashes."""

import pytest

from tests.contracts import model as m
from tests.contracts.world import account, check_in, officer, result_hash, station_row


def at_count(world):
    """The world in its counting time, with the poll open."""
    world.open()
    world.now = world.windows.count_not_before
    return world


@pytest.fixture
def world(world):
    return at_count(world)


def document(station: int, revision: int = 1, text: str = "") -> bytes:
    return f'{{"station":{station},"revision":{revision},"text":"{text}"}}'.encode()


def submit(world, station: int, revision: int = 1, text: str = "", at=None) -> bytes:
    """Record the hash of a document and return the document."""
    body = document(station, revision, text)
    world.stations(world.item(m.RESULT_HASH, result_hash(station, revision, body)), at=at)
    return body


# ---- what is recorded ----


def test_a_check_in_is_recorded_for_the_officers(world):
    body = check_in(3, 0, 17, 18, 19)
    ((_, record),) = world.stations(world.item(m.CHECK_IN, body))
    assert (record["kind"], record["role"], record["number"], record["body"]) == (m.CHECK_IN, 65534, 0, body)
    assert world.view("station", 3) == (1, 0, False)


def test_a_result_hash_is_recorded_for_the_officers(world):
    body = submit(world, 3)
    size, _ = world.view("head")
    assert world.view("document", m.sha256(body)) == (size, False)
    assert world.view("station", 3) == (0, 1, False)


def test_one_call_carries_items_of_many_stations_and_each_has_its_root(world):
    items = [world.item(m.CHECK_IN, check_in(s, 0, s)) for s in range(5)]
    items += [world.item(m.RESULT_HASH, result_hash(s, 1, document(s))) for s in range(5)]
    items += [world.item(m.CHECK_IN, check_in(0, 1, 99))]
    events = world.stations(*items)
    assert len(events) == 11 and len({e["root"] for _, e in events}) == 11


def test_one_bad_item_keeps_out_its_whole_call(world):
    good, bad = world.item(m.CHECK_IN, check_in(0, 0, 1)), world.item(m.CHECK_IN, check_in(1, 1, 1))
    with world.reverts("WrongNumber", 0):
        world.stations(good, bad)
    assert world.view("station", 0) == (0, 0, False)


# ---- who ----


@pytest.mark.parametrize("pair", [(0, 1), (1, 0), (0, 2), (2, 1)])
def test_any_two_officers_of_the_row_may_sign_in_any_order(world, pair):
    world.stations(world.item(m.CHECK_IN, check_in(2, 0), [officer(2, i) for i in pair]))


@pytest.mark.parametrize("kind", [m.CHECK_IN, m.RESULT_HASH])
def test_two_distinct_officers_are_needed(world, kind):
    body = check_in(2, 0) if kind == m.CHECK_IN else result_hash(2, 1, b"{}")
    first = officer(2, 0)
    with world.reverts("BadSignature"):
        world.stations(world.item(kind, body, [first, first]))
    for outsider in (officer(2, 3), officer(1, 0), account("stranger"), world.authority):
        with world.reverts("WrongRole", outsider.address, kind):
            world.stations(world.item(kind, body, [first, outsider]))
        with world.reverts("WrongRole", outsider.address, kind):
            world.stations(world.item(kind, body, [outsider, first]))


def test_an_officer_s_signature_is_for_its_kind_number_board_and_chain(world):
    body = check_in(2, 0)
    officers = [officer(2, 0), officer(2, 1)]
    for wrong in ({"kind": m.RESULT_HASH}, {"number": 1}, {"chain_id": 1}, {"board": "0x" + 20 * "ab"}):
        given = {"kind": m.CHECK_IN, "body": body, "number": 0} | wrong
        spoiled = b"".join(world.sign(o, **given) for o in officers)
        with world.reverts("WrongRole"):
            world.stations(world.item(m.CHECK_IN, body)[:-130] + spoiled)


def test_a_malleable_officer_signature_is_refused(world):
    item = world.item(m.CHECK_IN, check_in(2, 0))
    s, v = int.from_bytes(item[-33:-1], "big"), item[-1]
    with world.reverts("BadSignature"):
        world.stations(item[:-33] + (m.ORDER - s).to_bytes(32, "big") + bytes([55 - v]))


@pytest.mark.parametrize("rows", range(1, 10))
def test_every_station_of_every_size_of_list_proves_its_row(make, rows):
    world = at_count(make(rows=[station_row(i) for i in range(rows)]))
    world.stations(*(world.item(m.CHECK_IN, check_in(i, 0)) for i in range(rows)))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda w: {"row": station_row(2, name="Other")},
        lambda w: {"row": station_row(2, officers=4), "signers": [officer(2, 0), officer(2, 3)]},
        lambda w: {"row": w.rows[1]},
        lambda w: {"row": w.rows[2][:68]},
        lambda w: {"row": w.rows[2][:8]},
        lambda w: {"row": w.rows[2] + b"\0"},
        lambda w: {"proof": m.tree_path(1, w.rows)},
        lambda w: {"proof": m.tree_path(2, w.rows)[:-1]},
        lambda w: {"proof": [*m.tree_path(2, w.rows), bytes(32)]},
        lambda w: {"proof": m.tree_path(2, w.rows)[::-1]},
        lambda w: {"proof": []},
        lambda w: {"proof": [bytes(32)] * 255},
    ],
    ids=[
        "name",
        "officer added",
        "another row",
        "row cut in its officers",
        "row cut",
        "row longer",
        "another proof",
        "proof short",
        "proof long",
        "proof reversed",
        "no proof",
        "255 hashes",
    ],
)
def test_a_row_outside_the_manifest_s_list_is_refused(world, spoil):
    with world.reverts("BadInclusion"):
        world.stations(world.item(m.CHECK_IN, check_in(2, 0), **spoil(world)))


def test_a_station_beyond_the_list_is_refused(world):
    for station in (5, 2**32 - 1):
        with world.reverts("BadInclusion"):
            world.stations(
                world.item(m.CHECK_IN, check_in(station, 0), row=station_row(station), proof=m.tree_path(4, world.rows))
            )


def test_a_row_speaks_for_the_station_it_names(make):
    """Even where a manifest lists it at another place."""
    world = at_count(make(rows=[station_row(0), station_row(2)]))
    with world.reverts("BadInclusion"):
        world.stations(world.item(m.CHECK_IN, check_in(1, 0), [officer(2, 0), officer(2, 1)]))


@pytest.mark.parametrize("cut", [1, 20, 60], ids=lambda n: f"{n} bytes short")
def test_a_row_that_is_too_short_for_its_officers_speaks_for_nobody(make, cut):
    """Even where a manifest lists it."""
    row = station_row(0, name="")
    world = at_count(make(rows=[row[:-cut]]))
    with world.reverts("BadInclusion"):
        world.stations(world.item(m.CHECK_IN, check_in(0, 0)))


def test_an_inner_node_is_no_row(world):
    """A node's input starts with 01, a leaf's with 00, so a pair of hashes cannot pass for a row."""
    pair = m.tree_root(world.rows[:1]) + m.tree_root(world.rows[1:2])
    with world.reverts("BadInclusion"):
        world.stations(world.item(m.CHECK_IN, check_in(0, 0), row=pair, proof=m.tree_path(0, world.rows)[1:]))


def test_without_stations_there_is_no_station_record(make):
    world = at_count(make(rows=[]))
    with world.reverts("BadInclusion"):
        world.stations(world.item(m.CHECK_IN, check_in(0, 0), row=station_row(0), proof=[]))


# ---- layout ----


@pytest.mark.parametrize("entries", [1, 999, 1000])
def test_a_check_in_has_up_to_1000_entries(world, entries):
    world.stations(world.item(m.CHECK_IN, check_in(0, 0, *range(entries))))


@pytest.mark.parametrize(
    "body",
    [check_in(0, 0)[:8], check_in(0, 0)[:-1], check_in(0, 0) + b"\0", check_in(0, 0, *range(1001)), b"\0\0\0\0"],
    ids=["no entry", "short", "long", "1001 entries", "4 bytes"],
)
def test_a_check_in_of_another_layout_is_refused(world, body):
    with world.reverts("BadBody"):
        world.stations(world.item(m.CHECK_IN, body))


@pytest.mark.parametrize("length", [8, 39, 41])
def test_a_result_hash_has_40_bytes(world, length):
    with world.reverts("BadBody"):
        world.stations(world.item(m.RESULT_HASH, (result_hash(0, 1, b"{}") + b"\0")[:length]))


@pytest.mark.parametrize("kind", [m.MANIFEST, m.CEREMONY, m.BALLOT, m.STATION_RESULT, m.CLOSE, 17, 255])
def test_stations_append_no_other_kind(world, kind):
    with world.reverts("BadBody"):
        world.stations(world.item(kind, result_hash(0, 1, b"{}")))


def test_items_that_do_not_end_where_the_call_ends_are_refused(world):
    item = world.item(m.CHECK_IN, check_in(1, 0))
    lengths = [0, 1, 2, 3, 50, len(item) - 130, len(item) - 1]
    for cut in lengths:
        with world.reverts("BadBody"):
            world.stations(item[:cut])
    with world.reverts("BadBody"):
        world.stations(item, b"\x05")
    empty_row = bytes([m.CHECK_IN, 0, 0]) + item[-200:]
    with world.reverts("BadBody"):
        world.stations(empty_row)


# ---- order, and sending again ----


def test_batches_of_a_station_come_in_order(world):
    with world.reverts("WrongNumber", 0):
        world.stations(world.item(m.CHECK_IN, check_in(0, 1)))
    world.stations(world.item(m.CHECK_IN, check_in(0, 0)))
    with world.reverts("WrongNumber", 1):
        world.stations(world.item(m.CHECK_IN, check_in(0, 2)))
    world.stations(world.item(m.CHECK_IN, check_in(0, 1)))


def test_sending_a_batch_again_changes_nothing(world):
    items = [world.item(m.CHECK_IN, check_in(0, b, b)) for b in range(3)]
    world.stations(*items[:2])
    assert world.stations(*items[:2]) == []
    assert len(world.stations(*items)) == 1


def test_the_same_batch_number_with_another_body_is_refused(world):
    world.stations(world.item(m.CHECK_IN, check_in(0, 0, 1)))
    with world.reverts("WrongNumber", 1):
        world.stations(world.item(m.CHECK_IN, check_in(0, 0, 2)))


@pytest.mark.parametrize("revision", [0, 2, 2**32 - 1])
def test_revisions_grow_by_one_from_one(world, revision):
    with world.reverts("WrongNumber", 1):
        world.stations(world.item(m.RESULT_HASH, result_hash(0, revision, b"{}")))
    submit(world, 0)
    with world.reverts("WrongNumber", 2):
        submit(world, 0, 3)
    submit(world, 0, 2)
    assert world.view("station", 0) == (0, 2, False)


def test_sending_a_result_hash_again_changes_nothing(world):
    submit(world, 0, 1)
    submit(world, 0, 2)
    for revision in (1, 2):
        item = world.item(m.RESULT_HASH, result_hash(0, revision, document(0, revision)))
        assert world.stations(item) == []


def test_the_same_revision_with_another_document_is_refused(world):
    submit(world, 0)
    with world.reverts("WrongNumber", 2):
        submit(world, 0, 1, "changed")


def test_a_document_is_one_station_s_and_one_revision_s(world):
    body = submit(world, 0)
    with world.reverts("AlreadyDone"):
        world.stations(world.item(m.RESULT_HASH, result_hash(0, 2, body)))
    with world.reverts("AlreadyDone"):
        world.stations(world.item(m.RESULT_HASH, result_hash(1, 1, body)))


# ---- when ----


def test_check_ins_are_taken_from_the_opening_to_the_settlement_s_time(make):
    world = make()
    with world.reverts("NotInPhase", m.SETUP):
        world.stations(world.item(m.CHECK_IN, check_in(0, 0)))
    world.open()
    world.stations(world.item(m.CHECK_IN, check_in(0, 0)))
    world.close()
    world.stations(world.item(m.CHECK_IN, check_in(0, 1)), at=world.windows.settle_not_before - 1)
    with world.reverts("TooLate", world.windows.settle_not_before):
        world.stations(world.item(m.CHECK_IN, check_in(0, 2)), at=world.windows.settle_not_before)
    assert world.stations(world.item(m.CHECK_IN, check_in(0, 1))) == []  # but one that is there is passed over


def test_no_check_in_after_the_settlement(world):
    world.settle()
    with world.reverts("NotInPhase", m.SETTLED):
        world.stations(world.item(m.CHECK_IN, check_in(0, 0)))


def test_result_hashes_are_taken_from_counting_time_until_the_result(make):
    world = make()
    world.open()
    with world.reverts("TooEarly", world.windows.count_not_before):
        submit(world, 0, at=world.windows.count_not_before - 1)
    submit(world, 0, at=world.windows.count_not_before)
    world.settle()
    submit(world, 1)
    world.finish()
    with world.reverts("NotInPhase", m.FINAL):
        submit(world, 2)
    assert world.stations(world.item(m.RESULT_HASH, result_hash(1, 1, document(1)))) == []


# ---- reveal ----


def test_anyone_reveals_a_recorded_document_from_its_time_on(world):
    body = submit(world, 0)
    with world.reverts("TooEarly", world.windows.reveal_not_before):
        world.reveal(body, at=world.windows.reveal_not_before - 1)
    ((_, record),) = world.reveal(body, at=world.windows.reveal_not_before)
    assert (record["kind"], record["role"], record["body"], record["signatures"]) == (
        m.STATION_RESULT,
        65535,
        body,
        b"",
    )
    assert world.view("station", 0) == (0, 1, True)
    assert world.view("document", m.sha256(body))[1]


def test_many_documents_are_revealed_in_one_call(world):
    bodies = [submit(world, s) for s in range(4)]
    world.now = world.windows.reveal_not_before
    assert len(world.reveal(*bodies)) == 4


def test_revealing_again_changes_nothing(world):
    first, second = submit(world, 0), submit(world, 1)
    world.reveal(first, at=world.windows.reveal_not_before)
    assert world.reveal(first) == []
    assert len(world.reveal(first, second, second)) == 1


def test_a_document_that_does_not_match_is_refused(world):
    body = submit(world, 0)
    other = body + b" "
    with world.reverts("UnknownHash", m.sha256(other)):
        world.reveal(other, at=world.windows.reveal_not_before)


@pytest.mark.parametrize("documents", [b"", b"\0", b"\0\0", b"\0\5abcd"])
def test_documents_whose_lengths_do_not_add_up_are_refused(world, documents):
    with world.reverts("BadBody"):
        world.call("reveal", documents, at=world.windows.reveal_not_before)


def test_before_the_reveal_time_revisions_need_no_reveal_and_each_can_be_revealed_later(world):
    bodies = [submit(world, 0, r) for r in (1, 2, 3)]
    world.now = world.windows.reveal_not_before
    world.reveal(bodies[0])
    assert world.view("station", 0) == (0, 3, False)
    world.reveal(bodies[2])
    assert world.view("station", 0) == (0, 3, True)
    world.reveal(bodies[1])


def test_from_the_reveal_time_on_the_amended_document_must_be_revealed(world):
    first = submit(world, 0)
    world.now = world.windows.reveal_not_before - 1
    with world.reverts("UnrevealedRevision", 0):
        submit(world, 0, 2)
    world.reveal(first)
    second = submit(world, 0, 2)
    assert world.view("station", 0) == (0, 2, False)
    with world.reverts("UnrevealedRevision", 0):
        submit(world, 0, 3)
    world.reveal(second)
    submit(world, 0, 3)


def test_a_first_revision_may_come_after_the_reveal_time(world):
    world.now = world.windows.reveal_not_before
    world.reveal(submit(world, 4))


def test_nothing_is_revealed_after_the_result(world):
    revealed, hidden = submit(world, 0), submit(world, 1)
    world.reveal(revealed, at=world.windows.reveal_not_before)
    world.finish()
    with world.reverts("NotInPhase", m.FINAL):
        world.reveal(hidden)
    assert world.reveal(revealed) == []
