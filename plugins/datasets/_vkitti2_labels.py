"""Virtual KITTI 2's classes: a colour in files, an id to learn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtlkit.errors import MissingError
from mtlkit.transforms import VOID, ClassMap

# Source: colors.txt of the data set; ids and their order as in DenseMTL's released code.
COLOURS = {
    "terrain": (210, 0, 200),
    "sky": (90, 200, 255),
    "tree": (0, 199, 0),
    "vegetation": (90, 240, 0),
    "building": (140, 140, 140),
    "road": (100, 60, 100),
    "guard rail": (250, 100, 255),
    "traffic sign": (255, 255, 0),
    "traffic light": (200, 200, 0),
    "pole": (255, 130, 0),
    "misc": (80, 80, 80),
    "truck": (160, 60, 60),
    "car": (255, 127, 80),
    "van": (0, 139, 139),
}
CLASSES = tuple(COLOURS)
UNDEFINED = (0, 0, 0)
"""The colour of pixels without a class."""


def class_map(colours: Tensor, path: Path) -> ClassMap:
    """Return the classes of colours, (H,W) uint8; `UNDEFINED` is void.

    Args:
        colours: (3,H,W), uint8.
        path: the file that they come from.

    Raises:
        MissingError: a colour is of no class.
    """
    numbers = _numbers(colours.numpy())
    place = np.searchsorted(_KNOWN, numbers).clip(max=len(_KNOWN) - 1)
    is_unknown = _KNOWN[place] != numbers
    if is_unknown.any():
        strange = np.unique(numbers[is_unknown])[:3]
        listed = ", ".join(str((int(n) >> 16, int(n) >> 8 & 255, int(n) & 255)) for n in strange)
        raise MissingError(
            f"{path}: holds colours of no class: {listed}. Give the data set's own classgt file, "
            "not a resized or JPEG copy"
        )
    return ClassMap(torch.from_numpy(_IDS[place]))


def _numbers(colours: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Return one number for each colour of (3,…)."""
    red, green, blue = colours.astype(np.int32)
    numbers: NDArray[np.int32] = red << 16 | green << 8 | blue
    return numbers


_TABLE = np.array([*COLOURS.values(), UNDEFINED], np.uint8).T
_ORDER = np.argsort(_numbers(_TABLE))
_KNOWN = _numbers(_TABLE)[_ORDER]
_IDS = np.array([*range(len(CLASSES)), VOID], np.uint8)[_ORDER]
