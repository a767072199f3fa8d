"""The roll, offline: what is refused, what the four files hold, and that nobody's id leaves the room."""

from __future__ import annotations

import csv
import json
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authority.registrar import (
    CARDS_FILE,
    HANDOUT_FILE,
    ROLL_FILE,
    SUMMARY_FILE,
    Card,
    RollError,
    Voter,
    load_roll,
    make_roll,
    read_voters,
    save_roll,
)
from protocol import merkle
from protocol.attachments import ROLL_ROW
from protocol.credential import read_code, secret_key
from protocol.errors import BallotboardError
from protocol.group import base
from tests.authority.world import PLAN, accounts_of, config_of

CONFIG = config_of(PLAN, accounts_of(PLAN))
UNITS = CONFIG.units
PEOPLE = [Voter(f"person-{number:04}", 1 + number % 2) for number in range(40)]


def voters(tmp_path: Path, data: str | bytes) -> list[Voter]:
    path = tmp_path / "voters.csv"
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return read_voters(path, CONFIG)


def problems(tmp_path: Path, data: str | bytes) -> tuple[str, ...]:
    with pytest.raises(RollError) as error:
        voters(tmp_path, data)
    return error.value.problems


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


# ---------------------------------------------------------------- the voters' list


@pytest.mark.parametrize(
    "data",
    [
        "id,unit\na,North\nb,South\n",
        "unit,id\nNorth,a\nSouth,b",
        "id,unit,style\na,North,all\nb,South,\n",
        "\ufeffid, unit\r\n a ,North\r\nb, South\r\n",
        'id,unit\n"a","North"\nb,South\n',
    ],
)
def test_a_list_is_read_whatever_its_column_order_line_ends_and_quotes(tmp_path, data):
    assert voters(tmp_path, data) == [Voter("a", 1), Voter("b", 2)]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("", "has 0 fields, the header 2"),
        ("b", "has 1 fields"),
        ("b,South,extra", "has 3 fields"),
        (",South", "the id is empty"),
        ("a,South", "on line 2 already"),
        ("b,East", "no unit 'East'"),
        ("b,south", "no unit 'south'"),
        ("b,Village", "nobody votes in 'Village'"),
        ('b,"South"x', "expected after"),
        ('"b\nb",South', "the id is empty or not readable"),
    ],
)
def test_a_wrong_line_is_named_by_its_number(tmp_path, line, why):
    [problem] = problems(tmp_path, f"id,unit\na,North\n{line}\nc,South\n")
    assert problem.startswith(f"line {4 if chr(10) in line else 3}: ") and why in problem


def test_every_wrong_line_is_named_and_none_is_dropped(tmp_path):
    data = "id,unit\n" + "".join(f"v{i},{'East' if i % 3 == 0 else 'North'}\n" for i in range(30))
    assert [problem.split(":")[0] for problem in problems(tmp_path, data)] == [f"line {i + 2}" for i in range(0, 30, 3)]


def test_an_id_that_is_not_utf8_is_named_by_its_line(tmp_path):
    assert problems(tmp_path, b"id,unit\na,North\n\xe9,South\n") == (
        "line 3: the id is empty or not readable text in UTF-8",
    )


def test_a_style_that_is_not_that_of_the_unit_is_refused(tmp_path):
    [problem] = problems(tmp_path, "id,unit,style\na,North,other\n")
    assert problem == "line 2: the style of 'North' is 'all', not 'other'"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ("", "the first line must be id,unit"),
        ("a,North\nb,South\n", "is not used here"),
        ("id,name,unit\na,Ann,North\n", "personal data"),
        ("id\na\n", "the first line must be"),
        ("id,unit,unit\na,North,North\n", "the first line must be"),
        ("id,unit\n", "there are no voters"),
    ],
)
def test_a_list_without_its_header_or_voters_is_refused(tmp_path, data, why):
    assert why in problems(tmp_path, data)[0]


@given(data=st.binary(max_size=120))
def test_no_file_crashes_the_reader(tmp_path_factory, data):
    try:
        assert voters(tmp_path_factory.mktemp("voters"), b"id,unit\n" + data)
    except RollError as error:
        assert error.problems


def test_a_missing_list_is_one_line(tmp_path):
    with pytest.raises(BallotboardError, match="cannot read"):
        read_voters(tmp_path / "voters.csv", CONFIG)


# ---------------------------------------------------------------- the roll


def test_every_code_gives_the_key_in_its_row():
    issue = make_roll(PEOPLE, UNITS)
    assert len(issue.cards) == len(issue.roll) == len(PEOPLE)
    for card in issue.cards:
        key = base(secret_key(card.code, issue.nonce, card.serial))
        assert issue.roll.row(card.roll_index) == (key, card.unit) == (key, PEOPLE[card.voter].unit)


def test_the_roll_is_canonical_and_its_record_describes_it():
    issue = make_roll(PEOPLE, UNITS)
    issue.roll.check()
    record = issue.record()
    leaves = [merkle.leaf_hash(issue.roll.data[i : i + ROLL_ROW]) for i in range(0, len(issue.roll.data), ROLL_ROW)]
    assert (record.count, record.root, record.nonce) == (40, merkle.root(leaves), issue.nonce)
    assert issue.roll.unit_counts() == [(1, 20), (2, 20)]


