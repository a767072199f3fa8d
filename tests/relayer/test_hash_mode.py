"""An election with ballots' hashes on the chain and bodies with data holders, from the first ballot to the verified result: real processes on a real chain."""

from __future__ import annotations

import json
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient
from typer.testing import CliRunner, Result

from authority.cli import app as election_app
from bulletin.app import create_app as create_board
from bulletin.archivist import Archivist
from bulletin.cli import index_board
from bulletin.store import Store
from chain.anvil import Anvil
from chain.console import Connection
from chain.holding import AT_ONCE, PATH, Holders
from chain.process import free_port
from chain.sealed import LIGHT
from chain.writer import Writer
from protocol.counting import Status
from protocol.encoding import canonical_json
from protocol.errors import BallotboardError
from protocol.records import Kind, pack_bodies, unpack_bodies
from relayer import app as relayer_api
from relayer.app import create_app
from relayer.cli import app as relayer_app
from relayer.holder import attest, ready_to_attest
from relayer.outbox import Outbox
from tests.chain.test_holding import holder
from tests.relayer.test_faults import QUICK, until
from tests.relayer.world import PASSPHRASE, Parts, Process, World, build, hash_of
from trustee import actions as trustee
from trustee.cli import app as trustee_app
from trustee.keystore import Keystore
from verifier.archive_cli import app as archive_app
from verifier.cli import app as verify_app

HOLDERS = ("data-holder-1", "data-holder-2")


def command(app: Any, *words: object, status: int = 0) -> Result:
    """A `ballotboard` command, in this process; its exit status must be this one, 2 for one clear error."""
    found = CliRunner().invoke(app, list(map(str, words)), env={"BALLOTBOARD_PASSPHRASE": PASSPHRASE})
    if status == 2:
        assert found.exception and not isinstance(found.exception, SystemExit), found.output
        return found
    assert found.exit_code == status, f"{found.output}\n{found.exception!r}"
    return found


class HashElection:
    """An election in hash mode in `folder`: two relayers whose operators are data holders, both of whom must sign, and a third that is gone."""

    def __init__(self, chain: Anvil, folder: Path) -> None:
        self.folder, self.chain = folder, chain
        self.world = build(chain, holders=len(HOLDERS), make_key=self._make_key)
        self.ports = [free_port(), free_port()]
        self.urls = [f"http://127.0.0.1:{port}" for port in self.ports]
        self.board = self.world.connection(folder / "board.json", self.urls, self.urls)
        self.relayers = [self.world.relayer_folder(folder / name, name) for name in ("relayer-1", "relayer-2")]
        self.keys = {name: self.world.key_file(folder / f"{name}.json", name) for name in self.world.accounts}

    def _make_key(self, world: World) -> None:
        with Keystore.create(self.folder / "trustee.keystore", PASSPHRASE, world.accounts["trustee"], LIGHT) as store:
            for act in (trustee.join, trustee.commit, trustee.reveal, trustee.confirm):
                act(world.writer.board, store)

    @contextmanager
    def relayer(self, number: int) -> Iterator[Process]:
        with Process(self.relayers[number], self.board, port=str(self.ports[number]), **QUICK) as process:
            yield process

    def attest(self, number: int, *words: object, status: int = 0) -> Result:
        name = HOLDERS[number]
        return command(
            relayer_app, "attest", "--dir", self.relayers[number], "--board", self.board, "--key", self.keys[name],
            "--out", self.folder / f"{name}.attestation.json", *words, status=status,
        )  # fmt: skip

    def verify(self, *words: object, status: int = 0) -> dict[str, Any]:
        id = self.world.manifest.election_id.hex()
        return json.loads(command(verify_app, "tally", *words, "--election", id, "--json", status=status).stdout)

    def shown(self, body: bytes) -> tuple[str, str, str]:
        """What a public board that looks at the chain and asks the data holders now says of a ballot: its state, and its page in English and French."""
        connection, database = Connection(**json.loads(self.board.read_text())), f"sqlite:///{self.folder / 'board.db'}"
        index_board(connection, database)
        web, name = TestClient(create_board(Store(database), connection)), hash_of(body).hex()
        state = web.get(f"/api/v1/ballots/{name}").json()["fate"]["state"]
        return (state, *(web.get(f"/{language}/ballots/{name}").text for language in ("en", "fr")))

    def node(self) -> list[str]:
        return ["--rpc", self.world.url, "--contract", "0x" + self.world.contract.hex()]


