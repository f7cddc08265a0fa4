"""Samples by (epoch, number), and the order that makes batches of them: no worker holds a state."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import Sampler

from mtlkit.cache import cached
from mtlkit.contracts import Dataset
from mtlkit.device import seeded_draws
from mtlkit.errors import MissingError, MtlkitError
from mtlkit.partial import hidden_labels
from mtlkit.recipe import Recipe

Key = tuple[int, int]
"""(epoch, number in the split); the samples of several data sets are numbered on."""
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
    """

    title: str
    split: TorchDataset[Sample]
    names: Mapping[str, str] = field(default_factory=dict)
    augmentation: Callable[[Sample], Sample] | None = None
    hidden: Mapping[str, Tensor] = field(default_factory=dict)

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
            key: (epoch, number).
        """
        epoch, index = key
        number = bisect.bisect_right(self.ends, index)
        part, start = self.parts[number], self.ends[number] - len(self.parts[number])
        skipped: list[str] = []
        while True:
            try:
                sample = self._read(part, index - start)
                break
            except MtlkitError as error:  # a worker's traceback would be wrapped around its text
                skipped.append(str(error))
                if self.on_bad == "fail" or not isinstance(error, MissingError):
                    return Failed(type(error), str(error))
            if self.on_bad == "leave_out":
                return Found(number, index, None, tuple(skipped))
            if len(skipped) >= min(MOST_BAD, len(part)):
                return Failed(MissingError, _too_many(skipped))
            index = start + (index - start + 1) % len(part)
        if part.augmentation is not None:
            with seeded_draws(self.seed, epoch, index):
                sample = part.augmentation(sample)
        return Found(number, index, sample, tuple(skipped))

    def _read(self, part: Part, index: int) -> Sample:
        found = part.split[index]
        sample = {part.names.get(own, own): value for own, value in found.items()}
        for name, is_hidden in part.hidden.items():
            if is_hidden[index]:
                sample.pop(name, None)
        image = sample["image"]
        if image.dtype == torch.uint8:
            sample["image"] = torch.mul(image, 1 / 255).as_subclass(type(image))
        return sample


def _too_many(skipped: Sequence[str]) -> str:
    return (
        f"{len(skipped)} samples in a row cannot be read, which is more than "
        f"loader.on_bad_sample: skip is for. The first: {skipped[0]}"
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


def notes_of(recipe: Recipe, samples: TorchDataset[Any]) -> list[str]:
    """Return a line for each task of whose labels no sample has any, as far as the recipe tells.

    Args:
        recipe: the run.
        samples: of its training split.
    """
    assert isinstance(samples, Samples)  # build_samples makes no other
    given: set[str] = set()
    for part in samples.parts:
        hidden = {name for name, is_hidden in part.hidden.items() if is_hidden.all()}
        given |= set(part.names.values()) - hidden
    return [
        f"task {name}: no training sample has its label; its direct loss is 0"
        for name, task in recipe.tasks.items()
        if not given & set(task.reads)
    ]


def _part(recipe: Recipe, dataset: Dataset, split: str) -> Part:
    given = wanted_of(recipe, dataset)
    source = cached(dataset, split, frozenset(given.values()), recipe.loader.cache)
    names = {own: name for name, own in given.items()}
    if split != "train":
        return Part(dataset.title, source, names)
    hidden = hidden_of(recipe, dataset, len(source))  # type: ignore[arg-type]
    return Part(dataset.title, source, names, dataset.build_augmentation(), hidden)


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


class BatchOrder(Sampler[list[Key]]):
    """Which samples make which batch; a function of (seed, epoch).

    Several data sets are mixed evenly, so that every batch has its share of each. With ratios an
    epoch has as many samples as there are in all, and a data set that has too few comes again.

    Args:
        counts: samples of each data set.
        batch_size: samples of a batch.
        seed: shuffles; None keeps the order, and ratios have no say.
        drop_last: leave out an incomplete last batch.
        ratios: of each data set's samples; none: every sample once.
    """

    def __init__(
        self,
        counts: Sequence[int],
        batch_size: int,
        seed: int | None,
        drop_last: bool,
        ratios: Sequence[float] = (),
    ) -> None:
        self.counts, self.count = tuple(counts), sum(counts)
        self.batch_size, self.seed, self.drop_last = batch_size, seed, drop_last
        self.shares = _shares(self.counts, ratios) if ratios else self.counts
        self.epoch, self.start = 0, 0

    def begin_at(self, epoch: int, start: int) -> None:
        """Choose what the next iteration gives.

        Args:
            epoch: 1 for the first.
            start: batches of the epoch to leave out at its beginning.
        """
        self.epoch, self.start = epoch, start

    @property
    def batches(self) -> int:
        """Batches of a whole epoch."""
        full, rest = divmod(self.count, self.batch_size)
        return full + (rest > 0 and not self.drop_last)

    def __len__(self) -> int:
        return self.batches - self.start

    def __iter__(self) -> Iterator[list[Key]]:
        order = list(range(self.count))
        if self.seed is not None:
            with seeded_draws(self.seed, self.epoch):
                order = self._mixed()
        for i in range(self.start, self.batches):
            chosen = order[i * self.batch_size : (i + 1) * self.batch_size]
            yield [(self.epoch, index) for index in chosen]

    def _mixed(self) -> list[int]:
        """Return the numbers of an epoch's samples; draws from torch's generator."""
        placed: list[tuple[float, int, int]] = []
        start = 0
        for part, (count, share) in enumerate(zip(self.counts, self.shares, strict=True)):
            rounds = -(-share // count) if count else 0
            drawn = [start + i for _ in range(rounds) for i in torch.randperm(count).tolist()]
            placed += [((i + 0.5) / share, part, n) for i, n in enumerate(drawn[:share])]
            start += count
        return [number for *_, number in sorted(placed, key=lambda place: place[:2])]


def _shares(counts: Sequence[int], ratios: Sequence[float]) -> tuple[int, ...]:
    """Return how many samples of each set make an epoch, by largest remainders."""
    total, weight = sum(counts), sum(ratios)
    exact = [
        total * ratio / weight if count else 0.0
        for count, ratio in zip(counts, ratios, strict=True)
    ]
    shares = [int(x) for x in exact]
    by_rest = sorted(range(len(exact)), key=lambda i: shares[i] - exact[i])
    for i in by_rest[: total - sum(shares)]:
        shares[i] += 1
    return tuple(shares)
