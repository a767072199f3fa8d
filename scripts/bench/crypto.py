"""The protocol core: ballots, sums, decryption, trees and credentials by native/, each beside the reference, and Belenios as the peer.

Ballots are timed from packed record bodies and roll rows to verdicts, every ballot distinct, so parsing, hashing, point decoding and
signatures are included. A time is the best of several; what is compared is measured in turn. What runs on one core is measured in
seconds of that core, what runs on all of them, and its baseline, by the clock on the wall.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ballotboard_native as native
from eth_utils import keccak

from protocol import ballot, credential, merkle, proofs, tally
from protocol.attachments import Roll, roll_row
from protocol.ballot import BallotContext, Reason, ciphertext_count
from protocol.encoding import u32, u40
from protocol.engine import CreateRequest
from protocol.group import base, mul, reduce, scalar_bytes, total
from protocol.manifest import Contest, Rule
from protocol.records import pack_bodies, unpack_bodies
from scripts.bench import _belenios

REFERENCE = "protocol/ (libsodium), 1 core"
NOT_INSTALLED = "belenios-tool is not installed (Debian package belenios-tool)"
PEER_ELSEWHERE = "Belenios with Ed25519, measured elsewhere on such a core"
REPEATS = 7
"""Other work on the machine only ever adds time: the best of a few is close to what the code costs."""
ALL_CORES = 0

SHAPES = {
    "one-of-2": (Contest("c", "c", Rule.ONE_OF_K, 0, tuple("ab")), 16_384),
    "one-of-5": (Contest("c", "c", Rule.ONE_OF_K, 0, tuple("abcde")), 8_192),
    "one-of-20": (Contest("c", "c", Rule.ONE_OF_K, 0, tuple(map(str, range(20)))), 2_048),
    "approval-5": (Contest("c", "c", Rule.APPROVAL, 0, tuple("abcde")), 4_096),
}
"""A contest and how many ballots: enough for some full batches, made within seconds."""
BATCHES = (1, 16, 64, 256, 1_024, 4_096)
BAD_EVERY = 1_024
PEER_BALLOTS = 300
MEMORY_BALLOTS = 65_536


def run(quick: bool) -> list[dict[str, Any]]:
    """All figures; `quick` takes a sixteenth of everything, to see that it runs."""
    part = 16 if quick else 1
    worlds = {name: World.make(contest, count // part) for name, (contest, count) in SHAPES.items()}
    rows: list[dict[str, Any]] = []
    for name, world in worlds.items():
        rows += ballots(name, world)
    rows += batches(worlds["one-of-2"]) + peer(worlds["one-of-2"], PEER_BALLOTS // part)
    rows += decryption(worlds["one-of-2"], 2_000 // part) + logarithms(200 // part)
    rows += trees(1_000_000 // part) + credentials(200_000 // part) + hashes(200_000 // part)
    rows += memory(worlds["one-of-2"], MEMORY_BALLOTS // part)
    return rows


def row(
    name: str, value: float | None, unit: str, baseline: str = "", baseline_value: float | None = None
) -> dict[str, Any]:
    """One figure; the ratio is value to baseline."""
    ratio = value / baseline_value if value and baseline_value else None
    return {
        "name": name,
        "value": value,
        "unit": unit,
        "baseline": baseline,
        "baseline_value": baseline_value,
        "ratio": ratio,
    }


@dataclass
class Time:
    """Seconds of wall clock, and of processor time of this process: what the code costs whoever else is on the machine."""

    wall: float = float("inf")
    cpu: float = float("inf")


def best(*work: Callable[[], object], repeats: int = REPEATS) -> list[Time]:
    """The shortest times of each; they take turns, so that they meet the same machine."""
    times = [Time() for _ in work]
    for _ in range(repeats):
        for found, call in zip(times, work, strict=True):
            wall, cpu = time.perf_counter(), time.process_time()
            call()
            found.wall = min(found.wall, time.perf_counter() - wall)
            found.cpu = min(found.cpu, time.process_time() - cpu)
    return times


def secret(i: int) -> int:
    return reduce(hashlib.sha512(b"voter %d" % i).digest())


@dataclass(frozen=True)
class World:
    """An election with one contest, one unit and so many valid ballots."""

    contest: Contest
    context: BallotContext
    engine: native.Election
    roll: Roll
    requests: list[CreateRequest]
    packed: bytes
    bodies: list[bytes]

    @classmethod
    def make(cls, contest: Contest, count: int) -> World:
        context = BallotContext(hashlib.sha512(b"bench").digest(), base(7), ((contest,),))
        shape = [[(contest.id, int(contest.rule), contest.k, contest.limit)]]
        engine = native.Election(context.context, context.key, shape, b"\0\0")
        roll = Roll(b"".join(roll_row(base(secret(i)), 0) for i in range(count)), [0])
        seeds = [hashlib.sha256(b"seed %d" % i).digest() for i in range(count)]
        choices = [[int(i % contest.k == option) for option in range(contest.k)] for i in range(count)]
        requests = [CreateRequest(i, 0, 0, 0, secret(i), seeds[i], [choices[i]]) for i in range(count)]
        packed = engine.create(b"".join(request.encode() for request in requests), ALL_CORES)
        return cls(contest, context, engine, roll, requests, packed, unpack_bodies(packed))

    def verify(self, packed: bytes, threads: int = 1, plain: bool = False, wrong: int = 0) -> None:
        """One call; it must find so many wrong ballots."""
        reasons = self.engine.verify(packed, self.roll.data, threads, plain)
        assert len(reasons) - reasons.count(Reason.VALID) == wrong

    def verify_by_reference(self, count: int) -> None:
        for body in self.bodies[:count]:
            assert ballot.verify(self.context, self.roll, body) == Reason.VALID

    def create(self, requests: Sequence[CreateRequest], plain: bool = False) -> None:
        self.engine.create(b"".join(request.encode() for request in requests), 1, plain)

    def create_by_reference(self, requests: Sequence[CreateRequest]) -> None:
        for r in requests:
            ballot.create(self.context, r.roll_index, r.seen, r.unit, r.style, r.secret, r.seed, r.choices)

    def sum(self) -> bytes:
        groups = bytes(4 * len(self.bodies))
        return self.engine.sums(self.packed, self.roll.data, self.contest.id, groups, 1)

    def sum_by_reference(self, bodies: Sequence[bytes]) -> bytes:
        blocks = [ballot.parse((self.contest,), body).blocks[0] for body in bodies]
        columns = range(ciphertext_count(self.contest))
        return b"".join(
            total([b.ciphertexts[i].a for b in blocks]) + total([b.ciphertexts[i].b for b in blocks]) for i in columns
        )


# ---------------------------------------------------------------- ballots


def ballots(name: str, world: World) -> list[dict[str, Any]]:
    """Verification on one core and on all, with and without AVX-512 IFMA, size, creation, sums."""
    count, few = len(world.bodies), 20
    one, every, plain, reference = best(
        lambda: world.verify(world.packed),
        lambda: world.verify(world.packed, ALL_CORES),
        lambda: world.verify(world.packed, 1, plain=True),
        lambda: world.verify_by_reference(few),
    )
    some = world.requests[:1_000]
    create, create_plain, create_reference = best(
        lambda: world.create(some),
        lambda: world.create(some, plain=True),
        lambda: world.create_by_reference(some[:few]),
        repeats=3,
    )
    sums, sums_reference = best(world.sum, lambda: world.sum_by_reference(world.bodies[:100]), repeats=3)
    assert world.sum() == world.sum_by_reference(world.bodies)
    n = ciphertext_count(world.contest)
    rate, size = _belenios.ELSEWHERE.get(name, (None, None))
    elsewhere = [row(f"verify.{name}.peer-ed25519", count / one.cpu, "ballots/s", PEER_ELSEWHERE, rate)] if rate else []
    return [
        *elsewhere,
        row(f"verify.{name}.1core", count / one.cpu, "ballots/s", REFERENCE, few / reference.cpu),
        row(f"verify.{name}.all", count / every.wall, "ballots/s", "1 core", count / one.wall),
        row(
            f"verify.{name}.plain", count / plain.cpu, "ballots/s without IFMA, 1 core", REFERENCE, few / reference.cpu
        ),
        row(f"bytes.{name}", len(world.bodies[0]), "bytes", PEER_ELSEWHERE if size else "", size),
        row(f"create.{name}", len(some) / create.cpu, "ballots/s", REFERENCE, few / create_reference.cpu),
        row(
            f"create.{name}.plain",
            len(some) / create_plain.cpu,
            "ballots/s without IFMA",
            REFERENCE,
            few / create_reference.cpu,
        ),
        row(f"sums.{name}", n * count / sums.cpu, "ciphertexts/s", REFERENCE, n * 100 / sums_reference.cpu),
    ]


def batches(world: World) -> list[dict[str, Any]]:
    """What the number of ballots in a call does, and what wrong ones among them do."""
    record = len(world.bodies[0]) + 2
    rows = []
    for size in BATCHES:
        repeat = max(1, min(1_024, len(world.bodies)) // size)
        calls = [world.packed[i * size * record : (i + 1) * size * record] for i in range(repeat)]
        together, apart = best(lambda: world.verify(world.packed), lambda c=calls: [world.verify(p) for p in c])  # type: ignore[misc, func-returns-value]
        rate = repeat * min(size, len(world.bodies)) / apart.cpu
        rows.append(
            row(f"verify.one-of-2.batch-{size}", rate, "ballots/s", "all in a call", len(world.bodies) / together.cpu)
        )
    wrong = bytearray(world.packed)
    places = range(BAD_EVERY // 3, len(world.bodies), BAD_EVERY)
    for i in places:
        wrong[(i + 1) * record - 20] ^= 1  # in the response of the signature
    good, bad = best(lambda: world.verify(world.packed), lambda: world.verify(bytes(wrong), wrong=len(places)))
    count = len(world.bodies)
    rows.append(row("verify.one-of-2.one-bad-in-1024", count / bad.cpu, "ballots/s", "none bad", count / good.cpu))
    return rows


def peer(world: World, count: int) -> list[dict[str, Any]]:
    """Yes/no ballots of another system, on one core of this machine."""
    found = _belenios.measure(count)
    if found is None:
        return [
            row("verify.one-of-2.peer", None, "ballots/s", NOT_INSTALLED),
            row("bytes.one-of-2.peer", None, "bytes", NOT_INSTALLED),
        ]
    (one,) = best(lambda: world.verify(world.packed))
    return [
        row("verify.one-of-2.peer", len(world.bodies) / one.cpu, "ballots/s", found.name, found.rate),
        row("bytes.one-of-2.peer", len(world.bodies[0]), "bytes", found.name, found.ballot_bytes),
    ]


# ---------------------------------------------------------------- decryption


def decryption(world: World, count: int) -> list[dict[str, Any]]:
    """A trustee's partial decryptions with proofs, and their check, over the A of so many ballots as if each were a sum."""
    x, few = secret(0), 50
    points = [body[13:45] for body in world.bodies[:count]]
    statements = [b"statement %d" % i for i in range(count)]
    packed, joined = pack_bodies(statements), b"".join(points)
    answer = native.dleq_prove_many("partial", packed, scalar_bytes(x), joined)
    images = b"".join(answer[i : i + 32] for i in range(0, len(answer), 128))
    made = b"".join(answer[i + 32 : i + 128] for i in range(0, len(answer), 128))

    def check() -> None:
        assert native.dleq_verify_many("partial", packed, base(x), joined, images, made) == b"\1" * count

    def prove_by_reference() -> None:
        for i in range(few):
            mul(x, points[i])
            proofs.prove_equality("partial", statements[i], x, points[i])

    def check_by_reference() -> None:
        for i in range(few):
            image, proof = images[32 * i : 32 * i + 32], made[96 * i : 96 * i + 96]
            assert proofs.verify_equality("partial", statements[i], base(x), points[i], image, proof)

    prove, prove_reference, verify, verify_reference = best(
        lambda: native.dleq_prove_many("partial", packed, scalar_bytes(x), joined),
        prove_by_reference,
        check,
        check_by_reference,
        repeats=3,
    )
    return [
        row("decrypt.prove", count / prove.cpu, "partial decryptions/s", REFERENCE, few / prove_reference.cpu),
        row("decrypt.verify", count / verify.cpu, "partial decryptions/s", REFERENCE, few / verify_reference.cpu),
    ]


