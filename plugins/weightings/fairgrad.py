"""FairGrad: α-fair shares of one direction."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor

from mtlkit.contracts import Card, GramianWeighting, Weighting
from mtlkit.hookspecs import hookimpl
from mtlkit.solvers import fair


class FairGrad(GramianWeighting):
    """Weights w > 0 with G·w = w^(−1/α): the progress g_t·d of the tasks is shared α-fairly.

    Parameters of one task get its plain gradient. Where gradients cancel there is no solution, and
    the weights that cancel them are used.

    Source: Ban and Ji 2024, arXiv 2402.15638, eq. 4, there by least squares on the residual.
    """

    type: Literal["fairgrad"] = "fairgrad"
    alpha: float = Field(
        1.0, gt=0, description="fairness: 1 is proportional (Nash-MTL), more lifts the worst task"
    )
    card: ClassVar[Card] = Card(
        title="FairGrad",
        paper="Ban and Ji 2024, arXiv 2402.15638",
        invariant="w_t > 0 and g_t·d = w_t^(−1/α) for every task, unless gradients cancel.",
        use="Fairness between tasks shall be a dial; α = 1 does not see the scale of a loss. A bad "
        "choice where tasks matter unequally, or near the end, where gradients cancel and weights "
        "grow; the length of d is not that of a gradient, so the learning rate has to be found "
        "anew. One backward pass of the shared part per task.",
        exceptions={
            "duplicate": "where gradients cancel, weights that cancel them are not unique, and one "
            "copy may take the share of both",
        },
    )

    def weights(self, gramian: Tensor) -> Tensor:
        """Return the weights of the rows, (T,), float64.

        Args:
            gramian: G, (T,T), float64.
        """
        return fair(gramian, self.alpha)

    @property
    def as_maths(self) -> str:
        """The total loss as `explain` writes it."""
        power = f"−1/{self.alpha:g}"
        return f"Σ_t w_t·L_t at shared parameters, w > 0: ∇L_t·d = w_t^({power}), d = Σ_t w_t·∇L_t"


@hookimpl
def mtlkit_weightings() -> list[type[Weighting]]:
    """Return FairGrad."""
    return [FairGrad]
