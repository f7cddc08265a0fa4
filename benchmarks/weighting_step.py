"""What a training step costs with each weighting: time, and memory at the peak.

python benchmarks/weighting_step.py [--part all] [--tasks 2 3 6] [--rounds 7] [--methods …]

A step is forward, backward and weighting, up to `.grad` of every parameter; no optimizer, which
costs all ways the same. All ways of a part start from equal weights, which nobody moves, and take
the same batch. Three parts:

xtasc     XTasC-Net of recipes/xtascnet_cityscapes.yaml, two tasks with heavy heads; mtlkit alone.
trunk     a ResNet-50 with a 1×1 convolution per task on its last map; every way in fp32, weights
          as torch lays them out.
defaults  the same, each way as it comes: mtlkit in the precision of `auto` (bf16 where the device
          has it) and channels_last; TorchJD by its default arguments, and the loop, in fp32.

The ways: `mtlkit`; `plain`, T backward passes with copies into a T×D matrix, then mtlkit's solver;
`torchjd all` and `torchjd one`, mtl_backward with parallel_chunk_size None and 1; `, G`: with
optimize_gramian_computation. A way without a number lacks the method, or a solver for it is not
installed. Before anything is timed in fp32, all ways are given the same weights, and their shared
gradients must agree to 1e-4.

A table has a row per method: the median of a step's milliseconds over rounds in which all ways take
turns, then the peak in MiB. A peak is measured in a process of its own that takes three steps: the
largest resident size (on an accelerator: what torch allocated) less that with the network built.
Ratios are formed round by round; the median is judged, smallest and largest stand behind it.
Where others use the machine, `--threads 1 --clock cpu` counts processor seconds, which vary less.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import torch
from _measuring import peak_elsewhere, peak_here, timed
from _verdicts import print_lines
from _weighting_networks import Case, Stage
from _weighting_report import (
    Entry,
    peak_verdicts,
    print_table,
    time_verdicts,
    xtasc_verdicts,
)
from _weighting_ways import (
    AGGREGATORS,
    SETTINGS,
    Step,
    balancer_of,
    build_step,
    build_step_with,
    forget_gradients,
    mtlkit_step,
)

from mtlkit.device import place, set_threads

METHODS = ("equal", "uncertainty", "gradnorm", "pcgrad", "mgda", "nash_mtl", "upgrad")
AGREEMENT = 1e-4  # largest relative difference of two ways' gradients in fp32


@dataclass(frozen=True)
class Part:
    """What is compared.

    Args:
        name: of the part.
        case: network and data.
        ways: by name, the precision that each computes in.
        channels_last: ways whose weights are in that order.
        device: as in a recipe.
    """

    name: str
    case: Case
    ways: Mapping[str, str]
    channels_last: tuple[str, ...]
    device: str

    @property
    def title(self) -> str:
        """What stands above its table."""
        case, (height, width) = self.case, self.case.size
        network = "XTasC-Net" if case.is_xtasc else f"ResNet-{case.depth}"
        return f"{self.name}: {network}, T = {case.tasks}, {case.images}×3×{height}×{width}"

    def stage(self, way: str) -> Stage:
        """Return network and data for a way."""
        placement = place(self.device, self.ways[way])
        return Stage.of(self.case, placement, way in self.channels_last)

    def entries(self, methods: Sequence[str]) -> Iterator[tuple[str, str]]:
        """Yield pairs of way and method that exist."""
        for way in self.ways:
            yield from ((way, m) for m in methods if way == "mtlkit" or m in AGGREGATORS)


def main() -> None:
    """Measure what the arguments ask for, and print tables and verdicts."""
    options = parse()
    if options.child is not None:
        print(peak(**json.loads(options.child)))
        return
    set_threads(options.threads)
    clock = {"wall": time.perf_counter, "cpu": time.process_time}[options.clock]
    for part in parts(options):
        load = f"{torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}"
        print(f"\n{part.title}, {load}", flush=True)
        steps = dict(prepared(part, options.methods))
        times = timed(steps, options.rounds, clock)
        steps.clear()
        medians = {entry: 1000 * statistics.median(found) for entry, found in times.items()}
        print_table("ms", part.ways, options.methods, medians)
        verdicts = xtasc_verdicts if part.case.is_xtasc else time_verdicts
        print_lines(verdicts(options.methods, times))
        if options.no_peaks:
            continue
        peaks = {entry: memory(part, entry) for entry in times}
        print_table("MiB", part.ways, options.methods, peaks)
        print_lines(peak_verdicts(options.methods, peaks))


def parse() -> argparse.Namespace:
    """Return the arguments."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--part", default="all", choices=["xtasc", "trunk", "defaults", "all"])
    parser.add_argument("--tasks", type=int, nargs="+", default=[2, 3, 6], help="of the ResNet")
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="auto", help="of the part xtasc")
    parser.add_argument("--threads", type=int, help="of torch; as it chooses, if left out")
    parser.add_argument("--clock", default="wall", choices=["wall", "cpu"])
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it runs")
    parser.add_argument("--no-peaks", action="store_true", help="leave memory out")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser.parse_args()


