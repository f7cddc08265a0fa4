"""Metrics and mean losses over a split."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import torch
import torchmetrics
from torch import Tensor

from mtlkit.contracts import Balancer
from mtlkit.data import Batch
from mtlkit.device import Placement, autocast, move
from mtlkit.errors import Fault, suggest
from mtlkit.objective import Objective
from mtlkit.recipe import Recipe
from mtlkit.structures import LABEL_UNIT, Label, Losses, MetricSpec


@dataclass(frozen=True)
class Direction:
    """How to read a number: its unit and which way is better."""

    unit: str
    higher_is_better: bool


def task_metrics(recipe: Recipe) -> dict[str, dict[str, MetricSpec]]:
    """Return new metrics of every evaluated task, with those that plugins add.

    Args:
        recipe: the run.
    """
    found: dict[str, dict[str, MetricSpec]] = {}
    for name, task in recipe.tasks.items():
        if not task.evaluate:
            continue
        added = recipe.loaded.manager.hook.mtlkit_metrics(name=name, task=task)
        specs = dict(task.metrics())
        for extra in added:
            specs |= extra
        unit = recipe.data.offers[task.reads[0]].unit
        found[name] = {
            key: replace(spec, unit=unit if spec.unit == LABEL_UNIT else spec.unit)
            for key, spec in specs.items()
        }
    return found


def directions(recipe: Recipe) -> dict[str, Direction]:
    """Return unit and direction of every number that validation gives, by name.

    Args:
        recipe: the run.
    """
    known = {
        f"{task}/{key}": Direction(spec.unit, spec.higher_is_better)
        for task, specs in task_metrics(recipe).items()
        for key, spec in specs.items()
    }
    losses = ["total", *recipe.tasks]
    return known | {f"loss/{name}": Direction("", False) for name in losses}


def keep_best_faults(recipe: Recipe) -> Iterator[Fault]:
    """Yield a fault for a metric that validation does not give, or the wrong direction.

    Args:
        recipe: the run.
    """
    keep = recipe.train.keep_best
    if keep is None:
        return
    known = directions(recipe)
    if keep.metric not in known:
        message = f"no metric is called {keep.metric!r}; {suggest(keep.metric, known)}"
        yield recipe.fault(("train", "keep_best", "metric"), message)
        return
    mode = "max" if known[keep.metric].higher_is_better else "min"
    if keep.mode != mode:
        message = f"{keep.metric} is best at its {mode}. Write {mode}"
        yield recipe.fault(("train", "keep_best", "mode"), message)


def loss_values(losses: Losses, total: Tensor) -> dict[str, Tensor]:
    """Return every loss of a batch under the name that it is logged by.

    Args:
        losses: of the batch; tasks without any term are left out.
        total: what the step minimises.
    """
    values = {"loss/total": total}
    values |= {f"loss/{n}": x.detach() for n, x in losses.tasks.items() if n in losses.present}
    return values | {f"loss/{name}": x for name, x in losses.terms.items()}


class Evaluation:
    """Metrics and mean losses of one pass over a split.

    Args:
        recipe: the run.
        objective: on its device.
        balancer: gives the total.
        placement: device and precision.
    """

    def __init__(
        self, recipe: Recipe, objective: Objective, balancer: Balancer, placement: Placement
    ) -> None:
        self.recipe, self.objective, self.balancer = recipe, objective, balancer
        self.placement = placement

    @torch.no_grad()
    def __call__(self, batches: Iterable[Batch]) -> dict[str, float]:
        """Return numbers by name; a metric for which nothing was valid is left out.

        Args:
            batches: of the split, on any device.
        """
        modules = (self.objective, self.balancer)
        training = [module.training for module in modules]
        for module in modules:
            module.eval()
        try:
            return self._run(batches)
        finally:
            for module, mode in zip(modules, training, strict=True):
                module.train(mode)

    def _run(self, batches: Iterable[Batch]) -> dict[str, float]:
        metrics = {
            f"{task}/{key}": spec.metric.to(self.placement.device)
            for task, specs in task_metrics(self.recipe).items()
            for key, spec in specs.items()
        }
        sums: dict[str, Tensor] = {}
        images: dict[str, int] = {}
        for batch in batches:
            batch = move(batch, self.placement.device)
            with autocast(self.placement):
                losses = self.objective(batch)
            present = {n: x for n, x in losses.tasks.items() if n in losses.present}
            total = self.balancer.total(present) if present else next(iter(losses.tasks.values()))
            for name, value in loss_values(losses, total).items():
                sums[name] = sums.get(name, 0) + value.double() * len(batch.image)
                images[name] = images.get(name, 0) + len(batch.image)
            self._update(metrics, losses, batch)
        found = {name: float(value) / images[name] for name, value in sums.items()}
        return found | _computed(metrics)

    def _update(
        self, metrics: Mapping[str, torchmetrics.Metric], losses: Losses, batch: Batch
    ) -> None:
        labels: dict[str, Label | None] = {
            name: task.read(batch.labels) for name, task in self.recipe.tasks.items()
        }
        for key, metric in metrics.items():
            task = key.partition("/")[0]
            label = labels[task]
            if label is not None:
                metric.update(losses.output.predictions[task].float(), label)


def _computed(metrics: Mapping[str, torchmetrics.Metric]) -> dict[str, float]:
    values = {key: metric.compute() for key, metric in metrics.items() if metric.update_called}
    numbers = {key: float(value) for key, value in values.items()}
    return {key: number for key, number in numbers.items() if number == number}
