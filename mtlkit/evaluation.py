"""Metrics and mean losses over a split."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import SupportsFloat

import torch
import torchmetrics
from torch import Tensor, nn

from mtlkit.ahead import ahead
from mtlkit.contracts import Balancer
from mtlkit.device import Placement, autocast, move
from mtlkit.errors import Fault, PluginError, suggest
from mtlkit.objective import Objective
from mtlkit.ranks import Ranks
from mtlkit.recipe import Recipe
from mtlkit.structures import LABEL_UNIT, Batch, Counts, Losses, MetricSpec, Output

Observer = Callable[[Batch, Output], None]


@dataclass(frozen=True)
class Direction:
    """How to read a number: its unit, which way is better, and whether it repeats another."""

    unit: str
    higher_is_better: bool
    repeats: bool = False


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
        for key, spec in specs.items():
            if not isinstance(spec, MetricSpec):
                raise PluginError(
                    f"task {name!r}: metric {key!r} is {type(spec).__name__}. Return a "
                    "mtlkit.MetricSpec of it, with unit and direction"
                )
        unit = next((recipe.offers[label].unit for label in task.reads), "")
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
        f"{task}/{key}": Direction(spec.unit, spec.higher_is_better, spec.repeats)
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


def loss_names(recipe: Recipe) -> dict[str, str]:
    """Return every name that a loss is logged by, parts before their sums, and its task.

    The task of an edge is the one by whose label it compares.

    Args:
        recipe: the run.
    """
    names = {f"{task}/direct": task for task in recipe.tasks}
    for edge in recipe.all_edges:
        names[edge.term] = edge.compared
    names |= {f"{loss.task}/{loss.type_name()}": loss.task for loss in recipe.auxiliary_losses}
    names |= {task: task for task in recipe.tasks}
    return {f"loss/{name}": task for name, task in names.items()}


def loss_values(losses: Losses) -> dict[str, Tensor]:
    """Return every loss of a batch but the total, under the name that it is logged by.

    Args:
        losses: of the batch; tasks without any term are left out.
    """
    values = {f"loss/{n}": x.detach() for n, x in losses.tasks.items() if n in losses.present}
    return values | {f"loss/{name}": x for name, x in losses.terms.items()}


class Evaluation:
    """Metrics and mean losses of one pass over a split, of what the tasks themselves predict.

    Args:
        recipe: the run.
        objective: on its device.
        balancer: gives the total.
        placement: device and precision.
        observer: gets every batch and what the model made of it, transferred predictions included;
            without one no transfer network runs.
    """

    def __init__(
        self,
        recipe: Recipe,
        objective: Objective,
        balancer: Balancer,
        placement: Placement,
        observer: Observer | None = None,
    ) -> None:
        self.recipe, self.objective, self.balancer = recipe, objective, balancer
        self.placement, self.observer = placement, observer

    @torch.no_grad()
    def __call__(self, batches: Iterable[Batch]) -> dict[str, float]:
        """Return numbers by name; a metric for which nothing was valid is left out.

        Args:
            batches: of the split, in the host's memory.
        """
        modules: tuple[nn.Module, ...] = (self.objective, self.balancer)
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
            task: collection_of(specs).to(self.placement.device)
            for task, specs in task_metrics(self.recipe).items()
        }
        means, tasks = _Means(), loss_names(self.recipe)
        device = self.placement.device
        for (here,) in ahead(batches, lambda batch: [move(batch, device)], device):
            with autocast(self.placement):
                losses = self.objective.judge(here, transfers=self.observer is not None)
            if self.observer is not None:
                self.observer(here, losses.output)
            counts = self.objective.counts(here)
            for name, value in loss_values(losses).items():
                means.add(name, value, _images(counts[tasks[name]], len(here.image)))
            for task, collection in metrics.items():
                label = self.recipe.tasks[task].read(here)
                if label is not None:
                    with self.recipe.loaded.blaming(f"the metrics of task {task!r} fail"):
                        collection.update(losses.output.predictions[task], label)
        found = self._losses(means)
        updated = _updated(metrics)
        for task, collection in metrics.items():
            with self.recipe.loaded.blaming(f"the metrics of task {task!r} fail"):
                found |= _computed(task, collection, updated[task])
        return found

    def _losses(self, means: _Means) -> dict[str, float]:
        """Return the mean losses, and the total of the tasks' means."""
        every = [f"loss/{name}" for name in self.recipe.tasks]
        every += [name for name in loss_names(self.recipe) if name not in every]
        found = means.all(every, self.placement.device)
        tasks = {n: found[f"loss/{n}"] for n in self.recipe.tasks if f"loss/{n}" in found}
        if tasks:
            found = {"loss/total": self.balancer.total(tasks)} | found
        return {name: float(value) for name, value in found.items()}


