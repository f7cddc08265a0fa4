"""What a gradient-level balancer decides in a step, from what was seen of every task."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import NamedTuple

import torch
from torch import Tensor

from mtlkit.contracts import DirectionBalancer, GradientBalancer, Gradients
from mtlkit.records import WEIGHTING


class TaskWeights(NamedTuple):
    """What a task's gradients are multiplied by.

    Args:
        shared: of parameters that several tasks reach.
        private: of parameters that it reaches alone.
    """

    shared: float
    private: float


@dataclass(frozen=True)
class Seen:
    """What a step's passes say of the tasks, on the parameters' device.

    Args:
        tasks: in the order of the rows.
        losses: of the whole step, (T,).
        health: not finite where a task's gradient is not, (T,).
        gramian: inner products of the rows, (T,T), float64; None: the last weights hold.
        rows: (T,D); None unless the balancer makes directions.
        scale: what rows are multiplied by (fp16); None: nothing.
    """

    tasks: Sequence[str]
    losses: Tensor
    health: Tensor
    gramian: Tensor | None
    rows: Tensor | None = None
    scale: Tensor | None = None


@dataclass(frozen=True)
class Solution:
    """What was decided.

    Args:
        weights: by task; those left out have none.
        losses: of the same tasks, over the step so far, scalars on the CPU.
        left_out: tasks whose loss or gradient is not finite.
        numbers: scalars by the name that they are logged by.
        direction: the shared gradient, (D,), scaled as the rows; None: the weighted sum of rows.
    """

    weights: dict[str, TaskWeights] = field(default_factory=dict)
    losses: dict[str, Tensor] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    numbers: dict[str, Tensor] = field(default_factory=dict)
    direction: Tensor | None = None

    def joined(self, later: Solution) -> Solution:
        """Return both of a step's solutions in one.

        Args:
            later: of another batch, whose numbers hold.
        """
        left_out = dict.fromkeys((*self.left_out, *later.left_out))
        return replace(
            later,
            weights=self.weights | later.weights,
            losses=self.losses | later.losses,
            left_out=tuple(left_out),
            numbers=self.numbers | later.numbers,
        )


def decide(balancer: GradientBalancer, seen: Seen) -> Solution:
    """Return the weights of the tasks that are finite; waits for the device once.

    A gradient that is not finite while its loss is, and gradients are scaled, is too large for
    fp16: all weights are then NaN, for the scaler to see.

    Args:
        balancer: solves, if there is a Gram matrix; else its last weights hold.
        seen: of the step.
    """
    losses, healthy, gram, learned = _read(seen, balancer)
    if seen.scale is not None and bool((losses.isfinite() & ~healthy).any()):
        return Solution(dict.fromkeys(seen.tasks, TaskWeights(math.nan, math.nan)))
    (good,) = torch.where(losses.isfinite() & healthy)
    tasks = tuple(seen.tasks[i] for i in good.tolist())
    left_out = tuple(task for task in seen.tasks if task not in tasks)
    if not tasks:
        return Solution(left_out=left_out)
    losses = losses[good]
    if gram is None:
        shared, private = balancer.last(tasks)
        solved = Solution(numbers=_numbers(tasks, shared, losses))
    else:
        rows = None if seen.rows is None else _unscaled(seen, good)
        gradients = Gradients(tasks, losses, gram[good][:, good], rows, learned)
        shared, private = balancer.solve(gradients)
        numbers = _numbers(tasks, shared, losses) | _angles(gradients)
        solved = Solution(numbers=numbers, direction=_direction(balancer, gradients, shared, seen))
    pairs = zip(shared.tolist(), private.tolist(), strict=True)
    weights = {task: TaskWeights(*pair) for task, pair in zip(tasks, pairs, strict=True)}
    named = dict(zip(tasks, losses, strict=True))
    return replace(solved, weights=weights, losses=named, left_out=left_out)


def number_names(tasks: Sequence[str]) -> list[str]:
    """Return every name that a weighting's numbers are logged by.

    Args:
        tasks: names, in the recipe's order.
    """
    kinds = ("weight", "scaled_loss", "gradient_norm")
    pairs = [_pair_name(one, other) for one, other in combinations(tasks, 2)]
    return [*(f"{WEIGHTING}{kind}/{task}" for kind in kinds for task in tasks), *pairs]


def _pair_name(one: str, other: str) -> str:
    return f"{WEIGHTING}cosine/{'_'.join(sorted((one, other)))}"


def _read(seen: Seen, balancer: GradientBalancer) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
    """Return losses, whether gradients are finite, the Gram matrix, and what the balancer learns.

    All are in float64 on the CPU, and come there in one copy.
    """
    count = len(seen.tasks)
    parts = [seen.losses.double(), seen.health.double()]
    parts += [parameter.detach().double().flatten() for parameter in balancer.parameters()]
    size = sum(map(len, parts))
    if seen.gramian is not None:
        scale = 1.0 if seen.scale is None else seen.scale.double()
        parts.append((seen.gramian / scale / scale).flatten())
    ends = [count, 2 * count, size]
    losses, health, learned, rest = torch.cat(parts).cpu().tensor_split(ends)
    if seen.gramian is None:
        return losses, health.isfinite(), None, learned
    gram = rest.view(count, count)
    return losses, health.isfinite() & gram.diagonal().isfinite(), gram, learned


def _unscaled(seen: Seen, good: Tensor) -> Tensor:
    """Return the rows of the good tasks, without the scale."""
    assert seen.rows is not None
    rows = seen.rows if len(good) == len(seen.rows) else seen.rows[good.to(seen.rows.device)]
    return rows if seen.scale is None else rows.div_(seen.scale.to(rows))


def _direction(
    balancer: GradientBalancer, gradients: Gradients, weights: Tensor, seen: Seen
) -> Tensor | None:
    if not isinstance(balancer, DirectionBalancer):
        return None
    direction = balancer.direction(gradients, weights)
    return direction if seen.scale is None else direction * seen.scale.to(direction)


def _numbers(tasks: Sequence[str], weights: Tensor, losses: Tensor) -> dict[str, Tensor]:
    """Return weights and weighted losses by name."""
    found = {f"{WEIGHTING}weight/{t}": w for t, w in zip(tasks, weights, strict=True)}
    scaled = zip(tasks, weights * losses, strict=True)
    return found | {f"{WEIGHTING}scaled_loss/{t}": x for t, x in scaled}


def _angles(gradients: Gradients) -> dict[str, Tensor]:
    """Return gradient norms by task and cosines by pair; no cosine where a norm is 0."""
    norms = gradients.gramian.diagonal().sqrt()
    named = zip(gradients.tasks, norms, strict=True)
    found = {f"{WEIGHTING}gradient_norm/{task}": norm for task, norm in named}
    for (i, one), (j, other) in combinations(enumerate(gradients.tasks), 2):
        if norms[i] > 0 and norms[j] > 0:
            found[_pair_name(one, other)] = gradients.gramian[i, j] / (norms[i] * norms[j])
    return found
