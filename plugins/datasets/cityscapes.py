"""`cityscapes`: the real data set, read from its official folders.

root/{leftImg8bit,gtFine,disparity,camera}/{train,val}/{city}/{city}_{seq}_{frame}_*.{png,json}
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from mtlkit.camera import Intrinsics
from mtlkit.errors import MissingError
from mtlkit.geometry import metres
from mtlkit.hookspecs import hookimpl
from mtlkit.structures import FieldSpec
from mtlkit.transforms import DisparityMap

from ._cityscapes_labels import LABELS, Classes, ClassMapName, class_names, label_to_class
from ._contents import unreadable
from ._derived import DEPTH_AT_ONE, METRES, offered, scalar, with_derived
from ._files import FileDataset, check_folders, check_split, needed
from ._listing import visible
from ._maps import Files, Maps

if TYPE_CHECKING:
    from mtlkit.contracts import Dataset
    from mtlkit.recipe import Recipe

_IMAGE = "leftImg8bit/{split}/{city}/{name}_leftImg8bit.png"
_PATTERNS = {
    "labels": "gtFine/{split}/{city}/{name}_gtFine_labelIds.png",
    "disparity": "disparity/{split}/{city}/{name}_disparity.png",
    "camera": "camera/{split}/{city}/{name}_camera.json",
}
_PACKAGES = {  # what to download, by folder
    "leftImg8bit": "leftImg8bit_trainvaltest.zip",
    "gtFine": "gtFine_trainvaltest.zip",
    "disparity": "disparity_trainvaltest.zip",
    "camera": "camera_trainvaltest.zip",
}
_STEPS = 256  # of a disparity file, per pixel; also what the disparity label is over
_FULL_WIDTH = 2048  # pixels of the images that cameras and disparity are for, whatever size is read


class Cityscapes(FileDataset):
    """Cityscapes with fine labels: 2975 images to train on, 500 to validate on.

    Depth is disparity in pixels of the full resolution over 256, (p − 1)/65536 for the number p of
    a file, which does not change with `size`; or, by baseline and focal length of each image's
    camera, inverse depth in 1/m or depth in metres. Normals are derived from depth in metres and
    the camera, the boundary from the classes: the data set has neither.

    Source: Cordts et al. 2016; targets as in XTasC-Net's released code (dataloader.py), which has
    no camera (D30 in docs/parity.md).
    """

    type: Literal["cityscapes"] = "cityscapes"
    classes: Classes = Field(7, description="7 categories, 16 classes of SYNTHIA or 19 train ids")
    class_map: ClassMapName = Field(
        "category",
        description="which classes the 7 categories count: all, those with a train id, DenseMTL's",
    )
    depth: Literal["disparity", "inverse_depth", "metres"] = Field(
        "disparity", description="the label `depth`: disparity/256, 1/m or m"
    )
    disparity_valid: Literal["positive", "official"] = Field(
        "positive", description="valid numbers: p > 1, or p > 0, where p = 1 has the value 0"
    )

    @property
    def offers(self) -> Mapping[str, FieldSpec]:
        """Segmentation, depth, normals, boundary and the camera."""
        depth = {
            "disparity": FieldSpec(DisparityMap, unit="disparity/256"),
            "inverse_depth": FieldSpec(DisparityMap, unit="1/m"),
            "metres": METRES,
        }[self.depth]
        fields = offered(class_names(self.classes), depth)
        return fields if self.depth == "metres" else fields | {"depth_at_one": DEPTH_AT_ONE}

    def find(self, split: str, wants: frozenset[str]) -> Sequence[Files]:
        """Return the files of all cities, sorted by name; only those of wanted labels must exist.

        Args:
            split: "train" or "val".
            wants: names of `offers`.

        Raises:
            UsageError: there is no such split.
            MissingError: a folder or files are not there; the message says which.
        """
        check_split(split)
        root, patterns = self.folder, {name: _PATTERNS[name] for name in self._needs(wants)}
        tops = [pattern.split("/", 1)[0] for pattern in (_IMAGE, *patterns.values())]
        cure = (
            f"Unpack {', '.join(_PACKAGES[top] for top in tops)} of cityscapes-dataset.com into "
            "one folder, and give it"
        )
        what = "leftImg8bit, gtFine and disparity"
        check_folders(root, [f"{top}/{split}" for top in tops], what, cure)
        images = visible(root, _IMAGE.format(split=split, city="*", name="*"))
        if not images:
            raise MissingError(
                f"{root / 'leftImg8bit' / split}: holds no */*_leftImg8bit.png. Unpack "
                f"{_PACKAGES['leftImg8bit']} of cityscapes-dataset.com into {root}"
            )
        samples = [_beside(image, root, split, patterns) for image in images]
        if wants & {"camera", "depth_at_one"}:  # extras, which an image may lack
            samples = [_with_camera(sample, root, split) for sample in samples]
        return self.complete(samples, "Unpack the archives again")

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
            table = label_to_class(self.classes, self.class_map)[: len(LABELS)]
            ids = maps.numbers("labels", "8-bit grey")[0]
            sample["segmentation"] = maps.classes("labels", ids, table)
        camera = _read_camera(maps.files["camera"]) if "camera" in maps else None
        disparity = self._disparity(maps) if "disparity" in maps else None
        at_one = None if camera is None else camera.focal_baseline / _STEPS
        sample |= self._distances(disparity, at_one)
        if camera is None or at_one is None:
            return with_derived(sample, wants, None, None, maps)
        depth = None if disparity is None else metres(disparity, at_one)
        return with_derived(sample, wants, depth, camera.matrix(maps), maps)

    def problems(self, recipe: Recipe) -> Iterable[str]:
        """Yield a sentence where the class map has no say.

        Args:
            recipe: the whole recipe.
        """
        if self.class_map != "category" and self.classes != 7:
            yield f"class_map: {self.class_map} is about 7 classes. Write classes: 7, or remove it"

    def _needs(self, wants: frozenset[str]) -> list[str]:
        """Return the files that wanted labels are read or derived from."""
        of_camera = ("normals",) if self.depth == "disparity" else ("depth", "normals")
        made_of = {
            "labels": ("segmentation", "boundary"),
            "disparity": ("depth", "normals"),
            "camera": of_camera,
        }
        return needed(wants, made_of)

    def _distances(self, disparity: DisparityMap | None, at_one: float | None) -> dict[str, Tensor]:
        """Return `depth` and `depth_at_one`, as far as they are known.

        Args:
            disparity: over 256.
            at_one: metres at which disparity over 256 is 1.
        """
        found: dict[str, Tensor] = {}
        if self.depth == "disparity" and disparity is not None:
            found["depth"] = disparity
        if self.depth == "disparity" and at_one is not None:
            found["depth_at_one"] = scalar(at_one)
        if self.depth == "inverse_depth":
            found["depth_at_one"] = scalar(1.0)
        if self.depth == "inverse_depth" and disparity is not None and at_one is not None:
            found["depth"] = DisparityMap(disparity.as_subclass(Tensor) / at_one)
        if self.depth == "metres" and disparity is not None and at_one is not None:
            found["depth"] = metres(disparity, at_one)
        return found

    def _disparity(self, maps: Maps) -> DisparityMap:
        """Return disparity in pixels of the full resolution over 256."""
        numbers = maps.numbers("disparity", "16-bit grey")
        least = 2 if self.disparity_valid == "positive" else 1
        value = (numbers - 1).float() / _STEPS**2
        return DisparityMap(value.masked_fill(numbers < least, torch.nan))


class _Camera(NamedTuple):
    """The calibration of one image, for its full resolution."""

    focal: tuple[float, float]
    centre: tuple[float, float]
    focal_baseline: float  # pixels times metres

    def matrix(self, maps: Maps) -> Intrinsics:
        """Return the camera's matrix for the size of the sample; files may hold smaller images."""
        assert maps.source_size is not None  # the image is read first
        height, width = maps.source_size
        full = (height * _FULL_WIDTH / width, _FULL_WIDTH)
        return maps.intrinsics(self.focal, self.centre, full)


