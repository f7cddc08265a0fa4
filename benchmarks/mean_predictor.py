"""How much better a run predicts than what never looks at the image.

python benchmarks/mean_predictor.py runs/four-tasks-streets/TIME [--all]

Two predictors are made of the valid training labels, not augmented: `constant` gives all pixels one
value, `map` gives each pixel its own. It is the mean of numbers, the direction of the mean normal,
the rate of boundaries, the commonest class. All three are measured on the validation split, by the
same metrics. The bars are held against the constant: an error is at most half of its error, mIoU at
least twice its mIoU, and any other share closes half of what the constant leaves to 1. How the run
stands to the map is for information: it knows where sky and road are, and is hard to beat.

Where a predictor is perfect, or its mIoU is 0, there is nothing to hold the run against: "–" stands
for a ratio by 0, and without one to the constant there is no bar.

Exits with 1 where a bar is missed. Without `--all`, one error and one share of each task are shown.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

import mtlkit
from mtlkit import Batch, Label, checkpoint
from mtlkit.actions import Source, load_run
from mtlkit.collate import Collate
from mtlkit.contracts import Task
from mtlkit.data import wanted
from mtlkit.evaluation import Direction, task_metrics
from mtlkit.samples import Samples, build_samples

SHOWN = ("miou", "pixel_accuracy", "abs_err", "delta1", "mean_angle", "within_11_25", "f")
SHOWN += ("accuracy",)
LEAST_RATE = 1e-6  # of a class that no training label shows; its logarithm must be finite
MODEL, CONSTANT, MAP = "model", "constant", "map"

Numbers = Mapping[str, float]
"""By `<task>/<metric>`."""


@dataclass(frozen=True)
class Bar:
    """How a model stands to a predictor that ignores the image.

    Args:
        ratio: what the rule compares.
        limit: of the ratio.
        is_least: whether it has to be reached, and not kept below.
    """

    ratio: float
    limit: float
    is_least: bool

    @property
    def is_met(self) -> bool:
        """Whether the model passes."""
        return self.ratio >= self.limit if self.is_least else self.ratio <= self.limit

    @classmethod
    def of(cls, name: str, direction: Direction, model: float, other: float) -> Bar | None:
        """Return the rule of a metric, applied; None where it would divide by 0.

        Args:
            name: `<task>/<metric>`.
            direction: of the metric.
            model: its value.
            other: that of the predictor.
        """
        is_miou = name.rpartition("/")[2] == "miou"
        if direction.higher_is_better and not is_miou:
            model, other = 1 - model, 1 - other
        if other == 0:
            return None
        return cls(model / other, 2.0 if is_miou else 0.5, is_least=is_miou)


def batches(recipe: mtlkit.Recipe, split: str) -> Iterator[Batch]:
    """Yield a split in its own order, not augmented.

    Args:
        recipe: of the run.
        split: "train" or "val".
    """
    parts = [replace(part, augmentation=None) for part in build_samples(recipe, split).parts]
    samples = Samples(parts, recipe.seed)
    collate = Collate(wanted(recipe), recipe.size, [part.title for part in parts])
    for start in range(0, len(samples), recipe.loader.batch_size):
        stop = min(start + recipe.loader.batch_size, len(samples))
        batch = collate([samples[(0, i, 0)] for i in range(start, stop)])
        assert isinstance(batch, Batch), batch.skipped
        yield batch


def label_sums(recipe: mtlkit.Recipe) -> dict[str, Tensor]:
    """Return per task the sum of its labels over all training images, and how many are valid.

    Args:
        recipe: of the run.

    Returns:
        (C+1,H,W) float64, classes one-hot, the count last; of vectors (C+1,1,1).
    """
    found: dict[str, Tensor] = {}
    for batch in batches(recipe, "train"):
        for name, task in recipe.tasks.items():
            label = task.read(batch)
            if label is not None:
                found[name] = found.get(name, 0) + _summed(task, label)
    return found


def _summed(task: Task, label: Label) -> Tensor:
    value, valid = label.value, label.valid
    if not value.is_floating_point():
        value = functional.one_hot(value, task.channels).movedim(-1, 1)
    if task.vector:
        value, valid = value[..., None, None], valid[:, None, None, None]
    return torch.cat((torch.where(valid, value, 0).double(), valid.double()), 1).sum(0)


def prediction_of(task: Task, sums: Tensor) -> Tensor:
    """Return what the task's network would have to predict, (C,H,W), or (C,) of a vector.

    Args:
        task: whose prediction it is.
        sums: of labels, their count last, (C+1,H,W).
    """
    mean = (sums[:-1] / sums[-1:].clamp(min=1)).float()
    if task.likelihood == "categorical":
        rate = mean.clamp(LEAST_RATE, 1 - LEAST_RATE)
        mean = rate.logit() if len(rate) == 1 else rate.log()
    return mean[:, 0, 0] if task.vector else mean


def measured(recipe: mtlkit.Recipe, predictions: Mapping[str, Tensor]) -> dict[str, float]:
    """Return the validation metrics of predictions that are the same for all images.

    Args:
        recipe: of the run.
        predictions: per task, as `prediction_of` has them; or one pixel of it, (C,1,1).
    """
    metrics = task_metrics(recipe)
    for batch in batches(recipe, "val"):
        for name, prediction in predictions.items():
            label = recipe.tasks[name].read(batch)
            if label is None or name not in metrics:
                continue
            size = () if recipe.tasks[name].vector else recipe.size
            repeated = prediction.expand(len(batch.image), len(prediction), *size)
            for spec in metrics[name].values():
                spec.metric.update(repeated, label)
    values = {
        f"{task}/{key}": float(spec.metric.compute())
        for task, specs in metrics.items()
        for key, spec in specs.items()
        if spec.metric.update_called and not spec.repeats
    }
    return {name: value for name, value in values.items() if value == value}  # not NaN


def constants(recipe: mtlkit.Recipe) -> dict[str, dict[str, float]]:
    """Return the validation metrics of both predictors that ignore the image.

    Args:
        recipe: of the run.
    """
    sums = label_sums(recipe)
    pooled = {name: x.sum((1, 2), keepdim=True) for name, x in sums.items()}
    return {
        kind: measured(recipe, {n: prediction_of(recipe.tasks[n], x) for n, x in parts.items()})
        for kind, parts in ((CONSTANT, pooled), (MAP, sums))
    }


def main() -> None:
    """Print every metric of the three, and which bars are met."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path, help="run folder or checkpoint")
    parser.add_argument("--all", action="store_true", help="show every metric that has a bar")
    options = parser.parse_args()
    run = load_run(checkpoint.find(options.run), Source("", [], None, [], []))
    found = {MODEL: run.evaluate("val")} | constants(run.recipe)
    names = [name for name in found[CONSTANT] if run.directions[name].unit != "dB"]
    if not options.all:
        names = [name for name in names if name.rpartition("/")[2] in SHOWN]
    sys.exit(not report(names, found, run.directions))


