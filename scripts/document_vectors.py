"""Vectors of every record body and document: one that is right, and for each parsing rule one that is wrong in just that way.

Part of `python -m scripts.vectors`. A wrong one carries the field and the byte offset (−1 where there is none) that our parsers name; another
implementation has to refuse it, in whatever words.
"""

from __future__ import annotations

import copy
import hashlib
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from nacl.signing import SigningKey

from protocol import ceremony, group, merkle, paper, receipt, records, tally
from protocol.attachments import Station, Unit, describe, parse_stations, parse_units, unpack
from protocol.counting import CountedRow, Status
from protocol.encoding import canonical_json, parse_json
from protocol.errors import Malformed
from protocol.manifest import Manifest
from protocol.records import Entry, Kind, LogHead

UNITS = [Unit("nation", "Freedonia", -1, -1), Unit("town", "A", 0, 0), Unit("town", "B", 0, 1)]
STATION = Station(0, 1, (b"\x0a" * 20, b"\x0b" * 20), "School")
RELAYER = SigningKey(b"\x07" * 32)
ROLES = ["authority", "registrar", "cosigner", "trustee", "trustee", "relayer", "verifier"]
MANIFEST = Manifest.build(
    {
        "format": "ballotboard/manifest/v1", "name": "Test", "practice": False, "language": "en",
        "chain": {"id": 31337, "engine": "anvil", "code_hash": "aa" * 32, "validators": []},
        "contests": [
            {"id": "mayor", "title": "Mayor", "rule": "one-of-k", "limit": 0, "options": ["Ann", "Bob", "blank"]},
            {"id": "council", "title": "Council", "rule": "up-to-L", "limit": 2, "options": ["p", "q", "r"]},
        ],
        "styles": [[0], [0, 1]],
        "units": describe([unit.row() for unit in UNITS]).value(),
        "stations": describe([STATION.row()]).value(),
        "roles": [
            {"kind": kind, "name": kind, "address": f"{i + 1:040x}", "key": RELAYER.verify_key.encode().hex() if kind == "relayer" else ""}
            for i, kind in enumerate(ROLES)
        ],
        "thresholds": {"trustees": 2, "verifiers": 1, "data_holders": 0},
        "windows": {
            "open_not_before": 100, "close": 200, "close_not_after": 300, "append_grace": 10, "count_not_before": 200,
            "reveal_not_before": 300, "settle_not_before": 310, "decrypt_not_before": 320,
        },
        "rules": {"revote": "last", "channel": "paper-precedence", "minimum_ballots": 5, "decrypt_level": 0, "body_mode": "calldata"},
    }
)  # fmt: skip


