"""election.toml: what it says, what is refused and how that is named, and that it gives the manifest it stands for."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from authority.config import (
    ConfigError,
    Moment,
    new_config,
    parse_config,
    parse_duration,
    parse_moment,
    print_duration,
    read_config,
)
from authority.plan import Plan, config_text, new_election
from protocol.attachments import Station, Unit
from protocol.errors import BallotboardError, Malformed
from protocol.manifest import RULE_NAMES, WINDOW_NAMES, Contest, Manifest, Role, RoleKind, Rule
from tests.authority.world import PLAN, accounts_of, config_of

NOW = 1_800_000_000
HANDS = {name: (bytes.fromhex(account.address[2:]), bytes([7]) * 32) for name, account in accounts_of(PLAN).items()}
TEXT = config_text(PLAN, HANDS)
CONFIG = parse_config(TEXT, NOW)


def refused(text: str) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as error:
        parse_config(text, NOW)
    return error.value.problems


def changed(old: str, new: str) -> str:
    assert old in TEXT
    return TEXT.replace(old, new, 1)


# ---------------------------------------------------------------- what it stands for


def test_the_manifest_has_what_the_file_says():
    manifest = CONFIG.manifest(31337, bytes(32), NOW)
    assert (manifest.name, manifest.engine, manifest.language, manifest.practice) == ("Village", "anvil", "en", False)
    assert manifest.contests == (Contest("contest-1", "Who?", Rule.ONE_OF_K, 0, ("Ann", "Ben", "blank")),)
    assert [role.name for role in manifest.roles] == [name for _, name in PLAN.role_names()]
    assert (manifest.trustee_threshold, manifest.verifier_threshold) == (2, 0)


def test_relative_windows_count_from_publication():
    early, late = (CONFIG.manifest(31337, bytes(32), now).windows for now in (NOW, NOW + 77))
    assert (early.open_not_before, early.close, early.append_grace) == (NOW, NOW + 600, 20)
    assert (late.open_not_before, late.close, late.append_grace) == (NOW + 77, NOW + 677, 20)


def test_units_are_numbered_in_file_order_and_referred_to_by_name():
    assert CONFIG.units == (Unit("whole", "Village", -1, -1), Unit("unit", "North", 0, 0), Unit("unit", "South", 0, 0))
    assert [station.unit for station in CONFIG.stations] == [1]


def test_a_native_toml_time_and_its_text_are_the_same_moment():
    native, text = (
        parse_config(changed('close_not_after = "+10m"', f"close_not_after = {value}"), NOW).windows["close_not_after"]
        for value in ("2027-01-15T09:10:00+01:00", '"2027-01-15T09:10:00+01:00"')
    )
    assert native == text == Moment(int(datetime(2027, 1, 15, 8, 10, tzinfo=UTC).timestamp()), relative=False)


def test_windows_that_depend_on_the_moment_of_publication_are_tried_again_then():
    config = parse_config(changed('settle_not_before = "+11m"', "settle_not_before = 2027-01-15T09:11:00+01:00"), NOW)
    with pytest.raises(Malformed, match="windows"):
        config.manifest(31337, bytes(32), NOW + 10_000)


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
NAMES = st.lists(TEXTS, min_size=2, max_size=6, unique=True)


@st.composite
def contests(draw: st.DrawFn) -> list[Contest]:
    found = []
    for id in draw(st.lists(TEXTS, min_size=1, max_size=3, unique=True)):
        options, rule = tuple(draw(NAMES)), draw(st.sampled_from(Rule))
        limit = draw(st.integers(1, len(options) - 1)) if rule == Rule.UP_TO_L else 0
        found.append(Contest(id, draw(TEXTS), rule, limit, options))
    return found


@given(
    name=TEXTS, contests=contests(), units=NAMES, station=TEXTS, people=st.lists(TEXTS, min_size=4, max_size=4),
    times=st.lists(st.integers(0, 10**6), min_size=4, max_size=4), grace=st.integers(0, 10**5), practice=st.booleans(),
    level=st.integers(0, 3), minimum=st.integers(0, 10**6), revote=st.sampled_from(["last", "first"]),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_arguments_become_text_become_manifest_without_change(
    name, contests, units, station, people, times, grace, practice, level, minimum, revote
):
    kinds = (RoleKind.AUTHORITY, RoleKind.REGISTRAR, RoleKind.TRUSTEE, RoleKind.RELAYER)
    roles = [
        Role(kind, who, bytes(19) + bytes([kind]), bytes([kind]) * 32) for kind, who in zip(kinds, people, strict=True)
    ]
    styles = [tuple(range(len(contests)))] + [(i,) for i in range(len(contests))]
    tree = [
        Unit("whole", units[0], -1, -1),
        *(Unit("part", unit, 0, i % len(styles)) for i, unit in enumerate(units[1:])),
    ]
    opening, voting, after, then = times
    close = opening + voting + 1
    windows = dict.fromkeys(WINDOW_NAMES, f"+{print_duration(close)}") | {
        "open_not_before": f"+{print_duration(opening)}", "append_grace": print_duration(grace),
        "settle_not_before": f"+{print_duration(close + grace + after)}", "decrypt_not_before": f"+{print_duration(close + grace + after + then)}",
    }  # fmt: skip
    officers = (b"\x01" * 20, b"\x02" * 20)
    text = new_config(
        name, contests, tree, [Station(0, 1, officers, station)], roles, windows, trustees=1, styles=styles,
        minimum_ballots=minimum, decrypt_level=level, revote=revote, practice=practice, language="fr",
    )  # fmt: skip
    config = parse_config(text, NOW)
    manifest = config.manifest(1, bytes(32), NOW)
    assert manifest == Manifest.parse(manifest.body)
    assert (manifest.name, list(manifest.contests), manifest.styles) == (name, contests, tuple(styles))
    assert (list(config.units), config.stations, list(manifest.roles)) == (
        tree,
        (Station(0, 1, officers, station),),
        roles,
    )
    assert (manifest.minimum_ballots, manifest.decrypt_level, manifest.revote, manifest.practice) == (
        minimum,
        level,
        revote,
        practice,
    )
    assert (manifest.windows.open_not_before, manifest.windows.close) == (NOW + opening, NOW + close)
    assert manifest.windows.decrypt_not_before == NOW + close + grace + after + then


def test_every_key_of_the_file_has_a_comment_above_it_or_in_its_section():
    lines = TEXT.splitlines()
    for section in ("windows", "rules", "thresholds", "chain"):
        start = lines.index(f"[{section}]") + 1
        for number, line in enumerate(lines[start:], start):
            if line.startswith("[") or not line:
                break
            assert line.startswith("#") or lines[number - 1].startswith("#"), line
    for section in ("contests", "units", "stations", "roles"):
        first = lines.index(f"[[{section}]]")
        explained = " ".join(line for line in lines[first - 8 : first] if line.startswith("#"))
        keys = {key for item in tomllib.loads(TEXT)[section] for key in item} - {"name"}
        assert all(key in explained for key in keys), section


# ---------------------------------------------------------------- times


@given(st.integers(0, 10**9))
def test_a_printed_duration_reads_as_itself(seconds):
    assert parse_duration(print_duration(seconds)) == seconds


@pytest.mark.parametrize(
    ("text", "seconds"), [("10m", 600), ("1h30m", 5400), ("90s", 90), ("2d", 172800), ("1d2h3m4s", 93784), ("0s", 0)]
)
def test_durations(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "10", "m", "30m1h", "1.5h", "-1m", "1h 30m", "٣m", "10M"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ValueError):
        parse_duration(text)


@pytest.mark.parametrize(
    "value",
    [
        datetime(2026, 11, 3, 20, 0),  # no zone
        datetime(2026, 11, 3, 20, 0, 0, 500, tzinfo=UTC),
        datetime(1969, 1, 1, tzinfo=UTC),
        "2026-11-03T20:00:00",
        "tomorrow",
        "+",
        "+soon",
        1_800_000_000,
        True,
    ],
)
def test_what_is_no_moment_is_refused(value):
    with pytest.raises(ValueError):
        parse_moment(value)


# ---------------------------------------------------------------- what is wrong with it


@pytest.mark.parametrize(
    ("old", "new", "where", "hint"),
    [
        ('name = "Village"', "", "name", "is missing"),
        ('name = "Village"', "name = 3", "name", "must be the election's name"),
        ("practice = false", 'practice = "no"', "practice", "true or false"),
        ("practice = false", "practice = false\npractise = true", "practise", "is not known here"),
        ('engine = "anvil"', 'engine = "geth"', "chain.engine", "anvil or cometbft"),
        ('rule = "one-of-k"', 'rule = "stv"', 'contests "contest-1": rule', "one-of-k, approval, up-to-L"),
        ('rule = "one-of-k"', 'rule = "one-of-k"\nlimit = 1', 'contests "contest-1": limit', "must be 0"),
        ('rule = "one-of-k"', 'rule = "one-of-k"\nlimit = true', 'contests "contest-1": limit', "must be the most options"),
        ('options = ["Ann", "Ben", "blank"]', 'options = ["Ann"]', 'contests "contest-1": options', "2 to 100"),
        ('options = ["Ann", "Ben", "blank"]', 'options = ["Ann", 2]', 'contests "contest-1": options', "a list of texts"),
        ('contests = ["contest-1"]', 'contests = ["contest-2"]', 'styles "all": contests', "'contest-2' is no contest id"),
        ('contests = ["contest-1"]', "contests = []", "styles", "at least one"),
        ('parent = "Village"', 'parent = "Town"', 'units "North": parent', "'Town' is no earlier unit"),
        ('parent = "Village"', 'parent = "South"', 'units "North": parent', "'South' is no earlier unit"),
        ('parent = "Village"', 'parent = "North"', 'units "North": parent', "'North' is no earlier unit"),
        ('parent = "Village"\nstyle = "all"\n\n[[units]]', 'style = "all"\n\n[[units]]', 'units "North": parent', "only the first unit has none"),
        ('style = "all"\n\n[[units]]', "\n[[units]]", 'units "North": style', "leaf units have a style"),
        ('level = "whole"', 'level = "whole"\nstyle = "all"', 'units "Village": style', "inner units have"),
        ('name = "South"', 'name = "North"', 'units "North": name', "is taken"),
        ('unit = "North"', 'unit = "Village"', 'stations "Station 0": unit', "leaf unit"),
        ('unit = "North"', 'unit = ""', 'stations "Station 0": unit', "write one of Village, North, South"),
        ('unit = "North"', 'unit = "East"', 'stations "Station 0": unit', "write one of Village, North, South"),
        ('kind = "cosigner"', 'kind = "co-signer"', 'roles "cosigner": kind', "cosigner"),
        ('key = "0707', 'key = "07', 'roles "authority": key', "32 bytes of lower-case hex"),
        ("trustees = 2", "trustees = 4", "thresholds.trustees", "number of trustees"),
        ("data_holders = 0", "data_holders = 1", "thresholds.data_holders", "number of data holders"),
        ('close = "+10m"', 'close = "10m"', "windows: close", "must be a time with its zone"),
        ('close = "+10m"', "", "windows: close", "is missing"),
        ('close = "+10m"', 'close = "+0s"', "windows", "open_not_before < close"),
        ('append_grace = "20s"', 'append_grace = "+20s"', "windows: append_grace", 'a duration like "10m"'),
        ('append_grace = "20s"', 'append_grace = "2m"', "windows", "append_grace <= settle_not_before"),
        ('revote = "last"', 'revote = "best"', "rules.revote", "last or first"),
        ("minimum_ballots = 10", "minimum_ballots = -1", "rules", "not negative"),
        ('body_mode = "calldata"', 'body_mode = "hash"', "thresholds.data_holders", "1 in hash mode"),
        ("[rules]", "[rules", "is not TOML", ""),
    ],
)  # fmt: skip
def test_one_wrong_thing_is_named_with_what_to_write_instead(old, new, where, hint):
    problems = refused(changed(old, new))
    assert len(problems) == 1
    assert problems[0].startswith(where) and hint in problems[0]


def test_everything_that_is_wrong_is_named_at_once():
    text = (
        TEXT.replace('rule = "one-of-k"', 'rule = "stv"')
        .replace("trustees = 2", "trustees = 9")
        .replace('revote = "last"', 'revote = "x"')
    )
    text = (
        text.replace('close = "+10m"', 'close = "+0s"')
        .replace('engine = "anvil"', 'engine = "x"')
        .replace('level = "whole"', 'level = "whole"\nstyle = "all"')
    )
    starts = [
        "chain.engine",
        "rules.revote",
        'contests "contest-1": rule',
        "thresholds.trustees",
        "windows",
        'units "Village": style',
    ]
    problems = refused(text)
    assert len(problems) == len(starts) and all(p.startswith(s) for p, s in zip(problems, starts, strict=True)), (
        problems
    )


def test_a_mistyped_address_is_caught_by_its_checksum():
    address = accounts_of(PLAN)["trustee-1"].address
    typo = next(c for c in "0123456789" if c != address[-1])
    [problem] = refused(changed(address, address[:-1] + typo))
    assert problem.startswith('roles "trustee-1": address') and "checksum" in problem
    # The same address without a checksum is taken as it stands.
    config = parse_config(changed(address, address.lower()), NOW)
    assert config.members["roles"] == CONFIG.members["roles"]


def test_one_hand_has_one_role():
    accounts = accounts_of(PLAN)
    [problem] = refused(changed(accounts["registrar"].address, accounts["authority"].address))
    assert problem.startswith("roles:") and "distinct" in problem


def test_addresses_that_are_still_to_be_filled_in_are_all_named():
    problems = refused(config_text(PLAN, {}))
    named = [f'roles "{name}": address' for _, name in PLAN.role_names()]
    assert all(any(problem.startswith(name) for problem in problems) for name in named)
    assert any(problem.startswith('roles "relayer-1": key') and "relayer init" in problem for problem in problems)


def test_officers_of_one_person_are_refused():
    accounts = accounts_of(PLAN)
    [problem] = refused(changed(accounts["station-0-officer-2"].address, accounts["station-0-officer-1"].address))
    assert problem.startswith('stations "Station 0": officers') and "two distinct" in problem


@given(st.binary(max_size=200))
def test_no_text_crashes_the_parser(data):
    try:
        parse_config(data.decode("utf-8", "replace"), NOW)
    except ConfigError as error:
        assert error.problems


VALUES = (
    "1", "-1", "1.5", "99999999999999999999999", "true", '""', '"x"', "[]", "[1]", '[""]', '["x"]', "{}", "{a = 1}", "1979-05-27", "07:32:00", "[[]]", "inf",
)  # fmt: skip


@pytest.mark.parametrize("value", VALUES)
def test_no_value_of_another_type_or_size_crashes_the_parser(value):
    lines = TEXT.splitlines()
    for number, line in enumerate(lines):
        if " = " in line and not line.startswith("#"):
            changed_line = f"{line.split(' = ')[0]} = {value}"
            try:
                parse_config("\n".join([*lines[:number], changed_line, *lines[number + 1 :]]), NOW)
            except ConfigError as error:
                assert error.problems


def test_a_file_that_is_not_there_or_not_text_is_one_line(tmp_path):
    with pytest.raises(BallotboardError, match="election new"):
        read_config(tmp_path / "election.toml")
    (tmp_path / "election.toml").write_bytes(b"name = \xff")
    with pytest.raises(ConfigError, match="not UTF-8 at byte 7"):
        read_config(tmp_path / "election.toml")


# ---------------------------------------------------------------- plans


@pytest.mark.parametrize("rule", RULE_NAMES)
def test_a_plan_of_any_rule_gives_a_file_that_can_be_published(rule):
    plan = replace(PLAN, rule=rule, limit=2 if rule == "up-to-L" else 0, stations=3, verifiers=2)
    config = config_of(plan, accounts_of(plan))
    manifest = config.manifest(31337, bytes(32), NOW)
    assert manifest.contests[0].rule == RULE_NAMES[rule]
    assert [station.unit for station in config.stations] == [1, 2, 1]
    assert manifest.verifier_threshold == 1


def test_a_plan_without_units_has_one_where_everyone_votes():
    config = config_of(replace(PLAN, units=()), accounts_of(PLAN))
    assert config.units == (Unit("whole", "Village", -1, 0),)


def test_a_plan_with_an_unknown_rule_is_refused():
    with pytest.raises(BallotboardError, match="no rule 'stv'"):
        config_text(replace(PLAN, rule="stv"), HANDS)


def test_the_poll_is_open_as_long_as_was_asked_after_the_time_for_setting_up():
    windows = parse_config(
        config_text(Plan("x", "y", ("a", "b"), stations=0, verifiers=0, setup_minutes=7, voting_minutes=60), HANDS), NOW
    ).windows
    assert windows["close"] == Moment(67 * 60, relative=True)


# ---------------------------------------------------------------- a tree in a file of its own

TREE = """id,parent,level,name,style
w2,york,ward,Ward 1,
land,,land,Land,
york,land,county,York,
kent,land,county,Kent,
w1,kent,ward,Ward 1,
"""


def with_tree(tmp_path, tree: str = TREE, place: str = "York/Ward 1", name: str = "units.csv") -> str:
    """The text of an election whose units are in a file."""
    (tmp_path / name).write_text(tree)
    text = config_text(replace(PLAN, units=(), units_file=tmp_path / name), HANDS)
    assert 'unit = "York/Ward 1"' in text and "[[units]]\nlevel" not in text
    return text.replace('unit = "York/Ward 1"', f'unit = "{place}"')


def test_a_unit_tree_of_any_depth_may_stand_in_a_file_of_its_own(tmp_path):
    config = parse_config(with_tree(tmp_path), NOW, folder=tmp_path)
    assert config.units == (
        Unit("land", "Land", -1, -1), Unit("county", "York", 0, -1), Unit("ward", "Ward 1", 1, 0),
        Unit("county", "Kent", 0, -1), Unit("ward", "Ward 1", 3, 0),
    )  # fmt: skip
    assert (config.stations[0].unit, config.members["rules"]["decrypt_level"]) == (2, 1)
    assert config.manifest(31337, bytes(32), NOW).units.count == 5


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("w1,kent", "w1,kemt", "units.csv, line 6: Ward 1 (w1) is an orphan: no line has the id 'kemt'"),
        ("york,land", "york,w2", "units.csv, line 2: Ward 1 (w2) is its own ancestor: Ward 1 → York → Ward 1"),
        ("w1,kent,", "w2,kent,", "line 6: Ward 1 (w2) has two parents: 'york' (line 2) and 'kent'"),
        ("kent,ward,Ward 1,", "kent,ward,Ward 1,old", "line 6: Ward 1 (w1): there is no style 'old': write one of all"),
        ("id,", "number,", "the header needs the columns id"),
    ],
)
def test_a_wrong_line_of_the_units_file_is_named(tmp_path, old, new, problem):
    text = with_tree(tmp_path)
    (tmp_path / "units.csv").write_text(TREE.replace(old, new, 1))
    with pytest.raises(ConfigError) as error:
        parse_config(text, NOW, folder=tmp_path)
    [found] = error.value.problems
    assert found.startswith("units_file: ") and problem in found


def test_a_units_file_that_is_not_there_or_stands_beside_units_is_named(tmp_path):
    text = with_tree(tmp_path)
    with pytest.raises(ConfigError, match=r"units: stand in units_file already"):
        parse_config(text + '\n[[units]]\nlevel = "x"\nname = "y"\n', NOW, folder=tmp_path)
    (tmp_path / "units.csv").unlink()
    with pytest.raises(ConfigError) as error:
        parse_config(text, NOW, folder=tmp_path)
    [found] = error.value.problems
    assert "cannot read" in found and "in the folder of this file" in found


@pytest.mark.parametrize("place", ["Ward 1", "York", "w2"])
def test_a_station_s_unit_must_be_named_so_that_only_one_is_meant(tmp_path, place):
    with pytest.raises(ConfigError, match=f"{place!r} is no unit where people vote: write one of York/Ward 1, Land"):
        parse_config(with_tree(tmp_path, place=place), NOW, folder=tmp_path)


def test_a_new_election_takes_its_units_file_along(tmp_path):
    (tmp_path / "tree.csv").write_text(TREE)
    path = new_election(tmp_path / "new", replace(PLAN, units=(), units_file=tmp_path / "tree.csv"))
    (tmp_path / "tree.csv").unlink()
    with pytest.raises(ConfigError) as error:  # addresses and keys are still to come, and nothing else
        read_config(path)
    assert not [
        problem for problem in error.value.problems if "address" not in problem and "relayer init" not in problem
    ]
    with pytest.raises(BallotboardError, match="not both"):
        config_text(replace(PLAN, units_file=path.with_name("tree.csv")), HANDS)
