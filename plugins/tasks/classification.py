"""Classification: one class per image."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional
from torchmetrics.classification import MulticlassAccuracy

from mtlkit.contracts import Task
from mtlkit.hookspecs import hookimpl
from mtlkit.metrics import OnValid
from mtlkit.nn import Decoder, masked_mean
from mtlkit.structures import FeatureSpec, Label, MetricSpec
from mtlkit.transforms import ImageClass

from ._shared import ABSENT, kind_problems, precise

if TYPE_CHECKING:
    from mtlkit.recipe import Recipe


class Deepest(nn.Module):
    """Picks the deepest of the feature maps."""

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Return it, (N,C,h,w).

        Args:
            features: the encoder's maps, finest first.
        """
        return features[-1]


class Classification(Task):
    """A class per image, learned by cross-entropy over the batch's labelled images.

    Its decoder averages the deepest feature map over its pixels; a linear layer follows. A label
    may also hold probabilities, (N,C), as soft pseudo-labels do.

    Source: the classifier of ResNet, arXiv 1512.03385; label smoothing, arXiv 1512.00567, eq. 6.
    """

    type: Literal["classification"] = "classification"
    classes: int = Field(ge=2, le=255, description="number of classes")
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="share of the label that is spread evenly over all classes"
    )
    vector: ClassVar[bool] = True
    likelihood: ClassVar[Literal["gaussian", "laplace", "categorical"]] = "categorical"

    @property
    def channels(self) -> int:
        """One logit per class."""
        return self.classes

    @property
    def loss_name(self) -> str:
        """What `explain` calls the loss."""
        return "cross_entropy"

    def loss(self, prediction: Tensor, label: Label) -> Tensor:
        """Return cross-entropy, averaged over the labelled images.

        Args:
            prediction: logits, (N,C), float.
            label: ids, (N,), int64; or probabilities, (N,C), float.
        """
        logits = precise(prediction)
        value = label.value if label.value.ndim == 1 else label.value.to(logits.dtype)
        values = functional.cross_entropy(
            logits, value, reduction="none", label_smoothing=self.label_smoothing
        )
        return masked_mean(values, label)

    def metrics(self) -> dict[str, MetricSpec]:
        """Return the share of the set's labelled images whose likeliest class is right."""
        accuracy = MulticlassAccuracy(self.classes, average="micro", validate_args=False)
        return {"accuracy": MetricSpec(OnValid(accuracy), "", True)}

    def build_head(self, width: int) -> nn.Module:
        """Return hidden (N,width,H,W) to prediction: the mean over pixels, then a linear layer.

        Args:
            width: channels of the hidden map.
        """
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, self.channels))

    def build_decoder(self, features: FeatureSpec, width: int) -> Decoder:
        """Return feature maps to prediction: the deepest map, then the head.

        Args:
            features: what the encoder returns.
            width: not used; nothing lies between map and head.
        """
        return Decoder(Deepest(), self.build_head(features.channels[-1]))

    def as_input(self, prediction: Tensor) -> Tensor:
        """Return log-probabilities.

        Args:
            prediction: logits, (N,C), float.
        """
        return functional.log_softmax(prediction, 1)

    def label_as_input(self, label: Label) -> Tensor:
        """Return the logarithm of the one-hot label, (N,C), clamped to be finite.

        Args:
            label: ids, (N,), int64; or probabilities, (N,C), float.
        """
        if label.value.ndim == 2:
            return label.value.clamp(min=ABSENT).log()
        ids = torch.arange(self.classes, device=label.value.device)
        return (label.value[:, None] == ids).float().clamp(min=ABSENT).log()

    def as_label(self, prediction: Tensor) -> Tensor:
        """Return the likeliest class, (N,), int64, detached.

        Args:
            prediction: logits, (N,C), float.
        """
        return prediction.detach().argmax(1)

    def as_soft_label(self, prediction: Tensor, temperature: float) -> Tensor:
        """Return probabilities, (N,C), detached.

        Args:
            prediction: logits, (N,C), float.
            temperature: what the logits are divided by, > 0; above 1 is softer.
        """
        return (precise(prediction.detach()) / temperature).softmax(1)

    def problems(self, recipe: Recipe) -> Iterable[str]:
        """Yield what keeps the label from being learned.

        Args:
            recipe: the whole recipe.
        """
        name = self.reads[0]
        faults = list(kind_problems(self, recipe, ImageClass, "one class per image"))
        yield from faults
        known = len(recipe.offers[name].classes) if name in recipe.offers else 0
        if known not in (0, self.classes) and not faults:
            message = f"label {name!r} has {known} classes, not {self.classes}. "
            yield f"{message}Write `classes: {known}`"


@hookimpl
def mtlkit_tasks() -> list[type[Task]]:
    """Return the classification task."""
    return [Classification]
