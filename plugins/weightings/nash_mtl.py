"""Nash-MTL: the direction that tasks would agree on in a bargain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

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
from mtlkit.hookspecs import hookimpl
from mtlkit.solvers import nash


class NashMTL(GradientWeighting):
    """Weights α > 0 with G·α = 1/α: every task gains the same in relation to its own scale.

    The weights multiply the gradients of all parameters. Where gradients cancel there is no
    solution, and the weights that cancel them are used.

    Source: Navon et al. 2022, arXiv 2202.01017, Claim 3.1 and Algorithm 1. The paper approximates α
    by a sequence of convex programs; here the equation is solved. The released code clips the
    shared gradient alone; here the weights are scaled, so that all parameters see it.
    """

    type: Literal["nash_mtl"] = "nash_mtl"
    max_norm: float | None = Field(
        1.0, gt=0, description="largest norm of the shared gradient; null: not clipped"
    )
    card: ClassVar[Card] = Card(
        title="Nash-MTL",
        paper="Navon et al. 2022, arXiv 2202.01017",
        invariant="α_t·g_t·d is the same for every task, so the direction does not change if a "
        "loss is rescaled; without clipping it is 1, and ‖d‖² the number of tasks.",
        use="Losses have scales that cannot be compared. The shared gradient has a fixed norm "
        "(`max_norm`, if that is below √T), however small the gradients are: a bad choice without "
        "a learning rate that falls to 0. One backward pass of the shared part per task; "
        "`every` makes it cheaper.",
        exceptions={
            "duplicate": "where gradients cancel, weights that cancel them are not unique, and one "
            "copy may take the share of both",
        },
    )

    def build_balancer(self, tasks: Mapping[str, Task]) -> Balancer:
        """Return the module that solves; it has no state but the weights that are kept.

        Args:
            tasks: by name, in the recipe's order.
        """
        return NashMTLBalancer(tuple(tasks), self.at, self.every, self.max_norm)

    @property
    def as_maths(self) -> str:
        """The total loss as `explain` writes it."""
        clip = "" if self.max_norm is None else f", α scaled to ‖d‖ ≤ {self.max_norm:g}"
        return f"Σ_t α_t·L_t, α > 0: ∇L_t·d = 1/α_t, d = Σ_t α_t·∇L_t{clip}"


class NashMTLBalancer(GradientBalancer):
    """Solves and clips.

    Args:
        names: of all tasks.
        at: where it looks.
        every: steps between solutions.
        max_norm: largest ‖d‖; None: any.
    """

    def __init__(self, names: Sequence[str], at: Place, every: int, max_norm: float | None) -> None:
        super().__init__(names, at, every)
        self.max_norm = max_norm

    def weights(self, gradients: Gradients) -> Tensor:
        """Return α, scaled where ‖d‖ would be above `max_norm`, (T,), float64.

        Args:
            gradients: of the present tasks.
        """
        gramian = gradients.gramian
        alpha = nash(gramian)
        if self.max_norm is None:
            return alpha
        norm = (alpha @ gramian @ alpha).clamp(min=0).sqrt()  # ‖d‖² = αᵀGα
        return alpha * (self.max_norm / norm).clamp(max=1)

    def private_weights(self, gradients: Gradients, weights: Tensor) -> Tensor:
        """Return the same weights: the method weighs whole losses, (T,).

        Args:
            gradients: of the present tasks.
            weights: what `weights` returned.
        """
        return weights


@hookimpl
def mtlkit_weightings() -> list[type[Weighting]]:
    """Return Nash-MTL."""
    return [NashMTL]
