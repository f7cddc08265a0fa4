"""GradNorm: weights that bring the tasks' gradient norms to a common scale."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from mtlkit.contracts import (
    Balancer,
    Card,
    GradientBalancer,
    Gradients,
    GradientWeighting,
    Place,
    Task,
    Weighting,
)
from mtlkit.hookspecs import hookimpl

if TYPE_CHECKING:
    from mtlkit.recipe import Recipe

LEAST = 1e-4  # weights stay above 0, as the method asks; small enough to rule no common imbalance
BETAS = (0.9, 0.999)  # Adam's defaults, as in XTasC-Net's released code


class GradNorm(GradientWeighting):
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
    at: Place = Field(
        "last_shared",
        description="where norms are taken: the `last_shared` weight as in the paper, all `shared` "
        "parameters, those of the `trunk`, the `features`, or the deepest one, `decoder_entry`",
    )
    alpha: float = Field(1.5, ge=0, description="pull towards equal training rates; 0: equal norms")
    lr: float = Field(0.025, gt=0, description="learning rate of the weights (Adam)")
    card: ClassVar[Card] = Card(
        title="GradNorm",
        paper="Chen et al. 2018, arXiv 1711.02257",
        invariant="Weights are positive and sum to the number of tasks; they rest where "
        "w_t·‖∇L_t‖ is the mean of these norms times r_t^α.",
        use="Losses differ in scale and tasks in speed. Cheap: gradients are compared at one "
        "layer. A bad choice against conflicts, which it does not see, in short runs, as weights "
        "move by about `lr` a step, and where the first losses say little.",
        exceptions={
            "zero": "the mean norm that tasks are compared with counts the task's norm of 0, and "
            "the weights sum to a number that counts the task",
        },
    )

    def build_balancer(self, tasks: Mapping[str, Task]) -> Balancer:
        """Return the module that holds weights, first losses and Adam's moments.

        Args:
            tasks: by name, in the recipe's order.
        """
        return GradNormBalancer(tuple(tasks), self)

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
        names: of all tasks.
        method: its fields are the numbers.
    """

    weight: Tensor
    first: Tensor
    steps: Tensor  # 0: task not seen yet
    moment: Tensor
    square: Tensor

    def __init__(self, names: Sequence[str], method: GradNorm) -> None:
        super().__init__(names, method.at, method.every)
        self.alpha = method.alpha
        self.lr = method.lr
        empty = torch.zeros(len(names), dtype=torch.float64)
        self.register_buffer("weight", torch.ones_like(empty))
        self.register_buffer("first", empty.clone())
        self.register_buffer("steps", empty.clone())
        self.register_buffer("moment", empty.clone())
        self.register_buffer("square", empty.clone())

    def weights(self, gradients: Gradients) -> Tensor:
        """Return the weights after one step of their own, (T,), float64.

        Args:
            gradients: of the present tasks.
        """
        index = self.index(gradients.tasks)
        self.first[index] = torch.where(self.steps[index] == 0, gradients.losses, self.first[index])
        norms = gradients.gramian.diagonal().sqrt()
        self._step(index, self._slope(index, norms, gradients.losses / self.first[index]))
        return self.weight[index]

    def private_weights(self, gradients: Gradients, weights: Tensor) -> Tensor:
        """Return the same weights: the method weighs whole losses, (T,).

        Args:
            gradients: of the present tasks.
            weights: what `weights` returned.
        """
        return weights

    def total(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Return Σ w_t·L_t over the tasks present, with the weights as they are.

        Args:
            losses: scalars by task.
        """
        weight = dict(zip(self.names, self.weight.unbind(), strict=True))
        return torch.stack([weight[name].to(loss) * loss for name, loss in losses.items()]).sum()

    def _slope(self, index: Tensor, norms: Tensor, ratios: Tensor) -> Tensor:
        """Return ∂/∂w_t Σ|w_t·n_t − aim_t| = sign(w_t·n_t − aim_t)·n_t."""
        ratios = ratios.nan_to_num(1.0, 1.0).clamp(min=0)  # x/0: its first loss was 0
        weighted = self.weight[index] * norms
        rates = ratios * len(ratios) / ratios.sum().clamp(min=torch.finfo(ratios.dtype).tiny)
        aim = weighted.mean() * rates**self.alpha
        return torch.sign(weighted - aim) * norms

    def _step(self, index: Tensor, slope: Tensor) -> None:
        """Move the present tasks' weights by Adam, then give them the sum that the rest leaves."""
        beta1, beta2 = BETAS
        self.steps[index] += 1
        steps = self.steps[index]
        moment = torch.lerp(slope, self.moment[index], beta1)
        square = torch.lerp(slope.square(), self.square[index], beta2)
        size = (square / (1 - beta2**steps)).sqrt()
        # no ε, so that the scale of the losses does not matter: without slope there is no step
        change = torch.where(size > 0, moment / (1 - beta1**steps) / size, 0.0)
        before = self.weight[index]
        moved = (before - self.lr * change).clamp(min=LEAST)
        rest = len(self.names) - self.weight.sum() + before.sum()
        self.weight[index] = moved * rest / moved.sum()
        self.moment[index], self.square[index] = moment, square


@hookimpl
def mtlkit_weightings() -> list[type[Weighting]]:
    """Return GradNorm."""
    return [GradNorm]
