"""From the profiler's events to the time of each part, forward and backward."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from .ranges import Ranges

BACKWARD_EVENT = "autograd::engine::evaluate_function"
BACKWARD = "backward"
MICROSECONDS = 1e-6


class Place(NamedTuple):
    """Where time goes.

    Args:
        label: of a part or a phase.
        is_backward: whether it is the backward pass of what was computed there.
    """

    label: str
    is_backward: bool


def times_of(events: Iterable[Any], ranges: Ranges, *, on_host: bool) -> dict[Place, float]:
    """Return the seconds of every place; each moment counts once, where it is innermost.

    Args:
        events: of `torch.profiler`, with those of the host.
        ranges: in force when they were recorded.
        on_host: whether the host computes; else the time of kernels counts, where they were
            started.
    """
    places: dict[int, Place | None] = {}
    found: dict[Place, float] = {}
    for event in events:
        place = _place(event, ranges, places)
        if place is not None:
            own = _host_time(event) if on_host else _device_time(event, ranges)
            found[place] = found.get(place, 0.0) + own * MICROSECONDS
    return found


def _place(event: Any, ranges: Ranges, known: dict[int, Place | None]) -> Place | None:
    """Return where an event belongs; None: outside of every phase."""
    if id(event) in known:
        return known[id(event)]
    above = None if event.cpu_parent is None else _place(event.cpu_parent, ranges, known)
    place = above
    if event.name.startswith(BACKWARD_EVENT):
        maker = ranges.maker(event.sequence_nr)
        place = Place(maker, True) if maker else above or Place(BACKWARD, False)
    elif event.name in ranges.labels:
        place = Place(event.name, above is not None and above.is_backward)
    known[id(event)] = place
    return place


def _host_time(event: Any) -> float:
    return float(event.self_cpu_time_total)


def _device_time(event: Any, ranges: Ranges) -> float:
    # a range starts no kernel itself, but may be shown on the device as if it were one
    return 0.0 if event.name in ranges.labels else float(event.self_device_time_total)
