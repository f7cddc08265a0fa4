"""The chart: what was measured of a step, by part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mtlkit.stopwatch import OTHER

from .parts import Part
from .ranges import REST
from .timeline import BACKWARD, Place

WAITING = "waiting"
PHASES = {
    "data": "data",
    "forward": "losses",
    BACKWARD: "rest of the backward pass",
    "weighting": "weighting",
    "optimizer": "optimizer",
}
"""What is left of each phase without the parts of the model, and what it is called."""


@dataclass(frozen=True)
class Row:
    """A part of the step, in the mean over steps.

    Args:
        label: what it is called.
        kind: a `Kind` for parts of the model; for others the phase, "other" or "waiting".
        forward_seconds: all but the backward pass.
        backward_seconds: of what was computed here.
        flops: of both.
    """

    label: str
    kind: str
    forward_seconds: float
    backward_seconds: float = 0.0
    flops: float = 0.0

    @property
    def seconds(self) -> float:
        """Of both passes."""
        return self.forward_seconds + self.backward_seconds


@dataclass(frozen=True)
class Chart:
    """What was measured.

    Args:
        rows: parts of the model in their order, then phases.
        steps: that were looked at.
        images: of a step.
        seconds: of a step.
        peak: FLOP/s of a large matrix product.
        memory: the most bytes in use; None: not known.
    """

    rows: Sequence[Row]
    steps: int
    images: float
    seconds: float
    peak: float
    memory: int | None

    @property
    def flops(self) -> float:
        """Of a step."""
        return sum(row.flops for row in self.rows)

    @property
    def mfu(self) -> float:
        """FLOPs of a step, over what the device could do in that time."""
        return self.use(self.flops, self.seconds)

    @property
    def largest(self) -> Row:
        """The row that takes most of the step."""
        return max(self.rows, key=lambda row: row.seconds)

    def use(self, flops: float, seconds: float) -> float:
        """Return the share of the matrix peak that some work comes to.

        Args:
            flops: of the work.
            seconds: that it took.
        """
        return flops / max(seconds, 1e-9) / self.peak

    def share(self, *kinds: str) -> float:
        """Return the share of the step that rows of some kinds take.

        Args:
            kinds: as in `Row`.
        """
        return sum(row.seconds for row in self.rows if row.kind in kinds) / self.seconds


def rows_of(
    parts: Sequence[Part],
    times: Mapping[Place, float],
    flops: Mapping[str, float],
    seconds: float,
    *,
    on_host: bool,
) -> list[Row]:
    """Return the rows of a step; what is left of its time is the last.

    Args:
        parts: of the model.
        times: of a step, by place.
        flops: of a step, by label.
        seconds: of a step.
        on_host: whether the host computes; else what is left is the device's waiting.
    """
    named: dict[str, tuple[str, str]] = {part.label: (part.title, part.kind) for part in parts}
    named |= {REST: (REST, "part")}
    named |= {phase: (title, phase) for phase, title in PHASES.items()}
    rows = [
        Row(
            title,
            kind,
            times.get(Place(label, False), 0.0),
            times.get(Place(label, True), 0.0),
            flops.get(label, 0.0),
        )
        for label, (title, kind) in named.items()
    ]
    left = max(0.0, seconds - sum(row.seconds for row in rows))
    last = ("between the phases", OTHER) if on_host else ("waiting for the host", WAITING)
    return [row for row in rows if row.seconds or row.flops] + [Row(*last, left)]
