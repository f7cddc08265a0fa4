"""Edge detection: whether a pixel lies on a boundary."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import torch
from pydantic import BeforeValidator, Field
from torch import Tensor
from torch.nn import functional

from mtlkit.contracts import Task
from mtlkit.hookspecs import hookimpl
from mtlkit.metrics import BoundaryF, BoundaryPrecision, BoundaryRecall
from mtlkit.nn import masked_mean
from mtlkit.structures import Label, MetricSpec
from mtlkit.transforms import EdgeMap

from ._shared import ABSENT, divergence, kind_problems, precise

if TYPE_CHECKING:
    from mtlkit.recipe import Recipe

BOUNDARY, REST = (0.1, 0.25, 0.6), (0.93, 0.93, 0.9)  # RGB; black is kept for what has no label


def _weight(value: Any) -> Any:
    """Refuse what is no weight, in one sentence where a union would have two."""
    if value == "balanced" or (isinstance(value, float | int) and 0 < value < 1):
        return value
    raise ValueError(f"must be a number between 0 and 1, or balanced, got {value!r}")


PositiveWeight = Annotated[
    Annotated[float, Field(gt=0, lt=1)] | Literal["balanced"], BeforeValidator(_weight)
]


class Boundary(Task):
    """A logit per pixel, learned by weighted binary cross-entropy over all valid pixels.

    Boundaries are few, so that their pixels weigh `positive_weight` = w and all others 1 − w; the
    sum is divided by the number of valid pixels, not by that of the weights. With `balanced`, w is
    the share of non-boundary pixels among the valid ones of each image, as in HED, eq. 2: it does
    not depend on which images share a batch, and an image without a boundary has no loss. HED sums
    over pixels where this takes the mean.

    Edges read the logarithms of both probabilities, boundary first. A label may also hold
    probabilities, as soft pseudo-labels do.

    Source: HED, arXiv 1504.06375, eq. 2; the fixed 0.95 of ASTMT, arXiv 1904.08918, and of
    Vandenhende et al., arXiv 2004.13379, released code (loss_functions.py); DenseMTL, arXiv
    2206.08927, has the same weights on two classes.
    """

    type: Literal["boundary"] = "boundary"
    positive_weight: PositiveWeight = Field(
        0.95, description="weight of boundary pixels, others have 1 less it; balanced: by image"
    )
    likelihood: ClassVar[Literal["gaussian", "laplace", "categorical"]] = "categorical"
    disagreement_unit: ClassVar[str] = "nats (KL)"
    error_unit: ClassVar[str] = "probability"

    @property
    def channels(self) -> int:
        """One logit."""
        return 1

    @property
    def loss_name(self) -> str:
        """What `explain` calls the loss."""
        return "weighted_bce"

    def loss(self, prediction: Tensor, label: Label) -> Tensor:
        """Return weighted binary cross-entropy, averaged over all valid pixels of the batch.

        Args:
            prediction: logits, (N,1,H,W), float.
            label: 1 on a boundary, else 0, or probabilities, (N,1,H,W), float.
        """
        logits = precise(prediction)
        value = label.value.to(logits.dtype)
        share = self._positive_weight(value, label.valid)
        weight = value * share + (1 - value) * (1 - share)
        values = functional.binary_cross_entropy_with_logits(logits, value, reduction="none")
        return masked_mean(weight * values, label)

    def metrics(self) -> dict[str, MetricSpec]:
        """Return F, precision and recall at the threshold of the set with the largest F."""
        return {
            "f": MetricSpec(BoundaryF(), "", True),
            "precision": MetricSpec(BoundaryPrecision(), "", True),
            "recall": MetricSpec(BoundaryRecall(), "", True),
        }

    def as_input(self, prediction: Tensor) -> Tensor:
        """Return log-probabilities of boundary and of none, (N,2,H,W), at least float32.

        Args:
            prediction: logits, (N,1,H,W), float.
        """
        logits = precise(prediction)
        return functional.logsigmoid(torch.cat((logits, -logits), 1))

    def label_as_input(self, label: Label) -> Tensor:
        """Return the same of a label, (N,2,H,W), clamped to be finite.

        Args:
            label: 1 on a boundary, else 0, or probabilities, (N,1,H,W), float.
        """
        return torch.cat((label.value, 1 - label.value), 1).clamp(min=ABSENT).log()

    def as_label(self, prediction: Tensor) -> Tensor:
        """Return 1 where a boundary is at least as likely as none, else 0, (N,1,H,W), detached.

        Args:
            prediction: logits, (N,1,H,W), float.
        """
        return (prediction.detach() >= 0).float()

    def as_soft_label(self, prediction: Tensor, temperature: float) -> Tensor:
        """Return the probability of a boundary, (N,1,H,W), detached.

        Args:
            prediction: logits, (N,1,H,W), float.
            temperature: what the logits are divided by, > 0; above 1 is softer.
        """
        return (precise(prediction.detach()) / temperature).sigmoid()

    def disagreement(self, transferred: Tensor, prediction: Tensor) -> Tensor:
        """Return KL(σ(prediction) ‖ σ(transferred)) of boundary or none, (N,1,H,W).

        Args:
            transferred: logits, (N,1,H,W), float.
            prediction: logits, (N,1,H,W), float.
        """
        return divergence(self.as_input(transferred), self.as_input(prediction))

    def pixel_error(self, prediction: Tensor, label: Label) -> Tensor:
        """Return |σ(prediction) − label|, (N,1,H,W), in [0,1].

        Args:
            prediction: logits, (N,1,H,W), float.
            label: 1 on a boundary, else 0, or probabilities, (N,1,H,W), float.
        """
        return (precise(prediction).sigmoid() - label.value).abs()

    def render(self, value: Tensor) -> Tensor:
        """Return dark lines on light ground, (N,3,H,W), in [0,1].

        Args:
            value: 1 on a boundary, else 0, or probabilities, (N,1,H,W), float.
        """
        share = value.float().clamp(0, 1)
        rest, boundary = (
            torch.tensor(colour, device=value.device)[:, None, None] for colour in (REST, BOUNDARY)
        )
        return torch.lerp(rest, boundary, share)

    def legend(self, value: Tensor, unit: str) -> str:
        """Return what the colours mean.

        Args:
            value: not used.
            unit: not used; boundaries have none.
        """
        return "dark: boundary"

    def problems(self, recipe: Recipe) -> Iterable[str]:
        """Yield what keeps the label from being learned.

        Args:
            recipe: the whole recipe.
        """
        return kind_problems(self, recipe, EdgeMap, "boundaries")

    def _positive_weight(self, value: Tensor, valid: Tensor) -> Tensor | float:
        """Return the weight of boundary pixels: one, or that of each image, (N,1,1,1)."""
        if self.positive_weight != "balanced":
            return self.positive_weight
        rest = torch.where(valid, 1 - value, 0.0).sum((1, 2, 3), keepdim=True)
        return rest / valid.sum((1, 2, 3), keepdim=True).clamp(min=1)


@hookimpl
def mtlkit_tasks() -> list[type[Task]]:
    """Return the boundary task."""
    return [Boundary]
