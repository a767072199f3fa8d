"""Manifest, attachments, record bodies, credentials, paper, receipts: each refuses what does not re-encode to itself."""

import copy
import dataclasses
import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import SigningKey

from protocol import credential, group, merkle
from protocol.attachments import Roll, Station, Unit, describe, open_rows, pack, parse_stations, parse_units, roll_row
from protocol.credential import WrongCode, print_code, read_code, secret_key
from protocol.errors import Malformed
from protocol.manifest import Manifest
from protocol.paper import ContestCount, StationResult, arithmetic, paper_totals
from protocol.receipt import Promise, Receipt, ReceiptWrong, Refusal, check_statement, sign_statement
from protocol.records import (
    CheckIns,
    Entry,
    Extension,
    Kind,
    LogHead,
    Report,
    RollChange,
    RollRecord,
    Settlement,
    Statement,
    StationHash,
    pack_bodies,
    unpack_bodies,
)

UNITS = [Unit("nation", "Freedonia", -1, -1), Unit("town", "A", 0, 0), Unit("town", "B", 0, 1)]
STATIONS = [Station(0, 1, (b"\x0a" * 20, b"\x0b" * 20), "School"), Station(1, 2, (b"\x0c" * 20, b"\x0d" * 20), "Hall")]
RELAYER_KEY = SigningKey(b"\x07" * 32)


def manifest_value():
    kinds = ["authority", "registrar", "cosigner", "trustee", "trustee", "relayer", "verifier"]
    return {
        "format": "ballotboard/manifest/v1", "name": "Test", "practice": False, "language": "en",
        "chain": {"id": 31337, "engine": "anvil", "code_hash": "aa" * 32, "validators": []},
        "contests": [
            {"id": "mayor", "title": "Mayor", "rule": "one-of-k", "limit": 0, "options": ["Ann", "Bob", "blank"]},
            {"id": "council", "title": "Council", "rule": "up-to-L", "limit": 2, "options": ["p", "q", "r"]},
        ],
        "styles": [[0], [0, 1]],
        "units": describe([unit.row() for unit in UNITS]).value(),
        "stations": describe([station.row() for station in STATIONS]).value(),
        "roles": [
            {"kind": kind, "name": kind, "address": f"{i + 1:040x}", "key": bytes(RELAYER_KEY.verify_key).hex() if kind == "relayer" else ""}
            for i, kind in enumerate(kinds)
        ],
        "thresholds": {"trustees": 2, "verifiers": 1, "data_holders": 0},
        "windows": {
            "open_not_before": 100, "close": 200, "close_not_after": 300, "append_grace": 10, "count_not_before": 200,
            "reveal_not_before": 300, "settle_not_before": 310, "decrypt_not_before": 320,
        },
        "rules": {"revote": "last", "channel": "paper-precedence", "minimum_ballots": 5, "decrypt_level": 0, "body_mode": "calldata"},
    }  # fmt: skip


MANIFEST = Manifest.build(manifest_value())


def edited(path, value):
    changed = copy.deepcopy(manifest_value())
    node = changed
    for step in path[:-1]:
        node = node[step]
    node[path[-1]] = value
    return changed


def test_a_manifest_is_read_back_as_what_was_written():
    assert json.loads(MANIFEST.body) == manifest_value()
    assert MANIFEST.trustees == (3, 4)
    assert MANIFEST.contests[0].blank == 2


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["format"], "v2"), (["chain", "id"], 0), (["chain", "engine"], "besu"), (["chain", "code_hash"], "aa"),
        (["contests"], []), (["contests", 0, "rule"], "ranked"), (["contests", 0, "limit"], 1), (["contests", 1, "limit"], 3),
        (["contests", 1, "limit"], 0), (["contests", 0, "options"], ["one"]), (["contests", 0, "options"], ["a", "a"]),
        (["contests", 0, "options"], [str(i) for i in range(101)]), (["contests", 1, "id"], "mayor"), (["styles"], []),
        (["styles", 0], []), (["styles", 0], [2]), (["styles", 0], [0, 0]), (["styles", 0], [True]), (["roles", 0, "kind"], "boss"),
        (["roles", 0, "address"], "00" * 20), (["roles", 1, "address"], f"{1:040x}"), (["roles", 5, "key"], ""),
        (["thresholds", "trustees"], 3), (["thresholds", "trustees"], 0), (["thresholds", "verifiers"], 2),
        (["windows", "close"], 100), (["windows", "settle_not_before"], 309), (["windows", "decrypt_not_before"], 309),
        (["windows", "reveal_not_before"], 199), (["windows", "count_not_before"], 301), (["windows", "append_grace"], -1),
        (["rules", "revote"], "best"), (["rules", "body_mode"], "hash"), (["rules", "decrypt_level"], -1), (["name"], 5), (["practice"], 0),
    ],
    ids=lambda x: ".".join(map(str, x)) if isinstance(x, list) and x and not isinstance(x[0], int) else None,
)  # fmt: skip
def test_a_manifest_that_contradicts_itself_is_refused(path, value):
    with pytest.raises(Malformed, match="manifest"):
        Manifest.build(edited(path, value))