def outcomes(report: dict[str, Any]) -> dict[str, str]:
    return {check["id"]: check["outcome"] for check in report["checks"]}


def detail(report: dict[str, Any], id: str) -> str:
    return next(check["detail"] for check in report["checks"] if check["id"] == id)


def has_all(relayer: Process, bodies: list[bytes]) -> bool:
    return len(Holders([relayer.url]).fetch(map(hash_of, bodies))) == len(bodies)


@pytest.mark.e2e
@pytest.mark.slow
def test_an_election_in_hash_mode_from_the_first_ballot_to_the_verified_result(chain: Anvil, tmp_path: Path) -> None:
    one = HashElection(chain, tmp_path)
    world = one.world
    *bodies, late, lost = world.ballots(world.voters)
    dead = Writer(world.web3, world.contract, world.accounts["relayer-3"])
    dead.append_ballot_hashes(0, [hash_of(lost)])  # a relayer whose machine was lost before anybody else had the body

    with one.relayer(0) as first:
        with one.relayer(1) as second:
            for number, body in enumerate(bodies):
                assert (first, second)[number % 2].post(body).status_code == 202
            for relayer in (first, second):
                relayer.wait_final(bodies)
                until(partial(has_all, relayer, bodies))
                until(lambda relayer=relayer: relayer.status()["bodies_lacking"] == 1)
            assert one.shown(bodies[0])[0] == "recorded" and "proofs and signature are right" in one.shown(bodies[0])[1]
            state, english, french = one.shown(lost)
            assert state == "not-here" and "has not reached this board yet" in english and "pas encore arrivé" in french
            receipt = second.http.get(f"/v1/ballots/{hash_of(bodies[0]).hex()}").json()["receipt"]
            assert receipt["ballot"] == bodies[0].hex()  # taken by the first, shown by the second
            assert second.end(signal.SIGTERM) == 0
        assert first.post(late).status_code == 202
        first.wait_final([late])
        records = world.read().records
        assert [r.body for r in records if r.kind == Kind.BALLOT] == [None] * len(world.voters)
        [void] = [r.position for r in records if r.entry.body_hash == hash_of(lost)]

        assert "not closed" in str(one.attest(0, status=2).exception)
        windows = world.manifest.windows
        chain.advance_to(windows.close + windows.append_grace)
        command(election_app, "close", "--key", one.keys["authority"], "--board", one.board)
        assert "attest again" in one.attest(0).stderr  # the log may still grow
        chain.advance_to(windows.settle_not_before)
        wrong = command(
            relayer_app, "attest", "--dir", one.relayers[0], "--board", one.board, "--key", one.keys["relayer-1"],
            "--out", tmp_path / "x.json", status=2,
        )  # fmt: skip
        assert "no data holder" in str(wrong.exception) and not (tmp_path / "x.json").exists()

        # the second relayer does not run, and has not seen the late ballot: its holder fetches it now
        said = json.loads(one.attest(1, "--require-all", "--json", status=1).stdout)
        assert (said["held"], said["ballots"], said["missing"]) == (7, 8, [void])
        assert not (tmp_path / "data-holder-2.attestation.json").exists()
        for number in (0, 1):
            found = one.attest(number)
            assert "7 of 8 ballots held" in found.stdout and f"at positions {void}" in found.stderr
        files = [tmp_path / f"{name}.attestation.json" for name in HOLDERS]
        command(
            election_app, "settle", "--key", one.keys["authority"], "--board", one.board,
            "--attestation", files[0], "--attestation", files[1],
        )  # fmt: skip
        assert "settlement is on the record" in str(one.attest(0, status=2).exception)
        now = command(
            trustee_app, "status", "--keystore", tmp_path / "trustee.keystore", "--board", one.board, "--json"
        )
        assert json.loads(now.stdout)["phase"] == "settled"
        command(trustee_app, "decrypt", "--keystore", tmp_path / "trustee.keystore", "--board", one.board)
        command(election_app, "announce", "--key", one.keys["authority"], "--board", one.board)

        report = one.verify(*one.node(), "--holder", one.urls[0])
        assert set(outcomes(report).values()) == {"pass", "not applicable"}, report
        assert report["accepted"] == 7 and report["attempts"] == {**report["attempts"], Status.NOT_HELD.text: 1}
        assert f"1 ballots are not held and count for nothing: {void}" in detail(report, "C02")
        archive = tmp_path / "election.archive"
        command(archive_app, "make", archive, *one.node(), "--holder", one.urls[0])
        from_archive = one.verify(archive)
        assert outcomes(from_archive) == outcomes(report) and from_archive["contests"] == report["contests"]
        (tmp_path / "receipt.json").write_bytes(canonical_json(receipt))
        told = command(verify_app, "receipt", tmp_path / "receipt.json", *one.node(), "--holder", one.urls[0], "--json")
        assert json.loads(told.stdout)[0]["status"] == Status.COUNTED.text

        state, english, french = one.shown(lost)
        assert state == Status.NOT_HELD.text and "is void" in english and "est nul" in french and "bitmap" in english
        assert one.shown(bodies[0])[0] == one.shown(late)[0] == Status.COUNTED.text
        (offers := tmp_path / "offers").mkdir()
        connection = Connection(**json.loads(one.board.read_text()))
        kept = Archivist(Store(f"sqlite:///{tmp_path / 'board.db'}"), connection, offers)
        assert kept.step() and (offered := kept.note.held)
        assert kept.archives.path(offered).read_bytes() == archive.read_bytes()
        with Store(f"sqlite:///{tmp_path / 'board.db'}").read() as tx:
            announced = json.loads(world.read().records[-1].body or b"")["counted_set"]
            assert tx.fact("counted")["root"] == announced["root"] and tx.fact("result") == ""
            statuses = tx.fact("counted")["statuses"]
            assert {name: count for name, count in statuses.items() if count} == {"counted": 7, "not-held": 1}
            fate = tx.fate(void)
            assert fate and fate.status == Status.NOT_HELD

    # one holder broke its word, and it is the one that is asked
    broken = hash_of(bodies[0])
    with sqlite3.connect(one.relayers[1] / "outbox.db") as database:
        assert database.execute("DELETE FROM bodies WHERE hash = ?", (broken,)).rowcount == 1
    database.close()
    with one.relayer(1):
        report = one.verify(*one.node(), "--holder", one.urls[1], status=1)
    [position] = [r.position for r in records if r.entry.body_hash == broken]
    settlement = world.read().records[-3]
    assert settlement.kind == Kind.SETTLEMENT and outcomes(report)["C02"] == "fail"
    assert detail(report, "C02") == (
        f"record {position}: the body of {broken.hex()} is not to be had, for which data-holder-1, data-holder-2 signed in record {settlement.position}"
    )
    assert {id for id, outcome in outcomes(report).items() if outcome == "fail"} == {"C02"}


