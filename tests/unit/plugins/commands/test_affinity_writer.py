"""The recipe that `mtlkit affinity` writes: the same text, other edges."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import mtlkit
from mtlkit.errors import MissingError, UsageError
from mtlkit_plugins.commands._affinity.chart import Chart, Reading
from mtlkit_plugins.commands._affinity.choice import Choice
from mtlkit_plugins.commands._affinity.subject import Subject
from mtlkit_plugins.commands._affinity.writer import check_target, text_of, write_new

FIXTURES = Path(__file__).parents[3] / "fixtures"
HEAD = """\
# a recipe with three tasks
name: three   # its name
plugins: [tiny_encoder.py]
data: {type: streets, size: [32, 64], train: 4, val: 2}
loader: {batch_size: 2}
encoder: {type: tiny}
architecture: {type: shared_encoder, width: 8}
tasks:
  segmentation: {classes: 7}
  depth: {loss: l1}
  normals: {}   # the last one
"""
TAIL = """\

# how losses are mixed
weighting: {type: equal}
optimizer: {type: adam, lr: 1.0e-3}
train: {epochs: 1, device: cpu}
"""
EVERY = [{"from": "all", "to": "all", "type": "xtc"}]
HELPS, HARMS = [0.002, 0.003], [-0.002, -0.003]


def written(folder: Path, edges: str, helping: set[str], tail: str = TAIL) -> str:
    """Return the text that keeps some edges, such as "depth → normals", once it has loaded."""
    shutil.copy(FIXTURES / "tiny_encoder.py", folder)
    path = folder / "three.yaml"
    path.write_text(HEAD + edges + tail, encoding="utf-8")
    settings = {} if "from: " in edges or "path: " in edges else {"edges": EVERY}
    chart = Chart(mtlkit.load_recipe(path, settings), warm_up=1, between=1)
    for edge in chart.edges:
        values = HELPS if " → ".join(edge.hops) in helping else HARMS
        chart.readings[edge.key] = [Reading({"depth": value}) for value in values]
    choice = Choice(chart)
    text = text_of(Subject(None, path, path.read_text(encoding="utf-8"), False), choice)
    (folder / "new.yaml").write_text(text, encoding="utf-8")
    loaded = mtlkit.load_recipe(folder / "new.yaml")
    assert {edge.key for edge in loaded.all_edges} == choice.kept
    before = mtlkit.load_recipe(path)
    assert loaded.model_dump(exclude={"edges"}) == before.model_dump(exclude={"edges"})
    return text


def test_a_dropped_entry_becomes_a_comment_with_its_numbers(tmp_path) -> None:
    edges = """\
edges:
  # geometry from classes
  - {from: segmentation, to: depth, type: xtc, widths: [4]}  # narrow
  # and back
  - from: depth   # begins here
    to: segmentation
    # within the entry
    type: xtc
    widths: [4]
"""
    text = written(tmp_path, edges, {"segmentation → depth"})
    assert (
        text
        == HEAD
        + """\
edges:
  # geometry from classes
  - {from: segmentation, to: depth, type: xtc, widths: [4]}  # narrow
  # and back
  # affinity: depth → segmentation harms, -2.500 ±0.500 ‰
  # - from: depth   # begins here
  #   to: segmentation
  #   # within the entry
  #   type: xtc
  #   widths: [4]
"""
        + TAIL
    )


def test_a_recipe_whose_edges_all_help_keeps_its_text(tmp_path) -> None:
    edges = "edges:\n- {from: depth, to: normals, type: xtc}\n"
    assert written(tmp_path, edges, {"depth → normals"}) == HEAD + edges + TAIL


def test_without_any_edge_that_helps_the_list_is_empty(tmp_path) -> None:
    edges = "edges:   # all of them\n- {from: depth, to: normals, type: xtc}\n"
    text = written(tmp_path, edges, set())
    assert "edges: []   # all of them\n# affinity: depth → normals harms" in text


def test_all_is_written_out_where_a_part_of_it_helps(tmp_path) -> None:
    edges = """\
edges:
  - {from: all, to: all, type: xtc, weight: 0.02, widths: [4, 8]}
  - {from: depth, to: normals, type: xtc, weight: 0.05}
