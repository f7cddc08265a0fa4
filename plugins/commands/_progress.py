"""A progress bar on standard error, and Ctrl-C told in words."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TimeRemainingColumn,
)
from rich.text import Text

from mtlkit.errors import InterruptedRun

T = TypeVar("T")


def tracked(items: Iterable[T], words: str, total: int) -> Iterator[T]:
    """Yield items, each one a step of a progress bar.

    Args:
        items: what is done.
        words: what is being done, such as "rendering".
        total: number of the items.
    """
    bar, left = Progress.get_default_columns()[:2], TimeRemainingColumn()
    columns = (*bar, MofNCompleteColumn(), _Speed(), left)
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(words, total=total)
        for item in items:
            yield item
            progress.advance(task)


@contextlib.contextmanager
def stoppable(words: str) -> Iterator[None]:
    """Tell Ctrl-C in words.

    Args:
        words: what is left behind, and what to do.

    Raises:
        InterruptedRun: it was pressed.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise InterruptedRun(words) from None


class _Speed(ProgressColumn):
    """Samples per second."""

    def render(self, task: Task) -> Text:
        """Return the speed of late, or nothing before there is one.

        Args:
            task: what is followed.
        """
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.1f}/s")
