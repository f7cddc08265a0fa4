"""What several tasks need: full precision for losses, and a word about a label of another kind."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from mtlkit.contracts import Task

if TYPE_CHECKING:
    from mtlkit.recipe import Recipe

ABSENT = 1e-6
"""Probability of what a label excludes: its logarithm must be finite."""


def precise(prediction: Tensor) -> Tensor:
    """Return the prediction in float32 at least.

    Args:
        prediction: float, of any precision.
    """
    return prediction.to(torch.promote_types(prediction.dtype, torch.float32))


def divergence(transferred: Tensor, prediction: Tensor) -> Tensor:
    """Return KL(prediction ‖ transferred) of each pixel, (N,1,H,W), in nats.

    Args:
        transferred: log-probabilities, (N,C,H,W), float.
        prediction: log-probabilities, (N,C,H,W), float.
    """
    each = functional.kl_div(transferred, prediction, reduction="none", log_target=True)
    return each.sum(1, keepdim=True)


def kind_problems(task: Task, recipe: Recipe, kind: type[Tensor], learns: str) -> Iterator[str]:
    """Yield that the task's label is of another kind; one not offered is the core's to tell.

    Args:
        task: reads one label.
        recipe: the whole recipe.
        kind: that the task can learn.
        learns: what it learns, in words.
    """
    name = task.reads[0]
    offered = recipe.offers.get(name)
    if offered is not None and not issubclass(offered.kind, kind):
        message = f"label {name!r} is of the kind {offered.kind.__name__}, and {task.type_name()} "
        yield f"{message}learns {learns}. Set `label` to one of the kind {kind.__name__}"
