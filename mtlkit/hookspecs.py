"""Every hook, in the order in which a run calls them.

A plugin is a module (or object) with functions of these names, marked with `@mtlkit.hookimpl`.
Search for `mtlkit_` to find every use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from mtlkit.contracts import (
        Architecture,
        AuxiliaryLoss,
        Dataset,
        Edge,
        Encoder,
        Task,
        Weighting,
    )
    from mtlkit.engine import Run
    from mtlkit.records import EpochRecord, Outcome, StepRecord
    from mtlkit.structures import MetricSpec

hookspec = pluggy.HookspecMarker("mtlkit")
hookimpl = pluggy.HookimplMarker("mtlkit")


@hookspec
def mtlkit_encoders() -> list[type[Encoder]]:  # type: ignore[empty-body]
    """Return encoder classes; called once, before the recipe is checked."""


@hookspec
def mtlkit_architectures() -> list[type[Architecture]]:  # type: ignore[empty-body]
    """Return architecture classes; called once, before the recipe is checked."""


@hookspec
def mtlkit_datasets() -> list[type[Dataset]]:  # type: ignore[empty-body]
    """Return data set classes; called once, before the recipe is checked."""


@hookspec
def mtlkit_tasks() -> list[type[Task]]:  # type: ignore[empty-body]
    """Return task classes; called once, before the recipe is checked."""


@hookspec
def mtlkit_edges() -> list[type[Edge]]:  # type: ignore[empty-body]
    """Return edge classes; called once, before the recipe is checked."""


@hookspec
def mtlkit_auxiliary_losses() -> list[type[AuxiliaryLoss]]:  # type: ignore[empty-body]
    """Return auxiliary loss classes; called once, before the recipe is checked."""


@hookspec
def mtlkit_weightings() -> list[type[Weighting]]:  # type: ignore[empty-body]
    """Return weighting classes; called once, before the recipe is checked."""


@hookspec
def mtlkit_metrics(name: str, task: Task) -> dict[str, MetricSpec]:  # type: ignore[empty-body]
    """Return new metrics to add to the task's own; called per task, at each evaluation anew.

    Args:
        name: the task's key in the recipe.
        task: the task.
    """


@hookspec
def mtlkit_run_start(run: Run) -> None:
    """Be told that a run begins; `run.track(object)` adds an object with hooks for this run only.

    Args:
        run: the run, with its folder, recipe, model and counts of steps and epochs.
    """


@hookspec
def mtlkit_step_end(run: Run, step: StepRecord) -> None:
    """Be told that an optimizer step is done; `step.metrics` is None unless a line is due.

    Args:
        run: the run.
        step: its number, epoch, images, and on logging steps the mean losses since the last line.
    """


@hookspec
def mtlkit_epoch_end(run: Run, epoch: EpochRecord) -> None:
    """Be told that an epoch and its validation are done.

    Args:
        run: the run.
        epoch: its number, step and metrics of training and validation.
    """


@hookspec
def mtlkit_run_end(run: Run, outcome: Outcome) -> None:
    """Be told how the run ended; called also after an interrupt or an error.

    Args:
        run: the run.
        outcome: its status, last step and metrics.
    """
