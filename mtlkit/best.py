"""Which epoch was the best."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from mtlkit.sections import KeepBest


class Best:
    """The best validation so far.

    Args:
        keep: the recipe's `train.keep_best`; None: no epoch is the best.
    """

    def __init__(self, keep: KeepBest | None) -> None:
        self.keep = keep
        self.metrics, self.epoch = dict[str, float](), 0

    def take(self, validation: Mapping[str, float], epoch: int) -> bool:
        """Return whether an epoch is the best so far, and remember it if so.

        Args:
            validation: its numbers by name.
            epoch: its number.
        """
        if self.keep is None or not math.isfinite(validation.get(self.keep.metric, math.nan)):
            return False
        if self.keep.metric in self.metrics:
            new, old = validation[self.keep.metric], self.metrics[self.keep.metric]
            if not (new < old if self.keep.mode == "min" else new > old):
                return False
        self.metrics, self.epoch = dict(validation), epoch
        return True

    def notes(self, validation: Mapping[str, float]) -> tuple[str, ...]:
        """Return what is to be said where no epoch can be the best.

        Args:
            validation: numbers by name.
        """
        if self.keep is None or self.keep.metric in validation:
            return ()
        return (f"keep_best: validation gives no {self.keep.metric}, so no best.pt is kept",)

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return {"metrics": self.metrics, "epoch": self.epoch}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from `state()`.

        Args:
            state: as saved.
        """
        self.metrics, self.epoch = state["metrics"], state["epoch"]
