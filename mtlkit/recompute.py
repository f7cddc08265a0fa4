"""Maps that are not kept for the backward pass but computed again in it, and batch norms then."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

Around = Callable[[], contextlib.AbstractContextManager[Any]]


def recomputed(module: nn.Module, *inputs: Any, around: Around = contextlib.nullcontext) -> Tensor:
    """Return what a module gives; its inner maps are computed again in the backward pass.

    The second time, dropout draws as it did and running statistics stay as they are.

    Args:
        module: returns one tensor.
        inputs: of the module.
        around: makes the context that the module runs in, both times.
    """

    def run(*given: Any) -> Any:
        with around():
            return module(*given)

    if not torch.is_grad_enabled():
        result: Tensor = run(*inputs)
        return result

    def contexts() -> tuple[Any, Any]:
        return contextlib.nullcontext(), _statistics_unmoved(module)

    found: Tensor = checkpoint(run, *inputs, use_reentrant=False, context_fn=contexts)
    return found


@contextlib.contextmanager
def statistics_kept(module: nn.Module) -> Iterator[None]:
    """Keep running statistics as they are; batch norms in training mode go on with their batch's.

    Args:
        module: may hold batch norms.
    """
    norms = _tracking(module)
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True


@contextlib.contextmanager
def _statistics_unmoved(module: nn.Module) -> Iterator[None]:
    """The same for a pass that must keep as many tensors as the one that it repeats.

    So batch norms are handed their statistics, and move them by nothing.
    """
    norms = [(norm, norm.momentum, norm.num_batches_tracked) for norm in _tracking(module)]
    for norm, _, batches in norms:  # the count is copied: synced batch norms insist on one
        norm.momentum = 0.0
        norm.num_batches_tracked = None if batches is None else batches.clone()
    try:
        yield
    finally:
        for norm, momentum, batches in norms:
            norm.momentum, norm.num_batches_tracked = momentum, batches


def _tracking(module: nn.Module) -> list[_BatchNorm]:
    norms = [part for part in module.modules() if isinstance(part, _BatchNorm)]
    return [norm for norm in norms if norm.track_running_stats]
