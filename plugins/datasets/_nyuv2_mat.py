"""NYUv2's own file, nyu_depth_v2_labeled.mat, with the split and the classes beside it.

The first is HDF5 with MATLAB's axes reversed: images (N,3,W,H), depths, rawDepths and labels
(N,W,H). It is opened for each sample anew, so that no handle is ever shared by two processes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mtlkit.errors import MissingError

from ._contents import unreadable
from ._files import check_files
from ._maps import Files, Maps
from ._nyuv2_labels import Classes, forty_to_class
from ._nyuv2_layouts import MAT

_SPLITS = {"train": "trainNdxs", "val": "testNdxs"}
_IDS = 894  # in labels; 0 is void


class _Field(NamedTuple):
    """What an array of the file must be."""

    axes: int
    kinds: str  # of numpy's dtypes
    words: str


_FIELDS = {
    "images": _Field(4, "u", "(N,3,W,H) uint8"),
    "labels": _Field(3, "iu", "(N,W,H) of integers"),
    "depths": _Field(3, "f", "(N,W,H) of floats"),
    "rawDepths": _Field(3, "f", "(N,W,H) of floats"),
}


@dataclass(frozen=True)
class Frames:
    """The samples of a split within the file.

    Args:
        files: that they come from, by what they hold.
        fields: of the file, by label; "image" among them.
        numbers: of the samples in the file, from 0.
        class_table: (895,), from label id to class; None where no classes are read.
    """

    files: Files
    fields: Mapping[str, str]
    numbers: tuple[int, ...]
    class_table: NDArray[np.uint8] | None

    def places(self, index: int) -> Files:
        """Return where in the file a sample's arrays are, for messages.

        Args:
            index: of the sample in the split.
        """
        number = self.numbers[index]
        return {x: self.files["image"] / f"{field}[{number}]" for x, field in self.fields.items()}

    def arrays(self, index: int) -> dict[str, NDArray[np.generic]]:
        """Return the image, (H,W,3) uint8, class ids, (H,W) int32, and depth in metres, (H,W).

        Args:
            index: of the sample in the split.

        Raises:
            MissingError: the file cannot be read.
        """
        path, number = self.files["image"], self.numbers[index]
        try:
            with _library("h5py").File(path, "r") as file:
                found = {name: file[field][number].T for name, field in self.fields.items()}
        except (OSError, RuntimeError, KeyError, ValueError, IndexError) as error:
            raise unreadable(path, error) from None
        if "segmentation" in found:
            found["segmentation"] = found["segmentation"].astype(np.int32)
        return {
            name: np.ascontiguousarray(values, values.dtype.newbyteorder("="))
            for name, values in found.items()
        }


class FrameMaps(Maps):
    """The arrays of one sample as maps of one size.

    Args:
        frames: the samples of a split.
        index: of the sample in the split.
        size: (H, W) of what is returned.

    Raises:
        MissingError: the file cannot be read.
    """

    def __init__(self, frames: Frames, index: int, size: tuple[int, int]) -> None:
        super().__init__(frames.places(index), size)
        self._arrays = frames.arrays(index)

    def pixels(self) -> NDArray[np.generic]:
        """Return the image's own pixels, (H,W,3) uint8."""
        return self._arrays["image"]

    def array(self, name: str) -> Tensor:
        """Return numbers of the file, (1,H,W).

        Args:
            name: of the label.
        """
        return self.fitted(name, self._arrays[name])


def find_frames(
    root: Path, split: str, fields: Mapping[str, str], classes: Classes | None
) -> Frames:
    """Return the samples of a split after a check of the files.

    Args:
        root: folder of the data set.
        split: "train" or "val".
        fields: of the file, by label that is read; "image" is added.
        classes: how many to tell apart; None: classMapping40.mat is not needed.

    Raises:
        MissingError: a file is not there or not what it should be, or a library is missing.
    """
    files = {"image": root / MAT, "splits": root / "splits.mat"}
    if classes is not None:
        files["classes"] = root / "classMapping40.mat"
    check_files(
        root,
        [files],
        f"Get {MAT} and splits.mat from NYU Depth V2's page, classMapping40.mat from the "
        "code of Gupta et al. 2013",
    )
    fields = {"image": "images"} | dict(fields)
    count = _count(files["image"], fields.values())
    numbers = _numbers(files["splits"], split, count)
    table = None if classes is None else _class_table(files["classes"], classes)
    return Frames(files, fields, numbers, table)


