from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling as official
from torchmetrics import MeanAbsoluteError, MetricCollection
from torchmetrics.classification import MulticlassAccuracy
from torchmetrics.functional.classification import multiclass_confusion_matrix

from mtlkit.errors import UsageError
from mtlkit.metrics import (
    AbsoluteError,
    Delta,
    MeanIoU,
    MeanIoUPerImage,
    OnValid,
    PixelAccuracy,
    PixelAccuracyPerImage,
    RelativeError,
    RootMeanSquareError,
    delta_m,
)
from mtlkit.structures import Label

CLASSES = 5


def class_batch(seed, images=3, void=0.2):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(images, CLASSES, 6, 7, generator=generator)
    value = torch.randint(CLASSES, (images, 6, 7), generator=generator)
    valid = torch.rand(images, 1, 6, 7, generator=generator) >= void
    return logits, Label(value.masked_fill(~valid[:, 0], 0), valid)


def logits_of(ids):
    return torch.nn.functional.one_hot(torch.tensor(ids), CLASSES).movedim(-1, 1).float()


def class_label(ids):
    value = torch.tensor(ids)
    return Label(value.clamp(min=0), (value >= 0)[:, None])


def measured(metric, *batches):
    for prediction, label in batches:
        metric.update(prediction, label)
    return float(metric.compute())


def distance_label(value, valid=None):
    value = torch.tensor(value).view(1, 1, 1, -1)
    mask = torch.ones_like(value, dtype=torch.bool)
    return Label(value, mask if valid is None else torch.tensor(valid).view_as(value))


def distances(*values):
    return torch.tensor(values).view(1, 1, 1, -1)


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


def test_metrics_of_one_family_are_counted_once_in_a_collection():
    classes = {"a": MeanIoU(CLASSES), "b": PixelAccuracy(CLASSES), "c": MeanIoUPerImage(CLASSES)}
    collection = MetricCollection(classes)
    batches = [class_batch(seed) for seed in range(2)]
    for prediction, label in batches:
        collection.update(prediction, label)
    assert len(collection.compute_groups) == 1
    assert float(collection.compute()["a"]) == measured(MeanIoU(CLASSES), *batches)
    depth = MetricCollection([AbsoluteError(), RelativeError(), RootMeanSquareError(), Delta(1)])
    depth.update(distances(1.0, 2.0), distance_label([1.5, 2.0]))
    assert len(depth.compute_groups) == 1


def test_distance_errors_have_their_textbook_values():
    batch = (distances(1.0, 4.0, 3.0), distance_label([2.0, 2.0, 3.0]))
    assert measured(AbsoluteError(), batch) == pytest.approx((1 + 2 + 0) / 3)
    assert measured(RelativeError(), batch) == pytest.approx((1 / 2 + 2 / 2 + 0) / 3)
    assert measured(RootMeanSquareError(), batch) == pytest.approx(math.sqrt((1 + 4 + 0) / 3))


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
    logits, classes = class_batch(0)
    measured(MeanIoU(CLASSES), (logits.bfloat16(), classes))


def test_sums_of_many_batches_lose_nothing():
    metric = AbsoluteError()
    metric.absolute += 2.0**30
    metric.update(distances(1.0), distance_label([1.0 + 2**-10]))
    assert float(metric.absolute) == 2.0**30 + 2**-10


def test_updates_never_read_a_value_back():
    # a meta tensor has no values: whatever asks for one fails
    metric, depth = MeanIoU(CLASSES).to("meta"), AbsoluteError().to("meta")
    value = torch.zeros(2, 4, 4, dtype=torch.int64, device="meta")
    valid = torch.ones(2, 1, 4, 4, dtype=torch.bool, device="meta")
    metric.update(torch.zeros(2, CLASSES, 4, 4, device="meta"), Label(value, valid))
    depth.update(torch.zeros(2, 1, 4, 4, device="meta"), Label(value[:, None].float(), valid))
    assert metric.update_called
    assert depth.update_called


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


def test_delta_m_flips_the_sign_of_errors_and_averages_all_metrics():
    directions = {"s/miou": True, "d/abs": False, "d/rel": False, "unused": True}
    baseline = {"s/miou": 50.0, "d/abs": 2.0, "d/rel": 4.0}
    metrics = {"s/miou": 55.0, "d/abs": 1.0, "d/rel": 5.0, "loss/total": 3.0}
    assert delta_m(metrics, baseline, directions) == pytest.approx((10 + 50 - 25) / 3)
    per_task = delta_m(metrics, baseline, directions, form="per_task")
    assert per_task == pytest.approx((10 + (50 - 25) / 2) / 2)


def test_delta_m_of_the_baseline_is_zero():
    values = {"s/miou": 0.5, "d/abs": 0.1}
    assert delta_m(values, values, {"s/miou": True, "d/abs": False}) == 0


@pytest.mark.parametrize(
    ("baseline", "message"),
    [({"other": 1.0}, "share some of: other"), ({"s/miou": 0.0}, "'s/miou' is 0")],
)
def test_delta_m_says_what_cannot_be_compared(baseline, message):
    with pytest.raises(UsageError, match=message):
        delta_m({"s/miou": 1.0}, baseline, {"s/miou": True})
