"""`ballotboard vote` against a real relayer on a real chain, and against relayers that lie, refuse, or are not there."""

import json
import os
import pty
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import typer
from click.testing import Result
from nacl.signing import SigningKey
from typer.testing import CliRunner

from chain.anvil import Anvil
from chain.log import read_log
from protocol.ballot import SIGNATURE, create_unsigned, read_header
from protocol.election import OpenElection
from protocol.encoding import canonical_json, parse_json
from protocol.errors import BallotboardError
from protocol.receipt import Promise, Receipt, ReceiptWrong, Refusal, sign_statement
from protocol.records import LogHead
from tests.relayer.world import CONTESTS, Process, Voter, World, build, hash_of
from voter import booth, cli

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]

app = typer.Typer()
app.command()(cli.vote)


@dataclass
class Scene:
    """A world with a running relayer; `voter` hands out people who have not voted."""

    chain: Anvil
    world: World
    relayer: Process
    board: Path
    people: list[Voter]

    def voter(self, unit: int = 1) -> Voter:
        found = next(person for person in self.people if person.unit == unit)
        self.people.remove(found)
        return found

    def vote(self, *words: str, relayer: str | None = None, as_json: bool = True) -> Result:
        words = (*words, "--board", str(self.board), "--relayer", relayer or self.relayer.url, *["--json"] * as_json)
        return CliRunner().invoke(app, words)

    def value(self, *words: str, relayer: str | None = None) -> dict[str, Any]:
        found = self.vote(*words, relayer=relayer)
        assert found.exit_code == 0, (found.stderr, found.exception)
        return json.loads(found.stdout)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("scene")
    with Anvil(block_time=0) as chain:
        world = build(chain, voters=32)
        board = world.connection(folder / "board.json")
        with Process(world.relayer_folder(folder / "relayer"), board, MAX_DELAY="0.1", POLL_INTERVAL="0.05") as relayer:
            yield Scene(chain, world, relayer, board, list(world.voters))


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Receipts and evidence are written where the voter is."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


Reply = tuple[int, Any]


