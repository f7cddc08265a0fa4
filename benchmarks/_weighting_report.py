"""What weighting_step.py prints: tables, and which targets are met."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from _verdicts import at_most, over
from _weighting_ways import SETTINGS

AT_LOSSES = ("equal", "uncertainty")

T = TypeVar("T")
Entry = tuple[str, str]
"""Way and method."""
Times = Mapping[Entry, Sequence[float]]
"""Seconds by round."""


def print_table(
    unit: str, ways: Iterable[str], methods: Sequence[str], values: Mapping[Entry, float]
) -> None:
    """Print a row for each method and a column for each way."""
    print(f"{unit:12}" + "".join(f"{way:>16}" for way in ways))
    for method in methods:
        cells = [values.get((way, method)) for way in ways]
        print(f"{method:12}" + "".join(f"{'' if x is None else f'{x:.0f}':>16}" for x in cells))


def xtasc_verdicts(methods: Sequence[str], times: Times) -> Iterator[str]:
    """Yield a line for each method at gradient level: its time over that of `equal`."""
    equal = times.get(("mtlkit", "equal"))
    if equal is not None:
        for method in [m for m in methods if m not in AT_LOSSES]:
            yield line(f"{method} / equal", times["mtlkit", method], equal, 1.15)


def time_verdicts(methods: Sequence[str], times: Times) -> Iterator[str]:
    """Yield a line for each method and rival: mtlkit's time over the rival's."""
    for method in methods:
        own = times["mtlkit", method]
        if ("plain", method) in times:
            yield line(f"{method} / plain", own, times["plain", method], 0.85)
        rivals = of_torchjd(method, times)
        if rivals:
            best = min(rivals, key=lambda way: statistics.median(rivals[way]))
            yield line(f"{method} / {best}", own, rivals[best], 1.10)


def peak_verdicts(methods: Sequence[str], peaks: Mapping[Entry, float]) -> Iterator[str]:
    """Yield a line for each method and rival: mtlkit's peak over the rival's."""
    for method in methods:
        own = peaks["mtlkit", method]
        if ("plain", method) in peaks:
            yield at_most(f"{method} / plain, peak", own / peaks["plain", method], 1.0)
        rivals = of_torchjd(method, peaks)
        if rivals:
            smallest = min(rivals, key=rivals.__getitem__)
            yield at_most(f"{method} / {smallest}, peak", own / rivals[smallest], 1.0)


def of_torchjd(method: str, found: Mapping[Entry, T]) -> dict[str, T]:
    """Return what was found of TorchJD's form of a method, by setting."""
    return {way: x for (way, other), x in found.items() if way in SETTINGS and other == method}


def line(what: str, own: Sequence[float], other: Sequence[float], most: float) -> str:
    """Return the verdict of a ratio, formed round by round."""
    return at_most(what, over(own, other), most)
