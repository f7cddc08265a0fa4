"""Cityscapes' classes: 34 label ids in files, 19 train ids and 7 categories to learn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

VOID = 255  # as in mtlkit.transforms, which needs torch; rendering processes do without it

Classes = Literal[7, 16, 19]
ClassMapName = Literal["category", "strict", "densemtl"]
CATEGORIES = ("flat", "construction", "object", "nature", "sky", "human", "vehicle")


# Source: DenseMTL, arXiv 2206.08927, released code: 16 classes as of SYNTHIA, and its 7.
NOT_IN_16 = ("terrain", "truck", "train")
IN_DENSEMTL_7 = (
    *("road", "sidewalk", "building", "fence", "pole", "traffic light", "traffic sign"),
    *("vegetation", "sky", "person", "car", "bicycle"),
)


@dataclass(frozen=True)
class LabelClass:
    """One kind of pixel; its place in `LABELS` is its label id.

    Args:
        name: the official one.
        train_id: 0 to 18; `VOID`: not evaluated.
        category: index into `CATEGORIES`; `VOID`: none.
        colour: the official RGB.
        has_instances: whether things of this class are counted.
    """

    name: str
    train_id: int
    category: int
    colour: tuple[int, int, int]
    has_instances: bool = False


# Source: cityscapesscripts/helpers/labels.py; the licence plate (id −1) is never drawn.
LABELS = (
    LabelClass("unlabeled", VOID, VOID, (0, 0, 0)),
    LabelClass("ego vehicle", VOID, VOID, (0, 0, 0)),
    LabelClass("rectification border", VOID, VOID, (0, 0, 0)),
    LabelClass("out of roi", VOID, VOID, (0, 0, 0)),
    LabelClass("static", VOID, VOID, (0, 0, 0)),
    LabelClass("dynamic", VOID, VOID, (111, 74, 0)),
    LabelClass("ground", VOID, VOID, (81, 0, 81)),
    LabelClass("road", 0, 0, (128, 64, 128)),
    LabelClass("sidewalk", 1, 0, (244, 35, 232)),
    LabelClass("parking", VOID, 0, (250, 170, 160)),
    LabelClass("rail track", VOID, 0, (230, 150, 140)),
    LabelClass("building", 2, 1, (70, 70, 70)),
    LabelClass("wall", 3, 1, (102, 102, 156)),
    LabelClass("fence", 4, 1, (190, 153, 153)),
    LabelClass("guard rail", VOID, 1, (180, 165, 180)),
    LabelClass("bridge", VOID, 1, (150, 100, 100)),
    LabelClass("tunnel", VOID, 1, (150, 120, 90)),
    LabelClass("pole", 5, 2, (153, 153, 153)),
    LabelClass("polegroup", VOID, 2, (153, 153, 153)),
    LabelClass("traffic light", 6, 2, (250, 170, 30)),
    LabelClass("traffic sign", 7, 2, (220, 220, 0)),
    LabelClass("vegetation", 8, 3, (107, 142, 35)),
    LabelClass("terrain", 9, 3, (152, 251, 152)),
    LabelClass("sky", 10, 4, (70, 130, 180)),
    LabelClass("person", 11, 5, (220, 20, 60), True),
    LabelClass("rider", 12, 5, (255, 0, 0), True),
    LabelClass("car", 13, 6, (0, 0, 142), True),
    LabelClass("truck", 14, 6, (0, 0, 70), True),
    LabelClass("bus", 15, 6, (0, 60, 100), True),
    LabelClass("caravan", VOID, 6, (0, 0, 90), True),
    LabelClass("trailer", VOID, 6, (0, 0, 110), True),
    LabelClass("train", 16, 6, (0, 80, 100), True),
    LabelClass("motorcycle", 17, 6, (0, 0, 230), True),
    LabelClass("bicycle", 18, 6, (119, 11, 32), True),
)


def class_names(classes: Classes) -> tuple[str, ...]:
    """Return the names by class id: of the categories, or of 16 or 19 train ids."""
    if classes == 7:
        return CATEGORIES
    left_out = NOT_IN_16 if classes == 16 else ()
    return tuple(x.name for x in LABELS if x.train_id != VOID and x.name not in left_out)


def label_to_class(classes: Classes, class_map: ClassMapName = "category") -> NDArray[np.uint8]:
    """Return a table (256,) from label id to class id, `VOID` for every other value.

    Args:
        classes: 7 categories, or 16 or 19 train ids.
        class_map: of the categories: "category" counts every class of one, "strict" those that have
            a train id, "densemtl" those that DenseMTL counts; 16 and 19 classes are always strict.
    """
    table = np.full(256, VOID, np.uint8)
    names = class_names(classes)
    for label_id, label in enumerate(LABELS):
        is_counted = {
            "category": True,
            "strict": label.train_id != VOID,
            "densemtl": label.name in IN_DENSEMTL_7,
        }[class_map]
        if classes == 7 and is_counted:
            table[label_id] = label.category
        elif classes != 7 and label.name in names:
            table[label_id] = names.index(label.name)
    return table


def train_to_label() -> NDArray[np.uint8]:
    """Return a table (256,) from train id to label id, 0 (unlabeled) for every other value."""
    table = np.zeros(256, np.uint8)
    for label_id, label in enumerate(LABELS):
        if label.train_id != VOID:
            table[label.train_id] = label_id
    return table
