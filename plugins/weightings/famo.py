"""FAMO: all losses fall at the same relative rate, at the cost of losses alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from mtlkit.contracts import Balancer, Card, Task, Weighting
from mtlkit.hookspecs import hookimpl

from ._losses import index_of, logs_of, softmax_over

BETAS = (0.9, 0.999)  # Adam's defaults, as in the released code
EPSILON = 1e-8  # Adam's default; what it is added to are rates of log losses, which have no scale
ROUNDING = 4  # in units of the losses' precision: rates that differ by less are the same rate


class Famo(Weighting):
    """Weights c·z_t/L_t, z = softmax(ξ), c such that they sum to 1: log L_t weighted by z.

    After a step the losses are evaluated once more, and ξ follows by Adam: tasks whose log loss
    fell less than the others' gain. The authors also clip the gradient to norm 1: write
    `train: {clip: 1}` (theirs is of the shared parameters, `train.clip` of all).

    The paper's b, the losses' lower bound, is 0 here, and so is its ε: any ε would matter to losses
    of its size. A loss of 0 or below, or one that is not finite, has no logarithm: its task gets
    weight 0 in that step and counts as absent. The total is Σ_t w_t·L_t with w held fixed: the
    gradient is that of the paper's c·Σ_t z_t·log L_t, and the value, 1/Σ_t z_t/L_t, falls with the
    losses, which the paper's does not.

    Source: Liu, Feng, Stone and Liu 2023, arXiv 2306.03792, algorithm 2; the class in the released
    famo.py has γ = 0.01 and ε = 1e-8.
    """

    card: ClassVar[Card] = Card(
        title="FAMO",
        paper="Liu, Feng, Stone and Liu, NeurIPS 2023, arXiv 2306.03792",
        invariant="The weights c·z/L sum to 1; if all log losses fall alike, ξ does not move.",
        use="For many tasks, where gradients of each are too dear: one backward pass, but one more "
        "forward pass in every step. A bad choice where losses are noisy from batch to batch or "
        "come near 0, since the weight goes with 1/L.",
    )

    type: Literal["famo"] = "famo"
    lr: float = Field(0.025, gt=0, description="learning rate of ξ (Adam)")
    gamma: float = Field(0.001, ge=0, description="γ: pull of ξ towards equal weights, a decay")

    def build_balancer(self, tasks: Mapping[str, Task]) -> Balancer:
        """Return the module that holds ξ and Adam's moments.

        Args:
            tasks: by name, in the recipe's order.
        """
        return FamoBalancer(tuple(tasks), self.lr, self.gamma)

    @property
    def as_maths(self) -> str:
        """The total loss as `explain` writes it."""
        return "c·Σ_t z_t·log L_t, z = softmax(ξ), c = 1/Σ_t z_t/L_t, ξ: equal falls of log L_t"


class FamoBalancer(Balancer):
    """Holds ξ and Adam's moments, all (T,) float64; what belongs to absent tasks does not move.

    Args:
        names: the tasks.
        lr: learning rate of ξ.
        gamma: decay of ξ.
    """

    logit: Tensor  # ξ
    steps: Tensor  # Adam's, by task
    moment: Tensor
    square: Tensor
    before: Tensor  # losses of this step's batches so far, summed; a common factor has no effect

    def __init__(self, names: tuple[str, ...], lr: float, gamma: float) -> None:
        super().__init__()
        self.names = names
        self.lr = lr
        self.gamma = gamma
        for name in ("logit", "steps", "moment", "square", "before"):
            self.register_buffer(name, torch.zeros(len(names), dtype=torch.float64))

    def before_step(self) -> None:
        """Forget the losses of the last step."""
        self.before.zero_()

    def total(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Return Σ w_t·L_t over the tasks present, w_t = c·z_t/L_t held fixed.

        Args:
            losses: scalars by task, those present in this step.
        """
        values = torch.stack(list(losses.values()))
        index = index_of(losses, self.names, self.logit)
        if self.training:
            self.before[index] += values.detach().double()
        logs = logs_of(values.detach())
        # c·z/L = softmax(ξ − log L), which holds for losses of any size
        weights = softmax_over(logs.usable, self.logit[index] - logs.values)
        return (weights.to(values) * torch.where(logs.usable, values, 0.0)).sum()

    def after_step(self, again: Callable[[], Mapping[str, Tensor]]) -> None:
        """Move ξ of the tasks that the step showed, by how far their losses fell.

        Args:
            again: evaluates the step's losses once more, by task, without gradient.
        """
        after, rounding = torch.zeros_like(self.before), 0.0
        for name, loss in again().items():
            after[self.names.index(name)] = loss.detach()
            rounding = max(rounding, ROUNDING * torch.finfo(loss.dtype).eps)
        old, new = logs_of(self.before), logs_of(after)
        usable = old.usable & new.usable
        z = softmax_over(usable, self.logit)
        fall = old.values - new.values
        lead = fall - (z * fall).sum()
        # Adam would blow rounding up to a full step
        lead = torch.where(lead.abs() > rounding, lead, 0.0)
        self._step(z * lead + self.gamma * self.logit, usable)

    def _step(self, slope: Tensor, usable: Tensor) -> None:
        """Take a step of Adam for the usable tasks."""
        beta1, beta2 = BETAS
        steps = self.steps + 1
        moment = torch.lerp(slope, self.moment, beta1)
        square = torch.lerp(slope.square(), self.square, beta2)
        size = (square / (1 - beta2**steps)).sqrt() + EPSILON
        logit = self.logit - self.lr * moment / (1 - beta1**steps) / size
        moved = {"steps": steps, "moment": moment, "square": square, "logit": logit}
        for name, value in moved.items():
            buffer = self.get_buffer(name)
            buffer.copy_(torch.where(usable, value, buffer))


@hookimpl
def mtlkit_weightings() -> list[type[Weighting]]:
    """Return FAMO."""
    return [Famo]
