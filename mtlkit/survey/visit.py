"""One sample as it is looked at, uncached and not augmented."""

from __future__ import annotations

import bisect
import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from mtlkit.cache import form
from mtlkit.camera import Intrinsics
from mtlkit.contracts import Dataset
from mtlkit.errors import MissingError, MtlkitError
from mtlkit.recipe import Recipe
from mtlkit.samples import Failed, Sample, wanted_of
from mtlkit.structures import FieldSpec
from mtlkit.survey.files import Size, files_of, size_of
from mtlkit.survey.labels import LabelNumbers, measured, unknown_ids
from mtlkit.walk import spread


@dataclass(frozen=True)
class Look:
    """One data set's split that is looked at.

    Args:
        dataset: gives it.
        split: "train" or "val".
        data: its samples, by the data set's own names.
        names: names in the recipe by those.
        chosen: numbers of the samples that are looked at.
    """

    dataset: Dataset
    split: str
    data: TorchDataset[Sample]
    names: Mapping[str, str]
    chosen: Sequence[int]

    @property
    def title(self) -> str:
        """Of the data set and the split."""
        return f"{self.dataset.title} {self.split}"

    @property
    def count(self) -> int:
        """Samples of the split, looked at or not."""
        return len(self.data)  # type: ignore[arg-type]

    @cached_property
    def specs(self) -> dict[str, FieldSpec]:
        """Specs of labels and extras by name in the recipe."""
        return {name: self.dataset.offers[own] for own, name in self.names.items()}

    def name_of(self, index: int) -> str:
        """Return how a sample is called: its image's file, if it has one.

        Args:
            index: its number in the split.
        """
        path = files_of(self.data, index).get("image")
        name = f"{self.title}, sample {index}"
        return name if path is None else f"{name} ({path})"


@dataclass(frozen=True)
class Seen:
    """What is kept of one sample.

    Args:
        look: number of the split that it belongs to.
        index: number in the split.
        digest: hash of the image; empty: it cannot be read.
        labels: numbers by name in the recipe.
        extras: that it has.
        sizes: of its files, by kind.
        bad: why it cannot be used, a sentence per file; empty: it can.
    """

    look: int
    index: int
    digest: bytes = b""
    labels: Mapping[str, LabelNumbers] = field(default_factory=dict)
    extras: frozenset[str] = frozenset()
    sizes: Mapping[str, Size] = field(default_factory=dict)
    bad: tuple[str, ...] = ()


def looks_of(
    recipe: Recipe, splits: Sequence[str], all_labels: bool, limit: int | None
) -> list[Look]:
    """Return the splits of all data sets of a recipe.

    Args:
        recipe: the run.
        splits: "train", "val" or both.
        all_labels: look at all labels and extras that a data set gives, not those alone that the
            recipe's tasks read.
        limit: most samples of a split, spread evenly over it; None: all.

    Raises:
        MissingError: with every split whose files are not there.
    """
    looks, faults = [], list[str]()
    for dataset, split in itertools.product(recipe.sets, splits):
        given = dict(dataset.gives) if all_labels else wanted_of(recipe, dataset)
        try:
            data = dataset.build_split(split, frozenset(given.values()))
        except MissingError as error:
            faults.append(str(error))
            continue
        count = len(data)  # type: ignore[arg-type]
        chosen = spread(count, count if limit is None else limit)
        names = {own: name for name, own in given.items()}
        looks.append(Look(dataset, split, data, names, chosen))
    if faults:
        raise MissingError("\n".join(dict.fromkeys(faults)))
    return looks


class Visits(TorchDataset[Seen | Failed]):
    """The chosen samples of all splits.

    Args:
        looks: the splits.
    """

    def __init__(self, looks: Sequence[Look]) -> None:
        self.looks = tuple(looks)
        self.ends = list(itertools.accumulate(len(look.chosen) for look in looks))
        self._alone: dict[tuple[int, str], TorchDataset[Sample]] = {}

    def __len__(self) -> int:
        return self.ends[-1] if self.ends else 0

    def __getitem__(self, number: int) -> Seen | Failed:
        """Return what is seen of a sample, or what is wrong with more than its files.

        Args:
            number: of the sample, over all splits.
        """
        if not 0 <= number < len(self):
            raise IndexError(number)
        position = bisect.bisect_right(self.ends, number)
        look = self.looks[position]
        index = look.chosen[number - self.ends[position] + len(look.chosen)]
        sizes = {kind: size_of(path) for kind, path in files_of(look.data, index).items()}
        try:
            sample = look.data[index]
        except MissingError as error:
            texts = dict.fromkeys([str(error), *self._faults(position, index)])
            return Seen(position, index, sizes=sizes, bad=tuple(texts))
        except MtlkitError as error:  # a worker's traceback would be wrapped around its text
            return Failed(type(error), str(error))
        return _seen(position, look, index, sample, sizes)

    def _faults(self, position: int, index: int) -> Iterator[str]:
        """Yield what is wrong with each label alone: reading stops at the first bad file."""
        look = self.looks[position]
        for own in sorted(look.names):
            try:
                if (position, own) not in self._alone:
                    alone = look.dataset.build_split(look.split, frozenset({own}))
                    self._alone[position, own] = alone
                self._alone[position, own][index]
            except (MtlkitError, IndexError) as error:
                if isinstance(error, MissingError):
                    yield str(error)


def _seen(position: int, look: Look, index: int, sample: Sample, sizes: Mapping[str, Size]) -> Seen:
    named = {look.names.get(own, own): value for own, value in sample.items()}
    bad = tuple(_inconsistent(look, index, named))
    if bad:
        return Seen(position, index, sizes=sizes, bad=bad)
    labels = {name for name, spec in look.specs.items() if spec.is_label}
    camera = next(
        (x for n, x in named.items() if n not in labels and isinstance(x, Intrinsics)), None
    )
    return Seen(
        position,
        index,
        digest=_digest(named["image"]),
        labels={n: measured(named[n], look.specs[n], camera) for n in sorted(labels & set(named))},
        extras=frozenset(n for n in look.specs.keys() - labels if _is_there(named.get(n))),
        sizes=sizes,
    )


def _inconsistent(look: Look, index: int, sample: Mapping[str, Tensor]) -> Iterator[str]:
    """Yield what does not agree with what the data set declares."""
    where, size = look.name_of(index), look.dataset.size
    image = torch.empty(3, *size, dtype=look.dataset.image_dtype, device="meta")
    blanks: dict[str, Any] = {n: spec.blank(size) for n, spec in look.specs.items()}
    for name, blank in {"image": image, **blanks}.items():
        value = sample.get(name)
        if value is None:
            if name == "image":
                yield f"{where}: has no image. Mend the data set's plugin"
            continue
        if blank is not None and (value.shape, value.dtype) != (blank.shape, blank.dtype):
            yield (
                f"{where}: {name} is {form(value)}, and the data set declares {form(blank)}. "
                "Mend its file, or `offers` of the plugin"
            )
        elif name in look.specs:
            ids = unknown_ids(value, look.specs[name])
            if ids:
                known = len(look.specs[name].classes) - 1
                yield (
                    f"{where}: {name} holds class ids {', '.join(map(str, ids[:5]))} (known: 0 to "
                    f"{known}). Give the data set's own label file"
                )


def _is_there(value: Tensor | None) -> bool:
    if value is None:
        return False
    return not value.is_floating_point() or bool(value.as_subclass(Tensor).isfinite().all())


def _digest(image: Tensor) -> bytes:
    pixels = image.as_subclass(Tensor).contiguous().numpy().tobytes()
    return hashlib.blake2b(pixels, digest_size=16).digest()
