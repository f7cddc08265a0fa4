"""What loss-level methods share: their order of tasks, and logarithms of losses."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Logs(NamedTuple):
    """Logarithms of losses.

    Args:
        values: log L, 0 where not usable, (T,), float64.
        usable: which losses are above 0 and finite, (T,), bool.
    """

    values: Tensor
    usable: Tensor


def logs_of(losses: Tensor) -> Logs:
    """Return the logarithms of losses; no derivative reaches those that have none.

    Args:
        losses: (T,), float.
    """
    usable = losses.isfinite() & (losses > 0)
    return Logs(torch.where(usable, losses, 1.0).double().log(), usable)


def softmax_over(usable: Tensor, logits: Tensor) -> Tensor:
    """Return the softmax of the usable logits, (T,); the others get 0, all of them if none is.

    Args:
        usable: (T,), bool.
        logits: (T,), float, finite.
    """
    lowest = torch.finfo(logits.dtype).min  # -inf would give NaN where none is usable
    return torch.where(usable, logits, lowest).softmax(0) * usable


def index_of(tasks: Iterable[str], names: Sequence[str], like: Tensor) -> Tensor:
    """Return the tasks' places among all names, (T,), int64.

    Args:
        tasks: present in this step.
        names: of all tasks.
        like: a buffer of the balancer, for the device.
    """
    found = torch.tensor([names.index(task) for task in tasks], dtype=torch.int64)
    return found.to(like.device, non_blocking=True)
