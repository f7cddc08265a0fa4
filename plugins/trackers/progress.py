"""Progress on standard error: a live display on a terminal, plain lines anywhere else."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from mtlkit.hookspecs import hookimpl
from mtlkit.report.table import LOSS, format_number, with_arrow

if TYPE_CHECKING:
    from mtlkit.engine import Run
    from mtlkit.records import EpochRecord, Outcome, StepRecord

LIVE_SECONDS = 0.2  # between two updates of the live display
LINE_SECONDS = 10.0  # between two plain lines within an epoch
BAR_WIDTH = 30
TOTAL = f"{LOSS}total"
GAP = "  "


@dataclass(frozen=True)
class Standing:
    """Where a run stands.

    Args:
        epoch: the epoch in progress, 1 for the first.
        epochs: epochs in all.
        step: steps done of this epoch.
        steps: steps of an epoch.
        images_per_second: mean over this epoch.
        left_seconds: to the end of the run.
        losses: total and of each task, by name, as last logged.
        validation: key metrics of the last epoch; empty before.
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    images_per_second: float
    left_seconds: float
    losses: Mapping[str, float]
    validation: str

    @property
    def speed(self) -> str:
        """Images per second and the time that is left."""
        left = timedelta(seconds=round(self.left_seconds))
        return f"{format_number(self.images_per_second)} images/s{GAP}{left} left"

    @property
    def loss_line(self) -> str:
        """The losses by name."""
        return GAP.join(
            f"{n.removeprefix(LOSS)} {format_number(x)}" for n, x in self.losses.items()
        )


class View(Protocol):
    """How progress is shown."""

    def say(self, line: str) -> None:
        """Show a line for good."""

    def is_due(self, is_logged: bool, is_last: bool) -> bool:
        """Return whether to show where the run stands; asked after every step, so it is quick.

        Args:
            is_logged: whether the step has metrics.
            is_last: whether it ends its epoch.
        """

    def show(self, standing: Standing) -> None:
        """Show where the run stands."""

    def end(self) -> None:
        """Leave the terminal as it was."""


class PlainView:
    """Lines for pipes, log files and plain terminals."""

    def __init__(self) -> None:
        self.said = time.monotonic()

    def say(self, line: str) -> None:
        """Write a line at once; a reader that has gone does not end the run."""
        self.said = time.monotonic()
        with contextlib.suppress(OSError):
            print(line, file=sys.stderr, flush=True)

    def is_due(self, is_logged: bool, is_last: bool) -> bool:
        """Return whether there are new losses and the last line is old enough."""
        return is_logged and time.monotonic() - self.said >= LINE_SECONDS

    def show(self, standing: Standing) -> None:
        """Write where the run stands."""
        s, where = standing, f"epoch {standing.epoch}/{standing.epochs}"
        self.say(GAP.join((where, f"step {s.step}/{s.steps}", s.loss_line, s.speed)))

    def end(self) -> None:
        """Do nothing: a line is whole when it is written."""


class LiveView:
    """A display that is redrawn in place, and lines that scroll away above it.

    Args:
        console: of a terminal.
    """

    def __init__(self, console: Console) -> None:
        # no thread of its own; what goes to a file instead of the terminal stays out of it
        here = sys.stdout.isatty()
        self.live = Live(console=console, auto_refresh=False, transient=True, redirect_stdout=here)
        self.shown = 0.0

    def say(self, line: str) -> None:
        """Show a line above the display."""
        self.live.console.print(Text(line))

    def is_due(self, is_logged: bool, is_last: bool) -> bool:
        """Return whether the display is old enough, or would stand still for validation."""
        return is_last or time.monotonic() - self.shown >= LIVE_SECONDS

    def show(self, standing: Standing) -> None:
        """Redraw the display; the first time, take the terminal."""
        s = standing
        top = Table.grid(padding=(0, 2))
        bar = ProgressBar(total=s.steps, completed=s.step, width=BAR_WIDTH)
        doing = "validating" if s.step == s.steps else s.speed
        top.add_row(f"epoch {s.epoch}/{s.epochs}", bar, f"{s.step}/{s.steps}", doing)
        lines = [f"training{GAP}  {s.loss_line}"] if s.losses else []
        lines += [f"validation{GAP}{s.validation}"] if s.validation else []
        texts = [Text(line, style="dim", no_wrap=True, overflow="ellipsis") for line in lines]
        self.live.start()  # does nothing from the second time on
        self.live.update(Group(top, *texts), refresh=True)
        self.shown = time.monotonic()

    def end(self) -> None:
        """Take the display away and give the cursor back."""
        self.live.stop()


@dataclass
class Progress:
    """Follows one run.

    Args:
        view: how it is shown.
        epochs: epochs in all.
        steps: steps of an epoch.
        accumulate: batches of a step.
    """

    view: View
    epochs: int
    steps: int
    accumulate: int
    done: int = field(default=0, init=False)
    images: int = field(default=0, init=False)
    losses: dict[str, float] = field(default_factory=dict, init=False)
    validation: str = field(default="", init=False)

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
            self.losses = _whole_losses(step.metrics)
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
        parts = [number, self.validation, *_total(epoch), f"{now - self.epoch_began:.1f} s"]
        self.view.say(GAP.join(part for part in [*parts, "best" * epoch.is_best] if part))
        self.epoch_began, self.images = now, 0

    @hookimpl(tryfirst=True)  # whatever other plugins do at the end, the terminal is whole again
    def mtlkit_run_end(self, outcome: Outcome) -> None:
        """Take the display away.

        Args:
            outcome: not used; it goes away however the run ended.
        """
        self.view.end()

    def _standing(self, epoch: int, step: int) -> Standing:
        now = time.monotonic()
        left = (self.epochs - epoch) * self.steps + self.steps - step
        return Standing(
            epoch=epoch,
            epochs=self.epochs,
            step=step,
            steps=self.steps,
            images_per_second=self.images / max(now - self.epoch_began, 1e-9),
            left_seconds=left * (now - self.began) / self.done,
            losses=self.losses,
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


def choose_view(console: Console) -> View:
    """Return a live view for a terminal that can show one, else a plain one.

    Args:
        console: of standard error; knows NO_COLOR and TERM.
    """
    is_plain = not console.file.isatty() or console.is_dumb_terminal or console.no_color
    return PlainView() if is_plain else LiveView(console)


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
    progress = Progress(view, run.epochs, run.steps_per_epoch, run.recipe.train.accumulate)
    run.track(progress)
    view.say(first_line(run))
