"""MGDA: the shortest mix of the task gradients."""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor

from mtlkit.contracts import Card, GramianWeighting, Weighting
from mtlkit.hookspecs import hookimpl
from mtlkit.solvers import min_norm


class MGDA(GramianWeighting):
    """Weights α of the simplex for which Σ α_t·g_t is shortest: a direction that hurts no task.

    Parameters of one task get its plain gradient.

    Source: Sener and Koltun 2018, arXiv 1810.04650, eq. 3. `at: features` is their MGDA-UB, of
    which the released code compares whole feature maps too. Their code normalises gradients on
    request; this one never does.
    """

    type: Literal["mgda"] = "mgda"
    card: ClassVar[Card] = Card(
        title="MGDA",
        paper="Sener and Koltun 2018, arXiv 1810.04650; Désidéri 2012",
        invariant="g_t·d ≥ ‖d‖² for every task, and d = 0 exactly where some mix of the gradients "
        "cancels.",
        use="No task may get worse, whatever the others gain. The task with the smallest gradient "
        "rules, so it is a bad choice where losses differ in scale: all others then stand still. "
        "One backward pass of the shared part per task; `at: features` is cheap.",
        exceptions={
            "duplicate": "the weights of equal gradients are not unique: one copy may take the "
            "share of both; the update is the same",
        },
    )

    def weights(self, gramian: Tensor) -> Tensor:
        """Return the weights of the rows, (T,), float64.

        Args:
            gramian: G, (T,T), float64.
        """
        return min_norm(gramian)

    @property
    def as_maths(self) -> str:
        """The total loss as `explain` writes it."""
        return "Σ_t α_t·L_t at shared parameters, α of the simplex: ‖Σ_t α_t·∇L_t‖ → min"


@hookimpl
def mtlkit_weightings() -> list[type[Weighting]]:
    """Return MGDA."""
    return [MGDA]
