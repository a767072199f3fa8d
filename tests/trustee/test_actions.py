"""Trustees on a real board: the ceremony with its accidents and its culprits, and decryption with its guards."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from eth_account import Account

from chain.anvil import Anvil
from chain.log import read_log
from chain.rpc import call
from chain.sealed import LIGHT
from chain.writer import Writer
from protocol import ceremony, election, tally
from protocol.ceremony import CeremonyVoid, TrusteeSecret
from protocol.encoding import canonical_json, parse_json
from protocol.group import ORDER
from protocol.records import Kind
from tests.trustee.boards import Election, publish
from trustee import actions
from trustee.actions import NotDue, WrongRecord
from trustee.keystore import Attempt, Keystore

pytestmark = pytest.mark.e2e

VOTES = [0, 1, 0, 2, 0, 0, 1, 2]
TOTALS = [[[2, 1, 1], [2, 1, 1]]]
"""Per group (unit) the votes for yes, no, blank."""


@pytest.fixture(scope="module")
def chain() -> Iterator[Anvil]:
    with Anvil(block_time=0) as chain:
        yield chain


@pytest.fixture
def board(chain) -> Election:
    return publish(chain)


@pytest.fixture
def stores(board, tmp_path) -> Iterator[list[Keystore]]:
    """The keystores of the three trustees, joined."""
    found = [
        Keystore.create(tmp_path / f"{j}.keystore", "pass", account, LIGHT)
        for j, account in enumerate(board.trustees, 1)
    ]
    for store in found:
        actions.join(board.board, store, board.manifest.election_id)
    yield found
    for store in found:
        store.close()


@pytest.fixture
def settled(board, stores) -> Election:
    """The same after a poll, at the time of decryption."""
    run_ceremony(board, stores)
    board.record_roll(4)
    board.open()
    board.vote(VOTES)
    board.settle()
    board.chain.advance_to(board.manifest.windows.decrypt_not_before)
    return board


def run_ceremony(board: Election, stores: list[Keystore]) -> None:
    for act in (actions.commit, actions.reveal, actions.confirm):
        for store in stores:
            act(board.board, store)


def messages(board: Election) -> list[tuple[int, int, int]]:
    """(attempt, round, trustee) of every ceremony record."""
    records = read_log(board.chain.web3, board.board.address, attachments=False).records
    return [ceremony.read_message(record.body) for record in election.of_kind(records, Kind.CEREMONY)]


def totals(board: Election, leave_out: tuple[int, ...] = ()) -> election.Tally:
    """What anybody computes from the record, without the partial decryptions of some trustees."""
    log = read_log(board.chain.web3, board.board.address)
    opened = log.open()
    found = election.settle(
        opened, log.records, election.verify_ballots(opened, opened.roll, election.of_kind(log.records, Kind.BALLOT))
    )
    roles = [board.manifest.trustees[j - 1] for j in leave_out]
    records = [r for r in log.records if r.kind != Kind.PARTIAL_DECRYPTION or r.entry.role not in roles]
    return election.decrypt(found, records)


def snapshot(board: Election) -> str:
    return call(board.chain.web3, "evm_snapshot")


def revert(board: Election, to: str) -> None:
    assert call(board.chain.web3, "evm_revert", to)


# ---------------------------------------------------------------- the ceremony


def test_whoever_does_what_is_due_ends_with_a_confirmed_key(board, stores):
    order = []
    while any(outcomes := [actions.next_step(board.board, store) for store in stores]):
        order.append([outcome.did.split(":")[0] if outcome else None for outcome in outcomes])
    assert order == [["commit"] * 3, ["reveal"] * 3, ["confirm"] * 3]
    log = read_log(board.chain.web3, board.board.address)
    _, joint = election.read_ceremony(log.manifest, log.records)
    states = [actions.status(board.board, store) for store in stores]
    assert {state.ceremony.key for state in states} == {joint} and not any(state.due for state in states)


def test_the_status_says_who_has_done_what_and_who_is_waited_for(board, stores):
    actions.commit(board.board, stores[0])
    actions.commit(board.board, stores[2])
    value = actions.status(board.board, stores[0]).value()
    assert value["rounds"][0] == {"name": "commit", "round": 1, "done": [1, 3], "missing": [2]}
    assert (value["waiting_for"], value["due"], value["key"]) == ([2], "", None)
    assert "trustee 2" in value["next"]
    assert actions.status(board.board, stores[1]).due == "commit"
    assert json.loads(json.dumps(value)) == value


@pytest.mark.parametrize("round_", [2, 3])
def test_nobody_goes_on_before_everybody_has_done_the_round_before(board, stores, round_):
    acts = (actions.commit, actions.reveal, actions.confirm)
    for number, act in enumerate(acts[: round_ - 1], 1):
        for store in stores if number < round_ - 1 else stores[:2]:
            act(board.board, store)
    said = messages(board)
    with pytest.raises(NotDue, match="waits for trustee 3"):
        acts[round_ - 1](board.board, stores[0])
    assert messages(board) == said


def test_doing_everything_twice_sends_nothing_twice(board, stores):
    for act in (actions.commit, actions.reveal, actions.confirm):
        for store in stores:
            act(board.board, store)
            assert "already" in act(board.board, store).did
    assert sorted(messages(board)) == [(0, number, j) for number in (1, 2, 3) for j in (1, 2, 3)]


def test_a_wrong_share_is_proven_and_the_next_attempt_gives_a_key(board, stores):
    class Cheat(TrusteeSecret):
        def share_for(self, other: int) -> int:
            return (super().share_for(other) + (other == 3)) % ORDER

    for store in stores:
        actions.commit(board.board, store)
    honest = stores[0].attempts[0].secret
    stores[0].attempts[0].secret = Cheat(honest.number, honest.q, honest.polynomial)
    for store in stores:
        actions.reveal(board.board, store)
    actions.confirm(board.board, stores[1])
    assert actions.confirm(board.board, stores[2]).did.startswith("complain")
    with pytest.raises(CeremonyVoid, match="trustee 1 dealt a wrong share to trustee 3") as void:
        actions.next_step(board.board, stores[1])
    assert void.value.culprits == (1,)
    assert "trustee 1 dealt a wrong share" in actions.status(board.board, stores[0]).value()["void"]

    first = stores[1].attempts[0].secret.polynomial
    actions.commit(board.board, stores[1])
    assert stores[1].attempts[1].secret.polynomial != first
    while any([actions.next_step(board.board, store) for store in stores]):
        pass
    assert actions.status(board.board, stores[0]).ceremony.key and messages(board)[-1][0] == 1


def test_a_complaint_about_a_right_share_is_not_sent(board, stores):
    for act in (actions.commit, actions.reveal):
        for store in stores:
            act(board.board, store)
    said = messages(board)
    for dealer, words in ((2, "is right"), (1, "no other trustee"), (4, "no other trustee")):
        with pytest.raises(NotDue, match=words):
            actions.complain(board.board, stores[0], dealer)
    assert messages(board) == said


@pytest.mark.parametrize("round_", [1, 2, 3])
@pytest.mark.parametrize("moment", ["before", "after"])
def test_killed_before_or_after_a_message_is_sent_it_never_says_a_second_one(board, stores, tmp_path, round_, moment):
    """The trustee's process is killed as it sends: with the message stored and unsent, or sent and no more known of it."""
    acts = ("commit", "reveal", "confirm")
    for act in acts[: round_ - 1]:
        for store in stores:
            getattr(actions, act)(board.board, store)
    path = stores[0].path
    stores[0].close()
    script = f"""
import os, signal, sys
from pathlib import Path
from chain.board import Board
from chain.rpc import connect
from chain.writer import Writer
from trustee import actions
from trustee.keystore import Keystore
send = Writer.append
def die(self, *arguments):
    if {moment!r} == "after":
        send(self, *arguments)
    os.kill(os.getpid(), signal.SIGKILL)
Writer.append = die
actions.{acts[round_ - 1]}(Board(connect(sys.argv[1]), sys.argv[2]), Keystore.open(Path(sys.argv[3]), "pass"))
"""
    arguments = [board.chain.url, "0x" + board.board.address.hex(), str(path)]
    child = subprocess.run(
        [sys.executable, "-c", script, *arguments], cwd=Path(__file__).parents[2], capture_output=True, text=True
    )
    assert child.returncode == -9, child.stderr
    assert len(messages(board)) == 3 * (round_ - 1) + (moment == "after")

    stores[0] = Keystore.open(path, "pass")
    stored = stores[0].attempts[0].messages[round_]
    while any([actions.next_step(board.board, store) for store in stores]):
        pass
    assert sorted(messages(board)) == [(0, number, j) for number in (1, 2, 3) for j in (1, 2, 3)]
    records = read_log(board.chain.web3, board.board.address, attachments=False)
    said = election.ceremony_messages(records.manifest, records.records)[0]
    assert said[round_ - 1][0] == stored
    assert actions.status(board.board, stores[0]).ceremony.key