def test_a_style_whose_ballot_is_too_long_is_refused():
    options = [str(i) for i in range(100)]
    contests = [{"id": str(i), "title": "", "rule": "one-of-k", "limit": 0, "options": options} for i in range(4)]
    value = manifest_value() | {"contests": contests, "styles": [[0, 1, 2], [0]]}
    Manifest.build(value)
    with pytest.raises(Malformed, match=r"styles\[0\].*65535"):
        Manifest.build(value | {"styles": [[0, 1, 2, 3], [0]]})


def test_a_manifest_with_one_byte_changed_has_another_id_or_is_refused():
    other = Manifest.parse(MANIFEST.body.replace(b'"Test"', b'"Tesu"'))
    assert other.election_id != MANIFEST.election_id
    with pytest.raises(Malformed):
        Manifest.parse(MANIFEST.body + b" ")


# ---------------------------------------------------------------- attachments


def test_rows_come_back_and_a_changed_file_does_not_open():
    rows = [unit.row() for unit in UNITS]
    assert open_rows(pack(rows), describe(rows), "units") == rows
    for wrong in (pack(rows[:-1]), pack(rows[::-1]), pack(rows) + b"\x00", pack([*rows, b""])):
        with pytest.raises(Malformed):
            open_rows(wrong, describe(rows), "units")
    with pytest.raises(Malformed, match="root or count"):
        open_rows(pack(rows), dataclasses.replace(describe(rows), count=2), "units")


@pytest.mark.parametrize(
    "units",
    [
        [], [Unit("n", "N", 0, 0)], [UNITS[0], Unit("t", "A", -1, 0)], [UNITS[0], Unit("t", "A", 1, 0)], [UNITS[0], Unit("t", "A", 2, 0), UNITS[1]],
        [UNITS[0], Unit("t", "A", 0, 2)], [UNITS[0], Unit("t", "A", 0, -1)], [Unit("n", "N", -1, 0), UNITS[1]],
    ],
)  # fmt: skip
def test_a_unit_tree_with_an_orphan_a_cycle_or_a_misplaced_style_is_refused(units):
    with pytest.raises(Malformed):
        parse_units([unit.row() for unit in units], 2)


def test_stations_have_their_row_number_a_leaf_unit_and_two_distinct_officers():
    assert parse_stations([station.row() for station in STATIONS], UNITS) == STATIONS
    one = STATIONS[0]
    for wrong in (
        dataclasses.replace(one, number=1), dataclasses.replace(one, unit=0), dataclasses.replace(one, unit=9),
        dataclasses.replace(one, officers=(b"\x0a" * 20,)), dataclasses.replace(one, officers=(b"\x0a" * 20, b"\x0a" * 20)),
    ):  # fmt: skip
        with pytest.raises(Malformed):
            parse_stations([wrong.row()], UNITS)
    with pytest.raises(Malformed):
        parse_stations([one.row()[:20]], UNITS)


def test_the_roll_is_strictly_ascending_and_of_distinct_real_points():
    keys = sorted(group.base(i) for i in range(1, 5))
    good = Roll(roll_row(keys[0], 1) + roll_row(keys[1], 1) + roll_row(keys[2], 2), [-1, 0, 0])
    good.check()
    assert good.unit_counts() == [(1, 2), (2, 1)]
    wrong = [
        roll_row(keys[1], 1) + roll_row(keys[0], 1), roll_row(keys[0], 1) * 2, roll_row(keys[0], 2) + roll_row(keys[1], 1),
        roll_row(keys[0], 0), roll_row(keys[0], 3), roll_row(bytes(32), 1), roll_row(b"\xff" * 32, 1), roll_row(keys[0], 1) + roll_row(keys[0], 2),
    ]  # fmt: skip
    for data in wrong:
        with pytest.raises(Malformed):
            Roll(data, [-1, 0, 0]).check()
    with pytest.raises(Malformed):
        Roll(bytes(35), [0])


# ---------------------------------------------------------------- record bodies

