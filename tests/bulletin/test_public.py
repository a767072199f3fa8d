"""What other programs read: the log as tiles with a signed checkpoint, events, tags, and the figures behind the pages."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json

import pytest
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from bulletin.board import API, Board
from bulletin.checkpoint import checkpoint, origin, read_key, verifier_key
from bulletin.feed import Feed
from bulletin.mirror import _tiles, mirror
from bulletin.replica import Replica
from bulletin.store import Store
from chain.console import Connection
from chain.process import free_port
from protocol import merkle
from protocol.ballot import Reason
from protocol.errors import BallotboardError
from protocol.records import Kind, LogHead
from tests.bulletin.boards import cursor, events, feed, replica
from tests.bulletin.test_app import client
from tests.tamper import builder
from tests.tamper.builder import Election, hold


@pytest.fixture(scope="module")
def held() -> Election:
    return hold()


@pytest.fixture(scope="module")
def copy(held, tmp_path_factory):
    return replica(tmp_path_factory.mktemp("public"), held)


@pytest.fixture(scope="module")
def web(copy):
    return client(copy)


# ---------------------------------------------------------------- tlog-tiles


def test_the_checkpoint_is_a_signed_note_of_the_head(web, held):
    name, size, root, empty, line, end = web.get("/checkpoint").text.split("\n")
    head = web.get(f"{API}/head").json()
    assert (name, int(size), base64.b64decode(root).hex()) == (
        origin(held.manifest.election_id),
        head["size"],
        head["root"],
    )
    assert (empty, end) == ("", "")
    signer, signature = line.removeprefix("\u2014 ").split(" ")
    key_name, key_id, key = web.get(f"{API}/verify").json()["checkpoint_key"].split("+", 2)
    public = base64.b64decode(key)
    assert (signer, key_name) == (name, name) and public[:1] == b"\x01"
    assert hashlib.sha256(name.encode() + b"\n" + public).digest()[:4].hex() == key_id
    signed = base64.b64decode(signature)
    assert signed[:4].hex() == key_id
    VerifyKey(public[1:]).verify(f"{name}\n{size}\n{root}\n".encode(), signed[4:])
    with pytest.raises(BadSignatureError):
        VerifyKey(public[1:]).verify(f"{name}\n{int(size) + 1}\n{root}\n".encode(), signed[4:])


def test_a_known_key_and_head_give_a_known_note():
    """Byte for byte, so that no release changes what a log's clients have pinned."""
    key = SigningKey(bytes(32))
    note = checkpoint("example", LogHead(3, bytes(32)), key)
    assert note.startswith(b"example\n3\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n\n\xe2\x80\x94 example ")
    assert verifier_key("example", key) == "example+d548005b+ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop"


def test_the_tree_and_the_entries_can_be_rebuilt_from_the_tiles(web):
    head = web.get(f"{API}/head").json()
    size = head["size"]
    assert size < 256
    hashes = web.get(f"/tile/0/000.p/{size}").content
    leaves = [hashes[i : i + 32] for i in range(0, len(hashes), 32)]
    assert merkle.root(leaves).hex() == head["root"]
    bundle = web.get(f"/tile/entries/000.p/{size}").content
    found = [bundle[i + 2 : i + 42] for i in range(0, len(bundle), 42)]
    assert [merkle.leaf_hash(entry) for entry in found] == leaves
    assert web.get(f"/tile/0/000.p/{size}").headers["cache-control"].endswith("immutable")
    assert web.get("/tile/0/000.p/3").content == hashes[:96]  # an earlier head's tile is still there


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("0/000", 404), ("0/001.p/1", 404), ("0/000.p/255", 404), ("1/000.p/1", 404), ("entries/000", 404),
        ("0/000.p/256", 404), ("0/x000/000.p/1", 404), ("0/0.p/1", 422), ("0/000.p/0", 422), ("0/000.p/01", 422),
        ("8/000.p/1", 422), ("0/x1/000", 422), ("entries/-01", 422), ("0/000.p/1/", 422),
    ],
)  # fmt: skip
def test_what_is_no_tile_of_this_log_is_not_there(web, path, status):
    assert web.get(f"/tile/{path}", headers={"accept": "*/*"}).status_code in {status, 404}


