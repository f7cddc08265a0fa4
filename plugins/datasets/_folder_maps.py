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

from ._contents import DEEP, load_array, load_image, opened, read_picture
from ._maps import Files, Maps

_GREY = ("1", "L", "I", "I;16", "I;16B", "I;16L", "I;16N", "F")  # Pillow's modes of one number
_WITH_ALPHA = ("RGBA", "LA", "PA", "P")  # or that may have it
_PHOTOS = ("RGB", "L", "1", "CMYK", "YCbCr", *_WITH_ALPHA)
_TURNED = range(2, 9)  # EXIF orientations that are not "as it is"
_WORDS = {
    "RGB": "colours",
    DEEP: "colours of 16 bits",
    "RGBA": "colours and transparency",
    "P": "palette indices",
}


class FolderMaps(Maps):
    """The files of one sample; a label may be larger or smaller than its image.

    Args:
        files: by label; "image" among them.
        size: (H, W) of what is returned.
    """

    def __init__(self, files: Files, size: tuple[int, int]) -> None:
        super().__init__(files, size, same="shape")

    def pixels(self) -> NDArray[np.generic]:
        """Return the photo, (H,W,3): uint8, or float32 in [0,1] of an .npy file.

        Raises:
            MissingError: it cannot be read, is to be shown turned, or is no photo of 8 bits.
        """
        path = self.files["image"]
        return load_image(path) if path.suffix.lower() == ".npy" else _photo(path)

    def single(self, name: str, kind: Literal["classes", "distances"]) -> Tensor:
        """Return one number per pixel at the size that is asked for, (1,H,W), of the file's type.

        Args:
            name: of the label.
            kind: whether palette indices are numbers too.

        Raises:
            MissingError: the file cannot be read, holds several numbers a pixel, or no distance.
        """
        values = self._one_channel(name, kind)
        if kind == "distances" and not np.isfinite(values).any():
            raise MissingError(
                f"{self.files[name]}: holds no number that is finite, so no distance at all. Write "
                "or copy this file again"
            )
        return _plain(self.fitted(name, values))

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

        Bytes v are 2v/255 − 1, 16 bits of a picture 2v/65535 − 1, other numbers themselves. No
        vector are three zeros in the file, and what is off the length 1 by more than a tenth, as
        blends of neighbours are.

        Args:
            name: of the label.

        Raises:
            MissingError: the file cannot be read, or most of it is no unit vector.
        """
        path = self.files[name]
        is_array = path.suffix.lower() == ".npy"
        values = load_array(path) if is_array else read_picture(path).values
        if values.ndim != 3 or values.shape[2] != 3:
            raise MissingError(
                f"{path}: has shape {values.shape}, and normals are (height, width, 3). Save it "
                "as 8-bit RGB, or as an .npy file of this shape"
            )
        raw = self.fitted(name, values)
        vectors = raw.double()
        if raw.dtype == torch.uint8 or not is_array:
            vectors = vectors * 2 / (255 if raw.dtype == torch.uint8 else 65535) - 1
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
        mode, values = read_picture(path)
        if mode not in allowed:
            raise MissingError(
                f"{path}: holds {_WORDS.get(mode, mode)}, and a {name} file has one number a "
                "pixel. Save it as grey PNG (8 or 16 bits) or as .npy"
            )
        return values


def _photo(path: Path) -> NDArray[np.uint8]:
    """Return a photo in colour, (H,W,3), in whatever form of 8 bits it is stored."""
    with opened(path) as picture:
        mode, turn = picture.mode, picture.getexif().get(ExifTags.Base.Orientation)
        found = _in_colour(picture) if mode in _PHOTOS else None
    if turn in _TURNED:
        raise MissingError(
            f"{path}: is to be shown turned (EXIF orientation {turn}), and its labels may or "
            "may not be. Turn the pixels of all photos: magick mogrify -auto-orient FILES"
        )
    if found is None:
        raise MissingError(
            f"{path}: holds {_WORDS.get(mode, mode)}, and a photo has 8 bits a channel, in colour "
            "or grey. Save it as 8-bit RGB"
        )
    if found.shape[2] == 4 and (found[..., 3] < 255).any():
        raise MissingError(
            f"{path}: holds transparency, so what is seen depends on what is behind. Put it on a "
            "background, in Python: Image.open(file).convert('RGB').save(file)"
        )
    return found[..., :3]


def _in_colour(picture: Image.Image) -> NDArray[np.uint8]:
    """Return the pixels of a photo, (H,W,3), or (H,W,4) where it may be transparent."""
    mode = "RGBA" if picture.mode in _WITH_ALPHA else "RGB"
    return np.array(picture if picture.mode == mode else picture.convert(mode))


def _plain(values: Tensor) -> Tensor:
    """Return floats as they are, other numbers as float64, which holds them all up to 2^53."""
    return values if values.is_floating_point() else values.double()
