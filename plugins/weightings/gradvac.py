"""GradVac: task gradients turned towards each other as far as they usually are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from mtlkit.contracts import (
    Balancer,
    Card,
    GradientBalancer,
    Gradients,
    GradientWeighting,
    Place,
    Task,
    Weighting,
)
from mtlkit.draws import Draws
from mtlkit.hookspecs import hookimpl
from mtlkit.solvers import gradvac


class GradVac(GradientWeighting):
    """The sum of the task gradients, each turned until its cosine with others is the usual one.

    The usual cosine of two tasks is a moving average, 0 at first, of what it is before each turn.
    Parameters of one task get its plain gradient.

    Source: Wang et al. 2021, arXiv 2010.05874, eqs. 2 and 3, Algorithm 1, with all shared
    parameters as one group.
    """

    type: Literal["gradvac"] = "gradvac"
    beta: float = Field(
        0.01, ge=0, le=1, description="β of the moving average of cosines; 0 is PCGrad"
    )
    card: ClassVar[Card] = Card(
        title="GradVac",
        paper="Wang et al. 2021, arXiv 2010.05874",
        invariant="In its turn, a gradient whose cosine with another is below the target gets "
        "exactly the target; with targets of 0 it is PCGrad.",
        use="Tasks that are usually alike shall stay so in noisy steps, as the languages it was "
        "made for. A bad choice with few steps, in which the targets do not settle, and wherever "
        "PCGrad is. One backward pass of the shared part per task.",
        exceptions={
            "duplicate": "of two copies the one whose turn comes first gets the whole correction, "
            "and has other targets afterwards",
        },
    )

    def build_balancer(self, tasks: Mapping[str, Task]) -> Balancer:
        """Return the module that turns; it holds the targets and the state of the random orders.

        Args:
            tasks: by name, in the recipe's order.
        """
        return GradVacBalancer(tuple(tasks), self.at, self.every, self.beta)

    @property
    def as_maths(self) -> str:
        """The total loss as `explain` writes it."""
        return (
            "Σ_t w_t·L_t at shared parameters, Σ_t w_t·∇L_t = Σ_t g_t, g_t = ∇L_t plus so much of "
            f"each ∇L_s that cos(g_t, ∇L_s) ≥ φ_ts, its mean with β = {self.beta:g}"
        )


class GradVacBalancer(GradientBalancer):
    """Holds φ̂ of all pairs; only those of present tasks move.

    Args:
        names: of all tasks.
        at: where it looks.
        every: steps between solutions.
        beta: of the moving average.
    """

    targets: Tensor  # φ̂, (T,T), float64, in [−1,1]

    def __init__(self, names: Sequence[str], at: Place, every: int, beta: float) -> None:
        super().__init__(names, at, every)
        self.beta = beta
        self.draws = Draws(names)
        size = len(self.names)
        self.register_buffer("targets", torch.zeros(size, size, dtype=torch.float64))

    def weights(self, gradients: Gradients) -> Tensor:
        """Return the weights of the rows, (T,), float64, and move the targets.

        Args:
            gradients: of the present tasks.
        """
        index = self.index(gradients.tasks)
        pairs = index[:, None], index
        orders = self.draws.orders(gradients.tasks)
        found = gradvac(gradients.gramian, self.targets[pairs], orders, self.beta)
        self.targets[pairs] = found.targets
        return found.weights


@hookimpl
def mtlkit_weightings() -> list[type[Weighting]]:
    """Return GradVac."""
    return [GradVac]
