"""Patterns of file names, and which samples they find in which split."""

from __future__ import annotations

import glob
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import AfterValidator, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from mtlkit.errors import MissingError

from ._files import SPLITS
from ._folder_splits import Validation
from ._listing import contents, some, visible

PHOTOS = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp")
IMAGES = (*PHOTOS, ".npy")
NUMBERS = (".png", ".tif", ".tiff", ".bmp", ".npy")  # what loses none
Values = Mapping[str, str]
"""What the placeholders of one sample stand for."""

_PLACEHOLDER = re.compile(r"\{([A-Za-z_]\w*)\}")


class Fault(NamedTuple):
    """What is wrong below a section of the recipe, and what to do."""

    keys: tuple[str, ...]  # from the section on
    text: str


def raise_faults(title: str, found: Sequence[Fault]) -> None:
    """Raise what is wrong below a section, each sentence at its key; nothing if there is nothing.

    Args:
        title: of the section.
        found: all of it.

    Raises:
        ValidationError: there is anything.
    """
    details = [
        InitErrorDetails(
            type=PydanticCustomError("value_error", "{text}", {"text": fault.text}),
            loc=fault.keys,
            input=None,
        )
        for fault in found
    ]
    if details:
        raise ValidationError.from_exception_data(title, details)


def _checked(pattern: str, endings: Sequence[str]) -> str:
    ending = Path(pattern).suffix.lower()
    if "{id}" not in pattern:
        raise ValueError(
            "has no {id}, which stands for a sample's name. Write such as rgb/{id}.jpg"
        )
    if re.search(r"[{}]", _PLACEHOLDER.sub("", pattern)):
        raise ValueError("a brace is open, or holds no name. Write placeholders such as {id}")
    if pattern.startswith(("/", "~")) or ".." in Path(pattern).parts:
        raise ValueError("leaves the folder. Write it from `root` on, and choose root above it")
    if re.search(r"[*?\\]", pattern):
        raise ValueError(
            "holds *, ? or \\. Write / between folders, and for what varies a name in braces, "
            "such as {scene}"
        )
    if ending in (".jpg", ".jpeg", ".webp"):
        raise ValueError(f"{ending} changes numbers when it is saved. Save labels as .png or .npy")
    if ending not in endings:
        raise ValueError(
            f"ends with {ending!r}. Files of these kinds are read: {', '.join(endings)}"
        )
    return pattern


def _photos(pattern: str) -> str:
    ending = Path(pattern).suffix
    is_image = ending.lower() in IMAGES
    _checked(pattern.removesuffix(ending) + ".png" if is_image else pattern, IMAGES)
    return pattern


ImagePattern = Annotated[str, AfterValidator(_photos)]
LabelPattern = Annotated[str, AfterValidator(lambda pattern: _checked(pattern, NUMBERS))]


def placeholders(pattern: str) -> list[str]:
    """Return the names in braces, in order, each once.

    Args:
        pattern: such as "{split}/rgb/{id}.jpg".
    """
    return list(dict.fromkeys(_PLACEHOLDER.findall(pattern)))


def filled(pattern: str, values: Values) -> str:
    """Return the file name that a pattern stands for.

    Args:
        pattern: such as "{split}/rgb/{id}.jpg".
        values: of its placeholders.
    """
    return _PLACEHOLDER.sub(lambda match: values[match[1]], pattern)


def samples_of(
    root: Path, pattern: str, labels: Sequence[str], val: Validation | None
) -> dict[str, list[Values]]:
    """Return the samples of each split, sorted by name.

    A name is what the placeholders but {split} stand for, joined by "/". Files that are hidden are
    none.

    Args:
        root: the folder of all.
        pattern: of images.
        labels: patterns of labels, which may be beside the images.
        val: which validate; None: {split} in the pattern says it.

    Raises:
        MissingError: a list cannot be used, or photos would be left out.
    """
    if val is None:
        return {s: list(_found(root, pattern, labels, s).values()) for s in SPLITS}
    found = _found(root, pattern, labels, "")
    if not found:
        return {split: [] for split in SPLITS}
    parted = val.parted(root, list(found))
    return {split: [found[name] for name in names] for split, names in parted.items()}