@pytest.fixture
def world(chain: Anvil) -> World:
    return build(chain, voters=2, holders=1)


@pytest.mark.e2e
def test_bodies_are_served_by_hash_as_many_as_an_answer_holds(world: World, tmp_path: Path, monkeypatch) -> None:
    bodies = world.ballots(world.voters)
    hashes = [hash_of(body) for body in bodies]
    with Parts(world, tmp_path / "outbox.db") as parts:
        parts.promise(bodies)
        web = TestClient(create_app(parts.relayer))
        assert web.get(f"{PATH}/{hashes[0].hex()}").content == bodies[0]
        assert web.get(f"{PATH}/{'0' * 64}").status_code == 404
        asked = web.post(PATH, content=hashes[1] + bytes(32) + hashes[0])
        assert asked.status_code == 200 and unpack_bodies(asked.content) == [bodies[1], b"", bodies[0]]
        assert [web.post(PATH, content=data).status_code for data in (b"", bytes(31), bytes(33))] == [422] * 3
        assert web.post(PATH, content=bytes(32 * AT_ONCE)).status_code == 200
        assert web.post(PATH, content=bytes(32 * AT_ONCE + 32)).status_code == 413
        monkeypatch.setattr(relayer_api, "MOST_BODIES", len(bodies[0]) + len(bodies[1]))
        assert unpack_bodies(web.post(PATH, content=b"".join(hashes)).content) == bodies[:2]
        monkeypatch.setattr(relayer_api, "MOST_BODIES", 1)
        assert unpack_bodies(web.post(PATH, content=b"".join(hashes)).content) == bodies[:1]


