"""Problems and balancers for tests of the methods at gradient level."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor

from mtlkit.contracts import DirectionBalancer, GradientBalancer, Gradients, Weighting

NAMES = ("a", "b", "c", "d")


def gradients_of(
    rows: Tensor | Sequence[Sequence[float]],
    losses: Sequence[float] | None = None,
    tasks: Sequence[str] = NAMES,
) -> Gradients:
    """Return gradients of the first tasks; a row is a task's, losses are 1 if none are given."""
    rows = torch.as_tensor(rows).double() if not isinstance(rows, Tensor) else rows
    values = [1.0] * len(rows) if losses is None else losses
    losses_of_rows = torch.tensor(values, dtype=torch.float64)
    return Gradients.of(tasks[: len(rows)], losses_of_rows, rows.clone())


def problem(count: int, seed: int, scale: float = 1.0, size: int = 6) -> Gradients:
    """Return random gradients with conflicts, rows of different length, and losses above 0."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(count, size, generator=generator, dtype=torch.float64) - 0.1
    rows = rows * (1 + torch.arange(count)[:, None]) * scale
    losses = torch.rand(count, generator=generator, dtype=torch.float64) + 0.5
    return Gradients.of(NAMES[:count], scale * losses, rows)


def part(gradients: Gradients, tasks: Sequence[str]) -> Gradients:
    """Return the gradients of some of the tasks, in the order given."""
    index = [gradients.tasks.index(name) for name in tasks]
    return Gradients.of(tasks, gradients.losses[index], gradients.rows[index].clone())


def balancer_of(
    weighting: Weighting, tasks: Sequence[str] = NAMES, seed: int = 0
) -> GradientBalancer:
    """Return the method's balancer, with room for the state of `problem`."""
    torch.manual_seed(seed)
    balancer = weighting.build_balancer(dict.fromkeys(tasks))
    if isinstance(balancer, DirectionBalancer):
        balancer.prepare(6, torch.zeros(1, dtype=torch.float64))
    return balancer


def restored(weighting: Weighting, balancer: GradientBalancer) -> GradientBalancer:
    """Return a new balancer of another seed, with the state of this one."""
    new = balancer_of(weighting, balancer.names, seed=99)
    new.load_state_dict(copy.deepcopy(balancer.state_dict()))
    return new


def state_of(balancer: GradientBalancer) -> dict[str, Tensor]:
    return copy.deepcopy(balancer.state_dict())


def direction(weights: Tensor, gradients: Gradients) -> Tensor:
    """Return d = Jᵀw, (D,)."""
    return gradients.rows.T @ weights.to(gradients.rows)
