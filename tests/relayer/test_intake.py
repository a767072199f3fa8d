"""Every answer that intake gives, on a real board: the reason, and that it is signed for this ballot and this board."""

import asyncio
import os
import time
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from chain.anvil import Anvil
from protocol.errors import Malformed
from protocol.group import base
from protocol.receipt import Promise, Refusal, check_statement
from protocol.records import Extension, Kind, RollChange
from relayer.intake import Answer
from relayer.outbox import State
from tests.relayer.world import Parts, World, build, hash_of

pytestmark = pytest.mark.e2e


def refused(parts: Parts, answer: Answer, body: bytes, status: int, reason: str) -> Refusal:
    """The refusal in an answer, checked against the manifest's key."""
    assert (answer.status, answer.value["reason"]) == (status, reason), answer.value
    signed = {name: answer.value[name] for name in ("refusal", "signature")}
    statement = check_statement(signed, parts.world.manifest)
    assert isinstance(statement, Refusal)
    assert (statement.ballot, statement.contract, statement.reason) == (hash_of(body), parts.world.contract, reason)
    return statement


def promised(parts: Parts, answer: Answer | dict[str, Any]) -> Promise:
    value = answer.value if isinstance(answer, Answer) else answer
    statement = check_statement(value, parts.world.manifest)
    assert isinstance(statement, Promise)
    return statement


def changed(body: bytes, offset: int) -> bytes:
    return body[:offset] + bytes([body[offset] ^ 1]) + body[offset + 1 :]


def test_a_good_ballot_is_stored_and_then_promised_within_a_minute(parts: Parts) -> None:
    [body] = parts.world.ballots(parts.world.voters[:1])
    now, head = parts.relayer.follower.view.now, parts.relayer.follower.view.head
    [answer] = parts.intake.process([body])
    promise = promised(parts, answer)
    assert answer.status == 202
    assert (promise.ballot, promise.contract, promise.chain) == (hash_of(body), parts.world.contract, 31337)
    assert now + 60 <= promise.by <= now + 62 and promise.head == head
    assert parts.world.manifest.roles[promise.relayer].name == "relayer-1"
    assert parts.outbox.body(hash_of(body)) == body


def test_a_promise_that_was_changed_does_not_check(parts: Parts) -> None:
    [answer] = parts.intake.process(parts.world.ballots(parts.world.voters[:1]))
    value = answer.value
    value["promise"]["by"] += 1
    with pytest.raises(Malformed, match="is not the relayer's"):
        check_statement(value, parts.world.manifest)


def test_a_flipped_bit_is_a_bad_proof_and_its_neighbours_are_promised(parts: Parts) -> None:
    bodies = parts.world.ballots(parts.world.voters[:3])
    forged = changed(bodies[1], -65 - 31)  # in the last response before the signature
    answers = parts.intake.process([bodies[0], forged, bodies[2]])
    assert [answer.status for answer in answers] == [202, 422, 202]
    refused(parts, answers[1], forged, 422, "bad-proof")
    assert parts.outbox.depth == 2


def test_a_ballot_signed_by_another_credential_is_a_bad_proof(parts: Parts) -> None:
    first, second = parts.world.voters[0], parts.world.voters[2]
    assert first.unit == second.unit
    [body] = parts.world.ballots([second])
    stolen = body[:1] + first.row.to_bytes(4, "big") + body[5:]
    [answer] = parts.intake.process([stolen])
    refused(parts, answer, stolen, 422, "bad-proof")


@pytest.mark.parametrize("cut", [0, 1, 12])
def test_less_than_a_header_is_malformed(parts: Parts, cut: int) -> None:
    [body] = parts.world.ballots(parts.world.voters[:1])
    [answer] = parts.intake.process([body[:cut]])
    refused(parts, answer, body[:cut], 400, "malformed")


def test_a_wrong_length_version_or_point_is_malformed(parts: Parts) -> None:
    [body] = parts.world.ballots(parts.world.voters[:1])
    for wrong in (body + b"\0", body[:-1], b"\2" + body[1:], body[:13] + b"\xff" * 32 + body[45:]):
        [answer] = parts.intake.process([wrong])
        refused(parts, answer, wrong, 400, "malformed")
    assert parts.outbox.depth == 0


def test_a_roll_index_outside_the_roll_is_an_unknown_credential(parts: Parts) -> None:
    [body] = parts.world.ballots(parts.world.voters[:1])
    outside = body[:1] + len(parts.world.voters).to_bytes(4, "big") + body[5:]
    [answer] = parts.intake.process([outside])
    refused(parts, answer, outside, 403, "unknown-credential")