def test_a_board_keeps_its_key(tmp_path):
    path = tmp_path / "bulletin.key"
    assert bytes(read_key(path)) == bytes(read_key(path)) and path.stat().st_mode & 0o077 == 0
    path.write_text("not a key")
    with pytest.raises(BallotboardError, match="does not hold a board's key"):
        read_key(path)


# ---------------------------------------------------------------- tags, and other boards


def test_json_has_a_tag_and_is_not_sent_again_to_who_has_it(web):
    for path in ("/election", "/head", "/stations", "/result", "/records?from=3"):
        answer = web.get(API + path)
        again = web.get(API + path, headers={"if-none-match": f'"x", {answer.headers["etag"]}'})
        assert (again.status_code, again.content) == (304, b"") and again.headers["etag"] == answer.headers["etag"]
        assert web.get(API + path, headers={"if-none-match": '"x"'}).content == answer.content
    assert "etag" not in web.get(f"{API}/records/999").headers


def test_a_tag_changes_with_what_it_names(held, tmp_path):
    copy = replica(tmp_path, hold(until="vote"))
    before = client(copy).get(f"{API}/head").headers["etag"]
    assert client(replica(tmp_path, held, "later")).get(f"{API}/head").headers["etag"] != before


def test_the_pages_of_other_boards_may_read_the_record_and_nothing_else(web):
    for path, open_to_all in ((f"{API}/head", True), ("/checkpoint", True), ("/en/", False), ("/metrics", False)):
        assert (web.get(path).headers.get("access-control-allow-origin") == "*") == open_to_all


def test_every_head_that_the_log_had_is_told(web, held):
    for size, root in held.claims().roots:
        answer = web.get(f"{API}/heads/{size}")
        assert answer.json() == {"root": root.hex(), "size": size} and "immutable" in answer.headers["cache-control"]
    assert web.get(f"{API}/heads/{size + 1}").status_code == 404


# ---------------------------------------------------------------- events


def test_a_listener_hears_of_every_new_head_and_of_nothing_twice(held, tmp_path):
    copy = Replica(Store(f"sqlite:///{tmp_path}/live.sqlite"), held.manifest, builder.CONTRACT)
    log = events(held)
    feed(copy, log[:5])
    first, later = log[4].size, log[5:]

    async def listen() -> list[tuple[int, str]]:
        stream, heard = Feed(copy.store).events(None), []
        async for text in stream:
            fields = dict(line.split(": ", 1) for line in text.decode().strip().split("\n"))
            heard.append((int(fields["id"]), fields["event"]))
            assert json.loads(fields["data"])
            if later and heard[-1][1] == "stations" and len(heard) == 3:
                await asyncio.to_thread(append)
            if fields["id"] == str(held.claims().roots[-1][0]) and fields["event"] == "stations":
                await stream.aclose()
                return heard
        raise AssertionError

    def append() -> None:
        while later:
            event = later.pop(0)
            copy.append([event], cursor(event))

    heard = asyncio.run(asyncio.wait_for(listen(), 20))
    assert heard[:3] == [(first, name) for name in ("head", "ballots", "stations")]
    assert len(heard) == len(set(heard)) and [size for size, _ in heard] == sorted(size for size, _ in heard)


def test_who_comes_back_having_missed_nothing_hears_nothing(copy):
    async def listen() -> None:
        stream = Feed(copy.store).events(copy.head.size)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(stream), 1.0)

    asyncio.run(listen())


# ---------------------------------------------------------------- figures