def test_what_a_message_depends_on_is_on_the_disk_when_it_leaves(board, stores, monkeypatch):
    send, looked = Writer.append, []

    def look(self, kind, body, signers):
        [store] = [store for store in stores if store.account.address == signers[0].address]
        kept = Keystore.open(store.path, "pass", write=False)
        number = parse_json(body)["round"]
        assert kept.attempts[0].messages[number] == body and kept.attempts[0].secret == store.attempts[0].secret
        looked.append(number)
        return send(self, kind, body, signers)

    monkeypatch.setattr(Writer, "append", look)
    run_ceremony(board, stores)
    assert looked == [1, 1, 1, 2, 2, 2, 3, 3, 3]


def test_a_lost_laptop_goes_on_from_its_backup(board, stores, tmp_path):
    for store in stores:
        actions.commit(board.board, store)
    stores[0].backup(tmp_path / "backup")
    actions.reveal(board.board, stores[0])  # the backup does not know of it, the record does
    stores[0].close()
    stores[0] = Keystore.open(tmp_path / "backup", "pass")
    while any([actions.next_step(board.board, store) for store in stores]):
        pass
    assert sorted(messages(board)) == [(0, number, j) for number in (1, 2, 3) for j in (1, 2, 3)]
    assert actions.status(board.board, stores[0]).ceremony.key


