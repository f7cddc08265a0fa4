"""The data set `own_plugin`: discs with exact labels, drawn on the fly."""

from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset
from torchvision import tv_tensors

import mtlkit
from mtlkit.errors import UsageError
from mtlkit.transforms import ClassMap, DepthMap


class OwnPlugin(mtlkit.Dataset):
    """One disc before a wall; nearer ones are brighter."""

    type: Literal["own_plugin"] = "own_plugin"
    # EDIT: a field is a key of the recipe; `size` is there already. What reads files has a `root`
    train: int = Field(200, ge=2, le=100_000, description="number of training samples")
    val: int = Field(50, ge=2, le=100_000, description="number of validation samples")

    @property
    def offers(self) -> Mapping[str, mtlkit.FieldSpec]:
        """The labels that tasks may learn."""
        return {  # EDIT: kinds of labels are in mtlkit.transforms
            "segmentation": mtlkit.FieldSpec(ClassMap, classes=("wall", "disc")),
            "depth": mtlkit.FieldSpec(DepthMap, unit="m"),
        }

    def build_split(self, split: str, wants: frozenset[str]) -> TorchDataset[dict[str, Tensor]]:
        """Return samples: "image" and the wanted labels, by name.

        Args:
            split: "train" or "val".
            wants: names of `offers`.

        Raises:
            UsageError: there is no such split.
        """
        counts = {"train": self.train, "val": self.val}
        if split not in counts:
            raise UsageError(f"{self.title} has no split {split!r}. It has train and val")
        return Discs(split, counts[split], self.size, wants)


class Discs(TorchDataset[dict[str, Tensor]]):
    """Draws sample i from the seed i, so that every process draws the same one."""

    def __init__(
        self, split: str, count: int, size: tuple[int, int], wants: frozenset[str]
    ) -> None:
        self.is_val, self.count, self.size, self.wants = split == "val", count, size, wants

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Return a sample.

        Args:
            index: its number in the split.
        """
        generator = torch.Generator().manual_seed(2 * index + self.is_val)  # splits share none
        row, column, share, *colour = torch.rand(6, generator=generator).tolist()
        height, width = self.size
        rows, columns = torch.arange(height)[:, None], torch.arange(width)
        radius = (0.1 + 0.3 * share) * min(self.size)
        distance = (rows - row * (height - 1)).square() + (columns - column * (width - 1)).square()
        is_disc = distance <= radius**2  # (H,W)
        depth_m = torch.where(is_disc, 1 / (0.1 + 0.3 * share), 12.0)
        shade = torch.tensor(colour)[:, None, None] * 255 / depth_m  # (3,H,W)
        image = shade + 20 * torch.rand(3, height, width, generator=generator)
        labels = {
            "segmentation": ClassMap(is_disc.to(torch.uint8)),
            "depth": DepthMap(depth_m[None]),
        }
        chosen = {name: label for name, label in labels.items() if name in self.wants}
        return {"image": tv_tensors.Image(image.clamp(0, 255).to(torch.uint8)), **chosen}


@mtlkit.hookimpl
def mtlkit_datasets() -> list[type[mtlkit.Dataset]]:
    """Offer the data set to recipes."""
    return [OwnPlugin]
