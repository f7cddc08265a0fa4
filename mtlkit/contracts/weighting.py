"""The weighting contract: how task losses become one update."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor, nn

from mtlkit.contracts.plugin import Plugin
from mtlkit.contracts.task import Task


class Weighting(Plugin):
    """The choice of how task losses become one update; its balancer holds the state."""

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

    @abstractmethod
    def total(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Return the scalar to minimise; in eval mode it changes no state.

        Args:
            losses: scalars by task, those present in this step.
        """

    def after_step(self, again: Callable[[], Mapping[str, Tensor]]) -> None:
        """Be told that an optimizer step is done.

        Args:
            again: evaluates the same batch once more (FAMO).
        """

    def after_epoch(self) -> None:
        """Be told that an epoch of training is done (DWA)."""


@dataclass(frozen=True)
class Gradients:
    """Each present task's gradient at the parameters where a balancer looks.

    Args:
        rows: (T,D), a task a row.
        losses: (T,), detached task losses.
        tasks: names, in the order of the rows.
    """

    rows: Tensor
    losses: Tensor
    tasks: tuple[str, ...]

    @cached_property
    def gramian(self) -> Tensor:
        """Inner products of the rows, (T,T) float64."""
        rows = self.rows.double()
        return rows @ rows.T


class GradientBalancer(Balancer):
    """Gradient level: weights from the gradients of the task losses.

    `at` names the parameters (or maps) whose gradients are compared, `scales` which gradients the
    weights multiply: those of shared parameters, or all.
    """

    at: Literal["shared", "trunk", "features", "last_shared", "decoder_entry"] = "shared"
    scales: Literal["shared", "all"] = "shared"

    @abstractmethod
    def weights(self, gradients: Gradients) -> Tensor:
        """Return one weight per row, (T,).

        Args:
            gradients: rows and losses of the present tasks.
        """

    def direction(self, gradients: Gradients) -> Tensor:
        """Return the combined gradient, (D,).

        Args:
            gradients: rows and losses of the present tasks.
        """
        return self.weights(gradients).to(gradients.rows) @ gradients.rows

    def total(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Return the sum of the losses, which validation reports.

        Args:
            losses: scalars by task.
        """
        return torch.stack(list(losses.values())).sum()