def test_a_backup_from_before_the_commitment_is_refused_and_may_begin_a_new_attempt(board, stores, tmp_path):
    stores[0].backup(tmp_path / "backup")
    for store in stores:
        actions.commit(board.board, store)
    stores[0].close()
    stores[0] = Keystore.open(tmp_path / "backup", "pass")
    for act in (actions.commit, actions.reveal):
        with pytest.raises(WrongRecord, match="did not make"):
            act(board.board, stores[0])
    actions.commit(board.board, stores[0], new_attempt=True)
    while any([actions.next_step(board.board, store) for store in stores]):
        pass
    assert actions.status(board.board, stores[0]).ceremony.setting.attempt == 1


def test_the_ceremony_is_over_once_the_poll_is_open(settled, stores):
    with pytest.raises(NotDue, match="ceremony is over"):
        actions.commit(settled.board, stores[0], new_attempt=True)


# ---------------------------------------------------------------- joining, and whose record it is


def test_a_key_that_is_no_trustees_cannot_join(board, tmp_path):
    with Keystore.create(tmp_path / "k", "pass", Account.create(), LIGHT) as store:
        with pytest.raises(WrongRecord, match="not a trustee"):
            actions.join(board.board, store)
        assert store.binding is None
        with pytest.raises(NotDue, match="not joined"):
            actions.status(board.board, store)


def test_another_election_than_the_expected_one_is_not_joined(board, tmp_path):
    with Keystore.create(tmp_path / "k", "pass", board.trustees[0], LIGHT) as store:
        with pytest.raises(WrongRecord, match="A02"):
            actions.join(board.board, store, bytes(32))


