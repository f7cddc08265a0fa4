"""What is wrong between tasks: one outweighs another, or they pull apart."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from statistics import stdev
from typing import NamedTuple

from mtlkit.report.table import format_number

from .chart import Chart, Finding, Pair, mean
from .words import rounded

LOSS_RATIO = 1000  # between mean losses
NORM_RATIO = 100  # between mean norms of gradients at what tasks share
COSINE = -0.1
STRONG_COSINE = -0.3  # below it, a fault
SLIGHT_COSINE = -0.05  # with at least MOST of the measurements below 0
MOST = 0.9  # of 11 fair coins, 1 throw in 170 shows as much
FEW, MANY = 3, 10  # measurements that tell a strong conflict, and a weak one

SCALING = ("uncertainty", "imtl_l", "gradnorm", "db_mtl")  # make the scale of losses no matter
TREATING = ("pcgrad", "cagrad", "upgrad", "gradvac")  # find an update that all tasks can bear
ALSO_TREATING = ("aligned_mtl", "nash_mtl", "mgda", "imtl_g", "imtl", "fairgrad", "graddrop")


class Outweighed(NamedTuple):
    """A task that is far below another.

    Args:
        name: of the task.
        loss: how many times the other's loss is larger.
        norm: how many times the other's gradient is longer.
    """

    name: str
    loss: float
    norm: float


def imbalance(chart: Chart) -> Iterator[Finding]:
    """Yield a finding where one task's loss or gradient outweighs that of others.

    Args:
        chart: what was seen.
    """
    losses = {task: abs(mean(x)) for task, x in chart.losses.items()}
    norms = {task: mean(x) for task, x in chart.norms.items()}
    largest, found = _outweighed(losses, norms)
    if not found:
        return
    weights = {task: mean(x) for task, x in chart.weights.items() if x}
    is_fault = bool(_outweighed(_weighed(losses, weights), _weighed(norms, weights))[1])
    names = ", ".join(one.name for one in found)
    worst = max(found, key=lambda one: max(one.loss / LOSS_RATIO, one.norm / NORM_RATIO))
    yield Finding(
        "imbalance",
        is_fault,
        f"task {largest} outweighs {names}",
        "; ".join(_ratio_lines(largest, found, losses, norms)),
        "the update of what tasks share is nearly that of the largest alone: the others hardly "
        "learn there" + _made_up_for(chart, is_fault),
        _balancing(chart, largest, worst),
    )


def conflicts(chart: Chart) -> Iterator[Finding]:
    """Yield a finding for each pair of tasks that pull apart.

    Args:
        chart: what was seen.
    """
    for pair in chart.pairs:
        cosines = chart.cosines[pair]
        cosine, below = mean(cosines), sum(x < 0 for x in cosines)
        # batches differ: a mean within its noise is no conflict
        is_clear = cosine + 2 * _standard_error(cosines) < 0 and len(cosines) >= FEW
        is_strong = is_clear and cosine < STRONG_COSINE
        is_steady = below >= MOST * len(cosines) and cosine < SLIGHT_COSINE
        if is_strong or (len(cosines) >= MANY and (is_steady or (is_clear and cosine < COSINE))):
            yield _conflict(chart, pair, is_strong)


def _outweighed(
    losses: Mapping[str, float], norms: Mapping[str, float]
) -> tuple[str, list[Outweighed]]:
    """Return the task that outweighs most, and the tasks that it outweighs."""
    best: tuple[str, list[Outweighed]] = "", []
    for task in losses:
        below = [
            Outweighed(other, _ratio(losses, task, other), _ratio(norms, task, other))
            for other in losses
        ]
        found = [x for x in below if x.loss >= LOSS_RATIO or x.norm >= NORM_RATIO]
        if len(found) > len(best[1]):
            best = task, found
    return best


def _weighed(values: Mapping[str, float], weights: Mapping[str, float]) -> dict[str, float]:
    return {task: x * abs(weights.get(task, 1.0)) for task, x in values.items()}


def _ratio(values: Mapping[str, float], large: str, small: str) -> float:
    """Return how many times one value is the other; 0 where that means nothing."""
    return values.get(large, 0.0) / values[small] if values.get(small, 0.0) > 0 else 0.0


def _standard_error(values: Sequence[float]) -> float:
    """Return that of the mean; 0 of one value."""
    return stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0


def _ratio_lines(
    largest: str,
    found: list[Outweighed],
    losses: Mapping[str, float],
    norms: Mapping[str, float],
) -> Iterator[str]:
    for one in found:
        if one.loss >= LOSS_RATIO:
            yield (
                f"mean loss {format_number(losses[largest])}, {_times(one.loss)} that of "
                f"{one.name}, {format_number(losses[one.name])}"
            )
        if one.norm >= NORM_RATIO:
            yield (
                f"gradient norm at what they share {format_number(norms[largest])}, "
                f"{_times(one.norm)} that of {one.name}, {format_number(norms[one.name])}"
            )


def _times(ratio: float) -> str:
    return f"{float(f'{ratio:.2g}'):,.0f} ×"


def _made_up_for(chart: Chart, is_fault: bool) -> str:
    kind = chart.recipe.weighting.type_name()
    return "" if is_fault else f"; the weights of {kind} make up for it so far"


def _balancing(chart: Chart, largest: str, worst: Outweighed) -> str:
    weight = chart.recipe.tasks[largest].weight / (worst.norm if worst.norm > 1 else worst.loss)
    text = f"tasks.{largest}.weight: {rounded(weight)}"
    others = known(chart, SCALING)
    return text + (f", or a weighting that evens scales out: {others}" if others else "")


def _conflict(chart: Chart, pair: Pair, is_strong: bool) -> Finding:
    cosines, one_of = chart.cosines[pair], chart.recipe.weighting.type_name()
    is_treated = one_of in TREATING + ALSO_TREATING
    others = known(chart, TREATING)
    change = f"a weighting that looks at gradients: {others or 'load a plugin with one'}"
    if is_treated:
        change = f"nothing: {one_of}, which the recipe uses, is made for this"
    return Finding(
        "conflict",
        is_strong and not is_treated,
        f"tasks {pair[0]} and {pair[1]} are in conflict",
        f"mean cosine of their gradients at what both share {mean(cosines):+.2f}, below 0 in "
        f"{sum(x < 0 for x in cosines)} of {len(cosines)} measurements",
        "where they share parameters, a step for one undoes part of the other's",
        change,
    )


def known(chart: Chart, names: tuple[str, ...]) -> str:
    """Return those of some weightings that are loaded and not in use, in words.

    Args:
        chart: gives the recipe.
        names: of weightings.
    """
    loaded = chart.recipe.loaded.types("weighting")
    used = chart.recipe.weighting.type_name()
    return ", ".join(name for name in names if name in loaded and name != used)
