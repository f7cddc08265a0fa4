"""Writes two_task_steps.json: what two tasks and a pair of edges lose in three steps.

python tests/golden/make_two_task_steps.py

The file was first written from commit a4657da, before paths, phases and drawn edges; there this
script, which needs nothing newer, writes the same text. A change that writes another one has
changed how two tasks learn.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path

import torch

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[1])  # not this folder, whose files are tests

from fixtures import two_ranks
from fixtures.tiny import TINY

TESTS = Path(__file__).parents[1]
FILE = Path(__file__).with_name("two_task_steps.json")
METHODS = ("pcgrad", "uncertainty")  # one that sees gradients, one that sees losses


def losses_of(recipe: Path, method: str) -> list[dict[str, float]]:
    """Return the losses of the last of two batches, before each of three steps is taken.

    Args:
        recipe: file of the recipe that is altered, its encoder's plugin beside it.
        method: of weighting.

    Returns:
        For each step the task losses by name, and the parts that they are mixed of, computed in
        float64.
    """
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        learner = two_ranks.learner_of(recipe, "xtascnet", method, accumulate=2)
        steps = [
            learner.step(two_ranks.parts_of(number), number + 1, 1.0)
            for number in range(two_ranks.STEPS)
        ]
    finally:
        torch.set_default_dtype(before)
    both = [{**losses.tasks, **losses.terms} for losses in steps]
    return [{name: float(loss.detach()) for name, loss in sorted(one.items())} for one in both]


def written() -> str:
    """Return what the file should hold."""
    torch.set_num_threads(1)  # sums of several threads differ in their last bits
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(TESTS / "fixtures" / "tiny_encoder.py", folder)
        recipe = Path(folder) / "tiny.yaml"
        recipe.write_text(TINY, encoding="utf-8")
        found = {method: losses_of(recipe, method) for method in METHODS}
    return json.dumps(found, indent=1) + "\n"


if __name__ == "__main__":
    FILE.write_text(written(), encoding="utf-8")
