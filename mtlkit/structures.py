"""The data that flows through a step: specs, labels, batches, outputs and losses.

Sizes: N images in a batch, C channels, H×W pixels of the input image.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
import torchmetrics
from torch import Tensor

from mtlkit.errors import PluginError

EdgeKey = tuple[str, ...]
"""(*hops, type), for example ("segmentation", "depth", "xtc")."""

LABEL_UNIT = "{label}"
"""As the unit of a metric: the unit of the label that it is measured on."""


@dataclass(frozen=True)
class FeatureSpec:
    """What an encoder returns: feature maps, finest first.

    Args:
        channels: channels of each map.
        strides: input size over map size, for each map; strides may repeat (ViT).
        divisor: H and W of the input must divide by it.
    """

    channels: tuple[int, ...]
    strides: tuple[int, ...]
    divisor: int


@dataclass(frozen=True)
class FieldSpec:
    """What a data set offers under one name: a label, or an extra such as the camera.

    Args:
        kind: the class of the sample's tensor, one of `mtlkit.transforms` for labels; `Tensor` for
            an extra that no transform changes.
        channels: channels of the map; 1 for class maps.
        classes: names of the classes, by id; empty for what has none.
        unit: the unit of the values, as shown beside metrics.
        shape: of an extra without a kind, which is float32.
    """

    kind: type[Tensor]
    channels: int = 1
    classes: tuple[str, ...] = ()
    unit: str = ""
    shape: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not (isinstance(self.kind, type) and issubclass(self.kind, Tensor)):
            raise PluginError(
                f"the kind of a FieldSpec is a class of tensors, got {self.kind!r}. Give one of "
                "mtlkit.transforms, such as ClassMap"
            )

    @property
    def is_label(self) -> bool:
        """Whether it can be learned; an extra cannot."""
        return hasattr(self.kind, "to_label")

    def blank(self, size: tuple[int, int]) -> Tensor | None:
        """Return what stands for it in a sample that lacks it; None where nothing can.

        Args:
            size: (H, W) of the samples.
        """
        make = getattr(self.kind, "blank", None)
        if make is not None:
            nothing: Tensor = make(self.channels, size)
            return nothing
        return torch.full(self.shape, torch.nan) if self.kind is Tensor else None


@dataclass(frozen=True)
class MetricSpec:
    """A metric with its unit and direction.

    Args:
        metric: updated with (prediction, Label); wrap a plain torchmetrics metric in
            `mtlkit.metrics.OnValid`.
        unit: "" for shares and ratios; `LABEL_UNIT` for the unit of the label.
        higher_is_better: the direction.
        repeats: whether it tells in another unit what another metric tells; Δm counts that once.
    """

    metric: torchmetrics.Metric
    unit: str
    higher_is_better: bool
    repeats: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.metric, torchmetrics.Metric):
            raise TypeError(
                f"a MetricSpec needs an object of a torchmetrics.Metric, got {self.metric!r}. Make "
                "one, and wrap it in mtlkit.metrics.OnValid"
            )


class Counts(NamedTuple):
    """Denominators of one task's losses in a step, each a scalar float tensor.

    They are means over the step's micro-batches and ranks, so that the mean of the losses over
    micro-batches and ranks is the loss of the whole step at once.
    """

    valid: Tensor  # valid elements
    images: Tensor  # images with any valid element
    total: Tensor  # elements, valid or not
    batch: Tensor  # images


@dataclass
class Label:
    """What a prediction is compared with: a label or a pseudo-label.

    Args:
        value: class maps (N,H,W) int64; other maps (N,C,H,W) float; vectors (N,) or (N,C).
            Finite and within its range also where it is not valid.
        valid: bool, (N,1,H,W) for maps, (N,) for vectors; True counts.
        counts: denominators of the whole step, set by the engine; None: this batch is all there is.
    """

    value: Tensor
    valid: Tensor
    counts: Counts | None = None


@dataclass
class Batch:
    """Some samples.

    Args:
        image: (N,3,H,W), RGB in [0,1]; the encoder normalises.
        labels: by label name; absent: no sample has a valid value.
        extras: camera (N,3,3), depth_at_one (N,), …: what is not a label; NaN where a sample
            lacks it.
        rows: data set name to its rows.
        counts: by task name, set by the engine for steps of several micro-batches or ranks.
        labelled: tasks with a label anywhere in the step, set with `counts`.
        indices: number of each sample in its split.
        skipped: why samples that cannot be read were left out or replaced.
    """

    image: Tensor
    labels: dict[str, Label] = field(default_factory=dict)
    extras: dict[str, Tensor] = field(default_factory=dict)
    rows: dict[str, slice] = field(default_factory=dict)
    counts: dict[str, Counts] = field(default_factory=dict)
    labelled: frozenset[str] = frozenset()
    indices: tuple[int, ...] = ()
    skipped: tuple[str, ...] = ()

    def pin_memory(self) -> Batch:
        """Return the batch in page-locked memory; called by the loader."""
        return replace(
            self,
            image=self.image.pin_memory(),
            labels={
                name: replace(x, value=x.value.pin_memory(), valid=x.valid.pin_memory())
                for name, x in self.labels.items()
            },
            extras={name: x.pin_memory() for name, x in self.extras.items()},
        )


@dataclass
class Supervised:
    """A side output and the weight of its loss (deep supervision by the task's own loss)."""

    prediction: Tensor
    weight: float


@dataclass
class Output:
    """What a model returns; every map at input size.

    Args:
        predictions: one final tensor per task.
        auxiliary: side outputs per task.
        final_weight: weight of the final map's loss beside the side outputs.
        features: `nn.cut` maps where trunk ends and heads begin; empty: no such cut.
        hidden: what each task's head reads; `nn.Decoder.predict` enlarges it to input size.
        transfers: edge key to transferred prediction; filled by the model.
    """

    predictions: dict[str, Tensor]
    auxiliary: dict[str, list[Supervised]] = field(default_factory=dict)
    final_weight: float = 1.0
    features: list[Tensor] = field(default_factory=list)
    hidden: dict[str, Tensor] = field(default_factory=dict)
    transfers: dict[EdgeKey, Tensor] = field(default_factory=dict)

    def detached(self) -> Output:
        """Return the same maps without the graph."""
        return replace(
            self,
            predictions={name: x.detach() for name, x in self.predictions.items()},
            auxiliary={
                name: [Supervised(side.prediction.detach(), side.weight) for side in sides]
                for name, sides in self.auxiliary.items()
            },
            features=[x.detach() for x in self.features],
            hidden={name: x.detach() for name, x in self.hidden.items()},
            transfers={key: x.detach() for key, x in self.transfers.items()},
        )


@dataclass
class Losses:
    """What an objective returns.

    Args:
        tasks: all N task losses, scalars, always on the graph.
        terms: every part before mixing, detached scalars by name, for `explain` and the log.
        own: sum of the losses that move own parameters only; None where there is none.
        present: tasks with a label or another term in this step.
        output: what the model returned.
        parts: the same as `terms`, on the graph, for gradients of one part alone.
    """

    tasks: dict[str, Tensor]
    terms: dict[str, Tensor]
    own: Tensor | None
    present: frozenset[str]
    output: Output
    parts: dict[str, Tensor] = field(default_factory=dict)

    def detached(self) -> Losses:
        """Return the same numbers without the graph."""
        own = None if self.own is None else self.own.detach()
        tasks = {name: loss.detach() for name, loss in self.tasks.items()}
        return replace(
            self, tasks=tasks, own=own, output=self.output.detached(), parts=dict(self.terms)
        )


def counts_of(valid: Tensor) -> Counts:
    """Return the denominators of one batch from its mask.

    Args:
        valid: bool, (N,1,H,W) or (N,).
    """
    per_image = valid.reshape(valid.shape[0], -1).sum(1)
    size = valid.new_ones((), dtype=torch.float32)
    return Counts(
        per_image.sum().float(),
        (per_image > 0).sum().float(),
        size * valid.numel(),
        size * valid.shape[0],
    )


def mean_counts(parts: list[Mapping[str, Counts]]) -> dict[str, Counts]:
    """Return the mean over micro-batches of each task's denominators."""
    return {
        name: Counts(
            *(torch.stack(same).mean() for same in zip(*(p[name] for p in parts), strict=True))
        )
        for name in parts[0]
    }
