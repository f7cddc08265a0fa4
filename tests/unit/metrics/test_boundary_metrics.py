from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from metric_batches import measured
from scipy.ndimage import distance_transform_edt

from mtlkit.metrics import BoundaryF, BoundaryPrecision, BoundaryRecall
from mtlkit.structures import Label

KINDS = (BoundaryF, BoundaryPrecision, BoundaryRecall)


def logits_of(shares):
    return torch.as_tensor(shares).float().clamp(1e-6, 1 - 1e-6).logit()


def label_of(value, valid=None):
    value = torch.as_tensor(value).float()
    return Label(value, torch.ones_like(value, dtype=torch.bool) if valid is None else valid)


def line(column, height=8, width=16):
    """Return a vertical line, (1,1,H,W)."""
    value = torch.zeros(1, 1, height, width)
    value[..., column] = 1
    return value


def within(pixels, height=8, width=16):
    """Return the tolerance of a number of pixels."""
    return (pixels + 1e-6) / math.hypot(height, width)


def random_batch(seed, size, share=0.03, void=0.2):
    generator = torch.Generator().manual_seed(seed)
    value = (torch.rand(2, 1, *size, generator=generator) < share).float()
    logits = 2 * torch.randn(2, 1, *size, generator=generator) + 3 * value - 2
    return logits, Label(value, torch.rand(2, 1, *size, generator=generator) >= void)


def by_distance_transform(batches, tolerance):
    """Return F, precision and recall of the best threshold, by Euclidean distance transforms."""
    sums = np.zeros((99, 4))
    for prediction, label in batches:
        arrays = (prediction.float().sigmoid(), label.value > 0.5, label.valid)
        for share, value, valid in zip(*(x[:, 0].numpy() for x in arrays), strict=True):
            drawn = value & valid
            for number in range(99):
                predicted = (share >= np.float32(number + 1) / np.float32(100)) & valid
                right, found = near(drawn, tolerance), near(predicted, tolerance)
                right, found = (predicted & right).sum(), (drawn & found).sum()
                sums[number] += (right, predicted.sum(), found, drawn.sum())
    precision, recall = sums[:, 0] / np.maximum(sums[:, 1], 1), sums[:, 2] / sums[:, 3]
    f = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    return f.max(), precision[f.argmax()], recall[f.argmax()]


def near(mask, tolerance):
    if not mask.any():  # the transform of an empty mask is not defined
        return np.zeros_like(mask)
    return distance_transform_edt(~mask) <= tolerance * math.hypot(*mask.shape)


@pytest.mark.parametrize(
    ("size", "tolerance"),
    [((24, 32), 0.0075), ((24, 32), 0.05), ((17, 41), 0.1), ((3, 40), 0.2), ((40, 5), 0.3)],
)
def test_scores_are_those_of_distance_transforms(size, tolerance):
    batches = [random_batch(seed, size) for seed in range(2)]
    found = [measured(kind(tolerance), *batches) for kind in KINDS]
    assert found == pytest.approx(by_distance_transform(batches, tolerance), rel=1e-9)


def test_a_diagonal_of_whole_pixels_includes_what_is_just_within():
    # a 30×40 image has a diagonal of 50 pixels, of which 0.1 is 5: (3, 4) is within, (4, 4) beyond
    value = torch.zeros(1, 1, 30, 40)
    value[0, 0, 10, 10] = 1
    for shift, right in (((3, 4), 1), ((4, 3), 1), ((5, 0), 1), ((4, 4), 0)):
        share = value.roll(shift, (2, 3))
        assert measured(BoundaryF(0.1), (logits_of(share), label_of(value))) == right, shift


def test_a_line_within_the_tolerance_is_right_and_one_beyond_is_wrong():
    label = label_of(line(5))
    assert measured(BoundaryF(within(2)), (logits_of(line(7)), label)) == 1
    assert measured(BoundaryF(within(2)), (logits_of(line(8)), label)) == 0
    assert measured(BoundaryF(), (logits_of(line(5)), label)) == 1


def test_thick_predictions_cost_nothing_within_the_tolerance():
    thick = line(4) + line(5) + line(6)
    assert measured(BoundaryF(within(1)), (logits_of(thick), label_of(line(5)))) == 1
    exact = [measured(kind(within(0)), (logits_of(thick), label_of(line(5)))) for kind in KINDS]
    assert exact == pytest.approx([1 / 2, 1 / 3, 1])


def test_one_threshold_serves_the_whole_set():
    # each image alone is right at a threshold of its own: 0.65 and 0.25
    faint, strong = 0.3 * line(2) + 0.1 * line(9), 0.7 * line(2) + 0.6 * line(9)
    label = label_of(line(2))
    batches = [(logits_of(share), label) for share in (faint, strong)]
    for batch in batches:
        assert measured(BoundaryF(within(0)), batch) == 1
    # together at 0.25: 2 found of 2, 3 predicted
    found = [measured(kind(within(0)), *batches) for kind in KINDS]
    assert found == pytest.approx([0.8, 2 / 3, 1])


def test_what_is_not_valid_neither_counts_nor_matches():
    valid = torch.ones(1, 1, 8, 16, dtype=torch.bool)
    valid[..., 6:] = False
    label = label_of(line(5) + line(12), valid)
    spoilt = logits_of(line(5) + line(9))
    spoilt[..., 10:] = math.nan
    assert measured(BoundaryF(within(1)), (spoilt, label)) == 1
    # the only prediction near the line is not valid
    assert measured(BoundaryF(within(1)), (logits_of(line(6)), label)) == 0


def test_nothing_predicted_is_zero_and_nothing_labelled_is_nan():
    nothing = torch.full((1, 1, 8, 16), -20.0)
    assert [measured(kind(), (nothing, label_of(line(5)))) for kind in KINDS] == [0, 0, 0]
    blank = label_of(torch.zeros(1, 1, 8, 16))
    for logits in (nothing, logits_of(line(5))):
        assert all(math.isnan(measured(kind(), (logits, blank))) for kind in KINDS)


def test_a_prediction_that_is_no_number_is_no_boundary():
    spoilt = logits_of(line(5))
    spoilt[..., 12] = math.nan
    assert measured(BoundaryF(), (spoilt, label_of(line(5)))) == 1


@pytest.mark.parametrize(("share", "level"), [(0.0, 0), (0.014, 1), (0.506, 50), (1.0, 99)])
def test_a_prediction_reaches_every_threshold_up_to_its_share(share, level):
    metric = BoundaryF()
    metric.update(logits_of(torch.full((1, 1, 2, 2), share)), label_of(torch.zeros(1, 1, 2, 2)))
    assert int(metric.predicted[level]) == 4
