"""Kill a run with SIGKILL at random moments, resume it each time, compare with an undisturbed run.

Used by the tests on a tiny recipe; by hand on any:
python tests/kill_and_resume.py recipes/xtascnet_streets.yaml --kills 5 --set train.epochs=2
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch

LONGEST = 600  # seconds of one process


def command(recipe: Path, out: Path, settings: Sequence[str], resume: Path | None) -> list[str]:
    """Return the command line of a run, or of going on with one."""
    options = [part for setting in settings for part in ("--set", setting)]
    words = [sys.executable, "-m", "mtlkit", "run", str(recipe), *options, "--out", str(out)]
    return words if resume is None else [*words, "--resume", str(resume)]


def run_folder(out: Path) -> Path | None:
    """Return the only run folder below `out`, once it can be resumed."""
    found = list(out.glob("*/*/last.pt"))
    return found[0].parent if found else None


def run_until(words: list[str], out: Path, steps: int | None) -> int:
    """Start a run and kill it when `steps` more lines are logged; None lets it end."""
    with subprocess.Popen(words, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        before, deadline = logged(out), time.monotonic() + LONGEST
        while process.poll() is None:
            if time.monotonic() > deadline:
                process.kill()
                raise TimeoutError(f"no end after {LONGEST} s: {words}")
            if steps is not None and logged(out) >= before + steps:
                time.sleep(random.random() * 0.3)
                os.kill(process.pid, signal.SIGKILL)
            time.sleep(0.01)
        return process.returncode


def logged(out: Path) -> int:
    """Return the lines of the run's metrics.jsonl."""
    folder = run_folder(out)
    file = None if folder is None else folder / "metrics.jsonl"
    return len(file.read_bytes().splitlines()) if file is not None and file.exists() else 0


def killed_and_whole(
    recipe: Path, settings: Sequence[str], kills: int, steps: int, out: Path
) -> tuple[Path, Path, int]:
    """Return the folders of an undisturbed and of a killed run, and how often it was killed."""
    whole, broken = out / "whole", out / "broken"
    assert run_until(command(recipe, whole, settings, None), whole, None) == 0
    killed = 0
    for _ in range(kills):
        words = command(recipe, broken, settings, run_folder(broken))
        killed += run_until(words, broken, random.randint(1, steps)) == -signal.SIGKILL
    final = run_until(command(recipe, broken, settings, run_folder(broken)), broken, None)
    assert final == 0
    folders = run_folder(whole), run_folder(broken)
    assert folders[0] is not None and folders[1] is not None
    return folders[0], folders[1], killed


def differing(a: Path, b: Path) -> list[str]:
    """Return the names of the tensors in which two run folders' last checkpoints differ."""
    states = [torch.load(folder / "last.pt", weights_only=True) for folder in (a, b)]
    parts = [{**s["model"], **s["balancer"]} for s in states]
    assert states[0]["position"] == states[1]["position"]
    return [name for name in parts[0] if not torch.equal(parts[0][name], parts[1][name])]


def main() -> None:
    """Print how often the run was killed and whether the weights are equal."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--lines", type=int, default=3, help="most logged lines between kills")
    parser.add_argument("--set", action="append", default=[], dest="settings")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        a, b, killed = killed_and_whole(
            options.recipe, options.settings, options.kills, options.lines, Path(folder)
        )
        names = differing(a, b)
        equal = "bitwise equal" if not names else f"different in {len(names)} tensors: {names[:3]}"
        print(f"{options.settings}: killed {killed} times, weights {equal}")
        sys.exit(bool(names))


if __name__ == "__main__":
    main()
