"""Gradients of single losses: of an edge alone, of each task's direct loss."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mtlkit.contracts import Edge
from mtlkit.learner import Learner
from mtlkit.recompute import statistics_kept
from mtlkit.structures import Batch, Losses

Gradient = list[Tensor | None]
"""By weight; None where a loss does not reach one."""


@dataclass
class Pull:
    """A loss of a training step and its gradient.

    Args:
        value: of the loss.
        gradient: with respect to the weights.
    """

    value: float
    gradient: Gradient


class Puller:
    """Takes gradients of the architecture's weights; none of them moves, nor `.grad` or statistics.

    Weights that the present phase of the training freezes are left out.

    Args:
        learner: of a run in full precision.
    """

    def __init__(self, learner: Learner) -> None:
        self.learner, self.objective = learner, learner.objective
        every = learner.model.architecture.parameters()
        self.weights: list[nn.Parameter] = [p for p in every if p.requires_grad]

    def of_tasks(self, batches: Sequence[Batch]) -> dict[str, Pull]:
        """Return the pull of each direct loss; a task without a label here is left out.

        Args:
            batches: of one step, on the device, with counts.
        """
        names = {f"{task}/direct": task for task in self.objective.model.tasks}
        found = self._pulls(batches, {}, names)
        return {names[term]: pull for term, pull in found.items()}

    def of_edge(self, batches: Sequence[Batch], edge: Edge) -> Pull | None:
        """Return the pull of an edge's own loss; None where the batches have no label for it.

        Args:
            batches: of one step, on the device, with counts.
            edge: one of the model's.
        """
        return self._pulls(batches, {edge.key: 1.0}, [edge.term]).get(edge.term)

    def _pulls(
        self, batches: Sequence[Batch], drawn: Mapping[tuple[str, ...], float], terms: Iterable[str]
    ) -> dict[str, Pull]:
        """Return the pulls of some terms, of the mean over batches."""
        self.objective.train()
        self.learner.phases.keep_still()
        found: dict[str, Pull] = {}
        for batch in batches:
            with statistics_kept(self.objective):
                losses: Losses = self.objective(batch, drawn)
            for term in terms:
                if term in losses.parts:
                    part = self._pull(losses.parts[term], 1 / len(batches))
                    found[term] = _sum(found[term], part) if term in found else part
        return found

    def _pull(self, loss: Tensor, share: float) -> Pull:
        nothing: Gradient = [None] * len(self.weights)
        gradient = (
            torch.autograd.grad(share * loss, self.weights, retain_graph=True, allow_unused=True)
            if loss.requires_grad
            else nothing
        )
        return Pull(share * float(loss.detach()), list(gradient))


def of_mean_log(pulls: Iterable[Pull]) -> Gradient:
    """Return the gradient of the mean of log L, to which every loss adds its relative change.

    Args:
        pulls: of losses; those that are not above 0 are left out.
    """
    good = [pull for pull in pulls if pull.value > 0]
    scaled = [
        [None if x is None else x / (pull.value * len(good)) for x in pull.gradient]
        for pull in good
    ]
    return [_total(parts) for parts in zip(*scaled, strict=True)]


def norm(gradient: Gradient) -> float:
    """Return the length of a gradient, summed in float64.

    Args:
        gradient: any.
    """
    return math.sqrt(_product(gradient, gradient))


def cosine(one: Gradient, other: Gradient, chosen: Sequence[bool]) -> float | None:
    """Return the cosine of two gradients over some of the weights; None where one of them is 0.

    Args:
        one: of all weights.
        other: of all weights.
        chosen: by weight, whether it counts.
    """
    a, b = ([x if keep else None for x, keep in zip(g, chosen, strict=True)] for g in (one, other))
    sizes = norm(a) * norm(b)
    return _product(a, b) / sizes if sizes > 0 else None


def shared(gradients: Iterable[Gradient]) -> list[bool]:
    """Return, by weight, whether at least two gradients reach it.

    Args:
        gradients: of the tasks' direct losses.
    """
    return [sum(x is not None for x in parts) > 1 for parts in zip(*gradients, strict=True)]


def _sum(one: Pull, other: Pull) -> Pull:
    pairs = zip(one.gradient, other.gradient, strict=True)
    return Pull(one.value + other.value, [_total(pair) for pair in pairs])


def _total(parts: Iterable[Tensor | None]) -> Tensor | None:
    there = [x for x in parts if x is not None]
    return sum(there[1:], there[0]) if there else None


def _product(one: Gradient, other: Gradient) -> float:
    products = [
        (a.double() * b.double()).sum()
        for a, b in zip(one, other, strict=True)
        if a is not None and b is not None
    ]
    return float(torch.stack(products).sum()) if products else 0.0
