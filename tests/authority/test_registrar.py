"""The roll, offline: what is refused, what the files hold, that nobody's id leaves the room, and that a killed run goes on."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authority import registrar_roll
from authority.config import unit_names
from authority.registrar import Card, load_roll, read_cards, read_handout
from authority.registrar_cards import print_pdf, print_table, public_qr, read_public_qr
from authority.registrar_hashes import make_hashes, voter_hash
from authority.registrar_roll import (
    CHECKSUM_FILE,
    ROLL_FILE,
    SUMMARY_FILE,
    RollError,
    combine_parts,
    make_first_part,
    make_roll,
    make_second_part,
)
from protocol import merkle
from protocol.attachments import ROLL_ROW, Roll, Unit, unit_counts_hash
from protocol.credential import secret_key
from protocol.errors import BallotboardError
from protocol.group import base
from tests.authority.world import PLAN, accounts_of, config_of
from voter.booth import card_secret

CONFIG = config_of(PLAN, accounts_of(PLAN))
UNITS = CONFIG.units
PEOPLE = [(f"person-{number:04}", 1 + number % 2) for number in range(40)]
ELECTION = bytes(range(32))
CARDS_FILE, HANDOUT_FILE = "cards.csv", "handout.csv"


def write_list(path: Path, people=PEOPLE) -> Path:
    path.write_text("id,unit\n" + "".join(f"{id},{UNITS[unit].name}\n" for id, unit in people))
    return path


def voters(tmp_path: Path, data: str | bytes) -> list[tuple[str, str]]:
    """(id, unit) of the roll of this list."""
    path = tmp_path / "voters.csv"
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    make_roll(path, CONFIG, tmp_path / "roll")
    unit_of = {card.serial: card.unit for card in read_cards(tmp_path / "roll")}
    return sorted((id, unit_of[serial]) for id, serial in read_handout(tmp_path / "roll"))


def problems(tmp_path: Path, data: str | bytes) -> tuple[str, ...]:
    with pytest.raises(RollError) as error:
        voters(tmp_path, data)
    assert [path.name for path in tmp_path.iterdir()] == ["voters.csv"]
    return error.value.problems


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
    assert voters(tmp_path, data) == [("a", "North"), ("b", "South")]


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


def test_a_repeated_id_is_named_wherever_it_is(tmp_path):
    data = "id,unit\n" + "".join(f"v{i % 20},North\n" for i in range(45))
    wanted = [f"line {i + 2}: this id is on line {i % 20 + 2} already" for i in range(20, 45)]
    assert list(problems(tmp_path, data)) == wanted


def test_reading_stops_at_too_many_wrong_lines_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(registrar_roll, "MAX_PROBLEMS", 3)
    found = problems(tmp_path, "id,unit\n" + "".join(f"v{i},East\n" for i in range(9)))
    assert len(found) == 4 and found[-1].startswith("line 5: not read, nor what follows")


def test_a_unit_is_named_by_its_place_in_the_tree_where_its_name_alone_is_not_enough():
    tree = [Unit("c", "Land", -1, -1), Unit("k", "Kent", 0, -1), Unit("k", "York", 0, -1)]
    tree += [Unit("w", "Ward 1", 1, 0), Unit("w", "Ward 1", 2, 0), Unit("w", "Ward 2", 2, 0)]
    names = unit_names(tree)
    assert (names["Kent/Ward 1"], names["Land/York/Ward 1"], names["Ward 2"]) == (3, 4, 5)
    assert "Ward 1" not in names and "Kent" not in names


@pytest.mark.parametrize(("above", "example"), [((1, 2), "Kent/Ward 1"), ((1, 1), "County/Ward 1")])
def test_a_name_that_several_units_have_is_refused_with_how_to_write_it(tmp_path, above, example):
    """Two units of one name under one other cannot be told apart at all."""
    tree = [Unit("c", "Land", -1, -1), Unit("k", "Kent", 0, -1), Unit("k", "York", 0, -1)]
    tree += [Unit("w", "Ward 1", unit, 0) for unit in above]
    (tmp_path / "voters.csv").write_text("id,unit\na,Ward 1\n")
    with pytest.raises(RollError) as error:
        make_roll(tmp_path / "voters.csv", replace(CONFIG, units=tuple(tree)), tmp_path / "roll")
    assert error.value.problems == (
        f"line 2: there are 2 units 'Ward 1'; write what is above it too, as in {example!r}",
    )


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


def test_a_missing_list_is_one_line_and_leaves_nothing(tmp_path):
    with pytest.raises(BallotboardError, match="cannot read"):
        make_roll(tmp_path / "voters.csv", CONFIG, tmp_path / "roll")
    assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------- the roll and its files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_roll(write_list(tmp_path / "voters.csv"), CONFIG, tmp_path / "roll")
    return tmp_path / "roll"


def opened(folder: Path) -> tuple[Roll, bytes, dict[int, Card]]:
    """(roll, nonce, cards by serial)"""
    roll, record = load_roll(folder, UNITS)
    return roll, record.nonce, {card.serial: card for card in read_cards(folder)}


def test_a_voter_finds_card_code_and_row_through_the_files(folder):
    roll, nonce, cards = opened(folder)
    serial_of = dict(read_handout(folder))
    assert sorted(serial_of) == [id for id, _ in PEOPLE] and sorted(serial_of.values()) == list(range(1, 41))
    for id, unit in PEOPLE:
        card = cards[serial_of[id]]
        assert roll.row(card.roll_index) == (base(secret_key(card.code, nonce, card.serial)), unit)
        assert card.unit == UNITS[unit].name


def test_the_roll_is_canonical_and_its_summary_describes_it(folder):
    roll, nonce, _ = opened(folder)
    roll.check()
    summary = json.loads((folder / SUMMARY_FILE).read_text())
    leaves = [merkle.leaf_hash(roll.data[i : i + ROLL_ROW]) for i in range(0, len(roll.data), ROLL_ROW)]
    assert (summary["count"], summary["root"]) == (40, merkle.root(leaves).hex())
    assert (summary["sha256"], summary["nonce"]) == (hashlib.sha256(roll.data).hexdigest(), nonce.hex())
    assert summary["units"] == [{"unit": 1, "name": "North", "voters": 20}, {"unit": 2, "name": "South", "voters": 20}]
    assert load_roll(folder, UNITS)[1].units == unit_counts_hash([(1, 20), (2, 20)])


def test_cards_lie_in_order_of_the_roll_and_serials_are_drawn_by_lot(folder, tmp_path):
    make_roll(tmp_path / "voters.csv", CONFIG, tmp_path / "again")
    (_, nonce, cards), (_, other_nonce, others) = opened(folder), opened(tmp_path / "again")
    assert [card.roll_index for card in read_cards(folder)] == list(range(40))
    assert list(read_handout(folder)) != list(read_handout(tmp_path / "again"))  # the same by chance: 1 in 40!
    assert nonce != other_nonce
    assert {card.code for card in cards.values()}.isdisjoint(card.code for card in others.values())


def test_the_checksums_are_those_of_the_files(folder):
    done = subprocess.run(["sha256sum", "-c", CHECKSUM_FILE], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.count(": OK") == 4, done.stdout


def leaving(folder: Path, tmp_path: Path) -> list[bytes]:
    """Everything that leaves the registrar's room: the roll, the summary, the cards, and what is printed from them."""
    print_table(read_cards(folder), ELECTION, tmp_path / "table.csv")
    print_pdf(read_cards(folder), ELECTION, "Village", tmp_path / "cards.pdf")
    paths = [folder / ROLL_FILE, folder / SUMMARY_FILE, folder / CARDS_FILE, folder / CHECKSUM_FILE]
    return [path.read_bytes() for path in (*paths, tmp_path / "table.csv", tmp_path / "cards.pdf")]


