"""What was measured, in words and as a picture."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import mtlkit
from mtlkit.actions import results
from mtlkit_plugins.commands._affinity.chart import Chart, Reading
from mtlkit_plugins.commands._affinity.picture import HARM, HELP, draw_graph
from mtlkit_plugins.commands._affinity.report import print_report, write_json

EDGES = [
    {"from": "segmentation", "to": "depth", "type": "xtc"},
    {"from": "depth", "to": "segmentation", "type": "xtc"},
    {"from": "segmentation", "to": "depth", "type": "alignment"},
    {"from": "depth", "to": "normals", "type": "xtc"},
    {"from": "segmentation", "to": "normals", "type": "xtc"},
    {"path": ["segmentation", "depth", "normals"], "type": "xtc"},
    {"path": ["depth", "segmentation", "depth"], "type": "xtc"},
]


@pytest.fixture
def chart(tiny: Path) -> Chart:
    """Three tasks; edges that help, harm, are unclear, move nothing, and were never measured."""
    tasks = {"segmentation": {"classes": 7}, "depth": {}, "normals": {}}
    recipe = mtlkit.load_recipe(tiny, {"edges": EDGES, "tasks": tasks}, blocked=["progress"])
    chart = Chart(recipe, warm_up=100, between=5, images=1)
    means = [0.001, -0.002, 0.0, None, 0.0001, 0.003, 0.0005]
    for edge, mean in zip(chart.edges, means, strict=True):
        if mean is not None:
            still = mean == 0
            spread = 0.0 if still else 0.0002
            chart.readings[edge.key] = [
                Reading({"depth": mean + x}, {"depth": 0.5}, still) for x in (-spread, spread)
            ]
    chart.own = [Reading({"depth": 0.001}), Reading({"depth": 0.003})]
    return chart


def test_cells_tell_edges_apart_that_join_the_same_tasks(chart, capsys, monkeypatch) -> None:
    monkeypatch.setattr(results, "width", 120)
    print_report(chart)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["segmentation", "–", "xtc:", "+1.000", "±0.200", "+0.100", "±0.200"] in lines
    assert ["alignment:", "moves", "nothing", "via", "depth:", "+3.000", "±0.200"] in lines
    # a cycle stands where its row meets its column
    row = ["depth", "-2.000", "±0.200", "via", "segmentation:", "+0.500", "±0.200", "no", "label"]
    assert row in lines
    assert ["depth", "→", "normals", "(xtc)", "–", "–", "–"] in lines
    assert "+2.000 ±1.000" in " ".join(lines[3])


def test_helps_are_green_and_harms_red_on_a_terminal(chart, capsys, monkeypatch) -> None:
    monkeypatch.setattr(results, "width", 120)
    monkeypatch.setattr(results, "_color_system", 1)  # as of a terminal; public only when made
    print_report(chart)
    out = capsys.readouterr().out
    assert "\x1b[1;32m+1.000 ±0.200" in out and "\x1b[1;31m-2.000 ±0.200" in out
    assert "\x1b[2m+0.100 ±0.200" in out


def test_what_was_never_measured_is_null(chart, tmp_path) -> None:
    write_json(chart, tmp_path / "a.json")
    found = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    by_hops = {(*edge["hops"], edge["type"]): edge for edge in found["edges"]}
    silent = by_hops["depth", "normals", "xtc"]
    assert silent["effect"] == {"mean": None, "error": None} and not silent["helps"]
    assert by_hops["segmentation", "depth", "alignment"]["moves_nothing"]
    assert by_hops["segmentation", "depth", "xtc"]["cosine"]["depth"]["mean"] == 0.5


def colours(path: Path) -> set[str]:
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    return {"#{:02x}{:02x}{:02x}".format(*x) for x in np.unique(pixels, axis=0)}


def test_arrows_have_the_colour_of_their_effect(chart, tmp_path) -> None:
    assert draw_graph(chart, tmp_path / "g.png") == tmp_path / "g.png"
    assert {HELP, HARM} <= colours(tmp_path / "g.png")
    chart.readings = {key: x for key, x in chart.readings.items() if x[0].effect > 0}
    draw_graph(chart, tmp_path / "h.png")
    assert HELP in colours(tmp_path / "h.png") and HARM not in colours(tmp_path / "h.png")


def test_nothing_is_drawn_without_matplotlib(chart, tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    assert draw_graph(chart, tmp_path / "g.png") is None and not list(tmp_path.glob("g.png"))


def test_a_graph_of_many_edges_is_larger(chart, tmp_path, monkeypatch) -> None:
    draw_graph(chart, tmp_path / "few.png")
    monkeypatch.setattr("mtlkit_plugins.commands._affinity.picture.MANY", 3)
    draw_graph(chart, tmp_path / "many.png")
    with Image.open(tmp_path / "few.png") as few, Image.open(tmp_path / "many.png") as many:
        assert many.width > few.width
