"""Phases of a training: which parameters learn in each."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from mtlkit.errors import UsageError
from mtlkit.optimization import matches, named_parameters
from mtlkit.recipe import Recipe
from mtlkit.sections import Phase, Train


class Phases:
    """What learns in each part of a training.

    Args:
        train: the recipe's section.
        model: its parameters are named as in its state dict (`architecture.…`, `edges.…`).
        others: auxiliary losses, then the balancer.

    Raises:
        UsageError: a module path matches nothing.
    """

    def __init__(self, train: Train, model: nn.Module, others: Iterable[nn.Module]) -> None:
        self.parts, self.index = train.parts, 0
        self.roots = (model, *others)
        every = named_parameters(model, self.roots[1:])
        # what a plugin froze by itself stays so
        self.named = {name: p for name, p in every.items() if p.requires_grad}
        self.still: list[nn.Module] = []
        for part in self.parts:
            for path in (*part.only, *part.freeze):
                if not any(matches(name, path) for name in self.named):
                    tops = sorted({".".join(name.split(".")[:2]) for name in self.named})
                    message = f"{path!r} matches no parameter; module paths begin with: "
                    raise UsageError(message + ", ".join(tops))

    @property
    def is_partial(self) -> bool:
        """Whether some parameters do not learn in the phase that was begun."""
        part = self.parts[self.index]
        return bool(part.only or part.freeze)

    def begin(self, index: int) -> None:
        """Freeze what does not learn in a phase, and free what does.

        Args:
            index: of the phase, 0 for the first.
        """
        self.index, part = index, self.parts[index]
        for name, parameter in self.named.items():
            parameter.requires_grad_(_learns(part, name))
        known = {id(parameter) for parameter in self.named.values()}
        self.still = [
            module for root in self.roots for module in root.modules() if _is_still(module, known)
        ]

    def keep_still(self) -> None:
        """Put what is frozen into eval mode: its running statistics stay as they are."""
        for module in self.still:
            module.eval()


def rate_factor(recipe: Recipe, epoch: int, done: float) -> float:
    """Return what the learning rates are multiplied by; schedules begin anew in every phase.

    Args:
        recipe: the run.
        epoch: in progress, 1 for the first.
        done: share of it.
    """
    index, before = recipe.train.phase_of(epoch)
    return recipe.schedule.factor(epoch - 1 - before + done, recipe.train.parts[index].epochs)


def _learns(part: Phase, name: str) -> bool:
    is_chosen = not part.only or any(matches(name, path) for path in part.only)
    return is_chosen and not any(matches(name, path) for path in part.freeze)


def _is_still(module: nn.Module, known: set[int]) -> bool:
    """Return whether a module has parameters of its own, and this phase freezes them all."""
    own = [p for p in module.parameters(recurse=False) if id(p) in known]
    return bool(own) and not any(p.requires_grad for p in own)
