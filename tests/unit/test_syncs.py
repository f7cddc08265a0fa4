"""A step waits for the device only where it must: counted on the CPU, by operators that wait."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import mtlkit

WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "_unique2", "equal", "is_nonzero")
ON_THE_HOST = ("gradients/solution.py", "contracts/gradient.py", "denominators.py")
"""Where tensors lie in the host's memory on any device: T×T systems, what balancers at gradient
level keep, and masks before they move."""


class Waits(TorchDispatchMode):
    """Counts operators whose result the host has to know, and copies to the host."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.found: list[str] = []
        self.on_the_host = 0
        copy = torch.Tensor.cpu

        def noted(x: torch.Tensor) -> torch.Tensor:
            self.found.append("cpu")
            return copy(x)

        monkeypatch.setattr(torch.Tensor, "cpu", noted)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        name = func.overloadpacket.__name__
        has_mask = name == "index" and any(x is not None and x.dtype == torch.bool for x in args[1])
        if name in WAITING or has_mask:
            if is_on_the_host():
                self.on_the_host += 1
            else:
                self.found.append(name)
        return func(*args, **(kwargs or {}))


def is_on_the_host() -> bool:
    """Return whether one of those who call computes with the host's tensors."""
    frame: Any = sys._getframe()
    while frame is not None:
        if frame.f_code.co_filename.endswith(ON_THE_HOST):
            return True
        frame = frame.f_back
    return False


@pytest.fixture
def waits_of(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    def found(**settings: Any) -> list[str]:
        """Return the waits of two steps after the first, with lines of the log far away."""
        changes = {key.replace("__", "."): value for key, value in settings.items()}
        recipe = mtlkit.load_recipe(tiny, {"train.log_every": 99, **changes}, blocked=["progress"])
        run = mtlkit.Run(recipe)
        batches = itertools.cycle(run.loader("train")[0])
        groups: Iterator[list[mtlkit.Batch]] = iter(
            lambda: list(itertools.islice(batches, recipe.train.accumulate)), []
        )
        run.step(*next(groups))
        two = [next(groups), next(groups)]
        waits = Waits(monkeypatch)
        with waits:
            for group in two:
                run.step(*group)
        assert waits.on_the_host  # or nothing would be seen
        return waits.found

    return found


@pytest.mark.parametrize("method", ["uncertainty", "equal", "dwa", "famo", "imtl_l", "gls"])
def test_no_step_at_loss_level_waits_for_the_device(waits_of: Any, method: str) -> None:
    assert waits_of(weighting={"type": method}) == []


@pytest.mark.parametrize(
    "settings",
    [
        {"train__accumulate": 3},
        {"train__clip": 1.0},
        {"train__edges_per_step": 1},
        {"train__memory": "checkpoint"},
        {"train__precision": "bf16"},
    ],
    ids=str,
)
def test_nor_does_one_with_a_choice_of_training(waits_of: Any, settings: dict[str, Any]) -> None:
    assert waits_of(**settings) == []


@pytest.mark.parametrize("method", ["gradnorm", "mgda", "pcgrad", "nash_mtl", "upgrad"])
def test_a_step_at_gradient_level_waits_once(waits_of: Any, method: str) -> None:
    assert waits_of(weighting={"type": method}) == ["cpu", "cpu"]
