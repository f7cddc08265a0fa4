"""How progress is shown: a display that is redrawn in place, or plain lines."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from mtlkit.records import IMAGES_PER_SECOND, MFU
from mtlkit.report.table import LOSS, format_number

LIVE_SECONDS = 0.2  # between two updates of the live display
LINE_SECONDS = 10.0  # between two plain lines within an epoch
BAR_WIDTH = 30
GAP, DOT = "  ", " · "
WORTH_A_WORD = 0.01  # share of the time
ALWAYS = ("data", MFU)  # shown even if they are 0


def choose_view(console: Console) -> View:
    """Return a live view for a terminal that can show one, else a plain one.

    Args:
        console: of standard error; knows NO_COLOR and TERM.
    """
    is_plain = not console.file.isatty() or console.is_dumb_terminal or console.no_color
    return PlainView() if is_plain else LiveView(console)


@dataclass(frozen=True)
class Standing:
    """Where a run stands.

    Args:
        epoch: the epoch in progress, 1 for the first.
        epochs: epochs in all.
        step: steps done of this epoch.
        steps: steps of an epoch.
        images_per_second: as last logged, or the mean over this epoch.
        left_seconds: to the end of the run.
        losses: total and of each task, by name, as last logged.
        time: shares of it and `mfu`, as last logged; empty before.
        validation: key metrics of the last epoch; empty before.
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    images_per_second: float
    left_seconds: float
    losses: Mapping[str, float]
    time: Mapping[str, float]
    validation: str

    @property
    def speed(self) -> str:
        """Images per second."""
        return f"{format_number(self.images_per_second)} images/s"

    @property
    def left(self) -> str:
        """The time that is left."""
        return f"{timedelta(seconds=round(self.left_seconds))} left"

    @property
    def time_line(self) -> str:
        """What the time goes into, and how much of the device it uses."""
        shown = {n: x for n, x in self.time.items() if n in ALWAYS or x >= WORTH_A_WORD}
        return DOT.join(f"{n} {100 * x:.0f} %" for n, x in shown.items() if n != IMAGES_PER_SECOND)

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
        speed = DOT.join(part for part in (s.speed, s.time_line) if part)
        self.say(GAP.join((where, f"step {s.step}/{s.steps}", s.loss_line, speed, s.left)))

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
        doing = "validating" if s.step == s.steps else f"{s.speed}{GAP}{s.left}"
        top.add_row(f"epoch {s.epoch}/{s.epochs}", bar, f"{s.step}/{s.steps}", doing)
        lines = [f"training{GAP}  {s.loss_line}"] if s.losses else []
        lines += [f"validation{GAP}{s.validation}"] if s.validation else []
        lines += [f"time{GAP}      {s.time_line}"] if s.time else []
        texts = [Text(line, style="dim", no_wrap=True, overflow="ellipsis") for line in lines]
        self.live.start()  # does nothing from the second time on
        self.live.update(Group(top, *texts), refresh=True)
        self.shown = time.monotonic()

    def end(self) -> None:
        """Take the display away and give the cursor back."""
        self.live.stop()
