"""The backward passes of a step: what both levels of weighting share, and the loss level."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mtlkit.contracts import Balancer
from mtlkit.ranks import Ranks
from mtlkit.records import WEIGHTING
from mtlkit.stopwatch import Stopwatch
from mtlkit.structures import Losses


@dataclass(frozen=True)
class Conditions:
    """How steps are taken.

    Args:
        accumulate: batches of a step.
        ranks: processes that take it together.
        leaves_out: whether a task that is not finite is left out of a step at loss level, too; to
            know it costs a wait for the device in every step.
        watch: tells the time of the weighting from that of the passes.
    """

    accumulate: int = 1
    ranks: Ranks = field(default_factory=Ranks)
    leaves_out: bool = False
    watch: Stopwatch = field(default_factory=Stopwatch)


@dataclass(frozen=True)
class Report:
    """What a step's backward passes found.

    Args:
        total: the weighted loss, a scalar.
        left_out: tasks whose loss or gradient is not finite.
        numbers: weights, norms and the like, scalars by the name that they are logged by.
    """

    total: Tensor
    left_out: tuple[str, ...] = ()
    numbers: Mapping[str, Tensor] = field(default_factory=dict)


class Backward(ABC):
    """Puts the gradient of a step into the parameters: `begin`, `add` each batch, `finish`.

    Args:
        balancer: how the losses become one update.
        conditions: how steps are taken.
    """

    def __init__(self, balancer: Balancer, conditions: Conditions) -> None:
        self.balancer, self.conditions = balancer, conditions
        self.share = 1.0
        self.scale: Tensor | None = None

    def begin(self, batches: int = 1, scale: Tensor | None = None) -> None:
        """Begin a step; gradients are None.

        Args:
            batches: that will be added.
            scale: what all gradients are multiplied by (fp16), a scalar on their device.
        """
        self.balancer.before_step()
        self.share = 1 / batches
        self.scale = scale

    @abstractmethod
    def add(self, losses: Losses) -> None:
        """Back-propagate the losses of one batch.

        Args:
            losses: with their graph, which is freed.
        """

    @abstractmethod
    def finish(self) -> Report:
        """End the step: all gradients are in place."""

    def __call__(self, losses: Losses) -> Report:
        """Take the passes of a step of one batch.

        Args:
            losses: with their graph, which is freed.
        """
        self.begin()
        self.add(losses)
        return self.finish()

    def values(self, losses: Sequence[Tensor]) -> Tensor:
        """Return the losses' values over all ranks, (T,), detached.

        Args:
            losses: scalars, one at least.
        """
        return self.conditions.ranks.mean_(torch.stack([loss.detach() for loss in losses]))

    def start_of(self, loss: Tensor) -> Tensor:
        """Return what the gradient of a batch's loss begins with.

        Args:
            loss: a scalar.
        """
        start = torch.full_like(loss, self.share)
        return start if self.scale is None else start * self.scale.to(start)


def present_tasks(losses: Losses) -> dict[str, Tensor]:
    """Return the losses of the tasks that take part in the step.

    Args:
        losses: of one batch.
    """
    return {name: loss for name, loss in losses.tasks.items() if name in losses.present}


class LossLevel(Backward):
    """One pass for all: the balancer weighs values, and its derivatives start the pass.

    So the weights are known, they come from the losses of all ranks, and nothing that a balancer
    does to the values can get between the losses and the network.
    """

    def begin(self, batches: int = 1, scale: Tensor | None = None) -> None:
        """Begin a step; gradients are None.

        Args:
            batches: that will be added.
            scale: what the network's gradients are multiplied by (fp16), a scalar.
        """
        super().begin(batches, scale)
        self.total: Tensor | None = None
        self.weighed: dict[str, list[tuple[Tensor, Tensor]]] = {}
        self.left_out = dict[str, None]()
        self.has_passed = False  # with the last batch

    def add(self, losses: Losses) -> None:
        """Back-propagate the losses of one batch.

        Args:
            losses: with their graph, which is freed.
        """
        with self.conditions.watch("weighting"):
            present = self._usable(present_tasks(losses))
            starts = self._weigh(present) if present else []
        roots = list(present.values())
        if losses.own is not None:
            roots, starts = [*roots, losses.own], [*starts, self.start_of(losses.own)]
        pairs = [(x, y) for x, y in zip(roots, starts, strict=True) if x.requires_grad]
        self.has_passed = bool(pairs)
        if pairs:
            torch.autograd.backward([x for x, _ in pairs], [y for _, y in pairs])

    def finish(self) -> Report:
        """End the step: all gradients are in place."""
        total = torch.zeros(()) if self.total is None else self.total
        numbers = {}
        for name, pairs in self.weighed.items():
            values, weights = (torch.stack(list(x)).sum(0) for x in zip(*pairs, strict=True))
            numbers[f"{WEIGHTING}weight/{name}"] = weights
            numbers[f"{WEIGHTING}scaled_loss/{name}"] = weights * values
        return Report(total, tuple(self.left_out), numbers)

    def _weigh(self, present: Mapping[str, Tensor]) -> list[Tensor]:
        """Return what each task's pass begins with: its weight, the share and the scale."""
        values = self.values(list(present.values()))
        leaves = [value.detach().requires_grad_() for value in values.unbind()]
        total = self.balancer.total(dict(zip(present, leaves, strict=True)))
        if total.requires_grad:
            torch.autograd.backward(total, self.start_of(total))
        part = total.detach() * self.share
        self.total = part if self.total is None else self.total + part
        starts = [torch.zeros_like(x) if x.grad is None else x.grad for x in leaves]
        for name, value, start in zip(present, values, starts, strict=True):
            weight = start if self.scale is None else start / self.scale.to(start)
            self.weighed.setdefault(name, []).append((value * self.share, weight))
        return starts

    def _usable(self, present: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the tasks to go on with, noting those that are left out."""
        if not self.conditions.leaves_out or not present:
            return present
        finite = self.values(list(present.values())).isfinite().tolist()
        good = {n: x for (n, x), is_good in zip(present.items(), finite, strict=True) if is_good}
        self.left_out |= {name: None for name in present if name not in good}
        return good