def report(names: list[str], found: Mapping[str, Numbers], directions: Mapping) -> bool:
    """Print a line for each metric, and return whether all bars are met.

    Args:
        names: of the metrics.
        found: values of model, constant and map.
        directions: by name.
    """
    print(f"{'':32}{MODEL:>10}{CONSTANT:>10}{MAP:>10}  {'of map':>7}  of constant")
    is_good = True
    for name in names:
        values = [found[kind][name] for kind in (MODEL, CONSTANT, MAP)]
        constant, mapped = (Bar.of(name, directions[name], values[0], x) for x in values[1:])
        title = f"{name} {'↑' if directions[name].higher_is_better else '↓'}"
        numbers = "".join(f"{x:10.4g}" for x in values)
        of_map = "–" if mapped is None else f"{mapped.ratio:.2f}"
        print(f"{title:32}{numbers}  {of_map:>7}  {_verdict(constant)}")
        is_good &= constant is None or constant.is_met
    return is_good


def _verdict(bar: Bar | None) -> str:
    if bar is None:
        return "–"
    held = f"{bar.ratio:.2f} {'≥' if bar.is_least else '≤'} {bar.limit:g}"
    return f"{held:12}{'meets' if bar.is_met else 'misses'}"


if __name__ == "__main__":
    main()
