"""Metrics that are updated with (prediction, Label), an adapter for others, and Δm.

Metrics with an equal `family` have identical states and differ in what they compute from them, so
that an evaluation counts every batch once for all of them. Their updates never wait for the
device: they neither read a value nor index by a mask.
"""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean
from typing import Any, Literal

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.wrappers.abstract import WrapperMetric

from mtlkit.errors import UsageError
from mtlkit.structures import Label

THRESHOLDS = (1.25, 1.25**2, 1.25**3)  # Eigen, Puhrsch and Fergus 2014, section 4


class _ClassMetric(Metric):
    """Counts confusions over the set and, image by image, mean IoU and pixel accuracy.

    Rows of the confusion matrix are labels, columns predictions; what the label leaves void counts
    nowhere. An image without any valid pixel is skipped: it is no image of the set.

    Args:
        classes: number of classes.
    """

    full_state_update = False
    higher_is_better = True

    confusion: Tensor  # (classes, classes) int64
    iou: Tensor  # sum over images, float64
    accuracy: Tensor  # sum over images, float64
    images: Tensor  # images with a valid pixel, int64

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes
        self.family = f"{classes} classes"  # those with equal families share states
        counts, share = torch.zeros(classes, classes).long(), torch.zeros(()).double()
        self.add_state("confusion", counts, dist_reduce_fx="sum")
        self.add_state("iou", share, dist_reduce_fx="sum")
        self.add_state("accuracy", share.clone(), dist_reduce_fx="sum")
        self.add_state("images", torch.zeros(()).long(), dist_reduce_fx="sum")

    def update(self, prediction: Tensor, label: Label) -> None:
        """Count a batch.

        Args:
            prediction: logits, (N,C,H,W), float.
            label: ids, (N,H,W), int64.
        """
        predicted = prediction.detach().float().argmax(1)
        confusions = _confusions(predicted, label.value, label.valid[:, 0], self.classes)
        seen = confusions.sum((1, 2))
        self.confusion += confusions.sum(0)
        self.iou += _mean_iou(confusions).nan_to_num(0.0).sum()
        self.accuracy += (_trace(confusions).double() / seen.clamp(min=1)).sum()
        self.images += (seen > 0).sum()


class MeanIoU(_ClassMetric):
    """The mean over classes of IoU, from one confusion matrix of the whole set.

    A class that is neither in the labels nor predicted is left out; a set without a valid pixel
    gives NaN.
    """

    def compute(self) -> Tensor:
        """Return mIoU, a share in [0,1], float64."""
        return _mean_iou(self.confusion[None])[0]


class MeanIoUPerImage(_ClassMetric):
    """The mean over images of each image's mean IoU over the classes it shows or predicts.

    Source: XTasC-Net's tables; the released code's Logger (module.py), which gives NaN for an image
    without a valid pixel where this one skips it.
    """

    def compute(self) -> Tensor:
        """Return mIoU per image, a share in [0,1], float64."""
        return self.iou / self.images


class PixelAccuracy(_ClassMetric):
    """The share of the set's valid pixels whose class is right."""

    def compute(self) -> Tensor:
        """Return the accuracy, a share in [0,1], float64."""
        return _trace(self.confusion[None])[0].double() / self.confusion.sum()


class PixelAccuracyPerImage(_ClassMetric):
    """The mean over images of each image's pixel accuracy; see `MeanIoUPerImage`."""

    def compute(self) -> Tensor:
        """Return the accuracy per image, a share in [0,1], float64."""
        return self.accuracy / self.images


class _DistanceMetric(Metric):
    """Sums errors over all valid pixels of the set whose label is above 0.

    Pooled, so that neither order nor batch size matters; XTasC-Net's code averages batches instead.
    """

    full_state_update = False
    higher_is_better = False
    family = "distances"

    absolute: Tensor  # Σ|p − g|, float64
    relative: Tensor  # Σ|p − g|/g, float64
    squared: Tensor  # Σ(p − g)², float64
    within: Tensor  # pixels under each threshold, (3,) int64
    count: Tensor  # valid pixels, int64

    def __init__(self) -> None:
        super().__init__()
        for name in ("absolute", "relative", "squared"):
            self.add_state(name, torch.zeros(()).double(), dist_reduce_fx="sum")
        self.add_state("within", torch.zeros(len(THRESHOLDS)).long(), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros(()).long(), dist_reduce_fx="sum")

    def update(self, prediction: Tensor, label: Label) -> None:
        """Count a batch.

        Args:
            prediction: distances, (N,1,H,W), float, in the label's unit.
            label: distances, (N,1,H,W), float.
        """
        p, g = prediction.detach().float(), label.value.float()
        valid = label.valid & (g > 0)
        # an invalid pixel is compared with itself, so that it adds 0 even where it is NaN
        p, g = torch.where(valid, p, 1.0), torch.where(valid, g, 1.0)
        error = (p - g).abs()
        self.absolute += error.sum(dtype=torch.float64)
        self.relative += (error / g).sum(dtype=torch.float64)
        self.squared += error.square().sum(dtype=torch.float64)
        right_side = valid & (p > 0)
        ratio = torch.maximum(p / g, g / torch.where(right_side, p, 1.0))
        self.within += torch.stack([(right_side & (ratio < t)).sum() for t in THRESHOLDS])
        self.count += valid.sum()


