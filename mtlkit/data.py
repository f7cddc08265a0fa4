"""From samples to batches: collating, and the loader with its workers."""

from __future__ import annotations

import atexit
import os
import signal
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache, cached_property
from types import FrameType
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from mtlkit.collate import Collate, Unread
from mtlkit.device import pins_memory, usable_cores
from mtlkit.errors import MissingError, RecipeError
from mtlkit.order import BatchOrder, Deal
from mtlkit.recipe import Recipe
from mtlkit.samples import MOST_BAD, Failed, Samples, build_samples, too_many
from mtlkit.shelf import PREFETCHED, Parcel, Shelf
from mtlkit.signals import ignore_interrupts, signals_wait
from mtlkit.structures import Batch, FieldSpec, Label
from mtlkit.transforms import LabelKind


class Loader(DataLoader[Batch]):
    """Batches; what a worker could not read is raised in the main process, in its own words.

    Samples that are skipped are counted by reason.
    """

    shelf: Shelf | None = None

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        some, lost = False, list[str]()
        with signals_wait():
            iterator = super().__iter__()
        for found in iterator:
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
        if isinstance(found, Parcel):
            assert self.shelf is not None  # or there would be no parcels
            found = self.shelf.opened(found, pinned=self.pin_memory)
        self.skipped.update(found.skipped)
        return None if isinstance(found, Unread) else found


def build_loader(
    recipe: Recipe,
    split: str,
    device: torch.device,
    samples: Samples | None = None,
    deal: Deal | None = None,
) -> tuple[Loader, BatchOrder]:
    """Return the loader of a split and what decides its order.

    Args:
        recipe: the run.
        split: "train", shuffled and augmented, or "val".
        device: where batches will go.
        samples: of the split, if there are some already.
        deal: how ranks share the batches out; None: every batch is for this process.

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
    order.deal = deal or Deal()
    for i, share in enumerate(order.shares):
        if training and share == 0:
            message = f"gives none of the {order.count} samples of an epoch. Write a larger one"
            raise RecipeError([recipe.fault((*recipe.place_of(i), "ratio"), message)])
    collate = Collate(wanted(recipe), recipe.size, [part.title for part in recipe.sets])
    shelf = collate.put_on_shelf(recipe.loader.batch_size, workers) if workers else None
    loader = Loader(
        samples,  # type: ignore[arg-type]
        batch_sampler=order,
        num_workers=workers,
        collate_fn=collate,
        pin_memory=pins_memory(device),
        persistent_workers=workers > 0,
        worker_init_fn=_leave_signals() if workers else None,
        generator=torch.Generator(),  # its own, or making an iterator would move the global one
        prefetch_factor=PREFETCHED if workers else None,
    )
    loader.shelf = shelf
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
        signal.signal(signal.SIGTERM, self._heed_if_leaving)
        ignore_interrupts()

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
