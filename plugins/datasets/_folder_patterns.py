"""Patterns of file names, and which samples they find in which split."""

from __future__ import annotations

import fnmatch
import glob
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import AfterValidator, Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from mtlkit.errors import MissingError, nearest
from mtlkit.sections import Section

from ._files import SPLITS
from ._maps import unreadable

PHOTOS = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp")
NUMBERS = (".png", ".tif", ".tiff", ".bmp", ".npy")  # what loses none
Values = Mapping[str, str]
"""What the placeholders of one sample stand for."""

_PLACEHOLDER = re.compile(r"\{([A-Za-z_]\w*)\}")
_MOST_SHOWN = 3


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
    is_photo = ending.lower() in PHOTOS
    _checked(pattern.removesuffix(ending) + ".png" if is_photo else pattern, PHOTOS)
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


class Validation(Section):
    """Which samples validate; the others train. One of `list`, `share` and `matching` says it.

    `share` takes a sample if a hash of seed and name falls below it: its size is about the share,
    and files that are added move no other between the splits. Neighbours in a video look alike: do
    not part them by share.
    """

    list_file: str | None = Field(
        None, alias="list", description="text file below root with a name a line: these validate"
    )
    train_list: str | None = Field(
        None, description="beside list, the names that train; null: all others"
    )
    share: float | None = Field(None, gt=0, lt=1, description="of all samples, by chance")
    seed: int = Field(0, ge=0, description="of that chance")
    matching: str | None = Field(None, description="names such as scene7_* (* is any text)")

    @model_validator(mode="after")
    def _says_one_thing(self) -> Validation:
        given = [x for x in (self.list_file, self.share, self.matching) if x is not None]
        if len(given) != 1:
            raise ValueError("takes one of `list`, `share` and `matching`. Give exactly one")
        if self.train_list is not None and self.list_file is None:
            raise ValueError("train_list goes with `list`. Add the list of what validates")
        return self

    def parted(self, root: Path, names: Sequence[str]) -> dict[str, list[str]]:
        """Return the names of each split, in their order.

        Args:
            root: folder of the lists.
            names: of all samples, sorted.

        Raises:
            MissingError: a list cannot be read, names what is not there, or what the other names.
        """
        if self.list_file is None:
            val = {name for name in names if self._validates(name)}
        else:
            val = set(_listed(root, "list", self.list_file, names))
        train = set(names) - val
        if self.train_list is not None:
            train = set(_listed(root, "train_list", self.train_list, names))
            both = sorted(train & val)
            if both:
                raise MissingError(
                    f"data.val: {self.list_file} and {self.train_list} share {some(both)}. Name "
                    "every sample in one of the two"
                )
        return {
            "train": [name for name in names if name in train],
            "val": [name for name in names if name in val],
        }

    def _validates(self, name: str) -> bool:
        if self.share is None:
            return fnmatch.fnmatchcase(name, self.matching or "")
        digest = hashlib.sha256(f"{self.seed}/{name}".encode()).digest()
        return int.from_bytes(digest[:8], "big") < self.share * 2**64


def samples_of(root: Path, pattern: str, val: Validation | None) -> dict[str, list[Values]]:
    """Return the samples of each split, sorted by name.

    A name is what the placeholders but {split} stand for, joined by "/". Files that are hidden are
    none.

    Args:
        root: the folder of all.
        pattern: of images.
        val: which validate; None: {split} in the pattern says it.

    Raises:
        MissingError: a list cannot be used, or files differ in capital letters alone.
    """
    if val is None:
        return {s: list(_found(root, pattern, s).values()) for s in SPLITS}
    found = _found(root, pattern, "")
    if not found:
        return {split: [] for split in SPLITS}
    parted = val.parted(root, list(found))
    return {split: [found[name] for name in names] for split, names in parted.items()}


def _found(root: Path, pattern: str, split: str) -> dict[str, Values]:
    """Return what the placeholders of each image stand for, by its name, sorted."""
    pattern = pattern.replace("{split}", split)
    ending = Path(pattern).suffix
    literals = _PLACEHOLDER.split(pattern.removesuffix(ending))[::2]
    wild = re.sub(r"\*+", "*", "*".join(map(glob.escape, literals)))
    paths = [path.relative_to(root).as_posix() for path in root.glob(f"{wild}.*")]
    expression = _expression(pattern)
    loosely = [path for path in paths if re.fullmatch(expression, path, re.IGNORECASE)]
    matches = [re.fullmatch(expression, path) for path in loosely]
    values = [match.groupdict() for match in matches if match is not None]
    if 0 < len(values) < len(loosely):
        other = [p for p, match in zip(loosely, matches, strict=True) if match is None]
        raise MissingError(
            f"data.images: {len(other)} files differ from {pattern} in capital letters alone and "
            f"would be left out: {some(sorted(other))}. Rename them"
        )
    return {"/".join(v.values()): {**v, "split": split} for v in sorted(values, key=_ordered)}


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
            not_hidden = r"(?!\.)" if expression[-1:] in ("", "/") else ""
            expression += f"{not_hidden}(?P<{part}>[^/]+)"
            seen.add(part)
    return expression


def _listed(root: Path, key: str, file: str, names: Sequence[str]) -> Iterator[str]:
    """Yield the names that a file lists."""
    path = root / file
    if not path.is_file():
        raise MissingError(f"data.val.{key}: {path} is no file. Give one with a name a line")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise MissingError(f"data.val.{key}: {unreadable(path, error)}") from None
    known, seen = set(names), set()
    for number, line in enumerate(lines, 1):
        name = line.strip()
        if not name:
            continue
        if name not in known:
            like = nearest(name.rsplit(".", 1)[0], names) or f"one is {names[0]!r}. "
            raise MissingError(
                f"{path}:{number}: no image is called {name!r}; {like}Write what {{id}} stands "
                "for, without folder and ending"
            )
        if name in seen:
            raise MissingError(f"{path}:{number}: {name!r} is there twice. Remove one")
        seen.add(name)
        yield name


def nothing_matches(root: Path, key: str, pattern: str) -> MissingError:
    """Return the error for a pattern that finds no file; it shows what there is instead.

    Args:
        root: the folder of all.
        key: of the recipe.
        pattern: what was searched.
    """
    folder = root
    for part in Path(pattern).parts[:-1]:
        inside = sorted(p for p in folder.glob("*") if p.is_dir()) if "{" in part else []
        following = inside[0] if inside else folder / part
        if not following.is_dir():
            break
        folder = following
    entries = sorted(p.name for p in folder.glob("*") if not p.name.startswith("."))
    holds = f"holds {some(entries)}" if entries else "is empty"
    return MissingError(
        f"{key}: no file of {root} is called {pattern}; {folder} {holds}. Correct the pattern, or "
        "add the files"
    )


def some(names: Sequence[str]) -> str:
    """Return the first names, and how many more there are.

    Args:
        names: any.
    """
    more = f" and {len(names) - _MOST_SHOWN} more" if len(names) > _MOST_SHOWN else ""
    return ", ".join(names[:_MOST_SHOWN]) + more
