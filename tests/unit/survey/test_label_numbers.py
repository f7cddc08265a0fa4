"""The survey's numbers against numpy, and that they add up."""

from __future__ import annotations

from functools import reduce
from operator import add

import numpy as np
import pytest
import torch

from mtlkit.camera import Intrinsics
from mtlkit.structures import FieldSpec
from mtlkit.survey import ClassCounts, Coverage, Distribution, EdgeCounts, NormalCounts
from mtlkit.survey.labels import LabelNumbers, measured, unknown_ids
from mtlkit.transforms import (
    VOID,
    ClassMap,
    DepthMap,
    DisparityMap,
    EdgeMap,
    ImageClass,
    NormalMap,
)

CLASSES = FieldSpec(ClassMap, classes=tuple("abcdefg"))
DEPTH = FieldSpec(DepthMap, unit="m")
NORMALS = FieldSpec(NormalMap, channels=3)
CAMERA = Intrinsics([[1, 0, 0], [0, 1, 0], [0, 0, 1]], canvas_size=(1, 3))


def class_maps(count: int) -> list[ClassMap]:
    maps = torch.randint(0, 6, (count, 5, 8), dtype=torch.uint8)  # the last class never occurs
    maps[maps == 5] = VOID
    maps[0] = VOID
    return [ClassMap(x) for x in maps]


def depths(count: int, scale: float) -> list[DepthMap]:
    values = torch.randn(count, 1, 16, 32) * scale + scale / 3
    values[torch.rand(values.shape) < 0.2] = torch.nan
    return [DepthMap(x) for x in values]


def summed(found: list[LabelNumbers]) -> LabelNumbers:
    return reduce(add, found)


def test_class_shares_are_those_of_all_valid_pixels() -> None:
    maps = class_maps(6)
    numbers = summed([measured(x, CLASSES, None) for x in maps])
    every = torch.stack(maps).numpy()
    valid = every[every != VOID]
    assert isinstance(numbers.values, ClassCounts)
    assert np.array_equal(numbers.values.shares, np.bincount(valid, minlength=7) / valid.size)
    assert numbers.values.shares[6] == 0
    assert numbers.coverage == Coverage(images=5, valid=valid.size, total=every.size)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 3e4])
def test_quantiles_are_numpys_within_their_cells(scale: float) -> None:
    maps = depths(4, scale)
    values = summed([measured(x, DEPTH, None) for x in maps]).values
    every = torch.stack(maps).numpy()
    valid = every[np.isfinite(every)]
    assert isinstance(values, Distribution)
    assert (values.low, values.high) == (valid.min(), valid.max())
    assert values.total == valid.size
    assert values.above_zero == (valid > 0).sum()
    for share in (0.0, 0.01, 0.3, 0.5, 0.99, 1.0):
        expected = np.quantile(valid, share, method="inverted_cdf")
        assert values.quantile(share) == pytest.approx(expected, rel=2**-11)


def test_a_constant_map_has_that_constant_everywhere() -> None:
    label = DisparityMap(torch.full((1, 3, 4), 0.1))
    values = measured(label, FieldSpec(DisparityMap), None).values
    assert isinstance(values, Distribution)
    assert {values.quantile(x) for x in (0, 0.5, 1)} == {values.low} == {values.high}


def test_a_label_without_a_valid_pixel_adds_nothing_but_its_size() -> None:
    empty = measured(DepthMap(torch.full((1, 2, 2), torch.nan)), DEPTH, None)
    full = measured(DepthMap(torch.ones(1, 2, 2)), DEPTH, None)
    both = empty + full
    assert isinstance(both.values, Distribution)
    assert both.coverage == Coverage(1, 4, 8)
    assert both.values.quantile(0.5) == 1.0 and both.values.total == 4
    assert isinstance(empty.values, Distribution) and np.isnan(empty.values.quantile(0.5))


def test_normals_are_judged_by_the_rays_of_the_camera() -> None:
    # the plane on the right edge is seen from its side: its z says away, its ray says towards
    normals = NormalMap(torch.tensor([[0.0, 0.0, -1.0], [0.0, 0.0, 1.0], [-0.8, 0.0, 0.6]]).T)
    label = NormalMap(normals.as_subclass(torch.Tensor)[:, None])
    assert measured(label, NORMALS, None).values == NormalCounts(3, 3, 1, 0)
    assert measured(label, NORMALS, CAMERA).values == NormalCounts(3, 3, 2, 3)
    unknown = Intrinsics.blank(1, (1, 3))
    assert measured(label, NORMALS, unknown).values == NormalCounts(3, 3, 1, 0)


def test_normals_that_are_too_short_or_invalid_are_told_apart() -> None:
    value = torch.tensor([[0.0, 0.0, -1.0], [0.0, 0.0, -0.5], [torch.nan] * 3]).T[:, None]
    numbers = measured(NormalMap(value), NORMALS, None)
    assert numbers.values == NormalCounts(valid=2, unit=1, facing=2, by_rays=0)
    assert numbers.coverage == Coverage(1, 2, 3)


def test_edges_are_counted_among_known_pixels() -> None:
    label = EdgeMap(torch.tensor([[[1, 0, 0, VOID, 1]]], dtype=torch.uint8))
    assert measured(label, FieldSpec(EdgeMap), None).values == EdgeCounts(known=4, edges=2)


def test_ids_that_have_no_name_are_found() -> None:
    label = ClassMap(torch.tensor([[0, 6, 7, VOID, 200]], dtype=torch.uint8))
    assert unknown_ids(label, CLASSES) == [7, 200]
    assert unknown_ids(label, FieldSpec(ClassMap)) == []
    assert unknown_ids(DepthMap(torch.ones(1, 2, 2)), DEPTH) == []


def test_classes_of_images_are_counted_by_image_and_unknown_ones_told() -> None:
    spec = FieldSpec(ImageClass, classes=("clear", "hazy"))
    numbers = summed([measured(ImageClass(i), spec, None) for i in (1, 1, VOID, 0)])
    assert isinstance(numbers.values, ClassCounts)
    assert numbers.values.counts.tolist() == [1, 2]
    assert numbers.coverage == Coverage(images=3, valid=3, total=4)
    assert unknown_ids(ImageClass(2), spec) == [2]
    assert unknown_ids(ImageClass(VOID), spec) == []
