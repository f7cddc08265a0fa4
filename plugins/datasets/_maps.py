"""The files of one sample as maps of one size, each file checked as it is read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional

from mtlkit.camera import Intrinsics
from mtlkit.errors import MissingError
from mtlkit.transforms import ClassMap

from ._contents import Kind, decoded, load_array, load_image

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
        self._sizes: dict[str, tuple[int, int]] = {}

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
        return load_image(path) if path.suffix == ".npy" else decoded(path, "8-bit RGB")

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
        rows, columns = map(_nearest, self.size, values.shape[:2])
        kept = values[rows[:, None], columns]
        return torch.from_numpy(
            np.ascontiguousarray(kept.reshape(*self.size, -1).transpose(2, 0, 1))
        )

    def sampled(self, name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return where the source's pixels that are shown lie, rows (H,) and columns (W,).

        They are in pixels of the size that is asked for, as those of `intrinsics`: up to half a
        pixel of the source off 0, 1, 2 and so on. Where the source is smaller, they repeat.

        Args:
            name: of a file that was read.
        """
        rows, columns = (
            (_nearest(new, old) + 0.5) * new / old - 0.5
            for new, old in zip(self.size, self._sizes[name], strict=True)
        )
        return rows, columns

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
        height, width = self._sizes[name] = values.shape[:2]
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


def _nearest(new: int, old: int) -> NDArray[np.int64]:
    """Return which of `old` pixels each of `new` ones shows, (new,), ascending."""
    shown: NDArray[np.int64] = ((2 * np.arange(new) + 1) * old) // (2 * new)
    return shown