def test_no_id_is_in_anything_that_leaves_the_room(folder, tmp_path):
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        [ROLL_FILE, SUMMARY_FILE, CARDS_FILE, HANDOUT_FILE, CHECKSUM_FILE]
    )
    out = leaving(folder, tmp_path)
    for id, _ in PEOPLE:
        hidden = [id.encode(), id.encode().hex().encode(), hashlib.sha256(id.encode()).digest()]
        hidden += [hashlib.sha256(id.encode()).hexdigest().encode()]
        assert not [data for data in out for form in hidden if form in data]
        assert id.encode() in (folder / HANDOUT_FILE).read_bytes()


def test_nothing_that_is_printed_on_the_way_names_an_id(tmp_path, capfd):
    write_list(tmp_path / "voters.csv", [*PEOPLE, PEOPLE[3]])
    with pytest.raises(RollError) as error:
        make_roll(tmp_path / "voters.csv", CONFIG, tmp_path / "roll")
    make_roll(write_list(tmp_path / "voters.csv"), CONFIG, tmp_path / "roll")
    said = str(error.value) + "".join(capfd.readouterr())
    assert not [id for id, _ in PEOPLE if id in said]


def test_no_code_is_in_a_public_file(folder):
    public = (folder / ROLL_FILE).read_bytes() + (folder / SUMMARY_FILE).read_bytes()
    for card in read_cards(folder):
        assert card.code not in public and card.text.encode() not in public and card.code.hex().encode() not in public


