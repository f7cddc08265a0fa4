"""How much better a run predicts depth than the mean map of its training labels.

python benchmarks/mean_predictor.py runs/xtascnet-streets/TIME

The mean map holds, for every pixel, the mean of the training labels that are valid there; it is
what a network that ignores its input can learn. Prints both absolute errors and their ratio.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

import mtlkit
from mtlkit import checkpoint
from mtlkit.actions import Source, load_run
from mtlkit.samples import build_samples


def stacked(run: mtlkit.Run, split: str, label: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return all labels of a split, not augmented, and where they are valid: (K,1,H,W)."""
    pairs = []
    for part in build_samples(run.recipe, split).parts:
        own = next(own for own, name in part.names.items() if name == label)
        pairs += [part.split[i][own].to_label() for i in range(len(part))]
    values, masks = zip(*pairs, strict=True)
    return torch.stack(values), torch.stack(masks)


def main() -> None:
    """Print the two errors and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path, help="run folder or checkpoint")
    parser.add_argument("--task", default="depth")
    options = parser.parse_args()
    run = load_run(checkpoint.find(options.run), Source("", [], None, [], []))
    label = run.recipe.tasks[options.task].reads[0]
    values, masks = stacked(run, "train", label)
    mean = (values * masks).sum(0) / masks.sum(0).clamp(min=1)
    values, masks = stacked(run, "val", label)
    constant = float(((values - mean).abs() * masks).sum() / masks.sum())
    model = run.evaluate("val")[f"{options.task}/abs_err"]
    print(f"mean map {constant:.4g}, model {model:.4g}, ratio {model / constant:.3f}")


if __name__ == "__main__":
    main()
