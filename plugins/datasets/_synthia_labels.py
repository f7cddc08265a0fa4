"""SYNTHIA-RAND-CITYSCAPES' classes: 23 ids in files, Cityscapes' 16 to learn."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ._cityscapes_labels import VOID, class_names

CLASSES = class_names(16)
_OTHER_NAMES = {"pedestrian": "person"}  # by Cityscapes' names

# Source: README of the data set; the place of a name is its id. Parking slot, terrain, truck and
# train occur in no file.
NAMES = (
    *("void", "sky", "building", "road", "sidewalk", "fence", "vegetation", "pole", "car"),
    *("traffic sign", "pedestrian", "bicycle", "motorcycle", "parking slot", "road work"),
    *("traffic light", "terrain", "rider", "truck", "bus", "train", "wall", "lane marking"),
)


def id_to_class() -> NDArray[np.uint8]:
    """Return a table (23,) from the id in a file to the class, `VOID` for what is none of the 16.

    Source: DenseMTL, arXiv 2206.08927, released code; lane markings are void there too.
    """
    names = [_OTHER_NAMES.get(name, name) for name in NAMES]
    return np.array([CLASSES.index(x) if x in CLASSES else VOID for x in names], np.uint8)
