"""A step waits for the device only where it must: counted on the CPU, as if half of it were one.

What learns and the batches count as the device's, and so does all that is computed from them, until
it is copied to the host.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import mtlkit
import mtlkit_plugins
from mtlkit.contracts import GradientBalancer
from mtlkit.draws import Draws

WAITING = {
    "_linalg_check_errors", "_linalg_eigh", "_linalg_svd", "_local_scalar_dense", "_unique",
    "_unique2", "allclose", "bincount", "equal", "is_nonzero", "masked_select", "nonzero",
    "repeat_interleave", "unique_consecutive", "unique_dim",
}  # fmt: skip
INDEXING = ("index", "index_put", "index_put_", "_index_put_impl_")  # they look for a mask's Trues
TO_THE_HOST = ("cpu", "tolist", "numpy")
OURS = (*mtlkit.__path__, *mtlkit_plugins.__path__)
HOST_MASKS = "denominators.py"
"""Counts masks before the device has them; here both have the same."""
WARM = 2
"""Steps before those that are looked at: by then each edge was drawn, and the log knows it."""


class Waits(TorchDispatchMode):
    """Counts what the host has to wait for: what is asked of the device's tensors, and copies.

    What is made of nothing, as zeros are, may be on either side.

    Args:
        monkeypatch: for methods of tensors that do nothing on the CPU, so that no mode sees them.
        there: what the device has.
        here: what the host has.
    """

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, there: Iterable[Tensor], here: Iterable[Tensor] = ()
    ) -> None:
        super().__init__()
        self.found: list[str] = []
        self.are_there = {storage_of(x): True for x in there} | {storage_of(x): False for x in here}
        for name in TO_THE_HOST:
            monkeypatch.setattr(Tensor, name, self._copying(name, getattr(Tensor, name)))
        monkeypatch.setattr(Tensor, "to", self._moving(Tensor.to))

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        name, given = func.overloadpacket.__name__, tree_leaves((args, kwargs))
        places = {False} if name == "lift_fresh" else {self.is_there(x) for x in given}
        if True in places and (name in WAITING or (name in INDEXING and has_mask(args[1]))):
            self.note(name)
        made = func(*args, **(kwargs or {}))
        for x in tree_leaves(made):
            self.put(x, True if True in places else False if False in places else None)
        return made

    def is_there(self, x: object) -> bool | None:
        """Return whether the device has it; None: not known, or no tensor."""
        return self.are_there.get(storage_of(x)) if isinstance(x, Tensor) else None

    def put(self, x: object, is_there: bool | None) -> None:
        """Keep in mind where a tensor is; another may have been in the same memory."""
        if isinstance(x, Tensor):
            self.are_there.pop(storage_of(x), None)
            self.are_there |= {} if is_there is None else {storage_of(x): is_there}

    def note(self, name: str) -> None:
        """Count a wait, but for masks that are still the host's."""
        if not innermost_file().endswith(HOST_MASKS):
            self.found.append(name)

    def _copying(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def copied(x: Tensor, *args: Any, **kwargs: Any) -> Any:
            if not self.is_there(x):
                return method(x, *args, **kwargs)
            self.note(name)
            return self._placed(x, False) if name == "cpu" else method(x, *args, **kwargs)

        return copied

    def _moving(self, method: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def moved(x: Tensor, *args: Any, non_blocking: bool = False, **kwargs: Any) -> Tensor:
            made = method(x, *args, non_blocking=non_blocking, **kwargs)
            ends = [self._end(y) for y in (*args, *kwargs.values())]
            before, after = self.is_there(x), next((end for end in ends if end is not None), None)
            if None in (before, after) or before == after:
                return made
            if not non_blocking:
                self.note("to")
            return self._placed(made, bool(after))

        return moved

    def _end(self, place: object) -> bool | None:
        """Return whether an argument of `to` means the device; None: it means no place."""
        return True if isinstance(place, torch.device) else self.is_there(place)

    def _placed(self, x: Tensor, is_there: bool) -> Tensor:
        copy = x.clone()
        self.put(copy, is_there)
        return copy


def storage_of(x: Tensor) -> int:
    """Return what tensors have in common that share memory."""
    return int(x.untyped_storage()._cdata)


def has_mask(indices: Iterable[Tensor | None]) -> bool:
    """Return whether an index is a mask, of which nobody knows how much it selects."""
    return any(x is not None and x.dtype == torch.bool for x in indices)


def innermost_file() -> str:
    """Return the file of mtlkit, or of its plugins, that calls; else ""."""
    frame: Any = sys._getframe()
    while frame is not None:
        if frame.f_code.co_filename.startswith(OURS):
            return str(frame.f_code.co_filename)
        frame = frame.f_back
    return ""


def on_the_device(run: mtlkit.Run, batches: Sequence[mtlkit.Batch]) -> Iterator[Tensor]:
    """Yield what a device has: what learns, the log's sums and the batches."""
    learner, host = run.learner, {storage_of(x) for x in on_the_host(run)}
    yield from itertools.chain(learner.objective.parameters(), learner.objective.buffers())
    yield from learner.balancer.parameters()
    yield from (x for x in learner.balancer.buffers() if storage_of(x) not in host)
    for monitor in (learner.monitor, learner.numbers):
        yield from (monitor.line, monitor.epoch, monitor.first_bad)
    for batch in batches:
        yield batch.image
        yield from (x for label in batch.labels.values() for x in (label.value, label.valid))


def on_the_host(run: mtlkit.Run) -> Iterator[Tensor]:
    """Yield what only the host has: what a balancer at gradient level keeps, and seeds."""
    for module in run.learner.balancer.modules():
        if isinstance(module, GradientBalancer | Draws):
            yield from (x for x in module.buffers() if x.dtype in (torch.int64, torch.float64))


@pytest.fixture
def waits_of(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    def found(**settings: Any) -> list[str]:
        """Return the waits of two steps in a run, with lines of the log far away."""
        changes = {key.replace("__", "."): value for key, value in settings.items()}
        recipe = mtlkit.load_recipe(tiny, {"train.log_every": 99, **changes}, blocked=["progress"])
        run = mtlkit.Run(recipe)
        batches = itertools.cycle(run.loader("train")[0])
        groups: Iterator[list[mtlkit.Batch]] = iter(
            lambda: list(itertools.islice(batches, recipe.train.accumulate)), []
        )
        for _ in range(WARM):
            run.step(*next(groups))
        two = [next(groups), next(groups)]
        waits = Waits(monkeypatch, on_the_device(run, [*two[0], *two[1]]), on_the_host(run))
        with waits:
            for group in two:
                run.step(*group)
        assert all(map(waits.is_there, run.model.parameters()))
        return waits.found

    return found


@pytest.mark.parametrize("method", ["uncertainty", "equal", "dwa", "famo", "imtl_l", "gls", "rlw"])
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


@pytest.mark.parametrize(
    "method",
    ["gradnorm", "mgda", "pcgrad", "nash_mtl", "upgrad", "graddrop", "db_mtl", "imtl"],
)
def test_a_step_at_gradient_level_waits_once(waits_of: Any, method: str) -> None:
    assert waits_of(weighting={"type": method}) == ["cpu", "cpu"]


def test_a_step_that_may_leave_something_out_has_to_know_what_is_a_number(waits_of: Any) -> None:
    losses, gradients = "tolist", "_local_scalar_dense"
    assert waits_of(train__on_nonfinite="skip_task") == [losses, gradients, losses, gradients]


@pytest.mark.parametrize(
    ("name", "act"),
    [
        ("cpu", lambda x: x.cpu()),
        ("tolist", lambda x: (2 * x).tolist()),
        ("numpy", lambda x: x.detach().numpy()),
        ("_local_scalar_dense", lambda x: bool(x.sum() > 0)),
        ("_local_scalar_dense", lambda x: x[0].item()),
        ("index", lambda x: x[x > 0]),
        ("index_put_", lambda x: x.clone().__setitem__(x > 0, x[:1])),
        ("nonzero", lambda x: torch.where(x > 0)),
        ("masked_select", lambda x: x.masked_select(x > 0)),
        ("allclose", lambda x: torch.allclose(x, x)),
        ("equal", lambda x: torch.equal(x, x)),
        ("bincount", lambda x: torch.bincount(x.long())),
        ("_unique2", lambda x: x.unique()),
        ("_linalg_check_errors", lambda x: torch.linalg.inv(x.diag())),
        ("to", lambda x: torch.tensor([1.0]).to(x)),
        ("to", lambda x: x.to(torch.tensor([1.0]))),
    ],
)
def test_the_host_is_seen_to_wait(
    monkeypatch: pytest.MonkeyPatch, name: str, act: Callable[[Tensor], object]
) -> None:
    x = torch.ones(3)
    with Waits(monkeypatch, [x]) as waits:
        act(x)
    assert waits.found == [name]


@pytest.mark.parametrize(
    "act",
    [
        lambda x: (torch.tensor([1.0]) * 2).tolist(),
        lambda x: torch.zeros(3)[torch.ones(3) > 0].numpy(),
        lambda x: torch.rand_like(x).to(x),
        lambda x: torch.rand(3).to(x),
        lambda x: torch.tensor([1.0]).to(x, non_blocking=True),
        lambda x: x.to(torch.float64),
        lambda x: x.index_select(0, x.argsort()),
        lambda x: torch.where(x > 0, x, 0).mean(),
    ],
)
def test_nothing_is_seen_where_the_host_goes_on(
    monkeypatch: pytest.MonkeyPatch, act: Callable[[Tensor], object]
) -> None:
    x = torch.ones(3)
    with Waits(monkeypatch, [x]) as waits:
        act(x)
    assert not waits.found
