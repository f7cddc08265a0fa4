"""A recipe file as data: YAML 1.2, lines, overrides and variables of the environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from mtlkit.document import MAX_BYTES, parse_document, parse_value, plugin_files, read_document
from mtlkit.errors import RecipeError, UsageError

HERE = Path("recipe.yaml")


def parsed(text, overrides=None, lenient=()):
    return parse_document(text, HERE, overrides, lenient)


def refused(text, overrides=None):
    with pytest.raises(RecipeError) as caught:
        parsed(text, overrides)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("yes", "yes"),
        ("on", "on"),
        ("true", True),
        ("1e-4", 1e-4),
        ("1.0e-4", 1e-4),
        ("5", 5),
        ("0o17", 15),
        ("017", 17),
        ("1:30", "1:30"),
        ("null", None),
        ("~", None),
        ("", None),
        ("'5'", "5"),
        (".inf", float("inf")),
        ("2024-05-06", "2024-05-06"),
        ("[1, 2]", [1, 2]),
        ("{a: {b: 1}}", {"a": {"b": 1}}),
        ("|\n  two\n  lines\n", "two\nlines\n"),
    ],
)
def test_values_are_those_of_yaml_1_2(text, value):
    found = parsed(f"key: {text}").data["key"]
    assert found == value and type(found) is type(value)


def test_keys_are_texts():
    assert parsed("1: a\nfalse: b\nnull: c").data == {"1": "a", "False": "b", "None": "c"}


NESTED = """\
name: x

tasks:
  depth:
    loss: l1   # here
  other: {type: depth,
          loss: mse}
edges:
  - from: a
    to: b

  - {from: b, to: a}
size: [1,
  2]
