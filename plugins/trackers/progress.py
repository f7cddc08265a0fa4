"""Progress on standard error: a live display on a terminal, plain lines anywhere else."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.console import Console

from mtlkit.hookspecs import hookimpl
from mtlkit.records import IMAGES_PER_SECOND, WEIGHTING
from mtlkit.report.table import LOSS, format_number, with_arrow

from ._views import GAP, Standing, View, choose_view

if TYPE_CHECKING:
    from mtlkit.engine import Run
    from mtlkit.records import EpochRecord, Outcome, StepRecord

TOTAL = f"{LOSS}total"
NOTHING = 1e-6  # how far from 1 a weight may be that is not worth a word


@dataclass
class Progress:
    """Follows one run.

    Args:
        view: how it is shown.
        epochs: epochs in all.
        steps: steps of an epoch.
        accumulate: batches of a step, of all ranks.
    """

    view: View
    epochs: int
    steps: int
    accumulate: int
    done: int = field(default=0, init=False)
    images: int = field(default=0, init=False)
    losses: dict[str, float] = field(default_factory=dict, init=False)
    speed: dict[str, float] = field(default_factory=dict, init=False)
    validation: str = field(default="", init=False)
    named: set[str] = field(default_factory=set, init=False)

    def __post_init__(self) -> None:
        self.began = self.epoch_began = time.monotonic()

    @hookimpl
    def mtlkit_step_end(self, run: Run, step: StepRecord) -> None:
        """Count the step, and show where the run stands if it is time to.

        Args:
            run: the run.
            step: the step.
        """
        self.done += 1
        self.images += step.images
        if step.metrics is not None:
            self.losses, self.speed = _whole_losses(step.metrics), step.speed
        of_epoch = -(-run.position.batch // self.accumulate)
        if self.view.is_due(step.metrics is not None, of_epoch == self.steps):
            self.view.show(self._standing(step.epoch, of_epoch))

    @hookimpl
    def mtlkit_epoch_end(self, run: Run, epoch: EpochRecord) -> None:
        """Show a line about the epoch.

        Args:
            run: the run.
            epoch: the epoch.
        """
        now = time.monotonic()
        number = f"epoch {epoch.epoch:>{len(str(self.epochs))}}/{self.epochs}"
        self.validation = GAP.join(_key_metrics(run, epoch.val))
        parts = [
            number,
            self.validation,
            *_total(epoch),
            *_weighting(epoch),
            f"{now - self.epoch_began:.1f} s",
        ]
        self.view.say(GAP.join(part for part in [*parts, "best" * epoch.is_best] if part))
        self._say_left_out(epoch)
        self._say_skipped(epoch)
        self.epoch_began, self.images = now, 0

    @hookimpl(tryfirst=True)  # whatever other plugins do at the end, the terminal is whole again
    def mtlkit_run_end(self, outcome: Outcome) -> None:
        """Take the display away.

        Args:
            outcome: not used; it goes away however the run ended.
        """
        self.view.end()

    def _say_left_out(self, epoch: EpochRecord) -> None:
        """Show which tasks were left out of steps, and of how many."""
        of_task = _numbers(epoch, "left_out")
        if of_task:
            steps = ", ".join(f"{task} {number:.0f}×" for task, number in of_task.items())
            self.view.say(f"left out of steps, not finite: {steps}")

    def _say_skipped(self, epoch: EpochRecord) -> None:
        """Show how many samples were skipped, and name each the first time."""
        if epoch.skipped:
            self.view.say(f"skipped in this epoch: {sum(epoch.skipped.values())}")
        lines = [*(f"skipped: {reason}" for reason in epoch.skipped), *epoch.notes]
        for line in lines:
            if line not in self.named:
                self.view.say(line)
        self.named.update(lines)

    def _standing(self, epoch: int, step: int) -> Standing:
        now = time.monotonic()
        left = (self.epochs - epoch) * self.steps + self.steps - step
        mean = self.images / max(now - self.epoch_began, 1e-9)  # of this epoch, before a line
        return Standing(
            epoch=epoch,
            epochs=self.epochs,
            step=step,
            steps=self.steps,
            images_per_second=self.speed.get(IMAGES_PER_SECOND, mean),
            left_seconds=left * (now - self.began) / self.done,
            losses=self.losses,
            time=self.speed,
            validation=self.validation,
        )


def _whole_losses(values: Mapping[str, float]) -> dict[str, float]:
    """Return the total and each task's whole loss, without the terms that they are made of."""
    whole = {n: x for n, x in values.items() if n.startswith(LOSS) and n.count("/") == 1}
    return {n: whole[n] for n in sorted(whole, key=lambda n: n != TOTAL)}


def _key_metrics(run: Run, values: Mapping[str, float]) -> list[str]:
    """Return the first metric of each task, with its direction and unit."""
    first: dict[str, str] = {}
    for name in run.directions:
        if name in values and not name.startswith(LOSS):
            first.setdefault(name.partition("/")[0], name)
    return [
        f"{with_arrow(name, run.directions)} {format_number(values[name])} "
        f"{run.directions[name].unit}".rstrip()
        for name in first.values()
    ]


def _total(epoch: EpochRecord) -> list[str]:
    if TOTAL not in epoch.val:
        return []
    train = f" (train {format_number(epoch.train[TOTAL])})" if TOTAL in epoch.train else ""
    return [f"loss ↓ {format_number(epoch.val[TOTAL])}{train}"]


def _weighting(epoch: EpochRecord) -> list[str]:
    """Return the tasks' weights, unless all are 1, and the lowest cosine of two gradients."""
    weights, cosines = _numbers(epoch, "weight"), _numbers(epoch, "cosine")
    parts = []
    if any(abs(weight - 1) > NOTHING for weight in weights.values()):
        parts.append(" ".join(["weights", *map(format_number, weights.values())]))
    if cosines:
        parts.append(f"cosine {min(cosines.values()):+.2f}")
    return parts


def _numbers(epoch: EpochRecord, kind: str) -> dict[str, float]:
    """Return the epoch's numbers of the weighting, without the prefix."""
    start = f"{WEIGHTING}{kind}/"
    return {n.removeprefix(start): x for n, x in epoch.train.items() if n.startswith(start)}


def first_line(run: Run) -> str:
    """Return what a run says of itself before it begins.

    Args:
        run: the run.
    """
    parameters = sum(p.numel() for p in run.model.parameters())
    train, val = (run.loader(split)[1].count for split in ("train", "val"))
    parts = [
        f"{run.recipe.name} · {run.folder} · {run.placement.line}",
        f"{parameters / 1e6:.2f} million parameters",
        f"{train} training and {val} validation images",
        f"{run.epochs} epoch{'s' * (run.epochs > 1)}",
    ]
    if run.is_resumed:
        parts.append(f"resumed in epoch {run.position.epoch} after step {run.position.step}")
    return " · ".join(parts)


@hookimpl
def mtlkit_run_start(run: Run) -> None:
    """Show the progress of this run.

    Args:
        run: the run.
    """
    view = choose_view(Console(stderr=True))
    batches = run.recipe.train.accumulate * run.ranks.count
    progress = Progress(view, run.epochs, run.steps_per_epoch, batches)
    run.track(progress)
    for line in (first_line(run), *run.notes):
        view.say(line)
