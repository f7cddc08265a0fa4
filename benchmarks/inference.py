"""Direct predictions of XTasC-Net against the forward pass of its released code.

python benchmarks/inference.py [--rounds 9] [--images 4] [--device cuda] [--quick]

The network is that of recipes/xtascnet_cityscapes.yaml, the images are rendered streets of 128×256.
The ways:

naive  fp32, NCHW, both predictions and both transferred ones, under no_grad; see _naive.py.
fp32   mtlkit's architecture alone, which is what ships, in inference mode and channels_last.
bf16   the same in bf16.

Weights are equal, with running statistics of the batch. Predictions must be the naive ones up to
1e-4 of their norm in fp32, and 0.2 in bf16, or the script stops. Times are medians over rounds in
which all ways take turns; ratios are formed round by round, and the median is judged.

Where others use the machine, `--clock cpu --threads 1` counts processor seconds, which vary less.
"""

from __future__ import annotations

import argparse
import os
import statistics
from collections.abc import Callable, Mapping, Sequence

import torch
from _measuring import timed
from _naive import naive_copy
from _verdicts import at_most, over
from _xtasc import CLOCKS, Case, add_options, strict_fp32
from torch import Tensor, nn

import mtlkit
from mtlkit.device import autocast, place

NAIVE, FP32, BF16 = "naive", "fp32", "bf16"
LIMITS = {FP32: 0.50, BF16: 0.20}
TOLERANCES = {FP32: 1e-4, BF16: 0.2}
"""Of the predictions' norm. Initial weights make 0.07 of rounding to bf16; garbage comes to 1."""

Forward = Callable[[], Mapping[str, Tensor]]


def main() -> None:
    """Measure, and print milliseconds and verdicts."""
    options = parse()
    case = Case.of(options)
    ways = build_ways(case)
    check({name: way() for name, way in ways.items()})
    load = f"{torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}"
    print(f"XTasC-Net, {case.title}, {load}", flush=True)
    report(timed(ways, options.rounds, CLOCKS[options.clock]), options.images)


def parse() -> argparse.Namespace:
    """Return the arguments."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add_options(parser)
    return parser.parse_args()


def build_ways(case: Case) -> dict[str, Forward]:
    """Return a forward pass by each way, all of equal weights and of the same images.

    Args:
        case: network and images.
    """
    run = mtlkit.Run(case.recipe(FP32))
    image = case.batch(run.loader("train")[0], run.placement.device).image
    settle(run.model.architecture, image)
    naive, plain_image = naive_copy(run.model, run.recipe).eval(), image.contiguous()

    def plain() -> Mapping[str, Tensor]:
        with torch.no_grad():
            return naive(plain_image)[0]

    ways = {
        NAIVE: plain,
        **{name: forward_of(run.model.architecture, image, name) for name in (FP32, BF16)},
    }
    strict_fp32()
    return ways


def settle(network: nn.Module, image: Tensor) -> None:
    """Take the images' statistics as running ones; without any, values grow from layer to layer.

    Args:
        network: in place.
        image: (N,3,H,W).
    """
    norms = [part for part in network.modules() if isinstance(part, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        network.train()(image)
    network.eval()


def forward_of(architecture: nn.Module, image: Tensor, precision: str) -> Forward:
    """Return mtlkit's forward pass.

    Args:
        architecture: of a model, in evaluation mode.
        image: (N,3,H,W), channels_last.
        precision: as in a recipe.
    """
    placement = place(str(image.device), precision)

    def forward() -> Mapping[str, Tensor]:
        with torch.inference_mode(), autocast(placement):
            return architecture(image).predictions

    return forward


def check(predictions: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Refuse to time ways that do not predict the same.

    Args:
        predictions: of the tasks, by way.

    Raises:
        AssertionError: names task, way and difference.
    """
    for way, tolerance in TOLERANCES.items():
        for task, wanted in predictions[NAIVE].items():
            difference = float((predictions[way][task].float() - wanted).norm() / wanted.norm())
            assert difference <= tolerance, (
                f"{task}: {way} differs from the naive prediction by {difference:.1e} of its norm; "
                f"{tolerance:.1g} is allowed"
            )


def report(times: Mapping[str, Sequence[float]], images: int) -> None:
    """Print milliseconds, images per second and verdicts.

    Args:
        times: seconds, by way and round.
        images: of a batch.
    """
    print(f"{'':12}{'ms':>10}{'images/s':>10}")
    for name, found in times.items():
        seconds = statistics.median(found)
        print(f"{name:12}{1000 * seconds:10.1f}{images / seconds:10.1f}")
    for name, limit in LIMITS.items():
        print(at_most(f"{name} / naive", over(times[name], times[NAIVE]), limit))


if __name__ == "__main__":
    main()
