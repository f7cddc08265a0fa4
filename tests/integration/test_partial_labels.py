"""Whole runs on training sets where images lack labels: 25 %, 50 %, one label per image, none."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

import mtlkit

CHOICES = {
    "a quarter": {"mode": "random_share", "share": 0.25},
    "half": {"mode": "random_share", "share": 0.5},
    "one label per image": {"mode": "random_one", "seed": 3},
}
EDGES = "[{from: all, to: all, type: xtc, where: everywhere, weight: 0.05, widths: [4, 8]}]"
SCENES = {"size": [32, 64], "train": 12, "val": 3}


@pytest.mark.parametrize("weighting", ["equal", "uncertainty", "dwa"])
@pytest.mark.parametrize("choice", CHOICES.values(), ids=list(CHOICES))
@pytest.mark.parametrize(("scenes", "classes"), [("streets", 7), ("rooms", 13)])
def test_a_run_with_partial_labels_finishes_and_reports_every_metric(
    tiny: Path, tmp_path: Path, scenes: str, classes: int, choice: dict[str, object], weighting: str
) -> None:
    settings = {
        "data": {"type": scenes, **SCENES, "labels_per_image": choice},
        "tasks.segmentation.classes": classes,
        "edges": EDGES,
        "weighting": {"type": weighting},
        "loader.batch_size": 2,  # so that some batches lack a label altogether
        "train.epochs": 2,
    }
    run = mtlkit.Run(mtlkit.load_recipe(tiny, settings), out=tmp_path)
    batches = list(run.loader("train")[0])
    assert any(set(batch.labels) != {"segmentation", "depth"} for batch in batches)
    assert run.notes == []
    outcome = run.fit()
    assert outcome.status == "done"
    for name in ("segmentation/miou", "depth/abs_err", "loss/total"):
        assert math.isfinite(outcome.last[name])


def test_two_data_sets_labelled_for_other_tasks_train_together(tiny: Path, tmp_path: Path) -> None:
    data = [
        {"type": "streets", **SCENES, "labels": ["segmentation"], "ratio": 3},
        {"type": "rooms", **SCENES, "labels": ["depth"], "ratio": 1},
    ]
    settings = {"data": data, "edges": EDGES, "loader.batch_size": 4, "train.epochs": 1}
    run = mtlkit.Run(mtlkit.load_recipe(tiny, settings), out=tmp_path)
    for batch in run.loader("train")[0]:
        assert batch.rows == {"streets": slice(0, 3), "rooms": slice(3, 4)}
        assert not batch.labels["segmentation"].valid[3:].any()
        assert not batch.labels["depth"].valid[:3].any()
    outcome = run.fit()
    assert outcome.status == "done"
    assert {"segmentation/miou", "depth/abs_err"} <= outcome.last.keys()