HEAD = LogHead(5, b"\x01" * 32)
BODIES = [
    (HEAD.body(), LogHead.parse),
    (Settlement(HEAD).body(), lambda body: Settlement.parse(body, False)),
    (Settlement(HEAD, b"\x02" * 32).body(), lambda body: Settlement.parse(body, True)),
    (RollRecord(3, b"\x01" * 32, b"\x02" * 32, b"\x03" * 32, b"\x04" * 32).body(), RollRecord.parse),
    (RollChange(group.BASE, "lost", 3, 1).body(), RollChange.parse),
    (CheckIns(1, 2, ((5, 100), (6, 101))).body(), CheckIns.parse),
    (StationHash(1, 1, b"\x05" * 32).body(), StationHash.parse),
    (
        Statement("ballotboard/decision/v1", "conflict", 7, "why").body(),
        lambda body: Statement.parse(body, Kind.DECISION),
    ),
    (Extension(500, "snow").body(), Extension.parse),
    (Report(True, b"\x01" * 32, b"\x02" * 32, b"\x03" * 32).body(), Report.parse),
]


@pytest.mark.parametrize(("body", "parse"), BODIES, ids=range(len(BODIES)))
def test_a_body_is_read_back_and_nothing_else_reads_as_it(body, parse):
    assert parse(body).body() == body
    for wrong in (body[:-1], body + b"\x00" if parse != Extension.parse else b"\x00\xff", b""):
        try:
            assert parse(wrong).body() == wrong  # another value, faithfully
        except Malformed:
            continue


@given(st.binary(max_size=120))
def test_any_bytes_give_a_value_that_encodes_to_them_or_a_malformed(body):
    for _, parse in BODIES:
        try:
            assert parse(body).body() == body
        except Malformed:
            pass


@pytest.mark.parametrize("body", [StationHash(1, 0, b"\x05" * 32).body(), CheckIns(1, 2, ()).body()])
def test_revision_zero_and_empty_check_ins_are_refused(body):
    with pytest.raises(Malformed):
        (StationHash if len(body) == 40 else CheckIns).parse(body)


def test_an_entry_binds_kind_time_role_and_body():
    entry = Entry(4, 1_700_000_000, 3, b"\x09" * 32)
    assert len(entry.encode()) == 40
    assert Entry.parse(entry.encode()) == entry
    assert entry.leaf() == merkle.leaf_hash(entry.encode())
    with pytest.raises(Malformed):
        Entry.parse(b"\x11" + entry.encode()[1:])


@given(st.lists(st.binary(max_size=40), max_size=6))
def test_packed_bodies_come_back(bodies):
    assert unpack_bodies(pack_bodies(bodies)) == bodies


def test_truncated_packed_bodies_are_refused():
    with pytest.raises(Malformed):
        unpack_bodies(pack_bodies([b"abc"])[:-1])


# ---------------------------------------------------------------- credentials


@given(st.binary(min_size=16, max_size=16))
def test_a_printed_code_is_read_back_in_any_case_and_spacing(code):
    text = print_code(code)
    assert read_code(text) == code
    assert read_code(" ".join(text.lower().replace("-", "").replace("0", "o").replace("1", "l"))) == code


@given(st.binary(min_size=16, max_size=16), st.integers(0, 26), st.sampled_from(credential.ALPHABET))
def test_one_mistyped_symbol_is_noticed(code, place, symbol):
    symbols = print_code(code).replace("-", "")
    typed = symbols[:place] + symbol + symbols[place + 1 :]
    if typed != symbols:
        with pytest.raises(WrongCode):
            read_code(typed)


@pytest.mark.parametrize("text", ["", "ABC", "U" * 27, "!" * 27, "0" * 26, "0" * 28])
def test_codes_that_were_never_printed_are_refused(text):
    with pytest.raises(WrongCode):
        read_code(text)


def test_keys_depend_on_code_nonce_and_serial():
    keys = {
        secret_key(code, nonce, serial)
        for code in (bytes(16), b"\x01" * 16)
        for nonce in (bytes(32), b"\x01" * 32)
        for serial in (0, 1)
    }
    assert len(keys) == 8


# ---------------------------------------------------------------- paper


def result(**changes):
    fields = dict(
        station=1, revision=1, practice=False, reason="", issued=10, counted=8, spoiled=1, unreturned=1,
        contests=(ContestCount(0, (4, 2, 1), 0, 1), ContestCount(1, (5, 4, 0), 1, 0)),
        opening=bytes(32), closing=bytes(32), salt=b"\x01" * 32,
    )  # fmt: skip
    return StationResult(**(fields | changes))


def test_a_balanced_result_has_nothing_wrong_and_comes_back():
    assert arithmetic(result(), MANIFEST, STATIONS, UNITS) == []
    assert StationResult.parse(result().body()) == result()


