"""Archives: the report is the node's, the bytes are the log's, and what is no archive is refused quickly, in little memory, with one reason."""

from __future__ import annotations

import hashlib
import io
import json
import struct
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from chain.errors import NodeContradiction
from protocol.errors import BallotboardError
from protocol.records import Kind
from tests.tamper.builder import MemorySource
from tests.tamper.recipes import RECIPES, honest
from tests.verifier.archives import RELEASES, archive_of, batches, findings, this_version
from verifier import archive
from verifier.archive import BLOCK, MAGIC, ArchiveFile, ArchiveWriter, BadArchive
from verifier.archive_cli import app
from verifier.case import Case
from verifier.claims import Claims
from verifier.cli import app as verify_app
from verifier.run import verify_config, verify_tally
from verifier.stored import ArchiveSource, Recorder


@cache
def whole() -> bytes:
    return archive_of(honest().claims())


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "election.archive"
    path.write_bytes(whole())
    return path


def same(report: Any) -> dict[str, Any]:
    return {name: value for name, value in report.json().items() if name != "seconds"}


def read(path: Path, data: bytes) -> Claims:
    path.write_bytes(data)
    return ArchiveSource(path).read()


# ---------------------------------------------------------------- what it holds


def test_the_records_come_back_as_they_were(file: Path) -> None:
    claims, found = honest().claims(), ArchiveSource(file).read()
    assert list(found.records) == [found.records[i] for i in range(len(found.records))] == list(claims.records)
    assert list(found.records[3:20:5]) == list(claims.records)[3:20:5]
    assert (found.creation, found.runtime_code, list(found.roots)) == (
        claims.creation,
        claims.runtime_code,
        claims.roots,
    )
    assert (found.chain_id, found.contract, found.head) == (claims.chain_id, claims.contract, claims.head)
    assert dict(found.attachments) == dict(claims.attachments)
    assert [found.blocks[i] for i in (0, -1)] == [(0, bytes(32)), (found.blocks[-1][0], found.blocks[-1][1])]


def test_the_report_is_the_one_of_the_record_that_it_was_made_of(file: Path) -> None:
    id = honest().manifest.election_id
    assert same(verify_tally(ArchiveSource(file), id)) == same(verify_tally(honest().source(), id))
    assert same(verify_config(ArchiveSource(file), id)) == same(verify_config(honest().source(), id))


READABLE = [
    recipe
    for recipe in RECIPES
    if not recipe.fails & {"C01", "C02", "C03", "I02"} and not recipe.title.startswith("a node that")
]
"""What a reader of the chain can be shown: it hashes bodies and files, and counts positions, by itself."""


@pytest.mark.slow
@pytest.mark.parametrize("recipe", READABLE[::30], ids=lambda recipe: recipe.title)
def test_a_dishonest_election_has_the_same_report_from_an_archive(recipe: Any, tmp_path: Path) -> None:
    tampered = recipe.make()
    path = tmp_path / "election.archive"
    path.write_bytes(archive_of(tampered.claims))
    verify = verify_config if tampered.run == "config" else verify_tally
    more = {} if tampered.run == "config" else {"promises": tampered.promises}
    found = verify(ArchiveSource(path), tampered.election_id, **more)
    assert same(found) == same(verify(MemorySource(tampered.claims), tampered.election_id, **more))


def test_the_same_log_gives_the_same_bytes(file: Path) -> None:
    assert archive_of(ArchiveSource(file).read()) == whole()


def test_the_record_digest_does_not_depend_on_the_evidence(tmp_path: Path) -> None:
    path, claims = tmp_path / "a", honest().claims()
    digests = []
    for evidence in (b"", b"{}", b"{ }" * 1000):
        found = ArchiveSource(path)
        path.write_bytes(archive_of(replace(claims, evidence=evidence)))
        assert found.read().evidence == evidence
        digests.append(found.record_digest)
    assert len(set(digests)) == 1


def test_files_that_no_record_names_are_left_out(tmp_path: Path) -> None:
    junk = {hashlib.sha256(b"junk").digest(): b"junk"}
    claims = honest().claims()
    assert archive_of(replace(claims, attachments={**claims.attachments, **junk})) == whole()


