"""The encoder `own_plugin`: a few convolutions of stride 2."""

from itertools import pairwise
from typing import Literal

from pydantic import Field
from torch import Tensor, nn

import mtlkit


class OwnPlugin(mtlkit.Encoder):
    """Stage i is two 3×3 convolutions with batch norm and halves the map, from stride 2 on."""

    type: Literal["own_plugin"] = "own_plugin"
    # EDIT: a field is a key of the recipe
    widths: tuple[int, ...] = Field((16, 32, 64, 128), min_length=1, description="of the stages")

    def build_encoder(self) -> tuple[nn.Module, mtlkit.FeatureSpec]:
        """Return the network, (N,3,H,W) in [0,1] to its maps, and what those maps are."""
        strides = tuple(2 ** (i + 1) for i in range(len(self.widths)))  # EDIT
        return Stages(self.widths), mtlkit.FeatureSpec(self.widths, strides, strides[-1])


class Stages(nn.Module):
    """The stages, one for each map.

    Args:
        widths: channels of the maps, finest first.
    """

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.stages = nn.ModuleList(_stage(a, b) for a, b in pairwise((3, *widths)))

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return the maps, (N,C,H/stride,W/stride), finest first.

        Args:
            image: (N,3,H,W), in [0,1].
        """
        x, maps = image - 0.5, []  # EDIT: normalise as the weights want it
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps


def _stage(before: int, after: int) -> nn.Sequential:
    """Return what makes a map of half the size."""
    return nn.Sequential(  # EDIT
        nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU(),
        nn.Conv2d(after, after, 3, padding=1, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU(),
    )


@mtlkit.hookimpl
def mtlkit_encoders() -> list[type[mtlkit.Encoder]]:
    """Offer the encoder to recipes."""
    return [OwnPlugin]