def test_a_keystore_serves_one_board_only(board, stores):
    other = publish(board.chain)
    with pytest.raises(WrongRecord, match="not a trustee"):
        actions.join(other.board, stores[0])
    with pytest.raises(WrongRecord, match="serves the board"):
        actions.commit(other.board, stores[0])


def test_a_log_that_lost_or_changed_what_was_seen_is_refused(board, stores):
    before = snapshot(board)
    actions.commit(board.board, stores[0])
    actions.status(board.board, stores[1])  # looking alone does not make it remember
    seen = actions._look(board.board, stores[1]).claims.head
    assert Keystore.open(stores[1].path, "pass", write=False).head == seen
    revert(board, before)
    with pytest.raises(WrongRecord, match="has seen 2"):
        actions.commit(board.board, stores[1])
    actions.commit(board.board, stores[2])
    with pytest.raises(WrongRecord, match="was rewritten"):
        actions.commit(board.board, stores[1])


def test_a_forged_signature_stops_every_act(board, stores, monkeypatch):
    """A node that invents a trustee's message is caught before anything is sealed for it."""
    from verifier import node

    for store in stores:
        actions.commit(board.board, store)
    read = node.NodeSource.read

    def lie(self, progress):
        claims = read(self, progress)
        records = list(claims.records)
        record = next(r for r in records if r.kind == Kind.CEREMONY)
        forged = election.LogRecord(record.position, record.entry, record.body, record.number, bytes(64) + b"\x1b")
        records[record.position] = forged
        return replace(claims, records=records)

    monkeypatch.setattr(node.NodeSource, "read", lie)
    with pytest.raises(WrongRecord, match="A05"):
        actions.reveal(board.board, stores[0])


# ---------------------------------------------------------------- decryption


def test_every_two_of_three_trustees_give_the_same_totals(settled, stores):
    for store in stores:
        actions.decrypt(settled.board, store)
    for left_out in (1, 2, 3):
        assert totals(settled, (left_out,)).totals == TOTALS
    assert totals(settled) == election.Tally(TOTALS, [])


def test_fewer_than_the_threshold_is_a_clear_stop(settled, stores):
    actions.decrypt(settled.board, stores[1])
    with pytest.raises(tally.TooFewShares, match="1 of 2"):
        totals(settled)


def test_a_wrong_partial_decryption_is_named_and_ignored(settled, stores):
    send, wrong = Writer.append, []

    def spoil(self, kind, body, signers):
        value = parse_json(body)
        first = value["shares"][0]["values"]
        first[0], first[1] = first[1], first[0]
        landed = send(self, kind, canonical_json(value), signers)
        wrong.append(landed.positions[0])
        return landed

    Writer.append = spoil  # type: ignore[method-assign]
    try:
        actions.decrypt(settled.board, stores[0])
    finally:
        Writer.append = send  # type: ignore[method-assign]
    for store in stores[1:]:
        actions.decrypt(settled.board, store)
    found = totals(settled)
    assert found.totals == TOTALS
    assert found.faults == [(wrong[0], "trustee 1: the proof for contest 0, group 0 fails")]
    assert "1 of 1 records sent" in actions.decrypt(settled.board, stores[0]).did  # and may be put right


def test_the_settlement_is_on_the_disk_before_the_first_share_leaves(settled, stores, monkeypatch):
    send, heads = Writer.append, []

    def look(self, kind, body, signers):
        heads.append(Keystore.open(stores[0].path, "pass", write=False).settlement)
        return send(self, kind, body, signers)

    monkeypatch.setattr(Writer, "append", look)
    actions.decrypt(settled.board, stores[0])
    assert (
        len(heads) == 1
        and heads[0] is not None
        and heads[0].root.hex() in actions.decrypt(settled.board, stores[0]).did
    )


