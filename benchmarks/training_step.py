"""A training step of XTasC-Net against the step that its released code takes.

python benchmarks/training_step.py [--rounds 5] [--compile] [--device cuda] [--quick]

The network is that of recipes/xtascnet_cityscapes.yaml (ResNet-34, decoders of 128 channels), the
batch four rendered streets of 128×256. A step is forward, losses, weighting, backward and Adam; of
mtlkit it is `Run.step`, with everything that a run does in it. The batch lies on the device, with
its valid pixels counted, which a run has done before the step. The ways:

naive    fp32, NCHW, a backward pass for each task, Adam as torch has it; see _naive.py.
fp32     mtlkit's step in fp32.
bf16     mtlkit's step in bf16.
+        with `--compile`, both once more with the network compiled.

Each is in a process of its own, and all start from equal weights. Before anything is timed, each
takes two steps: the losses of fp32 at the first must be the naive ones to 1e-5, those at the
second, which depend on every gradient, to 1e-3; in bf16 both to 3e-2. Otherwise the script stops.

Times are medians over rounds in which all ways take turns, and ratios are formed round by round:
the median is judged, smallest and largest stand behind it. In the same rounds bf16 matrices are
multiplied, of the size that this machine multiplies fastest, until as many operations are done as
mtlkit's bf16 step does; that time over the step's is the share of the peak that the step reaches.
Operations are counted by torch's FlopCounterMode. A peak of memory is measured in a process of its
own that takes three steps: the largest resident size (on an accelerator: what torch allocated) less
that before the network was built.

Where others use the machine, `--clock cpu --threads 1` counts processor seconds, which vary less.
"""

from __future__ import annotations

import argparse
import os
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from _measuring import Served, Step, peak_elsewhere, peak_here, serve, timed
from _naive import naive_copy, naive_step
from _verdicts import at_least, at_most, over, print_lines
from _xtasc import CLOCKS, Case, add_options, strict_fp32
from torch.utils.flop_counter import FlopCounterMode

import mtlkit
from mtlkit.data import build_loader
from mtlkit.device import place, set_threads

NAIVE, FP32, BF16 = "naive", "fp32", "bf16"
COMPILED = {"fp32+": FP32, "bf16+": BF16}
PRODUCT = "bf16 GEMM"
SIZES = {"cpu": (512, 1024, 2048), "cuda": (2048, 4096, 8192)}  # of square matrices
TOLERANCES = {FP32: (1e-5, 1e-3), BF16: (3e-2, 3e-2)}
"""Of the losses at the first and the second step."""
LIMITS = {FP32: 0.70, BF16: 0.33}
GOAL = 0.25  # of bf16
MOST_MEMORY = {FP32: 0.90, BF16: 0.70}
LEAST_SHARE = 0.70  # of what matrices are multiplied at

Losses = Mapping[str, float]
"""By task."""


def main() -> None:
    """Measure, and print a table and verdicts."""
    options = parse()
    case = Case.of(options)
    if options.child is not None:
        device = place(case.device, FP32).device
        print(peak_here(lambda: build_step(options.child, case), device))
        return
    if options.serve is not None:
        serve_way(options.serve, case, CLOCKS[options.clock])
        return
    names = [NAIVE, FP32, BF16, *(COMPILED if options.compile else ())]
    ways = {name: Served(__file__, "--serve", name, *passed_on(options)) for name in names}
    check({name: way.told["losses"] for name, way in ways.items()})
    operations = {name: way.told["operations"] for name, way in ways.items()}
    set_threads(options.threads)
    size, product = build_product(case, operations[BF16])
    load = f"{torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}"
    print(f"XTasC-Net, {case.title}, {load}; matrices of {size}×{size}", flush=True)
    times = timed({**ways, PRODUCT: product}, options.rounds, CLOCKS[options.clock])
    for way in ways.values():
        way.end()
    print_times(times, operations | {PRODUCT: operations[BF16]})
    print_lines(time_verdicts(times))
    if options.no_peaks:
        return
    peaks = {name: memory(name, options) for name in operations}
    print_peaks(peaks)
    print_lines(peak_verdicts(peaks))