def test_the_bars_over_time_add_up_to_all_ballots(web):
    found = web.get(f"{API}/timeline").json()
    times = [
        record["time"] for record in web.get(f"{API}/records?kind={int(Kind.BALLOT)}&limit=1000").json()["records"]
    ]
    assert sum(found["counts"]) == len(times) and found["start"] <= min(times) and len(found["counts"]) <= 60
    for n, count in enumerate(found["counts"]):
        start = found["start"] + n * found["step"]
        assert count == sum(start <= time < start + found["step"] for time in times)


def test_attempts_are_counted_and_nobody_is_named(web):
    found = web.get(f"{API}/attempts").json()
    assert found["ballots"] == found["valid"] + found["unchecked"] + sum(found["invalid"].values())
    assert {row["ballots"]: row["cards"] for row in found["cards"]} == {1: 5, 2: 1}  # row 0 votes twice
    assert (found["copies"], found["papers"]) == (0, 2)


def test_a_copy_and_an_invalid_ballot_are_attempts(tmp_path):
    def vote(e: Election) -> None:
        Election.vote(e)
        body = next(draft.body for draft in e.drafts if draft.kind == Kind.BALLOT)
        e.append_ballots(1300, [body, body[:-1] + bytes([body[-1] ^ 1])])

    found = client(replica(tmp_path, hold(vote=vote, until="vote"))).get(f"{API}/attempts").json()
    assert found["copies"] == 1 and found["invalid"] == {Reason.BAD_SIGNATURE.text: 1}


def test_a_region_is_the_sum_of_those_under_it(web):
    nation = web.get(f"{API}/regions/0").json()
    assert [unit["unit"] for unit in nation["regions"]] == [1, 2] and nation["above"] == []
    for name in ("cards", "voters", "stations", "reported", "papers"):
        assert nation[name] == sum(unit[name] for unit in nation["regions"])
    for contest, totals in enumerate(nation["paper"]):
        assert totals == [
            sum(column) for column in zip(*(unit["paper"][contest] for unit in nation["regions"]), strict=True)
        ]
    result = web.get(f"{API}/result").json()
    assert nation["paper"] == [[option["paper"] for option in contest["options"]] for contest in result["contests"]]
    assert web.get(f"{API}/regions/1").json()["above"] == [{"name": "N", "unit": 0}]
    assert web.get(f"{API}/regions/3").status_code == 404 and web.get("/results/3").status_code == 404


def test_nobody_fills_the_memory_by_asking_for_units_that_are_not_there(copy):
    board = Board(copy.store, Connection("http://127.0.0.1:1", "0x" + "00" * 20), None, SigningKey.generate())
    with board.moment() as now:
        board.region(now, 0)
        held = len(board._remembered)
        found = [board.region(now, unit) for unit in range(200)]
        assert sum(one is not None for one in found) == len(now.poll.units) == 3
    assert len(board._remembered) == held


def test_a_chain_of_one_process_says_that_nobody_signs(web):
    found = web.get(f"{API}/network").json()
    assert (
        found["engine"] == "anvil"
        and found["validators"] == []
        and found["blocks"][0]["size"] == web.get(f"{API}/head").json()["size"]
    )
    assert "as good as the machine" in web.get("/network").text


# ---------------------------------------------------------------- a static copy


def test_a_board_that_is_not_there_is_not_copied(tmp_path):
    with pytest.raises(BallotboardError, match="does not answer"):
        mirror(f"http://127.0.0.1:{free_port()}", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_tiles_are_named_as_others_name_them():
    paths = _tiles(256 * 1001 + 5)
    assert {
        "/tile/0/000",
        "/tile/0/999",
        "/tile/0/x001/000",
        "/tile/0/x001/001.p/5",
        "/tile/entries/x001/001.p/5",
    } <= set(paths)
    assert {"/tile/1/000", "/tile/1/003.p/233", "/tile/2/000.p/3"} <= set(paths) and "/tile/3/000" not in paths
