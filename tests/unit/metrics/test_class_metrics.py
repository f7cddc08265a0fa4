from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling as official
from metric_batches import CLASSES, class_batch, class_label, logits_of, measured
from torchmetrics.functional.classification import multiclass_confusion_matrix

from mtlkit.metrics import MeanIoU, MeanIoUPerImage, PixelAccuracy, PixelAccuracyPerImage
from mtlkit.structures import Label


def test_confusion_matrix_is_that_of_torchmetrics():
    batches = [class_batch(seed) for seed in range(3)]
    metric = MeanIoU(CLASSES)
    measured(metric, *batches)
    predicted = torch.cat([p.argmax(1)[x.valid[:, 0]] for p, x in batches])
    value = torch.cat([x.value[x.valid[:, 0]] for _, x in batches])
    expected = multiclass_confusion_matrix(predicted, value, CLASSES)
    assert torch.equal(metric.confusion, expected)


def test_mean_iou_is_that_of_the_cityscapes_scripts():
    metric = MeanIoU(CLASSES)
    value = measured(metric, *(class_batch(seed) for seed in range(3)))
    args = official.CArgs()
    args.evalLabels = [7, 8, 11, 12, 13]  # five of the ids that Cityscapes evaluates
    matrix = np.zeros((14, 14), dtype=np.ulonglong)
    matrix[np.ix_(args.evalLabels, args.evalLabels)] = metric.confusion.numpy()
    scores = [official.getIouScoreForLabel(label, matrix, args) for label in args.evalLabels]
    assert value == pytest.approx(np.mean(scores), rel=1e-12)


def test_mean_iou_leaves_out_classes_without_union_and_counts_false_positives():
    # class 0: 1 of 2, class 1: 1 of 2, class 2 only predicted: 0 of 1; classes 3 and 4 nowhere
    prediction, label = logits_of([[[0, 1, 2, 1]]]), class_label([[[0, 0, 1, 1]]])
    expected = (1 / 2 + 1 / 3 + 0) / 3
    assert measured(MeanIoU(CLASSES), (prediction, label)) == pytest.approx(expected)


def test_predictions_on_void_count_for_nothing():
    prediction, label = logits_of([[[0, 1, 3, 3]]]), class_label([[[0, 1, -1, -1]]])
    assert measured(MeanIoU(CLASSES), (prediction, label)) == 1
    assert measured(PixelAccuracy(CLASSES), (prediction, label)) == 1


def test_means_over_images_differ_from_those_of_the_set():
    prediction = logits_of([[[0, 0, 0, 0]], [[0, 1, 0, 0]]])
    label = class_label([[[0, 0, 0, 0]], [[1, 1, -1, -1]]])
    # image 1: class 0 is right. image 2: class 0 is 0 of 1, class 1 is 1 of 2
    batch = (prediction, label)
    assert measured(MeanIoUPerImage(CLASSES), batch) == pytest.approx((1 + 1 / 4) / 2)
    assert measured(MeanIoU(CLASSES), batch) == pytest.approx((4 / 5 + 1 / 2) / 2)
    assert measured(PixelAccuracyPerImage(CLASSES), batch) == pytest.approx((1 + 1 / 2) / 2)
    assert measured(PixelAccuracy(CLASSES), batch) == pytest.approx(5 / 6)


@pytest.mark.parametrize("metric", [MeanIoUPerImage, PixelAccuracyPerImage])
def test_an_image_without_valid_pixel_is_skipped(metric):
    prediction, label = class_batch(0, images=1, void=0.0)
    empty = Label(label.value, torch.zeros_like(label.valid))
    alone = measured(metric(CLASSES), (prediction, label))
    assert measured(metric(CLASSES), (prediction, label), (prediction, empty)) == alone


@pytest.mark.parametrize("metric", [MeanIoU, MeanIoUPerImage, PixelAccuracy, PixelAccuracyPerImage])
def test_class_metrics_do_not_depend_on_how_images_are_batched(metric):
    prediction, label = class_batch(3, images=4)
    halves = [(prediction[r], Label(label.value[r], label.valid[r])) for r in ([0, 1], [2, 3])]
    whole = measured(metric(CLASSES), (prediction, label))
    assert measured(metric(CLASSES), *halves) == pytest.approx(whole, rel=1e-12)


@pytest.mark.parametrize("metric", [MeanIoU(CLASSES), PixelAccuracyPerImage(CLASSES)])
def test_a_set_without_valid_pixel_gives_nan(metric):
    prediction, label = class_batch(0, void=1.1)
    assert math.isnan(measured(metric, (prediction, label)))