def test_a_revoked_credential_is_unknown_and_the_added_one_votes(parts: Parts) -> None:
    world, old, new = parts.world, parts.world.voters[0], parts.world.voters[0].secret + 1
    change = RollChange(base(new), "card lost", old.row, old.unit)
    world.writer.append(Kind.ROLL_CHANGE, change.body(), [world.accounts["registrar"], world.accounts["cosigner"]])
    [body] = world.ballots([old])
    old.row, old.secret = len(world.voters), new
    [replacement] = world.ballots([old])
    [answer] = parts.intake.process([replacement])
    refused(parts, answer, replacement, 403, "unknown-credential")  # the relayer has not looked yet
    parts.look()
    answers = parts.intake.process([body, replacement])
    refused(parts, answers[0], body, 403, "unknown-credential")
    assert answers[1].status == 202


def test_a_log_that_nobody_has_seen_is_malformed_and_one_the_relayer_has_not_read_yet_is_not(parts: Parts) -> None:
    size = parts.relayer.follower.view.head.size
    [body] = parts.world.ballots(parts.world.voters[:1], seen=size + 1)
    [answer] = parts.intake.process([body])
    refused(parts, answer, body, 400, "malformed")
    other = parts.world
    statement = Extension(other.manifest.windows.close + 10, "more time")
    other.writer.append(Kind.EXTENSION, statement.body(), [other.accounts["authority"]])
    assert parts.relayer.follower.view.head.size == size
    [answer] = parts.intake.process([body])
    assert answer.status == 202


def test_a_ballot_sent_again_is_a_duplicate_that_carries_the_first_promise(parts: Parts) -> None:
    [body] = parts.world.ballots(parts.world.voters[:1])
    [first] = parts.intake.process([body])
    [again] = parts.intake.process([body])
    refused(parts, again, body, 409, "duplicate")
    assert again.value["earlier"] == {"state": "promised", "position": None, "promise": first.value}
    parts.settle()
    [again] = parts.intake.process([body])
    position = parts.relayer.follower.positions.get(hash_of(body))
    assert again.value["earlier"] == {"state": "final", "position": position, "promise": first.value}
    assert parts.outbox.counts[State.FINAL] == 1


def test_of_two_copies_in_one_micro_batch_one_is_promised(parts: Parts) -> None:
    [body] = parts.world.ballots(parts.world.voters[:1])
    first, second = parts.intake.process([body, body])
    assert first.status == 202
    refused(parts, second, body, 409, "duplicate")
    assert second.value["earlier"]["promise"] == first.value
    assert parts.outbox.depth == 1


def test_two_copies_of_a_bad_ballot_are_both_refused_for_what_is_wrong(parts: Parts) -> None:
    [body] = parts.world.ballots(parts.world.voters[:1])
    forged = changed(body, -65 - 31)
    for answer in parts.intake.process([forged, forged]):
        refused(parts, answer, forged, 422, "bad-proof")


def test_a_ballot_that_another_relayer_brought_into_the_log_is_a_duplicate(parts: Parts) -> None:
    world = parts.world
    [body] = world.ballots(world.voters[:1])
    with Parts(world, parts.outbox.engine.url.database + ".2", "relayer-2") as other:
        other.promise([body])
        other.settle()
    parts.look()
    [answer] = parts.intake.process([body])
    refused(parts, answer, body, 409, "duplicate")
    assert answer.value["earlier"]["promise"] is None and answer.value["earlier"]["position"] is not None


def test_a_ballot_older_than_one_that_was_promised_is_superseded(parts: Parts) -> None:
    voter = parts.world.voters[:1]
    [old], [older] = parts.world.ballots(voter, seen=3), parts.world.ballots(voter, seen=2)
    [same] = parts.world.ballots(voter, seen=3)
    parts.promise([old])
    [answer] = parts.intake.process([older])
    refused(parts, answer, older, 409, "superseded")
    assert "earlier" not in answer.value
    parts.promise([same])
    assert parts.relayer.states([hash_of(old)])[hash_of(old)]["attempts"] == 2


def test_a_forged_ballot_that_has_seen_more_supersedes_nothing(parts: Parts) -> None:
    voter = parts.world.voters[:1]
    forged = changed(parts.world.ballots(voter, seen=3)[0], -65 - 31)
    parts.intake.process([forged])
    parts.promise(parts.world.ballots(voter, seen=2))


def test_where_the_first_ballot_counts_a_second_is_superseded(chain: Anvil, tmp_path) -> None:
    world = build(chain, revote="first")
    first, second = (world.ballots(world.voters[:1])[0] for _ in range(2))
    with Parts(world, tmp_path / "outbox.db") as parts:
        parts.promise([first])
        [answer] = parts.intake.process([second])
        refused(parts, answer, second, 409, "superseded")


def test_before_the_poll_opens_a_ballot_is_refused_as_not_open(chain: Anvil, world: World, tmp_path) -> None:
    [body] = world.ballots(world.voters[:1])
    with Parts(build(chain, opened=False), tmp_path / "outbox.db") as early:
        [answer] = early.intake.process([body])
        refused(early, answer, body, 403, "not-open")