def _digest(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


def _receipt() -> bytes:
    body = b"\x01" + bytes(12) + b"rest of a ballot"
    entry = Entry(Kind.BALLOT, 150, 5, hashlib.sha256(body).digest())
    leaves = [merkle.leaf_hash(bytes([i])) for i in range(6)]
    leaves[3] = entry.leaf()
    proof = tuple(merkle.inclusion_proof(leaves, 3))
    head = LogHead(6, merkle.root(leaves))
    return receipt.Receipt(
        body, 31337, b"\x0e" * 20, MANIFEST.election_id, 12, _digest("block"), entry, head, 3, proof, None
    ).body()


HEAD = LogHead(5, _digest("root"))
PARTIAL = {
    "format": tally.FORMAT, "part": 0, "parts": 1, "settlement": _digest("settlement").hex(), "trustee": 1,
    "shares": [{"contest": 0, "group": 0, "values": [{"d": group.base(3).hex(), "proof": "11" * 96}, {"d": "00" * 32, "proof": ""}]},
               {"contest": 1, "group": 0, "values": []}],
}  # fmt: skip
CEREMONY = {
    "format": ceremony.FORMAT, "attempt": 0, "round": 1, "trustee": 1, "commitment": "11" * 32, "encryption_key": group.base(5).hex(), "proof": "11" * 64,
}  # fmt: skip
RESULT = paper.StationResult(
    station=0, revision=1, practice=False, reason="", issued=10, counted=8, spoiled=1, unreturned=1,
    contests=(paper.ContestCount(0, (4, 2, 1), 0, 1),), opening=_digest("opening"), closing=_digest("closing"), salt=_digest("salt"),
)  # fmt: skip
PROMISE = receipt.sign_statement(receipt.Promise(_digest("ballot"), 200, b"\x0e" * 20, 31337, HEAD, 5), RELAYER)
REFUSAL = receipt.sign_statement(receipt.Refusal(_digest("ballot"), b"\x0e" * 20, 31337, "bad-proof", 5, 150), RELAYER)

JSON: dict[str, tuple[Callable[[bytes], Any], bytes]] = {
    "manifest": (Manifest.parse, MANIFEST.body),
    "unit": (lambda body: parse_units([body], 1), Unit("town", "A", -1, 0).row()),
    "ceremony": (ceremony.read_message, canonical_json(CEREMONY)),
    "roll": (records.RollRecord.parse, records.RollRecord(3, *map(_digest, "abcd")).body()),
    "roll-change": (records.RollChange.parse, records.RollChange(group.BASE, "lost", 3, 1).body()),
    "partial": (tally.parse_partial, canonical_json(PARTIAL)),
    "station-result": (paper.StationResult.parse, RESULT.body()),
    "complaint": (
        lambda body: records.Statement.parse(body, Kind.COMPLAINT),
        records.Statement("ballotboard/complaint/v1", "late", 7, "why").body(),
    ),
    "decision": (
        lambda body: records.Statement.parse(body, Kind.DECISION),
        records.Statement("ballotboard/decision/v1", "conflict", 7, "why").body(),
    ),
    "promise": (lambda body: receipt.check_statement(parse_json(body), MANIFEST), canonical_json(PROMISE)),
    "refusal": (lambda body: receipt.check_statement(parse_json(body), MANIFEST), canonical_json(REFUSAL)),
    "receipt": (receipt.Receipt.parse, _receipt()),
}
"""Name → parser, and a body that it takes. A ceremony message is read here as far as its round; the rest needs the other rounds."""

BINARY: dict[str, tuple[Callable[[bytes], Any], bytes]] = {
    "entry": (Entry.parse, Entry(Kind.BALLOT, 150, 5, _digest("body")).encode()),
    "head": (LogHead.parse, HEAD.body()),
    "settlement": (lambda body: records.Settlement.parse(body, False), HEAD.body()),
    "settlement with bitmap": (lambda body: records.Settlement.parse(body, True), HEAD.body() + _digest("bitmap")),
    "station": (lambda body: parse_stations([body], UNITS), STATION.row()),
    "check-in": (records.CheckIns.parse, records.CheckIns(1, 2, ((5, 100), (6, 101))).body()),
    "station-hash": (records.StationHash.parse, records.StationHash(1, 1, _digest("document")).body()),
    "extension": (records.Extension.parse, records.Extension(500, "é").body()),
    "report": (records.Report.parse, records.Report(True, *map(_digest, "abc")).body()),
    "report commitment": (records.Report.parse, records.Report(True, *map(_digest, "abc")).commitment()),
    "counted-row": (CountedRow.parse, CountedRow(9, 4, Status.SUPERSEDED, 12).encode()),
    "rows": (lambda body: unpack(body, "rows"), b"\x00\x01a\x00\x00"),
    "receipt-code": (
        lambda body: receipt.CompactReceipt.read_code(body.decode(errors="replace")),
        receipt.Receipt.parse(_receipt()).compact().code().encode(),
    ),
}

ANY_LENGTH = {"extension", "station"}
"""They end in text, so one byte more or less may be another valid one."""

SPECIAL: list[tuple[str, str, list[str | int], Any]] = [
    # parser, what is wrong, path, the value put there
    ("manifest", "one option", ["contests", 0, "options"], ["one"]),
    ("manifest", "101 options", ["contests", 0, "options"], [str(i) for i in range(101)]),
    ("manifest", "two options alike", ["contests", 0, "options"], ["a", "a"]),
    ("manifest", "a limit for one-of-k", ["contests", 0, "limit"], 1),
    ("manifest", "a limit of all options", ["contests", 1, "limit"], 3),
    ("manifest", "two contests of one id", ["contests", 1, "id"], "mayor"),
    ("manifest", "a contest that is not there", ["styles", 0], [2]),
    ("manifest", "a contest twice in a style", ["styles", 0], [0, 0]),
    ("manifest", "more trustees needed than there are", ["thresholds", "trustees"], 3),
    ("manifest", "a close before the opening", ["windows", "close"], 100),
    ("manifest", "a settlement within the grace", ["windows", "settle_not_before"], 309),
    ("manifest", "a decryption before the settlement", ["windows", "decrypt_not_before"], 309),
    ("manifest", "two roles of one address", ["roles", 1, "address"], f"{1:040x}"),
    ("manifest", "a relayer without a key", ["roles", 5, "key"], ""),
    ("manifest", "an integer above 2^53 − 1", ["rules", "minimum_ballots"], 2**53),
    ("unit", "a style that is not there", ["style"], 1), ("unit", "a root with a parent", ["parent"], 0),
    ("ceremony", "round 4", ["round"], 4), ("ceremony", "attempt −1", ["attempt"], -1),
    ("roll", "no rows", ["count"], 0),
    ("partial", "a part beyond the parts", ["part"], 1),
    ("partial", "shares that do not ascend", ["shares", 1, "contest"], 0),
    ("promise", "a role that is no relayer", ["promise", "relayer"], 0),
    ("promise", "another ballot than was signed", ["promise", "ballot"], "00" * 32),
    ("refusal", "another reason than was signed", ["refusal", "reason"], "late"),
    ("receipt", "another row than the ballot's", ["roll_index"], 1),
]  # fmt: skip

SPECIAL_BYTES = [
    # parser, what is wrong, offset, the bytes put there
    ("entry", "kind 17", 0, b"\x11"), ("station", "not its row position", 3, b"\x01"), ("station", "an inner unit", 7, b"\x00"),
    ("station", "one officer", 8, b"\x01"), ("station", "the same officer twice", 29, b"\x0a" * 20), ("station", "a name that is not UTF-8", 49, b"\xff"),
    ("station-hash", "revision 0", 7, b"\x00"), ("extension", "a reason that is not UTF-8", 6, b"\xff"), ("report", "form 2", 0, b"\x02"),
    ("receipt-code", "another prefix", 2, b"X"), ("receipt-code", "a misread digit", 100, b"7"), ("receipt-code", "a digit that is none", 100, b"1"),
    ("report", "verdict 2", 1, b"\x02"), ("counted-row", "status 7", 12, b"\x07"), ("rows", "a row cut short", 4, b"\x01"),
]  # fmt: skip


def documents() -> dict[str, Any]:
    cases = []
    for name, (parse, body) in (JSON | BINARY).items():
        parse(body)
        cases.append({"parser": name, "name": "valid", **written(body)})
    for name, what, body in wrong():
        cases.append({"parser": name, "name": what, **written(body), **blame(name, what, body)})
    about = (
        "docs/protocol.md: a case with a field must be refused; offset −1 means none. A body is text (UTF-8) or hex."
    )
    return {"about": about, "cases": cases}


def written(body: bytes) -> dict[str, str]:
    try:
        return {"text": body.decode("ascii")} if body[:1] == b"{" else {"hex": body.hex()}
    except UnicodeDecodeError:
        return {"hex": body.hex()}


def read(case: dict[str, Any]) -> bytes:
    """The body of a case."""
    return case["text"].encode() if "text" in case else bytes.fromhex(case["hex"])


def parser(name: str) -> Callable[[bytes], Any]:
    return (JSON | BINARY)[name][0]


def blame(name: str, what: str, body: bytes) -> dict[str, Any]:
    """Field and offset that our parser names; raises AssertionError if it takes the body."""
    try:
        parser(name)(body)
    except Malformed as error:
        return {"field": error.field, "offset": error.offset}
    raise AssertionError(f"{name}: {what} is accepted")


def wrong() -> Iterator[tuple[str, str, bytes]]:
    """(parser, what is wrong, body)"""
    for name, (_, body) in JSON.items():
        yield name, "empty", b""
        yield name, "cut short", body[:-1]
        yield name, "a trailing space", body + b" "
        yield name, "a space inside", body[:1] + b" " + body[1:]
        yield name, "not UTF-8", body.replace(b'"', b'"\xff', 1)
        yield name, "a member twice", b"{" + body[1 : body.index(b",")] + b"," + body[1:]
        yield name, "keys in another order", _reversed(parse_json(body))
        for path, value in _nodes(parse_json(body)):
            place = ".".join(map(str, path))
            if isinstance(value, dict):
                yield name, f"{place or name} without {min(value)}", _with(body, [*path, min(value)])
                if name != "ceremony":  # it has other members in each round
                    yield name, f"{place or name} with a member too many", _with(body, [*path, "zzz"], 1)
            elif (name, place) not in FREE:
                yield name, f"{place} of another type", _with(body, path, "x" if isinstance(value, int) else 5)
        yield name, "an integer written as 1.0", _float(body)
    for name, what, path, value in SPECIAL:
        yield name, what, _with(JSON[name][1], path, value)
    for name, (_, body) in BINARY.items():
        if name not in ANY_LENGTH:
            yield name, "cut short", body[:-1]
            yield name, "a trailing byte", body + b"\x00"
    yield "extension", "cut short", BINARY["extension"][1][:4]
    yield "station", "cut short", BINARY["station"][1][:30]
    yield "check-in", "no entries", BINARY["check-in"][1][:8]
    for name, what, offset, piece in SPECIAL_BYTES:
        body = BINARY[name][1]
        yield name, what, body[:offset] + piece + body[offset + len(piece) :]


FREE = {("ceremony", name) for name in ("commitment", "encryption_key", "proof")} | {("receipt", "promise")}
"""What these parsers leave to a later check."""


def _nodes(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[list[str | int], Any]]:
    """Every object, and every member that is no object, of the first item of each list."""
    yield list(path), value
    items = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    for key, item in items:
        yield from _nodes(item, (*path, key))


def _with(body: bytes, path: list[str | int], *value: Any) -> bytes:
    """The document with this value at the path, or without it."""
    whole = copy.deepcopy(parse_json(body))
    node = whole
    for step in path[:-1]:
        node = node[step]
    if value:
        node[path[-1]] = value[0]
    else:
        del node[path[-1]]
    return _unchecked(whole)


def _unchecked(value: Any) -> bytes:
    """Canonical form, also of integers that are too large."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()


def _reversed(value: dict[str, Any]) -> bytes:
    return json.dumps(dict(reversed(value.items())), ensure_ascii=False, separators=(",", ":")).encode()


def _float(body: bytes) -> bytes:
    """The document with the first integer written with a fraction."""
    return re.sub(rb":(\d+)([,}])", rb":\1.0\2", body, count=1)