def test_secrets_can_be_read_by_their_owner_only(folder):
    for name in (CARDS_FILE, HANDOUT_FILE):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_roll_is_never_overwritten(folder, tmp_path):
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(BallotboardError, match="is not overwritten"):
        make_roll(tmp_path / "voters.csv", CONFIG, folder)
    assert before == {path: path.read_bytes() for path in folder.iterdir()}


def test_a_roll_and_a_summary_of_two_runs_are_refused(folder, tmp_path):
    make_roll(tmp_path / "voters.csv", CONFIG, tmp_path / "other")
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
    assert Card(17, bytes(16), 3, "North").text == "17-000000000-000000000-000000000"


# ---------------------------------------------------------------- many shards, and a run that is killed

MANY = 3_000


@pytest.fixture
def many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A list of several shards, one unit of which is larger than a part of the roll."""
    monkeypatch.setattr(registrar_roll, "SHARD_BYTES", 9_000)
    return write_list(tmp_path / "voters.csv", [(f"person-{n:05}", 1 if n % 10 else 2) for n in range(MANY)])


def test_shards_join_to_one_canonical_roll_in_parts_of_about_one_size(many, tmp_path, monkeypatch):
    monkeypatch.setattr(registrar_roll, "CHUNK", 256)  # so that the tree is joined from subtrees
    make_roll(many, CONFIG, tmp_path / "roll", workers=1)
    roll, nonce, cards = opened(tmp_path / "roll")
    roll.check()
    assert [card.roll_index for card in read_cards(tmp_path / "roll")] == list(range(MANY))
    assert sorted(serial for _, serial in read_handout(tmp_path / "roll")) == list(range(1, MANY + 1))
    for card in list(cards.values())[::97]:
        assert roll.row(card.roll_index)[0] == base(secret_key(card.code, nonce, card.serial))
    sizes = [len(path.read_text().splitlines()) - 1 for path in sorted((tmp_path / "roll").glob("cards-*.csv"))]
    even = MANY / len(sizes)
    assert len(sizes) > 3 and max(sizes) < 1.5 * even and min(sizes) > 0.5 * even, sizes


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_run_that_died_at_any_step_goes_on_to_the_same_bytes(many, tmp_path, monkeypatch):
    """Every save of an intermediate file is the last one of some run; with the same seed an unbroken run gives the same files."""
    monkeypatch.setattr(registrar_roll.secrets, "token_bytes", lambda count: bytes(count))
    make_roll(many, CONFIG, tmp_path / "whole", workers=1)
    put, left, died = registrar_roll.shards.put, [0], 0

    class Died(Exception):
        pass

    def dying(path, data):
        left[0] -= 1
        if not left[0]:
            raise Died
        return put(path, data)

    monkeypatch.setattr(registrar_roll.shards, "put", dying)
    for after in range(1, 60, 3):
        left[0] = after
        try:
            make_roll(many, CONFIG, tmp_path / "roll", workers=1)
            break
        except Died:
            died += 1
            assert not (tmp_path / "roll").exists()
    assert died > 3
    assert files_of(tmp_path / "roll") == files_of(tmp_path / "whole")
    assert not (tmp_path / "roll.part").exists()


SCRIPT = """
import sys
if __name__ == "__main__":  # what a worker process imports is what it needs and no more
    from pathlib import Path
    from types import SimpleNamespace
    from authority import registrar_roll
    from protocol.attachments import Unit
    registrar_roll.SHARD_BYTES = 9_000
    units = (Unit("whole", "Village", -1, -1), Unit("unit", "North", 0, 0), Unit("unit", "South", 0, 0))
    config = SimpleNamespace(units=units, style_names=("all",))
    registrar_roll.make_roll(Path(sys.argv[1]), config, Path(sys.argv[2]), lambda *step: print(*step, flush=True), workers=2)
