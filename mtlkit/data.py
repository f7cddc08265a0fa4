"""From samples to batches: collating, and the loader with its workers."""

from __future__ import annotations

import atexit
import os
import signal
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from types import FrameType
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from mtlkit.device import pins_memory, usable_cores
from mtlkit.errors import MissingError, PluginError, RecipeError
from mtlkit.order import BatchOrder
from mtlkit.recipe import Recipe
from mtlkit.samples import MOST_BAD, Failed, Found, Sample, Samples, build_samples, too_many
from mtlkit.structures import Batch, FieldSpec, Label
from mtlkit.transforms import LabelKind


class Collate:
    """Samples to a batch, those of one data set beside each other.

    A label or extra that no sample has is left out.

    Args:
        offers: what samples may hold, by name.
        size: (H, W) of the samples.
        titles: of the data sets.
    """

    def __init__(
        self, offers: Mapping[str, FieldSpec], size: tuple[int, int], titles: Sequence[str]
    ) -> None:
        blanks = {name: spec.blank(size) for name, spec in offers.items()}
        for name, blank in blanks.items():
            if blank is None and offers[name].is_label:
                kind = offers[name].kind.__name__
                raise PluginError(f"label {name!r}: its kind {kind} needs a class method `blank`")
        self.labels = {n: x for n, x in blanks.items() if x is not None and offers[n].is_label}
        self.extras = {n: x for n, x in blanks.items() if not offers[n].is_label}
        self.titles = tuple(titles)

    def __call__(self, found: Sequence[Found | Failed]) -> Batch | Failed | Unread:
        """Return the batch, the first failure, or why nothing is left.

        Args:
            found: samples.
        """
        for sample in found:
            if isinstance(sample, Failed):
                return sample
        every = sorted((x for x in found if isinstance(x, Found)), key=lambda x: x.part)
        skipped = tuple(text for x in every for text in x.skipped)
        kept = [x for x in every if x.sample is not None]
        if not kept:
            return Unread(skipped)
        samples = [x.sample for x in kept if x.sample is not None]
        return Batch(
            image=torch.stack([sample["image"].as_subclass(Tensor) for sample in samples]),
            labels=dict(self._labels(samples)),
            extras=dict(self._extras(samples)),
            rows=self._rows([x.part for x in kept]),
            indices=tuple(x.index for x in kept),
            skipped=skipped,
        )

    def _labels(self, samples: Sequence[Sample]) -> Iterator[tuple[str, Label]]:
        for name, blank in self.labels.items():
            if not any(name in sample for sample in samples):
                continue
            pairs = [_label(sample.get(name, blank)) for sample in samples]
            values, masks = zip(*pairs, strict=True)
            label = Label(torch.stack(values), torch.stack(masks))
            if label.valid.any():
                yield name, label

    def _extras(self, samples: Sequence[Sample]) -> Iterator[tuple[str, Tensor]]:
        for name, blank in self.extras.items():
            values = [sample.get(name, blank) for sample in samples]
            there = [value.as_subclass(Tensor) for value in values if value is not None]
            # what has no blank, such as frames, must be in every sample
            if len(there) == len(samples) and any(name in sample for sample in samples):
                yield name, torch.stack(there)

    def _rows(self, parts: Sequence[int]) -> dict[str, slice]:
        ends = {part: i + 1 for i, part in enumerate(parts)}
        return {self.titles[p]: slice(parts.index(p), end) for p, end in ends.items()}


@dataclass(frozen=True)
class Unread:
    """A batch of which no sample could be read."""

    skipped: tuple[str, ...]


def _label(value: Tensor) -> tuple[Tensor, Tensor]:
    assert isinstance(value, LabelKind)  # blanks hold label kinds only
    return value.to_label()


