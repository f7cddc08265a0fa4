"""Files that users made, read as numbers; what cannot be meant is refused with a cure."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image
from torch import Tensor
from torchvision.transforms.v2 import functional

from mtlkit.errors import MissingError
from mtlkit.transforms import VOID, EdgeMap

from ._maps import Files, Maps, load_array, unreadable

_GREY = ("1", "L", "I", "I;16", "I;16B", "I;16L", "I;16N", "F")  # Pillow's modes of one number
_WORDS = {"RGB": "colours", "RGBA": "colours and transparency", "P": "palette indices"}
_UNREADABLE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    RuntimeError,
    MemoryError,
    Image.DecompressionBombError,
)


class FolderMaps(Maps):
    """The files of one sample; a label may be larger or smaller than its image.

    Args:
        files: by label; "image" among them.
        size: (H, W) of what is returned.
    """

    def __init__(self, files: Files, size: tuple[int, int]) -> None:
        super().__init__(files, size, same="shape")

    def pixels(self) -> NDArray[np.generic]:
        """Return the photo, (H,W,3), uint8; what is grey is so in three channels.

        Raises:
            MissingError: it cannot be read, is to be shown turned, or has other channels.
        """
        path = self.files["image"]
        mode, values, turn = _decoded(path)
        if turn != 1:
            raise MissingError(
                f"{path}: is to be shown turned (EXIF orientation {turn}), and its labels may or "
                "may not be. Turn the pixels of all photos: magick mogrify -auto-orient FILES"
            )
        if mode == "L":
            return np.stack([values] * 3, -1)
        if mode != "RGB":
            raise MissingError(
                f"{path}: holds {_WORDS.get(mode, mode)}, and a photo is 8-bit RGB or grey. "
                "Convert it, in Python: Image.open(file).convert('RGB').save(file)"
            )
        return values

    def single(self, name: str, kind: Literal["classes", "distances"]) -> Tensor:
        """Return one number per pixel at the size that is asked for, (1,H,W), of the file's type.

        Args:
            name: of the label.
            kind: whether palette indices are numbers too.

        Raises:
            MissingError: the file cannot be read, or holds several numbers a pixel.
        """
        return _plain(self.fitted(name, self._one_channel(name, kind)))

    def edges(self, name: str, threshold: float) -> EdgeMap:
        """Return edges; where a pixel stands for several, it is one if any of them is.

        Args:
            name: of the label.
            threshold: numbers above it are edges, those that are none are not known.

        Raises:
            MissingError: the file cannot be read, or holds several numbers a pixel.
        """
        values = self._one_channel(name, "classes")
        self.agree(name, values)
        numbers = _plain(torch.from_numpy(np.ascontiguousarray(values))[None])
        edges = EdgeMap((numbers > threshold).to(torch.uint8).masked_fill(numbers.isnan(), VOID))
        resized: EdgeMap = functional.resize(edges, list(self.size))
        return resized

    def vectors(self, name: str) -> Tensor:
        """Return unit vectors, (3,H,W) float64; NaN where the file has none.

        Bytes v are 2v/255 − 1, other numbers themselves. No vector are three zeros in the file,
        and what is off the length 1 by more than a tenth, as blends of neighbours are.

        Args:
            name: of the label.

        Raises:
            MissingError: the file cannot be read, or most of it is no unit vector.
        """
        path = self.files[name]
        values = load_array(path) if path.suffix.lower() == ".npy" else _decoded(path)[1]
        if values.ndim != 3 or values.shape[2] != 3:
            raise MissingError(
                f"{path}: has shape {values.shape}, and normals are (height, width, 3). Save it "
                "as 8-bit RGB, or as an .npy file of this shape"
            )
        raw = self.fitted(name, values)
        vectors = raw.double() * 2 / 255 - 1 if raw.dtype == torch.uint8 else raw.double()
        length = vectors.norm(dim=0)
        is_given = (raw != 0).any(0) & length.isfinite()
        is_unit = is_given & ((length - 1).abs() < 0.1)
        if is_unit.sum() * 2 < is_given.sum():
            raise MissingError(
                f"{path}: most vectors are not of length 1, their median is "
                f"{length[is_given].median():.2f}. Save unit normals n as floats in .npy, or as "
                "bytes 255·(n + 1)/2"
            )
        return torch.where(is_unit, vectors / length, torch.nan)

    def _one_channel(self, name: str, kind: Literal["classes", "distances"]) -> NDArray[np.generic]:
        path = self.files[name]
        if path.suffix.lower() == ".npy":
            values = load_array(path)
            if values.ndim == 3 and values.shape[2] == 1:
                values = values[..., 0]
            if values.ndim != 2:
                raise MissingError(
                    f"{path}: has shape {values.shape}, and a {name} file is (height, width). "
                    "Save it with this shape"
                )
            return values
        allowed: Collection[str] = (*_GREY, "P") if kind == "classes" else _GREY
        mode, values, _ = _decoded(path)
        if mode not in allowed:
            raise MissingError(
                f"{path}: holds {_WORDS.get(mode, mode)}, and a {name} file has one number a "
                "pixel. Save it as grey PNG (8 or 16 bits) or as .npy"
            )
        return values


def _decoded(path: Path) -> tuple[str, NDArray[np.generic], int]:
    """Return a picture's mode, its own numbers and how EXIF would turn it; 1: not at all."""
    try:
        with Image.open(path) as picture:
            turn = int(picture.getexif().get(ExifTags.Base.Orientation, 1))
            return picture.mode, np.array(picture), turn
    except _UNREADABLE as error:
        raise unreadable(path, error) from None


def _plain(values: Tensor) -> Tensor:
    """Return floats as they are, other numbers as float64, which holds them all up to 2^53."""
    return values if values.is_floating_point() else values.double()