@pytest.fixture
def impostor() -> Iterator[Callable[[Callable[[str, str, bytes], Reply]], str]]:
    """Starts a real HTTP server that answers as the test says: (method, path, body) → (status, JSON). Gives its URL."""
    servers = []

    def start(answer: Callable[[str, str, bytes], Reply]) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                status, value = answer(self.command, self.path, body)
                data = value if isinstance(value, bytes) else json.dumps(value).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST

            def log_message(self, *_: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def statement_of(world: World, body: bytes, key: SigningKey | None = None, **changes: Any) -> dict[str, Any]:
    """A promise of relayer-2 about a ballot, with some fields changed."""
    role = world.manifest.role_index(bytes.fromhex(world.accounts["relayer-2"].address[2:]))
    fields = {
        "ballot": hash_of(body), "by": world.writer.board.now() + 3, "contract": world.contract, "chain": 31337,
        "head": LogHead(1, bytes(32)), "relayer": role,
    }  # fmt: skip
    return sign_statement(Promise(**(fields | changes)), key or world.promise_keys["relayer-2"])


def refusal_of(world: World, body: bytes, reason: str) -> dict[str, Any]:
    role = world.manifest.role_index(bytes.fromhex(world.accounts["relayer-2"].address[2:]))
    refusal = Refusal(hash_of(body), world.contract, 31337, reason, role, 1)
    return {"reason": reason, "message": "no", **sign_statement(refusal, world.promise_keys["relayer-2"])}


# ---- an honest relayer


def test_a_vote_is_in_the_log_and_its_receipt_proves_it(scene: Scene, here: Path) -> None:
    voter = scene.voter()
    value = scene.value("--code", voter.code, "--choice", "Ben")
    receipt = Receipt.parse(Path(value["receipt"]).read_bytes())
    receipt.check()
    assert value["state"] == "final" and value["position"] == receipt.position
    assert receipt.head == scene.world.writer.board.head()
    assert receipt.ballot in scene.world.log_ballots() and read_header(receipt.ballot)[0] == voter.row
    evidence = parse_json((here / value["evidence"]).read_bytes())
    assert evidence["format"] == "ballotboard/relayer-statements/v1"
    assert evidence["statements"] == [receipt.promise] and evidence["ballot"] == receipt.ballot.hex()
    assert sorted(path.name for path in here.iterdir()) == sorted([value["receipt"], value["evidence"]])


def test_what_a_person_reads_says_what_the_receipt_does_not_prove(scene: Scene) -> None:
    found = scene.vote("--code", scene.voter().code, "--choice", "Ada", as_json=False)
    assert found.exit_code == 0 and found.stdout == ""
    text = " ".join(found.stderr.split())
    assert "Cast: your ballot is record" in text
    assert "It does not show how you voted, to anybody" in text
    assert "Whether it counts is fixed when the poll is settled" in text


def test_several_contests_are_chosen_by_name(scene: Scene) -> None:
    voter = scene.voter(unit=2)
    choices = [
        "--choice",
        "mayor=blank",
        "--choice",
        "council=Red",
        "--choice",
        "council=Blue",
        "--choice",
        "parks=South",
    ]
    assert scene.value("--code", voter.code, *choices)["state"] == "final"


def test_without_waiting_a_vote_is_promised_and_nowhere_called_cast(scene: Scene, here: Path) -> None:
    found = scene.vote("--code", scene.voter().code, "--choice", "Ada", "--no-wait")
    assert json.loads(found.stdout)["state"] == "promised"
    assert "ast:" not in found.stderr and "Promised, not yet in the log" in found.stderr
    assert not list(here.glob("receipt-*"))


def test_a_second_vote_is_told_of_the_first(scene: Scene) -> None:
    voter = scene.voter()
    assert scene.value("--code", voter.code, "--choice", "Ada")["earlier_ballots"] == 0
    found = scene.vote("--code", voter.code, "--choice", "Ben")
    assert json.loads(found.stdout)["earlier_ballots"] == 1
    assert "If none is yours, somebody else knows the code" in " ".join(found.stderr.split())


def test_the_next_relayer_is_asked_when_the_first_is_not_there(scene: Scene) -> None:
    words = ("--code", scene.voter().code, "--choice", "Ada", "--relayer", "http://127.0.0.1:9")
    found = CliRunner().invoke(app, [*words, "--relayer", scene.relayer.url, "--board", str(scene.board), "--json"])
    assert json.loads(found.stdout)["relayer"] == scene.relayer.url


def test_a_promise_whose_answer_was_lost_is_had_again(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first answer never arrives; the same ballot offered again is a duplicate, which carries the promise."""
    poll = booth.read_poll(read_log(scene.world.web3, scene.world.contract))
    voter = booth.find_voter(poll, scene.voter().code)
    body = booth.fill(poll, voter, [[1, 0, 0]]).cast()
    assert scene.relayer.post(body).status_code == 202
    evidence = booth.Evidence(Path("evidence.json"), body)
    accepted = booth.cast(poll, body, [scene.relayer.url], evidence)
    assert accepted.promise.ballot == hash_of(body)
    assert [set(statement) for statement in evidence.statements] == [{"refusal", "signature"}, {"promise", "signature"}]
    booth.await_receipt(poll, body, accepted).check()


# ---- audit


def test_an_audited_ballot_is_re_derived_from_its_file_and_is_not_in_the_log(scene: Scene) -> None:
    before = scene.world.log_ballots()
    voter = scene.voter(unit=2)
    words = ("--audit", "--choice", "mayor=Ben", "--choice", "parks=North")
    for named in (("--code", voter.code), ("--roll-index", str(voter.row))):
        value = scene.value(*words, *named)
        opened = parse_json(Path(value["audited_ballot"]).read_bytes())
        assert opened["format"] == "ballotboard/audited-ballot/v1"
        assert opened["choices"] == [[0, 1, 0], [0, 0, 0], [1, 0]] and opened["contests"] == CONTESTS
        assert (opened["roll_index"], opened["unit"], opened["style"]) == (voter.row, 2, 1)
        election: OpenElection = scene.world.election
        assert (opened["context"], opened["key"]) == (election.context.hex(), election.joint.key.hex())
        seed, key = bytes.fromhex(opened["seed"]), bytes.fromhex(opened["public_key"])
        again = create_unsigned(election.engine.election, voter.row, opened["seen"], 2, key, 1, seed, opened["choices"])
        assert again.hex() == opened["ballot"] and value["fingerprint"] == hash_of(again).hex()
    assert scene.world.log_ballots() == before


def test_an_audit_says_that_nothing_was_cast(scene: Scene, here: Path) -> None:
    found = scene.vote("--audit", "--roll-index", "0", "--choice", "Ada")
    assert "This ballot was NOT cast" in found.stderr
    assert [path.name[:8] for path in here.iterdir()] == ["audited-"]


@pytest.mark.parametrize(("answer", "state"), [("audit", "audited-"), ("cast", "receipt-"), ("", "receipt-")])
def test_at_a_terminal_the_question_comes_when_the_ballot_is_fixed(
    scene: Scene, here: Path, answer: str, state: str
) -> None:
    """The program has shown the fingerprint before it learns whether it will be caught."""
    terminal, stdin = pty.openpty()
    words = [
        "vote",
        "--code",
        scene.voter().code,
        "--choice",
        "Ada",
        "--board",
        str(scene.board),
        "--relayer",
        scene.relayer.url,
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-m", "scripts.cli", *words]
    with subprocess.Popen(
        command, cwd=here, env=environment, stdin=stdin, stderr=subprocess.PIPE, bufsize=0
    ) as process:
        os.close(stdin)
        assert process.stderr
        said = b""
        while b"cast or audit [cast]" not in said:
            piece = process.stderr.read(1024)
            assert piece, said
            said += piece
        fixed = re.search(rb"fingerprint of the encrypted ballot: ([0-9a-f]{64})", said)
        assert fixed and not list(here.iterdir())
        os.write(terminal, answer.encode() + b"\n")
        process.stderr.read()
    os.close(terminal)
    assert process.returncode == 0
    (written,) = here.glob(state + "*")
    value = parse_json(written.read_bytes())
    unsigned = bytes.fromhex(value["ballot"]) if state == "audited-" else bytes.fromhex(value["ballot"])[:-SIGNATURE]
    assert hash_of(unsigned).hex() == fixed[1].decode()


# ---- bad input


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--code", "1-000000000-000000000-000000000", "--choice", "Ada"], "no row of the roll has this card's key"),
        (["--code", "hello", "--choice", "Ada"], "with the number in front"),
        (["--roll-index", "0", "--choice", "Ada"], "--audit only"),
        (["--audit", "--roll-index", "99", "--choice", "Ada"], "no row 99"),
        (["--audit", "--roll-index", "0", "--choice", "Adam"], "Ada, Ben, blank"),
    ],
)
def test_bad_input_is_named(scene: Scene, here: Path, words: list[str], expected: str) -> None:
    found = scene.vote(*words)
    assert isinstance(found.exception, BallotboardError) and expected in str(found.exception)
    assert list(here.iterdir()) == []


def test_a_receipt_is_never_written_over_and_nothing_is_sent_then(scene: Scene, here: Path) -> None:
    (here / "mine.json").write_text("an earlier receipt")
    before = scene.relayer.status()["ballots"]
    found = scene.vote("--code", scene.voter().code, "--choice", "Ada", "--receipt", "mine.json")
    assert isinstance(found.exception, BallotboardError) and "exists" in str(found.exception)
    assert scene.relayer.status()["ballots"] == before


def test_another_election_than_the_connection_files_is_not_voted_in(scene: Scene, tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    other.write_text(json.dumps(json.loads(scene.board.read_text()) | {"election": "00" * 32}))
    found = CliRunner().invoke(app, ["--code", scene.voter().code, "--choice", "Ada", "--board", str(other)])
    assert isinstance(found.exception, BallotboardError) and "the connection file means" in str(found.exception)


# ---- relayers that are not honest


def test_with_no_relayer_at_all_the_ballot_is_not_called_cast_and_nothing_is_left(scene: Scene, here: Path) -> None:
    found = scene.vote("--code", scene.voter().code, "--choice", "Ada", relayer="http://127.0.0.1:9")
    assert isinstance(found.exception, booth.NotAccepted) and "your ballot is not cast" in str(found.exception)
    assert list(here.iterdir()) == []


def test_a_wrong_refusal_of_a_valid_ballot_is_kept_as_evidence(scene: Scene, here: Path, impostor) -> None:
    url = impostor(lambda method, path, body: (422, refusal_of(scene.world, body, "bad-proof")))
    found = scene.vote("--code", scene.voter().code, "--choice", "Ada", relayer=url)
    assert isinstance(found.exception, booth.NotAccepted)
    assert "the ballot is valid: the evidence file proves that the refusal is wrong" in str(found.exception)
    [file] = here.iterdir()
    evidence = parse_json(file.read_bytes())
    assert evidence["statements"][0]["refusal"]["ballot"] == hash_of(bytes.fromhex(evidence["ballot"])).hex()


@pytest.mark.parametrize("lie", ["key", "ballot", "contract", "by", "shape", "json", "refusal as promise"])
def test_a_promise_that_is_none_is_not_taken_for_one(scene: Scene, impostor, lie: str) -> None:
    world = scene.world
    far = world.manifest.windows.close_not_after + world.manifest.windows.append_grace + 1
    lies: dict[str, Callable[[bytes], Any]] = {
        "key": lambda body: statement_of(world, body, world.promise_keys["relayer-1"]),
        "ballot": lambda body: statement_of(world, body, ballot=bytes(32)),
        "contract": lambda body: statement_of(world, body, contract=bytes(20)),
        "by": lambda body: statement_of(world, body, by=far),
        "shape": lambda body: {"promise": {"ballot": hash_of(body).hex()}, "signature": "00" * 64},
        "json": lambda body: b"<html>",
        "refusal as promise": lambda body: {
            name: value for name, value in refusal_of(world, body, "closed").items() if name in ("refusal", "signature")
        },
    }
    url = impostor(lambda method, path, body: (202, lies[lie](body)))
    found = scene.vote("--code", scene.voter().code, "--choice", "Ada", relayer=url)
    assert isinstance(found.exception, booth.NotAccepted), found.exception


def test_a_promise_that_is_not_kept_is_proven_by_the_evidence_file(scene: Scene, here: Path, impostor) -> None:
    world = scene.world

    def swallow(method: str, path: str, body: bytes) -> Reply:
        if method == "POST":
            return 202, statement_of(world, body)
        scene.chain.advance_to(world.writer.board.now() + 2)
        return 200, {"state": "submitted"}

    found = scene.vote("--code", scene.voter().code, "--choice", "Ada", relayer=impostor(swallow))
    assert isinstance(found.exception, booth.PromiseBroken), found.exception
    [file] = here.iterdir()
    [statement] = parse_json(file.read_bytes())["statements"]
    assert statement["promise"]["by"] < world.writer.board.now()


def test_a_relayer_that_falls_silent_after_its_promise_is_not_needed_for_the_receipt(scene: Scene, impostor) -> None:
    """It forwards the ballot to the honest one and says nothing more: the receipt is made from the node's log."""

    def forward(method: str, path: str, body: bytes) -> Reply:
        if method == "POST":
            assert scene.relayer.post(body).status_code == 202
            return 202, statement_of(scene.world, body, by=scene.world.writer.board.now() + 60)
        return 500, {}

    value = scene.value("--code", scene.voter().code, "--choice", "Ada", relayer=impostor(forward))
    receipt = Receipt.parse(Path(value["receipt"]).read_bytes())
    receipt.check()
    assert receipt.head == scene.world.writer.board.head()


def changed_receipts() -> dict[str, Callable[[dict[str, Any]], Any]]:
    """What a relayer might show instead of a right receipt."""

    def other_log(receipt: dict[str, Any]) -> None:
        entry = Receipt.parse(canonical_json(receipt)).entry
        receipt.update(head={"root": entry.leaf().hex(), "size": 1}, position=0, proof=[])

    return {
        "another log with this ballot alone": other_log,
        "another position": lambda receipt: receipt.update(position=receipt["position"] - 1),
        "another block": lambda receipt: receipt["block"].update(number=receipt["block"]["number"] + 1),
        "another election": lambda receipt: receipt["board"].update(election="00" * 32),
        "another promise": lambda receipt: receipt["promise"]["promise"].update(by=1),
        "another ballot": lambda receipt: receipt.update(
            ballot=receipt["ballot"][:-2] + f"{int(receipt['ballot'][-2:], 16) ^ 1:02x}"
        ),
    }


@pytest.mark.parametrize("change", list(changed_receipts()))
def test_a_receipt_that_proves_nothing_is_refused(scene: Scene, here: Path, impostor, change: str) -> None:
    def lie(method: str, path: str, body: bytes) -> Reply:
        if method == "POST":
            answer = scene.relayer.post(body)
            return answer.status_code, answer.json()
        value = scene.relayer.http.get(path).json()
        # until then the truth, and at once: who answers late is not believed but replaced by the log
        if value.get("receipt"):
            changed_receipts()[change](value["receipt"])
        return 200, value

    found = scene.vote("--code", scene.voter().code, "--choice", "Ada", relayer=impostor(lie))
    assert isinstance(found.exception, BallotboardError), (found.exception, found.stdout)
    assert isinstance(found.exception, ReceiptWrong) or "is not the relayer's" in str(found.exception)
    assert not list(here.glob("receipt-*"))
