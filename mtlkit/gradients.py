"""Which task reaches which parameter, and the backward passes of a step."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mtlkit.contracts import Balancer, GradientBalancer, Gradients
from mtlkit.errors import UsageError
from mtlkit.objective import Objective
from mtlkit.structures import Losses


@dataclass(frozen=True)
class Reach:
    """Names of parameters, in module order, with the tasks whose losses reach them.

    Args:
        tasks: parameter name to task names.
        dimensions: parameter name to its number of dimensions.
        own: parameters that own losses reach.
    """

    tasks: dict[str, frozenset[str]]
    dimensions: dict[str, int]
    own: frozenset[str]

    @property
    def shared(self) -> list[str]:
        """Parameters that at least two task losses reach."""
        return [name for name, tasks in self.tasks.items() if len(tasks) >= 2]

    @property
    def last_shared(self) -> str | None:
        """The last weight of two or more dimensions that all tasks reach."""
        every = frozenset().union(*self.tasks.values())
        names = [n for n, t in self.tasks.items() if t == every and self.dimensions[n] >= 2]
        return names[-1] if names and len(every) > 0 else None


def probe(objective: Objective, losses: Losses) -> Reach:
    """Return who reaches what, from the autograd graph: reach, not numbers.

    Args:
        objective: on any device, meta too.
        losses: of a batch with every label and every edge.

    Raises:
        UsageError: an own loss reaches a parameter that a task loss moves.
    """
    named = {n: p for n, p in objective.named_parameters() if p.requires_grad}
    reach = {name: set[str]() for name in named}
    for task, loss in losses.tasks.items():
        for name in _reached(loss, named):
            reach[name].add(task)
    own = frozenset(_reached(losses.own, named)) if losses.own is not None else frozenset()
    for name in reach:
        if name in own and reach[name]:
            raise UsageError(
                f"an own loss and the task losses both move {name}. Detach one of them"
            )
    return Reach(
        {name: frozenset(tasks) for name, tasks in reach.items()},
        {name: p.ndim for name, p in named.items()},
        own,
    )


def last_shared(objective: Objective, reach: Reach) -> nn.Parameter | None:
    """Return the last weight that all tasks share, or None.

    Args:
        objective: of the same recipe as the reach, on any device.
        reach: from `probe`.
    """
    name = reach.last_shared
    return None if name is None else dict(objective.named_parameters())[name]


def _reached(loss: Tensor, named: dict[str, nn.Parameter]) -> list[str]:
    grads = torch.autograd.grad(loss, list(named.values()), retain_graph=True, allow_unused=True)
    return [name for name, grad in zip(named, grads, strict=True) if grad is not None]


class Backward:
    """The backward passes of a step, by the level of the balancer.

    Args:
        balancer: how the losses become one update.
        last_shared: the weight at which a gradient-level balancer looks; None at loss level.

    Raises:
        UsageError: the balancer looks elsewhere, or there is no such weight.
    """

    def __init__(self, balancer: Balancer, last_shared: nn.Parameter | None) -> None:
        self.balancer, self.last_shared = balancer, last_shared
        if isinstance(balancer, GradientBalancer):
            if (balancer.at, balancer.scales) != ("last_shared", "all"):
                raise UsageError(
                    f"at {balancer.at!r}, scaling {balancer.scales!r}: this release knows "
                    "gradient-level weighting at 'last_shared', scaling 'all'"
                )
            if last_shared is None:
                raise UsageError("the tasks share no weight whose gradients can be compared")

    @staticmethod
    def needs_whole_steps(balancer: Balancer) -> bool:
        """Return whether a step must be one batch: weights are solved before gradients are summed.

        Args:
            balancer: any.
        """
        return isinstance(balancer, GradientBalancer)

    def __call__(self, losses: Losses, share: float) -> Tensor:
        """Run the passes and return the detached total.

        Args:
            losses: of one batch.
            share: of the step that this batch makes, 1 over the number of batches.
        """
        present = {name: loss for name, loss in losses.tasks.items() if name in losses.present}
        device = next((loss.device for loss in losses.tasks.values()), None)
        total = self._total(present) if present else torch.zeros((), device=device)
        everything = total if losses.own is None else total + losses.own
        if everything.requires_grad:
            (everything * share).backward()  # type: ignore[no-untyped-call]
        return total.detach()

    def _total(self, present: dict[str, Tensor]) -> Tensor:
        if not isinstance(self.balancer, GradientBalancer):
            return self.balancer.total(present)
        assert self.last_shared is not None  # checked at construction
        rows = [
            torch.autograd.grad(loss, self.last_shared, retain_graph=True)[0].flatten()
            for loss in present.values()
        ]
        values = torch.stack([loss.detach() for loss in present.values()])
        weights = self.balancer.weights(Gradients(torch.stack(rows), values, tuple(present)))
        return (weights.detach().to(values) * torch.stack(list(present.values()))).sum()
