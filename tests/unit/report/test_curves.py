import json
import sys

import pytest
from PIL import Image

from mtlkit.errors import MissingError
from mtlkit.evaluation import Direction
from mtlkit.report.curves import (
    Curve,
    _families,
    _panels,
    _spans_widely,
    draw_curves,
    read_curves,
)

DIRECTIONS = {
    "depth/abs_err": Direction("m", False),
    "depth/delta1": Direction("", True),
    "depth/rmse": Direction("m", False),
}


def line(step, split, **metrics):
    named = {name.replace("__", "/"): value for name, value in metrics.items()}
    return json.dumps({"step": step, "epoch": 1, "split": split, "metrics": named}) + "\n"


def write(folder, text):
    (folder / "metrics.jsonl").write_text(text, encoding="utf-8")


def test_curves_of_losses_and_metrics_are_drawn_beside_the_file(tmp_path):
    text = "".join(line(s, "train", loss__total=2 / s, loss__a_to_b__xtc=1.0) for s in (1, 2, 3))
    write(tmp_path, text + line(3, "val", loss__total=0.7, depth__abs_err=0.1, depth__delta1=0.9))
    assert draw_curves(tmp_path, DIRECTIONS) == tmp_path / "curves.png"
    with Image.open(tmp_path / "curves.png") as picture:
        assert picture.format == "PNG"
        assert picture.width > picture.height
    assert sorted(file.name for file in tmp_path.iterdir()) == ["curves.png", "metrics.jsonl"]


@pytest.mark.parametrize(
    "text",
    [
        line(1, "train", loss__total=0.0),
        line(1, "train", loss__total=3.0),
        line(1, "val", loss__total=-3.0),
        line(1, "val", depth__abs_err=0.0),
        line(1, "train", loss__total=1e-9) + line(2, "train", loss__total=1e9),
        line(1, "train", loss__total=5.0) + line(1, "val", loss__total=5.0),
    ],
)
def test_few_points_are_drawn_without_a_warning(tmp_path, text):
    write(tmp_path, text)
    assert draw_curves(tmp_path) is not None


@pytest.mark.parametrize(
    "text", ["", "\n", '{"step": 1, "ep', '{"step": 1, "epoch": 1, "split": "val", "metrics": {}}']
)
def test_nothing_is_drawn_where_nothing_was_logged(tmp_path, text):
    write(tmp_path, text)
    assert draw_curves(tmp_path) is None
    assert not (tmp_path / "curves.png").exists()


def test_nothing_is_drawn_in_a_folder_without_metrics(tmp_path):
    assert draw_curves(tmp_path) is None


def test_nothing_is_drawn_without_matplotlib(tmp_path, monkeypatch):
    write(tmp_path, line(1, "train", loss__total=1.0))
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    assert draw_curves(tmp_path) is None


def test_pyplot_is_not_touched(tmp_path):
    write(tmp_path, line(1, "train", loss__total=1.0))
    before = "matplotlib.pyplot" in sys.modules
    draw_curves(tmp_path)
    assert ("matplotlib.pyplot" in sys.modules) == before


def test_curves_that_cannot_be_written_say_what_to_do(tmp_path):
    write(tmp_path, line(1, "train", loss__total=1.0))
    (tmp_path / "curves.png").mkdir()
    with pytest.raises(MissingError, match=r"curves\.png: cannot write the curves .*Free some"):
        draw_curves(tmp_path)
    assert not list(tmp_path.glob("*.part"))


def test_torn_lines_and_numbers_that_are_none_are_left_out(tmp_path):
    bad = '{"step": 2, "epoch": 1, "split": "train", "metrics": {"loss/total": NaN}}\n[]\n3\n{"st'
    write(tmp_path, line(1, "train", loss__total=1.0) + bad)
    curves = read_curves(tmp_path / "metrics.jsonl")
    assert {key: (c.steps, c.values) for key, c in curves.items()} == {
        ("train", "loss/total"): ([1], [1.0])
    }


def test_metrics_of_one_task_share_a_panel_if_unit_and_direction_agree():
    panels = _families(["depth/abs_err", "depth/delta1", "depth/rmse"], DIRECTIONS)
    assert [(p.title, p.unit, list(p.names.values())) for p in panels] == [
        ("depth ↓", "m", ["abs_err", "rmse"]),
        ("depth ↑", "", ["delta1"]),
    ]


def test_metrics_of_one_task_share_a_panel_without_directions():
    panels = _families(["a/x", "b/x", "a/y"], {})
    assert [(p.title, list(p.names.values())) for p in panels] == [("a", ["x", "y"]), ("b", ["x"])]


def test_losses_come_first_with_the_total_ahead_and_edges_apart(tmp_path):
    text = line(
        1, "train", loss__a=1.0, loss__a__direct=1.0, loss__a_to_b__xtc=1.0, loss__total=1.0
    )
    write(tmp_path, text + line(1, "train", speed__images_per_second=9.0))
    panels = _panels(read_curves(tmp_path / "metrics.jsonl"), {})
    assert [list(panel.names.values()) for panel in panels] == [["total", "a"], ["a → b (xtc)"]]


def test_many_losses_of_edges_have_a_panel_for_each_task_that_they_lead_into():
    ends = [(a, b) for a in "abc" for b in "abc" if a != b]
    names = [f"loss/{a}_to_{b}/xtc" for a, b in ends]
    curves = {("val", name): Curve([1], [1.0]) for name in names}
    assert [panel.title for panel in _panels(curves, {})] == ["edge and auxiliary losses ↓"]
    others = {("val", name): Curve([1], [1.0]) for name in ("loss/a_to_b_to_a/xtc", "loss/b/l2")}
    panels = {panel.title: set(panel.names.values()) for panel in _panels(curves | others, {})}
    assert panels == {
        "edge losses into a ↓": {"b → a (xtc)", "c → a (xtc)", "a → b → a (xtc)"},
        "edge losses into b ↓": {"a → b (xtc)", "c → b (xtc)"},
        "edge losses into c ↓": {"a → c (xtc)", "b → c (xtc)"},
        "auxiliary losses ↓": {"b (l2)"},
    }


def test_a_log_scale_is_for_positive_values_of_unlike_size():
    assert _spans_widely([[1.0, 2.0], [30.0]])
    assert not _spans_widely([[1.0, 2.0]])
    assert not _spans_widely([[0.0, 20.0]])
