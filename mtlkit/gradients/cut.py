"""Where the trunk ends: heads are passed one by one, the trunk once, when weights are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mtlkit.contracts import Place
from mtlkit.gradients.reach import Reach
from mtlkit.gradients.rows import gramian
from mtlkit.gradients.solution import TaskWeights
from mtlkit.ranks import Ranks


class Head(NamedTuple):
    """What a task's pass through its own head left.

    Args:
        features: gradients of the cut maps; None where the task does not read one.
        below: gradients of the parameters behind the cut that it reaches.
    """

    features: list[Tensor | None]
    below: list[Tensor | None]


class Cut:
    """The passes behind and before `Output.features`.

    Args:
        parameters: of the objective, by name.
        reach: with a cut.
        at: where a balancer looks.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], reach: Reach, at: Place) -> None:
        self.at, self.is_tangled = at, reach.is_tangled
        self.weight = None if reach.last_shared is None else parameters[reach.last_shared]
        self.is_weight_below = reach.last_shared not in reach.trunk
        tasks = {task for found in reach.tasks.values() for task in found}
        self.below = {
            task: [p for n, p in parameters.items() if self._is_below(n, task, reach)]
            for task in tasks
        }
        self.private = {id(parameters[name]) for task in tasks for name in reach.private(task)}

    @staticmethod
    def _is_below(name: str, task: str, reach: Reach) -> bool:
        return name not in reach.trunk and task in reach.tasks.get(name, ())

    def heads(
        self, present: Mapping[str, Tensor], features: Sequence[Tensor], starts: Sequence[Tensor]
    ) -> dict[str, Head]:
        """Return each task's gradients at the cut and behind it; the trunk's graph stays.

        Args:
            present: losses by task.
            features: the cut maps.
            starts: what each loss's gradient begins with.
        """
        found = {}
        for i, (task, loss) in enumerate(present.items()):
            below = self.below[task]
            grads = torch.autograd.grad(
                loss,
                [*features, *below],
                starts[i],
                retain_graph=self.is_tangled and i + 1 < len(present),
                allow_unused=True,
            )
            found[task] = Head(list(grads[: len(features)]), list(grads[len(features) :]))
        return found

    def gramian(
        self, heads: Mapping[str, Head], features: Sequence[Tensor], ranks: Ranks
    ) -> Tensor:
        """Return the inner products of the tasks' gradients where the balancer looks, (T,T).

        Args:
            heads: by task.
            features: the cut maps.
            ranks: each holds maps of its own, but the same weights.
        """
        if self.at == "last_shared":
            rows = [self._at_weight(task, head, features) for task, head in heads.items()]
            return gramian(ranks.mean_(torch.stack(rows)).unbind())
        places = range(len(features)) if self.at == "features" else [len(features) - 1]
        found = [[_flat(h.features[k], features[k]) for h in heads.values()] for k in places]
        parts = [gramian(rows) for rows in found]
        # of the loss over all ranks, each rank's maps have 1/R of the gradient of its own loss
        return ranks.mean_(torch.stack(parts).sum(0)) / ranks.count

    def send(
        self,
        heads: dict[str, Head],
        features: Sequence[Tensor],
        weights: Mapping[str, TaskWeights],
    ) -> None:
        """Add the weighed gradients to the parameters behind the cut, then pass the trunk.

        Args:
            heads: by task; given up, for their memory.
            features: the cut maps.
            weights: by task; those without are left out.
        """
        for task, weight in weights.items():
            for parameter, grad in zip(self.below[task], heads[task].below, strict=True):
                if grad is not None:
                    is_private = id(parameter) in self.private
                    _add(parameter, grad, weight.private if is_private else weight.shared)
        pairs = []
        for place, feature in enumerate(features):
            grads = {task: heads[task].features[place] for task in weights}
            parts = [(weights[t].shared, grad) for t, grad in grads.items() if grad is not None]
            if parts:
                pairs.append((feature, _weighed_sum(parts)))
        heads.clear()
        if pairs:
            torch.autograd.backward([x for x, _ in pairs], [y for _, y in pairs])

    def _at_weight(self, task: str, head: Head, features: Sequence[Tensor]) -> Tensor:
        """Return a task's gradient of the last shared weight, flat."""
        assert self.weight is not None  # GradientLevel refuses to look where there is none
        if self.is_weight_below:
            places = [p is self.weight for p in self.below[task]]
            grad = head.below[places.index(True)]
        else:
            pairs = [(x, g) for x, g in zip(features, head.features, strict=True) if g is not None]
            grad = self._passed([x for x, _ in pairs], [g for _, g in pairs]) if pairs else None
        return torch.zeros_like(self.weight).flatten() if grad is None else grad.flatten()

    def _passed(self, outputs: list[Tensor], starts: list[Tensor]) -> Tensor | None:
        """Pass from the cut to the last shared weight."""
        assert self.weight is not None
        (grad,) = torch.autograd.grad(
            outputs, self.weight, starts, retain_graph=True, allow_unused=True
        )
        return grad


def health(grads: Sequence[Tensor | None], like: Tensor) -> Tensor:
    """Return a scalar that is finite if all gradients are: the sum of their norms.

    Args:
        grads: any; None counts as 0.
        like: gives the device.
    """
    some = [grad for grad in grads if grad is not None]
    zero = like.new_zeros((), dtype=torch.float64)
    norms = [x.double() for x in torch._foreach_norm(some)] if some else []
    return torch.stack([zero, *norms]).sum()


def _flat(grad: Tensor | None, feature: Tensor) -> Tensor:
    """Return a map's gradient, (N·C·H·W,), in the order of the map's memory: mostly a view."""
    strides = feature.stride()
    order = sorted(range(feature.ndim), key=strides.__getitem__, reverse=True)
    whole = torch.zeros_like(feature) if grad is None else grad
    return whole.permute(order).reshape(-1)


def _weighed_sum(parts: Sequence[tuple[float, Tensor]]) -> Tensor:
    weight, grad = parts[0]
    total = weight * grad
    for weight, grad in parts[1:]:
        total.add_(grad, alpha=weight)
    return total


def _add(parameter: nn.Parameter, grad: Tensor, weight: float) -> None:
    """Add to a parameter's gradient, which has its strides (`Rows` says why)."""
    if parameter.grad is None:
        # autograd may give one tensor to several parameters, so it is copied
        parameter.grad = torch.mul(grad, weight, out=torch.empty_like(parameter))
    else:
        parameter.grad.add_(grad, alpha=weight)
