"""Every shipped recipe: checked, explained, and trained for two steps on rendered scenes."""

from __future__ import annotations

import io
import itertools
from pathlib import Path

import pytest
from rich.console import Console

import mtlkit
from mtlkit.check import check_recipe
from mtlkit.graph import shares
from mtlkit.listing import shipped
from mtlkit.report.explain import cost_table, explain, objective_lines

RECIPES = sorted(shipped())
SCENES = {
    "data.size": [32, 64],
    "data.train": 2,
    "data.val": 2,
    "loader.batch_size": 2,
    "loader.workers": 0,
    "loader.cache": "none",
    "train.device": "cpu",
}


STAND_INS = {  # rendered scenes in the place of files
    "cityscapes": {"data": {"type": "streets"}},
    "nyuv2": {"data": {"type": "rooms"}},
    "synthia": {"data": {"type": "streets", "classes": 16}},
    "vkitti2": {"data": {"type": "streets"}, "tasks.segmentation.classes": 7},
}


def lenient(name: str) -> mtlkit.Recipe:
    return mtlkit.load_recipe(shipped()[name], lenient=["data"])


def explained(recipe: mtlkit.Recipe) -> str:
    stream = io.StringIO()
    Console(width=100, file=stream).print(explain(recipe))
    return stream.getvalue()


def test_the_shipped_recipes_are_those_that_the_readme_promises() -> None:
    assert RECIPES == [
        "align_net_cityscapes",
        "base_mt_cityscapes",
        "base_st_depth_cityscapes",
        "base_st_segmentation_cityscapes",
        "five_tasks_streets",
        "four_tasks_nyuv2",
        "four_tasks_rooms",
        "four_tasks_streets",
        "partial_labels_streets_alignment",
        "partial_labels_streets_full",
        "partial_labels_streets_no_edges",
        "partial_labels_streets_perceptual",
        "partial_labels_streets_xtc",
        "xtascnet_cityscapes",
        "xtascnet_nyuv2",
        "xtascnet_official_cityscapes",
        "xtascnet_rooms",
        "xtascnet_streets",
        "xtascnet_synthia",
        "xtascnet_vkitti2",
    ]


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_opens_with_the_command_that_runs_it(name: str) -> None:
    first = shipped()[name].read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith("# ") and first.endswith(f"mtlkit run recipes/{name}.yaml")


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_can_be_checked_and_explained_without_data(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for data in ("CITYSCAPES", "NYUV2", "SYNTHIA", "VKITTI2"):
        monkeypatch.delenv(f"{data}_ROOT", raising=False)
    recipe = lenient(name)
    check_recipe(recipe)
    text = explained(recipe)
    assert all(task in text for task in recipe.tasks)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_trains_two_steps_and_validates(name: str, tmp_path: Path) -> None:
    settings = dict(SCENES)
    scenes = next((kind for data, kind in STAND_INS.items() if data in name), {})
    settings = {**scenes, **settings}
    recipe = mtlkit.load_recipe(shipped()[name], settings, lenient=["data"])
    run = mtlkit.Run(recipe, out=tmp_path)
    loader, order = run.loader("train")
    order.begin_at(1, 0)
    (batch,) = loader
    for _ in range(2):
        losses = run.step(batch)
    assert set(losses.tasks) == set(recipe.tasks)
    metrics = run.evaluate()
    assert {key.partition("/")[0] for key in metrics} == {*recipe.tasks, "loss"}
    run.learner.monitor.check()


@pytest.mark.parametrize("name", [name for name in RECIPES if name.startswith("four_tasks")])
def test_four_tasks_have_all_twelve_transfers_of_which_a_step_draws_four(name: str) -> None:
    recipe = lenient(name)
    assert list(recipe.tasks) == ["segmentation", "depth", "normals", "boundary"]
    assert {edge.hops for edge in recipe.all_edges} == {*itertools.permutations(recipe.tasks, 2)}
    assert recipe.train.edges_per_step == len(recipe.tasks)


def test_five_tasks_have_a_path_a_cycle_and_no_edge_to_a_task_without_pixels() -> None:
    recipe = lenient("five_tasks_streets")
    maps = [name for name, task in recipe.tasks.items() if not task.vector]
    hops = [edge.hops for edge in recipe.all_edges if not edge.is_path]
    assert {*hops} == {*itertools.permutations(maps, 2)} and len(maps) == len(recipe.tasks) - 1
    path, cycle = [edge.hops for edge in recipe.all_edges if edge.is_path]
    assert len({*path}) == 3 and cycle[0] == cycle[-1]
    assert max(shares(recipe.all_edges).values()) <= 1


def test_the_reference_objective_is_that_of_the_paper() -> None:
    assert objective_lines(lenient("xtascnet_cityscapes")) == [
        "L_segmentation = 0.99·cross_entropy(segmentation, label) + "
        "0.01·l1(T[segmentation → depth], stop(depth))",
        "L_depth = 0.99·l1(depth, label) + "
        "0.01·cross_entropy(T[depth → segmentation], stop(segmentation))",
        "L = Σ_t 0.5·exp(−s_t)·L_t + s_t",
    ]


def test_the_reference_has_the_parameters_of_the_paper() -> None:
    text = explained(lenient("xtascnet_cityscapes"))
    assert "31,553,344" in text and "27,785,280" in text


def test_the_flops_of_the_parts_add_up() -> None:
    table = cost_table(lenient("xtascnet_cityscapes"))
    cells = [float(cell) for cell in table.columns[2].cells]
    *parts, training, inference = cells
    assert min(parts) > 1
    assert sum(parts) == pytest.approx(training, abs=0.05)
    assert sum(parts[:3]) == pytest.approx(inference, abs=0.05)


def test_the_comment_on_four_edges_a_step_has_the_flops_that_explain_counts() -> None:
    def training(name: str) -> list[str]:
        columns = cost_table(lenient(name)).columns
        rows = zip(columns[0].cells, columns[2].cells, strict=True)
        return [f"{float(cost):.0f}" for part, cost in rows if str(part).startswith("training")]

    (every, drawn), (two,) = training("four_tasks_nyuv2"), training("xtascnet_nyuv2")
    text = shipped()["four_tasks_nyuv2"].read_text(encoding="utf-8")
    assert f"{drawn} GFLOPs an image, not {every}; xtascnet_nyuv2 has {two}" in text