def _read_camera(path: Path) -> _Camera:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        inner, outer = found["intrinsic"], found["extrinsic"]
        fx, fy, cx, cy = (float(inner[key]) for key in ("fx", "fy", "u0", "v0"))
        baseline = float(outer["baseline"])
    except KeyError as error:
        raise MissingError(f"{path}: lacks {error}. Unpack or copy this file again") from None
    except (OSError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise unreadable(path, error) from None
    if not all(map(math.isfinite, (fx, fy, cx, cy, baseline))) or min(fx, fy, baseline) <= 0:
        raise MissingError(
            f"{path}: focal lengths and baseline must be above 0, and all numbers finite. "
            "Unpack or copy this file again"
        )
    return _Camera((fx, fy), (cx, cy), fx * baseline)


def _beside(image: Path, root: Path, split: str, patterns: Mapping[str, str]) -> Files:
    name = image.name.removesuffix("_leftImg8bit.png")
    words = {"split": split, "city": image.parent.name, "name": name}
    files = {label: root / pattern.format(**words) for label, pattern in patterns.items()}
    return {"image": image} | files


def _with_camera(sample: Files, root: Path, split: str) -> Files:
    """Return the files with that of the camera, if there is one."""
    files = _beside(sample["image"], root, split, {"camera": _PATTERNS["camera"]})
    return {**sample, **files} if files["camera"].is_file() else sample


@hookimpl
def mtlkit_datasets() -> list[type[Dataset]]:
    """Return the data set class of this module."""
    return [Cityscapes]