def test_items_are_longer_than_blocks(tmp_path: Path) -> None:
    path, out = tmp_path / "a", io.BytesIO()
    writer = ArchiveWriter(out, 1, bytes(20))
    writer.contract(bytes(range(256)) * 9000, b"code")
    data = hashlib.shake_256(b"").digest(3 * BLOCK + 7)
    writer.block(1, bytes(32), 1)
    writer.record(0, 1, 2, bytes(32), b"", b"manifest")
    writer.file(hashlib.sha256(data).digest(), data)
    writer.finish(1, bytes(32))
    claims = read(path, out.getvalue())
    assert claims.creation == bytes(range(256)) * 9000
    assert list(claims.attachments.values()) == [data]


def test_bodies_that_holders_keep_stand_beside_their_hashes(tmp_path: Path) -> None:
    path = tmp_path / "a"
    records = list(honest().claims().records)
    first = next(r for r in records if r.kind == Kind.BALLOT)
    run = [r for r in records if r.kind == Kind.BALLOT and r.entry.time == first.entry.time]
    for bodies in ([r.body for r in run], [None, *(r.body for r in run[1:])], [None] * len(run)):
        out = io.BytesIO()
        recorder = Recorder(out, 1, bytes(20), b"c", b"k")
        kept = [replace(r, body=body) for r, body in zip(run, bodies, strict=True)]
        batch = replace(batches(honest().claims())[0], first=0, records=kept)
        recorder.batch(batch)
        recorder.finish(honest().claims().head, {}, b"")
        claims = read(path, out.getvalue())
        assert [r.body for r in claims.records] == bodies
        assert [r.entry for r in claims.records] == [r.entry for r in run]
        assert len(Case(claims).log.ballots.missing) == bodies.count(None)


@pytest.mark.parametrize("change", ["no records", "time", "role", "number", "a signed ballot"])
def test_what_no_board_emits_is_a_contradiction_of_the_node(change: str) -> None:
    recorder = Recorder(io.BytesIO(), 1, bytes(20), b"c", b"k")
    batch = next(b for b in batches(honest().claims()) if b.records[0].kind == Kind.BALLOT)
    first = batch.records[0]
    wrong = {
        "time": replace(first, entry=replace(first.entry, time=2**40)),
        "role": replace(first, entry=replace(first.entry, role=2**16)),
        "number": replace(first, number=2**64),
        "a signed ballot": replace(first, signatures=bytes(65)),
    }
    recorder.batch(batch)
    with pytest.raises(NodeContradiction, match="use another node"):
        recorder.batch(replace(batch, block_number=10**6, records=[wrong[change]] if change in wrong else []))


# ---------------------------------------------------------------- what is no archive


@pytest.mark.parametrize("cut", [0, 1, len(MAGIC), len(MAGIC) + 2, 100, -1, -64, -65, -68, -70])
def test_one_that_was_cut_short_is_refused(tmp_path: Path, cut: int) -> None:
    with pytest.raises(BadArchive, match=r"cut short|does not begin"):
        read(tmp_path / "a", whole()[:cut])


def test_one_that_goes_on_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadArchive, match="goes on after its end"):
        read(tmp_path / "a", whole() + b"\0")


def framed(content: bytes, size: int | None = None, length: int | None = None) -> bytes:
    frame = zstandard.ZstdCompressor().compress(content)
    return struct.pack(">II", len(frame) if size is None else size, len(content) if length is None else length) + frame


def item(type: bytes, payload: bytes, length: int | None = None) -> bytes:
    return type + struct.pack(">I", len(payload) if length is None else length) + payload


def closed(*contents: bytes) -> bytes:
    """An archive of these blocks with the digests that they have."""
    digest = hashlib.sha256(b"".join(hashlib.sha256(content).digest() for content in contents)).digest()
    return MAGIC + b"".join(framed(content) for content in contents) + bytes(4) + digest + digest


