"""The gradients of all tasks at what they share, in one buffer that is made once."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mtlkit.device import columns_at_once


def gramian(rows: Sequence[Tensor]) -> Tensor:
    """Return the inner products of rows, (T,T), float64, on their device.

    Args:
        rows: T of them, each (D,), float.
    """
    count, width = len(rows), columns_at_once(rows[0].device)
    sums = torch.zeros(count * (count + 1) // 2, dtype=torch.float64, device=rows[0].device)
    for start in range(0, len(rows[0]), width):
        part = [row[start : start + width].double() for row in rows]
        sums += torch.stack([x @ y for i, x in enumerate(part) for y in part[: i + 1]])
    places = torch.zeros(count, count, dtype=torch.int64)
    below = torch.tril_indices(count, count)
    places[below[0], below[1]] = places[below[1], below[0]] = torch.arange(len(sums))
    return sums[places.to(sums.device, non_blocking=True)]


class Rows:
    """A flat T×D buffer. While a task's loss is back-propagated, `.grad`s are views of its row.

    A view has the strides of its parameter: fused optimizers go through a parameter and its
    gradient in the order of memory, and would mix up elements if these differed.

    Args:
        tasks: how many rows there are at most.
        parameters: dense, of one dtype and device; their columns follow each other.
    """

    def __init__(self, tasks: int, parameters: Sequence[nn.Parameter]) -> None:
        self.parameters = list(parameters)
        first = self.parameters[0]
        self.ends = [0, *itertools.accumulate(p.numel() for p in self.parameters)]
        size = (tasks, self.ends[-1])
        self.buffer = torch.empty(size, dtype=first.dtype, device=first.device)
        self.views = [self._views_of(row) for row in range(tasks)]
        self.slots: dict[str, int] = {}

    def columns(self, parameters: Sequence[nn.Parameter]) -> slice:
        """Return the columns of some parameters that follow each other.

        Args:
            parameters: one at least, in the order of `parameters`.
        """
        places = {id(p): i for i, p in enumerate(self.parameters)}
        first, last = places[id(parameters[0])], places[id(parameters[-1])]
        return slice(self.ends[first], self.ends[last + 1])

    def begin(self) -> None:
        """Forget every row."""
        self.slots = {}

    def take(self, task: str) -> None:
        """Make the parameters' gradients add to the row of a task, which begins with zeros.

        Args:
            task: its name.
        """
        if task not in self.slots:
            self.slots[task] = len(self.slots)
            self.buffer[self.slots[task]].zero_()
        for parameter, view in zip(self.parameters, self.views[self.slots[task]], strict=True):
            parameter.grad = view

    @property
    def used(self) -> Tensor:
        """Rows of the tasks seen, in the order in which they came, (T,D)."""
        return self.buffer[: len(self.slots)]

    def gramian(self, columns: slice) -> Tensor:
        """Return the inner products of the rows used, (T,T), float64.

        Args:
            columns: those that count.
        """
        return gramian(self.used[:, columns].unbind())

    def combine(self, weights: Sequence[float]) -> None:
        """Write the weighted sum of the rows over the first; a row of weight 0 may hold anything.

        Args:
            weights: one for each row used.
        """
        total, *others = self.used.unbind()
        first, *rest = weights
        if first == 0:
            total.zero_()
        else:
            total *= first
        for row, weight in zip(others, rest, strict=True):
            if weight != 0:
                total.add_(row, alpha=weight)

    def release(self, reached: Sequence[nn.Parameter]) -> None:
        """Leave the first row as the parameters' gradients.

        Args:
            reached: parameters that a present task reaches; the gradient of others is None.
        """
        some = {id(parameter) for parameter in reached}
        for parameter, view in zip(self.parameters, self.views[0], strict=True):
            parameter.grad = view if id(parameter) in some else None

    def _views_of(self, row: int) -> list[Tensor]:
        start = self.buffer[row].storage_offset()
        return [
            self.buffer.as_strided(p.size(), p.stride(), start + at)
            for p, at in zip(self.parameters, self.ends[:-1], strict=True)
        ]