def test_decryption_interrupted_between_two_records_sends_the_missing_ones_only(settled, stores, monkeypatch):
    monkeypatch.setattr(tally, "VALUES_PER_PART", 2)  # one group a record
    send, sent = Writer.append, []

    def once(self, kind, body, signers):
        if len(sent) == 1:
            raise KeyboardInterrupt
        sent.append(tally.parse_partial(body).part)
        return send(self, kind, body, signers)

    monkeypatch.setattr(Writer, "append", once)
    with pytest.raises(KeyboardInterrupt):
        actions.decrypt(settled.board, stores[0])
    assert actions.status(settled.board, stores[0]).value()["partials"] == {"1": "1 of 2"}
    monkeypatch.setattr(Writer, "append", send)
    assert "1 of 2 records sent" in actions.decrypt(settled.board, stores[0]).did
    assert "already" in actions.decrypt(settled.board, stores[0]).did
    assert actions.next_step(settled.board, stores[0]) is None
    actions.decrypt(settled.board, stores[1])
    assert totals(settled).totals == TOTALS


def test_a_second_settlement_is_refused_even_where_the_heads_seen_are_forgotten(board, stores):
    run_ceremony(board, stores)
    board.record_roll(4)
    board.open()
    before = snapshot(board)
    for votes in (VOTES, VOTES[:-1]):
        board.vote(votes)
        board.settle()
        board.chain.advance_to(board.manifest.windows.decrypt_not_before)
        if votes is VOTES:
            actions.decrypt(board.board, stores[0])
            revert(board, before)
    with pytest.raises(WrongRecord, match=r"rewritten|has seen"):
        actions.decrypt(board.board, stores[0])
    stores[0].head = None
    with pytest.raises(WrongRecord, match="serves no other"):
        actions.decrypt(board.board, stores[0])
    records = read_log(board.chain.web3, board.board.address).records
    assert not election.of_kind(records, Kind.PARTIAL_DECRYPTION)


def test_nothing_is_decrypted_before_the_settlement_or_before_its_time(board, stores):
    run_ceremony(board, stores)
    board.record_roll(1)
    board.open()
    with pytest.raises(NotDue, match="no settlement yet"):
        actions.decrypt(board.board, stores[0])
    board.settle()
    with pytest.raises(NotDue, match="decryption begins"):
        actions.decrypt(board.board, stores[0])
    assert stores[0].settlement is None
    board.chain.advance_to(board.manifest.windows.decrypt_not_before)
    assert actions.next_step(board.board, stores[0])  # a poll without a ballot is decrypted too: as zeros
    actions.decrypt(board.board, stores[1])
    assert "already" in actions.decrypt(board.board, stores[1]).did
    assert totals(board).totals == [[[0, 0, 0]]]


def test_a_keystore_with_another_share_than_the_records_decrypts_nothing(settled, stores):
    honest = stores[0].attempts[0]
    stores[0].attempts[0] = Attempt(
        TrusteeSecret(1, honest.secret.q, [5, *honest.secret.polynomial[1:]]), honest.messages
    )
    with pytest.raises(WrongRecord, match="not the one whose key"):
        actions.decrypt(settled.board, stores[0])
    del stores[0].attempts[0]
    with pytest.raises(WrongRecord, match="did not make"):
        actions.decrypt(settled.board, stores[0])
    assert stores[0].settlement is None


def test_the_counted_set_has_no_ballot_that_does_not_verify(board, stores):
    """A ballot whose proof was changed stands on the record and is in no sum."""
    run_ceremony(board, stores)
    board.record_roll(4)
    board.open()
    board.vote(VOTES)
    log = read_log(board.chain.web3, board.board.address)
    body = bytearray(election.of_kind(log.records, Kind.BALLOT)[0].body)
    body[-1] ^= 1
    relayer = board.accounts["relayer"].address
    board.writer("relayer").append_ballots(board.board.sequences(relayer), [bytes(body)])
    board.settle()
    board.chain.advance_to(board.manifest.windows.decrypt_not_before)
    for store in stores[1:]:
        assert f"totals of {len(VOTES)} counted ballots" in actions.decrypt(board.board, store).did
    assert totals(board).totals == TOTALS
