"""Depth of rendered data sets: whole centimetres in 16 bits."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from mtlkit.transforms import DepthMap

MaxDepth = Annotated[float | None, Field(gt=0)]
_FARTHEST = 2**16 - 1  # what a file has for the sky and all that is as far


def depth_map(numbers: Tensor, max_depth_m: float | None) -> DepthMap:
    """Return depth in metres, (1,H,W) float32; 0 and 65535 are invalid.

    Args:
        numbers: centimetres, (1,H,W), whole numbers, 0 to 65535.
        max_depth_m: what is further is invalid; None: all of it counts.
    """
    depth = numbers.double() / 100  # in float64, in which 80 m is not above a limit of 80
    is_invalid = (numbers == 0) | (numbers == _FARTHEST)
    if max_depth_m is not None:
        is_invalid |= depth > max_depth_m
    return DepthMap(depth.float().masked_fill(is_invalid, torch.nan))
