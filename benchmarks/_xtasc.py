"""XTasC-Net of the reference recipe on rendered streets: what several benchmarks take steps of."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

import mtlkit
from mtlkit.device import move
from mtlkit.structures import Batch

RECIPE = Path(__file__).parents[1] / "recipes" / "xtascnet_cityscapes.yaml"
VOID = 0.1  # share of the pixels without a class; rendered streets have none of themselves
TINY = {
    "encoder.depth": 18,
    "architecture.width": 8,
    "edges": [{"from": "all", "to": "all", "type": "xtc", "weight": 0.01, "widths": [8, 8, 16]}],
}
CLOCKS: Mapping[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}


@dataclass(frozen=True)
class Case:
    """What is measured.

    Args:
        images: in a batch.
        device: as in a recipe.
        threads: of torch; None: as it chooses.
        is_quick: whether everything is tiny, to see that it runs.
    """

    images: int
    device: str
    threads: int | None
    is_quick: bool

    @classmethod
    def of(cls, options: argparse.Namespace) -> Case:
        """Return the case that arguments ask for.

        Args:
            options: of `add_options`.
        """
        return cls(options.images, options.device, options.threads, options.quick)

    def recipe(self, precision: str, **train: Any) -> mtlkit.Recipe:
        """Return the reference recipe on rendered streets.

        Args:
            precision: as in a recipe.
            train: other settings of the section `train`.
        """
        size = [32, 64] if self.is_quick else [128, 256]
        tiny = TINY if self.is_quick else {}
        chosen = {"device": self.device, "precision": precision, "threads": self.threads} | train
        changes = {
            "data": {"type": "streets", "size": size, "train": self.images, "val": 1},
            "loader": {"batch_size": self.images},
            **{f"train.{name}": value for name, value in chosen.items()},
        }
        return mtlkit.load_recipe(RECIPE, changes | tiny)

    def batch(self, loader: Iterable[Batch], device: torch.device) -> Batch:
        """Return a training batch on a device; always the same.

        Args:
            loader: of the training split of `recipe`.
            device: where to.
        """
        batch = next(iter(loader))
        classes = batch.labels["segmentation"]
        drawn = torch.rand(classes.valid.shape, generator=torch.Generator().manual_seed(0))
        kept = replace(classes, valid=classes.valid & (drawn >= VOID))
        batch = replace(batch, labels=batch.labels | {"segmentation": kept})
        return move(batch, device)

    @property
    def title(self) -> str:
        """What stands above a table."""
        height, width = self.recipe("fp32").size
        return f"{self.images}×3×{height}×{width} on {self.device}"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that benchmarks of XTasC-Net share.

    Args:
        parser: in place.
    """
    parser.add_argument("--images", type=int, default=4, help="in a batch")
    parser.add_argument("--rounds", type=int, default=5, help="a verdict takes 5")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, help="of torch; as it chooses, if left out")
    parser.add_argument("--clock", default="wall", choices=CLOCKS)
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it runs")


def strict_fp32() -> None:
    """Let fp32 be fp32 on CUDA, whatever a way in lower precision asked torch for."""
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
