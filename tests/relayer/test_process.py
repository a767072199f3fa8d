"""The real process on a real chain: its HTTP API, and what it survives."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from chain.anvil import Anvil
from chain.board import Board
from chain.rpc import call
from protocol.encoding import canonical_json
from protocol.errors import BallotboardError
from protocol.receipt import Promise, Receipt, check_statement
from protocol.records import pack_bodies
from relayer import keys
from relayer.cli import app
from tests.relayer.world import PASSPHRASE, Process, World, build, hash_of

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(world: World, tmp_path: Path) -> Path:
    return world.relayer_folder(tmp_path / "relayer")


@pytest.fixture
def board(world: World, tmp_path: Path) -> Path:
    return world.connection(tmp_path / "board.json")


def cli(*words: str, **environment: str) -> Result:
    """A `ballotboard relayer` command that is soon over; in this process, since starting one costs more than what is tested."""
    return CliRunner().invoke(app, words, env={"BALLOTBOARD_PASSPHRASE": PASSPHRASE} | environment)


def sequence(world: World) -> int:
    return Board(world.web3, world.contract).sequences(world.accounts["relayer-1"].address)


def in_log_once(world: World, bodies: list[bytes]) -> bool:
    return sorted(world.log_ballots()) == sorted(bodies)


def test_the_api_takes_ballots_in_every_form_and_gives_receipts(world: World, folder: Path, board: Path) -> None:
    one, two, *many = world.ballots(world.voters)
    with Process(folder, board, MAX_DELAY="0.1", POLL_INTERVAL="0.05") as relayer:
        assert relayer.ready["relayer"] == world.manifest.role_index(
            bytes.fromhex(world.accounts["relayer-1"].address[2:])
        )
        assert relayer.http.get("/readyz").json() == {"ready": True, "problem": ""}
        assert relayer.http.get("/healthz").status_code == 200

        answer = relayer.post(one)
        assert answer.status_code == 202 and isinstance(check_statement(answer.json(), world.manifest), Promise)
        assert relayer.http.post("/v1/ballots", json={"ballot": two.hex()}).status_code == 202
        kind = {"Content-Type": "application/vnd.ballotboard.ballots"}
        answer = relayer.http.post("/v1/ballots", content=pack_bodies([many[0], b"junk", *many[1:], one]), headers=kind)
        assert answer.status_code == 202
        answers = answer.json()
        assert [item["status"] for item in answers] == [202, 400, *[202] * (len(many) - 1), 409]
        assert [item["promise"]["ballot"] for item in answers if item["status"] == 202] == [
            hash_of(b).hex() for b in many
        ]
        assert relayer.post(one).status_code == 409

        relayer.wait_final([one, two, *many])
        for body in (one, two, *many):
            value = relayer.http.get(f"/v1/ballots/{hash_of(body).hex()}").json()
            receipt = Receipt.parse(canonical_json(value["receipt"]))
            receipt.check()
            assert receipt.ballot == body and receipt.position == value["position"]
        assert relayer.http.get(f"/v1/ballots/{'00' * 32}").status_code == 404
        assert relayer.http.get("/v1/ballots/zz").status_code == 422

        status = relayer.status()
        assert status["ballots"] == {"promised": 0, "submitted": 0, "final": len(world.voters), "dead": 0}
        assert (status["phase"], status["queue"], status["dead_letters"], status["problem"]) == ("open", 0, 0, "")
        head = world.writer.board.head()
        assert status["head"] == {"root": head.root.hex(), "size": head.size}
        metrics = relayer.http.get("/metrics").text
        assert f"ballotboard_ballots_promised_total {len(world.voters)}.0" in metrics
        assert 'ballotboard_ballots_refused_total{reason="duplicate"} 2.0' in metrics
        figures = dict(line.rsplit(" ", 1) for line in metrics.splitlines() if not line.startswith("#"))
        assert float(figures["ballotboard_gas_total"]) > 100_000 and figures["ballotboard_nonce_gap"] == "0.0"
        slack, landed = (float(figures[f"ballotboard_promise_slack_seconds_{name}"]) for name in ("sum", "count"))
        assert 40 < slack / landed <= 62 and float(figures["ballotboard_commit_seconds_count"]) >= landed
        paths = relayer.http.get("/openapi.json").json()["paths"]
        assert "application/vnd.ballotboard.ballots" in paths["/v1/ballots"]["post"]["requestBody"]["content"]
    assert in_log_once(world, [one, two, *many])


def test_what_cannot_be_read_is_refused_with_a_reason(world: World, folder: Path, board: Path) -> None:
    [body] = world.ballots(world.voters[:1])
    with Process(folder, board, MAX_REQUEST_BYTES="70000") as relayer:

        def post(content: bytes, kind: str, **headers: str) -> tuple[int, str, bool]:
            answer = relayer.http.post("/v1/ballots", content=content, headers={"Content-Type": kind, **headers})
            return answer.status_code, answer.json()["reason"], answer.json()["refusal"] is not None

        assert post(body, "text/plain") == (400, "malformed", False)
        assert post(b"{", "application/json") == (400, "malformed", False)
        assert post(b'{"ballot":1}', "application/json") == (400, "malformed", False)
        assert post(pack_bodies([body])[:-1], "application/vnd.ballotboard.ballots") == (400, "malformed", False)
        assert post(bytes(65_536), "application/octet-stream") == (413, "too-large", True)
        assert post(bytes(70_001), "application/octet-stream") == (413, "too-large", False)
        answer = relayer.http.post("/v1/ballots", content=iter([bytes(40_000)] * 2))  # no Content-Length
        assert answer.status_code == 413
        assert post(body, "application/octet-stream", **{"Ballotboard-Election": "00" * 32}) == (
            422,
            "wrong-election",
            True,
        )
        assert relayer.post(body).status_code == 202


def test_kill_9_between_promise_and_send_loses_nothing(world: World, folder: Path, board: Path) -> None:
    bodies = world.ballots(world.voters)
    with Process(folder, board, MAX_DELAY="20") as relayer:
        promises = [relayer.post(body) for body in bodies]
        assert [answer.status_code for answer in promises] == [202] * len(bodies)
        relayer.kill()
    assert world.log_ballots() == [] and sequence(world) == 0
    with Process(folder, board, MAX_DELAY="0.1") as relayer:
        relayer.wait_final(bodies)
        again = relayer.post(bodies[0])
        assert again.status_code == 409 and again.json()["earlier"]["promise"] == promises[0].json()
        receipt = relayer.http.get(f"/v1/ballots/{hash_of(bodies[0]).hex()}").json()["receipt"]
        assert receipt["promise"] == promises[0].json()
    assert in_log_once(world, bodies) and sequence(world) == 1


def test_kill_9_between_send_and_landing_sends_nothing_twice(
    chain: Anvil, world: World, folder: Path, board: Path
) -> None:
    bodies = world.ballots(world.voters)
    call(chain.web3, "evm_setAutomine", False)
    with Process(folder, board, MAX_DELAY="0.1", POLL_INTERVAL="0.05") as relayer:
        for body in bodies:
            assert relayer.post(body).status_code == 202
        end = time.monotonic() + 20
        while relayer.status()["ballots"]["submitted"] < len(bodies) and time.monotonic() < end:
            time.sleep(0.05)
        while call(chain.web3, "txpool_status")["pending"] == "0x0" and time.monotonic() < end:
            time.sleep(0.05)
        relayer.kill()
    call(chain.web3, "evm_mine")
    landed = sequence(world)
    assert landed >= 1 and in_log_once(world, bodies)
    call(chain.web3, "evm_setAutomine", True)
    with Process(folder, board, MAX_DELAY="0.1", POLL_INTERVAL="0.05") as relayer:
        relayer.wait_final(bodies)
        time.sleep(0.3)
    assert in_log_once(world, bodies) and sequence(world) == landed


def test_kill_9_again_and_again_under_load_keeps_every_promise(world: World, folder: Path, board: Path) -> None:
    """Two kills while ballots come in; what was answered with a promise is in the log once, and nothing is there twice."""
    bodies = [world.ballots([voter])[0] for _ in range(12) for voter in world.voters]
    promised: list[bytes] = []
    queue, lock = list(bodies), threading.Lock()
    for round_ in range(3):
        with Process(folder, board, MAX_DELAY="0.05", POLL_INTERVAL="0.02", CREDENTIAL_ATTEMPTS="100") as relayer:

            def send(relayer: Process = relayer) -> None:
                while True:
                    with lock:
                        if not queue:
                            return
                        body = queue.pop(0)
                    try:
                        answer = relayer.post(body)
                    except Exception:  # killed under our hands: ask the next one
                        with lock:
                            queue.insert(0, body)
                        return
                    assert answer.status_code in (202, 409), answer.text
                    promised.append(body)
                    time.sleep(0.02)

            with ThreadPoolExecutor(4) as pool:
                senders = [pool.submit(send) for _ in range(4)]
                if round_ < 2:
                    time.sleep(0.15 + 0.1 * round_)
                    relayer.kill()
                for sender in senders:
                    sender.result()
            if round_ == 2:
                relayer.wait_final(promised)
    assert sorted(promised) == sorted(bodies) and in_log_once(world, bodies)


def test_sigterm_refuses_new_ballots_gets_the_promised_ones_into_the_log_and_ends(
    chain: Anvil, world: World, folder: Path, board: Path
) -> None:
    first, late = world.ballots(world.voters[:2])
    call(chain.web3, "evm_setAutomine", False)
    with Process(folder, board, MAX_DELAY="20", POLL_INTERVAL="0.05") as relayer:
        assert relayer.post(first).status_code == 202
        relayer.process.send_signal(signal.SIGTERM)
        end = time.monotonic() + 10
        while (answer := relayer.post(late)).status_code != 503 and time.monotonic() < end:
            time.sleep(0.05)
        assert answer.json()["reason"] == "busy" and answer.headers["Retry-After"] == "2"
        assert relayer.http.get("/readyz").status_code == 503
        assert relayer.process.poll() is None and relayer.state(first) in ("promised", "submitted")
        call(chain.web3, "evm_setAutomine", True)
        call(chain.web3, "evm_mine")
        assert relayer.process.wait(30) == 0
    assert first in world.log_ballots()


def test_interrupt_ends_at_once_with_status_130_and_keeps_what_was_promised(
    world: World, folder: Path, board: Path
) -> None:
    [body] = world.ballots(world.voters[:1])
    with Process(folder, board, MAX_DELAY="20") as relayer:
        assert relayer.post(body).status_code == 202
        started = time.monotonic()
        assert relayer.end(signal.SIGINT) == 130
        assert time.monotonic() - started < 5
    assert "Traceback" not in (folder / "log").read_text()
    found = cli("status", "--dir", str(folder), "--json")
    assert json.loads(found.stdout) == {
        "running": False, "queue": 1, "ballots": {"promised": 1, "submitted": 0, "final": 0, "dead": 0},
    }  # fmt: skip


def test_drain_and_status_talk_to_the_process_that_runs(world: World, folder: Path, board: Path) -> None:
    [body] = world.ballots(world.voters[:1])
    with Process(folder, board, MAX_DELAY="20", POLL_INTERVAL="0.05") as relayer:
        assert relayer.post(body).status_code == 202
        found = json.loads(cli("status", "--dir", str(folder), "--json").stdout)
        assert found["running"] and found["queue"] == 1 and found["phase"] == "open"
        second = cli("run", "--dir", str(folder), "--board", str(board), "--port", "0")
        assert isinstance(second.exception, BallotboardError) and "a relayer runs in" in str(second.exception)
        assert cli("drain", "--dir", str(folder)).exit_code == 0
        assert relayer.process.wait(5) == 0
    assert world.log_ballots() == [body]
    assert cli("drain", "--dir", str(folder)).exit_code == 0


def test_dead_letters_are_listed_and_can_be_tried_again(chain: Anvil, world: World, folder: Path, board: Path) -> None:
    [body] = world.ballots(world.voters[:1])
    with Process(folder, board, MAX_DELAY="20") as relayer:
        assert relayer.post(body).status_code == 202
        relayer.kill()
    windows = world.manifest.windows
    chain.advance_to(windows.close + windows.append_grace)
    with Process(folder, board, MAX_DELAY="0.1", POLL_INTERVAL="0.05") as relayer:
        end = time.monotonic() + 10
        while relayer.status()["dead_letters"] != 1:
            assert time.monotonic() < end
            time.sleep(0.05)
        assert relayer.http.get(f"/v1/ballots/{hash_of(body).hex()}").json()["state"] == "dead"
        assert isinstance(cli("dead-letters", "--dir", str(folder), "--retry").exception, BallotboardError)
    [letter] = json.loads(cli("dead-letters", "--dir", str(folder), "--json").stdout)["dead_letters"]
    assert letter["ballot"] == hash_of(body).hex() and "TooLate" in letter["reason"]
    assert "64 hex digits" in str(cli("dead-letters", "--dir", str(folder), "--retry", "zz").exception)
    none = cli("dead-letters", "--dir", str(folder), "--retry", "00" * 32, "--json")
    assert json.loads(none.stdout) == {"retried": 0}
    assert cli("dead-letters", "--dir", str(folder), "--retry", letter["ballot"]).exit_code == 0
    assert json.loads(cli("status", "--dir", str(folder), "--json").stdout)["queue"] == 1


def test_init_makes_keys_that_run_opens_and_never_overwrites_them(tmp_path: Path) -> None:
    folder = str(tmp_path / "new")
    made = cli("init", folder, "--json")
    value = json.loads(made.stdout)
    assert len(bytes.fromhex(value["key"])) == 32 and len(bytes.fromhex(value["address"][2:])) == 20
    assert (tmp_path / "new" / "promise.key").stat().st_mode & 0o777 == 0o600
    assert "holds a relayer's keys already" in str(cli("init", folder).exception)
    assert keys.public(tmp_path / "new") == (value["address"], bytes.fromhex(value["key"]))
    account, key = keys.load(tmp_path / "new", PASSPHRASE)
    assert (account.address, key.verify_key.encode().hex()) == (value["address"], value["key"])


def test_a_relayer_that_cannot_start_says_so_in_one_line_and_exits_2(folder: Path, board: Path) -> None:
    command = [sys.executable, "-m", "scripts.cli", "relayer", "run", "--dir", str(folder), "--board", str(board)]
    environment = os.environ | {"BALLOTBOARD_PASSPHRASE": "wrong"}
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, env=environment)
    assert found.returncode == 2 and found.stdout == ""
    [line] = found.stderr.splitlines()
    assert line.startswith("error: ") and "does not open with this passphrase" in line


@pytest.mark.parametrize("what", ["stranger", "other key", "no board", "no node", "no keys", "settings", "port"])
def test_what_keeps_a_relayer_from_starting_is_named(
    chain: Anvil, world: World, folder: Path, board: Path, tmp_path: Path, what: str
) -> None:
    environment, expected, port = {}, what, "0"
    if what == "stranger":
        folder = build(chain, opened=False).relayer_folder(tmp_path / "stranger")
        expected = "is no relayer of this election's manifest"
    elif what == "other key":
        world.promise_keys["relayer-1"] = world.promise_keys["relayer-2"]
        folder = world.relayer_folder(tmp_path / "other")
        expected = "the manifest names another promise key"
    elif what == "no board":
        board.write_text(json.dumps(json.loads(board.read_text()) | {"contract": "0x" + "11" * 20}))
        expected = "there is no board at"
    elif what == "no node":
        board.write_text(json.dumps(json.loads(board.read_text()) | {"rpc": "http://127.0.0.1:9"}))
        expected = "is the node running?"
    elif what == "no keys":
        folder = tmp_path / "empty"
        folder.mkdir()
        expected = "ballotboard relayer init"
    elif what == "settings":
        environment, expected = (
            {"BALLOTBOARD_RELAYER_MAX_QUEUE": "many"},
            "relayer setting max_queue must be of type int",
        )
    else:
        port, expected = str(chain.port), "choose another --port"
    found = cli("run", "--dir", str(folder), "--board", str(board), "--port", port, **environment)
    assert isinstance(found.exception, BallotboardError) and expected in str(found.exception)
