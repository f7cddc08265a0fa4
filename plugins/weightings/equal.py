"""Equal weighting: the sum of the task losses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor

from mtlkit.contracts import Balancer, Card, Task, Weighting
from mtlkit.hookspecs import hookimpl


class Equal(Weighting):
    """The sum of the task losses; each task's own `weight` is in its loss already."""

    card: ClassVar[Card] = Card(
        title="Equal weighting",
        paper="the baseline of every paper; defended by Kurin et al., NeurIPS 2022, "
        "arXiv 2201.04122",
        invariant="The update is the sum of the task gradients.",
        use="First, always: it costs nothing, and with the tasks' own `weight` tuned it is hard to "
        "beat. A bad choice untuned where losses differ by orders of magnitude: the largest rules.",
    )

    type: Literal["equal"] = "equal"

    def build_balancer(self, tasks: Mapping[str, Task]) -> Balancer:
        """Return the module that adds; it has no state.

        Args:
            tasks: by name, in the recipe's order.
        """
        return EqualBalancer()

    @property
    def as_maths(self) -> str:
        """The total loss as `explain` writes it."""
        return "Σ_t L_t"


class EqualBalancer(Balancer):
    """Adds."""

    def total(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Return Σ L_t.

        Args:
            losses: scalars by task, those present in this step.
        """
        return torch.stack(list(losses.values())).sum()


@hookimpl
def mtlkit_weightings() -> list[type[Weighting]]:
    """Return equal weighting."""
    return [Equal]
