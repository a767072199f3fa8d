"""Records that others have signed, carried by a real relayer process: through chain.carrier, as a station or a trustee uses it."""

from __future__ import annotations

import hashlib
import secrets
from pathlib import Path

import httpx
import pytest

from chain.anvil import Anvil
from chain.carrier import Carrier
from chain.contract import Refused, encode
from chain.errors import ChainError, Undelivered
from chain.rpc import call
from chain.sign import sign_record
from protocol.records import MAX_BODY, Extension, Kind, ballot_hash
from relayer.outbox import State
from relayer.records import RecordRefused
from tests.relayer.test_faults import QUICK, pending, until
from tests.relayer.world import Parts, Process, World, build, hash_of

pytestmark = pytest.mark.e2e


def extension(world: World, seconds: int, number: int = 0) -> bytes:
    """The input of a call with a record signed by the authority, under its `number`-th next number."""
    authority = world.accounts["authority"]
    body = Extension(world.manifest.windows.close + seconds, "rain").body()
    next_number = world.writer.board.numbers(authority.address) + number
    signature = sign_record(
        authority, world.manifest.chain_id, world.contract, Kind.EXTENSION, ballot_hash(body), next_number
    )
    return encode("append", Kind.EXTENSION, body, signature)


@pytest.mark.slow
def test_a_record_goes_through_a_relayer_and_is_answered_with_where_it_landed(world: World, tmp_path: Path) -> None:
    folder, board = world.relayer_folder(tmp_path / "relayer"), world.connection(tmp_path / "board.json")
    close = world.manifest.windows.close
    with Process(folder, board, **QUICK) as relayer:
        carrier = Carrier(world.web3, world.contract, ["http://127.0.0.1:9", relayer.url])
        body = Extension(close + 60, "rain").body()
        landed = carrier.append(Kind.EXTENSION, body, [world.accounts["authority"]])
        record = world.read().records[-1]
        assert landed.positions == (record.position,) and record.body == body
        assert world.writer.board.close_time() == close + 60
        with pytest.raises(Refused, match="BadBody"):  # and not Undelivered: trying again would not help
            carrier.append(Kind.EXTENSION, b"not an extension", [world.accounts["authority"]])
        with pytest.raises(Refused, match="may not append extension"):
            carrier.append(Kind.EXTENSION, body, [world.accounts["registrar"]])

        def post(content: bytes) -> tuple[int, str]:
            answer = relayer.http.post("/v1/records", content=content)
            return answer.status_code, answer.json().get("reason", "")

        with pytest.raises(ChainError, match="must be the input of one of") as refused:
            carrier.send("sequences", bytes(20))  # a relayer alone refuses it: the board would not
        assert not isinstance(refused.value, Refused | Undelivered)
        assert post(b"junk") == (400, "malformed") and post(bytes(98_305)) == (400, "malformed")
        assert post(encode("appendBallots", 0, b"")) == (400, "malformed")
        assert relayer.http.get(f"/v1/records/{'00' * 32}").status_code == 404
        again = extension(world, 90)
        names = [relayer.http.post("/v1/records", content=again).json()["record"] for _ in range(2)]
        assert names == [hashlib.sha256(again).hexdigest()] * 2
        until(lambda: relayer.http.get(f"/v1/records/{names[0]}").json()["state"] == "final")
        assert relayer.http.post("/v1/records", content=again).json()["state"] == "final"
    assert world.writer.board.close_time() == close + 90
    with pytest.raises(Undelivered, match="no relayer takes the record"):
        Carrier(world.web3, world.contract, [relayer.url]).append(Kind.EXTENSION, body, [world.accounts["authority"]])


def test_records_go_before_the_ballots_that_wait(chain: Anvil, parts: Parts) -> None:
    world = parts.world
    parts.promise(world.ballots(world.voters))
    parts.relayer.records.accept(extension(world, 60))
    call(chain.web3, "evm_setAutomine", False)
    parts.turn()
    assert [batch.sequence for batch in parts.batcher.flight] == [None, 0]
    call(chain.web3, "evm_mine")
    call(chain.web3, "evm_setAutomine", True)
    parts.settle()
    assert [record.kind for record in world.read().records[-9:]] == [Kind.EXTENSION, *[Kind.BALLOT] * 8]


def test_a_record_stored_and_not_sent_is_sent_after_a_restart_once(world: World, tmp_path: Path) -> None:
    content = extension(world, 60)
    with Parts(world, tmp_path / "outbox.db") as before:
        before.relayer.records.accept(content)
    with Parts(world, tmp_path / "outbox.db") as after:
        after.turn()
        after.turn()
        assert after.outbox.record(hash_of(content)).state == State.FINAL
        assert after.relayer.records.accept(content)["state"] == "final"
        after.turn()
    assert [record.kind for record in world.read().records].count(Kind.EXTENSION) == 1


