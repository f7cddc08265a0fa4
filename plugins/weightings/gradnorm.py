"""GradNorm: weights that bring the tasks' gradient norms to a common scale."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Literal

import torch
from pydantic import Field
from torch import Tensor

from mtlkit.contracts import Balancer, GradientBalancer, Gradients, Task, Weighting
from mtlkit.hookspecs import hookimpl

if TYPE_CHECKING:
    from mtlkit.recipe import Recipe

LEAST = 1e-4  # weights stay above 0, as the method asks; small enough to rule no common imbalance
BETAS = (0.9, 0.999)  # Adam's defaults, as in XTasC-Net's released code


class GradNorm(Weighting):
    """Weights w with which every task's gradient norm w_t·‖∇L_t‖ at the last shared layer is alike.

    Slow tasks get more: the norm aimed at is the mean norm times r_t^α, where r_t is the task's
    loss over its first loss, divided by the mean of these ratios. The step of w is Adam's, on the
    closed-form gradient of Σ|w_t·‖∇L_t‖ − aim_t|, the aim held fixed. Weights multiply the
    gradients of all parameters, sum to the number of tasks, and those of absent tasks do not move.

    Source: Chen et al. 2018, arXiv 1711.02257, algorithm 1. The released code of XTasC-Net differs:
    its ratios use weighted losses, the first loss is overwritten through epoch 1, weights are
    unclamped, and second-order gradients of the weight loss leak into the network's.
    """

    type: Literal["gradnorm"] = "gradnorm"
    alpha: float = Field(1.5, ge=0, description="pull towards equal training rates; 0: equal norms")
    lr: float = Field(0.025, gt=0, description="learning rate of the weights (Adam)")

    def build_balancer(self, tasks: Mapping[str, Task]) -> Balancer:
        """Return the module that holds weights, first losses and Adam's moments.

        Args:
            tasks: by name, in the recipe's order.
        """
        return GradNormBalancer(tuple(tasks), self.alpha, self.lr)

    def problems(self, recipe: Recipe) -> Iterable[str]:
        """Yield a sentence where there is nothing to compare.

        Args:
            recipe: the whole recipe.
        """
        if len(recipe.tasks) < 2:
            yield "gradnorm compares the gradients of tasks, and there is one. Write type: equal"

    @property
    def as_maths(self) -> str:
        """The total loss as `explain` writes it."""
        return f"Σ_t w_t·L_t, w: w_t·‖∇L_t‖ → mean·r_t^{self.alpha:g}, Σ_t w_t = T"


class GradNormBalancer(GradientBalancer):
    """Holds w, first losses and Adam's moments, all (T,) float64, in the order of `names`.

    Args:
        names: the tasks.
        alpha: exponent of the training rate.
        lr: learning rate of w.
    """

    at = "last_shared"
    scales = "all"

    weight: Tensor
    first: Tensor
    steps: Tensor  # 0: task not seen yet
    moment: Tensor
    square: Tensor

    def __init__(self, names: tuple[str, ...], alpha: float, lr: float) -> None:
        super().__init__()
        self.names = names
        self.alpha = alpha
        self.lr = lr
        empty = torch.zeros(len(names), dtype=torch.float64)
        self.register_buffer("weight", torch.ones_like(empty))
        self.register_buffer("first", empty.clone())
        self.register_buffer("steps", empty.clone())
        self.register_buffer("moment", empty.clone())
        self.register_buffer("square", empty.clone())

    def weights(self, gradients: Gradients) -> Tensor:
        """Return the weights after one step of their own, (T,) float64, by row.

        A task whose loss or gradient is not finite is left out as if it were absent.

        Args:
            gradients: rows and losses of the present tasks, unweighted.
        """
        rows = torch.tensor([self.names.index(name) for name in gradients.tasks])
        index = rows.to(self.weight.device, non_blocking=True)
        norms = gradients.gramian.diagonal().sqrt()
        losses = gradients.losses.double()
        usable = norms.isfinite() & losses.isfinite()
        unseen = self.steps[index] == 0
        self.first[index] = torch.where(unseen & usable, losses, self.first[index])
        slope = self._slope(index, norms, losses / self.first[index], usable)
        self._step(index, slope, usable)
        return self.weight[index]

    def total(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Return Σ w_t·L_t over the tasks present, with the weights as they are.

        Args:
            losses: scalars by task, those present in this step.
        """
        weight = dict(zip(self.names, self.weight.unbind(), strict=True))
        return torch.stack([weight[name].to(loss) * loss for name, loss in losses.items()]).sum()

    def _slope(self, index: Tensor, norms: Tensor, ratios: Tensor, usable: Tensor) -> Tensor:
        """Return ∂/∂w_t Σ|w_t·n_t − aim_t| = sign(w_t·n_t − aim_t)·n_t; 0 where not usable."""
        norms = torch.where(usable, norms, 0.0)
        ratios = torch.where(usable, ratios.nan_to_num(1.0, 1.0), 0.0)  # x/0: its first loss was 0
        weighted = self.weight[index] * norms
        many = usable.sum().clamp(min=1)
        rates = ratios * many / ratios.sum().clamp(min=torch.finfo(ratios.dtype).tiny)
        aim = weighted.sum() / many * rates**self.alpha
        return torch.sign(weighted - aim) * norms

    def _step(self, index: Tensor, slope: Tensor, usable: Tensor) -> None:
        """Move the usable tasks' weights by Adam, then give them the sum that the rest leaves."""
        beta1, beta2 = BETAS
        steps = self.steps[index] + usable
        moment, square = self.moment[index], self.square[index]
        moment = torch.where(usable, torch.lerp(slope, moment, beta1), moment)
        square = torch.where(usable, torch.lerp(slope.square(), square, beta2), square)
        size = (square / (1 - beta2**steps)).sqrt()
        # no ε, so that the scale of the losses does not matter: without slope there is no step
        change = torch.where(size > 0, moment / (1 - beta1**steps) / size, 0.0)
        before = self.weight[index]
        moved = torch.where(usable, (before - self.lr * change).clamp(min=LEAST), 0.0)
        rest = len(self.names) - self.weight.sum() + torch.where(usable, before, 0.0).sum()
        scaled = moved * rest / moved.sum().clamp(min=LEAST)
        self.weight[index] = torch.where(usable, scaled, before)
        self.steps[index], self.moment[index], self.square[index] = steps, moment, square


@hookimpl
def mtlkit_weightings() -> list[type[Weighting]]:
    """Return GradNorm."""
    return [GradNorm]
