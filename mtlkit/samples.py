"""The samples of all data sets by number: read, checked, hidden where asked, and augmented."""

from __future__ import annotations

import bisect
import contextlib
import itertools
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from mtlkit.cache import blanks_of, cached, wrong_form
from mtlkit.contracts import Dataset
from mtlkit.device import seeded_draws
from mtlkit.errors import CacheError, MissingError, MtlkitError, PluginError
from mtlkit.order import Key
from mtlkit.partial import hidden_labels
from mtlkit.recipe import Recipe
from mtlkit.transforms import LabelKind

Sample = dict[str, Tensor]
MOST_BAD = 20  # unreadable samples in a row; more is no accident


@dataclass(frozen=True)
class Part:
    """One data set's split, as the recipe sees it.

    Args:
        title: of the data set.
        split: decoded samples, names as the data set has them.
        names: names in the recipe by those.
        augmentation: varies a sample, or None.
        hidden: by label name in the recipe, which samples are to seem to lack it, (n,) bool.
        fields: blank sample tensors, names as the data set has them; what samples must look like.
    """

    title: str
    split: TorchDataset[Sample]
    names: Mapping[str, str] = field(default_factory=dict)
    augmentation: Callable[[Sample], Sample] | None = None
    hidden: Mapping[str, Tensor] = field(default_factory=dict)
    fields: Mapping[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.split)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Found:
    """A sample and where it is from.

    Args:
        part: number of the data set.
        index: number in the split, of all data sets.
        sample: tensors by name in the recipe; None: it could not be read and was left out.
        skipped: why samples were left out or replaced by this one.
    """

    part: int
    index: int
    sample: Sample | None
    skipped: tuple[str, ...] = ()


@dataclass(frozen=True)
class Failed:
    """A sample that cannot be read: the error to raise in the main process."""

    kind: type[MtlkitError]
    text: str


class Samples(TorchDataset[Found | Failed]):
    """The samples of all data sets, augmented.

    Args:
        parts: one for each data set.
        seed: the recipe's.
        on_bad: what happens where one cannot be read: replace gives the next of its data set.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        seed: int,
        on_bad: Literal["fail", "replace", "leave_out"] = "fail",
    ) -> None:
        self.parts, self.seed, self.on_bad = tuple(parts), seed, on_bad
        self.ends = list(itertools.accumulate(map(len, parts)))

    def __len__(self) -> int:
        return self.ends[-1]

    def __getitem__(self, key: Key) -> Found | Failed:
        """Return a sample, its image float in [0,1], or why it cannot be read.

        Args:
            key: (epoch, number, turn).
        """
        epoch, asked, turn = key
        number = bisect.bisect_right(self.ends, asked)
        part, start = self.parts[number], self.ends[number] - len(self.parts[number])
        index, skipped = asked, list[str]()
        while True:
            try:
                sample = _read(part, index - start)
                break
            except MtlkitError as error:  # a worker's traceback would be wrapped around its text
                skipped.append(str(error))
                is_bad = isinstance(error, MissingError) and not isinstance(error, CacheError)
                if self.on_bad == "fail" or not is_bad:
                    return Failed(type(error), str(error))
            if self.on_bad == "leave_out":
                return Found(number, index, None, tuple(skipped))
            if len(skipped) >= min(MOST_BAD, len(part)):
                return Failed(MissingError, too_many(skipped))
            index = start + (index - start + 1) % len(part)
        if part.augmentation is not None:
            # by what was asked for, so that a sample that comes again is varied anew
            with seeded_draws(self.seed, epoch, asked, *([turn] if turn else [])):
                try:
                    with _blaming(part, index - start):
                        sample = part.augmentation(sample)
                except MtlkitError as error:
                    return Failed(type(error), str(error))
        return Found(number, index, sample, tuple(skipped))


def _read(part: Part, index: int) -> Sample:
    with _blaming(part, index):
        found = part.split[index]
    _check_form(part, index, found)
    sample = {part.names.get(own, own): value for own, value in found.items()}
    for name, is_hidden in part.hidden.items():
        if is_hidden[index]:
            sample.pop(name, None)
    image = sample["image"]
    if image.dtype == torch.uint8:
        sample["image"] = torch.mul(image, 1 / 255).as_subclass(type(image))
    return sample


def _check_form(part: Part, index: int, sample: Sample) -> None:
    """Refuse a sample that is not what the data set declares."""
    if not isinstance(sample, dict):
        raise PluginError(
            f"{part.title}: sample {index} is {type(sample).__name__}, not a dict of tensors. "
            "Return the image and the wanted labels by name"
        )
    for name, blank in part.fields.items():
        value = sample.get(name, None if name == "image" else blank)
        if value is None or (value.shape, value.dtype) != (blank.shape, blank.dtype):
            raise wrong_form(part.title, index, sample, part.fields)
        if isinstance(blank, LabelKind) and not isinstance(value, LabelKind):
            raise PluginError(
                f"{part.title}: sample {index} has a {type(value).__name__} as {name!r}. Make it "
                f"the kind that is offered, {type(blank).__name__}"
            )


@contextlib.contextmanager
def _blaming(part: Part, index: int) -> Iterator[None]:
    """Turn an error of a data set's own code into one that names it and the place."""
    try:
        yield
    except MtlkitError:
        raise
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        raise PluginError(
            f"{part.title}: sample {index} cannot be made: {type(error).__name__}: {error} "
            f"({frame.filename}:{frame.lineno}). Mend the data set's plugin, or its `augment`"
        ) from None