BOARD = item(b"A", b'{"chain":1,"contract":"' + b"00" * 20 + b'","format":"ballotboard/archive/v1"}')
START = BOARD + item(b"C", b"") + item(b"K", b"")
IN_BLOCK = item(b"B", bytes(45))
A_RECORD = item(b"R", bytes(45) + b"{}")
END = item(b"E", bytes(40))

HOSTILE: dict[str, Callable[[], bytes]] = {
    "a bomb that says what it is": lambda: MAGIC + framed(bytes(2**27)),
    "a bomb that says it is small": lambda: MAGIC + framed(bytes(2**27), length=BLOCK),
    "a frame without its size": lambda: MAGIC
    + struct.pack(">II", 20, 5)
    + zstandard.ZstdCompressor(write_content_size=False).compress(b"hello").ljust(20, b"\0"),
    "a frame of four gigabytes": lambda: MAGIC + struct.pack(">II", 2**32 - 1, BLOCK),
    "a block without content": lambda: MAGIC + framed(b""),
    "junk for a frame": lambda: MAGIC + struct.pack(">II", 30, 30) + b"x" * 30,
    "two frames in a block": lambda: MAGIC + struct.pack(">II", 30, 5) + 2 * zstandard.ZstdCompressor().compress(b"hello"),
    "an item of four gigabytes": lambda: closed(START + item(b"B", b"", 2**32 - 1)),
    "a first item that is too long": lambda: closed(item(b"A", b"[" * 2000)),
    "nested deeply": lambda: closed(item(b"A", b"[" * 900)),
    "another format": lambda: closed(BOARD.replace(b"v1", b"v2") + item(b"C", b"") + item(b"K", b"") + END),
    "no items": lambda: MAGIC + bytes(4) + 2 * hashlib.sha256(b"").digest(),
    "no end": lambda: closed(START),
    "items in another order": lambda: closed(BOARD + item(b"K", b"") + item(b"C", b"") + END),
    "a record outside of a block": lambda: closed(START + A_RECORD + END),
    "a block without records": lambda: closed(START + IN_BLOCK + END),
    "blocks that do not ascend": lambda: closed(START + IN_BLOCK + A_RECORD + IN_BLOCK + A_RECORD + END),
    "a record that is cut": lambda: closed(START + IN_BLOCK + item(b"R", bytes(44)) + END),
    "a record with more signatures than bytes": lambda: closed(START + IN_BLOCK + item(b"R", bytes(43) + b"\xff\xff") + END),
    "a ballot alone": lambda: closed(START + IN_BLOCK + item(b"R", b"\x04" + bytes(44)) + END),
    "a batch without ballots": lambda: closed(START + IN_BLOCK + item(b"V", bytes(46)) + END),
    "four billion ballots in a few bytes": lambda: closed(START + IN_BLOCK + item(b"V", bytes(42) + b"\xff" * 4) + END),
    "a batch that is cut": lambda: closed(START + IN_BLOCK + item(b"V", bytes(45) + b"\x01\xff\xff") + END),
    "hashes that are cut": lambda: closed(START + IN_BLOCK + item(b"H", bytes(45) + b"\x01" + bytes(31)) + END),
    "bodies without hashes": lambda: closed(START + IN_BLOCK + A_RECORD + item(b"D", b"\0\0") + END),
    "a body of another hash": lambda: closed(START + IN_BLOCK + item(b"H", bytes(45) + b"\x01" + bytes(32)) + item(b"D", b"\0\x01x") + END),
    "bodies for half of the hashes": lambda: closed(START + IN_BLOCK + item(b"H", bytes(45) + b"\x02" + bytes(64)) + item(b"D", b"\0\0") + END),
    "a file that is not whole": lambda: closed(START + item(b"F", bytes(39) + b"\x05") + item(b"P", b"1234") + END),
    "a file of another hash": lambda: closed(START + item(b"F", bytes(39) + b"\x04") + item(b"P", b"1234") + END),
    "a file of many exabytes": lambda: closed(START + item(b"F", bytes(32) + b"\xff" * 8) + item(b"P", b"1234") + END),
    "a head that is cut": lambda: closed(START + item(b"E", bytes(39))),
    "something after the end": lambda: closed(START + END + END),
    "a block that is too short": lambda: closed(BOARD, item(b"C", b"") + item(b"K", b"") + END),
    "an item that the last block cuts": lambda: closed(START + b"E\0\0"),
    "two blocks of evidence": lambda: closed(START + END, item(b"S", b"{}"), item(b"S", b"{}")),
    "other digests": lambda: closed(START + END)[:-1] + b"\0",
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_one_is_refused_in_little_memory_with_one_reason(name: str, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(HOSTILE[name]())
    tracemalloc.start()
    try:
        with pytest.raises(BadArchive) as refused:
            ArchiveSource(path).read()
        assert tracemalloc.get_traced_memory()[1] < 16 * BLOCK
    finally:
        tracemalloc.stop()
    assert "\n" not in str(refused.value) and str(path) in str(refused.value)


def test_the_smallest_archive_is_one(tmp_path: Path) -> None:
    assert len(read(tmp_path / "a", closed(START + END)).records) == 0


def blocks_of(data: bytes) -> list[bytes]:
    found, at = [], len(MAGIC)
    while size := int.from_bytes(data[at : at + 4], "big"):
        found.append(data[at : at + 8 + size])
        at += 8 + size
    return found


def test_blocks_in_another_order_are_refused(tmp_path: Path) -> None:
    out = io.BytesIO()
    writer = ArchiveWriter(out, 1, bytes(20))
    writer.contract(hashlib.shake_256(b"").digest(3 * BLOCK), b"")
    writer.finish(0, bytes(32))
    blocks = blocks_of(out.getvalue())
    assert len(blocks) == 4
    for a, b in ((1, 2), (0, 1)):
        other = blocks.copy()
        other[a], other[b] = other[b], other[a]
        with pytest.raises(BadArchive):
            read(tmp_path / "a", MAGIC + b"".join(other) + out.getvalue()[-68:])


def test_one_that_is_exchanged_while_it_is_read_is_noticed(file: Path) -> None:
    claims = ArchiveSource(file, memory=4).read()  # too little to keep a block
    ballot = next(i for i, r in enumerate(honest().claims().records) if r.kind == Kind.BALLOT)
    changed = bytearray(whole())
    content = zstandard.ZstdDecompressor().decompress(blocks_of(whole())[0][8:])
    at = content.index(honest().claims().records[ballot].body or b"")
    content = content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
    frame = zstandard.ZstdCompressor(level=archive.LEVEL).compress(content)
    changed[len(MAGIC) + 8 : len(MAGIC) + 8 + len(frame)] = frame
    file.write_bytes(changed)
    with pytest.raises(BadArchive):
        claims.records[ballot]


def refused_or_the_same(path: Path, data: bytes) -> None:
    """Whatever was done to the file: it is refused, or it claims just what it claimed."""
    path.write_bytes(data)
    try:
        claims = ArchiveSource(path).read()
    except BadArchive:
        return
    assert list(claims.records) == list(honest().claims().records)
    assert dict(claims.attachments) == dict(honest().claims().attachments)


changes = st.lists(
    st.tuples(st.integers(0, 2**20), st.binary(min_size=0, max_size=9), st.integers(0, 9)), min_size=1, max_size=4
)


def fuzz(changed: list[tuple[int, bytes, int]], data: bytes) -> bytes:
    for place, new, dropped in changed:
        at = place % len(data)
        data = data[:at] + new + data[at + dropped :]
    return data


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(changes)
def test_bytes_changed_at_random_are_noticed(tmp_path: Path, changed: list[tuple[int, bytes, int]]) -> None:
    refused_or_the_same(tmp_path / "a", fuzz(changed, whole()))


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(changes)
def test_contents_changed_at_random_and_sealed_again_never_break_the_reader(
    tmp_path: Path, changed: list[tuple[int, bytes, int]]
) -> None:
    content = b"".join(zstandard.ZstdDecompressor().decompress(block[8:]) for block in blocks_of(whole()))
    read_or_refused(tmp_path / "a", closed(fuzz(changed, content)))


def read_or_refused(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    try:
        case = Case(ArchiveSource(path).read())
    except BadArchive:
        return
    assert len(list(case.claims.records)) == case.log.size
    assert case.roots([case.log.size])


@pytest.mark.soak
@settings(max_examples=20_000, deadline=None, suppress_health_check=list(HealthCheck))
@given(changes)
def test_long_fuzzing(tmp_path: Path, changed: list[tuple[int, bytes, int]]) -> None:
    refused_or_the_same(tmp_path / "a", fuzz(changed, whole()))
    content = b"".join(zstandard.ZstdDecompressor().decompress(block[8:]) for block in blocks_of(whole()))
    read_or_refused(tmp_path / "a", closed(fuzz(changed, content)))


# ---------------------------------------------------------------- the commands


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments))


def test_an_archive_is_checked_and_described(file: Path) -> None:
    found = json.loads(run("check", str(file), "--json").stdout)
    assert found["ok"] and found["records"] == len(honest().drafts) and found["ballots"] == 7
    assert found["election"] == honest().manifest.election_id.hex()
    assert found["record"] == whole()[-64:-32].hex()
    assert "whole and unchanged" in run("check", str(file)).stdout


def test_one_whose_roots_are_not_those_of_its_records_does_not_verify(file: Path) -> None:
    claims = honest().claims()
    roots = [(size, bytes(32)) if size == 12 else (size, root) for size, root in claims.roots]
    file.write_bytes(archive_of(replace(claims, roots=roots)))
    found = run("check", str(file))
    assert found.exit_code == 1 and "DOES NOT VERIFY: I02" in found.stdout


def test_what_is_no_archive_cannot_be_verified(file: Path) -> None:
    file.write_bytes(whole()[:-1])
    for command in (["check", str(file)], ["extract", str(file), str(file.parent / "out")]):
        assert isinstance(run(*command).exception, BadArchive)
    assert isinstance(CliRunner().invoke(verify_app, ["tally", str(file)]).exception, BadArchive)


def test_a_file_that_is_not_there_cannot_be_read(tmp_path: Path) -> None:
    assert isinstance(run("check", str(tmp_path / "none")).exception, BallotboardError)


def test_it_is_verified_on_the_command_line(file: Path) -> None:
    found = CliRunner().invoke(verify_app, ["tally", str(file), "--election", honest().manifest.election_id.hex()])
    assert found.exit_code == 0 and "VERIFIED" in found.stdout
    both = CliRunner().invoke(verify_app, ["tally", str(file), "--rpc", "http://127.0.0.1:1"])
    assert "not both" in str(both.exception)


def test_it_is_taken_apart_into_plain_files(file: Path) -> None:
    out = file.parent / "out"
    assert run("extract", str(file), str(out)).exit_code == 0
    records = [json.loads(line) for line in (out / "records.jsonl").read_text().splitlines()]
    assert [bytes.fromhex(value["body"]) for value in records] == [r.body for r in honest().claims().records]
    assert {path.name for path in (out / "files").iterdir()} == {name.hex() for name in honest().files}
    assert isinstance(run("extract", str(file), str(out)).exception, BallotboardError)


@pytest.mark.parametrize("path", sorted(RELEASES.glob("*.archive")), ids=lambda path: path.name)
def test_an_archive_of_every_released_version_is_still_verified(path: Path) -> None:
    """With the same totals, state and report: where a report's words are changed on purpose, docs/verifying.md says what to do."""
    expected = json.loads(path.with_suffix(".json").read_text())
    assert findings(path, expected["election"]) == expected


def test_there_is_one_of_this_version() -> None:
    assert (RELEASES / f"{this_version()}.archive").exists()


def test_the_index_reads_any_part_again(file: Path) -> None:
    stored = ArchiveFile(file)
    items = list(stored.items())
    for found in items:
        if found.type != archive.EVIDENCE and found.payload:
            assert stored.read(found.offset, len(found.payload)) == found.payload
