"""Several processes that train one model: what they tell each other, through torch.distributed.

Tensors on the CPU go through gloo, so what ranks say about themselves waits for no device.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _NormBase

T = TypeVar("T")
Answer = Callable[[], Sequence[bool]]
"""Tells what any rank wished, once it is known."""


@dataclass(frozen=True)
class Ranks:
    """The processes of a run; one, unless torch.distributed was initialised.

    Args:
        count: how many there are.
        rank: the number of this one, 0 for the first.
    """

    count: int = 1
    rank: int = 0

    @classmethod
    def here(cls) -> Ranks:
        """Return those that this process belongs to."""
        if not (distributed.is_available() and distributed.is_initialized()):
            return cls()
        return cls(distributed.get_world_size(), distributed.get_rank())

    @property
    def is_first(self) -> bool:
        """Whether this is the one that writes and talks."""
        return self.rank == 0

    def sum_(self, x: Tensor) -> Tensor:
        """Replace a tensor by its sum over the ranks, and return it.

        Args:
            x: of the same shape on all ranks.
        """
        if self.count > 1:
            distributed.all_reduce(x)
        return x

    def mean_(self, x: Tensor) -> Tensor:
        """Replace a tensor by its mean over the ranks, and return it.

        Args:
            x: of the same shape on all ranks.
        """
        if self.count > 1:
            distributed.all_reduce(x)
            x /= self.count
        return x

    def largest_(self, x: Tensor) -> Tensor:
        """Replace a tensor by its largest values over the ranks, and return it.

        Args:
            x: of the same shape on all ranks.
        """
        if self.count > 1:
            distributed.all_reduce(x, distributed.ReduceOp.MAX)
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
        self._mean_together_([p.grad for p in wanted if p.grad is not None])

    def mean_statistics_(self, module: nn.Module) -> None:
        """Replace the running statistics of norms that move them by their means over the ranks.

        Args:
            module: the same on all ranks.
        """
        if self.count > 1:
            self._mean_together_(list(_running_statistics(module)))

    def begin_alike(self, module: nn.Module) -> None:
        """Give all ranks the parameters and buffers of the first.

        Args:
            module: the same on all ranks.
        """
        if self.count == 1:
            return
        for x in itertools.chain(module.parameters(), module.buffers()):
            distributed.broadcast(x.detach(), 0)

    def gathered(self, mine: T) -> list[T]:
        """Return what every rank has, in their order.

        Args:
            mine: what this one has; it is pickled.
        """
        if self.count == 1:
            return [mine]
        every: list[Any] = [None] * self.count
        distributed.all_gather_object(every, mine)
        return every

    def joined(self, mine: Tensor) -> list[Tensor]:
        """Return the tensors of all ranks, in their order.

        Args:
            mine: (n,) or (..., n), with an n of its own on each rank.
        """
        if self.count == 1:
            return [mine]
        sizes = torch.zeros(self.count, dtype=torch.int64, device=mine.device)
        sizes[self.rank] = mine.shape[-1]
        longest = int(self.sum_(sizes).max())
        padded = mine.new_zeros((*mine.shape[:-1], longest))
        padded[..., : mine.shape[-1]] = mine
        every = [torch.empty_like(padded) for _ in range(self.count)]
        distributed.all_gather(every, padded)
        return [x[..., :size] for x, size in zip(every, sizes.tolist(), strict=True)]

    def ask(self, wishes: Callable[[], Sequence[bool]]) -> Answer:
        """Ask what any rank wishes; the answer is there when it is called for.

        What is called in between overlaps with the message. One rank alone is asked then.

        Args:
            wishes: as many on all ranks; called at once where there are several.
        """
        if self.count == 1:
            return wishes
        flags = torch.tensor([*wishes()], dtype=torch.uint8)
        work = distributed.all_reduce(flags, distributed.ReduceOp.MAX, async_op=True)

        def answer() -> Sequence[bool]:
            work.wait()
            return [bool(flag) for flag in flags]

        return answer

    def meet(self) -> None:
        """Wait until all ranks are here."""
        self.sum_(torch.zeros(1))

    def from_first(self, make: Callable[[], T]) -> T:
        """Return what the first rank makes; the others make nothing.

        Args:
            make: called on the first rank; its answer is pickled.
        """
        made: list[Any] = [make() if self.is_first else None]
        if self.count > 1:
            distributed.broadcast_object_list(made)
        found: T = made[0]
        return found

    def _mean_together_(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by their means over the ranks, in a message for each type and device."""
        for _, same in itertools.groupby(tensors, lambda x: (x.dtype, x.device)):
            parts = list(same)
            flat = self.mean_(torch.cat([x.flatten() for x in parts]))
            for x, mean in zip(parts, torch.split(flat, [x.numel() for x in parts]), strict=True):
                x.copy_(mean.view(x.shape))


def _running_statistics(module: nn.Module) -> Iterator[Tensor]:
    for norm in module.modules():
        if isinstance(norm, _NormBase) and norm.training:
            yield from (x for x in (norm.running_mean, norm.running_var) if x is not None)
