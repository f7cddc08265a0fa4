"""The task contract: what is predicted, and how edges read and score it."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from mtlkit.contracts.plugin import Plugin
from mtlkit.nn import Decoder, Trunk
from mtlkit.structures import LABEL_UNIT, Batch, FeatureSpec, Label, MetricSpec


class Task(Plugin):
    """What is predicted: decoder, loss and metrics, and how an edge reads and scores it."""

    name: str = Field("", description="the key in `tasks`; set by the recipe")
    label: str = Field("", description="the label it learns from; default: its name")
    weight: float = Field(1.0, ge=0, description="factor of the task's loss")
    evaluate: bool = Field(True, description="False: trained, and not in the metrics")
    vector: ClassVar[bool] = False
    """True: the prediction is (N,C), not a map."""
    likelihood: ClassVar[Literal["gaussian", "laplace", "categorical"]] = "gaussian"
    """What the loss is a negative log-likelihood of; read by uncertainty weighting."""
    disagreement_unit: ClassVar[str] = LABEL_UNIT
    """The unit of `disagreement` as tables show it; LABEL_UNIT: that of the label."""
    error_unit: ClassVar[str] = LABEL_UNIT
    """The unit of `pixel_error`, likewise."""

    @property
    @abstractmethod
    def channels(self) -> int:
        """Channels of the prediction."""

    @abstractmethod
    def loss(self, prediction: Tensor, label: Label) -> Tensor:
        """Return a scalar made with `nn.masked_mean`: 0, on the graph, where nothing is valid.

        Args:
            prediction: (N,C,H,W) float, or (N,C).
            label: what to compare with.
        """

    @abstractmethod
    def metrics(self) -> dict[str, MetricSpec]:
        """Return new metrics by name, each updated with (prediction, label)."""

    @property
    def reads(self) -> tuple[str, ...]:
        """Names of the labels that it needs."""
        return (self.label or self.name,)

    @property
    def loss_name(self) -> str:
        """What `explain` calls the loss."""
        return f"{self.type_name()}_loss"

    @property
    def uses(self) -> tuple[str, ...]:
        """Names of extras that it uses where the data offers them."""
        return ()

    def read(self, batch: Batch) -> Label | None:
        """Return the one label to learn from; None if this batch has none.

        Args:
            batch: labels and extras by name.
        """
        return batch.labels.get(self.reads[0])

    def build_head(self, width: int) -> nn.Module:
        """Return hidden (N,width,H,W) to prediction: a 1×1 convolution without bias.

        Args:
            width: channels of the hidden map.
        """
        head = nn.Conv2d(width, self.channels, 1, bias=False)
        nn.init.xavier_normal_(head.weight)
        return head

    def build_decoder(self, features: FeatureSpec, width: int) -> Decoder:
        """Return feature maps to prediction; a U-Net.

        Args:
            features: what the encoder returns.
            width: channels of the decoder's blocks.
        """
        return Decoder(Trunk(features, width), self.build_head(width))

    def as_input(self, prediction: Tensor) -> Tensor:
        """Return what an edge reads of the prediction; live, not detached.

        Args:
            prediction: (N,C,H,W).
        """
        return prediction

    def label_as_input(self, label: Label) -> Tensor:
        """Return what an edge reads of a label, in the form of `as_input`.

        Args:
            label: with a value of float maps; override for others.
        """
        return label.value

    def as_label(self, prediction: Tensor) -> Tensor:
        """Return the prediction as a pseudo-label's value, detached.

        Args:
            prediction: (N,C,H,W).
        """
        return prediction.detach()

    def as_soft_label(self, prediction: Tensor, temperature: float) -> Tensor:
        """Return the prediction as a soft pseudo-label, detached; by default the hard one.

        Args:
            prediction: (N,C,H,W).
            temperature: divides logits; larger is softer.
        """
        return self.as_label(prediction)

    def transfer_loss(self, transferred: Tensor, label: Label) -> Tensor:
        """Return how far a transferred prediction is from a label or pseudo-label.

        Args:
            transferred: as a prediction.
            label: label or pseudo-label.
        """
        return self.loss(transferred, label)

    def disagreement(self, transferred: Tensor, prediction: Tensor) -> Tensor:
        """Return how far each pixel of a transferred prediction is from the task's own, (N,1,H,W).

        It is 0 where both are equal; by default the mean over channels of |p − q|. Tasks with
        vectors need none: no edge leads to them.

        Args:
            transferred: as a prediction.
            prediction: the task's own, (N,C,H,W), float.
        """
        return (transferred - prediction).abs().mean(1, keepdim=True)

    def pixel_error(self, prediction: Tensor, label: Label) -> Tensor:
        """Return how wrong each pixel is, (N,1,H,W); it counts where the label is valid.

        By default the mean over channels of |`as_label(prediction)` − label|.

        Args:
            prediction: (N,C,H,W), float.
            label: with a value of float maps; override for others.
        """
        return (self.as_label(prediction) - label.value).abs().mean(1, keepdim=True)

    def render(self, value: Tensor) -> Tensor:
        """Return pictures, (N,3,H,W) in [0,1]; all of one call share one scale.

        Args:
            value: label or pseudo-label values of maps.
        """
        low, high = value.amin(), value.amax()
        grey = (value.float() - low) / (high - low).clamp(min=1e-12)
        return grey.mean(1, keepdim=True).expand(-1, 3, -1, -1)

    def legend(self, value: Tensor, unit: str) -> str:
        """Return one line that explains the colours of `render(value)`.

        Args:
            value: what was rendered.
            unit: the unit of the label.
        """
        return f"{value.amin():.3g} to {value.amax():.3g} {unit}".rstrip()

    @property
    def input_channels(self) -> int:
        """Channels of what an edge reads; `as_input` run on a meta tensor."""
        return self.as_input(torch.empty(1, self.channels, 2, 2, device="meta")).shape[1]
