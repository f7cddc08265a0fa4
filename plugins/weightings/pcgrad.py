"""PCGrad: task gradients that lose what conflicts with others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

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
from mtlkit.solvers import pcgrad


class PCGrad(GradientWeighting):
    """The sum of the task gradients, each projected off those it conflicts with, in random order.

    Parameters of one task get its plain gradient.

    Source: Yu et al. 2020, arXiv 2001.06782, Algorithm 1, where a task does not meet itself; in the
    released code it does.
    """

    type: Literal["pcgrad"] = "pcgrad"
    card: ClassVar[Card] = Card(
        title="PCGrad",
        paper="Yu et al. 2020, arXiv 2001.06782",
        invariant="d is the sum of the gradients where no two conflict, and with two tasks "
        "g_t·d ≥ 0 for both.",
        use="Conflicts are few and lengths alike: where there is no conflict it is the plain sum. "
        "A bad choice with many tasks, where the order of projections matters and d may hurt a "
        "task, or where losses differ in scale. One backward pass of the shared part per task.",
        exceptions={
            "duplicate": "of two copies the one whose turn comes first gets the whole projection; "
            "the update is the same",
        },
    )

    def build_balancer(self, tasks: Mapping[str, Task]) -> Balancer:
        """Return the module that operates; its state is that of the random orders.

        Args:
            tasks: by name, in the recipe's order.
        """
        return PCGradBalancer(tuple(tasks), self.at, self.every)

    @property
    def as_maths(self) -> str:
        """The total loss as `explain` writes it."""
        return (
            "Σ_t w_t·L_t at shared parameters, Σ_t w_t·∇L_t = Σ_t g_t, "
            "g_t = ∇L_t without its part along each ∇L_s with g_t·∇L_s < 0"
        )


class PCGradBalancer(GradientBalancer):
    """Draws an order for each task and projects.

    Args:
        names: of all tasks.
        at: where it looks.
        every: steps between solutions.
    """

    def __init__(self, names: Sequence[str], at: Place, every: int) -> None:
        super().__init__(names, at, every)
        self.draws = Draws(names)

    def weights(self, gradients: Gradients) -> Tensor:
        """Return the weights of the rows, (T,), float64; without conflicts 1.

        Args:
            gradients: of the present tasks.
        """
        return pcgrad(gradients.gramian, self.draws.orders(gradients.tasks))


@hookimpl
def mtlkit_weightings() -> list[type[Weighting]]:
    """Return PCGrad."""
    return [PCGrad]
