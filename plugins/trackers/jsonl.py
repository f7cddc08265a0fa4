"""JSON lines: every number of a run, in its metrics.jsonl."""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtlkit.errors import MissingError
from mtlkit.hookspecs import hookimpl
from mtlkit.records import WEIGHTING

if TYPE_CHECKING:
    from mtlkit.engine import Run
    from mtlkit.records import EpochRecord, Outcome, Position, StepRecord

FILE = "metrics.jsonl"
SPEED = "speed/"
"""What the names of speeds and of shares of the time begin with."""
SKIPPED = "data/skipped_samples"


class JsonLines:
    """Appends a line per logged step and per epoch, each written out at once.

    Args:
        path: the file; made if it is not there.

    Raises:
        MissingError: it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.file = path.open("a", encoding="utf-8")
        except OSError as error:
            raise self._failed(error) from None

    @hookimpl
    def mtlkit_step_end(self, step: StepRecord) -> None:
        """Write a line if one is due.

        Args:
            step: the step.
        """
        if step.metrics is not None:
            speed = {f"{SPEED}{name}": value for name, value in step.speed.items()}
            self._write(step.step, step.epoch, "train", step.metrics | speed)

    @hookimpl
    def mtlkit_epoch_end(self, epoch: EpochRecord) -> None:
        """Write the weighting's means, then validation.

        Args:
            epoch: the epoch.
        """
        weighting = {n: x for n, x in epoch.train.items() if n.startswith(WEIGHTING)}
        if weighting:
            self._write(epoch.step, epoch.epoch, "epoch", weighting)
        skipped = {SKIPPED: float(sum(epoch.skipped.values()))} if epoch.skipped else {}
        self._write(epoch.step, epoch.epoch, "val", epoch.val | skipped)

    @hookimpl
    def mtlkit_run_end(self, outcome: Outcome) -> None:
        """Close the file.

        Args:
            outcome: not used; the file is closed however the run ended.
        """
        with contextlib.suppress(OSError):  # a full disk was told of when the line was written
            self.file.close()

    def _write(self, step: int, epoch: int, split: str, metrics: Mapping[str, float]) -> None:
        # JSON has no word for infinity
        finite = {name: value for name, value in metrics.items() if math.isfinite(value)}
        line = json.dumps({"step": step, "epoch": epoch, "split": split, "metrics": finite})
        try:
            self.file.write(line + "\n")
            self.file.flush()
        except OSError as error:
            raise self._failed(error) from None

    def _failed(self, error: OSError) -> MissingError:
        return MissingError(
            f"{self.path}: cannot write metrics ({error.strerror}). Free some space, or leave them "
            "out with --no-plugin jsonl"
        )


def drop_what_comes_again(path: Path, position: Position) -> None:
    """Remove the lines that a resumed run will write again, and those that are torn.

    Args:
        path: the file; may be missing.
        position: where the run goes on.
    """
    if not path.is_file():
        return
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    kept = [line for line in lines if _is_done(line, position)]
    beside = path.with_name(f"{path.name}.{os.getpid()}.part")
    beside.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
    beside.replace(path)


def _is_done(line: str, position: Position) -> bool:
    try:
        record: dict[str, Any] = json.loads(line)
        if record["split"] == "train":
            return bool(record["step"] <= position.step)
        return bool(record["epoch"] < position.epoch)
    except (ValueError, KeyError, TypeError):
        return False


@hookimpl
def mtlkit_run_start(run: Run) -> None:
    """Record this run in its folder.

    Args:
        run: the run.
    """
    assert run.folder is not None  # fit makes it before it tells anybody
    path = run.folder / FILE
    if run.is_resumed:
        drop_what_comes_again(path, run.position)
    run.track(JsonLines(path))
