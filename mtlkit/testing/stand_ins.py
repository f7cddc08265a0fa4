"""Small tasks and an encoder for plugins that work with others; nothing offers them to recipes."""

from __future__ import annotations

import itertools
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchmetrics import MeanAbsoluteError

from mtlkit.contracts import Encoder, Task
from mtlkit.metrics import MeanIoU, OnValid
from mtlkit.nn import masked_mean
from mtlkit.structures import LABEL_UNIT, FeatureSpec, Label, MetricSpec, Output
from mtlkit.testing.inputs import prediction_of

ABSENT = 1e-6  # probability of what a label excludes
CLASSES = 5
WIDTHS = (6, 8, 10)


class ClassTask(Task):
    """A class per pixel."""

    type: Literal["stand_in_classes"] = "stand_in_classes"
    likelihood: ClassVar[Literal["gaussian", "laplace", "categorical"]] = "categorical"

    @property
    def channels(self) -> int:
        """One logit per class."""
        return CLASSES

    def loss(self, prediction: Tensor, label: Label) -> Tensor:
        """Return cross-entropy.

        Args:
            prediction: logits, (N,C,H,W), float.
            label: ids, (N,H,W), int64; or probabilities, (N,C,H,W), float.
        """
        values = functional.cross_entropy(prediction.float(), label.value, reduction="none")
        return masked_mean(values, label)

    def metrics(self) -> dict[str, MetricSpec]:
        """Return mIoU."""
        return {"miou": MetricSpec(MeanIoU(CLASSES), "", True)}

    def as_input(self, prediction: Tensor) -> Tensor:
        """Return log-probabilities.

        Args:
            prediction: logits, (N,C,H,W).
        """
        return prediction.log_softmax(1)

    def label_as_input(self, label: Label) -> Tensor:
        """Return the logarithm of the one-hot label, clamped to be finite.

        Args:
            label: ids, (N,H,W).
        """
        one_hot = functional.one_hot(label.value, CLASSES).movedim(-1, 1)
        return one_hot.float().clamp(min=ABSENT).log()

    def as_label(self, prediction: Tensor) -> Tensor:
        """Return the likeliest class, (N,H,W), int64.

        Args:
            prediction: logits, (N,C,H,W).
        """
        return prediction.detach().argmax(1)

    def as_soft_label(self, prediction: Tensor, temperature: float) -> Tensor:
        """Return probabilities, (N,C,H,W).

        Args:
            prediction: logits, (N,C,H,W).
            temperature: divides them.
        """
        return (prediction.detach().float() / temperature).softmax(1)

    def pixel_error(self, prediction: Tensor, label: Label) -> Tensor:
        """Return 1 where the likeliest class is wrong, else 0, (N,1,H,W).

        Args:
            prediction: logits, (N,C,H,W).
            label: ids, (N,H,W).
        """
        return (prediction.argmax(1, keepdim=True) != label.value[:, None]).float()

    def render(self, value: Tensor) -> Tensor:
        """Return shades of grey, (N,3,H,W).

        Args:
            value: ids, (N,H,W).
        """
        return super().render(value[:, None])


class ValueTask(Task):
    """A number per pixel."""

    type: Literal["stand_in_values"] = "stand_in_values"
    likelihood: ClassVar[Literal["gaussian", "laplace", "categorical"]] = "laplace"

    @property
    def channels(self) -> int:
        """One number."""
        return 1

    def loss(self, prediction: Tensor, label: Label) -> Tensor:
        """Return the mean error.

        Args:
            prediction: (N,1,H,W), float.
            label: (N,1,H,W), float.
        """
        return masked_mean((prediction.float() - label.value).abs(), label)

    def metrics(self) -> dict[str, MetricSpec]:
        """Return the mean error."""
        return {"abs_err": MetricSpec(OnValid(MeanAbsoluteError()), LABEL_UNIT, False)}


class Stages(nn.Module):
    """Stage i makes feature map i from map i − 1."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 3, 2, 1), nn.BatchNorm2d(b), nn.ReLU())
            for a, b in itertools.pairwise((3, *WIDTHS))
        )

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return the maps, finest first.

        Args:
            image: (N,3,H,W).
        """
        maps = list(itertools.accumulate(self.stages, lambda x, stage: stage(x), initial=image))
        return maps[1:]


class ConstantMap(nn.Module):
    """An architecture whose prediction is a bf16 parameter, as autocast makes it.

    Args:
        task: whose.
    """

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.task, self.map = task, nn.Parameter(prediction_of(task).bfloat16())

    def forward(self, image: Tensor) -> Output:
        """Return the prediction.

        Args:
            image: not used.
        """
        return Output({self.task.name: self.map})


class StagesEncoder(Encoder):
    """Strides 2, 4, 8."""

    type: Literal["stand_in_stages"] = "stand_in_stages"

    def build_encoder(self) -> tuple[nn.Module, FeatureSpec]:
        """Return the stages and their spec."""
        return Stages(), FeatureSpec(WIDTHS, (2, 4, 8), 8)


def reading(task: Task, label: Label) -> Task:
    """Return the task as one that reads this label, whatever it makes of a batch otherwise.

    Args:
        task: any.
        label: to read.
    """
    reader: type[Task] = type("Reader", (type(task),), {"read": lambda self, batch: label})
    return reader.model_validate(task.model_dump(by_alias=True))


def tasks_called(names: tuple[str, ...]) -> dict[str, Task]:
    """Return stand-in tasks by name, of classes and of values in turn.

    Args:
        names: any.
    """
    kinds = itertools.cycle((ClassTask, ValueTask))
    return {name: kind(name=name) for name, kind in zip(names, kinds, strict=False)}


def pair_of(source: str, target: str) -> list[tuple[Task, Task]]:
    """Return both ends of an edge: classes to values, values to classes, and values to values.

    Args:
        source: name of the first task.
        target: name of the second one.
    """
    pairs = ((ClassTask, ValueTask), (ValueTask, ClassTask), (ValueTask, ValueTask))
    return [(one(name=source), other(name=target)) for one, other in pairs]


def image_of(size: tuple[int, int], seed: int = 0, images: int = 2) -> Tensor:
    """Return images, (N,3,H,W), in [0,1].

    Args:
        size: (H, W).
        seed: equal seeds give equal images.
        images: N.
    """
    return torch.rand(images, 3, *size, generator=torch.Generator().manual_seed(seed))