class AbsoluteError(_DistanceMetric):
    """The mean of |p − g|, in the label's unit."""

    def compute(self) -> Tensor:
        """Return the error, float64; NaN where nothing was valid."""
        return self.absolute / self.count


class RelativeError(_DistanceMetric):
    """The mean of |p − g|/g: a ratio, not percent; labels near 0 rule it."""

    def compute(self) -> Tensor:
        """Return the error, float64; NaN where nothing was valid."""
        return self.relative / self.count


class RootMeanSquareError(_DistanceMetric):
    """The root of the mean of (p − g)², in the label's unit."""

    def compute(self) -> Tensor:
        """Return the error, float64; NaN where nothing was valid."""
        return (self.squared / self.count).sqrt()


class Delta(_DistanceMetric):
    """The share of pixels with max(p/g, g/p) < 1.25^power; p ≤ 0 is wrong.

    Args:
        power: of 1.25.
    """

    higher_is_better = True

    def __init__(self, power: Literal[1, 2, 3]) -> None:
        super().__init__()
        self.power = power

    def compute(self) -> Tensor:
        """Return a share in [0,1], float64; NaN where nothing was valid."""
        return self.within[self.power - 1].double() / self.count


class OnValid(WrapperMetric):
    """Any plain torchmetrics metric, updated with the valid elements alone.

    Maps become (P,C), or (P,) where they have one channel; a batch without valid ones is skipped.

    Args:
        metric: updated with (prediction, value).
    """

    def __init__(self, metric: Metric) -> None:
        super().__init__()
        self.metric = metric

    def update(self, prediction: Tensor, label: Label) -> None:
        """Count a batch.

        Args:
            prediction: (N,C,H,W), or (N,C) for vectors, float.
            label: ids (N,H,W), maps (N,C,H,W), or vectors (N,) or (N,C).
        """
        valid = label.valid if label.valid.ndim == 1 else label.valid[:, 0]
        kept = _elements(label.value, valid)
        if len(kept):
            self.metric.update(_elements(prediction.detach().float(), valid), kept)

    @property
    def update_called(self) -> bool:
        """Whether any batch was counted: the base class leaves it to the wrapped metric."""
        return self.metric.update_called

    def compute(self) -> Any:
        """Return what the metric computes."""
        return self.metric.compute()

    def reset(self) -> None:
        """Forget every batch."""
        super().reset()
        self.metric.reset()


def delta_m(
    metrics: Mapping[str, float],
    baseline: Mapping[str, float],
    higher_is_better: Mapping[str, bool],
    form: Literal["all_metrics", "per_task"] = "all_metrics",
) -> float:
    """Return Δm: by how many percent the metrics are better than the baseline's, on average.

    Form `all_metrics` is 100/|M| · Σ ±(M_m − M_b)/M_b over all metrics, whatever task they belong
    to; `per_task` averages the metrics of each task first, then the tasks. Name the form wherever
    the number is shown: other papers average one metric per task.

    Args:
        metrics: values by key, such as "segmentation/miou".
        baseline: values by key.
        higher_is_better: direction by key; only keys in all three count.
        form: how it is averaged.

    Raises:
        UsageError: no key is in all three, or a baseline value is 0.

    Source: XTasC-Net, arXiv 2111.14122, eq. 17, for `all_metrics`.
    """
    keys = [key for key in metrics if key in baseline and key in higher_is_better]
    if not keys:
        known = ", ".join(sorted(baseline)) or "none"
        raise UsageError(f"Δm: no metric is in both; compare runs that share some of: {known}")
    if zeros := [key for key in keys if baseline[key] == 0]:
        raise UsageError(f"Δm: the baseline's {zeros[0]!r} is 0; leave it out, a ratio needs it")
    gains: dict[str, list[float]] = {}
    for key in keys:
        sign = 1 if higher_is_better[key] else -1
        gain = 100 * sign * (metrics[key] - baseline[key]) / baseline[key]
        group = key.split("/")[0] if form == "per_task" else ""
        gains.setdefault(group, []).append(gain)
    return fmean(map(fmean, gains.values()))


def _confusions(predicted: Tensor, value: Tensor, valid: Tensor, classes: int) -> Tensor:
    """Return one matrix per image, (N,classes,classes) int64."""
    images, void_bin = len(value), len(value) * classes**2
    offset = torch.arange(images, device=value.device)[:, None, None] * classes**2
    index = torch.where(valid, offset + value * classes + predicted, void_bin).flatten()
    # scatter_add_ and not bincount, which waits for the device to learn its size
    counts = index.new_zeros(void_bin + 1)
    counts.scatter_add_(0, index, torch.ones_like(index))
    return counts[:-1].view(images, classes, classes)


def _trace(confusions: Tensor) -> Tensor:
    return confusions.diagonal(dim1=1, dim2=2).sum(1)


def _mean_iou(confusions: Tensor) -> Tensor:
    """Return each matrix's mean over classes with a union, (N,) float64; NaN where none has."""
    hits = confusions.diagonal(dim1=1, dim2=2)
    union = confusions.sum(1) + confusions.sum(2) - hits
    iou = hits.double() / union.clamp(min=1)
    return iou.sum(1) / (union > 0).sum(1)


def _elements(values: Tensor, valid: Tensor) -> Tensor:
    """Return the valid elements, (P,C), or (P,) where there is one channel or none."""
    last = values if values.ndim <= valid.ndim else values.movedim(1, -1)
    kept = last[valid]
    return kept.squeeze(1) if kept.ndim == 2 and kept.shape[1] == 1 else kept