"""


@pytest.mark.parametrize(
    ("location", "line"),
    [
        (("name",), 1),
        (("tasks",), 3),
        (("tasks", "depth"), 4),
        (("tasks", "depth", "loss"), 5),
        (("tasks", "other", "type"), 6),
        (("tasks", "other", "loss"), 7),
        (("edges", 0), 9),
        (("edges", 0, "to"), 10),
        (("edges", 1, "to"), 12),
        (("size", 0), 13),
        (("size", 1), 14),
        (("tasks", "depth", "missing"), 4),
        (("edges", 0, "missing", "deep"), 9),
    ],
)
def test_a_fault_stands_at_the_line_of_the_nearest_key(location, line):
    fault = parsed(NESTED).fault(location, "wrong")
    assert fault.where == f"recipe.yaml:{line}"
    assert str(fault).endswith(f"{'.'.join(map(str, location))}: wrong")


def test_a_fault_without_a_known_key_names_the_file():
    assert parsed(NESTED).fault(("nothing",), "wrong").where == "recipe.yaml"


def test_a_key_that_stands_twice_is_refused_at_its_line():
    message = refused("a: 1\nb:\n  c: 1\n  c: 2\n")
    assert message.startswith("recipe.yaml:4: ") and "duplicate key" in message


@pytest.mark.parametrize(
    ("text", "line"),
    [("a: [1, 2\nb: 3", 2), ("a: 'x\n", 2), ("a: 1\n  b: 2", 2), ("\ta: 1", 1), ("a: *no", 1)],
)
def test_what_is_no_yaml_is_refused_at_its_line(text, line):
    message = refused(text)
    assert message.startswith(f"recipe.yaml:{line}: not valid YAML") and "\n" not in message


@pytest.mark.parametrize("text", ["", "5", "- a\n- b", "just a text", "a: 1\n---\nb: 2"])
def test_what_is_no_mapping_is_refused(text):
    assert refused(text).startswith("recipe.yaml")


@pytest.mark.parametrize(
    "text", ["a: !!python/object:os.system x", "a: !mine 3", "a: !mine {b: 1}"]
)
def test_tags_build_no_objects(text):
    try:
        found = parsed(text).data["a"]
    except RecipeError as error:
        assert "Remove it" in str(error)
    else:
        assert found == {"b": 1}


def test_aliases_are_written_out_and_cannot_grow_without_end():
    assert parsed("a: &x {b: 1}\nc: *x").data == {"a": {"b": 1}, "c": {"b": 1}}
    bomb = "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
        f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 9)
    )
    assert "without aliases" in refused(bomb)
    assert "without aliases" in refused(f"a: {'[' * 60}{']' * 60}")


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("name", "y", {"name": "y"}),
        ("train.epochs", "1", {"train": {"epochs": 1}}),
        ("train", "{epochs: 2}", {"train": {"epochs": 2}}),
        ("edges.1.to", "c", {"edges": [{"to": "a"}, {"to": "c"}]}),
        ("edges.0", "{from: z}", {"edges": [{"from": "z"}, {"to": "b"}]}),
        ("edges.1.weight", 0.5, {"edges": [{"to": "a"}, {"to": "b", "weight": 0.5}]}),
        ("empty.new.key", "no", {"empty": {"new": {"key": "no"}}}),
        ("fresh.a.b", "[1, x]", {"fresh": {"a": {"b": [1, "x"]}}}),
        ("name", "", {"name": None}),
        ("name", "1e-4", {"name": 1e-4}),
    ],
)
def test_overrides_change_values_lists_and_new_keys(key, value, expected):
    before = {
        "name": "x",
        "train": {"epochs": 9},
        "edges": [{"to": "a"}, {"to": "b"}],
        "empty": None,
    }
    text = "name: x\ntrain: {epochs: 9}\nedges: [{to: a}, {to: b}]\nempty:\n"
    document = parsed(text, {key: value})
    assert document.data == before | expected


def test_an_overridden_key_stands_at_set_and_so_does_all_below_it():
    document = parsed(NESTED, {"tasks.depth": "{loss: mse}"})
    assert document.fault(("tasks", "depth", "loss"), "x").where == "--set"
    assert document.fault(("tasks", "other", "loss"), "x").where == "recipe.yaml:7"


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("edges.5", "x", "no entry 5. The list has 2 entries"),
        ("edges.x.to", "x", "no entry x"),
        ("name.first", "x", "'name' holds a value and no keys"),
        ("a..b", "x", "a key is words joined by dots"),
        (".a", "x", "a key is words joined by dots"),
        ("name", "[1", "not valid YAML"),
    ],
)
def test_overrides_that_do_not_fit_name_the_setting(key, value, words):
    message = refused(NESTED, {key: value})
    assert message.startswith(f"--set {key}: ") and words in message


def test_variables_of_the_environment_are_filled_in(monkeypatch):
    monkeypatch.setenv("ROOT_A", "/data")
    monkeypatch.setenv("ROOT_B", "5")
    text = 'a: "${ROOT_A}/x/${ROOT_B}"\nb: ["${ROOT_B}"]\n"${ROOT_A}": $ROOT_A\nc: "$$ {ROOT_A}"'
    document = parsed(text)
    assert document.data == {
        "a": "/data/x/5", "b": ["5"], "${ROOT_A}": "$ROOT_A", "c": "$$ {ROOT_A}",
    }  # fmt: skip
    assert document.faults == []


def test_an_unset_variable_is_a_fault_at_its_line_unless_told(monkeypatch):
    monkeypatch.delenv("NOT_SET", raising=False)
    monkeypatch.setenv("EMPTY", "")
    text = 'name: x\ndata:\n  root: "${NOT_SET}"\nother: ["a", "${EMPTY}"]'
    faults = parsed(text).faults
    assert [(f.where, f.key) for f in faults] == [
        ("recipe.yaml:3", "data.root"),
        ("recipe.yaml:4", "other.1"),
    ]
    assert "NOT_SET" in faults[0].message and "export EMPTY" in faults[1].message
    lenient = parsed(text, lenient=["data"])
    assert [f.key for f in lenient.faults] == ["other.1"]
    assert lenient.data["data"]["root"] == "${NOT_SET}"


def test_an_override_may_hold_a_variable(monkeypatch):
    monkeypatch.setenv("ROOT_A", "/data")
    assert parsed("a: 1", {"a": "${ROOT_A}/x"}).data["a"] == "/data/x"


def test_a_value_of_the_command_line_is_yaml():
    assert parse_value("{a: [1, no]}", "--set x") == {"a": [1, "no"]}


def test_plugin_files_lie_in_the_folder_of_the_recipe(tmp_path):
    document = parse_document("plugins: [a.py, sub/b.py]", tmp_path / "recipe.yaml")
    assert plugin_files(document) == [tmp_path / "a.py", tmp_path / "sub/b.py"]
    for outside in ("../a.py", "/etc/a.py", "sub/../../a.py"):
        document = parse_document(f"plugins: [a.py, {outside}]", tmp_path / "recipe.yaml")
        with pytest.raises(RecipeError, match=r"recipe.yaml:1: plugins\.1: .* outside"):
            plugin_files(document)


def test_a_file_that_cannot_be_read_is_told_in_one_line(tmp_path):
    (tmp_path / "big.yaml").write_bytes(b"#" * (MAX_BYTES + 1))
    (tmp_path / "bytes.yaml").write_bytes(b"a: \xff\xfe")
    for name, words in (
        ("none.yaml", "no such recipe"),
        ("", "cannot be read"),
        ("big.yaml", "more than 1,000,000 bytes"),
        ("bytes.yaml", "not a text file in UTF-8"),
    ):
        with pytest.raises(UsageError, match=words) as caught:
            read_document(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_a_byte_order_mark_and_windows_lines_are_read(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_bytes("a: 1\r\nb:\r\n  c: ü\r\n".encode("utf-8-sig"))
    document = read_document(path)
    assert document.data == {"a": 1, "b": {"c": "ü"}}
    assert document.fault(("b", "c"), "x").where == f"{path}:3"


def test_overrides_leave_what_the_caller_gave_as_it_was(tmp_path):
    settings = {"train": {"epochs": 3}, "train.epochs": 5}
    document = parse_document("train: {}", tmp_path / "a.yaml", settings)
    assert document.data == {"train": {"epochs": 5}}
    assert settings == {"train": {"epochs": 3}, "train.epochs": 5}
