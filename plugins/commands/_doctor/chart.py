"""The chart: all that is kept of the steps that were taken."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations

from mtlkit.gradients import Reach
from mtlkit.recipe import Recipe

ENOUGH = 5  # steps before anything is said of all of them
FLAT = 1e-5  # std of a prediction relative to the label's: rounding

Pair = tuple[str, str]


@dataclass(frozen=True)
class Finding:
    """Something to tell.

    Args:
        kind: one word, for programs.
        is_fault: whether it keeps a task from learning; else it is a remark.
        title: what it is, in a sentence.
        seen: the numbers.
        why: why it matters.
        change: what to do, in the recipe where it can be done there.
    """

    kind: str
    is_fault: bool
    title: str
    seen: str
    why: str
    change: str


@dataclass
class Spread:
    """How much a task's predictions differ.

    Args:
        sizes: by batch, the largest std of a channel over pixels and images, relative to that of
            the label, or to the size of the prediction where the label has classes.
        predicted: classes that were predicted anywhere.
        labelled: classes that were the label anywhere.
    """

    sizes: list[float] = field(default_factory=list)
    predicted: set[int] = field(default_factory=set)
    labelled: set[int] = field(default_factory=set)


@dataclass
class Chart:
    """What was seen. Numbers of a task are of the steps that it took part in.

    Args:
        recipe: what runs.
        reach: which task's loss reaches which parameter.
        layout: names of the modules, with the names of all trainable parameters of each.
        wanted: steps to take.
        steps: steps taken to their end.
        losses: by task.
        weights: by task, those of the weighting.
        norms: by task, of its gradient at what it shares.
        cosines: by pair, of the gradients at what both share.
        labelled_steps: by task.
        valid: by task, share of the elements that have a label, of every step.
        moved: by parameter, the last step measured in which its gradient was not 0.
        measured: by task, the last step in which its gradient was measured.
        spreads: by task.
        called: modules that ran.
        alive: by rectifier, the last step in which it let anything through.
        source: where the first number came from that is not finite; it ended the examination.
    """

    recipe: Recipe
    reach: Reach
    layout: dict[str, frozenset[str]]
    wanted: int
    steps: int = 0
    losses: dict[str, list[float]] = field(default_factory=dict)
    weights: dict[str, list[float]] = field(default_factory=dict)
    norms: dict[str, list[float]] = field(default_factory=dict)
    cosines: dict[Pair, list[float]] = field(default_factory=dict)
    labelled_steps: dict[str, int] = field(default_factory=dict)
    valid: dict[str, list[float]] = field(default_factory=dict)
    moved: dict[str, int] = field(default_factory=dict)
    measured: dict[str, int] = field(default_factory=dict)
    spreads: dict[str, Spread] = field(default_factory=dict)
    called: set[str] = field(default_factory=set)
    alive: dict[str, int] = field(default_factory=dict)
    source: Finding | None = None

    @property
    def tasks(self) -> list[str]:
        """Names, in the recipe's order."""
        return list(self.recipe.tasks)

    @property
    def pairs(self) -> list[Pair]:
        """Pairs of tasks whose gradients were compared."""
        return [pair for pair in combinations(self.tasks, 2) if self.cosines.get(pair)]

    @property
    def is_enough(self) -> bool:
        """Whether something can be said of all steps."""
        return self.steps >= min(ENOUGH, self.wanted)

    def is_over(self, last: int, now: int) -> bool:
        """Return whether something is not to be expected any more.

        Args:
            last: step in which it was seen; 0: in none.
            now: the last step in which it could have been seen.
        """
        return last == 0 or now - last >= max(ENOUGH, self.steps // 2)

    @property
    def flat(self) -> list[str]:
        """Tasks whose prediction is the same everywhere, in the second half of the steps."""
        late = {task: x.sizes[len(x.sizes) // 2 :] for task, x in self.spreads.items()}
        return [task for task, sizes in late.items() if sizes and max(sizes) < FLAT]


def mean(values: Sequence[float]) -> float:
    """Return the mean, NaN of nothing.

    Args:
        values: any.
    """
    return sum(values) / len(values) if values else math.nan