def parts(options: argparse.Namespace) -> Iterator[Part]:
    """Yield the parts asked for."""
    depth = 18 if options.quick else 50
    wide, small = ((32, 64), (32, 64)) if options.quick else ((128, 256), (64, 128))
    wanted = [options.part] if options.part != "all" else ["xtasc", "trunk", "defaults"]
    if "xtasc" in wanted:
        case = Case(True, 2, min(depth, 34), 2, wide)
        ways = {"mtlkit": options.precision}
        yield Part("xtasc", case, ways, ("mtlkit",), options.device)
    for tasks in options.tasks:
        case = Case(False, tasks, depth, 2, small)
        if "trunk" in wanted:
            ways = dict.fromkeys(["mtlkit", "plain", *SETTINGS], "fp32")
            yield Part("trunk", case, ways, (), options.device)
        if "defaults" in wanted:
            ways = {"mtlkit": "auto", "plain": "fp32", next(iter(SETTINGS)): "fp32"}
            yield Part("defaults", case, ways, ("mtlkit",), options.device)


def prepared(part: Part, methods: Sequence[str]) -> Iterator[tuple[Entry, Step]]:
    """Yield every step of a part; ways of one layout and precision share a network.

    Raises:
        AssertionError: two ways do not lead to the same gradients.
    """
    stages: dict[tuple[str, bool], Stage] = {}
    for way, precision in part.ways.items():
        key = precision, way in part.channels_last
        if key not in stages:
            stages[key] = part.stage(way)
    used = {
        way: stages[precision, way in part.channels_last] for way, precision in part.ways.items()
    }
    if set(part.ways.values()) == {"fp32"}:
        check(used, [m for m in methods if m in AGGREGATORS])
    for way, method in part.entries(methods):
        try:
            step = build_step(way, method, used[way])
        except ImportError as error:
            print(f"{way}: no {method}: {str(error).splitlines()[0]}")
            continue
        yield (way, method), cleared(used[way], step)


def cleared(stage: Stage, step: Step) -> Step:
    """Return the step with gradients forgotten before it."""

    def both() -> None:
        forget_gradients(stage.network)
        step()

    return both


def check(stages: Mapping[str, Stage], methods: Sequence[str]) -> None:
    """Refuse to time ways whose gradients differ for equal weights of the tasks.

    The weights are mtlkit's: those of ways with a Gram matrix in fp32 are wrong by more.

    Raises:
        AssertionError: names way and method.
    """
    for method in methods:
        stage = stages["mtlkit"]
        balancer = balancer_of(method, stage)
        wanted = gradient(mtlkit_step(balancer, stage), stage)
        weights = balancer.last(list(stage.losses().tasks)).shared
        for way in list(stages)[1:]:
            found = gradient(build_step_with(weights, way, stages[way]), stages[way])
            difference = float((found - wanted).norm() / wanted.norm())
            assert difference <= AGREEMENT, f"{method}: {way} differs by {difference:.1e}"


def gradient(step: Step, stage: Stage) -> torch.Tensor:
    """Return the shared gradient that a step leaves, flat."""
    cleared(stage, step)()
    return torch.cat([p.grad.flatten() for p in stage.shared]).double()


def memory(part: Part, entry: Entry) -> float:
    """Return the peak of a step in MiB, from a process of its own."""
    way, method = entry
    asked = {
        "part": asdict(replace(part, ways={way: part.ways[way]})),
        "way": way,
        "method": method,
    }
    return peak_elsewhere(__file__, "--child", json.dumps(asked))


def peak(part: dict, way: str, method: str) -> int:
    """Return what steps add to the memory of this process at their peak, in bytes."""
    case = Case(**part.pop("case"))
    stage = Part(case=replace(case, size=tuple(case.size)), **part).stage(way)
    device = stage.placement.device
    return peak_here(lambda: cleared(stage, build_step(way, method, stage)), device)


if __name__ == "__main__":
    main()
