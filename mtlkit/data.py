"""From splits to batches: order and augmentation are functions of (seed, epoch, index) alone."""

from __future__ import annotations

import atexit
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import FrameType

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler
from torch.utils.data import Dataset as TorchDataset

from mtlkit.cache import blank_sample, cached
from mtlkit.contracts import Dataset
from mtlkit.device import pins_memory, seeded_draws, usable_cores
from mtlkit.errors import MtlkitError
from mtlkit.recipe import Recipe
from mtlkit.structures import Batch, Label
from mtlkit.transforms import LabelKind

Key = tuple[int, int]
"""(epoch, index)."""
Sample = dict[str, Tensor]


@dataclass(frozen=True)
class Failed:
    """A sample that cannot be read: the error to raise in the main process."""

    kind: type[MtlkitError]
    text: str


class Samples(TorchDataset[Sample | Failed]):
    """A split, augmented; asked by (epoch, index), so that workers hold no state.

    Args:
        split: decoded samples.
        augmentation: varies a sample, or None.
        seed: the recipe's.
    """

    def __init__(
        self,
        split: TorchDataset[Sample],
        augmentation: Callable[[Sample], Sample] | None,
        seed: int,
    ) -> None:
        self.split, self.augmentation, self.seed = split, augmentation, seed

    def __len__(self) -> int:
        return len(self.split)  # type: ignore[arg-type]

    def __getitem__(self, key: Key) -> Sample | Failed:
        """Return a sample, its image float in [0,1], or why it cannot be read.

        Args:
            key: (epoch, index).
        """
        epoch, index = key
        try:
            sample = dict(self.split[index])
        except MtlkitError as error:  # a worker's traceback would be wrapped around its text
            return Failed(type(error), str(error))
        if sample["image"].dtype == torch.uint8:
            sample["image"] = torch.mul(sample["image"], 1 / 255).as_subclass(type(sample["image"]))
        if self.augmentation is None:
            return sample
        with seeded_draws(self.seed, epoch, index):
            return self.augmentation(sample)


class BatchOrder(Sampler[list[Key]]):
    """Which samples make which batch; a function of (seed, epoch).

    Args:
        count: samples of the split.
        batch_size: samples of a batch.
        seed: shuffles; None keeps the order.
        drop_last: leave out an incomplete last batch.
    """

    def __init__(self, count: int, batch_size: int, seed: int | None, drop_last: bool) -> None:
        self.count, self.batch_size, self.seed, self.drop_last = count, batch_size, seed, drop_last
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
                order = torch.randperm(self.count).tolist()
        for i in range(self.start, self.batches):
            chosen = order[i * self.batch_size : (i + 1) * self.batch_size]
            yield [(self.epoch, index) for index in chosen]


class Collate:
    """Samples to a Batch; a label that no sample has is left out.

    Args:
        blanks: sample tensors by label name, for samples that lack one.
        dataset: its name, for `Batch.rows`.
    """

    def __init__(self, blanks: Mapping[str, Tensor], dataset: str) -> None:
        self.blanks = {name: x for name, x in blanks.items() if isinstance(x, LabelKind)}
        self.dataset = dataset

    def __call__(self, found: Sequence[Sample | Failed]) -> Batch | Failed:
        """Return the batch, or the first failure.

        Args:
            found: tensors by name.
        """
        samples: list[Sample] = []
        for sample in found:
            if isinstance(sample, Failed):
                return sample
            samples.append(sample)
        labels: dict[str, Label] = {}
        for name, blank in self.blanks.items():
            pairs = [_label(sample.get(name, blank)) for sample in samples]
            values, masks = zip(*pairs, strict=True)
            label = Label(torch.stack(values), torch.stack(masks))
            if label.valid.any():
                labels[name] = label
        plain = [n for n in samples[0] if n != "image" and n not in self.blanks]
        return Batch(
            image=torch.stack([sample["image"].as_subclass(Tensor) for sample in samples]),
            labels=labels,
            extras={n: torch.stack([s[n].as_subclass(Tensor) for s in samples]) for n in plain},
            rows={self.dataset: slice(0, len(samples))},
        )


def _label(value: Tensor) -> tuple[Tensor, Tensor]:
    assert isinstance(value, LabelKind)  # blanks hold label kinds only
    return value.to_label()


class Loader(DataLoader[Batch]):
    """Batches; what a worker could not read is raised in the main process, in its own words."""

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        for batch in super().__iter__():
            if isinstance(batch, Failed):
                raise batch.kind(batch.text)
            yield batch


def build_loader(recipe: Recipe, split: str, device: torch.device) -> tuple[Loader, BatchOrder]:
    """Return the loader of a split and what decides its order.

    Args:
        recipe: the run.
        split: "train", shuffled and augmented, or "val".
        device: where batches will go.
    """
    training = split == "train"
    workers = min(recipe.loader.workers, usable_cores())  # batches do not depend on their number
    source = cached(recipe.data, split, recipe.wants, recipe.loader.cache)
    augmentation = recipe.data.build_augmentation() if training else None
    samples = Samples(source, augmentation, recipe.seed)
    order = BatchOrder(
        len(samples),
        recipe.loader.batch_size,
        recipe.seed if training else None,
        training and recipe.loader.drop_last,
    )
    blanks = blank_sample(recipe.data, frozenset(_labels(recipe.data, recipe.wants)))
    loader = Loader(
        samples,  # type: ignore[arg-type]
        batch_sampler=order,
        num_workers=workers,
        collate_fn=Collate(blanks or {}, recipe.data.type_name()),
        pin_memory=pins_memory(device),
        persistent_workers=workers > 0,
        worker_init_fn=_LeaveSignalsToTheRun() if workers else None,
        generator=torch.Generator(),  # its own, or making an iterator would move the global one
    )
    return loader, order


def _labels(dataset: Dataset, wants: frozenset[str]) -> list[str]:
    return [name for name in wants if issubclass(dataset.offers[name].kind, LabelKind)]


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
    labels = _labels(recipe.data, recipe.wants)
    with torch.device("meta"):
        blanks = blank_sample(recipe.data, frozenset(labels)) or {}
        pairs = {name: _label(blanks[name]) for name in labels}
        image = torch.empty(images, 3, *recipe.size)
    many = {n: [x.expand(images, *x.shape) for x in pair] for n, pair in pairs.items()}
    return Batch(image, {name: Label(value, valid) for name, (value, valid) in many.items()})
