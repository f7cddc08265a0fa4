"""DB-MTL: logarithms of losses, and task gradients of one length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from mtlkit.contracts import Balancer, Card, DirectionBalancer, Gradients, Task, Weighting
from mtlkit.errors import UsageError
from mtlkit.hookspecs import hookimpl

EPSILON = 1e-30  # 1/ε is a float32, and no loss is so small that it would notice


class DBMTL(Weighting):
    """The sum of moving averages of ∇log L_t, all brought to the length of the longest.

    The average of a task's k-th step keeps β/√k of what it was, from 0 on. Parameters of one task
    get the gradient of log L_t. Losses have to be ≥ 0.

    Source: Lin et al. 2023, arXiv 2308.12029, Algorithm 1. The released code takes log(L + 1e-8)
    and adds 1e-8 to norms; here 1e-30 and nothing, so that the scale of a loss does not
    matter. The length is that of the longest average, as in the code.
    """

    type: Literal["db_mtl"] = "db_mtl"
    beta: float = Field(
        0.9, ge=0, lt=1, description="β: share of the moving average that a task's first step keeps"
    )
    card: ClassVar[Card] = Card(
        title="DB-MTL",
        paper="Lin et al. 2023, arXiv 2308.12029",
        invariant="All tasks have an equal length in the shared gradient, and scaling a loss "
        "changes nothing.",
        use="Neither the scale of losses nor the length of gradients shall matter, at any time of "
        "the training. A bad choice for losses that come near 0, which then rule the length of the "
        "step, and impossible for negative ones. One backward pass of the shared part per task, "
        "and twice T times its parameters in memory.",
        exceptions={
            "zero": "the average of a task's earlier gradients goes on when its gradient is 0",
            "parallel": "averages of earlier gradients are not parallel",
            "single": "the update is the average of the task's gradients, not the last one",
        },
    )

    def build_balancer(self, tasks: Mapping[str, Task]) -> Balancer:
        """Return the module that holds the averages.

        Args:
            tasks: by name, in the recipe's order.
        """
        return DBMTLBalancer(tuple(tasks), self.beta)

    @property
    def as_maths(self) -> str:
        """The total loss as `explain` writes it."""
        return (
            "Σ_t log L_t, at shared parameters Σ_t g_t·max_s ‖g_s‖/‖g_t‖, "
            f"g_t = average of ∇log L_t with {self.beta:g}/√k"
        )


class DBMTLBalancer(DirectionBalancer):
    """Holds the averages, (T,D), and how many steps each has seen.

    Args:
        names: of all tasks.
        beta: share that the first step keeps.
    """

    averages: Tensor  # of ∇log L_t, (T,D), of the type and on the device of the parameters
    steps: Tensor  # of each task, (T,), int64

    def __init__(self, names: Sequence[str], beta: float) -> None:
        super().__init__(names)
        self.beta = beta
        self.register_buffer("steps", torch.zeros(len(self.names), dtype=torch.int64))

    def prepare(self, columns: int, like: Tensor) -> None:
        """Make the averages, all 0.

        Args:
            columns: D.
            like: a parameter, for dtype and device.
        """
        empty = torch.zeros(len(self.names), columns, dtype=like.dtype, device=like.device)
        self.register_buffer("averages", empty)

    def weights(self, gradients: Gradients) -> Tensor:
        """Return 1/(L_t + ε), (T,), float64, which makes of a gradient that of the logarithm.

        It is what the log shows; averages and lengths are not in it.

        Args:
            gradients: of the present tasks.

        Raises:
            UsageError: a loss is negative.
        """
        for name, loss in zip(gradients.tasks, gradients.losses.tolist(), strict=True):
            if loss < 0:
                raise UsageError(
                    f"weighting: db_mtl takes the logarithm of losses, and that of {name!r} is "
                    f"{loss:.4g}. Choose a loss that is never negative, or another weighting"
                )
        return 1 / (gradients.losses + EPSILON)

    def private_weights(self, gradients: Gradients, weights: Tensor) -> Tensor:
        """Return the same weights: heads get the gradient of log L_t, (T,).

        Args:
            gradients: of the present tasks.
            weights: what `weights` returned.
        """
        return weights

    def direction(self, gradients: Gradients, weights: Tensor) -> Tensor:
        """Return the sum of the averages, each as long as the longest, (D,); the averages move.

        Args:
            gradients: of the present tasks, with rows, which are overwritten.
            weights: 1/(L_t + ε).
        """
        rows = gradients.rows
        assert rows is not None
        index = self.index(gradients.tasks)
        self.steps[index] += 1
        news = 1 - self.beta / self.steps[index].double().sqrt()
        rows.mul_(weights.to(rows, non_blocking=True)[:, None])
        averages = [self.averages[number] for number in index.tolist()]
        for average, row, share in zip(averages, rows, news.tolist(), strict=True):
            average.lerp_(row, share)
        norms = torch.stack([torch.linalg.vector_norm(x, dtype=torch.float64) for x in averages])
        factors = torch.where(norms > 0, norms.max() / norms, 0).to(rows)
        total = torch.zeros_like(rows[0])
        for average, factor in zip(averages, factors, strict=True):
            total += factor * average
        return total


@hookimpl
def mtlkit_weightings() -> list[type[Weighting]]:
    """Return DB-MTL."""
    return [DBMTL]
