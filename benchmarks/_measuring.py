"""Time and memory of steps: rounds in which all take turns, peaks in processes of their own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from typing import TypeVar

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
        steps: what takes turns.
        rounds: how often.
        clock: tells seconds.
    """
    found: dict[Entry, list[float]] = {entry: [] for entry in steps}
    for number in range(rounds + 1):
        for entry, step in steps.items():
            began = clock()
            step()
            if torch.accelerator.is_available():
                torch.accelerator.synchronize()
            if number > 0:
                found[entry].append(clock() - began)
    return found


def peak_elsewhere(script: str, *asked: str) -> float:
    """Return the peak in MiB that a process of its own prints last, in bytes.

    Args:
        script: to run.
        asked: its arguments.
    """
    command = [sys.executable, script, *asked]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1]) / MIB


def peak_here(build: Callable[[], Step], *, is_cpu: bool) -> int:
    """Return what building and taking a step adds to the memory at its peak, in bytes.

    Args:
        build: returns the step.
        is_cpu: whether resident memory counts, or what torch allocated on the accelerator.
    """
    before = _resident("VmRSS") if is_cpu else torch.accelerator.memory_allocated()
    step = build()
    for _ in range(STEPS):
        step()
    after = _resident("VmHWM") if is_cpu else torch.accelerator.max_memory_allocated()
    return after - before


def _resident(field: str) -> int:
    """Return a size of this process in bytes, as Linux tells it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(field))
