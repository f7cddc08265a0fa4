"""Errors of distances: depth, disparity and inverse depth."""

from __future__ import annotations

from typing import Literal, Protocol

import torch
from torch import Tensor
from torchmetrics import Metric

from mtlkit.structures import Label

THRESHOLDS = (1.25, 1.25**2, 1.25**3)  # Eigen, Puhrsch and Fergus 2014, section 4
SMALLEST = 1e-9  # of predictions before a logarithm: Vandenhende et al., arXiv 2004.13379, code
SUMS = ("absolute", "relative", "squared", "squared_relative", "squared_log")


class Conversion(Protocol):
    """Turns distances into others, such as disparities into metres; hashable, best frozen.

    Metrics with equal conversions share states.
    """

    def __call__(self, prediction: Tensor, label: Label) -> tuple[Tensor, Label]:
        """Return prediction and label in the other unit; what has no other value is not valid.

        Args:
            prediction: (N,1,H,W), float32; may hold anything where the label is not valid.
            label: (N,1,H,W), float.
        """


class _DistanceMetric(Metric):
    """Sums errors over all valid pixels of the set whose label is above 0.

    Pooled, so that neither order nor batch size matters; XTasC-Net's code averages batches instead.

    Args:
        conversion: what to measure instead of the distances as they are.
    """

    full_state_update = False
    higher_is_better = False

    absolute: Tensor  # Σ|p − g|, float64
    relative: Tensor  # Σ|p − g|/g, float64
    squared: Tensor  # Σ(p − g)², float64
    squared_relative: Tensor  # Σ(p − g)²/g, float64
    squared_log: Tensor  # Σ(ln p − ln g)², float64
    within: Tensor  # pixels under each threshold, (3,) int64
    count: Tensor  # valid pixels, int64

    def __init__(self, conversion: Conversion | None = None) -> None:
        super().__init__()
        self.conversion = conversion
        for name in SUMS:
            self.add_state(name, torch.zeros(()).double(), dist_reduce_fx="sum")
        self.add_state("within", torch.zeros(len(THRESHOLDS)).long(), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros(()).long(), dist_reduce_fx="sum")

    @property
    def family(self) -> object:
        """What is equal for metrics that share states."""
        return "distances", self.conversion

    def update(self, prediction: Tensor, label: Label) -> None:
        """Count a batch.

        Args:
            prediction: distances, (N,1,H,W), float, in the label's unit.
            label: distances, (N,1,H,W), float.
        """
        p = prediction.detach().float()
        if self.conversion is not None:
            p, label = self.conversion(p, label)
        g = label.value.float()
        valid = label.valid & (g > 0)
        # an invalid pixel is compared with itself, so that it adds 0 even where it is NaN
        p, g = torch.where(valid, p, 1.0), torch.where(valid, g, 1.0)
        error = (p - g).abs()
        relative = error / g
        self.absolute += _sum(error)
        self.relative += _sum(relative)
        self.squared += _sum(error.square())
        self.squared_relative += _sum(error * relative)
        self.squared_log += _sum((p.clamp(min=SMALLEST) / g).log().square())
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


class SquaredRelativeError(_DistanceMetric):
    """The mean of (p − g)²/g, in the label's unit; labels near 0 rule it."""

    def compute(self) -> Tensor:
        """Return the error, float64; NaN where nothing was valid."""
        return self.squared_relative / self.count


class RootMeanSquareError(_DistanceMetric):
    """The root of the mean of (p − g)², in the label's unit."""

    def compute(self) -> Tensor:
        """Return the error, float64; NaN where nothing was valid."""
        return (self.squared / self.count).sqrt()


class RootMeanSquareLogError(_DistanceMetric):
    """The root of the mean of (ln p − ln g)², a ratio; p counts as 1e-9 where it is below.

    A prediction of 0 or less so has an error of about 20 and rules the metric. The survey of
    Vandenhende et al. (arXiv 2004.13379) clamps at 1e-9 too; DenseMTL (arXiv 2206.08927) clamps
    metres to 1e-3 … 80, which a conversion to metres does here.
    """

    def compute(self) -> Tensor:
        """Return the error, float64; NaN where nothing was valid."""
        return (self.squared_log / self.count).sqrt()


class Delta(_DistanceMetric):
    """The share of pixels with max(p/g, g/p) < 1.25^power; p ≤ 0 is wrong.

    Args:
        power: of 1.25.
        conversion: what to measure instead of the distances as they are.
    """

    higher_is_better = True

    def __init__(self, power: Literal[1, 2, 3], conversion: Conversion | None = None) -> None:
        super().__init__(conversion)
        self.power = power

    def compute(self) -> Tensor:
        """Return a share in [0,1], float64; NaN where nothing was valid."""
        return self.within[self.power - 1].double() / self.count


def _sum(x: Tensor) -> Tensor:
    """Return the sum, float64; rows are short enough for float32, where all pixels are not."""
    return x.sum(-1).sum(dtype=torch.float64)
