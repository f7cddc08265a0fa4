"""The task `own_plugin`: the logarithm of a distance, for every pixel."""

from dataclasses import replace
from typing import Literal

from pydantic import Field
from torch import Tensor
from torchmetrics import MeanAbsoluteError

import mtlkit
from mtlkit.metrics import OnValid
from mtlkit.nn import masked_mean


class OwnPlugin(mtlkit.Task):
    """Learns log(max(d, `least`)) of a label of distances d, such as `depth` of `streets`."""

    type: Literal["own_plugin"] = "own_plugin"
    # EDIT: a field is a key of the recipe; `name`, `label` and `weight` are there already
    least: float = Field(1e-3, gt=0, description="distances below it count as this one")
    likelihood = "laplace"  # EDIT: of |error|; gaussian: of its square; categorical: of classes

    @property
    def channels(self) -> int:
        """Channels of the prediction."""
        return 1  # EDIT

    def read(self, batch: mtlkit.Batch) -> mtlkit.Label | None:
        """Return what is learned, (N,1,H,W), float; None where the batch has no label of it.

        Args:
            batch: images and labels.
        """
        label = super().read(batch)  # the one that the recipe names by `label`
        if label is None:
            return None
        return replace(label, value=label.value.clamp(min=self.least).log())  # EDIT

    def loss(self, prediction: Tensor, label: mtlkit.Label) -> Tensor:
        """Return the mean error of the valid pixels.

        Args:
            prediction: (N,1,H,W), float.
            label: as `read` returns it, or as another prediction's `as_label`.
        """
        error = (prediction - label.value).abs()  # EDIT: one number per pixel
        return masked_mean(error, label)

    def metrics(self) -> dict[str, mtlkit.MetricSpec]:
        """Return new metrics; OnValid makes any of torchmetrics look at valid pixels alone."""
        return {"abs_err": mtlkit.MetricSpec(OnValid(MeanAbsoluteError()), "", False)}  # EDIT

    # EDIT: a prediction that is not in the label's form (logits for classes) also needs `as_input`,
    # what edges read of it, `as_label`, what they compare with, and `render`, how it is drawn


@mtlkit.hookimpl
def mtlkit_tasks() -> list[type[mtlkit.Task]]:
    """Offer the task to recipes."""
    return [OwnPlugin]
