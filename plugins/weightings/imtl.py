"""IMTL: losses brought to one scale, and a direction equally far along every task's gradient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

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
from mtlkit.solvers import impartial


class IMTL(GradientWeighting):
    """IMTL-L for the losses, exp(s_t)·L_t − s_t, and IMTL-G for their gradients that are shared.

    s_t is learned by the run's optimizer and settles where exp(s_t)·L_t = 1;
    `optimizer.groups: [{match: balancer, lr: …}]` gives it a learning rate of its own. Parameters
    of one task get exp(s_t) times its gradient. With `every` > 1, s is learned in steps with a
    solution.

    Source: Liu et al. 2021, Towards Impartial Multi-task Learning, ICLR, Algorithm 1.
    """

    type: Literal["imtl"] = "imtl"
    card: ClassVar[Card] = Card(
        title="IMTL",
        paper="Liu et al. 2021, Towards Impartial Multi-task Learning, ICLR",
        invariant="d·g_t/‖g_t‖ is the same number for every task, and s settles where every scaled "
        "loss exp(s_t)·L_t is 1.",
        use="Neither the scale of losses nor the length of gradients shall matter, in heads too. A "
        "bad choice for losses near 0, whose scale grows without end, and where gradients conflict "
        "strongly: weights may be negative. One backward pass of the shared part per task.",
        exceptions={
            "scale": "s starts at 0 and is learned from the size of the losses: it differs until "
            "it has settled, and so may the sign that makes the weights sum to 1",
        },
    )

    def build_balancer(self, tasks: Mapping[str, Task]) -> Balancer:
        """Return the module with one learned number per task.

        Args:
            tasks: by name, in the recipe's order.
        """
        return IMTLBalancer(tuple(tasks), self.at, self.every)

    @property
    def as_maths(self) -> str:
        """The total loss as `explain` writes it."""
        return (
            "Σ_t exp(s_t)·L_t − s_t, at shared parameters Σ_t α_t·exp(s_t)·L_t, Σ_t α_t = 1: "
            "d·∇L_t/‖∇L_t‖ equal"
        )


class IMTLBalancer(GradientBalancer):
    """Holds s of every task, whose gradient it sets in closed form.

    Args:
        names: of all tasks.
        at: where it looks.
        every: steps between solutions.
    """

    def __init__(self, names: Sequence[str], at: Place, every: int) -> None:
        super().__init__(names, at, every)
        zero = torch.zeros((), dtype=torch.float64)
        self.log_scale = nn.ParameterDict({name: nn.Parameter(zero.clone()) for name in names})

    def weights(self, gradients: Gradients) -> Tensor:
        """Return α_t·exp(s_t), (T,), float64, and set the gradient of s, None for absent tasks.

        Args:
            gradients: of the present tasks.
        """
        scales = self._scales(gradients)
        slopes = scales * gradients.losses - 1  # ∂/∂s of exp(s)·L − s
        found = dict(zip(gradients.tasks, slopes.unbind(), strict=True))
        for name, s in self.log_scale.items():
            s.grad = found[name].clone().to(s.device, non_blocking=True) if name in found else None
        return impartial(gradients.gramian * scales * scales[:, None]) * scales

    def private_weights(self, gradients: Gradients, weights: Tensor) -> Tensor:
        """Return exp(s_t), (T,), float64.

        Args:
            gradients: of the present tasks.
            weights: what `weights` returned.
        """
        return self._scales(gradients)

    def total(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Return Σ exp(s_t)·L_t − s_t over the tasks present, of the s at the last solution.

        Args:
            losses: scalars by task.
        """
        scales = self.last(tuple(losses)).private
        pairs = zip(losses.values(), scales, strict=True)
        return torch.stack([scale.to(x) * x - scale.log().to(x) for x, scale in pairs]).sum()

    def _scales(self, gradients: Gradients) -> Tensor:
        learned = gradients.learned
        if learned is None:
            learned = torch.stack([s.detach() for s in self.log_scale.values()]).cpu()
        s = dict(zip(self.log_scale, learned, strict=True))  # a ParameterDict sorts its names
        return torch.stack([s[name] for name in gradients.tasks]).exp()


@hookimpl
def mtlkit_weightings() -> list[type[Weighting]]:
    """Return IMTL."""
    return [IMTL]
