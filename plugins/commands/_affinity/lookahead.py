"""One step along one loss, what it does to every task's validation loss, and the way back."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from mtlkit.engine import Run
from mtlkit.errors import DivergedError, MissingError, UsageError
from mtlkit.recompute import statistics_kept
from mtlkit.structures import Batch, Losses

from .._doctor.moment import Moment
from .chart import Chart, Reading
from .pulls import Gradient, Pull, Puller, cosine, norm, of_mean_log, shared

STEP = 0.001  # by which a step along the tasks' own gradient lowers their losses, to first order


class Lookahead:
    """Tries steps at the present point of a training, and goes back.

    Z = 1 - L(after the step) / L(before) is measured for every task: its direct loss, on the same
    validation batches, in evaluation mode but for batch norms, which go by each batch. Running
    statistics do not follow a step, and lag behind the training itself: with them the same edges
    had up to five times the standard error, and some the other sign. A step goes along the gradient
    of one edge's loss on a training batch and moves the architecture alone, for transfer networks
    predict no task.

    All steps of a probe are equally long. The gradients of edges differ in length by orders of
    magnitude, with λ, the unit of the loss and how far the transfer network has come: at the run's
    own learning rate the numbers would show that length and hardly the direction, and those of a
    small edge would drown in rounding. The tasks set the length: a step of it along the gradient of
    the mean of log L of their direct losses lowers these by 1 ‰ to first order. So an effect
    compares with 1 ‰, and with what that very step does (`Chart.own`). At 1 % curvature took half
    of it; below 1 ‰ rounding would show. The moments of Adam have no part: they are those of all
    losses together.

    Args:
        run: whose weights are tried; every probe leaves it as it was, bit for bit.
        validation: batches that losses are measured on, on any device.

    Source: task affinity, arXiv 2109.04617, eq. 1; released code, tag/taskonomy/tag.patch, whose
    step has the run's learning rate and weight decay, moves shared weights alone, and is measured
    on the training batch itself.
    """

    def __init__(self, run: Run, validation: Sequence[Batch]) -> None:
        self.learner, self.objective = run.learner, run.objective
        modules = run.model.architecture.modules()
        self.norms = [x for x in modules if isinstance(x, nn.modules.batchnorm._BatchNorm)]
        self.validation = self.ready(validation)

    def probe(self, batches: Sequence[Batch], chart: Chart) -> Iterator[None]:
        """Try a step along the tasks' own losses and one along each edge, yielding after each.

        Args:
            batches: of one training step, on any device.
            chart: gets what is measured.

        Raises:
            DivergedError: a loss or a gradient is no number.
            MissingError: there is no label to measure a loss with.
            UsageError: the architecture is frozen.
        """
        here = Moment.of(self.learner)
        try:
            ready = self.ready(batches)
            puller = Puller(self.learner)
            point = self._point(puller, ready)
            chart.losses.append(point.losses)
            chart.own.append(self._reading(point.own, point, here))
            yield
            for edge in chart.edges:
                here.restore(self.learner)  # the same random numbers for every edge
                pull = puller.of_edge(ready, edge)
                if pull is not None:
                    reading = self._reading(pull.gradient, point, here)
                    chart.readings.setdefault(edge.key, []).append(reading)
                yield
        finally:
            here.restore(self.learner)

    def validation_losses(self) -> dict[str, float]:
        """Return each task's direct loss on the validation batches; left out without a label."""
        self.objective.eval()
        for layer in self.norms:
            layer.train()
        sums: dict[str, float] = {}
        with torch.no_grad(), statistics_kept(self.objective):
            for batch in self.validation:
                losses: Losses = self.objective(batch, {})
                for task in self.objective.model.tasks:
                    value = losses.terms.get(f"{task}/direct")
                    if value is not None:  # its denominator is that of all batches
                        sums[task] = sums.get(task, 0.0) + float(value) / len(self.validation)
        return sums

    def ready(self, batches: Sequence[Batch]) -> Sequence[Batch]:
        """Return batches on the device, with the denominators of all of them together.

        Args:
            batches: of a training step, or all that losses are measured on.
        """
        return self.learner.ready(batches)

    def _point(self, puller: Puller, batches: Sequence[Batch]) -> _Point:
        if not puller.weights:
            raise UsageError(
                "train.phases freezes the architecture where the first probe is, so that no step "
                "changes a prediction. Reach a later phase with a longer --warm-up"
            )
        losses = {task: x for task, x in self.validation_losses().items() if x != 0}
        pulls = puller.of_tasks(batches)
        values = [*losses.values(), *(pull.value for pull in pulls.values())]
        _refuse_no_number(values, "the tasks' losses")
        own = of_mean_log(pulls.values())
        size = norm(own)
        if not losses:
            raise MissingError("no validation batch has a label. Look at more: --val-batches")
        if size == 0:
            raise MissingError("a training batch has no label. Write a larger loader.batch_size")
        _refuse_no_number([size], "the gradient of the tasks' losses")
        return _Point(puller.weights, losses, pulls, own, STEP / size)

    def _reading(self, along: Gradient, point: _Point, here: Moment) -> Reading:
        """Take a step, measure, go back."""
        gradients = {task: pull.gradient for task, pull in point.pulls.items()}
        chosen, size = shared(gradients.values()), norm(along)
        found = {task: cosine(along, x, chosen) for task, x in gradients.items()}
        cosines = {task: x for task, x in found.items() if x is not None}
        if size == 0:
            return Reading(dict.fromkeys(point.losses, 0.0), cosines, is_still=True)
        _refuse_no_number([size], "the gradient of an edge")
        _step(point.weights, along, point.length / size)
        after = self.validation_losses()
        here.restore(self.learner)
        _refuse_no_number([after[task] for task in point.losses], "the losses after a step")
        effects = {task: (x - after[task]) / abs(x) for task, x in point.losses.items()}
        return Reading(effects, cosines)


@dataclass(frozen=True)
class _Point:
    """Where steps begin.

    Args:
        weights: that a step moves.
        losses: by task, on the validation batches.
        pulls: by task, on the training batches.
        own: gradient of the mean of log L.
        length: of every step.
    """

    weights: Sequence[nn.Parameter]
    losses: dict[str, float]
    pulls: Mapping[str, Pull]
    own: Gradient
    length: float


@torch.no_grad()
def _step(weights: Sequence[nn.Parameter], along: Gradient, factor: float) -> None:
    for weight, slope in zip(weights, along, strict=True):
        if slope is not None:
            weight.sub_(factor * slope)


def _refuse_no_number(values: Sequence[float], what: str) -> None:
    if not all(map(math.isfinite, values)):
        raise DivergedError(f"{what}: not finite. `mtlkit doctor` finds where it comes from")
