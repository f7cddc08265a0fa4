"""Time and memory of steps: rounds in which all take turns, peaks in processes of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch

MIB = 2**20
STEPS = 3  # that a process takes whose memory is measured

Step = Callable[[], object]
Entry = TypeVar("Entry", bound=Hashable)


def timed(
    steps: Mapping[Entry, Step], rounds: int, clock: Callable[[], float]
) -> dict[Entry, list[float]]:
    """Return the seconds of every step by round, after a round to warm up.

    Args:
        steps: what takes turns; those that are served are timed where they run.
        rounds: how often.
        clock: tells seconds.
    """
    found: dict[Entry, list[float]] = {entry: [] for entry in steps}
    for number in range(rounds + 1):
        for entry, step in steps.items():
            seconds = step() if isinstance(step, Served) else seconds_of(step, clock)
            if number > 0:
                found[entry].append(seconds)
    return found


class Served:
    """A step in a process of its own, with its own memory, taken when it is asked for.

    Args:
        script: to run; calls `serve`.
        asked: its arguments.
    """

    def __init__(self, script: str, *asked: str) -> None:
        command = [sys.executable, script, *asked]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.told = self._line()

    def __call__(self) -> float:
        """Take a step, and return its seconds."""
        assert self.process.stdin is not None
        print(file=self.process.stdin, flush=True)
        return float(self._line())

    def end(self) -> None:
        """Let the process end."""
        self.process.communicate()

    def _line(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:  # its error is on the terminal
            sys.exit(self.process.wait() or 1)
        return json.loads(line)


def serve(told: object, step: Step, clock: Callable[[], float]) -> None:
    """Tell something, then take a step for every line that comes, and tell its seconds.

    Args:
        told: made into JSON.
        step: what is timed.
        clock: tells seconds.
    """
    print(json.dumps(told), flush=True)
    for _ in sys.stdin:
        print(json.dumps(seconds_of(step, clock)), flush=True)


def seconds_of(step: Step, clock: Callable[[], float]) -> float:
    """Return the seconds of a step, the device's work included.

    Args:
        step: what is timed.
        clock: tells seconds.
    """
    _wait()  # or work that is still queued would count
    began = clock()
    step()
    _wait()
    return clock() - began


def peak_elsewhere(script: str, *asked: str) -> float:
    """Return the peak in MiB that a process of its own prints last, in bytes.

    Args:
        script: to run.
        asked: its arguments.
    """
    command = [sys.executable, script, *asked]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1]) / MIB


def peak_here(build: Callable[[], Step], device: torch.device) -> int:
    """Return what building and taking a step adds to the memory at its peak, in bytes.

    Args:
        build: returns the step.
        device: of the step; on the CPU resident memory counts, elsewhere what torch allocated.
    """
    before, _ = _memory(device)
    step = build()
    for _ in range(STEPS):
        step()
    _, most = _memory(device)
    return most - before


def _memory(device: torch.device) -> tuple[int, int]:
    """Return what is in use and the most that was, in bytes."""
    if device.type == "cpu":
        return _resident("VmRSS"), _resident("VmHWM")
    module = torch.get_device_module(device)  # torch.accelerator counts no memory before 2.9
    return module.memory_allocated(device), module.max_memory_allocated(device)


def _resident(field: str) -> int:
    """Return a size of this process in bytes, as Linux tells it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(field))


def _wait() -> None:
    """Wait until the accelerator, if there is one, has done what it was told to."""
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()
