"""Semantic segmentation: one class per pixel."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import count, islice
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from mtlkit.contracts import Task
from mtlkit.hookspecs import hookimpl
from mtlkit.metrics import MeanIoU, MeanIoUPerImage, PixelAccuracy, PixelAccuracyPerImage
from mtlkit.nn import masked_mean
from mtlkit.structures import Label, MetricSpec
from mtlkit.transforms import ClassMap

from ._shared import divergence, precise

if TYPE_CHECKING:
    from mtlkit.recipe import Recipe

ABSENT = 1e-6  # probability of the classes that a label excludes: its logarithm must be finite

# cityscapesscripts, helpers/labels.py, by training id
CITYSCAPES = (
    (128, 64, 128), (244, 35, 232), (70, 70, 70), (102, 102, 156), (190, 153, 153),
    (153, 153, 153), (250, 170, 30), (220, 220, 0), (107, 142, 35), (152, 251, 152),
    (70, 130, 180), (220, 20, 60), (255, 0, 0), (0, 0, 142), (0, 0, 70),
    (0, 60, 100), (0, 80, 100), (0, 0, 230), (119, 11, 32),
)  # fmt: skip
# its categories flat, construction, object, nature, sky, human, vehicle: the colours of road,
# building, pole, vegetation, sky, person and car
CITYSCAPES_CATEGORIES = tuple(CITYSCAPES[i] for i in (0, 2, 5, 8, 10, 11, 13))
# SceneNet's 13 classes: bed, books, ceiling, chair, floor, furniture, objects, picture, sofa,
# table, tv, wall, window
NYU13 = (
    (0, 0, 255), (233, 89, 48), (0, 218, 0), (149, 0, 240), (222, 241, 24),
    (255, 206, 206), (0, 224, 229), (106, 136, 204), (117, 29, 41), (240, 35, 235),
    (0, 167, 156), (249, 139, 0), (225, 229, 194),
)  # fmt: skip


class Segmentation(Task):
    """A class per pixel, learned by cross-entropy over all valid pixels of the batch.

    Edges read log-probabilities. A label may also hold probabilities, (N,C,H,W), as soft
    pseudo-labels do.

    Source: XTasC-Net, arXiv 2111.14122, eq. 13; released code, XTaskLoss (module.py).
    """

    type: Literal["segmentation"] = "segmentation"
    classes: int = Field(ge=2, le=255, description="number of classes, void not counted")
    palette: Literal["auto", "cityscapes", "nyu13", "generated"] = Field(
        "auto", description="colours of pictures; auto: by the number of classes"
    )
    likelihood: ClassVar[Literal["gaussian", "laplace", "categorical"]] = "categorical"
    disagreement_unit: ClassVar[str] = "nats (KL)"
    error_unit: ClassVar[str] = "share wrong"

    @property
    def channels(self) -> int:
        """One logit per class."""
        return self.classes

    @property
    def loss_name(self) -> str:
        """What `explain` calls the loss."""
        return "cross_entropy"

    def loss(self, prediction: Tensor, label: Label) -> Tensor:
        """Return cross-entropy, averaged over all valid pixels of the batch.

        Args:
            prediction: logits, (N,C,H,W), float.
            label: ids, (N,H,W), int64; or probabilities, (N,C,H,W), float.
        """
        logits = prediction.to(torch.promote_types(prediction.dtype, torch.float32))
        value = label.value if label.value.ndim == 3 else label.value.to(logits.dtype)
        values = functional.cross_entropy(logits, value, reduction="none")
        return masked_mean(values, label, over="pixels")

    def metrics(self) -> dict[str, MetricSpec]:
        """Return mIoU and pixel accuracy, of the set and as means over images."""
        return {
            "miou": MetricSpec(MeanIoU(self.classes), "", True),
            "miou_image": MetricSpec(MeanIoUPerImage(self.classes), "", True),
            "pixel_accuracy": MetricSpec(PixelAccuracy(self.classes), "", True),
            "pixel_accuracy_image": MetricSpec(PixelAccuracyPerImage(self.classes), "", True),
        }

    def as_input(self, prediction: Tensor) -> Tensor:
        """Return log-probabilities.

        Args:
            prediction: logits, (N,C,H,W), float.
        """
        return functional.log_softmax(prediction, 1)

    def label_as_input(self, label: Label) -> Tensor:
        """Return the logarithm of the one-hot label, clamped to be finite.

        Args:
            label: ids, (N,H,W), int64; or probabilities, (N,C,H,W), float.
        """
        if label.value.ndim == 4:
            return label.value.clamp(min=ABSENT).log()
        ids = torch.arange(self.classes, device=label.value.device)
        return (label.value[:, None] == ids[:, None, None]).float().clamp(min=ABSENT).log()

    def as_label(self, prediction: Tensor) -> Tensor:
        """Return the likeliest class, (N,H,W), int64, detached.

        Args:
            prediction: logits, (N,C,H,W), float.
        """
        return prediction.detach().argmax(1)

    def as_soft_label(self, prediction: Tensor, temperature: float) -> Tensor:
        """Return probabilities, (N,C,H,W), float32, detached.

        Args:
            prediction: logits, (N,C,H,W), float.
            temperature: what the logits are divided by, > 0; above 1 is softer.
        """
        return (prediction.detach().float() / temperature).softmax(1)

    def disagreement(self, transferred: Tensor, prediction: Tensor) -> Tensor:
        """Return KL(softmax(prediction) ‖ softmax(transferred)), (N,1,H,W), summed over classes.

        Args:
            transferred: logits, (N,C,H,W), float.
            prediction: logits, (N,C,H,W), float.

        Source: XTasC-Net, released code (const_energy.py), which divides by the number of classes
            as well.
        """
        both = (precise(transferred).log_softmax(1), precise(prediction).log_softmax(1))
        return divergence(*both)

    def pixel_error(self, prediction: Tensor, label: Label) -> Tensor:
        """Return 1 where the likeliest class is wrong, else 0, (N,1,H,W), float32.

        Args:
            prediction: logits, (N,C,H,W), float.
            label: ids, (N,H,W), int64.
        """
        return (prediction.argmax(1, keepdim=True) != label.value[:, None]).float()

    def render(self, value: Tensor) -> Tensor:
        """Return the classes' colours, (N,3,H,W), in [0,1].

        Args:
            value: ids, (N,H,W), int64.
        """
        colours = torch.tensor(self._colours(), device=value.device) / 255
        return colours[value].permute(0, 3, 1, 2)

    def legend(self, value: Tensor, unit: str) -> str:
        """Return how many classes there are.

        Args:
            value: what was rendered.
            unit: ignored; classes have none.
        """
        return f"{self.classes} classes"

    def problems(self, recipe: Recipe) -> Iterable[str]:
        """Yield what keeps the label from being learned; a label not offered is the core's to tell.

        Args:
            recipe: the whole recipe.
        """
        name = self.reads[0]
        offered = recipe.offers.get(name)
        if offered is None:
            return
        if not issubclass(offered.kind, ClassMap):
            message = f"label {name!r} is a {offered.kind.__name__}, and segmentation learns class "
            yield message + "ids. Set `label` to a ClassMap of the data set"
        elif offered.classes and len(offered.classes) != self.classes:
            known = len(offered.classes)
            message = f"label {name!r} has {known} classes, not {self.classes}. "
            yield message + f"Write `classes: {known}`"

    def _colours(self) -> list[tuple[int, int, int]]:
        """Return a colour per class: those of the palette first, then generated ones."""
        few = CITYSCAPES_CATEGORIES if self.classes <= len(CITYSCAPES_CATEGORIES) else CITYSCAPES
        by_count = {7: CITYSCAPES_CATEGORIES, 19: CITYSCAPES, 13: NYU13}
        palettes = {"cityscapes": few, "nyu13": NYU13, "auto": by_count.get(self.classes, ())}
        chosen = palettes.get(self.palette, ())
        spare = (colour for colour in map(_generated, count()) if colour not in chosen)
        return [*chosen, *islice(spare, self.classes)][: self.classes]


def _generated(index: int) -> tuple[int, int, int]:
    """Return a colour unlike its neighbours': the bits of the id, spread from the highest down.

    Source: Pascal VOC development kit, VOClabelcolormap; shifted by one, as its first is black.
    """
    red, green, blue = 0, 0, 0
    rest = index + 1
    for bit in range(7, -1, -1):
        red |= (rest & 1) << bit
        green |= (rest >> 1 & 1) << bit
        blue |= (rest >> 2 & 1) << bit
        rest >>= 3
    return red, green, blue


@hookimpl
def mtlkit_tasks() -> list[type[Task]]:
    """Return the segmentation task."""
    return [Segmentation]
