"""`synthia`: SYNTHIA-RAND-CITYSCAPES, read from its official folders.

root/{RGB,GT/LABELS,Depth/Depth}/{number}.png, where root is RAND_CITYSCAPES
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field
from torch import Tensor

from mtlkit.errors import MissingError
from mtlkit.hookspecs import hookimpl
from mtlkit.structures import FieldSpec

from ._centimetres import MaxDepth, depth_map
from ._derived import offered, with_derived
from ._files import FileDataset, check_folders, check_split, needed
from ._listing import visible
from ._maps import Files, Maps
from ._synthia_labels import CLASSES, id_to_class

if TYPE_CHECKING:
    from mtlkit.contracts import Dataset

_FOLDERS = {"labels": "GT/LABELS", "depth": "Depth/Depth"}
_MADE_OF = {"labels": ("segmentation", "boundary"), "depth": ("depth", "normals")}
_VAL_EVERY = 5
_ARCHIVE = "SYNTHIA_RAND_CITYSCAPES.rar"
_FULL = (760, 1280)  # height and width of the images that the two lines below are for
_FOCAL = (532.740352, 532.740352)  # of SYNTHIA's sequences, as DenseMTL's code has it for these
_CENTRE = (640.0, 380.0)


class Synthia(FileDataset):
    """SYNTHIA-RAND-CITYSCAPES: 9400 rendered street views from anywhere, in Cityscapes' classes.

    There is no official split: images whose number is a multiple of 5 are validated on, all others
    are trained on. Normals are derived from depth, the boundary from the classes. The camera is
    that of SYNTHIA's sequences; the data set gives none.

    Source: Ros et al. 2016; DenseMTL, arXiv 2206.08927, draws train and val at random, apart, so
    that most images are in both.
    """

    type: Literal["synthia"] = "synthia"
    classes: Literal[16] = Field(16, description="Cityscapes' classes that occur here")
    max_depth_m: MaxDepth = Field(
        None, description="what is further is invalid, metres; null: only the sky is"
    )

    @property
    def offers(self) -> Mapping[str, FieldSpec]:
        """Segmentation, depth, normals, boundary and the camera."""
        return offered(CLASSES)

    def find(self, split: str, wants: frozenset[str]) -> Sequence[Files]:
        """Return the files by number; only those of wanted labels must exist.

        Args:
            split: "train" or "val".
            wants: names of `offers`.

        Raises:
            UsageError: there is no such split.
            MissingError: a folder or files are not there; the message says which.
        """
        check_split(split)
        root, folders = self.folder, {name: _FOLDERS[name] for name in needed(wants, _MADE_OF)}
        check_folders(
            root,
            ["RGB", *folders.values()],
            "RGB, GT and Depth (RAND_CITYSCAPES)",
            f"Give the folder RAND_CITYSCAPES itself, or unpack {_ARCHIVE} of synthia-dataset.net "
            "again",
        )
        samples: list[Files] = [
            {"image": image} | {name: root / f / image.name for name, f in folders.items()}
            for image in _images(root / "RGB", split)
        ]
        return self.complete(samples, f"Unpack {_ARCHIVE} again")

    def read(self, maps: Maps, wants: frozenset[str]) -> dict[str, Tensor]:
        """Return the labels and extras of one image.

        Args:
            maps: reads its files.
            wants: names of `offers`.

        Raises:
            MissingError: a file cannot be read, or is not what it should be.
        """
        sample: dict[str, Tensor] = {}
        if "labels" in maps:
            ids, _, _ = maps.numbers("labels", "16-bit RGB")  # the second: of instances
            sample["segmentation"] = maps.classes("labels", ids, id_to_class())
        depth = None
        if "depth" in maps:
            depth = depth_map(_centimetres(maps), self.max_depth_m)
            sample["depth"] = depth
        camera = maps.intrinsics(_FOCAL, _CENTRE, _FULL)
        return with_derived(sample, wants, depth, camera, maps)


def _images(folder: Path, split: str) -> list[Path]:
    """Return the images of a split by number; the number alone decides the split."""
    numbers = {path: _number(path) for path in visible(folder, "*.png")}
    images = [path for path, n in numbers.items() if (n % _VAL_EVERY == 0) == (split == "val")]
    if not images:
        what = "a multiple" if split == "val" else "no multiple"
        raise MissingError(
            f"{folder}: holds no image for {split}, whose number is {what} of {_VAL_EVERY}. "
            f"Unpack {_ARCHIVE} of synthia-dataset.net again"
        )
    return sorted(images, key=lambda path: (numbers[path], path.name))


def _number(image: Path) -> int:
    if not re.fullmatch("[0-9]{1,18}", image.stem):
        raise MissingError(
            f"{image}: its name is no number, which decides whether it is trained on or validated "
            "on. Take it out of the folder, or give it its own name back"
        )
    return int(image.stem)


def _centimetres(maps: Maps) -> Tensor:
    """Return depth as the file has it, (1,H,W); its channels, one or three, are alike."""
    channels = maps.numbers("depth", "16-bit RGB", "16-bit grey")
    if (channels != channels[:1]).any():
        raise MissingError(
            f"{maps.files['depth']}: its channels differ, where each should hold the same depth in "
            "centimetres. Give the file of Depth/Depth"
        )
    return channels[:1]


@hookimpl
def mtlkit_datasets() -> list[type[Dataset]]:
    """Return the data set class of this module."""
    return [Synthia]
