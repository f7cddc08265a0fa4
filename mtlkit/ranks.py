"""Several processes that train one model: what they tell each other, through torch.distributed."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn


@dataclass(frozen=True)
class Ranks:
    """The processes of a run; one, unless torch.distributed was initialised.

    Args:
        count: how many there are.
    """

    count: int = 1

    @classmethod
    def here(cls) -> Ranks:
        """Return those that this process belongs to."""
        is_started = distributed.is_available() and distributed.is_initialized()
        return cls(distributed.get_world_size() if is_started else 1)

    def mean_(self, x: Tensor) -> Tensor:
        """Replace a tensor by its mean over the ranks, and return it.

        Args:
            x: of the same shape on all ranks.
        """
        if self.count > 1:
            distributed.all_reduce(x)
            x /= self.count
        return x

    def mean_gradients_(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace gradients by their means over the ranks; one that is None counts as 0.

        Args:
            parameters: the same on all ranks.
        """
        if self.count == 1:
            return
        wanted = list(parameters)
        for p in wanted:
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad
        for _, same in itertools.groupby(wanted, lambda p: (p.dtype, p.device)):
            grads = [p.grad for p in same if p.grad is not None]
            flat = self.mean_(torch.cat([grad.flatten() for grad in grads]))
            parts = torch.split(flat, [grad.numel() for grad in grads])
            for grad, part in zip(grads, parts, strict=True):
                grad.copy_(part.view(grad.shape))

    def begin_alike(self, module: nn.Module) -> None:
        """Give all ranks the parameters and buffers of the first.

        Args:
            module: the same on all ranks.
        """
        if self.count == 1:
            return
        for x in itertools.chain(module.parameters(), module.buffers()):
            distributed.broadcast(x.detach(), 0)
