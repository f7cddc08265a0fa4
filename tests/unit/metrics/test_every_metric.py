"""What holds for every metric that the package offers."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from metric_batches import CLASSES, measured
from torch.nn.functional import normalize
from torchmetrics import Metric, MetricCollection

import mtlkit.metrics as offered
from mtlkit.metrics import (
    AbsoluteError,
    AngleWithin,
    BoundaryF,
    BoundaryPrecision,
    BoundaryRecall,
    Delta,
    MeanAngle,
    MeanIoU,
    MeanIoUPerImage,
    MedianAngle,
    PixelAccuracy,
    PixelAccuracyPerImage,
    RelativeError,
    RootMeanSquareAngle,
    RootMeanSquareError,
    RootMeanSquareLogError,
    SquaredRelativeError,
)
from mtlkit.structures import Label
from mtlkit_plugins.tasks.depth import DistanceLabel, Metres

DISTANCES = [
    AbsoluteError(),
    RelativeError(),
    SquaredRelativeError(),
    RootMeanSquareError(),
    RootMeanSquareLogError(),
    *(Delta(power) for power in (1, 2, 3)),
]
IN_METRES = [AbsoluteError(Metres()), SquaredRelativeError(Metres()), Delta(1, Metres())]
ANGLES = [MeanAngle(), MedianAngle(), RootMeanSquareAngle(), AngleWithin(11.25), AngleWithin(30)]
BOUNDARIES = [BoundaryF(0.05), BoundaryPrecision(0.05), BoundaryRecall(0.05)]
IDS = [MeanIoU, MeanIoUPerImage, PixelAccuracy, PixelAccuracyPerImage]
FAMILIES = {
    "classes": [kind(CLASSES) for kind in IDS],
    "distances": DISTANCES,
    "metres": IN_METRES,
    "angles": ANGLES,
    "boundaries": BOUNDARIES,
}
CHANNELS = {"classes": CLASSES, "angles": 3}
IMAGES, SIZE = 4, (16, 24)
EVERY = pytest.mark.parametrize(
    ("family", "metric"),
    [
        pytest.param(family, metric, id=f"{family}-{type(metric).__name__}")
        for family, metrics in FAMILIES.items()
        for metric in metrics
    ],
)


def batch_of(family, seed=0):
    """Return four images, the last of which has nothing valid."""
    generator = torch.Generator().manual_seed(seed)
    prediction = torch.randn(IMAGES, CHANNELS.get(family, 1), *SIZE, generator=generator)
    value = torch.rand(IMAGES, CHANNELS.get(family, 1), *SIZE, generator=generator)
    valid = torch.rand(IMAGES, 1, *SIZE, generator=generator) < 0.8
    valid[-1] = False
    match family:
        case "classes":
            return prediction, Label((value[:, 0] * CLASSES).long(), valid)
        case "angles":
            return prediction, Label(normalize(value - 0.5, dim=1), valid)
        case "boundaries":
            return prediction, Label((value > 0.97).float(), valid)
        case "distances":
            return prediction + 1, Label(value + 0.1, valid)
    scale = torch.tensor([0.5, torch.nan, 2.0, 1.0])
    return prediction + 1, DistanceLabel(value + 0.1, valid, depth_at_one=scale)


def rows(prediction, label, chosen):
    part = {"value": label.value[chosen], "valid": label.valid[chosen]}
    if isinstance(label, DistanceLabel):
        part["depth_at_one"] = label.depth_at_one[chosen]
    return prediction[chosen], type(label)(**part)


def test_every_metric_is_tested_here():
    names = {type(metric).__name__ for metrics in FAMILIES.values() for metric in metrics}
    classes = {name for name in offered.__all__ if isinstance(getattr(offered, name), type)}
    metrics = {name for name in classes if issubclass(getattr(offered, name), Metric)}
    assert metrics - {"OnValid"} == names
    assert sorted(offered.__all__) == offered.__all__


@pytest.mark.parametrize("family", FAMILIES)
def test_metrics_of_one_family_are_counted_once_in_a_collection(family):
    members = copy.deepcopy(FAMILIES[family])
    assert len({(type(metric).update, metric.family) for metric in members}) == 1
    names = [str(number) for number in range(len(members))]
    collection = MetricCollection(dict(zip(names, members, strict=True)), compute_groups=[names])
    batches = [batch_of(family, seed) for seed in range(2)]
    for prediction, label in batches:
        collection.update(prediction, label)
    found = collection.compute()
    for name, metric in zip(names, copy.deepcopy(FAMILIES[family]), strict=True):
        assert float(found[name]) == measured(metric, *batches)


def test_families_differ_in_what_they_count():
    families = [metrics[0].family for metrics in FAMILIES.values()]
    others = [MeanIoU(3).family, AbsoluteError(Metres(farthest=10)).family, BoundaryF(0.1).family]
    assert len({*families, *others}) == len(families) + len(others)


@EVERY
@settings(max_examples=10, deadline=None)
@given(order=st.permutations(range(IMAGES)), cut=st.integers(1, IMAGES - 1))
def test_neither_order_nor_batch_size_matters(family, metric, order, cut):
    prediction, label = batch_of(family)
    whole = measured(copy.deepcopy(metric), (prediction, label))
    assert math.isfinite(whole)
    parts = [rows(prediction, label, order[:cut]), rows(prediction, label, order[cut:])]
    assert measured(copy.deepcopy(metric), *parts) == pytest.approx(whole, rel=1e-6)


@EVERY
def test_states_of_two_processes_add_up(family, metric):
    batches = [batch_of(family, seed) for seed in range(2)]
    ranks = [copy.deepcopy(metric) for _ in batches]
    for rank, (prediction, label) in zip(ranks, batches, strict=True):
        rank.update(prediction, label)
    assert {reduce.__name__ for reduce in metric._reductions.values()} == {"dim_zero_sum"}
    for name in ranks[0]._defaults:
        setattr(ranks[0], name, getattr(ranks[0], name) + getattr(ranks[1], name))
    expected = measured(copy.deepcopy(metric), *batches)
    assert measured(ranks[0]) == pytest.approx(expected, rel=1e-12)


@EVERY
@pytest.mark.parametrize("spoilt", [math.nan, math.inf, -math.inf, 1e6])
def test_invalid_pixels_do_not_matter(family, metric, spoilt):
    prediction, label = batch_of(family)
    expected = measured(copy.deepcopy(metric), (prediction, label))
    prediction = torch.where(label.valid, prediction, spoilt)
    if family != "classes":
        label.value = torch.where(label.valid, label.value, spoilt)
    assert measured(copy.deepcopy(metric), (prediction, label)) == expected


@EVERY
def test_a_set_without_valid_pixel_gives_nan_and_no_warning(family, metric):
    empty = rows(*batch_of(family), slice(3, 4))
    assert math.isnan(measured(copy.deepcopy(metric), empty))


@EVERY
def test_bf16_predictions_are_compared_in_single_precision(family, metric):
    prediction, label = batch_of(family)
    rounded = prediction.bfloat16()
    expected = measured(copy.deepcopy(metric), (rounded.float(), label))
    assert measured(copy.deepcopy(metric), (rounded, label)) == expected


@EVERY
def test_updates_change_neither_prediction_nor_label(family, metric):
    prediction, label = batch_of(family)
    before = prediction.clone(), label.value.clone(), label.valid.clone()
    measured(copy.deepcopy(metric), (prediction.requires_grad_(), label))
    for old, new in zip(before, (prediction, label.value, label.valid), strict=True):
        assert torch.equal(old, new)


@EVERY
def test_updates_never_read_a_value_back(family, metric):
    # a meta tensor has no values: whatever asks for one, or for how many there are, fails
    prediction, label = batch_of(family)
    for name, value in vars(label).items():
        if isinstance(value, torch.Tensor):
            setattr(label, name, value.to("meta"))
    there = copy.deepcopy(metric).to("meta")
    there.update(prediction.to("meta"), label)
    assert there.update_called
