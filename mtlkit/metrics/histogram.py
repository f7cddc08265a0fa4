"""Counting without waiting for the device."""

from __future__ import annotations

import torch
from torch import Tensor


def histogram(index: Tensor, counted: Tensor, bins: int) -> Tensor:
    """Return how often each index occurs where it is counted, (bins,) int64.

    Args:
        index: any shape, int64, in [0, bins) where it is counted.
        counted: bool, of the same shape.
        bins: number of indices.
    """
    kept = torch.where(counted, index, bins).flatten()
    # scatter_add_ and not bincount, which waits for the device to learn its size
    counts = kept.new_zeros(bins + 1)
    counts.scatter_add_(0, kept, torch.ones_like(kept))
    return counts[:-1]
