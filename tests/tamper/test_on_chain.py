"""The dishonest runs of issue 3 on a real chain, verified by the command that an observer runs."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from chain.anvil import Anvil
from chain.contract import artifact, topic
from chain.keys import save_account
from chain.rpc import call
from protocol.merkle import inclusion_proof
from protocol.receipt import Receipt
from protocol.records import Kind
from scripts import cli
from tests.second import checker
from tests.tamper.builder import COUNTED_TOTALS, PAPER_TOTALS, STEPS, hold, prepared, preparing
from tests.tamper.on_chain import START, ChainElection, account
from tests.tamper.recipes import RECIPES, flip
from verifier.check import FAIL
from verifier.node import NodeSource
from verifier.run import verify_tally

pytestmark = pytest.mark.e2e

ON_CHAIN = [
    "a ballot with a flipped byte",
    "a ballot with two ciphertexts swapped",
    "a ciphertext taken from another voter",
    "a ballot copied under another credential",
    "the older ballot of a voter replayed after the newer",
    "a ballot made earlier and sent later than the newer",
    "a ballot forged in the name of another roll index",
    "a ballot forged with right proofs and no key",
    "a wrong partial decryption by one trustee",
    "wrong partial decryptions by two trustees",
    "a result with two totals exchanged",
    "a result with another counted set root",
    "a result that counts a ballot without proofs",
    "a station whose counts do not add up",
    "a station whose result is not revealed",
    "a voter checked in who voted online",
]


class Chain:
    """One anvil with an election up to its filled ballots, from which every test goes on."""

    def __init__(self, anvil: Anvil) -> None:
        self.anvil, self.web3 = anvil, anvil.web3
        self.setup = prepared(ChainElection(anvil))
        self.snapshot = call(self.web3, "evm_snapshot")

    def again(self) -> ChainElection:
        """The chain as it was, and the election to go on with."""
        call(self.web3, "evm_revert", self.snapshot)
        self.snapshot = call(self.web3, "evm_snapshot")
        found = self.setup.copy()
        assert isinstance(found, ChainElection)
        return found

    @property
    def contract(self) -> str:
        return "0x" + self.setup.contract.hex()

    @property
    def election(self) -> str:
        return self.setup.manifest.election_id.hex()


@pytest.fixture(scope="module")
def chain() -> Iterator[Chain]:
    with Anvil(block_time=0, timestamp=START) as anvil:
        yield Chain(anvil)


@pytest.fixture(scope="module")
def finished(chain: Chain) -> Chain:
    with preparing(chain.again):
        hold()
    return chain


@dataclass
class Ended:
    """How a command ended: exit status, standard output, standard error."""

    returncode: int
    stdout: str
    stderr: str


def ballotboard(*arguments: str) -> Ended:
    """The command in this process, since starting one takes longer than verifying; one test below starts a process."""
    out, err = io.StringIO(), io.StringIO()
    before, sys.argv = sys.argv, ["ballotboard", *arguments]
    try:
        with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
            cli.main()
    finally:
        sys.argv = before
    assert isinstance(ended.value.code, int)
    return Ended(ended.value.code, out.getvalue(), err.getvalue())


def tally(chain: Chain, *arguments: str, rpc: str = "") -> Ended:
    return ballotboard("verify", "tally", "--rpc", rpc or chain.anvil.url, "--contract", chain.contract, *arguments)


def failing(report: dict[str, Any]) -> set[str]:
    return {check["id"] for check in report["checks"] if check["outcome"] == FAIL}


@pytest.mark.parametrize("title", ON_CHAIN)
def test_what_roles_append_to_a_real_board_is_caught_or_changes_nothing(chain: Chain, title: str) -> None:
    recipe = next(recipe for recipe in RECIPES if recipe.title == title)
    with preparing(chain.again):
        recipe.make()
    report = verify_tally(NodeSource(chain.anvil.url, chain.contract), bytes.fromhex(chain.election)).json()
    assert failing(report) == recipe.fails
    for sentence in recipe.says:
        assert sentence in " ".join(check["detail"] for check in report["checks"])
    if not recipe.fails:
        assert report["verdict"] == "verified"
        assert {c["id"]: c["online"] for c in report["contests"]} == COUNTED_TOTALS


class TestTheCommand:
    @pytest.fixture(autouse=True)
    def honest(self, finished: Chain) -> None:
        """Every test here looks at one finished election."""

    def test_an_honest_election_verifies_with_status_0(self, chain: Chain) -> None:
        found = tally(chain, "--election", chain.election, "--json")
        assert found.returncode == 0, found.stderr
        report = json.loads(found.stdout)
        assert report["verdict"] == "verified"
        assert {c["id"]: c["paper"] for c in report["contests"]} == PAPER_TOTALS
        command = [
            "verify",
            "tally",
            "--rpc",
            chain.anvil.url,
            "--contract",
            chain.contract,
            "--election",
            chain.election,
        ]
        process = subprocess.run(
            [sys.executable, "-m", "scripts.cli", *command], capture_output=True, text=True, timeout=120
        )
        assert process.returncode == 0, process.stderr
        assert report["report"] in process.stdout

    def test_without_the_id_it_says_which_one_to_compare(self, chain: Chain) -> None:
        found = tally(chain)
        assert found.returncode == 0, found.stderr
        assert (
            f"CONSISTENT. Compare this election id with the one printed on voters' cards: {chain.election}"
            in found.stdout
        )

    def test_another_election_id_does_not_verify(self, chain: Chain) -> None:
        found = tally(chain, "--election", "00" * 32)
        assert found.returncode == 1
        assert "A02  FAIL" in found.stdout

    @pytest.mark.parametrize(
        "arguments, why",
        [
            (("--election", "12"), "error: --election: expected 32 bytes of lower-case hex"),
            (("--promises", "no-such-file"), "error: cannot read no-such-file"),
            (("--contract", "0x" + "11" * 20), "error: there is no board at"),
            (("--contract", "nonsense"), "error: nonsense is not a contract address"),
            (("--rpc", "http://127.0.0.1:9"), "error: no answer from http://127.0.0.1:9"),
        ],
    )
    def test_what_cannot_run_is_one_line_and_status_2(self, chain: Chain, arguments: tuple[str, ...], why: str) -> None:
        found = tally(chain, *arguments)
        assert found.returncode == 2
        assert found.stderr.startswith(why), found.stderr
        assert found.stderr.count("\n") == 1

    def test_the_setup_verifies_by_itself(self, chain: Chain) -> None:
        found = ballotboard(
            "verify",
            "config",
            "--rpc",
            chain.anvil.url,
            "--contract",
            chain.contract,
            "--election",
            chain.election,
            "--json",
        )
        assert found.returncode == 0, found.stdout
        assert {check["id"] for check in json.loads(found.stdout)["checks"]} >= {"A01", "A03", "E01", "I05"}


def receipt_file(chain: Chain, name: str, folder: Path) -> str:
    """A receipt of a ballot of the finished election, as a relayer gives it out."""
    claims = NodeSource(chain.anvil.url, chain.contract).read()
    record = next(r for r in claims.records if r.body == chain.setup.cast[name])
    leaves = [r.entry.leaf() for r in claims.records]
    number, block_hash = claims.blocks[record.position]
    receipt = Receipt(
        chain.setup.cast[name], claims.chain_id, claims.contract, bytes.fromhex(chain.election), number, block_hash, record.entry,
        claims.head, record.position, tuple(inclusion_proof(leaves, record.position)), None,
    )  # fmt: skip
    path = folder / f"{name}.json"
    path.write_bytes(receipt.body())
    return str(path)


class TestReceipts:
    @pytest.mark.parametrize(
        "name, status, words",
        [
            ("row 1", "counted", "In the node's log: counted."),
            ("row 0, first", "superseded", "2 ballots name this roll index"),
            ("row 5", "replaced-by-paper", "checked in for paper"),
        ],
    )
    def test_with_a_node_a_receipt_says_what_became_of_the_ballot(
        self, finished: Chain, tmp_path: Path, name: str, status: str, words: str
    ) -> None:
        path = receipt_file(finished, name, tmp_path)
        node = ("--rpc", finished.anvil.url, "--contract", finished.contract)
        found = ballotboard("verify", "receipt", path, *node, "--json")
        assert found.returncode == 0, found.stderr
        assert [value["status"] for value in json.loads(found.stdout)] == [status]
        assert words in ballotboard("verify", "receipt", path, *node).stdout

    def test_a_receipt_of_a_log_that_was_rebuilt_proves_it(self, finished: Chain, tmp_path: Path) -> None:
        path = receipt_file(finished, "row 1", tmp_path)
        rebuilt(finished, lambda draft: None if draft.body == finished.setup.cast["row 1"] else draft)
        found = ballotboard("verify", "receipt", path, "--rpc", finished.anvil.url, "--contract", finished.contract)
        assert found.returncode == 1
        assert "two logs have been shown" in found.stdout
        assert ballotboard("verify", "receipt", path).returncode == 0, "offline it still proves what was shown"
        with preparing(finished.again):
            hold()


def test_an_election_under_way_does_not_verify(chain: Chain) -> None:
    with preparing(chain.again):
        hold(until="close")
    found = tally(chain, "--election", chain.election, "--json")
    assert found.returncode == 1
    report = json.loads(found.stdout)
    assert failing(report) == {"C05"}
    assert report["contests"] == []


# ---------------------------------------------------------------- a copy of the chain, and a node that lies


def rebuilt(chain: Chain, change: Any) -> None:
    """A colluding relayer and node build the chain again, of the honest records as they were signed, with the ballots changed."""
    with preparing(chain.again):
        honest = hold()
    again, start = chain.again(), len(chain.setup.drafts)
    group: list[Any] = []
    for draft in [*honest.drafts[start:], None]:
        if group and (draft is None or not draft.joined):
            if group := [new for old in group if (new := change(old)) is not None]:
                again.drafts += group
                again.send(group)
            group = []
        if draft is not None:
            group.append(draft)


def test_a_chain_built_again_without_one_ballot_does_not_verify(chain: Chain) -> None:
    rebuilt(chain, lambda draft: None if draft.body == chain.setup.cast["row 1"] else draft)
    found = tally(chain, "--election", chain.election, "--json")
    assert found.returncode == 1, found.stderr
    report = json.loads(found.stdout)
    assert failing(report) == {"E03", "K04", "K05"}
    assert "is for another settlement" in found.stdout


def test_a_chain_built_again_with_a_flipped_byte_does_not_verify(chain: Chain) -> None:
    def flipped(draft: Any) -> Any:
        ours = draft.body == chain.setup.cast["row 1"]
        return replace(draft, body=flip(draft.body, len(draft.body) - 84)) if ours else draft

    rebuilt(chain, flipped)
    found = tally(chain, "--election", chain.election)
    assert found.returncode == 1, found.stderr
    assert "bad-proof, yet the result takes this ballot for valid" in found.stdout


class LyingNode:
    """A node in front of anvil that leaves the ballots of one transaction out of everything it says, or changes a byte of them."""

    def __init__(self, url: str, how: str) -> None:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                asked = json.loads(body)
                with urlopen(Request(url, body, {"Content-Type": "application/json"})) as answer:
                    said = json.loads(answer.read())
                for question, reply in zip(asked, said, strict=True) if isinstance(asked, list) else [(asked, said)]:
                    outer.lie(question["method"], reply)
                text = json.dumps(said).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *arguments: Any) -> None:
                pass

        self.how = how
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def lie(self, method: str, reply: dict[str, Any]) -> None:
        if self.how == "drop" and method == "eth_getLogs":
            reply["result"] = [log for log in reply["result"] if log["topics"][0] != topic("Ballots")]
        if self.how == "drop" and method == "eth_getBlockReceipts":
            for receipt in reply["result"]:
                receipt["logs"] = [log for log in receipt["logs"] if log["topics"][0] != topic("Ballots")]
        if self.how == "flip" and method == "eth_getRawTransactionByHash":
            raw = reply["result"]
            middle = len(raw) // 2
            reply["result"] = raw[:middle] + ("0" if raw[middle] != "0" else "1") + raw[middle + 1 :]
        if self.how == "code" and method == "eth_getCode":
            reply["result"] = reply["result"][:-2] + "00"

    def __enter__(self) -> LyingNode:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *exception: Any) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.mark.parametrize(
    "how, status, why",
    [
        ("drop", 1, "the node's log jumps from position 12 to 17"),
        ("flip", 1, "do not hash to that: they were changed"),
        ("code", 1, "the code at the address is not that of contracts/BulletinBoard.json"),
    ],
)
def test_a_lying_node_is_named(chain: Chain, how: str, status: int, why: str) -> None:
    with preparing(chain.again):
        hold()
    with LyingNode(chain.anvil.url, how) as node:
        found = tally(chain, "--election", chain.election, rpc=node.url)
    assert found.returncode == status, found.stderr
    assert why in found.stdout + found.stderr


def test_a_node_whose_state_was_changed_does_not_verify(chain: Chain) -> None:
    with preparing(chain.again):
        hold()
    slot = artifact().storage["_root"][0]
    call(chain.anvil.web3, "anvil_setStorageAt", chain.contract, f"0x{slot:064x}", "0x" + "11" * 32)
    found = tally(chain, "--election", chain.election, "--json")
    assert found.returncode == 1, found.stderr
    report = json.loads(found.stdout)
    assert report["verdict"] == "not verified" and "C01" in failing(report)
    assert report["tally"] is None
    assert {check["outcome"] for check in report["checks"]} == {"fail", "not run"}, (
        "nothing was read, so nothing passes"
    )


def test_every_step_of_the_election_is_taken_on_the_chain(chain: Chain) -> None:
    with preparing(chain.again):
        found = hold()
    assert STEPS[-1] == "certify" and {draft.kind for draft in found.drafts} == set(Kind)


def test_a_verifier_commits_to_its_report_and_reveals_it_and_a_watch_follows(chain: Chain, tmp_path: Path) -> None:
    with preparing(chain.again):
        hold(until="announce")
    place = ("--rpc", chain.anvil.url, "--contract", chain.contract)
    watching = ("verify", "watch", str(tmp_path / "heads"), "--once", "--json", *place, "--election", chain.election)
    first = ballotboard(*watching)
    assert first.returncode == 0, first.stdout + first.stderr
    assert json.loads(first.stdout)["new"] == json.loads(first.stdout)["head"]["size"]
    archived = ballotboard("archive", "make", str(tmp_path / "before.archive"), *place)
    assert archived.returncode == 0, archived.stderr
    extracted = ballotboard("archive", "extract", str(tmp_path / "before.archive"), str(tmp_path / "record"))
    assert extracted.returncode == 0, extracted.stderr
    second = checker.verify(checker.load(tmp_path / "record"))
    assert second.verified and second.online == COUNTED_TOTALS and second.paper == PAPER_TOTALS

    page = tmp_path / "report.html"
    told = tally(chain, "--election", chain.election, "--json", "--html", str(page))
    assert told.returncode == 0, told.stderr
    assert json.loads(told.stdout)["report"] in page.read_text()
    (tmp_path / "report.json").write_text(told.stdout)
    save_account(tmp_path / "verifier.json", account("verifier"), "secret")
    (tmp_path / "secret").write_text("secret\n")
    certify = ("verify", "certify", str(tmp_path / "report.json"), "--key", str(tmp_path / "verifier.json"), "--passphrase-file", str(tmp_path / "secret"), "--json", *place)  # fmt: skip
    early = ballotboard(*certify, "--reveal")
    assert early.returncode == 2 and "commit first" in early.stderr
    committed = ballotboard(*certify)
    assert committed.returncode == 0, committed.stderr
    again = ballotboard(*certify)
    assert again.returncode == 2 and "--reveal" in again.stderr
    revealed = ballotboard(*certify, "--reveal")
    assert revealed.returncode == 0, revealed.stderr
    assert json.loads(revealed.stdout)["position"] == json.loads(committed.stdout)["position"] + 1
    after = json.loads(tally(chain, "--election", chain.election, "--json").stdout)
    assert "1 good on this state" in next(c["detail"] for c in after["checks"] if c["id"] == "E05")

    second = ballotboard(*watching)
    assert second.returncode == 0 and json.loads(second.stdout)["new"] == 2
    difference = ballotboard("verify", "diff", str(tmp_path / "before.archive"), *place)
    assert difference.returncode == 0 and "EXTENDS" in difference.stdout and "2 report" in difference.stdout
    chain.again()  # the chain as it was before the poll: another history
    third = ballotboard(*watching)
    assert third.returncode == 1 and "History has changed" in json.loads(third.stdout)["detail"]
    difference = ballotboard("verify", "diff", str(tmp_path / "before.archive"), *place)
    assert difference.returncode == 1 and "ends before record" in difference.stdout


def test_a_report_that_was_changed_or_is_none_is_not_certified(tmp_path: Path) -> None:
    report = verify_tally(hold().source(), None).json()
    for changed, why in (
        (report | {"accepted": 5}, "was changed after it was made"),
        (report | {"sentence": "All is well."}, "was changed after it was made"),
        ({}, "this is no report"),
        ([], "this is no report"),
    ):
        (tmp_path / "report.json").write_text(json.dumps(changed))
        found = ballotboard("verify", "certify", str(tmp_path / "report.json"), "--key", "none")
        assert found.returncode == 2 and why in found.stderr
