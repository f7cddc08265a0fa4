"""What a run tells its trackers: plain numbers, no tensors."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

WEIGHTING = "weighting/"
"""What the names of a weighting's own numbers begin with."""
IMAGES_PER_SECOND, MFU = "images_per_second", "mfu"
"""Numbers of `StepRecord.speed`; the others are shares of the time.

MFU is model FLOPs utilization: what the steps need, over what the device could do in that time.
"""


@dataclass
class Position:
    """Where a run stands.

    Args:
        epoch: the epoch in progress, 1 for the first.
        batch: its batches that are done.
        step: steps done since the run began.
    """

    epoch: int = 1
    batch: int = 0
    step: int = 0


@dataclass(frozen=True)
class StepRecord:
    """One optimizer step.

    Args:
        step: steps done since the run began, 1 for the first.
        epoch: the epoch that it belongs to, 1 for the first.
        images: in the step, of all ranks.
        metrics: on logging steps, means over the steps since the last line; None on the others.
        speed: on logging steps, of the steps since the last line: `images_per_second`, of all
            ranks; the share of the time of each phase, 0 to 1, which sum to 1; `mfu`, above 0.
            Empty on the others.
    """

    step: int
    epoch: int
    images: int
    metrics: dict[str, float] | None
    speed: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class EpochRecord:
    """One epoch: its number, its last step and its metrics.

    Args:
        epoch: 1 for the first.
        step: steps done.
        train: mean training losses.
        val: metrics and mean losses of the validation split.
        is_best: whether `train.keep_best` improved.
        skipped: how often samples were skipped in the epoch and its validation, by reason.
        notes: what to know of it, a line each.
    """

    epoch: int
    step: int
    train: dict[str, float]
    val: dict[str, float]
    is_best: bool
    skipped: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Args:
        status: what happened.
        step: steps done.
        epoch: epochs finished.
        last: metrics of the last epoch.
        best: metrics of the best epoch, empty if nothing was kept.
        best_epoch: its number, 0 if nothing was kept.
    """

    status: Literal["done", "interrupted", "diverged", "failed"]
    step: int
    epoch: int
    last: dict[str, float] = field(default_factory=dict)
    best: dict[str, float] = field(default_factory=dict)
    best_epoch: int = 0