def _count(path: Path, names: Collection[str]) -> int:
    """Return how many samples the file holds, after a check of its arrays."""
    h5py = _library("h5py")
    shapes: dict[str, tuple[int, ...]] = {}
    try:
        with h5py.File(path, "r") as file:
            for name in names:
                values = file.get(name)
                shapes[name] = _shape(path, name, values, isinstance(values, h5py.Dataset))
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        raise unreadable(path, error) from None
    count, _, width, height = shapes["images"]
    for name, shape in shapes.items():
        if (shape[0], *shape[-2:]) != (count, width, height):
            raise MissingError(
                f"{path}: {name} has shape {shape}, images {shapes['images']}; they do not belong "
                "together. Copy this file again"
            )
    return count


def _shape(path: Path, name: str, values: Any, is_array: bool) -> tuple[int, ...]:
    axes, kinds, words = _FIELDS[name]
    if not is_array:
        raise MissingError(f"{path}: has no array {name}. Give the official file")
    is_right = len(values.shape) == axes and values.dtype.kind in kinds and all(values.shape)
    if name == "images":
        is_right = is_right and values.dtype.itemsize == 1 and values.shape[1] == 3
    if not is_right:
        raise MissingError(
            f"{path}: {name} has shape {values.shape} of {values.dtype}, expected {words}. Give "
            "the official file"
        )
    shape: tuple[int, ...] = values.shape
    return shape


def _numbers(path: Path, split: str, count: int) -> tuple[int, ...]:
    """Return which samples of the file belong to a split, from 0 (in the file: from 1)."""
    listed = {name: _whole_numbers(path, key) for name, key in _SPLITS.items()}
    every = np.concatenate(list(listed.values()))
    if every.min() < 1 or every.max() > count:
        raise MissingError(
            f"{path}: lists samples {every.min()} to {every.max()}, {MAT} holds 1 to {count}. "
            "Give the file that belongs to it"
        )
    if len(np.unique(every)) < len(every):
        raise MissingError(
            f"{path}: lists a sample twice, in {' or '.join(_SPLITS.values())}. Give the official "
            "file"
        )
    return tuple(int(number) - 1 for number in listed[split])


def _class_table(path: Path, classes: Classes) -> NDArray[np.uint8]:
    """Return a table (895,) from label id, 0 is void, to class id or `VOID`."""
    forty = _whole_numbers(path, "mapClass")
    if len(forty) != _IDS or forty.min() < 1 or forty.max() > 40:
        raise MissingError(
            f"{path}: mapClass has {len(forty)} entries from {forty.min()} to {forty.max()}, "
            f"expected {_IDS} from 1 to 40. Give the official file"
        )
    table: NDArray[np.uint8] = forty_to_class(classes)[np.concatenate([[0], forty])]
    return table


def _whole_numbers(path: Path, key: str) -> NDArray[np.int64]:
    """Return a variable of a .mat file, HDF5 or older, as a vector."""
    h5py, scipy_io = _library("h5py"), _library("scipy.io")
    try:
        if h5py.is_hdf5(path):
            with h5py.File(path, "r") as file:
                values = np.asarray(file.get(key))
        else:
            values = np.asarray(scipy_io.loadmat(path, variable_names=[key]).get(key))
    except Exception as error:  # scipy fails on a damaged file with almost any of them
        raise unreadable(path, error) from None
    is_number = values.dtype.kind in "iuf" and values.size > 0
    if not is_number or not np.array_equal(values, np.round(values)):
        raise MissingError(f"{path}: has no whole numbers {key}. Give the official file")
    return values.ravel().astype(np.int64)


def _library(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise MissingError(
            f"data.layout: mat needs the library {name.split('.')[0]} ({error}). Run "
            "`pip install 'mtlkit[nyuv2]'`"
        ) from None
