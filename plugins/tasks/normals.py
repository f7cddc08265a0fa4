"""Surface normals: one direction per pixel."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from mtlkit.contracts import Task
from mtlkit.hookspecs import hookimpl
from mtlkit.metrics import AngleWithin, MeanAngle, MedianAngle, RootMeanSquareAngle
from mtlkit.metrics.normals import angle_degrees
from mtlkit.nn import masked_mean
from mtlkit.structures import Label, MetricSpec
from mtlkit.transforms import NormalMap

from ._shared import kind_problems, precise

if TYPE_CHECKING:
    from mtlkit.recipe import Recipe

# a direction changes by 1/length per unit of the prediction: what is shorter counts as this long,
# so that the gradient ends at 10⁴ where it would be infinite
LEAST_LENGTH = 1e-4


class Normals(Task):
    """A normal per pixel, in the camera's axes; linear output of any length.

    Losses and edges take the prediction at length 1. `loss` is that of a pixel: `cosine` is 1 less
    the cosine of the angle, `l1` the mean over channels of |p/‖p‖ − g|. All valid pixels of the
    batch weigh the same.

    Source: cosine as in DenseMTL, arXiv 2206.08927; l1 as in Vandenhende et al., arXiv 2004.13379,
    released code (loss_functions.py, NormalsLoss).
    """

    type: Literal["normals"] = "normals"
    loss_kind: Literal["cosine", "l1"] = Field(
        "cosine", alias="loss", description="the error of a pixel"
    )
    disagreement_unit: ClassVar[str] = "1 - cos"
    error_unit: ClassVar[str] = "°"

    @property
    def channels(self) -> int:
        """x, y and z."""
        return 3

    @property
    def loss_name(self) -> str:
        """What `explain` calls the loss."""
        return self.loss_kind

    def loss(self, prediction: Tensor, label: Label) -> Tensor:
        """Return the mean error of the valid pixels.

        Args:
            prediction: vectors of any length, (N,3,H,W), float.
            label: unit vectors, (N,3,H,W), float.
        """
        unit = _direction(prediction)
        value = label.value.to(unit.dtype)
        if self.loss_kind == "l1":
            return masked_mean((unit - value).abs(), label)
        return masked_mean(1 - (unit * value).sum(1, keepdim=True), label)

    def metrics(self) -> dict[str, MetricSpec]:
        """Return angles and the shares below 11.25°, 22.5° and 30°, over all valid pixels."""
        return {
            "mean_angle": MetricSpec(MeanAngle(), "°", False),
            "median_angle": MetricSpec(MedianAngle(), "°", False),
            "rms_angle": MetricSpec(RootMeanSquareAngle(), "°", False),
            "within_11_25": MetricSpec(AngleWithin(11.25), "", True),
            "within_22_5": MetricSpec(AngleWithin(22.5), "", True),
            "within_30": MetricSpec(AngleWithin(30), "", True),
        }

    def as_input(self, prediction: Tensor) -> Tensor:
        """Return the directions, (N,3,H,W); where there is none, a vector shorter than 1.

        Args:
            prediction: vectors of any length, (N,3,H,W), float.
        """
        return _direction(prediction)

    def as_label(self, prediction: Tensor) -> Tensor:
        """Return unit vectors, (N,3,H,W), detached; 0 where the prediction is exactly 0.

        Args:
            prediction: vectors of any length, (N,3,H,W), float.
        """
        return functional.normalize(precise(prediction.detach()), dim=1)

    def disagreement(self, transferred: Tensor, prediction: Tensor) -> Tensor:
        """Return 1 less the cosine of the angle between both, (N,1,H,W), in [0,2].

        Args:
            transferred: vectors of any length, (N,3,H,W), float.
            prediction: vectors of any length, (N,3,H,W), float.
        """
        return 1 - (_direction(transferred) * _direction(prediction)).sum(1, keepdim=True)

    def pixel_error(self, prediction: Tensor, label: Label) -> Tensor:
        """Return the angle to the label, (N,1,H,W), in degrees, in [0,180].

        Args:
            prediction: vectors of any length, (N,3,H,W), float.
            label: unit vectors, (N,3,H,W), float.
        """
        return angle_degrees(precise(prediction), label.value)

    def render(self, value: Tensor) -> Tensor:
        """Return pictures, (N,3,H,W), in [0,1], coloured as the field does.

        Right is red, up is green, towards the camera is blue: (n·(1, −1, −1) + 1)/2.

        Args:
            value: unit vectors, (N,3,H,W), float, x right, y down, z forward.
        """
        usual = value.float() * torch.tensor([1.0, -1.0, -1.0], device=value.device)[:, None, None]
        return ((usual + 1) / 2).clamp(0, 1)

    def legend(self, value: Tensor, unit: str) -> str:
        """Return what the colours mean.

        Args:
            value: not used.
            unit: not used; directions have none.
        """
        return "right: red, up: green, towards the camera: blue"

    def problems(self, recipe: Recipe) -> Iterable[str]:
        """Yield what keeps the label from being learned.

        Args:
            recipe: the whole recipe.
        """
        return kind_problems(self, recipe, NormalMap, "directions")


def _direction(prediction: Tensor) -> Tensor:
    """Return p/‖p‖, (N,3,H,W), at least float32, with a finite gradient everywhere."""
    return functional.normalize(precise(prediction), dim=1, eps=LEAST_LENGTH)


@hookimpl
def mtlkit_tasks() -> list[type[Task]]:
    """Return the normals task."""
    return [Normals]
