"""What the board takes in, what it refuses, and what it makes of it."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import replace

import pytest

from bulletin.replica import Alarm, Replica
from bulletin.store import Store, StoreError
from chain.reader import Ballots
from protocol import election, merkle
from protocol.ballot import Reason
from protocol.counting import Status
from protocol.encoding import canonical_json
from protocol.engine import Engine
from protocol.manifest import Manifest
from protocol.records import Kind, LogHead, RollChange
from tests.bulletin.boards import cursor, events, feed, in_calls, replica
from tests.tamper import builder
from tests.tamper.builder import hold


@pytest.fixture(scope="module")
def held():
    return hold()


@pytest.fixture(scope="module")
def whole(held, tmp_path_factory):
    return replica(tmp_path_factory.mktemp("whole"), held)


def empty(tmp_path, held) -> Replica:
    return Replica(Store(f"sqlite:///{tmp_path}/board.sqlite"), held.manifest, builder.CONTRACT)


def export(copy: Replica) -> bytes:
    with copy.store.read() as tx:
        return b"".join(tx.export())


# ---- what it takes in


def test_the_whole_log_is_there_as_it_was_sent(held, whole):
    with whole.store.read() as tx:
        assert list(tx.records()) == held.records()
        assert tx.head() == whole.head == held.claims().head


def test_every_record_has_its_block_and_a_proof_against_every_later_head(held, whole):
    roots = held.claims().roots
    with whole.store.read() as tx:
        for event in events(held):
            for record in event.records:
                assert tx.place(record.position).block_hash == event.block_hash
                for size, root in roots:
                    if size > record.position:
                        proof = tx.proof(record.position, size)
                        assert merkle.verify_inclusion(record.entry.leaf(), record.position, size, proof, root)


@pytest.mark.parametrize("at_once", [1, 2, 7])
def test_a_log_that_came_bit_by_bit_exports_the_same_bytes(held, whole, tmp_path, at_once):
    assert export(replica(tmp_path, held, at_once=at_once)) == export(whole)


def test_a_process_that_is_started_again_goes_on_where_it_stopped(held, whole, tmp_path):
    found = events(held)
    for start in range(0, len(found), 3):
        copy = empty(tmp_path, held)
        if not start:
            copy.attach(held.files)
        feed(copy, found[start : start + 3])
        copy.store.close()
    assert export(empty(tmp_path, held)) == export(whole)


@pytest.mark.parametrize("at_once", [1, 4, 1000])
def test_ballots_as_they_stand_in_their_calls_export_the_same_bytes(held, whole, tmp_path, at_once):
    copy = empty(tmp_path, held)
    copy.attach(held.files)
    found = [in_calls(event) for event in events(held)]
    feed(copy, found, at_once)
    assert any(isinstance(event.records, Ballots) for event in found) and export(copy) == export(whole)


def test_ballots_are_checked_in_the_transaction_that_records_them_once_the_poll_is_open(held, tmp_path):
    copy, found = empty(tmp_path, held), [in_calls(event) for event in events(held)]
    copy.attach(held.files)
    first = next(i for i, event in enumerate(found) if isinstance(event.records, Ballots))
    feed(copy, found[:first])
    copy.append(found[first : first + 1], cursor(found[first]))
    with copy.store.read() as tx:
        assert tx.verdict(found[first].first).reason == Reason.VALID and tx.fact("checked") == found[first].size


def test_ballots_that_come_with_a_roll_change_are_checked_against_the_changed_roll(held, tmp_path):
    copy, found = empty(tmp_path, held), [in_calls(event) for event in events(held)]
    copy.attach(held.files)
    first = next(i for i, event in enumerate(found) if event.records[0].kind == Kind.ROLL_CHANGE)
    feed(copy, found[:first])
    copy.append(found[first:-1], cursor(found[-2]))
    with copy.store.read() as tx:
        assert tx.fact("checked") == found[first].first  # nobody is called unknown before the new row is there
    copy.derive()
    with copy.store.read() as tx:
        assert tx.fact("checked") == tx.head().size and set(tx.reasons().values()) == {Reason.VALID}


def test_an_engine_that_fails_while_the_rows_are_written_leaves_nothing_behind(held, whole, tmp_path, monkeypatch):
    copy, found = empty(tmp_path, held), [in_calls(event) for event in events(held)]
    copy.attach(held.files)
    first = next(i for i, event in enumerate(found) if isinstance(event.records, Ballots))
    feed(copy, found[:first])
    before, threads = export(copy), threading.enumerate()

    def broken(*_):
        raise MemoryError("no room")

    with monkeypatch.context() as patch, pytest.raises(MemoryError):
        patch.setattr(Engine, "verify_packed", broken)
        copy.append(found[first : first + 1], cursor(found[first]))
    assert export(copy) == before and copy.head.size == found[first].first and threading.enumerate() == threads
    feed(copy, found[first:])
    assert export(copy) == export(whole)


def test_files_that_are_published_late_change_nothing_in_the_end(held, whole, tmp_path):
    copy = empty(tmp_path, held)
    feed(copy, events(held))
    with copy.store.read() as tx:
        assert tx.fact("setup") and tx.verdict(11) is None
    assert copy.missing() == sorted(held.files)
    copy.attach(held.files)
    copy.derive()
    assert copy.missing() == [] and export(copy) == export(whole)


# ---- what it refuses


def refused(tmp_path, held, change, match):
    """The first ten events are taken, the change in a later one is not, and nothing of its transaction is kept."""
    copy, found = empty(tmp_path, held), events(held)
    feed(copy, found[:10])
    before = export(copy)
    later = found[10:]
    change(later)
    with pytest.raises(Alarm, match=match):
        copy.append(later, cursor(found[-1]))
    assert export(copy) == before and copy.head == LogHead(found[9].size, found[9].root)
    return copy


def test_another_root_than_the_emitted_one_stops_the_board(tmp_path, held):
    def change(later):
        later[2] = replace(later[2], root=bytes(32))

    refused(tmp_path, held, change, "the root emitted after position")


def test_a_changed_body_hash_stops_the_board(tmp_path, held):
    def change(later):
        first = later[1].records[0]
        later[1].records[0] = replace(first, entry=replace(first.entry, body_hash=bytes(32)))

    refused(tmp_path, held, change, "the root emitted after position")


def test_a_record_under_another_role_stops_the_board(tmp_path, held):
    def change(later):
        first = later[1].records[0]
        later[1].records[0] = replace(first, entry=replace(first.entry, role=first.entry.role ^ 1))

    refused(tmp_path, held, change, "the root emitted after position")


def test_a_left_out_event_stops_the_board(tmp_path, held):
    refused(tmp_path, held, lambda later: later.pop(3), "goes on at position")


def test_a_repeated_event_stops_the_board(tmp_path, held):
    refused(tmp_path, held, lambda later: later.insert(1, later[0]), "goes on at position")


def test_a_log_that_ends_before_the_head_that_the_contract_stores_stops_the_board(tmp_path, held):
    copy, found = empty(tmp_path, held), events(held)
    head = LogHead(found[-1].size, found[-1].root)
    with pytest.raises(Alarm, match="the board at block"):
        copy.append(found[:-1], cursor(found[-2]), head)
    copy.append(found, cursor(found[-1]), head)


def test_a_log_with_another_manifest_than_the_creation_has_stops_the_board(tmp_path, held):
    other = hold(publish=lambda e: (builder.Election.publish(e), setattr(e, "manifest", e.manifest)), until="publish")
    found = events(other)
    found[0].records[0] = replace(found[0].records[0], body=b"{}")
    with pytest.raises(Alarm, match="record 0 is not the manifest"):
        empty(tmp_path, held).append(found, cursor(found[0]))


def test_a_stopped_board_is_stopped_for_every_later_process(tmp_path, held):
    copy = empty(tmp_path, held)
    copy.stop("something is wrong")
    assert empty(tmp_path, held).alarm == "something is wrong"
    copy.store.reset()
    assert empty(tmp_path, held).alarm == ""


def test_a_database_of_another_board_or_election_is_refused(tmp_path, held):
    copy = empty(tmp_path, held)
    with pytest.raises(StoreError, match="this database holds the election"):
        Replica(copy.store, held.manifest, bytes(20))
    other = Manifest.build(held.manifest_value() | {"name": "Another election"})
    with pytest.raises(StoreError, match="this database holds the election"):
        Replica(copy.store, other, builder.CONTRACT)


def test_a_second_writer_is_noticed(tmp_path, held):
    one, two, found = empty(tmp_path, held), empty(tmp_path, held), events(held)
    feed(one, found[:3])
    with pytest.raises(StoreError, match="another process"):
        two.append(found[:3], cursor(found[2]))


def test_a_file_that_is_no_database_is_refused_in_one_line(tmp_path, held):
    (tmp_path / "board.sqlite").write_text("no database " * 100)
    with pytest.raises(StoreError, match="cannot be opened") as caught:
        empty(tmp_path, held)
    assert "\n" not in str(caught.value)


# ---- what it makes of it


def test_the_fates_are_the_counted_set_of_the_protocol(held, whole):
    with whole.store.read() as tx:
        counted = held.settled().counted
        assert tx.fates() == counted.rows
        became = Counter(row.status.text for row in counted.rows)
        assert set(became) == {"counted", "superseded", "revoked", "replaced-by-paper"}
        statuses = {status.text: became[status.text] for status in Status}
        root = counted.root().hex()
        assert tx.fact("counted") == {"conflicts": [], "root": root, "size": len(counted.rows), "statuses": statuses}


def test_before_the_settlement_nothing_is_said_of_fates(tmp_path):
    with replica(tmp_path, hold(until="reveal")).store.read() as tx:
        assert tx.fates() == [] and tx.fact("counted") is None
        assert set(tx.reasons().values()) == {Reason.VALID}


def test_a_ballot_of_a_row_that_is_added_later_is_valid_once_it_is_added(tmp_path):
    """Row 6 is added by the roll change; here it votes before."""

    def vote(e: builder.Election) -> None:
        e.append_ballots(1200, [e.cast["row 1"], e.ballot(6, builder.CHOICES[6], 0)])
        change = RollChange(builder.base(builder.credential(6)), "card lost", 4, builder.UNIT_OF_ROW[4])
        e.append(Kind.ROLL_CHANGE, 1300, change.body(), builder.REGISTRAR)

    held = hold(vote=vote, until="vote")
    copy = empty(tmp_path, held)
    copy.attach(held.files)
    found = events(held)
    feed(copy, found[:-1])
    position = found[-2].size - 1
    with copy.store.read() as tx:
        assert tx.verdict(position).reason == Reason.UNKNOWN_CREDENTIAL
    feed(copy, found[-1:])
    with copy.store.read() as tx:
        verdict = tx.verdict(position)
        assert (verdict.reason, verdict.unit) == (Reason.VALID, builder.UNIT_OF_ROW[4])
        state = election.roll_state(held.opened, held.records())
        assert tx.reasons() == election.verify_ballots(
            held.opened, state.roll, election.of_kind(held.records(), Kind.BALLOT)
        )


def test_a_ballot_that_claims_to_have_seen_more_than_there_is_is_not_valid(tmp_path):
    held = hold(vote=lambda e: e.append_ballots(1200, [e.ballot(1, builder.CHOICES[1], 2**64 - 1)]), until="vote")
    with replica(tmp_path, held).store.read() as tx:
        assert list(tx.reasons().values()) == [Reason.SEEN_TOO_HIGH]


def test_junk_in_place_of_a_ballot_is_recorded_with_its_reason(tmp_path):
    held = hold(vote=lambda e: e.append_ballots(1200, [b"junk"]), until="vote")
    with replica(tmp_path, held).store.read() as tx:
        assert list(tx.reasons().values()) == [Reason.MALFORMED_HEADER]


def test_the_right_result_is_recognised(whole):
    with whole.store.read() as tx:
        assert tx.fact("result") == ""


def test_a_result_with_two_totals_exchanged_is_recognised(tmp_path):
    def announce(e: builder.Election) -> None:
        value = e.result_value()
        value["total"][0].reverse()
        e.append(Kind.RESULT, 3400, canonical_json(value), builder.AUTHORITY)

    with replica(tmp_path, hold(announce=announce, until="announce")).store.read() as tx:
        assert tx.fact("result") == "the announced result is not the one that the record gives"


def test_a_result_without_enough_partial_decryptions_cannot_be_computed(tmp_path):
    held = hold(
        decrypt=lambda e: None,
        announce=lambda e: e.append(Kind.RESULT, 3400, b"{}", builder.AUTHORITY),
        until="announce",
    )
    with replica(tmp_path, held).store.read() as tx:
        assert "cannot be computed" in tx.fact("result")


def test_a_setup_that_gives_no_key_is_said_and_no_ballot_is_called_valid(tmp_path):
    def confirm(e: builder.Election, bodies):
        return [*bodies[:2], builder.canonical_json({**builder.parse_json(bodies[2]), "key": bodies[2].hex()[:64]})]

    class Wrong(builder.Election):
        confirmations = confirm

        def open_poll(self) -> None:
            self.append(Kind.OPEN, 1100, builder.head_of(self.drafts).body(), builder.AUTHORITY)

    held = hold(Wrong, until="open_poll")
    held.append_ballots(1200, [b"ballot"])
    with replica(tmp_path, held).store.read() as tx:
        assert "trustee 3" in tx.fact("setup") and tx.reasons() == {}
