"""`cityscapes`: the real data set, read from its official folders.

root/{leftImg8bit,gtFine,disparity}/{train,val}/{city}/{city}_{seq}_{frame}_*.png
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image
from pydantic import Field
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as resizing

from mtlkit.contracts import Dataset
from mtlkit.errors import MissingError
from mtlkit.fingerprint import of_files
from mtlkit.hookspecs import hookimpl
from mtlkit.structures import FieldSpec
from mtlkit.transforms import Augmentation, ClassMap, DisparityMap

from ._cityscapes_labels import class_names, label_to_class

_IMAGE = "leftImg8bit/{split}/{city}/{name}_leftImg8bit.png"
_LABELS = {
    "segmentation": "gtFine/{split}/{city}/{name}_gtFine_labelIds.png",
    "depth": "disparity/{split}/{city}/{name}_disparity.png",
}
_RGB, _GREY_8, _GREY_16 = "8-bit RGB", "8-bit grey", "16-bit grey"
_KINDS = {"RGB": _RGB, "L": _GREY_8, "I;16": _GREY_16, "I": _GREY_16}  # Pillow's modes; I: < 11
_PACKAGES = {  # what to download, by folder
    "leftImg8bit": "leftImg8bit_trainvaltest.zip",
    "gtFine": "gtFine_trainvaltest.zip",
    "disparity": "disparity_trainvaltest.zip",
}


class Cityscapes(Dataset):
    """Cityscapes with fine labels: 2975 images to train on, 500 to validate on.

    Depth is disparity in pixels of the full resolution over 256, (p − 1)/65536 for the number p of
    a file: it does not change with `size`. Label maps are resized to the nearest pixel, and so is
    the image unless told otherwise: pixel i of n shows the source's pixel ⌊(i + ½)·source/n⌋,
    whose centre is nearest. So does Pillow, and with it the released code, but `interpolate` of
    torch takes ⌊i·source/n⌋.

    Source: Cordts et al. 2016; targets as in XTasC-Net's released code (dataloader.py).
    """

    type: Literal["cityscapes"] = "cityscapes"
    root: str = Field(description="folder that holds leftImg8bit, gtFine and disparity")
    classes: Literal[7, 19] = Field(7, description="7 categories or 19 train ids")
    class_map: Literal["category", "strict"] = Field(
        "category",
        description="strict: of the 7 categories, leave out the classes without a train id",
    )
    image_resize: Literal["nearest", "antialias"] = Field(
        "nearest", description="how the image is resized; labels are always resized to the nearest"
    )
    disparity_valid: Literal["positive", "official"] = Field(
        "positive", description="valid numbers: p > 1, or p > 0, where p = 1 has the value 0"
    )
    augment: Augmentation = Field(
        default_factory=Augmentation, description="what varies a training sample"
    )

    @property
    def offers(self) -> Mapping[str, FieldSpec]:
        """Segmentation and depth."""
        return {
            "segmentation": FieldSpec(ClassMap, classes=class_names(self.classes)),
            "depth": FieldSpec(DisparityMap, unit="disparity/256"),
        }

    def build_split(self, split: str, wants: frozenset[str]) -> TorchDataset[dict[str, Tensor]]:
        """Return the images of all cities, sorted by name; only wanted label files must exist.

        Args:
            split: "train" or "val".
            wants: names of `offers`.

        Raises:
            MissingError: a folder or files are not there; the message says which.
        """
        return _Split(self, self._samples(split, wants))

    def fingerprint(self, split: str, wants: frozenset[str]) -> str:
        """Return the reader's source, and place, size and time of every file.

        Args:
            split: "train" or "val".
            wants: names of `offers`.
        """
        files = [file for sample in self._samples(split, wants) for file in sample.values()]
        root = Path(self.root).expanduser()
        return f"{super().fingerprint(split, wants)} {of_files(root, files)}"

    def _samples(self, split: str, wants: frozenset[str]) -> list[dict[str, Path]]:
        patterns = {name: _LABELS[name] for name in sorted(wants & _LABELS.keys())}
        return _find_samples(Path(self.root).expanduser(), split, patterns)

    def build_augmentation(self) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
        """Return the augmentation."""
        return self.augment


def _find_samples(root: Path, split: str, labels: Mapping[str, str]) -> list[dict[str, Path]]:
    """Return for each sample its files, "image" and the labels' names, after a check of all."""
    _check_folders(root, split, [_IMAGE, *labels.values()])
    found = sorted(root.glob(_IMAGE.format(split=split, city="*", name="*")))
    if not found:
        raise MissingError(
            f"{root / 'leftImg8bit' / split}: holds no */*_leftImg8bit.png. "
            f"Unpack {_PACKAGES['leftImg8bit']} of cityscapes-dataset.com into {root}."
        )
    samples = []
    for image in found:
        words = {
            "split": split,
            "city": image.parent.name,
            "name": image.name.removesuffix("_leftImg8bit.png"),
        }
        files = {label: root / pattern.format(**words) for label, pattern in labels.items()}
        samples.append({"image": image} | files)
    _check_files(root, [path for sample in samples for path in sample.values()])
    return samples