def logarithms(count: int) -> list[dict[str, Any]]:
    """Totals up to a million, many in a call, and one total up to a billion."""
    maximum, few = 1_000_000, 4
    numbers = [i * maximum // count for i in range(count)]
    points = [base(m) for m in numbers]
    assert native.discrete_logs(b"".join(points), maximum) == numbers
    many, reference, billion = best(
        lambda: native.discrete_logs(b"".join(points), maximum),
        lambda: tally.discrete_logs(points[:: max(1, count // few)][:few], maximum),
        lambda: native.discrete_logs(base(999_999_999), 1_000_000_000),
        repeats=3,
    )
    return [
        row("logarithms.to_1000000", count / many.cpu, "totals/s", REFERENCE, few / reference.cpu),
        row("logarithms.to_1000000000_s", billion.cpu, "s"),
    ]


# ---------------------------------------------------------------- trees, credentials, hashes


def trees(count: int) -> list[dict[str, Any]]:
    """From entries of 40 bytes to the root."""
    few = min(count, 20_000)
    entries = [b"\x04" + u40(i) + bytes(34) for i in range(count)]
    joined = b"".join(entries)
    assert native.merkle_root(native.leaf_hashes(joined[: 40 * few])) == merkle.root(
        map(merkle.leaf_hash, entries[:few])
    )
    ours, reference = best(
        lambda: native.merkle_root(native.leaf_hashes(joined)),
        lambda: merkle.root(map(merkle.leaf_hash, entries[:few])),
        repeats=3,
    )
    return [row("merkle.leaves", count / ours.cpu, "leaves/s", REFERENCE, few / reference.cpu)]


def credentials(count: int) -> list[dict[str, Any]]:
    """Public keys from printed codes, on all cores."""
    few, nonce = 500, bytes(32)
    codes = [hashlib.sha256(b"%d" % i).digest()[:16] for i in range(count)]
    joined = b"".join(codes)
    ours, reference = best(
        lambda: native.credentials(joined, nonce, 0, ALL_CORES),
        lambda: [base(credential.secret_key(code, nonce, i)) for i, code in enumerate(codes[:few])],
        repeats=3,
    )
    return [row("credentials.keys", count / ours.wall, "keys/s, all cores", REFERENCE, few / reference.wall)]


def hashes(count: int) -> list[dict[str, Any]]:
    """SHA-256 of short strings (lines of a register) and Keccak-256 of transactions of 400 bytes, on one core."""
    lines = [b"%09d|SURNAME" % i for i in range(count)]
    transactions = [line.ljust(400, b".") for line in lines[: max(1, count // 10)]]
    packed, packed_transactions = pack_bodies(lines), b"".join(u32(len(t)) + t for t in transactions)
    sha, sha_reference, ours, reference = best(
        lambda: native.sha256_many(packed),
        lambda: [hashlib.sha256(line).digest() for line in lines],
        lambda: native.keccak256_many(packed_transactions),
        lambda: [keccak(t) for t in transactions[:1_000]],
        repeats=3,
    )
    few = min(1_000, len(transactions))
    return [
        row("credentials.hashes", count / sha.cpu, "hashes/s", "hashlib, 1 core", count / sha_reference.cpu),
        row(
            "hashes.keccak",
            len(transactions) / ours.cpu,
            "hashes/s of 400 bytes",
            "eth_utils, 1 core",
            few / reference.cpu,
        ),
    ]


# ---------------------------------------------------------------- memory

MEMORY_PROBE = """
import json, mmap, sys
import ballotboard_native as native
folder, key, context = sys.argv[1], bytes.fromhex(sys.argv[2]), bytes.fromhex(sys.argv[3])
engine = native.Election(context, key, [[("c", 1, 2, 0)]], bytes(2))
peak = lambda: int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) / 1024  # getrusage counts the parent too
before = peak()
with open(f"{folder}/bodies", "rb") as bodies, open(f"{folder}/roll", "rb") as roll:
    bodies = mmap.mmap(bodies.fileno(), 0, access=mmap.ACCESS_READ)
    reasons = engine.verify(bodies, roll.read(), 0)
print(json.dumps([peak() - before, reasons.count(0)]))
"""


def memory(world: World, count: int) -> list[dict[str, Any]]:
    """How far the memory of a process rises that verifies a mapped file of ballots on all cores in one call."""
    folder = Path("build/bench/memory")
    folder.mkdir(parents=True, exist_ok=True)
    times = -(-count // len(world.bodies))
    (folder / "bodies").write_bytes(world.packed * times)
    (folder / "roll").write_bytes(world.roll.data)
    arguments = [str(folder), world.context.key.hex(), world.context.context.hex()]
    probe = subprocess.run([sys.executable, "-c", MEMORY_PROBE, *arguments], capture_output=True, text=True, check=True)
    used, valid = json.loads(probe.stdout)
    assert valid == times * len(world.bodies)
    megabytes = len(world.packed) * times / 2**20
    return [row("memory.verify_mb", used, "MiB above the start", f"{valid} mapped ballots", megabytes)]
