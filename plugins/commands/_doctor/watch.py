"""Hooks on every module: who made the first number that is not finite, and which maps are dead."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

RECTIFIERS = (nn.ReLU, nn.ReLU6)


class Watch:
    """Looks at what modules read and return, whoever runs them.

    Args:
        root: its modules are watched, itself is not.
    """

    def __init__(self, root: nn.Module) -> None:
        self.suspect: str | None = None  # the first since `clear`
        self.called = set[str]()
        self.step = 1
        self.alive: dict[str, int] = {}  # rectifier: the last step in which anything was above 0
        for name, module in root.named_modules():
            if module is not root:
                module.register_forward_hook(partial(self._look, name), with_kwargs=True)

    def begin(self, step: int) -> None:
        """Forget the suspect.

        Args:
            step: its number, 1 for the first.
        """
        self.suspect, self.step = None, step

    @torch.no_grad()
    def _look(self, name: str, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        self.called.add(name)
        if isinstance(module, RECTIFIERS):
            is_alive = any(bool((x > 0).any()) for x in tensors_of(output))
            self.alive[name] = self.step if is_alive else self.alive.get(name, 0)
        # an inner module is done before the one that holds it, so the first is the innermost
        if self.suspect is None and not is_finite(output) and is_finite((args, kwargs)):
            self.suspect = name


def is_finite(value: Any) -> bool:
    """Return whether all numbers in it are finite.

    Args:
        value: a tensor, or anything that holds tensors.
    """
    return all(bool(x.isfinite().all()) for x in tensors_of(value) if x.is_floating_point())


def tensors_of(value: Any) -> Iterator[Tensor]:
    """Yield the tensors in a value: collections and dataclasses are opened.

    Args:
        value: any.
    """
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from tensors_of(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from tensors_of(part)
    elif is_dataclass(value):
        for one in fields(value):
            yield from tensors_of(getattr(value, one.name))