"""


@pytest.mark.slow
def test_a_run_that_is_killed_leaves_no_process_behind_and_the_next_one_finishes(many, tmp_path):
    (tmp_path / "run.py").write_text(SCRIPT)
    command = [sys.executable, str(tmp_path / "run.py"), str(many), str(tmp_path / "roll")]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True)
    assert child.stdout
    for line in child.stdout:
        if line.startswith("codes and keys"):
            break
    child.send_signal(signal.SIGKILL)
    child.wait()
    seed = (tmp_path / "roll.part/run.json").read_bytes()
    end = time.monotonic() + 20
    while processes_of(child.pid) and time.monotonic() < end:
        time.sleep(0.05)
    assert not processes_of(child.pid)
    assert (tmp_path / "roll.part/run.json").read_bytes() == seed
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert "reading" not in done.stdout  # the list was read before
    load_roll(tmp_path / "roll", UNITS)[0].check()


def processes_of(session: int) -> list[int]:
    """Processes of a session: its id is that of the process that began it."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(path.parent.name))
    return found


def test_what_was_begun_with_another_list_is_not_gone_on_with(many, tmp_path, monkeypatch):
    monkeypatch.setattr(registrar_roll, "_join", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        make_roll(many, CONFIG, tmp_path / "roll", workers=1)
    monkeypatch.undo()
    write_list(many)
    with pytest.raises(BallotboardError, match="begun with another list"):
        make_roll(many, CONFIG, tmp_path / "roll")


def test_two_processes_do_not_work_in_one_folder(tmp_path):
    path = write_list(tmp_path / "voters.csv")
    with registrar_roll._begin(tmp_path / "roll", "roll", path, UNITS, None):
        with pytest.raises(BallotboardError, match="another process is at work"):
            make_roll(path, CONFIG, tmp_path / "roll")


# ---------------------------------------------------------------- two registrars


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    """Both parts made, nothing exchanged but the request and the second one's SHA-256."""
    make_first_part(write_list(tmp_path / "voters.csv"), CONFIG, tmp_path / "a")
    second = make_second_part(tmp_path / "a/request.json", tmp_path / "b")
    (tmp_path / "said").write_text(second["keys"])
    return tmp_path


def combined(parts: Path) -> tuple[Path, Path]:
    said = (parts / "said").read_text()
    combine_parts(parts / "a", parts / "b/keys.bin", CONFIG, parts / "roll-a", commitment=said)
    combine_parts(parts / "b", parts / "a/keys.bin", CONFIG, parts / "roll-b", units=parts / "a/units.bin")
    return parts / "roll-a", parts / "roll-b"


def test_two_registrars_make_one_roll_whose_keys_need_both_parts(parts):
    a, b = combined(parts)
    for name in (ROLL_FILE, SUMMARY_FILE):
        assert (a / name).read_bytes() == (b / name).read_bytes()
    (roll, nonce, ours), (_, _, theirs) = opened(a), opened(b)
    roll.check()
    for serial, card in ours.items():
        other = theirs[serial]
        assert (card.roll_index, card.unit) == (other.roll_index, other.unit)
        key = roll.row(card.roll_index)[0]
        assert base(card_secret(f"{card.text}+{other.text}", nonce)) == key
        assert base(card_secret(f"{other.text.lower()} + {card.text}", nonce)) == key
        assert key not in (base(card_secret(card.text, nonce)), base(card_secret(other.text, nonce)))
    serial_of = dict(read_handout(a))
    assert [UNITS[unit].name for _, unit in PEOPLE] == [ours[serial_of[id]].unit for id, _ in PEOPLE]


def test_the_second_registrar_has_no_id_and_neither_one_has_the_others_codes(parts):
    a, b = combined(parts)
    everything = {path: path.read_bytes() for path in (*(parts / "b").rglob("*"), *b.rglob("*")) if path.is_file()}
    exchanged = [(parts / "a" / name).read_bytes() for name in ("request.json", "keys.bin", "units.bin")]
    for data in (*everything.values(), *exchanged):
        assert not [id for id, _ in PEOPLE if id.encode() in data]
    assert not list(b.glob("handout*"))
    codes = {card.code for card in read_cards(a)}
    assert codes.isdisjoint(card.code for card in read_cards(b))
    ours = b"".join(path.read_bytes() for path in (*(parts / "a").rglob("*"), *a.rglob("*")) if path.is_file())
    assert not [card for card in read_cards(b) if card.code in ours or card.text.encode() in ours]


@pytest.mark.parametrize("name", ["keys.bin", "units.bin"])
def test_a_file_that_is_not_the_one_named_first_is_refused(parts, name):
    path = parts / "a" / name
    path.write_bytes(path.read_bytes()[::-1])
    with pytest.raises(BallotboardError, match="was named first"):
        combine_parts(parts / "b", parts / "a/keys.bin", CONFIG, parts / "roll", units=parts / "a/units.bin")
    assert not (parts / "roll").exists()


def test_the_first_registrar_needs_what_the_second_one_named_before_the_exchange(parts):
    for commitment, why in (("", "--commitment"), ("00" * 32, "was named first")):
        with pytest.raises(BallotboardError, match=why):
            combine_parts(parts / "a", parts / "b/keys.bin", CONFIG, parts / "roll", commitment=commitment)


def test_two_parts_of_two_cards_are_not_taken_for_one(parts):
    a, b = combined(parts)
    _, nonce, ours = opened(a)
    _, _, theirs = opened(b)
    for card in (f"{ours[1].text}+{theirs[2].text}", f"{ours[1].text}+{ours[1].text}", "+".join([ours[1].text] * 3)):
        with pytest.raises(BallotboardError, match="two parts of a code"):
            card_secret(card, nonce)


# ---------------------------------------------------------------- cards on paper


def test_a_printing_house_gets_both_qr_codes_and_the_public_one_leads_to_the_row(folder, tmp_path):
    assert print_table(read_cards(folder), ELECTION, tmp_path / "table.csv") == 40
    with (tmp_path / "table.csv").open(newline="") as file:
        for row, card in zip(csv.DictReader(file), read_cards(folder), strict=True):
            assert read_public_qr(row["public_qr"]) == (ELECTION, card.roll_index)
            assert row["secret_qr"] == row["code"] == card.text and card.text not in row["public_qr"]
    with pytest.raises(BallotboardError, match="choose a new file"):
        print_table(read_cards(folder), ELECTION, tmp_path / "table.csv")


@pytest.mark.parametrize(
    "text", ["", "1-ABC", "BALLOTBOARD:1:00:5", public_qr(ELECTION, 5)[:-1], public_qr(ELECTION, 5) + "x"]
)
def test_what_is_no_public_code_is_not_read_as_one(text):
    with pytest.raises(BallotboardError, match="not the public code"):
        read_public_qr(text)


def test_the_qr_codes_on_a_printed_page_are_read_back(folder, tmp_path):
    """Of a page as it is drawn: public code to the left of the fold, secret code to its right."""
    zxingcpp = pytest.importorskip("zxingcpp", reason="zxing-cpp is not installed")
    page = shutil.which("pdftoppm")
    if not page:
        pytest.skip("pdftoppm (Debian package poppler-utils) is not installed")
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    print_pdf(list(read_cards(folder))[:3], ELECTION, "Élection du village", tmp_path / "c.pdf")
    subprocess.run([page, "-r", "150", "-png", str(tmp_path / "c.pdf"), str(tmp_path / "c")], check=True)
    [png] = tmp_path.glob("c-*.png")
    found = [(code.text, code.position.top_left.x) for code in zxingcpp.read_barcodes(image.open(png))]
    fold = 70 / 25.4 * 150
    cards = list(read_cards(folder))[:3]
    assert sorted(text for text, x in found if x < fold) == sorted(public_qr(ELECTION, c.roll_index) for c in cards)
    assert sorted(text for text, x in found if x > fold) == sorted(c.text for c in cards)


def test_a_name_that_the_built_in_font_cannot_write_asks_for_a_font(tmp_path):
    with pytest.raises(BallotboardError, match="--font"):
        print_pdf([Card(1, bytes(16), 0, "Łódź")], ELECTION, "Village", tmp_path / "cards.pdf")
    assert not (tmp_path / "cards.pdf").exists()


# ---------------------------------------------------------------- rolls keyed by a hash


def hashed(tmp_path: Path, text: str, codes: bool = False) -> list[dict[str, str]]:
    (tmp_path / "people.csv").write_text(text)
    make_hashes(tmp_path / "people.csv", tmp_path / "voters.csv", tmp_path / "codes.csv" if codes else None)
    with (tmp_path / "voters.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_ids_become_the_hash_of_id_code_and_ballot(tmp_path):
    rows = hashed(tmp_path, "id,code,ballot,unit\n19700101,abc,B1,North\n19700102,DEF,B2,South\n")
    wanted = hashlib.sha256(b"19700101|ABC|B1").hexdigest()  # as any other program makes it
    assert rows[0] == {"id": wanted, "unit": "North"} and wanted == voter_hash("19700101", "abc", "B1")
    summary = make_roll(tmp_path / "voters.csv", CONFIG, tmp_path / "roll")
    assert summary["count"] == 2 and {id for id, _ in read_handout(tmp_path / "roll")} == {row["id"] for row in rows}


def test_codes_are_drawn_where_there_are_none_and_give_the_hashes(tmp_path):
    rows = hashed(tmp_path, "id,ballot\n1,B\n2,B\n", codes=True)
    with (tmp_path / "codes.csv").open(newline="") as file:
        codes = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == [voter_hash(code["id"], code["code"], "B") for code in codes]
    assert stat.S_IMODE((tmp_path / "codes.csv").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("line", "why"),
    [("1|2,a,b", "without |"), (",a,b", "readable text"), ("1,a", "has 2 fields"), ('1,"a"x,b', "expected after"), ("1,\x07,b", "readable")],
)  # fmt: skip
def test_a_wrong_line_of_people_is_named_and_nothing_is_written(tmp_path, line, why):
    with pytest.raises(RollError) as error:
        hashed(tmp_path, f"id,code,ballot\n5,c,b\n{line}\n6,c,b\n")
    [problem] = error.value.problems
    assert problem.startswith("line 3: ") and why in problem
    assert [path.name for path in tmp_path.iterdir()] == ["people.csv"]


@pytest.mark.parametrize("codes", [True, False])
def test_whether_codes_are_drawn_is_never_a_guess(tmp_path, codes):
    with pytest.raises(RollError, match="--codes"):
        hashed(tmp_path, "id,code,ballot\n1,c,b\n" if codes else "id,ballot\n1,b\n", codes)
