"""Rendered scenes as samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors

from mtlkit.errors import UsageError, suggest

from .numbering import scene_seeds
from .render import Frame, render
from .scene import Scene


@dataclass(frozen=True)
class Renderer:
    """What a kind of scene is and what its samples hold; module-level functions, for pickling.

    Args:
        scene: seed to scene.
        labels: label name to what makes the label from a frame.
    """

    scene: Callable[[int], Scene]
    labels: Mapping[str, Callable[[Frame], Tensor]]


class RenderedSplit(Dataset[dict[str, Tensor]]):
    """Samples that are rendered when they are asked for.

    Args:
        renderer: what to render.
        seeds: of the scenes, in order.
        size: height and width, pixels.
    """

    def __init__(self, renderer: Renderer, seeds: range, size: tuple[int, int]) -> None:
        self._renderer = renderer
        self._seeds = seeds
        self._size = size

    def __len__(self) -> int:
        return len(self._seeds)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        frame = render(self._renderer.scene(self._seeds[index]), *self._size)
        pixels = torch.from_numpy(frame.image).permute(2, 0, 1).contiguous()
        sample: dict[str, Tensor] = {"image": tv_tensors.Image(pixels)}
        for name, make in self._renderer.labels.items():
            sample[name] = make(frame)
        return sample


def split_seeds(seed: int, split: str, counts: Mapping[str, int]) -> range:
    """Return the seeds of a split's scenes.

    Args:
        seed: of the data set.
        split: which.
        counts: scenes by split.

    Raises:
        UsageError: there is no such split.
    """
    if split not in counts:
        raise UsageError(f"split {split!r}: no such split, {suggest(split, counts)}")
    return scene_seeds(seed, split, counts[split])