"""
    text = written(tmp_path, edges, {"normals → depth", "depth → normals"})
    lines = text.removeprefix(HEAD).splitlines()
    assert lines[0] == "edges:" and len([x for x in lines if x.startswith("  # affinity: ")]) == 4
    assert [x for x in lines if not x.startswith("  #")][1:3] == [
        "  - {from: normals, to: depth, type: xtc, weight: 0.02, widths: [4, 8]}",
        "  - {from: depth, to: normals, type: xtc, weight: 0.05}",
    ]


def test_edges_in_brackets_are_written_a_line_each(tmp_path) -> None:
    edges = """\
edges: [{from: depth, to: normals, type: xtc, weight: 0.05},
        {from: normals, to: depth, type: xtc}]
"""
    text = written(tmp_path, edges, {"depth → normals"})
    assert (
        text
        == HEAD
        + """\
# edges: [{from: depth, to: normals, type: xtc, weight: 0.05},
#         {from: normals, to: depth, type: xtc}]
edges:
  - {from: depth, to: normals, type: xtc, weight: 0.05}
"""
        + TAIL
    )


def test_a_recipe_without_edges_gets_a_section_after_its_tasks(tmp_path) -> None:
    text = written(tmp_path, "", {"depth → normals", "normals → segmentation"})
    assert (
        text
        == HEAD
        + """\
edges:
  - {from: depth, to: normals, type: xtc, weight: 0.01}
  - {from: normals, to: segmentation, type: xtc, weight: 0.01}
"""
        + TAIL
    )


def test_an_empty_list_of_edges_is_filled(tmp_path) -> None:
    text = written(tmp_path, "edges: []  # none yet\n", {"depth → normals"})
    section = "edges:\n  - {from: depth, to: normals, type: xtc, weight: 0.01}\n"
    assert text == HEAD + "# edges: []  # none yet\n" + section + TAIL


def test_a_section_at_the_end_of_a_file_without_a_last_line_break(tmp_path) -> None:
    rest = TAIL.strip() + "\nedges:\n- {from: depth, to: normals, type: xtc}"
    text = written(tmp_path, rest, {"depth → normals"}, tail="")
    assert text == HEAD + rest + "\n"


def test_the_edges_that_a_path_walks_are_kept_with_it(tmp_path) -> None:
    edges = """\
edges:
  - {from: depth, to: normals, type: xtc}
  - {from: normals, to: segmentation, type: xtc}
  - {from: segmentation, to: depth, type: xtc}
  - {path: [depth, normals, segmentation], type: xtc}
"""
    text = written(tmp_path, edges, {"depth → normals → segmentation"})
    lines = text.removeprefix(HEAD).splitlines()
    assert [x for x in lines[1:8] if x.startswith("  -")] == [
        "  - {from: depth, to: normals, type: xtc}",
        "  - {from: normals, to: segmentation, type: xtc}",
        "  - {path: [depth, normals, segmentation], type: xtc}",
    ]


def subject(folder: Path, text: str = HEAD + TAIL) -> Subject:
    return Subject(None, folder / "three.yaml", text, False)


def test_what_could_not_be_written_is_told_before_anything_is_measured(tmp_path) -> None:
    (tmp_path / "there.yaml").touch()
    (tmp_path / "sub").mkdir()
    cases = [
        (tmp_path / "there.yaml", (), UsageError, "exists. Give another name"),
        (tmp_path / "no" / "new.yaml", (), MissingError, "no such folder"),
        (tmp_path / "new.yaml", ("edges.0.weight=0.1",), UsageError, "--set does not change"),
        (tmp_path / "sub" / "new.yaml", (), UsageError, "plugin files are looked for beside it"),
    ]
    for path, settings, kind, words in cases:
        with pytest.raises(kind) as caught:
            check_target(path, subject(tmp_path), settings)
        assert words in " ".join(str(caught.value).split()), path
    with pytest.raises(UsageError, match="in braces"):
        check_target(tmp_path / "new.yaml", subject(tmp_path, "{name: three, tasks: {}}"), ())
    check_target(tmp_path / "new.yaml", subject(tmp_path), ("train.epochs=2",))


def test_a_file_that_appeared_meanwhile_is_not_overwritten(tmp_path) -> None:
    (tmp_path / "new.yaml").write_text("mine", encoding="utf-8")
    with pytest.raises(UsageError, match="exists"):
        write_new(tmp_path / "new.yaml", "other")
    assert (tmp_path / "new.yaml").read_text(encoding="utf-8") == "mine"
