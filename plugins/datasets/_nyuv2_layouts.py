"""The forms in which NYUv2 is passed around, and where each keeps the files of a sample."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Literal

from mtlkit.errors import MissingError

from ._listing import read_names, some, visible
from ._maps import Files

Layout = Literal["mat", "npy", "png"]
MAT = "nyu_depth_v2_labeled.mat"
_MARKS: dict[Layout, tuple[str, ...]] = {  # any of these tells the layout
    "mat": (MAT,),
    "npy": ("train/image", "val/image"),
    "png": ("gt_sets",),
}
_NPY_FOLDERS = {"depth": ("depth",), "normals": ("normal",), "segmentation": ("label", "seg")}
_PNG_PATTERNS = {  # the first that is there
    "image": ("images/{}.jpg", "images/{}.png"),
    "segmentation": ("segmentation/{}.png",),
    "depth": ("depth/{}.npy",),
    "normals": ("normals/{}.npy", "normals/{}.png"),
    "boundary": ("edge/{}.npy", "edge/{}.png"),
}
_ENDINGS = (".jpg", ".jpeg", ".png", ".npy", ".mat")


def fitting_layouts(root: Path) -> list[Layout]:
    """Return the layouts that a folder may be in, by which files are there.

    Args:
        root: the folder.
    """
    return [name for name, marks in _MARKS.items() if any((root / m).exists() for m in marks)]


def only_layout(root: Path) -> Layout:
    """Return the layout of a folder.

    Args:
        root: the folder.

    Raises:
        MissingError: none fits, or several do.
    """
    found = fitting_layouts(root)
    if not found:
        marks = "; ".join(f"{name}: {' or '.join(m)}" for name, m in _MARKS.items())
        raise MissingError(
            f"{root}: no layout of NYUv2 fits; looked for {marks}. Give as data.root the folder "
            "that holds one of these"
        )
    if len(found) > 1:
        raise MissingError(
            f"{root}: holds NYUv2 in several layouts: {', '.join(found)}. Write which as "
            "data.layout"
        )
    return found[0]


def npy_files(root: Path, split: str, labels: Collection[str]) -> list[Files]:
    """Return the files of MTAN's arrays, {split}/{image,label,depth,normal}/{number}.npy.

    Args:
        root: folder of the data set.
        split: "train" or "val".
        labels: names of labels that are read.

    Raises:
        MissingError: there are no samples, or they are not numbered from 0 without a gap.
    """
    folders = {"image": root / split / "image"}
    for label in sorted(labels):
        choices = [root / split / name for name in _NPY_FOLDERS[label]]
        folders[label] = next((path for path in choices if path.is_dir()), choices[0])
    names = {path.name for folder in folders.values() for path in visible(folder, "*.npy")}
    if not names:
        raise MissingError(
            f"{folders['image']}: holds no *.npy. Unpack MTAN's copy of NYUv2 into {root}, or "
            f"write one with `mtlkit data render rooms --out {root}`"
        )
    in_order = sorted(names, key=lambda name: (len(name), name))
    for number, name in enumerate(in_order):
        if name != f"{number}.npy":
            raise MissingError(
                f"{root / split}: lacks {number}.npy in all folders, next is {name}; samples are "
                "numbered from 0 without a gap. Copy the folder again, or rename its files"
            )
    return [{label: folder / name for label, folder in folders.items()} for name in in_order]


def png_files(root: Path, split: str, labels: Collection[str]) -> list[Files]:
    """Return the files of the pictures that NYUD-MT is, as gt_sets/{split}.txt lists them.

    Args:
        root: folder of the data set.
        split: "train" or "val".
        labels: names of labels that are read.

    Raises:
        MissingError: the list is missing or empty, or names something twice or also for the other
            split.
    """
    lists = {name: root / "gt_sets" / f"{name}.txt" for name in ("train", "val")}
    names = _listed(lists[split])
    other = lists["val" if split == "train" else "train"]
    if other.exists():
        shared = sorted(set(names) & set(_listed(other)))
        if shared:
            raise MissingError(
                f"{lists[split]}: shares {len(shared)} names with {other.name}: "
                f"{some(shared)}. Remove them from one of the lists"
            )
    choices = {"image": _PNG_PATTERNS["image"]} | {x: _PNG_PATTERNS[x] for x in sorted(labels)}
    return [
        {label: _first(root, patterns, name) for label, patterns in choices.items()}
        for name in names
    ]


FINDERS: Mapping[str, Callable[[Path, str, Collection[str]], list[Files]]] = {
    "npy": npy_files,
    "png": png_files,
}


def _listed(path: Path) -> list[str]:
    """Return the names of a list after a check that they are names of files without ending."""
    names = read_names(path)
    if not names:
        raise MissingError(f"{path}: lists no sample. Write the samples' names into it, one a line")
    for name, line in names.items():
        if name != Path(name).name or name.lower().endswith(_ENDINGS):
            raise MissingError(
                f"{path}:{line}: {name!r} is no file's name without folder and ending. Remove what "
                "is before and behind it, in every line"
            )
    return list(names)


def _first(root: Path, patterns: tuple[str, ...], name: str) -> Path:
    paths = [root / pattern.format(name) for pattern in patterns]
    return next((path for path in paths if path.exists()), paths[0])
