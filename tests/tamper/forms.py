"""More dishonest runs, as tables: every form that a reader must refuse, one change each.

The recipes of recipes.py tell a story each; these are what a hostile author would try one after the other. `python -m scripts.mutation`
shows that each is needed: without it a rejecting branch of the verifier could be taken out unnoticed. They are entered into `RECIPES`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import rlp
from eth_hash.auto import keccak

from chain import trie
from chain.evidence import Evidence, storage_slots
from protocol import ceremony
from protocol.attachments import Attachment, Station, Unit, pack, roll_row
from protocol.ballot import HEADER, challenges, contest_size, disjunctions, sign, statement, weights
from protocol.encoding import canonical_json, parse_json
from protocol.group import BASE, IDENTITY, ORDER, H, add, base, low128, mul, scalar_bytes, sub
from protocol.paper import ContestCount, StationResult
from protocol.records import ANYONE, CheckIns, Kind, LogHead, RollChange, StationHash
from tests.chain import evidence_world
from tests.tamper.builder import (
    AUTHORITY,
    CHOICES,
    CONTRACT,
    REGISTRAR,
    TRUSTEE_1,
    TRUSTEE_3,
    UNITS,
    VERIFIER,
    Election,
    address,
    credential,
    head_of,
    hold,
    officers,
    reseal,
)
from tests.tamper.builder import statement as words
from tests.tamper.recipes import (
    Tampered,
    after,
    announcing,
    casting,
    changed,
    claims,
    enter,
    first,
    honest,
    publishing,
    reporting,
)

OFF_CURVE = b"\xff" * 31 + b"\x7f"
"""Below 2^255, and no point: not a canonical encoding."""


def _set(path: str, new: Any) -> Callable[[Any], None]:
    """A change of one member, named by its path in a JSON value."""

    def change(value: Any) -> None:
        *way, last = [int(step) if step.lstrip("-").isdigit() else step for step in path.split(".")]
        for step in way:
            value = value[step]
        value[last] = new

    return change


# ---------------------------------------------------------------- I01: the manifest


def _manifest(change: Callable[[Any], None]) -> Any:
    value = parse_json(honest().manifest.body)
    change(value)
    return claims(reseal(changed(0, body=canonical_json(value)), Kind.OPEN, Kind.CLOSE, Kind.SETTLEMENT))


def _twice(path: str) -> Callable[[Any], None]:
    def change(value: Any) -> None:
        for step in path.split("."):
            value = value[step]
        value[1] = value[0]

    return change


MANIFESTS: tuple[tuple[str, Callable[[Any], None], str], ...] = (
    ("is of another format", _set("format", "ballotboard/manifest/v2"), "manifest.format"),
    ("has a member more", _set("note", ""), "unexpected ['note']"),
    ("names chain 0", _set("chain.id", 0), "manifest.chain.id"),
    ("names an unknown engine", _set("chain.engine", "clique"), "manifest.chain.engine"),
    ("has a validator without power", _set("chain.validators", [{"key": "00" * 32, "power": 0}]), "validators[0].power"),
    ("allows groups of less than none", _set("rules.minimum_ballots", -1), "manifest.rules"),
    ("decrypts above the root", _set("rules.decrypt_level", -1), "manifest.rules"),
    ("has an unknown rule for votes cast again", _set("rules.revote", "best"), "manifest.rules.revote"),
    ("has no contests", _set("contests", []), "at least one contest"),
    ("has two contests of one id", _set("contests.1.id", "question"), "with distinct ids"),
    ("has no styles", _set("styles", []), "at least one style"),
    ("has an empty style", _set("styles.0", []), "manifest.styles[0]"),
    ("has a contest twice in a style", _set("styles.0", [1, 1]), "manifest.styles[0]"),
    ("has two roles of one address", _set("roles.1.address", address("authority").hex()), "one hand, one role"),
    ("has a role without an address", _set("roles.1.address", "00" * 20), "must not be zero"),
    ("has an unknown role", _set("roles.1.kind", "king"), "manifest.roles[1].kind"),
    ("has no registrar", _set("roles.1.kind", "verifier"), "at least one registrar"),
    ("has more trustees in its threshold than trustees", _set("thresholds.trustees", 4), "thresholds.trustees"),
    ("lets nobody decrypt", _set("thresholds.trustees", 0), "thresholds.trustees"),
    ("has more verifiers in its threshold than verifiers", _set("thresholds.verifiers", 2), "thresholds.verifiers"),
    ("has data holders that it does not name", _set("thresholds.data_holders", 1), "thresholds.data_holders"),
    ("counts by an unknown rule", _set("contests.0.rule", "borda"), "contests[0].rule"),
    ("has a contest without an id", _set("contests.0.id", ""), "id and options are non-empty"),
    ("has an option without a text", _set("contests.0.options.0", ""), "id and options are non-empty"),
    ("has a contest of one option", _set("contests.0.options", ["yes"]), "2 to 100 distinct options"),
    ("has one option twice", _set("contests.0.options", ["yes", "yes"]), "2 to 100 distinct options"),
    ("allows as many marks as options", _set("contests.3.limit", 3), "below the number of options"),
    ("limits the marks of a choice of one", _set("contests.0.limit", 1), "must be 0 for this rule"),
    ("has a ballot that is too long", lambda v: (v["contests"].extend({"id": f"c{n}", "title": "", "rule": "approval", "limit": 0, "options": [str(o) for o in range(100)]} for n in range(3)), v["styles"].append([4, 5, 6])), "split the contests"),
    ("opens after it closes", _set("windows.open_not_before", 2000), "must satisfy open_not_before < close"),
    ("opens before all time", _set("windows.open_not_before", -1), "must satisfy open_not_before < close"),
    ("decrypts after all time", _set("windows.decrypt_not_before", 2**40), "must satisfy open_not_before < close"),
    ("has less than no units", _set("units.count", -1), "manifest.units"),
)  # fmt: skip

for _title, _change, _says in MANIFESTS:
    enter(f"a manifest that {_title}", "I01", (_says,), partial(_manifest, _change))


def _first_record(**what: Any) -> Any:
    found = claims(honest().drafts)
    return replace(found, records=[replace(found.records[0], **what), *found.records[1:]])


enter(
    "a log whose first record is a second one",
    "C01 I01",
    ("the log does not begin",),
    lambda: _first_record(position=1),
)
enter("a manifest that is withheld", "C02 I01", ("the log does not begin",), lambda: _first_record(body=None))
enter("a log without a record and no manifest in it", "C01 C02 I01", ("the log does not begin with a manifest",), lambda: replace(claims(honest().drafts), records=[], roots=[], head=LogHead(0, hashlib.sha256(b"").digest())))  # fmt: skip

# ---------------------------------------------------------------- void records: they change nothing


def _voiced(body: bytes) -> Election:
    return after("vote", lambda e: e.append(Kind.COMPLAINT, 2190, body, AUTHORITY))


COMPLAINT = parse_json(words(Kind.COMPLAINT, "slow", 0))


def _complaint(**what: Any) -> bytes:
    return canonical_json(COMPLAINT | what)


COMPLAINTS: tuple[tuple[str, bytes, str], ...] = (
    ("half a character", _complaint(text="?").replace(b"?", rb"\ud800"), "a string holds a lone surrogate"),
    ("lists in lists", b"[" * 40 + b"]" * 40, "complaint: nested too deeply"),
    ("a list one level too deep", b"[" * 33 + b"0" + b"]" * 33, "json: nested too deeply"),
    ("bytes that are no text", b'{"\xff":0}', "not UTF-8"),
    ("a list", b"[]", "complaint: expected an object"),
    ("a number for its class", _complaint(**{"class": 1}), "complaint.class: expected str"),
    ("true for a number", _complaint(reference=True), "complaint.reference: expected int"),
    ("a fraction", _complaint(reference=7).replace(b"7", b"7.5"), "7.5 is not an integer"),
    ("a number of five thousand digits", _complaint(reference=7).replace(b"7", b"7" * 5000), "an integer is outside"),
    ("a number that others round", _complaint(reference=7).replace(b"7", str(2**53).encode()), "an integer is outside"),
    ("a member less", canonical_json({"class": "slow"}), "complaint: members differ"),
    ("another format", _complaint(format="ballotboard/complaint/v2"), "complaint.format"),
)

for _title, _body, _says in COMPLAINTS:
    enter(f"a complaint of {_title}", "", ("is void: ", _says), partial(_voiced, _body))

enter("a complaint of another format that refers to nothing", "", ("is void: complaint.format: expected",), lambda: _voiced(_complaint(format="")))  # fmt: skip


def _changing(change: Callable[[Any], None]) -> Election:
    value = parse_json(RollChange(base(credential(1) + 1), "lost", 1, 1).body())
    change(value)
    return after("vote", lambda e: e.append(Kind.ROLL_CHANGE, 2190, canonical_json(value), REGISTRAR))


ROLL_CHANGES: tuple[tuple[str, Callable[[Any], None], str], ...] = (
    ("adds half a key", _set("add", "ab" * 16), "expected 32 bytes of lower-case hex"),
    ("adds a key in capitals", _set("add", "AB" * 32), "expected 32 bytes of lower-case hex"),
    ("revokes a row that does not exist", _set("revoke", 99), "the revoked row does not exist"),
    ("revokes a row below none", _set("revoke", -1), "the revoked row does not exist"),
    ("moves a voter to another unit", _set("unit", 2), "the unit is not that of the revoked row"),
    ("adds a key that is on the roll", _set("add", base(credential(0)).hex()), "is on the roll already"),
    ("adds a key that is no point", _set("add", OFF_CURVE.hex()), "or is no point"),
    ("adds the identity", _set("add", "00" * 32), "or is no point"),
)

for _title, _change, _says in ROLL_CHANGES:
    enter(f"a roll change that {_title}", "", (_says,), partial(_changing, _change))


def _trustee_3(change: Callable[[Any], None], fails: str = "") -> Election:
    """Trustees 1 and 2 decrypt rightly, trustee 3 publishes something else."""

    def changed_body(body: bytes) -> bytes:
        value = parse_json(body)
        change(value)
        return canonical_json(value)

    return publishing(lambda partials: [*partials[:2], changed_body(partials[2])])


PARTIALS: tuple[tuple[str, Callable[[Any], None], str], ...] = (
    ("of another format", _set("format", "v2"), "is void: partial: needs format"),
    ("that is part 1 of 1", _set("part", 1), "is void: partial: needs format"),
    ("with its shares in another order", lambda v: v["shares"].reverse(), "is void: partial.shares: must ascend"),
    ("with a share twice", lambda v: v["shares"].insert(0, v["shares"][0]), "is void: partial.shares: must ascend"),
    ("without a value", lambda v: v["shares"][1]["values"].pop(), "trustee 3: the proof for contest 1, group 0 fails"),
    ("without a proof", _set("shares.0.values.0.proof", ""), "trustee 3: the proof for contest 0, group 0 fails"),
    ("of the identity", _set("shares.0.values.0.d", "00" * 32), "trustee 3: the proof for contest 0, group 0 fails"),
    ("of no point", _set("shares.0.values.0.d", OFF_CURVE.hex()), "trustee 3: the proof for contest 0, group 0 fails"),
    ("of a contest that does not exist", lambda v: v["shares"].append(v["shares"][-1] | {"contest": 9}), "there is nothing to decrypt in contest 9"),
    ("by a trustee that does not exist", _set("trustee", 9), "not by trustee 9"),
    ("by trustee 0", _set("trustee", 0), "not by trustee 0"),
    ("with a response that is too large", lambda v: _too_large(v["shares"][0]["values"][0]), "trustee 3: the proof for contest 0, group 0 fails"),
)  # fmt: skip


def _too_large(value: dict[str, str]) -> None:
    """z + ℓ instead of z satisfies every equation, and makes a second form of the same proof."""
    proof = bytes.fromhex(value["proof"])
    value["proof"] = (proof[:64] + (int.from_bytes(proof[64:], "little") + ORDER).to_bytes(32, "little")).hex()


for _title, _change, _says in PARTIALS:
    enter(f"a partial decryption {_title}", "", (_says,), partial(_trustee_3, _change))


def _half_proven(e: Election, half: int) -> None:
    """Trustee 3 shows another point than x_3·A, with a proof of which one of the two equations holds.

    half 0: it knows the logarithm of the point, which is not that of its share key; 1: it knows x_3, and the point is one vote off.
    """
    settled = e.settled()
    group, x = settled.groups[0][0], e.shares[2]
    a, root = group.sums[0].a, settled.settlement.head.root
    about = e.opened.context + root + bytes(2 + 4 + 2) + group.sums[0].b + (3).to_bytes(2, "big")
    known, image = (x, add(mul(x, a), BASE)) if half else (x + 1, mul(x + 1, a))
    t1, t2 = base(5), mul(5, a)
    c = low128(H("dleq/partial", about, a, base(x), image, t1, t2))
    honest_ones = e.partials(settled)
    value = parse_json(honest_ones[2])
    value["shares"][0]["values"][0] = {"d": image.hex(), "proof": (t1 + t2 + scalar_bytes(5 + c * known)).hex()}
    for number, body in enumerate((honest_ones[0], canonical_json(value))):
        e.append(Kind.PARTIAL_DECRYPTION, 3300, body, TRUSTEE_3 if number else TRUSTEE_1)


enter("a partial decryption that is off by one vote", "E03", ("1 of 2 partial decryptions", "trustee 3: the proof"), lambda: hold(decrypt=lambda e: _half_proven(e, 1)))  # fmt: skip
enter("a partial decryption with another secret", "E03", ("1 of 2 partial decryptions", "trustee 3: the proof"), lambda: hold(decrypt=lambda e: _half_proven(e, 0)))  # fmt: skip


class _Village(Election):
    """Nobody in the village votes: two contests have no ballots, and nothing to decrypt."""

    def vote(self) -> None:
        self.append_ballots(1200, [self.cast["row 0, first"], self.cast["row 1"]])
        self.check_in(0, 2, 1800)
        self.check_in(1, 5, 1900)


def _nothing_to_decrypt() -> Tampered:
    def published(e: Election) -> None:
        for number, body in enumerate(e.partials(e.settled())):
            value = parse_json(body)
            if number == 2:
                value["shares"].append(value["shares"][0] | {"contest": 2})
            e.append(Kind.PARTIAL_DECRYPTION, 3300, canonical_json(value), TRUSTEE_1 + number)

    e = hold(_Village, decrypt=published)
    online = {"question": [0, 2], "mayor": [1, 0, 0, 1], "board": [0, 0, 0], "council": [0, 0, 0]}
    return Tampered(e.claims(), e.manifest.election_id, online=online, accepted=2)


enter("a partial decryption of a group without ballots", "", ("there is nothing to decrypt in contest 2, group 0",), _nothing_to_decrypt)  # fmt: skip

# ---------------------------------------------------------------- records that the board lays out


def _at_end(kind: Kind, body: bytes, role: int = ANYONE) -> Election:
    return after("vote", lambda e: e.append(kind, 2190, body, role))


def _station_record(kind: Kind, body: bytes, number: int) -> Election:
    return after("vote", lambda e: e.append_station(kind, 2190, body, number, 0))


enter("a result hash of revision 0", "I03", ("counts from 1",), lambda: _station_record(Kind.STATION_HASH, StationHash(0, 0, bytes(32)).body(), 0))  # fmt: skip
enter("a result hash with a byte more", "I03", ("1 trailing bytes",), lambda: _station_record(Kind.STATION_HASH, StationHash(0, 1, bytes(32)).body() + b"\x00", 1))  # fmt: skip
enter("a check-in of nobody", "I03", ("needs 1 to 1000 entries",), lambda: _station_record(Kind.CHECK_IN, CheckIns(0, 1, ()).body(), 1))  # fmt: skip
enter("a settlement with a bitmap where bodies are on the chain", "C05 I03", ("expected 40 bytes",), lambda: hold(until="decide", decide=lambda e: e.append(Kind.SETTLEMENT, 3200, head_of(e.drafts).body() + bytes(32))))  # fmt: skip


def _reported(body: bytes) -> Election:
    return hold(certify=lambda e: e.append(Kind.REPORT, 3500, body, VERIFIER))


enter("a report of an unknown form", "I03", ("must be 0 or 1",), lambda: _reported(b"\x02" + bytes(97)))
enter("a report with an unknown verdict", "I03", ("report.verdict",), lambda: _reported(b"\x01\x02" + bytes(96)))
enter("a report that is cut off", "I03", ("report.salt",), lambda: _reported(b"\x01\x01" + bytes(95)))

# ---------------------------------------------------------------- ballots


def _number(body: bytes, at: int, new: bytes) -> bytes:
    return body[:at] + new + body[at + len(new) :]


enter(
    "a ballot of another version", "", ("malformed-header",), lambda: casting(lambda e: b"\x02" + e.cast["row 1"][1:])
)
enter("a ballot that is cut off", "", ("malformed-length",), lambda: casting(lambda e: e.cast["row 1"][:-1]))
enter("a ballot with a response that is too large", "", ("malformed-scalar",), lambda: casting(lambda e: _number(e.cast["row 1"], len(e.cast["row 1"]) - 96, b"\xff" * 32)))  # fmt: skip
enter("a ballot with a signature that is too large", "", ("malformed-scalar",), lambda: casting(lambda e: _number(e.cast["row 1"], len(e.cast["row 1"]) - 32, b"\xff" * 32)))  # fmt: skip
enter("a ballot with a ciphertext that is no point", "", ("malformed-point",), lambda: casting(lambda e: _number(e.cast["row 1"], HEADER, OFF_CURVE)))  # fmt: skip
enter("a ballot with the identity for a ciphertext", "", ("malformed-point",), lambda: casting(lambda e: _number(e.cast["row 1"], HEADER, IDENTITY)))  # fmt: skip
enter("a ballot of a row below the roll's end but no row", "", ("unknown-credential",), lambda: casting(lambda e: _number(e.cast["row 1"], 1, b"\xff" * 4)))  # fmt: skip


def _doctored(half: int) -> Election:
    """Row 1 proves what is true of one half of its ciphertext and adds G to the other: two votes, or none that can be opened.

    A real proof in all but that: one of the two equations of the true branch holds. (half 0: A is wrong, 1: B is.)
    """

    def body(e: Election) -> bytes:
        ballot, context = e.ballot(1, CHOICES[0], 20, "doctored"), e.opened.engine.election
        contest, key = context.styles[0][0], base(credential(1))
        end = HEADER + contest_size(contest)
        r, w, c1, z1 = 11, 22, 33, 44
        pair = [base(r), add(mul(r, context.key), BASE)]
        pair[half] = add(pair[half], BASE)
        about, ciphertexts = statement(context, contest, 1, 1, 0, key), b"".join(pair)
        simulated = sub(base(z1), mul(c1, pair[0])) + sub(mul(z1, context.key), mul(c1, pair[1]))
        commitments = base(w) + mul(w, context.key) + simulated
        rho = weights(contest, about, ciphertexts)
        (e0,) = challenges(about, ciphertexts, rho, commitments, len(disjunctions(contest, rho)))
        c0 = (e0 - c1) % 2**128
        block = ciphertexts + commitments + c0.to_bytes(16, "little") + scalar_bytes(w + c0 * r) + scalar_bytes(z1)
        return sign(context, 1, 0, credential(1), bytes(32), ballot[:HEADER] + block + ballot[end:-64])

    return casting(body)


enter("a ballot that votes twice for one option", "", ("bad-proof",), lambda: _doctored(1))
enter("a ballot whose vote cannot be opened", "", ("bad-proof",), lambda: _doctored(0))

# ---------------------------------------------------------------- K01, K03, A05, A06, I02, C03


def _setup(*steps: Callable[[Election], None], last: str = "make_roll") -> Tampered:
    e = hold(until=last)
    for step in steps:
        step(e)
    return Tampered(e.claims(), e.manifest.election_id, run="config")


def _open(e: Election) -> None:
    e.append(Kind.OPEN, 1100, head_of(e.drafts).body(), AUTHORITY)


def _roll_again(e: Election) -> None:
    e.append(Kind.ROLL, 960, e.drafts[-1].body or b"", REGISTRAR)


def _late_roll(e: Election) -> None:
    Election.make_roll(e)
    e.drafts[-1] = replace(e.drafts[-1], time=1100)


enter("a poll that opens before there is a roll", "K01", ("there is no roll record before it",), lambda: _setup(_open, _late_roll, last="make_key"))  # fmt: skip
enter("a second roll", "K01", ("there is one roll, and this is another",), lambda: _setup(_roll_again))
enter("a second manifest", "K01", ("the manifest is record 0",), lambda: _at_end(Kind.MANIFEST, honest().manifest.body))
enter("a roll without rows", "C04", ("no roll", "roll.count: must be positive"), lambda: _setup(lambda e: e.append(Kind.ROLL, 960, canonical_json({"count": 0, "format": "ballotboard/roll/v1"} | dict.fromkeys(("nonce", "root", "sha256", "units"), "00" * 32)), REGISTRAR), last="make_key"))  # fmt: skip


def _number_of(kind: Kind, number: int) -> Any:
    return claims(changed(first(kind), number=number))


enter("a check-in that says another number than it signed", "A06", ("is not signed, as number 0",), lambda: _number_of(Kind.CHECK_IN, 1))  # fmt: skip


def _third_signature() -> Any:
    at = first(Kind.STATION_HASH)
    return claims(changed(at, signatures=honest().drafts[at].signatures + honest().drafts[at].signatures[:65]))


enter("a result hash with a third signature", "A06", ("is not signed, as number 1",), _third_signature)


def _signature(change: Callable[[bytes], bytes]) -> Any:
    at = first(Kind.COMPLAINT)
    return claims(changed(at, signatures=change(honest().drafts[at].signatures)))


enter("a complaint with a signature that is cut off", "A05", ("not that of verifier",), lambda: _signature(lambda s: s[:64]))  # fmt: skip
enter("a complaint whose signature ends in 0", "A05", ("not that of verifier",), lambda: _signature(lambda s: s[:64] + b"\x00"))  # fmt: skip
enter("a complaint with a signature that no key makes", "A05", ("not that of verifier",), lambda: _signature(lambda s: bytes(64) + s[64:]))  # fmt: skip
enter("a board that announced a root twice", "I02", ("step by step",), lambda: (lambda c: replace(c, roots=[*c.roots[:5], c.roots[4], *c.roots[5:]]))(claims(honest().drafts)))  # fmt: skip
enter("a list of units that is missing", "C03", ("the file of the units", "is missing"), lambda: (lambda c: replace(c, attachments={n: d for n, d in c.attachments.items() if n != honest().manifest.units.sha256}))(claims(honest().drafts)))  # fmt: skip

# ---------------------------------------------------------------- I04, I05: places and the roll


def _election(units: list[bytes] | None = None, stations: list[bytes] | None = None, rows: list[bytes] | None = None,
              manifest: Callable[[Any], None] | None = None, record: Callable[[Any], None] | None = None) -> Tampered:  # fmt: skip
    """The setup of an election with other lists, before the poll opens."""

    class Other(Election):
        def units(self) -> list[bytes]:
            return super().units() if units is None else units

        def stations(self) -> list[bytes]:
            return super().stations() if stations is None else stations

        def roll_rows(self) -> list[bytes]:
            return super().roll_rows() if rows is None else rows

        def manifest_value(self) -> dict[str, Any]:
            value = super().manifest_value()
            if manifest:
                manifest(value)
            return value

    def make_roll(e: Election) -> None:
        Election.make_roll(e)
        if record:
            value = parse_json(e.drafts.pop().body or b"")
            record(value)
            e.numbers[REGISTRAR] = 0
            e.append(Kind.ROLL, 950, canonical_json(value), REGISTRAR)

    e = hold(Other, until="make_roll", make_roll=make_roll)
    return Tampered(e.claims(), e.manifest.election_id, run="config")


def _units(*rows: Unit) -> list[bytes]:
    return [row.row() for row in rows]


def _stations(row: bytes) -> list[bytes]:
    return [row, Station(1, 2, tuple(map(address, officers(1))), "station 1").row()]


TWO = tuple(map(address, officers(0)))[:2]

PLACES: tuple[tuple[str, dict[str, Any], str], ...] = (
    ("a unit that is its own parent", {"units": _units(UNITS[0], replace(UNITS[1], parent=1), UNITS[2])}, "units[1].parent"),
    ("a second root", {"units": _units(UNITS[0], replace(UNITS[1], parent=-1), UNITS[2])}, "units[1].parent"),
    ("a unit below none", {"units": _units(UNITS[0], replace(UNITS[1], parent=-2), UNITS[2])}, "units[1].parent"),
    ("no root", {"units": _units(replace(UNITS[0], parent=0), *UNITS[1:])}, "units[0].parent"),
    ("a unit with an unknown style", {"units": _units(*UNITS[:2], replace(UNITS[2], style=7))}, "is not a style of the manifest"),
    ("a place where nobody votes", {"units": _units(*UNITS[:2], replace(UNITS[2], style=-1))}, "leaf units have a style"),
    ("a nation that votes by itself", {"units": _units(replace(UNITS[0], style=0), *UNITS[1:])}, "leaf units have a style"),
    ("no units at all", {"units": []}, "needs at least one unit"),
    ("a list of units of another root", {"manifest": _set("units.root", "00" * 32)}, "root or count"),
    ("a list of stations of another count", {"manifest": _set("stations.count", 3)}, "root or count"),
    ("a station whose name is no text", {"stations": _stations(Station(0, 1, TWO, "").row() + b"\xff")}, "not UTF-8"),
    ("a station with another's number", {"stations": _stations(Station(1, 1, TWO, "").row())}, "must be the row position"),
    ("a station in a unit that does not exist", {"stations": _stations(Station(0, 9, TWO, "").row())}, "must be a leaf unit"),
    ("a station with one officer", {"stations": _stations(Station(0, 1, TWO[:1], "").row())}, "at least two distinct officers"),
    ("a station without officers", {"stations": _stations(Station(0, 1, (), "").row())}, "at least two distinct officers"),
)  # fmt: skip

for _title, _lists, _says in PLACES:
    enter(f"a country with {_title}", "I04", (_says,), partial(_election, **_lists))

ROWS = [roll_row(base(credential(row)), 1 + row // 3) for row in range(6)]

ROLLS: tuple[tuple[str, dict[str, Any], str], ...] = (
    ("a row in a unit where nobody votes", {"rows": [roll_row(base(credential(0)), 0), *ROWS[1:]]}, "roll[0].unit"),
    ("a row in a unit that does not exist", {"rows": [*ROWS[:5], roll_row(base(credential(5)), 9)]}, "roll[5].unit"),
    ("a key that is no point", {"rows": [*ROWS[:5], roll_row(OFF_CURVE, 2)]}, "roll[5].key"),
    ("the identity for a key", {"rows": [*ROWS[:3], roll_row(IDENTITY, 2), *ROWS[3:]]}, "roll[3].key"),
    ("another root", {"record": _set("root", "00" * 32)}, "root or count"),
    ("another count", {"record": _set("count", 7)}, "root or count"),
)

for _title, _lists, _says in ROLLS:
    enter(f"a roll with {_title}", "I05", (_says,), partial(_election, **_lists))


def _longer_roll() -> Tampered:
    longer = b"".join(ROWS) + b"\x00"
    digest = hashlib.sha256(longer).digest()
    found = _election(record=_set("sha256", digest.hex()))
    return replace(found, claims=replace(found.claims, attachments=found.claims.attachments | {digest: longer}))


enter("a roll with a byte too many", "I05", ("not a multiple of 36",), _longer_roll)


# ---------------------------------------------------------------- I06 and C06: stations' sheets


def _sheet(contest: int, **what: Any) -> Callable[[StationResult], StationResult]:
    def change(result: StationResult) -> StationResult:
        counts = tuple(replace(c, **what) if c.contest == contest else c for c in result.contests)
        return replace(result, contests=counts)

    return change


def _reporting_1(change: Callable[[StationResult], StationResult]) -> Election:
    def report_stations(e: Election) -> None:
        e.documents = [e.result_of(0), change(e.result_of(1))]
        for document in e.documents:
            e.append_hash(document, 2350)

    return hold(report_stations=report_stations)


SHEETS: tuple[tuple[str, Callable[..., Election], Callable[[StationResult], StationResult], str], ...] = (
    ("a negative count", reporting, _sheet(0, counts=(2, -1)), "a count is negative"),
    ("a count too many", reporting, _sheet(0, counts=(1, 0, 0)), "contest question: needs 2 counts"),
    ("blank papers beside its blank option", reporting, _sheet(1, counts=(0, 0, 0, 0), blank=1), "belong to its blank option"),
    ("more marks for an option than papers", _reporting_1, _sheet(2, counts=(0, 0, 2)), "contest board: an option has more marks"),
    ("more marks than are allowed", _reporting_1, _sheet(3, counts=(1, 1, 1)), "contest council: more marks than 2"),
    ("another style's contests", reporting, lambda r: replace(r, contests=(r.contests[0],)), "are not those of the station's ballot style"),
)  # fmt: skip

for _title, _at, _change, _says in SHEETS:
    enter(f"a station sheet with {_title}", "I06", (_says,), partial(_at, _change))


@dataclass
class _Raw:
    """A result document that is not of its form, signed by its officers all the same."""

    data: bytes
    station: int = 0
    revision: int = 1

    def body(self) -> bytes:
        return self.data

    def document_hash(self) -> bytes:
        return hashlib.sha256(self.data).digest()


def _raw(change: Callable[[Any], None]) -> Election:
    def document(result: StationResult) -> Any:
        value = parse_json(result.body())
        change(value)
        return _Raw(canonical_json(value))

    return reporting(document)


enter("a station sheet of another format", "C06", ("station 0: revision 1 is not revealed", "station-result.format"), lambda: _raw(_set("format", "v2")))  # fmt: skip
enter("a station sheet with true for a count", "C06", ("station 0: revision 1 is not revealed", "counts: must be integers"), lambda: _raw(_set("contests.0.counts.0", True)))  # fmt: skip


def _amended_after_junk() -> Election:
    """The board goes by hashes, so junk that was signed is revealed and may then be amended: no check fails."""

    def report_stations(e: Election) -> None:
        junk, e.documents = _Raw(b"{}"), [e.result_of(0), e.amended(e.result_of(1))]
        for document in (e.documents[0], replace(junk, station=1)):
            e.append_hash(document, 2350)  # type: ignore[arg-type]
        e.append(Kind.STATION_RESULT, 2500, junk.data)
        e.append_hash(e.documents[1], 2510)

    return hold(report_stations=report_stations)


enter("a station that signs junk, reveals it and amends it", "", ("is void: station-result",), _amended_after_junk)

# ---------------------------------------------------------------- E01: the ceremony


def _ceremony(number: int, trustee: int, change: Callable[[Any], None] | None, e: Any = None) -> Tampered:
    """The setup with one message of the ceremony changed after it was made, signed by its trustee; None leaves it out."""

    class Other(Election):
        def append(self, kind: Kind, time: int, body: bytes, role: int = ANYONE) -> int:
            if kind == Kind.CEREMONY and parse_json(body)["round"] == number and role == TRUSTEE_1 + trustee - 1:
                value = parse_json(body)
                if change is None:
                    return -1
                change(value)
                body = canonical_json(value)
            return super().append(kind, time, body, role)

    found = hold(Other, until="make_roll")
    return Tampered(found.claims(), found.manifest.election_id, run="config")


def _confirm(**what: Any) -> Callable[[Any], None]:
    return lambda value: value.update(what)


def _complain(dealer: int, **what: Any) -> Callable[[Any], None]:
    def change(value: Any) -> None:
        for name in ("key", "round2"):
            del value[name]
        value.update({"verdict": "complain", "dealer": dealer, "shared": "00" * 32, "proof": "00" * 96} | what)

    return change


G_HEX = BASE.hex()

MESSAGES: tuple[tuple[str, int, int, Callable[[Any], None], str], ...] = (
    ("without a commitment", 1, 1, lambda v: v.pop("commitment"), "trustee 1: ceremony: members differ"),
    ("that does not know its encryption key", 1, 2, _set("encryption_key", G_HEX), "trustee 2: ceremony.proof: the encryption key's proof"),
    ("with a number for a commitment", 2, 1, _set("commitments.0", 1), "trustee 1: commitments"),
    ("with the identity for a commitment", 2, 1, _set("commitments.0", "00" * 32), "point is the identity"),
    ("with a commitment that is no point", 2, 1, _set("commitments.1", OFF_CURVE.hex()), "not the canonical encoding"),
    ("with a commitment too many", 2, 1, lambda v: v["commitments"].append(G_HEX), "trustee 1: ceremony.commitments: needs 2"),
    ("that opens another commitment", 2, 2, _set("commitments.1", G_HEX), "trustee 2: ceremony.commitments: are not those of round 1"),
    ("that does not know its part of the key", 2, 3, _set("proof", (BASE + bytes(32)).hex()), "trustee 3: ceremony.proof: the proof of possession fails"),
    ("with a share for nobody", 2, 1, _set("shares.1.to", 4), "must be one for each other trustee, ascending"),
    ("with a share for trustee 0", 2, 1, _set("shares.0.to", 0), "must be one for each other trustee, ascending"),
    ("with a share for itself", 2, 1, _set("shares.0.to", 1), "must be one for each other trustee, ascending"),
    ("with its shares in another order", 2, 1, lambda v: v["shares"].reverse(), "must be one for each other trustee, ascending"),
    ("that does not know a share's key", 2, 1, _set("shares.0.e", G_HEX), "the proof of the share for trustee 2 fails"),
    ("without a share", 2, 1, lambda v: v["shares"].pop(), "trustee 1: ceremony.shares: must be one for each other trustee"),
    ("that confirms another round 2", 3, 1, _confirm(round2="00" * 32), "trustee 1 confirms another key"),
    ("that confirms another key", 3, 2, _confirm(key=G_HEX), "trustee 2 confirms another key"),
    ("with an unknown verdict", 3, 1, _complain(2, verdict="perhaps"), "neither a confirmation nor a complaint"),
    ("that complains of nobody", 3, 1, _complain(9), "neither a confirmation nor a complaint"),
    ("that complains of itself", 3, 1, _complain(1), "neither a confirmation nor a complaint"),
    ("that complains without proof", 3, 1, _complain(2), "trustee 1 complains without proof"),
)  # fmt: skip

for _title, _round, _trustee, _change, _says in MESSAGES:
    enter(f"a trustee's message {_title}", "E01", (_says, f"record {3 * _round + _trustee - 3}: is of a trustee at fault"), partial(_ceremony, _round, _trustee, _change))  # fmt: skip

FORMS: tuple[tuple[str, Callable[[Any], None], str], ...] = (
    ("without a round", lambda v: v.pop("round"), "needs integers attempt, round and trustee"),
    ("of another format", _set("format", "v2"), "needs format"),
    ("of attempt -1", _set("attempt", -1), "attempt from 0"),
    ("of an attempt beyond counting", _set("attempt", 2**32), "attempt from 0"),
    ("of round 4", _set("round", 4), "round from 1 to 3"),
)

for _title, _change, _says in FORMS:
    enter(f"a trustee's last message {_title}", "E01", (f"is void: ceremony: {_says}" if _says.startswith("needs") else _says, "round 3 is missing from trustees [2]"), partial(_ceremony, 3, 2, _change))  # fmt: skip

enter("a ceremony message that is a list", "", ("is void: ceremony: needs integers",), lambda: after("make_key", lambda e: e.append(Kind.CEREMONY, 911, b"[]", TRUSTEE_1)))  # fmt: skip


def _key_of(change: Callable[[list[ceremony.TrusteeSecret]], None], *, wrong_share: bool = False, complain: bool = False, role_shift: int = 0) -> Tampered:  # fmt: skip
    """A ceremony among trustees with other secrets, where nobody objects though he should."""

    def make_key(e: Election) -> None:
        setting = e.setting()
        e.secrets = [ceremony.TrusteeSecret.draw(j, 2) for j in (1, 2, 3)]
        change(e.secrets)
        one = [ceremony.round1(setting, secret) for secret in e.secrets]
        two = [ceremony.round2(setting, secret, one) for secret in e.secrets]
        if wrong_share:
            value = parse_json(two[1])
            value["shares"][0]["box"] = "00" * 48
            two[1] = canonical_json(value)
        three = [
            canonical_json({
                "attempt": 0, "format": "ballotboard/ceremony/v1", "round": 3, "trustee": j, "verdict": "confirm", "key": G_HEX,
                "round2": hashlib.sha256(b"".join(hashlib.sha256(body).digest() for body in two)).hexdigest(),
            })
            for j in (1, 2, 3)
        ]  # fmt: skip
        if complain:
            three[0] = ceremony.complaint(setting, e.secrets[0], 2, ceremony.check_dealing(setting, one, two))
        for bodies in (one, two, three):
            for j, body in enumerate(bodies):
                e.append(Kind.CEREMONY, 910, body, TRUSTEE_1 + (j + role_shift) % 3)

    e = hold(until="make_roll", make_key=make_key)
    return Tampered(e.claims(), e.manifest.election_id, run="config")


def _no_key(secrets: list[ceremony.TrusteeSecret]) -> None:
    secrets[2].polynomial[0] = -(secrets[0].polynomial[0] + secrets[1].polynomial[0]) % ORDER


def _no_share(secrets: list[ceremony.TrusteeSecret]) -> None:
    secrets[2].polynomial[1] = -sum(a for secret in secrets for a in secret.polynomial) + secrets[2].polynomial[1]
    secrets[2].polynomial[1] %= ORDER


enter("trustees whose key is the identity", "E01", ("the joint key is the identity",), lambda: _key_of(_no_key))
enter("trustees who leave one without a share", "E01", ("a share key is the identity",), lambda: _key_of(_no_share))
enter("a dealer whose share does not open", "E01", ("trustee 2 dealt a wrong share to trustee 1, as proven",), lambda: _key_of(lambda s: None, wrong_share=True, complain=True))  # fmt: skip
enter("a trustee who complains of a right share", "E01", ("trustee 1 complains about a share of trustee 2 that is right",), lambda: _key_of(lambda s: None, complain=True))  # fmt: skip
enter("trustees who speak for one another", "E01", ("the trustees have not begun",), lambda: _key_of(lambda s: None, role_shift=1))  # fmt: skip
enter("a trustee who never speaks", "E01", ("round 1 is missing from trustees [3]",), lambda: _silent(3))


def _silent(trustee: int) -> Tampered:
    class Other(Election):
        def append(self, kind: Kind, time: int, body: bytes, role: int = ANYONE) -> int:
            silent = kind == Kind.CEREMONY and role == TRUSTEE_1 + trustee - 1
            return -1 if silent else super().append(kind, time, body, role)

    e = hold(Other, until="make_roll")
    return Tampered(e.claims(), e.manifest.election_id, run="config")


# ---------------------------------------------------------------- E04: the validators' signatures


class _World(evidence_world.World):
    """A network whose board is ours and has this head."""

    log = LogHead(0, b"")

    @property
    def storage(self) -> trie.Tree:  # type: ignore[override]
        root, size = storage_slots()
        slots = {root: self.log.root, size: evidence_world.word(self.log.size | 7 << 64)}
        return trie.Tree({keccak(k): rlp.encode(v.lstrip(b"\0")) for k, v in slots.items()})

    @property
    def state(self) -> trie.Tree:  # type: ignore[override]
        account = rlp.encode([b"\1", b"", self.storage.root, evidence_world.CODE_HASH])
        return trie.Tree({keccak(CONTRACT): account, keccak(b"?"): account})

    def head(self) -> Evidence:
        proofs = [self.state.proof(keccak(CONTRACT)), *(self.storage.proof(keccak(slot)) for slot in storage_slots())]
        return Evidence(self.header, self.commit(), self.execution, evidence_world.joined(*proofs), None)


def _sealed(change: Callable[[LogHead], LogHead] = lambda head: head, signers: tuple[int, ...] = (0, 1, 2),
            evidence: bytes | None = None, powers: tuple[int, ...] = (1, 1, 1, 1)) -> Tampered:  # fmt: skip
    """The election on a network of four validators, of which `signers` signed."""
    world = _World(powers=powers, signers=signers, chain_id=31337)

    class Other(Election):
        def manifest_value(self) -> dict[str, Any]:
            value = super().manifest_value()
            validators = [{"key": v.key.hex(), "power": v.power} for v in world.validators]
            value["chain"] |= {"engine": "cometbft", "validators": validators}
            return value

    e = hold(Other)
    found = e.claims()
    world.log = change(found.head)
    return Tampered(
        replace(found, evidence=world.head().body() if evidence is None else evidence), e.manifest.election_id
    )


enter("evidence of three of four validators", "", ("power 3 of 4 signed",), _sealed)
enter("exactly two thirds of the validators", "E04", ("2/3",), lambda: _sealed(signers=(0, 1), powers=(1, 1, 1)))
enter("two of four validators", "E04", ("2/3",), lambda: _sealed(signers=(0, 1)))
enter("evidence of a longer log", "E04", ("and this one has 38",), lambda: _sealed(lambda head: replace(head, size=39)))
enter("evidence of another log", "E04", ("which is not this log's",), lambda: _sealed(lambda head: replace(head, root=bytes(31) + b"\1")))  # fmt: skip
enter("evidence that is junk", "E04", ("evidence",), lambda: _sealed(evidence=b"{}"))

_ = (Attachment, ContestCount, pack)


# ---------------------------------------------------------------- a third way for the checks that had two

enter("a setup without a ceremony", "C04", ("no ceremony",), lambda: _setup_without_key())


def _setup_without_key() -> Tampered:
    e = hold(until="make_roll", make_key=lambda e: None)
    return Tampered(e.claims(), e.manifest.election_id, run="config")


def _one_more(value: Any) -> None:
    value["online"][1]["totals"][0] += 1
    value["total"][1][0] += 1


enter("a result with a vote more than its groups", "K06", ("mayor: online is",), lambda: announcing(_one_more))
enter("a result with a paper more than the stations counted", "K07", ("question: paper is",), lambda: announcing(lambda value: value["paper"][0].update(counted=3)))  # fmt: skip
enter("a station with a paper that nobody was given", "K09", ("station 1: 1 valid check-ins, 2 papers issued",), lambda: _reporting_1(lambda r: replace(r, issued=2, unreturned=1)))  # fmt: skip
