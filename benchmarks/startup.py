"""How long it takes until mtlkit answers, against importing torch alone.

python benchmarks/startup.py [--rounds 5]

Each is a fresh process with Python's files already in the file cache: `import mtlkit`, `mtlkit
--help`, which need no torch, `mtlkit check` of the demo recipe, which does, and `import torch`. All
take turns; ratios are formed round by round. The first two may cost half of what torch does; of the
check, which imports torch and builds the network of tensors without values, there is no target.

With `--clock cpu` processor seconds of the processes count, which vary less on a busy machine.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from _measuring import timed
from _verdicts import at_most, over, untargeted

RECIPE = Path(__file__).parents[1] / "recipes" / "xtascnet_streets.yaml"
MTLKIT = [sys.executable, "-m", "mtlkit"]
TORCH, CHECK = "import torch", "mtlkit check RECIPE"
WAYS: Mapping[str, Sequence[str]] = {
    TORCH: [sys.executable, "-c", "import torch"],
    "import mtlkit": [sys.executable, "-c", "import mtlkit"],
    "mtlkit --help": [*MTLKIT, "--help"],
    CHECK: [*MTLKIT, "check", str(RECIPE)],
}
LIMITS = {"import mtlkit": 0.50, "mtlkit --help": 0.50}


def main() -> None:
    """Measure, and print milliseconds and ratios."""
    options = parse()
    clock: Callable[[], float] = {"wall": time.perf_counter, "cpu": seconds_of_children}[
        options.clock
    ]
    print(f"load {os.getloadavg()[0]:.1f}", flush=True)
    names = [name for name in WAYS if name != CHECK or not options.no_check]
    steps = {name: partial(start, WAYS[name]) for name in names}
    report(timed(steps, options.rounds, clock))


def parse() -> argparse.Namespace:
    """Return the arguments."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clock", default="wall", choices=["wall", "cpu"])
    parser.add_argument("--no-check", action="store_true", help="leave out what takes longest")
    return parser.parse_args()


def start(command: Sequence[str]) -> str:
    """Run a command in a fresh process, and return what it printed.

    Args:
        command: program and arguments.

    Raises:
        CalledProcessError: it failed.
    """
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def seconds_of_children() -> float:
    """Return the processor seconds of all processes that this one has started and seen end."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def report(times: Mapping[str, Sequence[float]]) -> None:
    """Print milliseconds and ratios.

    Args:
        times: seconds, by way and round.
    """
    print(f"{'':22}{'ms':>8}")
    for name, found in times.items():
        print(f"{name:22}{1000 * statistics.median(found):8.0f}")
    for name, found in times.items():
        ratios, what = over(found, times[TORCH]), f"{name} / {TORCH}"
        if name in LIMITS:
            print(at_most(what, ratios, LIMITS[name]))
        elif name != TORCH:
            print(untargeted(what, ratios))


if __name__ == "__main__":
    main()
