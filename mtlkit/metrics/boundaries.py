"""F of predicted boundaries, with a tolerance in distance."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from torchmetrics import Metric

from mtlkit.metrics.histogram import histogram
from mtlkit.structures import Label

TOLERANCE = 0.0075  # of the image's diagonal: the default of the BSDS benchmark's code
THRESHOLDS = 99  # 0.01, 0.02, …, 0.99, as BSDS


class _Score(NamedTuple):
    """Of the best threshold, each a scalar, float64; NaN where the set has no boundary."""

    f: Tensor
    precision: Tensor
    recall: Tensor


class _BoundaryMetric(Metric):
    """Counts, for 99 thresholds at once, what is right and what is found in the set.

    A predicted pixel is right where a labelled one lies within the tolerance; a labelled pixel is
    found where a predicted one does. Both are summed over the set, and one threshold serves the
    whole set: the one with the largest F. Predictions are neither thinned nor matched one to one,
    so this is *not* the odsF of BSDS (non-maximum suppression, thinning, bipartite matching), and
    it reads higher: thick predictions cost nothing within the tolerance. What is not valid counts
    for nothing on either side; a prediction that is not a number is no boundary.

    Args:
        tolerance: share of the diagonal of the image; below one pixel only the same pixel matches.
    """

    full_state_update = False
    higher_is_better = True

    predicted: Tensor  # pixels by the number of thresholds that they reach, (100,) int64
    right: Tensor  # those of them near a labelled one, (100,) int64
    reached: Tensor  # labelled pixels by the same of the best prediction near them, (100,) int64

    def __init__(self, tolerance: float = TOLERANCE) -> None:
        super().__init__()
        self.tolerance = tolerance
        self.family = f"boundaries within {tolerance}"
        for name in ("predicted", "right", "reached"):
            self.add_state(name, torch.zeros(THRESHOLDS + 1).long(), dist_reduce_fx="sum")

    def update(self, prediction: Tensor, label: Label) -> None:
        """Count a batch.

        Args:
            prediction: logits, (N,1,H,W), float.
            label: 1 on a boundary, else 0, (N,1,H,W), float.
        """
        valid = label.valid
        share = torch.where(valid, prediction.detach().float().sigmoid().nan_to_num(0.0), 0.0)
        drawn = valid & (label.value > 0.5)
        radius = self.tolerance * math.hypot(*share.shape[-2:])
        near = _largest_within(drawn.float(), radius) > 0
        level, best = _level(share), _level(_largest_within(share, radius))
        self.predicted += histogram(level, valid, THRESHOLDS + 1)
        self.right += histogram(level, valid & near, THRESHOLDS + 1)
        self.reached += histogram(best, drawn, THRESHOLDS + 1)

    def _score(self) -> _Score:
        predicted, right, found = map(_from_level, (self.predicted, self.right, self.reached))
        drawn = self.reached.sum()
        recall = found / drawn
        precision = torch.where(drawn > 0, right / predicted.clamp(min=1), torch.nan)
        f = 2 * precision * recall / (precision + recall).clamp(min=1e-12)
        best = f.argmax()
        return _Score(f[best], precision[best], recall[best])


class BoundaryF(_BoundaryMetric):
    """The largest F = 2PR/(P+R) of 99 thresholds over the set, matched by distance alone.

    It is not the official odsF and reads higher: nothing is thinned or matched one to one.
    """

    def compute(self) -> Tensor:
        """Return F, in [0,1], float64; NaN where the set has no boundary."""
        return self._score().f


class BoundaryPrecision(_BoundaryMetric):
    """The share of predicted pixels that are right, at the threshold of the largest F."""

    def compute(self) -> Tensor:
        """Return a share in [0,1], float64; NaN where the set has no boundary."""
        return self._score().precision


class BoundaryRecall(_BoundaryMetric):
    """The share of labelled pixels that are found, at the threshold of the largest F."""

    def compute(self) -> Tensor:
        """Return a share in [0,1], float64; NaN where the set has no boundary."""
        return self._score().recall


def _level(share: Tensor) -> Tensor:
    """Return how many of the thresholds each value reaches, int64, in [0,99]."""
    thresholds = torch.arange(1, THRESHOLDS + 1, device=share.device) / (THRESHOLDS + 1)
    return torch.bucketize(share.contiguous(), thresholds, right=True)


def _from_level(counts: Tensor) -> Tensor:
    """Return the sum of what reaches each threshold, (99,) float64."""
    return counts.flip(0).cumsum(0).flip(0)[1:].double()


def _largest_within(maps: Tensor, radius: float) -> Tensor:
    """Return the largest value in the disc around each pixel, (N,C,H,W); values are ≥ 0."""
    (height, width), reach = maps.shape[-2:], int(radius)
    padded = functional.pad(maps, [reach] * 4)
    rows = {dy: padded[:, :, reach + dy : reach + dy + height] for dy in range(-reach, reach + 1)}
    column, half, largest = rows[0], 0, maps  # column: the largest of 2·half + 1 rows
    for dx in range(reach, -1, -1):  # from the rim inwards the columns of a disc grow
        while half < int(math.sqrt(radius**2 - dx**2)):
            half += 1
            column = torch.maximum(column, torch.maximum(rows[-half], rows[half]))
        for start in (reach - dx, reach + dx):
            largest = torch.maximum(largest, column[..., start : start + width])
    return largest
