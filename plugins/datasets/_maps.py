"""The files of one sample as maps of one size, each file checked as it is read."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional

from mtlkit.camera import Intrinsics
from mtlkit.errors import MissingError
from mtlkit.transforms import ClassMap

Kind = Literal["8-bit RGB", "8-bit grey", "16-bit RGB", "16-bit grey", "float"]
_KINDS: dict[str, Kind] = {  # by Pillow's mode
    "RGB": "8-bit RGB",
    "L": "8-bit grey",
    "P": "8-bit grey",  # the numbers are indices into a palette
    "I;16": "16-bit grey",
    "I;16B": "16-bit grey",
    "I": "16-bit grey",  # Pillow below 11
    "F": "float",
}
_HIGH_BYTES, _LOW_BYTES = "RGB;16B", "RGB;16L"  # Pillow's raw modes: which bytes of a PNG it takes
_UNREADABLE = (
    *(OSError, SyntaxError, ValueError, EOFError, struct.error, RuntimeError),
    Image.DecompressionBombError,  # a damaged header may tell any size
)
Files = Mapping[str, Path]
"""The files of one sample, by what they hold; "image" among them."""


class Maps:
    """The files of one sample as maps of the size that is asked for; all must be of one size.

    Pixel i of n shows the source's pixel ⌊(i + ½)·source/n⌋, whose centre is nearest. So does
    Pillow; `interpolate` of torch takes ⌊i·source/n⌋.

    Args:
        files: by what they hold.
        size: (H, W) of what is returned.
        same: what all files share with the image: their size, or its shape alone.
    """

    def __init__(
        self, files: Files, size: tuple[int, int], same: Literal["size", "shape"] = "size"
    ) -> None:
        self.files, self.size, self.same = files, size, same
        self.source_size: tuple[int, int] | None = None

    def __contains__(self, name: str) -> bool:
        """Return whether the sample has a file of this name."""
        return name in self.files

    def image(self, resize: Literal["nearest", "antialias"]) -> tv_tensors.Image:
        """Return the image, (3,H,W): uint8, or float32 where the file is an array of floats.

        Args:
            resize: how.
        """
        pixels = self.pixels()
        if pixels.shape[2:] != (3,):
            raise MissingError(
                f"{self.files['image']}: an image has shape (height, width, 3), this file "
                f"{pixels.shape}. Unpack it again"
            )
        if resize == "nearest":
            return tv_tensors.Image(self.fitted("image", pixels))
        self.agree("image", pixels)
        planes = torch.from_numpy(pixels).permute(2, 0, 1)
        smooth = functional.resize(planes, list(self.size), antialias=True)
        # rounding may leave the range of floats
        return tv_tensors.Image(smooth.clamp(0, 1) if smooth.is_floating_point() else smooth)

    def pixels(self) -> NDArray[np.generic]:
        """Return the image's own pixels, (H,W,3): uint8, or float32 in [0,1]."""
        path = self.files["image"]
        return _load_image(path) if path.suffix == ".npy" else decoded(path, "8-bit RGB")

    def numbers(self, name: str, *kinds: Kind) -> Tensor:
        """Return a picture's own numbers, (C,H,W); uint8, int32 or float32.

        Args:
            name: of the file.
            kinds: of picture, of which it must be one.
        """
        return self.fitted(name, decoded(self.files[name], *kinds))

    def array(self, name: str) -> Tensor:
        """Return the numbers of an .npy file, (C,H,W).

        Args:
            name: of the file, which holds (H,W) or (H,W,C).
        """
        return self.fitted(name, load_array(self.files[name]))

    def fitted(self, name: str, values: NDArray[np.generic]) -> Tensor:
        """Return values of the source at the size that is asked for, (C,H,W).

        Args:
            name: of the file that they come from.
            values: (H,W) or (H,W,C) of the source.

        Raises:
            MissingError: they are not of the image's size.
        """
        self.agree(name, values)
        rows, columns = (
            ((2 * np.arange(new) + 1) * old) // (2 * new)
            for new, old in zip(self.size, values.shape[:2], strict=True)
        )
        kept = values[rows[:, None], columns]
        return torch.from_numpy(
            np.ascontiguousarray(kept.reshape(*self.size, -1).transpose(2, 0, 1))
        )

    def classes(self, name: str, ids: Tensor, table: NDArray[np.uint8]) -> ClassMap:
        """Return the classes of ids.

        Args:
            name: of the file that they come from.
            ids: (H,W), whole numbers.
            table: (n,), from id to class or `VOID`; ids from n on, and those below 0, are unknown.

        Raises:
            MissingError: an id is unknown.
        """
        is_unknown = (ids < 0) | (ids >= len(table))
        if is_unknown.any():
            strange = ", ".join(map(str, sorted(set(ids[is_unknown].tolist()))[:5]))
            raise MissingError(
                f"{self.files[name]}: holds unknown class ids: {strange} (known: 0 to "
                f"{len(table) - 1}). Give the data set's own label file"
            )
        return ClassMap(torch.from_numpy(table)[ids.int()])

    def intrinsics(
        self,
        focal: tuple[float, float],
        centre: tuple[float, float],
        full: tuple[float, float] | None = None,
    ) -> Intrinsics:
        """Return the camera's matrix for the size that is asked for.

        Args:
            focal: fx and fy, pixels.
            centre: cx and cy, pixels, pixel centres at whole numbers.
            full: height and width of the image that they are for; None: of the image that was read.
        """
        assert self.source_size is not None  # the image is read first
        y, x = (new / old for new, old in zip(self.size, full or self.source_size, strict=True))
        cx, cy = (centre[0] + 0.5) * x - 0.5, (centre[1] + 0.5) * y - 0.5
        return Intrinsics(
            [[focal[0] * x, 0, cx], [0, focal[1] * y, cy], [0, 0, 1]], canvas_size=self.size
        )

    def agree(self, name: str, values: NDArray[np.generic]) -> None:
        """Refuse values of another size than those before; the first ones are the image's.

        Args:
            name: of the file that they come from.
            values: (H,W) or (H,W,C) of the source.

        Raises:
            MissingError: they are not of the image's size.
        """
        height, width = values.shape[:2]
        if self.source_size is None:
            self.source_size = (height, width)
        h, w = self.source_size
        is_same = (height, width) == (h, w)
        if self.same == "shape":
            is_same = abs(height * w - width * h) <= max(w, h)
        if not is_same:
            raise MissingError(
                f"{self.files[name]}: is {height}×{width} (height×width), its image {h}×{w}. "
                "Give the file that belongs to this image"
            )


