"""UPGrad: the mean of the task gradients, each freed of its conflicts at once."""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor

from mtlkit.contracts import Card, GramianWeighting, Weighting
from mtlkit.hookspecs import hookimpl
from mtlkit.solvers import upgrad


class UPGrad(GramianWeighting):
    """The mean of the projections of all g_t onto the directions that hurt no task.

    Parameters of one task get its plain gradient.

    Source: Quinton and Rey 2024, arXiv 2406.16232. Their TorchJD adds 1e-4 to the diagonal of the
    normalised Gram matrix and falls back to the mean for small gradients; here nothing is added.
    """

    type: Literal["upgrad"] = "upgrad"
    card: ClassVar[Card] = Card(
        title="UPGrad",
        paper="Quinton and Rey 2024, arXiv 2406.16232",
        invariant="g_t·d ≥ 0 for every task, weights are at least 1/T, and d is the mean gradient "
        "where no two tasks conflict.",
        use="A first choice among the gradient methods: no task gets worse, no random order, and "
        "long gradients stay long. A bad choice where one loss is far larger than the others, "
        "which it does not balance. One backward pass of the shared part per task.",
        exceptions={
            "duplicate": "the weights of equal gradients are not unique: one copy may take what is "
            "added for both; the update is the same",
        },
    )

    def weights(self, gramian: Tensor) -> Tensor:
        """Return the weights of the rows, (T,), float64.

        Args:
            gramian: G, (T,T), float64.
        """
        return upgrad(gramian)

    @property
    def as_maths(self) -> str:
        """The total loss as `explain` writes it."""
        return "Σ_t w_t·L_t at shared parameters, Σ_t w_t·∇L_t = mean_t π(∇L_t), π onto no conflict"


@hookimpl
def mtlkit_weightings() -> list[type[Weighting]]:
    """Return UPGrad."""
    return [UPGrad]