def parse() -> argparse.Namespace:
    """Return the arguments."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add_options(parser)
    parser.add_argument("--compile", action="store_true", help="compile the network as well")
    parser.add_argument("--no-peaks", action="store_true", help="leave memory out")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    return parser.parse_args()


def serve_way(name: str, case: Case, clock: Callable[[], float]) -> None:
    """Take two steps of a way and tell their losses and operations, then steps when asked.

    Args:
        name: of the way.
        case: what it takes steps of.
        clock: tells seconds.
    """
    step = build_step(name, case)
    strict_fp32()
    with FlopCounterMode(display=False) as counter:
        first = step()
    losses = [floats(first), floats(step())]
    serve({"losses": losses, "operations": counter.get_total_flops()}, step, clock)


def build_step(name: str, case: Case) -> Callable[[], Mapping[str, torch.Tensor]]:
    """Return what takes a step and gives the tasks' losses.

    Args:
        name: of the way.
        case: what it takes steps of.
    """
    if name == NAIVE:
        return build_naive(case)
    precision = COMPILED.get(name, name)
    train = {"compile": True} if name in COMPILED else {}
    run = mtlkit.Run(case.recipe(precision, **train))
    loaded = case.batch(run.loader("train")[0], torch.device("cpu"))
    (batch,) = run.learner.ready([loaded])  # counted on the host, or each step waits for the device
    return lambda: run.step(batch).tasks


def build_naive(case: Case) -> Callable[[], Mapping[str, torch.Tensor]]:
    """Return the naive step, of the weights that mtlkit's run starts from.

    Without a run: that changes how the process keeps memory.
    """
    recipe = case.recipe(FP32)
    placement = place(case.device, FP32)
    set_threads(case.threads)
    model = mtlkit.build_objective(recipe).model.to(placement.device)
    batch = case.batch(build_loader(recipe, "train", placement.device)[0], placement.device)
    batch.image = batch.image.contiguous()
    return naive_step(naive_copy(model, recipe).train(), batch)


def floats(losses: Mapping[str, torch.Tensor]) -> Losses:
    """Return the losses as numbers."""
    return {name: float(loss) for name, loss in losses.items()}


def check(losses: Mapping[str, Sequence[Losses]]) -> None:
    """Refuse to time steps that are not the same.

    Args:
        losses: of the first and the second step, by way.

    Raises:
        AssertionError: names way, step, task and both losses.
    """
    for way in [name for name in losses if name != NAIVE]:
        for number, tolerance in enumerate(TOLERANCES[COMPILED.get(way, way)]):
            for task, wanted in losses[NAIVE][number].items():
                found = losses[way][number][task]
                assert abs(found - wanted) <= tolerance * abs(wanted), (
                    f"{way}, step {number + 1}: the loss of {task} is {found:.7g}, that of the "
                    f"naive step {wanted:.7g}; they may differ by {tolerance:.0e} of it"
                )


def build_product(case: Case, operations: int) -> tuple[int, Step]:
    """Return the size of matrices that is fastest, and what does so many operations with it.

    Args:
        case: for its device.
        operations: to be done.
    """
    device = place(case.device, BF16).device
    clock = CLOCKS["wall"]
    speeds = {}
    for size in (64,) if case.is_quick else SIZES[device.type]:
        product = multiplied(size, 1, 0, device)
        speeds[size] = size**3 / min(timed({size: product}, 5, clock)[size])
    best = max(speeds, key=speeds.__getitem__)
    whole, rest = divmod(operations, 2 * best**3)
    return best, multiplied(best, whole, round(rest / (2 * best**2)), device)


def multiplied(size: int, times: int, rest: int, device: torch.device) -> Step:
    """Return what multiplies bf16 matrices, into memory of its own: new pages would cost time.

    Args:
        size: of the square matrices.
        times: how often.
        rest: rows of one product more.
        device: where they are.
    """
    a = torch.randn(size, size, device=device).bfloat16()
    product = torch.empty_like(a)

    def multiply() -> None:
        for _ in range(times):
            torch.matmul(a, a, out=product)
        torch.matmul(a[:rest], a, out=product[:rest])

    return multiply


def memory(name: str, options: argparse.Namespace) -> float:
    """Return the peak of a way in MiB, from a process of its own."""
    return peak_elsewhere(__file__, "--child", name, *passed_on(options))


def passed_on(options: argparse.Namespace) -> list[str]:
    """Return the arguments that a way's own process gets, too."""
    asked = ["--device", options.device, "--images", str(options.images), "--clock", options.clock]
    asked += ["--quick"] if options.quick else []
    return asked + (["--threads", str(options.threads)] if options.threads else [])


def print_times(times: Mapping[str, Sequence[float]], operations: Mapping[str, int]) -> None:
    """Print a row for each way: milliseconds, operations and their rate."""
    print(f"{'':12}{'ms':>10}{'GFLOP':>10}{'GFLOP/s':>10}")
    for name, found in times.items():
        seconds, giga = statistics.median(found), operations[name] / 1e9
        print(f"{name:12}{1000 * seconds:10.1f}{giga:10.1f}{giga / seconds:10.0f}")


def print_peaks(peaks: Mapping[str, float]) -> None:
    """Print a row for each way: its peak of memory."""
    print(f"{'':12}{'MiB':>10}")
    for name, peak in peaks.items():
        print(f"{name:12}{peak:10.0f}")


def time_verdicts(times: Mapping[str, Sequence[float]]) -> Iterator[str]:
    """Yield a line for each target of time, and for the share of the rate of a matrix product."""
    for name in [way for way in times if way not in (NAIVE, PRODUCT)]:
        precision, ratios = COMPILED.get(name, name), over(times[name], times[NAIVE])
        yield at_most(f"{name} / naive", ratios, LIMITS[precision])
        if precision == BF16:
            yield at_most(f"{name} / naive, goal", ratios, GOAL)
            share = over(times[PRODUCT], times[name])
            yield at_least(f"{name}, share of the GEMM's rate", share, LEAST_SHARE)


def peak_verdicts(peaks: Mapping[str, float]) -> Iterator[str]:
    """Yield a line for each target of memory."""
    for name in [way for way in peaks if way != NAIVE]:
        ratio, limit = peaks[name] / peaks[NAIVE], MOST_MEMORY[COMPILED.get(name, name)]
        yield at_most(f"{name} / naive, peak", ratio, limit)


if __name__ == "__main__":
    main()
