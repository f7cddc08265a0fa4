"""Reconstruction: the image itself, which needs no label."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional
from torchmetrics import MeanAbsoluteError
from torchmetrics.image import PeakSignalNoiseRatio

from mtlkit.contracts import Task
from mtlkit.hookspecs import hookimpl
from mtlkit.metrics import OnValid
from mtlkit.nn import masked_mean
from mtlkit.structures import Batch, Label, MetricSpec

from ._shared import precise

if TYPE_CHECKING:
    from mtlkit.recipe import Recipe

SMOOTH_BELOW = 0.1  # of errors: at smooth_l1's usual 1, which none exceeds, it would be half of mse


class OnImage(OnValid):
    """A metric of the prediction as it is shown: cut to [0,1]."""

    def update(self, prediction: Tensor, label: Label) -> None:
        """Count a batch.

        Args:
            prediction: RGB, (N,3,H,W), float.
            label: RGB, (N,3,H,W), float, in [0,1].
        """
        super().update(prediction.float().clamp(0, 1), label)


class Reconstruction(Task):
    """The batch's images, as the encoder gets them, augmented; linear output.

    It reads no label, and every pixel is valid. `loss` is the error of a pixel, averaged over
    channels: `l1`, `mse`, or `smooth_l1`, quadratic below 0.1. All pixels of the batch weigh the
    same. Metrics, pictures and pseudo-labels have the prediction cut to [0,1].
    """

    type: Literal["reconstruction"] = "reconstruction"
    loss_kind: Literal["l1", "mse", "smooth_l1"] = Field(
        "l1", alias="loss", description="the error of a pixel"
    )
    likelihood: ClassVar[Literal["gaussian", "laplace", "categorical"]] = "laplace"

    @property
    def channels(self) -> int:
        """Red, green and blue."""
        return 3

    @property
    def reads(self) -> tuple[str, ...]:
        """No label."""
        return ()

    @property
    def loss_name(self) -> str:
        """What `explain` calls the loss."""
        return self.loss_kind

    def read(self, batch: Batch) -> Label:
        """Return the images, valid everywhere.

        Args:
            batch: with images.
        """
        return Label(batch.image, torch.ones_like(batch.image[:, :1], dtype=torch.bool))

    def loss(self, prediction: Tensor, label: Label) -> Tensor:
        """Return the mean error of the valid pixels.

        Args:
            prediction: RGB, (N,3,H,W), float.
            label: RGB, (N,3,H,W), float, in [0,1].
        """
        found = precise(prediction)
        value = label.value.to(found.dtype)
        match self.loss_kind:
            case "l1":
                values = (found - value).abs()
            case "mse":
                values = (found - value).square()
            case "smooth_l1":
                values = functional.smooth_l1_loss(
                    found, value, reduction="none", beta=SMOOTH_BELOW
                )
        return masked_mean(values, label)

    def metrics(self) -> dict[str, MetricSpec]:
        """Return the mean absolute error, of values in [0,1], and PSNR, both of the whole set.

        PSNR is that of the mean squared error over all pixels of the set; papers also average the
        images' own, which is never lower.
        """
        return {
            "abs_err": MetricSpec(OnImage(MeanAbsoluteError()), "", False),
            "psnr": MetricSpec(OnImage(PeakSignalNoiseRatio(data_range=1.0)), "dB", True),
        }

    def as_label(self, prediction: Tensor) -> Tensor:
        """Return the prediction cut to [0,1], (N,3,H,W), detached.

        Args:
            prediction: RGB, (N,3,H,W), float.
        """
        return precise(prediction.detach()).clamp(0, 1)

    def render(self, value: Tensor) -> Tensor:
        """Return the images, (N,3,H,W), in [0,1].

        Args:
            value: RGB, (N,3,H,W), float.
        """
        return value.float().clamp(0, 1)

    def legend(self, value: Tensor, unit: str) -> str:
        """Return what is shown.

        Args:
            value: not used.
            unit: not used; colours have none.
        """
        return "the colours of the image"

    def problems(self, recipe: Recipe) -> Iterable[str]:
        """Yield that a label would not be read.

        Args:
            recipe: not used.
        """
        if self.label:
            message = "reconstruction learns the image and reads no label. "
            yield f"{message}Remove `label: {self.label}`"


@hookimpl
def mtlkit_tasks() -> list[type[Task]]:
    """Return the reconstruction task."""
    return [Reconstruction]
