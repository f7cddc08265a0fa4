"""benchmarks/mean_predictor.py: what ignores the image, and the bars that it sets for recipes."""

from __future__ import annotations

import importlib.util
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

import mtlkit
from mtlkit.evaluation import Direction, directions
from mtlkit.listing import shipped

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "mean_predictor.py"
SCENES = {"data.size": [32, 64], "data.train": 3, "data.val": 2, "loader.batch_size": 2}


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("mean_predictor", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture(scope="module")
def recipe() -> mtlkit.Recipe:
    settings = {**SCENES, "loader.cache": "none", "tasks.image": {"type": "reconstruction"}}
    return mtlkit.load_recipe(shipped()["five_tasks_streets"], settings)


@pytest.fixture(scope="module")
def labels(script: ModuleType, recipe: mtlkit.Recipe) -> dict[str, dict[str, torch.Tensor]]:
    """Values and masks of both splits, by task, all images together."""
    found = {}
    for split in ("train", "val"):
        batches = list(script.batches(recipe, split))
        for name, task in recipe.tasks.items():
            read = [task.read(batch) for batch in batches]
            found[f"{split} {name}"] = {
                "value": torch.cat([label.value for label in read]),
                "valid": torch.cat([label.valid for label in read]),
            }
    return found


@pytest.fixture(scope="module")
def constants(script: ModuleType, recipe: mtlkit.Recipe) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = script.constants(recipe)
    return found


def test_the_constant_is_measured_as_by_hand(labels, constants) -> None:
    found = constants["constant"]
    train, val = labels["train segmentation"], labels["val segmentation"]
    commonest = train["value"][train["valid"][:, 0]].mode().values
    wanted = (val["value"][val["valid"][:, 0]] == commonest).double().mean()
    assert found["segmentation/pixel_accuracy"] == pytest.approx(float(wanted))
    train, val = labels["train depth"], labels["val depth"]
    mean = train["value"][train["valid"]].mean()
    wanted = (val["value"][val["valid"]] - mean).abs().mean()
    assert found["depth/abs_err"] == pytest.approx(float(wanted), rel=1e-3)
    train, val = labels["train normals"], labels["val normals"]
    pixels = [x["value"].movedim(1, -1)[x["valid"][:, 0]].double() for x in (train, val)]
    mean = torch.nn.functional.normalize(pixels[0].mean(0), dim=0)
    wanted = (pixels[1] @ mean).clamp(-1, 1).arccos().rad2deg().mean()
    assert found["normals/mean_angle"] == pytest.approx(float(wanted), rel=1e-3)
    train, val = labels["train weather"], labels["val weather"]
    wanted = (val["value"] == train["value"].mode().values).double().mean()
    assert found["weather/accuracy"] == pytest.approx(float(wanted))
    assert found["boundary/recall"] == 1  # of one rate, all pixels or none are above a threshold


def test_labels_of_every_kind_are_summed(script, recipe) -> None:
    sums = script.label_sums(recipe)
    assert {name: tuple(x.shape) for name, x in sums.items()} == {
        "segmentation": (8, 32, 64),
        "depth": (2, 32, 64),
        "normals": (4, 32, 64),
        "boundary": (2, 32, 64),
        "weather": (4, 1, 1),
        "image": (4, 32, 64),
    }
    assert torch.equal(sums["weather"][:-1].sum(0), sums["weather"][-1])
    assert (sums["image"][-1] == 3).all()


def test_a_map_knows_where_things_are_and_errs_less_than_a_constant(constants) -> None:
    mapped, constant = constants["map"], constants["constant"]
    assert mapped["segmentation/pixel_accuracy"] > constant["segmentation/pixel_accuracy"]
    assert mapped["depth/abs_err"] < constant["depth/abs_err"]
    assert mapped["normals/mean_angle"] < constant["normals/mean_angle"]
    assert mapped["image/abs_err"] < constant["image/abs_err"]
    assert mapped["weather/accuracy"] == constant["weather/accuracy"]


def test_training_labels_are_not_augmented(script, recipe) -> None:
    first, second = ([b.image for b in script.batches(recipe, "train")] for _ in range(2))
    assert recipe.sets[0].build_augmentation() is not None
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize(
    ("name", "is_higher", "model", "other", "is_met"),
    [
        ("depth/abs_err", False, 0.5, 1.0, True),
        ("depth/abs_err", False, 0.51, 1.0, False),
        ("segmentation/miou", True, 0.2, 0.1, True),
        ("segmentation/miou", True, 0.19, 0.1, False),
        ("segmentation/pixel_accuracy", True, 0.71, 0.4, True),
        ("segmentation/pixel_accuracy", True, 0.69, 0.4, False),
    ],
)
def test_a_bar_is_half_the_error_twice_the_miou_or_half_the_gap(
    script, name, is_higher, model, other, is_met
) -> None:
    bar = script.Bar.of(name, Direction("", is_higher), model, other)
    assert bar.is_met is is_met


@pytest.mark.parametrize(
    ("name", "is_higher", "other"),
    [("boundary/recall", True, 1.0), ("segmentation/miou", True, 0.0), ("depth/abs_err", False, 0)],
)
def test_a_predictor_that_is_perfect_or_has_no_miou_sets_no_bar(
    script, capsys, name, is_higher, other
) -> None:
    direction = Direction("", is_higher)
    assert script.Bar.of(name, direction, 0.5, other) is None
    found = {"model": {name: 0.5}, "constant": {name: other}, "map": {name: 0.4}}
    assert script.report([name], found, {name: direction})
    *_, of_map, of_constant = capsys.readouterr().out.splitlines()[1].split()
    assert float(of_map) > 0 and of_constant == "–"
    swapped = found | {"constant": {name: 0.4}, "map": {name: other}}
    script.report([name], swapped, {name: direction})
    assert " – " in capsys.readouterr().out.splitlines()[1]


def test_every_metric_that_the_constant_has_can_be_reported(
    script, recipe, constants, capsys
) -> None:
    names = list(constants["constant"])
    assert "boundary/recall" in names
    script.report(names, {"model": constants["map"], **constants}, directions(recipe))
    lines = capsys.readouterr().out.splitlines()[1:]
    assert [line.split()[0] for line in lines] == names
    assert any(line.endswith("–") for line in lines)


def test_the_report_judges_one_error_and_one_share_of_each_task(
    script, recipe, constants, capsys
) -> None:
    perfect = {
        name: 1.0 if one.higher_is_better else 0.0 for name, one in directions(recipe).items()
    }
    names = [name for name in constants["map"] if name.rpartition("/")[2] in script.SHOWN]
    assert script.report(names, {"model": perfect, **constants}, directions(recipe))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + len(names) == 1 + 2 + 2 + 2 + 1 + 1 + 1
    assert all(line.endswith("meets") for line in lines[1:])
    blind = {"model": constants["constant"], **constants}
    assert not script.report(names, blind, directions(recipe))
    assert not any(map(math.isnan, constants["map"].values()))
