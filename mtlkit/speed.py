"""How fast a run is: images per second, shares of the time, and use of the device's matrix peak."""

from __future__ import annotations

import time
from collections import Counter
from functools import cache

import torch
from torch import Tensor

from mtlkit.device import Placement, autocast
from mtlkit.flops import step_flops
from mtlkit.learner import Learner
from mtlkit.records import IMAGES_PER_SECOND, MFU
from mtlkit.stopwatch import OTHER, PHASES, Stopwatch

HOST_SIDE, QUEUE_SIDE = 1024, 4096
"""Of the square matrices that are multiplied: 2 GFLOP for a CPU, 137 for what has a queue."""
HOST_PRODUCTS, QUEUE_PRODUCTS = 1, 20
"""That are timed together: a queue runs dry before the first."""
REPEATS = 5
LONGEST_SECONDS = 0.2


class Speed:
    """Of the steps since the last line.

    Args:
        learner: takes the steps; its stopwatch is read.
    """

    def __init__(self, learner: Learner) -> None:
        self.learner, self.watch = learner, learner.watch
        self.images = Counter[int]()  # by phase of the training, which differ in FLOPs
        self._flops: dict[int, float] = {}

    def count(self, images: int) -> None:
        """Count a step that was taken.

        Args:
            images: in the step, of all ranks.
        """
        self.images[self.learner.phases.index] += images

    def read_line(self) -> dict[str, float]:
        """Return images per second, the share of the time of each phase, and `mfu`; begin anew.

        The first time, a matrix product is timed and the FLOPs of a step are counted; that time
        counts nowhere.
        """
        seconds = self.watch.read()
        total = max(sum(seconds.values()), 1e-9)
        shares = {name: seconds.get(name, 0.0) / total for name in (*PHASES, OTHER)}
        images, flops = self.images.total(), self._flops_done()
        self.images.clear()
        peak = self.learner.ranks.count * matrix_peak(self.learner.placement)
        self.watch.read()  # what was measured for this line counts nowhere
        return {IMAGES_PER_SECOND: images / total, **shares, MFU: flops / total / peak}

    def _flops_done(self) -> float:
        return sum(images * self._flops_of(phase) for phase, images in self.images.items())

    def _flops_of(self, phase: int) -> float:
        """Return the FLOPs that an image needs in a phase of the training."""
        if phase not in self._flops:
            learner = self.learner
            self._flops[phase] = step_flops(learner.recipe, learner.reaches[phase], phase)
        return self._flops[phase]


def matrix_peak(placement: Placement) -> float:
    """Return the FLOP/s of a large matrix product in the precision of a run: the best of a few.

    Args:
        placement: from `place`; threads are as they are set.
    """
    return _matrix_peak(placement, torch.get_num_threads())


@cache
def _matrix_peak(placement: Placement, threads: int) -> float:
    device, is_host = placement.device, placement.device.type == "cpu"
    side = HOST_SIDE if is_host else QUEUE_SIDE
    products = HOST_PRODUCTS if is_host else QUEUE_PRODUCTS
    with autocast(placement):
        is_low = torch.is_autocast_enabled(device.type)
        dtype = torch.get_autocast_dtype(device.type) if is_low else torch.float32
    own = torch.Generator(device).manual_seed(0)  # the run's draws stay as they are
    a, b = (torch.rand(side, side, generator=own, device=device).to(dtype) for _ in range(2))
    return 2 * side**3 * products / min(_times(Stopwatch.on(device), a, b, products))


def _times(watch: Stopwatch, a: Tensor, b: Tensor, products: int) -> list[float]:
    """Return the seconds of several rounds; the first is slow, for kernels are chosen in it."""
    found, began = list[float](), time.perf_counter()
    while len(found) < 2 or (
        len(found) <= REPEATS and time.perf_counter() - began < LONGEST_SECONDS
    ):
        with watch("products"):
            for _ in range(products):
                a @ b
        found.append(watch.read()["products"])
        watch.pause()
    return found
