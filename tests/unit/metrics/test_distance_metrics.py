from __future__ import annotations

import math
from statistics import fmean

import pytest
import torch
from metric_batches import distance_label, distances, measured

from mtlkit.metrics import (
    AbsoluteError,
    Delta,
    RelativeError,
    RootMeanSquareError,
    RootMeanSquareLogError,
    SquaredRelativeError,
)
from mtlkit.structures import Label


def test_distance_errors_have_their_textbook_values():
    batch = (distances(1.0, 4.0, 3.0), distance_label([2.0, 2.0, 3.0]))
    assert measured(AbsoluteError(), batch) == pytest.approx((1 + 2 + 0) / 3)
    assert measured(RelativeError(), batch) == pytest.approx((1 / 2 + 2 / 2 + 0) / 3)
    assert measured(RootMeanSquareError(), batch) == pytest.approx(math.sqrt((1 + 4 + 0) / 3))
    assert measured(SquaredRelativeError(), batch) == pytest.approx((1 / 2 + 4 / 2 + 0) / 3)
    logs = math.sqrt((math.log(2) ** 2 + math.log(2) ** 2) / 3)
    assert measured(RootMeanSquareLogError(), batch) == pytest.approx(logs)


def test_errors_are_those_of_a_loop_over_pixels_in_double_precision():
    generator = torch.Generator().manual_seed(4)
    prediction, value = (5 * torch.rand(2, 1, 9, 11, generator=generator) + 0.1 for _ in range(2))
    valid = torch.rand(2, 1, 9, 11, generator=generator) < 0.6
    pixels = zip(prediction[valid].tolist(), value[valid].tolist(), strict=True)
    squares, logs = zip(
        *(((p - g) ** 2 / g, (math.log(p) - math.log(g)) ** 2) for p, g in pixels), strict=True
    )
    batch = (prediction, Label(value, valid))
    assert measured(SquaredRelativeError(), batch) == pytest.approx(fmean(squares), rel=1e-5)
    expected = math.sqrt(fmean(logs))
    assert measured(RootMeanSquareLogError(), batch) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("prediction", [0.0, -3.0, 1e-12])
def test_the_logarithm_of_what_is_not_above_zero_is_that_of_1e_9(prediction):
    batch = (distances(prediction), distance_label([2.0]))
    assert measured(RootMeanSquareLogError(), batch) == pytest.approx(math.log(2) - math.log(1e-9))


def test_a_conversion_changes_prediction_label_and_what_is_valid():
    def doubled(prediction, label):
        return 2 * prediction, Label(2 * label.value, label.valid & (label.value < 5))

    batch = (distances(1.0, 9.0), distance_label([2.0, 6.0]))
    assert measured(AbsoluteError(doubled), batch) == 2
    assert measured(Delta(3, doubled), batch) == 0


@pytest.mark.parametrize(("power", "right"), [(1, 2), (2, 3), (3, 4)])
def test_delta_is_the_share_of_ratios_below_a_power_of_1_25(power, right):
    # ratios 1, 1.2, 1.5 (both ways round), 1.9, 2; then what is never right: 0 and below
    label = distance_label([1.0, 1.2, 1.0, 1.9, 1.0, 1.0, 1.0])
    batch = (distances(1.0, 1.0, 1.5, 1.0, 2.0, 0.0, -1.0), label)
    assert measured(Delta(power), batch) == pytest.approx(right / 7)


def test_invalid_pixels_and_labels_of_zero_are_left_out():
    label = distance_label([2.0, 0.0, 2.0], valid=[True, True, False])
    batch = (distances(3.0, 9.0, math.nan), label)
    assert measured(AbsoluteError(), batch) == 1
    assert measured(RelativeError(), batch) == 0.5
    assert measured(Delta(3), batch) == 1


def test_distance_errors_are_pooled_over_the_set():
    batches = (
        (distances(1.0), distance_label([2.0])),
        (distances(1.0, 1.0), distance_label([1.0, 1.0])),
    )
    assert measured(AbsoluteError(), *batches) == pytest.approx(1 / 3)


def test_a_set_without_valid_distance_gives_nan():
    assert math.isnan(measured(AbsoluteError(), (distances(1.0), distance_label([0.0]))))


def test_half_precision_predictions_are_compared_in_single_precision():
    label = distance_label([1.001] * 4)
    prediction = distances(*[2.0] * 4).bfloat16()
    assert measured(AbsoluteError(), (prediction, label)) == pytest.approx(0.999, rel=1e-6)


def test_sums_of_many_batches_lose_nothing():
    metric = AbsoluteError()
    metric.absolute += 2.0**30
    metric.update(distances(1.0), distance_label([1.0 + 2**-10]))
    assert float(metric.absolute) == 2.0**30 + 2**-10
