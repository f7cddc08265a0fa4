from __future__ import annotations

import pytest
import torch
from metric_batches import CLASSES, class_batch, distance_label, distances, measured
from torchmetrics import MeanAbsoluteError
from torchmetrics.classification import MulticlassAccuracy

from mtlkit.metrics import OnValid, PixelAccuracy
from mtlkit.structures import Label


def test_on_valid_feeds_a_plain_metric_with_valid_pixels_alone():
    batch = (distances(1.0, 5.0), distance_label([2.0, 0.0], valid=[True, False]))
    metric = OnValid(MeanAbsoluteError())
    assert measured(metric, batch) == 1
    assert metric.update_called
    logits, label = class_batch(1)
    accuracy = OnValid(MulticlassAccuracy(CLASSES, average="micro"))
    ours = measured(PixelAccuracy(CLASSES), (logits, label))
    assert measured(accuracy, (logits, label)) == pytest.approx(ours, rel=1e-6)


def test_on_valid_serves_vectors_and_skips_batches_without_valid_elements():
    metric = OnValid(MeanAbsoluteError())
    nothing = Label(torch.zeros(2), torch.tensor([False, False]))
    metric.update(torch.ones(2, 1), nothing)
    assert not metric.update_called
    metric.update(torch.ones(2, 1), Label(torch.zeros(2), torch.tensor([True, False])))
    assert float(metric.compute()) == 1
    metric.reset()
    assert not metric.update_called
