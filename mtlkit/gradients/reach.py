"""Which task's loss reaches which parameter, from the autograd graph: reach, not numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mtlkit.errors import UsageError
from mtlkit.objective import Objective
from mtlkit.structures import Losses

EDGES = "model.edges."
"""What the names of transfer networks begin with."""


@dataclass(frozen=True)
class Reach:
    """Names of parameters, in module order, with the tasks whose losses reach them.

    Args:
        tasks: parameter name to task names.
        dimensions: parameter name to its number of dimensions.
        own: parameters that own losses reach.
        trunk: parameters that make `Output.features`; empty where there are none.
        around: those of the trunk that a loss also reaches past the features.
        is_chained: whether a feature map depends on another: they are no views of `nn.cut`.
        is_tangled: whether two losses share a part of the graph behind the features.
    """

    tasks: dict[str, frozenset[str]]
    dimensions: dict[str, int]
    own: frozenset[str]
    trunk: frozenset[str] = frozenset()
    around: frozenset[str] = frozenset()
    is_chained: bool = False
    is_tangled: bool = True

    @property
    def shared(self) -> list[str]:
        """Parameters that at least two task losses reach, those of the trunk first."""
        names = [name for name, tasks in self.tasks.items() if len(tasks) >= 2]
        return sorted(names, key=lambda name: name not in self.trunk)

    @property
    def last_shared(self) -> str | None:
        """The last weight of two or more dimensions that all tasks reach, of the architecture.

        Paths make transfer networks shared, too; a layer of theirs is no end of the trunk.
        """
        every = frozenset().union(*self.tasks.values())
        mine = [name for name in self.tasks if not name.startswith(EDGES)]
        names = [n for n in mine if self.tasks[n] == every and self.dimensions[n] >= 2]
        return names[-1] if names and len(every) > 0 else None

    @property
    def has_cut(self) -> bool:
        """Whether all that losses tell the trunk goes through `Output.features`, for all of it."""
        is_shared = all(len(self.tasks[name]) >= 2 for name in self.trunk)
        is_clean = not self.around and not self.is_chained
        return bool(self.trunk) and is_clean and is_shared

    @property
    def unreached(self) -> list[str]:
        """Parameters that learn nothing: no loss reaches them."""
        return [name for name, tasks in self.tasks.items() if not tasks and name not in self.own]

    def private(self, task: str) -> list[str]:
        """Return the parameters that one task alone reaches.

        Args:
            task: its name.
        """
        return [name for name, tasks in self.tasks.items() if tasks == {task}]


def probe(objective: Objective, losses: Losses) -> Reach:
    """Return who reaches what.

    Args:
        objective: on any device, meta too.
        losses: of a batch with every label and every edge.

    Raises:
        UsageError: an own loss reaches a parameter that a task loss moves.
    """
    named = {n: p for n, p in objective.named_parameters() if p.requires_grad}
    reach = {name: set[str]() for name in named}
    for task, loss in losses.tasks.items():
        for name in _reached([loss], named):
            reach[name].add(task)
    own = frozenset(_reached([losses.own], named)) if losses.own is not None else frozenset()
    for name in reach:
        if name in own and reach[name]:
            raise UsageError(
                f"an own loss and the task losses both move {name}. Detach one of them"
            )
    tasks = {name: frozenset(found) for name, found in reach.items()}
    dimensions = {name: p.ndim for name, p in named.items()}
    return Reach(tasks, dimensions, own, *_cut(losses, named))


def _reached(outputs: list[Tensor], named: Mapping[str, nn.Parameter]) -> list[str]:
    """Return the names of the parameters that outputs depend on."""
    outputs = [x for x in outputs if x.requires_grad]
    if not outputs:
        return []
    starts = [torch.ones_like(x) for x in outputs]
    grads = torch.autograd.grad(
        outputs, list(named.values()), starts, retain_graph=True, allow_unused=True
    )
    return [name for name, grad in zip(named, grads, strict=True) if grad is not None]


def _cut(
    losses: Losses, named: Mapping[str, nn.Parameter]
) -> tuple[frozenset[str], frozenset[str], bool, bool]:
    """Return trunk, around, is_chained and is_tangled of a `Reach`."""
    features = [x for x in losses.output.features if x.requires_grad]
    if not features:
        return frozenset(), frozenset(), False, True
    trunk = frozenset(_reached(features, named))
    names = {id(p): name for name, p in named.items()}
    ends = {x.grad_fn for x in features}
    is_chained = any(ends & _behind(x.grad_fn, [x.grad_fn]) for x in features)
    behind = [_behind(loss.grad_fn, ends) - ends for loss in losses.tasks.values()]
    leaves = {names.get(id(getattr(node, "variable", None))) for nodes in behind for node in nodes}
    around = trunk & {name for name in leaves if name is not None}
    inner = [{node for node in nodes if not hasattr(node, "variable")} for nodes in behind]
    is_tangled = sum(map(len, inner)) > len(set[Any]().union(*inner))
    return trunk, around, is_chained, is_tangled


def _behind(start: Any, ends: Iterable[Any]) -> set[Any]:
    """Return the nodes of the autograd graph below a start, with the ends that it meets."""
    found, stops = set[Any](), set(ends)
    waiting = [] if start is None else [node for node, _ in start.next_functions]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in found:
            found.add(node)
            if node not in stops:
                waiting += [further for further, _ in node.next_functions]
    return found
