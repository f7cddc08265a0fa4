"""Metrics of class maps, all from confusion matrices."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric

from mtlkit.metrics.histogram import histogram
from mtlkit.structures import Label


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
        predicted = prediction.detach().max(1).indices  # several times as fast as argmax on a CPU
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


def _confusions(predicted: Tensor, value: Tensor, valid: Tensor, classes: int) -> Tensor:
    """Return one matrix per image, (N,classes,classes) int64."""
    images = len(value)
    offset = torch.arange(images, device=value.device)[:, None, None] * classes**2
    counts = histogram(offset + value * classes + predicted, valid, images * classes**2)
    return counts.view(images, classes, classes)


def _trace(confusions: Tensor) -> Tensor:
    return confusions.diagonal(dim1=1, dim2=2).sum(1)


def _mean_iou(confusions: Tensor) -> Tensor:
    """Return each matrix's mean over classes with a union, (N,) float64; NaN where none has."""
    hits = confusions.diagonal(dim1=1, dim2=2)
    union = confusions.sum(1) + confusions.sum(2) - hits
    iou = hits.double() / union.clamp(min=1)
    return iou.sum(1) / (union > 0).sum(1)