def _check_folders(root: Path, split: str, patterns: list[str]) -> None:
    if not root.is_dir():
        raise MissingError(
            f"data.root: {str(root)!r} is not a folder. Give the folder that holds leftImg8bit, "
            "gtFine and disparity, or try `streets`, which needs no files."
        )
    tops = [pattern.split("/", 1)[0] for pattern in patterns]
    absent = [top for top in tops if not (root / top / split).is_dir()]
    if absent:
        folders = ", ".join(f"{top}/{split}" for top in absent)
        archives = ", ".join(_PACKAGES[top] for top in absent)
        raise MissingError(
            f"{root}: lacks {folders}. Unpack {archives} of cityscapes-dataset.com there."
        )


def _check_files(root: Path, files: list[Path]) -> None:
    absent = [path for path in files if not path.is_file()]
    if absent:
        first = ", ".join(str(path.relative_to(root)) for path in absent[:3])
        more = ", …" if len(absent) > 3 else ""
        raise MissingError(
            f"{root}: {len(absent)} of {len(files)} files are missing: {first}{more}. "
            "Unpack the archives again, or remove the images that have no labels."
        )


class _Split(TorchDataset[dict[str, Tensor]]):
    """Files, read when asked for."""

    def __init__(self, settings: Cityscapes, samples: list[dict[str, Path]]) -> None:
        self._settings = settings
        self._samples = samples

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        readers = {"image": self._image, "segmentation": self._class_map, "depth": self._disparity}
        return {name: readers[name](path) for name, path in self._samples[index].items()}

    def _image(self, path: Path) -> Tensor:
        pixels = _decoded(path, _RGB)
        if self._settings.image_resize == "antialias":
            pixels = resizing.resize(pixels, list(self._settings.size), antialias=True)
        else:
            pixels = _nearest(pixels, self._settings.size)
        image: Tensor = tv_tensors.Image(pixels)
        return image

    def _class_map(self, path: Path) -> Tensor:
        ids = _nearest(_decoded(path, _GREY_8), self._settings.size)[0]
        table = torch.from_numpy(label_to_class(self._settings.classes, self._settings.class_map))
        return ClassMap(table[ids.int()])

    def _disparity(self, path: Path) -> Tensor:
        numbers = _nearest(_decoded(path, _GREY_16), self._settings.size)
        least = 2 if self._settings.disparity_valid == "positive" else 1
        value = (numbers - 1).float() / 65536
        return DisparityMap(value.masked_fill(numbers < least, torch.nan))


def _decoded(path: Path, kind: str) -> Tensor:
    """Return a PNG's own numbers, (C,H,W), uint8 or int32.

    Args:
        path: the file.
        kind: one of `_KINDS`.

    Raises:
        MissingError: it cannot be read, or is of another kind.
    """
    try:
        with Image.open(path) as picture:
            found, values = _KINDS.get(picture.mode, picture.mode), np.array(picture)
    except (OSError, SyntaxError, ValueError, EOFError, struct.error) as error:
        cause = str(error) or type(error).__name__
        raise MissingError(
            f"{path}: cannot be read as an image ({cause}). Unpack this file again."
        ) from None
    if found != kind:
        raise MissingError(
            f"{path}: holds {found} pixels, expected {kind}. Unpack the official file again."
        )
    pixels = values.astype(np.int32) if kind == _GREY_16 else values
    return torch.from_numpy(pixels.reshape(*values.shape[:2], -1)).permute(2, 0, 1)


def _nearest(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Return (C,*size), each pixel the one of the source whose centre is nearest."""
    rows, columns = (
        torch.from_numpy(((2 * np.arange(new) + 1) * old) // (2 * new))
        for new, old in zip(size, maps.shape[-2:], strict=True)
    )
    return maps[:, rows[:, None], columns]


@hookimpl
def mtlkit_datasets() -> list[type[Dataset]]:
    """Return the data set class of this module."""
    return [Cityscapes]
