"""How time and memory of a training step grow with the number of tasks.

python benchmarks/task_scaling.py [--tasks 1 2 4 6 8] [--rounds 7] [--quick]

A step is that of a run: forward, losses, weighting, backward and optimizer, of the network of
recipes/four_tasks_streets.yaml. The tasks are its four maps, and the same again under other names,
so that a batch has labels for all. Three ways:

no edges   the tasks alone.
all pairs  an edge from each task to each other, N·(N − 1) of them; all run in every step.
N a step   the same edges, of which N are drawn for each step (`train.edges_per_step`).

Tables have a row for each N: the median of a step's milliseconds over rounds in which all take
turns, then the peak in MiB, measured in a process of its own that takes three steps: the largest
resident size (on an accelerator: what torch allocated) less that before the network was built.
Weights and the optimizer's state grow with the number of edges also where few of them run.

Below, a + b·N + c·N² is fitted to each column, and a ratio, formed round by round, says what twice
as many tasks cost: 2 is linear, 4 quadratic, and what is there once, such as the encoder, makes it
less. Where others use the machine, `--clock cpu --threads 1` counts processor seconds, which vary
less.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from _measuring import Step, peak_elsewhere, peak_here, timed
from _verdicts import at_most, over, untargeted

import mtlkit
from mtlkit.device import place

RECIPE = Path(__file__).parents[1] / "recipes" / "four_tasks_streets.yaml"
MAPS = {  # fields of the tasks that are repeated
    "segmentation": {"classes": 7},
    "depth": {},
    "normals": {},
    "boundary": {},
}
NO_EDGES, ALL_PAIRS, DRAWN = "no edges", "all pairs", "N a step"
WAYS = (NO_EDGES, ALL_PAIRS, DRAWN)
QUICK = {"data.size": [32, 64], "loader.batch_size": 2}
LINEAR = 2.0  # most that twice the tasks may cost where edges are drawn

Entry = tuple[int, str]
"""Number of tasks, and way."""
Values = Mapping[Entry, Sequence[float]]
"""Of every round; one of a peak."""


def main() -> None:
    """Measure, and print tables, fits and ratios."""
    options = parse()
    if options.child is not None:
        tasks, way = options.child.split(",")
        print(peak((int(tasks), way), options))
        return
    entries = [(tasks, way) for tasks in options.tasks for way in WAYS]
    steps = {entry: build_step(recipe_of(entry, options)) for entry in entries}
    print(f"{torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}", flush=True)
    clock = {"wall": time.perf_counter, "cpu": time.process_time}[options.clock]
    times = timed(steps, options.rounds, clock)
    steps.clear()
    print_table("ms", options.tasks, {entry: [1000 * x for x in times[entry]] for entry in times})
    if options.no_peaks:
        return
    print_table("MiB", options.tasks, {entry: [memory(entry, options)] for entry in entries})


def parse() -> argparse.Namespace:
    """Return the arguments."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tasks", type=int, nargs="+", default=[1, 2, 4, 6, 8])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, help="of torch; as it chooses, if left out")
    parser.add_argument("--clock", default="wall", choices=["wall", "cpu"])
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it runs")
    parser.add_argument("--no-peaks", action="store_true", help="leave memory out")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser.parse_args()


def recipe_of(entry: Entry, options: argparse.Namespace) -> mtlkit.Recipe:
    """Return the recipe with other tasks and edges.

    Args:
        entry: how many tasks, and which edges.
        options: device, threads and size.
    """
    count, way = entry
    kinds = list(MAPS)
    tasks = {
        f"{kind}{i // len(kinds) + 1}": {"type": kind, "label": kind, **MAPS[kind]}
        for i, kind in ((i, kinds[i % len(kinds)]) for i in range(count))
    }
    edge = {"from": "all", "to": "all", "type": "xtc", "weight": 0.01, "widths": [16, 32, 64]}
    changes = {
        "tasks": tasks,
        "edges": [edge] if way != NO_EDGES and count > 1 else [],
        "data.train": 8,  # one batch
        "data.val": 1,
        "train.edges_per_step": count if way == DRAWN else None,
        "train.device": options.device,
        "train.threads": options.threads,
    }
    return mtlkit.load_recipe(RECIPE, changes | (QUICK if options.quick else {}))


def build_step(recipe: mtlkit.Recipe) -> Step:
    """Return what takes a step of a run, always on the same batch.

    Args:
        recipe: the run; no folder is made of it.
    """
    run = mtlkit.Run(recipe)
    loaded = next(iter(run.loader("train")[0]))
    (batch,) = run.learner.ready([loaded])  # counted on the host, or each step waits for the device

    def step() -> None:
        run.step(batch)

    return step


def memory(entry: Entry, options: argparse.Namespace) -> float:
    """Return the peak of a step in MiB, from a process of its own."""
    asked = ["--child", f"{entry[0]},{entry[1]}", "--device", options.device]
    asked += ["--quick"] if options.quick else []
    asked += ["--threads", str(options.threads)] if options.threads else []
    return peak_elsewhere(__file__, *asked)


def peak(entry: Entry, options: argparse.Namespace) -> int:
    """Return what a run and its steps add to the memory of this process at their peak, in bytes."""
    recipe = recipe_of(entry, options)
    return peak_here(lambda: build_step(recipe), place(options.device, "fp32").device)


def print_table(unit: str, counts: Sequence[int], values: Values) -> None:
    """Print a row for each number of tasks and a column for each way; then how they grow."""
    print(f"\n{unit:>8}" + "".join(f"{way:>12}" for way in WAYS))
    for count in counts:
        cells = [statistics.median(values[count, way]) for way in WAYS]
        print(f"{count:>6} N" + "".join(f"{x:12.0f}" for x in cells))
    for way in WAYS:
        medians = [statistics.median(values[count, way]) for count in counts]
        for text in growth(way, unit, counts, medians):
            print(text)
    for text in ratios(unit, counts, values):
        print(text, flush=True)


def growth(way: str, unit: str, counts: Sequence[int], medians: Sequence[float]) -> Iterator[str]:
    """Yield the fit of a column, and how much of its last row is quadratic; needs three rows."""
    if len(counts) < 3:
        return
    c, b, a = np.polyfit(counts, medians, 2)
    share = c * counts[-1] ** 2 / medians[-1]
    formula = f"{a:.1f} {b:+.1f}·N {c:+.2f}·N² {unit}"
    yield f"  {way:10} = {formula:36} N² is {share:.0%} of it at N = {counts[-1]}"


def ratios(unit: str, counts: Sequence[int], values: Values) -> Iterator[str]:
    """Yield what twice as many tasks cost, for each way; drawn edges are held to 2 in time."""
    most = max(counts)
    if most % 2 or most // 2 not in counts:
        return
    for way in WAYS:
        what = f"{way}, {most} over {most // 2} tasks"
        found = over(values[most, way], values[most // 2, way])
        is_held = way == DRAWN and unit == "ms"
        yield at_most(what, found, LINEAR) if is_held else untargeted(what, found)


if __name__ == "__main__":
    main()
