"""Disparity as Cityscapes' files hold it: pixels of the full resolution, in 16 bits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .geometry import F, Floats
from .render import Frame

FULL_WIDTH = 2048  # pixels of Cityscapes' images
STEPS_PER_PIXEL = 256
_MOST_STEPS = 2**16 - 2  # the greatest 16-bit number, less the 1 that keeps 0 free for "invalid"


def full_disparity(frame: Frame) -> Floats:
    """Return disparity in pixels at a width of 2048, (H,W); 0 where no ray hits.

    It is cut at 65534/256 ≈ 256 pixels, the most that a file holds: what is nearer than 1.85 m
    seems to be at 1.85 m.

    Args:
        frame: of any width.
    """
    scale = F(FULL_WIDTH / frame.disparity.shape[1])
    cut: Floats = np.minimum(frame.disparity * scale, F(_MOST_STEPS / STEPS_PER_PIXEL))
    return cut


def encoded(disparity: Floats) -> NDArray[np.uint16]:
    """Return a file's numbers: round(256·d) + 1, and 0 where there is none.

    Args:
        disparity: pixels at a width of 2048, 0 where there is none.
    """
    number = np.rint(disparity * F(STEPS_PER_PIXEL)) + F(1)
    return np.where(disparity > 0, number, F(0)).astype(np.uint16)