def test_a_record_that_reverts_after_all_is_kept_with_the_boards_words_and_stops_no_ballot(
    chain: Anvil, parts: Parts
) -> None:
    """Two records under one number: each would be taken alone, and the second is not any more."""
    world = parts.world
    call(chain.web3, "evm_setAutomine", False)
    contents = [extension(world, 60), extension(world, 90)]
    for content in contents:
        parts.relayer.records.accept(content)
    bodies = world.ballots(world.voters)
    parts.promise(bodies)
    parts.turn()
    assert pending(chain) == 3
    call(chain.web3, "evm_mine")
    call(chain.web3, "evm_setAutomine", True)
    parts.settle()
    states = [parts.outbox.record(hash_of(content)) for content in contents]
    assert [state.state for state in states] == [State.FINAL, State.DEAD] and "WrongRole" in states[1].reason
    assert sorted(world.log_ballots()) == sorted(bodies)
    assert parts.relayer.status()["dead_records"] == 1


def test_a_call_that_the_board_has_refused_waits_again_when_it_would_be_taken(chain: Anvil, parts: Parts) -> None:
    """Whoever closes the poll makes the same call: one that came a moment too early must not stand in the way of all others."""
    windows = parts.world.manifest.windows
    content = encode("close")
    parts.outbox.accept(content, hash_of(content), 0)
    parts.turn()
    parts.turn()
    assert parts.outbox.record(hash_of(content)).state == State.DEAD
    chain.advance_to(windows.close + windows.append_grace)
    assert parts.relayer.records.accept(content)["state"] == "promised"
    parts.turn()
    parts.turn()
    assert parts.relayer.records.status(hash_of(content))["state"] == "final"
    assert parts.world.read().records[-1].kind == Kind.CLOSE


def test_a_record_of_the_largest_size_is_carried(chain: Anvil, tmp_path: Path) -> None:
    """A trustee's decryption of a nation is 87 records of 40 kB, and the board takes up to 65,535 bytes."""
    world = build(chain, voters=1, opened=False)
    trustee, body = world.accounts["trustee"], secrets.token_bytes(MAX_BODY)
    number = world.writer.board.numbers(trustee.address)
    signature = sign_record(trustee, world.manifest.chain_id, world.contract, Kind.CEREMONY, ballot_hash(body), number)
    with Parts(world, tmp_path / "outbox.db") as parts:
        parts.relayer.records.accept(encode("append", Kind.CEREMONY, body, signature))
        parts.turn()
        parts.turn()
        assert parts.outbox.records_waiting() == len(parts.batcher.flight) == 0
    assert world.read().records[-1].body == body


def test_what_the_board_would_refuse_now_is_not_stored(parts: Parts) -> None:
    with pytest.raises(RecordRefused, match=r"TooEarly|NotInPhase"):
        parts.relayer.records.accept(encode("close"))
    assert parts.outbox.records_waiting() == 0


@pytest.mark.slow
def test_a_voter_is_told_of_every_change_and_gets_the_receipt(chain: Anvil, world: World, tmp_path: Path) -> None:
    folder, board = world.relayer_folder(tmp_path / "relayer"), world.connection(tmp_path / "board.json")
    [body, other] = world.ballots(world.voters[:2])
    call(chain.web3, "evm_setAutomine", False)
    with Process(folder, board, MAX_STREAMS="1", **QUICK | {"MAX_DELAY": "1"}) as relayer:
        promise = relayer.post(body).json()
        url = f"/v1/ballots/{hash_of(body).hex()}/events"
        events = []
        with relayer.http.stream("GET", url) as stream:
            assert stream.headers["content-type"].startswith("text/event-stream")
            assert httpx.get(relayer.url + url).status_code == 503  # one at once, say the settings
            for line in stream.iter_lines():
                if line.startswith("event: "):
                    events.append(line[7:])
                    if events[-1] == "submitted":
                        call(chain.web3, "evm_setAutomine", True)
                        call(chain.web3, "evm_mine")
                elif line.startswith("data: "):
                    last = httpx.Response(200, content=line[6:]).json()
        assert events == ["promised", "submitted", "final"]
        assert last["promise"] == promise and last["attempts"] == 1
        assert last["receipt"] == relayer.http.get(f"/v1/ballots/{hash_of(body).hex()}").json()["receipt"]
        assert last["receipt"]["position"] == last["position"] and "evidence" not in last  # anvil has none
        unknown = relayer.http.get(f"/v1/ballots/{hash_of(other).hex()}/events")
        assert unknown.text.startswith("event: unknown\n")