class Loader(DataLoader[Batch]):
    """Batches; what a worker could not read is raised in the main process, in its own words.

    Samples that are skipped are counted by reason.
    """

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        some, lost = False, list[str]()
        for found in super().__iter__():
            batch = self._checked(found)
            if batch is not None:
                some, lost = True, []
                yield batch
                continue
            lost += found.skipped  # it is Unread
            if len(lost) >= MOST_BAD:
                raise MissingError(too_many(lost))
        if lost and not some:
            raise MissingError(too_many(lost))

    @cached_property
    def skipped(self) -> Counter[str]:
        """How often samples were skipped, by reason."""
        return Counter()

    @property
    def samples(self) -> Samples:
        """What it loads."""
        assert isinstance(self.dataset, Samples)  # build_loader gives no other
        return self.dataset

    def take_skipped(self) -> Counter[str]:
        """Return how often samples were skipped, by reason, and count anew."""
        found = Counter(self.skipped)
        self.skipped.clear()
        return found

    def gather(self, numbers: Sequence[int]) -> Batch | None:
        """Return a batch of chosen samples, as of epoch 0; None if none can be read.

        Args:
            numbers: of samples in the split.
        """
        assert self.collate_fn is not None  # build_loader gives one
        return self._checked(self.collate_fn([self.dataset[(0, i, 0)] for i in numbers]))

    def _checked(self, found: Any) -> Batch | None:
        if isinstance(found, Failed):
            raise found.kind(found.text)
        self.skipped.update(found.skipped)
        return None if isinstance(found, Unread) else found


def build_loader(
    recipe: Recipe, split: str, device: torch.device, samples: Samples | None = None
) -> tuple[Loader, BatchOrder]:
    """Return the loader of a split and what decides its order.

    Args:
        recipe: the run.
        split: "train", shuffled and augmented, or "val".
        device: where batches will go.
        samples: of the split, if there are some already.

    Raises:
        MissingError: files are not there, or a data set has no training sample.
        RecipeError: a ratio leaves a data set no sample of an epoch.
    """
    training = split == "train"
    workers = min(recipe.loader.workers, usable_cores())  # batches do not depend on their number
    samples = build_samples(recipe, split) if samples is None else samples
    order = BatchOrder(
        [len(part) for part in samples.parts],
        recipe.loader.batch_size,
        recipe.seed if training else None,
        training and recipe.loader.drop_last,
        [part.ratio for part in recipe.sets if part.ratio is not None] if training else (),
    )
    for i, share in enumerate(order.shares):
        if training and share == 0:
            message = f"gives none of the {order.count} samples of an epoch. Write a larger one"
            raise RecipeError([recipe.fault((*recipe.place_of(i), "ratio"), message)])
    loader = Loader(
        samples,  # type: ignore[arg-type]
        batch_sampler=order,
        num_workers=workers,
        collate_fn=Collate(wanted(recipe), recipe.size, [part.title for part in recipe.sets]),
        pin_memory=pins_memory(device),
        persistent_workers=workers > 0,
        worker_init_fn=_leave_signals() if workers else None,
        generator=torch.Generator(),  # its own, or making an iterator would move the global one
    )
    return loader, order


def wanted(recipe: Recipe) -> dict[str, FieldSpec]:
    """Return what samples of this recipe may hold, by name.

    Args:
        recipe: the run.
    """
    return {name: spec for name, spec in recipe.offers.items() if name in recipe.wants}


@cache
def _leave_signals() -> _LeaveSignalsToTheRun:
    """Return the one of this process: it is known until the process ends."""
    return _LeaveSignalsToTheRun()


class _LeaveSignalsToTheRun:
    """A worker's signals: only the run decides when to stop.

    Ctrl-C and a scheduler's SIGTERM reach every process of a group. A worker goes on until its
    loader is done, and heeds SIGTERM only once the run's process is leaving: multiprocessing then
    terminates its workers and waits for them.
    """

    def __init__(self) -> None:
        self.is_leaving = torch.zeros(1, dtype=torch.uint8)
        self.is_leaving.share_memory_()  # type: ignore[no-untyped-call]
        # registered after multiprocessing's own exit function, so it is called before that
        atexit.register(self.is_leaving.fill_, 1)

    def __call__(self, worker: int) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, self._heed_if_leaving)

    def _heed_if_leaving(self, number: int, frame: FrameType | None) -> None:
        if bool(self.is_leaving):
            os._exit(0)


def meta_batch(recipe: Recipe, images: int = 2) -> Batch:
    """Return a batch of meta tensors with every label present, for shapes.

    Args:
        recipe: the run.
        images: N.
    """
    with torch.device("meta"):
        blanks = {name: spec.blank(recipe.size) for name, spec in wanted(recipe).items()}
        image = torch.empty(images, 3, *recipe.size)
    labels: dict[str, Label] = {}
    extras: dict[str, Tensor] = {}
    for name, blank in blanks.items():
        if isinstance(blank, LabelKind):
            value, valid = (x.expand(images, *x.shape) for x in blank.to_label())
            labels[name] = Label(value, valid)
        elif blank is not None:
            extras[name] = blank.as_subclass(Tensor).expand(images, *blank.shape)
    return Batch(image, labels, extras)
