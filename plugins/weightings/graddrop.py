"""GradDrop: each coordinate of the gradient keeps one sign."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from mtlkit.contracts import Balancer, Card, DirectionBalancer, Gradients, Task, Weighting
from mtlkit.draws import Draws
from mtlkit.hookspecs import hookimpl

COLUMNS = 1 << 22
"""Columns at a time: a few tensors of 16 MB and T rows of them, not of the whole trunk."""


class GradDrop(Weighting):
    """Per coordinate, either the positive or the negative entries of the task gradients, by chance.

    The positive ones stay with probability P = ½(1 + Σ g_t/Σ|g_t|), for all tasks alike; a share
    `leak` of every entry always stays. Parameters of one task get its plain gradient.

    Source: Chen et al. 2020, arXiv 2010.06808, Algorithm 1, at the shared parameters. The paper
    masks gradients at activations, by their signs summed over the batch; the released code adds a
    constant to Σ|g_t|, which is not done here, so that small gradients have the same P.
    """

    type: Literal["graddrop"] = "graddrop"
    leak: float = Field(
        0.0, ge=0, le=1, description="share of each entry that is never dropped; 1: the plain sum"
    )
    card: ClassVar[Card] = Card(
        title="GradDrop",
        paper="Chen et al. 2020, arXiv 2010.06808",
        invariant="The expected d is the sum of the gradients, and with a leak of 0 what is left "
        "of a coordinate has one sign.",
        use="A cheap remedy for conflict between many tasks, and noise that may lead out of sharp "
        "minima. A bad choice for small batches, whose noise it adds to, or where losses differ in "
        "scale. One backward pass of the shared part per task, and T times its parameters in "
        "memory.",
    )

    def build_balancer(self, tasks: Mapping[str, Task]) -> Balancer:
        """Return the module that drops; its state is that of the random numbers.

        Args:
            tasks: by name, in the recipe's order.
        """
        return GradDropBalancer(tuple(tasks), self.leak)

    @property
    def as_maths(self) -> str:
        """The total loss as `explain` writes it."""
        leak = f", and {self.leak:g} of the others" if self.leak else ""
        return (
            "Σ_t L_t, at shared parameters the entries of one sign of all ∇L_t, the positive ones "
            f"with P = ½·(1 + Σ_t ∇L_t/Σ_t |∇L_t|){leak}"
        )


class GradDropBalancer(DirectionBalancer):
    """Draws one number per coordinate and step.

    Args:
        names: of all tasks.
        leak: share of each entry that stays.
    """

    def __init__(self, names: Sequence[str], leak: float) -> None:
        super().__init__(names)
        self.leak = leak
        self.draws = Draws(names)

    def weights(self, gradients: Gradients) -> Tensor:
        """Return ones, (T,), float64: the expected direction is the sum of the rows.

        Args:
            gradients: of the present tasks.
        """
        return torch.ones_like(gradients.losses)

    def direction(self, gradients: Gradients, weights: Tensor) -> Tensor:
        """Return the sum of the entries that stay, (D,).

        Args:
            gradients: of the present tasks, with rows.
            weights: not used.
        """
        rows = gradients.rows
        assert rows is not None
        chance = self.draws.uniform(rows[0].float())  # float32 always: the same for all types
        slices = [slice(first, first + COLUMNS) for first in range(0, len(chance), COLUMNS)]
        return torch.cat([self._kept(rows[:, part], chance[part]) for part in slices])

    def _kept(self, rows: Tensor, chance: Tensor) -> Tensor:
        """Return what stays of some columns, (D,).

        P = positive/(positive − negative) is compared with U in a form without the division, which
        has no 0/0: where all entries are 0, P is of no consequence.
        """
        positive, negative = rows.clamp(min=0).sum(0), rows.clamp(max=0).sum(0)
        is_up = positive > chance.to(rows) * (positive - negative)
        kept = torch.where(is_up, positive, negative)
        return kept + self.leak * torch.where(is_up, negative, positive)


@hookimpl
def mtlkit_weightings() -> list[type[Weighting]]:
    """Return GradDrop."""
    return [GradDrop]
