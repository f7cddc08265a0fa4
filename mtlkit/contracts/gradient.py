"""Weighting at gradient level: from the gradients of the task losses at what they share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from mtlkit.contracts.task import Task
from mtlkit.contracts.weighting import Balancer, Weighting
from mtlkit.errors import DivergedError, PluginError

Place = Literal["shared", "trunk", "features", "last_shared", "decoder_entry"]
"""Where gradients are compared; see `GradientWeighting.at`."""


@dataclass(frozen=True)
class Gradients:
    """Each task's gradient at the place where a balancer looks; all ranks and batches of the step.

    Only tasks whose losses and gradients are finite are in it.

    Args:
        tasks: names, in the order of the rows.
        losses: task losses, (T,), float64, on the CPU.
        gramian: inner products of the rows, (T,T), float64, on the CPU.
        rows: (T,D) on the device of the parameters; None unless the balancer makes directions.
        learned: the balancer's own parameters, flat and one after another, float64, on the CPU:
            they came with the rest, so that nothing waits for the device again; None: not read yet.
    """

    tasks: tuple[str, ...]
    losses: Tensor
    gramian: Tensor
    rows: Tensor | None = None
    learned: Tensor | None = None

    @classmethod
    def of(cls, tasks: Sequence[str], losses: Tensor, rows: Tensor) -> Gradients:
        """Return the gradients with their Gram matrix.

        Args:
            tasks: names, in the order of the rows.
            losses: (T,).
            rows: (T,D), float.
        """
        exact = rows.detach().double().cpu()
        return cls(tuple(tasks), losses.detach().double().cpu(), exact @ exact.T, rows.detach())


class Weights(NamedTuple):
    """What the tasks' gradients are multiplied by, each (T,), float64, on the CPU.

    Args:
        shared: of the parameters that several tasks reach.
        private: of those that one task reaches.
    """

    shared: Tensor
    private: Tensor


class GradientWeighting(Weighting):
    """Base of weightings whose balancer sees gradients."""

    at: Place = Field(
        "shared",
        description="where gradients are compared: `shared` parameters, those of the `trunk`, the "
        "`last_shared` weight, the `features` that decoders read, `decoder_entry`: the deepest one",
    )
    every: int = Field(
        1, ge=1, description="steps between solutions; in between the last weights are used"
    )


class GradientBalancer(Balancer):
    """Gives weights to rows of gradients; stays on the CPU. Weights that are kept are its state.

    Args:
        names: of all tasks, in the recipe's order.
        at: where it looks.
        every: steps between solutions.
    """

    kept: Tensor  # weights of the last solution, shared and private, (2,T), float64
    age: Tensor  # steps since the last solution, that step included, int64; 0: none yet

    def __init__(self, names: Sequence[str], at: Place = "shared", every: int = 1) -> None:
        super().__init__()
        self.names = tuple(names)
        self.at = at
        self.every = every
        self.register_buffer("kept", torch.ones(2, len(self.names), dtype=torch.float64))
        self.register_buffer("age", torch.tensor(0, dtype=torch.int64))

    def before_step(self) -> None:
        """Be told that an optimizer step begins; who overrides it calls it, too."""
        self.age += self.age > 0

    @property
    def is_due(self) -> bool:
        """Whether this step needs a new solution."""
        return not 0 < int(self.age) <= self.every

    @abstractmethod
    def weights(self, gradients: Gradients) -> Tensor:
        """Return one weight per row, (T,), float64; d = Σ w_t·g_t is the shared gradient.

        Args:
            gradients: of the present tasks, one at least.
        """

    def private_weights(self, gradients: Gradients, weights: Tensor) -> Tensor:
        """Return what gradients of parameters of one task are multiplied by, (T,); by default 1.

        Args:
            gradients: of the present tasks.
            weights: what `weights` returned.
        """
        return torch.ones_like(weights)

    def total(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Return the sum of the losses, which is reported; nothing is derived from it.

        Args:
            losses: scalars by task.
        """
        return torch.stack(list(losses.values())).sum()

    def index(self, tasks: Sequence[str]) -> Tensor:
        """Return the tasks' numbers among all names, (T,), int64.

        Args:
            tasks: names.
        """
        return torch.tensor([self.names.index(name) for name in tasks], dtype=torch.int64)

    def solve(self, gradients: Gradients) -> Weights:
        """Return the weights of this step, and keep them.

        Args:
            gradients: of the present tasks, one at least.

        Raises:
            PluginError: these are no weights of the tasks.
            DivergedError: a weight is not finite.
        """
        weights = self.weights(gradients)
        self._check(weights, "weights", gradients.tasks)
        found = Weights(weights, self.private_weights(gradients, weights))
        self._check(found.private, "private_weights", gradients.tasks)
        index = self.index(gradients.tasks)
        self.kept[:, index] = torch.stack(found).to(self.kept)
        self.age.fill_(1)
        return found

    def last(self, tasks: Sequence[str]) -> Weights:
        """Return the weights that are kept; 1 for a task that had a part in no solution.

        Args:
            tasks: those present.
        """
        return Weights(*self.kept[:, self.index(tasks)])

    def _check(self, found: Tensor, method: str, tasks: Sequence[str]) -> None:
        """Refuse what is not one finite number for each task; nothing waits, it is on the CPU."""
        where = f"{method}() of {type(self).__name__}"
        if not isinstance(found, Tensor) or found.shape != (len(tasks),):
            form = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise PluginError(
                f"{where} returned {form} for the tasks {', '.join(tasks)}. Return a tensor of "
                f"shape ({len(tasks)},), a weight for each row of the gradients"
            )
        if not bool(found.isfinite().all()):
            bad = [f"{t}: {w:g}" for t, w in zip(tasks, found.tolist(), strict=True)]
            raise DivergedError(f"{where} gave weights that are not finite ({', '.join(bad)})")


class GramianWeighting(GradientWeighting):
    """Base of weightings whose weights are a function of the Gram matrix alone, without state."""

    @abstractmethod
    def weights(self, gramian: Tensor) -> Tensor:
        """Return the weights of the rows, (T,), float64.

        Args:
            gramian: G, inner products of the present tasks' gradients, (T,T), float64.
        """

    def build_balancer(self, tasks: Mapping[str, Task]) -> Balancer:
        """Return the module that solves; its state is the weights that are kept.

        Args:
            tasks: by name, in the recipe's order.
        """
        return _GramianBalancer(self, tuple(tasks))


class _GramianBalancer(GradientBalancer):
    def __init__(self, weighting: GramianWeighting, names: Sequence[str]) -> None:
        super().__init__(names, weighting.at, weighting.every)
        self.solver = weighting.weights

    def weights(self, gradients: Gradients) -> Tensor:
        return self.solver(gradients.gramian)


class DirectionBalancer(GradientBalancer):
    """Makes the shared gradient itself, where no weights of rows can express it.

    Its `weights` are what the log shows. It always looks at all shared parameters.

    Args:
        names: of all tasks.
    """

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(names)

    def prepare(self, columns: int, like: Tensor) -> None:
        """Make state that has the size of rows; called once, before any state is loaded.

        Args:
            columns: D.
            like: a parameter, for dtype and device.
        """

    @abstractmethod
    def direction(self, gradients: Gradients, weights: Tensor) -> Tensor:
        """Return the shared gradient, (D,), of the rows' dtype and device; rows may be overwritten.

        Args:
            gradients: of the present tasks, with rows.
            weights: what `weights` returned for them.
        """
