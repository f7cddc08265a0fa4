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

from mtlkit.contracts import Dataset
from mtlkit.contracts.plugin import Side
from mtlkit.hookspecs import hookimpl
from mtlkit.structures import FieldSpec
from mtlkit.transforms import Augmentation, ClassMap, DisparityMap

from ._cityscapes_labels import class_names, label_to_class, train_to_label
from ._scenes.disparity import full_disparity
from ._scenes.numbering import MOST_SCENES
from ._scenes.render import Frame
from ._scenes.split import RenderedSplit, Renderer, split_seeds
from ._scenes.street import street

Scenes = Annotated[int, Field(ge=1, le=MOST_SCENES)]


class Streets(Dataset):
    """Rendered streets, labelled like Cityscapes; equal bytes on every machine.

    Depth is what `cityscapes` would read had the scene been written to its files at this size:
    disparity in pixels at a width of 2048, over 256. Train and val share no scene: the seeds of
    the first are even, those of the second odd.
    """

    type: Literal["streets"] = "streets"
    size: tuple[Side, Side] = Field(
        (128, 256), description="height and width of the samples, in pixels"
    )
    train: Scenes = Field(400, description="number of scenes to train on")
    val: Scenes = Field(100, description="number of scenes to validate on")
    seed: int = Field(0, ge=0, description="which scenes; other seeds share none")
    classes: Literal[7, 19] = Field(7, description="7 categories or 19 train ids of Cityscapes")
    augment: Augmentation = Field(
        default_factory=Augmentation, description="what varies a training sample"
    )

    cache_advice: ClassVar[Literal["none", "ram", "disk"]] = "disk"

    @property
    def offers(self) -> Mapping[str, FieldSpec]:
        """Segmentation and depth."""
        return {
            "segmentation": FieldSpec(ClassMap, classes=class_names(self.classes)),
            "depth": FieldSpec(DisparityMap, unit="disparity/256"),
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
        }
        labels = {name: make for name, make in makers.items() if name in wants}
        seeds = split_seeds(self.seed, split, {"train": self.train, "val": self.val})
        return RenderedSplit(Renderer(street, labels), seeds, self.size)

    def build_augmentation(self) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
        """Return the augmentation."""
        return self.augment


def _class_map(frame: Frame, classes: Literal[7, 19]) -> ClassMap:
    table = label_to_class(classes)[train_to_label()]
    return ClassMap(torch.from_numpy(table[frame.classes]))


def _disparity_map(frame: Frame) -> DisparityMap:
    disparity = np.where(
        frame.depth > 0, full_disparity(frame) / np.float32(256), np.float32("nan")
    )
    return DisparityMap(torch.from_numpy(disparity)[None])


@hookimpl
def mtlkit_datasets() -> list[type[Dataset]]:
    """Return the data set class of this module."""
    return [Streets]
