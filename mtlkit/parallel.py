"""The objective in several processes at loss level: torch's DDP reduces gradients as they come."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from mtlkit.device import has_synced_norms
from mtlkit.errors import UsageError
from mtlkit.gradients import Backward, LossLevel
from mtlkit.objective import Objective
from mtlkit.ranks import Ranks
from mtlkit.structures import Batch, EdgeKey, Losses

_OPTIONS = inspect.signature(DistributedDataParallel).parameters
KEEPS_BUFFERS = next(n for n in ("forward_sync_buffers", "broadcast_buffers") if n in _OPTIONS)
"""The option of DDP that, where False, leaves buffers alone; newer releases renamed it."""


class Parallel:
    """Runs an objective so that all ranks get the same gradients.

    At loss level DDP reduces gradients while the pass goes on. At gradient level the passes reduce
    rows and gradients themselves, so there is no DDP: it would reduce the sum of the rows.

    Args:
        objective: on its device; all ranks get the first one's parameters and buffers.
        backward: of the run.
        ranks: the processes.
    """

    def __init__(self, objective: Objective, backward: Backward, ranks: Ranks) -> None:
        self.objective, self.backward, self.ranks = objective, backward, ranks
        self.reduced: DistributedDataParallel | None = None
        ranks.begin_alike(objective)
        learns = any(parameter.requires_grad for parameter in objective.parameters())
        if ranks.count > 1 and isinstance(backward, LossLevel) and learns:
            # what a step's present tasks do not reach keeps its gradient None, as on one rank
            options: dict[str, Any] = {"find_unused_parameters": True, KEEPS_BUFFERS: False}
            self.reduced = DistributedDataParallel(_Passed(objective), **options)

    def __call__(
        self, batch: Batch, drawn: Mapping[EdgeKey, float] | None, is_last: bool
    ) -> Losses:
        """Return the losses of a batch.

        Args:
            batch: of this rank, on the device.
            drawn: factors of the edges that run; None: all, by 1.
            is_last: whether it ends the step, so that gradients are reduced.
        """
        if self.reduced is None:
            losses: Losses = self.objective(batch, drawn)
            return losses
        with contextlib.nullcontext() if is_last else self.reduced.no_sync():
            passed: dict[str, Tensor] = self.reduced(batch, drawn)
        module = self.reduced.module
        assert isinstance(module, _Passed) and module.losses is not None
        losses, module.losses = module.losses, None
        tasks = {name: passed.get(f"task/{name}", loss) for name, loss in losses.tasks.items()}
        return replace(losses, tasks=tasks, own=passed.get("own"))

    def finish(self) -> None:
        """Reduce the step's gradients where DDP did not: no task of the last batch was finite.

        What is left out is decided by means over the ranks, so it is the same on all of them.
        """
        if self.reduced is None or not isinstance(self.backward, LossLevel):
            return
        if not self.backward.has_passed:
            learned = [p for p in self.objective.parameters() if p.grad is not None]
            self.ranks.mean_gradients_(learned)


def weighed(losses: Losses, weight: float) -> Losses:
    """Return losses of which what is passed back is multiplied by a weight.

    Args:
        losses: of a batch.
        weight: 1 but in the last step of an epoch; 0 where another rank counts the batch.
    """
    if weight == 1:
        return losses
    own = None if losses.own is None else weight * losses.own
    return replace(losses, tasks={n: weight * x for n, x in losses.tasks.items()}, own=own)


def synced(objective: Objective, device: torch.device, ranks: Ranks) -> None:
    """Let batch norms see the batches of all ranks; names and values of weights stay.

    Args:
        objective: on its device; with one rank nothing changes.
        device: where it computes.
        ranks: the processes.

    Raises:
        UsageError: there are several ranks and no GPUs.
    """
    if ranks.count == 1:
        return
    if not has_synced_norms(device):
        raise UsageError(
            f"train.sync_batchnorm: torch has it for GPUs alone, and this run computes on {device}."
            " Write false"
        )
    nn.SyncBatchNorm.convert_sync_batchnorm(objective)  # type: ignore[no-untyped-call]


class _Passed(nn.Module):
    """Returns only what is passed back, so that DDP expects no gradient of anything else."""

    def __init__(self, objective: Objective) -> None:
        super().__init__()
        self.objective = objective
        self.losses: Losses | None = None

    def forward(self, batch: Batch, drawn: Mapping[EdgeKey, float] | None) -> dict[str, Tensor]:
        self.losses = losses = self.objective(batch, drawn)
        passed = {f"task/{n}": x for n, x in losses.tasks.items() if n in losses.present}
        return passed if losses.own is None else passed | {"own": losses.own}
