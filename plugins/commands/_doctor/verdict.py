"""All findings of a chart, worst first."""

from __future__ import annotations

from collections.abc import Iterator

from . import balance, health
from .chart import Chart, Finding


def verdict(chart: Chart) -> list[Finding]:
    """Return all findings, faults first, each kind in order of how much it spoils.

    Args:
        chart: what was seen.
    """
    return sorted(_findings(chart), key=lambda finding: not finding.is_fault)  # stable


def _findings(chart: Chart) -> Iterator[Finding]:
    if chart.source is not None:
        yield chart.source
    grown = list(health.growth(chart))
    yield from grown
    if chart.is_enough:
        yield from health.labels(chart)
    if not grown and chart.source is None:
        yield from _of_sound_steps(chart)
    yield from health.unreached(chart)
    yield from health.weightless(chart)


def _of_sound_steps(chart: Chart) -> Iterator[Finding]:
    """Yield what means something only where losses are finite and do not blow up."""
    dead = list(health.dead(chart))
    yield from dead
    yield from health.still(chart)
    if not dead:  # it names them
        yield from health.stuck(chart)
    yield from balance.imbalance(chart)
    yield from balance.conflicts(chart)
    yield from health.one_class(chart)
