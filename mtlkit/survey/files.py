"""The files of a split: their sizes by kind, and those that belong to train and to val."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch.utils.data import Dataset as TorchDataset

Size = tuple[int, ...]
"""Height and width of a picture, or the shape of an array."""
_HEADERLESS = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)


@dataclass(frozen=True)
class SizesOfKind:
    """The sizes of one kind of file.

    Args:
        kind: such as "image".
        counts: files by size, the most frequent first; () is not known.
        odd: files of another size than most, with it.
    """

    kind: str
    counts: Mapping[Size, int]
    odd: tuple[tuple[Path, Size], ...]


def files_of(split: TorchDataset[Any], index: int) -> Mapping[str, Path]:
    """Return the files of a sample by what they hold; none where the split has none.

    Args:
        split: of a data set.
        index: number of the sample.
    """
    find = getattr(split, "files", None)
    found: Mapping[str, Path] = {} if find is None else find(index)
    return found


def size_of(path: Path) -> Size:
    """Return height and width of a picture, or the shape of an array; () where it has none.

    Only the header is read.

    Args:
        path: of the file.
    """
    try:
        if path.suffix == ".npy":
            shape: Size = np.load(path, mmap_mode="r", allow_pickle=False).shape
            return shape[:2]
        with Image.open(path) as picture:
            return picture.height, picture.width
    except _HEADERLESS:  # a calibration, or what reading the sample will tell
        return ()


def sizes_by_kind(
    found: Iterable[tuple[Mapping[str, Path], Mapping[str, Size]]],
) -> list[SizesOfKind]:
    """Return the sizes of each kind of file.

    Args:
        found: for every sample its files and their sizes.
    """
    by_kind: dict[str, list[tuple[Path, Size]]] = {}
    for files, sizes in found:
        for kind, size in sizes.items():
            by_kind.setdefault(kind, []).append((files[kind], size))
    return [_sizes(kind, pairs) for kind, pairs in by_kind.items()]


def _sizes(kind: str, pairs: list[tuple[Path, Size]]) -> SizesOfKind:
    counts = dict(Counter(size for _, size in pairs).most_common())
    usual = next(iter(counts))
    return SizesOfKind(kind, counts, tuple(pair for pair in pairs if pair[1] != usual))


def shared_files(train: TorchDataset[Any], val: TorchDataset[Any]) -> list[Path]:
    """Return the files that a sample of each of two splits is read from, sorted.

    A file of several samples of a split holds many, or what they have in common: that both splits
    read it means nothing.

    Args:
        train: one split.
        val: the other.
    """
    return sorted(_own_files(train) & _own_files(val))


def _own_files(split: TorchDataset[Any]) -> set[Path]:
    if not hasattr(split, "files"):
        return set()
    count = len(split)  # type: ignore[arg-type]
    found = Counter(path for i in range(count) for path in set(files_of(split, i).values()))
    return {path for path, times in found.items() if times == 1}
