"""What was seen of each split, added up, and what follows for the recipe."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mtlkit.recipe import Recipe
from mtlkit.samples import hidden_of
from mtlkit.survey.files import SizesOfKind, files_of, shared_files, sizes_by_kind
from mtlkit.survey.labels import LabelNumbers
from mtlkit.survey.visit import Look, Seen


@dataclass(frozen=True)
class SplitSurvey:
    """One split, seen whole.

    Args:
        look: the split.
        seen: its samples; of their labels only the coverage is left.
        labels: numbers by name in the recipe; what no sample has is missing.
    """

    look: Look
    seen: Sequence[Seen]
    labels: Mapping[str, LabelNumbers]

    @property
    def readable(self) -> int:
        """Samples that can be used."""
        return sum(not one.bad for one in self.seen)

    @property
    def bad(self) -> list[str]:
        """Why samples cannot be used, a sentence per file."""
        return [text for one in self.seen for text in one.bad]

    @property
    def extras(self) -> Counter[str]:
        """How many samples have an extra, by name."""
        return Counter(name for one in self.seen for name in one.extras)

    @property
    def sizes(self) -> list[SizesOfKind]:
        """Sizes of each kind of file."""
        pairs = ((files_of(self.look.data, one.index), one.sizes) for one in self.seen)
        return sizes_by_kind(pairs)


def summed(looks: Sequence[Look], visits: Iterable[Seen]) -> list[SplitSurvey]:
    """Return a survey of each split.

    Args:
        looks: the splits.
        visits: every sample, in any order.
    """
    seen: list[list[Seen]] = [[] for _ in looks]
    labels: list[dict[str, LabelNumbers]] = [{} for _ in looks]
    for one in visits:
        seen[one.look].append(replace(one, labels=_coverage_alone(one.labels)))
        total = labels[one.look]
        for name, numbers in one.labels.items():
            total[name] = total[name] + numbers if name in total else numbers
    rows = zip(looks, seen, labels, strict=True)
    return [SplitSurvey(look, found, total) for look, found, total in rows]


def _coverage_alone(labels: Mapping[str, LabelNumbers]) -> dict[str, LabelNumbers]:
    """Return what is small: thousands of samples are kept at once."""
    return {name: LabelNumbers(numbers.coverage, None) for name, numbers in labels.items()}


@dataclass(frozen=True)
class Learnable:
    """How many training images a task can learn from.

    Args:
        images: that have every label that it reads, with a valid element, and not hidden.
        total: that were looked at.
    """

    images: int
    total: int


def learnable(recipe: Recipe, surveys: Sequence[SplitSurvey]) -> dict[str, Learnable]:
    """Return what each task can learn from, by task; empty where no training split was seen.

    Args:
        recipe: the run; `labels_per_image` of its data sets counts.
        surveys: of its splits.
    """
    train = [survey for survey in surveys if survey.look.split == "train"]
    total = sum(len(survey.seen) for survey in train)
    found = dict.fromkeys(recipe.tasks, 0)
    for survey in train:
        hidden = hidden_of(recipe, survey.look.dataset, survey.look.count)
        for one in survey.seen:
            there = {name for name, numbers in one.labels.items() if numbers.coverage.images}
            shown = {n for n in there if n not in hidden or not bool(hidden[n][one.index])}
            for name, task in recipe.tasks.items():
                found[name] += set(task.reads) <= shown
    return {name: Learnable(images, total) for name, images in found.items()} if train else {}


@dataclass(frozen=True)
class Leaks:
    """What is in both training and validation data.

    Args:
        files: that a sample of each is read from.
        images: names of samples with equal pixels, training and validation.
    """

    files: Sequence[Path]
    images: Sequence[tuple[str, str]]


def leaks(surveys: Sequence[SplitSurvey]) -> Leaks:
    """Return what is in both training and validation data, of all data sets.

    Args:
        surveys: of the splits.
    """
    train = [survey for survey in surveys if survey.look.split == "train"]
    val = [survey for survey in surveys if survey.look.split == "val"]
    files = {path for a in train for b in val for path in shared_files(a.look.data, b.look.data)}
    known = {one.digest: (survey, one) for survey in train for one in survey.seen if one.digest}
    images = []
    for survey in val:
        for one in survey.seen:
            if one.digest in known:
                twin, other = known[one.digest]
                pair = twin.look.name_of(other.index), survey.look.name_of(one.index)
                images.append(pair)
    return Leaks(sorted(files), images)
