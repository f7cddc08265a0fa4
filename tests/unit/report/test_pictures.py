import random

import numpy as np
import pytest
import torch
from PIL import Image

from mtlkit import Run, load_recipe
from mtlkit.errors import MissingError
from mtlkit.report.pictures import Maps, _group, draw_predictions
from mtlkit.report.sheet import GAP, INVALID, Item, wrapped
from mtlkit.structures import FieldSpec
from mtlkit.transforms import ClassMap, DisparityMap

RECIPE = """
data: {type: streets, size: [32, 64], train: 2, val: 2}
loader: {batch_size: 1, cache: none}
encoder: {type: resnet, depth: 18, weights: null}
architecture: {type: shared_encoder, width: 8}
tasks:
  segmentation: {classes: 7}
  depth: {}
edges:
  - {from: segmentation, to: depth, type: xtc, widths: [4, 8]}
  - {from: depth, to: segmentation, type: xtc, widths: [4, 8]}
weighting: {type: equal}
optimizer: {type: adam, lr: 1.0e-4}
train: {epochs: 1, device: cpu, precision: fp32}
"""


@pytest.fixture(scope="module")
def recipe_file(tmp_path_factory):
    file = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
    file.write_text(RECIPE, encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def run(recipe_file, tmp_path_factory):
    return Run(load_recipe(recipe_file), out=tmp_path_factory.mktemp("runs"))


def everything_random():
    return torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()


def test_a_grid_has_a_row_per_sample_and_a_column_per_map(run, tmp_path):
    path = tmp_path / "grid.png"
    assert draw_predictions(run, path, 6) == path
    assert [file.name for file in tmp_path.iterdir()] == ["grid.png"]
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        assert picture.width > 7 * (256 + GAP)
        assert 2 * 128 < picture.height < 3 * 128 + 200


def test_the_same_weights_make_the_same_picture_and_leave_no_trace(run, tmp_path):
    run.objective.train()
    run.model.architecture.encoder.eval()  # as one that a plugin has frozen
    modes = [module.training for module in run.model.modules()]
    weights = {name: value.clone() for name, value in run.model.state_dict().items()}
    draws = everything_random()
    first = draw_predictions(run, tmp_path / "a.png", 2)
    assert everything_random() == draws
    assert [module.training for module in run.model.modules()] == modes
    assert all(torch.equal(weights[n], x) for n, x in run.model.state_dict().items())
    second = draw_predictions(run, tmp_path / "b.png", 2)
    assert first.read_bytes() == second.read_bytes()


def test_the_training_split_can_be_drawn_too(run, tmp_path):
    assert draw_predictions(run, tmp_path / "train.png", 1, "train") is not None


def test_no_picture_is_made_of_no_sample(run, tmp_path):
    assert draw_predictions(run, tmp_path / "none.png", 0) is None
    assert not list(tmp_path.iterdir())


def test_only_evaluated_tasks_are_drawn(recipe_file, run, tmp_path):
    recipe = load_recipe(recipe_file, {"tasks.depth.evaluate": False})
    few = draw_predictions(Run(recipe, out=tmp_path), tmp_path / "few.png", 1)
    all_of_them = draw_predictions(run, tmp_path / "all.png", 1)
    with Image.open(few) as small, Image.open(all_of_them) as large:
        assert large.width - small.width > 3 * 256


def test_no_picture_is_made_where_no_task_is_evaluated(recipe_file, tmp_path):
    silent = {"tasks.depth.evaluate": False, "tasks.segmentation.evaluate": False}
    run = Run(load_recipe(recipe_file, silent), out=tmp_path)
    assert draw_predictions(run, tmp_path / "none.png", 1) is None


def test_half_precision_predictions_are_drawn(recipe_file, tmp_path):
    run = Run(load_recipe(recipe_file, {"train.precision": "bf16"}), out=tmp_path)
    assert draw_predictions(run, tmp_path / "grid.png", 1) is not None


def test_a_picture_that_cannot_be_written_says_what_to_do(run, tmp_path):
    (tmp_path / "grid.png").mkdir()
    with pytest.raises(MissingError, match=r"grid\.png: cannot write the pictures .* Free some"):
        draw_predictions(run, tmp_path / "grid.png", 1)
    assert [file.name for file in tmp_path.iterdir()] == ["grid.png"]


def test_invalid_pixels_of_a_label_are_dark_and_named_below(run):
    value = torch.tensor([[[[0.0, 1.0], [2.0, 3.0]]]])
    valid = torch.tensor([[[[True, True], [True, False]]]])
    maps = Maps(["label", "prediction"], [value, value], valid)
    group = _group("depth", run.recipe.tasks["depth"], maps, FieldSpec(DisparityMap, unit="px"))
    assert group.columns["label"][0, :, 1, 1].tolist() == [INVALID] * 3
    assert group.columns["prediction"][0, :, 1, 1].tolist() != [INVALID] * 3
    assert torch.equal(group.columns["label"][..., 0, :], group.columns["prediction"][..., 0, :])
    assert group.legend[-2:] == [Item("px"), Item("no label", (INVALID,) * 3)]


def test_all_maps_of_a_task_share_one_scale(run):
    low, high = torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 2, 2)
    maps = Maps(["label", "prediction"], [low, high], torch.ones(1, 1, 2, 2, dtype=torch.bool))
    group = _group("depth", run.recipe.tasks["depth"], maps, FieldSpec(DisparityMap))
    assert not torch.equal(*group.columns.values())


def test_classes_are_named_in_the_colours_of_the_map(run):
    task = run.recipe.tasks["segmentation"]
    ids = torch.arange(7).reshape(1, 1, 7)
    maps = Maps(["label"], [ids], torch.ones(1, 1, 1, 7, dtype=torch.bool))
    group = _group("segmentation", task, maps, FieldSpec(ClassMap, classes=tuple("abcdefg")))
    key = [item for item in group.legend if item.colour]
    assert [item.text for item in key] == list("abcdefg")
    assert [list(item.colour) for item in key] == group.columns["label"][0, :, 0].T.tolist()


def test_text_is_broken_between_words_and_a_key_begins_a_line():
    words = [Item(word) for word in ("segmentation", "→", "depth")]
    lines = wrapped([*words, Item("road", (1, 2, 3))], 150)
    assert lines == [words[:2], words[2:], [Item("road", (1, 2, 3))]]
