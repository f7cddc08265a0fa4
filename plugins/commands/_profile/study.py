"""Steps that are looked at: warm-up, steps under the profiler, one whose FLOPs are counted."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

from torch.profiler import ProfilerActivity, profile, supported_activities

from mtlkit.engine import Run
from mtlkit.speed import matrix_peak

from .._steps import groups
from .chart import Chart, rows_of
from .cost import Flops, peak_memory
from .parts import parts_of
from .ranges import Ranges
from .timeline import Place, times_of


@dataclass(frozen=True)
class Wish:
    """How much to look at.

    Args:
        steps: under the profiler.
        warmup: before them.
    """

    steps: int
    warmup: int


class Study:
    """Takes steps of a run, and says where their time went.

    Args:
        run: long enough; its model gets hooks, and its weights move.
        wish: how many steps.
    """

    def __init__(self, run: Run, wish: Wish) -> None:
        self.run, self.wish, self.images = run, wish, 0
        self.device = run.placement.device
        self.on_host = self.device.type == "cpu"
        self.parts = parts_of(run.model)
        self.ranges = Ranges(run.model, self.parts)
        self.watch = run.learner.watch
        self.watch.beside = self.ranges.within
        self.batches = self.watch.over("data", map(run.learner.ready, groups(run)))
        os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # or it talks into the progress bar
        every: set[ProfilerActivity] = supported_activities()  # type: ignore[no-untyped-call]
        activities = {ProfilerActivity.CPU} if self.on_host else every
        self.profiler = profile(activities=activities, acc_events=True)

    @property
    def total(self) -> int:
        """Steps that `steps` takes."""
        return self.wish.warmup + 2 * self.wish.steps

    def steps(self) -> Iterator[None]:
        """Take all steps, yielding after each."""
        for _ in range(self.wish.warmup):
            self._step()
            yield
        self.memory = peak_memory(self.device)  # the profiler's own comes on top later
        self.watch.read()
        self.watch.pause()
        began = self.run.position.step
        with self.profiler:
            for _ in range(self.wish.steps):
                self.images += self._step()
                yield
            self.phases = self.watch.read()
        self.run.position.step = began  # the same edges are drawn once more
        with Flops(self.ranges) as self.flops:
            for _ in range(self.wish.steps):
                self._step()
                yield

    def chart(self) -> Chart:
        """Return what was measured."""
        count = self.wish.steps
        events = self.profiler.events()  # type: ignore[no-untyped-call]
        found = times_of(events or (), self.ranges, on_host=self.on_host)
        times = {place: seconds / count for place, seconds in found.items()}
        if not self.on_host:  # no kernel runs while the device waits for a batch
            times[Place("data", False)] = self.phases["data"] / count
        of_step = sum(self.phases.values()) / count
        flops = {label: found / count for label, found in self.flops.found.items()}
        rows = rows_of(self.parts, times, flops, of_step, on_host=self.on_host)
        peak = matrix_peak(self.run.placement)
        return Chart(rows, count, self.images / count, of_step, peak, self.memory)

    def _step(self) -> int:
        """Take a step, and return its images."""
        group = next(self.batches)
        self.run.step(*group)
        return sum(len(batch.image) for batch in group)
