"""What the chain thread does, turn by turn, on a real chain: every promised ballot ends up in the log once, whatever happens in between."""

import pytest
from eth_account import Account
from sqlalchemy.exc import OperationalError

from chain.anvil import Anvil
from chain.board import Board
from chain.errors import NodeUnreachable
from chain.log import read_log
from chain.rpc import call
from chain.writer import Writer
from protocol.records import pack_bodies
from relayer.outbox import Ballot, Claim, State
from tests.relayer.test_faults import until
from tests.relayer.world import Parts, World, build, hash_of

pytestmark = pytest.mark.e2e


def sequence(world: World, name: str = "relayer-1") -> int:
    return Board(world.web3, world.contract).sequences(world.accounts[name].address)


def in_log_once(world: World, bodies: list[bytes]) -> bool:
    return sorted(world.log_ballots()) == sorted(bodies)


def mining(chain: Anvil, on: bool) -> None:
    call(chain.web3, "evm_setAutomine", on)


def test_promised_ballots_become_final_at_the_position_where_the_log_has_them(parts: Parts) -> None:
    bodies = parts.world.ballots(parts.world.voters)
    parts.promise(bodies)
    parts.turn()
    assert parts.outbox.counts[State.SUBMITTED] == len(bodies)
    parts.look()
    assert parts.outbox.counts[State.FINAL] == len(bodies)
    log = read_log(parts.world.web3, parts.world.contract)
    follower = parts.relayer.follower
    for body in bodies:
        position = follower.positions.get(hash_of(body))
        assert log.records[position].entry == follower.entry(position) and follower.ballot(position) == body
    assert in_log_once(parts.world, bodies) and sequence(parts.world) == 1


def test_a_receipt_of_every_final_ballot_checks_against_the_boards_head(parts: Parts) -> None:
    bodies = parts.world.ballots(parts.world.voters)
    parts.promise(bodies[:5])
    parts.settle()
    parts.promise(bodies[5:])
    parts.settle()
    for body in bodies:
        receipt = parts.relayer.receipt(hash_of(body))
        receipt.check()
        assert receipt.ballot == body and receipt.head == parts.world.writer.board.head()
        assert receipt.promise["promise"]["ballot"] == hash_of(body).hex()
    assert parts.relayer.receipt(hash_of(b"never sent")) is None


def test_a_lone_ballot_waits_for_others_as_long_as_the_settings_say(world: World, tmp_path) -> None:
    with Parts(world, tmp_path / "outbox.db", max_delay=0.3) as parts:
        parts.promise(world.ballots(world.voters[:1]))
        parts.batcher.step()
        parts.batcher.step()
        assert parts.outbox.counts[State.PROMISED] == 1
        parts.batcher._waiting_since -= 0.3
        parts.batcher.step()
        assert parts.outbox.counts[State.SUBMITTED] == 1


def test_full_batches_go_at_once_and_the_rest_waits(world: World, tmp_path) -> None:
    west = [voter for voter in world.voters if voter.unit == 1]
    bodies = [world.ballots([voter])[0] for _ in range(2) for voter in west]
    size = 2 + len(bodies[0])
    with Parts(world, tmp_path / "outbox.db", max_batch_bytes=3 * size + 10) as parts:
        parts.promise(bodies)
        parts.batcher.step()
        assert [batch.count for batch in parts.batcher.flight] == [3, 3]
        assert parts.outbox.counts[State.PROMISED] == 2
        parts.settle()
        assert in_log_once(world, bodies) and sequence(world) == 3


def test_a_credentials_ballots_stand_in_the_log_in_the_order_in_which_they_came(parts: Parts) -> None:
    west = [voter for voter in parts.world.voters if voter.unit == 1]
    bodies = [parts.world.ballots([voter])[0] for _ in range(5) for voter in west]
    parts.promise(bodies)
    parts.settle()
    log = parts.world.log_ballots()
    assert log != bodies and sorted(log) == sorted(bodies)  # 20 ballots in their order of arrival: 1 in 10^12
    for voter in west:
        row = voter.row.to_bytes(4, "big")
        assert [body for body in log if body[1:5] == row] == [body for body in bodies if body[1:5] == row]


# ---- crashes: a second Parts on the same file is the relayer after its restart


