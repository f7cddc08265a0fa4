"""Every task that ships in one run: all of them learn, together and on few labels."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest
import torch

import mtlkit

MAPS = ("segmentation", "depth", "normals", "boundary", "reconstruction")
TASKS = {
    **{name: {} for name in MAPS},
    "segmentation": {"classes": 7},
    "weather": {"type": "classification", "classes": 3},
}
EDGES = [
    {"from": source, "to": target, "type": "xtc", "weight": 0.01, "widths": [4, 8]}
    for source, target in itertools.permutations(MAPS, 2)
]


def recipe_of(tiny: Path, **settings: object) -> mtlkit.Recipe:
    tasks = {name: dict(fields) for name, fields in TASKS.items()}
    chosen = {"tasks": tasks, "edges": [dict(edge) for edge in EDGES]}
    more = {key.replace("__", "."): value for key, value in settings.items()}
    return mtlkit.load_recipe(tiny, {**chosen, **more}, blocked=["progress"])


@pytest.mark.parametrize("share", [1.0, 0.3])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_run_of_all_tasks_finishes_and_reports_every_metric(
    tiny: Path, tmp_path: Path, share: float, precision: str
) -> None:
    few = {"mode": "random_share", "share": share}
    recipe = recipe_of(tiny, data__labels_per_image=few, train__precision=precision)
    outcome = mtlkit.Run(recipe, out=tmp_path).fit()
    assert outcome.status == "done"
    assert {name.partition("/")[0] for name in outcome.last} == {*TASKS, "loss"}
    assert all(math.isfinite(value) for value in outcome.last.values())
    names = ("normals/mean_angle", "boundary/f", "reconstruction/psnr", "weather/accuracy")
    assert set(names) <= outcome.last.keys()


@pytest.mark.parametrize(("workers", "cache"), [(0, "none"), (0, "ram"), (2, "disk")])
def test_a_class_per_image_is_a_vector_of_the_batch_kept_and_in_workers_too(
    tiny: Path, tmp_path: Path, workers: int, cache: str
) -> None:
    recipe = recipe_of(tiny, loader__workers=workers, loader__cache=cache, edges=[])
    samples = recipe.sets[0].build_split("val", frozenset({"weather"}))
    loader = mtlkit.Run(recipe, out=tmp_path).loader("val")[0]
    for _ in range(2):  # made, then kept
        labels = [batch.labels["weather"] for batch in loader]
        assert [(x.value.shape, x.valid.shape) for x in labels] == [((2,), (2,)), ((1,), (1,))]
        assert all(x.value.dtype == torch.int64 and x.valid.all() for x in labels)
        found = torch.cat([x.value for x in labels]).tolist()
        assert found == [int(samples[i]["weather"]) for i in range(3)] and len(set(found)) > 1


def test_every_loss_falls_on_four_scenes(tiny: Path, tmp_path: Path) -> None:
    flat = {"flip": 0.0, "scale_crop": [1.0]}
    settings = {"data__train": 4, "data__augment": flat, "loader__batch_size": 4}
    recipe = recipe_of(tiny, **settings, optimizer__lr=0.01, weighting={"type": "equal"})
    run = mtlkit.Run(recipe, out=tmp_path)
    (batch,) = run.loader("train")[0]
    losses = [run.step(batch).tasks for _ in range(40)]
    first, last = losses[0], losses[-1]
    assert set(first) == set(TASKS)
    assert [name for name in TASKS if not last[name] < 0.8 * first[name]] == []
