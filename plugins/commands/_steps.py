"""Steps of a run that is looked at, and not fitted: as many as are asked for."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path

from mtlkit.engine import Run
from mtlkit.folder import new_folder
from mtlkit.records import Position
from mtlkit.structures import Batch


@contextlib.contextmanager
def fresh_folder(out: Path, name: str) -> Iterator[Path]:
    """Make a folder out/name/time before time is spent, and remove it if nothing comes of it.

    Args:
        out: where runs live.
        name: of the folder above it.
    """
    folder = new_folder(out, name)
    try:
        yield folder
    except BaseException:
        for empty in (folder, folder.parent):
            with contextlib.suppress(OSError):  # it holds something by now
                empty.rmdir()
        raise


def prolong(run: Run, steps: int) -> None:
    """Let the run have enough epochs, for schedules end with the last one; phases stay.

    Args:
        run: before these steps.
        steps: to take.
    """
    if run.recipe.train.phases:
        return
    epochs = max(run.epochs, run.position.epoch + math.ceil(steps / run.steps_per_epoch))
    train = run.recipe.train.model_copy(update={"epochs": epochs})
    run.recipe = run.recipe.model_copy(update={"train": train})


def groups(run: Run) -> Iterator[list[Batch]]:
    """Yield the batches of one step after the other, in epochs without end.

    Args:
        run: moves on to the next epoch with each.
    """
    loader, order = run.loader("train")
    while True:
        run.learner.begin_epoch(run.position.epoch)
        order.begin_at(run.position.epoch, 0)
        group: list[Batch] = []
        for batch in loader:
            group.append(batch)
            if len(group) == run.recipe.train.accumulate:
                yield group
                group = []
        if group:
            yield group
        run.learner.balancer.after_epoch()
        run.position = Position(run.position.epoch + 1, 0, run.position.step)
