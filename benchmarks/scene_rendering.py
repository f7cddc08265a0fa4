"""How long one scene of `streets` and one of `rooms` takes to render on one core.

python benchmarks/scene_rendering.py

Prints the median over ten scenes of 128×256 pixels of the least of a few times each, which is what
a busy machine disturbs least; the target is 100 ms. Only numpy runs, and in one thread.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

from mtlkit_plugins.datasets._scenes.render import render
from mtlkit_plugins.datasets._scenes.room import room
from mtlkit_plugins.datasets._scenes.scene import Scene
from mtlkit_plugins.datasets._scenes.street import street

SIZE = (128, 256)
TARGET_MS = 100.0
KINDS = {"streets": street, "rooms": room}


def milliseconds(build: Callable[[int], Scene], seed: int) -> float:
    """Return the processor time to make up a scene and to render it."""
    start = time.process_time()
    render(build(seed), *SIZE)
    return (time.process_time() - start) * 1000


def main() -> None:
    """Print a line for each kind of scene."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--scenes", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    for name, build in KINDS.items():
        milliseconds(build, 0)  # the first call also pays for numpy's own start
        times = [
            min(milliseconds(build, seed) for _ in range(options.repeats))
            for seed in range(options.scenes)
        ]
        median, most = statistics.median(times), max(times)
        verdict = "meets" if median <= TARGET_MS else "misses"
        print(f"{name}: median {median:.1f} ms, most {most:.1f} ms, {verdict} {TARGET_MS:.0f} ms")


if __name__ == "__main__":
    main()
