"""A pass back for each task alone, whatever the weighting does: norms, cosines, what moves."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from mtlkit.device import autocast
from mtlkit.gradients import Reach
from mtlkit.learner import Learner
from mtlkit.structures import Batch

from .chart import Pair

Grads = dict[str, Tensor]
"""Gradients by parameter."""


@dataclass(frozen=True)
class Passes:
    """What the tasks' gradients of one step are like, before the weighting.

    Args:
        tasks: those that took part.
        norms: by task, at what it shares with any other.
        cosines: by pair, at what both share; those without a gradient there are left out.
        moved: parameters with a gradient other than 0 from any task.
        bad: by task, parameters whose gradient is not finite; empty for most.
        reached: by task, number of parameters with a gradient.
    """

    tasks: tuple[str, ...]
    norms: dict[str, float]
    cosines: dict[Pair, float]
    moved: frozenset[str]
    bad: dict[str, list[str]]
    reached: dict[str, int]


def measure(learner: Learner, reach: Reach, batches: Sequence[Batch]) -> Passes:
    """Return what the gradients of a step would be; no weight and no `.grad` changes.

    Args:
        learner: of the run.
        reach: which task's loss reaches which parameter.
        batches: of the step.
    """
    found = _gradients(learner, batches)
    tasks = tuple(name for name in learner.recipe.tasks if name in found)
    bad = {t: [n for n, g in found[t].items() if not bool(g.isfinite().all())] for t in tasks}
    moved = {n for grads in found.values() for n, g in grads.items() if bool(g.any())}
    norms, cosines = _compared(tasks, found, reach)
    reached = {task: len(found[task]) for task in tasks}
    bad = {task: names for task, names in bad.items() if names}
    return Passes(tasks, norms, cosines, frozenset(moved), bad, reached)


def _gradients(learner: Learner, batches: Sequence[Batch]) -> dict[str, Grads]:
    """Return each task's gradient of the mean over batches."""
    named = {n: p for n, p in learner.objective.named_parameters() if p.requires_grad}
    found: dict[str, Grads] = {}
    learner.objective.train()
    for batch in learner.ready(batches):
        with _precision(learner):
            losses = learner.objective(batch)
        present = [t for t, x in losses.tasks.items() if t in losses.present and x.requires_grad]
        for i, task in enumerate(present):
            grads = torch.autograd.grad(
                losses.tasks[task],
                list(named.values()),
                retain_graph=i + 1 < len(present),
                allow_unused=True,
            )
            sums = found.setdefault(task, {})
            for name, grad in zip(named, grads, strict=True):
                if grad is not None:
                    part = grad / len(batches)
                    sums[name] = sums[name] + part if name in sums else part
    return found


def _precision(learner: Learner) -> contextlib.AbstractContextManager[Any]:
    """Return the context of a forward pass; float32 in place of fp16, which needs a scale."""
    if learner.mover.scaler.is_enabled():
        return contextlib.nullcontext()
    return autocast(learner.placement)


def _compared(
    tasks: Sequence[str], found: Mapping[str, Grads], reach: Reach
) -> tuple[dict[str, float], dict[Pair, float]]:
    """Return norms and cosines, summed in float64 parameter by parameter."""
    products = torch.zeros(len(tasks), len(tasks), dtype=torch.float64)
    squares = torch.zeros_like(products)  # [i, j]: of i's gradient at what j reaches too
    whole = torch.zeros(len(tasks), dtype=torch.float64)
    for name in reach.shared:
        here = [i for i, task in enumerate(tasks) if name in found[task]]
        if not here:
            continue
        rows = torch.stack([found[tasks[i]][name].flatten().double() for i in here])
        gram = (rows @ rows.T).cpu()
        both = torch.meshgrid(torch.tensor(here), torch.tensor(here), indexing="ij")
        products[both] += gram
        squares[both] += gram.diagonal()[:, None].expand(gram.shape)
        whole[here] += gram.diagonal()
    sizes = (squares * squares.T).sqrt()
    cosines = {
        (tasks[i], tasks[j]): float(products[i, j] / sizes[i, j])
        for i, j in combinations(range(len(tasks)), 2)
        if sizes[i, j] > 0
    }
    return dict(zip(tasks, whole.sqrt().tolist(), strict=True)), cosines
