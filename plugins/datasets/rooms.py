"""`rooms`: rendered rooms with NYUv2's 13 classes and depth; nothing to download."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
from mtlkit.transforms import ClassMap, DepthMap

from ._derived import offered
from ._nyuv2_labels import CLASSES
from ._scenes.labels import edge_map, intrinsics, normal_map
from ._scenes.numbering import MOST_SCENES
from ._scenes.render import Frame
from ._scenes.room import room
from ._scenes.split import RenderedSplit, Renderer, split_seeds

Scenes = Annotated[int, Field(ge=1, le=MOST_SCENES)]


class Rooms(Dataset):
    """Rendered rooms, labelled like NYUv2 with 13 classes; equal bytes on every machine.

    Normals and edges are exact; `boundary` has the borders of things, creases and occlusions. Train
    and val share no scene: the seeds of the first are even, those of the second odd.
    """

    type: Literal["rooms"] = "rooms"
    size: tuple[Side, Side] = Field(
        (128, 256), description="height and width of the samples, in pixels"
    )
    train: Scenes = Field(400, description="number of scenes to train on")
    val: Scenes = Field(100, description="number of scenes to validate on")
    seed: int = Field(0, ge=0, description="which scenes; other seeds share none")
    augment: Augmentation = Field(
        default_factory=Augmentation, description="what varies a training sample"
    )

    cache_advice: ClassVar[Literal["none", "ram", "disk"]] = "disk"

    @property
    def offers(self) -> Mapping[str, FieldSpec]:
        """Segmentation, depth, normals, boundary and the camera."""
        return offered(CLASSES)

    def build_split(self, split: str, wants: frozenset[str]) -> TorchDataset[dict[str, Tensor]]:
        """Return scenes, rendered when asked for.

        Args:
            split: "train" or "val".
            wants: names of `offers`.

        Raises:
            UsageError: there is no such split.
        """
        makers: dict[str, Callable[[Frame], Tensor]] = {
            "segmentation": _class_map,
            "depth": _depth_map,
            "normals": normal_map,
            "boundary": edge_map,
            "camera": intrinsics,
        }
        labels = {name: make for name, make in makers.items() if name in wants}
        seeds = split_seeds(self.seed, split, {"train": self.train, "val": self.val})
        return RenderedSplit(Renderer(room, labels), seeds, self.size)

    def build_augmentation(self) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
        """Return the augmentation."""
        return self.augment


def _class_map(frame: Frame) -> ClassMap:
    return ClassMap(torch.from_numpy(frame.classes))


def _depth_map(frame: Frame) -> DepthMap:
    depth = np.where(frame.depth > 0, frame.depth, np.float32("nan"))
    return DepthMap(torch.from_numpy(depth)[None])


@hookimpl
def mtlkit_datasets() -> list[type[Dataset]]:
    """Return the data set class of this module."""
    return [Rooms]
