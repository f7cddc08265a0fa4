"""Random loss weighting: weights drawn anew in every step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from mtlkit.contracts import Balancer, Card, Task, Weighting
from mtlkit.draws import Draws
from mtlkit.hookspecs import hookimpl

from ._losses import index_of

Sum = Literal["one", "tasks"]


class RandomLossWeighting(Weighting):
    """w = softmax(z) over the tasks present, z standard normal, drawn once per optimizer step.

    Evaluation uses the expected weights, which are equal. With `sums_to: one` a step is T times
    smaller than that of equal weighting, T tasks being present; `tasks` multiplies w by T.

    Source: Lin, Ye, Zhang and Tsang 2022, arXiv 2111.10603, its normal distribution.
    """

    card: ClassVar[Card] = Card(
        title="RLW",
        paper="Lin, Ye, Zhang and Tsang, TMLR 2022, arXiv 2111.10603",
        invariant="Weights are above 0, sum to 1 (or T), and are equal in expectation.",
        use="A baseline that costs nothing: a method that adapts its weights should beat it. It "
        "makes steps noisier and balances no scales, so losses of very different size stay so.",
        exceptions={
            "duplicate": "each copy draws a number of its own; their weights are equal only in "
            "expectation"
        },
    )

    type: Literal["rlw"] = "rlw"
    sums_to: Sum = Field("one", description="sum of the weights; tasks: how many are present")

    def build_balancer(self, tasks: Mapping[str, Task]) -> Balancer:
        """Return the module that draws.

        Args:
            tasks: by name, in the recipe's order.
        """
        return RandomLossWeightingBalancer(tuple(tasks), self.sums_to)

    @property
    def as_maths(self) -> str:
        """The total loss as `explain` writes it."""
        factor = "T·" if self.sums_to == "tasks" else ""
        return f"Σ_t w_t·L_t, w = {factor}softmax(z), z ~ N(0,1) in every step"


class RandomLossWeightingBalancer(Balancer):
    """Holds the random numbers of this step, and those to come.

    Args:
        names: the tasks.
        sums_to: sum of the weights.
    """

    z: Tensor  # of this step, (T,), float64; 0 before the first, which makes weights equal

    def __init__(self, names: tuple[str, ...], sums_to: Sum) -> None:
        super().__init__()
        self.names = names
        self.sums_to = sums_to
        self.draws = Draws(names)
        self.register_buffer("z", torch.zeros(len(names), dtype=torch.float64))

    def before_step(self) -> None:
        """Draw the numbers of the step; all its batches are weighed alike."""
        self.z.copy_(self.draws.normal(self.names), non_blocking=True)

    def total(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Return Σ w_t·L_t over the tasks present; in eval mode their weights are equal.

        Args:
            losses: scalars by task, those present in this step.
        """
        values = torch.stack(list(losses.values()))
        z = self.z[index_of(losses, self.names, self.z)]
        weights = (z if self.training else torch.zeros_like(z)).softmax(0)
        if self.sums_to == "tasks":
            weights = weights * len(losses)
        return (weights.to(values) * values).sum()


@hookimpl
def mtlkit_weightings() -> list[type[Weighting]]:
    """Return random loss weighting."""
    return [RandomLossWeighting]
