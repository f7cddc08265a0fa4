import random

import numpy as np
import pytest
import torch
from PIL import Image

from mtlkit import Run, load_recipe
from mtlkit.errors import MissingError
from mtlkit.report.captions import captions, label_captions
from mtlkit.report.pictures import Maps, _group, draw_predictions, spec_of
from mtlkit.report.sheet import (
    GAP,
    GROUP_GAP,
    INVALID,
    MOST_COLUMNS,
    NUMBER_WIDTH,
    Group,
    Item,
    draw_sheet,
    wrapped,
)
from mtlkit.structures import FieldSpec, Label
from mtlkit.transforms import ClassMap, DisparityMap, ImageClass
from mtlkit_plugins.tasks.classification import Classification
from mtlkit_plugins.tasks.reconstruction import Reconstruction

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


WEATHER = FieldSpec(ImageClass, classes=("clear", "hazy", "overcast"))


def test_what_is_said_of_a_whole_image_is_written_by_name():
    ids, valid = torch.tensor([2, 0]), torch.tensor([True, False])
    maps = Maps(["label", "prediction"], [ids, torch.tensor([1, 1])], valid)
    group = _group("weather", Classification(classes=3), maps, WEATHER)
    assert group.columns == {"label": ["overcast", "no label"], "prediction": ["hazy", "hazy"]}
    assert " ".join(item.text for item in group.legend) == "one of clear, hazy, overcast"


def test_numbers_of_a_whole_image_are_written_with_their_unit():
    values, metres = torch.tensor([[1.0, 2.5], [0.125, 3.0]]), FieldSpec(torch.Tensor, unit="m")
    assert captions(values, metres) == ["1 2.5 m", "0.125 3 m"]
    assert captions(values[:, 0], FieldSpec(torch.Tensor)) == ["1", "0.125"]
    label = Label(values, torch.tensor([False, True]))
    assert label_captions(label, metres) == ["no label", "0.125 3 m"]
    assert captions(torch.tensor([0, 4]), WEATHER) == ["clear", "4"]  # an id without a name


def drawn_by(captions):
    """Return which rows and columns of pixels the captions of two samples of 32×64 change."""
    image = Group("", {"image": torch.zeros(2, 3, 32, 64, dtype=torch.uint8)}, [])
    with_words, without = (
        np.array(draw_sheet([image, Group("", {"label": texts}, [])], [0, 1]))
        for texts in (captions, ["", ""])
    )
    return (with_words != without).any(2).nonzero()


@pytest.mark.parametrize("text", ["hazy", "long " * 40])
def test_a_caption_stands_in_the_middle_of_its_tile(text):
    left, tile = NUMBER_WIDTH + 256 + GROUP_GAP, 128 + GAP
    rows, columns = drawn_by([text, ""])
    assert left < columns.min() and columns.max() < left + 256
    assert abs(columns.min() + columns.max() - 2 * left - 256) < 12
    below, _ = drawn_by(["", text])
    assert rows.max() - rows.min() < 24 and below.min() - rows.min() == tile


def test_a_run_with_vectors_and_without_labels_is_drawn(recipe_file, tmp_path):
    tasks = {
        "weather": {"type": "classification", "classes": 3},
        "image": {"type": "reconstruction"},
    }
    recipe = load_recipe(recipe_file, {"tasks": tasks, "edges": []})
    path = draw_predictions(Run(recipe, out=tmp_path), tmp_path / "grid.png", 2)
    with Image.open(path) as picture:
        assert picture.width > 5 * (256 + GAP)
    assert spec_of(recipe.tasks["weather"], recipe.offers).classes == WEATHER.classes
    assert spec_of(Reconstruction(), recipe.offers) == FieldSpec(torch.Tensor, channels=3)


def test_a_vector_that_no_image_has_a_label_of_is_drawn_without_one(recipe_file, tmp_path):
    tasks = {"weather": {"type": "classification", "classes": 3}, "depth": {}}
    run = Run(load_recipe(recipe_file, {"tasks": tasks, "edges": []}), out=tmp_path)
    hidden = {
        "tasks": tasks,
        "edges": [],
        "data.labels_per_image": {"mode": "random_share", "share": 0},
    }
    none = Run(load_recipe(recipe_file, hidden), out=tmp_path)
    paths = [
        draw_predictions(r, tmp_path / f"{i}.png", 2, "train") for i, r in enumerate((run, none))
    ]
    assert paths[0].read_bytes() != paths[1].read_bytes()


def test_text_is_broken_between_words_and_a_key_begins_a_line():
    words = [Item(word) for word in ("segmentation", "→", "depth")]
    lines = wrapped([*words, Item("road", (1, 2, 3))], 150)
    assert lines == [words[:2], words[2:], [Item("road", (1, 2, 3))]]


def test_groups_that_have_no_room_side_by_side_continue_below_beside_the_image():
    white = torch.full((1, 3, 128, 256), 255, dtype=torch.uint8)
    red = white.clone()
    red[:, 1:] = 0
    columns = {f"column {i}": white for i in range(MOST_COLUMNS // 2 + 1)}
    groups = [Group("", {"image": red}, []), *[Group("task", columns, [])] * 2]
    one, both = (np.array(draw_sheet(part, [0])) for part in (groups[:2], groups))
    assert both.shape == (2 * one.shape[0], *one.shape[1:])
    assert (both[: len(one)] == one).all() and (both[len(one) :] == one).all()
    assert (one == (255, 0, 0)).all(-1).sum() == 128 * 256


def test_as_many_groups_stand_side_by_side_as_have_room():
    white = torch.full((1, 3, 128, 256), 255, dtype=torch.uint8)
    image = Group("", {"image": white}, [])
    small = [Group("", {f"column {i}": white}, []) for i in range(MOST_COLUMNS + 1)]
    full, more = draw_sheet([image, *small[:-1]], [0]), draw_sheet([image, *small], [0])
    assert full.height < more.height and full.width == more.width
    assert full.height == draw_sheet([image], [0]).height