@pytest.mark.parametrize(
    "changes",
    [
        {"issued": 11}, {"counted": 9, "issued": 11}, {"spoiled": -1, "issued": 8}, {"station": 2}, {"station": 0},
        {"contests": (ContestCount(0, (4, 2, 2), 0, 1), ContestCount(1, (5, 4, 0), 1, 0))},
        {"contests": (ContestCount(0, (4, 2, 0), 1, 1), ContestCount(1, (5, 4, 0), 1, 0))},
        {"contests": (ContestCount(0, (4, 2, 1), 0, 1), ContestCount(1, (8, 0, 0), 1, 0))},
        {"contests": (ContestCount(0, (4, 2, 1), 0, 1), ContestCount(1, (7, 7, 1), 1, 0))},
        {"contests": (ContestCount(0, (4, 2, 1), 0, 1),)}, {"contests": (ContestCount(0, (4, 3), 0, 1), ContestCount(1, (5, 4, 0), 1, 0))},
    ],
)  # fmt: skip
def test_a_result_that_does_not_add_up_is_named(changes):
    assert arithmetic(result(**changes), MANIFEST, STATIONS, UNITS)


def test_paper_totals_add_up_over_stations():
    totals = paper_totals(MANIFEST, [result(), result(contests=(ContestCount(0, (1, 0, 7), 0, 0),), counted=8)])
    assert totals[0] == {"blank": 0, "counted": 16, "invalid": 1, "totals": [5, 2, 8]}
    assert totals[1] == {"blank": 1, "counted": 8, "invalid": 0, "totals": [5, 4, 0]}


# ---------------------------------------------------------------- promises and receipts

BALLOT = b"\x01" + bytes(12) + b"rest of a ballot"


def receipt():
    entry = Entry(Kind.BALLOT, 150, 5, hashlib.sha256(BALLOT).digest())
    leaves = [merkle.leaf_hash(bytes([i])) for i in range(6)]
    leaves[3] = entry.leaf()
    return Receipt(
        BALLOT, 31337, b"\x0e" * 20, MANIFEST.election_id, 12, b"\x0f" * 32, entry, LogHead(6, merkle.root(leaves)), 3,
        tuple(merkle.inclusion_proof(leaves, 3)), None,
    )  # fmt: skip


def test_a_receipt_proves_its_ballot_and_comes_back():
    assert Receipt.parse(receipt().body()) == receipt()
    receipt().check()


@pytest.mark.parametrize(
    "changes",
    [
        {"ballot": BALLOT + b"x"}, {"position": 2}, {"proof": ()}, {"head": LogHead(6, bytes(32))}, {"head": LogHead(3, receipt().head.root)},
        {"entry": dataclasses.replace(receipt().entry, time=151)}, {"entry": dataclasses.replace(receipt().entry, kind=5)},
        {"entry": dataclasses.replace(receipt().entry, role=6)},
    ],
    ids=lambda changes: next(iter(changes)),
)  # fmt: skip
def test_a_receipt_with_one_thing_changed_proves_nothing(changes):
    with pytest.raises(ReceiptWrong):
        dataclasses.replace(receipt(), **changes).check()


def test_a_receipt_that_names_another_row_is_refused():
    with pytest.raises(Malformed, match="roll_index"):
        Receipt.parse(receipt().body().replace(b'"roll_index":0', b'"roll_index":1'))


PROMISE = Promise(b"\x01" * 32, 200, b"\x0e" * 20, 31337, LogHead(6, b"\x02" * 32), 5)
REFUSAL = Refusal(b"\x01" * 32, b"\x0e" * 20, 31337, "bad-proof", 5, 150)


@pytest.mark.parametrize("statement", [PROMISE, REFUSAL], ids=["promise", "refusal"])
def test_a_relayers_word_is_its_own_and_cannot_be_changed(statement):
    signed = sign_statement(statement, RELAYER_KEY)
    assert check_statement(signed, MANIFEST) == statement
    name = next(key for key in signed if key != "signature")
    for wrong in (
        signed | {"signature": "00" * 64},
        {name: signed[name] | {"ballot": "02" * 32}, "signature": signed["signature"]},
        {name: signed[name] | {"relayer": 0}, "signature": signed["signature"]},
        {name: signed[name] | {"relayer": -2}, "signature": signed["signature"]},
        sign_statement(statement, SigningKey(b"\x08" * 32)),
        signed | {"more": 1}, {"signature": signed["signature"]}, [],
    ):  # fmt: skip
        with pytest.raises(Malformed):
            check_statement(wrong, MANIFEST)
