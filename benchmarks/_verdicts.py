"""A line for each ratio that is measured: median, spread, and whether the target is met."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence


def over(own: Sequence[float], other: Sequence[float]) -> list[float]:
    """Return the ratios, round by round.

    Args:
        own: by round.
        other: by round.
    """
    return [x / y for x, y in zip(own, other, strict=True)]


def at_most(what: str, ratios: Sequence[float], limit: float) -> str:
    """Return the verdict of a ratio that should be small.

    Args:
        what: is compared.
        ratios: by round; the median is judged.
        limit: of it.
    """
    ratio = statistics.median(ratios)
    return _line(what, ratios, f"≤ {limit:.2f}", ratio / limit - 1)


def at_least(what: str, ratios: Sequence[float], limit: float) -> str:
    """Return the verdict of a ratio that should be large.

    Args:
        what: is compared.
        ratios: by round; the median is judged.
        limit: of it.
    """
    ratio = statistics.median(ratios)
    return _line(what, ratios, f"≥ {limit:.2f}", 1 - ratio / limit)


def untargeted(what: str, ratios: Sequence[float]) -> str:
    """Return the line of a ratio that is only told.

    Args:
        what: is compared.
        ratios: by round.
    """
    return _line(what, ratios, "", None)


def print_lines(lines: Iterable[str]) -> None:
    """Print lines as they come.

    Args:
        lines: may take long to find.
    """
    for text in lines:
        print(text, flush=True)


def _line(what: str, ratios: Sequence[float], target: str, missed_by: float | None) -> str:
    spread = f" ({min(ratios):.2f} to {max(ratios):.2f})" if len(ratios) > 1 else ""
    start = f"  {what:32}{statistics.median(ratios):5.2f}{spread:18}"
    if missed_by is None:
        return start.rstrip()
    return f"{start} {target}: " + ("meets" if missed_by <= 0 else f"misses by {missed_by:.0%}")
