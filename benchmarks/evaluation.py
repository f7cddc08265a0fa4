"""Metrics on the device, a batch at a time, against loops on the host.

python benchmarks/evaluation.py [--images 8] [--batches 4] [--rounds 9] [--device cuda] [--quick]

Segmentation (7 classes) and depth on rendered streets of 128×256, with predictions that are right
for most pixels. Every number that mtlkit reports of both tasks is counted over all batches:

loops   on the host, classes image by image and one by one; see _looped_metrics.py.
mtlkit  the tasks' metrics, those of one family counted once.

Both must give equal numbers (to 1e-5; sums of the loops are float64), or the script stops. Networks
and losses have no part. Times are medians over rounds in which both take turns; ratios are formed
round by round, and the median is judged.

Where others use the machine, `--clock cpu --threads 1` counts processor seconds, which vary less.
"""

from __future__ import annotations

import argparse
import os
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from _looped_metrics import LoopedMetrics
from _measuring import timed
from _verdicts import at_most, over
from _xtasc import CLOCKS, Case, add_options
from torch import Tensor
from torch.nn import functional

import mtlkit
from mtlkit.evaluation import collection_of, task_metrics
from mtlkit.structures import Batch

LOOPS, MTLKIT = "loops", "mtlkit"
LIMIT = 0.1
TOLERANCE = 1e-5  # of a number
RIGHT = 0.8  # share of the pixels whose class is predicted right
NOISE = 0.2  # of a predicted depth, as a share of it

Numbers = Mapping[str, float]
"""By `<task>/<metric>`."""


@dataclass(frozen=True)
class Judged:
    """A batch with what is predicted for it.

    Args:
        predictions: by task.
        batch: on the same device.
    """

    predictions: Mapping[str, Tensor]
    batch: Batch


def main() -> None:
    """Measure, and print milliseconds of an image and the verdict."""
    options = parse()
    case = Case.of(options)
    ways = build_ways(case, options.batches)
    check({name: way() for name, way in ways.items()})
    load = f"{torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}"
    print(f"{options.batches} batches of {case.title}, {load}", flush=True)
    report(timed(ways, options.rounds, CLOCKS[options.clock]), options.batches * options.images)


def parse() -> argparse.Namespace:
    """Return the arguments."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add_options(parser)
    parser.set_defaults(images=8)
    parser.add_argument("--batches", type=int, default=4)
    return parser.parse_args()


def build_ways(case: Case, batches: int) -> dict[str, Callable[[], Numbers]]:
    """Return what measures the same predictions by each way.

    Args:
        case: images and device.
        batches: how many.
    """
    run = mtlkit.Run(case.recipe("fp32"))
    batch = case.batch(run.loader("train")[0], run.placement.device)
    judged = [Judged(predictions_of(batch, seed), batch) for seed in range(batches)]
    classes = run.recipe.tasks["segmentation"].channels
    return {
        LOOPS: lambda: looped(judged, classes),
        MTLKIT: lambda: measured(judged, run.recipe),
    }


def predictions_of(batch: Batch, seed: int) -> dict[str, Tensor]:
    """Return predictions that are mostly right: logits, and noisy depth.

    Args:
        batch: with labels of both tasks.
        seed: of what is wrong.
    """
    device = batch.image.device
    generator = torch.Generator().manual_seed(seed)
    classes, depth = batch.labels["segmentation"].value, batch.labels["depth"].value
    others = torch.randint(0, 7, classes.shape, generator=generator).to(device)
    is_right = torch.rand(classes.shape, generator=generator).to(device) < RIGHT
    shown = torch.where(is_right, classes, others)
    logits = functional.one_hot(shown, 7).movedim(-1, 1).float()
    noise = torch.randn(depth.shape, generator=generator).to(device)
    return {"segmentation": logits, "depth": depth * (1 + NOISE * noise)}


def looped(judged: Sequence[Judged], classes: int) -> Numbers:
    """Return the numbers as loops count them.

    Args:
        judged: batches.
        classes: of segmentation.
    """
    metrics = LoopedMetrics(classes)
    for one in judged:
        metrics.add(one.predictions, one.batch)
    return metrics.values()


def measured(judged: Sequence[Judged], recipe: mtlkit.Recipe) -> Numbers:
    """Return the numbers as an evaluation of mtlkit counts them.

    Args:
        judged: batches.
        recipe: whose tasks name their metrics.
    """
    device = judged[0].batch.image.device
    metrics = {
        task: collection_of(specs).to(device) for task, specs in task_metrics(recipe).items()
    }
    for one in judged:
        for task, collection in metrics.items():
            collection.update(one.predictions[task], recipe.tasks[task].read(one.batch))
    return {
        f"{task}/{name}": float(value)
        for task, collection in metrics.items()
        for name, value in collection.compute().items()
    }


def check(numbers: Mapping[str, Numbers]) -> None:
    """Refuse to time ways that do not count the same.

    Args:
        numbers: by way.

    Raises:
        AssertionError: names the metric and both values.
    """
    loops, found = numbers[LOOPS], numbers[MTLKIT]
    assert set(loops) == set(found), f"only one way gives {sorted(set(loops) ^ set(found))}"
    for name, wanted in loops.items():
        assert abs(found[name] - wanted) <= TOLERANCE * abs(wanted), (
            f"{name}: mtlkit gives {found[name]:.9g}, the loops {wanted:.9g}"
        )


def report(times: Mapping[str, Sequence[float]], images: int) -> None:
    """Print milliseconds of an image, and the verdict.

    Args:
        times: seconds, by way and round.
        images: measured in a round.
    """
    print(f"{'':12}{'ms/image':>10}")
    for name, found in times.items():
        print(f"{name:12}{1000 * statistics.median(found) / images:10.3f}")
    print(at_most(f"{MTLKIT} / {LOOPS}", over(times[MTLKIT], times[LOOPS]), LIMIT))


if __name__ == "__main__":
    main()
