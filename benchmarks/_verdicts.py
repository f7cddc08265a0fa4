"""A line for each ratio that is measured: median, spread, and whether the target is met."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence

Ratios = Sequence[float] | float
"""By round, or what is measured once, as a peak is."""
ENOUGH_ROUNDS = 5  # for a median that is held against a target


def over(own: Sequence[float], other: Sequence[float]) -> list[float]:
    """Return the ratios, round by round.

    Args:
        own: by round.
        other: by round.
    """
    return [x / y for x, y in zip(own, other, strict=True)]


def at_most(what: str, ratios: Ratios, limit: float) -> str:
    """Return the verdict of a ratio that should be small.

    Args:
        what: is compared.
        ratios: the median of rounds is judged.
        limit: of it.
    """
    return _line(what, ratios, f"≤ {limit:.2f}", _median(ratios) / limit - 1)


def at_least(what: str, ratios: Ratios, limit: float) -> str:
    """Return the verdict of a ratio that should be large.

    Args:
        what: is compared.
        ratios: the median of rounds is judged.
        limit: of it.
    """
    return _line(what, ratios, f"≥ {limit:.2f}", 1 - _median(ratios) / limit)


def untargeted(what: str, ratios: Ratios) -> str:
    """Return the line of a ratio that is only told.

    Args:
        what: is compared.
        ratios: of which the median is told.
    """
    return _line(what, ratios, "", None)


def print_lines(lines: Iterable[str]) -> None:
    """Print lines as they come.

    Args:
        lines: may take long to find.
    """
    for text in lines:
        print(text, flush=True)


def _line(what: str, ratios: Ratios, target: str, missed_by: float | None) -> str:
    rounds = ratios if isinstance(ratios, Sequence) else ()
    spread = f" ({min(rounds):.2f} to {max(rounds):.2f})" if len(rounds) > 1 else ""
    start = f"  {what:32}{_median(ratios):5.2f}{spread:18}"
    if missed_by is None:
        return start.rstrip()
    verdict = "meets" if missed_by <= 0 else f"misses by {missed_by:.0%}"
    if 0 < len(rounds) < ENOUGH_ROUNDS:
        verdict += f", with {len(rounds)} of the {ENOUGH_ROUNDS} rounds that it takes"
    return f"{start} {target}: {verdict}"


def _median(ratios: Ratios) -> float:
    return statistics.median(ratios) if isinstance(ratios, Sequence) else ratios
