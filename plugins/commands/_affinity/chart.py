"""The chart: all that was measured, and what it comes to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import mean, stdev
from typing import NamedTuple

from mtlkit.contracts import Edge
from mtlkit.recipe import Recipe
from mtlkit.structures import EdgeKey


class Estimate(NamedTuple):
    """A mean and its standard error, over probes."""

    mean: float
    error: float

    @property
    def is_help(self) -> bool:
        """Whether it is above 0 by more than its standard error."""
        return self.mean > self.error

    @property
    def is_harm(self) -> bool:
        """Whether it is below 0 by more than its standard error."""
        return -self.mean > self.error


@dataclass(frozen=True)
class Reading:
    """What one step did, in one probe.

    Args:
        effects: by task, the share by which its validation loss fell; negative where it rose.
        cosines: by task, of the step's gradient and that of the task's direct loss, over what tasks
            share; a task is left out where one of them is 0.
        is_still: whether the step moved no weight that a task's prediction depends on.
    """

    effects: dict[str, float]
    cosines: dict[str, float] = field(default_factory=dict)
    is_still: bool = False

    @property
    def effect(self) -> float:
        """The mean over tasks."""
        return mean(self.effects.values())


@dataclass
class Chart:
    """What was measured.

    Args:
        recipe: what was trained, with the edges that were tried.
        warm_up: training steps before the first probe.
        between: training steps between probes.
        images: validation images that losses were measured on.
        readings: by edge, one for each probe in which its loss could be computed.
        own: of a step as long along the gradient of the tasks' own losses, one for each probe.
        losses: by task, its validation loss before each probe.
    """

    recipe: Recipe
    warm_up: int
    between: int
    images: int = 0
    readings: dict[EdgeKey, list[Reading]] = field(default_factory=dict)
    own: list[Reading] = field(default_factory=list)
    losses: list[dict[str, float]] = field(default_factory=list)

    @property
    def edges(self) -> list[Edge]:
        """The edges that were tried, in the recipe's order."""
        return self.recipe.all_edges

    @property
    def tasks(self) -> list[str]:
        """Names, in the recipe's order."""
        return list(self.recipe.tasks)

    @property
    def probes(self) -> int:
        """How many there were."""
        return len(self.own)

    @property
    def own_effect(self) -> Estimate:
        """What a step as long does along the gradient of the tasks' own losses."""
        return estimate([reading.effect for reading in self.own])

    def effect(self, edge: Edge) -> Estimate:
        """Return the mean effect of an edge on the tasks' validation losses.

        Args:
            edge: one of `edges`.
        """
        return estimate([reading.effect for reading in self.readings.get(edge.key, [])])

    def effect_on(self, edge: Edge, task: str) -> Estimate:
        """Return the effect of an edge on one task's validation loss.

        Args:
            edge: one of `edges`.
            task: its name.
        """
        found = [r.effects.get(task) for r in self.readings.get(edge.key, [])]
        return estimate([x for x in found if x is not None])

    def cosine(self, edge: Edge, task: str) -> Estimate:
        """Return the cosine of an edge's gradient and that of a task's direct loss.

        Args:
            edge: one of `edges`.
            task: its name.
        """
        found = [r.cosines.get(task) for r in self.readings.get(edge.key, [])]
        return estimate([x for x in found if x is not None])

    def is_still(self, edge: Edge) -> bool:
        """Return whether the edge moves nothing that a task's prediction depends on.

        Args:
            edge: one of `edges`.
        """
        found = self.readings.get(edge.key, [])
        return bool(found) and all(reading.is_still for reading in found)


def estimate(values: Sequence[float]) -> Estimate:
    """Return mean and standard error; NaN where there are too few values for one.

    Args:
        values: one for each probe.
    """
    if not values:
        return Estimate(math.nan, math.nan)
    if len(values) == 1:
        return Estimate(values[0], math.nan)
    return Estimate(mean(values), stdev(values) / math.sqrt(len(values)))


def title(edge: Edge, edges: Sequence[Edge]) -> str:
    """Return an edge in words: its hops, and its type where there are several.

    Args:
        edge: one of the edges.
        edges: all of them.
    """
    hops = " → ".join(edge.hops)
    kinds = {other.type_name() for other in edges}
    return f"{hops} ({edge.type_name()})" if len(kinds) > 1 else hops
