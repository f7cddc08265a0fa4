"""Depth or disparity: one distance per pixel."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from mtlkit.contracts import Task
from mtlkit.hookspecs import hookimpl
from mtlkit.metrics import (
    AbsoluteError,
    Conversion,
    Delta,
    RelativeError,
    RootMeanSquareError,
    RootMeanSquareLogError,
    SquaredRelativeError,
)
from mtlkit.nn import masked_mean
from mtlkit.structures import LABEL_UNIT, Batch, Label, MetricSpec
from mtlkit.transforms import DepthMap, DisparityMap

if TYPE_CHECKING:
    from mtlkit.recipe import Recipe

BERHU_SHARE = 0.2  # of the largest error: Laina et al. 2016, eq. 2
SHOWN = (0.02, 0.98)  # quantiles at the ends of the colour scale, so that outliers do not rule it
MOST_SAMPLES = 1_000_000  # values that quantiles are taken of; torch.quantile takes 2^24 at most

# matplotlib's viridis at 0, 1/8, …, 1
VIRIDIS = (
    (68, 1, 84), (71, 45, 123), (59, 82, 139), (44, 114, 142), (33, 145, 140),
    (40, 174, 128), (94, 201, 98), (173, 220, 48), (253, 231, 37),
)  # fmt: skip


@dataclass
class DistanceLabel(Label):
    """Distances, and what makes metres of them.

    Args:
        depth_at_one: metres at which the label would be 1, (N,), float, so that a disparity d is
            at depth_at_one / d; NaN where the camera is not known. None: of no image.
    """

    depth_at_one: Tensor | None = None


@dataclass(frozen=True)
class Metres:
    """Turns disparities into metres, where the camera is known; nothing else is valid.

    Labels beyond the range are left out, predictions are clamped to it, so that a disparity of 0 or
    less, which is infinitely far or behind the camera, is at `farthest`.

    Args:
        nearest: m.
        farthest: m; both as Eigen, Puhrsch and Fergus 2014 are evaluated, and DenseMTL
            (arXiv 2206.08927).
    """

    nearest: float = 1e-3
    farthest: float = 80.0

    def __call__(self, prediction: Tensor, label: Label) -> tuple[Tensor, Label]:
        """Return metres, with a label that is valid within the range.

        Args:
            prediction: disparities, (N,1,H,W), float32.
            label: a `DistanceLabel` of disparities; others have nothing valid.
        """
        if not isinstance(label, DistanceLabel) or label.depth_at_one is None:
            return prediction, replace(label, valid=torch.zeros_like(label.valid))
        scale = label.depth_at_one.float().view(-1, 1, 1, 1)
        value = scale / label.value.float()
        inside = (value >= self.nearest) & (value <= self.farthest)  # never where it is NaN
        metres = scale / torch.maximum(prediction, scale / self.farthest)
        clamped = metres.clamp(self.nearest, self.farthest)
        value = torch.where(inside, value, self.farthest)
        return clamped, replace(label, value=value, valid=label.valid & inside)


class Depth(Task):
    """A distance per pixel (depth, disparity or inverse depth, in the label's unit); linear output.

    `loss` is the error of a pixel: `l1`, `mse`, `log_l1` = log(1 + |p − g|), `smooth_l1` (β = 1),
    or `berhu`, which is l1 up to c = 0.2 · the batch's largest error and quadratic above. Per-image
    means skip images without a valid pixel.

    Source: XTasC-Net, arXiv 2111.14122, eq. 15; released code, XTaskLoss (module.py), where an
    image without valid pixel gives NaN and an edge to depth is scored by l1 whatever the loss is.
    """

    type: Literal["depth"] = "depth"
    loss_kind: Literal["l1", "mse", "log_l1", "smooth_l1", "berhu"] = Field(
        "l1", alias="loss", description="the error of a pixel"
    )
    reduction: Literal["image", "pooled"] = Field(
        "image", description="mean of each image, then of images; or of all valid pixels at once"
    )
    likelihood: ClassVar[Literal["gaussian", "laplace", "categorical"]] = "laplace"

    @property
    def channels(self) -> int:
        """One distance."""
        return 1

    @property
    def loss_name(self) -> str:
        """What `explain` calls the loss."""
        return self.loss_kind

    def loss(self, prediction: Tensor, label: Label) -> Tensor:
        """Return the mean error of the valid pixels.

        Args:
            prediction: distances, (N,1,H,W), float; may be negative.
            label: distances, (N,1,H,W), float, in the same unit.
        """
        precise = prediction.to(torch.promote_types(prediction.dtype, torch.float32))
        values = self._errors(precise, label.value.to(precise.dtype), label.valid)
        return masked_mean(values, label, over="images" if self.reduction == "image" else "pixels")

    @property
    def uses(self) -> tuple[str, ...]:
        """What gives metres of disparities."""
        return ("depth_at_one",)

    def read(self, batch: Batch) -> Label | None:
        """Return the distances, a `DistanceLabel` where some are known in metres, or None.

        Args:
            batch: labels and extras by name.
        """
        label, scale = super().read(batch), batch.extras.get("depth_at_one")
        if label is None or scale is None:
            return label
        return DistanceLabel(label.value, label.valid, label.counts, scale)

    def metrics(self) -> dict[str, MetricSpec]:
        """Return errors and shares, over all valid pixels of the set whose label is above 0.

        Those named `_m` are in metres, within `Metres`' range, of images whose `depth_at_one` is
        known; where it is of none, they are NaN.
        """
        in_metres = _metrics("m", Metres())
        repeated = {f"{n}_m": replace(spec, repeats=True) for n, spec in in_metres.items()}
        return _metrics(LABEL_UNIT, None) | repeated

    def render(self, value: Tensor) -> Tensor:
        """Return pictures, (N,3,H,W), in [0,1]: brighter is larger; all of one call share a scale.

        Args:
            value: distances, (N,1,H,W), float.
        """
        low, high = _scale(value)
        share = ((value.float().nan_to_num() - low) / (high - low).clamp(min=1e-12)).clamp(0, 1)
        anchors = torch.tensor(VIRIDIS, device=value.device) / 255
        position = share[:, 0] * (len(VIRIDIS) - 1)
        below = position.long().clamp(max=len(VIRIDIS) - 2)
        colours = torch.lerp(anchors[below], anchors[below + 1], (position - below)[..., None])
        return colours.permute(0, 3, 1, 2)

    def legend(self, value: Tensor, unit: str) -> str:
        """Return the values at both ends of the colours.

        Args:
            value: what was rendered.
            unit: the unit of the label.
        """
        low, high = _scale(value)
        return f"{low:.3g} (dark) to {high:.3g} (bright) {unit}".rstrip()

    def problems(self, recipe: Recipe) -> Iterable[str]:
        """Yield what keeps the label from being learned; a label not offered is the core's to tell.

        Args:
            recipe: the whole recipe.
        """
        name = self.reads[0]
        offered = recipe.offers.get(name)
        if offered is not None and not issubclass(offered.kind, (DepthMap, DisparityMap)):
            message = f"label {name!r} is a {offered.kind.__name__}, and depth learns distances. "
            yield message + "Set `label` to a DepthMap or DisparityMap of the data set"
        if self.loss_kind == "berhu" and recipe.train.accumulate > 1:
            yield "berhu's threshold is one batch's. Write train.accumulate: 1, or another loss"

    def _errors(self, prediction: Tensor, value: Tensor, valid: Tensor) -> Tensor:
        """Return the error of each pixel, (N,1,H,W)."""
        error = (prediction - value).abs()
        match self.loss_kind:
            case "l1":
                return error
            case "mse":
                return error.square()
            case "log_l1":
                return error.log1p()
            case "smooth_l1":
                return functional.smooth_l1_loss(prediction, value, reduction="none")
            case "berhu":
                largest = torch.where(valid, error.detach(), 0.0).amax()
                c = (BERHU_SHARE * largest).clamp(min=1e-12)
                return torch.where(error <= c, error, (error.square() + c.square()) / (2 * c))


def _metrics(unit: str, conversion: Conversion | None) -> dict[str, MetricSpec]:
    """Return metrics that share one update."""
    return {
        "abs_err": MetricSpec(AbsoluteError(conversion), unit, False),
        "rel_err": MetricSpec(RelativeError(conversion), "", False),
        "sq_rel": MetricSpec(SquaredRelativeError(conversion), unit, False),
        "rmse": MetricSpec(RootMeanSquareError(conversion), unit, False),
        "log_rmse": MetricSpec(RootMeanSquareLogError(conversion), "", False),
        "delta1": MetricSpec(Delta(1, conversion), "", True),
        "delta2": MetricSpec(Delta(2, conversion), "", True),
        "delta3": MetricSpec(Delta(3, conversion), "", True),
    }


def _scale(value: Tensor) -> tuple[Tensor, Tensor]:
    """Return the smallest and largest value shown."""
    finite = value[value.isfinite()].float()
    if not len(finite):
        finite = finite.new_zeros(1)
    sample = finite[:: -(-len(finite) // MOST_SAMPLES)]
    low, high = torch.quantile(sample, sample.new_tensor(SHOWN)).unbind()
    return low, high


@hookimpl
def mtlkit_tasks() -> list[type[Task]]:
    """Return the depth task."""
    return [Depth]
