"""Unit trees: what a file may say, what an attachment may say, and that the wrong unit is named."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.attachments import Unit, parse_units
from protocol.encoding import canonical_json, parse_json
from protocol.errors import BallotboardError, Malformed
from rollup.tree import TreeError, read_tree
from tests.rollup.world import UNITS, plan

HEADER = "id,parent,level,name,style\n"
GOOD = ["n,,nation,Nation,", "s,n,state,Idaho,", "a,s,county,Ada,0", "b,s,county,Boise,1", "d,n,district,D.C.,0"]


def write(tmp_path, lines):
    path = tmp_path / "units.csv"
    path.write_text(HEADER + "\n".join(lines) + "\n")
    return path


def test_a_tree_of_any_depth_comes_out_in_the_order_that_the_attachment_wants(tmp_path):
    units, numbers = read_tree(write(tmp_path, list(reversed(GOOD))))
    assert [unit.name for unit in units] == ["Nation", "D.C.", "Idaho", "Boise", "Ada"]
    assert parse_units([unit.row() for unit in units], 2) == units
    assert numbers == {"n": 0, "d": 1, "s": 2, "b": 3, "a": 4}
    deep = ["0,,level,Unit 0,", *(f"{i},{i - 1},level,Unit {i}," for i in range(1, 3000))]
    units, _ = read_tree(write(tmp_path, deep))
    assert units[-1] == Unit("level", "Unit 2999", 2998, 0)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({1: "s,a,state,Idaho,"}, r"Idaho \(s\) is its own ancestor: Idaho → Ada → Idaho"),
        ({1: "s,s,state,Idaho,"}, r"Idaho \(s\) is its own ancestor: Idaho → Idaho"),
        ({2: "a,zz,county,Ada,0"}, r"line 4: Ada \(a\) is an orphan: no line has the id 'zz'"),
        ({4: "a,n,county,Ada,0"}, r"line 6: Ada \(a\) has two parents: 's' \(line 4\) and 'n'"),
        ({4: "a,s,county,Ada,0"}, r"line 6: Ada \(a\) is in line 4 already"),
        ({4: "m,,nation,Other,"}, r"line 6: Other \(m\) is a second root"),
        ({0: "n,s,nation,Nation,"}, r"Nation \(n\) is its own ancestor"),
        ({1: "s,n,state,Idaho,1"}, r"Idaho \(s\) has units below it and a style"),
        ({2: "a,s,county,Ada,x"}, r"line 4: Ada \(a\): the style 'x' is not a number"),
        ({2: "a,s,county,,0"}, "line 4: a unit needs an id and a name"),
        ({2: "a,s,county"}, "line 4: has not as many fields as the header"),
        ({2: 'a,s,county,"Ada"x,0'}, "line 4: ',' expected after"),
    ],
)
def test_what_is_no_tree_is_refused_by_name(tmp_path, change, reason):
    lines = [change.get(i, line) for i, line in enumerate(GOOD)]
    with pytest.raises(TreeError, match=reason):
        read_tree(write(tmp_path, lines))


def test_a_style_may_be_named_where_styles_have_names(tmp_path):
    named = [line.replace(",0", ",all").replace(",1", ",town") for line in GOOD]
    assert read_tree(write(tmp_path, named), ["all", "town"]) == read_tree(write(tmp_path, GOOD))
    with pytest.raises(TreeError, match=r"line 5: Boise \(b\): there is no style 'town': write one of all"):
        read_tree(write(tmp_path, named), ["all"])
    with pytest.raises(TreeError, match=r"line 4: Ada \(a\) has no style: write one of all, town"):
        read_tree(write(tmp_path, [*named[:2], "a,s,county,Ada,", *named[3:]]), ["all", "town"])


def test_a_file_of_json_lines_says_the_same_as_a_csv_file(tmp_path):
    keys = HEADER.strip().split(",")
    lines = [json.dumps(dict(zip(keys, line.split(","), strict=True))) for line in GOOD]
    path = tmp_path / "units.jsonl"
    path.write_text("\n".join(lines))
    assert read_tree(path) == read_tree(write(tmp_path, GOOD))
    for line, why in (
        ("{", "is not JSON"),
        ("[]", "an object"),
        ('{"id": 1}', "of texts"),
        ('{"id": "x"}', "lacks level, name"),
    ):
        path.write_text("\n".join([*lines[:2], line]))
        with pytest.raises(TreeError, match=f"line 3: .*{why}"):
            read_tree(path)


def test_a_file_without_its_columns_or_units_is_refused(tmp_path):
    with pytest.raises(TreeError, match="no units"):
        read_tree(write(tmp_path, []))
    path = tmp_path / "other.csv"
    path.write_text("id,name\n1,A\n")
    with pytest.raises(TreeError, match="level, parent"):
        read_tree(path)
    with pytest.raises(BallotboardError, match="cannot read"):
        read_tree(tmp_path / "nowhere.csv")


@pytest.mark.parametrize(
    ("number", "parent", "reason"),
    [
        (3, 3, "'Ada 1' is its own parent: a cycle"), (3, 5, "'Ada 1' has the later unit 5 as parent: a cycle"),
        (3, 99, "'Ada 1' is an orphan: there is no unit 99"), (3, -1, "'Ada 1' is a second root"), (0, 1, "'Cascadia' is unit 0, the root"),
    ],
)  # fmt: skip
def test_an_attachment_that_is_no_tree_is_refused_by_name(number, parent, reason):
    units = list(UNITS)
    units[number] = Unit(units[number].level, units[number].name, parent, units[number].style)
    with pytest.raises(Malformed, match=reason):
        parse_units([unit.row() for unit in units], 2)


@given(st.text(), st.text(), st.integers(-3, 10**12), st.integers(-3, 10**12))
def test_the_fast_reading_of_a_row_agrees_with_the_strict_one(level, name, parent, style):
    try:
        row = canonical_json({"level": level, "name": name, "parent": parent, "style": style})
    except Malformed:
        return
    value = parse_json(row)
    root = canonical_json({"level": level, "name": name, "parent": -1, "style": 0})
    assert parse_units([root], 1) == [Unit(level, name, -1, 0)]
    try:
        assert parse_units([Unit("n", "N", -1, -1).row(), row], 1)[1] == Unit(**value)
    except Malformed:
        assert (parent, style) != (0, 0)


@given(st.binary(max_size=30), st.integers(0, 60))
def test_a_row_that_is_not_canonical_is_refused(junk, at):
    row = Unit("town", "Ålesund", -1, 0).row()
    changed = row[:at] + junk + row[at:]
    if junk:
        try:
            assert canonical_json(parse_json(changed)) == changed
            parse_units([changed], 1)
        except Malformed:
            with pytest.raises(Malformed):
                parse_units([changed], 1)


def test_a_plan_knows_what_is_below_each_unit():
    made = plan()
    assert [list(made.children(unit)) for unit in (0, 1, 2, 7)] == [[1, 2, 7], [3, 4], [5, 6], []]
    assert [made.leaves(unit) for unit in range(8)] == [5, 2, 2, 1, 1, 1, 1, 1]
    assert [made.layout(unit) for unit in (0, 3, 4)] == [((0, 1), (1, 4)), ((0, 1), (1, 4)), ((1, 4),)]
    assert made.inner_below(0)[-1] == 0 and sorted(made.inner_below(0)) == [0, 1, 2]
    assert made.name(5) == "Baker 1, Baker" and made.unit("Ada 2") == 4


def test_a_plan_is_read_back_as_it_was_and_its_files_are_those_it_names(tmp_path):
    from rollup.plan import Plan

    made = plan()
    made.save(tmp_path)
    assert Plan.open(tmp_path) == made
    for name, reason in (("keys", "not the one that the plan names"), ("units", "SHA-256")):
        data = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        with pytest.raises(Malformed, match=reason):
            Plan.open(tmp_path)
        (tmp_path / name).write_bytes(data)
    (tmp_path / "plan.json").unlink()
    with pytest.raises(BallotboardError, match="holds no plan"):
        Plan.open(tmp_path)
