"""The optimizer and what stands around it: learning rates, the scale of fp16, clipping."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from mtlkit.device import Placement, gradient_scaler
from mtlkit.errors import DivergedError
from mtlkit.optimization import (
    build_optimizer,
    clip_gradients,
    has_gradients,
    is_finite,
    set_learning_rate,
)
from mtlkit.recipe import Recipe

LEAST_SCALE = 2**-6
"""Of fp16 gradients; it starts at 2¹⁶ and halves with every step that is not finite."""


class Mover:
    """Moves all that learns along its gradients.

    Args:
        recipe: the run.
        model: on its device.
        others: auxiliary losses, then the balancer.
        placement: device and precision.
    """

    def __init__(
        self, recipe: Recipe, model: nn.Module, others: Iterable[nn.Module], placement: Placement
    ) -> None:
        self.clip, self.skips = recipe.train.clip, recipe.train.on_nonfinite == "skip_task"
        self.optimizer = build_optimizer(recipe.optimizer, model, others)
        self.scaler = gradient_scaler(placement)
        self.device = placement.device

    def begin(self, factor: float) -> Tensor | None:
        """Forget the gradients of the last step, and return the scale of those to come, if any.

        Args:
            factor: what the learning rates are multiplied by.
        """
        set_learning_rate(self.optimizer, factor)
        self.optimizer.zero_grad(set_to_none=True)
        if not self.scaler.is_enabled():
            return None
        one = torch.ones((), device=self.device)  # the scale lives where this does
        scale: Tensor = self.scaler.scale(one)
        return scale

    def move(self) -> bool | None:
        """Take a step, and return whether there was one to take; None: it was no number.

        Gradients in fp16 that are not finite count as a step, for the scaler answers them.
        """
        if not has_gradients(self.optimizer):
            return False
        self.scaler.unscale_(self.optimizer)
        if self.clip is not None:
            clip_gradients(self.optimizer, self.clip)
        if self.skips and not self.scaler.is_enabled() and not is_finite(self.optimizer):
            return None
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return True

    def check_scale(self) -> None:
        """Refuse to go on where no fp16 gradient is finite, and so no step is taken.

        Raises:
            DivergedError: it has been so for many steps.
        """
        if self.scaler.is_enabled() and self.scaler.get_scale() < LEAST_SCALE:
            raise DivergedError(
                "gradients in fp16 are not finite, however small their scale, so that nothing "
                "learns. Write train.precision: bf16 or fp32"
            )
