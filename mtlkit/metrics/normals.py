"""Angles between predicted and labelled surface normals."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional
from torchmetrics import Metric

from mtlkit.metrics.histogram import histogram
from mtlkit.structures import Label

BINS_PER_DEGREE = 100  # 11.25° and 22.5° are edges of bins
BINS = 180 * BINS_PER_DEGREE


class _AngleMetric(Metric):
    """Counts the angles of all valid pixels of the set, in bins of 0.01°.

    Pooled, so that neither order nor batch size matters; MTAN's code averages the means and medians
    of batches instead. The angle is 2·atan2(|p − g|, |p + g|) of unit vectors, which is exact near
    0° and 180° where acos of the dot product is not. A prediction of length 0 is 90° off, as acos
    has it too: it names no direction, and 90° is the mean over all of them. One that is not a
    number is 180° off.
    """

    full_state_update = False
    higher_is_better = False
    family = "angles"

    bins: Tensor  # pixels by angle, (18000,) int64
    total: Tensor  # Σ angle, degrees, float64
    squared: Tensor  # Σ angle², float64

    def __init__(self) -> None:
        super().__init__()
        self.add_state("bins", torch.zeros(BINS).long(), dist_reduce_fx="sum")
        for name in ("total", "squared"):
            self.add_state(name, torch.zeros(()).double(), dist_reduce_fx="sum")

    def update(self, prediction: Tensor, label: Label) -> None:
        """Count a batch.

        Args:
            prediction: normals of any length, (N,3,H,W), float.
            label: unit normals, (N,3,H,W), float.
        """
        angle = angle_degrees(prediction.detach().float(), label.value.float()).nan_to_num(180.0)
        angle = torch.where(label.valid, angle, 0.0)
        self.total += angle.sum(dtype=torch.float64)
        self.squared += angle.square().sum(dtype=torch.float64)
        index = (angle * BINS_PER_DEGREE).long().clamp(max=BINS - 1)
        self.bins += histogram(index, label.valid, BINS)


class MeanAngle(_AngleMetric):
    """The mean angle, in degrees."""

    def compute(self) -> Tensor:
        """Return the angle, float64; NaN where nothing was valid."""
        return self.total / self.bins.sum()


class MedianAngle(_AngleMetric):
    """The median angle, in degrees: the middle of its bin, so within 0.005° of the exact one.

    Of an even number of pixels it is the mean of the two in the middle.
    """

    def compute(self) -> Tensor:
        """Return the angle, float64; NaN where nothing was valid."""
        below = self.bins.cumsum(0)
        count = below[-1]
        ranks = torch.stack([(count - 1).clamp(min=0) // 2, count // 2])
        middle = torch.searchsorted(below, ranks, right=True).double().mean() + 0.5
        return torch.where(count > 0, middle / BINS_PER_DEGREE, torch.nan)


class RootMeanSquareAngle(_AngleMetric):
    """The root of the mean squared angle, in degrees."""

    def compute(self) -> Tensor:
        """Return the angle, float64; NaN where nothing was valid."""
        return (self.squared / self.bins.sum()).sqrt()


class AngleWithin(_AngleMetric):
    """The share of pixels whose angle is below a number of degrees.

    Args:
        degrees: a multiple of 0.01; papers give 11.25, 22.5 and 30.
    """

    higher_is_better = True

    def __init__(self, degrees: float) -> None:
        super().__init__()
        self.degrees = degrees

    def compute(self) -> Tensor:
        """Return a share in [0,1], float64; NaN where nothing was valid."""
        edge = round(self.degrees * BINS_PER_DEGREE)
        return self.bins[:edge].sum().double() / self.bins.sum()


def angle_degrees(prediction: Tensor, value: Tensor) -> Tensor:
    """Return the angles between normals, (N,1,H,W), in [0,180]; NaN where either has NaN.

    Args:
        prediction: normals of any length, (N,3,H,W), float.
        value: unit normals, (N,3,H,W), float.
    """
    p = functional.normalize(prediction, dim=1)
    apart = torch.linalg.vector_norm(p - value, dim=1, keepdim=True)
    along = torch.linalg.vector_norm(p + value, dim=1, keepdim=True)
    return torch.rad2deg(2 * torch.atan2(apart, along))
