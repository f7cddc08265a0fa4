"""Where the time of a step goes, by phase; the device is never waited for in a step."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol, TypeVar

import torch

PHASES = ("data", "forward", "backward", "weighting", "optimizer")
"""What a step consists of: the wait for batches and their copy, the two passes, and so on."""
OTHER = "other"
"""What lies between them: trackers, checkpoints."""

T = TypeVar("T")


class Clock(Protocol):
    """Makes moments, and tells the time between two of them."""

    def now(self) -> Any:
        """Return this moment."""

    def is_past(self, moment: Any) -> bool:
        """Return whether the time of a moment is known, without waiting for it."""

    def wait(self, moment: Any) -> None:
        """Wait until it is."""

    def seconds(self, start: Any, end: Any) -> float:
        """Return the time between two moments that are past; the start is not asked for again."""


class HostClock:
    """For a device that is done when a call returns.

    Args:
        read: gives seconds.
    """

    def __init__(self, read: Callable[[], float] = time.perf_counter) -> None:
        self.now = read

    def is_past(self, moment: float) -> bool:
        """Return True.

        Args:
            moment: any.
        """
        return True

    def wait(self, moment: float) -> None:
        """Do nothing.

        Args:
            moment: any.
        """

    def seconds(self, start: float, end: float) -> float:
        """Return the time between two moments.

        Args:
            start: the earlier one.
            end: the later one.
        """
        return end - start


class StreamClock:
    """For a device with a queue: moments are events in it, so the time is that of the device.

    While the device waits for the host, for a batch say, its time runs on in the phase that the
    host is in.

    Args:
        device: whose current stream it is; copies on another stream count where this one waits.
    """

    def __init__(self, device: torch.device) -> None:
        self.device, self.free = device, list[torch.Event]()
        self.stream = torch.accelerator.current_stream(device)

    def now(self) -> torch.Event:
        """Return an event that was put into the queue."""
        event = self.free.pop() if self.free else torch.Event(self.device, enable_timing=True)
        event.record(self.stream)
        return event

    def is_past(self, moment: torch.Event) -> bool:
        """Return whether the device has come to an event.

        Args:
            moment: the event.
        """
        return bool(moment.query())

    def wait(self, moment: torch.Event) -> None:
        """Wait until the device has come to an event.

        Args:
            moment: the event.
        """
        moment.synchronize()

    def seconds(self, start: torch.Event, end: torch.Event) -> float:
        """Return the time between two events that are past.

        Args:
            start: the earlier one, which is used again for another moment.
            end: the later one.
        """
        found = start.elapsed_time(end) / 1000  # it tells milliseconds
        self.free.append(start)
        return found


class Stopwatch:
    """Sums of the time by phase: `with watch("forward"): ...`; an inner phase stops the outer one.

    Args:
        clock: that of the host, unless one is given.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self.clock: Clock = HostClock() if clock is None else clock
        self.beside: Callable[[str], contextlib.AbstractContextManager[Any]] = _nothing
        """Makes a context that every phase runs in, from its name: a profiler's range."""
        self._inside: list[str] = []
        self._since: Any = None
        self._laps: deque[tuple[str, Any, Any]] = deque()
        self._sums: dict[str, float] = {}

    @classmethod
    def on(cls, device: torch.device) -> Stopwatch:
        """Return one that tells the time of a device.

        Args:
            device: of the run.
        """
        return cls(HostClock() if device.type == "cpu" else StreamClock(device))

    @contextlib.contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        """Count the time within as that of a phase.

        Args:
            phase: its name.
        """
        self._lap()
        self._inside.append(phase)
        try:
            with self.beside(phase):
                yield
        finally:
            self._lap()
            self._inside.pop()

    def over(self, phase: str, items: Iterable[T]) -> Iterator[T]:
        """Yield items; the wait for each is a phase, and after the last one no time counts.

        Args:
            phase: its name.
            items: what is waited for.
        """
        try:
            with self(phase):
                iterator = iter(items)
            while True:
                with self(phase):
                    found = list(itertools.islice(iterator, 1))
                if not found:
                    return
                yield found[0]
        finally:
            self.pause()

    def pause(self) -> None:
        """Let no time count until the next phase begins."""
        self._lap()
        self._since = None

    def read(self) -> dict[str, float]:
        """Return the seconds of each phase and of what lay between, and begin anew.

        The device is waited for.
        """
        self._lap()
        self.clock.wait(self._since)
        self._add_up()
        sums, self._sums = self._sums, {}
        return sums

    def _lap(self) -> None:
        """End the time of the phase in progress, and begin that of the next."""
        now = self.clock.now()
        if self._since is not None:
            phase = self._inside[-1] if self._inside else OTHER
            self._laps.append((phase, self._since, now))
        self._since = now
        self._add_up()

    def _add_up(self) -> None:
        """Add what is past: few laps are kept, however rarely they are read."""
        while self._laps and self.clock.is_past(self._laps[0][2]):
            phase, start, end = self._laps.popleft()
            self._sums[phase] = self._sums.get(phase, 0.0) + self.clock.seconds(start, end)


def _nothing(phase: str) -> contextlib.AbstractContextManager[None]:
    return contextlib.nullcontext()
