"""From samples to a batch, in memory of its own or in a worker's place on the shelf."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from mtlkit.errors import MtlkitError, PluginError
from mtlkit.samples import Failed, Found, Sample
from mtlkit.shelf import IMAGE, Parcel, Shelf
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
        self.size = size
        self.shelf: Shelf | None = None

    def put_on_shelf(self, batch_size: int, workers: int) -> Shelf | None:
        """Let workers hand batches over through memory that is made once; None if it cannot be.

        Args:
            batch_size: most samples of a batch.
            workers: processes.
        """
        if None in self.extras.values():  # of no fixed shape
            return None
        columns = {IMAGE: torch.empty(3, *self.size)}
        for name, blank in self.labels.items():
            columns[name, "value"], columns[name, "valid"] = _label(blank)
        columns |= {(n, ""): x.as_subclass(Tensor) for n, x in self.extras.items() if x is not None}
        self.shelf = Shelf(columns, batch_size, workers)
        return self.shelf

    def __call__(self, found: Sequence[Found | Failed]) -> Batch | Parcel | Failed | Unread:
        """Return the batch, where it lies, the first failure, or why nothing is left.

        Args:
            found: samples.
        """
        for sample in found:
            if isinstance(sample, Failed):
                return sample
        try:
            return self._batch(found)
        except MtlkitError as error:  # a worker's traceback would be wrapped around its text
            return Failed(type(error), str(error))

    def _batch(self, found: Sequence[Found | Failed]) -> Batch | Parcel | Unread:
        every = sorted((x for x in found if isinstance(x, Found)), key=lambda x: x.part)
        skipped = tuple(text for x in every for text in x.skipped)
        kept = [x for x in every if x.sample is not None]
        if not kept:
            return Unread(skipped)
        if self.shelf is None or get_worker_info() is None:
            return self._stacked(kept, skipped, _Stack({}))
        place = self.shelf.next_place()
        batch = self._stacked(kept, skipped, _Stack(self.shelf.at(place)))
        return _without_tensors(batch, place)

    def _stacked(self, kept: Sequence[Found], skipped: tuple[str, ...], stack: _Stack) -> Batch:
        samples = [x.sample for x in kept if x.sample is not None]
        return Batch(
            image=stack(IMAGE, [sample["image"].as_subclass(Tensor) for sample in samples]),
            labels=dict(self._labels(samples, stack)),
            extras=dict(self._extras(samples, stack)),
            rows=self._rows([x.part for x in kept]),
            indices=tuple(x.index for x in kept),
            skipped=skipped,
        )

    def _labels(self, samples: Sequence[Sample], stack: _Stack) -> Iterator[tuple[str, Label]]:
        for name, blank in self.labels.items():
            if not any(name in sample for sample in samples):
                continue
            pairs = [_label(sample.get(name, blank)) for sample in samples]
            values, masks = zip(*pairs, strict=True)
            label = Label(stack((name, "value"), values), stack((name, "valid"), masks))
            if label.valid.any():
                yield name, label

    def _extras(self, samples: Sequence[Sample], stack: _Stack) -> Iterator[tuple[str, Tensor]]:
        for name, blank in self.extras.items():
            values = [sample.get(name, blank) for sample in samples]
            there = [value.as_subclass(Tensor) for value in values if value is not None]
            # what has no blank, such as frames, must be in every sample
            if len(there) == len(samples) and any(name in sample for sample in samples):
                yield name, stack((name, ""), there)

    def _rows(self, parts: Sequence[int]) -> dict[str, slice]:
        ends = {part: i + 1 for i, part in enumerate(parts)}
        return {self.titles[p]: slice(parts.index(p), end) for p, end in ends.items()}


@dataclass(frozen=True)
class Unread:
    """A batch of which no sample could be read."""

    skipped: tuple[str, ...]


@dataclass(frozen=True)
class _Stack:
    """Stacks tensors, into given memory where there is some for them."""

    into: Mapping[tuple[str, str], Tensor]

    def __call__(self, name: tuple[str, str], tensors: Sequence[Tensor]) -> Tensor:
        whole = self.into.get(name)
        if whole is None:
            return torch.stack(list(tensors))
        for x in tensors:
            if (x.shape, x.dtype) != (whole.shape[1:], whole.dtype):
                raise PluginError(
                    f"{' '.join(name).strip()}: augmented to {tuple(x.shape)} {x.dtype}, samples "
                    f"have {tuple(whole.shape[1:])} {whole.dtype}. Mend build_augmentation"
                )
        return torch.stack(list(tensors), out=whole[: len(tensors)])


def _without_tensors(batch: Batch, place: int) -> Parcel:
    nothing = torch.empty(0)
    labels = {name: Label(nothing, nothing) for name in batch.labels}
    extras = dict.fromkeys(batch.extras, nothing)
    count = len(batch.image)
    return Parcel(place, replace(batch, image=nothing, labels=labels, extras=extras), count)


def _label(value: Tensor) -> tuple[Tensor, Tensor]:
    assert isinstance(value, LabelKind)  # blanks hold label kinds only
    return value.to_label()