def test_from_the_close_time_on_a_ballot_is_refused_as_closed(chain: Anvil, parts: Parts) -> None:
    late, last = parts.world.ballots(parts.world.voters[:2])
    close = parts.world.manifest.windows.close
    chain.advance_to(close - 30)
    parts.look()
    assert promised(parts, parts.intake.process([last])[0]).by <= close + parts.world.manifest.windows.append_grace
    chain.advance_to(close)
    parts.look()
    [answer] = parts.intake.process([late])
    assert refused(parts, answer, late, 410, "closed").time >= close


def test_an_extension_keeps_the_intake_open(chain: Anvil, parts: Parts) -> None:
    world = parts.world
    close = world.manifest.windows.close
    world.writer.append(Kind.EXTENSION, Extension(close + 600, "rain").body(), [world.accounts["authority"]])
    chain.advance_to(close + 10)
    parts.look()
    parts.promise(world.ballots(world.voters[:1]))


def test_no_promise_reaches_beyond_the_append_grace(chain: Anvil, tmp_path) -> None:
    world = build(chain, grace=20)
    chain.advance_to(world.manifest.windows.close - 3)
    with Parts(world, tmp_path / "outbox.db") as parts:
        [answer] = parts.intake.process(world.ballots(world.voters[:1]))
    assert promised(parts, answer).by == world.manifest.windows.close + 20


def test_a_credential_that_floods_is_slowed_down_and_no_other(world: World, tmp_path) -> None:
    flood = [world.ballots(world.voters[:1])[0] for _ in range(5)]
    [other] = world.ballots(world.voters[1:2])
    with Parts(world, tmp_path / "outbox.db", credential_attempts=3) as parts:
        answers = parts.intake.process([*flood, other])
        assert [answer.status for answer in answers] == [202, 202, 202, 429, 429, 202]
        refused(parts, answers[3], flood[3], 429, "rate-limited")


def test_bad_ballots_in_another_voters_name_do_not_slow_that_voter_down(world: World, tmp_path) -> None:
    [body] = world.ballots(world.voters[:1])
    with Parts(world, tmp_path / "outbox.db", credential_attempts=1) as parts:
        parts.intake.process([changed(body, -65 - 31)] * 3)
        parts.promise([body])


def test_another_election_named_by_the_client_is_refused_before_anything_else(parts: Parts) -> None:
    [body] = parts.world.ballots(parts.world.voters[:1])
    [answer] = asyncio.run(parts.intake.submit([body], "00" * 32))
    refused(parts, answer, body, 422, "wrong-election")
    [answer] = asyncio.run(parts.intake.submit([body], parts.world.manifest.election_id.hex()))
    assert answer.status == 202


@pytest.mark.parametrize("settings", [{"max_queue": 2}, {"max_waiting": 1}])
def test_a_full_relayer_is_busy_before_it_promises(world: World, tmp_path, settings: dict[str, int]) -> None:
    bodies = world.ballots(world.voters[:4])
    with Parts(world, tmp_path / "outbox.db", **settings) as parts:

        async def two_requests() -> list[list[Answer]]:
            return await asyncio.gather(parts.intake.submit(bodies[:1]), parts.intake.submit(bodies[1:]))

        if "max_queue" in settings:
            parts.promise(bodies[:3])
        _, answers = asyncio.run(two_requests())
        for answer, body in zip(answers, bodies[1:], strict=True):
            refused(parts, answer, body, 503, "busy")


def test_a_relayer_that_has_not_seen_the_chain_for_long_is_busy(world: World, tmp_path) -> None:
    [body] = world.ballots(world.voters[:1])
    with Parts(world, tmp_path / "outbox.db", stale_after=0.2) as parts:
        time.sleep(0.25)
        [answer] = asyncio.run(parts.intake.submit([body]))
        refused(parts, answer, body, 503, "busy")
        parts.look()
        [answer] = asyncio.run(parts.intake.submit([body]))
        assert answer.status == 202


def test_nothing_is_promised_when_nothing_can_be_stored(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    [body] = parts.world.ballots(parts.world.voters[:1])

    def full(*_: object) -> None:
        raise OperationalError("INSERT", {}, OSError("database or disk is full"))

    with monkeypatch.context() as broken:
        broken.setattr(parts.outbox, "promise", full)
        [answer] = parts.intake.process([body])
    refused(parts, answer, body, 503, "busy")
    parts.promise([body])


def test_requests_that_come_together_are_answered_each_in_its_order(parts: Parts) -> None:
    bodies = parts.world.ballots(parts.world.voters)
    junk = os.urandom(40)

    async def all_at_once() -> list[list[Answer]]:
        requests = [bodies[:3], [junk], bodies[3:4], bodies[4:]]
        return await asyncio.gather(*(parts.intake.submit(request) for request in requests))

    answers = asyncio.run(all_at_once())
    assert [[answer.status for answer in request] for request in answers] == [[202] * 3, [400], [202], [202] * 4]
    found = [promised(parts, answer).ballot for request in answers for answer in request if answer.status == 202]
    assert found == [hash_of(body) for body in bodies]
