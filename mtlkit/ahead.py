"""Copies to an accelerator that overlap with its computing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from typing import TypeVar

import torch
from torch import Tensor

from mtlkit.device import pins_memory
from mtlkit.structures import Batch

Item = TypeVar("Item")


def ahead(
    items: Iterable[Item], ready: Callable[[Item], Sequence[Batch]], device: torch.device
) -> Iterator[Sequence[Batch]]:
    """Yield what `ready` makes of every item; on an accelerator, one item before it is asked for.

    There `ready` runs on a stream of its own, so that its copies from pinned memory go on while the
    device works on the item before. Elsewhere this is `map`.

    Args:
        items: such as the batches of a step, in the host's memory.
        ready: item to batches on the device; must not wait for the device.
        device: of the run.
    """
    if not pins_memory(device):
        yield from map(ready, items)
        return
    module, copying = torch.get_device_module(device), _copying_stream(device)
    waiting: tuple[Sequence[Batch], torch.Event] | None = None
    for item in items:
        with module.stream(copying):
            started = ready(item), copying.record_event()
        if waiting is not None:
            yield _arrived(*waiting, module.current_stream(device))
        waiting = started
    if waiting is not None:
        yield _arrived(*waiting, module.current_stream(device))


@cache
def _copying_stream(device: torch.device) -> torch.Stream:
    """Return the one of a device: its allocator keeps memory for every stream that copied."""
    stream: torch.Stream = torch.get_device_module(device).Stream(device)
    return stream


def _arrived(
    batches: Sequence[Batch], copied: torch.Event, stream: torch.Stream
) -> Sequence[Batch]:
    """Let a stream go on once the copies are there, and their memory live until it is done."""
    stream.wait_event(copied)
    for batch in batches:
        for x in _tensors(batch):
            x.record_stream(stream)
    return batches


def _tensors(batch: Batch) -> Iterator[Tensor]:
    yield batch.image
    yield from batch.extras.values()
    for label in batch.labels.values():
        yield from (label.value, label.valid)
    for counts in batch.counts.values():
        yield from counts
