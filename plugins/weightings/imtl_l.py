"""IMTL-L: a learned scale per task that brings all losses to 1."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from mtlkit.contracts import Balancer, Card, Task, Weighting
from mtlkit.hookspecs import hookimpl


class ImpartialLoss(Weighting):
    """Every loss is multiplied by a learned exp(s), which settles at 1/L; −s keeps it above 0.

    s begins at 0. The optimizer moves it, without weight decay;
    `optimizer.groups: [{match: balancer, lr: …}]` gives it a learning rate of its own, which it
    needs where losses are far from 1. The total may be negative.

    Source: Liu et al., Towards Impartial Multi-task Learning, ICLR 2021, the part called IMTL-L.
    """

    card: ClassVar[Card] = Card(
        title="IMTL-L",
        paper="Liu et al., ICLR 2021",
        invariant="At rest every scaled loss exp(s)·L is 1, whatever the task's kind of loss.",
        use="For losses of different scale when their kinds (regression, classification) should "
        "not matter; it costs one number per task. A bad choice for short runs with losses far "
        "from 1, since s must first travel to −log L; gradients may stay in conflict.",
        exceptions={
            "scale": "s starts at 0 and is learned from the size of the losses, so its way to "
            "rest depends on their scale; the direction does not at the start, nor at rest"
        },
    )

    type: Literal["imtl_l"] = "imtl_l"

    def build_balancer(self, tasks: Mapping[str, Task]) -> Balancer:
        """Return the module with one learned number per task.

        Args:
            tasks: by name, in the recipe's order.
        """
        return ImpartialLossBalancer(tuple(tasks))

    @property
    def as_maths(self) -> str:
        """The total loss as `explain` writes it."""
        return "Σ_t exp(s_t)·L_t − s_t"


class ImpartialLossBalancer(Balancer):
    """Holds s of every task, learned with the model.

    They are parameters one by one: an absent task's has no gradient, so no optimizer moves it.

    Args:
        names: the tasks.
    """

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__()
        self.log_scale = nn.ParameterDict({name: nn.Parameter(torch.tensor(0.0)) for name in names})

    def total(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Return Σ exp(s)·L − s over the tasks present.

        Args:
            losses: scalars by task, those present in this step.
        """
        return torch.stack([self._scaled(name, loss) for name, loss in losses.items()]).sum()

    def _scaled(self, name: str, loss: Tensor) -> Tensor:
        s = self.log_scale[name]
        scaled: Tensor = s.exp() * loss - s
        return scaled


@hookimpl
def mtlkit_weightings() -> list[type[Weighting]]:
    """Return IMTL-L."""
    return [ImpartialLoss]
