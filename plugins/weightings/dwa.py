"""Dynamic weight average: tasks whose loss falls slowly weigh more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from mtlkit.contracts import Balancer, Card, Task, Weighting
from mtlkit.hookspecs import hookimpl


class DynamicWeightAverage(Weighting):
    """λ_t = T·softmax_t(r/τ), where r_t is the last epoch's mean loss over that of the one before.

    A task with fewer than two epochs counts as r = 1, so all weights are 1 in the first two. A task
    that an epoch never shows keeps its two means.

    Source: Liu, Johns and Davison 2019, arXiv 1803.10704, eq. 7.
    """

    card: ClassVar[Card] = Card(
        title="DWA",
        paper="Liu, Johns and Davison, CVPR 2019, arXiv 1803.10704",
        invariant="Weights are above 0 and sum to T; tasks whose losses fall at one rate weigh 1.",
        use="To help tasks that learn slowly, at no cost. It looks at rates alone and moves once "
        "an epoch, so its weights stay near 1: a bad choice to balance losses of different scale, "
        "or for runs of few epochs.",
    )

    type: Literal["dwa"] = "dwa"
    temperature: float = Field(2.0, gt=0, description="τ: larger is nearer to equal weights")

    def build_balancer(self, tasks: Mapping[str, Task]) -> Balancer:
        """Return the module that keeps the epochs' means.

        Args:
            tasks: by name, in the recipe's order.
        """
        return DynamicWeightAverageBalancer(tuple(tasks), self.temperature)

    @property
    def as_maths(self) -> str:
        """The total loss as `explain` writes it."""
        return f"Σ_t λ_t·L_t, λ = T·softmax(r/{self.temperature:g}), r_t = L̄_t(e−1)/L̄_t(e−2)"


class DynamicWeightAverageBalancer(Balancer):
    """Holds, for every task, this epoch's sum and the means of the last two.

    Args:
        names: the tasks.
        temperature: τ.
    """

    weight: Tensor  # λ, (T,)
    sums: Tensor  # of this epoch's finite losses, (T,)
    counts: Tensor  # how many they are, (T,)
    means: Tensor  # of the last epoch and of the one before, (2,T)
    epochs: Tensor  # epochs that showed the task, (T,)

    def __init__(self, names: tuple[str, ...], temperature: float) -> None:
        super().__init__()
        self.names = names
        self.temperature = temperature
        size = len(names)
        self.register_buffer("weight", torch.ones(size, dtype=torch.float64))
        self.register_buffer("sums", torch.zeros(size, dtype=torch.float64))
        self.register_buffer("counts", torch.zeros(size, dtype=torch.int64))
        self.register_buffer("means", torch.zeros(2, size, dtype=torch.float64))
        self.register_buffer("epochs", torch.zeros(size, dtype=torch.int64))

    def total(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Return Σ λ_t·L_t over the tasks present; in training mode their losses are counted.

        Args:
            losses: scalars by task, those present in this step.
        """
        if self.training:
            self._count(losses)
        weight = dict(zip(self.names, self.weight.unbind(), strict=True))
        return torch.stack([weight[name].to(loss) * loss for name, loss in losses.items()]).sum()

    def after_epoch(self) -> None:
        """Make the weights of the next epoch from the means of the last two."""
        seen = self.counts > 0
        mean = self.sums / self.counts.clamp(min=1)
        self.means.copy_(torch.where(seen, torch.stack((mean, self.means[0])), self.means))
        self.epochs += seen
        last, before = self.means
        rate = torch.where((self.epochs >= 2) & (before > 0), last / before, 1.0)
        self.weight.copy_(len(self.names) * (rate / self.temperature).softmax(0))
        self.sums.zero_()
        self.counts.zero_()

    def _count(self, losses: Mapping[str, Tensor]) -> None:
        """Add finite losses to this epoch's sums; one that is not would rule two epochs."""
        for name, loss in losses.items():
            row = self.names.index(name)
            finite = loss.detach().isfinite()
            self.sums[row] += torch.where(finite, loss.detach().double(), 0.0)
            self.counts[row] += finite


@hookimpl
def mtlkit_weightings() -> list[type[Weighting]]:
    """Return dynamic weight average."""
    return [DynamicWeightAverage]
