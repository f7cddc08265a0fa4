"""IMTL-G: a direction that is equally far along every task's gradient."""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor

from mtlkit.contracts import Card, GramianWeighting, Weighting
from mtlkit.hookspecs import hookimpl
from mtlkit.solvers import impartial


class IMTLG(GramianWeighting):
    """Weights with sum 1 that make the projections of d on all g_t/‖g_t‖ equal; some may be < 0.

    Parameters of one task get its plain gradient.

    Source: Liu et al. 2021, Towards Impartial Multi-task Learning, ICLR, §3.1. There by the inverse
    of a matrix of differences, which parallel and zero gradients make singular; here by a
    pseudo-inverse, which is the same wherever the inverse exists.
    """

    type: Literal["imtl_g"] = "imtl_g"
    card: ClassVar[Card] = Card(
        title="IMTL-G",
        paper="Liu et al. 2021, Towards Impartial Multi-task Learning, ICLR",
        invariant="d·g_t/‖g_t‖ is the same number for every task, and the weights sum to 1.",
        use="Tasks shall progress alike, whatever the scale of their losses. A bad choice where "
        "gradients conflict strongly: weights may be negative and large, and where their sum would "
        "be so, d points uphill for all tasks. One backward pass of the shared part per task; "
        "`at: features` is cheap.",
    )

    def weights(self, gramian: Tensor) -> Tensor:
        """Return the weights of the rows, (T,), float64.

        Args:
            gramian: G, (T,T), float64.
        """
        return impartial(gramian)

    @property
    def as_maths(self) -> str:
        """The total loss as `explain` writes it."""
        return (
            "Σ_t α_t·L_t at shared parameters, Σ_t α_t = 1: d·∇L_t/‖∇L_t‖ equal, d = Σ_t α_t·∇L_t"
        )


@hookimpl
def mtlkit_weightings() -> list[type[Weighting]]:
    """Return IMTL-G."""
    return [IMTLG]