def test_ballots_promised_and_not_in_a_batch_are_sent_after_a_restart(world: World, tmp_path) -> None:
    bodies = world.ballots(world.voters)
    with Parts(world, tmp_path / "outbox.db") as before:
        before.promise(bodies)
    with Parts(world, tmp_path / "outbox.db") as after:
        after.settle()
    assert in_log_once(world, bodies)


def test_a_batch_signed_and_stored_but_never_sent_is_sent_after_a_restart_as_it_is(
    world: World, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bodies = world.ballots(world.voters)
    with Parts(world, tmp_path / "outbox.db") as before:
        before.promise(bodies)
        monkeypatch.setattr(before.batcher, "_send", lambda batch: None)  # the crash
        before.turn()
        [stored] = before.outbox.in_flight()
        assert sequence(world) == 0
    with Parts(world, tmp_path / "outbox.db") as after:
        after.settle()
    assert in_log_once(world, bodies) and sequence(world) == 1
    assert call(world.web3, "eth_getTransactionByHash", "0x" + stored.hash.hex()) is not None


def test_a_batch_that_landed_while_the_relayer_was_away_is_not_sent_again(chain: Anvil, world: World, tmp_path) -> None:
    bodies = world.ballots(world.voters)
    with Parts(world, tmp_path / "outbox.db") as before:
        before.promise(bodies)
        mining(chain, False)
        before.turn()
        assert before.outbox.counts[State.SUBMITTED] == len(bodies)
    call(chain.web3, "evm_mine")
    mining(chain, True)
    assert sequence(world) == 1
    with Parts(world, tmp_path / "outbox.db") as after:
        assert after.outbox.counts[State.FINAL] == len(bodies)  # known from the log alone, before anything is sent
        after.turn()
    assert in_log_once(world, bodies) and sequence(world) == 1


def test_a_transaction_that_the_node_forgot_is_sent_again(chain: Anvil, parts: Parts) -> None:
    bodies = parts.world.ballots(parts.world.voters)
    parts.promise(bodies)
    mining(chain, False)
    parts.turn()
    call(chain.web3, "anvil_dropAllTransactions")
    mining(chain, True)
    parts.settle()
    assert in_log_once(parts.world, bodies) and sequence(parts.world) == 1


def test_a_transaction_that_stays_in_no_block_is_sent_again_at_higher_fees(
    chain: Anvil, world: World, tmp_path
) -> None:
    bodies = world.ballots(world.voters)
    with Parts(world, tmp_path / "outbox.db", replace_after=0.01) as parts:
        parts.promise(bodies)
        mining(chain, False)
        parts.turn()
        [stuck] = parts.outbox.in_flight()
        parts.turn()
        assert parts.outbox.in_flight() == [stuck]  # no block was made: nothing would be won by paying more
        for _ in range(4):
            call(chain.web3, "anvil_setNextBlockBaseFeePerGas", hex(10**12))
            call(chain.web3, "evm_mine")
        assert sequence(world) == 0
        parts.turn()
        [dearer] = parts.outbox.in_flight()
        assert dearer.hashes == [dearer.hash, stuck.hash] and dearer.nonce == stuck.nonce
        call(chain.web3, "evm_mine")
        mining(chain, True)
        parts.settle()
        assert parts.outbox.counts[State.FINAL] == len(bodies)
    assert call(world.web3, "eth_getTransactionReceipt", "0x" + dearer.hash.hex()) is not None
    assert in_log_once(world, bodies) and sequence(world) == 1


def test_several_batches_in_flight_land_in_their_order(chain: Anvil, world: World, tmp_path) -> None:
    bodies = world.ballots(world.voters)
    with Parts(world, tmp_path / "outbox.db", max_batch_bytes=2300) as parts:
        parts.promise(bodies)
        mining(chain, False)
        parts.turn()
        assert len(parts.batcher.flight) > 3
        call(chain.web3, "evm_mine")
        mining(chain, True)
        parts.settle()
    assert in_log_once(world, bodies)


# ---- batches that revert


def test_a_batch_with_one_ballot_that_the_board_refuses_loses_that_one_only(parts: Parts) -> None:
    bodies = parts.world.ballots(parts.world.voters)
    parts.promise(bodies[:5])
    view = parts.relayer.follower.view
    parts.outbox.promise(
        [Ballot(hash_of(b""), b"", 0, 1)], view.now, view.now + 60, view.head
    )  # an empty body: BadBody
    parts.promise(bodies[5:])
    parts.settle()
    assert in_log_once(parts.world, bodies)
    [dead] = parts.outbox.dead()
    assert dead.hash == hash_of(b"") and "BadBody" in dead.reason
    assert parts.relayer.status()["dead_letters"] == 1


def test_batches_behind_one_that_reverts_are_sent_again_in_order(chain: Anvil, world: World, tmp_path) -> None:
    bodies = world.ballots([voter for voter in world.voters if voter.unit == 1])
    with Parts(world, tmp_path / "outbox.db", max_batch_bytes=2 + len(bodies[0])) as parts:
        view = parts.relayer.follower.view
        parts.outbox.promise([Ballot(hash_of(b""), b"", 0, 1)], view.now, view.now + 60, view.head)
        parts.promise(bodies)
        mining(chain, False)
        parts.batcher.step()
        assert len(parts.batcher.flight) > 2
        call(chain.web3, "evm_mine")
        assert sequence(world) == 0  # the first took all others along
        mining(chain, True)
        parts.settle()
        assert len(parts.outbox.dead()) == 1
    assert in_log_once(world, bodies)


def test_a_sequence_used_by_another_process_with_our_key_makes_nothing_final_that_is_not_in_the_log(
    parts: Parts,
) -> None:
    mine, others = parts.world.ballots(parts.world.voters[:4]), parts.world.ballots(parts.world.voters[4:])
    parts.promise(mine)
    Writer(parts.world.web3, parts.world.contract, parts.world.accounts["relayer-1"]).append_ballots(0, others)
    prepared = parts.batcher.writer.prepare_ballots(0, mine, 0)  # what a relayer that had not seen it would have signed
    account = bytes.fromhex(parts.world.accounts["relayer-1"].address[2:])
    with parts.outbox.claim(10**9, 10**6) as claim:
        parts.batcher.flight.append(claim.submit(account, 0, 0, prepared.raw, prepared.hash))
    parts.look()
    assert parts.outbox.counts[State.FINAL] == 0 and parts.outbox.counts[State.PROMISED] == 4
    parts.settle()
    assert in_log_once(parts.world, mine + others)


def test_a_nonce_used_by_another_transaction_of_the_account_costs_nothing_but_time(chain: Anvil, parts: Parts) -> None:
    bodies = parts.world.ballots(
        parts.world.voters[:1]
    )  # one ballot: it must not be taken for one that the board refuses
    parts.promise(bodies)
    mining(chain, False)
    parts.turn()
    call(chain.web3, "anvil_dropAllTransactions")
    mining(chain, True)
    sender = parts.batcher.writer.sender
    stranger = Account.create().address
    sender.send(bytes.fromhex(stranger[2:]), b"")
    parts.settle()
    assert in_log_once(parts.world, bodies) and sequence(parts.world) == 1


def test_a_ballot_that_another_relayer_was_faster_with_is_not_sent(parts: Parts) -> None:
    bodies = parts.world.ballots(parts.world.voters)
    parts.promise(bodies)
    Writer(parts.world.web3, parts.world.contract, parts.world.accounts["relayer-2"]).append_ballots(0, bodies[:3])
    parts.settle()
    assert in_log_once(parts.world, bodies)
    assert parts.outbox.counts[State.FINAL] == len(bodies)


# ---- too late


def test_what_misses_the_append_grace_is_a_dead_letter_with_its_reason(chain: Anvil, parts: Parts) -> None:
    parts.promise(parts.world.ballots(parts.world.voters))
    chain.advance_to(parts.world.manifest.windows.close + parts.world.manifest.windows.append_grace)
    parts.settle()
    assert len(parts.outbox.dead()) == len(parts.world.voters) and "TooLate" in parts.outbox.dead()[0].reason
    assert parts.world.log_ballots() == []


def test_the_grace_after_the_close_time_empties_the_backlog(chain: Anvil, parts: Parts) -> None:
    bodies = parts.world.ballots(parts.world.voters)
    parts.promise(bodies)
    chain.advance_to(parts.world.manifest.windows.close + 1)
    parts.settle()
    assert in_log_once(parts.world, bodies) and not parts.outbox.dead()


def test_after_the_close_record_what_waits_is_dead_and_what_another_relayer_brought_is_final(
    chain: Anvil, parts: Parts
) -> None:
    bodies = parts.world.ballots(parts.world.voters)
    parts.promise(bodies)
    Writer(parts.world.web3, parts.world.contract, parts.world.accounts["relayer-2"]).append_ballots(0, bodies[:3])
    chain.advance_to(parts.world.manifest.windows.close + parts.world.manifest.windows.append_grace)
    parts.world.writer.close()
    parts.settle()
    assert (parts.outbox.counts[State.FINAL], parts.outbox.counts[State.DEAD]) == (3, len(bodies) - 3)
    assert all(parts.relayer.receipt(hash_of(body)) for body in bodies[:3])


# ---- the node


def test_a_node_that_is_away_for_a_while_costs_nothing_but_time(tmp_path) -> None:
    with Anvil(block_time=0, state=tmp_path / "chain.state") as chain:
        world = build(chain)
        bodies = world.ballots(world.voters)
        with Parts(world, tmp_path / "outbox.db") as parts:
            parts.promise(bodies[:4])
            parts.settle()
            parts.promise(bodies[4:])
            chain.stop()
            with pytest.raises(NodeUnreachable):
                parts.turn()
            assert parts.outbox.counts[State.PROMISED] == 4
            chain.start()
            parts.settle()
        assert in_log_once(world, bodies)


@pytest.mark.parametrize("fails_at", range(12))
def test_a_node_that_fails_at_any_question_leaves_nothing_unseen(
    parts: Parts, monkeypatch: pytest.MonkeyPatch, fails_at: int
) -> None:
    """One answer of the node is lost, the n-th after the batch was sent; the next turns make up for it."""
    bodies = parts.world.ballots(parts.world.voters)
    parts.promise(bodies)
    parts.turn()
    until(lambda: parts.batcher.writer.receipt(parts.batcher.flight[0].hash) is not None)  # a busy machine mines late
    provider = parts.world.web3.provider
    asked = 0

    def flaky(real):
        def ask(*words):
            nonlocal asked
            asked += 1
            if asked == fails_at + 1:
                raise NodeUnreachable("no answer")
            return real(*words)

        return ask

    with monkeypatch.context() as patched:
        for name in ("make_request", "make_batch_request"):
            patched.setattr(provider, name, flaky(getattr(provider, name)))
        for _ in range(3):
            try:
                parts.turn()
            except NodeUnreachable:
                pass
    assert parts.outbox.counts[State.FINAL] == len(bodies)
    assert in_log_once(parts.world, bodies) and sequence(parts.world) == 1


def test_a_full_transaction_of_the_smallest_ballots_stays_under_the_gas_limit(world: World) -> None:
    """96 KiB of bodies of the smallest one-contest style, which is the most hashing per byte: the board does not look into them."""
    body = world.ballots(world.voters[:1])[0][:349]
    bodies = [body[:-4] + number.to_bytes(4, "big") for number in range(98_176 // 351)]
    assert len(pack_bodies(bodies)) > 97_900
    writer = Writer(world.web3, world.contract, world.accounts["relayer-1"])
    landed = writer.append_ballots(0, bodies)
    receipt = call(world.web3, "eth_getTransactionReceipt", "0x" + landed.transaction.hex())
    assert int(receipt["gasUsed"], 16) < 16_777_216 / 2


def test_a_commit_that_seems_to_fail_and_is_done_leaves_no_batch_unsent(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the connection to a database breaks in the commit: the signed bytes are stored, and the caller does not know it."""
    bodies = parts.world.ballots(parts.world.voters)
    parts.promise(bodies)
    real = Claim.submit

    def breaks(*words: object) -> None:
        real(*words)
        raise OperationalError("COMMIT", {}, OSError("server closed the connection"))

    with monkeypatch.context() as broken:
        broken.setattr(Claim, "submit", breaks)
        with pytest.raises(OperationalError):
            parts.turn()
    assert parts.batcher.flight == [] and len(parts.outbox.in_flight()) == 1
    parts.settle()
    assert in_log_once(parts.world, bodies) and sequence(parts.world) == 1