def _found(root: Path, pattern: str, labels: Sequence[str], split: str) -> dict[str, Values]:
    """Return what the placeholders of each image stand for, by its name, sorted."""
    pattern = pattern.replace("{split}", split)
    literals = _PLACEHOLDER.split(_bare(pattern))[::2]
    wild = re.sub(r"\*+", "*", "*".join(map(glob.escape, literals)))
    paths = [path.relative_to(root).as_posix() for path in visible(root, f"{wild}.*")]
    matches = {path: re.fullmatch(_expression(pattern), path) for path in paths}
    values = {path: match.groupdict() for path, match in matches.items() if match is not None}
    if values:
        others = [path for path in paths if path not in values]
        _check_left_out(pattern, set(values), others, [p.replace("{split}", split) for p in labels])
    in_order = sorted(values.values(), key=_ordered)
    return {"/".join(v.values()): {**v, "split": split} for v in in_order}


def _check_left_out(
    pattern: str, taken: Collection[str], others: Sequence[str], labels: Sequence[str]
) -> None:
    """Refuse photos beside those that match, which differ from the pattern in its ending or case.

    Labels are none, nor is what belongs to a photo that is taken, such as its thumbnail.
    """
    in_capitals = re.compile(_expression(pattern), re.IGNORECASE)
    like = [path for path in others if in_capitals.fullmatch(path)]
    if like:
        raise MissingError(
            f"data.images: {len(like)} files differ from {pattern} in capital letters alone and "
            f"would be left out: {some(like)}. Rename them"
        )
    stem = re.compile(_expression(_bare(pattern)))
    stems = set(map(_bare, taken))
    of_labels = [re.compile(_expression(label)) for label in labels]
    left_out = [
        path
        for path in others
        if Path(path).suffix.lower() in PHOTOS
        and stem.fullmatch(_bare(path))
        and not _belongs(_bare(path), stems)
        and not any(label.fullmatch(path) for label in of_labels)
    ]
    if left_out:
        raise MissingError(
            f"data.images: {len(left_out)} photos have another ending than {pattern} and would be "
            f"left out: {some(left_out)}. Rename or convert them, move them away, or read them as "
            "a second data set"
        )


def _bare(path: str) -> str:
    return Path(path).with_suffix("").as_posix()


def _belongs(bare: str, stems: Collection[str]) -> bool:
    """Return whether a name is one of others, or goes on after it, as a_mask does after a."""
    ends = [len(bare), *(match.start() for match in re.finditer(r"[_.-]", bare))]
    return any(bare[:end] in stems for end in ends)


def _ordered(values: Values) -> tuple[str, ...]:
    return tuple(values.values())


def _expression(pattern: str) -> str:
    expression, seen = "", set()
    for i, part in enumerate(_PLACEHOLDER.split(pattern)):
        if i % 2 == 0:
            expression += re.escape(part)
        elif part in seen:
            expression += f"(?P={part})"
        else:
            expression += f"(?P<{part}>[^/]+)"
            seen.add(part)
    return expression


def nothing_matches(root: Path, key: str, pattern: str) -> MissingError:
    """Return the error for a pattern that finds no file; it shows what there is instead.

    Args:
        root: the folder of all.
        key: of the recipe.
        pattern: what was searched.
    """
    folder = root
    for part in Path(pattern).parts[:-1]:
        inside = [p for p in visible(folder, "*") if p.is_dir()] if "{" in part else []
        following = inside[0] if inside else folder / part
        if not following.is_dir():
            break
        folder = following
    return MissingError(
        f"{key}: no file of {root} is called {pattern}; {folder} {contents(folder)}. Correct the "
        "pattern, or add the files"
    )
