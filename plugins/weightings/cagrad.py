"""CAGrad: near the mean gradient, the direction that helps the worst task most."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor

from mtlkit.contracts import Card, GramianWeighting, Weighting
from mtlkit.hookspecs import hookimpl
from mtlkit.solvers import conflict_averse

Rescale = Literal["none", "one_plus_c_squared"]


class CAGrad(GramianWeighting):
    """d with ‖d − g_0‖ ≤ c·‖g_0‖ for which min_t g_t·d is largest, g_0 being the mean gradient.

    Parameters of one task get its plain gradient.

    Source: Liu et al. 2021, arXiv 2110.14048, eq. 3 and Algorithm 1; the released code divides d
    by 1 + c² in its experiments, which is `rescale: one_plus_c_squared`.
    """

    type: Literal["cagrad"] = "cagrad"
    c: float = Field(
        0.4, ge=0, lt=1, description="how far from the mean gradient d may be; 0: the mean itself"
    )
    rescale: Rescale = Field(
        "none",
        description="`one_plus_c_squared` divides the shared gradient by 1 + c²; `none`: as in the "
        "paper",
    )
    card: ClassVar[Card] = Card(
        title="CAGrad",
        paper="Liu et al. 2021, arXiv 2110.14048",
        invariant="‖d − g_0‖ ≤ c·‖g_0‖ for the mean gradient g_0 (equal unless gradients cancel), "
        "and min_t g_t·d ≥ min_t g_t·g_0.",
        use="The mean loss shall still fall to its minimum, with help for the task that is worst "
        "off on the way. A bad choice where losses differ in scale: the mean is ruled by the "
        "largest. One backward pass of the shared part per task.",
        exceptions={
            "duplicate": "the weights of equal gradients are not unique: one copy may take what is "
            "added for both; the update is the same",
        },
    )

    def weights(self, gramian: Tensor) -> Tensor:
        """Return the weights of the rows of d, those of the mean included, (T,), float64.

        Args:
            gramian: G, (T,T), float64.
        """
        weights = conflict_averse(gramian, self.c)
        return weights if self.rescale == "none" else weights / (1 + self.c**2)

    @property
    def as_maths(self) -> str:
        """The total loss as `explain` writes it."""
        divisor = "" if self.rescale == "none" else f", then d/(1 + {self.c:g}²)"
        return (
            "Σ_t w_t·L_t at shared parameters, d = Σ_t w_t·∇L_t: min_t d·∇L_t → max, "
            f"‖d − g_0‖ ≤ {self.c:g}·‖g_0‖, g_0 = mean_t ∇L_t{divisor}"
        )


@hookimpl
def mtlkit_weightings() -> list[type[Weighting]]:
    """Return CAGrad."""
    return [CAGrad]
