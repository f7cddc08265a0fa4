"""NYUv2's classes: 40 of Gupta et al., and the 13 that they are merged into."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

VOID = 255  # as in mtlkit.transforms, which needs torch; rendering processes do without it

Classes = Literal[13, 40]

# Source: class13Mapping.mat, whose ids start at 1 (0 is void); here they start at 0.
CLASSES = (
    "bed",
    "books",
    "ceiling",
    "chair",
    "floor",
    "furniture",
    "objects",
    "picture",
    "sofa",
    "table",
    "tv",
    "wall",
    "window",
)

# Source: Gupta, Arbelaez, Malik 2013, classMapping40.mat, in its spelling; ids there start at 1.
CLASSES_40 = (
    *("wall", "floor", "cabinet", "bed", "chair", "sofa", "table", "door", "window", "bookshelf"),
    *("picture", "counter", "blinds", "desk", "shelves", "curtain", "dresser", "pillow", "mirror"),
    *("floor mat", "clothes", "ceiling", "books", "refridgerator", "television", "paper", "towel"),
    *("shower curtain", "box", "whiteboard", "person", "night stand", "toilet", "sink", "lamp"),
    *("bathtub", "bag", "otherstructure", "otherfurniture", "otherprop"),
)

# Source: class13Mapping.mat. What is not named here is an object.
_MERGED = {
    "bed": ("bed",),
    "books": ("books",),
    "ceiling": ("ceiling",),
    "chair": ("chair",),
    "floor": ("floor", "floor mat"),
    "furniture": (
        *("cabinet", "bookshelf", "counter", "shelves", "dresser", "refridgerator"),
        *("night stand", "otherfurniture"),
    ),
    "picture": ("picture",),
    "sofa": ("sofa",),
    "table": ("table", "desk"),
    "tv": ("television",),
    "wall": ("wall", "door"),
    "window": ("window", "blinds", "curtain"),
}


def class_names(classes: Classes) -> tuple[str, ...]:
    """Return the names by class id.

    Args:
        classes: how many.
    """
    return CLASSES if classes == 13 else CLASSES_40


def forty_to_class(classes: Classes) -> NDArray[np.uint8]:
    """Return a table (41,) from what files hold, 0 for void and 1 to 40, to class id or `VOID`.

    Args:
        classes: how many.
    """
    if classes == 40:
        return np.array([VOID, *range(40)], np.uint8)
    table = np.full(41, CLASSES.index("objects"), np.uint8)
    table[0] = VOID
    for merged, names in _MERGED.items():
        table[[1 + CLASSES_40.index(name) for name in names]] = CLASSES.index(merged)
    return table
