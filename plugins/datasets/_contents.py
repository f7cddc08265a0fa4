"""What a file holds: the numbers of a picture or of an array, in the machine's byte order."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from mtlkit.errors import MissingError

Kind = Literal["8-bit RGB", "8-bit grey", "16-bit RGB", "16-bit grey", "float"]
DEEP = "RGB;16"
"""The mode of pictures with 16 bits a channel, for which Pillow has no word."""
_KINDS: dict[str, Kind] = {  # by mode
    "RGB": "8-bit RGB",
    DEEP: "16-bit RGB",
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
    *(MemoryError, Image.DecompressionBombError),  # a damaged header may tell any size
)
_ROUNDING = 1e-3  # how far off [0,1] resizing takes the floats of an image


class Picture(NamedTuple):
    """A picture as it is stored."""

    mode: str  # Pillow's, or `DEEP`
    values: NDArray[np.generic]  # (H,W) or (H,W,C)

    @property
    def kind(self) -> str:
        """A `Kind`; the mode of what is none."""
        return _KINDS.get(self.mode, self.mode)


@contextmanager
def opened(path: Path) -> Iterator[ImageFile.ImageFile]:
    """Yield a picture; what goes wrong until it is closed is told of its file.

    Args:
        path: the file.

    Raises:
        MissingError: it cannot be read.
    """
    try:
        with Image.open(path) as picture:
            yield picture
    except _UNREADABLE as error:
        raise unreadable(path, error) from None


def read_picture(path: Path) -> Picture:
    """Return a picture's own numbers; of 16 bits a channel they are int32.

    Args:
        path: the file.

    Raises:
        MissingError: it cannot be read.
    """
    with opened(path) as picture:
        is_deep = bool(picture.tile) and picture.tile[0][3] == _HIGH_BYTES
        mode, values = picture.mode, np.array(picture)
        if is_deep:
            mode, values = DEEP, values.astype(np.int32) << 8 | _low_bytes(path)
    return Picture(mode, _native(values))


def decoded(path: Path, *kinds: Kind) -> NDArray[np.generic]:
    """Return a picture's own numbers, (H,W) or (H,W,3); uint8, int32 or float32.

    Args:
        path: the file.
        kinds: what it may hold.

    Raises:
        MissingError: it cannot be read, or is of another kind.
    """
    picture = read_picture(path)
    if picture.kind not in kinds:
        raise MissingError(
            f"{path}: holds {picture.kind} pixels, expected {' or '.join(kinds)}. "
            "Unpack the official file again"
        )
    is_16_bit = picture.kind == "16-bit grey"
    return picture.values.astype(np.int32) if is_16_bit else picture.values


def load_array(path: Path) -> NDArray[np.generic]:
    """Return the array of an .npy file, with two or three axes, in numbers that torch has.

    Args:
        path: the file; it may not hold objects.

    Raises:
        MissingError: it cannot be read, or is of another form.
    """
    try:
        values: NDArray[np.generic] = np.load(path, allow_pickle=False)
    except _UNREADABLE as error:
        raise unreadable(path, error) from None
    if not isinstance(values, np.ndarray) or values.ndim not in (2, 3) or not values.size:
        raise MissingError(f"{path}: must hold an array (H,W) or (H,W,C). Write it again")
    if values.dtype.kind not in "biuf" or values.dtype.itemsize > 8:
        raise MissingError(f"{path}: holds {values.dtype}, expected numbers. Write it again")
    return _native(values)


def load_image(path: Path) -> NDArray[np.float32]:
    """Return the image of an .npy file, with two or three axes, float32 in [0,1].

    Args:
        path: the file, with floats in [0,1], which rounding may have left by a little, or bytes.

    Raises:
        MissingError: it cannot be read, or holds other numbers.
    """
    values = load_array(path)
    if values.dtype == np.uint8:
        return values.astype(np.float32) / np.float32(255)
    least, most = values.min(), values.max()  # both NaN if any is
    is_unit = least >= -_ROUNDING and most <= 1 + _ROUNDING
    if values.dtype.kind != "f" or not is_unit:
        raise MissingError(
            f"{path}: holds {values.dtype} from {least} to {most}, expected floats in [0,1] "
            "or bytes. Divide the numbers by what white is, or copy this file again"
        )
    return values.astype(np.float32).clip(0, 1)


def unreadable(path: Path, error: BaseException) -> MissingError:
    """Return the error for a file that cannot be decoded.

    Args:
        path: the file.
        error: what was raised.
    """
    cause = (str(error) or type(error).__name__).splitlines()[0].replace(f" {str(path)!r}", "")
    cure = "Unpack or copy this file again"
    if isinstance(error, Image.DecompressionBombError):
        cure = "Make it smaller, or cut it into tiles; if it is not that large, copy it again"
    return MissingError(f"{path}: cannot be read ({cause}). {cure}")


def _low_bytes(path: Path) -> NDArray[np.uint8]:
    """Return the lower half of each number of a 16-bit RGB picture, (H,W,3); Pillow drops it."""
    with Image.open(path) as picture:
        name, box, offset, _ = picture.tile[0]
        picture.tile = [(name, box, offset, _LOW_BYTES)]  # type: ignore[list-item]
        return np.array(picture)


def _native(values: NDArray[np.generic]) -> NDArray[np.generic]:
    """Return values in the machine's byte order, the only one that torch knows."""
    return values.astype(values.dtype.newbyteorder("="), copy=False)