class _Means:
    """Means of values by name, each weighed by images; nothing waits for the device."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.images: dict[str, Tensor] = {}

    def add(self, name: str, value: Tensor, images: Tensor) -> None:
        """Count a value of some images."""
        self.sums[name] = self.sums.get(name, 0) + value.double() * images
        self.images[name] = self.images.get(name, 0) + images

    def all(self, names: Sequence[str], device: torch.device) -> dict[str, Tensor]:
        """Return the means over the batches of all ranks, float64, of what any batch had."""
        zero = torch.zeros((), dtype=torch.float64, device=device)
        pairs = [self.sums.get(name, zero) for name in names]
        pairs += [self.images.get(name, zero) for name in names]
        sums, images = Ranks.here().sum_(torch.stack(pairs)).view(2, -1)
        means, is_there = (sums / images).unbind(), (images > 0).tolist()
        return {n: x for n, x, there in zip(names, means, is_there, strict=True) if there}


def _images(counts: Counts, batch: int) -> Tensor:
    """Return how many images a loss is about: those with a label of its task, else all."""
    labelled = counts.images.double()
    return torch.where(labelled > 0, labelled, batch)


def collection_of(specs: Mapping[str, MetricSpec]) -> torchmetrics.MetricCollection:
    """Return the metrics of a task; those of one family share their states and are updated once.

    torchmetrics could find equal states by itself, but goes by their values after one batch, which
    can be equal by chance.
    """
    groups: dict[object, list[str]] = {}
    for name, spec in specs.items():
        family = (type(spec.metric).update, getattr(spec.metric, "family", name))
        groups.setdefault(family, []).append(name)
    return torchmetrics.MetricCollection(
        {name: spec.metric for name, spec in specs.items()}, compute_groups=list(groups.values())
    )


def _updated(metrics: Mapping[str, torchmetrics.MetricCollection]) -> dict[str, set[str]]:
    """Return the metrics of each task that any rank updated: all ranks compute the same ones."""
    keys = [(task, str(name)) for task, collection in metrics.items() for name in collection]
    flags = [metrics[task][name].update_called for task, name in keys]
    updated: dict[str, set[str]] = {task: set() for task in metrics}
    anywhere = Ranks.here().largest_(torch.tensor(flags, dtype=torch.uint8)).tolist()
    for (task, name), is_updated in zip(keys, anywhere, strict=True):
        if is_updated:
            updated[task].add(name)
    return updated


def _computed(
    task: str, collection: torchmetrics.MetricCollection, updated: Set[str]
) -> dict[str, float]:
    with warnings.catch_warnings():  # a rank may have had no batch for a metric that others had
        warnings.filterwarnings("ignore", "The ``compute`` method of metric")
        values = {name: x.compute() for name, x in collection.items() if name in updated}
    numbers = {f"{task}/{name}": _number(name, value) for name, value in values.items()}
    return {name: number for name, number in numbers.items() if not math.isnan(number)}


def _number(name: str, value: object) -> float:
    """Return what a metric computed as a number."""
    is_several = isinstance(value, Tensor) and value.numel() != 1
    if isinstance(value, SupportsFloat) and not is_several:
        return float(value)
    form = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)
    raise TypeError(f"compute() of {name!r} returned {form}. Return a scalar tensor")
