"""The weighting `own_plugin`: the sum of the losses' powers."""

from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

import mtlkit


class OwnPlugin(mtlkit.Weighting):
    """Σ_t L_t^p: a task weighs p·L_t^(p−1), so that large losses rule less than in the sum."""

    type: Literal["own_plugin"] = "own_plugin"
    # EDIT: a field is a key of the recipe
    power: float = Field(0.5, gt=0, le=1, description="p; 1 is the sum of the losses")

    def build_balancer(self, tasks: Mapping[str, mtlkit.Task]) -> mtlkit.Balancer:
        """Return the module that weighs.

        Args:
            tasks: by name, in the recipe's order.
        """
        return PowerBalancer(self.power)

    @property
    def as_maths(self) -> str:
        """The total as `mtlkit explain` writes it."""
        return f"Σ_t L_t^{self.power:g}"  # EDIT


class PowerBalancer(mtlkit.Balancer):
    """Weighs. State, if any, is in buffers: `before_step`, `after_step` and `after_epoch` move it.

    Args:
        power: p.
    """

    def __init__(self, power: float) -> None:
        super().__init__()
        self.power = power

    def total(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Return the scalar to minimise; its derivative by each loss is that task's weight.

        Args:
            losses: scalars by task, those present in this step.
        """
        values = torch.stack(list(losses.values()))
        least = torch.finfo(values.dtype).tiny  # the power of a loss of 0 has no derivative
        return values.clamp(min=least).pow(self.power).sum()  # EDIT


# To weigh by gradients, derive from mtlkit.GramianWeighting, and in place of the balancer write
#     def weights(self, gramian: Tensor) -> Tensor:  # (T,T) to one weight per task, (T,), float64
#         return gramian.diagonal().clamp(min=1e-30).rsqrt()  # gradients of length 1
# What keeps state derives from mtlkit.GradientWeighting, and its balancer from GradientBalancer.


@mtlkit.hookimpl
def mtlkit_weightings() -> list[type[mtlkit.Weighting]]:
    """Offer the weighting to recipes."""
    return [OwnPlugin]
