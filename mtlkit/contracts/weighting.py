"""The weighting contract: how task losses become one update, from their values alone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor, nn

from mtlkit.contracts.plugin import Plugin
from mtlkit.contracts.task import Task

PROPERTIES: Mapping[str, str] = {
    "scale": "all losses and gradients times c, 1e-8 ≤ c ≤ 1e8: the update keeps its direction",
    "permutation": "tasks in another order: the same update",
    "duplicate": "a task that is there twice: the update is finite, both copies weigh the same",
    "zero": "a task without gradient: the update keeps the direction that it has without the task",
    "parallel": "parallel gradients: the update is along them",
    "opposed": "two exactly opposed gradients among others: the update is finite",
    "single": "one task: the update is its gradient times a positive number",
    "precision": "gradients in float32: the update of float64 but for rounding",
}
"""What every method is tested for, by the name that a `Card` refers to."""


@dataclass(frozen=True)
class Card:
    """What is said of a method in docs/weighting.md, and what it is excused from in the tests.

    Args:
        title: what its authors call it.
        paper: authors, year and arXiv number or venue.
        invariant: what always holds of its update, in a sentence.
        use: when to use it, in a sentence.
        exceptions: names of `PROPERTIES` that cannot hold for it, each with the reason.
    """

    title: str = ""
    paper: str = ""
    invariant: str = ""
    use: str = ""
    exceptions: Mapping[str, str] = field(default_factory=dict)


class Weighting(Plugin):
    """The choice of how task losses become one update; its balancer holds the state."""

    card: ClassVar[Card] = Card()
    """What docs/weighting.md says of it, and what the tests excuse it from."""

    @abstractmethod
    def build_balancer(self, tasks: Mapping[str, Task]) -> Balancer:
        """Return the module that weighs.

        Args:
            tasks: by name, in the recipe's order.
        """

    @property
    def as_maths(self) -> str:
        """The total loss as `explain` writes it."""
        return f"{self.type_name()}(L)"


class Balancer(nn.Module, ABC):
    """Loss level. Maths, never autograd; all state in state_dict; sees present tasks only."""

    def before_step(self) -> None:
        """Be told that an optimizer step begins (RLW); it may call `total` several times."""

    @abstractmethod
    def total(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Return the scalar to minimise; in eval mode it changes no state.

        Its derivative with respect to each loss is that task's weight.

        Args:
            losses: scalars by task, those present in this step; of all ranks.
        """

    def after_step(self, again: Callable[[], Mapping[str, Tensor]]) -> None:
        """Be told that an optimizer step is done.

        Args:
            again: evaluates the step's losses once more, by task, without gradient (FAMO).
        """

    def after_epoch(self) -> None:
        """Be told that an epoch of training is done (DWA)."""
