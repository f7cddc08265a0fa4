"""`streets`: rendered streets with Cityscapes' classes and disparity; nothing to download."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from mtlkit.augmentation import Augmentation
from mtlkit.contracts import Dataset
from mtlkit.contracts.plugin import Side
from mtlkit.hookspecs import hookimpl
from mtlkit.structures import FieldSpec
from mtlkit.transforms import ClassMap, DisparityMap, ImageClass

from ._cityscapes_labels import Classes, class_names, label_to_class, train_to_label
from ._derived import DEPTH_AT_ONE, offered, scalar
from ._scenes.disparity import FULL_WIDTH, full_disparity
from ._scenes.labels import edge_map, intrinsics, normal_map
from ._scenes.numbering import MOST_SCENES
from ._scenes.render import Frame
from ._scenes.scene import BASELINE_M
from ._scenes.split import RenderedSplit, Renderer, split_seeds
from ._scenes.street import street
from ._scenes.weather import WEATHER, weather

Scenes = Annotated[int, Field(ge=1, le=MOST_SCENES)]

_STEPS = 256  # what the disparity label is over, as in `cityscapes`


class Streets(Dataset):
    """Rendered streets, labelled like Cityscapes; equal bytes on every machine.

    Depth is what `cityscapes` would read had the scene been written to its files at this size:
    disparity in pixels at a width of 2048, over 256. Normals and edges are exact; `boundary` has
    the borders of things, creases and occlusions. `weather` is a class per image, the light that
    the scene is drawn with: clear, hazy (from 0.007 per metre on) or overcast. Train and val share
    no scene: the seeds of the first are even, those of the second odd.
    """

    type: Literal["streets"] = "streets"
    size: tuple[Side, Side] = Field(
        (128, 256), description="height and width of the samples, in pixels"
    )
    train: Scenes = Field(400, description="number of scenes to train on")
    val: Scenes = Field(100, description="number of scenes to validate on")
    seed: int = Field(0, ge=0, description="which scenes; other seeds share none")
    classes: Classes = Field(7, description="7 categories, 16 classes of SYNTHIA or 19 train ids")
    augment: Augmentation = Field(
        default_factory=Augmentation, description="what varies a training sample"
    )

    cache_advice: ClassVar[Literal["none", "ram", "disk"]] = "disk"

    @property
    def offers(self) -> Mapping[str, FieldSpec]:
        """Segmentation, depth, normals, boundary, weather and the camera."""
        disparity = FieldSpec(DisparityMap, unit="disparity/256")
        fields = offered(class_names(self.classes), disparity)
        return fields | {
            "weather": FieldSpec(ImageClass, classes=WEATHER),
            "depth_at_one": DEPTH_AT_ONE,
        }

    def build_split(self, split: str, wants: frozenset[str]) -> TorchDataset[dict[str, Tensor]]:
        """Return scenes, rendered when asked for.

        Args:
            split: "train" or "val".
            wants: names of `offers`.

        Raises:
            UsageError: there is no such split.
        """
        makers: dict[str, Callable[[Frame], Tensor]] = {
            "segmentation": partial(_class_map, classes=self.classes),
            "depth": _disparity_map,
            "normals": normal_map,
            "boundary": edge_map,
            "weather": weather,
            "camera": intrinsics,
            "depth_at_one": _depth_at_one,
        }
        labels = {name: make for name, make in makers.items() if name in wants}
        seeds = split_seeds(self.seed, split, {"train": self.train, "val": self.val})
        return RenderedSplit(Renderer(street, labels), seeds, self.size)

    def build_augmentation(self) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
        """Return the augmentation."""
        return self.augment


def _class_map(frame: Frame, classes: Classes) -> ClassMap:
    table = label_to_class(classes)[train_to_label()]
    return ClassMap(torch.from_numpy(table[frame.classes]))


def _disparity_map(frame: Frame) -> DisparityMap:
    disparity = np.where(
        frame.depth > 0, full_disparity(frame) / np.float32(_STEPS), np.float32("nan")
    )
    return DisparityMap(torch.from_numpy(disparity)[None])


def _depth_at_one(frame: Frame) -> Tensor:
    """Return the metres at which `depth` would be 1; nearer than 1.85 m the label is cut."""
    full_focal = float(frame.intrinsics[0, 0]) * FULL_WIDTH / frame.depth.shape[1]
    return scalar(full_focal * BASELINE_M / _STEPS)


@hookimpl
def mtlkit_datasets() -> list[type[Dataset]]:
    """Return the data set class of this module."""
    return [Streets]