def test_serials_run_from_one_unit_by_unit_and_are_drawn_by_lot_within():
    first, second = make_roll(PEOPLE, UNITS), make_roll(PEOPLE, UNITS)
    assert [card.serial for card in first.cards] == list(range(1, 41))
    assert [card.unit for card in first.cards] == [1] * 20 + [2] * 20
    assert [card.voter for card in first.cards] != [
        card.voter for card in second.cards
    ]  # the same by chance: 1 in 20!²
    assert first.nonce != second.nonce and {card.code for card in first.cards}.isdisjoint(
        card.code for card in second.cards
    )


def test_two_rolls_of_the_same_codes_are_the_same_bytes(monkeypatch):
    codes = [bytes([number]) * 16 for number in range(40)]
    rolls = []
    for _ in range(2):
        source = iter(codes)
        monkeypatch.setattr("authority.registrar.new_code", lambda source=source: next(source))
        rolls.append(make_roll(PEOPLE, UNITS, nonce=bytes(32)).roll.data)
    assert rolls[0] == rolls[1]


# ---------------------------------------------------------------- the files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_roll(make_roll(PEOPLE, UNITS), PEOPLE, UNITS, tmp_path / "roll")
    return tmp_path / "roll"


def test_no_id_is_in_any_file_that_leaves_the_room(folder):
    assert {path.name for path in folder.iterdir()} == {ROLL_FILE, SUMMARY_FILE, CARDS_FILE, HANDOUT_FILE}
    for path in folder.iterdir():
        data = path.read_bytes()
        found = [voter.id for voter in PEOPLE if voter.id.encode() in data]
        assert found == ([voter.id for voter in PEOPLE] if path.name == HANDOUT_FILE else []), path.name


def test_no_code_is_in_a_public_file(folder):
    public = (folder / ROLL_FILE).read_bytes() + (folder / SUMMARY_FILE).read_bytes()
    for row in rows(folder / CARDS_FILE):
        serial, code = row["code"].split("-", 1)
        assert serial == row["serial"]
        assert read_code(code) not in public and code.encode() not in public


def test_a_voter_finds_card_code_and_row_through_the_files(folder):
    summary = json.loads((folder / SUMMARY_FILE).read_text())
    roll, record = load_roll(folder, UNITS)
    cards = {row["serial"]: row for row in rows(folder / CARDS_FILE)}
    handout = {row["id"]: row["serial"] for row in rows(folder / HANDOUT_FILE)}
    for voter in PEOPLE:
        card = cards[handout[voter.id]]
        serial, code = card["code"].split("-", 1)
        key = base(secret_key(read_code(code), bytes.fromhex(summary["nonce"]), int(serial)))
        assert roll.row(int(card["roll_index"])) == (key, voter.unit)
        assert card["unit"] == UNITS[voter.unit].name
    assert (summary["count"], summary["root"], summary["sha256"]) == (40, record.root.hex(), record.sha256.hex())
    assert summary["units"] == [{"unit": 1, "name": "North", "voters": 20}, {"unit": 2, "name": "South", "voters": 20}]


def test_secrets_can_be_read_by_their_owner_only(folder):
    for name in (CARDS_FILE, HANDOUT_FILE):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_roll_is_never_overwritten(folder):
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(BallotboardError, match="is not overwritten"):
        save_roll(make_roll(PEOPLE, UNITS), PEOPLE, UNITS, folder)
    assert before == {path: path.read_bytes() for path in folder.iterdir()}


def test_a_run_that_died_leaves_no_roll_and_the_next_one_makes_it(tmp_path, monkeypatch):
    issue = make_roll(PEOPLE, UNITS)
    monkeypatch.setattr("authority.registrar.json.dumps", lambda *_, **__: 1 / 0)  # after the cards, before the summary
    with pytest.raises(ZeroDivisionError):
        save_roll(issue, PEOPLE, UNITS, tmp_path / "roll")
    assert not (tmp_path / "roll").exists()
    monkeypatch.undo()
    save_roll(issue, PEOPLE, UNITS, tmp_path / "roll")
    assert load_roll(tmp_path / "roll", UNITS)[1] == issue.record()


def test_a_roll_and_a_summary_of_two_runs_are_refused(folder, tmp_path):
    save_roll(make_roll(PEOPLE, UNITS), PEOPLE, UNITS, tmp_path / "other")
    (tmp_path / "other" / SUMMARY_FILE).replace(folder / SUMMARY_FILE)
    with pytest.raises(BallotboardError, match="take both from the same run"):
        load_roll(folder, UNITS)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"nonce": "00", "sha256": ""}', '{"nonce": 1}'])
def test_a_damaged_summary_is_one_line(folder, text):
    (folder / SUMMARY_FILE).write_text(text)
    with pytest.raises(BallotboardError) as error:
        load_roll(folder, UNITS)
    assert SUMMARY_FILE in str(error.value) and "\n" not in str(error.value)


def test_the_text_of_a_card_is_its_serial_and_three_groups_of_nine():
    text = Card(17, bytes(16), 3, 1, 0).text
    assert text == "17-000000000-000000000-000000000"