def too_many(skipped: Sequence[str]) -> str:
    """Return why skipping ends.

    Args:
        skipped: the reasons, one for each sample.
    """
    return (
        f"{len(skipped)} samples in a row cannot be read, and loader.on_bad_sample: skip is for "
        f"single ones. The first: {skipped[0]}"
    )


def build_samples(recipe: Recipe, split: str) -> Samples:
    """Return the samples of a split; those of "train" are augmented and may have hidden labels.

    Args:
        recipe: the run.
        split: "train" or "val".
    """
    parts = [_part(recipe, part, split) for part in recipe.sets]
    if recipe.loader.on_bad_sample == "fail":
        return Samples(parts, recipe.seed)
    # a training batch must not shrink, and a validation sample must not count twice
    return Samples(parts, recipe.seed, "replace" if split == "train" else "leave_out")


def notes_of(recipe: Recipe, samples: Samples) -> list[str]:
    """Return a line for each task of whose labels no sample has any, as far as the recipe tells.

    Args:
        recipe: the run.
        samples: of its training split.
    """
    given: set[str] = set()
    for part in samples.parts:
        hidden = {name for name, is_hidden in part.hidden.items() if is_hidden.all()}
        given |= set(part.names.values()) - hidden
    return [
        f"task {name}: no training sample has its label; its direct loss is 0"
        for name, task in recipe.tasks.items()
        if task.reads and not given & set(task.reads)
    ]


def _part(recipe: Recipe, dataset: Dataset, split: str) -> Part:
    given = wanted_of(recipe, dataset)
    own = frozenset(given.values())
    source = cached(dataset, split, own, recipe.loader.cache)
    names = {own: name for name, own in given.items()}
    fields = {name: blank for name, blank in blanks_of(dataset, own).items() if blank is not None}
    if split != "train":
        return Part(dataset.title, source, names, fields=fields)
    count = len(source)  # type: ignore[arg-type]
    if not count:
        raise MissingError(
            f"{dataset.title}: has no training sample. Give it some, or leave it out"
        )
    hidden = hidden_of(recipe, dataset, count)
    return Part(dataset.title, source, names, dataset.build_augmentation(), hidden, fields)


def wanted_of(recipe: Recipe, dataset: Dataset) -> dict[str, str]:
    """Return what a run reads of a data set: its own names by those in the recipe.

    Args:
        recipe: the run.
        dataset: one of its.
    """
    return {name: own for name, own in dataset.gives.items() if name in recipe.wants}


def hidden_of(recipe: Recipe, dataset: Dataset, count: int) -> Mapping[str, Tensor]:
    """Return by label name in the recipe which training samples seem to lack it, (count,) bool.

    Args:
        recipe: the run.
        dataset: one of its.
        count: training samples of the data set.
    """
    if dataset.labels_per_image is None:
        return {}
    given = wanted_of(recipe, dataset)
    labels = sorted(name for name, own in given.items() if dataset.offers[own].is_label)
    return hidden_labels(dataset.labels_per_image, labels, count)
