"""Every sample once, in processes of its own: how data is looked at and kept outside of a run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

import torch
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from mtlkit.device import usable_cores
from mtlkit.errors import MissingError
from mtlkit.samples import Failed
from mtlkit.signals import ignore_interrupts, signals_wait

T = TypeVar("T")


def walked(visits: TorchDataset[T | Failed], workers: int | None = None) -> Iterator[T]:
    """Return what every visit gives, in order; the processes start at once.

    They start before whoever iterates shows a progress bar, whose thread must not be copied
    half-way.

    Args:
        visits: one for each sample; what they give is sent between processes.
        workers: processes; 1: this one alone, None: one a core.

    Raises:
        MtlkitError: of the kind and text of a visit that failed.
        MissingError: a process was killed.
    """
    count = min(workers or usable_cores(), len(visits))  # type: ignore[arg-type]
    loader: DataLoader[T | Failed] = DataLoader(
        visits,
        batch_size=None,
        collate_fn=_unchanged,
        num_workers=count if count > 1 else 0,
        worker_init_fn=ignore_interrupts if count > 1 else None,
        generator=torch.Generator(),  # its own, or an iterator would move the global one
    )
    with signals_wait():
        found = iter(loader)
    return _checked(found)


def spread(size: int, count: int) -> list[int]:
    """Return numbers of samples that lie evenly over a split, in order and without repeats.

    Args:
        size: samples of the split.
        count: most numbers.
    """
    count = min(size, count)
    return [(2 * i + 1) * size // (2 * count) for i in range(count)]


def _checked(found: Iterator[T | Failed]) -> Iterator[T]:
    try:
        for one in found:
            if isinstance(one, Failed):
                raise one.kind(one.text)
            yield one
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise MissingError(
            f"a process that reads samples was killed ({str(error).splitlines()[0]}). "
            "Give fewer --workers: it may be memory that is short"
        ) from None


def _unchanged(found: T) -> T:
    return found
