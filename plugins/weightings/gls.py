"""Geometric loss strategy: the geometric mean of the task losses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor

from mtlkit.contracts import Balancer, Card, Task, Weighting
from mtlkit.hookspecs import hookimpl

from ._losses import logs_of


class Geometric(Weighting):
    """exp(mean of log L_t), whose derivative by L_t is itself over T·L_t, T tasks being present.

    A loss of 0 or below, or one that is not finite, has no logarithm: its task gets weight 0 in
    that step and counts as absent. If no loss has one, the total is 0.

    Source: Chennupati et al. 2019, arXiv 1904.08492, without its focused variant (FLS).
    """

    card: ClassVar[Card] = Card(
        title="GLS",
        paper="Chennupati et al., CVPR workshops 2019, arXiv 1904.08492",
        invariant="L_t times its weight is the same for all tasks: a loss times c multiplies the "
        "total by c^(1/T) and leaves its task's share of it.",
        use="For losses of different scale when there is nothing to tune; it costs nothing. A bad "
        "choice where a loss comes near 0, whose weight then rules, or where one may be negative.",
    )

    type: Literal["gls"] = "gls"

    def build_balancer(self, tasks: Mapping[str, Task]) -> Balancer:
        """Return the module that takes the mean; it has no state.

        Args:
            tasks: by name, in the recipe's order.
        """
        return GeometricBalancer()

    @property
    def as_maths(self) -> str:
        """The total loss as `explain` writes it."""
        return "(Π_t L_t)^(1/T)"


class GeometricBalancer(Balancer):
    """Takes the geometric mean, by logarithms, which neither overflow nor vanish."""

    def total(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Return the geometric mean of the losses above 0.

        Args:
            losses: scalars by task, those present in this step.
        """
        values = torch.stack(list(losses.values()))
        logs = logs_of(values)
        count = logs.usable.sum()
        mean = (logs.values.sum() / count.clamp(min=1)).exp() * (count > 0)
        return mean.to(values.dtype)


@hookimpl
def mtlkit_weightings() -> list[type[Weighting]]:
    """Return the geometric loss strategy."""
    return [Geometric]