def decoded(path: Path, *kinds: Kind) -> NDArray[np.generic]:
    """Return a picture's own numbers, (H,W) or (H,W,3); uint8, int32 or float32.

    Args:
        path: the file.
        kinds: what it may hold.

    Raises:
        MissingError: it cannot be read, or is of another kind.
    """
    try:
        with Image.open(path) as picture:
            is_deep = bool(picture.tile) and picture.tile[0][3] == _HIGH_BYTES
            found = "16-bit RGB" if is_deep else _KINDS.get(picture.mode, picture.mode)
            values = np.array(picture)
        if is_deep:
            values = values.astype(np.int32) << 8 | _low_bytes(path)
    except _UNREADABLE as error:
        raise unreadable(path, error) from None
    if found not in kinds:
        raise MissingError(
            f"{path}: holds {found} pixels, expected {' or '.join(kinds)}. "
            "Unpack the official file again"
        )
    return values.astype(np.int32) if found == "16-bit grey" else values


def _low_bytes(path: Path) -> NDArray[np.uint8]:
    """Return the lower half of each number of a 16-bit RGB picture, (H,W,3); Pillow drops it."""
    with Image.open(path) as picture:
        name, box, offset, _ = picture.tile[0]
        picture.tile = [(name, box, offset, _LOW_BYTES)]  # type: ignore[list-item]
        return np.array(picture)


def load_array(path: Path) -> NDArray[np.generic]:
    """Return the array of an .npy file, with two or three axes, in numbers that torch has.

    Args:
        path: the file; it may not hold objects.

    Raises:
        MissingError: it cannot be read, or is of another form.
    """
    try:
        values: NDArray[np.generic] = np.load(path, allow_pickle=False)
    except (*_UNREADABLE, MemoryError) as error:  # a damaged header may ask for any size
        raise unreadable(path, error) from None
    if not isinstance(values, np.ndarray) or values.ndim not in (2, 3) or not values.size:
        raise MissingError(f"{path}: must hold an array (H,W) or (H,W,C). Write it again")
    if values.dtype.kind not in "biuf" or values.dtype.itemsize > 8:
        raise MissingError(f"{path}: holds {values.dtype}, expected numbers. Write it again")
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def unreadable(path: Path, error: BaseException) -> MissingError:
    """Return the error for a file that cannot be decoded.

    Args:
        path: the file.
        error: what was raised.
    """
    cause = (str(error) or type(error).__name__).splitlines()[0].replace(f" {str(path)!r}", "")
    return MissingError(f"{path}: cannot be read ({cause}). Unpack or copy this file again")


def _load_image(path: Path) -> NDArray[np.float32]:
    values = load_array(path)
    least, most = values.min(), values.max()  # both NaN if any is
    if values.dtype.kind != "f" or not (least >= 0 and most <= 1):
        raise MissingError(
            f"{path}: holds {values.dtype} from {least} to {most}, expected floats in [0,1]. "
            "Divide 8-bit numbers by 255, or copy this file again"
        )
    return values.astype(np.float32)
