"""Shared memory, made once, through which workers hand batches to the run.

torch makes new shared memory for every tensor of every batch, and mapping its pages costs more than
reading, varying and stacking kept samples together. Here every worker has a few places in one block
and writes to them in turn; the run copies a batch out before it asks for the next.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from mtlkit.structures import Batch, Label

PREFETCHED = 2  # batches that a worker may be ahead, torch's default
PLACES = PREFETCHED + 1  # and the one that the run is copying
ALIGNMENT = 64  # bytes, of every tensor
IMAGE = ("image", "")


class _Column(NamedTuple):
    offset: int  # bytes, within a place
    size: int
    shape: tuple[int, ...]
    dtype: torch.dtype


@dataclass(frozen=True)
class Parcel:
    """Where a batch lies, and what of it is not tensors.

    Args:
        place: of the block.
        batch: the batch without tensors; its labels and extras say which there are.
        count: its images.
    """

    place: int
    batch: Batch
    count: int


class Shelf:
    """The block of memory.

    Args:
        samples: a tensor as it is in one sample, by column: ("image", ""), (label, "value"),
            (label, "valid") and (extra, "").
        batch_size: most samples of a batch.
        workers: processes that write.
    """

    def __init__(
        self, samples: Mapping[tuple[str, str], Tensor], batch_size: int, workers: int
    ) -> None:
        self.columns: dict[tuple[str, str], _Column] = {}
        end = 0
        for name, x in samples.items():
            size = batch_size * x.numel() * x.element_size()
            self.columns[name] = _Column(end, size, (batch_size, *x.shape), x.dtype)
            end += -(-size // ALIGNMENT) * ALIGNMENT
        self.bytes = end
        # pages are there once they are written to, not before
        storage = torch.UntypedStorage._new_shared(  # type: ignore[no-untyped-call]
            workers * PLACES * end
        )
        self.memory = torch.empty(0, dtype=torch.uint8).set_(storage)
        self.turn = 0

    def next_place(self) -> int:
        """Return where this worker writes next; it has its places in turn."""
        worker = get_worker_info()
        assert worker is not None  # only workers write
        self.turn = (self.turn + 1) % PLACES
        return worker.id * PLACES + self.turn

    def at(self, place: int) -> dict[tuple[str, str], Tensor]:
        """Return the tensors of a place, for a whole batch.

        Args:
            place: its number.
        """
        start = place * self.bytes
        return {
            name: self.memory[start + c.offset : start + c.offset + c.size]
            .view(c.dtype)
            .view(c.shape)
            for name, c in self.columns.items()
        }

    def opened(self, parcel: Parcel, *, pinned: bool) -> Batch:
        """Return a copy of a batch, after which its place may be written to again.

        Args:
            parcel: from a worker.
            pinned: whether the copy is in page-locked memory.
        """
        views = self.at(parcel.place)

        def copied(name: str, part: str = "") -> Tensor:
            view = views[name, part][: parcel.count]
            return view.pin_memory() if pinned else view.clone()

        batch = parcel.batch
        batch.image = copied(*IMAGE)
        batch.labels = {n: Label(copied(n, "value"), copied(n, "valid")) for n in batch.labels}
        batch.extras = {name: copied(name) for name in batch.extras}
        return batch
