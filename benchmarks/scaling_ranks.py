"""What several ranks cost: the same images in a step, taken by one rank and by two, over gloo.

python benchmarks/scaling_ranks.py [--rounds 5] [--steps 4] [--threads 1] [--quick]

A step is that of a run of recipes/xtascnet_streets.yaml on the CPU: forward, backward, reduction,
optimizer. Every rank has cores / ranks threads, or as many as asked for. Three ways take turns in
every round, each in processes of its own that stay until the end:

one rank       batches of N images, all threads.
same a step    two ranks, batches of N / 2: the images of a step stay. Ideal: the time of one rank,
               for the cores are shared out; what is above is the price of small batches, of the
               messages, and of ranks that wait for each other.
same a rank    two ranks, batches of N: a step has twice the images. Ideal: twice the time.

The table has the median of a step's milliseconds and images per second; a ratio below is formed
round by round, then its median taken: images per second of the way over those of one rank.
Where others use the machine, threads and ranks wait for each other: give --threads 1, so that one
rank has as many as each of two (then 2 is ideal in both rows).
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch
from _xtasc import TINY

import mtlkit
from mtlkit import launch
from mtlkit.device import usable_cores

RECIPE = Path(__file__).parents[1] / "recipes" / "xtascnet_streets.yaml"
QUICK = {"data.size": [32, 64], **TINY}
IMAGES = 4
WAYS = {"one rank": (1, IMAGES), "same a step": (2, IMAGES // 2), "same a rank": (2, IMAGES)}
"""Ranks, and images of each rank's batch."""


def main() -> None:
    """Measure, and print the table and ratios; with --rank be one of the processes."""
    options = parse()
    if options.batch:
        serve(options)
        return
    found: dict[str, list[float]] = {way: [] for way in WAYS}
    with ExitStack() as stack:
        steps = {way: stack.enter_context(started(way, options)) for way in WAYS}
        for _ in range(options.rounds):
            for way, first in steps.items():
                assert first.stdin is not None and first.stdout is not None
                first.stdin.write("go\n")
                first.stdin.flush()
                found[way].append(float(first.stdout.readline()))
    report(found)


def parse() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=4, help="of a round")
    parser.add_argument("--threads", type=int, default=0, help="of a rank; 0: cores / ranks")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it runs")
    parser.add_argument("--batch", type=int, default=0, help=argparse.SUPPRESS)
    return parser.parse_args()


@contextmanager
def started(way: str, options: argparse.Namespace) -> Iterator[subprocess.Popen[str]]:
    """Start the ranks of a way, and give the first, which is told when to take steps."""
    count, batch = WAYS[way]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    words = [__file__, "--batch", str(batch), "--steps", str(options.steps)]
    words += ["--threads", str(options.threads)]
    words += ["--quick"] if options.quick else []
    group = {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)}
    group |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    ranks = [
        subprocess.Popen(
            [sys.executable, *words],
            env=os.environ | group | {"RANK": str(rank), "OMP_WAIT_POLICY": "PASSIVE"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(count)
    ]
    try:
        assert ranks[0].stdout is not None
        ranks[0].stdout.readline()  # it is warm
        yield ranks[0]
    finally:
        for rank in reversed(ranks):  # others wait for the first, and complain of its end
            rank.kill()
            rank.communicate()


def serve(options: argparse.Namespace) -> None:
    """Be a rank: take the steps of a round each time that the first one is told to."""
    with ExitStack() as stack:
        if os.environ["WORLD_SIZE"] != "1":
            stack.enter_context(launch.joined())
        changes = {"loader.batch_size": options.batch, "train.device": "cpu", "data.train": 8}
        recipe = mtlkit.load_recipe(RECIPE, changes | (QUICK if options.quick else {}))
        run = mtlkit.Run(recipe)
        torch.set_num_threads(options.threads or usable_cores())
        batch = next(iter(run.loader("train")[0]))
        run.step(batch)
        answer = "warm"
        while True:
            if run.ranks.is_first:
                print(answer, flush=True)
                sys.stdin.readline()
            run.ranks.meet()
            began = time.perf_counter()
            for _ in range(options.steps):
                run.step(batch)
            run.ranks.meet()
            answer = str((time.perf_counter() - began) / options.steps)


def report(found: dict[str, list[float]]) -> None:
    """Print the table and the ratios."""
    print(f"{'way':<12} {'ranks':>5} {'images':>6} {'ms a step':>10} {'images/s':>9} {'ratio':>6}")
    alone = [IMAGES / seconds for seconds in found["one rank"]]
    for way, (count, batch) in WAYS.items():
        images = count * batch
        speed = [images / seconds for seconds in found[way]]
        ratio = statistics.median(x / y for x, y in zip(speed, alone, strict=True))
        ms = 1000 * statistics.median(found[way])
        print(
            f"{way:<12} {count:>5} {images:>6} {ms:>10.1f} {statistics.median(speed):>9.2f} "
            f"{ratio:>6.2f}"
        )


if __name__ == "__main__":
    main()
