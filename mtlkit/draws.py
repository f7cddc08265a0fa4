"""Random numbers of a weighting: alike on all ranks, after a resume, and in any order of tasks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn


class Draws(nn.Module):
    """Draws from (seed, number of the draw), so that two integers are the whole state.

    The seed is torch's at the time of making, which is the recipe's in a run. A task's numbers
    depend on all names and on no order, and not on which of the others are present.

    Args:
        names: of all tasks, in any order.
    """

    seed: Tensor
    count: Tensor

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self.ranks = {name: rank for rank, name in enumerate(sorted(names))}
        self.register_buffer("seed", torch.tensor(torch.initial_seed() >> 1, dtype=torch.int64))
        self.register_buffer("count", torch.tensor(0, dtype=torch.int64))

    def normal(self, tasks: Sequence[str]) -> Tensor:
        """Return a standard normal number for each task, (T,), float64.

        Args:
            tasks: in the order wanted.
        """
        drawn = torch.randn(len(self.ranks), generator=self._generator(), dtype=torch.float64)
        return drawn[self._ranks_of(tasks)]

    def orders(self, tasks: Sequence[str]) -> Tensor:
        """Return for each task the others in random order, (T,T−1), int64.

        Args:
            tasks: in the order of the rows that the numbers stand for.
        """
        size = len(self.ranks)
        drawn = torch.rand(size, size, generator=self._generator(), dtype=torch.float64)
        ranks = self._ranks_of(tasks)
        return drawn[ranks][:, ranks].fill_diagonal_(-1).argsort(1)[:, 1:]

    def uniform(self, like: Tensor) -> Tensor:
        """Return numbers in [0,1) of the shape, type and device of a tensor; the same each time.

        Args:
            like: any float tensor.
        """
        generator = self._generator(like.device)
        return torch.rand(like.shape, generator=generator, dtype=like.dtype, device=like.device)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Draws:
        """Stay on the CPU and of integers, so that a draw waits for no device."""
        return self

    def _ranks_of(self, tasks: Sequence[str]) -> Tensor:
        return torch.tensor([self.ranks[name] for name in tasks], dtype=torch.int64)

    def _generator(self, device: torch.device | None = None) -> torch.Generator:
        """Return the generator of the next draw."""
        mixed = np.random.SeedSequence([int(self.seed), int(self.count)]).generate_state(2)
        self.count += 1
        generator = torch.Generator(device if device is not None else "cpu")
        return generator.manual_seed(int(mixed[0]) << 31 | int(mixed[1]) >> 1)