@pytest.mark.e2e
def test_a_relayer_keeps_what_others_have_put_on_the_chain_and_signs_for_what_it_can_show(
    world: World, tmp_path: Path
) -> None:
    mine, foreign, nowhere = world.ballots(world.voters)[:3]
    other = Writer(world.web3, world.contract, world.accounts["relayer-2"])
    other.append_ballot_hashes(0, [hash_of(foreign), hash_of(nowhere)])
    liar = lambda hashes, bodies: (200, pack_bodies([b"another"] * len(hashes)))  # noqa: E731
    with (
        holder([], liar) as lying,
        holder([foreign]) as url,
        Parts(world, tmp_path / "o.db", peers=[lying, url]) as parts,
    ):
        parts.promise([mine])
        parts.settle()
        parts.look()
        assert [r.body for r in world.read().records if r.kind == Kind.BALLOT] == [None] * 3
        relayer, replicator = parts.relayer, parts.relayer.replicator
        assert replicator
        state = relayer.states([hash_of(foreign)])[hash_of(foreign)]
        assert "ask again" in relayer.final(state, False)["problem"]
        replicator.step()
        assert replicator.lacking == [hash_of(nowhere)] and relayer.status()["bodies_lacking"] == 1
        assert "ballotboard_bodies_lacking 1.0" in TestClient(create_app(relayer)).get("/metrics").text
        assert relayer.final(state, False)["receipt"]["ballot"] == foreign.hex()
        replicator.step()
        assert replicator.lacking == [hash_of(nowhere)]

        log, account = world.read(), world.accounts["data-holder-1"]
        role = world.manifest.role_index(bytes.fromhex(account.address[2:])) or 0
        with pytest.raises(BallotboardError, match="nothing to attest"):
            ready_to_attest(world.web3, world.contract, replace(world.manifest, body_mode="calldata"), account)
        signed = attest(world.web3, log, account, role, parts.outbox)
        signed.attestation.check(world.manifest)
        places = {r.entry.body_hash: r.position for r in log.records}
        assert (signed.ballots, signed.missing) == (3, [places[hash_of(nowhere)]])
        assert {p for p in range(log.head.size) if p in signed.bitmap} == {
            places[hash_of(mine)],
            places[hash_of(foreign)],
        }
        with parts.outbox.engine.begin() as connection:
            connection.execute(sa.text("UPDATE bodies SET body = x'00'"))  # a disk that forgets
        signed = attest(world.web3, log, account, role, parts.outbox)
        assert signed.missing == sorted([places[hash_of(nowhere)], places[hash_of(foreign)]])


@pytest.mark.e2e
@pytest.mark.slow
def test_a_relayer_that_is_killed_when_it_has_sent_a_hash_has_the_body_on_its_disk(
    world: World, tmp_path: Path
) -> None:
    bodies = world.ballots(world.voters)
    folder, board = world.relayer_folder(tmp_path / "relayer"), world.connection(tmp_path / "board.json")
    with Process(folder, board, crash_at="send after", **QUICK | {"MAX_DELAY": "0.5"}) as relayer:
        for body in bodies:
            assert relayer.post(body).status_code == 202
        assert relayer.process.wait(20) == -signal.SIGKILL
    hashes = [r.entry.body_hash for r in world.read().records if r.kind == Kind.BALLOT]
    outbox = Outbox(f"sqlite:///{folder / 'outbox.db'}")
    assert hashes and outbox.lacking(hashes) == []
    outbox.close()
    with Process(folder, board, **QUICK) as relayer:
        relayer.wait_final(bodies)
        assert has_all(relayer, bodies)
    assert sorted(r.entry.body_hash for r in world.read().records if r.kind == Kind.BALLOT) == sorted(
        map(hash_of, bodies)
    )
