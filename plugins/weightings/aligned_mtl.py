"""Aligned-MTL: the task gradients, made orthogonal and equally long."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from mtlkit.contracts import Card, GramianWeighting, Weighting
from mtlkit.hookspecs import hookimpl
from mtlkit.solvers import aligned

Preference = Literal["mean", "sum"]


class AlignedMTL(GramianWeighting):
    """The mean or sum of orthogonal gradients near the tasks', as long as J's least singular value.

    Parameters of one task get its plain gradient.

    Source: Senushkin et al. 2023, arXiv 2305.19000, Algorithm 1, which takes any preference with
    sum 1; the released code takes the sum.
    """

    type: Literal["aligned_mtl"] = "aligned_mtl"
    preference: Preference = Field(
        "mean", description="what is made of the aligned gradients: their `mean`, or their `sum`"
    )
    card: ClassVar[Card] = Card(
        title="Aligned-MTL",
        paper="Senushkin et al. 2023, arXiv 2305.19000",
        invariant="The matrix of gradients gets equal singular values, but for those of 0.",
        use="Gradients that conflict or differ much in length shall have an equal say in a stable "
        "direction. A bad choice for nearly parallel gradients: the least singular value, and with "
        "it the step, gets small. One backward pass of the shared part per task; `at: features` is "
        "cheap.",
    )

    def weights(self, gramian: Tensor) -> Tensor:
        """Return the weights of the rows, (T,), float64.

        Args:
            gramian: G, (T,T), float64.
        """
        preference = torch.ones(len(gramian)).to(gramian)
        return aligned(
            gramian, preference / len(gramian) if self.preference == "mean" else preference
        )

    @property
    def as_maths(self) -> str:
        """The total loss as `explain` writes it."""
        factor = "1/T·" if self.preference == "mean" else ""
        return f"Σ_t w_t·L_t at shared parameters, w = {factor}√λ_min·G^(−½)·1, G_st = ∇L_s·∇L_t"


@hookimpl
def mtlkit_weightings() -> list[type[Weighting]]:
    """Return Aligned-MTL."""
    return [AlignedMTL]
