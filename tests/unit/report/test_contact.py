"""The contact sheet, pixel by pixel where it matters."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from fixtures.spoilt_scenes import SIZE, Scenes, image
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

import mtlkit
from mtlkit.errors import MissingError
from mtlkit.report.colours import DARKEST, EDGE, NO_EDGE, class_colours, drawn
from mtlkit.report.contact import _filled, draw_contact_sheet
from mtlkit.report.sheet import (
    GAP,
    GROUP_GAP,
    INVALID,
    LEAST_WIDTH,
    LINE,
    MARGIN,
    NUMBER_WIDTH,
    TEXT_SIZE,
    TITLE_SIZE,
)
from mtlkit.structures import FieldSpec, Label
from mtlkit.survey import Look, SplitSurvey, Visits, summed
from mtlkit.transforms import ClassMap, DepthMap, EdgeMap, NormalMap
from mtlkit.walk import walked

TOP = MARGIN + round(LINE * TITLE_SIZE) + round(LINE * TEXT_SIZE) + GAP
TILE = LEAST_WIDTH * SIZE[0] // SIZE[1]  # height


@pytest.fixture
def scenes() -> Scenes:
    return Scenes()


def seen(scenes: Scenes, *wants: str) -> SplitSurvey:
    names = {name: name for name in wants}
    split = Look(scenes, "train", scenes.build_split("train", frozenset(names)), names, range(6))
    (found,) = summed([split], walked(Visits([split]), 1))
    return found


def tile(path: Path, row: int, column: int) -> NDArray[np.uint8]:
    """Return the colours of one tile, at the size of the sample."""
    with Image.open(path) as sheet:
        pixels = np.array(sheet)
    left = NUMBER_WIDTH + column * (LEAST_WIDTH + GROUP_GAP)
    top = TOP + row * (TILE + GAP)
    step = LEAST_WIDTH // SIZE[1]
    return pixels[top : top + TILE : step, left : left + LEAST_WIDTH : step]


def test_a_row_shows_the_image_and_every_label(
    recipe: mtlkit.Recipe, scenes: Scenes, tmp_path: Path
) -> None:
    path = tmp_path / "sheet.png"
    assert draw_contact_sheet(recipe, [seen(scenes, "segmentation", "depth")], path) == path
    for row in range(6):
        assert np.array_equal(tile(path, row, 0), image(row).permute(1, 2, 0))
        colours = recipe.tasks["segmentation"].render(torch.full((1, 1, 1), row % 2))
        assert np.array_equal(tile(path, row, 1)[0, 0], (colours * 255).round().flatten())
    darkest, brightest = (tile(path, row, 2)[0, 0] for row in (0, 5))
    assert darkest.sum() < brightest.sum()  # one scale for all samples


def test_pixels_without_a_label_are_grey_whatever_draws_them(
    recipe: mtlkit.Recipe, scenes: Scenes, tmp_path: Path
) -> None:
    classes = torch.zeros(SIZE, dtype=torch.uint8)
    classes[:, :8] = 255
    scenes.spoil("train", 0, "segmentation", ClassMap(classes))
    scenes.spoil("train", 1, "segmentation", None)
    path = tmp_path / "sheet.png"
    draw_contact_sheet(recipe, [seen(scenes, "segmentation")], path)
    first, second = tile(path, 0, 1), tile(path, 1, 1)
    assert (first[:, :8] == INVALID).all() and not (first[:, 8:] == INVALID).any()
    assert (second == INVALID).all()


def test_a_label_that_no_sample_has_is_grey(
    recipe: mtlkit.Recipe, scenes: Scenes, tmp_path: Path
) -> None:
    for index in range(6):
        scenes.spoil("train", index, "depth", None)
    path = tmp_path / "sheet.png"
    draw_contact_sheet(recipe, [seen(scenes, "depth")], path)
    assert (tile(path, 3, 1) == INVALID).all()


def test_what_cannot_be_used_is_left_out(
    recipe: mtlkit.Recipe, scenes: Scenes, tmp_path: Path
) -> None:
    path = tmp_path / "sheet.png"
    scenes.spoil("train", 0, "depth", MissingError("torn"))
    scenes.spoil("train", 2, "depth", DepthMap(torch.ones(1, 2, 2)))
    draw_contact_sheet(recipe, [seen(scenes, "depth")], path)
    for row, number in enumerate((1, 3, 4, 5)):
        assert np.array_equal(tile(path, row, 0), image(number).permute(1, 2, 0))
    for index in range(6):
        scenes.spoil("train", index, "depth", MissingError("torn"))
    assert draw_contact_sheet(recipe, [seen(scenes, "depth")], tmp_path / "none.png") is None
    assert not (tmp_path / "none.png").exists()


def test_each_data_set_has_rows_of_its_own(
    recipe: mtlkit.Recipe, scenes: Scenes, tmp_path: Path
) -> None:
    other = Scenes(name="others")
    one, two = tmp_path / "one.png", tmp_path / "two.png"
    draw_contact_sheet(recipe, [seen(scenes, "depth")], one)
    draw_contact_sheet(recipe, [seen(scenes, "depth"), seen(other, "depth")], two)
    with Image.open(one) as single, Image.open(two) as double:
        assert double.height == 2 * single.height


def painted(values: Tensor, spec: FieldSpec) -> Tensor:
    return drawn(values, spec)[0]


def test_normals_are_drawn_as_the_field_does() -> None:
    right, up, front = (1.0, 0.0, 0.0), (0.0, -1.0, 0.0), (0.0, 0.0, -1.0)
    values = torch.tensor([right, up, front]).T[None, :, None]
    pictures = painted(values, FieldSpec(NormalMap, channels=3))
    assert pictures[0, :, 0].T.tolist() == [[255, 128, 128], [128, 255, 128], [128, 128, 255]]


def test_edges_are_dark_on_light() -> None:
    pictures = painted(torch.tensor([[[[0.0, 1.0]]]]), FieldSpec(EdgeMap))
    expected = [[round(255 * x) for x in colour] for colour in (NO_EDGE, EDGE)]
    assert pictures[0, :, 0].T.tolist() == expected
    assert sum(NO_EDGE) > 2.5 > 1 > sum(EDGE) / 2


def test_greys_of_distances_are_lighter_than_what_is_not_known() -> None:
    values = torch.linspace(1, 9, 100).view(1, 1, 10, 10)
    pictures, legend = drawn(values, FieldSpec(DepthMap, unit="m"))
    assert pictures.amin() == round(255 * DARKEST) > INVALID
    assert pictures.amax() == 255
    assert " ".join(item.text for item in legend) == "1.16 (dark) to 8.84 (bright) m"


@pytest.mark.parametrize(
    ("count", "apart"), [(2, 0.9), (13, 0.45), (19, 0.35), (40, 0.25), (255, 0.1)]
)
def test_colours_of_classes_differ(count: int, apart: float) -> None:
    colours = torch.cat([class_colours(count), torch.full((1, 3), INVALID / 255)])
    assert torch.pdist(colours).min() > apart


def masks() -> Iterator[tuple[Tensor, FieldSpec]]:
    yield torch.arange(24.0).view(2, 1, 3, 4), FieldSpec(DepthMap)
    yield torch.arange(72.0).view(2, 3, 3, 4), FieldSpec(NormalMap, channels=3)
    yield torch.arange(24).view(2, 3, 4), FieldSpec(ClassMap)


@pytest.mark.parametrize(("value", "spec"), list(masks()))
def test_invalid_pixels_repeat_valid_ones(value: Tensor, spec: FieldSpec) -> None:
    valid = torch.zeros(2, 1, 3, 4, dtype=torch.bool)
    valid[1, :, 1] = True
    filled, mask = _filled(Label(value, valid), spec)
    assert filled.shape == value.shape and torch.equal(mask, valid)
    every = filled if value.ndim == 4 else filled[:, None]
    kept = (value if value.ndim == 4 else value[:, None])[1, :, 1].T
    assert torch.equal(every[1, :, 1].T, kept)
    found = every.movedim(1, -1).flatten(0, 2).unique(dim=0)
    assert torch.equal(found, kept.unique(dim=0))


def test_a_thin_edge_is_not_lost_when_a_map_is_thinned() -> None:
    value = torch.zeros(1, 1, 4, 2048)
    value[..., 1, :] = 1
    filled, _ = _filled(Label(value, torch.ones_like(value, dtype=torch.bool)), FieldSpec(EdgeMap))
    assert filled.shape == (1, 1, 1, 512)
    assert (filled == 1).all()


def test_labels_of_whole_images_are_written_and_tasks_without_labels_left_out(
    tiny: Path, tmp_path: Path
) -> None:
    tasks = {
        "weather": {"type": "classification", "classes": 3},
        "image": {"type": "reconstruction"},
    }
    sizes = []
    for number, chosen in enumerate((tasks, {"image": tasks["image"]})):
        recipe = mtlkit.load_recipe(tiny, {"tasks": dict(chosen), "edges": []})
        (data,) = recipe.sets
        split = data.build_split("train", frozenset({"weather"}))
        look = Look(data, "train", split, {"weather": "weather"}, range(6))
        (survey,) = summed([look], walked(Visits([look]), 1))
        path = draw_contact_sheet(recipe, [survey], tmp_path / f"{number}.png")
        assert path is not None
        with Image.open(path) as sheet:
            sizes.append(sheet.width)
    assert sizes[0] == sizes[1]  # image and weather, once a task's and once no task's
